//! Receivers that are full for long, that never answer, and one that is an archive itself.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::forwarding::{PATIENCE, item, settings, until, wait_for};
use common::images::{Image, images, send_all};
use common::receivers::{orthanc, start_orthanc};
use common::server::free_port;
use common::{Server, Sink};
use kura::forward::{Item, State};
use tempfile::TempDir;

fn is_sent(item: &Item) -> bool {
    item.state == State::Sent
}

fn uids_at(sink: &Sink) -> Vec<String> {
    let received = sink.take().into_iter();
    received.map(|one| one.sop_instance).collect()
}

fn uids_of(images: &[Image]) -> BTreeSet<String> {
    images.iter().map(|image| image.sop.clone()).collect()
}

/// Method: a sink answers A700H until it was tried often; another peer has everything meanwhile. With `retry_seconds` 1
/// and `retry_max_seconds` 4 tries come after 0, 1, 3, 7, 11 … seconds, each with three C-STOREs at most.
#[test]
fn a_peer_that_is_full_for_long_is_asked_seldom_and_then_gets_everything_once() {
    let (full, other) = (Sink::start(), Sink::start());
    full.answer(0xA700);
    let begun = Instant::now();
    let peers = [("FULL", full.port()), ("OTHER", other.port())];
    let server = Server::with(settings(&peers));
    let images = images(1, 8);
    let study = &images[0].study;
    send_all(&server, &images);
    other.wait_for(8, PATIENCE);
    full.wait_for(15, PATIENCE);
    let failed = wait_for(&server, "FULL", study, |item| {
        item.state == State::Failed && item.next_try.is_some()
    });
    assert_eq!((failed.status, failed.sent_count), (Some(0xA700), 0));
    let (asked, tries) = (full.count(), 4 + begun.elapsed().as_secs() / 4);
    assert!(asked as u64 <= 3 * tries, "{asked} times in {tries} tries");
    full.take();
    full.answer(0);
    wait_for(&server, "FULL", study, is_sent);
    let mut came = uids_at(&full);
    // The last that was refused may be among them.
    came.drain(..came.len().saturating_sub(8));
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), uids_of(&images));
    assert_eq!(uids_at(&other).len(), 8);
}

/// Method: a sink takes C-STOREs and answers none; another peer has everything meanwhile, and the server ends. In the long
/// campaign it is waited for until it is given up. When it answers, everything arrives, and of what it had taken without
/// an answer no more than what was under way comes again.
#[test]
fn a_peer_that_takes_images_and_never_answers_holds_up_only_itself() {
    let (silent, other) = (Sink::start(), Sink::start());
    silent.stall(true);
    let peers = [("SILENT", silent.port()), ("OTHER", other.port())];
    let mut server = Server::with(settings(&peers));
    let images = images(3, 3);
    send_all(&server, &images);
    silent.wait_for(2, PATIENCE);
    other.wait_for(9, PATIENCE);
    let study = &images[0].study;
    assert_eq!(item(&server, "SILENT", study).unwrap().sent_count, 0);
    if common::long() {
        let begun = Instant::now();
        until_reason(&server, study, Duration::from_secs(400));
        eprintln!("said after {:?}", begun.elapsed());
    }
    server.terminate_within(Duration::from_secs(60));
    let taken = silent.count();
    silent.stall(false);
    server.restart();
    for study in (0..3).map(|n| Image::new(n, 0, 0).study) {
        wait_for(&server, "SILENT", &study, is_sent);
    }
    let came = uids_at(&silent);
    assert!(came.len() <= 9 + taken, "{came:?}");
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), uids_of(&images));
}

/// Until it says that there was no answer.
fn until_reason(server: &Server, study: &str, limit: Duration) {
    let begun = Instant::now();
    loop {
        let one = item(server, "SILENT", study).expect("an item");
        if one.reason.contains("after 60s") || one.reason.contains("waiting for a message") {
            return;
        }
        assert!(begun.elapsed() < limit, "{one:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Method: Orthanc is ended in the middle of a study and started again on the same folder; by C-FIND it says what it has.
#[test]
fn orthanc_gets_every_study_over_its_own_restart_and_says_that_it_holds_them() {
    let Some(program) = orthanc() else { return };
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let start = || start_orthanc(&program, folder.path(), port, serde_json::json!({}));
    let running = start();
    let server = Server::with(settings(&[("ORTHANC", port)]));
    let of = |study| (0..40).map(move |number| Image::new(study, number, 100_000));
    let images: Vec<Image> = (0..2).flat_map(of).collect();
    send_all(&server, &images);
    let study = |n| Image::new(n, 0, 0).study;
    until("some are there", || {
        let sent = |n| item(&server, "ORTHANC", &study(n)).map_or(0, |item| item.sent_count);
        sent(0) + sent(1) >= 3
    });
    drop(running);
    let _running = start();
    for study in (0..2).map(study) {
        let done = wait_for(&server, "ORTHANC", &study, |item| {
            is_sent(item) && item.delivered_count == Some(40)
        });
        assert_eq!((done.sent_count, done.total_count), (40, 40));
    }
}
