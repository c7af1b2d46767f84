//! A small image of nobody: what is sent to a peer when it is to be tried out with one.

use dicom_dictionary_std::tags;

use crate::dicom::{TextEncoder, VR, elements};

/// Secondary Capture Image Storage.
pub const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.7";
/// In Latin letters, ideograms and kana, as Japanese systems write names.
pub const PATIENT_NAME: &str = "KURA^TEST=倉^試験=くら^しけん";
pub const PATIENT_ID: &str = "KURA-TEST";

/// Pixels a side, a byte each.
const SIDE: u16 = 64;

pub struct TestImage {
    pub study_instance_uid: String,
    pub sop_instance_uid: String,
    series_instance_uid: String,
}

/// Unique everywhere (PS3.5 B.2).
pub fn new_uid() -> String {
    format!("2.25.{}", uuid::Uuid::new_v4().as_u128())
}

impl TestImage {
    pub fn new() -> TestImage {
        TestImage {
            study_instance_uid: new_uid(),
            series_instance_uid: new_uid(),
            sop_instance_uid: new_uid(),
        }
    }

    /// Its data set, in UTF-8, from black to white from left to right.
    pub fn data_set(&self, explicit: bool) -> Vec<u8> {
        let now = jiff::Zoned::now();
        let (date, time) = (now.strftime("%Y%m%d"), now.strftime("%H%M%S"));
        let (date, time) = (date.to_string(), time.to_string());
        let encoder = TextEncoder::new("ISO_IR 192");
        let name = encoder.encode(PATIENT_NAME, VR::PN).unwrap_or_default();
        let pixels: Vec<u8> = (0..SIDE * SIDE)
            .map(|at| (at % SIDE * (256 / SIDE)) as u8)
            .collect();
        let number = |value: u16| value.to_le_bytes().to_vec();
        let text = |value: &str| value.as_bytes().to_vec();
        let mut out = Vec::new();
        for (tag, vr, value) in [
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, text("ISO_IR 192")),
            (tags::SOP_CLASS_UID, VR::UI, text(SOP_CLASS)),
            (tags::SOP_INSTANCE_UID, VR::UI, text(&self.sop_instance_uid)),
            (tags::STUDY_DATE, VR::DA, text(&date)),
            (tags::STUDY_TIME, VR::TM, text(&time)),
            (tags::ACCESSION_NUMBER, VR::SH, Vec::new()),
            (tags::MODALITY, VR::CS, text("OT")),
            (tags::CONVERSION_TYPE, VR::CS, text("SYN")),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, Vec::new()),
            (tags::STUDY_DESCRIPTION, VR::LO, text("Test image of Kura")),
            (tags::PATIENT_NAME, VR::PN, name),
            (tags::PATIENT_ID, VR::LO, text(PATIENT_ID)),
            (tags::PATIENT_BIRTH_DATE, VR::DA, Vec::new()),
            (tags::PATIENT_SEX, VR::CS, text("O")),
            (
                tags::STUDY_INSTANCE_UID,
                VR::UI,
                text(&self.study_instance_uid),
            ),
            (
                tags::SERIES_INSTANCE_UID,
                VR::UI,
                text(&self.series_instance_uid),
            ),
            (tags::STUDY_ID, VR::SH, text("1")),
            (tags::SERIES_NUMBER, VR::IS, text("1")),
            (tags::INSTANCE_NUMBER, VR::IS, text("1")),
            (tags::PATIENT_ORIENTATION, VR::CS, Vec::new()),
            (tags::SAMPLES_PER_PIXEL, VR::US, number(1)),
            (
                tags::PHOTOMETRIC_INTERPRETATION,
                VR::CS,
                text("MONOCHROME2"),
            ),
            (tags::ROWS, VR::US, number(SIDE)),
            (tags::COLUMNS, VR::US, number(SIDE)),
            (tags::BITS_ALLOCATED, VR::US, number(8)),
            (tags::BITS_STORED, VR::US, number(8)),
            (tags::HIGH_BIT, VR::US, number(7)),
            (tags::PIXEL_REPRESENTATION, VR::US, number(0)),
            (tags::PIXEL_DATA, VR::OB, pixels),
        ] {
            // In implicit VR pixel data of eight bits are OW (PS3.5 A.1), which for bytes is the same.
            elements::put(&mut out, explicit, tag, vr, &value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{Wanted, scan, ts};

    #[test]
    fn the_test_image_is_a_data_set_with_a_name_of_three_groups() {
        let image = TestImage::new();
        for (explicit, syntax) in [
            (true, ts::EXPLICIT_VR_LITTLE_ENDIAN),
            (false, ts::IMPLICIT_VR_LITTLE_ENDIAN),
        ] {
            let attributes = scan(&image.data_set(explicit), syntax, Wanted::All).unwrap();
            let name = attributes.text(tags::PATIENT_NAME);
            assert_eq!(name.as_deref(), Some(PATIENT_NAME));
            let uid = attributes.uid(tags::SOP_INSTANCE_UID);
            assert_eq!(uid.as_ref(), Some(&image.sop_instance_uid));
        }
    }
}
