//! What does not belong together is shown apart and never merged: two people under one Patient ID, one study of two
//! patients, one series in two studies. A query says what is stored, and `kura conflicts` that a person should look.

mod common;

use std::collections::BTreeSet;

use common::build::{Ct, Tag, ident};
use common::images::{self, FIND, Image, send_all};
use common::{Server, elements, wire};
use serde_json::Value;

const PATIENT_NAME: (u16, u16) = (0x0010, 0x0010);
const PATIENT_ID: (u16, u16) = (0x0010, 0x0020);
const STUDY: (u16, u16) = (0x0020, 0x000D);
const SERIES: (u16, u16) = (0x0020, 0x000E);
const SOP: (u16, u16) = (0x0008, 0x0018);
const PATIENT_STUDIES: (u16, u16) = (0x0020, 0x1200);
const PATIENT_INSTANCES: (u16, u16) = (0x0020, 0x1204);
const STUDY_INSTANCES: (u16, u16) = (0x0020, 0x1208);
const SERIES_INSTANCES: (u16, u16) = (0x0020, 0x1209);

const FIND_PATIENT: u8 = 9;
const GET_PATIENT: u8 = 11;

struct Of<'a> {
    study: &'a str,
    series: &'a str,
    patient: (&'a str, &'a str),
}

fn image(of: &Of, number: u32) -> Image {
    let sop = format!("2.25.55.{number}");
    let ct = Ct {
        number,
        patient_id: of.patient.0,
        patient_name: of.patient.1,
        ..Ct::new(of.study, of.series, &sop)
    };
    Image {
        study: of.study.to_owned(),
        data_set: ct.encode(),
        sop,
    }
}

/// With Patient Root beside Study Root.
fn contexts() -> Vec<(u8, &'static str, &'static [&'static str])> {
    let mut all = images::ALL.to_vec();
    all.push((
        FIND_PATIENT,
        wire::PATIENT_ROOT_FIND,
        &[wire::IMPLICIT_LITTLE],
    ));
    all.push((
        GET_PATIENT,
        wire::PATIENT_ROOT_GET,
        &[wire::IMPLICIT_LITTLE],
    ));
    all
}

/// SOP Instance UIDs that a C-GET brings, sorted.
fn retrieved(server: &Server, level: &str, (tag, uid): ((u16, u16), &str)) -> Vec<String> {
    let mut client = server.associate(&contexts());
    let identifier = ident(&[
        (Tag(0x0008, 0x0052), "CS", level),
        (Tag(tag.0, tag.1), "UN", uid),
    ]);
    let got = client.c_get(GET_PATIENT, &identifier).expect("C-GET");
    client.release().expect("release");
    let mut sops: Vec<String> = got
        .received
        .into_iter()
        .map(|one| one.sop_instance)
        .collect();
    sops.sort();
    sops
}

/// Rows of a C-FIND: the values of these attributes, of every answer once.
fn rows(
    server: &Server,
    level: &str,
    keys: &[((u16, u16), &str)],
    told: &[(u16, u16)],
) -> BTreeSet<Vec<String>> {
    rows_in(FIND, server, level, keys, told)
}

fn rows_in(
    context: u8,
    server: &Server,
    level: &str,
    keys: &[((u16, u16), &str)],
    told: &[(u16, u16)],
) -> BTreeSet<Vec<String>> {
    let mut all = vec![(Tag(0x0008, 0x0052), "CS", level)];
    for ((group, element), value) in keys {
        all.push((Tag(*group, *element), "UN", value));
    }
    for (group, element) in told {
        if !keys.iter().any(|(tag, _)| *tag == (*group, *element)) {
            all.push((Tag(*group, *element), "UN", ""));
        }
    }
    let mut client = server.associate(&contexts());
    let found = client.c_find(context, &ident(&all)).expect("C-FIND");
    client.release().expect("release");
    assert_eq!(found.status, 0, "{:?}", found.comment);
    let rows: Vec<Vec<String>> = found
        .answers()
        .iter()
        .map(|answer| {
            let value = |(group, element): &(u16, u16)| {
                elements::find(answer, *group, *element).unwrap_or_default()
            };
            told.iter().map(value).collect()
        })
        .collect();
    let once: BTreeSet<Vec<String>> = rows.iter().cloned().collect();
    assert_eq!(once.len(), rows.len(), "an answer came twice: {rows:?}");
    once
}

fn set(rows: &[&[&str]]) -> BTreeSet<Vec<String>> {
    let owned = |row: &&[&str]| row.iter().map(|text| (*text).to_owned()).collect();
    rows.iter().map(owned).collect()
}

/// The same by `kura find`.
fn shell(server: &Server, level: &str, keys: &[&str]) -> BTreeSet<Vec<String>> {
    let mut arguments = vec!["find", "--level", level];
    arguments.extend(keys);
    let found = server.kura_json(&arguments);
    let columns: Vec<&&str> = keys.iter().filter(|key| !key.contains('=')).collect();
    let matches = found["matches"].as_array().expect("matches");
    let row = |found: &Value| {
        let cell = |name: &&&str| found[**name].as_str().unwrap_or_default().to_owned();
        columns.iter().map(cell).collect()
    };
    matches.iter().map(row).collect()
}

fn counts(server: &Server) -> [u64; 3] {
    let shown = server.kura_json(&["conflicts", "show"]);
    ["patients_count", "studies_count", "series_count"]
        .map(|name| shown[name].as_u64().expect("a count"))
}

#[test]
fn two_people_under_one_patient_id_are_told_with_their_own_studies() {
    let server = Server::start();
    server.wait_until_indexed();
    let of = |study, series, patient| Of {
        study,
        series,
        patient,
    };
    let yamada = of("2.25.1", "2.25.1.1", ("4711", "YAMADA^TAROU"));
    let suzuki = of("2.25.2", "2.25.2.1", ("4711", "SUZUKI^HANAKO"));
    send_all(
        &server,
        &[image(&yamada, 1), image(&yamada, 2), image(&suzuki, 3)],
    );
    let told = [STUDY, PATIENT_NAME, STUDY_INSTANCES];
    let both = set(&[
        &["2.25.1", "YAMADA^TAROU", "2"],
        &["2.25.2", "SUZUKI^HANAKO", "1"],
    ]);
    assert_eq!(rows(&server, "STUDY", &[(PATIENT_ID, "4711")], &told), both);
    let columns = [
        "PatientID=4711",
        "StudyInstanceUID",
        "PatientName",
        "NumberOfStudyRelatedInstances",
    ];
    assert_eq!(shell(&server, "study", &columns), both);
    let keys = [(PATIENT_ID, "4711"), (PATIENT_NAME, "SUZUKI*")];
    assert_eq!(
        rows(&server, "IMAGE", &keys, &[STUDY, SOP, PATIENT_NAME]),
        set(&[&["2.25.2", "2.25.55.3", "SUZUKI^HANAKO"]])
    );
    assert_eq!(counts(&server), [1, 0, 0]);
}

/// Method: a study of which two images in two series say another patient, asked for by each, by nobody, and retrieved; in
/// an index that followed and in one made anew.
#[test]
fn one_study_under_two_patient_ids_is_told_to_each_with_what_is_his_and_a_conflict() {
    let server = Server::start();
    server.wait_until_indexed();
    let of = |series, patient| Of {
        study: "2.25.1",
        series,
        patient,
    };
    let (first, second) = (("4711", "YAMADA^TAROU"), ("4799", "SUZUKI^HANAKO"));
    let both = "2.25.1.1";
    send_all(&server, &[image(&of(both, first), 1)]);
    let of_second = [
        image(&of(both, second), 2),
        image(&of("2.25.1.2", second), 3),
    ];
    send_all(&server, &of_second);
    let ask = |level, keys: &[((u16, u16), &str)], told: &[(u16, u16)]| {
        rows_in(FIND_PATIENT, &server, level, keys, told)
    };
    for anew in [false, true] {
        if anew {
            assert_eq!(server.kura(&["index", "rebuild"]).code, Some(0));
            server.wait_until_indexed();
        }
        let told = [STUDY, PATIENT_ID, PATIENT_NAME, STUDY_INSTANCES];
        // Nobody is asked for: what a retrieve of the study sends.
        let whole = set(&[&["2.25.1", "4711", "YAMADA^TAROU", "3"]]);
        let of_first = set(&[&["2.25.1", "4711", "YAMADA^TAROU", "1"]]);
        let of_second = set(&[&["2.25.1", "4799", "SUZUKI^HANAKO", "2"]]);
        assert_eq!(rows(&server, "STUDY", &[(STUDY, "2.25.1")], &told), whole);
        for (keys, expected) in [
            (&[(PATIENT_ID, "4711")][..], &of_first),
            (&[(PATIENT_ID, "4799")], &of_second),
            (&[(PATIENT_NAME, "*ZUKI*")], &of_second),
            (
                &[(PATIENT_NAME, "suzuki^h*"), (STUDY, "2.25.1")],
                &of_second,
            ),
            (
                &[(PATIENT_ID, "4799"), (PATIENT_NAME, "YAMADA*")],
                &set(&[]),
            ),
            (&[(PATIENT_ID, "47*")], &(&of_first | &of_second)),
        ] {
            assert_eq!(rows(&server, "STUDY", keys, &told), *expected, "{keys:?}");
        }
        let told = [SERIES, PATIENT_ID, SERIES_INSTANCES];
        assert_eq!(
            rows(&server, "SERIES", &[(PATIENT_ID, "4799")], &told),
            set(&[&[both, "4799", "1"], &["2.25.1.2", "4799", "1"]])
        );
        assert_eq!(
            rows(&server, "SERIES", &[(PATIENT_ID, "4711")], &told),
            set(&[&[both, "4711", "1"]])
        );
        let told = [SOP, PATIENT_ID, PATIENT_NAME];
        let images = set(&[
            &["2.25.55.1", "4711", "YAMADA^TAROU"],
            &["2.25.55.2", "4799", "SUZUKI^HANAKO"],
            &["2.25.55.3", "4799", "SUZUKI^HANAKO"],
        ]);
        assert_eq!(rows(&server, "IMAGE", &[(STUDY, "2.25.1")], &told), images);
        let his = images.iter().filter(|row| row[1] == "4799").cloned();
        assert_eq!(
            rows(&server, "IMAGE", &[(PATIENT_ID, "4799")], &told),
            his.collect()
        );
        let told = [PATIENT_ID, PATIENT_NAME, PATIENT_STUDIES, PATIENT_INSTANCES];
        assert_eq!(
            ask("PATIENT", &[], &told),
            set(&[
                &["4711", "YAMADA^TAROU", "1", "1"],
                &["4799", "SUZUKI^HANAKO", "1", "2"]
            ])
        );
        let columns = [
            "StudyInstanceUID",
            "PatientID",
            "PatientName",
            "NumberOfStudyRelatedInstances",
        ];
        assert_eq!(shell(&server, "study", &columns), whole);
        for (level, uid, sops) in [
            ("PATIENT", (PATIENT_ID, "4711"), &["2.25.55.1"][..]),
            ("PATIENT", (PATIENT_ID, "4799"), &["2.25.55.2", "2.25.55.3"]),
            (
                "STUDY",
                (STUDY, "2.25.1"),
                &["2.25.55.1", "2.25.55.2", "2.25.55.3"],
            ),
        ] {
            assert_eq!(retrieved(&server, level, uid), sops, "{level} {uid:?}");
        }
    }
    assert_eq!(counts(&server), [0, 1, 0]);
    let shown = server.kura_json(&["conflicts", "show"]);
    let other = &shown["studies"][0]["others"][0];
    assert_eq!(other["patient_id"], "4799", "{shown}");
    assert_eq!(other["instances_count"], 2, "{shown}");
}

#[test]
fn one_series_in_two_studies_is_answered_under_each_and_shown_until_that_is_settled() {
    let server = Server::start();
    server.wait_until_indexed();
    let of = |study, patient| Of {
        study,
        series: "2.25.9.1",
        patient,
    };
    let one = of("2.25.1", ("4711", "YAMADA^TAROU"));
    let other = of("2.25.2", ("4712", "SUZUKI^HANAKO"));
    send_all(&server, &[image(&one, 1), image(&one, 2), image(&other, 3)]);
    let told = [STUDY, SERIES, PATIENT_ID, SERIES_INSTANCES];
    let both = set(&[
        &["2.25.1", "2.25.9.1", "4711", "2"],
        &["2.25.2", "2.25.9.1", "4712", "1"],
    ]);
    let by_series = rows(&server, "SERIES", &[(SERIES, "2.25.9.1")], &told);
    assert_eq!(by_series, both);
    let columns = [
        "SeriesInstanceUID=2.25.9.1",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "PatientID",
        "NumberOfSeriesRelatedInstances",
    ];
    assert_eq!(shell(&server, "series", &columns), both);
    let keys = [(STUDY, "2.25.2"), (SERIES, "2.25.9.1")];
    assert_eq!(
        rows(&server, "IMAGE", &keys, &[SOP]),
        set(&[&["2.25.55.3"]])
    );
    let all = rows(&server, "IMAGE", &[(SERIES, "2.25.9.1")], &[STUDY, SOP]);
    assert_eq!(all.len(), 3, "{all:?}");

    assert_eq!(counts(&server), [0, 0, 1]);
    let screen = server.kura(&["conflicts", "show"]);
    assert_eq!(screen.code, Some(1), "{}", screen.text());
    let answer = "0 duplicates, 0 patient IDs with several people, 0 studies with several patients, 1 series in several studies; 0 settled";
    assert_eq!(screen.stdout.lines().next(), Some(answer));
    assert!(
        screen.stdout.contains("series 2.25.9.1 is in 2 studies"),
        "{}",
        screen.stdout
    );
    let why = ["--reason", "looked at it", "--yes"];
    let mut settle = vec!["conflicts", "discard", "2.25.9.1"];
    settle.extend(why);
    let done = server.kura(&settle);
    assert_eq!(done.code, Some(0), "{}", done.text());
    assert_eq!(counts(&server), [0, 0, 0]);
    assert_eq!(server.kura(&["index", "rebuild"]).code, Some(0));
    server.wait_until_indexed();
    assert_eq!(counts(&server), [0, 0, 0]);
    // A third study.
    send_all(
        &server,
        &[image(&of("2.25.3", ("4713", "TANAKA^JIROU")), 4)],
    );
    assert_eq!(counts(&server), [0, 0, 1]);
}
