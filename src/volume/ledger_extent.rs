//! How much there is to read in a ledger, and the newest part of it.

use std::ops::ControlFlow;
use std::path::Path;

use super::io::Disk;
use super::layout;
use super::ledger::{LedgerError, Position};
use super::ledger_read::{Scan, segments};

/// Bytes of the ledger in `folder` after `from`; what cannot be asked counts as nothing. For progress only.
pub fn bytes_after(disk: &Disk, folder: &Path, from: Position) -> u64 {
    let all: u64 = segments(disk, folder)
        .unwrap_or_default()
        .into_iter()
        .filter(|segment| *segment >= from.segment)
        .filter_map(|segment| {
            disk.entry(&folder.join(layout::segment_file(segment)))
                .ok()
                .flatten()
        })
        .map(|entry| entry.len)
        .sum();
    all.saturating_sub(from.offset)
}

/// Gives `f` each good line of the newest segment that has any; the lines before it are not read.
pub fn read_last_segment(
    disk: &Disk,
    folder: &Path,
    f: &mut dyn FnMut(&str),
) -> Result<(), LedgerError> {
    read_last_segments(disk, folder, 1, f)
}

/// As [`read_last_segment`] for so many segments that have any, the newest first.
pub fn read_last_segments(
    disk: &Disk,
    folder: &Path,
    most: usize,
    f: &mut dyn FnMut(&str),
) -> Result<(), LedgerError> {
    let mut read = 0;
    for segment in segments(disk, folder)?.into_iter().rev() {
        let path = folder.join(layout::segment_file(segment));
        let file = disk.open_read(&path).map_err(LedgerError::io(&path))?;
        let mut lines = 0;
        let _ = Scan::alone()
            .segment(file, segment, 0, &mut |line, _| {
                lines += 1;
                f(line);
                ControlFlow::Continue(())
            })
            .map_err(LedgerError::io(&path))?;
        read += usize::from(lines > 0);
        if read == most {
            break;
        }
    }
    Ok(())
}

/// Gives `f` each good line of the last `most` segments, in their order.
pub fn read_newest(
    disk: &Disk,
    folder: &Path,
    most: usize,
    f: &mut dyn FnMut(&str),
) -> Result<(), LedgerError> {
    let all = segments(disk, folder)?;
    for segment in &all[all.len().saturating_sub(most)..] {
        let path = folder.join(layout::segment_file(*segment));
        let file = disk.open_read(&path).map_err(LedgerError::io(&path))?;
        let _ = Scan::alone()
            .segment(file, *segment, 0, &mut |line, _| {
                f(line);
                ControlFlow::Continue(())
            })
            .map_err(LedgerError::io(&path))?;
    }
    Ok(())
}
