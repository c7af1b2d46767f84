//! A ledger that is not as it was left is put together again from a copy of it.
//!
//! A copy ([`super::shipping`]) is the beginning of its ledger, byte for byte. It is believed as far as each of its lines
//! fits the one before, from the first, and no farther. Where the ledger itself is whole for less, the copy knows more:
//!
//! - What is missing at the end of a segment, or is missing as a whole segment, is appended.
//! - A segment with damage is written again beside itself, from the copy and from the lines that only the ledger has
//!   (a copy is a little behind), and takes the place of the damaged one, which keeps another name.
//!
//! What the disk cannot read is damage too.
//!
//! When a ledger is opened its ends are looked at (`ends.rs`), and all of it only where these are in doubt. What lies in
//! between is read while the volume is open (`while_open.rs`): else the start would be the longer the more is stored.
//!
//! A ledger and a copy that both have good lines which the other has not are two histories: nothing is touched.
//!
//! # What a crash leaves
//!
//! A segment that is appended to is at each moment the beginning of what it will be; one that is replaced is the old one
//! or the new one. All else is found and done again at the next opening.

use std::path::{Path, PathBuf};

use super::io::{Disk, DiskFile, is_unreadable};
use super::layout;
use super::ledger::{LedgerError, Position};
use super::ledger_read::{
    GoodLine, Lines, Scan, UNREADABLE_BLOCKS_MAX, checksum, contains, is_header, segments, split,
};
use super::shipping::{complete_segment, place};

mod ends;
mod while_open;

pub(super) use ends::heal_at_opening;
pub use while_open::Read;

/// Damaged segments that are kept of one number. Of more, a disk that goes on rotting would fill itself.
const DAMAGED_COUNT_MAX: u32 = 8;
/// Read and written at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A copy of a ledger, in a folder that is named as the ledger's own is: by the id of its volume.
#[derive(Clone)]
pub struct LedgerCopy {
    pub disk: Disk,
    pub folder: PathBuf,
    /// It is there as long as the process is: not on a disk that may be unplugged.
    pub stays: bool,
}

/// What a ledger may be healed from when it is opened.
pub struct Copies<'a> {
    pub list: Vec<LedgerCopy>,
    /// Called before lines appear that are not at the end: who has read the ledger must read it again from the beginning.
    pub before_insert: &'a dyn Fn(),
}

impl Copies<'_> {
    pub fn none() -> Copies<'static> {
        Copies {
            list: Vec::new(),
            before_insert: &|| {},
        }
    }
}

/// How a ledger stood to its copies when it was opened.
#[derive(Clone, Default)]
pub struct Healing {
    /// For the administrator, a sentence each; none when there was nothing to do.
    pub notes: Vec<String>,
    /// For a ledger that could not be written: a copy that stays, and has all of its lines and more.
    pub read_instead: Option<LedgerCopy>,
}

/// Heals the ledger in `folder` from the best of its copies; durable on return. To be called before it is opened.
pub(super) fn heal(disk: &Disk, folder: &Path, copies: &Copies) -> Result<Healing, LedgerError> {
    heal_upto(disk, folder, copies, u32::MAX)
}

/// As [`heal`], of the segments up to `last`.
fn heal_upto(
    disk: &Disk,
    folder: &Path,
    copies: &Copies,
    last: u32,
) -> Result<Healing, LedgerError> {
    let mut healing = Healing::default();
    let plan = match look(disk, folder, &copies.list, last)? {
        Look::Nothing => return Ok(healing),
        Look::Diverged(copy) => {
            healing.notes.push(format!(
                "its ledger and the copy in {} went on differently; nothing was changed in either",
                copy.display()
            ));
            return Ok(healing);
        }
        Look::Heal(plan) => plan,
    };
    if plan.inserts {
        (copies.before_insert)();
    }
    for step in &plan.steps {
        match step {
            Step::Append {
                segment,
                have,
                want,
            } => complete_segment(
                (&plan.copy.disk, &plan.copy.folder),
                (disk, folder),
                *segment,
                *have,
                *want,
            )?,
            Step::Replace(replace) => replace.carry_out(disk, folder, &plan.copy)?,
        }
    }
    healing.notes.push(plan.sentence());
    Ok(healing)
}

/// As [`heal`], of a ledger that cannot be written.
pub(super) fn heal_nothing(
    disk: &Disk,
    folder: &Path,
    copies: &Copies,
) -> Result<Healing, LedgerError> {
    let mut healing = Healing::default();
    if let Look::Heal(plan) = look(disk, folder, &copies.list, u32::MAX)? {
        let what = "its ledger is damaged or has lost lines";
        let instead = plan.copy.stays && !plan.keeps_own;
        healing.notes.push(match instead {
            true => format!(
                "{what}, and cannot be written: its copy in {} is read instead",
                plan.copy.folder.display()
            ),
            false => format!("{what}, and cannot be written: it is read as it is"),
        });
        healing.read_instead = instead.then_some(plan.copy);
    }
    Ok(healing)
}

enum Look {
    Nothing,
    /// The copy in this folder.
    Diverged(PathBuf),
    Heal(Plan),
}

struct Plan {
    copy: LedgerCopy,
    steps: Vec<Step>,
    /// Lines appear that are not at the end of the ledger.
    inserts: bool,
    /// The ledger has lines, or what looks like them, that the copy has not.
    keeps_own: bool,
}

enum Step {
    Append {
        segment: u32,
        have: Option<u64>,
        want: u64,
    },
    Replace(Replace),
}

struct Replace {
    segment: u32,
    /// Checksum of the line before the segment.
    chain: u32,
    /// What comes before this offset is taken from the copy.
    upto: u64,
    /// Then what the damaged segment has from here on.
    own_from: Option<u64>,
}

/// `upto`: segments after this one are not looked at.
fn look(disk: &Disk, folder: &Path, copies: &[LedgerCopy], upto: u32) -> Result<Look, LedgerError> {
    let copies = with_lines(copies);
    if copies.is_empty() {
        return Ok(Look::Nothing);
    }
    let own = whole_part(disk, folder, upto)?;
    let mut agreeing: Vec<(&LedgerCopy, WholePart)> = Vec::new();
    let mut diverged = None;
    for copy in copies {
        // A disk that cannot be read has nothing to offer.
        match offer(copy, own.end(), upto) {
            Ok(Offer::Nothing) => {}
            Ok(Offer::Diverged) => diverged = Some(copy.folder.clone()),
            Ok(Offer::More(whole)) => agreeing.push((copy, whole)),
            Err(error) => {
                tracing::debug!(copy = %copy.folder.display(), %error, "a copy cannot be read");
            }
        }
    }
    // Of equals the one that stays.
    agreeing.sort_by_key(|(copy, whole)| std::cmp::Reverse((place(whole.end()), copy.stays)));
    let Some((best, whole)) = agreeing.first() else {
        return Ok(diverged.map_or(Look::Nothing, Look::Diverged));
    };
    for (other, part) in &agreeing[1..] {
        // Two go on differently: which of them is right nobody can tell.
        if !contains(&best.disk, &best.folder, part.end())? {
            return Ok(Look::Diverged(other.folder.clone()));
        }
    }
    plan(disk, folder, &own, best, whole)
}

/// Those that have a segment; a copy that cannot be listed has none.
fn with_lines(copies: &[LedgerCopy]) -> Vec<&LedgerCopy> {
    let has_any =
        |copy: &&LedgerCopy| segments(&copy.disk, &copy.folder).is_ok_and(|s| !s.is_empty());
    copies.iter().filter(has_any).collect()
}

enum Offer {
    Nothing,
    Diverged,
    More(WholePart),
}

fn offer(copy: &LedgerCopy, own_end: Position, upto: u32) -> Result<Offer, LedgerError> {
    let Some(last) = segments(&copy.disk, &copy.folder)?.pop() else {
        return Ok(Offer::Nothing);
    };
    // Mostly a copy is not longer than its ledger, and need not be read.
    if (last, segment_len(copy, last)?.unwrap_or(0)) <= place(own_end) {
        return Ok(Offer::Nothing);
    }
    let whole = whole_part(&copy.disk, &copy.folder, upto)?;
    if place(whole.end()) <= place(own_end) {
        return Ok(Offer::Nothing);
    }
    if own_end.segment > 0 && !contains(&copy.disk, &copy.folder, own_end)? {
        return Ok(Offer::Diverged);
    }
    Ok(Offer::More(whole))
}

fn segment_len(copy: &LedgerCopy, segment: u32) -> Result<Option<u64>, LedgerError> {
    let path = copy.folder.join(layout::segment_file(segment));
    let entry = copy.disk.entry(&path).map_err(LedgerError::io(&path))?;
    Ok(entry.map(|entry| entry.len))
}

/// How far a ledger is whole: each line fits the one before, from the first.
#[derive(Default)]
struct WholePart {
    /// After the last whole line of each segment, from segment 1; all but the last are whole to their end.
    ends: Vec<Position>,
}

impl WholePart {
    fn end(&self) -> Position {
        self.ends.last().copied().unwrap_or_default()
    }

    fn chain_before(&self, segment: u32) -> u32 {
        let before = (segment as usize).checked_sub(2);
        before.map_or(0, |before| self.ends[before].chain)
    }
}

/// In the segments up to `upto`.
fn whole_part(disk: &Disk, folder: &Path, upto: u32) -> Result<WholePart, LedgerError> {
    let volume_id = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut whole = WholePart::default();
    for segment in 1..=upto {
        let path = folder.join(layout::segment_file(segment));
        let file = match disk.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => return Err(LedgerError::io(&path)(error)),
        };
        let len = file.len().map_err(LedgerError::io(&path))?;
        let chain = whole.end().chain;
        let end = whole_lines(file, &volume_id, segment, chain, &mut |_| {})
            .map_err(LedgerError::io(&path))?;
        if end.offset > 0 {
            whole.ends.push(end);
        }
        if end.offset < len || len == 0 {
            break;
        }
    }
    Ok(whole)
}

/// Gives `f` each line of a segment until one does not fit the one before; where that is.
fn whole_lines(
    mut file: DiskFile,
    volume_id: &str,
    segment: u32,
    chain: u32,
    f: &mut dyn FnMut(u32),
) -> std::io::Result<Position> {
    let mut end = Position {
        segment,
        offset: 0,
        chain,
    };
    let mut lines = Lines::new(0);
    loop {
        match lines.next(&mut file) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if is_unreadable(&error) => break,
            Err(error) => return Err(error),
        }
        let Some((body, claimed)) = split(&lines.line) else {
            break;
        };
        let fits = match lines.start {
            0 => is_header_of(&lines.line, volume_id, segment, chain),
            _ => !is_header(body),
        };
        if !fits || checksum(end.chain, body) != claimed {
            break;
        }
        end.offset = lines.end;
        end.chain = claimed;
        f(claimed);
    }
    Ok(end)
}

fn is_header_of(line: &[u8], volume_id: &str, segment: u32, chain: u32) -> bool {
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(rename = "ledger")]
        _ledger: u32,
        volume: String,
        segment: u32,
        previous: String,
    }
    serde_json::from_slice::<Header>(line).is_ok_and(|header| {
        header.volume == volume_id
            && header.segment == segment
            && header.previous == format!("{chain:08x}")
    })
}

/// What is to be done so that the ledger has all of its own good lines and all of the copy's whole part.
fn plan(
    disk: &Disk,
    folder: &Path,
    own: &WholePart,
    copy: &LedgerCopy,
    whole: &WholePart,
) -> Result<Look, LedgerError> {
    let last_own = segments(disk, folder)?.pop().unwrap_or(0);
    let last = whole.end().segment;
    // Where the copy goes on behind what is looked at, nothing of the ledger's own can follow its end.
    let goes_on = segment_len(copy, last + 1)?.is_some();
    let mut plan = Plan {
        copy: copy.clone(),
        steps: Vec::new(),
        inserts: false,
        keeps_own: last_own > last,
    };
    for segment in own.end().segment.max(1)..=last {
        let path = folder.join(layout::segment_file(segment));
        let want = whole.ends[segment as usize - 1].offset;
        let have = disk.entry(&path).map_err(LedgerError::io(&path))?;
        let have = have.map(|entry| entry.len);
        let have_bytes = have.unwrap_or(0);
        let same = have_bytes == 0 || same_upto(disk, &path, copy, segment, have_bytes.min(want))?;
        if same && have_bytes < want {
            plan.inserts |= last_own > segment;
            plan.steps.push(Step::Append {
                segment,
                have,
                want,
            });
            continue;
        }
        if same && (have_bytes == want || segment == last) {
            plan.keeps_own |= have_bytes > want;
            continue;
        }
        let is_last = segment == last && !goes_on;
        match replacement(disk, &path, copy, whole, segment, is_last)? {
            Some(replace) => {
                plan.inserts = true;
                plan.keeps_own |= replace.own_from.is_some();
                plan.steps.push(Step::Replace(replace));
            }
            None => return Ok(Look::Diverged(copy.folder.clone())),
        }
    }
    Ok(match plan.steps.is_empty() {
        true => Look::Nothing,
        false => Look::Heal(plan),
    })
}

fn same_upto(
    disk: &Disk,
    path: &Path,
    copy: &LedgerCopy,
    segment: u32,
    upto: u64,
) -> Result<bool, LedgerError> {
    let theirs = copy.folder.join(layout::segment_file(segment));
    let own = disk.open_read(path).map_err(LedgerError::io(path))?;
    let other = copy.disk.open_read(&theirs);
    let other = other.map_err(LedgerError::io(&theirs))?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < upto {
        let count = PIECE_BYTES.min(usize::try_from(upto - at).unwrap_or(usize::MAX));
        a.resize(count, 0);
        b.resize(count, 0);
        match own.read_exact_at(&mut a, at) {
            Err(error) if is_unreadable(&error) => return Ok(false),
            read => read.map_err(LedgerError::io(path))?,
        }
        let read = other.read_exact_at(&mut b, at);
        read.map_err(LedgerError::io(&theirs))?;
        if a != b {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

/// How a segment that is not as the copy's is put together; `None` when both have good lines that the other has not.
fn replacement(
    disk: &Disk,
    path: &Path,
    copy: &LedgerCopy,
    whole: &WholePart,
    segment: u32,
    is_last: bool,
) -> Result<Option<Replace>, LedgerError> {
    let chain = whole.chain_before(segment);
    let volume_id = copy.folder.file_name().unwrap_or_default();
    let theirs = copy.folder.join(layout::segment_file(segment));
    let mut known: Vec<u32> = Vec::new();
    let file = copy.disk.open_read(&theirs);
    let file = file.map_err(LedgerError::io(&theirs))?;
    let volume_id = volume_id.to_string_lossy();
    let end = whole_lines(file, &volume_id, segment, chain, &mut |c| known.push(c))
        .map_err(LedgerError::io(&theirs))?;

    let open = || disk.open_read(path).map_err(LedgerError::io(path));
    let mut scan = Scan::new(Position {
        segment: segment - 1,
        offset: 0,
        chain,
    });
    scan.lines = Some(Vec::new());
    let flow = scan.segment(open()?, segment, 0, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    });
    let _ = flow.map_err(LedgerError::io(path))?;
    let good = scan.lines.unwrap_or_default();

    // Good lines that both have, in the same order; a line's checksum stands for all before it.
    let mut rest = known.iter();
    let only_own = good
        .iter()
        .position(|line| !rest.any(|known| *known == line.chain));
    let replace = |own_from| {
        Some(Replace {
            segment,
            chain,
            upto: end.offset,
            own_from,
        })
    };
    let Some(first) = only_own else {
        return Ok(replace(None));
    };
    if !is_last {
        return Ok(None);
    }
    let line = good[first];
    let common_end = first.checked_sub(1).map_or(0, |before| good[before].end);
    Ok(if follows(&open()?, path, line, end.chain)? {
        replace(Some(line.start))
    } else if common_end <= end.offset && end.offset <= line.start {
        // Lines in between were damaged, and the copy has some of them. The others stay as they are.
        replace(Some(end.offset))
    } else {
        None
    })
}

/// Whether a good line is the one after a line with the checksum `chain`.
fn follows(file: &DiskFile, path: &Path, line: GoodLine, chain: u32) -> Result<bool, LedgerError> {
    let mut bytes = vec![0; (line.end - line.start) as usize];
    file.read_exact_at(&mut bytes, line.start)
        .map_err(LedgerError::io(path))?;
    let parts = bytes.strip_suffix(b"\n").and_then(split);
    Ok(parts.is_some_and(|(body, claimed)| checksum(chain, body) == claimed))
}

impl Replace {
    fn carry_out(&self, disk: &Disk, folder: &Path, copy: &LedgerCopy) -> Result<(), LedgerError> {
        let new = folder.join(layout::segment_in_repair(self.segment));
        let written = self.write(disk, folder, copy, &new);
        if written.is_err() {
            // A full disk needs the room; else it is written over the next time.
            let _ = disk.remove(&new);
        }
        written
    }

    fn write(
        &self,
        disk: &Disk,
        folder: &Path,
        copy: &LedgerCopy,
        new: &Path,
    ) -> Result<(), LedgerError> {
        let name = layout::segment_file(self.segment);
        let (path, theirs) = (folder.join(&name), copy.folder.join(&name));
        let source = copy.disk.open_read(&theirs);
        let source = source.map_err(LedgerError::io(&theirs))?;
        let damaged = disk.open_read(&path).map_err(LedgerError::io(&path))?;
        let write = || {
            let file = disk.open_or_create(new)?;
            file.set_len(0)?;
            copy_bytes(&source, 0, self.upto, &file, 0)?;
            if let Some(from) = self.own_from {
                copy_bytes(&damaged, from, damaged.len()?, &file, self.upto)?;
            }
            // Before it gets the name: whoever has the name has all of it.
            file.sync_data()?;
            // What takes the place of a damaged one must be known to be good.
            file.forget_cached();
            let volume_id = folder.file_name().unwrap_or_default().to_string_lossy();
            let again = disk.open_read(new)?;
            let end = whole_lines(again, &volume_id, self.segment, self.chain, &mut |_| {})?;
            if end.offset < self.upto {
                return Err(std::io::Error::other("it does not read as it was written"));
            }
            keep_damaged(disk, folder, &path, self.segment)?;
            disk.rename(new, &path)?;
            disk.sync_dir(folder)
        };
        write().map_err(LedgerError::io(new))
    }
}

/// Gives the damaged segment a second name, durable on return; the newest of too many gets none.
fn keep_damaged(disk: &Disk, folder: &Path, path: &Path, segment: u32) -> std::io::Result<()> {
    let identity = disk.entry(path)?.map(|entry| entry.identity);
    for n in 1..=DAMAGED_COUNT_MAX {
        let kept = folder.join(layout::damaged_segment(segment, n));
        match disk.entry(&kept)? {
            // Of a healing that was cut short.
            Some(entry) if Some(entry.identity) == identity => return disk.sync_dir(folder),
            Some(_) => continue,
            None => {}
        }
        if disk.link(path, &kept).is_err() {
            // There are no hard links.
            let damaged = disk.open_read(path)?;
            let file = disk.create_new(&kept)?;
            copy_bytes(&damaged, 0, damaged.len()?, &file, 0)?;
            file.sync_data()?;
        }
        return disk.sync_dir(folder);
    }
    Ok(())
}

/// With zeros for what cannot be read.
fn copy_bytes(
    source: &DiskFile,
    mut from: u64,
    upto: u64,
    target: &DiskFile,
    mut at: u64,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut blocks_left = UNREADABLE_BLOCKS_MAX;
    while from < upto {
        let left = usize::try_from(upto - from).unwrap_or(usize::MAX);
        buffer.resize(PIECE_BYTES.min(left), 0);
        let count = source.read_around(from, &mut buffer, &mut blocks_left)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        target.write_at(at, &buffer[..count])?;
        from += count as u64;
        at += count as u64;
    }
    Ok(())
}

impl Plan {
    fn sentence(&self) -> String {
        let (mut bytes, mut damaged) = (0, Vec::new());
        for step in &self.steps {
            match step {
                Step::Append { have, want, .. } => bytes += want - have.unwrap_or(0),
                Step::Replace(replace) => damaged.push(layout::segment_file(replace.segment)),
            }
        }
        let mut parts = Vec::new();
        if bytes > 0 {
            parts.push(format!("{bytes} bytes that it had lost were put back"));
        }
        if !damaged.is_empty() {
            let count = damaged.len();
            parts.push(format!(
                "{count} damaged segments were replaced ({}) and are kept as damaged-…",
                damaged.join(", ")
            ));
        }
        format!(
            "its ledger was healed from the copy in {}: {}; look at the disk",
            self.copy.folder.display(),
            parts.join(", ")
        )
    }
}

#[cfg(test)]
mod tests;
