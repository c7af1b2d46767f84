//! Queries, and the records they read.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, OnceLock};

use kura::dicom::{Answering, Level, Wanted, scan, ts};
use kura::index::engine::{self, Direction, Entries, Reader, seal};
use kura::index::{
    Change, Copy, Engine, EngineError, Index, InstanceFacts, InstanceRecord, Key, Options, Origin,
    Query, SeriesFacts, Snapshot, Step, Stored, StudyFacts, Table, Values,
};
use kura::scp::answer::Answers;
use kura::scp::identifier;

use super::disks::scratch;
use super::input::{Input, pieces};

/// Sealed values, by table and key.
type Records = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

struct Memory(Arc<Records>);

impl Reader for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Entries, EngineError> {
        let mut entries = Entries::new(table);
        if !to.is_empty() && from >= to {
            return Ok(entries);
        }
        let range = self
            .0
            .range((Bound::Included((table, from.to_vec())), Bound::Unbounded));
        let range = range
            .take_while(|((one, key), _)| *one == table && (to.is_empty() || key.as_slice() < to));
        let mut found: Vec<_> = range.collect();
        if direction == Direction::Backward {
            found.reverse();
        }
        for ((_, key), value) in found.into_iter().take(limit) {
            entries.push(key, value);
        }
        Ok(entries)
    }
}

fn values(pairs: &[(u32, &str)]) -> Values {
    pairs
        .iter()
        .map(|(tag, text)| (*tag, (*text).to_owned()))
        .collect()
}

/// An instance of four studies with two series each.
pub fn stored(number: u64) -> Stored {
    let study = format!("1.2.{}", number / 4);
    let series = format!("{study}.{}", number / 2);
    let sop = format!("{series}.{number}");
    let names = [
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "DOE^JOHN",
        "",
        "Müller^Ünal",
    ];
    Stored {
        study: Arc::new(StudyFacts {
            study_instance_uid: study.clone(),
            date_folder: "20260115".to_owned(),
            values: values(&[
                (0x0008_0020, if number < 4 { "20260115" } else { "" }),
                (0x0008_0030, "101500.5"),
                (0x0008_0050, "A*1"),
                (0x0010_0010, names[number as usize / 4 % 4]),
                (0x0010_0020, "4711"),
                (0x0010_0030, "19700101"),
                (0x0010_0040, "M"),
            ]),
        }),
        series: Arc::new(SeriesFacts {
            series_instance_uid: series.clone(),
            study_instance_uid: study.clone(),
            folder: format!("20260115/CT/4711-{study}/{series}"),
            values: values(&[
                (0x0008_0060, ["CT", "MR"][number as usize / 2 % 2]),
                (0x0020_0011, "1"),
                (0x0040_0275, "[{\"00400009\":\"S1\",\"00401001\":\"R1\"}]"),
            ]),
        }),
        instance: InstanceFacts {
            sequence: number + 1,
            sop_instance_uid: sop.clone(),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            transfer_syntax: ts::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
            values: values(&[(0x0020_0013, "1"), (0x0008_0023, "20260115")]),
            received: "2026-01-15T10:20:00Z".to_owned(),
            source_ae_title: "CT1".to_owned(),
            origin: Origin::default(),
            copy: Copy {
                volume_id: "A".to_owned(),
                path: format!("20260115/CT/{sop}.dcm"),
                data_offset: 400,
                size_bytes: 1400,
                crc32: number as u32,
                file_crc32: 8,
                bad: false,
            },
        },
    }
}

/// The records of a small index, made by the index itself. One instance has two contents, and one study two patients.
fn records() -> &'static Arc<Records> {
    static RECORDS: OnceLock<Arc<Records>> = OnceLock::new();
    RECORDS.get_or_init(|| {
        // On a thread of its own: what is made once does not count.
        let made = std::thread::spawn(|| {
            let folder = scratch();
            let index = Index::open(folder.path(), Engine::Redb).expect("an index");
            let mut all: Vec<Stored> = (0..14).map(stored).collect();
            let mut other = stored(3);
            other.instance.sequence = 20;
            other.instance.copy.crc32 = 99;
            other.instance.copy.path.push('2');
            all.push(other);
            let mut another = stored(5);
            another.instance.sequence = 21;
            another.instance.sop_instance_uid.push_str(".9");
            another
                .instance
                .values
                .insert(0x0010_0020, "4712".to_owned());
            all.push(another);
            let changes: Vec<Change> = all.into_iter().map(Change::Stored).collect();
            index
                .apply(&changes, &[("A".to_owned(), vec![1, 2, 3])])
                .expect("applied");
            index.checkpoint().expect("durable");
            index.close();
            drop(index);
            let store = engine::open(folder.path(), Engine::Redb).expect("the same");
            let reader = store.reader().expect("a view");
            let mut records = Records::new();
            for table in engine::TABLES {
                let entries = reader.range(table, &[], &[], Direction::Forward, 1_000);
                let entries = entries.expect("a table");
                for at in 0..entries.len() {
                    let (key, value) = entries.get(at).expect("an entry");
                    records.insert((table, key.to_vec()), value.to_vec());
                }
            }
            Arc::new(records)
        });
        made.join().expect("records")
    })
}

/// Answers of one query that are looked at.
const ANSWERS_MAX: usize = 64;

/// An identifier is refused, or found by, and each answer is a data set that says every key.
pub fn identifier(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let seed = input.word();
    let bytes = input.rest();
    let syntax = match flags & 1 {
        0 => ts::EXPLICIT_VR_LITTLE_ENDIAN,
        _ => ts::IMPLICIT_VR_LITTLE_ENDIAN,
    };
    let limits = kura::config::Limits::default();
    let read = |seed| {
        let mut reader = identifier::Reader::new(syntax, &limits);
        for piece in pieces(bytes, seed) {
            reader.feed(piece);
        }
        reader.finish()
    };
    let (whole, split) = (read(0), read(seed));
    let (found, split) = match (whole, split) {
        (Ok(whole), Ok(split)) => (whole, split),
        (Err(whole), Err(split)) => {
            assert_eq!(whole, split);
            return;
        }
        _ => panic!("in pieces it is another identifier"),
    };
    assert_eq!(found.level, split.level);
    assert_eq!(found.keys().len(), split.keys().len());
    let mut query = Query::new(found.level, found.keys());
    query.options = Options {
        combined_date_time: flags & 2 != 0,
        fuzzy_names: flags & 4 != 0,
    };
    let character_set = found.character_set();
    let snapshot = Snapshot::new(Box::new(Memory(Arc::clone(records()))));
    let mut answers = 0;
    let result = snapshot.search(&query, &mut |step| {
        if let Step::Found(found) = step {
            answers += 1;
            for explicit in [true, false] {
                let encoder = Answers {
                    query: &query,
                    ae_title: "KURA",
                    explicit,
                    character_sets: Answering::new(&character_set),
                };
                check_answer(&query, &encoder.encode(&found.values), explicit);
            }
        }
        match answers < ANSWERS_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    result.expect("records that are in order");
}

fn check_answer(query: &Query, answer: &[u8], explicit: bool) {
    let syntax = match explicit {
        true => ts::EXPLICIT_VR_LITTLE_ENDIAN,
        false => ts::IMPLICIT_VR_LITTLE_ENDIAN,
    };
    let answered = scan(answer, syntax, Wanted::All).expect("a data set");
    for key in &query.keys {
        let tag = identifier::tag(key.tag);
        assert!(answered.contains(tag), "{tag} is not answered");
    }
}

/// Records with checksums that are right and anything in them: read, or said to be damaged.
pub fn index_record(data: &[u8]) {
    let mut input = Input::new(data);
    let mut records = Records::clone(records());
    let keys: Vec<(Table, Vec<u8>)> = records.keys().cloned().collect();
    while !input.is_empty() {
        let (kind, which) = (input.byte(), usize::from(input.byte()));
        let (table, key) = keys[which % keys.len()].clone();
        let sealed = records.get(&(table, key.clone()));
        let mut content =
            sealed.map_or_else(Vec::new, |sealed| sealed[..sealed.len() - 4].to_vec());
        match kind & 3 {
            // Other bytes here and there, another content, a cut one, or none.
            0 => {
                for _ in 0..kind >> 4 {
                    let (at, by) = (usize::from(input.word()), input.byte());
                    let length = content.len().max(1);
                    if let Some(byte) = content.get_mut(at % length) {
                        *byte ^= by;
                    }
                }
            }
            1 => {
                let length = usize::from(input.word());
                content = input.take(length).to_vec();
            }
            2 => {
                let length = usize::from(input.word());
                content.truncate(length);
            }
            _ => {
                records.remove(&(table, key));
                continue;
            }
        }
        if table == Table::Instance
            && let Ok(record) = postcard::from_bytes::<InstanceRecord>(&content)
        {
            let written = postcard::to_allocvec(&record).expect("a record");
            let again: InstanceRecord = postcard::from_bytes(&written).expect("our own");
            assert_eq!(again, record);
        }
        let value = seal(table, &key, content);
        records.insert((table, key), value);
    }
    let snapshot = Snapshot::new(Box::new(Memory(Arc::new(records))));
    let _ = (
        snapshot.highest_sequence(),
        snapshot.totals(),
        snapshot.position("A"),
    );
    let mut left = 256;
    let mut enough = move || {
        left -= 1;
        match left > 0 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let _ = snapshot.all_instances(&mut |_| enough());
    let _ = snapshot.with_others(&mut |_| enough());
    for study in snapshot.studies_after(None, 16).unwrap_or_default() {
        let _ = snapshot.study(&study);
        let mut found = Vec::new();
        let _ = snapshot.series_of(&study, &mut |series| {
            found.push(series.facts.series_instance_uid);
            enough()
        });
        let _ = snapshot.instances(&study, None, &mut |_| enough());
        for series in found {
            let _ = snapshot.series(&study, &series);
            let _ = snapshot.series_by_uid(&series);
        }
    }
    for number in 0..14 {
        let _ = snapshot.by_sop(&stored(number).instance.sop_instance_uid);
    }
    for (level, tag, text) in [
        (Level::Patient, 0x0010_0010, "yamada*"),
        (Level::Study, 0x0010_0020, "4711"),
        (Level::Series, 0x0008_0060, "CT"),
        (Level::Instance, 0x0008_0018, ""),
    ] {
        let vr = kura::dicom::vr_of(identifier::tag(tag));
        let query = Query::new(level, vec![Key::new(tag, vr, text)]);
        let _ = snapshot.find(&query, &mut |_| enough());
    }
}
