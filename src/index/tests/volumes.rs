//! What is on which volume.

use super::*;

/// One instance of each study on volume A, but for the third of every four: that is on B.
fn studies(count: u64) -> Vec<Stored> {
    let one = |number: u64| {
        let study = format!("1.5.{number}");
        let mut one = stored(
            number + 1,
            &study,
            &format!("{study}.1"),
            &format!("{study}.1.1"),
        );
        Arc::make_mut(&mut one.study).date_folder = format!("2026{:02}10", number % 12 + 1);
        if number % 4 == 2 {
            one.instance.copy.volume_id = "B".to_owned();
        }
        one
    };
    (0..count).map(one).collect()
}

fn totals(index: &Index, volume_id: &str) -> VolumeTotals {
    index.snapshot().unwrap().volume_totals(volume_id).unwrap()
}

fn listed(index: &Index, volume_id: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let mut sops = Vec::new();
    let add = &mut |entry: InstanceEntry| {
        sops.push(entry.sop_instance_uid);
        if sops.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    index
        .snapshot()
        .unwrap()
        .on_volume(volume_id, after, add)
        .unwrap();
    sops
}

#[test]
fn totals_of_a_volume_are_those_of_its_files() {
    let mut all = studies(8);
    Arc::make_mut(&mut all[0].study).date_folder = "00000000".to_owned();
    for (_folder, index) in filled(&all) {
        let a = VolumeTotals {
            instances_count: 6,
            bytes: 6 * 1400,
            studies_count: 6,
            oldest_date: Some("20260210".to_owned()),
            newest_date: Some("20260810".to_owned()),
        };
        assert_eq!(totals(&index, "A"), a);
        let b = VolumeTotals {
            instances_count: 2,
            bytes: 2 * 1400,
            studies_count: 2,
            oldest_date: Some("20260310".to_owned()),
            newest_date: Some("20260710".to_owned()),
        };
        assert_eq!(totals(&index, "B"), b);
        assert_eq!(totals(&index, "C"), VolumeTotals::default());
        // A conflict is a file more, not an instance more, and nothing on B is answered by it.
        let mut conflict = all[1].clone();
        conflict.instance.sequence = 100;
        conflict.instance.copy.crc32 = 99;
        conflict.instance.copy.path = "x.dcm".to_owned();
        conflict.instance.copy.volume_id = "B".to_owned();
        apply(&index, vec![conflict.clone()]);
        assert_eq!(totals(&index, "A"), a);
        let more = totals(&index, "B");
        assert_eq!(
            (more.instances_count, more.bytes, more.studies_count),
            (3, 3 * 1400, 3)
        );
        assert_eq!(more.oldest_date.as_deref(), Some("20260210"));
        index.apply(&[gone_again(&conflict)], &[]).unwrap();
        assert_eq!(totals(&index, "B"), b);
        assert_counts_are_exact(&index);
    }
}

/// Method: a study goes from A to C as a mover would do it: all copies first, then the lines that take back the files.
#[test]
fn a_study_that_moves_is_on_both_volumes_and_then_on_one() {
    let all = studies(4);
    let mut copy = all[0].clone();
    copy.instance.copy.volume_id = "C".to_owned();
    for (_folder, index) in filled(&all) {
        let count = |volume_id| totals(&index, volume_id).instances_count;
        apply(&index, vec![copy.clone()]);
        assert_eq!((count("A"), count("C")), (3, 1));
        index.apply(&[gone_again(&all[0])], &[]).unwrap();
        assert_eq!((count("A"), count("C")), (2, 1));
        assert_eq!(listed(&index, "C", None, 9), ["1.5.0.1.1"]);
        assert_eq!(listed(&index, "A", None, 9), ["1.5.1.1.1", "1.5.3.1.1"]);
        assert_counts_are_exact(&index);
    }
}

#[test]
fn a_walk_over_a_volume_goes_on_after_a_study() {
    // More than are taken from the engine at once, and a study of an odd UID.
    let mut all = studies(50);
    all.push(stored(1_000, "odd uid", "odd uid.1", "odd uid.1.1"));
    for (_folder, index) in filled(&all) {
        let whole = listed(&index, "A", None, usize::MAX);
        assert_eq!(whole.len(), 39);
        assert_eq!(whole.last().map(String::as_str), Some("odd uid.1.1"));
        let mut walked = Vec::new();
        loop {
            let after = walked.last().map(|sop: &String| sop.replace(".1.1", ""));
            let some = listed(&index, "A", after.as_deref(), 7);
            if some.is_empty() {
                break;
            }
            walked.extend(some);
        }
        assert_eq!(walked, whole);
        // A study that is not there (any more) still says where to go on.
        let after = listed(&index, "A", Some("1.5.2"), 1);
        assert_eq!(after, listed(&index, "A", Some("1.5.19.5"), 1));
    }
}

/// Method: not a limit, a number to look at: `cargo test --release volume_rate -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn volume_rate() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        for batch in studies(200_000).chunks(1024) {
            apply(&index, batch.to_vec());
        }
        index.checkpoint().unwrap();
        let begun = Instant::now();
        let counted = totals(&index, "A");
        let (read, begun) = (begun.elapsed(), Instant::now());
        let walked = listed(&index, "A", None, usize::MAX).len();
        eprintln!(
            "{engine:?}: totals of {} studies {read:?}, walk over {walked} instances {:?}",
            counted.studies_count,
            begun.elapsed()
        );
    }
}
