//! The state of an archive in one file, and back: `kura backup` and `kura restore`.
//!
//! The file is a gzip-compressed tar: `kura.toml`, the files of the state folder below `state/`, and, as its end,
//! `manifest.json` with length and SHA-256 of each. What follows from the volumes (index, copies of ledgers) is not in it,
//! and no image. A file without its end, or with one byte another, is refused before anything is touched.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the manifest, and what can go wrong |
//! | `pack` | state into the file |
//! | `unpack` | the file read, checked, and put in place |

mod pack;
mod unpack;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use pack::write;
pub use unpack::{Plan, Restored, plan, restore};

/// Raised whenever a file of the state folder gets a version that an older program cannot read.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const CONFIGURATION: &str = "kura.toml";
/// In front of the names of the state folder's files.
const STATE: &str = "state/";
const OUTBOX: &str = "outbox/outbox.redb";
/// What a restore replaced.
const BEFORE: &str = "before-restore";
/// Where a restore puts files before they have their names.
const COMING: &str = "restore";

/// A state folder has a file a day, and one for each request that waits.
const FILES_MAX: usize = 1_000_000;
/// Of all files, unpacked.
const BYTES_MAX: u64 = 1 << 40;
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
const CONFIGURATION_BYTES_MAX: u64 = 16 << 20;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of the program that wrote it.
    pub kura: String,
    /// RFC 3339.
    pub made: String,
    pub archive_id: String,
    pub files: Vec<Packed>,
    /// Files that the configuration names and that are not in it.
    pub left_out: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    pub name: String,
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Of all files, unpacked.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {source}; {undone}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
        /// What did not happen.
        undone: &'static str,
    },
    #[error(
        "there is no archive in {0} yet; nothing was written. Its first start makes one: kura serve"
    )]
    NoArchive(PathBuf),
    #[error("{path} is no backup that can be used: {reason}; nothing was changed")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} was written by Kura {kura} (format {found}; this one knows {FORMAT}); nothing was changed. Install that \
         version or a later one, and restore with it"
    )]
    Newer {
        path: PathBuf,
        kura: String,
        found: u32,
    },
    #[error(
        "the kura.toml in the backup is not one of this version: {reason}; nothing was changed. It was written by Kura \
         {kura}: restore with that version or a later one"
    )]
    Configuration { reason: String, kura: String },
    #[error(
        "{here} is of archive {found}, and the backup is of archive {expected}; nothing was changed. Is it the right file? \
         With --other-archive it is restored nevertheless"
    )]
    OtherArchive {
        here: PathBuf,
        found: String,
        expected: String,
    },
    #[error("{0}; nothing was changed")]
    Open(String),
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
