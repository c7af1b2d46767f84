//! Whose a study is. Several people may bear one Patient ID by mistake, and are told apart: the ID alone makes nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::engine::{Direction, Table};
use super::query::{ISSUER_OF_PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_ID, PATIENT_NAME};
use super::snapshot::{Snapshot, Visited};
use super::{IndexError, StudyRecord, damaged, key, matching};

/// What studies of one Patient ID say of the person in different ways, at most; more is a phantom's ID, or a default, and
/// each further way is a person of its own.
const WAYS_MAX: usize = 1_000;

/// Identifier, issuer, person. Without an identifier the person alone: name and birth date, the study's UID last.
pub(super) type Patient = (String, String, String);

/// (studies, series, instances)
pub(super) type Counts = (u64, u64, u64);

/// What a study says of the person: component groups of the name, folded, and the birth date, if it says one.
type Said = (BTreeSet<String>, Option<u32>);

/// The people of one Patient ID and issuer.
///
/// Two studies are of one person when their names have a component group in common and their birth dates are the same.
/// What says no birth date, or no name, is of the one person it can be of; if that could be several, or none, of a person
/// of its own. Which studies came first makes no difference.
pub(super) struct People {
    /// Way of saying → number of the person.
    ways: BTreeMap<Said, usize>,
    persons: Vec<Counts>,
}

impl People {
    fn of(counted: &BTreeMap<Said, Counts>) -> People {
        let mut people = People {
            ways: BTreeMap::new(),
            persons: Vec::new(),
        };
        let mut kept: Vec<&Said> = counted.keys().take(WAYS_MAX).collect();
        // First who says all, then name, then birth date alone; in each the first is the way itself.
        kept.sort_by_key(|(names, born)| (names.is_empty(), born.is_none(), names, born));
        let named: Vec<&Said> = kept
            .iter()
            .copied()
            .filter(|said| !said.0.is_empty())
            .collect();
        let joined = joined_by_name(&named);
        // (birth date, component groups) of each person.
        let mut known: Vec<(Option<u32>, BTreeSet<&String>)> = Vec::new();
        let mut of_joined: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, said) in kept.iter().enumerate() {
            let (names, born) = said;
            // The named come first, in the order of `named`.
            let group = joined.get(at).copied();
            let person = match group.and_then(|group| of_joined.get(&group).copied()) {
                Some(person) => person,
                None => {
                    let group_names: BTreeSet<&String> = match group {
                        Some(group) => (named.iter().zip(&joined))
                            .filter(|(_, other)| **other == group)
                            .flat_map(|(said, _)| &said.0)
                            .collect(),
                        None => names.iter().collect(),
                    };
                    let agrees = |(other_born, other): &(Option<u32>, BTreeSet<&String>)| {
                        let same_day =
                            born.is_none() || other_born.is_none() || *born == *other_born;
                        let same_name = group_names.is_empty() || !other.is_disjoint(&group_names);
                        same_day && same_name
                    };
                    let whole = !names.is_empty() && born.is_some();
                    let mut could_be = (0..known.len()).filter(|person| agrees(&known[*person]));
                    match (could_be.next(), could_be.next()) {
                        (Some(person), None) if !whole => person,
                        _ => {
                            known.push((*born, group_names));
                            known.len() - 1
                        }
                    }
                }
            };
            if let Some(group) = group {
                of_joined.insert(group, person);
            }
            people.ways.insert((*said).clone(), person);
        }
        people.persons = vec![(0, 0, 0); known.len()];
        for (said, counts) in counted {
            let person = *people.ways.entry(said.clone()).or_insert_with(|| {
                people.persons.push((0, 0, 0));
                people.persons.len() - 1
            });
            let sum = &mut people.persons[person];
            *sum = (sum.0 + counts.0, sum.1 + counts.1, sum.2 + counts.2);
        }
        people
    }

    /// What there is of the person that a study of this ID is of.
    pub fn counts_of(&self, study: &StudyRecord) -> Counts {
        let person = self.ways.get(&said_of(study));
        let counts = person.and_then(|person| self.persons.get(*person));
        // None: all instances of the study say another patient.
        counts
            .copied()
            .unwrap_or((1, study.series_count, study.instances_count))
    }

    /// The number of the person that a study of this ID is of.
    pub fn person_of(&self, study: &StudyRecord) -> usize {
        self.ways.get(&said_of(study)).copied().unwrap_or(0)
    }
}

/// Numbers ways of saying so that those with a component group and the birth date in common have one number.
fn joined_by_name(named: &[&Said]) -> Vec<usize> {
    let mut joined: Vec<usize> = (0..named.len()).collect();
    fn root(joined: &[usize], mut at: usize) -> usize {
        while joined[at] != at {
            at = joined[at];
        }
        at
    }
    let mut first: BTreeMap<(&String, Option<u32>), usize> = BTreeMap::new();
    for (at, (names, born)) in named.iter().enumerate() {
        for name in names {
            let other = *first.entry((name, *born)).or_insert(at);
            let (one, other) = (root(&joined, at), root(&joined, other));
            joined[one.max(other)] = one.min(other);
        }
    }
    (0..named.len()).map(|at| root(&joined, at)).collect()
}

fn text(study: &StudyRecord, tag: u32) -> &str {
    study.facts.values.get(&tag).map_or("", |text| text.trim())
}

fn said_of(study: &StudyRecord) -> Said {
    let groups = text(study, PATIENT_NAME).split(['\\', '=']);
    let groups = groups.map(matching::fold_name);
    (
        groups.filter(|group| !group.is_empty()).collect(),
        matching::date(text(study, PATIENT_BIRTH_DATE)),
    )
}

/// The first of several Patient IDs that says something, folded: what the table of them has.
fn folded_id(study: &StudyRecord) -> Option<String> {
    let mut ids = text(study, PATIENT_ID).split('\\').map(key::fold);
    ids.find(|id| !id.is_empty())
}

/// Identifier and issuer; None without an identifier.
pub(super) fn identity_of(study: &StudyRecord) -> Option<(String, String)> {
    folded_id(study)?;
    Some((
        text(study, PATIENT_ID).to_owned(),
        text(study, ISSUER_OF_PATIENT_ID).to_owned(),
    ))
}

/// The patient of a study without an identifier, and the folded name to look for.
fn nameless(study: &StudyRecord) -> (Patient, Option<String>) {
    let (names, _) = said_of(study);
    let mut patient = Patient::default();
    match names.first() {
        Some(_) => {
            patient.1 = text(study, PATIENT_NAME).to_owned();
            patient.2 = text(study, PATIENT_BIRTH_DATE).to_owned();
        }
        None => patient.2.clone_from(&study.facts.study_instance_uid),
    }
    (patient, names.into_iter().next())
}

/// The patient of a study; `people`: of its ID, None without one.
pub(super) fn patient_of(study: &StudyRecord, people: Option<&People>) -> Patient {
    match (identity_of(study), people) {
        (Some((id, issuer)), Some(people)) => (id, issuer, people.person_of(study).to_string()),
        _ => nameless(study).0,
    }
}

impl Snapshot {
    /// The people that share a study's Patient ID; None when it has none. `look` is called with every study, and ends it
    /// by Break: then what is returned decides nothing.
    pub(super) fn people_of(
        &self,
        study: &StudyRecord,
        look: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<Option<People>, IndexError> {
        let (Some(identity), Some(folded)) = (identity_of(study), folded_id(study)) else {
            return Ok(None);
        };
        let mut counted: BTreeMap<Said, Counts> = BTreeMap::new();
        self.each_under(Table::PatientId, &folded, &mut |study| {
            if identity_of(study).as_ref() == Some(&identity) {
                let counts = counted.entry(said_of(study)).or_default();
                counts.0 += 1;
                counts.1 += study.series_count;
                counts.2 += study.instances_count;
            }
            Ok(look())
        })?;
        Ok(Some(People::of(&counted)))
    }

    /// Studies of a name and no identifier are counted when they say the same in the same letters.
    pub(super) fn counts_without_identity(
        &self,
        study: &StudyRecord,
        look: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<Counts, IndexError> {
        let mut counts = (0, 0, 0);
        let mut add = |study: &StudyRecord| {
            counts.0 += 1;
            counts.1 += study.series_count;
            counts.2 += study.instances_count;
        };
        let (nobody, name) = nameless(study);
        if name.is_none() {
            let whole = self.study(&study.facts.study_instance_uid)?;
            for part in self.parts(whole.ok_or_else(|| damaged(Table::Study))?)? {
                if identity_of(&part.study).is_none() && nameless(&part.study).0 == nobody {
                    add(&part.study);
                }
            }
            return Ok(counts);
        }
        self.each_without_identity(study, &mut |study| {
            add(study);
            Ok(look())
        })?;
        Ok(counts)
    }

    fn each_without_identity(
        &self,
        study: &StudyRecord,
        visit: &mut dyn FnMut(&StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        let (patient, Some(name)) = nameless(study) else {
            return Ok(());
        };
        self.each_under(Table::Name, &name, &mut |other| {
            if identity_of(other).is_none() && nameless(other).0 == patient {
                return visit(other);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// All studies of a study's patient, that study first; of a study of several patients what is his.
    pub(super) fn each_of_patient(
        &self,
        study: &StudyRecord,
        visit: &mut dyn FnMut(&StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        if visit(study)?.is_break() {
            return Ok(());
        }
        let own = &study.facts.study_instance_uid;
        let visit = &mut |other: &StudyRecord| match other.facts.study_instance_uid == *own {
            true => Ok(ControlFlow::Continue(())),
            false => visit(other),
        };
        let people = self.people_of(study, &|| ControlFlow::Continue(()))?;
        let (Some(people), Some(folded)) = (people, folded_id(study)) else {
            return self.each_without_identity(study, visit);
        };
        let patient = patient_of(study, Some(&people));
        self.each_under(Table::PatientId, &folded, &mut |other| {
            if patient_of(other, Some(&people)) == patient {
                return visit(other);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The studies under a value, one of several patients in its parts.
    fn each_under(
        &self,
        table: Table,
        folded: &str,
        visit: &mut dyn FnMut(&StudyRecord) -> Visited,
    ) -> Result<(), IndexError> {
        let mut last = Vec::new();
        let prefix = key::value_prefix(folded);
        let length = prefix.len();
        let range = key::prefix_range(prefix);
        self.each(table, range, Direction::Forward, &mut |key, _| {
            let packed = key.get(length..).ok_or_else(|| damaged(table))?;
            let (uid, rest) = key::unpack(packed).ok_or_else(|| damaged(table))?;
            let study = &packed[..packed.len() - rest.len()];
            if study == last {
                return Ok(ControlFlow::Continue(()));
            }
            last = study.to_vec();
            let study = self.study(&uid)?.ok_or_else(|| damaged(Table::Study))?;
            for part in self.parts(study)? {
                if visit(&part.study)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (names, birth date) of each study → the number of its person.
    fn persons(studies: &[(&[&str], Option<u32>)]) -> Vec<usize> {
        let said = |(names, born): &(&[&str], Option<u32>)| -> Said {
            (names.iter().map(|name| (*name).to_owned()).collect(), *born)
        };
        let mut counted: BTreeMap<Said, Counts> = BTreeMap::new();
        for study in studies {
            counted.entry(said(study)).or_default().0 += 1;
        }
        let people = People::of(&counted);
        let total: u64 = people.persons.iter().map(|counts| counts.0).sum();
        assert_eq!(total, studies.len() as u64);
        studies
            .iter()
            .map(|study| people.ways[&said(study)])
            .collect()
    }

    fn same(persons: &[usize], one: usize, other: usize) -> bool {
        persons[one] == persons[other]
    }

    #[test]
    fn people_of_one_id_are_told_apart_by_name_and_birth_date() {
        let found = persons(&[(&["smith"], None), (&["jones"], None), (&["smith"], None)]);
        assert!(same(&found, 0, 2) && !same(&found, 0, 1));
        let found = persons(&[(&["smith"], Some(1)), (&["smith"], Some(2))]);
        assert!(!same(&found, 0, 1));
        let found = persons(&[
            (&["yamada"], Some(1)),
            (&["yamada", "山田"], Some(1)),
            (&["山田"], Some(1)),
        ]);
        assert!(same(&found, 0, 1) && same(&found, 0, 2));
    }

    #[test]
    fn what_says_less_is_of_the_one_person_it_can_be_of() {
        let found = persons(&[
            (&["smith"], Some(1)),
            (&["smith"], None),
            (&[], Some(1)),
            (&[], None),
        ]);
        assert!((1..4).all(|other| same(&found, 0, other)), "{found:?}");
        // Could be either: neither, and the two are not made one by it.
        let found = persons(&[
            (&["smith"], Some(1)),
            (&["smith"], Some(2)),
            (&["smith"], None),
        ]);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3, "{found:?}");
        let found = persons(&[(&["smith"], Some(1)), (&["jones"], Some(2)), (&[], None)]);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3, "{found:?}");
    }
}
