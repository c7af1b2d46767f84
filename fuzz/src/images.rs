//! Compressed images, as the worker gets them: in a data set that says how large they are.

use kura::dicom::elements::put;
use kura::dicom::{Tag, VR, Wanted, scan, tags, ts};
use kura::pixels::{PixelError, Plain, thumbnail as picture};

use super::input::{Input, pieces};

const ITEM: Tag = Tag(0xFFFE, 0xE000);

/// Rows and columns are at most so many: what takes long because it is large is no find.
const EDGE_MAX: u16 = 512;

const BITS: &[u16] = &[8, 16, 8, 16, 1, 32, 24, 12];
const SAMPLES: &[u16] = &[1, 3, 1, 3, 2, 4, 0, 5];
const COLORS: &[&str] = &["MONOCHROME2", "YBR_FULL_422", "RGB", "PALETTE COLOR"];

/// The bytes in front of the compressed ones: what [`data_set`] makes such a data set of.
pub fn choices(rows: u16, columns: u16, samples: u16, bits: u16, color: &str) -> Option<[u8; 8]> {
    let at = |found: Option<usize>| u8::try_from(found?).ok();
    if rows == 0 || columns == 0 || rows > EDGE_MAX || columns > EDGE_MAX {
        return None;
    }
    let [r0, r1] = (rows - 1).to_le_bytes();
    let [c0, c1] = (columns - 1).to_le_bytes();
    let bits = at(BITS.iter().position(|one| *one == bits))?;
    let samples = at(SAMPLES.iter().position(|one| *one == samples))?;
    let color = at(COLORS.iter().position(|one| color.starts_with(one))).unwrap_or(0);
    Some([r0, r1, c0, c1, bits | samples << 3, color, 0, 0])
}

/// Explicit VR little endian, with encapsulated pixel data.
fn data_set(input: &mut Input) -> Vec<u8> {
    let rows = 1 + input.word() % EDGE_MAX;
    let columns = 1 + input.word() % EDGE_MAX;
    let shape = input.byte();
    let color = input.byte();
    let frames = u16::from(input.byte() % 4) + 1;
    let cuts = u16::from(input.byte());
    let bits = BITS[usize::from(shape & 7)];
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, tag, value: u16| {
        put(out, true, tag, VR::US, &value.to_le_bytes());
    };
    number(
        &mut out,
        tags::SAMPLES_PER_PIXEL,
        SAMPLES[usize::from(shape >> 3 & 7)],
    );
    let photometric = COLORS[usize::from(color & 3)].as_bytes();
    put(
        &mut out,
        true,
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        photometric,
    );
    number(
        &mut out,
        tags::PLANAR_CONFIGURATION,
        u16::from(color >> 2 & 1),
    );
    if frames > 1 {
        let frames = frames.to_string();
        put(
            &mut out,
            true,
            tags::NUMBER_OF_FRAMES,
            VR::IS,
            frames.as_bytes(),
        );
    }
    number(&mut out, tags::ROWS, rows);
    number(&mut out, tags::COLUMNS, columns);
    number(&mut out, tags::BITS_ALLOCATED, bits);
    let stored = bits.saturating_sub(u16::from(color >> 4));
    number(&mut out, tags::BITS_STORED, stored);
    number(&mut out, tags::HIGH_BIT, stored.saturating_sub(1));
    number(
        &mut out,
        tags::PIXEL_REPRESENTATION,
        u16::from(color >> 3 & 1),
    );
    out.extend([
        0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF,
    ]);
    put(&mut out, true, ITEM, VR::UN, &[]);
    let compressed = input.rest();
    match cuts {
        0 => put(&mut out, true, ITEM, VR::UN, compressed),
        _ => pieces(compressed, cuts)
            .into_iter()
            .for_each(|piece| put(&mut out, true, ITEM, VR::UN, piece)),
    }
    out.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    out
}

/// Decoded or refused; what is decoded is a data set of the length that was told.
fn decoded(data: &[u8], syntax: &str) {
    let mut input = Input::new(data);
    let data_set = data_set(&mut input);
    let plain = Plain::of(&data_set, syntax, true, &mut || Ok(()));
    match plain {
        Ok(plain) => {
            let length = plain.length();
            let mut written = Vec::new();
            let result = plain.write(&mut |bytes| {
                written.extend_from_slice(bytes);
                Ok(())
            });
            result.expect("room in memory");
            assert_eq!(written.len() as u64, length);
            let after = scan(&written, ts::EXPLICIT_VR_LITTLE_ENDIAN, Wanted::All);
            after.expect("a data set");
        }
        Err(PixelError::DataSet(reason)) => assert!(!reason.is_empty()),
        Err(_) => {}
    }
}

const JPEG: &[&str] = &[ts::JPEG_BASELINE, ts::JPEG_LOSSLESS_SV1];

pub fn jpeg(data: &[u8]) {
    decoded(data, JPEG[data.len() & 1]);
}

pub fn jpeg_ls(data: &[u8]) {
    decoded(data, ts::JPEG_LS_LOSSLESS);
}

pub fn jpeg_2000(data: &[u8]) {
    decoded(data, ts::JPEG_2000_LOSSLESS);
}

pub fn rle(data: &[u8]) {
    decoded(data, ts::RLE_LOSSLESS);
}

/// A picture of any data set, compressed or not; and of one that is at least an image.
pub fn thumbnail(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let edge = usize::from(input.byte());
    let syntax = match kind >> 1 & 7 {
        0 => ts::EXPLICIT_VR_LITTLE_ENDIAN,
        1 => ts::IMPLICIT_VR_LITTLE_ENDIAN,
        2 => ts::EXPLICIT_VR_BIG_ENDIAN,
        3 => ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        4 => ts::RLE_LOSSLESS,
        5 => ts::JPEG_BASELINE,
        6 => ts::JPEG_LS_LOSSLESS,
        _ => ts::ENCAPSULATED_UNCOMPRESSED,
    };
    let made = match kind & 1 {
        0 => picture(input.rest(), syntax, edge),
        _ => picture(&data_set(&mut input), syntax, edge),
    };
    if let Ok(png) = made {
        assert!(png.starts_with(b"\x89PNG"));
    }
}
