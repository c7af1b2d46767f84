//! A disk call that fails, each in turn: with a second volume nothing is refused, and nothing acknowledged is lost.

mod common;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Random;
use common::build::{CT_IMAGE_STORAGE, synthetic_ct};
use common::wire::IMPLICIT_LITTLE;
use kura::archive::{Announced, Archive, FindError, Mode, Selected, Selection};
use kura::config::Config;
use kura::volume::io::{Disk, Observer, Op};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It does nothing.
    Not,
    /// Of a write the first half reaches the disk.
    Half,
    /// It is done, and said to have failed.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    errno: i32,
    how: How,
    /// All calls after it fail too.
    for_good: bool,
}

/// Counts the mutating calls below `root`, and lets some fail.
struct Faulty {
    root: PathBuf,
    calls: AtomicUsize,
    /// The number of the first call that fails.
    at: AtomicUsize,
    fault: Fault,
}

impl Observer for Faulty {
    fn before(&self, op: &Op) -> io::Result<()> {
        let path = match op {
            Op::CreateDir(path)
            | Op::CreateFile(path)
            | Op::Write { path, .. }
            | Op::SetLen { path, .. }
            | Op::SyncFile(path)
            | Op::SyncDir(path)
            | Op::SyncFileSystem(path)
            | Op::Link { to: path, .. }
            | Op::Rename { to: path, .. }
            | Op::Remove(path) => *path,
        };
        if !path.starts_with(&self.root) {
            return Ok(());
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let at = self.at.load(Ordering::SeqCst);
        if number < at || (number > at && !self.fault.for_good) {
            return Ok(());
        }
        let how = match number == at {
            true => self.fault.how,
            false => How::Not,
        };
        do_it(op, how);
        Err(io::Error::from_raw_os_error(self.fault.errno))
    }
}

fn do_it(op: &Op, how: How) {
    let done = match (op, how) {
        (_, How::Not) => return,
        (
            Op::Write {
                path,
                offset,
                bytes,
            },
            _,
        ) => {
            let count = match how {
                How::Half => bytes.len() / 2,
                _ => bytes.len(),
            };
            let file = std::fs::OpenOptions::new().write(true).open(path);
            file.and_then(|file| file.write_all_at(&bytes[..count], *offset))
        }
        (_, How::Half) => return,
        (Op::CreateDir(path), _) => std::fs::create_dir(path),
        (Op::CreateFile(path), _) => std::fs::File::create_new(path).map(drop),
        (Op::Link { from, to }, _) => std::fs::hard_link(from, to),
        (Op::Rename { from, to }, _) => std::fs::rename(from, to),
        (Op::Remove(path), _) => std::fs::remove_file(path),
        (Op::SetLen { .. } | Op::SyncFile(_) | Op::SyncDir(_) | Op::SyncFileSystem(_), _) => return,
    };
    // What is there already is as good as made.
    drop(done);
}

struct Instance {
    announced: Announced,
    data_set: Vec<u8>,
}

fn instance(study: u32, number: u32, pixel_bytes: usize) -> Instance {
    let (study, sop) = (format!("2.25.9{study}"), format!("2.25.7{study}.{number}"));
    let series = format!("{study}.1");
    Instance {
        data_set: synthetic_ct(&study, &series, &sop, number, pixel_bytes, false),
        announced: Announced {
            sop_class_uid: CT_IMAGE_STORAGE.to_owned(),
            sop_instance_uid: sop,
            transfer_syntax: IMPLICIT_LITTLE.to_owned(),
            calling_ae_title: "TESTER".to_owned(),
            prefer: None,
        },
    }
}

/// `Err`: refused, in words.
fn store(archive: &Archive, instance: &Instance) -> Result<(), String> {
    let mut receiving = archive
        .begin(instance.announced.clone())
        .map_err(|error| error.to_string())?;
    for piece in instance.data_set.chunks(200_000) {
        receiving.write(piece).map_err(|error| error.to_string())?;
    }
    receiving
        .finish()
        .map(|kept| kept.answered())
        .map_err(|error| error.to_string())
}

/// What is answered under a UID, when the index is whole.
fn selected(archive: &Archive, uid: &str) -> Vec<Selected> {
    loop {
        match archive.select(&Selection::Instances(vec![uid.to_owned()])) {
            Err(FindError::Rebuilding { .. }) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            selected => return selected.expect("selected"),
        }
    }
}

fn assert_there(archive: &Archive, instances: &[&Instance], said: &str) {
    for instance in instances {
        let uid = &instance.announced.sop_instance_uid;
        let selected = selected(archive, uid);
        let selected = selected.first();
        let selected = selected.unwrap_or_else(|| panic!("{said}: {uid} is not known"));
        let mut fetched = archive
            .fetch(selected)
            .unwrap_or_else(|error| panic!("{said}: {error}"));
        let mut bytes = vec![0; fetched.length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += fetched.read(&mut bytes[filled..]).expect("read");
        }
        assert!(bytes == instance.data_set, "{said}: {uid} has other bytes");
    }
    assert_eq!(archive.status().index.conflicts_count, 0, "{said}");
    assert_eq!(
        archive.status().index.instances_count,
        instances.len() as u64,
        "{said}"
    );
}

/// In memory where that is possible: no test of flushes, so none needs to wait for one.
fn scratch() -> tempfile::TempDir {
    tempfile::TempDir::new_in("/dev/shm")
        .or_else(|_| tempfile::TempDir::new())
        .expect("temporary folder")
}

#[derive(Clone, Copy)]
struct Shelf<'a> {
    names: &'a [&'a str],
    /// Through an intake journal on each volume, else the direct way.
    journal: bool,
}

fn config(folder: &Path, shelf: Shelf) -> Config {
    let mut text = format!(
        "state = {:?}\n[placement]\nreserve = \"1 MB\"\n",
        folder.join("state")
    );
    text += match shelf.journal {
        true => "[intake]\nmode = \"journal\"\nsize_bytes = 1048576\n",
        false => "[intake]\nmode = \"direct\"\n",
    };
    for name in shelf.names {
        let path = folder.join(name);
        text += &format!("[[volume]]\nname = {name:?}\npath = {path:?}\nrole = \"archive\"\n");
    }
    let file = folder.join("kura.toml");
    std::fs::write(&file, text).expect("kura.toml");
    Config::load(Some(&file)).expect("a configuration")
}

/// Stores the first instance, then the others with a fault at the call of this number since then, then looks; and again
/// after a start with a disk that is well. The number of calls, and of those refused.
fn run(instances: &[Instance], shelf: Shelf, at: Option<usize>, fault: Fault) -> (usize, usize) {
    let place = scratch();
    let said = format!("call {at:?}, {fault:?}");
    let config = config(place.path(), shelf);
    let faulty = Arc::new(Faulty {
        root: place.path().join("A"),
        calls: AtomicUsize::new(0),
        at: AtomicUsize::new(usize::MAX),
        fault,
    });
    let disk = Disk::observed(faulty.clone());
    let mut stored = Vec::new();
    let mut refused = Vec::new();
    let before;
    let count;
    {
        let archive = Archive::open_on(&config, Mode::Create, &disk).expect("open");
        store(&archive, &instances[0]).expect("the first");
        stored.push(&instances[0]);
        before = faulty.calls.load(Ordering::SeqCst);
        if let Some(at) = at {
            faulty.at.store(before + at, Ordering::SeqCst);
        }
        for instance in &instances[1..] {
            match store(&archive, instance) {
                Ok(()) => stored.push(instance),
                Err(reason) => refused.push((instance, reason)),
            }
        }
        if shelf.journal {
            archive.leave_in_order();
        }
        count = faulty.calls.load(Ordering::SeqCst) - before;
        if shelf.names.len() > 1 {
            assert!(refused.is_empty(), "{said}: {:?}", refused[0].1);
        }
        assert_there(&archive, &stored, &said);
    }
    let archive =
        Archive::open(&config, Mode::Create).unwrap_or_else(|error| panic!("{said}: {error}"));
    // What was refused may be there after all: it had come as far as its line.
    let known =
        |instance: &Instance| !selected(&archive, &instance.announced.sop_instance_uid).is_empty();
    for (instance, _) in &refused {
        if known(instance) {
            stored.push(instance);
        }
    }
    assert_there(&archive, &stored, &said);
    // Sent again, as a modality would; also from an index that is made anew.
    for instance in instances {
        store(&archive, instance).unwrap_or_else(|reason| panic!("{said}: {reason}"));
    }
    let all: Vec<&Instance> = instances.iter().collect();
    assert_there(&archive, &all, &said);
    drop(archive);
    std::fs::remove_dir_all(place.path().join("state/index")).expect("delete the index");
    let archive =
        Archive::open(&config, Mode::Create).unwrap_or_else(|error| panic!("{said}: {error}"));
    assert_there(&archive, &all, &said);
    (count, refused.len())
}

fn faults() -> Vec<Fault> {
    let mut all = Vec::new();
    for errno in [EIO, ENOSPC, EROFS] {
        for how in [How::Not, How::Half, How::Done] {
            for for_good in [false, true] {
                all.push(Fault {
                    errno,
                    how,
                    for_good,
                });
            }
        }
    }
    all
}

const TWO: Shelf = Shelf {
    names: &["A", "B"],
    journal: false,
};
const ONE: Shelf = Shelf {
    names: &["A"],
    journal: false,
};

/// Each call of the campaign in a long run, else one in `step`, beginning at a random one.
fn campaign(name: &str, instances: &[Instance], shelf: Shelf, step: usize) -> usize {
    let mut random = Random::from_environment(name);
    let (calls, _) = run(instances, shelf, None, faults()[0]);
    assert!(calls > instances.len() * 6, "only {calls} calls were seen");
    let step = if common::long() { 1 } else { step };
    let (mut runs, mut refused) = (0, 0);
    for fault in faults() {
        let first = random.between(0, step as u64) as usize;
        for at in (first..calls).step_by(step) {
            refused += run(instances, shelf, Some(at), fault).1;
            runs += 1;
        }
    }
    println!("{runs} runs with a fault among {calls} calls, {refused} refused");
    refused
}

/// Method: EIO, ENOSPC and EROFS at each mutating call of the first volume in turn, once and from then on; of a write, half
/// done; also done and said to have failed.
#[test]
fn a_fault_at_any_disk_call_of_one_volume_refuses_nothing_while_there_is_a_second() {
    let small = [
        instance(1, 1, 1_000),
        instance(1, 2, 1_000),
        instance(2, 1, 1_000),
        instance(1, 3, 1_000),
    ];
    let name = "a_fault_at_any_disk_call_of_one_volume_refuses_nothing_while_there_is_a_second";
    assert_eq!(campaign(name, &small, TWO, 8), 0);
}

/// Method: as above with an instance larger than what is held in memory, so that it is read back.
#[test]
fn a_fault_in_a_large_instance_moves_it_whole() {
    let large = [instance(1, 1, 1_000), instance(1, 2, 10_500_000)];
    let name = "a_fault_in_a_large_instance_moves_it_whole";
    assert_eq!(campaign(name, &large, TWO, 16), 0);
}

/// Method: as above with one volume: what it does not take is refused.
#[test]
fn a_fault_at_any_disk_call_of_the_only_volume_loses_nothing_that_was_acknowledged() {
    let small = [
        instance(1, 1, 1_000),
        instance(1, 2, 1_000),
        instance(2, 1, 1_000),
    ];
    let name = "a_fault_at_any_disk_call_of_the_only_volume_loses_nothing_that_was_acknowledged";
    assert!(campaign(name, &small, ONE, 8) > 0);
}

/// Method: as above, through intake journals, to the end of carrying over. With two volumes nothing is refused; with one,
/// what is acknowledged is there.
#[test]
fn a_fault_at_any_disk_call_loses_nothing_that_is_in_a_journal() {
    let small = [
        instance(1, 1, 1_000),
        instance(1, 2, 1_000),
        instance(2, 1, 1_000),
        instance(1, 3, 1_000),
    ];
    let name = "a_fault_at_any_disk_call_loses_nothing_that_is_in_a_journal";
    for shelf in [TWO, ONE] {
        let shelf = Shelf {
            journal: true,
            ..shelf
        };
        campaign(name, &small, shelf, 4);
    }
}
