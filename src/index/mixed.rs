//! One study of several patients: instances that say another patient than their study. Where it matters whose a study is,
//! each patient has a part of it, with counts of what is his; the parts are never one.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use super::engine::{Direction, Table};
use super::query::{PATIENT_BIRTH_DATE, PATIENT_ID, PATIENT_NAME};
use super::snapshot::{Snapshot, is_empty};
use super::{
    IndexError, InstanceEntry, SeriesRecord, StudyRecord, Values, key, matching, names_agree,
};
use crate::dicom::{Level, Tag, level_of};

/// Other patients of one study that are told apart at most; instances of more are told as those of the study's patient.
const PATIENTS_MAX: usize = 1_000;

/// Patient ID, component groups of the name, folded, and the birth date, if it says one.
type Who = (String, BTreeSet<String>, Option<u32>);

/// (instances, their SOP classes) by series.
type Tallies = BTreeMap<String, (u64, BTreeSet<String>)>;

/// A study as one of its patients has it.
pub(super) struct Part {
    /// With the values of that patient, and counts of what is his.
    pub study: StudyRecord,
    /// None: all of the study.
    limits: Option<Limits>,
}

struct Limits {
    /// None: the study's patient.
    who: Option<Who>,
    /// What the study says of its patient, and said before it was corrected, and who the others are.
    mixed: Rc<(Vec<Values>, BTreeSet<Who>)>,
    series: Tallies,
}

impl Part {
    /// All of a study, whoever its instances say.
    pub fn whole(study: StudyRecord) -> Part {
        Part {
            study,
            limits: None,
        }
    }

    pub fn has(&self, entry: &InstanceEntry) -> bool {
        self.limits.as_ref().is_none_or(|limits| {
            let (study, others) = &*limits.mixed;
            let who = other_patient(study, &entry.record.values);
            who.filter(|who| others.contains(who)) == limits.who
        })
    }

    /// A series of the study with counts of what is of this part; None: nothing is.
    pub fn series(&self, mut series: SeriesRecord) -> Option<SeriesRecord> {
        if let Some(limits) = &self.limits {
            let (count, classes) = limits.series.get(&series.facts.series_instance_uid)?;
            series.instances_count = *count;
            series.sop_classes = classes.iter().cloned().collect();
        }
        Some(series)
    }

    /// How many series, or instances, a walk over the whole study meets, where `count` is what this says of them.
    pub fn expected(&self, count: u64) -> Option<u64> {
        self.limits.is_none().then_some(count)
    }
}

/// A value of study or patient that is of nobody but the one who is named beside it.
pub(super) fn is_of_patient(tag: u32) -> bool {
    tag >> 16 == 0x0010 || level_of(Tag((tag >> 16) as u16, tag as u16)) == Some(Level::Patient)
}

fn text(values: &Values, tag: u32) -> &str {
    values.get(&tag).map_or("", |text| text.trim())
}

/// Who an instance says its patient is, if that is not whom its study says. The study may have been amended since it came;
/// and a modality goes on saying what the study was amended from, which makes it nobody else's.
fn other_patient(told: &[Values], own: &Values) -> Option<Who> {
    let (id, name) = (text(own, PATIENT_ID), text(own, PATIENT_NAME));
    let says = |study: &Values| {
        let same_id = id.is_empty() || id == text(study, PATIENT_ID);
        same_id && names_agree(name, text(study, PATIENT_NAME))
    };
    if told.iter().any(says) {
        return None;
    }
    let groups = name.split(['\\', '=']).map(matching::fold_name);
    Some((
        id.to_owned(),
        groups.filter(|group| !group.is_empty()).collect(),
        matching::date(text(own, PATIENT_BIRTH_DATE)),
    ))
}

/// Whether any instance in the archive says another patient than its study; looked up once.
pub(super) type AnyMixed = OnceCell<bool>;

impl Snapshot {
    pub(super) fn has_mixed_studies(&self) -> Result<bool, IndexError> {
        if let Some(known) = self.any_mixed.get() {
            return Ok(*known);
        }
        let found = !is_empty(&*self.reader, Table::AnotherPatient)?;
        Ok(*self.any_mixed.get_or_init(|| found))
    }

    /// The study as each of its patients has it, its own patient first. Reads its instances only where some say another.
    pub(super) fn parts(&self, study: StudyRecord) -> Result<Vec<Part>, IndexError> {
        let uid = study.facts.study_instance_uid.clone();
        if !self.has_mixed_studies()? || !self.is_mixed(&uid)? {
            return Ok(vec![Part::whole(study)]);
        }
        let mut own = vec![study.facts.values.clone()];
        if let Some(kept) = self.kept_study(&uid)? {
            own.extend(kept.told_before(&[PATIENT_ID, PATIENT_NAME]));
        }
        let mut told: BTreeMap<Who, Values> = BTreeMap::new();
        let mut tallies: BTreeMap<Option<Who>, Tallies> = BTreeMap::new();
        let expected = Some(study.instances_count);
        self.instances_within(&uid, None, expected, None, &mut |entry| {
            let values = &entry.record.values;
            let mut who = other_patient(&own, values);
            if let Some(other) = &who
                && !told.contains_key(other)
            {
                match told.len() < PATIENTS_MAX {
                    true => drop(told.insert(other.clone(), values.clone())),
                    false => who = None,
                }
            }
            let series = tallies.entry(who).or_default();
            let (count, classes) = series.entry(entry.series_instance_uid).or_default();
            *count += 1;
            if !classes.contains(&entry.record.sop_class_uid) {
                classes.insert(entry.record.sop_class_uid);
            }
            ControlFlow::Continue(())
        })?;
        if told.is_empty() {
            return Ok(vec![Part::whole(study)]);
        }
        let mut modalities: BTreeMap<String, String> = BTreeMap::new();
        self.series_within(&uid, Some(study.series_count), None, &mut |series| {
            if let Some(text) = series.facts.values.get(&super::record::MODALITY) {
                let uid = series.facts.series_instance_uid;
                modalities.insert(uid, text.trim().to_owned());
            }
            ControlFlow::Continue(())
        })?;
        let mixed = Rc::new((own, told.keys().cloned().collect()));
        let part = |(who, series): (Option<Who>, Tallies)| {
            let mut study = study.clone();
            if let Some(values) = who.as_ref().and_then(|who| told.get(who)) {
                let all = &mut study.facts.values;
                all.retain(|tag, _| !is_of_patient(*tag));
                for tag in [PATIENT_ID, PATIENT_NAME, PATIENT_BIRTH_DATE] {
                    let text = values.get(&tag).filter(|text| !text.is_empty());
                    all.extend(text.map(|text| (tag, text.clone())));
                }
            }
            study.series_count = series.len() as u64;
            study.instances_count = series.values().map(|(count, _)| count).sum();
            let distinct = |texts: BTreeSet<&String>| texts.into_iter().cloned().collect();
            study.modalities = distinct(
                series
                    .keys()
                    .filter_map(|uid| modalities.get(uid))
                    .collect(),
            );
            study.sop_classes =
                distinct(series.values().flat_map(|(_, classes)| classes).collect());
            let mixed = Rc::clone(&mixed);
            let limits = Some(Limits { who, mixed, series });
            Part { study, limits }
        };
        Ok(tallies.into_iter().map(part).collect())
    }

    /// Did an instance of the study say another patient when it came?
    pub(super) fn is_mixed(&self, study: &str) -> Result<bool, IndexError> {
        let (from, to) = key::prefix_range(key::pack(&[study]));
        let table = Table::AnotherPatient;
        let first = self
            .reader
            .range(table, &from, &to, Direction::Forward, 1)?;
        Ok(!first.is_empty())
    }

    /// The answered instances of the patient whose ID is exactly this one, study by study; of a study of several patients
    /// what is his.
    pub fn instances_of_patient(
        &self,
        patient_id: &str,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let folded = key::fold(patient_id);
        if folded.is_empty() {
            return Ok(());
        }
        let found = self.candidates(Table::PatientId, &[(folded, true)], usize::MAX)?;
        for uid in found.unwrap_or_default() {
            let Some(study) = self.study(&uid)? else {
                continue;
            };
            for part in self.parts(study)? {
                if part.study.facts.values.get(&PATIENT_ID).map(String::as_str) != Some(patient_id)
                {
                    continue;
                }
                let mut flow = ControlFlow::Continue(());
                let expected = part.expected(part.study.instances_count);
                self.instances_within(&uid, None, expected, None, &mut |entry| {
                    if part.has(&entry) {
                        flow = f(entry);
                    }
                    flow
                })?;
                if flow.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
