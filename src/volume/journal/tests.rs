use super::*;
use crate::volume::io::{Observer, Op};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

const SIZE: u64 = 64 * BLOCK_BYTES;
const SOON: Duration = Duration::from_secs(60);

fn open(disk: &Disk, folder: &Path) -> (Journal, Replay) {
    Journal::open(disk, folder, "volume-1", SIZE).unwrap()
}

/// Bytes that no other number has.
fn data(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn read(journal: &Journal, number: u64) -> Option<Vec<u8>> {
    let reading = journal.reading(number)?;
    let mut bytes = vec![0; reading.data_bytes() as usize];
    let mut at = 0;
    while at < bytes.len() {
        let count = reading.read_at(at as u64, &mut bytes[at..]).unwrap();
        assert!(count > 0, "short");
        at += count;
    }
    assert_eq!(reading.read_at(at as u64, &mut [0; 8]).unwrap(), 0);
    Some(bytes)
}

#[test]
fn what_was_appended_is_found_again_until_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (journal, replay) = open(&disk, folder.path());
    assert_eq!(replay, Replay::default());
    let lengths = [0, 1, 4000, 4096, 20_000];
    for (n, length) in (1..).zip(lengths) {
        let bytes = data(n, length);
        let (a, b) = bytes.split_at(length / 3);
        assert_eq!(journal.append(b"about", &[a, b], SOON).unwrap(), n);
        assert_eq!(read(&journal, n).unwrap(), bytes);
    }
    drop(journal);
    let (journal, replay) = open(&disk, folder.path());
    let found: Vec<_> = replay
        .records
        .iter()
        .map(|f| (f.number, f.data_bytes))
        .collect();
    let expected: Vec<_> = (1..).zip(lengths.map(|l| l as u64)).collect();
    assert_eq!(found, expected);
    assert!(replay.damaged.is_empty());
    assert!(replay.records.iter().all(|found| found.about == b"about"));
    for (n, length) in (1..).zip(lengths) {
        assert_eq!(read(&journal, n).unwrap(), data(n, length));
    }
    // Nothing goes in before that is carried over.
    assert!(matches!(
        journal.append(b"", &[], SOON),
        Err(JournalError::Failed { .. })
    ));
    journal.free(&[2, 1, 3, 5]).unwrap();
    assert!(read(&journal, 2).is_none());
    drop(journal);
    let (journal, replay) = open(&disk, folder.path());
    let found: Vec<u64> = replay.records.iter().map(|found| found.number).collect();
    assert_eq!(
        found,
        [4, 5],
        "what is free behind one that is not may come again"
    );
    journal.free(&[4, 5]).unwrap();
    journal.settle().unwrap();
    assert_eq!(journal.append(b"", &[b"x"], SOON).unwrap(), 6);
}

#[test]
fn an_emptied_journal_is_not_searched() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (journal, _) = open(&disk, folder.path());
    let number = journal.append(b"a", &[b"b"], SOON).unwrap();
    journal.free(&[number]).unwrap();
    journal.settle().unwrap();
    drop(journal);
    let counted = Arc::new(Reads::default());
    let (journal, replay) = open(&Disk::observed(counted.clone()), folder.path());
    assert_eq!(replay, Replay::default());
    assert!(counted.0.load(Ordering::Relaxed) < 5, "header and marks");
    assert_eq!(journal.append(b"a", &[b"b"], SOON).unwrap(), 2);
    drop(journal);
    assert_eq!(open(&disk, folder.path()).1.records.len(), 1);
}

#[derive(Default)]
struct Reads(AtomicU64);

impl Observer for Reads {
    fn before(&self, _: &Op) -> io::Result<()> {
        Ok(())
    }

    fn before_read(&self, _: &Path, _: u64, _: usize) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn the_journal_of_another_volume_or_of_nobody_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    drop(open(&disk, folder.path()));
    let path = folder.path().join(FILE);
    let before = std::fs::read(&path).unwrap();
    let other = Journal::open(&disk, folder.path(), "volume-2", SIZE).map(drop);
    assert!(
        matches!(other, Err(JournalError::NotOurs { .. })),
        "{other:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    for (at, byte) in [(0, b'X'), (30, 7)] {
        let mut bytes = before.clone();
        bytes[at] ^= byte;
        std::fs::write(&path, &bytes).unwrap();
        let opened = Journal::open(&disk, folder.path(), "volume-1", SIZE).map(drop);
        assert!(matches!(opened, Err(JournalError::NotOurs { .. })), "{at}");
    }
    std::fs::write(&path, &before[..before.len() - 1]).unwrap();
    let opened = Journal::open(&disk, folder.path(), "volume-1", SIZE).map(drop);
    assert!(matches!(opened, Err(JournalError::NotOurs { .. })));
}

/// Method: a byte of a record in the middle is changed, of its head or of its data.
#[test]
fn damage_in_the_middle_is_said_and_the_others_are_good() {
    for at_in_record in [20, 2_000] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let (journal, _) = open(&disk, folder.path());
        for n in 1..=3 {
            journal.append(b"about", &[&data(n, 3_000)], SOON).unwrap();
        }
        drop(journal);
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(RING_START + BLOCK_BYTES) as usize + at_in_record] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (journal, replay) = open(&disk, folder.path());
        let found: Vec<u64> = replay.records.iter().map(|found| found.number).collect();
        assert_eq!((found, replay.damaged), (vec![1, 3], vec![2]));
        let aside = journal.set_aside().unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), bytes);
        assert_eq!(open(&disk, folder.path()).1, Replay::default());
    }
}

#[test]
fn a_record_never_stands_where_another_is_and_a_full_journal_makes_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&Disk::default(), folder.path());
    let mut kept: VecDeque<(u64, usize)> = VecDeque::new();
    let mut refused = 0;
    for round in 0..2_000_u64 {
        let length = (round.wrapping_mul(7_919) % 40_000) as usize;
        loop {
            let bytes = data(round, length);
            match journal.append(&round.to_le_bytes(), &[&bytes], Duration::ZERO) {
                Ok(number) => {
                    assert_eq!(read(&journal, number).unwrap(), bytes);
                    kept.push_back((number, length));
                    break;
                }
                Err(JournalError::Full { .. }) => {
                    refused += 1;
                    let (number, length) = kept.pop_front().expect("an empty one has room");
                    assert_eq!(read(&journal, number).unwrap(), data(number - 1, length));
                    journal.free(&[number]).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
    let too_large = vec![0; SIZE as usize / 2];
    let result = journal.append(b"", &[&too_large], SOON);
    assert!(matches!(result, Err(JournalError::TooLarge { .. })));
}

#[test]
fn who_reads_a_record_keeps_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&Disk::default(), folder.path());
    let first = data(1, 100_000);
    let number = journal.append(b"", &[&first], SOON).unwrap();
    let reading = journal.reading(number).unwrap();
    journal.free(&[number]).unwrap();
    let mut last = 0;
    while let Ok(number) = journal.append(b"", &[&data(2, 30_000)], Duration::ZERO) {
        last = number;
        journal.free(&[number]).unwrap();
    }
    assert!(last > number);
    let mut bytes = vec![0; first.len()];
    assert_eq!(reading.read_at(0, &mut bytes).unwrap(), bytes.len());
    assert_eq!(bytes, first);
    drop(reading);
    journal.settle().unwrap();
    assert!(journal.append(b"", &[&first], Duration::ZERO).is_ok());
}

/// Method: sixteen threads append while each flush takes 20 ms; another frees.
#[test]
fn many_senders_share_a_flush_and_wait_for_room() {
    struct Slow;
    impl Observer for Slow {
        fn before(&self, op: &Op) -> io::Result<()> {
            if matches!(op, Op::SyncFile(_)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&Disk::observed(Arc::new(Slow)), folder.path());
    let (told, to_free) = std::sync::mpsc::channel::<u64>();
    std::thread::scope(|scope| {
        for thread in 0..16_u64 {
            let told = told.clone();
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..8 {
                    let bytes = data(thread * 100 + n, 6_000);
                    let number = journal.append(b"", &[&bytes], SOON).unwrap();
                    assert_eq!(read(journal, number).unwrap(), bytes);
                    told.send(number).unwrap();
                }
            });
        }
        drop(told);
        for number in to_free {
            journal.free(&[number]).unwrap();
        }
    });
    assert!(journal.flushes() < 100, "{} for 128", journal.flushes());
    assert_eq!(journal.records_count(), 0);
}

#[test]
fn after_a_failed_flush_nothing_is_taken_and_all_who_wait_are_told() {
    struct Failing(AtomicU64);
    impl Observer for Failing {
        fn before(&self, op: &Op) -> io::Result<()> {
            match op {
                // The first is that of a new journal.
                Op::SyncFile(_) if self.0.fetch_add(1, Ordering::Relaxed) >= 2 => {
                    Err(io::Error::other("unplugged"))
                }
                _ => Ok(()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::observed(Arc::new(Failing(AtomicU64::new(0))));
    let (journal, _) = open(&disk, folder.path());
    journal.append(b"", &[b"good"], SOON).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let error = journal.append(b"", &[b"lost?"], SOON).unwrap_err();
                assert!(matches!(error, JournalError::Failed { .. }), "{error}");
            });
        }
    });
    assert!(journal.failed());
    assert_eq!(read(&journal, 1).unwrap(), b"good");
}

/// What a disk was told, in order.
#[derive(Default)]
struct Told(Mutex<Vec<Call>>);

enum Call {
    Write { at: u64, bytes: Vec<u8> },
    Flush,
}

impl Observer for Told {
    fn before(&self, op: &Op) -> io::Result<()> {
        let call = match op {
            Op::Write { offset, bytes, .. } => Call::Write {
                at: *offset,
                bytes: bytes.to_vec(),
            },
            Op::SyncFile(_) => Call::Flush,
            _ => return Ok(()),
        };
        self.0.lock().unwrap().push(call);
        Ok(())
    }
}

/// Method: appends and frees on a disk that writes down every call. For a power cut after each of them, the file as the disk
/// may have it then: all that was flushed, and of what was written since any choice of sectors of 512 bytes, by lot, several
/// times. Each such file is opened.
#[test]
fn a_power_cut_at_every_call_loses_nothing_that_was_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    drop(open(&Disk::default(), folder.path()));
    let mut durable = std::fs::read(&path).unwrap();
    let told = Arc::new(Told::default());
    let (journal, _) = open(&Disk::observed(told.clone()), folder.path());
    // After so many calls: that record is durable, or it may be free.
    let mut appended: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    let mut freed: BTreeMap<u64, usize> = BTreeMap::new();
    let calls = || told.0.lock().unwrap().len();
    for round in 1..=60_u64 {
        let length = (round * 5_003 % 30_000) as usize;
        let number = loop {
            match journal.append(b"about", &[&data(round, length)], Duration::ZERO) {
                Ok(number) => break number,
                Err(JournalError::Full { .. }) => {
                    let oldest = appended.keys().find(|n| !freed.contains_key(n));
                    let oldest = *oldest.expect("something is in it");
                    freed.insert(oldest, calls());
                    journal.free(&[oldest]).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(number, round);
        appended.insert(number, (calls(), length));
        if round % 20 == 0 {
            let all: Vec<u64> = appended.keys().copied().collect();
            for n in &all {
                freed.entry(*n).or_insert_with(calls);
            }
            journal.free(&all).unwrap();
            journal.settle().unwrap();
        }
    }
    drop(journal);
    let told = told.0.lock().unwrap();
    let mut lot = 1_u64;
    let mut since: Vec<(u64, &[u8])> = Vec::new();
    for (done, call) in told.iter().enumerate() {
        for _ in 0..3 {
            let mut now = durable.clone();
            for (at, bytes) in &since {
                for (n, sector) in bytes.chunks(512).enumerate() {
                    lot = lot
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    if lot >> 33 & 1 == 1 {
                        let place = *at as usize + n * 512;
                        now[place..place + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            std::fs::write(&path, &now).unwrap();
            let (journal, replay) = open(&Disk::default(), folder.path());
            assert_eq!(replay.damaged, Vec::<u64>::new(), "after {done} calls");
            let found: Vec<u64> = replay.records.iter().map(|found| found.number).collect();
            for (number, (at, _)) in &appended {
                let may_be_free = freed.get(number).is_some_and(|at| *at <= done);
                assert!(
                    found.contains(number) || *at > done || may_be_free,
                    "{number} is lost after {done} calls, of {found:?}"
                );
            }
            for number in found {
                let (_, length) = appended[&number];
                assert_eq!(read(&journal, number).unwrap(), data(number, length));
            }
        }
        match call {
            Call::Write { at, bytes } => since.push((*at, bytes)),
            Call::Flush => {
                for (at, bytes) in since.drain(..) {
                    durable[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
    }
    assert!(told.len() > 150, "{}", told.len());
}
