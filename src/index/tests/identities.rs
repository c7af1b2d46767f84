//! One Patient ID and more than one person.

use super::*;

fn of_patient(study: &str, pairs: &[(u32, &str)]) -> Stored {
    let mut one = stored(1, study, &format!("{study}.1"), &format!("{study}.1.1"));
    study_values(&mut one, pairs);
    one
}

fn shared(index: &Index) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let add = &mut |one: SharedPatientId| {
        let studies = one.studies.into_iter();
        let uids = studies.map(|study| study.facts.study_instance_uid);
        found.push((one.patient_id, uids.collect()));
        ControlFlow::Continue(())
    };
    index
        .snapshot()
        .unwrap()
        .patients_with_two_names(add)
        .unwrap();
    found
}

#[test]
fn names_agree_when_one_component_group_is_the_same() {
    for (one, other, agree) in [
        ("Yamada^Tarou=山田^太郎", "YAMADA^TAROU", true),
        ("Yamada^Tarou=山田^太郎", "山田^太郎", true),
        ("Yamada^Tarou=山田^太郎", "Yamada^Jirou=山田^次郎", false),
        ("Müller^Eva", "muller^eva^^", true),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ^タロウ", true),
        ("Yamada^Tarou", "", true),
        ("^", "Yamada^Tarou", true),
        ("Yamada", "Yamada^Tarou", false),
    ] {
        assert_eq!(names_agree(one, other), agree, "{one} {other}");
        assert_eq!(names_agree(other, one), agree, "{other} {one}");
    }
    assert!(birth_dates_agree("19600101", "1960.01.01"));
    assert!(birth_dates_agree("19600101", ""));
    assert!(!birth_dates_agree("19600101", "19600102"));
}

/// Method: one row per way in which two studies can share a Patient ID.
#[test]
fn studies_of_one_id_and_two_people_are_told() {
    type Values<'a> = &'a [(u32, &'a str)];
    let rows: [(Values, bool); 7] = [
        (&[], false),
        (&[(PATIENT_ID, " 4711")], false),
        (&[(PATIENT_NAME, "Suzuki^Hanako")], true),
        (&[(PATIENT_NAME, "")], false),
        (&[(PATIENT_BIRTH_DATE, "19610101")], true),
        (&[(PATIENT_BIRTH_DATE, "")], false),
        (
            &[(PATIENT_NAME, "Suzuki^Hanako"), (ISSUER_OF_PATIENT_ID, "B")],
            false,
        ),
    ];
    for (other, expected) in rows {
        let born = (PATIENT_BIRTH_DATE, "19600101");
        let all = [
            of_patient("1.1", &[born]),
            of_patient("1.2", &[&[born], other].concat()),
            of_patient("1.3", &[(PATIENT_ID, "4710"), (PATIENT_NAME, "A^B")]),
            of_patient("1.4", &[(PATIENT_ID, ""), (PATIENT_NAME, "C^D")]),
            of_patient("1.5", &[(PATIENT_ID, ""), (PATIENT_NAME, "E^F")]),
        ];
        for (_folder, index) in filled(&all) {
            let both = vec!["1.1".to_owned(), "1.2".to_owned()];
            let told = shared(&index);
            match expected {
                true => assert_eq!(told, [("4711".to_owned(), both.clone())], "{other:?}"),
                false => assert!(told.is_empty(), "{other:?} {told:?}"),
            }
            let mut studies = Vec::new();
            let add = &mut |study: StudyRecord| {
                studies.push(study.facts.study_instance_uid);
                ControlFlow::Continue(())
            };
            let snapshot = index.snapshot().unwrap();
            snapshot.studies_of_patient("4711 ", add).unwrap();
            snapshot.studies_of_patient("", add).unwrap();
            snapshot.studies_of_patient("47", add).unwrap();
            assert_eq!(studies, both);
        }
    }
}

/// Method: more studies than are held against each other, the last of another person; then an ID after it.
#[test]
fn an_id_of_very_many_studies_is_told_in_part_and_those_after_it_too() {
    let mut all: Vec<Stored> = (0..1_005)
        .map(|number| of_patient(&format!("1.{number:04}"), &[]))
        .collect();
    study_values(&mut all[3], &[(PATIENT_NAME, "Suzuki^Hanako")]);
    all.push(of_patient("2.1", &[(PATIENT_ID, "z"), (PATIENT_NAME, "A")]));
    all.push(of_patient("2.2", &[(PATIENT_ID, "z"), (PATIENT_NAME, "B")]));
    let (_folder, index) = filled(&all).remove(0);
    let told = shared(&index);
    let counts: Vec<usize> = told.iter().map(|(_, studies)| studies.len()).collect();
    assert_eq!(counts, [1_000, 2]);
}
