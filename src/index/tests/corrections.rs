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

/// Method: a study is moved to another with new UIDs; as long as the correction is not in effect there is no such study,
/// whichever of its lines is read first.
#[test]
fn new_uids_in_another_study_are_there_with_the_correction_alone() {
    let old = stored(1, "1.1", "1.1.1", "1.3");
    let mut new = amended(&old, 11, 10);
    Arc::make_mut(&mut new.study).study_instance_uid = "1.9".to_owned();
    let series = Arc::make_mut(&mut new.series);
    series.study_instance_uid = "1.9".to_owned();
    series.series_instance_uid = "1.9.1".to_owned();
    new.instance.sop_instance_uid = "1.9.1.1".to_owned();
    let withdrawn = ruling(12, 10, &old, Verdict::Withdrawn);
    let lines = [
        Change::Stored(new.clone()),
        withdrawn,
        correction(13, 10, true, "A"),
    ];
    let back = correction(14, 10, false, "A");
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        for (_folder, index) in filled(std::slice::from_ref(&old)) {
            let mut in_effect = false;
            for line in order {
                tell(&index, &lines[line..=line]);
                in_effect |= line == 2;
                if !in_effect {
                    assert_eq!(answered(&index, "1.9.1.1"), None);
                    assert_eq!(index.snapshot().unwrap().study("1.9").unwrap(), None);
                    assert_eq!(study_uids(&index, &[]), ["1.1"]);
                }
            }
            assert_eq!(study_uids(&index, &[]), ["1.9"]);
            assert_eq!(
                study_uids(&index, &[(SERIES_INSTANCE_UID, "1.9.1")]),
                ["1.9"]
            );
            assert_eq!(answered(&index, "1.3"), None);
            assert_eq!(hidden(&index, "1.3"), [(1, Hid::Withdrawn { by: 10 })]);
            let snapshot = index.snapshot().unwrap();
            assert_eq!(snapshot.study("1.1").unwrap().unwrap().instances_count, 0);

            tell(&index, std::slice::from_ref(&back));
            assert_eq!(study_uids(&index, &[]), ["1.1"]);
            let snapshot = index.snapshot().unwrap();
            assert_eq!(snapshot.study("1.9").unwrap(), None);
            assert_eq!(snapshot.series("1.9", "1.9.1").unwrap(), None);
            assert_eq!(snapshot.series_by_uid("1.9.1").unwrap(), None);
            assert_eq!(snapshot.spread_of("1.9", "1.9.1").unwrap(), None);
            assert!(snapshot.study_facts("1.9", 10).unwrap().is_some());
            assert_eq!(snapshot.study_facts("1.9", 0).unwrap(), None);
        }
    }
}

/// Method: a study is amended twice; between and after, an image that was late comes from the modality with the old
/// patient.
#[test]
fn the_highest_correction_in_effect_tells_and_what_comes_later_joins_it() {
    let old = stored(1, "1.1", "1.1.1", "1.3.1");
    let late = |sequence: u64| stored(sequence, "1.1", "1.1.1", &format!("1.3.{sequence}"));
    let first = amended(&old, 11, 10);
    let mut second = amended(&old, 21, 20);
    study_values(&mut second, &[(PATIENT_ID, "0816"), (STUDY_DATE, "")]);
    for (_folder, index) in filled(std::slice::from_ref(&old)) {
        let id = || {
            let study = index.snapshot().unwrap().study("1.1").unwrap().unwrap();
            study.facts.values[&PATIENT_ID].clone()
        };
        let mut first_lines = vec![Change::Stored(first.clone())];
        first_lines.push(ruling(12, 10, &old, Verdict::Withdrawn));
        first_lines.push(correction(13, 10, true, "A"));
        tell(&index, &first_lines);
        tell(&index, &[Change::Stored(late(14))]);
        assert_eq!(id(), "0815");
        assert_eq!(
            find(&index, Level::Instance, &[(PATIENT_ID, "0815")]).len(),
            2
        );
        let mut second_lines = vec![Change::Stored(second.clone())];
        for content in [&old, &first] {
            second_lines.push(ruling(22, 20, content, Verdict::Withdrawn));
        }
        second_lines.push(correction(23, 20, true, "A"));
        tell(&index, &second_lines);
        assert_eq!(id(), "0816");
        assert_eq!(
            find(&index, Level::Study, &[(STUDY_DATE, "20260115")]).len(),
            0
        );
        assert_eq!(answered(&index, "1.3.1"), Some(21));
        let expected = [
            (1, Hid::Withdrawn { by: 20 }),
            (11, Hid::Withdrawn { by: 20 }),
        ];
        assert_eq!(hidden(&index, "1.3.1"), expected);
        tell(
            &index,
            &[correction(24, 20, false, "A"), Change::Stored(late(25))],
        );
        assert_eq!(
            (id().as_str(), answered(&index, "1.3.1")),
            ("0815", Some(11))
        );
        tell(&index, &[correction(26, 10, false, "A")]);
        assert_eq!(
            (id().as_str(), answered(&index, "1.3.1")),
            ("4711", Some(1))
        );
        assert_eq!(
            find(&index, Level::Instance, &[(PATIENT_ID, "4711")]).len(),
            3
        );
    }
}

/// Method: removed, and copied meanwhile, as a mover would; sent again; removed again; restored.
#[test]
fn what_was_removed_counts_when_it_was_sent_again() {
    let old = stored(1, "1.1", "1.1.1", "1.3");
    let mut moved = old.clone();
    moved.instance.copy.path = "trash/x.dcm".to_owned();
    let mut again = old.clone();
    again.instance.sequence = 20;
    again.instance.copy.path = "again.dcm".to_owned();
    for (_folder, index) in filled(std::slice::from_ref(&old)) {
        let removal = [
            ruling(11, 10, &old, Verdict::Removed),
            correction(12, 10, true, "A"),
        ];
        tell(&index, &removal);
        tell(&index, &[Change::Stored(moved.clone()), gone_again(&old)]);
        assert_eq!(answered(&index, "1.3"), None);
        assert_eq!(
            index.snapshot().unwrap().totals().unwrap(),
            Totals::default()
        );
        assert_eq!(hidden(&index, "1.3"), [(1, Hid::Withdrawn { by: 10 })]);
        tell(&index, &[Change::Stored(again.clone())]);
        // Both files are of one content, which counts.
        let entry = index.snapshot().unwrap().by_sop("1.3").unwrap().unwrap();
        assert_eq!(entry.record.copies.len(), 2);
        assert!(hidden(&index, "1.3").is_empty());
        let second = [
            ruling(31, 30, &old, Verdict::Removed),
            correction(32, 30, true, "A"),
        ];
        tell(&index, &second);
        assert_eq!(answered(&index, "1.3"), None);
        tell(&index, &[gone_again(&again), gone_again(&moved)]);
        assert!(hidden(&index, "1.3").is_empty());
        let record = index.snapshot().unwrap().hidden("1.3").unwrap().unwrap();
        assert_eq!(record.rulings.len(), 2, "rulings stay");
        // Withdrawn is for ever.
        let withdrawn = [
            ruling(41, 40, &old, Verdict::Withdrawn),
            correction(42, 40, true, "A"),
        ];
        tell(&index, &withdrawn);
        let mut late = again.clone();
        late.instance.sequence = 50;
        tell(&index, &[Change::Stored(late)]);
        assert_eq!(hidden(&index, "1.3"), [(50, Hid::Withdrawn { by: 40 })]);
        tell(&index, &[correction(51, 40, false, "A")]);
        assert_eq!(answered(&index, "1.3"), Some(50));
    }
}

/// Method: a conflict is settled for the second content, one from the console comes after that, and both are taken back.
#[test]
fn the_preferred_and_the_newest_are_answered_by_the_order_in_which_they_came() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let content = |sequence: u64, newest: bool| {
        let mut other = first.clone();
        other.instance.sequence = sequence;
        other.instance.copy.crc32 = sequence as u32;
        other.instance.copy.path = format!("{sequence}.dcm");
        other.instance.origin.newest = newest;
        other
    };
    let (second, console) = (content(2, false), content(20, true));
    for (_folder, index) in filled(&[first.clone(), second.clone()]) {
        assert_eq!(answered(&index, "1.3"), Some(1));
        tell(&index, &[ruling(11, 10, &second, Verdict::Preferred)]);
        assert_eq!(answered(&index, "1.3"), Some(1));
        tell(&index, &[correction(12, 10, true, "A")]);
        assert_eq!(answered(&index, "1.3"), Some(2));
        tell(&index, &[Change::Stored(console.clone())]);
        assert_eq!(answered(&index, "1.3"), Some(20));
        let preferred = [
            ruling(31, 30, &first, Verdict::Preferred),
            correction(32, 30, true, "A"),
        ];
        tell(&index, &preferred);
        assert_eq!(answered(&index, "1.3"), Some(1));
        let record = index
            .snapshot()
            .unwrap()
            .by_sop("1.3")
            .unwrap()
            .unwrap()
            .record;
        let others = record.others.iter().map(|other| other.sequence);
        assert_eq!(others.collect::<Vec<_>>(), [2, 20]);
        tell(&index, &[correction(33, 30, false, "A")]);
        assert_eq!(answered(&index, "1.3"), Some(20));
        tell(&index, &[gone_again(&console)]);
        assert_eq!(answered(&index, "1.3"), Some(2));
        // The same content again, as the newest now: what is told of it stays.
        let mut again = content(1, true);
        again.instance.copy.crc32 = first.instance.copy.crc32;
        again.instance.sequence = 40;
        tell(&index, &[Change::Stored(again.clone())]);
        assert_eq!(answered(&index, "1.3"), Some(1));
        tell(&index, &[gone_again(&again)]);
        assert_eq!(answered(&index, "1.3"), Some(2));
    }
}

/// Method: the same object comes back from a workstation after the amendment, which is then undone.
#[test]
fn an_amended_content_that_was_sent_by_others_too_stays_when_the_amendment_is_undone() {
    let old = stored(1, "1.1", "1.1.1", "1.3");
    let new = amended(&old, 11, 10);
    let mut sent = new.clone();
    sent.instance.sequence = 20;
    sent.instance.origin = Origin::default();
    sent.instance.copy.path = "sent.dcm".to_owned();
    for (_folder, index) in filled(&[old.clone(), new.clone()]) {
        let lines = [
            ruling(12, 10, &old, Verdict::Withdrawn),
            correction(13, 10, true, "A"),
        ];
        tell(&index, &lines);
        tell(&index, &[Change::Stored(sent.clone())]);
        let record = index
            .snapshot()
            .unwrap()
            .by_sop("1.3")
            .unwrap()
            .unwrap()
            .record;
        assert_eq!((record.sequence, record.copies.len()), (11, 2));
        tell(&index, &[correction(14, 10, false, "A")]);
        let record = index
            .snapshot()
            .unwrap()
            .by_sop("1.3")
            .unwrap()
            .unwrap()
            .record;
        assert_eq!((record.sequence, record.others.len()), (1, 1));
        let other = &record.others[0];
        assert_eq!(
            (other.sequence, other.origin.by, other.copies.len()),
            (20, 0, 2)
        );
    }
}

/// Method: hidden copies on two volumes turn bad, go, and are forgotten with their volume.
#[test]
fn hidden_copies_are_known_by_their_volume() {
    let all: Vec<Stored> = (1..5)
        .map(|number| stored(number, "1.1", "1.1.1", &format!("1.3.{number}")))
        .collect();
    let on_m = |stored: &Stored| {
        let mut copy = stored.clone();
        copy.instance.copy.volume_id = "M".to_owned();
        copy
    };
    for (_folder, index) in filled(&all) {
        apply(&index, all[..3].iter().map(on_m).collect());
        let mut lines: Vec<Change> = all[1..]
            .iter()
            .map(|stored| ruling(11, 10, stored, Verdict::Removed))
            .collect();
        lines.extend(["A", "M"].map(|volume_id| correction(12, 10, true, volume_id)));
        tell(&index, &lines);
        let listed = |volume_id: &str, after: Option<&str>| {
            let mut sops = Vec::new();
            let add = &mut |sop, _| {
                sops.push(sop);
                ControlFlow::Continue(())
            };
            let snapshot = index.snapshot().unwrap();
            snapshot.hidden_on(volume_id, after, add).unwrap();
            sops
        };
        assert_eq!(listed("A", None), ["1.3.2", "1.3.3", "1.3.4"]);
        assert_eq!(listed("A", Some("1.3.2")), ["1.3.3", "1.3.4"]);
        assert_eq!(listed("A", Some("1.3.25")), ["1.3.3", "1.3.4"]);
        assert_eq!(listed("M", None), ["1.3.2", "1.3.3"]);
        let counted = |volume_id: &str| {
            let totals = index.snapshot().unwrap().volume_totals(volume_id).unwrap();
            totals.instances_count
        };
        assert_eq!((counted("A"), counted("M")), (1, 1));
        tell(&index, &[bad_again(&on_m(&all[1]))]);
        let kept = index.snapshot().unwrap().hidden("1.3.2").unwrap().unwrap();
        let bad: Vec<bool> = kept.contents[0]
            .copies
            .iter()
            .map(|copy| copy.bad)
            .collect();
        assert_eq!(bad, [false, true]);
        tell(
            &index,
            &[Change::Stored(on_m(&all[1])), gone_again(&all[2])],
        );
        assert_eq!(listed("A", None), ["1.3.2", "1.3.4"]);

        let said_by = || {
            let snapshot = index.snapshot().unwrap();
            snapshot.correction(10).unwrap().unwrap().volume_ids
        };
        assert_eq!(said_by(), ["A", "M"]);
        while index.forget_some("M", 1).unwrap() {
            assert_counts_are_exact(&index);
        }
        assert_eq!((said_by(), counted("M")), (vec!["A".to_owned()], 0));
        assert!(listed("M", None).is_empty());
        let of_removal = |after: Option<&str>| {
            let mut sops = Vec::new();
            let add = &mut |sop| {
                sops.push(sop);
                ControlFlow::Continue(())
            };
            let snapshot = index.snapshot().unwrap();
            snapshot.instances_of_correction(10, after, add).unwrap();
            sops
        };
        assert_eq!(
            of_removal(None),
            ["1.3.2", "1.3.3", "1.3.4"],
            "rulings stay"
        );
        assert_eq!(of_removal(Some("1.3.2")), ["1.3.3", "1.3.4"]);
        assert!(hidden(&index, "1.3.3").is_empty());
    }
}

/// Method: the lines of a correction in every order, said by other volumes each.
#[test]
fn of_a_correction_the_first_and_the_last_line_are_told() {
    let lines = [
        correction(12, 10, true, "A"),
        correction(12, 10, true, "B"),
        correction(20, 10, false, "A"),
        correction(30, 10, true, "A"),
        correction(30, 10, true, "C"),
    ];
    for rotation in 0..lines.len() {
        for backwards in [false, true] {
            let mut order = lines.clone();
            order.rotate_left(rotation);
            if backwards {
                order.reverse();
            }
            for (_folder, index) in filled(&[]) {
                for line in &order {
                    tell(&index, std::slice::from_ref(line));
                }
                let snapshot = index.snapshot().unwrap();
                let record = snapshot.correction(10).unwrap().unwrap();
                assert!(record.in_effect);
                assert_eq!((record.first_sequence, record.sequence), (12, 30));
                assert_eq!(record.facts.why, "because of 12");
                assert_eq!(
                    record.last.map(|last| last.why).as_deref(),
                    Some("because of 30")
                );
                assert_eq!(record.volume_ids, ["A"]);
                assert_eq!(snapshot.correction(11).unwrap(), None);
            }
        }
    }
    for (_folder, index) in filled(&[]) {
        for number in [300, 2, 70_000, 1] {
            tell(&index, &[correction(80_000, number, true, "A")]);
        }
        let mut numbers = Vec::new();
        let add = &mut |record: CorrectionRecord| {
            assert_eq!(record.last, None);
            numbers.push(record.number);
            ControlFlow::Continue(())
        };
        index.snapshot().unwrap().corrections(add).unwrap();
        assert_eq!(numbers, [70_000, 300, 2, 1]);
    }
}

#[test]
fn an_instance_that_says_another_patient_is_listed_and_found_under_that() {
    let ordinary = stored(1, "1.1", "1.1.1", "1.3.1");
    let mut strange = stored(2, "1.1", "1.1.1", "1.3.2");
    strange
        .instance
        .values
        .insert(PATIENT_ID, "0815".to_owned());
    let (_folder, alone) = filled(std::slice::from_ref(&ordinary)).remove(0);
    for together in [true, false] {
        for (_folder, index) in filled(std::slice::from_ref(&ordinary)) {
            let listed = || {
                let mut sops = Vec::new();
                let add = &mut |entry: InstanceEntry| {
                    sops.push(entry.sop_instance_uid);
                    ControlFlow::Continue(())
                };
                index.snapshot().unwrap().with_others(add).unwrap();
                sops
            };
            let mut copy = strange.clone();
            copy.instance.copy.volume_id = "M".to_owned();
            let lines = [strange.clone(), copy.clone()].map(Change::Stored);
            if together {
                tell(&index, &lines);
            } else {
                tell(&index, &lines[..1]);
                tell(&index, &lines[1..]);
            }
            assert_eq!(listed(), ["1.3.2"]);
            for (id, sop) in [("4711", "1.3.1"), ("0815", "1.3.2")] {
                assert_eq!(study_uids(&index, &[(PATIENT_ID, id)]), ["1.1"]);
                let found = find(&index, Level::Instance, &[(PATIENT_ID, id)]);
                let told = found.iter().map(|one| &*one.sop_instance_uid);
                assert_eq!(told.collect::<Vec<_>>(), [sop]);
                assert_eq!(found[0].values[&PATIENT_ID], id);
            }
            tell(&index, &[gone_again(&strange), gone_again(&copy)]);
            assert!(listed().is_empty());
            assert!(study_uids(&index, &[(PATIENT_ID, "0815")]).is_empty());
            assert_eq!(everything(&index), everything(&alone));
        }
    }
}

/// Method: not a limit, a number to look at: `cargo test --release switch_rate -- --ignored --nocapture`. A study of
/// 20,000 is amended, taken back and removed; then statements come to an index that hides something.
#[test]
#[ignore = "measures"]
fn switch_rate() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        let root = "1.2.392.200036.9116.2.6.1.48.1214242831";
        let old: Vec<Stored> = (1..=20_000)
            .map(|number| {
                stored(
                    number,
                    root,
                    &format!("{root}.1"),
                    &format!("{root}.2.{number}"),
                )
            })
            .collect();
        apply(&index, old.clone());
        let lines: Vec<Change> = old
            .iter()
            .flat_map(|old| {
                let new = amended(old, old.instance.sequence + 100_000, 100_000);
                let ruling = ruling(200_000, 100_000, old, Verdict::Withdrawn);
                [Change::Stored(new), ruling]
            })
            .collect();
        let timed = |what: &str, changes: &[Change]| {
            let begun = Instant::now();
            index.apply(changes, &[]).unwrap();
            eprintln!("{engine:?}, {what}: {:?}", begun.elapsed());
        };
        timed("to be amended", &lines);
        timed("amended", &[correction(200_001, 100_000, true, "A")]);
        timed("taken back", &[correction(200_002, 100_000, false, "A")]);
        let mut removal: Vec<Change> = old
            .iter()
            .map(|old| ruling(300_001, 300_000, old, Verdict::Removed))
            .collect();
        removal.push(correction(300_002, 300_000, true, "A"));
        timed("removed", &removal);
        let others: Vec<Change> = (0..20_000)
            .map(|number| {
                let sop = format!("{root}.3.{number}");
                Change::Stored(stored(400_000 + number, "1.5", "1.5.1", &sop))
            })
            .collect();
        timed("20,000 others", &others);
    }
}

/// Method: the rules once more, in the plainest way: over statements that nothing takes back what is answered and hidden,
/// over all statements the date folder of studies.
pub fn assert_is_as_the_rules_say(index: &Index, left: &[Change], all: &[Change]) {
    let snapshot = index.snapshot().unwrap();
    let mut latest: BTreeMap<u64, &Correction> = BTreeMap::new();
    let mut rulings: BTreeSet<&Ruling> = BTreeSet::new();
    let mut contents: BTreeMap<(&str, ContentId), Vec<&Stored>> = BTreeMap::new();
    let mut studies: BTreeMap<&str, BTreeMap<u64, Vec<&Stored>>> = BTreeMap::new();
    for change in left {
        match change {
            Change::Correction(line) => {
                let kept = latest.entry(line.number).or_insert(line);
                if (line.sequence, line.in_effect) > (kept.sequence, kept.in_effect) {
                    *kept = line;
                }
            }
            Change::Ruling(ruling) => {
                rulings.insert(ruling);
            }
            Change::Stored(stored) => {
                let sop = stored.instance.sop_instance_uid.as_str();
                let key = (sop, content_of(stored));
                contents.entry(key).or_default().push(stored);
            }
            Change::Gone(_) | Change::Bad(_) | Change::Filled(_) => {}
        }
    }
    for change in all {
        if let Change::Stored(stored) = change {
            let study = studies.entry(&stored.study.study_instance_uid);
            let layer = study.or_default().entry(stored.instance.origin.by);
            layer.or_default().push(stored);
        }
    }
    let in_effect = |by: u64| by == 0 || latest.get(&by).is_some_and(|line| line.in_effect);
    for (number, line) in &latest {
        let record = snapshot.correction(*number).unwrap().unwrap();
        assert_eq!(
            (record.sequence, record.in_effect),
            (line.sequence, line.in_effect)
        );
    }
    // (rank, lowest sequence first) of what counts; the rest is hidden.
    let mut counting: BTreeMap<&str, Vec<(u64, std::cmp::Reverse<u64>)>> = BTreeMap::new();
    let mut hides: BTreeMap<&str, Vec<(u64, Hid)>> = BTreeMap::new();
    for ((sop, content), all) in &contents {
        let facts = |stored: &&Stored| stored.instance.sequence;
        let live = all.iter().copied();
        let live: Vec<&Stored> = live.filter(|s| in_effect(s.instance.origin.by)).collect();
        let Some(lowest) = live.iter().map(facts).min() else {
            let by = all.iter().map(|s| s.instance.origin.by).max().unwrap();
            let lowest = all.iter().map(facts).min().unwrap();
            hides
                .entry(sop)
                .or_default()
                .push((lowest, Hid::Unmade { by }));
            continue;
        };
        let highest = live.iter().map(facts).max().unwrap();
        let of_this = |ruling: &&&Ruling| {
            (ruling.sop_instance_uid.as_str(), &ruling.content) == (*sop, content)
                && in_effect(ruling.by)
        };
        let ruled: Vec<_> = rulings.iter().filter(of_this).collect();
        let withdrawn = ruled.iter().filter(|ruling| match ruling.verdict {
            Verdict::Withdrawn => true,
            Verdict::Removed => highest <= ruling.sequence,
            Verdict::Preferred => false,
        });
        if let Some(by) = withdrawn.map(|ruling| ruling.by).max() {
            hides
                .entry(sop)
                .or_default()
                .push((lowest, Hid::Withdrawn { by }));
            continue;
        }
        let preferred = ruled.iter().filter(|r| r.verdict == Verdict::Preferred);
        let newest = live.iter().filter(|s| s.instance.origin.newest);
        let rank = (live.iter().map(|s| s.instance.origin.by))
            .chain(newest.map(facts))
            .chain(preferred.map(|ruling| ruling.by))
            .max();
        let rank = (rank.unwrap(), std::cmp::Reverse(lowest));
        counting.entry(sop).or_default().push(rank);
    }
    let sops: BTreeSet<&str> = contents.keys().map(|(sop, _)| *sop).collect();
    for sop in sops {
        let entry = snapshot.by_sop(sop).unwrap();
        let told = entry.as_ref().map(|entry| entry.record.sequence);
        let counting = counting.remove(sop).unwrap_or_default();
        assert_eq!(told, counting.iter().max().map(|(_, lowest)| lowest.0));
        let others = entry.map_or(0, |entry| entry.record.others.len());
        assert_eq!(others, counting.len().saturating_sub(1));
        let mut expected = hides.remove(sop).unwrap_or_default();
        let mut found = hidden(index, sop);
        expected.sort_by_key(|(sequence, _)| *sequence);
        found.sort_by_key(|(sequence, _)| *sequence);
        assert_eq!(found.len(), expected.len());
        for hid in &expected {
            assert!(found.contains(hid), "{hid:?} in {found:?}");
        }
    }
    for (study, layers) in studies {
        let highest = layers.iter().rev().find(|(by, _)| in_effect(**by));
        let told = snapshot.study(study).unwrap();
        assert_eq!(told.is_some(), highest.is_some());
        if let (Some(told), Some((_, all))) = (told, highest) {
            let lowest = all
                .iter()
                .min_by_key(|stored| stored.instance.sequence)
                .unwrap();
            let same = |stored: &&&Stored| stored.instance.sequence == lowest.instance.sequence;
            let mut folders = all.iter().filter(same).map(|s| s.study.date_folder.clone());
            assert!(folders.any(|folder| folder == told.facts.date_folder));
        }
    }
}
