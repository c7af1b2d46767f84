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
    ];
    for (_folder, index) in filled(&hospital()) {
        for (keys, expected) in rows {
            assert_eq!(study_uids(&index, keys), *expected, "{keys:?}");
        }
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
