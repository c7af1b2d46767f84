//! Corrections: what they hide, what is answered instead, and what studies and series say then.

use super::*;

pub fn content_of(stored: &Stored) -> ContentId {
    let instance = &stored.instance;
    ContentId {
        transfer_syntax: instance.transfer_syntax.clone(),
        data_bytes: instance.copy.data_bytes(),
        crc32: instance.copy.crc32,
    }
}

pub fn ruling(sequence: u64, by: u64, stored: &Stored, verdict: Verdict) -> Change {
    Change::Ruling(Ruling {
        sequence,
        by,
        sop_instance_uid: stored.instance.sop_instance_uid.clone(),
        content: content_of(stored),
        verdict,
    })
}

pub fn correction(sequence: u64, number: u64, in_effect: bool, volume_id: &str) -> Change {
    Change::Correction(Box::new(Correction {
        sequence,
        number,
        in_effect,
        facts: CorrectionFacts {
            at: format!("2026-03-01T00:00:{:02}Z", sequence % 60),
            did: Did::Amended,
            who: "admin".to_owned(),
            why: format!("because of {sequence}"),
            way: "command line".to_owned(),
            level: "STUDY".to_owned(),
            of: vec!["1.1".to_owned()],
            studies: vec!["1.1".to_owned()],
            instances_count: 1,
            before: Values::new(),
            after: Values::new(),
        },
        volume_id: volume_id.to_owned(),
    }))
}

/// The content that a correction makes of another: another patient, and so other bytes and another path.
fn amended(old: &Stored, sequence: u64, by: u64) -> Stored {
    let mut new = old.clone();
    new.instance.sequence = sequence;
    new.instance.origin.by = by;
    new.instance.copy.crc32 ^= by as u32;
    new.instance.copy.path = format!("{by}/{}", old.instance.copy.path);
    study_values(&mut new, &[(PATIENT_ID, "0815"), (STUDY_TIME, "")]);
    Arc::make_mut(&mut new.study).date_folder = "20260116".to_owned();
    let series = Arc::make_mut(&mut new.series);
    series.folder = format!("20260116/MR/0815/{by}");
    series.values.insert(MODALITY, "MR".to_owned());
    new
}

fn tell(index: &Index, changes: &[Change]) {
    index.apply(changes, &[]).unwrap();
    assert_counts_are_exact(index);
}

fn answered(index: &Index, sop: &str) -> Option<u64> {
    let entry = index.snapshot().unwrap().by_sop(sop).unwrap();
    entry.map(|entry| entry.record.sequence)
}

/// Sequence and reason of each hidden content.
fn hidden(index: &Index, sop: &str) -> Vec<(u64, Hid)> {
    let hidden = index.snapshot().unwrap().hidden(sop).unwrap();
    let contents = hidden.unwrap_or_default().contents.into_iter();
    contents.map(|one| (one.sequence, one.hid)).collect()
}

/// Method: a study of two is amended as the archive does it, line by line; before the last line nothing is to be seen of
/// it, after it all; then it is taken back, and taken back again.
#[test]
fn a_study_is_answered_as_it_was_or_as_it_was_amended() {
    let old = [
        stored(1, "1.1", "1.1.1", "1.3.1"),
        stored(2, "1.1", "1.1.1", "1.3.2"),
    ];
    for (_folder, index) in filled(&old) {
        let before = everything(&index);
        let new = [amended(&old[0], 11, 10), amended(&old[1], 12, 10)];
        tell(&index, &new.clone().map(Change::Stored));
        let rulings = [
            ruling(13, 10, &old[0], Verdict::Withdrawn),
            ruling(14, 10, &old[1], Verdict::Withdrawn),
        ];
        tell(&index, &rulings);
        let is_old = || {
            assert_eq!(answered(&index, "1.3.1"), Some(1));
            assert_eq!(answered(&index, "1.3.2"), Some(2));
            assert_eq!(hidden(&index, "1.3.1"), [(11, Hid::Unmade { by: 10 })]);
            assert_eq!(study_uids(&index, &[(PATIENT_ID, "4711")]), ["1.1"]);
            assert!(study_uids(&index, &[(PATIENT_ID, "0815")]).is_empty());
            let snapshot = index.snapshot().unwrap();
            let study = snapshot.study("1.1").unwrap().unwrap();
            assert_eq!(study.modalities, ["CT"]);
            assert_eq!(study.facts, *old[0].study);
            let series = snapshot.series("1.1", "1.1.1").unwrap().unwrap();
            assert_eq!(series.facts, *old[0].series);
        };
        is_old();
        for (sequence, in_effect) in [(15, true), (16, false), (17, true), (18, false)] {
            tell(&index, &[correction(sequence, 10, in_effect, "A")]);
            if !in_effect {
                is_old();
                continue;
            }
            assert_eq!(answered(&index, "1.3.1"), Some(11));
            assert_eq!(answered(&index, "1.3.2"), Some(12));
            assert_eq!(hidden(&index, "1.3.2"), [(2, Hid::Withdrawn { by: 10 })]);
            assert_eq!(study_uids(&index, &[(PATIENT_ID, "0815")]), ["1.1"]);
            assert!(study_uids(&index, &[(PATIENT_ID, "4711")]).is_empty());
            let snapshot = index.snapshot().unwrap();
            let study = snapshot.study("1.1").unwrap().unwrap();
            assert_eq!(study.modalities, ["MR"]);
            assert_eq!(study.facts.date_folder, "20260116");
            assert_eq!(study.facts.values.get(&STUDY_TIME), None, "a blank");
            assert_eq!(study.facts.values[&STUDY_DATE], "20260115");
            let series = snapshot.series("1.1", "1.1.1").unwrap().unwrap();
            assert_eq!(series.facts.folder, "20260116/MR/0815/10");
            assert_eq!(snapshot.totals().unwrap().conflicts, 0);
            // Each layer alone.
            let facts = |by| snapshot.study_facts("1.1", by).unwrap();
            assert_eq!(facts(0), Some((*old[0].study).clone()));
            assert_eq!(facts(10), Some((*new[0].study).clone()));
            assert_eq!(facts(11), None);
            let facts = |by| snapshot.series_facts("1.1", "1.1.1", by).unwrap();
            assert_eq!(facts(0), Some((*old[0].series).clone()));
            assert_eq!(facts(10), Some((*new[0].series).clone()));
            assert_eq!(facts(11), None);
        }
        // When the files of what was taken back are gone, instances and counts are as if it had never been.
        tell(&index, &new.each_ref().map(gone_again));
        assert!(hidden(&index, "1.3.1").is_empty());
        let instance = |all: Vec<String>| -> Vec<String> {
            let tables = ["Instance ", "Sop ", "Other ", "VolumeStudy "];
            let is = |line: &String| tables.iter().any(|table| line.starts_with(table));
            all.into_iter().filter(is).collect()
        };
        assert_eq!(instance(everything(&index)), instance(before));
    }
}
