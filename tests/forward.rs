//! New studies go by themselves to the peers that read them, whatever those peers do.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, Ct};
use common::forwarding::{
    PATIENCE, does, item, list, settings, try_ask, until, wait_for, wait_for_peer,
};
use common::images::{Image, STORE, images, send_all};
use common::server::free_port;
use common::tools::tool;
use common::{Receiver, Server, Sink};
use kura::forward::{ForwardVerb, State};

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

fn sops(images: &[Image]) -> BTreeSet<String> {
    images.iter().map(|image| image.sop.clone()).collect()
}

fn sops_of(sink: &Sink) -> Vec<String> {
    let received = sink.take().into_iter();
    received.map(|one| one.sop_instance).collect()
}

fn no_peer() -> Option<String> {
    None
}

/// Method: two peers by rule; three studies; later one more image of the first.
#[test]
fn each_new_study_goes_once_to_every_peer_and_what_comes_later_goes_alone() {
    let (one, other) = (Sink::start(), Sink::start());
    let server = Server::with(settings(&[("ONE", one.port()), ("OTHER", other.port())]));
    let images = images(3, 5);
    send_all(&server, &images);
    for sink in [&one, &other] {
        sink.wait_for(15, PATIENCE);
    }
    for study in 0..3 {
        let study = Image::new(study, 0, 0).study;
        let done = wait_for(&server, "ONE", &study, |item| item.state == State::Sent);
        assert_eq!((done.sent_count, done.total_count), (5, 5));
        assert_eq!((done.status, done.reason.as_str()), (None, ""));
        assert_eq!(done.patient_id, "TEST-1");
        wait_for(&server, "OTHER", &study, |item| item.state == State::Sent);
    }
    for sink in [&one, &other] {
        let came = sink.take();
        for image in &images {
            let is_it = |one: &&common::wire::Received| one.sop_instance == image.sop;
            let found: Vec<_> = came.iter().filter(is_it).collect();
            assert_eq!(found.len(), 1, "{}", image.sop);
            assert_eq!(found[0].data_set, image.data_set);
        }
    }
    let late = Image::new(0, 99, 1_000);
    send_all(&server, std::slice::from_ref(&late));
    one.wait_for(1, PATIENCE);
    let done = wait_for(&server, "ONE", &late.study, |item| item.sent_count == 6);
    assert_eq!(done.total_count, 6);
    assert_eq!(sops_of(&one), [late.sop]);
}

/// Method: the archive has a study before there is a rule; the server starts again with one.
#[test]
fn rules_apply_to_what_comes_after_they_exist_and_nothing_goes_twice_over_a_restart() {
    let sink = Sink::start();
    let with_rules = settings(&[("ONE", sink.port())]).extra;
    let mut server = Server::with(common::Settings::default().peer("ONE", sink.port()));
    let old = images(1, 3);
    send_all(&server, &old);
    server.terminate();
    server.configure(|settings| settings.extra = with_rules);
    server.restart();
    let new: Vec<Image> = (0..3).map(|number| Image::new(7, number, 500)).collect();
    send_all(&server, &new);
    wait_for(&server, "ONE", &new[0].study, |item| {
        item.state == State::Sent
    });
    assert!(item(&server, "ONE", &old[0].study).is_none());
    server.terminate();
    server.restart();
    // A later one, so that there was time for the others.
    let last = Image::new(8, 1, 500);
    send_all(&server, std::slice::from_ref(&last));
    wait_for(&server, "ONE", &last.study, |item| {
        item.state == State::Sent
    });
    let came = sops_of(&sink);
    let mut wanted: Vec<String> = new.iter().map(|image| image.sop.clone()).collect();
    wanted.push(last.sop);
    let (mut came_sorted, mut wanted_sorted) = (came, wanted);
    came_sorted.sort();
    wanted_sorted.sort();
    assert_eq!(came_sorted, wanted_sorted);
}

/// As it is, with times and owners.
fn copy(from: &Path, to: &Path) {
    let (from, to) = (format!("{}/.", from.display()), to.display().to_string());
    let copied = Command::new("cp").args(["-a", &from, &to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "{from} {to}");
}

/// Method: everything is put back to before a second image came; then its volume goes and is back at once, with the file
/// and the ledger line of that image: what a disk that failed in a flush shows later.
#[test]
fn what_a_disk_shows_that_was_away_for_a_moment_is_forwarded() {
    let sink = Sink::start();
    let mut server = Server::with(settings(&[("NEXT", sink.port())]));
    let (first, second) = (Image::new(1, 0, 500), Image::new(2, 0, 500));
    let (volume, state) = (server.volume("A"), server.state());
    let [before, state_before, later] = ["before", "state-before", "later"].map(|name| {
        let folder = server.folder().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        folder
    });
    for image in [&first, &second] {
        send_all(&server, std::slice::from_ref(image));
        wait_for(&server, "NEXT", &image.study, |item| {
            item.state == State::Sent
        });
        server.terminate();
        match image.sop == first.sop {
            true => {
                copy(&volume, &before);
                copy(&state, &state_before);
                server.restart();
            }
            false => copy(&volume, &later),
        }
    }
    for (from, to) in [(&before, &volume), (&state_before, &state)] {
        std::fs::remove_dir_all(to).expect("put back");
        std::fs::create_dir(to).expect("put back");
        copy(from, to);
    }
    sink.take();
    server.restart();
    assert!(item(&server, "NEXT", &second.study).is_none());
    // Until the ledger of the volume was read and the marks are behind it.
    std::thread::sleep(Duration::from_secs(7));
    assert!(server.kura(&["volume", "eject", "A"]).success());
    copy(&later, &volume);
    assert!(server.kura(&["volume", "return", "A"]).success());
    wait_for(&server, "NEXT", &second.study, |item| {
        item.state == State::Sent
    });
    assert_eq!(sops_of(&sink), [second.sop]);
}

/// Method: nobody listens at one peer's port; a storescp is started there later.
#[test]
fn a_dead_peer_waits_without_blocking_another_and_gets_everything_when_it_is_back() {
    let Some(storescp) = tool("storescp") else {
        return;
    };
    let (live, dead_port) = (Sink::start(), free_port());
    let server = Server::with(settings(&[("DEAD", dead_port), ("LIVE", live.port())]));
    let images = images(4, 3);
    send_all(&server, &images);
    live.wait_for(12, PATIENCE);
    let dead = wait_for_peer(&server, "DEAD", |peer| {
        peer.unreachable.is_some() && peer.waiting_count == 4
    });
    assert_eq!(dead.failed_count, 0, "{dead:?}");
    assert!(dead.oldest_seconds.is_some());
    let waiting = item(&server, "DEAD", &images[0].study).unwrap();
    assert_eq!(waiting.state, State::Waiting);
    assert!(waiting.reason.contains("cannot be reached"), "{waiting:?}");
    let folder = tempfile::TempDir::new().unwrap();
    let mut child = std::process::Command::new(storescp)
        .arg("-od")
        .arg(folder.path())
        .arg(dead_port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for study in 0..4 {
        let study = Image::new(study, 0, 0).study;
        wait_for(&server, "DEAD", &study, |item| item.state == State::Sent);
    }
    let peer = wait_for_peer(&server, "DEAD", |peer| peer.waiting_count == 0);
    assert_eq!(peer.unreachable, None);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 12);
    let _ = child.kill();
    let _ = child.wait();
}

/// Method: receiver.py answers A700H while a file is there.
#[test]
fn a_peer_whose_disk_is_full_gets_the_study_when_it_has_room_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let full = folder.path().join("full");
    std::fs::write(&full, "").unwrap();
    let full_path = full.to_str().unwrap().to_owned();
    let arguments = ["--status", "A700", "--while", &full_path];
    let Some(receiver) = Receiver::pynetdicom(folder.path(), free_port(), &arguments) else {
        return;
    };
    let server = Server::with(settings(&[("FULL", receiver.port)]));
    let images = images(1, 6);
    send_all(&server, &images);
    let failed = wait_for(&server, "FULL", &images[0].study, |item| {
        item.state == State::Failed && item.next_try.is_some()
    });
    assert_eq!(failed.status, Some(0xA700));
    assert!(failed.reason.contains("A700H"), "{failed:?}");
    assert_eq!((failed.sent_count, failed.total_count), (0, 6));
    std::fs::remove_file(&full).unwrap();
    // With its last image it is sent; what was wrong before is forgotten a moment later.
    let done = wait_for(&server, "FULL", &images[0].study, |item| {
        item.state == State::Sent && item.status.is_none()
    });
    assert_eq!(done.sent_count, 6);
    let received: BTreeSet<String> = receiver.received().into_iter().collect();
    assert_eq!(received, sops(&images));
}

/// Method: receiver.py has no presentation context for Secondary Capture; it answers C-FIND.
#[test]
fn what_a_peer_does_not_take_is_a_warning_and_the_rest_is_counted_there() {
    let folder = tempfile::TempDir::new().unwrap();
    let arguments = ["--refuse", SECONDARY_CAPTURE, "--find"];
    let Some(receiver) = Receiver::pynetdicom(folder.path(), free_port(), &arguments) else {
        return;
    };
    let server = Server::with(settings(&[("PICKY", receiver.port)]));
    let study = "2.25.4711";
    let syntax: &[&str] = &[common::wire::IMPLICIT_LITTLE];
    let mut client = server.associate(&[
        (STORE, CT_IMAGE_STORAGE, syntax),
        (3, SECONDARY_CAPTURE, syntax),
    ]);
    for number in 0..5 {
        let sop = format!("{study}.1.{number}");
        let mut data_set = Ct::new(study, "2.25.4711.1", &sop).encode();
        let (context, class) = match number {
            4 => (3, SECONDARY_CAPTURE),
            _ => (STORE, CT_IMAGE_STORAGE),
        };
        if number == 4 {
            data_set = with_class(&data_set, SECONDARY_CAPTURE);
        }
        let (status, comment) = client.c_store(context, class, &sop, &data_set).unwrap();
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().unwrap();
    let done = wait_for(&server, "PICKY", study, |item| {
        item.state == State::Sent && item.delivered_count.is_some()
    });
    assert_eq!((done.sent_count, done.total_count), (4, 5));
    assert_eq!(done.delivered_count, Some(4));
    assert!(
        done.reason.starts_with("sent 4, 1 not taken by the peer"),
        "{done:?}"
    );
    assert!(done.reason.contains(SECONDARY_CAPTURE), "{done:?}");
    assert_eq!(done.next_try, None);
}

/// The same data set with another SOP Class UID, as long as that of CT.
fn with_class(data_set: &[u8], class: &str) -> Vec<u8> {
    let ct = CT_IMAGE_STORAGE.as_bytes();
    let mut windows = data_set.windows(ct.len());
    let at = windows
        .position(|window| window == ct)
        .expect("SOP Class UID");
    let mut changed = data_set.to_vec();
    changed[at..at + ct.len()].copy_from_slice(class.as_bytes());
    changed
}

/// Method: receiver.py ends its process in the middle of the fourth C-STORE; another is started in its place.
#[test]
fn a_peer_that_dies_in_the_middle_gets_the_rest_and_nothing_twice() {
    let folder = tempfile::TempDir::new().unwrap();
    let port = free_port();
    let Some(mut first) = Receiver::pynetdicom(folder.path(), port, &["--die-after", "4"]) else {
        return;
    };
    let server = Server::with(settings(&[("FRAGILE", port)]));
    let images = images(1, 10);
    send_all(&server, &images);
    let start = Instant::now();
    while !first.program.has_ended() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_for_peer(&server, "FRAGILE", |peer| peer.unreachable.is_some());
    let waiting = item(&server, "FRAGILE", &images[0].study).unwrap();
    assert_eq!((waiting.sent_count, waiting.total_count), (3, 10));
    let Some(second) = Receiver::pynetdicom(folder.path(), port, &[]) else {
        return;
    };
    wait_for(&server, "FRAGILE", &images[0].study, |item| {
        item.state == State::Sent
    });
    let received = second.received();
    assert_eq!(received.len(), 10, "{received:?}");
    assert_eq!(received.into_iter().collect::<BTreeSet<_>>(), sops(&images));
}

/// Method: a peer accepts the connection and says nothing, ever; another gets its study, and the server ends in time.
#[test]
fn a_peer_that_never_answers_keeps_neither_another_nor_the_end_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let live = Sink::start();
    let mut server = Server::with(settings(&[("SILENT", port), ("LIVE", live.port())]));
    send_all(&server, &images(3, 2));
    live.wait_for(6, PATIENCE);
    let busy = wait_for_peer(&server, "SILENT", |peer| {
        peer.sending_count > 0 || peer.unreachable.is_some()
    });
    assert!(busy.sending_count <= 2, "{busy:?}");
    server.terminate_within(Duration::from_secs(60));
}

/// Method: the sink holds back every answer; the associations that are open at once are counted.
#[test]
fn no_peer_gets_more_associations_than_it_may() {
    let sink = Sink::start();
    sink.stall(true);
    let server = Server::with(settings(&[("SLOW", sink.port())]));
    send_all(&server, &images(6, 2));
    sink.wait_for(2, PATIENCE);
    wait_for_peer(&server, "SLOW", |peer| {
        peer.sending_count == 2 && peer.waiting_count == 4
    });
    assert_eq!(
        sink.count(),
        2,
        "two associations, each with one instance under way"
    );
    sink.stall(false);
    sink.wait_for(12, PATIENCE);
}

/// Method: one image after the other, each when the one before has arrived; the associations are counted by the contexts
/// that they propose. A study of another class needs a new one.
#[test]
fn what_goes_as_it_comes_shares_an_association() {
    let sink = Sink::start();
    let mut settings = settings(&[("ONE", sink.port())]);
    settings.extra = settings
        .extra
        .replace("quiet_seconds = 1", "when = \"instance\"");
    let server = Server::with(settings);
    let images = images(4, 5);
    for (count, image) in (1..).zip(&images) {
        send_all(&server, std::slice::from_ref(image));
        sink.wait_for(count, PATIENCE);
    }
    let is_ct = |(class, syntaxes): &&(String, Vec<String>)| {
        class == CT_IMAGE_STORAGE
            && syntaxes
                .iter()
                .any(|one| one == common::wire::IMPLICIT_LITTLE)
    };
    let proposed = sink.take_proposed();
    let associations = proposed.iter().filter(is_ct).count();
    assert!((1..=10).contains(&associations), "{associations} for 20");
    for study in 0..4 {
        let study = Image::new(study, 0, 0).study;
        wait_for(&server, "ONE", &study, |item| item.state == State::Sent);
    }
    assert_eq!(sops_of(&sink).len(), 20);
    let mut client = server.associate(&[(3, SECONDARY_CAPTURE, &[common::wire::IMPLICIT_LITTLE])]);
    let data_set = Ct::new("2.25.4711", "2.25.4711.1", "2.25.4711.1.1").encode();
    let data_set = with_class(&data_set, SECONDARY_CAPTURE);
    let stored = client.c_store(3, SECONDARY_CAPTURE, "2.25.4711.1.1", &data_set);
    assert_eq!(stored.unwrap().0, 0);
    client.release().unwrap();
    sink.wait_for(1, PATIENCE);
}

/// Method: paused before anything comes; asked after a restart; then resumed.
#[test]
fn a_paused_peer_stays_paused_over_a_restart_and_gets_everything_when_it_is_resumed() {
    let sink = Sink::start();
    let mut server = Server::with(settings(&[("ONE", sink.port())]));
    let said = does(&server, ForwardVerb::Pause { peer: "one".into() });
    assert!(said.contains("resume ONE"), "{said}");
    send_all(&server, &images(2, 2));
    wait_for_peer(&server, "ONE", |peer| peer.waiting_count == 2);
    server.terminate();
    server.restart();
    let peer = wait_for_peer(&server, "ONE", |peer| peer.waiting_count == 2);
    assert!(peer.paused);
    assert_eq!(sink.count(), 0);
    does(&server, ForwardVerb::Resume { peer: "ONE".into() });
    sink.wait_for(4, PATIENCE);
    let unknown = try_ask(
        &server,
        ForwardVerb::Pause {
            peer: "NOBODY".into(),
        },
    );
    assert!(unknown.unwrap_err().contains("not a configured peer"));
}

/// Method: each verb, and what the peer gets after it.
#[test]
fn by_hand_a_study_is_sent_sent_again_and_marked() {
    let sink = Sink::start();
    let server = Server::with(common::Settings::default().peer("ONE", sink.port()));
    let images = images(1, 4);
    send_all(&server, &images);
    let study = images[0].study.clone();
    let send = |study: &str| ForwardVerb::Send {
        studies: vec![study.to_owned()],
        peer: "ONE".into(),
    };
    let refused = try_ask(&server, send("1.2.3")).unwrap_err();
    assert!(
        refused.contains("there is no study 1.2.3; nothing was sent"),
        "{refused}"
    );
    let said = does(&server, send(&study));
    assert!(said.contains("4 instances"), "{said}");
    sink.wait_for(4, PATIENCE);
    wait_for(&server, "ONE", &study, |item| item.state == State::Sent);
    assert_eq!(sops_of(&sink).len(), 4);
    does(
        &server,
        ForwardVerb::Unmark {
            study: study.clone(),
            peer: no_peer(),
        },
    );
    sink.wait_for(4, PATIENCE);
    wait_for(&server, "ONE", &study, |item| item.state == State::Sent);
    assert_eq!(sops_of(&sink).len(), 4);
    // Paused, so that it stays queued until it is marked.
    does(&server, ForwardVerb::Pause { peer: "ONE".into() });
    does(&server, send(&study));
    does(
        &server,
        ForwardVerb::MarkSent {
            study: study.clone(),
            peer: Some("ONE".into()),
        },
    );
    does(&server, ForwardVerb::Resume { peer: "ONE".into() });
    let marked = item(&server, "ONE", &study).unwrap();
    assert_eq!((marked.state, marked.sent_count), (State::Sent, 4));
    let nothing = does(
        &server,
        ForwardVerb::Retry {
            study: None,
            peer: no_peer(),
        },
    );
    assert!(nothing.contains("Nothing waits"), "{nothing}");
    assert_eq!(sink.count(), 0);
    let show = try_ask(
        &server,
        ForwardVerb::Show {
            study: "1.2.3".into(),
        },
    );
    assert!(show.unwrap_err().contains("was never to be sent"));
}

/// Method: the file is overwritten while the server is stopped; then one of a schema that nobody knows yet cannot be made
/// here, so only damage is shown.
#[test]
fn a_damaged_outbox_is_set_aside_with_a_sentence_and_what_comes_then_goes_on() {
    let sink = Sink::start();
    let mut server = Server::with(settings(&[("ONE", sink.port())]));
    send_all(&server, &images(1, 1));
    sink.wait_for(1, PATIENCE);
    server.terminate();
    let file = server.state().join("outbox/outbox.redb");
    let length = std::fs::metadata(&file).unwrap().len() as usize;
    std::fs::write(&file, vec![0xA5; length]).unwrap();
    server.restart();
    let late = Image::new(5, 1, 100);
    send_all(&server, std::slice::from_ref(&late));
    wait_for(&server, "ONE", &late.study, |item| {
        item.state == State::Sent
    });
    let kept = std::fs::read_dir(server.state().join("outbox")).unwrap();
    let names: Vec<String> = kept
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names.iter().any(|name| name.starts_with("damaged-")),
        "{names:?}"
    );
    assert!(server.log_text().contains("the outbox was damaged"));
    // What had been sent is known from the copy on the volume, and does not go once more.
    until("listed", || list(&server).0.len() == 2);
    assert_eq!(sops_of(&sink).len(), 2);
}

/// Method: a study waits, then two; the outbox is damaged, and then missing, while the copy on one volume is old, or torn.
#[test]
fn a_lost_outbox_is_taken_from_its_newest_copy_on_the_volumes() {
    let sink = Sink::start();
    let settings = settings(&[("ONE", sink.port())]).volume("B", "volume-b", "archive");
    let mut server = Server::with(settings);
    does(&server, ForwardVerb::Pause { peer: "ONE".into() });
    let images = images(2, 3);
    let copy_on = |server: &Server, name: &str| server.volume(name).join("ledgers/outbox.jsonl");
    send_all(&server, &images[..3]);
    wait_for_peer(&server, "ONE", |peer| peer.waiting_count == 1);
    server.terminate();
    let old = std::fs::read(copy_on(&server, "A")).unwrap();
    server.restart();
    send_all(&server, &images[3..]);
    wait_for_peer(&server, "ONE", |peer| peer.waiting_count == 2);
    server.terminate();
    let new = std::fs::read(copy_on(&server, "B")).unwrap();
    let outbox = server.state().join("outbox");
    for (damaged, on_a) in [(true, &old[..]), (false, &new[..new.len() / 2])] {
        match damaged {
            true => std::fs::write(outbox.join("outbox.redb"), [0xA5; 8_192]).unwrap(),
            false => std::fs::remove_dir_all(&outbox).unwrap(),
        }
        std::fs::write(copy_on(&server, "A"), on_a).unwrap();
        server.restart();
        let peer = wait_for_peer(&server, "ONE", |peer| peer.waiting_count == 2);
        assert!(peer.paused, "{peer:?}");
        let status = server.kura(&["status"]);
        assert_eq!(status.code, Some(1), "{}", status.text());
        let what = match damaged {
            true => "the outbox was damaged",
            false => "there was no outbox",
        };
        for words in [
            what,
            "taken from the copy of",
            "on volume B",
            "kura forward acknowledge",
        ] {
            assert!(status.stdout.contains(words), "{words}: {}", status.text());
        }
        does(&server, ForwardVerb::Acknowledge);
        assert_eq!(server.kura(&["status"]).code, Some(0));
        server.terminate();
    }
    server.restart();
    assert_eq!(server.kura(&["status"]).code, Some(0));
    does(&server, ForwardVerb::Resume { peer: "ONE".into() });
    sink.wait_for(6, PATIENCE);
    for image in [&images[0], &images[3]] {
        wait_for(&server, "ONE", &image.study, |item| {
            item.state == State::Sent
        });
    }
    let came: BTreeSet<String> = sops_of(&sink).into_iter().collect();
    assert_eq!(came, sops(&images));
}
