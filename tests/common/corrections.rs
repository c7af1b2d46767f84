//! Studies that are amended and removed, and what becomes of their files.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::build::{Tag, ident};
use super::copies::kura;
use super::images::{ALL, FIND, Image};
use super::{Server, elements};

/// How long files may take to be moved or deleted before a test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// The study of an image becomes that of another patient; the number of the change.
pub fn amended(server: &Server, image: &Image, patient: &str) -> u64 {
    let said = server.kura_json(&[
        "amend",
        "--study",
        &image.study,
        "--patient-id",
        patient,
        "--name",
        "RIGHT^PERSON",
        "--now",
        "--yes",
        "--reason",
        "wrong patient",
    ]);
    said["change"]["number"].as_u64().expect("a number")
}

pub fn undone(server: &Server, number: u64) {
    let number = number.to_string();
    kura(server, &["amend", "--undo", "--yes", "--number", &number]);
}

/// The study of an image goes to the trash; the number of the change.
pub fn removed(server: &Server, image: &Image) -> u64 {
    let said = server.kura_json(&[
        "remove",
        "--study",
        &image.study,
        "--reason",
        "sent by mistake",
        "--who",
        "yamada",
        "--yes",
    ]);
    said["number"].as_u64().expect("a number")
}

pub fn wait_until_kept(server: &Server, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let kept = server.kura_json(&["status"])["kept"].clone();
        if is_so(&kept) {
            return kept;
        }
        assert!(begun.elapsed() < LIMIT, "not {what}: {kept}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until so many files are below `superseded/` and `trash/`, and none waits to be moved there.
pub fn wait_until_aside(server: &Server, superseded: u64, trash: u64) {
    let what = format!("{superseded} superseded and {trash} in the trash");
    wait_until_kept(server, &what, |kept| {
        kept["superseded_files_count"] == superseded
            && kept["trash_files_count"] == trash
            && kept["in_tree_files_count"] == 0
    });
}

/// Instances that queries find of a patient.
pub fn instances_of(server: &Server, patient: &str) -> u64 {
    let keys = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0010, 0x0020), "LO", patient),
        (Tag(0x0020, 0x1208), "IS", ""),
    ]);
    let begun = Instant::now();
    loop {
        let mut client = server.associate(ALL);
        let found = client.c_find(FIND, &keys).expect("C-FIND");
        client.release().expect("release");
        if found.status == 0 {
            let count = |answer: &Vec<(Tag, Vec<u8>)>| {
                let count = elements::find(answer, 0x0020, 0x1208);
                count.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
            };
            return found.answers().iter().map(count).sum();
        }
        assert!(begun.elapsed() < LIMIT, "{:?}", found.comment);
        std::thread::sleep(Duration::from_millis(20));
    }
}
