//! What Prometheus reads of this server: names and units as its conventions want them, few labels, each of few values.

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Ended, process};

pub(super) type Label = [(&'static str, &'static str); 1];

/// What became of a received instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Stored,
    Duplicate,
    Variant,
    Conflict,
    Newest,
    Refused,
}

const TAKEN: [(Taken, &str); 6] = [
    (Taken::Stored, "stored"),
    (Taken::Duplicate, "duplicate"),
    (Taken::Variant, "variant"),
    (Taken::Conflict, "conflict"),
    (Taken::Newest, "newest"),
    (Taken::Refused, "refused"),
];

/// Upper ends of the buckets, seconds: from a fast disk's flush to a peer that is given up.
const BUCKETS: [f64; 17] = [
    0.0001, 0.0003, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

pub struct Counters {
    pub associations_open: Gauge,
    /// By `reason`; empty: nothing failed.
    associations: Family<[(&'static str, String); 1], Counter>,
    /// By the key of `[limits]`.
    limits: Family<Label, Counter>,
    /// Each found without a look-up, in the order of [`TAKEN`].
    taken: [(Counter, Counter); 6],
    instances: Family<Label, Counter>,
    bytes: Family<Label, Counter>,
    pub(super) last_stored: Gauge,
    stores: Histogram,
    finds: Histogram,
    moves: Histogram,
    gets: Histogram,
    sub_operations: Family<Label, Histogram, fn() -> Histogram>,
}

pub(super) fn by_label() -> Family<Label, Histogram, fn() -> Histogram> {
    Family::new_with_constructor(buckets as fn() -> Histogram)
}

fn buckets() -> Histogram {
    Histogram::new(BUCKETS)
}

pub(super) fn seconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64()
}

impl Default for Counters {
    fn default() -> Counters {
        let (instances, bytes): (Family<Label, Counter>, Family<Label, Counter>) =
            Default::default();
        let taken = TAKEN.map(|(_, name)| {
            let label = [("outcome", name)];
            (
                instances.get_or_create_owned(&label),
                bytes.get_or_create_owned(&label),
            )
        });
        let sub_operations = by_label();
        let counters = Counters {
            associations_open: Gauge::default(),
            associations: Family::default(),
            limits: Family::default(),
            taken,
            instances,
            bytes,
            last_stored: Gauge::default(),
            stores: buckets(),
            finds: buckets(),
            moves: sub_operations.get_or_create_owned(&[("service", "move")]),
            gets: sub_operations.get_or_create_owned(&[("service", "get")]),
            sub_operations,
        };
        // So that a rate is known from the first failure on.
        let none = [("reason", "none".to_owned())];
        counters.associations.get_or_create(&none).inc_by(0);
        counters
    }
}

impl Counters {
    /// Counts what was received; the time is from the command to the answer.
    pub fn received(&self, taken: Taken, bytes: u64, elapsed: Duration) {
        let at = TAKEN.iter().position(|(known, _)| *known == taken);
        let (instances, all_bytes) = &self.taken[at.unwrap_or(0)];
        instances.inc();
        all_bytes.inc_by(bytes);
        self.stores.observe(seconds(elapsed));
    }

    /// From the identifier to the last answer.
    pub fn found(&self, elapsed: Duration) {
        self.finds.observe(seconds(elapsed));
    }

    pub fn moved(&self, elapsed: Duration) {
        self.moves.observe(seconds(elapsed));
    }

    pub fn got(&self, elapsed: Duration) {
        self.gets.observe(seconds(elapsed));
    }

    /// A connection without a word: somebody looks whether the port is open.
    pub fn port_checked(&self) {
        let label = [("reason", "port-check".to_owned())];
        self.associations.get_or_create(&label).inc();
    }

    /// Something was refused, or ended, for a limit.
    pub fn limit_reached(&self, key: &'static str) {
        self.limits.get_or_create(&[("limit", key)]).inc();
    }

    pub(super) fn association_ended(&self, ended: &Ended) {
        let reason = match ended.reason.as_str() {
            "" if ended.failed => "other",
            "" => "none",
            known => known,
        };
        let label = [("reason", reason.to_owned())];
        self.associations.get_or_create(&label).inc();
    }

    /// In the text of OpenMetrics, without its end: more may follow.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("kura");
        registry.register(
            "associations_open",
            "Associations that are open now",
            self.associations_open.clone(),
        );
        registry.register(
            "associations",
            "Associations that ended or never came about, by what went wrong",
            self.associations.clone(),
        );
        registry.register(
            "limit_reached",
            "What was refused or ended for a limit, by its key in [limits]",
            self.limits.clone(),
        );
        registry.register(
            "received_instances",
            "Instances received by C-STORE, by what became of them",
            self.instances.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bytes of their data sets",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "last_stored_timestamp",
            "When an instance was last answered 0000H, seconds since 1970; 0: never",
            Unit::Seconds,
            self.last_stored.clone(),
        );
        registry.register_with_unit(
            "store_duration",
            "C-STORE, from the command to the answer",
            Unit::Seconds,
            self.stores.clone(),
        );
        registry.register_with_unit(
            "find_duration",
            "C-FIND, from the identifier to the last answer",
            Unit::Seconds,
            self.finds.clone(),
        );
        registry.register_with_unit(
            "suboperation_duration",
            "Each instance sent for a C-MOVE or C-GET",
            Unit::Seconds,
            self.sub_operations.clone(),
        );
        process::register(&mut registry);
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = text::encode_registry(&mut text, &registry);
        text
    }
}
