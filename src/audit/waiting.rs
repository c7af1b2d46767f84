//! Events on their way to the audit: whoever stores or asks only leaves them here; one thread writes them, many with one
//! flush.
//!
//! What comes often is gathered: the same event of the same peer or person within some seconds is one line. That bounds the
//! rate, too: of more kinds of events than [`GATHERED_MAX`] in that time the rest is counted, and the audit says how many.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::civil::Date;

use super::chain::Entry;
use super::event::{Event, Kind};
use super::export::Export;
use super::writing::Files;
use super::{Who, entry};

/// Events that wait to be written; one more is lost, and counted.
const WAITING_MAX: usize = 20_000;
/// Lines in one write.
const BATCH_MAX: usize = 1_000;
/// Between two writes: each is flushed, and the disk has better things to do.
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// What is the same within this time is one line.
const GATHER_FOR: Duration = Duration::from_secs(10);
/// Different events that are being gathered: fifty a second.
const GATHERED_MAX: usize = 500;
/// After a write that failed.
const RETRY_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A state folder that does not answer must not keep the process from ending.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// So long who reads the audit waits for lines that are just being written.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

type PatientOf = dyn Fn(&str) -> Option<String> + Send + Sync;

#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
    patient_of: OnceLock<Box<PatientOf>>,
    /// There where old lines may be removed.
    export: OnceLock<Arc<Export>>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Entry>,
    gathered: HashMap<Same, (Instant, Entry)>,
    /// Everything that is gathered is due now.
    settling: bool,
    /// The thread has some in hand.
    writing: bool,
    /// There is a thread; it is begun by the first event.
    begun: bool,
    stopping: bool,
    /// That did not fit, since the audit last said so; and since the start.
    lost_count: u64,
    lost_in_all: u64,
    /// When the audit last said so: not with every batch of a flood.
    lost_told: Option<Instant>,
    /// Why it cannot be written.
    failure: String,
    /// The day on which old files were removed last.
    tidied: Option<Date>,
}

/// By which an event is the same as another.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    kind: Kind,
    who: String,
    from: String,
    what: String,
    studies: Vec<String>,
}

impl State {
    fn push(&mut self, entry: Entry) {
        if self.lines.len() < WAITING_MAX {
            self.lines.push_back(entry);
        } else {
            self.lose(1);
        }
    }

    fn lose(&mut self, count: u64) {
        if self.lost_count == 0 {
            tracing::error!(
                "events are not noted in the audit: more come than it can take, or it cannot be written; the archive goes on"
            );
        }
        self.lost_count += count;
        self.lost_in_all += count;
    }

    /// What was gathered for long enough is to be written.
    fn ripen(&mut self, now: Instant) {
        if self.gathered.is_empty() {
            self.settling = false;
            return;
        }
        let all = self.settling || self.stopping;
        let is_due = |begun: &Instant| all || now.saturating_duration_since(*begun) >= GATHER_FOR;
        let due = self.gathered.extract_if(|_, (begun, _)| is_due(begun));
        let mut due: Vec<(Instant, Entry)> = due.map(|(_, entry)| entry).collect();
        due.sort_by_key(|(begun, _)| *begun);
        for (_, entry) in due {
            self.push(entry);
        }
        self.settling = false;
    }

    /// How many losses the audit is to tell now.
    fn lost_to_tell(&self) -> u64 {
        let is_due = self.stopping || self.lost_told.is_none_or(|at| at.elapsed() >= GATHER_FOR);
        if is_due { self.lost_count } else { 0 }
    }

    /// The end tells all losses at once.
    fn is_empty(&self) -> bool {
        let has_told = !self.stopping || self.lost_count == 0;
        self.lines.is_empty() && self.gathered.is_empty() && !self.writing && has_told
    }
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn knows(&self, patient_of: Box<PatientOf>) {
        // The first stays: there is one archive.
        let _ = self.patient_of.set(patient_of);
    }

    /// From now on lines that are too old are removed; not before they were exported.
    pub fn may_cut_off(&self, export: Arc<Export>) {
        let _ = self.export.set(export);
    }

    /// Events that nobody can note.
    pub fn lost(&self, count: u64) {
        self.state().lose(count);
    }

    pub fn push(self: &Arc<Self>, entry: Entry, files: &Files, export: &Arc<Export>) {
        let mut state = self.state();
        state.push(entry);
        self.wake(state, files, export);
    }

    pub fn gather(self: &Arc<Self>, entry: Entry, files: &Files, export: &Arc<Export>) {
        let same = Same {
            kind: entry.kind(),
            who: entry.who.clone(),
            from: entry.from.clone(),
            what: entry.what.clone(),
            studies: entry
                .event
                .as_ref()
                .map_or(Vec::new(), |e| e.studies.clone()),
        };
        let mut state = self.state();
        if let Some((_, known)) = state.gathered.get_mut(&same) {
            if let (Some(known), Some(new)) = (&mut known.event, &entry.event) {
                known.times = known.times.max(1) + 1;
                known.failed |= new.failed;
            }
            known.outcome = entry.outcome;
            return;
        }
        if state.gathered.len() >= GATHERED_MAX {
            state.lose(1);
            return;
        }
        state.gathered.insert(same, (Instant::now(), entry));
        self.wake(state, files, export);
    }

    fn wake(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        files: &Files,
        export: &Arc<Export>,
    ) {
        if !state.begun && !state.stopping {
            let (waiting, files, export) = (self.clone(), files.clone(), export.clone());
            let thread = std::thread::Builder::new().name("audit".to_owned());
            match thread.spawn(move || waiting.write(&files, &export)) {
                Ok(_) => state.begun = true,
                // The next event tries again.
                Err(error) => tracing::error!(%error, "no thread for the audit"),
            }
        }
        self.changed.notify_all();
    }

    /// Lines that wait, lines lost since the start, and why it cannot be written.
    pub fn status(&self) -> (u64, u64, String) {
        let state = self.state();
        let waiting = (state.lines.len() + state.gathered.len()) as u64;
        (waiting, state.lost_in_all, state.failure.clone())
    }

    pub fn settle(&self) {
        self.state().settling = true;
        self.changed.notify_all();
        self.wait(SETTLE_PATIENCE);
    }

    fn wait(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.begun && !state.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn stop(&self, files: &Files) {
        let mut state = self.state();
        if std::mem::replace(&mut state.stopping, true) {
            return;
        }
        self.changed.notify_all();
        drop(state);
        self.wait(STOP_PATIENCE);
        let mut state = self.state();
        if state.begun {
            if !state.is_empty() {
                tracing::error!("the audit could not be written until the end; lines are lost");
            }
            return;
        }
        // Without a thread nobody else does it.
        state.ripen(Instant::now());
        let left = std::mem::take(&mut state.lines);
        if !left.is_empty() && files.append(left.into()).is_err() {
            state.lose(1);
        }
    }

    /// The thread that writes.
    fn write(&self, files: &Files, export: &Export) {
        let mut state = self.state();
        let mut stop_tried = false;
        loop {
            // Also while lines never cease to come.
            let today = jiff::Timestamp::now()
                .to_zoned(jiff::tz::TimeZone::UTC)
                .date();
            if state.tidied != Some(today) && self.export.get().is_some() {
                state.tidied = Some(today);
                drop(state);
                self.cut_off(files, today);
                state = self.state();
            }
            state.ripen(Instant::now());
            if state.lines.is_empty() && state.lost_to_tell() == 0 {
                if state.stopping {
                    state.begun = false;
                    self.changed.notify_all();
                    return;
                }
                self.changed.notify_all();
                let waited = self.changed.wait_timeout(state, LOOK_EVERY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let count = state.lines.len().min(BATCH_MAX);
            let mut batch: Vec<Entry> = state.lines.drain(..count).collect();
            let lost_count = state.lost_to_tell();
            state.writing = true;
            drop(state);
            self.name_patients(&mut batch);
            let mut lines = batch.clone();
            lines.extend((lost_count > 0).then(|| lost(lost_count)));
            let written = files.append(lines);
            state = self.state();
            state.writing = false;
            match written {
                Ok(_) => {
                    state.lost_count -= lost_count;
                    if lost_count > 0 {
                        state.lost_told = Some(Instant::now());
                    }
                    if !std::mem::take(&mut state.failure).is_empty() {
                        tracing::warn!("the audit is written again");
                    }
                    export.wake();
                    self.changed.notify_all();
                    if !state.stopping && !state.settling && state.lines.len() < BATCH_MAX {
                        drop(state);
                        std::thread::sleep(WRITE_EVERY);
                        state = self.state();
                    }
                }
                Err(error) => {
                    if state.failure.is_empty() {
                        tracing::error!(folder = %files.folder.display(), %error,
                            "the audit cannot be written; images come and go as before, events wait for it");
                    }
                    state.failure = error.to_string();
                    for entry in batch.into_iter().rev() {
                        state.lines.push_front(entry);
                    }
                    if state.stopping && std::mem::replace(&mut stop_tried, true) {
                        let count = state.lines.len();
                        tracing::error!(
                            lines_count = count,
                            "the audit could not be written until the end; lines are lost"
                        );
                        state.lines.clear();
                        state.lost_count = 0;
                        continue;
                    }
                    let waited = self.changed.wait_timeout(state, RETRY_EVERY);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn cut_off(&self, files: &Files, today: Date) {
        let sent = self.export.get().and_then(|export| export.file_at());
        if let Err(error) = files.cut_off(today, sent.as_deref()) {
            tracing::warn!(%error, "old lines of the audit stay");
        }
    }

    fn name_patients(&self, batch: &mut [Entry]) {
        let Some(patient_of) = self.patient_of.get() else {
            return;
        };
        for event in batch.iter_mut().filter_map(|entry| entry.event.as_mut()) {
            if event.patients.is_empty() {
                let found = event.studies.iter().filter_map(|study| patient_of(study));
                event.patients = found.filter(|id| !id.is_empty()).collect();
                event.patients.dedup();
                event.cut();
            }
        }
    }
}

fn lost(count: u64) -> Entry {
    let what = format!("{count} events before this one could not be noted");
    let event = Event {
        failed: true,
        ..Event::new(Kind::AuditLost)
    };
    let outcome = "more came than can be written, or the audit could not be written";
    entry(&Who::server(), &what, outcome, event)
}
