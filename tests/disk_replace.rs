//! A dead disk is an errand: what was on it has its two copies again, bit by bit, and what has not is named.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::copies::{
    assert_same_images, image_paths, kura, status, wait_until_mirrored, with_mirror,
};
use common::images::{self, ALL, Image, assert_come_back, send_all};
use common::shelf::{does, refuses, volume};
use common::{Server, Settings};
use serde_json::Value;

const SOON: &str = "when = \"immediate\"";
const LIMIT: Duration = Duration::from_secs(120);

/// A server with volume A and mirror M, on which these images are.
fn mirrored(images: &[Image]) -> Server {
    let server = Server::with(with_mirror(SOON));
    server.wait_until_indexed();
    send_all(&server, images);
    wait_until_mirrored(&server);
    server
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
