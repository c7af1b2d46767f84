//! The walk over the elements of a data set that [`scan`](super::scan) and [`amend`](super::amend) share (PS3.5 7).
//!
//! It never recurses, checks every length against what encloses it, and bounds depth and count before they are
//! believed.

use dicom_core::VR;

use super::header::{Form, Header, ITEM, ITEM_END, NoVr, SEQUENCE_END, UNDEFINED};
use super::scan::{Bounds, ScanError};
use super::tags;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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

/// What a header begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A value of the header's length follows.
    Value,
    /// A sequence, an item or encapsulated pixel data.
    Open(Kind),
    /// The end of something, or a delimiter that ends nothing.
    Delimiter,
}

/// What ended an open thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    Length,
    /// The delimiter is visited next.
    Delimiter,
    /// An item without a delimiter of its own: that of its sequence is visited next.
    Forgotten,
}

/// Who is told what a walk meets, in the order of the bytes.
pub(super) trait Visit {
    type Error: From<ScanError>;

    /// `raw`: the header's own bytes. `at_root`: it stands in the data set itself, not in a sequence.
    fn header(
        &mut self,
        header: &Header,
        raw: &[u8],
        step: Step,
        at_root: bool,
    ) -> Result<(), Self::Error>;

    /// The next bytes of the value whose header was the last.
    fn value(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The innermost open thing ended.
    fn closed(&mut self, _kind: Kind, _by: Closed) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Zeros behind the last element.
    fn padding(&mut self, _zeros: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The place of a walk. It holds no bytes but those of one header.
pub(super) struct Walk {
    offset: u64,
    elements_count: u64,
    /// The data set itself, then what is open in it. Never empty.
    frames: Vec<Frame>,
    depth: usize,
    pub(super) bounds: Bounds,
    header: [u8; 12],
    header_have: usize,
    header_need: usize,
    value_left: u64,
    /// A header of zeros was met at top level: only zeros may follow.
    padding: bool,
}

impl Walk {
    pub(super) fn new(form: Form) -> Walk {
        let root = Frame {
            kind: Kind::Item,
            end: None,
            limit: u64::MAX,
            form,
            fresh: true,
            unknown: false,
        };
        Walk {
            offset: 0,
            elements_count: 0,
            frames: vec![root],
            depth: 0,
            bounds: Bounds::default(),
            header: [0; 12],
            header_have: 0,
            header_need: 8,
            value_left: 0,
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

    /// How the elements of the data set itself are written; certain only behind its first element.
    pub(super) fn root_form(&self) -> Form {
        self.frames[0].form
    }

    /// Bytes that the visitor has been told of; those of a header that is not whole are not among them.
    pub(super) fn gone_by(&self) -> u64 {
        self.offset - self.header_have as u64
    }

    pub(super) fn feed<V: Visit>(
        &mut self,
        mut bytes: &[u8],
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        while !bytes.is_empty() {
            if self.padding {
                if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
                    let offset = self.offset + at as u64;
                    return Err(ScanError::AfterEnd { offset }.into());
                }
                self.offset += bytes.len() as u64;
                return visitor.padding(bytes);
            }
            if self.value_left > 0 {
                let count = usize::try_from(self.value_left)
                    .map_or(bytes.len(), |left| left.min(bytes.len()));
                self.advance(count);
                self.value_left -= count as u64;
                visitor.value(&bytes[..count])?;
                bytes = &bytes[count..];
            } else {
                if self.header_have == 0 {
                    self.close_ended(visitor)?;
                }
                let count = (self.header_need - self.header_have).min(bytes.len());
                self.header[self.header_have..self.header_have + count]
                    .copy_from_slice(&bytes[..count]);
                self.header_have += count;
                self.advance(count);
                bytes = &bytes[count..];
                let limit = self.top().limit;
                if self.offset > limit {
                    return Err(ScanError::HeaderCut { end: limit }.into());
                }
                if self.header_have == self.header_need {
                    self.header_complete(visitor)?;
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
    fn close_ended<V: Visit>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        while self.frames.last().and_then(|frame| frame.end) == Some(self.offset) {
            self.pop(Closed::Length, visitor)?;
        }
        Ok(())
    }

    fn pop<V: Visit>(&mut self, by: Closed, visitor: &mut V) -> Result<(), V::Error> {
        if self.frames.len() > 1
            && let Some(frame) = self.frames.pop()
        {
            if frame.kind == Kind::Sequence {
                self.depth -= 1;
            }
            visitor.closed(frame.kind, by)?;
        }
        Ok(())
    }

    /// The end of the data set. An error when it is not one.
    pub(super) fn finish<V: Visit>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        let offset = self.offset;
        let truncated = |within| V::Error::from(ScanError::Truncated { offset, within });
        if self.value_left > 0 {
            return Err(truncated("a value"));
        }
        if self.header_have == 0 {
            self.close_ended(visitor)?;
        }
        if !self.at_root() {
            return Err(truncated(match self.top().kind {
                Kind::Sequence => "a sequence",
                Kind::Item => "an item",
                Kind::Fragments => "encapsulated pixel data",
            }));
        }
        // Fewer zeros than a header has are padding too.
        let rest = &self.header[..self.header_have];
        if rest.iter().any(|&byte| byte != 0) {
            return Err(truncated("an element header"));
        }
        visitor.padding(rest)
    }

    /// Acts on a header once as many bytes are there as seemed needed; it may turn out to be longer.
    fn header_complete<V: Visit>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        if self.at_root() && self.header_have == 8 && self.header[..8] == [0; 8] {
            self.padding = true;
            self.header_have = 0;
            return visitor.padding(&[0; 8]);
        }
        let Some(header) = self.parse_header()? else {
            self.header_need = 12;
            return Ok(());
        };
        let raw = self.header;
        let raw = &raw[..self.header_have];
        let start = self.offset - self.header_have as u64;
        self.header_have = 0;
        self.header_need = 8;
        self.elements_count += 1;
        if self.elements_count > self.bounds.elements {
            let most = self.bounds.elements;
            return Err(ScanError::TooManyElements {
                offset: start,
                most,
            }
            .into());
        }
        let at_root = self.at_root();
        let unexpected = |tag, expected| {
            V::Error::from(ScanError::Unexpected {
                offset: start,
                tag,
                expected,
            })
        };
        let step = match (self.top().kind, header.tag) {
            (Kind::Sequence | Kind::Fragments, SEQUENCE_END) => {
                // In a sequence of defined length the delimiter is superfluous, but written; the length decides.
                if self.top().end.is_none() {
                    self.pop(Closed::Delimiter, visitor)?;
                }
                Step::Delimiter
            }
            (Kind::Sequence, ITEM) => {
                let frame = *self.top();
                self.open(Kind::Item, frame.form, frame.unknown, start, &header)?
            }
            (Kind::Sequence, tag) => return Err(unexpected(tag, "an item of a sequence")),
            (Kind::Fragments, ITEM) if header.length != UNDEFINED => self.value(start, &header)?,
            (Kind::Fragments, tag) => return Err(unexpected(tag, "a pixel data fragment")),
            (Kind::Item, ITEM_END) => {
                if self.top().end.is_none() {
                    self.pop(Closed::Delimiter, visitor)?;
                }
                Step::Delimiter
            }
            (Kind::Item, SEQUENCE_END) => {
                // The item's own delimiter was forgotten; at top level a stray one means nothing.
                if self.top().end.is_none() && !at_root {
                    self.pop(Closed::Forgotten, visitor)?;
                    if self.top().end.is_none() {
                        self.pop(Closed::Delimiter, visitor)?;
                    }
                }
                Step::Delimiter
            }
            (Kind::Item, tag @ ITEM) => return Err(unexpected(tag, "a data element")),
            (Kind::Item, _) => self.element(start, &header)?,
        };
        visitor.header(&header, raw, step, at_root)
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

    fn element(&mut self, start: u64, header: &Header) -> Result<Step, ScanError> {
        let Header {
            tag,
            vr,
            length,
            form,
        } = *header;
        let defined = length != UNDEFINED;
        if is_sequence(header) {
            self.depth += 1;
            if self.depth > self.bounds.depth {
                let most = self.bounds.depth;
                return Err(ScanError::TooDeep {
                    offset: start,
                    most,
                });
            }
            let unknown = self.top().unknown || (form.explicit && vr == VR::UN);
            return self.open(Kind::Sequence, inner_form(header), unknown, start, header);
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

    /// The value of defined length that begins here.
    fn value(&mut self, start: u64, header: &Header) -> Result<Step, ScanError> {
        self.end_of(start, header)?;
        self.value_left = u64::from(header.length);
        Ok(Step::Value)
    }

    fn open(
        &mut self,
        kind: Kind,
        form: Form,
        unknown: bool,
        start: u64,
        header: &Header,
    ) -> Result<Step, ScanError> {
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
        Ok(Step::Open(kind))
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

/// Whether what follows is walked as a sequence.
fn is_sequence(header: &Header) -> bool {
    let defined = header.length != UNDEFINED;
    header.vr == VR::SQ
        || (!defined
            && (header.vr == VR::UN || !header.form.explicit)
            && header.tag != tags::PIXEL_DATA)
}

/// How the items of a sequence with this header are written: in a value of VR UN as implicit VR little endian
/// (PS3.5 6.2.2, Note 4), else as what encloses it.
pub(super) fn inner_form(header: &Header) -> Form {
    if header.form.explicit && header.vr == VR::UN {
        return Form {
            explicit: false,
            big: false,
        };
    }
    header.form
}
