//! Hands an instance back: from the first copy that is good. A copy that fails gives way to the next, within the same
//! request, also in the middle. What was selected is handed back, also when a correction has hidden it since and its files
//! lie elsewhere by now.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::index::Copy;
use crate::memory::{self, Share};
use crate::volume::Volume;
use crate::volume::io::DiskFile;
use crate::volume::layout::Role;

use super::find::Selected;
use super::{Archive, Line};

/// An instance opened for reading, at the first byte of its data set.
pub struct Fetched<'a> {
    /// Bytes of the data set.
    pub length: u64,
    archive: &'a Archive,
    selected: Selected,
    /// How often files may be looked for where they are now.
    looks: u32,
    /// Copies that were not tried yet.
    waiting: VecDeque<Copy>,
    source: Source,
    /// Where bytes came from that were given out; the checksum does not say which of them was wrong.
    used: Vec<Copy>,
    /// Of what was given out.
    crc: crc32fast::Hasher,
    expected: u32,
    read: u64,
}

enum Source {
    /// Read and found good before the first byte is given out; the data set is at the beginning.
    Checked(
        Vec<u8>,
        #[expect(dead_code, reason = "given back when it is dropped")] Option<Share>,
    ),
    /// Read piece by piece; the checksum is compared before the last one is given out.
    Streaming {
        file: DiskFile,
        /// Is not closed, and not said to be unplugged, while it is read.
        volume: Arc<Volume<Line>>,
        copy: Copy,
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
/// Those up to this size are not counted in the memory for data sets in flight, bytes.
const UNCOUNTED_BYTES_MAX: u64 = 64 << 10;
/// Larger ones, and those for which no memory is left, up to this size are read once before they are sent, and mostly from memory then, bytes.
const READ_TWICE_BYTES_MAX: u64 = 1 << 30;
/// Read at a time for that, bytes.
const PIECE_BYTES: usize = 1 << 20;
/// The same where no memory is left for more.
const PIECE_BYTES_SMALL: usize = 64 << 10;

/// Memory of instances that were handed back is used again, so far: a series is read in the same two pieces all along.
const BUFFERS_MAX: usize = 8;
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// Memory for data sets; its bytes are left from another, and written over.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of this length or longer.
    fn take(&self, length: usize) -> Vec<u8> {
        if length > BUFFER_BYTES_MAX {
            return vec![0; length];
        }
        let used = self.lock().pop();
        match used.filter(|buffer| buffer.len() >= length) {
            Some(buffer) => buffer,
            // The next of the series may be a little longer.
            None => vec![0; length.next_multiple_of(BUFFER_BYTES_MAX / 8)],
        }
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.lock();
        if (1..=BUFFER_BYTES_MAX).contains(&buffer.len()) && buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

/// Within one instance files are looked for again so often at most.
const LOOKS_MAX: u32 = 4;
/// So long it may take until files that are being moved are where they go.
const MOVE_PATIENCE: Duration = Duration::from_secs(20);

/// A million instances are read in in this time.
const REBUILD_PATIENCE: Duration = Duration::from_secs(20);

impl Archive {
    /// Tells the disk that an instance will be fetched soon, so that it reads while the one before is sent. What is wrong
    /// with it is found, and said, when it is fetched.
    pub fn fetch_soon(&self, selected: &Selected) {
        let copies = self.view().and_then(|view| selected.copies(&view.snapshot));
        if let Ok(Some(copies)) = copies
            && let Some(copy) = self.in_order(&copies).front()
            && let Ok((file, _volume)) = self.open_checked(copy)
        {
            file.will_need(copy.size_bytes.min(CHECKED_BYTES_MAX));
        }
    }

    /// Reads an instance before its turn, from the copy that is asked first. `None`: it is too large for that, or something
    /// is wrong, which is found and said when it is fetched.
    pub fn fetch_ahead(&self, selected: &Selected) -> Option<Fetched<'_>> {
        if selected.length > CHECKED_BYTES_MAX {
            return None;
        }
        let copies = self.view().and_then(|view| selected.copies(&view.snapshot));
        let mut waiting = self.in_order(&copies.ok()??);
        let copy = waiting.pop_front().filter(|copy| selected.is_in(copy))?;
        let source = self.open_copy(&copy).ok()?;
        Some(self.fetched(selected, copy, source, waiting, LOOKS_MAX))
    }

    fn fetched(
        &self,
        selected: &Selected,
        copy: Copy,
        source: Source,
        waiting: VecDeque<Copy>,
        looks: u32,
    ) -> Fetched<'_> {
        Fetched {
            length: selected.length,
            archive: self,
            selected: selected.clone(),
            looks,
            waiting,
            source,
            expected: selected.crc32,
            used: vec![copy],
            crc: crc32fast::Hasher::new(),
            read: 0,
        }
    }

    /// Where the index says that an instance is. Should the index fail now, in the middle of a retrieve, the instance is
    /// waited for while the ledgers are read again, for 20 seconds at most.
    fn copies_of(&self, selected: &Selected) -> Option<Vec<Copy>> {
        let deadline = Instant::now() + REBUILD_PATIENCE;
        loop {
            let looked_up = self.view().and_then(|view| {
                let copies = selected.copies(&view.snapshot)?;
                Ok((copies, view.rebuilding_percent.is_none()))
            });
            match looked_up {
                Ok((Some(copies), _)) => return Some(copies),
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

    /// Opens the first copy that is good: of ordinary size, read and compared with its checksum. Those known as bad are
    /// tried last; those that turn out bad now are looked into.
    pub fn fetch(&self, selected: &Selected) -> Result<Fetched<'_>, Unreadable> {
        let copies = self.copies_of(selected).unwrap_or_default();
        let mut waiting = self.in_order(&copies);
        let (mut reasons, mut looks) = (Vec::new(), LOOKS_MAX);
        if let Some((copy, source)) =
            self.open_next(selected, &mut waiting, &mut looks, &mut reasons)
        {
            return Ok(self.fetched(selected, copy, source, waiting, looks));
        }
        if reasons.is_empty() {
            reasons.push(match copies.is_empty() {
                true => "it is not here any more".to_owned(),
                false => "no volume that has it is here".to_owned(),
            });
        }
        Err(Unreadable {
            sop_instance_uid: selected.sop_instance_uid.clone(),
            reasons: reasons.join("; "),
        })
    }

    /// Opens the first of the waiting copies that is good. One that was moved since it was looked up is looked up again,
    /// with all others.
    fn open_next(
        &self,
        selected: &Selected,
        waiting: &mut VecDeque<Copy>,
        looks: &mut u32,
        reasons: &mut Vec<String>,
    ) -> Option<(Copy, Source)> {
        while let Some(copy) = waiting.pop_front() {
            if !selected.is_in(&copy) {
                continue;
            }
            match self.open_copy(&copy) {
                Ok(source) => return Some((copy, source)),
                Err(_) if *looks > 0 && self.has_moved(selected, &copy) => {
                    *looks -= 1;
                    *waiting = self.in_order(&self.copies_of(selected).unwrap_or_default());
                }
                Err(error) => {
                    reasons.push(self.cannot_serve(&selected.sop_instance_uid, &copy, &error));
                }
            }
        }
        None
    }

    /// Whether a copy is not listed any more where it was.
    fn has_moved(&self, selected: &Selected, copy: &Copy) -> bool {
        // Who moves it holds this from the rename to the line.
        let _lock = self
            .locks
            .lock_within(&selected.sop_instance_uid, MOVE_PATIENCE);
        let is_it = |other: &Copy| (&other.volume_id, &other.path) == (&copy.volume_id, &copy.path);
        let copies = self.view().and_then(|view| selected.copies(&view.snapshot));
        copies.is_ok_and(|copies| !copies.is_some_and(|copies| copies.iter().any(is_it)))
    }

    /// Copies on volumes that are here and answer, the likely good ones first. A bad one may be readable all the same (it
    /// is the only one, say); nothing is lost by trying.
    fn in_order(&self, copies: &[Copy]) -> VecDeque<Copy> {
        let can_be_asked = |copy: &&Copy| {
            !self.is_replaced(&copy.volume_id)
                && self
                    .shelf
                    .here(&copy.volume_id)
                    .is_some_and(|v| v.answers())
        };
        let mut found: Vec<Copy> = copies.iter().filter(can_be_asked).cloned().collect();
        // The disk of a mirror volume may be at rest.
        let is_mirror = |copy: &Copy| {
            let member = self.shelf.by_id(&copy.volume_id);
            member.is_some_and(|member| member.role == Role::Mirror)
        };
        found.sort_by_key(|copy| (copy.bad, self.suspects.passes_over(copy), is_mirror(copy)));
        found.into()
    }

    /// Notes it; the reason in words.
    fn cannot_serve(&self, sop_instance_uid: &str, copy: &Copy, error: &io::Error) -> String {
        let volume = self.shelf.by_id(&copy.volume_id);
        let volume = volume.map_or_else(String::new, |member| member.name.clone());
        if !copy.bad {
            tracing::error!(volume, path = copy.path, %error, "a copy cannot be served");
            self.suspect(sop_instance_uid, copy);
        }
        format!("volume {volume}: {error}")
    }

    fn open_copy(&self, copy: &Copy) -> io::Result<Source> {
        let (file, volume) = self.open_checked(copy)?;
        let length = copy.data_bytes();
        let is_counted = length > UNCOUNTED_BYTES_MAX && length <= CHECKED_BYTES_MAX;
        let share = is_counted.then(|| memory::take(length as usize)).flatten();
        if length > UNCOUNTED_BYTES_MAX && share.is_none() {
            if length <= READ_TWICE_BYTES_MAX {
                read_through(&file, &volume, copy)?;
            }
            return Ok(Source::Streaming {
                file,
                volume,
                copy: copy.clone(),
            });
        }
        let length = length as usize;
        let mut bytes = self.buffers.take(length);
        {
            let _call = volume.call();
            file.read_exact_at(&mut bytes[..length], copy.data_offset)?;
        }
        match crc32fast::hash(&bytes[..length]) == copy.crc32 {
            true => Ok(Source::Checked(bytes, share)),
            false => Err(wrong_checksum()),
        }
    }

    /// The file of a copy, if it is there with the size that the ledger says; its volume is to be held as long.
    pub(super) fn open_checked(&self, copy: &Copy) -> io::Result<(DiskFile, Arc<Volume<Line>>)> {
        let volume = self
            .shelf
            .here(&copy.volume_id)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its volume is not here"))?;
        let (file, size) = {
            let _call = volume.call();
            let file = volume.open_file(&copy.path)?;
            let size = file.len()?;
            (file, size)
        };
        if size != copy.size_bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{size} bytes where the ledger says {}", copy.size_bytes),
            ));
        }
        Ok((file, volume))
    }
}

fn wrong_checksum() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its checksum is not the ledger's",
    )
}

/// Reads a whole data set and compares its checksum; what is read stays in memory where there is room.
fn read_through(file: &DiskFile, volume: &Volume<Line>, copy: &Copy) -> io::Result<()> {
    let mut crc = crc32fast::Hasher::new();
    let share = memory::take_spare(PIECE_BYTES);
    let piece_bytes = share.as_ref().map_or(PIECE_BYTES_SMALL, |_| PIECE_BYTES);
    let mut piece = vec![0; piece_bytes];
    let mut at = copy.data_offset;
    while at < copy.size_bytes {
        let count = piece.len().min((copy.size_bytes - at) as usize);
        let _call = volume.call();
        file.read_exact_at(&mut piece[..count], at)?;
        crc.update(&piece[..count]);
        at += count as u64;
    }
    match crc.finalize() == copy.crc32 {
        true => Ok(()),
        false => Err(wrong_checksum()),
    }
}

impl Fetched<'_> {
    /// Whether it is this content.
    pub fn is(&self, selected: &Selected) -> bool {
        let of = |selected: &Selected| (selected.length, selected.crc32);
        of(&self.selected) == of(selected)
            && self.selected.sop_instance_uid == selected.sop_instance_uid
    }

    /// All of it, where it was read before the first byte is given out and none was.
    pub fn whole(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Checked(bytes, _) if self.read == 0 => Some(&bytes[..self.length as usize]),
            _ => None,
        }
    }

    /// Fills `buffer` from where the last call ended; returns the bytes filled, 0 at the end.
    ///
    /// What one copy does not give, the next does: they are the same byte for byte. The last piece of an instance whose
    /// checksum is wrong is an error, so bad bytes never become a complete message.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length - self.read;
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..count];
        loop {
            let (file, volume, copy) = match &self.source {
                Source::Checked(bytes, _) => {
                    buffer.copy_from_slice(&bytes[self.read as usize..][..count]);
                    self.read += count as u64;
                    return Ok(count);
                }
                Source::Streaming { file, volume, copy } => (file, volume, copy),
            };
            let read = {
                let _call = volume.call();
                file.read_exact_at(buffer, copy.data_offset + self.read)
            };
            let Err(error) = read else { break };
            let failed = copy.clone();
            self.archive
                .cannot_serve(&self.selected.sop_instance_uid, &failed, &error);
            self.go_on_elsewhere().ok_or(error)?;
        }
        self.crc.update(buffer);
        if count > 0 && left == count as u64 && self.crc.clone().finalize() != self.expected {
            for copy in &self.used {
                self.archive.suspect(&self.selected.sop_instance_uid, copy);
            }
            return Err(wrong_checksum());
        }
        self.read += count as u64;
        Ok(count)
    }

    /// Opens the next copy that has the same bytes; `None` when there is none.
    fn go_on_elsewhere(&mut self) -> Option<()> {
        let mut reasons = Vec::new();
        let (waiting, looks) = (&mut self.waiting, &mut self.looks);
        let opened = self
            .archive
            .open_next(&self.selected, waiting, looks, &mut reasons);
        let (copy, source) = opened?;
        self.source = source;
        self.used.push(copy);
        Some(())
    }
}

impl Drop for Fetched<'_> {
    fn drop(&mut self) {
        if let Source::Checked(bytes, _) = &mut self.source {
            self.archive.buffers.give_back(std::mem::take(bytes));
        }
    }
}
