//! How many good copies there are of everything, now.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::index::{IndexError, Snapshot};

use super::content::contents;
use super::safety::{Judge, Need, Safe};
use super::{Archive, due, mirror};

/// Counts of instances; one that is kept in several forms counts with each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CopiesStatus {
    /// False while the index is being read in: nothing is counted then.
    pub known: bool,
    /// Two good copies that can be read now, on two disks.
    pub two_count: u64,
    /// Two good copies, but on one disk, or on disks that are not known to be two.
    pub one_disk_count: u64,
    /// One good copy that can be read now.
    pub one_count: u64,
    /// When the oldest of those with one copy that wait for their second was received, RFC 3339.
    pub one_oldest: Option<String>,
    /// No copy can be read now, but there is a good one on a volume that is away.
    pub away_count: u64,
    /// No good copy.
    pub lost_count: u64,
    /// The first thousand of these.
    pub lost: Vec<LostInstance>,
    /// When second copies were last made, RFC 3339.
    pub last_mirror: Option<String>,
}

/// An instance of which no copy is good: what is needed to find it at the modality and send it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LostInstance {
    pub patient_name: String,
    pub patient_id: String,
    /// `YYYYMMDD`.
    pub study_date: String,
    pub study_description: String,
    pub modality: String,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub sop_instance_uid: String,
    /// Where it was: volume and path of each copy.
    pub last_known: Vec<LastKnown>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastKnown {
    pub volume: String,
    pub path: String,
}

/// Lost instances that are named.
const LOST_MAX: usize = 1_000;
/// Series that are asked for their oldest instance; with more the answer is "at least so old".
const OLDEST_SERIES_MAX: usize = 20_000;

const PATIENT_NAME: u32 = 0x0010_0010;
const PATIENT_ID: u32 = 0x0010_0020;
const STUDY_DATE: u32 = 0x0008_0020;
const STUDY_DESCRIPTION: u32 = 0x0008_1030;

impl Archive {
    /// How many good copies there are now.
    pub fn copies(&self) -> CopiesStatus {
        self.copies_status(&self.judge())
    }

    pub(super) fn copies_status(&self, judge: &Judge) -> CopiesStatus {
        let counted = mirror::whole(self).and_then(|snapshot| match snapshot {
            Some(snapshot) => self.count_copies(judge, &snapshot),
            None => Ok(CopiesStatus::default()),
        });
        counted.unwrap_or_else(|error| {
            self.index_failed(&error);
            CopiesStatus::default()
        })
    }

    fn count_copies(&self, judge: &Judge, snapshot: &Snapshot) -> Result<CopiesStatus, IndexError> {
        let mut status = CopiesStatus {
            known: true,
            last_mirror: self.kept_mirror().last_run.map(|run| run.ended),
            ..CopiesStatus::default()
        };
        let mut judged: HashMap<Vec<String>, (Safe, Need)> = HashMap::new();
        let mut waiting = Vec::new();
        let mut lost = Vec::new();
        snapshot.spread(&mut |series| {
            let (mut waits, mut loses) = (false, false);
            let is_in = self
                .mirror_config
                .now()
                .in_period(&series.modality, &due::date_of(&series.folder));
            for spread in series.spread {
                let (safe, need) = *judged
                    .entry(spread.volume_ids)
                    .or_insert_with_key(|ids| (judge.safe(ids), judge.need(ids)));
                let count = spread.contents_count;
                match safe {
                    Safe::Two => status.two_count += count,
                    Safe::OneDisk => status.one_disk_count += count,
                    Safe::One => status.one_count += count,
                    Safe::Away => status.away_count += count,
                    Safe::Lost => status.lost_count += count,
                }
                let one = matches!(safe, Safe::One | Safe::OneDisk);
                waits |= one && is_in && (need != Need::Nothing || !judge.has_mirror());
                loses |= safe == Safe::Lost;
            }
            let place = (series.study_instance_uid, series.series_instance_uid);
            if loses && lost.len() < LOST_MAX {
                lost.push(place.clone());
            }
            if waits && waiting.len() < OLDEST_SERIES_MAX {
                waiting.push(place);
            }
            ControlFlow::Continue(())
        })?;
        for (study, series) in waiting {
            snapshot.instances(&study, Some(&series), &mut |entry| {
                let received = entry.record.received;
                if status
                    .one_oldest
                    .as_ref()
                    .is_none_or(|kept| received < *kept)
                {
                    status.one_oldest = Some(received);
                }
                ControlFlow::Break(())
            })?;
        }
        for (study, series) in lost {
            self.name_lost(judge, snapshot, (&study, &series), &mut status.lost)?;
        }
        Ok(status)
    }

    /// Names those instances of a series of which no copy is good, until there are enough.
    pub(super) fn name_lost(
        &self,
        judge: &Judge,
        snapshot: &Snapshot,
        (study, series): (&str, &str),
        into: &mut Vec<LostInstance>,
    ) -> Result<(), IndexError> {
        let mut values = snapshot
            .study(study)?
            .map(|study| study.facts.values)
            .unwrap_or_default();
        let modality = snapshot
            .spread_of(study, series)?
            .map(|series| series.modality)
            .unwrap_or_default();
        let mut value = |tag| values.remove(&tag).unwrap_or_default();
        let named = LostInstance {
            patient_name: value(PATIENT_NAME),
            patient_id: value(PATIENT_ID),
            study_date: value(STUDY_DATE),
            study_description: value(STUDY_DESCRIPTION),
            modality,
            study_instance_uid: study.to_owned(),
            series_instance_uid: series.to_owned(),
            sop_instance_uid: String::new(),
            last_known: Vec::new(),
        };
        snapshot.instances(study, Some(series), &mut |entry| {
            for content in contents(&entry) {
                if judge.safe(&content.volume_ids()) != Safe::Lost || into.len() >= LOST_MAX {
                    continue;
                }
                let place = |copy: crate::index::Copy| LastKnown {
                    volume: match self.shelf.by_id(&copy.volume_id) {
                        Some(member) => member.name.clone(),
                        None => copy.volume_id,
                    },
                    path: copy.path,
                };
                into.push(LostInstance {
                    sop_instance_uid: content.sop_instance_uid,
                    last_known: content.copies.into_iter().map(place).collect(),
                    ..named.clone()
                });
            }
            match into.len() < LOST_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
    }

    /// What an administrator is to do about copies, a sentence each. `lost_with_disk`: what is lost is spoken of already.
    pub(super) fn copies_actions(
        &self,
        judge: &Judge,
        status: &CopiesStatus,
        lost_with_disk: bool,
    ) -> Vec<String> {
        let mut actions = Vec::new();
        if status.lost_count > 0 && !lost_with_disk {
            actions.push(format!(
                "{} instances have no good copy left: send them again from the modality; kura status --json names them",
                status.lost_count
            ));
        }
        for id in judge.mirrors_without_a_disk_of_their_own() {
            if let Some(member) = self.shelf.by_id(&id) {
                actions.push(format!(
                    "mirror volume {} is on the same disk as the archive (or that cannot be told): put it on a disk of its own, or set allow_same_device",
                    member.name
                ));
            }
        }
        let days = self.mirror_config.now().overdue_days;
        let overdue = status.one_oldest.as_ref().filter(|at| {
            let age = at.parse::<jiff::Timestamp>().map(|at| {
                let age = jiff::Timestamp::now().duration_since(at);
                age.as_secs()
            });
            age.is_ok_and(|age| age > days as i64 * 86_400)
        });
        if let Some(oldest) = overdue {
            let waiting = status.one_count + status.one_disk_count;
            let what =
                format!("{waiting} instances have no second copy, the oldest since {oldest}");
            actions.push(match judge.has_mirror() {
                false => format!(
                    "{what}: add a disk for them with: kura volume add NAME PATH --role mirror"
                ),
                true => format!("{what}: kura mirror status says why, kura mirror run copies now"),
            });
        }
        actions
    }
}
