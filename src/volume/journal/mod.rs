//! The intake journal: one file, written again and again from beginning to end, into which instances go with one flush.
//!
//! The file is written once in full when it is made, so that an append changes neither its length nor the map of its blocks,
//! and `fdatasync` is one flush of the disk. Whoever waits at the same moment shares it. What was appended stays until
//! [`Journal::free`], called when the instance has its file and its ledger line, and its room is used again once a mark that
//! says so is durable.
//!
//! ```text
//! header │ mark │ mark │ record … │ record … │            (each at a multiple of 4,096 bytes)
//! ```
//!
//! What a power cut leaves: every record whose append returned, whole. Records that were being written may be torn anywhere,
//! also before a good one of another sender: each is found by itself, and is good or not by its own checksums. A record says
//! up to which number all were durable when it was written; one of these that is missing is damage, not a torn end.

mod record;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::io::{Disk, DiskFile};
use record::{BLOCK_BYTES, Head, Header, Mark, blocks};

/// The name of the file in its folder.
pub const FILE: &str = "intake.journal";
/// Begins the name of one that was set aside.
pub const ASIDE_PREFIX: &str = "intake.damaged-";
/// While it is written for the first time.
const NEW_FILE: &str = "intake.journal.new";
const SIZE_MIN: u64 = 32 * BLOCK_BYTES;
const SIZE_MAX: u64 = 1 << 40;
/// What describes an instance beside its bytes: a ledger line and some numbers.
pub const ABOUT_BYTES_MAX: usize = 1 << 20;
/// Journals of one folder that were set aside.
const ASIDE_MAX: u32 = 1_000;
/// The first record's place: after the header and two marks.
const RING_START: u64 = 3 * BLOCK_BYTES;

#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    #[error("the intake journal {path}: {reason}")]
    Io { path: PathBuf, reason: String },
    /// Nothing of it was read, and nothing changed.
    #[error("{path} is not the intake journal of this volume: {reason}; it was left as it is")]
    NotOurs { path: PathBuf, reason: String },
    /// Nothing is taken: a flush or a write failed, so that it is not known what is on the disk; or what was found in it
    /// was not carried over yet.
    #[error("the intake journal {path} is closed: {reason}")]
    Failed { path: PathBuf, reason: String },
    /// There was no room in the time given.
    #[error("the intake journal {path} is full")]
    Full { path: PathBuf },
    #[error("an instance of {bytes} bytes does not fit into the intake journal {path}")]
    TooLarge { path: PathBuf, bytes: u64 },
}

/// A record that was in the journal when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub number: u64,
    /// What was said of the bytes when they were appended.
    pub about: Vec<u8>,
    pub data_bytes: u64,
}

/// What opening a journal found in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// In the order in which they were appended.
    pub records: Vec<Found>,
    /// Numbers of records that were durable once and cannot be read: damage. The others are good all the same.
    pub damaged: Vec<u64>,
}

/// An open journal. All calls may come from any thread.
pub struct Journal {
    file: DiskFile,
    disk: Disk,
    path: PathBuf,
    id: [u8; 16],
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Records that are not free, in the order of their numbers.
    live: VecDeque<Live>,
    next_number: u64,
    /// Where the next record goes, if there is room.
    head: u64,
    /// Up to here room may be used again: the place of the oldest record by the last mark that is durable.
    durable_tail: Tail,
    /// By the last mark that was written.
    marked_tail: Tail,
    marks: u64,
    /// How many of the marks are durable.
    durable_marks: u64,
    /// The last mark says that there is nothing.
    clean: bool,
    /// What was found at the opening is carried over, and a durable mark says so: numbers of records that were torn then
    /// do not come up again.
    ready: bool,
    flushing: bool,
    flushes: u64,
    failure: Option<String>,
}

/// The oldest record: its number and place. With nothing in the journal, those of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail {
    number: u64,
    at: u64,
}

struct Live {
    number: u64,
    at: u64,
    data_at: u64,
    data_bytes: u64,
    stage: Stage,
    /// Who reads it keeps its room.
    pin: Arc<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    Written,
    Durable,
    Free,
}

/// The bytes of one record, readable as long as this is held.
pub struct Reading<'a> {
    journal: &'a Journal,
    data_at: u64,
    data_bytes: u64,
    _pin: Arc<()>,
}

impl Reading<'_> {
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Reads up to `out.len()` bytes of the data; 0 at its end.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let left = self.data_bytes.saturating_sub(offset);
        let count = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let file = &self.journal.file;
        file.read_at(self.data_at + offset, &mut out[..count])
    }
}

impl Journal {
    /// Opens the journal in `folder`, or makes one of `size_bytes`, rounded up. One that is there keeps its size.
    ///
    /// `owner`: the id of the volume that it belongs to, at most 64 bytes. What it was doing when it was last used is
    /// told in the [`Replay`]; its records stay until they are freed.
    pub fn open(
        disk: &Disk,
        folder: &Path,
        owner: &str,
        size_bytes: u64,
    ) -> Result<(Journal, Replay), JournalError> {
        if let Some(opened) = Journal::open_existing(disk, folder, owner)? {
            return Ok(opened);
        }
        let path = folder.join(FILE);
        let made = make(disk, folder, owner, size_bytes);
        made.map_err(|source| JournalError::Io {
            path: path.clone(),
            reason: source.to_string(),
        })?;
        let opened = Journal::open_existing(disk, folder, owner)?;
        opened.ok_or_else(|| JournalError::Io {
            path,
            reason: "it is gone again".to_owned(),
        })
    }

    /// As [`Journal::open`]; None where there is none.
    pub fn open_existing(
        disk: &Disk,
        folder: &Path,
        owner: &str,
    ) -> Result<Option<(Journal, Replay)>, JournalError> {
        let path = folder.join(FILE);
        let fail = |source: io::Error| JournalError::Io {
            path: path.clone(),
            reason: source.to_string(),
        };
        if disk.entry(&path).map_err(fail)?.is_none() {
            return Ok(None);
        }
        let file = disk.open_write(&path).map_err(fail)?;
        // What an earlier process could not flush may be in memory and not on the disk.
        file.forget_cached();
        let not_ours = |reason: String| JournalError::NotOurs {
            path: path.clone(),
            reason,
        };
        let mut block = [0; BLOCK_BYTES as usize];
        file.read_exact_at(&mut block, 0)
            .map_err(|error| not_ours(error.to_string()))?;
        let header = Header::decode(&block).map_err(|reason| not_ours(reason.to_owned()))?;
        if header.owner != owner {
            return Err(not_ours(format!("it is that of volume {}", header.owner)));
        }
        if file.len().map_err(fail)? != header.size || header.size > SIZE_MAX {
            return Err(not_ours("it has another size than it says".to_owned()));
        }
        let mut mark = Mark {
            count: 0,
            number: 1,
            at: RING_START,
            clean: false,
        };
        for place in [1, 2] {
            file.read_exact_at(&mut block, place * BLOCK_BYTES)
                .map_err(fail)?;
            match Mark::decode(&block, &header.id) {
                Some(other) if other.count > mark.count && other.at < header.size => mark = other,
                _ => {}
            }
        }
        let journal = Journal {
            file,
            disk: disk.clone(),
            path: path.clone(),
            id: header.id,
            size: header.size,
            state: Mutex::new(State::at(mark)),
            changed: Condvar::new(),
        };
        let replay = match mark.clean {
            true => Replay::default(),
            false => journal.find(mark),
        };
        Ok(Some((journal, replay)))
    }

    /// Looks for records from the mark's number on, in the whole file.
    fn find(&self, mark: Mark) -> Replay {
        let mut found: Vec<(Head, u64, Vec<u8>)> = Vec::new();
        let mut block = [0; BLOCK_BYTES as usize];
        let mut at = RING_START;
        // All that is known to have been durable, and how far: also by records that are damaged themselves.
        let mut durable_upto = mark.number - 1;
        let mut highest = durable_upto;
        while at < self.size {
            let mut next = at + BLOCK_BYTES;
            // What the disk cannot read is no record.
            let read = self.file.read_exact_at(&mut block, at);
            if read.is_ok()
                && let Some(head) = Head::decode(&block, &self.id, at)
                && head.number >= mark.number
                && at + head.length() <= self.size
            {
                durable_upto = durable_upto.max(head.durable_upto);
                highest = highest.max(head.number);
                if let Some(about) = self.whole(&head, at) {
                    next = at + head.length();
                    found.push((head, at, about));
                }
            }
            at = next;
        }
        found.sort_by_key(|(head, ..)| head.number);
        found.dedup_by_key(|(head, ..)| head.number);
        let mut damaged = Vec::new();
        let numbers: std::collections::HashSet<u64> =
            found.iter().map(|(head, ..)| head.number).collect();
        // Bounded by what fits: each record has at least a block.
        let most = self.size / BLOCK_BYTES;
        for number in (mark.number..=durable_upto).take(most as usize) {
            if !numbers.contains(&number) {
                damaged.push(number);
            }
        }
        let mut state = self.lock();
        let mut records = Vec::new();
        for (head, at, about) in found {
            state.head = at + head.length();
            records.push(Found {
                number: head.number,
                about,
                data_bytes: head.data_bytes,
            });
            state.live.push_back(Live {
                number: head.number,
                at,
                data_at: at + head.data_offset(),
                data_bytes: head.data_bytes,
                stage: Stage::Durable,
                pin: Arc::new(()),
            });
        }
        // Above all that was ever begun, also what is torn: a number stands for one record.
        state.next_number = highest + 1;
        state.ready = highest < mark.number;
        drop(state);
        Replay { records, damaged }
    }

    /// What is said in a record, if all of it is as it was written.
    fn whole(&self, head: &Head, at: u64) -> Option<Vec<u8>> {
        let mut about = vec![0; head.about_bytes as usize];
        self.file
            .read_exact_at(&mut about, at + Head::BYTES as u64)
            .ok()?;
        if crc32fast::hash(&about) != head.about_crc32 {
            return None;
        }
        let mut crc = crc32fast::Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut done = 0;
        while done < head.data_bytes {
            let count = buffer.len().min((head.data_bytes - done) as usize);
            let place = at + head.data_offset() + done;
            self.file.read_exact_at(&mut buffer[..count], place).ok()?;
            crc.update(&buffer[..count]);
            done += count as u64;
        }
        (crc.finalize() == head.data_crc32).then_some(about)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that records can have together.
    pub fn capacity(&self) -> u64 {
        self.size - RING_START
    }

    /// Records that are not free yet.
    pub fn records_count(&self) -> usize {
        let state = self.lock();
        let kept = state.live.iter().filter(|live| live.stage != Stage::Free);
        kept.count()
    }

    /// Flushes since it was opened: for benches that count them.
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    /// Whether nothing more is taken.
    pub fn failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Appends an instance and returns its number once it is durable. `about`: what is needed to give it its file and its
    /// ledger line; `data`: its bytes, in pieces.
    ///
    /// Only after what was found at the opening was freed and [`Journal::settle`] has returned.
    ///
    /// Whoever comes while a flush is under way waits and then shares the next. Where there is no room it waits until
    /// enough was freed, at most `patience`.
    pub fn append(
        &self,
        about: &[u8],
        data: &[&[u8]],
        patience: Duration,
    ) -> Result<u64, JournalError> {
        let data_bytes = data.iter().map(|piece| piece.len() as u64).sum();
        let length = blocks(Head::BYTES as u64 + about.len() as u64 + data_bytes);
        // Half of it at most: else a record that ends up beside the end of the file may never find room.
        if about.len() > ABOUT_BYTES_MAX || length > self.capacity() / 2 {
            return Err(JournalError::TooLarge {
                path: self.path.clone(),
                bytes: data_bytes,
            });
        }
        let mut data_crc = crc32fast::Hasher::new();
        data.iter().for_each(|piece| data_crc.update(piece));
        let (number, at, durable_upto) = self.reserve(length, about, data_bytes, patience)?;
        let head = Head {
            id: self.id,
            number,
            at,
            durable_upto,
            about_bytes: about.len() as u32,
            about_crc32: crc32fast::hash(about),
            data_bytes,
            data_crc32: data_crc.finalize(),
        };
        if let Err(error) = self.write(&head, about, data, at) {
            // The room is lost until the next opening, as whoever comes later is told: nothing may be written there now.
            let mut state = self.lock();
            state.settle(number, Stage::Free);
            let error = self.fail(&mut state, &format!("writing failed: {error}"));
            self.changed.notify_all();
            return Err(error);
        }
        self.flushed(number)
    }

    fn write(&self, head: &Head, about: &[u8], data: &[&[u8]], at: u64) -> io::Result<()> {
        let mut start = head.encode();
        start.extend_from_slice(about);
        let mut place = at;
        // What is small goes with the head: one call.
        let mut pieces = data.iter();
        for piece in pieces.by_ref() {
            if start.len() + piece.len() > BLOCK_BYTES as usize * 4 {
                self.file.write_at(place, &start)?;
                place += start.len() as u64;
                start.clear();
                self.file.write_at(place, piece)?;
                place += piece.len() as u64;
            } else {
                start.extend_from_slice(piece);
            }
        }
        if !start.is_empty() {
            self.file.write_at(place, &start)?;
        }
        Ok(())
    }

    /// Waits for room and takes it: number, place, and up to which number all records are durable.
    fn reserve(
        &self,
        length: u64,
        about: &[u8],
        data_bytes: u64,
        patience: Duration,
    ) -> Result<(u64, u64, u64), JournalError> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(reason) = &state.failure {
                return Err(self.failed_because(reason));
            }
            if !state.ready {
                return Err(self.failed_because("what it held was not carried over yet"));
            }
            if let Some(at) = state.room(length, self.size) {
                if state.clean {
                    // With the record's flush: should that not come to its end, there is nothing still.
                    let tail = state.marked_tail;
                    self.write_mark(&mut state, tail, false)?;
                }
                let number = state.next_number;
                state.next_number += 1;
                state.head = at + length;
                let data_at = at + Head::BYTES as u64 + about.len() as u64;
                state.live.push_back(Live {
                    number,
                    at,
                    data_at,
                    data_bytes,
                    stage: Stage::Writing,
                    pin: Arc::new(()),
                });
                return Ok((number, at, state.durable_upto()));
            }
            // What was freed counts when the mark that says so is durable.
            if state.marked_tail != state.durable_tail && !state.flushing {
                state = self.flush(state)?;
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(JournalError::Full {
                    path: self.path.clone(),
                });
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a record is durable.
    fn flushed(&self, number: u64) -> Result<u64, JournalError> {
        let mut state = self.lock();
        state.settle(number, Stage::Written);
        loop {
            match state.stage(number) {
                Some(Stage::Written) => {}
                // Durable; or even freed by who saw it in the meantime.
                _ => return Ok(number),
            }
            if let Some(reason) = &state.failure {
                return Err(self.failed_because(reason));
            }
            state = if state.flushing {
                let waited = self.changed.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else {
                self.flush(state)?
            };
        }
    }

    /// One flush for all records that are written, and for the mark.
    fn flush<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, JournalError> {
        state.flushing = true;
        let written = state.live.iter().filter(|l| l.stage == Stage::Written);
        let written: Vec<u64> = written.map(|live| live.number).collect();
        let (tail, marks) = (state.marked_tail, state.marks);
        drop(state);
        // A panic is not expected below; nobody may wait for ever if there is one.
        let flushed = self.file.sync_data();
        let mut state = self.lock();
        state.flushing = false;
        state.flushes += 1;
        let result = match flushed {
            Ok(()) => {
                for number in written {
                    state.settle(number, Stage::Durable);
                }
                state.durable_tail = tail;
                state.durable_marks = marks;
                Ok(())
            }
            // The kernel may have forgotten the pages: nothing more is believed of this file until it is opened again.
            Err(error) => Err(self.fail(&mut state, &format!("the flush failed: {error}"))),
        };
        self.changed.notify_all();
        result.map(|()| state)
    }

    fn fail(&self, state: &mut State, reason: &str) -> JournalError {
        state.failure.get_or_insert_with(|| reason.to_owned());
        self.failed_because(reason)
    }

    fn failed_because(&self, reason: &str) -> JournalError {
        JournalError::Failed {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    /// The bytes of a record that is not free.
    pub fn reading(&self, number: u64) -> Option<Reading<'_>> {
        let state = self.lock();
        let live = state.live.iter().find(|live| live.number == number)?;
        (live.stage == Stage::Durable).then(|| Reading {
            journal: self,
            data_at: live.data_at,
            data_bytes: live.data_bytes,
            _pin: live.pin.clone(),
        })
    }

    /// These records are on their volume now, durably: their room may be used again. The next flush makes it so, whoever
    /// asks for it; until then a power cut brings them back, and whoever opens the journal finds them carried over.
    pub fn free(&self, numbers: &[u64]) -> Result<(), JournalError> {
        let mut state = self.lock();
        for number in numbers {
            state.settle(*number, Stage::Free);
        }
        self.mark(&mut state)
    }

    /// Writes down where the oldest record is, if that has changed.
    fn mark(&self, state: &mut State) -> Result<(), JournalError> {
        let tail = state.advance();
        if tail == state.marked_tail || state.failure.is_some() {
            return Ok(());
        }
        self.write_mark(state, tail, false)
    }

    fn write_mark(&self, state: &mut State, tail: Tail, clean: bool) -> Result<(), JournalError> {
        state.marks += 1;
        let mark = Mark {
            count: state.marks,
            number: tail.number,
            at: tail.at,
            clean,
        };
        // Two places in turn: one that is torn leaves the other.
        let place = (1 + state.marks % 2) * BLOCK_BYTES;
        if let Err(error) = self.file.write_at(place, &mark.encode(&self.id)) {
            return Err(self.fail(state, &format!("writing failed: {error}")));
        }
        state.marked_tail = tail;
        state.clean = clean;
        self.changed.notify_all();
        Ok(())
    }

    /// Makes durable what was freed: the next opening finds nothing of it, and does not even look if there is nothing at
    /// all. To be called when everything was carried over.
    pub fn settle(&self) -> Result<(), JournalError> {
        let mut state = self.lock();
        // A reader that was in the way before may be gone.
        let tail = state.advance();
        let is_empty = state.live.is_empty();
        if state.failure.is_none() && (tail != state.marked_tail || is_empty != state.clean) {
            self.write_mark(&mut state, tail, is_empty)?;
        }
        let wanted = state.marks;
        loop {
            if let Some(reason) = &state.failure {
                return Err(self.failed_because(reason));
            }
            if state.durable_marks >= wanted {
                state.ready |= is_empty;
                return Ok(());
            }
            state = if state.flushing {
                let waited = self.changed.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else {
                self.flush(state)?
            };
        }
    }

    /// Gives the file another name, under which nothing reads it again: what is good in it was carried over, what is
    /// damaged stays for a person to look at. Durable on return.
    pub fn set_aside(self) -> Result<PathBuf, JournalError> {
        let fail = |source: io::Error| JournalError::Io {
            path: self.path.clone(),
            reason: source.to_string(),
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for n in 1..=ASIDE_MAX {
            let aside = folder.join(format!("{ASIDE_PREFIX}{n}"));
            match self.disk.rename_noreplace(&self.path, &aside) {
                Ok(()) => {
                    self.disk.sync_dir(folder).map_err(fail)?;
                    return Ok(aside);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Err(fail(io::ErrorKind::AlreadyExists.into()))
    }

    /// Removes the file, and its folder if nothing else is in it; durable on return. Refused while there is a record in it.
    pub fn remove(self) -> Result<(), JournalError> {
        {
            let state = self.lock();
            if !(state.live.is_empty() && state.ready) {
                return Err(self.failed_because("it is not empty, and was not removed"));
            }
        }
        let fail = |source: io::Error| JournalError::Io {
            path: self.path.clone(),
            reason: source.to_string(),
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        self.disk.remove(&self.path).map_err(fail)?;
        self.disk.sync_dir(folder).map_err(fail)?;
        // Something else in it stays, and so does the folder.
        if self.disk.remove_dir(folder).is_ok()
            && let Some(parent) = folder.parent()
        {
            self.disk.sync_dir(parent).map_err(fail)?;
        }
        Ok(())
    }

    /// The state is changed in one go by each holder, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn at(mark: Mark) -> State {
        let tail = Tail {
            number: mark.number,
            at: mark.at,
        };
        State {
            live: VecDeque::new(),
            next_number: mark.number,
            head: mark.at,
            durable_tail: tail,
            marked_tail: tail,
            marks: mark.count,
            durable_marks: mark.count,
            clean: mark.clean,
            ready: true,
            flushing: false,
            flushes: 0,
            failure: None,
        }
    }

    /// Where a record of that length may go: behind the newest, or at the beginning of the file.
    fn room(&self, length: u64, size: u64) -> Option<u64> {
        let tail = self.durable_tail;
        let is_empty = self.live.is_empty() && tail.number == self.next_number;
        if is_empty {
            return Some(if self.head + length <= size {
                self.head
            } else {
                RING_START
            });
        }
        if self.head > tail.at {
            if self.head + length <= size {
                return Some(self.head);
            }
            // Never up to the oldest: full and empty must not look alike.
            return (RING_START + length < tail.at).then_some(RING_START);
        }
        (self.head + length < tail.at).then_some(self.head)
    }

    fn settle(&mut self, number: u64, stage: Stage) {
        if let Ok(at) = self.live.binary_search_by_key(&number, |live| live.number) {
            self.live[at].stage = stage;
        }
    }

    fn stage(&self, number: u64) -> Option<Stage> {
        let at = self.live.binary_search_by_key(&number, |live| live.number);
        Some(self.live[at.ok()?].stage)
    }

    /// Up to here every record was durable.
    fn durable_upto(&self) -> u64 {
        let undone = |live: &&Live| matches!(live.stage, Stage::Writing | Stage::Written);
        match self.live.iter().find(undone) {
            Some(first) => first.number - 1,
            None => self.next_number - 1,
        }
    }

    /// Lets go of the oldest records that are free and that nobody reads.
    fn advance(&mut self) -> Tail {
        while let Some(first) = self.live.front()
            && first.stage == Stage::Free
            && Arc::strong_count(&first.pin) == 1
        {
            self.live.pop_front();
        }
        match self.live.front() {
            Some(first) => Tail {
                number: first.number,
                at: first.at,
            },
            None => Tail {
                number: self.next_number,
                at: self.head,
            },
        }
    }
}

/// Writes a new journal in full, durably, before it has its name.
fn make(disk: &Disk, folder: &Path, owner: &str, size_bytes: u64) -> io::Result<()> {
    disk.create_dir_durable(folder)?;
    let new = folder.join(NEW_FILE);
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(disk, folder, &new, owner, size_bytes);
    if written.is_err() {
        // Room for images, on a disk that has too little for a journal.
        let _ = disk.remove(&new);
    }
    written
}

fn write_new(
    disk: &Disk,
    folder: &Path,
    new: &Path,
    owner: &str,
    size_bytes: u64,
) -> io::Result<()> {
    let size = blocks(size_bytes.clamp(SIZE_MIN, SIZE_MAX));
    let file = disk.create_new(new)?;
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let count = zeros.len().min((size - at) as usize);
        file.write_at(at, &zeros[..count])?;
        at += count as u64;
    }
    let header = Header {
        id: *uuid::Uuid::new_v4().as_bytes(),
        owner: owner.to_owned(),
        size,
    };
    let Some(block) = header.encode() else {
        let text = "the volume's id is too long";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    file.write_at(0, &block)?;
    file.sync_data()?;
    disk.rename(new, &folder.join(FILE))?;
    disk.sync_dir(folder)
}

#[cfg(test)]
mod tests;
