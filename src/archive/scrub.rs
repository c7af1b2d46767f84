//! Scrub: every file on every volume is read again within some days, the longest unread first.
//!
//! A round goes along the ledger of a volume from its first line to where it ended when the round began; the next goes the
//! same way again. So the order of lines is the order of age, whatever a clock says: dates only set the pace. Each file is
//! held against its own ledger line; a disagreement between copies is not looked for, and never decided by a date.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::job::Window;
use crate::volume::Position;
use crate::volume::io::Kind;

use super::checked::{End, Seen, lines_after};
use super::checked_file::VolumeCheck;
use super::content::contents;
use super::mirror::whole;
use super::reread::Fault;
use super::survey::{hash, hidden_paths, in_threads};
use super::work::{Job, Stop, VolumeReport};
use super::{Archive, at_rest};

/// A round that is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub number: u64,
    /// RFC 3339; for the pace and the screen.
    pub begun: String,
    /// Where the ledger ended then.
    pub end: Position,
    /// Everything up to here was read.
    pub position: Position,
    pub files: u64,
    pub bytes: u64,
    pub bad: u64,
}

/// The last round that came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastRound {
    pub number: u64,
    /// RFC 3339.
    pub begun: String,
    pub ended: String,
    pub files: u64,
    pub bytes: u64,
    /// Found missing, unreadable or changed.
    pub bad: u64,
    /// Files without a ledger line.
    pub foreign_count: u64,
    /// The first hundred of them.
    pub foreign: Vec<String>,
}

/// Lines taken from the ledger at a time.
const LINES_MAX: usize = 256;
/// The same where several threads read them.
const LINES_AT_ONCE: usize = 2_048;
/// Slower makes no disk live longer, bytes per second.
const RATE_MIN: u64 = 1_000_000;
/// A quarter faster than it must be: there are nights with more to do.
const HEADROOM: f64 = 1.25;
/// However late a round is, bytes per second are reckoned for at least so long.
const TIME_LEFT_MIN: u64 = 3_600;
/// The next round begins after this part of the days, so that files which the last one read early do not wait too long.
const BEGINS_AFTER: f64 = 0.9;
/// How long the size of a volume is believed.
const TOTAL_FOR: Duration = Duration::from_secs(600);
/// Foreign files that are named.
const FOREIGN_MAX: usize = 100;
/// Instances looked up between two looks at whether to go on.
const CHUNK_COUNT: usize = 20_000;

impl Archive {
    /// Whether there is something to read in this round, or a new one to begin.
    pub(super) fn scrub_is_due(&self, check: &VolumeCheck, end: Position) -> bool {
        let config = self.scrub_config.now();
        if config.days == 0 || end == Position::default() {
            return false;
        }
        let last = check.kept.last_round.as_ref();
        let begins = || {
            begins(
                last,
                check.idle_since.elapsed(),
                config.days,
                Timestamp::now(),
            )
        };
        config.window.contains(Zoned::now().datetime()) && (check.kept.scrub.is_some() || begins())
    }

    /// Reads a part of a volume's round; false when there is nothing to read now.
    pub(super) fn scrub_some(&self, volume_id: &str) -> Result<bool, End> {
        let volume = self.known(volume_id)?;
        let end = volume.ledger().position();
        if self.view()?.rebuilding_percent.is_some() {
            return Ok(false);
        }
        let round = {
            let mut volumes = self.checks.volumes();
            let Some(check) = volumes.get_mut(volume_id) else {
                return Ok(false);
            };
            if !self.scrub_is_due(check, end) {
                return Ok(false);
            }
            match &check.kept.scrub {
                Some(round) => round.clone(),
                None => begin(check, end),
            }
        };
        self.set_pace(volume_id, &round)?;
        let batch = lines_after(&volume, round.position, round.end, LINES_MAX, |_| true)?;
        drop(volume);
        let brake = |bytes, took| self.brake_on(volume_id, true, bytes, took);
        for (mark, after) in &batch.marks {
            // What somebody waits for comes first.
            if self.suspects.has_some(volume_id) {
                return Ok(true);
            }
            if !self
                .scrub_config
                .now()
                .window
                .contains(Zoned::now().datetime())
            {
                return Ok(false);
            }
            let seen = self.read_listed(volume_id, mark, &brake)?;
            self.note_read(volume_id, *after, &seen);
            self.save_check(volume_id, self.checks.save_every);
        }
        self.note_read(volume_id, batch.end, &Seen::default());
        if batch.is_last {
            let go_on = || self.brake_on(volume_id, false, 0, Duration::from_millis(1));
            let foreign = self.foreign_files(volume_id, &go_on)?;
            self.finish_round(volume_id, foreign);
        }
        self.save_check(volume_id, self.checks.save_every);
        Ok(true)
    }

    fn set_pace(&self, volume_id: &str, round: &Round) -> Result<(), End> {
        let known = {
            let volumes = self.checks.volumes();
            volumes.get(volume_id).and_then(|check| check.total)
        };
        let total = match known {
            Some((total, at)) if at.elapsed() < TOTAL_FOR => total,
            _ => self.view()?.snapshot.volume_totals(volume_id)?.bytes,
        };
        let left = total.saturating_sub(round.bytes);
        let rate = rate(
            left,
            &round.begun,
            &self.scrub_config.now(),
            Timestamp::now(),
        );
        if let Some(check) = self.checks.volumes().get_mut(volume_id) {
            if check.total.is_none_or(|(_, at)| at.elapsed() >= TOTAL_FOR) {
                check.total = Some((total, Instant::now()));
            }
            check.pace.set(rate);
        }
        Ok(())
    }

    fn note_read(&self, volume_id: &str, upto: Position, seen: &Seen) {
        if let Some(check) = self.checks.volumes().get_mut(volume_id)
            && let Some(round) = &mut check.kept.scrub
        {
            round.position = upto;
            round.files += seen.files;
            round.bytes += seen.bytes;
            round.bad += seen.bad.len() as u64;
            check.changed = true;
        }
    }

    fn finish_round(&self, volume_id: &str, (foreign_count, foreign): (u64, Vec<String>)) {
        let mut volumes = self.checks.volumes();
        let Some(check) = volumes.get_mut(volume_id) else {
            return;
        };
        let Some(round) = check.kept.scrub.take() else {
            return;
        };
        tracing::info!(
            volume = self.name_of(volume_id),
            round = round.number,
            files_count = round.files,
            bytes = round.bytes,
            bad_count = round.bad,
            foreign_count,
            "every file was read again"
        );
        check.kept.last_round = Some(LastRound {
            number: round.number,
            begun: round.begun,
            ended: super::now(),
            files: round.files,
            bytes: round.bytes,
            bad: round.bad,
            foreign_count,
            foreign,
        });
        check.changed = true;
        check.idle_since = Instant::now();
        check.verified_upto(round.end);
    }

    /// Files in the tree that no line names: how many, and the first hundred. They are not touched.
    fn foreign_files(
        &self,
        volume_id: &str,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(u64, Vec<String>), End> {
        let listed = self.listed_paths(volume_id, go_on)?;
        let (mut count, mut named) = (0, Vec::new());
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            if !go_on() {
                return Err(End::Stopped);
            }
            let volume = self.shelf.here(volume_id).ok_or(End::Stopped)?;
            let names = {
                let _call = volume.call();
                volume.folder(&folder)
            };
            // Whatever is wrong with it, its listed files were found missing or unreadable.
            let mut names = names.unwrap_or_default();
            names.retain(|(name, _)| !volume.is_own(&folder, name));
            names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            drop(volume);
            let mut below = Vec::new();
            for (name, kind) in names {
                let shown = name.to_string_lossy();
                let path = match folder.is_empty() {
                    true => shown.clone().into_owned(),
                    false => format!("{folder}/{shown}"),
                };
                if kind == Kind::Folder && name.to_str().is_some() {
                    below.push(path);
                    continue;
                }
                let is_ours = kind == Kind::File
                    && (listed.binary_search(&hash(&path)).is_ok()
                        || self.was_stored_since(volume_id, &path)?);
                if !is_ours {
                    count += 1;
                    if named.len() < FOREIGN_MAX {
                        named.push(path);
                    }
                }
            }
            folders.extend(below.into_iter().rev());
        }
        Ok((count, named))
    }

    /// Hashes of all paths that the ledger of a volume names, sorted: eight bytes a file.
    fn listed_paths(&self, volume_id: &str, go_on: &dyn Fn() -> bool) -> Result<Vec<u64>, End> {
        let mut hashes = Vec::new();
        let mut after: Option<String> = None;
        loop {
            if !go_on() {
                return Err(End::Stopped);
            }
            let snapshot = whole(self)?.ok_or(End::Stopped)?;
            let (mut count, mut study, mut more) = (0, String::new(), false);
            snapshot.on_volume(volume_id, after.as_deref(), &mut |entry| {
                if count >= CHUNK_COUNT && entry.study_instance_uid != study {
                    more = true;
                    return ControlFlow::Break(());
                }
                count += 1;
                study.clone_from(&entry.study_instance_uid);
                for content in contents(&entry) {
                    let here = content.copies.iter().filter(|c| c.volume_id == volume_id);
                    hashes.extend(here.map(|copy| hash(&copy.path)));
                }
                ControlFlow::Continue(())
            })?;
            if !more {
                break;
            }
            after = Some(study);
        }
        let snapshot = whole(self)?.ok_or(End::Stopped)?;
        hashes.extend(hidden_paths(&snapshot, volume_id, go_on)?);
        if !go_on() {
            return Err(End::Stopped);
        }
        hashes.sort_unstable();
        Ok(hashes)
    }

    /// A file that came while the tree was looked at is listed by now.
    fn was_stored_since(&self, volume_id: &str, path: &str) -> Result<bool, End> {
        let volume = self.shelf.here(volume_id).ok_or(End::Stopped)?;
        let heading = {
            let _call = volume.call();
            let file = volume.open_file(path);
            file.and_then(|file| file.len().map(|size| (file, size)))
                .map_err(at_rest::Unfit::from)
                .and_then(|(file, size)| at_rest::read_heading(&file, size))
        };
        drop(volume);
        match heading {
            Ok(heading) => Ok(self.is_listed(volume_id, path, &heading.sop_instance_uid)?),
            // Gone again: taken back by an instance that went elsewhere.
            Err(at_rest::Unfit::Io(error)) => Ok(error.kind() == std::io::ErrorKind::NotFound),
            Err(_) => Ok(false),
        }
    }

    /// A whole round of these volumes now, as fast as their disks go.
    pub(super) fn scrub_now(&self, names: &[String], job: &Job) -> Result<(), Stop> {
        for (volume_id, name) in self.members_named(names)? {
            let mut report = VolumeReport {
                volume: name.clone(),
                ..VolumeReport::default()
            };
            let done = self.scrub_one_now(&volume_id, &name, job, &mut report);
            self.save_check(&volume_id, Duration::ZERO);
            job.report(report);
            done?;
        }
        Ok(())
    }

    fn scrub_one_now(
        &self,
        volume_id: &str,
        name: &str,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let stop = |end: End| match end {
            End::Stopped => Stop::Cancelled,
            End::Trouble(reason) => Stop::Failed(format!("volume {name}: {reason}")),
            End::Index(error) => {
                self.index_failed(&error);
                error.into()
            }
        };
        let go_on = || job.go_on().is_ok() && !self.is_stopping();
        let Some(_turn) = self.take_turn(volume_id, &go_on) else {
            return Err(Stop::Cancelled);
        };
        let snapshot = self.whole_index(job)?;
        let totals = snapshot.volume_totals(volume_id)?;
        drop(snapshot);
        job.step(
            format!("volume {name} is read again"),
            totals.instances_count,
        );
        let volume = self.known(volume_id).map_err(stop)?;
        let mut position = Position::default();
        let end = volume.ledger().position();
        drop(volume);
        if let Some(check) = self.checks.volumes().get_mut(volume_id) {
            begin(check, end);
        }
        let here = || self.shelf.here(volume_id).is_some();
        loop {
            let volume = self.known(volume_id).map_err(stop)?;
            let batch = lines_after(&volume, position, end, LINES_AT_ONCE, |_| true);
            drop(volume);
            let batch = batch.map_err(End::from).map_err(stop)?;
            let all = Mutex::new(Seen::default());
            in_threads(batch.marks.len(), |at| {
                job.go_on()?;
                let go_on = |bytes, _| job.read(bytes) && here() && !self.is_stopping();
                let (mark, _) = &batch.marks[at];
                let seen = self.read_listed(volume_id, mark, &go_on).map_err(stop)?;
                job.did(1);
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.files += seen.files;
                all.bytes += seen.bytes;
                all.bad.extend(seen.bad);
                Ok(())
            })?;
            let seen = all.into_inner().unwrap_or_else(PoisonError::into_inner);
            report.files += seen.files;
            report.ok += seen.files - seen.bad.len() as u64;
            for bad in &seen.bad {
                let kind = match bad.fault {
                    Fault::Missing => "missing",
                    _ => "wrong",
                };
                let mut reason = bad.fault.to_string();
                if bad.is_lost {
                    report.lost += 1;
                    reason.push_str("; no other copy is good: the instance is lost");
                }
                report.find(kind, &bad.path, reason);
            }
            self.note_read(volume_id, batch.end, &seen);
            self.save_check(volume_id, self.checks.save_every);
            self.judge_suspects(volume_id);
            position = batch.end;
            if batch.is_last {
                break;
            }
        }
        let foreign = self.foreign_files(volume_id, &go_on).map_err(stop)?;
        for path in &foreign.1 {
            report.find("extra", path, "a file without a line".to_owned());
        }
        report.extra = foreign.0;
        self.finish_round(volume_id, foreign);
        Ok(())
    }
}

/// A new round, which is under way then.
fn begin(check: &mut VolumeCheck, end: Position) -> Round {
    let kept = &mut check.kept;
    let last = kept.last_round.as_ref().map_or(0, |last| last.number);
    let before = kept.scrub.as_ref().map_or(last, |round| round.number);
    let round = Round {
        number: before + 1,
        begun: super::now(),
        end,
        ..Round::default()
    };
    check.changed = true;
    check.total = None;
    check.kept.scrub.insert(round).clone()
}

/// Whether the next round begins. `idle`: for how long this process knows that none is under way.
///
/// A clock that was set wrong, then or now, makes it begin early and never holds it up for longer than the days.
fn begins(last: Option<&LastRound>, idle: Duration, days: u64, now: Timestamp) -> bool {
    let pause = days as f64 * 86_400.0 * BEGINS_AFTER;
    let begun = last.and_then(|last| last.begun.parse::<Timestamp>().ok());
    let Some(begun) = begun else { return true };
    let since = now.duration_since(begun).as_secs_f64();
    since < 0.0 || since >= pause || idle.as_secs_f64() >= pause
}

/// Bytes per second at which a round comes to its end within its days. `left`: bytes that are still to be read; `begun`:
/// RFC 3339.
fn rate(left: u64, begun: &str, config: &config::Scrub, now: Timestamp) -> u64 {
    let whole = config.days.saturating_mul(86_400);
    let begun = begun.parse().unwrap_or(now);
    let since = u64::try_from(now.duration_since(begun).as_secs()).unwrap_or(0);
    let seconds = whole.saturating_sub(since).max(TIME_LEFT_MIN);
    let open =
        seconds as f64 * config.window.seconds_long() as f64 / Window::ALWAYS.seconds_long() as f64;
    let rate = (left as f64 / open.max(1.0) * HEADROOM) as u64;
    match config.bytes_per_second {
        0 => rate.max(RATE_MIN),
        cap => rate.max(RATE_MIN).min(cap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn last(begun: &str) -> LastRound {
        LastRound {
            begun: begun.to_owned(),
            ..LastRound::default()
        }
    }

    #[test]
    fn a_round_begins_in_time_whatever_the_clock_said() {
        let now = at("2026-11-21T00:00:00Z");
        let day = Duration::from_secs(86_400);
        for (begun, idle, expected) in [
            ("2026-11-20T00:00:00Z", day, false),
            ("2026-10-25T00:00:00Z", day, true),
            // In the future, or in no time at all: a clock was wrong.
            ("2031-01-01T00:00:00Z", day, true),
            ("1970-01-01T00:00:00Z", day, true),
            ("", day, true),
            // The clock was set back while the process ran.
            ("2026-11-20T00:00:00Z", 26 * day, true),
        ] {
            assert_eq!(
                begins(Some(&last(begun)), idle, 28, now),
                expected,
                "{begun}"
            );
        }
        assert!(begins(None, Duration::ZERO, 28, now));
    }

    #[test]
    fn the_pace_brings_a_round_to_its_end_within_its_days() {
        let config = config::Scrub::default();
        let now = at("2026-11-15T00:00:00Z");
        let half = "2026-11-01T00:00:00Z";
        let tb = 1_000_000_000_000;
        // 14 of 28 days are left.
        let expected = (tb as f64 / (14.0 * 86_400.0) * 1.25) as u64;
        assert_eq!(rate(tb, half, &config, now), expected.max(RATE_MIN));
        let night = config::Scrub {
            window: "22:00-04:00".parse().unwrap(),
            ..config.clone()
        };
        assert_eq!(rate(4 * tb, half, &night, now) / 16, expected);
        assert_eq!(rate(5, half, &config, now), RATE_MIN);
        let capped = config::Scrub {
            bytes_per_second: 7,
            ..config.clone()
        };
        assert_eq!(rate(tb, half, &capped, now), 7);
        // Clocks that were wrong: neither a standstill nor a division by nothing.
        for begun in ["1970-01-01T00:00:00Z", "2040-01-01T00:00:00Z", ""] {
            assert!(rate(tb, begun, &config, now) >= RATE_MIN);
        }
    }
}
