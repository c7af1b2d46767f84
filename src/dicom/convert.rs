//! A data set in another encoding: explicit or implicit VR, little endian (PS3.5 7, A.1, A.2).
//!
//! It goes through in pieces, as a scan reads it; nothing is held but what is not written yet. Sequences and items are
//! written with undefined length, so that no length is to be known before its end. Values stay as they are, but for the
//! byte order; group lengths, which would be wrong, are left out (PS3.5 7.2: they are retired).

use std::collections::BTreeSet;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use super::elements::{has_long_length, put};
use super::header::{Form, Header, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED};
use super::inflate::Inflater;
use super::scan::ScanError;
use super::tags;
use super::uid::{Encoding, encoding_of, ts};
use super::walk::{Closed, Kind, Step, Visit, Walk};

/// Why a data set was not converted. What was written until then is to be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("{tag} holds compressed pixel data, which its transfer syntax does not have")]
    Compressed { tag: Tag },
}

/// Top-level elements that are written in place of those that are there, or are left out.
#[derive(Debug, Clone, Default)]
pub struct Replacing {
    /// In the order of their tags. One with a value that is not there is not added.
    pub values: Vec<(Tag, VR, Vec<u8>)>,
    pub without: BTreeSet<Tag>,
    /// Pixel Data (7FE0,0010) in place of the fragments: its length in bytes, and of what words it is.
    pub pixels: Option<(u32, VR)>,
}

/// Converts one data set while it goes by.
pub struct Converter {
    inflater: Option<Inflater>,
    walk: Walk,
    writer: Writer,
    failed: Option<ConvertError>,
}

impl Converter {
    /// From a transfer syntax to little endian.
    pub fn new(from: &str, explicit: bool) -> Converter {
        Converter::replacing(from, explicit, Replacing::default())
    }

    /// Where Pixel Data are replaced, `Converter::pixels_at` says where they belong in what was written.
    pub fn replacing(from: &str, explicit: bool, replacing: Replacing) -> Converter {
        let deflated = encoding_of(from) == Encoding::DeflatedLittle;
        Converter {
            inflater: deflated.then(Inflater::new),
            walk: Walk::new(Form::of(from)),
            writer: Writer {
                out: Vec::new(),
                explicit,
                big_pixels: from == ts::GE_PRIVATE_IMPLICIT,
                replacing,
                depth: 0,
                skipped: 0,
                passing: false,
                unit: 1,
                carry: [0; 8],
                carried: 0,
                signed: false,
                representation: None,
                pixels_at: None,
                written: 0,
                base: 0,
            },
            failed: None,
        }
    }

    /// Takes the next bytes as they are stored, and appends to `out` what can be written. After an error every further
    /// call returns the same error.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ConvertError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.writer.begin(out);
        let (walk, writer) = (&mut self.walk, &mut self.writer);
        let result = match &mut self.inflater {
            Some(inflater) => inflater.feed(input, &mut |inflated| walk.feed(inflated, writer)),
            None => walk.feed(input, writer),
        };
        self.failed = result.as_ref().err().cloned();
        self.writer.end(out);
        result
    }

    /// The end of the data set; appends the last bytes. An error when it is not one. Where replaced pixel data belong
    /// among the bytes that were written.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Option<u64>, ConvertError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        self.writer.begin(out);
        let result = self.walk.finish(&mut self.writer);
        self.writer.end(out);
        result.map(|()| self.writer.pixels_at)
    }
}

struct Writer {
    out: Vec<u8>,
    explicit: bool,
    /// Pixel data are big endian, whatever all else is.
    big_pixels: bool,
    replacing: Replacing,
    /// Open sequences and items.
    depth: usize,
    /// From this depth on everything is left out; 0: nothing is.
    skipped: usize,
    /// The value at hand is written.
    passing: bool,
    /// Bytes whose order is turned around; 1: none.
    unit: usize,
    /// A unit of which a part has come.
    carry: [u8; 8],
    carried: usize,
    /// Pixel Representation (0028,0103) of what was read last: tells US from SS.
    signed: bool,
    /// Its value as it comes, while it comes.
    representation: Option<Vec<u8>>,
    pixels_at: Option<u64>,
    /// Bytes that were handed out.
    written: u64,
    /// The place of the first byte of `out` among all that was written; wraps, as `out` may begin with foreign bytes.
    base: u64,
}

impl Visit for Writer {
    type Error = ConvertError;

    fn header(
        &mut self,
        header: &Header,
        _: &[u8],
        step: Step,
        at_root: bool,
    ) -> Result<(), ConvertError> {
        self.flush_unit();
        self.passing = false;
        match step {
            Step::Delimiter => Ok(()),
            Step::Value => {
                self.value_header(header, at_root);
                Ok(())
            }
            Step::Open(kind) => self.open(header, kind, at_root),
        }
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        if !self.passing {
            return Ok(());
        }
        if let Some(value) = &mut self.representation {
            value.extend(bytes.iter().take(2));
        }
        if self.unit == 1 {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        for &byte in bytes {
            self.carry[self.carried] = byte;
            self.carried += 1;
            if self.carried == self.unit {
                self.carried = 0;
                self.out.extend(self.carry[..self.unit].iter().rev());
            }
        }
        Ok(())
    }

    fn closed(&mut self, kind: Kind, _: Closed) -> Result<(), ConvertError> {
        self.flush_unit();
        self.passing = false;
        if self.skipped == 0 {
            match kind {
                Kind::Sequence => self.delimiter(SEQUENCE_END),
                Kind::Item => self.delimiter(ITEM_END),
                Kind::Fragments => {}
            }
        }
        if self.skipped == self.depth {
            self.skipped = 0;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }
}

impl Writer {
    /// Writes into a buffer of the caller.
    fn begin(&mut self, out: &mut Vec<u8>) {
        std::mem::swap(&mut self.out, out);
        self.base = self.written.wrapping_sub(self.out.len() as u64);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.written = self.at();
        std::mem::swap(&mut self.out, out);
    }

    /// So many bytes were written in all.
    fn at(&self) -> u64 {
        self.base.wrapping_add(self.out.len() as u64)
    }

    fn open(&mut self, header: &Header, kind: Kind, at_root: bool) -> Result<(), ConvertError> {
        self.depth += 1;
        if self.skipped > 0 {
            return Ok(());
        }
        match kind {
            Kind::Sequence => {
                if at_root && self.replacing.without.contains(&header.tag) {
                    self.skipped = self.depth;
                    return Ok(());
                }
                self.tag(header.tag);
                if self.explicit {
                    self.out.extend_from_slice(b"SQ\0\0");
                }
                self.out.extend_from_slice(&UNDEFINED.to_le_bytes());
            }
            Kind::Item => {
                self.tag(ITEM);
                self.out.extend_from_slice(&UNDEFINED.to_le_bytes());
            }
            Kind::Fragments => match self.replacing.pixels {
                Some((length, vr)) if at_root && header.tag == tags::PIXEL_DATA => {
                    self.header_of(header.tag, vr, length);
                    self.pixels_at = Some(self.at());
                    self.skipped = self.depth;
                }
                _ => return Err(ConvertError::Compressed { tag: header.tag }),
            },
        }
        Ok(())
    }

    fn value_header(&mut self, header: &Header, at_root: bool) {
        let tag = header.tag;
        // File meta information that strayed into a data set does not belong there.
        if self.skipped > 0 || tag.element() == 0 || tag.group() <= 0x0002 {
            return;
        }
        if at_root {
            if self.replacing.without.contains(&tag) {
                return;
            }
            let replaced = self.replacing.values.iter().find(|(of, ..)| *of == tag);
            if let Some((_, vr, value)) = replaced {
                put(&mut self.out, self.explicit, tag, *vr, value);
                return;
            }
        }
        self.representation = (tag == tags::PIXEL_REPRESENTATION).then(Vec::new);
        let vr = match header.form.explicit {
            true => header.vr,
            false => self.vr_of(header),
        };
        let big = header.form.big || (self.big_pixels && tag == tags::PIXEL_DATA);
        self.unit = if big { unit_of(vr) } else { 1 };
        self.header_of(tag, vr, header.length);
        self.passing = true;
    }

    /// Of an element that was written without one. Source: PS3.5 A.1, PS3.6.
    fn vr_of(&self, header: &Header) -> VR {
        let tag = header.tag;
        if tag.group() % 2 == 1 {
            return header.vr;
        }
        match StandardDataDictionary.by_tag(tag).map(|entry| entry.vr()) {
            Some(VirtualVr::Xs) if self.signed => VR::SS,
            Some(VirtualVr::Xs) => VR::US,
            // A look-up table of a few bytes may be a number.
            Some(VirtualVr::Lt) => VR::OW,
            _ => header.vr,
        }
    }

    fn tag(&mut self, tag: Tag) {
        self.out.extend_from_slice(&tag.group().to_le_bytes());
        self.out.extend_from_slice(&tag.element().to_le_bytes());
    }

    /// A header in front of `length` bytes. A value too long for the 16 bits of its VR is written as UN (PS3.5 6.2.2).
    fn header_of(&mut self, tag: Tag, vr: VR, length: u32) {
        self.tag(tag);
        if !self.explicit {
            self.out.extend_from_slice(&length.to_le_bytes());
            return;
        }
        match u16::try_from(length) {
            Ok(short) if !has_long_length(vr) => {
                self.out.extend_from_slice(&vr.to_bytes());
                self.out.extend_from_slice(&short.to_le_bytes());
            }
            _ => {
                let vr = if has_long_length(vr) { vr } else { VR::UN };
                self.out.extend_from_slice(&vr.to_bytes());
                self.out.extend_from_slice(&[0, 0]);
                self.out.extend_from_slice(&length.to_le_bytes());
            }
        }
    }

    fn delimiter(&mut self, tag: Tag) {
        self.tag(tag);
        self.out.extend_from_slice(&[0; 4]);
    }

    /// A value ended: what is no whole unit stays as it is.
    fn flush_unit(&mut self) {
        let carried = std::mem::take(&mut self.carried);
        self.out.extend_from_slice(&self.carry[..carried]);
        if let Some(value) = self.representation.take() {
            self.signed = value.contains(&1);
        }
    }
}

/// Bytes of one number of that VR. Source: PS3.5 7.3.
fn unit_of(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}
