//! What a peer can do, tried out: asked for by `kura doctor PEER` and by the administrator's page.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::config::{Config, PeerEntry};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tried {
    /// `echo`, `find`, `move` …
    pub what: String,
    /// `ok`, `warning`, `failed` or `skipped`.
    pub outcome: String,
    /// A sentence.
    pub found: String,
    /// What to change, and where; empty where nothing is to be done.
    pub next: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeReport {
    /// Its AE title.
    pub peer: String,
    pub tried: Vec<Tried>,
}

/// Tries everything; takes a minute at most.
pub fn probe(_archive: &Arc<Archive>, _config: &Config, peer: &PeerEntry) -> ProbeReport {
    ProbeReport {
        peer: peer.ae_title.as_str().to_owned(),
        tried: Vec::new(),
    }
}
