//! On which volumes the contents of a series have good copies: what says how many copies there are, and what still needs
//! one, without reading the instances.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::engine::{Direction, Table};
use super::merge::UNHEARD;
use super::record::MODALITY;
use super::snapshot::{Snapshot, get};
use super::{Copy, IndexError, InstanceEntry, damaged, key};

/// Contents that are on the same volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Answered ones, variants and conflicts.
    pub contents: u64,
    /// Of their data sets, each content once.
    pub bytes: u64,
}

impl Tally {
    /// One content, of which this is a copy.
    pub fn of(copy: &Copy) -> Tally {
        Tally {
            contents: 1,
            bytes: copy.data_bytes(),
        }
    }

    pub fn add(&mut self, other: Tally) {
        self.contents = self.contents.saturating_add(other.contents);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub fn take(&mut self, other: Tally) {
        self.contents = self.contents.saturating_sub(other.contents);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// What an instance, with all contents under its UID, adds to the series that it is answered from.
pub(super) fn of(entry: &InstanceEntry) -> BTreeMap<Vec<String>, Tally> {
    let record = &entry.record;
    let others = record.others.iter().map(|other| &other.copies);
    let mut spread: BTreeMap<Vec<String>, Tally> = BTreeMap::new();
    for copies in std::iter::once(&record.copies).chain(others) {
        // Sorted as the copies are; several on one volume count once.
        let good = copies.iter().filter(|copy| !copy.bad);
        let mut volume_ids: Vec<String> = good.map(|copy| copy.volume_id.clone()).collect();
        volume_ids.dedup();
        if let Some(copy) = copies.first() {
            spread.entry(volume_ids).or_default().add(Tally::of(copy));
        }
    }
    spread
}

/// How the contents of one series lie on the volumes.
///
/// The contents of an instance count in the series that the instance is answered from, variants and conflicts too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSpread {
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    /// Relative path of the series' folder, `YYYYMMDD/MODALITY/…`.
    pub folder: String,
    /// (0008,0060), or empty.
    pub modality: String,
    /// Empty for a series without answered instances.
    pub spread: Vec<Spread>,
}

/// Contents that have good copies on just these volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Sorted, none twice; empty: no copy of these contents is good.
    pub volume_ids: Vec<String>,
    /// Never 0.
    pub contents_count: u64,
    /// Of their data sets, each content once.
    pub bytes: u64,
}

/// The beginning of [`super::merge::KeptSeries`], same fields in the same order: texts that are not told are not copied.
#[derive(Deserialize)]
struct Beginning<'a> {
    spread: BTreeMap<Vec<String>, Tally>,
    sequence: u64,
    folder: &'a str,
    #[serde(borrow)]
    values: BTreeMap<u32, &'a str>,
}

/// None where only corrections speak of the series that are not in effect.
fn decode(
    study: String,
    series: String,
    content: &[u8],
) -> Result<Option<SeriesSpread>, IndexError> {
    let (kept, _): (Beginning, _) =
        postcard::take_from_bytes(content).map_err(|_| damaged(Table::Series))?;
    if kept.sequence == UNHEARD {
        return Ok(None);
    }
    let spread = kept.spread.into_iter().map(|(volume_ids, tally)| Spread {
        volume_ids,
        contents_count: tally.contents,
        bytes: tally.bytes,
    });
    let modality = kept.values.get(&MODALITY).copied().unwrap_or_default();
    Ok(Some(SeriesSpread {
        study_instance_uid: study,
        series_instance_uid: series,
        folder: kept.folder.to_owned(),
        modality: modality.trim().to_owned(),
        spread: spread.collect(),
    }))
}

impl Snapshot {
    /// How the contents of every series lie on the volumes, in the order of keys, until the visitor stops. Reads one record
    /// a series.
    pub fn spread(
        &self,
        f: &mut dyn FnMut(SeriesSpread) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.each(
            Table::Series,
            (Vec::new(), Vec::new()),
            Direction::Forward,
            &mut |key, content| {
                let unpacked = key::unpack(key).and_then(|(study, rest)| {
                    let (series, _) = key::unpack(rest)?;
                    Some((study, series))
                });
                let (study, series) = unpacked.ok_or_else(|| damaged(Table::Series))?;
                Ok(match decode(study, series, content)? {
                    Some(spread) => f(spread),
                    None => ControlFlow::Continue(()),
                })
            },
        )
    }

    /// None for a series that was never heard of.
    pub fn spread_of(
        &self,
        study_instance_uid: &str,
        series_instance_uid: &str,
    ) -> Result<Option<SeriesSpread>, IndexError> {
        let key = key::pack(&[study_instance_uid, series_instance_uid]);
        match get(&*self.reader, Table::Series, &key)? {
            Some(content) => decode(
                study_instance_uid.to_owned(),
                series_instance_uid.to_owned(),
                &content,
            ),
            None => Ok(None),
        }
    }
}
