//! Empties a volume onto the others: copy, check the copy on its disk, say so in both ledgers, and only then remove.
//!
//! Nothing is remembered but "this volume is being drained": what is left to do is what the index still finds on it, so it
//! goes on after any interruption, and an instance is on one of the two volumes at every moment.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::index::{Change, Copy, Gone};
use crate::volume::layout::Role;
use crate::volume::{Incoming, Volume, VolumeState, layout, ledger_extent};

use super::content::{Content, contents, hidden_content};
use super::copying::Task;
use super::corrections::{Place, was_removed_since};
use super::ingest::names_given;
use super::placing::Refusals;
use super::reread::reread;
use super::safety::Need;
use super::shelf::Member;
use super::{Archive, Line, entry};

/// Instances looked up at a time.
const BATCH_COUNT: usize = 256;
/// Read and written at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// After a round in which something could not be moved the next one waits this long.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// By volume id: how many instances could not be moved, and when they are tried again.
#[derive(Default)]
pub struct Drains {
    failed: Mutex<HashMap<String, (usize, Instant)>>,
}

impl Drains {
    fn failed(&self) -> MutexGuard<'_, HashMap<String, (usize, Instant)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Works on every volume that is being drained until there is nothing left to do, or the server stops.
    pub(super) fn drain_all(&self) {
        for member in self.shelf.all() {
            let draining = self
                .identity()
                .by_id(&member.volume_id)
                .is_some_and(|known| known.draining);
            let rests = |(_, again): &(usize, Instant)| *again > Instant::now();
            let resting = self
                .drains
                .failed()
                .get(&member.volume_id)
                .is_some_and(rests);
            if let Some(volume) = member.here().filter(|_| draining && !resting) {
                self.drain(&member, volume);
            }
        }
    }

    fn drain(&self, member: &Member, volume: &Arc<Volume<Line>>) {
        if let Err(reason) = self.remove_what_is_gone(volume) {
            tracing::warn!(
                volume = member.name,
                reason,
                "a file that was moved is still there"
            );
        }
        let mut failed = HashSet::new();
        // Where to look on for hidden files: each look goes through all that is hidden, on whatever volume.
        let mut after: Option<String> = None;
        loop {
            let mut batch: Vec<String> = Vec::new();
            let read = self.view().and_then(|view| {
                if view.rebuilding_percent.is_some() {
                    return Ok(false);
                }
                let take = |sop: String, batch: &mut Vec<String>| {
                    if !failed.contains(&sop) {
                        batch.push(sop);
                    }
                    match batch.len() {
                        BATCH_COUNT => ControlFlow::Break(()),
                        _ => ControlFlow::Continue(()),
                    }
                };
                let (snapshot, id) = (&view.snapshot, volume.id());
                snapshot.on_volume(id, None, &mut |entry| {
                    take(entry.sop_instance_uid, &mut batch)
                })?;
                if batch.is_empty() {
                    // Last what nobody asks for.
                    snapshot
                        .hidden_on(id, after.as_deref(), &mut |sop, _| take(sop, &mut batch))?;
                    let begins_again = batch.is_empty() && after.is_some();
                    after = batch.last().cloned();
                    if begins_again {
                        snapshot.hidden_on(id, None, &mut |sop, _| take(sop, &mut batch))?;
                    }
                }
                Ok(true)
            });
            match read {
                // Only a complete index knows what is left.
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => return self.index_failed(&error),
            }
            if batch.is_empty() {
                break;
            }
            for sop_instance_uid in batch {
                let stopped = self.stopping.load(Ordering::Relaxed)
                    || !self.is_draining(&member.volume_id)
                    || volume.state() != VolumeState::Ok;
                if stopped {
                    return;
                }
                if let Err(reason) = self.move_off(volume, &sop_instance_uid) {
                    tracing::error!(
                        volume = member.name,
                        sop_instance_uid,
                        reason,
                        "an instance stays on the volume that is being drained"
                    );
                    failed.insert(sop_instance_uid);
                }
            }
        }
        let again = Instant::now() + AGAIN_AFTER;
        self.drains
            .failed()
            .insert(member.volume_id.clone(), (failed.len(), again));
        if failed.is_empty() {
            let done = self.set_draining(&member.volume_id, false);
            tracing::info!(
                volume = member.name,
                "a volume was drained; no instance is left on it"
            );
            if let Err(error) = done {
                tracing::error!(%error, "that a volume was drained could not be written down");
            }
        }
    }

    /// Told to drain: whatever failed before is tried again at once.
    pub(super) fn try_drain_now(&self, volume_id: &str) {
        self.drains.failed().remove(volume_id);
    }

    /// A crash between the line that takes a file back and its removal leaves the file; only the last ones can be that.
    fn remove_what_is_gone(&self, volume: &Volume<Line>) -> Result<(), String> {
        let mut last = VecDeque::new();
        let folder = volume.ledger_folder(volume.id());
        ledger_extent::read_last_segment(volume.disk(), &folder, &mut |json| {
            if let Some(gone) = entry::gone_of(json) {
                last.push_back(gone);
                if last.len() > BATCH_COUNT {
                    last.pop_front();
                }
            }
        })
        .map_err(|error| error.to_string())?;
        for (sop_instance_uid, path) in last {
            let _lock = self.locks.lock(&sop_instance_uid);
            let view = self.view().map_err(|error| error.to_string())?;
            let found = view.snapshot.by_sop(&sop_instance_uid);
            let found = found.map_err(|error| error.to_string())?;
            let hidden = view.snapshot.hidden(&sop_instance_uid);
            let hidden = hidden.map_err(|error| error.to_string())?;
            let hidden = hidden.iter().flat_map(|hidden| &hidden.contents);
            let hidden = hidden.flat_map(|content| content.copies.clone());
            let counting = found.iter().flat_map(contents);
            let mut copies = counting.flat_map(|content| content.copies).chain(hidden);
            // Stored there again since.
            let is_listed = copies.any(|copy| copy.volume_id == volume.id() && copy.path == path);
            if view.rebuilding_percent.is_some() || is_listed {
                continue;
            }
            match volume.remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("{path}: {error}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Instances that could not be moved off a volume, in the last round.
    pub(super) fn not_drained_count(&self, volume_id: &str) -> usize {
        self.drains
            .failed()
            .get(volume_id)
            .map_or(0, |(count, _)| *count)
    }

    pub(super) fn is_draining(&self, volume_id: &str) -> bool {
        let identity = self.identity();
        identity
            .by_id(volume_id)
            .is_some_and(|known| known.draining)
    }

    /// Moves every file of an instance from `from` to another archive volume.
    fn move_off(&self, from: &Arc<Volume<Line>>, sop_instance_uid: &str) -> Result<(), String> {
        // A sender of the same instance waits, as it would for another sender.
        let _lock = self.locks.lock(sop_instance_uid);
        let view = self.view().map_err(|error| error.to_string())?;
        let found = view.snapshot.by_sop(sop_instance_uid);
        let found = found.map_err(|error| error.to_string())?;
        let hidden = view.snapshot.hidden(sop_instance_uid);
        let hidden = hidden.map_err(|error| error.to_string())?;
        let names = |to: &str| {
            names_given(
                found.as_ref().map(|found| &found.record),
                hidden.as_ref(),
                to,
            )
        };
        let kept = hidden.iter().flat_map(|hidden| &hidden.contents);
        let kept = kept.map(|hidden| (true, hidden_content(sop_instance_uid, hidden)));
        let counting = found.iter().flat_map(contents);
        let counting = counting.map(|content| (false, content));
        for (is_hidden, content) in counting.chain(kept) {
            for copy in content.copies.iter().filter(|c| c.volume_id == from.id()) {
                let is_elsewhere = self.has_good_copy_elsewhere(&content, from, is_hidden);
                let stays = !is_elsewhere || (!is_hidden && self.would_be_alone(&content, from));
                if stays && !(is_hidden && self.is_nowhere(copy, from)?) {
                    // Of a bad one there may be a good one on a volume of the other role.
                    let source = content
                        .good_copies()
                        .find(|other| copy.bad && *other != copy);
                    self.copy_elsewhere(from, &names, &content, source.unwrap_or(copy))?;
                }
                self.list_first(from, [copy.path.as_str()])
                    .map_err(|error| error.to_string())?;
                let gone = Gone {
                    sequence: self.keeper.next_sequence(),
                    sop_instance_uid: sop_instance_uid.to_owned(),
                    volume_id: from.id().to_owned(),
                    path: copy.path.clone(),
                };
                let line = entry::gone_line(&gone, &super::now(), "moved");
                from.ledger()
                    .append(&[], line, Arc::new(Change::Gone(gone)))
                    .map_err(|error| error.to_string())?;
                // After its line: a file without one is found and reported, a line without its file would be a loss.
                match from.remove_file(&copy.path) {
                    // A bad one was set aside; of a hidden one nobody looked.
                    Err(error)
                        if (copy.bad || is_hidden) && error.kind() == ErrorKind::NotFound => {}
                    removed => removed.map_err(|error| format!("{}: {error}", copy.path))?,
                }
            }
        }
        Ok(())
    }

    /// Whether a hidden file is gone: not where its line says, and not where it may have been moved a moment ago.
    fn is_nowhere(&self, copy: &Copy, from: &Volume<Line>) -> Result<bool, String> {
        let in_tree = layout::path_in_tree(&copy.path);
        for place in [Place::Tree, Place::Superseded, Place::Trash] {
            let path = place.path(in_tree);
            match from.entry(&path).map_err(|error| error.to_string())? {
                None => {}
                Some(_) if path == copy.path => return Ok(false),
                Some(_) => return Err(format!("{path} has no line yet")),
            }
        }
        Ok(true)
    }

    /// On a volume of the same role; of a hidden content on any.
    fn has_good_copy_elsewhere(
        &self,
        content: &Content,
        from: &Volume<Line>,
        is_hidden: bool,
    ) -> bool {
        content.copies.iter().any(|copy| {
            let stays = self.shelf.by_id(&copy.volume_id).is_some_and(|member| {
                // An adopted tree is not ours: its owner may take it away.
                let adopted = member.here().is_none_or(|volume| volume.is_adopted());
                (is_hidden || member.role == from.role())
                    && !adopted
                    && !self.is_draining(&member.volume_id)
            });
            copy.volume_id != from.id() && stays && !copy.bad && self.is_good(copy)
        })
    }

    /// Whether it has left the archive volumes, so that without its copy on this mirror volume too few would be left.
    fn would_be_alone(&self, content: &Content, from: &Volume<Line>) -> bool {
        let need = self.judge().without(from.id()).need(&content.volume_ids());
        from.role() == Role::Mirror
            && !self.has_archive_copy(content)
            && matches!(need, Need::Mirror | Need::Archive)
    }

    fn has_archive_copy(&self, content: &Content) -> bool {
        content.good_copies().any(|copy| {
            let member = self.shelf.by_id(&copy.volume_id);
            member.is_some_and(|member| member.role == Role::Archive)
        })
    }

    /// Whether the file is there, byte for byte as its ledger line says; read from the disk, not from memory.
    pub(super) fn is_good(&self, copy: &Copy) -> bool {
        let volume = self.shelf.here(&copy.volume_id);
        volume.is_some_and(|volume| matches!(reread(&volume, copy, &|_, _| true), Ok(Some(()))))
    }

    /// A file on another mirror volume that may take the copy.
    fn begin_on_mirror(
        &self,
        content: &Content,
        from: &Volume<Line>,
    ) -> Result<(Arc<Volume<Line>>, Incoming), String> {
        let mut content = content.clone();
        content.copies.retain(|other| other.volume_id != from.id());
        let task = Task {
            content,
            need: Need::Mirror,
        };
        let mut reasons = Vec::new();
        for target in self.targets(&task, &self.judge())? {
            match target.begin() {
                Ok(incoming) => return Ok((target, incoming)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(reasons.join("; "))
    }

    fn copy_elsewhere(
        &self,
        from: &Volume<Line>,
        names: &dyn Fn(&str) -> Vec<String>,
        content: &Content,
        copy: &Copy,
    ) -> Result<(), String> {
        let mut refused = Refusals::default();
        let (to, mut incoming) = match from.role() {
            Role::Archive => self
                .begin_somewhere(&mut refused, None)
                .map_err(|error| error.to_string())?,
            Role::Mirror => match self.begin_on_mirror(content, from) {
                // Two copies matter more than where they are.
                Err(_) if !self.has_archive_copy(content) => self
                    .begin_somewhere(&mut refused, None)
                    .map_err(|error| error.to_string())?,
                begun => begun?,
            },
        };
        if to.id() == from.id() {
            return Err("it is not retired".to_owned());
        }
        let poured = self.pour_from(copy, &mut incoming, &mut vec![0; PIECE_BYTES]);
        poured.map_err(|error| error.to_string())?;
        let view = self.view().map_err(|error| error.to_string())?;
        let facts = content.facts(&view.snapshot);
        let Some((study, series)) = facts.map_err(|error| error.to_string())? else {
            return Err("the index does not know its study".to_owned());
        };
        let copy = Copy {
            volume_id: to.id().to_owned(),
            path: copy.path.clone(),
            // Its bytes are the ledger's, else there is no copy of it.
            bad: false,
            ..copy.clone()
        };
        let hidden = view.snapshot.hidden(&content.sop_instance_uid);
        let hidden = hidden.map_err(|error| error.to_string())?;
        let mut stored = content.copied_as(study, series, copy);
        let removed_since = was_removed_since(content, hidden.as_ref(), &view.snapshot);
        if removed_since.map_err(|error| error.to_string())? {
            stored.instance.sequence = self.keeper.next_sequence();
        }
        let names = names(to.id());
        let copied = super::now();
        self.make_durable(&to, &mut incoming, &mut stored, &names, Some(&copied))
            .map_err(|error| {
                self.refused_by(&to, &error, &mut refused);
                error.to_string()
            })?;
        incoming.finish();
        match self.is_good(&stored.instance.copy) {
            true => Ok(()),
            false => Err(format!(
                "its copy on volume {} is not what was written; check that disk",
                to.name()
            )),
        }
    }
}
