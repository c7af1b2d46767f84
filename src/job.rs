//! When long work runs, and how fast; what the work is, its callers know.
//!
//! No file and no clock is touched here: the time is always passed in.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

const MINUTES_A_DAY: u16 = 24 * 60;

/// A part of every day, in local time: `21:00-24:00`, across midnight `22:00-06:00`, always `00:00-24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// First minute of the day, 0 to 1439.
    from: u16,
    /// The minute after the last, 1 to 1440; less than `from`: on the next day.
    to: u16,
}

/// Why a text is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a window is HH:MM-HH:MM, such as 21:00-24:00; {text:?} is not")]
pub struct WindowError {
    pub text: String,
}

impl Window {
    pub const ALWAYS: Window = Window {
        from: 0,
        to: MINUTES_A_DAY,
    };

    /// From a minute of the day up to, not including, another. `None` for minutes that no day has, and for a window
    /// that ends where it begins: that could mean never as well as always.
    pub const fn new(from: u16, to: u16) -> Option<Window> {
        if from >= MINUTES_A_DAY || to > MINUTES_A_DAY || from == to {
            return None;
        }
        // The end of one day is the beginning of the next; one way to write it is enough.
        let to = if to == 0 { MINUTES_A_DAY } else { to };
        Some(Window { from, to })
    }

    pub fn contains(&self, local: DateTime) -> bool {
        self.seconds_left(local) > 0
    }

    /// Seconds until it closes; 0 outside. One that never closes has a whole day left.
    ///
    /// Counted on the clock on the wall: wrong by an hour in the two nights a year in which that is moved.
    pub fn seconds_left(&self, local: DateTime) -> u64 {
        if *self == Window::ALWAYS {
            return self.seconds_long();
        }
        self.seconds_long()
            .saturating_sub(self.seconds_since_start(local))
    }

    /// When it opens next, after `local`: inside of it that is the next day.
    pub fn next_start(&self, local: DateTime) -> DateTime {
        let start = jiff::civil::time((self.from / 60) as i8, (self.from % 60) as i8, 0, 0);
        let today = local.date().to_datetime(start);
        if today > local {
            return today;
        }
        // Only the last day of the calendar has none after it.
        today
            .date()
            .tomorrow()
            .map_or(today, |d| d.to_datetime(start))
    }

    /// How long it is open each day, in seconds.
    pub fn seconds_long(&self) -> u64 {
        let minutes = match self.to > self.from {
            true => self.to - self.from,
            false => MINUTES_A_DAY - self.from + self.to,
        };
        u64::from(minutes) * 60
    }

    /// Since it opened last, whether or not it has closed since.
    fn seconds_since_start(&self, local: DateTime) -> u64 {
        const DAY: u64 = MINUTES_A_DAY as u64 * 60;
        // Never negative in a civil time.
        let part = |value: i8| u64::try_from(value).unwrap_or(0);
        let now = part(local.hour()) * 3600 + part(local.minute()) * 60 + part(local.second());
        (now + DAY - u64::from(self.from) * 60) % DAY
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Window, WindowError> {
        let minutes = |text: &str| -> Option<u16> {
            let (hour, minute) = text.trim().split_once(':')?;
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(hour) || !digits(minute) {
                return None;
            }
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (minute < 60).then_some(hour * 60 + minute)
        };
        let parsed = text
            .split_once('-')
            .and_then(|(from, to)| Window::new(minutes(from)?, minutes(to)?));
        parsed.ok_or_else(|| WindowError {
            text: text.chars().take(64).collect(),
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Window, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}

/// What a pause of the work may leave to be made up for, either way.
const CARRIED_MAX: Duration = Duration::from_secs(2);
/// No piece takes longer under a cap that somebody means; a clock can always be told.
const COST_MAX: Duration = Duration::from_secs(24 * 3600);

/// Keeps work below a number of bytes per second.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_second: u64,
    /// When the bytes so far would have been through, had they gone at that rate all the time.
    due: Option<Instant>,
}

impl Pace {
    /// 0: no cap.
    pub fn new(bytes_per_second: u64) -> Pace {
        Pace {
            bytes_per_second,
            due: None,
        }
    }

    /// Another cap from now on, as in the morning; 0: none.
    pub fn set(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
    }

    /// To be called when a piece of the work is done: how long to sleep before the next one.
    ///
    /// Time that the work did not use counts for 2 s at most, so that nothing rushes after a pause; of a sleep that was
    /// broken off 2 s at most are made up for.
    pub fn took(&mut self, bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            self.due = None;
            return Duration::ZERO;
        }
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let cost = cost.min(COST_MAX);
        let earliest = now.checked_sub(CARRIED_MAX).unwrap_or(now);
        let due = self.due.unwrap_or(now).clamp(earliest, now + CARRIED_MAX) + cost;
        self.due = Some(due);
        due.saturating_duration_since(now)
    }
}

/// Makes room for modalities that are sending.
#[derive(Debug, Clone, Copy)]
pub struct Politeness;

impl Politeness {
    /// How recently an instance must have come for its sender to be at it still.
    const SENDING_WITHIN: Duration = Duration::from_secs(1);
    /// However long a piece took: work goes on, all the time.
    const REST_MAX: Duration = Duration::from_secs(2);

    /// How long to sleep after a piece of the work that took `worked`.
    ///
    /// While instances come, work has a quarter of the time. `last_received`: how long ago the last one came.
    pub fn rest(last_received: Option<Duration>, worked: Duration) -> Duration {
        match last_received {
            Some(ago) if ago <= Politeness::SENDING_WITHIN => {
                worked.saturating_mul(3).min(Politeness::REST_MAX)
            }
            _ => Duration::ZERO,
        }
    }
}

/// The rate is that of the last minute.
const RATE_OVER: Duration = Duration::from_secs(60);
/// Between two measurements that are kept; bounds how many there are.
const MEASURED_EVERY: Duration = Duration::from_secs(1);

/// How far work is, and when it will be done.
#[derive(Debug, Clone)]
pub struct Progress {
    done: Measured,
    total_count: u64,
    total_bytes: u64,
    /// Oldest first: one as old as the rate wants or older, and those after it.
    measured: VecDeque<(Instant, Measured)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    count: u64,
    bytes: u64,
}

/// [`Progress`] at a moment, as it is shown and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProgressStatus {
    pub done_count: u64,
    pub total_count: u64,
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Over the last minute of work.
    pub bytes_per_second: u64,
    /// Until everything is done at that rate, without pauses; absent where nothing was done lately.
    pub eta_seconds: Option<u64>,
}

impl Progress {
    pub fn new(total_count: u64, total_bytes: u64, now: Instant) -> Progress {
        Progress {
            done: Measured::default(),
            total_count,
            total_bytes,
            measured: VecDeque::from([(now, Measured::default())]),
        }
    }

    /// There is more or less to do than was thought.
    pub fn set_total(&mut self, total_count: u64, total_bytes: u64) {
        (self.total_count, self.total_bytes) = (total_count, total_bytes);
    }

    /// A piece is done; a part of an instance has `count` 0.
    pub fn add(&mut self, count: u64, bytes: u64, now: Instant) {
        self.done.count = self.done.count.saturating_add(count);
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        let newest = self.measured.back();
        if newest.is_none_or(|(at, _)| now.saturating_duration_since(*at) >= MEASURED_EVERY) {
            self.measured.push_back((now, self.done));
        }
        self.forget_before(now);
    }

    /// Work goes on after a pause, which the rate does not count.
    pub fn resumed(&mut self, now: Instant) {
        self.measured.clear();
        self.measured.push_back((now, self.done));
    }

    pub fn status(&self, now: Instant) -> ProgressStatus {
        let since = |at: Instant| now.saturating_duration_since(at);
        // The newest that is a minute old: the rate is not that of a burst long ago.
        let newest_first = || self.measured.iter().rev();
        let old = newest_first().find(|(at, _)| since(*at) >= RATE_OVER);
        let first = old.or(self.measured.front());
        let (seconds, before) = match first {
            Some((at, before)) => (since(*at).as_secs_f64(), *before),
            None => (0.0, self.done),
        };
        let bytes = self.done.bytes - before.bytes;
        let count = self.done.count - before.count;
        let bytes_left = self.total_bytes.saturating_sub(self.done.bytes);
        let count_left = self.total_count.saturating_sub(self.done.count);
        let eta = |left: u64, done: u64| {
            let known = left == 0 || (done > 0 && seconds > 0.0);
            // A cast from float to integer ends at the largest number.
            known.then(|| (left as f64 * seconds / done.max(1) as f64).ceil() as u64)
        };
        ProgressStatus {
            done_count: self.done.count,
            total_count: self.total_count,
            done_bytes: self.done.bytes,
            total_bytes: self.total_bytes,
            bytes_per_second: match seconds > 0.0 {
                true => (bytes as f64 / seconds).round() as u64,
                false => 0,
            },
            // Bytes say it better, where they are known.
            eta_seconds: match bytes_left {
                0 => eta(count_left, count),
                _ => eta(bytes_left, bytes),
            },
        }
    }

    fn forget_before(&mut self, now: Instant) {
        // The second may go too once it is old enough alone.
        while let Some((second, _)) = self.measured.get(1)
            && now.saturating_duration_since(*second) >= RATE_OVER
        {
            self.measured.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
