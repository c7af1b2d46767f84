//! The way in through an intake journal, and from there to files and ledger lines.
//!
//! ```text
//! take in     bytes to the page cache │ record appended, one flush for everybody who waits │ index │ answer
//! carry over  bytes of a batch flushed │ names flushed │ lines flushed │ records free
//! ```
//!
//! Between the two the record is the instance: whatever else there is of it after a power cut is thrown away and made anew
//! from the record ([`Archive::open_intake`]).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::index::{Change, Gone, Stored};
use crate::volume::intake::{About, Kept, Took, copy_out};
use crate::volume::journal::{Found, Journal, JournalError, Reading, Replay};
use crate::volume::layout::Role;
use crate::volume::{Incoming, Volume, VolumeError, VolumeState, layout, ledger_extent};

use super::entry::{Known, Reader};
use super::ingest::ALTERNATIVES_MAX;
use super::placing::Refusals;
use super::status::IntakeStatus;
use super::way_in::{Way, WayIn};
use super::{Archive, Line, entry};

/// Carried over together.
const BATCH_COUNT: usize = 256;
const BATCH_BYTES: u64 = 64 << 20;
/// While images come, their senders have the disk; what waits is carried over when it has waited so long, when the journal
/// is half full, or when nobody has sent anything for [`QUIET`].
const AGE_MAX: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_millis(700);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For the lock of an instance that is to go elsewhere.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
/// What has waited longer than this is worth a word.
pub const OVERDUE: Duration = Duration::from_secs(30);
/// After a batch that failed.
const PAUSE: Duration = Duration::from_secs(2);

impl Archive {
    /// Carries what the journal of a volume holds to its files and lines, and opens it for new instances if the
    /// configuration, or the disk, says so. To be called before anything is received on the volume, and before its
    /// leftovers are looked at.
    pub(super) fn open_intake(&self, volume: &Arc<Volume<Line>>) -> Result<(), VolumeError> {
        if volume.role() != Role::Archive
            || volume.is_adopted()
            || volume.state() != VolumeState::Ok
            || self.mode != super::Mode::Create
        {
            return Ok(());
        }
        let name = volume.name();
        let folder = self.intake_folder(volume);
        let on_volume = volume.intake_folder();
        let fail = |error: JournalError| VolumeError::Failed {
            name: name.to_owned(),
            reason: error.to_string(),
        };
        // One that was used before the configuration, or the disk, was changed holds instances all the same.
        let mut emptied = vec![self.empty_journal(volume, &folder).map_err(fail)?];
        if folder != on_volume {
            emptied.push(self.empty_journal(volume, &on_volume).map_err(fail)?);
        }
        let (mut way_in, size_bytes) = self.choose_way(volume, &folder);
        if way_in.way == Way::Journal {
            if !self.has_journal(&folder) {
                let path = folder.display();
                tracing::info!(volume = name, %path, size_bytes, "an intake journal is written in full, once");
            }
            if let Err(error) = volume.open_intake(&self.disk, &folder, size_bytes) {
                // The direct way is always there.
                tracing::error!(volume = name, %error, "the intake journal cannot be used");
                way_in = way_in.no_journal(&error.to_string());
            }
        }
        // Nothing is to be had from one that nobody uses but its room.
        let used = volume.intake().map(|intake| intake.journal().path());
        let unused = emptied.into_iter().flatten();
        for journal in unused.filter(|journal| Some(journal.path()) != used) {
            let path = journal.path().to_owned();
            match journal.remove() {
                Ok(()) => {
                    tracing::info!(volume = name, path = %path.display(), "an intake journal that is not used any more was removed")
                }
                Err(error) => {
                    tracing::warn!(volume = name, %error, "an unused intake journal stays")
                }
            }
        }
        let (way, reason) = (way_in.way, &way_in.reason);
        match way_in.lacks_journal {
            true => tracing::warn!(volume = name, ?way, reason, "the way in"),
            false => tracing::info!(volume = name, ?way, reason, "the way in"),
        }
        self.carrying.note(volume.id(), way_in);
        Ok(())
    }

    pub(super) fn intake_folder(&self, volume: &Volume<Line>) -> PathBuf {
        match self.intake_config.folder(volume.name()) {
            Some(folder) => folder.join(volume.id()),
            None => volume.intake_folder(),
        }
    }

    /// What a journal holds gets its files and lines; it is empty then. None: there is none, or it was set aside.
    fn empty_journal(
        &self,
        volume: &Arc<Volume<Line>>,
        folder: &std::path::Path,
    ) -> Result<Option<Journal>, JournalError> {
        let disk = match folder.starts_with(volume.root()) {
            true => volume.disk(),
            false => &self.disk,
        };
        let Some((journal, replay)) = Journal::open_existing(disk, folder, volume.id())? else {
            return Ok(None);
        };
        if !replay.records.is_empty() {
            tracing::info!(
                volume = volume.name(),
                instances_count = replay.records.len(),
                "instances in the intake journal are carried over"
            );
        }
        let failed = |reason: String| JournalError::Failed {
            path: journal.path().to_owned(),
            reason,
        };
        let begun = Instant::now();
        self.replay(volume, &journal, &replay).map_err(failed)?;
        if !replay.damaged.is_empty() {
            let path = journal.path().to_owned();
            let aside = journal.set_aside()?;
            tracing::error!(
                volume = volume.name(),
                journal = %path.display(),
                aside = %aside.display(),
                records_count = replay.damaged.len(),
                "records of the intake journal are damaged: instances that were answered may be lost; the good ones were carried over"
            );
            return Ok(None);
        }
        journal.settle()?;
        if !replay.records.is_empty() {
            let ms = begun.elapsed().as_millis() as u64;
            tracing::info!(volume = volume.name(), ms, "the intake journal is empty");
        }
        Ok(Some(journal))
    }

    /// Gives the records of a journal that nobody appends to their files and lines. An error: what is not there yet stays in
    /// the journal.
    fn replay(
        &self,
        volume: &Arc<Volume<Line>>,
        journal: &Journal,
        replay: &Replay,
    ) -> Result<(), String> {
        if replay.records.is_empty() {
            return Ok(());
        }
        // Some may have been carried over already: the last mark of that was not durable.
        let mut listed = Listed::default();
        let folder = volume.ledger_folder(volume.id());
        let read = ledger_extent::read_last_segments(volume.disk(), &folder, 2, &mut |line| {
            listed.note(line);
        });
        read.map_err(|error| error.to_string())?;
        for batch in replay.records.chunks(BATCH_COUNT) {
            self.replay_some(volume, journal, batch, &listed)?;
        }
        Ok(())
    }

    fn replay_some(
        &self,
        volume: &Arc<Volume<Line>>,
        journal: &Journal,
        batch: &[Found],
        listed: &Listed,
    ) -> Result<(), String> {
        let words = |error: VolumeError| error.to_string();
        let (mut files, mut facts, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for found in batch {
            done.push(found.number);
            let about: About = match serde_json::from_slice(&found.about) {
                Ok(about) => about,
                Err(error) => {
                    return Err(format!("record {}: {error}", found.number));
                }
            };
            let stored = stored_of(volume.id(), &about)?;
            self.keeper.raise_sequence(stored.instance.sequence);
            if listed.has(&stored) {
                continue;
            }
            let path = &stored.instance.copy.path;
            // A file of that name without a line is what a power cut left of this instance, whole or not.
            if !volume.is_free(path).map_err(words)? {
                if listed.paths.contains(path) {
                    return Err(format!("another instance has the name {path}"));
                }
                volume
                    .remove_file(path)
                    .map_err(|error| error.to_string())?;
            }
            let mut incoming = volume.begin().map_err(words)?;
            let reading = journal.reading(found.number);
            let reading = reading.ok_or_else(|| format!("record {} is gone", found.number))?;
            copy_out(&reading, &mut incoming).map_err(|error| error.to_string())?;
            files.push(incoming);
            facts.push((about, stored));
        }
        volume.flush_all(&mut files).map_err(words)?;
        let named: Vec<(&Incoming, &str)> = files
            .iter()
            .zip(facts.iter().map(|(about, _)| about.path.as_str()))
            .collect();
        volume.publish_all(&named).map_err(words)?;
        let lines = facts
            .into_iter()
            .map(|(about, stored)| (about.once, about.line, Arc::new(Change::Stored(stored))));
        let appended = volume.ledger().append_all(lines.collect());
        appended.map_err(|error| error.to_string())?;
        for file in files {
            file.finish();
        }
        journal.free(&done).map_err(|error| error.to_string())
    }

    /// What waits in journals on other disks for volumes that are away goes to those with room. To be called when the
    /// volumes that are here are open for writing.
    pub(super) fn carry_journals_of_absent(&self) {
        if self.mode != super::Mode::Create {
            return;
        }
        for member in self.shelf.all() {
            let folder = self.intake_config.folder(&member.name);
            let Some(folder) = folder.filter(|_| member.here().is_none()) else {
                continue;
            };
            let folder = folder.join(&member.volume_id);
            match self.spread_journal(&member.name, &member.volume_id, &folder) {
                Ok(0) => {}
                Ok(count) => tracing::warn!(
                    volume = member.name,
                    instances_count = count,
                    "instances waited in the intake journal of a volume that is away; they are on others now"
                ),
                Err(reason) => tracing::error!(
                    volume = member.name,
                    reason,
                    "instances stay in the intake journal of a volume that is away"
                ),
            }
        }
    }

    fn spread_journal(
        &self,
        name: &str,
        volume_id: &str,
        folder: &std::path::Path,
    ) -> Result<usize, String> {
        let words = |error: JournalError| error.to_string();
        let opened = Journal::open_existing(&self.disk, folder, volume_id).map_err(words)?;
        let Some((journal, replay)) = opened else {
            return Ok(0);
        };
        let mut refused = Refusals::default();
        for found in &replay.records {
            let about: About = serde_json::from_slice(&found.about)
                .map_err(|error| format!("record {}: {error}", found.number))?;
            let stored = stored_of(volume_id, &about)?;
            self.keeper.raise_sequence(stored.instance.sequence);
            let sop = stored.instance.sop_instance_uid.clone();
            let _lock = self.locks.lock(&sop);
            let reading = journal.reading(found.number);
            let reading = reading.ok_or_else(|| format!("record {} is gone", found.number))?;
            self.put_elsewhere(&reading, &stored, &mut refused)
                .map_err(|error| error.to_string())?;
            journal.free(&[found.number]).map_err(words)?;
        }
        match replay.damaged.len() {
            0 => journal.settle().map_err(words)?,
            count => {
                let aside = journal.set_aside().map_err(words)?;
                tracing::error!(
                    volume = name,
                    aside = %aside.display(),
                    records_count = count,
                    "records of the intake journal are damaged: instances that were answered may be lost"
                );
            }
        }
        Ok(replay.records.len())
    }

    /// Stores what a record holds on a volume that takes it, the direct way.
    fn put_elsewhere(
        &self,
        reading: &Reading,
        was: &Stored,
        refused: &mut Refusals,
    ) -> Result<(), super::IngestError> {
        loop {
            let (other, mut incoming) = self.begin_somewhere(refused, None)?;
            let mut stored = was.clone();
            stored.instance.copy.volume_id = other.id().to_owned();
            let made = copy_out(reading, &mut incoming)
                .map_err(crate::volume::intake::Copying::into_volume_error)
                .and_then(|()| {
                    self.make_durable_direct(&other, &mut incoming, &mut stored, &[], None)
                });
            match made {
                Ok(()) => {
                    incoming.finish();
                    return Ok(());
                }
                Err(error) => self.refused_by(&other, &error, refused),
            }
        }
    }

    /// Makes an instance durable in the journal of its volume, if it has one that takes it. False: it is to go the direct way.
    pub(super) fn through_journal(
        &self,
        volume: &Volume<Line>,
        incoming: &mut Incoming,
        stored: &mut Stored,
        names: &[String],
    ) -> Result<bool, VolumeError> {
        if volume.intake().is_none() {
            return Ok(false);
        }
        let gate = self.carrying.gate.read();
        let _gate = gate.unwrap_or_else(PoisonError::into_inner);
        let first = stored.instance.copy.path.clone();
        let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut attempt = 0;
        while names.contains(&stored.instance.copy.path)
            || !volume.is_free(&stored.instance.copy.path)?
        {
            if attempt == ALTERNATIVES_MAX {
                return Err(VolumeError::NameTaken {
                    path: stored.instance.copy.path.clone(),
                });
            }
            let instance = &stored.instance;
            let (sop, crc32) = (&instance.sop_instance_uid, instance.copy.crc32);
            let name = layout::alternative_file_name(sop, crc32, attempt);
            stored.instance.copy.path = format!("{folder}/{name}");
            attempt += 1;
        }
        let (once, line) = entry::lines(stored, volume.id(), None);
        let about = About {
            path: stored.instance.copy.path.clone(),
            once,
            line,
        };
        let change = Arc::new(Change::Stored(stored.clone()));
        match volume.take_in(incoming, about, change.clone()) {
            Took::Kept => {
                self.keeper.apply_unlisted(&change);
                Ok(true)
            }
            Took::Not(_, reason) => {
                tracing::debug!(volume = volume.name(), reason, "not through the journal");
                stored.instance.copy.path = first;
                Ok(false)
            }
        }
    }

    /// Looks after the journals as long as the server runs: one thread a volume, because a disk may never answer.
    pub fn carry_over_all(self: &Arc<Archive>) {
        for member in self.shelf.all() {
            let Some(volume) = member.here().filter(|volume| volume.intake().is_some()) else {
                continue;
            };
            let Some(claim) = self.carrying.claim(volume.id()) else {
                continue;
            };
            let (archive, volume) = (Arc::downgrade(self), Arc::downgrade(volume));
            let thread = std::thread::Builder::new().name("carry over".to_owned());
            let spawned = thread.spawn(move || {
                let _claim = claim;
                while let (Some(archive), Some(volume)) = (archive.upgrade(), volume.upgrade()) {
                    if archive.stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    let pause = archive.carry_over_due(&volume);
                    drop((archive, volume));
                    std::thread::sleep(pause);
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "no thread for an intake journal");
            }
        }
    }

    /// One batch, if there is enough for one or the oldest has waited long enough; how long to wait then.
    fn carry_over_due(&self, volume: &Arc<Volume<Line>>) -> Duration {
        let Some(intake) = volume.intake() else {
            return PAUSE;
        };
        let (_, oldest) = intake.waiting();
        let is_due = intake.is_half_full()
            || oldest.is_some_and(|age| age >= AGE_MAX)
            || intake.quiet().is_some_and(|quiet| quiet >= QUIET);
        match is_due.then(|| self.carry_over_some(volume)) {
            None => LOOK_EVERY,
            Some(Ok(_)) => Duration::ZERO,
            Some(Err(error)) => {
                tracing::error!(volume = volume.name(), %error, "instances stay in the intake journal for now");
                PAUSE
            }
        }
    }

    /// Carries over everything that waits at this moment; nothing is left in the journal then, durably.
    pub(super) fn empty_intake(&self, volume: &Arc<Volume<Line>>) -> Result<(), VolumeError> {
        let Some(intake) = volume.intake() else {
            return Ok(());
        };
        while self.carry_over_some(volume)? > 0 {}
        let settled = intake.journal().settle();
        settled.map_err(|error| VolumeError::Failed {
            name: volume.name().to_owned(),
            reason: error.to_string(),
        })
    }

    /// Does something while the index holds nothing that has no line in a ledger; whoever sends waits so long. What cannot be
    /// carried over now is left out of that.
    pub(super) fn with_all_listed<R>(&self, f: impl FnOnce() -> R) -> R {
        let gate = self.carrying.gate.write();
        let _gate = gate.unwrap_or_else(PoisonError::into_inner);
        for member in self.shelf.all() {
            if let Some(volume) = member.here()
                && let Err(error) = self.empty_intake(volume)
            {
                tracing::warn!(volume = member.name, %error, "instances stay in the intake journal for now");
            }
        }
        f()
    }

    pub(super) fn intake_status(&self, volume: &Volume<Line>) -> Option<IntakeStatus> {
        let intake = volume.intake()?;
        let (count, oldest) = intake.waiting();
        Some(IntakeStatus {
            path: intake.journal().path().display().to_string(),
            is_elsewhere: !intake.journal().path().starts_with(volume.root()),
            waiting_count: count as u64,
            waiting_bytes: intake.waiting_bytes(),
            oldest_seconds: oldest.map_or(0, |age| age.as_secs()),
            is_closed: intake.journal().failed(),
            flushes: intake.journal().flushes(),
        })
    }

    /// How instances come in on a volume at this moment. None: none do, or nobody has opened it for that.
    pub(super) fn way_in(&self, volume: &Volume<Line>) -> Option<WayIn> {
        let way_in = self.carrying.noted(volume.id())?;
        match volume.intake() {
            Some(intake) if intake.journal().failed() => {
                Some(way_in.no_journal("it takes nothing more"))
            }
            _ => Some(way_in),
        }
    }

    /// An instance that was stored on a volume, and copied to others, is safe twice: a journal on the disk of one of the
    /// others does not count beside it.
    pub(super) fn counts_beside(
        &self,
        volume_id: &str,
        paths: &[&str],
        others: &[&str],
    ) -> Result<(), VolumeError> {
        let Some(volume) = self.shelf.here(volume_id) else {
            return Ok(());
        };
        let Some(intake) = volume.intake() else {
            return Ok(());
        };
        let journal = intake.journal().path();
        if journal.starts_with(volume.root()) {
            return Ok(());
        }
        // Of one that does not say its device it is not known.
        let device = self.disk.entry(journal).ok().flatten();
        let device = device.map(|entry| entry.identity.0);
        let is_apart = |id: &&str| {
            let other = self.shelf.here(id).and_then(|other| other.device().ok());
            other.is_some() && device.is_some() && other != device
        };
        match others.iter().all(is_apart) {
            true => Ok(()),
            false => self.list_first(&volume, paths.iter().copied()),
        }
    }

    /// To be called before a line that says of copies on a volume that they moved, are bad or are gone: such a line never
    /// comes before the one that they were stored. `paths`: theirs.
    pub(super) fn list_first<'a>(
        &self,
        volume: &Arc<Volume<Line>>,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), VolumeError> {
        let Some(intake) = volume.intake() else {
            return Ok(());
        };
        for path in paths {
            while intake.waits(path) {
                // By another just now, if there is nothing.
                if self.carry_over_some(volume)? == 0 && intake.waits(path) {
                    return Err(VolumeError::Failed {
                        name: volume.name().to_owned(),
                        reason: format!("{path} is still being received"),
                    });
                }
            }
        }
        Ok(())
    }

    /// One batch, at once. What the volume does not take goes to another.
    fn carry_over_some(&self, volume: &Arc<Volume<Line>>) -> Result<usize, VolumeError> {
        let Some(intake) = volume.intake() else {
            return Ok(0);
        };
        let _one = intake.carrying();
        let batch = intake.oldest(BATCH_COUNT, BATCH_BYTES);
        if batch.is_empty() {
            return Ok(0);
        }
        let (left, error) = match volume.carry_over(batch) {
            Ok(carried) => {
                let left = carried.taken;
                if left.is_empty() {
                    return Ok(carried.count);
                }
                let path = left[0].about.path.clone();
                (left, VolumeError::NameTaken { path })
            }
            Err((error, left)) => (left, error),
        };
        if error.is_ledger_unknown() {
            // Their lines may be there. The next start looks.
            volume.mark_failed(&error.to_string());
            intake.give_back(left);
            return Err(error);
        }
        let count = left.len();
        let mut refused = Refusals::default();
        self.refused_by(volume, &error, &mut refused);
        let mut left = std::collections::VecDeque::from(left);
        while let Some(kept) = left.pop_front() {
            if let Err(error) = self.take_elsewhere(volume, &kept, &mut refused) {
                left.push_front(kept);
                intake.give_back(left.into());
                return Err(error);
            }
        }
        Ok(count)
    }

    /// Gives an instance that waits in the journal of a volume its file and line on another one.
    fn take_elsewhere(
        &self,
        volume: &Volume<Line>,
        kept: &Kept<Line>,
        refused: &mut Refusals,
    ) -> Result<(), VolumeError> {
        let gave_up = |reason: String| VolumeError::Failed {
            name: volume.name().to_owned(),
            reason,
        };
        let Some(intake) = volume.intake() else {
            return Ok(());
        };
        let Change::Stored(was) = &*kept.item else {
            return Ok(());
        };
        let sop = &was.instance.sop_instance_uid;
        // Whoever holds it may wait for this very instance to be carried over.
        let Some(_lock) = self.locks.lock_within(sop, LOCK_PATIENCE) else {
            return Err(gave_up("an instance is in use".to_owned()));
        };
        let reading = intake.reading(kept.number);
        let reading = reading.ok_or_else(|| gave_up("its record is gone".to_owned()))?;
        self.put_elsewhere(&reading, was, refused)
            .map_err(|error| gave_up(error.to_string()))?;
        self.keeper.forget_unlisted(&Gone {
            sequence: was.instance.sequence,
            sop_instance_uid: sop.clone(),
            volume_id: volume.id().to_owned(),
            path: was.instance.copy.path.clone(),
        });
        let done = [(kept.about.path.clone(), kept.number, kept.bytes)];
        let freed = intake.carried(&done);
        freed.map_err(|error| gave_up(error.to_string()))
    }
}

/// What the newest lines of a ledger say was stored.
#[derive(Default)]
struct Listed {
    lines: HashSet<(u64, String)>,
    paths: HashSet<String>,
}

impl Listed {
    fn note(&mut self, json: &str) {
        #[derive(serde::Deserialize)]
        struct StoredLine {
            seq: u64,
            stored: String,
            #[serde(default)]
            file: Option<String>,
        }
        if let Ok(line) = serde_json::from_str::<StoredLine>(json) {
            self.lines.insert((line.seq, line.stored));
            self.paths.extend(line.file);
        }
    }

    fn has(&self, stored: &Stored) -> bool {
        let instance = &stored.instance;
        let key = (instance.sequence, instance.sop_instance_uid.clone());
        self.lines.contains(&key)
    }
}

/// The statement that a record's lines make.
fn stored_of(volume_id: &str, about: &About) -> Result<Stored, String> {
    let mut reader = Reader::new(volume_id);
    for (_, line) in &about.once {
        reader.line(line, &Nothing)?;
    }
    match reader.line(&about.line, &Nothing)? {
        Some(Change::Stored(stored)) if stored.instance.copy.path == about.path => Ok(stored),
        _ => Err("a record of the journal has another line than it should".to_owned()),
    }
}

/// A record has all of its lines.
struct Nothing;

impl Known for Nothing {
    fn study(&self, _: &str, _: u64) -> Option<crate::index::StudyFacts> {
        None
    }

    fn series(&self, _: &str, _: &str, _: u64) -> Option<crate::index::SeriesFacts> {
        None
    }
}

/// Volumes whose journals somebody looks after.
#[derive(Default)]
pub struct Carrying {
    held: Arc<Mutex<HashSet<String>>>,
    /// By the id of the volume; of those that were opened for new instances.
    ways: Mutex<HashMap<String, WayIn>>,
    /// Held for reading while an instance goes into a journal and the index, for writing while none may.
    gate: RwLock<()>,
}

/// Given back when dropped.
struct Claim {
    held: Arc<Mutex<HashSet<String>>>,
    volume_id: String,
}

impl Carrying {
    fn note(&self, volume_id: &str, way_in: WayIn) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.insert(volume_id.to_owned(), way_in);
    }

    fn noted(&self, volume_id: &str) -> Option<WayIn> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.get(volume_id).cloned()
    }

    fn claim(&self, volume_id: &str) -> Option<Claim> {
        let mut held = self.held.lock().expect("no panic while held");
        held.insert(volume_id.to_owned()).then(|| Claim {
            held: self.held.clone(),
            volume_id: volume_id.to_owned(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(mut held) = self.held.lock() {
            held.remove(&self.volume_id);
        }
    }
}
