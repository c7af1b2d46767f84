//! A data set with compressed pixel data, without the compression.

use std::io;
use std::ops::Range;

use super::{Method, PixelError, Shape, decode};
use crate::dicom::convert::{Converter, Replacing};
use crate::dicom::fragments::Fragments;
use crate::dicom::{Attributes, Tag, VR, Wanted, scan, tags};

/// Longest native pixel data, bytes: an even length that is not "undefined".
const PIXELS_LENGTH_MAX: u64 = 0xFFFF_FFFE;

/// Decoded frames up to so many bytes are kept until they are written; of more each is decoded twice, so that nothing
/// is written of what turns out damaged at its end.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// A data set that is ready to be written without compression.
pub struct Plain<'a> {
    data_set: &'a [u8],
    /// What comes in front of the pixel data, and behind.
    head: Vec<u8>,
    tail: Vec<u8>,
    frames: Vec<Vec<Range<usize>>>,
    method: Option<Method>,
    shape: Shape,
    kept: Vec<Vec<u8>>,
    pixels_length: u64,
}

impl<'a> Plain<'a> {
    /// Decodes everything once. `frame_done` is called after each frame; its error ends the work.
    pub fn of(
        data_set: &'a [u8],
        transfer_syntax: &str,
        explicit: bool,
        frame_done: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Plain<'a>, PixelError> {
        let method = Method::of(transfer_syntax)
            .ok_or(PixelError::Unsupported("an image of this transfer syntax"))?;
        let wrong = |error: &dyn std::fmt::Display| PixelError::DataSet(error.to_string());
        let attributes =
            scan(data_set, transfer_syntax, Wanted::All).map_err(|error| wrong(&error))?;
        let found = Fragments::of(data_set, transfer_syntax).map_err(|error| wrong(&error))?;
        let mut plain = Plain {
            data_set,
            head: Vec::new(),
            tail: Vec::new(),
            frames: Vec::new(),
            method: None,
            shape: Shape::default(),
            kept: Vec::new(),
            pixels_length: 0,
        };
        let mut replacing = Replacing {
            // What is left out are icons that are compressed too.
            without: found.nested.clone(),
            ..Replacing::default()
        };
        let may_go = |tag: &Tag| *tag == tags::ICON_IMAGE_SEQUENCE || tag.group() % 2 == 1;
        if !found.nested.iter().all(may_go) {
            return Err(PixelError::Unsupported(
                "an image with compressed images in its sequences",
            ));
        }
        if found.native.is_some() {
            return Err(PixelError::Damaged("it is not compressed at all"));
        }
        if !found.fragments.is_empty() {
            plain.method = Some(method);
            plain.shape = shape_of(&attributes)?;
            plain.frames(&found, &attributes, method)?;
            let is_rgb = plain.decode_all(method, frame_done)?;
            replacing.without.extend([
                tags::EXTENDED_OFFSET_TABLE,
                tags::EXTENDED_OFFSET_TABLE_LENGTHS,
                tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
            ]);
            plain.describe(&mut replacing, method, is_rgb);
        }
        let mut converter = Converter::replacing(transfer_syntax, explicit, replacing);
        let mut written = Vec::new();
        let result = converter.feed(data_set, &mut written);
        let at = result
            .and_then(|()| converter.finish(&mut written))
            .map_err(|error| wrong(&error))?;
        let at = at.and_then(|at| usize::try_from(at).ok());
        plain.tail = written.split_off(at.unwrap_or(written.len()).min(written.len()));
        plain.head = written;
        Ok(plain)
    }

    fn frames(
        &mut self,
        found: &Fragments,
        attributes: &Attributes,
        method: Method,
    ) -> Result<(), PixelError> {
        let frames_count = match attributes.text(tags::NUMBER_OF_FRAMES) {
            Some(text) => text.trim().parse::<usize>().unwrap_or(0),
            None => 1,
        };
        // Each has a fragment at least.
        if frames_count == 0 || frames_count > found.fragments.len() {
            return Err(PixelError::DataSet(
                "it has another number of frames than it says".to_owned(),
            ));
        }
        let bits = self.shape.samples();
        if self.shape.bits_allocated == 1 && frames_count > 1 && !bits.is_multiple_of(8) {
            return Err(PixelError::Unsupported(
                "several frames of single bits that end within a byte",
            ));
        }
        let length = (self.shape.frame_bytes() as u64).saturating_mul(frames_count as u64);
        self.pixels_length = length + length % 2;
        if self.pixels_length > PIXELS_LENGTH_MAX {
            return Err(PixelError::TooLarge);
        }
        let extended = attributes.raw(tags::EXTENDED_OFFSET_TABLE);
        let begins = |fragment: &[u8]| method.begins(fragment);
        let extended = extended.unwrap_or_default();
        let frames = found
            .of_frames(self.data_set, frames_count, extended, &begins)
            .ok_or(PixelError::Damaged("which frame is where is not certain"))?;
        self.frames = frames.into_iter().map(<[_]>::to_vec).collect();
        Ok(())
    }

    /// Whether the colours are red, green and blue now.
    fn decode_all(
        &mut self,
        method: Method,
        frame_done: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<bool, PixelError> {
        let mut all_rgb = None;
        for frame in 0..self.frames.len() {
            let (bytes, is_rgb) = self.frame(method, frame)?;
            if all_rgb.is_some_and(|all| all != is_rgb) {
                return Err(PixelError::Damaged("its frames differ in their colours"));
            }
            all_rgb = Some(is_rgb);
            if self.pixels_length <= KEPT_BYTES_MAX {
                self.kept.push(bytes);
            }
            frame_done().map_err(|error| PixelError::DataSet(error.to_string()))?;
        }
        Ok(all_rgb.unwrap_or_default())
    }

    fn frame(&self, method: Method, frame: usize) -> Result<(Vec<u8>, bool), PixelError> {
        match self.frames[frame].as_slice() {
            [only] => decode(method, &self.shape, &self.data_set[only.clone()]),
            several => {
                let parts = several.iter().map(|part| &self.data_set[part.clone()]);
                let whole: Vec<u8> = parts.flatten().copied().collect();
                decode(method, &self.shape, &whole)
            }
        }
    }

    /// What the data set says of pixel data that are not compressed any more (PS3.3 C.7.6.3.1).
    fn describe(&self, replacing: &mut Replacing, method: Method, is_rgb: bool) {
        let vr = match self.shape.bits_allocated {
            0..=8 => VR::OB,
            _ => VR::OW,
        };
        // Bounded by PIXELS_LENGTH_MAX.
        replacing.pixels = Some((self.pixels_length as u32, vr));
        if self.shape.samples_per_pixel == 1 {
            return;
        }
        let said = self.shape.photometric_interpretation.as_str();
        let is = match said {
            _ if is_rgb => "RGB",
            // Meant is what the compression made of red, green and blue.
            "YBR_ICT" | "YBR_RCT" => "RGB",
            // Every pixel has all of its samples now.
            "YBR_FULL_422" if !matches!(method, Method::Plain | Method::Deflated) => "YBR_FULL",
            other => other,
        };
        if is != said {
            let (tag, value) = (tags::PHOTOMETRIC_INTERPRETATION, is.as_bytes().to_vec());
            replacing.values.push((tag, VR::CS, value));
        }
        if !matches!(method, Method::Plain | Method::Deflated) {
            let (tag, value) = (tags::PLANAR_CONFIGURATION, vec![0, 0]);
            replacing.values.push((tag, VR::US, value));
        }
    }

    /// Of the data set, bytes.
    pub fn length(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.pixels_length
    }

    pub fn write(self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        out(&self.head)?;
        let mut written = 0;
        for frame in 0..self.frames.len() {
            let decoded = match (self.kept.get(frame), self.method) {
                (Some(_), _) | (_, None) => None,
                (None, Some(method)) => {
                    let (bytes, _) = self.frame(method, frame).map_err(io::Error::other)?;
                    Some(bytes)
                }
            };
            let bytes = decoded.as_ref().or(self.kept.get(frame));
            let bytes = bytes.map_or(&[][..], Vec::as_slice);
            written += bytes.len() as u64;
            out(bytes)?;
        }
        if written < self.pixels_length {
            out(&[0])?;
        }
        out(&self.tail)
    }
}

pub(super) fn shape_of(attributes: &Attributes) -> Result<Shape, PixelError> {
    let number = |tag| {
        let raw = attributes.raw(tag)?;
        Some(u16::from_le_bytes([*raw.first()?, *raw.get(1)?]))
    };
    let shape = Shape {
        rows: number(tags::ROWS).unwrap_or(0),
        columns: number(tags::COLUMNS).unwrap_or(0),
        samples_per_pixel: number(tags::SAMPLES_PER_PIXEL).unwrap_or(1),
        bits_allocated: number(tags::BITS_ALLOCATED).unwrap_or(0),
        signed: number(tags::PIXEL_REPRESENTATION) == Some(1),
        photometric_interpretation: attributes
            .text(tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_default()
            .trim()
            .to_owned(),
    };
    shape.check()?;
    Ok(shape)
}
