//! Promise: what a person changed stays changed when the sender sends the old images again, what was removed comes back
//! only when nothing of it is left, and which of two data sets is answered is the hospital's to say.

mod common;

use std::path::Path;

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, by_uids, ident};
use common::images::{ALL, FIND, GET, STORE, tree};
use common::{Client, Part10, Server, Settings, elements, files, tools};

const SOP: Tag = Tag(0x0008, 0x0018);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);

fn server(tables: &str) -> Server {
    Server::with(Settings {
        extra: tables.to_owned(),
        ..Settings::default()
    })
}

fn send(server: &Server, calling: &str, ct: &Ct) {
    let mut client =
        Client::associate(server.address(), calling, server.ae_title(), ALL).expect("association");
    let (status, comment) = client
        .c_store(STORE, CT_IMAGE_STORAGE, ct.sop, &ct.encode())
        .expect("C-STORE");
    client.release().expect("release");
    assert_eq!(status, 0, "{calling}: {comment:?}");
}

/// Runs a verb that must do it.
fn kura(server: &Server, arguments: &[&str]) {
    let outcome = server.kura(arguments);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text());
}

/// Patient ID and SOP Instance UID of the instances of a study, as C-FIND answers them.
fn found(server: &Server, study: &str) -> Vec<(String, String)> {
    let query = ident(&[
        (Tag(0x0008, 0x0052), "CS", "IMAGE"),
        (Tag(0x0020, 0x000D), "UI", study),
        (PATIENT_ID, "LO", ""),
        (SOP, "UI", ""),
    ]);
    let mut client = server.associate(ALL);
    let found = client.c_find(FIND, &query).expect("C-FIND");
    client.release().expect("release");
    assert_eq!(found.status, 0, "{:?}", found.comment);
    let text = |answer: &Vec<(Tag, Vec<u8>)>, tag: Tag| {
        elements::find(answer, tag.0, tag.1).unwrap_or_default()
    };
    let answers = found.answers();
    let mut all: Vec<_> = answers
        .iter()
        .map(|answer| (text(answer, PATIENT_ID), text(answer, SOP)))
        .collect();
    all.sort();
    all
}

/// The data set of the only instance of a study.
fn fetched(server: &Server, study: &str) -> Vec<u8> {
    let mut client = server.associate(ALL);
    let identifier = by_uids("STUDY", study, None, None);
    let mut got = client.c_get(GET, &identifier).expect("C-GET");
    client.release().expect("release");
    assert_eq!(got.received.len(), 1, "{:?}", got.moved);
    got.received.remove(0).data_set
}

/// Names of all DICOM files of a volume, wherever they lie.
fn all_files(volume: &Path) -> Vec<std::path::PathBuf> {
    common::images::wait_for_the_journal(volume);
    let mut all = files::below(volume);
    all.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
    all
}

fn ids(all: &[(String, String)]) -> Vec<&str> {
    all.iter().map(|(id, _)| id.as_str()).collect()
}

/// Method: a study is amended; the modality sends the old image again, by storescu where there is one, and a new one of
/// the same study; the amendment is undone.
#[test]
fn an_amended_study_stays_amended_whatever_the_modality_sends() {
    let mut server = server("");
    let old = Ct::new("2.25.401", "2.25.401.1", "2.25.401.1.1");
    send(&server, "CT1", &old);
    let file = tree(&server.volume("A")).remove(0);
    let part10 = std::fs::read(&file).expect("read");
    kura(
        &server,
        &[
            "amend",
            "--study",
            old.study,
            "--patient-id",
            "RIGHT",
            "--reason",
            "wrong",
            "--now",
            "--yes",
        ],
    );
    assert_eq!(ids(&found(&server, old.study)), ["RIGHT"]);
    let amended = fetched(&server, old.study);
    for round in 0..2 {
        if round == 1 {
            assert!(server.terminate().success());
            std::fs::remove_dir_all(server.state().join("index")).expect("remove the index");
            server.restart();
            server.wait_until_indexed();
        }
        let count = all_files(&server.volume("A")).len();
        send(&server, "CT1", &old);
        send(&server, "WORKSTATION", &old);
        match tools::tool("storescu") {
            Some(storescu) => {
                let sent = server.folder().join("sent.dcm");
                std::fs::write(&sent, &part10).expect("write");
                let outcome = tools::run(
                    std::process::Command::new(storescu)
                        .args(["-xi", "-aec", server.ae_title(), "127.0.0.1"])
                        .arg(server.port().to_string())
                        .arg(sent),
                );
                assert!(outcome.success(), "{}", outcome.text());
            }
            None => eprintln!("skipped: no storescu"),
        }
        assert_eq!(
            all_files(&server.volume("A")).len(),
            count,
            "something was stored"
        );
        assert_eq!(ids(&found(&server, old.study)), ["RIGHT"]);
        assert!(fetched(&server, old.study) == amended);
        let status = server.kura_json(&["status"]);
        assert_eq!(status["index"]["conflicts_count"], 0, "{status:#}");
    }
    let log = server.log_text();
    assert!(log.contains("a correction withdrew it"), "{log}");

    // A late one is found with the others under the right patient, and is itself as it came.
    let late = Ct {
        number: 2,
        ..Ct::new(old.study, "2.25.401.1", "2.25.401.1.2")
    };
    send(&server, "CT1", &late);
    assert_eq!(ids(&found(&server, old.study)), ["RIGHT", "RIGHT"]);
    let place = |sop: &str| {
        let files = all_files(&server.volume("A")).into_iter();
        let files = files.map(|path| Part10::read(&path).expect("a DICOM file"));
        let mut of = files.filter(|file| file.media_sop_instance_uid == sop);
        of.find(|file| file.text(0x0010, 0x0020).as_deref() != Some("TEST-1") || sop == late.sop)
            .expect("its file")
    };
    let (one, other) = (place(old.sop), place(late.sop));
    assert_eq!(one.path.parent(), other.path.parent());
    assert!(other.data_set == late.encode());
    let log = server.log_text();
    assert!(log.contains("name another patient than the study"), "{log}");
    assert!(!log.contains("TEST-1"), "a Patient ID in the log");
    // It is a person's to say what that is.
    let shown = server.kura(&["conflicts", "show"]);
    assert_eq!(shown.code, Some(1), "{}", shown.text());
    assert!(shown.stdout.contains("s-"), "{}", shown.text());

    let outcome = server.kura(&[
        "amend", "--undo", "--study", old.study, "--reason", "no", "--yes",
    ]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert_eq!(ids(&found(&server, old.study)), ["TEST-1", "TEST-1"]);
}

/// Method: a study is removed and sent again while it is in the trash, and after the trash was emptied.
#[test]
fn a_removed_study_comes_back_only_after_its_files_are_gone() {
    let server = server("");
    let ct = Ct::new("2.25.402", "2.25.402.1", "2.25.402.1.1");
    send(&server, "CT1", &ct);
    kura(
        &server,
        &[
            "remove",
            "--study",
            ct.study,
            "--reason",
            "test images",
            "--yes",
        ],
    );
    send(&server, "CT1", &ct);
    assert_eq!(found(&server, ct.study), []);
    kura(&server, &["trash", "empty", "--all", "--yes"]);
    send(&server, "CT1", &ct);
    assert_eq!(ids(&found(&server, ct.study)), ["TEST-1"]);
    assert!(fetched(&server, ct.study) == ct.encode());
    send(&server, "CT1", &ct);
    let status = server.kura_json(&["status"]);
    assert_eq!(status["index"]["instances_count"], 1, "{status:#}");
    assert_eq!(status["index"]["conflicts_count"], 0, "{status:#}");
}

/// Method: one console under a rule and one that is not send other data sets under one UID; then a person undoes what the
/// console's going back did.
#[test]
fn the_newest_of_one_sender_is_answered_where_that_is_the_policy() {
    let server = server("[[duplicates.rule]]\ncalling = \"CT1*\"\npolicy = \"newest\"\n");
    let version = |patient_name, pixel_bytes| Ct {
        patient_name,
        pixel_bytes,
        ..Ct::new("2.25.403", "2.25.403.1", "2.25.403.1.1")
    };
    let (first, second, third) = (version("A", 512), version("A", 600), version("A", 700));
    send(&server, "CT1A", &first);
    send(&server, "CT1A", &second);
    assert!(fetched(&server, first.study) == second.encode());
    // Of another sender, whether or not the rule is for it, the first stays.
    send(&server, "CT1B", &third);
    send(&server, "MR", &third);
    assert!(fetched(&server, first.study) == second.encode());
    send(&server, "CT1A", &first);
    assert!(fetched(&server, first.study) == first.encode());
    assert_eq!(all_files(&server.volume("A")).len(), 3);
    assert_eq!(found(&server, first.study).len(), 1);
    let changes = server.kura(&["changes", "list"]);
    assert!(changes.stdout.contains("CT1A"), "{}", changes.text());

    let other = Ct::new("2.25.404", "2.25.404.1", "2.25.404.1.1");
    let newer = Ct {
        pixel_bytes: 600,
        ..Ct::new("2.25.404", "2.25.404.1", "2.25.404.1.1")
    };
    send(&server, "MR", &other);
    send(&server, "MR", &newer);
    assert!(fetched(&server, other.study) == other.encode());
    let status = server.kura_json(&["status"]);
    assert_eq!(status["index"]["conflicts_count"], 3, "{status:#}");
}
