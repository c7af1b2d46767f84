use super::*;
use crate::volume::io::{Observer, Op};
use crate::volume::ledger::{Ledger, read};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const ENOSPC: i32 = 28;

/// A ledger with small segments, and the place of its copy.
struct Scene {
    _base: tempfile::TempDir,
    ours: PathBuf,
    copy: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let base = tempfile::tempdir().unwrap();
        Scene {
            ours: base.path().join("disk/ledgers/v"),
            copy: base.path().join("state/ledgers/v"),
            _base: base,
        }
    }

    fn ledger(&self) -> Ledger<()> {
        let nothing = Box::new(|_| {});
        Ledger::open_with(&Disk::default(), &self.ours, nothing, 600).unwrap()
    }

    fn ship(&self, upto: Position) -> Shipped {
        let disk = Disk::default();
        ship(&disk, &self.ours, &disk, &self.copy, upto).unwrap()
    }

    fn ship_after(&self, last: Position, upto: Position) -> Shipped {
        let disk = Disk::default();
        ship_after(last, &disk, &self.ours, &disk, &self.copy, upto).unwrap()
    }

    /// Ships in pieces of a few lines to a disk with faults.
    fn ship_on(&self, target: &Disk, upto: Position) -> Result<Shipped, LedgerError> {
        let disk = Disk::default();
        let pair = Pair {
            piece_bytes: 240,
            ..Pair::new(&disk, &self.ours, target, &self.copy)
        };
        pair.ship(None, upto)
    }

    fn segment(&self, n: u32) -> PathBuf {
        self.copy.join(layout::segment_file(n))
    }

    fn assert_same(&self) {
        let text = |folder| {
            let texts = files(folder).into_iter();
            let texts =
                texts.map(|(name, file)| (name, String::from_utf8_lossy(&file).into_owned()));
            texts.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(text(&self.ours), text(&self.copy));
    }
}

fn add(ledger: &Ledger<()>, lines: std::ops::Range<usize>) -> Position {
    let add = |n| ledger.append(&[], format!("{{\"n\":{n}}}"), ()).unwrap();
    lines.map(add).last().unwrap()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(names) = std::fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    names
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn bytes(folder: &Path) -> u64 {
    files(folder).values().map(|file| file.len() as u64).sum()
}

fn copy_tree(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for (name, content) in files(from) {
        std::fs::write(to.join(name), content).unwrap();
    }
}

fn in_step(position: Position, bytes: u64) -> Shipped {
    Shipped {
        position,
        bytes,
        state: CopyState::InStep,
    }
}

struct Fault<F>(F);
impl<F: Fn(&Op) -> io::Result<()> + Send + Sync> Observer for Fault<F> {
    fn before(&self, op: &Op) -> io::Result<()> {
        self.0(op)
    }
}

fn observed(f: impl Fn(&Op) -> io::Result<()> + Send + Sync + 'static) -> Disk {
    Disk::observed(Arc::new(Fault(f)))
}

#[test]
fn a_copy_follows_its_ledger_byte_for_byte_over_many_segments() {
    let scene = Scene::new();
    let ledger = scene.ledger();
    let mut last = Position::default();
    let mut shipped_bytes = 0;
    for n in 0..40 {
        last = add(&ledger, n * 3..n * 3 + 1 + n % 3);
        // By one who knows nothing, and by one who was there the last time.
        let shipped = match n % 2 {
            0 => scene.ship(last),
            _ => scene.ship_after(last_of(&scene), last),
        };
        shipped_bytes += shipped.bytes;
        assert_eq!(shipped, in_step(last, shipped.bytes), "{n}");
        scene.assert_same();
    }
    assert!(last.segment > 3, "{last:?}");
    assert_eq!(shipped_bytes, bytes(&scene.copy), "nothing is sent twice");
    let mut lines = 0;
    let report = read(
        &Disk::default(),
        &scene.copy,
        Position::default(),
        &mut |_, _| {
            lines += 1;
            ControlFlow::Continue(())
        },
    );
    let report = report.unwrap();
    assert_eq!((lines, report.bad_lines, report.position), (79, 0, last));
}

/// Where the copy ends, as its reader sees it.
fn last_of(scene: &Scene) -> Position {
    let all = &mut |_: &str, _| ControlFlow::Continue(());
    let report = read(&Disk::default(), &scene.copy, Position::default(), all);
    report.unwrap().position
}

#[test]
fn an_empty_ledger_leaves_nothing_to_copy() {
    let scene = Scene::new();
    let start = Position::default();
    assert_eq!(scene.ship(start), in_step(start, 0));
    assert_eq!(scene.ship_after(start, start), in_step(start, 0));
    assert!(!scene.copy.exists());
}

/// Method: the ledger is shipped up to each of its lines while all of them are there, to a new copy and to one that is
/// a line behind.
#[test]
fn nothing_after_the_position_asked_for_is_copied() {
    let scene = Scene::new();
    let ledger = scene.ledger();
    let positions: Vec<Position> = (0..20).map(|n| add(&ledger, n..n + 1)).collect();
    for upto in &positions {
        scene.ship(*upto);
        assert_eq!(last_of(&scene), *upto);
        assert_eq!(bytes(&scene.copy), place_bytes(&scene, *upto));
        let step_by_step = files(&scene.copy);
        std::fs::remove_dir_all(&scene.copy).unwrap();
        scene.ship(*upto);
        assert_eq!(files(&scene.copy), step_by_step);
    }
}

/// Length of the ledger up to a position.
fn place_bytes(scene: &Scene, position: Position) -> u64 {
    let before = (1..position.segment).map(|n| {
        let path = scene.ours.join(layout::segment_file(n));
        std::fs::metadata(path).unwrap().len()
    });
    before.sum::<u64>() + position.offset
}

/// Method: the ledger is taken away, so that reading it would fail, and the copy's disk refuses every change.
#[test]
fn with_nothing_new_neither_ledger_nor_copy_is_touched() {
    let scene = Scene::new();
    let upto = add(&scene.ledger(), 0..50);
    let shipped = scene.ship(upto);
    std::fs::remove_dir_all(&scene.ours).unwrap();
    let frozen = observed(|op| panic!("{op:?}"));
    let again = ship_after(
        shipped.position,
        &frozen,
        &scene.ours,
        &frozen,
        &scene.copy,
        upto,
    );
    assert_eq!(again.unwrap(), in_step(upto, 0));
}

#[test]
fn a_copy_that_was_removed_or_lost_a_segment_is_completed_again() {
    let scene = Scene::new();
    let upto = add(&scene.ledger(), 0..50);
    let last = scene.ship(upto).position;
    std::fs::remove_dir_all(&scene.copy).unwrap();
    assert_eq!(scene.ship_after(last, upto).state, CopyState::InStep);
    scene.assert_same();
    std::fs::remove_file(scene.segment(2)).unwrap();
    let middle = std::fs::OpenOptions::new()
        .write(true)
        .open(scene.segment(3));
    middle.unwrap().set_len(7).unwrap();
    assert_eq!(scene.ship(upto).state, CopyState::InStep);
    scene.assert_same();
}

/// What a power cut leaves of a call that did not happen, or of what was not flushed before it.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Nothing of it.
    Nothing,
    /// Half of the bytes.
    Half,
    /// The length, but zeros in the place of the first half of the bytes.
    Hole,
}

/// Method: a copy that is missing, or behind, is shipped with every disk call in turn being the last one; what was
/// written and not flushed is lost in three ways. The next call finds a copy that it can complete.
#[test]
fn after_a_crash_at_every_disk_call_the_next_one_completes_the_copy() {
    let scene = Scene::new();
    let ledger = scene.ledger();
    let behind = add(&ledger, 0..24);
    scene.ship(behind);
    let start = scene.copy.with_file_name("start");
    copy_tree(&scene.copy, &start);
    let upto = add(&ledger, 24..60);
    let mut calls = 0;
    for start in [None, Some(start.as_path())] {
        for cut in [Cut::Nothing, Cut::Half, Cut::Hole] {
            for at in 0.. {
                let _ = std::fs::remove_dir_all(&scene.copy);
                if let Some(start) = start {
                    copy_tree(start, &scene.copy);
                }
                let cutter = Arc::new(PowerCut {
                    at,
                    cut,
                    count: AtomicUsize::new(0),
                    unflushed: Mutex::new(None),
                });
                let crashed = scene.ship_on(&Disk::observed(cutter.clone()), upto);
                let whole = cutter.count.load(Ordering::SeqCst) <= at;
                assert_eq!(crashed.is_ok(), whole, "{cut:?} at call {at}");
                if whole {
                    scene.assert_same();
                    calls += at;
                    break;
                }
                let shipped = scene.ship_on(&Disk::default(), upto).unwrap();
                assert_eq!(
                    (shipped.state, shipped.position),
                    (CopyState::InStep, upto),
                    "{cut:?} at call {at}"
                );
                scene.assert_same();
            }
        }
    }
    assert!(calls > 60, "{calls}");
}

struct PowerCut {
    at: usize,
    cut: Cut,
    count: AtomicUsize,
    unflushed: Mutex<Option<(PathBuf, u64, Vec<u8>)>>,
}

impl PowerCut {
    fn lose(&self) {
        let Some((path, offset, bytes)) = self.unflushed.lock().unwrap().take() else {
            return;
        };
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let half = bytes.len() / 2;
        file.set_len(offset).unwrap();
        match self.cut {
            Cut::Nothing => {}
            Cut::Half => file.write_all_at(&bytes[..half], offset).unwrap(),
            Cut::Hole => {
                let end = offset + half as u64;
                file.write_all_at(&bytes[half..], end).unwrap();
            }
        }
    }
}

impl Observer for PowerCut {
    fn before(&self, op: &Op) -> io::Result<()> {
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        if n > self.at {
            return Err(io::Error::from_raw_os_error(5));
        }
        match op {
            Op::Write {
                path,
                offset,
                bytes,
            } => {
                let write = (path.to_path_buf(), *offset, bytes.to_vec());
                *self.unflushed.lock().unwrap() = Some(write);
            }
            Op::SyncFile(_) if n < self.at => *self.unflushed.lock().unwrap() = None,
            _ => {}
        }
        if n == self.at {
            self.lose();
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

/// Method: the copy's last segment is cut at every length, down to nothing; then garbage is put behind the whole copy.
#[test]
fn a_torn_end_of_the_copy_is_cut_and_written_again() {
    let scene = Scene::new();
    let ledger = scene.ledger();
    let upto = add(&ledger, 0..20);
    scene.ship(upto);
    let last = scene.segment(upto.segment);
    let whole = std::fs::read(&last).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&last, &whole[..len]).unwrap();
        let missing = (whole.len() - len) as u64;
        assert_eq!(scene.ship(upto), in_step(upto, missing), "{len}");
        scene.assert_same();
    }
    for garbage in [
        &b"\0\0\0"[..],
        b"junk\n",
        b"{\"n\":9}\n",
        &[0xFF; 2_000_000],
    ] {
        std::fs::write(&last, [&whole[..], garbage].concat()).unwrap();
        assert_eq!(scene.ship(upto).state, CopyState::InStep);
        scene.assert_same();
    }
}

/// Method: a byte of the ledger changes after it was copied; then more lines come.
#[test]
fn damage_of_the_ledger_does_not_reach_what_was_copied_before() {
    let scene = Scene::new();
    let ledger = scene.ledger();
    let upto = add(&ledger, 0..3);
    let ours = scene.ours.join(layout::segment_file(1));
    scene.ship(upto);
    let good = std::fs::read(&ours).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&ours).unwrap();
    file.write_all_at(b"X", good.len() as u64 - 50).unwrap();
    let upto = add(&ledger, 3..5);
    assert_eq!(scene.ship(upto).state, CopyState::InStep);
    let copied = std::fs::read(scene.segment(1)).unwrap();
    assert!(copied.starts_with(&good) && copied.len() > good.len());
    assert_eq!(last_of(&scene), upto);
}

/// Method: the ledger's folder is replaced by what it was some lines before, as when a disk is restored from a clone.
#[test]
fn a_copy_that_knows_more_than_its_ledger_is_left_as_it_is() {
    let scene = Scene::new();
    let ledger = scene.ledger();
    for (n, clone_lines) in [(0, 1), (1, 4), (2, 15)] {
        let clone = scene.ours.with_file_name(format!("clone-{n}"));
        let first = n * 100;
        let old = add(&ledger, first..first + clone_lines);
        copy_tree(&scene.ours, &clone);
        let new = add(&ledger, first + clone_lines..first + 20);
        scene.ship(new);
        let known = files(&scene.copy);
        let restored = Scene {
            ours: clone,
            copy: scene.copy.clone(),
            _base: tempfile::tempdir().unwrap(),
        };
        let expected = Shipped {
            position: new,
            bytes: 0,
            state: CopyState::SourceBehind,
        };
        assert_eq!(restored.ship(old), expected);
        assert_eq!(restored.ship_after(new, old), expected);
        assert_eq!(restored.ship(Position::default()), expected);
        assert_eq!(files(&scene.copy), known);
        // The disk that was away comes back.
        let newer = add(&ledger, first + 20..first + 30);
        assert_eq!(scene.ship_after(new, newer).state, CopyState::InStep);
        scene.assert_same();
    }
}

/// Method: the ledger is restored from a clone and goes on otherwise, to less and to more than the copy has.
#[test]
fn a_copy_of_another_ledger_is_set_aside_and_made_again() {
    for lines in [12, 40] {
        let scene = Scene::new();
        let ledger = scene.ledger();
        add(&ledger, 0..10);
        let clone = scene.ours.with_file_name("clone");
        copy_tree(&scene.ours, &clone);
        let mut last = scene.ship(add(&ledger, 10..20)).position;
        drop(ledger);
        for n in 1..=2 {
            let known = files(&scene.copy);
            copy_tree(&clone, &scene.ours);
            let ledger = scene.ledger();
            let upto = add(&ledger, n * 100..n * 100 + lines);
            let shipped = match n {
                1 => scene.ship(upto),
                _ => scene.ship_after(last, upto),
            };
            let aside = scene.copy.with_file_name(format!("v.aside-{n}"));
            let expected = Shipped {
                position: upto,
                bytes: bytes(&scene.ours),
                state: CopyState::SetAside(aside.clone()),
            };
            assert_eq!(shipped, expected);
            scene.assert_same();
            assert_eq!(files(&aside), known);
            last = upto;
        }
    }
}

/// Method: every disk call in turn finds the disk full, and from then on all that write.
#[test]
fn a_full_disk_is_an_error_that_names_the_copy_and_leaves_it_to_be_completed() {
    let scene = Scene::new();
    let upto = add(&scene.ledger(), 0..50);
    for at in 0.. {
        let count = AtomicUsize::new(0);
        let full = observed(move |op| {
            let writes = matches!(op, Op::Write { .. } | Op::CreateFile(_) | Op::CreateDir(_));
            if writes && count.fetch_add(1, Ordering::SeqCst) >= at {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            Ok(())
        });
        match scene.ship_on(&full, upto) {
            Ok(_) => break,
            Err(LedgerError::Io { path, source }) => {
                assert!(path.starts_with(&scene.copy), "{}", path.display());
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            Err(other) => panic!("{other}"),
        }
        let shipped = scene.ship(upto);
        assert_eq!(shipped.state, CopyState::InStep);
        scene.assert_same();
        std::fs::remove_dir_all(&scene.copy).unwrap();
    }
}

#[test]
fn a_ledger_that_ends_before_the_position_is_an_error_and_not_a_short_copy() {
    let scene = Scene::new();
    let mut upto = add(&scene.ledger(), 0..2);
    upto.offset += 10;
    let disk = Disk::default();
    assert!(ship(&disk, &scene.ours, &disk, &scene.copy, upto).is_err());
}
