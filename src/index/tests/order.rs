//! The same statements give the same index, in whatever order and however often they come.

use proptest::prelude::*;

use super::*;

/// Statements over few UIDs, so that copies, variants and conflicts abound. What a data set says follows from its
/// content, as in life.
pub fn statement() -> impl Strategy<Value = Stored> {
    (0..3u32, 0..4u32, 0..3u32, 0..2u32, 0..3u32).prop_map(
        |(sop, content, volume, syntax, blanks)| {
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
            stored
        },
    )
}

fn statements_and_orders() -> impl Strategy<Value = (Vec<Stored>, Vec<Stored>, Vec<usize>)> {
    prop::collection::vec(statement(), 1..24)
        .prop_map(|mut all| {
            for (sequence, stored) in all.iter_mut().enumerate() {
                stored.instance.sequence = sequence as u64 + 1;
            }
            all
        })
        .prop_flat_map(|all| {
            // Some come twice.
            let again: Vec<Stored> = all.iter().step_by(3).cloned().collect();
            let shuffled = Just([all.clone(), again].concat()).prop_shuffle();
            (Just(all), shuffled, prop::collection::vec(1..6usize, 1..8))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Method: the same statements once in order and in one batch, once shuffled, some twice, in small batches; every
    /// byte of the two indexes is compared, and the counts with the records.
    #[test]
    fn the_order_of_statements_makes_no_difference((ordered, shuffled, sizes) in statements_and_orders()) {
        for (folder, index) in filled(&ordered) {
            let other_folder = tempfile::tempdir().unwrap();
            let engine = if folder.path().join("index.redb").exists() { Engine::Redb } else { Engine::Sled };
            let other = Index::open(other_folder.path(), engine).unwrap();
            let mut rest = shuffled.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (batch, after) = rest.split_at((*size).min(rest.len()));
                apply(&other, batch.to_vec());
                rest = after;
            }
            prop_assert_eq!(everything(&index), everything(&other));
            assert_counts_are_exact(&index);
            // And everything again changes nothing.
            apply(&other, shuffled.clone());
            prop_assert_eq!(everything(&index), everything(&other));
        }
    }
}
