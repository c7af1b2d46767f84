//! What waits for a dead peer costs little, however much it is, and nobody else anything.

mod common;
#[path = "../benches/hospital/mod.rs"]
mod hospital;
#[path = "../benches/ledgers/mod.rs"]
mod ledgers;

use std::time::{Duration, Instant};

use common::forwarding::{PATIENCE, list, settings, try_ask, until, wait_for, wait_for_peer};
use common::images::{Image, send_all};
use common::server::free_port;
use common::{Server, Sink};
use hospital::Hospital;
use kura::forward::{ForwardSaid, ForwardVerb, State};
use kura::volume::io::Disk;
use kura::volume::{Ledger, layout};

/// Resident memory, bytes.
fn memory_of(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1_024
}

/// Writes the ledger lines of so many studies of two images, as if they had been received just before a kill.
fn receive(server: &Server, count: usize) {
    let volume = server.volume("A");
    let id = ledgers::volume_id(&volume);
    let folder = volume.join(layout::LEDGERS_FOLDER).join(&id);
    let hospital = Hospital::new(4_000_000);
    let ledger: Ledger<()> =
        Ledger::open(&Disk::default(), &folder, Box::new(|_| {})).expect("a ledger");
    let small = |study: &u64| Hospital::series_of(*study).len() == 1;
    let studies: Vec<u64> = (0..hospital.studies).filter(small).take(count).collect();
    assert_eq!(studies.len(), count);
    // They share the flushes, and the processors.
    std::thread::scope(|scope| {
        for some in studies.chunks(count.div_ceil(8)) {
            let (hospital, ledger, id) = (&hospital, &ledger, &id);
            scope.spawn(move || {
                for some in some.chunks(200) {
                    let lines = some.iter().flat_map(|study| hospital.lines(*study, id));
                    let lines = lines.collect();
                    ledger.append_all(lines).expect("lines in the ledger");
                }
            });
        }
    });
}

/// Method: the ledger of a stopped server gets studies of which the images are not there; all of them go to a peer that is
/// dead, what TESTER sends also to one that lives. With and without its outbox the server starts again, for comparison.
/// 100,000 studies in the long campaign.
#[test]
fn what_waits_for_a_dead_peer_takes_little_memory_and_holds_up_no_other() {
    let count: usize = if common::long() { 100_000 } else { 1_000 };
    let (live, dead_port) = (Sink::start(), free_port());
    let mut settings = settings(&[("DEAD", dead_port)]).peer("LIVE", live.port());
    settings.extra += "[[forward.rule]]\nname = \"tested\"\nto = [\"LIVE\"]\ncalling = \"TESTER\"\nquiet_seconds = 1\n[scrub]\ndays = 0\n";
    let mut server = Server::with(settings);
    // What came before a new outbox looked first is nobody's.
    let first = Image::new(1, 0, 100);
    send_all(&server, std::slice::from_ref(&first));
    let is_sent = |item: &kura::forward::Item| item.state == State::Sent;
    wait_for(&server, "LIVE", &first.study, is_sent);
    server.terminate();
    receive(&server, count);
    let begun = Instant::now();
    server.restart();
    let wanted = count as u64 + 1;
    while waiting(&server) < wanted {
        server.assert_alive();
        assert!(begun.elapsed() < PATIENCE * 20, "{}", waiting(&server));
        // Who asks has all of it read.
        std::thread::sleep(Duration::from_secs(1));
    }
    let noted = begun.elapsed();
    let dead = wait_for_peer(&server, "DEAD", |peer| peer.unreachable.is_some());
    assert_eq!(dead.failed_count, 0, "{dead:?}");
    let late = Image::new(2, 0, 100);
    send_all(&server, std::slice::from_ref(&late));
    until("sent to who lives", || {
        let study = late.study.clone();
        match try_ask(&server, ForwardVerb::Show { study }) {
            Ok(ForwardSaid::Items { items, .. }) => items
                .iter()
                .any(|item| item.peer == "LIVE" && is_sent(item)),
            _ => false,
        }
    });
    let while_noted = memory_of(&server);
    server.terminate();
    let begun = Instant::now();
    server.restart();
    let answers = begun.elapsed();
    wait_for_peer(&server, "DEAD", |peer| peer.waiting_count == wanted + 1);
    let again = begun.elapsed();
    settle();
    let with = memory_of(&server);
    server.terminate();
    let outbox = server.state().join("outbox");
    std::fs::rename(&outbox, server.state().join("away")).unwrap();
    let begun = Instant::now();
    server.restart();
    let without_answers = begun.elapsed();
    settle();
    let without = memory_of(&server);
    let file = server.state().join("away/outbox.redb");
    let outbox = std::fs::metadata(file).unwrap().len();
    eprintln!(
        "{count} studies: {with} bytes of memory, {without} without, {while_noted} after noting them; \
         noted in {noted:?}; started in {answers:?} ({without_answers:?} without), all listed after {again:?}; \
         outbox {outbox} bytes"
    );
    assert!(with.saturating_sub(without) < 100 << 20, "{with} {without}");
}

fn waiting(server: &Server) -> u64 {
    let (_, peers) = list(server);
    let dead = peers.iter().find(|peer| peer.peer == "DEAD");
    dead.map_or(0, |peer| peer.waiting_count)
}

/// What a start does in the background is over.
fn settle() {
    std::thread::sleep(Duration::from_secs(3));
}
