//! Who changed what, and when: a line for each change that a person or a program asked for.
//!
//! `<state>/audit/YYYY-MM.jsonl`, a file for each month (UTC), only ever appended to. Each line holds a digest of itself
//! and that of the line before it (`chain`): a line that was changed, taken out or put in later does not fit any more.
//! Nothing of it is kept in memory, so that a server and a verb beside it may both write.

mod chain;
mod reading;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::volume::io::Disk;

pub use chain::Change;
pub use reading::{Verified, list, verify};

const FOLDER: &str = "audit";
const END: &str = ".jsonl";
/// Held while a line is appended.
const LOCK: &str = "lock";
/// So long a line waits for who writes another one.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Longest text of what was asked for and of what was answered, bytes; the rest is cut off.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Longest line, bytes: both texts, each character of them written as an escape at worst.
const LINE_BYTES_MAX: u64 = 128 << 10;
const NAMES_MAX: usize = 100_000;

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// A user of this machine, of the page, or the name of a token.
    pub name: String,
    /// `command line`, or the address of the browser or program.
    pub from: String,
    /// May look, and change nothing.
    pub read_only: bool,
}

impl Who {
    /// Of this process.
    pub fn here() -> Who {
        let uid = rustix::process::getuid().as_raw();
        Who::of_user(uid)
    }

    /// Of a program on this machine.
    pub fn of_user(uid: u32) -> Who {
        Who {
            name: format!("user {uid}"),
            from: "command line".to_owned(),
            read_only: false,
        }
    }
}

pub struct Audit {
    disk: Disk,
    folder: PathBuf,
}

impl Audit {
    pub fn open(state: &Path) -> Audit {
        Audit {
            disk: Disk::default(),
            folder: state.join(FOLDER),
        }
    }

    /// `what`: the request, without anything secret; `outcome`: what was answered, in a few words. Durable on return. What
    /// cannot be written is said in the log, and the change stands: it was made before.
    pub fn note(&self, who: &Who, what: &str, outcome: &str) {
        let change = Change {
            at: now(),
            who: cut(&who.name),
            from: cut(&who.from),
            what: cut(what),
            outcome: cut(outcome),
            previous: String::new(),
        };
        match self.append(change) {
            // The log is kept elsewhere: who changes the files has to change it, too. No name of a patient gets there.
            Ok(digest) => tracing::info!(who = who.name, from = who.from, %digest, "a change"),
            Err(error) => {
                tracing::error!(who = who.name, from = who.from, folder = %self.folder.display(), %error,
                "a change was made, and its line cannot be written to the audit")
            }
        }
    }

    /// The digest of the line.
    fn append(&self, mut change: Change) -> std::io::Result<String> {
        let disk = &self.disk;
        disk.create_dir_durable(&self.folder)?;
        let lock = disk.open_or_create(&self.folder.join(LOCK))?;
        let begun = Instant::now();
        while !lock.try_lock()? {
            if begun.elapsed() > LOCK_PATIENCE {
                return Err(std::io::Error::other("another process holds its lock"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let month = change.at.get(..7).unwrap_or("0000-00");
        let path = self.folder.join(format!("{month}{END}"));
        let months = reading::months(disk, &self.folder)?;
        let last = reading::last_digest(disk, &self.folder, &months)?;
        change.previous = last.unwrap_or_else(|| chain::NOTHING.to_owned());
        let (line, digest) = change.line();
        let is_new = disk.entry(&path)?.is_none();
        let file = disk.open_or_create(&path)?;
        if is_new {
            file.set_private()?;
        }
        let length = file.len()?;
        let mut bytes = Vec::with_capacity(line.len() + 2);
        let mut end = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut end, length - 1)?;
        }
        if end != [b'\n'] {
            // What a crash cut off stays alone.
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let written = file
            .write_at(length, &bytes)
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // On a full disk a part may be there.
            drop(file.set_len(length));
            return Err(error);
        }
        if is_new {
            disk.sync_dir(&self.folder)?;
        }
        Ok(digest)
    }
}

/// To the second, RFC 3339 UTC.
fn now() -> String {
    let second = jiff::Timestamp::now().as_second();
    let now = jiff::Timestamp::from_second(second).unwrap_or_default();
    now.to_string()
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut ends = (0..=TEXT_BYTES_MAX).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
