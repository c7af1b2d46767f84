//! What is looked at of a ledger when it is opened, so that this takes no longer the more it holds.
//!
//! Lines are only ever added to the last segment: all but that one were whole, and flushed, before the next began. So a
//! power cut or a kill can have harmed only the last, which is read. Of the others the length, the header and the checksum
//! of the last line are asked: they say whether a segment is missing, was cut off, or is of another history. So is the end
//! of each copy.
//!
//! Rot inside a segment shows in none of these, and is looked for once the volume is open.

use std::path::Path;

use super::super::io::{Disk, DiskFile, is_unreadable};
use super::super::layout;
use super::super::ledger::{LedgerError, Position};
use super::super::ledger_read::{checksum, claimed_before, contains, segments, split};
use super::super::shipping::place;
use super::{
    Copies, Healing, LedgerCopy, heal, is_header_of, segment_len, whole_lines, with_lines,
};

/// A header is not longer, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// As [`heal`], where the ends of the ledger and of its copies do not fit each other.
pub(in crate::volume) fn heal_at_opening(
    disk: &Disk,
    folder: &Path,
    copies: &Copies,
) -> Result<Healing, LedgerError> {
    let with_lines = with_lines(&copies.list);
    if with_lines.is_empty() {
        return Ok(Healing::default());
    }
    // What cannot be asked is in doubt.
    let fits = end_of(disk, folder).is_ok_and(|end| {
        with_lines
            .iter()
            .all(|copy| is_beginning(copy, (disk, folder), end))
    });
    match fits {
        true => Ok(Healing::default()),
        false => heal(disk, folder, copies),
    }
}

/// Whether a copy is, by its end, the beginning of the ledger that ends at `end`. One that cannot be read has nothing to
/// offer; one that is torn is for the shipper to mend.
fn is_beginning(copy: &LedgerCopy, (disk, folder): (&Disk, &Path), end: Position) -> bool {
    let last_line = || {
        let Some(last) = segments(&copy.disk, &copy.folder)?.pop() else {
            return Ok(None);
        };
        let len = segment_len(copy, last)?.unwrap_or(0);
        let chain = claimed_before(&copy.disk, &copy.folder, last, len)?;
        Ok::<_, LedgerError>(Some((last, len, chain)))
    };
    match last_line() {
        Ok(Some((segment, offset, _))) if (segment, offset) > place(end) => false,
        Ok(Some((segment, offset, Some(chain)))) => {
            let position = Position {
                segment,
                offset,
                chain,
            };
            contains(disk, folder, position).unwrap_or(false)
        }
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(copy = %copy.folder.display(), %error, "a copy cannot be read");
            true
        }
    }
}

/// How far the ledger is whole, as far as can be told by its ends.
fn end_of(disk: &Disk, folder: &Path) -> Result<Position, LedgerError> {
    let volume_id = folder.file_name().unwrap_or_default().to_string_lossy();
    let all = segments(disk, folder)?;
    let mut end = Position::default();
    for (number, segment) in (1..).zip(&all) {
        if number != *segment {
            break;
        }
        let path = folder.join(layout::segment_file(number));
        let file = disk.open_read(&path).map_err(LedgerError::io(&path))?;
        if number as usize == all.len() {
            let whole = whole_lines(file, &volume_id, number, end.chain, &mut |_| {})
                .map_err(LedgerError::io(&path))?;
            return Ok(match whole.offset {
                0 => end,
                _ => whole,
            });
        }
        let len = file.len().map_err(LedgerError::io(&path))?;
        let begins = begins_with_header(&file, &volume_id, number, end.chain);
        if !begins.map_err(LedgerError::io(&path))? {
            break;
        }
        let Some(chain) = claimed_before(disk, folder, number, len)? else {
            break;
        };
        end = Position {
            segment: number,
            offset: len,
            chain,
        };
    }
    Ok(end)
}

fn begins_with_header(
    file: &DiskFile,
    volume_id: &str,
    segment: u32,
    chain: u32,
) -> std::io::Result<bool> {
    let mut bytes = vec![0; HEADER_BYTES_MAX];
    let count = match file.read_at(0, &mut bytes) {
        Err(error) if is_unreadable(&error) => return Ok(false),
        count => count?,
    };
    let line = bytes[..count].split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let fits = split(line).is_some_and(|(body, claimed)| checksum(chain, body) == claimed);
    Ok(fits && is_header_of(line, volume_id, segment, chain))
}
