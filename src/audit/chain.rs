//! A line of the audit: what it says, the digest of the line before, and its own.
//!
//! ```text
//! {"at":"2026-11-22T08:20:00Z","who":"user 0",…,"previous":"<64 hex digits>","hash":"<64 hex digits>"}
//! ```
//!
//! `hash` is the SHA-256 of the line without its last member: of the bytes up to `,"hash"`, and `}`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the first line of all has as the digest before it.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const MEMBER: &str = ",\"hash\":\"";
const DIGEST_LENGTH: usize = NOTHING.len();

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// RFC 3339 UTC.
    pub at: String,
    pub who: String,
    /// `command line`, or an address.
    pub from: String,
    /// The request as JSON, or words.
    pub what: String,
    /// `done`, what was answered, or why it was not done.
    pub outcome: String,
    /// Digest of the line before.
    pub previous: String,
}

impl Change {
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
    Good(Change, String),
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
        Ok(change) => Line::Good(change, given.to_owned()),
        Err(_) => Line::Broken,
    }
}

/// What the digest is of, and the digest as the line says it.
fn parts(line: &str) -> Option<(String, &str)> {
    let rest = line.strip_suffix("\"}")?;
    let cut = rest.len().checked_sub(DIGEST_LENGTH)?;
    let (before, given) = (rest.get(..cut)?, rest.get(cut..)?);
    let is_digest = given.bytes().all(|c| c.is_ascii_hexdigit());
    let text = before.strip_suffix(MEMBER)?;
    is_digest.then(|| (format!("{text}}}"), given))
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
