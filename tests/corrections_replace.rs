//! A disk dies after studies were amended and removed: what counts gets its copies again, what was replaced does not come
//! back by itself, and what was done can still be taken back.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::copies::{assert_same_images, image_paths, kura, wait_until_mirrored, with_mirror};
use common::corrections::{amended, instances_of, removed, undone, wait_until_aside};
use common::images::{self, GET, Image, assert_come_back, send_all};
use common::{Server, Settings, build, files};
use serde_json::Value;

const AT_ONCE: &str = "when = \"immediate\"";
const LIMIT: Duration = Duration::from_secs(90);
/// Images of each of the three studies.
const COUNT: usize = 8;

/// Archive A and mirror M with three studies: the first was amended, the second removed.
struct Scene {
    server: Server,
    images: Vec<Image>,
    amendment: u64,
    removal: u64,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(with_mirror(AT_ONCE), true)
    }

    /// `mirrored`: before that, each image had its second copy.
    fn with(settings: Settings, mirrored: bool) -> Scene {
        let mut server = Server::with(settings);
        server.wait_until_indexed();
        let images = images::images(3, COUNT as u32);
        if !mirrored {
            kura(&server, &["mirror", "pause"]);
        }
        send_all(&server, &images);
        if mirrored {
            wait_until_mirrored(&server);
        }
        let amendment = amended(&server, &images[0], "RIGHT-1");
        let removal = removed(&server, &images[COUNT]);
        if !mirrored {
            kura(&server, &["mirror", "resume"]);
            wait_until_mirrored(&server);
        }
        let aside = if mirrored { 2 } else { 1 } * COUNT as u64;
        wait_until_aside(&server, aside, aside);
        // Its end copies the last lines of the ledgers.
        assert!(server.terminate().success());
        server.restart();
        server.wait_until_indexed();
        Scene {
            server,
            images,
            amendment,
            removal,
        }
    }

    fn first(&self) -> &[Image] {
        &self.images[..COUNT]
    }

    fn second(&self) -> &[Image] {
        &self.images[COUNT..2 * COUNT]
    }

    fn third(&self) -> &[Image] {
        &self.images[2 * COUNT..]
    }

    /// Its disk dies: an empty mount point is left.
    fn pull_out(&self, name: &str) {
        let old = self.server.volume(name);
        let aside = self.server.folder().join(format!("old-{name}"));
        std::fs::rename(&old, aside).expect("pulled out");
        std::fs::create_dir(&old).expect("mount point");
    }

    /// An empty disk takes its place; the report.
    fn replace(&self, name: &str, code: i32) -> Value {
        let server = &self.server;
        let new = self.new_disk();
        std::fs::create_dir(&new).expect("new disk");
        let new = new.display().to_string();
        let outcome = server.kura(&["volume", "replace", name, &new, "--json"]);
        assert_eq!(outcome.code, Some(code), "{}", outcome.text());
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()))
    }

    /// The old disk is listed no more.
    fn wait_until_forgotten(&self) {
        let begun = Instant::now();
        loop {
            let list = self.server.kura_json(&["volume", "list"]);
            let volumes = list["volumes"].as_array().expect("volumes");
            if volumes.iter().all(|volume| volume["state"] != "replaced") {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "not forgotten: {list}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn new_disk(&self) -> PathBuf {
        self.server.folder().join("new")
    }

    /// What is answered after both changes.
    fn assert_corrected(&self, sent: &[(String, Vec<u8>)]) {
        let server = &self.server;
        let count = COUNT as u64;
        assert_eq!(instances_of(server, "RIGHT-1"), count);
        assert_eq!(instances_of(server, "TEST-1"), count);
        assert_eq!(images::found(server, &self.second()[0].study).len(), 0);
        assert_come_back(server, self.third());
        assert!(
            retrieved(server, &self.first()[0].study) == sent,
            "other bytes of the amended study"
        );
        let totals = &server.kura_json(&["status"])["index"];
        assert_eq!(totals["instances_count"], 2 * COUNT, "{totals}");
        assert_eq!(totals["conflicts_count"], 0, "{totals}");
    }

    /// Everything that looks for what is missing, or too much, finds nothing.
    fn assert_well(&self) {
        for arguments in [
            &["status"][..],
            &["drill"],
            &["equalize"],
            &["scrub", "run"],
            &["volume", "check", "A"],
            &["volume", "check", "M"],
        ] {
            kura(&self.server, arguments);
        }
        let drill = self.server.kura_json(&["drill"]);
        for side in drill["sides"].as_array().expect("sides") {
            for count in ["lost_count", "away_count", "waiting_count", "unknown_count"] {
                assert_eq!(side[count], 0, "{drill}");
            }
        }
        let status = self.server.kura_json(&["status"]);
        assert_eq!(status["state"], "ok", "{status}");
    }

    fn restored(&self) {
        let number = self.removal.to_string();
        kura(&self.server, &["trash", "restore", &number, "--yes"]);
    }
}

/// SOP Instance UIDs and data sets that C-GET brings of a study, sorted.
fn retrieved(server: &Server, study: &str) -> Vec<(String, Vec<u8>)> {
    let mut client = server.associate(images::ALL);
    let identifier = build::by_uids("STUDY", study, None, None);
    let got = client.c_get(GET, &identifier).expect("C-GET");
    client.release().expect("release");
    assert_eq!(got.moved.status, 0, "{:?}", got.moved);
    let received = got.received.into_iter();
    let mut all: Vec<_> = received
        .map(|received| (received.sop_instance, received.data_set))
        .collect();
    all.sort();
    all
}

/// Whether the own ledger of a volume has the line of a change.
fn says(volume: &Path, number: u64) -> bool {
    let label = std::fs::read(volume.join("kura-volume.json")).expect("label");
    let label: Value = serde_json::from_slice(&label).expect("label");
    let id = label["volume_id"].as_str().expect("id");
    let wanted = format!("\"correction\":{number},");
    files::below(&volume.join("ledgers").join(id))
        .iter()
        .any(|path| {
            let text = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&wanted)
        })
}

/// Method: the mirror's disk dies, then the same with the other; afterwards from an index made anew; at last both changes
/// are taken back from what lies aside on the disk that lived.
#[test]
fn a_new_disk_gets_what_counts_and_the_changes_can_be_taken_back_from_the_other() {
    for (dead, alive) in [("M", "A"), ("A", "M")] {
        let scene = Scene::new();
        let server = &scene.server;
        let sent = retrieved(server, &scene.first()[0].study);
        scene.assert_corrected(&sent);
        scene.assert_well();
        scene.pull_out(dead);
        let report = scene.replace(dead, 0);
        scene.wait_until_forgotten();
        assert_eq!(report["restored_count"], 2 * COUNT, "{dead}: {report}");
        assert_eq!(report["lost_count"], 0, "{dead}: {report}");
        let new = scene.new_disk();
        let alive = server.volume(alive);
        assert_same_images(&new, &alive);
        assert_eq!(image_paths(&new).len(), 2 * COUNT);
        for aside in ["superseded", "trash"] {
            assert!(!new.join(aside).exists(), "{dead}: {aside}");
        }
        for number in [scene.amendment, scene.removal] {
            assert!(says(&new, number) && says(&alive, number), "{dead}");
        }
        scene.assert_corrected(&sent);
        scene.assert_well();
        kura(server, &["index", "rebuild"]);
        server.wait_until_indexed();
        scene.assert_corrected(&sent);
        scene.assert_well();
        undone(server, scene.amendment);
        scene.restored();
        assert_eq!(instances_of(server, "RIGHT-1"), 0);
        assert_eq!(instances_of(server, "TEST-1"), 3 * COUNT as u64);
        assert_come_back(server, &scene.images);
        wait_until_mirrored(server);
        // Those of the amendment.
        wait_until_aside(server, 2 * COUNT as u64, 0);
        assert_same_images(&new, &alive);
        scene.assert_well();
        kura(server, &["index", "rebuild"]);
        server.wait_until_indexed();
        assert_come_back(server, &scene.images);
    }
}

/// Method: what was replaced and what was removed had no second copy when the disk died with it; while that disk is still
/// listed, since an image of another study is lost with it, and then when it is forgotten.
#[test]
fn what_was_only_on_the_dead_disk_cannot_be_taken_back_and_that_is_said() {
    let scene = Scene::with(with_mirror(AT_ONCE), false);
    let server = &scene.server;
    let sent = retrieved(server, &scene.first()[0].study);
    kura(server, &["mirror", "pause"]);
    let alone = [Image::new(5, 0, 1_000)];
    send_all(server, &alone);
    scene.pull_out("A");
    kura(server, &["mirror", "resume"]);
    let report = scene.replace("A", 4);
    assert_eq!(report["lost_count"], 1, "{report}");
    wait_until_mirrored(server);
    let (amendment, removal) = (scene.amendment.to_string(), scene.removal.to_string());
    let refused = || {
        for (arguments, says) in [
            (
                &["amend", "--undo", "--yes", "--number", &amendment][..],
                "the earlier files of instance",
            ),
            (
                &["trash", "restore", &removal, "--yes"],
                "its files are deleted; nothing was changed",
            ),
        ] {
            let outcome = server.kura(arguments);
            assert_eq!(outcome.code, Some(3), "{}", outcome.text());
            assert!(outcome.stderr.contains(says), "{}", outcome.text());
        }
    };
    refused();
    send_all(server, &alone);
    scene.wait_until_forgotten();
    refused();
    assert_eq!(instances_of(server, "RIGHT-1"), COUNT as u64);
    assert!(retrieved(server, &scene.first()[0].study) == sent);
    scene.assert_well();
    // What was replaced stays so; of what was removed no file is kept, so it is stored as something new.
    send_all(server, &scene.images[..2 * COUNT]);
    wait_until_mirrored(server);
    assert_eq!(instances_of(server, "RIGHT-1"), COUNT as u64);
    assert!(retrieved(server, &scene.first()[0].study) == sent);
    assert_come_back(server, &scene.images[COUNT..]);
    scene.assert_well();
}

/// Method: of three volumes the only mirror dies. The archive volumes say each change in two ledgers all the same, but
/// without them nobody would know.
#[test]
fn the_mirror_alone_knows_the_changes_again() {
    let mut settings = with_mirror(AT_ONCE).volume("B", "volume-b", "archive");
    // Of volumes that are as good as one another the first is taken.
    settings.volumes.swap(1, 2);
    let scene = Scene::with(settings, true);
    scene.pull_out("M");
    scene.replace("M", 0);
    scene.wait_until_forgotten();
    for number in [scene.amendment, scene.removal] {
        assert!(says(&scene.new_disk(), number));
    }
    scene.assert_well();
}
