//! Many files made durable together: one flush of the file system for their bytes, one for their names.
//!
//! For copies of what another volume has: nobody waits for a single one of them, so they share what a disk is slow at.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::incoming::folder_of;
use super::{Incoming, Published, Volume, VolumeError};

impl<T: Send + 'static> Volume<T> {
    /// Waits until the bytes of all of them, files of this volume, are on stable storage. Nothing of them is in memory
    /// afterwards.
    ///
    /// After [`VolumeError::FlushFailed`] the volume is out of use.
    pub fn flush_all(&self, files: &mut [Incoming]) -> Result<(), VolumeError> {
        for file in files.iter_mut() {
            file.write_out()?;
        }
        self.sync_all()?;
        for file in files {
            file.is_durable_now();
        }
        Ok(())
    }

    /// As [`Incoming::publish`] for many files that were flushed, each with its path; all names are durable on return.
    pub fn publish_all(&self, files: &[(&Incoming, &str)]) -> Result<Vec<Published>, VolumeError> {
        let mut made = HashSet::new();
        let mut published = Vec::with_capacity(files.len());
        for (file, relative) in files {
            let _call = self.shared.calls.begin();
            let folder = folder_of(&self.shared.root, relative)?;
            self.make_folders(folder, &mut made)?;
            let mut named = file.name_it(relative)?;
            if named.is_none() {
                // Somebody removed an empty folder that was known to be there.
                self.shared.forget_folders(folder);
                made.clear();
                self.make_folders(folder, &mut made)?;
                named = file.name_it(relative)?;
            }
            published.push(file.named(named, relative)?);
        }
        // Folders and names together; only then may a ledger line speak of them.
        self.sync_all()?;
        self.shared.know_folders(made);
        Ok(published)
    }

    fn make_folders(&self, relative: &str, made: &mut HashSet<String>) -> Result<(), VolumeError> {
        if made.contains(relative) || self.shared.lock_folders().contains(relative) {
            return Ok(());
        }
        let ends = relative.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([relative.len()]) {
            let part = &relative[..end];
            if !made.contains(part) {
                let path = self.shared.root.join(part);
                let created = self.shared.disk.create_dir(&path);
                created.map_err(VolumeError::io(&path))?;
                made.insert(part.to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn sync_all(&self) -> Result<(), VolumeError> {
        let root = &self.shared.root;
        let _call = self.shared.calls.begin();
        self.shared.disk.sync_file_system(root).map_err(|error| {
            self.shared.failed_flushes.fetch_add(1, Ordering::Relaxed);
            let error = VolumeError::flush(root)(error);
            if error.is_flush_failure() {
                self.shared.mark_failed(&error.to_string());
            }
            error
        })
    }
}
