//! A dead disk is an errand: what was on it has its two copies again, bit by bit, and what has not is named.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::copies::{
    assert_same_images, image_paths, kura, status, wait_until_mirrored, with_mirror,
};
use common::disks::{Frozen, Tmpfs};
use common::images::{self, Image, assert_come_back, found, send_all};
use common::shelf::{Load, Shelf, does, refuses, volume, wait_for};
use common::{Random, Server};
use serde_json::Value;

const SOON: &str = "when = \"immediate\"";
const LIMIT: Duration = Duration::from_secs(120);

/// A server with volume A and mirror M, on which these images are.
fn mirrored(images: &[Image]) -> Server {
    let mut server = Server::with(with_mirror(SOON));
    server.wait_until_indexed();
    send_all(&server, images);
    wait_until_mirrored(&server);
    restart(&mut server);
    server
}

/// Its end copies the last lines of the ledgers, which the running server does every 20 s.
fn restart(server: &mut Server) {
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
}

/// An empty folder beside the volumes.
fn new_disk(server: &Server, name: &str) -> PathBuf {
    let path = server.folder().join(name);
    std::fs::create_dir(&path).expect("new disk");
    path
}

/// A volume's folder becomes an empty mount point; where what was in it is now.
fn pull_out(server: &Server, name: &str) -> PathBuf {
    let aside = server.folder().join(format!("old-{name}"));
    std::fs::rename(server.volume(name), &aside).expect("pulled out");
    std::fs::create_dir(server.volume(name)).expect("mount point");
    aside
}

/// The report of `kura volume replace`, waited for.
fn replace(server: &Server, name: &str, path: &Path, code: i32) -> Value {
    let path = path.display().to_string();
    let outcome = server.kura(&["volume", "replace", name, &path, "--json"]);
    assert_eq!(outcome.code, Some(code), "{}", outcome.text());
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()))
}

fn volume_names(server: &Server) -> BTreeSet<String> {
    let list = server.kura_json(&["volume", "list"]);
    let volumes = list["volumes"].as_array().expect("volumes");
    let name = |volume: &Value| volume["name"].as_str().expect("name").to_owned();
    volumes.iter().map(name).collect()
}

fn wait_until_known(server: &Server, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let begun = Instant::now();
    while volume_names(server) != expected {
        assert!(begun.elapsed() < LIMIT, "{:?}", volume_names(server));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// SOP Instance UIDs that a report says are lost.
fn lost(report: &Value) -> BTreeSet<String> {
    let items = report["instances"].as_array().expect("instances");
    let lost = items.iter().filter(|item| item["state"] == "lost");
    lost.map(|item| item["sop_instance_uid"].as_str().expect("uid").to_owned())
        .collect()
}

#[test]
fn a_dead_archive_disk_is_filled_again_bit_by_bit_and_forgotten() {
    let images = images::images(4, 60);
    let mut server = mirrored(&images);
    pull_out(&server, "A");
    let new = new_disk(&server, "new");
    let report = replace(&server, "A", &new, 0);
    assert_eq!(report["restored_count"], 240, "{report}");
    assert_eq!(report["lost_count"], 0, "{report}");
    assert_same_images(&new, &server.volume("M"));
    assert_come_back(&server, &images);
    // Nothing went to the mount point of the old one.
    assert_eq!(
        std::fs::read_dir(server.volume("A"))
            .expect("folder")
            .count(),
        0
    );
    wait_until_known(&server, &["A", "M"]);
    assert_eq!(volume(&server, "A")["path"], new.display().to_string());
    // The same after a restart, from the ledgers alone.
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.state().join("index")).expect("no index");
    server.restart();
    server.wait_until_indexed();
    wait_until_known(&server, &["A", "M"]);
    assert_eq!(status(&server)["todo_count"], 0);
    assert_come_back(&server, &images);
    let shown = kura(&server, &["report", "show"]);
    assert!(shown.contains("nothing is lost"), "{shown}");
}

/// Method: copies were made by hand at an hour that is not the window's; the mirror dies.
#[test]
fn a_dead_mirror_is_filled_again_at_any_hour_with_what_it_had() {
    let server = Server::with(with_mirror("window = \"03:00-03:01\""));
    server.wait_until_indexed();
    let images = images::images(2, 40);
    send_all(&server, &images);
    kura(&server, &["mirror", "run"]);
    let had = image_paths(&server.volume("M"));
    // For these it is not the hour, then as now.
    let later: Vec<Image> = (0..5).map(|n| Image::new(7, n, 1_000)).collect();
    send_all(&server, &later);
    pull_out(&server, "M");
    let new = new_disk(&server, "new");
    let report = replace(&server, "M", &new, 0);
    assert_eq!(report["restored_count"], 80, "{report}");
    assert_eq!(image_paths(&new), had);
    wait_until_known(&server, &["A", "M"]);
    kura(&server, &["mirror", "run"]);
    assert_same_images(&server.volume("A"), &new);
    assert_come_back(&server, &images);
    assert_come_back(&server, &later);
}

/// Method: some images had no second copy yet. They are named; sent again by the modality they count no longer, and the
/// last one is written off.
#[test]
fn what_is_lost_is_named_and_comes_back_when_it_is_sent_again() {
    let images = images::images(2, 30);
    let mut server = mirrored(&images);
    kura(&server, &["mirror", "pause"]);
    let alone: Vec<Image> = (0..7).map(|n| Image::new(5, n, 1_000)).collect();
    send_all(&server, &alone);
    restart(&mut server);
    pull_out(&server, "A");
    kura(&server, &["mirror", "resume"]);
    let new = new_disk(&server, "new");
    let report = replace(&server, "A", &new, 4);
    let expected: BTreeSet<String> = alone.iter().map(|image| image.sop.clone()).collect();
    assert_eq!(lost(&report), expected);
    assert_eq!(report["lost_count"], 7, "{report}");
    assert_eq!(report["restored_count"], 60, "{report}");
    let item = &report["instances"][0];
    for (field, value) in [
        ("modality", "CT"),
        ("volume", "A-old"),
        ("study_instance_uid", &alone[0].study),
    ] {
        assert_eq!(item[field], value, "{item}");
    }
    assert!(!item["path"].as_str().expect("path").is_empty());
    assert_same_images(&new, &server.volume("M"));
    // Still true after a restart with an empty state folder.
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.state()).expect("no state");
    server.restart();
    server.wait_until_indexed();
    assert_eq!(volume(&server, "A-old")["state"], "replaced");
    let screen = server.kura(&["status"]);
    assert_eq!(screen.code, Some(4), "{}", screen.text());
    assert!(screen.text().contains("kura volume forget A-old --yes"));
    let refused = refuses(&server, &["forget", "A-old"]);
    assert!(
        refused.starts_with("volume A-old: 7 instances on it are nowhere else"),
        "{refused}"
    );
    send_all(&server, &alone[1..]);
    wait_until_mirrored(&server);
    let refused = refuses(&server, &["forget", "A-old"]);
    assert!(
        refused.starts_with("volume A-old: 1 instances"),
        "{refused}"
    );
    let done = does(&server, &["forget", "A-old", "--yes"]);
    assert_eq!(
        done,
        "volume A-old is forgotten; 1 instances are written off"
    );
    wait_until_known(&server, &["A", "M"]);
    assert_eq!(server.kura(&["status"]).code, Some(0));
    assert_come_back(&server, &alone[1..]);
    assert_come_back(&server, &images);
    assert_same_images(&new, &server.volume("M"));
    // It can come again, too.
    send_all(&server, &alone[..1]);
    assert_come_back(&server, &alone);
}

/// Method: the report is written; then the copies of the old ledger turn out to end before what was lost.
#[test]
fn an_old_disk_is_not_forgotten_because_copies_of_its_ledger_end_too_early() {
    let images = images::images(1, 20);
    let mut server = mirrored(&images);
    let old = ledger(&server.volume("A"));
    let old = old.file_name().expect("its id");
    kura(&server, &["mirror", "pause"]);
    let copies = [server.state(), server.volume("M")]
        .map(|folder| folder.join("ledgers").join(old).join("00000001.jsonl"));
    let before = std::fs::read(&copies[0]).expect("a copy");
    let alone: Vec<Image> = (0..3).map(|n| Image::new(5, n, 1_000)).collect();
    send_all(&server, &alone);
    restart(&mut server);
    pull_out(&server, "A");
    wait_for(&server, "A", "away");
    kura(&server, &["mirror", "resume"]);
    let new = new_disk(&server, "new");
    assert_eq!(lost(&replace(&server, "A", &new, 4)).len(), 3);
    server.kill();
    for copy in copies {
        assert!(std::fs::read(&copy).expect("a copy").len() > before.len());
        std::fs::write(&copy, &before).expect("as it was");
    }
    server.restart();
    server.wait_until_indexed();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(volume(&server, "A-old")["state"], "replaced");
    let screen = server.kura(&["status"]);
    assert_eq!(screen.code, Some(1), "{}", screen.text());
    assert!(
        screen
            .text()
            .contains("3 instances that were on the old disk"),
        "{}",
        screen.text()
    );
    does(&server, &["forget", "A-old"]);
    assert_eq!(server.kura(&["status"]).code, Some(0));
    assert_come_back(&server, &images);
}

/// Everything below a folder with its content.
fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = common::files::below(folder).into_iter();
    files
        .map(|path| (path.clone(), std::fs::read(path).expect("read")))
        .collect()
}

/// Method: the old disk is plugged in again where it was, also over a restart; then what is on it is sent.
#[test]
fn an_old_disk_that_comes_back_is_neither_taken_nor_written_and_can_be_sent() {
    let mut server = mirrored(&images::images(1, 20));
    kura(&server, &["mirror", "pause"]);
    let alone: Vec<Image> = (0..5).map(|n| Image::new(5, n, 1_000)).collect();
    send_all(&server, &alone);
    restart(&mut server);
    let aside = pull_out(&server, "A");
    wait_for(&server, "A", "away");
    let before = content(&aside);
    kura(&server, &["mirror", "resume"]);
    let new = new_disk(&server, "new");
    assert_eq!(lost(&replace(&server, "A", &new, 4)).len(), 5);
    let old = server.volume("A");
    std::fs::remove_dir(&old).expect("mount point");
    std::fs::rename(&aside, &old).expect("plugged in");
    let old_text = old.display().to_string();
    for round in 0..2 {
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(volume(&server, "A-old")["state"], "replaced");
        assert_eq!(volume(&server, "A")["path"], new.display().to_string());
        for (arguments, says) in [
            (vec!["return", "A-old"], "its disk was given up"),
            (
                vec!["relocate", "A-old", &old_text],
                "its disk was given up",
            ),
            (
                vec!["add", "A-old", &old_text],
                "it is a disk that was given up",
            ),
            (vec!["replace", "M", &old_text], "it is here and well"),
            (
                vec!["replace", "A-old", &old_text],
                "volume A stands in its place",
            ),
        ] {
            let refused = refuses(&server, &arguments);
            assert!(refused.contains(says), "{arguments:?}: {refused}");
        }
        if round == 0 {
            assert!(server.terminate().success());
            server.restart();
            server.wait_until_indexed();
        }
    }
    let now: Vec<_> = content(&old);
    let moved: Vec<_> = before
        .into_iter()
        .map(|(path, bytes)| (old.join(path.strip_prefix(&aside).expect("below")), bytes))
        .collect();
    assert!(now == moved, "the old disk was written to");
    let date = image_paths(&old)[0]
        .split('/')
        .next()
        .expect("date")
        .to_owned();
    let to = format!("KURA@127.0.0.1:{}", server.port());
    kura(
        &server,
        &["send", &old.join(date).display().to_string(), "--to", &to],
    );
    wait_until_known(&server, &["A", "M"]);
    assert_come_back(&server, &alone);
    wait_until_mirrored(&server);
    assert_same_images(&new, &server.volume("M"));
}

/// Method: archive.json says so, but kura.toml does not yet: the server is started on the old one, with the old disk there
/// and with an empty mount point. The same command goes on. Then a label without anything else on the new disk.
#[test]
fn stopped_half_way_the_same_command_goes_on() {
    for old_is_there in [true, false] {
        let images = images::images(1, 20);
        let mut server = mirrored(&images);
        let config = std::fs::read(server.config()).expect("kura.toml");
        let new = new_disk(&server, "new");
        let label = server.volume("A").join("kura-volume.json");
        let label = std::fs::read_to_string(label).expect("label");
        let aside = pull_out(&server, "A");
        wait_for(&server, "A", "away");
        // As after a kill between the label and archive.json.
        let mut label: Value = serde_json::from_str(&label).expect("label");
        label["volume_id"] = "11111111-2222-3333-4444-555555555555".into();
        std::fs::write(new.join("kura-volume.json"), label.to_string()).expect("label");
        let new_text = new.display().to_string();
        kura(&server, &["mirror", "pause"]);
        kura(&server, &["volume", "replace", "A", &new_text, "--no-wait"]);
        assert_eq!(volume(&server, "A")["volume_id"], label["volume_id"]);
        server.kill();
        std::fs::write(server.config(), config).expect("kura.toml");
        if old_is_there {
            std::fs::remove_dir(server.volume("A")).expect("mount point");
            std::fs::rename(&aside, server.volume("A")).expect("plugged in");
        }
        let before = content(&server.volume("A"));
        server.restart();
        server.wait_until_indexed();
        assert_eq!(volume(&server, "A")["state"], "away");
        kura(&server, &["mirror", "resume"]);
        assert_eq!(replace(&server, "A", &new, 0)["restored_count"], 20);
        assert!(
            before == content(&server.volume("A")),
            "the old place was written to"
        );
        assert_same_images(&new, &server.volume("M"));
        wait_until_known(&server, &["A", "M"]);
        assert!(server.terminate().success());
        server.restart();
        server.wait_until_indexed();
        assert_eq!(volume(&server, "A")["state"], "ok");
        assert_come_back(&server, &images);
    }
}

/// Changes every third image of a volume.
fn damage(volume: &Path, change: impl Fn(&Path)) -> BTreeSet<String> {
    let paths = image_paths(volume).into_iter().step_by(3);
    paths
        .map(|path| {
            change(&volume.join(&path));
            let name = path.rsplit('/').next().expect("name");
            name.trim_end_matches(".dcm").to_owned()
        })
        .collect()
}

fn garbage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16].fill(0x5A);
    std::fs::write(path, bytes).expect("write");
}

fn truncate(path: &Path) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("open");
    file.set_len(700).expect("truncate");
}

/// The own ledger of a volume.
fn ledger(volume: &Path) -> PathBuf {
    let label = std::fs::read_to_string(volume.join("kura-volume.json")).expect("label");
    let label: Value = serde_json::from_str(&label).expect("label");
    volume
        .join("ledgers")
        .join(label["volume_id"].as_str().expect("id"))
}

type GoBad = fn(&Path);

/// Method: each way in which a disk goes bad while nobody looks; then it is ejected and replaced.
#[test]
fn however_a_disk_went_bad_what_was_on_it_is_restored() {
    let ways: [(&str, GoBad); 5] = [
        ("garbage in some files", |at| drop(damage(at, garbage))),
        ("some files cut off", |at| drop(damage(at, truncate))),
        ("some files gone", |at| {
            drop(damage(at, |path| {
                std::fs::remove_file(path).expect("remove")
            }))
        }),
        ("the end of the ledger torn", |at| {
            let segment = ledger(at).join("00000001.jsonl");
            let length = std::fs::metadata(&segment).expect("segment").len();
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(segment)
                .expect("open");
            file.set_len(length / 2).expect("truncate");
        }),
        ("the ledger gone", |at| {
            std::fs::remove_dir_all(ledger(at)).expect("remove")
        }),
    ];
    let images = images::images(2, 20);
    // In short both kinds of volumes take turns.
    let kinds = [("A", "M"), ("M", "A")];
    let all = ways.iter().flat_map(|way| kinds.map(|kind| (way, kind)));
    let in_turn = (0..)
        .zip(all)
        .filter(|(at, _)| common::long() || matches!(at % 4, 0 | 3));
    for (_, ((way, go_bad), (name, other))) in in_turn {
        eprintln!("{way}, {name}");
        let server = mirrored(&images);
        let at = server.volume(name);
        let new = new_disk(&server, "new");
        let new_text = new.display().to_string();
        let refused = refuses(&server, &["replace", name, &new_text]);
        let says = format!("volume {name}: it is here and well");
        assert!(refused.starts_with(&says), "{refused}");
        go_bad(&at);
        does(&server, &["eject", name]);
        let report = replace(&server, name, &new, 0);
        // One that was found and healed before the disk was taken out is not listed on it any more.
        let listed = report["listed_count"].as_u64().expect("a count");
        assert!((30..=40).contains(&listed), "{way}: {report}");
        assert_eq!(report["restored_count"], listed, "{way}: {report}");
        assert_same_images(&new, &server.volume(other));
        assert_come_back(&server, &images);
    }
}

/// Method: garbage in the only copies that are left. They are named as suspect, and nothing else is.
#[test]
fn a_bad_copy_is_not_made_a_good_one() {
    let images = images::images(2, 20);
    let server = mirrored(&images);
    let bad = damage(&server.volume("M"), garbage);
    pull_out(&server, "A");
    let new = new_disk(&server, "new");
    let path = new.display().to_string();
    let outcome = server.kura(&["volume", "replace", "A", &path, "--json"]);
    // Once bad copies are written down as such, these are lost.
    assert!(matches!(outcome.code, Some(1 | 4)), "{}", outcome.text());
    let report: Value = serde_json::from_str(&outcome.stdout).expect("a report");
    let items = report["instances"].as_array().expect("instances");
    let named: BTreeSet<String> = items
        .iter()
        .map(|item| item["sop_instance_uid"].as_str().expect("uid").to_owned())
        .collect();
    assert_eq!(named, bad, "{report}");
    assert_eq!(image_paths(&new).len(), images.len() - bad.len());
    // Sent again they are good, and the old disk is over.
    send_all(&server, &images);
    wait_until_known(&server, &["A", "M"]);
    assert_come_back(&server, &images);
}

/// Method: an ext4 is shut down under its server, so that each call on it fails.
#[test]
fn a_disk_on_which_every_call_fails_is_replaced_while_modalities_send() {
    let Some(mut shelf) = Shelf::ext4(with_mirror(SOON), 128 << 20) else {
        return;
    };
    let images = images::images(2, 40);
    send_all(&shelf.server, &images);
    wait_until_mirrored(&shelf.server);
    shelf.disks[0].cut().expect("EXT4_IOC_SHUTDOWN");
    let server = &shelf.server;
    let new = new_disk(server, "new");
    let report = replace(server, "A", &new, 0);
    assert_eq!(report["restored_count"], 80, "{report}");
    assert_same_images(&new, &server.volume("M"));
    let load = Load::start(server, 50, 20_000);
    load.go_on_for(20);
    let stored = load.end();
    assert_come_back(server, &images);
    assert_come_back(server, &stored);
    shelf.disks[0].pull_out();
}

/// Method: the disk is frozen, as one that never answers again, with a sender in the middle of an image; thawed at the end.
#[test]
fn a_disk_that_hangs_is_replaced_without_waiting_for_it() {
    let Some(shelf) = Shelf::ext4(with_mirror(SOON), 128 << 20) else {
        return;
    };
    let server = &shelf.server;
    let images = images::images(2, 20);
    send_all(server, &images);
    wait_until_mirrored(server);
    let Some(mut frozen) = Frozen::new(server.volume("A")) else {
        eprintln!("skipped: a file system cannot be frozen here");
        return;
    };
    let held_up = Image::new(9, 0, 1_000);
    let mut client = server.associate(images::ALL);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| held_up.send(&mut client));
        let new = new_disk(server, "new");
        let report = replace(server, "A", &new, 0);
        assert_eq!(report["restored_count"], 40, "{report}");
        assert!(!stuck.is_finished(), "it did not hang");
        let later: Vec<Image> = (0..5).map(|n| Image::new(3, n, 1_000)).collect();
        send_all(server, &later);
        assert_come_back(server, &images);
        assert_come_back(server, &later);
        // What it takes now does not count any more: the image goes on on the new disk.
        frozen.thaw();
        let (status, comment) = stuck.join().expect("sender").expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
        wait_until_known(server, &["A", "M"]);
        wait_until_mirrored(server);
        assert_come_back(server, std::slice::from_ref(&held_up));
        assert_same_images(&new, &server.volume("M"));
    });
}

#[test]
fn a_disk_that_turned_read_only_is_replaced() {
    let settings = with_mirror(SOON);
    let folder = tempfile::tempdir().expect("folder");
    let Some(mount) = Tmpfs::new(&folder.path().join("volume-a"), "size=256m") else {
        return;
    };
    let mut server = Server::in_folder(settings, folder.path());
    server.wait_until_indexed();
    let images = images::images(2, 20);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    assert!(server.terminate().success());
    assert!(mount.remount("ro"), "remount of an idle tmpfs");
    server.restart();
    server.wait_until_indexed();
    assert_come_back(&server, &images);
    let new = new_disk(&server, "new");
    let report = replace(&server, "A", &new, 0);
    assert_eq!(report["restored_count"], 40, "{report}");
    assert_same_images(&new, &server.volume("M"));
    assert_come_back(&server, &images);
    drop(server);
}

/// Each is on the volume, byte for byte.
fn assert_on(volume: &Path, images: &[&Image]) {
    let paths: BTreeMap<String, PathBuf> = image_paths(volume)
        .into_iter()
        .map(|path| {
            let name = path.rsplit('/').next().expect("name");
            (name.trim_end_matches(".dcm").to_owned(), volume.join(&path))
        })
        .collect();
    for image in images {
        let path = paths.get(&image.sop);
        let path = path.unwrap_or_else(|| panic!("{} is not there", image.sop));
        let bytes = std::fs::read(path).expect("read");
        assert!(
            bytes.ends_with(&image.data_set),
            "{}: other bytes",
            image.sop
        );
    }
}

/// Method: modalities send, and workstations fetch, before the disk dies, while it is dead, and while it is replaced.
#[test]
fn receiving_and_answering_go_on_while_a_disk_is_replaced() {
    let settings = with_mirror(SOON).volume("B", "volume-b", "archive");
    let server = Server::with(settings);
    server.wait_until_indexed();
    let images: Vec<Image> = (0..4)
        .flat_map(|study| (0..40).map(move |n| Image::new(study, n, 100_000)))
        .collect();
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let load = Load::start(&server, 50, 5_000);
    load.go_on_for(20);
    pull_out(&server, "A");
    load.go_on_for(20);
    let new = new_disk(&server, "new");
    let path = new.display().to_string();
    kura(&server, &["volume", "replace", "A", &path, "--no-wait"]);
    load.go_on_for(20);
    assert_come_back(&server, &images);
    let waited = server.kura(&["volume", "replace", "A", &path]);
    assert!(matches!(waited.code, Some(0 | 3 | 4)), "{}", waited.text());
    load.go_on_for(20);
    let stored = load.end();
    wait_until_mirrored(&server);
    let report = server.kura_json(&["report", "show"]);
    let lost = lost(&report);
    let (gone, there): (Vec<&Image>, Vec<&Image>) =
        stored.iter().partition(|image| lost.contains(&image.sop));
    assert_eq!(gone.len(), lost.len(), "{report}");
    assert_on(&server.volume("M"), &there);
    assert_on(&new, &images.iter().collect::<Vec<_>>());
}

/// Two archive volumes and two mirrors: the first images on A and M, the others on B and N.
fn four_disks(first: &[Image], others: &[Image]) -> Server {
    let settings = with_mirror(SOON)
        .volume("B", "volume-b", "archive")
        .volume("N", "volume-n", "mirror");
    let server = Server::with(settings);
    server.wait_until_indexed();
    send_all(&server, first);
    wait_until_mirrored(&server);
    for name in ["A", "M"] {
        does(&server, &["retire", name]);
    }
    send_all(&server, others);
    wait_until_mirrored(&server);
    for (name, count) in [("A", first), ("M", first), ("B", others), ("N", others)] {
        assert_eq!(
            image_paths(&server.volume(name)).len(),
            count.len(),
            "{name}"
        );
    }
    server
}

/// Method: an archive volume and a mirror at once, with nothing in common; then two that held both copies of some.
#[test]
fn two_disks_at_once_lose_just_what_was_on_both() {
    let first: Vec<Image> = (0..30).map(|n| Image::new(1, n, 1_000)).collect();
    let others: Vec<Image> = (0..40).map(|n| Image::new(2, n, 1_000)).collect();
    for (dead, lost_images) in [(["A", "N"], &[][..]), (["A", "M"], &first[..])] {
        let server = four_disks(&first, &others);
        let new = dead.map(|name| {
            pull_out(&server, name);
            new_disk(&server, &format!("new-{name}"))
        });
        for (name, path) in dead.iter().zip(&new) {
            let path = path.display().to_string();
            kura(&server, &["volume", "replace", name, &path, "--no-wait"]);
        }
        let code = if lost_images.is_empty() { 0 } else { 4 };
        let expected: BTreeSet<String> = lost_images.iter().map(|i| i.sop.clone()).collect();
        std::thread::scope(|scope| {
            for (name, path) in dead.iter().zip(&new) {
                scope.spawn(|| wait_for_report(&server, name, path));
            }
        });
        for name in dead {
            let report = newest_report(&server, name);
            assert_eq!(lost(&report), expected, "{name}: {report}");
            assert_eq!(report["suspect_count"], 0, "{name}: {report}");
        }
        let exit = server.kura(&["status"]);
        assert_eq!(exit.code, Some(code), "{}", exit.text());
        let left: Vec<Image> = first.iter().chain(&others).cloned().collect();
        let left: Vec<Image> = left
            .into_iter()
            .filter(|i| !expected.contains(&i.sop))
            .collect();
        assert_come_back(&server, &left);
        if code == 4 {
            send_all(&server, &first);
            wait_until_known(&server, &["A", "B", "M", "N"]);
            wait_until_mirrored(&server);
            assert_come_back(&server, &first);
        }
    }
}

/// Waits as a person would, who may come late.
fn wait_for_report(server: &Server, name: &str, path: &Path) {
    let path = path.display().to_string();
    let outcome = server.kura(&["volume", "replace", name, &path]);
    assert!(
        matches!(outcome.code, Some(0 | 3 | 4)),
        "{}",
        outcome.text()
    );
    let begun = Instant::now();
    while !kura(server, &["report", "list"]).contains(&format!("replace-{name}-")) {
        assert!(begun.elapsed() < LIMIT, "no report on {name}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn newest_report(server: &Server, volume: &str) -> Value {
    let list = server.kura_json(&["report", "list"]);
    let reports = list["reports"].as_array().expect("reports");
    let names = reports
        .iter()
        .map(|report| report["name"].as_str().expect("name"));
    let prefix = format!("replace-{volume}-");
    let name = names
        .into_iter()
        .find(|name| name.starts_with(&prefix))
        .expect("a report");
    server.kura_json(&["report", "show", name])
}

/// Method: killed at random moments from before the command to its end; the same command is given again each time.
#[test]
fn replacing_goes_on_after_kill_9_whenever_it_comes() {
    let archives = if common::long() { 10 } else { 1 };
    let mut random = Random::from_environment("replace and kill -9");
    let images: Vec<Image> = (0..4)
        .flat_map(|study| (0..80).map(move |n| Image::new(study, n, 30_000)))
        .collect();
    for _ in 0..archives {
        let mut server = mirrored(&images);
        pull_out(&server, "A");
        let new = new_disk(&server, "new");
        let path = new.display().to_string();
        for most_ms in [150, 500, 1_500] {
            let mut command = server.command(&["volume", "replace", "A", &path]);
            let nowhere = std::process::Stdio::null;
            let mut waiting = command
                .stdout(nowhere())
                .stderr(nowhere())
                .spawn()
                .expect("kura volume replace");
            std::thread::sleep(Duration::from_millis(random.between(0, most_ms)));
            server.kill();
            waiting.wait().expect("kura volume replace");
            server.restart();
            server.wait_until_indexed();
            assert_come_back(&server, &images[..80]);
        }
        let report = replace(&server, "A", &new, 0);
        assert_eq!(report["lost_count"], 0, "{report}");
        wait_until_known(&server, &["A", "M"]);
        assert_same_images(&new, &server.volume("M"));
        assert_come_back(&server, &images);
        assert!(images::incoming(&new).is_empty());
    }
}

#[test]
fn without_a_running_server_the_command_does_it_itself() {
    let images = images::images(2, 30);
    let mut server = mirrored(&images);
    assert!(server.terminate().success());
    pull_out(&server, "A");
    let new = new_disk(&server, "new");
    let report = replace(&server, "A", &new, 0);
    assert_eq!(report["restored_count"], 60, "{report}");
    assert_same_images(&new, &server.volume("M"));
    server.restart();
    server.wait_until_indexed();
    wait_until_known(&server, &["A", "M"]);
    assert_come_back(&server, &images);
}

/// Method: the new disk is mounted where the old one was; later that dies as well.
#[test]
fn a_new_disk_at_the_place_of_the_old_one_dies_too() {
    let images = images::images(2, 20);
    let mut server = mirrored(&images);
    let place = server.volume("A");
    for round in 1..=2 {
        let aside = pull_out(&server, "A");
        wait_for(&server, "A", "away");
        kura(&server, &["mirror", "pause"]);
        let path = place.display().to_string();
        kura(&server, &["volume", "replace", "A", &path, "--no-wait"]);
        if round == 2 {
            // And once more before anything is on it.
            std::fs::rename(&place, server.folder().join("third")).expect("pulled out");
            std::fs::create_dir(&place).expect("mount point");
            wait_for(&server, "A", "away");
            kura(&server, &["volume", "replace", "A", &path, "--no-wait"]);
            wait_until_known(&server, &["A", "A-old", "A-old-2", "M"]);
        }
        assert!(server.terminate().success());
        server.restart();
        server.wait_until_indexed();
        kura(&server, &["mirror", "resume"]);
        let report = replace(&server, "A", &place, 0);
        assert_eq!(report["restored_count"], 40, "round {round}: {report}");
        assert_same_images(&place, &server.volume("M"));
        wait_until_known(&server, &["A", "M"]);
        assert_come_back(&server, &images);
        std::fs::remove_dir_all(aside).expect("thrown away");
        assert!(server.terminate().success());
        server.restart();
        server.wait_until_indexed();
    }
}

/// Method: the mirror with the other copies is away, then back.
#[test]
fn what_another_absent_disk_has_is_waited_for() {
    let images = images::images(1, 20);
    let server = mirrored(&images);
    pull_out(&server, "A");
    let aside = pull_out(&server, "M");
    wait_for(&server, "M", "away");
    let new = new_disk(&server, "new");
    let path = new.display().to_string();
    let blocked = server.kura(&["volume", "replace", "A", &path]);
    assert_eq!(blocked.code, Some(1), "{}", blocked.text());
    assert!(
        blocked.text().contains("is on a volume that is away: M"),
        "{}",
        blocked.text()
    );
    std::fs::remove_dir(server.volume("M")).expect("mount point");
    std::fs::rename(aside, server.volume("M")).expect("plugged in");
    wait_for(&server, "M", "ok");
    assert_eq!(replace(&server, "A", &new, 0)["restored_count"], 20);
    assert_come_back(&server, &images);
}

/// Method: each wrong folder in turn; the old state stays.
#[test]
fn a_wrong_disk_is_refused_with_a_sentence() {
    let images = images::images(1, 5);
    let server = mirrored(&images);
    let other = Server::start();
    other.wait_until_indexed();
    let aside = pull_out(&server, "A");
    wait_for(&server, "A", "away");
    let foreign = new_disk(&server, "foreign");
    std::fs::write(foreign.join("photo.jpg"), b"photo").expect("file");
    let stranger = new_disk(&server, "stranger");
    let label = std::fs::read_to_string(aside.join("kura-volume.json")).expect("label");
    let mut label: Value = serde_json::from_str(&label).expect("label");
    label["volume_id"] = "11111111-2222-3333-4444-555555555555".into();
    std::fs::write(stranger.join("kura-volume.json"), label.to_string()).expect("label");
    std::fs::create_dir(stranger.join("20260101")).expect("folder");
    let inside = server.volume("M").join("inside");
    let missing = server.folder().join("missing");
    for (path, says) in [
        (&missing, "there is no such folder (is the disk mounted?)"),
        (
            &foreign,
            "it holds files but no label; a new disk must be empty",
        ),
        (&other.volume("A"), "it is a volume of another archive"),
        (&aside, "that is volume A itself: kura volume return A"),
        (&server.volume("M"), "it is volume M of this archive"),
        (
            &stranger,
            "it has a label of this archive, as volume A; a new disk must be empty",
        ),
        (
            &server.state(),
            "it holds files but no label; a new disk must be empty",
        ),
    ] {
        let text = path.display().to_string();
        let refused = refuses(&server, &["replace", "A", &text]);
        assert_eq!(refused, format!("{text}: {says}; nothing was changed"));
    }
    std::fs::create_dir(&inside).expect("folder");
    let refused = refuses(&server, &["replace", "A", &inside.display().to_string()]);
    assert!(
        refused.contains("it and volume M lie in one another"),
        "{refused}"
    );
    let refused = refuses(&server, &["replace", "X", &inside.display().to_string()]);
    assert!(refused.starts_with("there is no volume X"), "{refused}");
    assert_eq!(volume_names(&server), ["A", "M"].map(str::to_owned).into());
    assert_eq!(volume(&server, "A")["state"], "away");
}

/// Method: the new disk was not mounted, so its mount point is on the disk of the state folder.
#[test]
fn a_mount_that_was_forgotten_is_noticed() {
    let images = images::images(1, 5);
    let mut server = mirrored(&images);
    assert!(server.terminate().success());
    server.configure(|settings| {
        settings.extra = settings.extra.replace("allow_same_device = true", "");
    });
    server.restart();
    server.wait_until_indexed();
    let new = new_disk(&server, "new");
    pull_out(&server, "A");
    wait_for(&server, "A", "away");
    let refused = refuses(&server, &["replace", "A", &new.display().to_string()]);
    assert!(
        refused.contains("it is on the same physical disk as the state folder"),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(&new).expect("folder").count(), 0);
    // Another disk, though not one for keeps.
    let Some(_memory) = Tmpfs::new(&new, "size=256m") else {
        return;
    };
    assert_eq!(replace(&server, "A", &new, 0)["restored_count"], 5);
    assert!(server.terminate().success());
}

/// Method: less room than is listed; another archive volume takes the rest.
#[test]
fn a_smaller_disk_takes_what_it_can_and_the_others_the_rest() {
    let settings = with_mirror(SOON).volume("B", "volume-b", "archive");
    let settings = common::Settings {
        extra: format!("[placement]\nreserve = \"1 MB\"\n{}", settings.extra),
        ..settings
    };
    let mut server = Server::with(settings);
    server.wait_until_indexed();
    let images: Vec<Image> = (0..40).map(|n| Image::new(1, n, 200_000)).collect();
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let new = new_disk(&server, "new");
    let Some(_small) = Tmpfs::new(&new, "size=5m") else {
        return;
    };
    pull_out(&server, "A");
    wait_for(&server, "A", "away");
    let path = new.display().to_string();
    let plan = server.kura_json(&["volume", "replace", "A", &path, "--dry-run"]);
    assert!(
        plan["warnings"]
            .to_string()
            .contains("the rest goes to other volumes"),
        "{plan}"
    );
    let report = replace(&server, "A", &new, 0);
    let sum = |a: &str, b: &str| report[a].as_u64().unwrap() + report[b].as_u64().unwrap();
    assert_eq!(sum("restored_count", "elsewhere_count"), 40, "{report}");
    assert!(report["restored_count"].as_u64() > Some(0), "{report}");
    assert_come_back(&server, &images);
    assert!(server.terminate().success());
}

/// Method: a disk that is away for good, of which all has a copy elsewhere, and one of which not all has.
#[test]
fn a_volume_that_will_not_come_back_is_forgotten() {
    let first: Vec<Image> = (0..10).map(|n| Image::new(1, n, 1_000)).collect();
    let others: Vec<Image> = (0..10).map(|n| Image::new(2, n, 1_000)).collect();
    let mut server = four_disks(&first, &others);
    let refused = refuses(&server, &["forget", "A"]);
    assert!(refused.starts_with("volume A: it is here"), "{refused}");
    does(&server, &["eject", "A"]);
    does(&server, &["forget", "A"]);
    wait_until_mirrored(&server);
    // Its images are on the other archive volume by now.
    assert_eq!(image_paths(&server.volume("B")).len(), 20);
    let old = content(&server.volume("A"));
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    wait_until_known(&server, &["B", "M", "N"]);
    assert!(old == content(&server.volume("A")), "it was written to");
    assert_come_back(&server, &first);
    assert_come_back(&server, &others);
    assert_eq!(found(&server, &first[0].study).len(), 10);
}

/// Paths, ids, times and free space are not the same twice.
fn masked(text: &str, server: &Server) -> String {
    let folder = format!("{}/", server.folder().display());
    let text = text.replace(&folder, "/");
    let is_id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let is_time = |word: &str| word.ends_with('Z') && word.contains('T') && word.len() == 24;
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(['(', ')', ',']);
            match bare {
                _ if is_id(bare) => word.replace(bare, "ID"),
                _ if is_time(bare) => word.replace(bare, "TIME"),
                _ => word.to_owned(),
            }
        });
        let line = words.collect::<Vec<_>>().join(" ");
        match line.split_once(" new disk at ") {
            Some((before, rest)) if rest.contains(" free") => {
                let path = rest.split(',').next().expect("path");
                format!("{before} new disk at {path}, N free")
            }
            _ => line,
        }
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_plan_and_the_report_are_screens_for_people() {
    let images = images::images(2, 10);
    let server = mirrored(&images);
    kura(&server, &["mirror", "pause"]);
    let alone: Vec<Image> = (0..2).map(|n| Image::new(5, n, 1_000)).collect();
    send_all(&server, &alone);
    pull_out(&server, "A");
    wait_for(&server, "A", "away");
    kura(&server, &["mirror", "resume"]);
    let new = new_disk(&server, "new");
    let path = new.display().to_string();
    let plan = kura(&server, &["volume", "replace", "A", &path, "--dry-run"]);
    let plan = &*plan;
    let expected = "\
state      planned: it is away: its disk was unmounted
volume     A (archive), new disk at /new, N free
listed     22 instances, 29.22 kB on the old disk
to copy    20 instances, 26.56 kB
           20 instances, 26.56 kB from volume M
elsewhere  0 instances, 0 B have what they need on other volumes
lost       2 instances, 2.66 kB have no other good copy
nothing was changed; without --dry-run it begins
";
    assert_eq!(masked(plan, &server), expected);
    assert_eq!(std::fs::read_dir(&new).expect("folder").count(), 0);
    let report = server.kura(&["volume", "replace", "A", &path]);
    assert_eq!(report.code, Some(4), "{}", report.text());
    let series = image_paths(&server.folder().join("old-A"));
    let of_it = series
        .iter()
        .find(|path| path.ends_with(&format!("{}.dcm", alone[0].sop)));
    let place = of_it.expect("its path").rsplit_once('/').expect("folder").0;
    let screen = masked(&report.stdout, &server);
    let (head, items) = screen.split_once("\npatient ").expect("a patient");
    let expected = "\
Volume A was replaced; 2 instances are lost, 0 could not be read.

begun      TIME
ended      TIME
old disk   A-old (ID), last at /volume-a
new disk   A (ID) at /new
listed     22 instances, 29216 bytes, on the old disk
restored   20 instances, 26560 bytes, on the new disk
elsewhere  0 instances, 0 bytes, on other volumes
lost       2 instances have no good copy
suspect    0 instances have a copy that could not be read

Send these again from the modality. Of the old disk, if it can still be read: kura send FOLDER --to THIS_SERVER
";
    assert_eq!(head, expected);
    let mut lines = items.lines();
    let series = lines.next().expect("series");
    assert!(
        series.contains("; study ") && series.contains(" CT series "),
        "{series}"
    );
    for image in &alone {
        let sop = &image.sop;
        let line = format!(
            "  lost    {sop}  its only copy was on the dead disk; last on volume A-old at {place}/{sop}.dcm"
        );
        assert_eq!(lines.next(), Some(line.as_str()));
    }
    assert_eq!(lines.next(), None);
    // The same command shows it again.
    let again = server.kura(&["volume", "replace", "A", &path]);
    assert_eq!((again.code, again.stdout), (Some(4), report.stdout));
}

/// Method: the commands of the README's chapter, as they stand there.
#[test]
fn the_readme_says_how_a_dead_disk_is_replaced() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let (_, chapter) = readme.split_once("## A disk died").expect("the chapter");
    let block = chapter.split("```").nth(1).expect("its commands");
    let images = images::images(2, 20);
    let server = mirrored(&images);
    pull_out(&server, "A");
    wait_for(&server, "A", "away");
    assert_eq!(server.kura(&["status"]).code, Some(1));
    let new = new_disk(&server, "new").display().to_string();
    let mut count = 0;
    for line in block.lines().filter(|line| !line.is_empty()) {
        let command = line
            .split('#')
            .next()
            .expect("a command")
            .replace("/mnt/new", &new);
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("kura"), "{line}");
        kura(&server, &words.collect::<Vec<_>>());
        count += 1;
    }
    assert_eq!(count, 4, "{block}");
    assert_same_images(Path::new(&new), &server.volume("M"));
    assert_come_back(&server, &images);
}
