//! Values that were found later.

use proptest::prelude::*;

use super::*;

/// Private, so that no archive keeps it without being told to.
const EXTRA: u32 = 0x0009_1010;
const OTHER_EXTRA: u32 = 0x0009_1011;

/// What happens to a file on a volume.
#[derive(Debug, Clone)]
enum Did {
    /// With the values that were kept then, and a word of its study.
    Stored {
        knew: bool,
        word: usize,
    },
    Looked {
        word: usize,
    },
    Gone,
}

const WORDS: [&str; 4] = ["", "b", "a", "c"];

/// The ledgers of two volumes: image and what was done, in order. Only what is there is looked at.
fn ledgers() -> impl Strategy<Value = [Vec<(u32, Did)>; 2]> {
    let did = prop_oneof![
        3 => (any::<bool>(), 0..4usize).prop_map(|(knew, word)| Did::Stored { knew, word }),
        3 => (0..4usize).prop_map(|word| Did::Looked { word }),
        1 => Just(Did::Gone),
    ];
    let ledger = prop::collection::vec((0..3u32, did), 1..14).prop_map(|mut ledger| {
        let mut there = [false; 3];
        ledger.retain(|(image, did)| {
            let there = &mut there[*image as usize];
            let was_there = *there;
            match did {
                Did::Stored { .. } => *there = true,
                Did::Looked { .. } => return was_there,
                Did::Gone => *there = false,
            }
            true
        });
        ledger
    });
    [ledger.clone(), ledger]
}

fn value_of(image: u32) -> &'static str {
    // The same bytes say the same, whichever copy is looked at.
    ["x", "", "y"][image as usize]
}

fn changes(volume: usize, ledger: &[(u32, Did)]) -> Vec<Change> {
    let volume_id = format!("V{volume}");
    let lines = ledger.iter().enumerate();
    lines
        .map(|(at, (image, did))| {
            let sop = format!("1.2.{image}");
            let (study, series) = ("1.0", format!("1.0.{}", image % 2));
            let mut stored = stored(u64::from(*image) + 1, study, &series, &sop);
            let path = stored.instance.copy.path.clone();
            stored.instance.copy.crc32 = *image;
            stored.instance.copy.volume_id = volume_id.clone();
            match did {
                Did::Stored { knew, word } => {
                    if *knew {
                        stored
                            .instance
                            .values
                            .insert(EXTRA, value_of(*image).to_owned());
                        study_values(&mut stored, &[(EXTRA, WORDS[*word])]);
                    }
                    Change::Stored(stored)
                }
                Did::Looked { word } => Change::Filled(Box::new(Filled {
                    sequence: 100 + 2 * at as u64 + volume as u64,
                    sop_instance_uid: sop,
                    volume_id: volume_id.clone(),
                    path,
                    study_instance_uid: study.to_owned(),
                    series_instance_uid: series,
                    by: 0,
                    study: values(&[(EXTRA, WORDS[*word])]),
                    series: values(&[(OTHER_EXTRA, WORDS[3 - *word])]),
                    values: values(&[(EXTRA, value_of(*image))]),
                })),
                Did::Gone => gone(&sop, &volume_id, &path),
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Method: the lines of two ledgers, one after the other, the other way round, and in turn with the end of each read
    /// once more; every byte of the indexes is compared.
    #[test]
    fn it_does_not_matter_when_a_value_was_found(all in ledgers(), again in 0..14usize) {
        let [one, two] = [changes(0, &all[0]), changes(1, &all[1])];
        let longest = one.len().max(two.len());
        let in_turn: Vec<Change> = (0..longest)
            .flat_map(|at| [one.get(at), two.get(at)])
            .flatten()
            .cloned()
            .collect();
        let ends = [&one[again.min(one.len())..], &two[again.min(two.len())..]].concat();
        let orders = [
            vec![[one.clone(), two.clone()].concat()],
            vec![two.clone(), one.clone()],
            in_turn.chunks(3).map(<[Change]>::to_vec).chain([ends]).collect(),
        ];
        for engine in ENGINES {
            let mut first = None;
            for batches in &orders {
                let folder = tempfile::tempdir().unwrap();
                let index = Index::open(folder.path(), engine).unwrap();
                for batch in batches {
                    index.apply(batch, &[]).unwrap();
                }
                assert_counts_are_exact(&index);
                let bytes = everything(&index);
                prop_assert_eq!(first.get_or_insert_with(|| bytes.clone()), &bytes);
            }
        }
    }
}

/// Method: an image and its copy, of which one is looked at; a second image that says more; a line about a file that nobody
/// stored.
#[test]
fn a_value_found_in_one_copy_is_that_of_the_image() {
    let first = stored(1, "1.0", "1.0.1", "1.2.1");
    let mut copy = first.clone();
    copy.instance.copy.volume_id = "B".to_owned();
    let second = stored(2, "1.0", "1.0.1", "1.2.2");
    for (_folder, index) in filled(&[first.clone(), copy, second.clone()]) {
        let look = |stored: &Stored, sequence: u64, text: &str| {
            Change::Filled(Box::new(Filled {
                sequence,
                sop_instance_uid: stored.instance.sop_instance_uid.clone(),
                volume_id: stored.instance.copy.volume_id.clone(),
                path: stored.instance.copy.path.clone(),
                study_instance_uid: "1.0".to_owned(),
                series_instance_uid: "1.0.1".to_owned(),
                by: 0,
                study: values(&[(EXTRA, text)]),
                series: values(&[(EXTRA, text)]),
                values: values(&[(EXTRA, text)]),
            }))
        };
        let told = || {
            let snapshot = index.snapshot().unwrap();
            let of = |values: &Values| values.get(&EXTRA).cloned();
            [
                of(&snapshot.study("1.0").unwrap().unwrap().facts.values),
                of(&snapshot
                    .series("1.0", "1.0.1")
                    .unwrap()
                    .unwrap()
                    .facts
                    .values),
                of(&snapshot.by_sop("1.2.1").unwrap().unwrap().record.values),
                of(&snapshot.by_sop("1.2.2").unwrap().unwrap().record.values),
            ]
        };
        let texts = |texts: [Option<&str>; 4]| texts.map(|text| text.map(str::to_owned));
        assert_eq!(told(), texts([None; 4]));
        index.apply(&[look(&first, 10, "")], &[]).unwrap();
        assert_eq!(told(), texts([Some(""), Some(""), Some(""), None]));
        let mut nowhere = second.clone();
        nowhere.instance.copy.path = "nowhere.dcm".to_owned();
        index.apply(&[look(&nowhere, 11, "no")], &[]).unwrap();
        assert_eq!(told(), texts([Some(""), Some(""), Some(""), None]));
        index.apply(&[look(&second, 12, "more")], &[]).unwrap();
        index.apply(&[look(&second, 13, "later")], &[]).unwrap();
        assert_eq!(
            told(),
            texts([Some("more"), Some("more"), Some(""), Some("more")])
        );
        // Another folder or an earlier number does not come from it.
        let study = index.snapshot().unwrap().study("1.0").unwrap().unwrap();
        assert_eq!((study.sequence, &*study.facts.date_folder), (1, "20260115"));
        assert_counts_are_exact(&index);
    }
}
