//! How many good copies there are, and on which volumes.

use super::*;

/// What is told of every series must be what the instance records say.
pub fn assert_is_exact(snapshot: &Snapshot) {
    type Counts = BTreeMap<Vec<String>, (u64, u64)>;
    let mut expected: BTreeMap<(String, String), Counts> = BTreeMap::new();
    let each = &mut |entry: InstanceEntry| {
        let series = expected
            .entry((entry.study_instance_uid, entry.series_instance_uid))
            .or_default();
        let others = entry.record.others.iter().map(|other| &other.copies);
        for copies in std::iter::once(&entry.record.copies).chain(others) {
            let good: BTreeSet<&String> = copies
                .iter()
                .filter(|copy| !copy.bad)
                .map(|copy| &copy.volume_id)
                .collect();
            let counts = series
                .entry(good.into_iter().cloned().collect())
                .or_default();
            counts.0 += 1;
            counts.1 += copies[0].size_bytes - copies[0].data_offset;
        }
        ControlFlow::Continue(())
    };
    snapshot.all_instances(each).unwrap();
    let mut seen = 0;
    let mut studies = BTreeSet::new();
    let each = &mut |found: SeriesSpread| {
        let place = (&found.study_instance_uid, &found.series_instance_uid);
        assert_eq!(
            snapshot.spread_of(place.0, place.1).unwrap().as_ref(),
            Some(&found)
        );
        let record = snapshot.series(place.0, place.1).unwrap().unwrap();
        assert_eq!(found.folder, record.facts.folder);
        let modality = record.facts.values.get(&MODALITY);
        assert_eq!(found.modality, modality.cloned().unwrap_or_default());
        let counts: Counts = found
            .spread
            .iter()
            .map(|one| (one.volume_ids.clone(), (one.contents_count, one.bytes)))
            .collect();
        assert_eq!(counts.len(), found.spread.len());
        let place = (found.study_instance_uid, found.series_instance_uid);
        assert_eq!(counts, expected.remove(&place).unwrap_or_default());
        studies.insert(place.0);
        seen += 1;
        ControlFlow::Continue(())
    };
    snapshot.spread(each).unwrap();
    assert!(expected.is_empty(), "not told: {expected:?}");
    for study in studies {
        let each = &mut |_| {
            seen -= 1;
            ControlFlow::Continue(())
        };
        snapshot.series_of(&study, each).unwrap();
    }
    assert_eq!(seen, 0, "every series once");
}

fn on(stored: &Stored, volume_id: &str) -> Stored {
    let mut copy = stored.clone();
    copy.instance.copy.volume_id = volume_id.to_owned();
    copy
}

fn spread(index: &Index, study: &str, series: &str) -> Vec<(String, u64, u64)> {
    let found = index.snapshot().unwrap().spread_of(study, series).unwrap();
    let spread = found.unwrap().spread.into_iter();
    spread
        .map(|one| (one.volume_ids.join(" "), one.contents_count, one.bytes))
        .collect()
}

fn row(volume_ids: &str, contents: u64) -> (String, u64, u64) {
    (volume_ids.to_owned(), contents, contents * 1000)
}

/// Method: a series of three gets its second copies one by one; then a copy goes bad, its volume's file is stored again,
/// and both copies of another go bad.
#[test]
fn spread_says_which_contents_have_which_copies() {
    let all: Vec<Stored> = (1..4)
        .map(|number| stored(number, "1.1", "1.1.1", &format!("1.3.{number}")))
        .collect();
    for (_folder, index) in filled(&all) {
        let now = || spread(&index, "1.1", "1.1.1");
        assert_eq!(now(), [row("A", 3)]);
        apply(&index, vec![on(&all[0], "M"), on(&all[1], "M")]);
        assert_eq!(now(), [row("A", 1), row("A M", 2)]);
        let second = &all[1];
        index.apply(&[bad_again(second)], &[]).unwrap();
        assert_eq!(now(), [row("A", 1), row("A M", 1), row("M", 1)]);
        apply(&index, vec![second.clone()]);
        assert_eq!(now(), [row("A", 1), row("A M", 2)]);
        let both = [bad_again(second), bad_again(&on(second, "M"))];
        index.apply(&both, &[]).unwrap();
        assert_eq!(now(), [row("", 1), row("A", 1), row("A M", 1)]);
        // What is bad is listed all the same.
        let snapshot = index.snapshot().unwrap();
        assert_eq!(snapshot.volume_totals("M").unwrap().instances_count, 2);
        let entry = snapshot.by_sop("1.3.2").unwrap().unwrap();
        assert!(entry.record.copies.iter().all(|copy| copy.bad));
        assert_eq!(find(&index, Level::Instance, &[]).len(), 3);
        assert_counts_are_exact(&index);
        index.apply(&[gone_again(second)], &[]).unwrap();
        assert_eq!(now(), [row("", 1), row("A", 1), row("A M", 1)]);
        let last = gone_again(&on(second, "M"));
        index.apply(&[last], &[]).unwrap();
        assert_eq!(now(), [row("A", 1), row("A M", 1)]);
    }
}

#[test]
fn two_copies_on_one_volume_count_once_and_other_contents_count_too() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut second = first.clone();
    second.instance.copy.path = "x.dcm".to_owned();
    let mut conflict = stored(2, "1.2", "1.2.1", "1.3");
    conflict.instance.copy.crc32 = 9;
    conflict.instance.copy.path = "y.dcm".to_owned();
    for (_folder, index) in filled(&[first.clone(), second.clone(), on(&conflict, "B")]) {
        let expected = [row("A", 1), row("B", 1)];
        assert_eq!(spread(&index, "1.1", "1.1.1"), expected);
        assert_eq!(spread(&index, "1.2", "1.2.1"), []);
        index.apply(&[bad_again(&first)], &[]).unwrap();
        assert_eq!(spread(&index, "1.1", "1.1.1"), expected);
        // The conflict is answered when the others are gone, and counts where it is answered from.
        let lost = [gone_again(&first), gone_again(&second)];
        let touched = index.apply(&lost, &[]).unwrap();
        assert_eq!(spread(&index, "1.1", "1.1.1"), []);
        assert_eq!(spread(&index, "1.2", "1.2.1"), [row("B", 1)]);
        let touched: BTreeSet<_> = touched.iter().map(|(_, series)| series.as_str()).collect();
        assert_eq!(touched, BTreeSet::from(["1.1.1", "1.2.1"]));
        assert_counts_are_exact(&index);
    }
}

#[test]
fn a_file_that_is_not_known_cannot_be_bad() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    for (_folder, index) in filled(std::slice::from_ref(&first)) {
        let before = everything(&index);
        let unknown = stored(1, "1.1", "1.1.1", "1.4");
        let mut elsewhere = first.clone();
        elsewhere.instance.copy.path = "x.dcm".to_owned();
        for bad in [&unknown, &elsewhere, &on(&first, "B")] {
            assert_eq!(index.apply(&[bad_again(bad)], &[]).unwrap(), []);
            assert_eq!(everything(&index), before);
        }
    }
}

/// Method: each change is applied alone; what it names as touched is compared.
#[test]
fn a_series_is_touched_when_a_copy_comes_goes_or_is_bad() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    for (_folder, index) in filled(&[first.clone(), stored(2, "1.2", "1.2.1", "1.4")]) {
        let here = vec![("1.1".to_owned(), "1.1.1".to_owned())];
        let none = Vec::new();
        let store = |stored: &Stored| Change::Stored(stored.clone());
        for (change, expected) in [
            (store(&first), &none),
            (store(&on(&first, "M")), &here),
            (bad_again(&first), &here),
            (bad_again(&first), &none),
            (store(&first), &here),
            (gone_again(&on(&first, "M")), &here),
            (gone_again(&on(&first, "M")), &none),
            (store(&stored(3, "1.1", "1.1.1", "1.5")), &here),
        ] {
            assert_eq!(
                index.apply(std::slice::from_ref(&change), &[]).unwrap(),
                *expected,
                "{change:?}"
            );
        }
    }
}

/// Method: not a limit, a number to look at: `cargo test --release spread_rate -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn spread_rate() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        let one = |number: u64| {
            let study = format!("1.2.392.200036.9116.2.6.1.48.{number}");
            stored(
                number,
                &study,
                &format!("{study}.1"),
                &format!("{study}.1.1"),
            )
        };
        let all: Vec<Stored> = (0..200_000).map(one).collect();
        for batch in all.chunks(1024) {
            let mirrored = batch.iter().map(|stored| on(stored, "M"));
            apply(&index, mirrored.chain(batch.iter().cloned()).collect());
        }
        index.checkpoint().unwrap();
        let begun = Instant::now();
        let mut contents = 0;
        let each = &mut |found: SeriesSpread| {
            contents += found
                .spread
                .iter()
                .map(|one| one.contents_count)
                .sum::<u64>();
            ControlFlow::Continue(())
        };
        index.snapshot().unwrap().spread(each).unwrap();
        eprintln!(
            "{engine:?}: {contents} contents, a series each, {:?}",
            begun.elapsed()
        );
    }
}
