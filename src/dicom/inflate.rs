//! Deflated data sets (PS3.5 A.5), inflated piece by piece through a small buffer.

use flate2::{Decompress, FlushDecompress, Status};

use super::scan::ScanError;

/// Inflated bytes handed on at a time.
const BUFFER_LENGTH: usize = 32 * 1024;

/// Most that one data set may inflate to, in bytes. A guard against bombs, which cost time but no memory.
const INFLATED_LENGTH_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// From this size on, [`RATIO_MAX`] applies: a small blank image may well shrink a thousandfold.
const RATIO_FROM_LENGTH: u64 = 256 * 1024 * 1024;

/// Most inflated bytes for each deflated one, beyond [`RATIO_FROM_LENGTH`].
const RATIO_MAX: u64 = 400;

/// CRC-32 and length, which some writers leave behind the stream as gzip has them. The standard knows only a NUL to
/// make the length even; zeros are tolerated in any number.
const TRAILER_LENGTH_MAX: usize = 8;

pub(super) struct Inflater {
    stream: Decompress,
    buffer: Box<[u8]>,
    ended: bool,
    trailer_left: usize,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Inflater {
            stream: Decompress::new(false),
            buffer: vec![0; BUFFER_LENGTH].into_boxed_slice(),
            ended: false,
            trailer_left: TRAILER_LENGTH_MAX,
        }
    }

    /// An error when the deflated bytes ended before their stream did. No bytes at all are an empty data set.
    pub(super) fn finish(&self) -> Result<(), ScanError> {
        let offset = self.stream.total_in();
        if self.ended || offset == 0 {
            return Ok(());
        }
        Err(ScanError::Truncated {
            offset,
            within: "the deflated bytes",
        })
    }

    pub(super) fn feed<E: From<ScanError>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.ended {
            let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(bytes, &mut self.buffer, FlushDecompress::None)
                .map_err(|_| ScanError::Deflate {
                    offset: self.stream.total_in(),
                })?;
            // Both differences are bounded by a slice length.
            bytes = &bytes[(self.stream.total_in() - in_before) as usize..];
            let made = (self.stream.total_out() - out_before) as usize;
            let (read, inflated) = (self.stream.total_in(), self.stream.total_out());
            let bomb = inflated > RATIO_FROM_LENGTH && inflated / RATIO_MAX > read;
            if bomb || inflated > INFLATED_LENGTH_MAX {
                return Err(ScanError::DeflateTooLarge {
                    offset: read,
                    inflated_bytes: inflated,
                }
                .into());
            }
            self.ended = status == Status::StreamEnd;
            sink(&self.buffer[..made])?;
            if made == 0 && self.stream.total_in() == in_before {
                break;
            }
        }
        if self.ended {
            // Only the first few bytes after the end can be a trailer, whatever pieces they come in.
            let skipped = bytes.len().min(self.trailer_left);
            self.trailer_left -= skipped;
            if bytes[skipped..].iter().any(|&byte| byte != 0) {
                return Err(ScanError::AfterEnd {
                    offset: self.stream.total_in(),
                }
                .into());
            }
        }
        Ok(())
    }
}
