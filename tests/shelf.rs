//! Volumes that come and go: what is on them stays known, nothing is written to the wrong disk, and they are taken back.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::build::{Ct, Tag, ident};
use common::images::{
    self, ALL, Image, assert_come_back, assert_found, send_all, tree,
    wait_until_nothing_is_incoming,
};
use common::shelf::{self, Load, Shelf, does, wait_for, wait_until};
use common::wire::{IMPLICIT_LITTLE, PATIENT_ROOT_FIND, STUDY_ROOT_FIND};
use common::{Server, elements};

/// Every file below a folder with its bytes; the lock's text, which names the process, apart.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.expect("entry"))
        .filter(|entry| entry.file_type().is_file() && entry.file_name() != "kura.lock")
        .map(|entry| {
            let bytes = fs::read(entry.path()).expect("file");
            (entry.into_path(), bytes)
        })
        .collect()
}

/// Images of a study and patient of their own.
fn of_patient(patient_id: &str, study: u32, count: u32) -> Vec<Image> {
    (0..count)
        .map(|number| {
            let mut image = Image::new(study, number, 1_000);
            let series = format!("{}.1", image.study);
            image.data_set = Ct {
                number,
                pixel_bytes: 1_000,
                patient_id,
                ..Ct::new(&image.study, &series, &image.sop)
            }
            .encode();
            image
        })
        .collect()
}

/// Instance Availability of a patient, its study, series and instances, as C-FIND answers.
fn availability(server: &Server, patient_id: &str, study: &str) -> Vec<String> {
    let mut client = server.associate(&[
        (1, PATIENT_ROOT_FIND, &[IMPLICIT_LITTLE]),
        (3, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE]),
    ]);
    let asked = (Tag(0x0008, 0x0056), "CS", "");
    let study = (Tag(0x0020, 0x000D), "UI", study);
    let level = |level| (Tag(0x0008, 0x0052), "CS", level);
    let mut all = Vec::new();
    for (context, identifier) in [
        (
            1,
            ident(&[
                level("PATIENT"),
                (Tag(0x0010, 0x0020), "LO", patient_id),
                asked,
            ]),
        ),
        (3, ident(&[level("STUDY"), study, asked])),
        (3, ident(&[level("SERIES"), study, asked])),
        (3, ident(&[level("IMAGE"), study, asked])),
    ] {
        let found = client.c_find(context, &identifier).expect("C-FIND");
        assert_eq!(found.status, 0, "{:?}", found.comment);
        assert!(!found.answers().is_empty());
        for answer in found.answers() {
            all.push(elements::find(&answer, 0x0008, 0x0056).unwrap_or_default());
        }
    }
    client.release().expect("release");
    all
}

fn refused(server: &Server, image: &Image) -> String {
    let mut client = server.associate(ALL);
    let (status, comment) = image.send(&mut client).expect("C-STORE");
    assert_eq!(status, 0xA700, "{comment:?}");
    client.release().expect("release");
    comment.expect("an error comment")
}

/// One instance on A, then some on B.
fn on_both(server: &Server) -> (Vec<Image>, Vec<Image>) {
    let on_a = of_patient("PATIENT-A", 1, 3);
    let on_b = of_patient("PATIENT-B", 2, 4);
    send_all(server, &on_a);
    does(server, &["retire", "A"]);
    send_all(server, &on_b);
    does(server, &["retire", "A", "--undo"]);
    for name in ["A", "B"] {
        wait_until_nothing_is_incoming(&server.volume(name));
    }
    assert_eq!(tree(&server.volume("A")).len(), 3);
    assert_eq!(tree(&server.volume("B")).len(), 4);
    (on_a, on_b)
}

/// Method: `umount -l` of the first volume under four senders, and mounted again.
#[test]
fn a_disk_that_is_pulled_out_under_load_is_away_and_taken_back_by_itself() {
    let Some(mut shelf) = Shelf::ext4(shelf::settings(2, "64 kB"), 128 << 20) else {
        return;
    };
    let (server, disk) = (&mut shelf.server, &mut shelf.disks[0]);
    let mount_point = server.volume("A");
    let load = Load::start(server, 1, 20_000);
    load.go_on_for(30);
    disk.pull_out();
    load.go_on_for(20);
    let away = wait_for(server, "A", "away");
    assert_eq!(away["reason"], "its disk was unmounted");
    assert_eq!(away["path"], mount_point.display().to_string());
    assert_eq!(server.kura(&["volume", "list"]).code, Some(1));
    load.go_on_for(20);
    assert_eq!(content(&mount_point), BTreeMap::new());
    assert_eq!(fs::read_dir(&mount_point).expect("mount point").count(), 0);

    assert!(disk.plug_in(&mount_point));
    wait_for(server, "A", "ok");
    load.go_on_for(20);
    let all = load.end();
    for round in 0..2 {
        assert_found(server, &all);
        assert_come_back(server, &all);
        if round == 0 {
            server.kill();
            server.restart();
        }
    }
    assert_eq!(shelf::volume(server, "A")["state"], "ok");
}

/// Method: the disks of two volumes mounted at each other's mount points, before a start and under the running server; then
/// put right.
#[test]
fn two_disks_that_were_swapped_are_named_and_not_written() {
    let sizes = ["size=8m", "size=8m"];
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(2, "64 kB"), &sizes) else {
        return;
    };
    let Shelf { server, disks, .. } = &mut shelf;
    let points = [server.volume("A"), server.volume("B")];
    let (on_a, on_b) = on_both(server);
    for running in [false, true] {
        if !running {
            assert!(server.terminate().success());
        }
        disks.iter_mut().for_each(|disk| disk.pull_out());
        for (disk, point) in disks.iter_mut().zip(points.iter().rev()) {
            assert!(disk.plug_in(point));
        }
        let mut before = content(&points[0]);
        if !running {
            server.restart();
            server.wait_until_indexed();
        }
        for (name, point, other) in [("A", &points[0], "B"), ("B", &points[1], "A")] {
            let says = format!("another disk is at {}: volume {other}", point.display());
            wait_until(server, name, |volume| {
                volume["state"] == "away" && volume["reason"] == says
            });
        }
        if running {
            // Until then its own disk was written, through what was open.
            before = content(&points[0]);
        }
        let comment = refused(server, &Image::new(5, 1, 1_000));
        assert!(comment.contains("volume A is away"), "{comment}");
        assert_eq!(content(&points[0]), before, "running: {running}");
        // Both are known.
        assert_found(server, &on_a);
        assert_found(server, &on_b);

        disks.iter_mut().for_each(|disk| disk.pull_out());
        for (disk, point) in disks.iter_mut().zip(&points) {
            assert!(disk.plug_in(point));
        }
        for name in ["A", "B"] {
            wait_for(server, name, "ok");
        }
        assert_come_back(server, &on_a);
        assert_come_back(server, &on_b);
    }
    send_all(server, &[Image::new(5, 1, 1_000)]);
}

/// Method: a copy of a volume, label and all, as a second volume in the configuration.
#[test]
fn a_volume_and_its_copy_are_refused_with_both_paths() {
    let mut server = Server::start();
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 3));
    assert!(server.terminate().success());
    let (a, copy) = (server.volume("A"), server.folder().join("copy"));
    copy_all(&a, &copy);
    let before = (content(&a), content(&copy));
    server.configure(|settings| {
        settings
            .volumes
            .push(("B".into(), "copy".into(), "archive".into()));
    });
    let outcome = server.kura(&["serve"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text());
    let says = format!(
        "error: {} and {} have the same label",
        a.display(),
        copy.display()
    );
    assert!(outcome.stderr.contains(&says), "{}", outcome.text());
    assert!(
        outcome.stderr.contains("nothing was started"),
        "{}",
        outcome.text()
    );
    assert_eq!((content(&a), content(&copy)), before);
}

/// `cp -a`
fn copy_all(from: &Path, to: &Path) {
    let mut command = std::process::Command::new("cp");
    let done = common::tools::run(command.arg("-a").args([from, to]));
    assert!(done.success(), "{}", done.text());
}

/// Method: eject, a plain `umount`, a start without the state folder, and mounted again.
#[test]
fn an_ejected_volume_is_known_and_offline_until_it_is_back_even_without_the_state_folder() {
    let sizes = ["size=8m", "size=8m"];
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(2, "64 kB"), &sizes) else {
        return;
    };
    let Shelf { server, disks, .. } = &mut shelf;
    let (on_a, on_b) = on_both(server);
    let (study_a, study_b) = (&on_a[0].study, &on_b[0].study);
    let is = |word: &str, count: usize| vec![word.to_owned(); 3 + count];
    assert_eq!(availability(server, "PATIENT-A", study_a), is("ONLINE", 3));
    assert_eq!(availability(server, "PATIENT-B", study_b), is("ONLINE", 4));
    assert_eq!(does(server, &["eject", "B"]), "volume B may be unplugged");
    assert!(
        disks[1].unmount_now(),
        "it was said that it may be unplugged"
    );
    let mount_point = server.volume("B");
    for round in [
        "running",
        "restarted",
        "without state",
        "killed without state",
    ] {
        match round {
            "restarted" => {
                assert!(server.terminate().success());
                server.restart();
            }
            "without state" => {
                assert!(server.terminate().success());
                fs::remove_dir_all(server.state()).expect("delete the state");
                server.restart();
            }
            "killed without state" => {
                server.kill();
                fs::remove_dir_all(server.state()).expect("delete the state");
                server.restart();
            }
            _ => {}
        }
        server.wait_until_indexed();
        assert_eq!(
            availability(server, "PATIENT-A", study_a),
            is("ONLINE", 3),
            "{round}"
        );
        assert_eq!(
            availability(server, "PATIENT-B", study_b),
            is("OFFLINE", 4),
            "{round}"
        );
        assert_found(server, &on_b);
        let volume = shelf::volume(server, "B");
        assert_eq!(volume["instances_count"], 4, "{round}: {volume}");
        assert_eq!(volume["studies_count"], 1, "{round}: {volume}");
        assert_eq!(server.kura_json(&["status"])["index"]["instances_count"], 7);
        assert_eq!(
            fs::read_dir(&mount_point).expect("mount point").count(),
            0,
            "{round}"
        );
    }
    // It was seen to be gone, so it comes back by itself, and stays.
    wait_for(server, "B", "away");
    assert!(disks[1].plug_in(&mount_point));
    wait_for(server, "B", "ok");
    for round in 0..2 {
        assert_eq!(availability(server, "PATIENT-B", study_b), is("ONLINE", 4));
        assert_come_back(server, &on_a);
        assert_come_back(server, &on_b);
        assert_eq!(shelf::volume(server, "B")["state"], "ok", "round {round}");
        if round == 0 {
            assert!(server.terminate().success());
            server.restart();
            server.wait_until_indexed();
        }
    }
}

/// Method: two of three volumes ejected, the second of which has held the copy of the first one's ledger.
#[test]
fn an_ejected_volume_can_be_unmounted_whatever_was_ejected_before() {
    let sizes = ["size=8m", "size=8m", "size=8m"];
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(3, "64 kB"), &sizes) else {
        return;
    };
    let Shelf { server, disks, .. } = &mut shelf;
    let all = images::images(3, 4);
    send_all(server, &all[..6]);
    does(server, &["retire", "A"]);
    send_all(server, &all[6..]);
    for (name, disk) in [("A", 0), ("C", 2)] {
        does(server, &["eject", name]);
        assert!(disks[disk].unmount_now(), "{name} may be unplugged");
    }
    assert_found(server, &all);
    for (name, disk) in [("C", 2), ("A", 0)] {
        wait_for(server, name, "away");
        assert!(disks[disk].plug_in(&server.volume(name)));
        assert_eq!(
            does(server, &["return", name]),
            format!("volume {name} is back")
        );
    }
    assert_come_back(server, &all);
}

/// Method: a first start, killed at once; the state folder deleted and a disk not mounted at the next one.
#[test]
fn an_empty_mount_point_is_not_made_a_new_volume_when_the_state_folder_is_lost() {
    let sizes = ["size=8m", "size=8m"];
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(2, "64 kB"), &sizes) else {
        return;
    };
    let Shelf { server, disks, .. } = &mut shelf;
    server.kill();
    fs::remove_dir_all(server.state()).expect("delete the state");
    assert!(disks[1].unmount());
    server.restart();
    server.wait_until_indexed();
    let mount_point = server.volume("B");
    let away = shelf::volume(server, "B");
    assert_eq!(away["state"], "away", "{away}");
    let says = format!("its disk is not at {}", mount_point.display());
    assert_eq!(away["reason"], says);
    assert_eq!(fs::read_dir(&mount_point).expect("mount point").count(), 0);
}

/// Method: a client that asks for a large instance and does not read it yet, while its volume is ejected.
#[test]
fn a_volume_is_not_said_to_be_unplugged_while_an_instance_is_read_from_it() {
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(2, "64 kB"), &["size=64m"]) else {
        return;
    };
    let Shelf { server, disks, .. } = &mut shelf;
    let large = Image::new(1, 1, 24_000_000);
    send_all(server, std::slice::from_ref(&large));
    let mut client = server.associate(ALL);
    let identifier = common::build::by_uids("STUDY", &large.study, None, None);
    client
        .send_query(images::GET, common::wire::C_GET_RQ, None, &identifier)
        .expect("C-GET");
    // The first bytes are there, so its file is open.
    let mut byte = [0];
    assert_eq!(client.stream().peek(&mut byte).expect("first byte"), 1);
    let mut eject = server.command(&["volume", "eject", "A"]);
    eject.stdout(std::process::Stdio::null());
    let mut eject = eject.spawn().expect("kura volume eject");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(eject.try_wait().expect("eject"), None, "it did not wait");
    // Whoever waits for it is gone.
    drop(client);
    assert!(eject.wait().expect("eject").success());
    assert!(
        disks[0].unmount_now(),
        "it was said that it may be unplugged"
    );
}
