//! Images leave the volumes that received them, by rule and never otherwise: only where two good copies on two disks
//! elsewhere were read again just before.
//!
//! What is answered does not change. Nothing is planned or saved: what is to leave follows from the index and the rules,
//! so a run that was cut off is simply run again.

mod due;
mod leave;
mod report;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::config::{self, Live};
use crate::index::Copy;
use crate::job::{Pace, Politeness};
use crate::volume::placement::{Reserve, ReserveError};
use crate::volume::{Volume, ledger_extent};

use super::content::contents;
use super::work::{Job, Stop};
use super::{Archive, Line, entry};

pub use report::{KeptInstance, RetentionReport, RetentionStatus, RuleReport};

/// Between two runs in one window.
const AGAIN_AFTER: Duration = Duration::from_secs(1800);
/// The same where volumes are still to be looked at after the start, and after a run that was cut off.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Newest lines that are looked at for what a crash kept; more than are removed between two flushes.
const SWEPT_MAX: usize = 256;

pub struct Retention {
    rules: Live<Rules>,
    /// One run at a time.
    running: Mutex<()>,
    told: Mutex<Told>,
}

/// What is configured; a run keeps to what it began with.
pub struct Rules {
    config: config::Retention,
    /// Of each rule.
    free_below: Vec<Option<Reserve>>,
}

#[derive(Default)]
struct Told {
    last: Option<RetentionReport>,
    /// When the next run may begin.
    next: Option<Instant>,
    /// Ids of volumes that were looked at after the start for files that had left.
    swept: Vec<String>,
}

impl Rules {
    pub fn new(config: &config::Retention) -> Result<Rules, ReserveError> {
        let parse = |text: &String| text.parse::<Reserve>();
        let free_below = config
            .rules
            .iter()
            .map(|rule| rule.when_free_below.as_ref().map(parse).transpose());
        Ok(Rules {
            free_below: free_below.collect::<Result<_, _>>()?,
            config: config.clone(),
        })
    }
}

impl Retention {
    pub fn new(rules: Rules) -> Retention {
        Retention {
            rules: Live::new(rules),
            running: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// From now on these; a run goes on as it began.
    pub fn set(&self, rules: Rules) {
        self.rules.set(rules);
        // With other rules, what was found before says nothing.
        self.told().next = None;
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a run goes on.
struct Course<'a> {
    archive: &'a Archive,
    rules: Arc<Rules>,
    /// Of a run by command; one by the clock ends with the window.
    job: Option<&'a Job>,
    pace: Mutex<Pace>,
}

impl Course<'_> {
    /// Waits as pace and politeness ask; whether to go on.
    fn go_on(&self, bytes: u64, took: Duration) -> bool {
        let pace = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.took(bytes, Instant::now())
        };
        let polite = Politeness::rest(self.archive.mirror.since_received(), took);
        self.archive.rest(pace.max(polite));
        !self.is_over(bytes)
    }

    fn is_over(&self, bytes: u64) -> bool {
        let window = &self.rules.config.window;
        let told = match self.job {
            Some(job) => !job.read(bytes),
            None => !window.contains(Zoned::now().datetime()),
        };
        told || self.archive.is_stopping()
    }

    fn step(&self, text: String, total_count: u64) {
        if let Some(job) = self.job {
            job.step(text, total_count);
        }
    }

    fn did(&self, count: u64) {
        if let Some(job) = self.job {
            job.did(count);
        }
    }
}

impl Archive {
    /// Called again and again while the server runs: what left before a crash goes, then a run where one is due.
    pub(super) fn retention_round(&self) {
        self.sweep_after_start();
        let retention = &self.retention;
        let now = Instant::now();
        let waits = retention.told().next.is_some_and(|next| next > now);
        let rules = retention.rules.now();
        let closed = || !rules.config.window.contains(Zoned::now().datetime());
        if rules.config.rules.is_empty() || waits || closed() {
            return;
        }
        let again = match self.retention_run(false, None) {
            Ok(report) if !report.stopped => AGAIN_AFTER,
            Ok(_) => LOOK_EVERY,
            Err(stop) => {
                tracing::warn!(reason = %stop, "no image could leave a volume");
                AGAIN_AFTER
            }
        };
        retention.told().next = Some(Instant::now() + again);
    }

    /// `kura retention show` (a dry run) and `kura retention run`.
    pub(super) fn retention_work(&self, dry_run: bool, job: &Job) -> Result<(), Stop> {
        // Where no server runs nobody else has looked.
        if !dry_run {
            self.sweep_after_start();
        }
        let report = self.retention_run(dry_run, Some(job))?;
        let stopped = report.stopped;
        job.retained(report);
        match stopped {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }

    fn retention_run(&self, dry_run: bool, job: Option<&Job>) -> Result<RetentionReport, Stop> {
        let Ok(_running) = self.retention.running.try_lock() else {
            return Err(Stop::Failed(
                "images are leaving their volumes already; kura status says how far that is"
                    .to_owned(),
            ));
        };
        let rules = self.retention.rules.now();
        let course = Course {
            archive: self,
            job,
            pace: Mutex::new(Pace::new(rules.config.bytes_per_second)),
            rules,
        };
        let mut report = self.new_retention_report(&course.rules.config, dry_run);
        let done = self.leave_all(&course, &mut report);
        report.ended = super::now();
        report.stopped = match done {
            Ok(()) => false,
            Err(Stop::Cancelled) => true,
            Err(failed) => return Err(failed),
        };
        if !dry_run {
            self.end_retention_run(&mut report);
        }
        Ok(report)
    }

    fn end_retention_run(&self, report: &mut RetentionReport) {
        let (count, bytes) = report.sum(|rule| (rule.gone_count, rule.gone_bytes));
        let (kept, _) = report.sum(|rule| (rule.kept_count, rule.kept_bytes));
        tracing::info!(
            instances_count = count,
            bytes,
            kept_count = kept,
            stopped = report.stopped,
            "images left their volumes"
        );
        self.tell_left(report);
        // A night in which nothing happened leaves no paper.
        if report.is_worth_keeping() {
            self.write_retention_report(report);
        }
        self.retention.told().last = Some(report.clone());
    }

    /// A crash between the line that says that a file left and its removal leaves the file.
    fn sweep_after_start(&self) {
        for member in self.shelf.all() {
            let Some(volume) = member.here() else {
                // It is looked at again when it is back.
                let mut told = self.retention.told();
                told.swept.retain(|id| *id != member.volume_id);
                continue;
            };
            if self.retention.told().swept.contains(&member.volume_id) || volume.is_adopted() {
                continue;
            }
            match self.sweep_what_left(volume) {
                // The index is being read in.
                Ok(false) => continue,
                Ok(true) => {}
                Err(reason) => tracing::warn!(
                    volume = member.name,
                    reason,
                    "a file that left a volume is still there"
                ),
            }
            self.retention.told().swept.push(member.volume_id.clone());
        }
    }

    /// Removes files that the newest lines of a ledger say have left, and that a crash has kept; false while the index is
    /// being read in. What is missed (a segment ended just then) is a file without a line: equalize gives it one, and it
    /// leaves again.
    pub(super) fn sweep_what_left(&self, volume: &Volume<Line>) -> Result<bool, String> {
        let mut last = VecDeque::new();
        let folder = volume.ledger_folder(volume.id());
        ledger_extent::read_last_segment(volume.disk(), &folder, &mut |json| {
            if let Some(gone) = entry::gone_because(json, leave::WHY) {
                last.push_back(gone);
                if last.len() > SWEPT_MAX {
                    last.pop_front();
                }
            }
        })
        .map_err(|error| error.to_string())?;
        for (sop_instance_uid, path) in last {
            let Ok(Some(file)) = volume.entry(&path) else {
                continue;
            };
            let _lock = self.locks.lock(&sop_instance_uid);
            let view = self.view().map_err(|error| error.to_string())?;
            if view.rebuilding_percent.is_some() {
                return Ok(false);
            }
            let found = view.snapshot.by_sop(&sop_instance_uid);
            let found = found.map_err(|error| error.to_string())?;
            let copies: Vec<Copy> = found
                .iter()
                .flat_map(contents)
                .flat_map(|content| content.copies)
                .collect();
            // Stored there again since, or somebody put something else there.
            let is_listed = |copy: &Copy| copy.volume_id == volume.id() && copy.path == path;
            let is_it = |copy: &Copy| !copy.bad && copy.size_bytes == file.len;
            if copies.iter().any(is_listed) || !copies.iter().any(is_it) {
                continue;
            }
            match volume.remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("{path}: {error}"));
                }
                _ => {}
            }
        }
        Ok(true)
    }

    pub(super) fn retention_status(&self) -> Option<RetentionStatus> {
        let rules = self.retention.rules.now();
        let config = &rules.config;
        if config.rules.is_empty() {
            return None;
        }
        let running = self.retention.running.try_lock().is_err();
        let last = self.retention.told().last.clone();
        let last = last.or_else(|| self.newest_retention_report());
        Some(RetentionStatus::new(config, running, last))
    }
}
