//! A small picture of an instance: the frame in the middle, for a person to know it by; not for reading.

use std::borrow::Cow;

use super::data_set::shape_of;
use super::shades::{Palette, Shades, rgb_of_ybr};
use super::{Method, PixelError, Shape, decode};
use crate::dicom::convert::Converter;
use crate::dicom::fragments::Fragments;
use crate::dicom::{Attributes, Encoding, Tag, Wanted, encoding_of, scan, tags, ts};

/// Samples of one frame at most: what is larger takes longer than a person waits.
const SAMPLES_MAX: usize = 1 << 27;
/// Longest data set that a deflated one may become, bytes.
const CONVERTED_BYTES_MAX: usize = 512 << 20;
/// Fed at a time: it may inflate a thousandfold before it is looked at, bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Of the pixels that become one, so many are looked at in each direction.
const LOOKED_AT: usize = 8;

/// A PNG of at most `edge` pixels in width and height.
pub fn thumbnail(
    data_set: &[u8],
    transfer_syntax: &str,
    edge: usize,
) -> Result<Vec<u8>, PixelError> {
    let as_it_is = matches!(
        encoding_of(transfer_syntax),
        Encoding::ExplicitLittle | Encoding::ImplicitLittle
    ) && transfer_syntax != ts::GE_PRIVATE_IMPLICIT;
    if as_it_is {
        return of_little_endian(data_set, transfer_syntax, edge);
    }
    let wrong = |error: &dyn std::fmt::Display| PixelError::DataSet(error.to_string());
    let mut converter = Converter::new(transfer_syntax, true);
    let mut converted = Vec::new();
    for piece in data_set.chunks(PIECE_BYTES) {
        converter
            .feed(piece, &mut converted)
            .map_err(|error| wrong(&error))?;
        if converted.len() > CONVERTED_BYTES_MAX {
            return Err(PixelError::TooLarge);
        }
    }
    converter
        .finish(&mut converted)
        .map_err(|error| wrong(&error))?;
    of_little_endian(&converted, ts::EXPLICIT_VR_LITTLE_ENDIAN, edge)
}

fn of_little_endian(
    data_set: &[u8],
    transfer_syntax: &str,
    edge: usize,
) -> Result<Vec<u8>, PixelError> {
    let wrong = |error: &dyn std::fmt::Display| PixelError::DataSet(error.to_string());
    let attributes = scan(data_set, transfer_syntax, Wanted::All).map_err(|error| wrong(&error))?;
    let found = Fragments::of(data_set, transfer_syntax).map_err(|error| wrong(&error))?;
    if found.native.is_none() && found.fragments.is_empty() {
        return Err(PixelError::NoImage);
    }
    let shape = shape_of(&attributes)?;
    if shape.samples() > SAMPLES_MAX {
        return Err(PixelError::TooLarge);
    }
    let frame = match &found.native {
        Some(range) => native(&data_set[range.clone()], &attributes, shape)?,
        None => compressed(data_set, transfer_syntax, &attributes, &found, shape)?,
    };
    png_of(&frame.scaled(&attributes, edge.max(1)))
}

fn number(attributes: &Attributes, tag: Tag) -> Option<u16> {
    let raw = attributes.raw(tag)?;
    Some(u16::from_le_bytes([*raw.first()?, *raw.get(1)?]))
}

fn frames_count(attributes: &Attributes) -> usize {
    let text = attributes.text(tags::NUMBER_OF_FRAMES);
    let count = text.and_then(|text| text.trim().parse().ok());
    count.unwrap_or(1).max(1)
}

fn native<'a>(
    pixels: &'a [u8],
    attributes: &Attributes,
    shape: Shape,
) -> Result<Frame<'a>, PixelError> {
    let count = frames_count(attributes);
    let is_color = shape.samples_per_pixel == 3 && shape.bits_allocated == 8;
    // Two pixels share their colour; some say so and write it for each.
    let halved = is_color
        && shape.photometric_interpretation == "YBR_FULL_422"
        && pixels.len() < shape.frame_bytes().saturating_mul(count);
    let bits = match halved {
        true => shape.pixels().div_ceil(2) * 4 * 8,
        false => shape.samples() * usize::from(shape.bits_allocated),
    };
    // Frames of single bits follow one another within a byte (PS3.5 8.1.1).
    let whole = pixels.len().saturating_mul(8) / bits;
    if whole == 0 {
        return Err(PixelError::Size);
    }
    let first_bit = count.min(whole) / 2 * bits;
    let end = (first_bit + bits).div_ceil(8);
    let planar = number(attributes, tags::PLANAR_CONFIGURATION) == Some(1);
    Ok(Frame {
        bytes: Cow::Borrowed(&pixels[first_bit / 8..end]),
        first_bit: first_bit % 8,
        order: match (halved, planar) {
            (true, _) => Order::Halved,
            (false, true) => Order::Planes,
            (false, false) => Order::Pixels,
        },
        is_rgb: false,
        bits: Bits::of(attributes, &shape),
        shape,
    })
}

fn compressed<'a>(
    data_set: &[u8],
    transfer_syntax: &str,
    attributes: &Attributes,
    found: &Fragments,
    shape: Shape,
) -> Result<Frame<'a>, PixelError> {
    let method = Method::of(transfer_syntax)
        .ok_or(PixelError::Unsupported("an image of this transfer syntax"))?;
    let count = frames_count(attributes);
    if count > found.fragments.len() {
        return Err(PixelError::Size);
    }
    let extended = attributes.raw(tags::EXTENDED_OFFSET_TABLE);
    let begins = |fragment: &[u8]| method.begins(fragment);
    let frames = found.of_frames(data_set, count, extended.unwrap_or_default(), &begins);
    let frames = frames.ok_or(PixelError::Damaged("which frame is where is not certain"))?;
    let parts = frames.get(count / 2).copied().unwrap_or_default();
    let (bytes, is_rgb) = match parts {
        [only] => decode(method, &shape, &data_set[only.clone()])?,
        several => {
            let parts = several.iter().map(|part| &data_set[part.clone()]);
            let whole: Vec<u8> = parts.flatten().copied().collect();
            decode(method, &shape, &whole)?
        }
    };
    let as_stored = matches!(method, Method::Plain | Method::Deflated);
    let planar = as_stored && number(attributes, tags::PLANAR_CONFIGURATION) == Some(1);
    Ok(Frame {
        bytes: Cow::Owned(bytes),
        first_bit: 0,
        order: if planar { Order::Planes } else { Order::Pixels },
        is_rgb,
        bits: match as_stored || method == Method::Rle {
            true => Bits::of(attributes, &shape),
            // The codec has put each sample where it belongs.
            false => Bits {
                shift: 0,
                count: u32::from(shape.bits_allocated),
                bright: bits_stored(attributes, &shape),
            },
        },
        shape,
    })
}

fn bits_stored(attributes: &Attributes, shape: &Shape) -> u32 {
    let stored = number(attributes, tags::BITS_STORED).unwrap_or(0);
    match (1..=shape.bits_allocated).contains(&stored) {
        true => u32::from(stored),
        false => u32::from(shape.bits_allocated),
    }
}

/// Where in its bytes a sample is (PS3.5 8.1.1).
#[derive(Clone, Copy)]
struct Bits {
    shift: u32,
    count: u32,
    /// Of the brightest colour.
    bright: u32,
}

impl Bits {
    fn of(attributes: &Attributes, shape: &Shape) -> Bits {
        let stored = bits_stored(attributes, shape);
        let high = number(attributes, tags::HIGH_BIT).map_or(stored - 1, u32::from);
        let fits = high + 1 >= stored && high < u32::from(shape.bits_allocated);
        Bits {
            shift: if fits { high + 1 - stored } else { 0 },
            count: stored,
            bright: stored,
        }
    }
}

/// How the samples of a frame follow one another.
#[derive(Clone, Copy)]
enum Order {
    Pixels,
    Planes,
    /// Y, Y, Cb, Cr of two pixels.
    Halved,
}

/// One frame without compression.
struct Frame<'a> {
    bytes: Cow<'a, [u8]>,
    first_bit: usize,
    order: Order,
    is_rgb: bool,
    bits: Bits,
    shape: Shape,
}

/// Shades of grey, or red, green and blue.
struct Picture {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Frame<'_> {
    fn sample(&self, pixel: usize, component: usize) -> i64 {
        let place = match self.order {
            Order::Pixels => pixel * usize::from(self.shape.samples_per_pixel) + component,
            Order::Planes => component * self.shape.pixels() + pixel,
            Order::Halved if component == 0 => pixel / 2 * 4 + pixel % 2,
            Order::Halved => pixel / 2 * 4 + 1 + component,
        };
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0);
        if self.shape.bits_allocated == 1 {
            let bit = self.first_bit + place;
            return i64::from(byte(bit / 8) >> (bit % 8) & 1);
        }
        let size = usize::from(self.shape.bits_allocated / 8);
        let whole = (0..size).fold(0, |all, at| {
            all | u64::from(byte(place * size + at)) << (8 * at)
        });
        let unused = 64 - self.bits.count;
        let moved = (whole >> self.bits.shift) << unused;
        match self.shape.signed {
            true => moved as i64 >> unused,
            false => (moved >> unused) as i64,
        }
    }

    fn color(&self, pixel: usize) -> [u8; 3] {
        let samples = [0, 1, 2].map(|component| {
            let value = self.sample(pixel, component).max(0);
            let narrow = value >> self.bits.bright.saturating_sub(8);
            narrow.min(255) as u8
        });
        let is_ybr = !self.is_rgb && {
            let said = self.shape.photometric_interpretation.as_str();
            said.starts_with("YBR") && !matches!(said, "YBR_ICT" | "YBR_RCT")
        };
        if is_ybr { rgb_of_ybr(samples) } else { samples }
    }

    fn scaled(&self, attributes: &Attributes, edge: usize) -> Picture {
        let (columns, rows) = (
            usize::from(self.shape.columns),
            usize::from(self.shape.rows),
        );
        let longest = columns.max(rows).max(edge);
        let (width, height) = (
            (columns * edge / longest).max(1),
            (rows * edge / longest).max(1),
        );
        let (width, height) = match longest > edge {
            true => (width, height),
            false => (columns, rows),
        };
        // The pixels that become one.
        let below = |x: usize, y: usize| {
            let (left, right) = (x * columns / width, (x + 1) * columns / width);
            let (top, bottom) = (y * rows / height, (y + 1) * rows / height);
            let (across, down) = (
                (right - left).div_ceil(LOOKED_AT).max(1),
                (bottom - top).div_ceil(LOOKED_AT).max(1),
            );
            let lines = (top..bottom).step_by(down);
            lines.flat_map(move |line| {
                let line = line * columns;
                (left..right).step_by(across).map(move |at| line + at)
            })
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let palette = (self.shape.photometric_interpretation == "PALETTE COLOR")
            .then(|| Palette::of(attributes, self.shape.signed))
            .flatten();
        let bytes = match (&palette, self.shape.samples_per_pixel) {
            (None, 1 | 2) => {
                let shades = Shades::of(attributes, &self.shape);
                let values: Vec<f32> = places
                    .map(|(x, y)| self.mean(&shades, below(x, y)))
                    .collect();
                shades.grey(&values)
            }
            _ => {
                let color = |pixel| match &palette {
                    Some(palette) => palette.color(self.sample(pixel, 0)),
                    None => self.color(pixel),
                };
                places
                    .flat_map(|(x, y)| mean_color(below(x, y).map(color)))
                    .collect()
            }
        };
        Picture {
            width,
            height,
            bytes,
        }
    }

    /// NaN where all is padding.
    fn mean(&self, shades: &Shades, pixels: impl Iterator<Item = usize>) -> f32 {
        let (mut sum, mut count) = (0.0, 0.0);
        for pixel in pixels {
            let value = self.sample(pixel, 0);
            if shades.padding != Some(value) {
                sum += value as f32 * shades.slope + shades.intercept;
                count += 1.0;
            }
        }
        sum / count
    }
}

fn mean_color(colors: impl Iterator<Item = [u8; 3]>) -> [u8; 3] {
    let (mut sums, mut count) = ([0_u32; 3], 0);
    for color in colors {
        for (sum, value) in sums.iter_mut().zip(color) {
            *sum += u32::from(value);
        }
        count += 1;
    }
    sums.map(|sum| (sum / count.max(1)) as u8)
}

fn png_of(picture: &Picture) -> Result<Vec<u8>, PixelError> {
    // Neither is longer than an edge.
    let (width, height) = (picture.width as u32, picture.height as u32);
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(match picture.bytes.len() > picture.width * picture.height {
        true => png::ColorType::Rgb,
        false => png::ColorType::Grayscale,
    });
    let written = encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&picture.bytes));
    written.map_err(|error| PixelError::DataSet(error.to_string()))?;
    Ok(out)
}
