//! The way in through the journal: an instance is durable when its record is, and is carried to its file and its ledger line
//! with others later.
//!
//! Until then its bytes are in a file in `incoming/` too, not flushed, which [`Volume::open_file`] finds under the name that
//! the instance will have. After a power cut that file means nothing; the record is all there is.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::io::Disk;
use super::journal::{Journal, JournalError, Reading, Replay};
use super::{Incoming, Published, Volume, VolumeError, layout};

/// Instances that wait to be carried over; more go the direct way. Each costs some kilobytes of memory.
const WAITING_MAX: usize = 8_192;
/// How long an instance waits for room before it goes the other way.
const PATIENCE: Duration = Duration::from_secs(20);

/// The journal of a volume and what of it waits.
pub struct Intake<T> {
    journal: Journal,
    waiting: Mutex<Waiting<T>>,
    /// Held by the one who carries over.
    carrying: Mutex<()>,
    /// Of the volume's file system: [`Disk::counts_at_once`].
    counts_at_once: bool,
}

struct Waiting<T> {
    /// In the order of their numbers, nearly.
    items: VecDeque<Kept<T>>,
    /// Relative path → the file in `incoming/`; also of what is being appended, or carried over.
    files: HashMap<String, PathBuf>,
    /// Of all of them.
    bytes: u64,
}

/// An instance that is durable in the journal, and all that is needed to carry it over.
pub struct Kept<T> {
    pub number: u64,
    pub about: About,
    /// In `incoming/`.
    file: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// What goes with its ledger line.
    pub item: T,
    since: Instant,
    /// [`super::Shared::failed_flushes`] before its file was written.
    failed_flushes: u64,
}

/// What a record says beside the bytes of the file: JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Relative to the volume's root.
    pub path: String,
    /// Lines that must be in the ledger's segment before it, each with its key.
    pub once: Vec<(u64, String)>,
    pub line: String,
}

/// What became of an instance that was to go through the journal.
pub enum Took<T> {
    /// Durable.
    Kept,
    /// It is to go the direct way, for the reason given.
    Not(T, String),
}

impl<T> Intake<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held from [`Intake::oldest`] to the end: what is carried over by one is nobody else's.
    pub fn carrying(&self) -> MutexGuard<'_, ()> {
        self.carrying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Instances that are durable in the journal alone, and for how long the oldest has been.
    pub fn waiting(&self) -> (usize, Option<Duration>) {
        let waiting = self.lock();
        let oldest = waiting.items.front().map(|kept| kept.since.elapsed());
        (waiting.files.len(), oldest)
    }

    /// For how long the newest of those that wait has been waiting: how long nobody has sent anything.
    pub fn quiet(&self) -> Option<Duration> {
        let waiting = self.lock();
        waiting.items.back().map(|kept| kept.since.elapsed())
    }

    /// So much waits that room must be made.
    pub fn is_half_full(&self) -> bool {
        let waiting = self.lock();
        waiting.files.len() >= WAITING_MAX / 2 || waiting.bytes >= self.journal.capacity() / 2
    }

    /// Whether the instance of that path has no ledger line yet.
    pub fn waits(&self, relative: &str) -> bool {
        self.lock().files.contains_key(relative)
    }

    /// Bytes that have no room of their own on the volume for certain.
    pub fn waiting_bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Takes out the oldest ones, at least one if there is one: to be given to [`Intake::carried`] or back.
    pub fn oldest(&self, most: usize, most_bytes: u64) -> Vec<Kept<T>> {
        let mut waiting = self.lock();
        let mut batch: Vec<Kept<T>> = Vec::new();
        let mut bytes = 0;
        while batch.len() < most
            && let Some(next) = waiting.items.front()
        {
            bytes += next.bytes;
            if !batch.is_empty() && bytes > most_bytes {
                break;
            }
            batch.extend(waiting.items.pop_front());
        }
        batch
    }

    /// They could not be carried over: they wait as before.
    pub fn give_back(&self, batch: Vec<Kept<T>>) {
        let mut waiting = self.lock();
        for kept in batch.into_iter().rev() {
            waiting.items.push_front(kept);
        }
    }

    /// They have their files and their lines, durably, here or elsewhere: path, number, bytes.
    pub fn carried(&self, done: &[(String, u64, u64)]) -> Result<(), JournalError> {
        let mut waiting = self.lock();
        let mut numbers = Vec::with_capacity(done.len());
        for (path, number, bytes) in done {
            waiting.files.remove(path);
            waiting.bytes = waiting.bytes.saturating_sub(*bytes);
            numbers.push(*number);
        }
        drop(waiting);
        self.journal.free(&numbers)
    }

    pub fn reading(&self, number: u64) -> Option<Reading<'_>> {
        self.journal.reading(number)
    }
}

impl<T: Send + 'static> Volume<T> {
    /// Opens the journal in `folder`, on this volume or on another disk. Once, before anything is received.
    pub fn open_intake(
        &self,
        disk: &Disk,
        folder: &Path,
        size_bytes: u64,
    ) -> Result<Replay, JournalError> {
        let disk = match folder.starts_with(&self.shared.root) {
            true => &self.shared.disk,
            false => disk,
        };
        let (journal, replay) = Journal::open(disk, folder, self.id(), size_bytes)?;
        let intake = Intake {
            journal,
            waiting: Mutex::new(Waiting {
                items: VecDeque::new(),
                files: HashMap::new(),
                bytes: 0,
            }),
            carrying: Mutex::default(),
            counts_at_once: self.shared.disk.counts_at_once(&self.shared.root),
        };
        if self.intake.set(intake).is_err() {
            return Err(JournalError::Failed {
                path: folder.to_owned(),
                reason: "the volume has one already".to_owned(),
            });
        }
        Ok(replay)
    }

    /// Where the journal is by itself.
    pub fn intake_folder(&self) -> PathBuf {
        self.shared.root.join(layout::INTAKE_FOLDER)
    }

    /// Bytes of instances that wait in the journal and that [`Volume::space`] may count as free: some file systems find
    /// their blocks only when they are written out.
    pub fn uncounted_bytes(&self) -> u64 {
        match self.intake() {
            Some(intake) if !intake.counts_at_once => intake.waiting_bytes(),
            _ => 0,
        }
    }

    /// The journal, if instances go through one.
    pub fn intake(&self) -> Option<&Intake<T>> {
        self.intake.get()
    }

    /// Makes an instance durable in the journal, under the name that it will have. An instance that is larger than what is
    /// held in memory does not go this way, nor one for which there is no room in time.
    ///
    /// On success it can be opened under its path. Its name must not be used by anyone: see [`Volume::is_free`].
    pub fn take_in(&self, incoming: &mut Incoming, about: About, item: T) -> Took<T> {
        let Some(intake) = self.intake() else {
            return Took::Not(item, "there is no journal".to_owned());
        };
        if incoming.pieces().is_none() {
            return Took::Not(item, "it is large".to_owned());
        }
        let Ok(text) = serde_json::to_vec(&about) else {
            return Took::Not(item, "it has no words".to_owned());
        };
        {
            let mut waiting = intake.lock();
            if waiting.files.len() >= WAITING_MAX {
                return Took::Not(item, "too many wait already".to_owned());
            }
            let file = incoming.path().to_owned();
            waiting.files.insert(about.path.clone(), file);
            waiting.bytes += incoming.len();
        }
        let failed_flushes = self.shared.failed_flushes.load(Ordering::Relaxed);
        // For who reads it before it is carried over; the journal's flush does not wait for it.
        if let Err(error) = incoming.write_through() {
            let mut waiting = intake.lock();
            waiting.files.remove(&about.path);
            waiting.bytes = waiting.bytes.saturating_sub(incoming.len());
            return Took::Not(item, error.to_string());
        }
        let Some(pieces) = incoming.pieces() else {
            return Took::Not(item, "it is large".to_owned());
        };
        let appended = {
            // A journal on the volume is the volume's disk; one elsewhere may hang by itself.
            let _call = self.shared.calls.begin();
            intake.journal.append(&text, &pieces, PATIENCE)
        };
        drop(pieces);
        let number = match appended {
            Ok(number) => number,
            Err(error) => {
                let mut waiting = intake.lock();
                waiting.files.remove(&about.path);
                waiting.bytes = waiting.bytes.saturating_sub(incoming.len());
                drop(waiting);
                let is_ours = intake.journal.path().starts_with(&self.shared.root);
                if let JournalError::Failed { .. } = &error
                    && is_ours
                {
                    self.shared.mark_failed(&error.to_string());
                }
                return Took::Not(item, error.to_string());
            }
        };
        // Whoever carries it over removes the name.
        incoming.stays();
        intake.lock().items.push_back(Kept {
            number,
            about,
            file: incoming.path().to_owned(),
            bytes: incoming.len(),
            item,
            since: Instant::now(),
            failed_flushes,
        });
        Took::Kept
    }

    /// Whether nothing has that path: no file, and no instance that waits in the journal.
    pub fn is_free(&self, relative: &str) -> Result<bool, VolumeError> {
        if let Some(intake) = self.intake()
            && intake.lock().files.contains_key(relative)
        {
            return Ok(false);
        }
        let path = self.shared.root.join(relative);
        let entry = self.entry(relative).map_err(VolumeError::io(&path))?;
        Ok(entry.is_none())
    }

    /// The file in `incoming/` of an instance that waits in the journal.
    pub(super) fn waiting_file(&self, relative: &str) -> Option<PathBuf> {
        self.intake()?.lock().files.get(relative).cloned()
    }

    /// Gives instances from the journal their files and their ledger lines: one flush for all bytes, one for all names, one
    /// for all lines. What could not be named, or is not whole in its file, is given back.
    pub fn carry_over(
        &self,
        mut batch: Vec<Kept<T>>,
    ) -> Result<Carried<T>, (VolumeError, Vec<Kept<T>>)>
    where
        T: Clone,
    {
        let Some(intake) = self.intake() else {
            return Ok(Carried::default());
        };
        let (files, published) = match self.name_kept(intake, &mut batch) {
            Ok(named) => named,
            Err(error) => return Err((error, batch)),
        };
        let (mut lines, mut ours, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for ((kept, file), published) in batch.into_iter().zip(files).zip(published) {
            if published == Published::Taken {
                taken.push(kept);
                continue;
            }
            let about = kept.about.clone();
            lines.push((about.once, about.line, kept.item.clone()));
            ours.push((kept, file));
        }
        let appended = {
            let _call = self.call();
            self.ledger().append_all(lines)
        };
        if let Err(error) = appended {
            let error = VolumeError::from(error);
            for (kept, file) in ours {
                // The line may be there, so what it speaks of stays.
                if !error.is_ledger_unknown() {
                    file.withdraw(&kept.about.path);
                }
                taken.push(kept);
            }
            return Err((error, taken));
        }
        let mut done = Vec::with_capacity(ours.len());
        let count = ours.len();
        for (kept, file) in ours {
            file.finish();
            done.push((kept.about.path, kept.number, kept.bytes));
        }
        if let Err(error) = intake.carried(&done) {
            tracing::error!(volume = self.name(), %error, "the journal takes nothing more");
        }
        Ok(Carried { count, taken })
    }

    /// The bytes of all, then the names of all; of none if one cannot be named.
    fn name_kept(
        &self,
        intake: &Intake<T>,
        batch: &mut [Kept<T>],
    ) -> Result<(Vec<Incoming>, Vec<Published>), VolumeError> {
        let mut files = Vec::with_capacity(batch.len());
        for kept in batch.iter_mut() {
            files.push(self.file_of(intake, kept)?);
        }
        self.flush_all(&mut files)?;
        let paths = batch.iter().map(|kept| kept.about.path.as_str());
        let named: Vec<(&Incoming, &str)> = files.iter().zip(paths).collect();
        match self.publish_all(&named) {
            Ok(published) => Ok((files, published)),
            Err(error) => {
                // They go elsewhere, or wait for room: a name without a line would be one file too many.
                for (file, path) in named {
                    file.withdraw(path);
                }
                Err(error)
            }
        }
    }

    /// The file in `incoming/`, written again from the record if it is not whole, or may not be: when the file system found
    /// no room for what it had in memory, that is lost, whosever it was.
    fn file_of(&self, intake: &Intake<T>, kept: &mut Kept<T>) -> Result<Incoming, VolumeError> {
        let failed_flushes = self.shared.failed_flushes.load(Ordering::Relaxed);
        if kept.failed_flushes == failed_flushes
            && let Ok(file) = Incoming::resume(&self.shared, kept.file.clone())
            && file.len() == kept.bytes
        {
            return Ok(file);
        }
        let io = |error| VolumeError::io(intake.journal.path())(error);
        let read = intake.reading(kept.number);
        let read = read.ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))?;
        // Over what is there: somebody may be reading it, and there may be no room for another.
        let mut file = match Incoming::over(&self.shared, &kept.file) {
            Err(VolumeError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                self.begin()?
            }
            other => other?,
        };
        copy_out(&read, &mut file).map_err(Copying::into_volume_error)?;
        file.write_out()?;
        file.stays_after_drop();
        kept.file = file.path().to_owned();
        kept.failed_flushes = failed_flushes;
        let mut waiting = intake.lock();
        if let Some(path) = waiting.files.get_mut(&kept.about.path) {
            path.clone_from(&kept.file);
        }
        Ok(file)
    }

    /// Removes the file in `incoming/` of an instance that was carried to another volume.
    pub fn let_go(&self, kept: &Kept<T>) {
        // Nothing is done any more on a disk that was given up; the next start removes it, as what cannot be removed now.
        if !matches!(self.state(), super::VolumeState::Failed(_))
            && let Err(error) = self.shared.disk.remove(&kept.file)
        {
            tracing::debug!(path = %kept.file.display(), %error, "incoming name not removed");
        }
    }
}

/// What went wrong while a record was copied out of a journal.
#[derive(Debug, thiserror::Error)]
pub enum Copying {
    #[error("the intake journal cannot be read: {0}")]
    Read(std::io::Error),
    #[error(transparent)]
    Write(VolumeError),
}

impl Copying {
    /// In words of the volume that it was copied to.
    pub fn into_volume_error(self) -> VolumeError {
        match self {
            Copying::Read(error) => VolumeError::io(Path::new(super::journal::FILE))(error),
            Copying::Write(error) => error,
        }
    }
}

/// Writes the bytes of a record into a file.
pub fn copy_out(from: &Reading, to: &mut Incoming) -> Result<(), Copying> {
    let mut piece = vec![0; 256 << 10];
    let mut done = 0;
    while done < from.data_bytes() {
        let count = from.read_at(done, &mut piece).map_err(Copying::Read)?;
        if count == 0 {
            return Err(Copying::Read(std::io::ErrorKind::UnexpectedEof.into()));
        }
        to.write(&piece[..count]).map_err(Copying::Write)?;
        done += count as u64;
    }
    Ok(())
}

/// What [`Volume::carry_over`] came to.
pub struct Carried<T> {
    pub count: usize,
    /// Another file has their name.
    pub taken: Vec<Kept<T>>,
}

impl<T> Default for Carried<T> {
    fn default() -> Carried<T> {
        Carried {
            count: 0,
            taken: Vec::new(),
        }
    }
}
