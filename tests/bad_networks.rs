//! Images arrive, are counted truly, and hold up nobody else, where the network between is late, breaks or falls silent.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::build::by_uids;
use common::forwarding::{PATIENCE, item, settings, until, wait_for, wait_for_peer};
use common::images::{Image, images, send_all};
use common::lossy;
use common::server::free_port;
use common::wire::{IMPLICIT_LITTLE, Moved, STUDY_ROOT_MOVE};
use common::{Cut, Proxy, Receiver, Server, Sink};
use kura::forward::State;
use tempfile::TempDir;

/// Starts a receiver in a folder; `None` where that program is not there.
type Start = fn(&Path) -> Option<Receiver>;

const RECEIVERS: [Start; 2] = [
    |folder| Receiver::storescp(folder, free_port()),
    |folder| Receiver::pynetdicom(folder, free_port(), &[]),
];

/// Images of 60,000 bytes: longer than what a cut of [`CUTS`] lets through.
fn large_images(studies: u32, count: u32) -> Vec<Image> {
    let of = |study| (0..count).map(move |number| Image::new(study, number, 60_000));
    (0..studies).flat_map(of).collect()
}

/// In the middle of a data set, of a command, and behind a data set whose answer then never comes.
const CUTS: [Cut; 5] = [
    Cut::Sent(100_000),
    Cut::Sent(700),
    Cut::Answered(500),
    Cut::Sent(200_000),
    Cut::Answered(900),
];

/// How often each instance came.
fn counts(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for uid in receiver.received() {
        *counts.entry(uid).or_default() += 1;
    }
    counts
}

/// All are there, and so many at most came again.
fn assert_arrived(receiver: &Receiver, images: &[Image], again: usize) {
    let counts = counts(receiver);
    for image in images {
        assert!(counts.contains_key(&image.sop), "{} is missing", image.sop);
    }
    assert_eq!(counts.len(), images.len());
    let came: usize = counts.values().sum();
    assert!(came <= images.len() + again, "{came}: {counts:?}");
}

fn move_study(server: &Server, peer: &str, study: &str) -> Moved {
    let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let moved = client.c_move(1, peer, &by_uids("STUDY", study, None, None));
    let moved = moved.expect("C-MOVE");
    client.release().expect("release");
    moved
}

fn wait_until_sent(server: &Server, peer: &str, images: &[Image]) {
    let mut studies: Vec<&String> = images.iter().map(|image| &image.study).collect();
    studies.dedup();
    for study in studies {
        let done = wait_for(server, peer, study, |item| item.state == State::Sent);
        assert_eq!(done.sent_count, done.total_count, "{done:?}");
    }
}

/// Method: every byte comes 40 ms late, both ways; studies go by rule, then one by C-MOVE.
#[test]
fn over_a_slow_network_each_study_arrives_once_and_a_move_counts_all() {
    for start in RECEIVERS {
        let folder = TempDir::new().unwrap();
        let Some(receiver) = start(folder.path()) else {
            continue;
        };
        let network = Proxy::before(receiver.port);
        network.late(Duration::from_millis(40));
        let server = Server::with(settings(&[("FAR", network.port())]));
        let images = large_images(3, 4);
        send_all(&server, &images);
        wait_until_sent(&server, "FAR", &images);
        assert_arrived(&receiver, &images, 0);
        let moved = move_study(&server, "FAR", &images[0].study);
        assert_eq!(moved.status, 0, "{moved:?}");
        assert_eq!(moved.counters, [None, Some(4), Some(0), Some(0)]);
        assert_eq!(receiver.received().len(), images.len() + 4);
    }
}

/// Method: the first connections break, each at another place. A connection carries one instance at a time: no more come
/// again than connections broke.
#[test]
fn what_breaks_off_is_sent_again_and_nothing_else_is() {
    for start in RECEIVERS {
        let folder = TempDir::new().unwrap();
        let Some(receiver) = start(folder.path()) else {
            continue;
        };
        let network = Proxy::before(receiver.port);
        network.cut(&CUTS);
        let server = Server::with(settings(&[("FAR", network.port())]));
        let images = large_images(2, 15);
        send_all(&server, &images);
        wait_until_sent(&server, "FAR", &images);
        assert!(network.cut_count() >= 3, "{}", network.cut_count());
        assert_arrived(&receiver, &images, network.cut_count());
    }
}

/// Method: everything to a peer is held up in the middle of a study, new connections too; another peer gets that study
/// and the next. Then the old connections are gone, and new ones work.
#[test]
fn a_network_that_falls_silent_holds_up_one_peer_and_loses_and_repeats_nothing() {
    let folder = TempDir::new().unwrap();
    let Some(receiver) = Receiver::pynetdicom(folder.path(), free_port(), &[]) else {
        return;
    };
    let (network, near) = (Proxy::before(receiver.port), Sink::start());
    // So that it is in the middle when it falls silent.
    network.late(Duration::from_millis(20));
    let peers = [("FAR", network.port()), ("NEAR", near.port())];
    let server = Server::with(settings(&peers));
    let mut images = large_images(2, 30);
    send_all(&server, &images);
    wait_for_peer(&server, "FAR", |peer| peer.sending_count == 2);
    until("some arrived", || receiver.received().len() >= 6);
    network.hold();
    let late = Image::new(9, 0, 1_000);
    send_all(&server, std::slice::from_ref(&late));
    images.push(late);
    near.wait_for(images.len(), PATIENCE);
    wait_until_sent(&server, "NEAR", &images);
    let of_study = |study: &str| item(&server, "FAR", study).map_or(0, |item| item.sent_count);
    let recorded: u64 = (0..2).map(|n| of_study(&Image::new(n, 0, 0).study)).sum();
    assert!(recorded < 60, "{recorded}");
    let before = receiver.received().len();
    let under_way = network.open_count();
    network.heal();
    wait_until_sent(&server, "FAR", &images);
    assert_arrived(&receiver, &images, under_way);
    let after = receiver.received().len() - before;
    let left = images.len() - usize::try_from(recorded).unwrap();
    assert!(after <= left, "{after} after it, {left} were left");
}

/// Method: each of three moves loses its connection at another place. What is counted as completed was answered by the
/// receiver, what is counted as failed is named, and asked for by name it comes.
#[test]
fn a_move_whose_connection_breaks_counts_and_names_what_it_does_not_know() {
    for start in RECEIVERS {
        let folder = TempDir::new().unwrap();
        let Some(receiver) = start(folder.path()) else {
            continue;
        };
        let network = Proxy::before(receiver.port);
        let server = Server::with(common::Settings::default().peer("FAR", network.port()));
        let images = large_images(3, 6);
        send_all(&server, &images);
        for (study, cut) in [CUTS[0], CUTS[1], CUTS[2]].into_iter().enumerate() {
            let all = &images[study * 6..][..6];
            network.cut(&[cut]);
            let moved = move_study(&server, "FAR", &all[0].study);
            assert_eq!(moved.status, 0xB000, "{cut:?} {moved:?}");
            assert_eq!(moved.counters, [None, Some(5), Some(1), Some(0)], "{cut:?}");
            assert_eq!(moved.failed.len(), 1, "{cut:?} {moved:?}");
            let there = receiver.received_uids();
            for image in all {
                let said_failed = moved.failed.contains(&image.sop);
                assert!(said_failed || there.contains(&image.sop), "{}", image.sop);
            }
            let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
            let of_it = by_uids(
                "IMAGE",
                &all[0].study,
                Some(&format!("{}.1", all[0].study)),
                Some(&moved.failed[0]),
            );
            let again = client.c_move(1, "FAR", &of_it).expect("C-MOVE");
            assert_eq!(again.status, 0, "{again:?}");
            client.release().expect("release");
        }
        assert_arrived(&receiver, &images, 1);
    }
}

/// Method: a move to a peer behind a silent network is under way; another goes to a peer beside it. When the network works
/// again, without the connections that there were, the first ends, and what it says adds up.
#[test]
fn a_move_into_silence_holds_up_no_other_and_ends_with_true_counters() {
    let folder = TempDir::new().unwrap();
    let Some(receiver) = Receiver::storescp(folder.path(), free_port()) else {
        return;
    };
    let (network, near) = (Proxy::before(receiver.port), Sink::start());
    network.late(Duration::from_millis(20));
    let peers = common::Settings::default()
        .peer("FAR", network.port())
        .peer("NEAR", near.port());
    let server = Server::with(peers);
    let images = large_images(1, 20);
    send_all(&server, &images);
    let study = &images[0].study;
    std::thread::scope(|scope| {
        let far = scope.spawn(|| move_study(&server, "FAR", study));
        until("some arrived", || receiver.received().len() >= 3);
        network.hold();
        let moved = move_study(&server, "NEAR", study);
        assert_eq!((moved.status, near.take().len()), (0, 20), "{moved:?}");
        assert!(!far.is_finished());
        network.heal();
        let moved = far.join().unwrap();
        assert_eq!(moved.status, 0xB000, "{moved:?}");
        assert_eq!(moved.counters, [None, Some(19), Some(1), Some(0)]);
        assert_eq!(moved.failed.len(), 1, "{moved:?}");
        let missing: Vec<&Image> = {
            let there = receiver.received_uids();
            let mut all = images.iter().collect::<Vec<_>>();
            all.retain(|image| !there.contains(&image.sop));
            all
        };
        for image in missing {
            assert_eq!(image.sop, moved.failed[0]);
        }
    });
}

/// Method: the network takes connections and is silent for as long as any of our patience lasts.
#[test]
fn a_peer_behind_long_silence_is_given_up_and_gets_everything_later() {
    if !common::long() {
        // Patience with a silent network lasts minutes.
        eprintln!("skipped: a long test (KURA_LONG=1)");
        return;
    }
    let folder = TempDir::new().unwrap();
    let Some(receiver) = Receiver::pynetdicom(folder.path(), free_port(), &[]) else {
        return;
    };
    let network = Proxy::before(receiver.port);
    network.hold();
    let server = Server::with(settings(&[("FAR", network.port())]));
    let images = images(3, 4);
    send_all(&server, &images);
    let begun = Instant::now();
    let moved = move_study(&server, "FAR", &images[0].study);
    assert_eq!(moved.status, 0xA702, "{moved:?}");
    assert_eq!(moved.counters, [None, Some(0), Some(4), Some(0)]);
    let silent = |peer: &kura::forward::PeerStatus| peer.unreachable.is_some();
    wait_for_peer(&server, "FAR", silent);
    eprintln!("given up after {:?}", begun.elapsed());
    let waiting = item(&server, "FAR", &images[0].study).unwrap();
    assert_eq!((waiting.state, waiting.sent_count), (State::Waiting, 0));
    network.heal();
    wait_until_sent(&server, "FAR", &images);
    assert_arrived(&receiver, &images, 0);
}

/// Method: this test once more in a network namespace of its own, whose loopback loses 3 % of all packets, and for ten
/// seconds every one.
#[test]
fn a_network_that_loses_packets_costs_time_and_nothing_else() {
    if !common::long() {
        eprintln!("skipped: a long test (KURA_LONG=1)");
        return;
    }
    if lossy::is_inside() {
        return sends_over_a_network_that_loses_packets();
    }
    lossy::run("a_network_that_loses_packets_costs_time_and_nothing_else");
}

fn sends_over_a_network_that_loses_packets() {
    if !lossy::begin(3) {
        return;
    }
    for start in RECEIVERS {
        let folder = TempDir::new().unwrap();
        let Some(receiver) = start(folder.path()) else {
            continue;
        };
        let server = Server::with(settings(&[("FAR", receiver.port)]));
        let images = large_images(4, 25);
        send_all(&server, &images);
        until("some arrived", || receiver.received().len() >= 5);
        lossy::lose(100);
        std::thread::sleep(Duration::from_secs(10));
        lossy::lose(3);
        wait_until_sent(&server, "FAR", &images);
        assert_arrived(&receiver, &images, 4);
        let moved = move_study(&server, "FAR", &images[0].study);
        assert_eq!(moved.status, 0, "{moved:?}");
        assert_eq!(moved.counters, [None, Some(25), Some(0), Some(0)]);
        let again = receiver.received().len() - images.len();
        eprintln!("{again} came again, of which 25 by the move");
    }
}
