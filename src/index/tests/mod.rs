//! The index as the archive uses it, on both engines.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use dicom_core::VR;

use super::query::*;
use super::*;
use crate::dicom::Level;

mod availability;
mod corrections;
mod filled;
mod find;
mod glance;
mod gone;
mod identities;
mod order;
mod spread;
mod volumes;

const ENGINES: [Engine; 2] = [Engine::Redb, Engine::Sled];

fn values(pairs: &[(u32, &str)]) -> Values {
    pairs
        .iter()
        .map(|(tag, text)| (*tag, (*text).to_owned()))
        .collect()
}

fn stored(sequence: u64, study: &str, series: &str, sop: &str) -> Stored {
    Stored {
        study: Arc::new(StudyFacts {
            study_instance_uid: study.to_owned(),
            date_folder: "20260115".to_owned(),
            values: values(&[
                (PATIENT_NAME, "Yamada^Tarou=山田^太郎"),
                (PATIENT_ID, "4711"),
                (STUDY_DATE, "20260115"),
                (STUDY_TIME, "101500"),
            ]),
        }),
        series: Arc::new(SeriesFacts {
            series_instance_uid: series.to_owned(),
            study_instance_uid: study.to_owned(),
            folder: format!("20260115/CT/4711-{study}/{series}"),
            values: values(&[(MODALITY, "CT"), (SERIES_NUMBER, "1")]),
        }),
        instance: InstanceFacts {
            sequence,
            sop_instance_uid: sop.to_owned(),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
            values: values(&[(0x0020_0013, "1")]),
            received: "2026-01-15T10:20:00Z".to_owned(),
            source_ae_title: "CT1".to_owned(),
            origin: Default::default(),
            copy: Copy {
                volume_id: "A".to_owned(),
                path: format!("20260115/CT/{sop}.dcm"),
                data_offset: 400,
                size_bytes: 1400,
                crc32: 7,
                file_crc32: 8,
                bad: false,
            },
        },
    }
}

/// Changes values of the study; an empty one is a blank.
fn study_values(stored: &mut Stored, pairs: &[(u32, &str)]) {
    Arc::make_mut(&mut stored.study)
        .values
        .extend(values(pairs));
}

fn series_values(stored: &mut Stored, pairs: &[(u32, &str)]) {
    Arc::make_mut(&mut stored.series)
        .values
        .extend(values(pairs));
}

fn apply(index: &Index, all: Vec<Stored>) {
    let changes: Vec<Change> = all.into_iter().map(Change::Stored).collect();
    index.apply(&changes, &[]).unwrap();
}

fn gone(sop: &str, volume_id: &str, path: &str) -> Change {
    Change::Gone(Gone {
        sequence: 1_000,
        sop_instance_uid: sop.to_owned(),
        volume_id: volume_id.to_owned(),
        path: path.to_owned(),
    })
}

/// That the file of a statement is gone.
fn gone_again(stored: &Stored) -> Change {
    let copy = &stored.instance.copy;
    gone(
        &stored.instance.sop_instance_uid,
        &copy.volume_id,
        &copy.path,
    )
}

/// That the file of a statement is bad.
fn bad_again(stored: &Stored) -> Change {
    let copy = &stored.instance.copy;
    Change::Bad(Bad {
        sequence: 1_000,
        sop_instance_uid: stored.instance.sop_instance_uid.clone(),
        volume_id: copy.volume_id.clone(),
        path: copy.path.clone(),
    })
}

/// A new index of each engine, filled alike.
fn filled(all: &[Stored]) -> Vec<(tempfile::TempDir, Index)> {
    let open = |engine| {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        apply(&index, all.to_vec());
        (folder, index)
    };
    ENGINES.into_iter().map(open).collect()
}

fn find(index: &Index, level: Level, keys: &[(u32, &str)]) -> Vec<Match> {
    let keys = keys
        .iter()
        .map(|(tag, value)| Key::new(*tag, VR::UN, *value))
        .collect();
    let mut found = Vec::new();
    let collect = &mut |one| {
        found.push(one);
        ControlFlow::Continue(())
    };
    index
        .snapshot()
        .unwrap()
        .find(&Query::new(level, keys), collect)
        .unwrap();
    found
}

fn study_uids(index: &Index, keys: &[(u32, &str)]) -> Vec<String> {
    find(index, Level::Study, keys)
        .into_iter()
        .map(|found| found.study_instance_uid)
        .collect()
}

/// Everything that is known of instances: all tables, checked and as text, but for the highest sequence number ever seen,
/// which stays when what had it is gone.
fn everything(index: &Index) -> Vec<String> {
    let snapshot = index.snapshot().unwrap();
    let mut seen = Vec::new();
    for table in engine::TABLES {
        let add = &mut |key: &[u8], content: &[u8]| {
            if (table, key) == (Table::Meta, super::SEQUENCE_KEY) {
                return Ok(ControlFlow::Continue(()));
            }
            seen.push(format!("{table:?} {key:02x?} {content:02x?}"));
            Ok(ControlFlow::Continue(()))
        };
        snapshot
            .each(
                table,
                (Vec::new(), Vec::new()),
                engine::Direction::Forward,
                add,
            )
            .unwrap();
    }
    seen
}

/// Counts made anew from the instance records must be those that are kept.
fn assert_counts_are_exact(index: &Index) {
    let snapshot = index.snapshot().unwrap();
    let mut counted = Totals::default();
    let mut per_series = BTreeMap::new();
    let mut per_volume = BTreeMap::new();
    let each = &mut |entry: InstanceEntry| {
        counted.instances += 1;
        counted.bytes += entry.data_bytes();
        counted.variants += entry.others_count(OtherKind::Variant);
        counted.conflicts += entry.others_count(OtherKind::Conflict);
        assert_eq!(
            snapshot.by_sop(&entry.sop_instance_uid).unwrap().as_ref(),
            Some(&entry)
        );
        let record = &entry.record;
        let mut here: BTreeMap<&String, (u64, u64)> = BTreeMap::new();
        let others = record.others.iter().flat_map(|other| &other.copies);
        for (copy, answered) in std::iter::chain(
            record.copies.iter().map(|copy| (copy, 1)),
            others.map(|copy| (copy, 0)),
        ) {
            let (has, bytes) = here.entry(&copy.volume_id).or_default();
            *has |= answered;
            *bytes += copy.size_bytes;
        }
        for (volume_id, (answered, bytes)) in here {
            let place = (volume_id.clone(), entry.study_instance_uid.clone());
            let (instances, with_answered, all_bytes, sops) =
                per_volume
                    .entry(place)
                    .or_insert((0, 0, 0, BTreeSet::new()));
            *instances += 1;
            *with_answered += answered;
            *all_bytes += bytes;
            sops.insert(entry.sop_instance_uid.clone());
        }
        *per_series
            .entry((entry.study_instance_uid, entry.series_instance_uid))
            .or_insert(0) += 1;
        ControlFlow::Continue(())
    };
    snapshot.all_instances(each).unwrap();
    let mut per_study = BTreeMap::new();
    for ((study, series), count) in &per_series {
        assert_eq!(
            snapshot
                .series(study, series)
                .unwrap()
                .unwrap()
                .instances_count,
            *count
        );
        let counts = per_study.entry(study).or_insert((0, 0));
        counts.0 += 1;
        counts.1 += count;
    }
    counted.series = per_series.len() as u64;
    counted.studies = per_study.len() as u64;
    for (study, counts) in &per_study {
        let record = snapshot.study(study).unwrap().unwrap();
        assert_eq!((record.series_count, record.instances_count), *counts);
    }
    assert_eq!(snapshot.totals().unwrap(), counted);
    assert_volumes_are_exact(&snapshot, &per_volume);
    spread::assert_is_exact(&snapshot);
    find::assert_answers_count_exactly(index, &per_series);
    assert_eq!(
        find(index, Level::Instance, &[]).len() as u64,
        counted.instances
    );
}

/// (volume, study) → instances, those with an answered copy, bytes, SOP Instance UIDs.
type OnVolumes = BTreeMap<(String, String), (u64, u64, u64, BTreeSet<String>)>;

/// What is told of volumes must be what the instance records say.
fn assert_volumes_are_exact(snapshot: &Snapshot, expected: &OnVolumes) {
    let mut kept = OnVolumes::new();
    let all = (Vec::new(), Vec::new());
    let each = &mut |key: &[u8], content: &[u8]| {
        let (volume_id, rest) = key::unpack(key).unwrap();
        let (study, _) = key::unpack(rest).unwrap();
        let entry: super::volumes::KeptVolumeStudy = snapshot::decode(Table::VolumeStudy, content)?;
        let record = snapshot.study(&study)?.unwrap();
        assert_eq!(entry.date_folder, record.facts.date_folder);
        let there = entry.there;
        let counts = (
            there.instances,
            there.answered,
            there.bytes,
            BTreeSet::new(),
        );
        kept.insert((volume_id, study), counts);
        Ok(ControlFlow::Continue(()))
    };
    snapshot
        .each(Table::VolumeStudy, all, engine::Direction::Forward, each)
        .unwrap();
    for ((volume_id, study), counts) in &mut kept {
        let visit = &mut |entry: InstanceEntry| {
            if entry.study_instance_uid == *study {
                counts.3.insert(entry.sop_instance_uid);
            }
            ControlFlow::Continue(())
        };
        snapshot.on_volume(volume_id, None, visit).unwrap();
    }
    assert_eq!(kept, *expected);
    let volume_ids: BTreeSet<&String> = expected.keys().map(|(volume_id, _)| volume_id).collect();
    for volume_id in volume_ids {
        let totals = snapshot.volume_totals(volume_id).unwrap();
        let here = expected.iter().filter(|((id, _), _)| id == volume_id);
        let counts = here.fold((0, 0, 0), |sum, (_, counts)| {
            (sum.0 + counts.0, sum.1 + counts.2, sum.2 + 1)
        });
        assert_eq!(
            (totals.instances_count, totals.bytes, totals.studies_count),
            counts
        );
    }
}

/// Method: one row per way in which a second statement can differ.
#[test]
fn a_second_content_is_copy_variant_or_conflict() {
    type Edit = fn(&mut Stored);
    let rows: [(&str, Edit, Class); 8] = [
        ("same file", |_| {}, Class::SameCopy),
        (
            "other volume",
            |s| s.instance.copy.volume_id = "B".into(),
            Class::AnotherCopy,
        ),
        (
            "other path",
            |s| s.instance.copy.path = "x.dcm".into(),
            Class::AnotherCopy,
        ),
        (
            "other file meta",
            |s| {
                s.instance.copy.path = "x.dcm".into();
                s.instance.copy.data_offset += 50;
                s.instance.copy.size_bytes += 50;
            },
            Class::AnotherCopy,
        ),
        (
            "other syntax",
            |s| {
                s.instance.transfer_syntax = "1.2.840.10008.1.2.4.90".into();
                s.instance.copy.crc32 = 9;
            },
            Class::Variant,
        ),
        (
            "other bytes",
            |s| s.instance.copy.crc32 = 9,
            Class::Conflict,
        ),
        (
            "other syntax and values",
            |s| {
                s.instance.transfer_syntax = "1.2.840.10008.1.2.4.90".into();
                s.instance.values = values(&[(0x0020_0013, "2")]);
            },
            Class::Conflict,
        ),
        (
            "other syntax and series",
            |s| {
                s.instance.transfer_syntax = "1.2.840.10008.1.2.4.90".into();
                Arc::make_mut(&mut s.series).series_instance_uid = "1.9".into();
            },
            Class::Conflict,
        ),
    ];
    for (name, edit, expected) in rows {
        let first = stored(1, "1.1", "1.2", "1.3");
        let mut second = stored(2, "1.1", "1.2", "1.3");
        edit(&mut second);
        for (_folder, index) in filled(std::slice::from_ref(&first)) {
            let entry = index.snapshot().unwrap().by_sop("1.3").unwrap().unwrap();
            let (study, series) = (
                &second.study.study_instance_uid,
                &second.series.series_instance_uid,
            );
            assert_eq!(
                classify(&entry, study, series, &second.instance),
                expected,
                "{name}"
            );
            apply(&index, vec![second.clone()]);
            let snapshot = index.snapshot().unwrap();
            let record = snapshot.by_sop("1.3").unwrap().unwrap().record;
            let others: Vec<OtherKind> = record.others.iter().map(|other| other.kind).collect();
            let (copies, kinds) = match expected {
                Class::SameCopy => (1, vec![]),
                Class::AnotherCopy => (2, vec![]),
                Class::Variant => (1, vec![OtherKind::Variant]),
                Class::Conflict => (1, vec![OtherKind::Conflict]),
            };
            assert_eq!(
                (record.sequence, record.copies.len(), others),
                (1, copies, kinds),
                "{name}"
            );
            assert_eq!(snapshot.totals().unwrap().instances, 1, "{name}");
            let mut listed = 0;
            snapshot
                .with_others(&mut |_| {
                    listed += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(listed, record.others.len(), "{name}");
            assert_counts_are_exact(&index);
        }
    }
}

#[test]
fn a_study_whose_only_instance_is_answered_from_another_is_not_found() {
    let first = stored(1, "1.1", "1.1.1", "1.3");
    let mut conflict = stored(2, "1.2", "1.2.1", "1.3");
    conflict.instance.copy.crc32 = 9;
    for all in [vec![first.clone(), conflict.clone()], vec![conflict, first]] {
        for (_folder, index) in filled(&all[..1]) {
            apply(&index, all[1..].to_vec());
            for keys in [
                &[][..],
                &[(PATIENT_ID, "4711")],
                &[(STUDY_INSTANCE_UID, "1.1\\1.2")],
                &[(SOP_INSTANCE_UID, "1.3")],
            ] {
                assert_eq!(study_uids(&index, keys), ["1.1"], "{keys:?}");
            }
            assert_eq!(
                index
                    .snapshot()
                    .unwrap()
                    .study("1.2")
                    .unwrap()
                    .unwrap()
                    .instances_count,
                0
            );
        }
    }
}

#[test]
fn positions_and_records_are_there_after_checkpoint_and_reopening() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), engine).unwrap();
        let changes = [Change::Stored(stored(1, "1.1", "1.2", "1.3"))];
        index
            .apply(
                &changes,
                &[("A".to_owned(), vec![1]), ("B".to_owned(), vec![])],
            )
            .unwrap();
        index.apply(&[], &[("A".to_owned(), vec![2])]).unwrap();
        index.checkpoint().unwrap();
        let before = everything(&index);
        index.close();
        assert!(matches!(index.snapshot(), Err(IndexError::Closed)));
        drop(index);
        let index = Index::open(folder.path(), engine).unwrap();
        assert_eq!(everything(&index), before);
        let snapshot = index.snapshot().unwrap();
        assert_eq!(snapshot.position("A").unwrap(), Some(vec![2]));
        assert_eq!(snapshot.position("B").unwrap(), Some(vec![]));
        assert_eq!(snapshot.position("C").unwrap(), None);
    }
}

#[test]
fn a_snapshot_does_not_change() {
    for (_folder, index) in filled(&[stored(1, "1.1", "1.2", "1.3")]) {
        let snapshot = index.snapshot().unwrap();
        apply(
            &index,
            vec![
                stored(2, "1.1", "1.2", "1.4"),
                stored(3, "1.9", "1.9.1", "1.5"),
            ],
        );
        assert_eq!(snapshot.totals().unwrap().instances, 1);
        assert!(snapshot.by_sop("1.4").unwrap().is_none());
        assert_eq!(snapshot.study("1.1").unwrap().unwrap().instances_count, 1);
        assert_eq!(index.snapshot().unwrap().totals().unwrap().instances, 3);
    }
}

#[test]
fn another_schema_is_refused() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        drop(Index::open(folder.path(), engine).unwrap());
        let store = engine::open(folder.path(), engine).unwrap();
        let value = engine::seal(Table::Meta, SCHEMA_KEY, 99u32.to_le_bytes().to_vec());
        let write = engine::Write {
            table: Table::Meta,
            key: SCHEMA_KEY.to_vec(),
            value: Some(value),
        };
        store.commit(vec![write]).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        assert!(matches!(
            Index::open(folder.path(), engine),
            Err(IndexError::Schema { found: 99 })
        ));
        set_aside(folder.path()).unwrap();
        assert_eq!(
            Index::open(folder.path(), engine)
                .unwrap()
                .snapshot()
                .unwrap()
                .totals()
                .unwrap(),
            Totals::default()
        );
    }
}

/// Every regular file below a folder.
fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name();
    let files = walk
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).collect()
}

/// Method: bytes of the engine's files are overwritten, cut off or turned at many places; whatever the index then
/// does, it returns. What it answers without an error is what was put in.
#[test]
fn garbled_files_are_errors_or_harmless_never_the_end_of_the_process() {
    for engine in ENGINES {
        let pristine = tempfile::tempdir().unwrap();
        let index = Index::open(pristine.path(), engine).unwrap();
        for study in 0..20u64 {
            let instance = |number| {
                stored(
                    study * 100 + number,
                    &format!("1.{study}"),
                    &format!("1.{study}.1"),
                    &format!("1.{study}.1.{number}"),
                )
            };
            apply(&index, (0..20).map(instance).collect());
        }
        index.checkpoint().unwrap();
        index.close();
        drop(index);
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below.max(1) as u64) as usize
        };
        for round in 0..24 {
            let folder = tempfile::tempdir().unwrap();
            for file in files(pristine.path()) {
                let to = folder
                    .path()
                    .join(file.strip_prefix(pristine.path()).unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                let mut bytes = std::fs::read(&file).unwrap();
                let end = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                match round % 4 {
                    0 => (0..20).for_each(|_| {
                        if end > 0 {
                            bytes[next(end)] ^= 1 << next(8)
                        }
                    }),
                    1 => {
                        let at = next(end);
                        let to = (at + 4096).min(end);
                        bytes[at..to]
                            .iter_mut()
                            .for_each(|byte| *byte = next(256) as u8);
                    }
                    2 => bytes.truncate(next(end)),
                    _ => {
                        let at = next(end);
                        let to = (at + 512).min(end);
                        bytes[at..to].fill([0x00, 0xFF][next(2)]);
                    }
                }
                std::fs::write(&to, &bytes).unwrap();
            }
            let Ok(index) = Index::open(folder.path(), engine) else {
                continue;
            };
            if let Ok(snapshot) = index.snapshot() {
                let _ = snapshot.totals();
                for study in 0..20u64 {
                    if let Ok(Some(record)) = snapshot.study(&format!("1.{study}")) {
                        assert_eq!(record.facts.values[&PATIENT_ID], "4711");
                    }
                    let _ = snapshot.by_sop(&format!("1.{study}.1.3"));
                }
                let _ = snapshot.all_instances(&mut |_| ControlFlow::Continue(()));
                let query = Query::new(Level::Instance, Vec::new());
                let _ = snapshot.find(&query, &mut |_| ControlFlow::Continue(()));
            }
            let _ = index.apply(
                &[Change::Stored(stored(9_999, "1.3", "1.3.1", "1.3.1.77"))],
                &[],
            );
            let _ = index.checkpoint();
        }
    }
}

#[test]
fn after_a_failed_write_the_index_takes_no_more() {
    let (_folder, index) = filled(&[stored(1, "1.1", "1.2", "1.3")]).remove(0);
    let place = key::pack(&["1.1", "1.2"]);
    let write = engine::Write {
        table: Table::Series,
        key: place,
        value: Some(vec![1, 2, 3, 4, 5]),
    };
    index.store().unwrap().commit(vec![write]).unwrap();
    let change = [Change::Stored(stored(2, "1.1", "1.2", "1.4"))];
    assert!(matches!(
        index.apply(&change, &[]),
        Err(IndexError::Engine(EngineError::Damaged { .. }))
    ));
    assert!(matches!(
        index.apply(&change, &[]),
        Err(IndexError::FailedBefore { .. })
    ));
    assert!(index.snapshot().unwrap().series("1.1", "1.2").is_err());
}

/// Method: not a limit, a number to look at: `cargo test --release apply_rate -- --ignored --nocapture`. First one
/// large study, then studies of two instances; each once and once again as copies on another volume.
#[test]
#[ignore = "measures"]
fn apply_rate() {
    for engine in ENGINES {
        for per_study in [200_000, 2] {
            let folder = tempfile::tempdir().unwrap();
            let index = Index::open(folder.path(), engine).unwrap();
            for volume_id in ["A", "M"] {
                let rate = rate_of(&index, per_study, volume_id);
                let begun = Instant::now();
                index.checkpoint().unwrap();
                let checkpoint = begun.elapsed();
                eprintln!(
                    "{engine:?}, {per_study} a study, on {volume_id}: {rate:.0}/s, checkpoint {checkpoint:?}"
                );
            }
        }
    }
}

fn rate_of(index: &Index, per_study: u64, volume_id: &str) -> f64 {
    let root = "1.2.392.200036.9116.2.6.1.48";
    let mut first = stored(0, "", "", "");
    let change = |number: u64| {
        if number.is_multiple_of(per_study) || number.is_multiple_of(512) {
            let study = format!("{root}.1214242831.{}", number / per_study);
            let series = format!("{study}.{}", number / 512 % 2);
            first = stored(number, &study, &series, "");
            first.instance.copy.volume_id = volume_id.to_owned();
        }
        let mut one = first.clone();
        one.instance.sequence = number;
        one.instance.sop_instance_uid = format!("{root}.1214242831.{number}");
        Change::Stored(one)
    };
    let changes: Vec<Change> = (0..200_000).map(change).collect();
    let begun = Instant::now();
    for batch in changes.chunks(1024) {
        index
            .apply(batch, &[("A".to_owned(), vec![0; 16])])
            .unwrap();
    }
    changes.len() as f64 / begun.elapsed().as_secs_f64()
}
