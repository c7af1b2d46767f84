//! What the corrections of another archive say of the files on a disk of its own, when that is taken in: what was amended
//! or removed there does not come back here.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::Path;

use crate::index::{Change, ContentId, SeriesFacts, Stored, StudyFacts, Verdict};
use crate::volume::io::{Disk, Kind};
use crate::volume::ledger::{self, Position};
use crate::volume::{LabelState, Volume, layout};

use super::entry::{Known, Reader};
use super::survey::hash;
use super::work::{Job, Stop};
use super::{Archive, Line};

/// A ledger is read from its beginning, so all that its lines need stands in it.
pub(super) struct Nothing;

impl Known for Nothing {
    fn study(&self, _: &str, _: u64) -> Option<StudyFacts> {
        None
    }
    fn series(&self, _: &str, _: &str, _: u64) -> Option<SeriesFacts> {
        None
    }
}

#[derive(Default)]
pub struct Theirs {
    /// Last line of each correction: its sequence, and whether it put the correction in effect.
    corrections: HashMap<u64, (u64, bool)>,
    /// By the hash of the instance and the content: correction, sequence and verdict.
    rulings: HashMap<u64, Vec<(u64, u64, Verdict)>>,
}

impl Theirs {
    /// Reads every ledger at `root`, copies too: a correction is in the ledgers of two volumes only.
    fn read(disk: &Disk, root: &Path, job: &Job) -> Result<Theirs, Stop> {
        let mut theirs = Theirs::default();
        let ledgers = root.join(layout::LEDGERS_FOLDER);
        let names = disk.folder(&ledgers).unwrap_or_default();
        for (name, kind) in names {
            // A copy of another ledger than the one that is in force.
            let is_aside = name.to_str().is_none_or(|name| name.contains('.'));
            if kind != Kind::Folder || is_aside {
                continue;
            }
            let mut reader = Reader::new("");
            let read = ledger::read(
                disk,
                &ledgers.join(&name),
                Position::default(),
                &mut |json, _| {
                    // Other lines are not looked at here.
                    if json.contains("\"ruled\":") || json.contains("\"correction\":") {
                        theirs.take(reader.line(json, &Nothing).ok().flatten());
                    }
                    match job.go_on() {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                },
            );
            job.go_on()?;
            if let Err(error) = read {
                tracing::warn!(%error, "a ledger of another archive cannot be read");
            }
        }
        Ok(theirs)
    }

    fn take(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Ruling(ruling)) => {
                let key = key(&ruling.sop_instance_uid, &ruling.content);
                let rulings = self.rulings.entry(key).or_default();
                let ruling = (ruling.by, ruling.sequence, ruling.verdict);
                if !rulings.contains(&ruling) {
                    rulings.push(ruling);
                }
            }
            Some(Change::Correction(line)) => {
                let last = self.corrections.entry(line.number).or_default();
                *last = (*last).max((line.sequence, line.in_effect));
            }
            _ => {}
        }
    }

    fn is_in_effect(&self, number: u64) -> bool {
        number == 0 || self.corrections.get(&number).is_some_and(|last| last.1)
    }

    /// Whether what a line stored does not count there.
    pub fn hides(&self, stored: &Stored) -> bool {
        let instance = &stored.instance;
        if !self.is_in_effect(instance.origin.by) {
            return true;
        }
        let content = ContentId {
            transfer_syntax: instance.transfer_syntax.clone(),
            data_bytes: instance.copy.data_bytes(),
            crc32: instance.copy.crc32,
        };
        let rulings = self.rulings.get(&key(&instance.sop_instance_uid, &content));
        rulings
            .into_iter()
            .flatten()
            .any(|(by, sequence, verdict)| {
                let withdrawn = match verdict {
                    Verdict::Withdrawn => true,
                    Verdict::Removed => *sequence >= instance.sequence,
                    Verdict::Preferred => false,
                };
                withdrawn && self.is_in_effect(*by)
            })
    }

    /// Hashes of the paths that the ledger in a folder names and that do not count there.
    pub fn hidden_paths(&self, disk: &Disk, folder: &Path, job: &Job) -> Result<Vec<u64>, Stop> {
        let mut hidden = HashSet::new();
        let mut reader = Reader::new("");
        let mut segment = 0;
        let read = ledger::read(disk, folder, Position::default(), &mut |json, after| {
            if after.segment != segment {
                segment = after.segment;
                reader.forget();
            }
            match reader.line(json, &Nothing) {
                Ok(Some(Change::Stored(stored))) => {
                    let path = &stored.instance.copy.path;
                    if self.hides(&stored) {
                        // It may have been moved a moment before its line would have said so.
                        let in_tree = layout::path_in_tree(path);
                        let aside = [layout::SUPERSEDED_FOLDER, layout::TRASH_FOLDER];
                        let aside = aside.map(|folder| hash(&format!("{folder}/{in_tree}")));
                        hidden.extend([hash(path), hash(in_tree)].into_iter().chain(aside));
                    } else {
                        hidden.remove(&hash(path));
                    }
                }
                Ok(Some(Change::Gone(gone))) => drop(hidden.remove(&hash(&gone.path))),
                _ => {}
            }
            match job.go_on() {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        job.go_on()?;
        read.map_err(|error| Stop::Failed(error.to_string()))?;
        Ok(hidden.into_iter().collect())
    }
}

impl Archive {
    /// The corrections of the archive whose volume is at `root`, and the id of that; `None` if it is none of another
    /// archive.
    pub(super) fn theirs_at(
        &self,
        disk: &Disk,
        root: &Path,
        job: &Job,
    ) -> Result<Option<(layout::Label, Theirs)>, Stop> {
        let ours = self.identity().archive_id.clone();
        match Volume::<Line>::label_of(root) {
            Ok(LabelState::Label(label)) if label.archive_id != ours => {
                Ok(Some((label, Theirs::read(disk, root, job)?)))
            }
            _ => Ok(None),
        }
    }

    /// Hashes of the paths of files at `root` that do not count in the archive whose volume that is.
    pub(super) fn hidden_by_theirs(
        &self,
        disk: &Disk,
        root: &Path,
        job: &Job,
    ) -> Result<Vec<u64>, Stop> {
        let Some((label, theirs)) = self.theirs_at(disk, root, job)? else {
            return Ok(Vec::new());
        };
        let folder = root.join(layout::LEDGERS_FOLDER).join(&label.volume_id);
        theirs.hidden_paths(disk, &folder, job)
    }
}

fn key(sop_instance_uid: &str, content: &ContentId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        sop_instance_uid,
        &content.transfer_syntax,
        content.data_bytes,
        content.crc32,
    )
        .hash(&mut hasher);
    hasher.finish()
}
