//! Images go by themselves to where they are read: rules, the outbox, and who empties it.

mod rewrite;
pub mod rules;
pub mod setup;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::config::Config;
use crate::transfers::Transfers;

/// `kura forward …`, and `kura send STUDY…`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ForwardVerb {
    /// What waits, is being sent, failed; also what is done when `all`.
    List {
        peer: Option<String>,
        all: bool,
    },
    /// One study, to every peer.
    Show {
        study: String,
    },
    /// What failed, or waits for its next try, now.
    Retry {
        study: Option<String>,
        peer: Option<String>,
    },
    /// As if everything had been sent; the next instances go again.
    MarkSent {
        study: String,
        peer: Option<String>,
    },
    /// As if nothing had been sent.
    Unmark {
        study: String,
        peer: Option<String>,
    },
    Pause {
        peer: String,
    },
    Resume {
        peer: String,
    },
    /// These studies to that peer, whatever the rules say.
    Send {
        studies: Vec<String>,
        peer: String,
    },
}

/// How a study stands with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Waiting,
    Sending,
    Sent,
    Failed,
}

/// A study and a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub peer: String,
    pub study_instance_uid: String,
    pub patient_id: String,
    /// `YYYYMMDD`
    pub study_date: String,
    pub state: State,
    /// That the peer has confirmed.
    pub sent_count: u64,
    /// That it is to have.
    pub total_count: u64,
    /// The last status that the peer answered, if it answered one.
    pub status: Option<u16>,
    /// In words; empty where all is well.
    pub reason: String,
    /// RFC 3339; absent: as soon as it is its turn, or never.
    pub next_try: Option<String>,
    /// Instances that the peer says it holds, by C-FIND, where it answers that.
    pub delivered_count: Option<u64>,
}

/// How a peer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub peer: String,
    pub waiting_count: u64,
    pub failed_count: u64,
    /// Studies, and of them instances, that are being sent at this moment.
    pub sending_count: u64,
    pub paused: bool,
    /// Why it cannot be reached, and since when (RFC 3339); absent: it can.
    pub unreachable: Option<(String, String)>,
    /// Age of the oldest that waits, seconds.
    pub oldest_seconds: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardSaid {
    Items {
        items: Vec<Item>,
        /// Not all of them: so many there are.
        total_count: u64,
        peers: Vec<PeerStatus>,
    },
    /// Done; what it means, in a sentence.
    Done(String),
}

/// Sends what the rules say, and what is sent by hand.
pub struct Forwarder {}

impl Forwarder {
    /// Opens the outbox; nothing is sent before [`Forwarder::start`].
    pub fn open(
        _archive: &Arc<Archive>,
        _config: &Config,
        _transfers: &Arc<Transfers>,
    ) -> Result<Arc<Forwarder>, String> {
        Ok(Arc::new(Forwarder {}))
    }

    /// From now on these. What waits goes by the rule of its name, if there is one still.
    pub fn set_rules(&self, _rules: rules::Rules) {}

    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        Ok(())
    }

    /// Ends what is being sent, after the instance at hand.
    pub fn stop(&self) {}

    /// The error is a sentence.
    pub fn verb(&self, _verb: ForwardVerb) -> Result<ForwardSaid, String> {
        Err("nothing is forwarded yet".to_owned())
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        Vec::new()
    }
}
