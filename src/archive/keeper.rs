//! Keeps the index in step with the ledgers, and replaces it when it fails.
//!
//! The index is a cache. Changes reach it from the ledgers alone: live, from the leader of each group flush, in ledger
//! order; or by reading the ledger files, at start and when it is rebuilt. While it is read in, the live way does nothing
//! (the reader will come to those lines), and the change-over happens while the live way is held back, so no line is
//! missed. Lines of one ledger are applied in their order; reading on from an earlier line ends with the same index.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use crate::index::{
    Change, Engine, EngineError, Gone, Index, IndexError, SeriesFacts, Snapshot, StudyFacts,
};
use crate::volume::ledger::{self, Position};
use crate::volume::ledger_extent;

use super::Line;
use super::entry::{Known, Reader};
use super::touched::{Touched, TouchedSeries};

#[cfg(test)]
mod tests;

/// One volume's ledger as the keeper reads it.
#[derive(Clone)]
pub struct Source {
    pub volume_id: String,
    pub folder: PathBuf,
    pub disk: crate::volume::io::Disk,
}

pub struct Keeper {
    folder: PathBuf,
    engine: Engine,
    state: RwLock<State>,
    sources: Mutex<Vec<Source>>,
    progress: Progress,
    /// Highest sequence number given out, or seen in any ledger line.
    sequence: AtomicU64,
    stop: AtomicBool,
    touched: TouchedSeries,
    /// What is durable without a line in a ledger yet, by volume and path.
    unlisted: Mutex<HashMap<(String, String), Line>>,
    /// Volumes whose position in the index stays where it is while lines of theirs come: [`Keeper::hold`].
    held: Mutex<HashSet<String>>,
    /// Told when an index has failed and a new one is wanted.
    wanted: Mutex<bool>,
    /// Why none could be made the last time.
    trouble: Mutex<Option<String>>,
    wake: Condvar,
}

struct State {
    index: Index,
    live: bool,
}

/// How far reading the ledgers has come; bytes, so that it moves evenly.
#[derive(Default)]
struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    bad_lines: AtomicU64,
}

/// A consistent view of the index, and whether it is complete.
pub struct View {
    pub snapshot: Snapshot,
    /// `Some(percent)` while the ledgers are being read in.
    pub rebuilding_percent: Option<u8>,
}

/// Changes applied in one batch while reading ledgers: many, so that a page of the index is written once for all of them
/// that fall on it, also where UIDs are spread by lot. Two batches are held, some 150 MB.
const BATCH_COUNT: usize = 32_768;
/// Batches after which they are made durable: until then an engine keeps every page that they replaced, and a restart
/// begins again.
const CHECKPOINT_BATCHES: usize = 8;
/// How long an index that is behind may hold up the start before the server goes on without it.
const CATCH_UP: Duration = Duration::from_secs(2);
const CHECKPOINT: Duration = Duration::from_secs(5);

impl Keeper {
    /// Opens the index in `folder`, or sets aside what does not open and begins an empty one.
    pub fn open(folder: PathBuf, engine: Engine) -> Result<Arc<Keeper>, IndexError> {
        let index = match Index::open(&folder, engine) {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(%error, "the index does not open; it is set aside and rebuilt from the ledgers");
                crate::index::set_aside(&folder)?;
                Index::open(&folder, engine)?
            }
        };
        Ok(Arc::new(Keeper {
            folder,
            engine,
            state: RwLock::new(State { index, live: false }),
            sources: Mutex::new(Vec::new()),
            progress: Progress::default(),
            sequence: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            touched: TouchedSeries::new(),
            unlisted: Mutex::default(),
            held: Mutex::default(),
            wanted: Mutex::new(true),
            trouble: Mutex::default(),
            wake: Condvar::new(),
        }))
    }

    /// The live way: called by the leader of a group flush, in ledger order.
    pub fn apply(&self, volume_id: &str, group: Vec<(Line, Position)>) {
        let state = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some((_, last)) = group.last() else {
            return;
        };
        {
            let mut unlisted = self.unlisted();
            if !unlisted.is_empty() {
                for (line, _) in &group {
                    if let Change::Stored(stored) = &**line {
                        unlisted.remove(&place_of(stored));
                    }
                }
            }
        }
        if !state.live {
            return;
        }
        let position = (volume_id.to_owned(), encode(*last));
        let is_held = self.held().contains(volume_id);
        let positions = match is_held {
            true => &[][..],
            false => std::slice::from_ref(&position),
        };
        let changes: Vec<Change> = group
            .into_iter()
            .map(|(line, _)| Arc::unwrap_or_clone(line))
            .collect();
        match state.index.apply(&changes, positions) {
            Ok(series) => self.touched.add(series),
            Err(error) => {
                drop(state);
                self.failed(&error);
            }
        }
    }

    /// An instance is durable in a journal; its line comes later. In the index on return, also if that is being rebuilt: as
    /// soon as it is whole.
    pub fn apply_unlisted(&self, change: &Line) {
        if let Change::Stored(stored) = &**change {
            self.unlisted().insert(place_of(stored), change.clone());
        }
        self.apply_change(change);
    }

    /// Its line is in another volume's ledger instead.
    pub fn forget_unlisted(&self, gone: &Gone) {
        let place = (gone.volume_id.clone(), gone.path.clone());
        self.unlisted().remove(&place);
        self.apply_change(&Change::Gone(gone.clone()));
    }

    /// Makes durable what the index has been told: for what no ledger will tell it again.
    pub fn checkpoint(&self) {
        let state = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = state.index.checkpoint() {
            drop(state);
            self.failed(&error);
        }
    }

    fn apply_change(&self, change: &Change) {
        let state = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if !state.live {
            return;
        }
        match state.index.apply(std::slice::from_ref(change), &[]) {
            Ok(series) => self.touched.add(series),
            Err(error) => {
                drop(state);
                self.failed(&error);
            }
        }
    }

    fn unlisted(&self) -> MutexGuard<'_, HashMap<(String, String), Line>> {
        self.unlisted.lock().expect("no panic while held")
    }

    /// What was touched since the last call. Take this first and a view then: what is not in it was in the view before.
    ///
    /// `All` at first, each time the index went live anew, after a volume was forgotten, and when it is more than 100,000
    /// series.
    pub fn take_touched(&self) -> Touched {
        self.touched.take()
    }

    /// Forgets the copies on a volume that will not come back, those of up to `most` instances at a time; its ledger is not
    /// read any more. True: to be called again, later while the index is being read in. Whoever calls sees to it that the
    /// next start does not give its ledger as a source: that would bring the copies back.
    pub fn forget_some(&self, volume_id: &str, most: usize) -> Result<bool, IndexError> {
        self.forget_source(volume_id);
        let forgotten = {
            let state = self
                .state
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if !state.live {
                // Who reads in may have begun with that ledger.
                return Ok(true);
            }
            state.index.forget_some(volume_id, most)
        };
        match &forgotten {
            Ok(_) => self.touched.add_all(),
            Err(error) => self.failed(error),
        }
        forgotten
    }

    /// A number higher than that of every ledger line seen so far.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The highest number given out or seen.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Numbers up to this one were given out once, also if no ledger that is here says so.
    pub fn raise_sequence(&self, floor: u64) {
        self.sequence.fetch_max(floor, Ordering::Relaxed);
    }

    /// 0 when it cannot be asked: it is rebuilt then.
    fn sequence_of_index(&self) -> u64 {
        let state = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let asked = state.index.snapshot().and_then(|s| s.highest_sequence());
        asked.unwrap_or(0)
    }

    pub fn view(&self) -> Result<View, IndexError> {
        let state = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let rebuilding_percent = (!state.live).then(|| {
            let total = self.progress.total_bytes.load(Ordering::Relaxed).max(1);
            let done = self.progress.done_bytes.load(Ordering::Relaxed).min(total);
            (done * 99 / total) as u8
        });
        let snapshot = match state.index.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                drop(state);
                self.failed(&error);
                return Err(error);
            }
        };
        Ok(View {
            snapshot,
            rebuilding_percent,
        })
    }

    /// Ledger lines that were damaged and had to be skipped since the start.
    pub fn bad_lines(&self) -> u64 {
        self.progress.bad_lines.load(Ordering::Relaxed)
    }

    /// An engine call failed or a record did not pass its checksum: answer no more from it, make a new one.
    pub fn failed(&self, error: &IndexError) {
        // Everyone who reads from a failing index comes here; one of them is enough.
        if !self.is_live() {
            return;
        }
        tracing::error!(%error, "the index failed; it is rebuilt from the ledgers while receiving goes on");
        self.rebuild();
    }

    /// Why there is no index, where one was tried to be made and could not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("no panic while held").clone()
    }

    /// Throws the index away and reads the ledgers again, in the background.
    pub fn rebuild(&self) {
        *self.wanted.lock().expect("no panic while held") = true;
        self.state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .live = false;
        self.wake.notify_all();
    }

    /// Starts the keeper's thread, and waits a moment for an index that is only a little behind.
    pub fn start(self: &Arc<Self>, sources: Vec<Source>) -> std::thread::JoinHandle<()> {
        self.raise_sequence(last_sequence(&sources));
        self.raise_sequence(self.sequence_of_index());
        *self.sources.lock().expect("no panic while held") = sources;
        let keeper = self.clone();
        let thread = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || keeper.run())
            .expect("a thread at start");
        let begun = Instant::now();
        while begun.elapsed() < CATCH_UP && !self.is_live() {
            std::thread::sleep(Duration::from_millis(1));
        }
        thread
    }

    /// From where the ledger of a volume is read from now on: itself, or a copy while the volume is away.
    pub fn set_source(&self, source: Source) {
        let mut sources = self.sources.lock().expect("no panic while held");
        match sources
            .iter_mut()
            .find(|other| other.volume_id == source.volume_id)
        {
            Some(other) => *other = source,
            None => sources.push(source),
        }
    }

    /// Nothing is known of the ledger of a volume that is away: it had no line.
    pub fn forget_source(&self, volume_id: &str) {
        let mut sources = self.sources.lock().expect("no panic while held");
        sources.retain(|source| source.volume_id != volume_id);
    }

    /// A volume came (back): reads its ledger from where the index left off. To be called before it is written to.
    pub fn join(&self, source: Source) {
        self.raise_sequence(last_sequence(std::slice::from_ref(&source)));
        self.set_source(source.clone());
        let index = {
            let state = self
                .state
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if !state.live {
                // Whoever makes it live looks at all sources once more.
                return;
            }
            state.index.clone()
        };
        match self.read_sources(&index, &[source]) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("the index knows another ledger of this volume; rebuilding it");
                self.rebuild();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Lines are about to appear in the midst of a volume's ledger: it will be read from its beginning. Durable on return,
    /// so that it is done also when this process does not come to it.
    pub fn read_again(&self, volume_id: &str) {
        let (index, live) = {
            let state = self
                .state
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            (state.index.clone(), state.live)
        };
        let beginning = (volume_id.to_owned(), encode(Position::default()));
        let noted = index
            .apply(&[], &[beginning])
            .and_then(|_| index.checkpoint());
        if let Err(error) = noted {
            return self.failed(&error);
        }
        // Who is reading it at this moment, from a copy, would write down its own place after this.
        let started = !self.sources.lock().expect("no panic while held").is_empty();
        if !live && started {
            self.rebuild();
        }
    }

    /// As [`Keeper::read_again`], of a volume that is being written to: what is noted stays until [`Keeper::read_over`],
    /// also when lines come, so that a process that ends in between has not lost it.
    pub fn hold(&self, volume_id: &str) {
        {
            // Nobody is just writing down a position.
            let _state = self
                .state
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            self.held().insert(volume_id.to_owned());
        }
        self.read_again(volume_id);
    }

    /// Lines have appeared in the midst of the ledger of a volume that is held: reads it from its beginning.
    pub fn read_over(&self, source: Source) {
        let volume_id = source.volume_id.clone();
        let live_index = || {
            let state = self
                .state
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            state.live.then(|| state.index.clone())
        };
        let sources = [source];
        let first = live_index().map(|index| self.read_sources(&index, &sources));
        let last = match first {
            Some(Ok(true)) => {
                // The last lines, with the live way held back: what came meanwhile is newer than what was read.
                let state = self
                    .state
                    .write()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                let read = state
                    .live
                    .then(|| self.read_sources(&state.index, &sources));
                self.held().remove(&volume_id);
                read
            }
            other => {
                self.held().remove(&volume_id);
                other
            }
        };
        match last {
            Some(Ok(true)) => {}
            Some(Ok(false)) if self.stop.load(Ordering::Relaxed) => {}
            Some(Ok(false)) => self.rebuild(),
            Some(Err(error)) => self.failed(&error),
            // It is being made again, perhaps from the lines as they were.
            None => self.read_again(&volume_id),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<String>> {
        self.held.lock().expect("no panic while held")
    }

    pub fn is_live(&self) -> bool {
        self.state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .live
    }

    /// Makes the thread end; the index is made durable first, so that the next start has little to read.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    fn run(&self) {
        let mut first = true;
        let mut failures = 0_u32;
        loop {
            if std::mem::take(&mut *self.wanted.lock().expect("no panic while held")) {
                match self.read_in(first) {
                    Ok(()) => {
                        failures = 0;
                        *self.trouble.lock().expect("no panic while held") = None;
                    }
                    Err(error) => {
                        *self.trouble.lock().expect("no panic while held") =
                            Some(error.to_string());
                        // A state folder on a full or broken disk: do not spin, the archive goes on receiving.
                        failures += 1;
                        tracing::error!(%error, failures, "the index could not be rebuilt; trying again");
                        *self.wanted.lock().expect("no panic while held") = true;
                    }
                }
                first = false;
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let pause = if failures > 0 {
                Duration::from_secs(1 << failures.min(6))
            } else {
                CHECKPOINT
            };
            let wanted = self.wanted.lock().expect("no panic while held");
            let (wanted, _) = if *wanted && failures == 0 {
                (wanted, None)
            } else {
                let (guard, timeout) = self
                    .wake
                    .wait_timeout(wanted, pause)
                    .expect("no panic while held");
                (guard, Some(timeout))
            };
            let checkpoint = !*wanted;
            drop(wanted);
            if checkpoint {
                let index = self
                    .state
                    .read()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .index
                    .clone();
                if let Err(error) = index.checkpoint() {
                    self.failed(&error);
                }
            }
        }
        let state = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.live
            && let Err(error) = state.index.checkpoint()
        {
            tracing::warn!(%error, "the index was not made durable; the next start reads more of the ledgers");
        }
    }

    /// Reads every ledger into the index and goes live. `keep`: go on from where the index is, if it is of these ledgers.
    fn read_in(&self, keep: bool) -> Result<(), IndexError> {
        let begun = Instant::now();
        let sources = self.sources.lock().expect("no panic while held").clone();
        let mut fresh = !keep;
        loop {
            if fresh {
                let mut state = self
                    .state
                    .write()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                // The old handle goes first: an engine locks its file.
                state.live = false;
                state.index.close();
                crate::index::set_aside(&self.folder)?;
                state.index = Index::open(&self.folder, self.engine)?;
                // Every line is read again, so every damaged one is counted again.
                self.progress.bad_lines.store(0, Ordering::Relaxed);
            }
            let index = self
                .state
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .index
                .clone();
            match self.read_sources(&index, &sources) {
                Ok(true) => {}
                Ok(false) if !fresh => {
                    tracing::warn!("the index does not belong to these ledgers; rebuilding it");
                    fresh = true;
                    continue;
                }
                Ok(false) => return Ok(()),
                Err(error) if !fresh => {
                    tracing::warn!(%error, "the index could not be brought up to date; rebuilding it");
                    fresh = true;
                    continue;
                }
                Err(error) => return Err(error),
            }
            // The last lines, with the live way held back.
            let mut state = self
                .state
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            let sources = self.sources.lock().expect("no panic while held").clone();
            if !self.read_sources(&index, &sources)? {
                return Ok(());
            }
            let unlisted: Vec<Change> = self
                .unlisted()
                .values()
                .map(|line| (**line).clone())
                .collect();
            index.apply(&unlisted, &[])?;
            state.live = true;
            self.touched.add_all();
            let totals = index.snapshot()?.totals()?;
            tracing::info!(
                instances_count = totals.instances,
                ms = begun.elapsed().as_millis() as u64,
                rebuilt = fresh,
                "the index is up to date"
            );
            return Ok(());
        }
    }

    /// `Ok(false)`: an index position that is not in its ledger, or told to stop.
    fn read_sources(&self, index: &Index, sources: &[Source]) -> Result<bool, IndexError> {
        let snapshot = index.snapshot()?;
        let mut starts = Vec::new();
        let mut total = 0;
        for source in sources {
            let from = snapshot
                .position(&source.volume_id)?
                .and_then(|bytes| decode(&bytes))
                .unwrap_or_default();
            total += ledger_extent::bytes_after(&source.disk, &source.folder, from);
            starts.push(from);
        }
        drop(snapshot);
        self.progress.total_bytes.store(total, Ordering::Relaxed);
        self.progress.done_bytes.store(0, Ordering::Relaxed);
        for (source, from) in sources.iter().zip(starts) {
            if !self.read_source(index, source, from)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_source(
        &self,
        index: &Index,
        source: &Source,
        from: Position,
    ) -> Result<bool, IndexError> {
        // One thread reads lines, another puts them into the index; none waits in between.
        let (full, batches) = std::sync::mpsc::sync_channel::<Batch>(0);
        std::thread::scope(|scope| {
            let apply = move || -> Result<(), IndexError> {
                for (count, batch) in (1_usize..).zip(batches) {
                    let position = (source.volume_id.clone(), encode(batch.upto));
                    let series = index.apply(&batch.changes, &[position])?;
                    self.touched.add(series);
                    if count.is_multiple_of(CHECKPOINT_BATCHES) {
                        index.checkpoint()?;
                    }
                }
                Ok(())
            };
            let applying = std::thread::Builder::new().spawn_scoped(scope, apply);
            let applying = applying.map_err(|error| EngineError::Failed(error.to_string()))?;
            let read = self.read_lines(index, source, from, full);
            applying.join().expect("a panic of an engine is an error")?;
            Ok(read)
        })
    }

    /// Reads a ledger in batches. False when it does not contain `from`, or told to stop.
    fn read_lines(
        &self,
        index: &Index,
        source: &Source,
        from: Position,
        full: SyncSender<Batch>,
    ) -> bool {
        let mut reader = Reader::new(&source.volume_id);
        let mut batch = Batch::new(from);
        let mut reached = from;
        let known = FromIndex(index);
        let report = ledger::read(&source.disk, &source.folder, from, &mut |json, after| {
            if after.segment != reached.segment {
                // Each segment says again what its lines need.
                reader.forget();
            }
            match reader.line(json, &known) {
                Ok(Some(change)) => {
                    self.raise_sequence(change.sequence());
                    batch.changes.push(change);
                    // Never between the line of a study and the first that needs it: who goes on from here has not read it.
                    batch.upto = after;
                }
                Ok(None) => {}
                Err(reason) => {
                    self.raise_sequence(sequence_of(json));
                    self.progress.bad_lines.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        volume = source.volume_id,
                        segment = after.segment,
                        offset = after.offset,
                        reason,
                        "a ledger line could not be used and is skipped"
                    );
                }
            }
            if after.segment == reached.segment {
                self.progress.done_bytes.fetch_add(
                    after.offset.saturating_sub(reached.offset),
                    Ordering::Relaxed,
                );
            } else {
                self.progress
                    .done_bytes
                    .fetch_add(after.offset, Ordering::Relaxed);
            }
            reached = after;
            if batch.changes.len() >= BATCH_COUNT {
                let next = Batch::new(batch.upto);
                // Refused when the index has failed; why is known to the other thread.
                if full.send(std::mem::replace(&mut batch, next)).is_err() {
                    return ControlFlow::Break(());
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        match report {
            Ok(report) if report.mismatch => return false,
            Ok(report) => {
                self.progress
                    .bad_lines
                    .fetch_add(report.bad_lines, Ordering::Relaxed);
            }
            Err(error) => {
                // The volume went away: its instances stay unknown until it is read again; the others are served.
                tracing::error!(volume = source.volume_id, %error, "a ledger cannot be read");
            }
        }
        if !batch.changes.is_empty() {
            let _ = full.send(batch);
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Changes that the index takes in one commit, and where their ledger was when the last was read.
struct Batch {
    changes: Vec<Change>,
    upto: Position,
}

impl Batch {
    fn new(upto: Position) -> Batch {
        Batch {
            changes: Vec::new(),
            upto,
        }
    }
}

/// What lines before the reader's start said, from the index that was filled by them.
///
/// A snapshot for each question: one kept while the index is filled would keep every page that is replaced meanwhile.
pub(super) struct FromIndex<'a>(pub(super) &'a Index);

impl Known for FromIndex<'_> {
    fn study(&self, study_instance_uid: &str, by: u64) -> Option<StudyFacts> {
        let snapshot = self.0.snapshot().ok()?;
        snapshot.study_facts(study_instance_uid, by).ok().flatten()
    }

    fn series(&self, study: &str, series_instance_uid: &str, by: u64) -> Option<SeriesFacts> {
        let snapshot = self.0.snapshot().ok()?;
        let facts = snapshot.series_facts(study, series_instance_uid, by);
        facts.ok().flatten()
    }
}

fn place_of(stored: &crate::index::Stored) -> (String, String) {
    let copy = &stored.instance.copy;
    (copy.volume_id.clone(), copy.path.clone())
}

/// A position as the index keeps it: opaque to the index, 16 bytes big-endian.
fn encode(position: Position) -> Vec<u8> {
    let mut bytes = position.segment.to_be_bytes().to_vec();
    bytes.extend(position.offset.to_be_bytes());
    bytes.extend(position.chain.to_be_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<Position> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    Some(Position {
        segment: u32::from_be_bytes(bytes[..4].try_into().ok()?),
        offset: u64::from_be_bytes(bytes[4..12].try_into().ok()?),
        chain: u32::from_be_bytes(bytes[12..].try_into().ok()?),
    })
}

/// The highest sequence number in the newest segment of each ledger. Numbers are given out in the order of the lines but
/// for those of one group, so older segments hold lower ones; but for lines of copies, which repeat the number of their
/// original. What this misses the index and the floor in `archive.json` know.
fn last_sequence(sources: &[Source]) -> u64 {
    let mut highest = 0;
    for source in sources {
        let read = ledger_extent::read_last_segment(&source.disk, &source.folder, &mut |json| {
            highest = highest.max(sequence_of(json));
        });
        if let Err(error) = read {
            tracing::error!(volume = source.volume_id, %error, "a ledger cannot be read");
        }
    }
    highest
}

/// 0 of a line that has none.
fn sequence_of(json: &str) -> u64 {
    #[derive(serde::Deserialize)]
    struct Line {
        seq: u64,
    }
    serde_json::from_str(json).map_or(0, |line: Line| line.seq)
}
