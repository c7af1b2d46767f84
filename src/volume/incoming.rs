//! An instance on its way in: a name in `incoming/` until it has its own.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::io::{DIRECT_ALIGNMENT, DIRECT_IO, DiskFile, check_relative};
use super::{BUFFERS_MAX, PublishBy, Shared, VolumeError, layout};
use crate::memory::{self, Share};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// The same where no memory is left for more.
const SMALL_BYTES: usize = 64 << 10;
/// Buffers that stay in memory after they were written: what a disk that dies takes with it is still here, and the
/// instance goes on elsewhere. Nearly every image fits in whole.
const HELD_COUNT: usize = 8;

/// What [`Incoming::publish`] found at the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The name was free and is this file's now.
    New,
    /// The name is this very file already: it was published before a crash.
    AlreadyOurs,
    /// Another file has the name. It was not touched; choose another name.
    Taken,
}

/// A file in `incoming/`.
///
/// Dropped without [`finish`](Incoming::finish) it removes its name in
/// `incoming/` too, unless it came from [`super::Volume::resume`]; a name it
/// was published under is never removed.
pub struct Incoming {
    shared: Arc<Shared>,
    file: DiskFile,
    path: PathBuf,
    /// Bytes that were written to the file; the rest is in the last of `held`.
    written: u64,
    /// The newest bytes, each buffer but the last full.
    held: VecDeque<Aligned>,
    /// Offset of the first of `held`; what is before it is only in the file.
    held_from: u64,
    direct: bool,
    /// All bytes are in the file and flushed.
    durable: bool,
    /// The name in `incoming/` stays when this is dropped.
    keep: bool,
    /// Somebody else removes the name.
    stays: bool,
}

impl Incoming {
    /// `direct`: past the page cache, where the file system takes it.
    pub(super) fn create(
        shared: &Arc<Shared>,
        ending: &str,
        direct: bool,
    ) -> Result<Incoming, VolumeError> {
        let _call = shared.calls.begin();
        let name = format!("{}{ending}", uuid::Uuid::new_v4().simple());
        let path = shared.root.join(layout::INCOMING_FOLDER).join(name);
        // The new name is not flushed. After a power cut it may be missing; then
        // so is everything done since, or the instance has its own name and at
        // most lacks a ledger line: nothing was answered, and a sender who comes
        // again finds the same bytes under that name.
        let file = shared
            .disk
            .create_new(&path)
            .map_err(VolumeError::io(&path))?;
        let direct = direct && DIRECT_IO && file.set_direct(true);
        Ok(Incoming {
            shared: shared.clone(),
            file,
            path,
            written: 0,
            held: VecDeque::new(),
            held_from: 0,
            direct,
            durable: false,
            keep: false,
            stays: false,
        })
    }

    pub(super) fn resume(shared: &Arc<Shared>, path: PathBuf) -> Result<Incoming, VolumeError> {
        let file = shared
            .disk
            .open_write(&path)
            .map_err(VolumeError::io(&path))?;
        let written = file.len().map_err(VolumeError::io(&path))?;
        Ok(Incoming {
            shared: shared.clone(),
            file,
            path,
            written,
            held: VecDeque::new(),
            held_from: written,
            direct: false,
            // A killed process leaves bytes that only memory has.
            durable: false,
            keep: true,
            stays: false,
        })
    }

    /// A file that is there, to be written again from its beginning; its name stays.
    pub(super) fn over(shared: &Arc<Shared>, path: &Path) -> Result<Incoming, VolumeError> {
        let mut file = Incoming::resume(shared, path.to_owned())?;
        file.written = 0;
        file.held_from = 0;
        Ok(file)
    }

    /// Bytes taken so far, whether in the file or still in memory.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.last_from() + self.held.back().map_or(0, |buffer| buffer.fill as u64)
    }

    /// Offset of the last of `held`.
    fn last_from(&self) -> u64 {
        let full = self.held.iter().rev().skip(1);
        self.held_from + full.map(|buffer| buffer.capacity as u64).sum::<u64>()
    }

    /// The name in `incoming/`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The volume it is on.
    pub fn volume_id(&self) -> &str {
        &self.shared.label.volume_id
    }

    /// Takes more bytes.
    ///
    /// After an error [`len`](Incoming::len) says how many were taken in all;
    /// [`read_at`](Incoming::read_at) gives them back, as far as the disk can be
    /// read, so that the instance can go on elsewhere.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), VolumeError> {
        self.durable = false;
        while !bytes.is_empty() {
            let buffer = self.buffer();
            let count = bytes.len().min(buffer.capacity - buffer.fill);
            buffer.space()[..count].copy_from_slice(&bytes[..count]);
            buffer.fill += count;
            bytes = &bytes[count..];
            if buffer.is_full() {
                self.write_held()?;
            }
        }
        Ok(())
    }

    /// The last buffer if it has room, else another one.
    fn buffer(&mut self) -> &mut Aligned {
        if self.held.back().is_none_or(Aligned::is_full) {
            let next = self.next_buffer();
            self.held.push_back(next);
        }
        self.held.back_mut().expect("pushed if there was none")
    }

    /// One more while there is memory; then the oldest, which was written, gives way.
    fn next_buffer(&mut self) -> Aligned {
        let is_needed = self
            .held
            .iter()
            .all(|buffer| buffer.capacity < BUFFER_BYTES);
        let more = (self.held.len() < HELD_COUNT)
            .then(|| self.shared.take_buffer(is_needed))
            .flatten();
        if let Some(buffer) = more {
            return buffer;
        }
        match self.held.pop_front() {
            Some(mut oldest) => {
                self.held_from += oldest.capacity as u64;
                oldest.clear();
                oldest
            }
            None => Aligned::new(SMALL_BYTES, None),
        }
    }

    fn write_held(&mut self) -> Result<(), VolumeError> {
        let begin = self.written.saturating_sub(self.last_from()) as usize;
        let Some(buffer) = self.held.back() else {
            return Ok(());
        };
        let _call = self.shared.calls.begin();
        let mut bytes = &buffer.bytes()[begin..];
        // Only whole blocks can go past the page cache: the last part of a file
        // goes through it.
        if self.direct && !bytes.len().is_multiple_of(DIRECT_ALIGNMENT) {
            let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % DIRECT_ALIGNMENT);
            if !whole.is_empty() {
                write_block(&self.file, &mut self.direct, self.written, whole)
                    .map_err(VolumeError::io(&self.path))?;
                self.written += whole.len() as u64;
            }
            self.direct = self.file.set_direct(false);
            bytes = rest;
        }
        if !bytes.is_empty() {
            write_block(&self.file, &mut self.direct, self.written, bytes)
                .map_err(VolumeError::io(&self.path))?;
            self.written += bytes.len() as u64;
        }
        Ok(())
    }

    /// Writes what is in memory and waits until all of it is on stable storage.
    ///
    /// After [`VolumeError::FlushFailed`] the volume is out of use.
    pub fn flush(&mut self) -> Result<(), VolumeError> {
        self.write_held()?;
        let _call = self.shared.calls.begin();
        // Before the instance gets its own name, and so before any line speaks
        // of it: a ledger line means the bytes are there.
        self.file.sync_data().map_err(|error| {
            let error = VolumeError::flush(&self.path)(error);
            if let VolumeError::FlushFailed { .. } = error {
                self.shared.mark_failed(&error.to_string());
            }
            error
        })?;
        self.durable = true;
        Ok(())
    }

    /// Writes what is in memory, and keeps none of it: for a file that can be
    /// made again when this disk fails.
    pub fn write_out(&mut self) -> Result<(), VolumeError> {
        self.write_held()?;
        self.held_from = self.written;
        for buffer in self.held.drain(..) {
            self.shared.give_buffer(buffer);
        }
        Ok(())
    }

    /// Writes what is in memory and keeps it there too; does not wait for the disk.
    pub(super) fn write_through(&mut self) -> Result<(), VolumeError> {
        self.write_held()
    }

    /// The name in `incoming/` is somebody else's to remove from now on.
    pub(super) fn stays(&mut self) {
        self.stays = true;
    }

    /// Its name in `incoming/` stays when this is dropped, and goes with [`Incoming::finish`].
    pub(super) fn stays_after_drop(&mut self) {
        self.keep = true;
    }

    /// All bytes, if they are in memory still.
    pub(super) fn pieces(&self) -> Option<Vec<&[u8]>> {
        let is_whole = self.held_from == 0;
        is_whole.then(|| self.held.iter().map(Aligned::bytes).collect())
    }

    /// All of it was flushed, together with others.
    pub(super) fn is_durable_now(&mut self) {
        self.durable = true;
    }

    /// Reads back what was taken so far; 0 at its end. The newest 8 MiB come from memory, whatever the disk does.
    pub fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        if offset < self.held_from {
            if self.direct {
                // Direct reads need alignment, and so would the next write.
                self.direct = self.file.set_direct(false);
            }
            let left = usize::try_from(self.held_from - offset).unwrap_or(usize::MAX);
            let count = out.len().min(left);
            return self.file.read_at(offset, &mut out[..count]);
        }
        let mut at = usize::try_from(offset - self.held_from).unwrap_or(usize::MAX);
        for buffer in &self.held {
            let bytes = buffer.bytes();
            if at < bytes.len() {
                let count = out.len().min(bytes.len() - at);
                out[..count].copy_from_slice(&bytes[at..at + count]);
                return Ok(count);
            }
            at -= bytes.len();
        }
        Ok(0)
    }

    /// Whether `len` bytes from `from_offset_self` equal those of `other` from
    /// `from_offset_other`. False when either ends before.
    pub fn compare(
        &mut self,
        other: &DiskFile,
        from_offset_self: u64,
        from_offset_other: u64,
        len: u64,
    ) -> io::Result<bool> {
        const STEP: usize = 256 * 1024;
        let (mut ours, mut theirs) = (vec![0; STEP], vec![0; STEP]);
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).unwrap_or(STEP).min(STEP);
            let mut filled = 0;
            while filled < want {
                let at = from_offset_self + done + filled as u64;
                match self.read_at(at, &mut ours[filled..want])? {
                    0 => return Ok(false),
                    count => filled += count,
                }
            }
            let mut filled = 0;
            while filled < want {
                let at = from_offset_other + done + filled as u64;
                match other.read_at(at, &mut theirs[filled..want])? {
                    0 => return Ok(false),
                    count => filled += count,
                }
            }
            if ours[..want] != theirs[..want] {
                return Ok(false);
            }
            done += want as u64;
        }
        Ok(true)
    }

    /// Gives the file its own name in the image tree; the name is durable on
    /// return. Never replaces anything. Flushes first if that was not done.
    pub fn publish(&mut self, relative: &str) -> Result<Published, VolumeError> {
        if !self.durable {
            self.flush()?;
        }
        let _call = self.shared.calls.begin();
        let folder = folder_of(&self.shared.root, relative)?;
        self.shared.ensure_folders(folder)?;
        let mut named = self.name_it(relative)?;
        if named.is_none() {
            // Somebody removed an empty folder that was known to be there.
            self.shared.forget_folders(folder);
            self.shared.ensure_folders(folder)?;
            named = self.name_it(relative)?;
        }
        let published = self.named(named, relative)?;
        if published == Published::Taken {
            return Ok(published);
        }
        // The name is what a ledger line points to; it must survive before the
        // line is written. Also when it was there already: that may have been
        // a process that was killed before this flush.
        let folder = self.shared.root.join(folder);
        self.shared
            .folder_syncs
            .sync(&folder, || self.shared.disk.sync_dir(&folder))
            .map_err(self.shared.folder_flush_failed(&folder))?;
        Ok(published)
    }

    /// What trying to name it came to; `None`: the folder is not there.
    pub(super) fn named(
        &self,
        named: Option<Published>,
        relative: &str,
    ) -> Result<Published, VolumeError> {
        let target = self.shared.root.join(relative);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        named.ok_or_else(|| VolumeError::io(&target)(missing()))
    }

    /// Takes back the name that [`Incoming::publish`] gave, for an instance that goes elsewhere before any ledger line
    /// spoke of it. A name that stays is an unlisted file, which `kura equalize` finds.
    pub fn unpublish(&self, relative: &str) {
        let target = self.shared.root.join(relative);
        if let Ok(true) = self.is_at(&target)
            && let Err(error) = self.shared.disk.remove(&target)
        {
            tracing::debug!(path = %target.display(), %error, "name not taken back");
        }
    }

    /// As [`Incoming::unpublish`], and it has its name in `incoming/` as before.
    pub(super) fn withdraw(&self, relative: &str) {
        let target = self.shared.root.join(relative);
        match self.shared.publish_by {
            PublishBy::Link => self.unpublish(relative),
            PublishBy::Rename => {
                if let Ok(true) = self.is_at(&target)
                    && let Err(error) = self.shared.disk.rename_noreplace(&target, &self.path)
                {
                    tracing::debug!(path = %target.display(), %error, "name not taken back");
                }
            }
        }
    }

    /// Gives it the name; `None`: the folder is not there.
    pub(super) fn name_it(&self, relative: &str) -> Result<Option<Published>, VolumeError> {
        let target = &self.shared.root.join(relative);
        let named = match self.shared.publish_by {
            PublishBy::Link => self.shared.disk.link(&self.path, target),
            // The name in `incoming/` is gone then; after a crash before the
            // ledger line the file is an unlisted one that was never answered.
            PublishBy::Rename => match self.is_at(target) {
                Ok(true) => Err(io::ErrorKind::AlreadyExists.into()),
                Ok(false) => self.shared.disk.rename_noreplace(&self.path, target),
                Err(error) => Err(error),
            },
        };
        match named {
            Ok(()) => Ok(Some(Published::New)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match self.is_at(target).map_err(VolumeError::io(target))? {
                    true => Ok(Some(Published::AlreadyOurs)),
                    false => Ok(Some(Published::Taken)),
                }
            }
            Err(error) => Err(VolumeError::io(target)(error)),
        }
    }

    fn is_at(&self, target: &Path) -> io::Result<bool> {
        let there = self.shared.disk.entry(target)?;
        let own = self.file.identity()?;
        Ok(there.is_some_and(|there| there.identity == own))
    }

    /// Removes the name in `incoming/`. For after the answer: nothing waits for
    /// it, and a crash before it is harmless.
    pub fn finish(mut self) {
        self.keep = true;
        self.unlink();
    }

    /// Ends without removing the name in `incoming/`, so that the next start
    /// looks at it: for when it is not known whether a ledger line was written.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// Moves the file to `target`, for quarantine. The name in `incoming/` is
    /// gone on success.
    pub(super) fn move_to(mut self, target: &Path) -> io::Result<()> {
        self.shared.disk.rename(&self.path, target)?;
        self.keep = true;
        Ok(())
    }

    fn unlink(&self) {
        if self.stays {
            return;
        }
        if let Err(error) = self.shared.disk.remove(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start removes it.
            tracing::debug!(path = %self.path.display(), %error, "incoming name not removed");
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        for buffer in self.held.drain(..) {
            self.shared.give_buffer(buffer);
        }
        if !self.keep {
            self.unlink();
        }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("path", &self.path)
            .field("len", &self.len())
            .finish()
    }
}

/// The folder of a path in the image tree; refuses one that is not in it.
pub(super) fn folder_of<'a>(root: &Path, relative: &'a str) -> Result<&'a str, VolumeError> {
    let error = |error| VolumeError::io(&root.join(relative))(error);
    check_relative(relative).map_err(error)?;
    let top = relative.split('/').next().unwrap_or_default();
    match relative.rsplit_once('/') {
        Some((folder, _)) if !layout::is_own(top) || layout::holds_images(top) => Ok(folder),
        _ => Err(error(io::ErrorKind::InvalidInput.into())),
    }
}

/// Writes, direct if asked for; a file system that took the flag but refuses
/// the write gets it again through the page cache.
fn write_block(file: &DiskFile, direct: &mut bool, at: u64, bytes: &[u8]) -> io::Result<()> {
    match file.write_at(at, bytes) {
        Err(error) if *direct && error.kind() == io::ErrorKind::InvalidInput => {
            *direct = file.set_direct(false);
            file.write_at(at, bytes)
        }
        other => other,
    }
}

/// A buffer whose address suits direct I/O.
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    fill: usize,
    capacity: usize,
    /// Of the memory for data sets in flight; small ones have none, nor those that wait to be used again.
    share: Option<Share>,
}

impl Aligned {
    fn new(capacity: usize, share: Option<Share>) -> Aligned {
        let memory = vec![0; capacity + DIRECT_ALIGNMENT];
        // Without an answer the write is refused and goes through the cache.
        let start = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let start = if start < DIRECT_ALIGNMENT { start } else { 0 };
        Aligned {
            memory,
            start,
            fill: 0,
            capacity,
            share,
        }
    }

    fn clear(&mut self) {
        self.fill = 0;
    }

    fn is_full(&self) -> bool {
        self.fill == self.capacity
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.fill]
    }

    fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.start + self.fill..self.start + self.capacity]
    }
}

impl Shared {
    /// A large one; `None` where no memory is left for it. `is_needed`: not just one more.
    fn take_buffer(&self, is_needed: bool) -> Option<Aligned> {
        let share = match is_needed {
            true => memory::take(BUFFER_BYTES),
            false => memory::take_spare(BUFFER_BYTES),
        }?;
        let mut buffers = self.lock_buffers();
        Some(match buffers.pop() {
            Some(mut buffer) => {
                buffer.share = Some(share);
                buffer
            }
            None => {
                drop(buffers);
                Aligned::new(BUFFER_BYTES, Some(share))
            }
        })
    }

    fn give_buffer(&self, mut buffer: Aligned) {
        if buffer.share.take().is_none() {
            return;
        }
        buffer.clear();
        let mut buffers = self.lock_buffers();
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::io::Disk;
    use super::*;

    /// Method: buffers of both sizes in one another's place, as when memory is used up and there is some again.
    #[test]
    fn an_instance_held_in_buffers_of_two_sizes_is_read_back_whole() {
        let folder = tempfile::TempDir::new().unwrap();
        let volume = crate::volume::tests::new_volume(&Disk::default(), folder.path());
        let mut incoming = volume.begin().unwrap();
        let all: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut rest = all.as_slice();
        for (at, pieces) in [30usize, 7, 40, 1].into_iter().enumerate() {
            if at % 2 == 0 {
                let small = Aligned::new(SMALL_BYTES, None);
                // Only a full one has another behind it.
                let room = incoming.held.back().map_or(0, |b| b.capacity - b.fill);
                incoming.write(&rest[..room]).unwrap();
                rest = &rest[room..];
                incoming.held.push_back(small);
            }
            for _ in 0..pieces {
                let count = rest.len().min(50_001);
                incoming.write(&rest[..count]).unwrap();
                rest = &rest[count..];
            }
        }
        incoming.write(rest).unwrap();
        assert_eq!(incoming.len(), all.len() as u64);
        let mut back = Vec::new();
        let mut piece = vec![0; 300_007];
        loop {
            let count = incoming.read_at(back.len() as u64, &mut piece).unwrap();
            if count == 0 {
                break;
            }
            back.extend_from_slice(&piece[..count]);
        }
        assert!(back == all);
    }
}
