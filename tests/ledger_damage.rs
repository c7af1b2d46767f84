//! A ledger that is not as it was left: it is healed from its copies, or what is on the disk is served, and it is said.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::disks::Tmpfs;
use common::images::{self, Image, assert_come_back, assert_found, send_all, tree};
use common::shelf::{self, does};
use common::{Server, tools};
use kura::volume::io::Disk;
use kura::volume::ledger::{self, Ledger, Position};

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

/// The notes of a volume in `kura status --json`.
fn notes(server: &Server, name: &str) -> Vec<String> {
    let status = server.kura_json(&["status"]);
    let volumes = status["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|volume| volume["name"] == name);
    let notes = volume.expect("the volume")["notes"].as_array();
    let notes = notes.expect("notes").iter();
    notes
        .map(|note| note.as_str().expect("a sentence").to_owned())
        .collect()
}

/// Changes one byte in the line of this instance, so that the line is bad.
fn flip(ledger: &Path, image: &Image) {
    let mut text = fs::read(ledger).expect("ledger");
    let at = line_of(&text, image);
    text[at + 20] ^= 1;
    fs::write(ledger, text).expect("ledger");
}

/// Where the SOP Instance UID stands in the line of an instance.
fn line_of(text: &[u8], image: &Image) -> usize {
    let needle = format!("\"stored\":\"{}\"", image.sop);
    let mut places = text.windows(needle.len());
    let at = places.position(|part| part == needle.as_bytes());
    at.expect("the line of an instance")
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

/// Waits for a line of the log that has this in it.
fn wait_for_log(server: &Server, text: &str) {
    let begun = std::time::Instant::now();
    while !server.log_text().contains(text) {
        assert!(begun.elapsed().as_secs() < 90, "the log never says: {text}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Method: each harm to the ledger of the first of two volumes while the server is stopped; with the index and all copies there,
/// with the index deleted, and with nothing left but the volumes. Then a second start with that disk alone and no state.
#[test]
fn a_ledger_that_was_harmed_is_whole_again_and_nothing_that_was_answered_is_forgotten() {
    type Harm = fn(&Path, &[Image]);
    let harms: [(&str, Harm); 6] = [
        ("tail torn", |ledger, _| {
            let text = fs::read(ledger).expect("ledger");
            fs::write(ledger, &text[..text.len() - 700]).expect("ledger");
        }),
        ("cut at a line", |ledger, images| {
            let text = fs::read(ledger).expect("ledger");
            let upto = line_of(&text, &images[7]);
            let lines = text[..upto].iter().rposition(|byte| *byte == b'\n');
            fs::write(ledger, &text[..=lines.expect("a line")]).expect("ledger");
        }),
        ("segment gone", |ledger, _| {
            fs::remove_file(ledger).expect("ledger");
        }),
        ("folder gone", |ledger, _| {
            remove(ledger.parent().expect("folder"));
        }),
        ("byte flipped", |ledger, images| flip(ledger, &images[8])),
        ("zeros", |ledger, images| {
            let mut text = fs::read(ledger).expect("ledger");
            let at = line_of(&text, &images[3]);
            text[at..at + 900].fill(0);
            fs::write(ledger, text).expect("ledger");
        }),
    ];
    for (number, (name, harm)) in harms.into_iter().enumerate() {
        for lost in [&[][..], &["index"], &[""]] {
            let mut server = start();
            let id = volume_id(&server, "A");
            let mut on_a = numbered(1, 6);
            on_a.extend(numbered(2, 6));
            send_all(&server, &on_a);
            does(&server, &["retire", "A"]);
            let on_b = numbered(3, 2);
            send_all(&server, &on_b);
            does(&server, &["retire", "A", "--undo"]);
            assert!(server.terminate().success());

            let ledger = segment(&server.volume("A"), &id);
            let whole = fs::read(&ledger).expect("ledger");
            harm(&ledger, &on_a);
            for lost in lost {
                remove(&server.state().join(lost));
            }
            server.restart();
            server.wait_until_indexed();
            let said = notes(&server, "A");
            assert!(
                said.len() == 1 && said[0].contains("was healed from the copy"),
                "{name}: {said:?}"
            );
            wait_for_log(&server, "was healed from the copy");
            let screen = server.kura(&["status"]).stdout;
            assert!(screen.contains("note    volume A: its ledger"), "{screen}");
            assert_eq!(fs::read(&ledger).expect("ledger"), whole, "{name}");
            let kept = ledger.with_file_name("damaged-00000001-1.bytes");
            assert_eq!(kept.exists(), number > 3, "{name}");
            for images in [&on_a, &on_b] {
                assert_found(&server, images);
                assert_come_back(&server, images);
            }
            let checked = server.kura(&["volume", "check", "A"]);
            assert_eq!(checked.code, Some(0), "{name}: {}", checked.text());
            // It goes on behind its end.
            let more = numbered(4, 2);
            send_all(&server, &more);
            on_a.extend(more);
            assert!(server.terminate().success());

            remove(&server.state());
            server.configure(|settings| settings.volumes.truncate(1));
            server.restart();
            server.wait_until_indexed();
            assert_eq!(notes(&server, "A"), Vec::<String>::new());
            assert_found(&server, &on_a);
            assert_come_back(&server, &on_a);
        }
    }
}

/// Method: the line of one instance damaged where no copy is; the index is made from that and lacks the instance. Then a copy
/// comes back: before a start, and before the volume is taken back by the running server.
#[test]
fn a_line_that_is_healed_reaches_an_index_that_was_past_it() {
    for running in [false, true] {
        let mut server = start();
        let (a, id) = (server.volume("A"), volume_id(&server, "A"));
        let all = numbered(1, 12);
        send_all(&server, &all);
        assert!(server.terminate().success());
        let beside = server.state().join("ledgers").join(&id);
        let kept = server.folder().join("kept");
        copy_all(&beside, &kept);
        flip(&segment(&a, &id), &all[5]);
        remove(&beside);
        remove(&server.volume("B").join("ledgers").join(&id));
        remove(&server.state().join("index"));
        server.restart();
        server.wait_until_indexed();
        assert_eq!(images::found(&server, &all[5].study).len(), 11);

        let put_back = || {
            let _ = fs::remove_dir_all(&beside);
            copy_all(&kept, &beside);
        };
        if running {
            does(&server, &["eject", "A"]);
            put_back();
            does(&server, &["return", "A"]);
        } else {
            assert!(server.terminate().success());
            put_back();
            server.restart();
            server.wait_until_indexed();
        }
        assert!(notes(&server, "A")[0].contains("1 damaged segments were replaced"));
        assert_found(&server, &all);
        assert_come_back(&server, &all);
    }
}

/// Writes a ledger again in two segments, of which the second begins where this study is first spoken of.
fn in_two_segments(folder: &Path, study: &str) {
    let disk = Disk::default();
    let mut parts = [Vec::new(), Vec::new()];
    let mut second = false;
    let read = ledger::read(&disk, folder, Position::default(), &mut |line, _| {
        second |= line.contains(study);
        parts[usize::from(second)].push((Vec::new(), line.to_owned(), ()));
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(read.expect("ledger").bad_lines, 0);
    remove(folder);
    for part in parts {
        assert!(!part.is_empty());
        let ledger = Ledger::open_with(&disk, folder, Box::new(|_| {}), 1).expect("ledger");
        ledger.append_all(part).expect("lines");
    }
    assert!(folder.join("00000002.jsonl").exists() && !folder.join("00000003.jsonl").exists());
}

/// Method: a ledger of two segments, and a byte flipped in the first while the server is stopped; with an index that knows the
/// line, and with one that is made from what is left. Images are sent while it is healed; then the server is killed.
#[test]
fn rot_in_an_older_segment_is_healed_while_the_server_runs_and_the_index_learns_of_it() {
    for keep_index in [true, false] {
        let mut server = start();
        let (a, id) = (server.volume("A"), volume_id(&server, "A"));
        let mut all = numbered(1, 6);
        send_all(&server, &all);
        images::wait_for_the_journal(&a);
        let second = numbered(2, 6);
        send_all(&server, &second);
        assert!(server.terminate().success());
        let own = a.join("ledgers").join(&id);
        in_two_segments(&own, &second[0].study);
        all.extend(second);
        let beside = server.state().join("ledgers").join(&id);
        for copy in [&beside, &server.volume("B").join("ledgers").join(&id)] {
            remove(copy);
            copy_all(&own, copy);
        }
        remove(&server.state().join("index"));
        server.restart();
        server.wait_until_indexed();
        assert_eq!(notes(&server, "A"), Vec::<String>::new());
        assert_found(&server, &all);
        assert!(server.terminate().success());

        let rotten = segment(&a, &id);
        let whole = fs::read(&rotten).expect("ledger");
        flip(&rotten, &all[3]);
        if !keep_index {
            remove(&server.state().join("index"));
        }
        server.restart();
        let more = numbered(3, 3);
        send_all(&server, &more);
        all.extend(more);
        wait_for_log(&server, "was healed from the copy");
        assert_eq!(fs::read(&rotten).expect("ledger"), whole);
        assert!(rotten.with_file_name("damaged-00000001-1.bytes").exists());
        let begun = std::time::Instant::now();
        while images::found(&server, &all[3].study).len() < 6 {
            assert!(begun.elapsed().as_secs() < 90, "the index never learns");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        server.wait_until_indexed();
        assert_eq!(notes(&server, "A").len(), 1);
        assert_found(&server, &all);
        assert_come_back(&server, &all);
        let more = numbered(4, 3);
        send_all(&server, &more);
        all.extend(more);
        server.kill();
        server.restart();
        server.wait_until_indexed();
        assert_eq!(notes(&server, "A"), Vec::<String>::new());
        assert_found(&server, &all);
        assert_come_back(&server, &all);
    }
}

/// Method: `cp -a` of a volume put back in its place while the server is stopped, after more had been stored on both volumes;
/// with the index kept and without it. Its ledger knows again what the disk has not.
#[test]
fn a_volume_restored_from_an_older_copy_knows_what_it_has_lost() {
    for keep_index in [true, false] {
        let mut server = start();
        let (a, clone) = (server.volume("A"), server.folder().join("clone"));
        let mut all = numbered(1, 5);
        send_all(&server, &all);
        assert!(server.terminate().success());
        copy_all(&a, &clone);
        server.restart();
        server.wait_until_indexed();
        // Of a study that is in the copy, and of one that is not.
        let mut lost = (10..13)
            .map(|n| Image::new(1, n, 1_000))
            .collect::<Vec<_>>();
        lost.extend(numbered(2, 3));
        send_all(&server, &lost);
        does(&server, &["retire", "A"]);
        let on_b = numbered(3, 4);
        send_all(&server, &on_b);
        does(&server, &["retire", "A", "--undo"]);
        assert!(server.terminate().success());

        remove(&a);
        copy_all(&clone, &a);
        if !keep_index {
            remove(&server.state().join("index"));
        }
        server.restart();
        server.wait_until_indexed();
        assert!(notes(&server, "A")[0].contains("put back"));
        let known = [&all[..], &lost].concat();
        assert_found(&server, &known);
        assert_come_back(&server, &on_b);
        assert_eq!(tree(&a).len(), 5);
        let report = &server.kura_json(&["volume", "check", "A"])["volumes"][0];
        assert_eq!(report["missing"], 6, "{report}");

        // What the sender still has can be sent again.
        send_all(&server, &lost);
        all.extend(lost);
        all.extend(on_b);
        assert!(server.terminate().success());
        for round in 0..2 {
            server.restart();
            server.wait_until_indexed();
            assert_eq!(notes(&server, "A"), Vec::<String>::new());
            assert_found(&server, &all);
            assert_come_back(&server, &all);
            server.kill();
            if round == 0 {
                remove(&server.state());
            }
        }
    }
}

/// Method: a disk that was restored goes on without any copy in reach; then the copy of what it was comes back with the other
/// volume.
#[test]
fn a_ledger_and_a_copy_that_went_on_differently_are_left_as_they_are_and_it_is_said() {
    let mut server = start();
    let (a, id) = (server.volume("A"), volume_id(&server, "A"));
    let clone = server.folder().join("clone");
    let mut all = numbered(1, 3);
    send_all(&server, &all);
    assert!(server.terminate().success());
    copy_all(&a, &clone);
    server.restart();
    server.wait_until_indexed();
    send_all(&server, &numbered(2, 5));
    assert!(server.terminate().success());
    remove(&a);
    copy_all(&clone, &a);
    remove(&server.state());
    let (b, away) = (server.volume("B"), server.folder().join("away"));
    fs::rename(&b, &away).expect("take the other volume out");
    server.restart();
    server.wait_until_indexed();
    let otherwise = numbered(3, 1);
    send_all(&server, &otherwise);
    all.extend(otherwise);
    assert!(server.terminate().success());
    fs::rename(&away, &b).expect("put the other volume back");
    let before = fs::read(segment(&a, &id)).expect("ledger");
    let copy = fs::read(segment(&b, &id)).expect("copy");
    server.restart();
    server.wait_until_indexed();
    assert!(notes(&server, "A")[0].contains("went on differently"));
    assert_eq!(fs::read(segment(&a, &id)).expect("ledger"), before);
    assert_found(&server, &all);
    assert_come_back(&server, &all);
    // The copy is kept, under another name.
    wait_for_log(&server, "is set aside");
    let aside = b.join(format!("ledgers/{id}.aside-1/00000001.jsonl"));
    assert_eq!(fs::read(aside).expect("the copy"), copy);
}

/// Method: a byte flipped in the ledger on a file system that is read-only at the next start; the index deleted.
#[test]
fn of_a_disk_that_cannot_be_written_the_copy_of_the_ledger_is_read() {
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let Some(disk) = Tmpfs::new(&folder.path().join("volume-a"), "size=64m") else {
        return;
    };
    let mut server = Server::in_folder(shelf::settings(2, "64 kB"), folder.path());
    server.wait_until_indexed();
    let id = volume_id(&server, "A");
    let all = numbered(1, 8);
    send_all(&server, &all);
    assert!(server.terminate().success());
    flip(&segment(disk.path(), &id), &all[3]);
    let harmed = fs::read(segment(disk.path(), &id)).expect("ledger");
    remove(&server.state().join("index"));
    assert!(disk.remount("ro"), "remount of an idle tmpfs");
    server.restart();
    server.wait_until_indexed();
    assert!(notes(&server, "A")[0].contains("is read instead"));
    assert_found(&server, &all);
    assert_come_back(&server, &all);
    assert!(server.terminate().success());
    assert_eq!(fs::read(segment(disk.path(), &id)).expect("ledger"), harmed);
    // Writable again, it is healed.
    assert!(disk.remount("rw"));
    server.restart();
    server.wait_until_indexed();
    assert!(notes(&server, "A")[0].contains("was healed"));
    assert_found(&server, &all);
    assert!(server.terminate().success());
}

/// Method: the volume with the highest numbers taken out, of the configuration and of all that is kept of it; once only
/// `archive.json` knows its numbers, once only the index.
#[test]
fn sequence_numbers_are_not_given_again_when_the_volume_that_has_them_is_gone() {
    for known_by in ["archive.json", "index"] {
        let mut server = start();
        let (a, a_id) = (server.volume("A"), volume_id(&server, "A"));
        let b_id = volume_id(&server, "B");
        send_all(&server, &numbered(1, 2));
        does(&server, &["retire", "A"]);
        send_all(&server, &numbered(2, 9));
        does(&server, &["retire", "A", "--undo"]);
        assert!(server.terminate().success());
        let highest = highest_sequence(&segment(&server.volume("B"), &b_id));
        assert!(highest > highest_sequence(&segment(&a, &a_id)));

        remove(&server.volume("B"));
        remove(&server.state().join("ledgers").join(&b_id));
        remove(&a.join("ledgers").join(&b_id));
        server.configure(|settings| settings.volumes.truncate(1));
        let file = server.state().join("archive.json");
        let text = fs::read(&file).expect("archive.json");
        let mut identity: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let volumes = identity["volumes"].as_array_mut().expect("volumes");
        volumes.retain(|volume| volume["name"] == "A");
        match known_by {
            "index" => drop(identity["sequence_floor"].take()),
            _ => remove(&server.state().join("index")),
        }
        let members = identity.as_object_mut().expect("object");
        members.retain(|_, value| !value.is_null());
        fs::write(&file, identity.to_string()).expect("archive.json");
        server.restart();
        server.wait_until_indexed();
        send_all(&server, &numbered(3, 1));
        images::wait_for_the_journal(&a);
        assert!(
            highest_sequence(&segment(&a, &a_id)) > highest,
            "{known_by}"
        );
    }
}

fn highest_sequence(ledger: &Path) -> u64 {
    let text = fs::read_to_string(ledger).expect("ledger");
    let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let numbers = lines.filter_map(|line| line.expect("JSON")["seq"].as_u64());
    numbers.max().expect("a line with a number")
}

/// Method: one byte of a line in the middle flipped, and half a line behind the last one, on the first of two volumes; the index
/// and all copies deleted.
#[test]
fn rot_and_a_torn_end_in_a_ledger_without_copies_cost_that_line_and_nothing_else() {
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
    for folder in [server.state(), server.volume("B")] {
        remove(&folder.join("ledgers").join(&id));
    }

    server.restart();
    server.wait_until_indexed();
    assert_eq!(notes(&server, "A"), Vec::<String>::new());
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
