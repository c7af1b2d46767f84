//! The attributes that can be asked for, and at which query level each of them lives.

use std::fmt;
use std::str::FromStr;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use serde::{Deserialize, Serialize};

use super::extra_keys::extra;

/// A query level, from the widest to the narrowest (PS3.4 C.6.1.1).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Level {
    Patient,
    Study,
    Series,
    Instance,
}

impl Level {
    /// The value of (0008,0052) Query/Retrieve Level.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Patient => "PATIENT",
            Level::Study => "STUDY",
            Level::Series => "SERIES",
            Level::Instance => "IMAGE",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no query level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("query level {0:?} is none of PATIENT, STUDY, SERIES, IMAGE")]
pub struct LevelError(pub String);

impl FromStr for Level {
    type Err = LevelError;

    /// Padding and case are ignored; "INSTANCE" is taken for IMAGE.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_matches([' ', '\0']);
        match text.to_ascii_uppercase().as_str() {
            "PATIENT" => Ok(Level::Patient),
            "STUDY" => Ok(Level::Study),
            "SERIES" => Ok(Level::Series),
            "IMAGE" | "INSTANCE" => Ok(Level::Instance),
            _ => Err(LevelError(text.chars().take(64).collect())),
        }
    }
}

/// What the index keeps of each instance, and so what a query can match and return; with the extra keys of the
/// configuration.
pub static INDEXED: &[(Level, Tag)] = &[
    (Level::Patient, tags::PATIENT_NAME),
    (Level::Patient, tags::PATIENT_ID),
    (Level::Patient, tags::ISSUER_OF_PATIENT_ID),
    (Level::Patient, tags::PATIENT_BIRTH_DATE),
    (Level::Patient, tags::PATIENT_BIRTH_TIME),
    (Level::Patient, tags::PATIENT_SEX),
    (Level::Patient, tags::OTHER_PATIENT_NAMES),
    (Level::Patient, tags::PATIENT_BIRTH_NAME),
    (Level::Patient, Tag(0x0010, 0x1000)), // Other Patient IDs (retired, still sent)
    (Level::Patient, Tag(0x0010, 0x2160)), // Ethnic Group (retired in favour of a sequence)
    (Level::Patient, tags::PATIENT_COMMENTS),
    (Level::Patient, tags::OTHER_PATIENT_I_DS_SEQUENCE),
    (Level::Study, tags::STUDY_INSTANCE_UID),
    (Level::Study, tags::STUDY_DATE),
    (Level::Study, tags::STUDY_TIME),
    (Level::Study, tags::ACCESSION_NUMBER),
    (Level::Study, tags::STUDY_ID),
    (Level::Study, tags::STUDY_DESCRIPTION),
    (Level::Study, tags::REFERRING_PHYSICIAN_NAME),
    (Level::Study, tags::CONSULTING_PHYSICIAN_NAME),
    (Level::Study, tags::PHYSICIANS_OF_RECORD),
    (Level::Study, tags::NAME_OF_PHYSICIANS_READING_STUDY),
    (Level::Study, tags::ADMITTING_DIAGNOSES_DESCRIPTION),
    (Level::Study, tags::PATIENT_AGE),
    (Level::Study, tags::PATIENT_SIZE),
    (Level::Study, tags::PATIENT_WEIGHT),
    (Level::Study, tags::OCCUPATION),
    (Level::Study, tags::ADDITIONAL_PATIENT_HISTORY),
    (Level::Study, Tag(0x0032, 0x000A)), // Study Status ID (retired)
    (Level::Study, Tag(0x0020, 0x1070)), // Other Study Numbers (retired)
    (Level::Study, Tag(0x0032, 0x000C)), // Study Priority ID (retired)
    (Level::Study, Tag(0x0032, 0x1030)), // Reason for Study (retired)
    (Level::Study, tags::REQUESTING_PHYSICIAN),
    (Level::Study, tags::REQUESTING_SERVICE),
    (Level::Study, tags::REQUESTED_PROCEDURE_DESCRIPTION),
    (Level::Study, Tag(0x0032, 0x4000)), // Study Comments (retired)
    (Level::Study, tags::ADMISSION_ID),
    (Level::Study, tags::CURRENT_PATIENT_LOCATION),
    (Level::Study, tags::REASON_FOR_THE_REQUESTED_PROCEDURE),
    (Level::Study, Tag(0x4008, 0x010C)), // Interpretation Author (retired)
    (Level::Study, Tag(0x4008, 0x0212)), // Interpretation Status ID (retired)
    (Level::Study, tags::REFERENCED_STUDY_SEQUENCE),
    (Level::Study, tags::PROCEDURE_CODE_SEQUENCE),
    (Level::Series, tags::SERIES_INSTANCE_UID),
    (Level::Series, tags::MODALITY),
    (Level::Series, tags::SERIES_NUMBER),
    (Level::Series, tags::SERIES_DESCRIPTION),
    (Level::Series, tags::SERIES_DATE),
    (Level::Series, tags::SERIES_TIME),
    (Level::Series, tags::PERFORMING_PHYSICIAN_NAME),
    (Level::Series, tags::OPERATORS_NAME),
    (Level::Series, tags::INSTITUTION_NAME),
    (Level::Series, tags::INSTITUTIONAL_DEPARTMENT_NAME),
    (Level::Series, tags::STATION_NAME),
    (Level::Series, tags::MANUFACTURER),
    (Level::Series, tags::MANUFACTURER_MODEL_NAME),
    (Level::Series, tags::DEVICE_SERIAL_NUMBER),
    (Level::Series, tags::PRESENTATION_INTENT_TYPE),
    (Level::Series, tags::BODY_PART_EXAMINED),
    (Level::Series, tags::PROTOCOL_NAME),
    (Level::Series, tags::LATERALITY),
    (Level::Series, tags::PATIENT_POSITION),
    (Level::Series, tags::PERFORMED_PROCEDURE_STEP_START_DATE),
    (Level::Series, tags::PERFORMED_PROCEDURE_STEP_START_TIME),
    (Level::Series, tags::PERFORMED_PROCEDURE_STEP_ID),
    (Level::Series, tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION),
    (Level::Series, tags::FRAME_OF_REFERENCE_UID),
    (Level::Series, tags::REQUEST_ATTRIBUTES_SEQUENCE),
    (Level::Instance, tags::SOP_INSTANCE_UID),
    (Level::Instance, tags::SOP_CLASS_UID),
    (Level::Instance, tags::INSTANCE_NUMBER),
    (Level::Instance, tags::CONTENT_DATE),
    (Level::Instance, tags::CONTENT_TIME),
    (Level::Instance, tags::ACQUISITION_DATE),
    (Level::Instance, tags::ACQUISITION_TIME),
    (Level::Instance, tags::ACQUISITION_NUMBER),
    (Level::Instance, tags::INSTANCE_CREATION_DATE),
    (Level::Instance, tags::INSTANCE_CREATION_TIME),
    (Level::Instance, tags::IMAGE_TYPE),
    (Level::Instance, tags::NUMBER_OF_FRAMES),
    (Level::Instance, tags::ROWS),
    (Level::Instance, tags::COLUMNS),
    (Level::Instance, tags::BITS_ALLOCATED),
    (Level::Instance, tags::IMAGE_COMMENTS),
    (Level::Instance, tags::CONTENT_LABEL),
    (Level::Instance, tags::CONTENT_DESCRIPTION),
    (Level::Instance, tags::COMPLETION_FLAG),
    (Level::Instance, tags::VERIFICATION_FLAG),
];

/// What is kept of the items of a sequence that the index keeps.
pub static ITEM_KEYS: &[(Tag, &[Tag])] = &[
    (
        tags::OTHER_PATIENT_I_DS_SEQUENCE,
        &[
            tags::PATIENT_ID,
            tags::ISSUER_OF_PATIENT_ID,
            tags::TYPE_OF_PATIENT_ID,
        ],
    ),
    (
        tags::REFERENCED_STUDY_SEQUENCE,
        &[
            tags::REFERENCED_SOP_CLASS_UID,
            tags::REFERENCED_SOP_INSTANCE_UID,
        ],
    ),
    (
        tags::PROCEDURE_CODE_SEQUENCE,
        &[
            tags::CODE_VALUE,
            tags::CODING_SCHEME_DESIGNATOR,
            tags::CODING_SCHEME_VERSION,
            tags::CODE_MEANING,
        ],
    ),
    (
        tags::REQUEST_ATTRIBUTES_SEQUENCE,
        &[
            tags::ACCESSION_NUMBER,
            tags::STUDY_INSTANCE_UID,
            tags::REQUESTING_PHYSICIAN,
            tags::REQUESTING_SERVICE,
            tags::REQUESTED_PROCEDURE_DESCRIPTION,
            tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION,
            tags::SCHEDULED_PROCEDURE_STEP_ID,
            tags::REQUESTED_PROCEDURE_ID,
        ],
    ),
];

/// What is kept of the items of a sequence; nothing of one that the index does not keep.
pub fn item_keys(sequence: Tag) -> &'static [Tag] {
    ITEM_KEYS
        .iter()
        .find(|(tag, _)| *tag == sequence)
        .map_or(&[], |(_, keys)| keys)
}

/// The level of an attribute which the index keeps, by the configuration too; None for all others.
pub fn level_of(tag: Tag) -> Option<Level> {
    let standard = INDEXED.iter().find(|(_, indexed)| *indexed == tag);
    match standard {
        Some((level, _)) => Some(*level),
        None => extra(tag).map(|key| key.level),
    }
}

/// Whether the index keeps it in every archive, whatever is configured.
pub fn is_standard(tag: Tag) -> bool {
    INDEXED.iter().any(|(_, indexed)| *indexed == tag)
}

/// The VR which PS3.6 gives this attribute, or for private and unknown ones the configuration; else UN.
///
/// Where the standard leaves a choice: OW of "OB or OW", US of "US or SS".
pub fn vr_of(tag: Tag) -> VR {
    if tag.element() == 0 {
        return VR::UL; // group length, PS3.5 7.2
    }
    if tag.group() % 2 == 1 {
        // Private creators are LO by PS3.5 7.8.1; what they reserve is not ours to know.
        return if (0x10..=0xFF).contains(&tag.element()) {
            VR::LO
        } else {
            extra(tag).map_or(VR::UN, |key| key.vr)
        };
    }
    match StandardDataDictionary.by_tag(tag) {
        Some(entry) => entry.vr().relaxed(),
        None => extra(tag).map_or(VR::UN, |key| key.vr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_spelt_as_on_the_wire() {
        assert!(
            Level::Patient < Level::Study
                && Level::Study < Level::Series
                && Level::Series < Level::Instance
        );
        for level in [Level::Patient, Level::Study, Level::Series, Level::Instance] {
            assert_eq!(level.to_string().parse::<Level>(), Ok(level));
        }
        assert_eq!("study ".parse::<Level>(), Ok(Level::Study));
        assert!("EXAM".parse::<Level>().is_err());
    }

    #[test]
    fn every_indexed_attribute_is_listed_once_and_known_to_the_dictionary() {
        for (at, (level, tag)) in INDEXED.iter().enumerate() {
            assert_eq!(level_of(*tag), Some(*level), "{tag} is listed twice");
            assert_eq!(INDEXED.iter().position(|(_, t)| t == tag), Some(at));
            assert_ne!(vr_of(*tag), VR::UN, "{tag}");
            // Of a sequence something is kept only if it is said what.
            assert_eq!(vr_of(*tag) == VR::SQ, !item_keys(*tag).is_empty(), "{tag}");
        }
        for (sequence, keys) in ITEM_KEYS {
            assert!(level_of(*sequence).is_some(), "{sequence}");
            for key in *keys {
                assert!(!matches!(vr_of(*key), VR::UN | VR::SQ), "{sequence} {key}");
            }
        }
    }

    /// Method: the table of the documentation is written from the lists above, and compared.
    #[test]
    fn the_documentation_names_every_key() {
        let keyword = |tag: Tag| {
            let entry = StandardDataDictionary.by_tag(tag).expect("tested above");
            entry.alias().to_owned()
        };
        let document = include_str!("../../docs/queries.md");
        for (level, name) in [
            (Level::Patient, "patient"),
            (Level::Study, "study"),
            (Level::Series, "series"),
            (Level::Instance, "image"),
        ] {
            let keys = INDEXED.iter().filter(|(of, _)| *of == level);
            let keys: Vec<String> = keys
                .map(|(_, tag)| match item_keys(*tag) {
                    [] => keyword(*tag),
                    inner => {
                        let inner: Vec<String> = inner.iter().map(|tag| keyword(*tag)).collect();
                        format!("{} ({})", keyword(*tag), inner.join(", "))
                    }
                })
                .collect();
            let row = format!("| {name} | {} |", keys.join(", "));
            assert!(document.contains(&row), "docs/queries.md lacks\n{row}");
        }
    }

    #[test]
    fn the_dictionary_gives_private_and_unknown_tags_un() {
        assert_eq!(vr_of(tags::PATIENT_NAME), VR::PN);
        assert_eq!(vr_of(tags::PIXEL_DATA), VR::OW);
        assert_eq!(vr_of(Tag(0x0009, 0x1001)), VR::UN);
        assert_eq!(vr_of(Tag(0x0009, 0x0010)), VR::LO);
        assert_eq!(vr_of(Tag(0x0008, 0x0000)), VR::UL);
        assert_eq!(vr_of(Tag(0x0008, 0xFFF0)), VR::UN);
    }
}
