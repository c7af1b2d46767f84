//! New contents for old ones: read, amended on the way, and written as new files on two volumes, many together.
//!
//! ```text
//! bytes   on both volumes, flushed together
//! lines   `stored by` the correction: they mean nothing until it is in effect
//! names   in the tree, flushed together
//! read    back from the disks, against the lines
//! ```
//!
//! The lines go before the names, unlike those of what is received: a file whose line is missing could not be told from one
//! that somebody sent, a line whose file is missing belongs to a correction that never came to be.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::index::{Change, ContentId, Copy, IndexError, SeriesFacts, Snapshot, Stored};
use crate::volume::layout;
use crate::volume::{Incoming, Published, Volume, VolumeError};

use super::super::content::Content;
use super::super::ingest::ALTERNATIVES_MAX;
use super::super::placing::Refusals;
use super::super::reread::reread;
use super::super::{Archive, Line, entry};
use super::CorrectionError;
use super::new_files::{GROWTH_BYTES, MadeFile};
use super::plan::{Plan, SeriesByUid, refused};
use super::pouring::Poured;
use super::under_way::Progress;

/// Files that share their flushes, at most.
const BATCH_COUNT: usize = 64;
/// And bytes, unless a single file has more.
const BATCH_BYTES: u64 = 64 << 20;
/// Read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Why a batch was not made.
pub(super) enum Failed {
    /// Another volume may take it.
    Volume(Arc<Volume<Line>>, VolumeError),
    Refused(CorrectionError),
}

impl From<CorrectionError> for Failed {
    fn from(error: CorrectionError) -> Failed {
        Failed::Refused(error)
    }
}

impl From<IndexError> for Failed {
    fn from(error: IndexError) -> Failed {
        Failed::Refused(error.into())
    }
}

/// The new contents of one correction.
pub(super) struct Making<'a> {
    pub(super) archive: &'a Archive,
    pub(super) plan: &'a Plan,
    pub(super) number: u64,
    pub(super) progress: &'a Progress,
    series: SeriesByUid,
    /// By the old one.
    pub(super) new_sops: HashMap<String, String>,
    /// Volumes that did not take a batch, and why.
    refused: BTreeMap<String, String>,
    /// Everything that has a line.
    pub(super) files: Vec<MadeFile>,
    /// What was dealt with, by SOP Instance UID; true: there is a new content for it.
    pub(super) done: HashMap<String, Vec<(ContentId, bool)>>,
}

pub(super) fn id_of(content: &Content) -> Option<ContentId> {
    let copy = content.copies.first()?;
    Some(ContentId {
        transfer_syntax: content.transfer_syntax.clone(),
        data_bytes: copy.data_bytes(),
        crc32: copy.crc32,
    })
}

impl<'a> Making<'a> {
    pub(super) fn new(
        archive: &'a Archive,
        plan: &'a Plan,
        number: u64,
        progress: &'a Progress,
    ) -> Making<'a> {
        Making {
            archive,
            plan,
            number,
            progress,
            series: SeriesByUid::new(),
            new_sops: HashMap::new(),
            refused: BTreeMap::new(),
            files: Vec::new(),
            done: HashMap::new(),
        }
    }

    pub(super) fn is_done(&self, sop_instance_uid: &str, id: &ContentId) -> bool {
        let done = self.done.get(sop_instance_uid);
        done.is_some_and(|done| done.iter().any(|(one, _)| one == id))
    }

    /// Contents that were replaced by new ones.
    pub(super) fn replaced(&self) -> impl Iterator<Item = (&String, &ContentId)> {
        self.done.iter().flat_map(|(sop, done)| {
            let replaced = done.iter().filter(|(_, is_new)| *is_new);
            replaced.map(move |(id, _)| (sop, id))
        })
    }

    /// Makes the new contents of these instances, those that are not made yet.
    pub(super) fn make(&mut self, sops: &[String]) -> Result<(), CorrectionError> {
        let mut batch: Vec<Content> = Vec::new();
        let mut bytes = 0;
        for sop in sops {
            let entry = {
                let view = self.archive.complete_view()?;
                view.snapshot.by_sop(sop)?
            };
            let all = entry.map(|entry| self.plan.selected.contents(&entry));
            for content in all.into_iter().flatten() {
                let Some(id) = id_of(&content) else { continue };
                if self.is_done(sop, &id) {
                    continue;
                }
                let size = content.copies.first().map_or(0, |copy| copy.size_bytes);
                if !batch.is_empty() && (batch.len() == BATCH_COUNT || bytes + size > BATCH_BYTES) {
                    self.make_batch(&batch)?;
                    (batch, bytes) = (Vec::new(), 0);
                }
                bytes += size;
                batch.push(content);
            }
            self.progress.did(1);
        }
        self.make_batch(&batch)
    }

    fn make_batch(&mut self, batch: &[Content]) -> Result<(), CorrectionError> {
        if batch.is_empty() {
            return Ok(());
        }
        let sizes = batch.iter().filter_map(|content| content.copies.first());
        let bytes: u64 = sizes.map(|copy| copy.size_bytes + GROWTH_BYTES).sum();
        loop {
            if self.archive.stopping.load(Ordering::Relaxed) {
                return Err(refused(
                    "the server stops; nothing was changed; try again when it runs".to_owned(),
                ));
            }
            let near = batch.first().map(Content::volume_ids).unwrap_or_default();
            let targets = self.archive.new_places(bytes, &near, &self.refused)?;
            let from = self.files.len();
            let Err(failed) = self.try_batch(batch, &targets) else {
                return Ok(());
            };
            let begun = self.files.split_off(from);
            self.archive.unmake(&begun);
            match failed {
                Failed::Refused(error) => return Err(error),
                Failed::Volume(volume, error) => {
                    self.archive
                        .refused_by(&volume, &error, &mut Refusals::default());
                    let reason = format!("volume {}: {error}", volume.name());
                    self.refused.insert(volume.id().to_owned(), reason);
                }
            }
        }
    }

    fn try_batch(
        &mut self,
        batch: &[Content],
        targets: &[Arc<Volume<Line>>],
    ) -> Result<(), Failed> {
        let mut files: Vec<Vec<Incoming>> = targets.iter().map(|_| Vec::new()).collect();
        let mut poured = Vec::new();
        let mut done = Vec::new();
        let mut buffer = vec![0; PIECE_BYTES];
        for content in batch {
            let Some(id) = id_of(content) else { continue };
            let new = self.pour(content, targets, &mut buffer)?;
            done.push((content.sop_instance_uid.clone(), (id, new.is_some())));
            if let Some((one, incoming)) = new {
                for (files, incoming) in files.iter_mut().zip(incoming) {
                    files.push(incoming);
                }
                poured.push(one);
            }
        }
        for (volume, files) in targets.iter().zip(&mut files) {
            let flushed = volume.flush_all(files);
            flushed.map_err(|error| Failed::Volume(volume.clone(), error))?;
        }
        let mut listed = Vec::new();
        {
            // A sender of one of these instances does not choose the same name meanwhile.
            let sops = poured
                .iter()
                .map(|one| one.instance.sop_instance_uid.as_str());
            let _locks = self.archive.lock_all(sops.collect())?;
            for (volume, files) in targets.iter().zip(&files) {
                let is_copy = volume.role() != targets[0].role();
                let all = self.list(volume, files, &poured, is_copy);
                listed.push(all.map_err(|failed| match failed {
                    Listing::Volume(error) => Failed::Volume(volume.clone(), error),
                    Listing::Index(error) => error.into(),
                })?);
            }
        }
        for (volume, all) in targets.iter().zip(&listed) {
            for copy in all {
                reread(volume, copy, &|_, _| true).map_err(|fault| {
                    let reason = format!("{} was written and read back: {fault}", copy.path);
                    let name = volume.name().to_owned();
                    Failed::Volume(volume.clone(), VolumeError::Failed { name, reason })
                })?;
            }
        }
        files.into_iter().flatten().for_each(Incoming::finish);
        for (sop, one) in done {
            self.done.entry(sop).or_default().push(one);
        }
        Ok(())
    }

    /// Lines and names of files that were flushed.
    fn list(
        &mut self,
        volume: &Arc<Volume<Line>>,
        files: &[Incoming],
        poured: &[Poured],
        is_copy: bool,
    ) -> Result<Vec<Copy>, Listing> {
        let all = self.named(volume, poured)?;
        let now = super::super::now();
        let lines = all.iter().map(|stored| {
            let (once, line) = entry::lines(stored, volume.id(), is_copy.then_some(&*now));
            (once, line, Arc::new(Change::Stored(stored.clone())))
        });
        let lines = lines.collect();
        // From here on they are to be taken back should anything fail.
        let from = self.files.len();
        self.files.extend(all.iter().map(|stored| MadeFile {
            sop_instance_uid: stored.instance.sop_instance_uid.clone(),
            volume_id: volume.id().to_owned(),
            path: stored.instance.copy.path.clone(),
            is_other: false,
        }));
        {
            let _call = volume.call();
            volume
                .ledger()
                .append_all(lines)
                .map_err(VolumeError::from)?;
        }
        let names: Vec<(&Incoming, &str)> = files
            .iter()
            .zip(&all)
            .map(|(incoming, stored)| (incoming, stored.instance.copy.path.as_str()))
            .collect();
        let published = volume.publish_all(&names)?;
        let taken = |one: &Published| *one == Published::Taken;
        for (file, one) in self.files[from..].iter_mut().zip(&published) {
            file.is_other = taken(one);
        }
        if let Some(at) = published.iter().position(taken) {
            let path = all[at].instance.copy.path.clone();
            return Err(VolumeError::NameTaken { path }.into());
        }
        Ok(all.into_iter().map(|stored| stored.instance.copy).collect())
    }

    /// What the lines say, each with a path that no other file has or had.
    fn named(&self, volume: &Volume<Line>, poured: &[Poured]) -> Result<Vec<Stored>, Listing> {
        let view = self.archive.view()?;
        let mut used = HashSet::new();
        let mut all = Vec::with_capacity(poured.len());
        for one in poured {
            let mut instance = one.instance.clone();
            let sop = instance.sop_instance_uid.clone();
            let names = names_on(&view.snapshot, &sop, volume.id())?;
            let is_free = |path: &String| {
                let _call = volume.call();
                !names.contains(path)
                    && !used.contains(path)
                    && matches!(volume.entry(path), Ok(None))
            };
            let folder = &one.series.folder;
            let usual = layout::file_name(&sop);
            let others = (0..ALTERNATIVES_MAX)
                .map(|n| layout::alternative_file_name(&sop, instance.copy.crc32, n));
            let mut paths = std::iter::once(usual).chain(others);
            let path = paths.find_map(|name| Some(format!("{folder}/{name}")).filter(is_free));
            let path = path.ok_or_else(|| VolumeError::NameTaken {
                path: format!("{folder}/{}", layout::file_name(&sop)),
            })?;
            used.insert(path.clone());
            instance.copy.volume_id = volume.id().to_owned();
            instance.copy.path = path;
            all.push(Stored {
                study: self.plan.study.clone(),
                series: one.series.clone(),
                instance,
            });
        }
        Ok(all)
    }

    pub(super) fn series_of(
        &mut self,
        series_instance_uid: &str,
    ) -> Result<Arc<SeriesFacts>, CorrectionError> {
        if let Some(known) = self.series.get(series_instance_uid) {
            return Ok(known.clone());
        }
        let view = self.archive.complete_view()?;
        let facts = self.plan.series(&view.snapshot, series_instance_uid)?;
        let facts = Arc::new(facts);
        let known = series_instance_uid.to_owned();
        self.series.insert(known, facts.clone());
        Ok(facts)
    }
}

/// Why files did not get their lines and names on a volume.
enum Listing {
    Volume(VolumeError),
    Index(IndexError),
}

impl From<VolumeError> for Listing {
    fn from(error: VolumeError) -> Listing {
        Listing::Volume(error)
    }
}

impl From<IndexError> for Listing {
    fn from(error: IndexError) -> Listing {
        Listing::Index(error)
    }
}

/// Paths that the ledger of a volume gave to a SOP Instance UID, also of what is not answered.
fn names_on(
    snapshot: &Snapshot,
    sop_instance_uid: &str,
    volume_id: &str,
) -> Result<Vec<String>, IndexError> {
    let entry = snapshot.by_sop(sop_instance_uid)?;
    let hidden = snapshot.hidden(sop_instance_uid)?;
    let record = entry.as_ref().map(|entry| &entry.record);
    let answered = record.into_iter().flat_map(|record| &record.copies);
    let others = record.into_iter().flat_map(|record| &record.others);
    let hidden = hidden.iter().flat_map(|hidden| &hidden.contents);
    let copies = answered
        .chain(others.flat_map(|other| &other.copies))
        .chain(hidden.flat_map(|content| &content.copies));
    Ok(copies
        .filter(|copy| copy.volume_id == volume_id)
        .map(|copy| copy.path.clone())
        .collect())
}
