//! The state folder: the index, and what this archive is and has.
//!
//! ```text
//! <state>/archive.json   the archive's id, and every volume it ever had
//! <state>/index/         the engine's files; may be deleted at any time
//! <state>/ledgers/       copies of the volumes' ledgers
//! <state>/outbox/        what goes to which peers by itself
//! <state>/kura.sock      the running server's local socket
//! <state>/kura.lock      held by the process that owns the state
//! ```
//!
//! `archive.json` says which volumes have been seen, so that the empty mount point of a disk that is missing is not taken
//! for a new disk. It is copied to every volume (`ledgers/archive.json`); when the state folder is lost, the newest of the
//! copies stands in.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::volume::io::{Disk, DiskFile};
use crate::volume::layout::{self, Label, Role};

use super::OpenError;

pub const FILE: &str = "archive.json";
const LOCK: &str = "kura.lock";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Raised when an older program would misread the file.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    #[serde(default)]
    format: Format,
    pub archive_id: String,
    /// Raised with every change: of two copies the higher is the newer.
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub volumes: Vec<Known>,
    /// Sequence numbers up to this one were given out, whichever volumes are still there. Behind while the server runs.
    #[serde(default)]
    pub sequence_floor: u64,
}

/// Of `archive.json`; 1 where it is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Format(u32);

impl Default for Format {
    fn default() -> Format {
        Format(FORMAT)
    }
}

/// A volume that was labelled once. It stays listed until the archive is told to forget it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub volume_id: String,
    pub name: String,
    pub path: PathBuf,
    pub role: Role,
    /// Takes no new instances.
    #[serde(default)]
    pub retired: bool,
    /// Taken out on purpose.
    #[serde(default)]
    pub ejected: bool,
    /// Where label and ledger of an adopted volume are, if not in its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<PathBuf>,
    /// Being emptied onto the other volumes.
    #[serde(default)]
    pub draining: bool,
    /// Its disk was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
    /// Is being taken out of the index; its ledger is not read any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgetting: bool,
}

impl Known {
    /// Its disk is not opened any more, wherever it comes up.
    pub fn is_given_up(&self) -> bool {
        self.replaced.is_some() || self.forgetting
    }
}

/// What became of a volume whose disk was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Id of the volume that has its name and its work now.
    pub by: String,
    /// RFC 3339.
    pub at: String,
    /// The report was written: all that could be restored was.
    #[serde(default)]
    pub reported: bool,
    /// How many instances were listed on it then: a copy of its ledger that ends earlier does not make it a disk from which
    /// nothing is missing.
    #[serde(default)]
    pub listed_count: u64,
}

impl Identity {
    /// Of an archive of which no volume is known.
    pub fn of(archive_id: String) -> Identity {
        Identity {
            archive_id,
            ..Identity::default()
        }
    }

    /// Of this state folder, else the newest copy on these volumes, else of their labels; a new one where there is none of
    /// these. Writes nothing.
    pub fn load(state: &Path, volumes: &[(PathBuf, Label)]) -> Result<Identity, OpenError> {
        let path = state.join(FILE);
        match read(&path) {
            Ok(identity) => return Ok(identity),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(OpenError::State { path, source }),
        }
        let copies = volumes.iter().filter_map(|(root, label)| {
            let copy = read(&root.join(layout::LEDGERS_FOLDER).join(FILE)).ok()?;
            (copy.archive_id == label.archive_id).then_some(copy)
        });
        if let Some(newest) = copies.max_by_key(|copy| copy.revision) {
            return Ok(newest);
        }
        let archive_id = match volumes.first() {
            Some((_, label)) => label.archive_id.clone(),
            None => uuid::Uuid::new_v4().to_string(),
        };
        Ok(Identity::of(archive_id))
    }

    pub fn by_name(&self, name: &str) -> Option<&Known> {
        self.volumes.iter().find(|known| known.name == name)
    }

    pub fn by_id(&self, volume_id: &str) -> Option<&Known> {
        self.volumes
            .iter()
            .find(|known| known.volume_id == volume_id)
    }

    /// Notes a volume as it is now; whether that is a change.
    pub fn note(&mut self, now: Known) -> bool {
        match self
            .volumes
            .iter_mut()
            .find(|known| known.volume_id == now.volume_id)
        {
            Some(known) if *known == now => return false,
            Some(known) => *known = now,
            None => self.volumes.push(now),
        }
        self.revision += 1;
        true
    }

    /// Notes where a volume is and how it stands; what is being done with it stays as it was.
    pub fn note_standing(&mut self, now: Known) -> bool {
        let known = self.by_id(&now.volume_id).cloned();
        self.note(match known {
            Some(known) => Known {
                draining: known.draining,
                replaced: known.replaced,
                forgetting: known.forgetting,
                ..now
            },
            None => now,
        })
    }

    /// Whether this says the same of the archive; the floor alone is nothing to write a copy again for.
    pub fn says_the_same_as(&self, other: &Identity) -> bool {
        let volumes = (&self.volumes, &other.volumes);
        (&self.archive_id, self.revision) == (&other.archive_id, other.revision)
            && volumes.0 == volumes.1
    }

    /// Another volume has the name and the work of `old` from now on. What stood in the place of earlier disks of that name
    /// was `old`, and is the new one now.
    pub fn replace(&mut self, old: Known, new: Known) {
        for known in &mut self.volumes {
            if let Some(replaced) = &mut known.replaced
                && replaced.by == old.volume_id
            {
                replaced.by.clone_from(&new.volume_id);
            }
        }
        let old_id = &old.volume_id;
        match self.volumes.iter().position(|k| k.volume_id == *old_id) {
            Some(place) => {
                self.volumes[place] = new;
                self.volumes.push(old);
            }
            None => self.volumes.extend([new, old]),
        }
        self.revision += 1;
    }

    /// Nothing is known of a volume any more.
    pub fn forget(&mut self, volume_id: &str) {
        self.volumes.retain(|known| known.volume_id != volume_id);
        self.revision += 1;
    }

    /// Writes it durably to a folder.
    pub fn save(&self, disk: &Disk, folder: &Path) -> std::io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self).expect("strings always serialize");
        replace(disk, &folder.join(FILE), &bytes)
    }
}

pub fn read(path: &Path) -> std::io::Result<Identity> {
    let bytes = Disk::default().read_small(path, FILE_BYTES_MAX)?;
    identity_of(&bytes)
}

/// What stands in such a file.
pub fn identity_of(bytes: &[u8]) -> std::io::Result<Identity> {
    // The format first: a newer file may have other members.
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        format: Format,
    }
    let found: Version = serde_json::from_slice(bytes).map_err(std::io::Error::other)?;
    let found = found.format.0;
    if found != FORMAT {
        return Err(std::io::Error::other(format!(
            "it was written by a newer Kura (format {found}; this one knows {FORMAT}). Start the newer one"
        )));
    }
    serde_json::from_slice(bytes).map_err(std::io::Error::other)
}

/// Whether there is a lock to take in this state folder.
pub fn has_lock(state: &Path) -> bool {
    matches!(Disk::default().entry(&state.join(LOCK)), Ok(Some(_)))
}

/// Creates the folder and takes the lock that says that this process owns the state; waits so long for another's.
pub fn lock(state: &Path, patience: Duration) -> Result<DiskFile, OpenError> {
    let failed = |source| OpenError::State {
        path: state.to_owned(),
        source,
    };
    let disk = Disk::default();
    disk.create_dir_durable(state).map_err(failed)?;
    let lock = disk.open_or_create(&state.join(LOCK)).map_err(failed)?;
    let begun = Instant::now();
    while !lock.try_lock().map_err(failed)? {
        if begun.elapsed() >= patience {
            return Err(OpenError::StateInUse {
                path: state.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(lock)
}

/// The whole new content or the whole old one, whenever the power goes.
pub(super) fn replace(disk: &Disk, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let file = disk.open_or_create(&temporary)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
