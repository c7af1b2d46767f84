//! Rejection notes: a Key Object Selection whose title says why the instances that it names are not to be used
//! (IHE RAD TF-3 4.66.4.1.3.1, PS3.16 CID 7011).
//!
//! Success to the sender of a note means that what it asks was done, so it is done before the answer. A note that comes
//! again after it failed is tried again; one that was heeded once is not heeded again, also when a person took it back.
//! What comes after the note is not touched by it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use crate::config::OnRejection;
use crate::dicom::key_objects::{KeyObjects, KeyObjectsReader};
use crate::dicom::sop;
use crate::index::{CorrectionFacts, Did, Snapshot, Values, Verdict};
use crate::volume::Incoming;

use super::super::Archive;
use super::CorrectionError;
use super::picked::{Picked, contents_of, instances_count, studies_of};
use super::remove::recognised_by;

/// Longest note that is read, bytes of its data set. One with [`REFERENCES_MAX`](crate::dicom::key_objects::REFERENCES_MAX)
/// references has some 20 MB.
const NOTE_BYTES_MAX: u64 = 64 << 20;
const PIECE_BYTES: usize = 256 << 10;

const WAY: &str = "rejection note from";

/// A note that is stored.
pub(in super::super) struct Note<'a> {
    pub sop_instance_uid: &'a str,
    pub transfer_syntax: &'a str,
    pub calling_ae_title: &'a str,
    /// Where the data set begins in the file.
    pub data_offset: u64,
}

/// Whether an instance of this class may be a note.
pub(in super::super) fn may_be_note(sop_class_uid: &str) -> bool {
    sop_class_uid == sop::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE
}

/// Notes that are stored, and what they ask was not done; by their UIDs, since the start.
#[derive(Default)]
pub struct FailedNotes(Mutex<BTreeMap<String, String>>);

/// Beyond, the log alone names them.
const FAILED_MAX: usize = 20;

impl FailedNotes {
    fn note(&self, note: &Note<'_>, failed: Option<&CorrectionError>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            None => drop(notes.remove(note.sop_instance_uid)),
            Some(error) if notes.len() < FAILED_MAX => {
                let text = format!(
                    "rejection note {} from {} is stored, but what it asks was not done ({error}); have it sent again",
                    note.sop_instance_uid, note.calling_ae_title
                );
                notes.insert(note.sop_instance_uid.to_owned(), text);
            }
            Some(_) => {}
        }
    }
}

impl Archive {
    pub(in super::super) fn rejection_actions(&self, actions: &mut Vec<String>) {
        let notes = &self.corrections.failed_notes.0;
        let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        actions.extend(notes.values().cloned());
    }

    /// Does what a note asks; nothing where the configuration does not say so, or where it is no rejection note. The error
    /// is a sentence for the sender.
    pub(in super::super) fn heed(
        &self,
        note: &Note<'_>,
        incoming: &mut Incoming,
    ) -> Result<(), String> {
        if !self.rejection_config.now().is_heeded() {
            return Ok(());
        }
        let heeded = self
            .rejected_by(note, incoming)
            .and_then(|rejected| match rejected {
                Some((action, document)) => self.reject(note, action, &document),
                None => Ok(()),
            });
        self.corrections
            .failed_notes
            .note(note, heeded.as_ref().err());
        heeded.map_err(|error| {
            self.noticed_by_correction(&error);
            tracing::error!(
                sop_instance_uid = note.sop_instance_uid,
                calling = note.calling_ae_title,
                %error,
                "a rejection note is stored, but what it asks was not done"
            );
            error.to_string()
        })
    }

    /// What the document asks, if it is a note that asks something of this archive.
    fn rejected_by(
        &self,
        note: &Note<'_>,
        incoming: &mut Incoming,
    ) -> Result<Option<(OnRejection, KeyObjects)>, CorrectionError> {
        let refused = |text: String| CorrectionError::Refused(text);
        let action = |(scheme, code): &(String, String)| {
            let asked = self.rejection_config.now().for_title(scheme, code);
            asked.filter(|asked| *asked != OnRejection::Ignore)
        };
        let mut reader = KeyObjectsReader::new(note.transfer_syntax);
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = note.data_offset;
        let failed = loop {
            let count = match incoming.read_at(at, &mut piece) {
                Ok(0) => break None,
                Ok(count) => count,
                Err(error) => break Some(format!("it cannot be read back: {error}")),
            };
            at += count as u64;
            if at - note.data_offset > NOTE_BYTES_MAX {
                break Some(format!("it is longer than {NOTE_BYTES_MAX} bytes"));
            }
            if let Err(error) = reader.feed(&piece[..count]) {
                break Some(error.to_string());
            }
        };
        if let Some(failed) = failed {
            // The title stands before what it is about: other documents may be as long as they like.
            return match action(reader.title()) {
                Some(_) => Err(refused(failed)),
                None => Ok(None),
            };
        }
        let document = reader
            .finish()
            .map_err(|error| refused(error.to_string()))?;
        Ok(action(&document.title).map(|action| (action, document)))
    }

    fn reject(
        &self,
        note: &Note<'_>,
        action: OnRejection,
        document: &KeyObjects,
    ) -> Result<(), CorrectionError> {
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        if was_heeded(&view.snapshot, note.sop_instance_uid)? {
            return Ok(());
        }
        drop(view);
        let held = self.hold_picked(&mut |snapshot| named(snapshot, note, document))?;
        let named_count = document.studies.iter();
        let named_count: usize = named_count.map(|study| study.sop_instance_uids.len()).sum();
        let instances_count = instances_count(&held.picked);
        tracing::info!(
            sop_instance_uid = note.sop_instance_uid,
            calling = note.calling_ae_title,
            named_count,
            instances_count,
            "a rejection note came; what it names and is not answered here is passed over"
        );
        if held.picked.is_empty() {
            return Ok(());
        }
        let studies = studies_of(&held.picked);
        self.refuse_protected_in(&held.view.snapshot, &studies)?;
        let (did, verdict) = match action {
            OnRejection::Remove => (Did::Removed, Verdict::Removed),
            _ => (Did::Rejected, Verdict::Withdrawn),
        };
        let facts = CorrectionFacts {
            at: super::super::now(),
            did,
            who: note.calling_ae_title.to_owned(),
            why: meaning(&document.title.1),
            way: format!("{WAY} {}", note.calling_ae_title),
            // The note says what it is of: they may be too many for one line.
            level: "IMAGE".to_owned(),
            of: vec![note.sop_instance_uid.to_owned()],
            before: recognised_by(&held.view.snapshot, &studies)?,
            studies,
            instances_count,
            after: Values::new(),
        };
        self.put_in_effect(&held, verdict, &facts)?;
        Ok(())
    }
}

/// Whether a note was heeded before, whatever became of that.
fn was_heeded(snapshot: &Snapshot, sop_instance_uid: &str) -> Result<bool, CorrectionError> {
    let mut found = false;
    snapshot.corrections(&mut |record| {
        let facts = &record.facts;
        found = facts.way.starts_with(WAY) && facts.of.iter().any(|of| of == sop_instance_uid);
        match found {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

/// What is kept of the instances that a note names, where it belongs to the study that the note says.
fn named(
    snapshot: &Snapshot,
    note: &Note<'_>,
    document: &KeyObjects,
) -> Result<Vec<Picked>, CorrectionError> {
    let mut picked = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for study in &document.studies {
        for uid in &study.sop_instance_uids {
            // A note that names itself would not be findable.
            if uid == note.sop_instance_uid || !seen.insert(uid) {
                continue;
            }
            if let Some(entry) = snapshot.by_sop(uid)? {
                let of_study = contents_of(&entry).into_iter();
                let of_study =
                    of_study.filter(|content| content.study() == study.study_instance_uid);
                picked.extend(of_study.map(|content| Picked::of(&content)));
            }
        }
    }
    Ok(picked)
}

/// Code meanings of PS3.16 CID 7011.
fn meaning(code: &str) -> String {
    let meaning = match code {
        "113001" => "Rejected for Quality Reasons",
        "113037" => "Rejected for Patient Safety Reasons",
        "113038" => "Incorrect Modality Worklist Entry",
        "113039" => "Data Retention Policy Expired",
        _ => "Rejected",
    };
    format!("{meaning} ({code}, DCM)")
}
