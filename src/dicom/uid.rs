//! Unique identifiers: their form, and what the registered ones mean to an archive (PS3.5 9, PS3.6 Annex A).

/// (0002,0012) and user item 52H: which implementation wrote or spoke.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.165402976620785295755641964793907770748";

/// (0002,0013) and user item 55H; at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "KURA_0_1";

/// Longest UID, in characters. Source: PS3.5 9.1.
pub const UID_LENGTH_MAX: usize = 64;

/// Transfer syntaxes which this program names. Source: PS3.6 Table A-1.
pub mod ts {
    pub const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
    pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
    pub const ENCAPSULATED_UNCOMPRESSED: &str = "1.2.840.10008.1.2.1.98";
    pub const DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1.99";
    pub const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
    pub const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
    pub const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.57";
    pub const JPEG_LOSSLESS_SV1: &str = "1.2.840.10008.1.2.4.70";
    pub const JPEG_LS_LOSSLESS: &str = "1.2.840.10008.1.2.4.80";
    pub const JPEG_2000_LOSSLESS: &str = "1.2.840.10008.1.2.4.90";
    pub const JPEG_2000: &str = "1.2.840.10008.1.2.4.91";
    pub const RLE_LOSSLESS: &str = "1.2.840.10008.1.2.5";
    /// JPIP Referenced Deflate: the data set itself is deflated.
    pub const JPIP_REFERENCED_DEFLATE: &str = "1.2.840.10008.1.2.4.95";
    /// JPIP HTJ2K Referenced Deflate: the data set itself is deflated.
    pub const JPIP_HTJ2K_REFERENCED_DEFLATE: &str = "1.2.840.10008.1.2.4.205";
    /// GE private: implicit VR little endian, except that pixel data are big endian.
    pub const GE_PRIVATE_IMPLICIT: &str = "1.2.840.113619.5.2";
}

/// SOP classes of the services which this program offers. Source: PS3.6 Table A-1.
pub mod sop {
    pub const VERIFICATION: &str = "1.2.840.10008.1.1";
    pub const PATIENT_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.1.1";
    pub const PATIENT_ROOT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.1.2";
    pub const PATIENT_ROOT_GET: &str = "1.2.840.10008.5.1.4.1.2.1.3";
    pub const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
    pub const STUDY_ROOT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
    pub const STUDY_ROOT_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
    pub const PATIENT_STUDY_ONLY_FIND: &str = "1.2.840.10008.5.1.4.1.2.3.1";
    pub const PATIENT_STUDY_ONLY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.3.2";
    pub const PATIENT_STUDY_ONLY_GET: &str = "1.2.840.10008.5.1.4.1.2.3.3";
    pub const STORAGE_COMMITMENT_PUSH: &str = "1.2.840.10008.1.20.1";
    pub const KEY_OBJECT_SELECTION_DOCUMENT_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.88.59";
}

/// How the elements of a data set are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
    /// Explicit VR little endian, deflated as a whole (RFC 1951, no zlib header; PS3.5 A.5).
    DeflatedLittle,
}

/// The UID in a value field: padding (NUL, or the space of careless writers) taken off both ends, any byte kept as
/// Latin-1 so that a broken UID stays recognizable. Source: PS3.5 9.4.
pub fn trim_uid(raw: &[u8]) -> String {
    let padding = |byte: &u8| *byte == 0 || *byte == b' ';
    let start = raw.iter().position(|b| !padding(b)).unwrap_or(raw.len());
    let end = raw
        .iter()
        .rposition(|b| !padding(b))
        .map_or(start, |last| last + 1);
    let uid = &raw[start..end];
    match std::str::from_utf8(uid) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => uid.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// Whether this is 1 to 64 characters: components of digits, separated by single dots.
///
/// Components with leading zeros are against PS3.5 9.1 but common, and harmless to us: they are let through.
pub fn is_conforming(uid: &str) -> bool {
    !uid.is_empty()
        && uid.len() <= UID_LENGTH_MAX
        && uid
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// How data sets of this transfer syntax are written. Unknown and private ones are taken for explicit VR little
/// endian, which every syntax but the four named in PS3.5 A.1 to A.5 is.
pub fn encoding_of(transfer_syntax: &str) -> Encoding {
    match transfer_syntax {
        ts::IMPLICIT_VR_LITTLE_ENDIAN | ts::GE_PRIVATE_IMPLICIT => Encoding::ImplicitLittle,
        ts::EXPLICIT_VR_BIG_ENDIAN => Encoding::ExplicitBig,
        ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        | ts::JPIP_REFERENCED_DEFLATE
        | ts::JPIP_HTJ2K_REFERENCED_DEFLATE => Encoding::DeflatedLittle,
        _ => Encoding::ExplicitLittle,
    }
}

/// Whether pixel data of this syntax come in fragments (PS3.5 A.4). Unknown and private syntaxes: assumed so, since a
/// private syntax exists to carry a private compression.
pub fn is_encapsulated(transfer_syntax: &str) -> bool {
    // The JPIP syntaxes carry a URL in place of pixel data.
    const NATIVE: [&str; 9] = [
        ts::IMPLICIT_VR_LITTLE_ENDIAN,
        ts::EXPLICIT_VR_LITTLE_ENDIAN,
        ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        ts::EXPLICIT_VR_BIG_ENDIAN,
        ts::GE_PRIVATE_IMPLICIT,
        "1.2.840.10008.1.2.4.94",
        ts::JPIP_REFERENCED_DEFLATE,
        "1.2.840.10008.1.2.4.204",
        ts::JPIP_HTJ2K_REFERENCED_DEFLATE,
    ];
    !NATIVE.contains(&transfer_syntax)
}

/// Whether this syntax compresses, and by its definition without loss. (JPEG 2000 .91 and others *may* be lossless;
/// they are not counted, as nothing promises it.)
pub fn is_lossless_compressed(transfer_syntax: &str) -> bool {
    let Some(rest) = transfer_syntax.strip_prefix("1.2.840.10008.1.2.") else {
        return false;
    };
    matches!(
        rest,
        "1.99"
            | "4.57"
            | "4.58"
            | "4.65"
            | "4.66"
            | "4.70"
            | "4.80"
            | "4.90"
            | "4.92"
            | "4.110"
            | "4.201"
            | "4.202"
            | "5"
            | "8.1"
    )
}

/// Root of all UIDs that the standard itself gives out.
const DICOM_ROOT: &str = "1.2.840.10008.";

/// Arc of composite storage classes beneath which a number not yet known to us is still an object to keep.
const STORAGE_ARC: &str = "1.2.840.10008.5.1.4.1.1.";

/// Storage classes that the standard put elsewhere. Source: PS3.6 Table A-1.
const STORAGE_ELSEWHERE: [&str; 6] = [
    "1.2.840.10008.5.1.1.27",    // Stored Print (retired)
    "1.2.840.10008.5.1.1.29",    // Hardcopy Grayscale Image (retired)
    "1.2.840.10008.5.1.1.30",    // Hardcopy Color Image (retired)
    "1.2.840.10008.5.1.4.34.1",  // RT Beams Delivery Instruction, trial (retired)
    "1.2.840.10008.5.1.4.34.7",  // RT Beams Delivery Instruction
    "1.2.840.10008.5.1.4.34.10", // RT Brachy Application Setup Delivery Instruction
];

/// Classes beneath the storage arc which do not belong to a patient, or are no storage. Source: PS3.4 GG.3, Y, HHH, KKK.
const NOT_COMPOSITE: [&str; 12] = [
    "200.1", // CT Defined Procedure Protocol
    "200.3", // Protocol Approval
    "200.4", // Protocol Approval FIND, MOVE, GET
    "200.5", "200.6", "200.7", // XA Defined Procedure Protocol
    "201.1", // Inventory
    "201.2", // Inventory FIND, MOVE, GET, Creation; Repository Query
    "201.3", "201.4", "201.5", "201.6",
];

/// Whether instances of this SOP class are patients' objects that an archive keeps.
///
/// True for every composite storage class of the standard, retired ones too, for numbers beneath the storage arc that
/// are newer than this program, and for every private UID. False for the other services of the standard, for its
/// non-patient objects (hanging protocols, color palettes, implant templates, procedure protocols, inventories), for
/// the DICOMDIR, and for what is no UID at all.
pub fn is_storage_class(uid: &str) -> bool {
    if !is_conforming(uid) {
        return false;
    }
    if let Some(rest) = uid.strip_prefix(STORAGE_ARC) {
        return !NOT_COMPOSITE.contains(&rest);
    }
    !(uid.starts_with(DICOM_ROOT) || uid == "1.2.840.10008") || STORAGE_ELSEWHERE.contains(&uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_loses_its_padding_and_nothing_else() {
        assert_eq!(trim_uid(b"1.2.3\0"), "1.2.3");
        assert_eq!(trim_uid(b" 1.2.3 \0"), "1.2.3");
        assert_eq!(trim_uid(b"\0\0"), "");
        assert_eq!(trim_uid(b"1.\xE9"), "1.\u{e9}");
    }

    #[test]
    fn conforming_uids_are_digits_and_single_dots() {
        let sixty_four = format!("1.{}", "2".repeat(62));
        for good in [
            "1",
            "1.2.840.10008.1.1",
            "1.02.3",
            sixty_four.as_str(),
            IMPLEMENTATION_CLASS_UID,
        ] {
            assert!(is_conforming(good), "{good}");
        }
        for bad in [
            "",
            ".1",
            "1.",
            "1..2",
            "1.a",
            "1. 2",
            &format!("1.{}", "2".repeat(63)),
        ] {
            assert!(!is_conforming(bad), "{bad}");
        }
        assert!(IMPLEMENTATION_VERSION_NAME.len() <= 16);
    }

    #[test]
    fn storage_classes_are_told_from_other_services() {
        for keep in [
            "1.2.840.10008.5.1.4.1.1.2",     // CT
            "1.2.840.10008.5.1.4.1.1.88.67", // dose report
            "1.2.840.10008.5.1.4.1.1.104.1", // PDF
            "1.2.840.10008.5.1.4.1.1.200.2", // CT Performed Procedure Protocol: a patient's
            "1.2.840.10008.5.1.4.1.1.12.3",  // retired
            "1.2.840.10008.5.1.4.1.1.999.1", // newer than this program
            "1.2.840.10008.5.1.4.34.7",
            "1.2.840.113619.4.26", // GE private
            "1.3.12.2.1107.5.9.1", // Siemens CSA non-image
            "2.25.1",
        ] {
            assert!(is_storage_class(keep), "{keep}");
        }
        for other in [
            sop::VERIFICATION,
            sop::STORAGE_COMMITMENT_PUSH,
            sop::STUDY_ROOT_FIND,
            "1.2.840.10008.1.3.10",       // DICOMDIR
            "1.2.840.10008.3.1.2.3.3",    // MPPS
            "1.2.840.10008.5.1.1.9",      // print
            "1.2.840.10008.5.1.4.31",     // worklist
            "1.2.840.10008.5.1.4.34.6.1", // UPS
            "1.2.840.10008.5.1.4.34.8",   // RT machine verification
            "1.2.840.10008.5.1.4.38.1",   // hanging protocol
            "1.2.840.10008.5.1.4.39.1",   // color palette
            "1.2.840.10008.5.1.4.43.1",   // implant template
            "1.2.840.10008.5.1.4.1.1.200.1",
            "1.2.840.10008.5.1.4.1.1.200.4",
            "1.2.840.10008.5.1.4.1.1.201.1",
            "1.2.840.10008.7.1.1", // application hosting
            ts::EXPLICIT_VR_LITTLE_ENDIAN,
            "",
            "not a uid",
        ] {
            assert!(!is_storage_class(other), "{other}");
        }
    }

    #[test]
    fn transfer_syntaxes_have_their_encoding() {
        assert_eq!(
            encoding_of(ts::IMPLICIT_VR_LITTLE_ENDIAN),
            Encoding::ImplicitLittle
        );
        assert_eq!(
            encoding_of(ts::GE_PRIVATE_IMPLICIT),
            Encoding::ImplicitLittle
        );
        assert_eq!(
            encoding_of(ts::EXPLICIT_VR_BIG_ENDIAN),
            Encoding::ExplicitBig
        );
        assert_eq!(
            encoding_of(ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
            Encoding::DeflatedLittle
        );
        assert_eq!(encoding_of(ts::JPEG_BASELINE), Encoding::ExplicitLittle);
        assert_eq!(
            encoding_of("1.3.6.1.4.1.5962.300.1"),
            Encoding::ExplicitLittle
        );
        assert!(
            is_encapsulated(ts::JPEG_BASELINE) && !is_encapsulated(ts::EXPLICIT_VR_LITTLE_ENDIAN)
        );
        assert!(
            is_lossless_compressed(ts::RLE_LOSSLESS)
                && is_lossless_compressed(ts::JPEG_2000_LOSSLESS)
        );
        assert!(
            !is_lossless_compressed(ts::JPEG_2000)
                && !is_lossless_compressed(ts::EXPLICIT_VR_LITTLE_ENDIAN)
        );
    }
}
