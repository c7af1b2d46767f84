//! Files that are not what the ledger says: kept for a person to look at, out of the way of the good copy.

use std::io::ErrorKind;
use std::path::Path;

use super::{Volume, VolumeError, io, label, layout};

/// Files of one path that were set aside.
const TIMES_MAX: u32 = 1_000;

impl<T: Send + 'static> Volume<T> {
    /// Moves what is at a path of the image tree, a file or not, to the same path below `suspect/`, with `~2`, `~3`, … at
    /// its end where that is taken. Returns the relative path it has now; durable on return.
    pub fn set_aside(&self, relative: &str) -> Result<String, VolumeError> {
        let shared = &self.shared;
        let from = shared.root.join(relative);
        io::check_relative(relative).map_err(VolumeError::io(&from))?;
        if self.is_adopted() {
            return Err(VolumeError::Failed {
                name: self.name().to_owned(),
                reason: "it was adopted, and stays as it is".to_owned(),
            });
        }
        let _call = self.call();
        for (end, _) in relative.match_indices('/') {
            // Through a link the way may lead out of the volume.
            let parent = shared.root.join(&relative[..end]);
            let entry = shared
                .disk
                .entry(&parent)
                .map_err(VolumeError::io(&parent))?;
            if entry.is_none_or(|entry| !entry.is_dir) {
                return Err(VolumeError::io(&parent)(ErrorKind::NotADirectory.into()));
            }
        }
        let plain = format!("{}/{relative}", layout::SUSPECT_FOLDER);
        let folder = plain.rsplit_once('/').map_or("", |(folder, _)| folder);
        shared.ensure_folders(folder)?;
        for time in 1..=TIMES_MAX {
            let to = match time {
                1 => plain.clone(),
                n => format!("{plain}~{n}"),
            };
            let path = shared.root.join(&to);
            match self.rename_aside(&from, &path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                // Somebody tidied up.
                Err(error) if error.kind() == ErrorKind::NotFound && time == 1 => {
                    shared.forget_folders(folder);
                    shared.ensure_folders(folder)?;
                    self.rename_aside(&from, &path)
                }
                other => other,
            }
            .map_err(VolumeError::io(&from))?;
            for changed in [&from, &path] {
                let parent = changed.parent().unwrap_or(&shared.root);
                let flushed = shared.disk.sync_dir(parent);
                flushed.map_err(shared.folder_flush_failed(parent))?;
            }
            return Ok(to);
        }
        Err(VolumeError::NameTaken { path: plain })
    }

    pub(super) fn rename_aside(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        let disk = &self.shared.disk;
        match disk.rename_noreplace(from, to) {
            // Where the file system cannot promise it; nobody else makes names there.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::InvalidInput | ErrorKind::Unsupported
                ) =>
            {
                match disk.entry(to)? {
                    Some(_) => Err(ErrorKind::AlreadyExists.into()),
                    None => disk.rename(from, to),
                }
            }
            other => other,
        }
    }

    /// Reads the label from the medium, not from memory: whether the disk itself still works.
    pub fn reread_label(&self) -> Result<(), VolumeError> {
        let shared = &self.shared;
        let _call = self.call();
        let path = shared.home.join(layout::LABEL_FILE);
        let file = shared.disk.open_read(&path);
        file.map_err(VolumeError::io(&path))?.forget_cached();
        match label::read_label(&shared.disk, &shared.home)? {
            super::LabelState::Label(label) if label.volume_id == self.id() => {}
            _ => {
                let error = std::io::Error::other("it is not the label it was");
                return Err(VolumeError::io(&path)(error));
            }
        }
        // The label of an adopted volume may be on another disk.
        self.folder("").map_err(VolumeError::io(&shared.root))?;
        Ok(())
    }
}
