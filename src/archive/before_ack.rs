//! The second copy before the answer: where the rules ask for it, `0000H` means two durable copies.

use std::sync::Arc;

use dicom_dictionary_std::tags;

use crate::config::MirrorWhen;
use crate::dicom::{Attributes, Level};
use crate::index::Copy;
use crate::volume::{Incoming, Volume};

use super::content::{Content, contents};
use super::copying::{CopyError, Task};
use super::corrections::was_removed_since;
use super::ingest::{IngestError, LOCK_PATIENCE};
use super::placing::Refusals;
use super::safety::Need;
use super::{Archive, Line};

/// What was received, as far as its second copy needs to know.
pub struct Received<'a> {
    pub sop_instance_uid: &'a str,
    pub transfer_syntax: &'a str,
    /// Of the data set.
    pub crc32: u32,
    /// Of the data set, bytes.
    pub data_bytes: u64,
}

impl Archive {
    /// Whether the sender waits for the second copy.
    pub(super) fn copies_before_ack(&self, calling: &str, attributes: &Attributes) -> bool {
        let config = self.mirror_config.now();
        if config.rules.is_empty() {
            return config.when == MirrorWhen::BeforeAck;
        }
        let value = |level, tag: crate::dicom::Tag| {
            let key = u32::from(tag.0) << 16 | u32::from(tag.1);
            attributes.values(level).remove(&key).unwrap_or_default()
        };
        let modality = value(Level::Series, tags::MODALITY);
        let patient_id = value(Level::Patient, tags::PATIENT_ID);
        config.when_for(calling, &modality, &patient_id) == MirrorWhen::BeforeAck
    }

    /// Sees to it that there is a second copy of what was just stored, or was here already. `incoming`: its bytes.
    ///
    /// Without it the sender must not be told success; what was stored stays, and when it is sent again only the second
    /// copy is made.
    pub(super) fn second_copy(
        &self,
        received: &Received,
        incoming: &mut Incoming,
    ) -> Result<(), IngestError> {
        let made = self.make_second_copy(received, incoming);
        let made = made.and_then(|()| self.journal_beside(received));
        match made {
            Err(IngestError::NoSecondCopy(reason)) if self.mirror_config.now().degrade => {
                tracing::warn!(
                    sop_instance_uid = received.sop_instance_uid,
                    reason,
                    "answered with one copy; the second follows"
                );
                Ok(())
            }
            done => done,
        }
    }

    /// Two copies of which one is in a journal on the other's disk are one.
    fn journal_beside(&self, received: &Received) -> Result<(), IngestError> {
        let members = self.shelf.all();
        let mut here = members.iter().filter_map(|member| member.here());
        if !here.any(|volume| volume.intake().is_some()) {
            return Ok(());
        }
        let sop = received.sop_instance_uid;
        let snapshot = self.keeper.view()?.snapshot;
        let found = snapshot.by_sop(sop)?;
        for content in found.iter().flat_map(contents) {
            for copy in content.good_copies() {
                let others = content.good_copies().map(|copy| copy.volume_id.as_str());
                let others: Vec<&str> = others.filter(|id| *id != copy.volume_id).collect();
                self.counts_beside(&copy.volume_id, &[copy.path.as_str()], &others)
                    .map_err(|error| IngestError::NoSecondCopy(error.to_string()))?;
            }
        }
        Ok(())
    }

    fn make_second_copy(
        &self,
        received: &Received,
        incoming: &mut Incoming,
    ) -> Result<(), IngestError> {
        let sop = received.sop_instance_uid;
        // Whoever else makes this copy holds it too, so none is made twice.
        let Some(_lock) = self.locks.lock_within(sop, LOCK_PATIENCE) else {
            return Err(IngestError::Busy);
        };
        let judge = self.judge();
        let view = self.keeper.view()?;
        let known = self.what_is_kept(&view.snapshot, sop)?;
        let is_it = |content: &Content| {
            content.transfer_syntax == received.transfer_syntax
                && content.copies.iter().any(|copy| {
                    (copy.crc32, copy.data_bytes()) == (received.crc32, received.data_bytes)
                })
        };
        let refuse = |reason: &str| IngestError::NoSecondCopy(reason.to_owned());
        let entry = known.existing.as_ref();
        let entry = entry.ok_or_else(|| refuse("it is gone again"))?;
        let content = contents(entry).into_iter().find(is_it);
        let content = content.ok_or_else(|| refuse("it is gone again"))?;
        match judge.need(&content.volume_ids()) {
            Need::Mirror => {}
            _ if !judge.has_mirror() => return Err(refuse("there is no mirror volume")),
            _ => return Ok(()),
        }
        let facts = content.facts(&view.snapshot)?;
        let (study, series) = facts.ok_or_else(|| refuse("the index does not know its study"))?;
        let hidden = view.snapshot.hidden(sop)?;
        let removed_since = was_removed_since(&content, hidden.as_ref(), &view.snapshot)?;
        drop(view);
        let task = Task {
            content,
            need: Need::Mirror,
        };
        let targets = self
            .targets(&task, &judge)
            .map_err(IngestError::NoSecondCopy)?;
        let content = &task.content;
        // The file that was just written, byte for byte, or one that was here before with other file meta information.
        let is_this = |copy: &&Copy| {
            copy.volume_id == incoming.volume_id() && copy.size_bytes == incoming.len()
        };
        let written = content.good_copies().find(is_this).cloned();
        let mut refused = Refusals::default();
        for target in targets {
            let source = match &written {
                Some(copy) => match self.pour_received(copy, incoming, &target) {
                    // What came is coerced to the same length each time, and not to the same bytes.
                    Err(CopyError::Source(_)) => self.pour_good_copy(content, &target),
                    poured => poured.map(|to| (to, copy)),
                },
                None => self.pour_good_copy(content, &target),
            };
            let (mut to, source) = match source {
                Ok(poured) => poured,
                Err(CopyError::Target(error)) => {
                    self.refused_by(&target, &error, &mut refused);
                    continue;
                }
                Err(CopyError::Source(reason)) => return Err(IngestError::NoSecondCopy(reason)),
            };
            let copy = Copy {
                volume_id: target.id().to_owned(),
                path: self.path_of_copy(sop, source, &series),
                bad: false,
                ..source.clone()
            };
            let mut stored = content.copied_as(study.clone(), series.clone(), copy);
            if removed_since {
                stored.instance.sequence = self.keeper.next_sequence();
            }
            let names = known.names(target.id());
            let now = super::now();
            match self.make_durable(&target, &mut to, &mut stored, &names, Some(&now)) {
                Ok(()) => {
                    to.finish();
                    return Ok(());
                }
                Err(error) => {
                    self.refused_by(&target, &error, &mut refused);
                    match error.is_ledger_unknown() {
                        // The line may be there, so what it speaks of stays.
                        true => to.keep(),
                        false => to.unpublish(&stored.instance.copy.path),
                    }
                }
            }
        }
        Err(IngestError::NoSecondCopy(refused.to_string()))
    }

    /// Writes what was received, mostly from memory, to `incoming/` of a mirror volume.
    fn pour_received(
        &self,
        copy: &Copy,
        from: &mut Incoming,
        target: &Arc<Volume<Line>>,
    ) -> Result<Incoming, CopyError> {
        let mut to = target.begin().map_err(CopyError::Target)?;
        let mut crc = crc32fast::Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut done = 0;
        while done < from.len() {
            let count = from
                .read_at(done, &mut piece)
                .map_err(|error| CopyError::Source(error.to_string()))?;
            if count == 0 {
                break;
            }
            crc.update(&piece[..count]);
            to.write(&piece[..count]).map_err(CopyError::Target)?;
            done += count as u64;
        }
        match (done, crc.finalize()) == (copy.size_bytes, copy.file_crc32) {
            true => Ok(to),
            false => Err(CopyError::Source(
                "the disk gave other bytes back".to_owned(),
            )),
        }
    }

    fn pour_good_copy<'a>(
        &self,
        content: &'a Content,
        target: &Arc<Volume<Line>>,
    ) -> Result<(Incoming, &'a Copy), CopyError> {
        let mut reason = "no good copy is here".to_owned();
        let mut piece = vec![0; PIECE_BYTES];
        for copy in content.good_copies() {
            let mut to = target.begin().map_err(CopyError::Target)?;
            match self.pour_from(copy, &mut to, &mut piece) {
                Ok(()) => return Ok((to, copy)),
                Err(CopyError::Source(error)) => {
                    self.suspect(&content.sop_instance_uid, copy);
                    reason = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(CopyError::Source(reason))
    }
}

/// Read and written at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;
