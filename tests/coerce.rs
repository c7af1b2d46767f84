//! Promise: values of a sender that are to be others here are so in the file, in the answers and in what comes back;
//! nothing else of an instance changes, what stood there is written down in it, and nothing is lost over it.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, by_uids, ident};
use common::files::{self, Good};
use common::images::tree;
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_GET};
use common::{Client, Part10, Server, Settings, elements, tools};

const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);
const ACCESSION_NUMBER: Tag = Tag(0x0008, 0x0050);
const ORIGINALS: Tag = Tag(0x0400, 0x0561);

/// A server with these tables in its configuration.
fn with_rules(rules: &str) -> Server {
    Server::with(Settings {
        extra: rules.to_owned(),
        ..Settings::default()
    })
}

/// Sends a data set; the status.
fn send(
    server: &Server,
    calling: &str,
    (class, sop): (&str, &str),
    syntax: &str,
    data_set: &[u8],
) -> u16 {
    let contexts: &[(u8, &str, &[&str])] = &[(1, class, &[syntax])];
    let mut client = Client::associate(server.address(), calling, server.ae_title(), contexts)
        .expect("association");
    let (status, _) = client.c_store(1, class, sop, data_set).expect("C-STORE");
    client.release().expect("release");
    status
}

fn send_ct(server: &Server, calling: &str, ct: &Ct) {
    let of = (CT_IMAGE_STORAGE, ct.sop);
    assert_eq!(send(server, calling, of, IMPLICIT_LITTLE, &ct.encode()), 0);
}

/// The one file in the tree that holds a SOP Instance UID.
fn file_of(server: &Server, sop: &str) -> Part10 {
    let files = files_of(server, sop);
    assert_eq!(files.len(), 1, "files of {sop}");
    files.into_iter().next().expect("one")
}

fn files_of(server: &Server, sop: &str) -> Vec<Part10> {
    let all = tree(&server.volume("A")).into_iter();
    let files = all.map(|path| Part10::read(&path).expect("a DICOM file"));
    files
        .filter(|file| file.media_sop_instance_uid == sop)
        .collect()
}

/// Top-level values without group lengths.
fn values(data_set: &[u8], syntax: &str) -> BTreeMap<Tag, Vec<u8>> {
    let all = elements::read(data_set, syntax).expect("a well-formed data set");
    all.into_iter().filter(|(tag, _)| tag.1 != 0).collect()
}

/// Tags that differ, added and removed ones too.
fn differences(before: &BTreeMap<Tag, Vec<u8>>, after: &BTreeMap<Tag, Vec<u8>>) -> Vec<Tag> {
    let tags = before.keys().chain(after.keys());
    let mut tags: Vec<Tag> = tags
        .filter(|tag| before.get(tag) != after.get(tag))
        .copied()
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

fn text(values: &BTreeMap<Tag, Vec<u8>>, tag: Tag) -> String {
    values
        .get(&tag)
        .map_or(String::new(), |v| elements::text(v))
}

/// Patient ID, issuer and Accession Number of the studies that a query by Patient ID finds.
fn found_by_id(server: &Server, id: &str) -> Vec<[String; 3]> {
    let contexts: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])];
    let mut client = server.associate(contexts);
    let query = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (PATIENT_ID, "LO", id),
        (ISSUER, "LO", ""),
        (ACCESSION_NUMBER, "SH", ""),
    ]);
    let found = client.c_find(1, &query).expect("C-FIND");
    client.release().expect("release");
    let of = |answer: &Vec<(Tag, Vec<u8>)>, tag: Tag| {
        elements::find(answer, tag.0, tag.1).unwrap_or_default()
    };
    found
        .answers()
        .iter()
        .map(|answer| [PATIENT_ID, ISSUER, ACCESSION_NUMBER].map(|tag| of(answer, tag)))
        .collect()
}

/// Method: a sender for each kind of rule; the file, the answer of C-FIND and what C-GET brings say the new values, the
/// file says the old ones and why, and all other elements are the sender's.
#[test]
fn each_kind_of_rule_is_in_the_file_and_in_every_answer() {
    let map = tempfile::NamedTempFile::new().expect("a file");
    fs::write(map.path(), "# merged\n4711,PAT-1\n0815,\"PAT 2\"\n").expect("write");
    let server = with_rules(&format!(
        r#"
[[coerce]]
calling = "STRIP"
strip_zeros = true
[[coerce]]
calling = "PAD"
pad = 8
[[coerce]]
calling = "MAP*"
map = "{}"
[[coerce]]
calling = "BOTH"
prefix = "H1-"
suffix = "-X"
issuer = "HOSP1"
[[coerce]]
calling = "BOTH"
attribute = "accession-number"
prefix = "R"
[[coerce]]
calling = "ISSUER"
issuer = "HOSP2"
"#,
        map.path().display()
    ));
    let cases = [
        ("STRIP", "00012", ["12", "", "ACC-1"], 1),
        ("PAD", "123", ["00000123", "", "ACC-1"], 1),
        ("MAP1", "4711", ["PAT-1", "", "ACC-1"], 1),
        ("MAP2", "0815", ["PAT 2", "", "ACC-1"], 1),
        ("BOTH", "7", ["H1-7-X", "HOSP1", "RACC-1"], 3),
        ("ISSUER", "8", ["8", "HOSP2", "ACC-1"], 1),
        // No rule fits, or it changes nothing: the bytes are the sender's.
        ("MAP1", "9", ["9", "", "ACC-1"], 0),
        ("OTHER", "007", ["007", "", "ACC-1"], 0),
        ("STRIP", "", ["", "", "ACC-1"], 0),
    ];
    for (number, (calling, id, [new_id, issuer, accession], changed)) in cases.iter().enumerate() {
        let study = format!("2.25.51{number}");
        let (series, sop) = (format!("{study}.1"), format!("{study}.1.1"));
        let ct = Ct {
            patient_id: id,
            ..Ct::new(&study, &series, &sop)
        };
        send_ct(&server, calling, &ct);
        let file = file_of(&server, &sop);
        let before = values(&ct.encode(), IMPLICIT_LITTLE);
        let after = values(&file.data_set, IMPLICIT_LITTLE);
        let differing = differences(&before, &after);
        if *changed == 0 {
            assert!(file.data_set == ct.encode(), "{calling} {id}");
            continue;
        }
        assert_eq!(
            differing.len(),
            changed + 1,
            "{calling} {id}: {differing:?}"
        );
        assert!(differing.contains(&ORIGINALS), "{calling} {id}");
        assert_eq!(text(&after, PATIENT_ID), *new_id);
        assert_eq!(text(&after, ISSUER), *issuer);
        assert_eq!(text(&after, ACCESSION_NUMBER), *accession);
        let found = found_by_id(&server, new_id);
        assert_eq!(found, [[*new_id, *issuer, *accession]], "{calling} {id}");
        // The folder is that of the patient as he is known here.
        let folder = file.path.display().to_string();
        assert!(
            folder.contains(new_id.replace(' ', "_").as_str()) || folder.contains(new_id),
            "{folder}"
        );

        let mut client = server.associate(&[
            (1, STUDY_ROOT_GET, &[IMPLICIT_LITTLE]),
            (3, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
        ]);
        let got = client
            .c_get(1, &by_uids("STUDY", &study, None, None))
            .expect("C-GET");
        client.release().expect("release");
        assert_eq!(got.received.len(), 1);
        assert!(got.received[0].data_set == file.data_set, "{calling} {id}");

        if let Some(dcmdump) = tools::tool("dcmdump") {
            let path = file.path.display().to_string();
            let dump = tools::run(std::process::Command::new(dcmdump).arg(path));
            for word in ["COERCE", *calling, "KURA"] {
                assert!(
                    dump.stdout.contains(&format!("[{word}]")),
                    "{word}: {}",
                    dump.text()
                );
            }
            if new_id != id {
                assert!(dump.stdout.contains(&format!("[{id}]")), "{}", dump.text());
            }
        }
    }
    assert_eq!(server.kura_json(&["status"])["not_coerced_count"], 0);
}

/// Method: every good file of `testdata/` and of the samples, of every transfer syntax and shape, sent twice by a console
/// with a rule; files are compared element by element, the second sending stores nothing.
#[test]
fn every_transfer_syntax_is_coerced_and_known_again() {
    let server = with_rules("[[coerce]]\ncalling = \"CONSOLE\"\nprefix = \"H1-\"\n");
    let mut goods = files::good_below(&files::testdata());
    match files::samples() {
        Some(folder) => {
            let known: Vec<String> = goods
                .iter()
                .map(|good| good.uids.sop_instance.clone())
                .collect();
            let mut more = files::good_below(&folder);
            more.retain(|good| !known.contains(&good.uids.sop_instance));
            goods.extend(more);
        }
        None => eprintln!("skipped: no folder of samples (KURA_DICOM_SAMPLES); testdata only"),
    }
    let once = |good: &Good| {
        let Good { file, uids } = good;
        let of = (uids.sop_class.as_str(), uids.sop_instance.as_str());
        send(
            &server,
            "CONSOLE",
            of,
            &file.transfer_syntax,
            &file.data_set,
        )
    };
    let (mut coerced, mut as_they_came) = (0, 0);
    let taken: Vec<&Good> = goods.iter().filter(|good| once(good) == 0).collect();
    assert!(taken.len() > 40, "only {} files", taken.len());
    let mut by_sop: BTreeMap<String, Vec<Part10>> = BTreeMap::new();
    for path in tree(&server.volume("A")) {
        let file = Part10::read(&path).expect("a DICOM file");
        by_sop
            .entry(file.media_sop_instance_uid.clone())
            .or_default()
            .push(file);
    }
    for good in &taken {
        let name = good.file.name();
        let syntax = &good.file.transfer_syntax;
        let files = &by_sop[&good.uids.sop_instance];
        assert_eq!(files.len(), 1, "{name}");
        assert_eq!(files[0].transfer_syntax, *syntax, "{name}");
        if files[0].data_set == good.file.data_set {
            as_they_came += 1;
            continue;
        }
        coerced += 1;
        let before = values(&good.file.data_set, syntax);
        let after = values(&files[0].data_set, syntax);
        assert_eq!(
            differences(&before, &after),
            [PATIENT_ID, ORIGINALS],
            "{name}"
        );
        let id = text(&before, PATIENT_ID);
        assert_eq!(
            text(&after, PATIENT_ID),
            format!("H1-{}", id.trim_start()),
            "{name}"
        );
    }
    println!("{coerced} coerced, {as_they_came} as they came");
    assert!(coerced > 35, "only {coerced} coerced");

    let count = tree(&server.volume("A")).len();
    for good in &taken {
        assert_eq!(once(good), 0, "{}", good.file.name());
    }
    assert_eq!(tree(&server.volume("A")).len(), count);
    let status = server.kura_json(&["status"]);
    assert_eq!(status["index"]["conflicts_count"], 0, "{status:#}");
    assert_eq!(status["index"]["variants_count"], 0, "{status:#}");
}

/// Method: an ID that becomes longer than its VR allows.
#[test]
fn what_cannot_be_coerced_is_stored_as_it_came_and_counted() {
    let server = with_rules("[[coerce]]\ncalling = \"CONSOLE\"\nprefix = \"H1-\"\n");
    let id = "9".repeat(63);
    let ct = Ct {
        patient_id: &id,
        ..Ct::new("2.25.61", "2.25.61.1", "2.25.61.1.1")
    };
    send_ct(&server, "CONSOLE", &ct);
    assert!(file_of(&server, ct.sop).data_set == ct.encode());
    assert_eq!(server.kura_json(&["status"])["not_coerced_count"], 1);
    let screen = server.kura(&["status"]).stdout;
    assert!(
        screen.contains("1 instances could not be coerced"),
        "{screen}"
    );
    assert!(!server.log_text().contains(&id), "an ID in the log");
    send_ct(&server, "CONSOLE", &ct);
    assert_eq!(files_of(&server, ct.sop).len(), 1);
}

/// Method: one instance stored under a rule and one before it, each sent again after the rule was taken out or put in,
/// and after the index was made anew from the ledgers.
#[test]
fn an_original_is_known_again_whatever_the_rules_are_then() {
    let rule = "[[coerce]]\ncalling = \"CONSOLE\"\nprefix = \"H1-\"\n";
    let mut server = with_rules(rule);
    let coerced = Ct::new("2.25.71", "2.25.71.1", "2.25.71.1.1");
    let other = Ct::new("2.25.72", "2.25.72.1", "2.25.72.1.1");
    send_ct(&server, "CONSOLE", &coerced);
    send_ct(&server, "ELSEWHERE", &other);
    let files = [coerced.sop, other.sop].map(|sop| file_of(&server, sop).data_set);
    assert!(files[0] != coerced.encode() && files[1] == other.encode());
    for (extra, index_goes) in [("", false), (rule, true), ("", true)] {
        assert!(server.terminate().success());
        server.configure(|settings| settings.extra = extra.to_owned());
        if index_goes {
            fs::remove_dir_all(server.state().join("index")).expect("remove the index");
        }
        server.restart();
        server.wait_until_indexed();
        for ct in [&coerced, &other] {
            send_ct(&server, "CONSOLE", ct);
        }
        let now = [coerced.sop, other.sop].map(|sop| file_of(&server, sop).data_set);
        assert!(now == files, "rules {extra:?}");
        let status = server.kura_json(&["status"]);
        assert_eq!(status["index"]["conflicts_count"], 0, "{status:#}");
    }
}

/// Method: 20 MB, more than the server holds in memory, so that it is read back from the disk; and rules that wait for
/// the second copy before the answer.
#[test]
fn a_large_one_has_its_second_copy_before_the_answer() {
    let server = Server::with(
        Settings {
            extra: "[mirror]\nwhen = \"before-ack\"\nallow_same_device = true\n\
            [[coerce]]\ncalling = \"CONSOLE\"\nprefix = \"H1-\"\n"
                .to_owned(),
            ..Settings::default()
        }
        .volume("M", "volume-m", "mirror"),
    );
    let ct = Ct {
        pixel_bytes: 20 << 20,
        explicit: true,
        ..Ct::new("2.25.81", "2.25.81.1", "2.25.81.1.1")
    };
    let of = (CT_IMAGE_STORAGE, ct.sop);
    let data_set = ct.encode();
    for _ in 0..2 {
        assert_eq!(send(&server, "CONSOLE", of, EXPLICIT_LITTLE, &data_set), 0);
        let file = file_of(&server, ct.sop);
        let copies = tree(&server.volume("M"));
        assert_eq!(copies.len(), 1);
        assert!(fs::read(&copies[0]).unwrap() == fs::read(&file.path).unwrap());
        let before = values(&data_set, EXPLICIT_LITTLE);
        let after = values(&file.data_set, EXPLICIT_LITTLE);
        assert_eq!(differences(&before, &after), [PATIENT_ID, ORIGINALS]);
    }
    let incoming = fs::read_dir(server.volume("A").join("incoming")).expect("incoming");
    assert_eq!(
        incoming.count(),
        0,
        "what was received first is still there"
    );
}

/// Method: the built program with a map that has a bad line, and with one that is missing.
#[test]
fn a_map_that_cannot_be_read_stops_the_start_and_is_named() {
    let mut server = with_rules("");
    server.kill();
    let map = server.folder().join("map.csv");
    fs::write(&map, "1,A\n2;B\n").expect("write");
    server.configure(|settings| {
        settings.extra = "[[coerce]]\ncalling = \"CT\"\nmap = \"map.csv\"\n".to_owned();
    });
    let outcome = server.kura(&["serve"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("map.csv line 2"),
        "{}",
        outcome.text()
    );
    fs::remove_file(&map).expect("remove");
    let outcome = server.kura(&["serve"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(outcome.stderr.contains("map.csv"), "{}", outcome.text());
}
