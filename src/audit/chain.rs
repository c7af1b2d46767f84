//! A line of the audit: what it says, the digest of the line before, and its own.
//!
//! ```text
//! {"at":"2026-11-22T08:20:00Z","who":"user 0",…,"previous":"<64 hex digits>","hash":"<64 hex digits>"}
//! ```
//!
//! `hash` is the SHA-256 of the line without its last member: of the bytes up to `,"hash"`, and `}`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::{Event, Kind};

/// What the first line of all has as the digest before it.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const MEMBER: &str = ",\"hash\":\"";
const DIGEST_LENGTH: usize = NOTHING.len();

/// One line: a change that was asked for, or another event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Entry {
    /// RFC 3339 UTC, to the second.
    pub at: String,
    /// A user of this machine or of the page, `token NAME`, an AE title; `kura`: the server by itself.
    pub who: String,
    /// `command line`, `this server`, or an address.
    pub from: String,
    /// The request as JSON, or words.
    pub what: String,
    /// `done`, what was answered, or why it was not done.
    pub outcome: String,
    /// Absent in lines of earlier versions: changes, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Digest of the line before.
    pub previous: String,
}

impl Entry {
    pub fn kind(&self) -> Kind {
        self.event.as_ref().map_or(Kind::Change, |event| event.kind)
    }

    /// What it was about, on one line.
    pub fn said(&self) -> String {
        let mut text = self.what.clone();
        let Some(event) = &self.event else {
            return text;
        };
        let mut add = |part: String| {
            text.push_str(", ");
            text.push_str(&part);
        };
        match event.instances_count {
            0 => {}
            1 => add("1 instance".to_owned()),
            count => add(format!("{count} instances")),
        }
        for study in &event.studies {
            add(format!("study {study}"));
        }
        for patient in &event.patients {
            add(format!("patient {patient}"));
        }
        if event.times > 1 {
            add(format!("{} times", event.times));
        }
        text
    }

    /// The line without its end, and its digest.
    pub(super) fn line(&self) -> (String, String) {
        let text = serde_json::to_string(self).expect("strings always serialize");
        let digest = digest(&text);
        let open = text.strip_suffix('}').unwrap_or(&text);
        (format!("{open}{MEMBER}{digest}\"}}"), digest)
    }
}

/// What a line turns out to be.
pub(super) enum Line {
    /// Whole and unchanged, with its digest.
    Good(Box<Entry>, String),
    /// The digest it gives is not its own: it was changed after it was written.
    Changed(String),
    /// Not a line of ours; a crash may have cut it off.
    Broken,
}

pub(super) fn read(line: &str) -> Line {
    let Some((text, given)) = parts(line) else {
        return Line::Broken;
    };
    if digest(&text) != given {
        return Line::Changed(given.to_owned());
    }
    match serde_json::from_str(&text) {
        Ok(entry) => Line::Good(Box::new(entry), given.to_owned()),
        Err(_) => Line::Broken,
    }
}

/// What the digest is of, and the digest as the line says it.
fn parts(line: &str) -> Option<(String, &str)> {
    let rest = line.strip_suffix("\"}")?;
    let cut = rest.len().checked_sub(DIGEST_LENGTH)?;
    let (before, given) = (rest.get(..cut)?, rest.get(cut..)?);
    let is_digest = is_digest(given);
    let text = before.strip_suffix(MEMBER)?;
    is_digest.then(|| (format!("{text}}}"), given))
}

/// 64 hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_LENGTH && text.bytes().all(|c| c.is_ascii_hexdigit())
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
