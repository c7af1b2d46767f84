//! What was on a disk that was given up: how much of it has its copies again, what is left, what is lost; and the end, which
//! is a report and, where nothing is lost, that the old volume is forgotten.
//!
//! Everything is counted from the index, by sets of volumes: what is on the old volume and where else it is. Nothing is
//! saved but that the report was written.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::index::{IndexError, SeriesSpread, Snapshot};
use crate::job::Progress;
use crate::volume::layout::Role;

use super::content::{Content, contents};
use super::mirror::whole;
use super::replace_status::waiting;
use super::reports::Ended;
use super::safety::{Judge, Need, Safe};
use super::state::Known;
use super::{Archive, VerbError};

/// Between two counts, at least; and 20 times as long as one takes.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// The same once the report is written.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What could not be copied is read again to say why, so often.
const VERIFY_EVERY: Duration = Duration::from_secs(60);
/// And so many of it.
const VERIFY_MAX: u64 = 10_000;

/// By id of the volume that stands in for others.
#[derive(Default)]
pub struct Restoring {
    seen: Mutex<HashMap<String, Seen>>,
}

pub(super) struct Seen {
    counts: Counts,
    at: Instant,
    took: Duration,
    pub(super) progress: Progress,
    /// What is left cannot be copied now, and why.
    pub(super) stuck: Option<String>,
    verified: Option<Instant>,
    /// When it was last brought forward; others count, too.
    looked: Option<Instant>,
    /// By which it was counted.
    judge: Judge,
}

/// Instances of a kind (each content of one counts), and the bytes of their data sets.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Counted {
    pub count: u64,
    pub bytes: u64,
}

impl Counted {
    fn add(&mut self, count: u64, bytes: u64) {
        self.count += count;
        self.bytes += bytes;
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub total: Counted,
    pub restored: Counted,
    pub elsewhere: Counted,
    pub todo: Counted,
    /// Of those to do: no copy can be read now.
    pub waiting: Counted,
    pub lost: Counted,
    /// Where those to do can be had from, by volume id; each counts once.
    pub sources: BTreeMap<String, Counted>,
}

/// A volume and those in whose place it stands.
pub(super) struct Group {
    pub by: String,
    pub name: String,
    pub olds: Vec<Known>,
}

impl Group {
    pub fn is_reported(&self) -> bool {
        let reported = |old: &Known| old.replaced.as_ref().is_none_or(|r| r.reported);
        self.olds.iter().all(reported)
    }

    /// By the report.
    pub fn listed_count(&self) -> u64 {
        let replaced = self.olds.iter().filter_map(|old| old.replaced.as_ref());
        replaced
            .map(|replaced| replaced.listed_count)
            .max()
            .unwrap_or(0)
    }

    fn ids(&self) -> Vec<String> {
        self.olds.iter().map(|old| old.volume_id.clone()).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Todo,
    Lost,
}

/// How a content stands that is listed on an old disk.
#[derive(Clone, Copy)]
enum Kind {
    NotThere,
    Restored,
    Elsewhere,
    Todo { waiting: bool },
    Lost,
}

fn kind(volume_ids: &[String], olds: &[String], new: &str, judge: &Judge) -> Kind {
    if !volume_ids.iter().any(|id| olds.contains(id)) {
        return Kind::NotThere;
    }
    match judge.need(volume_ids) {
        Need::Lost => Kind::Lost,
        Need::Mirror | Need::Archive => Kind::Todo {
            waiting: judge.safe(volume_ids) == Safe::Away,
        },
        Need::Nothing if volume_ids.iter().any(|id| id == new) => Kind::Restored,
        Need::Nothing => Kind::Elsewhere,
    }
}

impl Restoring {
    pub(super) fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Volumes that stand in for disks that were given up, each with those.
    pub(super) fn groups(&self) -> Vec<Group> {
        let identity = self.identity();
        let mut groups: Vec<Group> = Vec::new();
        for old in identity.volumes.iter().filter(|known| !known.forgetting) {
            let Some(replaced) = &old.replaced else {
                continue;
            };
            match groups.iter_mut().find(|group| group.by == replaced.by) {
                Some(group) => group.olds.push(old.clone()),
                None => groups.push(Group {
                    by: replaced.by.clone(),
                    name: identity
                        .by_id(&replaced.by)
                        .map_or_else(|| old.name.clone(), |new| new.name.clone()),
                    olds: vec![old.clone()],
                }),
            }
        }
        groups
    }

    /// Whether the volume stands in for another, and that is not over.
    pub(super) fn stands_in(&self, volume_id: &str) -> bool {
        let mut groups = self.groups().into_iter();
        groups.any(|group| group.by == volume_id && !group.is_reported())
    }

    pub(super) fn count(
        &self,
        olds: &[String],
        new: &str,
        judge: &Judge,
    ) -> Result<Option<Counts>, IndexError> {
        let Some(snapshot) = whole(self)? else {
            return Ok(None);
        };
        let mut counts = Counts::default();
        // Most series lie on the same few sets of volumes.
        let mut kinds: HashMap<Vec<String>, (Kind, Option<String>)> = HashMap::new();
        snapshot.spread(&mut |series| {
            for spread in series.spread {
                let ids = spread.volume_ids;
                let (kind, source) = kinds.entry(ids).or_insert_with_key(|ids| {
                    (kind(ids, olds, new, judge), self.source_of(ids, olds))
                });
                let (count, bytes) = (spread.contents_count, spread.bytes);
                let of_kind = match *kind {
                    Kind::NotThere => None,
                    Kind::Restored => Some(&mut counts.restored),
                    Kind::Elsewhere => Some(&mut counts.elsewhere),
                    Kind::Lost => Some(&mut counts.lost),
                    Kind::Todo { waiting } => {
                        if waiting {
                            counts.waiting.add(count, bytes);
                        }
                        if let Some(source) = source {
                            let from = counts.sources.entry(source.clone()).or_default();
                            from.add(count, bytes);
                        }
                        Some(&mut counts.todo)
                    }
                };
                if let Some(of_kind) = of_kind {
                    of_kind.add(count, bytes);
                    counts.total.add(count, bytes);
                }
            }
            match self.stopping.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        match self.stopping.load(Ordering::Relaxed) {
            true => Ok(None),
            false => Ok(Some(counts)),
        }
    }

    /// One that is here, if there is.
    fn source_of(&self, volume_ids: &[String], olds: &[String]) -> Option<String> {
        let others = || {
            let others = volume_ids.iter().filter(|id| !olds.contains(id));
            others.filter(|id| !self.is_given_up(id))
        };
        let here = others().find(|id| self.shelf.here(id).is_some());
        here.or_else(|| others().next()).cloned()
    }

    /// As counted lately; `None` while the index is being read in.
    pub(super) fn counted(&self, group: &Group) -> Result<Option<Counts>, IndexError> {
        let every = match group.is_reported() {
            true => LOOK_EVERY,
            false => COUNT_EVERY,
        };
        let judge = self.judge();
        if let Some(seen) = self.restoring.seen().get(&group.by)
            && seen.at.elapsed() < every.max(seen.took * 20)
            && seen.judge == judge
        {
            return Ok(Some(seen.counts.clone()));
        }
        let begun = Instant::now();
        let Some(counts) = self.count(&group.ids(), &group.by, &judge)? else {
            return Ok(None);
        };
        let now = Instant::now();
        let mut all = self.restoring.seen();
        let done = |counts: &Counts| Counted {
            count: counts.total.count - counts.todo.count,
            bytes: counts.total.bytes - counts.todo.bytes,
        };
        match all.get_mut(&group.by) {
            Some(seen) => {
                let (was, is) = (done(&seen.counts), done(&counts));
                seen.progress.add(
                    is.count.saturating_sub(was.count),
                    is.bytes.saturating_sub(was.bytes),
                    now,
                );
                (seen.counts, seen.at, seen.took) = (counts.clone(), now, begun.elapsed());
                if seen.judge != judge {
                    (seen.stuck, seen.verified, seen.judge) = (None, None, judge);
                }
            }
            None => {
                let progress = Progress::new(counts.todo.count, counts.todo.bytes, now);
                let seen = Seen {
                    counts: counts.clone(),
                    at: now,
                    took: begun.elapsed(),
                    progress,
                    stuck: None,
                    verified: None,
                    looked: None,
                    judge,
                };
                all.insert(group.by.clone(), seen);
            }
        }
        Ok(Some(counts))
    }

    /// Brings what was replaced to its end: the report, and that the old volumes are forgotten.
    pub(super) fn look_after_replaced(&self) {
        for group in self.groups() {
            let every = match group.is_reported() {
                true => LOOK_EVERY,
                false => COUNT_EVERY,
            };
            if let Some(seen) = self.restoring.seen().get_mut(&group.by) {
                let every = every.max(seen.took * 20);
                if seen.looked.is_some_and(|looked| looked.elapsed() < every) {
                    continue;
                }
                seen.looked = Some(Instant::now());
            }
            let looked = self.counted(&group).and_then(|counts| match counts {
                Some(counts) => self.look_after(&group, &counts),
                None => Ok(()),
            });
            if let Err(error) = looked {
                return self.index_failed(&error);
            }
        }
        if let Err(error) = self.forget_all(None) {
            self.index_failed(&error);
        }
    }

    fn look_after(&self, group: &Group, counts: &Counts) -> Result<(), IndexError> {
        if !group.is_reported() && !self.is_over(group, counts)? {
            return Ok(());
        }
        let Some(snapshot) = whole(self)? else {
            return Ok(());
        };
        let newest;
        let mut counts = counts;
        if !group.is_reported() {
            // The last copies may have been made since it was counted: they belong into the report.
            if counts.todo.count > 0 {
                let Some(counted) = self.count(&group.ids(), &group.by, &self.judge())? else {
                    return Ok(());
                };
                newest = counted;
                counts = &newest;
                if let Some(seen) = self.restoring.seen().get_mut(&group.by) {
                    seen.counts = counts.clone();
                }
            }
            let ended = Ended { group, counts };
            match self.write_report(&snapshot, &ended, &self.judge())? {
                Ok(name) => {
                    tracing::warn!(
                        volume = group.name,
                        report = name,
                        restored_count = counts.restored.count,
                        lost_count = counts.lost.count,
                        "what was on a dead disk is restored as far as it can be"
                    );
                }
                Err(error) => {
                    tracing::error!(volume = group.name, %error, "a report could not be written; it is tried again");
                    return Ok(());
                }
            }
            self.set_reported(group, counts.total.count);
        }
        let mut is_left = counts.todo.count > 0
            || counts.lost.count > 0
            || counts.total.count < group.listed_count();
        if !is_left {
            self.each_left(&snapshot, &group.ids(), &self.judge(), &mut |_, _, _| {
                is_left = true;
                ControlFlow::Break(())
            })?;
        }
        if !is_left {
            for old in &group.olds {
                if let Err(error) = self.begin_forgetting(&old.volume_id) {
                    tracing::warn!(volume = old.name, %error, "an old volume is not forgotten yet");
                }
            }
            self.restoring.seen().remove(&group.by);
        }
        Ok(())
    }

    /// Whether nothing is left that could be copied, now or when a volume that is away comes back.
    fn is_over(&self, group: &Group, counts: &Counts) -> Result<bool, IndexError> {
        if counts.todo.count == 0 {
            return Ok(true);
        }
        let judge = self.judge();
        if !self.nothing_to_heal_now(&judge) {
            if let Some(seen) = self.restoring.seen().get_mut(&group.by) {
                (seen.stuck, seen.verified) = (None, None);
            }
            return Ok(false);
        }
        let verified = self
            .restoring
            .seen()
            .get(&group.by)
            .and_then(|s| s.verified);
        if verified.is_some_and(|at| at.elapsed() < VERIFY_EVERY) {
            return Ok(false);
        }
        let Some(snapshot) = whole(self)? else {
            return Ok(false);
        };
        let (mut away, mut bad, mut good) = (Counted::default(), 0, 0);
        self.each_left(&snapshot, &group.ids(), &judge, &mut |_, content, left| {
            if left == Left::Todo {
                let here: Vec<_> = content
                    .good_copies()
                    .filter(|copy| self.shelf.here(&copy.volume_id).is_some())
                    .collect();
                if here.is_empty() {
                    away.count += 1;
                } else if here.iter().any(|copy| self.is_good(copy)) {
                    good += 1;
                } else {
                    bad += 1;
                }
            }
            match away.count + good + bad < VERIFY_MAX && !self.stopping.load(Ordering::Relaxed) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if self.stopping.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let is_over = away.count + good == 0;
        if let Some(seen) = self.restoring.seen().get_mut(&group.by) {
            seen.verified = Some(Instant::now());
            seen.stuck = if is_over {
                None
            } else if away.count > 0 {
                let status = self.status_of("", Role::Archive, PathBuf::new(), counts);
                Some(waiting(&away, &status.sources))
            } else {
                Some(format!(
                    "{good} instances could not be copied and are tried again; the log says why"
                ))
            };
        }
        Ok(is_over)
    }

    /// Each content that is listed on one of these volumes and does not have what it needs; with its series.
    pub(super) fn each_left(
        &self,
        snapshot: &Snapshot,
        olds: &[String],
        judge: &Judge,
        f: &mut dyn FnMut(&SeriesSpread, &Content, Left) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let left = |volume_ids: &[String]| match judge.need(volume_ids) {
            Need::Nothing => None,
            Need::Lost => Some(Left::Lost),
            Need::Mirror | Need::Archive => Some(Left::Todo),
        };
        let mut series_left = Vec::new();
        snapshot.spread(&mut |series| {
            let may_be = series.spread.iter().any(|spread| {
                let ids = &spread.volume_ids;
                // Without a good copy: a bad one may be listed there.
                ids.is_empty() || (ids.iter().any(|id| olds.contains(id)) && left(ids).is_some())
            });
            if may_be {
                series_left.push(series);
            }
            ControlFlow::Continue(())
        })?;
        for series in series_left {
            let (study, uid) = (&series.study_instance_uid, &series.series_instance_uid);
            let mut flow = ControlFlow::Continue(());
            snapshot.instances(study, Some(uid), &mut |entry| {
                for content in contents(&entry) {
                    let is_listed = |id: &String| content.copies.iter().any(|c| c.volume_id == *id);
                    if flow.is_continue()
                        && olds.iter().any(is_listed)
                        && let Some(left) = left(&content.volume_ids())
                    {
                        flow = f(&series, &content, left);
                    }
                }
                flow
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn set_reported(&self, group: &Group, listed_count: u64) {
        {
            let mut identity = self.identity();
            for old in &group.olds {
                let Some(mut known) = identity.by_id(&old.volume_id).cloned() else {
                    continue;
                };
                if let Some(replaced) = &mut known.replaced {
                    (replaced.reported, replaced.listed_count) = (true, listed_count);
                }
                identity.note(known);
            }
        }
        if let Err(error) = self.save_identity() {
            tracing::warn!(%error, "the next start will write the report again");
        }
        self.ship_identity();
    }
}

pub(super) const READING_IN: &str = "the index is being read in";

pub(super) fn other(name: &str, reason: String) -> VerbError {
    VerbError::Other {
        name: name.to_owned(),
        reason,
    }
}
