//! A disk without room, without inodes or read-only: A700H with a reason, nothing half left, and everything else goes on.

mod common;

use std::fs;

use common::disks::Tmpfs;
use common::images::{
    self, ALL, ECHO, Image, assert_come_back, assert_found, send_all, tree,
    wait_until_nothing_is_incoming,
};
use common::{Server, Settings};
use tempfile::TempDir;

/// A server whose volume A is a small file system. The order of the fields is the order of the end.
struct Small {
    server: Server,
    mount: Tmpfs,
    _folder: TempDir,
}

impl Small {
    fn start(options: &str, settings: Settings) -> Option<Small> {
        let folder = TempDir::new().expect("temporary folder");
        let mount = Tmpfs::new(&folder.path().join("volume-a"), options)?;
        let server = Server::in_folder(settings, folder.path());
        // The port is open a moment before the volumes are.
        server.wait_until_indexed();
        Some(Small {
            server,
            mount,
            _folder: folder,
        })
    }
}

fn with_reserve(reserve: &str) -> Settings {
    Settings {
        // `extra` stands before the tables, so this one closes the top level.
        extra: format!("[placement]\nreserve = \"{reserve}\"\n"),
        ..Settings::default()
    }
}

/// Sends images of one size until one is refused: those stored, and the refused one.
fn fill(server: &Server, study: u32, pixel_bytes: usize) -> (Vec<Image>, Image) {
    let mut client = server.associate(ALL);
    let mut stored = Vec::new();
    loop {
        let image = Image::new(study, stored.len() as u32, pixel_bytes);
        let (status, comment) = image.send(&mut client).expect("C-STORE");
        if status != 0 {
            assert_eq!(status, 0xA700, "{comment:?}");
            let comment = comment.expect("an error comment");
            assert!(comment.starts_with("not stored"), "{comment}");
            // The same association is answered on, and the refusal is repeated.
            assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
            assert_eq!(image.send(&mut client).expect("C-STORE").0, 0xA700);
            client.release().expect("release");
            return (stored, image);
        }
        stored.push(image);
        assert!(stored.len() < 5_000, "the disk never fills");
    }
}

/// What was answered 0000H is found and comes back, and no other file is left anywhere.
fn assert_exactly(server: &Server, images: &[Image]) {
    let volume = server.volume("A");
    wait_until_nothing_is_incoming(&volume);
    assert_eq!(tree(&volume).len(), images.len(), "files in the tree");
    assert_found(server, images);
    assert_come_back(server, images);
    let mut client = server.associate(ALL);
    assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
    client.release().expect("release");
}

/// Method: large, then smaller, then tiny images until each is refused, with a reserve and with none (so that also the
/// ledger meets the end of the disk); a kill and a start on the full disk; a ballast file deleted.
#[test]
fn a_full_disk_refuses_with_a_reason_keeps_what_it_has_and_goes_on_when_there_is_room() {
    for reserve in ["64 kB", "0 B"] {
        let Some(mut small) = Small::start("size=6m", with_reserve(reserve)) else {
            return;
        };
        let server = &mut small.server;
        let ballast = server.volume("A").join("ballast");
        fs::write(&ballast, vec![1; 2_000_000]).expect("ballast");
        let mut all = Vec::new();
        let mut last = None;
        for (study, pixel_bytes) in [(1, 300_000), (2, 40_000), (3, 1_000)] {
            let (stored, refused) = fill(server, study, pixel_bytes);
            assert!(study > 1 || stored.len() > 5, "{} stored", stored.len());
            all.extend(stored);
            last = Some(refused);
            assert_exactly(server, &all);
        }
        let status = server.kura_json(&["status"]);
        assert_eq!(status["index"]["instances_count"], all.len());

        server.kill();
        server.restart();
        assert_exactly(server, &all);

        fs::remove_file(&ballast).expect("delete the ballast");
        let last = last.expect("a refused image");
        send_all(server, std::slice::from_ref(&last));
        all.push(last);
        let more: Vec<Image> = (0..3).map(|n| Image::new(4, n, 200_000)).collect();
        send_all(server, &more);
        all.extend(more);
        assert_exactly(server, &all);
        assert!(server.terminate().success());
        server.restart();
        assert_exactly(server, &all);
    }
}

/// Method: four senders at once run into the end of the disk; each answer of 0000H is kept.
#[test]
fn senders_at_once_on_a_full_disk_each_get_a_true_answer() {
    for reserve in ["64 kB", "0 B"] {
        let Some(mut small) = Small::start("size=4m", with_reserve(reserve)) else {
            return;
        };
        let server = &mut small.server;
        let answers = std::thread::scope(|scope| {
            let server = &*server;
            let senders: Vec<_> = (1..5)
                .map(|study| {
                    scope.spawn(move || {
                        let mut client = server.associate(ALL);
                        let mut stored = Vec::new();
                        for number in 0..60 {
                            let image = Image::new(study, number, 30_000);
                            match image.send(&mut client).expect("C-STORE") {
                                (0, _) => stored.push(image),
                                (0xA700, Some(_)) => {}
                                other => panic!("{other:?}"),
                            }
                        }
                        client.release().expect("release");
                        stored
                    })
                })
                .collect();
            senders
                .into_iter()
                .flat_map(|sender| sender.join().expect("sender"))
                .collect::<Vec<_>>()
        });
        assert!((20..240).contains(&answers.len()), "{}", answers.len());
        assert_exactly(server, &answers);
        server.kill();
        server.restart();
        assert_exactly(server, &answers);
    }
}

/// Method: a file system with 60 inodes; then ten of them given back.
#[test]
fn a_disk_without_inodes_refuses_and_goes_on_when_there_are_some() {
    let Some(mut small) = Small::start("size=8m,nr_inodes=60", with_reserve("64 kB")) else {
        return;
    };
    let server = &mut small.server;
    let ballast = |number| server.volume("A").join(format!("ballast-{number}"));
    for number in 0..10 {
        fs::write(ballast(number), b"").expect("ballast");
    }
    let (mut all, refused) = fill(server, 1, 1_000);
    assert!(all.len() > 5, "{} stored", all.len());
    // A new study needs folders too.
    fs::remove_file(ballast(0)).expect("delete ballast");
    fs::remove_file(ballast(1)).expect("delete ballast");
    let (stored, _) = fill(server, 2, 1_000);
    all.extend(stored);
    assert_exactly(server, &all);
    for number in 2..10 {
        fs::remove_file(ballast(number)).expect("delete ballast");
    }
    send_all(server, std::slice::from_ref(&refused));
    all.push(refused);
    assert_exactly(server, &all);
    server.kill();
    server.restart();
    assert_exactly(server, &all);
}

fn assert_refused_and_readable(server: &mut Server, all: &[Image]) {
    let mut client = server.associate(ALL);
    let (status, comment) = Image::new(8, 1, 50_000).send(&mut client).expect("C-STORE");
    assert_eq!(status, 0xA700, "{comment:?}");
    assert!(comment.is_some());
    assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
    client.release().expect("release");
    assert_found(server, all);
    assert_come_back(server, all);
    server.assert_alive();
}

/// Method: `incoming/` made read-only under the running server (a file system with files open for writing cannot be
/// remounted), then back again.
#[test]
fn a_disk_that_turns_read_only_refuses_and_reading_goes_on() {
    let mut server = Server::start();
    let all = images::images(2, 5);
    send_all(&server, &all);
    let volume = server.volume("A");
    wait_until_nothing_is_incoming(&volume);
    let Some(mount) = Tmpfs::new(&volume.join("incoming"), "ro,size=1m") else {
        return;
    };
    assert_refused_and_readable(&mut server, &all);
    drop(mount);
    let more = images::images(4, 2);
    send_all(&server, &more[4..]);
    assert_found(&server, &more[4..]);
    wait_until_nothing_is_incoming(&volume);
}

/// Method: the whole file system remounted read-only between two runs, and where the system allows it in one; then
/// writable, and a start.
#[test]
fn a_disk_mounted_read_only_is_served_and_not_written() {
    let Some(mut small) = Small::start("size=8m", with_reserve("64 kB")) else {
        return;
    };
    let server = &mut small.server;
    let mut all = images::images(2, 5);
    send_all(server, &all);
    if small.mount.remount("ro") {
        assert_refused_and_readable(server, &all);
        assert!(small.mount.remount("rw"));
    } else {
        eprintln!("skipped: a remount in use is refused by this system");
    }
    assert!(server.terminate().success());
    assert!(small.mount.remount("ro"), "remount of an idle tmpfs");
    server.restart();
    assert_refused_and_readable(server, &all);
    let outcome = server.kura(&["status"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert!(outcome.stdout.contains("read-only"), "{}", outcome.text());
    assert!(server.terminate().success());
    assert!(small.mount.remount("rw"));
    server.restart();
    let more = Image::new(3, 1, 1_000);
    send_all(server, std::slice::from_ref(&more));
    all.push(more);
    assert_exactly(server, &all);
}

fn two_volumes(reserve: &str) -> Option<Small> {
    let settings = with_reserve(reserve).volume("B", "volume-b", "archive");
    Small::start("size=3m", settings)
}

/// Method: a small volume before a large one, images below the reserve: all are stored, and both have some.
#[test]
fn when_the_first_volume_is_full_the_next_one_takes_over_without_a_refusal() {
    let Some(mut small) = two_volumes("400 kB") else {
        return;
    };
    let server = &mut small.server;
    let all: Vec<Image> = (0..40).map(|n| Image::new(n % 3, n, 150_000)).collect();
    send_all(server, &all);
    let (a, b) = (tree(&server.volume("A")), tree(&server.volume("B")));
    assert!(a.len() > 10 && b.len() > 10, "{} and {}", a.len(), b.len());
    assert_eq!(a.len() + b.len(), all.len());
    for round in 0..2 {
        assert_found(server, &all);
        assert_come_back(server, &all);
        if round == 0 {
            server.kill();
            fs::remove_dir_all(server.state().join("index")).expect("delete the index");
            server.restart();
        }
    }
}
