//! A query taken apart: which of its keys is tested against the study, its series, their instances.

use std::collections::{BTreeSet, HashSet};

use super::glance::Texts;
use super::matching::Test;
use super::mixed::is_of_patient;
use super::query::*;
use super::times::Combined;
use super::{InstanceEntry, SeriesRecord, StudyRecord};
use crate::dicom::{Level, Tag, level_of};

/// Dates that are asked for together with a time.
const DATES_WITH_TIMES: &[(u32, u32)] = &[
    (STUDY_DATE, STUDY_TIME),
    (PATIENT_BIRTH_DATE, PATIENT_BIRTH_TIME),
    (SERIES_DATE, SERIES_TIME),
    (
        PERFORMED_PROCEDURE_STEP_START_DATE,
        PERFORMED_PROCEDURE_STEP_START_TIME,
    ),
    (CONTENT_DATE, CONTENT_TIME),
    (ACQUISITION_DATE, ACQUISITION_TIME),
    (INSTANCE_CREATION_DATE, INSTANCE_CREATION_TIME),
];

/// A query, its keys sorted by what they are tested against.
pub(super) struct Plan {
    pub level: Level,
    /// Of patient and study.
    pub study: Vec<(u32, Test)>,
    pub series: Vec<(u32, Test)>,
    pub instance: Vec<(u32, Test)>,
    /// Of the instance.
    sop_class: Vec<Test>,
    pub modalities: Vec<Test>,
    pub sop_classes: Vec<Test>,
    pub study_uids: Option<BTreeSet<String>>,
    pub series_uids: Option<BTreeSet<String>>,
    pub sop_uids: Option<BTreeSet<String>>,
    /// Dates and times that are asked for as one range. The dates are also tested by themselves.
    combined: Vec<Combined>,
    /// At STUDY level: (0020,4000), which Horos sends when a person searches in comments.
    pub comments: Option<Test>,
    pub asked: HashSet<u32>,
    /// It matters whose a study is: one of several patients is told in parts.
    pub by_patient: bool,
}

impl Plan {
    pub fn new(query: &Query) -> Plan {
        let mut plan = Plan {
            level: query.level,
            study: Vec::new(),
            series: Vec::new(),
            instance: Vec::new(),
            sop_class: Vec::new(),
            modalities: Vec::new(),
            sop_classes: Vec::new(),
            study_uids: None,
            series_uids: None,
            sop_uids: None,
            combined: Vec::new(),
            comments: None,
            asked: query.keys.iter().map(|key| key.tag).collect(),
            by_patient: matches!(query.level, Level::Patient | Level::Instance),
        };
        for asked in &query.keys {
            let Some(test) = Test::of(asked, query.options) else {
                continue;
            };
            let above = query.level <= Level::Study;
            match (asked.tag, test) {
                (STUDY_INSTANCE_UID, Test::Uid(uids)) => plan.study_uids = Some(uids),
                (SERIES_INSTANCE_UID, Test::Uid(uids)) => plan.series_uids = Some(uids),
                (SOP_INSTANCE_UID, Test::Uid(uids)) => plan.sop_uids = Some(uids),
                (MODALITIES_IN_STUDY, test) => plan.modalities.push(test),
                (MODALITY, test) if above => plan.modalities.push(test),
                (SOP_CLASSES_IN_STUDY, test) => plan.sop_classes.push(test),
                (SOP_CLASS_UID, test) if above => plan.sop_classes.push(test),
                (SOP_CLASS_UID, test) => plan.sop_class.push(test),
                (IMAGE_COMMENTS, test) if above => plan.comments = Some(test),
                (tag, test) => match level(tag) {
                    Some(Level::Patient | Level::Study) => plan.study.push((tag, test)),
                    Some(Level::Series) => plan.series.push((tag, test)),
                    Some(Level::Instance) => plan.instance.push((tag, test)),
                    None => {}
                },
            }
        }
        plan.by_patient |= plan.study.iter().any(|(tag, _)| is_of_patient(*tag));
        plan.combine(query);
        plan
    }

    /// "Since yesterday 22:00" comes as two ranges; taken one by one they would leave out this morning.
    fn combine(&mut self, query: &Query) {
        let asked = |tag: u32| {
            let mut keys = query.keys.iter();
            keys.find(|key| key.tag == tag).map(|key| key.value.trim())
        };
        for (date, time) in DATES_WITH_TIMES {
            let (Some(date_key), Some(time_key)) = (asked(*date), asked(*time)) else {
                continue;
            };
            let all_forms = query.options.combined_date_time;
            let pair = Combined::new((*date, date_key), (*time, time_key), all_forms);
            let Some(pair) = pair else { continue };
            for tests in [&mut self.study, &mut self.series, &mut self.instance] {
                tests.retain(|(tag, _)| tag != time);
            }
            self.combined.push(pair);
        }
    }

    /// What is asked of these values at their level.
    fn fulfilled(&self, level: Level, tests: &[(u32, Test)], values: &dyn Texts) -> bool {
        let text = |tag: u32| {
            let text = values.text(tag);
            match tag {
                // Sorted into the table of dates by the first of several, against the standard, that allows one.
                STUDY_DATE => text.and_then(|text| text.split('\\').next()),
                _ => text,
            }
        };
        tests.iter().all(|(tag, test)| test.matches(text(*tag)))
            && self.combined.iter().all(|pair| {
                let at = self::level(pair.date).map(|at| at.max(Level::Study));
                at != Some(level) || pair.matches(text(pair.date), text(pair.time))
            })
    }

    /// Can a study match, by its values alone?
    pub fn study_may_match(&self, values: &dyn Texts) -> bool {
        self.fulfilled(Level::Study, &self.study, values)
    }

    /// Can a series match, by its values alone?
    pub fn series_may_match(&self, values: &dyn Texts) -> bool {
        self.fulfilled(Level::Series, &self.series, values)
    }

    /// Can an instance match, by its values alone?
    pub fn instance_may_match(&self, values: &dyn Texts) -> bool {
        self.fulfilled(Level::Instance, &self.instance, values)
    }

    pub fn study_matches(&self, study: &StudyRecord) -> bool {
        let values = &study.facts.values;
        study.instances_count > 0
            && self
                .study_uids
                .as_ref()
                .is_none_or(|uids| uids.contains(&study.facts.study_instance_uid))
            && self.fulfilled(Level::Study, &self.study, values)
            && self
                .modalities
                .iter()
                .all(|test| test.matches_any(&study.modalities))
            && self
                .sop_classes
                .iter()
                .all(|test| test.matches_any(&study.sop_classes))
    }

    pub fn series_matches(&self, series: &SeriesRecord) -> bool {
        series.instances_count > 0
            && self.series_uids.as_ref().is_none_or(|uids| uids.contains(&series.facts.series_instance_uid))
            && self.fulfilled(Level::Series, &self.series, &series.facts.values)
            // Spares reading the instances of series that have none of the class.
            && self.sop_class.iter().all(|test| test.matches_any(&series.sop_classes))
    }

    pub fn instance_matches(&self, entry: &InstanceEntry) -> bool {
        let record = &entry.record;
        self.sop_uids
            .as_ref()
            .is_none_or(|uids| uids.contains(&entry.sop_instance_uid))
            && self
                .sop_class
                .iter()
                .all(|test| test.matches(Some(&record.sop_class_uid)))
            && self.fulfilled(Level::Instance, &self.instance, &record.values)
    }

    pub fn needs_series(&self) -> bool {
        !self.series.is_empty() || self.series_uids.is_some() || self.needs_instances()
    }

    pub fn needs_instances(&self) -> bool {
        !self.instance.is_empty() || !self.sop_class.is_empty() || self.sop_uids.is_some()
    }

    pub fn asks_for_patient_counts(&self) -> bool {
        [PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES]
            .iter()
            .any(|tag| self.asked.contains(tag))
    }
}

/// At which level the index keeps an attribute.
fn level(tag: u32) -> Option<Level> {
    level_of(Tag((tag >> 16) as u16, tag as u16))
}

/// Keys of the date table between which all matching studies are; None without a date in the query.
pub(super) fn date_range(plan: &Plan) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, test) = plan.study.iter().find(|(tag, _)| *tag == STUDY_DATE)?;
    let Test::Date(ranges) = test else {
        return None;
    };
    // 0 stands for studies without a date, which match no date.
    let from = ranges
        .iter()
        .map(|(from, _)| *from)
        .min()
        .unwrap_or(1)
        .max(1);
    let to = ranges
        .iter()
        .map(|(_, to)| *to)
        .max()
        .unwrap_or(0)
        .min(99_999_999);
    let end = match to {
        // Of eight digits all are below.
        99_999_999 => b":".to_vec(),
        _ => format!("{:08}", to + 1).into_bytes(),
    };
    Some((format!("{from:08}").into_bytes(), end))
}
