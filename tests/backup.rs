//! Promise: what a backup holds comes back on another machine, whole or not at all; it never takes the place of what is not
//! its own, and never in silence; and a program does not touch what a newer one wrote.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::forwarding;
use common::images::{self, Image};
use common::server::{free_port, put_file};
use common::{Server, Settings, Sink, tools};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server with an image, whose study waits for a peer that nobody is.
fn server_with_a_queue() -> (Server, Image) {
    let nobody = free_port();
    let server = Server::with(Settings {
        extra: "# ours\n[[forward.rule]]\nname = \"all\"\nto = [\"LATER\"]\nquiet_seconds = 0\n"
            .to_owned(),
        ..Settings::default().peer("LATER", nobody)
    });
    let image = Image::new(1, 1, 4_096);
    images::send_all(&server, std::slice::from_ref(&image));
    until("the study waits", || {
        !forwarding::list(&server).0.is_empty()
    });
    (server, image)
}

fn backup(server: &Server, to: &Path) -> Value {
    let to = to.to_str().unwrap();
    let said = server.kura_json(&["backup", to]);
    assert!(said["files_count"].as_u64() >= Some(2), "{said}");
    said
}

fn restore(config: &Path, file: &Path, more: &[&str]) -> common::Outcome {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kura"));
    command
        .arg("restore")
        .arg(file)
        .args(more)
        .arg("--config")
        .arg(config);
    tools::run(&mut command)
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().to_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Method: a study waits for a peer that is not there; a backup while the server runs; the state folder and the
/// configuration are lost. Restored, the same archive starts, and what waited goes when the peer comes up.
#[test]
fn what_waited_goes_on_after_the_state_was_lost() {
    let (mut server, image) = server_with_a_queue();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kura.tar.gz");
    backup(&server, &file);
    let again = server.kura(&["backup", file.to_str().unwrap()]);
    assert_eq!(
        again.code,
        Some(3),
        "never another in its place: {}",
        again.text()
    );
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!server.state().join("outbox/copy.redb").exists());

    let running = restore(&server.config(), &file, &[]);
    assert_eq!(running.code, Some(3), "{}", running.text());
    assert!(
        running.stderr.contains("a server runs"),
        "{}",
        running.text()
    );

    server.terminate();
    let archive: Value =
        serde_json::from_slice(&fs::read(server.state().join("archive.json")).unwrap()).unwrap();
    let text = fs::read_to_string(server.config()).unwrap();
    fs::remove_dir_all(server.state()).unwrap();
    fs::remove_file(server.config()).unwrap();
    let shown = restore(&server.config(), &file, &["--dry-run"]);
    assert!(
        shown.success() && shown.stdout.contains("outbox/outbox.redb"),
        "{}",
        shown.text()
    );
    assert!(!server.state().exists() && !server.config().exists());
    let done = restore(&server.config(), &file, &[]);
    assert!(done.success(), "{}", done.text());
    assert_eq!(fs::read_to_string(server.config()).unwrap(), text);
    let restored: Value =
        serde_json::from_slice(&fs::read(server.state().join("archive.json")).unwrap()).unwrap();
    assert_eq!(restored["archive_id"], archive["archive_id"]);
    let sink = Sink::start();
    let to_sink = text.replace(
        &text[text.rfind("port = ").unwrap()..],
        &format!("port = {}\n", sink.port()),
    );
    fs::write(server.config(), to_sink).unwrap();
    server.restart();
    server.wait_until_indexed();
    images::assert_found(&server, std::slice::from_ref(&image));
    let retried = server.kura(&["forward", "retry", "--peer", "LATER"]);
    assert!(retried.success(), "{}", retried.text());
    until("what waited came", || sink.count() == 1);
}

/// Method: a backup without a server, then a change; restored, the old is there again and the changed one is kept beside.
#[test]
fn what_a_restore_replaces_is_kept_beside_it() {
    let mut server = Server::start();
    server.terminate();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kura.tar.gz");
    backup(&server, &file);
    let old = fs::read_to_string(server.config()).unwrap();
    fs::write(server.config(), format!("{old}\n# changed since\n")).unwrap();
    put_file(&server.state().join("notices.json"), b"{\"version\":1}");
    let done = restore(&server.config(), &file, &[]);
    assert!(
        done.success() && done.stdout.contains("before-restore"),
        "{}",
        done.text()
    );
    assert_eq!(fs::read_to_string(server.config()).unwrap(), old);
    let before = contents(&server.state().join("before-restore"));
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before[0].1.ends_with(b"# changed since\n"));
    assert!(
        server.state().join("notices.json").exists(),
        "what came since stays"
    );
    // Another backup holds none of what was replaced.
    let second = folder.path().join("second.tar.gz");
    backup(&server, &second);
    let again = restore(&server.config(), &second, &["--dry-run"]);
    assert!(!again.stdout.contains("replaced"), "{}", again.text());
}

/// Method: the file cut short, with one byte another, with a name that leads elsewhere, and of another archive: each is
/// refused in words, and no file is another.
#[test]
fn what_is_not_whole_or_not_ours_is_refused_and_nothing_is_touched() {
    let (mut server, _) = server_with_a_queue();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kura.tar.gz");
    backup(&server, &file);
    server.terminate();
    let before = contents(server.folder());
    let bytes = fs::read(&file).unwrap();
    let mut plain = Vec::new();
    GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    let packed = |plain: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(plain).unwrap();
        gzip.finish().unwrap()
    };
    let mut other_byte = plain.clone();
    let at = plain.windows(6).position(|w| w == b"# ours").unwrap();
    other_byte[at + 2] = b'O';
    let refused = |bytes: &[u8], reason: &str| {
        let bad = folder.path().join("bad.tar.gz");
        fs::write(&bad, bytes).unwrap();
        let outcome = restore(&server.config(), &bad, &[]);
        assert_eq!(outcome.code, Some(3), "{reason}: {}", outcome.text());
        assert!(
            outcome.stderr.contains(reason),
            "{reason}: {}",
            outcome.text()
        );
        assert!(
            outcome.stderr.contains("nothing was changed"),
            "{}",
            outcome.text()
        );
    };
    refused(&bytes[..bytes.len() / 2], "no backup that can be used");
    refused(
        &packed(&plain[..plain.len() / 1024 * 512]),
        "no backup that can be used",
    );
    refused(&packed(&other_byte), "is not what was written");
    refused(b"hello", "no backup that can be used");
    for name in ["state/../../etc/x", "/etc/x", "else/x"] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        refused(
            &packed(&tar.into_inner().unwrap()),
            "nothing that Kura writes",
        );
    }
    let mut link = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, "state/archive.json", "/etc/passwd")
        .unwrap();
    refused(
        &packed(&link.into_inner().unwrap()),
        "nothing that Kura writes",
    );
    assert_eq!(contents(server.folder()), before);

    // Another archive at the same place.
    for folder in [server.state(), server.volume("A")] {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
    }
    server.restart();
    server.terminate();
    let own = contents(server.folder());
    let outcome = restore(&server.config(), &file, &[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("--other-archive"),
        "{}",
        outcome.text()
    );
    let shown = restore(&server.config(), &file, &["--other-archive", "--dry-run"]);
    assert!(shown.success(), "{}", shown.text());
    assert_eq!(contents(server.folder()), own);
}

/// Method: the version of each kind of data is raised by one, as a newer program would write it, and the file is changed
/// back by nobody: the start, the restore, says so and leaves it.
#[test]
fn what_a_newer_program_wrote_is_refused_in_words_and_left() {
    let mut server = Server::start();
    server.terminate();
    let refuses = |path: &Path, words: &str| {
        let before = fs::read(path).unwrap();
        let outcome = server.kura(&["serve", "--admin-port", "off"]);
        assert_eq!(
            outcome.code,
            Some(3),
            "{}: {}",
            path.display(),
            outcome.text()
        );
        assert!(
            outcome.stderr.contains(words),
            "{}: {}",
            path.display(),
            outcome.text()
        );
        assert_eq!(fs::read(path).unwrap(), before, "{}", path.display());
    };
    let raised = |path: &Path, key: &str| {
        let old = fs::read(path).unwrap();
        let mut value: Value = serde_json::from_slice(&old).unwrap();
        assert_eq!(value[key], 1, "{}", path.display());
        value[key] = 2.into();
        fs::write(path, value.to_string()).unwrap();
        old
    };
    let archive = server.state().join("archive.json");
    let old = raised(&archive, "format");
    refuses(&archive, "newer Kura (format 2");
    fs::write(&archive, old).unwrap();

    let label = server.volume("A").join("kura-volume.json");
    let old = raised(&label, "format");
    refuses(&label, "format 2");
    fs::write(&label, old).unwrap();

    let config = server.config();
    let old = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("new_in_version_two = true\n{old}")).unwrap();
    refuses(&config, "new_in_version_two");
    fs::write(&config, &old).unwrap();

    let folder = TempDir::new().unwrap();
    let manifest = serde_json::json!({ "format": 2, "kura": "9.9.9", "else": [] }).to_string();
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(manifest.len() as u64);
    tar.append_data(&mut header, "manifest.json", manifest.as_bytes())
        .unwrap();
    let file = folder.path().join("newer.tar.gz");
    fs::write(&file, tar.into_inner().unwrap().finish().unwrap()).unwrap();
    let outcome = restore(&config, &file, &[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("written by Kura 9.9.9"),
        "{}",
        outcome.text()
    );

    server.restart();
    server.wait_until_indexed();
}
