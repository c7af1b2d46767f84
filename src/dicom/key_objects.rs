//! What a Key Object Selection document says: its title, and the instances that it names (PS3.3 A.35.4).
//!
//! Read piece by piece by a walk that does not recurse; what is kept is bounded.

use super::Tag;
use super::header::{Form, Header};
use super::inflate::Inflater;
use super::scan::ScanError;
use super::tags;
use super::uid::{Encoding, encoding_of, trim_uid};
use super::walk::{Closed, Kind, Step, Visit, Walk};

/// Instances that one document may name.
pub const REFERENCES_MAX: usize = 100_000;

/// Longest value that is of interest, in bytes: a UID (PS3.5 9.1). Code values and schemes have 16.
const VALUE_LENGTH_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum KeyObjectsError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("it names more than {REFERENCES_MAX} instances")]
    TooMany,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyObjects {
    /// Coding Scheme Designator and Code Value of the document title; empty where it has none.
    pub title: (String, String),
    /// In the order of the document; a study may come twice.
    pub studies: Vec<ReferencedStudy>,
}

/// An item of the Current Requested Procedure Evidence Sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferencedStudy {
    pub study_instance_uid: String,
    pub sop_instance_uids: Vec<String>,
}

/// Reads the data set of such a document.
pub struct KeyObjectsReader {
    inflater: Option<Inflater>,
    walk: Walk,
    found: Found,
}

#[derive(Default)]
struct Found {
    objects: KeyObjects,
    references_count: usize,
    /// Tags of the sequences that are open.
    path: Vec<Tag>,
    /// Items of the Concept Name Code Sequence so far: only the first is the title.
    titles_count: usize,
    reading: Option<Reading>,
    text: Vec<u8>,
}

/// Where the value goes that is being read.
#[derive(Clone, Copy)]
enum Reading {
    Code,
    Scheme,
    Study,
    Sop,
}

impl KeyObjectsReader {
    pub fn new(transfer_syntax: &str) -> KeyObjectsReader {
        let deflated = encoding_of(transfer_syntax) == Encoding::DeflatedLittle;
        KeyObjectsReader {
            inflater: deflated.then(Inflater::new),
            walk: Walk::new(Form::of(transfer_syntax)),
            found: Found::default(),
        }
    }

    /// Takes the next bytes of the data set.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), KeyObjectsError> {
        let KeyObjectsReader {
            inflater,
            walk,
            found,
        } = self;
        let Some(inflater) = inflater else {
            return walk.feed(bytes, found);
        };
        let mut failed = None;
        let inflated = inflater.feed(bytes, &mut |inflated| match walk.feed(inflated, found) {
            Ok(()) => Ok(()),
            Err(KeyObjectsError::Scan(error)) => Err(error),
            Err(error) => {
                failed.get_or_insert(error);
                Ok(())
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(inflated?),
        }
    }

    /// As far as it was read: designator and value, empty until then. It stands before the references.
    pub fn title(&self) -> &(String, String) {
        &self.found.objects.title
    }

    /// To be called at the end of the data set.
    pub fn finish(mut self) -> Result<KeyObjects, KeyObjectsError> {
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        self.walk.finish(&mut self.found)?;
        self.found.take_value();
        Ok(self.found.objects)
    }
}

const STUDIES: &[Tag] = &[tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE];
const REFERENCES: &[Tag] = &[
    tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
    tags::REFERENCED_SERIES_SEQUENCE,
    tags::REFERENCED_SOP_SEQUENCE,
];
const TITLE: &[Tag] = &[tags::CONCEPT_NAME_CODE_SEQUENCE];

impl Found {
    /// The value that was being read is whole.
    fn take_value(&mut self) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        let text = std::mem::take(&mut self.text);
        // Longer than it may be: it is none.
        if text.len() > VALUE_LENGTH_MAX {
            return;
        }
        // Codes are padded with spaces, UIDs with NUL.
        let text = trim_uid(&text);
        let last = self.objects.studies.last_mut();
        match (reading, last) {
            (Reading::Scheme, _) => self.objects.title.0 = text,
            (Reading::Code, _) => self.objects.title.1 = text,
            (Reading::Study, Some(study)) => study.study_instance_uid = text,
            (Reading::Sop, Some(study)) if !text.is_empty() => study.sop_instance_uids.push(text),
            (Reading::Study | Reading::Sop, _) => {}
        }
    }

    fn destination(&self, tag: Tag) -> Option<Reading> {
        match (self.path.as_slice(), tag) {
            (TITLE, tags::CODE_VALUE) if self.titles_count == 1 => Some(Reading::Code),
            (TITLE, tags::CODING_SCHEME_DESIGNATOR) if self.titles_count == 1 => {
                Some(Reading::Scheme)
            }
            (STUDIES, tags::STUDY_INSTANCE_UID) => Some(Reading::Study),
            (REFERENCES, tags::REFERENCED_SOP_INSTANCE_UID) => Some(Reading::Sop),
            _ => None,
        }
    }
}

impl Visit for Found {
    type Error = KeyObjectsError;

    fn header(
        &mut self,
        header: &Header,
        _raw: &[u8],
        step: Step,
        _at_root: bool,
    ) -> Result<(), KeyObjectsError> {
        self.take_value();
        match step {
            Step::Open(Kind::Sequence) => self.path.push(header.tag),
            Step::Open(Kind::Item) if self.path == TITLE => self.titles_count += 1,
            Step::Open(Kind::Item) if self.path == STUDIES => {
                self.count_one()?;
                self.objects.studies.push(ReferencedStudy::default());
            }
            Step::Open(Kind::Item) if self.path == REFERENCES => self.count_one()?,
            Step::Value => self.reading = self.destination(header.tag),
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), KeyObjectsError> {
        if self.reading.is_some() {
            // One more than may be, to tell that it was too long.
            let room = (VALUE_LENGTH_MAX + 1).saturating_sub(self.text.len());
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }

    fn closed(&mut self, kind: Kind, _: Closed) -> Result<(), KeyObjectsError> {
        self.take_value();
        if kind == Kind::Sequence {
            self.path.pop();
        }
        Ok(())
    }
}

impl Found {
    fn count_one(&mut self) -> Result<(), KeyObjectsError> {
        self.references_count += 1;
        match self.references_count > REFERENCES_MAX {
            true => Err(KeyObjectsError::TooMany),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::elements::put;
    use crate::dicom::{VR, ts};

    fn le(tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, true, tag, vr, value);
        out
    }

    fn item(content: &[u8]) -> Vec<u8> {
        le(Tag(0xFFFE, 0xE000), VR::UN, content)
    }

    fn code(value: &[u8]) -> Vec<u8> {
        let scheme = le(tags::CODING_SCHEME_DESIGNATOR, VR::SH, b"DCM");
        item(&[le(tags::CODE_VALUE, VR::SH, value), scheme].concat())
    }

    fn study(uid: &[u8], sops: &[&[u8]]) -> Vec<u8> {
        let sops: Vec<u8> = sops
            .iter()
            .flat_map(|sop| item(&le(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, sop)))
            .collect();
        let series = item(&le(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, &sops));
        let series = le(tags::REFERENCED_SERIES_SEQUENCE, VR::SQ, &series);
        item(&[series, le(tags::STUDY_INSTANCE_UID, VR::UI, uid)].concat())
    }

    fn read(data_set: &[u8], piece: usize) -> Result<KeyObjects, KeyObjectsError> {
        let mut reader = KeyObjectsReader::new(ts::EXPLICIT_VR_LITTLE_ENDIAN);
        for piece in data_set.chunks(piece) {
            reader.feed(piece)?;
        }
        reader.finish()
    }

    /// Method: two studies, and in the content tree a title and references that are none of the document's own.
    #[test]
    fn title_and_evidence_are_told_and_nothing_else() {
        let evidence = [
            study(b"1.2", &[b"1.2.1", b"1.2.2"]),
            study(b"1.3", &[b"1.3.1"]),
        ];
        let within = [
            le(
                tags::REFERENCED_SOP_SEQUENCE,
                VR::SQ,
                &item(&le(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, b"9.9")),
            ),
            le(tags::CONCEPT_NAME_CODE_SEQUENCE, VR::SQ, &code(b"113037")),
        ];
        let titles = [code(b"113001"), code(b"113039")].concat();
        let data_set = [
            le(tags::STUDY_INSTANCE_UID, VR::UI, b"1.2"),
            le(tags::CONCEPT_NAME_CODE_SEQUENCE, VR::SQ, &titles),
            le(
                tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
                VR::SQ,
                &evidence.concat(),
            ),
            le(tags::CONTENT_SEQUENCE, VR::SQ, &item(&within.concat())),
        ]
        .concat();
        let expected = KeyObjects {
            title: ("DCM".into(), "113001".into()),
            studies: vec![
                ReferencedStudy {
                    study_instance_uid: "1.2".into(),
                    sop_instance_uids: vec!["1.2.1".into(), "1.2.2".into()],
                },
                ReferencedStudy {
                    study_instance_uid: "1.3".into(),
                    sop_instance_uids: vec!["1.3.1".into()],
                },
            ],
        };
        for piece in [1, 7, 4096] {
            assert_eq!(read(&data_set, piece).unwrap(), expected, "{piece}");
        }
        let cut = read(&data_set[..data_set.len() - 1], 4096);
        assert!(matches!(cut, Err(KeyObjectsError::Scan(_))));
    }

    #[test]
    fn a_document_that_names_too_many_is_refused() {
        let many: Vec<&[u8]> = vec![b"1.2.1"; REFERENCES_MAX + 1];
        let evidence = study(b"1.2", &many);
        let evidence = le(
            tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
            VR::SQ,
            &evidence,
        );
        assert!(matches!(
            read(&evidence, 1 << 16),
            Err(KeyObjectsError::TooMany)
        ));
    }
}
