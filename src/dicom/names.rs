//! What registered UIDs are called, for people (PS3.6 Table A-1).

use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::StandardSopClassDictionary;

use super::uid::{is_conforming, ts};

/// Transfer syntaxes by the names that systems show; the standard's are longer.
const TRANSFER_SYNTAXES: &[(&str, &str)] = &[
    (ts::IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian"),
    (ts::EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian"),
    (ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "Deflated"),
    (ts::EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian"),
    (ts::JPEG_BASELINE, "JPEG Baseline"),
    ("1.2.840.10008.1.2.4.51", "JPEG Extended"),
    (ts::JPEG_LOSSLESS, "JPEG Lossless (process 14)"),
    (ts::JPEG_LOSSLESS_SV1, "JPEG Lossless"),
    (ts::JPEG_LS_LOSSLESS, "JPEG-LS Lossless"),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS Near-lossless"),
    (ts::JPEG_2000_LOSSLESS, "JPEG 2000 Lossless"),
    (ts::JPEG_2000, "JPEG 2000"),
    ("1.2.840.10008.1.2.4.201", "HTJ2K Lossless"),
    ("1.2.840.10008.1.2.4.203", "HTJ2K"),
    ("1.2.840.10008.1.2.4.100", "MPEG-2"),
    ("1.2.840.10008.1.2.4.102", "MPEG-4 (H.264)"),
    (ts::RLE_LOSSLESS, "RLE"),
];

/// Those of [`transfer_syntax_name`], in the order in which they are shown.
pub fn known_transfer_syntaxes() -> impl Iterator<Item = &'static str> {
    TRANSFER_SYNTAXES.iter().map(|(uid, _)| *uid)
}

/// `CT Image Storage`; an unknown one as it is, what is no UID without what a terminal would obey.
pub fn sop_class_name(uid: &str) -> String {
    match StandardSopClassDictionary.by_uid(uid) {
        Some(entry) => entry.name.to_owned(),
        None => as_it_is(uid),
    }
}

pub fn transfer_syntax_name(uid: &str) -> String {
    let known = TRANSFER_SYNTAXES.iter().find(|(known, _)| *known == uid);
    known.map_or_else(|| as_it_is(uid), |(_, name)| (*name).to_owned())
}

fn as_it_is(uid: &str) -> String {
    match is_conforming(uid) {
        true => uid.to_owned(),
        false => format!("{uid:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_have_the_names_that_people_know() {
        for (uid, name) in [
            ("1.2.840.10008.5.1.4.1.1.2", "CT Image Storage"),
            ("1.2.3.4", "1.2.3.4"),
            ("\x1b[2J", "\"\\u{1b}[2J\""),
        ] {
            assert_eq!(sop_class_name(uid), name);
        }
        assert!(sop_class_name("1.2.840.10008.5.1.4.31").contains("Worklist"));
        assert_eq!(transfer_syntax_name(ts::JPEG_2000), "JPEG 2000");
    }
}
