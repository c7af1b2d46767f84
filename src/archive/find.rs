//! Answers a query, and names the instances that a retrieve asks for.

use std::ops::ControlFlow;

use dicom_dictionary_std::tags;

use crate::dicom::Level;
use crate::index::{Copy, IndexError, InstanceEntry, Match, Query, Snapshot, Step};

use super::Archive;
use super::places::key;

#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("more than {SELECTED_COUNT_MAX} instances; ask for less at a time")]
    TooMany,
    /// Every match known so far was given; more may come when the index is complete.
    #[error("the index is being rebuilt, {percent} % done; ask again")]
    Rebuilding { percent: u8 },
}

/// What a retrieve selects: UIDs at one level; the levels above may be empty (relational, as workstations send it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Patients(Vec<String>),
    Studies(Vec<String>),
    Series(Vec<String>),
    Instances(Vec<String>),
}

/// Instances that one retrieve may name; more is refused rather than held in memory.
pub const SELECTED_COUNT_MAX: usize = 1_000_000;

/// One instance to be sent: what the association must have a context for.
#[derive(Debug, Clone)]
pub struct Selected {
    pub study_instance_uid: String,
    pub sop_instance_uid: String,
    pub sop_class_uid: String,
    pub transfer_syntax: String,
    /// Length of its data set, bytes.
    pub length: u64,
    /// CRC-32 of its data set: what was selected is sent, also when something else is answered by then.
    pub crc32: u32,
}

impl Selected {
    /// The content that is answered; `None` of one without copies, which there is not.
    pub fn of(entry: InstanceEntry) -> Option<Selected> {
        let copy = entry.record.copies.first()?;
        Some(Selected {
            length: copy.data_bytes(),
            crc32: copy.crc32,
            study_instance_uid: entry.study_instance_uid,
            sop_instance_uid: entry.sop_instance_uid,
            sop_class_uid: entry.record.sop_class_uid,
            transfer_syntax: entry.record.transfer_syntax,
        })
    }

    fn is(&self, transfer_syntax: &str, copies: &[Copy]) -> bool {
        transfer_syntax == self.transfer_syntax && copies.iter().any(|copy| self.is_in(copy))
    }

    pub(super) fn is_in(&self, copy: &Copy) -> bool {
        (copy.data_bytes(), copy.crc32) == (self.length, self.crc32)
    }

    /// Its copies as they are now, also where a correction has hidden it since; `None`: there is no such content.
    pub(super) fn copies(&self, snapshot: &Snapshot) -> Result<Option<Vec<Copy>>, IndexError> {
        let sop = &self.sop_instance_uid;
        if let Some(InstanceEntry { record, .. }) = snapshot.by_sop(sop)? {
            if self.is(&record.transfer_syntax, &record.copies) {
                return Ok(Some(record.copies));
            }
            let mut others = record.others.into_iter();
            let found = others.find(|other| self.is(&other.transfer_syntax, &other.copies));
            if let Some(other) = found {
                return Ok(Some(other.copies));
            }
        }
        let hidden = snapshot.hidden(sop)?.unwrap_or_default();
        let mut contents = hidden.contents.into_iter();
        let found = contents.find(|one| self.is(&one.transfer_syntax, &one.copies));
        Ok(found.map(|content| content.copies))
    }
}

impl Archive {
    /// Gives each match to `f` until it breaks. An incomplete index is an error *after* its matches were given.
    pub fn find(
        &self,
        query: &Query,
        f: &mut dyn FnMut(Match) -> ControlFlow<()>,
    ) -> Result<(), FindError> {
        self.search(query, &mut |step| match step {
            Step::Found(found) => f(*found),
            Step::Looked => ControlFlow::Continue(()),
        })
    }

    /// As [`Archive::find`], but calls `f` also while nothing is found, so that it can be stopped then.
    pub fn search(
        &self,
        query: &Query,
        f: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<(), FindError> {
        let view = self.view()?;
        let mut failed = None;
        // The usual case costs nothing: with every volume here, everything is on line.
        let some_are_away = !self.shelf.all_are_here();
        let mut give = |mut step: Step| {
            if let Step::Found(found) = &mut step
                && some_are_away
            {
                match self.availability(&view.snapshot, query.level, found) {
                    Ok(availability) => {
                        found
                            .values
                            .insert(key(tags::INSTANCE_AVAILABILITY), availability);
                    }
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            f(step)
        };
        view.snapshot
            .search(query, &mut give)
            .and_then(|()| failed.map_or(Ok(()), Err))
            .inspect_err(|error| self.index_failed(error))?;
        match view.rebuilding_percent {
            Some(percent) => Err(FindError::Rebuilding { percent }),
            None => Ok(()),
        }
    }

    fn availability(
        &self,
        snapshot: &Snapshot,
        level: Level,
        found: &Match,
    ) -> Result<String, IndexError> {
        let here = |volume_id: &str| self.shelf.here(volume_id).is_some();
        let availability = match level {
            Level::Patient => {
                snapshot.patient_availability(&found.study_instance_uid, &found.values, &here)?
            }
            _ => snapshot.availability(
                level,
                &found.study_instance_uid,
                &found.series_instance_uid,
                &found.sop_instance_uid,
                &here,
            )?,
        };
        Ok(availability.as_str().to_owned())
    }

    /// The instances of a selection, in the order of the index; what is not known selects nothing.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Selected>, FindError> {
        self.select_so_far(selection).map(|(selected, _)| selected)
    }

    /// As [`Archive::select`]; with the percentage to which the index has been read in, where there may be more than that.
    pub fn select_so_far(
        &self,
        selection: &Selection,
    ) -> Result<(Vec<Selected>, Option<u8>), FindError> {
        let view = self.view()?;
        let snapshot = &view.snapshot;
        let mut selected = Vec::new();
        let mut too_many = false;
        let mut take = |entry: InstanceEntry| {
            if selected.len() == SELECTED_COUNT_MAX {
                too_many = true;
                return ControlFlow::Break(());
            }
            selected.extend(Selected::of(entry));
            ControlFlow::Continue(())
        };
        let result = (|| {
            match selection {
                Selection::Patients(ids) => {
                    for id in ids {
                        snapshot.instances_of_patient(id, &mut take)?;
                    }
                }
                Selection::Studies(uids) => {
                    for uid in uids {
                        snapshot.instances(uid, None, &mut take)?;
                    }
                }
                Selection::Series(uids) => {
                    for uid in uids {
                        if let Some(record) = snapshot.series_by_uid(uid)? {
                            snapshot.instances(
                                &record.facts.study_instance_uid,
                                Some(uid),
                                &mut take,
                            )?;
                        }
                    }
                }
                Selection::Instances(uids) => {
                    for uid in uids {
                        if let Some(entry) = snapshot.by_sop(uid)? {
                            let _ = take(entry);
                        }
                    }
                }
            }
            Ok::<(), IndexError>(())
        })();
        result.inspect_err(|error| self.index_failed(error))?;
        if too_many {
            return Err(FindError::TooMany);
        }
        match view.rebuilding_percent {
            // What is not in the index yet would be missing from a "complete" retrieve.
            Some(percent) if selected.is_empty() => Err(FindError::Rebuilding { percent }),
            percent => {
                let is_named =
                    matches!(selection, Selection::Instances(uids) if uids.len() <= selected.len());
                Ok((selected, percent.filter(|_| !is_named)))
            }
        }
    }
}
