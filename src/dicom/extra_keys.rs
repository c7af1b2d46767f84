//! Attributes that a site keeps besides [`INDEXED`](super::INDEXED): named in the configuration, the same for the whole
//! process from its first byte on.

use std::sync::OnceLock;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::attributes::{Level, is_standard, vr_of};

/// Most extra keys: each costs room in every ledger line of its level.
pub const EXTRA_KEYS_MAX: usize = 64;

/// An attribute that is kept because the configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtraKey {
    pub level: Level,
    pub tag: Tag,
    pub vr: VR,
}

static EXTRA_KEYS: OnceLock<Vec<ExtraKey>> = OnceLock::new();

/// Says what is kept besides the usual. Once in a process, before anything is read: what a scan keeps and what a query
/// can match must not change under those who use it. False when something else was said before.
pub fn keep_also(keys: &[ExtraKey]) -> bool {
    *EXTRA_KEYS.get_or_init(|| keys.to_vec()) == keys
}

/// In the order of the configuration.
pub fn extra_keys() -> &'static [ExtraKey] {
    EXTRA_KEYS.get().map_or(&[], Vec::as_slice)
}

pub(super) fn extra(tag: Tag) -> Option<&'static ExtraKey> {
    extra_keys().iter().find(|key| key.tag == tag)
}

/// Reads `KEYWORD`, `GGGG,EEEE` or `GGGGEEEE`, behind it `:VR` and `@LEVEL` where these do not follow from it. `None`: it
/// is kept anyway. The error is the rest of a sentence.
pub fn parse(text: &str) -> Result<Option<ExtraKey>, String> {
    let (name, level) = match text.split_once('@') {
        Some((name, level)) => (name, Some(level)),
        None => (text, None),
    };
    let (name, vr) = match name.split_once(':') {
        Some((name, vr)) => (name, Some(vr)),
        None => (name, None),
    };
    let tag = tag_of(name.trim()).ok_or("is neither a keyword of the standard nor GGGG,EEEE")?;
    if is_standard(tag) {
        return Ok(None);
    }
    check_place(tag)?;
    let known = vr_of(tag);
    let vr = match vr {
        Some(vr) => {
            let vr: VR = vr
                .trim()
                .parse()
                .map_err(|_| "has no value representation of the standard behind the colon")?;
            if known != VR::UN && known != vr {
                return Err(format!("has the value representation {known}, not {vr}"));
            }
            vr
        }
        None if known == VR::UN => {
            return Err(
                "is not in the standard: say its value representation and level, as in 0009,1010:LO@series"
                    .to_owned(),
            );
        }
        None => known,
    };
    if !is_kept_as_text(vr) {
        return Err(format!("is of {vr}; only texts and numbers can be kept"));
    }
    let level = match level {
        Some(level) => level.parse().map_err(|error| format!("{error}"))?,
        None => usual_level(tag).ok_or(
            "has no usual level: say patient, study, series or image behind an @, as in 0018,1030@series",
        )?,
    };
    Ok(Some(ExtraKey { level, tag, vr }))
}

fn tag_of(name: &str) -> Option<Tag> {
    if let Some(entry) = StandardDataDictionary.by_name(name) {
        return Some(entry.tag());
    }
    let digits = match name.split_once(',') {
        Some((group, element)) if group.len() == 4 && element.len() == 4 => {
            format!("{group}{element}")
        }
        Some(_) => return None,
        None => name.to_owned(),
    };
    let is_hex = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u32::from_str_radix(&digits, 16).ok().filter(|_| is_hex)?;
    Some(Tag((number >> 16) as u16, number as u16))
}

/// Only what stands in images, and before the pixel data: the rest of a file is not read for it.
fn check_place(tag: Tag) -> Result<(), String> {
    let asked_or_counted = matches!(
        tag,
        tags::SPECIFIC_CHARACTER_SET
            | tags::QUERY_RETRIEVE_LEVEL
            | tags::RETRIEVE_AE_TITLE
            | tags::INSTANCE_AVAILABILITY
            | tags::MODALITIES_IN_STUDY
            | tags::SOP_CLASSES_IN_STUDY
            | Tag(0x0020, 0x1200..=0x1209)
    );
    if asked_or_counted {
        return Err("is worked out for each query and not read from images".to_owned());
    }
    let in_place = (0x0008..0x7FE0).contains(&tag.group()) && tag.element() != 0;
    match in_place {
        true => Ok(()),
        false => Err("does not stand in images before their pixel data".to_owned()),
    }
}

fn is_kept_as_text(vr: VR) -> bool {
    !matches!(
        vr,
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ | VR::UN
    )
}

/// The level of the information entity that the attribute describes, where its number tells (PS3.3 A.1.2, C.7).
fn usual_level(tag: Tag) -> Option<Level> {
    Some(match (tag.group(), tag.element()) {
        // Patient Study Module (PS3.3 C.7.2.2), what was known at that time.
        (0x0010, 0x1010..=0x1030 | 0x2000 | 0x2110 | 0x2180 | 0x21A0..=0x21D0 | 0x2203) => {
            Level::Study
        }
        (0x0010, _) => Level::Patient,
        (0x0008, 0x0020 | 0x0030 | 0x0050..=0x0051 | 0x0090..=0x009C | 0x0201) => Level::Study,
        (0x0008, 0x1030..=0x1032 | 0x1048..=0x1049 | 0x1060..=0x1062 | 0x1080..=0x1084) => {
            Level::Study
        }
        (0x0020, 0x000D | 0x0010) => Level::Study,
        (0x0032 | 0x0038 | 0x4008, _) => Level::Study,
        (0x0040, 0x1000..=0x2FFF) => Level::Study,
        (0x0008, 0x0021 | 0x0031 | 0x0060..=0x0081 | 0x1010 | 0x103E..=0x1040) => Level::Series,
        (0x0008, 0x1050..=0x1052 | 0x1070..=0x1072 | 0x1090) => Level::Series,
        (0x0018, 0x0015 | 0x1000..=0x1020 | 0x1030 | 0x5100) => Level::Series,
        (0x0020, 0x000E | 0x0011 | 0x0052 | 0x0060 | 0x1040) => Level::Series,
        (0x0040, 0x0241..=0x02FF) => Level::Series,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_what_is_known_of_them() {
        let key = |text: &str| parse(text).unwrap_or_else(|error| panic!("{text} {error}"));
        for (text, level, tag, vr) in [
            ("MedicalAlerts", Level::Study, Tag(0x0010, 0x2000), VR::LO),
            ("0018,1020", Level::Series, Tag(0x0018, 0x1020), VR::LO),
            (
                "00181020 @ image",
                Level::Instance,
                Tag(0x0018, 0x1020),
                VR::LO,
            ),
            (
                "0018,0050@IMAGE",
                Level::Instance,
                Tag(0x0018, 0x0050),
                VR::DS,
            ),
            (
                "0009,1010:LO@series",
                Level::Series,
                Tag(0x0009, 0x1010),
                VR::LO,
            ),
            (
                "PatientMotherBirthName",
                Level::Patient,
                Tag(0x0010, 0x1060),
                VR::PN,
            ),
        ] {
            assert_eq!(key(text), Some(ExtraKey { level, tag, vr }), "{text}");
        }
        assert_eq!(key("StudyComments"), None, "kept anyway");
        for (text, reason) in [
            ("NoSuchThing", "keyword"),
            ("0018,10", "keyword"),
            ("SliceThickness", "level"),
            ("SliceThickness@exam", "level"),
            ("SliceThickness:LO@image", "DS, not LO"),
            ("0009,1010@series", "not in the standard"),
            ("0009,1010:OB@series", "only texts and numbers"),
            ("SourceImageSequence@image", "only texts and numbers"),
            ("PixelData@image", "before their pixel data"),
            ("ModalitiesInStudy", "worked out"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
