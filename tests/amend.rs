//! Amendments: the wrong patient, a series of another study; and back.
//!
//! What is answered is all old or all new, at every moment and after every crash, and nothing of a data set is changed but
//! what was asked for.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::build::{self, Ct, Tag, by_uids, ident};
use common::copies::{assert_same_images, wait_until_mirrored, with_mirror};
use common::images::{self, ALL, FIND, GET, Image, send_all};
use common::server::Outcome;
use common::{Server, Settings, elements, tools};
use serde_json::Value;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const LIMIT: Duration = Duration::from_secs(90);

/// Made a moment ago by this test: complete.
const NOW: [&str; 5] = ["--now", "--yes", "--reason", "wrong patient", "--json"];

fn amend(server: &Server, arguments: &[&str]) -> Outcome {
    let mut all = vec!["amend"];
    all.extend(arguments);
    all.extend(NOW);
    server.kura(&all)
}

/// The number of the change.
fn amended(server: &Server, arguments: &[&str]) -> u64 {
    let outcome = amend(server, arguments);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text());
    let said: Value = serde_json::from_str(&outcome.stdout).expect("one JSON object");
    said["change"]["number"].as_u64().expect("a number")
}

fn undone(server: &Server, arguments: &[&str]) {
    let mut all = vec!["amend", "--undo", "--yes"];
    all.extend(arguments);
    let outcome = server.kura(&all);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text());
}

/// Refused with these words; exit code 3.
fn refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    for words in words {
        assert!(
            outcome.stderr.contains(words),
            "{words}: {}",
            outcome.text()
        );
    }
}

/// Answers at a level, each as (value of each wanted tag).
fn ask(server: &Server, level: &str, keys: &[(Tag, &str)], wanted: &[Tag]) -> Vec<Vec<String>> {
    let mut all = vec![(Tag(0x0008, 0x0052), "CS", level)];
    all.extend(keys.iter().map(|(tag, text)| (*tag, "LO", *text)));
    for tag in wanted {
        if !keys.iter().any(|(known, _)| known == tag) {
            all.push((*tag, "LO", ""));
        }
    }
    let start = Instant::now();
    loop {
        let mut client = server.associate(ALL);
        let found = client.c_find(FIND, &ident(&all)).expect("C-FIND");
        client.release().expect("release");
        if found.status == 0xA700 && start.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        assert_eq!(found.status, 0, "{:?}", found.comment);
        let value = |answer: &Vec<(Tag, Vec<u8>)>, tag: &Tag| {
            elements::find(answer, tag.0, tag.1).unwrap_or_default()
        };
        let answers = found.answers();
        let mut rows: Vec<Vec<String>> = answers
            .iter()
            .map(|answer| wanted.iter().map(|tag| value(answer, tag)).collect())
            .collect();
        rows.sort();
        return rows;
    }
}

const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const SOP: Tag = Tag(0x0008, 0x0018);
const ID: Tag = Tag(0x0010, 0x0020);
const NAME: Tag = Tag(0x0010, 0x0010);
const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
const ACCESSION: Tag = Tag(0x0008, 0x0050);
const STUDY_INSTANCES: Tag = Tag(0x0020, 0x1208);
const SERIES_INSTANCES: Tag = Tag(0x0020, 0x1209);

/// Study Instance UID and number of instances of all studies of a patient.
fn studies_of(server: &Server, id: &str) -> Vec<Vec<String>> {
    ask(server, "STUDY", &[(ID, id)], &[STUDY, STUDY_INSTANCES])
}

/// The data sets of a study as C-GET brings them, by SOP Instance UID.
fn fetched(server: &Server, study: &str) -> Vec<(String, Vec<u8>)> {
    let mut client = server.associate(ALL);
    let identifier = by_uids("STUDY", study, None, None);
    let got = client.c_get(GET, &identifier).expect("C-GET");
    assert_eq!(got.moved.status, 0, "{study}: {:?}", got.moved);
    client.release().expect("release");
    let mut all: Vec<_> = got
        .received
        .into_iter()
        .map(|one| (one.sop_instance, one.data_set))
        .collect();
    all.sort();
    all
}

fn values(data_set: &[u8]) -> Vec<(Tag, Vec<u8>)> {
    elements::read(data_set, IMPLICIT).expect("well formed")
}

fn text(data_set: &[u8], tag: Tag) -> Option<String> {
    elements::find(&values(data_set), tag.0, tag.1)
}

/// Tags of elements that are not byte for byte the same in both.
fn differing(before: &[u8], after: &[u8]) -> Vec<Tag> {
    let (before, after) = (values(before), values(after));
    let mut tags: Vec<Tag> = before.iter().chain(&after).map(|(tag, _)| *tag).collect();
    tags.sort();
    tags.dedup();
    let of = |all: &[(Tag, Vec<u8>)], tag| {
        let found = all.iter().find(|(one, _)| *one == tag);
        found.map(|(_, value)| value.clone())
    };
    tags.retain(|tag| of(&before, *tag) != of(&after, *tag));
    tags
}

const ORIGINALS: Tag = Tag(0x0400, 0x0561);

fn totals(server: &Server) -> [u64; 3] {
    let status = server.kura_json(&["status"]);
    let count = |name: &str| status["index"][name].as_u64().expect("a count");
    ["studies_count", "series_count", "instances_count"].map(count)
}

fn all_data_sets(images: &[Image]) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = images
        .iter()
        .map(|image| (image.sop.clone(), image.data_set.clone()))
        .collect();
    all.sort();
    all
}

/// Method: two studies of one patient; one is amended, looked at on every level and file, the index is made anew, and the
/// amendment is taken back.
#[test]
fn an_amended_study_is_that_of_the_right_patient_everywhere_and_back() {
    let server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let images = images::images(2, 12);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let (first, second) = (images[0].study.clone(), images[12].study.clone());
    let before = totals(&server);
    let arguments = [
        "--study",
        &first,
        "--patient-id",
        "RIGHT-1",
        "--name",
        "RIGHT^PERSON",
        "--birth-date",
        "19700102",
        "--accession",
        "",
    ];
    // First shown, with nothing changed.
    let mut dry = vec!["amend", "--dry-run", "--now", "--reason", "x"];
    dry.extend(arguments);
    let plan = server.kura_json(&dry);
    assert_eq!(plan["instances_count"], 12, "{plan}");
    assert_eq!(plan["before"]["PatientID"], "TEST-1", "{plan}");
    assert_eq!(plan["after"]["PatientID"], "RIGHT-1", "{plan}");
    assert_eq!(plan["before"]["AccessionNumber"], "ACC-1", "{plan}");
    assert_eq!(plan["after"]["AccessionNumber"], "", "{plan}");
    let differs = plan["sample"]["differences"].as_array().expect("a list");
    assert_eq!(differs.len(), 5, "{plan}");
    let unanswered = server.kura(
        &dry[..1]
            .iter()
            .chain(&dry[2..])
            .copied()
            .collect::<Vec<_>>(),
    );
    refused(&unanswered, &["nothing was changed", "--yes"]);
    assert_eq!(studies_of(&server, "TEST-1").len(), 2);

    let number = amended(&server, &arguments);
    let look = || {
        let twelve = "12".to_owned();
        assert_eq!(
            studies_of(&server, "TEST-1"),
            [[second.clone(), twelve.clone()]]
        );
        assert_eq!(
            studies_of(&server, "RIGHT-1"),
            [[first.clone(), twelve.clone()]]
        );
        let study = ask(
            &server,
            "STUDY",
            &[(STUDY, &first)],
            &[ID, NAME, BIRTH_DATE, ACCESSION],
        );
        assert_eq!(study, [["RIGHT-1", "RIGHT^PERSON", "19700102", ""]]);
        let series = ask(
            &server,
            "SERIES",
            &[(STUDY, &first)],
            &[SERIES, SERIES_INSTANCES, ID],
        );
        assert_eq!(series, [[format!("{first}.1"), twelve, "RIGHT-1".into()]]);
        assert_eq!(ask(&server, "IMAGE", &[(ID, "RIGHT-1")], &[SOP]).len(), 12);
        let sops = ask(&server, "IMAGE", &[(STUDY, &first)], &[SOP]);
        let expected: Vec<_> = images[..12]
            .iter()
            .map(|image| [image.sop.clone()])
            .collect();
        let mut expected: Vec<Vec<String>> = expected.into_iter().map(Vec::from).collect();
        expected.sort();
        assert_eq!(sops, expected);
        assert_eq!(totals(&server), before);
    };
    look();
    // The data sets: what was asked for, and the record of it.
    let after = fetched(&server, &first);
    let (old_ones, new_ones) = (all_data_sets(&images[..12]), &after);
    assert_eq!(new_ones.len(), 12);
    for ((sop, old), (same, new)) in old_ones.iter().zip(new_ones) {
        assert_eq!(sop, same);
        let expected = [ACCESSION, NAME, ID, BIRTH_DATE, ORIGINALS];
        assert_eq!(differing(old, new), expected, "{sop}");
        assert_eq!(text(new, ACCESSION), None);
        // The old values and the reason are in it.
        let all = values(new);
        let originals = elements::raw(&all, 0x0400, 0x0561).expect("the sequence");
        let holds = |words: &str| {
            originals
                .windows(words.len())
                .any(|w| w == words.as_bytes())
        };
        for words in [
            "TEST^SYNTHETIC",
            "TEST-1",
            "ACC-1",
            "CORRECT",
            "KURA",
            "TESTER",
        ] {
            assert!(holds(words), "{words}");
        }
    }
    assert_eq!(fetched(&server, &second), all_data_sets(&images[12..]));
    // Two volumes have it, where a study of that patient lies.
    for name in ["A", "M"] {
        let tree = images::tree(&server.volume(name));
        let of_right = |path: &&PathBuf| path.display().to_string().contains("RIGHT-1-");
        assert_eq!(tree.iter().filter(of_right).count(), 12, "volume {name}");
        assert!(images::incoming(&server.volume(name)).is_empty());
    }
    assert!(server.kura(&["index", "rebuild"]).success());
    look();
    assert_eq!(fetched(&server, &first), after);

    // Who, when, why.
    let list = server.kura_json(&["changes", "list", "--study", &first]);
    assert_eq!(list["changes"].as_array().map(Vec::len), Some(1), "{list}");
    let change = server.kura_json(&["changes", "show", &number.to_string()]);
    assert_eq!(change["why"], "wrong patient", "{change}");
    assert_eq!(change["in_effect"], true, "{change}");
    assert_eq!(change["instances_count"], 12, "{change}");
    assert_eq!(
        change["before"]["PatientName"], "TEST^SYNTHETIC",
        "{change}"
    );
    assert_eq!(
        change["volumes"].as_array().map(Vec::len),
        Some(2),
        "{change}"
    );
    let none = server.kura_json(&["changes", "list", "--since", "2999-01-01"]);
    assert_eq!(none["changes"].as_array().map(Vec::len), Some(0), "{none}");

    undone(&server, &["--study", &first]);
    let back = || {
        assert_eq!(studies_of(&server, "TEST-1").len(), 2);
        assert!(studies_of(&server, "RIGHT-1").is_empty());
        assert_eq!(totals(&server), before);
        assert_eq!(fetched(&server, &first), all_data_sets(&images[..12]));
    };
    back();
    assert!(server.kura(&["index", "rebuild"]).success());
    back();
    let change = server.kura_json(&["changes", "show", &number.to_string()]);
    assert_eq!(change["in_effect"], false, "{change}");
    assert_eq!(change["last"]["why"], "taken back", "{change}");
    let again = server.kura(&["amend", "--undo", "--number", &number.to_string(), "--yes"]);
    refused(&again, &["taken back already", "nothing was changed"]);
    let screen = server.kura(&["changes", "list"]);
    assert!(screen.stdout.contains("taken back"), "{}", screen.text());
}
