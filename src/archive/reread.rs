//! Reads a copy from its medium, not from memory, and holds it against its own ledger line.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::index::Copy;
use crate::volume::Volume;
use crate::volume::io::DiskFile;

use super::Line;

/// Read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Missing,
    /// It can be read, and is not what its line says.
    Wrong(String),
    Unreadable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing => f.write_str("the file is missing"),
            Fault::Wrong(reason) => f.write_str(reason),
            Fault::Unreadable(reason) => write!(f, "it cannot be read: {reason}"),
        }
    }
}

/// Asked after each piece, with its bytes and how long it took: waits as it sees fit, and says whether to go on.
pub type Brake<'a> = &'a dyn Fn(u64, Duration) -> bool;

/// `Ok(None)`: told to stop. Memory holds nothing of the file afterwards.
pub fn reread(volume: &Volume<Line>, copy: &Copy, brake: Brake) -> Result<Option<()>, Fault> {
    let file = open(volume, copy)?;
    let unreadable = |error: io::Error| Fault::Unreadable(error.to_string());
    file.forget_cached();
    let mut crc = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES.min(copy.size_bytes as usize)];
    let mut at = 0;
    while at < copy.size_bytes {
        let count = piece.len().min((copy.size_bytes - at) as usize);
        let begun = Instant::now();
        {
            let _call = volume.call();
            file.read_exact_at(&mut piece[..count], at)
                .map_err(unreadable)?;
        }
        crc.update(&piece[..count]);
        at += count as u64;
        if !brake(count as u64, begun.elapsed()) {
            return Ok(None);
        }
    }
    file.forget_cached();
    match crc.finalize() {
        found if found == copy.file_crc32 => Ok(Some(())),
        found => Err(Fault::Wrong(format!(
            "its checksum is {found:08x} where the ledger says {:08x}",
            copy.file_crc32
        ))),
    }
}

/// The file, if it is one and has the size that its line says.
fn open(volume: &Volume<Line>, copy: &Copy) -> Result<DiskFile, Fault> {
    let _call = volume.call();
    let file = volume
        .open_file(&copy.path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
            _ => match volume.entry(&copy.path) {
                Ok(Some(entry)) if !entry.is_file => Fault::Wrong("it is not a file".to_owned()),
                _ => Fault::Unreadable(error.to_string()),
            },
        })?;
    match file.len() {
        Ok(size) if size == copy.size_bytes => Ok(file),
        Ok(size) => Err(Fault::Wrong(format!(
            "it has {size} bytes where the ledger says {}",
            copy.size_bytes
        ))),
        Err(error) => Err(Fault::Unreadable(error.to_string())),
    }
}
