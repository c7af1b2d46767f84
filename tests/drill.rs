//! The drill: what it says would come back does, what would not is named, and it changes nothing.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::copies::{kura, wait_until_mirrored, with_mirror};
use common::corrections::{amended, removed, undone, wait_until_aside};
use common::images::{self, Image, assert_come_back, send_all};
use common::server::put_file;
use common::shelf::Load;
use common::{Outcome, Server, files};
use serde_json::Value;

const AT_ONCE: &str = "when = \"immediate\"";
/// No hour of the day.
const NEVER: &str = "window = \"03:00-03:01\"";

fn started(mirror: &str) -> Server {
    let server = Server::with(with_mirror(mirror));
    server.wait_until_indexed();
    server
}

/// Archive volumes A and B, mirror M: the first half of the images on A, the other on B.
fn with_two_archive_volumes(images: &[Image]) -> Server {
    let server = Server::with(with_mirror(AT_ONCE).volume("B", "volume-b", "archive"));
    server.wait_until_indexed();
    let (first, second) = images.split_at(images.len() / 2);
    send_all(&server, first);
    kura(&server, &["volume", "retire", "A"]);
    send_all(&server, second);
    kura(&server, &["volume", "retire", "A", "--undo"]);
    wait_until_mirrored(&server);
    server
}

fn drill(server: &Server, more: &[&str]) -> (Outcome, Value) {
    let mut arguments = vec!["drill", "--json"];
    arguments.extend(more);
    let outcome = server.kura(&arguments);
    let said = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", outcome.text()));
    (outcome, said)
}

/// A side by what its name begins with: recovered, waiting, away, lost, unknown.
fn side(report: &Value, name: &str) -> [u64; 5] {
    let sides = report["sides"].as_array().expect("sides");
    let found = sides.iter().find(|side| {
        let names = side["name"].as_str().expect("name");
        names.split(", ").any(|one| one == name)
    });
    let found = found.unwrap_or_else(|| panic!("no side {name}: {report}"));
    ["recovered", "waiting", "away", "lost", "unknown"]
        .map(|count| found[format!("{count}_count")].as_u64().expect("count"))
}

/// Copies of ledgers are up to a minute behind; at the end of a server they are made whole.
fn with_whole_copies(server: &mut Server) {
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
}

/// Every file of the disks, and of the state folder but for the index, the reports, what is noted of who asked and came, and
/// how far files were read again.
fn everything(server: &Server, volumes: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let state = server.state();
    let mut paths: Vec<PathBuf> = files::below(&state);
    // That it was asked for is noted, and who came lately.
    let aside = ["index", "reports", "audit", "lately.json"].map(|name| state.join(name));
    paths.retain(|path| !aside.iter().any(|aside| path.starts_with(aside)));
    for name in volumes {
        paths.extend(files::below(&server.volume(name)));
    }
    paths.retain(|path| !path.to_string_lossy().contains("checked.json"));
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("read");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// The segments of a volume's own ledger.
fn ledger(volume: &Path) -> PathBuf {
    let label = fs::read(volume.join("kura-volume.json")).expect("label");
    let label: Value = serde_json::from_slice(&label).expect("label");
    let id = label["volume_id"].as_str().expect("volume_id");
    volume.join("ledgers").join(id).join("00000001.jsonl")
}

/// Takes two whole lines out of the midst of a ledger, as a file system check may. Returns the SOP Instance UIDs of three:
/// the line after a gap cannot be checked, and does not count either.
fn lose_lines(ledger: &Path) -> Vec<String> {
    let text = fs::read_to_string(ledger).expect("ledger");
    let (mut lost, mut left) = (Vec::new(), String::new());
    let half = text.lines().count() / 2;
    for (number, line) in text.lines().enumerate() {
        let stored = line.split_once("\"stored\":\"");
        if let Some((_, rest)) = stored
            && number > half
            && lost.len() < 3
        {
            lost.push(rest.split('"').next().expect("uid").to_owned());
            if lost.len() < 3 {
                continue;
            }
        }
        left.push_str(&format!("{line}\n"));
    }
    fs::write(ledger, left).expect("ledger");
    assert_eq!(lost.len(), 3);
    lost
}

/// The columns of a table without the blanks that make it straight.
fn squeezed(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ") + "\n"
    });
    lines.collect()
}

/// Method: the screen, the exit code and the report; every byte of disks and state before and after.
#[test]
fn a_healthy_archive_is_proven_and_nothing_is_changed() {
    let mut server = started(AT_ONCE);
    let images = images::images(3, 10);
    send_all(&server, &images);
    // A conflict: another data set under a UID that is taken.
    send_all(&server, &[Image::new(0, 0, 2_000)]);
    wait_until_mirrored(&server);
    images::wait_until_nothing_is_incoming(&server.volume("A"));
    with_whole_copies(&mut server);
    let before = everything(&server, &["A", "M"]);
    let outcome = server.kura(&["drill", "--seed", "7", "--sample", "12"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let said = squeezed(&outcome.stdout);
    let (screen, end) = said.split_once("drill ").expect("when");
    assert_eq!(
        screen,
        "proven all 31 contents come back from each side alone; 24 of 24 files read are good\n\
         SIDE STUDIES SERIES INSTANCES RECOVERED WAITING AWAY LOST\n\
         archive volumes alone, without M 3 of 3 3 of 3 30 of 30 31 0 0 0\n\
         mirror volumes alone, without A 3 of 3 3 of 3 30 of 30 31 0 0 0\n\
         VOLUME ROLE STATE FILES READ GOOD\n\
         A archive here 12 12\n\
         M mirror here 12 12\n"
    );
    assert!(end.contains("seed 7\nreport "), "{end}");
    assert!(
        before == everything(&server, &["A", "M"]),
        "something changed"
    );
    // What was shown is what was kept.
    let reports = files::below(&server.state().join("reports"));
    let names: Vec<String> = reports
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names[0].ends_with("Z.json") && names[1].ends_with("Z.txt"),
        "{names:?}"
    );
    let text = fs::read_to_string(&reports[1]).expect("report");
    assert!(outcome.stdout.starts_with(&text), "{text}");
    let json: Value =
        serde_json::from_slice(&fs::read(&reports[0]).expect("report")).expect("json");
    assert_eq!(
        (&json["version"], &json["state"]),
        (&1.into(), &"proven".into())
    );
    // Also without a server, and after one that was killed in the middle of a drill.
    assert!(server.terminate().success());
    let left_over = server.state().join("drill/index.redb");
    put_file(&left_over, b"half an index");
    let (outcome, said) = drill(&server, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert_eq!(said["state"], "proven");
    assert!(!server.state().join("drill").exists());
    let after = everything(&server, &["A", "M"]);
    for (path, bytes) in &before {
        // Says who has it open.
        if !path.ends_with("kura.lock") {
            assert!(after.get(path) == Some(bytes), "{} changed", path.display());
        }
    }
    assert_eq!(before.len(), after.len());
}

/// Method: four senders without a pause while the drill runs three times; no instance is refused, and none that came
/// meanwhile is taken for lost.
#[test]
fn senders_are_served_meanwhile_and_what_they_send_is_not_lost() {
    let server = started(AT_ONCE);
    send_all(&server, &images::images(2, 100));
    let load = Load::start(&server, 20, 5_000);
    for _ in 0..3 {
        load.go_on_for(20);
        let (outcome, said) = drill(&server, &["--sample", "50"]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.text());
        for name in ["archive volumes alone", "mirror volumes alone"] {
            let [.., lost, unknown] = side(&said, name);
            assert_eq!((lost, unknown), (0, 0), "{said}");
        }
        assert_eq!(side(&said, "without M")[1], 0, "{said}");
    }
    let stored = load.end();
    assert_come_back(&server, &stored);
}

#[test]
fn a_mirror_that_is_behind_is_named_with_what_waits() {
    let server = started(NEVER);
    let early = images::images(1, 10);
    send_all(&server, &early);
    kura(&server, &["mirror", "run"]);
    let late: Vec<Image> = (0..5).map(|number| Image::new(8, number, 1_000)).collect();
    send_all(&server, &late);
    let (outcome, said) = drill(&server, &[]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert_eq!(
        (&said["state"], &said["one_copy_count"]),
        (&"partly".into(), &5.into())
    );
    assert_eq!(side(&said, "archive volumes alone"), [15, 0, 0, 0, 0]);
    assert_eq!(side(&said, "mirror volumes alone"), [10, 5, 0, 0, 0]);
    let mirror = &said["sides"][1];
    assert_eq!(mirror["known"]["studies"], 1, "{said}");
    assert_eq!(mirror["all"]["studies"], 2, "{said}");
    let mut named: Vec<&str> = mirror["missing"]
        .as_array()
        .expect("missing")
        .iter()
        .map(|missing| missing["sop_instance_uid"].as_str().expect("uid"))
        .collect();
    named.sort_unstable();
    assert!(
        named.iter().eq(late.iter().map(|image| &image.sop)),
        "{said}"
    );
    let screen = server.kura(&["drill"]).stdout;
    let first = "partly   5 of 15 contents have one copy only; ";
    assert!(screen.starts_with(first), "{screen}");
    assert!(
        screen.contains("to copy now: kura mirror run\n"),
        "{screen}"
    );
    kura(&server, &["mirror", "run"]);
    assert_eq!(drill(&server, &[]).0.code, Some(0));
}

/// Method: one bit turned in one file of the mirror, of the same size as before.
#[test]
fn a_rotten_file_among_the_samples_is_named() {
    let server = started(AT_ONCE);
    send_all(&server, &images::images(2, 10));
    wait_until_mirrored(&server);
    // Else the check of new copies may find it first.
    wait_until_verified(&server);
    let rotten = images::tree(&server.volume("M")).remove(3);
    let mut bytes = fs::read(&rotten).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&rotten, &bytes).expect("rot");
    let (outcome, said) = drill(&server, &["--sample", "1000"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text());
    assert_eq!(said["state"], "failed");
    let [a, m] = [&said["volumes"][0], &said["volumes"][1]];
    assert_eq!(
        (&a["read_count"], &a["good_count"]),
        (&20.into(), &20.into())
    );
    assert_eq!(
        (&m["read_count"], &m["good_count"]),
        (&20.into(), &19.into())
    );
    let path = m["bad"][0]["path"].as_str().expect("path");
    assert_eq!(server.volume("M").join(path), rotten);
    assert_eq!(fs::read(&rotten).expect("read"), bytes, "it was touched");
    let screen = server.kura(&["drill", "--sample", "1000"]).stdout;
    let first = "failed   1 of 40 files read are not what they were\n";
    assert!(screen.starts_with(first), "{screen}");
    assert!(
        screen.contains("kura volume check M --checksums"),
        "{screen}"
    );
    assert!(
        screen.contains(&format!("bad      M {path}: checksums ")),
        "{screen}"
    );
}

/// Method: lines taken out of the mirror's ledger under the running server, with no other volume on its side; then what
/// the screen says.
#[test]
fn a_ledger_that_lost_lines_is_found_out() {
    let mut server = started(AT_ONCE);
    send_all(&server, &images::images(2, 10));
    wait_until_mirrored(&server);
    with_whole_copies(&mut server);
    let own = ledger(&server.volume("M"));
    let lost = lose_lines(&own);
    let left = fs::read(&own).expect("ledger");
    let (outcome, said) = drill(&server, &[]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text());
    assert_eq!(side(&said, "archive volumes alone"), [20, 0, 0, 0, 0]);
    assert_eq!(side(&said, "without A"), [17, 0, 0, 3, 0]);
    let missing = said["sides"][1]["missing"].as_array().expect("missing");
    for (missing, lost) in missing.iter().zip(&lost) {
        assert_eq!(missing["sop_instance_uid"], lost.as_str(), "{said}");
        assert_eq!(missing["kind"], "lost", "{said}");
    }
    assert_eq!(fs::read(&own).expect("ledger"), left, "it was touched");
    let screen = server.kura(&["drill"]).stdout;
    let first = "failed   3 of 20 contents do not come back: mirror volumes alone, without A; ";
    assert!(screen.starts_with(first), "{screen}");
    assert!(screen.contains("kura volume eject NAME"), "{screen}");
    // What the screen says to do.
    kura(&server, &["volume", "eject", "M"]);
    kura(&server, &["volume", "return", "M"]);
    server.wait_until_indexed();
    assert_eq!(drill(&server, &[]).0.code, Some(0));
}

/// Method: as above, with two archive volumes: when one of them dies, the other has the copy.
#[test]
fn a_ledger_that_lost_lines_comes_back_from_its_copy_on_the_same_side() {
    let mut server = with_two_archive_volumes(&images::images(4, 10));
    with_whole_copies(&mut server);
    lose_lines(&ledger(&server.volume("M")));
    let (outcome, said) = drill(&server, &[]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text());
    assert_eq!(
        side(&said, "mirror volumes alone"),
        [37, 0, 0, 3, 0],
        "{said}"
    );
    for dead in ["A", "B", "M"] {
        assert_eq!(
            side(&said, &format!("without {dead}")),
            [40, 0, 0, 0, 0],
            "{said}"
        );
    }
}

#[test]
fn a_volume_that_is_away_is_neither_proven_nor_lost() {
    let server = with_two_archive_volumes(&images::images(4, 10));
    assert_eq!(drill(&server, &[]).0.code, Some(0));
    kura(&server, &["volume", "eject", "B"]);
    let (outcome, said) = drill(&server, &[]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert_eq!(
        side(&said, "archive volumes alone"),
        [20, 0, 20, 0, 0],
        "{said}"
    );
    assert_eq!(
        side(&said, "mirror volumes alone"),
        [40, 0, 0, 0, 0],
        "{said}"
    );
    assert_eq!(side(&said, "without A"), [40, 0, 0, 0, 0], "{said}");
    let known = &said["sides"][0]["known"];
    assert_eq!(known["instances"], 40, "by the copy of its ledger: {said}");
    let screen = server.kura(&["drill"]).stdout;
    let first = "partly   nothing is missing, but not everything could be proven; 40 of 40 files";
    assert!(screen.starts_with(first), "{screen}");
    assert!(
        screen.contains("volume B is away and was not read"),
        "{screen}"
    );
}

#[test]
fn without_a_mirror_every_image_is_said_to_have_one_copy() {
    let server = Server::start();
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 5));
    let outcome = server.kura(&["drill"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let first = "partly   5 of 5 contents have one copy only; 5 of 5 files read are good\n";
    assert!(outcome.stdout.starts_with(first), "{}", outcome.text());
    assert!(
        outcome
            .stdout
            .contains("kura volume add NAME PATH --role mirror")
    );
    assert_eq!(server.kura(&["drill", "--sample", "0"]).code, Some(2));
}

/// Method: two archive volumes and two mirrors; one study amended, one on both archive volumes removed, one amended and
/// taken back.
#[test]
fn corrections_are_known_on_each_side() {
    let settings = with_mirror(AT_ONCE).volume("B", "volume-b", "archive");
    let mut server = Server::with(settings.volume("N", "volume-n", "mirror"));
    server.wait_until_indexed();
    let images = images::images(4, 6);
    let (first, second) = images.split_at(9);
    send_all(&server, first);
    kura(&server, &["volume", "retire", "A"]);
    send_all(&server, second);
    kura(&server, &["volume", "retire", "A", "--undo"]);
    wait_until_mirrored(&server);
    amended(&server, &images[0], "RIGHT-1");
    removed(&server, &images[6]);
    let number = amended(&server, &images[12], "RIGHT-2");
    undone(&server, number);
    wait_until_aside(&server, 24, 12);
    wait_until_mirrored(&server);
    with_whole_copies(&mut server);
    let (outcome, report) = drill(&server, &[]);
    assert_eq!(outcome.code, Some(0), "{report:#}");
    let sides = report["sides"].as_array().expect("sides");
    assert!(sides.len() > 2, "{report:#}");
    for one in sides {
        let name = one["name"].as_str().expect("name");
        let name = name.split(", ").next().expect("a name");
        assert_eq!(side(&report, name), [18, 0, 0, 0, 0], "{name}: {report:#}");
    }
}

/// Waits until every copy was read again once.
fn wait_until_verified(server: &Server) {
    let begun = std::time::Instant::now();
    loop {
        let status = server.kura_json(&["scrub", "status"]);
        let volumes = status["checked"]["volumes"]
            .as_array()
            .or_else(|| status["volumes"].as_array());
        let volumes = volumes.unwrap_or_else(|| panic!("{status:#}"));
        let is_done = |volume: &serde_json::Value| {
            volume["not_verified_count"] == 0 && volume["state"] == "waiting"
        };
        if volumes.iter().all(is_done) {
            return;
        }
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(90),
            "{status:#}"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
