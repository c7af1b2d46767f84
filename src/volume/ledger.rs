//! The list of what must be on a volume: append, one flush for all who wait.
//!
//! Knows nothing of what a line means. The form of a line and reading are in
//! `ledger_read.rs`.
//!
//! # What a power cut leaves
//!
//! Lines are only ever added at the end of the last segment, and every position
//! given out was flushed before. So whatever is damaged after the last flush is
//! a torn tail: it is copied aside and cut when the ledger is opened. Damage
//! before it is skipped by the reader and never cut.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::io::{Disk, DiskFile};
use super::layout;
pub use super::ledger_read::{LINE_BYTES_MAX, Position, ReadReport, read};
use super::ledger_read::{Scan, put_line, segments};
use super::recent::{Group, Recent};

/// A segment that has reached this size is followed by a new one, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// What keeps a line from becoming durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    #[error("ledger {}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: Arc<io::Error>,
    },
    /// The line is certainly not on the disk; the ledger can still be used.
    #[error("ledger {}: no space left; the line was not written", path.display())]
    Full { path: PathBuf },
    /// The line may or may not be on the disk, so what it speaks of must stay.
    #[error("ledger {}: {reason}; nothing is written to it until the volume is opened again", path.display())]
    Failed { path: PathBuf, reason: String },
    #[error("a line of {bytes} bytes was not written to the ledger: {reason}")]
    BadLine { bytes: usize, reason: &'static str },
}

impl LedgerError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
        let path = path.to_owned();
        move |source| LedgerError::Io {
            path,
            source: Arc::new(source),
        }
    }
}

/// Called with the items of a group, in ledger order, once they are durable and
/// before anyone who waits for them returns.
pub type AfterFlush<T> = Box<dyn Fn(Vec<(T, Position)>) + Send + Sync>;

/// A line with the lines that must be in the same segment before it (each with its key), and its item.
pub type WithOnce<T> = (Vec<(u64, String)>, String, T);

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Damaged lines in the last segment that have good ones after them.
    pub bad_lines: u64,
    /// Length of the torn tail that was cut, in bytes, and where it was copied.
    pub torn_bytes: u64,
    pub torn_file: Option<PathBuf>,
}

/// A ledger open for appending. There is only one for a folder at a time: the
/// volume's lock sees to that.
pub struct Ledger<T> {
    disk: Disk,
    folder: PathBuf,
    segment_bytes: u64,
    after_flush: AfterFlush<T>,
    opened: Opened,
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Held while `after_flush` runs; taken in ledger order.
    after: Mutex<()>,
    /// Only the leader of a group takes it.
    writer: Mutex<Writer>,
    recent: Mutex<Recent>,
}

struct State<T> {
    waiting: Vec<Waiting<T>>,
    /// Somebody is writing a group.
    has_leader: bool,
    next_ticket: u64,
    finished: HashMap<u64, Result<Position, LedgerError>>,
    failure: Option<LedgerError>,
    position: Position,
}

struct Waiting<T> {
    ticket: u64,
    once: Vec<(u64, String)>,
    line: String,
    item: T,
}

struct Writer {
    /// `None` before the first line of the ledger.
    file: Option<DiskFile>,
    end: Position,
    /// Keys of the `once` lines in this segment. Empty after opening: a line
    /// that is there twice does no harm.
    keys: HashSet<u64>,
}

impl<T: Send> Ledger<T> {
    /// Opens the ledger in `folder`, which is created when missing.
    ///
    /// A torn tail is copied to `torn-<segment>-<offset>.bytes` and cut.
    pub fn open(
        disk: &Disk,
        folder: &Path,
        after_flush: AfterFlush<T>,
    ) -> Result<Ledger<T>, LedgerError> {
        Ledger::open_with(disk, folder, after_flush, SEGMENT_BYTES)
    }

    /// As [`Ledger::open`] with another size of segments.
    pub fn open_with(
        disk: &Disk,
        folder: &Path,
        after_flush: AfterFlush<T>,
        segment_bytes: u64,
    ) -> Result<Ledger<T>, LedgerError> {
        disk.create_dir_durable(folder)
            .map_err(LedgerError::io(folder))?;
        let mut opened = Opened::default();
        let mut file = None;
        let mut tail = Tail::default();
        if let Some(last) = segments(disk, folder)?.last().copied() {
            let path = folder.join(layout::segment_file(last));
            let segment = disk.open_write(&path).map_err(LedgerError::io(&path))?;
            // What an earlier process wrote but did not flush (it was killed) is
            // visible now and would be taken for durable; make that true. Then
            // read what is on the disk, not what memory remembers: after a
            // flush that failed these differ.
            segment.sync_data().map_err(LedgerError::io(&path))?;
            disk.sync_dir(folder).map_err(LedgerError::io(folder))?;
            segment.forget_cached();
            tail = find_tail(disk, folder, last)?;
            let (end, len) = (tail.end, segment.len().map_err(LedgerError::io(&path))?);
            if len > end.offset {
                let aside =
                    copy_aside(disk, folder, &segment, end, len).map_err(LedgerError::io(&path))?;
                segment
                    .set_len(end.offset)
                    .map_err(LedgerError::io(&path))?;
                // Else the tail comes back after a power cut, behind new lines.
                segment.sync_data().map_err(LedgerError::io(&path))?;
                opened.torn_bytes = len - end.offset;
                opened.torn_file = Some(aside);
            }
            opened.bad_lines = tail.bad_lines;
            file = Some(segment);
        }
        let ledger = Ledger::new(disk, folder, after_flush, segment_bytes, file, &tail);
        Ok(Ledger { opened, ..ledger })
    }

    /// A ledger on a disk that cannot be written: its position is known, every
    /// append fails with `reason`.
    pub fn read_only(
        disk: &Disk,
        folder: &Path,
        after_flush: AfterFlush<T>,
        reason: &str,
    ) -> Result<Ledger<T>, LedgerError> {
        let tail = match segments(disk, folder)?.last() {
            Some(last) => find_tail(disk, folder, *last)?,
            None => Tail::default(),
        };
        let ledger = Ledger::new(disk, folder, after_flush, SEGMENT_BYTES, None, &tail);
        ledger.lock().failure = Some(ledger.failed_because(reason));
        Ok(ledger)
    }

    fn new(
        disk: &Disk,
        folder: &Path,
        after_flush: AfterFlush<T>,
        segment_bytes: u64,
        file: Option<DiskFile>,
        tail: &Tail,
    ) -> Ledger<T> {
        Ledger {
            disk: disk.clone(),
            folder: folder.to_owned(),
            segment_bytes,
            after_flush,
            opened: Opened::default(),
            state: Mutex::new(State {
                waiting: Vec::new(),
                has_leader: false,
                next_ticket: 0,
                finished: HashMap::new(),
                failure: None,
                position: tail.position,
            }),
            changed: Condvar::new(),
            after: Mutex::new(()),
            writer: Mutex::new(Writer {
                file,
                end: tail.end,
                keys: HashSet::new(),
            }),
            recent: Mutex::default(),
        }
    }

    /// What opening found and did.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// After the last durable line.
    pub fn position(&self) -> Position {
        self.lock().position
    }

    /// The lines after `position` from memory, as they were flushed; `None` when they are not all there.
    pub fn recent(&self, position: Position) -> Option<Vec<Group>> {
        self.lock_recent().after(position)
    }

    /// Lines up to there need not be kept in memory.
    pub fn forget_recent(&self, upto: Position) {
        self.lock_recent().forget(upto);
    }

    fn lock_recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a flush failed. Nothing is written any more.
    pub fn failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Appends `line`, a JSON object `{…}` with at least one member and no line
    /// break, and returns the position after it once it is durable.
    ///
    /// `once` are lines that must be in the same segment before it, each with a
    /// key; one whose key this segment has is not written again.
    ///
    /// Whoever comes while a flush is under way waits and then shares the next.
    pub fn append(
        &self,
        once: &[(u64, String)],
        line: String,
        item: T,
    ) -> Result<Position, LedgerError> {
        self.append_all(vec![(once.to_vec(), line, item)])
    }

    /// As [`Ledger::append`] for many lines, which share one flush: all of them become durable, or none counts.
    pub fn append_all(&self, lines: Vec<WithOnce<T>>) -> Result<Position, LedgerError> {
        for (once, line, _) in &lines {
            for text in once.iter().map(|(_, text)| text).chain([line]) {
                check_line(text)?;
            }
        }
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if lines.is_empty() {
            return Ok(state.position);
        }
        let first = state.next_ticket;
        for (once, line, item) in lines {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.push(Waiting {
                ticket,
                once,
                line,
                item,
            });
        }
        // They wait together, so one group takes them all.
        let last = state.next_ticket - 1;
        loop {
            if let Some(result) = state.finished.remove(&last) {
                for ticket in first..last {
                    state.finished.remove(&ticket);
                }
                return result;
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.has_leader {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.has_leader = true;
            let group = std::mem::take(&mut state.waiting);
            drop(state);
            self.lead(group);
            state = self.lock();
        }
    }

    /// Writes a group, flushes it, and leaves each waiter its result.
    fn lead(&self, group: Vec<Waiting<T>>) {
        // Should `after_flush` panic, nobody may wait for ever.
        let mut guard = LeaderGuard {
            ledger: self,
            leads: true,
            done: false,
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.write_group(&mut writer, &group);
        let end = writer.end;
        drop(writer);
        let tickets: Vec<u64> = group.iter().map(|waiting| waiting.ticket).collect();
        // The place in the queue for `after_flush` is taken while nobody else leads, so groups pass through it in
        // ledger order; the next group is flushed meanwhile.
        let turn = self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        match &written {
            Err(error @ LedgerError::Failed { .. }) => {
                state.failure = Some(error.clone());
                state.waiting.clear();
            }
            Err(_) => {}
            Ok(_) => state.position = end,
        }
        state.has_leader = false;
        guard.leads = false;
        drop(state);
        self.changed.notify_all();
        let results = match written {
            Ok(positions) => {
                let items = group.into_iter().map(|waiting| waiting.item);
                let items = items.zip(positions.iter().copied()).collect();
                (self.after_flush)(items);
                positions.into_iter().map(Ok).collect()
            }
            Err(error) => vec![Err(error); tickets.len()],
        };
        // Before the next group can say that it failed: this one did not.
        self.lock()
            .finished
            .extend(tickets.into_iter().zip(results));
        guard.done = true;
        drop(turn);
        self.changed.notify_all();
    }

    /// One write and one flush for the whole group.
    fn write_group(
        &self,
        writer: &mut Writer,
        group: &[Waiting<T>],
    ) -> Result<Vec<Position>, LedgerError> {
        let is_new = writer.file.is_none() || writer.end.offset >= self.segment_bytes;
        let mut end = writer.end;
        let mut bytes = Vec::new();
        if is_new {
            end.segment += 1;
            end.offset = 0;
        }
        let start = end.offset;
        if start == 0 {
            end.chain = put_line(&mut bytes, end.chain, &self.header(end));
        }
        let known = if is_new {
            HashSet::new()
        } else {
            std::mem::take(&mut writer.keys)
        };
        let mut added = HashSet::new();
        let mut positions = Vec::with_capacity(group.len());
        for waiting in group {
            for (key, text) in &waiting.once {
                if !known.contains(key) && added.insert(*key) {
                    end.chain = put_line(&mut bytes, end.chain, text);
                }
            }
            end.chain = put_line(&mut bytes, end.chain, &waiting.line);
            end.offset = start + bytes.len() as u64;
            positions.push(end);
        }
        let result = if is_new {
            self.write_new_segment(writer, end.segment, &bytes)
        } else {
            self.write_at_end(writer, start, &bytes)
        };
        if result.is_ok() {
            self.lock_recent().push(writer.end, start, bytes, end);
            writer.end = end;
            writer.keys = known;
            writer.keys.extend(added);
        } else if !is_new {
            writer.keys = known;
        }
        result.map(|()| positions)
    }

    fn header(&self, position: Position) -> String {
        let volume = self.folder.file_name().unwrap_or_default();
        let volume = serde_json::Value::from(volume.to_string_lossy());
        let Position { segment, chain, .. } = position;
        format!(
            "{{\"ledger\":1,\"volume\":{volume},\"segment\":{segment},\"previous\":\"{chain:08x}\"}}"
        )
    }

    fn write_at_end(&self, writer: &Writer, at: u64, bytes: &[u8]) -> Result<(), LedgerError> {
        let Some(file) = &writer.file else {
            return Err(self.failed_because("no segment is open"));
        };
        if let Err(error) = file.write_at(at, bytes) {
            if !is_full(&error) {
                return Err(self.failed_because(&format!("write failed: {error}")));
            }
            // Some of the lines may be in the file. They speak of instances
            // that will be stored elsewhere, so they must not come back, not
            // even after a power cut: cut and flush.
            let undone = file.set_len(at).and_then(|()| file.sync_data());
            return Err(match undone {
                Ok(()) => self.full(),
                Err(error) => self.failed_because(&format!("cannot cut the segment: {error}")),
            });
        }
        // The promise: 0000H is only answered after this.
        file.sync_data()
            .map_err(|error| self.failed_because(&format!("flush failed: {error}")))
    }

    fn write_new_segment(
        &self,
        writer: &mut Writer,
        segment: u32,
        bytes: &[u8],
    ) -> Result<(), LedgerError> {
        let path = self.folder.join(layout::segment_file(segment));
        let file = match self.disk.create_new(&path) {
            Ok(file) => file,
            Err(error) if is_full(&error) => return Err(self.full()),
            Err(error) => {
                return Err(self.failed_because(&format!("cannot begin a segment: {error}")));
            }
        };
        if let Err(error) = file.write_at(0, bytes) {
            if !is_full(&error) {
                return Err(self.failed_because(&format!("write failed: {error}")));
            }
            // As above; a segment that was never flushed is removed as a whole.
            let removed = file
                .set_len(0)
                .and_then(|()| self.disk.remove(&path))
                .and_then(|()| self.disk.sync_dir(&self.folder));
            return Err(match removed {
                Ok(()) => self.full(),
                Err(error) => self.failed_because(&format!("cannot remove a segment: {error}")),
            });
        }
        // Both: the content, and the name by which it is found again.
        file.sync_data()
            .and_then(|()| self.disk.sync_dir(&self.folder))
            .map_err(|error| self.failed_because(&format!("flush failed: {error}")))?;
        writer.file = Some(file);
        Ok(())
    }

    fn full(&self) -> LedgerError {
        LedgerError::Full {
            path: self.folder.clone(),
        }
    }

    fn failed_because(&self, reason: &str) -> LedgerError {
        LedgerError::Failed {
            path: self.folder.clone(),
            reason: reason.to_owned(),
        }
    }
}

impl<T> Ledger<T> {
    /// The state is changed in one go by each holder, so a panic elsewhere
    /// leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LeaderGuard<'a, T> {
    ledger: &'a Ledger<T>,
    /// Nobody else may write a group yet.
    leads: bool,
    done: bool,
}

impl<T> Drop for LeaderGuard<'_, T> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.ledger.lock();
        state.failure = Some(LedgerError::Failed {
            path: self.ledger.folder.clone(),
            reason: "the thread that wrote a group of lines ended in a panic".to_owned(),
        });
        state.waiting.clear();
        if self.leads {
            state.has_leader = false;
        }
        drop(state);
        self.ledger.changed.notify_all();
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn check_line(text: &str) -> Result<(), LedgerError> {
    let reason = if !text.starts_with("{\"") || !text.ends_with('}') {
        "not an object with members"
    } else if text.starts_with("{\"ledger\":") {
        "looks like the header of a segment"
    } else if text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        "contains a line break"
    } else if text.len() + 32 > LINE_BYTES_MAX {
        "too long"
    } else {
        return Ok(());
    };
    Err(LedgerError::BadLine {
        bytes: text.len(),
        reason,
    })
}

/// Where the good lines of a ledger end.
#[derive(Default)]
struct Tail {
    /// After the last good line.
    position: Position,
    /// Where the next line goes: the same, or the start of a segment that was
    /// begun but has not even a whole header.
    end: Position,
    bad_lines: u64,
}

fn find_tail(disk: &Disk, folder: &Path, last: u32) -> Result<Tail, LedgerError> {
    let scan_one = |segment: u32, mut scan: Scan| {
        let path = folder.join(layout::segment_file(segment));
        let file = disk.open_read(&path).map_err(LedgerError::io(&path))?;
        let flow = scan.segment(file, segment, 0, &mut |_, _| ControlFlow::Continue(()));
        let _ = flow.map_err(LedgerError::io(&path))?;
        Ok::<_, LedgerError>(scan)
    };
    let found = |scan: Scan| Tail {
        position: scan.end,
        end: scan.end,
        bad_lines: scan.bad_lines,
    };
    let scan = scan_one(last, Scan::alone())?;
    if scan.end.segment == last {
        return Ok(found(scan));
    }
    let position = match segments(disk, folder)?.into_iter().rev().nth(1) {
        Some(before) => scan_one(before, Scan::alone())?.end,
        None => Position::default(),
    };
    // Its header is damaged, and a single line behind it has only the segment before to go by.
    let scan = scan_one(last, Scan::new(position))?;
    if scan.end.segment == last {
        return Ok(found(scan));
    }
    // A power cut while the segment was begun. It is begun again, chained to
    // the one before.
    Ok(Tail {
        position,
        end: Position {
            segment: last,
            offset: 0,
            chain: position.chain,
        },
        bad_lines: 0,
    })
}

/// Copies what is after `end` to a file beside the segment; durable on return.
fn copy_aside(
    disk: &Disk,
    folder: &Path,
    segment: &DiskFile,
    end: Position,
    len: u64,
) -> io::Result<PathBuf> {
    let base = format!("torn-{:08}-{}", end.segment, end.offset);
    let mut path = folder.join(format!("{base}.bytes"));
    let mut n = 1;
    let aside = loop {
        match disk.create_new(&path) {
            Ok(aside) => break aside,
            // Of an earlier opening, cut short before the tail was cut.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n < 1000 => {
                n += 1;
                path = folder.join(format!("{base}-{n}.bytes"));
            }
            Err(error) => return Err(error),
        }
    };
    let mut buffer = vec![0; 256 * 1024];
    let mut at = end.offset;
    while at < len {
        let count = segment.read_at(at, &mut buffer)?;
        if count == 0 {
            break;
        }
        aside.write_at(at - end.offset, &buffer[..count])?;
        at += count as u64;
    }
    // Before the original is cut the copy must be durable, name included.
    aside.sync_data()?;
    disk.sync_dir(folder)?;
    Ok(path)
}

#[cfg(test)]
mod tests;
