//! The index may be deleted or damaged at any time: everything is found again, and receiving goes on meanwhile.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::images::{self, Image, assert_come_back, assert_found, send_all};
use common::{Random, Server, Settings};

const ENGINES: [&str; 2] = ["redb", "sled"];

fn with_engine(engine: &str) -> Server {
    Server::with(Settings {
        extra: format!("engine = \"{engine}\""),
        ..Settings::default()
    })
}

fn index(server: &Server) -> PathBuf {
    server.state().join("index")
}

/// The engine's files, not those set aside.
fn index_files(server: &Server) -> Vec<PathBuf> {
    let folder = index(server);
    let mut found = common::files::below(&folder);
    found.retain(|path| !path.starts_with(folder.join("aside")));
    assert!(!found.is_empty(), "no index in {}", folder.display());
    found
}

/// Method: the folder of the index, and the whole state folder, deleted between two runs, after a clean end and after a
/// kill; both engines.
#[test]
fn a_deleted_index_comes_back_from_the_ledgers() {
    for engine in ENGINES {
        let mut server = with_engine(engine);
        let images = images::images(3, 10);
        send_all(&server, &images);
        for (kill, state) in [(false, false), (true, false), (false, true)] {
            if kill {
                server.kill();
            } else {
                assert!(server.terminate().success(), "{engine}");
            }
            let lost = if state {
                server.state()
            } else {
                index(&server)
            };
            fs::remove_dir_all(&lost).expect("delete the index");
            server.restart();
            assert_found(&server, &images);
            assert_come_back(&server, &images);
        }
        assert_eq!(server.kura_json(&["status"])["state"], "ok", "{engine}");
    }
}

/// Method: the folder of the index deleted under the running server; what is stored afterwards and before is found by
/// the next one.
#[test]
fn an_index_deleted_under_a_running_server_loses_nothing() {
    for engine in ENGINES {
        let mut server = with_engine(engine);
        let images = images::images(2, 10);
        send_all(&server, &images[..10]);
        fs::remove_dir_all(index(&server)).expect("delete the index");
        send_all(&server, &images[10..]);
        server.assert_alive();
        let _ = server.terminate();
        server.restart();
        assert_found(&server, &images);
        assert_come_back(&server, &images);
    }
}

type Damage = fn(&Path, &mut Random);

fn random_bytes(path: &Path, random: &mut Random) {
    let mut bytes = fs::read(path).expect("index file");
    let length = bytes.len() as u64;
    for _ in 0..8 {
        if length > 1 {
            let from = random.between(0, length) as usize;
            let count = random.between(1, 600) as usize;
            for byte in bytes.iter_mut().skip(from).take(count) {
                *byte = random.next() as u8;
            }
        }
    }
    fs::write(path, bytes).expect("damage");
}

fn middle(path: &Path, random: &mut Random) {
    let mut bytes = fs::read(path).expect("index file");
    let quarter = bytes.len() / 4;
    for byte in bytes.iter_mut().skip(quarter).take(2 * quarter) {
        *byte = random.next() as u8;
    }
    fs::write(path, bytes).expect("damage");
}

fn zeros(path: &Path, _: &mut Random) {
    let length = fs::metadata(path).expect("index file").len();
    fs::write(path, vec![0; length as usize]).expect("damage");
}

fn half(path: &Path, _: &mut Random) {
    let length = fs::metadata(path).expect("index file").len();
    let file = fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(length / 2))
        .expect("damage");
}

fn empty(path: &Path, _: &mut Random) {
    fs::write(path, b"").expect("damage");
}

fn text(path: &Path, _: &mut Random) {
    fs::write(path, b"this is not an index\n").expect("damage");
}

fn a_folder(path: &Path, _: &mut Random) {
    fs::remove_file(path).expect("damage");
    fs::create_dir(path).expect("damage");
}

/// Method: each kind of damage to the engine's files between two runs, both engines; queries that end with success are
/// complete, and what is sent afterwards is stored and found.
#[test]
fn a_garbled_index_is_rebuilt_and_never_stops_the_server() {
    let damages: [(&str, Damage); 7] = [
        ("random bytes here and there", random_bytes),
        ("random bytes in the middle", middle),
        ("zeros", zeros),
        ("cut in half", half),
        ("empty", empty),
        ("text", text),
        ("a folder", a_folder),
    ];
    let mut random = Random::from_environment("rebuild");
    let rounds = if common::long() { 40 } else { 1 };
    for engine in ENGINES {
        let mut server = with_engine(engine);
        let mut images = images::images(3, 10);
        send_all(&server, &images);
        for round in 0..rounds {
            for (name, damage) in &damages {
                assert!(server.terminate().success(), "{engine}, {name}");
                for file in index_files(&server) {
                    damage(&file, &mut random);
                }
                eprintln!("{engine}, round {round}: {name}");
                server.restart();
                assert_found(&server, &images);
                assert_come_back(&server, &images);
                let more = Image::new(3, images.len() as u32, 1_000);
                send_all(&server, std::slice::from_ref(&more));
                images.push(more);
                assert_found(&server, &images);
                server.assert_alive();
            }
        }
    }
}

/// Method: the engine's files damaged under the running server; it goes on storing, and the next one finds everything.
#[test]
fn an_index_garbled_under_a_running_server_stops_nothing() {
    for engine in ENGINES {
        let mut random = Random::from_environment("rebuild");
        let mut server = with_engine(engine);
        let images = images::images(3, 10);
        send_all(&server, &images[..15]);
        for file in index_files(&server) {
            middle(&file, &mut random);
        }
        send_all(&server, &images[15..]);
        server.assert_alive();
        let _ = server.terminate();
        server.restart();
        assert_found(&server, &images);
        assert_come_back(&server, &images);
    }
}

/// Method: an association stores without a pause while `kura index rebuild` runs three times; both engines.
#[test]
fn a_rebuild_refuses_nobody_and_misses_nothing() {
    for engine in ENGINES {
        let server = Arc::new(with_engine(engine));
        let before = images::images(4, 50);
        send_all(&server, &before);
        let enough = Arc::new(AtomicBool::new(false));
        let sender = {
            let (server, enough) = (Arc::clone(&server), Arc::clone(&enough));
            std::thread::spawn(move || {
                let mut client = server.associate(images::ALL);
                let mut sent = Vec::new();
                while !enough.load(Ordering::Relaxed) || sent.len() < 50 {
                    let image = Image::new(9, sent.len() as u32, 1_000);
                    let (status, comment) = image.send(&mut client).expect("C-STORE");
                    assert_eq!(status, 0, "{}: {comment:?}", image.sop);
                    sent.push(image);
                }
                client.release().expect("release");
                sent
            })
        };
        for _ in 0..3 {
            let outcome = server.kura(&["index", "rebuild"]);
            assert!(outcome.success(), "{engine}: {}", outcome.text());
            assert!(
                outcome.stdout.starts_with("done: "),
                "{engine}: {}",
                outcome.text()
            );
            // The command came back, so queries are complete.
            assert_found(&server, &before);
        }
        enough.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("sender");
        assert_found(&server, &before);
        assert_found(&server, &sent);
        assert_come_back(&server, &sent);
        let status = server.kura_json(&["status"]);
        assert_eq!(
            status["index"]["instances_count"],
            before.len() + sent.len()
        );
    }
}

/// Method: `kura index rebuild` with no server on the folders, over a good and over a deleted index; then a start.
#[test]
fn a_rebuild_needs_no_server() {
    for engine in ENGINES {
        let mut server = with_engine(engine);
        let images = images::images(3, 5);
        send_all(&server, &images);
        assert!(server.terminate().success());
        for deleted in [false, true] {
            if deleted {
                fs::remove_dir_all(index(&server)).expect("delete the index");
            }
            let outcome = server.kura(&["index", "rebuild"]);
            assert!(outcome.success(), "{engine}: {}", outcome.text());
            assert_eq!(
                outcome.stdout,
                "done: 15 instances in 3 studies; 0 damaged ledger lines\n"
            );
        }
        let json = server.kura_json(&["index", "rebuild"]);
        assert_eq!(json["version"], 1);
        assert_eq!(json["index"]["instances_count"], 15);
        server.restart();
        assert_found(&server, &images);
    }
}

/// The first ledger segment of a volume.
fn ledger(server: &Server) -> PathBuf {
    let mut found = common::files::below(&server.volume("A").join("ledgers"));
    // Beside it lies the copy of archive.json.
    found.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().expect("one segment")
}

/// Method: bytes of one instance's line flipped, the index and the copy of the ledger deleted; the others are found, `kura
/// status` counts the line and exits 1, and the instance is found again when it is sent again.
#[test]
fn a_damaged_ledger_line_costs_that_line_alone_and_is_reported() {
    let mut server = Server::start();
    let images = images::images(2, 10);
    send_all(&server, &images);
    assert!(server.terminate().success());

    let victim = &images[4];
    let path = ledger(&server);
    let mut bytes = fs::read(&path).expect("ledger");
    let name = format!("\"stored\":\"{}\"", victim.sop);
    let at = bytes
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .expect("the line of the instance");
    bytes[at + 11] ^= 0x01;
    bytes[at + 12] ^= 0x40;
    fs::write(&path, bytes).expect("damage the ledger");
    fs::remove_dir_all(index(&server)).expect("delete the index");
    fs::remove_dir_all(server.state().join("ledgers")).expect("delete the copy");

    server.restart();
    let others: Vec<Image> = images
        .iter()
        .filter(|image| image.sop != victim.sop)
        .cloned()
        .collect();
    assert_found(&server, &others);
    assert_come_back(&server, &others);
    // As often as it is asked and rebuilt, it is one line.
    for round in 0..2 {
        let outcome = server.kura(&["status"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text());
        assert!(
            outcome.stdout.starts_with("state   degraded: 19 instances"),
            "{}",
            outcome.text()
        );
        assert!(outcome.stdout.contains("action  "), "{}", outcome.text());
        let status = server.kura_json(&["status"]);
        let index = &status["index"];
        assert_eq!(index["ledger_bad_lines_count"], 1, "round {round}");
        let outcome = server.kura(&["index", "rebuild"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text());
        assert_eq!(
            outcome.stdout,
            "done: 19 instances in 2 studies; 1 damaged ledger lines\n"
        );
    }
    send_all(&server, std::slice::from_ref(victim));
    assert_found(&server, &images);
    assert_come_back(&server, &images);
}

/// Method: as above without the index deleted: the line was read before it was damaged, so nothing is missing.
#[test]
fn a_line_damaged_after_it_was_read_costs_nothing_while_the_index_is_there() {
    let mut server = Server::start();
    let images = images::images(1, 10);
    send_all(&server, &images);
    assert!(server.terminate().success());
    let path = ledger(&server);
    let mut bytes = fs::read(&path).expect("ledger");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x01;
    fs::write(&path, bytes).expect("damage the ledger");
    server.restart();
    assert_found(&server, &images);
    assert_come_back(&server, &images);
}
