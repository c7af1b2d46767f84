//! Promise: images leave a receiving volume by rule alone, only where two good copies elsewhere were read again, and what
//! is answered stays as it was.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::copies::{self, assert_same_images, image_paths, wait_until_mirrored};
use common::images::{self, ALL, Image, assert_come_back, assert_found, send_all};
use common::shelf::Shelf;
use common::{Random, Server, Settings};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Volume A receives; M and N are mirrors. `rules`: what stands in `[retention]` and below.
fn settings(mirrors: &[&str], rules: &str) -> Settings {
    let mut settings = Settings {
        extra: format!(
            "[placement]\nreserve = \"1 MB\"\n[mirror]\nallow_same_device = true\npause_seconds = 0\n\
             when = \"immediate\"\n[retention]\n{rules}\n"
        ),
        ..Settings::default()
    };
    for name in mirrors {
        let path = format!("volume-{}", name.to_ascii_lowercase());
        settings = settings.volume(name, &path, "mirror");
    }
    settings
}

/// A window that is closed now, so that only commands do something.
fn by_command(rules: &str) -> String {
    let hour = jiff::Zoned::now().hour();
    let (from, to) = ((hour + 11) % 24, (hour + 12) % 24);
    format!("window = \"{from:02}:00-{to:02}:00\"\n{rules}")
}

const EVERYTHING: &str = "[[retention.rule]]\nvolume = \"A\"\nolder_than_days = 0\n";

fn three_disks(rules: &str, options: &str) -> Option<Shelf> {
    Shelf::in_memory(settings(&["M", "N"], rules), &[options; 3])
}

fn count_below(volume: &Path) -> usize {
    image_paths(volume).len()
}

/// `kura retention run --yes`, which must come to its end.
fn run(server: &Server) -> Value {
    let report = server.kura_json(&["retention", "run", "--yes"]);
    assert_eq!(report["report"], "retention", "{report}");
    report
}

fn sum(report: &Value, of: &str) -> u64 {
    let rules = report["rules"].as_array().expect("rules");
    rules
        .iter()
        .map(|rule| rule[of].as_u64().expect("a count"))
        .sum()
}

fn reasons(report: &Value) -> String {
    report["reasons"].to_string()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every listed file is right, and no other is there.
fn assert_disks_agree(server: &Server) {
    for name in ["A", "M", "N"] {
        let checked = server.kura(&["volume", "check", "--checksums", name]);
        assert_eq!(checked.code, Some(0), "{}", checked.text());
    }
}

/// What a client and the administrator are told of the instances.
fn told(server: &Server) -> (Value, Value) {
    let status = server.kura_json(&["status"]);
    (
        status["index"].clone(),
        status["copies"]["two_count"].clone(),
    )
}

#[test]
fn images_leave_with_two_good_copies_elsewhere_and_are_answered_as_before() {
    let Some(mut shelf) = three_disks(&by_command(EVERYTHING), "size=64m") else {
        return;
    };
    let server = &mut shelf.server;
    let images = images::images(2, 10);
    send_all(server, &images);
    // A conflict leaves like anything else.
    let mut other = Image::new(0, 0, 2_000);
    other.sop.clone_from(&images[0].sop);
    let mut client = server.associate(ALL);
    assert_eq!(other.send(&mut client).expect("C-STORE").0, 0);
    client.release().expect("release");
    wait_until_mirrored(server);
    assert_eq!(count_below(&server.volume("N")), 0);
    let before = told(server);
    let paths = image_paths(&server.volume("A"));
    assert_eq!(paths.len(), 21);

    // To look changes nothing, and neither does a run without --yes.
    for arguments in [["retention", "show"], ["retention", "run"]] {
        let report = server.kura_json(&arguments);
        assert_eq!(report["dry_run"], true);
        assert_eq!(sum(&report, "due_count"), 21, "{report}");
        assert_eq!(sum(&report, "gone_count"), 21, "{report}");
        assert_eq!(sum(&report, "copied_count"), 21, "{report}");
        assert_eq!(image_paths(&server.volume("A")), paths);
        assert_eq!(count_below(&server.volume("N")), 0);
    }
    let screen = copies::kura(server, &["retention", "run"]);
    assert!(screen.contains("kura retention run --yes"), "{screen}");

    let report = run(server);
    assert_eq!(sum(&report, "gone_count"), 21, "{report}");
    assert_eq!(sum(&report, "kept_count"), 0, "{report}");
    assert_eq!(count_below(&server.volume("A")), 0);
    assert_same_images(&server.volume("M"), &server.volume("N"));
    assert_eq!(image_paths(&server.volume("M")), paths);
    let name = report["name"].as_str().expect("a name");
    let shown = copies::kura(server, &["report", "show", name]);
    assert!(shown.starts_with("21 images left"), "{shown}");
    let status = copies::kura(server, &["status"]);
    assert!(status.contains("21 instances left"), "{status}");

    for round in 0..3 {
        assert_eq!(told(server), before, "{round}");
        assert_found(server, &images);
        assert_come_back(server, &images);
        // Nothing wants them back.
        assert_eq!(wait_until_mirrored(server)["todo_count"], 0);
        assert_eq!(count_below(&server.volume("A")), 0);
        match round {
            0 => assert_eq!(server.kura(&["index", "rebuild"]).code, Some(0)),
            _ => {
                assert!(server.terminate().success());
                server.restart();
            }
        }
        server.wait_until_indexed();
    }
    // Sent again they are known.
    send_all(server, &images);
    assert_eq!(count_below(&server.volume("A")), 0);
    assert_disks_agree(server);
}

#[test]
fn what_has_no_second_copy_elsewhere_stays() {
    let mut server = Server::with(settings(&[], &by_command(EVERYTHING)));
    server.wait_until_indexed();
    let images = images::images(1, 5);
    send_all(&server, &images);
    let report = run(&server);
    assert_eq!(sum(&report, "gone_count"), 0, "{report}");
    assert!(
        reasons(&report).contains("no copy elsewhere yet"),
        "{report}"
    );

    // One mirror volume is not enough.
    assert!(server.terminate().success());
    server.configure(|settings| {
        let volume = ("M".to_owned(), "volume-m".to_owned(), "mirror".to_owned());
        settings.volumes.push(volume);
    });
    std::fs::create_dir_all(server.volume("M")).expect("folder of the volume");
    server.restart();
    server.wait_until_indexed();
    wait_until_mirrored(&server);
    for arguments in [vec!["retention", "show"], vec!["retention", "run", "--yes"]] {
        let report = server.kura_json(&arguments);
        assert_eq!(sum(&report, "gone_count"), 0, "{report}");
        assert_eq!(sum(&report, "kept_count"), 5, "{report}");
        assert!(
            reasons(&report)
                .contains("it has one copy elsewhere, and for another there is no mirror volume"),
            "{report}"
        );
    }
    assert_eq!(count_below(&server.volume("A")), 5);
    assert_come_back(&server, &images);
}

#[test]
fn without_a_rule_nothing_leaves() {
    let server = Server::with(settings(&["M", "N"], "window = \"00:00-24:00\""));
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 5));
    wait_until_mirrored(&server);
    let report = run(&server);
    assert_eq!(report["rules"], serde_json::json!([]));
    assert_eq!(count_below(&server.volume("A")), 5);
    assert!(server.kura_json(&["status"])["retention"].is_null());
}

/// Method: one byte of a copy is changed on its disk after it was made.
#[test]
fn a_bad_copy_keeps_its_image_here_until_it_is_healed() {
    let Some(shelf) = three_disks(&by_command(EVERYTHING), "size=64m") else {
        return;
    };
    let server = &shelf.server;
    let images = images::images(1, 6);
    send_all(server, &images);
    wait_until_mirrored(server);
    let paths = image_paths(&server.volume("M"));
    let rotten = server.volume("M").join(&paths[2]);
    let (_, flip_bit) = common::damage::DAMAGES[0];
    flip_bit(&rotten);
    let report = run(server);
    assert_eq!(sum(&report, "gone_count"), 5, "{report}");
    assert_eq!(sum(&report, "kept_count"), 1, "{report}");
    assert!(
        reasons(&report).contains("a copy elsewhere is not good"),
        "{report}"
    );
    let name = report["name"].as_str().expect("a name");
    let shown = copies::kura(server, &["report", "show", name]);
    assert!(shown.contains(&paths[2]), "{shown}");
    assert_eq!(image_paths(&server.volume("A")), [paths[2].clone()]);
    // It is set aside by those who look after bad copies, and the next run has it copied anew.
    let aside = server.volume("M").join("suspect").join(&paths[2]);
    wait_until("it is set aside", || aside.exists());
    wait_until("it leaves", || {
        run(server);
        count_below(&server.volume("A")) == 0
    });
    assert_same_images(&server.volume("M"), &server.volume("N"));
    assert_come_back(server, &images);
    assert_eq!(told(server).1, 6);
    wait_until("it counts as healed", || {
        server.kura_json(&["scrub", "status"])["bad_count"] == 0
    });
}

/// Method: a disk of 64 MB with 40 images of 1 MB each.
#[test]
fn for_room_the_oldest_leave_until_there_is_enough() {
    let rules = by_command("[[retention.rule]]\nrole = \"archive\"\nwhen_free_below = \"50 %\"\n");
    let Some(shelf) = three_disks(&rules, "size=64m") else {
        return;
    };
    let server = &shelf.server;
    let images: Vec<Image> = (0..40).map(|n| Image::new(n % 4, n, 1_000_000)).collect();
    let (first, last) = images.split_at(20);
    send_all(server, first);
    wait_until_mirrored(server);
    // There is room.
    assert_eq!(sum(&run(server), "due_count"), 0);
    assert_eq!(count_below(&server.volume("A")), 20);
    send_all(server, last);
    wait_until_mirrored(server);
    let would = sum(&server.kura_json(&["retention", "show"]), "gone_count");
    let report = run(server);
    let gone = sum(&report, "gone_count");
    assert!((5..=12).contains(&gone), "{report}");
    assert_eq!(gone, would, "{report}");
    let left = image_paths(&server.volume("A"));
    assert_eq!(left.len() as u64, 40 - gone);
    // The first of them, and no copies of what stays.
    for (number, image) in images.iter().enumerate() {
        let is_here = left
            .iter()
            .any(|path| path.ends_with(&format!("/{}.dcm", image.sop)));
        assert_eq!(is_here, number as u64 >= gone, "{number}");
    }
    assert_eq!(count_below(&server.volume("N")) as u64, gone);
    // Lines are written on it meanwhile, so that it may be just below again.
    assert!(sum(&run(server), "gone_count") <= 1);
    assert_come_back(server, &images);
}

#[test]
fn a_rule_takes_only_what_fits_all_of_it() {
    let rules = by_command(
        "[[retention.rule]]\nolder_than_days = 0\nmodality = \"MR\"\n\
         [[retention.rule]]\nolder_than_days = 0\ncalling = \"OTHER*\"\n\
         [[retention.rule]]\nolder_than_days = 1\n\
         [[retention.rule]]\nstudy_older_than_days = 36000\n\
         [[retention.rule]]\nvolume = \"B*\"\nolder_than_days = 0\n",
    );
    let mut server = Server::with(settings(&["M", "N"], &rules));
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 3));
    wait_until_mirrored(&server);
    let report = run(&server);
    assert_eq!(sum(&report, "due_count"), 0, "{report}");
    assert!(
        report["notes"]
            .to_string()
            .contains("rule 5 names no archive volume")
    );
    assert!(server.terminate().success());
    server.configure(|settings| {
        settings.extra.push_str(
            "[[retention.rule]]\nstudy_older_than_days = 30\nmodality = \"c?\"\ncalling = \"test*\"\n",
        );
    });
    server.restart();
    server.wait_until_indexed();
    let report = run(&server);
    assert_eq!(report["rules"][5]["gone_count"], 3, "{report}");
    assert_eq!(count_below(&server.volume("A")), 0);
}

/// Method: killed again and again in the middle of a run.
#[test]
fn a_run_goes_on_after_kill_9_and_loses_nothing() {
    let mut server = Server::with(settings(&["M", "N"], &by_command(EVERYTHING)));
    server.wait_until_indexed();
    let images = images::images(4, 60);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let mut random = Random::from_environment("kill -9 while images leave");
    for _ in 0..5 {
        let mut child = server
            .command(&["retention", "run", "--yes"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("kura retention run");
        std::thread::sleep(Duration::from_millis(random.between(100, 900)));
        server.kill();
        child.wait().expect("it ends with the server");
        server.restart();
        server.wait_until_indexed();
        assert_found(&server, &images);
        assert_come_back(&server, &images);
    }
    run(&server);
    assert_eq!(count_below(&server.volume("A")), 0);
    assert_same_images(&server.volume("M"), &server.volume("N"));
    assert_come_back(&server, &images);
    assert_disks_agree(&server);
}

/// Method: files are put back where they were, as a power cut between the line and the removal leaves them.
#[test]
fn a_file_that_a_crash_kept_after_its_line_goes_and_gets_no_new_line() {
    let mut server = Server::with(settings(&["M", "N"], &by_command(EVERYTHING)));
    server.wait_until_indexed();
    let images = images::images(1, 4);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    run(&server);
    let (from, to) = (server.volume("M"), server.volume("A"));
    let put_back = |path: &str| {
        let to: PathBuf = to.join(path);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        std::fs::copy(from.join(path), to).expect("copy");
    };
    let paths = image_paths(&from);
    put_back(&paths[0]);
    let equalized = server.kura(&["equalize"]);
    assert_eq!(equalized.code, Some(0), "{}", equalized.text());
    assert_eq!(count_below(&to), 0);

    assert!(server.terminate().success());
    put_back(&paths[1]);
    put_back(&paths[2]);
    // What is not that file stays.
    std::fs::write(to.join(&paths[2]), b"something else").expect("write");
    server.restart();
    server.wait_until_indexed();
    wait_until("it goes", || image_paths(&to) == [paths[2].clone()]);
    assert_eq!(told(&server).1, 4);
    assert_come_back(&server, &images);
}

#[test]
fn in_its_window_the_server_does_it_by_itself() {
    let rules = format!("window = \"00:00-24:00\"\n{EVERYTHING}");
    let mut server = Server::with(settings(&["M", "N"], &rules));
    server.wait_until_indexed();
    let images = images::images(1, 5);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    // A run was made at the start, before there was anything.
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    wait_until("they leave", || count_below(&server.volume("A")) == 0);
    wait_until("it is said", || {
        server.kura_json(&["status"])["retention"]["last_gone_count"] == 5
    });
    assert_come_back(&server, &images);
}

#[test]
fn when_a_mirror_disk_dies_what_had_left_goes_to_the_new_one() {
    let mut server = Server::with(settings(&["M", "N"], &by_command(EVERYTHING)));
    server.wait_until_indexed();
    let images = images::images(1, 8);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    run(&server);
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.volume("M")).expect("the disk is gone");
    server.restart();
    server.wait_until_indexed();
    assert_come_back(&server, &images);
    let new = server.folder().join("volume-m2");
    std::fs::create_dir(&new).expect("folder");
    let replaced = server.kura(&["volume", "replace", "M", &new.display().to_string()]);
    assert_eq!(replaced.code, Some(0), "{}", replaced.text());
    wait_until("it is restored", || count_below(&new) == 8);
    assert_eq!(count_below(&server.volume("A")), 0);
    assert_eq!(told(&server).1, 8);
}

#[test]
fn a_protected_study_stays() {
    let server = Server::with(settings(&["M", "N"], &by_command(EVERYTHING)));
    server.wait_until_indexed();
    let images = images::images(2, 3);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let study = &images[0].study;
    let protect = |off: &[&str]| {
        let mut arguments = vec!["protect", "--study", study, "--reason", "in court"];
        arguments.extend(off);
        copies::kura(&server, &arguments);
    };
    protect(&[]);
    let report = run(&server);
    assert_eq!(sum(&report, "gone_count"), 3, "{report}");
    assert!(reasons(&report).contains("protected"), "{report}");
    assert_eq!(count_below(&server.volume("A")), 3);
    protect(&["--off"]);
    assert_eq!(sum(&run(&server), "gone_count"), 3);
    assert_eq!(count_below(&server.volume("A")), 0);
    assert_come_back(&server, &images);
}

/// Method: a mirror volume is emptied first where another takes its copies, then where none does.
#[test]
fn what_had_left_keeps_two_copies_while_a_mirror_volume_is_emptied() {
    let server = Server::with(settings(&["M", "N", "O"], &by_command(EVERYTHING)));
    server.wait_until_indexed();
    let images = images::images(1, 8);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    run(&server);
    assert_eq!(count_below(&server.volume("A")), 0);
    for (drained, then) in [("M", "O"), ("N", "A")] {
        let outcome = server.kura(&["volume", "drain", drained]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
        wait_until("it is empty", || {
            assert_eq!(told(&server).1, 8, "while {drained} is emptied");
            count_below(&server.volume(drained)) == 0
        });
        assert_eq!(count_below(&server.volume(then)), 8);
        assert_come_back(&server, &images);
    }
}
