//! The trash: removals whose files are still kept. Back in one switch, or gone for good.

use std::ops::ControlFlow;

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::index::{Copy, CorrectionRecord, Did, Hid, Snapshot};

use super::super::Archive;
use super::super::places::key;
use super::CorrectionError;
use super::picked::{Cause, Chosen, contents_of, id_of};
use super::remove::RemovalSaid;
use super::tidy_plan::{TRASH_EMPTIED, last_line};

/// Which removals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Thrown {
    Number(u64),
    /// All that took from that study.
    Study(String),
    All,
}

/// One removal whose files are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TrashItem {
    /// Of the correction.
    pub number: u64,
    pub level: String,
    pub uid: String,
    pub study_instance_uids: Vec<String>,
    pub patient_id: String,
    pub patient_name: String,
    pub study_date: String,
    pub instances_count: u64,
    /// Of these, with a file.
    pub kept_count: u64,
    pub files_count: u64,
    pub bytes: u64,
    pub at: String,
    pub who: String,
    pub why: String,
    pub way: String,
    /// It was emptied; the files go in the background.
    pub emptied: bool,
    /// Unless it was emptied: local time, `YYYY-MM-DD`; empty: they stay.
    pub gone_on: String,
}

/// How much of a correction's contents is where.
#[derive(Default)]
pub(super) struct Kept {
    /// Contents that it, and no later correction, hides; they have files.
    pub(super) hidden: u64,
    /// Contents that count in spite of it: they were sent again.
    pub(super) again: u64,
    /// Contents without any file that can be had back.
    pub(super) gone: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// A UID under which something else is answered now.
    pub(super) taken: Option<String>,
    /// A later correction in effect about one of the instances.
    pub(super) later: Option<u64>,
}

impl Archive {
    pub(super) fn trash(&self) -> Result<Vec<TrashItem>, CorrectionError> {
        let view = self.complete_view()?;
        let mut found = Vec::new();
        for record in removals(&view.snapshot, &Thrown::All)? {
            let kept = self.kept_of(&view.snapshot, record.number)?;
            // What is gone for good is not in the trash; kura changes tells of it.
            if kept.files > 0 {
                found.push(self.trash_item(record, &kept));
            }
        }
        Ok(found)
    }

    fn trash_item(&self, record: CorrectionRecord, kept: &Kept) -> TrashItem {
        let emptied = is_emptied(&record);
        // Removed, restored and removed again it begins anew.
        let gone_on = self.gone_on(&last_line(&record).at);
        let facts = record.facts;
        let text = |tag| facts.before.get(&key(tag)).cloned().unwrap_or_default();
        TrashItem {
            number: record.number,
            patient_id: text(tags::PATIENT_ID),
            patient_name: text(tags::PATIENT_NAME),
            study_date: text(tags::STUDY_DATE),
            instances_count: facts.instances_count,
            kept_count: kept.hidden,
            files_count: kept.files,
            bytes: kept.bytes,
            gone_on,
            level: facts.level,
            uid: facts.of.into_iter().next().unwrap_or_default(),
            study_instance_uids: facts.studies,
            at: facts.at,
            who: facts.who,
            why: facts.why,
            way: facts.way,
            emptied,
        }
    }

    /// Each removal comes back in one switch.
    pub(super) fn restore_thrown(
        &self,
        thrown: &Thrown,
        cause: &Cause,
        partly: bool,
    ) -> Result<RemovalSaid, CorrectionError> {
        cause.check()?;
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        let records = self.thrown(&view.snapshot, thrown)?;
        let mut instances_count = 0;
        for record in &records {
            let kept = self.kept_of(&view.snapshot, record.number)?;
            refuse_restoring(record, &kept, partly)?;
            instances_count += kept.hidden;
        }
        drop(view);
        for record in &records {
            self.put_out_of_effect(record, cause)?;
        }
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        Ok(RemovalSaid::Done {
            said: format!(
                "restored: {instances_count} instances of {} are answered again",
                named(&records)
            ),
            numbers,
        })
    }

    /// The files are deleted in the background.
    pub(super) fn empty_thrown(
        &self,
        thrown: &Thrown,
        cause: &Cause,
    ) -> Result<RemovalSaid, CorrectionError> {
        let cause = Cause {
            way: TRASH_EMPTIED.to_owned(),
            ..cause.clone()
        };
        cause.check()?;
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        let mut records = self.thrown(&view.snapshot, thrown)?;
        records.retain(|record| !is_emptied(record));
        if records.is_empty() {
            return Err(CorrectionError::Refused(
                "that was emptied already; its files go in the background: kura trash list"
                    .to_owned(),
            ));
        }
        let (mut instances_count, mut bytes) = (0, 0);
        for record in &records {
            let kept = self.kept_of(&view.snapshot, record.number)?;
            instances_count += kept.hidden;
            bytes += kept.bytes;
        }
        drop(view);
        for record in &records {
            self.say_again(record, true, &cause)?;
        }
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        Ok(RemovalSaid::Done {
            said: format!(
                "emptied: {instances_count} instances of {}, {bytes} bytes; the files are deleted in the background, on volumes that are away when they come back",
                named(&records)
            ),
            numbers,
        })
    }

    /// Those that are in the trash.
    fn thrown(
        &self,
        snapshot: &Snapshot,
        thrown: &Thrown,
    ) -> Result<Vec<CorrectionRecord>, CorrectionError> {
        let mut found = removals(snapshot, thrown)?;
        // A number is meant also when nothing of it is left: who names it is told why.
        if !matches!(thrown, Thrown::Number(_)) {
            let mut kept = Vec::new();
            for record in found {
                if self.kept_of(snapshot, record.number)?.files > 0 {
                    kept.push(record);
                }
            }
            found = kept;
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let refused = match thrown {
            Thrown::Number(number) => match snapshot.correction(*number)? {
                Some(record) if record.facts.did == Did::Removed => {
                    format!("change {number} was taken back already")
                }
                Some(_) => format!(
                    "change {number} removed nothing; see what it did: kura changes show {number}"
                ),
                None => format!("there is no change {number}"),
            },
            Thrown::Study(uid) => format!("nothing of study {uid} is in the trash"),
            Thrown::All => "the trash is empty".to_owned(),
        };
        Err(CorrectionError::Refused(format!(
            "{refused}; nothing was changed. What is in the trash: kura trash list"
        )))
    }

    /// What became of the contents that a correction ruled on. A file on a disk that was given up is none.
    pub(super) fn kept_of(
        &self,
        snapshot: &Snapshot,
        number: u64,
    ) -> Result<Kept, CorrectionError> {
        let is_file = |copy: &Copy| !copy.bad && !self.is_given_up(&copy.volume_id);
        let mut kept = Kept::default();
        let mut failed = None;
        snapshot.instances_of_correction(number, None, &mut |sop| match add_kept(
            snapshot, number, &sop, &is_file, &mut kept,
        ) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(kept),
        }
    }
}

fn is_emptied(record: &CorrectionRecord) -> bool {
    record
        .last
        .as_ref()
        .is_some_and(|last| last.way == TRASH_EMPTIED)
}

/// In words for an answer.
fn named(records: &[CorrectionRecord]) -> String {
    match records {
        [one] => {
            let of = one.facts.of.first().cloned().unwrap_or_default();
            let chosen = match (&*one.facts.level, one.facts.way.starts_with("rejection")) {
                (_, true) => return format!("change {}", one.number),
                ("SERIES", _) => Chosen::Series(of),
                ("IMAGE", _) => Chosen::Instance(of),
                _ => Chosen::Study(of),
            };
            chosen.to_string()
        }
        many => format!("{} removals", many.len()),
    }
}

/// Removals in effect, the newest first.
fn removals(
    snapshot: &Snapshot,
    thrown: &Thrown,
) -> Result<Vec<CorrectionRecord>, CorrectionError> {
    let mut found = Vec::new();
    snapshot.corrections(&mut |record| {
        let is_meant = match thrown {
            Thrown::Number(number) => record.number == *number,
            Thrown::Study(uid) => record.facts.studies.contains(uid),
            Thrown::All => true,
        };
        if is_meant && record.in_effect && record.facts.did == Did::Removed {
            found.push(record);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn add_kept(
    snapshot: &Snapshot,
    number: u64,
    sop: &str,
    is_file: &dyn Fn(&Copy) -> bool,
    kept: &mut Kept,
) -> Result<(), CorrectionError> {
    let Some(hidden) = snapshot.hidden(sop)? else {
        return Ok(());
    };
    let entry = snapshot.by_sop(sop)?;
    let counting: Vec<_> = entry.iter().flat_map(contents_of).collect();
    for ruling in hidden.rulings.iter().filter(|ruling| ruling.by == number) {
        let mut hid = hidden.contents.iter();
        let hid = hid.find(|one| id_of(&one.transfer_syntax, &one.copies) == ruling.content);
        if let Some(content) = hid {
            // Another correction may hide it now, after it was sent again.
            if content.hid == (Hid::Withdrawn { by: number }) {
                let sizes = content.copies.iter().filter(|copy| is_file(copy));
                let sizes: Vec<u64> = sizes.map(|copy| copy.size_bytes).collect();
                match sizes.is_empty() {
                    true => kept.gone += 1,
                    false => kept.hidden += 1,
                }
                kept.files += sizes.len() as u64;
                kept.bytes += sizes.iter().sum::<u64>();
            }
        } else if counting
            .iter()
            .any(|content| content.id() == ruling.content)
        {
            kept.again += 1;
        } else {
            kept.gone += 1;
        }
    }
    let ours = |content: &crate::index::ContentId| {
        let mut rulings = hidden.rulings.iter();
        rulings.any(|ruling| ruling.by == number && ruling.content == *content)
    };
    if let Some(answered) = counting.iter().find(|content| content.other.is_none())
        && answered.sequence() > number
        && !ours(&answered.id())
    {
        kept.taken = Some(sop.to_owned());
    }
    for ruling in &hidden.rulings {
        if ruling.by > number
            && snapshot
                .correction(ruling.by)?
                .is_some_and(|record| record.in_effect && rules_on_all(record.facts.did))
        {
            kept.later = kept.later.max(Some(ruling.by));
        }
    }
    Ok(())
}

/// Whether such a correction leaves nothing of the instances as it was.
fn rules_on_all(did: Did) -> bool {
    matches!(did, Did::Amended | Did::Removed | Did::Rejected)
}

fn refuse_restoring(
    record: &CorrectionRecord,
    kept: &Kept,
    partly: bool,
) -> Result<(), CorrectionError> {
    let number = record.number;
    let refused = |text: String| Err(CorrectionError::Refused(text));
    if kept.hidden == 0 {
        return refused(format!(
            "nothing of change {number} can be restored: {}; nothing was changed",
            match is_emptied(record) {
                true => "it was emptied, and its files are deleted",
                false if kept.later.is_some() =>
                    "later changes were made to the same images (kura changes list)",
                false if kept.again > 0 => "it was sent again, and is answered",
                false => "its files are deleted",
            }
        ));
    }
    if let Some(later) = kept.later {
        return refused(format!(
            "change {later} was made later to the same images; nothing was changed. See it: kura changes show {later}; take it back first"
        ));
    }
    if let Some(sop) = &kept.taken {
        return refused(format!(
            "another image is answered now under {sop}, which came after the removal; nothing was changed. Remove that first: kura remove --instance {sop} --reason TEXT"
        ));
    }
    if kept.gone > 0 && !partly {
        return refused(format!(
            "{} of {} instances of change {number} have no file any more; nothing was changed. To restore the others: kura trash restore {number} --partly --yes",
            kept.gone,
            kept.gone + kept.hidden + kept.again
        ));
    }
    Ok(())
}
