//! What goes to whom, kept over kill -9 and power cuts: `<state>/outbox/outbox.redb`.
//!
//! A record for each peer × study, one for each peer, and how far the ledgers were looked at. Changes gather in memory
//! and become durable together, in the order in which they were made: nobody flushes a disk for one instance.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::copies::Copy;
use super::kept::{Kept, KeptPeer, Key};
use crate::archive::Marks;
use crate::volume::Disk;

const ITEMS: TableDefinition<&str, &[u8]> = TableDefinition::new("item");
const PEERS: TableDefinition<&str, &[u8]> = TableDefinition::new("peer");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const SCHEMA: u32 = 1;
const SCHEMA_KEY: &str = "schema";
const MARKS_KEY: &str = "marks";
const NOTICE_KEY: &str = "notice";

const FOLDER: &str = "outbox";
const FILE: &str = "outbox.redb";
/// Until it is whole.
const NEW: &str = "new.redb";
/// For a backup, and gone after it.
const COPY: &str = "copy.redb";
/// Memory for pages, bytes: it is read once at the start, then a record at a time.
const CACHE_BYTES: usize = 8 << 20;

/// Changes that are made together. `None`: the record goes.
#[derive(Default)]
struct Changes {
    items: HashMap<Key, Option<Kept>>,
    peers: HashMap<String, KeptPeer>,
    marks: Option<Option<Marks>>,
    notice: Option<Option<String>>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.peers.is_empty()
            && self.marks.is_none()
            && self.notice.is_none()
    }
}

#[derive(Default)]
struct Inner {
    database: Option<Arc<Database>>,
    changes: Changes,
    /// On their way to the disk.
    writing: Arc<Changes>,
    /// Rises when changes are taken for writing.
    begun: u64,
    /// Why nothing can be written, in words.
    trouble: Option<String>,
}

pub struct Outbox {
    folder: PathBuf,
    /// The newest copy of it, for when it is missing or damaged.
    copy: Box<TakeCopy>,
    inner: Mutex<Inner>,
    /// One commit at a time.
    committing: Mutex<()>,
}

pub type TakeCopy = dyn Fn() -> Option<Copy> + Send + Sync;

/// Why an outbox is not used.
#[derive(Debug)]
enum Unusable {
    /// Set aside, and begun anew.
    Damaged(String),
    /// Left as it is.
    Newer(u32),
    /// Perhaps later: the folder cannot be written, say.
    NotNow(String),
}

impl Outbox {
    /// Opens what is there. Never fails: an outbox that cannot be used is said by [`Outbox::trouble`].
    pub fn open(state: &Path, copy: Box<TakeCopy>) -> Outbox {
        let outbox = Outbox {
            folder: state.join(FOLDER),
            copy,
            inner: Mutex::default(),
            committing: Mutex::default(),
        };
        if outbox.is_there() {
            outbox.try_open();
        }
        outbox
    }

    fn is_there(&self) -> bool {
        let entry = Disk::default().entry(&self.path());
        entry.is_ok_and(|entry| entry.is_some())
    }

    /// Takes the copy where there is no outbox here; whether there was one.
    pub fn take_copy(&self) -> bool {
        let is_missing = self.lock().database.is_none() && !self.is_there();
        is_missing && (self.copy)().is_some() && self.try_open()
    }

    /// Differs from before when something was changed since; `None`: there is no outbox.
    pub fn generation(&self) -> Option<u64> {
        let inner = self.lock();
        inner.database.is_some().then_some(inner.begun)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is written, and so nothing sent.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// What a person should know of it; stays until [`Outbox::acknowledge`].
    pub fn notice(&self) -> Option<String> {
        let database = {
            let inner = self.lock();
            let changed = inner.changes.notice.as_ref();
            if let Some(notice) = changed.or(inner.writing.notice.as_ref()) {
                return notice.clone();
            }
            inner.database.clone()?
        };
        get(&database, META, NOTICE_KEY).ok().flatten()
    }

    /// A person knows of it. False: there was nothing.
    pub fn acknowledge(&self) -> bool {
        let was = self.notice().is_some();
        if was {
            self.lock().changes.notice = Some(None);
        }
        was
    }

    /// Something waits to be made durable.
    pub fn is_changed(&self) -> bool {
        !self.lock().changes.is_empty()
    }

    /// True: it is open. A new one is begun where there is none.
    pub fn try_open(&self) -> bool {
        if self.lock().database.is_some() {
            return true;
        }
        let path = self.path();
        let opened = match self.is_there() {
            true => open_at(&self.folder, &path),
            false => self.begin(&path),
        };
        let opened = match opened {
            Err(Unusable::Damaged(reason)) => self.begin_anew(&path, &reason),
            other => other,
        };
        let mut inner = self.lock();
        match opened {
            Ok(database) => {
                inner.database = Some(Arc::new(database));
                inner.trouble = None;
                true
            }
            Err(unusable) => {
                let words = match unusable {
                    Unusable::Newer(found) => format!(
                        "the outbox {} was written by a newer Kura (schema {found}, this one knows {SCHEMA}); nothing is forwarded. Start the newer Kura, or move that file away and start again: what waits is then taken from its copy on a volume, if this Kura can read that",
                        path.display()
                    ),
                    Unusable::Damaged(reason) | Unusable::NotNow(reason) => format!(
                        "the outbox {} cannot be used: {reason}; nothing is forwarded until it can. Look at that folder and its disk",
                        path.display()
                    ),
                };
                if inner.trouble.as_ref() != Some(&words) {
                    tracing::error!("{words}");
                }
                inner.trouble = Some(words);
                false
            }
        }
    }

    /// The damaged file is kept beside, and a notice says so.
    fn begin_anew(&self, path: &Path, reason: &str) -> Result<Database, Unusable> {
        let at = crate::archive::now();
        let name = format!("damaged-{}.redb", at.replace([':', '.'], "-"));
        let aside = self.folder.join(name);
        let moved = Disk::default().rename(path, &aside);
        moved.map_err(|error| Unusable::NotNow(format!("{reason}; setting it aside: {error}")))?;
        let what = format!(
            "the outbox was damaged at {at} ({reason}) and lies at {}",
            aside.display()
        );
        let copy = (self.copy)();
        let words = match &copy {
            Some(copy) => format!("{what}; {}", taken_from(copy)),
            None => format!(
                "{what}; a new one was begun. What waited in it is not known any more: look at the studies of the last days, and send what is missing by kura send"
            ),
        };
        tracing::error!("{words}");
        let database = open_at(&self.folder, path)?;
        self.fill(&database, copy, Some(words))?;
        Ok(database)
    }

    /// One where there is none; from the copy, if there is one.
    fn begin(&self, path: &Path) -> Result<Database, Unusable> {
        let copy = (self.copy)();
        let database = open_at(&self.folder, path)?;
        if let Some(copy) = copy {
            let origin = taken_from(&copy);
            let words = format!("there was no outbox {}; {origin}", path.display());
            tracing::warn!("{words}");
            // Nothing waits: nobody needs to know.
            let words = (copy.open_count() > 0).then_some(words);
            self.fill(&database, Some(copy), words)?;
        }
        Ok(database)
    }

    fn fill(
        &self,
        database: &Database,
        copy: Option<Copy>,
        words: Option<String>,
    ) -> Result<(), Unusable> {
        let mut changes = Changes {
            notice: Some(words),
            ..Changes::default()
        };
        if let Some(copy) = copy {
            changes.marks = copy.marks.map(Some);
            changes.peers.extend(copy.peers);
            let items = copy.items.into_iter();
            changes
                .items
                .extend(items.map(|(key, kept)| (key, Some(kept))));
        }
        write(database, &changes).map_err(Unusable::NotNow)
    }

    /// What is there to read; `None`: there is no outbox yet. An error, and not nothing, while there is one that cannot be
    /// used: what was made of nothing would be written over it.
    fn readable(inner: &Inner) -> Result<Option<Arc<Database>>, String> {
        match (&inner.database, &inner.trouble) {
            (None, Some(trouble)) => Err(trouble.clone()),
            (database, _) => Ok(database.clone()),
        }
    }

    /// `None`: nothing is known of it.
    pub fn item(&self, key: &Key) -> Result<Option<Kept>, String> {
        let database = {
            let inner = self.lock();
            if let Some(kept) = inner.changes.items.get(key) {
                return Ok(kept.clone());
            }
            if let Some(kept) = inner.writing.items.get(key) {
                return Ok(kept.clone());
            }
            Outbox::readable(&inner)?
        };
        match database {
            Some(database) => get(&database, ITEMS, &key.text()),
            None => Ok(None),
        }
    }

    /// Changes a record, one that is not there yet beginning empty; durable with the next commit.
    pub fn change<T>(&self, key: &Key, f: impl FnOnce(&mut Kept) -> T) -> Result<T, String> {
        loop {
            let begun = self.lock().begun;
            let read = self.item(key)?;
            let mut inner = self.lock();
            if !inner.changes.items.contains_key(key) {
                // What was read may be older than what was written meanwhile.
                if inner.begun != begun {
                    continue;
                }
                inner.changes.items.insert(key.clone(), read);
            }
            let kept = inner.changes.items.get_mut(key).expect("just put in");
            return Ok(f(kept.get_or_insert_default()));
        }
    }

    /// Nothing is known of it any more; but for one that is just being changed.
    pub fn forget(&self, key: &Key) {
        let mut inner = self.lock();
        if !inner.writing.items.contains_key(key) {
            inner.changes.items.entry(key.clone()).or_insert(None);
        }
    }

    pub fn peer(&self, peer: &str) -> Result<KeptPeer, String> {
        let database = {
            let inner = self.lock();
            let changed = inner.changes.peers.get(peer);
            if let Some(kept) = changed.or_else(|| inner.writing.peers.get(peer)) {
                return Ok(kept.clone());
            }
            Outbox::readable(&inner)?
        };
        match database {
            Some(database) => Ok(get(&database, PEERS, peer)?.unwrap_or_default()),
            None => Ok(KeptPeer::default()),
        }
    }

    pub fn put_peer(&self, peer: &str, kept: KeptPeer) {
        self.lock().changes.peers.insert(peer.to_owned(), kept);
    }

    pub fn marks(&self) -> Result<Option<Marks>, String> {
        let database = Outbox::readable(&self.lock())?;
        match database {
            Some(database) => get(&database, META, MARKS_KEY),
            None => Ok(None),
        }
    }

    /// Durable with, or after, all that was changed before.
    pub fn put_marks(&self, marks: Option<Marks>) {
        self.lock().changes.marks = Some(marks);
    }

    /// Gives every record to `f`, those not durable yet included, until it says false.
    pub fn each(&self, f: &mut dyn FnMut(Key, Kept) -> bool) -> Result<(), String> {
        let (database, changed) = {
            let inner = self.lock();
            let mut changed = inner.writing.items.clone();
            changed.extend(
                inner
                    .changes
                    .items
                    .iter()
                    .map(|(key, kept)| (key.clone(), kept.clone())),
            );
            (Outbox::readable(&inner)?, changed)
        };
        if let Some(database) = database {
            let mut more = true;
            guarded(|| -> Result<(), redb::Error> {
                let transaction = database.begin_read()?;
                let table = transaction.open_table(ITEMS)?;
                for entry in table.iter()? {
                    let (key, value) = entry?;
                    let Some(key) = Key::of(key.value()) else {
                        continue;
                    };
                    if changed.contains_key(&key) {
                        continue;
                    }
                    let Some(kept) = unseal::<Kept>(value.value()) else {
                        tracing::error!(
                            peer = &*key.peer,
                            study = &*key.study,
                            "a record of the outbox is damaged and passed over; send that study by kura send"
                        );
                        continue;
                    };
                    more = f(key, kept);
                    if !more {
                        break;
                    }
                }
                Ok(())
            })?;
            if !more {
                return Ok(());
            }
        }
        for (key, kept) in changed {
            if let Some(kept) = kept
                && !f(key, kept)
            {
                break;
            }
        }
        Ok(())
    }

    /// What is known now, in a file of its own; a copy of before goes. `None`: there is no outbox that is used.
    pub fn copy(&self) -> Result<Option<PathBuf>, String> {
        // Why it cannot be written is said by its trouble; what is durable can be copied.
        drop(self.commit());
        let Some(database) = self.lock().database.clone() else {
            return Ok(None);
        };
        let _one = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(COPY);
        let disk = Disk::default();
        match disk.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()));
            }
            _ => {}
        }
        guarded(|| -> Result<(), redb::Error> {
            let copy = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&path)?;
            let (from, to) = (database.begin_read()?, copy.begin_write()?);
            for table in [ITEMS, PEERS, META] {
                let mut to = to.open_table(table)?;
                for entry in from.open_table(table)?.iter()? {
                    let (key, value) = entry?;
                    to.insert(key.value(), value.value())?;
                }
            }
            to.commit()?;
            Ok(())
        })?;
        Ok(Some(path))
    }

    /// Makes durable what was changed before the call; those who call meanwhile share the next flush. The error is a
    /// sentence; the changes stay, for the next call.
    pub fn commit(&self) -> Result<(), String> {
        let _one = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_nothing = || self.lock().changes.is_empty();
        if is_nothing() && self.trouble().is_none() {
            return Ok(());
        }
        // Also without changes: what cannot be read cannot be changed.
        if !self.try_open() {
            return Err(self.trouble().unwrap_or_default());
        }
        if is_nothing() {
            return Ok(());
        }
        let (database, changes) = {
            let mut inner = self.lock();
            let changes = Arc::new(std::mem::take(&mut inner.changes));
            inner.writing = changes.clone();
            inner.begun += 1;
            let database = inner.database.clone().expect("just opened");
            (database, changes)
        };
        let written = write(&database, &changes);
        drop(database);
        let mut inner = self.lock();
        let kept = std::mem::take(&mut inner.writing);
        drop(changes);
        match written {
            Ok(()) => Ok(()),
            Err(reason) => {
                // Later changes of the same record go before.
                let Changes {
                    items,
                    peers,
                    marks,
                    notice,
                } = Arc::try_unwrap(kept).unwrap_or_default();
                for (key, kept) in items {
                    inner.changes.items.entry(key).or_insert(kept);
                }
                for (key, kept) in peers {
                    inner.changes.peers.entry(key).or_insert(kept);
                }
                inner.changes.marks = inner.changes.marks.take().or(marks);
                inner.changes.notice = inner.changes.notice.take().or(notice);
                // An engine that failed once refuses everything until it is opened again.
                inner.database = None;
                let words = format!(
                    "the outbox {} cannot be written: {reason}; nothing is forwarded until it can. Look at that disk",
                    self.path().display()
                );
                tracing::error!("{words}");
                inner.trouble = Some(words.clone());
                Err(words)
            }
        }
    }
}

/// What becomes of what waited, in words.
fn taken_from(copy: &Copy) -> String {
    let count = copy.open_count();
    let origin = copy.origin();
    format!(
        "what waits is taken from {origin} ({count} of study and peer); what was sent after that goes once more"
    )
}

/// What is there, or a new one. A new one gets its name when it is whole: a full disk, or a kill, leaves none that looks
/// damaged.
fn open_at(folder: &Path, path: &Path) -> Result<Database, Unusable> {
    let disk = Disk::default();
    let new = folder.join(NEW);
    let made = disk.create_dir_durable(folder).and_then(|()| {
        let is_there = disk.entry(path)?.is_some();
        if !is_there && disk.entry(&new)?.is_some() {
            disk.remove(&new)?;
        }
        Ok(is_there)
    });
    let not_now = |error: std::io::Error| Unusable::NotNow(error.to_string());
    if !made.map_err(not_now)? {
        drop(open_file(&new)?);
        let named = disk.rename_noreplace(&new, path);
        named
            .and_then(|()| disk.sync_dir(folder))
            .map_err(not_now)?;
    }
    open_file(path)
}

fn open_file(path: &Path) -> Result<Database, Unusable> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(redb::Error::from)
    }));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(redb::Error::Io(error))) if error.kind() != std::io::ErrorKind::InvalidData => {
            return Err(Unusable::NotNow(error.to_string()));
        }
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
            return Err(Unusable::NotNow("another process has it open".to_owned()));
        }
        Ok(Err(error)) => return Err(Unusable::Damaged(error.to_string())),
        Err(panic) => return Err(Unusable::Damaged(panic_text(&*panic))),
    };
    let found = catch_unwind(AssertUnwindSafe(
        || -> Result<Option<Vec<u8>>, redb::Error> {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(META) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let value = table.get(SCHEMA_KEY)?;
            Ok(value.map(|value| value.value().to_vec()))
        },
    ));
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(Unusable::Damaged(error.to_string())),
        Err(panic) => return Err(Unusable::Damaged(panic_text(&*panic))),
    };
    match found {
        Some(bytes) => {
            let schema = unseal::<u32>(&bytes);
            let schema =
                schema.ok_or_else(|| Unusable::Damaged("its schema cannot be read".to_owned()))?;
            if schema > SCHEMA {
                return Err(Unusable::Newer(schema));
            }
        }
        None => {
            let made = guarded(|| -> Result<(), redb::Error> {
                let transaction = database.begin_write()?;
                transaction.open_table(ITEMS)?;
                transaction.open_table(PEERS)?;
                transaction
                    .open_table(META)?
                    .insert(SCHEMA_KEY, seal(&SCHEMA).as_slice())?;
                transaction.commit()?;
                Ok(())
            });
            made.map_err(Unusable::NotNow)?;
        }
    }
    Ok(database)
}

fn write(database: &Database, changes: &Changes) -> Result<(), String> {
    guarded(|| -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Else an opening after a kill reads the whole file.
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(ITEMS)?;
            for (key, kept) in &changes.items {
                match kept {
                    Some(kept) => table.insert(key.text().as_str(), seal(kept).as_slice())?,
                    None => table.remove(key.text().as_str())?,
                };
            }
            let mut table = transaction.open_table(PEERS)?;
            for (peer, kept) in &changes.peers {
                table.insert(peer.as_str(), seal(kept).as_slice())?;
            }
            let mut table = transaction.open_table(META)?;
            match &changes.marks {
                Some(Some(marks)) => drop(table.insert(MARKS_KEY, seal(marks).as_slice())?),
                Some(None) => drop(table.remove(MARKS_KEY)?),
                None => {}
            }
            match &changes.notice {
                Some(Some(notice)) => drop(table.insert(NOTICE_KEY, seal(notice).as_slice())?),
                Some(None) => drop(table.remove(NOTICE_KEY)?),
                None => {}
            }
        }
        transaction.commit()?;
        Ok(())
    })
}

fn get<T: DeserializeOwned>(
    database: &Database,
    table: TableDefinition<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, String> {
    let value = guarded(|| -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let table = transaction.open_table(table)?;
        let value = table.get(key)?;
        Ok(value.map(|value| value.value().to_vec()))
    })?;
    match value {
        None => Ok(None),
        Some(bytes) => match unseal(&bytes) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("the outbox's record of {key} is damaged")),
        },
    }
}

/// With its CRC-32 behind it.
fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = postcard::to_allocvec(value).expect("texts and numbers always serialize");
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (content, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc != crc32fast::hash(content).to_le_bytes() {
        return None;
    }
    // A record of before lacks what was added at its end; a zero there is "none". What is behind a record is not read.
    postcard::from_bytes(&[content, &[0]].concat()).ok()
}

/// A panic of the engine over damaged bytes is an error like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(panic_text(&*panic)),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the engine gave up".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(numbers: std::ops::Range<u64>) -> Kept {
        let mut kept = Kept::default();
        numbers.for_each(|number| {
            kept.wanted.insert(number);
        });
        kept
    }

    /// Method: a record is committed, another is not; the outbox is dropped and opened again.
    #[test]
    fn what_was_committed_is_there_after_another_opening() {
        let state = tempfile::TempDir::new().unwrap();
        let (one, two) = (Key::new("HOROS", "1.2.3"), Key::new("A B", "1.2.4"));
        let marks = Marks {
            sequence: 7,
            ..Marks::default()
        };
        {
            let outbox = Outbox::open(state.path(), Box::new(|| None));
            assert!(!outbox.path().exists(), "a look leaves nothing behind");
            outbox.change(&one, |record| *record = kept(5..9)).unwrap();
            outbox.put_marks(Some(marks.clone()));
            outbox.commit().unwrap();
            outbox.change(&two, |record| *record = kept(1..2)).unwrap();
            assert_eq!(outbox.item(&two).unwrap(), Some(kept(1..2)));
        }
        let outbox = Outbox::open(state.path(), Box::new(|| None));
        assert_eq!(outbox.trouble(), None);
        assert_eq!(outbox.item(&one).unwrap(), Some(kept(5..9)));
        assert_eq!(outbox.item(&two).unwrap(), None);
        assert_eq!(outbox.marks().unwrap(), Some(marks));
        outbox
            .change(&one, |record| {
                assert!(record.is_confirmed(5));
                assert!(!record.is_confirmed(5) && !record.is_not_taken(5));
                assert!(record.is_not_taken(6) && !record.is_confirmed(99));
                assert_eq!(record.open().count(), 2);
            })
            .unwrap();
        let mut seen = Vec::new();
        let each = outbox.each(&mut |key, record| {
            seen.push((key, record.confirmed.count()));
            true
        });
        each.unwrap();
        assert_eq!(seen, [(one, 1)]);
    }

    /// Method: the engine is closed as after a write that failed; then a file of a begin that was cut off is in the way.
    #[test]
    fn while_it_cannot_be_used_no_record_is_made_of_nothing() {
        let state = tempfile::TempDir::new().unwrap();
        let outbox = Outbox::open(state.path(), Box::new(|| None));
        let (key, new) = (Key::new("HOROS", "1.2.3"), Key::new("HOROS", "1.2.4"));
        outbox.change(&key, |record| *record = kept(5..9)).unwrap();
        outbox.commit().unwrap();
        {
            let mut inner = outbox.lock();
            inner.database = None;
            inner.trouble = Some("no space".to_owned());
        }
        let add = |record: &mut Kept| {
            record.wanted.insert(9);
        };
        assert!(outbox.change(&key, add).is_err());
        assert!(outbox.change(&new, add).is_err());
        assert!(outbox.each(&mut |_, _| true).is_err() && outbox.marks().is_err());
        // With nothing to write, too.
        outbox.commit().unwrap();
        outbox.change(&key, add).unwrap();
        assert_eq!(outbox.item(&key).unwrap(), Some(kept(5..10)));
        outbox.commit().unwrap();
        drop(outbox);

        let state = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(state.path().join(FOLDER)).unwrap();
        std::fs::write(state.path().join(FOLDER).join(NEW), [0; 4096]).unwrap();
        let outbox = Outbox::open(state.path(), Box::new(|| None));
        outbox.change(&key, add).unwrap();
        outbox.commit().unwrap();
        assert_eq!((outbox.notice(), outbox.trouble()), (None, None));
        assert!(!state.path().join(FOLDER).join(NEW).exists());
    }

    #[test]
    fn a_copy_holds_what_is_durable_and_the_outbox_goes_on() {
        let state = tempfile::TempDir::new().unwrap();
        let outbox = Outbox::open(state.path(), Box::new(|| None));
        assert_eq!(outbox.copy().unwrap(), None);
        let key = Key::new("HOROS", "1.2.3");
        for end in [6, 9] {
            outbox
                .change(&key, |record| *record = kept(5..end))
                .unwrap();
            outbox.commit().unwrap();
            let copy = outbox.copy().unwrap().expect("there is one");
            let other = tempfile::TempDir::new().unwrap();
            std::fs::create_dir(other.path().join(FOLDER)).unwrap();
            std::fs::copy(copy, other.path().join(FOLDER).join(FILE)).unwrap();
            let other = Outbox::open(other.path(), Box::new(|| None));
            assert_eq!(other.item(&key).unwrap(), Some(kept(5..end)));
        }
    }

    #[test]
    fn an_outbox_of_a_newer_version_stays_as_it_is_and_is_said() {
        let state = tempfile::TempDir::new().unwrap();
        let key = Key::new("HOROS", "1.2.3");
        let path = {
            let outbox = Outbox::open(state.path(), Box::new(|| None));
            outbox.change(&key, |record| *record = kept(5..9)).unwrap();
            outbox.commit().unwrap();
            let database = outbox.lock().database.clone().unwrap();
            let transaction = database.begin_write().unwrap();
            let newer = seal(&(SCHEMA + 1));
            transaction
                .open_table(META)
                .unwrap()
                .insert(SCHEMA_KEY, newer.as_slice())
                .unwrap();
            transaction.commit().unwrap();
            outbox.path()
        };
        let outbox = Outbox::open(state.path(), Box::new(|| None));
        let trouble = outbox.trouble().expect("it is said");
        assert!(trouble.contains("newer Kura"), "{trouble}");
        let changed = outbox.change(&key, |record| *record = kept(1..2));
        assert_eq!(
            (changed, outbox.commit()),
            (Err(trouble.clone()), Err(trouble))
        );
        assert!(path.exists());
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }
}
