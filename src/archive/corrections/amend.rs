//! Makes an amendment: new contents beside the old ones, then one switch from these to those.
//!
//! Whatever ends it before the switch, the old contents are what is answered: the new ones mean nothing, and are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::PoisonError;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;

use crate::dicom::amend::Rewriter;
use crate::dicom::differences::{Outline, Side, differences};
use crate::index::{CorrectionFacts, Did, IndexError, Ruling, Snapshot, Values, Verdict};

use super::super::content::Content;
use super::super::ingest::LOCK_PATIENCE;
use super::super::locks::UidLock;
use super::super::places::key;
use super::super::{Archive, View};
use super::CorrectionError;
use super::asked::{Amend, AmendPlan, Change, Differs, Sample};
use super::making::{Making, id_of};
use super::plan::{Plan, cannot, first_attributes, new_uid, refused};
use super::under_way::Progress;

/// Rounds in which what came meanwhile is amended too, before the senders are asked to be quiet.
const ROUNDS_MAX: usize = 5;
/// UIDs that the journal names of an amendment of single instances.
const NAMED_MAX: usize = 100;
/// Read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;

impl Archive {
    /// Amends, and returns when that is what is answered.
    pub(super) fn amend(
        &self,
        ask: &Amend,
        progress: &Progress,
    ) -> Result<Change, CorrectionError> {
        let _amending = (self.corrections.amending.lock()).unwrap_or_else(PoisonError::into_inner);
        let plan = self.plan_amend(ask)?;
        self.check_room(
            plan.counted.bytes,
            plan.counted.instances + plan.counted.others,
        )?;
        let number = self.keeper.next_sequence();
        let mark = self.corrections.under_way.mark(number);
        let mut making = Making::new(self, &plan, number, progress);
        match self.make_and_switch(&mut making, number, progress) {
            Ok(()) => {}
            Err(Ended::Unknown(error)) => {
                mark.keep();
                return Err(error);
            }
            Err(Ended::Refused(error)) => {
                self.unmake(&making.files);
                // What is left of them goes as soon as it can.
                self.corrections.wake();
                return Err(error);
            }
        }
        for study in plan.studies() {
            self.places.forget(&study);
        }
        drop(mark);
        let record = self.view()?.snapshot.correction(number)?;
        let record = record.ok_or_else(|| {
            // The index was lost in this very moment; the lines are there.
            refused(format!(
                "it is done as change {number}, but the index is being made anew; kura changes list shows it then"
            ))
        })?;
        Ok(self.change(record))
    }

    fn make_and_switch(
        &self,
        making: &mut Making,
        number: u64,
        progress: &Progress,
    ) -> Result<(), Ended> {
        for round in 0..ROUNDS_MAX {
            let sops = {
                let view = self.complete_view()?;
                self.left(&view, making)?
            };
            let step = match round {
                0 => "writing the amended instances",
                _ => "writing what came meanwhile",
            };
            progress.step(step, sops.len() as u64);
            making.make(&sops)?;
            progress.step("putting it in effect", 1);
            if self.switch(making, number)? {
                progress.did(1);
                return Ok(());
            }
        }
        Err(refused(format!(
            "study {} gets images all the time; nothing was changed; try again when it is complete",
            making.plan.selected.study
        ))
        .into())
    }

    /// SOP Instance UIDs of the selection with a content that was not dealt with.
    fn left(&self, view: &View, making: &Making) -> Result<Vec<String>, IndexError> {
        let selected = &making.plan.selected;
        let mut left = Vec::new();
        selected.each(&view.snapshot, &mut |entry| {
            let sop = &entry.sop_instance_uid;
            let contents = selected.contents(&entry);
            let mut ids = contents.iter().filter_map(id_of);
            if ids.any(|id| !making.is_done(sop, &id)) {
                left.push(sop.clone());
            }
            ControlFlow::Continue(())
        })?;
        Ok(left)
    }

    /// From what was to what is, in one commit; false: something came that has to be amended first.
    fn switch(&self, making: &Making, number: u64) -> Result<bool, Ended> {
        let _turn = self.corrections.turn()?;
        // Nothing of these instances is stored, copied, moved or removed until it is done.
        let sops: BTreeSet<&str> = making.done.keys().map(String::as_str).collect();
        let _locks = self.lock_all(sops)?;
        let view = self.complete_view()?;
        if !self.left(&view, making)?.is_empty() {
            return Ok(false);
        }
        let plan = making.plan;
        if let Some(other) = changed_since(&view.snapshot, number, &plan.studies())? {
            return Err(refused(format!(
                "change {other} was made of study {} meanwhile; nothing else was changed; try again",
                plan.selected.study
            ))
            .into());
        }
        self.refuse_protected_in(&view.snapshot, &plan.studies())?;
        drop(view);
        let rulings = making.replaced().map(|(sop, id)| Ruling {
            sequence: self.keeper.next_sequence(),
            by: number,
            sop_instance_uid: sop.clone(),
            content: id.clone(),
            verdict: Verdict::Withdrawn,
        });
        let rulings: Vec<Ruling> = rulings.collect();
        if rulings.is_empty() {
            return Err(refused(format!(
                "the instances of study {} say this already; nothing was changed",
                plan.selected.study
            ))
            .into());
        }
        let facts = facts_of(plan, making);
        let mut written: BTreeMap<&str, u64> = BTreeMap::new();
        for file in &making.files {
            *written.entry(&file.volume_id).or_default() += 1;
        }
        let mut near: Vec<(u64, &str)> = written.into_iter().map(|(id, n)| (n, id)).collect();
        near.sort_by(|a, b| b.cmp(a));
        let near: Vec<String> = near.into_iter().map(|(_, id)| id.to_owned()).collect();
        match self.put_down(number, true, &facts, &rulings, &near) {
            Ok(()) => Ok(true),
            Err(error @ CorrectionError::Unknown { .. }) => Err(Ended::Unknown(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// The locks of all of these, in the one order in which whoever takes several takes them.
    pub(super) fn lock_all(
        &self,
        sops: BTreeSet<&str>,
    ) -> Result<Vec<UidLock<'_>>, CorrectionError> {
        let mut locks = Vec::with_capacity(sops.len());
        for sop in sops {
            let lock = self.locks.lock_within(sop, LOCK_PATIENCE);
            locks.push(lock.ok_or_else(|| {
                refused(format!(
                    "instance {sop} is being stored on a disk that does not answer; nothing was changed; kura status says how the disks are"
                ))
            })?);
        }
        Ok(locks)
    }

    /// What an amendment would do.
    pub(super) fn plan_shown(&self, ask: &Amend) -> Result<AmendPlan, CorrectionError> {
        let plan = self.plan_amend(ask)?;
        let counted = &plan.counted;
        self.check_room(counted.bytes, counted.instances + counted.others)?;
        let sample = match &counted.smallest {
            Some(content) => Some(self.sample(&plan, content)?),
            None => None,
        };
        let shown = [
            tags::PATIENT_ID,
            tags::PATIENT_NAME,
            tags::PATIENT_BIRTH_DATE,
            tags::STUDY_DATE,
            tags::ACCESSION_NUMBER,
            tags::STUDY_DESCRIPTION,
        ];
        let values = &plan.source.facts.values;
        let shown = shown.into_iter().map(key);
        let shown: Values = shown
            .filter_map(|tag| Some((tag, values.get(&tag)?.clone())))
            .collect();
        Ok(AmendPlan {
            level: ask.level.to_string(),
            of: ask.of.clone(),
            study_instance_uid: plan.selected.study.clone(),
            to_study_instance_uid: plan.study.study_instance_uid.clone(),
            joins: plan.joins,
            shown,
            before: plan.before.clone(),
            after: plan.after.clone(),
            series_count: counted.series.len() as u64,
            instances_count: counted.instances,
            others_count: counted.others,
            bytes: counted.bytes,
            sample,
        })
    }

    /// One instance before and after, element by element. Nothing is written.
    fn sample(&self, plan: &Plan, content: &Content) -> Result<Sample, CorrectionError> {
        let sop = &content.sop_instance_uid;
        let view = self.complete_view()?;
        let series = plan.series(&view.snapshot, &content.series_instance_uid)?;
        drop(view);
        let new_sop = plan.ask.new_uids.then(new_uid);
        let system = &self.corrections.modifying_system;
        let mut reason = "it has no good copy".to_owned();
        let mut sources = content.good_copies().cloned().collect();
        let mut tried = Vec::new();
        while let Some(source) = self.next_source(content, &mut sources, &mut tried)? {
            let source = &source;
            let (file, volume) = match self.open_checked(source) {
                Ok(opened) => opened,
                Err(error) => {
                    reason = error.to_string();
                    continue;
                }
            };
            let unreadable = |error: std::io::Error| {
                refused(format!(
                    "instance {sop} cannot be read: {error}; nothing was changed; kura status says how its disks are"
                ))
            };
            let syntax = &content.transfer_syntax;
            let there = first_attributes(&file, &volume, source, syntax).map_err(unreadable)?;
            let new_sop = new_sop.as_deref();
            let amendment = plan.amendment(content, &there, &series, new_sop, system);
            let (mut before, mut after) = (Outline::new(syntax), Outline::new(syntax));
            let amended = |error| cannot(Some(sop), &error);
            let mut rewriter = Rewriter::new(syntax, &amendment).map_err(amended)?;
            let scanned = |error| amended(crate::dicom::amend::AmendError::Scan(error));
            let mut out = Vec::new();
            let mut piece = vec![0; PIECE_BYTES];
            let mut at = source.data_offset;
            while at < source.size_bytes {
                let count = piece.len().min((source.size_bytes - at) as usize);
                {
                    let _call = volume.call();
                    let read = file.read_exact_at(&mut piece[..count], at);
                    read.map_err(unreadable)?;
                }
                rewriter.feed(&piece[..count], &mut out).map_err(amended)?;
                before.feed(&piece[..count]).map_err(scanned)?;
                after.feed(&out).map_err(scanned)?;
                out.clear();
                at += count as u64;
            }
            rewriter.finish(&mut out).map_err(amended)?;
            after.feed(&out).map_err(scanned)?;
            before.finish().map_err(scanned)?;
            after.finish().map_err(scanned)?;
            let text = |side: Option<Side>| side.map(|side| side.text);
            let differs = differences(&before, &after).into_iter().map(|one| Differs {
                tag: one.tag.to_string(),
                keyword: StandardDataDictionary
                    .by_tag(one.tag)
                    .map_or_else(String::new, |entry| entry.alias().to_owned()),
                before: text(one.before),
                after: text(one.after),
            });
            return Ok(Sample {
                sop_instance_uid: sop.clone(),
                differences: differs.collect(),
            });
        }
        Err(refused(format!(
            "instance {sop} cannot be read: {reason}; nothing was changed; kura status says how its disks are"
        )))
    }
}

/// A correction of one of these studies that was put in or out of effect after this one was begun.
fn changed_since(
    snapshot: &Snapshot,
    number: u64,
    studies: &[String],
) -> Result<Option<u64>, IndexError> {
    let mut found = None;
    snapshot.corrections(&mut |record| {
        let of_these = || record.facts.studies.iter().any(|uid| studies.contains(uid));
        if record.sequence > number && of_these() {
            found = Some(record.number);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Why an amendment was not made.
enum Ended {
    /// Nothing has changed.
    Refused(CorrectionError),
    /// The line that puts it in effect may be on a disk.
    Unknown(CorrectionError),
}

impl<E: Into<CorrectionError>> From<E> for Ended {
    fn from(error: E) -> Ended {
        Ended::Refused(error.into())
    }
}

/// What the journal says of it.
fn facts_of(plan: &Plan, making: &Making) -> CorrectionFacts {
    let ask = &plan.ask;
    let (mut before, mut after) = (plan.before.clone(), plan.after.clone());
    let study = key(tags::STUDY_INSTANCE_UID);
    let uid = &plan.study.study_instance_uid;
    if *uid != plan.selected.study {
        before.insert(study, plan.selected.study.clone());
        after.insert(study, uid.clone());
    }
    CorrectionFacts {
        at: super::super::now(),
        did: Did::Amended,
        who: ask.who.clone(),
        why: ask.why.clone(),
        way: "command line".to_owned(),
        level: ask.level.to_string(),
        of: ask.of.iter().take(NAMED_MAX).cloned().collect(),
        studies: plan.studies(),
        instances_count: making
            .done
            .values()
            .filter(|done| done.iter().any(|(_, is_new)| *is_new))
            .count() as u64,
        before,
        after,
    }
}
