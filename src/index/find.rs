//! Finds what a [`Query`] asks for: [candidate studies](super::candidates), of which the records decide.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use super::engine::Table;
use super::matching::{self, Test};
use super::plan::Plan;
use super::query::*;
use super::snapshot::{Snapshot, Visited};
use super::{IndexError, InstanceEntry, SeriesRecord, StudyRecord, Values, damaged, key};
use crate::dicom::{Level, Tag, level_of};

/// Distinct values of one series attribute told at STUDY level.
const DISTINCT_MAX: usize = 64;

/// (studies, series, instances)
type Counts = (u64, u64, u64);

/// Who a study's patient is: identifier and issuer; without an identifier name and birth date, the study's UID last.
pub(super) type Patient = (String, String, String);

impl Snapshot {
    /// Calls `f` with each match, newest studies first, until it breaks. Memory is bounded whatever the number of
    /// matches; the first comes before the rest are looked for.
    pub fn find(
        &self,
        query: &Query,
        f: &mut dyn FnMut(Match) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let plan = Plan::new(query);
        let located = self.locate(&plan)?;
        let mut patients = HashSet::new();
        let mut counts = HashMap::new();
        self.studies(&plan, located.as_ref(), &mut |study| {
            let only = located
                .as_ref()
                .and_then(|located| located.get(&study.facts.study_instance_uid));
            let mut base = match_of(&plan, &study);
            if plan.asks_for_patient_counts() {
                let patient = patient_of(&study);
                let counts = match counts.get(&patient) {
                    Some(counts) => *counts,
                    None => {
                        let found = self.patient_counts(&study, &patient)?;
                        counts.insert(patient, found);
                        found
                    }
                };
                base.values.insert(PATIENT_STUDIES, counts.0.to_string());
                base.values.insert(PATIENT_SERIES, counts.1.to_string());
                base.values.insert(PATIENT_INSTANCES, counts.2.to_string());
            }
            match plan.level {
                Level::Patient | Level::Study => {
                    if plan.level == Level::Patient && patients.contains(&patient_of(&study)) {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if !self.study_has_match(&plan, &study, only)? {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if plan.level == Level::Patient {
                        patients.insert(patient_of(&study));
                    } else {
                        self.add_series_values(&plan, &study, &mut base.values)?;
                    }
                    Ok(f(base))
                }
                Level::Series => self.each_series(&plan, &study, only, &mut |series, _| {
                    if plan.needs_instances() && !self.series_has_match(&plan, &series, only)? {
                        return Ok(ControlFlow::Continue(()));
                    }
                    Ok(f(series_match(&base, &series)))
                }),
                Level::Instance => self.each_series(&plan, &study, only, &mut |series, sops| {
                    let above = series_match(&base, &series);
                    self.each_instance(&plan, &series, sops, &mut |entry| {
                        Ok(f(instance_match(&above, entry)))
                    })
                }),
            }
        })
    }

    /// Series of a study that match, in the order of their numbers; with them the SOP UIDs that were asked for.
    fn each_series(
        &self,
        plan: &Plan,
        study: &StudyRecord,
        only: Option<&BTreeMap<String, Vec<String>>>,
        visit: &mut dyn FnMut(SeriesRecord, Option<&[String]>) -> Visited,
    ) -> Visited {
        let study_uid = &study.facts.study_instance_uid;
        let mut all = Vec::new();
        match only {
            Some(only) => {
                for uid in only.keys() {
                    all.extend(self.series(study_uid, uid)?);
                }
            }
            None => self.series_of(study_uid, &mut |series| {
                all.push(series);
                ControlFlow::Continue(())
            })?,
        }
        all.retain(|series| plan.series_matches(series));
        all.sort_by_cached_key(|series| {
            let number = series
                .facts
                .values
                .get(&SERIES_NUMBER)
                .and_then(|text| text.trim().parse::<i64>().ok());
            (
                number.unwrap_or(i64::MAX),
                series.facts.series_instance_uid.clone(),
            )
        });
        for series in all {
            let sops = only
                .and_then(|only| only.get(&series.facts.series_instance_uid))
                .map(Vec::as_slice);
            // A series that was asked for by its own UID comes whole.
            let sops = sops.filter(|sops| !sops.is_empty());
            if visit(series, sops)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn each_instance(
        &self,
        plan: &Plan,
        series: &SeriesRecord,
        sops: Option<&[String]>,
        visit: &mut dyn FnMut(InstanceEntry) -> Visited,
    ) -> Visited {
        if let Some(sops) = sops {
            for sop in sops {
                if let Some(entry) = self.by_sop(sop)?
                    && plan.instance_matches(&entry)
                    && visit(entry)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        let mut result = Ok(ControlFlow::Continue(()));
        let facts = &series.facts;
        self.instances(
            &facts.study_instance_uid,
            Some(&facts.series_instance_uid),
            &mut |entry| {
                if !plan.instance_matches(&entry) {
                    return ControlFlow::Continue(());
                }
                result = visit(entry);
                match result {
                    Ok(flow) => flow,
                    Err(_) => ControlFlow::Break(()),
                }
            },
        )?;
        result
    }

    /// Does any one series of the study fulfil all that is asked of series and instances?
    fn study_has_match(
        &self,
        plan: &Plan,
        study: &StudyRecord,
        only: Option<&BTreeMap<String, Vec<String>>>,
    ) -> Result<bool, IndexError> {
        if let Some(test) = &plan.comments {
            let own = study.facts.values.get(&STUDY_COMMENTS).map(String::as_str);
            if !test.matches(own) && !self.any_image_comment(study, test)? {
                return Ok(false);
            }
        }
        if !plan.needs_series() {
            return Ok(true);
        }
        let mut found = false;
        let _ = self.each_series(plan, study, only, &mut |series, _| {
            found = !plan.needs_instances() || self.series_has_match(plan, &series, only)?;
            Ok(if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        Ok(found)
    }

    fn series_has_match(
        &self,
        plan: &Plan,
        series: &SeriesRecord,
        only: Option<&BTreeMap<String, Vec<String>>>,
    ) -> Result<bool, IndexError> {
        let sops = only
            .and_then(|only| only.get(&series.facts.series_instance_uid))
            .map(Vec::as_slice);
        let found = self.each_instance(
            plan,
            series,
            sops.filter(|sops| !sops.is_empty()),
            &mut |_| Ok(ControlFlow::Break(())),
        )?;
        Ok(found.is_break())
    }

    fn any_image_comment(&self, study: &StudyRecord, test: &Test) -> Result<bool, IndexError> {
        let mut found = false;
        self.instances(&study.facts.study_instance_uid, None, &mut |entry| {
            found = test.matches(entry.record.values.get(&IMAGE_COMMENTS).map(String::as_str));
            if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(found)
    }

    /// Series attributes that a STUDY query asks for, from all series of the study.
    fn add_series_values(
        &self,
        plan: &Plan,
        study: &StudyRecord,
        values: &mut Values,
    ) -> Result<(), IndexError> {
        let of_series = |tag: &&u32| {
            let level = level_of(Tag((**tag >> 16) as u16, **tag as u16));
            level == Some(Level::Series) && !matches!(**tag, MODALITY | SERIES_INSTANCE_UID)
        };
        let tags: Vec<u32> = plan.asked.iter().filter(of_series).copied().collect();
        if tags.is_empty() {
            return Ok(());
        }
        let mut distinct: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        self.series_of(&study.facts.study_instance_uid, &mut |series| {
            for tag in tags.iter().filter(|_| series.instances_count > 0) {
                if let Some(text) = series.facts.values.get(tag) {
                    let kept = distinct.entry(*tag).or_default();
                    if kept.len() < DISTINCT_MAX {
                        kept.insert(text.clone());
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        for (tag, texts) in distinct {
            values.insert(tag, texts.into_iter().collect::<Vec<_>>().join("\\"));
        }
        Ok(())
    }

    /// Counts over all studies of a study's patient.
    fn patient_counts(&self, study: &StudyRecord, patient: &Patient) -> Result<Counts, IndexError> {
        let mut counts = (0, 0, 0);
        self.each_of_patient(study, patient, &mut |other| {
            counts.0 += 1;
            counts.1 += other.series_count;
            counts.2 += other.instances_count;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(counts)
    }

    /// All studies of a study's patient, that study in any case.
    pub(super) fn each_of_patient(
        &self,
        study: &StudyRecord,
        patient: &Patient,
        visit: &mut dyn FnMut(&StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        let text = |tag: u32| study.facts.values.get(&tag).map_or("", String::as_str);
        let first = |tag: u32, separators: &[char]| {
            text(tag)
                .split(separators)
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let (table, folded) = match key::fold(&first(PATIENT_ID, &['\\'])) {
            id if !id.is_empty() => (Table::PatientId, id),
            _ => (
                Table::Name,
                matching::fold_name(&first(PATIENT_NAME, &['\\', '='])),
            ),
        };
        let mut found = BTreeSet::new();
        if !folded.is_empty() {
            found = self
                .candidates(table, &[(folded, true)], usize::MAX)?
                .unwrap_or_default();
        }
        let own = &study.facts.study_instance_uid;
        found.remove(own);
        if visit(study)?.is_break() {
            return Ok(());
        }
        for uid in found {
            let other = self.study(&uid)?.ok_or_else(|| damaged(Table::Study))?;
            if patient_of(&other) == *patient && visit(&other)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

pub(super) fn patient_of(study: &StudyRecord) -> Patient {
    let text = |tag: u32| {
        study
            .facts
            .values
            .get(&tag)
            .map_or("", |text| text.trim())
            .to_owned()
    };
    let (id, name) = (text(PATIENT_ID), text(PATIENT_NAME));
    if !id.is_empty() {
        (id, text(ISSUER_OF_PATIENT_ID), String::new())
    } else if !name.is_empty() {
        (String::new(), name, text(PATIENT_BIRTH_DATE))
    } else {
        (
            String::new(),
            String::new(),
            study.facts.study_instance_uid.clone(),
        )
    }
}

fn match_of(plan: &Plan, study: &StudyRecord) -> Match {
    let mut values = study.facts.values.clone();
    values.insert(STUDY_INSTANCE_UID, study.facts.study_instance_uid.clone());
    values.insert(MODALITIES_IN_STUDY, study.modalities.join("\\"));
    values.insert(SOP_CLASSES_IN_STUDY, study.sop_classes.join("\\"));
    values.insert(STUDY_SERIES, study.series_count.to_string());
    values.insert(STUDY_INSTANCES, study.instances_count.to_string());
    if plan.level == Level::Study {
        values.insert(MODALITY, study.modalities.join("\\"));
        values.insert(SOP_CLASS_UID, study.sop_classes.join("\\"));
    }
    Match {
        level: plan.level,
        patient_id: values.get(&PATIENT_ID).cloned().unwrap_or_default(),
        study_instance_uid: study.facts.study_instance_uid.clone(),
        series_instance_uid: String::new(),
        sop_instance_uid: String::new(),
        values,
    }
}

fn series_match(above: &Match, series: &SeriesRecord) -> Match {
    let mut found = above.clone();
    found.values.extend(series.facts.values.clone());
    found.values.insert(
        SERIES_INSTANCE_UID,
        series.facts.series_instance_uid.clone(),
    );
    found
        .values
        .insert(SERIES_INSTANCES, series.instances_count.to_string());
    found
        .series_instance_uid
        .clone_from(&series.facts.series_instance_uid);
    found
}

fn instance_match(above: &Match, entry: InstanceEntry) -> Match {
    let mut found = above.clone();
    // An instance that says another patient than its study is found, and told, under that of its study.
    let of_patient =
        |tag: u32| level_of(Tag((tag >> 16) as u16, tag as u16)) == Some(Level::Patient);
    let values = entry.record.values.into_iter();
    found
        .values
        .extend(values.filter(|(tag, _)| !of_patient(*tag)));
    found
        .values
        .insert(SOP_INSTANCE_UID, entry.sop_instance_uid.clone());
    found
        .values
        .insert(SOP_CLASS_UID, entry.record.sop_class_uid);
    found
        .values
        .insert(AVAILABLE_TRANSFER_SYNTAX_UID, entry.record.transfer_syntax);
    found.sop_instance_uid = entry.sop_instance_uid;
    found
}
