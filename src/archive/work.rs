//! Long work on disks, one piece at a time: it is started, looked at and stopped by command, and goes on while the
//! archive receives. What it has done stays done; run again, it goes on from there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Archive;
use super::drill_report::DrillReport;
use super::in_place::Listed;
use super::retention::RetentionReport;

/// `kura volume check`, `kura equalize`, `kura adopt`, `kura drill`, `kura scrub run`, `kura retention`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkVerb {
    Equalize {
        /// Names; none: all that are here.
        volumes: Vec<String>,
        depth: Depth,
        /// Give files without a ledger line their line, else only say so.
        repair: bool,
    },
    Adopt {
        path: PathBuf,
        name: Option<String>,
        /// Store the files again, instead of serving them where they are.
        copy: bool,
    },
    Drill {
        /// Files read of each volume.
        sample: u32,
        seed: Option<u64>,
    },
    /// Every file is read again, now.
    Scrub {
        /// Names; none: all that are here.
        volumes: Vec<String>,
    },
    /// Images leave their volumes by the rules, now; or what would.
    Retention {
        dry_run: bool,
    },
    /// How far it is; what was found, when it is over.
    Look,
    Cancel,
}

/// Files of each volume that a drill reads at most.
const SAMPLE_MAX: u32 = 10_000;

/// How closely a listed file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// It is there and has its size.
    Names,
    /// Also its beginning is read: the UIDs are the ledger's.
    Headers,
    /// Also every byte is read: both checksums are the ledger's.
    Checksums,
}

/// The work under way, or the last one of this process.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WorkStatus {
    pub what: String,
    pub running: bool,
    pub cancelled: bool,
    /// What is being done now, on which volume.
    pub step: String,
    pub done_count: u64,
    /// Of this step; an estimate.
    pub total_count: u64,
    /// Read in this step.
    pub done_bytes: u64,
    pub seconds: f64,
    /// Why it ended before its end.
    pub error: Option<String>,
    pub volumes: Vec<VolumeReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Box<DrillReport>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Box<RetentionReport>>,
}

/// What was found on a volume. The counts are complete, the list ends after a thousand.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumeReport {
    pub volume: String,
    /// Lines of the ledger that are in force.
    pub files: u64,
    pub ok: u64,
    pub missing: u64,
    /// Another size, checksum or UID than the ledger says, or unreadable.
    pub wrong: u64,
    /// Of these: it was the last good copy.
    #[serde(default)]
    pub lost: u64,
    /// Files without a line that stay without one.
    pub extra: u64,
    /// Files of what was amended or removed, kept by a line and not looked at.
    #[serde(default)]
    pub hidden: u64,
    /// Files that got their line.
    pub added: u64,
    /// Files with a line at the end.
    pub served: u64,
    /// Of these: the instance was here already in the same form.
    pub copies: u64,
    /// Of these: kept beside another content of that UID.
    pub others: u64,
    /// The index was behind the ledger and is read in again.
    pub index_rebuilt: bool,
    /// What happened besides, in sentences.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// `missing`, `wrong`, `extra` or `skipped`.
    pub kind: String,
    pub path: String,
    pub reason: String,
}

/// Paths listed for a volume.
pub const FINDINGS_MAX: usize = 1_000;

impl VolumeReport {
    pub(super) fn count(&mut self, listed: &Listed) {
        self.added += listed.added;
        self.copies += listed.copies;
        self.others += listed.others;
    }

    pub(super) fn find(&mut self, kind: &str, path: &str, reason: String) {
        match kind {
            "missing" => self.missing += 1,
            "wrong" => self.wrong += 1,
            _ => self.extra += 1,
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                kind: kind.to_owned(),
                path: path.to_owned(),
                reason,
            });
        }
    }
}

/// One piece of work; shared by who does it and who looks at it.
pub struct Job {
    what: String,
    begun: Instant,
    cancelled: AtomicBool,
    running: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    step: String,
    seconds: Option<f64>,
    error: Option<String>,
    volumes: Vec<VolumeReport>,
    drill: Option<Box<DrillReport>>,
    retention: Option<Box<RetentionReport>>,
}

/// Work ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("it was stopped; run it again to go on")]
    Cancelled,
    #[error("{0}")]
    Failed(String),
}

impl From<crate::index::IndexError> for Stop {
    fn from(error: crate::index::IndexError) -> Stop {
        Stop::Failed(error.to_string())
    }
}

impl Job {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn step(&self, step: String, total_count: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.total.store(total_count, Ordering::Relaxed);
        self.told().step = step;
    }

    pub(super) fn did(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts bytes read; whether to go on.
    pub(super) fn read(&self, bytes: u64) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        !self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn go_on(&self) -> Result<(), Stop> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }

    pub(super) fn report(&self, report: VolumeReport) {
        self.told().volumes.push(report);
    }

    pub(super) fn drilled(&self, report: DrillReport) {
        self.told().drill = Some(Box::new(report));
    }

    pub(super) fn retained(&self, report: RetentionReport) {
        self.told().retention = Some(Box::new(report));
    }

    fn status(&self) -> WorkStatus {
        let told = self.told();
        WorkStatus {
            what: self.what.clone(),
            running: self.running.load(Ordering::Acquire),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            step: told.step.clone(),
            done_count: self.done.load(Ordering::Relaxed),
            total_count: self.total.load(Ordering::Relaxed),
            done_bytes: self.bytes.load(Ordering::Relaxed),
            seconds: told
                .seconds
                .unwrap_or_else(|| self.begun.elapsed().as_secs_f64()),
            error: told.error.clone(),
            volumes: told.volumes.clone(),
            drill: told.drill.clone(),
            retention: told.retention.clone(),
        }
    }
}

/// The place where work is noted.
#[derive(Default)]
pub struct Work {
    current: Mutex<Option<Arc<Job>>>,
}

impl Archive {
    fn current_work(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        let current = &self.work.current;
        current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts work, or answers how far it is. Who asks for what is under way already gets to look at that.
    pub fn work_verb(self: &Arc<Archive>, verb: WorkVerb) -> Result<Option<WorkStatus>, String> {
        let what = match &verb {
            WorkVerb::Look => return Ok(self.work_status()),
            WorkVerb::Cancel => {
                if let Some(job) = &*self.current_work() {
                    job.cancelled.store(true, Ordering::Relaxed);
                }
                return Ok(self.work_status());
            }
            WorkVerb::Drill { sample, .. } if !(1..=SAMPLE_MAX).contains(sample) => {
                return Err(format!(
                    "a drill reads 1 to {SAMPLE_MAX} files of each volume, not {sample}; nothing was begun"
                ));
            }
            verb => serde_json::to_string(verb).map_err(|error| error.to_string())?,
        };
        let mut current = self.current_work();
        if let Some(job) = &*current
            && job.running.load(Ordering::Acquire)
        {
            return match job.what == what {
                true => Ok(Some(job.status())),
                false => Err(
                    "other work on the disks is under way; wait for it, or stop it with: kura equalize --cancel"
                        .to_owned(),
                ),
            };
        }
        let job = Arc::new(Job {
            what,
            begun: Instant::now(),
            cancelled: AtomicBool::new(false),
            running: AtomicBool::new(true),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            told: Mutex::default(),
        });
        let (archive, theirs) = (self.clone(), job.clone());
        std::thread::Builder::new()
            .name("work".to_owned())
            .spawn(move || archive.do_work(verb, &theirs))
            .map_err(|error| error.to_string())?;
        *current = Some(job.clone());
        Ok(Some(job.status()))
    }

    fn do_work(self: Arc<Archive>, verb: WorkVerb, job: &Job) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match verb {
            WorkVerb::Equalize {
                volumes,
                depth,
                repair,
            } => self.equalize(&volumes, depth, repair, job),
            WorkVerb::Adopt {
                path, copy: true, ..
            } => self.adopt_copies(&path, job),
            WorkVerb::Adopt { path, name, .. } => self.adopt(&path, name, job),
            WorkVerb::Drill { sample, seed } => self.drill(sample, seed, job),
            WorkVerb::Scrub { volumes } => self.scrub_now(&volumes, job),
            WorkVerb::Retention { dry_run } => self.retention_work(dry_run, job),
            WorkVerb::Look | WorkVerb::Cancel => Ok(()),
        }));
        // Before the end is told: whoever opened the archive for this alone closes it then.
        drop(self);
        let mut told = job.told();
        told.seconds = Some(job.begun.elapsed().as_secs_f64());
        told.error = match done {
            Ok(Ok(())) => None,
            Ok(Err(stop)) => Some(stop.to_string()),
            Err(_) => Some("it ended by a fault in this program; please report it".to_owned()),
        };
        if let Some(error) = &told.error {
            tracing::warn!(what = job.what, error, "work on the disks ended early");
        }
        drop(told);
        job.running.store(false, Ordering::Release);
    }

    fn work_status(&self) -> Option<WorkStatus> {
        self.current_work().as_ref().map(|job| job.status())
    }

    /// The end of the process: stops what is under way, waiting a moment for it.
    pub fn stop_work(&self) {
        let Some(job) = self.current_work().clone() else {
            return;
        };
        job.cancelled.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + STOP_PATIENCE;
        while job.running.load(Ordering::Acquire) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A disk that does not answer must not keep the process from ending.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
