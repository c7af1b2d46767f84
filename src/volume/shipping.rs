//! Copies of a ledger on other disks, so that an absent or dead volume is never forgotten.
//!
//! A copy has the segments of its ledger under the same names and is, byte for byte, the beginning of it: it is read as
//! the ledger is read ([`super::ledger::read`]), and knows everything up to where it ends.
//!
//! # What a crash leaves
//!
//! Each piece is flushed before the next is written, and a segment is whole before the next begins. So only the last
//! piece can be torn. A caller who knows nothing of the copy ([`ship`]) has that piece compared with the ledger; for one
//! who kept the position of the last call ([`ship_after`]), which was flushed, a look at the length is enough.
//!
//! Whether a copy belongs to a ledger is asked of one line: each line has the checksum of the one before in its own, so
//! two ledgers with the same checksum at the same place are the same up to there.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::io::{Disk, DiskFile};
use super::layout;
use super::ledger::{LedgerError, Position};
use super::ledger_read::{LINE_BYTES_MAX, Scan, contains, segments};

/// Read, written and flushed at a time, in bytes; also how much of the end of an unknown copy is compared.
///
/// Longer than a line, so that what is compared holds the checksum of one; small, as two of them are held in memory.
const PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(PIECE_BYTES > LINE_BYTES_MAX);

/// What shipping did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    /// Where the copy ends; to be given to [`ship_after`] the next time.
    pub position: Position,
    /// Written to the copy.
    pub bytes: u64,
    pub state: CopyState,
}

/// What the copy is to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyState {
    /// The same up to the position asked for.
    InStep,
    /// The ledger is behind its copy (a disk restored from an older clone). The copy was left as it is.
    SourceBehind,
    /// The copy was of another ledger, or of this one before it was restored and went on otherwise. It is in the folder
    /// named here now, and a new copy is in its place.
    SetAside(PathBuf),
}

/// Brings the copy in `target_folder` up to `upto` of the ledger in `source_folder`; durable on return.
///
/// `upto` is a flushed position of the ledger; nothing after it is copied. The copy may be missing, of any age, or torn
/// by a crash. After an error it is still the beginning of the ledger, perhaps with a torn end; a later call completes
/// it.
///
/// One call at a time for a copy. Looks at the copy from the start; see [`ship_after`].
pub fn ship(
    source: &Disk,
    source_folder: &Path,
    target: &Disk,
    target_folder: &Path,
    upto: Position,
) -> Result<Shipped, LedgerError> {
    Pair::new(source, source_folder, target, target_folder).ship(None, upto)
}

/// As [`ship`], for a caller who kept the position of the last outcome of this copy (of this process).
///
/// When nothing is new, this is one `stat` of the copy; else only what is new is read. A copy that is not as it was left
/// (removed, or by a call that failed) is looked at from the start.
pub fn ship_after(
    last: Position,
    source: &Disk,
    source_folder: &Path,
    target: &Disk,
    target_folder: &Path,
    upto: Position,
) -> Result<Shipped, LedgerError> {
    Pair::new(source, source_folder, target, target_folder).ship(Some(last), upto)
}

/// Brings one segment of `target_folder`, which has its first `have` bytes or does not exist, up to `want` bytes; durable
/// on return.
pub(super) fn complete_segment(
    (source, source_folder): (&Disk, &Path),
    (target, target_folder): (&Disk, &Path),
    segment: u32,
    have: Option<u64>,
    want: u64,
) -> Result<(), LedgerError> {
    let pair = Pair::new(source, source_folder, target, target_folder);
    pair.append(segment, have, want, &mut Vec::new())
}

struct Pair<'a> {
    source: &'a Disk,
    source_folder: &'a Path,
    target: &'a Disk,
    target_folder: &'a Path,
    piece_bytes: usize,
}

/// What the copy was found to be.
enum Found {
    /// The ledger up to the position asked for.
    Whole,
    /// The beginning of the ledger; segments before this one are whole.
    Beginning(u32),
    /// The ledger and more; it ends here.
    More(Position),
    Other,
}

impl<'a> Pair<'a> {
    fn new(
        source: &'a Disk,
        source_folder: &'a Path,
        target: &'a Disk,
        target_folder: &'a Path,
    ) -> Pair<'a> {
        Pair {
            source,
            source_folder,
            target,
            target_folder,
            piece_bytes: PIECE_BYTES,
        }
    }

    fn ship(&self, last: Option<Position>, upto: Position) -> Result<Shipped, LedgerError> {
        let known = match last {
            Some(last) => self.look_after(last, upto)?,
            None => None,
        };
        let found = match known {
            Some(found) => found,
            None => self.look(upto)?,
        };
        let (position, bytes, state) = match found {
            Found::Whole => (upto, 0, CopyState::InStep),
            Found::Beginning(first) => (upto, self.fill(first, upto)?, CopyState::InStep),
            Found::More(end) => (end, 0, CopyState::SourceBehind),
            Found::Other => {
                let aside = self.set_aside()?;
                (upto, self.fill(1, upto)?, CopyState::SetAside(aside))
            }
        };
        Ok(Shipped {
            position,
            bytes,
            state,
        })
    }

    /// `None` when the copy does not end at `last`.
    fn look_after(&self, last: Position, upto: Position) -> Result<Option<Found>, LedgerError> {
        let as_left = last.segment > 0 && self.copy_len(last.segment)? == Some(last.offset);
        if !as_left {
            return Ok(None);
        }
        if upto == last {
            return Ok(Some(Found::Whole));
        }
        // A call that failed may have begun the next segment.
        if self.copy_len(last.segment + 1)?.is_some() {
            return Ok(None);
        }
        self.compare(last, upto).map(Some)
    }

    /// What a copy that ends at `end` is to the ledger up to `upto`: one line tells.
    fn compare(&self, end: Position, upto: Position) -> Result<Found, LedgerError> {
        let is_in = |disk, folder, position: Position| {
            Ok(position.segment == 0 || contains(disk, folder, position)?)
        };
        Ok(if place(end) > place(upto) {
            if is_in(self.target, self.target_folder, upto)? {
                Found::More(end)
            } else {
                Found::Other
            }
        } else if end == upto {
            Found::Whole
        } else if place(end) < place(upto) && is_in(self.source, self.source_folder, end)? {
            Found::Beginning(end.segment.max(1))
        } else {
            Found::Other
        })
    }

    /// Looks at a copy of which nothing is known, and cuts a torn end.
    fn look(&self, upto: Position) -> Result<Found, LedgerError> {
        let segments = segments(self.target, self.target_folder)?;
        let Some(last) = segments.last() else {
            return Ok(Found::Beginning(1));
        };
        // As when a ledger is opened: what a killed process wrote but did not flush must not count as durable, and
        // after a flush that failed memory and disk differ.
        let path = self.copy_path(*last);
        let file = self
            .target
            .open_write(&path)
            .map_err(LedgerError::io(&path))?;
        file.sync_data().map_err(LedgerError::io(&path))?;
        self.target
            .sync_dir(self.target_folder)
            .map_err(LedgerError::io(self.target_folder))?;
        file.forget_cached();
        if self.ends_like_the_ledger(&segments, upto)? {
            return Ok(Found::Beginning(1));
        }
        let (end, bad_lines) = self.last_line(&segments)?;
        let found = self.compare(end, upto)?;
        if !matches!(found, Found::Whole | Found::Beginning(_)) {
            return Ok(found);
        }
        // It is a copy of this ledger and torn behind `end`, or in the last piece before it.
        for segment in segments.into_iter().filter(|s| *s >= end.segment) {
            let cut = match segment == end.segment {
                true if bad_lines > 0 => end.offset.min(self.same_until(segment)?.0),
                true => end.offset,
                false => 0,
            };
            self.cut(segment, cut)?;
        }
        Ok(Found::Beginning(1))
    }

    /// Whether the last piece of the copy, back to a whole line, is the same in the ledger before `upto`. Then all of the
    /// copy is.
    fn ends_like_the_ledger(&self, segments: &[u32], upto: Position) -> Result<bool, LedgerError> {
        for &segment in segments.iter().rev() {
            let len = self.copy_len(segment)?.unwrap_or(0);
            if (segment, len) > place(upto) {
                return Ok(false);
            }
            let (same_until, has_line) = self.same_until(segment)?;
            if same_until < len {
                return Ok(false);
            }
            if has_line {
                break;
            }
        }
        Ok(true)
    }

    /// Compares the last piece of a segment of the copy: the offset up to which it is the same, and whether a line ends
    /// in it before.
    fn same_until(&self, segment: u32) -> Result<(u64, bool), LedgerError> {
        let copy = read_tail(self.target, &self.copy_path(segment), None)?;
        let ours = read_tail(self.source, &self.source_path(segment), Some(copy.start))?;
        let pairs = copy.bytes.iter().zip(&ours.bytes);
        let same = pairs.take_while(|(a, b)| a == b).count();
        let has_line = copy.bytes[..same].contains(&b'\n');
        Ok((copy.start + same as u64, has_line))
    }

    /// The end of the last good line of the copy, and how many bad ones its segment has before.
    fn last_line(&self, segments: &[u32]) -> Result<(Position, u64), LedgerError> {
        for &segment in segments.iter().rev() {
            let path = self.copy_path(segment);
            let file = self
                .target
                .open_read(&path)
                .map_err(LedgerError::io(&path))?;
            let mut scan = Scan::alone();
            let all = scan.segment(file, segment, 0, &mut |_, _| ControlFlow::Continue(()));
            let _ = all.map_err(LedgerError::io(&path))?;
            if scan.end.segment == segment {
                return Ok((scan.end, scan.bad_lines));
            }
        }
        Ok((Position::default(), 0))
    }

    fn cut(&self, segment: u32, len: u64) -> Result<(), LedgerError> {
        let path = self.copy_path(segment);
        let cut = || {
            let file = self.target.open_write(&path)?;
            if file.len()? > len {
                file.set_len(len)?;
                file.sync_data()?;
            }
            Ok(())
        };
        cut().map_err(LedgerError::io(&path))
    }

    /// Copies what the copy lacks in the segments from `first` up to `upto`; how many bytes that was.
    fn fill(&self, first: u32, upto: Position) -> Result<u64, LedgerError> {
        let mut bytes = 0;
        let mut buffer = Vec::new();
        for segment in first..=upto.segment {
            let path = self.source_path(segment);
            let whole = self.source.entry(&path).map_err(LedgerError::io(&path))?;
            let want = match whole {
                _ if segment == upto.segment => upto.offset,
                Some(entry) => entry.len,
                // The ledger has lost it; perhaps the copy still has it.
                None => continue,
            };
            let have = self.copy_len(segment)?;
            if have.unwrap_or(0) < want {
                self.append(segment, have, want, &mut buffer)?;
                bytes += want - have.unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    fn append(
        &self,
        segment: u32,
        have: Option<u64>,
        want: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), LedgerError> {
        let from = self.source_path(segment);
        let source = self
            .source
            .open_read(&from)
            .map_err(LedgerError::io(&from))?;
        let path = self.copy_path(segment);
        let on_target = |result: std::io::Result<()>| result.map_err(LedgerError::io(&path));
        let file = match have {
            Some(_) => self.target.open_write(&path),
            None => self
                .target
                .create_dir_durable(self.target_folder)
                .and_then(|()| self.target.create_new(&path)),
        };
        let file = file.map_err(LedgerError::io(&path))?;
        let mut at = have.unwrap_or(0);
        let mut is_named = have.is_some();
        while at < want {
            let left = usize::try_from(want - at).unwrap_or(usize::MAX);
            buffer.resize(self.piece_bytes.min(left), 0);
            source
                .read_exact_at(buffer, at)
                .map_err(LedgerError::io(&from))?;
            on_target(file.write_at(at, buffer))?;
            // Before the next piece, so that a power cut tears this one only.
            on_target(file.sync_data())?;
            at += buffer.len() as u64;
            if !is_named {
                on_target(self.target.sync_dir(self.target_folder))?;
                is_named = true;
            }
        }
        Ok(())
    }

    /// Gives the folder of the copy another name, durable on return.
    fn set_aside(&self) -> Result<PathBuf, LedgerError> {
        let folder = self.target_folder;
        let rename = || {
            let mut n = 1;
            let aside = loop {
                let aside = layout::ledger_aside(folder, n);
                if self.target.entry(&aside)?.is_none() {
                    break aside;
                }
                n += 1;
            };
            self.target.rename(folder, &aside)?;
            if let Some(parent) = folder.parent() {
                self.target.sync_dir(parent)?;
            }
            Ok(aside)
        };
        rename().map_err(LedgerError::io(folder))
    }

    fn source_path(&self, segment: u32) -> PathBuf {
        self.source_folder.join(layout::segment_file(segment))
    }

    fn copy_path(&self, segment: u32) -> PathBuf {
        self.target_folder.join(layout::segment_file(segment))
    }

    /// `None` when the copy does not have the segment.
    fn copy_len(&self, segment: u32) -> Result<Option<u64>, LedgerError> {
        let path = self.copy_path(segment);
        let entry = self.target.entry(&path).map_err(LedgerError::io(&path))?;
        Ok(entry.map(|entry| entry.len))
    }
}

pub(super) fn place(position: Position) -> (u32, u64) {
    (position.segment, position.offset)
}

/// A piece of a file and where it begins.
struct Tail {
    start: u64,
    bytes: Vec<u8>,
}

/// The last piece of a file, or the one that begins at `start`; nothing of a file that is missing.
fn read_tail(disk: &Disk, path: &Path, start: Option<u64>) -> Result<Tail, LedgerError> {
    let read = || {
        let file: DiskFile = match disk.open_read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Tail {
                    start: start.unwrap_or(0),
                    bytes: Vec::new(),
                });
            }
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        let start = start.unwrap_or(len.saturating_sub(PIECE_BYTES as u64));
        let count = len.saturating_sub(start).min(PIECE_BYTES as u64);
        let mut bytes = vec![0; count as usize];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Tail { start, bytes })
    };
    read().map_err(LedgerError::io(path))
}

#[cfg(test)]
mod tests;
