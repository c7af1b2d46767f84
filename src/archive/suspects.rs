//! Copies that somebody found missing, unreadable or changed: looked at again in peace, and if it is so, declared bad in
//! the ledger, set aside, and healed from another copy.
//!
//! The line comes first, then the file is moved. After a power cut in between the file lies where it was, with a line that
//! says not to trust it; the copy that heals it takes another name then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::index::{Bad, Change, Copy, IndexError, InstanceEntry};
use crate::volume::{Volume, VolumeState};

use super::bad_copies::{EVENTS_MAX, Event, OPEN_MAX, Open, PASSED_OVER_MAX, Place, Told};
use super::content::{Content, contents};
use super::reread::{Fault, reread};
use super::{Archive, Line, entry};

/// Suspects that wait; what is beyond is found again when it is read again.
const WAITING_MAX: usize = 10_000;
/// More unreadable or changed files within [`BREAKER_TIME`]: it is the disk, not the files.
const BREAKER_COUNT: usize = 1_000;
const BREAKER_TIME: Duration = Duration::from_secs(3600);
/// A copy that was made anew and is changed again: so often, and it is the disk.
const RELAPSES_MAX: u32 = 3;
/// How long a sender of the same instance may hold up the judgement; then it is made another time.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Before a file that failed is read again: what passes by itself is no fault of the file.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(100);

/// A copy with its content and all that is kept under its UID.
type Found = (InstanceEntry, Content, Copy);

#[derive(Default)]
pub struct Suspects {
    queue: Mutex<Queue>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Queue {
    /// By volume id.
    waiting: HashMap<String, VecDeque<Suspect>>,
    /// Volume id and path of those that wait.
    known: HashSet<Place>,
}

/// What somebody could not read.
pub struct Suspect {
    pub sop_instance_uid: String,
    pub path: String,
}

/// What came of a suspicion.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is good, or not listed any more.
    Good,
    Bad(Fault),
    /// Somebody is storing it, or the index is being read in.
    Later,
    /// The volume is away, does not answer or fails: nothing can be said of its files.
    Trouble,
}

impl Suspects {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a copy is known as bad although its ledger does not say so, or its disk fails.
    pub fn passes_over(&self, copy: &Copy) -> bool {
        let told = self.told();
        let place = (copy.volume_id.clone(), copy.path.clone());
        told.failing.contains_key(&copy.volume_id) || told.passed_over.contains_key(&place)
    }

    /// Whether files of a volume wait to be looked at.
    pub fn has_some(&self, volume_id: &str) -> bool {
        self.queue().waiting.contains_key(volume_id)
    }

    /// Whether more files of a volume were unreadable than a disk that works has.
    pub fn is_failing(&self, volume: &Arc<Volume<Line>>) -> bool {
        let told = self.told();
        let failing = told.failing.get(volume.id());
        failing.is_some_and(|failing| std::ptr::eq(failing.as_ptr(), Arc::as_ptr(volume)))
    }

    pub(super) fn put(&self, volume_id: &str, suspect: Suspect) {
        let mut queue = self.queue();
        let place = (volume_id.to_owned(), suspect.path.clone());
        if queue.known.len() < WAITING_MAX && queue.known.insert(place) {
            let waiting = queue.waiting.entry(volume_id.to_owned()).or_default();
            waiting.push_back(suspect);
        }
    }

    fn take(&self, volume_id: &str) -> VecDeque<Suspect> {
        let mut queue = self.queue();
        let waiting = queue.waiting.remove(volume_id).unwrap_or_default();
        for suspect in &waiting {
            let place = (volume_id.to_owned(), suspect.path.clone());
            queue.known.remove(&place);
        }
        waiting
    }
}

impl Archive {
    /// A copy could not be read, or was not what its ledger line says. Only notes it; from any thread.
    pub(super) fn suspect(&self, sop_instance_uid: &str, copy: &Copy) {
        if !copy.bad {
            let suspect = Suspect {
                sop_instance_uid: sop_instance_uid.to_owned(),
                path: copy.path.clone(),
            };
            self.suspects.put(&copy.volume_id, suspect);
        }
    }

    /// Judges what is suspected on a volume.
    pub(super) fn judge_suspects(&self, volume_id: &str) {
        for suspect in self.suspects.take(volume_id) {
            match self.judge_copy(volume_id, &suspect) {
                Judged::Later => self.suspects.put(volume_id, suspect),
                // It is found again when it is read again.
                Judged::Trouble => return,
                Judged::Good => {
                    let place = (volume_id.to_owned(), suspect.path);
                    self.suspects.told().passed_over.remove(&place);
                }
                Judged::Bad(_) => {}
            }
            if self.is_stopping() {
                return;
            }
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Reads a suspected copy again from its medium, twice where it is bad, while nobody stores that instance.
    pub(super) fn judge_copy(&self, volume_id: &str, suspect: &Suspect) -> Judged {
        let sop = &suspect.sop_instance_uid;
        let Some(volume) = self.working(volume_id) else {
            return Judged::Trouble;
        };
        let Some(_lock) = self.locks.lock_within(sop, LOCK_PATIENCE) else {
            return Judged::Later;
        };
        let found = match self.find_listed(volume_id, suspect) {
            Ok(Some(Some(found))) => found,
            Ok(Some(None)) => return Judged::Good,
            Ok(None) => return Judged::Later,
            Err(error) => {
                self.index_failed(&error);
                return Judged::Later;
            }
        };
        let (entry, content, copy) = found;
        let look = || reread(&volume, &copy, &|_, _| !self.is_stopping());
        let first = match look() {
            Ok(Some(())) => return Judged::Good,
            Ok(None) => return Judged::Later,
            Err(fault) => fault,
        };
        self.rest(SECOND_LOOK_AFTER);
        let fault = match look() {
            Ok(Some(())) => {
                tracing::warn!(
                    volume = volume.name(),
                    path = copy.path,
                    reason = %first,
                    "a file failed once and was good the second time"
                );
                return Judged::Good;
            }
            Ok(None) => return Judged::Later,
            Err(fault) => fault,
        };
        if !matches!(fault, Fault::Wrong(_)) {
            if self.working(volume_id).is_none() {
                return Judged::Trouble;
            }
            if let Err(error) = volume.reread_label() {
                if error.is_of_the_process() {
                    return Judged::Later;
                }
                let reason = format!("its label cannot be read: {error}");
                tracing::error!(volume = volume.name(), reason, "a disk is in trouble");
                volume.suspend(&reason);
                return Judged::Trouble;
            }
        }
        if fault != Fault::Missing && self.too_many(&volume) {
            return Judged::Trouble;
        }
        if matches!(fault, Fault::Wrong(_)) && self.lies(&volume, sop) {
            return Judged::Trouble;
        }
        self.declare_bad(&volume, &entry, &content, &copy, &fault);
        Judged::Bad(fault)
    }

    /// A volume that is here, where it was, and answers.
    pub(super) fn working(&self, volume_id: &str) -> Option<Arc<Volume<Line>>> {
        let volume = self.shelf.here(volume_id)?;
        if !volume.answers() || self.suspects.is_failing(&volume) || self.is_replaced(volume_id) {
            return None;
        }
        let attached = {
            let _call = volume.call();
            volume.disk().is_attached()
        };
        matches!(attached, Ok(true)).then_some(volume)
    }

    /// The suspect as the index has it, if it counts as a good copy; the outer `None` while the index is being read in.
    fn find_listed(
        &self,
        volume_id: &str,
        suspect: &Suspect,
    ) -> Result<Option<Option<Found>>, IndexError> {
        let view = self.view()?;
        let Some(entry) = view.snapshot.by_sop(&suspect.sop_instance_uid)? else {
            return Ok(view.rebuilding_percent.is_none().then_some(None));
        };
        let is_it = |copy: &&Copy| copy.volume_id == volume_id && copy.path == suspect.path;
        let found = contents(&entry).into_iter().find_map(|content| {
            let copy = content.good_copies().find(is_it)?.clone();
            Some((content, copy))
        });
        Ok(Some(found.map(|(content, copy)| (entry, content, copy))))
    }

    /// Counts a file that cannot be read or is changed; true when the disk is to be replaced rather than its files healed.
    fn too_many(&self, volume: &Arc<Volume<Line>>) -> bool {
        let mut told = self.suspects.told();
        let times = told.unreadable.entry(volume.id().to_owned()).or_default();
        let now = Instant::now();
        while let Some(oldest) = times.front()
            && now.saturating_duration_since(*oldest) > BREAKER_TIME
        {
            times.pop_front();
        }
        times.push_back(now);
        if times.len() <= BREAKER_COUNT {
            return false;
        }
        drop(told);
        let reason =
            format!("more than {BREAKER_COUNT} files in an hour were unreadable or changed");
        self.fails(volume, &reason);
        true
    }

    /// Its disk is not to be trusted with anything until it was taken out and looked at.
    fn fails(&self, volume: &Arc<Volume<Line>>, reason: &str) {
        let mut told = self.suspects.told();
        told.unreadable.remove(volume.id());
        told.relapses.remove(volume.id());
        let failing = Arc::downgrade(volume);
        told.failing.insert(volume.id().to_owned(), failing);
        drop(told);
        tracing::error!(volume = volume.name(), reason, "the disk fails");
        volume.mark_failed(reason);
    }

    /// Counts a file that is changed; true when what is written to the disk comes back changed again and again. Healing
    /// would go on until the disk is full of bad copies.
    fn lies(&self, volume: &Arc<Volume<Line>>, sop_instance_uid: &str) -> bool {
        let mut told = self.suspects.told();
        let instance = (volume.id().to_owned(), sop_instance_uid.to_owned());
        if !told.changed.contains(&instance) {
            if told.changed.len() < OPEN_MAX {
                told.changed.insert(instance);
            }
            return false;
        }
        let relapses = told.relapses.entry(volume.id().to_owned()).or_default();
        *relapses += 1;
        if *relapses < RELAPSES_MAX {
            return false;
        }
        drop(told);
        self.fails(volume, "what is written to it comes back changed");
        true
    }

    fn declare_bad(
        &self,
        volume: &Arc<Volume<Line>>,
        entry: &InstanceEntry,
        content: &Content,
        copy: &Copy,
        fault: &Fault,
    ) {
        let why = fault.to_string();
        let place = (copy.volume_id.clone(), copy.path.clone());
        let said = self.say_bad(volume, entry, copy, &why);
        let others = content.good_copies().filter(|other| *other != copy).count();
        tracing::error!(
            volume = volume.name(),
            path = copy.path,
            sop_instance_uid = entry.sop_instance_uid,
            why,
            good_copies_left = others,
            "a copy is bad"
        );
        let mut set_aside = None;
        match said {
            Ok(()) if *fault != Fault::Missing && !volume.is_adopted() => {
                match volume.set_aside(&copy.path) {
                    Ok(path) => set_aside = Some(path),
                    Err(error) => {
                        tracing::warn!(volume = volume.name(), %error, "a bad file stays where it is");
                    }
                }
            }
            _ => {}
        }
        let mut told = self.suspects.told();
        let is_known = told.passed_over.contains_key(&place);
        match &said {
            Ok(()) => {
                told.passed_over.remove(&place);
                if told.open.len() < OPEN_MAX {
                    told.open.push_back(Open {
                        volume_id: copy.volume_id.clone(),
                        path: copy.path.clone(),
                        sop_instance_uid: entry.sop_instance_uid.clone(),
                    });
                }
            }
            Err(reason) => {
                tracing::warn!(
                    volume = volume.name(),
                    reason,
                    "that a copy is bad could not be written to its ledger"
                );
                if told.passed_over.len() < PASSED_OVER_MAX {
                    told.passed_over
                        .insert(place, entry.sop_instance_uid.clone());
                }
            }
        }
        if !is_known {
            told.found_count += 1;
            if told.events.len() == EVENTS_MAX {
                told.events.pop_front();
            }
            told.events.push_back(Event {
                at: super::now(),
                volume: volume.name().to_owned(),
                path: copy.path.clone(),
                sop_instance_uid: entry.sop_instance_uid.clone(),
                why,
                set_aside,
                healed: None,
                volume_id: copy.volume_id.clone(),
            });
        }
        drop(told);
        self.mirror.urgent((
            entry.study_instance_uid.clone(),
            entry.series_instance_uid.clone(),
        ));
    }

    /// The line in the ledger.
    fn say_bad(
        &self,
        volume: &Arc<Volume<Line>>,
        entry: &InstanceEntry,
        copy: &Copy,
        why: &str,
    ) -> Result<(), String> {
        if let VolumeState::Failed(reason) = volume.state() {
            return Err(reason);
        }
        self.list_first(volume, [copy.path.as_str()])
            .map_err(|error| error.to_string())?;
        let bad = Bad {
            sequence: self.keeper.next_sequence(),
            sop_instance_uid: entry.sop_instance_uid.clone(),
            volume_id: copy.volume_id.clone(),
            path: copy.path.clone(),
        };
        let line = entry::bad_line(&bad, &super::now(), why);
        let _call = volume.call();
        let appended = volume
            .ledger()
            .append(&[], line, Arc::new(Change::Bad(bad)));
        appended.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn name_of(&self, volume_id: &str) -> String {
        let member = self.shelf.by_id(volume_id);
        member.map_or_else(|| volume_id.to_owned(), |member| member.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Mode;
    use crate::config::Config;

    fn archive_in(place: &std::path::Path) -> Archive {
        let file = place.join("kura.toml");
        let text = format!(
            "state = {:?}\n[intake]\nmode = \"direct\"\n[[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n",
            place.join("state"),
            place.join("a"),
        );
        std::fs::create_dir(place.join("a")).unwrap();
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file)).unwrap();
        Archive::open(&config, Mode::Create).unwrap()
    }

    /// Method: as many files of a disk could not be read as one more than a disk that works may have.
    #[test]
    fn a_disk_that_fails_is_judged_as_a_whole() {
        let place = tempfile::tempdir().unwrap();
        let archive = archive_in(place.path());
        let volume = archive.shelf.all()[0].here().unwrap().clone();
        for _ in 0..BREAKER_COUNT {
            assert!(!archive.too_many(&volume));
        }
        assert!(archive.working(volume.id()).is_some());
        assert!(archive.too_many(&volume));
        assert!(archive.working(volume.id()).is_none());
        assert_eq!(archive.bad_status().failing, ["A"]);
        let actions = archive.status().actions.join("\n");
        assert!(
            actions.contains("kura volume replace A NEWPATH"),
            "{actions}"
        );
        // Another disk in its place is judged afresh.
        let id = volume.id().to_owned();
        let member = archive.shelf.by_id(&id).unwrap();
        archive
            .shelf
            .put(member.standing(super::super::shelf::Standing::Away {
                reason: String::new(),
                ejected: true,
            }));
        drop((member, volume));
        archive.look_for_healed();
        assert!(archive.suspects.told().failing.is_empty());
    }

    #[test]
    fn a_disk_on_which_healed_copies_are_changed_again_is_not_written_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive_in(folder.path());
        let volume = archive.shelf.all()[0].here().unwrap().clone();
        for sop in ["1.1", "1.2", "1.3", "1.4"] {
            assert!(!archive.lies(&volume, sop), "the first time");
        }
        assert!(!archive.lies(&volume, "1.1"));
        assert!(!archive.lies(&volume, "1.2"));
        assert!(archive.lies(&volume, "1.3"));
        assert!(matches!(volume.state(), VolumeState::Failed(_)));
        assert_eq!(archive.bad_status().failing, ["A"]);
        assert_eq!(archive.status().state, "degraded");
    }
}
