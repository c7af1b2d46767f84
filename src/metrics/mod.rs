//! What this server has done: counters, the last associations, the last days hour by hour.
//!
//! Counting must cost nothing beside an instance: atomics, and short lists behind a lock. What is true of the disks, the
//! index or the queues is not counted here; who shows it asks for it at that moment.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the last associations, those that failed, the hours; what of that outlives the process |
//! | `counters` | what Prometheus reads of a server |
//! | `process` | what lower rows count, which know no server: flushes, instances sent |

mod counters;
mod process;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use counters::{Counters, Taken};
pub use process::{Flushed, flushed, sent};

/// Associations that are remembered, and of those that failed.
const RECENT_MAX: usize = 200;
const FAILED_MAX: usize = 100;
/// Hours that are remembered.
const HOURS_MAX: usize = 48;
/// Longest text of a stranger that is remembered, in characters: an AE title has 16.
const TEXT_MAX: usize = 64;
/// Longest sentence that is remembered, in characters.
const SENTENCE_MAX: usize = 600;

/// An association that ended, or never came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ended {
    /// Its number in the log.
    pub association_id: u64,
    /// Address of the requestor, without the port.
    pub address: String,
    /// Empty where it was never said.
    pub calling: String,
    pub called: String,
    /// Implementation Version Name (PS3.7 D.3.3.2).
    pub implementation: String,
    /// RFC 3339.
    pub begun: String,
    pub seconds: f64,
    /// Stored or sent.
    pub instances_count: u64,
    pub bytes: u64,
    /// `released`, or what went wrong, in words.
    pub end: String,
    /// Something the other side, or a person, should change.
    pub failed: bool,
    /// What it is, by one of the names in `docs/metrics.md`; empty where nothing failed.
    #[serde(default)]
    pub reason: String,
    /// What to change, and where; empty where nothing is to be done.
    #[serde(default)]
    pub next: String,
    /// Of failures: how many of the same kind, of which this is the last.
    #[serde(default)]
    pub times: u64,
}

/// What came in one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hour {
    /// Its beginning, RFC 3339 UTC.
    pub begin: String,
    pub instances_count: u64,
    pub bytes: u64,
}

/// What outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub version: u32,
    /// The newest first, as the others.
    pub associations: VecDeque<Ended>,
    pub failed: VecDeque<Ended>,
    pub hours: VecDeque<Hour>,
    /// When an instance was last stored, seconds since 1970; 0: never.
    pub last_stored: i64,
}

pub const KEPT_VERSION: u32 = 1;

#[derive(Default)]
pub struct Metrics {
    lately: Mutex<Kept>,
    pub counters: Counters,
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Goes on from what an earlier process kept.
    pub fn of(mut kept: Kept) -> Metrics {
        kept.associations.truncate(RECENT_MAX);
        kept.failed.truncate(FAILED_MAX);
        kept.hours.truncate(HOURS_MAX);
        let metrics = Metrics::default();
        metrics.counters.last_stored.set(kept.last_stored);
        *lock(&metrics.lately) = kept;
        metrics
    }

    pub fn kept(&self) -> Kept {
        let mut kept = lock(&self.lately).clone();
        kept.version = KEPT_VERSION;
        kept.last_stored = self.counters.last_stored.get();
        kept
    }

    pub fn association_ended(&self, mut ended: Ended) {
        for text in [
            &mut ended.calling,
            &mut ended.called,
            &mut ended.implementation,
        ] {
            cut(text, TEXT_MAX);
        }
        cut(&mut ended.end, SENTENCE_MAX);
        cut(&mut ended.next, SENTENCE_MAX);
        self.counters.association_ended(&ended);
        let mut lately = lock(&self.lately);
        if ended.failed {
            remember_failed(&mut lately.failed, ended.clone());
        }
        lately.associations.push_front(ended);
        lately.associations.truncate(RECENT_MAX);
    }

    /// An instance that was answered `0000H`; from the command to the answer.
    pub fn stored(&self, taken: Taken, bytes: u64, elapsed: Duration) {
        let now = jiff::Timestamp::now().as_second();
        self.counters.received(taken, bytes, elapsed);
        self.counters.last_stored.set(now);
        let begin = jiff::Timestamp::from_second(now - now.rem_euclid(3_600)).unwrap_or_default();
        let begin = begin.to_string();
        let mut lately = lock(&self.lately);
        match lately.hours.front_mut() {
            Some(hour) if hour.begin == begin => {
                hour.instances_count += 1;
                hour.bytes += bytes;
            }
            _ => {
                lately.hours.push_front(Hour {
                    begin,
                    instances_count: 1,
                    bytes,
                });
                lately.hours.truncate(HOURS_MAX);
            }
        }
    }

    /// The newest first.
    pub fn associations(&self) -> Vec<Ended> {
        lock(&self.lately).associations.iter().cloned().collect()
    }

    /// Those that failed, also when many others came since; the newest first, each kind once.
    pub fn failed(&self) -> Vec<Ended> {
        lock(&self.lately).failed.iter().cloned().collect()
    }

    /// The newest first; hours in which nothing came are left out.
    pub fn hours(&self) -> Vec<Hour> {
        lock(&self.lately).hours.iter().cloned().collect()
    }
}

/// The same failure of the same node again takes the place of the one before: what tries every second must not push out
/// what another node failed at.
fn remember_failed(failed: &mut VecDeque<Ended>, mut ended: Ended) {
    let is_same = |other: &Ended| {
        let of = |one: &Ended| {
            let texts = [&one.address, &one.calling, &one.called, &one.reason];
            texts.map(String::clone)
        };
        of(other) == of(&ended)
    };
    let before = failed.iter().position(is_same);
    let before = before.and_then(|at| failed.remove(at));
    ended.times = before.map_or(1, |before| before.times.max(1).saturating_add(1));
    failed.push_front(ended);
    failed.truncate(FAILED_MAX);
}

fn cut(text: &mut String, characters_max: usize) {
    if let Some((at, _)) = text.char_indices().nth(characters_max) {
        text.truncate(at);
        text.push('…');
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(address: &str, reason: &str) -> Ended {
        Ended {
            address: address.to_owned(),
            reason: reason.to_owned(),
            end: "x".repeat(10_000),
            failed: true,
            ..Ended::default()
        }
    }

    /// Method: one failure, then more than are remembered of another node, and of good associations.
    #[test]
    fn what_fails_again_and_again_pushes_out_nothing() {
        let metrics = Metrics::new();
        metrics.association_ended(failure("10.0.0.1", "called-ae-title"));
        for _ in 0..500 {
            metrics.association_ended(failure("10.0.0.2", "busy"));
            metrics.association_ended(Ended::default());
        }
        let failed = metrics.failed();
        let times: Vec<_> = failed
            .iter()
            .map(|f| (f.reason.as_str(), f.times))
            .collect();
        assert_eq!(times, [("busy", 500), ("called-ae-title", 1)]);
        assert!(failed[0].end.chars().count() <= SENTENCE_MAX + 1);
        assert_eq!(metrics.associations().len(), RECENT_MAX);
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let metrics = Metrics::new();
        metrics.association_ended(failure("10.0.0.1", "busy"));
        metrics.stored(Taken::Stored, 10, Duration::from_millis(1));
        let text = serde_json::to_string(&metrics.kept()).unwrap();
        let again = Metrics::of(serde_json::from_str(&text).unwrap());
        assert_eq!(again.kept(), metrics.kept());
        assert_eq!(again.hours()[0].bytes, 10);
    }
}
