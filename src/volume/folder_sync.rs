//! Flushes of one folder, shared by everyone who waits for the same one.
//!
//! The instances of a series go to one folder, from several associations at once. Whoever comes while that folder is
//! being flushed waits, and then shares the next flush; different folders are flushed side by side.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Default)]
pub(super) struct FolderSyncs {
    folders: Mutex<HashMap<PathBuf, Turns>>,
    changed: Condvar,
}

/// The flushes of one folder, as long as somebody waits for one.
#[derive(Default)]
struct Turns {
    begun: u64,
    ended: u64,
    running: bool,
    waiting_count: usize,
    /// Error code of the first flush that failed: the volume is given up then, so nobody may be told otherwise.
    failed: Option<i32>,
}

impl FolderSyncs {
    /// Returns after a flush of `folder` that began after this call did. `flush` does one.
    pub fn sync(&self, folder: &Path, flush: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = folders.entry(folder.to_owned()).or_default();
        turns.waiting_count += 1;
        // A flush that runs now may have begun before our name was there.
        let wanted = turns.begun + 1;
        loop {
            let turns = folders.entry(folder.to_owned()).or_default();
            if turns.ended >= wanted || turns.failed.is_some() {
                let failed = turns.failed;
                turns.waiting_count -= 1;
                if turns.waiting_count == 0 {
                    folders.remove(folder);
                }
                return match failed {
                    Some(code) => Err(io::Error::from_raw_os_error(code)),
                    None => Ok(()),
                };
            }
            if turns.running {
                folders = self
                    .changed
                    .wait(folders)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            turns.running = true;
            turns.begun += 1;
            let number = turns.begun;
            drop(folders);
            let result = flush();
            folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
            let turns = folders.entry(folder.to_owned()).or_default();
            turns.running = false;
            turns.ended = number;
            if let Err(error) = result {
                turns.failed = Some(
                    error
                        .raw_os_error()
                        .unwrap_or(rustix::io::Errno::IO.raw_os_error()),
                );
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn nobody_returns_before_a_flush_that_began_after_he_came_and_flushes_are_shared() {
        let syncs = FolderSyncs::default();
        let begun = AtomicU64::new(0);
        let ended = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let before = begun.load(Ordering::SeqCst);
                        syncs
                            .sync(Path::new("series"), || {
                                begun.fetch_add(1, Ordering::SeqCst);
                                std::thread::sleep(Duration::from_millis(1));
                                ended.fetch_add(1, Ordering::SeqCst);
                                Ok(())
                            })
                            .unwrap();
                        assert!(ended.load(Ordering::SeqCst) > before);
                    }
                });
            }
        });
        assert!(
            begun.into_inner() < 160,
            "160 waited, so some must have shared"
        );
        assert!(syncs.folders.into_inner().unwrap().is_empty());
    }

    #[test]
    fn a_failed_flush_fails_everyone_who_waits_for_it() {
        let syncs = FolderSyncs::default();
        let failures = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let result = syncs.sync(Path::new("series"), || {
                        std::thread::sleep(Duration::from_millis(20));
                        Err(io::Error::from_raw_os_error(5))
                    });
                    failures.fetch_add(u64::from(result.is_err()), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(failures.into_inner(), 4);
    }
}
