//! A query taken apart: which of its keys is tested against the study, its series, their instances.

use std::collections::{BTreeSet, HashSet};

use super::matching::{self, Test};
use super::query::*;
use super::{InstanceEntry, SeriesRecord, StudyRecord, Values};
use crate::dicom::{Level, Tag, level_of, vr_of};

/// A query, its keys sorted by what they are tested against.
pub(super) struct Plan {
    pub level: Level,
    /// Of patient and study.
    pub study: Vec<(u32, Test)>,
    pub series: Vec<(u32, Test)>,
    pub instance: Vec<(u32, Test)>,
    pub modalities: Vec<Test>,
    pub sop_classes: Vec<Test>,
    pub study_uids: Option<BTreeSet<String>>,
    pub series_uids: Option<BTreeSet<String>>,
    pub sop_uids: Option<BTreeSet<String>>,
    /// Study Date and Time both open upwards: one moment, (date, time).
    pub since: Option<(u32, u64)>,
    /// At STUDY level: (0020,4000), which Horos sends when a person searches in comments.
    pub comments: Option<Test>,
    pub asked: HashSet<u32>,
}

impl Plan {
    pub fn new(query: &Query) -> Plan {
        let mut plan = Plan {
            level: query.level,
            study: Vec::new(),
            series: Vec::new(),
            instance: Vec::new(),
            modalities: Vec::new(),
            sop_classes: Vec::new(),
            study_uids: None,
            series_uids: None,
            sop_uids: None,
            since: None,
            comments: None,
            asked: query.keys.iter().map(|key| key.tag).collect(),
        };
        for asked in &query.keys {
            let tag = Tag((asked.tag >> 16) as u16, asked.tag as u16);
            let vr = match vr_of(tag) {
                dicom_core::VR::UN => asked.vr,
                known => known,
            };
            let Some(test) = Test::new(vr, &asked.value) else {
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
                (IMAGE_COMMENTS, test) if above => plan.comments = Some(test),
                (tag, test) => match level_of(Tag((tag >> 16) as u16, tag as u16)) {
                    Some(Level::Patient | Level::Study) => plan.study.push((tag, test)),
                    Some(Level::Series) => plan.series.push((tag, test)),
                    Some(Level::Instance) => plan.instance.push((tag, test)),
                    None => {}
                },
            }
        }
        plan.combine_date_and_time();
        plan
    }

    /// "Since yesterday 22:00" comes as two ranges; taken one by one they would leave out this morning.
    fn combine_date_and_time(&mut self) {
        let open = |tag: u32| {
            self.study
                .iter()
                .find(|(key, _)| *key == tag)
                .map(|(_, test)| test)
        };
        if let (Some(Test::Date(dates)), Some(Test::Time(times))) =
            (open(STUDY_DATE), open(STUDY_TIME))
            && let ([(date, u32::MAX)], [(time, u64::MAX)]) = (dates.as_slice(), times.as_slice())
        {
            self.since = Some((*date, *time));
            self.study.retain(|(tag, _)| *tag != STUDY_TIME);
        }
    }

    pub fn study_matches(&self, study: &StudyRecord) -> bool {
        let values = &study.facts.values;
        study.instances_count > 0
            && self
                .study_uids
                .as_ref()
                .is_none_or(|uids| uids.contains(&study.facts.study_instance_uid))
            && all_match(&self.study, values)
            && self
                .modalities
                .iter()
                .all(|test| test.matches_any(&study.modalities))
            && self
                .sop_classes
                .iter()
                .all(|test| test.matches_any(&study.sop_classes))
            && self.since.is_none_or(|since| {
                // A study without a time counts as one at the end of its day: rather shown than missed.
                let time = values
                    .get(&STUDY_TIME)
                    .and_then(|text| matching::time(text));
                let date = values
                    .get(&STUDY_DATE)
                    .and_then(|text| matching::date(text));
                date.is_some_and(|date| (date, time.unwrap_or(u64::MAX)) >= since)
            })
    }

    pub fn series_matches(&self, series: &SeriesRecord) -> bool {
        series.instances_count > 0
            && self.series_uids.as_ref().is_none_or(|uids| uids.contains(&series.facts.series_instance_uid))
            && all_match(&self.series, &series.facts.values)
            // Spares reading the instances of series that have none of the class.
            && self.instance.iter().all(|(tag, test)| *tag != SOP_CLASS_UID || test.matches_any(&series.sop_classes))
    }

    pub fn instance_matches(&self, entry: &InstanceEntry) -> bool {
        let record = &entry.record;
        self.sop_uids
            .as_ref()
            .is_none_or(|uids| uids.contains(&entry.sop_instance_uid))
            && self.instance.iter().all(|(tag, test)| match *tag {
                SOP_CLASS_UID => test.matches(Some(&record.sop_class_uid)),
                tag => test.matches(record.values.get(&tag).map(String::as_str)),
            })
    }

    pub fn needs_series(&self) -> bool {
        !self.series.is_empty() || self.series_uids.is_some() || self.needs_instances()
    }

    pub fn needs_instances(&self) -> bool {
        !self.instance.is_empty() || self.sop_uids.is_some()
    }

    pub fn asks_for_patient_counts(&self) -> bool {
        [PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES]
            .iter()
            .any(|tag| self.asked.contains(tag))
    }
}

fn all_match(tests: &[(u32, Test)], values: &Values) -> bool {
    tests
        .iter()
        .all(|(tag, test)| test.matches(values.get(tag).map(String::as_str)))
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
        .min(99_999_998);
    Some((
        format!("{from:08}").into_bytes(),
        format!("{:08}", to + 1).into_bytes(),
    ))
}
