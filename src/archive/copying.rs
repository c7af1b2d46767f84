//! Makes copies of contents on other volumes, many at a time: read and check the source, write, flush together, name
//! together, and one group of ledger lines.
//!
//! What is left after a power cut: bytes in `incoming/` of the target, removed at the next start; or names in the tree
//! without a line, taken back then. A copy exists once its line does, and not before.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::index::{Change, Copy, Gone, SeriesFacts, Snapshot, Stored};
use crate::volume::layout::{self, Role};
use crate::volume::placement::{self, Candidate, Order};
use crate::volume::{Incoming, Published, Volume, VolumeError, VolumeState};

use super::content::{Content, Facts, contents};
use super::corrections::was_removed_since;
use super::ingest::{ALTERNATIVES_MAX, folder_of, names_given};
use super::placing::Refusals;
use super::safety::{Judge, Need};
use super::{Archive, Line, entry};

/// Files that share their flushes, at most.
const BATCH_COUNT: usize = 64;
/// And bytes, unless a single file has more.
const BATCH_BYTES: u64 = 64 << 20;
/// Batches at work: while some wait for their flush others read.
const WORKERS_COUNT: usize = 4;
/// Read and written at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// How long a sender of the same instance may hold up its copy; then it is copied another time.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A content that needs another copy.
pub struct Task {
    pub content: Content,
    pub need: Need,
}

/// What became of tasks.
#[derive(Default)]
pub struct Copied {
    pub count: u64,
    pub bytes: u64,
    /// SOP Instance UID and reason.
    pub failed: Vec<(String, String)>,
    /// No volume takes copies for now, in words: it makes no sense to go on.
    pub no_target: BTreeMap<Need, String>,
    /// Was told to end before the end.
    pub stopped: bool,
}

/// Bytes on their way to each volume, by its id: they are not in what it says is free.
#[derive(Default)]
pub struct Underway(Mutex<HashMap<String, u64>>);

impl Underway {
    fn bytes(&self, volume_id: &str) -> u64 {
        self.lock().get(volume_id).copied().unwrap_or(0)
    }

    fn add(&self, volume_id: &str, bytes: u64) {
        *self.lock().entry(volume_id.to_owned()).or_default() += bytes;
    }

    fn take(&self, volume_id: &str, bytes: u64) {
        if let Some(underway) = self.lock().get_mut(volume_id) {
            *underway = underway.saturating_sub(bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asked after each file, with its bytes and how long it took: waits as it sees fit, and says whether to go on.
pub type Brake<'a> = &'a (dyn Fn(u64, Duration) -> bool + Sync);

/// A file on its way to a target.
struct Poured {
    incoming: Incoming,
    task: Task,
    source: Copy,
}

/// Which side failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error("{0}; it is left as it is")]
    Source(String),
    #[error(transparent)]
    Target(VolumeError),
}

impl Archive {
    /// Copies until there are no tasks left, or the brake says stop.
    pub(super) fn copy_all(&self, tasks: Vec<Task>, judge: &Judge, brake: Brake) -> Copied {
        let waiting = Mutex::new(VecDeque::from(tasks));
        let done = Mutex::new(Copied::default());
        let lock_done = || done.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            loop {
                let batch = next_batch(&waiting);
                if batch.is_empty() || lock_done().stopped {
                    return;
                }
                let no_target = lock_done().no_target.clone();
                let made = self.copy_batch(batch, no_target, judge, brake);
                let mut done = lock_done();
                done.count += made.count;
                done.bytes += made.bytes;
                done.failed.extend(made.failed);
                done.no_target.extend(made.no_target);
                done.stopped |= made.stopped;
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..WORKERS_COUNT {
                // Without it the others do its work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// `no_target`: copies that no volume takes, as is known already.
    fn copy_batch(
        &self,
        batch: Vec<Task>,
        no_target: BTreeMap<Need, String>,
        judge: &Judge,
        brake: Brake,
    ) -> Copied {
        let mut made = Copied {
            no_target,
            ..Copied::default()
        };
        let mut by_target: BTreeMap<String, (Arc<Volume<Line>>, Vec<Poured>)> = BTreeMap::new();
        let mut buffer = vec![0; PIECE_BYTES];
        for task in batch {
            let (begun, need) = (Instant::now(), task.need);
            let sop = task.content.sop_instance_uid.clone();
            if made.no_target.contains_key(&need) {
                continue;
            }
            match self.pour(task, judge, &mut buffer) {
                Ok((volume, poured)) => {
                    let bytes = poured.source.size_bytes;
                    self.mirror.underway.add(volume.id(), bytes);
                    let (_, group) = by_target
                        .entry(volume.id().to_owned())
                        .or_insert_with(|| (volume, Vec::new()));
                    group.push(poured);
                    if !brake(bytes, begun.elapsed()) {
                        made.stopped = true;
                        break;
                    }
                }
                Err(Refused::NoTarget(reason)) => {
                    made.no_target.insert(need, reason);
                }
                Err(Refused::Failed(reason)) => made.failed.push((sop, reason)),
            }
        }
        // Also after a stop: what was read is brought to its end.
        for (volume, group) in by_target.into_values() {
            let bytes = group.iter().map(|poured| poured.source.size_bytes).sum();
            self.settle_copies(&volume, group, judge, &mut made);
            self.mirror.underway.take(volume.id(), bytes);
        }
        made
    }

    /// Writes the bytes of a content to `incoming/` of a volume that takes them, from the first source that is good.
    fn pour(
        &self,
        task: Task,
        judge: &Judge,
        buffer: &mut [u8],
    ) -> Result<(Arc<Volume<Line>>, Poured), Refused> {
        let mut refused = Refusals::default();
        let targets = self.targets(&task, judge).map_err(Refused::NoTarget)?;
        let mut reasons = Vec::new();
        let sources: Vec<Copy> = task.content.good_copies().cloned().collect();
        'sources: for source in sources {
            for target in &targets {
                let mut incoming = match target.begin() {
                    Ok(incoming) => incoming,
                    Err(error) => {
                        self.refused_by(target, &error, &mut refused);
                        continue;
                    }
                };
                match self.pour_from(&source, &mut incoming, buffer) {
                    Ok(()) => {
                        let poured = Poured {
                            incoming,
                            task,
                            source,
                        };
                        return Ok((target.clone(), poured));
                    }
                    Err(CopyError::Target(error)) => {
                        self.refused_by(target, &error, &mut refused);
                    }
                    Err(CopyError::Source(reason)) => {
                        self.suspect(&task.content.sop_instance_uid, &source);
                        reasons.push(reason);
                        continue 'sources;
                    }
                }
            }
            return Err(Refused::NoTarget(refused.to_string()));
        }
        match reasons.is_empty() {
            true => Err(Refused::Failed("no good copy is here".to_owned())),
            false => Err(Refused::Failed(reasons.join("; "))),
        }
    }

    /// Copies bytes, checking them against the ledger's checksum on the way.
    pub(super) fn pour_from(
        &self,
        source: &Copy,
        incoming: &mut Incoming,
        buffer: &mut [u8],
    ) -> Result<(), CopyError> {
        let not_read = |error: std::io::Error| CopyError::Source(error.to_string());
        let (file, volume) = self.open_checked(source).map_err(not_read)?;
        let mut crc = crc32fast::Hasher::new();
        let mut done = 0;
        while done < source.size_bytes {
            let count = buffer.len().min((source.size_bytes - done) as usize);
            let piece = &mut buffer[..count];
            {
                let _call = volume.call();
                file.read_exact_at(piece, done).map_err(not_read)?;
            }
            crc.update(piece);
            incoming.write(piece).map_err(CopyError::Target)?;
            done += count as u64;
        }
        match crc.finalize() == source.file_crc32 {
            // Now, so that a batch holds no memory while it waits for its flush.
            true => incoming.write_out().map_err(CopyError::Target),
            false => Err(CopyError::Source(
                "its checksum is not the ledger's".to_owned(),
            )),
        }
    }

    /// The same path on every volume, but not that of an adopted tree, whose names are of any kind.
    pub(super) fn path_of_copy(
        &self,
        sop_instance_uid: &str,
        source: &Copy,
        series: &SeriesFacts,
    ) -> String {
        let volume = self.shelf.here(&source.volume_id);
        match volume.is_some_and(|volume| volume.is_adopted()) {
            true => format!("{}/{}", series.folder, layout::file_name(sop_instance_uid)),
            // One that was just taken back may not be in the tree again.
            false => layout::path_in_tree(&source.path).to_owned(),
        }
    }

    /// Volumes that take the copy a task needs, the best first; or why there is none.
    pub(super) fn targets(
        &self,
        task: &Task,
        judge: &Judge,
    ) -> Result<Vec<Arc<Volume<Line>>>, String> {
        let role = match task.need {
            Need::Mirror => Role::Mirror,
            _ => Role::Archive,
        };
        let content = &task.content;
        let size = content.copies.first().map_or(0, |copy| copy.size_bytes);
        let ids = content.volume_ids();
        // On this volume the content was before: its copy there is bad, or the disk was given up for this one.
        let was_there = |id: &str| {
            content.copies.iter().any(|copy| {
                (copy.bad && copy.volume_id == id)
                    || self.replaced_by(&copy.volume_id).as_deref() == Some(id)
            })
        };
        let members = self.shelf.all();
        let has_role = |id: &String| members.iter().any(|m| m.volume_id == *id && m.role == role);
        let must_be_apart = ids.iter().any(|id| has_role(id) && !self.is_replaced(id));
        let mut found = Vec::new();
        let mut reasons = Vec::new();
        for (at, member) in members.iter().enumerate() {
            if member.role != role || self.is_replaced(&member.volume_id) {
                continue;
            }
            let name = &member.name;
            let Some(volume) = member.here() else {
                reasons.push(format!("volume {name} is away"));
                continue;
            };
            if volume.is_adopted() || member.retired || ids.contains(&member.volume_id) {
                continue;
            }
            if volume.state() != VolumeState::Ok || !volume.answers() {
                reasons.push(format!("volume {name} is not written"));
                continue;
            }
            let apart = judge.is_apart_from(&member.volume_id, &ids);
            if must_be_apart && !apart {
                continue;
            }
            let Ok(space) = volume.space() else {
                reasons.push(format!("volume {name} does not say how full it is"));
                continue;
            };
            let candidate = Candidate {
                index: at,
                free_bytes: space
                    .free_bytes
                    .saturating_sub(self.mirror.underway.bytes(&member.volume_id)),
                total_bytes: space.total_bytes,
                writable: true,
                reserve: &self.reserve,
            };
            if placement::choose(&[candidate], self.order, size, None).is_none() {
                reasons.push(format!("volume {name} is full"));
                continue;
            }
            let most_free = match self.order {
                Order::InOrder => 0,
                Order::MostFree => u64::MAX - space.free_bytes,
            };
            let rank = (!was_there(&member.volume_id), !apart, most_free, at);
            found.push((rank, volume.clone()));
        }
        if found.is_empty() {
            return Err(match reasons.is_empty() {
                true => format!("there is no {role} volume that could take it"),
                false => reasons.join("; "),
            });
        }
        found.sort_by_key(|(rank, _)| *rank);
        Ok(found.into_iter().map(|(_, volume)| volume).collect())
    }

    /// From bytes in `incoming/` to ledger lines.
    fn settle_copies(
        &self,
        volume: &Arc<Volume<Line>>,
        group: Vec<Poured>,
        judge: &Judge,
        made: &mut Copied,
    ) {
        let sops: Vec<String> = group
            .iter()
            .map(|poured| poured.task.content.sop_instance_uid.clone())
            .collect();
        let all_failed = |made: &mut Copied, error: &VolumeError| {
            self.refused_by(volume, error, &mut Refusals::default());
            let failed = sops.iter().map(|sop| (sop.clone(), error.to_string()));
            made.failed.extend(failed);
        };
        let (mut files, tasks): (Vec<Incoming>, Vec<(Task, Copy)>) = group
            .into_iter()
            .map(|poured| (poured.incoming, (poured.task, poured.source)))
            .unzip();
        // The bytes first: no name ever leads to a torn file.
        if let Err(error) = volume.flush_all(&mut files) {
            return all_failed(made, &error);
        }
        // In one order, so that nobody who holds several waits for another who does.
        let mut locks = HashMap::new();
        for sop in sops.iter().collect::<BTreeSet<_>>() {
            if let Some(lock) = self.locks.lock_within(sop, LOCK_PATIENCE) {
                locks.insert(sop.clone(), lock);
            }
        }
        let mut ready = Vec::new();
        let looked = self.view().and_then(|view| {
            let mut facts = KnownFacts::default();
            for (incoming, (task, source)) in files.into_iter().zip(tasks) {
                let sop = &task.content.sop_instance_uid;
                if !locks.contains_key(sop) {
                    made.failed
                        .push((sop.clone(), "it is being stored".to_owned()));
                    continue;
                }
                // It may have gone, or got its copy, since the bytes were read.
                let Some(entry) = view.snapshot.by_sop(sop)? else {
                    continue;
                };
                let Some(now) = contents(&entry).into_iter().find(|c| c.is(&task.content)) else {
                    continue;
                };
                let need = judge.need(&now.volume_ids());
                if need != task.need || now.good_copies().any(|c| c.volume_id == volume.id()) {
                    continue;
                }
                let Some((study, series)) = facts.of(&now, &view.snapshot)? else {
                    made.failed
                        .push((sop.clone(), "the index does not know its study".to_owned()));
                    continue;
                };
                let copy = Copy {
                    volume_id: volume.id().to_owned(),
                    path: self.path_of_copy(sop, &source, &series),
                    bad: false,
                    ..source
                };
                let hidden = view.snapshot.hidden(sop)?;
                let mut names = names_given(Some(&entry.record), hidden.as_ref(), volume.id());
                // The file of a bad copy was set aside: its name is free, for the same content alone.
                let is_bad = |name: &str| {
                    let mut copies = now.copies.iter().filter(|copy| copy.bad);
                    copies.any(|copy| copy.volume_id == volume.id() && copy.path == name)
                };
                names.retain(|name| !is_bad(name));
                let mut stored = now.copied_as(study, series, copy);
                if was_removed_since(&now, hidden.as_ref(), &view.snapshot)? {
                    stored.instance.sequence = self.keeper.next_sequence();
                }
                ready.push((incoming, stored, names, now));
            }
            Ok(())
        });
        if let Err(error) = looked {
            self.index_failed(&error);
            return;
        }
        if let Err(error) = self.line_copies(volume, ready, made) {
            all_failed(made, &error);
        }
    }

    /// Names and lines.
    fn line_copies(
        &self,
        volume: &Arc<Volume<Line>>,
        mut ready: Vec<(Incoming, Stored, Vec<String>, Content)>,
        made: &mut Copied,
    ) -> Result<(), VolumeError> {
        for (_, stored, names, _) in &mut ready {
            let mut attempt = 0;
            while names.contains(&stored.instance.copy.path) && attempt < ALTERNATIVES_MAX {
                another_name(stored, attempt);
                attempt += 1;
            }
        }
        let files: Vec<(&Incoming, &str)> = ready
            .iter()
            .map(|(incoming, stored, ..)| (incoming, stored.instance.copy.path.as_str()))
            .collect();
        let published = volume.publish_all(&files)?;
        let mut lines = Vec::new();
        let mut kept = Vec::new();
        let now = super::now();
        for ((mut incoming, mut stored, names, content), published) in
            ready.into_iter().zip(published)
        {
            if published == Published::Taken && !self.is_good(&stored.instance.copy) {
                self.publish_elsewhere(&mut incoming, &mut stored, &names)?;
            }
            let (once, line) = entry::lines(&stored, volume.id(), Some(&now));
            made.bytes += stored.instance.copy.size_bytes;
            lines.push((once, line, Arc::new(Change::Stored(stored.clone()))));
            kept.push((incoming, stored, content));
        }
        let count = kept.len() as u64;
        {
            let _call = volume.call();
            volume.ledger().append_all(lines)?;
        }
        made.count += count;
        for (incoming, stored, content) in kept {
            incoming.finish();
            self.let_go_of_bad(&content, &stored.instance.copy);
        }
        Ok(())
    }

    /// The name is another file's.
    fn publish_elsewhere(
        &self,
        incoming: &mut Incoming,
        stored: &mut Stored,
        names: &[String],
    ) -> Result<(), VolumeError> {
        for attempt in 0..ALTERNATIVES_MAX {
            another_name(stored, attempt);
            let path = &stored.instance.copy.path;
            if !names.contains(path) && incoming.publish(path)? != Published::Taken {
                return Ok(());
            }
        }
        Err(VolumeError::NameTaken {
            path: stored.instance.copy.path.clone(),
        })
    }

    /// A content has a good copy again: its bad ones are no longer listed. Their files were set aside.
    fn let_go_of_bad(&self, content: &Content, new: &Copy) {
        for copy in content.copies.iter().filter(|copy| copy.bad) {
            let Some(volume) = self.shelf.here(&copy.volume_id) else {
                continue;
            };
            let healed_in_place = (&copy.volume_id, &copy.path) == (&new.volume_id, &new.path);
            // A copy for another role does not stand for this one.
            let same_role = self
                .shelf
                .by_id(&new.volume_id)
                .is_some_and(|member| member.role == volume.role());
            if healed_in_place || !same_role || volume.state() != VolumeState::Ok {
                continue;
            }
            if let Err(error) = self.list_first(&volume, [copy.path.as_str()]) {
                tracing::warn!(volume = volume.name(), %error, "a bad copy stays listed");
                continue;
            }
            let gone = Gone {
                sequence: self.keeper.next_sequence(),
                sop_instance_uid: content.sop_instance_uid.clone(),
                volume_id: copy.volume_id.clone(),
                path: copy.path.clone(),
            };
            let line = entry::gone_line(&gone, &super::now(), "healed");
            let _call = volume.call();
            let change = Arc::new(Change::Gone(gone));
            if let Err(error) = volume.ledger().append(&[], line, change) {
                tracing::warn!(volume = volume.name(), %error, "a bad copy stays listed");
            }
        }
    }
}

/// Study and series are mostly those of the task before.
#[derive(Default)]
struct KnownFacts {
    known: HashMap<(String, String), Facts>,
}

impl KnownFacts {
    fn of(
        &mut self,
        content: &Content,
        snapshot: &Snapshot,
    ) -> Result<Option<Facts>, crate::index::IndexError> {
        let key = (
            content.study_instance_uid.clone(),
            content.series_instance_uid.clone(),
        );
        if let Some(known) = self.known.get(&key) {
            return Ok(Some(known.clone()));
        }
        let found = content.facts(snapshot)?;
        if let Some(found) = &found {
            self.known.insert(key, found.clone());
        }
        Ok(found)
    }
}

enum Refused {
    NoTarget(String),
    Failed(String),
}

fn another_name(stored: &mut Stored, attempt: u32) {
    let instance = &stored.instance;
    let name =
        layout::alternative_file_name(&instance.sop_instance_uid, instance.copy.crc32, attempt);
    let folder = folder_of(&instance.copy.path).to_owned();
    stored.instance.copy.path = format!("{folder}/{name}");
}

fn next_batch(waiting: &Mutex<VecDeque<Task>>) -> Vec<Task> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_COUNT
        && let Some(task) = waiting.front()
    {
        let size = task.content.copies.first().map_or(0, |c| c.size_bytes);
        if !batch.is_empty() && bytes + size > BATCH_BYTES {
            break;
        }
        bytes += size;
        batch.extend(waiting.pop_front());
    }
    batch
}
