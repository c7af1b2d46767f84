//! Index, ledgers and disks are held against each other: what does not agree is found and named, a file without its line
//! gets one, and no image is changed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::images::{self, Image, assert_come_back, assert_found, send_all, tree};
use common::server::put_file;
use common::{Server, Settings, files};

/// Every file of a folder with its bytes.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files::below(folder)
        .into_iter()
        .filter(|path| !path.starts_with(folder.join("ledgers")) && !path.ends_with("kura.lock"))
        .map(|path| {
            let bytes = fs::read(&path).expect("a file of the volume");
            (path, bytes)
        })
        .collect()
}

fn counts(report: &serde_json::Value) -> [u64; 6] {
    ["files", "ok", "missing", "wrong", "extra", "added"]
        .map(|name| report[name].as_u64().unwrap_or_else(|| panic!("{report}")))
}

fn relative(volume: &Path, path: &Path) -> String {
    let path = path.strip_prefix(volume).expect("below the volume");
    path.to_str().expect("UTF-8").to_owned()
}

/// `(kind, path)` of each finding, sorted.
fn findings(report: &serde_json::Value) -> Vec<(String, String)> {
    let mut found: Vec<_> = report["findings"]
        .as_array()
        .unwrap_or_else(|| panic!("{report}"))
        .iter()
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().expect("text").to_owned();
            (text("kind"), text("path"))
        })
        .collect();
    found.sort();
    found
}

/// Nobody else reads the files meanwhile: what is bad is set aside by who finds it first.
fn settings() -> Settings {
    Settings {
        extra: "[scrub]\ndays = 0\n".to_owned(),
        ..Settings::default()
    }
}

fn server() -> Server {
    Server::with(settings())
}

fn flip(path: &Path, from_end: usize) {
    let mut bytes = fs::read(path).expect("image");
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x40;
    fs::write(path, bytes).expect("flip a bit");
}

/// Method: on one volume a file is deleted, one cut short, one changed in its pixels, one in its Study Instance UID, and
/// files are added by hand: a good instance, text, and the beginning of an instance. With and without a server.
#[test]
fn what_does_not_agree_is_found_and_named_and_nothing_is_changed() {
    for running in [true, false] {
        let mut server = server();
        let volume = server.volume("A");
        let images = images::images(3, 10);
        send_all(&server, &images[1..]);
        images::wait_until_nothing_is_incoming(&volume);
        let whole = tree(&volume);
        assert_eq!(whole.len(), 29);
        if !running {
            assert!(server.terminate().success());
        }
        let clean = server.kura_json(&["volume", "check", "A", "--checksums"]);
        assert_eq!(
            counts(&clean["volumes"][0]),
            [29, 29, 0, 0, 0, 0],
            "{clean}"
        );

        let (gone, short, pixels, uid) = (&whole[3], &whole[7], &whole[12], &whole[20]);
        fs::remove_file(gone).expect("delete");
        let cut = fs::File::options().write(true).open(short);
        cut.and_then(|file| file.set_len(700)).expect("cut");
        flip(pixels, 100);
        // The last digit of the Study Instance UID, which is `2.25.9N`.
        let bytes = fs::read(uid).expect("image");
        let place = bytes
            .windows(8)
            .position(|eight| eight == b"\x20\0\x0d\0\x08\0\0\0")
            .expect("Study Instance UID");
        flip(uid, bytes.len() - place - 14);
        let part10 = part10_of(&images[0]);
        let extra = [
            ("20010203/CT/by hand/one.dcm", part10.clone()),
            ("20010203/notes.txt", b"not an image".to_vec()),
            ("20010203/CT/half.dcm", part10[..part10.len() / 2].to_vec()),
        ];
        for (path, bytes) in &extra {
            put_file(&volume.join(path), bytes);
        }
        let before = content(&volume);

        let path = |path: &Path| relative(&volume, path);
        let bad = |kinds: &[(&str, String)]| {
            let mut all: Vec<_> = kinds
                .iter()
                .map(|(kind, path)| (kind.to_string(), path.clone()))
                .collect();
            all.sort();
            all
        };
        let (missing, wrong) = (("missing", path(gone)), ("wrong", path(short)));
        let extra = |at: usize| ("extra", extra[at].0.to_owned());
        // Names and sizes only.
        let outcome = server.kura(&["volume", "check", "A"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text());
        for named in [path(gone), path(short), "one.dcm".to_owned()] {
            assert!(outcome.stdout.contains(&named), "{}", outcome.text());
        }
        let report = &server.kura_json(&["volume", "check", "A"])["volumes"][0];
        assert_eq!(counts(report), [29, 27, 1, 1, 3, 0], "{report}");
        let shallow = [missing.clone(), wrong.clone(), extra(0), extra(1), extra(2)];
        assert_eq!(findings(report), bad(&shallow));
        // Also headers.
        let report = &server.kura_json(&["volume", "check", "A", "--deep"])["volumes"][0];
        assert_eq!(counts(report), [29, 26, 1, 2, 3, 0], "{report}");
        // Also every byte; and the good file that was added gets its line.
        let report = &server.kura_json(&["equalize", "A", "--checksums"])["volumes"][0];
        assert_eq!(counts(report), [29, 25, 1, 3, 2, 1], "{report}");
        let deep = [
            missing,
            wrong,
            ("wrong", path(pixels)),
            ("wrong", path(uid)),
            extra(1),
            extra(2),
        ];
        assert_eq!(findings(report), bad(&deep));
        let report = &server.kura_json(&["equalize"])["volumes"][0];
        assert_eq!(counts(report), [30, 28, 1, 1, 2, 0], "{report}");
        assert!(content(&volume) == before, "a file was changed");

        if !running {
            server.restart();
        }
        let mut found = images::found(&server, &images[0].study);
        assert_eq!(found.len(), 10);
        assert!(found.contains(&images[0].sop));
        // Its line outlives the index.
        assert!(server.terminate().success());
        fs::remove_dir_all(server.state().join("index")).expect("delete the index");
        server.restart();
        found = images::found(&server, &images[0].study);
        assert!(found.contains(&images[0].sop));
        let one = std::slice::from_ref(&images[0]);
        let mut client = server.associate(images::ALL);
        let got = client
            .c_get(
                images::GET,
                &common::build::by_uids("IMAGE", &one[0].study, Some(""), Some(&one[0].sop)),
            )
            .expect("C-GET");
        assert!(got.received[0].data_set == images[0].data_set);
    }
}

/// A file as another program would write it.
fn part10_of(image: &Image) -> Vec<u8> {
    let mut group = Vec::new();
    let syntax = common::elements::Syntax::EXPLICIT_LITTLE;
    for (element, value) in [
        (0x0002, common::build::CT_IMAGE_STORAGE),
        (0x0003, image.sop.as_str()),
        (0x0010, "1.2.840.10008.1.2"),
    ] {
        let tag = common::build::Tag(0x0002, element);
        common::build::put(&mut group, syntax, tag, "UI", value.as_bytes());
    }
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    let length = (group.len() as u32).to_le_bytes();
    let tag = common::build::Tag(0x0002, 0x0000);
    common::build::put(&mut file, syntax, tag, "UL", &length);
    file.extend(group);
    file.extend(&image.data_set);
    file
}

/// Method: a file is copied by hand under another name on the same volume and to another volume, and another data set is
/// put under a UID that is taken.
#[test]
fn a_file_of_an_instance_that_is_known_becomes_a_copy_or_a_conflict() {
    let server = Server::with(settings().volume("B", "volume-b", "archive"));
    let images = images::images(1, 3);
    send_all(&server, &images);
    let (a, b) = (server.volume("A"), server.volume("B"));
    images::wait_until_nothing_is_incoming(&a);
    let first = &tree(&a)[0];
    fs::create_dir_all(b.join("old/x")).expect("folders");
    fs::copy(first, b.join("old/x/again")).expect("copy");
    fs::copy(first, a.join("again.dcm")).expect("copy");
    let mut other = images[1].clone();
    let last = other.data_set.len() - 5;
    other.data_set[last] ^= 1;
    put_file(&b.join("old/x/other"), &part10_of(&other));

    let report = server.kura_json(&["equalize"]);
    let [of_a, of_b] = [&report["volumes"][0], &report["volumes"][1]];
    assert_eq!(counts(of_a), [3, 3, 0, 0, 0, 1], "{report}");
    assert_eq!(counts(of_b), [0, 0, 0, 0, 0, 2], "{report}");
    assert_eq!((&of_a["copies"], &of_b["copies"]), (&1.into(), &1.into()));
    assert_eq!(of_b["others"], 1, "{report}");
    let status = server.kura_json(&["status"]);
    assert_eq!(status["index"]["instances_count"], 3, "{status}");
    assert_eq!(status["index"]["conflicts_count"], 1, "{status}");
    assert_come_back(&server, &images);
    let again = server.kura_json(&["equalize", "--checksums"]);
    assert_eq!(counts(&again["volumes"][0]), [4, 4, 0, 0, 0, 0], "{again}");
    assert_eq!(counts(&again["volumes"][1]), [2, 2, 0, 0, 0, 0], "{again}");
    // The copy by hand is as good as the first.
    fs::remove_file(first).expect("delete");
    fs::remove_file(a.join("again.dcm")).expect("delete");
    assert_come_back(&server, &images);
}

/// Method: four associations store while equalize runs again and again.
#[test]
fn what_is_stored_meanwhile_is_neither_missing_nor_extra() {
    let server = server();
    server.wait_until_indexed();
    let images = images::images(8, 60);
    let done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let senders: Vec<_> = images
            .chunks(120)
            .map(|some| scope.spawn(|| send_all(&server, some)))
            .collect();
        let looking = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                for verb in [&["equalize", "--deep"][..], &["volume", "check", "A"]] {
                    let report = server.kura_json(verb);
                    let [files, ok, missing, wrong, extra, added] = counts(&report["volumes"][0]);
                    assert_eq!([missing, wrong, extra, added], [0; 4], "{report}");
                    assert_eq!(files, ok, "{report}");
                }
                rounds += 1;
            }
        });
        for sender in senders {
            sender.join().expect("sender");
        }
        done.store(true, Ordering::Relaxed);
        looking.join().expect("equalize");
    });
    assert_found(&server, &images);
}

#[test]
fn an_unknown_volume_is_an_error_in_words() {
    let server = server();
    server.wait_until_indexed();
    let outcome = server.kura(&["volume", "check", "Z"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    assert!(outcome.stderr.contains("no volume Z"), "{}", outcome.text());
    let outcome = server.kura(&["equalize", "--cancel"]);
    assert!(outcome.success(), "{}", outcome.text());
}
