//! What is to be amended: found, counted, and refused where it cannot be read whole now.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::dicom::Level;
use crate::index::{IndexError, InstanceEntry, Snapshot, Values};

use super::super::Archive;
use super::super::content::{Content, contents};
use super::CorrectionError;
use super::asked::Amend;
use super::plan::refused;

/// Instances of one amendment: their rulings go into one group of lines, and into one commit of the index.
const INSTANCES_MAX: u64 = 200_000;
/// A study that got an image less than so long ago may not be complete, in seconds.
const SETTLED_AFTER: i64 = 60;
/// Kept at an instance that says another patient than its study.
pub(super) const PATIENT_TOLD: [u32; 3] = [0x0010_0010, 0x0010_0020, 0x0010_0030];

/// What is amended.
pub(super) struct Selected {
    pub(super) study: String,
    pub(super) series: Option<String>,
    /// Empty: all of the series or study.
    pub(super) sops: Vec<String>,
}

impl Selected {
    /// The answered instances.
    pub(super) fn each(
        &self,
        snapshot: &Snapshot,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        if self.sops.is_empty() {
            return snapshot.instances(&self.study, self.series.as_deref(), f);
        }
        for sop in &self.sops {
            if let Some(entry) = snapshot.by_sop(sop)?
                && entry.study_instance_uid == self.study
                && f(entry).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// The contents of an instance that are amended: the answered one, and what is kept beside it in the same place.
    pub(super) fn contents(&self, entry: &InstanceEntry) -> Vec<Content> {
        let mut all = contents(entry);
        all.retain(|content| {
            let series = self.series.as_ref();
            content.study_instance_uid == self.study
                && series.is_none_or(|series| *series == content.series_instance_uid)
        });
        all
    }
}

/// What the selection is, counted.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) instances: u64,
    pub(super) others: u64,
    pub(super) bytes: u64,
    /// Answered instances by series.
    pub(super) series: BTreeMap<String, u64>,
    /// The answered content with the fewest bytes: quickly shown.
    pub(super) smallest: Option<Content>,
    /// Values of the first instance that says another patient than its study.
    pub(super) deviating: Option<Values>,
}

pub(super) fn selected(snapshot: &Snapshot, ask: &Amend) -> Result<Selected, CorrectionError> {
    let unknown = |what: &str, uid: &str| {
        refused(format!(
            "there is no {what} {uid}; nothing was changed; kura find shows what there is"
        ))
    };
    let one = ask.of.first().cloned().unwrap_or_default();
    match ask.level {
        Level::Study => {
            let record = snapshot.study(&one)?;
            record
                .filter(|record| record.instances_count > 0)
                .ok_or_else(|| unknown("study", &one))?;
            Ok(Selected {
                study: one,
                series: None,
                sops: Vec::new(),
            })
        }
        Level::Series => {
            let record = snapshot.series_by_uid(&one)?;
            let record = record
                .filter(|record| record.instances_count > 0)
                .ok_or_else(|| unknown("series", &one))?;
            Ok(Selected {
                study: record.facts.study_instance_uid,
                series: Some(one),
                sops: Vec::new(),
            })
        }
        Level::Instance => {
            let mut study: Option<String> = None;
            let sops: BTreeSet<String> = ask.of.iter().cloned().collect();
            for sop in &sops {
                let entry = snapshot.by_sop(sop)?;
                let entry = entry.ok_or_else(|| unknown("instance", sop))?;
                let first = study.get_or_insert_with(|| entry.study_instance_uid.clone());
                if *first != entry.study_instance_uid {
                    return Err(refused(
                        "the instances are of different studies; nothing was changed; amend those of each study by themselves"
                            .to_owned(),
                    ));
                }
            }
            Ok(Selected {
                study: study.ok_or_else(|| unknown("instance", ""))?,
                series: None,
                sops: sops.into_iter().collect(),
            })
        }
        Level::Patient => Err(refused(
            "amend the studies of a patient one by one; nothing was changed".to_owned(),
        )),
    }
}

impl Archive {
    /// Counts the selection; refuses what is still coming, cannot be read now, or is too much at once.
    pub(super) fn count_selected(
        &self,
        snapshot: &Snapshot,
        ask: &Amend,
        selected: &Selected,
    ) -> Result<Counted, CorrectionError> {
        let mut counted = Counted::default();
        let mut newest = String::new();
        let mut wrong = None;
        selected.each(snapshot, &mut |entry| {
            let all = selected.contents(&entry);
            counted.instances += 1;
            counted.others += (all.len() as u64).saturating_sub(1);
            let series = counted.series.entry(entry.series_instance_uid.clone());
            *series.or_default() += 1;
            for content in &all {
                counted.bytes += content.copies.first().map_or(0, |copy| copy.data_bytes());
                if content.received > newest {
                    newest.clone_from(&content.received);
                }
                wrong = wrong.take().or_else(|| self.unreadable(content));
            }
            if counted.deviating.is_none() {
                let says =
                    |values: &Values| PATIENT_TOLD.iter().any(|tag| values.contains_key(tag));
                let deviating = all.iter().find(|content| says(&content.values));
                counted.deviating = deviating.map(|content| {
                    let mut own = content.values.clone();
                    own.retain(|tag, _| PATIENT_TOLD.contains(tag));
                    own
                });
            }
            let size = |content: &Content| content.copies.first().map_or(0, |c| c.size_bytes);
            if let Some(answered) = all.into_iter().next()
                && counted
                    .smallest
                    .as_ref()
                    .is_none_or(|smallest| size(&answered) < size(smallest))
            {
                counted.smallest = Some(answered);
            }
            match counted.instances > INSTANCES_MAX || wrong.is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if counted.instances > INSTANCES_MAX {
            return Err(refused(format!(
                "these are more than {INSTANCES_MAX} instances; nothing was changed; amend them series by series"
            )));
        }
        if let Some(reason) = wrong {
            return Err(refused(reason));
        }
        let received = newest.parse::<jiff::Timestamp>();
        let age = received.map(|at| jiff::Timestamp::now().as_second() - at.as_second());
        if let Ok(age @ 0..SETTLED_AFTER) = age
            && !ask.now
        {
            return Err(refused(format!(
                "study {} got an image {age} s ago; nothing was changed; wait until it is complete, or say --now",
                selected.study
            )));
        }
        Ok(counted)
    }

    /// Why a content cannot be read now, in words with the next step.
    fn unreadable(&self, content: &Content) -> Option<String> {
        let here = |id: &String| {
            let volume = self.shelf.here(id);
            volume.is_some_and(|volume| volume.answers()) && !self.is_given_up(id)
        };
        let ids = content.volume_ids();
        if ids.iter().any(here) {
            return None;
        }
        let sop = &content.sop_instance_uid;
        if ids.is_empty() {
            return Some(format!(
                "instance {sop} has no good copy; nothing was changed; kura status says what is lost"
            ));
        }
        let names = ids.iter().map(|id| {
            let member = self.shelf.by_id(id);
            member.map_or_else(|| id.clone(), |member| member.name.clone())
        });
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        let names = names.join(" and ");
        Some(format!(
            "instance {sop} can only be read on volume {names}, away or not answering now; nothing was changed; bring that back and try again"
        ))
    }
}
