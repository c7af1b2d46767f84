//! What patient and study say after an amendment, and what is changed for that in each data set.

use std::collections::BTreeMap;

use dicom_dictionary_std::tags;

use crate::dicom::amend::{AmendError, Amendment, Reason, Rewriter, Value};
use crate::dicom::attributes::item_keys;
use crate::dicom::{INDEXED, Level, Tag, VR, ts, vr_of};
use crate::index::{Snapshot, StudyRecord, Values};

use super::super::places::key;
use super::CorrectionError;
use super::asked::{Amend, without_empty};
use super::plan::{cannot, new_uid, refused};
use super::selected::Selected;

/// What the index keeps of a longer text is only its beginning, in bytes.
const WHOLE_TEXT_MAX: usize = 1_000;

/// The values of the study afterwards, and what is changed in each data set.
pub(super) struct Goal {
    pub(super) study_instance_uid: String,
    pub(super) values: Values,
    pub(super) changes: Vec<(Tag, Value)>,
    /// Patient and study are those of another study.
    pub(super) borrowed: bool,
    /// There are other instances in it.
    pub(super) joins: bool,
}

pub(super) fn goal(
    snapshot: &Snapshot,
    ask: &Amend,
    selected: &Selected,
    source: &StudyRecord,
) -> Result<Goal, CorrectionError> {
    let given: BTreeMap<u32, String> = ask.values.iter().cloned().collect();
    let before = without_empty(&source.facts.values);
    if let Some(uid) = &ask.to_study {
        let there = snapshot.study(uid)?;
        if let Some(there) = there.filter(|there| there.instances_count > 0) {
            if !given.is_empty() || ask.to_patient_of_study.is_some() {
                return Err(refused(format!(
                    "study {uid} is there already and says whose it is; nothing was changed; move without other values, and amend that study afterwards"
                )));
            }
            let values = without_empty(&there.facts.values);
            let changes = taken_over(&before, &values, false)?;
            return Ok(Goal {
                joins: *uid != selected.study || ask.level != Level::Study,
                study_instance_uid: uid.clone(),
                values,
                changes,
                borrowed: true,
            });
        }
    } else if ask.level != Level::Study && (!given.is_empty() || ask.to_patient_of_study.is_some())
    {
        return Err(refused(format!(
            "patient and study are the same for all instances of study {}, so only the whole study can be amended; nothing was changed; to move these to another study use --to-study",
            selected.study
        )));
    }
    let mut values = before.clone();
    let mut changes = Vec::new();
    if let Some(uid) = &ask.to_patient_of_study {
        let there = snapshot.study(uid)?.filter(|r| r.instances_count > 0);
        let there = there.ok_or_else(|| {
            refused(format!(
                "there is no study {uid} whose patient could be taken; nothing was changed; kura find shows what there is"
            ))
        })?;
        let is_patients = |tag: &u32| of_study(true).any(|patient| key(patient) == *tag);
        if given.keys().any(is_patients) {
            return Err(refused(format!(
                "the patient is that of study {uid}, so no other values can be given for it; nothing was changed"
            )));
        }
        let theirs = without_empty(&there.facts.values);
        changes.extend(taken_over(&before, &theirs, true)?);
        values.retain(|tag, _| !is_patients(tag));
        values.extend(theirs.into_iter().filter(|(tag, _)| is_patients(tag)));
    }
    for (tag, text) in &given {
        let change = (tag_of(*tag), value_of(tag_of(*tag), text));
        checked(&change).map_err(|error| cannot(None, &error))?;
        changes.push(change);
        values.remove(tag);
        if !text.is_empty() {
            values.insert(*tag, text.trim().to_owned());
        }
    }
    let study_instance_uid = match (&ask.to_study, ask.new_uids && ask.level == Level::Study) {
        (Some(uid), _) => uid.clone(),
        (None, true) => new_uid(),
        (None, false) => selected.study.clone(),
    };
    Ok(Goal {
        joins: ask.level != Level::Study && study_instance_uid == selected.study,
        study_instance_uid,
        values,
        changes,
        borrowed: ask.to_patient_of_study.is_some(),
    })
}

/// The changes that give a data set all values of another patient or study.
fn taken_over(
    before: &Values,
    values: &Values,
    only_patient: bool,
) -> Result<Vec<(Tag, Value)>, CorrectionError> {
    let mut changes = Vec::new();
    for tag in of_study(only_patient) {
        let text = values.get(&key(tag)).map_or("", String::as_str);
        // All attributes with longer texts are of type 3; half a text would be worse than none.
        let text = if text.len() > WHOLE_TEXT_MAX {
            ""
        } else {
            text
        };
        let change = (tag, value_of(tag, text));
        match checked(&change) {
            Ok(()) => changes.push(change),
            // Nonconforming, and the same on both sides.
            Err(_) if before.get(&key(tag)).is_some_and(|old| old == text) => {}
            Err(error) => return Err(cannot(None, &error)),
        }
    }
    Ok(changes)
}

pub(super) fn tag_of(tag: u32) -> Tag {
    Tag((tag >> 16) as u16, tag as u16)
}

/// Attributes of patient and study that the index keeps, without the Study Instance UID and without sequences, which no
/// amendment touches.
fn of_study(only_patient: bool) -> impl Iterator<Item = Tag> {
    let wanted = move |level: &Level| match level {
        Level::Patient => true,
        Level::Study => !only_patient,
        _ => false,
    };
    let of_level = INDEXED.iter().filter(move |(level, _)| wanted(level));
    of_level
        .map(|(_, tag)| *tag)
        .filter(|tag| *tag != tags::STUDY_INSTANCE_UID && item_keys(*tag).is_empty())
}

/// Type 2 attributes stay without a value, others go (PS3.3 C.7.1.1, C.7.2.1).
fn cleared(tag: Tag) -> Value {
    let type_2 = [
        tags::PATIENT_NAME,
        tags::PATIENT_ID,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
        tags::STUDY_DATE,
        tags::STUDY_TIME,
        tags::ACCESSION_NUMBER,
        tags::STUDY_ID,
        tags::REFERRING_PHYSICIAN_NAME,
    ];
    match type_2.contains(&tag) {
        true => Value::Empty,
        false => Value::Absent,
    }
}

fn value_of(tag: Tag, text: &str) -> Value {
    let one = matches!(vr_of(tag), VR::ST | VR::LT | VR::UT | VR::UR);
    match text.is_empty() {
        true => cleared(tag),
        false if !one && text.contains('\\') => {
            Value::Several(text.split('\\').map(str::to_owned).collect())
        }
        false => Value::Text(text.to_owned()),
    }
}

/// Whether a data set could have this value, whatever its character set.
pub(super) fn checked(change: &(Tag, Value)) -> Result<(), AmendError> {
    let amendment = Amendment {
        changes: vec![change.clone()],
        modified_at: "20000101".to_owned(),
        modifying_system: "KURA".to_owned(),
        previous_source: String::new(),
        reason: Reason::Correct,
        allow_utf8: true,
    };
    Rewriter::new(ts::EXPLICIT_VR_LITTLE_ENDIAN, &amendment).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method: every attribute that can be taken over, cleared and set.
    #[test]
    fn every_value_of_patient_and_study_can_be_taken_over() {
        let none = Values::new();
        let changes = taken_over(&none, &none, false).expect("all can be cleared");
        assert_eq!(changes.len(), of_study(false).count());
        let of_patient = taken_over(&none, &none, true).expect("all can be cleared");
        assert!(of_patient.len() < changes.len());
        assert!(changes.contains(&(tags::PATIENT_ID, Value::Empty)));
        assert!(changes.contains(&(tags::ISSUER_OF_PATIENT_ID, Value::Absent)));
        let bad = Values::from([(key(tags::STUDY_DATE), "2026.01.15".to_owned())]);
        assert!(taken_over(&none, &bad, false).is_err());
        let changes = taken_over(&bad, &bad, false).expect("the same on both sides");
        assert!(changes.iter().all(|(tag, _)| *tag != tags::STUDY_DATE));
    }
}
