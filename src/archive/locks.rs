//! One lock per SOP Instance UID, so that two associations that send one instance at the same moment take turns.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Default)]
pub struct UidLocks {
    held: Mutex<HashSet<String>>,
    released: Condvar,
}

pub struct UidLock<'a> {
    locks: &'a UidLocks,
    uid: String,
}

impl UidLocks {
    /// As [`UidLocks::lock`]; `None` when it took longer.
    pub fn lock_within(&self, uid: &str, patience: Duration) -> Option<UidLock<'_>> {
        let held = self.held.lock().expect("no panic while held");
        let waited = self
            .released
            .wait_timeout_while(held, patience, |held| held.contains(uid));
        let (mut held, _) = waited.expect("no panic while held");
        held.insert(uid.to_owned()).then(|| UidLock {
            locks: self,
            uid: uid.to_owned(),
        })
    }

    /// Waits until nobody holds `uid`. Whoever holds it is between the end of receiving and the ledger line, so the
    /// wait is bounded by a few flushes and never by a slow sender.
    pub fn lock(&self, uid: &str) -> UidLock<'_> {
        let mut held = self.held.lock().expect("no panic while held");
        while held.contains(uid) {
            held = self.released.wait(held).expect("no panic while held");
        }
        held.insert(uid.to_owned());
        UidLock {
            locks: self,
            uid: uid.to_owned(),
        }
    }
}

impl Drop for UidLock<'_> {
    fn drop(&mut self) {
        let mut held = self
            .locks
            .held
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        held.remove(&self.uid);
        self.locks.released.notify_all();
    }
}
