//! What this server has done since it started: counters, the last associations, the last day hour by hour.
//!
//! Counting must cost nothing beside an instance: atomics, and short lists behind a lock. What is true of the disks, the
//! index or the queues is not counted here; who shows it asks for it at that moment.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Associations that are remembered.
const RECENT_MAX: usize = 200;
/// Hours that are remembered.
const HOURS_MAX: usize = 48;

/// An association that ended, or never came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
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
}

/// What came in one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hour {
    /// Its beginning, RFC 3339 UTC.
    pub begin: String,
    pub instances_count: u64,
    pub bytes: u64,
}

#[derive(Default)]
pub struct Metrics {
    recent: Mutex<VecDeque<Ended>>,
    hours: Mutex<VecDeque<Hour>>,
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    pub fn association_ended(&self, ended: Ended) {
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT_MAX {
            recent.pop_back();
        }
        recent.push_front(ended);
    }

    /// An instance that was answered `0000H`; from the command to the answer.
    pub fn stored(&self, bytes: u64, _elapsed: Duration) {
        let now = jiff::Timestamp::now().as_second();
        let begin = jiff::Timestamp::from_second(now - now.rem_euclid(3_600)).unwrap_or_default();
        let begin = begin.to_string();
        let mut hours = lock(&self.hours);
        match hours.front_mut() {
            Some(hour) if hour.begin == begin => {
                hour.instances_count += 1;
                hour.bytes += bytes;
            }
            _ => {
                if hours.len() == HOURS_MAX {
                    hours.pop_back();
                }
                hours.push_front(Hour {
                    begin,
                    instances_count: 1,
                    bytes,
                });
            }
        }
    }

    /// The newest first.
    pub fn associations(&self) -> Vec<Ended> {
        lock(&self.recent).iter().cloned().collect()
    }

    /// The newest first; hours in which nothing came are left out.
    pub fn hours(&self) -> Vec<Hour> {
        lock(&self.hours).iter().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
