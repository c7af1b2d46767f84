use super::*;
use crate::volume::io::{Observer, Op};
use crate::volume::ledger::{Ledger, read};
use crate::volume::shipping::ship;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A ledger in segments of a few lines, its copy, and both as they were.
struct Scene {
    base: tempfile::TempDir,
    ours: PathBuf,
    copy: PathBuf,
    /// What the ledger was before it was damaged.
    whole: Files,
}

type Files = BTreeMap<String, Vec<u8>>;

impl Scene {
    /// A ledger of `count` lines with a copy of the first `copied`.
    fn new(count: usize, copied: usize) -> Scene {
        let base = tempfile::tempdir().unwrap();
        let (ours, copy) = (base.path().join("a/v"), base.path().join("b/v"));
        let ledger = open(&ours);
        if copied > 0 {
            let upto = add(&ledger, 0..copied);
            ship(&Disk::default(), &ours, &Disk::default(), &copy, upto).unwrap();
        }
        if count > copied {
            add(&ledger, copied..count);
        }
        let whole = files(&ours);
        Scene {
            base,
            ours,
            copy,
            whole,
        }
    }

    fn segment(&self, n: u32) -> PathBuf {
        self.ours.join(layout::segment_file(n))
    }

    fn heal(&self) -> Healing {
        self.heal_on(&Disk::default()).unwrap()
    }

    fn open(&self, disk: &Disk) -> Healing {
        let copies = Copies {
            list: vec![copy_in(&self.copy)],
            before_insert: &|| {},
        };
        heal_at_opening(disk, &self.ours, &copies).unwrap()
    }

    fn heal_on(&self, disk: &Disk) -> Result<Healing, LedgerError> {
        let copies = Copies {
            list: vec![copy_in(&self.copy)],
            before_insert: &|| {},
        };
        heal(disk, &self.ours, &copies)
    }

    /// The ledger is what it was, byte for byte; how many damaged segments are beside it.
    fn assert_whole(&self) -> usize {
        let (kept, now): (Files, Files) = files(&self.ours)
            .into_iter()
            .partition(|(name, _)| name.starts_with("damaged-"));
        let text = |files: &Files| {
            let texts = files.iter();
            let texts = texts.map(|(name, f)| (name.clone(), String::from_utf8_lossy(f).into()));
            texts.collect::<BTreeMap<String, String>>()
        };
        assert_eq!(text(&now), text(&self.whole));
        assert_eq!(self.heal().notes, Vec::<String>::new(), "nothing is left");
        kept.len()
    }
}

fn copy_in(folder: &Path) -> LedgerCopy {
    LedgerCopy {
        disk: Disk::default(),
        folder: folder.to_owned(),
        stays: true,
    }
}

fn open(folder: &Path) -> Ledger<()> {
    Ledger::open_with(&Disk::default(), folder, Box::new(|_| {}), 460).unwrap()
}

fn add(ledger: &Ledger<()>, lines: std::ops::Range<usize>) -> Position {
    let add = |n| ledger.append(&[], format!("{{\"n\":{n}}}"), ()).unwrap();
    lines.map(add).last().unwrap()
}

fn files(folder: &Path) -> Files {
    let Ok(names) = std::fs::read_dir(folder) else {
        return Files::new();
    };
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    names.map(|entry| file(entry.unwrap())).collect()
}

fn put(folder: &Path, content: &Files) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in content {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn change(path: &Path, f: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    f(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Where the line of number `n` begins in a segment.
fn line_of(bytes: &[u8], n: usize) -> usize {
    let needle = format!("{{\"n\":{n},");
    let mut places = bytes.windows(needle.len());
    places.position(|part| part == needle.as_bytes()).unwrap()
}

fn numbers(folder: &Path) -> (Vec<usize>, u64) {
    let mut found = Vec::new();
    let report = read(
        &Disk::default(),
        folder,
        Position::default(),
        &mut |line, _| {
            let n = line.strip_prefix("{\"n\":").unwrap();
            found.push(n.strip_suffix('}').unwrap().parse().unwrap());
            ControlFlow::Continue(())
        },
    );
    (found, report.unwrap().bad_lines)
}

/// The ways in which the end of a ledger goes.
#[test]
fn what_is_lost_at_the_end_comes_back_byte_for_byte() {
    type Harm = fn(&Scene);
    let harms: [(&str, Harm); 7] = [
        ("the last line torn", |s| {
            change(&s.segment(4), |b| b.truncate(b.len() - 9));
        }),
        ("cut between two lines", |s| {
            change(&s.segment(4), |b| {
                let at = line_of(b, 50);
                b.truncate(at);
            });
        }),
        ("an empty last segment", |s| {
            change(&s.segment(4), Vec::clear);
        }),
        ("the last segment gone", |s| {
            std::fs::remove_file(s.segment(4)).unwrap();
        }),
        ("the last two gone and one torn", |s| {
            std::fs::remove_file(s.segment(4)).unwrap();
            std::fs::remove_file(s.segment(3)).unwrap();
            change(&s.segment(2), |b| b.truncate(111));
        }),
        ("one in the middle gone", |s| {
            std::fs::remove_file(s.segment(2)).unwrap();
        }),
        ("all gone", |s| std::fs::remove_dir_all(&s.ours).unwrap()),
    ];
    for (name, harm) in harms {
        let scene = Scene::new(58, 58);
        assert!(scene.segment(4).exists() && !scene.segment(5).exists());
        harm(&scene);
        // The opening does not read all of it, and sees this.
        let healing = scene.open(&Disk::default());
        assert_eq!(healing.notes.len(), 1, "{name}");
        assert!(
            healing.notes[0].contains("put back"),
            "{name}: {:?}",
            healing.notes
        );
        assert_eq!(scene.assert_whole(), 0, "{name}");
        // And it goes on.
        add(&open(&scene.ours), 58..60);
        assert_eq!(numbers(&scene.ours), ((0..60).collect(), 0), "{name}");
    }
}

/// Each harm with a copy that has all, and with one that lacks the last lines: those are kept.
#[test]
fn damage_in_the_middle_is_replaced_and_no_good_line_is_lost() {
    type Harm = fn(&Scene);
    let harms: [(&str, usize, Harm); 7] = [
        ("a byte flipped", 1, |s| {
            change(&s.segment(2), |b| {
                let at = line_of(b, 20);
                b[at + 2] ^= 4;
            });
        }),
        ("a checksum flipped", 1, |s| {
            change(&s.segment(2), |b| {
                let at = line_of(b, 20) - 4;
                b[at] ^= 1;
            });
        }),
        ("zeros over some lines", 1, |s| {
            change(&s.segment(2), |b| b[100..300].fill(0));
        }),
        ("bytes put in", 1, |s| {
            change(&s.segment(2), |b| {
                b.splice(200..200, *b"rot\nrot");
            });
        }),
        ("a line taken out", 1, |s| {
            change(&s.segment(2), |b| {
                let range = line_of(b, 20)..line_of(b, 21);
                b.drain(range);
            });
        }),
        ("a header, and the whole next segment", 2, |s| {
            change(&s.segment(2), |b| b[5] ^= 1);
            change(&s.segment(3), |b| b.fill(0));
        }),
        ("in the segment that the copy ends in", 1, |s| {
            change(&s.segment(4), |b| {
                let at = line_of(b, 50);
                b[at + 2] ^= 4;
            });
        }),
    ];
    for (name, kept, harm) in harms {
        for copied in [58, 54] {
            let scene = Scene::new(58, copied);
            harm(&scene);
            let damaged = files(&scene.ours);
            let healing = scene.heal();
            assert!(
                healing.notes[0].contains("damaged segments were replaced"),
                "{name}: {:?}",
                healing.notes
            );
            assert_eq!(scene.assert_whole(), kept, "{name} {copied}");
            for (file, bytes) in files(&scene.ours) {
                if let Some(rest) = file.strip_prefix("damaged-") {
                    let segment = rest.replace("-1.bytes", ".jsonl");
                    assert_eq!(bytes, damaged[&segment], "{name}: {file}");
                }
            }
        }
    }
}

/// Lines 53 to 55 are damaged; the copy ends after 54. Line 56 cannot be checked against it, and is kept.
#[test]
fn damage_that_goes_on_behind_the_end_of_the_copy_costs_what_nobody_has() {
    let scene = Scene::new(58, 55);
    change(&scene.segment(4), |b| {
        let (from, upto) = (line_of(b, 53), line_of(b, 56));
        b[from + 3..upto - 3].fill(0);
    });
    let before = numbers(&scene.ours);
    assert!(!before.0.contains(&54) && before.0.contains(&57));
    scene.heal();
    let (now, bad_lines) = numbers(&scene.ours);
    assert!(now.contains(&53) && now.contains(&54), "{now:?}");
    assert!(before.0.iter().all(|n| now.contains(n)));
    assert!(bad_lines > 0);
}

/// Method: every read of a ledger of many segments is counted, at an opening where all is well and where one byte inside a
/// segment is not.
#[test]
fn an_opening_reads_the_ends_of_segments_and_leaves_the_rest_for_later() {
    for rotten in [false, true] {
        let scene = Scene::new(400, 400);
        let last = segments(&Disk::default(), &scene.ours).unwrap().len() as u32;
        assert!(last > 20);
        if rotten {
            change(&scene.segment(2), |b| {
                let at = line_of(b, 20);
                b[at + 2] ^= 4;
            });
        }
        let reads = Arc::new(Mutex::new(BTreeMap::<PathBuf, usize>::new()));
        let disk = Disk::observed(Arc::new(Counted(reads.clone())));
        assert_eq!(scene.open(&disk).notes, Vec::<String>::new());
        // The header, the last line, and of the last segment all.
        for (path, count) in reads.lock().unwrap().iter() {
            assert!(*count <= 3 || *path == scene.segment(last), "{path:?}");
        }
        if rotten {
            assert_eq!(scene.heal().notes.len(), 1);
        }
        scene.assert_whole();
    }
}

struct Counted(Arc<Mutex<BTreeMap<PathBuf, usize>>>);
impl Observer for Counted {
    fn before(&self, _: &Op) -> io::Result<()> {
        Ok(())
    }

    fn before_read(&self, path: &Path, _: u64, _: usize) -> io::Result<()> {
        *self.0.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        Ok(())
    }
}

/// The copy ends in the midst of the ledger, at a line that is damaged there: who ships would take it for another history.
#[test]
fn a_copy_whose_end_is_not_in_the_ledger_is_looked_at_when_it_is_opened() {
    let scene = Scene::new(58, 25);
    change(&scene.segment(2), |b| {
        let at = line_of(b, 24);
        b[at + 15..at + 23].fill(0);
    });
    assert!(scene.open(&Disk::default()).notes[0].contains("were replaced"));
    assert_eq!(scene.assert_whole(), 1);
}

/// The last segment is being written to, so it is left alone, whatever it looks like.
#[test]
fn while_it_is_open_only_segments_that_are_not_written_to_are_healed() {
    let scene = Scene::new(58, 58);
    change(&scene.segment(2), |b| b[200] ^= 1);
    change(&scene.segment(4), |b| {
        let at = line_of(b, 50);
        b[at + 2] ^= 4;
    });
    let before = std::fs::read(scene.segment(4)).unwrap();
    let copies = Copies {
        list: vec![copy_in(&scene.copy)],
        before_insert: &|| {},
    };
    let healing = heal_upto(&Disk::default(), &scene.ours, &copies, 3).unwrap();
    assert!(healing.notes[0].contains("(00000002.jsonl)"));
    assert_eq!(std::fs::read(scene.segment(4)).unwrap(), before);
    assert_eq!(
        std::fs::read(scene.segment(2)).unwrap(),
        scene.whole["00000002.jsonl"]
    );
}

#[test]
fn two_histories_are_not_mixed() {
    for damaged in [false, true] {
        let scene = Scene::new(40, 40);
        // Restored from an older clone, and gone on otherwise; the copy is longer.
        change(&scene.segment(2), |b| {
            let at = line_of(b, 20);
            b.truncate(at);
        });
        for n in 3.. {
            if std::fs::remove_file(scene.segment(n)).is_err() {
                break;
            }
        }
        add(&open(&scene.ours), 100..103);
        if damaged {
            change(&scene.segment(2), |b| {
                let at = line_of(b, 19);
                b[at + 2] ^= 4;
            });
        }
        let before = (files(&scene.ours), files(&scene.copy));
        let healing = scene.heal();
        assert!(healing.notes[0].contains("went on differently"));
        assert_eq!((files(&scene.ours), files(&scene.copy)), before);
    }
}

/// A copy with rot in it, one of another volume, one that somebody renamed, and one that is gone.
#[test]
fn a_copy_is_believed_as_far_as_it_is_whole_and_no_farther() {
    let scene = Scene::new(58, 58);
    std::fs::remove_file(scene.segment(4)).unwrap();
    std::fs::remove_file(scene.segment(3)).unwrap();
    let third = scene.copy.join(layout::segment_file(3));
    let mut good = 0;
    change(&third, |b| {
        good = line_of(b, 40);
        b[good + 2] ^= 4;
    });
    scene.heal();
    assert!(!scene.segment(4).exists());
    assert_eq!(
        std::fs::read(scene.segment(3)).unwrap(),
        scene.whole["00000003.jsonl"][..good]
    );

    // The bytes of another volume's ledger under this one's name.
    let scene = Scene::new(58, 58);
    let other = scene.base.path().join("other");
    add(&open(&other), 0..58);
    put(&scene.copy, &files(&other));
    std::fs::remove_dir_all(&scene.ours).unwrap();
    assert_eq!(scene.heal().notes, Vec::<String>::new());
    std::fs::remove_dir_all(&scene.copy).unwrap();
    assert_eq!(scene.heal().notes, Vec::<String>::new());
    assert!(!scene.ours.exists());
}

#[test]
fn the_copy_that_knows_most_is_taken_unless_two_contradict_each_other() {
    let scene = Scene::new(58, 58);
    let older = scene.base.path().join("older/v");
    put(&older, &files(&scene.copy));
    std::fs::remove_file(older.join(layout::segment_file(4))).unwrap();
    let from = |list: &[&Path]| {
        let _ = std::fs::remove_dir_all(&scene.ours);
        let copies = Copies {
            list: list.iter().map(|folder| copy_in(folder)).collect(),
            before_insert: &|| {},
        };
        heal(&Disk::default(), &scene.ours, &copies).unwrap()
    };
    from(&[&older, &scene.copy]);
    scene.assert_whole();
    // The older one goes on otherwise.
    add(&open(&older), 100..101);
    let healing = from(&[&older, &scene.copy]);
    assert!(healing.notes[0].contains("went on differently"));
    assert!(!scene.ours.exists());
}

#[test]
fn lines_that_appear_in_the_midst_are_announced_before() {
    let announced = |harm: fn(&Scene)| {
        let scene = Scene::new(58, 58);
        harm(&scene);
        let (count, then) = (Cell::new(0), Mutex::new(Files::new()));
        let copies = Copies {
            list: vec![copy_in(&scene.copy)],
            before_insert: &|| {
                count.set(count.get() + 1);
                *then.lock().unwrap() = files(&scene.ours);
            },
        };
        let before = files(&scene.ours);
        heal(&Disk::default(), &scene.ours, &copies).unwrap();
        assert!(count.get() == 0 || *then.lock().unwrap() == before);
        count.get()
    };
    assert_eq!(announced(|s| change(&s.segment(4), Vec::clear)), 0);
    assert_eq!(announced(|s| change(&s.segment(2), Vec::clear)), 1);
    assert_eq!(announced(|s| change(&s.segment(2), |b| b[200] ^= 1)), 1);
}

#[test]
fn of_a_ledger_that_cannot_be_written_the_better_one_is_read() {
    for (count, instead) in [(58, true), (59, false)] {
        let scene = Scene::new(count, 58);
        change(&scene.segment(2), |b| b[200] ^= 1);
        let before = files(&scene.ours);
        let copies = Copies {
            list: vec![copy_in(&scene.copy)],
            before_insert: &|| panic!("nothing is inserted"),
        };
        let healing = heal_nothing(&Disk::default(), &scene.ours, &copies).unwrap();
        assert_eq!(healing.notes.len(), 1);
        let read = healing.read_instead.map(|copy| copy.folder);
        assert_eq!(read, instead.then(|| scene.copy.clone()));
        assert_eq!(files(&scene.ours), before);
    }
}

#[test]
fn a_segment_that_rots_again_and_again_keeps_a_bounded_number_of_damaged_ones() {
    let scene = Scene::new(58, 58);
    for n in 0..DAMAGED_COUNT_MAX + 3 {
        change(&scene.segment(2), |b| b[100 + n as usize] ^= 1);
        scene.heal();
    }
    assert_eq!(scene.assert_whole(), DAMAGED_COUNT_MAX as usize);
}

struct Fault<F>(F);
impl<F: Fn(&Op) -> io::Result<()> + Send + Sync> Observer for Fault<F> {
    fn before(&self, op: &Op) -> io::Result<()> {
        (self.0)(op)
    }
}

fn observed(f: impl Fn(&Op) -> io::Result<()> + Send + Sync + 'static) -> Disk {
    Disk::observed(Arc::new(Fault(f)))
}

/// Of what was written since the last flush, half is on the disk.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Kill,
    Power,
}

/// Method: every call from the n-th on fails, as in a process that was killed; or, as after a power cut, the file that was being
/// written has lost half of what was written after its last flush. Then it is opened with the copy again.
#[test]
fn killed_or_cut_off_at_every_call_the_next_start_ends_the_same() {
    for cut in [Cut::Kill, Cut::Power] {
        for stop in 0.. {
            let scene = Scene::new(58, 55);
            change(&scene.segment(2), |b| b[100..300].fill(0));
            change(&scene.segment(3), |b| b.truncate(200));
            change(&scene.segment(4), |b| {
                let at = line_of(b, 50);
                b[at + 2] ^= 4;
            });
            let calls = Arc::new(AtomicUsize::new(0));
            // Bytes of each file that were not flushed.
            let loose: Arc<Mutex<BTreeMap<PathBuf, u64>>> = Arc::default();
            let (counter, writes) = (calls.clone(), loose.clone());
            let disk = observed(move |op| {
                if counter.fetch_add(1, Ordering::Relaxed) >= stop {
                    return Err(io::Error::other("cut off"));
                }
                let mut writes = writes.lock().unwrap();
                match op {
                    Op::Write { path, bytes, .. } => {
                        *writes.entry(path.to_path_buf()).or_default() += bytes.len() as u64;
                    }
                    Op::SyncFile(path) => drop(writes.remove(*path)),
                    Op::Rename { from, .. } => {
                        assert!(
                            !writes.contains_key(*from),
                            "flushed before it has the name"
                        );
                    }
                    _ => {}
                }
                Ok(())
            });
            let done = scene.heal_on(&disk);
            if let Cut::Power = cut {
                for (path, count) in loose.lock().unwrap().iter() {
                    if let Ok(bytes) = std::fs::read(path) {
                        let left = bytes.len() - *count as usize / 2;
                        std::fs::write(path, &bytes[..left]).unwrap();
                    }
                }
            }
            if done.is_err() {
                scene.heal();
            }
            let unfinished = scene.ours.join(layout::segment_in_repair(2));
            let _ = std::fs::remove_file(unfinished);
            assert_eq!(scene.assert_whole(), 2, "{cut:?} {stop}");
            if done.is_ok() {
                assert!(stop > 15, "{stop}");
                break;
            }
        }
    }
}

/// A disk on which some bytes of one file cannot be read.
struct Unreadable {
    path: PathBuf,
    bytes: std::ops::Range<u64>,
    /// It is another file by now.
    identity: (u64, u64),
}

impl Observer for Unreadable {
    fn before(&self, _: &Op) -> io::Result<()> {
        Ok(())
    }

    fn before_read(&self, path: &Path, offset: u64, count: usize) -> io::Result<()> {
        let is_in = offset < self.bytes.end && offset + count as u64 > self.bytes.start;
        if path == self.path && is_in && identity(path) == self.identity {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

fn identity(path: &Path) -> (u64, u64) {
    Disk::default().entry(path).unwrap().unwrap().identity
}

/// Method: a ledger of one large segment, with sectors that give an I/O error where the copy is whole, over its end, and behind
/// it.
#[test]
fn what_the_disk_cannot_read_is_damage() {
    const SECTOR: u64 = 4096;
    for (copied, sectors) in [
        (2_000, 3..5),
        (1_000, 3..5),
        (1_000, 0..1),
        (1_000, 6..8),
        (1_000, 9..10),
    ] {
        let base = tempfile::tempdir().unwrap();
        let (ours, copy) = (base.path().join("a/v"), base.path().join("b/v"));
        let disk = Disk::default();
        let ledger = Ledger::open(&disk, &ours, Box::new(|_| {})).unwrap();
        let upto = add_all(&ledger, 0..copied);
        ship(&disk, &ours, &disk, &copy, upto).unwrap();
        if copied < 2_000 {
            add_all(&ledger, copied..2_000);
        }
        drop(ledger);
        let path = ours.join(layout::segment_file(1));
        let broken = Disk::observed(Arc::new(Unreadable {
            identity: identity(&path),
            bytes: sectors.start * SECTOR..sectors.end * SECTOR,
            path: path.clone(),
        }));
        let whole = std::fs::read(&path).unwrap();
        let lost = whole.len() as u64 > upto.offset && sectors.end * SECTOR > upto.offset;
        let copies = Copies {
            list: vec![copy_in(&copy)],
            before_insert: &|| {},
        };
        let healing = heal(&broken, &ours, &copies).unwrap();
        if sectors.start * SECTOR >= upto.offset {
            // Nobody has these lines.
            assert_eq!(healing.notes, Vec::<String>::new());
            continue;
        }
        assert!(healing.notes[0].contains("were replaced"), "{copied}");
        let now = std::fs::read(&path).unwrap();
        assert_eq!(now.len(), whole.len());
        let same = now.iter().zip(&whole).filter(|(a, b)| a == b).count();
        match lost {
            true => assert!(same > whole.len() - 2 * SECTOR as usize && same < whole.len()),
            false => assert_eq!(same, whole.len()),
        }
        let (numbers, _) = numbers(&ours);
        assert!((0..copied).all(|n| numbers.contains(&n)) && numbers.contains(&1_999));
    }
}

fn add_all(ledger: &Ledger<()>, lines: std::ops::Range<usize>) -> Position {
    let line = |n| (Vec::new(), format!("{{\"n\":{n}}}"), ());
    ledger.append_all(lines.map(line).collect()).unwrap()
}
