//! Where the copies of a study lie, and what is known of them by reading them again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::index::{IndexError, InstanceEntry, Values};

use super::checked_status::VolumeChecked;
use super::content::contents;
use super::safety::{Judge, Safe};
use super::{Archive, CheckedStatus};

/// A study as an administrator looks at it.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StudyCopies {
    /// Version of this object's shape.
    pub version: u32,
    pub study_instance_uid: String,
    /// Of patient and study, by `group << 16 | element`.
    pub values: Values,
    pub modalities: Vec<String>,
    pub instances_count: u64,
    /// Data sets of the answered instances, each counted once.
    pub bytes: u64,
    /// In the order of their UIDs.
    pub series: Vec<SeriesCopies>,
    /// False: there are more instances than are looked at for one answer; the counts of copies end there.
    pub is_whole: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SeriesCopies {
    pub series_instance_uid: String,
    pub values: Values,
    pub instances_count: u64,
    /// When the first and the last of its instances came, RFC 3339.
    pub first_received: String,
    pub last_received: String,
    /// AE titles of those who sent them.
    pub sources: Vec<String>,
    /// How safe the least safe of its instances is: `two`, `one-disk` (two, but on one disk), `one`, `away` (only on volumes
    /// that are away) or `lost`.
    pub safe: String,
    /// On each volume.
    pub copies: Vec<CopiesOn>,
}

/// The copies of a series on one volume.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CopiesOn {
    pub volume: String,
    /// `archive` or `mirror`; empty of a volume that is not known any more.
    pub role: String,
    pub is_here: bool,
    /// Where they lie, the path of the volume included; the first few.
    pub folders: Vec<String>,
    pub good_count: u64,
    pub bad_count: u64,
    /// Of the files.
    pub bytes: u64,
    /// Everything here was in the last round that read the volume again, which ended then, RFC 3339; a copy that was made
    /// since was read after it was made. `None`: not everything was in a round yet.
    pub read_again: Option<String>,
}

/// Looked at for one answer.
const INSTANCES_MAX: u64 = 100_000;
/// Named for a series on a volume, and of its senders.
const NAMED_MAX: usize = 5;

impl Archive {
    /// `None`: no instance of that study is answered.
    pub fn study_copies(&self, study: &str) -> Result<Option<StudyCopies>, IndexError> {
        let judge = self.judge();
        let view = self.view()?;
        let read = || {
            let snapshot = &view.snapshot;
            let Some(record) = snapshot.study(study)?.filter(|s| s.instances_count > 0) else {
                return Ok(None);
            };
            let mut found = Found::default();
            snapshot.instances(study, None, &mut |entry| {
                if found.count == INSTANCES_MAX {
                    found.is_cut = true;
                    return ControlFlow::Break(());
                }
                found.take(&judge, &entry);
                ControlFlow::Continue(())
            })?;
            let checked = self.checked_status();
            let mut series = Vec::new();
            snapshot.series_of(study, &mut |record| {
                if record.instances_count > 0 {
                    let uid = record.facts.series_instance_uid;
                    let of = found.series.remove(&uid).unwrap_or_default();
                    series.push(SeriesCopies {
                        copies: self.copies_on(&of, &checked),
                        series_instance_uid: uid,
                        values: record.facts.values,
                        instances_count: record.instances_count,
                        safe: word(of.safe).to_owned(),
                        first_received: of.first_received,
                        last_received: of.last_received,
                        sources: of.sources.into_iter().collect(),
                    });
                }
                ControlFlow::Continue(())
            })?;
            Ok(Some(StudyCopies {
                version: 1,
                study_instance_uid: study.to_owned(),
                values: record.facts.values,
                modalities: record.modalities,
                instances_count: record.instances_count,
                bytes: record.bytes,
                series,
                is_whole: !found.is_cut,
            }))
        };
        read().inspect_err(|error| self.index_failed(error))
    }

    fn copies_on(&self, series: &OfSeries, checked: &CheckedStatus) -> Vec<CopiesOn> {
        let on = series.volumes.iter().map(|(id, on)| {
            let member = self.shelf.by_id(id);
            let volumes = &mut checked.volumes.iter();
            let checked = volumes.find(|checked| checked.volume_id == *id);
            let root = member.as_ref().map(|member| member.path.clone());
            let folder = |folder: &String| match &root {
                Some(root) => root.join(folder).display().to_string(),
                None => folder.clone(),
            };
            CopiesOn {
                is_here: member.as_ref().is_some_and(|m| m.here().is_some()),
                role: member
                    .as_ref()
                    .map_or(String::new(), |m| m.role.to_string()),
                volume: member.map_or_else(|| id.clone(), |member| member.name.clone()),
                folders: on.folders.iter().map(folder).collect(),
                good_count: on.good_count,
                bad_count: on.bad_count,
                bytes: on.bytes,
                read_again: checked.and_then(|checked| read_again(checked, &series.last_received)),
            }
        });
        on.collect()
    }
}

/// When the round ended that all files of a volume were in that were received until then. Files that were copied there later
/// are looked for in [`VolumeChecked::not_verified_count`].
fn read_again(checked: &VolumeChecked, last_received: &str) -> Option<String> {
    let round = checked.last_round.as_ref()?;
    let moment = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let was_there = moment(last_received)? < moment(&round.begun)?;
    (was_there && checked.not_verified_count == 0).then(|| round.ended.clone())
}

#[derive(Default)]
struct Found {
    series: HashMap<String, OfSeries>,
    judged: HashMap<Vec<String>, Safe>,
    count: u64,
    is_cut: bool,
}

#[derive(Default)]
struct OfSeries {
    volumes: BTreeMap<String, On>,
    safe: Option<Safe>,
    first_received: String,
    last_received: String,
    sources: BTreeSet<String>,
}

#[derive(Default)]
struct On {
    folders: BTreeSet<String>,
    good_count: u64,
    bad_count: u64,
    bytes: u64,
}

impl Found {
    /// Variants and conflicts count with the instance that is answered, as they do in every count of copies.
    fn take(&mut self, judge: &Judge, entry: &InstanceEntry) {
        self.count += 1;
        let uid = entry.series_instance_uid.clone();
        let series = self.series.entry(uid).or_default();
        for content in contents(entry) {
            let ids = content.volume_ids();
            let safe = self.judged.entry(ids);
            let safe = *safe.or_insert_with_key(|ids| judge.safe(ids));
            if series.safe.is_none_or(|worst| rank(safe) > rank(worst)) {
                series.safe = Some(safe);
            }
            series.note_receipt(&content.received, &content.source_ae_title);
            for copy in content.copies {
                let on = series.volumes.entry(copy.volume_id).or_default();
                match copy.bad {
                    true => on.bad_count += 1,
                    false => on.good_count += 1,
                }
                on.bytes += copy.size_bytes;
                let folder = copy.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                if on.folders.len() < NAMED_MAX && !on.folders.contains(folder) {
                    on.folders.insert(folder.to_owned());
                }
            }
        }
    }
}

impl OfSeries {
    fn note_receipt(&mut self, received: &str, source: &str) {
        if self.first_received.is_empty() || received < self.first_received.as_str() {
            self.first_received = received.to_owned();
        }
        if received > self.last_received.as_str() {
            self.last_received = received.to_owned();
        }
        if self.sources.len() < NAMED_MAX && !self.sources.contains(source) {
            self.sources.insert(source.to_owned());
        }
    }
}

/// The higher, the worse.
fn rank(safe: Safe) -> u8 {
    match safe {
        Safe::Two => 0,
        Safe::OneDisk => 1,
        Safe::One => 2,
        Safe::Away => 3,
        Safe::Lost => 4,
    }
}

fn word(safe: Option<Safe>) -> &'static str {
    match safe {
        Some(Safe::Two) => "two",
        Some(Safe::OneDisk) => "one-disk",
        Some(Safe::One) => "one",
        Some(Safe::Away) => "away",
        // Not looked at: see `is_whole`.
        None => "unknown",
        Some(Safe::Lost) => "lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::LastRound;

    #[test]
    fn only_what_was_there_when_a_round_began_was_read_in_it() {
        let mut checked = VolumeChecked::default();
        let of = |checked: &VolumeChecked| read_again(checked, "2026-01-02T00:00:00.000Z");
        assert_eq!(of(&checked), None);
        checked.last_round = Some(LastRound {
            begun: "2026-01-01T00:00:00Z".to_owned(),
            ended: "2026-01-03T00:00:00Z".to_owned(),
            ..LastRound::default()
        });
        assert_eq!(of(&checked), None);
        let begun = "2026-01-02T00:00:01Z".to_owned();
        checked.last_round.as_mut().unwrap().begun = begun;
        assert_eq!(of(&checked).as_deref(), Some("2026-01-03T00:00:00Z"));
        checked.not_verified_count = 1;
        assert_eq!(of(&checked), None);
    }
}
