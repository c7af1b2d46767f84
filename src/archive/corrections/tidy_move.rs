//! From one name to another on the same volume: the rename, then the lines.

use std::sync::Arc;

use crate::index::{Change, Copy, Gone, Hidden, IndexError, Snapshot, Stored, Verdict};
use crate::volume::{Moved, Volume, layout};

use super::super::content::{Content, Facts};
use super::super::ingest::ALTERNATIVES_MAX;
use super::super::placing::Refusals;
use super::super::{Archive, Line, entry};
use super::tidy::{KnownFacts, Pass};
use super::tidy_plan::{Place, Records, id_of};

/// A file that is not where it belongs.
pub(super) struct Moving {
    pub content: Content,
    pub copy: Copy,
    pub place: Place,
    /// Its content is answered, or a variant or conflict of what is.
    pub counts: bool,
    /// Names that it does not get.
    pub taken: Vec<String>,
}

impl Moving {
    /// Names that it may get, the best first.
    fn names(&self) -> Vec<String> {
        let all = names_at(self.place, &self.content.sop_instance_uid, &self.copy);
        all.filter(|path| !self.taken.contains(path)).collect()
    }
}

/// The names of a file at a place: the path it has in the tree, else one with its checksum.
pub(super) fn names_at(place: Place, sop: &str, copy: &Copy) -> impl Iterator<Item = String> {
    let plain = layout::path_in_tree(&copy.path);
    let folder = plain.rsplit_once('/').map(|(folder, _)| folder);
    let others = (0..ALTERNATIVES_MAX).map(move |attempt| {
        let name = layout::alternative_file_name(sop, copy.crc32, attempt);
        folder.map_or(name.clone(), |folder| format!("{folder}/{name}"))
    });
    let all = std::iter::once(plain.to_owned()).chain(others);
    all.map(move |path| place.path(&path))
}

impl Archive {
    /// Files of one volume; whoever calls holds the locks of their instances.
    pub(super) fn move_files(
        &self,
        volume: &Arc<Volume<Line>>,
        moving: Vec<Moving>,
        snapshot: &Snapshot,
        pass: &mut Pass,
    ) -> Result<(), IndexError> {
        let mut facts = KnownFacts::default();
        let mut ready = Vec::new();
        for moving in moving {
            // Before anything is moved: a line cannot do without them.
            match facts.of(&moving.content, snapshot)? {
                Some(facts) => ready.push((moving.names(), moving, facts)),
                None => {
                    pass.again = true;
                    tracing::warn!(
                        sop_instance_uid = moving.content.sop_instance_uid,
                        "a file stays where it is: the index does not know its study"
                    );
                }
            }
        }
        let paths = ready.iter().map(|(_, moving, _)| moving.copy.path.as_str());
        if let Err(error) = self.list_first(volume, paths) {
            pass.again = true;
            tracing::warn!(volume = volume.name(), %error, "files stay where they are for now");
            return Ok(());
        }
        let moved = self.rename_files(volume, &ready, pass);
        let mut lines = Vec::new();
        let now = super::super::now();
        for (path, (_, moving, facts)) in moved.into_iter().zip(&ready) {
            let Some(path) = path else { continue };
            let stored = self.moved_to(moving, facts, path, snapshot)?;
            let (once, line) = entry::lines(&stored, volume.id(), None);
            lines.push((once, line, Arc::new(Change::Stored(stored))));
            let gone = Gone {
                sequence: self.keeper.next_sequence(),
                sop_instance_uid: moving.content.sop_instance_uid.clone(),
                volume_id: volume.id().to_owned(),
                path: moving.copy.path.clone(),
            };
            let line = entry::gone_line(&gone, &now, "moved");
            lines.push((Vec::new(), line, Arc::new(Change::Gone(gone))));
        }
        if lines.is_empty() {
            return Ok(());
        }
        pass.did_something = true;
        let appended = {
            let _call = volume.call();
            volume.ledger().append_all(lines)
        };
        if let Err(error) = appended {
            // Their lines name where they were; the next look finds them.
            pass.again = true;
            self.refused_by(volume, &error.into(), &mut Refusals::default());
            return Ok(());
        }
        for (_, moving, _) in &ready {
            volume.remove_empty_folders(&moving.copy.path);
        }
        Ok(())
    }

    /// The new path of each, or `None` where it stays.
    fn rename_files(
        &self,
        volume: &Arc<Volume<Line>>,
        ready: &[(Vec<String>, Moving, Facts)],
        pass: &mut Pass,
    ) -> Vec<Option<String>> {
        let mut paths: Vec<Option<String>> = vec![None; ready.len()];
        let mut open: Vec<usize> = (0..ready.len()).collect();
        for attempt in 0.. {
            open.retain(|at| ready[*at].0.len() > attempt);
            if open.is_empty() {
                break;
            }
            let moves: Vec<(&str, &str)> = open
                .iter()
                .map(|at| {
                    let (names, moving, _) = &ready[*at];
                    (moving.copy.path.as_str(), names[attempt].as_str())
                })
                .collect();
            let moved = match volume.move_all(&moves) {
                Ok(moved) => moved,
                Err(error) => {
                    pass.again = true;
                    self.refused_by(volume, &error, &mut Refusals::default());
                    return vec![None; ready.len()];
                }
            };
            let mut next = Vec::new();
            for (at, moved) in open.into_iter().zip(moved) {
                let (names, moving, _) = &ready[at];
                match moved {
                    Moved::Done => paths[at] = Some(names[attempt].clone()),
                    Moved::Taken => next.push(at),
                    Moved::Missing => paths[at] = self.moved_before(names, moving, pass),
                    Moved::Not(reason) => {
                        pass.again = true;
                        tracing::warn!(
                            volume = volume.name(),
                            path = moving.copy.path,
                            reason,
                            "a file stays where it is"
                        );
                    }
                }
            }
            open = next;
        }
        paths
    }

    /// Where a file is that was moved when the process ended before it could say so: at one of the names that it may get,
    /// byte for byte as its line says.
    fn moved_before(&self, names: &[String], moving: &Moving, pass: &mut Pass) -> Option<String> {
        let is_there = |path: &&String| {
            self.is_good(&Copy {
                path: (*path).clone(),
                ..moving.copy.clone()
            })
        };
        let found = names.iter().find(is_there).cloned();
        if found.is_none() {
            pass.again = true;
            tracing::warn!(
                path = moving.copy.path,
                "a file that is to be moved is missing"
            );
            if moving.counts {
                self.suspect(&moving.content.sop_instance_uid, &moving.copy);
            }
        }
        found
    }

    /// What the line of a file at its new path says.
    fn moved_to(
        &self,
        moving: &Moving,
        (study, series): &Facts,
        path: String,
        snapshot: &Snapshot,
    ) -> Result<Stored, IndexError> {
        let copy = Copy {
            path,
            ..moving.copy.clone()
        };
        let content = &moving.content;
        let mut stored = content.copied_as(study.clone(), series.clone(), copy);
        let hidden = snapshot.hidden(&content.sop_instance_uid)?;
        if moving.counts && was_removed_since(content, hidden.as_ref(), snapshot)? {
            stored.instance.sequence = self.keeper.next_sequence();
        }
        Ok(stored)
    }
}

/// Whether a content was removed after its first line and counts all the same, since it was sent again: a copy whose line
/// had the number of the first would be hidden as soon as the one that was sent again is gone.
pub(in super::super) fn was_removed_since(
    content: &Content,
    hidden: Option<&Hidden>,
    snapshot: &Snapshot,
) -> Result<bool, IndexError> {
    let id = id_of(content);
    let mut records = Records::default();
    for ruling in hidden.into_iter().flat_map(|hidden| &hidden.rulings) {
        if ruling.verdict == Verdict::Removed
            && ruling.sequence > content.sequence
            && Some(&ruling.content) == id.as_ref()
            && records
                .get(ruling.by, snapshot)?
                .is_some_and(|record| record.in_effect)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
