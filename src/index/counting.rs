//! What is counted of the archive, study by study.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Table};
use super::merge::{KeptSeries, KeptStudy};
use super::people::{identity_of, patient_of};
use super::query::{MODALITY, STUDY_DATE};
use super::snapshot::{Snapshot, decode};
use super::{IndexError, damaged, key};

/// (0008,1010).
const STATION_NAME: u32 = 0x0008_1010;

/// One study that has answered instances, as far as it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedStudy {
    pub study_instance_uid: String,
    /// The same for two studies of one patient: identifier and issuer; without one name and birth date; the study without
    /// any.
    pub patient: (String, String, String),
    /// As it is kept, or empty.
    pub study_date: String,
    pub series_count: u64,
    pub instances_count: u64,
    /// Data sets of the answered instances, each counted once.
    pub bytes: u64,
    /// Distinct, of its series.
    pub modalities: Vec<String>,
    /// Volume id → instances with a file there, and bytes of all their files there.
    pub volumes: BTreeMap<String, (u64, u64)>,
}

/// One series that has answered instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedSeries {
    pub modality: String,
    pub station_name: String,
    pub instances_count: u64,
    pub bytes: u64,
}

impl Snapshot {
    /// Every study with answered instances, in the order of keys, until the visitor stops.
    pub fn each_study(
        &self,
        f: &mut dyn FnMut(CountedStudy) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let all = (Vec::new(), Vec::new());
        self.each(
            Table::Study,
            all,
            Direction::Forward,
            &mut |key, content| {
                let (uid, _) = key::unpack(key).ok_or_else(|| damaged(Table::Study))?;
                let kept: KeptStudy = decode(Table::Study, content)?;
                let on_volumes = kept.volumes.iter();
                let volumes = on_volumes
                    .map(|(id, there)| (id.clone(), (there.instances, there.bytes)))
                    .collect();
                let Some(study) = kept.into_record(&uid).filter(|s| s.instances_count > 0) else {
                    return Ok(ControlFlow::Continue(()));
                };
                let date = study.facts.values.get(&STUDY_DATE);
                Ok(f(CountedStudy {
                    patient: match identity_of(&study) {
                        // Two people under one Patient ID are one here: that is among the conflicts.
                        Some((id, issuer)) => (id, issuer, String::new()),
                        None => patient_of(&study, None),
                    },
                    study_date: date.map_or_else(String::new, |date| date.trim().to_owned()),
                    series_count: study.series_count,
                    instances_count: study.instances_count,
                    bytes: study.bytes,
                    modalities: study.modalities,
                    volumes,
                    study_instance_uid: uid,
                }))
            },
        )
    }

    /// The series of a study that have answered instances. Reads their instances only where other contents are kept under
    /// the same UIDs.
    pub fn series_tallies(&self, study: &CountedStudy) -> Result<Vec<CountedSeries>, IndexError> {
        let uid = &study.study_instance_uid;
        let prefix = key::pack(&[uid]);
        let length = prefix.len();
        let mut tallies = Vec::new();
        let mut uids = Vec::new();
        self.each(
            Table::Series,
            key::prefix_range(prefix),
            Direction::Forward,
            &mut |key, content| {
                let unpacked = key::unpack(&key[length..]);
                let (series, _) = unpacked.ok_or_else(|| damaged(Table::Series))?;
                let kept: KeptSeries = decode(Table::Series, content)?;
                let bytes = kept.spread.values().map(|tally| tally.bytes).sum();
                let record = kept.into_record(uid, &series);
                let Some(record) = record.filter(|record| record.instances_count > 0) else {
                    return Ok(ControlFlow::Continue(()));
                };
                let text = |tag: u32| {
                    let value = record.facts.values.get(&tag);
                    value.map_or_else(String::new, |text| text.trim().to_owned())
                };
                tallies.push(CountedSeries {
                    modality: text(MODALITY),
                    station_name: text(STATION_NAME),
                    instances_count: record.instances_count,
                    bytes,
                });
                uids.push(series);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let counted: u64 = tallies.iter().map(|tally| tally.bytes).sum();
        if counted != study.bytes {
            // Not only what is answered was counted.
            for (tally, series) in tallies.iter_mut().zip(&uids) {
                tally.bytes = 0;
                self.instances(uid, Some(series), &mut |entry| {
                    let copy = entry.record.copies.first();
                    tally.bytes += copy.map_or(0, super::Copy::data_bytes);
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(tallies)
    }
}
