//! Takes an amendment back: the contents that it withdrew are answered again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::index::{
    CorrectionFacts, CorrectionRecord, Did, HiddenContent, IndexError, Ruling, Snapshot,
};

use super::super::Archive;
use super::CorrectionError;
use super::asked::{Change, Undo};
use super::changes::no_such_change;
use super::plan::refused;

impl Archive {
    /// Takes back what [`Archive::undoable`] finds.
    pub(super) fn undo(&self, ask: &Undo) -> Result<Change, CorrectionError> {
        let _turn = self.corrections.turn()?;
        let number = self.undoable(ask)?.number;
        let sops = {
            let view = self.complete_view()?;
            instances(&view.snapshot, number)?
        };
        // What is kept of the old contents stays kept until it is done.
        let _locks = self.lock_all(sops.iter().map(String::as_str).collect())?;
        let record = self.undoable(ask)?;
        let facts = CorrectionFacts {
            at: super::super::now(),
            who: ask.who.clone(),
            why: ask.why.clone(),
            way: "command line".to_owned(),
            ..record.facts.clone()
        };
        self.put_down(number, false, &facts, &[], &record.volume_ids)?;
        for study in &record.facts.studies {
            self.places.forget(study);
        }
        let now = self.view()?.snapshot.correction(number)?;
        Ok(self.change(now.ok_or_else(|| no_such_change(number))?))
    }

    /// The amendment that is meant, if it can be taken back.
    pub(super) fn undoable(&self, ask: &Undo) -> Result<CorrectionRecord, CorrectionError> {
        if ask.why.trim().is_empty() {
            return Err(refused(
                "a reason is needed; nothing was changed; say it with --reason".to_owned(),
            ));
        }
        let view = self.complete_view()?;
        let snapshot = &view.snapshot;
        let record = meant(snapshot, ask)?;
        let number = record.number;
        self.refuse_protected_in(snapshot, &record.facts.studies)?;
        if let Some(later) = later(snapshot, &record)? {
            return Err(refused(format!(
                "change {number} cannot be taken back while change {later} is in effect, which was made after it; nothing was changed; take that back first: kura amend --undo --number {later}"
            )));
        }
        for sop in instances(snapshot, number)? {
            if !self.would_stay(snapshot, &sop, number)? {
                return Err(refused(format!(
                    "change {number} cannot be taken back: the earlier files of instance {sop} are gone; nothing was changed; amend it with the values that it is to have"
                )));
            }
        }
        Ok(record)
    }

    /// Whether something is answered under the SOP Instance UID when the correction is not in effect, if it made something
    /// else be answered there. What only a disk has that was given up is not.
    fn would_stay(&self, snapshot: &Snapshot, sop: &str, number: u64) -> Result<bool, IndexError> {
        let Some(hidden) = snapshot.hidden(sop)? else {
            return Ok(true);
        };
        let ruled: Vec<&Ruling> = hidden.rulings.iter().filter(|r| r.by == number).collect();
        let is_ruled = |content: &HiddenContent| {
            let mut copies = content.copies.iter();
            let copy = copies.find(|copy| !copy.bad && !self.is_given_up(&copy.volume_id));
            copy.is_some_and(|copy| {
                ruled.iter().any(|ruling| {
                    let id = &ruling.content;
                    id.transfer_syntax == content.transfer_syntax
                        && (id.data_bytes, id.crc32) == (copy.data_bytes(), copy.crc32)
                })
            })
        };
        Ok(ruled.is_empty() || hidden.contents.iter().any(is_ruled))
    }
}

fn meant(snapshot: &Snapshot, ask: &Undo) -> Result<CorrectionRecord, CorrectionError> {
    if let Some(number) = ask.number {
        let record = snapshot.correction(number)?;
        let record = record.ok_or_else(|| no_such_change(number))?;
        if record.facts.did != Did::Amended {
            return Err(refused(format!(
                "change {number} is no amendment; nothing was changed; kura changes show {number} says what it is"
            )));
        }
        if !record.in_effect {
            let last = record.last.as_ref().unwrap_or(&record.facts);
            return Err(refused(format!(
                "change {number} was taken back already by {}, {}; nothing was changed",
                last.who, last.at
            )));
        }
        return Ok(record);
    }
    let study = ask.study.as_deref().unwrap_or_default();
    let mut found = None;
    snapshot.corrections(&mut |record| {
        let is_it = record.in_effect
            && record.facts.did == Did::Amended
            && record.facts.studies.iter().any(|uid| uid == study);
        match is_it {
            true => {
                found = Some(record);
                ControlFlow::Break(())
            }
            false => ControlFlow::Continue(()),
        }
    })?;
    found.ok_or_else(|| {
        refused(format!(
            "study {study} has no amendment in effect; nothing was changed; kura changes list shows all changes"
        ))
    })
}

/// SOP Instance UIDs that it made contents of or ruled on.
fn instances(snapshot: &Snapshot, number: u64) -> Result<Vec<String>, IndexError> {
    let mut sops = Vec::new();
    snapshot.instances_of_correction(number, None, &mut |sop| {
        sops.push(sop);
        ControlFlow::Continue(())
    })?;
    Ok(sops)
}

/// A correction in effect that was decided by what this one made: of one of its studies, or of one of its instances.
fn later(snapshot: &Snapshot, record: &CorrectionRecord) -> Result<Option<u64>, IndexError> {
    let mut after = Vec::new();
    snapshot.corrections(&mut |other| {
        if other.number > record.number && other.in_effect {
            after.push(other);
        }
        ControlFlow::Continue(())
    })?;
    let shares = |other: &&CorrectionRecord| {
        let mut studies = other.facts.studies.iter();
        other.facts.did == Did::Amended && studies.any(|uid| record.facts.studies.contains(uid))
    };
    if let Some(other) = after.iter().find(shares) {
        return Ok(Some(other.number));
    }
    let after: BTreeSet<u64> = after.into_iter().map(|other| other.number).collect();
    if after.is_empty() {
        return Ok(None);
    }
    for sop in instances(snapshot, record.number)? {
        let Some(hidden) = snapshot.hidden(&sop)? else {
            continue;
        };
        let by = hidden.rulings.iter().map(|ruling| ruling.by);
        if let Some(other) = by.filter(|by| after.contains(by)).max() {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
