//! How several statements about one study, series or instance become one record.
//!
//! Ledgers are read in any order, and each again from any earlier position to its end. The rule that makes the same
//! record of it every time:
//!
//! - A file (volume and path) is named by one ledger only, whose lines come in their order. What counts of it are the
//!   [`Stored`](super::Stored) statements after its last [`Gone`](super::Gone); reading on from an earlier position ends
//!   with the same ones. It is bad if a [`Bad`](super::Bad) statement follows the last `Stored` one.
//! - A correction is what its first and its last line say, by sequence. Rulings are a set, which only grows.
//! - An instance is what the counting statements of all its files say together, with the rulings on it and what
//!   corrections are in effect, as if the others had never been made ([`super::contents`]): a content counts or is hidden;
//!   of those that count the highest rank wins, then the lower archive-wide sequence number, ties are broken by content.
//!   Each copy therefore keeps what was said with it, by each correction.
//! - Values that were found later ([`Filled`](super::Filled)) are said by a file, as the rest is; an instance has them
//!   from any of its copies, a study or series as from a line that says nothing else. An empty one counts only where there
//!   is no other.
//! - A study or series is what *all* statements say, those of files that are gone too: its folder and values do not
//!   change when an instance moves, and later lines of a ledger lean on them. What each correction says is kept apart, in
//!   a layer; those in effect cover the ones below.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{MODALITY, tag_of};
use super::spread::Tally;
use super::{SeriesFacts, SeriesRecord, StudyFacts, StudyRecord, Values};
use crate::dicom::attributes::is_standard;

/// Values of a study or series, each with the sequence of the statement it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merged {
    pub sequence: u64,
    /// The folder that the statement with the lowest sequence chose.
    pub folder: String,
    pub values: Values,
    /// Sequence of those values that do not come from `sequence`.
    later: BTreeMap<u32, u64>,
}

/// What one line says of a study or series.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub sequence: u64,
    /// The correction whose line it is, or 0.
    pub by: u64,
    pub folder: &'a str,
    pub values: &'a Values,
}

impl<'a> Said<'a> {
    fn told(self) -> impl Iterator<Item = (&'a u32, &'a String)> {
        told(self.by, self.values)
    }
}

/// An empty text of a correction is a value: there is none any more. Of an extra key it says that it was looked for.
/// Elsewhere it says nothing.
fn told(by: u64, values: &Values) -> impl Iterator<Item = (&u32, &String)> {
    let values = values.iter();
    values.filter(move |(tag, text)| by != 0 || !text.is_empty() || !is_standard(tag_of(**tag)))
}

/// Of two statements of a layer about a value the lower one counts.
fn rank(by: u64, tag: u32, sequence: u64, text: &str) -> (bool, u64, &str) {
    // That it is not in one image says little, if it is in another.
    let says_little = text.is_empty() && (by == 0 || !is_standard(tag_of(tag)));
    (says_little, sequence, text)
}

impl Merged {
    fn new(said: Said) -> Merged {
        Merged {
            sequence: said.sequence,
            folder: said.folder.to_owned(),
            values: said
                .told()
                .map(|(tag, text)| (*tag, text.clone()))
                .collect(),
            later: BTreeMap::new(),
        }
    }

    /// Takes in another statement of the same layer: lower sequences win, value by value. True when anything changed.
    fn merge(&mut self, said: Said) -> bool {
        let Said {
            sequence, folder, ..
        } = said;
        if sequence > self.sequence && self.values == *said.values && self.later.is_empty() {
            return false;
        }
        let mut changed = false;
        if sequence < self.sequence {
            // All that came from the lowest so far is later now.
            for tag in self.values.keys() {
                self.later.entry(*tag).or_insert(self.sequence);
            }
            self.folder.clear();
            self.folder.push_str(folder);
            self.sequence = sequence;
            changed = true;
        } else if sequence == self.sequence && *folder < *self.folder {
            folder.clone_into(&mut self.folder);
            changed = true;
        }
        for (tag, text) in said.told() {
            changed |= self.put(said.by, *tag, sequence, text);
        }
        changed
    }

    /// Takes in values that were found later. They say nothing of the folder, whatever their sequence.
    fn fill(&mut self, by: u64, sequence: u64, values: &Values) -> bool {
        let mut changed = false;
        for (tag, text) in told(by, values) {
            changed |= self.put(by, *tag, sequence, text);
        }
        changed
    }

    /// True when that counts now.
    fn put(&mut self, by: u64, tag: u32, sequence: u64, text: &str) -> bool {
        let kept = self.values.get(&tag).map(|kept| {
            let sequence = self.later.get(&tag).copied().unwrap_or(self.sequence);
            rank(by, tag, sequence, kept)
        });
        if kept.is_some_and(|kept| kept <= rank(by, tag, sequence, text)) {
            return false;
        }
        self.values.insert(tag, text.to_owned());
        if sequence == self.sequence {
            self.later.remove(&tag);
        } else {
            self.later.insert(tag, sequence);
        }
        true
    }
}

/// What the lines of one correction say of a study or series, or those of none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// That of no correction always is.
    in_effect: bool,
    merged: Merged,
}

/// By the number of the correction, 0 for none. Empty unless a correction says anything: then what no correction says is
/// what is told, and is not written twice.
pub(super) type Layers = BTreeMap<u64, Layer>;

/// Takes in what a line says; `in_effect`: whether its correction is. True when anything changed.
fn take_in(told: &mut Merged, layers: &mut Layers, said: Said, in_effect: bool) -> bool {
    if said.by == 0 && layers.is_empty() {
        return told.merge(said);
    }
    if layers.is_empty() {
        let ordinary = Layer {
            in_effect: true,
            merged: told.clone(),
        };
        layers.insert(0, ordinary);
    }
    let changed = match layers.get_mut(&said.by) {
        Some(layer) => layer.merged.merge(said),
        None => {
            let merged = Merged::new(said);
            layers.insert(said.by, Layer { in_effect, merged });
            true
        }
    };
    if changed {
        *told = effective(layers);
    }
    changed
}

/// Takes in values found later, of what a correction made, or of what none did. True when anything changed.
fn fill(told: &mut Merged, layers: &mut Layers, by: u64, sequence: u64, values: &Values) -> bool {
    if layers.is_empty() {
        return by == 0 && told.fill(by, sequence, values);
    }
    let layer = layers.get_mut(&by);
    let changed = layer.is_some_and(|layer| layer.merged.fill(by, sequence, values));
    if changed {
        *told = effective(layers);
    }
    changed
}

/// What the first line says: what is told, and the layers.
fn begin(said: Said, in_effect: bool) -> (Merged, Layers) {
    let merged = Merged::new(said);
    if said.by == 0 {
        return (merged, Layers::new());
    }
    let layers = Layers::from([(said.by, Layer { in_effect, merged })]);
    (effective(&layers), layers)
}

/// A correction came in effect, or out of it. True when it has a layer here and that changed.
fn decide(told: &mut Merged, layers: &mut Layers, by: u64, in_effect: bool) -> bool {
    match layers.get_mut(&by) {
        Some(layer) if layer.in_effect != in_effect => {
            layer.in_effect = in_effect;
            *told = effective(layers);
            true
        }
        _ => false,
    }
}

/// The sequence of what was never heard of: corrections that are not in effect alone speak of it. No line has it.
pub(super) const UNHEARD: u64 = u64::MAX;

/// The highest layer in effect that has a value tells it; a blank is told by nobody, but hides what is below.
fn effective(layers: &Layers) -> Merged {
    let mut told = Merged {
        sequence: UNHEARD,
        folder: String::new(),
        values: Values::new(),
        later: BTreeMap::new(),
    };
    for layer in layers.values().filter(|layer| layer.in_effect) {
        let merged = &layer.merged;
        told.sequence = told.sequence.min(merged.sequence);
        told.folder.clone_from(&merged.folder);
        for (tag, text) in &merged.values {
            told.values.insert(*tag, text.clone());
        }
    }
    told.values.retain(|_, text| !text.is_empty());
    told
}

/// What the lines of one correction say, or with 0 those of none.
fn layer(told: Merged, mut layers: Layers, by: u64) -> Option<Merged> {
    if layers.is_empty() {
        return (by == 0).then_some(told);
    }
    layers.remove(&by).map(|layer| layer.merged)
}

/// A study as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptStudy {
    /// What is told.
    pub merged: Merged,
    pub series_count: u64,
    pub instances_count: u64,
    /// Modality → how many series with instances have it.
    pub modalities: BTreeMap<String, u64>,
    /// SOP class → how many instances are of it.
    pub sop_classes: BTreeMap<String, u64>,
    pub bytes: u64,
    /// Volume id → what of the study is there; none that has nothing.
    pub volumes: BTreeMap<String, OnVolume>,
    layers: Layers,
}

impl KeptStudy {
    /// What of `tags` was told before each correction that is in effect now; none for a study that nobody corrected.
    pub fn told_before(&self, tags: &[u32]) -> Vec<Values> {
        let mut told = Values::new();
        let mut before = Vec::new();
        for layer in self.layers.values().filter(|layer| layer.in_effect) {
            before.push(told.clone());
            for (tag, text) in &layer.merged.values {
                if tags.contains(tag) {
                    told.insert(*tag, text.clone());
                }
            }
        }
        before.retain(|told| !told.is_empty());
        before
    }
}

/// What of a study is on a volume. An instance belongs to the study it is answered from, with all that is kept under
/// its SOP Instance UID.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OnVolume {
    /// With at least one file there, of whatever content.
    pub instances: u64,
    /// With at least one file there of the content that is answered.
    pub answered: u64,
    /// Size of all the files there.
    pub bytes: u64,
}

impl OnVolume {
    pub fn add(&mut self, other: OnVolume) {
        self.instances = self.instances.saturating_add(other.instances);
        self.answered = self.answered.saturating_add(other.answered);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub fn take(&mut self, other: OnVolume) {
        self.instances = self.instances.saturating_sub(other.instances);
        self.answered = self.answered.saturating_sub(other.answered);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// A series as it is written. [`super::spread`] reads the beginning alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptSeries {
    /// The volumes with a good copy of a content, sorted, none twice → the contents that are on just these. Of all that is
    /// kept under the SOP Instance UIDs that are answered from this series. None with 0 contents.
    pub spread: BTreeMap<Vec<String>, Tally>,
    /// What is told.
    pub merged: Merged,
    pub instances_count: u64,
    pub sop_classes: BTreeMap<String, u64>,
    layers: Layers,
}

/// What studies and series have in common while they are worked on.
pub(super) trait Kept: Sized {
    /// As the first line says it, without anything counted.
    fn begin(said: Said, in_effect: bool) -> Self;
    fn parts(&mut self) -> (&mut Merged, &mut Layers);
    fn layers(&self) -> &Layers;

    /// Takes in what a line says; `in_effect`: whether its correction is. True when anything changed.
    fn take_in(&mut self, said: Said, in_effect: bool) -> bool {
        let (told, layers) = self.parts();
        take_in(told, layers, said, in_effect)
    }

    /// Takes in values found later. True when anything changed.
    fn fill(&mut self, by: u64, sequence: u64, values: &Values) -> bool {
        let (told, layers) = self.parts();
        fill(told, layers, by, sequence, values)
    }

    /// A correction came in effect, or out of it. True when anything changed.
    fn decide(&mut self, by: u64, in_effect: bool) -> bool {
        let (told, layers) = self.parts();
        decide(told, layers, by, in_effect)
    }

    /// Corrections that say something of it.
    fn corrections(&self) -> impl Iterator<Item = u64> {
        self.layers().keys().copied().filter(|by| *by != 0)
    }
}

impl Kept for KeptStudy {
    fn begin(said: Said, in_effect: bool) -> KeptStudy {
        let (merged, layers) = begin(said, in_effect);
        KeptStudy {
            merged,
            series_count: 0,
            instances_count: 0,
            modalities: BTreeMap::new(),
            sop_classes: BTreeMap::new(),
            bytes: 0,
            volumes: BTreeMap::new(),
            layers,
        }
    }

    fn parts(&mut self) -> (&mut Merged, &mut Layers) {
        (&mut self.merged, &mut self.layers)
    }

    fn layers(&self) -> &Layers {
        &self.layers
    }
}

impl Kept for KeptSeries {
    fn begin(said: Said, in_effect: bool) -> KeptSeries {
        let (merged, layers) = begin(said, in_effect);
        KeptSeries {
            spread: BTreeMap::new(),
            merged,
            instances_count: 0,
            sop_classes: BTreeMap::new(),
            layers,
        }
    }

    fn parts(&mut self) -> (&mut Merged, &mut Layers) {
        (&mut self.merged, &mut self.layers)
    }

    fn layers(&self) -> &Layers {
        &self.layers
    }
}

impl KeptStudy {
    /// None where only corrections speak of it that are not in effect.
    pub fn into_record(self, study_instance_uid: &str) -> Option<StudyRecord> {
        if self.merged.sequence == UNHEARD {
            return None;
        }
        Some(StudyRecord {
            sequence: self.merged.sequence,
            facts: study_facts(self.merged, study_instance_uid),
            series_count: self.series_count,
            instances_count: self.instances_count,
            modalities: self.modalities.into_keys().collect(),
            sop_classes: self.sop_classes.into_keys().collect(),
            bytes: self.bytes,
        })
    }

    /// What the lines of one correction say, or with 0 those of none.
    pub fn into_layer(self, study_instance_uid: &str, by: u64) -> Option<StudyFacts> {
        let said = layer(self.merged, self.layers, by)?;
        Some(study_facts(said, study_instance_uid))
    }
}

fn study_facts(merged: Merged, study_instance_uid: &str) -> StudyFacts {
    StudyFacts {
        study_instance_uid: study_instance_uid.to_owned(),
        date_folder: merged.folder,
        values: merged.values,
    }
}

fn series_facts(
    merged: Merged,
    study_instance_uid: &str,
    series_instance_uid: &str,
) -> SeriesFacts {
    SeriesFacts {
        series_instance_uid: series_instance_uid.to_owned(),
        study_instance_uid: study_instance_uid.to_owned(),
        folder: merged.folder,
        values: merged.values,
    }
}

impl KeptSeries {
    /// None where only corrections speak of it that are not in effect.
    pub fn into_record(
        self,
        study_instance_uid: &str,
        series_instance_uid: &str,
    ) -> Option<SeriesRecord> {
        if self.merged.sequence == UNHEARD {
            return None;
        }
        Some(SeriesRecord {
            sequence: self.merged.sequence,
            facts: series_facts(self.merged, study_instance_uid, series_instance_uid),
            instances_count: self.instances_count,
            sop_classes: self.sop_classes.into_keys().collect(),
        })
    }

    /// What the lines of one correction say, or with 0 those of none.
    pub fn into_layer(
        self,
        study_instance_uid: &str,
        series_instance_uid: &str,
        by: u64,
    ) -> Option<SeriesFacts> {
        let said = layer(self.merged, self.layers, by)?;
        Some(series_facts(said, study_instance_uid, series_instance_uid))
    }

    /// What this series adds to its study's modalities: nothing while it has no instance.
    pub fn modality(&self) -> Option<&str> {
        let text = self.merged.values.get(&MODALITY)?;
        (self.instances_count > 0).then_some(text.trim())
    }
}

/// Adds `difference` to a count; an entry that reaches 0 goes.
pub(super) fn count(counts: &mut BTreeMap<String, u64>, name: &str, difference: i64) {
    let now = counts
        .get(name)
        .copied()
        .unwrap_or(0)
        .saturating_add_signed(difference);
    if now == 0 {
        counts.remove(name);
    } else if let Some(kept) = counts.get_mut(name) {
        *kept = now;
    } else {
        counts.insert(name.to_owned(), now);
    }
}
