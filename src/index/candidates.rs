//! Which studies a query can concern: the narrowest table tells, newest first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::engine::{Direction, Table};
use super::find::Search;
use super::matching;
use super::plan::{Plan, date_range};
use super::query::*;
use super::snapshot::{Snapshot, Visited, get};
use super::{IndexError, StudyRecord, damaged, key};

/// Studies sorted in memory at most; a table that gives more candidates is no help, the dates are walked instead.
const CANDIDATES_MAX: usize = 10_000;

/// Where the UIDs of a query are: study → series → SOP Instance UIDs (empty: the whole series).
pub(super) type Located = BTreeMap<String, BTreeMap<String, Vec<String>>>;

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

/// The study of an entry of a table of values.
pub(super) fn study_of(table: Table, key: &[u8]) -> Result<String, IndexError> {
    let end = key.iter().position(|byte| *byte == 0);
    let study = end.and_then(|end| key::unpack(&key[end + 1..]));
    Ok(study.ok_or_else(|| damaged(table))?.0)
}

impl Snapshot {
    /// Looks up series and SOP Instance UIDs of the query; None when it has none.
    pub(super) fn locate(&self, plan: &Plan) -> Result<Option<Located>, IndexError> {
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

    /// The studies with a value that begins so; None when there are `limit` or more.
    pub(super) fn candidates(
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
                    found.insert(study_of(table, key)?);
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
}

impl Search<'_> {
    /// Calls `visit` with each study whose own record matches, newest first.
    pub fn studies(&self, visit: &mut dyn FnMut(StudyRecord) -> Visited) -> Result<(), IndexError> {
        let plan = &self.plan;
        if let Some(located) = &self.located {
            return self
                .sorted(located.keys().cloned().collect(), visit)
                .map(|_| ());
        }
        if let Some(uids) = &plan.study_uids {
            return self
                .sorted(uids.iter().cloned().collect(), visit)
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
            if let Some(fewer) = self.snapshot.candidates(table, &beginnings, limit)? {
                best = Some(fewer);
            }
        }
        if let (Some(found), Some(dates)) = (&best, &dates)
            && self.fewer_than(Table::Date, dates, found.len())?
        {
            best = None;
        }
        match best {
            Some(found) => self.sorted(found.into_iter().collect(), visit).map(|_| ()),
            None => self.by_date(dates.unwrap_or_default(), visit),
        }
    }

    fn fewer_than(
        &self,
        table: Table,
        range: &(Vec<u8>, Vec<u8>),
        limit: usize,
    ) -> Result<bool, IndexError> {
        Ok(self
            .snapshot
            .reader
            .range(table, &range.0, &range.1, Direction::Forward, limit)?
            .len()
            < limit)
    }

    /// Loads, tests, sorts and visits a bounded number of studies.
    fn sorted(&self, uids: Vec<String>, visit: &mut dyn FnMut(StudyRecord) -> Visited) -> Visited {
        let mut studies = Vec::new();
        for uid in uids {
            if self.look().is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if let Some(study) = self.snapshot.study(&uid)?
                && self.plan.study_matches(&study)
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
        range: (Vec<u8>, Vec<u8>),
        visit: &mut dyn FnMut(StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        let mut day = Vec::new();
        let mut uids: Vec<String> = Vec::new();
        let mut stopped = false;
        let dates = &mut |key: &[u8], _| {
            let (date, study) = key
                .split_at_checked(8)
                .ok_or_else(|| damaged(Table::Date))?;
            let (study, _) = key::unpack(study).ok_or_else(|| damaged(Table::Date))?;
            if date != day || uids.len() >= CANDIDATES_MAX {
                day = date.to_vec();
                if self.sorted(std::mem::take(&mut uids), visit)?.is_break() {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            uids.push(study);
            Ok(self.look())
        };
        self.snapshot
            .each(Table::Date, range, Direction::Backward, dates)?;
        if !stopped && self.flow().is_continue() {
            self.sorted(uids, visit).map(|_| ())?;
        }
        Ok(())
    }
}
