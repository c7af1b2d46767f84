//! The peers as they are now: those of the file, and those that commands have added or removed since.

use std::sync::{Arc, RwLock};

use super::PeerEntry;

/// Every copy of a configuration has the same.
#[derive(Debug, Clone, Default)]
pub struct Peers(Arc<RwLock<Vec<PeerEntry>>>);

impl Peers {
    pub(super) fn of(peers: Vec<PeerEntry>) -> Peers {
        Peers(Arc::new(RwLock::new(peers)))
    }

    /// In the order of the file.
    pub fn all(&self) -> Vec<PeerEntry> {
        let peers = self.0.read();
        peers
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Spaces and case do not count, as modalities write AE titles as they like.
    pub fn get(&self, ae_title: &str) -> Option<PeerEntry> {
        let peers = self.0.read();
        let peers = peers.unwrap_or_else(|poisoned| poisoned.into_inner());
        peers.iter().find(|peer| peer.is(ae_title)).cloned()
    }

    /// From now on these. What is being sent goes on as it began.
    pub fn set(&self, peers: Vec<PeerEntry>) {
        let now = self.0.write();
        *now.unwrap_or_else(|poisoned| poisoned.into_inner()) = peers;
    }
}
