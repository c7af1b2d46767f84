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
use std::time::Duration;

use crate::index::{Change, Gone, Stored};
use crate::volume::device::{Shared, disks_of, share};
use crate::volume::intake::{About, Copying, Intake, Kept, Took, copy_out};
use crate::volume::journal::{Journal, Reading, Replay};
use crate::volume::layout::Role;
use crate::volume::{Incoming, Volume, VolumeError, VolumeState, layout};

use super::ingest::ALTERNATIVES_MAX;
use super::journals::Troubles;
use super::placing::Refusals;
use super::status::IntakeStatus;
use super::way_in::{Way, WayIn};
use super::{Archive, Line, entry};

/// Carried over together.
pub(super) const BATCH_COUNT: usize = 256;
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
        let Some(_claim) = self.claim_journals(volume.id()) else {
            return Err(VolumeError::Failed {
                name: volume.name().to_owned(),
                reason: "its intake journal is still being read".to_owned(),
            });
        };
        let folder = self.intake_folder(volume);
        match self.settle_journals(volume, &folder) {
            true => self.begin_intake(volume, &folder),
            // What is in it is looked for again and again; instances go the direct way.
            false => {
                let (way_in, _) = self.choose_way(volume, &folder);
                let way_in = way_in.no_journal("the one that is there could not be emptied");
                self.carrying.note(volume.id(), way_in);
            }
        }
        Ok(())
    }

    /// Opens the journal in a folder for new instances, if the configuration, or the disk, says so.
    pub(super) fn begin_intake(&self, volume: &Arc<Volume<Line>>, folder: &std::path::Path) {
        let name = volume.name();
        let (mut way_in, size_bytes) = self.choose_way(volume, folder);
        if way_in.way == Way::Journal {
            if !self.has_journal(folder) {
                let path = folder.display();
                tracing::info!(volume = name, %path, size_bytes, "an intake journal is written in full, once");
            }
            let remembered = self.remember_journal(volume, folder);
            let opened = remembered
                .map_err(|error| error.to_string())
                .and_then(|()| {
                    let opened = volume.open_intake(&self.disk, folder, size_bytes);
                    opened.map_err(|error| error.to_string())
                });
            if let Err(reason) = opened {
                // The direct way is always there.
                tracing::error!(volume = name, reason, "the intake journal cannot be used");
                way_in = way_in.no_journal(&reason);
            }
        }
        self.remove_unused(volume, folder);
        let (way, reason) = (way_in.way, &way_in.reason);
        match way_in.lacks_journal {
            true => tracing::warn!(volume = name, ?way, reason, "the way in"),
            false => tracing::info!(volume = name, ?way, reason, "the way in"),
        }
        self.carrying.note(volume.id(), way_in);
    }

    /// Nothing is to be had from an empty journal that nobody uses but its room.
    fn remove_unused(&self, volume: &Volume<Line>, wanted: &std::path::Path) {
        let used = volume.intake().map(|intake| intake.journal().path());
        for folder in [wanted, &volume.intake_folder()] {
            if used.is_some_and(|path| path.starts_with(folder)) || !self.has_journal(folder) {
                continue;
            }
            let disk = match folder.starts_with(volume.root()) {
                true => volume.disk(),
                false => &self.disk,
            };
            let removed = match Journal::open_existing(disk, folder, volume.id()) {
                Ok(Some((journal, replay))) if replay == Replay::default() => journal.remove(),
                // There is something in it, or it is not ours.
                _ => continue,
            };
            let (volume, path) = (volume.name(), folder.display());
            match removed {
                Ok(()) => {
                    tracing::info!(volume, %path, "an intake journal that is not used any more was removed")
                }
                Err(error) => tracing::warn!(volume, %error, "an unused intake journal stays"),
            }
        }
    }

    pub(super) fn intake_folder(&self, volume: &Volume<Line>) -> PathBuf {
        match self.intake_config.folder(volume.name()) {
            Some(folder) => folder.join(volume.id()),
            None => volume.intake_folder(),
        }
    }

    /// Stores what a record holds on a volume that takes it, the direct way; its place by the record is nobody's then.
    pub(super) fn put_elsewhere(
        &self,
        reading: &Reading,
        was: &Stored,
        refused: &mut Refusals,
    ) -> Result<(), super::IngestError> {
        loop {
            let (other, mut incoming) = self.begin_somewhere(refused, None)?;
            let mut stored = was.clone();
            stored.instance.copy.volume_id = other.id().to_owned();
            let made = match copy_out(reading, &mut incoming) {
                Ok(()) => self.make_durable_direct(&other, &mut incoming, &mut stored, &[], None),
                // Not the fault of the volume that was to take it, which goes on being written.
                Err(Copying::Read(error)) => {
                    let reason = format!("its intake journal cannot be read: {error}");
                    return Err(super::IngestError::NotRecovered(reason));
                }
                Err(Copying::Write(error)) => Err(error),
            };
            match made {
                Ok(()) => {
                    incoming.finish();
                    let (place, copy) = (&was.instance.copy, &stored.instance.copy);
                    // It may have found room where it was to be after all.
                    if (&place.volume_id, &place.path) != (&copy.volume_id, &copy.path) {
                        self.keeper
                            .forget_unlisted(&gone_from(&place.volume_id, was));
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.refused_by(&other, &error, refused);
                    match error.is_ledger_unknown() {
                        // The line may be there, so what it speaks of stays.
                        true => incoming.keep(),
                        false => incoming.unpublish(&stored.instance.copy.path),
                    }
                }
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
        self.retry_journals();
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
        let device = self.disk.entry(journal).ok().flatten();
        let disks = device.map(|entry| disks_of(&self.disk, entry.identity.0, journal));
        // Where it is not known which disks are below, it counts as the same.
        let is_apart = |id: &&str| {
            let other = self.shelf.here(id).and_then(|other| other.disks().ok());
            let both = disks.as_ref().zip(other);
            both.is_some_and(|(disks, other)| share(disks, &other) == Shared::No)
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
        if error.is_of_the_process() {
            intake.give_back(left);
            return Err(error);
        }
        let count = left.len();
        let mut refused = Refusals::default();
        self.refused_by(volume, &error, &mut refused);
        let mut left = std::collections::VecDeque::from(left);
        let mut moved = Vec::new();
        let mut failed = Ok(());
        while let Some(kept) = left.pop_front() {
            if let Err(error) = self.take_elsewhere(volume, &kept, &mut refused) {
                left.push_front(kept);
                failed = Err(error);
                break;
            }
            moved.push(kept);
        }
        intake.give_back(left.into());
        self.let_go(volume, intake, &moved);
        failed.map(|()| count)
    }

    /// Instances of a journal are on other volumes now.
    fn let_go(&self, volume: &Volume<Line>, intake: &Intake<Line>, moved: &[Kept<Line>]) {
        if moved.is_empty() {
            return;
        }
        // No line of this volume's ledger says what became of them: the index must know it before their records go.
        self.keeper.checkpoint();
        let done: Vec<(String, u64, u64)> = moved
            .iter()
            .map(|kept| (kept.about.path.clone(), kept.number, kept.bytes))
            .collect();
        let freed = intake.carried(&done);
        if let Err(error) = freed.and_then(|()| intake.journal().settle()) {
            tracing::error!(volume = volume.name(), %error, "the journal takes nothing more");
        }
        moved.iter().for_each(|kept| volume.let_go(kept));
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
        Ok(())
    }
}

pub(super) fn gone_from(volume_id: &str, was: &Stored) -> Gone {
    Gone {
        sequence: was.instance.sequence,
        sop_instance_uid: was.instance.sop_instance_uid.clone(),
        volume_id: volume_id.to_owned(),
        path: was.instance.copy.path.clone(),
    }
}

/// Volumes whose journals somebody looks after.
#[derive(Default)]
pub struct Carrying {
    pub(super) troubles: Troubles,
    held: Arc<Mutex<HashSet<String>>>,
    /// By the id of the volume; of those that were opened for new instances.
    ways: Mutex<HashMap<String, WayIn>>,
    /// Held for reading while an instance goes into a journal and the index, for writing while none may.
    gate: RwLock<()>,
}

/// Given back when dropped.
pub struct Claim {
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

    pub(super) fn claim(&self, volume_id: &str) -> Option<Claim> {
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
