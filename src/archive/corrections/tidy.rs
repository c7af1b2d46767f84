//! Brings files where the corrections want them: what was replaced to `superseded/`, what was removed to `trash/`, what
//! was taken back into the tree again; and deletes what was kept long enough.
//!
//! Nothing of it is saved: what is left to do follows from what the index says of each correction, so it goes on after any
//! interruption. A file is renamed first, durably, then the lines say so; between the two it is looked for at both names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::index::{ContentId, Copy, Hid, IndexError, Snapshot};
use crate::job::Politeness;
use crate::volume::{Volume, VolumeState, layout};

use super::super::content::{Content, Facts, contents, hidden_content};
use super::super::mirror::whole;
use super::super::{Archive, Line};
use super::tidy_move::Moving;
use super::tidy_notes::Notes;
use super::tidy_plan::{Days, End, Fate, Place, Records, id_of};
use super::tidy_status::KeptStatus;

/// Instances looked at under their locks at a time.
const BATCH_COUNT: usize = 64;
/// Without being told of anything it is looked so often whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What could not be done is tried again so soon.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// How long a sender of the same instance may hold it up; then it is done another time.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Corrections that were never put in effect, remembered at a time.
const LEFTOVERS_MAX: usize = 10_000;

/// What is known of tidying in memory.
#[derive(Default)]
pub struct Tidy {
    woken: AtomicBool,
    state: Mutex<State>,
    /// As it was after the last round.
    pub(super) told: Mutex<Option<KeptStatus>>,
}

#[derive(Default)]
struct State {
    /// Id of each volume, and whether its files can be moved.
    shelf: Vec<(String, bool)>,
    looked: Option<Instant>,
    /// Corrections by number of which nothing is left to do for now.
    settled: HashMap<u64, Settled>,
    /// By number, why files are kept although their time is over.
    waits: BTreeMap<u64, String>,
}

struct Settled {
    /// Of the correction's last line; 0: none.
    sequence: u64,
    /// Something is due then.
    due: Option<Timestamp>,
    /// Something could not be done.
    again: Option<Instant>,
}

impl Settled {
    fn holds(&self, sequence: u64, now: Timestamp) -> bool {
        self.sequence == sequence
            && self.due.is_none_or(|due| due > now)
            && self.again.is_none_or(|again| again > Instant::now())
    }
}

/// One look at all that a correction speaks of.
#[derive(Default)]
pub(super) struct Pass {
    pub number: u64,
    /// The next time something is due.
    pub next: Option<Timestamp>,
    /// Something could not be done now.
    pub again: bool,
    /// Why files whose time is over are kept.
    pub wait: Option<String>,
    pub did_something: bool,
    /// For good.
    pub deleted_count: u64,
    /// Contents whose time is over.
    pub due: Vec<Due>,
    pub notes: Notes,
}

/// A content whose files are to be deleted.
pub(super) struct Due {
    pub sop_instance_uid: String,
    pub id: ContentId,
    pub fate: Fate,
}

impl Tidy {
    fn wake(&self) {
        self.woken.store(true, Ordering::Relaxed);
        // It is not so any more.
        self.tell(None);
    }

    fn tell(&self, kept: Option<KeptStatus>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}

impl super::Corrections {
    /// A correction was put in effect or out of it, or was given up: files are to be moved, or removed.
    pub fn wake(&self) {
        self.tidy.wake();
    }
}

impl Archive {
    /// Does what is to be done now.
    pub fn tidy_all(&self) {
        let tidy = &self.corrections.tidy;
        let woken = tidy.woken.swap(false, Ordering::Relaxed);
        let shelf = self.shelf_to_tidy();
        let mut state = tidy.state.lock().unwrap_or_else(PoisonError::into_inner);
        let every = LOOK_EVERY.min(self.days().day());
        let is_time = state.looked.is_none_or(|at| at.elapsed() >= every);
        if !woken && !is_time && state.shelf == shelf {
            return;
        }
        let is_news = woken || state.looked.is_none() || state.shelf != shelf;
        if state.shelf != shelf {
            state.settled.clear();
            state.shelf = shelf;
        }
        match self.tidy_round(&mut state, is_news) {
            Ok(true) => state.looked = Some(Instant::now()),
            // While the index is being read in nothing is known for sure.
            Ok(false) => tidy.wake(),
            Err(error) => {
                tidy.wake();
                self.index_failed(&error);
            }
        }
    }

    /// Also what could not be done a moment ago.
    #[cfg(test)]
    pub(super) fn tidy_again(&self) {
        let tidy = &self.corrections.tidy;
        tidy.state
            .lock()
            .expect("no panic while held")
            .settled
            .clear();
        tidy.wake();
        self.tidy_all();
    }

    pub(super) fn days(&self) -> Days {
        Days::new(&self.corrections_config.now())
    }

    fn shelf_to_tidy(&self) -> Vec<(String, bool)> {
        let members = self.shelf.all();
        let ids = members.iter().map(|member| &member.volume_id);
        ids.map(|id| (id.clone(), self.can_tidy(id).is_some()))
            .collect()
    }

    /// A volume on which files may be moved. Those of an adopted one stay as they are.
    pub(super) fn can_tidy(&self, volume_id: &str) -> Option<Arc<Volume<Line>>> {
        let volume = self.shelf.here(volume_id)?;
        let can = volume.state() == VolumeState::Ok
            && volume.answers()
            && !volume.is_adopted()
            && !self.is_given_up(volume_id);
        can.then_some(volume)
    }

    /// False when it came to no end.
    fn tidy_round(&self, state: &mut State, is_news: bool) -> Result<bool, IndexError> {
        let Some(snapshot) = whole(self)? else {
            return Ok(false);
        };
        let mut numbers = Vec::new();
        snapshot.corrections(&mut |record| {
            numbers.push((record.number, record.sequence));
            ControlFlow::Continue(())
        })?;
        if is_news {
            if !numbers.is_empty()
                && let Err(error) = self.restate_corrections()
            {
                tracing::warn!(%error, "a correction is in the ledger of one volume only");
            }
            let known: HashSet<u64> = numbers.iter().map(|(number, _)| *number).collect();
            let leftovers = self.leftovers(&snapshot, &known)?;
            numbers.extend(leftovers.into_iter().map(|number| (number, 0)));
        }
        drop(snapshot);
        let mut did_something = is_news;
        let now = Timestamp::now();
        for (number, sequence) in numbers {
            let settled = state.settled.get(&number);
            if settled.is_some_and(|settled| settled.holds(sequence, now)) {
                continue;
            }
            let Some(pass) = self.tidy_correction(number)? else {
                return Ok(false);
            };
            did_something |= pass.did_something;
            let settled = Settled {
                sequence,
                due: pass.next,
                again: pass.again.then(|| Instant::now() + AGAIN_AFTER),
            };
            state.settled.insert(number, settled);
            match pass.wait {
                Some(reason) => did_something |= state.waits.insert(number, reason).is_none(),
                None => did_something |= state.waits.remove(&number).is_some(),
            }
        }
        if did_something {
            let mut kept = self.count_kept()?;
            kept.say_waits(&state.waits);
            let tidy = &self.corrections.tidy;
            tidy.tell(Some(kept));
            // Counted before something else was made, perhaps.
            if tidy.woken.load(Ordering::Relaxed) {
                tidy.tell(None);
            }
        }
        Ok(true)
    }

    /// Numbers of corrections that made contents and were never put in effect.
    fn leftovers(
        &self,
        snapshot: &Snapshot,
        known: &HashSet<u64>,
    ) -> Result<BTreeSet<u64>, IndexError> {
        let mut found = BTreeSet::new();
        snapshot.all_hidden(None, &mut |_, hidden| {
            for content in hidden.contents {
                if let Hid::Unmade { by } = content.hid
                    && !known.contains(&by)
                {
                    found.insert(by);
                }
            }
            match found.len() < LEFTOVERS_MAX && !self.is_stopping() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(found)
    }

    /// Goes through all that a correction speaks of; `None` when it came to no end.
    fn tidy_correction(&self, number: u64) -> Result<Option<Pass>, IndexError> {
        let mut pass = Pass {
            number,
            ..Pass::default()
        };
        let mut after: Option<String> = None;
        loop {
            if self.is_stopping() {
                return Ok(None);
            }
            let begun = Instant::now();
            let Some(snapshot) = whole(self)? else {
                return Ok(None);
            };
            let mut sops = Vec::new();
            snapshot.instances_of_correction(number, after.as_deref(), &mut |sop| {
                sops.push(sop);
                match sops.len() < BATCH_COUNT {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            drop(snapshot);
            let Some(last) = sops.last().cloned() else {
                break;
            };
            after = Some(last);
            if !self.tidy_batch(sops, &mut pass)? {
                return Ok(None);
            }
            let due = std::mem::take(&mut pass.due);
            if !due.is_empty() {
                self.delete_due(due, &mut pass)?;
            }
            self.rest(Politeness::rest(
                self.mirror.since_received(),
                begun.elapsed(),
            ));
        }
        self.settle_notes(&mut pass)?;
        if pass.deleted_count > 0 {
            let record = self.view()?.snapshot.correction(number)?;
            self.tell_deleted(record, pass.deleted_count);
        }
        Ok(Some(pass))
    }

    /// Moves the files of these instances where they belong, while nobody stores them. False while the index is being
    /// read in.
    fn tidy_batch(&self, sops: Vec<String>, pass: &mut Pass) -> Result<bool, IndexError> {
        let sops: BTreeSet<String> = sops.into_iter().collect();
        // In one order, so that nobody who holds several waits for another who does.
        let mut locks = Vec::new();
        for sop in &sops {
            match self.locks.lock_within(sop, LOCK_PATIENCE) {
                Some(lock) => locks.push((sop, lock)),
                None => pass.again = true,
            }
        }
        let Some(snapshot) = whole(self)? else {
            return Ok(false);
        };
        let days = self.days();
        let now = Timestamp::now();
        let mut records = Records::default();
        let mut moving: BTreeMap<String, Vec<Moving>> = BTreeMap::new();
        for (sop, _) in &locks {
            let all = contents_with_fates(sop, &snapshot, &days, &mut records)?;
            let became = all.iter().find(|(fate, _)| fate.by == 0);
            let became = became.and_then(|(_, content)| content.copies.first().cloned());
            for (fate, content) in &all {
                let is_due = match fate.end {
                    End::Never => false,
                    End::Now => true,
                    End::At(at) => at <= now,
                };
                if let End::At(at) = fate.end
                    && !is_due
                {
                    pass.next = Some(pass.next.map_or(at, |next| next.min(at)));
                }
                if is_due && let Some(id) = id_of(content) {
                    pass.due.push(Due {
                        sop_instance_uid: content.sop_instance_uid.clone(),
                        id,
                        fate: *fate,
                    });
                }
                // What is to be deleted at once need not be moved before; what replaced files wait for may not come.
                let goes = is_due && fate.place != Some(Place::Superseded);
                for copy in &content.copies {
                    if self.can_tidy(&copy.volume_id).is_none() {
                        continue;
                    }
                    pass.notes.see(copy, fate, became.as_ref());
                    let Some(place) = fate.place.filter(|place| *place != Place::of(&copy.path))
                    else {
                        continue;
                    };
                    // The file of a bad one was set aside.
                    if goes || copy.bad {
                        continue;
                    }
                    let list = moving.entry(copy.volume_id.clone()).or_default();
                    list.push(Moving {
                        content: content.clone(),
                        copy: copy.clone(),
                        place,
                        counts: fate.by == 0,
                        taken: listed_at(&all, copy),
                    });
                }
            }
        }
        for (volume_id, moving) in moving {
            if let Some(volume) = self.can_tidy(&volume_id) {
                self.move_files(&volume, moving, &snapshot, pass)?;
            }
        }
        Ok(true)
    }
}

/// Every content that is kept under a SOP Instance UID, and what is to become of its files.
pub(super) fn contents_with_fates(
    sop: &str,
    snapshot: &Snapshot,
    days: &Days,
    records: &mut Records,
) -> Result<Vec<(Fate, Content)>, IndexError> {
    let entry = snapshot.by_sop(sop)?;
    let counting = entry.iter().flat_map(contents);
    let mut all: Vec<(Fate, Content)> = counting.map(|content| (Fate::COUNTS, content)).collect();
    for hidden in snapshot.hidden(sop)?.into_iter().flat_map(|h| h.contents) {
        let fate = records.fate(days, hidden.hid, snapshot)?;
        all.push((fate, hidden_content(sop, &hidden)));
    }
    Ok(all)
}

/// Paths on its volume that stand for other copies: none is given to it, even if no file is there.
fn listed_at(all: &[(Fate, Content)], copy: &Copy) -> Vec<String> {
    let copies = all.iter().flat_map(|(_, content)| &content.copies);
    copies
        .filter(|other| other.volume_id == copy.volume_id && other.path != copy.path)
        .map(|other| other.path.clone())
        .collect()
}

/// Study and series are mostly those of the content before.
#[derive(Default)]
pub(super) struct KnownFacts(HashMap<(String, String, u64), Option<Facts>>);

impl KnownFacts {
    pub fn of(
        &mut self,
        content: &Content,
        snapshot: &Snapshot,
    ) -> Result<Option<Facts>, IndexError> {
        let key = (
            content.study_instance_uid.clone(),
            content.series_instance_uid.clone(),
            content.origin.by,
        );
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let found = content.facts(snapshot)?;
        self.0.insert(key, found.clone());
        Ok(found)
    }
}

/// The folder of the study of a file, and so of what else was stored with it: where there is no such, the file's own.
pub(super) fn study_folder(path_in_tree: &str) -> Option<&str> {
    let ends: Vec<usize> = path_in_tree.match_indices('/').map(|(at, _)| at).collect();
    let end = match ends.len() {
        0 => return None,
        4 => ends[2],
        _ => ends[ends.len() - 1],
    };
    Some(&path_in_tree[..end])
}

/// [`study_folder`] of a file wherever it lies now.
pub(super) fn study_folder_of(path: &str) -> Option<&str> {
    study_folder(layout::path_in_tree(path))
}
