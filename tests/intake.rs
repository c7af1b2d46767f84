//! The way in through an intake journal: durable with one flush, and everything else as on the direct way.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::images::{self, Image, assert_come_back, assert_found, send_all, tree};
use common::server::{Server, Settings};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(90);

fn settings() -> Settings {
    Settings {
        extra: "[intake]\nmode = \"journal\"\nsize_bytes = 33554432\n".to_owned(),
        ..Settings::default()
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lines(volume: &Path) -> usize {
    let mut count = 0;
    for folder in std::fs::read_dir(volume.join("ledgers")).expect("ledgers") {
        let segment = folder.expect("entry").path().join("00000001.jsonl");
        if let Ok(text) = std::fs::read_to_string(segment) {
            count += text.matches("\"stored\":").count();
        }
    }
    count
}

#[test]
fn an_instance_in_the_journal_is_found_fetched_and_carried_over() {
    let server = Server::with(settings());
    server.wait_until_indexed();
    let images = images::images(3, 5);
    send_all(&server, &images);
    assert_found(&server, &images);
    assert_come_back(&server, &images);
    let volume = server.volume("A");
    wait_until("not carried over", || tree(&volume).len() == images.len());
    wait_until("no lines", || lines(&volume) == images.len());
    images::wait_until_nothing_is_incoming(&volume);
    assert_found(&server, &images);
    assert_come_back(&server, &images);
    // Sent again they are duplicates.
    send_all(&server, &images);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lines(&volume), images.len());
}

/// Method: one sender without a pause; the first image has its file while it goes on sending.
#[test]
fn what_waits_gets_its_file_also_while_images_come() {
    let server = Server::with(settings());
    server.wait_until_indexed();
    let volume = server.volume("A");
    let begun = Instant::now();
    let mut sent = 0;
    while tree(&volume).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{sent} wait");
        send_all(&server, &[Image::new(0, sent, 1_000)]);
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(sent > 1, "the first has its file before the second is sent");
}

/// Method: kill -9 right after the last answer, before anything can have been carried over, and after a while.
#[test]
fn after_kill_nine_what_was_answered_is_there_once() {
    let mut server = Server::with(settings());
    server.wait_until_indexed();
    let mut all: Vec<Image> = Vec::new();
    for round in 0..6 {
        let images: Vec<Image> = (0..8).map(|n| Image::new(round, n, 20_000)).collect();
        send_all(&server, &images);
        all.extend(images);
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(1_050));
        }
        server.signal(Signal::KILL);
        server.kill();
        server.restart();
        server.wait_until_indexed();
        assert_found(&server, &all);
        assert_come_back(&server, &all);
        assert_eq!(tree(&server.volume("A")).len(), all.len());
        assert_eq!(lines(&server.volume("A")), all.len(), "each once");
    }
}

#[test]
fn at_a_stop_the_journal_is_emptied() {
    let mut server = Server::with(settings());
    server.wait_until_indexed();
    let images = images::images(2, 6);
    send_all(&server, &images);
    assert!(server.terminate().success());
    assert_eq!(tree(&server.volume("A")).len(), images.len());
    assert_eq!(lines(&server.volume("A")), images.len());
    assert!(images::incoming(&server.volume("A")).is_empty());
    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &images);
}

/// Method: nothing is said of the mode; then another mode, with a journal left from the first. What status, `volume list` and
/// the log say, and what is on the disk.
#[test]
fn the_way_in_follows_the_disk_and_is_said_with_its_reason() {
    let mut server = Server::with(Settings {
        extra: "[intake]\nsize_bytes = 33554432\n".to_owned(),
        ..Settings::default()
    });
    server.wait_until_indexed();
    let way_in = |server: &Server| server.kura_json(&["status"])["volumes"][0]["intake"].clone();
    let said = way_in(&server);
    let reason = said["reason"].as_str().expect("reason");
    assert!(reason.starts_with("a flush takes "), "{said}");
    let flush_us = said["flush_us"].as_u64().expect("flush_us");
    let way = said["way"].as_str().expect("way");
    match flush_us {
        ..300 => assert_eq!(way, "direct", "{said}"),
        301.. => assert_eq!(way, "journal", "{said}"),
        300 => {}
    }
    let line = format!("A: intake {way}: {reason}");
    let listed = server.kura(&["volume", "list"]);
    assert!(listed.stdout.contains(&line), "{listed:?}");
    assert!(server.log_text().contains(reason), "{reason}");

    let journal = server.volume("A").join("intake/intake.journal");
    for (mode, way) in [("journal", "journal"), ("direct", "direct")] {
        // The second time with instances in the journal alone.
        server.kill();
        server.configure(|settings| {
            settings.extra = format!("[intake]\nmode = {mode:?}\nsize_bytes = 33554432\n");
        });
        server.restart();
        server.wait_until_indexed();
        let said = way_in(&server);
        assert_eq!(said["way"], way);
        assert_eq!(said["reason"], "configured");
        assert_eq!(journal.exists(), mode == "journal");
        if mode == "journal" {
            send_all(&server, &images::images(2, 4));
        }
    }
    assert!(!journal.parent().expect("folder").exists());
    assert_found(&server, &images::images(2, 4));
    assert_eq!(tree(&server.volume("A")).len(), 8);
    assert!(server.terminate().success());
    // Nobody knows who does not receive.
    assert!(way_in(&server).is_null());
}

/// Method: the index is thrown away while instances are in the journal alone.
#[test]
fn a_new_index_knows_what_is_in_the_journal() {
    let server = Server::with(settings());
    server.wait_until_indexed();
    for round in 0..5 {
        let images: Vec<Image> = (0..10).map(|n| Image::new(round, n, 5_000)).collect();
        send_all(&server, &images);
        assert_eq!(server.kura(&["index", "rebuild"]).code, Some(0));
        server.wait_until_indexed();
        assert_found(&server, &images);
    }
}

/// Method: kill -9 right after the answers, with the journal on what stands for another disk; then the volume is away.
#[test]
fn the_journal_of_a_volume_that_is_gone_goes_to_the_others() {
    let mut server = Server::with(settings().volume("B", "volume-b", "archive"));
    server.wait_until_indexed();
    let folder = server.folder().join("ssd");
    std::fs::create_dir(&folder).expect("a folder");
    assert!(server.terminate().success());
    let text = std::fs::read_to_string(server.config()).expect("kura.toml");
    let with = format!("name = \"A\"\njournal = {folder:?}\n");
    let text = text.replace("name = \"A\"\n", &with);
    std::fs::write(server.config(), text).expect("kura.toml");
    server.restart();
    server.wait_until_indexed();
    let listed = server.kura(&["volume", "list"]);
    assert!(listed.stdout.contains("on another disk"), "{listed:?}");
    let images = images::images(1, 5);
    send_all(&server, &images);
    server.kill();
    assert!(
        tree(&server.volume("A")).len() < images.len(),
        "carried over"
    );
    std::fs::rename(server.volume("A"), server.folder().join("gone")).expect("rename");
    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &images);
    assert_come_back(&server, &images);
    assert_eq!(tree(&server.volume("B")).len(), images.len());
}

/// Method: sixteen senders of half a megabyte each into a journal that has room for none, three or seven of them.
#[test]
fn when_the_journal_is_full_senders_wait_and_none_is_refused() {
    for (mib, each) in [(1, 2), (2, 6), (4, 6)] {
        let mut server = Server::with(Settings {
            extra: format!("[intake]\nmode = \"journal\"\nsize_bytes = {}\n", mib << 20),
            ..Settings::default()
        });
        server.wait_until_indexed();
        let of = |sender: u32| (0..each).map(move |n| Image::new(sender, n, 500_000));
        std::thread::scope(|scope| {
            for sender in 0..16 {
                let server = &server;
                scope.spawn(move || send_all(server, &of(sender).collect::<Vec<_>>()));
            }
        });
        let all: Vec<Image> = (0..16).flat_map(of).collect();
        assert_found(&server, &all);
        assert_come_back(&server, &all);
        let volume = server.volume("A");
        wait_until("not carried over", || lines(&volume) == all.len());
        images::wait_until_nothing_is_incoming(&volume);
        assert_eq!(tree(&volume).len(), all.len());
        assert!(server.terminate().success());
        assert_eq!(lines(&volume), all.len(), "each once");
    }
}
