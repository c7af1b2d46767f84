//! Instance Availability while volumes are absent.

use super::*;

/// Study 1.1: series 1.1.1 whole on A, half of it also on B; series 1.1.2 on B. Study 1.2 of the same patient on B.
/// Study 1.3 of another patient: on A and, mirrored, on M.
fn archive() -> Vec<Stored> {
    let rows = [
        (1, "1.1", "1.1.1", "1.1.1.1", "A"),
        (2, "1.1", "1.1.1", "1.1.1.2", "A"),
        (2, "1.1", "1.1.1", "1.1.1.2", "B"),
        (3, "1.1", "1.1.2", "1.1.2.1", "B"),
        (4, "1.2", "1.2.1", "1.2.1.1", "B"),
        (5, "1.3", "1.3.1", "1.3.1.1", "A"),
        (5, "1.3", "1.3.1", "1.3.1.1", "M"),
    ];
    let stored = |(sequence, study, series, sop, volume_id): (u64, &str, &str, &str, &str)| {
        let mut one = stored(sequence, study, series, sop);
        one.instance.copy.volume_id = volume_id.to_owned();
        if study == "1.3" {
            study_values(&mut one, &[(PATIENT_ID, "4712")]);
        }
        one
    };
    rows.into_iter().map(stored).collect()
}

fn availability(index: &Index, level: Level, uid: &str, present: &str) -> &'static str {
    let parts: Vec<&str> = uid.split('.').collect();
    let upto = |count: usize| parts[..parts.len().min(count)].join(".");
    let here = |volume_id: &str| present.contains(volume_id);
    index
        .snapshot()
        .unwrap()
        .availability(level, &upto(2), &upto(3), uid, &here)
        .unwrap()
        .as_str()
}

/// Method: one row per level and UID; the columns are the volumes that are there.
#[test]
fn the_least_available_of_the_instances_below_is_told() {
    use Level::{Instance, Patient, Series, Study};
    const ON: &str = "ONLINE";
    const OFF: &str = "OFFLINE";
    const NONE: &str = "UNAVAILABLE";
    let columns = ["ABM", "A", "B", "M", ""];
    let rows = [
        (Instance, "1.1.1.1", [ON, ON, OFF, OFF, OFF]),
        (Instance, "1.1.1.2", [ON, ON, ON, OFF, OFF]),
        (Instance, "1.1.2.1", [ON, OFF, ON, OFF, OFF]),
        (Instance, "1.3.1.1", [ON, ON, OFF, ON, OFF]),
        (Instance, "1.9.9.9", [NONE; 5]),
        (Series, "1.1.1", [ON, ON, OFF, OFF, OFF]),
        (Series, "1.1.2", [ON, OFF, ON, OFF, OFF]),
        (Series, "1.1.9", [NONE; 5]),
        (Study, "1.1", [ON, OFF, OFF, OFF, OFF]),
        (Study, "1.2", [ON, OFF, ON, OFF, OFF]),
        (Study, "1.3", [ON, ON, OFF, ON, OFF]),
        (Study, "1.9", [NONE; 5]),
        (Patient, "1.1", [ON, OFF, OFF, OFF, OFF]),
        (Patient, "1.2", [ON, OFF, OFF, OFF, OFF]),
        (Patient, "1.3", [ON, ON, OFF, ON, OFF]),
    ];
    for (_folder, index) in filled(&archive()) {
        for (level, uid, expected) in rows {
            for (present, expected) in columns.iter().zip(expected) {
                let told = availability(&index, level, uid, present);
                assert_eq!(told, expected, "{level} {uid} with {present:?}");
            }
        }
    }
}

#[test]
fn only_copies_of_the_answered_content_make_it_available() {
    let first = stored(1, "1.1", "1.1.1", "1.1.1.1");
    let mut conflict = stored(2, "1.1", "1.1.1", "1.1.1.1");
    conflict.instance.copy.crc32 = 9;
    conflict.instance.copy.volume_id = "B".to_owned();
    for (_folder, index) in filled(&[first.clone(), conflict]) {
        for (level, uid) in [
            (Level::Instance, "1.1.1.1"),
            (Level::Series, "1.1.1"),
            (Level::Study, "1.1"),
        ] {
            assert_eq!(availability(&index, level, uid, "A"), "ONLINE");
            assert_eq!(availability(&index, level, uid, "B"), "OFFLINE");
        }
        index.apply(&[gone_again(&first)], &[]).unwrap();
        assert_eq!(availability(&index, Level::Study, "1.1", "B"), "ONLINE");
    }
}

/// Method: the records of the instances are damaged; what is told without reading them is still told.
#[test]
fn a_study_without_copies_on_an_absent_volume_is_told_without_reading_its_instances() {
    let mut all = archive();
    all.retain(|one| one.study.study_instance_uid != "1.1");
    for (_folder, index) in filled(&all) {
        let damage = all.iter().map(|one| {
            let series = &one.series.series_instance_uid;
            let study = &one.study.study_instance_uid;
            key::pack(&[study, series, &one.instance.sop_instance_uid])
        });
        let damage: BTreeSet<Vec<u8>> = damage.collect();
        let write = |key| engine::Write {
            table: Table::Instance,
            key,
            value: Some(vec![0; 9]),
        };
        let writes = damage.into_iter().map(write).collect();
        index.store().unwrap().commit(writes).unwrap();
        for (uid, present, expected) in [
            ("1.2", "BM", "ONLINE"),
            ("1.2", "AM", "OFFLINE"),
            ("1.3", "AB", "ONLINE"),
            ("1.3", "BM", "ONLINE"),
            ("1.3", "B", "OFFLINE"),
        ] {
            assert_eq!(availability(&index, Level::Study, uid, present), expected);
            let series = format!("{uid}.1");
            assert_eq!(
                availability(&index, Level::Series, &series, present),
                expected
            );
        }
    }
}
