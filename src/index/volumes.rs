//! What is on a volume: counts, and its instances study by study.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::engine::{Direction, Table};
use super::merge::OnVolume;
use super::snapshot::{Snapshot, decode};
use super::{Copy, IndexError, InstanceEntry, damaged, key};

/// Folder of studies without a date.
const NO_DATE: &str = "00000000";

/// An entry of the table: what [`super::merge::KeptStudy`] says of the volume, and the date of the study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptVolumeStudy {
    pub there: OnVolume,
    pub date_folder: String,
}

/// `pack(volume id) · pack(study)`.
pub(super) fn key_of(volume_id: &str, packed_study: &[u8]) -> Vec<u8> {
    let mut key = key::pack(&[volume_id]);
    key.extend_from_slice(packed_study);
    key
}

/// What is on one volume, by the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeTotals {
    /// With at least one file there, also if that is a variant or a conflict of the content that is answered.
    pub instances_count: u64,
    /// Size of all their files there, file meta information included.
    pub bytes: u64,
    /// With at least one of those instances.
    pub studies_count: u64,
    /// First and last date folder of those studies, `YYYYMMDD`; studies without a date do not count.
    pub oldest_date: Option<String>,
    pub newest_date: Option<String>,
}

impl Snapshot {
    /// Reads one entry for each study on the volume.
    pub fn volume_totals(&self, volume_id: &str) -> Result<VolumeTotals, IndexError> {
        let mut totals = VolumeTotals::default();
        self.each(
            Table::VolumeStudy,
            key::prefix_range(key_of(volume_id, &[])),
            Direction::Forward,
            &mut |_, content| {
                let kept: KeptVolumeStudy = decode(Table::VolumeStudy, content)?;
                totals.instances_count += kept.there.instances;
                totals.bytes += kept.there.bytes;
                totals.studies_count += 1;
                let date = kept.date_folder;
                if date != NO_DATE {
                    if totals.oldest_date.as_ref().is_none_or(|kept| date < *kept) {
                        totals.oldest_date = Some(date.clone());
                    }
                    if totals.newest_date.as_ref().is_none_or(|kept| date > *kept) {
                        totals.newest_date = Some(date);
                    }
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(totals)
    }

    /// Every instance with a file on the volume, be it of the answered content or of another, study by study in the
    /// order of keys (that of UIDs, for those of digits and dots), until the visitor stops.
    ///
    /// `after_study`: begins with the study after that one, whether or not that one is still there.
    pub fn on_volume(
        &self,
        volume_id: &str,
        after_study: Option<&str>,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let (mut from, to) = key::prefix_range(key_of(volume_id, &[]));
        let length = from.len();
        if let Some(study) = after_study {
            key::pack_into(&mut from, study);
            from = key::successor(&from);
        }
        let there = |copy: &Copy| copy.volume_id == volume_id;
        self.each(
            Table::VolumeStudy,
            (from, to),
            Direction::Forward,
            &mut |key, _| {
                let (study, _) =
                    key::unpack(&key[length..]).ok_or_else(|| damaged(Table::VolumeStudy))?;
                let mut flow = ControlFlow::Continue(());
                self.instances(&study, None, &mut |entry| {
                    let record = &entry.record;
                    let others = record.others.iter().flat_map(|other| &other.copies);
                    if record.copies.iter().chain(others).any(there) {
                        flow = f(entry);
                    }
                    flow
                })?;
                Ok(flow)
            },
        )
    }
}
