//! Instance Availability: can what is answered be handed out now, with the volumes that are there?

use std::ops::ControlFlow;

use super::engine::Table;
use super::merge::KeptStudy;
use super::mixed::Part;
use super::query::{PATIENT_BIRTH_DATE, PATIENT_ID, PATIENT_NAME};
use super::snapshot::{Snapshot, decode, get};
use super::{IndexError, InstanceEntry, Values, key};
use crate::dicom::Level;

/// Instance Availability (0008,0056), the most available first. NEARLINE is not used: a volume is there or it is not.
///
/// Source: PS3.3 C.4.23.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// Handed out at once.
    Online,
    /// Somebody must attach a disk first.
    Offline,
    /// The index knows no such instance, or nothing below.
    Unavailable,
}

impl Availability {
    /// The value in an identifier.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Online => "ONLINE",
            Availability::Offline => "OFFLINE",
            Availability::Unavailable => "UNAVAILABLE",
        }
    }
}

/// What the counts of a study say of its instances.
enum Counted {
    /// Every one of them.
    All(Availability),
    /// Some are OFFLINE, some are not.
    SomeOffline,
    /// Some may be OFFLINE.
    Mixed,
}

impl Snapshot {
    /// How available an instance is, or the least available of those below a series, study or patient; `present`:
    /// is the volume of that id there? Only copies of the answered content count.
    ///
    /// Of the UIDs those of `level` and above are read; a patient is that of the study. To be asked only while a
    /// volume is absent: it then reads the study's record, and instances only of a study that is partly on that volume
    /// and whole on no other.
    ///
    /// Source: PS3.4 C.4.1.1.3.2; of several the least available.
    pub fn availability(
        &self,
        level: Level,
        study_instance_uid: &str,
        series_instance_uid: &str,
        sop_instance_uid: &str,
        present: &dyn Fn(&str) -> bool,
    ) -> Result<Availability, IndexError> {
        match level {
            Level::Patient => match self.study(study_instance_uid)? {
                Some(study) => {
                    let values = study.facts.values;
                    self.patient_availability(study_instance_uid, &values, present)
                }
                None => Ok(Availability::Unavailable),
            },
            Level::Study => match self.counted(study_instance_uid, present)? {
                Counted::All(availability) => Ok(availability),
                Counted::SomeOffline => Ok(Availability::Offline),
                Counted::Mixed => self.least_available(study_instance_uid, None, present),
            },
            Level::Series => {
                let series = self.series(study_instance_uid, series_instance_uid)?;
                if series.is_none_or(|series| series.instances_count == 0) {
                    return Ok(Availability::Unavailable);
                }
                match self.counted(study_instance_uid, present)? {
                    Counted::All(availability) => Ok(availability),
                    Counted::SomeOffline | Counted::Mixed => {
                        self.least_available(study_instance_uid, Some(series_instance_uid), present)
                    }
                }
            }
            Level::Instance => Ok(match self.by_sop(sop_instance_uid)? {
                Some(entry) => of_instance(&entry, present),
                None => Availability::Unavailable,
            }),
        }
    }

    /// As [`Snapshot::availability`] of a patient: of a study of several the one whose values these are.
    pub fn patient_availability(
        &self,
        study_instance_uid: &str,
        patient: &Values,
        present: &dyn Fn(&str) -> bool,
    ) -> Result<Availability, IndexError> {
        let Some(study) = self.study(study_instance_uid)? else {
            return Ok(Availability::Unavailable);
        };
        let mut parts = self.parts(study)?;
        let is_of = |part: &Part| {
            let own = &part.study.facts.values;
            let mut told = [PATIENT_ID, PATIENT_NAME, PATIENT_BIRTH_DATE].iter();
            told.all(|tag| own.get(tag) == patient.get(tag))
        };
        let at = parts.iter().position(is_of).unwrap_or(0);
        let study = parts.swap_remove(at).study;
        let mut least = None;
        self.each_of_patient(&study, &mut |study| {
            if study.instances_count > 0 {
                let uid = &study.facts.study_instance_uid;
                let one = self.availability(Level::Study, uid, "", "", present)?;
                least = least.max(Some(one));
            }
            Ok(match least {
                Some(Availability::Offline) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        })?;
        Ok(least.unwrap_or(Availability::Unavailable))
    }

    /// One record read.
    fn counted(
        &self,
        study_instance_uid: &str,
        present: &dyn Fn(&str) -> bool,
    ) -> Result<Counted, IndexError> {
        let key = key::pack(&[study_instance_uid]);
        let Some(content) = get(&*self.reader, Table::Study, &key)? else {
            return Ok(Counted::All(Availability::Unavailable));
        };
        let study: KeptStudy = decode(Table::Study, &content)?;
        let all = study.instances_count;
        if all == 0 {
            return Ok(Counted::All(Availability::Unavailable));
        }
        let mut absent = false;
        let (mut most, mut sum) = (0, 0u64);
        for (volume_id, there) in &study.volumes {
            if present(volume_id) {
                most = most.max(there.answered);
                sum = sum.saturating_add(there.answered);
            } else {
                absent |= there.answered > 0;
            }
        }
        Ok(if !absent || most >= all {
            Counted::All(Availability::Online)
        } else if sum == 0 {
            Counted::All(Availability::Offline)
        } else if sum < all {
            Counted::SomeOffline
        } else {
            Counted::Mixed
        })
    }

    /// Reads instances until one is found that is not there.
    fn least_available(
        &self,
        study_instance_uid: &str,
        series_instance_uid: Option<&str>,
        present: &dyn Fn(&str) -> bool,
    ) -> Result<Availability, IndexError> {
        let mut least = None;
        self.instances(study_instance_uid, series_instance_uid, &mut |entry| {
            least = least.max(Some(of_instance(&entry, present)));
            match least {
                Some(Availability::Online) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        Ok(least.unwrap_or(Availability::Unavailable))
    }
}

fn of_instance(entry: &InstanceEntry, present: &dyn Fn(&str) -> bool) -> Availability {
    let mut copies = entry.record.copies.iter();
    if copies.any(|copy| present(&copy.volume_id)) {
        Availability::Online
    } else {
        Availability::Offline
    }
}
