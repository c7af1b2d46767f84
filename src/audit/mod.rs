//! The audit trail: who stored, read, moved, changed and deleted what, and when.
//!
//! `<state>/audit/YYYY-MM.jsonl`, a file for each month (UTC), only ever appended to. Each line holds a digest of itself
//! and that of the line before it (`chain`): a line that was changed, taken out or put in later does not fit any more.
//! Nothing of it is kept in memory, so that a server and a verb beside it may both write.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | who asks; a change is noted before it is answered |
//! | `event` | the kinds of events, and what a line of each says |
//! | `waiting` | other events wait here, in memory, the same ones of some seconds together, until they are written |
//! | `query` | what is said of a query, and what is not |
//! | `chain` | one line, and its digest |
//! | `writing` | lines appended to the files; the oldest files removed |
//! | `reading` | looking for lines, the newest first; reading all of them again |
//! | `message` | a line as an audit message of the standard (PS3.15 A.5) |
//! | `export` | these messages to another server, from where they were the last time |
//! | `syslog` | the way there: UDP, TCP, TLS |

mod chain;
mod event;
mod export;
mod message;
mod query;
mod reading;
mod syslog;
mod waiting;
mod writing;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::volume::io::Disk;

use export::Export;
use waiting::Waiting;
use writing::Files;

pub use chain::Entry;
pub use event::{Event, Kind};
pub use export::ExportStatus;
pub use message::Source;
pub use query::{Query, query};
pub use reading::{ListEnd, Verified, Wanted, list, messages, verify};

const FOLDER: &str = "audit";
const END: &str = ".jsonl";
/// Longest text of what was asked for and of what was answered, bytes; the rest is cut off.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Longest name of who asked, and of from where, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest line, bytes: all texts, each character of them written as an escape at worst.
const LINE_BYTES_MAX: u64 = 192 << 10;
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

    /// The server, by itself: by a rule, or by the clock.
    pub fn server() -> Who {
        Who {
            name: "kura".to_owned(),
            from: "this server".to_owned(),
            read_only: false,
        }
    }

    /// Another DICOM application.
    pub fn peer(ae_title: &str, address: &str) -> Who {
        Who {
            name: ae_title.to_owned(),
            from: address.to_owned(),
            read_only: true,
        }
    }
}

/// How writing and exporting stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct AuditStatus {
    /// Events that are not written yet.
    pub waiting_count: u64,
    /// That could not be noted since the start; the audit itself says so as soon as it can be written again.
    pub lost_count: u64,
    /// Why it cannot be written at the moment; empty: it can.
    pub failure: String,
    /// Absent where messages go nowhere.
    pub export: Option<ExportStatus>,
}

impl AuditStatus {
    /// What is wrong and what to do, a sentence each.
    pub fn actions(&self) -> Vec<String> {
        let mut actions = Vec::new();
        if !self.failure.is_empty() {
            actions.push(format!(
                "the audit cannot be written: {}; look at the disk of the state folder",
                self.failure
            ));
        }
        actions.extend(self.export.as_ref().and_then(ExportStatus::action));
        actions
    }
}

pub struct Audit {
    waiting: Arc<Waiting>,
    files: Files,
    export: Arc<Export>,
}

impl Audit {
    /// For verbs: nothing is exported, and everything is kept.
    pub fn open(state: &Path) -> Audit {
        Audit::with(state, config::Audit::default(), Source::default())
    }

    pub fn with(state: &Path, config: config::Audit, source: Source) -> Audit {
        let files = Files::new(Disk::default(), state, config.keep_days);
        Audit {
            waiting: Arc::default(),
            export: Arc::new(Export::new(files.clone(), config, source)),
            files,
        }
    }

    /// By which the Patient ID of a study is found, for lines that name only the study. It is called by the thread that
    /// writes, and may take its time.
    pub fn knows(&self, patient_of: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        self.waiting.knows(Box::new(patient_of));
    }

    /// From now on, of another reading of the configuration.
    pub fn set(&self, config: config::Audit) {
        self.files.keep(config.keep_days);
        self.export.set(config);
        self.note_turn();
    }

    fn note_turn(&self) {
        if let Some((what, event)) = self.export.turn() {
            self.note(&Who::server(), &what, "done", event);
        }
    }

    /// Messages go out, and old lines are removed, while the server runs.
    pub fn start(&self) -> std::io::Result<()> {
        self.note_turn();
        self.waiting.may_cut_off(self.export.clone());
        self.export.clone().start()
    }

    /// `what`: the request, without anything secret; `outcome`: what was answered, in a few words. Durable on return. What
    /// cannot be written is said in the log, and the change stands: it was made before.
    pub fn note(&self, who: &Who, what: &str, outcome: &str, event: Event) {
        let entry = entry(who, what, outcome, event);
        match self.files.append(vec![entry]) {
            // The log is kept elsewhere: who changes the files has to change it, too. No name of a patient gets there.
            Ok(digest) => {
                tracing::info!(who = who.name, from = who.from, %digest, "a change");
                self.export.wake();
            }
            Err(error) => {
                self.waiting.lost(1);
                tracing::error!(who = who.name, from = who.from, folder = %self.files.folder.display(), %error,
                "a change was made, and its line cannot be written to the audit")
            }
        }
    }

    /// An event that nobody waits for: it is written within a moment, with others.
    pub fn tell(&self, who: &Who, what: &str, outcome: &str, event: Event) {
        let entry = entry(who, what, outcome, event);
        self.waiting.push(entry, &self.files, &self.export);
    }

    /// As [`Audit::tell`], for what comes often: the same of the same within some seconds is one line, which says how often.
    pub fn gather(&self, who: &Who, what: &str, outcome: &str, event: Event) {
        let entry = entry(who, what, outcome, event);
        self.waiting.gather(entry, &self.files, &self.export);
    }

    /// Until what was told before is written, for a while.
    pub fn settle(&self) {
        self.waiting.settle();
    }

    /// Writes what waits, sends what can be sent, and ends; bounded.
    pub fn stop(&self) {
        self.waiting.stop(&self.files);
        self.export.stop();
    }

    pub fn status(&self) -> AuditStatus {
        let (waiting_count, lost_count, failure) = self.waiting.status();
        AuditStatus {
            waiting_count,
            lost_count,
            failure,
            export: self.export.status(),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.stop();
    }
}

fn entry(who: &Who, what: &str, outcome: &str, mut event: Event) -> Entry {
    event.cut();
    Entry {
        at: now(),
        who: cut(&who.name, NAME_BYTES_MAX),
        from: cut(&who.from, NAME_BYTES_MAX),
        what: cut(what, TEXT_BYTES_MAX),
        outcome: cut(outcome, TEXT_BYTES_MAX),
        event: Some(event),
        previous: String::new(),
    }
}

/// To the second, RFC 3339 UTC.
fn now() -> String {
    second(jiff::Timestamp::now())
}

fn second(moment: jiff::Timestamp) -> String {
    let moment = jiff::Timestamp::from_second(moment.as_second());
    moment.unwrap_or_default().to_string()
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut ends = (0..=bytes_max).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
