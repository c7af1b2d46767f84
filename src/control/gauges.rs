//! What is true at this moment, for monitoring: disks, copies, queues, the index, this process.

use serde::{Deserialize, Serialize};

use crate::archive::{MirrorRun, ProcessFacts, Status, can_store, process_facts};
use crate::audit::AuditStatus;
use crate::commitment::CommitmentStatus;
use crate::forward::PeerStatus;

use super::Desk;

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gauges {
    pub status: Status,
    pub peers: Vec<PeerStatus>,
    pub commitment: CommitmentStatus,
    #[serde(default)]
    pub audit: AuditStatus,
    /// The last time second copies were made.
    pub last_mirror: Option<MirrorRun>,
    pub process: ProcessFacts,
    /// An instance that comes now would find room on an archive volume that is written.
    pub can_store: bool,
    /// For people: why not, or what is wrong.
    pub reasons: Vec<String>,
}

pub(super) fn gauges(desk: &Desk) -> Gauges {
    let status = desk.archive.status();
    let can_store = can_store(&status.volumes);
    let reasons = status.actions.clone();
    Gauges {
        peers: desk.forward.status(),
        commitment: desk.commitment.status(),
        audit: desk.audit.status(),
        last_mirror: desk.archive.last_mirror_run(),
        process: process_facts(),
        can_store,
        reasons,
        status,
    }
}
