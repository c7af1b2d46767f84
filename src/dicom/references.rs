//! What storage commitment speaks of: a transaction, and the instances that it names (PS3.4 J.3.2.1.1 and J.3.3.1.1).
//!
//! Read piece by piece by a walk that does not recurse; what is kept is bounded.

use dicom_core::VR;
use serde::{Deserialize, Serialize};

use super::Tag;
use super::elements::put;
use super::header::{Form, Header};
use super::scan::ScanError;
use super::tags;
use super::uid::trim_uid;
use super::walk::{Closed, Kind, Step, Visit, Walk};

/// Instances that one transaction may name.
pub const REFERENCES_MAX: usize = 100_000;
/// Longest data set that is read, in bytes: so many instances with the longest UIDs.
pub const REFERENCES_BYTES_MAX: usize = 32 << 20;

/// The one instance of the storage commitment push model. Source: PS3.4 J.3.5.
pub const STORAGE_COMMITMENT_PUSH_INSTANCE: &str = "1.2.840.10008.1.20.1.1";

/// Longest value that is of interest, in bytes: a UID (PS3.5 9.1).
const VALUE_LENGTH_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ReferencesError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("it names more than {REFERENCES_MAX} instances")]
    TooMany,
    #[error("it is larger than 32 MiB")]
    TooLong,
}

/// An instance by class and UID.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Reference {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
}

/// A request for storage commitment, or the report of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Empty where there is none.
    pub transaction_uid: String,
    /// Of a report: who has them.
    pub retrieve_ae_title: String,
    /// Referenced SOP Sequence (0008,1199).
    pub instances: Vec<Reference>,
    /// Failed SOP Sequence (0008,1198), each with its Failure Reason (0008,1197).
    pub failed: Vec<(Reference, u16)>,
}

impl References {
    /// Little endian.
    pub fn encode(&self, explicit: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.retrieve_ae_title.is_empty() {
            let title = self.retrieve_ae_title.as_bytes();
            put(&mut out, explicit, tags::RETRIEVE_AE_TITLE, VR::AE, title);
        }
        let uid = self.transaction_uid.as_bytes();
        put(&mut out, explicit, tags::TRANSACTION_UID, VR::UI, uid);
        let failed = self.failed.iter();
        let failed = failed.map(|(reference, reason)| (reference, Some(*reason)));
        put_sequence(&mut out, explicit, tags::FAILED_SOP_SEQUENCE, failed);
        let instances = self.instances.iter().map(|reference| (reference, None));
        put_sequence(&mut out, explicit, tags::REFERENCED_SOP_SEQUENCE, instances);
        out
    }
}

/// Nothing where there are no items: neither sequence may be empty.
fn put_sequence<'a>(
    out: &mut Vec<u8>,
    explicit: bool,
    tag: Tag,
    items: impl Iterator<Item = (&'a Reference, Option<u16>)>,
) {
    let mut value = Vec::new();
    let mut item = Vec::new();
    for (reference, reason) in items {
        item.clear();
        let (class, instance) = (&reference.sop_class_uid, &reference.sop_instance_uid);
        let (class_tag, instance_tag) = (
            tags::REFERENCED_SOP_CLASS_UID,
            tags::REFERENCED_SOP_INSTANCE_UID,
        );
        put(&mut item, explicit, class_tag, VR::UI, class.as_bytes());
        let instance = instance.as_bytes();
        put(&mut item, explicit, instance_tag, VR::UI, instance);
        if let Some(reason) = reason {
            let reason = reason.to_le_bytes();
            put(&mut item, explicit, tags::FAILURE_REASON, VR::US, &reason);
        }
        put(&mut value, explicit, ITEM, VR::UN, &item);
    }
    if !value.is_empty() {
        put(out, explicit, tag, VR::SQ, &value);
    }
}

/// PS3.5 7.5.
const ITEM: Tag = Tag(0xFFFE, 0xE000);

/// Reads such a data set.
pub struct ReferencesReader {
    walk: Walk,
    found: Found,
    length: usize,
}

#[derive(Default)]
struct Found {
    references: References,
    count: usize,
    /// Tags of the sequences that are open.
    path: Vec<Tag>,
    reading: Option<Reading>,
    value: Vec<u8>,
}

/// Where the value goes that is being read.
#[derive(Clone, Copy)]
enum Reading {
    Transaction,
    AeTitle,
    Class,
    Instance,
    FailedClass,
    FailedInstance,
    Reason,
}

impl ReferencesReader {
    /// Of an uncompressed little endian transfer syntax.
    pub fn new(transfer_syntax: &str) -> ReferencesReader {
        ReferencesReader {
            walk: Walk::new(Form::of(transfer_syntax)),
            found: Found::default(),
            length: 0,
        }
    }

    /// Takes the next bytes of the data set.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReferencesError> {
        self.length += bytes.len();
        if self.length > REFERENCES_BYTES_MAX {
            return Err(ReferencesError::TooLong);
        }
        self.walk.feed(bytes, &mut self.found)
    }

    /// To be called at the end of the data set.
    pub fn finish(mut self) -> Result<References, ReferencesError> {
        self.walk.finish(&mut self.found)?;
        self.found.take_value();
        Ok(self.found.references)
    }
}

const INSTANCES: &[Tag] = &[tags::REFERENCED_SOP_SEQUENCE];
const FAILED: &[Tag] = &[tags::FAILED_SOP_SEQUENCE];

impl Found {
    /// The value that was being read is whole.
    fn take_value(&mut self) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        let value = std::mem::take(&mut self.value);
        // Longer than it may be: it is none.
        if value.len() > VALUE_LENGTH_MAX {
            return;
        }
        let found = &mut self.references;
        let text = || trim_uid(&value);
        match (reading, found.instances.last_mut(), found.failed.last_mut()) {
            (Reading::Transaction, ..) => found.transaction_uid = text(),
            (Reading::AeTitle, ..) => found.retrieve_ae_title = text(),
            (Reading::Class, Some(last), _) => last.sop_class_uid = text(),
            (Reading::Instance, Some(last), _) => last.sop_instance_uid = text(),
            (Reading::FailedClass, _, Some(last)) => last.0.sop_class_uid = text(),
            (Reading::FailedInstance, _, Some(last)) => last.0.sop_instance_uid = text(),
            (Reading::Reason, _, Some(last)) => {
                if let [low, high, ..] = value.as_slice() {
                    last.1 = u16::from_le_bytes([*low, *high]);
                }
            }
            _ => {}
        }
    }

    fn destination(&self, tag: Tag) -> Option<Reading> {
        match (self.path.as_slice(), tag) {
            ([], tags::TRANSACTION_UID) => Some(Reading::Transaction),
            ([], tags::RETRIEVE_AE_TITLE) => Some(Reading::AeTitle),
            (INSTANCES, tags::REFERENCED_SOP_CLASS_UID) => Some(Reading::Class),
            (INSTANCES, tags::REFERENCED_SOP_INSTANCE_UID) => Some(Reading::Instance),
            (FAILED, tags::REFERENCED_SOP_CLASS_UID) => Some(Reading::FailedClass),
            (FAILED, tags::REFERENCED_SOP_INSTANCE_UID) => Some(Reading::FailedInstance),
            (FAILED, tags::FAILURE_REASON) => Some(Reading::Reason),
            _ => None,
        }
    }

    fn count_one(&mut self) -> Result<(), ReferencesError> {
        self.count += 1;
        match self.count > REFERENCES_MAX {
            true => Err(ReferencesError::TooMany),
            false => Ok(()),
        }
    }
}

impl Visit for Found {
    type Error = ReferencesError;

    fn header(
        &mut self,
        header: &Header,
        _raw: &[u8],
        step: Step,
        _at_root: bool,
    ) -> Result<(), ReferencesError> {
        self.take_value();
        match step {
            Step::Open(Kind::Sequence) => self.path.push(header.tag),
            Step::Open(Kind::Item) if self.path == INSTANCES => {
                self.count_one()?;
                self.references.instances.push(Reference::default());
            }
            Step::Open(Kind::Item) if self.path == FAILED => {
                self.count_one()?;
                self.references.failed.push((Reference::default(), 0));
            }
            Step::Value => self.reading = self.destination(header.tag),
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), ReferencesError> {
        if self.reading.is_some() {
            // One more than may be, to tell that it was too long.
            let room = (VALUE_LENGTH_MAX + 1).saturating_sub(self.value.len());
            self.value
                .extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }

    fn closed(&mut self, kind: Kind, _: Closed) -> Result<(), ReferencesError> {
        self.take_value();
        if kind == Kind::Sequence {
            self.path.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::ts;

    fn reference(number: usize) -> Reference {
        Reference {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            sop_instance_uid: format!("1.2.3.{number}"),
        }
    }

    fn read(syntax: &str, bytes: &[u8]) -> Result<References, ReferencesError> {
        let mut reader = ReferencesReader::new(syntax);
        // In the smallest pieces that can come.
        for byte in bytes.chunks(1) {
            reader.feed(byte)?;
        }
        reader.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let references = References {
            transaction_uid: "2.25.7".to_owned(),
            retrieve_ae_title: "KURA".to_owned(),
            instances: (0..3).map(reference).collect(),
            failed: vec![(reference(3), 0x0112), (reference(4), 0x0110)],
        };
        for (explicit, syntax) in [
            (true, ts::EXPLICIT_VR_LITTLE_ENDIAN),
            (false, ts::IMPLICIT_VR_LITTLE_ENDIAN),
        ] {
            let bytes = references.encode(explicit);
            assert_eq!(read(syntax, &bytes).unwrap(), references);
            assert!(read(syntax, &bytes[..bytes.len() - 3]).is_err());
        }
    }

    #[test]
    fn more_instances_than_the_bound_are_an_error() {
        let mut references = References {
            instances: (0..REFERENCES_MAX).map(reference).collect(),
            ..References::default()
        };
        let syntax = ts::IMPLICIT_VR_LITTLE_ENDIAN;
        assert!(read(syntax, &references.encode(false)).is_ok());
        references.instances.push(reference(0));
        let error = read(syntax, &references.encode(false)).unwrap_err();
        assert!(matches!(error, ReferencesError::TooMany));
    }
}
