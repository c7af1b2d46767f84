//! Sequences that a writer did not know and stored as VR UN with a length (PS3.5 6.2.2).

use dicom_core::VR;

use super::editor::text_vr;
use super::original::put;
use crate::dicom::charset::is_affected;
use crate::dicom::header::{Form, Header};
use crate::dicom::scan::ScanError;
use crate::dicom::tags;
use crate::dicom::walk::{Step, Visit, Walk};

/// Whether anything in this value would read otherwise in another character set; also where that cannot be told.
pub(super) fn may_hold_text(value: &[u8]) -> bool {
    let implicit = Form {
        explicit: false,
        big: false,
    };
    // As a data set of its own, in the form that such values have.
    let mut sequence = Vec::with_capacity(value.len() + 8);
    put(
        &mut sequence,
        implicit,
        tags::REFERENCED_SERIES_SEQUENCE,
        VR::SQ,
        value,
    );
    let mut texts = Texts {
        in_text: false,
        found: false,
    };
    let mut walk = Walk::new(implicit);
    let walked = walk
        .feed(&sequence, &mut texts)
        .and_then(|()| walk.finish(&mut texts));
    walked.is_err() || texts.found
}

struct Texts {
    in_text: bool,
    found: bool,
}

impl Visit for Texts {
    type Error = ScanError;

    fn header(&mut self, header: &Header, _: &[u8], step: Step, _: bool) -> Result<(), ScanError> {
        let vr = text_vr(header);
        self.in_text = step == Step::Value && is_affected(vr) && vr != VR::UN;
        // Once more of the same, within.
        self.found |= step == Step::Value && vr == VR::SQ;
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        self.found |= self.in_text && bytes.iter().any(|&byte| byte >= 0x80 || byte == 0x1B);
        Ok(())
    }
}
