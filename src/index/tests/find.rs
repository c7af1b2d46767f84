//! What a workstation asks and what it gets.

use super::*;

/// Ten studies over three patients, as a small hospital would have them.
fn hospital() -> Vec<Stored> {
    let rows = [
        // study, series, sop, id, name, date, time, accession, modality, institution, body part
        (
            "1.1",
            "1.1.1",
            "1.1.1.1",
            "100",
            "Smith^John",
            "20260110",
            "080000",
            "A1",
            "CT",
            "General",
            "HEAD",
        ),
        (
            "1.1",
            "1.1.1",
            "1.1.1.2",
            "100",
            "Smith^John",
            "20260110",
            "080000",
            "A1",
            "CT",
            "General",
            "HEAD",
        ),
        (
            "1.1",
            "1.1.2",
            "1.1.2.1",
            "100",
            "Smith^John",
            "20260110",
            "080000",
            "A1",
            "SR",
            "Annex",
            "",
        ),
        (
            "1.2",
            "1.2.1",
            "1.2.1.1",
            "100",
            "Smith^John",
            "20260112",
            "220000",
            "A2",
            "MR",
            "General",
            "KNEE",
        ),
        (
            "1.3",
            "1.3.1",
            "1.3.1.1",
            "200",
            "M\u{FC}ller^Anna",
            "20260112",
            "070000",
            "A3",
            "MR",
            "General",
            "HEAD",
        ),
        (
            "1.4",
            "1.4.1",
            "1.4.1.1",
            "300",
            "Yamada^Tarou=山田^太郎",
            "20260113",
            "063000",
            "B1",
            "CR",
            "",
            "CHEST",
        ),
        (
            "1.5", "1.5.1", "1.5.1.1", "", "Doe^Jane", "", "", "", "US", "", "",
        ),
    ];
    let mut all = Vec::new();
    for (
        number,
        (study, series, sop, id, name, date, time, accession, modality, institution, part),
    ) in rows.into_iter().enumerate()
    {
        let mut one = stored(number as u64 + 1, study, series, sop);
        study_values(
            &mut one,
            &[
                (PATIENT_ID, id),
                (PATIENT_NAME, name),
                (STUDY_DATE, date),
                (STUDY_TIME, time),
                (ACCESSION_NUMBER, accession),
            ],
        );
        series_values(
            &mut one,
            &[
                (MODALITY, modality),
                (0x0008_0080, institution),
                (0x0018_0015, part),
            ],
        );
        one.instance.values = values(&[
            (0x0020_0013, &number.to_string()),
            (IMAGE_COMMENTS, if number == 3 { "torn" } else { "" }),
        ]);
        all.push(one);
    }
    all
}

/// Method: one row per way to ask; newest first in every answer.
#[test]
fn studies_are_found_newest_first_whatever_is_asked() {
    let all = ["1.4", "1.2", "1.3", "1.1", "1.5"];
    type Keys<'a> = &'a [(u32, &'a str)];
    let rows: &[(Keys, &[&str])] = &[
        (&[], &all),
        (&[(PATIENT_ID, ""), (PATIENT_NAME, "*")], &all),
        (&[(PATIENT_ID, "100")], &["1.2", "1.1"]),
        (&[(PATIENT_ID, "100 ")], &["1.2", "1.1"]),
        (&[(PATIENT_ID, "?00")], &["1.4", "1.2", "1.3", "1.1"]),
        (&[(PATIENT_ID, "1*")], &["1.2", "1.1"]),
        (&[(PATIENT_ID, "10")], &[]),
        (&[(PATIENT_NAME, "smith*")], &["1.2", "1.1"]),
        (&[(PATIENT_NAME, "MULLER*")], &["1.3"]),
        (&[(PATIENT_NAME, "山田*")], &["1.4"]),
        (&[(PATIENT_NAME, "*Jane")], &["1.5"]),
        (&[(ACCESSION_NUMBER, "A*")], &["1.2", "1.3", "1.1"]),
        (&[(ACCESSION_NUMBER, "a2")], &["1.2"]),
        (&[(STUDY_DATE, "20260112")], &["1.2", "1.3"]),
        (&[(STUDY_DATE, "20260112-20260112")], &["1.2", "1.3"]),
        (&[(STUDY_DATE, "-20260111")], &["1.1"]),
        (&[(STUDY_DATE, "20260113-")], &["1.4"]),
        (&[(STUDY_DATE, "20270101-20260101")], &[]),
        (
            &[(STUDY_DATE, "20260112-"), (STUDY_TIME, "210000.000-")],
            &["1.4", "1.2"],
        ),
        (
            &[
                (STUDY_DATE, "20260112-20260113"),
                (STUDY_TIME, "000000.000-120000.000"),
            ],
            &["1.4", "1.3"],
        ),
        (&[(MODALITIES_IN_STUDY, "CT\\CR")], &["1.4", "1.1"]),
        (&[(MODALITIES_IN_STUDY, "S*")], &["1.1"]),
        (&[(MODALITY, "MR")], &["1.2", "1.3"]),
        (&[(0x0008_0080, "ann*")], &["1.1"]),
        (
            &[(0x0008_0080, "General"), (0x0018_0015, "HEAD")],
            &["1.3", "1.1"],
        ),
        (&[(0x0008_0080, "Annex"), (0x0018_0015, "HEAD")], &[]),
        (&[(STUDY_INSTANCE_UID, "1.1\\1.4\\1.99")], &["1.4", "1.1"]),
        (&[(SERIES_INSTANCE_UID, "1.2.1")], &["1.2"]),
        (&[(SERIES_INSTANCE_UID, "1.2.1"), (PATIENT_ID, "200")], &[]),
        (&[(SOP_INSTANCE_UID, "1.1.1.2\\1.3.1.1")], &["1.3", "1.1"]),
        (&[(IMAGE_COMMENTS, "TORN*")], &["1.2"]),
        (&[(0x0020_0013, "4")], &["1.3"]),
        (
            &[(0x0009_0010, "private"), (PATIENT_ID, "100")],
            &["1.2", "1.1"],
        ),
        (
            &[
                (SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2"),
                (PATIENT_ID, "200"),
            ],
            &["1.3"],
        ),
        (&[(SOP_CLASSES_IN_STUDY, "1.2.3")], &[]),
        (&[(PATIENT_NAME, "*t*n")], &["1.2", "1.1"]),
        (&[(PATIENT_NAME, "S*th^J*")], &["1.2", "1.1"]),
        (&[(PATIENT_NAME, "*太郎"), (PATIENT_ID, "*0")], &["1.4"]),
        (&[(PATIENT_NAME, "smith*=*")], &["1.2", "1.1"]),
        (&[(ACCESSION_NUMBER, "?1")], &["1.4", "1.1"]),
    ];
    for (_folder, index) in filled(&hospital()) {
        for (keys, expected) in rows {
            assert_eq!(study_uids(&index, keys), *expected, "{keys:?}");
        }
    }
}

/// Method: the same pairs of ranges with and without negotiated combined matching (PS3.4 C.2.2.2.5), at three levels.
#[test]
fn a_date_and_a_time_are_one_range_when_that_was_negotiated() {
    let mut all = hospital();
    for one in &mut all {
        let time = one.study.values[&STUDY_TIME].clone();
        let date = one.study.values[&STUDY_DATE].clone();
        series_values(one, &[(SERIES_DATE, &date), (SERIES_TIME, &time)]);
        one.instance.values = values(&[(CONTENT_DATE, &date), (CONTENT_TIME, &time)]);
    }
    let tags = [
        (Level::Study, STUDY_DATE, STUDY_TIME),
        (Level::Series, SERIES_DATE, SERIES_TIME),
        (Level::Instance, CONTENT_DATE, CONTENT_TIME),
    ];
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        (
            "20260110-20260112",
            "0700-0830",
            &["1.3", "1.1"],
            &["1.3", "1.1"],
        ),
        ("20260110-20260112", "0900-2100", &[], &["1.3"]),
        (
            "20260112-20260113",
            "2100-0700",
            &["1.4", "1.2", "1.3"],
            &["1.4", "1.2"],
        ),
        ("-20260112", "-0800", &["1.3", "1.1"], &["1.3", "1.1"]),
        ("-20260112", "-0700", &["1.3"], &["1.3", "1.1"]),
        ("20260112-", "0800-", &["1.4", "1.2"], &["1.4", "1.2"]),
        ("20260112-20260113", "0800-", &["1.2"], &["1.2"]),
        ("20260112", "0600-0800", &["1.3"], &["1.3"]),
    ];
    for (_folder, index) in filled(&all) {
        let snapshot = index.snapshot().unwrap();
        for (level, date_tag, time_tag) in tags {
            for (date, time, alone, combined) in rows {
                for (combined_date_time, expected) in [(false, alone), (true, combined)] {
                    let keys = vec![
                        Key::new(date_tag, VR::DA, *date),
                        Key::new(time_tag, VR::TM, *time),
                    ];
                    let mut query = Query::new(level, keys);
                    query.options.combined_date_time = combined_date_time;
                    let mut found = Vec::new();
                    let collect = &mut |one: Match| {
                        found.push(one.study_instance_uid);
                        ControlFlow::Continue(())
                    };
                    snapshot.find(&query, collect).unwrap();
                    found.dedup();
                    let asked = format!("{level} {date} {time} combined {combined_date_time}");
                    assert_eq!(found, *expected, "{asked}");
                }
            }
        }
    }
}

/// Method: more studies of one name than are sorted in memory, one in a hundred with an odd one.
#[test]
fn names_are_searched_without_order_being_lost_however_many_match() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path(), Engine::Redb).unwrap();
    let count = 12_000;
    let all = (0..count).map(|number| {
        let mut one = stored(
            number,
            &format!("1.{number}"),
            &format!("2.{number}"),
            &format!("3.{number}"),
        );
        let name = match number {
            _ if number % 100 == 7 => format!("Odd^Johnson {number}"),
            _ if number % 20 == 0 => "Yamada^Tarou=山田^太郎".to_owned(),
            _ => "Smith^John".to_owned(),
        };
        // Neighbours in the tables are far apart in time.
        let date = format!("20{:02}0{}15", number * 7 % 30, number % 9 + 1);
        study_values(&mut one, &[(PATIENT_NAME, &name), (STUDY_DATE, &date)]);
        one
    });
    let all: Vec<Stored> = all.collect();
    for some in all.chunks(4_000) {
        apply(&index, some.to_vec());
    }
    let (odd, yamada) = (count / 100, count / 20);
    for (keys, expected) in [
        (vec![(PATIENT_NAME, "*JOHN*")], count - yamada),
        (vec![(PATIENT_NAME, "*johnson*")], odd),
        (vec![(PATIENT_NAME, "S*")], count - yamada - odd),
        (vec![(PATIENT_NAME, "*太郎")], yamada),
        (vec![(PATIENT_NAME, "*o*")], count),
        (vec![(PATIENT_NAME, "*nobody*")], 0),
        (vec![(PATIENT_NAME, "*johnson*"), (PATIENT_ID, "4711")], odd),
        (
            vec![
                (PATIENT_NAME, "*johnson*"),
                (STUDY_DATE, "20100101-20291231"),
            ],
            0,
        ),
    ] {
        let found = find(&index, Level::Study, &keys);
        let dates: Vec<&String> = found.iter().map(|one| &one.values[&STUDY_DATE]).collect();
        assert!(dates.is_sorted_by(|one, next| one >= next), "{keys:?}");
        let expected = match keys.get(1) {
            Some((STUDY_DATE, _)) => {
                let odd = all
                    .iter()
                    .filter(|one| one.study.values[&PATIENT_NAME].starts_with("Odd"));
                odd.filter(|one| *one.study.values[&STUDY_DATE] >= *"20100101")
                    .count() as u64
            }
            _ => expected,
        };
        assert_eq!(found.len() as u64, expected, "{keys:?}");
    }
}

#[test]
fn series_and_instances_are_found_without_their_parents() {
    for (_folder, index) in filled(&hospital()) {
        let series = |keys: &[(u32, &str)]| -> Vec<String> {
            find(&index, Level::Series, keys)
                .into_iter()
                .map(|found| found.series_instance_uid)
                .collect()
        };
        assert_eq!(series(&[(STUDY_INSTANCE_UID, "1.1")]), ["1.1.1", "1.1.2"]);
        assert_eq!(series(&[(MODALITY, "MR")]), ["1.2.1", "1.3.1"]);
        assert_eq!(series(&[(MODALITIES_IN_STUDY, "SR")]), ["1.1.1", "1.1.2"]);
        assert_eq!(
            series(&[(PATIENT_ID, "100"), (0x0018_0015, "HEAD")]),
            ["1.1.1"]
        );
        assert_eq!(series(&[(SOP_INSTANCE_UID, "1.1.2.1")]), ["1.1.2"]);
        assert_eq!(series(&[(0x0020_0013, "1")]), ["1.1.1"]);
        let instances = |keys: &[(u32, &str)]| -> Vec<String> {
            find(&index, Level::Instance, keys)
                .into_iter()
                .map(|found| found.sop_instance_uid)
                .collect()
        };
        assert_eq!(
            instances(&[(STUDY_INSTANCE_UID, "1.1"), (SERIES_INSTANCE_UID, "")]),
            ["1.1.1.1", "1.1.1.2", "1.1.2.1"]
        );
        assert_eq!(
            instances(&[(SERIES_INSTANCE_UID, "1.1.1")]),
            ["1.1.1.1", "1.1.1.2"]
        );
        assert_eq!(
            instances(&[(SOP_INSTANCE_UID, "1.1.1.2\\1.4.1.1\\9")]),
            ["1.4.1.1", "1.1.1.2"]
        );
        assert_eq!(
            instances(&[(STUDY_INSTANCE_UID, "1.4"), (SOP_INSTANCE_UID, "1.1.1.2")]),
            [""; 0]
        );
        assert_eq!(
            instances(&[(MODALITY, "CT"), (0x0020_0013, "1")]),
            ["1.1.1.2"]
        );
    }
}

#[test]
fn answers_carry_what_is_computed() {
    for (_folder, index) in filled(&hospital()) {
        let asked = [
            (STUDY_INSTANCE_UID, "1.1"),
            (0x0008_0080, ""),
            (PATIENT_STUDIES, ""),
            (PATIENT_SERIES, ""),
            (PATIENT_INSTANCES, ""),
        ];
        let found = find(&index, Level::Study, &asked).remove(0);
        for (tag, expected) in [
            (PATIENT_NAME, "Smith^John"),
            (STUDY_INSTANCE_UID, "1.1"),
            (MODALITIES_IN_STUDY, "CT\\SR"),
            (MODALITY, "CT\\SR"),
            (SOP_CLASSES_IN_STUDY, "1.2.840.10008.5.1.4.1.1.2"),
            (STUDY_SERIES, "2"),
            (STUDY_INSTANCES, "3"),
            (PATIENT_STUDIES, "2"),
            (PATIENT_SERIES, "3"),
            (PATIENT_INSTANCES, "4"),
            (0x0008_0080, "Annex\\General"),
        ] {
            assert_eq!(found.values[&tag], expected, "{tag:08x}");
        }
        let found = find(&index, Level::Series, &[(SERIES_INSTANCE_UID, "1.1.1")]).remove(0);
        assert_eq!(
            (&*found.values[&SERIES_INSTANCES], &*found.values[&MODALITY]),
            ("2", "CT")
        );
        let found = find(&index, Level::Instance, &[(SOP_INSTANCE_UID, "1.1.1.2")]).remove(0);
        assert_eq!(
            (
                &*found.values[&SERIES_INSTANCES],
                &*found.values[&SOP_CLASS_UID]
            ),
            ("2", "1.2.840.10008.5.1.4.1.1.2")
        );
        assert_eq!(found.series_instance_uid, "1.1.1");
    }
}

#[test]
fn patients_are_told_once_with_all_their_studies_counted() {
    for (_folder, index) in filled(&hospital()) {
        let found = find(&index, Level::Patient, &[(PATIENT_STUDIES, "")]);
        let seen: Vec<(&str, &str)> = found
            .iter()
            .map(|one| (&*one.patient_id, &*one.values[&PATIENT_STUDIES]))
            .collect();
        assert_eq!(seen, [("300", "1"), ("100", "2"), ("200", "1"), ("", "1")]);
    }
}

#[test]
fn a_query_stops_when_told_to() {
    for (_folder, index) in filled(&hospital()) {
        for level in [Level::Patient, Level::Study, Level::Series, Level::Instance] {
            let mut count = 0;
            let query = Query::new(level, Vec::new());
            let stop = &mut |_| {
                count += 1;
                ControlFlow::Break(())
            };
            index.snapshot().unwrap().find(&query, stop).unwrap();
            assert_eq!(count, 1, "{level:?}");
        }
    }
}

/// Method: a series of so many instances that reading them takes longer than who asked is left without word.
#[test]
fn a_query_that_finds_nothing_can_be_stopped_too() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        let query = Query::new(
            Level::Instance,
            vec![Key::new(IMAGE_COMMENTS, VR::LT, "none")],
        );
        let mut count = 0;
        let mut looked = 0;
        while looked == 0 {
            assert!(count < 2_000_000, "{engine:?}");
            let next = (count..count + 5_000).map(|n| stored(n, "1.1", "1.1.1", &format!("1.{n}")));
            apply(&index, next.collect());
            count += 5_000;
            let stop = &mut |step| {
                assert_eq!(step, Step::Looked);
                looked += 1;
                ControlFlow::Break(())
            };
            index.snapshot().unwrap().search(&query, stop).unwrap();
        }
        assert_eq!(looked, 1, "{engine:?}");
    }
}

/// That answers at every level say the counts that were made over the instances: (study, series) → instances.
pub(super) fn assert_answers_count_exactly(
    index: &Index,
    per_series: &BTreeMap<(String, String), u64>,
) {
    let counts = [
        (PATIENT_STUDIES, ""),
        (PATIENT_SERIES, ""),
        (PATIENT_INSTANCES, ""),
    ];
    let count = |one: &Match, tag: u32| -> u64 { one.values[&tag].parse().unwrap() };
    let mut found = BTreeMap::new();
    for one in find(index, Level::Series, &[]) {
        let instances = count(&one, SERIES_INSTANCES);
        found.insert((one.study_instance_uid, one.series_instance_uid), instances);
    }
    assert_eq!(found, *per_series);
    let mut per_study: BTreeMap<&String, (u64, u64)> = BTreeMap::new();
    for ((study, _), instances) in per_series {
        let sum = per_study.entry(study).or_default();
        *sum = (sum.0 + 1, sum.1 + instances);
    }
    let studies = find(index, Level::Study, &counts);
    assert_eq!(studies.len(), per_study.len());
    for one in &studies {
        let told = (count(one, STUDY_SERIES), count(one, STUDY_INSTANCES));
        assert_eq!(told, per_study[&one.study_instance_uid]);
    }
    // Each instance is of one patient, and each patient is told once. A study is of each of its patients.
    let patients = find(index, Level::Patient, &counts);
    let sum = |tag: u32| patients.iter().map(|one| count(one, tag)).sum::<u64>();
    assert!(sum(PATIENT_STUDIES) >= per_study.len() as u64);
    assert!(sum(PATIENT_SERIES) >= per_series.len() as u64);
    assert_eq!(sum(PATIENT_INSTANCES), per_series.values().sum::<u64>());
}

fn told<'a>(found: &'a [Match], tags: &[u32]) -> Vec<Vec<&'a str>> {
    let text = |one: &'a Match, tag: &u32| one.values.get(tag).map_or("", String::as_str);
    let told = found.iter();
    told.map(|one| tags.iter().map(|tag| text(one, tag)).collect())
        .collect()
}

/// Method: four studies of one ID: two of one person, one of another, one that does not say whose it is.
#[test]
fn two_people_under_one_patient_id_are_two_patients() {
    let rows = [
        ("2.1", "Smith^John", "19500101", "20260101"),
        ("2.2", "Jones^Mary", "19600202", "20260102"),
        ("2.3", "SMITH^JOHN=スミス", "19500101", "20260103"),
        ("2.4", "", "", "20260104"),
    ];
    let mut all = Vec::new();
    for (number, (study, name, born, date)) in rows.into_iter().enumerate() {
        for series in ["1", "2"] {
            let sequence = all.len() as u64 + 1;
            let series_uid = format!("{study}.{series}");
            let mut one = stored(
                sequence,
                study,
                &series_uid,
                &format!("{series_uid}.{number}"),
            );
            study_values(
                &mut one,
                &[
                    (PATIENT_ID, "7"),
                    (PATIENT_NAME, name),
                    (PATIENT_BIRTH_DATE, born),
                    (STUDY_DATE, date),
                ],
            );
            all.push(one);
        }
    }
    let asked = |more: &[(u32, &'static str)]| {
        let mut keys = vec![
            (PATIENT_ID, "7"),
            (PATIENT_STUDIES, ""),
            (PATIENT_SERIES, ""),
            (PATIENT_INSTANCES, ""),
        ];
        keys.extend(more);
        keys
    };
    let tags = [
        PATIENT_NAME,
        PATIENT_STUDIES,
        PATIENT_SERIES,
        PATIENT_INSTANCES,
    ];
    for (_folder, index) in filled(&all) {
        let patients = find(&index, Level::Patient, &asked(&[]));
        assert_eq!(
            told(&patients, &tags),
            [
                ["", "1", "2", "2"],
                ["SMITH^JOHN=スミス", "2", "4", "4"],
                ["Jones^Mary", "1", "2", "2"],
            ]
        );
        let patients = find(&index, Level::Patient, &asked(&[(PATIENT_NAME, "smith*")]));
        assert_eq!(
            told(&patients, &tags),
            [["SMITH^JOHN=スミス", "2", "4", "4"]]
        );
        let studies = find(&index, Level::Study, &asked(&[]));
        assert_eq!(
            told(&studies, &[STUDY_INSTANCE_UID, PATIENT_STUDIES]),
            [["2.4", "1"], ["2.3", "2"], ["2.2", "1"], ["2.1", "2"]]
        );
        let series = find(&index, Level::Series, &asked(&[(PATIENT_NAME, "jones*")]));
        assert_eq!(
            told(
                &series,
                &[SERIES_INSTANCE_UID, PATIENT_NAME, PATIENT_SERIES]
            ),
            [["2.2.1", "Jones^Mary", "2"], ["2.2.2", "Jones^Mary", "2"]]
        );
        assert_counts_are_exact(&index);
    }
}

/// Method: the second instance of a study says another Patient ID, whose patient has a study too. Each gets what is his; who
/// does not ask whose it is gets the study once and whole.
#[test]
fn a_study_under_two_patient_ids_is_told_to_each_and_counts_once() {
    let mut all = Vec::new();
    for (sequence, study, sop, id) in [
        (1, "3.1", "3.1.1.1", "8"),
        (2, "3.1", "3.1.1.2", "9"),
        (3, "3.2", "3.2.1.1", "9"),
    ] {
        let mut one = stored(sequence, study, &format!("{study}.1"), sop);
        study_values(&mut one, &[(PATIENT_ID, id)]);
        if sequence == 2 {
            one.instance.values.extend(values(&[(PATIENT_ID, id)]));
        }
        all.push(one);
    }
    let asked = |id| [(PATIENT_ID, id), (PATIENT_INSTANCES, "")];
    for (_folder, index) in filled(&all) {
        for (id, studies, count, instances) in [
            ("8", &["3.1"][..], "1", &["3.1.1.1"][..]),
            ("9", &["3.2", "3.1"], "2", &["3.2.1.1", "3.1.1.2"]),
        ] {
            for level in [Level::Patient, Level::Study, Level::Series] {
                let found = find(&index, level, &asked(id));
                let tags = [
                    STUDY_INSTANCE_UID,
                    PATIENT_ID,
                    STUDY_INSTANCES,
                    PATIENT_INSTANCES,
                ];
                let row = |study: &&'static str| vec![*study, id, "1", count];
                let mut expected: Vec<Vec<&str>> = studies.iter().map(row).collect();
                if level == Level::Patient {
                    expected.truncate(1);
                }
                assert_eq!(told(&found, &tags), expected, "{level}");
            }
            let found = find(&index, Level::Instance, &asked(id));
            let expected: Vec<Vec<&str>> = instances.iter().map(|sop| vec![*sop, id]).collect();
            assert_eq!(told(&found, &[SOP_INSTANCE_UID, PATIENT_ID]), expected);
        }
        let whole = find(&index, Level::Study, &[(STUDY_INSTANCE_UID, "3.1")]);
        let tags = [STUDY_INSTANCE_UID, PATIENT_ID, STUDY_INSTANCES];
        assert_eq!(told(&whole, &tags), [["3.1", "8", "2"]]);
        assert_counts_are_exact(&index);
    }
}

#[test]
fn a_series_in_two_studies_is_told_under_each_with_its_own_instances() {
    let mut all = Vec::new();
    for (sequence, study, sop, part) in [
        (1, "4.1", "5.1", "HEAD"),
        (2, "4.1", "5.2", "HEAD"),
        (3, "4.2", "5.3", "KNEE"),
    ] {
        let mut one = stored(sequence, study, "5.5", sop);
        study_values(&mut one, &[(PATIENT_ID, study), (ACCESSION_NUMBER, sop)]);
        series_values(&mut one, &[(0x0018_0015, part)]);
        all.push(one);
    }
    for (_folder, index) in filled(&all) {
        let of_series = (SERIES_INSTANCE_UID, "5.5");
        let tags = [
            STUDY_INSTANCE_UID,
            PATIENT_ID,
            0x0018_0015,
            SERIES_INSTANCES,
            STUDY_INSTANCES,
        ];
        let (first, second) = (
            ["4.1", "4.1", "HEAD", "2", "2"],
            ["4.2", "4.2", "KNEE", "1", "1"],
        );
        let found = find(&index, Level::Series, &[of_series]);
        let mut found = told(&found, &tags);
        found.sort();
        assert_eq!(found, [first, second]);
        for (study, expected) in [("4.1", first), ("4.2", second)] {
            let asked = [of_series, (STUDY_INSTANCE_UID, study)];
            let found = find(&index, Level::Series, &asked);
            assert_eq!(told(&found, &tags), [expected]);
            let found = find(&index, Level::Instance, &asked);
            assert!(found.iter().all(|one| one.study_instance_uid == study));
            assert_eq!(found.len().to_string(), expected[3]);
        }
        assert_eq!(find(&index, Level::Study, &[of_series]).len(), 2);
        assert_eq!(find(&index, Level::Patient, &[of_series]).len(), 2);
        let found = find(&index, Level::Instance, &[(SOP_INSTANCE_UID, "5.3")]);
        assert_eq!(told(&found, &[STUDY_INSTANCE_UID]), [["4.2"]]);
        assert_eq!(
            study_uids(&index, &[of_series, (0x0018_0015, "KNEE")]),
            ["4.2"]
        );
        assert_counts_are_exact(&index);
    }
}

/// Method: not a limit, a number to look at: `cargo test --release find_rate -- --ignored --nocapture`. 100,000 studies of
/// two series over eight years; the first and the last answer of each query.
#[test]
#[ignore = "measures"]
fn find_rate() {
    const STUDIES: u64 = 100_000;
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        let names = [
            "Smith",
            "Johnson",
            "Yamada",
            "M\u{FC}ller",
            "Garcia",
            "Ivanov",
            "Kim",
        ];
        for some in (0..STUDIES).collect::<Vec<u64>>().chunks(2_000) {
            let mut all = Vec::new();
            for number in some {
                for series in 0..2 {
                    let study = format!("1.2.392.200036.9116.2.6.1.48.{number}");
                    let series_uid = format!("{study}.{series}");
                    let sop = format!("{series_uid}.1");
                    let mut one = stored(number * 2 + series, &study, &series_uid, &sop);
                    let name = names[(number % 7) as usize];
                    let (year, month, day) =
                        (number / 7 % 8, number / 56 % 12 + 1, number / 672 % 28 + 1);
                    study_values(
                        &mut one,
                        &[
                            (PATIENT_NAME, &format!("{name}^Anna{}", number % 1_000)),
                            (PATIENT_ID, &format!("P{:06}", number / 3)),
                            (ACCESSION_NUMBER, &format!("ACC{number:08}")),
                            (STUDY_DATE, &format!("{}{month:02}{day:02}", 2018 + year)),
                            (0x0008_1030, "CT THORAX"),
                            (0x0008_0090, "Refer^Ring"),
                        ],
                    );
                    all.push(one);
                }
            }
            apply(&index, all);
        }
        index.checkpoint().unwrap();
        for (what, level, asked) in [
            ("patient id", Level::Study, vec![(PATIENT_ID, "P012345")]),
            (
                "accession",
                Level::Study,
                vec![(ACCESSION_NUMBER, "ACC00012345")],
            ),
            ("name, 1 in 7", Level::Study, vec![(PATIENT_NAME, "SMI*")]),
            (
                "inner wildcard",
                Level::Study,
                vec![(PATIENT_NAME, "SMI*7")],
            ),
            (
                "leading wildcard, none",
                Level::Study,
                vec![(PATIENT_NAME, "*SONNE*")],
            ),
            (
                "leading wildcard, 1 in 1,000",
                Level::Study,
                vec![(PATIENT_NAME, "*anna123")],
            ),
            (
                "leading wildcard, 1 in 7",
                Level::Study,
                vec![(PATIENT_NAME, "*SON*")],
            ),
            (
                "one day",
                Level::Study,
                vec![(STUDY_DATE, "20200115"), (MODALITIES_IN_STUDY, "CT")],
            ),
            (
                "one week",
                Level::Study,
                vec![(STUDY_DATE, "20200115-20200121")],
            ),
            (
                "description, none",
                Level::Study,
                vec![(0x0008_1030, "*HEAD*")],
            ),
            ("all patients", Level::Patient, vec![(PATIENT_STUDIES, "")]),
            ("all series", Level::Series, vec![]),
        ] {
            let keys = asked
                .iter()
                .map(|(tag, value)| Key::new(*tag, VR::UN, *value));
            let query = Query::new(level, keys.collect());
            for turn in ["cold", "warm"] {
                let snapshot = index.snapshot().unwrap();
                let begun = Instant::now();
                let (mut first, mut count) = (None, 0);
                let each = &mut |_| {
                    first.get_or_insert_with(|| begun.elapsed());
                    count += 1;
                    ControlFlow::Continue(())
                };
                snapshot.find(&query, each).unwrap();
                let all = begun.elapsed();
                eprintln!(
                    "{engine:?} {turn} {what}: {count} in {all:.1?}, the first in {first:.1?}"
                );
            }
        }
    }
}
