//! How much is in the archive: patients, studies, series, instances and bytes, in all or in groups.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::index::{CountedStudy, IndexError};

use super::Archive;

/// Distinct texts that groups are made of, at most: a sender that writes another station name in each series must not
/// fill the memory. What comes after goes to one group.
const GROUPS_MAX: usize = 10_000;
/// The name of that group.
const OTHERS: &str = "(others)";

/// What groups are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StatsBy {
    /// One group: everything.
    All,
    /// Of the series; a study counts in the group of each of its modalities.
    Modality,
    /// Of the study date.
    Month,
    /// Station Name of the series.
    Station,
    /// Where the files are; an instance counts on each volume that has one.
    Volume,
}

/// One group, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StatsRow {
    /// Empty: there is no such value.
    pub name: String,
    pub patients: u64,
    pub studies: u64,
    /// `None` by volume: a series may lie on several.
    pub series: Option<u64>,
    pub instances: u64,
    /// Of the answered data sets, each once; by volume of all files there, with what is around the data sets, second copies
    /// and other contents.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stats {
    pub all: StatsRow,
    /// By name; volumes in the order of the shelf.
    pub groups: Vec<StatsRow>,
    /// The index was not complete: so many percent of the ledgers are in it.
    pub rebuilding_percent: Option<u8>,
}

/// A group while it is counted.
#[derive(Default)]
struct Group {
    counted: StatsRow,
    /// Hashes of those seen: eight bytes for a patient, where names would fill the memory. Two of a million have the same
    /// in one of 37 million archives.
    patients: HashSet<u64>,
}

impl Group {
    fn add(&mut self, patient: u64, series: u64, instances: u64, bytes: u64) {
        self.patients.insert(patient);
        self.counted.studies += 1;
        *self.counted.series.get_or_insert(0) += series;
        self.counted.instances += instances;
        self.counted.bytes += bytes;
    }

    fn finish(mut self, name: String) -> StatsRow {
        self.counted.name = name;
        self.counted.patients = self.patients.len() as u64;
        self.counted
    }
}

impl Archive {
    /// Counts in one snapshot, so that nothing is held up and all numbers belong together. `go_on` is told after each
    /// study how many of how many were looked at.
    pub fn stats(
        &self,
        by: StatsBy,
        go_on: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Stats, IndexError> {
        let view = self.view()?;
        let snapshot = &view.snapshot;
        let total = snapshot.totals()?.studies;
        let mut done = 0;
        let mut all = Group::default();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut failed = None;
        snapshot
            .each_study(&mut |study| {
                let mut hasher = DefaultHasher::new();
                study.patient.hash(&mut hasher);
                let patient = hasher.finish();
                all.add(
                    patient,
                    study.series_count,
                    study.instances_count,
                    study.bytes,
                );
                let parts = match self.parts(&view.snapshot, by, &study) {
                    Ok(parts) => parts,
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                };
                for (name, (series, instances, bytes)) in parts {
                    let name = match groups.len() < GROUPS_MAX || groups.contains_key(&name) {
                        true => name,
                        false => OTHERS.to_owned(),
                    };
                    let group = groups.entry(name).or_default();
                    group.add(patient, series, instances, bytes);
                }
                done += 1;
                go_on(done, total)
            })
            .and_then(|()| failed.map_or(Ok(()), Err))
            .inspect_err(|error| self.index_failed(error))?;
        let mut groups: Vec<StatsRow> = groups
            .into_iter()
            .map(|(name, group)| group.finish(name))
            .collect();
        if by == StatsBy::Volume {
            groups = self.by_name_of_volume(groups);
        }
        Ok(Stats {
            all: all.finish(String::new()),
            groups,
            rebuilding_percent: view.rebuilding_percent,
        })
    }

    /// What of a study goes to which group: series, instances, bytes.
    fn parts(
        &self,
        snapshot: &crate::index::Snapshot,
        by: StatsBy,
        study: &CountedStudy,
    ) -> Result<BTreeMap<String, (u64, u64, u64)>, IndexError> {
        let whole = (study.series_count, study.instances_count, study.bytes);
        let one = |name: String| BTreeMap::from([(name, whole)]);
        Ok(match by {
            StatsBy::All => BTreeMap::new(),
            StatsBy::Month => one(month(&study.study_date)),
            // Most studies have one; then nothing below needs to be read.
            StatsBy::Modality if study.modalities.len() == 1 => one(study.modalities[0].clone()),
            StatsBy::Modality | StatsBy::Station => {
                let mut parts: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
                for series in snapshot.series_tallies(study)? {
                    let name = match by {
                        StatsBy::Station => series.station_name,
                        _ => series.modality,
                    };
                    let part = parts.entry(name).or_default();
                    part.0 += 1;
                    part.1 += series.instances_count;
                    part.2 += series.bytes;
                }
                parts
            }
            StatsBy::Volume => {
                let on_volumes = study.volumes.iter();
                on_volumes
                    .map(|(id, (instances, bytes))| (id.clone(), (0, *instances, *bytes)))
                    .collect()
            }
        })
    }

    fn by_name_of_volume(&self, groups: Vec<StatsRow>) -> Vec<StatsRow> {
        let members = self.shelf.all();
        let place = |id: &str| members.iter().position(|member| member.volume_id == id);
        let mut groups = groups;
        groups.sort_by_key(|group| place(&group.name).unwrap_or(usize::MAX));
        for group in &mut groups {
            group.series = None;
            if let Some(at) = place(&group.name) {
                group.name.clone_from(&members[at].name);
            }
        }
        groups
    }
}

/// `YYYY-MM` of a date as it is kept; empty of what is none.
fn month(date: &str) -> String {
    let digits: String = date.chars().filter(|c| *c != '.').take(6).collect();
    match digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{}-{}", &digits[..4], &digits[4..]),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_that_of_a_date_in_either_way_of_writing() {
        for (date, expected) in [
            ("20260115", "2026-01"),
            // As ACR-NEMA wrote it.
            ("2026.01.15", "2026-01"),
            ("2026", ""),
            ("", ""),
            ("yesterday", ""),
        ] {
            assert_eq!(month(date), expected, "{date}");
        }
    }
}
