//! redb: commits stay in memory until a checkpoint, which is one durable commit.

use std::cell::OnceCell;
use std::path::Path;

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition};

use super::{
    Direction, EngineError, Entries, Reader, Store, TABLES, Table, Write, cache_bytes, guarded,
};

type Bytes = &'static [u8];
type ReadTable = redb::ReadOnlyTable<Bytes, Bytes>;

pub struct RedbStore {
    /// None only while being dropped.
    database: Option<Database>,
}

fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Study => "study",
        Table::Series => "series",
        Table::Instance => "instance",
        Table::Sop => "sop",
        Table::SeriesUid => "series_uid",
        Table::PatientId => "patient_id",
        Table::Name => "name",
        Table::Accession => "accession",
        Table::Date => "date",
        Table::Other => "other",
        Table::VolumeStudy => "volume_study",
        Table::Received => "received",
        Table::Hidden => "hidden",
        Table::Correction => "correction",
        Table::CorrectionInstance => "correction_instance",
        Table::CorrectionSeries => "correction_series",
        Table::AnotherPatient => "another_patient",
        Table::NameWord => "name_word",
    })
}

impl RedbStore {
    fn database(&self) -> &Database {
        self.database.as_ref().expect("taken only by drop")
    }

    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let database = guarded(|| {
            Database::builder()
                .set_cache_size(cache_bytes())
                .create(path)
        })?;
        let store = RedbStore {
            database: Some(database),
        };
        // A reader cannot open a table that was never written, so all of them exist from the start.
        let missing = guarded(|| -> Result<bool, redb::Error> {
            let transaction = store.database().begin_read()?;
            for table in TABLES {
                match transaction.open_table(definition(table)) {
                    Ok(_) => {}
                    Err(redb::TableError::TableDoesNotExist(_)) => return Ok(true),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(false)
        })?;
        if missing {
            store.durable(true)?;
        }
        Ok(store)
    }

    /// A durable commit makes all earlier ones durable with it. The allocator's state goes along ("quick repair"),
    /// else a large index takes many seconds to open after a kill.
    fn durable(&self, create_tables: bool) -> Result<(), EngineError> {
        guarded(|| -> Result<(), redb::Error> {
            let mut transaction = self.database().begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_quick_repair(true);
            if create_tables {
                for table in TABLES {
                    transaction.open_table(definition(table))?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // Closing writes, and may panic over the same bytes as any other call.
        let closed = guarded(|| -> Result<(), std::convert::Infallible> {
            drop(self.database.take());
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "the index was not closed properly");
        }
    }
}

impl Store for RedbStore {
    fn commit(&self, mut batch: Vec<Write>) -> Result<(), EngineError> {
        // In key order neighbours share their pages.
        batch.sort_unstable_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
        guarded(|| -> Result<(), redb::Error> {
            let mut transaction = self.database().begin_write()?;
            transaction.set_durability(Durability::None)?;
            for group in batch.chunk_by(|a, b| a.table == b.table) {
                let mut table = transaction.open_table(definition(group[0].table))?;
                for write in group {
                    match &write.value {
                        Some(value) => table.insert(write.key.as_slice(), value.as_slice())?,
                        None => table.remove(write.key.as_slice())?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        self.durable(false)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, EngineError> {
        let transaction = guarded(|| self.database().begin_read())?;
        Ok(Box::new(RedbReader {
            transaction,
            tables: Default::default(),
        }))
    }
}

struct RedbReader {
    transaction: ReadTransaction,
    /// By number of the table, opened when first used.
    tables: [OnceCell<ReadTable>; TABLES.len()],
}

impl RedbReader {
    fn table(&self, table: Table) -> Result<&ReadTable, redb::Error> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.transaction.open_table(definition(table))?;
        Ok(cell.get_or_init(|| open))
    }
}

impl Reader for RedbReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        guarded(|| -> Result<_, redb::Error> {
            Ok(self
                .table(table)?
                .get(key)?
                .map(|value| value.value().to_vec()))
        })
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
        if !to.is_empty() && from >= to {
            return Ok(entries);
        }
        guarded(|| -> Result<_, redb::Error> {
            let table = self.table(table)?;
            let mut range = if to.is_empty() {
                table.range(from..)?
            } else {
                table.range(from..to)?
            };
            while entries.len() < limit {
                let next = match direction {
                    Direction::Forward => range.next(),
                    Direction::Backward => range.next_back(),
                };
                let Some(entry) = next else { break };
                let (key, value) = entry?;
                entries.push(key.value(), value.value());
            }
            Ok(())
        })?;
        Ok(entries)
    }
}
