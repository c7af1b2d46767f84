//! How several statements about one study, series or instance become one record.
//!
//! Ledgers are read in any order, twice, in part. Every rule here therefore gives the same record for the same *set*
//! of [`Stored`] statements: the lower archive-wide sequence number wins, ties are broken by content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{MODALITY, kind_of};
use super::{
    Copy, InstanceEntry, InstanceFacts, InstanceRecord, Other, OtherKind, SeriesFacts,
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
    copies: &'a [Copy],
    others: &'a [Other],
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
            copies: std::slice::from_ref(&instance.copy),
            others: &[],
        }
    }
}

/// One content under a SOP Instance UID while a record is worked on; the answered one is not special here.
#[derive(Debug, Clone)]
struct Content {
    study_instance_uid: String,
    series_instance_uid: String,
    sequence: u64,
    sop_class_uid: String,
    transfer_syntax: String,
    values: Values,
    received: String,
    source_ae_title: String,
    copies: Vec<Copy>,
}

impl Content {
    /// (size, CRC-32, transfer syntax) of the data set. 0 for a content without copies, which no rule here makes.
    fn identity(&self) -> (u64, u32, &str) {
        let (size, crc) = self
            .copies
            .first()
            .map_or((0, 0), |copy| (copy.data_bytes(), copy.crc32));
        (size, crc, &self.transfer_syntax)
    }

    fn of(stored: &Stored) -> Content {
        let instance = &stored.instance;
        Content {
            study_instance_uid: stored.study.study_instance_uid.clone(),
            series_instance_uid: stored.series.series_instance_uid.clone(),
            sequence: instance.sequence,
            sop_class_uid: instance.sop_class_uid.clone(),
            transfer_syntax: instance.transfer_syntax.clone(),
            values: instance.values.clone(),
            received: instance.received.clone(),
            source_ae_title: instance.source_ae_title.clone(),
            copies: vec![instance.copy.clone()],
        }
    }

    /// Everything but the copies, in the order that decides which of two statements is told.
    fn rank(&self) -> impl Ord + '_ {
        (
            self.sequence,
            (&self.received, &self.source_ae_title),
            (&self.study_instance_uid, &self.series_instance_uid),
            (&self.sop_class_uid, &self.values),
        )
    }

    /// Takes in another statement about the same content.
    fn join(&mut self, mut other: Content) {
        let added = std::mem::take(&mut other.copies);
        if other.rank() < self.rank() {
            other.copies = std::mem::take(&mut self.copies);
            *self = other;
        }
        for copy in added {
            let place =
                |kept: &Copy| (&kept.volume_id, &kept.path).cmp(&(&copy.volume_id, &copy.path));
            match self.copies.binary_search_by(place) {
                Ok(at) => self.copies[at] = copy.min(self.copies[at].clone()),
                Err(at) => self.copies.insert(at, copy),
            }
        }
    }
}

impl InstanceEntry {
    /// The entry of the first statement about an instance.
    pub(super) fn new(stored: &Stored) -> InstanceEntry {
        from_contents(&stored.instance.sop_instance_uid, vec![Content::of(stored)])
    }

    /// The entry after one more statement.
    pub(super) fn with(self, stored: &Stored) -> InstanceEntry {
        let sop_instance_uid = self.sop_instance_uid.clone();
        let mut contents = into_contents(self);
        let new = Content::of(stored);
        match contents
            .iter_mut()
            .find(|kept| kept.identity() == new.identity())
        {
            Some(kept) => kept.join(new),
            None => contents.push(new),
        }
        from_contents(&sop_instance_uid, contents)
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.record.copies.first().map_or(0, Copy::data_bytes)
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
    let primary = Content {
        study_instance_uid: entry.study_instance_uid,
        series_instance_uid: entry.series_instance_uid,
        sequence: record.sequence,
        sop_class_uid: record.sop_class_uid,
        transfer_syntax: record.transfer_syntax,
        values: record.values,
        received: record.received,
        source_ae_title: record.source_ae_title,
        copies: record.copies,
    };
    let others = record.others.into_iter().map(|other| Content {
        study_instance_uid: other.study_instance_uid,
        series_instance_uid: other.series_instance_uid,
        sequence: other.sequence,
        sop_class_uid: other.sop_class_uid,
        transfer_syntax: other.transfer_syntax,
        values: other.values,
        received: other.received,
        source_ae_title: other.source_ae_title,
        copies: other.copies,
    });
    std::iter::once(primary).chain(others).collect()
}

/// The lowest sequence is answered; the kind of each other follows from it.
fn from_contents(sop_instance_uid: &str, mut contents: Vec<Content>) -> InstanceEntry {
    contents.sort_by(|a, b| (a.sequence, a.identity()).cmp(&(b.sequence, b.identity())));
    let mut contents = contents.into_iter();
    let primary = contents.next().expect("callers pass at least one content");
    let others = contents
        .map(|other| Other {
            kind: kind_of(
                (
                    &primary.study_instance_uid,
                    &primary.series_instance_uid,
                    &primary.transfer_syntax,
                    &primary.values,
                ),
                (
                    &other.study_instance_uid,
                    &other.series_instance_uid,
                    &other.transfer_syntax,
                    &other.values,
                ),
            ),
            study_instance_uid: other.study_instance_uid,
            series_instance_uid: other.series_instance_uid,
            sequence: other.sequence,
            sop_class_uid: other.sop_class_uid,
            transfer_syntax: other.transfer_syntax,
            values: other.values,
            received: other.received,
            source_ae_title: other.source_ae_title,
            copies: other.copies,
        })
        .collect();
    InstanceEntry {
        study_instance_uid: primary.study_instance_uid,
        series_instance_uid: primary.series_instance_uid,
        sop_instance_uid: sop_instance_uid.to_owned(),
        record: InstanceRecord {
            sequence: primary.sequence,
            sop_class_uid: primary.sop_class_uid,
            transfer_syntax: primary.transfer_syntax,
            values: primary.values,
            received: primary.received,
            source_ae_title: primary.source_ae_title,
            copies: primary.copies,
            others,
        },
    }
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
}

/// A series as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptSeries {
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
