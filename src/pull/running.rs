//! The pull under way: study after study, what fails tried again, a peer that is away waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::peer::{Other, Trouble, rest};
use super::task::{self, Done, Known, State, Task};
use super::{PullStatus, Pulls, report, search, study};
use crate::config::{Config, PeerEntry};
use crate::job::Progress;
use crate::net::AssociationHandle;
use crate::transfers::{Direction, Transfer};

/// Before what failed is tried again: each study is tried once more than there are pauses.
const TRY_PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// Between two attempts to reach a peer that is away.
const AWAY_PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// So long it is waited for a peer that is away; then the pull stops, and goes on by command.
const AWAY_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether the window is open.
const WINDOW_PAUSE: Duration = Duration::from_secs(5);

/// Shared by who pulls and who looks.
pub(super) struct Job {
    known: Mutex<Known>,
    live: Mutex<Live>,
    running: AtomicBool,
    /// By a person, for good.
    cancelled: AtomicBool,
    /// By the end of the process.
    stopped: AtomicBool,
    open: Mutex<Option<AssociationHandle>>,
}

struct Live {
    step: String,
    /// Instances of the study at hand.
    current_count: u64,
    progress: Progress,
}

impl Job {
    pub fn new(known: Known) -> Job {
        Job {
            known: Mutex::new(known),
            live: Mutex::new(Live {
                step: "begins".to_owned(),
                current_count: 0,
                progress: Progress::new(0, 0, Instant::now()),
            }),
            running: AtomicBool::new(true),
            cancelled: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn task(&self) -> Task {
        self.known().task.clone()
    }

    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed)
    }

    /// Ends the association, whatever it does; only of one that was cancelled or stopped.
    pub fn break_off(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.as_ref().filter(|_| self.is_over()) {
            handle.shutdown_now();
        }
    }

    fn step(&self, step: impl Into<String>) {
        self.live().step = step.into();
    }

    pub fn status(&self) -> PullStatus {
        let running = self.is_running();
        let mut status = self.known().status();
        let live = self.live();
        if running {
            status.running = true;
            status.step.clone_from(&live.step);
            status.instances_done += live.current_count;
            status = status.with(&live.progress.status(Instant::now()));
        }
        status
    }
}

/// A configured peer, or `AE@HOST:PORT`. The error is a sentence.
pub(super) fn peer_of(config: &Config, from: &str) -> Result<PeerEntry, String> {
    if from.contains('@') {
        return from
            .parse()
            .map_err(|reason| format!("{from}: {reason}; expected AE@HOST:PORT"));
    }
    config.peer(from).ok_or_else(|| {
        format!("{from} is not a configured peer; add a [[peer]], or give AE@HOST:PORT")
    })
}

impl Pulls {
    /// The thread of a pull.
    pub(super) fn run(&self, job: &Job) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.pull(job)));
        let name = job.task().name;
        let ended = match done {
            Ok(Ok(report)) => {
                tracing::info!(name, report, "a pull came to its end");
                let mut known = job.known();
                known.ended = Some(report.clone());
                drop(known);
                self.file(&name)
                    .and_then(|mut file| file.ended(&report).map_err(|e| self.broken(&e)))
            }
            Ok(Err(Trouble::Cancelled)) if job.cancelled.load(Ordering::Relaxed) => {
                let why = "it was cancelled; kura pull --resume goes on with it";
                self.stopped(job, &name, why, true)
            }
            // The end of the process: the next start goes on.
            Ok(Err(Trouble::Cancelled)) => Ok(()),
            Ok(Err(Trouble::Away(why) | Trouble::Broke(why) | Trouble::Ends(why))) => {
                self.stopped(job, &name, &why, false)
            }
            Ok(Err(Trouble::Failed { status, reason })) => {
                let why = format!("{reason} (status {status:04X}H)");
                self.stopped(job, &name, &why, false)
            }
            Err(_) => {
                let why = "it ended by a fault in this program; please report it";
                self.stopped(job, &name, why, false)
            }
        };
        if let Err(Trouble::Ends(reason)) = ended {
            tracing::error!(name, reason, "the end of a pull was not written down");
        }
        job.running.store(false, Ordering::Release);
    }

    fn stopped(&self, job: &Job, name: &str, why: &str, cancelled: bool) -> Result<(), Trouble> {
        tracing::warn!(name, why, "a pull stopped");
        job.known().stopped = Some((why.to_owned(), cancelled));
        let mut file = self.file(name)?;
        file.stopped(why, cancelled)
            .map_err(|error| self.broken(&error))
    }

    fn file(&self, name: &str) -> Result<task::File, Trouble> {
        task::File::open(&self.disk, &self.state, name).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &std::io::Error) -> Trouble {
        let folder = self.state.join(task::FOLDER);
        Trouble::Ends(format!(
            "{}: {error}; what is done cannot be written down, so nothing more is pulled",
            folder.display()
        ))
    }

    /// The name of the report.
    fn pull(&self, job: &Job) -> Result<String, Trouble> {
        let task = job.task();
        let peer = peer_of(&self.config, &task.from).map_err(Trouble::Ends)?;
        let cancelled = || job.is_over();
        let other = Other {
            peer: &peer,
            calling: &self.config.ae_title,
            port: self.config.port,
            get: task.get,
            open: &job.open,
            cancelled: &cancelled,
        };
        let mut file = self.file(&task.name)?;
        if !job.known().found {
            job.step("searches");
            let keys = task.keys.iter().cloned().collect();
            let told = |count: u64| job.live().step = format!("searches: {count} studies so far");
            let found = search::search(&other, &keys, &told)?;
            file.found(&found.studies, &found.notes)
                .map_err(|error| self.broken(&error))?;
            let mut known = job.known();
            (known.studies, known.notes, known.found) = (found.studies, found.notes, true);
        }
        self.each_study(job, &task, &other, &mut file)?;
        job.step("writes the report");
        let known = job.known().clone();
        report::write(&self.archive, &self.disk, &self.state, &known, &peer)
            .map_err(|error| self.broken(&error))
    }

    fn each_study(
        &self,
        job: &Job,
        task: &Task,
        other: &Other,
        file: &mut task::File,
    ) -> Result<(), Trouble> {
        let pauses = [Duration::ZERO].into_iter().chain(TRY_PAUSES);
        for (round, pause) in pauses.enumerate() {
            let left: Vec<usize> = {
                let known = job.known();
                let of_round = |state: State| match round {
                    0 => state != State::Complete,
                    _ => state == State::Incomplete,
                };
                let all = known.studies.iter().enumerate();
                let left = all.filter(|(_, study)| of_round(study.state));
                let instances = left
                    .clone()
                    .map(|(_, s)| u64::from(s.instances.unwrap_or(0)));
                let mut live = job.live();
                live.progress = Progress::new(instances.sum(), 0, Instant::now());
                left.map(|(number, _)| number).collect()
            };
            if left.is_empty() {
                return Ok(());
            }
            rest(other.cancelled, pause)?;
            for number in left {
                self.wait_for_window(job, task, other)?;
                let done = self.one(job, other, number)?;
                file.done(&done).map_err(|error| self.broken(&error))?;
                {
                    let mut known = job.known();
                    let mut live = job.live();
                    known.done(&done);
                    live.current_count = 0;
                    let count = done.their_count.saturating_sub(done.missing_count);
                    live.progress.add(count, done.bytes, Instant::now());
                }
                if !done.was_here {
                    rest(other.cancelled, Duration::from_secs(task.pause_seconds))?;
                }
            }
        }
        Ok(())
    }

    fn wait_for_window(&self, job: &Job, task: &Task, other: &Other) -> Result<(), Trouble> {
        let Some(window) = task.window else {
            return Ok(());
        };
        let is_open = || window.contains(jiff::Zoned::now().datetime());
        if is_open() {
            return Ok(());
        }
        job.step(format!("waits for {window}"));
        while !is_open() {
            rest(other.cancelled, WINDOW_PAUSE)?;
        }
        job.live().progress.resumed(Instant::now());
        Ok(())
    }

    /// One study, once; a peer that is away is waited for.
    fn one(&self, job: &Job, other: &Other, number: usize) -> Result<Done, Trouble> {
        let (uid, expected) = {
            let known = job.known();
            let study = &known.studies[number];
            (study.uid.to_string(), study.instances)
        };
        let since = Instant::now();
        let mut attempt = 0;
        loop {
            job.step("pulls");
            match self.attempt(job, other, number, &uid, expected) {
                Err(Trouble::Away(reason)) if since.elapsed() < AWAY_PATIENCE => {
                    job.step(format!("waits: {reason}"));
                    tracing::warn!(reason, "a pull waits");
                    rest(
                        other.cancelled,
                        AWAY_PAUSES[attempt.min(AWAY_PAUSES.len() - 1)],
                    )?;
                    attempt += 1;
                    job.live().progress.resumed(Instant::now());
                }
                Err(Trouble::Away(reason)) => {
                    return Err(Trouble::Away(format!(
                        "{reason}, for {} min; kura pull --resume goes on",
                        AWAY_PATIENCE.as_secs() / 60
                    )));
                }
                Err(Trouble::Broke(reason)) => {
                    return self.not_pulled(number, &uid, expected, reason);
                }
                Err(Trouble::Failed { status, reason }) => {
                    let reason = match status {
                        0 => reason,
                        status => format!("{reason} (status {status:04X}H)"),
                    };
                    return self.not_pulled(number, &uid, expected, reason);
                }
                other => return other,
            }
        }
    }

    fn not_pulled(
        &self,
        number: usize,
        uid: &str,
        expected: Option<u32>,
        reason: String,
    ) -> Result<Done, Trouble> {
        tracing::warn!(study_instance_uid = uid, reason, "a study was not pulled");
        let our_count = study::here(&self.archive, uid).map_or(0, |(ours, _)| ours.len() as u64);
        let their_count = expected.map_or(0, u64::from);
        Ok(Done {
            number,
            their_count,
            our_count,
            missing_count: their_count.saturating_sub(our_count),
            by_count: true,
            reason,
            ..Done::default()
        })
    }

    fn attempt(
        &self,
        job: &Job,
        other: &Other,
        number: usize,
        uid: &str,
        expected: Option<u32>,
    ) -> Result<Done, Trouble> {
        let begun = Instant::now();
        let mut line = other.connect()?;
        let (ours, our_bytes) = study::here(&self.archive, uid)?;
        let our_count = ours.len() as u64;
        let is_new = ours.is_empty();
        drop(ours);
        // What is not here at all needs no comparison before; C-GET needs to know what will come.
        let before = match is_new && !other.get {
            true => None,
            false => Some(study::compare(&mut line, &self.archive, uid, expected)?),
        };
        if let Some(same) = before.as_ref().filter(|known| known.missing_count == 0) {
            return Ok(Done {
                number,
                was_here: true,
                their_count: same.their_count,
                our_count: same.our_count,
                by_count: same.by_count,
                ..Done::default()
            });
        }
        let mut told = |count: u64| job.live().current_count = count;
        let fetched = study::fetch(&mut line, &self.archive, uid, before.as_ref(), &mut told);
        // What came is noted also where the rest did not.
        let said = match fetched {
            Ok(said) => said,
            Err(trouble) => {
                if let Trouble::Broke(reason) | Trouble::Failed { reason, .. } = &trouble {
                    let (now, bytes) = study::here(&self.archive, uid)?;
                    let came = Came {
                        count: (now.len() as u64).saturating_sub(our_count),
                        bytes: bytes.saturating_sub(our_bytes),
                        missing_count: u64::from(expected.unwrap_or(1))
                            .saturating_sub(now.len() as u64),
                        status: 0xC000,
                        reason,
                    };
                    self.note(other, uid, begun, came);
                }
                return Err(trouble);
            }
        };
        let after = study::compare(&mut line, &self.archive, uid, expected)?;
        let came_count = after.our_count.saturating_sub(our_count);
        let title = &other.peer.ae_title;
        let comment = match said.comment.as_str() {
            "" => String::new(),
            comment => format!(", {comment}"),
        };
        let reason = match after.missing_count {
            0 => String::new(),
            _ if said.completed > 0 && came_count == 0 => format!(
                "{title} says that it sent {} instances, and none came here: it has another address for {}, or they were refused",
                said.completed, other.calling
            ),
            _ if said.status != 0 => {
                format!("{title} ended with {:04X}H{comment}", said.status)
            }
            count => {
                format!("{title} says that it sent everything, and {count} instances are missing")
            }
        };
        let bytes = after.our_bytes.saturating_sub(our_bytes);
        let came = Came {
            count: came_count,
            bytes,
            missing_count: after.missing_count,
            status: match after.missing_count {
                0 => 0,
                _ => said.status,
            },
            reason: &reason,
        };
        self.note(other, uid, begun, came);
        Ok(Done {
            number,
            was_here: false,
            their_count: after.their_count,
            our_count: after.our_count,
            missing_count: after.missing_count,
            missing: after.missing,
            by_count: after.by_count,
            bytes,
            reason,
        })
    }

    /// A line of the journal of transfers.
    fn note(&self, other: &Other, uid: &str, begun: Instant, came: Came) {
        self.transfers.note(Transfer {
            at: crate::archive::now(),
            direction: Direction::Pulled,
            peer: other.peer.ae_title.to_string(),
            address: other.peer.host.clone(),
            study_instance_uid: uid.to_owned(),
            instances_count: came.count,
            failed_count: came.missing_count,
            bytes: came.bytes,
            seconds: (begun.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
            status: came.status,
            reason: came.reason.to_owned(),
            asked_by: None,
        });
    }
}

/// Of one study, in one go.
struct Came<'a> {
    count: u64,
    bytes: u64,
    missing_count: u64,
    status: u16,
    reason: &'a str,
}
