//! `[mirror]` and `[scrub]`: when instances get their second copy, and when every file is read again.

use serde::Deserialize;

use crate::dicom::AeTitle;
use crate::job::Window;

/// `[mirror]`: the second copy of each instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// For what no rule fits.
    pub when: MirrorWhen,
    /// For [`MirrorWhen::Nightly`].
    pub window: Window,
    /// For [`MirrorWhen::AfterStudy`]: so long nothing came for the study.
    pub quiet_minutes: u64,
    /// Between two jobs, each one exam date and one modality.
    pub pause_seconds: u64,
    /// At most; 0: no cap.
    pub bytes_per_second: u64,
    /// For [`MirrorWhen::BeforeAck`]: answer success with one copy while no mirror volume takes the second.
    pub degrade: bool,
    /// Two volumes on one physical disk count as two safe copies.
    pub allow_same_device: bool,
    /// After so many days an instance with one copy is overdue.
    pub overdue_days: u64,
    /// When `day_bytes_per_second` holds.
    pub day: Window,
    /// At most, for work that does not wait for the window (heals, a replaced disk); 0: no cap.
    pub day_bytes_per_second: u64,
    /// Exceptions from `when`; the first that fits counts.
    #[serde(rename = "rule")]
    pub rules: Vec<MirrorRule>,
    /// Study dates that are mirrored; see [`Mirror::in_period`].
    #[serde(rename = "period")]
    pub periods: Vec<MirrorPeriod>,
}

/// When an instance gets its second copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorWhen {
    /// In the window.
    Nightly,
    /// When its study was quiet for a while.
    AfterStudy,
    /// At once, in the background.
    Immediate,
    /// Before its sender gets the answer.
    BeforeAck,
}

/// As it is written in the configuration.
impl std::fmt::Display for MirrorWhen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MirrorWhen::Nightly => "nightly",
            MirrorWhen::AfterStudy => "after-study",
            MirrorWhen::Immediate => "immediate",
            MirrorWhen::BeforeAck => "before-ack",
        })
    }
}

/// `[[mirror.rule]]`: an instance fits when everything fits that is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorRule {
    pub calling_ae_title: Option<AeTitle>,
    pub modality: Option<String>,
    /// A pattern: `*` is any run of characters, `?` one.
    pub patient_id: Option<String>,
    pub when: MirrorWhen,
}

/// `[[mirror.period]]`: study dates, both ends included; an absent end is open.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorPeriod {
    /// Absent: those that no other period names.
    pub modality: Option<String>,
    /// `YYYYMMDD`.
    pub from: Option<String>,
    /// `YYYYMMDD`.
    pub to: Option<String>,
}

/// `[scrub]`: every file is read again and compared with its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// Every file once in so many; 0: never.
    pub days: u64,
    pub window: Window,
    /// At most; 0: only as fast as `days` asks for.
    pub bytes_per_second: u64,
}

const NIGHT: Window = Window::new(21 * 60, 24 * 60).unwrap();
const DAY: Window = Window::new(7 * 60, 19 * 60).unwrap();

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror {
            when: MirrorWhen::Nightly,
            window: NIGHT,
            quiet_minutes: 10,
            pause_seconds: 20,
            bytes_per_second: 0,
            degrade: false,
            allow_same_device: false,
            overdue_days: 2,
            day: DAY,
            day_bytes_per_second: 0,
            rules: Vec::new(),
            periods: Vec::new(),
        }
    }
}

impl Default for Scrub {
    fn default() -> Scrub {
        Scrub {
            days: 28,
            window: Window::ALWAYS,
            bytes_per_second: 0,
        }
    }
}

/// Longest Patient ID (PS3.5 6.2, VR LO), in characters; a longer pattern could fit nothing it should. Bounds the time
/// of a comparison, too.
pub(super) const PATTERN_LENGTH_MAX: usize = 64;
/// Longest modality (PS3.5 6.2, VR CS), in characters.
const MODALITY_LENGTH_MAX: usize = 16;

impl Mirror {
    /// When an instance with these values gets its second copy.
    ///
    /// Spaces around values do not count, nor does the case of AE titles and modalities.
    pub fn when_for(&self, calling_ae_title: &str, modality: &str, patient_id: &str) -> MirrorWhen {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.fits(calling_ae_title, modality, patient_id));
        rule.map_or(self.when, |rule| rule.when)
    }

    /// Whether instances of this modality in this folder (`YYYYMMDD`, the study date) are mirrored.
    ///
    /// The periods that name the modality count, else those that name none; without either there is no limit. A study
    /// without a date (`00000000`) is mirrored: one copy too many harms nobody.
    pub fn in_period(&self, modality: &str, date_folder: &str) -> bool {
        if day_of(date_folder).is_none() || date_folder == "00000000" {
            return true;
        }
        let names = |period: &&MirrorPeriod| {
            let name = period.modality.as_deref();
            name.is_some_and(|name| same(name, modality))
        };
        let mut periods: Vec<_> = self.periods.iter().filter(names).collect();
        if periods.is_empty() {
            periods.extend(self.periods.iter().filter(|p| p.modality.is_none()));
        }
        periods.is_empty() || periods.iter().any(|period| period.contains(date_folder))
    }

    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        at_most("[mirror] quiet_minutes", self.quiet_minutes, 7 * 24 * 60)?;
        at_most("[mirror] pause_seconds", self.pause_seconds, 24 * 3600)?;
        at_most("[mirror] overdue_days", self.overdue_days, 3650)?;
        for (i, rule) in self.rules.iter().enumerate() {
            let of = format!("[[mirror.rule]] number {}", i + 1);
            rule.check().map_err(|reason| format!("{of}: {reason}"))?;
        }
        for (i, period) in self.periods.iter().enumerate() {
            let of = format!("[[mirror.period]] number {}", i + 1);
            period.check().map_err(|reason| format!("{of}: {reason}"))?;
        }
        Ok(())
    }
}

impl Scrub {
    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        at_most("[scrub] days", self.days, 3650)
    }
}

impl MirrorRule {
    fn fits(&self, calling_ae_title: &str, modality: &str, patient_id: &str) -> bool {
        let title = self.calling_ae_title.as_ref();
        let pattern = self.patient_id.as_deref();
        title.is_none_or(|own| same(own.as_str(), calling_ae_title))
            && self
                .modality
                .as_deref()
                .is_none_or(|own| same(own, modality))
            && pattern.is_none_or(|own| pattern_fits(own.trim(), patient_id.trim()))
    }

    fn check(&self) -> Result<(), String> {
        if self.calling_ae_title.is_none() && self.modality.is_none() && self.patient_id.is_none() {
            return Err(
                "it fits every instance; give calling_ae_title, modality or patient_id, or set `when` in [mirror]"
                    .to_owned(),
            );
        }
        check_modality(self.modality.as_deref())?;
        match &self.patient_id {
            Some(pattern) if pattern.chars().count() > PATTERN_LENGTH_MAX => Err(format!(
                "patient_id is longer than {PATTERN_LENGTH_MAX} characters, as no Patient ID is"
            )),
            _ => Ok(()),
        }
    }
}

impl MirrorPeriod {
    fn contains(&self, date_folder: &str) -> bool {
        // Eight digits each: they compare as text.
        self.from.as_deref().is_none_or(|from| from <= date_folder)
            && self.to.as_deref().is_none_or(|to| date_folder <= to)
    }

    fn check(&self) -> Result<(), String> {
        check_modality(self.modality.as_deref())?;
        for (key, day) in [("from", &self.from), ("to", &self.to)] {
            if let Some(day) = day {
                let date = day_of(day).map(|_| jiff::civil::Date::strptime("%Y%m%d", day));
                if !matches!(date, Some(Ok(_))) {
                    return Err(format!(
                        "{key} {day:?} is not a day YYYYMMDD, such as 20260115"
                    ));
                }
            }
        }
        match (&self.from, &self.to) {
            (None, None) => Err("it has no end; give from, to or both".to_owned()),
            (Some(from), Some(to)) if from > to => {
                Err(format!("it ends ({to}) before it begins ({from})"))
            }
            _ => Ok(()),
        }
    }
}

/// The text if it is eight digits.
fn day_of(text: &str) -> Option<&str> {
    (text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn same(a: &str, b: &str) -> bool {
    a.trim().eq_ignore_ascii_case(b.trim())
}

pub(super) fn at_most(key: &str, value: u64, most: u64) -> Result<(), String> {
    match value <= most {
        true => Ok(()),
        false => Err(format!("{key} is {value}; at most {most} is allowed")),
    }
}

/// Bounds the time of a comparison.
pub(super) fn check_pattern(key: &str, pattern: Option<&str>) -> Result<(), String> {
    match pattern {
        Some(text) if text.trim().is_empty() || text.chars().count() > PATTERN_LENGTH_MAX => Err(
            format!("{key} {text:?}: 1 to {PATTERN_LENGTH_MAX} characters"),
        ),
        _ => Ok(()),
    }
}

fn check_modality(modality: Option<&str>) -> Result<(), String> {
    match modality {
        Some(text) if text.trim().is_empty() || text.chars().count() > MODALITY_LENGTH_MAX => Err(
            format!("modality {text:?}: 1 to {MODALITY_LENGTH_MAX} characters, such as CT"),
        ),
        _ => Ok(()),
    }
}

/// `*` is any run of characters, `?` one; the whole text must fit.
///
/// Only the last `*` is tried again: what an earlier one could take besides, the last one can as well. So the time is
/// at most that of pattern times text, and the pattern is short.
pub(super) fn pattern_fits(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // What follows the last `*`, and the text from where that is tried.
    let mut again = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                again = Some((pattern.clone(), here.clone()));
                text = here;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {}
            (None, None) => return true,
            // More text for the `*` leaves even less for the rest.
            (Some(_), None) => return false,
            _ => {
                let Some((after, from)) = &mut again else {
                    return false;
                };
                from.next();
                (pattern, text) = (after.clone(), from.clone());
            }
        }
    }
}

/// The part of what `kura init` writes that is about long work.
pub(super) const TEMPLATE: &str = r#"
[mirror]
# When each instance gets its second copy, on a volume with role "mirror": "nightly" (in the window), "after-study"
# (nothing came for its study for quiet_minutes), "immediate" (at once, in the background), "before-ack" (before its
# sender gets the answer).
when = "nightly"
# Local time; may cross midnight ("22:00-06:00"); "00:00-24:00" is always.
window = "21:00-24:00"
quiet_minutes = 10
# Seconds between two jobs; a job is one exam date and one modality.
pause_seconds = 20
# Bytes per second at most; 0: as fast as the disks are.
bytes_per_second = 0
# before-ack only: answer success with one copy while no mirror volume takes the second.
degrade = false
# Count two volumes on one physical disk as two safe copies.
allow_same_device = false
# Days after which an instance with one copy is overdue.
overdue_days = 2
# Copies that replace damaged or lost ones are made at once, day and night; this caps them during the day.
day = "07:00-19:00"
day_bytes_per_second = 0

# Exceptions; the first that fits counts. Any of calling_ae_title, modality, and patient_id (* is any run of
# characters, ? is one).
# [[mirror.rule]]
# calling_ae_title = "CT1"
# modality = "CT"
# patient_id = "9*"
# when = "immediate"

# Mirror only study dates in these periods, both days included. Without modality: all that no other period names.
# Studies without a date are always mirrored.
# [[mirror.period]]
# modality = "CT"
# from = "20200101"
# to = "20261231"

[scrub]
# Every file is read again, and compared with its checksum, within so many days; 0: never.
days = 28
window = "00:00-24:00"
# Bytes per second at most; 0: only as fast as days asks for.
bytes_per_second = 0
"#;

#[cfg(test)]
mod tests;
