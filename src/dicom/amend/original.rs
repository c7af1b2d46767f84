//! The item of the Original Attributes Sequence that says what was there before (PS3.3 C.12.1.1.9).

use dicom_core::{Tag, VR};

use super::Amendment;
use crate::dicom::header::{Form, Header, ITEM};
use crate::dicom::{elements, tags};

/// An element as it was; of length 0 where there was none.
pub(super) struct Original {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    /// Its header as it stood, and how that was written. None: there was no element.
    pub(super) header: Option<(Vec<u8>, Form)>,
    pub(super) value: Vec<u8>,
}

impl Original {
    pub(super) fn absent(tag: Tag, vr: VR) -> Original {
        Original {
            tag,
            vr,
            header: None,
            value: Vec::new(),
        }
    }

    pub(super) fn present(header: &Header, raw: &[u8], value: Vec<u8>) -> Original {
        Original {
            tag: header.tag,
            vr: header.vr,
            header: Some((raw.to_vec(), header.form)),
            value,
        }
    }
}

/// The item, without the sequence. `source` and `system` are in the data set's character set.
///
/// Its attributes in the order of Table C.12.1.1.9-1's tags: what was modified, with the bytes that stood there;
/// attributes that were absent with a zero length, as the standard permits. An old (0008,0005) among them declares the
/// character set of the old values themselves (PS3.5 7.5.3).
pub(super) fn item(
    form: Form,
    originals: &[Original],
    amendment: &Amendment,
    system: &[u8],
    source: &[u8],
) -> Vec<u8> {
    let mut modified = Vec::new();
    for original in originals {
        match &original.header {
            Some((raw, as_was)) if *as_was == form => {
                modified.extend_from_slice(raw);
                modified.extend_from_slice(&original.value);
            }
            _ => put(
                &mut modified,
                form,
                original.tag,
                original.vr,
                &original.value,
            ),
        }
    }
    let mut wrapped = Vec::new();
    put(&mut wrapped, form, ITEM, VR::UN, &modified);
    let mut content = Vec::new();
    let mut add = |tag, vr, value: &[u8]| put(&mut content, form, tag, vr, value);
    add(tags::MODIFIED_ATTRIBUTES_SEQUENCE, VR::SQ, &wrapped);
    let modified_at = amendment.modified_at.as_bytes();
    add(tags::ATTRIBUTE_MODIFICATION_DATE_TIME, VR::DT, modified_at);
    add(tags::MODIFYING_SYSTEM, VR::LO, system);
    add(tags::SOURCE_OF_PREVIOUS_VALUES, VR::LO, source);
    let reason = amendment.reason.as_str().as_bytes();
    add(tags::REASON_FOR_THE_ATTRIBUTE_MODIFICATION, VR::CS, reason);
    let mut item = Vec::new();
    put(&mut item, form, ITEM, VR::UN, &content);
    item
}

/// One element in any form, padded to even length; items and sequences are not padded, whatever they hold.
pub(super) fn put(out: &mut Vec<u8>, form: Form, tag: Tag, vr: VR, value: &[u8]) {
    let nested = tag.group() == 0xFFFE || vr == VR::SQ;
    if !form.big && !nested {
        return elements::put(out, form.explicit, tag, vr, value);
    }
    let pad = if nested { 0 } else { value.len() % 2 };
    let length = value.len() + pad;
    let u16 = |number: u16| {
        if form.big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    // Values here are bounded far below 4 GiB.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let long = if form.big {
        length.to_be_bytes()
    } else {
        length.to_le_bytes()
    };
    out.extend(u16(tag.group()));
    out.extend(u16(tag.element()));
    if !form.explicit || tag.group() == 0xFFFE {
        out.extend(long);
    } else if elements::has_long_length(vr) {
        out.extend(vr.to_bytes());
        out.extend([0, 0]);
        out.extend(long);
    } else {
        out.extend(vr.to_bytes());
        // Checked before: no value of a short VR is longer.
        out.extend(u16(u16::try_from(length).unwrap_or(u16::MAX)));
    }
    out.extend_from_slice(value);
    if pad == 1 {
        out.push(if vr == VR::UI { 0 } else { b' ' });
    }
}
