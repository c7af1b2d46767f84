//! The Original Attributes Sequence: where it stands, and its new item.

use dicom_core::VR;

use super::{AmendError, Current, Editor, ORIGINALS, original};
use crate::dicom::header::{Header, UNDEFINED};
use crate::dicom::walk::{Kind, Step, inner_form};

impl Editor {
    /// The place of an Original Attributes Sequence that is not there.
    pub(super) fn place_originals(&mut self) -> Result<(), AmendError> {
        self.originals_placed = true;
        self.originals_form = self.form;
        if self.next < self.planned.len() {
            self.enter(ORIGINALS.group());
            self.waits = true;
            self.held.late(false);
            return Ok(());
        }
        let bytes = self.new_originals();
        if bytes.is_empty() {
            return Ok(());
        }
        self.enter(ORIGINALS.group());
        self.held.group_changed();
        self.held.put(&bytes)
    }

    /// What is new in the Original Attributes Sequence, itself included where it is new; nothing when nothing changed.
    pub(super) fn new_originals(&self) -> Vec<u8> {
        let Some(charset) = self.charset.as_ref().filter(|_| self.changed) else {
            return Vec::new();
        };
        let item = original::item(
            self.originals_form,
            &self.originals,
            &self.amendment,
            &charset.new.system,
            &charset.new.source,
        );
        if self.originals_found {
            return item;
        }
        let mut element = Vec::new();
        original::put(&mut element, self.form, ORIGINALS, VR::SQ, &item);
        element
    }

    /// The Original Attributes Sequence that is there already.
    pub(super) fn original_attributes(
        &mut self,
        header: &Header,
        raw: &[u8],
        step: Step,
    ) -> Result<(), AmendError> {
        let tag = header.tag;
        if self.originals_placed {
            return Err(AmendError::OutOfOrder { tag });
        }
        self.originals_found = true;
        self.originals_form = inner_form(header);
        let defined = header.length != UNDEFINED;
        match step {
            Step::Open(Kind::Sequence) => {
                self.in_originals = true;
                self.open.push(false);
                self.held.open(raw, defined, header.form.big)
            }
            Step::Value if header.vr == VR::UN && !self.recodes() => {
                self.held.open(raw, defined, header.form.big)?;
                self.current = Current::Opaque {
                    left: header.length,
                };
                if header.length == 0 {
                    self.end_originals()?;
                }
                Ok(())
            }
            _ => Err(AmendError::NotAsExpected { tag }),
        }
    }

    /// The end of the items that were there; one more comes here.
    pub(super) fn end_originals(&mut self) -> Result<(), AmendError> {
        self.current = Current::Pass;
        self.in_originals = false;
        self.originals_placed = true;
        if self.next < self.planned.len() {
            self.waits = true;
            self.held.late(true);
            return Ok(());
        }
        let bytes = self.new_originals();
        if !bytes.is_empty() {
            self.held.put(&bytes)?;
            self.held.group_changed();
        }
        self.held.close();
        Ok(())
    }
}
