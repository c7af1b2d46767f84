//! The command line as a person and as a script see it: screens, exit codes, refusals that touch nothing, and the end.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::images::{self, ALL, Image, STORE, assert_come_back, assert_found, send_all};
use common::server::{Outcome, free_port, put_file};
use common::{Server, Settings, Sink, files, tools};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A folder to run `kura` in.
struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: TempDir::new().expect("temporary folder"),
            port: free_port(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `kura.toml` with this text after the address, and one volume in `volume-a`.
    fn configure(&self, text: &str) {
        let text = format!(
            "bind = \"127.0.0.1\"\nport = {}\nstate = \"state\"\n{text}\n\
             [[volume]]\nname = \"A\"\npath = \"volume-a\"\nrole = \"archive\"\n\
             [intake]\nmode = \"direct\"\n",
            self.port
        );
        put_file(&self.path().join("kura.toml"), text.as_bytes());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kura"));
        command.args(arguments).current_dir(self.path());
        command
    }

    fn kura(&self, arguments: &[&str]) -> Outcome {
        tools::run(&mut self.command(arguments))
    }
}

/// Every path below a folder with what a touch would change.
fn state_of(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| {
            let entry = entry.expect("entry");
            let data = entry.metadata().expect("metadata");
            let modified = data.modified().expect("time of modification");
            (entry.into_path(), (data.len(), modified))
        })
        .collect()
}

fn one_object(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stdout.lines().count(), 1, "{}", outcome.text());
    let value: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}", outcome.text()));
    assert_eq!(value["version"], 1, "{value}");
    value
}

/// Method: the screen of `status` with a server and without one, by rows and columns; numbers of the disk masked.
#[test]
fn status_answers_first_and_then_shows_the_volumes() {
    let mut server = Server::start();
    send_all(&server, &images::images(2, 3));
    let volume = server.volume("A").display().to_string();
    for running in [true, false] {
        if !running {
            assert!(server.terminate().success());
        }
        let outcome = server.kura(&["status"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
        let mut lines = outcome.stdout.lines();
        assert_eq!(
            lines.next(),
            Some("state   ok: 6 instances in 2 studies, 7.97 kB")
        );
        if !running {
            assert_eq!(
                lines.next(),
                Some("server  not running; start it with: kura serve")
            );
        }
        assert_eq!(
            lines.next(),
            Some(
                "copies  one of each: there is no mirror volume (kura volume add NAME PATH --role mirror)"
            )
        );
        let scrub = lines.next().expect("scrub");
        assert!(scrub.starts_with("scrub   "), "{scrub}");
        let header: Vec<_> = lines.next().expect("header").split_whitespace().collect();
        assert_eq!(header, ["VOLUME", "ROLE", "STATE", "USED", "FREE", "PATH"]);
        let row: Vec<_> = lines.next().expect("row").split_whitespace().collect();
        assert_eq!(row[..3], ["A", "archive", "ok"]);
        assert_eq!(row[7], volume);
        for (number, unit) in [(row[3], row[4]), (row[5], row[6])] {
            assert!(number.parse::<f64>().is_ok(), "{row:?}");
            assert!(unit.ends_with('B'), "{row:?}");
        }
        assert_eq!(lines.next(), None);

        let value = one_object(&server.kura(&["status", "--json"]));
        assert_eq!(value["state"], "ok");
        assert_eq!(value["running"], running);
        assert_eq!(value["index"]["instances_count"], 6);
        assert_eq!(value["volumes"][0]["name"], "A");
        assert!(value["volumes"][0]["free_bytes"].is_u64());
    }
}

/// Method: each level's screen, with a server and without one.
#[test]
fn find_shows_each_level_as_a_table() {
    let mut server = Server::start();
    send_all(&server, &images::images(2, 3));
    for running in [true, false] {
        if !running {
            assert!(server.terminate().success());
        }
        for (arguments, screen) in [
            (
                &["find", "PatientID=TEST-1"][..],
                "2 found\n\
                 DATE      PATIENT ID  NAME            MODALITIES  INSTANCES  STUDY INSTANCE UID\n\
                 20260115  TEST-1      TEST^SYNTHETIC  CT          3          2.25.91\n\
                 20260115  TEST-1      TEST^SYNTHETIC  CT          3          2.25.90\n",
            ),
            (
                &["find", "--level", "patient"],
                "1 found\n\
                 PATIENT ID  NAME            STUDIES\n\
                 TEST-1      TEST^SYNTHETIC  2\n",
            ),
            (
                &["find", "--level", "series", "StudyInstanceUID=2.25.90"],
                "1 found\n\
                 MODALITY  NUMBER  DESCRIPTION  INSTANCES  SERIES INSTANCE UID\n\
                 CT        1                    3          2.25.90.1\n",
            ),
            (
                &["find", "--level", "image", "SOPInstanceUID=2.25.70.2"],
                "1 found\n\
                 NUMBER  SOP INSTANCE UID\n\
                 2       2.25.70.2\n",
            ),
            (
                &["find", "PatientID=nobody"],
                "0 found\n\
                 DATE  PATIENT ID  NAME  MODALITIES  INSTANCES  STUDY INSTANCE UID\n",
            ),
        ] {
            let outcome = server.kura(arguments);
            assert_eq!(outcome.code, Some(0), "{}", outcome.text());
            assert_eq!(outcome.stdout, screen, "{arguments:?}");
        }
        let value = one_object(&server.kura(&["find", "StudyInstanceUID=2.25.91", "--json"]));
        assert_eq!(value["complete"], true);
        assert_eq!(value["matches"][0]["PatientName"], "TEST^SYNTHETIC");
        assert_eq!(value["matches"].as_array().map(Vec::len), Some(1));
    }
}

/// Method: `init` in an empty folder, again, and a `serve` from what it wrote.
#[test]
fn init_writes_a_file_that_works_and_never_replaces_one() {
    let place = Place::new();
    let outcome = place.kura(&["init"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    for line in [
        "written: kura.toml\n",
        "then: kura serve\n",
        "page     http://127.0.0.1:8112/ ",
        "AE title KURA, port 11112",
        "kura peer add HOROS@",
    ] {
        assert!(outcome.stdout.contains(line), "{line}: {}", outcome.stdout);
    }
    let file = place.path().join("kura.toml");
    let written = fs::read_to_string(&file).expect("kura.toml");
    let mine = format!("# mine\n{written}");
    fs::write(&file, &mine).expect("edit");
    for arguments in [&["init"][..], &["init", "kura.toml", "--json"]] {
        let outcome = place.kura(arguments);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(
            outcome
                .stderr
                .starts_with("error: kura.toml: File exists (os error 17); it was not written"),
            "{}",
            outcome.text()
        );
    }
    assert_eq!(fs::read_to_string(&file).expect("kura.toml"), mine);
    let value = one_object(&place.kura(&["init", "other.toml", "--json"]));
    assert_eq!(value["written"], "other.toml");
    assert_eq!(
        fs::read_to_string(place.path().join("other.toml")).expect("other.toml"),
        written
    );
    // What it wrote is a configuration; only the volume has not been there yet.
    let outcome = place.kura(&["status"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("run kura serve once"),
        "{}",
        outcome.text()
    );
}

/// Method: the two files of a Conquest server, in its own line ends; a folder without them.
#[test]
fn init_takes_over_what_a_conquest_server_was_told() {
    let place = Place::new();
    let conquest = place.path().join("conquest");
    fs::create_dir(&conquest).expect("its folder");
    let refused = place.kura(&["init", "--conquest", "conquest"]);
    assert_eq!(refused.code, Some(3), "{}", refused.text());
    assert!(!place.path().join("kura.toml").exists());
    let ini = "[sscscp]\r\nMyACRNema = SERVER1\r\nTCPPort = 5678\r\nMAGDevices = 1\r\nMAGDevice0 = d:\\data\\\r\n\
               MIRRORDevices = 1\r\nMIRRORDevice0 = e:\\mirror\\\r\n";
    fs::write(conquest.join("DICOM.INI"), ini).expect("dicom.ini");
    let map = "/* peers */\r\nSERVER1 127.0.0.1 5678 un\r\nMAC01 192.168.1.20 11112 un\r\nV* * 1234 un\r\n";
    fs::write(conquest.join("acrnema.map"), map).expect("acrnema.map");
    let outcome = place.kura(&["init", "--conquest", "conquest"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    for line in [
        "taken    AE title SERVER1",
        "taken    port 5678",
        "taken    peer MAC01 at 192.168.1.20:11112",
        "taken    archive volume MAG0, for d:\\data\\",
        "taken    mirror volume MIRROR0, for e:\\mirror\\",
        "left     V* * 1234 un: every workstation needs a [[peer]] of its own",
    ] {
        assert!(
            outcome.stdout.lines().any(|said| said == line),
            "{line}\n{}",
            outcome.text()
        );
    }
    let value = one_object(&place.kura(&["init", "b.toml", "--conquest", "conquest", "--json"]));
    assert_eq!(value["peers"][0]["ae_title"], "MAC01");
    let status = place.kura(&["status"]);
    assert!(
        status.stderr.contains("run kura serve once"),
        "{}",
        status.text()
    );
}

/// Method: the first lines of a file's tags; a file that is none.
#[test]
fn dump_shows_the_tags_of_a_file() {
    let place = Place::new();
    let file = files::testdata().join("mr.dcm");
    let file = file.to_str().expect("path");
    let outcome = place.kura(&["dump", file]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let begin = "transfer syntax  1.2.840.10008.1.2.1\n\
                 source AE title  \n\
                 data set         8.85 kB at offset 346\n\
                 (0008,0016) UI SOPClassUID                      [1.2.840.10008.5.1.4.1.1.4] 26\n";
    assert!(outcome.stdout.starts_with(begin), "{}", outcome.text());
    assert!(
        outcome
            .stdout
            .contains("(0008,0060) CS Modality                         [MR] 2\n"),
        "{}",
        outcome.text()
    );
    let value = one_object(&place.kura(&["dump", "--json", file]));
    assert_eq!(value["transfer_syntax"], "1.2.840.10008.1.2.1");
    assert_eq!(value["elements"][0]["tag"], "00080016");

    put_file(&place.path().join("no.dcm"), b"nothing of that kind");
    for name in ["no.dcm", "absent.dcm"] {
        let outcome = place.kura(&["dump", name]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(
            outcome.stderr.starts_with(&format!("error: {name}: ")),
            "{}",
            outcome.text()
        );
        let outcome = place.kura(&["dump", name, "--json"]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(one_object(&outcome)["error"].is_string());
    }
}

/// Method: the folder of test data to a running server, to one that refuses, to a dead port and as a dry run.
#[test]
fn send_counts_what_arrived() {
    let server = Server::start();
    // The port is open a moment before the socket of the command line.
    server.wait_until_indexed();
    let place = Place::new();
    let goods = files::good_below(&files::testdata());
    let folder = place.path().join("images");
    for (number, good) in goods.iter().enumerate() {
        let bytes = fs::read(&good.file.path).expect("file");
        put_file(&folder.join(format!("deep/{number}.dcm")), &bytes);
    }
    put_file(&folder.join("README.txt"), b"not an image");
    let folder = folder.to_str().expect("path");
    let to = format!("KURA@127.0.0.1:{}", server.port());

    let outcome = place.kura(&["send", folder, "--to", &to, "--dry-run"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let begin = format!("would send {} instances, ", goods.len());
    assert!(outcome.stdout.starts_with(&begin), "{}", outcome.text());
    let value = one_object(&place.kura(&["send", folder, "--to", &to, "--dry-run", "--json"]));
    assert_eq!(value["would_send"], goods.len());
    assert_eq!(server.kura_json(&["status"])["index"]["instances_count"], 0);

    let outcome = place.kura(&["send", folder, "--to", &to]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let begin = format!("{} sent to KURA (", goods.len());
    assert!(outcome.stdout.starts_with(&begin), "{}", outcome.text());
    assert!(
        outcome
            .stdout
            .ends_with("), 0 with a warning, 0 failed, 1 skipped\n"),
        "{}",
        outcome.text()
    );
    let skipped = format!("skipped: {folder}/README.txt: ");
    assert!(outcome.stderr.contains(&skipped), "{}", outcome.text());
    for good in &goods {
        assert_eq!(
            images::found(&server, &good.uids.study)
                .iter()
                .filter(|sop| **sop == good.uids.sop_instance)
                .count(),
            1,
            "{}",
            good.file.name()
        );
    }
    // Again: it is all there.
    let value = one_object(&place.kura(&["send", folder, "--to", &to, "--json"]));
    assert_eq!(value["sent"], goods.len());
    assert_eq!(value["skipped"], 1);

    let sink = Sink::start();
    sink.answer(0xA700);
    let to = format!("SINK@127.0.0.1:{}", sink.port());
    let outcome = place.kura(&["send", folder, "--to", &to]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(outcome.stderr.contains("A700H"), "{}", outcome.text());

    let to = format!("NOBODY@127.0.0.1:{}", free_port());
    let outcome = place.kura(&["send", folder, "--to", &to]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    let empty = TempDir::new().expect("temporary folder");
    for nothing in [empty.path(), &empty.path().join("absent")] {
        let nothing = nothing.to_str().expect("path");
        let outcome = place.kura(&["send", nothing, "--to", &to]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.text());
    }
}

/// Method: a node that answers, a configured peer, a dead port, an unknown name.
#[test]
fn echo_says_whether_a_node_answers() {
    let server = Server::with(Settings::default().peer("DEAD", free_port()));
    let port = server.port().to_string();
    let to = format!("KURA@127.0.0.1:{port}");
    let outcome = server.kura(&["echo", &to]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let shown = outcome.stdout.replace(&port, "PORT");
    let begin = "ok: KURA at 127.0.0.1:PORT answered in ";
    assert!(shown.starts_with(begin), "{shown}");
    assert!(shown.ends_with(" ms\n"), "{shown}");
    let value = one_object(&server.kura(&["echo", &to, "--json"]));
    assert_eq!(value["peer"], "KURA");
    assert!(value["ms"].is_u64());
    for (peer, says) in [
        ("DEAD", "error: cannot connect to 127.0.0.1:"),
        ("NOBODY", "error: NOBODY is not a configured peer"),
        ("A@B", "error: A@B: no :PORT; expected AE@HOST:PORT"),
    ] {
        let outcome = server.kura(&["echo", peer]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(outcome.stderr.starts_with(says), "{}", outcome.text());
        let outcome = server.kura(&["echo", peer, "--json"]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(one_object(&outcome)["error"].is_string());
    }
}

/// Method: a machine before the first start, with a server and without one, with a volume that is away, and peers. What is
/// measured is masked, and what this machine is like is left out.
#[test]
fn doctor_says_in_a_line_each_what_it_found_and_what_to_do() {
    let grades = |outcome: &Outcome, about: &str| {
        let mut lines = outcome.stdout.lines();
        let answer = lines.next().expect("answer").to_owned();
        assert!(answer.starts_with("doctor   "), "{}", outcome.text());
        let mut found = Vec::new();
        for line in lines {
            let (grade, rest) = line.split_at(9);
            assert!(["ok", "note", "problem"].contains(&grade.trim()), "{line}");
            let (subject, says) = rest.split_once(": ").expect("subject");
            if subject == about {
                found.push((grade.trim().to_owned(), says.to_owned()));
            }
        }
        let problems = outcome.stdout.lines().filter(|l| l.starts_with("problem"));
        let code = i32::from(problems.count() > 0);
        assert_eq!(outcome.code, Some(code), "{}", outcome.text());
        found
    };
    let one = |grade: &str, says: &str| vec![(grade.to_owned(), says.to_owned())];

    let place = Place::new();
    place.configure("");
    let outcome = place.kura(&["doctor"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert_eq!(
        grades(&outcome, "archive"),
        one("note", "it was never started -> kura serve")
    );
    assert_eq!(state_of(place.path()).len(), 2, "nothing was created");
    place.configure("");
    put_file(&place.path().join("volume-a/mine.txt"), b"a file");
    let outcome = place.kura(&["doctor"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let found = grades(&outcome, "volume A");
    assert!(
        found[0].1.starts_with("there are other files at "),
        "{found:?}"
    );

    let settings = Settings::default().volume("B", "volume-b", "archive");
    let mut server = Server::with(settings.peer("DEAD", free_port()));
    server.wait_until_indexed();
    let before = common::images::incoming(&server.volume("A"));
    for running in [true, false] {
        if !running {
            assert!(server.terminate().success());
        }
        let outcome = server.kura(&["doctor"]);
        let found = grades(&outcome, "volume A");
        let has = |begin: &str| found.iter().any(|(_, says)| says.starts_with(begin));
        assert!(has("a flush takes "), "{found:?}");
        assert!(has("intake "), "{found:?}");
        assert!(has("it takes "), "{found:?}");
        assert!(has("it is on the same disk as B: "), "{found:?}");
        let said = grades(&outcome, "server");
        match running {
            true => assert!(said.is_empty(), "{said:?}"),
            false => {
                let says = "it does not run; this was found without it -> kura serve";
                assert_eq!(said, one("note", says));
            }
        }
        let value = one_object(&server.kura(&["doctor", "--json"]));
        let findings = value["findings"].as_array().expect("findings");
        let problems = findings.iter().filter(|f| f["grade"] == "problem").count();
        assert_eq!(value["problems_count"], problems);
    }
    assert_eq!(common::images::incoming(&server.volume("A")), before);

    fs::rename(server.volume("B"), server.folder().join("gone")).expect("rename");
    let outcome = server.kura(&["doctor"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let found = grades(&outcome, "archive");
    let (grade, says) = &found[0];
    assert_eq!(grade, "problem");
    assert!(says.starts_with("volume B is away"), "{found:?}");
    // The archive is the same as before.
    fs::rename(server.folder().join("gone"), server.volume("B")).expect("rename");
    server.restart();
    server.wait_until_indexed();

    let port = server.port().to_string();
    let outcome = server.kura(&["doctor", &format!("KURA@127.0.0.1:{port}")]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let shown = outcome.stdout.replace(&port, "PORT");
    // It is no peer of itself, so that it would send nothing there.
    let begin =
        "doctor   KURA at 127.0.0.1:PORT: nothing is wrong; to be noted: 1\nnote     move: ";
    assert!(shown.starts_with(begin), "{shown}");
    assert!(
        shown.contains("\nok       echo: it answers C-ECHO, in "),
        "{shown}"
    );
    let outcome = server.kura(&["doctor", "DEAD"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let next = "-> nothing listens there: is the program started, and is that its port?\n";
    assert!(outcome.stdout.contains(next), "{}", outcome.text());
    assert_eq!(server.kura(&["doctor", "NOBODY"]).code, Some(3));
}

/// Method: verbs and options that there are not; nothing is created by any of them.
#[test]
fn wrong_usage_is_exit_2() {
    let place = Place::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["status", "--frobnicate"],
        &["index"],
        &["index", "burn"],
        &["echo"],
        &["send", "x"],
        &["send", "--to", "A@b:1"],
        &["dump"],
        &["find", "--most", "many"],
    ] {
        let outcome = place.kura(arguments);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.text());
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(state_of(place.path()).len(), 1);
}

/// Method: a wrong key, value, table or reserve in `kura.toml`: each verb names the line and creates nothing.
#[test]
fn a_mistake_in_the_configuration_is_named_and_nothing_is_started() {
    for (text, names) in [
        ("prot = 1", &["line 4", "prot"][..]),
        ("engine = \"oracle\"", &["line 4", "oracle"]),
        ("ae_title = \"SEVENTEEN_LETTERS\"", &["SEVENTEEN_LETTERS"]),
        ("[limits]\nstall = 3", &["line 5", "stall"]),
        (
            "[limits]\nassociations = \"many\"",
            &["line 5", "associations"],
        ),
        ("[placement]\nreserve = \"lots\"", &["reserve", "lots"]),
        (
            "[[volume]]\nname = \"A\"\npath = \"x\"\nrole = \"archive\"",
            &["two", "A"],
        ),
        ("ae_title = ", &["line 4"]),
    ] {
        let place = Place::new();
        place.configure(text);
        for verb in ["serve", "status"] {
            let outcome = place.kura(&[verb]);
            assert_eq!(outcome.code, Some(3), "{text}: {}", outcome.text());
            for name in names {
                assert!(outcome.stderr.contains(name), "{text}: {}", outcome.text());
            }
        }
        assert_eq!(
            state_of(place.path()).len(),
            2,
            "{text}: something was created"
        );
    }
    let outcome = Place::new().kura(&["serve", "--config", "absent.toml"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(outcome.stderr.contains("absent.toml"), "{}", outcome.text());
}

/// `serve` must end by itself with exit 3 and say this.
fn refused(place: &Place, says: &[&str]) {
    let outcome = place.kura(&["serve"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(outcome.stderr.contains("error: "), "{}", outcome.text());
    for words in says {
        assert!(outcome.stderr.contains(words), "{}", outcome.text());
    }
}

/// Method: another program has the port.
#[test]
fn a_port_in_use_is_named_and_nothing_is_written() {
    let place = Place::new();
    let _taken = TcpListener::bind(("127.0.0.1", place.port)).expect("take the port");
    place.configure("");
    fs::create_dir(place.path().join("volume-a")).expect("folder of the volume");
    let before = state_of(place.path());
    refused(&place, &[&format!("127.0.0.1:{}", place.port)]);
    assert_eq!(state_of(place.path()), before);
}

/// Method: a folder with somebody's photo in it.
#[test]
fn a_folder_with_other_files_is_refused_and_not_touched() {
    let place = Place::new();
    place.configure("");
    put_file(
        &place.path().join("volume-a/photo.jpg"),
        b"dear to somebody",
    );
    let before = state_of(&place.path().join("volume-a"));
    refused(&place, &["volume A", "not touched"]);
    assert_eq!(state_of(&place.path().join("volume-a")), before);
}

/// Method: the volume of one archive in the place of another's; and a volume of this archive in another's place.
#[test]
fn the_volume_of_another_archive_is_refused_and_not_touched() {
    let mut server = Server::start();
    let mut other = Server::start();
    send_all(&server, &images::images(1, 2));
    other.wait_until_indexed();
    assert!(server.terminate().success());
    assert!(other.terminate().success());
    let (ours, theirs) = (server.volume("A"), other.volume("A"));
    let aside = server.folder().join("aside");
    fs::rename(&ours, &aside).expect("take the disk out");
    fs::rename(&theirs, &ours).expect("put another in");
    let before = state_of(&ours);
    let outcome = server.kura(&["serve"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("belongs to archive"),
        "{}",
        outcome.text()
    );
    assert_eq!(state_of(&ours), before);
    fs::rename(&ours, &theirs).expect("back");
    fs::rename(&aside, &ours).expect("back");
    server.restart();
    assert_found(&server, &images::images(1, 2));
}

/// Method: a second server with another state folder and port on the same volume; then the same state folder.
#[test]
fn a_volume_in_use_is_refused_and_its_owner_named() {
    let mut server = Server::start();
    send_all(&server, &images::images(1, 2));
    let place = Place::new();
    let settings = |state: &Path| {
        format!(
            "bind = \"127.0.0.1\"\nport = {}\nstate = \"{}\"\n\
             [[volume]]\nname = \"A\"\npath = \"{}\"\nrole = \"archive\"\n",
            place.port,
            state.display(),
            server.volume("A").display()
        )
    };
    let file = place.path().join("kura.toml");
    put_file(&file, settings(&place.path().join("state")).as_bytes());
    refused(
        &place,
        &["in use by", &format!("process {} ", server.pid())],
    );
    put_file(&file, settings(&server.state()).as_bytes());
    refused(&place, &["another kura"]);
    server.assert_alive();
    send_all(&server, &images::images(2, 2));
    assert_found(&server, &images::images(2, 2));
}

/// Method: a volume that was here is gone: its folder empty (a disk not mounted), then absent; then back.
#[test]
fn the_empty_mount_point_of_a_missing_disk_is_never_written() {
    let mut server = Server::start();
    let images = images::images(2, 2);
    send_all(&server, &images);
    assert!(server.terminate().success());
    let volume = server.volume("A");
    let aside = server.folder().join("aside");
    fs::rename(&volume, &aside).expect("unmount");
    for folder in [true, false] {
        if folder {
            fs::create_dir(&volume).expect("mount point");
        } else {
            fs::remove_dir(&volume).expect("mount point");
        }
        // The others would be served; this one's instances are known, and said to be off line.
        server.restart();
        server.wait_until_indexed();
        let status = server.kura_json(&["status"]);
        assert_eq!(status["state"], "degraded", "{status}");
        assert_eq!(status["volumes"][0]["state"], "away", "{status}");
        assert_eq!(status["index"]["instances_count"], 4, "{status}");
        let mut client = server.associate(ALL);
        let (code, comment) = images[0].send(&mut client).expect("C-STORE");
        assert_eq!(code, 0xA700, "{comment:?}");
        assert!(comment.expect("a comment").contains("volume A is away"));
        client.release().expect("release");
        server.terminate();
        assert_eq!(volume.exists(), folder);
        if folder {
            assert_eq!(state_of(&volume).len(), 1, "written to");
        }
    }
    // It is taken back by itself.
    server.restart();
    fs::rename(&aside, &volume).expect("mount");
    wait_until(|| server.kura_json(&["status"])["state"] == "ok");
    assert_found(&server, &images);
    assert_come_back(&server, &images);
    send_all(&server, &images::images(3, 2));
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(90), "not done");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An instance whose first bytes the server has not read yet is not in flight.
fn wait_until_something_is_incoming(server: &Server) {
    let start = Instant::now();
    while images::incoming(&server.volume("A")).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "nothing comes in"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Method: SIGTERM in the middle of a data set; the rest is sent afterwards.
#[test]
fn at_sigterm_the_instance_in_flight_is_finished_and_answered() {
    let mut server = Server::start();
    let image = Image::new(1, 1, 300_000);
    let mut idle = server.associate(ALL);
    let mut client = server.associate(ALL);
    client
        .begin_store(STORE, common::build::CT_IMAGE_STORAGE, &image.sop)
        .expect("command");
    let (first, rest) = image.data_set.split_at(100_000);
    client
        .send_fragment(STORE, false, first, false)
        .expect("first half");
    wait_until_something_is_incoming(&server);
    let stopping = std::thread::scope(|scope| {
        let stop = scope.spawn(|| server.terminate());
        // Until the server is seen to stop: the idle association ends.
        assert!(idle.receive().is_err());
        client
            .send_fragment(STORE, false, rest, true)
            .expect("second half");
        assert_eq!(client.store_response().expect("an answer").0, 0);
        stop.join().expect("stop")
    });
    assert_eq!(stopping.code(), Some(0));
    server.restart();
    assert_found(&server, std::slice::from_ref(&image));
    assert_come_back(&server, &[image]);
}

/// Method: a sender that stops sending in the middle, and SIGTERM: the end comes after stop_seconds.
#[test]
fn a_sender_that_stalls_does_not_hold_up_the_end() {
    let mut server = Server::with(Settings {
        extra: "[limits]\nstop_seconds = 1\n".into(),
        ..Settings::default()
    });
    let image = Image::new(1, 1, 300_000);
    let mut client = server.associate(ALL);
    client
        .begin_store(STORE, common::build::CT_IMAGE_STORAGE, &image.sop)
        .expect("command");
    client
        .send_fragment(STORE, false, &image.data_set[..100_000], false)
        .expect("first half");
    wait_until_something_is_incoming(&server);
    let status = server.terminate_within(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0));
    assert!(client.store_response().is_err());
    server.restart();
    server.wait_until_indexed();
    assert!(images::incoming(&server.volume("A")).is_empty());
    send_all(&server, std::slice::from_ref(&image));
    assert_found(&server, &[image]);
}

/// Method: SIGINT, with nobody there and with idle associations.
#[test]
fn at_sigint_an_idle_server_ends_quickly() {
    for idle in [0, 5] {
        let mut server = Server::start();
        server.wait_until_indexed();
        assert!(server.terminate().success());
        let mut child = server
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kura serve");
        let start = Instant::now();
        while TcpStream::connect(server.address()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(90));
            std::thread::sleep(Duration::from_millis(5));
        }
        server.wait_until_indexed();
        let _open: Vec<_> = (0..idle).map(|_| server.associate(ALL)).collect();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::INT).expect("SIGINT");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            if start.elapsed() > Duration::from_secs(25) {
                let _ = child.kill();
                let _ = child.wait();
                panic!("no end 25 s after SIGINT with {idle} idle associations");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
    }
}
