//! Storage commitment with another program's idea of it: pynetdicom asks us and is asked by us, and so does another Kura.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use common::build::{CT_IMAGE_STORAGE, Tag, put};
use common::elements::Syntax;
use common::images::{self, Image, send_all};
use common::server::free_port;
use common::tools::{peer_script, run};
use common::wire::IMPLICIT_LITTLE;
use common::{Server, Settings};
use serde_json::{Value, json};

fn sops(images: &[Image]) -> Vec<String> {
    let mut sops: Vec<String> = images.iter().map(|image| image.sop.clone()).collect();
    sops.sort();
    sops
}

/// Method: with and without role selection, over the association that stays open, and to its own port.
#[test]
fn pynetdicom_is_told_wherever_it_waits() {
    let images = images::images(1, 3);
    let port = free_port();
    let server = Server::with(Settings::default().peer("TESTER", port));
    server.wait_until_indexed();
    send_all(&server, &images);
    let cases: [(&[&str], &str); 4] = [
        (&[], "association"),
        (&["--role"], "association"),
        (&["--leave"], "listener"),
        (&["--leave", "--role"], "listener"),
    ];
    for (number, (options, place)) in cases.into_iter().enumerate() {
        let Some(mut script) = peer_script("commitment.py") else {
            return;
        };
        let transaction = format!("2.25.20{number}");
        let outcome = run(script
            .args(["ask", &transaction, "2.25.404"])
            .args(images.iter().map(|image| &image.sop))
            .args(["--port", &server.port().to_string()])
            .args(["--listen", &port.to_string()])
            .args(options));
        assert!(outcome.success(), "{}", outcome.text());
        let seen: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let expected = json!({
            "status": 0,
            "where": place,
            "event": 2,
            "transaction": transaction,
            "committed": sops(&images),
            "failed": [["2.25.404", 0x0112]],
        });
        assert_eq!(seen, expected, "{options:?}\n{}", server.log_text());
    }
}

/// A folder with files of these images.
fn files(images: &[Image]) -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().expect("folder");
    for image in images {
        let mut meta = Vec::new();
        for (element, uid) in [
            (0x0002, CT_IMAGE_STORAGE),
            (0x0003, &image.sop),
            (0x0010, IMPLICIT_LITTLE),
        ] {
            let tag = Tag(0x0002, element);
            put(
                &mut meta,
                Syntax::EXPLICIT_LITTLE,
                tag,
                "UI",
                uid.as_bytes(),
            );
        }
        let mut file = vec![0; 128];
        file.extend(b"DICM");
        file.extend(&meta);
        file.extend(&image.data_set);
        let path = folder.path().join(format!("{}.dcm", image.sop));
        std::fs::write(path, file).expect("write");
    }
    folder
}

/// Method: the other is a Kura too, which reports over the same association; with our server running, and without.
#[test]
fn what_was_sent_is_asked_for_over_the_same_association() {
    let images = images::images(1, 4);
    let other = Server::start();
    other.wait_until_indexed();
    let mut server = Server::with(Settings::default().peer("OTHER", other.port()));
    let folder = files(&images);
    let arguments = [
        "send",
        folder.path().to_str().expect("path"),
        "--to",
        "OTHER",
        "--commit",
    ];
    for _ in 0..2 {
        let outcome = server.kura(&arguments);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
        assert!(
            outcome.stdout.contains("4 committed, 0 not"),
            "{}",
            outcome.text()
        );
        server.kill();
    }
}

struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Method: pynetdicom as the archive reports over an association of its own, as SCP by role selection, to our server.
#[test]
fn a_report_over_another_association_finds_the_question() {
    let images = images::images(1, 4);
    let port = free_port();
    let server = Server::with(Settings::default().peer("KEEPER", port));
    let Some(mut script) = peer_script("commitment.py") else {
        return;
    };
    let child = script
        .arg("keep")
        .args(["--port", &server.port().to_string()])
        .args(["--listen", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let mut keeper = Keeper(child);
    let mut said = BufReader::new(keeper.0.stdout.take().expect("output"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "listening\n");
    let folder = files(&images);
    let arguments = [
        "send",
        folder.path().to_str().expect("path"),
        "--to",
        "KEEPER",
        "--commit",
    ];
    let outcome = server.kura(&arguments);
    let text = outcome.text();
    assert_eq!(outcome.code, Some(3), "{text}");
    assert!(outcome.stdout.contains("3 committed, 1 not"), "{text}");
    let bad = images
        .iter()
        .find(|image| image.sop.ends_with('3'))
        .expect("one");
    let named = format!("{}: 0110H processing failure", bad.sop);
    assert!(outcome.stdout.contains(&named), "{text}");
    line.clear();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "told 0000 of 4\n");
}
