//! Volumes that were not made by Kura: a tree of images is served where it lies, and nothing in it is changed.
//!
//! The label and the ledger are in the *home* of such a volume: the root of the tree, or, where that cannot be written or
//! has such names already, a folder beside the state. A home elsewhere also has a [`layout::WITNESS_FILE`], which tells the
//! medium when it comes back: a few of its files, with their sizes and the checksums of their beginnings.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::io::{Disk, Kind};
use super::label::{self, LabelState};
use super::layout::{self, Label};
use super::{Spec, VolumeError};

#[derive(Serialize, Deserialize)]
struct Witnesses {
    files: Vec<Witness>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Witness {
    /// Relative to the root of the tree.
    path: String,
    size: u64,
    /// Of the first [`BEGINNING_BYTES`].
    crc32: String,
}

const WITNESSES_COUNT: usize = 8;
/// Enough for the UIDs of an instance: files of two media often have the same names and sizes.
const BEGINNING_BYTES: u64 = 4096;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Folders looked into for witnesses.
const FOLDERS_MAX: usize = 10_000;

/// Makes the tree at `spec.path` a volume. `beside`: where homes are that cannot be in their tree, one folder each.
///
/// Returns the label and the home, if that is not the root. The label is durable on return.
pub fn adopt(
    disk: &Disk,
    spec: &Spec,
    beside: &Path,
    archive_id: &str,
) -> Result<(Label, Option<PathBuf>), VolumeError> {
    let root = spec.path.as_path();
    let label = Label {
        adopted: true,
        ..label::new(spec, archive_id)
    };
    let is_there = |name: &str| {
        let path = root.join(name);
        disk.entry(&path)
            .map(|entry| entry.is_some())
            .map_err(VolumeError::io(&path))
    };
    let mut in_tree = true;
    for name in [
        layout::LABEL_FILE,
        layout::LOCK_FILE,
        layout::LEDGERS_FOLDER,
    ] {
        in_tree &= !is_there(name)?;
    }
    if in_tree {
        match label::write(disk, root, &label) {
            Ok(()) => return Ok((label, None)),
            Err(VolumeError::ReadOnly { .. } | VolumeError::Full { .. }) => {}
            Err(VolumeError::Io { source, .. }) if is_forbidden(&source) => {}
            Err(error) => return Err(error),
        }
    }
    let home = beside.join(&label.volume_id);
    let witnesses = witnesses(disk, root).map_err(VolumeError::io(root))?;
    disk.create_dir_durable(&home)
        .map_err(VolumeError::io(&home))?;
    let file = home.join(layout::WITNESS_FILE);
    let text = serde_json::to_vec_pretty(&witnesses)
        .map_err(|error| VolumeError::io(&file)(std::io::Error::other(error)))?;
    // The label is written and flushed after it: a home with a label is whole.
    let written = disk.open_or_create(&file).and_then(|new| {
        new.write_at(0, &text)?;
        new.sync_data()
    });
    written.map_err(VolumeError::io(&file))?;
    label::write(disk, &home, &label)?;
    Ok((label, Some(home)))
}

fn is_forbidden(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
    )
}

/// The label in `home`, if the medium it was made for is at `root`.
pub fn label_of(root: &Path, home: &Path) -> Result<LabelState, VolumeError> {
    let disk = Disk::default();
    let Ok(bytes) = disk.read_small(&home.join(layout::WITNESS_FILE), FILE_BYTES_MAX) else {
        return Ok(LabelState::Missing);
    };
    let said: Witnesses = match serde_json::from_slice(&bytes) {
        Ok(said) => said,
        Err(_) => return Ok(LabelState::Missing),
    };
    let is_same = |said: &Witness| witness(&disk, root, &said.path).is_ok_and(|now| now == *said);
    match !said.files.is_empty() && said.files.iter().all(is_same) {
        true => label::read_label(&disk, home),
        false => Ok(LabelState::Missing),
    }
}

fn witness(disk: &Disk, root: &Path, path: &str) -> std::io::Result<Witness> {
    let file = disk.open_below(root, path)?;
    let size = file.len()?;
    let mut bytes = vec![0; size.min(BEGINNING_BYTES) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Witness {
        path: path.to_owned(),
        size,
        crc32: format!("{:08x}", crc32fast::hash(&bytes)),
    })
}

/// The first files of the tree, in the order of names, those of a folder before those of the folders in it.
fn witnesses(disk: &Disk, root: &Path) -> std::io::Result<Witnesses> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    for _ in 0..FOLDERS_MAX {
        let Some(folder) = folders.pop() else { break };
        let mut names = disk.folder(&root.join(&folder))?;
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut below = Vec::new();
        for (name, kind) in names {
            let Some(name) = name.to_str() else { continue };
            if layout::IGNORED_NAMES.contains(&name) || (folder.is_empty() && layout::is_own(name))
            {
                continue;
            }
            let path = match folder.is_empty() {
                true => name.to_owned(),
                false => format!("{folder}/{name}"),
            };
            match kind {
                Kind::Folder => below.push(path),
                Kind::File => files.push(witness(disk, root, &path)?),
                Kind::Other => {}
            }
            if files.len() == WITNESSES_COUNT {
                return Ok(Witnesses { files });
            }
        }
        folders.extend(below.into_iter().rev());
    }
    match files.is_empty() {
        true => Err(std::io::Error::other("there are no files in it")),
        false => Ok(Witnesses { files }),
    }
}
