//! Copies that are gone: what is answered then, and that nothing of them stays.

use super::*;

/// Everything about instances, studies left empty aside.
fn instances(index: &Index) -> Vec<String> {
    let tables = [
        "Instance ",
        "Sop ",
        "Other ",
        "Hidden ",
        "CorrectionInstance ",
    ];
    let mut all = everything(index);
    all.retain(|line| tables.iter().any(|table| line.starts_with(table)));
    all
}

fn by_sop(index: &Index, sop: &str) -> Option<InstanceEntry> {
    index.snapshot().unwrap().by_sop(sop).unwrap()
}

#[test]
fn the_last_copy_takes_the_instance_with_it() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let last = stored(2, "1.2", "1.2.1", "1.4");
    for (_folder, index) in filled(&[first.clone(), last.clone()]) {
        index.apply(&[gone_again(&first)], &[]).unwrap();
        assert_eq!(by_sop(&index, "1.3"), None);
        assert_eq!(study_uids(&index, &[]), ["1.2"]);
        assert_eq!(study_uids(&index, &[(PATIENT_ID, "4711")]), ["1.2"]);
        let snapshot = index.snapshot().unwrap();
        let expected = Totals {
            studies: 1,
            series: 1,
            instances: 1,
            bytes: 1000,
            ..Totals::default()
        };
        assert_eq!(snapshot.totals().unwrap(), expected);
        // Later lines of the same segment lean on what the first said of its study and series.
        let study = snapshot.study("1.1").unwrap().unwrap();
        assert_eq!(
            (study.instances_count, study.series_count, study.bytes),
            (0, 0, 0)
        );
        assert!(study.modalities.is_empty() && study.sop_classes.is_empty());
        assert_eq!(
            snapshot
                .series("1.1", "1.1.1")
                .unwrap()
                .unwrap()
                .instances_count,
            0
        );
        assert_counts_are_exact(&index);

        index.apply(&[gone_again(&last)], &[]).unwrap();
        assert_eq!(
            index.snapshot().unwrap().totals().unwrap(),
            Totals::default()
        );
        assert!(instances(&index).is_empty());

        apply(&index, vec![first.clone()]);
        assert_eq!(study_uids(&index, &[]), ["1.1"]);
        assert_counts_are_exact(&index);
    }
}

#[test]
fn one_of_two_copies_leaves_the_other() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut copy = first.clone();
    copy.instance.copy.volume_id = "B".to_owned();
    for (_folder, index) in filled(&[first.clone(), copy.clone()]) {
        let expected = &filled(std::slice::from_ref(&copy))[0].1;
        index.apply(&[gone_again(&first)], &[]).unwrap();
        assert_eq!(instances(&index), instances(expected));
        assert_counts_are_exact(&index);
    }
}

/// Method: a content in another syntax and one in another study wait behind the answered one, which then goes.
#[test]
fn the_best_of_the_others_takes_the_place_of_the_answered_content() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut variant = stored(2, "1.1", "1.1.1", "1.3");
    variant.instance.transfer_syntax = "1.2.840.10008.1.2.4.90".to_owned();
    variant.instance.copy.crc32 = 9;
    variant.instance.copy.path = "variant.dcm".to_owned();
    let mut conflict = stored(3, "1.2", "1.2.1", "1.3");
    conflict.instance.copy.crc32 = 10;
    conflict.instance.copy.path = "conflict.dcm".to_owned();
    let all = [first, variant, conflict];
    for (_folder, index) in filled(&all) {
        for (left, expected) in [(0, (1, 0, 1)), (1, (1, 0, 0)), (2, (0, 0, 0))] {
            index.apply(&[gone_again(&all[left])], &[]).unwrap();
            let totals = index.snapshot().unwrap().totals().unwrap();
            assert_eq!(
                (totals.instances, totals.variants, totals.conflicts),
                expected
            );
            let answered = by_sop(&index, "1.3").map(|entry| entry.record.sequence);
            assert_eq!(
                answered,
                all.get(left + 1).map(|stored| stored.instance.sequence)
            );
            let rest = &filled(&all[left + 1..])[0].1;
            assert_eq!(instances(&index), instances(rest));
            assert_counts_are_exact(&index);
        }
    }
}

#[test]
fn another_content_that_goes_leaves_the_answered_one() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut conflict = stored(2, "1.2", "1.2.1", "1.3");
    conflict.instance.copy.crc32 = 10;
    conflict.instance.copy.path = "conflict.dcm".to_owned();
    for (_folder, index) in filled(&[first.clone(), conflict.clone()]) {
        index.apply(&[gone_again(&conflict)], &[]).unwrap();
        let expected = &filled(std::slice::from_ref(&first))[0].1;
        assert_eq!(instances(&index), instances(expected));
        assert_counts_are_exact(&index);
    }
}

#[test]
fn a_copy_that_is_not_known_changes_nothing_when_it_goes() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let path = first.instance.copy.path.clone();
    for (_folder, index) in filled(std::slice::from_ref(&first)) {
        let before = everything(&index);
        for change in [
            gone("1.3", "B", &path),
            gone("1.3", "A", "other.dcm"),
            gone("1.4", "A", &path),
        ] {
            index.apply(&[change], &[]).unwrap();
            assert_eq!(everything(&index), before);
        }
    }
}

/// Method: each row is one batch; the index after it is that of the statements that are left.
#[test]
fn a_batch_may_store_and_lose_the_same_file() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut again = first.clone();
    again.instance.sequence = 5;
    let store = |stored: &Stored| Change::Stored(stored.clone());
    let lose = gone_again(&first);
    let unknown = gone("1.3", "B", "other.dcm");
    let rows = [
        (vec![store(&first), lose.clone()], vec![]),
        (vec![lose.clone(), store(&first)], vec![first.clone()]),
        (
            vec![store(&first), lose.clone(), store(&again)],
            vec![again.clone()],
        ),
        (
            vec![store(&first), unknown, store(&again)],
            vec![first.clone(), again.clone()],
        ),
        (
            vec![store(&first), lose.clone(), lose.clone(), store(&again)],
            vec![again.clone()],
        ),
        (
            vec![store(&first), lose.clone(), store(&again), lose],
            vec![],
        ),
    ];
    for engine in ENGINES {
        for (batch, left) in &rows {
            let folder = tempfile::tempdir().unwrap();
            let index = Index::open(folder.path(), engine).unwrap();
            let expected = &filled(left)[0].1;
            for _ in 0..2 {
                index.apply(batch, &[]).unwrap();
                assert_eq!(instances(&index), instances(expected), "{batch:?}");
                assert_counts_are_exact(&index);
            }
        }
    }
}

/// Method: the copy's line has a number of its own; whichever of the three lines comes last, the record is that of the
/// copy alone.
#[test]
fn what_was_said_of_a_copy_that_is_gone_is_not_told_any_more() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut copy = first.clone();
    copy.instance.sequence = 9;
    copy.instance.received = "2027-01-01T00:00:00Z".to_owned();
    copy.instance.copy.volume_id = "B".to_owned();
    let (store, lose) = (Change::Stored(first.clone()), gone_again(&first));
    let copied = Change::Stored(copy.clone());
    let expected = &filled(std::slice::from_ref(&copy))[0].1;
    for engine in ENGINES {
        for order in [
            [&store, &lose, &copied],
            [&store, &copied, &lose],
            [&copied, &store, &lose],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let index = Index::open(folder.path(), engine).unwrap();
            for change in order {
                index.apply(std::slice::from_ref(change), &[]).unwrap();
            }
            assert_eq!(instances(&index), instances(expected));
            let entry = by_sop(&index, "1.3").unwrap();
            assert_eq!(entry.record.received, "2027-01-01T00:00:00Z");
        }
    }
}

mod model {
    use proptest::prelude::*;

    use super::super::order::{NUMBERS, ruling_on, statement};
    use super::*;

    #[derive(Debug, Clone)]
    pub enum Line {
        Stored(Box<Stored>),
        /// The file of an earlier line, counted from the last one, is copied to another volume, under the same number
        /// or a new one.
        Copied(usize, u32, bool),
        /// The file of an earlier line, counted from the last one, is gone; beyond the first, a file unknown.
        Gone(usize),
        /// The same for a file that is bad.
        Bad(usize),
        /// A correction rules on the content of an earlier line: which one, its verdict, and the ledger.
        Ruled(usize, usize, usize, usize),
        /// A correction comes in effect or out of it; whether two ledgers say so.
        Correction(usize, bool, usize, bool),
    }

    pub fn line() -> impl Strategy<Value = Line> {
        prop_oneof![
            3 => statement().prop_map(|stored| Line::Stored(Box::new(stored))),
            1 => (0..6usize, 0..3u32, any::<bool>()).prop_map(|(back, to, new)| Line::Copied(back, to, new)),
            2 => (0..8usize).prop_map(Line::Gone),
            2 => (0..8usize).prop_map(Line::Bad),
            1 => (0..6usize, 0..3usize, 0..3usize, 0..3usize)
                .prop_map(|(back, by, verdict, to)| Line::Ruled(back, by, verdict, to)),
            1 => (0..3usize, prop::bool::weighted(0.7), 0..3usize, any::<bool>())
                .prop_map(|(number, is, to, twice)| Line::Correction(number, is, to, twice)),
        ]
    }

    /// A turn of reading: which ledger, how many lines, and from how far back (in quarters of what was read).
    type Turn = (usize, usize, Option<usize>);

    fn turn() -> impl Strategy<Value = Turn> {
        (0..3usize, 1..5usize, prop::option::weighted(0.2, 0..4usize))
    }

    /// The ledgers of the three volumes.
    pub fn ledgers(lines: Vec<Line>) -> [Vec<Change>; 3] {
        let mut ledgers: [Vec<Change>; 3] = Default::default();
        let mut seen: Vec<Stored> = Vec::new();
        let place = |stored: &Stored| {
            stored.instance.copy.volume_id[1..]
                .parse::<usize>()
                .unwrap()
        };
        for (number, line) in lines.into_iter().enumerate() {
            let sequence = number as u64 + 1;
            let earlier = |back: usize| seen.len().checked_sub(back + 1).map(|at| seen[at].clone());
            let stored = match line {
                Line::Ruled(back, by, verdict, to) => {
                    if let Some(stored) = earlier(back) {
                        ledgers[to].push(ruling_on(&stored, sequence, by, verdict));
                    }
                    continue;
                }
                Line::Correction(number, in_effect, to, twice) => {
                    for to in [to, (to + 1) % 3].into_iter().take(1 + usize::from(twice)) {
                        let volume_id = format!("V{to}");
                        let number = NUMBERS[number];
                        let line = corrections::correction(sequence, number, in_effect, &volume_id);
                        ledgers[to].push(line);
                    }
                    continue;
                }
                Line::Bad(back) => {
                    match earlier(back) {
                        Some(stored) => ledgers[place(&stored)].push(bad_again(&stored)),
                        None => ledgers[back % 3].push(bad_again(&stored_unknown())),
                    }
                    continue;
                }
                Line::Stored(mut stored) => {
                    stored.instance.sequence = sequence;
                    *stored
                }
                Line::Copied(back, to, new) => {
                    let Some(mut copy) = earlier(back) else {
                        continue;
                    };
                    copy.instance.copy.volume_id = format!("V{to}");
                    if new {
                        copy.instance.sequence = sequence;
                        copy.instance.received = format!("2027-01-01T00:00:{sequence:02}Z");
                    }
                    copy
                }
                Line::Gone(back) => {
                    match earlier(back) {
                        Some(stored) => ledgers[place(&stored)].push(gone_again(&stored)),
                        None => ledgers[back % 3].push(gone("1.2.0", "V0", "unknown.dcm")),
                    }
                    continue;
                }
            };
            ledgers[place(&stored)].push(Change::Stored(stored.clone()));
            seen.push(stored);
        }
        ledgers
    }

    fn stored_unknown() -> Stored {
        let mut unknown = stored(0, "1.0", "1.0.1", "1.2.0");
        unknown.instance.copy.path = "unknown.dcm".to_owned();
        unknown
    }

    /// The statements of ledgers that no later line takes back, then what is still bad.
    fn left(ledgers: &[Vec<Change>]) -> Vec<Change> {
        let (mut all, mut all_bad) = (Vec::new(), of_corrections(&ledgers.concat()));
        for ledger in ledgers {
            let (mut left, mut bad): (Vec<&Stored>, Vec<&Bad>) = Default::default();
            for change in ledger {
                match change {
                    Change::Stored(stored) => {
                        let instance = &stored.instance;
                        bad.retain(|bad| !is(instance, &bad.sop_instance_uid, &bad.path));
                        left.push(stored);
                    }
                    Change::Gone(gone) => {
                        let (sop, path) = (&gone.sop_instance_uid, &gone.path);
                        left.retain(|stored| !is(&stored.instance, sop, path));
                        bad.retain(|bad| (&bad.sop_instance_uid, &bad.path) != (sop, path));
                    }
                    Change::Bad(new) => bad.push(new),
                    Change::Ruling(_) | Change::Correction(_) | Change::Filled(_) => {}
                }
            }
            all.extend(left.into_iter().cloned().map(Change::Stored));
            all_bad.extend(bad.into_iter().cloned().map(Change::Bad));
        }
        all.extend(all_bad);
        all
    }

    /// What is said of corrections: nothing takes that back.
    fn of_corrections(changes: &[Change]) -> Vec<Change> {
        let mut changes = changes.to_vec();
        changes.retain(|change| matches!(change, Change::Ruling(_) | Change::Correction(_)));
        changes
    }

    fn is(instance: &InstanceFacts, sop_instance_uid: &str, path: &str) -> bool {
        (
            instance.sop_instance_uid.as_str(),
            instance.copy.path.as_str(),
        ) == (sop_instance_uid, path)
    }

    /// A new index that was told this in one batch.
    fn told(changes: &[Change], engine: Engine) -> (tempfile::TempDir, Index) {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        index.apply(changes, &[]).unwrap();
        (folder, index)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// Method: three ledgers are read one after the other in one batch; then, into another index, by turns and in
        /// small batches, again and again from earlier positions. Every byte of the two is compared; their instances
        /// with those of an index that was told only of files that are not gone; their counts with their records.
        #[test]
        fn ledgers_may_be_read_in_any_order_and_again_from_any_place(
            lines in prop::collection::vec(line(), 1..40),
            turns in prop::collection::vec(turn(), 0..40),
        ) {
            let ledgers = ledgers(lines);
            let left = left(&ledgers);
            for engine in ENGINES {
                let expected = told(&left, engine);
                let (_folder, index) = told(&ledgers.concat(), engine);
                prop_assert_eq!(instances(&index), instances(&expected.1));
                corrections::assert_is_as_the_rules_say(&index, &left, &ledgers.concat());
                prop_assert_eq!(index.snapshot().unwrap().totals().unwrap(), expected.1.snapshot().unwrap().totals().unwrap());
                assert_counts_are_exact(&index);

                let (_folder, other) = told(&[], engine);
                let mut read = [0; 3];
                let mut batch = Vec::new();
                for (volume, count, back) in &turns {
                    let ledger = &ledgers[*volume];
                    if let Some(quarters) = back {
                        read[*volume] = read[*volume] * quarters / 4;
                    }
                    let to = (read[*volume] + count).min(ledger.len());
                    batch.extend_from_slice(&ledger[read[*volume]..to]);
                    read[*volume] = to;
                    // Every other turn shares its batch with the next.
                    if count % 2 == 0 {
                        other.apply(&batch, &[]).unwrap();
                        batch.clear();
                    }
                }
                other.apply(&batch, &[]).unwrap();
                assert_counts_are_exact(&other);
                for (ledger, from) in ledgers.iter().zip(read) {
                    other.apply(&ledger[from..], &[]).unwrap();
                }
                prop_assert_eq!(everything(&index), everything(&other));
            }
        }

        /// Method: one of three ledgers is forgotten, some instances at a time, and in between the index is closed and
        /// opened. Instances and counts are compared with those of an index that was never told of its files; then the
        /// ledger is read again, after a part of it was forgotten and after the whole, and every byte is compared with
        /// the index before.
        #[test]
        fn a_forgotten_volume_leaves_what_the_other_ledgers_say(
            lines in prop::collection::vec(line(), 1..40),
            (volume, most) in (0..3usize, 1..4usize),
        ) {
            let ledgers = ledgers(lines);
            let volume_id = format!("V{volume}");
            let mut others = ledgers.clone();
            others[volume] = of_corrections(&others[volume]);
            for engine in ENGINES {
                let (_folder, expected) = told(&others.concat(), engine);
                let (folder, mut index) = told(&[], engine);
                let positions: Vec<_> = (0..3).map(|at| (format!("V{at}"), vec![at])).collect();
                index.apply(&ledgers.concat(), &positions).unwrap();
                let before = everything(&index);
                for calls in [1, usize::MAX] {
                    for _ in 0..calls {
                        let more = index.forget_some(&volume_id, most).unwrap();
                        prop_assert_eq!(index.snapshot().unwrap().position(&volume_id).unwrap(), None);
                        assert_counts_are_exact(&index);
                        if !more {
                            break;
                        }
                        index.close();
                        drop(index);
                        index = Index::open(folder.path(), engine).unwrap();
                    }
                    if calls > 1 {
                        let each = &mut |record: CorrectionRecord| {
                            assert!(!record.volume_ids.contains(&volume_id));
                            ControlFlow::Continue(())
                        };
                        index.snapshot().unwrap().corrections(each).unwrap();
                        prop_assert_eq!(instances(&index), instances(&expected));
                        let snapshots = [index.snapshot().unwrap(), expected.snapshot().unwrap()];
                        let [totals, without] = snapshots.map(|snapshot| snapshot.totals().unwrap());
                        prop_assert_eq!(totals, without);
                        prop_assert!(!index.forget_some(&volume_id, most).unwrap());
                    }
                    index.apply(&ledgers[volume], &positions[volume..=volume]).unwrap();
                    prop_assert_eq!(everything(&index), before.clone());
                }
            }
        }
    }
}

#[test]
fn the_highest_sequence_number_is_kept_when_its_instance_goes() {
    let (first, last) = (
        stored(1, "1.1", "1.1.1", "1.3"),
        stored(7, "1.1", "1.1.1", "1.4"),
    );
    for (_folder, index) in filled(&[last.clone(), first]) {
        let highest = || index.snapshot().unwrap().highest_sequence().unwrap();
        assert_eq!(highest(), 7);
        let gone = gone_again(&last);
        let of_gone = gone.sequence();
        index.apply(&[gone], &[]).unwrap();
        assert_eq!(highest(), of_gone.max(7));
    }
}
