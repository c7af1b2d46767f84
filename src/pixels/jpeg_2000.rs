//! JPEG 2000 and High-Throughput JPEG 2000 (ISO/IEC 15444-1 and -15), by OpenJPEG in its translation to Rust.

use jpeg2k::{DecodeParameters, Image};

use super::{PixelError, Planes, Samples};

/// SIZ follows SOC in every code stream. Source: ISO/IEC 15444-1 A.5.1.
const SOC_AND_SIZ: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];

pub fn decode(data: &[u8], samples_max: usize) -> Result<Samples, PixelError> {
    // Before anything is allocated for it.
    let begin = data.windows(4).position(|four| four == SOC_AND_SIZ);
    let begin = begin.ok_or(PixelError::Damaged("it has no code stream"))?;
    let number = |at: usize| -> u64 {
        let four = data.get(begin + at..begin + at + 4).unwrap_or(&[0; 4]);
        four.iter()
            .fold(0, |all, &byte| (all << 8) | u64::from(byte))
    };
    // Xsiz, Ysiz less XOsiz, YOsiz; Csiz.
    let (width, height) = (
        number(8).saturating_sub(number(16)),
        number(12).saturating_sub(number(20)),
    );
    let count = data
        .get(begin + 40..begin + 42)
        .map_or(0, |two| u64::from(two[0]) << 8 | u64::from(two[1]));
    let size = width.saturating_mul(height).saturating_mul(count);
    if size == 0 || size > samples_max as u64 {
        return Err(PixelError::Size);
    }
    // A code stream that was cut must not become an image.
    let parameters = DecodeParameters::new().strict(true);
    let image = Image::from_bytes_with(data, parameters)
        .map_err(|_| PixelError::Damaged("the code stream cannot be decoded"))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let components = image.components();
    let Some(first) = components.first() else {
        return Err(PixelError::Damaged("it has no component"));
    };
    let alike = components.iter().all(|component| {
        component.data().len() == width * height && component.precision() == first.precision()
    });
    if !alike {
        return Err(PixelError::Unsupported(
            "JPEG 2000 with components of different size",
        ));
    }
    Ok(Samples {
        width,
        height,
        precision: first.precision(),
        planes: Planes::Wide(
            components
                .iter()
                .map(|component| component.data().to_vec())
                .collect(),
        ),
        is_rgb: has_component_transform(&data[begin..]),
    })
}

/// Whether red, green and blue were transformed for compression, and came out as such again: SGcod of COD.
/// Source: ISO/IEC 15444-1 A.6.1.
fn has_component_transform(stream: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = stream.get(at..at + 4) {
        match marker {
            0x52 => return stream.get(at + 8) == Some(&1),
            // The first tile.
            0x90 => return false,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}
