//! `kura volume drain`: everything goes to the other volumes, checked, and nothing is lost on the way.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::copies::{assert_same_images, wait_until_mirrored, with_mirror};
use common::images::{self, ALL, Image, assert_come_back, assert_found, send_all};
use common::{Server, Settings};
use serde_json::Value;

fn two_volumes() -> Server {
    Server::with(Settings::default().volume("B", "volume-b", "archive"))
}

fn volume(server: &Server, name: &str) -> Value {
    let list = server.kura_json(&["volume", "list"]);
    let volumes = list["volumes"].as_array().expect("volumes").clone();
    let found = volumes.into_iter().find(|volume| volume["name"] == name);
    found.unwrap_or_else(|| panic!("no volume {name} in {list}"))
}

fn wait_until_drained(server: &Server, name: &str) {
    let start = Instant::now();
    while volume(server, name)["state"] != "retired" {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{}",
            volume(server, name)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn images_below(folder: &Path) -> usize {
    images::tree(folder)
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "dcm"))
        .count()
}

#[test]
fn a_drained_volume_is_empty_and_everything_is_on_the_other() {
    let mut server = two_volumes();
    server.wait_until_indexed();
    let images = images::images(3, 20);
    send_all(&server, &images);
    // A conflict: another data set under a UID that is taken.
    let mut other = Image::new(0, 0, 2_000);
    other.sop.clone_from(&images[0].sop);
    let mut client = server.associate(ALL);
    assert_eq!(other.send(&mut client).expect("C-STORE").0, 0);
    client.release().expect("release");
    assert_eq!(images_below(&server.volume("A")), 61);

    let outcome = server.kura(&["volume", "drain", "A"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    // Senders are served meanwhile, on the other volume.
    send_all(&server, &images::images(4, 5)[15..]);
    wait_until_drained(&server, "A");
    assert_eq!(images_below(&server.volume("A")), 0);
    assert_eq!(images_below(&server.volume("B")), 66);
    let a = volume(&server, "A");
    assert_eq!(
        (&a["instances_count"], &a["studies_count"]),
        (&0.into(), &0.into())
    );

    // The first content is still the one that is answered, also after the index was made anew.
    for round in 0..2 {
        let status = server.kura_json(&["status"]);
        assert_eq!(status["index"]["instances_count"], 65, "{round}: {status}");
        assert_eq!(status["index"]["conflicts_count"], 1, "{round}: {status}");
        assert_found(&server, &images);
        assert_come_back(&server, &images);
        assert_eq!(server.kura(&["index", "rebuild"]).code, Some(0));
    }
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    assert_eq!(volume(&server, "A")["state"], "retired");
    assert_come_back(&server, &images);
}

/// Method: killed again and again while it drains; each time what is left goes on.
#[test]
fn a_drain_goes_on_after_kill_9_and_loses_nothing() {
    let mut server = two_volumes();
    server.wait_until_indexed();
    let images = images::images(4, 50);
    send_all(&server, &images);
    assert_eq!(server.kura(&["volume", "drain", "A"]).code, Some(0));
    for pause in [2_050, 2_200, 2_100, 2_400] {
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
        server.restart();
        server.wait_until_indexed();
        assert_found(&server, &images);
    }
    wait_until_drained(&server, "A");
    assert_eq!(images_below(&server.volume("A")), 0);
    assert_eq!(images_below(&server.volume("B")), images.len());
    assert_come_back(&server, &images);
}

#[test]
fn an_image_that_is_not_what_it_was_stays_and_is_reported() {
    let server = two_volumes();
    server.wait_until_indexed();
    let images = images::images(1, 3);
    send_all(&server, &images);
    let tree = images::tree(&server.volume("A"));
    let rotten = tree
        .iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "dcm"))
        .expect("an image");
    let relative = rotten.strip_prefix(server.volume("A")).expect("below");
    let aside = server.volume("A").join("suspect").join(relative);
    let rotten = server.volume("A").join(rotten);
    let mut bytes = std::fs::read(&rotten).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&rotten, bytes).expect("write");
    assert_eq!(server.kura(&["volume", "drain", "A"]).code, Some(0));
    let start = Instant::now();
    while volume(&server, "A")["reason"] == "" {
        assert!(start.elapsed() < Duration::from_secs(90), "not reported");
        std::thread::sleep(Duration::from_millis(50));
    }
    let a = volume(&server, "A");
    assert_eq!(a["state"], "draining", "{a}");
    assert_eq!(a["instances_count"], 1, "{a}");
    // Where it was, or set aside.
    assert!(rotten.exists() || aside.exists());
}

#[test]
fn without_another_volume_nothing_is_drained() {
    let server = Server::start();
    server.wait_until_indexed();
    let outcome = server.kura(&["volume", "drain", "A"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("no other archive volume"),
        "{}",
        outcome.text()
    );
    assert_eq!(volume(&server, "A")["state"], "ok");
}

#[test]
fn a_drained_mirror_goes_to_the_other_mirror_and_no_second_copy_is_missing_meanwhile() {
    let settings = with_mirror("when = \"immediate\"");
    let server = Server::with(settings.volume("N", "volume-n", "mirror"));
    server.wait_until_indexed();
    let images = images::images(2, 30);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    assert_eq!(images_below(&server.volume("M")), 60);
    let outcome = server.kura(&["volume", "drain", "M"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let start = Instant::now();
    while volume(&server, "M")["state"] != "retired" {
        assert!(start.elapsed() < Duration::from_secs(60));
        let copies = &server.kura_json(&["status"])["copies"];
        assert_eq!(copies["two_count"], 60, "{copies}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(images_below(&server.volume("M")), 0);
    assert_same_images(&server.volume("A"), &server.volume("N"));
}
