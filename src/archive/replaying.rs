//! What is found in a journal when it is opened: records become files and ledger lines, or are carried to other volumes.
//!
//! A record whose line is in the ledger was carried over before; its mark was lost. Of all others nothing on the volume is
//! believed but the record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::index::{Change, Stored};
use crate::volume::intake::{About, copy_out};
use crate::volume::journal::{Journal, JournalError, Reading, Replay};
use crate::volume::layout::Role;
use crate::volume::{Incoming, Volume, VolumeError, VolumeState, layout, ledger_extent};

use super::carrying::{BATCH_COUNT, gone_from};
use super::content::contents;
use super::entry::{Known, Reader};
use super::ingest::ALTERNATIVES_MAX;
use super::placing::Refusals;
use super::shelf::Member;
use super::{Archive, Line, entry};

/// For the lock of an instance that is to go elsewhere, where nobody holds it who waits for that.
const SPREAD_PATIENCE: Duration = Duration::from_secs(5);

impl Archive {
    /// What a journal holds gets its files and lines; it is empty then. False: there is none.
    pub(super) fn empty_journal(
        &self,
        volume: &Arc<Volume<Line>>,
        folder: &std::path::Path,
        late: Late,
    ) -> Result<bool, JournalError> {
        let disk = match folder.starts_with(volume.root()) {
            true => volume.disk(),
            false => &self.disk,
        };
        let Some((journal, replay)) = Journal::open_existing(disk, folder, volume.id())? else {
            return Ok(false);
        };
        let count = replay.records.len();
        if count > 0 {
            tracing::info!(
                volume = volume.name(),
                instances_count = count,
                "instances in the intake journal are carried over"
            );
        }
        let failed = |reason: String| JournalError::Failed {
            path: journal.path().to_owned(),
            reason,
        };
        let begun = Instant::now();
        if count > 0 {
            let records = records_of(volume.id(), &replay).map_err(failed)?;
            let listed = Listed::read(volume, &records, late);
            let listed = listed.map_err(|error| failed(error.to_string()))?;
            for batch in records.chunks(BATCH_COUNT) {
                let replayed = self.replay_some(volume, &journal, batch, &listed);
                match replayed {
                    Err(reason) if late.may_spread => {
                        tracing::warn!(volume = volume.name(), reason, "they go to other volumes");
                        self.spread(&journal, batch, &listed).map_err(failed)?;
                    }
                    done => done.map_err(failed)?,
                }
            }
        }
        if !replay.damaged.is_empty() {
            let path = journal.path().to_owned();
            let aside = journal.set_aside()?;
            tracing::error!(
                volume = volume.name(),
                journal = %path.display(),
                aside = %aside.display(),
                records_count = replay.damaged.len(),
                "records of the intake journal are damaged: instances that were answered may be lost; the good ones were carried over"
            );
            return Ok(true);
        }
        journal.settle()?;
        if count > 0 {
            let ms = begun.elapsed().as_millis() as u64;
            tracing::info!(volume = volume.name(), ms, "the intake journal is empty");
        }
        Ok(true)
    }

    /// Gives records of a journal that nobody appends to their files and lines. An error: what is not there yet stays in
    /// the journal.
    fn replay_some(
        &self,
        volume: &Arc<Volume<Line>>,
        journal: &Journal,
        batch: &[Record],
        listed: &Listed,
    ) -> Result<(), String> {
        let words = |error: VolumeError| error.to_string();
        let (mut files, mut facts, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for Record {
            number,
            about,
            stored,
        } in batch
        {
            done.push(*number);
            let (mut about, mut stored) = (about.clone(), stored.clone());
            self.keeper.raise_sequence(stored.instance.sequence);
            if listed.has(&stored) {
                continue;
            }
            if self.went_elsewhere(volume.id(), &stored) {
                let gone = gone_from(volume.id(), &stored);
                self.keeper.forget_unlisted(&gone);
                continue;
            }
            if listed.has_path(&stored) {
                // Sent again, with other bytes, while this journal was out of reach.
                listed.rename(volume, &mut stored).map_err(words)?;
                let (once, line) = entry::lines(&stored, volume.id(), None);
                let path = stored.instance.copy.path.clone();
                about = About { path, once, line };
            } else if !volume.is_free(&about.path).map_err(words)? {
                // A file of that name without a line is what a power cut left of this instance, whole or not.
                volume
                    .remove_file(&about.path)
                    .map_err(|error| error.to_string())?;
            }
            let mut incoming = volume.begin().map_err(words)?;
            let reading = journal.reading(*number);
            let reading = reading.ok_or_else(|| format!("record {number} is gone"))?;
            copy_out(&reading, &mut incoming).map_err(|error| error.to_string())?;
            files.push(incoming);
            facts.push((about, stored));
        }
        volume.flush_all(&mut files).map_err(words)?;
        let named: Vec<(&Incoming, &str)> = files
            .iter()
            .zip(facts.iter().map(|(about, _)| about.path.as_str()))
            .collect();
        let published = volume.publish_all(&named).map_err(words);
        let lines = facts
            .iter()
            .map(|(about, stored)| {
                let change = Arc::new(Change::Stored(stored.clone()));
                (about.once.clone(), about.line.clone(), change)
            })
            .collect();
        let appended = published.and_then(|_| {
            let appended = volume.ledger().append_all(lines).map(drop);
            appended.map_err(|error| {
                let error = VolumeError::from(error);
                if error.is_ledger_unknown() {
                    volume.mark_failed(&error.to_string());
                }
                words(error)
            })
        });
        if let Err(reason) = appended {
            // Without their lines they are files too many, should these instances go elsewhere.
            if volume.state() == VolumeState::Ok {
                named.iter().for_each(|(file, path)| file.unpublish(path));
            }
            return Err(reason);
        }
        for file in files {
            file.finish();
        }
        journal.free(&done).map_err(|error| error.to_string())
    }

    /// Another volume that receives has it already: it had been carried there, and the mark of that was lost.
    fn went_elsewhere(&self, volume_id: &str, stored: &Stored) -> bool {
        let instance = &stored.instance;
        // What the index does not know yet is stored once more: one copy too many.
        let Ok(view) = self.keeper.view() else {
            return false;
        };
        let Ok(Some(entry)) = view.snapshot.by_sop(&instance.sop_instance_uid) else {
            return false;
        };
        let is_it = |copy: &&crate::index::Copy| {
            let same = (copy.size_bytes, copy.file_crc32)
                == (instance.copy.size_bytes, instance.copy.file_crc32);
            let there = self.shelf.here(&copy.volume_id);
            let receives = there.is_some_and(|other| {
                other.role() == Role::Archive && other.state() == VolumeState::Ok
            });
            same && copy.volume_id != volume_id && receives
        };
        let contents = contents(&entry);
        contents
            .iter()
            .flat_map(|content| content.good_copies())
            .any(|copy| is_it(&copy))
    }

    /// Stores what a journal holds on volumes that take it.
    fn spread(&self, journal: &Journal, records: &[Record], listed: &Listed) -> Result<(), String> {
        let mut refused = Refusals::default();
        let mut done = Vec::new();
        let mut failed = Ok(());
        for record in records {
            let stored = &record.stored;
            self.keeper.raise_sequence(stored.instance.sequence);
            // Some may have been freed a moment ago.
            let Some(reading) = journal.reading(record.number) else {
                continue;
            };
            let volume_id = &stored.instance.copy.volume_id;
            if !listed.has(stored) {
                if self.went_elsewhere(volume_id, stored) {
                    self.keeper.forget_unlisted(&gone_from(volume_id, stored));
                } else if let Err(reason) = self.store_elsewhere(&reading, stored, &mut refused) {
                    failed = Err(reason);
                    break;
                }
            }
            done.push(record.number);
        }
        // No line of their volume's ledger says what became of them.
        self.keeper.checkpoint();
        let freed = journal.free(&done).map_err(|error| error.to_string());
        failed.and(freed)
    }

    fn store_elsewhere(
        &self,
        reading: &Reading,
        stored: &Stored,
        refused: &mut Refusals,
    ) -> Result<(), String> {
        let sop = &stored.instance.sop_instance_uid;
        let Some(_lock) = self.locks.lock_within(sop, SPREAD_PATIENCE) else {
            return Err("an instance is in use".to_owned());
        };
        let made = self.put_elsewhere(reading, stored, refused);
        made.map_err(|error| error.to_string())
    }

    /// What waits in journals on other disks for volumes that are away goes to those with room. To be called when the
    /// volumes that are here are open for writing.
    pub(super) fn carry_journals_of_absent(&self) {
        if self.mode != super::Mode::Create {
            return;
        }
        for member in self.shelf.all() {
            let folder = self.intake_config.folder(&member.name);
            let Some(folder) = folder.filter(|_| member.here().is_none()) else {
                continue;
            };
            let folder = folder.join(&member.volume_id);
            self.spread_journal_of_absent(&member, &folder);
        }
    }

    /// The journal in a folder on another disk, of a volume that is away.
    pub(super) fn spread_journal_of_absent(&self, member: &Member, folder: &std::path::Path) {
        let name = &member.name;
        match self.spread_journal(name, &member.volume_id, folder) {
            Ok(count) => {
                self.carrying.troubles.remove(&member.volume_id, folder);
                if count > 0 {
                    tracing::warn!(
                        volume = name,
                        instances_count = count,
                        "instances waited in the intake journal of a volume that is away; they are on others now"
                    );
                }
            }
            Err(reason) => {
                tracing::error!(
                    volume = name,
                    reason,
                    "instances stay in the intake journal of a volume that is away"
                );
                self.journal_is_stuck(&member.volume_id, folder, reason);
            }
        }
        self.note_aside(&member.volume_id, folder);
    }

    fn spread_journal(
        &self,
        name: &str,
        volume_id: &str,
        folder: &std::path::Path,
    ) -> Result<usize, String> {
        let words = |error: JournalError| error.to_string();
        let opened = Journal::open_existing(&self.disk, folder, volume_id).map_err(words)?;
        let Some((journal, replay)) = opened else {
            return Ok(0);
        };
        let records = records_of(volume_id, &replay)?;
        self.spread(&journal, &records, &Listed::default())?;
        match replay.damaged.len() {
            0 => journal.settle().map_err(words)?,
            count => {
                let aside = journal.set_aside().map_err(words)?;
                tracing::error!(
                    volume = name,
                    aside = %aside.display(),
                    records_count = count,
                    "records of the intake journal are damaged: instances that were answered may be lost"
                );
            }
        }
        Ok(records.len())
    }
}

/// How a journal is read that was not read at the start.
#[derive(Debug, Clone, Copy)]
pub struct Late {
    /// Any line of the ledger may be younger than its records, not only the newest.
    pub whole_ledger: bool,
    /// All volumes are open.
    pub may_spread: bool,
}

/// A record that was found in a journal, and what it says.
struct Record {
    number: u64,
    about: About,
    stored: Stored,
}

fn records_of(volume_id: &str, replay: &Replay) -> Result<Vec<Record>, String> {
    let records = replay.records.iter().map(|found| {
        let about: About = serde_json::from_slice(&found.about)
            .map_err(|error| format!("record {}: {error}", found.number))?;
        let stored = stored_of(volume_id, &about)?;
        Ok(Record {
            number: found.number,
            about,
            stored,
        })
    });
    records.collect()
}

/// What a ledger says of the instances that are in a journal.
#[derive(Default)]
struct Listed {
    /// By SOP Instance UID; only those that the journal has.
    lines: HashMap<String, Vec<ListedFile>>,
}

#[derive(serde::Deserialize)]
struct ListedFile {
    seq: u64,
    stored: String,
    #[serde(default)]
    file: Option<String>,
    size: u64,
    file_crc32: String,
}

impl Listed {
    /// Some may have been carried over already: the last mark of that was not durable.
    fn read(
        volume: &Volume<Line>,
        records: &[Record],
        late: Late,
    ) -> Result<Listed, crate::volume::LedgerError> {
        let sops = records.iter().map(|record| &record.stored.instance);
        let sops = sops.map(|instance| (instance.sop_instance_uid.clone(), Vec::new()));
        let mut listed = Listed {
            lines: sops.collect(),
        };
        let folder = volume.ledger_folder(volume.id());
        let segments = match late.whole_ledger {
            true => usize::MAX,
            false => 2,
        };
        ledger_extent::read_last_segments(volume.disk(), &folder, segments, &mut |json| {
            if let Ok(line) = serde_json::from_str::<ListedFile>(json)
                && let Some(of_sop) = listed.lines.get_mut(&line.stored)
            {
                of_sop.push(line);
            }
        })?;
        Ok(listed)
    }

    fn of(&self, stored: &Stored) -> &[ListedFile] {
        let lines = self.lines.get(&stored.instance.sop_instance_uid);
        lines.map_or(&[], Vec::as_slice)
    }

    /// It was carried over, or the same bytes were sent again later.
    fn has(&self, stored: &Stored) -> bool {
        let (sequence, copy) = (stored.instance.sequence, &stored.instance.copy);
        let crc32 = format!("{:08x}", copy.file_crc32);
        self.of(stored).iter().any(|line| {
            let is_same = (line.size, &line.file_crc32) == (copy.size_bytes, &crc32);
            line.seq == sequence || line.seq > sequence && is_same
        })
    }

    /// Its path stands for something else.
    fn has_path(&self, stored: &Stored) -> bool {
        let path = &stored.instance.copy.path;
        let is_it = |line: &ListedFile| match &line.file {
            Some(file) => file == path,
            None => path.ends_with(&format!("/{}", layout::file_name(&line.stored))),
        };
        self.of(stored).iter().any(is_it)
    }

    /// Gives it a path that stands for nothing yet.
    fn rename(&self, volume: &Volume<Line>, stored: &mut Stored) -> Result<(), VolumeError> {
        let first = stored.instance.copy.path.clone();
        let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
        for attempt in 0..ALTERNATIVES_MAX {
            let instance = &stored.instance;
            let (sop, crc32) = (&instance.sop_instance_uid, instance.copy.crc32);
            let name = layout::alternative_file_name(sop, crc32, attempt);
            stored.instance.copy.path = format!("{folder}/{name}");
            if !self.has_path(stored) && volume.is_free(&stored.instance.copy.path)? {
                return Ok(());
            }
        }
        Err(VolumeError::NameTaken { path: first })
    }
}

/// The statement that a record's lines make.
fn stored_of(volume_id: &str, about: &About) -> Result<Stored, String> {
    let mut reader = Reader::new(volume_id);
    for (_, line) in &about.once {
        reader.line(line, &Nothing)?;
    }
    match reader.line(&about.line, &Nothing)? {
        Some(Change::Stored(stored)) if stored.instance.copy.path == about.path => Ok(stored),
        _ => Err("a record of the journal has another line than it should".to_owned()),
    }
}

/// A record has all of its lines.
struct Nothing;

impl Known for Nothing {
    fn study(&self, _: &str, _: u64) -> Option<crate::index::StudyFacts> {
        None
    }

    fn series(&self, _: &str, _: &str, _: u64) -> Option<crate::index::SeriesFacts> {
        None
    }
}
