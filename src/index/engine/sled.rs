//! sled: one tree, the table's number as first byte of each key, so that one batch is atomic across tables.
//!
//! sled has no snapshots. They are made here: while readers live, each commit keeps what its keys held before, and a
//! reader takes that instead of what it finds. Commits and single reads exclude each other for the moment they take;
//! a reader that lives long (a query to a slow peer) costs memory for the keys written meanwhile, and holds nobody up.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::{Direction, EngineError, Entries, Reader, Store, Table, Write, cache_bytes, guarded};

/// How long an index that was just closed may still be locked.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// What sled's error says then; it has no kind of its own.
const LOCKED: &str = "could not acquire lock";

pub struct SledStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// None only while being dropped.
    database: Option<sled::Db>,
    state: RwLock<State>,
}

/// (number of a commit, value before it), ascending.
type Held = Vec<(u64, Option<Vec<u8>>)>;

#[derive(Default)]
struct State {
    /// Number of the last commit.
    epoch: u64,
    /// Epochs that live readers look at, with how many readers each has.
    readers: BTreeMap<u64, usize>,
    /// Key → what it held before the commit of that number, ascending; only while there are readers.
    before: BTreeMap<Vec<u8>, Held>,
}

impl Shared {
    fn database(&self) -> &sled::Db {
        self.database.as_ref().expect("taken only by drop")
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let closed = guarded(|| -> Result<(), std::convert::Infallible> {
            drop(self.database.take());
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "the index was not closed properly");
        }
    }
}

fn full_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len() + 1);
    full.push(table as u8);
    full.extend_from_slice(key);
    full
}

impl SledStore {
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes() as u64)
            .flush_every_ms(None);
        let begun = Instant::now();
        let database = loop {
            match guarded(|| config.open()) {
                // sled lets go of its lock in the background, some time after the last handle is dropped.
                Err(EngineError::Failed(text))
                    if text.contains(LOCKED) && begun.elapsed() < LOCK_WAIT =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                opened => break opened?,
            }
        };
        let shared = Shared {
            database: Some(database),
            state: RwLock::default(),
        };
        Ok(SledStore {
            shared: Arc::new(shared),
        })
    }
}

impl Store for SledStore {
    fn commit(&self, batch: Vec<Write>) -> Result<(), EngineError> {
        let mut state = self.shared.write();
        let epoch = state.epoch + 1;
        let keep = !state.readers.is_empty();
        guarded(|| -> Result<(), sled::Error> {
            let mut writes = sled::Batch::default();
            for write in batch {
                let key = full_key(write.table, &write.key);
                if keep {
                    let held = self
                        .shared
                        .database()
                        .get(&key)?
                        .map(|value| value.to_vec());
                    state
                        .before
                        .entry(key.clone())
                        .or_default()
                        .push((epoch, held));
                }
                match write.value {
                    Some(value) => writes.insert(key, value),
                    None => writes.remove(key),
                }
            }
            self.shared.database().apply_batch(writes)
        })?;
        state.epoch = epoch;
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        guarded(|| self.shared.database().flush()).map(|_| ())
    }

    fn reader(&self) -> Result<Box<dyn Reader>, EngineError> {
        let mut state = self.shared.write();
        let epoch = state.epoch;
        *state.readers.entry(epoch).or_default() += 1;
        Ok(Box::new(SledReader {
            shared: self.shared.clone(),
            epoch,
        }))
    }
}

struct SledReader {
    shared: Arc<Shared>,
    epoch: u64,
}

impl Drop for SledReader {
    fn drop(&mut self) {
        let mut state = self.shared.write();
        let state = &mut *state;
        if let Some(count) = state.readers.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&self.epoch);
            }
        }
        match state.readers.keys().next().copied() {
            None => state.before.clear(),
            // What was kept for this reader alone goes when the oldest one does.
            Some(oldest) if oldest > self.epoch => state.before.retain(|_, held| {
                held.retain(|(epoch, _)| *epoch > oldest);
                !held.is_empty()
            }),
            Some(_) => {}
        }
    }
}

impl SledReader {
    /// What this reader must see for a key that was written after it was made: the oldest of the later states.
    fn kept<'a>(&self, held: &'a [(u64, Option<Vec<u8>>)]) -> Option<&'a Option<Vec<u8>>> {
        held.iter()
            .find(|(epoch, _)| *epoch > self.epoch)
            .map(|(_, value)| value)
    }
}

impl Reader for SledReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let key = full_key(table, key);
        let state = self.shared.read();
        if let Some(value) = state.before.get(&key).and_then(|held| self.kept(held)) {
            return Ok(value.clone());
        }
        guarded(|| self.shared.database().get(&key)).map(|value| value.map(|value| value.to_vec()))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Entries, EngineError> {
        let mut entries = Entries::new(table);
        let from = full_key(table, from);
        let to = if to.is_empty() {
            vec![table as u8 + 1]
        } else {
            full_key(table, to)
        };
        if from >= to {
            return Ok(entries);
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let state = self.shared.read();
        guarded(|| -> Result<_, sled::Error> {
            let forward = direction == Direction::Forward;
            let mut found = self.shared.database().range(bounds.clone());
            let mut kept = state.before.range(bounds);
            let mut next_found = || {
                if forward {
                    found.next()
                } else {
                    found.next_back()
                }
                .transpose()
            };
            let mut next_kept = || {
                if forward {
                    kept.next()
                } else {
                    kept.next_back()
                }
            };
            // Two ordered streams made one; where both have a key, what was kept wins.
            let (mut left, mut right) = (next_found()?, next_kept());
            while entries.len() < limit {
                let order = match (&left, &right) {
                    (None, None) => break,
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, Some(_)) => std::cmp::Ordering::Greater,
                    (Some((a, _)), Some((b, _))) if forward => a.as_ref().cmp(b.as_slice()),
                    (Some((a, _)), Some((b, _))) => b.as_slice().cmp(a.as_ref()),
                };
                let now = if order.is_le() { left.take() } else { None };
                let then = if order.is_ge() { right.take() } else { None };
                if now.is_some() {
                    left = next_found()?;
                }
                if then.is_some() {
                    right = next_kept();
                }
                match then.and_then(|(key, held)| self.kept(held).map(|value| (key, value))) {
                    Some((key, Some(value))) => entries.push(&key[1..], value),
                    Some((_, None)) => {}
                    None => {
                        if let Some((key, value)) = now {
                            entries.push(&key[1..], &value);
                        }
                    }
                }
            }
            Ok(())
        })?;
        Ok(entries)
    }
}
