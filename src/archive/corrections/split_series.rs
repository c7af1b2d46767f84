//! A Series Instance UID in several studies: each study answers its own part.

use std::ops::ControlFlow;

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::index::{SeriesRecord, Snapshot};

use super::super::places::key;
use super::CorrectionError;
use super::conflicts::{Conflicts, Dismissed, TOLD_MAX, dismissed_by, id};

/// Instances of one Series Instance UID are in several studies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SplitSeries {
    pub id: String,
    pub series_instance_uid: String,
    /// In the order in which they came.
    pub parts: Vec<SeriesPart>,
    pub settled_by: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SeriesPart {
    pub study_instance_uid: String,
    pub patient_id: String,
    pub patient_name: String,
    pub modality: String,
    pub instances_count: u64,
    /// The first of them.
    pub sop_instance_uid: String,
}

impl SplitSeries {
    /// The series, and the studies that a dismissal notes.
    pub(super) fn seen(&self) -> Vec<String> {
        let parts = self.parts.iter();
        parts.map(|part| part.study_instance_uid.clone()).collect()
    }
}

pub(super) fn add_series(
    snapshot: &Snapshot,
    all: bool,
    dismissed: &Dismissed,
    found: &mut Conflicts,
) -> Result<(), CorrectionError> {
    let mut failed = None;
    snapshot.series_in_several_studies(
        &mut |uid, records| match told(snapshot, uid, &records) {
            Ok(mut told) => {
                told.settled_by = dismissed_by(dismissed, "SERIES", uid, &told.seen());
                found.settled_count += u64::from(told.settled_by.is_some());
                found.series_count += u64::from(told.settled_by.is_none());
                if (all || told.settled_by.is_none()) && found.series.len() < TOLD_MAX {
                    found.series.push(told);
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

fn told(
    snapshot: &Snapshot,
    uid: &str,
    records: &[SeriesRecord],
) -> Result<SplitSeries, CorrectionError> {
    let mut parts = Vec::new();
    for record in records {
        let study_uid = &record.facts.study_instance_uid;
        let study = snapshot.study(study_uid)?;
        let of_study = study.map(|study| study.facts.values).unwrap_or_default();
        let value = |tag| of_study.get(&key(tag)).cloned().unwrap_or_default();
        let mut first = String::new();
        snapshot.instances(study_uid, Some(uid), &mut |entry| {
            first = entry.sop_instance_uid;
            ControlFlow::Break(())
        })?;
        parts.push(SeriesPart {
            study_instance_uid: study_uid.clone(),
            patient_id: value(tags::PATIENT_ID),
            patient_name: value(tags::PATIENT_NAME),
            modality: record
                .facts
                .values
                .get(&key(tags::MODALITY))
                .cloned()
                .unwrap_or_default(),
            instances_count: record.instances_count,
            sop_instance_uid: first,
        });
    }
    Ok(SplitSeries {
        id: id('r', uid),
        series_instance_uid: uid.to_owned(),
        parts,
        settled_by: None,
    })
}
