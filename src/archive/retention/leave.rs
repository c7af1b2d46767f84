//! How an image leaves: a second copy elsewhere where one is missing, both copies read again, the `gone` line, and then the
//! file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{Timestamp, Zoned};

use crate::config::RetentionRule;
use crate::index::{Change, Copy, Gone, IndexError, Snapshot};
use crate::volume::layout::Role;
use crate::volume::placement::Reserve;
use crate::volume::{Volume, VolumeState};

use super::super::content::{Content, contents};
use super::super::copying::Task;
use super::super::mirror::whole;
use super::super::reread::reread;
use super::super::safety::{Judge, Need, Safe};
use super::super::shelf::Member;
use super::super::work::Stop;
use super::super::{Archive, Line, entry};
use super::due::{Due, Search};
use super::report::{KeptInstance, RetentionReport};
use super::{Course, report};

/// In the `gone` lines.
pub(super) const WHY: &str = "retention";

/// Contents looked at between two flushes of what was removed.
const BATCH_COUNT: usize = 64;
/// How long a sender of the same instance may hold it up; then it stays until the next run.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What became of a content.
enum Became {
    /// So many bytes of files are free now.
    Gone(u64),
    Kept(String),
    /// It was not there any more.
    Passed,
    Stopped,
}

/// A volume that images leave, and what is known for all of them.
struct Leaving<'a> {
    volume: &'a Arc<Volume<Line>>,
    judge: Judge,
    /// By Study Instance UID, as far as it was asked for.
    protected: RefCell<HashMap<String, bool>>,
    /// Why no volume takes second copies, once one was refused.
    no_target: Option<String>,
}

impl Archive {
    /// What the rules take leaves every volume that they name.
    pub(super) fn leave_all(
        &self,
        course: &Course,
        report: &mut RetentionReport,
    ) -> Result<(), Stop> {
        // Before anything: who asks is told that it cannot be done.
        drop(self.whole_snapshot()?);
        for member in self.shelf.all() {
            let rules: Vec<(usize, &RetentionRule)> = course
                .rules
                .config
                .rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| member.role == Role::Archive && rule.takes_from(&member.name))
                .collect();
            if rules.is_empty() || self.is_replaced(&member.volume_id) {
                continue;
            }
            for (at, _) in &rules {
                report.rules[*at].volumes.push(member.name.clone());
            }
            match self.why_not_from(&member) {
                Err(note) => report.notes.push(format!("volume {}: {note}", member.name)),
                Ok(volume) => match self.leave_volume(&volume, rules, course, report) {
                    Ok(()) => {}
                    Err(Stop::Cancelled) => return Err(Stop::Cancelled),
                    // Other volumes may do better.
                    Err(Stop::Failed(reason)) => {
                        tracing::error!(
                            volume = member.name,
                            reason,
                            "images cannot leave a volume"
                        );
                        report.notes.push(reason);
                        self.retention
                            .told()
                            .swept
                            .retain(|id| *id != member.volume_id);
                    }
                },
            }
        }
        for rule in report.rules.iter().filter(|rule| rule.volumes.is_empty()) {
            let note = format!("rule {} names no archive volume", rule.number);
            report.notes.push(note);
        }
        Ok(())
    }

    /// The volume, or why nothing leaves it.
    fn why_not_from(&self, member: &Member) -> Result<Arc<Volume<Line>>, String> {
        let Some(volume) = member.here() else {
            return Err("it is away".to_owned());
        };
        if volume.is_adopted() {
            return Err("it is adopted: its files are not Kura's to remove".to_owned());
        }
        if self.is_draining(&member.volume_id) {
            return Err("it is being emptied".to_owned());
        }
        if volume.state() != VolumeState::Ok || !volume.answers() {
            return Err("it is not written".to_owned());
        }
        Ok(volume.clone())
    }

    fn leave_volume(
        &self,
        volume: &Arc<Volume<Line>>,
        rules: Vec<(usize, &RetentionRule)>,
        course: &Course,
        report: &mut RetentionReport,
    ) -> Result<(), Stop> {
        let free_below = |at: &usize| course.rules.free_below[*at].is_some();
        let (by_space, always): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|(at, _)| free_below(at));
        // What goes anyway first: it may make the room that the others ask for.
        self.leave_by(volume, always, course, report)?;
        self.leave_by(volume, by_space, course, report)
    }

    fn leave_by(
        &self,
        volume: &Arc<Volume<Line>>,
        rules: Vec<(usize, &RetentionRule)>,
        course: &Course,
        report: &mut RetentionReport,
    ) -> Result<(), Stop> {
        let dry_run = report.dry_run;
        let mut room = Room::of(volume, course.rules.free_below.clone());
        if rules.is_empty() || !rules.iter().any(|(at, _)| room.wants(*at)) {
            return Ok(());
        }
        let search = Search {
            volume_id: volume.id(),
            rules,
            now: Timestamp::now(),
            today: Zoned::now().date(),
        };
        let mut after: Option<Due> = None;
        loop {
            let snapshot = self.whole_snapshot()?;
            let totals = snapshot.volume_totals(volume.id())?;
            let step = format!("volume {}: what the rules take", volume.name());
            course.step(step, totals.instances_count);
            let look = || {
                course.did(1);
                !course.is_over(0)
            };
            let found = search.after(&snapshot, after.as_ref(), &look);
            let (found, more) = found.inspect_err(|error| self.index_failed(error))?;
            drop(snapshot);
            if course.is_over(0) {
                return Err(Stop::Cancelled);
            }
            let step = match dry_run {
                true => format!("volume {}: how their copies stand", volume.name()),
                false => format!("volume {}: images leave", volume.name()),
            };
            course.step(step, found.len() as u64);
            for batch in found.chunks(BATCH_COUNT) {
                if !search.rules.iter().any(|(at, _)| room.wants(*at)) {
                    return Ok(());
                }
                match dry_run {
                    true => self.weigh_batch(volume, batch, &mut room, course, report)?,
                    false => self.leave_batch(volume, batch, &mut room, course, report)?,
                }
            }
            match found.into_iter().next_back() {
                Some(last) if more => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    fn whole_snapshot(&self) -> Result<Snapshot, Stop> {
        let snapshot = whole(self)?;
        snapshot.ok_or_else(|| {
            Stop::Failed(
                "the index is being read in, and only a complete one knows the copies; nothing was removed, try again later"
                    .to_owned(),
            )
        })
    }

    fn leaving<'a>(&self, volume: &'a Arc<Volume<Line>>) -> Leaving<'a> {
        Leaving {
            volume,
            judge: self.judge().leaving(volume.id()),
            protected: RefCell::default(),
            no_target: None,
        }
    }

    /// What would become of contents; nothing is read and nothing changed.
    fn weigh_batch(
        &self,
        volume: &Arc<Volume<Line>>,
        batch: &[Due],
        room: &mut Room,
        course: &Course,
        report: &mut RetentionReport,
    ) -> Result<(), Stop> {
        let leaving = self.leaving(volume);
        for due in batch.iter() {
            if course.is_over(0) {
                return Err(Stop::Cancelled);
            }
            course.did(1);
            if !room.wants(due.rule) {
                continue;
            }
            let Some(content) = self.content_of(due, volume)? else {
                continue;
            };
            let bytes = bytes_on(&content, volume);
            let rule = &mut report.rules[due.rule];
            rule.take(due, bytes);
            match self.why_it_stays(&leaving, &content) {
                Some(reason) => report.keep(due.rule, bytes, kept(volume, &content, reason)),
                None => {
                    if leaving.judge.need(&content.volume_ids()) == Need::Mirror {
                        rule.copied_count += 1;
                        rule.copied_bytes += content.copies.first().map_or(0, |c| c.size_bytes);
                    }
                    rule.gone_count += 1;
                    rule.gone_bytes += bytes;
                    room.gained(bytes);
                }
            }
        }
        Ok(())
    }

    fn leave_batch(
        &self,
        volume: &Arc<Volume<Line>>,
        batch: &[Due],
        room: &mut Room,
        course: &Course,
        report: &mut RetentionReport,
    ) -> Result<(), Stop> {
        let mut leaving = self.leaving(volume);
        room.look(volume);
        self.copy_what_lacks(&mut leaving, batch, room, course, report)?;
        let mut removed = false;
        let mut done = Ok(());
        for due in batch {
            course.did(1);
            if !room.wants(due.rule) {
                continue;
            }
            let Some(content) = self.content_of(due, volume)? else {
                continue;
            };
            let bytes = bytes_on(&content, volume);
            report.rules[due.rule].take(due, bytes);
            match self.leave_one(&leaving, due, &content, course) {
                Ok(Became::Gone(bytes)) => {
                    removed = true;
                    let rule = &mut report.rules[due.rule];
                    rule.gone_count += 1;
                    rule.gone_bytes += bytes;
                    room.gained(bytes);
                }
                Ok(Became::Kept(reason)) => {
                    report.keep(due.rule, bytes, kept(volume, &content, reason));
                }
                Ok(Became::Passed) => {}
                Ok(Became::Stopped) => {
                    done = Err(Stop::Cancelled);
                    break;
                }
                Err(stop) => {
                    done = Err(stop);
                    break;
                }
            }
        }
        // So that after a power cut no more files without a line come back than are looked for.
        if removed && let Err(error) = volume.sync_file_system() {
            tracing::warn!(volume = volume.name(), %error, "what left a volume may come back after a power cut");
        }
        done
    }

    /// Makes the second copies that are missing elsewhere.
    fn copy_what_lacks(
        &self,
        leaving: &mut Leaving,
        batch: &[Due],
        room: &Room,
        course: &Course,
        report: &mut RetentionReport,
    ) -> Result<(), Stop> {
        let mut room = room.clone();
        let mut tasks = Vec::new();
        let mut rules = Vec::new();
        for due in batch.iter() {
            let Some(content) = self.content_of(due, leaving.volume)? else {
                continue;
            };
            if !room.wants(due.rule) || self.why_it_stays(leaving, &content).is_some() {
                continue;
            }
            room.gained(bytes_on(&content, leaving.volume));
            if leaving.judge.need(&content.volume_ids()) == Need::Mirror {
                rules.push(due.rule);
                tasks.push(Task {
                    content,
                    need: Need::Mirror,
                });
            }
        }
        if tasks.is_empty() {
            return Ok(());
        }
        let copied = self.copy_all(tasks, &leaving.judge, &|bytes, took| {
            course.go_on(bytes, took)
        });
        // Of which rule they were nobody asks more closely.
        if let Some(rule) = rules.first() {
            report.rules[*rule].copied_count += copied.count;
            report.rules[*rule].copied_bytes += copied.bytes;
        }
        leaving.no_target = copied.no_target.into_values().next();
        for (sop_instance_uid, reason) in copied.failed {
            tracing::warn!(
                sop_instance_uid,
                reason,
                "an image did not get the second copy that it needs to leave"
            );
        }
        match copied.stopped {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }

    /// Why a content cannot leave, as far as the index knows.
    fn why_it_stays(&self, leaving: &Leaving, content: &Content) -> Option<String> {
        match self.is_of_protected(leaving, &content.study_instance_uid) {
            Ok(false) => {}
            Ok(true) => return Some(report::PROTECTED.to_owned()),
            Err(error) => {
                self.index_failed(&error);
                return Some("the index cannot be asked".to_owned());
            }
        }
        let ids = content.volume_ids();
        match leaving.judge.need(&ids) {
            Need::Lost => return Some("it has no copy elsewhere yet".to_owned()),
            Need::Mirror if self.mirror.paused.load(Ordering::Relaxed) => {
                return Some("it has one copy elsewhere, and copying is paused".to_owned());
            }
            Need::Mirror => {
                if let Some(reason) = &leaving.no_target {
                    return Some(format!(
                        "it has one copy elsewhere, and for another {reason}"
                    ));
                }
                let task = Task {
                    content: content.clone(),
                    need: Need::Mirror,
                };
                return self
                    .targets(&task, &leaving.judge)
                    .err()
                    .map(|reason| format!("it has one copy elsewhere, and for another {reason}"));
            }
            Need::Archive | Need::Nothing => {}
        }
        let sound: Vec<String> = self
            .copies_elsewhere(leaving, content)
            .map(|copy| copy.volume_id.clone())
            .collect();
        (leaving.judge.safe(&sound) != Safe::Two)
            .then(|| "it has no two copies on two disks elsewhere that can be read now".to_owned())
    }

    fn is_of_protected(&self, leaving: &Leaving, study: &str) -> Result<bool, IndexError> {
        let mut known = leaving.protected.borrow_mut();
        if let Some(known) = known.get(study) {
            return Ok(*known);
        }
        let protected = self.is_protected(study)?;
        known.insert(study.to_owned(), protected);
        Ok(protected)
    }

    /// Good copies that stay: not in a tree that its owner may take away, nor on a volume that is being emptied.
    fn copies_elsewhere<'a>(
        &'a self,
        leaving: &'a Leaving,
        content: &'a Content,
    ) -> impl Iterator<Item = &'a Copy> {
        content.good_copies().filter(|copy| {
            let volume = self.shelf.here(&copy.volume_id);
            copy.volume_id != leaving.volume.id()
                && volume.is_some_and(|volume| !volume.is_adopted() && volume.answers())
                && !self.is_draining(&copy.volume_id)
        })
    }

    fn leave_one(
        &self,
        leaving: &Leaving,
        due: &Due,
        content: &Content,
        course: &Course,
    ) -> Result<Became, Stop> {
        if let Some(reason) = self.why_it_stays(leaving, content) {
            return Ok(Became::Kept(reason));
        }
        let mut verified: Vec<&Copy> = Vec::new();
        let mut faults = Vec::new();
        let is_enough = |verified: &[&Copy]| {
            let ids: Vec<String> = verified.iter().map(|copy| copy.volume_id.clone()).collect();
            leaving.judge.safe(&ids) == Safe::Two
        };
        for copy in self.copies_elsewhere(leaving, content) {
            let Some(there) = self.shelf.here(&copy.volume_id) else {
                continue;
            };
            match reread(&there, copy, &|bytes, took| course.go_on(bytes, took)) {
                Ok(Some(())) => verified.push(copy),
                Ok(None) => return Ok(Became::Stopped),
                Err(fault) => {
                    self.suspect(&due.sop_instance_uid, copy);
                    faults.push(format!("volume {}: {}: {fault}", there.name(), copy.path));
                }
            }
            if is_enough(&verified) {
                break;
            }
        }
        if !is_enough(&verified) {
            return Ok(Became::Kept(match faults.is_empty() {
                true => "its copies elsewhere could not be read".to_owned(),
                false => format!("a copy elsewhere is not good ({})", faults.join("; ")),
            }));
        }
        let lock = self.locks.lock_within(&due.sop_instance_uid, LOCK_PATIENCE);
        let Some(_lock) = lock else {
            return Ok(Became::Kept("it is just being stored".to_owned()));
        };
        // Whatever happened while the copies were read: they are still what counts.
        let Some(now) = self.content_of(due, leaving.volume)? else {
            return Ok(Became::Passed);
        };
        let still = |copy: &&&Copy| now.good_copies().any(|other| other == **copy);
        if verified.iter().filter(still).count() < verified.len() {
            return Ok(Became::Kept(
                "a copy elsewhere changed meanwhile".to_owned(),
            ));
        }
        let here = |copy: &&Copy| copy.volume_id == leaving.volume.id();
        let mut bytes = 0;
        for copy in now.copies.iter().filter(here) {
            match self.remove_copy(leaving.volume, &due.sop_instance_uid, copy) {
                Ok(()) => bytes += copy.size_bytes,
                Err(reason) => {
                    let name = leaving.volume.name();
                    return Err(Stop::Failed(format!("volume {name}: {reason}")));
                }
            }
        }
        Ok(Became::Gone(bytes))
    }

    /// The line first, durable: a file without a line is found and removed later, a line without its file would be a loss.
    fn remove_copy(&self, from: &Arc<Volume<Line>>, sop: &str, copy: &Copy) -> Result<(), String> {
        self.list_first(from, [copy.path.as_str()])
            .map_err(|error| error.to_string())?;
        let gone = Gone {
            sequence: self.keeper.next_sequence(),
            sop_instance_uid: sop.to_owned(),
            volume_id: from.id().to_owned(),
            path: copy.path.clone(),
        };
        let line = entry::gone_line(&gone, &super::super::now(), WHY);
        let _call = from.call();
        from.ledger()
            .append(&[], line, Arc::new(Change::Gone(gone)))
            .map_err(|error| error.to_string())?;
        match from.remove_file(&copy.path) {
            // A bad one was set aside.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| format!("{}: {error}", copy.path)),
        }
    }

    /// The content as it is now, if it still has a file on the volume.
    fn content_of(&self, due: &Due, volume: &Volume<Line>) -> Result<Option<Content>, Stop> {
        let view = self.view()?;
        if view.rebuilding_percent.is_some() {
            return Err(Stop::Cancelled);
        }
        let found = view.snapshot.by_sop(&due.sop_instance_uid)?;
        let mut found = found.iter().flat_map(contents);
        let is_there =
            |content: &Content| content.copies.iter().any(|c| c.volume_id == volume.id());
        Ok(found.find(|content| due.is(content) && is_there(content)))
    }
}

fn bytes_on(content: &Content, volume: &Volume<Line>) -> u64 {
    let here = content.copies.iter().filter(|c| c.volume_id == volume.id());
    here.map(|copy| copy.size_bytes).sum()
}

fn kept(volume: &Volume<Line>, content: &Content, why: String) -> KeptInstance {
    KeptInstance {
        volume: volume.name().to_owned(),
        study_instance_uid: content.study_instance_uid.clone(),
        sop_instance_uid: content.sop_instance_uid.clone(),
        why,
    }
}

/// What is free on a volume, for the rules that ask for it.
#[derive(Clone)]
struct Room {
    /// Of each rule; `None`: it takes whatever is free.
    below: Vec<Option<Reserve>>,
    free_bytes: u64,
    total_bytes: u64,
}

impl Room {
    fn of(volume: &Volume<Line>, below: Vec<Option<Reserve>>) -> Room {
        let mut room = Room {
            below,
            free_bytes: u64::MAX,
            total_bytes: u64::MAX,
        };
        room.look(volume);
        room
    }

    /// Asks the disk; one that does not say counts as empty, so that nothing leaves it for room.
    fn look(&mut self, volume: &Volume<Line>) {
        let _call = volume.call();
        let space = volume.space();
        (self.free_bytes, self.total_bytes) = match space {
            Ok(space) => (space.free_bytes, space.total_bytes),
            Err(_) => (u64::MAX, u64::MAX),
        };
    }

    fn wants(&self, rule: usize) -> bool {
        match &self.below[rule] {
            Some(below) => self.free_bytes < below.bytes(self.total_bytes),
            None => true,
        }
    }

    fn gained(&mut self, bytes: u64) {
        self.free_bytes = self.free_bytes.saturating_add(bytes);
    }
}
