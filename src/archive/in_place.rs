//! Ledger lines for files that lie on a volume without one: nothing is moved, nothing is written but lines.

use std::collections::HashSet;
use std::sync::Arc;

use crate::index::{Change, Copy, IndexError, InstanceFacts, Snapshot, Stored};
use crate::volume::VolumeError;
use crate::volume::io::Entry;

use super::at_rest::AtRest;
use super::content::{Content, contents, hidden_contents};
use super::resent::Known;
use super::{Archive, entry};

/// A file without a line.
pub struct Unlisted {
    /// Relative to the volume's root.
    pub path: String,
    /// Where another archive has said so, RFC 3339; else it is now.
    pub received: Option<String>,
    pub file: AtRest,
}

/// What became of files without lines.
#[derive(Default)]
pub struct Listed {
    /// Lines written.
    pub added: u64,
    /// Of these, the content was here already, on this volume or another.
    pub copies: u64,
    /// Of these, kept beside the content that is answered: another transfer syntax, or another data set under the UID.
    pub others: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the volume is away")]
    Away,
}

impl Archive {
    /// Gives each file its line; durable and findable on return. A file that has got its line meanwhile is passed over.
    ///
    /// `from`: what the lines name as sender where the file names none. Only one at a time: it holds the locks of many
    /// SOP Instance UIDs.
    pub(super) fn list_in_place(
        &self,
        volume_id: &str,
        files: Vec<Unlisted>,
        from: &str,
    ) -> Result<Listed, ListError> {
        let volume = self.shelf.here(volume_id).ok_or(ListError::Away)?;
        // A line means that the bytes are there; who put these files here may not have flushed them.
        volume.sync_file_system()?;
        let mut listed = Listed::default();
        let mut files = files.into_iter().peekable();
        while files.peek().is_some() {
            // One UID once in a group: the second must find the first in the index.
            let mut uids = HashSet::new();
            let mut group = Vec::new();
            while let Some(next) = files.peek()
                && uids.insert(next.file.heading.sop_instance_uid.clone())
            {
                group.extend(files.next());
            }
            let _locks: Vec<_> = uids.iter().map(|uid| self.locks.lock(uid)).collect();
            let view = self.keeper.view()?;
            let mut lines = Vec::new();
            for unlisted in group {
                let sop = &unlisted.file.heading.sop_instance_uid;
                let known = self.what_is_kept(&view.snapshot, sop)?;
                if known.has_file(volume_id, &unlisted.path) {
                    continue;
                }
                // Removed since it was read, by a drain that held this lock.
                let size = unlisted.file.size_bytes;
                let is_there = |entry: Entry| entry.is_file && entry.len == size;
                if unlisted.received.is_none()
                    && !volume
                        .entry(&unlisted.path)
                        .is_ok_and(|e| e.is_some_and(is_there))
                {
                    continue;
                }
                let heading = &unlisted.file.heading;
                let today = date_in(&unlisted.path).unwrap_or_else(super::today);
                let place = self.places.assign_values(
                    (
                        unlisted.file.study_values.clone(),
                        unlisted.file.series_values.clone(),
                    ),
                    &heading.study_uid,
                    &heading.series_uid,
                    &today,
                    &view.snapshot,
                )?;
                let mut stored = Stored {
                    study: place.study,
                    series: place.series,
                    instance: facts(volume_id, unlisted, from),
                };
                stored.instance.values.extend(place.another_patient);
                let copied = self.relate(&known, &view.snapshot, &mut stored, &mut listed)?;
                if copied.is_none() {
                    stored.instance.sequence = self.keeper.next_sequence();
                }
                let (once, line) = entry::lines(&stored, volume_id, copied.as_deref());
                lines.push((once, line, Arc::new(Change::Stored(stored))));
            }
            drop(view);
            listed.added += lines.len() as u64;
            volume
                .ledger()
                .append_all(lines)
                .map_err(VolumeError::from)?;
        }
        Ok(listed)
    }

    /// A copy of what is here, hidden or not, says what that says; returns when the copy was seen.
    ///
    /// What a correction took out and has no file any more is new: it counts if it was removed, and is hidden if it was
    /// withdrawn.
    fn relate(
        &self,
        known: &Known,
        snapshot: &Snapshot,
        stored: &mut Stored,
        listed: &mut Listed,
    ) -> Result<Option<String>, IndexError> {
        let mut contents = known.existing.as_ref().map(contents).unwrap_or_default();
        let sop = &stored.instance.sop_instance_uid;
        let hidden = known.hidden.iter();
        contents.extend(hidden.flat_map(|hidden| hidden_contents(sop, hidden)));
        let new = &stored.instance;
        let is_it = |content: &&Content| {
            content.transfer_syntax == new.transfer_syntax
                && content.copies.iter().any(|copy| {
                    copy.crc32 == new.copy.crc32 && copy.data_bytes() == new.copy.data_bytes()
                })
        };
        let Some(content) = contents.iter().find(is_it) else {
            listed.others += u64::from(known.existing.is_some());
            return Ok(None);
        };
        listed.copies += 1;
        let (mut study, mut series) = (stored.study.clone(), stored.series.clone());
        // What a correction made says what that says of its study.
        if content.origin.by > 0
            && let Some(facts) = content.facts(snapshot)?
        {
            (study, series) = facts;
        }
        let values = new.values.clone();
        *stored = content.copied_as(study, series, new.copy.clone());
        if content.origin.by == 0 {
            stored.instance.values = values;
        }
        Ok(Some(super::now()))
    }

    /// Whether the index says that this file holds this instance, asked when nobody is storing it.
    pub(super) fn is_listed(
        &self,
        volume_id: &str,
        path: &str,
        sop_instance_uid: &str,
    ) -> Result<bool, IndexError> {
        let _lock = self.locks.lock(sop_instance_uid);
        let view = self.keeper.view()?;
        let known = self.what_is_kept(&view.snapshot, sop_instance_uid)?;
        Ok(known.has_file(volume_id, path))
    }
}

fn facts(volume_id: &str, unlisted: Unlisted, from: &str) -> InstanceFacts {
    let AtRest {
        heading,
        instance_values,
        size_bytes,
        crc32,
        file_crc32,
        ..
    } = unlisted.file;
    InstanceFacts {
        sequence: 0,
        sop_instance_uid: heading.sop_instance_uid,
        sop_class_uid: heading.sop_class_uid,
        transfer_syntax: heading.transfer_syntax,
        values: instance_values,
        received: unlisted.received.unwrap_or_else(super::now),
        source_ae_title: match heading.source_ae_title.is_empty() {
            true => from.to_owned(),
            false => heading.source_ae_title,
        },
        origin: Default::default(),
        copy: Copy {
            volume_id: volume_id.to_owned(),
            path: unlisted.path,
            data_offset: heading.data_offset,
            size_bytes,
            crc32,
            file_crc32,
            bad: false,
        },
    }
}

/// A folder of the path that is a day, `YYYYMMDD`: where the study has no date it is the next best, as gateways keep
/// what they receive by day.
fn date_in(path: &str) -> Option<String> {
    let (folders, _) = path.rsplit_once('/')?;
    folders
        .split('/')
        .find(|part| {
            part.len() == 8
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && ("19000101".."21000101").contains(part)
                && ("0101"..="1231").contains(&&part[4..])
                && ("01"..="31").contains(&&part[6..])
        })
        .map(str::to_owned)
}
