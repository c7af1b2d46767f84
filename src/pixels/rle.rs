//! RLE Lossless (PS3.5 Annex G): a segment for each byte of each sample, the most significant first.

use super::{PixelError, Shape};

/// Offsets in front of the segments. Source: PS3.5 G.5.
const HEADER_BYTES: usize = 64;
const SEGMENTS_MAX: usize = 15;

/// The native frame, samples of a pixel side by side.
pub fn decode(data: &[u8], shape: &Shape) -> Result<Vec<u8>, PixelError> {
    let broken = PixelError::Damaged;
    let header = data
        .get(..HEADER_BYTES)
        .ok_or(broken("its header is cut short"))?;
    let number = |at: usize| {
        let four = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(four) as usize
    };
    let samples = usize::from(shape.samples_per_pixel);
    let bytes = usize::from(shape.bits_allocated).div_ceil(8);
    let count = number(0);
    if count != samples * bytes || count > SEGMENTS_MAX {
        return Err(broken("it has another number of segments than samples"));
    }
    let pixels = match shape.bits_allocated {
        1 => shape.pixels().div_ceil(8),
        _ => shape.pixels(),
    };
    let mut frame = vec![0; pixels * count];
    for segment in 0..count {
        let begin = number(4 + 4 * segment);
        let end = match segment + 1 < count {
            true => number(8 + 4 * segment),
            false => data.len(),
        };
        let input = data
            .get(begin..end)
            .ok_or(broken("its segments are not where it says"))?;
        // Byte 0 of a sample in the file is the least significant.
        let at = segment / bytes * bytes + bytes - 1 - segment % bytes;
        unpack(input, &mut frame, at, count)?;
    }
    Ok(frame)
}

/// PackBits. Source: PS3.5 G.3.
fn unpack(input: &[u8], frame: &mut [u8], first: usize, step: usize) -> Result<(), PixelError> {
    let mut places = frame.iter_mut().skip(first).step_by(step);
    let mut left = places.len();
    let mut at = 0;
    while left > 0 {
        let cut = PixelError::Damaged("a segment is cut short");
        let Some(&code) = input.get(at) else {
            return Err(cut);
        };
        at += 1;
        match code {
            0..=127 => {
                let count = usize::from(code) + 1;
                let bytes = input.get(at..at + count).ok_or(cut)?;
                at += count;
                for (byte, place) in bytes.iter().zip(places.by_ref().take(count)) {
                    *place = *byte;
                }
                left = left.saturating_sub(count);
            }
            128 => {}
            129..=255 => {
                let count = 257 - usize::from(code);
                let &byte = input.get(at).ok_or(cut)?;
                at += 1;
                places.by_ref().take(count).for_each(|place| *place = byte);
                left = left.saturating_sub(count);
            }
        }
    }
    Ok(())
}
