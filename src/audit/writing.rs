//! Lines appended to the files of the audit, and the oldest files removed where the configuration says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::civil::Date;

use super::chain::{self, Entry};
use super::event::{Event, Kind};
use super::{END, FOLDER, Who, reading};
use crate::volume::io::{Disk, DiskFile};

/// Held while lines are appended.
const LOCK: &str = "lock";
/// So long a line waits for who writes others.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Files {
    pub disk: Disk,
    pub folder: PathBuf,
    /// 0: for ever.
    keep_days: Arc<AtomicU64>,
}

impl Files {
    pub fn new(disk: Disk, state: &Path, keep_days: u64) -> Files {
        Files {
            disk,
            folder: state.join(FOLDER),
            keep_days: Arc::new(AtomicU64::new(keep_days)),
        }
    }

    pub fn keep(&self, days: u64) {
        self.keep_days.store(days, Ordering::Relaxed);
    }

    fn lock(&self) -> io::Result<DiskFile> {
        self.disk.create_dir_durable(&self.folder)?;
        let lock = self.disk.open_or_create(&self.folder.join(LOCK))?;
        let begun = Instant::now();
        while !lock.try_lock()? {
            if begun.elapsed() > LOCK_PATIENCE {
                return Err(io::Error::other("another process holds its lock"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(lock)
    }

    /// All of them with one flush, or none; the digest of the last.
    pub fn append(&self, entries: Vec<Entry>) -> io::Result<String> {
        let _lock = self.lock()?;
        self.append_locked(entries)
    }

    fn append_locked(&self, mut entries: Vec<Entry>) -> io::Result<String> {
        let disk = &self.disk;
        let months = reading::months(disk, &self.folder)?;
        let last = reading::last_digest(disk, &self.folder, &months)?;
        let mut previous = last.unwrap_or_else(|| chain::NOTHING.to_owned());
        let now = entries.last().map_or("", |entry| entry.at.as_str());
        let name = format!("{}{END}", now.get(..7).unwrap_or("0000-00"));
        // Never into a file before the last one, also when the clock was set back: the chain goes through the files in the
        // order of their names.
        let name = months.last().map_or(&name, |newest| newest.max(&name));
        let path = self.folder.join(name);
        let mut bytes = Vec::new();
        for entry in &mut entries {
            entry.previous = previous;
            let (line, digest) = entry.line();
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            previous = digest;
        }
        disk.append_lines(&path, &bytes, true)?;
        Ok(previous)
    }

    /// Removes the files of months that are over for longer than they are kept, the oldest first; the audit itself says
    /// before which line. `sent`: name of the file up to which everything was exported; `None`: all.
    pub fn cut_off(&self, today: Date, sent: Option<&str>) -> io::Result<()> {
        let days = self.keep_days.load(Ordering::Relaxed);
        let span = i64::try_from(days).map_err(io::Error::other)?;
        let first = jiff::Span::new()
            .try_days(span)
            .and_then(|span| today.checked_sub(span));
        let Ok(first) = first.map(|day| day.strftime(&format!("%Y-%m{END}")).to_string()) else {
            return Ok(());
        };
        if days == 0 {
            return Ok(());
        }
        let _lock = self.lock()?;
        let months = reading::months(&self.disk, &self.folder)?;
        let is_old =
            |name: &&String| **name < first && sent.is_none_or(|sent| name.as_str() < sent);
        let old: Vec<String> = months.iter().take_while(is_old).cloned().collect();
        let Some(last) = old.last() else {
            return Ok(());
        };
        let digest = reading::last_digest(&self.disk, &self.folder, &old)?;
        let what = format!(
            "the lines of {} and before were removed: they are kept for {days} days",
            last.trim_end_matches(END)
        );
        let event = Event {
            digest: digest.unwrap_or_else(|| chain::NOTHING.to_owned()),
            ..Event::new(Kind::AuditCut)
        };
        // First the line, then the files: a crash between the two leaves both, and the next day goes on.
        self.append_locked(vec![super::entry(&Who::server(), &what, "done", event)])?;
        for name in &old {
            self.disk.remove(&self.folder.join(name))?;
        }
        tracing::info!(files_count = old.len(), "{what}");
        self.disk.sync_dir(&self.folder)
    }
}
