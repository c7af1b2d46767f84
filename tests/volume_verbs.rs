//! `kura volume …`: what it says, and that what it does is true at once and after a restart.

mod common;

use std::fs;
use std::path::Path;

use common::images::{self, Image, assert_come_back, assert_found, send_all, tree};
use common::shelf::{self, Shelf, does, refuses, wait_for};
use common::{Server, Settings};

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Method: each verb on a running server with a commented `kura.toml`; after each a restart, and the same is true.
#[test]
fn what_is_told_of_volumes_is_true_at_once_and_after_a_restart_and_comments_stay() {
    let mut server = Server::start();
    server.wait_until_indexed();
    let config = server.config();
    let text = fs::read_to_string(&config).expect("kura.toml");
    let text = format!(
        "# our archive\n{text}\n# the peers\n[[peer]]\nae_title = \"CT1\" # upstairs\nhost = \"127.0.0.1\"\nport = 104\n"
    );
    let text = text.replace("name = \"A\"", "name = \"A\" # the first disk");
    fs::write(&config, text).expect("kura.toml");
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();

    let mut all = Vec::new();
    let mut study = 0;
    // Sends a study; returns the names of the volumes on which it is.
    let mut goes_to = |server: &Server| {
        study += 1;
        let images: Vec<Image> = (0..3).map(|n| Image::new(study, n, 1_000)).collect();
        send_all(server, &images);
        all.extend(images);
        let below = format!("-2.25.9{study}/");
        let list = server.kura_json(&["volume", "list"]);
        let on = list["volumes"]
            .as_array()
            .expect("volumes")
            .iter()
            .filter(|volume| {
                let path = volume["path"].as_str().expect("path");
                tree(Path::new(path))
                    .iter()
                    .any(|file| file.to_string_lossy().contains(&below))
            });
        on.map(|volume| volume["name"].as_str().expect("name").to_owned())
            .collect::<Vec<_>>()
    };
    let b = server.folder().join("disk-b");
    fs::create_dir(&b).expect("folder");
    let moved = server.folder().join("disk-b-moved");
    let paths = |server: &Server| {
        let list = server.kura_json(&["volume", "list"]);
        let volumes = list["volumes"].as_array().expect("volumes").clone();
        volumes
            .iter()
            .map(|v| ["name", "state", "path"].map(|key| v[key].as_str().expect("text").to_owned()))
            .collect::<Vec<_>>()
    };
    let a = server.volume("A");
    let is = |volumes: &[(&str, &str, &Path)]| -> Vec<[String; 3]> {
        let text = |(name, state, path): &(&str, &str, &Path)| {
            [*name, *state, path_text(path)].map(str::to_owned)
        };
        volumes.iter().map(text).collect()
    };
    for (arguments, says, volumes, goes) in [
        (
            vec!["add", "B", path_text(&b)],
            format!("volume B is at {} now", b.display()),
            is(&[("A", "ok", &a), ("B", "ok", &b)]),
            "A",
        ),
        (
            vec!["retire", "A"],
            "volume A takes no new instances; what is on it is served".to_owned(),
            is(&[("A", "retired", &a), ("B", "ok", &b)]),
            "B",
        ),
        (
            vec!["retire", "A", "--undo"],
            "volume A takes instances again".to_owned(),
            is(&[("A", "ok", &a), ("B", "ok", &b)]),
            "A",
        ),
        (
            vec!["rename", "B", "SHELF-1"],
            "volume B is named SHELF-1 now".to_owned(),
            is(&[("A", "ok", &a), ("SHELF-1", "ok", &b)]),
            "A",
        ),
        (
            vec!["relocate", "SHELF-1", path_text(&moved)],
            format!("volume SHELF-1 is at {} now", moved.display()),
            is(&[("A", "ok", &a), ("SHELF-1", "ok", &moved)]),
            "A",
        ),
        (
            vec!["eject", "SHELF-1"],
            "volume SHELF-1 may be unplugged".to_owned(),
            is(&[("A", "ok", &a), ("SHELF-1", "ejected", &moved)]),
            "A",
        ),
        (
            vec!["return", "SHELF-1"],
            "volume SHELF-1 is back".to_owned(),
            is(&[("A", "ok", &a), ("SHELF-1", "ok", &moved)]),
            "A",
        ),
    ] {
        if arguments[0] == "relocate" {
            fs::rename(&b, &moved).expect("move the volume");
        }
        assert_eq!(does(&server, &arguments), says);
        for round in 0..2 {
            assert_eq!(paths(&server), volumes, "{arguments:?}, round {round}");
            assert_eq!(goes_to(&server), [goes], "{arguments:?}, round {round}");
            if round == 0 {
                assert!(server.terminate().success());
                server.restart();
                server.wait_until_indexed();
            }
        }
    }
    assert_found(&server, &all);
    assert_come_back(&server, &all);
    let text = fs::read_to_string(&config).expect("kura.toml");
    for kept in [
        "# our archive",
        "name = \"A\" # the first disk",
        "# the peers",
        "ae_title = \"CT1\" # upstairs",
        "name = \"SHELF-1\"",
        path_text(&moved),
    ] {
        assert!(text.contains(kept), "{kept} in:\n{text}");
    }
    assert!(!text.contains("\"B\""), "{text}");
}

/// Method: no `kura.toml` at all, verbs on an archive that no server has open, and on a server in a network of its own.
#[test]
fn without_a_configuration_file_volumes_are_remembered_too() {
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let kura = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kura"));
        command.args(arguments).current_dir(folder.path());
        command
    };
    if common::tools::tool("unshare").is_none()
        || !common::tools::run(std::process::Command::new("unshare").args(["-n", "true"])).success()
    {
        eprintln!("skipped: no network namespace can be made here (needs root)");
        return;
    }
    // Its port is the one by default, which anybody may have.
    let serve = || {
        let mut command = std::process::Command::new("unshare");
        command.args(["-n", env!("CARGO_BIN_EXE_kura"), "serve"]);
        command.current_dir(folder.path());
        let log = fs::File::create(folder.path().join("log")).expect("log");
        let child = command.stderr(log).spawn().expect("kura serve");
        let begun = std::time::Instant::now();
        // Not by asking: with no server there a verb opens the archive itself, and would be in its way.
        let running = || {
            let log = fs::read_to_string(folder.path().join("log"));
            log.expect("log").contains("kura is listening")
        };
        while !running() {
            assert!(begun.elapsed().as_secs() < 90, "kura serve does not start");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Killed(child)
    };
    let list = || {
        let outcome = common::tools::run(&mut kura(&["volume", "list", "--json"]));
        let value: serde_json::Value =
            serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
        let volumes = value["volumes"].as_array().expect("volumes").clone();
        let name = |volume: &serde_json::Value| {
            let text = |key: &str| volume[key].as_str().expect("text").to_owned();
            format!("{} {} {}", text("name"), text("state"), text("path"))
        };
        volumes.iter().map(name).collect::<Vec<_>>()
    };
    let a = format!("A ok {}", folder.path().join("kura-data/A").display());
    let path = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).expect("folder");
        path.to_str().expect("path").to_owned()
    };
    let server = serve();
    assert_eq!(list(), std::slice::from_ref(&a));
    let outcome = common::tools::run(&mut kura(&["volume", "add", "B", &path("b")]));
    assert!(outcome.success(), "{}", outcome.text());
    let with_b = [a.clone(), format!("B ok {}", path("b"))];
    assert_eq!(list(), with_b);
    drop(server);
    assert_eq!(list(), with_b);
    let outcome = common::tools::run(&mut kura(&["volume", "rename", "B", "C"]));
    assert!(outcome.success(), "{}", outcome.text());
    let _server = serve();
    assert_eq!(list(), [a, format!("C ok {}", path("b"))]);
    assert!(!folder.path().join("kura.toml").exists());
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Method: a server with a state folder of its own on the volume of another that runs, and `add` of it.
#[test]
fn a_second_server_on_a_volume_is_refused_and_told_who_has_it() {
    let server = Server::start();
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 2));
    let volume = server.volume("A");
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let config = scratch.path().join("kura.toml");
    let text = format!(
        "bind = \"127.0.0.1\"\nport = {}\nstate = \"state\"\n[[volume]]\nname = \"A\"\npath = \"{}\"\nrole = \"archive\"\n",
        common::server::free_port(),
        volume.display()
    );
    fs::write(&config, text).expect("kura.toml");
    for verb in ["serve", "status"] {
        let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_kura"));
        second.args([verb, "--config"]).arg(&config);
        let outcome = common::tools::run(&mut second);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        let says = format!(
            "error: volume A: {} is in use by process {} on ",
            volume.display(),
            server.pid()
        );
        assert!(outcome.stderr.contains(&says), "{}", outcome.text());
        assert!(
            outcome.stderr.contains("; it was not opened"),
            "{}",
            outcome.text()
        );
    }
    send_all(&server, &[Image::new(3, 1, 1_000)]);
    // Another archive's disk is not taken in either.
    let other = Server::start();
    other.wait_until_indexed();
    let said = refuses(&other, &["add", "X", path_text(&volume)]);
    let says = format!(
        "{}: it is a volume of another archive; nothing was changed",
        volume.display()
    );
    assert_eq!(said, says);
}

/// The cells of each line; they are two spaces apart, and have single ones in them.
fn cells(screen: &str) -> Vec<Vec<&str>> {
    screen
        .lines()
        .map(|line| {
            let cells = line.split("  ").map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect()
        })
        .collect()
}

/// Method: the screen with a volume in each state; numbers of the disk masked, the others as they are.
#[test]
fn volume_list_shows_each_volume_and_why_it_is_not_ok() {
    let sizes = ["size=8m"; 4];
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(4, "64 kB"), &sizes) else {
        return;
    };
    let Shelf { server, disks, .. } = &mut shelf;
    send_all(server, &images::images(2, 3));
    let outcome = server.kura(&["volume", "list"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert_eq!(cells(&outcome.stdout).len(), 6);

    does(server, &["retire", "B"]);
    does(server, &["eject", "C"]);
    disks[3].pull_out();
    wait_for(server, "D", "away");
    let outcome = server.kura(&["volume", "list"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let path = |name| server.volume(name).display().to_string();
    let (a, b, c, d) = (path("A"), path("B"), path("C"), path("D"));
    let ours = ["64.00 kB", "6", "2", "20260115-20260115"];
    let mut rows = cells(&outcome.stdout);
    let outlook = rows.pop().expect("a last line").join(" ");
    assert!(
        outlook.starts_with("room for ") && outlook.ends_with(" at that rate"),
        "{outlook}"
    );
    let masked: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let is_number = |cell: &str| cell.ends_with(" MB") || cell.ends_with(" kB");
            let mask = |(at, cell): (usize, &str)| match (3..5).contains(&at) && is_number(cell) {
                true => "#".to_owned(),
                false => cell.to_owned(),
            };
            row.into_iter().enumerate().map(mask).collect()
        })
        .collect();
    let expected = [
        vec![
            "VOLUME",
            "ROLE",
            "STATE",
            "USED",
            "FREE",
            "RESERVE",
            "INSTANCES",
            "STUDIES",
            "STUDY DATES",
            "PATH",
        ],
        vec![
            "A", "archive", "ok", "#", "#", ours[0], ours[1], ours[2], ours[3], &a,
        ],
        vec![
            "B", "archive", "retired", "#", "#", "64.00 kB", "0", "0", "-", &b,
        ],
        vec!["C", "archive", "ejected", "-", "-", "-", "0", "0", "-", &c],
        vec!["D", "archive", "away", "-", "-", "-", "0", "0", "-", &d],
        vec!["D: its disk was unmounted"],
    ];
    assert_eq!(masked, expected, "{}", outcome.stdout);
}

/// Method: each verb with what it cannot do; the sentence in full, and the list as it was.
#[test]
fn what_a_verb_cannot_do_is_said_in_a_sentence_and_changes_nothing() {
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(2, "64 kB"), &["size=8m"; 2]) else {
        return;
    };
    let Shelf {
        server,
        disks,
        folder,
    } = &mut shelf;
    send_all(server, &images::images(1, 2));
    does(server, &["eject", "B"]);
    assert!(disks[1].unmount_now());
    wait_for(server, "B", "away");
    let other = Server::with(Settings::default());
    other.wait_until_indexed();
    let theirs = other.volume("A").display().to_string();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (full, empty, missing) = (path("full"), path("empty"), path("missing"));
    fs::create_dir(&empty).expect("folder");
    common::server::put_file(&Path::new(&full).join("holiday.jpg"), b"a picture");
    let a = server.volume("A").display().to_string();
    let config = fs::read_to_string(server.config()).expect("kura.toml");
    let before = server.kura_json(&["volume", "list"])["volumes"].clone();
    let unknown = "there is no volume X; kura volume list shows all".to_owned();
    let bad_name =
        "volume name \"a b\": 1 to 32 letters, digits, - or _; nothing was changed".to_owned();
    let taken = "there is a volume A already; nothing was changed".to_owned();
    let is_away = "it is away; its label can only be changed when it is here";
    for (arguments, says) in [
        (vec!["retire", "X"], unknown.clone()),
        (vec!["eject", "X"], unknown.clone()),
        (vec!["return", "X"], unknown.clone()),
        (vec!["rename", "X", "Y"], unknown.clone()),
        (vec!["relocate", "X", &empty], unknown),
        (
            vec!["add", "C", &missing],
            format!(
                "{missing}: there is no such folder (is the disk mounted?); nothing was changed"
            ),
        ),
        (
            vec!["add", "C", &full],
            format!(
                "{full}: it holds files but no label; kura adopt serves what is there; nothing was changed"
            ),
        ),
        (
            vec!["add", "C", &theirs],
            format!("{theirs}: it is a volume of another archive; nothing was changed"),
        ),
        (vec!["add", "A", &empty], taken.clone()),
        (
            vec!["add", "C", &a],
            format!(
                "{a}: it is volume A; add it under that name, or rename it afterwards; nothing was changed"
            ),
        ),
        (vec!["add", "a b", &empty], bad_name.clone()),
        (vec!["rename", "A", "a b"], bad_name),
        (vec!["rename", "B", "A"], taken),
        (vec!["rename", "B", "C"], format!("volume B: {is_away}")),
        (
            vec!["eject", "B"],
            "volume B: it is away already".to_owned(),
        ),
        (
            vec!["relocate", "A", &empty],
            format!("{empty}: it is not volume A; nothing was changed"),
        ),
    ] {
        assert_eq!(refuses(server, &arguments), says, "{arguments:?}");
        let mut all = vec!["volume"];
        all.extend(&arguments);
        let value = server.kura_json(&all);
        assert_eq!(value["error"], says, "{arguments:?}");
        assert_eq!(value["version"], 1, "{arguments:?}");
    }
    // A return of what is not there leaves it away.
    let point = server.volume("B").display().to_string();
    let said = refuses(server, &["return", "B"]);
    assert!(
        said.starts_with("volume B: ") && said.contains(&point),
        "{said}"
    );
    wait_for(server, "B", "away");

    assert_eq!(
        fs::read_to_string(server.config()).expect("kura.toml"),
        config
    );
    assert_eq!(fs::read_dir(&empty).expect("folder").count(), 0);
    assert_eq!(fs::read_dir(&full).expect("folder").count(), 1);
    let after = server.kura_json(&["volume", "list"])["volumes"].clone();
    for (before, after) in before
        .as_array()
        .expect("volumes")
        .iter()
        .zip(after.as_array().expect("volumes"))
    {
        for key in ["name", "state", "path", "volume_id", "instances_count"] {
            assert_eq!(before[key], after[key]);
        }
    }
    assert_eq!(after.as_array().map(Vec::len), Some(2));
}

/// Method: each volume takes a study and is retired; then everything is found, moved and found again after a rebuild.
#[test]
fn seventeen_volumes_are_one_archive() {
    let mut settings = Settings::default();
    for number in 1..17 {
        let name = format!("V{number}");
        settings = settings.volume(&name, &format!("volume-{number}"), "archive");
    }
    let mut server = Server::with(settings);
    server.wait_until_indexed();
    let images = images::images(17, 3);
    for (study, name) in images.chunks(3).zip((0..17).map(|number| match number {
        0 => "A".to_owned(),
        number => format!("V{number}"),
    })) {
        send_all(&server, study);
        let outcome = server.kura(&["volume", "retire", &name]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    }
    let list = server.kura_json(&["volume", "list"]);
    let volumes = list["volumes"].as_array().expect("volumes");
    assert_eq!(volumes.len(), 17);
    for volume in volumes {
        assert_eq!(volume["instances_count"], 3, "{volume}");
        assert_eq!(volume["studies_count"], 1, "{volume}");
    }
    assert_found(&server, &images);
    assert_come_back(&server, &images);
    server.terminate();
    std::fs::remove_dir_all(server.state().join("index")).expect("index");
    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &images);
    assert_come_back(&server, &images);
}

/// Method: the lock of the state folder held for a second, as `kura status` holds it where no server runs, while one starts.
#[test]
fn a_server_that_starts_while_a_verb_looks_waits_for_it() {
    let mut server = Server::start();
    server.wait_until_indexed();
    assert!(server.terminate().success());
    let path = server.state().join("kura.lock");
    let lock = fs::OpenOptions::new().write(true).open(path).expect("lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("flock");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_secs(1));
            drop(lock);
        });
        server.restart();
        server.wait_until_indexed();
    });
}
