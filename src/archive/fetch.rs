//! Hands an instance back: from the first copy that is there, with its checksum watched on the way.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::index::{Copy, InstanceRecord};
use crate::volume::Volume;
use crate::volume::io::DiskFile;

use super::{Archive, Line};

/// An instance opened for reading, at the first byte of its data set.
pub struct Fetched {
    pub transfer_syntax: String,
    /// Bytes of the data set.
    pub length: u64,
    source: Source,
    read: u64,
}

enum Source {
    /// Read and found good before the first byte is given out.
    Checked(Vec<u8>),
    /// Too large for that: the checksum is compared when the last byte has been read, before it is given out.
    Streaming {
        file: DiskFile,
        /// Is not closed, and not said to be unplugged, while it is read.
        _volume: Arc<Volume<Line>>,
        offset: u64,
        crc: crc32fast::Hasher,
        expected: u32,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("no readable copy of {sop_instance_uid}: {reasons}")]
pub struct Unreadable {
    pub sop_instance_uid: String,
    pub reasons: String,
}

/// Data sets up to this size are checked in memory before they are sent, bytes.
const CHECKED_BYTES_MAX: u64 = 4 << 20;

/// A million instances are read in in this time.
const REBUILD_PATIENCE: Duration = Duration::from_secs(20);

impl Archive {
    /// Tells the disk that an instance will be fetched soon, so that it reads while the one before is sent. What is wrong
    /// with it is found, and said, when it is fetched.
    pub fn fetch_soon(&self, sop_instance_uid: &str) {
        let entry = self
            .view()
            .and_then(|view| view.snapshot.by_sop(sop_instance_uid));
        if let Ok(Some(entry)) = entry
            && let Some(copy) = good_first(&entry.record.copies).next()
            && let Ok((file, _volume)) = self.open_checked(copy)
        {
            file.will_need(copy.size_bytes.min(CHECKED_BYTES_MAX));
        }
    }

    /// What the index says of an instance. Should the index fail now, in the middle of a retrieve, the instance is waited for
    /// while the ledgers are read again, for 20 seconds at most.
    pub fn record(&self, sop_instance_uid: &str) -> Option<InstanceRecord> {
        let deadline = Instant::now() + REBUILD_PATIENCE;
        loop {
            let looked_up = self.view().and_then(|view| {
                let entry = view.snapshot.by_sop(sop_instance_uid)?;
                Ok((entry, view.rebuilding_percent.is_none()))
            });
            match looked_up {
                Ok((Some(entry), _)) => return Some(entry.record),
                Ok((None, true)) => return None,
                Ok((None, false)) => {}
                Err(error) => self.index_failed(&error),
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Opens the first copy of which the file is there, has its size and, if small, its checksum. Those known as bad are
    /// tried last.
    pub fn fetch(
        &self,
        sop_instance_uid: &str,
        record: &InstanceRecord,
    ) -> Result<Fetched, Unreadable> {
        let mut reasons = Vec::new();
        for copy in good_first(&record.copies) {
            match self.open_copy(copy) {
                Ok(source) => {
                    return Ok(Fetched {
                        transfer_syntax: record.transfer_syntax.clone(),
                        length: copy.size_bytes - copy.data_offset,
                        source,
                        read: 0,
                    });
                }
                Err(error) => {
                    tracing::error!(volume = copy.volume_id, path = copy.path, %error, "a copy cannot be served");
                    reasons.push(error.to_string());
                }
            }
        }
        Err(Unreadable {
            sop_instance_uid: sop_instance_uid.to_owned(),
            reasons: reasons.join("; "),
        })
    }

    fn open_copy(&self, copy: &Copy) -> io::Result<Source> {
        let (file, volume) = self.open_checked(copy)?;
        let length = copy.size_bytes - copy.data_offset;
        if length > CHECKED_BYTES_MAX {
            let crc = crc32fast::Hasher::new();
            return Ok(Source::Streaming {
                file,
                _volume: volume,
                offset: copy.data_offset,
                crc,
                expected: copy.crc32,
            });
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, copy.data_offset)?;
        if crc32fast::hash(&bytes) != copy.crc32 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its checksum is not the ledger's",
            ));
        }
        Ok(Source::Checked(bytes))
    }

    /// The file of a copy, if it is there with the size that the ledger says; its volume is to be held as long.
    pub(super) fn open_checked(&self, copy: &Copy) -> io::Result<(DiskFile, Arc<Volume<Line>>)> {
        let volume = self
            .shelf
            .here(&copy.volume_id)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its volume is not here"))?;
        let file = volume.open_file(&copy.path)?;
        let size = file.len()?;
        if size != copy.size_bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{size} bytes where the ledger says {}", copy.size_bytes),
            ));
        }
        Ok((file, volume))
    }
}

/// A bad copy may be readable all the same (its disk was away, say); nothing is lost by trying.
fn good_first(copies: &[Copy]) -> impl Iterator<Item = &Copy> {
    let good = copies.iter().filter(|copy| !copy.bad);
    good.chain(copies.iter().filter(|copy| copy.bad))
}

impl Fetched {
    /// Fills `buffer` from where the last call ended; returns the bytes filled, 0 at the end.
    ///
    /// The last piece of an instance whose checksum is wrong is an error, so bad bytes never become a complete message.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length - self.read;
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..count];
        match &mut self.source {
            Source::Checked(bytes) => buffer.copy_from_slice(&bytes[self.read as usize..][..count]),
            Source::Streaming {
                file,
                offset,
                crc,
                expected,
                ..
            } => {
                file.read_exact_at(buffer, *offset + self.read)?;
                crc.update(buffer);
                if left == count as u64 && crc.clone().finalize() != *expected {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "its checksum is not the ledger's",
                    ));
                }
            }
        }
        self.read += count as u64;
        Ok(count)
    }
}
