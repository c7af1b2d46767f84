//! Promise: on its way out an instance gets another Patient ID and nothing else of it changes, in every encoding, in little
//! memory; what is stored stays as it is; what cannot be changed as it should be does not go out.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, put};
use common::elements::{self, Syntax};
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, Received};
use common::{Sink, cut, files};
use kura::archive::{Announced, Archive, Mode, Selected};
use kura::config::{Config, PeerEntry};
use kura::forward::rules::Rules;
use kura::sending::{Rewrite, Sent, To, send_all};

const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Sent in one go.
struct Instance {
    name: String,
    class: String,
    sop: String,
    syntax: String,
    data_set: Vec<u8>,
}

/// An archive in a folder of its own, and one rule with this `rewrite`.
fn archive(folder: &Path, rewrite: &str) -> (Arc<Archive>, Rules) {
    let file = folder.join("kura.toml");
    let text = format!(
        "state = \"state\"\n[[volume]]\nname = \"A\"\npath = \"a\"\nrole = \"archive\"\n[intake]\nmode = \"direct\"\n\
         [[peer]]\nae_title = \"SINK\"\nhost = \"127.0.0.1\"\nport = 104\n\
         [[forward.rule]]\nname = \"r\"\nto = [\"SINK\"]\nrewrite = {rewrite}\n"
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file)).unwrap();
    let rules = Rules::of(&config).unwrap();
    (
        Arc::new(Archive::open(&config, Mode::Create).unwrap()),
        rules,
    )
}

fn store(archive: &Archive, instance: &Instance) -> Selected {
    let announced = Announced {
        sop_class_uid: instance.class.clone(),
        sop_instance_uid: instance.sop.clone(),
        transfer_syntax: instance.syntax.clone(),
        calling_ae_title: "TESTER".to_owned(),
        prefer: None,
    };
    let data_set = instance.data_set.clone();
    cut::store(
        archive,
        &cut::Instance {
            announced,
            data_set,
        },
    );
    let view = archive.view().unwrap();
    let entry = view.snapshot.by_sop(&instance.sop).unwrap();
    Selected::of(entry.expect("it is indexed")).unwrap()
}

fn send(
    archive: &Archive,
    sink: &Sink,
    rewrite: Option<&dyn Rewrite>,
    all: &[Selected],
) -> Vec<Sent> {
    let to = To {
        archive,
        calling: &"KURA".parse().unwrap(),
        peer: &PeerEntry::new("SINK".parse().unwrap(), "127.0.0.1", sink.port()),
        caller: None,
        priority: 0,
        originator: None,
        rewrite,
        cancelled: None,
    };
    let mut outcomes = Vec::new();
    let flow = send_all(&to, all, &mut |_, sent, _| {
        outcomes.push(sent);
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    outcomes
}

/// Top-level values; of what is in sequences, what a reader steps over is compared by the bytes around it.
fn values(data_set: &[u8], syntax: &str) -> BTreeMap<Tag, Vec<u8>> {
    let all = elements::read(data_set, syntax).expect("a well-formed data set");
    all.into_iter().filter(|(tag, _)| tag.1 != 0).collect()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    let mut bytes = out.finish().unwrap();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut inflate = flate2::read::DeflateDecoder::new(bytes);
    std::io::Read::read_to_end(&mut inflate, &mut out).unwrap();
    out
}

/// Everything in `testdata/`, and images of 5 MiB in each encoding: larger than what is changed in memory.
fn instances() -> Vec<Instance> {
    let mut all: Vec<Instance> = files::good_below(&files::testdata())
        .into_iter()
        .map(|good| Instance {
            name: good.file.name(),
            class: good.uids.sop_class,
            sop: good.uids.sop_instance,
            syntax: good.file.transfer_syntax.clone(),
            data_set: good.file.data_set,
        })
        .collect();
    for (number, syntax) in [IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG]
        .into_iter()
        .enumerate()
    {
        let sop = format!("2.25.5150.{number}");
        let data_set = Ct {
            pixel_bytes: 5 << 20,
            explicit: syntax != IMPLICIT_LITTLE,
            patient_id: "0047",
            ..Ct::new("2.25.5150", "2.25.5150.9", &sop)
        }
        .encode();
        all.push(Instance {
            name: format!("large {syntax}"),
            class: CT_IMAGE_STORAGE.to_owned(),
            sop,
            syntax: syntax.to_owned(),
            data_set: match syntax {
                DEFLATED => deflate(&data_set),
                EXPLICIT_BIG => swapped(&data_set),
                _ => data_set,
            },
        });
    }
    all
}

/// An explicit little endian data set without sequences as big endian.
fn swapped(data_set: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < data_set.len() {
        let header = elements::header(data_set, at, Syntax::EXPLICIT_LITTLE).unwrap();
        let vr = header.vr.unwrap();
        out.extend(header.tag.0.to_be_bytes());
        out.extend(header.tag.1.to_be_bytes());
        out.extend(vr);
        match header.value - at {
            8 => out.extend((header.length as u16).to_be_bytes()),
            _ => {
                out.extend([0, 0]);
                out.extend(header.length.to_be_bytes());
            }
        }
        let value = &data_set[header.value..][..header.length as usize];
        match &vr {
            b"US" | b"OW" => out.extend(value.chunks(2).flat_map(|two| [two[1], two[0]])),
            _ => out.extend(value),
        }
        at = header.value + header.length as usize;
    }
    out
}

/// Method: all of them are stored and sent to a receiver that keeps what comes; element by element only Patient ID and its
/// issuer differ, everything behind the patient's group is there byte for byte, and what is stored is what came.
#[test]
fn only_the_patient_id_differs_in_every_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, rules) = archive(
        folder.path(),
        "{ strip_zeros = true, pad = 6, prefix = \"H-\", issuer = \"HOSPITAL\" }",
    );
    let instances = instances();
    let selected: Vec<Selected> = instances.iter().map(|one| store(&archive, one)).collect();
    let sink = Sink::start();
    let outcomes = send(&archive, &sink, rules.rewrite("r"), &selected);
    let received: BTreeMap<String, Received> = sink
        .take()
        .into_iter()
        .map(|received| (received.sop_instance.clone(), received))
        .collect();
    let mut changed_count = 0;
    for (instance, sent) in instances.iter().zip(&outcomes) {
        let name = &instance.name;
        let before = values(&instance.data_set, &instance.syntax);
        let old = before.get(&PATIENT_ID).map(|value| elements::text(value));
        let old = old.unwrap_or_default().trim().to_owned();
        let expected = format!("H-{:0>6}", old.trim_start_matches('0'));
        if expected.chars().count() > 64 {
            // Longer than LO can be (PS3.5 Table 6.2-1).
            assert!(matches!(sent, Sent::NotOurs(_)), "{name}: {sent:?}");
            continue;
        }
        assert!(sent.is_stored(), "{name}: {sent:?}");
        let received = &received[&instance.sop];
        assert_eq!(received.transfer_syntax, instance.syntax, "{name}");
        let after = values(&received.data_set, &instance.syntax);
        if old.is_empty() {
            // Nobody gets a number by a prefix alone.
            assert!(received.data_set == instance.data_set, "{name}");
            continue;
        }
        changed_count += 1;
        assert_eq!(elements::text(&after[&PATIENT_ID]), expected, "{name}");
        assert_eq!(elements::text(&after[&ISSUER]), "HOSPITAL", "{name}");
        for tag in before.keys().chain(after.keys()) {
            let own = *tag == PATIENT_ID || *tag == ISSUER;
            assert!(own || before.get(tag) == after.get(tag), "{name}: {tag:?}");
        }
        // Sequences and pixel data, delimiters and paddings: the very bytes.
        let (one, other) = match instance.syntax.as_str() {
            DEFLATED => (inflate(&instance.data_set), inflate(&received.data_set)),
            _ => (instance.data_set.clone(), received.data_set.clone()),
        };
        let behind = behind_the_patient(&one, &instance.syntax);
        assert!(other.ends_with(&one[behind..]), "{name}");
        assert_eq!(
            cut::fetch(&archive, &instance.sop).as_deref(),
            Some(instance.data_set.as_slice()),
            "{name}: what is stored"
        );
    }
    assert!(changed_count > 30, "{changed_count}");
}

/// Method: a receiver that takes Implicit VR Little Endian only gets small and large images that are stored otherwise: the
/// same values, but for Patient ID and issuer.
#[test]
fn in_another_encoding_too_only_the_patient_id_differs() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, rules) = archive(folder.path(), "{ prefix = \"H-\", issuer = \"HOSPITAL\" }");
    let mut instances = instances();
    instances.retain(|one| one.syntax == EXPLICIT_LITTLE && one.class == CT_IMAGE_STORAGE);
    let selected: Vec<Selected> = instances.iter().map(|one| store(&archive, one)).collect();
    let sink = Sink::start();
    sink.accept_only(&[IMPLICIT_LITTLE]);
    let outcomes = send(&archive, &sink, rules.rewrite("r"), &selected);
    let mut received = sink.take().into_iter();
    assert!(instances.iter().any(|one| one.name.starts_with("large")));
    for (instance, sent) in instances.iter().zip(&outcomes) {
        let name = &instance.name;
        let before = values(&instance.data_set, EXPLICIT_LITTLE);
        if elements::text(before.get(&PATIENT_ID).map_or(&[], Vec::as_slice)).len() > 62 {
            continue;
        }
        assert!(sent.is_stored(), "{name}: {sent:?}");
        let received = received.next().unwrap();
        assert_eq!(received.transfer_syntax, IMPLICIT_LITTLE, "{name}");
        let after = values(&received.data_set, IMPLICIT_LITTLE);
        let old = before.get(&PATIENT_ID).map(|value| elements::text(value));
        let old = old.filter(|old| !old.is_empty());
        if let Some(old) = &old {
            assert_eq!(
                elements::text(&after[&PATIENT_ID]),
                format!("H-{old}"),
                "{name}"
            );
        }
        for (tag, value) in &before {
            // What is in sequences is written anew.
            let own = old.is_some() && (*tag == PATIENT_ID || *tag == ISSUER);
            let same = after.get(tag).is_some_and(|new| new == value);
            assert!(
                own || same || is_sequence(*tag, &instance.data_set),
                "{name}: {tag:?}"
            );
        }
        assert_eq!(before.get(&PIXEL_DATA), after.get(&PIXEL_DATA), "{name}");
    }
}

fn is_sequence(tag: Tag, data_set: &[u8]) -> bool {
    let mut header = Vec::new();
    header.extend(tag.0.to_le_bytes());
    header.extend(tag.1.to_le_bytes());
    header.extend(b"SQ");
    data_set.windows(6).any(|six| six == header)
}

/// Where the first element behind group 0010 begins, bytes; the end where a sequence is before it (nothing is said then).
fn behind_the_patient(data_set: &[u8], syntax: &str) -> usize {
    let syntax = Syntax::of(syntax);
    let mut at = 0;
    while let Some(header) = elements::header(data_set, at, syntax) {
        if header.tag.0 > 0x0010 {
            return at;
        }
        let Some(next) = header.value.checked_add(header.length as usize) else {
            break;
        };
        at = next;
        if at > data_set.len() {
            break;
        }
    }
    data_set.len()
}

/// Method: a map that names one of three; and a new number that the character set of an instance lacks.
#[test]
fn what_cannot_be_rewritten_does_not_go_out_and_the_others_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ids.csv"), "4711,患者1\n4712,P 2\n").unwrap();
    let (archive, rules) = archive(folder.path(), "{ map = \"ids.csv\" }");
    let instance = |number: u32, patient_id: &str| {
        let sop = format!("2.25.5151.{number}");
        Instance {
            name: patient_id.to_owned(),
            class: CT_IMAGE_STORAGE.to_owned(),
            syntax: IMPLICIT_LITTLE.to_owned(),
            data_set: Ct {
                patient_id,
                ..Ct::new("2.25.5151", "2.25.5151.9", &sop)
            }
            .encode(),
            sop,
        }
    };
    let all = [
        instance(1, "4711"),
        instance(2, "4712"),
        instance(3, "9"),
        instance(4, ""),
    ];
    let selected: Vec<Selected> = all.iter().map(|one| store(&archive, one)).collect();
    let sink = Sink::start();
    let outcomes = send(&archive, &sink, rules.rewrite("r"), &selected);
    let reason = |at: usize| match &outcomes[at] {
        Sent::NotOurs(reason) => reason.clone(),
        other => panic!("{}: {other:?}", all[at].name),
    };
    assert!(reason(0).contains("character set"), "{}", reason(0));
    assert!(outcomes[1].is_stored(), "{:?}", outcomes[1]);
    assert!(reason(2).contains("map of rule r"), "{}", reason(2));
    assert!(reason(3).contains("map of rule r"), "{}", reason(3));
    let received = sink.take();
    assert_eq!(received.len(), 1);
    let values = values(&received[0].data_set, IMPLICIT_LITTLE);
    assert_eq!(elements::text(&values[&PATIENT_ID]), "P 2");
}

/// Method: Patient ID twice, in a small data set and, the second time behind the pixel data, in a large one; nothing of the
/// first goes out, and the second is not complete.
#[test]
fn a_second_patient_id_does_not_slip_through() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, rules) = archive(folder.path(), "{ prefix = \"H\" }");
    let sink = Sink::start();
    for (number, pixel_bytes) in [(1, 1_000), (2, 5 << 20)] {
        let sop = format!("2.25.5152.{number}");
        let mut data_set = Ct {
            pixel_bytes,
            ..Ct::new("2.25.5152", "2.25.5152.9", &sop)
        }
        .encode();
        put(
            &mut data_set,
            Syntax::IMPLICIT_LITTLE,
            PATIENT_ID,
            "LO",
            b"SECOND",
        );
        let instance = Instance {
            name: String::new(),
            class: CT_IMAGE_STORAGE.to_owned(),
            syntax: IMPLICIT_LITTLE.to_owned(),
            data_set,
            sop,
        };
        let selected = store(&archive, &instance);
        let outcomes = send(&archive, &sink, rules.rewrite("r"), &[selected]);
        assert!(!outcomes[0].is_stored(), "{outcomes:?}");
    }
    assert_eq!(sink.count(), 0);
}
