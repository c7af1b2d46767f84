//! Opening a volume: the lock, its folders, and how files get names there.

use std::path::Path;

use super::io::{Disk, DiskFile};
use super::{PublishBy, VolumeError, layout};

/// Longest text of [`layout::LOCK_FILE`] that is read, in bytes.
const OWNER_BYTES_MAX: u64 = 4096;

/// Locks the volume for this process.
pub(super) fn lock(disk: &Disk, name: &str, root: &Path) -> Result<Option<DiskFile>, VolumeError> {
    let path = root.join(layout::LOCK_FILE);
    let (file, writable) = match disk.open_or_create(&path) {
        Ok(file) => (file, true),
        Err(error) if is_read_only(&error) => match disk.open_read(&path) {
            Ok(file) => (file, false),
            // Nobody else can write there either.
            Err(error) if is_read_only(&error) || is_missing(&error) => return Ok(None),
            Err(error) => return Err(VolumeError::io(&path)(error)),
        },
        Err(error) => return Err(VolumeError::io(&path)(error)),
    };
    if !file.try_lock().map_err(VolumeError::io(&path))? {
        let owner = disk.read_small(&path, OWNER_BYTES_MAX).unwrap_or_default();
        let owner = String::from_utf8_lossy(&owner).trim().to_owned();
        return Err(VolumeError::Locked {
            name: name.to_owned(),
            path: root.to_owned(),
            owner: if owner.is_empty() {
                "another process".to_owned()
            } else {
                owner
            },
        });
    }
    if writable {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let owner = format!("process {} on {host} since {now}\n", std::process::id());
        // For the error message only: not flushed, and a full disk is no
        // reason to refuse.
        let told = file
            .set_len(0)
            .and_then(|()| file.write_at(0, owner.as_bytes()));
        if let Err(error) = told {
            tracing::debug!(path = %path.display(), %error, "owner not written");
        }
    }
    Ok(Some(file))
}

/// Makes the folders of a volume and finds out how files get their names there,
/// by doing it once.
pub(super) fn prepare(disk: &Disk, root: &Path, ledger: &Path) -> Result<PublishBy, VolumeError> {
    let incoming = root.join(layout::INCOMING_FOLDER);
    let quarantine = root.join(layout::QUARANTINE_FOLDER);
    for folder in [&incoming, &quarantine, &ledger.to_owned()] {
        disk.create_dir_durable(folder)
            .map_err(VolumeError::io(folder))?;
    }
    // Also when the folders were there: a process that was killed may have made
    // them a moment ago without getting as far as its flush.
    let ledgers = root.join(layout::LEDGERS_FOLDER);
    for folder in [root, &ledgers] {
        disk.sync_dir(folder).map_err(VolumeError::io(folder))?;
    }
    for name in disk
        .list(&incoming, usize::MAX)
        .map_err(VolumeError::io(&incoming))?
    {
        // Of an opening that was cut short.
        if name.to_string_lossy().starts_with("probe-") {
            let path = incoming.join(name);
            disk.remove(&path).map_err(VolumeError::io(&path))?;
        }
    }
    let id = uuid::Uuid::new_v4().simple();
    let (a, b) = (
        incoming.join(format!("probe-{id}-a")),
        incoming.join(format!("probe-{id}-b")),
    );
    let found = probe(disk, &a, &b);
    for path in [&a, &b] {
        match disk.remove(path) {
            Err(error) if !is_missing(&error) => return Err(VolumeError::io(path)(error)),
            _ => {}
        }
    }
    found
}

fn probe(disk: &Disk, a: &Path, b: &Path) -> Result<PublishBy, VolumeError> {
    let taken = |result: std::io::Result<()>| matches!(result, Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists);
    let file = disk.create_new(a).map_err(VolumeError::io(a))?;
    file.write_at(0, b"probe").map_err(VolumeError::io(a))?;
    file.sync_data().map_err(VolumeError::flush(a))?;
    let linked = disk.link(a, b).is_ok();
    if linked && taken(disk.link(a, b)) {
        return Ok(PublishBy::Link);
    }
    if linked {
        disk.remove(b).map_err(VolumeError::io(b))?;
    }
    // A second file, since a rename of a name onto itself means nothing.
    disk.create_new(b).map_err(VolumeError::io(b))?;
    if taken(disk.rename_noreplace(a, b)) {
        return Ok(PublishBy::Rename);
    }
    Err(VolumeError::CannotPublish {
        path: a.parent().unwrap_or(a).to_owned(),
    })
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// Also a disk whose rights forbid writing, for which the same is to be done.
fn is_read_only(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
    )
}
