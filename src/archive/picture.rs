//! Which instance a small picture of a series is made of.

use std::ops::ControlFlow;

use crate::dicom::tags;
use crate::index::{IndexError, InstanceEntry, Snapshot};

use super::find::{FindError, Selected};
use super::places::key;
use super::{Archive, Selection};

/// Of a series with more instances the middle of so many is taken: each is a record to read.
const LOOKED_AT_MAX: usize = 10_000;

/// What there is to make a picture of.
#[derive(Debug, Clone)]
pub enum Pictured {
    Instance(Box<Selected>),
    /// Documents, waveforms, plans.
    NoImage,
    /// Nothing of that UID is answered.
    Unknown,
}

impl Archive {
    /// Of a series, the image in the middle by Instance Number; of an instance, that. UIDs at other levels are unknown.
    pub fn pictured(&self, of: &Selection) -> Result<Pictured, FindError> {
        let view = self.view()?;
        let snapshot = &view.snapshot;
        let found = match of {
            Selection::Series(uids) => match uids.first() {
                Some(uid) => middle_of(snapshot, uid),
                None => Ok(None),
            },
            Selection::Instances(uids) => match uids.first() {
                Some(uid) => snapshot.by_sop(uid),
                None => Ok(None),
            },
            Selection::Patients(_) | Selection::Studies(_) => Ok(None),
        };
        let found = found.inspect_err(|error| self.index_failed(error))?;
        Ok(match found {
            None => Pictured::Unknown,
            Some(entry) if !is_image(&entry) => Pictured::NoImage,
            Some(entry) => match Selected::of(entry) {
                Some(selected) => Pictured::Instance(Box::new(selected)),
                None => Pictured::Unknown,
            },
        })
    }
}

fn is_image(entry: &InstanceEntry) -> bool {
    entry.record.values.contains_key(&key(tags::ROWS))
}

/// One without an image only where there is no other.
fn middle_of(
    snapshot: &Snapshot,
    series_instance_uid: &str,
) -> Result<Option<InstanceEntry>, IndexError> {
    let Some(series) = snapshot.series_by_uid(series_instance_uid)? else {
        return Ok(None);
    };
    let (mut images, mut other) = (Vec::new(), None);
    let study = &series.facts.study_instance_uid;
    let mut left = LOOKED_AT_MAX;
    snapshot.instances(study, Some(series_instance_uid), &mut |entry| {
        match is_image(&entry) {
            true => {
                let number = entry.record.values.get(&key(tags::INSTANCE_NUMBER));
                let number = number.and_then(|text| text.trim().parse::<i64>().ok());
                images.push((number, entry.sop_instance_uid));
            }
            false => other = Some(entry.sop_instance_uid),
        }
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    images.sort();
    let middle = images.len() / 2;
    let uid = match images.into_iter().nth(middle) {
        Some((_, uid)) => Some(uid),
        None => other,
    };
    match uid {
        Some(uid) => snapshot.by_sop(&uid),
        None => Ok(None),
    }
}
