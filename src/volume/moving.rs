//! Files that change their place on one volume: out of the image tree to `superseded/` or `trash/`, and back; and the
//! notes to people that lie beside them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::incoming::folder_of;
use super::io::Kind;
use super::{Volume, VolumeError, io, layout};

/// Longest note that is read back, in bytes.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// What became of one file that was to be moved.
#[derive(Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// Something has the new name; nothing was changed.
    Taken,
    /// There is no file at the old name.
    Missing,
    /// Why not; nothing was changed.
    Not(String),
}

impl<T: Send + 'static> Volume<T> {
    /// Gives each file, by its relative path, another; never one that is taken. All of that is durable on return.
    ///
    /// After an error some may have their new names.
    pub fn move_all(&self, moves: &[(&str, &str)]) -> Result<Vec<Moved>, VolumeError> {
        self.must_be_ours()?;
        let _call = self.call();
        let (mut entered, mut left) = (BTreeSet::new(), BTreeSet::new());
        let mut moved = Vec::with_capacity(moves.len());
        for (from, to) in moves {
            let done = self.move_one(from, to)?;
            if done == Moved::Done {
                entered.insert(parent_of(to));
                left.insert(parent_of(from));
            }
            moved.push(done);
        }
        // The new names first: after a power cut there is one of the two at least.
        for folder in entered.into_iter().chain(left) {
            self.sync_folder(folder)?;
        }
        Ok(moved)
    }

    fn move_one(&self, from: &str, to: &str) -> Result<Moved, VolumeError> {
        let shared = &self.shared;
        if let Err(error) = self.is_reached_by_folders(from) {
            return Ok(match error.kind() {
                ErrorKind::NotFound => Moved::Missing,
                _ => Moved::Not(error.to_string()),
            });
        }
        let folder = folder_of(&shared.root, to)?;
        let (old, new) = (shared.root.join(from), shared.root.join(to));
        for attempt in 0..2 {
            shared.ensure_folders(folder)?;
            if let Err(error) = self.is_reached_by_folders(to)
                && error.kind() != ErrorKind::NotFound
            {
                return Ok(Moved::Not(error.to_string()));
            }
            return Ok(match self.rename_aside(&old, &new) {
                Ok(()) => Moved::Done,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Moved::Taken,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let is_there = shared.disk.entry(&old).map_err(VolumeError::io(&old))?;
                    if is_there.is_some() && attempt == 0 {
                        // Somebody removed an empty folder that was known to be there.
                        shared.forget_folders(folder);
                        continue;
                    }
                    Moved::Missing
                }
                Err(error) => Moved::Not(error.to_string()),
            });
        }
        Ok(Moved::Not(
            "its folder is removed again and again".to_owned(),
        ))
    }

    /// Removes files for good, by their relative paths, and folders that are empty then; durable on return. One that is
    /// not there is passed over. Where a file cannot be removed: why not.
    pub fn remove_all(&self, paths: &[&str]) -> Result<Vec<Option<String>>, VolumeError> {
        self.must_be_ours()?;
        let _call = self.call();
        let mut left = BTreeSet::new();
        let mut removed = Vec::with_capacity(paths.len());
        for path in paths {
            let result = self
                .is_reached_by_folders(path)
                .and_then(|()| self.shared.disk.remove(&self.shared.root.join(path)));
            removed.push(match result {
                Ok(()) => {
                    left.insert(parent_of(path));
                    None
                }
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => Some(error.to_string()),
            });
        }
        for folder in left {
            self.sync_folder(folder)?;
        }
        for path in paths {
            self.remove_empty_folders(path);
        }
        Ok(removed)
    }

    /// Removes the folders above a file that hold nothing any more. That is not flushed: they may come back.
    pub fn remove_empty_folders(&self, relative: &str) {
        let mut folder = relative;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            self.shared.forget_folders(parent);
            // Not empty, mostly.
            let path = self.shared.root.join(parent);
            match self.shared.disk.remove_dir(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => break,
                _ => folder = parent,
            }
        }
    }

    /// The note in a folder, if there is one.
    pub fn note(&self, folder: &str) -> Option<String> {
        let path = format!("{folder}/{}", layout::NOTE_FILE);
        self.is_reached_by_folders(&path).ok()?;
        let path = self.shared.root.join(path);
        let bytes = self.shared.disk.read_small(&path, NOTE_BYTES_MAX).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Writes the note in a folder, which is made if it is not there: the whole new one or the whole old one, whenever
    /// the power goes.
    pub fn write_note(&self, folder: &str, text: &str) -> Result<(), VolumeError> {
        self.must_be_ours()?;
        let shared = &self.shared;
        let _call = self.call();
        // Its name may be known and the folder removed since.
        shared.forget_folders(folder);
        shared.ensure_folders(folder)?;
        let path = shared.root.join(folder).join(layout::NOTE_FILE);
        let temporary = shared.root.join(folder).join(layout::NOTE_TEMPORARY_FILE);
        let relative = format!("{folder}/{}", layout::NOTE_FILE);
        self.is_reached_by_folders(&relative)
            .and_then(|()| {
                let file = shared.disk.open_or_create(&temporary)?;
                file.set_len(0)?;
                file.write_at(0, text.as_bytes())?;
                file.sync_data()?;
                shared.disk.rename(&temporary, &path)?;
                shared.disk.sync_dir(&shared.root.join(folder))
            })
            .map_err(VolumeError::io(&path))
    }

    /// Removes the note in a folder, and the folders that are empty then.
    pub fn remove_note(&self, folder: &str) {
        let _call = self.call();
        for name in [layout::NOTE_FILE, layout::NOTE_TEMPORARY_FILE] {
            let path = format!("{folder}/{name}");
            if self.is_reached_by_folders(&path).is_ok() {
                // Not there, mostly.
                let _ = self.shared.disk.remove(&self.shared.root.join(&path));
            }
        }
        self.remove_empty_folders(&format!("{folder}/{}", layout::NOTE_FILE));
    }

    /// Whether there is no such folder, or nothing in it but a note and empty folders, which are removed.
    pub fn is_emptied(&self, folder: &str) -> bool {
        let _call = self.call();
        let names = match self.folder(folder) {
            Ok(names) => names,
            Err(error) => return error.kind() == ErrorKind::NotFound,
        };
        let others = names
            .into_iter()
            .filter(|(name, _)| name != layout::NOTE_FILE && name != layout::NOTE_TEMPORARY_FILE);
        let mut is_emptied = true;
        for (name, kind) in others {
            let path = self.shared.root.join(folder).join(&name);
            if let Some(name) = name.to_str() {
                self.shared.forget_folders(&format!("{folder}/{name}"));
            }
            is_emptied &= kind == Kind::Folder && self.shared.disk.remove_dir(&path).is_ok();
        }
        is_emptied
    }

    fn must_be_ours(&self) -> Result<(), VolumeError> {
        match self.is_adopted() {
            false => Ok(()),
            true => Err(VolumeError::Failed {
                name: self.name().to_owned(),
                reason: "it was adopted, and stays as it is".to_owned(),
            }),
        }
    }

    /// Whether all that stands before the name in a relative path is folders: through a link the way may lead out of the
    /// volume.
    pub(super) fn is_reached_by_folders(&self, relative: &str) -> std::io::Result<()> {
        io::check_relative(relative)?;
        for (end, _) in relative.match_indices('/') {
            let parent: PathBuf = self.shared.root.join(&relative[..end]);
            match self.shared.disk.entry(&parent)? {
                Some(entry) if entry.is_dir => {}
                Some(_) => return Err(ErrorKind::NotADirectory.into()),
                None => return Err(ErrorKind::NotFound.into()),
            }
        }
        Ok(())
    }

    fn sync_folder(&self, relative: &str) -> Result<(), VolumeError> {
        let path: &Path = &self.shared.root.join(relative);
        match self.shared.disk.sync_dir(path) {
            // Removed as empty by somebody: nothing is left to be flushed.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            flushed => flushed.map_err(self.shared.folder_flush_failed(path)),
        }
    }
}

fn parent_of(relative: &str) -> &str {
    relative.rsplit_once('/').map_or("", |(folder, _)| folder)
}
