//! What needs a person's decision: two data sets under one UID, two people under one Patient ID, one study of two people,
//! one series in two studies.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::dicom::differences::{Outline, Side, differences};
use crate::dicom::{Tag, VR};
use crate::index::key::fold;
use crate::index::{
    Did, InstanceEntry, OtherKind, Snapshot, StudyRecord, Values, Verdict, birth_dates_agree,
    names_agree,
};

use super::super::places::key;
use super::super::{Archive, Selected};
use super::CorrectionError;
use super::asked::Amend;
use super::picked::{Cause, Content, contents_of};
use super::split_series::{SplitSeries, add_series};

/// `kura conflicts`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConflictsVerb {
    /// `all`: also those that are settled.
    Show {
        all: bool,
    },
    /// One, with the elements that differ.
    One {
        id: String,
    },
    Prefer {
        id: String,
        content: Option<u32>,
        study: Option<String>,
        cause: Cause,
    },
    /// Without a content: it is well as it is.
    Discard {
        id: String,
        content: Option<u32>,
        cause: Cause,
    },
    Undo {
        number: u64,
        cause: Cause,
    },
}

/// What such a verb answers.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictsSaid {
    List(Box<Conflicts>),
    /// Done; what it means, in a sentence.
    Done {
        said: String,
        /// Of the correction.
        number: u64,
    },
    /// What settles it are amendments, each decided by itself: the arguments of `kura amend`, without reason.
    Amend {
        amendments: Vec<Vec<String>>,
        /// The same amendments, with who and why.
        #[serde(default)]
        asks: Vec<Amend>,
    },
}

/// At most so many of each kind are told; all are counted.
pub(super) const TOLD_MAX: usize = 1_000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Conflicts {
    pub duplicates_count: u64,
    pub duplicates: Vec<Duplicate>,
    pub patients_count: u64,
    pub patients: Vec<TwoPeople>,
    pub studies_count: u64,
    pub studies: Vec<MixedStudy>,
    pub series_count: u64,
    pub series: Vec<SplitSeries>,
    /// Of all kinds; they are told only when asked for.
    pub settled_count: u64,
    /// Instances that are kept in several transfer syntaxes: no conflict.
    pub variants_count: u64,
}

/// Several data sets under one SOP Instance UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Duplicate {
    pub id: String,
    pub sop_instance_uid: String,
    /// In the order in which they came.
    pub contents: Vec<KeptContent>,
    /// Numbers of elements and what they are, of each content that is not answered against the one that is.
    pub differences: Vec<ElementDifference>,
    /// The change that settled it.
    pub settled_by: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeptContent {
    /// From 1.
    pub number: u32,
    pub answered: bool,
    /// The same object as the answered one, in another transfer syntax.
    pub variant: bool,
    pub received: String,
    pub source_ae_title: String,
    pub transfer_syntax: String,
    pub data_bytes: u64,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub patient_id: String,
    pub patient_name: String,
    /// Names of volumes that have a file of it.
    pub volumes: Vec<String>,
    /// Values of the instance that are not alike in all contents, by tag.
    pub differs: Values,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ElementDifference {
    /// Of the content that is not answered.
    pub number: u32,
    /// Group << 16 | element; 0: `other` says why elements were not compared.
    pub tag: u32,
    /// None: it lacks the element.
    pub answered: Option<String>,
    pub other: Option<String>,
}

/// People of different names or birth dates under one Patient ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TwoPeople {
    pub id: String,
    pub patient_id: String,
    /// Of the ID, or empty.
    pub issuer: String,
    pub people: Vec<Person>,
    pub settled_by: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Person {
    pub name: String,
    pub birth_date: String,
    pub study_instance_uids: Vec<String>,
}

/// A study in which instances say another patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MixedStudy {
    pub id: String,
    pub study_instance_uid: String,
    pub patient_id: String,
    pub patient_name: String,
    pub instances_count: u64,
    pub others: Vec<Deviating>,
    pub settled_by: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Deviating {
    pub patient_id: String,
    pub patient_name: String,
    /// All of them.
    pub instances_count: u64,
    /// The first of them.
    pub sop_instance_uids: Vec<String>,
}

/// Instances of a deviating patient that are told.
const DEVIATING_TOLD_MAX: usize = 1_000;

/// What is settled and well: by the UID or Patient ID, the identities that were seen then.
pub(super) type Dismissed = BTreeMap<(String, String), Vec<(u64, Vec<String>)>>;

pub(super) fn id(kind: char, of: &str) -> String {
    format!("{kind}-{:08x}", crc32fast::hash(of.as_bytes()))
}

impl Archive {
    pub fn conflicts_verb(&self, verb: ConflictsVerb) -> Result<ConflictsSaid, CorrectionError> {
        let said = match verb {
            ConflictsVerb::Show { all } => {
                let view = self.complete_view()?;
                self.conflicts(&view.snapshot, all)
                    .map(|found| ConflictsSaid::List(Box::new(found)))
            }
            ConflictsVerb::One { id } => self
                .one_conflict(&id)
                .map(|found| ConflictsSaid::List(Box::new(found))),
            ConflictsVerb::Prefer {
                id,
                content,
                study,
                cause,
            } => self.prefer(&id, content, study.as_deref(), &cause),
            ConflictsVerb::Discard { id, content, cause } => self.discard(&id, content, &cause),
            ConflictsVerb::Undo { number, cause } => self.undo_settlement(number, &cause),
        };
        said.inspect_err(|error| self.noticed_by_correction(error))
    }

    /// All kinds.
    pub(super) fn conflicts(
        &self,
        snapshot: &Snapshot,
        all: bool,
    ) -> Result<Conflicts, CorrectionError> {
        let mut found = Conflicts::default();
        let dismissed = dismissed(snapshot)?;
        self.add_instances(snapshot, all, &dismissed, &mut found)?;
        add_patients(snapshot, all, &dismissed, &mut found)?;
        add_series(snapshot, all, &dismissed, &mut found)?;
        Ok(found)
    }

    /// Duplicates and mixed studies: both are told by instances of which more is kept than one answer.
    fn add_instances(
        &self,
        snapshot: &Snapshot,
        all: bool,
        dismissed: &Dismissed,
        found: &mut Conflicts,
    ) -> Result<(), CorrectionError> {
        let mut studies = BTreeMap::<String, StudyRecord>::new();
        let mut mixed = BTreeMap::<String, Vec<Deviating>>::new();
        let mut failed = None;
        snapshot.with_others(&mut |entry| {
            let added = (|| {
                let others = &entry.record.others;
                let is_conflict = others.iter().any(|one| one.kind == OtherKind::Conflict);
                if is_conflict {
                    let settled_by = settled_by(snapshot, &entry)?;
                    found.settled_count += u64::from(settled_by.is_some());
                    found.duplicates_count += u64::from(settled_by.is_none());
                    if (all || settled_by.is_none()) && found.duplicates.len() < TOLD_MAX {
                        let told = self.duplicate(snapshot, &entry, settled_by)?;
                        found.duplicates.push(told);
                    }
                } else if !others.is_empty() {
                    found.variants_count += 1;
                }
                if says_patient(&entry) {
                    add_deviating(snapshot, &entry, &mut studies, &mut mixed)?;
                }
                Ok::<(), CorrectionError>(())
            })();
            match added {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (study, others) in mixed {
            let record = &studies[&study];
            let seen: Vec<String> = others.iter().map(seen_deviating).collect();
            let settled_by = dismissed_by(dismissed, "STUDY", &study, &seen);
            found.settled_count += u64::from(settled_by.is_some());
            found.studies_count += u64::from(settled_by.is_none());
            if (all || settled_by.is_none()) && found.studies.len() < TOLD_MAX {
                found.studies.push(MixedStudy {
                    id: id('s', &study),
                    patient_id: text(&record.facts.values, tags::PATIENT_ID),
                    patient_name: text(&record.facts.values, tags::PATIENT_NAME),
                    instances_count: record.instances_count,
                    study_instance_uid: study,
                    others,
                    settled_by,
                });
            }
        }
        Ok(())
    }

    fn duplicate(
        &self,
        snapshot: &Snapshot,
        entry: &InstanceEntry,
        settled_by: Option<u64>,
    ) -> Result<Duplicate, CorrectionError> {
        let contents = contents_of(entry);
        let tags = contents.iter().flat_map(|content| content.values().keys());
        let differing: Vec<u32> = tags
            .filter(|tag| {
                let first = contents.first().map(|one| one.values().get(tag));
                contents
                    .iter()
                    .any(|one| Some(one.values().get(tag)) != first)
            })
            .copied()
            .collect();
        let mut told = Vec::new();
        for (at, content) in contents.iter().enumerate() {
            told.push(self.kept(snapshot, at, content, &differing)?);
        }
        Ok(Duplicate {
            id: id('d', &entry.sop_instance_uid),
            sop_instance_uid: entry.sop_instance_uid.clone(),
            contents: told,
            differences: Vec::new(),
            settled_by,
        })
    }

    fn kept(
        &self,
        snapshot: &Snapshot,
        at: usize,
        content: &Content<'_>,
        differing: &[u32],
    ) -> Result<KeptContent, CorrectionError> {
        let study = snapshot.study(content.study())?;
        let values = study.map(|study| study.facts.values).unwrap_or_default();
        let record = &content.entry.record;
        let (received, from) = content
            .other
            .map_or((&record.received, &record.source_ae_title), |other| {
                (&other.received, &other.source_ae_title)
            });
        let mut volumes: Vec<String> = content
            .copies()
            .iter()
            .map(|copy| {
                let member = self.shelf.by_id(&copy.volume_id);
                member.map_or_else(|| copy.volume_id.clone(), |member| member.name.clone())
            })
            .collect();
        volumes.dedup();
        let own = content.values();
        let differs = differing
            .iter()
            .filter_map(|tag| Some((*tag, own.get(tag)?.clone())));
        Ok(KeptContent {
            number: number_of(at),
            answered: content.other.is_none(),
            variant: content.other.is_some() && !content.is_conflict(),
            received: received.clone(),
            source_ae_title: from.clone(),
            transfer_syntax: content.transfer_syntax().to_owned(),
            data_bytes: content.id().data_bytes,
            study_instance_uid: content.study().to_owned(),
            series_instance_uid: content.series().to_owned(),
            patient_id: text(own, tags::PATIENT_ID)
                .non_empty_or(|| text(&values, tags::PATIENT_ID)),
            patient_name: text(own, tags::PATIENT_NAME)
                .non_empty_or(|| text(&values, tags::PATIENT_NAME)),
            volumes,
            differs: differs.collect(),
        })
    }

    /// The conflict of that id, with what differs.
    fn one_conflict(&self, wanted: &str) -> Result<Conflicts, CorrectionError> {
        let view = self.complete_view()?;
        let meant = self.meant(&view.snapshot, wanted)?;
        let mut found = Conflicts::default();
        match meant {
            Meant::Duplicate(entry) => {
                let settled_by = settled_by(&view.snapshot, &entry)?;
                let mut told = self.duplicate(&view.snapshot, &entry, settled_by)?;
                drop(view);
                told.differences = self.compared(&entry);
                found.duplicates_count = 1;
                found.duplicates.push(told);
            }
            Meant::Patient(people) => {
                found.patients_count = 1;
                found.patients.push(people);
            }
            Meant::Study(study) => {
                found.studies_count = 1;
                found.studies.push(study);
            }
            Meant::Series(series) => {
                found.series_count = 1;
                found.series.push(series);
            }
        }
        Ok(found)
    }

    /// Which conflict an id names: its short form, or the UID or Patient ID itself.
    pub(super) fn meant(
        &self,
        snapshot: &Snapshot,
        wanted: &str,
    ) -> Result<Meant, CorrectionError> {
        let mut meant = Vec::new();
        if !["p-", "s-", "r-"]
            .iter()
            .any(|kind| wanted.starts_with(kind))
        {
            snapshot.with_others(&mut |entry| {
                let is_it =
                    entry.sop_instance_uid == wanted || id('d', &entry.sop_instance_uid) == wanted;
                if is_it
                    && entry
                        .record
                        .others
                        .iter()
                        .any(|one| one.kind == OtherKind::Conflict)
                {
                    meant.push(Meant::Duplicate(Box::new(entry)));
                }
                match meant.len() {
                    2 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
        }
        if meant.is_empty() && !wanted.starts_with("d-") {
            let all = self.conflicts(snapshot, true)?;
            let people = all.patients.into_iter();
            meant.extend(
                people
                    .filter(|one| one.id == wanted || one.patient_id == wanted)
                    .map(Meant::Patient),
            );
            let studies = all.studies.into_iter();
            meant.extend(
                studies
                    .filter(|one| one.id == wanted || one.study_instance_uid == wanted)
                    .map(Meant::Study),
            );
            let series = all.series.into_iter();
            meant.extend(
                series
                    .filter(|one| one.id == wanted || one.series_instance_uid == wanted)
                    .map(Meant::Series),
            );
        }
        let one = meant.pop();
        match (one, meant.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err(CorrectionError::Refused(format!(
                "{wanted} names several conflicts; nothing was changed. Give the whole UID or Patient ID instead"
            ))),
            (None, _) => Err(CorrectionError::Refused(format!(
                "there is no conflict {wanted}; nothing was changed. All there are: kura conflicts show"
            ))),
        }
    }

    /// The elements of each content that is not answered, against those of the answered one.
    fn compared(&self, entry: &InstanceEntry) -> Vec<ElementDifference> {
        let contents = contents_of(entry);
        let mut found = Vec::new();
        let Some(answered) = contents.iter().find(|content| content.other.is_none()) else {
            return found;
        };
        let first = self.outline(answered);
        for (at, content) in contents.iter().enumerate() {
            if content.other.is_none() {
                continue;
            }
            let number = number_of(at);
            let outlines = first
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|first| Ok((first, self.outline(content)?)));
            match outlines {
                Ok((first, second)) => {
                    found.extend(differences(first, &second).into_iter().map(|one| {
                        ElementDifference {
                            number,
                            tag: key(one.tag),
                            answered: one.before.as_ref().map(shown),
                            other: one.after.as_ref().map(shown),
                        }
                    }));
                }
                Err(reason) => found.push(ElementDifference {
                    number,
                    tag: 0,
                    answered: None,
                    other: Some(reason),
                }),
            }
        }
        found
    }

    fn outline(&self, content: &Content<'_>) -> Result<Outline, String> {
        if content.id().data_bytes > COMPARED_BYTES_MAX {
            return Err(format!(
                "larger than {COMPARED_BYTES_MAX} bytes; not compared"
            ));
        }
        let id = content.id();
        let selected = Selected {
            study_instance_uid: content.entry.study_instance_uid.clone(),
            sop_instance_uid: content.entry.sop_instance_uid.clone(),
            sop_class_uid: content.entry.record.sop_class_uid.clone(),
            transfer_syntax: id.transfer_syntax,
            length: id.data_bytes,
            crc32: id.crc32,
        };
        let mut fetched = self.fetch(&selected).map_err(|error| error.to_string())?;
        let mut outline = Outline::new(content.transfer_syntax());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match fetched.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => outline
                    .feed(&piece[..count])
                    .map_err(|error| error.to_string())?,
                Err(error) => return Err(error.to_string()),
            }
        }
        outline.finish().map_err(|error| error.to_string())?;
        Ok(outline)
    }
}

/// Larger data sets are not compared element by element: the one who asks waits for it.
const COMPARED_BYTES_MAX: u64 = 512 << 20;
const PIECE_BYTES: usize = 256 << 10;

/// One side of a difference in words.
fn shown(side: &Side) -> String {
    match (side.text.is_empty(), side.vr) {
        (false, _) => side.text.clone(),
        (true, VR::SQ) => format!("a sequence, {} bytes", side.length),
        (true, _) if side.length == 0 => String::new(),
        (true, vr) => format!("{vr}, {} bytes", side.length),
    }
}

/// A conflict that was named.
pub(super) enum Meant {
    Duplicate(Box<InstanceEntry>),
    Patient(TwoPeople),
    Study(MixedStudy),
    Series(SplitSeries),
}

/// Places in a list of contents, as people count.
fn number_of(at: usize) -> u32 {
    u32::try_from(at + 1).unwrap_or(u32::MAX)
}

trait NonEmptyOr {
    fn non_empty_or(self, f: impl FnOnce() -> String) -> String;
}

impl NonEmptyOr for String {
    fn non_empty_or(self, f: impl FnOnce() -> String) -> String {
        if self.is_empty() { f() } else { self }
    }
}

fn text(values: &Values, tag: Tag) -> String {
    values.get(&key(tag)).cloned().unwrap_or_default()
}

/// The correction in effect that prefers what is answered, if no other conflict came after it.
fn settled_by(snapshot: &Snapshot, entry: &InstanceEntry) -> Result<Option<u64>, CorrectionError> {
    let Some(hidden) = snapshot.hidden(&entry.sop_instance_uid)? else {
        return Ok(None);
    };
    let contents = contents_of(entry);
    let newest = contents.iter().map(Content::sequence).max().unwrap_or(0);
    let Some(answered) = contents.iter().find(|content| content.other.is_none()) else {
        return Ok(None);
    };
    let id = answered.id();
    for ruling in hidden.rulings.iter().rev() {
        if ruling.verdict == Verdict::Preferred
            && ruling.content == id
            && ruling.sequence > newest
            && snapshot
                .correction(ruling.by)?
                .is_some_and(|record| record.in_effect)
        {
            return Ok(Some(ruling.by));
        }
    }
    Ok(None)
}

/// Whether the instance has a patient of its own in the ledger: it was another than its study's when it came.
fn says_patient(entry: &InstanceEntry) -> bool {
    let values = &entry.record.values;
    values.contains_key(&key(tags::PATIENT_ID)) || values.contains_key(&key(tags::PATIENT_NAME))
}

fn add_deviating(
    snapshot: &Snapshot,
    entry: &InstanceEntry,
    studies: &mut BTreeMap<String, StudyRecord>,
    mixed: &mut BTreeMap<String, Vec<Deviating>>,
) -> Result<(), CorrectionError> {
    let uid = &entry.study_instance_uid;
    if !studies.contains_key(uid)
        && let Some(record) = snapshot.study(uid)?
    {
        studies.insert(uid.clone(), record);
    }
    let Some(study) = studies.get(uid) else {
        return Ok(());
    };
    let own = &entry.record.values;
    let of_study = &study.facts.values;
    let (patient_id, patient_name) = (text(own, tags::PATIENT_ID), text(own, tags::PATIENT_NAME));
    let same_id =
        patient_id.is_empty() || patient_id.trim() == text(of_study, tags::PATIENT_ID).trim();
    // It may have been amended since, to what the instance says.
    if same_id && names_agree(&patient_name, &text(of_study, tags::PATIENT_NAME)) {
        return Ok(());
    }
    let others = mixed.entry(uid.clone()).or_default();
    let known = others
        .iter_mut()
        .position(|one| one.patient_id == patient_id && one.patient_name == patient_name);
    let at = known.unwrap_or_else(|| {
        others.push(Deviating {
            patient_id,
            patient_name,
            ..Deviating::default()
        });
        others.len() - 1
    });
    others[at].instances_count += 1;
    if others[at].sop_instance_uids.len() < DEVIATING_TOLD_MAX {
        let sop = entry.sop_instance_uid.clone();
        others[at].sop_instance_uids.push(sop);
    }
    Ok(())
}

fn add_patients(
    snapshot: &Snapshot,
    all: bool,
    dismissed: &Dismissed,
    found: &mut Conflicts,
) -> Result<(), CorrectionError> {
    snapshot.patients_with_two_names(&mut |shared| {
        let mut people = Vec::<Person>::new();
        for study in &shared.studies {
            let value = |tag| text(&study.facts.values, tag);
            let (name, born) = (value(tags::PATIENT_NAME), value(tags::PATIENT_BIRTH_DATE));
            let uid = study.facts.study_instance_uid.clone();
            add_person(&mut people, name, born, uid);
        }
        if people.len() > 1 {
            let told = TwoPeople {
                id: String::new(),
                patient_id: shared.patient_id,
                issuer: shared.issuer,
                people,
                settled_by: None,
            };
            add_two_people(told, all, dismissed, found);
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}

fn add_two_people(mut told: TwoPeople, all: bool, dismissed: &Dismissed, found: &mut Conflicts) {
    let of = told.of();
    let seen: Vec<String> = told.people.iter().map(seen_person).collect();
    told.id = id('p', &of);
    told.settled_by = dismissed_by(dismissed, "PATIENT", &of, &seen);
    found.settled_count += u64::from(told.settled_by.is_some());
    found.patients_count += u64::from(told.settled_by.is_none());
    if (all || told.settled_by.is_none()) && found.patients.len() < TOLD_MAX {
        found.patients.push(told);
    }
}

impl TwoPeople {
    /// The ID as one text: that of another issuer is another ID.
    pub(super) fn of(&self) -> String {
        match self.issuer.is_empty() {
            true => self.patient_id.clone(),
            false => format!("{}^^^{}", self.patient_id, self.issuer),
        }
    }
}

/// What is not said contradicts nobody.
fn add_person(people: &mut Vec<Person>, name: String, birth_date: String, study: String) {
    let agrees = |one: &&mut Person| {
        birth_dates_agree(&one.birth_date, &birth_date) && names_agree(&one.name, &name)
    };
    match people.iter_mut().find(agrees) {
        Some(one) => {
            if one.name.is_empty() {
                one.name = name;
            }
            if one.birth_date.is_empty() {
                one.birth_date = birth_date;
            }
            one.study_instance_uids.push(study);
        }
        None => people.push(Person {
            name,
            birth_date,
            study_instance_uids: vec![study],
        }),
    }
}

/// An identity as a dismissal notes it.
pub(super) fn seen_person(person: &Person) -> String {
    format!("{}|{}", fold(&person.name), person.birth_date)
}

pub(super) fn seen_deviating(deviating: &Deviating) -> String {
    format!(
        "{}|{}",
        deviating.patient_id.trim(),
        fold(&deviating.patient_name)
    )
}

fn dismissed(snapshot: &Snapshot) -> Result<Dismissed, CorrectionError> {
    let mut found = Dismissed::new();
    snapshot.corrections(&mut |record| {
        if record.in_effect
            && record.facts.did == Did::Dismissed
            && let Some((of, seen)) = record.facts.of.split_first()
        {
            let key = (record.facts.level.clone(), of.clone());
            let all = found.entry(key).or_default();
            all.push((record.number, seen.to_vec()));
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// A new identity shows again.
pub(super) fn dismissed_by(
    dismissed: &Dismissed,
    level: &str,
    of: &str,
    seen: &[String],
) -> Option<u64> {
    let all = dismissed.get(&(level.to_owned(), of.to_owned()))?;
    let mut all = all.iter();
    let covers = |known: &&(u64, Vec<String>)| seen.iter().all(|one| known.1.contains(one));
    all.find(covers).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_under_one_id_are_told_apart_by_name_and_birth_date() {
        let mut people = Vec::new();
        for (name, born, study) in [
            ("A^B", "", "1"),
            ("a^b", "19500101", "2"),
            ("A^B", "19600101", "3"),
            ("C^D", "19500101", "4"),
            ("", "", "5"),
        ] {
            add_person(&mut people, name.into(), born.into(), study.into());
        }
        let told: Vec<_> = people
            .iter()
            .map(|one| (&*one.name, &*one.birth_date, one.study_instance_uids.len()))
            .collect();
        assert_eq!(
            told,
            [
                ("A^B", "19500101", 3),
                ("A^B", "19600101", 1),
                ("C^D", "19500101", 1)
            ]
        );
    }

    #[test]
    fn what_was_dismissed_shows_again_with_a_new_identity() {
        let seen =
            |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
        let key = ("PATIENT".to_owned(), "4711".to_owned());
        let dismissed = Dismissed::from([(key, vec![(7, seen(&["a", "b"]))])]);
        for (names, by) in [
            (&["a", "b"][..], Some(7)),
            (&["a"], Some(7)),
            (&["a", "b", "c"], None),
        ] {
            let found = dismissed_by(&dismissed, "PATIENT", "4711", &seen(names));
            assert_eq!(found, by, "{names:?}");
        }
        assert_eq!(dismissed_by(&dismissed, "STUDY", "4711", &[]), None);
    }
}
