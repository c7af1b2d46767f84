//! The journal of transfers: one line for each study that came or went, kept for some days.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what a line says; lines wait here, in memory, until they are written |
//! | `arrivals` | instances that come, put together to one line for each study of an association |
//! | `writing` | `<state>/journal/YYYY-MM-DD.jsonl`, a file for each local day |
//! | `reading` | looking for lines, the newest first |
//! | `lately` | the last associations and hours, over a restart |

mod arrivals;
pub mod lately;
mod reading;
mod writing;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::volume::io::Disk;

use arrivals::Arrivals;
use writing::Files;

pub use arrivals::Arrived;
pub use reading::{SearchEnd, Wanted, search};

/// What went which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Received by C-STORE.
    Stored,
    /// Sent for a C-MOVE.
    Moved,
    /// Sent for a C-GET.
    Got,
    /// Sent by rule, or by hand.
    Forwarded,
    /// Asked of another archive by `kura pull`.
    Pulled,
    /// A request of storage commitment was answered.
    Committed,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Stored => "stored",
            Direction::Moved => "moved",
            Direction::Got => "got",
            Direction::Forwarded => "forwarded",
            Direction::Pulled => "pulled",
            Direction::Committed => "committed",
        }
    }
}

/// Who asked for a transfer, for the audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requestor {
    pub ae_title: String,
    /// Without the port, which is another one each time.
    pub address: String,
    /// As whom it signed in (PS3.7 D.3.3.7).
    pub user: Option<String>,
    /// Subject and fingerprint of the certificate that it showed.
    pub certificate: Option<String>,
}

/// One line: instances of one study, between us and one peer, in one go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Transfer {
    /// When it ended, UTC, RFC 3339.
    pub at: String,
    pub direction: Direction,
    /// AE title.
    pub peer: String,
    pub address: String,
    pub study_instance_uid: String,
    /// That went through, warnings included.
    pub instances_count: u64,
    pub failed_count: u64,
    /// Of the data sets.
    pub bytes: u64,
    pub seconds: f64,
    /// The worst DIMSE status, 0000H when all is well.
    pub status: u16,
    /// In words, where something failed; empty otherwise.
    pub reason: String,
    /// Not in the journal.
    #[serde(skip)]
    pub asked_by: Option<Box<Requestor>>,
}

/// Lines that wait to be written; one more is lost, and counted.
const WAITING_MAX: usize = 10_000;
/// Lines in one write.
const BATCH_MAX: usize = 1_000;
/// Between two writes: each is flushed, and the disk has better things to do.
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// How often what came is looked through for studies that are over.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A state folder that does not answer must not keep the process from ending.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// So long a search waits for lines that are just being written.
const SEARCH_PATIENCE: Duration = Duration::from_secs(2);

/// The journal. It never keeps anybody from sending or receiving: what cannot be written is said in the log.
#[derive(Default)]
pub struct Transfers {
    /// None: nothing is kept.
    files: Option<Files>,
    keep_days: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Transfer>,
    arrivals: Arrivals,
    /// The thread has some in hand.
    writing: bool,
    /// There is a thread; it is begun by the first line.
    begun: bool,
    stopping: bool,
    /// That did not fit, since one was last written.
    lost_count: u64,
    /// Who is told of each line.
    told: Option<Box<Told>>,
}

type Told = dyn Fn(&Transfer) + Send;

impl Transfers {
    /// In the state folder; lines older than so many days go.
    pub fn open(state: &Path, keep_days: u64) -> Transfers {
        Transfers::on(Disk::default(), state, keep_days)
    }

    fn on(disk: Disk, state: &Path, keep_days: u64) -> Transfers {
        let keep_days = Arc::new(AtomicU64::new(keep_days));
        Transfers {
            files: Some(Files::new(disk, state, keep_days.clone())),
            keep_days,
            shared: Arc::default(),
        }
    }

    /// From now on lines older than so many days go.
    pub fn keep(&self, days: u64) {
        self.keep_days.store(days, Ordering::Relaxed);
    }

    /// From now on somebody is told of each line, when it is noted: at the end of a study, never for an instance. It must
    /// not take its time.
    pub fn tell(&self, told: impl Fn(&Transfer) + Send + 'static) {
        self.shared.lines().told = Some(Box::new(told));
    }

    pub fn note(&self, transfer: Transfer) {
        tracing::debug!(?transfer, "transferred");
        let mut lines = self.shared.lines();
        lines.push(transfer);
        self.wake(lines);
    }

    /// An instance came, or was refused. Its study's line is noted when the study is over: see `arrivals`.
    pub fn arrived(&self, arrived: &Arrived) {
        let mut lines = self.shared.lines();
        match lines.arrivals.add(arrived, Instant::now()) {
            Some(over) => lines.push(over),
            // The thread looks by itself, not for each instance.
            None if lines.begun => return,
            None => {}
        }
        self.wake(lines);
    }

    /// An association over which instances may have come is at its end.
    pub fn ended(&self, association_id: u64) {
        let mut lines = self.shared.lines();
        let over = lines.arrivals.end(association_id);
        if over.is_empty() {
            return;
        }
        over.into_iter().for_each(|transfer| lines.push(transfer));
        self.wake(lines);
    }

    fn wake(&self, mut lines: MutexGuard<'_, Lines>) {
        if let Some(files) = &self.files
            && !lines.begun
        {
            let (files, shared) = (files.clone(), self.shared.clone());
            let thread = std::thread::Builder::new().name("journal".to_owned());
            match thread.spawn(move || shared.write(files)) {
                Ok(_) => lines.begun = true,
                // The next line tries again.
                Err(error) => tracing::error!(%error, "no thread for the journal of transfers"),
            }
        }
        if self.files.is_none() {
            lines.waiting.clear();
        }
        self.shared.changed.notify_all();
    }

    /// Writes what waits, studies included that are still coming, and ends; bounded.
    pub fn stop(&self) {
        let mut lines = self.shared.lines();
        let over = lines.arrivals.end_all();
        over.into_iter().for_each(|transfer| lines.push(transfer));
        if lines.begun || !lines.waiting.is_empty() {
            self.wake(lines);
            lines = self.shared.lines();
        }
        lines.stopping = true;
        self.shared.changed.notify_all();
        drop(lines);
        self.wait_until_written(STOP_PATIENCE);
    }

    fn wait_until_written(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut lines = self.shared.lines();
        while lines.begun && (lines.writing || !lines.waiting.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// As [`search`], with what was noted until now.
    pub fn search(
        &self,
        wanted: &Wanted,
        give: &mut dyn FnMut(Transfer) -> std::ops::ControlFlow<()>,
    ) -> Result<SearchEnd, String> {
        self.wait_until_written(SEARCH_PATIENCE);
        match &self.files {
            Some(files) => reading::search_in(&files.folder, wanted, give),
            None => Ok(SearchEnd::default()),
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Lines {
    fn push(&mut self, transfer: Transfer) {
        if let Some(told) = &self.told {
            told(&transfer);
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(transfer);
            return;
        }
        if self.lost_count == 0 {
            tracing::error!(
                "the journal of transfers is not written as fast as transfers end; lines are lost"
            );
        }
        self.lost_count += 1;
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that writes.
    fn write(&self, mut files: Files) {
        let mut lines = self.lines();
        loop {
            let now = Instant::now();
            let over = lines.arrivals.sweep(now);
            over.into_iter().for_each(|transfer| lines.push(transfer));
            if lines.waiting.is_empty() {
                if lines.stopping {
                    lines.begun = false;
                    self.changed.notify_all();
                    return;
                }
                let waited = self.changed.wait_timeout(lines, SWEEP_EVERY);
                lines = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let count = lines.waiting.len().min(BATCH_MAX);
            let batch: Vec<Transfer> = lines.waiting.drain(..count).collect();
            lines.writing = true;
            let lost_count = std::mem::take(&mut lines.lost_count);
            drop(lines);
            files.append(&batch, lost_count);
            lines = self.lines();
            lines.writing = false;
            self.changed.notify_all();
            if !lines.stopping && lines.waiting.len() < BATCH_MAX {
                drop(lines);
                std::thread::sleep(WRITE_EVERY);
                lines = self.lines();
            }
        }
    }
}

/// How bad a status is: success, a warning (the instance is there), a failure. Source: PS3.7 C.
pub fn severity(status: u16) -> u8 {
    match status {
        0 => 0,
        0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
