//! What is answered 0000H is found at once, comes back byte for byte, and lies on the disk as a file that others read.

mod common;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::build::{self, CT_IMAGE_STORAGE, Ct, Tag, by_uids, ident};
use common::files::{self, Good};
use common::images::tree;
use common::wire::{
    EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE,
};
use common::{Part10, Server, Settings, Sink, elements, tools};

fn with_sink() -> (Server, Sink) {
    let sink = Sink::start();
    let server = Server::with(Settings::default().peer("SINK", sink.port()));
    (server, sink)
}

fn store(server: &Server, good: &Good) {
    if let Err(why) = try_store(server, good) {
        panic!("{why}");
    }
}

/// Sends a file on a context of its own class and syntax; `Err` says how it was refused.
fn try_store(server: &Server, good: &Good) -> Result<(), String> {
    let Good { file, uids } = good;
    let name = file.name();
    let syntax = file.transfer_syntax.as_str();
    let mut client = server.associate(&[(1, &uids.sop_class, &[syntax])]);
    if client.accepted(1) != Some(syntax) {
        return Err(format!("{name}: no context for {}", uids.sop_class));
    }
    let (status, comment) = client
        .c_store(1, &uids.sop_class, &uids.sop_instance, &file.data_set)
        .map_err(|error| format!("{name}: {error}"))?;
    if status != 0 {
        return Err(format!("{name}: {status:04X}H {comment:?}"));
    }
    client.release().map_err(|error| format!("{name}: {error}"))
}

/// SOP Instance UIDs that a C-FIND at IMAGE level answers.
fn find_images(server: &Server, study: &str, series: Option<&str>, sop: &str) -> Vec<String> {
    let mut client = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
    let found = client
        .c_find(1, &by_uids("IMAGE", study, series, Some(sop)))
        .expect("C-FIND");
    assert_eq!(found.status, 0, "{:?}", found.comment);
    client.release().expect("release");
    found
        .answers()
        .iter()
        .map(|answer| elements::find(answer, 0x0008, 0x0018).expect("SOPInstanceUID"))
        .collect()
}

/// Data sets that a C-GET of one instance brings.
fn get(server: &Server, class: &str, syntax: &str, study: &str, sop: &str) -> Vec<Vec<u8>> {
    let mut client = server.associate(&[
        (1, STUDY_ROOT_GET, &[EXPLICIT_LITTLE, IMPLICIT_LITTLE]),
        (3, class, &[syntax]),
    ]);
    let identifier = by_uids("IMAGE", study, None, Some(sop));
    let identifier = if client.accepted(1) == Some(EXPLICIT_LITTLE) {
        explicit(&identifier)
    } else {
        identifier
    };
    let got = client.c_get(1, &identifier).expect("C-GET");
    assert_eq!(got.moved.status, 0, "C-GET: {:?}", got.moved.comment);
    client.release().expect("release");
    got.received.into_iter().map(|one| one.data_set).collect()
}

/// An implicit identifier of UIDs and level, written in explicit VR.
fn explicit(identifier: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, value) in elements::elements(identifier) {
        let vr = if tag == Tag(0x0008, 0x0052) {
            "CS"
        } else {
            "UI"
        };
        build::put(&mut out, elements::Syntax::EXPLICIT_LITTLE, tag, vr, &value);
    }
    out
}

fn conforming(uid: &str) -> bool {
    uid.len() <= 64
        && uid
            .bytes()
            .all(|byte| byte == b'.' || byte.is_ascii_digit())
}

/// Sends every file and follows it through each service and onto the disk.
fn every_one_comes_back(goods: &[Good], dcmdump: Option<&Path>) {
    let (mut server, sink) = with_sink();
    let mut mover = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    // All are tried, so that one refusal does not hide what the others show.
    let mut refused = Vec::new();
    let mut stored = Vec::new();
    for good in goods {
        let Good { file, uids } = good;
        let name = file.name();
        if let Err(why) = try_store(&server, good) {
            // What no other program can read either is refused, and kept in quarantine.
            if tools::tool("dcmdump").is_none_or(|dcmdump| reads(&dcmdump, &good.file.path)) {
                refused.push(why);
            }
            continue;
        }
        stored.push(good.clone());
        assert_eq!(
            find_images(&server, &uids.study, Some(&uids.series), &uids.sop_instance),
            [uids.sop_instance.as_str()],
            "{name}: C-FIND"
        );

        let identifier = by_uids(
            "IMAGE",
            &uids.study,
            Some(&uids.series),
            Some(&uids.sop_instance),
        );
        let moved = mover.c_move(1, "SINK", &identifier).expect("C-MOVE");
        assert_eq!(moved.status, 0, "{name}: C-MOVE: {:?}", moved.comment);
        let mut arrived = sink.take();
        assert_eq!(arrived.len(), 1, "{name}: C-MOVE");
        let arrived = arrived.remove(0);
        assert_eq!(arrived.sop_instance, uids.sop_instance, "{name}: C-MOVE");
        assert_eq!(
            arrived.transfer_syntax, file.transfer_syntax,
            "{name}: C-MOVE"
        );
        // assert! and not assert_eq!: megabytes on the screen help nobody.
        assert!(
            arrived.data_set == file.data_set,
            "{name}: other bytes by C-MOVE"
        );
        assert_eq!(
            arrived.originator.map(|(title, _)| title).as_deref(),
            Some("TESTER"),
            "{name}: Move Originator"
        );

        let got = get(
            &server,
            &uids.sop_class,
            &file.transfer_syntax,
            &uids.study,
            &uids.sop_instance,
        );
        assert!(got == [file.data_set.clone()], "{name}: other by C-GET");
    }
    server.assert_alive();
    check_disk(&server.volume("A"), &stored, dcmdump);

    // The same after a stop and a start.
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    for good in &stored {
        let uids = &good.uids;
        let found = find_images(&server, &uids.study, None, &uids.sop_instance);
        assert_eq!(found, [uids.sop_instance.as_str()], "{}", good.file.name());
    }
    assert!(
        refused.is_empty(),
        "{} of {} are refused:\n{}",
        refused.len(),
        goods.len(),
        refused.join("\n")
    );
}

fn check_disk(volume: &Path, goods: &[Good], dcmdump: Option<&Path>) {
    let paths = tree(volume);
    let mut stored: HashMap<String, (PathBuf, Part10)> = HashMap::new();
    for path in &paths {
        let relative = path.strip_prefix(volume).expect("below the volume");
        let parts: Vec<_> = relative
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            parts.len(),
            5,
            "date/modality/patient/series/file: {parts:?}"
        );
        assert!(relative.as_os_str().len() <= 200, "{parts:?}");
        assert!(parts[4].ends_with(".dcm"), "{parts:?}");
        let file = Part10::read(path).expect("a stored file is Part-10");
        let before = stored.insert(
            file.media_sop_instance_uid.clone(),
            (relative.to_path_buf(), file),
        );
        assert!(before.is_none(), "stored twice: {parts:?}");
    }
    assert_eq!(stored.len(), goods.len(), "one file an instance");
    let mut studies = HashSet::new();
    for Good { file, uids } in goods {
        let name = file.name();
        let (relative, on_disk) = &stored[&uids.sop_instance];
        assert!(on_disk.data_set == file.data_set, "{name}: other bytes");
        assert_eq!(on_disk.transfer_syntax, file.transfer_syntax, "{name}");
        assert_eq!(on_disk.media_sop_class_uid, uids.sop_class, "{name}");
        let shown = relative.to_string_lossy();
        if conforming(&uids.sop_instance) {
            assert!(
                shown.ends_with(&format!("/{}.dcm", uids.sop_instance)),
                "{shown}"
            );
        }
        // The first instance of a study fixes the folder of its series' date.
        if studies.insert(uids.study.clone()) {
            if let Some(date) = file.text(0x0008, 0x0020).filter(|date| {
                date.len() == 8
                    && date.bytes().all(|byte| byte.is_ascii_digit())
                    && date.as_str() >= "19000101"
            }) {
                assert!(shown.starts_with(&format!("{date}/")), "{name}: {shown}");
            }
            let modality = file.text(0x0008, 0x0060);
            let modality = modality.as_deref().unwrap_or("unknown");
            if modality.bytes().all(|byte| byte.is_ascii_uppercase()) || modality == "unknown" {
                assert_eq!(shown.split('/').nth(1), Some(modality), "{name}: {shown}");
            }
        }
        if let Some(dcmdump) = dcmdump {
            let path = volume.join(relative);
            let outcome = tools::run(std::process::Command::new(dcmdump).arg("-q").arg(path));
            assert!(outcome.success(), "{name}: dcmdump: {}", outcome.text());
        }
    }
}

/// Method: each file of `testdata/` on a context of its own class and syntax; then C-FIND, C-MOVE, C-GET, the disk.
#[test]
fn every_instance_of_testdata_is_found_and_comes_back_identical() {
    let goods = files::good_below(&files::testdata());
    assert!(goods.len() >= 45, "{} files in testdata", goods.len());
    every_one_comes_back(&goods, tools::tool("dcmdump").as_deref());
}

/// Method: the same with files of many makers, where a folder of them is at hand.
#[test]
fn every_instance_of_the_samples_is_found_and_comes_back_identical() {
    let Some(folder) = files::samples() else {
        eprintln!("skipped: no folder of samples (KURA_DICOM_SAMPLES)");
        return;
    };
    let goods = files::good_below(&folder);
    assert!(!goods.is_empty());
    every_one_comes_back(&goods, None);
}

/// Method: one image twice on one association and again after a restart.
#[test]
fn an_image_sent_again_is_success_and_is_kept_once() {
    let mut server = Server::start();
    let goods = files::good_below(&files::testdata());
    let good = goods
        .iter()
        .find(|good| good.file.name().ends_with("/mr.dcm"));
    let good = good.expect("mr.dcm");
    store(&server, good);
    store(&server, good);
    server.kill();
    server.restart();
    store(&server, good);
    server.wait_until_indexed();
    let uids = &good.uids;
    let found = find_images(&server, &uids.study, None, &uids.sop_instance);
    assert_eq!(found.len(), 1);
    assert_eq!(tree(&server.volume("A")).len(), 1);
}

struct Sent {
    syntax: &'static str,
    data_set: Vec<u8>,
}

fn ct(description: &str, explicit: bool) -> Sent {
    Sent {
        syntax: if explicit {
            EXPLICIT_LITTLE
        } else {
            IMPLICIT_LITTLE
        },
        data_set: Ct {
            explicit,
            patient_name: description,
            pixel_bytes: 20_000,
            ..Ct::new("2.25.41", "2.25.42", "2.25.43")
        }
        .encode(),
    }
}

fn send(server: &Server, one: &Sent) -> u16 {
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[one.syntax])]);
    let (status, _) = client
        .c_store(1, CT_IMAGE_STORAGE, "2.25.43", &one.data_set)
        .expect("C-STORE");
    client.release().expect("release");
    status
}

fn on_disk(server: &Server) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = tree(&server.volume("A"))
        .iter()
        .map(|path| Part10::read(path).expect("Part-10").data_set)
        .collect();
    all.sort();
    all
}

fn sorted(mut all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    all.sort();
    all
}

/// NumberOfStudyRelatedInstances of the study of [`ct`].
fn counted(server: &Server) -> String {
    let mut client = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
    let key = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0020, 0x000D), "UI", "2.25.41"),
        (Tag(0x0020, 0x1208), "IS", ""),
    ]);
    let found = client.c_find(1, &key).expect("C-FIND");
    let answers = found.answers();
    assert_eq!(answers.len(), 1);
    elements::find(&answers[0], 0x0020, 0x1208).expect("a count")
}

/// Method: one image in implicit and in explicit VR: success, both on the disk, the first is answered.
#[test]
fn an_image_in_another_transfer_syntax_is_kept_beside_the_first() {
    let server = Server::start();
    let (first, second) = (ct("A^B", false), ct("A^B", true));
    assert_eq!(send(&server, &first), 0);
    assert_eq!(send(&server, &second), 0);
    assert_eq!(counted(&server), "1");
    assert_eq!(find_images(&server, "2.25.41", None, "2.25.43").len(), 1);
    let got = get(
        &server,
        CT_IMAGE_STORAGE,
        first.syntax,
        "2.25.41",
        "2.25.43",
    );
    assert!(got == [first.data_set.clone()], "not the first");
    assert!(on_disk(&server) == sorted(vec![first.data_set, second.data_set]));
}

/// Method: one SOP Instance UID with other content: nothing is overwritten, nothing is lost.
#[test]
fn other_content_under_one_uid_never_replaces_the_first() {
    let mut server = Server::start();
    let (first, second) = (ct("A^B", false), ct("C^D", false));
    assert_eq!(send(&server, &first), 0);
    assert_eq!(send(&server, &second), 0);
    for round in 0..2 {
        assert_eq!(counted(&server), "1");
        let got = get(
            &server,
            CT_IMAGE_STORAGE,
            first.syntax,
            "2.25.41",
            "2.25.43",
        );
        assert!(got == [first.data_set.clone()], "round {round}");
        assert!(on_disk(&server) == sorted(vec![first.data_set.clone(), second.data_set.clone()]));
        assert!(server.terminate().success());
        server.restart();
        server.wait_until_indexed();
    }
}

/// Method: two senders start together with one UID, with equal and with different bytes.
#[test]
fn two_senders_of_one_uid_at_once_both_succeed() {
    for same in [true, false] {
        for _ in 0..if common::long() { 50 } else { 8 } {
            let server = Arc::new(Server::start());
            let images = [
                ct("A^B", false),
                ct(if same { "A^B" } else { "C^D" }, false),
            ];
            let expected = if same {
                vec![images[0].data_set.clone()]
            } else {
                sorted(images.iter().map(|one| one.data_set.clone()).collect())
            };
            let barrier = Arc::new(Barrier::new(2));
            let senders: Vec<_> = images
                .into_iter()
                .map(|image| {
                    let (server, barrier) = (Arc::clone(&server), Arc::clone(&barrier));
                    std::thread::spawn(move || {
                        barrier.wait();
                        send(&server, &image)
                    })
                })
                .collect();
            for sender in senders {
                assert_eq!(sender.join().expect("sender"), 0);
            }
            assert_eq!(counted(&server), "1");
            assert!(on_disk(&server) == expected, "same bytes: {same}");
        }
    }
}

/// Method: PDUs from tiny to large, and several PDVs in one PDU; the bytes come back.
#[test]
fn an_image_may_be_cut_into_fragments_of_any_size() {
    let server = Server::start();
    for (number, pdu_size) in [8, 9, 100, 4_097, 16_384, 100_000].into_iter().enumerate() {
        let sop = format!("2.25.50.{number}");
        let bytes = build::synthetic_ct("2.25.51", "2.25.52", &sop, 1, 33_333, false);
        let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])]);
        client.pdu_size = pdu_size.min(client.peer_pdu_max() as usize);
        let (status, comment) = client
            .c_store(1, CT_IMAGE_STORAGE, &sop, &bytes)
            .expect("C-STORE");
        assert_eq!(status, 0, "{pdu_size}: {comment:?}");
        let got = get(&server, CT_IMAGE_STORAGE, IMPLICIT_LITTLE, "2.25.51", &sop);
        assert!(got == [bytes], "{pdu_size}");
    }

    let bytes = build::synthetic_ct("2.25.51", "2.25.52", "2.25.53", 1, 3_000, false);
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])]);
    client
        .begin_store(1, CT_IMAGE_STORAGE, "2.25.53")
        .expect("command");
    let pdvs: Vec<u8> = bytes
        .chunks(700)
        .enumerate()
        .flat_map(|(number, piece)| {
            let last = (number + 1) * 700 >= bytes.len();
            common::wire::pdv(1, false, last, piece)[6..].to_vec()
        })
        .collect();
    let mut pdu = vec![4, 0];
    pdu.extend((pdvs.len() as u32).to_be_bytes());
    pdu.extend(pdvs);
    std::io::Write::write_all(client.stream(), &pdu).expect("one PDU");
    assert_eq!(client.store_response().expect("C-STORE").0, 0);
    let got = get(
        &server,
        CT_IMAGE_STORAGE,
        IMPLICIT_LITTLE,
        "2.25.51",
        "2.25.53",
    );
    assert!(got == [bytes]);
}

/// Method: the PET and CT study; STUDY and SERIES answers, then C-MOVE of the study and the counters on the way.
#[test]
fn a_study_of_two_series_is_counted_and_moved_whole() {
    let (server, sink) = with_sink();
    let goods: Vec<Good> = files::good_below(&files::testdata())
        .into_iter()
        .filter(|good| good.file.name().contains("/petct-"))
        .collect();
    assert_eq!(goods.len(), 4);
    goods.iter().for_each(|good| store(&server, good));
    let study = &goods[0].uids.study;

    let mut client = server.associate(&[
        (1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE]),
        (3, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE]),
    ]);
    let found = client
        .c_find(
            1,
            &ident(&[
                (Tag(0x0008, 0x0052), "CS", "STUDY"),
                (Tag(0x0020, 0x000D), "UI", study),
                (Tag(0x0008, 0x0061), "CS", ""),
                (Tag(0x0020, 0x1206), "IS", ""),
                (Tag(0x0020, 0x1208), "IS", ""),
            ]),
        )
        .expect("C-FIND");
    let answers = found.answers();
    assert_eq!(answers.len(), 1);
    let value = |element| elements::find(&answers[0], 0x0020, element);
    assert_eq!(value(0x1206).as_deref(), Some("2"));
    assert_eq!(value(0x1208).as_deref(), Some("4"));
    let modalities = elements::find(&answers[0], 0x0008, 0x0061).expect("ModalitiesInStudy");
    let modalities: HashSet<_> = modalities.split('\\').collect();
    assert_eq!(modalities, HashSet::from(["CT", "PT"]));

    let found = client
        .c_find(
            1,
            &ident(&[
                (Tag(0x0008, 0x0052), "CS", "SERIES"),
                (Tag(0x0020, 0x000D), "UI", study),
                (Tag(0x0020, 0x000E), "UI", ""),
                (Tag(0x0008, 0x0060), "CS", ""),
                (Tag(0x0020, 0x1209), "IS", ""),
            ]),
        )
        .expect("C-FIND");
    let series: HashSet<_> = found
        .answers()
        .iter()
        .map(|answer| {
            (
                elements::find(answer, 0x0008, 0x0060),
                elements::find(answer, 0x0020, 0x1209),
            )
        })
        .collect();
    let expected = ["CT", "PT"].map(|modality| (Some(modality.into()), Some("2".into())));
    assert_eq!(series, HashSet::from(expected));

    let moved = client
        .c_move(3, "SINK", &by_uids("STUDY", study, None, None))
        .expect("C-MOVE");
    assert_eq!(moved.status, 0);
    assert_eq!(moved.counters[1..], [Some(4), Some(0), Some(0)]);
    for counters in &moved.pending {
        let sum: u16 = counters.iter().map(|count| count.expect("all four")).sum();
        assert_eq!(sum, 4, "{counters:?}");
    }
    assert_eq!(sink.take().len(), 4);
    let moved = client
        .c_move(
            3,
            "SINK",
            &by_uids("SERIES", study, Some(&goods[0].uids.series), None),
        )
        .expect("C-MOVE");
    assert_eq!(moved.status, 0);
    assert_eq!(sink.take().len(), 2);
}

/// Method: a destination that refuses every instance.
#[test]
fn a_move_names_what_failed() {
    let (server, sink) = with_sink();
    let goods = files::good_below(&files::testdata());
    let good = goods
        .iter()
        .find(|good| good.file.name().ends_with("/cr.dcm"));
    let good = good.expect("cr.dcm");
    store(&server, good);
    sink.answer(0xA700);
    let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let identifier = by_uids("STUDY", &good.uids.study, None, None);
    let moved = client.c_move(1, "SINK", &identifier).expect("C-MOVE");
    assert!(
        matches!(moved.status, 0xA702 | 0xB000),
        "{:04X}H",
        moved.status
    );
    assert_eq!(moved.counters[2], Some(1));
    assert_eq!(moved.failed, [good.uids.sop_instance.as_str()]);
}

/// Method: a destination that stalls; a C-CANCEL-RQ ends the rest with FE00H, and the association goes on.
#[test]
fn a_move_can_be_cancelled() {
    let (server, sink) = with_sink();
    let mut client = server.associate(&[
        (1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
        (3, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE]),
    ]);
    for number in 0..20 {
        let sop = format!("2.25.60.{number}");
        let bytes = build::synthetic_ct("2.25.61", "2.25.62", &sop, number, 1_000, false);
        let stored = client.c_store(1, CT_IMAGE_STORAGE, &sop, &bytes);
        assert_eq!(stored.expect("C-STORE").0, 0);
    }
    sink.stall(true);
    let identifier = by_uids("STUDY", "2.25.61", None, None);
    let message_id = client
        .send_query(3, common::wire::C_MOVE_RQ, Some("SINK"), &identifier)
        .expect("C-MOVE");
    sink.wait_for(1, Duration::from_secs(30));
    client.c_cancel(3, message_id).expect("C-CANCEL");
    std::thread::sleep(Duration::from_millis(300));
    sink.stall(false);
    let moved = client.retrieve_responses(3).expect("responses").moved;
    assert_eq!(moved.status, 0xFE00, "{moved:?}");
    assert!(sink.count() < 20, "{} instances came", sink.count());
    let moved = client.c_move(3, "SINK", &identifier).expect("C-MOVE");
    assert_eq!(moved.status, 0);
}

/// Method: one large instance to a destination that would need minutes for it. What was cut off is neither sent nor failed.
#[test]
fn a_move_is_cancelled_in_the_middle_of_an_instance() {
    let (server, sink) = with_sink();
    let mut client = server.associate(&[
        (1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
        (3, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE]),
    ]);
    let bytes = build::synthetic_ct("2.25.61", "2.25.62", "2.25.60.1", 1, 64 << 20, false);
    let stored = client.c_store(1, CT_IMAGE_STORAGE, "2.25.60.1", &bytes);
    assert_eq!(stored.expect("C-STORE").0, 0);
    sink.slow(50);
    let identifier = by_uids("STUDY", "2.25.61", None, None);
    let message_id = client
        .send_query(3, common::wire::C_MOVE_RQ, Some("SINK"), &identifier)
        .expect("C-MOVE");
    std::thread::sleep(Duration::from_secs(1));
    client.c_cancel(3, message_id).expect("C-CANCEL");
    let moved = client.retrieve_responses(3).expect("responses").moved;
    assert_eq!(moved.status, 0xFE00, "{moved:?}");
    assert_eq!(moved.counters, [Some(1), Some(0), Some(0), Some(0)]);
    assert_eq!(sink.count(), 0);
    sink.slow(0);
    let moved = client.c_move(3, "SINK", &identifier).expect("C-MOVE");
    assert_eq!(moved.status, 0);
}

fn reads(dcmdump: &Path, file: &Path) -> bool {
    tools::run(std::process::Command::new(dcmdump).arg("-q").arg(file)).success()
}
