//! What the other archive has: all studies that fit the keys, also where it answers only so many at a time.
//!
//! It is asked for everything first. Where it says that this was too much (any final status but 0000H), or where two
//! halves of the same dates have more than the whole (then it ends its answers without a word), the dates are halved
//! until each part is answered in full. Of one day the hours are asked for.

use std::collections::HashMap;
use std::ops::ControlFlow;

use dicom_dictionary_std::tags;

use super::dates::Days;
use super::peer::{Keys, Line, Other, Trouble, is_uid, key};
use super::task::Study;

/// Studies of one pull: they are held in memory, about 150 bytes each.
pub(super) const STUDIES_MAX: usize = 500_000;
/// From so many on it is tried whether the peer ends its answers without a word; no archive has a lower limit.
const SUSPICIOUS_MIN: u64 = 20;
/// Answers that were cut short and brought nothing new, one after the other: then the peer does not look at the dates. A day
/// with many studies has about twenty, as the same ones come first each time.
const FRUITLESS_MAX: u32 = 100;
/// Remarks for the report.
const NOTES_MAX: usize = 1_000;

const DATE: u32 = key(tags::STUDY_DATE);
const TIME: u32 = key(tags::STUDY_TIME);
const STUDY: u32 = key(tags::STUDY_INSTANCE_UID);
const INSTANCES: u32 = key(tags::NUMBER_OF_STUDY_RELATED_INSTANCES);

/// What was found, the newest first, and what has to be said about it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub studies: Vec<Study>,
    pub notes: Vec<String>,
}

/// How one question was answered.
struct Answered {
    count: u64,
    /// The peer says that there is more, or that it gave up.
    cut: bool,
    status: u16,
}

pub(super) struct Search<'a> {
    other: &'a Other<'a>,
    line: Option<Line<'a>>,
    keys: Keys,
    found: HashMap<String, (String, Option<u32>)>,
    /// So many answers are what the peer gives at most.
    limit: Option<u64>,
    notes: Vec<String>,
    unusable_count: u64,
    /// Told how many are known.
    told: &'a dyn Fn(u64),
}

/// All studies that fit.
pub(super) fn search(other: &Other, keys: &Keys, told: &dyn Fn(u64)) -> Result<Found, Trouble> {
    let mut keys = keys.clone();
    for asked in [DATE, STUDY, INSTANCES] {
        keys.entry(asked).or_default();
    }
    let is_one = keys.get(&STUDY).is_some_and(|uid| !uid.is_empty());
    let days = match is_one {
        true => None,
        false => Days::read(keys.get(&DATE).map_or("", String::as_str)),
    };
    let mut search = Search {
        other,
        line: None,
        keys,
        found: HashMap::new(),
        limit: None,
        notes: Vec::new(),
        unusable_count: 0,
        told,
    };
    match days {
        Some(days) => search.by_days(days)?,
        None => search.at_once()?,
    }
    Ok(search.end())
}

impl Search<'_> {
    /// Keys that cannot be divided.
    fn at_once(&mut self) -> Result<(), Trouble> {
        let keys = self.keys.clone();
        let answered = self.ask(&keys)?;
        if answered.cut {
            self.refused_without_answers(&answered)?;
            self.note(format!(
                "{} ended its answers with {:04X}H after {} studies: there may be more; ask for less at a time",
                self.other.peer.ae_title, answered.status, answered.count
            ));
        }
        Ok(())
    }

    fn by_days(&mut self, days: Days) -> Result<(), Trouble> {
        let all = self.ask_days(days)?;
        let mut is_cut = all.cut;
        if !is_cut && all.count >= SUSPICIOUS_MIN && self.ends_silently(days, all.count)? {
            is_cut = true;
            self.limit = Some(all.count);
        }
        if !is_cut {
            return Ok(());
        }
        if all.status & 0xFF00 != 0xA700 {
            self.refused_without_answers(&all)?;
        }
        if days == Days::ALL {
            self.note(format!(
                "{} answers {} studies at a time, so it was asked by dates: studies without a Study Date may be missing",
                self.other.peer.ae_title, all.count
            ));
        }
        let mut left: Vec<Days> = match days.halves() {
            Some((older, newer)) => vec![older, newer],
            None => return self.by_hours(days),
        };
        let mut fruitless_count = 0;
        while let Some(days) = left.pop() {
            let known = self.found.len();
            let answered = self.ask_days(days)?;
            let full = self.limit.is_some_and(|limit| answered.count >= limit);
            if !answered.cut && !full {
                continue;
            }
            fruitless_count = match self.found.len() > known {
                true => 0,
                false => fruitless_count + 1,
            };
            if fruitless_count > FRUITLESS_MAX {
                return Err(Trouble::Ends(format!(
                    "{} answers {} studies whatever dates it is asked for, so that what it has cannot be listed; \
                     pull by keys that fit fewer",
                    self.other.peer.ae_title, answered.count
                )));
            }
            match days.halves() {
                Some((older, newer)) => left.extend([older, newer]),
                None => self.by_hours(days)?,
            }
        }
        Ok(())
    }

    /// Whether the peer gives no more than `count` answers to anything: where it does, two halves have more than the
    /// whole, or all of them are in one half, which is then looked at in the same way.
    fn ends_silently(&mut self, days: Days, count: u64) -> Result<bool, Trouble> {
        let mut days = days;
        while let Some((older, newer)) = days.halves() {
            let (first, second) = (self.ask_days(older)?, self.ask_days(newer)?);
            if first.cut || second.cut || first.count + second.count > count {
                return Ok(true);
            }
            days = match (first.count == count, second.count == count) {
                (true, _) => older,
                (_, true) => newer,
                _ => return Ok(false),
            };
        }
        Ok(false)
    }

    fn by_hours(&mut self, day: Days) -> Result<(), Trouble> {
        let text = day.value();
        let text = text.split('-').next().unwrap_or_default().to_owned();
        let title = self.other.peer.ae_title.clone();
        if self.keys.get(&TIME).is_some_and(|time| !time.is_empty()) {
            self.note(format!(
                "{title} did not answer all that it has of {text}; ask for less of that day at a time"
            ));
            return Ok(());
        }
        self.note(format!(
            "{title} was asked for {text} by hours: studies of that day without a Study Time may be missing"
        ));
        for hour in 0..24 {
            let mut keys = self.keys.clone();
            keys.insert(DATE, text.clone());
            keys.insert(TIME, format!("{hour:02}0000-{hour:02}5959.999999"));
            let answered = self.ask(&keys)?;
            let full = self.limit.is_some_and(|limit| answered.count >= limit);
            if answered.cut || full {
                self.note(format!(
                    "{title} did not answer all that it has of {text} from {hour}:00 to {hour}:59"
                ));
            }
        }
        Ok(())
    }

    fn ask_days(&mut self, days: Days) -> Result<Answered, Trouble> {
        let mut keys = self.keys.clone();
        keys.insert(DATE, days.value());
        match self.ask(&keys) {
            // It may have been one time-out of many questions.
            Err(Trouble::Broke(reason)) => {
                tracing::warn!(
                    reason,
                    days = days.value(),
                    "a search broke off; it is asked again"
                );
                self.ask(&keys)
            }
            answered => answered,
        }
    }

    fn ask(&mut self, keys: &Keys) -> Result<Answered, Trouble> {
        if (self.other.cancelled)() {
            return Err(Trouble::Cancelled);
        }
        if self.line.is_none() {
            self.line = Some(self.other.connect()?);
        }
        let Some(line) = &mut self.line else {
            return Err(Trouble::Cancelled);
        };
        let (found, unusable_count) = (&mut self.found, &mut self.unusable_count);
        let (mut count, mut too_many) = (0, false);
        let told = self.told;
        let asked = line.find("STUDY", keys, &mut |answer| {
            let Some(uid) = answer
                .uid(tags::STUDY_INSTANCE_UID)
                .filter(|uid| is_uid(uid))
            else {
                *unusable_count += 1;
                return ControlFlow::Continue(());
            };
            count += 1;
            if found.len() >= STUDIES_MAX && !found.contains_key(&uid) {
                too_many = true;
                return ControlFlow::Break(());
            }
            let date = answer.text(tags::STUDY_DATE).unwrap_or_default();
            let date: String = date.chars().filter(char::is_ascii_digit).take(8).collect();
            let number = answer.text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES);
            let number = number.and_then(|text| text.trim().parse().ok());
            found.insert(uid, (date, number));
            told(found.len() as u64);
            ControlFlow::Continue(())
        });
        let status = asked.inspect_err(|_| self.line = None)?;
        if too_many {
            return Err(Trouble::Ends(format!(
                "more than {STUDIES_MAX} studies fit; pull them in parts, by ranges of StudyDate"
            )));
        }
        Ok(Answered {
            count,
            cut: status != 0,
            status,
        })
    }

    /// An answer that is no answer at all: the keys, or the peer, are to be looked at.
    fn refused_without_answers(&self, answered: &Answered) -> Result<(), Trouble> {
        match answered.count {
            0 => Err(Trouble::Ends(format!(
                "{} refuses the search with status {:04X}H; try it with other keys",
                self.other.peer.ae_title, answered.status
            ))),
            _ => Ok(()),
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }

    fn end(mut self) -> Found {
        if self.unusable_count > 0 {
            let count = self.unusable_count;
            self.note(format!(
                "{count} answers of the search name no Study Instance UID that can be asked for"
            ));
        }
        let mut found: Vec<_> = std::mem::take(&mut self.found).into_iter().collect();
        found.sort_by(|(a, (on, _)), (b, (other, _))| other.cmp(on).then_with(|| a.cmp(b)));
        let studies = found.into_iter();
        Found {
            studies: studies
                .map(|(uid, (date, instances))| Study::new(uid, &date, instances))
                .collect(),
            notes: self.notes,
        }
    }
}

#[cfg(test)]
mod tests;
