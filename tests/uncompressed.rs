//! Promise: a peer that takes only uncompressed images gets them, with the very same samples; what cannot be decoded is a
//! failed sub-operation with its reason, never another image.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::build::{self, CT_IMAGE_STORAGE, by_uids};
use common::files::{self, Good};
use common::tools::{peer_script, run, run_within, tool};
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, Received, STUDY_ROOT_MOVE};
use common::{Part10, Random, Server, Settings, Sink, elements};
use kura::dicom::convert::Converter;
use kura::pixels::Plain;
use serde_json::Value;

const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";

/// Samples of files beyond this length are looked at in the long campaign only, bytes.
const SAMPLE_BYTES_MAX: usize = 300_000;
/// As is more than so many of one transfer syntax.
const SAMPLES_OF_A_SYNTAX: usize = 4;

/// Stores it; false where the server has a reason not to.
fn store(server: &Server, good: &Good) -> bool {
    let syntax = good.file.transfer_syntax.as_str();
    let mut client = server.associate(&[(1, &good.uids.sop_class, &[syntax])]);
    if client.accepted(1) != Some(syntax) {
        return false;
    }
    let (class, sop) = (&good.uids.sop_class, &good.uids.sop_instance);
    let stored = client.c_store(1, class, sop, &good.file.data_set);
    let (status, comment) = stored.unwrap_or_else(|error| panic!("{}: {error}", good.file.name()));
    if status != 0 {
        println!("{}: {status:04X}H {comment:?}", good.file.name());
    }
    status == 0
}

fn move_study(server: &Server, study: &str, destination: &str) -> common::wire::Moved {
    let mut mover = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let moved = mover.c_move(1, destination, &by_uids("STUDY", study, None, None));
    moved.unwrap_or_else(|error| panic!("C-MOVE of {study}: {error}"))
}

/// A file of what came.
fn write(folder: &Path, received: &Received) {
    let mut meta = Vec::new();
    let uids = [
        (2u8, &received.sop_class),
        (3, &received.sop_instance),
        (0x10, &received.transfer_syntax),
    ];
    for (element, uid) in uids {
        let mut value = uid.as_bytes().to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        meta.extend([2, 0, element, 0, b'U', b'I', value.len() as u8, 0]);
        meta.extend(value);
    }
    let mut file = vec![0; 128];
    file.extend(b"DICM\x02\0\0\0UL\x04\0");
    file.extend((meta.len() as u32).to_le_bytes());
    file.extend(meta);
    file.extend(&received.data_set);
    std::fs::write(folder.join(format!("{}.dcm", received.sop_instance)), file).expect("write");
}

/// What may differ in a sample between two decoders: rounding, where the compression itself is lossy.
fn tolerance(syntax: &str) -> f64 {
    match syntax {
        "1.2.840.10008.1.2.4.50" | "1.2.840.10008.1.2.4.51" => 2.0,
        "1.2.840.10008.1.2.4.91" | "1.2.840.10008.1.2.4.203" => 1.0,
        _ => 0.0,
    }
}

/// Method: `testdata/` and the samples of every transfer syntax, moved to a receiver that takes implicit VR little endian
/// only, and once more to one that takes explicit; pydicom reads both sides and compares elements and samples.
#[test]
fn uncompressed_images_have_the_samples_that_pydicom_decodes() {
    if peer_script("uncompressed.py").is_none() {
        return;
    }
    let mut goods = files::good_below(&files::testdata());
    let mut of_syntax: BTreeMap<String, usize> = BTreeMap::new();
    match files::samples() {
        None => eprintln!("skipped: no folder of samples; testdata/ alone"),
        Some(folder) => {
            for good in files::good_below(&folder) {
                let count = of_syntax
                    .entry(good.file.transfer_syntax.clone())
                    .or_default();
                let few =
                    good.file.data_set.len() < SAMPLE_BYTES_MAX && *count < SAMPLES_OF_A_SYNTAX;
                if few || common::long() {
                    *count += 1;
                    goods.push(good);
                }
            }
        }
    }
    let sink = Sink::start();
    let server = Server::with(Settings::default().peer("SINK", sink.port()));
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let (stored, received) = (folder.path().join("stored"), folder.path().join("received"));
    for folder in [&stored, &received] {
        std::fs::create_dir(folder).expect("create a folder");
    }
    let mut studies = BTreeSet::new();
    for (at, good) in goods.iter().enumerate() {
        if store(&server, good) {
            studies.insert(good.uids.study.clone());
            std::fs::copy(&good.file.path, stored.join(format!("{at}.dcm"))).expect("copy");
        }
    }
    let (mut failed, mut compared) = (Vec::new(), 0);
    for only in [IMPLICIT_LITTLE, EXPLICIT_LITTLE] {
        sink.accept_only(&[only]);
        for study in &studies {
            let moved = move_study(&server, study, "SINK");
            assert!(matches!(moved.status, 0 | 0xB000 | 0xA702), "{moved:?}");
            assert_eq!(moved.status == 0, moved.failed.is_empty(), "{moved:?}");
            failed.extend(
                moved
                    .failed
                    .iter()
                    .cloned()
                    .map(|uid| (uid, moved.comment.clone())),
            );
            for received_one in sink.take() {
                assert_eq!(received_one.transfer_syntax, only);
                write(&received, &received_one);
            }
        }
        let mut script = peer_script("uncompressed.py").expect("it was there");
        let script = script.arg(&stored).arg(&received);
        let outcome = run_within(script, Duration::from_secs(600));
        assert!(outcome.success(), "{}", outcome.text());
        let mut wrong = Vec::new();
        for line in outcome.stdout.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let syntax = line["syntax"].as_str().unwrap_or_default();
            let difference = line["difference"].as_f64().unwrap_or(0.0);
            if difference > tolerance(syntax) || line["wrong"] != serde_json::json!([]) {
                wrong.push(line.to_string());
            }
            if line["undecoded"].is_string() {
                println!("not decoded by pydicom: {line}");
            }
            compared += 1;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    println!("compared {compared}; failed {failed:#?}");
    assert!(compared > 80, "{compared}");
}

/// A program that compresses, its arguments, the file that it is given, and by how much a sample may differ from the
/// program's own decoding.
const DCMTK: [(&str, &[&str], &str, i64); 7] = [
    ("dcmcrle", &[], "ct-explicit-le.dcm", 0),
    ("dcmcjpeg", &["+el"], "mr.dcm", 0),
    ("dcmcjpeg", &["+e1"], "dx.dcm", 0),
    ("dcmcjpeg", &["+ee"], "petct-ct-1.dcm", 1),
    ("dcmcjpeg", &["+eb"], "us-multiframe.dcm", 1),
    ("dcmcjpls", &[], "cr.dcm", 0),
    ("dcmcjpls", &["+en"], "petct-pt-1.dcm", 0),
];

fn pixels(file: &Path) -> Vec<u8> {
    let file = Part10::read(file).unwrap_or_else(|reason| panic!("{reason}"));
    let all = elements::read(&file.data_set, &file.transfer_syntax).expect("well formed");
    elements::raw(&all, 0x7FE0, 0x0010)
        .expect("pixel data")
        .to_vec()
}

/// Method: DCMTK compresses files of `testdata/`, the server decompresses them for a receiver, and DCMTK for itself.
#[test]
fn what_dcmtk_compressed_comes_with_the_samples_that_dcmtk_decodes() {
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let sink = Sink::start();
    sink.accept_only(&[EXPLICIT_LITTLE]);
    let server = Server::with(Settings::default().peer("SINK", sink.port()));
    for (number, (program, options, name, tolerance)) in DCMTK.into_iter().enumerate() {
        let decoder = program.replacen("dcmc", "dcmd", 1);
        let (Some(encoder), Some(decoder)) = (tool(program), tool(&decoder)) else {
            return;
        };
        let (packed, plain) = (
            folder.path().join(format!("{number}.packed")),
            folder.path().join(format!("{number}.plain")),
        );
        let source = files::testdata().join(name);
        let outcome = run(Command::new(encoder).args(options).args([&source, &packed]));
        if !outcome.success() {
            println!("{program} {options:?} {name}: {}", outcome.text());
            continue;
        }
        let outcome = run(Command::new(decoder).args([&packed, &plain]));
        assert!(outcome.success(), "{}", outcome.text());
        let file = Part10::read(&packed).expect("a DICOM file");
        let uids = file.uids().expect("UIDs");
        let good = Good { file, uids };
        assert!(store(&server, &good), "{program} {options:?} {name}");
        let mut mover = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
        let (study, series) = (&good.uids.study, &good.uids.series);
        let identifier = by_uids("IMAGE", study, Some(series), Some(&good.uids.sop_instance));
        let moved = mover.c_move(1, "SINK", &identifier).expect("C-MOVE");
        assert_eq!(moved.status, 0, "{program} {options:?} {name}: {moved:?}");
        let received = sink.take().remove(0);
        let all = elements::read(&received.data_set, EXPLICIT_LITTLE).expect("well formed");
        let ours = elements::raw(&all, 0x7FE0, 0x0010).expect("pixel data");
        let theirs = pixels(&plain);
        assert_eq!(ours.len(), theirs.len(), "{program} {options:?} {name}");
        let wide = elements::raw(&all, 0x0028, 0x0100) == Some(&[16, 0]);
        let samples = |bytes: &[u8]| -> Vec<i64> {
            match wide {
                true => bytes
                    .chunks_exact(2)
                    .map(|two| i64::from(u16::from_le_bytes([two[0], two[1]])))
                    .collect(),
                false => bytes.iter().map(|&byte| i64::from(byte)).collect(),
            }
        };
        let most = samples(ours)
            .iter()
            .zip(samples(&theirs))
            .map(|(one, other)| (one - other).abs())
            .max();
        assert!(
            most <= Some(tolerance),
            "{program} {options:?} {name}: {most:?}"
        );
    }
}

/// Method: a code stream cut in half, one of noise, and a private transfer syntax, in one study with a good image.
#[test]
fn what_cannot_be_decoded_fails_alone_and_with_its_reason() {
    let sink = Sink::start();
    let server = Server::with(Settings::default().peer("SINK", sink.port()));
    let study = "2.25.70";
    let send = |number: u32, syntax: &str, data_set: &[u8]| {
        let sop = format!("2.25.71.{number}");
        let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[syntax])]);
        let stored = client.c_store(1, CT_IMAGE_STORAGE, &sop, data_set);
        assert_eq!(stored.expect("C-STORE").0, 0);
    };
    let good = |number: u32| {
        let sop = format!("2.25.71.{number}");
        build::synthetic_ct(study, "2.25.72", &sop, number, 512, true)
    };
    // An ordinary data set whose pixel data are these fragments.
    let packed = |number: u32, fragment: &[u8]| {
        let mut data_set = good(number);
        let pixels = data_set
            .windows(4)
            .rposition(|four| four == [0xE0, 0x7F, 0x10, 0]);
        data_set.truncate(pixels.expect("pixel data"));
        data_set
            .extend(b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0\xFE\xFF\0\xE0");
        data_set.extend((fragment.len() as u32).to_le_bytes());
        data_set.extend(fragment);
        data_set.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        data_set
    };
    let stream = files::load("ct-jpeg-2000.dcm").data_set;
    let begin = stream
        .windows(4)
        .position(|four| four == [0xFF, 0x4F, 0xFF, 0x51]);
    let stream = &stream[begin.expect("a code stream")..];
    send(1, EXPLICIT_LITTLE, &good(1));
    send(2, JPEG_2000, &packed(2, &stream[..stream.len() / 4 * 2]));
    send(3, "1.2.840.10008.1.2.4.70", &packed(3, &[0x55; 4000]));
    send(4, "1.2.840.10008.1.2.5", &packed(4, &[1; 64]));
    send(5, "1.2.3.4.5", &packed(5, &[0; 64]));
    send(6, EXPLICIT_LITTLE, &good(6));

    sink.accept_only(&[IMPLICIT_LITTLE]);
    let moved = move_study(&server, study, "SINK");
    assert_eq!(moved.status, 0xB000, "{moved:?}");
    assert_eq!(
        &moved.counters[1..],
        [Some(2), Some(4), Some(0)],
        "{moved:?}"
    );
    let failed: BTreeSet<_> = moved.failed.iter().map(String::as_str).collect();
    let expected = ["2.25.71.2", "2.25.71.3", "2.25.71.4", "2.25.71.5"];
    assert_eq!(failed, BTreeSet::from(expected));
    let comment = moved.comment.unwrap_or_default();
    assert!(comment.contains("cannot be decompressed"), "{comment}");
    let came: BTreeSet<_> = sink
        .take()
        .into_iter()
        .map(|one| one.sop_instance)
        .collect();
    assert_eq!(
        came,
        BTreeSet::from(["2.25.71.1", "2.25.71.6"].map(str::to_owned))
    );

    // As they are stored they are sent all the same.
    sink.accept_only(&[]);
    assert_eq!(move_study(&server, study, "SINK").status, 0);
    assert_eq!(sink.take().len(), 6);
}

/// Method: the decoder is killed while it rests; then the server, by SIGKILL.
#[test]
fn a_dead_decoder_is_replaced_and_none_outlives_its_server() {
    use rustix::process::{Pid, Signal, kill_process};
    let kill = |pid: i32| {
        let pid = Pid::from_raw(pid).expect("a process");
        kill_process(pid, Signal::KILL).expect("kill");
    };
    let sink = Sink::start();
    sink.accept_only(&[EXPLICIT_LITTLE]);
    let mut server = Server::with(Settings::default().peer("SINK", sink.port()));
    let good = files::good_below(&files::testdata())
        .into_iter()
        .find(|good| good.file.name().ends_with("/ct-rle.dcm"))
        .expect("ct-rle.dcm");
    assert!(store(&server, &good));
    assert!(server.workers().is_empty(), "one before it is needed");
    assert_eq!(move_study(&server, &good.uids.study, "SINK").status, 0);
    let mut second = server.workers();
    // Often, as it is asked while it dies.
    for _ in 0..20 {
        let first = second;
        assert_eq!(first.len(), 1);
        kill(first[0]);
        assert_eq!(move_study(&server, &good.uids.study, "SINK").status, 0);
        second = server.workers();
        assert_eq!(second.len(), 1);
        assert_ne!(first, second);
    }
    server.kill();
    let begun = Instant::now();
    let stat = format!("/proc/{}/cmdline", second[0]);
    while std::fs::read_to_string(&stat).is_ok_and(|line| line.contains("transcode-worker")) {
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "the decoder lives on"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Method: a destination that takes an instance and does not answer. The same requestor meanwhile finds and moves
/// elsewhere, over other associations.
#[test]
fn a_slow_destination_holds_up_nobody_else() {
    let (slow, quick) = (Sink::start(), Sink::start());
    let settings = Settings::default()
        .peer("SLOW", slow.port())
        .peer("QUICK", quick.port());
    let server = Server::with(settings);
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])]);
    for number in 0..5 {
        let sop = format!("2.25.81.{number}");
        let bytes = build::synthetic_ct("2.25.80", "2.25.82", &sop, number, 1_000, false);
        let stored = client.c_store(1, CT_IMAGE_STORAGE, &sop, &bytes);
        assert_eq!(stored.expect("C-STORE").0, 0);
    }
    slow.stall(true);
    let mut waiting = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let identifier = by_uids("STUDY", "2.25.80", None, None);
    waiting
        .send_query(1, common::wire::C_MOVE_RQ, Some("SLOW"), &identifier)
        .expect("C-MOVE");
    slow.wait_for(1, Duration::from_secs(60));
    assert_eq!(move_study(&server, "2.25.80", "QUICK").status, 0);
    assert_eq!(quick.take().len(), 5);
    assert_eq!(slow.count(), 1, "it has not answered yet");
    slow.stall(false);
    let moved = waiting.retrieve_responses(1).expect("responses").moved;
    assert_eq!((moved.status, moved.counters[1]), (0, Some(5)));
}

/// Method: a peer whose host is "caller", which no name server knows.
#[test]
fn a_caller_gets_its_images_where_it_calls_from() {
    let sink = Sink::start();
    let server = Server::with(Settings {
        extra: format!(
            "[[peer]]\nae_title = \"MAC\"\nhost = \"caller\"\nport = {}\n",
            sink.port()
        ),
        ..Settings::default()
    });
    let good = files::good_below(&files::testdata()).remove(0);
    assert!(store(&server, &good));
    let moved = move_study(&server, &good.uids.study, "MAC");
    assert_eq!(moved.status, 0, "{moved:?}");
    assert_eq!(sink.take().len(), 1);
    // Nobody can know where it is when it does not call.
    let outcome = server.kura(&["echo", "MAC"]);
    assert!(outcome.text().contains("caller"), "{}", outcome.text());
    assert_eq!(outcome.code, Some(3));
}

/// Method: each plain file of `testdata/` converted at once and byte by byte; implicit and back to explicit.
#[test]
fn a_data_set_is_converted_alike_in_pieces_of_any_size() {
    let convert = |data_set: &[u8], from: &str, explicit: bool, size: usize| {
        let mut converter = Converter::new(from, explicit);
        let mut out = Vec::new();
        for piece in data_set.chunks(size) {
            converter.feed(piece, &mut out).expect("well formed");
        }
        converter.finish(&mut out).expect("a whole data set");
        out
    };
    let mut count = 0;
    for good in files::good_below(&files::testdata()) {
        let syntax = good.file.transfer_syntax.as_str();
        if ![IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG].contains(&syntax) {
            continue;
        }
        let data_set = &good.file.data_set;
        let explicit = convert(data_set, syntax, true, usize::MAX);
        for size in [1, 7, 4096] {
            assert!(
                convert(data_set, syntax, true, size) == explicit,
                "{} by {size}",
                good.file.name()
            );
        }
        // Once without VRs and back: nothing but unknown ones is lost.
        let implicit = convert(&explicit, EXPLICIT_LITTLE, false, usize::MAX);
        let again = convert(&implicit, IMPLICIT_LITTLE, false, usize::MAX);
        assert!(implicit == again, "{}", good.file.name());
        count += 1;
    }
    assert!(count > 30, "{count}");
}

fn below(random: &mut Random, most: usize) -> usize {
    (random.next() % most as u64) as usize
}

/// Method: every compressed file of `testdata/` with bytes changed at random, decoded in this process; JPEG 2000, whose
/// decoder is not ours and is trusted with nothing, is left to its own process.
#[test]
fn damaged_images_end_in_words() {
    let mut random = Random::from_environment("damaged images");
    let rounds = if common::long() { 2000 } else { 60 };
    let mut count = 0;
    for good in files::good_below(&files::testdata()) {
        let syntax = good.file.transfer_syntax.as_str();
        let ours = [".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".2.5"];
        if !ours.iter().any(|end| syntax.ends_with(end)) {
            continue;
        }
        let whole = &good.file.data_set;
        let begin = whole
            .windows(4)
            .rposition(|four| four == [0xE0, 0x7F, 0x10, 0]);
        let begin = begin.expect("pixel data");
        for _ in 0..rounds {
            let mut data_set = whole.clone();
            for _ in 0..=below(&mut random, 4) {
                let at = begin + below(&mut random, whole.len() - begin);
                data_set[at] = below(&mut random, 256) as u8;
            }
            if below(&mut random, 4) == 0 {
                data_set.truncate(begin + below(&mut random, whole.len() - begin));
            }
            if let Ok(plain) = Plain::of(&data_set, syntax, true, &mut || Ok(())) {
                let mut length = 0;
                let written = plain.length();
                plain
                    .write(&mut |bytes| {
                        length += bytes.len() as u64;
                        Ok(())
                    })
                    .expect("it was decoded once");
                assert_eq!(length, written);
            }
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Method: a receiver that takes everything, configured as one that is to get uncompressed images.
#[test]
fn a_peer_gets_uncompressed_what_it_would_take_compressed() {
    const RLE: &str = "1.2.840.10008.1.2.5";
    let sink = Sink::start();
    let server = Server::with(Settings {
        extra: format!(
            "[[peer]]\nae_title = \"SINK\"\nhost = \"127.0.0.1\"\nport = {}\nuncompressed = true\n",
            sink.port()
        ),
        ..Settings::default()
    });
    let goods = files::good_below(&files::testdata());
    let good = goods
        .iter()
        .find(|good| good.file.transfer_syntax == RLE)
        .expect("one in testdata/");
    assert!(store(&server, good));
    let moved = move_study(&server, &good.uids.study, "SINK");
    assert_eq!(moved.status, 0, "{moved:?}");
    let received = sink.take();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].transfer_syntax, EXPLICIT_LITTLE);
    assert!(received[0].data_set.len() > good.file.data_set.len() / 2);
}
