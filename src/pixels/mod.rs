//! Compressed images into plain ones: one frame at a time, and whole data sets.
//!
//! Everything here reads what strangers wrote and may be slow, hungry or worse: it runs in a process of its own
//! (`sending/worker.rs`), never in the server's.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | which transfer syntaxes can be decoded; samples into the native form |
//! | `data_set` | the data set around them |
//! | `thumbnail`, `shades` | a small picture of one frame |
//! | `jpeg`, `jpeg_huffman`, `jpeg_dct` | JPEG: baseline, extended, progressive, lossless |
//! | `jpeg_ls` | JPEG-LS |
//! | `jpeg_2000` | JPEG 2000 and HTJ2K, by a library |
//! | `rle` | RLE Lossless |

mod data_set;
mod jpeg;
mod jpeg_2000;
mod jpeg_dct;
mod jpeg_huffman;
mod jpeg_ls;
mod rle;
mod shades;
mod thumbnail;

use std::io::Read;

use crate::dicom::ts;

pub use data_set::Plain;
pub use thumbnail::thumbnail;

/// Why an image was not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PixelError {
    #[error("{0} cannot be decoded here")]
    Unsupported(&'static str),
    #[error("its compressed image is damaged: {0}")]
    Damaged(&'static str),
    #[error("its compressed image is of another size than the data set says")]
    Size,
    #[error("its image is larger than is decoded here")]
    TooLarge,
    #[error("there is no image in it")]
    NoImage,
    #[error("{0}")]
    DataSet(String),
}

/// The image pixel attributes that say how samples are stored (PS3.3 C.7.6.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    pub rows: u16,
    pub columns: u16,
    pub samples_per_pixel: u16,
    pub bits_allocated: u16,
    /// Pixel Representation (0028,0103) is 1.
    pub signed: bool,
    pub photometric_interpretation: String,
}

/// Samples of one frame, of all components alike, that a data set may have.
const SAMPLES_MAX: usize = 1 << 29;

impl Shape {
    pub fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    fn samples(&self) -> usize {
        self.pixels() * usize::from(self.samples_per_pixel)
    }

    /// Bytes of a frame in the native form (PS3.5 8.1.1).
    pub fn frame_bytes(&self) -> usize {
        match self.bits_allocated {
            1 => self.samples().div_ceil(8),
            bits => self.samples() * usize::from(bits).div_ceil(8),
        }
    }

    fn check(&self) -> Result<(), PixelError> {
        if !matches!(self.bits_allocated, 1 | 8 | 16 | 32) {
            return Err(PixelError::Unsupported("an image of such Bits Allocated"));
        }
        if !(1..=4).contains(&self.samples_per_pixel) || self.pixels() == 0 {
            return Err(PixelError::DataSet(
                "its Rows, Columns or Samples per Pixel make no sense".to_owned(),
            ));
        }
        match self.samples() <= SAMPLES_MAX {
            true => Ok(()),
            false => Err(PixelError::TooLarge),
        }
    }
}

/// How a transfer syntax compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Jpeg,
    JpegLs,
    Jpeg2000,
    Rle,
    /// Each frame deflated by itself (PS3.5 A.4.13).
    Deflated,
    /// Frames as they are, one a fragment (PS3.5 A.4.11).
    Plain,
}

impl Method {
    fn of(transfer_syntax: &str) -> Option<Method> {
        if transfer_syntax == ts::RLE_LOSSLESS {
            return Some(Method::Rle);
        }
        Some(match transfer_syntax.strip_prefix("1.2.840.10008.1.2.")? {
            "1.98" => Method::Plain,
            "8.1" => Method::Deflated,
            // Retired ones too: there are images of them.
            "4.50" | "4.51" | "4.53" | "4.55" | "4.57" | "4.70" => Method::Jpeg,
            "4.80" | "4.81" => Method::JpegLs,
            "4.90" | "4.91" | "4.92" | "4.93" | "4.201" | "4.202" | "4.203" => Method::Jpeg2000,
            _ => return None,
        })
    }

    /// Whether a frame begins with this fragment.
    fn begins(self, fragment: &[u8]) -> bool {
        match self {
            Method::Jpeg | Method::JpegLs => fragment.starts_with(&[0xFF, 0xD8]),
            Method::Jpeg2000 => {
                fragment.starts_with(&[0xFF, 0x4F, 0xFF, 0x51])
                    || fragment.get(4..8) == Some(b"jP  ")
            }
            Method::Rle | Method::Deflated | Method::Plain => true,
        }
    }
}

/// Whether images of that transfer syntax can be decoded at all.
pub fn can_decode(transfer_syntax: &str) -> bool {
    Method::of(transfer_syntax).is_some()
}

/// One decoded frame: samples of a component side by side.
struct Samples {
    width: usize,
    height: usize,
    /// Bits of a sample.
    precision: u32,
    planes: Planes,
    /// Colours came out as red, green and blue, whatever the data set says.
    is_rgb: bool,
}

enum Planes {
    Narrow(Vec<Vec<u16>>),
    Wide(Vec<Vec<i32>>),
}

impl Samples {
    fn of_planes(planes: Vec<Vec<u16>>, width: usize, height: usize, precision: u32) -> Samples {
        Samples {
            width,
            height,
            precision,
            planes: Planes::Narrow(planes),
            is_rgb: false,
        }
    }

    /// The native form: little endian, the samples of a pixel side by side.
    fn native(&self, shape: &Shape) -> Result<Vec<u8>, PixelError> {
        let planes_count = match &self.planes {
            Planes::Narrow(planes) => planes.len(),
            Planes::Wide(planes) => planes.len(),
        };
        let fits = (self.width, self.height)
            == (usize::from(shape.columns), usize::from(shape.rows))
            && planes_count == usize::from(shape.samples_per_pixel);
        if !fits || self.precision > u32::from(shape.bits_allocated) || self.precision == 0 {
            return Err(PixelError::Size);
        }
        let mut frame = vec![0; shape.frame_bytes()];
        match &self.planes {
            Planes::Narrow(planes) => {
                for (place, plane) in planes.iter().enumerate() {
                    self.put(
                        shape,
                        &mut frame,
                        place,
                        plane.iter().map(|&v| i64::from(v)),
                    );
                }
            }
            Planes::Wide(planes) => {
                for (place, plane) in planes.iter().enumerate() {
                    self.put(
                        shape,
                        &mut frame,
                        place,
                        plane.iter().map(|&v| i64::from(v)),
                    );
                }
            }
        }
        Ok(frame)
    }

    fn put(
        &self,
        shape: &Shape,
        frame: &mut [u8],
        place: usize,
        values: impl Iterator<Item = i64>,
    ) {
        let count = usize::from(shape.samples_per_pixel);
        let unused = 64 - self.precision;
        // Its own sign, all the way up; or none.
        let values = values.map(|value| match shape.signed {
            true => (value << unused) >> unused,
            false => ((value as u64) << unused >> unused) as i64,
        });
        match shape.bits_allocated {
            1 => {
                for (at, value) in values.enumerate() {
                    let bit = at * count + place;
                    frame[bit / 8] |= ((value & 1) as u8) << (bit % 8);
                }
            }
            8 => {
                let places = frame.iter_mut().skip(place).step_by(count);
                for (byte, value) in places.zip(values) {
                    *byte = value as u8;
                }
            }
            bits => {
                let size = usize::from(bits) / 8;
                let places = frame.chunks_exact_mut(size).skip(place).step_by(count);
                for (bytes, value) in places.zip(values) {
                    bytes.copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
        }
    }
}

/// One frame in the native form, and whether its colours are red, green and blue now.
fn decode(method: Method, shape: &Shape, data: &[u8]) -> Result<(Vec<u8>, bool), PixelError> {
    let samples_max = shape.samples();
    let samples = match method {
        Method::Rle => return Ok((rle::decode(data, shape)?, false)),
        Method::Deflated => return Ok((inflated(data, shape.frame_bytes())?, false)),
        Method::Plain => {
            let frame = data.get(..shape.frame_bytes()).ok_or(PixelError::Size)?;
            return Ok((frame.to_vec(), false));
        }
        Method::Jpeg => {
            let ybr = shape.photometric_interpretation.starts_with("YBR");
            jpeg::decode(data, samples_max, ybr)?
        }
        Method::JpegLs => jpeg_ls::decode(data, samples_max)?,
        Method::Jpeg2000 => jpeg_2000::decode(data, samples_max)?,
    };
    Ok((samples.native(shape)?, samples.is_rgb))
}

fn inflated(data: &[u8], length: usize) -> Result<Vec<u8>, PixelError> {
    let mut frame = Vec::with_capacity(length);
    let inflater = flate2::read::DeflateDecoder::new(data);
    inflater
        .take(length as u64)
        .read_to_end(&mut frame)
        .map_err(|_| PixelError::Damaged("it cannot be inflated"))?;
    match frame.len() == length {
        true => Ok(frame),
        false => Err(PixelError::Size),
    }
}
