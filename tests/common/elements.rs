//! A reader of data sets for tests: top-level values only, nested content is
//! stepped over. Written apart from the library's scan, and not for hostile bytes.

use super::build::Tag;

/// How elements are written (PS3.5 7.1, Annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    pub explicit: bool,
    pub big: bool,
}

impl Syntax {
    pub const IMPLICIT_LITTLE: Syntax = Syntax {
        explicit: false,
        big: false,
    };
    pub const EXPLICIT_LITTLE: Syntax = Syntax {
        explicit: true,
        big: false,
    };
    pub const EXPLICIT_BIG: Syntax = Syntax {
        explicit: true,
        big: true,
    };

    pub fn of(transfer_syntax: &str) -> Syntax {
        match transfer_syntax {
            "1.2.840.10008.1.2" | "1.2.840.113619.5.2" => Syntax::IMPLICIT_LITTLE,
            "1.2.840.10008.1.2.2" => Syntax::EXPLICIT_BIG,
            _ => Syntax::EXPLICIT_LITTLE,
        }
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let pair: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if self.big {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        })
    }
}

const UNDEFINED: u32 = 0xFFFF_FFFF;

pub struct Header {
    pub tag: Tag,
    /// Two letters; `None` in implicit VR and for items.
    pub vr: Option<[u8; 2]>,
    /// Offset of the value, in bytes.
    pub value: usize,
    pub length: u32,
}

/// The element header at an offset; `None` when the bytes end in it.
pub fn header(bytes: &[u8], at: usize, syntax: Syntax) -> Option<Header> {
    let tag = Tag(syntax.u16(bytes, at)?, syntax.u16(bytes, at + 2)?);
    if tag.0 == 0xFFFE || !syntax.explicit {
        return Some(Header {
            tag,
            vr: None,
            value: at + 8,
            length: syntax.u32(bytes, at + 4)?,
        });
    }
    let vr: [u8; 2] = bytes.get(at + 4..at + 6)?.try_into().ok()?;
    if !vr.iter().all(u8::is_ascii_uppercase) {
        return None;
    }
    Some(match &vr {
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR"
        | b"UT" | b"UV" => Header {
            tag,
            vr: Some(vr),
            value: at + 12,
            length: syntax.u32(bytes, at + 8)?,
        },
        _ => Header {
            tag,
            vr: Some(vr),
            value: at + 8,
            length: syntax.u16(bytes, at + 6)?.into(),
        },
    })
}

/// Top-level values of a data set in order; nested ones come with an empty
/// value. `None` when the bytes are not well formed.
pub fn read(data_set: &[u8], transfer_syntax: &str) -> Option<Vec<(Tag, Vec<u8>)>> {
    if transfer_syntax == "1.2.840.10008.1.2.1.99" {
        let mut bytes = Vec::new();
        let mut inflate = flate2::read::DeflateDecoder::new(data_set);
        std::io::Read::read_to_end(&mut inflate, &mut bytes).ok()?;
        return top_level(&bytes, Syntax::EXPLICIT_LITTLE);
    }
    top_level(data_set, Syntax::of(transfer_syntax))
}

/// As [`read`], of bytes in implicit VR little endian: identifiers, command sets.
pub fn elements(bytes: &[u8]) -> Vec<(Tag, Vec<u8>)> {
    top_level(bytes, Syntax::IMPLICIT_LITTLE).expect("a well-formed implicit VR data set")
}

fn top_level(bytes: &[u8], syntax: Syntax) -> Option<Vec<(Tag, Vec<u8>)>> {
    let mut values = Vec::new();
    // One entry per open sequence, item or value of undefined length.
    let mut open = vec![syntax];
    let mut at = 0;
    while at < bytes.len() {
        let syntax = *open.last()?;
        if open.len() == 1 && bytes[at..].iter().all(|byte| *byte == 0) {
            break; // padding after the last element
        }
        let header = header(bytes, at, syntax)?;
        at = header.value;
        match header.tag {
            Tag(0xFFFE, 0xE00D | 0xE0DD) => {
                if open.len() > 1 {
                    open.pop();
                }
                continue;
            }
            _ if open.len() == 1 => {
                let value = if header.length == UNDEFINED {
                    Vec::new()
                } else {
                    bytes.get(at..at + header.length as usize)?.to_vec()
                };
                values.push((header.tag, value));
            }
            _ => {}
        }
        if header.length == UNDEFINED {
            // CP-246: UN of undefined length is written in implicit VR.
            open.push(if header.vr == Some(*b"UN") {
                Syntax::IMPLICIT_LITTLE
            } else {
                syntax
            });
        } else {
            at = at.checked_add(header.length as usize)?;
            if at > bytes.len() {
                return None;
            }
        }
    }
    (open.len() == 1).then_some(values)
}

/// Bytes as text: trailing padding off, Latin-1.
pub fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .rposition(|byte| *byte != 0 && *byte != b' ')
        .map_or(0, |last| last + 1);
    value[..end].iter().map(|byte| char::from(*byte)).collect()
}

/// The first value of a tag as text; `None` when absent or empty.
pub fn find(values: &[(Tag, Vec<u8>)], group: u16, element: u16) -> Option<String> {
    let (_, value) = values.iter().find(|(tag, _)| *tag == Tag(group, element))?;
    let text = text(value);
    (!text.is_empty()).then_some(text)
}

/// The bytes of a tag, untrimmed.
pub fn raw(values: &[(Tag, Vec<u8>)], group: u16, element: u16) -> Option<&[u8]> {
    values
        .iter()
        .find(|(tag, _)| *tag == Tag(group, element))
        .map(|(_, value)| value.as_slice())
}
