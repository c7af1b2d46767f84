//! Deletes files whose time is over.
//!
//! Of what was replaced nothing goes before what stands in its place was read again, on two disks, and found good. While
//! files are deleted no correction is made: none is taken back whose files go at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use jiff::Timestamp;

use crate::index::{Change, Copy, Gone, IndexError, Snapshot, Verdict};
use crate::job::Politeness;
use crate::volume::{Volume, VolumeError};

use super::super::content::{Content, contents};
use super::super::mirror::whole;
use super::super::placing::Refusals;
use super::super::reread::reread;
use super::super::safety::{Judge, Safe};
use super::super::{Archive, Line, entry};
use super::tidy::{Due, LOCK_PATIENCE, Pass, contents_with_fates};
use super::tidy_move::names_at;
use super::tidy_plan::{End, Place, Records, id_of};

/// What was read again and stands in the place of what is to go; `None`: nothing need stand there.
type Proof = Option<Content>;

/// A file that is to be deleted: SOP Instance UID, where its line says that it is, where it belongs, and why it goes.
type Going = (String, Copy, Option<Place>, &'static str);

impl Archive {
    /// Deletes what may go of these; of the rest the pass says why not.
    pub(super) fn delete_due(&self, due: Vec<Due>, pass: &mut Pass) -> Result<(), IndexError> {
        let mut may = Vec::new();
        let mut whole_of = None;
        let judge = self.judge();
        for due in due {
            if due.fate.is_leftover {
                // The line that put it in effect may be on a volume that is away.
                match self.is_whole_shelf() && !self.corrections.is_under_way(due.fate.by) {
                    true => may.push((due, None)),
                    false => pass.again = true,
                }
                continue;
            }
            let proof = match due.fate.place {
                Some(Place::Superseded) => self.stands_in_place(&due, &judge, &mut whole_of)?,
                _ => Ok(None),
            };
            match proof {
                Ok(proof) => may.push((due, proof)),
                Err(reason) => {
                    pass.again = true;
                    pass.wait.get_or_insert(reason);
                }
            }
        }
        if may.is_empty() {
            return Ok(());
        }
        let _making = match self.corrections.making.try_lock() {
            Ok(making) => making,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                pass.again = true;
                return Ok(());
            }
        };
        self.delete_now(may, pass)
    }

    fn delete_now(&self, may: Vec<(Due, Proof)>, pass: &mut Pass) -> Result<(), IndexError> {
        let sops: BTreeSet<String> = may
            .iter()
            .map(|(due, _)| due.sop_instance_uid.clone())
            .collect();
        let mut locks = BTreeMap::new();
        for sop in &sops {
            match self.locks.lock_within(sop, LOCK_PATIENCE) {
                Some(lock) => drop(locks.insert(sop.as_str(), lock)),
                None => pass.again = true,
            }
        }
        let Some(snapshot) = whole(self)? else {
            pass.again = true;
            return Ok(());
        };
        let (days, now) = (self.days(), Timestamp::now());
        let mut records = Records::default();
        let mut going: BTreeMap<String, Vec<Going>> = BTreeMap::new();
        for (due, proof) in &may {
            let sop = &due.sop_instance_uid;
            if !locks.contains_key(sop.as_str()) {
                continue;
            }
            // As it is now: it may have been taken back, or sent again.
            let all = contents_with_fates(sop, &snapshot, &days, &mut records)?;
            let found = all.iter().find(|(_, c)| id_of(c).as_ref() == Some(&due.id));
            let Some((fate, content)) = found else {
                continue;
            };
            let is_over = match fate.end {
                End::Never => false,
                End::Now => true,
                End::At(at) => at <= now,
            };
            let still = (fate.by, fate.place) == (due.fate.by, due.fate.place);
            if !is_over || !still || !proof_holds(proof, &snapshot)? {
                pass.again = true;
                continue;
            }
            let why = match fate.place {
                Some(Place::Superseded) => "superseded",
                Some(Place::Trash) => "removed",
                _ => "never in effect",
            };
            for copy in &content.copies {
                let list = going.entry(copy.volume_id.clone()).or_default();
                list.push((sop.clone(), copy.clone(), fate.place, why));
            }
        }
        for (volume_id, files) in going {
            // On one that is away they go when it comes back.
            if let Some(volume) = self.can_tidy(&volume_id) {
                pass.did_something = true;
                if let Err(error) = self.delete_files(&volume, &files, pass) {
                    pass.again = true;
                    self.refused_by(&volume, &error, &mut Refusals::default());
                }
            }
        }
        Ok(())
    }

    /// The file first: a line without its file is only said again.
    fn delete_files(
        &self,
        volume: &Arc<Volume<Line>>,
        files: &[Going],
        pass: &mut Pass,
    ) -> Result<(), VolumeError> {
        let listed = files.iter().map(|(_, copy, ..)| copy.path.as_str());
        self.list_first(volume, listed)?;
        let mut paths = Vec::with_capacity(files.len());
        for (sop, copy, place, _) in files {
            paths.push(self.where_it_is(volume, sop, copy, *place)?);
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let removed = volume.remove_all(&paths)?;
        let now = super::super::now();
        let mut lines = Vec::new();
        for ((sop, copy, _, why), refused) in files.iter().zip(removed) {
            if let Some(reason) = refused {
                pass.again = true;
                let (volume, path) = (volume.name(), &copy.path);
                tracing::warn!(volume, path, reason, "a file is not deleted");
                continue;
            }
            pass.notes.left(copy);
            let gone = Gone {
                sequence: self.keeper.next_sequence(),
                sop_instance_uid: sop.clone(),
                volume_id: volume.id().to_owned(),
                path: copy.path.clone(),
            };
            let line = entry::gone_line(&gone, &now, why);
            lines.push((Vec::new(), line, Arc::new(Change::Gone(gone))));
        }
        tracing::info!(
            volume = volume.name(),
            files_count = lines.len(),
            correction = pass.number,
            "files were deleted that a correction had replaced or removed"
        );
        pass.deleted_count += lines.len() as u64;
        let _call = volume.call();
        volume.ledger().append_all(lines)?;
        Ok(())
    }

    /// The path of a file that is to be deleted: that of its line; or where it was moved when the process ended before it
    /// could say so, byte for byte as the line says.
    fn where_it_is(
        &self,
        volume: &Volume<Line>,
        sop: &str,
        copy: &Copy,
        place: Option<Place>,
    ) -> Result<String, VolumeError> {
        let entry = volume.entry(&copy.path);
        let is_there = entry.map_err(|source| VolumeError::Io {
            path: volume.root().join(&copy.path),
            source,
        })?;
        let names = place.filter(|_| is_there.is_none());
        let names = names
            .into_iter()
            .flat_map(|place| names_at(place, sop, copy));
        let mut others = names.filter(|path| *path != copy.path);
        let moved = others.find(|path| {
            self.is_good(&Copy {
                path: path.clone(),
                ..copy.clone()
            })
        });
        Ok(moved.unwrap_or_else(|| copy.path.clone()))
    }

    fn is_whole_shelf(&self) -> bool {
        let members = self.shelf.all();
        let mut missed = members.iter().filter(|member| member.here().is_none());
        missed.all(|member| self.is_given_up(&member.volume_id))
    }

    /// What is answered instead of a content that was replaced, read again just now; the inner error is why the content
    /// must stay.
    fn stands_in_place(
        &self,
        due: &Due,
        judge: &Judge,
        whole_of: &mut Option<Result<(), String>>,
    ) -> Result<Result<Proof, String>, IndexError> {
        let snapshot = self.view()?.snapshot;
        let sop = &due.sop_instance_uid;
        if let Some(entry) = snapshot.by_sop(sop)? {
            let answered = contents(&entry).swap_remove(0);
            return Ok(self.is_safe_now(&answered, judge).map(|()| Some(answered)));
        }
        if was_removed(sop, &snapshot)? {
            return Ok(Ok(None));
        }
        // It became an instance with another UID: which of them is not known, so it takes all.
        if whole_of.is_none() {
            *whole_of = Some(self.is_whole_safe(due.fate.by, judge, &snapshot)?);
        }
        Ok(whole_of.clone().unwrap_or(Ok(())).map(|()| None))
    }

    /// Whether all that is answered of what a correction speaks of has two good copies.
    fn is_whole_safe(
        &self,
        number: u64,
        judge: &Judge,
        snapshot: &Snapshot,
    ) -> Result<Result<(), String>, IndexError> {
        let mut sops = Vec::new();
        snapshot.instances_of_correction(number, None, &mut |sop| {
            sops.push(sop);
            ControlFlow::Continue(())
        })?;
        let mut count = 0;
        for sop in sops {
            let Some(entry) = snapshot.by_sop(&sop)? else {
                continue;
            };
            if let Err(reason) = self.is_safe_now(&contents(&entry)[0], judge) {
                return Ok(Err(reason));
            }
            count += 1;
        }
        Ok(match count {
            0 => Err("nothing is answered in its place".to_owned()),
            _ => Ok(()),
        })
    }

    /// Whether two copies on two disks are good, read from their media at this moment.
    fn is_safe_now(&self, content: &Content, judge: &Judge) -> Result<(), String> {
        let sop = &content.sop_instance_uid;
        let has = |safe: Safe| match safe {
            Safe::Two => Ok(()),
            Safe::OneDisk => Err("both copies of what stands in its place are on one disk"),
            _ => Err("what stands in its place has no second good copy that is here"),
        };
        let has = |ids: &[String]| has(judge.safe(ids)).map_err(str::to_owned);
        has(&content.volume_ids())?;
        let brake = |_, took: Duration| {
            self.rest(Politeness::rest(self.mirror.since_received(), took));
            !self.is_stopping()
        };
        let mut good = Vec::new();
        for copy in content.good_copies() {
            let Some(volume) = self.working(&copy.volume_id) else {
                continue;
            };
            match reread(&volume, copy, &brake) {
                Ok(Some(())) => good.push(copy.volume_id.clone()),
                Ok(None) => return Err("the server stops".to_owned()),
                Err(_) => self.suspect(sop, copy),
            }
        }
        has(&good)
    }
}

/// Whether what was read again is still what is answered, and has lost no copy since.
fn proof_holds(proof: &Proof, snapshot: &Snapshot) -> Result<bool, IndexError> {
    let Some(proof) = proof else {
        return Ok(true);
    };
    let entry = snapshot.by_sop(&proof.sop_instance_uid)?;
    let now = entry.map(|entry| contents(&entry).swap_remove(0));
    Ok(now.is_some_and(|now| now.is(proof) && proof.volume_ids() == now.volume_ids()))
}

/// Whether somebody wants nothing answered under this UID.
fn was_removed(sop: &str, snapshot: &Snapshot) -> Result<bool, IndexError> {
    let mut records = Records::default();
    for ruling in snapshot.hidden(sop)?.into_iter().flat_map(|h| h.rulings) {
        if ruling.verdict == Verdict::Removed {
            let record = records.get(ruling.by, snapshot)?;
            if record.is_some_and(|record| record.in_effect) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
