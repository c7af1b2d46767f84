//! By which way instances come in on a volume, and why: each flushed by itself, or through an intake journal.
//!
//! Decided when the volume is opened, from what its disk was measured to be then ([`Archive::choose_way`]), by a function of
//! numbers alone ([`decide`]).

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{IntakeMode, JOURNAL_BYTES_MIN};
use crate::volume::journal::FILE;
use crate::volume::{Space, Volume, measure};

use super::{Archive, Line};

/// A disk whose flush takes longer than this is written through a journal. Measured with `benches/ingest.rs`: at 0.13 ms the
/// direct way is 1.6 times as fast, at 0.46 ms the journal is, by 1.1 (16 associations) to 1.9 times (1).
const SLOW_FLUSH: Duration = Duration::from_micros(300);
/// Where a journal is already it stays down to this: a disk that is now above and now below would have one made and removed
/// at every other start.
const NOT_SLOW_FLUSH: Duration = Duration::from_micros(200);
/// Flushes in a row that an instance waits for on the direct way, at least: bytes, name, ledger line.
const FLUSHES_DIRECT: u32 = 3;
/// A journal on the volume itself takes no more of it than this part.
const SHARE: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// File, name and ledger line, each with a flush.
    Direct,
    /// Through an intake journal: one flush, shared by everyone who waits.
    Journal,
}

/// The way in of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WayIn {
    pub way: Way,
    /// In words.
    pub reason: String,
    /// It was to go through a journal, and there is none.
    #[serde(default)]
    pub lacks_journal: bool,
    /// Of the volume's disk when the volume was opened, in microseconds. `None`: nothing depended on it.
    pub flush_us: Option<u64>,
    /// Of the journal's disk, where that is another one.
    pub journal_flush_us: Option<u64>,
}

impl WayIn {
    /// It was to go through a journal, and cannot.
    pub(super) fn no_journal(&self, why: &str) -> WayIn {
        WayIn {
            way: Way::Direct,
            reason: format!("{}, but there is no journal: {why}", self.reason),
            lacks_journal: true,
            ..self.clone()
        }
    }
}

/// All that the way in depends on.
#[derive(Debug, Clone)]
struct Facts {
    mode: IntakeMode,
    /// Of the volume. An error: why it is not known.
    flush: Result<Duration, String>,
    /// Of the folder of a journal that is not on the volume.
    journal_flush: Option<Result<Duration, String>>,
    has_journal: bool,
    /// Why there is no room for a journal, if so.
    no_room: Option<String>,
    retired: bool,
}

fn decide(facts: &Facts) -> WayIn {
    let micros = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let journal_flush = facts.journal_flush.as_ref();
    let measured = facts.mode == IntakeMode::Auto;
    let way_in = |way, reason: String| WayIn {
        way,
        reason,
        lacks_journal: false,
        flush_us: facts.flush.as_ref().ok().filter(|_| measured).map(micros),
        journal_flush_us: journal_flush
            .filter(|_| measured)
            .and_then(|time| time.as_ref().ok().map(micros)),
    };
    let through_journal = |reason: String| {
        let way_in = way_in(Way::Journal, reason);
        match &facts.no_room {
            Some(why) => way_in.no_journal(why),
            None => way_in,
        }
    };
    match facts.mode {
        IntakeMode::Direct => return way_in(Way::Direct, "configured".to_owned()),
        IntakeMode::Journal => return through_journal("configured".to_owned()),
        IntakeMode::Auto => {}
    }
    if facts.retired {
        return way_in(Way::Direct, "it is retired".to_owned());
    }
    let flush = match &facts.flush {
        Ok(flush) => *flush,
        // As it was.
        Err(why) => {
            let reason = format!("how long a flush takes is not known ({why})");
            return match facts.has_journal {
                true => through_journal(reason),
                false => way_in(Way::Direct, reason),
            };
        }
    };
    let takes = format!("a flush takes {}", milliseconds(flush));
    let bound = match facts.has_journal {
        true => NOT_SLOW_FLUSH,
        false => SLOW_FLUSH,
    };
    if flush <= bound {
        return way_in(Way::Direct, takes);
    }
    match journal_flush {
        Some(Ok(time)) if *time >= flush * FLUSHES_DIRECT => {
            let reason = format!("{takes}, one of the journal's disk {}", milliseconds(*time));
            way_in(Way::Direct, reason)
        }
        Some(Err(why)) => through_journal(takes).no_journal(why),
        _ => through_journal(takes),
    }
}

/// `11.2 ms`.
pub(super) fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    match ms {
        ..0.01 => "less than 0.01 ms".to_owned(),
        ..1.0 => format!("{ms:.2} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

/// Bytes of a new journal on the volume itself, else why there is no room for one.
fn size_on_volume(wanted: u64, space: Space, reserve: u64) -> Result<u64, String> {
    let size = wanted.min(space.total_bytes / SHARE);
    if size < JOURNAL_BYTES_MIN {
        return Err("the disk is too small for one".to_owned());
    }
    match space.free_bytes >= reserve.saturating_add(size) {
        true => Ok(size),
        false => Err("the disk is full".to_owned()),
    }
}

impl Archive {
    /// Measures what the way in depends on and decides it; with the bytes of the journal, if it is to have one.
    pub(super) fn choose_way(&self, volume: &Volume<Line>, folder: &Path) -> (WayIn, u64) {
        let mode = self.intake_config.mode(volume.name());
        let size = self.size_of_journal(volume, folder);
        let retired = self.shelf.by_id(volume.id()).is_some_and(|m| m.retired);
        let measures = mode == IntakeMode::Auto && !retired;
        let not_measured = || Err("not measured".to_owned());
        let flush = match measures {
            true => volume.flush_time().map_err(|error| error.to_string()),
            false => not_measured(),
        };
        let is_elsewhere = !folder.starts_with(volume.root());
        let is_slow = matches!(flush, Ok(flush) if flush > NOT_SLOW_FLUSH);
        let journal_flush = (is_elsewhere && is_slow && size.is_ok()).then(|| {
            // The volume's own folder in it may not be there yet.
            let parent = folder.parent().unwrap_or(folder);
            let name = format!("{}.flush", volume.id());
            measure::rewrite_time(&self.disk, parent, &name).map_err(|error| error.to_string())
        });
        let facts = Facts {
            mode,
            flush,
            journal_flush,
            has_journal: self.has_journal(folder),
            no_room: size.as_ref().err().cloned(),
            retired,
        };
        (decide(&facts), size.unwrap_or(0))
    }

    pub(super) fn has_journal(&self, folder: &Path) -> bool {
        let entry = self.disk.entry(&folder.join(FILE));
        entry.ok().flatten().is_some()
    }

    /// Bytes that a journal has or gets; else why there is no room for one.
    fn size_of_journal(&self, volume: &Volume<Line>, folder: &Path) -> Result<u64, String> {
        let size = self.intake_config.size_bytes;
        let is_elsewhere = !folder.starts_with(volume.root());
        if let Some(parent) = folder.parent().filter(|_| is_elsewhere)
            && !matches!(self.disk.entry(parent), Ok(Some(_)))
        {
            let parent = parent.display();
            return Err(format!(
                "{parent} is not there; make it, or mount its disk, and start again"
            ));
        }
        if is_elsewhere || self.has_journal(folder) {
            return Ok(size);
        }
        let space = volume.space().map_err(|error| error.to_string())?;
        size_on_volume(size, space, self.reserve.bytes(space.total_bytes))
    }
}

#[cfg(test)]
mod tests;
