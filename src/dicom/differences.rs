//! What is different between two data sets, element by element: for screens of "before and after", and for tests.

use dicom_core::{Tag, VR};

use super::charset::CharacterSet;
use super::header::{Form, Header, UNDEFINED};
use super::inflate::Inflater;
use super::scan::ScanError;
use super::tags;
use super::uid::{Encoding, encoding_of};
use super::values::decoded;
use super::walk::{Closed, Kind, Step, Visit, Walk};

/// Most of a value that is kept to be shown, in bytes.
const SHOWN_LENGTH_MAX: usize = 1024;

/// Most that is kept of one data set's values, in bytes.
const KEPT_LENGTH_MAX: usize = 1024 * 1024;

/// Most top-level elements of one data set; those behind count as one. Real ones have some hundred.
const ELEMENTS_MAX: usize = 20_000;

/// Most differences that are told.
pub const DIFFERENCES_MAX: usize = 1000;

/// The top-level elements of a data set, each with its length and checksum. Its memory is bounded, whatever goes by.
pub struct Outline {
    inflater: Option<Inflater>,
    walk: Walk,
    elements: Elements,
}

#[derive(Default)]
struct Elements {
    all: Vec<Element>,
    kept_bytes: usize,
    big: bool,
    charset: CharacterSet,
    depth: usize,
}

/// One top-level element. A sequence counts with all that is in it, headers and delimiters too.
#[derive(Debug, Clone)]
struct Element {
    tag: Tag,
    vr: VR,
    length: u64,
    checksum: crc32fast::Hasher,
    /// The beginning of the value; of a sequence nothing.
    start: Vec<u8>,
}

/// One side of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    pub vr: VR,
    /// In bytes; of a sequence with all that is in it.
    pub length: u64,
    /// Decoded, at most the first 1024 bytes of it; empty where the value is no text or number, and behind the first
    /// megabyte of values.
    pub text: String,
}

/// An attribute that two data sets do not have alike; None where one lacks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub tag: Tag,
    pub before: Option<Side>,
    pub after: Option<Side>,
}

impl Outline {
    pub fn new(transfer_syntax: &str) -> Outline {
        let deflated = encoding_of(transfer_syntax) == Encoding::DeflatedLittle;
        Outline {
            inflater: deflated.then(Inflater::new),
            walk: Walk::new(Form::of(transfer_syntax)),
            elements: Elements::default(),
        }
    }

    /// Takes the next bytes of the data set.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let Outline {
            inflater,
            walk,
            elements,
        } = self;
        match inflater {
            Some(inflater) => inflater.feed(bytes, &mut |inflated| walk.feed(inflated, elements)),
            None => walk.feed(bytes, elements),
        }
    }

    /// To be called at the end of the data set. An error when it is not one.
    pub fn finish(&mut self) -> Result<(), ScanError> {
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        self.walk.finish(&mut self.elements)?;
        self.elements.big = self.walk.root_form().big;
        let charset = self.elements.all.iter();
        let mut charset = charset.filter(|one| one.tag == tags::SPECIFIC_CHARACTER_SET);
        if let Some(declared) = charset.next() {
            self.elements.charset = CharacterSet::new(&String::from_utf8_lossy(&declared.start));
        }
        Ok(())
    }

    /// Of a data set that is in memory.
    pub fn of(data_set: &[u8], transfer_syntax: &str) -> Result<Outline, ScanError> {
        let mut outline = Outline::new(transfer_syntax);
        outline.feed(data_set)?;
        outline.finish()?;
        Ok(outline)
    }
}

impl Visit for Elements {
    type Error = ScanError;

    fn header(
        &mut self,
        header: &Header,
        raw: &[u8],
        step: Step,
        at_root: bool,
    ) -> Result<(), ScanError> {
        if matches!(step, Step::Open(_)) {
            self.depth += 1;
        }
        if !at_root || header.tag.group() == 0xFFFE {
            return self.more(raw, false);
        }
        if self.all.len() < ELEMENTS_MAX {
            let vr = match step {
                Step::Open(Kind::Sequence) => VR::SQ,
                _ => header.vr,
            };
            let mut checksum = crc32fast::Hasher::new();
            // A sequence with a length and one with a delimiter are different bytes.
            checksum.update(&[u8::from(header.length == UNDEFINED)]);
            self.all.push(Element {
                tag: header.tag,
                vr,
                length: 0,
                checksum,
                start: Vec::new(),
            });
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        self.more(bytes, self.depth == 0)
    }

    fn closed(&mut self, _: Kind, _: Closed) -> Result<(), ScanError> {
        self.depth -= 1;
        Ok(())
    }
}

impl Elements {
    /// More bytes of the last element; `shown`: they are its own value.
    fn more(&mut self, bytes: &[u8], shown: bool) -> Result<(), ScanError> {
        if let Some(last) = self.all.last_mut() {
            last.length += bytes.len() as u64;
            last.checksum.update(bytes);
            if shown {
                let room = SHOWN_LENGTH_MAX.saturating_sub(last.start.len());
                let room = room.min(KEPT_LENGTH_MAX - self.kept_bytes);
                let kept = &bytes[..bytes.len().min(room)];
                last.start.extend_from_slice(kept);
                self.kept_bytes += kept.len();
            }
        }
        Ok(())
    }

    fn side(&self, element: &Element) -> Side {
        Side {
            vr: element.vr,
            length: element.length,
            text: decoded(&self.charset, self.big, element.vr, &element.start),
        }
    }
}

/// The attributes that differ, in the order of `before`, those it lacks where `after` has them; at most
/// [`DIFFERENCES_MAX`].
///
/// Bytes are compared, not meanings: a text in another character set is a difference.
pub fn differences(before: &Outline, after: &Outline) -> Vec<Difference> {
    let sorted = |outline: &Outline| {
        // Stable: of several elements of one tag, the first is compared with the first.
        let mut order: Vec<_> = (0..outline.elements.all.len()).collect();
        order.sort_by_key(|at| outline.elements.all[*at].tag);
        order
    };
    let (left, right) = (sorted(before), sorted(after));
    let (mut at_left, mut at_right) = (0, 0);
    let mut found = Vec::new();
    while found.len() < DIFFERENCES_MAX {
        let one = left.get(at_left).map(|at| &before.elements.all[*at]);
        let other = right.get(at_right).map(|at| &after.elements.all[*at]);
        let (one, other) = match (one, other) {
            (None, None) => break,
            (Some(one), Some(other)) if one.tag < other.tag => (Some(one), None),
            (Some(one), Some(other)) if one.tag > other.tag => (None, Some(other)),
            both => both,
        };
        at_left += usize::from(one.is_some());
        at_right += usize::from(other.is_some());
        let Some(tag) = one.or(other).map(|element| element.tag) else {
            break;
        };
        if let (Some(one), Some(other)) = (one, other)
            && one.vr == other.vr
            && one.length == other.length
            && one.checksum.clone().finalize() == other.checksum.clone().finalize()
        {
            continue;
        }
        found.push(Difference {
            tag,
            before: one.map(|element| before.elements.side(element)),
            after: other.map(|element| after.elements.side(element)),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::elements::put;
    use crate::dicom::ts;

    fn le(tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, true, tag, vr, value);
        out
    }

    /// Method: an attribute of each fate: alike, changed, gone, new; a sequence that differs deep inside.
    #[test]
    fn what_differs_is_told_with_both_texts() {
        let sequence = |text: &[u8]| {
            let item = le(
                Tag(0xFFFE, 0xE000),
                VR::UN,
                &le(tags::CODE_MEANING, VR::LO, text),
            );
            le(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, &item)
        };
        let before = [
            le(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
            sequence(b"a"),
            le(tags::PATIENT_NAME, VR::PN, b"J\xE9"),
            le(tags::PATIENT_ID, VR::LO, b"1"),
            le(tags::ROWS, VR::US, &[1, 0]),
            le(tags::PIXEL_DATA, VR::OW, &[1; 5000]),
        ]
        .concat();
        let after = [
            le(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192"),
            sequence(b"b"),
            le(tags::PATIENT_NAME, VR::PN, "é".as_bytes()),
            le(tags::PATIENT_SEX, VR::CS, b"F"),
            le(tags::ROWS, VR::US, &[1, 0]),
            le(tags::PIXEL_DATA, VR::OW, &[1; 5000]),
        ]
        .concat();
        let syntax = ts::EXPLICIT_VR_LITTLE_ENDIAN;
        let mut pieces = Outline::new(syntax);
        before
            .chunks(3)
            .for_each(|piece| pieces.feed(piece).unwrap());
        pieces.finish().unwrap();
        let after = Outline::of(&after, syntax).unwrap();
        let found = differences(&pieces, &after);
        let text = |side: &Option<Side>| side.as_ref().map(|side| side.text.clone());
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.tag, text(&one.before), text(&one.after)))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                (
                    tags::SPECIFIC_CHARACTER_SET,
                    some("ISO_IR 100"),
                    some("ISO_IR 192")
                ),
                (tags::PROCEDURE_CODE_SEQUENCE, some(""), some("")),
                (tags::PATIENT_NAME, some("Jé"), some("é")),
                (tags::PATIENT_ID, some("1"), None),
                (tags::PATIENT_SEX, None, some("F")),
            ]
        );
        assert_eq!(differences(&after, &after), []);
        let whole = Outline::of(&before, syntax).unwrap();
        assert_eq!(differences(&pieces, &whole), []);
    }

    #[test]
    fn what_is_kept_and_told_is_bounded() {
        let many: Vec<u8> = (0..30_000)
            .flat_map(|_| le(tags::PATIENT_COMMENTS, VR::LT, &[b'x'; 2000]))
            .collect();
        let syntax = ts::EXPLICIT_VR_LITTLE_ENDIAN;
        let many = Outline::of(&many, syntax).unwrap();
        assert_eq!(many.elements.all.len(), ELEMENTS_MAX);
        let none = Outline::of(b"", syntax).unwrap();
        let found = differences(&none, &many);
        assert_eq!(found.len(), DIFFERENCES_MAX);
        let side = found[0].after.as_ref().unwrap();
        assert_eq!((side.length, side.text.len()), (2000, SHOWN_LENGTH_MAX));
    }
}
