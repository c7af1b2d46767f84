//! Writing small data sets: identifiers, command sets, file meta information. Always little endian.

use dicom_core::{Tag, VR};

/// Longest value an element can carry: FFFFFFFFH means "undefined", and lengths are even (PS3.5 7.1.1).
const VALUE_LENGTH_MAX: usize = 0xFFFF_FFFE;

/// Whether an explicit header of this VR has two reserved bytes and a 32-bit length. Source: PS3.5 7.1.2.
pub fn has_long_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// Appends one element, its value padded to even length: with NUL for UI and the byte-like VRs, else with a space
/// (PS3.5 6.2).
///
/// In explicit VR a value too long for the 16-bit length of its VR is written as UN (PS3.5 6.2.2, Note). A value of
/// 4 GiB or more is cut; nothing here comes near it.
pub fn put(out: &mut Vec<u8>, explicit: bool, tag: Tag, vr: VR, value: &[u8]) {
    let value = &value[..value.len().min(VALUE_LENGTH_MAX)];
    let length = value.len() + value.len() % 2;
    out.extend_from_slice(&tag.group().to_le_bytes());
    out.extend_from_slice(&tag.element().to_le_bytes());
    // Cannot truncate: cut above.
    let long = (length as u32).to_le_bytes();
    if !explicit || matches!(tag.group(), 0x0000 | 0xFFFE) {
        // Command elements are always implicit (PS3.7 6.3.1), items and delimiters have no VR (PS3.5 7.5).
        out.extend_from_slice(&long);
    } else if has_long_length(vr) || length > 0xFFFE {
        let vr = if has_long_length(vr) { vr } else { VR::UN };
        out.extend_from_slice(&vr.to_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&long);
    } else {
        out.extend_from_slice(&vr.to_bytes());
        out.extend_from_slice(&long[..2]);
    }
    out.extend_from_slice(value);
    if value.len() % 2 == 1 {
        out.push(match vr {
            VR::UI | VR::OB | VR::UN | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW => 0,
            _ => b' ',
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_dictionary_std::tags;

    fn one(explicit: bool, tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, explicit, tag, vr, value);
        out
    }

    #[test]
    fn elements_are_written_as_the_standard_draws_them() {
        assert_eq!(
            one(true, tags::PATIENT_ID, VR::LO, b"ABC"),
            b"\x10\0\x20\0LO\x04\0ABC "
        );
        assert_eq!(
            one(false, tags::PATIENT_ID, VR::LO, b"ABC"),
            b"\x10\0\x20\0\x04\0\0\0ABC "
        );
        assert_eq!(
            one(true, tags::SOP_CLASS_UID, VR::UI, b"1.2"),
            b"\x08\0\x16\0UI\x04\x001.2\0"
        );
        assert_eq!(
            one(true, Tag(0x0002, 0x0001), VR::OB, &[0, 1]),
            b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01"
        );
        assert_eq!(
            one(true, Tag(0xFFFE, 0xE00D), VR::UN, b""),
            b"\xFE\xFF\x0D\xE0\0\0\0\0"
        );
        assert_eq!(
            one(true, tags::PATIENT_ID, VR::LO, b""),
            b"\x10\0\x20\0LO\0\0"
        );
    }

    #[test]
    fn a_value_too_long_for_its_vr_is_written_as_unknown() {
        let bytes = one(true, tags::PATIENT_COMMENTS, VR::LT, &vec![b'x'; 0x1_0001]);
        assert_eq!(&bytes[..12], b"\x10\0\0\x40UN\0\0\x02\0\x01\0");
        assert_eq!(bytes.len(), 12 + 0x1_0002);
        assert_eq!(bytes.last(), Some(&b' '));
    }
}
