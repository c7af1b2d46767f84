//! Small state that is not the archive's, kept beside the ledgers of every volume: it is not lost with the state folder
//! alone.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::volume::io::{Disk, DiskFile};
use crate::volume::{Volume, VolumeState, layout};

use super::{Archive, Line};

/// Longest copy that is read, in bytes.
const COPY_BYTES_MAX: u64 = 256 << 20;

/// Writes what is kept; called for each volume, perhaps at the same time.
pub type Content = dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync;

/// Volumes to which something is being written.
#[derive(Default)]
pub struct Beside(Mutex<HashSet<String>>);

impl Beside {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Begins to write it to every volume that takes it, on a thread each, as a disk may never answer; one that is still
    /// busy with the last is passed over. The whole new content or the whole old one is there, whenever the power goes.
    pub fn keep_beside(self: &Arc<Self>, name: &'static str, content: &Arc<Content>) {
        for member in self.shelf.all() {
            let Some(volume) = member.here().cloned() else {
                continue;
            };
            let takes = volume.state() == VolumeState::Ok && volume.answers();
            if !takes || volume.is_adopted() {
                continue;
            }
            if !self.beside.lock().insert(volume.id().to_owned()) {
                continue;
            }
            let (archive, content, id) = (self.clone(), content.clone(), volume.id().to_owned());
            let thread = std::thread::Builder::new().name("copy of small state".to_owned());
            let begun = thread.spawn(move || {
                if let Err(error) = replace(&volume, name, &*content) {
                    tracing::warn!(volume = volume.name(), name, %error, "a copy of small state was not written");
                }
                archive.beside.lock().remove(volume.id());
            });
            if let Err(error) = begun {
                tracing::error!(%error, "no thread to copy small state");
                self.beside.lock().remove(&id);
            }
        }
    }

    /// Waits so long for what is being written.
    pub fn wait_for_beside(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.beside.lock().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The copies on the volumes that are here, each with the volume's name, to `take` one by one.
    pub fn kept_beside(&self, name: &str, take: &mut dyn FnMut(&str, Vec<u8>)) {
        for member in self.shelf.all() {
            let Some(volume) = member.here().filter(|volume| volume.answers()) else {
                continue;
            };
            let path = volume.root().join(layout::LEDGERS_FOLDER).join(name);
            match volume.disk().read_small(&path, COPY_BYTES_MAX) {
                Ok(bytes) => take(volume.name(), bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(volume = volume.name(), name, %error, "a copy of small state cannot be read");
                }
            }
        }
    }
}

fn replace(volume: &Volume<Line>, name: &str, content: &Content) -> io::Result<()> {
    let disk: &Disk = volume.disk();
    let folder = volume.root().join(layout::LEDGERS_FOLDER);
    let path = folder.join(name);
    let temporary = path.with_extension("new");
    let file = disk.open_or_create(&temporary)?;
    file.set_len(0)?;
    let mut out = BufWriter::with_capacity(64 << 10, At { file: &file, at: 0 });
    content(&mut out)?;
    out.flush()?;
    drop(out);
    file.sync_data()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(&folder)
}

struct At<'a> {
    file: &'a DiskFile,
    at: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
