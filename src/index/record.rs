//! What the index is told ([`Stored`]) and what it tells of studies, series and instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dicom::Tag;
use crate::dicom::attributes::is_standard;

/// Tag as `group << 16 | element` → text.
pub type Values = BTreeMap<u32, String>;

/// (0008,0060).
pub(super) const MODALITY: u32 = 0x0008_0060;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyFacts {
    pub study_instance_uid: String,
    /// First part of the path of all its instances, `YYYYMMDD`.
    pub date_folder: String,
    /// Patient and study level.
    pub values: Values,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesFacts {
    pub series_instance_uid: String,
    pub study_instance_uid: String,
    /// Relative path of the folder of its instances.
    pub folder: String,
    pub values: Values,
}

/// One file that holds the instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Copy {
    pub volume_id: String,
    /// Relative to the volume's root.
    pub path: String,
    /// Where the data set begins in the file, bytes.
    pub data_offset: u64,
    /// Of the whole file.
    pub size_bytes: u64,
    /// CRC-32 of the data set.
    pub crc32: u32,
    /// CRC-32 of the whole file.
    pub file_crc32: u32,
    /// Found gone, unreadable or with another checksum ([`Bad`]): still known, since it may be all there is of its
    /// content, but no copy to count on. False in a statement.
    pub bad: bool,
}

impl Copy {
    /// Size of the data set, bytes.
    pub fn data_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.data_offset)
    }
}

/// Where a content comes from, if it is not simply what was received.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Number of the correction that made it; it counts while that is in effect. 0: none.
    pub by: u64,
    /// It came after another content of its SOP Instance UID and is answered instead of that.
    pub newest: bool,
    /// Length and CRC-32 of the data set as it was received, if that was coerced before it was stored.
    pub was: Option<(u64, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFacts {
    /// Archive-wide number of the ledger line.
    pub sequence: u64,
    pub sop_instance_uid: String,
    pub sop_class_uid: String,
    pub transfer_syntax: String,
    /// Instance level.
    pub values: Values,
    /// RFC 3339.
    pub received: String,
    pub source_ae_title: String,
    pub origin: Origin,
    pub copy: Copy,
}

/// One statement of a ledger: this file is an instance of that series of that study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub study: Arc<StudyFacts>,
    pub series: Arc<SeriesFacts>,
    pub instance: InstanceFacts,
}

/// One statement of a ledger: this file, stored by a line before, is no longer part of that volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Archive-wide number of the ledger line.
    pub sequence: u64,
    pub sop_instance_uid: String,
    pub volume_id: String,
    /// Relative to the volume's root.
    pub path: String,
}

/// One statement of a ledger: this file, stored by a line before, is not what that line says: missing, unreadable or with
/// another checksum. It stays listed until it is gone, or stored again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Archive-wide number of the ledger line.
    pub sequence: u64,
    pub sop_instance_uid: String,
    pub volume_id: String,
    /// Relative to the volume's root.
    pub path: String,
}

/// One statement of a ledger: what was found in a file, stored by a line before, when it was looked at for keys that were
/// configured later. An empty text says that there is no such value. Without meaning for a path that nothing stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Archive-wide number of the ledger line.
    pub sequence: u64,
    pub sop_instance_uid: String,
    pub volume_id: String,
    /// Relative to the volume's root.
    pub path: String,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    /// The correction that made the content, or 0: what it says of study and series is said with that.
    pub by: u64,
    /// Patient and study level.
    pub study: Values,
    pub series: Values,
    /// Instance level.
    pub values: Values,
}

/// What makes two files the same content of an instance, whatever the file around the data set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentId {
    pub transfer_syntax: String,
    /// Length of the data set.
    pub data_bytes: u64,
    /// CRC-32 of the data set.
    pub crc32: u32,
}

/// What a correction says of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is not answered, and not counted.
    Withdrawn,
    /// As withdrawn, but what is stored by a later line counts: it was sent again after its files were removed.
    Removed,
    /// It is answered, and not another one that is kept under the same SOP Instance UID.
    Preferred,
}

/// One statement of a ledger: part of a correction, and without meaning while that is not in effect. The same line is in
/// the ledgers of several volumes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ruling {
    /// Archive-wide number of the line.
    pub sequence: u64,
    /// Number of the correction.
    pub by: u64,
    pub sop_instance_uid: String,
    pub content: ContentId,
    pub verdict: Verdict,
}

/// What a correction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Did {
    Amended,
    Removed,
    Preferred,
    Discarded,
    /// A rejection note named them.
    Rejected,
    /// What looks like a conflict is well as it is.
    Dismissed,
    /// Nothing of the study is changed or removed until it is taken back.
    Protected,
}

/// Who changed what, why, and how it was before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CorrectionFacts {
    /// RFC 3339.
    pub at: String,
    pub did: Did,
    pub who: String,
    pub why: String,
    /// By which way: `command line`, `rejection note from AE`.
    pub way: String,
    /// `STUDY`, `SERIES`, `IMAGE` or `PATIENT`.
    pub level: String,
    /// Its unique keys at that level.
    pub of: Vec<String>,
    /// Studies that it took from, and those that it gave to.
    pub studies: Vec<String>,
    pub instances_count: u64,
    /// Values that it changed; of a removal, values to recognise it by.
    pub before: Values,
    pub after: Values,
}

/// One statement of a ledger: from now on a correction is in effect, or no more. Of several with one number that with the
/// highest sequence counts. The same line is in the ledgers of several volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Archive-wide number of the line.
    pub sequence: u64,
    pub number: u64,
    pub in_effect: bool,
    pub facts: CorrectionFacts,
    /// The volume whose ledger says it.
    pub volume_id: String,
}

/// What is known of a correction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionRecord {
    pub number: u64,
    pub in_effect: bool,
    /// Of the line that says whether it is in effect.
    pub sequence: u64,
    /// Of the first line.
    pub first_sequence: u64,
    /// What the first line said.
    pub facts: CorrectionFacts,
    /// What the last line said, if that is another: who took it back, and why.
    pub last: Option<CorrectionFacts>,
    /// Volumes whose ledgers say the first and the last line, sorted.
    pub volume_ids: Vec<String>,
}

/// What can happen to the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Stored(Stored),
    Gone(Gone),
    Bad(Bad),
    Ruling(Ruling),
    Correction(Box<Correction>),
    Filled(Box<Filled>),
}

impl Change {
    /// Archive-wide number of the ledger line.
    pub fn sequence(&self) -> u64 {
        match self {
            Change::Stored(stored) => stored.instance.sequence,
            Change::Gone(gone) => gone.sequence,
            Change::Bad(bad) => bad.sequence,
            Change::Ruling(ruling) => ruling.sequence,
            Change::Correction(correction) => correction.sequence,
            Change::Filled(filled) => filled.sequence,
        }
    }
}

/// What a statement says of a content besides where its file is. Of several about one content the lowest is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Facts {
    pub sequence: u64,
    pub received: String,
    pub source_ae_title: String,
    pub origin: Origin,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub sop_class_uid: String,
    pub values: Values,
}

/// What statements `by` one correction, or by none, said of some copies of a content: it is told when those that the
/// record's facts came with are gone, or do not count any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Of the lowest of them.
    pub facts: Facts,
    /// Highest sequence of them.
    pub highest: u64,
    /// Highest sequence of those that are `newest`; 0: none is.
    pub newest: u64,
    /// Places in the content's copies.
    pub copies: Vec<u32>,
}

/// What is kept under one SOP Instance UID: the content that is answered, and other contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub sequence: u64,
    pub sop_class_uid: String,
    pub transfer_syntax: String,
    pub values: Values,
    pub received: String,
    pub source_ae_title: String,
    pub origin: Origin,
    /// Never empty; by volume id, then path.
    pub copies: Vec<Copy>,
    /// By sequence.
    pub others: Vec<Other>,
    /// Empty unless the statements about the copies differ: then every one of them.
    pub(super) told: Vec<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtherKind {
    /// The same object in another transfer syntax.
    Variant,
    /// Another object under the same UID.
    Conflict,
}

/// Another content under the SOP Instance UID; kept, not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    pub kind: OtherKind,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub sequence: u64,
    pub sop_class_uid: String,
    pub transfer_syntax: String,
    pub values: Values,
    pub received: String,
    pub source_ae_title: String,
    pub origin: Origin,
    /// Never empty; by volume id, then path.
    pub copies: Vec<Copy>,
    pub(super) told: Vec<Told>,
}

/// Why a content is not answered, and not counted, although it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hid {
    /// A correction with that number is in effect, the highest of those that withdrew it.
    Withdrawn { by: u64 },
    /// A correction with that number made it, and is not in effect: not yet, or not any more.
    Unmade { by: u64 },
}

/// A content that is kept and neither answered nor counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenContent {
    pub hid: Hid,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub sequence: u64,
    pub sop_class_uid: String,
    pub transfer_syntax: String,
    pub values: Values,
    pub received: String,
    pub source_ae_title: String,
    pub origin: Origin,
    /// Never empty; by volume id, then path.
    pub copies: Vec<Copy>,
    pub(super) told: Vec<Told>,
}

/// What corrections say under one SOP Instance UID, and what they hide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// By sequence.
    pub contents: Vec<HiddenContent>,
    /// Sorted, none twice. They stay when the files they speak of are gone.
    pub rulings: Vec<Ruling>,
}

/// An instance and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceEntry {
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub sop_instance_uid: String,
    pub record: InstanceRecord,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyRecord {
    /// Lowest seen.
    pub sequence: u64,
    pub facts: StudyFacts,
    /// Series with at least one answered instance.
    pub series_count: u64,
    /// 0 when all its instances are gone, or answered from another study (conflicts): not found by queries then.
    pub instances_count: u64,
    pub modalities: Vec<String>,
    pub sop_classes: Vec<String>,
    /// Data sets of the answered instances, each counted once.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesRecord {
    /// Lowest seen.
    pub sequence: u64,
    pub facts: SeriesFacts,
    pub instances_count: u64,
    pub sop_classes: Vec<String>,
}

/// Counts over the whole archive. Only answered instances count, besides `variants` and `conflicts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub studies: u64,
    pub series: u64,
    pub instances: u64,
    /// Data sets, each instance once.
    pub bytes: u64,
    pub variants: u64,
    pub conflicts: u64,
}

/// How a content relates to what is kept under its SOP Instance UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// This very file.
    SameCopy,
    /// Another file with the same content.
    AnotherCopy,
    Variant,
    Conflict,
}

/// Compares a content with what is kept under its SOP Instance UID.
///
/// Same content = same transfer syntax, size and CRC-32 of the data set, whatever the file around it.
pub fn classify(
    existing: &InstanceEntry,
    study_uid: &str,
    series_uid: &str,
    new: &InstanceFacts,
) -> Class {
    let record = &existing.record;
    let kept = std::iter::once((&record.transfer_syntax, &record.copies)).chain(
        record
            .others
            .iter()
            .map(|other| (&other.transfer_syntax, &other.copies)),
    );
    for (transfer_syntax, copies) in kept {
        let same = |copy: &Copy| {
            copy.crc32 == new.copy.crc32 && copy.data_bytes() == new.copy.data_bytes()
        };
        if *transfer_syntax == new.transfer_syntax && copies.iter().any(same) {
            let there =
                |copy: &Copy| copy.volume_id == new.copy.volume_id && copy.path == new.copy.path;
            return if copies.iter().any(there) {
                Class::SameCopy
            } else {
                Class::AnotherCopy
            };
        }
    }
    let kind = kind_of(
        (
            &existing.study_instance_uid,
            &existing.series_instance_uid,
            &record.transfer_syntax,
            &record.values,
        ),
        (study_uid, series_uid, &new.transfer_syntax, &new.values),
    );
    match kind {
        OtherKind::Variant => Class::Variant,
        OtherKind::Conflict => Class::Conflict,
    }
}

pub(super) fn tag_of(tag: u32) -> Tag {
    Tag((tag >> 16) as u16, tag as u16)
}

/// Study, series, transfer syntax, values.
pub(super) type Compared<'a> = (&'a str, &'a str, &'a str, &'a Values);

pub(super) fn kind_of(primary: Compared, other: Compared) -> OtherKind {
    // Which other keys are configured does not make another object of it.
    let standard = |values: &'_ Values| -> Values {
        let values = values.iter().filter(|(tag, _)| is_standard(tag_of(**tag)));
        values.map(|(tag, text)| (*tag, text.clone())).collect()
    };
    let same_object = (primary.0, primary.1) == (other.0, other.1)
        && (primary.3 == other.3 || standard(primary.3) == standard(other.3));
    if same_object && primary.2 != other.2 {
        OtherKind::Variant
    } else {
        OtherKind::Conflict
    }
}
