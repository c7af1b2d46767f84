//! Calls to a disk that have not returned, so that nobody waits for a disk that does not answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A disk that takes longer for one call does not answer. The longest flush of a disk that works, with a full queue in
/// front of it, is well below.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Calls {
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    next: u64,
    begun: BTreeMap<u64, Instant>,
}

/// Held while a call is under way.
pub struct Call<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Calls {
    pub fn begin(&self) -> Call<'_> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let number = running.next;
        running.next += 1;
        running.begun.insert(number, Instant::now());
        Call {
            calls: self,
            number,
        }
    }

    /// How long the oldest call has been under way.
    pub fn oldest(&self) -> Option<Duration> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.begun.values().next().map(Instant::elapsed)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let calls = &self.calls.running;
        let mut running = calls.lock().unwrap_or_else(PoisonError::into_inner);
        running.begun.remove(&self.number);
    }
}
