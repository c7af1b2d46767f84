//! Each kind of conflict is shown with what it is about, settled by one command, and taken back by another.

mod common;

use common::build::{CT_IMAGE_STORAGE, Ct};
use common::copies::kura;
use common::images::{self, Image, STORE, assert_come_back, found, send_all};
use common::wire::IMPLICIT_LITTLE;
use common::{Client, Server};
use serde_json::Value;

fn show(server: &Server) -> Value {
    server.kura_json(&["conflicts", "show"])
}

fn counts(server: &Server) -> [u64; 4] {
    let shown = show(server);
    [
        "duplicates_count",
        "patients_count",
        "studies_count",
        "settled_count",
    ]
    .map(|name| {
        shown[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {shown}"))
    })
}

/// Runs a verb that settles; the number of the change.
fn settle(server: &Server, arguments: &[&str]) -> String {
    let mut all = vec!["conflicts"];
    all.extend(arguments);
    all.extend(["--reason", "looked at it", "--yes"]);
    let done = server.kura_json(&all);
    done["number"]
        .as_u64()
        .unwrap_or_else(|| panic!("{all:?}: {done}"))
        .to_string()
}

/// Another data set under the same UIDs.
fn other(image: &Image, comment_bytes: usize) -> Image {
    let series = format!("{}.1", image.study);
    let ct = Ct {
        number: 77,
        pixel_bytes: comment_bytes,
        ..Ct::new(&image.study, &series, &image.sop)
    };
    Image {
        data_set: ct.encode(),
        ..image.clone()
    }
}

fn send_as(server: &Server, calling: &str, images: &[Image]) {
    let contexts: &[(u8, &str, &[&str])] = &[(STORE, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])];
    let mut client =
        Client::associate(server.address(), calling, "KURA", contexts).expect("association");
    for image in images {
        let (status, comment) = image.send(&mut client).expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("release");
}

fn rebuild(server: &Server) {
    kura(server, &["index", "rebuild"]);
    server.wait_until_indexed();
}

#[test]
fn two_data_sets_under_one_uid_are_told_apart_and_one_is_chosen() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = images::images(1, 2);
    send_as(&server, "CT1", &all);
    let second = other(&all[0], 900);
    send_as(&server, "CT2", std::slice::from_ref(&second));
    assert_eq!(counts(&server), [1, 0, 0, 0]);
    let shown = show(&server);
    let duplicate = &shown["duplicates"][0];
    let id = duplicate["id"].as_str().expect("id");
    assert_eq!(
        duplicate["sop_instance_uid"],
        all[0].sop.as_str(),
        "{shown}"
    );
    let contents = duplicate["contents"].as_array().expect("contents");
    for (content, number, answered, from, bytes, instance_number) in [
        (&contents[0], 1, true, "CT1", all[0].data_set.len(), "0"),
        (&contents[1], 2, false, "CT2", second.data_set.len(), "77"),
    ] {
        assert_eq!(content["number"], number, "{content}");
        assert_eq!(content["answered"], answered, "{content}");
        assert_eq!(content["source_ae_title"], from, "{content}");
        assert_eq!(content["data_bytes"], bytes, "{content}");
        assert_eq!(content["patient_id"], "TEST-1", "{content}");
        assert_eq!(content["volumes"], serde_json::json!(["A"]), "{content}");
        // (0020,0013); by the number of its tag.
        assert_eq!(content["differs"]["2097171"], instance_number, "{content}");
    }
    // With the elements, from the bytes.
    let one = kura(&server, &["conflicts", "show", id]);
    assert!(
        one.contains("K 2: InstanceNumber: \"77\" where the answered one has \"0\""),
        "{one}"
    );
    assert!(one.contains("K 2: PixelData: "), "{one}");
    assert!(
        one.contains(&format!("kura conflicts prefer {id} --content K")),
        "{one}"
    );

    let preferred = settle(&server, &["prefer", id, "--content", "2"]);
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_come_back(&server, &[second.clone(), all[1].clone()]);
        assert_eq!(counts(&server), [0, 0, 0, 1]);
    }
    settle(&server, &["undo", &preferred]);
    assert_come_back(&server, &all);
    assert_eq!(counts(&server), [1, 0, 0, 0]);

    let discarded = settle(&server, &["discard", id, "--content", "1"]);
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_come_back(&server, &[second.clone(), all[1].clone()]);
        assert_eq!(counts(&server), [0, 0, 0, 0]);
    }
    settle(&server, &["undo", &discarded]);
    assert_come_back(&server, &all);
    assert_eq!(counts(&server), [1, 0, 0, 0]);
}

/// Method: the answered one is declared right, then a third comes: that one nobody has looked at.
#[test]
fn a_settled_conflict_shows_again_when_something_else_comes() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = images::images(1, 1);
    send_all(&server, &all);
    send_all(&server, &[other(&all[0], 900)]);
    settle(&server, &["prefer", &all[0].sop, "--content", "1"]);
    assert_eq!(counts(&server), [0, 0, 0, 1]);
    let everything = server.kura_json(&["conflicts", "show", "--all"]);
    assert!(
        everything["duplicates"][0]["settled_by"].is_u64(),
        "{everything}"
    );
    send_all(&server, &[other(&all[0], 700)]);
    assert_eq!(counts(&server), [1, 0, 0, 0]);
    assert_come_back(&server, &all);
}

/// Method: the same object in another transfer syntax.
#[test]
fn a_variant_is_counted_and_no_conflict() {
    let server = Server::start();
    server.wait_until_indexed();
    let image = Image::new(0, 0, 500);
    send_all(&server, std::slice::from_ref(&image));
    let series = format!("{}.1", image.study);
    let explicit = Ct {
        number: 0,
        pixel_bytes: 500,
        explicit: true,
        ..Ct::new(&image.study, &series, &image.sop)
    };
    let syntax = common::wire::EXPLICIT_LITTLE;
    let mut client = server.associate(&[(STORE, CT_IMAGE_STORAGE, &[syntax])]);
    let stored = client.c_store(STORE, CT_IMAGE_STORAGE, &image.sop, &explicit.encode());
    assert_eq!(stored.expect("C-STORE").0, 0);
    client.release().expect("release");
    let shown = show(&server);
    assert_eq!(counts(&server), [0, 0, 0, 0], "{shown}");
    assert_eq!(shown["variants_count"], 1, "{shown}");
    let outcome = server.kura(&["conflicts", "show"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
}

fn of_patient(study: u32, id: &str, name: &str) -> Image {
    let image = Image::new(study, 0, 500);
    let series = format!("{}.1", image.study);
    let ct = Ct {
        patient_id: id,
        patient_name: name,
        ..Ct::new(&image.study, &series, &image.sop)
    };
    Image {
        data_set: ct.encode(),
        ..image
    }
}

#[test]
fn two_people_under_one_patient_id_are_shown_until_that_is_settled() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = [
        of_patient(0, "4711", "YAMADA^TAROU"),
        of_patient(1, "4711", "Yamada^Tarou^^"),
        of_patient(2, "4711", "SUZUKI^HANAKO"),
        of_patient(3, "4712", "SATOU^ICHIROU"),
    ];
    send_all(&server, &all);
    assert_eq!(counts(&server), [0, 1, 0, 0]);
    let shown = show(&server);
    let people = &shown["patients"][0];
    let id = people["id"].as_str().expect("id");
    assert_eq!(people["patient_id"], "4711", "{shown}");
    let people = people["people"].as_array().expect("people");
    assert_eq!(people.len(), 2, "{shown}");
    let studies: Vec<usize> = people
        .iter()
        .map(|one| one["study_instance_uids"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(studies.iter().sum::<usize>(), 3, "{shown}");
    assert_eq!(server.kura(&["conflicts", "show"]).code, Some(1));

    let dismissed = settle(&server, &["discard", id]);
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_eq!(counts(&server), [0, 0, 0, 1]);
    }
    // A third person.
    send_all(&server, &[of_patient(4, "4711", "TANAKA^JIROU")]);
    assert_eq!(counts(&server), [0, 1, 0, 0]);
    settle(&server, &["discard", "4711"]);
    assert_eq!(counts(&server), [0, 0, 0, 1]);
    settle(&server, &["undo", &dismissed]);
    assert_eq!(counts(&server), [0, 0, 0, 1]);
}

/// Method: two of three people under one ID become the third; each amendment is a change of its own.
#[test]
fn people_under_one_patient_id_are_made_one() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = [
        of_patient(0, "4711", "YAMADA^TAROU"),
        of_patient(1, "4711", "YAMDA^TAROU"),
        of_patient(2, "4711", "YAMADA^TARO"),
    ];
    send_all(&server, &all);
    let refused = server.kura(&[
        "conflicts",
        "prefer",
        "4711",
        "--study",
        "1.2.3",
        "--reason",
        "x",
        "--yes",
    ]);
    assert_eq!(refused.code, Some(3), "{}", refused.text());
    kura(
        &server,
        &[
            "conflicts",
            "prefer",
            "4711",
            "--study",
            &all[0].study,
            "--reason=-- misspelt",
            "--now",
            "--yes",
        ],
    );
    assert_eq!(counts(&server), [0, 0, 0, 0]);
    let found = server.kura_json(&["find", "PatientName=YAMADA^TAROU"]);
    assert_eq!(
        found["matches"].as_array().map(Vec::len),
        Some(3),
        "{found}"
    );
    let changes = server.kura_json(&["changes", "list"]);
    let changes = changes["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes.iter().all(|change| change["why"] == "-- misspelt"));
}

/// Method: three instances of a study say another patient than the first one; it is well, then it is not.
#[test]
fn a_study_of_two_patients_is_shown_until_that_is_settled() {
    let server = Server::start();
    server.wait_until_indexed();
    let mut all = images::images(1, 5);
    for (at, image) in all.iter_mut().enumerate().skip(2) {
        let series = format!("{}.1", image.study);
        let ct = Ct {
            number: at as u32,
            patient_id: "4799",
            patient_name: "SUZUKI^HANAKO",
            ..Ct::new(&image.study, &series, &image.sop)
        };
        image.data_set = ct.encode();
    }
    send_all(&server, &all);
    assert_eq!(counts(&server), [0, 0, 1, 0]);
    let shown = show(&server);
    let study = &shown["studies"][0];
    assert_eq!(study["patient_id"], "TEST-1", "{shown}");
    assert_eq!(study["instances_count"], 5, "{shown}");
    assert_eq!(study["others"][0]["patient_id"], "4799", "{shown}");
    assert_eq!(study["others"][0]["instances_count"], 3, "{shown}");
    let id = study["id"].as_str().expect("id");
    let dismissed = settle(&server, &["discard", id]);
    rebuild(&server);
    assert_eq!(counts(&server), [0, 0, 0, 1]);
    settle(&server, &["undo", &dismissed]);
    assert_eq!(counts(&server), [0, 0, 1, 0]);
    kura(
        &server,
        &[
            "conflicts",
            "prefer",
            id,
            "--reason",
            "one patient",
            "--now",
            "--yes",
        ],
    );
    for again in [false, true] {
        if again {
            rebuild(&server);
        }
        assert_eq!(counts(&server), [0, 0, 0, 0]);
        assert_eq!(found(&server, &all[0].study).len(), 5);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_next_step() {
    let server = Server::start();
    server.wait_until_indexed();
    let all = images::images(1, 2);
    send_all(&server, &all);
    send_all(&server, &[other(&all[0], 900)]);
    let shown = show(&server);
    let id = shown["duplicates"][0]["id"].as_str().expect("id");
    let removed = server.kura_json(&[
        "remove",
        "--instance",
        &all[1].sop,
        "--reason",
        "x",
        "--yes",
    ]);
    let removed = removed["number"].to_string();
    for (arguments, word) in [
        (
            &["prefer", "d-00000000", "--content", "1"][..],
            "kura conflicts show",
        ),
        (&["prefer", id], "--content K"),
        (&["prefer", id, "--content", "3"], "kura conflicts show"),
        (&["prefer", id, "--content", "0"], "kura conflicts show"),
        (&["discard", id], "--content K"),
        (&["undo", "999"], "kura changes list"),
        (&["undo", &removed], "kura trash restore"),
    ] {
        let mut all = vec!["conflicts"];
        all.extend(arguments);
        all.extend(["--reason", "x", "--yes"]);
        let outcome = server.kura(&all);
        assert_eq!(outcome.code, Some(3), "{all:?}: {}", outcome.text());
        assert!(
            outcome.stderr.contains("nothing was changed")
                || outcome.stderr.contains("Nothing was changed"),
            "{}",
            outcome.text()
        );
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.text());
    }
    // What is protected is not changed by this way either.
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
    let outcome = server.kura(&[
        "conflicts",
        "discard",
        id,
        "--content",
        "2",
        "--reason",
        "x",
        "--yes",
    ]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("is protected by"),
        "{}",
        outcome.text()
    );
    assert_eq!(found(&server, study), [all[0].sop.clone()]);
    assert_come_back(&server, &all[..1]);
}
