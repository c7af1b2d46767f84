//! The state folder: the index, and what this archive is and has.
//!
//! ```text
//! <state>/archive.json   {"archive_id": "…", "volumes": {"A": "<volume id>"}}
//! <state>/index/         the engine's files; may be deleted at any time
//! <state>/kura.sock      the running server's local socket
//! <state>/kura.lock      held by the process that owns the state
//! ```
//!
//! `archive.json` says which volumes have been seen, so that the empty mount point of a disk that is missing is not taken
//! for a new disk. When it is lost, the archive's id is taken again from the labels of the volumes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::volume::io::{Disk, DiskFile};
use crate::volume::layout::Label;

use super::OpenError;

const FILE: &str = "archive.json";
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub archive_id: String,
    /// Volume id of each volume name that has been labelled.
    #[serde(default)]
    pub volumes: BTreeMap<String, String>,
}

impl Identity {
    /// Of this state folder, else of these labels; a new one where there is neither. Writes nothing.
    pub fn load(state: &Path, labels: &[Option<Label>]) -> Result<Identity, OpenError> {
        let path = state.join(FILE);
        let failed = |source| OpenError::State {
            path: path.clone(),
            source,
        };
        match Disk::default().read_small(&path, FILE_BYTES_MAX) {
            Ok(bytes) => {
                return serde_json::from_slice(&bytes)
                    .map_err(|error| failed(std::io::Error::other(error)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let archive_id = match labels.iter().flatten().next() {
            Some(label) => label.archive_id.clone(),
            None => uuid::Uuid::new_v4().to_string(),
        };
        Ok(Identity {
            archive_id,
            volumes: BTreeMap::new(),
        })
    }

    /// Writes it durably.
    pub fn save(&self, state: &Path) -> Result<(), OpenError> {
        let bytes = serde_json::to_vec_pretty(self).expect("strings always serialize");
        replace(&state.join(FILE), &bytes).map_err(|source| OpenError::State {
            path: state.join(FILE),
            source,
        })
    }
}

/// Creates the folder and takes the lock that says that this process owns the state.
pub fn lock(state: &Path) -> Result<DiskFile, OpenError> {
    let failed = |source| OpenError::State {
        path: state.to_owned(),
        source,
    };
    let disk = Disk::default();
    disk.create_dir_durable(state).map_err(failed)?;
    let lock = disk
        .open_or_create(&state.join("kura.lock"))
        .map_err(failed)?;
    match lock.try_lock().map_err(failed)? {
        true => Ok(lock),
        false => Err(OpenError::StateInUse {
            path: state.to_owned(),
        }),
    }
}

/// The whole new content or the whole old one, whenever the power goes.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let disk = Disk::default();
    let temporary = path.with_extension("new");
    let file = disk.open_or_create(&temporary)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
