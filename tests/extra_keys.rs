//! Keys by configuration: what came before a key is found by it too, from the disks alone, whatever interrupts that.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::build::{self, Tag, ident};
use common::elements::{self, Syntax};
use common::images::{self, ALL, FIND, Image, send_all};
use common::{Server, Settings};

const ALERTS: Tag = Tag(0x0010, 0x2000);
const VERSIONS: Tag = Tag(0x0018, 0x1020);
const THICKNESS: Tag = Tag(0x0018, 0x0050);
const PRIVATE: Tag = Tag(0x0009, 0x1010);
const NOWHERE: Tag = Tag(0x0010, 0x2110);

const KEYS: &str = r#"[index]
extra_keys = ["MedicalAlerts", "0018,1020", "SliceThickness@image", "0009,1010:LO@series", "Allergies"]
"#;

const LIMIT: Duration = Duration::from_secs(90);

/// An image with values for all keys but one.
fn image(study: u32, number: u32) -> Image {
    let mut image = Image::new(study, number, 1_000);
    let mut values = elements::elements(&image.data_set);
    for (tag, text) in [
        (ALERTS, format!("Alert {study}")),
        (VERSIONS, format!("V{study}")),
        (THICKNESS, format!("{number}.5")),
        (Tag(0x0009, 0x0010), "SOME MAKER".to_owned()),
        (PRIVATE, format!("own {study}")),
    ] {
        values.push((tag, text.into_bytes()));
    }
    values.sort_by_key(|(tag, _)| *tag);
    image.data_set.clear();
    for (tag, value) in &values {
        build::put(
            &mut image.data_set,
            Syntax::IMPLICIT_LITTLE,
            *tag,
            "LO",
            value,
        );
    }
    image
}

fn images_of(studies: std::ops::Range<u32>, count: u32) -> Vec<Image> {
    studies
        .flat_map(|study| (0..count).map(move |number| image(study, number)))
        .collect()
}

fn settings() -> Settings {
    Settings {
        extra: "[scrub]\ndays = 0\n[mirror]\nwhen = \"before-ack\"\nallow_same_device = true\n"
            .to_owned(),
        ..Settings::default()
    }
    .volume("M", "m", "mirror")
}

/// The answers to one key at a level: what it says, and that of `told`.
fn find(server: &Server, level: &str, key: (Tag, &str), told: &[Tag]) -> Vec<Vec<String>> {
    let mut keys = vec![
        (Tag(0x0008, 0x0052), "CS", level),
        (Tag(0x0020, 0x000D), "UI", ""),
        (key.0, "LO", key.1),
    ];
    keys.extend(
        told.iter()
            .filter(|tag| **tag != key.0)
            .map(|tag| (*tag, "LO", "")),
    );
    let mut client = server.associate(ALL);
    let found = client.c_find(FIND, &ident(&keys)).expect("C-FIND");
    client.release().expect("release");
    assert_eq!(found.status, 0, "{:?}", found.comment);
    let answers = found.answers();
    let mut rows: Vec<Vec<String>> = answers
        .iter()
        .map(|answer| {
            told.iter()
                .map(|tag| elements::raw(answer, tag.0, tag.1).expect("a key that was asked"))
                .map(elements::text)
                .collect()
        })
        .collect();
    rows.sort();
    rows
}

/// Waits until all images are filled; the status of that.
fn wait_until_filled(server: &Server) -> serde_json::Value {
    let start = Instant::now();
    loop {
        let status = server.kura_json(&["status"]);
        if status["extra_keys"]["state"] == "filled" {
            return status["extra_keys"].clone();
        }
        assert!(start.elapsed() < LIMIT, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn assert_all_are_found(server: &Server, studies: u32, count: u32) {
    for study in 0..studies {
        let alert = format!("Alert {study}");
        let uid = format!("2.25.9{study}");
        let told = [Tag(0x0020, 0x000D), ALERTS, NOWHERE];
        let row = [uid.clone(), alert.clone(), String::new()];
        assert_eq!(find(server, "STUDY", (ALERTS, &alert), &told), [row]);
        let told = [Tag(0x0020, 0x000D), VERSIONS, PRIVATE];
        let rows = [[uid.clone(), format!("V{study}"), format!("own {study}")]];
        for key in [(VERSIONS, &*rows[0][1]), (PRIVATE, &*rows[0][2])] {
            assert_eq!(find(server, "SERIES", key, &told), rows);
        }
    }
    for number in 0..count {
        let thickness = format!("{number}.5");
        let told = [Tag(0x0008, 0x0018), THICKNESS];
        let mut rows: Vec<_> = (0..studies)
            .map(|study| vec![format!("2.25.7{study}.{number}"), thickness.clone()])
            .collect();
        rows.sort();
        assert_eq!(find(server, "IMAGE", (THICKNESS, &thickness), &told), rows);
    }
}

fn delete_index(server: &Server) {
    fs::remove_dir_all(server.state().join("index")).expect("delete the index");
}

/// Lines of the ledger of a volume that say values found later.
fn lines_of(volume: &Path) -> usize {
    let ledgers = fs::read_dir(volume.join("ledgers")).expect("ledgers");
    let label = fs::read_to_string(volume.join("kura-volume.json")).expect("label");
    let own = ledgers
        .map(|entry| entry.expect("a ledger").path())
        .find(|path| {
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            label.contains(&*id)
        });
    let own = own.expect("the ledger of the volume");
    let segment = fs::read_to_string(own.join("00000001.jsonl")).expect("segment");
    segment
        .lines()
        .filter(|line| line.contains("\"attributes\":"))
        .count()
}

/// Method: images are stored on two volumes, then keys are configured; the index is deleted, one of the volumes taken
/// away, the keys are taken out of the configuration and put in again.
#[test]
fn images_that_were_there_before_a_key_are_found_by_it() {
    let mut server = Server::with(settings());
    send_all(&server, &images_of(0..3, 4));
    assert!(server.kura_json(&["status"])["extra_keys"].is_null());
    // Not kept, so it limits nothing, and is told as empty.
    let told = [ALERTS];
    let all = find(&server, "STUDY", (ALERTS, "Alert 1"), &told);
    assert_eq!(all, [[""], [""], [""]]);
    assert!(server.terminate().success());

    server.configure(|settings| settings.extra.push_str(KEYS));
    server.restart();
    let status = wait_until_filled(&server);
    assert_eq!(
        (&status["read_count"], &status["left_count"]),
        (&12.into(), &0.into())
    );
    assert_all_are_found(&server, 3, 4);
    let screen = server.kura(&["status"]).stdout;
    assert!(
        screen.contains("keys    5 extra keys, filled for all images\n"),
        "{screen}"
    );
    // What comes now is known at once.
    send_all(&server, &images_of(3..4, 4));
    assert_all_are_found(&server, 4, 4);
    let (archive, mirror) = (server.volume("A"), server.volume("M"));
    assert_eq!((lines_of(&archive), lines_of(&mirror)), (12, 12));

    assert!(server.terminate().success());
    delete_index(&server);
    server.restart();
    server.wait_until_indexed();
    assert_all_are_found(&server, 4, 4);
    let filled = server.kura_json(&["index", "fill"]);
    assert_eq!(filled["extra_keys"]["read_count"], 0, "{filled}");

    // From the other volume alone.
    assert!(server.terminate().success());
    delete_index(&server);
    let aside = archive.with_extension("aside");
    fs::rename(&archive, &aside).expect("take the disk away");
    fs::remove_dir_all(server.state().join("ledgers")).expect("copies of ledgers");
    server.restart();
    server.wait_until_indexed();
    assert_all_are_found(&server, 4, 4);
    assert!(server.terminate().success());
    fs::rename(&aside, &archive).expect("bring the disk back");

    server.configure(|settings| settings.extra = settings.extra.replace(KEYS, ""));
    server.restart();
    server.wait_until_indexed();
    let all = find(&server, "STUDY", (ALERTS, "Alert 1"), &told);
    assert_eq!(all, [["Alert 0"], ["Alert 1"], ["Alert 2"], ["Alert 3"]]);
    // Kept as the others were, but for these keys.
    send_all(&server, &images_of(4..5, 4));
    assert!(server.terminate().success());
    server.configure(|settings| settings.extra.push_str(KEYS));
    server.restart();
    assert_eq!(wait_until_filled(&server)["read_count"], 4);
    assert_all_are_found(&server, 5, 4);
    assert_eq!(lines_of(&archive), 16);
}

/// Method: the process is killed at its start, after the first line and as more come; then the index is deleted.
#[test]
fn a_kill_while_filling_loses_nothing() {
    let mut server = Server::with(settings());
    let (studies, count) = (24, 5);
    send_all(&server, &images_of(0..studies, count));
    assert!(server.terminate().success());
    server.configure(|settings| settings.extra.push_str(KEYS));
    for lines in [0, 1, 20, 50, 90] {
        server.restart();
        let start = Instant::now();
        while lines_of(&server.volume("M")) < lines {
            assert!(start.elapsed() < LIMIT, "{lines} lines");
            std::thread::sleep(Duration::from_millis(2));
        }
        server.kill();
    }
    server.restart();
    let status = wait_until_filled(&server);
    assert_eq!(status["left_count"], 0, "{status}");
    assert_all_are_found(&server, studies, count);
    server.kill();
    delete_index(&server);
    server.restart();
    server.wait_until_indexed();
    assert_all_are_found(&server, studies, count);
    let filled = server.kura_json(&["index", "fill"]);
    assert_eq!(filled["extra_keys"]["read_count"], 0, "{filled}");
}

/// Method: a study is amended; then keys are configured; then the amendment is taken back.
#[test]
fn an_amended_study_is_filled_from_what_is_answered() {
    let mut server = Server::with(settings());
    send_all(&server, &images_of(0..2, 3));
    let amended = server.kura(&[
        "amend",
        "--study",
        "2.25.90",
        "--patient-id",
        "4712",
        "--reason",
        "wrong",
        "--yes",
        "--now",
        "--merge-patients",
    ]);
    assert!(amended.success(), "{}", amended.text());
    assert!(server.terminate().success());
    server.configure(|settings| settings.extra.push_str(KEYS));
    server.restart();
    assert_eq!(wait_until_filled(&server)["left_count"], 0);
    assert_all_are_found(&server, 2, 3);
    let undone = server.kura(&[
        "amend", "--undo", "--study", "2.25.90", "--reason", "right", "--yes",
    ]);
    assert!(undone.success(), "{}", undone.text());
    let filled = server.kura_json(&["index", "fill"]);
    assert_eq!(filled["extra_keys"]["left_count"], 0, "{filled}");
    assert_all_are_found(&server, 2, 3);
    images::assert_come_back(&server, &images_of(0..2, 3));
    server.kill();
    delete_index(&server);
    server.restart();
    server.wait_until_indexed();
    assert_all_are_found(&server, 2, 3);
}

/// Method: two makers reserved the block that is configured, one of them another block in a third study; asked with the
/// creator of one and without.
#[test]
fn a_private_key_is_found_by_its_number_whoever_reserved_it() {
    let mut settings = settings();
    settings.extra.push_str(KEYS);
    let server = Server::with(settings);
    let image = |study: u32, creator: &str, block: u16| {
        let mut image = Image::new(study, 1, 1_000);
        let mut values = elements::elements(&image.data_set);
        values.push((Tag(0x0009, block), creator.as_bytes().to_vec()));
        values.push((Tag(0x0009, block << 8 | 0x10), b"same".to_vec()));
        values.sort_by_key(|(tag, _)| *tag);
        image.data_set.clear();
        for (tag, value) in &values {
            let syntax = Syntax::IMPLICIT_LITTLE;
            build::put(&mut image.data_set, syntax, *tag, "LO", value);
        }
        image
    };
    let all = [
        image(0, "MAKER A", 0x10),
        image(1, "MAKER B", 0x10),
        image(2, "MAKER A", 0x11),
    ];
    send_all(&server, &all);
    let told = [Tag(0x0020, 0x000D)];
    let both = [["2.25.90"], ["2.25.91"]];
    assert_eq!(find(&server, "SERIES", (PRIVATE, "same"), &told), both);
    let identifier = ident(&[
        (Tag(0x0008, 0x0052), "CS", "SERIES"),
        (Tag(0x0009, 0x0010), "LO", "MAKER A"),
        (PRIVATE, "LO", "same"),
    ]);
    let mut client = server.associate(ALL);
    let found = client.c_find(FIND, &identifier).expect("C-FIND");
    client.release().expect("release");
    assert_eq!((found.status, found.answers().len()), (0, 2));
}

/// Method: the verb without a server; a key that cannot be kept.
#[test]
fn keys_are_filled_without_a_server_and_refused_in_words() {
    let mut server = Server::with(settings());
    send_all(&server, &images_of(0..2, 2));
    assert!(server.terminate().success());
    let none = server.kura(&["index", "fill"]);
    assert!(
        none.success() && none.stdout.contains("no extra keys"),
        "{}",
        none.text()
    );
    server.configure(|settings| settings.extra.push_str(KEYS));
    let filled = server.kura_json(&["index", "fill"]);
    assert_eq!(filled["extra_keys"]["read_count"], 4, "{filled}");
    server.restart();
    server.wait_until_indexed();
    assert_all_are_found(&server, 2, 2);
    assert!(server.terminate().success());
    server.configure(|settings| {
        settings.extra = settings
            .extra
            .replace("SliceThickness@image", "SliceThickness")
    });
    let refused = server.kura(&["status"]);
    assert_eq!(refused.code, Some(3), "{}", refused.text());
    assert!(
        refused
            .stderr
            .contains("\"SliceThickness\" has no usual level"),
        "{}",
        refused.text()
    );
}
