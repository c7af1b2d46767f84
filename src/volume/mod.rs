//! Named bytes on labelled disks.
//!
//! A [`Volume`] is a folder with a label, locked by this process. Bytes come in
//! through [`Volume::begin`], are flushed, get a name that never replaces
//! another, and are then written in the volume's [`ledger::Ledger`]; only a
//! ledger line makes them part of the archive. What each step leaves after a
//! power cut:
//!
//! | cut after | on the disk | at the next start |
//! |---|---|---|
//! | begin, write | perhaps a name in `incoming/`, one link | [`Volume::leftovers`], removed |
//! | flush | the same, whole | the same |
//! | link | perhaps both names | two links: published again, or removed with its first name |
//! | folder flush | both names | the same |
//! | ledger append | both names and the line | the line counts; the first name is removed |
//! | finish | the instance and its line | nothing |
//!
//! Where names cannot be linked, the rename takes the first name away and a cut
//! before the ledger line leaves an unlisted file in the image tree. It was
//! never answered, and the sender who comes again finds its bytes there.

pub mod adopted;
mod aside;
pub mod backwards;
mod batch;
mod calls;
pub mod device;
mod error;
mod folder_sync;
pub mod incoming;
pub mod intake;
pub mod io;
pub mod journal;
pub mod journal_places;
pub mod label;
pub mod layout;
pub mod ledger;
pub mod ledger_extent;
pub mod ledger_heal;
mod ledger_read;
mod lines;
pub mod measure;
mod moving;
mod opening;
pub mod placement;
mod quarantine;
pub mod recent;
pub mod shipping;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use calls::{ANSWER_WITHIN, Call};
pub use error::VolumeError;
use incoming::Aligned;
pub use incoming::{Incoming, Published};
pub use io::{Disk, DiskFile, Space};
pub use label::{LabelState, initialize, label_of};
pub use layout::{Label, Role};
pub use ledger::{AfterFlush, Ledger, LedgerError, Position};
use ledger_heal::{Copies, Healing};
pub use moving::Moved;

/// Folders known to be durable that are remembered; more only cost a flush.
const FOLDERS_MAX: usize = 65_536;
/// Buffers kept for the next instance.
const BUFFERS_MAX: usize = 8;

/// A volume as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub path: PathBuf,
    pub role: Role,
}

/// Whether a volume may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeState {
    Ok,
    /// A write failed, but no flush: written again once a probe succeeds, or where there is no other volume.
    Suspended(String),
    /// Taken out of writing until it is opened again; reading goes on.
    Failed(String),
}

/// A name in `incoming/` from an earlier process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub path: PathBuf,
    /// 1: it was not published. 2: it has its name in the image tree too.
    pub links: u64,
    pub len: u64,
}

impl Leftover {
    /// A correction made it: what of it counts, its ledger line says, and not its name.
    pub fn is_made(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().ends_with(layout::MADE_ENDING)
    }
}

/// An open volume; `T` is what the archive attaches to a ledger line.
pub struct Volume<T> {
    shared: Arc<Shared>,
    ledger: Ledger<T>,
    healing: Mutex<Healing>,
    /// Up to where the ledger's segments were read since the opening; `None` when they need not be.
    unread: Mutex<Option<Position>>,
    intake: OnceLock<intake::Intake<T>>,
}

/// What a volume and its incoming files have in common.
struct Shared {
    disk: Disk,
    root: PathBuf,
    /// Where label, lock and ledgers are: the root, but of some adopted volumes.
    home: PathBuf,
    label: Label,
    /// Names in the root that are not of the image tree.
    own_names: &'static [&'static str],
    publish_by: PublishBy,
    /// Held as long as anything can still be written. Absent only on a
    /// read-only disk that has no lock file.
    _lock: Option<DiskFile>,
    /// Relative folders whose names are durable, each with all its parents.
    folders: Mutex<HashSet<String>>,
    folder_syncs: folder_sync::FolderSyncs,
    failure: Mutex<Option<String>>,
    suspended: Mutex<Option<String>>,
    calls: calls::Calls,
    /// Flushes of the whole file system that found no room: what it had in memory then may be lost.
    failed_flushes: AtomicU64,
    buffers: Mutex<Vec<Aligned>>,
    quarantine_bytes: Mutex<u64>,
}

/// How a file gets its own name without replacing another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishBy {
    Link,
    /// `renameat2` with `RENAME_NOREPLACE`, where there are no hard links.
    Rename,
}

impl<T: Send + 'static> Volume<T> {
    /// As [`label::label_of`].
    pub fn label_of(path: &Path) -> Result<LabelState, VolumeError> {
        label::label_of(path)
    }

    /// As [`label::initialize`].
    pub fn initialize(disk: &Disk, spec: &Spec, archive_id: &str) -> Result<Label, VolumeError> {
        label::initialize(disk, spec, archive_id)
    }

    /// Opens the volume `spec` of the archive `archive_id` and locks it.
    ///
    /// A disk that can be read but not written (read-only, or too full to copy
    /// a torn end of the ledger aside) is opened with its state
    /// [`VolumeState::Failed`].
    pub fn open(
        disk: &Disk,
        spec: &Spec,
        archive_id: &str,
        after_flush: AfterFlush<T>,
    ) -> Result<Volume<T>, VolumeError> {
        Volume::open_at_home(disk, spec, None, archive_id, &Copies::none(), after_flush)
    }

    /// As [`Volume::open`], with label and ledger in `home` if that is not the root (see [`adopted`]), and with copies
    /// from which the ledger is healed first.
    pub fn open_at_home(
        disk: &Disk,
        spec: &Spec,
        home: Option<&Path>,
        archive_id: &str,
        copies: &Copies,
        after_flush: AfterFlush<T>,
    ) -> Result<Volume<T>, VolumeError> {
        // The handle first, then the label through it: what is checked is what
        // is written to.
        let disk = match disk.rooted(&spec.path) {
            Ok(disk) => disk,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(VolumeError::Missing {
                    name: spec.name.clone(),
                    path: spec.path.clone(),
                });
            }
            Err(error) => return Err(VolumeError::io(&spec.path)(error)),
        };
        let root = spec.path.clone();
        let home = home.unwrap_or(&root).to_owned();
        let at_home = Spec {
            path: home.clone(),
            ..spec.clone()
        };
        let label = label::expect_label(&disk, &at_home, archive_id)?;
        let folder = home.join(layout::LEDGERS_FOLDER).join(&label.volume_id);
        let mut failure = None;
        let lock = opening::lock(&disk, &spec.name, &home)?;
        let prepared = match label.adopted {
            // No file ever gets a name there.
            true => Ok(PublishBy::Link),
            false => opening::prepare(&disk, &root, &folder),
        };
        let publish_by = match prepared {
            Ok(publish_by) => publish_by,
            Err(error @ (VolumeError::ReadOnly { .. } | VolumeError::Full { .. })) => {
                // A full disk gets its verdict at each write; it may have room
                // again later.
                if let VolumeError::ReadOnly { .. } = error {
                    failure = Some(error.to_string());
                }
                PublishBy::Link
            }
            Err(error) => return Err(error),
        };
        // Under the lock, and before a line is added: a ledger that went on from where it was cut off could not be healed.
        let healed = match failure {
            None => ledger_heal::heal_at_opening(&disk, &folder, copies),
            Some(_) => ledger_heal::heal_nothing(&disk, &folder, copies),
        };
        // What cannot be healed is served as it is.
        let healing = healed.unwrap_or_else(|error| Healing {
            notes: vec![format!("its ledger could not be healed: {error}")],
            read_instead: None,
        });
        for note in &healing.notes {
            tracing::warn!(volume = spec.name, "{note}");
        }
        let after_flush = Arc::new(after_flush);
        let opened = if failure.is_none() {
            let after_flush = after_flush.clone();
            Ledger::open(&disk, &folder, Box::new(move |group| after_flush(group)))
                .map_err(|error| failure = Some(error.to_string()))
                .ok()
        } else {
            None
        };
        let ledger = match opened {
            Some(ledger) => ledger,
            // What is there can be read, and must be while the disk lives.
            None => Ledger::read_only(
                &disk,
                &folder,
                Box::new(move |group| after_flush(group)),
                failure.as_deref().unwrap_or_default(),
            )?,
        };
        let own_names: &[&str] = match (label.adopted, home == root) {
            (true, true) => &layout::ADOPTED_NAMES,
            // The tree may be a volume of another archive.
            (true, false) if !matches!(label::label_of(&root), Ok(LabelState::Label(_))) => &[],
            _ => &layout::OWN_NAMES,
        };
        if label.adopted {
            // That it cannot be written is as it should be.
            failure = None;
        }
        let shared = Shared {
            disk,
            root,
            home,
            label,
            own_names,
            publish_by,
            _lock: lock,
            folders: Mutex::default(),
            folder_syncs: folder_sync::FolderSyncs::default(),
            failure: Mutex::new(failure),
            suspended: Mutex::default(),
            calls: calls::Calls::default(),
            failed_flushes: AtomicU64::new(0),
            buffers: Mutex::default(),
            quarantine_bytes: Mutex::default(),
        };
        // A folder that cannot be listed counts as empty; the disk will say more
        // about itself at the next write.
        let used = match shared.label.adopted {
            true => 0,
            false => quarantine::used_bytes(&shared).unwrap_or(0),
        };
        *shared.lock_quarantine() = used;
        Ok(Volume {
            shared: Arc::new(shared),
            ledger,
            healing: Mutex::new(healing),
            unread: Mutex::new(Some(Position::default())),
            intake: OnceLock::new(),
        })
    }

    pub fn id(&self) -> &str {
        &self.shared.label.volume_id
    }

    pub fn name(&self) -> &str {
        &self.shared.label.name
    }

    pub fn role(&self) -> Role {
        self.shared.label.role
    }

    /// The images in it were there before it was a volume: it is served, and no instance is written to it.
    pub fn is_adopted(&self) -> bool {
        self.shared.label.adopted
    }

    pub fn label(&self) -> &Label {
        &self.shared.label
    }

    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The disk with this volume's root held open.
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    pub fn ledger(&self) -> &Ledger<T> {
        &self.ledger
    }

    /// How its ledger stood to its copies when it was opened, and where it was read since.
    pub fn healing(&self) -> Healing {
        self.lock_healing().clone()
    }

    fn lock_healing(&self) -> MutexGuard<'_, Healing> {
        self.healing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a ledger on this volume: its own, or the copy of another's.
    pub fn ledger_folder(&self, volume_id: &str) -> PathBuf {
        let folder = self.shared.home.join(layout::LEDGERS_FOLDER);
        folder.join(volume_id)
    }

    /// A new file in `incoming/`.
    pub fn begin(&self) -> Result<Incoming, VolumeError> {
        // What goes through a journal waits for no disk before that.
        self.begin_as(layout::RECEIVED_ENDING, self.intake().is_none())
    }

    /// As [`Volume::begin`], for a file that a correction makes.
    pub fn begin_made(&self) -> Result<Incoming, VolumeError> {
        self.begin_as(layout::MADE_ENDING, self.intake().is_none())
    }

    /// `direct`: past the page cache, where the file system takes it.
    fn begin_as(&self, ending: &str, direct: bool) -> Result<Incoming, VolumeError> {
        if let VolumeState::Failed(reason) = self.state() {
            return Err(VolumeError::Failed {
                name: self.name().to_owned(),
                reason,
            });
        }
        if self.is_adopted() {
            return Err(VolumeError::Failed {
                name: self.name().to_owned(),
                reason: "it was adopted, and stays as it is".to_owned(),
            });
        }
        let root = &self.shared.root;
        let _call = self.shared.calls.begin();
        let attached = self.shared.disk.is_attached();
        if !attached.map_err(VolumeError::io(root))? {
            return Err(VolumeError::Detached {
                name: self.name().to_owned(),
                path: root.clone(),
            });
        }
        Incoming::create(&self.shared, ending, direct)
    }

    /// Opens a file of the image tree for reading. Refuses a path that is
    /// absolute, has `..` in it, or goes through a symbolic link.
    pub fn open_file(&self, relative: &str) -> std::io::Result<DiskFile> {
        match self.shared.disk.open_below(&self.shared.root, relative) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                match self.waiting_file(relative) {
                    Some(path) => match self.shared.disk.open_read(&path) {
                        // It was carried over in between.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                            self.shared.disk.open_below(&self.shared.root, relative)
                        }
                        other => other,
                    },
                    None => Err(error),
                }
            }
            other => other,
        }
    }

    /// Removes a file of the image tree whose ledger line says that it is gone, and folders that are empty then.
    pub fn remove_file(&self, relative: &str) -> std::io::Result<()> {
        io::check_relative(relative)?;
        self.shared.disk.remove(&self.shared.root.join(relative))?;
        self.remove_empty_folders(relative);
        Ok(())
    }

    /// What a path of the image tree stands for; also that of an instance which waits in the journal.
    pub fn entry(&self, relative: &str) -> std::io::Result<Option<io::Entry>> {
        io::check_relative(relative)?;
        let path = self.shared.root.join(relative);
        let entry = self.shared.disk.entry(&path)?;
        match (entry, self.waiting_file(relative)) {
            (None, Some(waiting)) => match self.shared.disk.entry(&waiting)? {
                // It was carried over in between.
                None => self.shared.disk.entry(&path),
                entry => Ok(entry),
            },
            (entry, _) => Ok(entry),
        }
    }

    /// What is in a folder of the image tree; empty: in the root.
    pub fn folder(&self, relative: &str) -> std::io::Result<Vec<(std::ffi::OsString, io::Kind)>> {
        self.shared.disk.folder(&self.shared.root.join(relative))
    }

    /// Whether a name in a folder of the tree is not of the images: ours, or one that operating systems put there.
    pub fn is_own(&self, folder: &str, name: &std::ffi::OsStr) -> bool {
        let Some(name) = name.to_str() else {
            return false;
        };
        let own = folder.is_empty() && self.shared.own_names.contains(&name);
        own || layout::is_note(name) || layout::IGNORED_NAMES.contains(&name)
    }

    /// Waits until what others wrote to the volume's file system is on stable storage too.
    pub fn sync_file_system(&self) -> Result<(), VolumeError> {
        let root = &self.shared.root;
        let flushed = self.shared.disk.sync_file_system(root);
        flushed.map_err(|error| {
            self.shared.failed_flushes.fetch_add(1, Ordering::Relaxed);
            VolumeError::io(root)(error)
        })
    }

    /// Device number of the file system it is on.
    pub fn device(&self) -> std::io::Result<u64> {
        let entry = self.shared.disk.entry(&self.shared.root)?;
        entry
            .map(|entry| entry.identity.0)
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// The physical disks that it is on, asked now.
    pub fn disks(&self) -> std::io::Result<device::Disks> {
        let shared = &self.shared;
        if !shared.disk.is_attached()? {
            // Its path leads to another one.
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(device::disks_of(&shared.disk, self.device()?, &shared.root))
    }

    /// Free and total space, asked now.
    pub fn space(&self) -> std::io::Result<Space> {
        self.shared.disk.space(&self.shared.root)
    }

    /// Whether the volume may be written.
    pub fn state(&self) -> VolumeState {
        let failure = self.shared.lock_failure().clone();
        match failure {
            Some(reason) => VolumeState::Failed(reason),
            None if self.ledger.failed() && !self.is_adopted() => {
                VolumeState::Failed("a flush of the ledger failed".to_owned())
            }
            None => match &*self.shared.lock_suspended() {
                Some(reason) => VolumeState::Suspended(reason.clone()),
                None => VolumeState::Ok,
            },
        }
    }

    /// To be held around a call to this volume's disk that is not made by the volume itself.
    pub fn call(&self) -> Call<'_> {
        self.shared.calls.begin()
    }

    /// False while a call has been under way for more than [`ANSWER_WITHIN`]; true again when it returns.
    pub fn answers(&self) -> bool {
        self.shared
            .calls
            .oldest()
            .is_none_or(|time| time < ANSWER_WITHIN)
    }

    /// Passes over the volume until [`Volume::probe`] succeeds.
    pub fn suspend(&self, reason: &str) {
        *self.shared.lock_suspended() = Some(reason.to_owned());
    }

    /// Writes, flushes and removes a small file; a volume that was suspended is written again if that works.
    pub fn probe(&self) -> Result<(), VolumeError> {
        let mut incoming = self.begin()?;
        incoming.write(b"probe")?;
        incoming.flush()?;
        incoming.finish();
        *self.shared.lock_suspended() = None;
        Ok(())
    }

    /// Takes the volume out of writing; the first reason stays.
    pub fn mark_failed(&self, reason: &str) {
        self.shared.mark_failed(reason);
    }

    /// Whether nothing is being written.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Gives the volume another name, on its label; durable on return. What is open here keeps the old one until the
    /// volume is opened again.
    pub fn write_label_name(&self, name: &str) -> Result<(), VolumeError> {
        let label = Label {
            name: name.to_owned(),
            ..self.shared.label.clone()
        };
        label::write(&self.shared.disk, &self.shared.home, &label)
    }

    /// The names in `incoming/`. For the start, before the first `begin`.
    pub fn leftovers(&self) -> std::io::Result<Vec<Leftover>> {
        if self.is_adopted() {
            // A folder of that name there is not ours.
            return Ok(Vec::new());
        }
        let folder = self.shared.root.join(layout::INCOMING_FOLDER);
        let mut names = match self.shared.disk.list(&folder, usize::MAX) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        names.sort_unstable();
        let mut leftovers = Vec::new();
        for name in names {
            let path = folder.join(name);
            if let Some(entry) = self.shared.disk.entry(&path)?
                && entry.is_file
            {
                leftovers.push(Leftover {
                    path,
                    links: entry.links,
                    len: entry.len,
                });
            }
        }
        Ok(leftovers)
    }

    /// Takes up a leftover again. Dropped, it stays in `incoming/`; see
    /// [`Incoming::finish`] to remove it.
    pub fn resume(&self, leftover: &Leftover) -> Result<Incoming, VolumeError> {
        Incoming::resume(&self.shared, leftover.path.clone())
    }

    /// Moves received bytes to `quarantine/` with the reason, a JSON object;
    /// durable on return, which is the name of the case.
    ///
    /// When all cases would take more than `limit_bytes` this one is dropped.
    pub fn quarantine(
        &self,
        incoming: Incoming,
        reason_json: &str,
        limit_bytes: u64,
    ) -> Result<String, VolumeError> {
        quarantine::keep(&self.shared, incoming, reason_json, limit_bytes)
    }

    /// The reasons of all cases in quarantine, oldest first.
    pub fn quarantined(&self) -> Vec<String> {
        match self.is_adopted() {
            true => Vec::new(),
            false => quarantine::reasons(&self.shared),
        }
    }
}

impl Shared {
    fn lock_failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_suspended(&self) -> MutexGuard<'_, Option<String>> {
        let suspended = &self.suspended;
        suspended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_quarantine(&self) -> MutexGuard<'_, u64> {
        let bytes = &self.quarantine_bytes;
        bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_folders(&self) -> MutexGuard<'_, HashSet<String>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_failed(&self, reason: &str) {
        self.lock_failure().get_or_insert_with(|| reason.to_owned());
    }

    fn folder_flush_failed(&self, path: &Path) -> impl FnOnce(std::io::Error) -> VolumeError {
        move |source| {
            let error = VolumeError::FlushFailed {
                path: path.to_owned(),
                source,
            };
            self.mark_failed(&error.to_string());
            error
        }
    }

    /// Creates a folder and its parents below the root; durable on return.
    fn ensure_folders(&self, relative: &str) -> Result<(), VolumeError> {
        if self.lock_folders().contains(relative) {
            return Ok(());
        }
        let ends = relative.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([relative.len()]) {
            let part = &relative[..end];
            if self.lock_folders().contains(part) {
                continue;
            }
            let path = self.root.join(part);
            self.disk
                .create_dir(&path)
                .map_err(VolumeError::io(&path))?;
            // Also when the folder was there: another thread may have made it a
            // moment ago, or a process that was killed, and not flushed it yet.
            let parent = path.parent().unwrap_or(&self.root);
            self.disk
                .sync_dir(parent)
                .map_err(self.folder_flush_failed(parent))?;
            self.know_folders([part.to_owned()]);
        }
        Ok(())
    }

    /// Their names are durable.
    fn know_folders(&self, known: impl IntoIterator<Item = String>) {
        let mut folders = self.lock_folders();
        for folder in known {
            if folders.len() >= FOLDERS_MAX {
                folders.clear();
            }
            folders.insert(folder);
        }
    }

    fn forget_folders(&self, relative: &str) {
        let mut folders = self.lock_folders();
        let mut part = relative;
        loop {
            folders.remove(part);
            match part.rsplit_once('/') {
                Some((parent, _)) => part = parent,
                None => break,
            }
        }
    }

    fn lock_buffers(&self) -> MutexGuard<'_, Vec<Aligned>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
