//! A bad copy is never served: the other one is, in the same request, and what is bad is healed by itself.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::build::by_uids;
use common::copies::{assert_same_images, image_paths, kura, wait_until_mirrored, with_mirror};
use common::damage::{DAMAGES, path_of, status, wait_until};
use common::disks::{Pluggable, Tmpfs};
use common::images::{self, ALL, GET, Image, assert_come_back, send_all};
use common::wire::{IMPLICIT_LITTLE, STUDY_ROOT_MOVE};
use common::{Server, Settings, Sink};
use kura::archive::{Archive, Mode, Selection};
use kura::config::Config;

/// An archive with images of all sizes that are handled differently, mirrored.
fn mirrored(pixel_bytes: &[usize]) -> (Server, Vec<Image>) {
    // Outside its hour nothing is copied by itself but what was bad.
    mirrored_with(with_mirror("window = \"03:00-03:01\""), pixel_bytes)
}

fn mirrored_with(settings: Settings, pixel_bytes: &[usize]) -> (Server, Vec<Image>) {
    let server = Server::with(settings);
    server.wait_until_indexed();
    let images: Vec<Image> = (0..)
        .zip(pixel_bytes)
        .map(|(number, bytes)| Image::new(1, number, *bytes))
        .collect();
    send_all(&server, &images);
    kura(&server, &["mirror", "run"]);
    wait_until_mirrored(&server);
    (server, images)
}

/// Method: each image gets another kind of damage on one side; one C-GET must bring all of them back; then both sides hold
/// the same files again, the damaged ones are in `suspect/`, and nothing is wrong any more.
fn bad_copies_are_not_served(side: &str) {
    // The last ones are larger than what is checked in memory.
    let mut sizes = vec![40_000; DAMAGES.len()];
    sizes.extend([6 << 20; 3]);
    let (server, images) = mirrored(&sizes);
    let volume = server.volume(side);
    let before = image_paths(&volume);
    for (number, image) in images.iter().enumerate() {
        DAMAGES[number % DAMAGES.len()].1(&path_of(&volume, image));
    }
    // Once the good side is away too, or not needed: what is served is judged by what comes back.
    assert_come_back(&server, &images);
    if side == "M" {
        // Nobody reads it while the archive volume is here.
        kura(&server, &["volume", "eject", "A"]);
        let mut client = server.associate(ALL);
        let identifier = by_uids("STUDY", &images[0].study, None, None);
        let got = client.c_get(GET, &identifier).expect("C-GET");
        assert_eq!(got.received.len(), 0, "{:?}", got.moved);
        client.release().expect("release");
        kura(&server, &["volume", "return", "A"]);
    }
    let count = images.len() as u64;
    let now = wait_until(&server, "healed", |now| now["healed_count"] == count);
    assert_eq!(now["bad_count"], 0, "{now:#}");
    assert_eq!(now["lost_count"], 0, "{now:#}");
    wait_until_mirrored(&server);
    assert_eq!(image_paths(&volume), before);
    assert_same_images(&server.volume("A"), &server.volume("M"));
    let events = now["events"].as_array().expect("events");
    assert_eq!(events.len() as u64, count);
    for (number, image) in images.iter().enumerate() {
        let event = events
            .iter()
            .find(|event| event["sop_instance_uid"] == image.sop.as_str());
        let event = event.unwrap_or_else(|| panic!("no event of {}", image.sop));
        assert_eq!(event["volume"], side);
        assert!(event["healed"].is_string(), "{event}");
        match (
            DAMAGES[number % DAMAGES.len()].0,
            event["set_aside"].as_str(),
        ) {
            ("missing", None) => {}
            (_, Some(aside)) => assert!(volume.join(aside).exists(), "{aside}"),
            _ => panic!("{event}"),
        }
    }
    assert_come_back(&server, &images);
}

#[test]
fn a_bad_copy_on_the_archive_volume_is_not_served_and_is_healed() {
    bad_copies_are_not_served("A");
}

#[test]
fn a_bad_copy_on_the_mirror_volume_is_not_served_and_is_healed_at_once() {
    bad_copies_are_not_served("M");
}

/// Method: an image comes to a series of which a copy is bad; that is found and healed; then the rest is copied by hand.
#[test]
fn what_waits_beside_a_healed_copy_gets_its_own_when_it_is_its_turn() {
    let (server, mut images) = mirrored(&[40_000]);
    images.push(Image::new(1, 1, 40_000));
    send_all(&server, &images[1..]);
    DAMAGES[0].1(&path_of(&server.volume("A"), &images[0]));
    assert_come_back(&server, &images);
    wait_until(&server, "healed", |now| now["healed_count"] == 1);
    kura(&server, &["mirror", "run"]);
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

/// Method: a third of the images is bad on one side, a third on the other, one on both; what C-MOVE brings is what was
/// sent, and only that one is missing and named.
#[test]
fn a_c_move_brings_everything_of_which_one_copy_is_good() {
    let sink = Sink::start();
    let mut settings = with_mirror("window = \"03:00-03:01\"").peer("SINK", sink.port());
    settings.extra.push_str("[scrub]\ndays = 0\n");
    let (server, images) = mirrored_with(settings, &[25_000; 21]);
    for (number, image) in images.iter().enumerate() {
        for (side, name) in ["A", "M"].into_iter().enumerate() {
            if number == 20 || number % 3 == side {
                DAMAGES[number % DAMAGES.len()].1(&path_of(&server.volume(name), image));
            }
        }
    }
    let contexts: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])];
    let mut mover = server.associate(contexts);
    let identifier = by_uids("STUDY", &images[0].study, None, None);
    let moved = mover.c_move(1, "SINK", &identifier).expect("C-MOVE");
    assert_eq!(moved.status, 0xB000, "{moved:?}");
    mover.release().expect("release");
    let received = sink.take();
    assert_eq!(received.len(), 20);
    for received in received {
        let sent = images
            .iter()
            .find(|image| image.sop == received.sop_instance);
        let sent = sent.unwrap_or_else(|| panic!("{} was never sent", received.sop_instance));
        assert!(
            received.data_set == sent.data_set,
            "{}: other bytes",
            sent.sop
        );
    }
    wait_until(&server, "lost", |now| now["lost_count"] == 1);
}

/// Method: the same image is damaged on both sides: it fails, the others come; status says lost and whose it is. Sent
/// again, it is there again.
#[test]
fn what_is_bad_on_both_sides_is_lost_and_named_and_never_sent() {
    let (server, images) = mirrored(&[30_000, 30_000, 6 << 20, 1_000]);
    for side in ["A", "M"] {
        DAMAGES[0].1(&path_of(&server.volume(side), &images[0]));
        DAMAGES[0].1(&path_of(&server.volume(side), &images[2]));
    }
    for _ in 0..2 {
        let mut client = server.associate(ALL);
        let identifier = by_uids("STUDY", &images[0].study, None, None);
        let got = client.c_get(GET, &identifier).expect("C-GET");
        assert_eq!(got.moved.status, 0xB000, "{:?}", got.moved);
        let mut came: Vec<&str> = got
            .received
            .iter()
            .map(|r| r.sop_instance.as_str())
            .collect();
        came.sort_unstable();
        assert_eq!(came, [images[1].sop.as_str(), images[3].sop.as_str()]);
        client.release().expect("release");
        wait_until(&server, "lost", |now| now["lost_count"] == 2);
    }
    let now = status(&server);
    let lost = now["lost"].as_array().expect("lost");
    let of_first = lost
        .iter()
        .find(|lost| lost["sop_instance_uid"] == images[0].sop.as_str());
    let of_first = of_first.unwrap_or_else(|| panic!("{now:#}"));
    assert_eq!(of_first["study_instance_uid"], images[0].study.as_str());
    assert!(
        !of_first["patient_id"].as_str().expect("id").is_empty(),
        "{now:#}"
    );
    assert_eq!(
        of_first["last_known"].as_array().map(Vec::len),
        Some(2),
        "{now:#}"
    );
    let outcome = server.kura(&["status"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text());
    assert!(outcome.text().contains("lost"), "{}", outcome.text());
    // Its sender has it still.
    send_all(&server, &images);
    kura(&server, &["mirror", "run"]);
    wait_until_mirrored(&server);
    assert_come_back(&server, &images);
    assert_eq!(status(&server)["lost_count"], 0);
}

/// Method: the file system of the archive volume is shut down under the running server: every call fails. All images come
/// from the mirror, and none is said to be bad: it is the disk that is.
#[test]
fn a_disk_that_dies_makes_no_file_bad() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let Some(mut disk) = Pluggable::ext4(&folder.path().join("volume-a"), 256 << 20) else {
        return;
    };
    let server = Server::in_folder(with_mirror("when = \"immediate\""), folder.path());
    server.wait_until_indexed();
    let images: Vec<Image> = (0..20).map(|n| Image::new(1, n, 20_000)).collect();
    send_all(&server, &images);
    wait_until_mirrored(&server);
    if let Err(error) = disk.cut() {
        eprintln!("skipped: a file system cannot be shut down here ({error})");
        return;
    }
    for _ in 0..3 {
        assert_come_back(&server, &images);
        std::thread::sleep(Duration::from_millis(700));
    }
    let now = status(&server);
    assert_eq!(now["found_count"], 0, "{now:#}");
    let outcome = server.kura(&["status"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    drop(server);
    disk.unmount();
}

/// Method: the archive volume is mounted read-only under the next start, with a bad file on it.
#[test]
fn on_a_disk_that_cannot_be_written_a_bad_copy_is_passed_over_and_reported() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let Some(disk) = Tmpfs::new(&folder.path().join("volume-a"), "size=128m") else {
        return;
    };
    let mut server = Server::in_folder(with_mirror("when = \"immediate\""), folder.path());
    server.wait_until_indexed();
    let images: Vec<Image> = (0..5).map(|n| Image::new(1, n, 20_000)).collect();
    send_all(&server, &images);
    wait_until_mirrored(&server);
    assert!(server.terminate().success());
    DAMAGES[0].1(&path_of(&server.volume("A"), &images[2]));
    assert!(disk.remount("ro"), "remount");
    server.restart();
    server.wait_until_indexed();
    assert_come_back(&server, &images);
    let now = wait_until(&server, "reported", |now| now["passed_over_count"] == 1);
    assert_eq!(
        now["events"][0]["sop_instance_uid"],
        images[2].sop.as_str(),
        "{now:#}"
    );
    // It is not read again with each request.
    let lines = || server.log_text().matches("a copy cannot be served").count();
    let before = lines();
    assert_come_back(&server, &images);
    assert_eq!(lines(), before);
    assert!(server.terminate().success());
    assert!(disk.remount("rw"), "remount");
    server.restart();
    server.wait_until_indexed();
    assert_come_back(&server, &images);
    wait_until(&server, "healed", |now| now["healed_count"] == 1);
    assert_same_images(&server.volume("A"), &server.volume("M"));
    drop(server);
}

/// A file of the system of 4,096 bytes that gives an error when it is read, in the place of another until dropped.
struct Unreadable(std::path::PathBuf);

impl Unreadable {
    fn new(at: &std::path::Path) -> Option<Unreadable> {
        let file = "/sys/class/net/lo/speed";
        if fs::metadata(file).ok()?.len() != 4_096 || fs::read(file).is_ok() {
            return None;
        }
        let mut mount = Command::new("mount");
        let done = mount.args(["--bind", file]).arg(at).status();
        done.is_ok_and(|status| status.success())
            .then(|| Unreadable(at.to_owned()))
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Method: where the file was there is one of its size that cannot be read and cannot be moved.
#[test]
fn an_unreadable_file_is_healed_beside_where_it_was() {
    // All that is not pixels takes the same room.
    let (server, probe) = mirrored(&[1_000]);
    let rest = fs::metadata(path_of(&server.volume("A"), &probe[0]))
        .expect("file")
        .len()
        - 1_000;
    drop(server);
    let (server, images) = mirrored(&[4_096 - rest as usize, 1_000]);
    let path = path_of(&server.volume("A"), &images[0]);
    assert_eq!(fs::metadata(&path).expect("file").len(), 4_096);
    let Some(unreadable) = Unreadable::new(&path) else {
        eprintln!("skipped: no unreadable file can be mounted here");
        return;
    };
    assert_come_back(&server, &images);
    let now = wait_until(&server, "healed", |now| now["healed_count"] == 1);
    let why = now["events"][0]["why"].as_str().expect("why").to_owned();
    assert!(why.contains("cannot be read"), "{why}");
    wait_until_mirrored(&server);
    assert_come_back(&server, &images);
    // From the new file alone, too.
    kura(&server, &["volume", "eject", "M"]);
    assert_come_back(&server, &images);
    drop(unreadable);
}

/// Method: a large file is cut off after the first half of it was handed out.
#[test]
fn a_copy_that_fails_in_the_middle_gives_way_to_the_other_at_the_same_byte() {
    let (mut server, images) = mirrored(&[8 << 20, 9 << 20]);
    assert!(server.terminate().success());
    let config = Config::load(Some(&server.config())).expect("configuration");
    let archive = Archive::open(&config, Mode::Existing).expect("archive");
    let image = &images[0];
    let path = path_of(&server.volume("A"), image);
    let selected = archive.select(&Selection::Instances(vec![image.sop.clone()]));
    let selected = selected.expect("selected");
    let mut fetched = archive.fetch(&selected[0]).expect("fetched");
    let mut bytes = vec![0; fetched.length as usize];
    let half = bytes.len() / 2;
    let mut filled = 0;
    while filled < half {
        let end = bytes.len().min(filled + 300_000);
        filled += fetched.read(&mut bytes[filled..end]).expect("read");
    }
    DAMAGES[1].1(&path);
    while filled < bytes.len() {
        let end = bytes.len().min(filled + 300_000);
        filled += fetched.read(&mut bytes[filled..end]).expect("read");
    }
    assert!(bytes == image.data_set, "other bytes");
    // One that changes after it was found good never comes to its end.
    let image = &images[1];
    let selected = archive.select(&Selection::Instances(vec![image.sop.clone()]));
    let selected = selected.expect("selected");
    let mut fetched = archive.fetch(&selected[0]).expect("fetched");
    DAMAGES[0].1(&path_of(&server.volume("A"), image));
    let mut piece = vec![0; 1 << 20];
    let ended = loop {
        match fetched.read(&mut piece) {
            Ok(0) => break "well",
            Ok(_) => {}
            Err(_) => break "badly",
        }
    };
    assert_eq!(ended, "badly");
}

/// Method: the files are bad, the server is killed right after they were asked for; after the restart they are asked for
/// again.
#[test]
fn judging_and_healing_go_on_after_kill_9() {
    let (mut server, images) = mirrored(&[20_000; 12]);
    for image in &images {
        DAMAGES[0].1(&path_of(&server.volume("A"), image));
    }
    let rounds = if common::long() { 30 } else { 4 };
    let mut random = common::Random::from_environment("bad copies and kill -9");
    for _ in 0..rounds {
        assert_come_back(&server, &images);
        std::thread::sleep(Duration::from_millis(random.between(100, 1_500)));
        server.kill();
        server.restart();
        server.wait_until_indexed();
    }
    assert_come_back(&server, &images);
    let (a, m) = (server.volume("A"), server.volume("M"));
    let is_good = |image: &Image| {
        let good = std::fs::read(path_of(&m, image)).expect("read");
        // Killed between the line and the move, the bad file keeps its name and the healed one has another.
        let names = [".dcm", "~"].map(|end| format!("/{}{end}", image.sop));
        let is_it = |path: &Path| {
            let path = path.to_string_lossy();
            names.iter().any(|name| path.contains(name))
        };
        let mut paths = images::tree(&a).into_iter();
        paths.any(|path| is_it(&path) && fs::read(path).is_ok_and(|bytes| bytes == good))
    };
    wait_until(&server, "healed", |now| {
        now["bad_count"] == 0 && images.iter().all(is_good)
    });
    wait_until_mirrored(&server);
    assert_come_back(&server, &images);
}
