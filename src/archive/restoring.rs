//! What was on a disk that was given up: how much of it has its copies again, what is left, what is lost; and the end, which
//! is a report and, where nothing is lost, that the old volume is forgotten.
//!
//! Everything is counted from the index, by sets of volumes: what is on the old volume and where else it is. Nothing is
//! saved but that the report was written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::index::{IndexError, SeriesSpread, Snapshot};
use crate::job::{Progress, ProgressStatus};
use crate::volume::layout::Role;

use super::content::{Content, contents};
use super::mirror::whole;
use super::reports::Ended;
use super::safety::{Judge, Need, Safe};
use super::shelf::{Member, Standing};
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
/// Instances taken out of the index at a time.
const FORGET_COUNT: usize = 4_096;
/// How long the command waits for that; the server goes on with it.
const FORGET_PATIENCE: Duration = Duration::from_secs(60);

/// By id of the volume that stands in for others.
#[derive(Default)]
pub struct Restoring {
    seen: Mutex<HashMap<String, Seen>>,
}

struct Seen {
    counts: Counts,
    at: Instant,
    took: Duration,
    progress: Progress,
    /// What is left cannot be copied now, and why.
    stuck: Option<String>,
    verified: Option<Instant>,
    /// When it was last brought forward; others count, too.
    looked: Option<Instant>,
    /// By which it was counted.
    judge: Judge,
}

/// Instances of a kind (each content of one counts), and the bytes of their data sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Of `kura volume replace`: what a new disk would get, gets or got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplaceStatus {
    /// Version of this object's shape.
    pub version: u32,
    /// `planned`, `running`, `blocked`, `paused`, `unknown` (the index is being read in) or `done`.
    pub state: String,
    /// In words, where the state alone does not say it.
    pub reason: String,
    pub name: String,
    pub role: String,
    pub path: String,
    /// Under which name the old disks stay known.
    pub old_names: Vec<String>,
    /// On the old disks.
    pub total: Counted,
    /// Of these: have a good copy on the new disk.
    pub restored: Counted,
    /// Have the copies that they need on other volumes.
    pub elsewhere: Counted,
    pub todo: Counted,
    /// Have no good copy any more.
    pub lost: Counted,
    /// Where those to do are copied from.
    pub sources: Vec<CopiedFrom>,
    /// Free on the new disk; only of a plan.
    pub room_bytes: Option<u64>,
    pub progress: Option<ProgressStatus>,
    pub warnings: Vec<String>,
    /// `kura report show` shows it.
    pub report: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopiedFrom {
    pub volume: String,
    pub is_here: bool,
    pub count: u64,
    pub bytes: u64,
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
    fn listed_count(&self) -> u64 {
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
    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Volumes that stand in for disks that were given up, each with those.
    fn groups(&self) -> Vec<Group> {
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

    fn count(
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
    fn counted(&self, group: &Group) -> Result<Option<Counts>, IndexError> {
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

    /// What `kura volume replace` would do.
    pub(super) fn plan(
        &self,
        member: &Member,
        path: PathBuf,
        room_bytes: u64,
        warnings: Vec<String>,
    ) -> Result<ReplaceStatus, VerbError> {
        let judge = self.judge().without(&member.volume_id);
        let counts = self
            .count(std::slice::from_ref(&member.volume_id), "", &judge)
            .map_err(|error| other(&member.name, error.to_string()))?
            .ok_or_else(|| other(&member.name, READING_IN.to_owned()))?;
        let reason = match &member.standing {
            Standing::Away { reason, .. } => format!("it is away: {reason}"),
            Standing::Here(_) => "it is here, but not written".to_owned(),
        };
        let mut status = self.status_of(&member.name, member.role, path, &counts);
        status.state = "planned".to_owned();
        (status.reason, status.warnings) = (reason, warnings);
        if counts.lost.count > 0 && member.here().is_some_and(|volume| volume.answers()) {
            // Copies on it do not count once it is given up.
            status.warnings.push(format!(
                "the old disk still answers: afterwards kura send {} --to THIS_SERVER stores what is only there and can be read",
                member.path.display()
            ));
        }
        status.room_bytes = Some(room_bytes);
        Ok(status)
    }

    fn status_of(&self, name: &str, role: Role, path: PathBuf, counts: &Counts) -> ReplaceStatus {
        let sources = counts.sources.iter().map(|(id, from)| {
            let member = self.shelf.by_id(id);
            CopiedFrom {
                is_here: member.as_ref().is_some_and(|m| m.here().is_some()),
                volume: member.map_or_else(|| id.clone(), |member| member.name.clone()),
                count: from.count,
                bytes: from.bytes,
            }
        });
        ReplaceStatus {
            version: 1,
            state: String::new(),
            reason: String::new(),
            name: name.to_owned(),
            role: role.to_string(),
            path: path.display().to_string(),
            old_names: Vec::new(),
            total: counts.total,
            restored: counts.restored,
            elsewhere: counts.elsewhere,
            todo: counts.todo,
            lost: counts.lost,
            sources: sources.collect(),
            room_bytes: None,
            progress: None,
            warnings: Vec::new(),
            report: None,
        }
    }

    /// How far a replaced disk is restored.
    pub fn replace_status(&self, name: &str) -> Result<ReplaceStatus, VerbError> {
        let member = self.member(name)?;
        let group = self.groups().into_iter();
        let group = group.into_iter().find(|group| group.by == member.volume_id);
        let counts = match &group {
            None => Some(Counts::default()),
            Some(group) => self
                .counted(group)
                .map_err(|error| other(name, error.to_string()))?,
        };
        let is_whole = counts.is_some();
        let counts = counts.unwrap_or_default();
        let mut status = self.status_of(name, member.role, member.path.clone(), &counts);
        let Some(group) = group.filter(|group| !group.is_reported()) else {
            let Some(report) = self.newest_report(name) else {
                return Err(other(name, "its disk was not replaced".to_owned()));
            };
            status.state = "done".to_owned();
            status.report = Some(report);
            return Ok(status);
        };
        status.old_names = group.olds.iter().map(|old| old.name.clone()).collect();
        let (mut stuck, judge) = (None, self.judge());
        if let Some(seen) = self.restoring.seen().get(&group.by) {
            status.progress = Some(seen.progress.status(Instant::now()));
            stuck.clone_from(&seen.stuck);
        }
        let waits = counts.todo.count > 0 && counts.todo == counts.waiting;
        let (state, reason) = if !is_whole {
            ("unknown", READING_IN.to_owned())
        } else if self.mirror.paused.load(Ordering::Relaxed) {
            ("paused", "kura mirror resume goes on".to_owned())
        } else if counts.todo.count == 0 {
            ("running", String::new())
        } else if waits {
            ("blocked", waiting(&counts.waiting, &status.sources))
        } else if let Some(reason) = self.copying_is_blocked(&judge) {
            ("blocked", reason)
        } else if let Some(reason) = stuck {
            ("blocked", reason)
        } else {
            ("running", String::new())
        };
        (status.state, status.reason) = (state.to_owned(), reason);
        Ok(status)
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
        if !group.is_reported() {
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

    /// `kura volume forget`: takes a volume out of the archive that will not come back.
    pub(super) fn forget_volume(&self, name: &str, yes: bool) -> Result<String, VerbError> {
        let member = self.member(name)?;
        let refuse = |reason: String| Err(other(name, format!("{reason}; nothing was changed")));
        if member.here().is_some() {
            return refuse(format!(
                "it is here: kura volume drain {name} empties it, kura volume eject {name} takes it out"
            ));
        }
        let olds = [member.volume_id.clone()];
        let judge = self.judge().without(&member.volume_id);
        let failed = |error: IndexError| other(name, error.to_string());
        let Some(snapshot) = whole(self).map_err(failed)? else {
            return refuse(READING_IN.to_owned());
        };
        if !self.shelf.all().iter().any(|other| other.here().is_some()) {
            return refuse("no other volume is here".to_owned());
        }
        let (mut lost_count, mut todo_count) = (0_u64, 0_u64);
        let counted = self.each_left(&snapshot, &olds, &judge, &mut |_, _, left| {
            match left {
                Left::Lost => lost_count += 1,
                Left::Todo => todo_count += 1,
            }
            ControlFlow::Continue(())
        });
        counted.map_err(failed)?;
        drop(snapshot);
        if lost_count > 0 && !yes {
            return refuse(format!(
                "{lost_count} instances on it are nowhere else: send them again from the modality, or kura volume forget {name} --yes writes them off"
            ));
        }
        let replaced = self.is_replaced(&member.volume_id);
        if replaced && todo_count > 0 && !yes {
            return refuse(format!(
                "{todo_count} instances that were on it are still to be copied; --yes forgets it all the same"
            ));
        }
        if !replaced {
            // First: an unknown volume in the configuration would be made anew, on whatever is at its path.
            self.write_down(|file| config::edit::take_volume(file, name))?;
        }
        self.begin_forgetting(&member.volume_id)?;
        drop(member);
        self.forget_all(Some(FORGET_PATIENCE)).map_err(failed)?;
        let written_off = match lost_count {
            0 => String::new(),
            _ => format!("; {lost_count} instances are written off"),
        };
        tracing::warn!(
            volume = name,
            written_off_count = lost_count,
            "a volume is forgotten"
        );
        Ok(match self.shelf.by_name(name) {
            None => format!("volume {name} is forgotten{written_off}"),
            Some(_) => {
                format!("volume {name} is being forgotten, while the server runs{written_off}")
            }
        })
    }

    /// Durable on return: from now on its ledger is not read, also after a restart.
    fn begin_forgetting(&self, volume_id: &str) -> Result<(), VerbError> {
        {
            let mut identity = self.identity();
            let Some(known) = identity.by_id(volume_id).cloned() else {
                return Ok(());
            };
            if self.shelf.here(volume_id).is_some() {
                return Err(other(
                    &known.name,
                    "it came back; nothing was changed".to_owned(),
                ));
            }
            identity.note(Known {
                forgetting: true,
                ..known
            });
        }
        self.save_identity()?;
        self.keeper.forget_source(volume_id);
        Ok(())
    }

    /// Takes volumes out of the index that are to be forgotten, and then out of the archive.
    fn forget_all(&self, patience: Option<Duration>) -> Result<(), IndexError> {
        let begun = Instant::now();
        let known = self.identity().volumes.clone();
        for known in known.into_iter().filter(|known| known.forgetting) {
            while self.keeper.forget_some(&known.volume_id, FORGET_COUNT)? {
                let over = patience.is_some_and(|patience| begun.elapsed() > patience);
                // Only a complete index can forget.
                let is_whole = whole(self)?.is_some();
                if over || !is_whole || self.stopping.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            self.identity().forget(&known.volume_id);
            self.shelf.remove(&known.volume_id);
            match self.save_identity() {
                Ok(()) => tracing::info!(volume = known.name, "an old volume is forgotten"),
                Err(error) => {
                    tracing::warn!(volume = known.name, %error, "the next start forgets it again");
                }
            }
            self.ship_identity();
        }
        Ok(())
    }

    /// Restores what was on a dead disk where no server runs; `tell` is asked a few times a second.
    pub fn restore(
        &self,
        name: &str,
        tell: &mut dyn FnMut(&ReplaceStatus),
    ) -> Result<ReplaceStatus, VerbError> {
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                while !self.stopping.load(Ordering::Relaxed) {
                    self.look_after_replaced();
                    match self.mirror_next() {
                        Ok(true) => {}
                        Ok(false) => self.rest(Duration::from_millis(200)),
                        Err(error) => self.index_failed(&error),
                    }
                }
            });
            let done = loop {
                match self.replace_status(name) {
                    Ok(status) if matches!(&*status.state, "running" | "unknown") => tell(&status),
                    // That the old volumes are forgotten belongs to it.
                    Ok(status) if status.state == "done" && self.is_being_forgotten() => {
                        tell(&status);
                    }
                    other => break other,
                }
                std::thread::sleep(Duration::from_millis(200));
            };
            self.stopping.store(true, Ordering::Relaxed);
            drop(working.join());
            done
        })
    }

    fn is_being_forgotten(&self) -> bool {
        self.identity().volumes.iter().any(|known| known.forgetting)
    }

    /// What `kura status` says of replaced disks: to do, and whether something is lost.
    pub(super) fn replaced_actions(&self, actions: &mut Vec<String>) -> bool {
        let mut is_lost = false;
        for group in self.groups() {
            let Ok(Some(counts)) = self.counted(&group) else {
                continue;
            };
            let (name, todo) = (&group.name, counts.todo.count);
            if !group.is_reported() {
                let done = counts.total.count - todo;
                actions.push(format!(
                    "volume {name} is being restored, {done} of {} instances; it goes on while the server runs",
                    counts.total.count
                ));
            } else if todo > 0 {
                actions.push(format!(
                    "{todo} instances that were on the old disk of volume {name} could not be copied: kura report show names them"
                ));
            }
            let olds = |end: &str| {
                let verbs = group.olds.iter();
                let verbs = verbs.map(|old| format!("kura volume forget {}{end}", old.name));
                verbs.collect::<Vec<_>>().join(", ")
            };
            if group.is_reported() && counts.total.count < group.listed_count() {
                actions.push(format!(
                    "{} instances that were on the old disk of volume {name} are not in any copy of its ledger: see to those that kura report show names, then: {}",
                    group.listed_count() - counts.total.count,
                    olds("")
                ));
            }
            if counts.lost.count > 0 {
                is_lost = true;
                actions.push(format!(
                    "{} instances were lost with the old disk of volume {name}: kura report show names them; send them again from the modality, or write them off: {}",
                    counts.lost.count,
                    olds(" --yes")
                ));
            }
        }
        is_lost
    }
}

const READING_IN: &str = "the index is being read in";

fn other(name: &str, reason: String) -> VerbError {
    VerbError::Other {
        name: name.to_owned(),
        reason,
    }
}

fn waiting(waiting: &Counted, sources: &[CopiedFrom]) -> String {
    let away = sources.iter().filter(|source| !source.is_here);
    let names: BTreeSet<&str> = away.map(|source| source.volume.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    format!(
        "the other copy of {} instances is on a volume that is away: {}",
        waiting.count,
        names.join(", ")
    )
}
