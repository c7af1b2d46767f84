//! What an amendment comes to, from what is asked and what is there; and what speaks against it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use dicom_dictionary_std::tags;

use crate::dicom::amend::{AmendError, Amendment, Reason, Value};
use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{Attributes, Level, Tag, VR};
use crate::index::{
    Copy, Key, Query, SeriesFacts, SeriesRecord, Snapshot, StudyFacts, StudyRecord, Values,
    birth_dates_agree, names_agree,
};
use crate::volume::io::DiskFile;
use crate::volume::{Volume, layout};

use super::super::content::Content;
use super::super::places::key;
use super::super::{Archive, Line, adopt, equalize};
use super::CorrectionError;
use super::asked::{Amend, changed, without_empty};
use super::goal::{checked, goal};
use super::selected::{Counted, PATIENT_TOLD, Selected, selected};

/// Read to know which attributes there are.
const BEGINNING_BYTES: usize = 256 << 10;

/// One series of a selection, as it becomes.
pub(super) type SeriesByUid = HashMap<String, Arc<SeriesFacts>>;

/// What becomes of the selection.
pub(super) struct Plan {
    pub(super) ask: Amend,
    pub(super) selected: Selected,
    pub(super) counted: Counted,
    /// What the study is now that they are in.
    pub(super) source: StudyRecord,
    /// What their new contents say of the study that they are in then.
    pub(super) study: Arc<StudyFacts>,
    /// There are other instances in it.
    pub(super) joins: bool,
    pub(super) before: Values,
    pub(super) after: Values,
    /// Of patient and study, for every data set.
    changes: Vec<(Tag, Value)>,
}

impl Plan {
    /// Studies that it takes from and gives to.
    pub(super) fn studies(&self) -> Vec<String> {
        let mut studies = vec![self.selected.study.clone()];
        if self.study.study_instance_uid != self.selected.study {
            studies.push(self.study.study_instance_uid.clone());
        }
        studies
    }

    /// The series that instances of this one are in afterwards.
    pub(super) fn series(
        &self,
        snapshot: &Snapshot,
        series_instance_uid: &str,
    ) -> Result<SeriesFacts, CorrectionError> {
        let record = snapshot.series(&self.selected.study, series_instance_uid)?;
        let record = record.ok_or_else(|| {
            refused(format!(
                "series {series_instance_uid} is gone; nothing was changed"
            ))
        })?;
        let study = &self.study.study_instance_uid;
        let there = snapshot.series(study, series_instance_uid)?;
        let there = there.filter(|there| there.instances_count > 0);
        let uid = match self.keeps_series(&record, there.is_some()) {
            true => series_instance_uid.to_owned(),
            false => new_uid(),
        };
        let mut values = without_empty(&record.facts.values);
        if let Some(there) = there.filter(|_| uid == series_instance_uid) {
            values.extend(without_empty(&there.facts.values));
        }
        values.insert(key(tags::SERIES_INSTANCE_UID), uid.clone());
        let text = |values: &Values, tag| values.get(&key(tag)).cloned().unwrap_or_default();
        let folder = layout::series_folder(
            &self.study.date_folder,
            &text(&values, tags::MODALITY),
            &text(&self.study.values, tags::PATIENT_ID),
            study,
            &uid,
        );
        Ok(SeriesFacts {
            series_instance_uid: uid,
            study_instance_uid: study.clone(),
            folder,
            values,
        })
    }

    /// One Series Instance UID must not be in two studies, unless it is already.
    fn keeps_series(&self, record: &SeriesRecord, is_there: bool) -> bool {
        let uid = &record.facts.series_instance_uid;
        let selected = self.counted.series.get(uid).copied().unwrap_or_default();
        let whole = self.selected.sops.is_empty() || selected >= record.instances_count;
        let same_study = self.study.study_instance_uid == self.selected.study;
        !self.ask.new_uids && (whole || is_there || same_study)
    }

    /// What is changed in the data set of one content, which has the attributes `there`.
    pub(super) fn amendment(
        &self,
        content: &Content,
        there: &Attributes,
        series: &SeriesFacts,
        new_sop: Option<&str>,
        modifying_system: &str,
    ) -> Amendment {
        let mut changes = self.changes.clone();
        for (tag, value) in &mut changes {
            // No empty element where there is none: nothing would be corrected by it.
            if *value == Value::Empty && !there.contains(*tag) {
                *value = Value::Absent;
            }
        }
        let text = |uid: &str| Value::Text(uid.to_owned());
        if series.series_instance_uid != content.series_instance_uid {
            changes.push((tags::SERIES_INSTANCE_UID, text(&series.series_instance_uid)));
        }
        if let Some(uid) = new_sop {
            changes.push((tags::SOP_INSTANCE_UID, text(uid)));
        }
        Amendment {
            changes,
            modified_at: jiff::Zoned::now()
                .strftime("%Y%m%d%H%M%S.%6f%z")
                .to_string(),
            modifying_system: modifying_system.to_owned(),
            previous_source: source_of(&content.source_ae_title),
            reason: Reason::Correct,
            allow_utf8: self.ask.utf8,
        }
    }
}

/// The attributes in the first bytes of a data set: those of patient and study are among them, but where private ones take
/// more than a piece.
pub(super) fn first_attributes(
    file: &DiskFile,
    volume: &Volume<Line>,
    source: &Copy,
    transfer_syntax: &str,
) -> std::io::Result<Attributes> {
    let count = BEGINNING_BYTES.min(source.data_bytes() as usize);
    let mut beginning = vec![0; count];
    {
        let _call = volume.call();
        file.read_exact_at(&mut beginning, source.data_offset)?;
    }
    let mut scanner = Scanner::new(transfer_syntax, Wanted::Indexed);
    // What is wrong with it, if anything, who amends it will say.
    let _ = scanner.feed(&beginning);
    Ok(scanner.so_far().clone())
}

/// Who provided the old values; empty for what no AE sent.
fn source_of(ae_title: &str) -> String {
    let ours = [adopt::FROM, equalize::FROM].contains(&ae_title);
    let odd = |c: char| c == '\\' || c.is_control();
    match ours || ae_title.contains(odd) {
        true => String::new(),
        false => ae_title.to_owned(),
    }
}

/// A UID that nobody else makes. Source: PS3.5 B.2.
pub(super) fn new_uid() -> String {
    format!("2.25.{}", uuid::Uuid::new_v4().as_u128())
}

pub(super) fn refused(reason: String) -> CorrectionError {
    CorrectionError::Refused(reason)
}

/// The sentence for a data set that cannot be amended as asked.
pub(super) fn cannot(sop_instance_uid: Option<&str>, error: &AmendError) -> CorrectionError {
    let which = sop_instance_uid.map_or_else(String::new, |sop| format!("instance {sop}: "));
    let next = match error {
        AmendError::NotEncodable { .. } => "; --utf8 writes such data sets in UTF-8",
        _ => "",
    };
    refused(format!("{which}{error}; nothing was changed{next}"))
}

impl Archive {
    /// Decides what becomes of what is asked, or says why nothing does.
    pub(super) fn plan_amend(&self, ask: &Amend) -> Result<Plan, CorrectionError> {
        if ask.why.trim().is_empty() {
            return Err(refused(
                "a reason is needed; nothing was changed; say it with --reason".to_owned(),
            ));
        }
        let view = self.complete_view()?;
        let snapshot = &view.snapshot;
        let selected = selected(snapshot, ask)?;
        let source = snapshot.study(&selected.study)?;
        let source = source.ok_or_else(|| {
            refused(format!(
                "study {} is gone; nothing was changed",
                selected.study
            ))
        })?;
        let goal = goal(snapshot, ask, &selected, &source)?;
        let counted = self.count_selected(snapshot, ask, &selected)?;
        let moved = goal.study_instance_uid != selected.study;
        let mut changes = goal.changes;
        let mut values = goal.values;
        if moved {
            let uid = Value::Text(goal.study_instance_uid.clone());
            let change = (tags::STUDY_INSTANCE_UID, uid);
            checked(&change).map_err(|error| cannot(None, &error))?;
            changes.push(change);
        }
        let study_key = key(tags::STUDY_INSTANCE_UID);
        values.insert(study_key, goal.study_instance_uid.clone());
        let source_values = without_empty(&source.facts.values);
        let (mut before, mut after) = changed(&source_values, &values);
        if let Some(own) = &counted.deviating
            && before.is_empty()
        {
            // Some instances say another patient than the study that they are in.
            let of_study = values.iter().filter(|(tag, _)| own.contains_key(tag));
            let of_study = of_study.map(|(tag, text)| (*tag, text.clone())).collect();
            (before, after) = changed(own, &of_study);
        }
        // What is told to take the values of its study may say others that the index does not know.
        if before.is_empty() && !moved && !ask.new_uids && ask.to_study.is_none() {
            return Err(refused(format!(
                "study {} has these values already; nothing was changed",
                selected.study
            )));
        }
        if !goal.borrowed && !ask.merge_patients {
            let own = (ask.level == Level::Study).then_some(&*selected.study);
            refuse_another_person(snapshot, own, &before, &values)?;
        }
        let both = [selected.study.clone(), goal.study_instance_uid.clone()];
        self.refuse_protected_in(snapshot, &both)?;
        let there = snapshot.study(&goal.study_instance_uid)?;
        let date_folder = match there.as_ref().filter(|there| there.instances_count > 0) {
            Some(there) => there.facts.date_folder.clone(),
            None => source.facts.date_folder.clone(),
        };
        let mut of_layer = values;
        // What lower layers say and this one does not is to be seen no more.
        for tag in there.iter().flat_map(|there| there.facts.values.keys()) {
            of_layer.entry(*tag).or_default();
        }
        Ok(Plan {
            ask: ask.clone(),
            selected,
            counted,
            source,
            study: Arc::new(StudyFacts {
                study_instance_uid: goal.study_instance_uid,
                date_folder,
                values: of_layer,
            }),
            joins: goal.joins,
            before,
            after,
            changes,
        })
    }
}

/// A Patient ID that other studies have with another name or birth date is somebody else's.
///
/// `own`: a study that has other values itself afterwards.
fn refuse_another_person(
    snapshot: &Snapshot,
    own: Option<&str>,
    before: &Values,
    after: &Values,
) -> Result<(), CorrectionError> {
    let issuer = key(tags::ISSUER_OF_PATIENT_ID);
    let mut told = PATIENT_TOLD.iter().chain([&issuer]);
    if !told.any(|tag| before.contains_key(tag)) {
        return Ok(());
    }
    let text = |values: &Values, tag| values.get(&key(tag)).cloned().unwrap_or_default();
    let id = text(after, tags::PATIENT_ID);
    if id.is_empty() {
        return Ok(());
    }
    let query = Query::new(
        Level::Study,
        // A wildcard or a list finds more, which is looked at below.
        vec![Key::new(key(tags::PATIENT_ID), VR::LO, id.clone())],
    );
    let mut other = None;
    snapshot.find(&query, &mut |found| {
        let differs = |tag, same: fn(&str, &str) -> bool| {
            let (ours, theirs) = (text(after, tag), text(&found.values, tag));
            !ours.is_empty() && !theirs.is_empty() && !same(&ours, &theirs)
        };
        let is_other = own.is_none_or(|own| own != found.study_instance_uid)
            && text(&found.values, tags::PATIENT_ID) == id
            && !differs(tags::ISSUER_OF_PATIENT_ID, str::eq)
            && (differs(tags::PATIENT_NAME, names_agree)
                || differs(tags::PATIENT_BIRTH_DATE, birth_dates_agree));
        match is_other {
            true => {
                other = Some(found);
                ControlFlow::Break(())
            }
            false => ControlFlow::Continue(()),
        }
    })?;
    let Some(found) = other else {
        return Ok(());
    };
    let born = text(&found.values, tags::PATIENT_BIRTH_DATE);
    let born = match born.is_empty() {
        true => String::new(),
        false => format!(", born {born}"),
    };
    Err(refused(format!(
        "patient ID {id} is that of {}{born} (study {}); nothing was changed; give the same name and birth date, or say --merge-patients if it is the same person",
        text(&found.values, tags::PATIENT_NAME),
        found.study_instance_uid
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_uid_is_a_uuid_as_a_number() {
        let uid = new_uid();
        assert!(uid.starts_with("2.25.") && uid.len() <= 44, "{uid}");
        assert!(crate::dicom::is_conforming(&uid), "{uid}");
        assert_ne!(uid, new_uid());
    }
}
