//! Every promise of [`Store`] and [`Reader`], held to on each engine alike.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Entry = (Vec<u8>, Vec<u8>);

const ENGINES: [Engine; 2] = [Engine::Redb, Engine::Sled];

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Tables next to each other in sled's tree, the first and the last.
const USED: [Table; 4] = [Table::Meta, Table::Study, Table::Series, Table::NameWord];

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>),
    Checkpoint,
    Reopen,
    /// Keep a reader of this moment and compare it at the end.
    Hold,
    Range {
        table: usize,
        from: Vec<u8>,
        to: Vec<u8>,
        backward: bool,
        limit: usize,
    },
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop::sample::select(vec![0u8, 1, 2, 0x61, 0xFE, 0xFF]),
        0..4,
    )
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20));
    prop_oneof![
        6 => prop::collection::vec((0..USED.len(), key(), value), 1..30).prop_map(Step::Commit),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        2 => Just(Step::Hold),
        6 => (0..USED.len(), key(), key(), any::<bool>(), 1..50usize).prop_map(|(table, from, to, backward, limit)| {
            Step::Range { table, from, to, backward, limit }
        }),
    ]
}

fn expected(
    model: &Model,
    table: Table,
    from: &[u8],
    to: &[u8],
    backward: bool,
    limit: usize,
) -> Vec<Entry> {
    let inside = model.iter().filter(|((kept, key), _)| {
        *kept == table && key.as_slice() >= from && (to.is_empty() || key.as_slice() < to)
    });
    let mut entries: Vec<Entry> = inside
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    if backward {
        entries.reverse();
    }
    entries.truncate(limit);
    entries
}

fn listed(entries: &Entries) -> Vec<Entry> {
    let all = (0..entries.len()).filter_map(|at| entries.get(at));
    all.map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

fn whole(reader: &dyn Reader) -> Model {
    let mut found = Model::new();
    for table in TABLES {
        let entries = reader
            .range(table, &[], &[], Direction::Forward, usize::MAX)
            .unwrap();
        let backward = reader
            .range(table, &[], &[], Direction::Backward, usize::MAX)
            .unwrap();
        assert!(listed(&entries).iter().eq(listed(&backward).iter().rev()));
        for (key, value) in listed(&entries) {
            assert_eq!(reader.get(table, &key).unwrap().as_ref(), Some(&value));
            found.insert((table, key), value);
        }
    }
    found
}

fn run(engine: Engine, steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), engine).unwrap();
    let mut model = Model::new();
    let mut held: Vec<(Box<dyn Reader>, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Commit(writes) => {
                let unique: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>> = writes
                    .iter()
                    .map(|(table, key, value)| ((USED[*table], key.clone()), value.clone()))
                    .collect();
                let mut batch = Vec::new();
                for ((table, key), value) in unique {
                    match &value {
                        Some(value) => model.insert((table, key.clone()), value.clone()),
                        None => model.remove(&(table, key.clone())),
                    };
                    batch.push(Write { table, key, value });
                }
                store.commit(batch).unwrap();
            }
            Step::Checkpoint => store.checkpoint().unwrap(),
            Step::Reopen => {
                held.clear();
                store.checkpoint().unwrap();
                drop(store);
                store = open(folder.path(), engine).unwrap();
            }
            Step::Hold => held.push((store.reader().unwrap(), model.clone())),
            Step::Range {
                table,
                from,
                to,
                backward,
                limit,
            } => {
                let direction = if *backward {
                    Direction::Backward
                } else {
                    Direction::Forward
                };
                let now = (store.reader().unwrap(), model.clone());
                for (reader, model) in held.iter().chain(std::iter::once(&now)) {
                    let found = reader
                        .range(USED[*table], from, to, direction, *limit)
                        .unwrap();
                    assert_eq!(
                        listed(&found),
                        expected(model, USED[*table], from, to, *backward, *limit)
                    );
                }
            }
        }
    }
    assert_eq!(whole(&*store.reader().unwrap()), model);
    // Oldest last, so that readers go in another order than they came.
    while let Some((reader, then)) = held.pop() {
        assert_eq!(whole(&*reader), then);
        if !held.is_empty() {
            let (reader, then) = held.remove(0);
            assert_eq!(whole(&*reader), then);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Method: random batches, ranges, reopenings and held readers against a BTreeMap.
    #[test]
    fn redb_agrees_with_a_map(steps in prop::collection::vec(step(), 1..30)) {
        run(Engine::Redb, &steps);
    }

    #[test]
    fn sled_agrees_with_a_map(steps in prop::collection::vec(step(), 1..30)) {
        run(Engine::Sled, &steps);
    }
}

/// Method: a reader walks everything again and again while each commit replaces all values by one number.
#[test]
fn a_reader_sees_whole_commits_only() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), engine).unwrap();
        let commit = |number: u8| {
            let write = |index: u8| Write {
                table: USED[index as usize % 4],
                key: vec![index],
                value: Some(vec![number]),
            };
            store.commit((0..100).map(write).collect()).unwrap();
        };
        commit(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..100).for_each(commit));
            loop {
                let last = writer.is_finished();
                let reader = store.reader().unwrap();
                let values: std::collections::BTreeSet<Vec<u8>> =
                    whole(&*reader).into_values().collect();
                assert_eq!(values.len(), 1, "{engine:?}");
                if last {
                    break;
                }
            }
        });
    }
}

#[test]
fn what_was_checkpointed_is_there_when_opened_again() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), engine).unwrap();
        let write = |key: u8| Write {
            table: Table::Sop,
            key: vec![key],
            value: Some(vec![key]),
        };
        store.commit((0..200).map(write).collect()).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        let store = open(folder.path(), engine).unwrap();
        assert_eq!(whole(&*store.reader().unwrap()).len(), 200);
    }
}

#[test]
fn the_other_engines_index_is_refused_until_it_is_set_aside() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), engine).unwrap());
        assert!(matches!(
            open(folder.path(), engine.other()),
            Err(EngineError::OtherEngine { .. })
        ));
        set_aside(folder.path()).unwrap();
        drop(open(folder.path(), engine.other()).unwrap());
        // Again, over what was set aside before.
        set_aside(folder.path()).unwrap();
        drop(open(folder.path(), engine).unwrap());
        set_aside(folder.path()).unwrap();
        drop(open(folder.path(), engine).unwrap());
    }
}

#[test]
fn a_panic_in_an_engine_is_an_error() {
    let result = guarded(|| -> Result<(), std::fmt::Error> { panic!("page {}", 7) });
    assert!(matches!(result, Err(EngineError::Panicked(text)) if text == "page 7"));
}

#[test]
fn a_sealed_value_is_refused_with_any_bit_turned_and_under_any_other_key() {
    let sealed = seal(Table::Sop, b"key", b"content".to_vec());
    assert_eq!(
        unseal(Table::Sop, b"key", sealed.clone()).unwrap(),
        b"content"
    );
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(unseal(Table::Sop, b"key", damaged).is_err());
    }
    assert!(unseal(Table::Sop, b"kez", sealed.clone()).is_err());
    assert!(unseal(Table::Study, b"key", sealed).is_err());
    assert!(unseal(Table::Sop, b"key", vec![1, 2, 3]).is_err());
}
