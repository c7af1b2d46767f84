//! The amendment that is being made: it is started, looked at by whoever asks, and ends by itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::Archive;
use super::CorrectionError;
use super::asked::{Amend, AmendSaid, AmendStatus, AmendVerb, Change};

/// Numbers of corrections that are being made, and how far the amendment is.
#[derive(Default)]
pub struct UnderWay {
    numbers: Mutex<BTreeSet<u64>>,
    current: Mutex<Option<Arc<Job>>>,
}

/// Takes the number out again when it is dropped.
pub struct Mark<'a> {
    under_way: &'a UnderWay,
    number: u64,
}

impl Mark<'_> {
    /// It is not known whether the correction counts: until the next start has read the ledgers nobody may take what it
    /// made for leftovers.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.under_way.numbers().remove(&self.number);
    }
}

impl UnderWay {
    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is(&self, number: u64) -> bool {
        self.numbers().contains(&number)
    }

    pub fn mark(&self, number: u64) -> Mark<'_> {
        self.numbers().insert(number);
        Mark {
            under_way: self,
            number,
        }
    }
}

/// Shared by who makes it and who looks.
#[derive(Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    step: Mutex<String>,
}

impl Progress {
    pub fn step(&self, step: &str, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *self.lock_step() = step.to_owned();
    }

    pub fn did(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    pub fn read(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn lock_step(&self) -> MutexGuard<'_, String> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Job {
    ask: Amend,
    begun: Instant,
    progress: Progress,
    ended: Mutex<Option<Ended>>,
}

/// What came of it, and how long it took, in seconds.
type Ended = (Result<Change, String>, f64);

impl Job {
    fn ended(&self) -> MutexGuard<'_, Option<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> AmendStatus {
        let ended = self.ended();
        let progress = &self.progress;
        let seconds = ended.as_ref().map(|(_, seconds)| *seconds);
        let result = ended.as_ref().map(|(result, _)| result.clone());
        let (made, error) = match result {
            None => (None, None),
            Some(Ok(made)) => (Some(Box::new(made)), None),
            Some(Err(error)) => (None, Some(error)),
        };
        AmendStatus {
            running: ended.is_none(),
            step: progress.lock_step().clone(),
            done_count: progress.done.load(Ordering::Relaxed),
            total_count: progress.total.load(Ordering::Relaxed),
            done_bytes: progress.bytes.load(Ordering::Relaxed),
            seconds: seconds.unwrap_or_else(|| self.begun.elapsed().as_secs_f64()),
            made,
            error,
        }
    }
}

impl Archive {
    /// Does what is asked, or begins it.
    pub fn amend_verb(self: &Arc<Archive>, verb: AmendVerb) -> Result<AmendSaid, CorrectionError> {
        let said = self.amend_said(verb);
        said.inspect_err(|error| self.noticed_by_correction(error))
    }

    fn amend_said(self: &Arc<Archive>, verb: AmendVerb) -> Result<AmendSaid, CorrectionError> {
        match verb {
            AmendVerb::Plan { ask } => {
                let plan = self.plan_shown(&ask)?;
                Ok(AmendSaid::Plan(Box::new(plan)))
            }
            AmendVerb::Make { ask } => self.begin_amend(ask),
            AmendVerb::Look => {
                let current = self.corrections.under_way.current().clone();
                let status = current.map(|job| job.status()).unwrap_or_default();
                Ok(AmendSaid::Status(Box::new(status)))
            }
            AmendVerb::PlanUndo { ask } => {
                let record = self.undoable(&ask)?;
                Ok(AmendSaid::Undo(Box::new(self.change(record))))
            }
            AmendVerb::Undo { ask } => Ok(AmendSaid::Undo(Box::new(self.undo(&ask)?))),
        }
    }

    /// Who asks for what is under way already gets to look at that.
    fn begin_amend(self: &Arc<Archive>, ask: Amend) -> Result<AmendSaid, CorrectionError> {
        let mut current = self.corrections.under_way.current();
        if let Some(job) = &*current
            && job.ended().is_none()
        {
            return match job.ask == ask {
                true => Ok(AmendSaid::Status(Box::new(job.status()))),
                false => Err(CorrectionError::Refused(
                    "another amendment is under way; nothing was changed; try again when it is done"
                        .to_owned(),
                )),
            };
        }
        let job = Arc::new(Job {
            ask,
            begun: Instant::now(),
            progress: Progress::default(),
            ended: Mutex::default(),
        });
        let (archive, theirs) = (self.clone(), job.clone());
        let thread = std::thread::Builder::new().name("amend".to_owned());
        let begun = thread.spawn(move || archive.do_amend(&theirs));
        begun.map_err(|error| {
            CorrectionError::Refused(format!("no thread for it: {error}; nothing was changed"))
        })?;
        *current = Some(job.clone());
        Ok(AmendSaid::Status(Box::new(job.status())))
    }

    fn do_amend(self: Arc<Archive>, job: &Job) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let done = self.amend(&job.ask, &job.progress);
            done.inspect_err(|error| self.noticed_by_correction(error))
        }));
        // Before the end is told: whoever opened the archive for this alone closes it then.
        drop(self);
        let result = match done {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it ended by a fault in this program; please report it".to_owned()),
        };
        match &result {
            Ok(made) => tracing::info!(
                number = made.number,
                instances_count = made.instances_count,
                "an amendment is in effect"
            ),
            Err(error) => tracing::warn!(error, "an amendment was not made"),
        }
        *job.ended() = Some((result, job.begun.elapsed().as_secs_f64()));
    }
}
