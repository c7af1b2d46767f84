//! Reads copies again: what is suspected, what was copied lately, and in turn everything.
//!
//! A ledger only grows, so how far its files were read again is a position in it. That is kept on the volume itself; lost,
//! everything is simply read again.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::index::{Copy, IndexError};
use crate::job::Politeness;
use crate::volume::ledger::{LedgerError, read};
use crate::volume::{Position, Volume};

use super::checked_file::VolumeCheck;
use super::content::contents;
use super::entry::{self, StoredMark};
use super::reread::{Brake, Fault, reread};
use super::suspects::{Judged, Suspect};
use super::{Archive, Line};

/// Copies are read again so long after they were made, so that it is the medium that is read.
const VERIFY_AFTER: Duration = Duration::from_secs(60);
/// How far a round has come is written down so often.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Instead of both, in seconds; for tests.
const SECONDS_VARIABLE: &str = "KURA_CHECK_SECONDS";
/// Lines of a ledger looked at between two looks at whether to go on.
const LINES_MAX: usize = 20_000;
/// How often so many are counted for a status.
const COUNTINGS_MAX: usize = 10;
pub struct Checks {
    verify_after: Duration,
    pub(super) save_every: Duration,
    /// Volumes that are being read at this moment, each by a thread of its own: a disk may never answer.
    at_work: Mutex<HashSet<String>>,
    /// Of these, those of which somebody wants a whole round now.
    wanted: Mutex<HashSet<String>>,
    volumes: Mutex<HashMap<String, VolumeCheck>>,
}

impl Default for Checks {
    fn default() -> Checks {
        let seconds = std::env::var(SECONDS_VARIABLE).ok();
        let seconds = seconds
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs);
        Checks {
            verify_after: seconds.unwrap_or(VERIFY_AFTER),
            save_every: seconds.unwrap_or(SAVE_EVERY),
            at_work: Mutex::default(),
            wanted: Mutex::default(),
            volumes: Mutex::default(),
        }
    }
}

impl Checks {
    fn at_work(&self) -> MutexGuard<'_, HashSet<String>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<String>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never held while a disk is waited for.
    pub(super) fn volumes(&self) -> MutexGuard<'_, HashMap<String, VolumeCheck>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read a volume again; given back when dropped.
pub(super) struct Turn {
    checks: Arc<Checks>,
    volume_id: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.checks.at_work().remove(&self.volume_id);
    }
}

/// Lines of a ledger from one position to another.
pub(super) struct Batch {
    /// Those that are to be looked at, each with the position after it.
    pub marks: Vec<(StoredMark, Position)>,
    /// After the last line that was looked at.
    pub end: Position,
    /// Nothing is left up to where was asked for.
    pub is_last: bool,
}

/// Why reading ends before its end.
pub(super) enum End {
    /// Told to: the server stops, the volume is ejected, somebody wants a round.
    Stopped,
    /// The volume does not work, or its ledger cannot be read.
    Trouble(String),
    Index(IndexError),
}

impl From<IndexError> for End {
    fn from(error: IndexError) -> End {
        End::Index(error)
    }
}

impl From<LedgerError> for End {
    fn from(error: LedgerError) -> End {
        End::Trouble(error.to_string())
    }
}

/// What reading a line's files again showed.
#[derive(Default)]
pub(super) struct Seen {
    pub files: u64,
    pub bytes: u64,
    pub bad: Vec<BadCopy>,
}

/// A copy that was declared bad.
pub(super) struct BadCopy {
    pub path: String,
    pub fault: Fault,
    /// It was the last good one.
    pub is_lost: bool,
}

impl Archive {
    /// Begins to read again on every volume where there is something to read.
    pub(super) fn check_volumes(self: &Arc<Archive>) {
        self.look_for_healed();
        for member in self.shelf.all() {
            let id = &member.volume_id;
            let Some(volume) = member.here().filter(|volume| volume.answers()) else {
                continue;
            };
            if !self.has_something_to_check(volume) || !self.checks.at_work().insert(id.clone()) {
                continue;
            }
            let (archive, id) = (self.clone(), id.clone());
            let thread = std::thread::Builder::new().name("check".to_owned());
            let turn = Turn {
                checks: self.checks.clone(),
                volume_id: id.clone(),
            };
            let thread = thread.spawn(move || {
                archive.check_volume(&id);
                // First: who waits for the turns to end closes the archive then, and is to be the last.
                drop(archive);
                drop(turn);
            });
            if let Err(error) = thread {
                tracing::error!(%error, "no thread to read a disk again");
            }
        }
    }

    /// The end of the process: waits a moment for what is being read to be written down.
    pub(super) fn end_checks(&self, deadline: Instant) {
        while !self.checks.at_work().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn has_something_to_check(&self, volume: &Volume<Line>) -> bool {
        if self.suspects.has_some(volume.id()) {
            return true;
        }
        let mut volumes = self.checks.volumes();
        match volumes.get_mut(volume.id()) {
            None => true,
            Some(check) => {
                self.is_ripe(check, volume.ledger().position()).is_some()
                    || self.scrub_is_due(check, volume.ledger().position())
            }
        }
    }

    /// Up to where copies are to be verified now.
    fn is_ripe(&self, check: &mut VolumeCheck, end: Position) -> Option<Position> {
        if let Some((upto, since)) = check.mark {
            return (since.elapsed() >= self.checks.verify_after).then_some(upto);
        }
        if check.kept.verified != end {
            check.mark = Some((end, Instant::now()));
        }
        None
    }

    fn check_volume(&self, volume_id: &str) {
        loop {
            if !self.may_read_on(volume_id) {
                break;
            }
            self.judge_suspects(volume_id);
            let done = self.verify_some(volume_id).and_then(|did| match did {
                true => Ok(true),
                false => self.scrub_some(volume_id),
            });
            match done {
                Ok(true) => {}
                Ok(false) | Err(End::Stopped) => break,
                Err(End::Index(error)) => {
                    self.index_failed(&error);
                    break;
                }
                Err(End::Trouble(reason)) => {
                    tracing::debug!(
                        volume = self.name_of(volume_id),
                        reason,
                        "not read again now"
                    );
                    // The next look is not at once: a disk in trouble is left alone for a while.
                    self.rest_on(volume_id, Duration::from_secs(5));
                    break;
                }
            }
        }
        self.save_check(volume_id, Duration::ZERO);
    }

    /// Whether nothing ends the reading of a volume in the background.
    fn may_read_on(&self, volume_id: &str) -> bool {
        !self.is_stopping()
            && !self.checks.wanted().contains(volume_id)
            && self.shelf.here(volume_id).is_some()
    }

    /// Sleeps so long; false as soon as reading has to end. Nobody who ejects the volume waits for it.
    fn rest_on(&self, volume_id: &str, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.may_read_on(volume_id) {
                return self.may_read_on(volume_id);
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    /// Rests after a piece as politeness and the pace of the round, if it is one, ask for.
    pub(super) fn brake_on(
        &self,
        volume_id: &str,
        is_round: bool,
        bytes: u64,
        took: Duration,
    ) -> bool {
        let mut rest = Politeness::rest(self.mirror.since_received(), took);
        if is_round && let Some(check) = self.checks.volumes().get_mut(volume_id) {
            rest = rest.max(check.pace.took(bytes, Instant::now()));
        }
        self.rest_on(volume_id, rest)
    }

    /// Reads some copies that were made lately; false when there is nothing to do.
    fn verify_some(&self, volume_id: &str) -> Result<bool, End> {
        let volume = self.known(volume_id)?;
        let (from, upto) = {
            let mut volumes = self.checks.volumes();
            let Some(check) = volumes.get_mut(volume_id) else {
                return Ok(false);
            };
            let Some(upto) = self.is_ripe(check, volume.ledger().position()) else {
                return Ok(false);
            };
            (check.kept.verified, upto)
        };
        if self.view()?.rebuilding_percent.is_some() {
            return Ok(false);
        }
        let batch = lines_after(&volume, from, upto, 64, |mark| mark.is_copy)?;
        drop(volume);
        let brake = |bytes, took| self.brake_on(volume_id, false, bytes, took);
        for (mark, after) in &batch.marks {
            self.read_listed(volume_id, mark, &brake)?;
            self.note_verified(volume_id, *after, 1);
        }
        self.note_verified(volume_id, batch.end, 0);
        if batch.is_last
            && let Some(check) = self.checks.volumes().get_mut(volume_id)
        {
            check.mark = None;
            // Bad lines at its end do not make it look unfinished.
            check.kept.verified = upto;
        }
        self.save_check(volume_id, self.checks.save_every);
        Ok(true)
    }

    fn note_verified(&self, volume_id: &str, upto: Position, count: u64) {
        if let Some(check) = self.checks.volumes().get_mut(volume_id) {
            check.kept.verified = upto;
            check.changed = true;
            check.waiting_count = check.waiting_count.saturating_sub(count);
            if check.counted < upto {
                (check.counted, check.waiting_count) = (upto, 0);
            }
        }
    }

    /// Reads what a ledger line stored, as far as it is listed as good; bad ones are declared.
    pub(super) fn read_listed(
        &self,
        volume_id: &str,
        mark: &StoredMark,
        brake: Brake,
    ) -> Result<Seen, End> {
        let mut seen = Seen::default();
        let is_it = |copy: &&Copy| {
            copy.volume_id == volume_id
                && (copy.size_bytes, copy.file_crc32) == (mark.size, mark.file_crc32)
        };
        let entry = self.view()?.snapshot.by_sop(&mark.sop_instance_uid)?;
        let contents = entry.iter().flat_map(contents);
        let copies: Vec<Copy> = contents
            .flat_map(|content| {
                content
                    .good_copies()
                    .filter(is_it)
                    .cloned()
                    .collect::<Vec<_>>()
            })
            .collect();
        for copy in copies {
            let trouble = || End::Trouble("the volume does not work".to_owned());
            let volume = self.working(volume_id).ok_or_else(trouble)?;
            let read = reread(&volume, &copy, brake);
            drop(volume);
            match read {
                Ok(Some(())) => {}
                Ok(None) => return Err(End::Stopped),
                Err(_) => {
                    let suspect = Suspect {
                        sop_instance_uid: mark.sop_instance_uid.clone(),
                        path: copy.path.clone(),
                    };
                    match self.judge_copy(volume_id, &suspect) {
                        Judged::Good => {}
                        Judged::Bad(fault) => seen.bad.push(BadCopy {
                            is_lost: !self.has_other_good_copy(&suspect, volume_id)?,
                            path: copy.path.clone(),
                            fault,
                        }),
                        Judged::Later => self.suspect(&mark.sop_instance_uid, &copy),
                        Judged::Trouble => return Err(trouble()),
                    }
                }
            }
            seen.files += 1;
            seen.bytes += copy.size_bytes;
        }
        Ok(seen)
    }

    fn has_other_good_copy(&self, suspect: &Suspect, volume_id: &str) -> Result<bool, IndexError> {
        let entry = self.view()?.snapshot.by_sop(&suspect.sop_instance_uid)?;
        let is_it = |copy: &Copy| copy.volume_id == volume_id && copy.path == suspect.path;
        let mut contents = entry.iter().flat_map(contents);
        let content = contents.find(|content| content.copies.iter().any(is_it));
        Ok(content.is_some_and(|content| content.good_copies().any(|copy| !is_it(copy))))
    }

    /// Waits until nobody else reads the volume again, and sees to it that nobody begins.
    pub(super) fn take_turn(&self, volume_id: &str, go_on: &dyn Fn() -> bool) -> Option<Turn> {
        self.checks.wanted().insert(volume_id.to_owned());
        let mut turn = None;
        while go_on() {
            if self.checks.at_work().insert(volume_id.to_owned()) {
                turn = Some(Turn {
                    checks: self.checks.clone(),
                    volume_id: volume_id.to_owned(),
                });
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.checks.wanted().remove(volume_id);
        turn
    }

    /// Copies on a volume that were not read again since they were made; counted on from the last call.
    pub(super) fn not_verified_count(&self, volume: &Volume<Line>) -> Result<u64, End> {
        let mut count = 0;
        for _ in 0..COUNTINGS_MAX {
            let from = match self.checks.volumes().get(volume.id()) {
                Some(check) => check.counted,
                None => return Ok(0),
            };
            let upto = volume.ledger().position();
            let batch = lines_after(volume, from, upto, usize::MAX, |mark| mark.is_copy)?;
            let mut volumes = self.checks.volumes();
            let Some(check) = volumes.get_mut(volume.id()) else {
                return Ok(0);
            };
            // Else somebody else has counted, or verified, meanwhile.
            if check.counted == from {
                check.counted = if batch.is_last { upto } else { batch.end };
                check.waiting_count += batch.marks.len() as u64;
            }
            count = check.waiting_count;
            if batch.is_last {
                break;
            }
        }
        Ok(count)
    }
}

/// The next lines of a volume's own ledger, until there are so many that are wanted. A ledger that is not the one it was
/// is read from its first line.
pub(super) fn lines_after(
    volume: &Volume<Line>,
    from: Position,
    upto: Position,
    most: usize,
    wanted: impl Fn(&StoredMark) -> bool,
) -> Result<Batch, LedgerError> {
    let folder = volume.ledger_folder(volume.id());
    let mut batch = Batch {
        marks: Vec::new(),
        end: from,
        is_last: true,
    };
    let mut count = 0;
    let mut each = |json: &str, after: Position| {
        if (after.segment, after.offset) > (upto.segment, upto.offset) {
            return ControlFlow::Break(());
        }
        batch.end = after;
        count += 1;
        if let Some(mark) = entry::stored_of(json).filter(|mark| wanted(mark)) {
            batch.marks.push((mark, after));
        }
        if batch.marks.len() >= most || count >= LINES_MAX {
            batch.is_last = false;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let _call = volume.call();
    let report = read(volume.disk(), &folder, from, &mut each)?;
    if report.mismatch {
        read(volume.disk(), &folder, Position::default(), &mut each)?;
    }
    Ok(batch)
}
