//! `kura find` and `kura stats`: what is asked on the command line is what is answered, in each form, however much it is.

mod common;

use std::process::Stdio;

use common::build::{Ct, Tag, put};
use common::elements::{self, Syntax};
use common::images::{self, Image, send_all};
use common::{Server, Settings};
use serde_json::Value;

/// An image of that patient, date, modality and station, its pixels so many bytes.
fn image(
    number: u32,
    patient: (&str, &str),
    date: &str,
    series: (&str, &str),
    bytes: usize,
) -> Image {
    let study = format!("2.25.3{}", patient.0);
    let series_uid = format!("{study}.{}", if series.0 == "CT" { 1 } else { 2 });
    let sop = format!("{series_uid}.{number}");
    let ct = Ct {
        number,
        pixel_bytes: bytes,
        patient_id: patient.0,
        patient_name: patient.1,
        study_date: date,
        ..Ct::new(&study, &series_uid, &sop)
    };
    let syntax = Syntax::IMPLICIT_LITTLE;
    let mut modality = Vec::new();
    put(
        &mut modality,
        syntax,
        Tag(0x0008, 0x0060),
        "CS",
        series.0.as_bytes(),
    );
    let mut was = Vec::new();
    put(&mut was, syntax, Tag(0x0008, 0x0060), "CS", b"CT");
    put(
        &mut modality,
        syntax,
        Tag(0x0008, 0x1010),
        "SH",
        series.1.as_bytes(),
    );
    let data_set = ct.encode();
    let at = data_set
        .windows(was.len())
        .position(|bytes| bytes == was)
        .expect("a modality");
    let data_set = [&data_set[..at], &modality, &data_set[at + was.len()..]].concat();
    Image {
        study,
        sop,
        data_set,
    }
}

/// Two patients, three series of two modalities, two stations.
fn hospital() -> Vec<Image> {
    let smith = ("1", "SMITH^JOHN");
    let doe = ("2", "DOE, JANE^\"J\"");
    vec![
        image(1, smith, "20260115", ("CT", "CT01"), 100),
        image(2, smith, "20260115", ("CT", "CT01"), 100),
        image(1, smith, "20260115", ("MR", "MR01"), 1_000),
        image(1, doe, "20260203", ("CT", "CT02"), 200),
    ]
}

fn bytes_of(images: &[Image], which: impl Fn(&Image) -> bool) -> u64 {
    let chosen = images.iter().filter(|image| which(image));
    chosen.map(|image| image.data_set.len() as u64).sum()
}

fn column(found: &Value, name: &str) -> Vec<String> {
    let matches = found["matches"]
        .as_array()
        .unwrap_or_else(|| panic!("{found}"));
    let text = |one: &Value| one[name].as_str().unwrap_or_default().to_owned();
    matches.iter().map(text).collect()
}

/// Method: each way of naming a key finds the same, with a server and without one.
#[test]
fn keys_are_named_by_keyword_or_tag_at_each_level() {
    let mut server = Server::start();
    send_all(&server, &hospital());
    for running in [true, false] {
        if !running {
            assert!(server.terminate().success());
        }
        for key in ["PatientID=2", "(0010,0020)=2", "0010,0020=2", "00100020=2"] {
            let found = server.kura_json(&["find", key]);
            assert_eq!(column(&found, "PatientName"), ["DOE, JANE^\"J\""], "{key}");
        }
        for (level, count) in [
            ("patient", 2),
            ("STUDY", 2),
            ("series", 3),
            ("image", 4),
            ("instance", 4),
        ] {
            let found = server.kura_json(&["find", "--level", level]);
            assert_eq!(column(&found, "PatientID").len(), count, "{level}");
            assert_eq!(found["complete"], true);
            assert_eq!(found["more"], false);
        }
        for (arguments, ids) in [
            (&["find", "ModalitiesInStudy=MR"][..], &["1"][..]),
            (&["find", "StudyDate=20260201-"], &["2"]),
            (&["find", "StudyDate=today"], &[]),
            (&["find", "PatientName=*OH*"], &["1"]),
            (&["find", "PatientID=1\\2", "PatientName=D*"], &["2"]),
        ] {
            let found = server.kura_json(arguments);
            assert_eq!(column(&found, "PatientID"), ids, "{arguments:?}");
        }
    }
}

#[test]
fn columns_are_those_that_are_asked_for_in_each_form() {
    let server = Server::start();
    send_all(&server, &hospital());
    let columns = "StudyDate,PatientName,(0010,0020)";
    let table = "2 found\n\
                 StudyDate  PatientName    PatientID\n\
                 20260203   DOE, JANE^\"J\"  2\n\
                 20260115   SMITH^JOHN     1\n";
    for arguments in [
        &["find", "--columns", columns][..],
        &["find", "StudyDate", "PatientName", "PatientID"],
    ] {
        let outcome = server.kura(arguments);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
        assert_eq!(outcome.stdout, table, "{arguments:?}");
    }
    let csv = server.kura(&["find", "--columns", columns, "--csv"]);
    assert_eq!(
        csv.stdout,
        "StudyDate,PatientName,PatientID\r\n\
         20260203,\"DOE, JANE^\"\"J\"\"\",2\r\n\
         20260115,SMITH^JOHN,1\r\n"
    );
    let none = server.kura(&[
        "find",
        "PatientID=nobody",
        "--columns",
        "PatientID",
        "--csv",
    ]);
    assert_eq!(none.stdout, "PatientID\r\n");
    let json = server.kura_json(&["find", "PatientID=1", "StudyDate"]);
    assert_eq!(
        json["matches"],
        serde_json::json!([{ "StudyDate": "20260115" }])
    );
}

/// Method: more matches than one piece of an answer has, all of them, some of them, and by a reader that goes away.
#[test]
fn long_answers_come_whole_and_more_is_said_where_there_is_more() {
    let server = Server::start();
    const COUNT: usize = 450;
    send_all(&server, &images::images(1, COUNT as u32));
    let all = server.kura(&["find", "--level", "image", "--csv"]);
    assert_eq!(all.stdout.lines().count(), COUNT + 1, "{}", all.stderr);
    assert_eq!(all.stderr, "");
    for (most, shown) in [("0", COUNT), ("450", COUNT), ("449", 449), ("1", 1)] {
        let outcome = server.kura(&["find", "--level", "image", "--most", most]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
        let answer = format!("{shown} found");
        assert_eq!(outcome.stdout.lines().next(), Some(&*answer));
        assert_eq!(outcome.stdout.lines().count(), shown + 2);
        assert_eq!(
            outcome.stderr.is_empty(),
            shown == COUNT,
            "{}",
            outcome.stderr
        );
        let json = server.kura_json(&["find", "--level", "image", "--most", most]);
        assert_eq!(json["more"], shown < COUNT);
        assert_eq!(column(&json, "SOPInstanceUID").len(), shown);
    }
    let mut command = server.command(&["find", "--level", "image", "--csv"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kura find");
    drop(child.stdout.take());
    let ended = child.wait().expect("its end");
    assert_eq!(ended.code(), Some(0));
}

/// Method: the same key with and without `--fuzzy`, with a server and without one.
#[test]
fn fuzzy_takes_the_words_of_a_name_in_any_order() {
    let mut server = Server::start();
    send_all(&server, &hospital());
    for running in [true, false] {
        if !running {
            assert!(server.terminate().success());
        }
        for (key, fuzzy, ids) in [
            ("PatientName=john smith", false, &[][..]),
            ("PatientName=john smith", true, &["1"]),
            ("PatientName=Jane D", true, &["2"]),
            ("PatientName=john doe", true, &[]),
            ("PatientName=*MITH^J*", true, &["1"]),
            ("PatientID=2 1", true, &[]),
        ] {
            let mut arguments = vec!["find", key];
            arguments.extend(fuzzy.then_some("--fuzzy"));
            let found = server.kura_json(&arguments);
            assert_eq!(column(&found, "PatientID"), ids, "{arguments:?}");
        }
    }
}

/// An image of a series that was made for these steps, each with its procedure.
fn requested(series: u32, items: &[(&str, &str)]) -> Image {
    let syntax = Syntax::IMPLICIT_LITTLE;
    let mut image = Image::new(5, series, 100);
    let mut sequence = Vec::new();
    for (step, procedure) in items {
        let mut item = Vec::new();
        put(
            &mut item,
            syntax,
            Tag(0x0040, 0x0009),
            "SH",
            step.as_bytes(),
        );
        put(
            &mut item,
            syntax,
            Tag(0x0040, 0x1001),
            "SH",
            procedure.as_bytes(),
        );
        sequence.extend(b"\xFE\xFF\0\xE0");
        sequence.extend((item.len() as u32).to_le_bytes());
        sequence.extend(item);
    }
    let mut values = elements::elements(&image.data_set);
    values.retain(|(tag, _)| *tag != Tag(0x0020, 0x000E));
    let uid = format!("2.25.95.{series}").into_bytes();
    values.push((Tag(0x0020, 0x000E), uid));
    values.push((Tag(0x0040, 0x0275), sequence));
    values.sort_by_key(|(tag, _)| *tag);
    image.data_set.clear();
    for (tag, value) in &values {
        put(&mut image.data_set, syntax, *tag, "UN", value);
    }
    image
}

/// Method: two keys of one sequence must fit in one item, those of the next are asked of another series.
#[test]
fn keys_in_a_sequence_must_fit_in_one_item_and_come_back_as_items() {
    let server = Server::start();
    send_all(
        &server,
        &[
            requested(1, &[("S1", "P1"), ("S2", "P2")]),
            requested(2, &[("S1", "P2")]),
            requested(3, &[]),
        ],
    );
    let step = "RequestAttributesSequence.ScheduledProcedureStepID";
    let procedure = "RequestAttributesSequence.RequestedProcedureID";
    for (keys, series) in [
        (vec![format!("{step}=S1")], &["2.25.95.1", "2.25.95.2"][..]),
        (
            vec![format!("{step}=S1"), format!("{procedure}=P2")],
            &["2.25.95.2"],
        ),
        (
            vec![format!("{step}=s?"), format!("{procedure}=*1")],
            &["2.25.95.1"],
        ),
        (vec![format!("{step}=S2"), format!("{procedure}=P1")], &[]),
        (
            vec!["(0040,0275).(0040,0009)=S2".to_owned()],
            &["2.25.95.1"],
        ),
    ] {
        let mut arguments = vec!["find", "--level", "series", "SeriesInstanceUID"];
        arguments.extend(keys.iter().map(String::as_str));
        let found = server.kura_json(&arguments);
        let mut told = column(&found, "SeriesInstanceUID");
        told.sort();
        assert_eq!(told, series, "{keys:?}");
    }
    let found = server.kura_json(&[
        "find",
        "--level",
        "series",
        "SeriesInstanceUID=2.25.95.1",
        "RequestAttributesSequence",
    ]);
    let items = &found["matches"][0]["RequestAttributesSequence"];
    assert_eq!(items.as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(items[1]["ScheduledProcedureStepID"], "S2", "{found}");
}

#[test]
fn what_is_not_understood_or_not_kept_is_said() {
    let server = Server::start();
    send_all(&server, &images::images(1, 1));
    for (key, says) in [
        ("PatientsID=1", "PatientsID is neither a DICOM keyword"),
        ("PatientID.StudyID=1", "PatientID is not a sequence"),
        ("(0010,00)=1", "(0010,00) is neither"),
    ] {
        let outcome = server.kura(&["find", key]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text());
        assert!(outcome.stderr.contains(says), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
    let outcome = server.kura(&["find", "--level", "galaxy"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text());
    let outcome = server.kura(&["find", "DetectorID=D1"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert!(
        outcome.stdout.starts_with("1 found\n"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome
            .stderr
            .contains("DetectorID is not kept in the index"),
        "{}",
        outcome.stderr
    );
    let json = server.kura_json(&["find", "DetectorID=D1"]);
    assert_eq!(json["ignored"], serde_json::json!(["DetectorID"]));
}

/// Method: an archive of which every number is known, with a server, without one, and by an index made anew; on two
/// volumes.
#[test]
fn stats_count_what_was_stored() {
    let settings = Settings {
        extra: "[placement]\norder = \"in-order\"\n".into(),
        ..Settings::default()
    };
    let mut server = Server::with(settings.volume("B", "volume-b", "archive"));
    let images = hospital();
    send_all(&server, &images);
    let all = bytes_of(&images, |_| true);
    let ct = bytes_of(&images, |image| !image.sop.starts_with("2.25.31.2."));
    for running in [true, false] {
        if !running {
            assert_eq!(server.kura(&["index", "rebuild"]).code, Some(0));
            server.wait_until_indexed();
            assert!(server.terminate().success());
        }
        let json = server.kura_json(&["stats"]);
        let row = |name: &str, counts: [u64; 5]| {
            serde_json::json!({
                "name": name,
                "patients": counts[0],
                "studies": counts[1],
                "series": counts[2],
                "instances": counts[3],
                "bytes": counts[4],
            })
        };
        assert_eq!(json["version"], 1);
        assert_eq!(json["all"], row("", [2, 2, 3, 4, all]));
        assert_eq!(json["groups"], serde_json::json!([]));
        let by = |by| server.kura_json(&["stats", "--by", by])["groups"].clone();
        assert_eq!(
            by("modality"),
            serde_json::json!([
                row("CT", [2, 2, 2, 3, ct]),
                row("MR", [1, 1, 1, 1, all - ct])
            ])
        );
        let doe = bytes_of(&images, |image| image.study == "2.25.32");
        assert_eq!(
            by("month"),
            serde_json::json!([
                row("2026-01", [1, 1, 2, 3, all - doe]),
                row("2026-02", [1, 1, 1, 1, doe])
            ])
        );
        assert_eq!(
            by("station"),
            serde_json::json!([
                row("CT01", [1, 1, 1, 2, ct - doe]),
                row("CT02", [1, 1, 1, 1, doe]),
                row("MR01", [1, 1, 1, 1, all - ct])
            ])
        );
        let volumes = by("volume");
        assert_eq!(volumes.as_array().map(Vec::len), Some(1), "{volumes}");
        assert_eq!(volumes[0]["name"], "A");
        assert_eq!(volumes[0]["instances"], 4);
        assert_eq!(volumes[0]["series"], Value::Null);
        assert!(volumes[0]["bytes"].as_u64() > Some(all), "{volumes}");
        let csv = server.kura(&["stats", "--by", "modality", "--csv"]);
        assert_eq!(
            csv.stdout,
            format!(
                "modality,patients,studies,series,instances,bytes\r\nCT,2,2,2,3,{ct}\r\nMR,1,1,1,1,{}\r\n",
                all - ct
            )
        );
        let screen = server.kura(&["stats", "--by", "month"]);
        let mut lines = screen.stdout.lines();
        let answer = lines.next().expect("an answer");
        assert!(
            answer.starts_with("4 instances in 3 series of 2 studies of 2 patients, "),
            "{answer}"
        );
        let header: Vec<_> = lines.next().expect("a header").split_whitespace().collect();
        assert_eq!(
            header,
            [
                "MONTH",
                "PATIENTS",
                "STUDIES",
                "SERIES",
                "INSTANCES",
                "BYTES"
            ]
        );
        assert_eq!(lines.count(), 2);
    }
}
