//! A walk over the whole data set while it arrives, in any pieces (PS3.5 7).
//!
//! The walk checks the structure (so that no parser behind it meets a surprise), and keeps the few top-level values
//! that were asked for. It never recurses, its memory is bounded by constants, and a value it does not want costs
//! nothing but an addition, however long.

use dicom_core::{Tag, VR};

use super::attributes::level_of;
use super::header::{Form, Header, ITEM, ITEM_END, NoVr, SEQUENCE_END, UNDEFINED};
use super::inflate::Inflater;
use super::tags;
use super::uid::{Encoding, encoding_of};
use super::values::Attributes;

/// Deepest nesting of sequences. Real reports stay below 20.
pub const DEPTH_MAX: usize = 64;

/// Most element and item headers in one data set. A slide of a million tiles has two million fragments.
pub const ELEMENTS_MAX: u64 = 5_000_000;

/// Which top-level values a scan keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What the index keeps, and (0008,0005).
    Indexed,
    /// All, up to the bounds of [`Attributes`]; for identifiers and printing.
    All,
}

/// What is wrong with a data set, and where, in bytes from its start (inflated bytes, for a deflated one).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the data set ends at byte {offset} in the middle of {within}")]
    Truncated { offset: u64, within: &'static str },
    #[error("at byte {offset} sequences are nested deeper than {DEPTH_MAX}")]
    TooDeep { offset: u64 },
    #[error("at byte {offset} the data set has more than {ELEMENTS_MAX} elements")]
    TooManyElements { offset: u64 },
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
    failed: Option<ScanError>,
}

impl Scanner {
    pub fn new(transfer_syntax: &str, wanted: Wanted) -> Scanner {
        let encoding = encoding_of(transfer_syntax);
        let form = match encoding {
            Encoding::ImplicitLittle => Form {
                explicit: false,
                big: false,
            },
            Encoding::ExplicitLittle | Encoding::DeflatedLittle => Form {
                explicit: true,
                big: false,
            },
            Encoding::ExplicitBig => Form {
                explicit: true,
                big: true,
            },
        };
        Scanner {
            inflater: (encoding == Encoding::DeflatedLittle).then(Inflater::new),
            walk: Walk::new(form, wanted),
            failed: None,
        }
    }

    /// Takes the next bytes. After an error every further call returns the same error.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = match &mut self.inflater {
            Some(inflater) => inflater.feed(bytes, &mut |inflated| self.walk.feed(inflated)),
            None => self.walk.feed(bytes),
        };
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// What was found so far; a value that is not whole yet is absent. Good for UIDs and numbers: text may lack its
    /// character set.
    pub fn so_far(&self) -> &Attributes {
        &self.walk.attributes
    }

    /// The end of the data set. An error when it is not one.
    pub fn finish(self) -> Result<Attributes, ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(inflater) = self
            .inflater
            .filter(|inflater| !inflater.ended() && inflater.consumed() > 0)
        {
            return Err(ScanError::Truncated {
                offset: inflater.consumed(),
                within: "the deflated bytes",
            });
        }
        self.walk.finish()
    }
}

/// Scans a data set that is in memory.
pub fn scan(bytes: &[u8], transfer_syntax: &str, wanted: Wanted) -> Result<Attributes, ScanError> {
    let mut scanner = Scanner::new(transfer_syntax, wanted);
    scanner.feed(bytes)?;
    scanner.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    /// Encapsulated pixel data (PS3.5 A.4).
    Fragments,
}

/// A sequence, item or encapsulated value that is open.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    /// Where it ends; None when a delimiter ends it.
    end: Option<u64>,
    /// Where the nearest enclosing thing of defined length ends, itself included.
    limit: u64,
    form: Form,
    /// No element of this item was read yet: its form may still turn out to be another one.
    fresh: bool,
    /// The item stands in a value of VR UN (CP-246), whose form is least to be trusted.
    unknown: bool,
}

struct Walk {
    wanted: Wanted,
    attributes: Attributes,
    offset: u64,
    elements_count: u64,
    /// The data set itself, then what is open in it. Never empty.
    frames: Vec<Frame>,
    depth: usize,
    header: [u8; 12],
    header_have: usize,
    header_need: usize,
    value_left: u64,
    keeping: bool,
    /// A header of zeros was met at top level: only zeros may follow.
    padding: bool,
}

impl Walk {
    fn new(form: Form, wanted: Wanted) -> Walk {
        let root = Frame {
            kind: Kind::Item,
            end: None,
            limit: u64::MAX,
            form,
            fresh: true,
            unknown: false,
        };
        Walk {
            wanted,
            attributes: Attributes::default(),
            offset: 0,
            elements_count: 0,
            frames: vec![root],
            depth: 0,
            header: [0; 12],
            header_have: 0,
            header_need: 8,
            value_left: 0,
            keeping: false,
            padding: false,
        }
    }

    fn top(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn at_root(&self) -> bool {
        self.frames.len() == 1
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ScanError> {
        while !bytes.is_empty() {
            if self.padding {
                if bytes.iter().any(|&byte| byte != 0) {
                    return Err(ScanError::AfterEnd {
                        offset: self.offset + bytes.len() as u64,
                    });
                }
                self.offset += bytes.len() as u64;
                return Ok(());
            }
            if self.value_left > 0 {
                let count = usize::try_from(self.value_left)
                    .map_or(bytes.len(), |left| left.min(bytes.len()));
                if self.keeping {
                    self.attributes.push(&bytes[..count]);
                }
                self.advance(count);
                self.value_left -= count as u64;
                bytes = &bytes[count..];
            } else {
                if self.header_have == 0 {
                    self.close_ended();
                }
                let count = (self.header_need - self.header_have).min(bytes.len());
                self.header[self.header_have..self.header_have + count]
                    .copy_from_slice(&bytes[..count]);
                self.header_have += count;
                self.advance(count);
                bytes = &bytes[count..];
                let limit = self.top().limit;
                if self.offset > limit {
                    return Err(ScanError::HeaderCut { end: limit });
                }
                if self.header_have == self.header_need {
                    self.header_complete()?;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        // 2^64 bytes do not come.
        self.offset = self.offset.saturating_add(count as u64);
    }

    /// Leaves what ends here by its defined length.
    fn close_ended(&mut self) {
        while self.frames.last().and_then(|frame| frame.end) == Some(self.offset) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if self.frames.len() > 1
            && let Some(frame) = self.frames.pop()
            && frame.kind == Kind::Sequence
        {
            self.depth -= 1;
        }
    }

    fn finish(mut self) -> Result<Attributes, ScanError> {
        let offset = self.offset;
        if self.value_left > 0 {
            return Err(ScanError::Truncated {
                offset,
                within: "a value",
            });
        }
        if self.header_have == 0 {
            self.close_ended();
        }
        if !self.at_root() {
            let within = match self.top().kind {
                Kind::Sequence => "a sequence",
                Kind::Item => "an item",
                Kind::Fragments => "encapsulated pixel data",
            };
            return Err(ScanError::Truncated { offset, within });
        }
        // Fewer zeros than a header has are padding too.
        if self.header[..self.header_have]
            .iter()
            .any(|&byte| byte != 0)
        {
            return Err(ScanError::Truncated {
                offset,
                within: "an element header",
            });
        }
        let big = self.frames[0].form.big;
        Ok(self.attributes.complete(big))
    }

    /// Acts on a header once as many bytes are there as seemed needed; it may turn out to be longer.
    fn header_complete(&mut self) -> Result<(), ScanError> {
        if self.at_root() && self.header_have == 8 && self.header[..8] == [0; 8] {
            self.padding = true;
            return Ok(());
        }
        let Some(header) = self.parse_header()? else {
            self.header_need = 12;
            return Ok(());
        };
        let start = self.offset - self.header_have as u64;
        self.header_have = 0;
        self.header_need = 8;
        self.elements_count += 1;
        if self.elements_count > ELEMENTS_MAX {
            return Err(ScanError::TooManyElements { offset: start });
        }
        self.keeping = false;
        match (self.top().kind, header.tag) {
            (Kind::Sequence | Kind::Fragments, SEQUENCE_END) => {
                // In a sequence of defined length the delimiter is superfluous, but written; the length decides.
                if self.top().end.is_none() {
                    self.pop();
                }
                Ok(())
            }
            (Kind::Sequence, ITEM) => {
                let frame = *self.top();
                self.open(Kind::Item, frame.form, frame.unknown, start, &header)
            }
            (Kind::Sequence, tag) => Err(ScanError::Unexpected {
                offset: start,
                tag,
                expected: "an item of a sequence",
            }),
            (Kind::Fragments, ITEM) if header.length != UNDEFINED => self.value(start, &header),
            (Kind::Fragments, tag) => Err(ScanError::Unexpected {
                offset: start,
                tag,
                expected: "a pixel data fragment",
            }),
            (Kind::Item, ITEM_END) => {
                if self.top().end.is_none() {
                    self.pop();
                }
                Ok(())
            }
            (Kind::Item, SEQUENCE_END) => {
                // The item's own delimiter was forgotten; at top level a stray one means nothing.
                if self.top().end.is_none() && !self.at_root() {
                    self.pop();
                    if self.top().end.is_none() {
                        self.pop();
                    }
                }
                Ok(())
            }
            (Kind::Item, tag @ ITEM) => Err(ScanError::Unexpected {
                offset: start,
                tag,
                expected: "a data element",
            }),
            (Kind::Item, _) => self.element(start, &header),
        }
    }

    /// The header in `self.header`; None when it needs 12 bytes and only 8 are there.
    fn parse_header(&mut self) -> Result<Option<Header>, ScanError> {
        let bytes = self.header;
        let start = self.offset - self.header_have as u64;
        if self.top().fresh && self.header_have == 8 {
            self.settle_form(&bytes);
        }
        Header::parse(&bytes, self.header_have, self.top().form).map_err(|NoVr { tag, vr }| {
            ScanError::BadVr {
                offset: start,
                tag,
                vr,
            }
        })
    }

    /// At the first element of the data set or of an item: decides between explicit and implicit VR by what is
    /// really there, since files (and private sequences within files) are not always what they say.
    fn settle_form(&mut self, bytes: &[u8; 12]) {
        let root = self.at_root();
        let frame = self.top();
        if frame.kind != Kind::Item {
            return;
        }
        let settled = frame.form.settled(bytes, root, frame.unknown);
        frame.form = settled.unwrap_or(frame.form);
        frame.fresh = settled.is_none();
    }

    fn element(&mut self, start: u64, header: &Header) -> Result<(), ScanError> {
        let Header {
            tag,
            vr,
            length,
            form,
        } = *header;
        let defined = length != UNDEFINED;
        let sequence = vr == VR::SQ
            || (!defined && (vr == VR::UN || !form.explicit) && tag != tags::PIXEL_DATA);
        if self.at_root() && self.is_wanted(tag) {
            let kept = (!sequence && defined).then_some(u64::from(length));
            self.keeping = self
                .attributes
                .note(tag, if sequence { VR::SQ } else { vr }, kept);
        }
        if sequence {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(ScanError::TooDeep { offset: start });
            }
            let unknown = self.top().unknown || (form.explicit && vr == VR::UN);
            let inner = if form.explicit && vr == VR::UN {
                Form {
                    explicit: false,
                    big: false,
                }
            } else {
                form
            };
            return self.open(Kind::Sequence, inner, unknown, start, header);
        }
        if defined {
            return self.value(start, header);
        }
        let bytes = matches!(vr, VR::OB | VR::OW | VR::OD | VR::OF | VR::OL | VR::OV);
        if !bytes && tag != tags::PIXEL_DATA {
            return Err(ScanError::BadUndefinedLength {
                offset: start,
                tag,
                vr: vr.to_string(),
            });
        }
        self.open(Kind::Fragments, form, false, start, header)
    }

    fn is_wanted(&self, tag: Tag) -> bool {
        match self.wanted {
            Wanted::All => tag.element() != 0,
            Wanted::Indexed => tag == tags::SPECIFIC_CHARACTER_SET || level_of(tag).is_some(),
        }
    }

    /// The value of defined length that begins here.
    fn value(&mut self, start: u64, header: &Header) -> Result<(), ScanError> {
        self.end_of(start, header)?;
        self.value_left = u64::from(header.length);
        Ok(())
    }

    fn open(
        &mut self,
        kind: Kind,
        form: Form,
        unknown: bool,
        start: u64,
        header: &Header,
    ) -> Result<(), ScanError> {
        let end = self.end_of(start, header)?;
        let limit = end.unwrap_or(self.top().limit);
        self.frames.push(Frame {
            kind,
            end,
            limit,
            form,
            fresh: kind == Kind::Item,
            unknown,
        });
        Ok(())
    }

    /// Where a thing of this header ends, if it says so; an error when that is beyond what encloses it.
    fn end_of(&mut self, start: u64, header: &Header) -> Result<Option<u64>, ScanError> {
        if header.length == UNDEFINED {
            return Ok(None);
        }
        let length = u64::from(header.length);
        let left = self.top().limit.saturating_sub(self.offset);
        if length > left {
            return Err(ScanError::TooLong {
                offset: start,
                tag: header.tag,
                length,
                left,
            });
        }
        Ok(Some(self.offset + length))
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
