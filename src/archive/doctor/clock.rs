//! Whether somebody keeps the clock of this machine right: systemd says it where it runs.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Finding;

/// The clock was set by nobody, or to nonsense, outside of these.
const YEARS: std::ops::RangeInclusive<i16> = 2025..=2100;
/// For a program that only asks another.
const PATIENCE: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(20);

const NEXT: &str = "let it be kept right: timedatectl set-ntp true";

pub fn clock() -> Finding {
    judge(Timestamp::now(), is_kept())
}

fn judge(now: Timestamp, is_kept: Option<bool>) -> Finding {
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let clock = now.strftime("%Y-%m-%d %H:%M UTC");
    if !YEARS.contains(&year) {
        return Finding::problem(
            "clock",
            format!("it says {clock}: what is received gets a wrong date"),
            format!("set it, and {NEXT}"),
        );
    }
    match is_kept {
        Some(true) => Finding::ok("clock", format!("{clock}, kept by a time server")),
        Some(false) => Finding::note(
            "clock",
            format!(
                "{clock}; no time server keeps it right, and times of receipt drift away from those of the modalities"
            ),
            NEXT,
        ),
        None => Finding::ok(
            "clock",
            format!("{clock}; whether a time server keeps it cannot be told here"),
        ),
    }
}

/// `None`: nobody says it.
fn is_kept() -> Option<bool> {
    let mut child = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(ASK_EVERY);
    }
    let mut said = String::new();
    let out = child.stdout.take()?;
    out.take(64).read_to_string(&mut said).ok()?;
    match said.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Grade;

    #[test]
    fn a_clock_that_nobody_keeps_is_noted_and_a_wrong_one_is_a_problem() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let now = at("2026-11-22T08:00:00Z");
        for (now, is_kept, grade) in [
            (now, Some(true), Grade::Ok),
            (now, None, Grade::Ok),
            (now, Some(false), Grade::Note),
            (at("1970-01-01T00:00:09Z"), Some(true), Grade::Problem),
        ] {
            assert_eq!(judge(now, is_kept).grade, grade, "{now} {is_kept:?}");
        }
    }
}
