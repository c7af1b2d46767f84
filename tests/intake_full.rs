//! Room that vanishes while instances wait in an intake journal: they go where there is some, or wait and are said.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::disks::{Pluggable, Tmpfs};
use common::images::{self, ALL, Image, assert_come_back, assert_found, send_all, tree};
use common::{Server, Settings};
use rustix::process::Signal;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(90);

fn settings() -> Settings {
    Settings {
        extra: "[placement]\nreserve = \"64 kB\"\n[intake]\nmode = \"journal\"\n".to_owned(),
        // Below the mount points, so that a ballast file is in no volume.
        volumes: vec![("A".into(), "a/volume".into(), "archive".into())],
        ..Settings::default()
    }
    .volume("B", "b/volume", "archive")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Takes all room there is on a file system; given back when the file is removed.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut file = fs::File::create(&path).expect("ballast");
    for size in [1 << 20, 64 << 10, 4096, 1] {
        let piece = vec![1; size];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    }
    let _ = file.sync_all();
    path
}

/// Sends instances and makes `then` happen while they are in the journal alone.
fn send_and(server: &Server, all: &mut Vec<Image>, mut then: impl FnMut()) {
    let volume = server.volume("A");
    for study in 1..30 {
        let images: Vec<Image> = (0..10).map(|n| Image::new(study, n, 5_000)).collect();
        let before = tree(&volume).len();
        send_all(server, &images);
        all.extend(images);
        server.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(50));
        let is_waiting = tree(&volume).len() == before;
        if is_waiting {
            then();
        }
        server.signal(Signal::CONT);
        if is_waiting {
            return;
        }
        wait_until("not carried over", || tree(&volume).len() == all.len());
    }
    panic!("each time they were carried over at once");
}

fn waiting(server: &Server) -> u64 {
    let list = server.kura_json(&["volume", "list"]);
    let volumes = list["volumes"].as_array().expect("volumes").iter();
    volumes
        .filter_map(|volume| volume["intake_journal"]["waiting_count"].as_u64())
        .sum()
}

fn assert_each_once(server: &Server, all: &[Image]) {
    for volume in ["A", "B"] {
        images::wait_until_nothing_is_incoming(&server.volume(volume));
    }
    let files = tree(&server.volume("A")).len() + tree(&server.volume("B")).len();
    assert_eq!(files, all.len(), "files");
    assert_found(server, all);
    assert_come_back(server, all);
    let status = server.kura_json(&["status"]);
    assert_eq!(status["index"]["instances_count"], all.len(), "{status}");
    for volume in ["A", "B"] {
        let checked = server.kura(&["volume", "check", volume, "--checksums"]);
        assert!(checked.success(), "{}", checked.text());
    }
}

/// A disk of 24 MiB or more, mounted as long as what is returned is held.
fn small_disk(kind: &str, at: &Path) -> Option<Box<dyn std::any::Any>> {
    match kind {
        "tmpfs" => Tmpfs::new(at, "size=24m").map(|disk| Box::new(disk) as _),
        "ext4" => Pluggable::ext4(at, 64 << 20).map(|disk| Box::new(disk) as _),
        _ => Pluggable::btrfs(at, 128 << 20).map(|disk| Box::new(disk) as _),
    }
}

/// Method: a ballast file takes what is left of the first volume while instances wait in its journal; on file systems that
/// find out at different moments that they are full.
#[test]
fn what_the_volume_has_no_room_for_any_more_is_carried_to_the_next() {
    for kind in ["tmpfs", "ext4", "btrfs"] {
        let folder = TempDir::new().expect("temporary folder");
        let Some(_small) = small_disk(kind, &folder.path().join("a")) else {
            continue;
        };
        let mut server = Server::in_folder(settings(), folder.path());
        server.wait_until_indexed();
        let mut all = Vec::new();
        let mut ballast = PathBuf::new();
        let (a, b) = (folder.path().join("a"), server.volume("B"));
        send_and(&server, &mut all, || ballast = fill(&a));
        wait_until("they wait still", || waiting(&server) == 0);
        eprintln!("{kind}: {} of {} on B", tree(&b).len(), all.len());
        if kind != "btrfs" {
            assert!(!tree(&b).is_empty(), "{kind}: nothing was carried to B");
        }
        assert_each_once(&server, &all);
        let status = server.kura_json(&["status"]);
        let actions = status["actions"].to_string();
        // A btrfs has no room for the journal's marks either: it writes nothing in its place.
        assert!(kind == "btrfs" || !actions.contains("journal"), "{actions}");
        // What comes now goes to B at once; and again to A when there is room.
        let more: Vec<Image> = (0..3).map(|n| Image::new(40, n, 5_000)).collect();
        send_all(&server, &more);
        all.extend(more);
        server.kill();
        fs::remove_file(&ballast).expect("delete the ballast");
        server.restart();
        server.wait_until_indexed();
        assert_each_once(&server, &all);
        assert!(server.terminate().success());
        drop(server);
    }
}

/// Method: both volumes are filled while instances wait; then a kill and a start; then room.
#[test]
fn with_no_room_anywhere_they_stay_in_the_journal_and_status_says_so() {
    let folder = TempDir::new().expect("temporary folder");
    let mounts = ["a", "b"].map(|name| folder.path().join(name));
    let mounts = mounts.map(|at| Tmpfs::new(&at, "size=24m"));
    if mounts.iter().any(Option::is_none) {
        return;
    }
    let mut server = Server::in_folder(settings(), folder.path());
    server.wait_until_indexed();
    let mut all = Vec::new();
    let b = server.volume("B");
    let mut ballast = Vec::new();
    send_and(&server, &mut all, || {
        ballast = ["a", "b"]
            .map(|disk| fill(&folder.path().join(disk)))
            .to_vec();
    });
    let mut client = server.associate(ALL);
    let (status, _) = Image::new(50, 1, 1_000).send(&mut client).expect("C-STORE");
    assert_eq!(status, 0xA700);
    client.release().expect("release");
    assert_found(&server, &all);
    assert_come_back(&server, &all);
    assert_eq!(waiting(&server), 10);
    let said = |server: &Server, words: &str| {
        let status = server.kura(&["status"]);
        status.code == Some(1) && status.stdout.contains(words)
    };
    wait_until("status says nothing", || {
        said(&server, "10 instances wait in the intake journal")
    });
    assert_found(&server, &all);
    assert_come_back(&server, &all);

    server.kill();
    server.restart();
    server.wait_until_indexed();
    wait_until("status says nothing after a start", || {
        said(&server, "instances wait in the intake journal in")
    });
    fs::remove_file(&ballast[1]).expect("delete the ballast");
    let files = || tree(&server.volume("A")).len() + tree(&b).len();
    wait_until("not carried over", || files() == 10);
    wait_until("status is not well again", || {
        !server.kura(&["status"]).stdout.contains("intake journal")
    });
    assert_each_once(&server, &all);
    server.kill();
    server.restart();
    server.wait_until_indexed();
    assert_each_once(&server, &all);
    assert!(server.terminate().success());
}

/// Method: on each file system that can be made here, some MiB written and not flushed; free space before and after.
#[test]
fn what_waits_is_counted_by_kura_where_the_file_system_counts_it_late() {
    const BYTES: usize = 16 << 20;
    let folder = TempDir::new().expect("temporary folder");
    let at = |kind: &str| folder.path().join(kind);
    let disk = kura::volume::Disk::default();
    let mut counted = Vec::new();
    let mut look = |kind: &'static str, path: &Path| {
        let free = || disk.space(path).expect("free space").free_bytes;
        let before = free();
        let file = disk.create_new(&path.join("file")).expect("a file");
        file.write_at(0, &vec![1; BYTES]).expect("write");
        let is_counted = before.saturating_sub(free()) >= BYTES as u64;
        counted.push((kind, disk.counts_at_once(path), is_counted));
    };
    if let Some(_mount) = Tmpfs::new(&at("tmpfs"), "size=32m") {
        look("tmpfs", &at("tmpfs"));
    }
    if let Some(_mount) = Pluggable::ext4(&at("ext4"), 64 << 20) {
        look("ext4", &at("ext4"));
    }
    if let Some(_mount) = Pluggable::xfs(&at("xfs"), 400 << 20) {
        look("xfs", &at("xfs"));
    }
    if let Some(_mount) = Pluggable::btrfs(&at("btrfs"), 128 << 20) {
        look("btrfs", &at("btrfs"));
    }
    for (kind, relied_on, is_counted) in counted {
        assert!(is_counted || !relied_on, "{kind} counts late");
        assert_eq!(relied_on, kind != "btrfs", "{kind}");
    }
}
