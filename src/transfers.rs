//! The journal of transfers: one line for each study that came or went, kept for some days.

use serde::{Deserialize, Serialize};

/// What went which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Received by C-STORE.
    Stored,
    /// Sent for a C-MOVE.
    Moved,
    /// Sent for a C-GET.
    Got,
    /// Sent by rule, or by hand.
    Forwarded,
    /// Asked of another archive by `kura pull`.
    Pulled,
    /// A request of storage commitment was answered.
    Committed,
}

/// One line: instances of one study, between us and one peer, in one go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// When it ended, UTC, RFC 3339.
    pub at: String,
    pub direction: Direction,
    /// AE title.
    pub peer: String,
    pub address: String,
    pub study_instance_uid: String,
    /// That went through, warnings included.
    pub instances_count: u64,
    pub failed_count: u64,
    /// Of the data sets.
    pub bytes: u64,
    pub seconds: f64,
    /// The worst DIMSE status, 0000H when all is well.
    pub status: u16,
    /// In words, where something failed; empty otherwise.
    pub reason: String,
}

/// The journal. It never keeps anybody from sending or receiving: what cannot be written is said in the log.
#[derive(Default)]
pub struct Transfers {}

impl Transfers {
    pub fn note(&self, transfer: Transfer) {
        tracing::debug!(?transfer, "transferred");
    }
}
