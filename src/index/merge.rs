//! How several statements about one study, series or instance become one record.
//!
//! Ledgers are read in any order, and each again from any earlier position to its end. The rule that makes the same
//! record of it every time:
//!
//! - A file (volume and path) is named by one ledger only, whose lines come in their order. What counts of it are the
//!   [`Stored`] statements after its last [`Gone`]; reading on from an earlier position ends with the same ones. It is
//!   bad if a [`Bad`] statement follows the last [`Stored`] one.
//! - An instance is what the counting statements of all its files say together, as if the others had never been made:
//!   the lower archive-wide sequence number wins, ties are broken by content. Each copy therefore keeps what was said
//!   with it.
//! - A study or series is what *all* statements say, those of files that are gone too: its folder and values do not
//!   change when an instance moves, and later lines of a ledger lean on them.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::record::{Facts, MODALITY, Origin, Told, kind_of};
use super::spread::Tally;
use super::{
    Bad, Copy, Gone, InstanceEntry, InstanceFacts, InstanceRecord, Other, OtherKind, SeriesFacts,
    SeriesRecord, Stored, StudyFacts, StudyRecord, Values,
};

/// [`InstanceRecord`] of an instance's first statement, written without copying it. Same fields in the same order.
#[derive(Serialize)]
pub(super) struct FirstRecord<'a> {
    sequence: u64,
    sop_class_uid: &'a str,
    transfer_syntax: &'a str,
    values: &'a Values,
    received: &'a str,
    source_ae_title: &'a str,
    origin: &'a Origin,
    copies: &'a [Copy],
    others: &'a [Other],
    told: &'a [Told],
}

impl<'a> FirstRecord<'a> {
    pub fn of(instance: &'a InstanceFacts) -> Self {
        FirstRecord {
            sequence: instance.sequence,
            sop_class_uid: &instance.sop_class_uid,
            transfer_syntax: &instance.transfer_syntax,
            values: &instance.values,
            received: &instance.received,
            source_ae_title: &instance.source_ae_title,
            origin: &instance.origin,
            copies: std::slice::from_ref(&instance.copy),
            others: &[],
            told: &[],
        }
    }
}

/// One content under a SOP Instance UID while a record is worked on; the answered one is not special here.
#[derive(Debug, Clone)]
struct Content {
    transfer_syntax: String,
    /// Never empty; by volume id, then path. With each the lowest of what was said with it.
    copies: Vec<(Copy, Rc<Facts>)>,
}

impl Content {
    /// (size, CRC-32, transfer syntax) of the data set. 0 for a content without copies, which no rule here makes.
    fn identity(&self) -> (u64, u32, &str) {
        let (size, crc) = self
            .copies
            .first()
            .map_or((0, 0), |(copy, _)| (copy.data_bytes(), copy.crc32));
        (size, crc, &self.transfer_syntax)
    }

    fn of(stored: &Stored) -> Content {
        let instance = &stored.instance;
        let facts = Facts {
            sequence: instance.sequence,
            received: instance.received.clone(),
            source_ae_title: instance.source_ae_title.clone(),
            origin: instance.origin.clone(),
            study_instance_uid: stored.study.study_instance_uid.clone(),
            series_instance_uid: stored.series.series_instance_uid.clone(),
            sop_class_uid: instance.sop_class_uid.clone(),
            values: instance.values.clone(),
        };
        Content {
            transfer_syntax: instance.transfer_syntax.clone(),
            copies: vec![(instance.copy.clone(), Rc::new(facts))],
        }
    }

    fn files(&mut self) -> impl Iterator<Item = &mut Copy> {
        self.copies.iter_mut().map(|(copy, _)| copy)
    }

    fn lowest(&self) -> Option<&Rc<Facts>> {
        self.copies.iter().map(|(_, facts)| facts).min()
    }

    /// Takes in another statement about the same content.
    fn join(&mut self, other: Content) {
        for (copy, facts) in other.copies {
            let place = |(kept, _): &(Copy, Rc<Facts>)| {
                (&kept.volume_id, &kept.path).cmp(&(&copy.volume_id, &copy.path))
            };
            match self.copies.binary_search_by(place) {
                Ok(at) => {
                    let (kept, told) = &mut self.copies[at];
                    if copy < *kept {
                        *kept = copy;
                    }
                    if facts < *told {
                        *told = facts;
                    }
                }
                Err(at) => self.copies.insert(at, (copy, facts)),
            }
        }
    }

    /// As it is written. None without copies.
    fn split(self) -> Option<Written> {
        let facts = self.lowest()?.clone();
        let mut copies = Vec::with_capacity(self.copies.len());
        let mut told: Vec<Told> = Vec::new();
        for (copy, said) in self.copies {
            let place = copies.len() as u32;
            copies.push(copy);
            if said == facts {
                continue;
            }
            match told.iter_mut().find(|told| told.facts == *said) {
                Some(told) => told.copies.push(place),
                None => told.push(Told {
                    facts: Rc::unwrap_or_clone(said),
                    copies: vec![place],
                }),
            }
        }
        Some(Written {
            facts: Rc::unwrap_or_clone(facts),
            transfer_syntax: self.transfer_syntax,
            copies,
            told,
        })
    }
}

/// A content as its record holds it.
struct Written {
    facts: Facts,
    transfer_syntax: String,
    copies: Vec<Copy>,
    told: Vec<Told>,
}

impl From<Written> for Content {
    fn from(written: Written) -> Content {
        let lowest = Rc::new(written.facts);
        let copies = written.copies.into_iter();
        let mut copies: Vec<_> = copies.map(|copy| (copy, lowest.clone())).collect();
        for told in written.told {
            let facts = Rc::new(told.facts);
            for place in told.copies {
                if let Some((_, said)) = copies.get_mut(place as usize) {
                    *said = facts.clone();
                }
            }
        }
        Content {
            transfer_syntax: written.transfer_syntax,
            copies,
        }
    }
}

impl InstanceEntry {
    /// The entry of the first statement about an instance.
    pub(super) fn new(stored: &Stored) -> InstanceEntry {
        from_contents(&stored.instance.sop_instance_uid, vec![Content::of(stored)])
            .expect("a statement brings a copy")
    }

    /// The entry after one more statement.
    pub(super) fn with(self, stored: &Stored) -> InstanceEntry {
        let sop_instance_uid = self.sop_instance_uid.clone();
        let mut contents = into_contents(self);
        let new = Content::of(stored);
        let file = &stored.instance.copy;
        for copy in contents.iter_mut().flat_map(Content::files) {
            if (&copy.volume_id, &copy.path) == (&file.volume_id, &file.path) {
                copy.bad = false;
            }
        }
        match contents
            .iter_mut()
            .find(|kept| kept.identity() == new.identity())
        {
            Some(kept) => kept.join(new),
            None => contents.push(new),
        }
        from_contents(&sop_instance_uid, contents).expect("a statement brings a copy")
    }

    /// The entry without the copy that is gone; None when that was the last one.
    pub(super) fn without(self, gone: &Gone) -> Option<InstanceEntry> {
        let sop_instance_uid = self.sop_instance_uid.clone();
        let mut contents = into_contents(self);
        for content in &mut contents {
            content
                .copies
                .retain(|(copy, _)| (&copy.volume_id, &copy.path) != (&gone.volume_id, &gone.path));
        }
        contents.retain(|content| !content.copies.is_empty());
        from_contents(&sop_instance_uid, contents)
    }

    /// That every file on the volume is gone. No line says so, so there is no number.
    pub(super) fn gone_from(&self, volume_id: &str) -> impl Iterator<Item = Gone> {
        let record = &self.record;
        let others = record.others.iter().flat_map(|other| &other.copies);
        let copies = record.copies.iter().chain(others);
        copies
            .filter(move |copy| copy.volume_id == volume_id)
            .map(|copy| Gone {
                sequence: 0,
                sop_instance_uid: self.sop_instance_uid.clone(),
                volume_id: copy.volume_id.clone(),
                path: copy.path.clone(),
            })
    }

    /// The entry with the copy that is bad marked as such.
    pub(super) fn with_bad(mut self, bad: &Bad) -> InstanceEntry {
        let record = &mut self.record;
        let others = record.others.iter_mut().flat_map(|other| &mut other.copies);
        for copy in record.copies.iter_mut().chain(others) {
            if (&copy.volume_id, &copy.path) == (&bad.volume_id, &bad.path) {
                copy.bad = true;
            }
        }
        self
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.record.copies.first().map_or(0, Copy::data_bytes)
    }

    /// What this instance adds to its study on each volume.
    pub(super) fn on_volumes(&self) -> BTreeMap<&str, OnVolume> {
        let record = &self.record;
        let mut volumes: BTreeMap<&str, OnVolume> = BTreeMap::new();
        for copy in &record.copies {
            let there = volumes.entry(&copy.volume_id).or_default();
            there.answered = 1;
            there.bytes += copy.size_bytes;
        }
        for copy in record.others.iter().flat_map(|other| &other.copies) {
            volumes.entry(&copy.volume_id).or_default().bytes += copy.size_bytes;
        }
        for there in volumes.values_mut() {
            there.instances = 1;
        }
        volumes
    }

    pub(super) fn others_count(&self, kind: OtherKind) -> u64 {
        self.record
            .others
            .iter()
            .filter(|other| other.kind == kind)
            .count() as u64
    }
}

fn into_contents(entry: InstanceEntry) -> Vec<Content> {
    let record = entry.record;
    let primary = Written {
        facts: Facts {
            sequence: record.sequence,
            received: record.received,
            source_ae_title: record.source_ae_title,
            origin: record.origin,
            study_instance_uid: entry.study_instance_uid,
            series_instance_uid: entry.series_instance_uid,
            sop_class_uid: record.sop_class_uid,
            values: record.values,
        },
        transfer_syntax: record.transfer_syntax,
        copies: record.copies,
        told: record.told,
    };
    let others = record.others.into_iter().map(|other| Written {
        facts: Facts {
            sequence: other.sequence,
            received: other.received,
            source_ae_title: other.source_ae_title,
            origin: other.origin,
            study_instance_uid: other.study_instance_uid,
            series_instance_uid: other.series_instance_uid,
            sop_class_uid: other.sop_class_uid,
            values: other.values,
        },
        transfer_syntax: other.transfer_syntax,
        copies: other.copies,
        told: other.told,
    });
    std::iter::once(primary)
        .chain(others)
        .map(Content::from)
        .collect()
}

/// The lowest sequence is answered; the kind of each other follows from it. None without contents.
fn from_contents(sop_instance_uid: &str, mut contents: Vec<Content>) -> Option<InstanceEntry> {
    contents.sort_by(|a, b| {
        let sequence = |content: &Content| content.lowest().map(|facts| facts.sequence);
        (sequence(a), a.identity()).cmp(&(sequence(b), b.identity()))
    });
    let mut contents = contents.into_iter().filter_map(Content::split);
    let primary = contents.next()?;
    let facts = primary.facts;
    let others = contents
        .map(|other| Other {
            kind: kind_of(
                (
                    &facts.study_instance_uid,
                    &facts.series_instance_uid,
                    &primary.transfer_syntax,
                    &facts.values,
                ),
                (
                    &other.facts.study_instance_uid,
                    &other.facts.series_instance_uid,
                    &other.transfer_syntax,
                    &other.facts.values,
                ),
            ),
            study_instance_uid: other.facts.study_instance_uid,
            series_instance_uid: other.facts.series_instance_uid,
            sequence: other.facts.sequence,
            sop_class_uid: other.facts.sop_class_uid,
            transfer_syntax: other.transfer_syntax,
            values: other.facts.values,
            received: other.facts.received,
            source_ae_title: other.facts.source_ae_title,
            origin: other.facts.origin,
            copies: other.copies,
            told: other.told,
        })
        .collect();
    Some(InstanceEntry {
        study_instance_uid: facts.study_instance_uid,
        series_instance_uid: facts.series_instance_uid,
        sop_instance_uid: sop_instance_uid.to_owned(),
        record: InstanceRecord {
            sequence: facts.sequence,
            sop_class_uid: facts.sop_class_uid,
            transfer_syntax: primary.transfer_syntax,
            values: facts.values,
            received: facts.received,
            source_ae_title: facts.source_ae_title,
            origin: facts.origin,
            copies: primary.copies,
            others,
            told: primary.told,
        },
    })
}

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

impl Merged {
    pub fn new(sequence: u64, folder: &str, values: &Values) -> Merged {
        let values = values.iter().filter(|(_, text)| !text.is_empty());
        Merged {
            sequence,
            folder: folder.to_owned(),
            values: values.map(|(tag, text)| (*tag, text.clone())).collect(),
            later: BTreeMap::new(),
        }
    }

    /// Takes in another statement: lower sequences win, value by value; blanks never do. True when anything changed.
    pub fn merge(&mut self, sequence: u64, folder: &str, values: &Values) -> bool {
        if sequence > self.sequence && self.values == *values && self.later.is_empty() {
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
        for (tag, text) in values.iter().filter(|(_, text)| !text.is_empty()) {
            let kept = self
                .values
                .get(tag)
                .map(|kept| (self.later.get(tag).copied().unwrap_or(self.sequence), kept));
            if kept.is_some_and(|kept| kept <= (sequence, text)) {
                continue;
            }
            self.values.insert(*tag, text.clone());
            if sequence == self.sequence {
                self.later.remove(tag);
            } else {
                self.later.insert(*tag, sequence);
            }
            changed = true;
        }
        changed
    }
}

/// A study as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptStudy {
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
    pub merged: Merged,
    pub instances_count: u64,
    pub sop_classes: BTreeMap<String, u64>,
}

impl KeptStudy {
    pub fn into_record(self, study_instance_uid: &str) -> StudyRecord {
        StudyRecord {
            sequence: self.merged.sequence,
            facts: StudyFacts {
                study_instance_uid: study_instance_uid.to_owned(),
                date_folder: self.merged.folder,
                values: self.merged.values,
            },
            series_count: self.series_count,
            instances_count: self.instances_count,
            modalities: self.modalities.into_keys().collect(),
            sop_classes: self.sop_classes.into_keys().collect(),
            bytes: self.bytes,
        }
    }
}

impl KeptSeries {
    pub fn into_record(self, study_instance_uid: &str, series_instance_uid: &str) -> SeriesRecord {
        SeriesRecord {
            sequence: self.merged.sequence,
            facts: SeriesFacts {
                series_instance_uid: series_instance_uid.to_owned(),
                study_instance_uid: study_instance_uid.to_owned(),
                folder: self.merged.folder,
                values: self.merged.values,
            },
            instances_count: self.instances_count,
            sop_classes: self.sop_classes.into_keys().collect(),
        }
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
