//! What series need, why, and in which order it is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::config::MirrorWhen;
use crate::index::SeriesSpread;

use super::safety::{Judge, Need};

/// Where to look.
#[derive(Default)]
pub struct Pending {
    /// By study and series.
    pub series: BTreeMap<(String, String), Due>,
    /// Series of which a copy turned out bad, and since when that is known: what they need they need at once.
    pub urgent: BTreeMap<(String, String), Instant>,
    /// Series of which somebody was, or will be, told that we keep them, and since when: they are copied at once too.
    pub promised: BTreeMap<(String, String), Instant>,
    /// As the shelf was when every series was looked at; `None`: that is still to be done.
    pub judged: Option<Judge>,
}

/// What a series needs.
#[derive(Debug, Clone)]
pub struct Due {
    /// Folder of the study's date.
    pub date: String,
    pub modality: String,
    /// Contents that need a copy on a mirror volume.
    pub mirror_count: u64,
    /// Contents that have lost a copy: on a disk that was given up, or the good one on an archive volume.
    pub heal_count: u64,
    pub heal_bytes: u64,
    /// Those of them of which only one good copy is left.
    pub alone_count: u64,
    /// Which copies these are.
    pub needs: BTreeSet<Need>,
    /// Of all.
    pub bytes: u64,
    /// Something came to it.
    pub touched: Instant,
    /// By the rules; looked up when it is first asked for.
    pub when: Option<MirrorWhen>,
    /// Something failed: not before then.
    pub again: Option<Instant>,
    /// So often one after the other.
    pub failures: u32,
}

/// A job by hand.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Asked {
    pub number: u64,
    /// Exam date `YYYYMMDD`; `None`: every.
    pub date: Option<String>,
    pub modality: Option<String>,
    pub done: bool,
    pub copied_count: u64,
    pub failed_count: u64,
}

impl Asked {
    pub fn takes(&self, due: &Due) -> bool {
        let is = |wanted: &Option<String>, there: &str| {
            wanted
                .as_ref()
                .is_none_or(|w| w.eq_ignore_ascii_case(there))
        };
        is(&self.date, &due.date) && is(&self.modality, &due.modality)
    }
}

/// Why a job is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Only one good copy is left of something that had two: at once, whatever the hour.
    Alone,
    /// Something has lost a copy: at once as well.
    Heal,
    /// Somebody deletes it elsewhere, because it is here.
    Promised,
    ByHand,
    /// Soon after it came.
    Soon,
    Window,
}

/// Smaller is earlier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(Cause, String, String);

impl Order {
    pub fn of(cause: Cause, due: &Due) -> Order {
        let date = match cause {
            // The newest first: what a doctor may want tomorrow.
            Cause::Alone | Cause::Heal => due.date.bytes().map(|b| (0xff - b) as char).collect(),
            _ => due.date.clone(),
        };
        Order(cause, date, due.modality.clone())
    }
}

/// Notes what a series needs now; it was touched.
pub fn note(pending: &mut Pending, place: (String, String), due: Option<Due>) {
    match due {
        Some(due) => drop(pending.series.insert(place, due)),
        None => drop(pending.series.remove(&place)),
    }
}

pub fn due(series: &SeriesSpread, judge: &Judge, now: Instant) -> Option<Due> {
    Needs::default().due(series, judge, now)
}

/// Most series lie on the same few sets of volumes.
#[derive(Default)]
pub struct Needs(HashMap<Vec<String>, Judged>);

#[derive(Clone, Copy)]
pub struct Judged {
    pub need: Need,
    /// It had a copy more.
    pub heal: bool,
    /// And only one good copy is left of it.
    pub alone: bool,
}

impl Needs {
    pub fn of(&mut self, volume_ids: &[String], judge: &Judge) -> Need {
        self.judged(volume_ids, judge).need
    }

    pub fn judged(&mut self, volume_ids: &[String], judge: &Judge) -> Judged {
        if let Some(judged) = self.0.get(volume_ids) {
            return *judged;
        }
        let need = judge.need(volume_ids);
        let heal = match need {
            Need::Archive => true,
            Need::Mirror => judge.was_on_replaced(volume_ids),
            Need::Nothing | Need::Lost => false,
        };
        let alone = heal && judge.good_count(volume_ids) == 1;
        let judged = Judged { need, heal, alone };
        self.0.insert(volume_ids.to_vec(), judged);
        judged
    }

    pub fn due(&mut self, series: &SeriesSpread, judge: &Judge, now: Instant) -> Option<Due> {
        let mut due = Due {
            date: String::new(),
            modality: String::new(),
            mirror_count: 0,
            heal_count: 0,
            heal_bytes: 0,
            alone_count: 0,
            needs: BTreeSet::new(),
            bytes: 0,
            touched: now,
            when: None,
            again: None,
            failures: 0,
        };
        for spread in &series.spread {
            let judged = self.judged(&spread.volume_ids, judge);
            if matches!(judged.need, Need::Nothing | Need::Lost) {
                continue;
            }
            let (count, bytes) = (spread.contents_count, spread.bytes);
            due.bytes += bytes;
            due.needs.insert(judged.need);
            match judged.heal {
                true => {
                    (due.heal_count, due.heal_bytes) =
                        (due.heal_count + count, due.heal_bytes + bytes)
                }
                false => due.mirror_count += count,
            }
            if judged.alone {
                due.alone_count += count;
            }
        }
        (due.mirror_count + due.heal_count > 0).then(|| Due {
            date: date_of(&series.folder),
            modality: series.modality.clone(),
            ..due
        })
    }
}

/// The study date in the path of a series' folder.
pub fn date_of(folder: &str) -> String {
    folder.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(date: &str, modality: &str) -> Due {
        Due {
            date: date.to_owned(),
            modality: modality.to_owned(),
            mirror_count: 1,
            heal_count: 0,
            alone_count: 0,
            needs: BTreeSet::from([Need::Mirror]),
            bytes: 1,
            heal_bytes: 0,
            touched: Instant::now(),
            when: None,
            again: None,
            failures: 0,
        }
    }

    #[test]
    fn jobs_are_done_dates_first_then_modalities_and_what_has_one_copy_left_newest_first() {
        let order = [
            (Cause::Alone, "20260117", "CT"),
            (Cause::Alone, "20200101", "CT"),
            (Cause::Heal, "20260118", "CT"),
            (Cause::Heal, "20200101", "CT"),
            (Cause::ByHand, "20260118", "XA"),
            (Cause::Soon, "20260117", "US"),
            (Cause::Window, "20260115", "CT"),
            (Cause::Window, "20260115", "MR"),
            (Cause::Window, "20260116", "CR"),
        ];
        let mut jobs = order;
        jobs.reverse();
        jobs.sort_by_key(|(cause, date, modality)| Order::of(*cause, &due(date, modality)));
        assert_eq!(jobs, order);
    }

    #[test]
    fn a_job_by_hand_takes_its_date_and_modality_or_all() {
        let asked = |date: Option<&str>, modality: Option<&str>| Asked {
            number: 1,
            date: date.map(str::to_owned),
            modality: modality.map(str::to_owned),
            done: false,
            copied_count: 0,
            failed_count: 0,
        };
        for (asked, taken) in [
            (asked(None, None), true),
            (asked(Some("20260115"), None), true),
            (asked(Some("20260115"), Some("ct")), true),
            (asked(Some("20260116"), Some("CT")), false),
            (asked(None, Some("MR")), false),
        ] {
            assert_eq!(asked.takes(&due("20260115", "CT")), taken, "{asked:?}");
        }
    }
}
