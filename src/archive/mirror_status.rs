//! What is said of second copies, and the switch that stops all copying.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Zoned;
use serde::{Deserialize, Serialize};

use crate::index::IndexError;
use crate::job::ProgressStatus;
use crate::volume::io::Disk;

use super::due::{Asked, Needs, date_of};
use super::mirror::Run;
use super::safety::Need;
use super::{Archive, state};

/// `kura mirror …`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MirrorVerb {
    /// With every job, or only those in which something is left to do.
    Status {
        all: bool,
    },
    /// Nothing is copied until it is resumed, also after a restart.
    Pause,
    Resume,
    /// Now, whatever the hour; by exam date `YYYYMMDD` and modality, or all that is left.
    Run {
        date: Option<String>,
        modality: Option<String>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MirrorStatus {
    /// Version of this object's shape.
    pub version: u32,
    /// `off` (no mirror volume), `paused`, `blocked`, `running`, `waiting` (for its hour), `done` or `unknown` (the index
    /// is being read in).
    pub state: String,
    /// In words, where the state alone does not say it.
    pub reason: String,
    /// `nightly`, `after-study`, `immediate` or `before-ack`; rules may say otherwise for some.
    pub when: String,
    pub window: String,
    /// Local time when the window opens next; `None` while it is open.
    pub window_opens: Option<String>,
    pub job: Option<JobName>,
    /// Of the job under way.
    pub progress: Option<ProgressStatus>,
    pub todo_count: u64,
    pub todo_bytes: u64,
    pub done_count: u64,
    pub failed_count: u64,
    /// Without a second copy because their study date is outside `[[mirror.period]]`.
    pub left_out_count: u64,
    /// Contents without any good copy.
    pub lost_count: u64,
    pub jobs: Vec<JobStatus>,
    /// The last time something was copied, to its end.
    pub last_run: Option<LastRun>,
    /// Jobs by hand.
    pub asked: Vec<Asked>,
    /// Why some could not be copied, a few of them.
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobName {
    pub date: String,
    pub modality: String,
}

/// A job: exam date × modality. Counts are instances.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobStatus {
    pub date: String,
    pub modality: String,
    pub todo_count: u64,
    pub todo_bytes: u64,
    pub done_count: u64,
    pub failed_count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastRun {
    /// RFC 3339.
    pub begun: String,
    pub ended: String,
    pub copied_count: u64,
    pub copied_bytes: u64,
    pub failed_count: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Failure {
    pub sop_instance_uid: String,
    pub date: String,
    pub modality: String,
    pub reason: String,
}

/// What outlives the process, in `mirror.json` of the state folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub last_run: Option<LastRun>,
}

pub const FILE: &str = "mirror.json";
const FILE_BYTES_MAX: u64 = 1 << 20;
const FAILURES_MAX: usize = 20;

impl Archive {
    pub fn mirror_verb(&self, verb: MirrorVerb) -> Result<MirrorStatus, String> {
        match verb {
            MirrorVerb::Status { .. } => {}
            MirrorVerb::Pause => self.pause_copying(true)?,
            MirrorVerb::Resume => self.pause_copying(false)?,
            MirrorVerb::Run { date, modality } => {
                if self.mirror.paused.load(Ordering::Relaxed) {
                    return Err("copying is paused: kura mirror resume".to_owned());
                }
                if !self.judge().has_mirror() {
                    return Err(NO_MIRROR.to_owned());
                }
                self.ask_to_mirror(date, modality);
                return self.mirror_status(false).map_err(|error| error.to_string());
            }
        }
        let all = matches!(verb, MirrorVerb::Status { all: true });
        self.mirror_status(all).map_err(|error| error.to_string())
    }

    fn pause_copying(&self, paused: bool) -> Result<(), String> {
        self.mirror.paused.store(paused, Ordering::Relaxed);
        self.keep_mirror(|kept| kept.paused = paused)
            .map_err(|error| {
                format!("done, but a restart will not know: {FILE} could not be written ({error})")
            })
    }

    pub(super) fn note_run(&self, run: Run) {
        let last = LastRun {
            begun: run.begun,
            ended: super::now(),
            copied_count: run.copied_count,
            copied_bytes: run.copied_bytes,
            failed_count: run.failed_count,
        };
        if let Err(error) = self.keep_mirror(|kept| kept.last_run = Some(last)) {
            tracing::warn!(%error, "when second copies were made was not written down");
        }
    }

    /// The last time something was copied, to its end.
    pub fn last_mirror_run(&self) -> Option<LastRun> {
        self.kept_mirror().last_run
    }

    pub(super) fn kept_mirror(&self) -> Kept {
        let bytes = Disk::default().read_small(&self.state.join(FILE), FILE_BYTES_MAX);
        bytes
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn keep_mirror(&self, change: impl FnOnce(&mut Kept)) -> std::io::Result<()> {
        // One at a time.
        let _told = self.mirror.told();
        let mut kept = self.kept_mirror();
        change(&mut kept);
        let bytes = serde_json::to_vec_pretty(&kept).map_err(std::io::Error::other)?;
        state::replace(&Disk::default(), &self.state.join(FILE), &bytes)
    }

    pub fn mirror_status(&self, all: bool) -> Result<MirrorStatus, IndexError> {
        let judge = self.judge();
        let config = self.mirror_config.now();
        let mut jobs: BTreeMap<(String, String), JobStatus> = BTreeMap::new();
        let (mut lost_count, mut left_out_count) = (0, 0);
        let snapshot = super::mirror::whole(self)?;
        let is_whole = snapshot.is_some();
        if let Some(snapshot) = snapshot {
            let mut needs = Needs::default();
            snapshot.spread(&mut |series| {
                if series.spread.is_empty() {
                    return ControlFlow::Continue(());
                }
                let date = date_of(&series.folder);
                let job = jobs
                    .entry((date.clone(), series.modality.clone()))
                    .or_insert_with(|| JobStatus {
                        date,
                        modality: series.modality.clone(),
                        ..JobStatus::default()
                    });
                let is_in = config.in_period(&job.modality, &job.date);
                for spread in &series.spread {
                    match needs.of(&spread.volume_ids, &judge) {
                        Need::Mirror if !is_in => left_out_count += spread.contents_count,
                        Need::Mirror | Need::Archive => {
                            job.todo_count += spread.contents_count;
                            job.todo_bytes += spread.bytes;
                        }
                        Need::Nothing if judge.has_mirror() => {
                            job.done_count += spread.contents_count;
                        }
                        Need::Nothing => {}
                        Need::Lost => lost_count += spread.contents_count,
                    }
                }
                ControlFlow::Continue(())
            })?;
        }
        let kept = self.kept_mirror();
        let told = self.mirror.told();
        for failed in told.failed.values() {
            let key = (failed.date.clone(), failed.modality.clone());
            if let Some(job) = jobs.get_mut(&key) {
                job.failed_count = (job.failed_count + 1).min(job.todo_count);
            }
        }
        let sum = |of: fn(&JobStatus) -> u64| jobs.values().map(of).sum();
        let (todo_count, failed_count): (u64, u64) =
            (sum(|j| j.todo_count), sum(|j| j.failed_count));
        let now = Zoned::now().datetime();
        let window_opens = (!config.window.contains(now)).then(|| {
            config
                .window
                .next_start(now)
                .strftime("%Y-%m-%d %H:%M")
                .to_string()
        });
        let blocked = told.why_blocked();
        let (state, reason) = if !is_whole {
            ("unknown", "the index is being read in".to_owned())
        } else if !judge.has_mirror() {
            ("off", NO_MIRROR.to_owned())
        } else if self.mirror.paused.load(Ordering::Relaxed) {
            ("paused", "kura mirror resume goes on".to_owned())
        } else if told.job.is_some() {
            ("running", String::new())
        } else if let Some(reason) = blocked {
            ("blocked", reason)
        } else if todo_count > 0 {
            ("waiting", String::new())
        } else {
            ("done", String::new())
        };
        let done_count = sum(|j| j.done_count);
        let todo_bytes = sum(|j| j.todo_bytes);
        let left = |job: &JobStatus| all || job.todo_count > 0;
        let failures = told.failed.iter().take(FAILURES_MAX);
        Ok(MirrorStatus {
            version: 1,
            state: state.to_owned(),
            reason,
            when: config.when.to_string(),
            window: config.window.to_string(),
            window_opens,
            job: told
                .job
                .clone()
                .map(|(date, modality)| JobName { date, modality }),
            progress: told
                .job
                .as_ref()
                .and(told.progress.as_ref())
                .map(|progress| progress.status(Instant::now())),
            todo_count,
            todo_bytes,
            done_count,
            failed_count,
            left_out_count,
            lost_count,
            last_run: kept.last_run,
            asked: told.asked.iter().cloned().collect(),
            failures: failures
                .map(|(sop, failed)| Failure {
                    sop_instance_uid: sop.clone(),
                    date: failed.date.clone(),
                    modality: failed.modality.clone(),
                    reason: failed.reason.clone(),
                })
                .collect(),
            jobs: jobs.into_values().filter(left).collect(),
        })
    }
}

const NO_MIRROR: &str = "there is no mirror volume: kura volume add NAME PATH --role mirror";
