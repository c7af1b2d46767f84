//! The same statements give the same index, in whatever order and however often they come.

use proptest::prelude::*;

use super::*;

/// Numbers of corrections, low enough that lines with lower and higher sequence numbers abound.
pub const NUMBERS: [u64; 3] = [3, 8, 20];

/// No correction, or one of [`NUMBERS`].
fn by() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => prop::sample::select(NUMBERS.to_vec())]
}

/// Statements over few UIDs, so that copies, variants and conflicts abound. What a data set says follows from its
/// content, as in life. What a correction made may be of another study than what it was made of.
pub fn statement() -> impl Strategy<Value = Stored> {
    let newest = prop::bool::weighted(0.15);
    (0..3u32, 0..4u32, 0..3u32, 0..2u32, 0..3u32, by(), newest).prop_map(
        |(sop, content, volume, syntax, blanks, by, newest)| {
            let study = format!("1.{}", content % 3);
            let series = format!("1.{}.{}", content % 2, content % 3);
            let mut stored = stored(0, &study, &series, &format!("1.2.{sop}"));
            // Two first instances of a study on two days: the lower sequence chooses the folder.
            if blanks == 2 {
                Arc::make_mut(&mut stored.study).date_folder = format!("2026020{}", sop + 1);
            }
            study_values(&mut stored, &[(PATIENT_ID, &format!("P{blanks}"))]);
            if blanks == 0 {
                study_values(
                    &mut stored,
                    &[(ACCESSION_NUMBER, &format!("A{sop}")), (STUDY_DATE, "")],
                );
            }
            series_values(
                &mut stored,
                &[(MODALITY, ["CT", "MR", ""][blanks as usize])],
            );
            let instance = &mut stored.instance;
            instance.sop_class_uid = format!("1.2.840.{}", content % 2);
            instance.transfer_syntax = format!("1.2.840.10008.1.2.{syntax}");
            instance.values = values(&[(0x0020_0013, &(content / 2).to_string())]);
            instance.copy.crc32 = content;
            instance.copy.size_bytes = 1400 + u64::from(content);
            instance.copy.volume_id = format!("V{volume}");
            if content % 2 == 1 {
                instance.copy.path = format!("1.2.{sop}~{content}.dcm");
            }
            instance.origin.by = by;
            instance.origin.newest = newest;
            if blanks == 1 {
                instance.values.insert(PATIENT_ID, format!("P{content}"));
            }
            if by != 0 {
                let series = Arc::make_mut(&mut stored.series);
                series.folder = format!("202603{by:02}/CT/{content}");
                stored.instance.copy.path = format!("{by}/{}", stored.instance.copy.path);
                study_values(&mut stored, &[(STUDY_TIME, ""), (PATIENT_ID, "amended")]);
            }
            stored
        },
    )
}

pub fn ruling_on(stored: &Stored, sequence: u64, by: usize, verdict: usize) -> Change {
    let verdicts = [Verdict::Withdrawn, Verdict::Removed, Verdict::Preferred];
    corrections::ruling(sequence, NUMBERS[by], stored, verdicts[verdict])
}

/// Rulings on contents of statements, and lines that put corrections in effect and out of it.
fn of_corrections() -> impl Strategy<Value = Vec<(usize, usize, usize, bool)>> {
    prop::collection::vec(
        (0..24usize, 0..NUMBERS.len(), 0..5usize, any::<bool>()),
        0..10,
    )
}

type Ordered = (Vec<Change>, Vec<Change>, Vec<usize>);

fn statements_and_orders() -> impl Strategy<Value = Ordered> {
    (prop::collection::vec(statement(), 1..24), of_corrections())
        .prop_map(|(mut all, corrections)| {
            for (sequence, stored) in all.iter_mut().enumerate() {
                stored.instance.sequence = sequence as u64 + 1;
            }
            let mut changes: Vec<Change> = all.iter().cloned().map(Change::Stored).collect();
            for (place, (at, number, kind, in_effect)) in corrections.into_iter().enumerate() {
                let sequence = place as u64 * 3;
                changes.push(match kind {
                    0..3 => ruling_on(&all[at % all.len()], sequence, number, kind),
                    _ => {
                        let volume_id = format!("V{}", at % 3);
                        corrections::correction(sequence, NUMBERS[number], in_effect, &volume_id)
                    }
                });
            }
            changes
        })
        .prop_flat_map(|all| {
            // Some come twice.
            let again: Vec<Change> = all.iter().step_by(3).cloned().collect();
            let shuffled = Just([all.clone(), again].concat()).prop_shuffle();
            (Just(all), shuffled, prop::collection::vec(1..6usize, 1..8))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Method: the same statements once in order and in one batch, once shuffled, some twice, in small batches; every
    /// byte of the two indexes is compared, the counts with the records, and what is answered with what the rules say of
    /// all the statements at once.
    #[test]
    fn the_order_of_statements_makes_no_difference((ordered, shuffled, sizes) in statements_and_orders()) {
        for engine in ENGINES {
            let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
            let index = Index::open(folders[0].path(), engine).unwrap();
            index.apply(&ordered, &[]).unwrap();
            let other = Index::open(folders[1].path(), engine).unwrap();
            let mut rest = shuffled.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (batch, after) = rest.split_at((*size).min(rest.len()));
                other.apply(batch, &[]).unwrap();
                rest = after;
            }
            prop_assert_eq!(everything(&index), everything(&other));
            assert_counts_are_exact(&index);
            corrections::assert_is_as_the_rules_say(&index, &ordered, &ordered);
            // And everything again changes nothing.
            other.apply(&shuffled, &[]).unwrap();
            prop_assert_eq!(everything(&index), everything(&other));
        }
    }
}
