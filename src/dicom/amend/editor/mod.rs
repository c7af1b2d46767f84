//! What becomes of each element that the walk meets.

mod originals;
mod texts;

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use super::check::{Change, check, keyword};
use super::held::Held;
use super::opaque;
use super::original::{self, Original};
use super::{AmendError, Amendment, CHANGES_MAX, Value};
use crate::dicom::charset::is_affected;
use crate::dicom::header::{Form, Header, ITEM_END, UNDEFINED};
use crate::dicom::walk::{Closed, Kind, Step, Visit};
use crate::dicom::{CharacterSet, tags};
pub(super) use texts::text_vr;

const CHARSET: Tag = tags::SPECIFIC_CHARACTER_SET;
const ORIGINALS: Tag = tags::ORIGINAL_ATTRIBUTES_SEQUENCE;

/// Most old values that are kept for the Original Attributes Sequence, in bytes.
const OLD_LENGTH_MAX: usize = 4 * 1024 * 1024;

/// Longest text that is written anew in another character set, in bytes.
const TEXT_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// What a value is read for before anything of its element goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Charset,
    /// The old value of an attribute that is changed.
    Old,
    /// Goes through, and into the item too.
    Witness,
    /// Text for UTF-8.
    Text,
    /// Items that the walk does not enter, in a value of VR UN.
    Opaque,
}

/// What happens to the bytes of the value that goes by.
enum Current {
    Pass,
    Collect {
        purpose: Purpose,
        header: Header,
        raw: Vec<u8>,
        value: Vec<u8>,
    },
    /// An Original Attributes Sequence that is written as VR UN; so many bytes of it are left.
    Opaque {
        left: u32,
    },
}

/// What the declared character set has led to.
struct Charset {
    declared: String,
    reader: CharacterSet,
    /// Everything becomes UTF-8.
    recode: bool,
    new: Encoded,
}

/// Everything new in the bytes of one character set.
struct Encoded {
    /// The changes in the order of their tags.
    planned: Vec<Planned>,
    system: Vec<u8>,
    source: Vec<u8>,
}

/// An attribute to be changed; None: it is taken out.
type Planned = (Tag, Option<(VR, Vec<u8>)>);

pub(super) struct Editor {
    pub(super) held: Held,
    amendment: Amendment,
    changes: BTreeMap<Tag, Change>,
    /// The changes in order, encoded, once the character set is known; those before `next` are done.
    planned: Vec<Planned>,
    next: usize,
    charset: Option<Charset>,
    form: Form,
    group: Option<u16>,
    originals: Vec<Original>,
    old_bytes: usize,
    /// Something really became another.
    changed: bool,
    originals_placed: bool,
    /// What was changed is written down; else what is there of it stays as it is.
    recorded: bool,
    /// How the items of the Original Attributes Sequence are written, and whether there was one.
    originals_form: Form,
    originals_found: bool,
    /// Whether the top-level sequence that is open is that one.
    in_originals: bool,
    waits: bool,
    /// Of everything open: whether it has a character set of its own.
    open: Vec<bool>,
    current: Current,
    complete: bool,
}

impl Editor {
    /// `form`: what the transfer syntax says. `recorded`: what was changed is written down in the data set.
    pub(super) fn new(
        form: Form,
        amendment: &Amendment,
        recorded: bool,
    ) -> Result<Editor, AmendError> {
        let count = amendment.changes.len();
        if count > CHANGES_MAX {
            return Err(AmendError::TooManyChanges { count });
        }
        let mut changes = BTreeMap::new();
        for (tag, value) in &amendment.changes {
            if changes.insert(*tag, check(*tag, value)?).is_some() {
                let (tag, name) = (*tag, keyword(*tag));
                return Err(AmendError::ChangedTwice { tag, name });
            }
        }
        if !changes.is_empty() && recorded {
            for (tag, text) in [
                (
                    tags::ATTRIBUTE_MODIFICATION_DATE_TIME,
                    &amendment.modified_at,
                ),
                (tags::MODIFYING_SYSTEM, &amendment.modifying_system),
                (tags::SOURCE_OF_PREVIOUS_VALUES, &amendment.previous_source),
            ] {
                check(tag, &Value::Text(text.clone()))?;
                // Type 1, but the source, which is Type 2 (PS3.3 Table C.12.1.1.9-1).
                if text.is_empty() && tag != tags::SOURCE_OF_PREVIOUS_VALUES {
                    return Err(AmendError::BadValue {
                        tag,
                        name: keyword(tag),
                        value: String::new(),
                        rule: "it must be said".to_owned(),
                    });
                }
            }
        }
        Ok(Editor {
            held: Held::default(),
            amendment: amendment.clone(),
            changes,
            planned: Vec::new(),
            next: 0,
            charset: None,
            form,
            group: None,
            originals: Vec::new(),
            old_bytes: 0,
            changed: false,
            originals_placed: !recorded,
            recorded,
            originals_form: form,
            originals_found: false,
            in_originals: false,
            waits: false,
            open: Vec::new(),
            current: Current::Pass,
            complete: false,
        })
    }

    /// Whether there is nothing to change.
    pub(super) fn is_idle(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether every change is made, and all that follows goes through as it is.
    pub(super) fn is_through(&self) -> bool {
        self.charset.is_some()
            && self.next == self.planned.len()
            && self.originals_placed
            && !self.waits
            && !self.recodes()
            && !self.held.is_holding()
            && matches!(self.current, Current::Pass)
    }

    fn recodes(&self) -> bool {
        self.charset.as_ref().is_some_and(|charset| charset.recode)
    }

    /// An element of the data set itself.
    fn element(&mut self, header: &Header, raw: &[u8], step: Step) -> Result<(), AmendError> {
        let tag = header.tag;
        if tag.group() != 0x0002 {
            self.form = header.form;
        }
        if tag == CHARSET {
            if self.charset.is_some() {
                return Err(AmendError::OutOfOrder { tag });
            }
            self.enter(tag.group());
            return self.collect(Purpose::Charset, header, raw, step);
        }
        if tag > CHARSET && self.charset.is_none() {
            self.decide(None)?;
        }
        self.place_before(tag)?;
        self.enter(tag.group());
        let is_group_length = tag.element() == 0 && step == Step::Value && header.length == 4;
        if is_group_length && self.may_change(tag) && !self.held.in_group() {
            self.held.open_group(raw, header.form.big);
            return Ok(());
        }
        if self.changes.contains_key(&tag) {
            if self.planned.get(self.next).map(|(next, _)| *next) != Some(tag) {
                return Err(AmendError::OutOfOrder { tag });
            }
            return self.collect(Purpose::Old, header, raw, step);
        }
        if tag == ORIGINALS && self.recorded {
            return self.original_attributes(header, raw, step);
        }
        let witness = step == Step::Value && header.length <= 1024 && self.is_witness(tag);
        if witness {
            return self.collect(Purpose::Witness, header, raw, step);
        }
        self.other(header, raw, step, false)
    }

    /// An element that keeps its value, at any depth.
    fn other(
        &mut self,
        header: &Header,
        raw: &[u8],
        step: Step,
        own_charset: bool,
    ) -> Result<(), AmendError> {
        let recode = self.recodes() && !own_charset;
        match step {
            Step::Open(kind) => {
                self.open.push(own_charset);
                let held = self.held.is_open() || (recode && kind == Kind::Sequence);
                if held {
                    let defined = header.length != UNDEFINED;
                    return self.held.open(raw, defined, header.form.big);
                }
            }
            Step::Value if recode && header.length > 0 => {
                let vr = text_vr(header);
                if is_affected(vr) && vr != VR::UN {
                    return self.collect(Purpose::Text, header, raw, step);
                }
                if header.vr == VR::UN && vr == VR::SQ {
                    return self.collect(Purpose::Opaque, header, raw, step);
                }
            }
            Step::Value | Step::Delimiter => {}
        }
        self.held.put(raw)
    }

    fn collect(
        &mut self,
        purpose: Purpose,
        header: &Header,
        raw: &[u8],
        step: Step,
    ) -> Result<(), AmendError> {
        if step != Step::Value {
            return Err(AmendError::NotAsExpected { tag: header.tag });
        }
        let (length, most) = match purpose {
            Purpose::Text | Purpose::Opaque => (header.length as usize, TEXT_LENGTH_MAX),
            _ => (self.old_bytes + header.length as usize, OLD_LENGTH_MAX),
        };
        if length > most {
            return Err(AmendError::TooLarge { held_bytes: most });
        }
        self.current = Current::Collect {
            purpose,
            header: header.clone(),
            raw: raw.to_vec(),
            value: Vec::new(),
        };
        if header.length == 0 {
            return self.collected();
        }
        Ok(())
    }

    /// The value that was collected is whole.
    fn collected(&mut self) -> Result<(), AmendError> {
        let Current::Collect {
            purpose,
            header,
            raw,
            value,
        } = std::mem::replace(&mut self.current, Current::Pass)
        else {
            return Ok(());
        };
        match purpose {
            Purpose::Charset => self.decide(Some((header, raw, value))),
            Purpose::Text => self.recode(&header, &raw, &value),
            Purpose::Opaque if opaque::may_hold_text(&value) => Err(self.not_decodable(header.tag)),
            Purpose::Opaque => {
                self.held.put(&raw)?;
                self.held.put(&value)
            }
            Purpose::Witness => {
                if self.recodes() {
                    self.recode(&header, &raw, &value)?;
                } else {
                    self.held.put(&raw)?;
                    self.held.put(&value)?;
                }
                self.remember(Original::present(&header, &raw, value));
                Ok(())
            }
            Purpose::Old => self.replace(&header, &raw, value),
        }
    }

    /// Whether this says whose the old Patient ID was, kept before it (PS3.3 C.12.1.1.9).
    fn is_witness(&self, tag: Tag) -> bool {
        tag == tags::ISSUER_OF_PATIENT_ID
            && self.originals.last().map(|old| old.tag) == Some(tags::PATIENT_ID)
    }

    fn remember(&mut self, original: Original) {
        self.old_bytes += original.value.len();
        self.originals.push(original);
    }

    /// Puts in what is new and belongs before this element of the data set.
    fn place_before(&mut self, tag: Tag) -> Result<(), AmendError> {
        loop {
            let next = self.planned.get(self.next).map(|(next, _)| *next);
            let originals = (!self.originals_placed).then_some(ORIGINALS);
            match [next, originals].into_iter().flatten().min() {
                Some(first) if first >= tag => return Ok(()),
                Some(ORIGINALS) => self.place_originals()?,
                Some(_) => self.insert()?,
                None => return Ok(()),
            }
        }
    }

    /// The next change is of an attribute that is not there.
    fn insert(&mut self) -> Result<(), AmendError> {
        let (tag, new) = self.planned[self.next].clone();
        if let Some((vr, value)) = new {
            self.enter(tag.group());
            self.put_element(tag, vr, &value)?;
            self.changed = true;
            self.remember(Original::absent(tag, vr));
        }
        self.done()
    }

    /// The next change is of the attribute whose old value has gone by.
    fn replace(&mut self, header: &Header, raw: &[u8], old: Vec<u8>) -> Result<(), AmendError> {
        let (tag, new) = self.planned[self.next].clone();
        match new {
            Some((_, value)) if self.says(header, &old, &value) => {
                if self.recodes() {
                    self.recode(header, raw, &old)?;
                } else {
                    self.held.put(raw)?;
                    self.held.put(&old)?;
                }
                if self.is_witness(tag) {
                    self.remember(Original::present(header, raw, old));
                }
            }
            new => {
                if let Some((vr, value)) = new {
                    self.put_element(tag, vr, &value)?;
                }
                self.held.group_changed();
                self.changed = true;
                self.remember(Original::present(header, raw, old));
            }
        }
        self.done()
    }

    /// One change is done; with the last one, the Original Attributes Sequence can be.
    fn done(&mut self) -> Result<(), AmendError> {
        self.next += 1;
        if self.waits && self.next == self.planned.len() {
            self.waits = false;
            let bytes = self.new_originals();
            self.held.put_late(&bytes);
        }
        Ok(())
    }

    fn put_element(&mut self, tag: Tag, vr: VR, value: &[u8]) -> Result<(), AmendError> {
        let mut element = Vec::with_capacity(value.len() + 12);
        original::put(&mut element, self.form, tag, vr, value);
        self.held.group_changed();
        self.held.put(&element)
    }

    /// The next element is of this group.
    fn enter(&mut self, group: u16) {
        if self.group != Some(group) {
            self.held.close_group();
            self.group = Some(group);
        }
    }

    /// Whether the length of the group with this group length may change.
    fn may_change(&self, tag: Tag) -> bool {
        let group = tag.group();
        group == CHARSET.group()
            || (self.recorded && group == ORIGINALS.group())
            || self.recodes()
            || self.changes.keys().any(|tag| tag.group() == group)
    }

    /// Behind the last element.
    fn end(&mut self) -> Result<(), AmendError> {
        if self.complete || self.is_idle() {
            return Ok(());
        }
        self.complete = true;
        if self.charset.is_none() {
            self.decide(None)?;
        }
        self.place_before(Tag(0xFFFF, 0xFFFF))?;
        self.held.close_group();
        debug_assert!(!self.held.is_holding());
        Ok(())
    }
}

impl Visit for Editor {
    type Error = AmendError;

    fn header(
        &mut self,
        header: &Header,
        raw: &[u8],
        step: Step,
        at_root: bool,
    ) -> Result<(), AmendError> {
        if self.is_idle() {
            return self.held.put(raw);
        }
        // A stray delimiter at top level is no element.
        if at_root && header.tag.group() != 0xFFFE {
            return self.element(header, raw, step);
        }
        let own = self.open.last().copied().unwrap_or_default();
        if header.tag == CHARSET
            && let Some(own) = self.open.last_mut()
        {
            *own = true;
        }
        self.other(header, raw, step, own)
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), AmendError> {
        match &mut self.current {
            Current::Pass => self.held.put(bytes),
            Current::Collect { header, value, .. } => {
                value.extend_from_slice(bytes);
                if value.len() == header.length as usize {
                    return self.collected();
                }
                Ok(())
            }
            Current::Opaque { left } => {
                // The walk gives no more than the header said.
                *left -= bytes.len() as u32;
                let ended = *left == 0;
                self.held.put(bytes)?;
                if ended {
                    return self.end_originals();
                }
                Ok(())
            }
        }
    }

    fn closed(&mut self, _: Kind, by: Closed) -> Result<(), AmendError> {
        if self.is_idle() {
            return Ok(());
        }
        self.open.pop();
        if self.in_originals && by == Closed::Forgotten && self.open.len() == 1 {
            // Another item follows: this one gets the delimiter that it lacks.
            let mut delimiter = Vec::new();
            original::put(&mut delimiter, self.originals_form, ITEM_END, VR::UN, &[]);
            self.held.put(&delimiter)?;
        }
        if self.in_originals && self.open.is_empty() {
            return self.end_originals();
        }
        if self.held.is_open() {
            self.held.close();
        }
        Ok(())
    }

    fn padding(&mut self, zeros: &[u8]) -> Result<(), AmendError> {
        self.end()?;
        self.held.put(zeros)
    }
}
