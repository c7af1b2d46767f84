//! What comes again: bytes that are here already, bytes that a correction withdrew, and other bytes under a SOP Instance
//! UID that is known.

use crate::config::DuplicatePolicy;
use crate::index::{
    Class, ContentId, Copy, CorrectionFacts, CorrectionRecord, Did, Hid, Hidden, IndexError,
    InstanceEntry, InstanceFacts, OtherKind, Ruling, Snapshot, Values, Verdict, classify,
};
use crate::volume::Incoming;

use super::corrections::TRASH_EMPTIED;
use super::ingest::{IngestError, Outcome, names_given};
use super::{Archive, reread};

/// What is kept under the SOP Instance UID of something that came.
pub(super) struct Known {
    pub existing: Option<InstanceEntry>,
    /// What corrections say; not asked for as long as there is none.
    pub hidden: Option<Hidden>,
}

/// What is to be done with what came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    Store(Outcome),
    /// It is here, and counts.
    Here(ContentId),
    /// It is here and is not answered, though its sender's last word is to be.
    HereNotAnswered(ContentId),
    /// A correction with that number took it out.
    Withdrawn(u64),
}

impl Known {
    /// Paths that stand for contents of this SOP Instance UID on a volume, now or when they are taken back.
    pub fn names(&self, volume_id: &str) -> Vec<String> {
        let record = self.existing.as_ref().map(|entry| &entry.record);
        names_given(record, self.hidden.as_ref(), volume_id)
    }

    /// Files of a volume that are said to hold a content of it.
    pub fn files(&self, volume_id: &str) -> Vec<String> {
        let record = self.existing.iter().map(|entry| &entry.record);
        let counting = record.flat_map(|record| {
            let others = record.others.iter().flat_map(|other| &other.copies);
            record.copies.iter().chain(others)
        });
        let hidden = self.hidden.iter().flat_map(|hidden| &hidden.contents);
        let copies = counting.chain(hidden.flat_map(|content| &content.copies));
        let there = copies.filter(|copy| copy.volume_id == volume_id);
        there.map(|copy| copy.path.clone()).collect()
    }

    pub fn has_file(&self, volume_id: &str, path: &str) -> bool {
        self.files(volume_id).iter().any(|file| file == path)
    }
}

/// A data set as it is compared: its own length and checksum, and those it came with if it was coerced.
struct Form<'a> {
    transfer_syntax: &'a str,
    own: (u64, u32),
    was: Option<(u64, u32)>,
}

impl Form<'_> {
    fn is(&self, other: &Form) -> bool {
        self.transfer_syntax == other.transfer_syntax && self.own == other.own
    }

    /// Whether its sender sent the same bytes, and not both are kept as these.
    fn came_as(&self, other: &Form) -> bool {
        let came = |form: &Form| form.was.unwrap_or(form.own);
        self.transfer_syntax == other.transfer_syntax
            && (self.was.is_some() || other.was.is_some())
            && came(self) == came(other)
    }

    fn id(&self) -> ContentId {
        ContentId {
            transfer_syntax: self.transfer_syntax.to_owned(),
            data_bytes: self.own.0,
            crc32: self.own.1,
        }
    }

    /// Whether a ruling is about it, or about what it was before it was coerced.
    fn is_ruled_by(&self, ruling: &Ruling) -> bool {
        let ruled = (ruling.content.data_bytes, ruling.content.crc32);
        ruling.content.transfer_syntax == self.transfer_syntax
            && (ruled == self.own || Some(ruled) == self.was)
    }
}

fn form_of<'a>(syntax: &'a str, copies: &[Copy], was: Option<(u64, u32)>) -> Form<'a> {
    let own = copies.first().map(|copy| (copy.data_bytes(), copy.crc32));
    Form {
        transfer_syntax: syntax,
        own: own.unwrap_or_default(),
        was,
    }
}

impl Archive {
    pub(super) fn what_is_kept(&self, snapshot: &Snapshot, sop: &str) -> Result<Known, IndexError> {
        let hidden = match self.places.has_corrections(snapshot)? {
            true => snapshot.hidden(sop)?,
            false => None,
        };
        Ok(Known {
            existing: snapshot.by_sop(sop)?,
            hidden,
        })
    }

    /// Is what was received here already, another form of it, or something else under the same UID?
    pub(super) fn compare(
        &self,
        known: &Known,
        snapshot: &Snapshot,
        (study_uid, series_uid): (&str, &str),
        instance: &InstanceFacts,
        incoming: &mut Incoming,
    ) -> Result<Again, IndexError> {
        let new = Form {
            transfer_syntax: &instance.transfer_syntax,
            own: (instance.copy.data_bytes(), instance.copy.crc32),
            was: instance.origin.was,
        };
        if let Some(existing) = &known.existing
            && let Some(again) = self.is_kept(existing, &new, instance, incoming)
        {
            return Ok(again);
        }
        if let Some(hidden) = &known.hidden
            && let Some(by) = self.is_withdrawn(hidden, snapshot, &new, instance, incoming)?
        {
            return Ok(Again::Withdrawn(by));
        }
        let Some(existing) = &known.existing else {
            return Ok(Again::Store(Outcome::Stored));
        };
        let class = classify(existing, study_uid, series_uid, instance);
        Ok(Again::Store(match class {
            Class::SameCopy | Class::AnotherCopy => Outcome::Stored,
            Class::Variant => Outcome::Variant,
            Class::Conflict if self.is_the_last_word(existing, instance) => Outcome::Newest,
            Class::Conflict => Outcome::Conflict,
        }))
    }

    /// Every form that is kept under this UID: the one that is answered, then variants and conflicts.
    fn is_kept(
        &self,
        existing: &InstanceEntry,
        new: &Form,
        instance: &InstanceFacts,
        incoming: &mut Incoming,
    ) -> Option<Again> {
        let record = &existing.record;
        let answered = (
            &record.transfer_syntax,
            &record.copies,
            record.origin.was,
            true,
        );
        let others = record.others.iter().map(|other| {
            let is_variant = other.kind == OtherKind::Variant;
            let was = other.origin.was;
            (&other.transfer_syntax, &other.copies, was, is_variant)
        });
        for (syntax, copies, was, is_answered) in std::iter::once(answered).chain(others) {
            let kept = form_of(syntax, copies, was);
            let is_here = if new.is(&kept) {
                self.has_these_bytes(copies, instance, incoming) == Some(true)
            } else {
                new.came_as(&kept) && self.has_a_good_one(copies)
            };
            if is_here {
                let is_answered = is_answered || !self.is_the_last_word(existing, instance);
                return Some(match is_answered {
                    true => Again::Here(kept.id()),
                    false => Again::HereNotAnswered(kept.id()),
                });
            }
        }
        None
    }

    /// Whether a correction in effect took out what came, and it need not be stored therefore; the number of that.
    fn is_withdrawn(
        &self,
        hidden: &Hidden,
        snapshot: &Snapshot,
        new: &Form,
        instance: &InstanceFacts,
        incoming: &mut Incoming,
    ) -> Result<Option<u64>, IndexError> {
        let form = |content: &'_ crate::index::HiddenContent| {
            let form = form_of(
                &content.transfer_syntax,
                &content.copies,
                content.origin.was,
            );
            (form.is(new), form.came_as(new), form.id())
        };
        // What it is kept as, if it is.
        let contents = hidden.contents.iter();
        let mut kept: Vec<_> = contents
            .filter(|content| matches!(content.hid, Hid::Withdrawn { .. }))
            .map(|content| (content, form(content)))
            .filter(|(_, (is, came_as, _))| *is || *came_as)
            .collect();
        kept.sort_by_key(|(_, (is, ..))| !is);
        let mut withdrawn = None;
        let mut removed = None;
        for ruling in &hidden.rulings {
            let is_about =
                new.is_ruled_by(ruling) || kept.iter().any(|(_, (_, _, id))| *id == ruling.content);
            let highest = match ruling.verdict {
                Verdict::Withdrawn => &mut withdrawn,
                Verdict::Removed => &mut removed,
                Verdict::Preferred => continue,
            };
            let in_effect = |number| -> Result<bool, IndexError> {
                let record = snapshot.correction(number)?;
                // Files that are about to be deleted stand for nothing.
                let emptied = |record: &CorrectionRecord| {
                    let last = record.last.as_ref();
                    last.is_some_and(|last| last.way == TRASH_EMPTIED)
                };
                Ok(record.is_some_and(|record| record.in_effect && !emptied(&record)))
            };
            if is_about && *highest < Some(ruling.by) && in_effect(ruling.by)? {
                *highest = Some(ruling.by);
            }
        }
        if let Some(by) = withdrawn {
            // Where files are left their bytes decide, as everywhere; where none is, length and checksum are all there is.
            let is_other = kept.iter().any(|(content, (is, ..))| {
                *is && self.has_these_bytes(&content.copies, instance, incoming) == Some(false)
            });
            return Ok((!is_other).then_some(by));
        }
        // Who removed it may want it back as long as it is there; afterwards it is new.
        Ok(removed.filter(|_| {
            kept.iter().any(|(content, (is, ..))| match is {
                true => self.has_these_bytes(&content.copies, instance, incoming) == Some(true),
                false => self.has_a_good_one(&content.copies),
            })
        }))
    }

    /// Whether one of these files is, byte for byte, what came; None when none of them can be read.
    fn has_these_bytes(
        &self,
        copies: &[Copy],
        instance: &InstanceFacts,
        incoming: &mut Incoming,
    ) -> Option<bool> {
        let mut found = None;
        for copy in copies {
            if copy.bad || !same_data_set(copy, &instance.copy) || !self.is_ours(copy) {
                continue;
            }
            // Size and CRC agree; only the bytes themselves decide, and a copy that cannot be read is no copy.
            let same = self.open_checked(copy).and_then(|(file, _volume)| {
                let length = copy.size_bytes - copy.data_offset;
                incoming.compare(&file, instance.copy.data_offset, copy.data_offset, length)
            });
            match same {
                Ok(true) => return Some(true),
                Ok(false) => found = Some(false),
                Err(error) => {
                    tracing::warn!(volume = copy.volume_id, %error,
                        "the copy of an instance that was sent again cannot be read");
                }
            }
        }
        found
    }

    /// Whether one of these files is what its ledger line says: what came is known by its length and checksum alone, so at
    /// least this must stand.
    fn has_a_good_one(&self, copies: &[Copy]) -> bool {
        copies.iter().any(|copy| {
            let volume = self.shelf.here(&copy.volume_id);
            volume.is_some_and(|volume| {
                !copy.bad
                    && self.is_ours(copy)
                    && reread::reread(&volume, copy, &|_, _| true).is_ok()
            })
        })
    }

    /// Whether a copy may stand for what is sent. An adopted tree is its owner's, who may take it away; a disk that hangs
    /// would hold up the sender.
    fn is_ours(&self, copy: &Copy) -> bool {
        let volume = self.shelf.here(&copy.volume_id);
        volume.is_some_and(|volume| !volume.is_adopted() && volume.answers())
    }

    /// Whether what came is to be answered rather than what is: it is of the same sender, and its policy says so.
    ///
    /// In another transfer syntax it may be the old image once more, which nobody would know as such.
    fn is_the_last_word(&self, existing: &InstanceEntry, instance: &InstanceFacts) -> bool {
        let (record, calling) = (&existing.record, &instance.source_ae_title);
        let of_the_same = record.source_ae_title.trim() == calling.trim()
            && record.transfer_syntax == instance.transfer_syntax;
        of_the_same && self.duplicates.now().policy_for(calling) == DuplicatePolicy::Newest
    }

    /// Has a content answered that is kept besides another: its sender went back to it. No file is written for that, only
    /// a correction, which can be taken back as any other.
    pub(super) fn go_back_to(
        &self,
        content: &ContentId,
        existing: &InstanceEntry,
        calling: &str,
    ) -> Result<(), IngestError> {
        let number = self.keeper.next_sequence();
        let sop = &existing.sop_instance_uid;
        let ruling = Ruling {
            sequence: self.keeper.next_sequence(),
            by: number,
            sop_instance_uid: sop.clone(),
            content: content.clone(),
            verdict: Verdict::Preferred,
        };
        let facts = CorrectionFacts {
            at: super::now(),
            did: Did::Preferred,
            who: calling.trim().to_owned(),
            why: "sent again; [duplicates] policy is newest".to_owned(),
            way: format!("C-STORE from {}", calling.trim()),
            level: "IMAGE".to_owned(),
            of: vec![sop.clone()],
            studies: vec![existing.study_instance_uid.clone()],
            instances_count: 1,
            before: Values::new(),
            after: Values::new(),
        };
        self.put_down(number, true, &facts, &[ruling], &[])
            .map_err(|error| IngestError::NotAnswered(error.to_string()))
    }
}

fn same_data_set(a: &Copy, b: &Copy) -> bool {
    a.crc32 == b.crc32 && a.data_bytes() == b.data_bytes()
}

#[cfg(test)]
mod tests;
