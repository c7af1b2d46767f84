//! Finds what a [`Query`] asks for: [candidate studies](super::candidates), of which the records decide.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::candidates::Located;
use super::glance::{Passes, Texts};
use super::matching::Test;
use super::mixed::Part;
use super::people::{Patient, People, identity_of, patient_of};
use super::plan::Plan;
use super::query::*;
use super::snapshot::{Snapshot, Visited};
use super::{IndexError, InstanceEntry, SeriesRecord, StudyRecord, Values};
use crate::dicom::{Level, Tag, VR, items, level_of, vr_of};

/// Distinct values of one series attribute told at STUDY level.
const DISTINCT_MAX: usize = 64;

/// Patient IDs whose people are remembered while a query goes on; beyond, they are looked up anew.
const IDENTITIES_MAX: usize = 10_000;

/// Series of one study sorted by their numbers at once; beyond, they come in several such groups.
const SORTED_SERIES_MAX: usize = 10_000;

/// Who asked hears of a query at least that often, however little it finds.
const SILENCE_MAX: Duration = Duration::from_millis(50);

/// Records between two looks at the clock: few enough that a disk which seeks for each does not outlast the silence.
const LOOKS_PER_CLOCK: u32 = 16;

impl Snapshot {
    /// Calls `f` with each match, newest studies first, until it breaks. The first comes before the rest are looked for.
    /// Memory is bounded whatever the number of matches, but for 16 bytes of each patient told at PATIENT level.
    pub fn find(
        &self,
        query: &Query,
        f: &mut dyn FnMut(Match) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.search(query, &mut |step| match step {
            Step::Found(found) => f(*found),
            Step::Looked => ControlFlow::Continue(()),
        })
    }

    /// As [`Snapshot::find`], but calls `f` also while nothing is found: a query that matches nothing in a large archive
    /// can be stopped too.
    pub fn search(
        &self,
        query: &Query,
        f: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let plan = Plan::new(query);
        let located = self.locate(&plan)?;
        let search = Search {
            snapshot: self,
            plan,
            located,
            tell: RefCell::new(f),
            looked: Cell::new(0),
            told: Cell::new(Instant::now()),
            stopped: Cell::new(false),
        };
        let mut patients = Patients::default();
        search.studies(&mut |part| search.answer(&part, &mut patients))
    }
}

/// What a query remembers of patients from study to study.
#[derive(Default)]
struct Patients {
    /// 128 bits of each that was told, from two keyed hashes: two patients are not taken for one.
    told: HashSet<u128>,
    hashers: (RandomState, RandomState),
    /// By identifier and issuer.
    people: HashMap<(String, String), Rc<People>>,
}

impl Patients {
    fn hash(&self, patient: &Patient) -> u128 {
        let (one, other) = &self.hashers;
        u128::from(one.hash_one(patient)) << 64 | u128::from(other.hash_one(patient))
    }
}

/// One query under way.
pub(super) struct Search<'a> {
    pub snapshot: &'a Snapshot,
    pub plan: Plan,
    pub located: Option<Located>,
    tell: RefCell<&'a mut dyn FnMut(Step) -> ControlFlow<()>>,
    looked: Cell<u32>,
    /// When who asked was last heard.
    told: Cell<Instant>,
    stopped: Cell<bool>,
}

impl Search<'_> {
    /// To be called with every key or record that is read.
    pub fn look(&self) -> ControlFlow<()> {
        let looked = self.looked.get().wrapping_add(1);
        self.looked.set(looked);
        if looked.is_multiple_of(LOOKS_PER_CLOCK) && self.told.get().elapsed() >= SILENCE_MAX {
            return self.step(Step::Looked);
        }
        ControlFlow::Continue(())
    }

    fn step(&self, step: Step) -> ControlFlow<()> {
        let flow = (self.tell.borrow_mut())(step);
        self.told.set(Instant::now());
        if flow.is_break() {
            self.stopped.set(true);
        }
        flow
    }

    fn give(&self, found: Match) -> ControlFlow<()> {
        self.step(Step::Found(Box::new(found)))
    }

    /// Break once who asked said stop: what was cut short by it decides nothing.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.stopped.get() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// For a record that may have passed a test, which looked already.
    fn flow_or_look(&self, passes: Option<Passes>) -> ControlFlow<()> {
        match passes {
            Some(_) => self.flow(),
            None => self.look(),
        }
    }

    /// UIDs of the query in a study, by series.
    fn only(&self, study: &StudyRecord) -> Option<&BTreeMap<String, Vec<String>>> {
        self.located
            .as_ref()
            .and_then(|located| located.get(&study.facts.study_instance_uid))
    }

    /// Gives what a study, whose own record matches, has of matches.
    fn answer(&self, part: &Part, patients: &mut Patients) -> Visited {
        let plan = &self.plan;
        let study = &part.study;
        match plan.level {
            Level::Patient | Level::Study => {
                let mut patient = None;
                if plan.level == Level::Patient {
                    let people = self.people_of(study, patients)?;
                    let hash = patients.hash(&patient_of(study, people.as_deref()));
                    if self.flow().is_break() || patients.told.contains(&hash) {
                        return Ok(self.flow());
                    }
                    patient = Some(hash);
                }
                if !self.study_has_match(part)? {
                    return Ok(self.flow());
                }
                let mut base = self.base(study, patients)?;
                match patient {
                    Some(patient) => {
                        patients.told.insert(patient);
                    }
                    None => self.add_series_values(part, &mut base.values)?,
                }
                match self.flow() {
                    ControlFlow::Continue(()) => Ok(self.give(base)),
                    stopped => Ok(stopped),
                }
            }
            Level::Series => {
                let mut base = None;
                self.each_series(part, &mut |series, _| {
                    if plan.needs_instances() && !self.series_has_match(part, &series)? {
                        return Ok(self.flow());
                    }
                    if base.is_none() {
                        base = Some(self.base(study, patients)?);
                    }
                    match (&base, self.flow()) {
                        (Some(base), ControlFlow::Continue(())) => {
                            Ok(self.give(series_match(base, &series)))
                        }
                        _ => Ok(self.flow()),
                    }
                })
            }
            Level::Instance => {
                let mut base = None;
                self.each_series(part, &mut |series, sops| {
                    let mut above = None;
                    self.each_instance(part, &series, sops, &mut |entry| {
                        if base.is_none() {
                            base = Some(self.base(study, patients)?);
                        }
                        if let Some(base) = &base
                            && self.flow().is_continue()
                        {
                            let above = above.get_or_insert_with(|| series_match(base, &series));
                            return Ok(self.give(instance_match(above, entry)));
                        }
                        Ok(self.flow())
                    })
                })
            }
        }
    }

    /// What a match says of the study and its patient.
    fn base(&self, study: &StudyRecord, patients: &mut Patients) -> Result<Match, IndexError> {
        let mut base = match_of(&self.plan, study);
        if self.plan.asks_for_patient_counts() {
            let counts = match self.people_of(study, patients)? {
                Some(people) => people.counts_of(study),
                None => self
                    .snapshot
                    .counts_without_identity(study, &|| self.look())?,
            };
            base.values.insert(PATIENT_STUDIES, counts.0.to_string());
            base.values.insert(PATIENT_SERIES, counts.1.to_string());
            base.values.insert(PATIENT_INSTANCES, counts.2.to_string());
        }
        Ok(base)
    }

    /// Series of a study that match, in the order of their numbers; with them the SOP UIDs that were asked for.
    fn each_series(
        &self,
        part: &Part,
        visit: &mut dyn FnMut(SeriesRecord, Option<&[String]>) -> Visited,
    ) -> Visited {
        let study = &part.study;
        let study_uid = &study.facts.study_instance_uid;
        let mut group = Vec::new();
        if let Some(only) = self.only(study) {
            for uid in only.keys() {
                let series = self.snapshot.series(study_uid, uid)?;
                group.extend(series.and_then(|series| part.series(series)));
            }
            return self.visit_series(study, group, visit);
        }
        let expected = part.expected(study.series_count);
        let mut visited = Ok(ControlFlow::Continue(()));
        // All go on to where they are told to stop.
        let test =
            |values: &dyn Texts| self.look().is_break() || self.plan.series_may_match(values);
        let passes = (!self.plan.series.is_empty()).then_some(&test as Passes);
        self.snapshot
            .series_within(study_uid, expected, passes, &mut |series| {
                if self.flow_or_look(passes).is_break() {
                    visited = Ok(ControlFlow::Break(()));
                    return ControlFlow::Break(());
                }
                let series = part.series(series);
                group.extend(series.filter(|series| self.plan.series_matches(series)));
                if group.len() < SORTED_SERIES_MAX {
                    return ControlFlow::Continue(());
                }
                visited = self.visit_series(study, std::mem::take(&mut group), visit);
                match visited {
                    Ok(flow) => flow,
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
        if !matches!(visited, Ok(ControlFlow::Continue(()))) {
            return visited;
        }
        self.visit_series(study, group, visit)
    }

    fn visit_series(
        &self,
        study: &StudyRecord,
        mut all: Vec<SeriesRecord>,
        visit: &mut dyn FnMut(SeriesRecord, Option<&[String]>) -> Visited,
    ) -> Visited {
        let only = self.only(study);
        all.retain(|series| self.plan.series_matches(series));
        all.sort_by_cached_key(|series| {
            let number = series
                .facts
                .values
                .get(&SERIES_NUMBER)
                .and_then(|text| text.trim().parse::<i64>().ok());
            (
                number.unwrap_or(i64::MAX),
                series.facts.series_instance_uid.clone(),
            )
        });
        for series in all {
            let sops = only
                .and_then(|only| only.get(&series.facts.series_instance_uid))
                .map(Vec::as_slice);
            // A series that was asked for by its own UID comes whole.
            let sops = sops.filter(|sops| !sops.is_empty());
            if visit(series, sops)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn each_instance(
        &self,
        part: &Part,
        series: &SeriesRecord,
        sops: Option<&[String]>,
        visit: &mut dyn FnMut(InstanceEntry) -> Visited,
    ) -> Visited {
        if let Some(sops) = sops {
            for sop in sops {
                if self.look().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                if let Some(entry) = self.snapshot.by_sop(sop)?
                    && part.has(&entry)
                    && self.plan.instance_matches(&entry)
                    && visit(entry)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        let mut result = Ok(ControlFlow::Continue(()));
        let test =
            |values: &dyn Texts| self.look().is_break() || self.plan.instance_may_match(values);
        let passes = (!self.plan.instance.is_empty()).then_some(&test as Passes);
        let facts = &series.facts;
        self.snapshot.instances_within(
            &facts.study_instance_uid,
            Some(&facts.series_instance_uid),
            part.expected(series.instances_count),
            passes,
            &mut |entry| {
                if self.flow_or_look(passes).is_break() {
                    result = Ok(ControlFlow::Break(()));
                    return ControlFlow::Break(());
                }
                if !part.has(&entry) || !self.plan.instance_matches(&entry) {
                    return ControlFlow::Continue(());
                }
                result = visit(entry);
                match result {
                    Ok(flow) => flow,
                    Err(_) => ControlFlow::Break(()),
                }
            },
        )?;
        result
    }

    /// Does any one series of the study fulfil all that is asked of series and instances?
    fn study_has_match(&self, part: &Part) -> Result<bool, IndexError> {
        if let Some(test) = &self.plan.comments {
            let values = &part.study.facts.values;
            let own = values.get(&STUDY_COMMENTS).map(String::as_str);
            if !test.matches(own) && !self.any_image_comment(part, test)? {
                return Ok(false);
            }
        }
        if !self.plan.needs_series() {
            return Ok(true);
        }
        let mut found = false;
        let _ = self.each_series(part, &mut |series, _| {
            found = !self.plan.needs_instances() || self.series_has_match(part, &series)?;
            Ok(if found {
                ControlFlow::Break(())
            } else {
                self.flow()
            })
        })?;
        Ok(found)
    }

    fn series_has_match(&self, part: &Part, series: &SeriesRecord) -> Result<bool, IndexError> {
        let sops = self
            .only(&part.study)
            .and_then(|only| only.get(&series.facts.series_instance_uid))
            .map(Vec::as_slice);
        let mut found = false;
        let _ = self.each_instance(
            part,
            series,
            sops.filter(|sops| !sops.is_empty()),
            &mut |_| {
                found = true;
                Ok(ControlFlow::Break(()))
            },
        )?;
        Ok(found)
    }

    fn any_image_comment(&self, part: &Part, test: &Test) -> Result<bool, IndexError> {
        let mut found = false;
        self.snapshot.instances_within(
            &part.study.facts.study_instance_uid,
            None,
            part.expected(part.study.instances_count),
            Some(&|values| self.look().is_break() || test.matches(values.text(IMAGE_COMMENTS))),
            &mut |entry| {
                found = self.flow().is_continue() && part.has(&entry);
                match found {
                    true => ControlFlow::Break(()),
                    false => self.flow(),
                }
            },
        )?;
        Ok(found)
    }

    /// Series attributes that a STUDY query asks for, from all series of the study.
    fn add_series_values(&self, part: &Part, values: &mut Values) -> Result<(), IndexError> {
        let of_series = |tag: &&u32| {
            let level = level_of(Tag((**tag >> 16) as u16, **tag as u16));
            level == Some(Level::Series) && !matches!(**tag, MODALITY | SERIES_INSTANCE_UID)
        };
        let tags: Vec<u32> = self.plan.asked.iter().filter(of_series).copied().collect();
        if tags.is_empty() {
            return Ok(());
        }
        let mut distinct: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        self.snapshot.series_within(
            &part.study.facts.study_instance_uid,
            part.expected(part.study.series_count),
            None,
            &mut |series| {
                let Some(series) = part.series(series) else {
                    return self.look();
                };
                for tag in tags.iter().filter(|_| series.instances_count > 0) {
                    if let Some(text) = series.facts.values.get(tag) {
                        let kept = distinct.entry(*tag).or_default();
                        if kept.len() < DISTINCT_MAX {
                            kept.insert(text.clone());
                        }
                    }
                }
                self.look()
            },
        )?;
        for (tag, texts) in distinct {
            let text = match vr_of(Tag((tag >> 16) as u16, tag as u16)) {
                VR::SQ => items::joined(&texts),
                _ => texts.into_iter().collect::<Vec<_>>().join("\\"),
            };
            values.insert(tag, text);
        }
        Ok(())
    }

    fn people_of(
        &self,
        study: &StudyRecord,
        patients: &mut Patients,
    ) -> Result<Option<Rc<People>>, IndexError> {
        let Some(identity) = identity_of(study) else {
            return Ok(None);
        };
        if let Some(people) = patients.people.get(&identity) {
            return Ok(Some(Rc::clone(people)));
        }
        let people = self.snapshot.people_of(study, &|| self.look())?;
        let people = people.map(Rc::new);
        if patients.people.len() >= IDENTITIES_MAX {
            patients.people.clear();
        }
        if let Some(people) = &people {
            patients.people.insert(identity, Rc::clone(people));
        }
        Ok(people)
    }
}

fn match_of(plan: &Plan, study: &StudyRecord) -> Match {
    let mut values = study.facts.values.clone();
    values.insert(STUDY_INSTANCE_UID, study.facts.study_instance_uid.clone());
    values.insert(MODALITIES_IN_STUDY, study.modalities.join("\\"));
    values.insert(SOP_CLASSES_IN_STUDY, study.sop_classes.join("\\"));
    values.insert(STUDY_SERIES, study.series_count.to_string());
    values.insert(STUDY_INSTANCES, study.instances_count.to_string());
    if plan.level == Level::Study {
        values.insert(MODALITY, study.modalities.join("\\"));
        values.insert(SOP_CLASS_UID, study.sop_classes.join("\\"));
    }
    Match {
        level: plan.level,
        patient_id: values.get(&PATIENT_ID).cloned().unwrap_or_default(),
        study_instance_uid: study.facts.study_instance_uid.clone(),
        series_instance_uid: String::new(),
        sop_instance_uid: String::new(),
        values,
    }
}

fn series_match(above: &Match, series: &SeriesRecord) -> Match {
    let mut found = above.clone();
    found.values.extend(series.facts.values.clone());
    found.values.insert(
        SERIES_INSTANCE_UID,
        series.facts.series_instance_uid.clone(),
    );
    found
        .values
        .insert(SERIES_INSTANCES, series.instances_count.to_string());
    found
        .series_instance_uid
        .clone_from(&series.facts.series_instance_uid);
    found
}

fn instance_match(above: &Match, entry: InstanceEntry) -> Match {
    let mut found = above.clone();
    // The part of the study that it is in says who its patient is.
    let of_patient =
        |tag: u32| level_of(Tag((tag >> 16) as u16, tag as u16)) == Some(Level::Patient);
    let values = entry.record.values.into_iter();
    found
        .values
        .extend(values.filter(|(tag, _)| !of_patient(*tag)));
    found
        .values
        .insert(SOP_INSTANCE_UID, entry.sop_instance_uid.clone());
    found
        .values
        .insert(SOP_CLASS_UID, entry.record.sop_class_uid);
    found
        .values
        .insert(AVAILABLE_TRANSFER_SYNTAX_UID, entry.record.transfer_syntax);
    found.sop_instance_uid = entry.sop_instance_uid;
    found
}
