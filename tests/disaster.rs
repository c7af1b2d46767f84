//! Recovery from nothing: only the disks are left, and a new machine.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::copies::{image_paths, kura, wait_until_mirrored, with_mirror};
use common::images::{self, Image, assert_come_back, assert_found, send_all};
use common::server::{free_port, put_file};
use common::{Outcome, Server, Settings, tools};
use serde_json::Value;
use tempfile::TempDir;

/// What is left of an archive: its disks in one folder, under the names of the volumes.
struct Left {
    folder: TempDir,
    images: Vec<Image>,
}

impl Left {
    /// Archive volumes A and B with images of their own, mirror M with a copy of each; its state is gone.
    fn behind() -> Left {
        Left::behind_after(&["status"])
    }

    /// The same after a last command.
    fn behind_after(last: &[&str]) -> Left {
        let settings = with_mirror("when = \"immediate\"").volume("B", "volume-b", "archive");
        let mut server = Server::with(settings);
        server.wait_until_indexed();
        let images = images::images(4, 10);
        send_all(&server, &images[..20]);
        kura(&server, &["volume", "retire", "A"]);
        send_all(&server, &images[20..]);
        wait_until_mirrored(&server);
        kura(&server, &["volume", "retire", "A", "--undo"]);
        kura(&server, last);
        assert!(server.terminate().success());
        let folder = TempDir::new().expect("temporary folder");
        for name in ["A", "B", "M"] {
            let to = folder.path().join(name);
            fs::rename(server.volume(name), &to).expect("carry the disk over");
        }
        Left { folder, images }
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn contents(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let disk = self.disk(name);
        let read = |path: &String| fs::read(disk.join(path)).expect("read");
        let paths = image_paths(&disk);
        paths
            .iter()
            .map(|path| (path.clone(), read(path)))
            .collect()
    }
}

/// A machine on which nothing is but the program.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let folder = TempDir::new().expect("temporary folder");
        Machine { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("kura.toml")
    }

    fn init(&self, from: &[&Path], more: &[&str]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kura"));
        command
            .current_dir(self.folder.path())
            .arg("init")
            .arg("--from");
        command.args(from).args(more);
        tools::run(&mut command)
    }

    /// With the file that was written, but a port that nobody else has.
    fn serve(&self) -> Server {
        let port = free_port();
        let text = fs::read_to_string(self.file()).expect("kura.toml");
        let text = text.replace("port = 11112\n", &format!("port = {port}\n"));
        let text = text.replace("bind = \"0.0.0.0\"", "bind = \"127.0.0.1\"");
        // Not by what the disk of this machine is like.
        let text = text.replace("mode = \"auto\"", "mode = \"direct\"");
        fs::write(self.file(), text).expect("kura.toml");
        let server = Server::as_configured(self.folder.path(), port);
        server.wait_until_indexed();
        server
    }
}

fn archive_id(disk: &Path) -> String {
    let label = fs::read(disk.join("kura-volume.json")).expect("label");
    let label: Value = serde_json::from_slice(&label).expect("label");
    label["archive_id"].as_str().expect("archive_id").to_owned()
}

/// The columns of a table without the blanks that make it straight.
fn squeezed(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ") + "\n"
    });
    lines.collect()
}

/// Method: three disks at other paths than before, and no state; the screen, every image over the network and on the
/// disks.
#[test]
fn with_all_disks_everything_comes_back_byte_for_byte() {
    let left = Left::behind();
    let before: Vec<_> = ["A", "B", "M"].map(|name| left.contents(name)).into();
    let machine = Machine::new();
    let disks = [left.disk("M"), left.disk("A"), left.disk("B")];
    let outcome = machine.init(&disks.each_ref().map(PathBuf::as_path), &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let size = |name: &str| {
        let bytes: usize = left.contents(name).values().map(Vec::len).sum();
        format!("{:.2} kB", bytes as f64 / 1000.0)
    };
    let at = left.folder.path().display();
    let expected = format!(
        "written: kura.toml\n\
         archive {}: 3 of its volumes here, none is missing\n\
         action AE title, port and [[peer]] are the defaults: edit the file, then: kura serve\n\
         VOLUME ROLE STATE INSTANCES FILES PATH\n\
         M mirror here 40 {} {at}/M\n\
         A archive here 20 {} {at}/A\n\
         B archive here 20 {} {at}/B\n",
        archive_id(&left.disk("A")),
        size("M"),
        size("A"),
        size("B"),
    );
    assert_eq!(squeezed(&outcome.stdout), expected);
    let mut server = machine.serve();
    assert_found(&server, &left.images);
    assert_come_back(&server, &left.images);
    assert_eq!(
        server.kura_json(&["status"])["index"]["instances_count"],
        40
    );
    let after: Vec<_> = ["A", "B", "M"].map(|name| left.contents(name)).into();
    assert!(before == after, "a disk is not as it was");
    // It receives, mirrors and is itself again after a restart.
    let more = images::images(1, 1).remove(0);
    let more = Image::new(9, 1, more.data_set.len());
    send_all(&server, std::slice::from_ref(&more));
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    assert_come_back(&server, &[more]);
}

/// Method: each disk missing in turn, and both archive volumes; what the others hold is served, the missing one is named,
/// and taken back by what the screen says.
#[test]
fn with_a_disk_missing_the_others_bring_everything_back() {
    let left = Left::behind();
    for missing in [&["A"][..], &["B"], &["M"], &["A", "B"]] {
        let machine = Machine::new();
        let here: Vec<PathBuf> = ["A", "B", "M"]
            .iter()
            .filter(|name| !missing.contains(name))
            .map(|name| left.disk(name))
            .collect();
        let here: Vec<&Path> = here.iter().map(PathBuf::as_path).collect();
        let elsewhere = TempDir::new().expect("temporary folder");
        for name in missing {
            fs::rename(left.disk(name), elsewhere.path().join(name)).expect("take it away");
        }
        let outcome = machine.init(&here, &["--json"]);
        assert_eq!(outcome.code, Some(1), "{missing:?}: {}", outcome.text());
        let said: Value = serde_json::from_str(&outcome.stdout).expect("one object");
        assert_eq!(said["version"], 1);
        let away: Vec<&str> = said["away"]
            .as_array()
            .expect("away")
            .iter()
            .map(|volume| volume["name"].as_str().expect("name"))
            .collect();
        assert_eq!(away, missing, "{said}");
        assert!(said["away"][0]["ledger_on"].is_string(), "{said}");
        fs::remove_file(machine.file()).expect("again");
        let screen = machine.init(&here, &[]).stdout;
        for name in missing {
            let back = format!("when its disk is mounted: kura volume relocate {name} PATH");
            assert!(screen.contains(&back), "{screen}");
        }
        assert_eq!(
            screen.contains("kura volume add NAME PATH"),
            missing == ["A", "B"],
            "{screen}"
        );
        let mut server = machine.serve();
        assert_found(&server, &left.images);
        assert_come_back(&server, &left.images);
        for name in missing {
            let status = server.kura_json(&["status"]);
            assert_eq!(status["state"], "degraded", "{status}");
            let found = elsewhere.path().join(name).display().to_string();
            kura(&server, &["volume", "relocate", name, &found]);
        }
        let list = server.kura_json(&["volume", "list"]);
        let volumes = list["volumes"].as_array().expect("volumes").clone();
        assert!(
            volumes.iter().all(|volume| volume["state"] == "ok"),
            "{list}"
        );
        assert!(server.terminate().success());
        for name in missing {
            fs::rename(elsewhere.path().join(name), left.disk(name)).expect("bring it back");
        }
    }
}

/// Method: B was ejected when the machine was lost, and is among the disks that are given.
#[test]
fn an_ejected_disk_comes_back_when_it_is_told_to() {
    let left = Left::behind_after(&["volume", "eject", "B"]);
    let machine = Machine::new();
    let disks = [left.disk("A"), left.disk("B")];
    let outcome = machine.init(&disks.each_ref().map(PathBuf::as_path), &[]);
    assert_eq!(outcome.code, Some(1), "M is away: {}", outcome.text());
    let says = "B was ejected; after the start: kura volume return B\n";
    assert!(outcome.stdout.contains(says), "{}", outcome.text());
    let server = machine.serve();
    kura(&server, &["volume", "return", "B"]);
    server.wait_until_indexed();
    assert_come_back(&server, &left.images);
}

/// Method: a table of folders that are no archive together; each refused in a sentence, with nothing written.
#[test]
fn what_is_no_archive_together_is_refused_in_words() {
    let left = Left::behind();
    let mut other = Server::with(Settings::default());
    other.wait_until_indexed();
    assert!(other.terminate().success());
    let of_other = other.volume("A");
    let at = |name: &str| left.disk(name);
    fs::create_dir(at("empty")).expect("folder");
    put_file(&at("foreign").join("report.doc"), b"text");
    let damaged = at("damaged");
    put_file(&damaged.join("kura-volume.json"), b"{\"format\":1,");
    let label = fs::read(at("A").join("kura-volume.json")).expect("label");
    put_file(&at("clone").join("kura-volume.json"), &label);
    let label = String::from_utf8(label).expect("text");
    let mut label: Value = serde_json::from_str(&label).expect("label");
    label["volume_id"] = "another".into();
    put_file(
        &at("namesake").join("kura-volume.json"),
        label.to_string().as_bytes(),
    );
    label["name"] = "../A".into();
    put_file(
        &at("evil").join("kura-volume.json"),
        label.to_string().as_bytes(),
    );
    let (a, mine, theirs) = (at("A"), archive_id(&at("A")), archive_id(&of_other));
    let path = |path: &Path| path.display().to_string();
    let clone = at("clone");
    for (from, says) in [
        (
            vec![&a, &at("nothing")],
            vec![
                path(&at("nothing")),
                "does not exist: is the disk mounted?".into(),
            ],
        ),
        (
            vec![&at("empty"), &a],
            vec![path(&at("empty")), "is empty: is the disk mounted?".into()],
        ),
        (
            vec![&a, &at("foreign")],
            vec![
                path(&at("foreign")),
                "has no label (kura-volume.json)".into(),
            ],
        ),
        (vec![&damaged], vec![path(&damaged)]),
        (
            vec![&a, &of_other],
            vec![
                "these are volumes of 2 archives".into(),
                format!("{} (A) of {mine}", path(&a)),
                format!("{} (A) of {theirs}", path(&of_other)),
            ],
        ),
        (
            vec![&a, &clone],
            vec![path(&a), path(&clone), "have the same label".into()],
        ),
        (
            vec![&a, &at("M"), &a],
            vec![path(&a), "is given twice".into()],
        ),
        (
            vec![&a, &at("namesake")],
            vec!["are both volume A: give one of them".into()],
        ),
        (
            vec![&a, &at("evil")],
            vec!["has the name \"../A\", which no volume can have".into()],
        ),
    ] {
        let machine = Machine::new();
        let from: Vec<&Path> = from.iter().map(|path| path.as_path()).collect();
        let outcome = machine.init(&from, &[]);
        assert_eq!(outcome.code, Some(3), "{from:?}: {}", outcome.text());
        for said in says {
            assert!(outcome.stderr.contains(&said), "{said}: {}", outcome.text());
        }
        assert!(
            outcome.stderr.contains("nothing was written"),
            "{}",
            outcome.text()
        );
        let left = fs::read_dir(machine.folder.path()).expect("folder").count();
        assert_eq!(left, 0, "{from:?}");
    }
    // A configuration that is there, and a state folder of another archive.
    let machine = Machine::new();
    put_file(&machine.file(), b"# mine\n");
    let outcome = machine.init(&[&a], &[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("kura.toml: File exists"),
        "{}",
        outcome.text()
    );
    assert_eq!(fs::read(machine.file()).expect("kura.toml"), b"# mine\n");
    let machine = Machine::new();
    let state = machine.folder.path().join("kura-data/state/archive.json");
    put_file(
        &state,
        &fs::read(other.state().join("archive.json")).expect("archive.json"),
    );
    let outcome = machine.init(&[&a], &[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains(&format!("is of archive {theirs}")),
        "{}",
        outcome.text()
    );
    assert!(!machine.file().exists());
}
