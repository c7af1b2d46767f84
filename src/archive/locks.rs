//! One lock per SOP Instance UID, so that two associations that send one instance at the same moment take turns.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex};

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
