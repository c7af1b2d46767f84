//! Memory for data sets on their way in and out: one budget for the process, shared by everyone who moves bytes.
//!
//! Who gets none works in small pieces instead. Nobody waits for memory, so nobody waits for each other.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `[limits] memory_bytes` where nothing is configured.
const BYTES_DEFAULT: usize = 96 << 20;

static IN_FLIGHT: Budget = Budget::new(BYTES_DEFAULT);

#[derive(Debug)]
struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
}

/// Bytes of the budget; dropped, they are free again.
#[derive(Debug)]
#[must_use]
pub struct Share {
    of: &'static Budget,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// For what is needed at once. `None`: there is no room.
pub fn take(bytes: usize) -> Option<Share> {
    IN_FLIGHT.take(bytes, IN_FLIGHT.limit())
}

/// For what only makes it faster, or safer: half of the budget stays free for what is needed.
pub fn take_spare(bytes: usize) -> Option<Share> {
    IN_FLIGHT.take(bytes, IN_FLIGHT.limit() / 2)
}

/// From now on. What is taken already stays taken.
pub fn set_limit(bytes: usize) {
    IN_FLIGHT.limit.store(bytes, Ordering::Relaxed);
}

/// Bytes that are taken now.
pub fn used() -> usize {
    IN_FLIGHT.used.load(Ordering::Relaxed)
}

impl Budget {
    const fn new(limit: usize) -> Budget {
        Budget {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
        }
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn take(&'static self, bytes: usize, up_to: usize) -> Option<Share> {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= up_to);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Share { of: self, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is_and_what_is_dropped_is_there_again() {
        static BUDGET: Budget = Budget::new(100);
        let first = BUDGET.take(60, 100).unwrap();
        assert!(BUDGET.take(41, 100).is_none());
        assert!(BUDGET.take(usize::MAX, 100).is_none());
        let second = BUDGET.take(40, 100).unwrap();
        drop(first);
        assert!(BUDGET.take(20, 50).is_none(), "half stays free");
        drop(second);
        assert!(BUDGET.take(50, 50).is_some());
        assert_eq!(BUDGET.used.load(Ordering::Relaxed), 0);
    }
}
