//! The records of the outbox.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// How a study stands with a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub patient_id: String,
    pub study_date: String,
    /// By which it goes; empty: the default, or by hand.
    pub rule: String,
    /// Somebody asked for it last, not a rule: none has to be there for it, also when it is sent again.
    pub by_hand: bool,
    /// Somebody asked for it now, whatever the hour, by its rule.
    pub at_once: bool,
    /// Archive-wide numbers of the instances that the peer is to have.
    pub wanted: Ranges,
    /// Of these, what it has confirmed.
    pub confirmed: Ranges,
    /// Of these, what it does not take: not tried again by itself.
    pub not_taken: Ranges,
    pub status: Option<u16>,
    pub reason: String,
    /// When the last instance was added, milliseconds since 1970, as all times here.
    pub noted: i64,
    /// Since when it waits, or fails.
    pub since: i64,
    /// After a failure; not before.
    pub next_try: Option<i64>,
    /// In a row.
    pub failures: u32,
    /// Not tried any more by itself.
    pub given_up: bool,
    /// When all of it was there last.
    pub done: Option<i64>,
    /// What the peer said that it holds.
    pub delivered: Option<u64>,
    /// Whether it keeps it, where it is asked that.
    pub commitment: Option<KeptCommitment>,
}

/// How storage commitment of a study stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptCommitment {
    /// Of what the peer confirmed, what it says that it keeps.
    pub committed: Ranges,
    /// The open question: its Transaction UID, and the numbers of the instances that it names.
    pub question: Option<(String, Ranges)>,
    /// When it was asked first; 0: not yet.
    pub since: i64,
    /// When it is asked (again), or the open question is not waited for any longer.
    pub due: i64,
    /// Without success, in a row.
    pub tries: u32,
    /// Not asked any more by itself.
    pub ended: bool,
    /// Why it is not committed, in words.
    pub reason: String,
}

impl Kept {
    /// What is still to be sent.
    pub fn open(&self) -> Ranges {
        self.wanted.without(&[&self.confirmed, &self.not_taken])
    }

    pub fn is_open(&self) -> bool {
        // Neither has a number that is not wanted, or that the other has.
        self.confirmed.count() + self.not_taken.count() < self.wanted.count()
    }

    /// Nothing is to be sent, asked or decided any more.
    pub fn is_done(&self) -> bool {
        let commitment = self.commitment.as_ref();
        let asks =
            |one: &KeptCommitment| !one.ended && one.committed.count() < self.confirmed.count();
        !self.is_open()
            && !self.given_up
            && !self.is_not_committed()
            && !commitment.is_some_and(asks)
    }

    /// False: that was known, or it is not wanted any more.
    pub fn is_confirmed(&mut self, number: u64) -> bool {
        self.not_taken.remove(number);
        self.wanted.contains(number) && self.confirmed.insert(number)
    }

    /// As [`Kept::is_confirmed`].
    pub fn is_not_taken(&mut self, number: u64) -> bool {
        let is_open = self.wanted.contains(number) && !self.confirmed.contains(number);
        is_open && self.not_taken.insert(number)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptPeer {
    pub paused: bool,
    /// Why it cannot be reached, and since when, RFC 3339.
    pub unreachable: Option<(String, String)>,
}

/// Peer and study.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub peer: Arc<str>,
    pub study: Arc<str>,
}

impl Key {
    pub fn new(peer: &str, study: &str) -> Key {
        Key {
            peer: peer.into(),
            study: study.into(),
        }
    }

    /// An AE title has only characters that can be printed.
    pub fn text(&self) -> String {
        format!("{}\0{}", self.peer, self.study)
    }

    pub fn of(text: &str) -> Option<Key> {
        let (peer, study) = text.split_once('\0')?;
        Some(Key::new(peer, study))
    }
}
