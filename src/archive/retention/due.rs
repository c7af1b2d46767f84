//! Which contents the rules take from a volume, the longest here first.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use dicom_dictionary_std::tags;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::config::RetentionRule;
use crate::index::{ContentId, IndexError, Snapshot};

use super::super::content::{Content, contents};
use super::super::due::date_of;
use super::super::places::key;

/// Contents gathered at a time; some 10 MB.
pub const GATHERED_MAX: usize = 20_000;

const DAY_SECONDS: i64 = 86_400;

/// A content that fits a rule. In the order in which they leave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// RFC 3339.
    pub received: String,
    pub sop_instance_uid: String,
    pub content: ContentId,
    /// Place of the first rule that fits.
    pub rule: usize,
}

/// The contents of a volume that the rules take.
pub struct Search<'a> {
    pub volume_id: &'a str,
    /// Places of the rules that are asked, and the rules.
    pub rules: Vec<(usize, &'a RetentionRule)>,
    pub now: Timestamp,
    /// Local.
    pub today: Date,
}

/// What holds for every instance of a series.
struct OfSeries {
    study: String,
    series: String,
    modality: String,
    /// Of the study.
    date: Option<Date>,
}

impl Search<'_> {
    /// The first of those after `after`, and whether there are more. `look` is told of each instance and says whether to
    /// go on; where it says no, what was found so far is returned.
    pub fn after(
        &self,
        snapshot: &Snapshot,
        after: Option<&Due>,
        look: &dyn Fn() -> bool,
    ) -> Result<(Vec<Due>, bool), IndexError> {
        // The largest on top, to make way for smaller ones.
        let mut heap: BinaryHeap<Due> = BinaryHeap::new();
        let mut more = false;
        let mut known: Option<OfSeries> = None;
        let mut failed = None;
        snapshot.on_volume(self.volume_id, None, &mut |entry| {
            if !look() {
                return ControlFlow::Break(());
            }
            for content in contents(&entry) {
                if !content.copies.iter().any(|c| c.volume_id == self.volume_id) {
                    continue;
                }
                let of_series = match of_series(snapshot, &content, &mut known) {
                    Ok(of_series) => of_series,
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                };
                let fits =
                    |(_, rule): &&(usize, &RetentionRule)| self.fits(rule, &content, of_series);
                let Some((rule, _)) = self.rules.iter().find(fits) else {
                    continue;
                };
                let Some(due) = due(content, *rule) else {
                    continue;
                };
                if after.is_some_and(|after| due <= *after) {
                    continue;
                }
                heap.push(due);
                if heap.len() > GATHERED_MAX {
                    heap.pop();
                    more = true;
                }
            }
            ControlFlow::Continue(())
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok((heap.into_sorted_vec(), more)),
        }
    }

    fn fits(&self, rule: &RetentionRule, content: &Content, of_series: &OfSeries) -> bool {
        let is_old = |days: u64| {
            let received = content.received.parse::<Timestamp>().ok();
            received.is_some_and(|received| {
                let age = self.now.duration_since(received).as_secs();
                age >= 0 && age / DAY_SECONDS >= days as i64
            })
        };
        let study_is_old = |days: u64| {
            let date = of_series.date;
            let age = date.and_then(|date| self.today.since(date).ok());
            age.is_some_and(|age| i64::from(age.get_days()) >= days as i64)
        };
        rule.takes(&of_series.modality, &content.source_ae_title)
            && rule.older_than_days.is_none_or(is_old)
            && rule.study_older_than_days.is_none_or(study_is_old)
    }
}

fn of_series<'a>(
    snapshot: &Snapshot,
    content: &Content,
    known: &'a mut Option<OfSeries>,
) -> Result<&'a OfSeries, IndexError> {
    let (study, series) = (&content.study_instance_uid, &content.series_instance_uid);
    let is_it = |known: &OfSeries| known.study == *study && known.series == *series;
    if !known.as_ref().is_some_and(is_it) {
        let facts = snapshot.study(study)?.map(|record| record.facts);
        let date = facts.and_then(|facts| {
            let value = facts.values.get(&key(tags::STUDY_DATE));
            let day = |text: &str| Date::strptime("%Y%m%d", text.trim()).ok();
            value
                .and_then(|value| day(value))
                .or_else(|| day(&date_of(&facts.date_folder)))
        });
        let spread = snapshot.spread_of(study, series)?;
        *known = Some(OfSeries {
            study: study.clone(),
            series: series.clone(),
            modality: spread.map(|series| series.modality).unwrap_or_default(),
            date,
        });
    }
    Ok(known.as_ref().expect("it was just put there"))
}

fn due(content: Content, rule: usize) -> Option<Due> {
    let copy = content.copies.first()?;
    Some(Due {
        content: ContentId {
            transfer_syntax: content.transfer_syntax.clone(),
            data_bytes: copy.data_bytes(),
            crc32: copy.crc32,
        },
        received: content.received,
        sop_instance_uid: content.sop_instance_uid,
        rule,
    })
}

impl Due {
    pub fn is(&self, content: &Content) -> bool {
        content.transfer_syntax == self.content.transfer_syntax
            && content.copies.first().is_some_and(|copy| {
                (copy.data_bytes(), copy.crc32) == (self.content.data_bytes, self.content.crc32)
            })
    }
}
