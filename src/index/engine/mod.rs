//! The key-value stores below the index, behind one narrow interface.
//!
//! Every call into an engine goes through `guarded`: an engine that panics over bytes it did not expect costs the
//! index, which is rebuilt, never the process. What an engine hands back is checked against the CRC-32 of its record.

mod redb;
mod sled;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// Which store carries the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Survives power cuts by itself.
    #[default]
    Redb,
    /// Its flush is not an fsync: after a power cut the index may have to be rebuilt from the ledgers.
    Sled,
}

impl Engine {
    /// The engine's file (redb) or folder (sled) in the index folder.
    fn entry(self) -> &'static str {
        match self {
            Engine::Redb => "index.redb",
            Engine::Sled => "index.sled",
        }
    }

    fn other(self) -> Engine {
        match self {
            Engine::Redb => Engine::Sled,
            Engine::Sled => Engine::Redb,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the index folder {folder} cannot be used: {source}")]
    Folder {
        folder: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the index folder {folder} holds an index of another engine ({found}); it was not opened"
    )]
    OtherEngine {
        folder: PathBuf,
        found: &'static str,
    },
    #[error("the index engine failed: {0}")]
    Failed(String),
    #[error("the index engine panicked: {0}")]
    Panicked(String),
    #[error("an index record in table {table:?} fails its checksum")]
    Damaged { table: Table },
}

/// Tables of the index; the number is the first byte of sled's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    Meta = 0,
    Study = 1,
    Series = 2,
    Instance = 3,
    /// SOP Instance UID → where its record is.
    Sop = 4,
    /// Series Instance UID · Study Instance UID.
    SeriesUid = 5,
    PatientId = 6,
    Name = 7,
    Accession = 8,
    Date = 9,
    /// SOP Instance UIDs with variants, conflicts or another patient than their study.
    Other = 10,
    /// Volume id · Study Instance UID → what of the study is there.
    VolumeStudy = 11,
    /// Day of receipt, `YYYYMMDD` → what came that day.
    Received = 12,
    /// SOP Instance UID → what corrections say of it, and what they hide.
    Hidden = 13,
    /// Number of a correction → what is known of it.
    Correction = 14,
    /// Number of a correction · SOP Instance UID that it made a content of, or ruled on.
    CorrectionInstance = 15,
    /// Number of a correction · Study · Series Instance UID that its lines speak of.
    CorrectionSeries = 16,
    /// Study · Series · SOP Instance UID that says another patient than its study.
    AnotherPatient = 17,
    /// Words of Patient's Name.
    NameWord = 18,
}

pub const TABLES: [Table; 19] = [
    Table::Meta,
    Table::Study,
    Table::Series,
    Table::Instance,
    Table::Sop,
    Table::SeriesUid,
    Table::PatientId,
    Table::Name,
    Table::Accession,
    Table::Date,
    Table::Other,
    Table::VolumeStudy,
    Table::Received,
    Table::Hidden,
    Table::Correction,
    Table::CorrectionInstance,
    Table::CorrectionSeries,
    Table::AnotherPatient,
    Table::NameWord,
];

/// One put (`Some`) or delete (`None`).
#[derive(Debug, Clone)]
pub struct Write {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// Entries of a range, one behind the other in one piece of memory: a walk over a table takes no memory for each.
pub struct Entries {
    table: Table,
    /// Of each the number of its table, its key, its value: in the order in which the checksum takes them.
    bytes: Vec<u8>,
    /// Where key and value of each end.
    ends: Vec<(usize, usize)>,
}

pub type KeyAndValue<'a> = (&'a [u8], &'a [u8]);

impl Entries {
    pub fn new(table: Table) -> Entries {
        Entries {
            table,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// `value` is sealed.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.push(self.table as u8);
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((end, self.bytes.len()));
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// With the number of the table, and where in it the value begins.
    fn sealed(&self, at: usize) -> Option<(&[u8], usize)> {
        let (key_end, end) = *self.ends.get(at)?;
        let begin = match at.checked_sub(1) {
            Some(before) => self.ends.get(before)?.1,
            None => 0,
        };
        Some((&self.bytes[begin..end], key_end - begin))
    }

    /// Key and value as they are.
    pub fn get(&self, at: usize) -> Option<KeyAndValue<'_>> {
        let (sealed, value) = self.sealed(at)?;
        Some((&sealed[1..value], &sealed[value..]))
    }

    /// Key and content, if the checksum is right; None behind the last.
    pub fn unsealed(&self, at: usize) -> Result<Option<KeyAndValue<'_>>, EngineError> {
        let Some((sealed, value)) = self.sealed(at) else {
            return Ok(None);
        };
        let damaged = || EngineError::Damaged { table: self.table };
        let length = sealed
            .len()
            .checked_sub(4)
            .filter(|length| *length >= value);
        let (content, crc) = sealed.split_at(length.ok_or_else(damaged)?);
        if crc != crc32fast::hash(content).to_le_bytes() {
            return Err(damaged());
        }
        Ok(Some((&content[1..value], &content[value..])))
    }
}

/// An open engine. Values are opaque bytes here.
pub trait Store: Send + Sync {
    /// All writes or none, across tables. Visible to every reader made afterwards; not waiting for the disk.
    /// One key at most once in a batch.
    fn commit(&self, batch: Vec<Write>) -> Result<(), EngineError>;
    /// Everything committed so far is durable when this returns (as far as the engine can).
    fn checkpoint(&self) -> Result<(), EngineError>;
    /// A consistent view of what is committed now.
    fn reader(&self) -> Result<Box<dyn Reader>, EngineError>;
}

pub trait Reader: Send {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;
    /// Up to `limit` entries of `[from, to)`; an empty `to` is the end of the table.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Entries, EngineError>;
}

/// Memory for pages of an index that is opened, in bytes, where nothing is configured.
pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;

static CACHE_BYTES: AtomicUsize = AtomicUsize::new(CACHE_BYTES_DEFAULT);

/// For every index that this process opens from now on.
pub fn set_cache_bytes(bytes: usize) {
    CACHE_BYTES.store(bytes, Ordering::Relaxed);
}

fn cache_bytes() -> usize {
    CACHE_BYTES.load(Ordering::Relaxed)
}

/// Opens or creates the engine's store in `folder`.
pub fn open(folder: &Path, engine: Engine) -> Result<Arc<dyn Store>, EngineError> {
    let in_folder = |source| EngineError::Folder {
        folder: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(in_folder)?;
    let other = engine.other().entry();
    if !folder.join(engine.entry()).exists() && folder.join(other).exists() {
        return Err(EngineError::OtherEngine {
            folder: folder.to_owned(),
            found: other,
        });
    }
    let path = folder.join(engine.entry());
    Ok(match engine {
        Engine::Redb => Arc::new(redb::RedbStore::open(&path)?),
        Engine::Sled => Arc::new(sled::SledStore::open(&path)?),
    })
}

/// Moves what engines left in `folder` into `folder/aside`, in place of what was set aside before.
///
/// Only the newest is kept: it is there to be looked at, and the index can be made again from the ledgers.
pub fn set_aside(folder: &Path) -> Result<(), EngineError> {
    let in_folder = |source| EngineError::Folder {
        folder: folder.to_owned(),
        source,
    };
    let aside = folder.join("aside");
    for engine in [Engine::Redb, Engine::Sled] {
        let from = folder.join(engine.entry());
        if std::fs::symlink_metadata(&from).is_err() {
            continue;
        }
        let to = aside.join(engine.entry());
        std::fs::create_dir_all(&aside).map_err(in_folder)?;
        match std::fs::symlink_metadata(&to) {
            Ok(old) if old.is_dir() => std::fs::remove_dir_all(&to).map_err(in_folder)?,
            Ok(_) => std::fs::remove_file(&to).map_err(in_folder)?,
            Err(_) => {}
        }
        std::fs::rename(&from, &to).map_err(in_folder)?;
    }
    Ok(())
}

/// Runs engine code so that its panic becomes an error.
fn guarded<T, E: std::fmt::Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, EngineError> {
    // What a panic leaves half done is never used again: the index is failed as a whole and set aside.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(EngineError::Failed(error.to_string())),
        Err(panic) => Err(EngineError::Panicked(panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no text".to_owned()
    }
}

/// Puts the CRC-32 over table, key and content behind the content.
///
/// The key is in it: a damaged key leads to no other record's content.
pub fn seal(table: Table, key: &[u8], mut content: Vec<u8>) -> Vec<u8> {
    let crc = crc_of(table, key, &content);
    content.extend_from_slice(&crc.to_le_bytes());
    content
}

/// Takes the checksum off again.
pub fn unseal(table: Table, key: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, EngineError> {
    let damaged = EngineError::Damaged { table };
    let Some(length) = sealed.len().checked_sub(4) else {
        return Err(damaged);
    };
    let crc = crc_of(table, key, &sealed[..length]);
    if sealed[length..] != crc.to_le_bytes() {
        return Err(damaged);
    }
    sealed.truncate(length);
    Ok(sealed)
}

fn crc_of(table: Table, key: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table as u8]);
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}
