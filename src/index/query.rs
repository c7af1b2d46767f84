//! What a query asks and what it gets, in words of DICOM; how it is found is [`super::find`]'s matter.

use dicom_core::VR;

use super::Values;
use crate::dicom::Level;

pub const SOP_CLASS_UID: u32 = 0x0008_0016;
pub const SOP_INSTANCE_UID: u32 = 0x0008_0018;
pub const INSTANCE_CREATION_DATE: u32 = 0x0008_0012;
pub const INSTANCE_CREATION_TIME: u32 = 0x0008_0013;
pub const STUDY_DATE: u32 = 0x0008_0020;
pub const SERIES_DATE: u32 = 0x0008_0021;
pub const ACQUISITION_DATE: u32 = 0x0008_0022;
pub const CONTENT_DATE: u32 = 0x0008_0023;
pub const STUDY_TIME: u32 = 0x0008_0030;
pub const SERIES_TIME: u32 = 0x0008_0031;
pub const ACQUISITION_TIME: u32 = 0x0008_0032;
pub const CONTENT_TIME: u32 = 0x0008_0033;
pub const ACCESSION_NUMBER: u32 = 0x0008_0050;
pub const MODALITY: u32 = super::record::MODALITY;
pub const MODALITIES_IN_STUDY: u32 = 0x0008_0061;
pub const SOP_CLASSES_IN_STUDY: u32 = 0x0008_0062;
pub const AVAILABLE_TRANSFER_SYNTAX_UID: u32 = 0x0008_3002;
pub const PATIENT_NAME: u32 = 0x0010_0010;
pub const PATIENT_ID: u32 = 0x0010_0020;
pub const ISSUER_OF_PATIENT_ID: u32 = 0x0010_0021;
pub const PATIENT_BIRTH_DATE: u32 = 0x0010_0030;
pub const PATIENT_BIRTH_TIME: u32 = 0x0010_0032;
pub const STUDY_INSTANCE_UID: u32 = 0x0020_000D;
pub const SERIES_INSTANCE_UID: u32 = 0x0020_000E;
pub const SERIES_NUMBER: u32 = 0x0020_0011;
pub const PATIENT_STUDIES: u32 = 0x0020_1200;
pub const PATIENT_SERIES: u32 = 0x0020_1202;
pub const PATIENT_INSTANCES: u32 = 0x0020_1204;
pub const STUDY_SERIES: u32 = 0x0020_1206;
pub const STUDY_INSTANCES: u32 = 0x0020_1208;
pub const SERIES_INSTANCES: u32 = 0x0020_1209;
pub const PERFORMED_PROCEDURE_STEP_START_DATE: u32 = 0x0040_0244;
pub const PERFORMED_PROCEDURE_STEP_START_TIME: u32 = 0x0040_0245;
pub const IMAGE_COMMENTS: u32 = 0x0020_4000;
pub const STUDY_COMMENTS: u32 = 0x0032_4000;

/// One C-FIND identifier. Keys of any level may come together and parents may be missing (relational queries).
#[derive(Debug, Clone)]
pub struct Query {
    pub level: Level,
    pub keys: Vec<Key>,
    pub options: Options,
}

impl Query {
    /// With the matching that everyone gets.
    pub fn new(level: Level, keys: Vec<Key>) -> Query {
        Query {
            level,
            keys,
            options: Options::default(),
        }
    }
}

/// How keys are matched beyond what the standard asks of everyone; by extended negotiation (PS3.4 C.5.1.1) or by what is
/// configured for a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// A date and its time, both ranges in the same form, are one range from moment to moment (PS3.4 C.2.2.2.5). Where
    /// both are open upwards they are for everyone.
    pub combined_date_time: bool,
    /// Person names match word by word, whatever the order of their components.
    pub fuzzy_names: bool,
}

/// One matching or return key.
#[derive(Debug, Clone)]
pub struct Key {
    /// `group << 16 | element`.
    pub tag: u32,
    /// Used for attributes that the dictionary does not know.
    pub vr: VR,
    /// Decoded, several values joined by `\`; empty = universal matching, only asked for.
    pub value: String,
    /// Of a sequence: the keys in its one item (PS3.4 C.2.2.2.6). Empty of every other attribute.
    pub items: Vec<Key>,
}

impl Key {
    /// A key that is no sequence.
    pub fn new(tag: u32, vr: VR, value: impl Into<String>) -> Key {
        Key {
            tag,
            vr,
            value: value.into(),
            items: Vec::new(),
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub level: Level,
    pub patient_id: String,
    /// At PATIENT level that of the patient's newest matching study.
    pub study_instance_uid: String,
    /// Empty above SERIES level.
    pub series_instance_uid: String,
    /// Empty above IMAGE level.
    pub sop_instance_uid: String,
    /// All that is known at this level and above, including what is computed: modalities and SOP classes in study,
    /// numbers of related series and instances. Only when asked for: numbers related to the patient, and at STUDY
    /// level the series' attributes, distinct values joined by `\`.
    pub values: Values,
}

/// What a query says while it goes on; the answer to each is whether it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Found(Box<Match>),
    /// Records were read, at least every 50 ms if the disk gives them, and nothing is to be told.
    Looked,
}
