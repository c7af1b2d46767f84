//! One Patient ID and more than one person; one Series Instance UID and more than one study.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Table};
use super::query::{ISSUER_OF_PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_ID, PATIENT_NAME};
use super::snapshot::Snapshot;
use super::{IndexError, SeriesRecord, StudyRecord, damaged, key, matching};

/// Studies of one Patient ID that are held against each other, and told; of more the first by their UIDs. An ID with so
/// many is a phantom's, or a default.
const STUDIES_MAX: usize = 1_000;

/// Studies with one Patient ID and one issuer that do not say the same person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPatientId {
    /// As the first of the studies says it; the others may write it in another way that a query takes for the same.
    pub patient_id: String,
    /// Of the ID, or empty.
    pub issuer: String,
    /// In the order of their UIDs, at least two and at most 1,000.
    pub studies: Vec<StudyRecord>,
}

/// May two Patient's Names be those of one person? Not if both say something and no component group (alphabetic,
/// ideographic, phonetic) of one is also in the other, in the form in which names are compared.
pub fn names_agree(one: &str, other: &str) -> bool {
    let groups = |text: &str| -> Vec<String> {
        let groups = text.split(['\\', '=']).map(matching::fold_name);
        groups.filter(|group| !group.is_empty()).collect()
    };
    let (one, other) = (groups(one), groups(other));
    one.is_empty() || other.is_empty() || one.iter().any(|group| other.contains(group))
}

/// May two Patient's Birth Dates be those of one person? Not if they are two days; a text that is no date says nothing.
pub fn birth_dates_agree(one: &str, other: &str) -> bool {
    match (matching::date(one), matching::date(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

fn text(study: &StudyRecord, tag: u32) -> &str {
    study.facts.values.get(&tag).map_or("", |text| text.trim())
}

/// Is `folded` one of the study's Patient IDs?
fn has_id(study: &StudyRecord, folded: &str) -> bool {
    let mut ids = text(study, PATIENT_ID).split('\\');
    ids.any(|id| key::fold(id) == folded)
}

impl Snapshot {
    /// Patient IDs under which studies say different people: names of which nothing agrees, or two birth dates. An ID of
    /// two issuers is two IDs. In the order of folded IDs, until the visitor stops; an issuer after the other.
    ///
    /// Reads every entry of the table of Patient IDs, and the records of studies that share one. Memory: the studies of
    /// one ID, at most 1,000.
    pub fn patients_with_two_names(
        &self,
        f: &mut dyn FnMut(SharedPatientId) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let mut folded: Vec<u8> = Vec::new();
        let mut uids: Vec<String> = Vec::new();
        let mut stopped = false;
        let all = (Vec::new(), Vec::new());
        self.each(Table::PatientId, all, Direction::Forward, &mut |key, _| {
            let end = key.iter().position(|byte| *byte == 0);
            let (value, (study, rest)) = end
                .and_then(|end| Some((&key[..end], key::unpack(&key[end + 1..])?)))
                .ok_or_else(|| damaged(Table::PatientId))?;
            if !rest.is_empty() {
                // Of an instance that says another patient than its study: a conflict of its own.
                return Ok(ControlFlow::Continue(()));
            }
            if value != folded {
                if self.shared(&std::mem::take(&mut uids), f)?.is_break() {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
                folded = value.to_vec();
            }
            if uids.len() < STUDIES_MAX {
                uids.push(study);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if !stopped {
            self.shared(&uids, f).map(|_| ())?;
        }
        Ok(())
    }

    /// Tells of studies with one ID if they are not of one person.
    fn shared(
        &self,
        uids: &[String],
        f: &mut dyn FnMut(SharedPatientId) -> ControlFlow<()>,
    ) -> super::snapshot::Visited {
        if uids.len() < 2 {
            return Ok(ControlFlow::Continue(()));
        }
        let mut by_issuer: BTreeMap<String, Vec<StudyRecord>> = BTreeMap::new();
        for uid in uids {
            let study = self.study(uid)?.ok_or_else(|| damaged(Table::Study))?;
            let issuer = text(&study, ISSUER_OF_PATIENT_ID).to_owned();
            by_issuer.entry(issuer).or_default().push(study);
        }
        for (issuer, studies) in by_issuer {
            let Some(first) = studies.first().filter(|_| are_two(&studies)) else {
                continue;
            };
            let shared = SharedPatientId {
                patient_id: text(first, PATIENT_ID).to_owned(),
                issuer,
                studies,
            };
            if f(shared).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Series Instance UIDs of which several studies have answered instances, each with those series in the order in which
    /// they came, in the order of UIDs until the visitor stops. Reads every entry of the table of Series Instance UIDs, and
    /// the records of those that are there twice.
    pub fn series_in_several_studies(
        &self,
        f: &mut dyn FnMut(&str, Vec<SeriesRecord>) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let mut packed: Vec<u8> = Vec::new();
        let mut told = false;
        let all = (Vec::new(), Vec::new());
        self.each(Table::SeriesUid, all, Direction::Forward, &mut |key, _| {
            let unpacked = key::unpack(key).ok_or_else(|| damaged(Table::SeriesUid))?;
            let (series, rest) = unpacked;
            let own = &key[..key.len() - rest.len()];
            if own != packed {
                packed = own.to_vec();
                told = false;
                return Ok(ControlFlow::Continue(()));
            }
            if std::mem::replace(&mut told, true) {
                return Ok(ControlFlow::Continue(()));
            }
            let mut records = self.all_series_by_uid(&series)?;
            records.retain(|record| record.instances_count > 0);
            records.sort_by_key(|record| record.sequence);
            Ok(match records.len() {
                0 | 1 => ControlFlow::Continue(()),
                _ => f(&series, records),
            })
        })
    }

    /// Studies with answered instances that bear a Patient ID, whatever its issuer, in the order of their UIDs. The ID
    /// may be written in any way that a query takes for the same. An empty one is nobody's.
    pub fn studies_of_patient(
        &self,
        patient_id: &str,
        f: &mut dyn FnMut(StudyRecord) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let folded = key::fold(patient_id);
        if folded.is_empty() {
            return Ok(());
        }
        let (table, beginning) = (Table::PatientId, (folded.clone(), true));
        let found = self.candidates(table, &[beginning], usize::MAX)?;
        for uid in found.unwrap_or_default() {
            let study = self.study(&uid)?.ok_or_else(|| damaged(Table::Study))?;
            // A key holds the beginning of a long value only.
            if has_id(&study, &folded) && f(study).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Is there more than one person? Names are put together as long as each agrees with one before it.
fn are_two(studies: &[StudyRecord]) -> bool {
    let mut names: Vec<&str> = Vec::new();
    let mut birth_date = "";
    for study in studies {
        let (name, born) = (text(study, PATIENT_NAME), text(study, PATIENT_BIRTH_DATE));
        if !birth_dates_agree(birth_date, born) {
            return true;
        }
        if matching::date(born).is_some() {
            birth_date = born;
        }
        if names.contains(&name) {
            continue;
        }
        if !names.is_empty() && !names.iter().any(|kept| names_agree(kept, name)) {
            return true;
        }
        if key::fold(name).is_empty() {
            continue;
        }
        names.push(name);
    }
    false
}
