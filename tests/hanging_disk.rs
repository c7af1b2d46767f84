//! A disk that does not answer: nobody but those who wait for it already is held up.

mod common;

use std::time::{Duration, Instant};

use common::disks::Frozen;
use common::images::{ALL, Image, assert_come_back, assert_found, send_all, tree};
use common::shelf::{self, Shelf, wait_for};

/// Method: the first of two disks is frozen while a sender stores on it; others send, ask and look meanwhile.
#[test]
fn a_disk_that_does_not_answer_holds_up_nobody_else() {
    let Some(mut shelf) = Shelf::ext4(shelf::settings(2, "64 kB"), 64 << 20) else {
        return;
    };
    let server = &mut shelf.server;
    let (a, b) = (server.volume("A"), server.volume("B"));
    let before: Vec<Image> = (0..3).map(|n| Image::new(1, n, 1_000)).collect();
    send_all(server, &before);
    let Some(mut frozen) = Frozen::new(a.clone()) else {
        eprintln!("skipped: a file system cannot be frozen here");
        return;
    };
    let held_up = Image::new(2, 0, 1_000);
    let mut client = server.associate(ALL);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| held_up.send(&mut client));
        let volume = wait_for(server, "A", "failed");
        assert_eq!(volume["reason"], "it does not answer", "{volume}");
        let later: Vec<Image> = (0..5).map(|n| Image::new(3, n, 1_000)).collect();
        let begun = Instant::now();
        send_all(server, &later);
        assert_found(server, &later);
        assert_found(server, &before);
        assert_eq!(server.kura(&["status"]).code, Some(1));
        assert!(begun.elapsed() < Duration::from_secs(60), "held up");
        assert_eq!(tree(&b).len(), later.len());
        assert!(!stuck.is_finished());

        frozen.thaw();
        let (status, comment) = stuck.join().expect("sender").expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
        assert_come_back(server, &later);
    });
    wait_for(server, "A", "ok");
    assert_found(server, std::slice::from_ref(&held_up));
    assert_come_back(server, &[held_up]);
    assert_come_back(server, &before);
}
