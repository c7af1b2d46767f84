//! Which studies a query can concern: the narrowest table tells, newest first.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

use super::engine::{Direction, Table};
use super::find::Search;
use super::glance::{Passes, Texts};
use super::matching::{self, Test};
use super::mixed::Part;
use super::plan::{Plan, date_range};
use super::query::*;
use super::snapshot::{Snapshot, Visited, get};
use super::{IndexError, StudyRecord, damaged, key};

/// Studies sorted in memory at most; a table that gives more candidates is no help, the dates are walked instead.
const CANDIDATES_MAX: usize = 10_000;

/// Where the UIDs of a query are: study → series → SOP Instance UIDs (empty: the whole series).
pub(super) type Located = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Studies whose hashes are kept, 16 MiB of them; what more can match is not worth picking out of all.
const HASHED_MAX: usize = 1_000_000;

/// Of folded values, and whether each is the whole value.
type Beginnings = Vec<(String, bool)>;

/// The keys of a table of values that begin so.
fn range_of((text, whole): &(String, bool)) -> (Vec<u8>, Vec<u8>) {
    key::prefix_range(match whole {
        true => key::value_prefix(text),
        false => key::cut(text).as_bytes().to_vec(),
    })
}

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
fn study_of(table: Table, key: &[u8]) -> Result<String, IndexError> {
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
        for beginning in beginnings {
            self.each(
                table,
                range_of(beginning),
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

/// Where the studies that fulfil a test of a value are found.
struct Way {
    table: Table,
    test: Test,
    beginnings: Option<Beginnings>,
}

impl Way {
    fn all(test: &Test, table: Table) -> Vec<Way> {
        let ways = test.ways(table).into_iter();
        ways.map(|(table, test)| Way {
            table,
            beginnings: test.beginnings(),
            test,
        })
        .collect()
    }

    /// Not a whole table.
    fn is_narrow(ways: &[Way]) -> bool {
        ways.iter().all(|way| way.beginnings.is_some())
    }
}

/// Studies that the tables of values say can match.
enum Found {
    /// Packed UIDs, fewer than [`CANDIDATES_MAX`].
    Few(BTreeSet<Vec<u8>>),
    /// Hashes of packed UIDs: what is taken for another is loaded, and the record decides.
    Many(HashSet<u64>, RandomState),
    /// More than [`HASHED_MAX`].
    Most,
}

impl Found {
    fn insert(&mut self, packed: &[u8]) {
        match self {
            Found::Few(studies) => {
                studies.insert(packed.to_vec());
                if studies.len() >= CANDIDATES_MAX {
                    let hasher = RandomState::new();
                    let hashes = studies.iter().map(|packed| hasher.hash_one(&packed[..]));
                    *self = Found::Many(hashes.collect(), hasher);
                }
            }
            Found::Many(hashes, hasher) => {
                hashes.insert(hasher.hash_one(packed));
                if hashes.len() >= HASHED_MAX {
                    *self = Found::Most;
                }
            }
            Found::Most => {}
        }
    }
}

impl Search<'_> {
    /// Calls `visit` with each study, or part of one, whose own record matches, newest first.
    ///
    /// Where the studies come from, by what is asked: UIDs; Patient ID, Accession Number or Patient's Name that begin
    /// with fewer than [`CANDIDATES_MAX`] studies; a range of dates with fewer; else the whole table of one of those
    /// three, its keys tested as they are; else all dates. Only the fourth way reads a table to its end before the first
    /// study comes.
    pub fn studies(&self, visit: &mut dyn FnMut(Part) -> Visited) -> Result<(), IndexError> {
        let plan = &self.plan;
        if let Some(located) = &self.located {
            return self.sorted(located.keys().cloned(), visit).map(|_| ());
        }
        if let Some(uids) = &plan.study_uids {
            return self.sorted(uids.iter().cloned(), visit).map(|_| ());
        }
        let dates = date_range(plan);
        if dates.as_ref().is_some_and(|(from, to)| from >= to) {
            return Ok(());
        }
        let mut best: Option<BTreeSet<String>> = None;
        let mut broad: Option<Vec<Way>> = None;
        for (table, tag) in [
            (Table::PatientId, PATIENT_ID),
            (Table::Accession, ACCESSION_NUMBER),
            (Table::Name, PATIENT_NAME),
        ] {
            let Some((_, test)) = plan.study.iter().find(|(key, _)| *key == tag) else {
                continue;
            };
            let ways = Way::all(test, table);
            let limit = best.as_ref().map_or(CANDIDATES_MAX, BTreeSet::len);
            if let Some(fewer) = self.fewer(&ways, limit)? {
                best = Some(fewer);
            }
            let narrower = match &broad {
                None => true,
                Some(kept) => !Way::is_narrow(kept) && Way::is_narrow(&ways),
            };
            if narrower {
                broad = Some(ways);
            }
        }
        let limit = best.as_ref().map_or(CANDIDATES_MAX, BTreeSet::len);
        if let Some(dates) = &dates
            && (best.is_some() || broad.is_some())
            && self.fewer_than(Table::Date, dates, limit)?
        {
            best = None;
            broad = None;
        }
        if let Some(found) = best {
            return self.sorted(found.into_iter(), visit).map(|_| ());
        }
        let found = match broad {
            Some(ways) => self.scan(&ways)?,
            None => Found::Most,
        };
        if self.flow().is_break() {
            return Ok(());
        }
        match found {
            Found::Few(studies) => {
                let uids = studies.iter().map(|packed| {
                    let unpacked = key::unpack(packed);
                    Ok(unpacked.ok_or_else(|| damaged(Table::Study))?.0)
                });
                let uids = uids.collect::<Result<Vec<String>, IndexError>>()?;
                self.sorted(uids.into_iter(), visit).map(|_| ())
            }
            Found::Many(hashes, hasher) => {
                let among = |packed: &[u8]| hashes.contains(&hasher.hash_one(packed));
                self.by_date(dates.unwrap_or_default(), &among, visit)
            }
            Found::Most => self.by_date(dates.unwrap_or_default(), &|_| true, visit),
        }
    }

    /// The studies of all ways; None when there are `limit` or more, or a way is a whole table.
    fn fewer(&self, ways: &[Way], limit: usize) -> Result<Option<BTreeSet<String>>, IndexError> {
        let mut found = BTreeSet::new();
        for way in ways {
            let Some(beginnings) = &way.beginnings else {
                return Ok(None);
            };
            match self.snapshot.candidates(way.table, beginnings, limit)? {
                Some(studies) => found.extend(studies),
                None => return Ok(None),
            }
        }
        Ok((found.len() < limit).then_some(found))
    }

    /// Tests what the tables keep of every value, of those with one of the beginnings if there are any.
    fn scan(&self, ways: &[Way]) -> Result<Found, IndexError> {
        let mut found = Found::Few(BTreeSet::new());
        let ranges = ways.iter().flat_map(|way| {
            let ranges = match &way.beginnings {
                Some(beginnings) => beginnings.iter().map(range_of).collect(),
                None => vec![(Vec::new(), Vec::new())],
            };
            ranges.into_iter().map(move |range| (way, range))
        });
        for (way, range) in ranges {
            let (table, test, pieces) = (way.table, &way.test, way.test.pieces());
            let each = &mut |key: &[u8], _: &[u8]| {
                // Nearly every entry ends here: before it is taken apart.
                if !pieces.may_be_in(key) {
                    return Ok(self.look());
                }
                let end = key.iter().position(|byte| *byte == 0);
                let parts = end.and_then(|end| Some((key.get(..end)?, key.get(end + 1..)?)));
                let (value, packed) = parts.ok_or_else(|| damaged(table))?;
                let value = std::str::from_utf8(value).map_err(|_| damaged(table))?;
                match test.may_match_kept(value) {
                    Some(true) => {
                        // Behind the study may be an instance of another patient.
                        let (_, rest) = key::unpack(packed).ok_or_else(|| damaged(table))?;
                        found.insert(&packed[..packed.len() - rest.len()]);
                    }
                    Some(false) => {}
                    None => found = Found::Most,
                }
                Ok(match found {
                    Found::Most => ControlFlow::Break(()),
                    _ => self.look(),
                })
            };
            self.snapshot.each(table, range, Direction::Forward, each)?;
        }
        Ok(found)
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
    fn sorted(
        &self,
        uids: impl Iterator<Item = String>,
        visit: &mut dyn FnMut(Part) -> Visited,
    ) -> Visited {
        let may_be_mixed = self.plan.by_patient && self.snapshot.has_mixed_studies()?;
        let passes = |values: &dyn Texts| self.plan.study_may_match(values);
        let passes = (!self.plan.study.is_empty()).then_some(&passes as Passes);
        let mut parts = Vec::new();
        for uid in uids {
            if self.look().is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let passes = match may_be_mixed && self.snapshot.is_mixed(&uid)? {
                // What it says itself is of one of its patients.
                true => None,
                false => passes,
            };
            let Some(study) = self.snapshot.study_if(&uid, passes)? else {
                continue;
            };
            let of_study = match self.plan.by_patient {
                true => self.snapshot.parts(study)?,
                false => vec![Part::whole(study)],
            };
            let of_study = of_study.into_iter();
            parts.extend(of_study.filter(|part| self.plan.study_matches(&part.study)));
        }
        parts.sort_by_cached_key(|part| newest(&part.study));
        for part in parts {
            if visit(part)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Walks the dates backwards, one day at a time, past the studies that are not among those that can match.
    fn by_date(
        &self,
        range: (Vec<u8>, Vec<u8>),
        among: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(Part) -> Visited,
    ) -> Result<(), IndexError> {
        let mut day = Vec::new();
        let mut uids: Vec<String> = Vec::new();
        let mut stopped = false;
        let each = &mut |key: &[u8], _: &[u8]| {
            let (date, packed) = key
                .split_at_checked(8)
                .ok_or_else(|| damaged(Table::Date))?;
            if !among(packed) {
                return Ok(self.look());
            }
            if date != day || uids.len() >= CANDIDATES_MAX {
                day = date.to_vec();
                if self
                    .sorted(std::mem::take(&mut uids).into_iter(), visit)?
                    .is_break()
                {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            let (study, _) = key::unpack(packed).ok_or_else(|| damaged(Table::Date))?;
            uids.push(study);
            Ok(self.look())
        };
        self.snapshot
            .each(Table::Date, range, Direction::Backward, each)?;
        if !stopped && self.flow().is_continue() {
            self.sorted(uids.into_iter(), visit).map(|_| ())?;
        }
        Ok(())
    }
}
