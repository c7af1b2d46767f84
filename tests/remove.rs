//! What is removed is gone at every level at once, comes back byte for byte, and is protected where somebody said so.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::build::{Tag, ident};
use common::copies::{kura, wait_until_mirrored, with_mirror};
use common::images::{
    self, ALL, FIND, GET, Image, assert_come_back, assert_found, found, send_all,
};
use common::{Random, Server, Settings, build};
use serde_json::Value;

const REASON: &str = "sent for the wrong patient";

fn remove(server: &Server, arguments: &[&str]) -> Value {
    let mut all = vec!["remove", "--reason", REASON, "--who", "yamada", "--yes"];
    all.extend(arguments);
    let removed = server.kura_json(&all);
    assert!(removed["number"].is_u64(), "{removed}");
    removed
}

fn number(removed: &Value) -> String {
    removed["number"].as_u64().expect("number").to_string()
}

/// How many answers queries for a study have: at the levels of study, series and image.
fn answers(server: &Server, study: &str) -> [usize; 3] {
    let mut client = server.associate(ALL);
    let level = |level: &str| {
        let mut keys = vec![
            (Tag(0x0008, 0x0052), "CS", level),
            (Tag(0x0020, 0x000D), "UI", study),
        ];
        match level {
            "SERIES" => keys.push((Tag(0x0020, 0x000E), "UI", "")),
            "IMAGE" => keys.push((Tag(0x0008, 0x0018), "UI", "")),
            _ => keys.push((Tag(0x0010, 0x0020), "LO", "")),
        }
        ident(&keys)
    };
    let counts = ["STUDY", "SERIES", "IMAGE"].map(|name| {
        let found = client.c_find(FIND, &level(name)).expect("C-FIND");
        assert_eq!(found.status, 0, "{name}: {:?}", found.comment);
        found.answers().len()
    });
    client.release().expect("release");
    counts
}

/// Studies, instances of the archive.
fn totals(server: &Server) -> (u64, u64) {
    let status = server.kura_json(&["status"]);
    let count = |name: &str| status["index"][name].as_u64().expect("count");
    (count("studies_count"), count("instances_count"))
}

fn trash(server: &Server) -> Vec<Value> {
    let list = server.kura_json(&["trash", "list"]);
    list["items"].as_array().expect("items").clone()
}

fn rebuild(server: &Server) {
    kura(server, &["index", "rebuild"]);
    server.wait_until_indexed();
}

/// Method: two studies in two copies; one is removed and restored, in each state the index is made anew from the ledgers.
#[test]
fn a_removed_study_is_gone_at_every_level_and_comes_back_byte_for_byte() {
    let server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let all = images::images(2, 200);
    let (gone, stays) = all.split_at(200);
    send_all(&server, &all);
    wait_until_mirrored(&server);
    let study = &gone[0].study;

    let shown = server.kura_json(&["remove", "--study", study, "--dry-run"]);
    assert_eq!(shown["number"], Value::Null, "{shown}");
    assert_eq!(shown["instances_count"], 200, "{shown}");
    assert_eq!(shown["files_count"], 400, "{shown}");
    assert_found(&server, &all);

    let removed = remove(&server, &["--study", study]);
    assert_eq!(removed["instances_count"], 200, "{removed}");
    assert_eq!(removed["patient_id"], "TEST-1", "{removed}");
    let volumes = removed["volumes"].as_array().expect("volumes");
    assert_eq!(volumes.len(), 2, "{removed}");
    assert!(volumes.iter().all(|volume| volume["files_count"] == 200));
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_eq!(answers(&server, study), [0; 3]);
        assert_eq!(totals(&server), (1, 200));
        let mut client = server.associate(ALL);
        let got = client.c_get(GET, &build::by_uids("STUDY", study, None, None));
        assert_eq!(got.expect("C-GET").received.len(), 0);
        client.release().expect("release");
        assert_come_back(&server, stays);
        let items = trash(&server);
        assert_eq!(items.len(), 1, "{items:?}");
        assert_eq!(items[0]["kept_count"], 200, "{items:?}");
        assert_eq!(items[0]["who"], "yamada", "{items:?}");
        assert_eq!(items[0]["why"], REASON, "{items:?}");
    }

    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_eq!(totals(&server), (2, 400));
        assert_eq!(answers(&server, study), [1, 1, 200]);
        assert_found(&server, &all);
        assert_come_back(&server, gone);
        assert_eq!(trash(&server), Vec::<Value>::new());
    }
}

#[test]
fn a_series_or_an_instance_goes_alone() {
    let server = Server::start();
    server.wait_until_indexed();
    let mut all = images::images(1, 6);
    // Two of them in a series of their own.
    let study = all[0].study.clone();
    for image in &mut all[4..] {
        let series = format!("{study}.2");
        image.data_set = build::synthetic_ct(&study, &series, &image.sop, 9, 500, false);
    }
    send_all(&server, &all);
    let first = remove(&server, &["--instance", &all[0].sop]);
    assert_eq!(first["instances_count"], 1, "{first}");
    assert_found(&server, &all[1..]);
    let second = remove(&server, &["--series", &format!("{study}.2")]);
    assert_eq!(second["instances_count"], 2, "{second}");
    assert_found(&server, &all[1..4]);
    assert_eq!(answers(&server, &study), [1, 1, 3]);
    // All that was removed of the study, in one go.
    kura(&server, &["trash", "restore", "--study", &study, "--yes"]);
    assert_found(&server, &all);
    assert_come_back(&server, &all);
}

/// Method: what is kept beside the answered data sets: a conflict in the same study, and one that another study brought.
#[test]
fn other_contents_go_with_the_study_they_belong_to() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = images::images(2, 2);
    send_all(&server, &all);
    let beside = |study: &Image, sop: &Image| {
        let series = format!("{}.1", study.study);
        Image {
            study: study.study.clone(),
            sop: sop.sop.clone(),
            data_set: build::synthetic_ct(&study.study, &series, &sop.sop, 77, 640, false),
        }
    };
    let in_first = beside(&all[0], &all[0]);
    let in_second = beside(&all[2], &all[1]);
    send_all(&server, &[in_first, in_second.clone()]);
    assert_found(&server, &all);
    let removed = remove(&server, &["--study", &all[0].study]);
    assert_eq!(removed["instances_count"], 2, "{removed}");
    assert_eq!(removed["others_count"], 1, "{removed}");
    assert_eq!(removed["appears_in"][0], all[2].study.as_str(), "{removed}");
    // What the other study brought is its own.
    assert_eq!(answers(&server, &all[0].study), [0; 3]);
    let expected = [all[2].clone(), all[3].clone(), in_second];
    assert_found(&server, &expected);
    assert_come_back(&server, &expected);
    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    assert_found(&server, &all);
    assert_come_back(&server, &all);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_next_step() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = images::images(1, 3);
    send_all(&server, &all);
    let study = all[0].study.as_str();
    for (arguments, words) in [
        (
            &["remove", "--study", "1.2.3", "--reason", "x", "--yes"][..],
            &["1.2.3", "kura trash list", "kura find"][..],
        ),
        (&["remove", "--study", study, "--yes"], &["--reason"]),
        (
            &["remove", "--study", study, "--reason", " ", "--yes"],
            &["--reason"],
        ),
        // Nobody at the terminal.
        (&["remove", "--study", study, "--reason", "x"], &["--yes"]),
        (&["trash", "restore", "99", "--yes"], &["kura trash list"]),
        (
            &["trash", "restore", "--study", study, "--yes"],
            &["kura trash list"],
        ),
        (
            &["trash", "empty", "--all", "--yes"],
            &["the trash is empty"],
        ),
        (
            &["protect", "--study", "1.2.3", "--reason", "x"],
            &["kura find"],
        ),
        (
            &["protect", "--study", study, "--off", "--reason", "x"],
            &["kura protect list"],
        ),
    ] {
        let outcome = server.kura(arguments);
        assert_eq!(outcome.code, Some(3), "{arguments:?}: {}", outcome.text());
        assert!(
            outcome.stderr.contains("nothing was changed"),
            "{}",
            outcome.text()
        );
        for word in words {
            assert!(outcome.stderr.contains(word), "{word}: {}", outcome.text());
        }
    }
    // Neither of them, and both.
    for arguments in [
        &["remove", "--reason", "x"][..],
        &["remove", "--study", "1", "--series", "2", "--reason", "x"],
    ] {
        assert_eq!(server.kura(arguments).code, Some(2), "{arguments:?}");
    }
    assert_found(&server, &all);
    // Removed twice.
    let removed = remove(&server, &["--study", study]);
    let outcome = server.kura(&["remove", "--study", study, "--reason", "x", "--yes"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    let outcome = server.kura(&["trash", "restore", &number(&removed), "--yes"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert_found(&server, &all);
}

#[test]
fn a_protected_study_stays_until_the_protection_is_lifted() {
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let all = images::images(1, 3);
    send_all(&server, &all);
    let study = all[0].study.as_str();
    kura(
        &server,
        &[
            "protect",
            "--study",
            study,
            "--reason",
            "a court asks for it",
            "--who",
            "suzuki",
        ],
    );
    for restarted in [false, true] {
        if restarted {
            assert!(server.terminate().success());
            std::fs::remove_dir_all(server.state().join("index")).expect("no index");
            server.restart();
            server.wait_until_indexed();
        }
        for which in [
            ["--study", study],
            ["--series", &format!("{study}.1")],
            ["--instance", &all[1].sop],
        ] {
            let mut arguments = vec!["remove", "--reason", "x", "--yes"];
            arguments.extend(which);
            let outcome = server.kura(&arguments);
            assert_eq!(outcome.code, Some(3), "{}", outcome.text());
            for word in ["suzuki", "a court asks for it", "kura protect", "--off"] {
                assert!(outcome.stderr.contains(word), "{word}: {}", outcome.text());
            }
        }
        let list = server.kura_json(&["protect", "list"]);
        assert_eq!(list["studies"][0]["study_instance_uid"], study, "{list}");
        assert_eq!(list["studies"][0]["who"], "suzuki", "{list}");
    }
    assert_found(&server, &all);
    kura(
        &server,
        &[
            "protect",
            "--study",
            study,
            "--off",
            "--reason",
            "the court has it",
        ],
    );
    let list = server.kura_json(&["protect", "list"]);
    assert_eq!(list["studies"].as_array().map(Vec::len), Some(0), "{list}");
    remove(&server, &["--study", study]);
    assert_eq!(answers(&server, study), [0; 3]);
}

/// Method: queries at the level of images go on while the study is removed and restored again and again.
#[test]
fn a_query_sees_all_of_a_study_or_nothing_of_it() {
    let server = Arc::new(Server::start());
    server.wait_until_indexed();
    let all = images::images(1, 120);
    send_all(&server, &all);
    let study = all[0].study.clone();
    let done = Arc::new(AtomicBool::new(false));
    let (asker, until, uid) = (server.clone(), done.clone(), study.clone());
    let asked = std::thread::spawn(move || {
        let mut seen = std::collections::BTreeSet::new();
        while !until.load(Ordering::Relaxed) {
            seen.insert(found(&asker, &uid).len());
        }
        seen
    });
    for _ in 0..10 {
        let removed = remove(&server, &["--study", &study]);
        assert_eq!(found(&server, &study).len(), 0);
        kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
        assert_eq!(found(&server, &study).len(), 120);
    }
    done.store(true, Ordering::Relaxed);
    let seen = asked.join().expect("queries");
    assert!(
        seen.iter().all(|count| [0, 120].contains(count)),
        "{seen:?}"
    );
}

/// Method: images of the study go on coming while it is removed; what was answered before is gone, what came after counts.
#[test]
fn images_that_come_while_their_study_is_removed_are_not_half_there() {
    let server = Arc::new(Server::start());
    server.wait_until_indexed();
    let all = images::images(1, 150);
    send_all(&server, &all[..50]);
    let (sender, rest) = (server.clone(), all[50..].to_vec());
    let sending = std::thread::spawn(move || send_all(&sender, &rest));
    std::thread::sleep(Duration::from_millis(100));
    let removed = remove(&server, &["--study", &all[0].study]);
    sending.join().expect("sender");
    let gone = removed["instances_count"].as_u64().expect("count");
    let left = found(&server, &all[0].study).len() as u64;
    assert_eq!(gone + left, 150, "{removed}");
    assert_eq!(totals(&server).1, left);
    rebuild(&server);
    assert_eq!(found(&server, &all[0].study).len() as u64, left);
    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    assert_come_back(&server, &all);
}

/// Method: killed at a moment drawn by lot while it removes or restores; after the next start it is one or the other, and
/// the same command ends it.
#[test]
fn kill_9_leaves_the_study_whole_or_gone() {
    let rounds = if common::long() { 40 } else { 6 };
    let mut random = Random::from_environment("remove and kill -9");
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let all = images::images(1, 400);
    send_all(&server, &all);
    wait_until_mirrored(&server);
    let study = all[0].study.clone();
    let arguments = |present: bool| match present {
        true => vec!["remove", "--study", &study, "--reason", "x", "--yes"],
        false => vec!["trash", "restore", "--study", &study, "--yes"],
    };
    for _ in 0..rounds {
        let present = !found(&server, &study).is_empty();
        let mut command = server.command(&arguments(present));
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("kura");
        std::thread::sleep(Duration::from_millis(random.between(1, 120)));
        server.kill();
        child.wait().expect("the verb ends with its server");
        server.restart();
        server.wait_until_indexed();
        let count = found(&server, &study).len();
        assert!([0, 400].contains(&count), "{count} of 400 are answered");
        if (count > 0) == present {
            kura(&server, &arguments(present));
        }
        let count = found(&server, &study).len();
        assert_eq!(count, if present { 0 } else { 400 });
    }
    if found(&server, &study).is_empty() {
        kura(&server, &arguments(false));
    }
    assert_found(&server, &all);
    assert_come_back(&server, &all);
}

/// Method: also without a running server, and on the next start it is so.
#[test]
fn a_study_is_removed_without_a_server() {
    let mut server = Server::start();
    server.wait_until_indexed();
    let all = images::images(2, 3);
    send_all(&server, &all);
    assert!(server.terminate().success());
    let removed = remove(&server, &["--study", &all[0].study]);
    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &all[3..]);
    assert_eq!(answers(&server, &all[0].study), [0; 3]);
    assert!(server.terminate().success());
    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    server.restart();
    server.wait_until_indexed();
    assert_come_back(&server, &all);
}

/// Method: columns as a person sees them; days and times are masked.
#[test]
fn the_screens_say_what_goes_and_until_when() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = images::images(1, 3);
    send_all(&server, &all);
    let shown = kura(&server, &["remove", "--study", &all[0].study, "--dry-run"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "remove  study 2.25.90", "{shown}");
    assert_eq!(
        lines[1],
        "of      TEST-1  TEST^SYNTHETIC  20260115  CT  synthetic study"
    );
    assert!(
        lines[2].starts_with("what    3 instances in 1 series, "),
        "{shown}"
    );
    assert!(lines[2].ends_with(" in 3 files"), "{shown}");
    assert!(lines[3].starts_with("until   20"), "{shown}");
    assert_eq!(lines[4], "VOLUME  STATE  FILES  SIZE");
    assert!(lines[5].starts_with("A       here   3      "), "{shown}");
    assert_eq!(lines.len(), 6, "{shown}");
    assert_eq!(kura(&server, &["trash", "list"]), "the trash is empty\n");
    let removed = remove(&server, &["--study", &all[0].study]);
    let screen = kura(&server, &["trash", "list"]);
    let lines: Vec<&str> = screen.lines().collect();
    assert!(
        lines[0].starts_with("3 instances in the trash, "),
        "{screen}"
    );
    assert_eq!(lines[1], "back: kura trash restore NUMBER");
    assert!(lines[3].starts_with(&number(&removed)), "{screen}");
    assert!(lines[3].ends_with(REASON), "{screen}");
}

/// Method: as many as a large CT; more where the long tests were asked for.
#[test]
fn a_large_study_goes_in_one_switch() {
    let count = if common::long() { 20_000 } else { 2_000 };
    let server = Server::with(Settings::default());
    server.wait_until_indexed();
    let all: Vec<Image> = (0..count).map(|number| Image::new(0, number, 64)).collect();
    send_all(&server, &all);
    let begun = Instant::now();
    let removed = remove(&server, &["--study", &all[0].study]);
    eprintln!("{count} removed in {:?}", begun.elapsed());
    assert_eq!(removed["instances_count"], count, "{removed}");
    assert_eq!(totals(&server), (0, 0));
    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    assert_eq!(totals(&server), (1, u64::from(count)));
    assert_found(&server, &all);
}

/// Waits until the tidying has done what it is for.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(90), "not yet: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Image files of a volume: in the tree, and in the trash.
fn files(server: &Server, volume: &str) -> (usize, usize) {
    let root = server.volume(volume);
    let images = |paths: Vec<std::path::PathBuf>| {
        let images = paths.into_iter();
        images
            .filter(|path| path.extension().is_some_and(|e| e == "dcm"))
            .count()
    };
    (
        images(images::tree(&root)),
        images(common::files::below(&root.join("trash"))),
    )
}

/// Method: sent again while it is in the trash, then emptied, then sent again; counts and files of both volumes at each step.
#[test]
fn what_is_in_the_trash_is_not_stored_again_and_after_emptying_it_is() {
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let all = images::images(2, 20);
    let (gone, stays) = all.split_at(20);
    send_all(&server, &all);
    wait_until_mirrored(&server);
    let study = &gone[0].study;
    let removed = remove(&server, &["--study", study]);
    wait_until("files are in the trash", || {
        ["A", "M"]
            .iter()
            .all(|name| files(&server, name) == (20, 20))
    });
    send_all(&server, gone);
    assert_eq!(answers(&server, study), [0; 3]);
    assert_eq!(files(&server, "A"), (20, 20));
    assert_eq!(trash(&server)[0]["kept_count"], 20);

    let outcome = server.kura(&["trash", "empty", &number(&removed)]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(outcome.stderr.contains("--yes"), "{}", outcome.text());
    kura(&server, &["trash", "empty", &number(&removed), "--yes"]);
    wait_until("files are deleted", || {
        ["A", "M"]
            .iter()
            .all(|name| files(&server, name) == (20, 0))
    });
    wait_until("the trash is empty", || trash(&server).is_empty());
    let outcome = server.kura(&["trash", "restore", &number(&removed), "--yes"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("it was emptied"),
        "{}",
        outcome.text()
    );
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_eq!(answers(&server, study), [0; 3]);
        assert_come_back(&server, stays);
    }
    send_all(&server, gone);
    assert_found(&server, &all);
    wait_until_mirrored(&server);
    assert_eq!(files(&server, "M").0, 40);
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.state().join("index")).expect("no index");
    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &all);
    assert_come_back(&server, gone);
    // Once more to the trash: this removal is another one.
    let again = remove(&server, &["--study", study]);
    assert_ne!(number(&again), number(&removed));
    assert_eq!(answers(&server, study), [0; 3]);
    kura(&server, &["trash", "restore", "--study", study, "--yes"]);
    assert_come_back(&server, gone);
}

/// Method: killed at a moment drawn by lot while the trash is emptied; after the next start it goes on to its end.
#[test]
fn kill_9_while_the_trash_is_emptied_leaves_nothing_half_deleted() {
    let rounds = if common::long() { 20 } else { 3 };
    let mut random = Random::from_environment("trash empty and kill -9");
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let all = images::images(1, 200);
    for _ in 0..rounds {
        send_all(&server, &all);
        wait_until_mirrored(&server);
        assert_found(&server, &all);
        remove(&server, &["--study", &all[0].study]);
        std::thread::sleep(Duration::from_millis(random.between(1, 300)));
        let mut command = server.command(&["trash", "empty", "--all", "--yes"]);
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("kura");
        std::thread::sleep(Duration::from_millis(random.between(1, 300)));
        server.kill();
        child.wait().expect("the verb ends with its server");
        server.restart();
        server.wait_until_indexed();
        assert_eq!(answers(&server, &all[0].study), [0; 3]);
        if trash(&server).iter().any(|item| item["emptied"] == false) {
            kura(&server, &["trash", "empty", "--all", "--yes"]);
        }
        wait_until("files are deleted", || {
            ["A", "M"].iter().all(|name| files(&server, name) == (0, 0))
        });
        wait_until("the trash is empty", || trash(&server).is_empty());
        kura(&server, &["equalize"]);
    }
    send_all(&server, &all);
    assert_come_back(&server, &all);
}

/// Method: the mirror volume is away while the study is removed, and the state folder is lost before it comes back.
#[test]
fn a_volume_that_was_away_learns_of_it_before_it_serves() {
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let all = images::images(2, 10);
    send_all(&server, &all);
    wait_until_mirrored(&server);
    kura(&server, &["volume", "eject", "M"]);
    let study = all[0].study.clone();
    let shown = server.kura_json(&["remove", "--study", &study, "--dry-run"]);
    let mirror = shown["volumes"]
        .as_array()
        .and_then(|all| all.iter().find(|v| v["name"] == "M"));
    assert_eq!(mirror.expect("M")["is_here"], false, "{shown}");
    let removed = remove(&server, &["--study", &study]);
    assert_eq!(answers(&server, &study), [0; 3]);
    kura(&server, &["volume", "return", "M"]);
    assert_eq!(answers(&server, &study), [0; 3]);
    wait_until("files are in the trash", || {
        ["A", "M"]
            .iter()
            .all(|name| files(&server, name) == (10, 10))
    });
    // The correction is on two volumes now: either alone knows of it.
    for gone in ["A", "M"] {
        wait_until("both ledgers say it", || {
            ["A", "M"]
                .iter()
                .all(|name| ledger_says(&server, name, &number(&removed)))
        });
        assert!(server.terminate().success());
        std::fs::remove_dir_all(server.state()).expect("no state");
        let away = server.folder().join("away");
        std::fs::rename(server.volume(gone), &away).expect("unplugged");
        std::fs::create_dir(server.volume(gone)).expect("mount point");
        server.restart();
        server.wait_until_indexed();
        assert_eq!(answers(&server, &study), [0; 3], "without {gone}");
        assert_come_back(&server, &all[10..]);
        assert!(server.terminate().success());
        std::fs::remove_dir_all(server.volume(gone)).expect("mount point");
        std::fs::rename(&away, server.volume(gone)).expect("plugged in");
        server.restart();
        server.wait_until_indexed();
    }
    kura(&server, &["trash", "restore", &number(&removed), "--yes"]);
    assert_come_back(&server, &all);
    wait_until("files are back in the tree", || {
        ["A", "M"]
            .iter()
            .all(|name| files(&server, name) == (20, 0))
    });
}

/// Whether the ledger on a volume has the line of a correction; its own, not the copies of others'.
fn ledger_says(server: &Server, volume: &str, number: &str) -> bool {
    let wanted = format!("\"correction\":{number},");
    let root = server.volume(volume);
    let label = std::fs::read(root.join("kura-volume.json")).expect("label");
    let label: Value = serde_json::from_slice(&label).expect("label");
    let id = label["volume_id"].as_str().expect("id");
    let all = common::files::below(&root.join("ledgers").join(id));
    all.iter().any(|path| {
        let text = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(&wanted)
    })
}
