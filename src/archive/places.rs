//! Where the instances of a study and a series belong: fixed when the first of them is seen, never recomputed.
//!
//! Held in memory beside the index, because two associations may bring the first two instances of a study at once and
//! both must get the same folder before either is in the index.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dicom_dictionary_std::tags;

use crate::dicom::{Attributes, Level, Tag};
use crate::index::{IndexError, SeriesFacts, Snapshot, StudyFacts, Values};
use crate::volume::layout;

#[derive(Default)]
pub struct Places {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    studies: HashMap<String, Arc<StudyFacts>>,
    series: HashMap<(String, String), Arc<SeriesFacts>>,
}

/// Entries kept before those that nobody uses are dropped (they are in the index by then).
const KEPT_COUNT: usize = 8_192;

pub fn key(tag: Tag) -> u32 {
    (u32::from(tag.group()) << 16) | u32::from(tag.element())
}

impl Places {
    /// What is known of a study changed otherwise than by an instance that was received.
    pub fn forget(&self, study_uid: &str) {
        let mut inner = self.inner.lock().expect("no panic while held");
        inner.studies.remove(study_uid);
        inner.series.retain(|(study, _), _| study != study_uid);
    }

    /// The study and series that an instance belongs to, made when it is their first.
    ///
    /// `today`: the day of receipt as `YYYYMMDD`, the folder of a study that has no valid date.
    pub fn assign(
        &self,
        attributes: &Attributes,
        study_uid: &str,
        series_uid: &str,
        today: &str,
        snapshot: &Snapshot,
    ) -> Result<(Arc<StudyFacts>, Arc<SeriesFacts>), IndexError> {
        let mut study_values = attributes.values(Level::Patient);
        study_values.append(&mut attributes.values(Level::Study));
        let series_values = attributes.values(Level::Series);
        let values = (study_values, series_values);
        self.assign_values(values, study_uid, series_uid, today, snapshot)
    }

    /// As [`Places::assign`], from the values of study (and patient) and series.
    pub fn assign_values(
        &self,
        (study_values, series_values): (Values, Values),
        study_uid: &str,
        series_uid: &str,
        today: &str,
        snapshot: &Snapshot,
    ) -> Result<(Arc<StudyFacts>, Arc<SeriesFacts>), IndexError> {
        let mut inner = self.inner.lock().expect("no panic while held");
        if inner.studies.len() + inner.series.len() > KEPT_COUNT {
            inner
                .studies
                .retain(|_, facts| Arc::strong_count(facts) > 1);
            inner.series.retain(|_, facts| Arc::strong_count(facts) > 1);
        }

        let known = match inner.studies.get(study_uid) {
            Some(facts) => Some(facts.clone()),
            None => snapshot
                .study(study_uid)?
                .map(|record| Arc::new(record.facts)),
        };
        let study = match known {
            Some(facts) => match filled(&facts.values, &study_values) {
                Some(values) => Arc::new(StudyFacts {
                    values,
                    ..(*facts).clone()
                }),
                None => facts,
            },
            None => Arc::new(StudyFacts {
                study_instance_uid: study_uid.to_owned(),
                date_folder: date_folder(study_values.get(&key(tags::STUDY_DATE)), today),
                values: study_values,
            }),
        };
        inner.studies.insert(study_uid.to_owned(), study.clone());

        let series_key = (study_uid.to_owned(), series_uid.to_owned());
        let known = match inner.series.get(&series_key) {
            Some(facts) => Some(facts.clone()),
            None => snapshot
                .series(study_uid, series_uid)?
                .map(|record| Arc::new(record.facts)),
        };
        let series = match known {
            Some(facts) => match filled(&facts.values, &series_values) {
                Some(values) => Arc::new(SeriesFacts {
                    values,
                    ..(*facts).clone()
                }),
                None => facts,
            },
            None => {
                let text =
                    |values: &Values, tag| values.get(&key(tag)).cloned().unwrap_or_default();
                let folder = layout::series_folder(
                    &study.date_folder,
                    &text(&series_values, tags::MODALITY),
                    &text(&study.values, tags::PATIENT_ID),
                    study_uid,
                    series_uid,
                );
                Arc::new(SeriesFacts {
                    series_instance_uid: series_uid.to_owned(),
                    study_instance_uid: study_uid.to_owned(),
                    folder,
                    values: series_values,
                })
            }
        };
        inner.series.insert(series_key, series.clone());
        Ok((study, series))
    }
}

/// The first seen value stays; a later instance fills only what was empty. `None`: nothing to fill.
fn filled(first: &Values, later: &Values) -> Option<Values> {
    if later.keys().all(|tag| first.contains_key(tag)) {
        return None;
    }
    let mut values = later.clone();
    values.extend(first.iter().map(|(tag, value)| (*tag, value.clone())));
    Some(values)
}

/// A DA value (also as ACR-NEMA wrote it, `YYYY.MM.DD`) as a folder name.
fn date_folder(study_date: Option<&String>, today: &str) -> String {
    let digits: String = study_date
        .map(|date| date.chars().filter(|c| *c != '.').collect())
        .unwrap_or_default();
    let valid = digits.len() == 8
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && ("0101"..="1231").contains(&&digits[4..])
        && ("01"..="31").contains(&&digits[6..]);
    if valid { digits } else { today.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_without_a_valid_date_goes_to_the_day_of_receipt() {
        for (date, folder) in [
            (None, "20261121"),
            (Some(""), "20261121"),
            (Some("20260115"), "20260115"),
            (Some("2026.01.15"), "20260115"),
            (Some("20261301"), "20261121"),
            (Some("20260100"), "20261121"),
            (Some("../../.."), "20261121"),
            (Some("20260115-20260116"), "20261121"),
        ] {
            assert_eq!(
                date_folder(date.map(str::to_owned).as_ref(), "20261121"),
                folder,
                "{date:?}"
            );
        }
    }
}
