//! What could not be stored as an instance, kept for a person to look at.
//!
//! Each case is two files in `quarantine/`: `<id>.bytes` as received and
//! `<id>.json` with the reason. Nothing here is ever removed to make room: the
//! newest is refused instead, since the first of a series of failures is the
//! one worth looking at.

use std::path::Path;

use super::incoming::Incoming;
use super::{Shared, VolumeError, layout};

/// Longest reason, in bytes.
const REASON_BYTES_MAX: u64 = 64 * 1024;
/// What a case counts at least, in bytes, so that their number is bounded too.
const CASE_BYTES_MIN: u64 = 8 * 1024;
/// Cases looked at.
const CASES_MAX: usize = 100_000;

/// The space taken by all cases, in bytes.
pub(super) fn used_bytes(shared: &Shared) -> std::io::Result<u64> {
    let folder = shared.root.join(layout::QUARANTINE_FOLDER);
    let mut used = 0;
    for name in shared.disk.list(&folder, CASES_MAX)? {
        if let Some(entry) = shared.disk.entry(&folder.join(name))? {
            used += entry.len.max(CASE_BYTES_MIN / 2);
        }
    }
    Ok(used)
}

pub(super) fn keep(
    shared: &Shared,
    mut incoming: Incoming,
    reason_json: &str,
    limit_bytes: u64,
) -> Result<String, VolumeError> {
    let reason_bytes = (reason_json.len() as u64).min(REASON_BYTES_MAX);
    let need = incoming.len().max(CASE_BYTES_MIN / 2) + reason_bytes.max(CASE_BYTES_MIN / 2);
    // Held to the end: two at once must not both fit into the last space.
    let mut used = shared.lock_quarantine();
    if used.saturating_add(need) > limit_bytes || reason_json.len() as u64 > REASON_BYTES_MAX {
        return Err(VolumeError::QuarantineFull {
            path: shared.root.join(layout::QUARANTINE_FOLDER),
            limit_bytes,
        });
    }
    incoming.flush()?;
    let folder = shared.root.join(layout::QUARANTINE_FOLDER);
    // Sorts by time when listed by name.
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let id = format!("{now}-{}", uuid::Uuid::new_v4().simple());
    let reason = folder.join(format!("{id}.json"));
    write(shared, &reason, reason_json.as_bytes())?;
    let bytes = folder.join(format!("{id}.bytes"));
    incoming.move_to(&bytes).map_err(VolumeError::io(&bytes))?;
    // Both names at once; a reason without bytes is not listed as a case.
    shared
        .disk
        .sync_dir(&folder)
        .map_err(shared.folder_flush_failed(&folder))?;
    *used += need;
    Ok(id)
}

fn write(shared: &Shared, path: &Path, bytes: &[u8]) -> Result<(), VolumeError> {
    let file = shared
        .disk
        .create_new(path)
        .map_err(VolumeError::io(path))?;
    file.write_at(0, bytes).map_err(VolumeError::io(path))?;
    // Before the bytes get their name beside it.
    file.sync_data().map_err(VolumeError::flush(path))
}

/// The reasons of all cases, oldest first; one that cannot be read is left out.
pub(super) fn reasons(shared: &Shared) -> Vec<String> {
    let folder = shared.root.join(layout::QUARANTINE_FOLDER);
    let mut names = shared.disk.list(&folder, CASES_MAX).unwrap_or_default();
    names.sort_unstable();
    let reason = |name: &str| {
        let id = name.strip_suffix(".json")?;
        shared
            .disk
            .entry(&folder.join(format!("{id}.bytes")))
            .ok()??;
        let path = folder.join(name);
        let bytes = shared.disk.read_small(&path, REASON_BYTES_MAX).ok()?;
        String::from_utf8(bytes).ok()
    };
    names
        .iter()
        .filter_map(|name| reason(name.to_str()?))
        .collect()
}
