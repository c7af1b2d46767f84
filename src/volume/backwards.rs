//! A file of lines, read from its end: the newest first, a block at a time.

use std::io;
use std::path::Path;

use super::io::{Disk, DiskFile};

/// Read at a time, bytes.
const BLOCK_BYTES: u64 = 64 << 10;

pub enum Line {
    Text(Vec<u8>),
    TooLong,
}

/// The lines of a file from its end to its beginning; what is written to it meanwhile is not seen.
pub struct Backwards {
    file: DiskFile,
    /// Where the bytes at hand begin.
    at: u64,
    bytes: Vec<u8>,
    too_long: bool,
    line_bytes_max: usize,
}

impl Backwards {
    /// `line_bytes_max`: a longer line is not ours.
    pub fn open(disk: &Disk, path: &Path, line_bytes_max: usize) -> io::Result<Backwards> {
        let file = disk.open_read(path)?;
        Ok(Backwards {
            at: file.len()?,
            file,
            bytes: Vec::new(),
            too_long: false,
            line_bytes_max,
        })
    }

    /// The line before the one that was given last.
    pub fn line_before(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(end) = self.bytes.iter().rposition(|byte| *byte == b'\n') {
                let line = self.bytes.split_off(end + 1);
                self.bytes.pop();
                return Ok(Some(self.line(line)));
            }
            if self.at == 0 {
                if self.bytes.is_empty() && !self.too_long {
                    return Ok(None);
                }
                let line = std::mem::take(&mut self.bytes);
                return Ok(Some(self.line(line)));
            }
            if self.bytes.len() > self.line_bytes_max {
                self.too_long = true;
                self.bytes.clear();
            }
            let count = self.at.min(BLOCK_BYTES);
            let mut block = vec![0; count as usize];
            self.at -= count;
            self.file.read_exact_at(&mut block, self.at)?;
            block.append(&mut self.bytes);
            self.bytes = block;
        }
    }

    fn line(&mut self, line: Vec<u8>) -> Line {
        match std::mem::take(&mut self.too_long) {
            true => Line::TooLong,
            false => Line::Text(line),
        }
    }
}
