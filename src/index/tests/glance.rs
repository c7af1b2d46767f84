//! What is seen of a record at a glance is what is in it.

use super::*;

use super::super::glance::{self, Texts};

/// Method: records as they are written, of statements with and without corrections, copies and other contents.
#[test]
fn a_glance_sees_the_values_of_the_whole_record() {
    let mut all = Vec::new();
    for number in 1..=4 {
        let study = format!("1.{}", number % 2);
        let mut one = stored(
            number,
            &study,
            &format!("{study}.1"),
            &format!("1.9.{number}"),
        );
        study_values(
            &mut one,
            &[
                (PATIENT_NAME, "Yamada^Tarou=山田^太郎"),
                (STUDY_COMMENTS, ""),
            ],
        );
        one.instance
            .values
            .insert(IMAGE_COMMENTS, format!("comment {number}"));
        all.push(one);
    }
    let mut elsewhere = all[0].clone();
    elsewhere.instance.copy.volume_id = "M".to_owned();
    let mut conflict = all[1].clone();
    conflict.instance.sequence = 9;
    conflict.instance.copy.crc32 = 9;
    all.extend([elsewhere, conflict]);
    for (_folder, index) in filled(&all) {
        let snapshot = index.snapshot().unwrap();
        let contents = |table| {
            let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let add = &mut |key: &[u8], content: &[u8]| {
                found.push((key.to_vec(), content.to_vec()));
                Ok(ControlFlow::Continue(()))
            };
            let whole = (Vec::new(), Vec::new());
            snapshot
                .each(table, whole, engine::Direction::Forward, add)
                .unwrap();
            found
        };
        let same = |seen: &dyn Texts, values: &Values| {
            for tag in [
                PATIENT_NAME,
                STUDY_COMMENTS,
                IMAGE_COMMENTS,
                MODALITY,
                PATIENT_ID,
                0,
                u32::MAX,
            ] {
                assert_eq!(
                    seen.text(tag),
                    values.get(&tag).map(String::as_str),
                    "{tag:x}"
                );
            }
        };
        for (key, content) in contents(Table::Study) {
            let (uid, _) = key::unpack(&key).unwrap();
            let study = snapshot.study(&uid).unwrap().unwrap();
            same(&glance::of_study(&content).unwrap(), &study.facts.values);
        }
        for (key, content) in contents(Table::Series) {
            let (uid, rest) = key::unpack(&key).unwrap();
            let (series, _) = key::unpack(rest).unwrap();
            let series = snapshot.series(&uid, &series).unwrap().unwrap();
            let (seen, count) = glance::of_series(&content).unwrap().unwrap();
            same(&seen, &series.facts.values);
            assert_eq!(count, series.instances_count);
        }
        let instances = contents(Table::Instance);
        assert_eq!(instances.len(), 4);
        for (key, content) in instances {
            let (_, rest) = key::unpack(&key).unwrap();
            let (_, rest) = key::unpack(rest).unwrap();
            let (sop, _) = key::unpack(rest).unwrap();
            let entry = snapshot.by_sop(&sop).unwrap().unwrap();
            same(
                &glance::of_instance(&content).unwrap(),
                &entry.record.values,
            );
        }
        assert!(glance::of_study(&[0xFF; 3]).is_err());
    }
}
