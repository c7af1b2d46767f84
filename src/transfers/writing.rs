//! The files of the journal: `<state>/journal/YYYY-MM-DD.jsonl`, one for each local day, lines of JSON.
//!
//! A line goes where the moment says at which its transfer ended, so that midnight needs no attention. Files are opened
//! for each write: a folder that somebody moved away or emptied is made again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::civil::Date;

use super::Transfer;
use crate::volume::io::Disk;

pub(super) const FOLDER: &str = "journal";
const END: &str = ".jsonl";
/// Names looked at in the folder.
const NAMES_MAX: usize = 100_000;

#[derive(Clone)]
pub(super) struct Files {
    disk: Disk,
    pub folder: PathBuf,
    keep_days: Arc<AtomicU64>,
    /// The day on which old files were removed last.
    tidied: Option<Date>,
    /// That could not be written, since one last was.
    lost_count: u64,
}

pub(super) fn file_name(day: Date) -> String {
    format!("{day}{END}")
}

/// `YYYY-MM-DD.jsonl`; nothing else in the folder is ours.
pub(super) fn day_of(name: &str) -> Option<Date> {
    let day: Date = name.strip_suffix(END)?.parse().ok()?;
    (file_name(day) == name).then_some(day)
}

impl Files {
    pub fn new(disk: Disk, state: &Path, keep_days: Arc<AtomicU64>) -> Files {
        Files {
            disk,
            folder: state.join(FOLDER),
            keep_days,
            tidied: None,
            lost_count: 0,
        }
    }

    /// `lost_count`: lines that were given up before this batch. What cannot be written is lost, too, and said once.
    pub fn append(&mut self, batch: &[Transfer], lost_count: u64) {
        let mut days: BTreeMap<Date, (u64, String)> = BTreeMap::new();
        for transfer in batch {
            let Ok(line) = serde_json::to_string(transfer) else {
                continue;
            };
            let (count, text) = days.entry(local_day(&transfer.at)).or_default();
            *count += 1;
            text.push_str(&line);
            text.push('\n');
        }
        let before = self.lost_count;
        self.lost_count += lost_count;
        for (day, (count, text)) in &days {
            match self.write(*day, text) {
                Ok(()) if self.lost_count > 0 => {
                    tracing::warn!(
                        lines_count = self.lost_count,
                        "the journal of transfers is written again; lines are missing"
                    );
                    self.lost_count = 0;
                }
                Ok(()) => {}
                Err(error) => {
                    if before == 0 && self.lost_count == lost_count {
                        tracing::error!(folder = %self.folder.display(), %error,
                            "the journal of transfers cannot be written; images come and go as before, lines are lost");
                    }
                    self.lost_count += count;
                }
            }
        }
        let today = jiff::Zoned::now().date();
        if self.tidied != Some(today) {
            self.tidied = Some(today);
            self.tidy(today);
        }
    }

    fn write(&self, day: Date, text: &str) -> io::Result<()> {
        self.disk.create_dir_durable(&self.folder)?;
        let path = self.folder.join(file_name(day));
        self.disk.append_lines(&path, text.as_bytes(), false)
    }

    /// Removes the files of days that are over for longer than they are kept.
    fn tidy(&self, today: Date) {
        let days = i64::try_from(self.keep_days.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        let Some(first) = jiff::Span::new()
            .try_days(days)
            .and_then(|span| today.checked_sub(span))
            .ok()
        else {
            return;
        };
        let names = self.disk.list(&self.folder, NAMES_MAX).unwrap_or_default();
        for name in names {
            let is_old = name
                .to_str()
                .and_then(day_of)
                .is_some_and(|day| day < first);
            if is_old && let Err(error) = self.disk.remove(&self.folder.join(&name)) {
                tracing::warn!(file = ?name, %error, "an old file of the journal of transfers stays");
            }
        }
    }
}

/// Today where the text is no moment.
pub(super) fn local_day(at: &str) -> Date {
    let moment = at.parse::<jiff::Timestamp>();
    let zoned = moment.map(|moment| moment.to_zoned(jiff::tz::TimeZone::system()));
    zoned.unwrap_or_else(|_| jiff::Zoned::now()).date()
}
