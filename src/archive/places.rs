//! Where the instances of a study and a series belong: fixed when the first of them is seen, never recomputed.
//!
//! Held in memory beside the index, because two associations may bring the first two instances of a study at once and
//! both must get the same folder before either is in the index. Held is only what no correction says, which does not
//! change; in which folder a corrected series lies now the index is asked each time.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dicom_dictionary_std::tags;

use crate::dicom::{Attributes, Level, Tag};
use crate::index::{IndexError, SeriesFacts, Snapshot, StudyFacts, Values, names_agree};
use crate::volume::layout;

#[derive(Default)]
pub struct Places {
    inner: Mutex<Inner>,
    /// The index had a correction once: not asked again.
    corrected: AtomicBool,
}

/// Where an instance belongs.
pub struct Place {
    /// What its ledger lines say of study and series, whatever corrections say.
    pub study: Arc<StudyFacts>,
    pub series: Arc<SeriesFacts>,
    /// The folder of the series as it is corrected, if that is another.
    corrected_folder: Option<String>,
    /// The instance's own Patient ID, Patient's Name and Patient's Birth Date, when it says another patient than its
    /// study; mostly empty.
    pub another_patient: Values,
}

impl Place {
    /// Path of the folder that its file goes to, relative to the volume's root.
    pub fn folder(&self) -> &str {
        self.corrected_folder
            .as_deref()
            .unwrap_or(&self.series.folder)
    }
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
    ) -> Result<Place, IndexError> {
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
    ) -> Result<Place, IndexError> {
        let corrected = match self.has_corrections(snapshot)? {
            true => snapshot.study(study_uid)?.map(|record| record.facts),
            false => None,
        };
        let mut inner = self.inner();
        if inner.studies.len() + inner.series.len() > KEPT_COUNT {
            inner
                .studies
                .retain(|_, facts| Arc::strong_count(facts) > 1);
            inner.series.retain(|_, facts| Arc::strong_count(facts) > 1);
        }

        let known = match inner.studies.get(study_uid) {
            Some(facts) => Some(facts.clone()),
            None => snapshot.study_facts(study_uid, 0)?.map(Arc::new),
        };
        let mut another_patient = Values::new();
        for told in [known.as_deref(), corrected.as_ref()].into_iter().flatten() {
            if is_another_patient(&told.values, &study_values) {
                another_patient = patient_of(&study_values);
            }
        }
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
                .series_facts(study_uid, series_uid, 0)?
                .map(Arc::new),
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
                // A new series lies beside the others: where the study is now.
                let now = corrected.as_ref().unwrap_or(&study);
                let folder = layout::series_folder(
                    &now.date_folder,
                    &text(&series_values, tags::MODALITY),
                    &text(&now.values, tags::PATIENT_ID),
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
        drop(inner);
        let corrected_folder = match corrected {
            Some(_) => snapshot
                .series(study_uid, series_uid)?
                .map(|record| record.facts.folder)
                .filter(|folder| !folder.is_empty() && *folder != series.folder),
            None => None,
        };
        Ok(Place {
            study,
            series,
            corrected_folder,
            another_patient,
        })
    }

    /// Whether any correction was ever made: as long as there is none, nobody asks for what they say.
    pub fn has_corrections(&self, snapshot: &Snapshot) -> Result<bool, IndexError> {
        if self.corrected.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let mut found = false;
        snapshot.corrections(&mut |_| {
            found = true;
            ControlFlow::Break(())
        })?;
        if found {
            self.corrected.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// What is held of a study is read again from the index when it is needed next.
    pub fn forget(&self, study_uid: &str) {
        let mut inner = self.inner();
        inner.studies.remove(study_uid);
        inner.series.retain(|(study, _), _| study != study_uid);
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an instance names another patient than its study. What is absent or empty names nobody.
pub fn is_another_patient(study: &Values, own: &Values) -> bool {
    let both = |tag| {
        let tag = key(tag);
        study.get(&tag).zip(own.get(&tag)).filter(|(a, b)| a != b)
    };
    both(tags::PATIENT_ID).is_some_and(|(a, b)| {
        let (a, b) = (a.trim(), b.trim());
        a != b && !a.is_empty() && !b.is_empty()
    }) || both(tags::PATIENT_NAME).is_some_and(|(a, b)| !names_agree(a, b))
}

/// Who an instance says its patient is.
pub fn patient_of(values: &Values) -> Values {
    [
        tags::PATIENT_ID,
        tags::PATIENT_NAME,
        tags::PATIENT_BIRTH_DATE,
    ]
    .into_iter()
    .filter_map(|tag| Some((key(tag), values.get(&key(tag))?.clone())))
    .collect()
}

/// The first seen value stays; a later instance fills only what was empty. `None`: nothing to fill.
fn filled(first: &Values, later: &Values) -> Option<Values> {
    // An empty text says that it was looked for; one that is found later fills it.
    let is_told = |tag: &u32, text: &String| match first.get(tag) {
        Some(kept) => !kept.is_empty() || text.is_empty(),
        None => false,
    };
    if later.iter().all(|(tag, text)| is_told(tag, text)) {
        return None;
    }
    let mut values = later.clone();
    for (tag, text) in first {
        let kept = values.entry(*tag).or_default();
        if !text.is_empty() {
            kept.clone_from(text);
        }
    }
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
    fn another_spelling_of_a_name_is_no_other_patient() {
        let patient = |id: &str, name: &str| {
            let values = [(tags::PATIENT_ID, id), (tags::PATIENT_NAME, name)];
            let values = values.into_iter().filter(|(_, text)| !text.is_empty());
            values
                .map(|(tag, text)| (key(tag), text.to_owned()))
                .collect::<Values>()
        };
        let study = patient("4711", "Yamada^Taro=山田^太郎");
        for (id, name, is_another) in [
            ("4711", "Yamada^Taro=山田^太郎", false),
            ("4711 ", "YAMADA^TARO^^", false),
            ("4711", "=山田^太郎=やまだ^たろう", false),
            ("4711", "", false),
            ("", "Yamada^Taro", false),
            ("4712", "Yamada^Taro", true),
            ("4711", "Suzuki^Jiro", true),
            ("4711", "Suzuki^Jiro=鈴木^二郎", true),
        ] {
            let own = patient(id, name);
            assert_eq!(is_another_patient(&study, &own), is_another, "{id} {name}");
        }
        assert!(!is_another_patient(&Values::new(), &study));
    }

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
