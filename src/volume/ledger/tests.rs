use super::*;
use crate::volume::io::{Observer, Op};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

type Lines = Vec<(String, Position)>;

fn nothing<T>() -> AfterFlush<T> {
    Box::new(|_| {})
}

fn open(folder: &Path) -> Ledger<()> {
    Ledger::open(&Disk::default(), folder, nothing()).unwrap()
}

fn open_small(folder: &Path, segment_bytes: u64) -> Ledger<()> {
    Ledger::open_with(&Disk::default(), folder, nothing(), segment_bytes).unwrap()
}

fn add(ledger: &Ledger<()>, n: usize) -> Position {
    ledger.append(&[], format!("{{\"n\":{n}}}"), ()).unwrap()
}

fn read_from(folder: &Path, from: Position) -> (Lines, ReadReport) {
    let mut lines = Vec::new();
    let report = read(&Disk::default(), folder, from, &mut |line, position| {
        lines.push((line.to_owned(), position));
        ControlFlow::Continue(())
    });
    (lines, report.unwrap())
}

/// The numbers `n` of the lines, and the report.
fn numbers(folder: &Path) -> (Vec<usize>, ReadReport) {
    let (lines, report) = read_from(folder, Position::default());
    let number = |line: &str| {
        let digits = line.strip_prefix("{\"n\":").unwrap();
        digits.strip_suffix('}').unwrap().parse().unwrap()
    };
    let numbers = lines.iter().map(|(line, _)| number(line)).collect();
    (numbers, report)
}

fn segment(folder: &Path, n: u32) -> PathBuf {
    folder.join(layout::segment_file(n))
}

fn torn_files(folder: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "bytes") {
            files.push(std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn lines_come_back_in_order_with_their_positions() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    assert_eq!(ledger.position(), Position::default());
    let positions: Vec<Position> = (0..5).map(|n| add(&ledger, n)).collect();
    assert_eq!(ledger.position(), positions[4]);
    let (lines, report) = read_from(folder.path(), Position::default());
    assert_eq!(lines[3], ("{\"n\":3}".to_owned(), positions[3]));
    assert_eq!((report.position, report.bad_lines), (positions[4], 0));
    let (rest, _) = read_from(folder.path(), positions[2]);
    assert_eq!(rest, lines[3..]);
    let (none, report) = read_from(folder.path(), positions[4]);
    assert!(none.is_empty() && !report.mismatch);
}

#[test]
fn the_form_of_a_line_on_the_disk_stays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("91ab");
    add(&open(&folder), 7);
    let text = std::fs::read_to_string(segment(&folder, 1)).unwrap();
    let header = r#"{"ledger":1,"volume":"91ab","segment":1,"previous":"00000000""#;
    let crc = |before: &str, body: &str| crc32fast::hash((before.to_owned() + body).as_bytes());
    let first = crc("00000000", header);
    let second = crc(&format!("{first:08x}"), "{\"n\":7");
    let expected =
        format!("{header},\"crc\":\"{first:08x}\"}}\n{{\"n\":7,\"crc\":\"{second:08x}\"}}\n");
    assert_eq!(text, expected);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_reader_that_stops_knows_where() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let positions: Vec<Position> = (0..5).map(|n| add(&ledger, n)).collect();
    let disk = Disk::default();
    let report = read(&disk, folder.path(), Position::default(), &mut |_, at| {
        if at == positions[1] {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(report.unwrap().position, positions[1]);
}

/// Method: the file is cut at every length within the last line, and garbage
/// and zeros are put behind the last line.
#[test]
fn a_torn_tail_is_copied_aside_and_cut() {
    let base = tempfile::tempdir().unwrap();
    let whole = base.path().join("whole");
    let ledger = open(&whole);
    let before = (0..3).map(|n| add(&ledger, n)).last().unwrap();
    let after = add(&ledger, 3);
    drop(ledger);
    let bytes = std::fs::read(segment(&whole, 1)).unwrap();
    let kept = before.offset as usize;
    let mut tails: Vec<(Vec<u8>, Position)> = (kept + 1..bytes.len())
        .map(|len| (bytes[..len].to_vec(), before))
        .collect();
    for garbage in [
        &b"\0\0\0\0\0\0"[..],
        b"junk\n{\"n\":9}\n",
        b"\n\n",
        &[0xFF; 300_000],
    ] {
        tails.push(([&bytes[..], garbage].concat(), after));
    }
    for (n, (torn, end)) in tails.iter().enumerate() {
        let folder = base.path().join(n.to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(segment(&folder, 1), torn).unwrap();
        let ledger = open(&folder);
        assert_eq!(ledger.position(), *end, "{n}");
        assert_eq!(torn_files(&folder), [&torn[end.offset as usize..]], "{n}");
        assert_eq!(ledger.opened().bad_lines, 0);
        add(&ledger, 4);
        let (numbers, report) = numbers(&folder);
        assert_eq!(numbers.last(), Some(&4));
        assert_eq!(numbers.len(), if *end == after { 5 } else { 4 });
        assert_eq!(report.bad_lines, 0);
        drop(ledger);
        assert_eq!(open(&folder).opened().torn_bytes, 0);
    }
}

/// Method: the segment that was begun last is cut at every length of its first
/// lines, down to nothing.
#[test]
fn a_segment_whose_beginning_is_torn_is_begun_again() {
    let base = tempfile::tempdir().unwrap();
    let whole = base.path().join("v");
    let ledger = open_small(&whole, 1);
    let first = add(&ledger, 0);
    add(&ledger, 1);
    drop(ledger);
    let one = std::fs::read(segment(&whole, 1)).unwrap();
    let two = std::fs::read(segment(&whole, 2)).unwrap();
    let header = two.iter().position(|b| *b == b'\n').unwrap();
    for len in 0..=header {
        let folder = base.path().join(len.to_string()).join("v");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(segment(&folder, 1), &one).unwrap();
        std::fs::write(segment(&folder, 2), &two[..len]).unwrap();
        let ledger = open(&folder);
        assert_eq!(ledger.position(), first, "{len}");
        add(&ledger, 1);
        assert_eq!(std::fs::read(segment(&folder, 2)).unwrap(), two, "{len}");
        assert_eq!(numbers(&folder).0, [0, 1]);
    }
}

/// Method: each byte of a line in the middle is changed in turn, and each is
/// removed in turn.
#[test]
fn a_bad_line_in_the_middle_is_skipped_and_nothing_after_it_is_lost() {
    let base = tempfile::tempdir().unwrap();
    let whole = base.path().join("v");
    let ledger = open(&whole);
    let positions: Vec<Position> = (0..6).map(|n| add(&ledger, n)).collect();
    drop(ledger);
    let bytes = std::fs::read(segment(&whole, 1)).unwrap();
    let (start, end) = (positions[1].offset as usize, positions[2].offset as usize);
    let folder = base.path().join("w");
    std::fs::create_dir(&folder).unwrap();
    for at in start..end {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        let mut shorter = bytes.clone();
        shorter.remove(at);
        for damaged in [changed, shorter] {
            std::fs::write(segment(&folder, 1), &damaged).unwrap();
            let (found, report) = numbers(&folder);
            // Losing its line feed, a line takes the next one with it.
            let expected: &[usize] = if at == end - 1 {
                &[0, 1, 4, 5]
            } else {
                &[0, 1, 3, 4, 5]
            };
            assert_eq!(found, expected, "byte {at}");
            assert_eq!(report.bad_lines, 1);
            // Opening reports it and cuts nothing.
            let ledger = Ledger::<()>::open(&Disk::default(), &folder, nothing()).unwrap();
            assert_eq!(ledger.opened().bad_lines, 1);
            assert_eq!(ledger.opened().torn_bytes, 0);
        }
    }
}

#[test]
fn a_line_put_in_between_and_two_bad_lines_in_a_row_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let positions: Vec<Position> = (0..6).map(|n| add(&ledger, n)).collect();
    drop(ledger);
    let path = segment(folder.path(), 1);
    let bytes = std::fs::read(&path).unwrap();
    let at = positions[2].offset as usize;
    let inserted = [
        &bytes[..at],
        b"{\"n\":99,\"crc\":\"00000000\"}\n",
        &bytes[at..],
    ]
    .concat();
    std::fs::write(&path, inserted).unwrap();
    let (found, report) = numbers(folder.path());
    assert_eq!((found, report.bad_lines), (vec![0, 1, 2, 3, 4, 5], 1));
    let mut changed = bytes;
    changed[positions[0].offset as usize + 5] = b'x';
    changed[positions[1].offset as usize + 5] = b'x';
    std::fs::write(&path, changed).unwrap();
    let (found, report) = numbers(folder.path());
    assert_eq!((found, report.bad_lines), (vec![0, 3, 4, 5], 2));
}

#[test]
fn segments_follow_each_other_and_a_missing_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open_small(folder.path(), 300);
    let positions: Vec<Position> = (0..30).map(|n| add(&ledger, n)).collect();
    let last = positions[29].segment;
    assert!(last > 3, "{last} segments");
    drop(ledger);
    let ledger = open_small(folder.path(), 300);
    assert_eq!(ledger.position(), positions[29]);
    assert_eq!(*ledger.opened(), Opened::default());
    let (found, report) = numbers(folder.path());
    assert_eq!((found, report.bad_lines), ((0..30).collect(), 0));
    for from in &positions {
        let (rest, report) = read_from(folder.path(), *from);
        assert!(!report.mismatch);
        assert_eq!(rest.len(), positions.iter().filter(|p| *p > from).count());
    }
    std::fs::remove_file(segment(folder.path(), 2)).unwrap();
    let (found, report) = numbers(folder.path());
    let expected: Vec<usize> = (0..30).filter(|n| positions[*n].segment != 2).collect();
    assert_eq!((found, report.bad_lines), (expected, 1));
}

#[test]
fn a_position_of_another_ledger_is_a_mismatch() {
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (base.path().join("a"), base.path().join("b"));
    let first = open(&a);
    let position = (0..3).map(|n| add(&first, n)).last().unwrap();
    let second = open(&b);
    (0..3).for_each(|n| {
        add(&second, n);
    });
    // The same lines, but the header names another volume.
    let (lines, report) = read_from(&b, position);
    assert!(lines.is_empty() && report.mismatch);
    for wrong in [
        Position {
            offset: position.offset + 1,
            ..position
        },
        Position {
            offset: 1_000_000,
            ..position
        },
        Position {
            offset: 3,
            ..position
        },
        Position {
            segment: 9,
            ..position
        },
        Position {
            chain: !position.chain,
            ..position
        },
    ] {
        assert!(read_from(&a, wrong).1.mismatch, "{wrong:?}");
    }
    assert!(
        !read_from(&base.path().join("none"), Position::default())
            .1
            .mismatch
    );
}

#[test]
fn once_lines_are_written_once_in_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open_small(folder.path(), 400);
    let once = [(7, "{\"study\":1}".to_owned())];
    for n in 0..60 {
        ledger.append(&once, format!("{{\"n\":{n}}}"), ()).unwrap();
    }
    let (lines, report) = read_from(folder.path(), Position::default());
    assert!(report.position.segment > 2);
    for segment in 1..=report.position.segment {
        let here: Vec<&str> = lines
            .iter()
            .filter(|(_, at)| at.segment == segment)
            .map(|(line, _)| line.as_str())
            .collect();
        assert_eq!(here[0], "{\"study\":1}");
        assert_eq!(here.iter().filter(|line| line.contains("study")).count(), 1);
    }
}

#[test]
fn what_is_not_an_object_on_one_line_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
    for bad in [
        "",
        "{}",
        "[1]",
        "{\"a\":\n1}",
        "{\"a\":1}\n",
        "{\"ledger\":1}",
        &long,
    ] {
        let refused = ledger.append(&[], bad.to_owned(), ());
        assert!(matches!(refused, Err(LedgerError::BadLine { .. })));
    }
    assert!(!ledger.failed());
    let longest = format!("{{\"a\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX - 40));
    ledger.append(&[], longest.clone(), ()).unwrap();
    let (lines, report) = read_from(folder.path(), Position::default());
    assert_eq!(
        (lines[0].0.as_str(), report.bad_lines),
        (longest.as_str(), 0)
    );
}

#[derive(Default)]
struct Faults {
    writes: AtomicUsize,
    syncs: AtomicUsize,
    sync_ms: u64,
    fail_sync: AtomicBool,
    full: AtomicBool,
    fail_cut: AtomicBool,
}

impl Observer for Faults {
    fn before(&self, op: &Op) -> io::Result<()> {
        let fail = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        match op {
            Op::Write { .. } => {
                self.writes.fetch_add(1, Ordering::SeqCst);
                if fail(&self.full) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            Op::SyncFile(_) => {
                self.syncs.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(self.sync_ms));
                if fail(&self.fail_sync) {
                    return Err(io::Error::from_raw_os_error(5));
                }
            }
            Op::SetLen { .. } if fail(&self.fail_cut) => {
                return Err(io::Error::from_raw_os_error(5));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Method: flushes of 5 ms, 8 threads of 25 lines each; the calls of
/// `after_flush` are recorded and compared with what the file says.
#[test]
fn a_group_shares_one_flush_and_is_announced_in_order_before_anyone_returns() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults {
        sync_ms: 5,
        ..Faults::default()
    });
    let disk = Disk::observed(faults.clone());
    let announced: Arc<Mutex<Vec<(usize, Position)>>> = Arc::default();
    let record = announced.clone();
    let ledger = Ledger::open_with(
        &disk,
        folder.path(),
        Box::new(move |group| record.lock().unwrap().extend(group)),
        2_000,
    )
    .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (ledger, announced) = (&ledger, &announced);
            scope.spawn(move || {
                for n in 0..25 {
                    let id = thread * 100 + n;
                    let line = format!("{{\"n\":{id}}}");
                    let position = ledger.append(&[], line, id).unwrap();
                    assert!(announced.lock().unwrap().contains(&(id, position)));
                    assert!(ledger.position() >= position);
                }
            });
        }
    });
    let announced = announced.lock().unwrap();
    assert!(announced.is_sorted_by(|a, b| a.1 < b.1));
    let (found, report) = numbers(folder.path());
    let ids: Vec<usize> = announced.iter().map(|(id, _)| *id).collect();
    assert_eq!((found, report.bad_lines), (ids, 0));
    assert_eq!(report.position, ledger.position());
    let syncs = faults.syncs.load(Ordering::SeqCst);
    assert!(syncs < 100, "{syncs} flushes for 200 lines");
    assert_eq!(faults.writes.load(Ordering::SeqCst), syncs);
}

#[test]
fn a_failed_flush_fails_all_who_wait_and_everything_after() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults {
        sync_ms: 30,
        ..Faults::default()
    });
    let announced = Arc::new(AtomicUsize::new(0));
    let count = announced.clone();
    let ledger = Ledger::open(
        &Disk::observed(faults.clone()),
        folder.path(),
        Box::new(move |group: Vec<((), Position)>| {
            count.fetch_add(group.len(), Ordering::SeqCst);
        }),
    )
    .unwrap();
    let good = add(&ledger, 0);
    faults.fail_sync.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for n in 1..9 {
            let ledger = &ledger;
            scope.spawn(move || {
                let result = ledger.append(&[], format!("{{\"n\":{n}}}"), ());
                assert!(matches!(result, Err(LedgerError::Failed { .. })));
            });
        }
    });
    faults.fail_sync.store(false, Ordering::SeqCst);
    let writes = faults.writes.load(Ordering::SeqCst);
    let later = ledger.append(&[], "{\"n\":10}".to_owned(), ());
    assert!(matches!(later, Err(LedgerError::Failed { .. })));
    assert_eq!(faults.writes.load(Ordering::SeqCst), writes);
    assert!(ledger.failed());
    assert_eq!(ledger.position(), good);
    assert_eq!(announced.load(Ordering::SeqCst), 1);
}

#[test]
fn a_full_disk_refuses_lines_leaves_none_and_takes_them_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let disk = Disk::observed(faults.clone());
    let ledger = Ledger::open_with(&disk, folder.path(), nothing(), 300).unwrap();
    let once = [(1, "{\"n\":1000}".to_owned())];
    let mut expected = Vec::new();
    for n in 0..20 {
        faults.full.store(true, Ordering::SeqCst);
        let refused = ledger.append(&once, format!("{{\"n\":{}}}", n + 100), ());
        assert!(matches!(refused, Err(LedgerError::Full { .. })));
        faults.full.store(false, Ordering::SeqCst);
        ledger.append(&once, format!("{{\"n\":{n}}}"), ()).unwrap();
        expected.push(n);
    }
    let (found, report) = numbers(folder.path());
    assert_eq!(report.bad_lines, 0);
    let lines: Vec<usize> = found.iter().copied().filter(|n| *n < 1000).collect();
    assert_eq!(lines, expected);
    // The line that is to be there once is, in each segment, despite the refusals.
    let once = found.iter().filter(|n| **n == 1000).count();
    assert_eq!(once, report.position.segment as usize);
    faults.full.store(true, Ordering::SeqCst);
    faults.fail_cut.store(true, Ordering::SeqCst);
    let refused = ledger.append(&[], "{\"n\":1}".to_owned(), ());
    assert!(matches!(refused, Err(LedgerError::Failed { .. })));
    assert!(ledger.failed());
}

#[test]
fn a_panic_of_the_announcement_hangs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let after: AfterFlush<()> = Box::new(|_| panic!("as the test wants"));
    let ledger = Ledger::open(&Disk::default(), folder.path(), after).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ledger.append(&[], "{\"n\":1}".to_owned(), ()));
        assert!(first.join().is_err());
    });
    assert!(ledger.append(&[], "{\"n\":2}".to_owned(), ()).is_err());
    assert!(ledger.failed());
}

#[test]
fn a_read_only_ledger_knows_its_position_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let position = add(&open(folder.path()), 1);
    let disk = Disk::default();
    let ledger: Ledger<()> =
        Ledger::read_only(&disk, folder.path(), nothing(), "read-only").unwrap();
    assert_eq!(ledger.position(), position);
    assert!(ledger.append(&[], "{\"n\":2}".to_owned(), ()).is_err());
}
