//! A walk over the whole data set while it arrives, in any pieces (PS3.5 7).
//!
//! The walk checks the structure (so that no parser behind it meets a surprise), and keeps the few values that were asked
//! for, at top level and in the items of top-level sequences. It never recurses, its memory is bounded by constants, and a value it does not want costs
//! nothing but an addition, however long.

use dicom_core::{Tag, VR};

use super::attributes::{item_keys, level_of, vr_of};
use super::elements::put;
use super::header::{Form, Header};
use super::inflate::Inflater;
use super::tags;
use super::uid::{Encoding, encoding_of, ts};
use super::values::Attributes;
pub use super::values::KEPT_LENGTH_MAX;
use super::walk::{Closed, Kind, Step, Visit, Walk};

/// Deepest nesting of sequences. Real reports stay below 20.
pub const DEPTH_MAX: usize = 64;

/// Most element and item headers in one data set. A slide of a million tiles has two million fragments.
pub const ELEMENTS_MAX: u64 = 5_000_000;

/// How much of structure a data set may have; never more than [`DEPTH_MAX`] and [`ELEMENTS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Sequences in one another.
    pub depth: usize,
    /// Elements and items.
    pub elements: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            depth: DEPTH_MAX,
            elements: ELEMENTS_MAX,
        }
    }
}

/// Which top-level values a scan keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What the index keeps, and (0008,0005).
    Indexed,
    /// All, up to the bounds of [`Attributes`], and the first level of what is in sequences; for identifiers and
    /// printing.
    All,
}

/// What is wrong with a data set, and where, in bytes from its start (inflated bytes, for a deflated one).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the data set ends at byte {offset} in the middle of {within}")]
    Truncated { offset: u64, within: &'static str },
    #[error("at byte {offset} sequences are nested deeper than {most}")]
    TooDeep { offset: u64, most: usize },
    #[error("at byte {offset} the data set has more than {most} elements")]
    TooManyElements { offset: u64, most: u64 },
    #[error(
        "element {tag} at byte {offset} says it is {length} bytes long, but only {left} are left of what encloses it"
    )]
    TooLong {
        offset: u64,
        tag: Tag,
        length: u64,
        left: u64,
    },
    #[error("the item or sequence that ends at byte {end} ends in the middle of an element header")]
    HeaderCut { end: u64 },
    #[error("element {tag} at byte {offset} has no value representation but the bytes {vr:02X?}")]
    BadVr { offset: u64, tag: Tag, vr: [u8; 2] },
    #[error("element {tag} at byte {offset} has undefined length, which {vr} may not have")]
    BadUndefinedLength {
        offset: u64,
        tag: Tag,
        vr: &'static str,
    },
    #[error("at byte {offset} stands {tag}, where {expected} must stand")]
    Unexpected {
        offset: u64,
        tag: Tag,
        expected: &'static str,
    },
    #[error(
        "after its end the data set goes on with other bytes than zeros, at or before byte {offset}"
    )]
    AfterEnd { offset: u64 },
    #[error("the deflated data set is damaged at or before byte {offset} of the deflated bytes")]
    Deflate { offset: u64 },
    #[error(
        "{offset} deflated bytes inflate to {inflated_bytes} and more; that is taken for an attack"
    )]
    DeflateTooLarge { offset: u64, inflated_bytes: u64 },
}

/// An incremental scan of one data set.
pub struct Scanner {
    inflater: Option<Inflater>,
    walk: Walk,
    kept: Kept,
    failed: Option<ScanError>,
}

impl Scanner {
    pub fn new(transfer_syntax: &str, wanted: Wanted) -> Scanner {
        let deflated = encoding_of(transfer_syntax) == Encoding::DeflatedLittle;
        Scanner {
            inflater: deflated.then(Inflater::new),
            walk: Walk::new(Form::of(transfer_syntax)),
            kept: Kept {
                wanted,
                attributes: Attributes::default(),
                keeping: false,
                sequence: None,
                depth: 0,
                reached: Tag(0, 0),
            },
            failed: None,
        }
    }

    /// With narrower bounds than the greatest.
    pub fn within(mut self, bounds: Bounds) -> Scanner {
        self.walk.bounds = bounds;
        self
    }

    /// Takes the next bytes. After an error every further call returns the same error.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = match &mut self.inflater {
            Some(inflater) => inflater.feed(bytes, &mut |inflated| {
                self.walk.feed(inflated, &mut self.kept)
            }),
            None => self.walk.feed(bytes, &mut self.kept),
        };
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// What was found so far; a value that is not whole yet is absent. Good for UIDs and numbers: text may lack its
    /// character set.
    pub fn so_far(&self) -> &Attributes {
        &self.kept.attributes
    }

    /// Memory for what is kept, about, in bytes.
    pub fn kept_bytes(&self) -> usize {
        self.kept.attributes.kept_bytes()
    }

    /// Whether everything up to this attribute has been met, in a data set that is in order.
    pub fn is_beyond(&self, tag: Tag) -> bool {
        self.kept.reached > tag
    }

    /// What was found so far, for who reads no further.
    pub fn stop(self) -> Attributes {
        self.kept.complete(self.walk.root_form().big)
    }

    /// The end of the data set. An error when it is not one.
    pub fn finish(mut self) -> Result<Attributes, ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        self.walk.finish(&mut self.kept)?;
        Ok(self.kept.complete(self.walk.root_form().big))
    }
}

/// The values of a walk that were asked for.
struct Kept {
    wanted: Wanted,
    attributes: Attributes,
    keeping: bool,
    /// The top-level sequence that is open, if something is kept of its items.
    sequence: Option<Tag>,
    /// How many sequences and items are open.
    depth: usize,
    /// The highest tag met in the data set itself.
    reached: Tag,
}

impl Visit for Kept {
    type Error = ScanError;

    fn header(
        &mut self,
        header: &Header,
        _: &[u8],
        step: Step,
        at_root: bool,
    ) -> Result<(), ScanError> {
        self.keeping = match (step, self.sequence) {
            (Step::Delimiter, _) => return Ok(()),
            _ if at_root => self.element(header, step),
            (_, Some(sequence)) => self.inner(sequence, header, step),
            (_, None) => false,
        };
        if matches!(step, Step::Open(_)) {
            self.depth += 1;
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if self.keeping {
            self.attributes.push(bytes);
        }
        Ok(())
    }

    fn closed(&mut self, _: Kind, _: Closed) -> Result<(), ScanError> {
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }
}

impl Kept {
    /// An element of the data set itself; whether its value is kept.
    fn element(&mut self, header: &Header, step: Step) -> bool {
        self.sequence = None;
        let tag = header.tag;
        self.reached = self.reached.max(tag);
        if !self.is_wanted(tag) {
            return false;
        }
        let is_first = !self.attributes.contains(tag);
        let keeping = self
            .attributes
            .note(tag, vr_at(header, step), length_at(header, step));
        // What it is said to hold is decided by its first element of that tag, as elsewhere.
        if step == Step::Open(Kind::Sequence) && is_first && self.attributes.contains(tag) {
            self.sequence = Some(tag);
        }
        keeping
    }

    /// Something in a sequence of the data set; whether its value is kept.
    fn inner(&mut self, sequence: Tag, header: &Header, step: Step) -> bool {
        let tag = header.tag;
        match (self.depth, step) {
            (1, Step::Open(Kind::Item)) => {
                if !self.attributes.note_item(sequence) {
                    self.sequence = None;
                }
                false
            }
            (2, _) if self.is_wanted_inner(sequence, tag) => self.attributes.note_inner(
                sequence,
                (tag, vr_at(header, step)),
                length_at(header, step),
                header.form.big,
            ),
            _ => false,
        }
    }

    fn is_wanted(&self, tag: Tag) -> bool {
        match self.wanted {
            Wanted::All => tag.element() != 0,
            Wanted::Indexed => tag == tags::SPECIFIC_CHARACTER_SET || level_of(tag).is_some(),
        }
    }

    fn is_wanted_inner(&self, sequence: Tag, tag: Tag) -> bool {
        match self.wanted {
            Wanted::All => tag.element() != 0,
            Wanted::Indexed => {
                let keys = item_keys(sequence);
                !keys.is_empty() && (tag == tags::SPECIFIC_CHARACTER_SET || keys.contains(&tag))
            }
        }
    }

    fn complete(mut self, big_endian: bool) -> Attributes {
        // A program that did not know the sequence may have written it as a value (PS3.5 6.2.2, Note 4).
        let unknown = self.attributes.iter();
        let unknown: Vec<_> = unknown
            .filter(|(tag, vr, raw)| {
                *vr == VR::UN && !raw.is_empty() && vr_of(*tag) == VR::SQ && self.is_wanted(*tag)
            })
            .map(|(tag, _, raw)| (tag, raw.to_vec()))
            .collect();
        for (tag, raw) in unknown {
            let mut scanner = Scanner::new(ts::IMPLICIT_VR_LITTLE_ENDIAN, self.wanted);
            let mut bytes = Vec::new();
            put(&mut bytes, false, tag, VR::SQ, &raw);
            // As far as it is one.
            let _ = scanner.feed(&bytes);
            self.attributes.adopt_items(tag, scanner.so_far());
        }
        self.attributes.complete(big_endian)
    }
}

fn vr_at(header: &Header, step: Step) -> VR {
    match step {
        Step::Open(Kind::Sequence) => VR::SQ,
        _ => header.vr,
    }
}

fn length_at(header: &Header, step: Step) -> Option<u64> {
    (step == Step::Value).then_some(u64::from(header.length))
}

/// Scans a data set that is in memory.
pub fn scan(bytes: &[u8], transfer_syntax: &str, wanted: Wanted) -> Result<Attributes, ScanError> {
    let mut scanner = Scanner::new(transfer_syntax, wanted);
    scanner.feed(bytes)?;
    scanner.finish()
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "scan_items_tests.rs"]
mod item_tests;
