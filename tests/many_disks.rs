//! Several volumes: what does not fit on one, or loses its disk, goes on to another, and the sender notices nothing.

mod common;

use std::fs;
use std::path::Path;

use common::build::CT_IMAGE_STORAGE;
use common::images::{
    self, ALL, ECHO, Image, STORE, assert_come_back, assert_found, incoming, send_all, tree,
    wait_until_nothing_is_incoming,
};
use common::shelf::{self, Load, Shelf, does, wait_for};
use common::{Server, disks::Tmpfs};

/// Makes a file so large that only this much is free.
fn leave_free(volume: &Path, bytes: u64) {
    let ballast = volume.join("ballast");
    let _ = fs::remove_file(&ballast);
    let space = rustix::fs::statvfs(volume).expect("statvfs");
    let size = (space.f_bavail * space.f_frsize)
        .checked_sub(bytes)
        .expect("the disk is too small");
    fs::write(&ballast, vec![1; size as usize]).expect("ballast");
}

fn free_bytes(volume: &Path) -> u64 {
    let space = rustix::fs::statvfs(volume).expect("statvfs");
    space.f_bavail * space.f_frsize
}

/// All are found and come back: now, after a kill, and from an index that was made from the ledgers.
fn assert_kept(server: &mut Server, all: &[Image]) {
    for round in 0..2 {
        assert_found(server, all);
        assert_come_back(server, all);
        if round == 0 {
            server.kill();
            fs::remove_dir_all(server.state().join("index")).expect("delete the index");
            server.restart();
        }
    }
}

/// Method: a first volume, in memory and on an ext4, with less room than the image needs. Of 20 MB more has been written than
/// is held in memory, so that some is read back from the full disk.
#[test]
fn an_image_that_does_not_fit_on_the_first_volume_goes_on_to_the_second_in_the_middle() {
    for file_system in ["tmpfs", "ext4"] {
        let settings = shelf::settings(2, "64 kB");
        let shelf = match file_system {
            "tmpfs" => Shelf::in_memory(settings, &["size=13m"]),
            _ => Shelf::ext4(settings, 24 << 20),
        };
        let Some(mut shelf) = shelf else { return };
        let server = &mut shelf.server;
        let (a, b) = (server.volume("A"), server.volume("B"));
        let mut all = Vec::new();
        for (pixel_bytes, free) in [
            (20_000_000, 12_000_000),
            (3_000_000, 2_000_000),
            (300_000, 200_000),
        ] {
            leave_free(&a, free);
            let before = free_bytes(&a);
            let image = Image::new(1, all.len() as u32, pixel_bytes);
            send_all(server, std::slice::from_ref(&image));
            all.push(image);
            wait_until_nothing_is_incoming(&a);
            assert_eq!(tree(&a).len(), 0, "{file_system}, {pixel_bytes}");
            assert_eq!(tree(&b).len(), all.len(), "{file_system}, {pixel_bytes}");
            // Folders at most.
            let lost = before.saturating_sub(free_bytes(&a));
            assert!(lost < 100_000, "{file_system}, {pixel_bytes}: {lost} bytes");
        }
        // What fits goes to the first again, with a new association.
        fs::remove_file(a.join("ballast")).expect("delete the ballast");
        let small = Image::new(2, 1, 1_000);
        send_all(server, std::slice::from_ref(&small));
        all.push(small);
        assert_eq!(tree(&a).len(), 1, "{file_system}");
        assert_kept(server, &all);
    }
}

/// Method: images larger than the reserve and than what the first volume has left; one at a time and four at once.
#[test]
fn senders_at_once_at_the_end_of_the_first_volume_are_all_answered_0000h() {
    let Some(mut shelf) = Shelf::in_memory(shelf::settings(2, "64 kB"), &["size=3m"]) else {
        return;
    };
    let server = &mut shelf.server;
    let mut all: Vec<Image> = (0..5).map(|n| Image::new(n % 2, n, 1_100_000)).collect();
    send_all(server, &all);
    let at_once: Vec<Vec<Image>> = (4..8)
        .map(|study| (0..5).map(|n| Image::new(study, n, 90_000)).collect())
        .collect();
    std::thread::scope(|scope| {
        for images in &at_once {
            let server = &*server;
            scope.spawn(move || send_all(server, images));
        }
    });
    all.extend(at_once.into_iter().flatten());
    for volume in ["A", "B"] {
        wait_until_nothing_is_incoming(&server.volume(volume));
    }
    let (a, b) = (tree(&server.volume("A")), tree(&server.volume("B")));
    assert!(!a.is_empty() && !b.is_empty());
    assert_eq!(a.len() + b.len(), all.len());
    assert_kept(server, &all);
}

/// Method: `incoming/` of the first volume made read-only under the running server, then writable again.
#[test]
fn a_first_volume_that_turns_read_only_costs_nothing_while_there_is_a_second() {
    let mut server = Server::with(shelf::settings(2, "64 kB"));
    server.wait_until_indexed();
    let (a, b) = (server.volume("A"), server.volume("B"));
    let mut all = images::images(2, 5);
    send_all(&server, &all);
    wait_until_nothing_is_incoming(&a);
    let Some(mount) = Tmpfs::new(&a.join("incoming"), "ro,size=1m") else {
        return;
    };
    let more: Vec<Image> = (0..5).map(|n| Image::new(5, n, 1_000)).collect();
    send_all(&server, &more);
    all.extend(more);
    assert_found(&server, &all);
    assert_come_back(&server, &all);
    assert_eq!(tree(&b).len(), 5);
    assert_eq!(shelf::volume(&server, "A")["state"], "failed");
    drop(mount);
    // It is tried now and then, and written again when that works.
    wait_for(&server, "A", "ok");
    let more: Vec<Image> = (0..5).map(|n| Image::new(6, n, 1_000)).collect();
    send_all(&server, &more);
    all.extend(more);
    assert_eq!((tree(&a).len(), tree(&b).len()), (15, 5));
    assert_kept(&mut server, &all);
}

/// Sends on four associations until each is refused eight times; what was stored.
fn fill(server: &Server, studies: std::ops::Range<u32>, pixel_bytes: usize) -> Vec<Image> {
    std::thread::scope(|scope| {
        let senders: Vec<_> = studies
            .map(|study| {
                scope.spawn(move || {
                    let mut client = server.associate(ALL);
                    let (mut stored, mut refused) = (Vec::new(), 0);
                    for number in 0..1_000 {
                        let image = Image::new(study, number, pixel_bytes);
                        match image.send(&mut client).expect("C-STORE") {
                            (0, _) => stored.push(image),
                            (0xA700, Some(comment)) => {
                                assert!(comment.starts_with("not stored"), "{comment}");
                                refused += 1;
                            }
                            other => panic!("{other:?}"),
                        }
                        if refused == 8 {
                            break;
                        }
                    }
                    assert_eq!(refused, 8, "the disks never fill");
                    assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
                    client.release().expect("release");
                    stored
                })
            })
            .collect();
        senders
            .into_iter()
            .flat_map(|sender| sender.join().expect("sender"))
            .collect()
    })
}

/// Method: four associations run into the end of three small disks, with a reserve and with none; then room is made on the
/// second.
#[test]
fn when_all_volumes_are_full_it_is_said_and_what_was_acknowledged_is_kept() {
    for reserve in ["64 kB", "0 B"] {
        let small = ["size=2m"; 3];
        let Some(mut shelf) = Shelf::in_memory(shelf::settings(3, reserve), &small) else {
            return;
        };
        let server = &mut shelf.server;
        let volumes = ["A", "B", "C"].map(|name| server.volume(name));
        let ballast = volumes[1].join("ballast");
        fs::write(&ballast, vec![1; 600_000]).expect("ballast");
        let mut all = fill(server, 1..5, 60_000);
        let counts = |all: &[Image]| {
            volumes
                .iter()
                .for_each(|v| wait_until_nothing_is_incoming(v));
            let counts = volumes.each_ref().map(|volume| tree(volume).len());
            assert_eq!(counts.iter().sum::<usize>(), all.len(), "{counts:?}");
            counts
        };
        let full = counts(&all);
        assert!(full.iter().all(|count| *count > 10), "{full:?}");
        fs::remove_file(&ballast).expect("delete the ballast");
        let more: Vec<Image> = (0..3).map(|n| Image::new(7, n, 60_000)).collect();
        send_all(server, &more);
        all.extend(more);
        let after = counts(&all);
        assert_eq!(after, [full[0], full[1] + 3, full[2]]);
        assert_kept(server, &all);
    }
}

/// Method: an ext4 is shut down under four senders, so that each call on it fails; then it is ejected, mounted again and
/// returned.
#[test]
fn a_disk_that_dies_under_load_costs_nothing_while_there_is_a_second() {
    let Some(mut shelf) = Shelf::ext4(shelf::settings(2, "64 kB"), 128 << 20) else {
        return;
    };
    let (server, disk) = (&mut shelf.server, &mut shelf.disks[0]);
    let (a, b) = (server.volume("A"), server.volume("B"));
    let load = Load::start(server, 1, 50_000);
    load.go_on_for(40);
    disk.cut().expect("EXT4_IOC_SHUTDOWN");
    load.go_on_for(40);
    let mut all = load.end();
    wait_for(server, "A", "failed");
    let outcome = server.kura(&["volume", "list"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert_eq!(server.kura(&["status"]).code, Some(1));

    let on_b = tree(&b).len();
    assert!(on_b >= 36, "{on_b} on the second");
    let later: Vec<Image> = (0..5).map(|n| Image::new(8, n, 1_000)).collect();
    send_all(server, &later);
    assert_eq!(tree(&b).len(), on_b + 5);
    assert_found(server, &all);
    assert_found(server, &later);
    assert_come_back(server, &later);
    all.extend(later);

    does(server, &["eject", "A"]);
    assert!(
        disk.unmount(),
        "it may be unplugged, and cannot be unmounted"
    );
    assert!(disk.plug_in(&a), "cannot mount again");
    assert_eq!(does(server, &["return", "A"]), "volume A is back");
    assert_eq!(shelf::volume(server, "A")["state"], "ok");
    assert_kept(server, &all);
    assert_eq!(incoming(&a).len(), 0);
    // It receives again.
    let last = Image::new(9, 1, 1_000);
    let before = tree(&a).len();
    send_all(server, std::slice::from_ref(&last));
    assert_eq!(tree(&a).len(), before + 1);
}

/// Which of the volumes have files of this study.
fn volumes_of(server: &Server, names: &[&str], study: u32) -> Vec<String> {
    let has = |name: &&&str| {
        let below = format!("-2.25.9{study}/");
        let files = tree(&server.volume(name));
        files
            .iter()
            .any(|file| file.to_string_lossy().contains(&below))
    };
    names
        .iter()
        .filter(has)
        .map(|name| (*name).to_owned())
        .collect()
}

/// Method: four associations one after another, each with a study, for both orders, on two disks of one size.
#[test]
fn volumes_are_filled_in_order_or_evenly_and_a_study_stays_together() {
    for (order, expected) in [("in-order", [20, 0]), ("most-free", [10, 10])] {
        let mut settings = shelf::settings(2, "64 kB");
        settings.extra += &format!("order = \"{order}\"\n");
        let Some(shelf) = Shelf::in_memory(settings, &["size=24m", "size=24m"]) else {
            return;
        };
        let server = &shelf.server;
        for study in 1..5 {
            let images: Vec<Image> = (0..5).map(|n| Image::new(study, n, 300_000)).collect();
            send_all(server, &images);
            let on = volumes_of(server, &["A", "B"], study);
            assert_eq!(on.len(), 1, "{order}: study {study} is on {on:?}");
        }
        let counts = ["A", "B"].map(|name| tree(&server.volume(name)).len());
        assert_eq!(counts, expected, "{order}");
    }
}

/// Method: two disks filled in order; what is left of each, and what the screen says is kept.
#[test]
fn a_volume_keeps_its_reserve_free() {
    const IMAGE: u64 = 50_000;
    for (reserve, bytes) in [("1 MB", 1_000_000), ("25 %", 1 << 20)] {
        let settings = shelf::settings(2, reserve);
        let Some(shelf) = Shelf::in_memory(settings, &["size=4m", "size=4m"]) else {
            return;
        };
        let all = fill(&shelf.server, 1..2, IMAGE as usize);
        for name in ["A", "B"] {
            let volume = shelf::volume(&shelf.server, name);
            assert_eq!(volume["reserve_bytes"], bytes, "{reserve}");
            let free = free_bytes(&shelf.server.volume(name));
            // The last instance was begun while there was room, with folders and a ledger line.
            assert!(
                free > bytes - 2 * IMAGE && free <= bytes,
                "{reserve}: {free} free"
            );
        }
        assert_found(&shelf.server, &all);
    }
}

/// Method: an ext4 is shut down while one association is in the middle of an ordinary image, and another in that of one larger
/// than what is held in memory; then the rest is sent.
#[test]
fn a_disk_that_dies_in_the_middle_of_an_image_costs_only_what_memory_does_not_hold() {
    let Some(mut shelf) = Shelf::ext4(shelf::settings(2, "64 kB"), 128 << 20) else {
        return;
    };
    let (server, disk) = (&mut shelf.server, &mut shelf.disks[0]);
    let b = server.volume("B");
    let before = Image::new(1, 1, 1_000);
    send_all(server, std::slice::from_ref(&before));
    let ordinary = Image::new(2, 1, 3_000_000);
    let large = Image::new(3, 1, 24_000_000);
    let mut begun = Vec::new();
    for (image, sent) in [(&ordinary, 2_000_000), (&large, 20_000_000)] {
        let mut client = server.associate(ALL);
        client
            .begin_store(STORE, CT_IMAGE_STORAGE, &image.sop)
            .expect("C-STORE");
        let (first, rest) = image.data_set.split_at(sent);
        client
            .send_fragment(STORE, false, first, false)
            .expect("the first part");
        begun.push((client, rest));
    }
    // What is on its way arrives; of the large one more than 8 MiB must be on the disk.
    std::thread::sleep(std::time::Duration::from_millis(500));
    disk.cut().expect("EXT4_IOC_SHUTDOWN");
    let mut answers = Vec::new();
    for (client, rest) in &mut begun {
        client
            .send_fragment(STORE, false, rest, true)
            .expect("the rest");
        answers.push(client.store_response().expect("C-STORE response"));
    }
    assert_eq!(answers[0].0, 0, "{:?}", answers[0]);
    assert_eq!(answers[1].0, 0xA700, "{:?}", answers[1]);
    let comment = answers[1].1.as_deref().expect("an error comment");
    assert!(
        comment.starts_with("not stored: the disk failed"),
        "{comment}"
    );
    // Both associations go on; sent again it is taken.
    for ((client, _), image) in begun.iter_mut().zip([&Image::new(4, 1, 1_000), &large]) {
        assert_eq!(image.send(client).expect("C-STORE").0, 0);
    }
    wait_until_nothing_is_incoming(&b);
    assert_eq!(tree(&b).len(), 3);
    assert_come_back(server, &[ordinary, large]);
}
