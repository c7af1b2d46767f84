//! Rejection notes as image managers send them: what they name is hidden or removed where the configuration says so, and
//! only then; success to their sender means that it was done.

mod common;

use common::copies::kura;
use common::images::{self, ALL, GET, Image, assert_come_back, assert_found, found, send_all};
use common::tools::{peer_script, run};
use common::{Server, Settings, build};

/// PS3.16 CID 7011, the rows about rejection, and their keys in `[rejection]`.
const TITLES: [(&str, &str); 4] = [
    ("113001", "quality"),
    ("113037", "patient_safety"),
    ("113038", "worklist"),
    ("113039", "retention_expired"),
];

fn with_rejection(lines: &str) -> Server {
    let server = Server::with(Settings {
        extra: format!("[rejection]\n{lines}\n"),
        ..Settings::default()
    });
    server.wait_until_indexed();
    server
}

/// Sends a note about these instances of one study; the status and comment of the answer. None where there is no Python.
fn note(server: &Server, uid: &str, title: &str, images: &[Image]) -> Option<(String, String)> {
    let mut script = peer_script("rejection_note.py")?;
    let study = &images[0].study;
    let port = server.port().to_string();
    script.args([&port, uid, title, study, &format!("{study}.1")]);
    let outcome = run(script.args(images.iter().map(|image| &image.sop)));
    assert!(outcome.success(), "{}", outcome.text());
    let (status, comment) = outcome.stdout.trim_end().split_once(' ').or_else(|| {
        // Nothing behind the status.
        outcome.stdout.trim_end().split_at_checked(4)
    })?;
    Some((status.to_owned(), comment.to_owned()))
}

/// What a study answers now: these images and these notes.
fn assert_answers(server: &Server, study: &str, images: &[Image], notes: &[&str]) {
    let mut expected: Vec<String> = images.iter().map(|image| image.sop.clone()).collect();
    expected.extend(notes.iter().map(|uid| uid.to_string()));
    expected.sort();
    assert_eq!(found(server, study), expected);
}

fn changes_in_trash(server: &Server) -> Vec<serde_json::Value> {
    let list = server.kura_json(&["trash", "list"]);
    list["items"].as_array().expect("items").clone()
}

/// Method: each title against each setting, on a study of its own; then the index is made anew.
#[test]
fn each_kind_of_note_does_what_is_configured_for_it() {
    for (action, removed) in [
        ("ignore", None),
        ("hide", Some(false)),
        ("remove", Some(true)),
    ] {
        let lines: Vec<String> = TITLES
            .iter()
            .map(|(_, key)| format!("{key} = \"{action}\""))
            .collect();
        let server = with_rejection(&lines.join("\n"));
        let all = images::images(TITLES.len() as u32, 4);
        send_all(&server, &all);
        let studies: Vec<&[Image]> = all.chunks(4).collect();
        for (at, (title, _)) in TITLES.iter().enumerate() {
            let uid = format!("2.25.8{at}");
            let Some((status, comment)) = note(&server, &uid, title, &studies[at][..3]) else {
                return;
            };
            assert_eq!(status, "0000", "{title}: {comment}");
        }
        let in_trash = match removed {
            Some(true) => TITLES.len(),
            _ => 0,
        };
        for again in [false, true] {
            if again {
                kura(&server, &["index", "rebuild"]);
                server.wait_until_indexed();
            }
            for (at, _) in TITLES.iter().enumerate() {
                let left = match removed {
                    None => studies[at],
                    Some(_) => &studies[at][3..],
                };
                let uid = format!("2.25.8{at}");
                assert_answers(&server, &studies[at][0].study, left, &[&uid]);
            }
            assert_eq!(changes_in_trash(&server).len(), in_trash, "{action}");
        }
    }
}

/// Method: of everything else that is a Key Object Selection nothing follows.
#[test]
fn other_key_objects_are_instances_like_any_other() {
    let server = with_rejection("quality = \"remove\"\npatient_safety = \"remove\"");
    let all = images::images(1, 3);
    send_all(&server, &all);
    // Of Interest; and a title of rejection that is not heeded here.
    for (uid, title) in [("2.25.80", "113000"), ("2.25.81", "113039")] {
        let Some((status, comment)) = note(&server, uid, title, &all) else {
            return;
        };
        assert_eq!(status, "0000", "{comment}");
    }
    assert_answers(&server, &all[0].study, &all, &["2.25.80", "2.25.81"]);
    assert!(changes_in_trash(&server).is_empty());
}

/// Method: the note comes again, is taken back by a person, and comes once more.
#[test]
fn a_note_is_heeded_once_and_a_person_has_the_last_word() {
    let server = with_rejection("quality = \"hide\"\nworklist = \"remove\"");
    let all = images::images(2, 3);
    send_all(&server, &all);
    for _ in 0..2 {
        let Some((status, _)) = note(&server, "2.25.80", "113001", &all[..3]) else {
            return;
        };
        assert_eq!(status, "0000");
        assert_answers(&server, &all[0].study, &[], &["2.25.80"]);
    }
    let hidden = number_in_log(&server);
    kura(&server, &["conflicts", "undo", &hidden, "--yes"]);
    assert_answers(&server, &all[0].study, &all[..3], &["2.25.80"]);
    note(&server, "2.25.80", "113001", &all[..3]);
    assert_answers(&server, &all[0].study, &all[..3], &["2.25.80"]);

    note(&server, "2.25.81", "113038", &all[3..]);
    let items = changes_in_trash(&server);
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["way"], "rejection note from MANAGER", "{items:?}");
    assert_eq!(items[0]["kept_count"], 3, "{items:?}");
    let study = &all[3].study;
    kura(&server, &["trash", "restore", "--study", study, "--yes"]);
    assert_answers(&server, study, &all[3..], &["2.25.81"]);
}

/// Number of the last correction that was put in effect.
fn number_in_log(server: &Server) -> String {
    let log = server.log_text();
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("a correction is in effect"));
    let line = line.expect("a correction");
    let (_, rest) = line.split_once("number=").expect("its number");
    rest.split(' ').next().expect("its number").to_owned()
}

/// Method: the note names what is protected, and what is not here; it is kept, and its sender knows.
#[test]
fn a_note_that_cannot_be_heeded_is_kept_and_not_called_a_success() {
    let server = with_rejection("quality = \"remove\"");
    let all = images::images(2, 3);
    send_all(&server, &all);
    let study = all[0].study.as_str();
    kura(
        &server,
        &[
            "protect",
            "--study",
            study,
            "--reason",
            "a court asks for it",
        ],
    );
    let Some((status, comment)) = note(&server, "2.25.80", "113001", &all[..3]) else {
        return;
    };
    assert_eq!(status, "A700", "{comment}");
    assert!(
        comment.contains("the rejection note is stored"),
        "{comment}"
    );
    assert_answers(&server, study, &all[..3], &["2.25.80"]);
    let status = server.kura_json(&["status"]);
    let actions = status["actions"].as_array().expect("actions");
    let says = |action: &serde_json::Value| action.as_str().is_some_and(|a| a.contains("2.25.80"));
    assert!(actions.iter().any(says), "{status}");
    // Sent again when the protection is lifted, it is heeded.
    kura(
        &server,
        &["protect", "--study", study, "--off", "--reason", "done"],
    );
    let again = note(&server, "2.25.80", "113001", &all[..3]).expect("Python");
    assert_eq!(again.0, "0000", "{}", again.1);
    assert_eq!(server.kura_json(&["status"])["state"], "ok");
    assert_answers(&server, study, &[], &["2.25.80"]);
    // The study of the note is not theirs, and of the others nothing is here.
    let mut strangers = images::images(1, 2);
    strangers[0].study.clone_from(&all[3].study);
    strangers[0].sop = "2.25.4711".into();
    strangers[1].sop.clone_from(&all[3].sop);
    strangers[0].study = "2.25.99".into();
    let passed = note(&server, "2.25.82", "113001", &strangers).expect("Python");
    assert_eq!(passed.0, "0000", "{}", passed.1);
    assert_found(&server, &all[3..]);
    assert_come_back(&server, &all[3..]);
    let mut client = server.associate(ALL);
    let got = client.c_get(GET, &build::by_uids("STUDY", study, None, None));
    // The note itself; its class was not asked for.
    assert_eq!(got.expect("C-GET").received.len(), 0);
    client.release().expect("release");
}
