//! Element headers: tag, value representation and length, in their three forms (PS3.5 7.1).

use dicom_core::{Tag, VR};

use super::attributes::vr_of;
use super::elements::has_long_length;
use super::uid::{Encoding, encoding_of};

/// A length of all ones: undefined, ended by a delimiter. Source: PS3.5 7.1.1.
pub(super) const UNDEFINED: u32 = 0xFFFF_FFFF;

pub(super) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(super) const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
pub(super) const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// How element headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) explicit: bool,
    pub(super) big: bool,
}

impl Form {
    /// What a transfer syntax says.
    pub(super) fn of(transfer_syntax: &str) -> Form {
        let encoding = encoding_of(transfer_syntax);
        Form {
            explicit: encoding != Encoding::ImplicitLittle,
            big: encoding == Encoding::ExplicitBig,
        }
    }

    fn u16(self, bytes: &[u8; 12], at: usize) -> u16 {
        let pair = [bytes[at], bytes[at + 1]];
        if self.big {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        }
    }

    fn u32(self, bytes: &[u8; 12], at: usize) -> u32 {
        let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        }
    }

    fn tag(self, bytes: &[u8; 12]) -> Tag {
        Tag(self.u16(bytes, 0), self.u16(bytes, 2))
    }

    /// What the form really is, judged by the first header of a data set (`root`) or of an item; files, and private
    /// sequences within files, are not always what they say. `unknown`: the item stands in a value of VR UN.
    ///
    /// None when this header does not tell.
    pub(super) fn settled(mut self, bytes: &[u8; 12], root: bool, unknown: bool) -> Option<Form> {
        let known = VR::from_binary([bytes[4], bytes[5]]);
        if root && known.is_some() && self.u16(bytes, 0) == 0x0800 {
            // Meant is 0008H: the other byte order.
            self.big = !self.big;
        }
        let tag = self.tag(bytes);
        if matches!(tag.group(), 0x0002 | 0xFFFE) {
            return None;
        }
        if self.explicit {
            self.explicit = known.is_some() || looks_like_new_vr(bytes);
        } else if let Some(vr) = known {
            let same = vr == vr_of(tag) && !has_long_length(vr);
            let unknown = unknown && !has_long_length(vr) && bytes[6..8] != [0, 0];
            self.explicit = same || unknown;
        }
        Some(self)
    }
}

/// A complete element header.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) length: u32,
    pub(super) form: Form,
}

/// An explicit header without a VR that could be one.
pub(super) struct NoVr {
    pub(super) tag: Tag,
    pub(super) vr: [u8; 2],
}

impl Header {
    /// The header in the first `have` bytes, 8 or 12. None when it needs 12 and only 8 are there.
    pub(super) fn parse(
        bytes: &[u8; 12],
        have: usize,
        mut form: Form,
    ) -> Result<Option<Header>, NoVr> {
        let tag = form.tag(bytes);
        if tag.group() == 0xFFFE {
            return Ok(Some(Header {
                tag,
                vr: VR::UN,
                length: form.u32(bytes, 4),
                form,
            }));
        }
        let known = VR::from_binary([bytes[4], bytes[5]]);
        if tag.group() == 0x0002 {
            // File meta information that strayed into a data set keeps its own form.
            form.explicit = known.is_some();
        }
        if !form.explicit {
            return Ok(Some(Header {
                tag,
                vr: vr_of(tag),
                length: form.u32(bytes, 4),
                form,
            }));
        }
        let vr = match known {
            Some(vr) if !has_long_length(vr) => {
                return Ok(Some(Header {
                    tag,
                    vr,
                    length: u32::from(form.u16(bytes, 6)),
                    form,
                }));
            }
            Some(vr) => vr,
            None if looks_like_new_vr(bytes) => VR::UN,
            None => {
                return Err(NoVr {
                    tag,
                    vr: [bytes[4], bytes[5]],
                });
            }
        };
        let length = form.u32(bytes, 8);
        Ok((have == 12).then_some(Header {
            tag,
            vr,
            length,
            form,
        }))
    }
}

/// A VR that is newer than this program has the long form (PS3.5 6.2, Note 3); the "??", "--" and "  " of some writers
/// have it too.
fn looks_like_new_vr(bytes: &[u8; 12]) -> bool {
    bytes[4..6].iter().all(|byte| (b' '..=b'~').contains(byte)) && bytes[6..8] == [0, 0]
}
