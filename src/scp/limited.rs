//! A limit that was reached: which one, in one line of the log and one counter, however often.

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::archive::IngestError;
use crate::config::Limits;
use crate::dicom::scan::ScanError;
use crate::metrics::Metrics;
use crate::net::{Association, NetError};

use super::Services;

/// A key of `[limits]` and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    pub key: &'static str,
    pub value: u64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "limits.{} = {}", self.key, self.value)
    }
}

/// The same limit is named in the log so often at most: a flood must not fill the disk.
const EVERY: Duration = Duration::from_secs(10);

/// When each was named last, and how often it was reached since.
static NAMED: LazyLock<Mutex<HashMap<&'static str, (Instant, u64)>>> =
    LazyLock::new(Mutex::default);

impl Exceeded {
    pub const fn new(key: &'static str, value: u64) -> Exceeded {
        Exceeded { key, value }
    }

    /// Counts it, and says whether the log is to have a line: with how often it was reached since the last one.
    fn count(self, metrics: &Metrics, now: Instant) -> Option<u64> {
        metrics.counters.limit_reached(self.key);
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        match named.get_mut(self.key) {
            Some((last, more)) if now.saturating_duration_since(*last) < EVERY => {
                *more += 1;
                None
            }
            other => {
                let more = other.map_or(0, |(_, more)| *more);
                named.insert(self.key, (now, 0));
                Some(more)
            }
        }
    }

    /// `what`: what did not happen because of it, and to whom.
    pub fn tell(self, metrics: &Metrics, what: fmt::Arguments) {
        match self.count(metrics, Instant::now()) {
            Some(0) => tracing::warn!(limit = %self, "{what}"),
            Some(times_before) => {
                tracing::warn!(limit = %self, times_before, "{what}");
            }
            None => {}
        }
    }
}

/// The limit that ended an association.
pub fn of(error: &NetError, limits: &Limits) -> Option<Exceeded> {
    match error {
        NetError::Timeout {
            during: "waiting for a message",
            ..
        } => Some(Exceeded::new("idle_seconds", limits.idle_seconds)),
        NetError::Timeout { .. } => Some(Exceeded::new("stall_seconds", limits.stall_seconds)),
        NetError::CommandTooLong { most } => Some(Exceeded::new("command_bytes", *most as u64)),
        _ => None,
    }
}

/// The limit for which a data set was refused.
pub fn of_scan(error: &ScanError) -> Option<Exceeded> {
    match error {
        ScanError::TooDeep { most, .. } => Some(Exceeded::new("sequence_depth", *most as u64)),
        ScanError::TooManyElements { most, .. } => Some(Exceeded::new("elements", *most)),
        _ => None,
    }
}

/// The limit for which an instance was refused.
pub fn of_instance(error: &IngestError) -> Option<Exceeded> {
    match error {
        IngestError::DataSet(error) => of_scan(error),
        _ => None,
    }
}

/// How long one request has been under way, and may be.
#[derive(Clone, Copy)]
pub struct Request {
    begun: Instant,
    seconds_max: u64,
}

impl Request {
    pub fn begin(limits: &Limits) -> Request {
        Request {
            begun: Instant::now(),
            seconds_max: limits.request_seconds,
        }
    }

    pub fn is_too_long(&self) -> bool {
        self.begun.elapsed().as_secs() >= self.seconds_max
    }

    /// In one line of the log; and what the peer is told, which has room for 64 characters.
    pub fn ended(&self, services: &Services, association: &Association, name: &str) -> String {
        let exceeded = Exceeded::new("request_seconds", self.seconds_max);
        let peer = association.peer();
        let what = format_args!("a {name} of {} at {} was ended", peer.calling, peer.address);
        exceeded.tell(&services.metrics, what);
        format!("it took longer than {} s, the limit here", self.seconds_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_whole_and_named_now_and_then() {
        let metrics = Metrics::new();
        let limit = Exceeded::new("of_this_test", 7);
        let begun = Instant::now();
        assert_eq!(limit.count(&metrics, begun), Some(0));
        for _ in 0..1000 {
            assert_eq!(limit.count(&metrics, begun + EVERY / 2), None);
        }
        assert_eq!(limit.count(&metrics, begun + EVERY), Some(1000));
        let text = metrics.counters.text();
        assert!(
            text.contains("kura_limit_reached_total{limit=\"of_this_test\"} 1002"),
            "{text}"
        );
        assert_eq!(limit.to_string(), "limits.of_this_test = 7");
    }
}
