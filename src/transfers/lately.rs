//! The last hours and the last associations, over a restart: `<state>/lately.json`, written now and then and at the end.
//!
//! Nothing depends on it: a file that cannot be read, or is another version's, means that it begins anew.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{KEPT_VERSION, Kept, Metrics};
use crate::volume::io::Disk;

const FILE: &str = "lately.json";
/// Several times what the lists hold at most.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What a killed process forgets.
const WRITE_EVERY: Duration = Duration::from_secs(180);
/// A state folder that does not answer must not keep the process from ending.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What an earlier process kept.
pub fn read(state: &Path) -> Metrics {
    let bytes = Disk::default().read_small(&state.join(FILE), FILE_BYTES_MAX);
    let kept = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
        .filter(|kept| kept.version == KEPT_VERSION);
    kept.map_or_else(Metrics::new, Metrics::of)
}

/// The thread that writes.
pub struct Lately {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// To stop; then: it is over.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Lately {
    pub fn start(state: &Path, metrics: Arc<Metrics>) -> Lately {
        let shared = Arc::new(Shared::default());
        let (path, of_thread) = (state.join(FILE), shared.clone());
        let thread = std::thread::Builder::new().name("lately".to_owned());
        // What ends from now on is new, however late the thread begins.
        let written = metrics.kept();
        let spawned = thread.spawn(move || {
            of_thread.write(&path, &metrics, written);
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to keep the last associations; a restart forgets them");
            shared.lock().1 = true;
        }
        Lately { shared }
    }

    /// Writes once more; bounded.
    pub fn stop(self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut state = self.shared.lock();
        state.0 = true;
        self.shared.changed.notify_all();
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, (bool, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, path: &Path, metrics: &Metrics, mut written: Kept) {
        let mut failed = false;
        loop {
            let waited =
                self.changed
                    .wait_timeout_while(self.lock(), WRITE_EVERY, |(stopping, _)| !*stopping);
            let is_last = waited.unwrap_or_else(PoisonError::into_inner).0.0;
            let kept = metrics.kept();
            if kept != written {
                match replace(path, &kept) {
                    Ok(()) => (written, failed) = (kept, false),
                    Err(error) if !failed => {
                        tracing::warn!(%error, file = %path.display(),
                            "the last associations cannot be kept; a restart forgets them");
                        failed = true;
                    }
                    Err(_) => {}
                }
            }
            if is_last {
                self.lock().1 = true;
                self.changed.notify_all();
                return;
            }
        }
    }
}

fn replace(path: &Path, kept: &Kept) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(kept).map_err(std::io::Error::other)?;
    let disk = Disk::default();
    let new: PathBuf = path.with_extension("new");
    let file = disk.open_or_create(&new)?;
    file.set_len(0)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    disk.rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Ended;

    /// Method: kept at a stop, read again; then the file damaged in several ways.
    #[test]
    fn the_last_associations_outlive_a_restart_and_a_damaged_file_means_none() {
        let state = tempfile::TempDir::new().unwrap();
        let metrics = Arc::new(read(state.path()));
        let lately = Lately::start(state.path(), metrics.clone());
        metrics.association_ended(Ended {
            calling: "CT1".to_owned(),
            ..Ended::default()
        });
        lately.stop();
        assert_eq!(read(state.path()).associations()[0].calling, "CT1");
        let path = state.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        let version_2 = String::from_utf8(good.clone()).unwrap();
        let version_2 = version_2.replace("\"version\":1", "\"version\":2");
        for bytes in [&good[..good.len() / 2], b"", version_2.as_bytes()] {
            std::fs::write(&path, bytes).unwrap();
            assert!(read(state.path()).associations().is_empty());
        }
    }
}
