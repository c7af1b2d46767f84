//! Amendments: the wrong patient, a series of another study; and back.
//!
//! What is answered is all old or all new, at every moment and after every crash, and nothing of a data set is changed but
//! what was asked for.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::build::{self, Ct, Tag, by_uids, ident};
use common::copies::{kura, wait_until_mirrored, with_mirror};
use common::disks::Tmpfs;
use common::images::{self, ALL, FIND, GET, Image, send_all};
use common::server::Outcome;
use common::tools::{peer_script, run, tool};
use common::{Server, Settings, Sink, elements, wire};
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
    // Nothing is left to be taken back.
    let screen = server.kura(&["changes", "list"]);
    assert!(screen.stdout.contains("taken back"), "{}", screen.text());
}

/// An image of a study, series and patient.
fn image(study: &str, series: &str, sop: &str, change: impl FnOnce(&mut Ct)) -> Image {
    let mut ct = Ct::new(study, series, sop);
    change(&mut ct);
    Image {
        study: study.to_owned(),
        sop: sop.to_owned(),
        data_set: ct.encode(),
    }
}

/// Method: a study, then a series of another, get new UIDs; the old ones are nobody's any more until it is taken back.
#[test]
fn with_new_uids_the_old_ones_are_gone_until_it_is_taken_back() {
    let server = Server::start();
    server.wait_until_indexed();
    let images = images::images(1, 6);
    send_all(&server, &images);
    let old = images[0].study.clone();
    let before = totals(&server);
    amended(
        &server,
        &["--study", &old, "--patient-id", "NEW-1", "--new-uids"],
    );
    assert!(images::found(&server, &old).is_empty());
    assert!(ask(&server, "IMAGE", &[(SOP, &images[0].sop)], &[STUDY]).is_empty());
    let studies = studies_of(&server, "NEW-1");
    assert_eq!(studies.len(), 1);
    assert_eq!(studies[0][1], "6");
    let new = studies[0][0].clone();
    assert!(new.starts_with("2.25.") && new != old, "{new}");
    assert_eq!(totals(&server), before);
    let after = fetched(&server, &new);
    assert_eq!(after.len(), 6);
    let mut from: Vec<&Image> = images.iter().collect();
    for (sop, data_set) in &after {
        assert_eq!(text(data_set, SOP).as_ref(), Some(sop));
        assert_eq!(text(data_set, STUDY).as_ref(), Some(&new));
        // Each of another old one, by its pixels.
        let same = |image: &&Image| {
            let changed = [SOP, ID, STUDY, SERIES, ORIGINALS];
            differing(&image.data_set, data_set) == changed
        };
        let at = from.iter().position(same).expect("its old one");
        from.remove(at);
    }
    let series = ask(&server, "SERIES", &[(STUDY, &new)], &[SERIES]);
    assert_ne!(series[0][0], format!("{old}.1"));
    undone(&server, &["--study", &old]);
    assert!(images::found(&server, &new).is_empty());
    assert_eq!(fetched(&server, &old), all_data_sets(&images));
    assert_eq!(totals(&server), before);
}

/// Method: a series goes to a study of another patient, one of its instances to a new study, then back in turn; every
/// count and every data set is looked at.
#[test]
fn a_series_or_an_instance_moves_to_another_study_and_takes_its_values() {
    let server = Server::start();
    server.wait_until_indexed();
    let (from, to) = ("2.25.501", "2.25.502");
    let mut images = Vec::new();
    for series in 1..=2 {
        for number in 1..=4 {
            let sop = format!("{from}.{series}.{number}");
            images.push(image(from, &format!("{from}.{series}"), &sop, |ct| {
                (ct.patient_id, ct.patient_name) = ("P-1", "ONE^PATIENT");
            }));
        }
    }
    let other = image(to, "2.25.502.1", "2.25.502.1.1", |ct| {
        (ct.patient_id, ct.patient_name) = ("P-2", "TWO^PATIENT");
        ct.study_date = "20250203";
    });
    send_all(&server, &images);
    send_all(&server, std::slice::from_ref(&other));
    assert_eq!(totals(&server), [2, 3, 9]);
    let moved = format!("{from}.2");
    // Patient and study are not a series' own.
    let outcome = amend(&server, &["--series", &moved, "--patient-id", "P-2"]);
    refused(&outcome, &["only the whole study", "--to-study"]);
    let outcome = amend(
        &server,
        &["--series", &moved, "--to-study", to, "--sex", "M"],
    );
    refused(&outcome, &["says whose it is", "nothing was changed"]);

    let first = amended(&server, &["--series", &moved, "--to-study", to]);
    assert_eq!(totals(&server), [2, 3, 9]);
    assert_eq!(studies_of(&server, "P-1"), [[from, "4"]]);
    assert_eq!(studies_of(&server, "P-2"), [[to, "5"]]);
    let series = ask(
        &server,
        "SERIES",
        &[(STUDY, to)],
        &[SERIES, SERIES_INSTANCES],
    );
    assert_eq!(series, [[&*moved, "4"], ["2.25.502.1", "1"]]);
    let after = fetched(&server, to);
    assert_eq!(after.len(), 5);
    for (sop, data_set) in &after {
        assert_eq!(text(data_set, ID).as_deref(), Some("P-2"), "{sop}");
        assert_eq!(
            text(data_set, NAME).as_deref(),
            Some("TWO^PATIENT"),
            "{sop}"
        );
        let date = text(data_set, Tag(0x0008, 0x0020));
        assert_eq!(date.as_deref(), Some("20250203"), "{sop}");
        match images.iter().find(|image| image.sop == *sop) {
            None => assert!(*data_set == other.data_set),
            Some(old) => {
                let tags = differing(&old.data_set, data_set);
                for tag in [NAME, ID, STUDY, ORIGINALS] {
                    assert!(tags.contains(&tag), "{tag:?}");
                }
                assert!(!tags.contains(&SERIES));
            }
        }
    }

    // One instance to a study that there is none of yet; the rest of its series stays.
    let (sop, new) = (format!("{moved}.1"), "2.25.503");
    let arguments = [
        "--instance",
        &sop,
        "--to-study",
        new,
        "--patient-id",
        "P-3",
        "--name",
        "THREE",
    ];
    let second = amended(&server, &arguments);
    assert_eq!(totals(&server), [3, 4, 9]);
    assert_eq!(studies_of(&server, "P-3"), [[new, "1"]]);
    assert_eq!(studies_of(&server, "P-2"), [[to, "4"]]);
    let series = ask(&server, "SERIES", &[(STUDY, new)], &[SERIES]);
    assert_ne!(series, [[moved.clone()]], "one series in two studies");
    // Back by amending it is in a series of its own; only taking back makes it as it was.
    let third = amended(&server, &["--instance", &sop, "--to-study", to]);
    assert_eq!(totals(&server), [2, 4, 9]);

    // Not in another order than the last first.
    let early = server.kura(&["amend", "--undo", "--number", &first.to_string(), "--yes"]);
    refused(&early, &[&format!("--number {third}")]);
    for number in [third, second, first] {
        undone(&server, &["--number", &number.to_string()]);
    }
    assert_eq!(totals(&server), [2, 3, 9]);
    assert_eq!(fetched(&server, from), all_data_sets(&images));
    assert_eq!(fetched(&server, to), all_data_sets(&[other]));
    assert!(server.kura(&["index", "rebuild"]).success());
    assert_eq!(totals(&server), [2, 3, 9]);
    assert_eq!(fetched(&server, from), all_data_sets(&images));
}

#[test]
fn a_study_takes_the_patient_of_another_or_becomes_part_of_it() {
    let server = Server::start();
    server.wait_until_indexed();
    let one = image("2.25.511", "2.25.511.1", "2.25.511.1.1", |ct| {
        ct.patient_id = "P-1"
    });
    let other = image("2.25.512", "2.25.512.1", "2.25.512.1.1", |ct| {
        (ct.patient_id, ct.patient_name) = ("P-2", "TWO^PATIENT");
        ct.study_date = "20250203";
    });
    send_all(&server, &[one.clone(), other.clone()]);
    amended(
        &server,
        &["--study", &one.study, "--to-patient-of-study", &other.study],
    );
    assert_eq!(studies_of(&server, "P-2").len(), 2);
    let date = Tag(0x0008, 0x0020);
    let found = ask(&server, "STUDY", &[(STUDY, &one.study)], &[NAME, date]);
    assert_eq!(found, [["TWO^PATIENT", "20260115"]]);
    let (_, data_set) = &fetched(&server, &one.study)[0];
    assert_eq!(differing(&one.data_set, data_set)[..2], [NAME, ID]);

    amended(
        &server,
        &["--study", &one.study, "--to-study", &other.study],
    );
    assert_eq!(totals(&server), [1, 2, 2]);
    assert!(images::found(&server, &one.study).is_empty());
    undone(&server, &["--study", &one.study]);
    undone(&server, &["--study", &one.study]);
    assert_eq!(fetched(&server, &one.study), all_data_sets(&[one]));
    assert_eq!(studies_of(&server, "P-2"), [[&*other.study, "1"]]);
}

/// Method: one data set that declares no character set, one that declares the Japanese one; a name in three groups.
#[test]
fn a_japanese_name_is_written_where_the_character_set_has_it() {
    let server = Server::start();
    server.wait_until_indexed();
    let plain = image("2.25.521", "2.25.521.1", "2.25.521.1.1", |ct| {
        ct.patient_id = "P-1";
    });
    let mut japanese = image("2.25.522", "2.25.522.1", "2.25.522.1.1", |ct| {
        ct.patient_id = "P-2";
    });
    let mut charset = Vec::new();
    let declared = b"\\ISO 2022 IR 87";
    let syntax = elements::Syntax::IMPLICIT_LITTLE;
    build::put(&mut charset, syntax, Tag(0x0008, 0x0005), "CS", declared);
    charset.extend(&japanese.data_set);
    japanese.data_set = charset;
    send_all(&server, &[plain.clone(), japanese.clone()]);
    let name = "YAMADA^TARO=山田^太郎=やまだ^たろう";
    let outcome = amend(&server, &["--study", &plain.study, "--name", name]);
    refused(
        &outcome,
        &["lacks a character", "nothing was changed", "--utf8"],
    );
    amended(&server, &["--study", &japanese.study, "--name", name]);
    amended(
        &server,
        &["--study", &plain.study, "--name", name, "--utf8"],
    );
    let found = server.kura_json(&["find", "PatientName=*山田*"]);
    let matches = found["matches"].as_array().expect("matches");
    assert_eq!(matches.len(), 2, "{found}");
    for one in matches {
        assert_eq!(one["PatientName"], name, "{found}");
    }
    let (_, after) = &fetched(&server, &japanese.study)[0];
    assert_eq!(differing(&japanese.data_set, after), [NAME, ORIGINALS]);
    let (_, after) = &fetched(&server, &plain.study)[0];
    let all = values(after);
    let utf8 = elements::raw(&all, 0x0010, 0x0010).expect("a name");
    assert!(String::from_utf8_lossy(utf8).contains("山田^太郎"));
    assert_eq!(
        text(after, Tag(0x0008, 0x0005)).as_deref(),
        Some("ISO_IR 192")
    );
}

/// Method: everything that speaks against an amendment, one after the other; the images are as they were after all.
#[test]
fn what_cannot_be_amended_is_refused_with_the_next_step() {
    let mut server =
        Server::with(with_mirror("when = \"immediate\"").volume("B", "volume-b", "archive"));
    server.wait_until_indexed();
    let images = images::images(1, 3);
    let other = image("2.25.531", "2.25.531.1", "2.25.531.1.1", |ct| {
        (ct.patient_id, ct.patient_name) = ("P-2", "TWO^PATIENT");
    });
    send_all(&server, &images);
    send_all(&server, std::slice::from_ref(&other));
    wait_until_mirrored(&server);
    let study = &images[0].study;
    let before = totals(&server);
    let unchanged = |words: &[&str], arguments: &[&str]| {
        let mut all = vec!["nothing was changed"];
        all.extend(words);
        refused(&amend(&server, arguments), &all);
    };
    let long = "x".repeat(65);
    for (words, arguments) in [
        (
            &["no study 1.2.3", "kura find"][..],
            &["--study", "1.2.3", "--sex", "F"][..],
        ),
        (
            &["no series 1.2.3"],
            &["--series", "1.2.3", "--to-study", study],
        ),
        (
            &["no instance 1.2.3"],
            &["--instance", "1.2.3", "--to-study", study],
        ),
        (&["already"], &["--study", study, "--patient-id", "TEST-1"]),
        (&["already"], &["--study", study, "--to-study", study]),
        (
            &["is that of TWO^PATIENT", "--merge-patients"],
            &["--study", study, "--patient-id", "P-2"],
        ),
        (
            &["PatientID", "64"],
            &["--study", study, "--patient-id", &long],
        ),
        (
            &["PatientBirthDate"],
            &["--study", study, "--birth-date", "1970-01-02"],
        ),
        (
            &["StudyInstanceUID"],
            &["--study", study, "--to-study", "not a UID"],
        ),
        (
            &["no study 1.2.3 whose patient"],
            &["--study", study, "--to-patient-of-study", "1.2.3"],
        ),
    ] {
        unchanged(words, arguments);
    }
    let soon = server.kura(&[
        "amend", "--study", study, "--sex", "F", "--reason", "x", "--yes",
    ]);
    refused(&soon, &["s ago", "nothing was changed", "--now"]);
    let no_reason = server.kura(&["amend", "--study", study, "--sex", "F", "--yes"]);
    assert_eq!(no_reason.code, Some(3), "{}", no_reason.text());
    let never = server.kura(&["amend", "--undo", "--study", study, "--yes"]);
    refused(&never, &["no amendment", "kura changes list"]);

    kura(
        &server,
        &["protect", "--study", study, "--reason", "the court"],
    );
    unchanged(
        &["protected", "the court"],
        &["--study", study, "--sex", "F"],
    );
    let off = ["protect", "--study", study, "--off", "--reason", "over"];
    kura(&server, &off);

    kura(&server, &["volume", "eject", "M"]);
    unchanged(
        &["volume M is away", "kura volume list"],
        &["--study", study, "--sex", "F"],
    );
    kura(&server, &["volume", "eject", "A"]);
    unchanged(
        &["volume A and M", "bring that back"],
        &["--study", study, "--sex", "F"],
    );
    kura(&server, &["volume", "return", "A"]);
    kura(&server, &["volume", "return", "M"]);

    assert_eq!(totals(&server), before);
    assert_eq!(fetched(&server, study), all_data_sets(&images));
    let list = server.kura_json(&["changes", "list"]);
    let did = |change: &Value| change["did"].clone();
    let all: Vec<Value> = list["changes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(did)
        .collect();
    assert_eq!(all, ["protected"], "{list}");
    // With the same identity, or when it is said, the ID may be that of the other study.
    let same = [
        "--study",
        study,
        "--patient-id",
        "P-2",
        "--name",
        "Two^Patient",
    ];
    amended(&server, &same);
    undone(&server, &["--study", study]);
    amended(
        &server,
        &["--study", study, "--patient-id", "P-2", "--merge-patients"],
    );
    undone(&server, &["--study", study]);
    // Without a server it is the same.
    assert!(server.terminate().success());
    let number = amended(&server, &["--study", study, "--sex", "F"]);
    let change = server.kura_json(&["changes", "show", &number.to_string()]);
    assert_eq!(change["after"]["PatientSex"], "F", "{change}");
    server.restart();
    server.wait_until_indexed();
    assert_eq!(fetched(&server, study).len(), 3);
    assert_eq!(
        text(&fetched(&server, study)[0].1, Tag(0x0010, 0x0040)).as_deref(),
        Some("F")
    );
}

/// Method: two images of one instance in two transfer syntaxes, and a conflict of it.
#[test]
fn what_is_kept_beside_the_answered_image_is_amended_too() {
    let server = Server::start();
    server.wait_until_indexed();
    let (study, sop) = ("2.25.541", "2.25.541.1.1");
    let implicit = image(study, "2.25.541.1", sop, |_| {});
    let explicit = image(study, "2.25.541.1", sop, |ct| ct.explicit = true);
    let conflict = image(study, "2.25.541.1", sop, |ct| ct.number = 7);
    send_all(&server, &[implicit.clone(), conflict.clone()]);
    let context: &[(u8, &str, &[&str])] = &[(1, build::CT_IMAGE_STORAGE, &["1.2.840.10008.1.2.1"])];
    let mut client = server.associate(context);
    assert_eq!(explicit.send(&mut client).expect("C-STORE").0, 0);
    client.release().expect("release");
    let counts = |server: &Server| {
        let status = server.kura_json(&["status"]);
        let index = &status["index"];
        ["instances_count", "variants_count", "conflicts_count"].map(|name| index[name].clone())
    };
    assert_eq!(counts(&server), [1, 1, 1]);
    amended(&server, &["--study", study, "--patient-id", "P-9"]);
    assert_eq!(counts(&server), [1, 1, 1]);
    let (_, answered) = &fetched(&server, study)[0];
    assert_eq!(differing(&implicit.data_set, answered), [ID, ORIGINALS]);
    undone(&server, &["--study", study]);
    assert_eq!(counts(&server), [1, 1, 1]);
    assert_eq!(fetched(&server, study), all_data_sets(&[implicit]));
}

/// Method: queries one after the other while a study of 300 images is amended and taken back again and again, and others
/// store; each answer is wholly of one moment.
#[test]
fn queries_during_an_amendment_see_all_old_or_all_new() {
    let server = Server::with(with_mirror("when = \"nightly\"\nwindow = \"03:00-03:01\""));
    server.wait_until_indexed();
    let images = images::images(1, 300);
    send_all(&server, &images);
    let study = &images[0].study;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut old, mut new) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let wanted = [ID, SOP];
                let rows = ask(&server, "IMAGE", &[(STUDY, study)], &wanted);
                assert_eq!(rows.len(), 300);
                assert!(rows.iter().all(|row| row[0] == rows[0][0]), "{:?}", rows[0]);
                match rows[0][0].as_str() {
                    "TEST-1" => old += 1,
                    "P-9" => new += 1,
                    other => panic!("patient {other}"),
                }
                let both = ask(&server, "STUDY", &[(STUDY, study)], &[ID, STUDY_INSTANCES]);
                assert_eq!(both.len(), 1);
                assert_eq!(both[0][1], "300");
            }
            (old, new)
        });
        let storing = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let more: Vec<Image> = (0..10)
                    .map(|n| Image::new(7, count * 10 + n, 1_000))
                    .collect();
                send_all(&server, &more);
                count += 1;
            }
            count * 10
        });
        for _ in 0..4 {
            amended(&server, &["--study", study, "--patient-id", "P-9"]);
            assert_eq!(studies_of(&server, "P-9"), [[&**study, "300"]]);
            undone(&server, &["--study", study]);
        }
        done.store(true, Ordering::Relaxed);
        let (old, new) = asking.join().expect("queries");
        assert!(old > 0 && new > 0, "{old} old, {new} new");
        let stored = storing.join().expect("sender");
        assert_eq!(images::found(&server, "2.25.97").len() as u32, stored);
    });
    assert_eq!(fetched(&server, study), all_data_sets(&images));
}

/// Method: images of the study come while it is amended; those that came before the switch are amended too.
#[test]
fn images_that_come_to_the_study_meanwhile_are_of_the_right_patient_too() {
    let server = Server::start();
    server.wait_until_indexed();
    let images = images::images(1, 200);
    send_all(&server, &images[..100]);
    let study = &images[0].study;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for few in images[100..].chunks(10) {
                send_all(&server, few);
            }
        });
        let outcome = amend(&server, &["--study", study, "--patient-id", "P-9"]);
        sending.join().expect("sender");
        if outcome.code == Some(3) {
            // They came too fast, all the time.
            refused(&outcome, &["all the time"]);
            amended(&server, &["--study", study, "--patient-id", "P-9"]);
        }
    });
    assert_eq!(studies_of(&server, "P-9"), [[&**study, "200"]]);
    assert!(studies_of(&server, "TEST-1").is_empty());
    let by_patient = ask(&server, "IMAGE", &[(ID, "P-9")], &[SOP]);
    assert_eq!(by_patient.len(), 200);
    undone(&server, &["--study", study]);
    assert_eq!(fetched(&server, study), all_data_sets(&images));
}

/// Method: kill -9 at moments all over the amendment, again and again; each time one generation is answered whole, and the
/// next amendment works.
#[test]
fn a_crash_leaves_the_old_images_or_the_new_ones_whole() {
    let mut server = Server::with(with_mirror("when = \"nightly\"\nwindow = \"03:00-03:01\""));
    server.wait_until_indexed();
    let images = images::images(1, 150);
    send_all(&server, &images);
    let study = images[0].study.clone();
    let mut id = "TEST-1".to_owned();
    let begun = Instant::now();
    amended(&server, &["--study", &study, "--patient-id", "P-0"]);
    let usual = begun.elapsed();
    undone(&server, &["--study", &study]);
    let moments = if common::long() { 40 } else { 8 };
    let (mut old, mut new) = (0, 0);
    for moment in 0..moments {
        let next = format!("P-{}", moment + 1);
        std::thread::scope(|scope| {
            let arguments = ["--study", &study, "--patient-id", &next];
            let mut all = vec!["amend"];
            all.extend(arguments);
            all.extend(NOW);
            let mut command = server.command(&all);
            let running = scope.spawn(move || common::tools::run(&mut command));
            std::thread::sleep(usual * (moment + 1) / (moments - 1));
            server.kill();
            running.join().expect("kura amend");
        });
        server.restart();
        server.wait_until_indexed();
        let ids = ask(&server, "STUDY", &[(STUDY, &study)], &[ID, STUDY_INSTANCES]);
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(ids[0][1], "150");
        match ids[0][0] == next {
            true => new += 1,
            false => old += 1,
        }
        if ids[0][0] == next {
            id = next;
        }
        assert_eq!(ids[0][0], id);
        let all = fetched(&server, &study);
        assert_eq!(all.len(), 150);
        for ((sop, data_set), (same, original)) in all.iter().zip(all_data_sets(&images)) {
            assert_eq!(*sop, same);
            assert_eq!(text(data_set, ID).as_deref(), Some(&*id), "{sop}");
            let expected: &[Tag] = if id == "TEST-1" {
                &[]
            } else {
                &[ID, ORIGINALS]
            };
            assert_eq!(differing(&original, data_set), expected, "{sop}");
        }
        assert_eq!(totals(&server), [1, 1, 150]);
        let conflicts = &server.kura_json(&["status"])["index"]["conflicts_count"];
        assert_eq!(*conflicts, 0);
        for name in ["A", "M"] {
            images::wait_until_nothing_is_incoming(&server.volume(name));
        }
    }
    println!("{old} ended as they were, {new} were done");
    assert!(server.kura(&["index", "rebuild"]).success());
    assert_eq!(studies_of(&server, &id), [[&*study, "150"]]);
    amended(&server, &["--study", &study, "--patient-id", "LAST"]);
    assert_eq!(studies_of(&server, "LAST"), [[&*study, "150"]]);
}

/// Method: the command is killed right after it began the work in the server.
#[test]
fn an_amendment_goes_on_when_its_terminal_is_closed() {
    let server = Server::start();
    server.wait_until_indexed();
    let images = images::images(1, 400);
    send_all(&server, &images);
    let study = &images[0].study;
    let mut all = vec!["amend", "--study", study, "--patient-id", "P-9"];
    all.extend(NOW);
    let mut child = server
        .command(&all)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("kura amend");
    let start = Instant::now();
    while images::tree(&server.volume("A")).len() <= 400 {
        assert!(start.elapsed() < LIMIT, "it never began");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("kill the command");
    child.wait().expect("the killed command");
    while studies_of(&server, "P-9").is_empty() {
        assert!(start.elapsed() < LIMIT, "it never came to its end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(studies_of(&server, "P-9"), [[&**study, "400"]]);
}

/// Method: the volume of the study has room for a part of the new files only; then no volume has.
#[test]
fn a_full_volume_is_no_obstacle_while_another_has_room() {
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let root = folder.path().to_owned();
    let Some(_small) = Tmpfs::new(&root.join("volume-a"), "size=24m") else {
        return;
    };
    let Some(_other) = Tmpfs::new(&root.join("volume-b"), "size=24m") else {
        return;
    };
    let settings = Settings {
        extra: "[placement]\nreserve = \"2 MB\"\n".into(),
        ..Settings::default()
    };
    let server = Server::in_folder(settings.volume("B", "volume-b", "archive"), &root);
    server.wait_until_indexed();
    let images: Vec<Image> = (0..150).map(|n| Image::new(1, n, 100_000)).collect();
    send_all(&server, &images);
    let study = &images[0].study;
    amended(&server, &["--study", study, "--patient-id", "P-9"]);
    assert_eq!(studies_of(&server, "P-9"), [[&**study, "150"]]);
    let on_b = images::tree(&server.volume("B")).len();
    assert!(on_b > 0, "nothing is on volume B");
    let outcome = amend(&server, &["--study", study, "--patient-id", "P-10"]);
    refused(
        &outcome,
        &["no archive volume", "no room", "nothing was changed"],
    );
    assert_eq!(studies_of(&server, "P-9"), [[&**study, "150"]]);
    assert_eq!(images::tree(&server.volume("B")).len(), on_b);
    undone(&server, &["--study", study]);
    assert_eq!(fetched(&server, study), all_data_sets(&images));
}

/// Method: a folder of files is served where it lies; its study is amended.
#[test]
fn a_study_of_an_adopted_volume_is_amended_on_an_ordinary_one() {
    let server = Server::start();
    server.wait_until_indexed();
    let source = Server::start();
    source.wait_until_indexed();
    let images = images::images(1, 5);
    send_all(&source, &images);
    images::wait_until_nothing_is_incoming(&source.volume("A"));
    let tree = server.folder().join("old-tree");
    std::fs::create_dir(&tree).expect("folder");
    for (at, path) in images::tree(&source.volume("A")).iter().enumerate() {
        std::fs::copy(path, tree.join(format!("{at}.dcm"))).expect("copy");
    }
    let path = tree.display().to_string();
    kura(&server, &["adopt", &path, "--name", "OLD"]);
    let study = &images[0].study;
    assert_eq!(images::found(&server, study).len(), 5);
    let list = |folder: &std::path::Path| {
        let mut all: Vec<_> = common::files::below(folder)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "dcm"))
            .map(|path| (path.clone(), std::fs::read(path).expect("read")))
            .collect();
        all.sort();
        all
    };
    let before = list(&tree);
    amended(&server, &["--study", study, "--patient-id", "P-9"]);
    assert_eq!(studies_of(&server, "P-9"), [[&**study, "5"]]);
    assert_eq!(images::tree(&server.volume("A")).len(), 5);
    assert!(list(&tree) == before, "the adopted tree was changed");
    undone(&server, &["--study", study]);
    assert_eq!(fetched(&server, study), all_data_sets(&images));
}

/// Method: an image that says another patient comes into a study; it takes the values of its own study, and the others are
/// not touched.
#[test]
fn a_stray_image_takes_the_patient_of_the_study_that_it_is_in() {
    let server = Server::start();
    server.wait_until_indexed();
    let study = "2.25.551";
    let right = image(study, "2.25.551.1", "2.25.551.1.1", |_| {});
    let stray = image(study, "2.25.551.1", "2.25.551.1.2", |ct| {
        (ct.patient_id, ct.patient_name) = ("P-2", "TWO^PATIENT");
    });
    send_all(&server, &[right.clone(), stray.clone()]);
    amended(&server, &["--instance", &stray.sop, "--to-study", study]);
    let after = fetched(&server, study);
    assert_eq!(after[0].1, right.data_set);
    assert_eq!(differing(&stray.data_set, &after[1].1)[..2], [NAME, ID]);
    assert_eq!(text(&after[1].1, ID).as_deref(), Some("TEST-1"));
    assert_eq!(totals(&server), [1, 1, 2]);
    let both = [
        "--instance",
        &stray.sop,
        "--instance",
        &right.sop,
        "--to-study",
        study,
    ];
    refused(&amend(&server, &both), &["already", "nothing was changed"]);
    undone(&server, &["--study", study]);
    assert_eq!(fetched(&server, study), all_data_sets(&[right, stray]));
}

/// Method: C-MOVE to a receiver that takes one image, then waits until the study was amended and its old files were moved.
#[test]
fn a_retrieve_under_way_sends_one_generation_whole() {
    let sink = Sink::start();
    let server = Server::with(Settings::default().peer("SINK", sink.port()));
    server.wait_until_indexed();
    let images = images::images(1, 60);
    send_all(&server, &images);
    let study = images[0].study.clone();
    sink.stall(true);
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let contexts: &[(u8, &str, &[&str])] = &[(1, wire::STUDY_ROOT_MOVE, &[IMPLICIT])];
            let mut client = server.associate(contexts);
            let identifier = by_uids("STUDY", &study, None, None);
            let moved = client.c_move(1, "SINK", &identifier).expect("C-MOVE");
            client.release().expect("release");
            moved
        });
        sink.wait_for(1, LIMIT);
        amended(&server, &["--study", &study, "--patient-id", "P-9"]);
        // The old files leave the tree.
        let superseded = server.volume("A").join("superseded");
        let start = Instant::now();
        while common::files::below(&superseded).len() < 60 {
            assert!(start.elapsed() < LIMIT, "the old files stay in the tree");
            std::thread::sleep(Duration::from_millis(20));
        }
        sink.stall(false);
        let moved = moving.join().expect("C-MOVE");
        assert_eq!(moved.status, 0, "{moved:?}");
    });
    let all = |taken: Vec<common::wire::Received>| {
        let mut all: Vec<_> = taken
            .into_iter()
            .map(|one| (one.sop_instance, one.data_set))
            .collect();
        all.sort();
        all
    };
    assert_eq!(all(sink.take()), all_data_sets(&images));
    assert_eq!(studies_of(&server, "P-9"), [[&*study, "60"]]);
    // And back, with files that come back into the tree.
    undone(&server, &["--study", &study]);
    assert_eq!(fetched(&server, &study), all_data_sets(&images));
}

/// Method: the study of `testdata/` is stored, amended and fetched by DCMTK and read by pydicom.
#[test]
fn other_programs_read_an_amended_study_as_the_right_patients() {
    let (Some(storescu), Some(findscu), Some(getscu), Some(mut compare)) = (
        tool("storescu"),
        tool("findscu"),
        tool("getscu"),
        peer_script("amended.py"),
    ) else {
        return;
    };
    let server = Server::start();
    server.wait_until_indexed();
    let folder = common::files::testdata();
    let paths = ["ct-1", "ct-2", "pt-1", "pt-2"].map(|name| {
        let path = folder.join(format!("petct-{name}.dcm"));
        assert!(path.exists(), "{}", path.display());
        path
    });
    let study = common::files::load("petct-ct-1.dcm")
        .uids()
        .expect("UIDs")
        .study;
    let port = server.port().to_string();
    let node = ["-aet", "TESTER", "-aec", "KURA", "127.0.0.1", &port];
    let stored = run(Command::new(storescu).args(node).args(&paths));
    assert!(stored.success(), "{}", stored.text());
    let arguments = [
        "--study",
        &study,
        "--patient-id",
        "RIGHT-1",
        "--name",
        "Right^Person",
    ];
    amended(&server, &arguments);

    let query = |id: &str| {
        let keys = [
            "-S",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "StudyInstanceUID",
        ];
        let of = format!("PatientID={id}");
        let out = run(Command::new(&findscu)
            .args(node)
            .args(keys)
            .args(["-k", &of]));
        assert!(out.success(), "{}", out.text());
        out.text().contains(&study)
    };
    let old = ask(&server, "STUDY", &[(STUDY, &study)], &[ID]);
    assert_eq!(old, [["RIGHT-1"]]);
    assert!(query("RIGHT-1"));
    let before = common::Part10::read(&paths[0]).expect("a file");
    let before = elements::read(&before.data_set, &before.transfer_syntax).expect("well formed");
    let before = elements::find(&before, 0x0010, 0x0020).unwrap_or_default();
    assert!(!query(&before), "still that of {before}");

    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let of = format!("StudyInstanceUID={study}");
    let keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", &of, "-od"];
    let mut get = Command::new(getscu);
    let got = run(get.args(node).args(keys).arg(scratch.path()));
    assert!(got.success(), "{}", got.text());
    let mut list = String::new();
    for path in common::files::below(scratch.path()) {
        let after = common::Part10::read(&path).expect("a file");
        let sop = after.uids().expect("UIDs").sop_instance;
        let before = paths.iter().find(|before| {
            let file = common::Part10::read(before).expect("a file");
            file.uids().expect("UIDs").sop_instance == sop
        });
        let line = serde_json::json!({
            "before": before.expect("one of them"), "after": path, "utf8": false,
            "changes": { "PatientID": "RIGHT-1", "PatientName": "Right^Person" },
        });
        list.push_str(&format!("{line}\n"));
    }
    assert_eq!(list.lines().count(), 4);
    let path = scratch.path().join("list");
    std::fs::write(&path, list).expect("write into the temporary folder");
    let compared = run(compare.arg(path));
    assert_eq!(compared.stdout.trim(), "compared 4", "{}", compared.text());
}

/// Method: 20,000 images, in the long campaign only; the answers and the memory of the server are looked at.
#[test]
fn a_study_of_twenty_thousand_images_is_amended_whole() {
    if !common::long() {
        println!("skipped: only with KURA_LONG=1");
        return;
    }
    let server = Server::with(with_mirror("when = \"nightly\"\nwindow = \"03:00-03:01\""));
    server.wait_until_indexed();
    let images = images::images(1, 20_000);
    for some in images.chunks(2_000) {
        send_all(&server, some);
    }
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
        let status = status.expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        line.map(str::to_owned).expect("its peak")
    };
    let study = &images[0].study;
    println!("stored: {}", peak());
    let begun = Instant::now();
    amended(&server, &["--study", study, "--patient-id", "P-9"]);
    println!("amended in {:?}: {}", begun.elapsed(), peak());
    assert_eq!(studies_of(&server, "P-9"), [[&**study, "20000"]]);
    let begun = Instant::now();
    undone(&server, &["--study", study]);
    println!("undone in {:?}: {}", begun.elapsed(), peak());
    assert_eq!(studies_of(&server, "TEST-1"), [[&**study, "20000"]]);
}
