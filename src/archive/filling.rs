//! Images that were there before a key was configured are looked at for it, and what is found is said in the ledger.
//!
//! Nothing is saved besides: a key that was looked for has a value, if only an empty one, so what is left to do follows
//! from the index, after any interruption. Of a study one image tells what is said of patient and study, of a series one
//! what is said of that (PS3.3 A.1.2: all say the same); an image that says more when it comes later adds it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;
use jiff::Zoned;
use serde::{Deserialize, Serialize};

use crate::dicom::attributes::is_standard;
use crate::dicom::extra_keys::extra_keys;
use crate::dicom::{Attributes, Level, Tag};
use crate::index::{Change, Copy, Filled, IndexError, StudyFacts, Values};
use crate::job::{Politeness, Window};
use crate::volume::VolumeState;

use super::content::{Content, contents};
use super::mirror::whole;
use super::places::key;
use super::{Archive, Line, at_rest, entry};

/// Studies taken from the index at a time.
const STUDIES_COUNT: usize = 256;
/// Images whose lines share a flush.
const BATCH_COUNT: usize = 64;
/// Images of a series that are tried for its values, and times that a series is tried whose images are being moved.
const TRIED_MAX: usize = 3;
/// How long a sender of the same image may hold it up; then it is done another time.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Everything is looked at once more then: a volume may have come back, or its ledger been put together again.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// The same when something could not be read.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What is known of it in memory.
pub struct Filling {
    window: Window,
    /// Asked for by a person: now, whatever the hour.
    wanted: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    status: FillStatus,
    next: Option<Instant>,
}

/// How far images are looked at for extra keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FillStatus {
    /// `waiting` (for the window, or the index), `filling` or `filled`.
    pub state: String,
    pub keys_count: usize,
    pub studies_done_count: u64,
    pub studies_count: u64,
    /// Images read in this round, or the last one.
    pub read_count: u64,
    /// Series of which no image could be read, or no ledger written, in this round.
    pub left_count: u64,
}

impl Filling {
    pub fn new(window: Window) -> Filling {
        Filling {
            window,
            wanted: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The extra keys by what they say something of.
struct Wanted {
    study: Vec<u32>,
    series: Vec<u32>,
    image: Vec<u32>,
    /// The last in the order of tags.
    upto: Tag,
}

impl Wanted {
    fn new() -> Wanted {
        let of = |levels: &[Level]| -> Vec<u32> {
            let keys = extra_keys().iter();
            let keys = keys.filter(|key| levels.contains(&key.level));
            keys.map(|extra| key(extra.tag)).collect()
        };
        let last = extra_keys().iter().map(|key| key.tag).max();
        Wanted {
            study: of(&[Level::Patient, Level::Study]),
            series: of(&[Level::Series]),
            image: of(&[Level::Instance]),
            // The UIDs are compared.
            upto: last
                .unwrap_or(tags::SERIES_INSTANCE_UID)
                .max(tags::SERIES_INSTANCE_UID),
        }
    }
}

/// What a series lacks.
#[derive(Default)]
struct Lacks {
    study: bool,
    series: bool,
    /// Its first images, of which one is to say what is said of study and series.
    first: Vec<String>,
    images: Vec<String>,
}

/// What became of a series.
#[derive(Default)]
struct Came {
    /// Something of it could not be read, or be said.
    is_left: bool,
    /// Its files are elsewhere by now, or somebody is at them.
    is_moved: bool,
}

fn lacks(keys: &[u32], values: &Values) -> bool {
    keys.iter().any(|key| !values.contains_key(key))
}

/// What an image says for extra keys.
fn found(attributes: &Attributes, levels: &[Level]) -> Values {
    let values = levels.iter().flat_map(|level| attributes.values(*level));
    values
        .filter(|(tag, _)| !is_standard(Tag((tag >> 16) as u16, *tag as u16)))
        .collect()
}

impl Archive {
    /// As [`Archive::fill_keys`] finds it next, whatever the hour.
    pub fn fill_keys_now(&self) {
        if extra_keys().is_empty() {
            return;
        }
        let mut told = self.filling.told();
        told.status.state = "filling".to_owned();
        told.status.studies_done_count = 0;
        drop(told);
        self.filling.wanted.store(true, Ordering::Relaxed);
    }

    pub fn fill_is_wanted(&self) -> bool {
        self.filling.wanted.load(Ordering::Relaxed)
    }

    /// None without extra keys.
    pub fn fill_status(&self) -> Option<FillStatus> {
        if extra_keys().is_empty() {
            return None;
        }
        let mut status = self.filling.told().status.clone();
        status.keys_count = extra_keys().len();
        if status.state.is_empty() {
            status.state = "waiting".to_owned();
        }
        Some(status)
    }

    /// Looks at what is left to be looked at, if it is time.
    pub fn fill_keys(&self) {
        if extra_keys().is_empty() {
            return;
        }
        let is_wanted = self.fill_is_wanted();
        let is_due = self
            .filling
            .told()
            .next
            .is_none_or(|at| at <= Instant::now());
        if !(is_wanted || is_due && self.may_fill()) {
            return;
        }
        let done = self.fill_round(is_wanted);
        let mut told = self.filling.told();
        match done {
            Ok(true) => {
                let left = told.status.left_count;
                told.status.state = "filled".to_owned();
                let after = if left == 0 { LOOK_EVERY } else { AGAIN_AFTER };
                told.next = Some(Instant::now() + after);
                drop(told);
                self.filling.wanted.store(false, Ordering::Relaxed);
            }
            // It goes on from the beginning, where all is done, when the index is whole or the window opens.
            Ok(false) if !is_wanted => told.status.state = "waiting".to_owned(),
            Ok(false) => {}
            Err(error) => {
                drop(told);
                self.index_failed(&error);
            }
        }
    }

    fn may_fill(&self) -> bool {
        self.filling.window.contains(Zoned::now().datetime())
    }

    /// False when it came to no end.
    fn fill_round(&self, is_wanted: bool) -> Result<bool, IndexError> {
        let wanted = Wanted::new();
        let Some(snapshot) = whole(self)? else {
            return Ok(false);
        };
        let studies_count = snapshot.totals()?.studies;
        drop(snapshot);
        self.filling.told().status = FillStatus {
            state: "filling".to_owned(),
            studies_count,
            ..FillStatus::default()
        };
        let begun = Instant::now();
        let mut after: Option<String> = None;
        loop {
            let Some(snapshot) = whole(self)? else {
                return Ok(false);
            };
            let studies = snapshot.studies_after(after.as_deref(), STUDIES_COUNT)?;
            drop(snapshot);
            for study in &studies {
                if self.is_stopping() || !(is_wanted || self.may_fill()) {
                    return Ok(false);
                }
                if !self.fill_study(study, &wanted)? {
                    return Ok(false);
                }
                let mut told = self.filling.told();
                let done = told.status.studies_done_count + 1;
                told.status.studies_done_count = done.min(studies_count);
            }
            match studies.last() {
                Some(last) if studies.len() == STUDIES_COUNT => after = Some(last.clone()),
                _ => break,
            }
        }
        let status = self.filling.told().status.clone();
        if status.read_count > 0 {
            tracing::info!(
                keys_count = extra_keys().len(),
                read_count = status.read_count,
                left_count = status.left_count,
                ms = begun.elapsed().as_millis() as u64,
                "images were looked at for extra keys"
            );
        }
        Ok(true)
    }

    /// False when the index is being read in.
    fn fill_study(&self, study_uid: &str, wanted: &Wanted) -> Result<bool, IndexError> {
        let Some(snapshot) = whole(self)? else {
            return Ok(false);
        };
        let mut all = Vec::new();
        snapshot.series_of(study_uid, &mut |series| {
            if series.instances_count > 0 {
                all.push(series.facts.series_instance_uid);
            }
            ControlFlow::Continue(())
        })?;
        drop(snapshot);
        for series_uid in all {
            for tried in 1.. {
                if self.is_stopping() {
                    return Ok(false);
                }
                let Some(lacks) = self.lacks(study_uid, &series_uid, wanted)? else {
                    return Ok(false);
                };
                let came = self.fill_series(&lacks, wanted)?;
                if came.is_moved && tried < TRIED_MAX {
                    continue;
                }
                if came.is_left || came.is_moved {
                    self.filling.told().status.left_count += 1;
                }
                break;
            }
        }
        Ok(true)
    }

    /// None while the index is being read in.
    fn lacks(
        &self,
        study_uid: &str,
        series_uid: &str,
        wanted: &Wanted,
    ) -> Result<Option<Lacks>, IndexError> {
        let Some(snapshot) = whole(self)? else {
            return Ok(None);
        };
        let mut found = Lacks::default();
        let mut by = 0;
        let per_image = !wanted.image.is_empty();
        snapshot.instances(study_uid, Some(series_uid), &mut |entry| {
            if found.first.is_empty() {
                by = entry.record.origin.by;
            }
            if found.first.len() < TRIED_MAX && entry.record.origin.by == by {
                found.first.push(entry.sop_instance_uid.clone());
            }
            if per_image && lacks(&wanted.image, &entry.record.values) {
                found.images.push(entry.sop_instance_uid);
            }
            match per_image || found.first.len() < TRIED_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        let study: Option<StudyFacts> = snapshot.study_facts(study_uid, by)?;
        found.study = study.is_some_and(|facts| lacks(&wanted.study, &facts.values));
        let series = snapshot.series_facts(study_uid, series_uid, by)?;
        found.series = series.is_some_and(|facts| lacks(&wanted.series, &facts.values));
        Ok(Some(found))
    }

    fn fill_series(&self, lacks: &Lacks, wanted: &Wanted) -> Result<Came, IndexError> {
        let mut came = Came::default();
        let mut first_told = !(lacks.study || lacks.series);
        let mut lines: BTreeMap<String, Vec<Filled>> = BTreeMap::new();
        for sop in &lacks.first {
            if first_told {
                break;
            }
            let Some((content, attributes)) = self.read_for_keys(sop, wanted)? else {
                continue;
            };
            first_told = true;
            let mut filled = filled_of(&content);
            if lacks.study {
                filled.study = found(&attributes, &[Level::Patient, Level::Study]);
            }
            if lacks.series {
                filled.series = found(&attributes, &[Level::Series]);
            }
            filled.values = found(&attributes, &[Level::Instance]);
            came.is_left |= !self.queue(&mut lines, &content, filled);
        }
        came.is_left |= !first_told;
        let told: Vec<String> = lines
            .values()
            .flatten()
            .map(|filled| filled.sop_instance_uid.clone())
            .collect();
        for batch in lacks.images.chunks(BATCH_COUNT) {
            for sop in batch.iter().filter(|sop| !told.contains(sop)) {
                if self.is_stopping() {
                    break;
                }
                match self.read_for_keys(sop, wanted)? {
                    Some((content, attributes)) => {
                        let mut filled = filled_of(&content);
                        filled.values = found(&attributes, &[Level::Instance]);
                        came.is_left |= !self.queue(&mut lines, &content, filled);
                    }
                    None => came.is_left = true,
                }
            }
            self.say_filled(std::mem::take(&mut lines), &mut came)?;
        }
        self.say_filled(lines, &mut came)?;
        Ok(came)
    }

    /// Reads the beginning of the answered content from the first good copy that can be read.
    fn read_for_keys(
        &self,
        sop: &str,
        wanted: &Wanted,
    ) -> Result<Option<(Content, Attributes)>, IndexError> {
        let Some(entry) = self.view()?.snapshot.by_sop(sop)? else {
            return Ok(None);
        };
        let Some(content) = contents(&entry).into_iter().next() else {
            return Ok(None);
        };
        let copies: Vec<Copy> = content.good_copies().cloned().collect();
        for copy in &copies {
            let Some(volume) = self.working(&copy.volume_id) else {
                continue;
            };
            let begun = Instant::now();
            let read = {
                let _call = volume.call();
                volume
                    .open_file(&copy.path)
                    .map_err(at_rest::Unfit::from)
                    .and_then(|file| {
                        let extent = (copy.data_offset, copy.size_bytes);
                        let go_on = |_| !self.is_stopping();
                        let syntax = &content.transfer_syntax;
                        at_rest::read_beginning(&file, extent, syntax, wanted.upto, &go_on)
                    })
            };
            let worked = begun.elapsed();
            self.rest(Politeness::rest(self.mirror.since_received(), worked));
            let attributes = match read {
                Ok(attributes) => attributes,
                Err(error) => {
                    tracing::warn!(
                        volume = volume.name(),
                        path = copy.path,
                        %error,
                        "a file could not be looked at for extra keys"
                    );
                    continue;
                }
            };
            let uids = [
                (tags::SOP_INSTANCE_UID, &content.sop_instance_uid),
                (tags::STUDY_INSTANCE_UID, &content.study_instance_uid),
                (tags::SERIES_INSTANCE_UID, &content.series_instance_uid),
            ];
            let is_it = uids
                .iter()
                .all(|(tag, uid)| attributes.uid(*tag).as_ref() == Some(uid));
            if !is_it {
                // It will be found bad when it is read as a whole; nothing is taken from it.
                tracing::warn!(
                    volume = volume.name(),
                    path = copy.path,
                    "a file has other UIDs than its ledger says"
                );
                continue;
            }
            self.filling.told().status.read_count += 1;
            return Ok(Some((content, attributes)));
        }
        Ok(None)
    }

    /// One line for each copy that is here, so that they keep saying the same. False when no ledger takes it.
    fn queue(
        &self,
        lines: &mut BTreeMap<String, Vec<Filled>>,
        content: &Content,
        filled: Filled,
    ) -> bool {
        let mut is_said = false;
        for copy in content.good_copies() {
            let Some(volume) = self.working(&copy.volume_id) else {
                continue;
            };
            if matches!(volume.state(), VolumeState::Failed(_)) {
                continue;
            }
            is_said = true;
            lines
                .entry(copy.volume_id.clone())
                .or_default()
                .push(Filled {
                    volume_id: copy.volume_id.clone(),
                    path: copy.path.clone(),
                    ..filled.clone()
                });
        }
        is_said
    }

    /// Appends the lines, those of each volume with one flush, while nobody moves these images.
    fn say_filled(
        &self,
        lines: BTreeMap<String, Vec<Filled>>,
        came: &mut Came,
    ) -> Result<(), IndexError> {
        let all = lines.values().flatten();
        let sops: BTreeSet<String> = all.map(|filled| filled.sop_instance_uid.clone()).collect();
        // In one order, so that nobody who holds several waits for another who does.
        let mut locks = BTreeMap::new();
        for sop in sops {
            if let Some(lock) = self.locks.lock_within(&sop, LOCK_PATIENCE) {
                locks.insert(sop, lock);
            }
        }
        let Some(snapshot) = whole(self)? else {
            came.is_left = true;
            return Ok(());
        };
        for (volume_id, all) in lines {
            let mut there = Vec::new();
            for filled in all {
                let entry = snapshot.by_sop(&filled.sop_instance_uid)?;
                let is_there = entry.is_some_and(|entry| {
                    let contents = contents(&entry);
                    let mut copies = contents.iter().flat_map(Content::good_copies);
                    copies.any(|copy| (&copy.volume_id, &copy.path) == (&volume_id, &filled.path))
                });
                match is_there && locks.contains_key(&filled.sop_instance_uid) {
                    true => there.push(filled),
                    false => came.is_moved = true,
                }
            }
            if let Err(reason) = self.append_filled(&volume_id, there) {
                let volume = self.name_of(&volume_id);
                tracing::warn!(volume, reason, "values for extra keys were not said");
                came.is_left = true;
            }
        }
        Ok(())
    }

    fn append_filled(&self, volume_id: &str, all: Vec<Filled>) -> Result<(), String> {
        let volume = self.shelf.here(volume_id);
        let volume = volume.ok_or_else(|| "it went away".to_owned())?;
        let paths = all.iter().map(|filled| filled.path.as_str());
        self.list_first(&volume, paths)
            .map_err(|error| error.to_string())?;
        let now = super::now();
        let lines = all.into_iter().map(|mut filled| {
            filled.sequence = self.keeper.next_sequence();
            let line = entry::attributes_line(&filled, &now);
            let change: Line = Arc::new(Change::Filled(Box::new(filled)));
            (Vec::new(), line, change)
        });
        let _call = volume.call();
        let appended = volume.ledger().append_all(lines.collect());
        appended.map(drop).map_err(|error| error.to_string())
    }
}

/// Without what was found, and without its place.
fn filled_of(content: &Content) -> Filled {
    Filled {
        sequence: 0,
        sop_instance_uid: content.sop_instance_uid.clone(),
        volume_id: String::new(),
        path: String::new(),
        study_instance_uid: content.study_instance_uid.clone(),
        series_instance_uid: content.series_instance_uid.clone(),
        by: content.origin.by,
        study: Values::new(),
        series: Values::new(),
        values: Values::new(),
    }
}
