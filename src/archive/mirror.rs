//! Second copies: what needs one, when it is made, and in which order.
//!
//! What is left to do is what the ledgers say, by way of the index: contents that have no good copy on a mirror volume, or
//! none on an archive volume any more. Nothing of it is saved, so nothing of it can be wrong after a crash; what is kept in
//! memory says only where to look.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::config::MirrorWhen;
use crate::index::{IndexError, Snapshot};
use crate::job::{Pace, Politeness, Progress};

use super::Archive;
use super::content::contents;
use super::copying::{Task, Underway};
use super::due::{Asked, Cause, Due, Needs, Order, Pending, due, note};
use super::safety::{Judge, Need};
use super::touched::Touched;

/// Tasks gathered before they are copied; some 10 MB.
const TASKS_MAX: usize = 4_096;
/// After something failed in a series it is passed over for so long, four times as long after each failure that follows,
/// and at most so long: what the process lacked (open files, memory) is soon there again, a bad file is not.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// After no volume took a copy nothing is tried for so long.
const BLOCKED_FOR: Duration = Duration::from_secs(60);
/// Failures remembered, for the screen; the rest is only counted.
const FAILED_MAX: usize = 10_000;
/// Urgent series remembered; what is beyond waits for its hour.
const URGENT_MAX: usize = 100_000;
/// Asked for by hand and not done yet, or lately done.
const ASKED_MAX: usize = 16;

const PATIENT_ID: u32 = 0x0010_0020;

/// All that is known of second copies in memory.
pub struct Mirror {
    pending: Mutex<Pending>,
    pub(super) told: Mutex<Told>,
    pub(super) paused: AtomicBool,
    pub(super) underway: Underway,
    pace: Mutex<Pace>,
    born: Instant,
    /// Milliseconds after `born` when a modality last sent something; 0: never.
    received: AtomicU64,
}

/// What is shown.
#[derive(Default)]
pub struct Told {
    /// At work on this exam date and modality.
    pub job: Option<(String, String)>,
    pub progress: Option<Progress>,
    /// Copies that no volume takes for now: why, and when it is tried again.
    pub blocked: BTreeMap<Need, (String, Instant)>,
    /// By SOP Instance UID.
    pub failed: HashMap<String, Failed>,
    pub asked: VecDeque<Asked>,
    pub asked_before: u64,
    /// Of the run under way: since there was something to do.
    pub run: Option<Run>,
}

impl Told {
    /// Why no volume takes copies for now.
    pub fn why_blocked(&self) -> Option<String> {
        let now = Instant::now();
        let mut blocked = self.blocked.values().filter(|(_, until)| *until > now);
        blocked.next().map(|(reason, _)| reason.clone())
    }
}

#[derive(Debug, Clone)]
pub struct Failed {
    pub date: String,
    pub modality: String,
    pub reason: String,
}

/// What was copied since there was something to do.
#[derive(Debug, Clone)]
pub struct Run {
    pub begun: String,
    pub copied_count: u64,
    pub copied_bytes: u64,
    pub failed_count: u64,
}

struct Job {
    date: String,
    modality: String,
    cause: Cause,
    series: Vec<(String, String)>,
    count: u64,
    bytes: u64,
}

impl Mirror {
    pub fn new(bytes_per_second: u64) -> Mirror {
        Mirror {
            pending: Mutex::default(),
            told: Mutex::default(),
            paused: AtomicBool::new(false),
            underway: Underway::default(),
            pace: Mutex::new(Pace::new(bytes_per_second)),
            born: Instant::now(),
            received: AtomicU64::new(0),
        }
    }

    /// A modality is sending.
    pub fn received_something(&self) {
        let now = self.born.elapsed().as_millis() as u64;
        self.received.store(now.max(1), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn since_received(&self) -> Option<Duration> {
        let at = self.received.load(Ordering::Relaxed);
        (at > 0).then(|| {
            self.born
                .elapsed()
                .saturating_sub(Duration::from_millis(at))
        })
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy in this series turned out bad: it gets another at once, also on a mirror volume.
    pub(super) fn urgent(&self, place: (String, String)) {
        let mut pending = self.pending();
        if let Some(due) = pending.series.get_mut(&place) {
            due.again = None;
        }
        if pending.urgent.len() < URGENT_MAX {
            pending.urgent.insert(place, Instant::now());
        }
    }

    /// Second copies of this series are made at once, whatever the hour and the rules.
    pub(super) fn promised(&self, place: (String, String)) {
        let mut pending = self.pending();
        if pending.promised.contains_key(&place) {
            return;
        }
        if let Some(due) = pending.series.get_mut(&place) {
            due.again = None;
        }
        if pending.promised.len() < URGENT_MAX {
            pending.promised.insert(place, Instant::now());
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Does every job that may be done now, one after the other.
    pub(super) fn mirror_all(&self) {
        while !self.stopping.load(Ordering::Relaxed) {
            self.look_after_replaced();
            match self.mirror_next() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.index_failed(&error),
            }
        }
    }

    /// Does what was asked for by hand, where no server runs.
    pub fn mirror_asked(&self) -> Result<(), IndexError> {
        loop {
            let open = self.mirror.told().asked.iter().any(|asked| !asked.done);
            if !open || (!self.mirror_next()? && whole(self)?.is_some()) {
                self.end_run();
                return Ok(());
            }
        }
    }

    /// Does the next job; false when there is none for now.
    pub(super) fn mirror_next(&self) -> Result<bool, IndexError> {
        let Some(judge) = self.look_for_work()? else {
            return Ok(false);
        };
        let job = self.next_job()?;
        self.close_asked(job.is_none());
        let Some(job) = job else {
            self.end_run();
            return Ok(false);
        };
        self.do_job(&job, &judge)?;
        if job.cause == Cause::Window {
            let pause = Duration::from_secs(self.mirror_config.now().pause_seconds);
            self.rest(pause);
        }
        Ok(true)
    }

    /// Brings what is known to be due up to date; `None` while the index is being read in.
    fn look_for_work(&self) -> Result<Option<Judge>, IndexError> {
        let judge = self.judge();
        if self.view()?.rebuilding_percent.is_some() {
            return Ok(None);
        }
        // Before the view: what is touched later is taken the next time.
        let touched = self.keeper.take_touched();
        let view = self.view()?;
        if view.rebuilding_percent.is_some() {
            self.mirror.pending().judged = None;
            return Ok(None);
        }
        let snapshot = view.snapshot;
        let mut pending = self.mirror.pending();
        let now = Instant::now();
        // What was left of a series while the index was made anew did not fail: the index did not know its copies yet.
        let is_anew = touched == Touched::All;
        match touched {
            Touched::Some(touched) if pending.judged.as_ref() == Some(&judge) => {
                for place in touched {
                    let found = snapshot.spread_of(&place.0, &place.1)?;
                    note(
                        &mut pending,
                        place,
                        found.and_then(|s| due(&s, &judge, now)),
                    );
                }
            }
            _ => {
                // What failed is tried again at once where a volume came that may have or take it.
                let before = pending.judged.take();
                let keep = !is_anew && before.is_none_or(|before| !judge.has_more_than(&before));
                let mut all = BTreeMap::new();
                let mut needs = Needs::default();
                snapshot.spread(&mut |series| {
                    if let Some(due) = needs.due(&series, &judge, now) {
                        let place = (series.study_instance_uid, series.series_instance_uid);
                        all.insert(place, due);
                    }
                    match self.stopping.load(Ordering::Relaxed) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })?;
                for (place, due) in &mut all {
                    if let Some(old) = pending.series.get(place) {
                        due.touched = old.touched;
                        due.again = old.again.filter(|_| keep);
                        due.failures = old.failures;
                    }
                    // The good copy may have come back.
                    if due.heal_count > 0 || pending.urgent.contains_key(place) {
                        due.again = None;
                    }
                }
                pending.series = all;
                pending.judged = Some(judge.clone());
                // What no volume took, another may.
                self.mirror.told().blocked.clear();
            }
        }
        Ok(Some(judge))
    }

    fn next_job(&self) -> Result<Option<Job>, IndexError> {
        if self.mirror.paused.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let now = Instant::now();
        let blocked;
        let asked: Vec<Asked> = {
            let mut told = self.mirror.told();
            told.blocked.retain(|_, (_, until)| *until > now);
            blocked = told.blocked.keys().copied().collect::<Vec<_>>();
            let open = told.asked.iter().filter(|asked| !asked.done);
            open.cloned().collect()
        };
        let in_window = self
            .mirror_config
            .now()
            .window
            .contains(Zoned::now().datetime());
        let mut pending = self.mirror.pending();
        let Pending {
            series,
            urgent,
            promised,
            ..
        } = &mut *pending;
        // That it was touched may not have been looked at yet.
        for asked in [&mut *urgent, &mut *promised] {
            asked
                .retain(|place, since| series.contains_key(place) || since.elapsed() < BLOCKED_FOR);
        }
        let mut best: Option<(Order, Job)> = None;
        for (place, due) in series {
            let is_blocked = due.needs.iter().all(|need| blocked.contains(need));
            if is_blocked || due.again.is_some_and(|again| again > now) {
                continue;
            }
            let cause = if due.alone_count > 0 {
                Cause::Alone
            } else if promised.contains_key(place) {
                Cause::Promised
            } else if due.heal_count > 0 || urgent.contains_key(place) {
                Cause::Heal
            } else if asked.iter().any(|asked| asked.takes(due)) {
                Cause::ByHand
            } else {
                match self.cause(place, due, in_window)? {
                    Some(cause) => cause,
                    None => continue,
                }
            };
            let order = Order::of(cause, due);
            let job = match &mut best {
                Some((kept, job)) if *kept == order => job,
                Some((kept, _)) if *kept < order => continue,
                _ => {
                    let job = Job {
                        date: due.date.clone(),
                        modality: due.modality.clone(),
                        cause,
                        series: Vec::new(),
                        count: 0,
                        bytes: 0,
                    };
                    &mut best.insert((order, job)).1
                }
            };
            job.series.push(place.clone());
            let (count, bytes) = match cause {
                Cause::Alone | Cause::Heal => (due.heal_count, due.heal_bytes),
                _ => (due.mirror_count + due.heal_count, due.bytes),
            };
            job.count += count;
            job.bytes += bytes;
        }
        Ok(best.map(|(_, job)| job))
    }

    /// Whether the rules let the second copies of a series be made now.
    fn cause(
        &self,
        (study, series): &(String, String),
        due: &mut Due,
        in_window: bool,
    ) -> Result<Option<Cause>, IndexError> {
        let config = self.mirror_config.now();
        if !config.in_period(&due.modality, &due.date) {
            return Ok(None);
        }
        let when = match due.when {
            Some(when) => when,
            None => {
                let when = match config.rules.is_empty() {
                    true => config.when,
                    false => self.when_of(study, series, &due.modality)?,
                };
                *due.when.insert(when)
            }
        };
        let quiet = Duration::from_secs(config.quiet_minutes * 60);
        Ok(match when {
            MirrorWhen::Immediate | MirrorWhen::BeforeAck => Some(Cause::Soon),
            MirrorWhen::AfterStudy if due.touched.elapsed() >= quiet => Some(Cause::Soon),
            _ if in_window => Some(Cause::Window),
            _ => None,
        })
    }

    fn when_of(&self, study: &str, series: &str, modality: &str) -> Result<MirrorWhen, IndexError> {
        let snapshot = self.view()?.snapshot;
        let record = snapshot.study(study)?;
        let patient_id = record.and_then(|study| study.facts.values.get(&PATIENT_ID).cloned());
        let mut calling = String::new();
        snapshot.instances(study, Some(series), &mut |entry| {
            calling = entry.record.source_ae_title;
            ControlFlow::Break(())
        })?;
        let patient_id = patient_id.unwrap_or_default();
        Ok(self
            .mirror_config
            .now()
            .when_for(&calling, modality, &patient_id))
    }

    fn do_job(&self, job: &Job, judge: &Judge) -> Result<(), IndexError> {
        {
            let mut told = self.mirror.told();
            told.job = Some((job.date.clone(), job.modality.clone()));
            told.progress = Some(Progress::new(job.count, job.bytes, Instant::now()));
            told.run.get_or_insert_with(|| Run {
                begun: super::now(),
                copied_count: 0,
                copied_bytes: 0,
                failed_count: 0,
            });
        }
        let cap = match job.cause {
            Cause::Alone | Cause::Heal
                if self
                    .mirror_config
                    .now()
                    .day
                    .contains(Zoned::now().datetime()) =>
            {
                match self.mirror_config.now().day_bytes_per_second {
                    0 => self.mirror_config.now().bytes_per_second,
                    by_day => by_day,
                }
            }
            _ => self.mirror_config.now().bytes_per_second,
        };
        self.mirror.pace().set(cap);
        let begun = Instant::now();
        let mut places = job.series.iter();
        loop {
            let mut tasks = Vec::new();
            let mut seen = Vec::new();
            while tasks.len() < TASKS_MAX
                && let Some(place) = places.next()
            {
                self.tasks_of(place, job.cause, judge, &mut tasks)?;
                seen.push(place);
            }
            if seen.is_empty() {
                break;
            }
            let copied = self.copy_all(tasks, judge, &|bytes, took| {
                self.go_on_copying(job, bytes, took)
            });
            let ended = copied.stopped || !copied.no_target.is_empty();
            self.tell_copied(job, copied);
            self.look_again(&seen, judge, ended)?;
            if ended {
                break;
            }
            if matches!(job.cause, Cause::Alone | Cause::Heal) {
                self.calm(&seen, judge, begun)?;
            }
        }
        let mut told = self.mirror.told();
        told.job = None;
        Ok(())
    }

    fn tasks_of(
        &self,
        (study, series): &(String, String),
        cause: Cause,
        judge: &Judge,
        tasks: &mut Vec<Task>,
    ) -> Result<(), IndexError> {
        let snapshot = self.view()?.snapshot;
        let mut needs = Needs::default();
        snapshot.instances(study, Some(series), &mut |entry| {
            for content in contents(&entry) {
                let judged = needs.judged(&content.volume_ids(), judge);
                let wants_copy = matches!(judged.need, Need::Mirror | Need::Archive);
                let has_bad = || content.copies.iter().any(|copy| copy.bad);
                let is_due = match cause {
                    Cause::Alone | Cause::Heal => judged.heal || (wants_copy && has_bad()),
                    _ => wants_copy,
                };
                if is_due {
                    let need = judged.need;
                    tasks.push(Task { content, need });
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Waits as pace and politeness ask; whether the job goes on.
    fn go_on_copying(&self, job: &Job, bytes: u64, took: Duration) -> bool {
        let now = Instant::now();
        if let Some(progress) = &mut self.mirror.told().progress {
            progress.add(1, bytes, now);
        }
        let pace = self.mirror.pace().took(bytes, now);
        let polite = Politeness::rest(self.mirror.since_received(), took);
        self.rest(pace.max(polite));
        let stopped = self.stopping.load(Ordering::Relaxed)
            || self.mirror.paused.load(Ordering::Relaxed)
            || (job.cause == Cause::Window
                && !self
                    .mirror_config
                    .now()
                    .window
                    .contains(Zoned::now().datetime()));
        !stopped
    }

    fn tell_copied(&self, job: &Job, copied: super::copying::Copied) {
        let mut told = self.mirror.told();
        if let Some(run) = &mut told.run {
            run.copied_count += copied.count;
            run.copied_bytes += copied.bytes;
            run.failed_count += copied.failed.len() as u64;
        }
        let (count, failed_count) = (copied.count, copied.failed.len() as u64);
        for asked in told.asked.iter_mut().filter(|asked| !asked.done) {
            let is = |wanted: &Option<String>, there: &str| {
                wanted
                    .as_ref()
                    .is_none_or(|w| w.eq_ignore_ascii_case(there))
            };
            if is(&asked.date, &job.date) && is(&asked.modality, &job.modality) {
                asked.copied_count += count;
                asked.failed_count += failed_count;
            }
        }
        for (sop, reason) in copied.failed {
            tracing::error!(
                sop_instance_uid = sop,
                reason,
                "an instance did not get its second copy; it is tried again"
            );
            if told.failed.len() < FAILED_MAX {
                let failed = Failed {
                    date: job.date.clone(),
                    modality: job.modality.clone(),
                    reason,
                };
                told.failed.insert(sop, failed);
            }
        }
        for (need, reason) in copied.no_target {
            tracing::error!(reason, "no volume takes copies for now");
            told.blocked
                .insert(need, (reason, Instant::now() + BLOCKED_FOR));
        }
    }

    /// What is still due of series that were worked on. `ended`: before their end.
    fn look_again(
        &self,
        places: &[&(String, String)],
        judge: &Judge,
        ended: bool,
    ) -> Result<(), IndexError> {
        let snapshot = self.view()?.snapshot;
        let now = Instant::now();
        for place in places {
            let found = snapshot.spread_of(&place.0, &place.1)?;
            let mut still = found.and_then(|series| due(&series, judge, now));
            let mut pending = self.mirror.pending();
            if !ended && let Some(due) = &mut still {
                let before = pending.series.get(*place).map_or(0, |old| old.failures);
                let after = AGAIN_FIRST * 4_u32.pow(before.min(4));
                due.again = Some(now + after.min(AGAIN_AFTER));
                due.failures = before + 1;
            }
            match still {
                Some(still) => {
                    let old = pending.series.get(*place);
                    let touched = old.map_or(now, |old| old.touched);
                    let due = Due { touched, ..still };
                    pending.series.insert((*place).clone(), due);
                }
                None => drop(pending.series.remove(*place)),
            }
        }
        Ok(())
    }

    /// What is left of a series when its bad copies are made again waits for its turn like any other. `begun`: what turned
    /// out bad since then is still urgent.
    fn calm(
        &self,
        places: &[&(String, String)],
        judge: &Judge,
        begun: Instant,
    ) -> Result<(), IndexError> {
        for place in places {
            let mut left = Vec::new();
            self.tasks_of(place, Cause::Heal, judge, &mut left)?;
            let mut pending = self.mirror.pending();
            if left.is_empty()
                && pending
                    .urgent
                    .get(*place)
                    .is_some_and(|since| *since < begun)
            {
                pending.urgent.remove(*place);
                if let Some(due) = pending.series.get_mut(*place) {
                    due.again = None;
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left that has lost a copy and could get one now, by a shelf that is judged like this: the rest
    /// failed, or no volume takes it.
    pub(super) fn nothing_to_heal_now(&self, judge: &Judge) -> bool {
        let now = Instant::now();
        let pending = self.mirror.pending();
        if pending.judged.as_ref() != Some(judge) {
            return false;
        }
        let can = |due: &Due| due.heal_count > 0 && due.again.is_none_or(|again| again <= now);
        !pending.series.values().any(can)
    }

    /// Why no volume takes copies, by a shelf that is judged like this.
    pub(super) fn copying_is_blocked(&self, judge: &Judge) -> Option<String> {
        if self.mirror.pending().judged.as_ref() != Some(judge) {
            return None;
        }
        self.mirror.told().why_blocked()
    }

    /// Sleeps so long, unless the server stops.
    pub(super) fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stopping.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// A job by hand; its number. It is done as soon as there is time, whatever the hour.
    pub(super) fn ask_to_mirror(&self, date: Option<String>, modality: Option<String>) -> u64 {
        // What failed before is tried again at once.
        for due in self.mirror.pending().series.values_mut() {
            due.again = None;
        }
        let mut told = self.mirror.told();
        told.failed.clear();
        told.blocked.clear();
        told.asked_before += 1;
        let number = told.asked_before;
        if told.asked.len() == ASKED_MAX {
            told.asked.pop_front();
        }
        told.asked.push_back(Asked {
            number,
            date,
            modality,
            done: false,
            copied_count: 0,
            failed_count: 0,
        });
        number
    }

    /// Jobs by hand of which nothing is left that could be done now.
    fn close_asked(&self, nothing_to_do: bool) {
        let now = Instant::now();
        let pending = self.mirror.pending();
        let mut told = self.mirror.told();
        let blocked = !told.blocked.is_empty();
        for asked in told.asked.iter_mut().filter(|asked| !asked.done) {
            let can = |due: &Due| due.again.is_none_or(|again| again <= now);
            let left = pending
                .series
                .values()
                .any(|due| asked.takes(due) && can(due));
            asked.done = !left || (nothing_to_do && blocked);
        }
    }

    /// Nothing is left to do for now.
    fn end_run(&self) {
        let run = self.mirror.told().run.take();
        if let Some(run) = run {
            tracing::info!(
                instances_count = run.copied_count,
                bytes = run.copied_bytes,
                failed_count = run.failed_count,
                begun = run.begun,
                "second copies were made"
            );
            self.note_run(run);
        }
    }
}

/// What the index knows, if it knows every line.
pub(super) fn whole(archive: &Archive) -> Result<Option<Snapshot>, IndexError> {
    let view = archive.view()?;
    Ok(view.rebuilding_percent.is_none().then_some(view.snapshot))
}
