//! Contents of which no good copy is left: how many, and who they are.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::index::{IndexError, Snapshot};

use super::Archive;
use super::content::contents;
use super::mirror::{Needs, whole};
use super::safety::{Judge, Need};

/// Named, of those that are lost.
const NAMED_MAX: usize = 100;

const PATIENT_NAME: u32 = 0x0010_0010;
const PATIENT_ID: u32 = 0x0010_0020;
const STUDY_DESCRIPTION: u32 = 0x0008_1030;

/// An instance of which no good copy is left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lost {
    pub sop_instance_uid: String,
    pub study_instance_uid: String,
    /// `YYYYMMDD`, the folder of the study's date.
    pub study_date: String,
    pub study_description: String,
    pub patient_name: String,
    pub patient_id: String,
    /// Where it was last: volume and path of each copy.
    pub places: Vec<String>,
}

impl Archive {
    /// How many contents are lost, and the first hundred; nothing while the index is being read in.
    pub(super) fn lost(&self) -> Result<(u64, Vec<Lost>), IndexError> {
        let Some(snapshot) = whole(self)? else {
            return Ok((0, Vec::new()));
        };
        let judge = self.judge();
        let mut needs = Needs::default();
        let (mut count, mut named) = (0, Vec::new());
        let mut places = Vec::new();
        snapshot.spread(&mut |series| {
            let is_lost = |ids: &[String], needs: &mut Needs| needs.of(ids, &judge) == Need::Lost;
            let lost = series.spread.iter();
            let lost: u64 = lost
                .filter(|spread| is_lost(&spread.volume_ids, &mut needs))
                .map(|spread| spread.contents_count)
                .sum();
            count += lost;
            if lost > 0 && places.len() < NAMED_MAX {
                places.push((series.study_instance_uid, series.series_instance_uid));
            }
            ControlFlow::Continue(())
        })?;
        for (study, series) in &places {
            self.name_lost_ones(&snapshot, &judge, study, series, &mut named)?;
        }
        Ok((count, named))
    }

    fn name_lost_ones(
        &self,
        snapshot: &Snapshot,
        judge: &Judge,
        study: &str,
        series: &str,
        named: &mut Vec<Lost>,
    ) -> Result<(), IndexError> {
        let facts = snapshot.study(study)?.map(|record| record.facts);
        let value = |tag: u32| {
            let values = facts.as_ref().map(|facts| &facts.values);
            values
                .and_then(|values| values.get(&tag).cloned())
                .unwrap_or_default()
        };
        snapshot.instances(study, Some(series), &mut |entry| {
            for content in contents(&entry) {
                if judge.need(&content.volume_ids()) != Need::Lost {
                    continue;
                }
                let copies = content.copies.iter();
                let places = copies
                    .map(|copy| format!("volume {}: {}", self.name_of(&copy.volume_id), copy.path));
                named.push(Lost {
                    sop_instance_uid: content.sop_instance_uid.clone(),
                    study_instance_uid: study.to_owned(),
                    study_date: facts
                        .as_ref()
                        .map_or_else(String::new, |f| f.date_folder.clone()),
                    study_description: value(STUDY_DESCRIPTION),
                    patient_name: value(PATIENT_NAME),
                    patient_id: value(PATIENT_ID),
                    places: places.collect(),
                });
            }
            match named.len() < NAMED_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
    }
}
