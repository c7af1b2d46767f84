//! Every file is read again: new copies soon, all files in turn; what is bad is found and healed.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::copies::{assert_same_images, kura, wait_until_mirrored, with_mirror};
use common::damage::{DAMAGES, path_of, status, wait_until};
use common::images::{Image, assert_come_back, send_all};
use common::{Server, Settings};

/// Outside this hour nothing is copied by itself but what was bad.
const NEVER: &str = "window = \"03:00-03:01\"";

/// Nothing is read again by itself but new copies.
fn only_asked() -> Settings {
    let mut settings = with_mirror(NEVER);
    settings.extra.push_str("[scrub]\ndays = 0\n");
    settings
}

/// Copies are verified, and positions written down, after one second.
fn at_once(settings: Settings) -> Settings {
    Settings {
        environment: vec![("KURA_CHECK_SECONDS".to_owned(), "1".to_owned())],
        ..settings
    }
}

fn mirrored(settings: Settings, images: &[Image]) -> Server {
    let server = Server::with(settings);
    server.wait_until_indexed();
    send_all(&server, images);
    kura(&server, &["mirror", "run"]);
    wait_until_mirrored(&server);
    server
}

fn images(count: u32, bytes: usize) -> Vec<Image> {
    (0..count).map(|n| Image::new(1, n, bytes)).collect()
}

fn volume<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let volumes = status["volumes"].as_array().expect("volumes");
    let found = volumes.iter().find(|volume| volume["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {status:#}"))
}

/// Where a volume keeps how far it was read.
fn kept_files(server: &Server, name: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(server.volume(name).join("ledgers")).expect("ledgers");
    let files = folders.map(|entry| entry.expect("entry").path().join("checked.json"));
    files.filter(|path| path.exists()).collect()
}

/// Method: every kind of damage on either side, on other images each, and two files that nobody knows; one run finds just
/// these, and everything is as it was when they are healed.
#[test]
fn a_run_finds_what_nobody_asked_for_and_it_is_healed() {
    let images = images(40, 20_000);
    let server = mirrored(only_asked(), &images);
    let (a, m) = (server.volume("A"), server.volume("M"));
    for (number, (_, damage)) in DAMAGES.iter().enumerate() {
        damage(&path_of(&a, &images[number]));
        damage(&path_of(&m, &images[20 + number]));
    }
    let foreign = path_of(&a, &images[39]).with_file_name("holiday.dcm");
    fs::write(&foreign, b"no image").expect("write");
    fs::write(a.join("notes.txt"), b"mine").expect("write");
    let outcome = server.kura(&["scrub", "run", "--json"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let told: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("one object");
    let reports = told["volumes"].as_array().expect("volumes");
    let count = DAMAGES.len();
    for (report, extra) in reports.iter().zip([2, 0]) {
        assert_eq!(report["files"], 40, "{report:#}");
        assert_eq!(report["ok"], 40 - count, "{report:#}");
        assert_eq!(report["missing"], 1, "{report:#}");
        assert_eq!(report["wrong"], count - 1, "{report:#}");
        assert_eq!(report["lost"], 0, "{report:#}");
        assert_eq!(report["extra"], extra, "{report:#}");
    }
    wait_until(&server, "healed", |now| now["healed_count"] == 2 * count);
    wait_until_mirrored(&server);
    assert!(foreign.exists() && a.join("notes.txt").exists(), "touched");
    fs::remove_file(&foreign).expect("remove");
    fs::remove_file(a.join("notes.txt")).expect("remove");
    assert_same_images(&a, &m);
    assert_come_back(&server, &images);
    let again = server.kura(&["scrub", "run"]);
    assert_eq!(again.code, Some(0), "{}", again.text());
}

#[test]
fn what_is_bad_on_both_sides_is_lost_and_the_run_says_so() {
    let images = images(5, 20_000);
    let server = mirrored(only_asked(), &images);
    for side in ["A", "M"] {
        DAMAGES[0].1(&path_of(&server.volume(side), &images[3]));
    }
    let outcome = server.kura(&["scrub", "run"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text());
    assert!(
        outcome.text().contains("the instance is lost"),
        "{}",
        outcome.text()
    );
    let outcome = server.kura(&["scrub", "status"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text());
    assert!(
        outcome.text().contains(&images[3].sop),
        "{}",
        outcome.text()
    );
}

/// Method: the images lie in a folder that is served in place, too; one changes there.
#[test]
fn a_bad_file_of_an_adopted_tree_is_found_and_left_where_it_is() {
    let images = images(6, 20_000);
    let server = mirrored(only_asked(), &images);
    let old = server.folder().join("old");
    fs::create_dir(&old).expect("folder");
    for (number, image) in images.iter().enumerate() {
        let to = old.join(format!("image{number}"));
        fs::copy(path_of(&server.volume("A"), image), to).expect("copy");
    }
    let path = old.display().to_string();
    kura(&server, &["adopt", &path, "--name", "OLD"]);
    DAMAGES[0].1(&old.join("image3"));
    let bad = fs::read(old.join("image3")).expect("read");
    let outcome = server.kura(&["scrub", "run", "OLD"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert!(outcome.text().contains("image3"), "{}", outcome.text());
    assert!(
        fs::read(old.join("image3")).expect("read") == bad,
        "touched"
    );
    assert_come_back(&server, &images);
    // The archive has its own two copies of it.
    wait_until(&server, "nothing to heal", |now| now["bad_count"] == 0);
}

/// Method: no server runs; the run declares, and the next server heals.
#[test]
fn a_run_needs_no_server() {
    let images = images(5, 20_000);
    let mut server = mirrored(only_asked(), &images);
    assert!(server.terminate().success());
    DAMAGES[1].1(&path_of(&server.volume("A"), &images[0]));
    let outcome = server.kura(&["scrub", "run", "A"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    server.restart();
    server.wait_until_indexed();
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

/// Method: the state of reading is taken away, as on a disk of an earlier version; nobody asks for anything.
#[test]
fn a_round_begins_by_itself_and_finds_what_is_bad() {
    let images = images(30, 20_000);
    let mut server = mirrored(at_once(with_mirror(NEVER)), &images);
    assert!(server.terminate().success());
    for name in ["A", "M"] {
        for path in kept_files(&server, name) {
            fs::remove_file(path).expect("remove");
        }
    }
    DAMAGES[0].1(&path_of(&server.volume("A"), &images[7]));
    DAMAGES[5].1(&path_of(&server.volume("M"), &images[8]));
    server.restart();
    server.wait_until_indexed();
    let now = wait_until(&server, "healed", |now| {
        now["healed_count"] == 2 && now["last_scrub_ended"].is_string()
    });
    assert_eq!(now["oldest_unread_days"], 0, "{now:#}");
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

/// Method: a copy is damaged after it was made and before it was read again.
#[test]
fn a_new_copy_counts_as_verified_when_it_was_read_again() {
    let images = images(20, 20_000);
    let mut server = mirrored(with_mirror(NEVER), &images);
    let now = status(&server);
    assert_eq!(now["not_verified_count"], 20, "{now:#}");
    assert_eq!(volume(&now, "M")["not_verified_count"], 20, "{now:#}");
    DAMAGES[0].1(&path_of(&server.volume("M"), &images[4]));
    assert!(server.terminate().success());
    server.configure(|settings| {
        settings.environment = vec![("KURA_CHECK_SECONDS".to_owned(), "1".to_owned())];
        settings.extra.push_str("[scrub]\ndays = 0\n");
    });
    server.restart();
    server.wait_until_indexed();
    wait_until(&server, "verified", |now| {
        now["not_verified_count"] == 0 && now["healed_count"] == 1
    });
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
    let off = status(&server);
    assert_eq!(volume(&off, "A")["state"], "off", "{off:#}");
}

/// Method: a slow round, killed again and again; it never begins anew, and comes to its end.
#[test]
fn a_round_goes_on_after_kill_9() {
    let rounds = if common::long() { 30 } else { 3 };
    let images = images(30, 100_000);
    let mut random = common::Random::from_environment("scrub and kill -9");
    let mut settings = at_once(with_mirror(NEVER));
    settings
        .extra
        .push_str("[scrub]\nbytes_per_second = 150000\n");
    let mut server = mirrored(settings, &images);
    // Rounds that began while the images came.
    assert!(server.terminate().success());
    for path in kept_files(&server, "A") {
        fs::remove_file(path).expect("remove");
    }
    DAMAGES[0].1(&path_of(&server.volume("A"), &images[28]));
    let mut least = 0;
    for _ in 0..rounds {
        server.restart();
        server.wait_until_indexed();
        std::thread::sleep(Duration::from_millis(random.between(1_500, 3_500)));
        let now = status(&server);
        let files = volume(&now, "A")["files"].as_u64().expect("files");
        assert_eq!(volume(&now, "A")["round"], 1, "{now:#}");
        if volume(&now, "A")["percent"].is_u64() {
            assert!(files >= least, "{files} files, {least} before: {now:#}");
            // What the last second brought may not have been written down.
            least = files.saturating_sub(8);
        }
        server.kill();
    }
    server.configure(|settings| {
        let at = settings.extra.find("[scrub]").expect("table");
        settings.extra.truncate(at);
    });
    server.restart();
    server.wait_until_indexed();
    wait_until(&server, "the end of the round", |now| {
        volume(now, "A")["last_round"]["number"] == 1 && now["bad_count"] == 0
    });
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

/// Method: the clock is two years ahead for one life of the server, and then as far behind; each life reads on, and
/// every damaged file is found.
#[test]
fn a_clock_that_is_wrong_hides_no_file() {
    let mut libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .map(|folder| format!("{folder}/faketime/libfaketime.so.1"))
        .to_vec();
    libraries.extend(std::env::var("KURA_LIBFAKETIME"));
    let exists = |path: &&String| fs::exists(path).unwrap_or(false);
    let Some(library) = libraries.iter().find(exists) else {
        eprintln!("skipped: libfaketime is not installed");
        return;
    };
    let images = images(10, 20_000);
    let mut server = mirrored(at_once(with_mirror(NEVER)), &images);
    for (number, clock) in ["+700d", "-700d", "+0d"].into_iter().enumerate() {
        assert!(server.terminate().success());
        DAMAGES[0].1(&path_of(&server.volume("A"), &images[number]));
        server.configure(|settings| {
            settings.environment.truncate(1);
            let variables = [
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME", clock),
                // What is waited for is not the time of day.
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            settings.environment.extend(variables);
        });
        server.restart();
        server.wait_until_indexed();
        wait_until(&server, clock, |now| now["healed_count"] == 1);
    }
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

/// Method: a large file is read so slowly that it takes a minute; the disk is wanted now.
#[test]
fn a_volume_that_is_being_read_can_be_ejected() {
    let mut settings = with_mirror(NEVER);
    settings
        .extra
        .push_str("[scrub]\nbytes_per_second = 100000\n");
    let server = mirrored(settings, &images(2, 6 << 20));
    let begun = Instant::now();
    kura(&server, &["volume", "eject", "A"]);
    kura(&server, &["volume", "return", "A"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// Method: columns as a person sees them; times are masked.
#[test]
fn the_screen_says_what_was_read_and_found() {
    let server = mirrored(only_asked(), &images(3, 1_000));
    fs::write(server.volume("A").join("notes.txt"), b"mine").expect("write");
    let outcome = server.kura(&["scrub", "run"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert_eq!(
        outcome.stdout,
        "VOLUME  FILES  OK  MISSING  WRONG  LOST  FOREIGN\n\
         A       3      3   0        0      0     1\n\
         M       3      3   0        0      0     0\n\
         A: notes.txt: a file without a line\n"
    );
    let outcome = server.kura(&["scrub", "status"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let masked: String = outcome
        .stdout
        .lines()
        .map(|line| {
            let mut line = line.to_owned();
            while let Some(at) = line.find(" UTC") {
                line.replace_range(at - 16..at + 4, "<time>");
            }
            line + "\n"
        })
        .collect();
    assert_eq!(
        masked,
        "scrub   <time>, 0 bad; longest unread 0 days\n\
         pace    never by itself ([scrub] days = 0)\n\
         VOLUME  STATE  ROUND  DONE  LAST ROUND            FILES  BAD  UNREAD  NOT VERIFIED  FOREIGN\n\
         A       off    1      -     <time>  3      0    0 days  0             1\n\
         M       off    1      -     <time>  3      0    0 days  0             0\n\
         volume A: notes.txt has no line in the ledger\n"
    );
}
