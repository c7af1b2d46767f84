//! A ledger that is not as it was left: what is on the disk is served, the other volumes are not touched by it, and it is said.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::images::{self, Image, assert_come_back, assert_found, send_all, tree};
use common::shelf::{self, does};
use common::{Server, tools};

fn start() -> Server {
    let server = Server::with(shelf::settings(2, "64 kB"));
    server.wait_until_indexed();
    server
}

fn copy_all(from: &Path, to: &Path) {
    let done = tools::run(std::process::Command::new("cp").arg("-a").args([from, to]));
    assert!(done.success(), "{}", done.text());
}

fn volume_id(server: &Server, name: &str) -> String {
    let volume = shelf::volume(server, name);
    volume["volume_id"].as_str().expect("volume_id").to_owned()
}

/// The first segment of a ledger in the folder of a volume.
fn segment(volume: &Path, volume_id: &str) -> PathBuf {
    volume
        .join("ledgers")
        .join(volume_id)
        .join("00000001.jsonl")
}

fn numbered(study: u32, count: u32) -> Vec<Image> {
    (0..count).map(|n| Image::new(study, n, 1_000)).collect()
}

/// Waits for a line of the log that has this in it.
fn wait_for_log(server: &Server, text: &str) {
    let begun = std::time::Instant::now();
    while !server.log_text().contains(text) {
        assert!(begun.elapsed().as_secs() < 30, "the log never says: {text}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Method: `cp -a` of a volume put back in its place while the server is stopped, after more had been stored on both volumes;
/// with the index kept and without it. Then more is stored, so that the ledger goes on otherwise than its copies.
#[test]
fn a_volume_restored_from_an_older_copy_is_served_as_it_is_and_it_is_said() {
    for keep_index in [true, false] {
        let mut server = start();
        let (a, clone) = (server.volume("A"), server.folder().join("clone"));
        let id = volume_id(&server, "A");
        let mut all = numbered(1, 5);
        send_all(&server, &all);
        assert!(server.terminate().success());
        copy_all(&a, &clone);
        server.restart();
        server.wait_until_indexed();
        // Of a study that is in the copy, and of one that is not.
        let mut forgotten = (10..13)
            .map(|n| Image::new(1, n, 1_000))
            .collect::<Vec<_>>();
        forgotten.extend(numbered(2, 3));
        send_all(&server, &forgotten);
        does(&server, &["retire", "A"]);
        let on_b = numbered(3, 4);
        send_all(&server, &on_b);
        does(&server, &["retire", "A", "--undo"]);
        assert!(server.terminate().success());

        fs::remove_dir_all(&a).expect("delete the volume");
        copy_all(&clone, &a);
        if !keep_index {
            fs::remove_dir_all(server.state().join("index")).expect("delete the index");
        }
        server.restart();
        server.wait_until_indexed();
        assert_found(&server, &all);
        assert_come_back(&server, &all);
        assert_come_back(&server, &on_b);
        assert_eq!(
            images::found(&server, &forgotten[5].study),
            Vec::<String>::new()
        );
        assert_eq!(tree(&a).len(), 5);
        let behind = "the ledger is behind its copy: was the disk restored from an older one?";
        wait_for_log(&server, behind);

        // What the sender still has can be sent again.
        send_all(&server, &forgotten);
        all.extend(forgotten);
        all.extend(on_b);
        assert!(server.terminate().success());
        assert!(server.log_text().contains("is set aside"));
        // What the copies knew more is kept.
        let aside = format!("ledgers/{id}.aside-1");
        for folder in [server.state(), server.volume("B")] {
            assert!(folder.join(&aside).is_dir(), "{}", folder.display());
        }
        for round in 0..2 {
            server.restart();
            server.wait_until_indexed();
            assert_found(&server, &all);
            assert_come_back(&server, &all);
            server.kill();
            if round == 0 {
                fs::remove_dir_all(server.state()).expect("delete the state");
            }
        }
    }
}

/// Method: one byte of a line in the middle flipped, and half a line behind the last one, on the first of two volumes; the index
/// deleted.
#[test]
fn rot_and_a_torn_end_in_one_ledger_cost_that_line_and_nothing_else() {
    let mut server = start();
    let (a, id) = (server.volume("A"), volume_id(&server, "A"));
    let mut on_a = numbered(1, 6);
    on_a.extend(numbered(2, 6));
    send_all(&server, &on_a);
    does(&server, &["retire", "A"]);
    let on_b = numbered(3, 5);
    send_all(&server, &on_b);
    does(&server, &["retire", "A", "--undo"]);
    assert!(server.terminate().success());

    let ledger = segment(&a, &id);
    let mut text = fs::read(&ledger).expect("ledger");
    let rotten = on_a.remove(8);
    let needle = format!("\"stored\":\"{}\"", rotten.sop);
    let at = text
        .windows(needle.len())
        .position(|part| part == needle.as_bytes())
        .expect("the line of an instance");
    text[at + needle.len() - 2] ^= 1;
    let whole = text.len();
    text.extend(b"{\"seq\":99,\"at\":\"2026-01-15T01");
    fs::write(&ledger, &text).expect("ledger");
    fs::remove_dir_all(server.state().join("index")).expect("delete the index");

    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &on_a);
    assert_come_back(&server, &on_a);
    assert_found(&server, &on_b);
    assert_come_back(&server, &on_b);
    let outcome = server.kura(&["status"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let says = "action  1 ledger lines are damaged: check the disk they are on";
    assert!(outcome.stdout.contains(says), "{}", outcome.text());
    let torn = ledger.with_file_name(format!("torn-00000001-{whole}.bytes"));
    assert_eq!(
        fs::read(torn).expect("the torn end").len(),
        text.len() - whole
    );
    // It goes on behind the good end, and the image is taken again: its bytes are there, unlisted.
    send_all(&server, std::slice::from_ref(&rotten));
    on_a.push(rotten);
    let more = numbered(4, 3);
    send_all(&server, &more);
    on_a.extend(more);
    server.kill();
    server.restart();
    server.wait_until_indexed();
    assert_found(&server, &on_a);
    assert_come_back(&server, &on_a);
}
