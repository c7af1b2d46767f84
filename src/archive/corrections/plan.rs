//! What an amendment comes to, from what is asked and what is there; and what speaks against it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use dicom_dictionary_std::tags;

use crate::dicom::amend::{AmendError, Amendment, Reason, Rewriter, Value};
use crate::dicom::{INDEXED, Level, Tag, VR, ts, vr_of};
use crate::index::{
    Did, IndexError, InstanceEntry, Key, Query, SeriesFacts, SeriesRecord, Snapshot, StudyFacts,
    StudyRecord, Values, key::fold,
};
use crate::volume::layout;

use super::super::content::{Content, contents};
use super::super::places::key;
use super::super::{Archive, adopt, equalize};
use super::CorrectionError;
use super::asked::{Amend, changed, without_empty};

/// Instances of one amendment: their rulings go into one group of lines, and into one commit of the index.
const INSTANCES_MAX: u64 = 200_000;
/// A study that got an image less than so long ago may not be complete, in seconds.
const SETTLED_AFTER: i64 = 60;
/// What the index keeps of a longer text is only its beginning, in bytes.
const WHOLE_TEXT_MAX: usize = 1_000;

/// What is amended.
pub(super) struct Selected {
    pub(super) study: String,
    pub(super) series: Option<String>,
    /// Empty: all of the series or study.
    pub(super) sops: Vec<String>,
}

impl Selected {
    /// The answered instances.
    pub(super) fn each(
        &self,
        snapshot: &Snapshot,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        if self.sops.is_empty() {
            return snapshot.instances(&self.study, self.series.as_deref(), f);
        }
        for sop in &self.sops {
            if let Some(entry) = snapshot.by_sop(sop)?
                && entry.study_instance_uid == self.study
                && f(entry).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// The contents of an instance that are amended: the answered one, and what is kept beside it in the same place.
    pub(super) fn contents(&self, entry: &InstanceEntry) -> Vec<Content> {
        let mut all = contents(entry);
        all.retain(|content| {
            let series = self.series.as_ref();
            content.study_instance_uid == self.study
                && series.is_none_or(|series| *series == content.series_instance_uid)
        });
        all
    }
}

/// What the selection is, counted.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) instances: u64,
    pub(super) others: u64,
    pub(super) bytes: u64,
    /// Answered instances by series.
    pub(super) series: BTreeMap<String, u64>,
    /// The answered content with the fewest bytes: quickly shown.
    pub(super) smallest: Option<Content>,
    /// Values of the first instance that says another patient than its study.
    deviating: Option<Values>,
}

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

    /// One Series Instance UID must not be in two studies; but a part that was torn off may come back.
    fn keeps_series(&self, record: &SeriesRecord, is_there: bool) -> bool {
        let uid = &record.facts.series_instance_uid;
        let selected = self.counted.series.get(uid).copied().unwrap_or_default();
        let whole = self.selected.sops.is_empty() || selected >= record.instances_count;
        let same_study = self.study.study_instance_uid == self.selected.study;
        !self.ask.new_uids && (whole || is_there || same_study)
    }

    /// What is changed in the data set of one content.
    pub(super) fn amendment(
        &self,
        content: &Content,
        series: &SeriesFacts,
        new_sop: Option<&str>,
        modifying_system: &str,
    ) -> Amendment {
        let mut changes = self.changes.clone();
        let text = |uid: &str| Value::Text(uid.to_owned());
        if series.series_instance_uid != content.series_instance_uid {
            changes.push((tags::SERIES_INSTANCE_UID, text(&series.series_instance_uid)));
        }
        if let Some(uid) = new_sop {
            changes.push((tags::SOP_INSTANCE_UID, text(uid)));
        }
        Amendment {
            changes,
            modified_at: jiff::Zoned::now().strftime("%Y%m%d%H%M%S%z").to_string(),
            modifying_system: modifying_system.to_owned(),
            previous_source: source_of(&content.source_ae_title),
            reason: Reason::Correct,
            allow_utf8: self.ask.utf8,
        }
    }
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

/// Attributes of patient and study that the index keeps, without the Study Instance UID.
fn of_study(only_patient: bool) -> impl Iterator<Item = Tag> {
    let wanted = move |level: &Level| match level {
        Level::Patient => true,
        Level::Study => !only_patient,
        _ => false,
    };
    let of_level = INDEXED.iter().filter(move |(level, _)| wanted(level));
    of_level
        .map(|(_, tag)| *tag)
        .filter(|tag| *tag != tags::STUDY_INSTANCE_UID)
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
fn checked(change: &(Tag, Value)) -> Result<(), AmendError> {
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

fn selected(snapshot: &Snapshot, ask: &Amend) -> Result<Selected, CorrectionError> {
    let unknown = |what: &str, uid: &str| {
        refused(format!(
            "there is no {what} {uid}; nothing was changed; kura find shows what there is"
        ))
    };
    let one = ask.of.first().cloned().unwrap_or_default();
    match ask.level {
        Level::Study => {
            let record = snapshot.study(&one)?;
            record
                .filter(|record| record.instances_count > 0)
                .ok_or_else(|| unknown("study", &one))?;
            Ok(Selected {
                study: one,
                series: None,
                sops: Vec::new(),
            })
        }
        Level::Series => {
            let record = snapshot.series_by_uid(&one)?;
            let record = record
                .filter(|record| record.instances_count > 0)
                .ok_or_else(|| unknown("series", &one))?;
            Ok(Selected {
                study: record.facts.study_instance_uid,
                series: Some(one),
                sops: Vec::new(),
            })
        }
        Level::Instance => {
            let mut study: Option<String> = None;
            let sops: BTreeSet<String> = ask.of.iter().cloned().collect();
            for sop in &sops {
                let entry = snapshot.by_sop(sop)?;
                let entry = entry.ok_or_else(|| unknown("instance", sop))?;
                let first = study.get_or_insert_with(|| entry.study_instance_uid.clone());
                if *first != entry.study_instance_uid {
                    return Err(refused(
                        "the instances are of different studies; nothing was changed; amend those of each study by themselves"
                            .to_owned(),
                    ));
                }
            }
            Ok(Selected {
                study: study.ok_or_else(|| unknown("instance", ""))?,
                series: None,
                sops: sops.into_iter().collect(),
            })
        }
        Level::Patient => Err(refused(
            "amend the studies of a patient one by one; nothing was changed".to_owned(),
        )),
    }
}

/// The values of the study afterwards, and what is changed in each data set.
struct Goal {
    study_instance_uid: String,
    values: Values,
    changes: Vec<(Tag, Value)>,
    /// Patient and study are those of another study.
    borrowed: bool,
    joins: bool,
}

fn goal(
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

fn tag_of(tag: u32) -> Tag {
    Tag((tag >> 16) as u16, tag as u16)
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
        if before.is_empty() && !moved && !ask.new_uids {
            return Err(refused(format!(
                "study {} has these values already; nothing was changed",
                selected.study
            )));
        }
        if !goal.borrowed && !ask.merge_patients {
            self.refuse_another_person(snapshot, &selected.study, &before, &values)?;
        }
        for uid in [&selected.study, &goal.study_instance_uid] {
            refuse_protected(snapshot, uid)?;
        }
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

    /// Counts the selection; refuses what is still coming, cannot be read now, or is too much at once.
    fn count_selected(
        &self,
        snapshot: &Snapshot,
        ask: &Amend,
        selected: &Selected,
    ) -> Result<Counted, CorrectionError> {
        let mut counted = Counted::default();
        let mut newest = String::new();
        let mut wrong = None;
        selected.each(snapshot, &mut |entry| {
            let all = selected.contents(&entry);
            counted.instances += 1;
            counted.others += (all.len() as u64).saturating_sub(1);
            let series = counted.series.entry(entry.series_instance_uid.clone());
            *series.or_default() += 1;
            for content in &all {
                counted.bytes += content.copies.first().map_or(0, |copy| copy.data_bytes());
                if content.received > newest {
                    newest.clone_from(&content.received);
                }
                wrong = wrong.take().or_else(|| self.unreadable(content));
            }
            if counted.deviating.is_none() {
                let says =
                    |values: &Values| PATIENT_TOLD.iter().any(|tag| values.contains_key(tag));
                let deviating = all.iter().find(|content| says(&content.values));
                counted.deviating = deviating.map(|content| {
                    let mut own = content.values.clone();
                    own.retain(|tag, _| PATIENT_TOLD.contains(tag));
                    own
                });
            }
            let size = |content: &Content| content.copies.first().map_or(0, |c| c.size_bytes);
            if let Some(answered) = all.into_iter().next()
                && counted
                    .smallest
                    .as_ref()
                    .is_none_or(|smallest| size(&answered) < size(smallest))
            {
                counted.smallest = Some(answered);
            }
            match counted.instances > INSTANCES_MAX || wrong.is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if counted.instances > INSTANCES_MAX {
            return Err(refused(format!(
                "these are more than {INSTANCES_MAX} instances; nothing was changed; amend them series by series"
            )));
        }
        if let Some(reason) = wrong {
            return Err(refused(reason));
        }
        let received = newest.parse::<jiff::Timestamp>();
        let age = received.map(|at| jiff::Timestamp::now().as_second() - at.as_second());
        if let Ok(age @ 0..SETTLED_AFTER) = age
            && !ask.now
        {
            return Err(refused(format!(
                "study {} got an image {age} s ago; nothing was changed; wait until it is complete, or say --now",
                selected.study
            )));
        }
        Ok(counted)
    }

    /// Why a content cannot be read now, in words with the next step.
    fn unreadable(&self, content: &Content) -> Option<String> {
        let here = |id: &String| {
            let volume = self.shelf.here(id);
            volume.is_some_and(|volume| volume.answers()) && !self.is_given_up(id)
        };
        let ids = content.volume_ids();
        if ids.iter().any(here) {
            return None;
        }
        let sop = &content.sop_instance_uid;
        if ids.is_empty() {
            return Some(format!(
                "instance {sop} has no good copy; nothing was changed; kura status says what is lost"
            ));
        }
        let names = ids.iter().map(|id| {
            let member = self.shelf.by_id(id);
            member.map_or_else(|| id.clone(), |member| member.name.clone())
        });
        let names: Vec<String> = names.collect();
        let names = names.join(", ");
        Some(format!(
            "instance {sop} can only be read on volume {names}, which is away or does not answer; nothing was changed; bring it back and try again"
        ))
    }

    /// A Patient ID that other studies have with another name or birth date is somebody else's.
    fn refuse_another_person(
        &self,
        snapshot: &Snapshot,
        study: &str,
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
        let query = Query {
            level: Level::Study,
            keys: vec![Key {
                tag: key(tags::PATIENT_ID),
                vr: VR::LO,
                // A wildcard or a list finds more, which is looked at below.
                value: id.clone(),
            }],
        };
        let mut other = None;
        snapshot.find(&query, &mut |found| {
            let differs = |tag, same: fn(&str, &str) -> bool| {
                let (ours, theirs) = (text(after, tag), text(&found.values, tag));
                !ours.is_empty() && !theirs.is_empty() && !same(&ours, &theirs)
            };
            let is_other = found.study_instance_uid != study
                && text(&found.values, tags::PATIENT_ID) == id
                && !differs(tags::ISSUER_OF_PATIENT_ID, str::eq)
                && (differs(tags::PATIENT_NAME, same_name)
                    || differs(tags::PATIENT_BIRTH_DATE, str::eq));
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
}

/// Kept at an instance that says another patient than its study.
const PATIENT_TOLD: [u32; 3] = [0x0010_0010, 0x0010_0020, 0x0010_0030];

/// Spelt alike but for case, accents and width, in each component group that both have.
fn same_name(a: &str, b: &str) -> bool {
    let groups = |name: &str| -> Vec<String> {
        name.split('=')
            .map(|group| fold(group).trim_end_matches('^').to_owned())
            .collect()
    };
    let (a, b) = (groups(a), groups(b));
    let both = || {
        a.iter()
            .zip(&b)
            .filter(|(a, b)| !a.is_empty() && !b.is_empty())
    };
    both().count() > 0 && both().all(|(a, b)| a == b)
}

/// Whoever protected a study takes that back first.
pub(super) fn refuse_protected(snapshot: &Snapshot, study: &str) -> Result<(), CorrectionError> {
    let mut found = None;
    snapshot.corrections(&mut |record| {
        let facts = &record.facts;
        let protects = record.in_effect
            && facts.did == Did::Protected
            && facts.of.iter().any(|uid| uid == study);
        match protects {
            true => {
                found = Some(record);
                ControlFlow::Break(())
            }
            false => ControlFlow::Continue(()),
        }
    })?;
    match found {
        None => Ok(()),
        Some(record) => Err(refused(format!(
            "study {study} is protected by {} since {} ({}); nothing was changed; kura protect --off lifts that",
            record.facts.who, record.facts.at, record.facts.why
        ))),
    }
}

/// One series of a selection, as it becomes.
pub(super) type SeriesByUid = HashMap<String, Arc<SeriesFacts>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_persons_when_what_both_say_is_alike() {
        for (a, b, same) in [
            ("YAMADA^TARO", "Yamada^Taro^^", true),
            ("YAMADA^TARO=山田^太郎", "YAMADA^TARO", true),
            ("YAMADA^TARO=山田^太郎", "=山田^太郎", true),
            ("Müller^Eva", "MULLER^EVA", true),
            ("YAMADA^TARO", "YAMADA^JIRO", false),
            ("YAMADA^TARO=山田^太郎", "YAMADA^TARO=山田^次郎", false),
            ("YAMADA^TARO", "=山田^太郎", false),
        ] {
            assert_eq!(same_name(a, b), same, "{a} / {b}");
        }
    }

    #[test]
    fn a_new_uid_is_a_uuid_as_a_number() {
        let uid = new_uid();
        assert!(uid.starts_with("2.25.") && uid.len() <= 44, "{uid}");
        assert!(crate::dicom::is_conforming(&uid), "{uid}");
        assert_ne!(uid, new_uid());
    }

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
