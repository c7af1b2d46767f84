//! What is counted in rows that know no server: one set of counters for the process.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::counters::{Label, by_label, seconds};

/// What was flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Bytes of a file: an instance, a ledger, a journal.
    File,
    /// The names in a folder.
    Folder,
}

struct OfProcess {
    /// Apart, so that no label is looked up for each flush.
    files: Histogram,
    folders: Histogram,
    flushes: Family<Label, Histogram, fn() -> Histogram>,
    sent: Family<[(&'static str, String); 2], Counter>,
    sent_bytes: Family<[(&'static str, String); 1], Counter>,
    /// That have a label of their own.
    peers: AtomicUsize,
}

/// Peers are those of the configuration; commands may add more of them than anybody has.
const PEERS_MAX: usize = 500;

static OF_PROCESS: LazyLock<OfProcess> = LazyLock::new(|| {
    let flushes = by_label();
    OfProcess {
        files: flushes.get_or_create_owned(&[("what", "file")]),
        folders: flushes.get_or_create_owned(&[("what", "folder")]),
        flushes,
        sent: Family::default(),
        sent_bytes: Family::default(),
        peers: AtomicUsize::new(0),
    }
});

/// A disk said that something is on stable storage.
pub fn flushed(what: Flushed, elapsed: Duration) {
    let histogram = match what {
        Flushed::File => &OF_PROCESS.files,
        Flushed::Folder => &OF_PROCESS.folders,
    };
    histogram.observe(seconds(elapsed));
}

/// An instance went to a peer, or did not. `bytes`: of its data set.
pub fn sent(peer: &str, is_stored: bool, bytes: u64) {
    let mut label = [("peer", peer.to_owned())];
    if OF_PROCESS.sent_bytes.get(&label).is_none()
        && OF_PROCESS.peers.fetch_add(1, Ordering::Relaxed) >= PEERS_MAX
    {
        label = [("peer", "others".to_owned())];
    }
    let outcome = if is_stored { "stored" } else { "failed" };
    let labels = [label[0].clone(), ("outcome", outcome.to_owned())];
    OF_PROCESS.sent.get_or_create(&labels).inc();
    let bytes = if is_stored { bytes } else { 0 };
    OF_PROCESS.sent_bytes.get_or_create(&label).inc_by(bytes);
}

pub(super) fn register(registry: &mut Registry) {
    registry.register_with_unit(
        "flush_duration",
        "Time until a disk says that something is on stable storage",
        Unit::Seconds,
        OF_PROCESS.flushes.clone(),
    );
    registry.register(
        "sent_instances",
        "Instances sent to peers by C-STORE, for C-MOVE, C-GET, rules and by hand",
        OF_PROCESS.sent.clone(),
    );
    registry.register_with_unit(
        "sent",
        "Bytes of the data sets that peers took",
        Unit::Bytes,
        OF_PROCESS.sent_bytes.clone(),
    );
}
