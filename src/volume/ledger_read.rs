//! The lines of a ledger: their form, their chain of checksums, reading them.
//!
//! A line is a JSON object on one line, with its checksum as the last member:
//!
//! ```text
//! {"event":"stored","sop":"1.2.3","crc":"89abcdef"}
//! ```
//!
//! The checksum is CRC-32 (IEEE) over the eight hex digits of the line before,
//! followed by the text of this line up to, not including, `,"crc"`. Before the
//! first line of a ledger stands `00000000`. Each segment begins with a header,
//! chained to the last line of the segment before and repeating its checksum, so
//! that a segment can be checked alone:
//!
//! ```text
//! {"ledger":1,"volume":"91ab…","segment":2,"previous":"89abcdef","crc":"01234567"}
//! ```
//!
//! # A bad line
//!
//! A line whose checksum is wrong is skipped and counted; the lines after it are
//! kept. The line after a bad one is good when it fits what the bad line claims
//! as its checksum (its text was damaged), what its text gives (its checksum was
//! damaged), or the line before it (it was put in between). If it fits none of
//! these it cannot be checked and counts as bad too; the chain goes on from what
//! it claims.

use std::ops::ControlFlow;
use std::path::Path;

use super::io::{Disk, DiskFile};
use super::layout;
use super::ledger::LedgerError;

/// Longest line in bytes, line feed included.
///
/// Longer ones are refused when written and bad when read. Room for all values
/// the index keeps of a study, every character of them escaped.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// `,"crc":"` + 8 digits + `"}`.
const ENDING_BYTES: usize = 18;

/// A place in a ledger: just after a line. The default is the very beginning.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Position {
    /// Number of the segment, from 1; 0 before the first line.
    pub segment: u32,
    /// Offset in the segment just after the line, in bytes.
    pub offset: u64,
    /// Checksum of that line.
    pub chain: u32,
}

/// What [`read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// After the last good line that was handed out.
    pub position: Position,
    /// Lines skipped as damaged that have a good line after them, and places
    /// where lines are missing between two segments.
    pub bad_lines: u64,
    /// The ledger does not contain the position to start from: this is not the
    /// ledger that was read before (a disk restored from a clone). Nothing was
    /// handed out; read it again from the beginning.
    pub mismatch: bool,
}

/// Reads the lines after `from`, in order, across segments.
///
/// `f` gets each line as the object that was appended (without its checksum),
/// and the position after it. A torn last line is not handed out and not
/// counted. In a ledger that is being written lines may be handed out that are
/// not durable yet: compare with [`super::ledger::Ledger::position`].
pub fn read(
    disk: &Disk,
    folder: &Path,
    from: Position,
    f: &mut dyn FnMut(&str, Position) -> ControlFlow<()>,
) -> Result<ReadReport, LedgerError> {
    let segments = segments(disk, folder)?;
    let mut report = ReadReport {
        position: from,
        ..ReadReport::default()
    };
    if from.segment > 0 && !contains(disk, folder, from)? {
        report.mismatch = true;
        return Ok(report);
    }
    let mut scan = Scan::new(from);
    for segment in segments {
        if segment < from.segment {
            continue;
        }
        let path = folder.join(layout::segment_file(segment));
        let file = disk.open_read(&path).map_err(LedgerError::io(&path))?;
        let start = if segment == from.segment {
            from.offset
        } else {
            0
        };
        let flow = scan
            .segment(file, segment, start, f)
            .map_err(LedgerError::io(&path))?;
        if flow.is_break() {
            break;
        }
    }
    report.position = scan.end;
    report.bad_lines = scan.bad_lines;
    Ok(report)
}

/// The numbers of the segments in a folder, ascending; none when it is missing.
pub(super) fn segments(disk: &Disk, folder: &Path) -> Result<Vec<u32>, LedgerError> {
    let names = match disk.list(folder, usize::MAX) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(LedgerError::io(folder)(error)),
    };
    let mut segments: Vec<u32> = names
        .iter()
        .filter_map(|name| layout::segment_of_file(name.to_str()?))
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Whether a line with the checksum of `position` ends exactly there.
pub(super) fn contains(
    disk: &Disk,
    folder: &Path,
    position: Position,
) -> Result<bool, LedgerError> {
    let claimed = claimed_before(disk, folder, position.segment, position.offset)?;
    Ok(claimed == Some(position.chain))
}

/// The checksum that a line which ends exactly at `offset` claims; `None` when none ends there.
pub(super) fn claimed_before(
    disk: &Disk,
    folder: &Path,
    segment: u32,
    offset: u64,
) -> Result<Option<u32>, LedgerError> {
    let path = folder.join(layout::segment_file(segment));
    let file = match disk.open_read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LedgerError::io(&path)(error)),
    };
    let Some(start) = offset.checked_sub(ENDING_BYTES as u64 + 1) else {
        return Ok(None);
    };
    let mut ending = [0; ENDING_BYTES + 1];
    let mut filled = 0;
    while filled < ending.len() {
        let at = start + filled as u64;
        match file.read_at(at, &mut ending[filled..]) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(error) => return Err(LedgerError::io(&path)(error)),
        }
    }
    let claimed = ending.strip_suffix(b"\n").and_then(split);
    Ok(claimed.map(|(_, crc)| crc))
}

/// Appends `object` (`{…}` with at least one member) to `out` as a line after a
/// line with the checksum `chain`; returns its checksum.
pub(super) fn put_line(out: &mut Vec<u8>, chain: u32, object: &str) -> u32 {
    let body = object.strip_suffix('}').unwrap_or(object);
    let crc = checksum(chain, body.as_bytes());
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
    crc
}

pub(super) fn checksum(chain: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(format!("{chain:08x}").as_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// A line without its line feed, as its body and the checksum it claims.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], u32)> {
    let (body, ending) = line.split_at_checked(line.len().checked_sub(ENDING_BYTES)?)?;
    let digits = ending.strip_prefix(b",\"crc\":\"")?.strip_suffix(b"\"}")?;
    if !digits
        .iter()
        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    let crc = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((body, crc))
}

/// The header's own word for the checksum before it.
fn previous_of_header(line: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(rename = "ledger")]
        _ledger: u32,
        previous: String,
    }
    let header: Header = serde_json::from_slice(line).ok()?;
    u32::from_str_radix(&header.previous, 16).ok()
}

pub(super) fn is_header(body: &[u8]) -> bool {
    body.starts_with(b"{\"ledger\":")
}

/// A pass over segments, carrying the chain from one to the next.
pub(super) struct Scan {
    /// After the last good line.
    pub end: Position,
    pub bad_lines: u64,
    /// Bad lines with no good one after them yet.
    pending: u64,
    /// What the line before may have had as checksum; more than one only after
    /// a bad line. The first is the most trusted.
    chain: Vec<u32>,
    /// Where each good line begins and ends, its header included; kept only for who asks. What cannot be read is damage
    /// then, and no error.
    pub lines: Option<Vec<GoodLine>>,
}

/// A good line: its place in the segment and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoodLine {
    pub start: u64,
    pub end: u64,
    pub chain: u32,
}

impl Scan {
    pub fn new(from: Position) -> Scan {
        Scan {
            end: from,
            bad_lines: 0,
            pending: 0,
            chain: vec![from.chain],
            lines: None,
        }
    }

    /// For one segment without what was before it; its header says that.
    pub fn alone() -> Scan {
        Scan {
            chain: Vec::new(),
            ..Scan::new(Position::default())
        }
    }

    /// Reads one segment from `start`. Continues after its last good line.
    pub fn segment(
        &mut self,
        mut file: DiskFile,
        segment: u32,
        start: u64,
        f: &mut dyn FnMut(&str, Position) -> ControlFlow<()>,
    ) -> std::io::Result<ControlFlow<()>> {
        let mut lines = match self.lines {
            Some(_) => Lines::with_zeros(start),
            None => Lines::new(start),
        };
        while lines.next(&mut file)? {
            let line = lines.line.as_slice();
            let at_start = lines.start == 0;
            if at_start && let Some(previous) = previous_of_header(line) {
                // Chained to the segment before. If that one ended otherwise,
                // lines are missing in between, but this segment stands alone.
                let known = self.chain.is_empty() || self.chain.contains(&previous);
                if !known && self.pending == 0 {
                    self.pending = 1;
                }
                self.chain.insert(0, previous);
            }
            let Some(crc) = self.check(line) else {
                self.pending += 1;
                continue;
            };
            self.bad_lines += std::mem::take(&mut self.pending);
            self.end = Position {
                segment,
                offset: lines.end,
                chain: crc,
            };
            if let Some(good) = &mut self.lines {
                good.push(GoodLine {
                    start: lines.start,
                    end: lines.end,
                    chain: crc,
                });
            }
            let object_bytes = line.len() - ENDING_BYTES;
            if is_header(&line[..object_bytes]) {
                continue;
            }
            lines.line.truncate(object_bytes);
            lines.line.push(b'}');
            let Ok(object) = std::str::from_utf8(&lines.line) else {
                self.bad_lines += 1;
                continue;
            };
            if f(object, self.end).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if lines.unterminated {
            self.pending += 1;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The checksum of a good line; `None` for a bad one.
    fn check(&mut self, line: &[u8]) -> Option<u32> {
        let first = self.chain.first().copied();
        if let Some((body, claimed)) = split(line) {
            let fits = |before: &u32| checksum(*before, body) == claimed;
            let good = self.chain.iter().any(fits);
            self.chain.clear();
            self.chain.push(claimed);
            if good {
                return Some(claimed);
            }
            if let Some(first) = first {
                self.chain.push(checksum(first, body));
                self.chain.push(first);
            }
            return None;
        }
        // It claims nothing. If only its ending was damaged, a byte changed or
        // missing there, its text still gives what it was.
        if let Some(first) = first {
            self.chain.truncate(3);
            for ending in [ENDING_BYTES, ENDING_BYTES - 1] {
                if let Some(body) = line.len().checked_sub(ending) {
                    self.chain.push(checksum(first, &line[..body]));
                }
            }
        }
        None
    }
}

/// Splits a file into lines without holding more than one of bounded length.
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// The part of `buffer` that is not used up.
    unread: std::ops::Range<usize>,
    /// The line without its line feed; cut when it is too long, so that it is
    /// bad in any case.
    pub line: Vec<u8>,
    pub start: u64,
    pub end: u64,
    /// The file ended without a line feed.
    unterminated: bool,
    /// Blocks that the disk cannot read and that may count as zeros.
    blocks_left: u32,
}

/// Unreadable blocks of a segment that are taken as damage. A disk takes seconds for each.
pub(super) const UNREADABLE_BLOCKS_MAX: u32 = 256;

impl Lines {
    pub fn new(start: u64) -> Lines {
        Lines {
            buffer: Vec::new(),
            unread: 0..0,
            line: Vec::new(),
            start,
            end: start,
            unterminated: false,
            blocks_left: 0,
        }
    }

    /// With zeros for what the disk cannot read.
    fn with_zeros(start: u64) -> Lines {
        Lines {
            blocks_left: UNREADABLE_BLOCKS_MAX,
            ..Lines::new(start)
        }
    }

    /// Moves to the next whole line; false at the end of the file.
    pub fn next(&mut self, file: &mut DiskFile) -> std::io::Result<bool> {
        self.line.clear();
        self.start = self.end;
        loop {
            if self.unread.is_empty() {
                self.buffer.resize(256 * 1024, 0);
                let left = &mut self.blocks_left;
                let count = match left {
                    0 => file.read_at(self.end, &mut self.buffer)?,
                    _ => file.read_around(self.end, &mut self.buffer, left)?,
                };
                if count == 0 {
                    self.unterminated = self.end > self.start;
                    return Ok(false);
                }
                self.unread = 0..count;
            }
            let bytes = &self.buffer[self.unread.clone()];
            let line_feed = bytes.iter().position(|b| *b == b'\n');
            let piece = &bytes[..line_feed.unwrap_or(bytes.len())];
            // One byte over the limit is kept, which makes it too long.
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            let used = piece.len() + usize::from(line_feed.is_some());
            self.unread.start += used;
            self.end += used as u64;
            if line_feed.is_some() {
                if self.line.len() >= LINE_BYTES_MAX {
                    self.line.clear();
                }
                return Ok(true);
            }
        }
    }
}
