//! Studies from another archive to here: found there, moved here, compared at the end.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what is asked for and said; one pull at a time, on a thread of its own |
//! | `running` | the pull under way: study after study, tried again, waited for |
//! | `search` | all studies that the other archive has, also where it answers only so many at a time |
//! | `dates` | ranges of dates, and their halves |
//! | `study` | one study: both sides compared, what is missing asked for |
//! | `peer` | the associations: C-FIND, C-MOVE, C-GET |
//! | `get` | what a C-GET proposes, and what comes by it |
//! | `task` | what is done, so that it goes on after a crash |
//! | `report` | what is kept at the end |

mod dates;
mod get;
mod peer;
mod report;
mod running;
mod search;
mod study;
mod task;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::config::Config;
use crate::job::{ProgressStatus, Window};
use crate::transfers::Transfers;
use crate::volume::io::Disk;

use running::Job;
use task::{Known, State, Task};

/// `kura pull …`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PullVerb {
    Start {
        /// AE title of a peer, or `AE@HOST:PORT`.
        from: String,
        /// By `group << 16 | element`, as `kura find` takes them.
        keys: Vec<(u32, String)>,
        /// By C-GET instead of C-MOVE.
        get: bool,
        /// Between two studies.
        pause_seconds: u64,
        /// A study is begun only then.
        window: Option<Window>,
    },
    /// The last one goes on, and tries again what failed.
    Resume,
    Look,
    Cancel,
}

/// The pull under way, or the last one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PullStatus {
    /// Empty: there was none.
    pub name: String,
    pub from: String,
    pub running: bool,
    /// What is being done, in words.
    pub step: String,
    /// Why it ended before its end.
    pub error: Option<String>,
    pub begun: String,
    pub studies_total: u64,
    /// Everything that the other archive has of them is here.
    pub studies_complete: u64,
    /// Of these: they were before.
    pub studies_here_before: u64,
    /// Something is missing, however often it was asked for.
    pub studies_incomplete: u64,
    pub instances_done: u64,
    /// As far as the other archive says.
    pub instances_total: u64,
    pub instances_missing: u64,
    /// That came, of the data sets.
    pub bytes: u64,
    pub bytes_per_second: u64,
    pub eta_seconds: Option<u64>,
    /// What has to be known of the search.
    pub notes: Vec<String>,
    /// Name of the report, when it came to its end.
    pub report: Option<String>,
}

/// Until who is asked to end is ended.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Pulls, one at a time.
pub struct Pulls {
    archive: Arc<Archive>,
    config: Config,
    transfers: Arc<Transfers>,
    state: PathBuf,
    disk: Disk,
    current: Mutex<Option<Arc<Job>>>,
    /// A server runs: without one nothing would receive what is sent.
    serving: AtomicBool,
}

impl Pulls {
    pub fn open(
        archive: &Arc<Archive>,
        config: &Config,
        transfers: &Arc<Transfers>,
    ) -> Result<Arc<Pulls>, String> {
        Ok(Arc::new(Pulls {
            archive: archive.clone(),
            state: config.state.clone(),
            config: config.clone(),
            transfers: transfers.clone(),
            disk: Disk::default(),
            current: Mutex::default(),
            serving: AtomicBool::new(false),
        }))
    }

    /// A pull that the end of the process interrupted goes on.
    pub fn start(self: &Arc<Self>) {
        self.serving.store(true, Ordering::Relaxed);
        let Some(known) = task::newest(&self.disk, &self.state) else {
            return;
        };
        if known.ended.is_some() || known.stopped.is_some() {
            return;
        }
        let name = known.task.name.clone();
        match self.begin(known) {
            Ok(_) => tracing::info!(name, "a pull goes on"),
            Err(reason) => tracing::error!(name, reason, "a pull does not go on"),
        }
    }

    /// Ends what is under way; the next start goes on with it.
    pub fn stop(&self) {
        self.serving.store(false, Ordering::Relaxed);
        let Some(job) = self.current().clone() else {
            return;
        };
        job.stop();
        for patience in [END_PATIENCE / 4, END_PATIENCE] {
            let deadline = Instant::now() + patience;
            while job.is_running() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            // The peer is silent, say.
            job.break_off();
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error is a sentence.
    pub fn verb(self: &Arc<Self>, verb: PullVerb) -> Result<PullStatus, String> {
        match verb {
            PullVerb::Look => self.look(),
            PullVerb::Cancel => self.cancel(),
            PullVerb::Resume => self.resume(),
            PullVerb::Start {
                from,
                keys,
                get,
                pause_seconds,
                window,
            } => {
                let title = running::peer_of(&self.config, &from)?.ae_title;
                let plain = |c: char| match c.is_ascii_alphanumeric() || c == '_' {
                    true => c,
                    false => '_',
                };
                let title: String = title.as_str().chars().map(plain).collect();
                self.new_pull(Task {
                    name: format!("pull-{title}"),
                    from,
                    keys,
                    get,
                    pause_seconds,
                    window,
                    begun: crate::archive::now(),
                })
            }
        }
    }

    fn look(&self) -> Result<PullStatus, String> {
        if let Some(job) = &*self.current() {
            return Ok(job.status());
        }
        let known = task::newest(&self.disk, &self.state);
        Ok(known.map(|known| known.status()).unwrap_or_default())
    }

    /// Whoever asks for what is under way already gets to look at that.
    fn new_pull(self: &Arc<Self>, mut task: Task) -> Result<PullStatus, String> {
        if let Some(job) = self.current().as_ref().filter(|job| job.is_running()) {
            return match job.task().is_like(&task) {
                true => Ok(job.status()),
                false => Err(format!(
                    "a pull from {} is under way; wait for it, or end it with: kura pull cancel",
                    job.task().from
                )),
            };
        }
        self.must_serve()?;
        let title = task.name.clone();
        let mut time = jiff::Timestamp::now();
        loop {
            task.name = format!("{title}-{}", time.strftime("%Y%m%dT%H%M%SZ"));
            match task::File::create(&self.disk, &self.state, &task) {
                Ok(_) => return self.begin(Known::new(task)),
                // The one before began within this second.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    time += jiff::SignedDuration::from_secs(1);
                }
                Err(error) => return Err(self.not_written(&error)),
            }
        }
    }

    fn resume(self: &Arc<Self>) -> Result<PullStatus, String> {
        if let Some(job) = self.current().as_ref().filter(|job| job.is_running()) {
            return Ok(job.status());
        }
        self.must_serve()?;
        let known = task::newest(&self.disk, &self.state);
        let mut known =
            known.ok_or("nothing was pulled yet; begin with: kura pull --from PEER KEY=VALUE")?;
        let nothing_is_left = known.studies.iter().all(|s| s.state == State::Complete);
        if known.ended.is_some() && nothing_is_left {
            return Ok(known.status());
        }
        (known.ended, known.stopped) = (None, None);
        let opened = task::File::open(&self.disk, &self.state, &known.task.name);
        let resumed = opened.and_then(|mut file| file.resumed());
        resumed.map_err(|error| self.not_written(&error))?;
        self.begin(known)
    }

    fn must_serve(&self) -> Result<(), String> {
        match self.serving.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(
                "no server is running that would receive the images; start it with: kura serve"
                    .to_owned(),
            ),
        }
    }

    fn not_written(&self, error: &std::io::Error) -> String {
        let folder = self.state.join(task::FOLDER);
        format!(
            "{}: {error}; nothing was pulled, as it could not go on after a crash",
            folder.display()
        )
    }

    fn begin(self: &Arc<Self>, known: Known) -> Result<PullStatus, String> {
        let job = Arc::new(Job::new(known));
        let mut current = self.current();
        let (pulls, theirs) = (self.clone(), job.clone());
        std::thread::Builder::new()
            .name("pull".to_owned())
            .spawn(move || pulls.run(&theirs))
            .map_err(|error| format!("no thread for the pull: {error}"))?;
        *current = Some(job.clone());
        Ok(job.status())
    }

    fn cancel(&self) -> Result<PullStatus, String> {
        let Some(job) = self.current().clone() else {
            return self.look();
        };
        if job.is_running() {
            job.cancel();
            let theirs = job.clone();
            // A peer that says nothing hears of no cancel.
            let late = std::thread::Builder::new().name("pull cancel".to_owned());
            let late = late.spawn(move || {
                let deadline = Instant::now() + END_PATIENCE;
                while theirs.is_running() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(50));
                }
                theirs.break_off();
            });
            if let Err(error) = late {
                tracing::warn!(%error, "no thread for the end of a pull");
            }
        }
        Ok(job.status())
    }
}

impl Known {
    /// Of one that is not under way.
    fn status(&self) -> PullStatus {
        let mut status = PullStatus {
            name: self.task.name.clone(),
            from: self.task.from.clone(),
            begun: self.task.begun.clone(),
            studies_total: self.studies.len() as u64,
            studies_complete: self.count(State::Complete),
            studies_here_before: self.sums.was_here_count,
            studies_incomplete: self.count(State::Incomplete),
            bytes: self.sums.bytes,
            notes: self.notes.clone(),
            report: self.ended.clone(),
            error: self.stopped.as_ref().map(|(why, _)| why.clone()),
            step: match (&self.ended, &self.stopped) {
                (Some(_), _) => "done",
                (None, Some(_)) => "stopped",
                (None, None) => "waits for the server",
            }
            .to_owned(),
            ..PullStatus::default()
        };
        for study in &self.studies {
            let instances = u64::from(study.instances.unwrap_or(0));
            status.instances_total += instances;
            status.instances_missing += u64::from(study.missing);
            if study.state != State::Waiting {
                status.instances_done += instances.saturating_sub(u64::from(study.missing));
            }
        }
        status
    }
}

impl PullStatus {
    fn with(mut self, progress: &ProgressStatus) -> PullStatus {
        self.bytes_per_second = progress.bytes_per_second;
        self.eta_seconds = progress.eta_seconds;
        self
    }
}
