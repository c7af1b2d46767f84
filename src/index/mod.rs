//! Answers queries. A cache of the ledgers: it may be deleted at any time and comes back from them.
//!
//! | table | key → value |
//! |---|---|
//! | study | pack(study) → values, counts |
//! | series | pack(study)·pack(series) → on which volumes its contents are, values, counts |
//! | instance | pack(study)·pack(series)·pack(SOP) → the answered content, its copies, other contents |
//! | sop | pack(SOP) → pack(study)·pack(series) |
//! | series_uid | pack(series)·pack(study) → empty; two studies may claim one series |
//! | patient_id, name, accession | fold(value)·00·pack(study) → empty; of an instance that says another patient than its study fold(value)·00·pack(study)·pack(SOP) |
//! | date | `YYYYMMDD`·pack(study) → empty; `00000000` for studies without a date |
//! | received | `YYYYMMDD` of receipt → instances and bytes |
//! | other | pack(SOP) → empty; instances with variants or conflicts, or that say another patient than their study |
//! | volume_study | pack(volume id)·pack(study) → what of the study is on the volume |
//! | hidden | pack(SOP) → contents that do not count, what corrections rule on contents |
//! | correction | number, 8 bytes → what its first and its last line say, whose ledgers say them |
//! | correction_instance | number·pack(SOP) → empty; it made a content there, or rules on one |
//! | correction_series | number·pack(study)·pack(series) → empty; its lines say something of them |
//! | another_patient | pack(study)·pack(series)·pack(SOP) → empty; it says another patient than its study |
//! | meta | schema, totals, position of each volume's ledger, highest sequence number |
//!
//! Keys are made by [`key`], the rules of what a record says are in `merge` and `contents`. Every value carries a CRC-32
//! over table, key and content. A study or series without answered instances keeps its record, but a study has no key in
//! the tables of values then; an instance without copies is in no table but, when corrections rule on it, `hidden`. What
//! is hidden is in that table alone.

mod apply;
mod availability;
mod candidates;
mod contents;
mod corrections;
mod counting;
mod effect;
pub mod engine;
mod find;
mod fuzzy;
mod glance;
mod identities;
pub mod key;
mod matching;
mod merge;
mod mixed;
mod pattern;
mod people;
mod plan;
mod query;
mod received;
mod record;
mod snapshot;
mod spread;
#[cfg(test)]
mod tests;
mod times;
mod volumes;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

pub use availability::Availability;
pub use counting::{CountedSeries, CountedStudy};
use engine::Store;
pub use engine::{Engine, EngineError, Table};
pub use identities::{SharedPatientId, birth_dates_agree, names_agree};
pub use query::{Key, Match, Options, Query, Step};
pub use received::Received;
pub use record::{
    Bad, Change, Class, ContentId, Copy, Correction, CorrectionFacts, CorrectionRecord, Did,
    Filled, Gone, Hid, Hidden, HiddenContent, InstanceEntry, InstanceFacts, InstanceRecord, Origin,
    Other, OtherKind, Ruling, SeriesFacts, SeriesRecord, Stored, StudyFacts, StudyRecord, Totals,
    Values, Verdict, classify,
};
pub use snapshot::Snapshot;
pub use spread::{SeriesSpread, Spread};
pub use volumes::VolumeTotals;

/// Raised when keys or records change their meaning; an index of another schema is rebuilt, not converted.
const SCHEMA: u32 = 8;
const SCHEMA_KEY: &[u8] = b"schema";
const TOTALS_KEY: &[u8] = b"totals";
const SEQUENCE_KEY: &[u8] = b"sequence";

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the index has schema {found}, this Kura writes {SCHEMA}; it was not opened")]
    Schema { found: u32 },
    #[error("an index record in table {table:?} cannot be read")]
    Damaged { table: Table },
    /// An earlier call failed; what is in the engine is not trusted any more.
    #[error("the index failed before and is not used: {reason}")]
    FailedBefore { reason: String },
    #[error("the index is closed")]
    Closed,
}

fn damaged(table: Table) -> IndexError {
    IndexError::Damaged { table }
}

/// The open index. Clones are the same index.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

struct Shared {
    /// None when closed.
    store: RwLock<Option<Arc<dyn Store>>>,
    /// Held by the one who applies; the reason when a write failed.
    writer: Mutex<Option<String>>,
}

impl Index {
    /// Opens the index in `dir`, or creates it.
    ///
    /// Err for another schema, another engine's index and for files that the engine cannot read or panics over: the
    /// caller sets it aside ([`set_aside`]) and rebuilds.
    pub fn open(dir: &Path, engine: Engine) -> Result<Index, IndexError> {
        let store = engine::open(dir, engine)?;
        let reader = store.reader()?;
        match snapshot::get(&*reader, Table::Meta, SCHEMA_KEY)? {
            Some(bytes) => {
                let found = bytes
                    .try_into()
                    .map(u32::from_le_bytes)
                    .map_err(|_| damaged(Table::Meta))?;
                if found != SCHEMA {
                    return Err(IndexError::Schema { found });
                }
            }
            // Neither new nor ours: the schema's record is gone, so others may be.
            None if !reader
                .range(Table::Meta, &[], &[], engine::Direction::Forward, 1)?
                .is_empty() =>
            {
                return Err(damaged(Table::Meta));
            }
            None => {
                let value = engine::seal(Table::Meta, SCHEMA_KEY, SCHEMA.to_le_bytes().to_vec());
                let schema = engine::Write {
                    table: Table::Meta,
                    key: SCHEMA_KEY.to_vec(),
                    value: Some(value),
                };
                store.commit(vec![schema])?;
                store.checkpoint()?;
            }
        }
        drop(reader);
        let shared = Shared {
            store: RwLock::new(Some(store)),
            writer: Mutex::new(None),
        };
        Ok(Index {
            shared: Arc::new(shared),
        })
    }

    fn store(&self) -> Result<Arc<dyn Store>, IndexError> {
        let store = self
            .shared
            .store
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        store.clone().ok_or(IndexError::Closed)
    }

    /// Takes in what ledgers say, and how far they were read: one commit, all or nothing, not waiting for the disk,
    /// visible to snapshots when this returns.
    ///
    /// The changes of one ledger come in its order, and may come again from any earlier place on, to its end. Those of
    /// several ledgers may come in any order, in one call or many: the index is the same.
    /// After an error nothing more is applied: the index must be opened again or rebuilt.
    ///
    /// Returns the series, each once with its study, in which copies came, went or turned out bad; perhaps others.
    pub fn apply(
        &self,
        changes: &[Change],
        positions: &[(String, Vec<u8>)],
    ) -> Result<Vec<(String, String)>, IndexError> {
        self.write(|store| apply::batch(store, changes, positions, None))
    }

    /// Takes out copies on a volume as if each had a [`Gone`], those of up to `most` instances in one commit, hidden ones
    /// last, and how far its ledger was read. True: there may be more, to be called again.
    ///
    /// Its ledger must not be read in meanwhile. When it is read again, before the last call or after, that begins at the
    /// first line, and all is as it was. In the end instances and counts are those of an index that never read that ledger;
    /// what it said of studies and series stays, as with files that are gone, and what it said of corrections.
    pub fn forget_some(&self, volume_id: &str, most: usize) -> Result<bool, IndexError> {
        let most = most.max(1);
        self.write(|store| {
            let mut instances = 0;
            let mut changes = Vec::new();
            let snapshot = Snapshot::new(store.reader()?);
            let mut enough = || {
                instances += 1;
                match instances < most {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            };
            snapshot.on_volume(volume_id, None, &mut |entry| {
                changes.extend(entry.gone_from(volume_id).map(Change::Gone));
                enough()
            })?;
            if changes.is_empty() {
                snapshot.hidden_on(volume_id, None, &mut |sop, hidden| {
                    changes.extend(hidden.gone_from(&sop, volume_id).map(Change::Gone));
                    enough()
                })?;
            }
            drop(snapshot);
            apply::batch(store, &changes, &[], Some(volume_id))?;
            // What is hidden comes after the rest.
            Ok(instances > 0)
        })
    }

    /// One at a time, and none after one has failed.
    fn write<T>(
        &self,
        f: impl FnOnce(&dyn Store) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut failed = self
            .shared
            .writer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(reason) = &*failed {
            return Err(IndexError::FailedBefore {
                reason: reason.clone(),
            });
        }
        let store = self.store()?;
        let result = f(&*store);
        if let Err(error) = &result {
            *failed = Some(error.to_string());
        }
        result
    }

    /// Makes everything applied so far durable. To be called every few seconds: after a crash the ledgers are read
    /// from the positions of the last one.
    pub fn checkpoint(&self) -> Result<(), IndexError> {
        self.write(|store| Ok(store.checkpoint()?))
    }

    /// What is applied now, unchanged by what is applied later.
    pub fn snapshot(&self) -> Result<Snapshot, IndexError> {
        let store = self.store()?;
        Ok(Snapshot::new(store.reader()?))
    }

    /// Lets go of the engine, for all clones; its files are free when the last snapshot is gone too.
    pub fn close(&self) {
        let mut store = self
            .shared
            .store
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let store = store.take();
        drop(store);
    }
}

/// Moves the files of a closed or unusable index out of the way (`dir/aside`, only the newest is kept), so that
/// [`Index::open`] begins an empty one.
pub fn set_aside(dir: &Path) -> Result<(), IndexError> {
    Ok(engine::set_aside(dir)?)
}
