//! Finds what a [`Query`] asks for: the narrowest table gives candidate studies, their records decide.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use super::engine::{Direction, Table};
use super::matching::{self, Test};
use super::query::*;
use super::snapshot::{Snapshot, Visited, get};
use super::{IndexError, InstanceEntry, SeriesRecord, StudyRecord, Values, damaged, key};
use crate::dicom::{Level, Tag, level_of, vr_of};

/// Studies sorted in memory at most; a table that gives more candidates is no help, the dates are walked instead.
const CANDIDATES_MAX: usize = 10_000;
/// Distinct values of one series attribute told at STUDY level.
const DISTINCT_MAX: usize = 64;

/// A query, its keys sorted by what they are tested against.
struct Plan {
    level: Level,
    /// Of patient and study.
    study: Vec<(u32, Test)>,
    series: Vec<(u32, Test)>,
    instance: Vec<(u32, Test)>,
    modalities: Vec<Test>,
    sop_classes: Vec<Test>,
    study_uids: Option<BTreeSet<String>>,
    series_uids: Option<BTreeSet<String>>,
    sop_uids: Option<BTreeSet<String>>,
    /// Study Date and Time both open upwards: one moment, (date, time).
    since: Option<(u32, u64)>,
    /// At STUDY level: (0020,4000), which Horos sends when a person searches in comments.
    comments: Option<Test>,
    asked: HashSet<u32>,
}

impl Plan {
    fn new(query: &Query) -> Plan {
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

    fn study_matches(&self, study: &StudyRecord) -> bool {
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

    fn series_matches(&self, series: &SeriesRecord) -> bool {
        series.instances_count > 0
            && self.series_uids.as_ref().is_none_or(|uids| uids.contains(&series.facts.series_instance_uid))
            && all_match(&self.series, &series.facts.values)
            // Spares reading the instances of series that have none of the class.
            && self.instance.iter().all(|(tag, test)| *tag != SOP_CLASS_UID || test.matches_any(&series.sop_classes))
    }

    fn instance_matches(&self, entry: &InstanceEntry) -> bool {
        let record = &entry.record;
        self.sop_uids
            .as_ref()
            .is_none_or(|uids| uids.contains(&entry.sop_instance_uid))
            && self.instance.iter().all(|(tag, test)| match *tag {
                SOP_CLASS_UID => test.matches(Some(&record.sop_class_uid)),
                tag => test.matches(record.values.get(&tag).map(String::as_str)),
            })
    }

    fn needs_series(&self) -> bool {
        !self.series.is_empty() || self.series_uids.is_some() || self.needs_instances()
    }

    fn needs_instances(&self) -> bool {
        !self.instance.is_empty() || self.sop_uids.is_some()
    }

    fn asks_for_patient_counts(&self) -> bool {
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

/// Where the UIDs of a query are: study → series → SOP Instance UIDs (empty: the whole series).
type Located = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// (studies, series, instances)
type Counts = (u64, u64, u64);

/// Who a study's patient is: identifier and issuer; without an identifier name and birth date, the study's UID last.
type Patient = (String, String, String);

/// Newest first, then last stored first.
fn newest(study: &StudyRecord) -> impl Ord + use<> {
    let values = &study.facts.values;
    let date = values
        .get(&STUDY_DATE)
        .and_then(|text| matching::date(text))
        .unwrap_or(0);
    let time = values
        .get(&STUDY_TIME)
        .and_then(|text| matching::time(text))
        .unwrap_or(0);
    std::cmp::Reverse((date, time, study.sequence))
}

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

    /// Looks up series and SOP Instance UIDs of the query; None when it has none.
    fn locate(&self, plan: &Plan) -> Result<Option<Located>, IndexError> {
        let mut located = Located::new();
        if let Some(sops) = &plan.sop_uids {
            for sop in sops {
                let Some(place) = get(&*self.reader, Table::Sop, &key::pack(&[sop]))? else {
                    continue;
                };
                let split = || {
                    let (study, rest) = key::unpack(&place)?;
                    Some((study, key::unpack(rest)?.0))
                };
                let (study, series) = split().ok_or_else(|| damaged(Table::Sop))?;
                located
                    .entry(study)
                    .or_default()
                    .entry(series)
                    .or_default()
                    .push(sop.clone());
            }
        } else if let Some(uids) = &plan.series_uids {
            // With the study known its series are read directly; the table is for those who know only the series.
            for uid in uids {
                for series in self.all_series_by_uid(uid)? {
                    let studies = located.entry(series.facts.study_instance_uid).or_default();
                    studies.entry(series.facts.series_instance_uid).or_default();
                }
            }
        } else {
            return Ok(None);
        }
        Ok(Some(located))
    }

    /// Calls `visit` with each study whose own record matches, newest first.
    fn studies(
        &self,
        plan: &Plan,
        located: Option<&Located>,
        visit: &mut dyn FnMut(StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        if let Some(located) = located {
            return self
                .sorted(plan, located.keys().cloned().collect(), visit)
                .map(|_| ());
        }
        if let Some(uids) = &plan.study_uids {
            return self
                .sorted(plan, uids.iter().cloned().collect(), visit)
                .map(|_| ());
        }
        let dates = date_range(plan);
        if dates.as_ref().is_some_and(|(from, to)| from >= to) {
            return Ok(());
        }
        let mut best: Option<BTreeSet<String>> = None;
        for (table, tag) in [
            (Table::PatientId, PATIENT_ID),
            (Table::Accession, ACCESSION_NUMBER),
            (Table::Name, PATIENT_NAME),
        ] {
            let test = plan.study.iter().find(|(key, _)| *key == tag);
            let Some(beginnings) = test.and_then(|(_, test)| test.beginnings()) else {
                continue;
            };
            let limit = best.as_ref().map_or(CANDIDATES_MAX, BTreeSet::len);
            if let Some(fewer) = self.candidates(table, &beginnings, limit)? {
                best = Some(fewer);
            }
        }
        if let (Some(found), Some(dates)) = (&best, &dates)
            && self.fewer_than(Table::Date, dates, found.len())?
        {
            best = None;
        }
        match best {
            Some(found) => self
                .sorted(plan, found.into_iter().collect(), visit)
                .map(|_| ()),
            None => self.by_date(plan, dates.unwrap_or_default(), visit),
        }
    }

    /// The studies with a value that begins so; None when there are `limit` or more.
    fn candidates(
        &self,
        table: Table,
        beginnings: &[(String, bool)],
        limit: usize,
    ) -> Result<Option<BTreeSet<String>>, IndexError> {
        let mut found = BTreeSet::new();
        for (text, whole) in beginnings {
            let kept = key::cut(text);
            let mut prefix = kept.as_bytes().to_vec();
            if *whole {
                prefix.push(0);
            }
            self.each(
                table,
                key::prefix_range(prefix),
                Direction::Forward,
                &mut |key, _| {
                    let end = key
                        .iter()
                        .position(|byte| *byte == 0)
                        .ok_or_else(|| damaged(table))?;
                    let (study, _) = key::unpack(&key[end + 1..]).ok_or_else(|| damaged(table))?;
                    found.insert(study);
                    Ok(if found.len() >= limit {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    })
                },
            )?;
            if found.len() >= limit {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    fn fewer_than(
        &self,
        table: Table,
        range: &(Vec<u8>, Vec<u8>),
        limit: usize,
    ) -> Result<bool, IndexError> {
        Ok(self
            .reader
            .range(table, &range.0, &range.1, Direction::Forward, limit)?
            .len()
            < limit)
    }

    /// Loads, tests, sorts and visits a bounded number of studies.
    fn sorted(
        &self,
        plan: &Plan,
        uids: Vec<String>,
        visit: &mut dyn FnMut(StudyRecord) -> Visited,
    ) -> Visited {
        let mut studies = Vec::new();
        for uid in uids {
            if let Some(study) = self.study(&uid)?
                && plan.study_matches(&study)
            {
                studies.push(study);
            }
        }
        studies.sort_by_cached_key(newest);
        for study in studies {
            if visit(study)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Walks the dates backwards, one day at a time.
    fn by_date(
        &self,
        plan: &Plan,
        range: (Vec<u8>, Vec<u8>),
        visit: &mut dyn FnMut(StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        let mut day = Vec::new();
        let mut uids: Vec<String> = Vec::new();
        let mut stopped = false;
        self.each(Table::Date, range, Direction::Backward, &mut |key, _| {
            let (date, study) = key
                .split_at_checked(8)
                .ok_or_else(|| damaged(Table::Date))?;
            let (study, _) = key::unpack(study).ok_or_else(|| damaged(Table::Date))?;
            if date != day || uids.len() >= CANDIDATES_MAX {
                day = date.to_vec();
                if self
                    .sorted(plan, std::mem::take(&mut uids), visit)?
                    .is_break()
                {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            uids.push(study);
            Ok(ControlFlow::Continue(()))
        })?;
        if !stopped {
            self.sorted(plan, uids, visit).map(|_| ())?;
        }
        Ok(())
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
        let own = (1, study.series_count, study.instances_count);
        if folded.is_empty() {
            return Ok(own);
        }
        let mut counts = (0, 0, 0);
        for uid in self
            .candidates(table, &[(folded, true)], usize::MAX)?
            .unwrap_or_default()
        {
            let other = self.study(&uid)?.ok_or_else(|| damaged(Table::Study))?;
            if patient_of(&other) == *patient {
                counts.0 += 1;
                counts.1 += other.series_count;
                counts.2 += other.instances_count;
            }
        }
        Ok(if counts.0 == 0 { own } else { counts })
    }
}

fn patient_of(study: &StudyRecord) -> Patient {
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

/// Keys of the date table between which all matching studies are; None without a date in the query.
fn date_range(plan: &Plan) -> Option<(Vec<u8>, Vec<u8>)> {
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
    found.values.extend(entry.record.values);
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
