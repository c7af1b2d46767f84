//! Files that an amendment replaced: where they go, how they come back, when they are deleted, and that nothing takes them
//! for something else meanwhile.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::build::by_uids;
use common::copies::{image_paths, kura, wait_until_mirrored, with_mirror};
use common::corrections::{amended, instances_of, undone, wait_until_aside, wait_until_kept};
use common::images::{self, Image, assert_come_back, send_all};
use common::shelf::{does, wait_for};
use common::wire::{IMPLICIT_LITTLE, STUDY_ROOT_MOVE};
use common::{Server, Settings, Sink};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const MOVER: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])];

/// Waits until so many files are below `superseded/`, and none waits to be moved there.
fn wait_until_tidied(server: &Server, count: u64) {
    wait_until_aside(server, count, 0);
}

fn superseded(server: &Server, volume: &str) -> Vec<String> {
    let root = server.volume(volume);
    let below = image_paths(&root.join("superseded")).into_iter();
    below.map(|path| format!("superseded/{path}")).collect()
}

/// Relative path and bytes of every image of a volume, wherever it lies.
fn bytes_of(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let aside = image_paths(&root.join("superseded")).into_iter();
    let aside = aside.map(|path| format!("superseded/{path}"));
    let paths = image_paths(root).into_iter().chain(aside);
    paths
        .filter_map(|path| {
            // Moved at this moment, perhaps: then it is missing here.
            let bytes = std::fs::read(root.join(&path)).ok()?;
            Some((path, bytes))
        })
        .collect()
}

fn mirrored() -> (Server, Vec<Image>) {
    let server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let images = images::images(1, 12);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    (server, images)
}

/// Method: amended and taken back, with the server killed in between again and again; at the end every byte of the old
/// files lies where it lay.
#[test]
fn files_go_aside_and_come_back_whenever_the_server_is_killed() {
    let (mut server, images) = mirrored();
    let before = ["A", "M"].map(|name| bytes_of(&server.volume(name)));
    for (round, pause) in (0..).zip([0, 300, 700]) {
        let number = amended(&server, &images[0], "RIGHT-1");
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
        server.restart();
        server.wait_until_indexed();
        assert_eq!(instances_of(&server, "RIGHT-1"), 12);
        // Those of the amendments that were taken back lie there too.
        wait_until_tidied(&server, 24 * (round + 1));
        for (name, before) in ["A", "M"].iter().zip(&before) {
            let mut aside = bytes_of(&server.volume(name));
            aside.retain(|path, _| path.starts_with("superseded/"));
            for (path, bytes) in before {
                let path = format!("superseded/{path}");
                assert!(aside.get(&path) == Some(bytes), "{pause}: {name} {path}");
            }
        }
        undone(&server, number);
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
        server.restart();
        server.wait_until_indexed();
        assert_eq!(instances_of(&server, "TEST-1"), 12);
        for (name, before) in ["A", "M"].iter().zip(&before) {
            let begun = Instant::now();
            loop {
                let now = bytes_of(&server.volume(name));
                if before
                    .iter()
                    .all(|(path, bytes)| now.get(path) == Some(bytes))
                {
                    break;
                }
                assert!(
                    begun.elapsed() < LIMIT,
                    "{pause}: not all came back on {name}"
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        wait_until_tidied(&server, 24 * (round + 1));
        assert_come_back(&server, &images);
    }
}

/// Method: a receiver that takes its time; when some of 200 images came the study is amended and its old files go aside.
#[test]
fn a_c_move_sends_the_generation_that_it_began_with() {
    let sink = Sink::start();
    let settings = with_mirror("when = \"immediate\"").peer("SINK", sink.port());
    let server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(1, 200);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let moved = std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let mut mover = server.associate(MOVER);
            let identifier = by_uids("STUDY", &images[0].study, None, None);
            let moved = mover.c_move(1, "SINK", &identifier).expect("C-MOVE");
            mover.release().expect("release");
            moved
        });
        sink.wait_for(20, LIMIT);
        sink.stall(true);
        amended(&server, &images[0], "RIGHT-1");
        wait_until_tidied(&server, 400);
        sink.stall(false);
        moving.join().expect("no panic")
    });
    assert_eq!(moved.status, 0, "{moved:?}");
    let received = sink.take();
    assert_eq!(received.len(), 200);
    for received in received {
        let sent = images
            .iter()
            .find(|image| image.sop == received.sop_instance);
        let sent = sent.expect("one of those that were sent");
        assert!(
            received.data_set == sent.data_set,
            "{}: other bytes",
            sent.sop
        );
    }
    assert_eq!(instances_of(&server, "RIGHT-1"), 200);
    assert_eq!(instances_of(&server, "TEST-1"), 0);
}

#[test]
fn superseded_files_are_deleted_when_their_days_are_over_and_two_new_copies_are_good() {
    let mut settings = with_mirror("when = \"immediate\"");
    settings.extra.push_str("[corrections]\nkeep_days = 2\n");
    let day = ("KURA_CORRECTIONS_DAY_SECONDS".to_owned(), "2".to_owned());
    settings.environment.push(day);
    let server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(1, 5);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let number = amended(&server, &images[0], "RIGHT-1");
    wait_until_kept(&server, "deleted", |kept| {
        kept["superseded_files_count"] == 0 && kept["in_tree_files_count"] == 0
    });
    for name in ["A", "M"] {
        assert_eq!(image_paths(&server.volume(name)).len(), 5);
        assert!(!server.volume(name).join("superseded").exists(), "{name}");
    }
    assert_eq!(instances_of(&server, "RIGHT-1"), 5);
    assert_eq!(instances_of(&server, "TEST-1"), 0);
    // It cannot be taken back any more, and what was replaced does not come again.
    let number = number.to_string();
    for meant in [["--study", &images[0].study], ["--number", &number]] {
        let outcome = server.kura(&[&["amend", "--undo", "--yes"], &meant[..]].concat());
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        let reason = "are gone; nothing was changed; amend it with the values that it is to have";
        assert!(outcome.stderr.contains(reason), "{}", outcome.text());
    }
    for again in [false, true] {
        if again {
            kura(&server, &["index", "rebuild"]);
            server.wait_until_indexed();
        }
        send_all(&server, &images);
        wait_until_mirrored(&server);
        for name in ["A", "M"] {
            let paths = image_paths(&server.volume(name));
            assert_eq!(
                (paths.len(), superseded(&server, name).len()),
                (5, 0),
                "{name}"
            );
        }
        assert_eq!(instances_of(&server, "RIGHT-1"), 5);
        assert_eq!(instances_of(&server, "TEST-1"), 0);
        let totals = &server.kura_json(&["status"])["index"];
        assert_eq!(totals["conflicts_count"], 0, "{totals}");
    }
}

/// Method: without a mirror volume there is never a second copy.
#[test]
fn superseded_files_are_kept_as_long_as_the_new_ones_have_one_copy() {
    let settings = Settings {
        extra: "[corrections]\nkeep_days = 1\n".to_owned(),
        environment: vec![("KURA_CORRECTIONS_DAY_SECONDS".to_owned(), "1".to_owned())],
        ..Settings::default()
    };
    let server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(1, 3);
    send_all(&server, &images);
    let number = amended(&server, &images[0], "RIGHT-1");
    let kept = wait_until_kept(&server, "kept", |kept| {
        kept["waits"]
            .as_array()
            .is_some_and(|waits| !waits.is_empty())
    });
    assert_eq!(kept["superseded_files_count"], 3, "{kept}");
    let outcome = server.kura(&["status"]);
    for said in ["kept    3 files superseded", "no second good copy"] {
        assert!(outcome.stdout.contains(said), "{said}: {}", outcome.text());
    }
    undone(&server, number);
    assert_come_back(&server, &images);
}

/// Method: every verb that looks for files without a line, after an amendment; and the round of reading everything again.
#[test]
fn hidden_files_are_neither_foreign_nor_new() {
    let (server, images) = mirrored();
    amended(&server, &images[0], "RIGHT-1");
    wait_until_tidied(&server, 24);
    for arguments in [
        &["equalize"][..],
        &["volume", "check", "A"],
        &["volume", "check", "M"],
        &["scrub", "run"],
    ] {
        let outcome = server.kura(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text());
    }
    let report = server.kura_json(&["volume", "check", "A"]);
    let a = &report["volumes"][0];
    assert_eq!((&a["files"], &a["hidden"]), (&12.into(), &12.into()), "{a}");
    assert_eq!(instances_of(&server, "TEST-1"), 0);
    let status = server.kura_json(&["status"]);
    assert_eq!(status["index"]["instances_count"], 12, "{status}");
    assert_eq!(status["state"], "ok", "{status}");
    let drill = server.kura(&["drill"]);
    assert_eq!(drill.code, Some(0), "{}", drill.text());
}

#[test]
fn a_drained_volume_gives_its_superseded_files_away_and_they_come_back_there() {
    let server = Server::with(Settings::default().volume("B", "volume-b", "archive"));
    server.wait_until_indexed();
    let images = images::images(1, 8);
    send_all(&server, &images);
    let number = amended(&server, &images[0], "RIGHT-1");
    wait_until_tidied(&server, 8);
    does(&server, &["drain", "A"]);
    wait_for(&server, "A", "retired");
    assert_eq!(image_paths(&server.volume("A")), Vec::<String>::new());
    assert_eq!(superseded(&server, "B").len(), 8);
    assert_eq!(instances_of(&server, "RIGHT-1"), 8);
    undone(&server, number);
    assert_come_back(&server, &images);
    kura(&server, &["index", "rebuild"]);
    assert_eq!(instances_of(&server, "TEST-1"), 8);
    assert_come_back(&server, &images);
}

/// Method: of two mirror volumes the one that has the second copies is away while the study is amended.
#[test]
fn a_volume_that_was_away_puts_the_old_generation_aside_when_it_returns() {
    let settings = with_mirror("when = \"immediate\"").volume("N", "volume-n", "mirror");
    let mut server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(1, 6);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    assert_eq!(image_paths(&server.volume("M")).len(), 6);
    does(&server, &["eject", "M"]);
    amended(&server, &images[0], "RIGHT-1");
    wait_until_kept(&server, "superseded", |kept| {
        kept["superseded_files_count"] == 6
    });
    assert_eq!(superseded(&server, "M").len(), 0);
    // The index is lost, and the volume comes back.
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.state().join("index")).expect("the index");
    server.restart();
    server.wait_until_indexed();
    does(&server, &["return", "M"]);
    assert_eq!(instances_of(&server, "TEST-1"), 0);
    assert_eq!(instances_of(&server, "RIGHT-1"), 6);
    wait_until_tidied(&server, 12);
    assert_eq!(superseded(&server, "M").len(), 6);
    assert_eq!(image_paths(&server.volume("M")).len(), 0);
    assert_eq!(instances_of(&server, "TEST-1"), 0);
}

/// Method: the state folder is lost; of the disks the one that has only the old generation is looked at first.
#[test]
fn disks_alone_answer_the_new_generation() {
    let settings = with_mirror("when = \"immediate\"").volume("N", "volume-n", "mirror");
    let mut server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(1, 6);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    does(&server, &["eject", "M"]);
    amended(&server, &images[0], "RIGHT-1");
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.state()).expect("the state");
    server.configure(|settings| settings.volumes.reverse());
    server.restart();
    server.wait_until_indexed();
    assert_eq!(instances_of(&server, "TEST-1"), 0);
    assert_eq!(instances_of(&server, "RIGHT-1"), 6);
    does(&server, &["return", "M"]);
    wait_until_kept(&server, "tidied", |kept| {
        kept["superseded_files_count"] == 12 && kept["in_tree_files_count"] == 0
    });
}

/// Method: the volume with one of the two ledgers that say it is given up; then the other one is.
#[test]
fn a_correction_outlives_the_volumes_that_said_it() {
    let settings = with_mirror("when = \"immediate\"").volume("N", "volume-n", "mirror");
    let server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(1, 4);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let number = amended(&server, &images[0], "RIGHT-1");
    wait_until_tidied(&server, 8);
    let says = |name: &str| {
        let root = server.volume(name);
        let label = std::fs::read(root.join("kura-volume.json")).expect("a label");
        let label: Value = serde_json::from_slice(&label).expect("JSON");
        let id = label["volume_id"].as_str().expect("an id");
        let ledger = root.join("ledgers").join(id).join("00000001.jsonl");
        let ledger = std::fs::read_to_string(ledger).unwrap_or_default();
        ledger.contains(&format!("\"correction\":{number},"))
    };
    let (with, without) = match says("N") {
        true => ("N", "M"),
        false => ("M", "N"),
    };
    assert!(says("A") && says(with) && !says(without));
    does(&server, &["eject", with]);
    does(&server, &["forget", with, "--yes"]);
    assert!(says(without), "the other one says it now");
    let begun = Instant::now();
    let is_known = || {
        let list = server.kura_json(&["volume", "list"]);
        let volumes = list["volumes"].as_array().expect("volumes").clone();
        volumes.iter().any(|volume| volume["name"] == with)
    };
    while is_known() {
        assert!(begun.elapsed() < LIMIT, "{with} is not forgotten");
        std::thread::sleep(Duration::from_millis(100));
    }
    kura(&server, &["index", "rebuild"]);
    assert_eq!(instances_of(&server, "TEST-1"), 0);
    assert_eq!(instances_of(&server, "RIGHT-1"), 4);
}

/// Method: a disk on which a study was amended becomes part of another archive: where it lies, and copied; first as it was
/// when its server was killed at once, mostly before the old files were moved, then when they are below `superseded/`.
#[test]
fn an_adopted_disk_brings_the_new_generation_only() {
    let (mut server, images) = mirrored();
    amended(&server, &images[0], "RIGHT-1");
    server.kill();
    let disk = server.volume("A");
    for tidied in [false, true] {
        if tidied {
            server.restart();
            server.wait_until_indexed();
            wait_until_tidied(&server, 24);
            assert!(server.terminate().success());
        }
        let before = bytes_of(&disk);
        for arguments in [&["adopt"][..], &["adopt", "--copy"]] {
            let other = Server::start();
            other.wait_until_indexed();
            let mut all = arguments.to_vec();
            all.push(disk.to_str().expect("UTF-8"));
            let outcome = other.kura(&all);
            assert_eq!(outcome.code, Some(0), "{all:?}: {}", outcome.text());
            assert_eq!(instances_of(&other, "TEST-1"), 0, "{tidied} {arguments:?}");
            assert_eq!(
                instances_of(&other, "RIGHT-1"),
                12,
                "{tidied} {arguments:?}"
            );
            let status = other.kura_json(&["status"]);
            assert_eq!(status["index"]["conflicts_count"], 0, "{status}");
            let outcome = other.kura(&["equalize"]);
            assert_eq!(outcome.code, Some(0), "{}", outcome.text());
            assert_eq!(instances_of(&other, "TEST-1"), 0, "{tidied} {arguments:?}");
        }
        assert!(bytes_of(&disk) == before, "the disk was changed");
    }
}
