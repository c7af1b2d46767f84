//! Peers that are silent, stall, drip, vanish or talk nonsense: each costs its own association, never another's.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, by_uids};
use common::images::{
    self, ALL, ECHO, FIND, GET, Image, STORE, assert_come_back, assert_found, send_all,
    wait_until_nothing_is_incoming,
};
use common::leftovers::memory;
use common::wire::{C_GET_RQ, associate_rq};
use common::{Client, Random, Server, Settings, WireError};

/// Generous: what must happen "soon" has happened by then.
const SOON: Duration = Duration::from_secs(30);

fn with_limits(limits: &str) -> Server {
    let server = Server::with(Settings {
        extra: format!("[limits]\n{limits}\n"),
        ..Settings::default()
    });
    // The port is open a moment before the server answers.
    associate_soon(&server).release().expect("release");
    server
}

/// An association as soon as there is a place: one that has just ended may still be counted.
fn associate_soon(server: &Server) -> Client {
    let start = Instant::now();
    loop {
        match server.try_associate(ALL) {
            Ok(client) => return client,
            Err(WireError::Rejected { .. }) if start.elapsed() < SOON => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Echo, store and find by somebody who does nothing wrong.
fn assert_others_are_served(server: &Server, number: u32) {
    let image = Image::new(6, number, 5_000);
    let mut client = server.associate(ALL);
    assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
    assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
    let identifier = by_uids("IMAGE", &image.study, None, Some(&image.sop));
    let found = client.c_find(FIND, &identifier).expect("C-FIND");
    assert_eq!((found.status, found.identifiers.len()), (0, 1));
    client.release().expect("release");
}

/// Sends the command and the first part of the data set.
fn begin(client: &mut Client, image: &Image, bytes: usize) {
    client
        .begin_store(STORE, CT_IMAGE_STORAGE, &image.sop)
        .expect("command");
    client
        .send_fragment(STORE, false, &image.data_set[..bytes], false)
        .expect("first part");
}

/// Reads until the server has ended the connection; an A-ABORT before that is fine.
fn assert_ended(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the server does not end the connection: {error}"),
        }
    }
}

/// Method: connections that send nothing, or the first bytes of an A-ASSOCIATE-RQ; in long mode until they are closed.
#[test]
fn a_peer_that_connects_and_says_nothing_holds_up_nobody() {
    let mut server = with_limits("stall_seconds = 1");
    let request = associate_rq("SILENT", "KURA", ALL, 16_384, &[]);
    let mut silent: Vec<TcpStream> = [0, 1, 5, 6, 7, 74, request.len() - 1]
        .iter()
        .map(|count| {
            let mut stream = TcpStream::connect(server.address()).expect("connect");
            stream.write_all(&request[..*count]).expect("a few bytes");
            stream
        })
        .collect();
    assert_others_are_served(&server, 1);
    if common::long() {
        for stream in &mut silent {
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .expect("timeout");
            let mut byte = [0; 16];
            let ended = stream.read(&mut byte).map_err(|error| error.kind());
            assert!(
                matches!(ended, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)),
                "{ended:?}"
            );
        }
    }
    assert_others_are_served(&server, 2);
    server.assert_alive();
}

/// Method: a data set that stops in the middle of a fragment, of a PDU header and between two PDUs.
#[test]
fn a_peer_that_stalls_in_a_data_set_is_aborted_and_its_file_is_gone() {
    let mut server = with_limits("stall_seconds = 1");
    let image = Image::new(1, 1, 400_000);
    let whole = common::wire::pdv(STORE, false, true, &image.data_set[300_000..310_000]);
    let mut stalled: Vec<Client> = [0, 3, 6, 9, 12, 5_000]
        .iter()
        .map(|count| {
            let mut client = server.associate(ALL);
            begin(&mut client, &image, 300_000);
            client
                .stream()
                .write_all(&whole[..*count])
                .expect("part of a PDU");
            client
        })
        .collect();
    // Meanwhile, and until they are gone.
    assert_others_are_served(&server, 1);
    for client in &mut stalled {
        let end = client.receive();
        assert!(
            matches!(end, Err(WireError::Aborted { .. })),
            "no A-ABORT: {end:?}"
        );
    }
    wait_until_nothing_is_incoming(&server.volume("A"));
    assert_others_are_served(&server, 2);
    assert_eq!(images::found(&server, &image.study), Vec::<String>::new());
    send_all(&server, std::slice::from_ref(&image));
    assert_come_back(&server, &[image]);
    server.assert_alive();
}

/// Method: `kura status` and queries do not show an instance that is on its way.
#[test]
fn an_instance_on_its_way_is_not_found() {
    let server = with_limits("stall_seconds = 20");
    let image = Image::new(1, 1, 400_000);
    let mut client = server.associate(ALL);
    begin(&mut client, &image, 300_000);
    assert_eq!(images::found(&server, &image.study), Vec::<String>::new());
    client
        .send_fragment(STORE, false, &image.data_set[300_000..], true)
        .expect("the rest");
    assert_eq!(client.store_response().expect("an answer").0, 0);
    assert_found(&server, &[image]);
}

/// Method: connections closed, shut down in one direction, reset and A-ABORTed in the middle of an instance.
#[test]
fn a_peer_that_vanishes_in_an_instance_leaves_nothing() {
    let mut server = with_limits("stall_seconds = 5");
    let image = Image::new(1, 1, 400_000);
    for way in ["close", "half", "reset", "abort"] {
        let mut client = server.associate(ALL);
        begin(&mut client, &image, 350_000);
        match way {
            "close" => drop(client),
            "half" => {
                let stream = client.stream();
                stream
                    .shutdown(std::net::Shutdown::Write)
                    .expect("shutdown");
                assert_ended(stream);
            }
            "reset" => {
                let stream = client.stream();
                rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))
                    .expect("linger");
                drop(client);
            }
            _ => client.abort().expect("A-ABORT"),
        }
        wait_until_nothing_is_incoming(&server.volume("A"));
    }
    assert_eq!(images::found(&server, &image.study), Vec::<String>::new());
    send_all(&server, std::slice::from_ref(&image));
    assert_come_back(&server, &[image]);
    assert_others_are_served(&server, 1);
    server.assert_alive();
}

/// Method: random bytes, and PDUs of each type with random content, after a good negotiation and before one.
#[test]
fn a_peer_that_talks_nonsense_ends_its_own_association_only() {
    let mut server = with_limits("stall_seconds = 1");
    let mut random = Random::from_environment("hostile_peers");
    let mut bystander = server.associate(ALL);
    for round in 0..if common::long() { 400 } else { 40 } {
        let mut bytes: Vec<u8> = (0..random.between(1, 3_000))
            .map(|_| random.next() as u8)
            .collect();
        if round % 2 == 0 {
            // A PDU header that is right as far as it goes.
            let length = bytes.len() as u32;
            let mut pdu = vec![random.between(0, 10) as u8, 0];
            pdu.extend(length.to_be_bytes());
            pdu.extend(&bytes);
            bytes = pdu;
        }
        if round % 4 < 2 {
            let mut client = server.associate(ALL);
            if round % 8 == 0 {
                begin(&mut client, &Image::new(1, round, 20_000), 10_000);
            }
            // A server that has seen enough may close before the last byte.
            let _ = client.stream().write_all(&bytes);
            let _ = client.stream().shutdown(std::net::Shutdown::Write);
            assert_ended(client.stream());
        } else {
            let mut stream = TcpStream::connect(server.address()).expect("connect");
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            assert_ended(&mut stream);
        }
        assert_eq!(bystander.c_echo(ECHO).expect("C-ECHO"), 0, "round {round}");
    }
    wait_until_nothing_is_incoming(&server.volume("A"));
    assert_others_are_served(&server, 1);
    server.assert_alive();
}

/// Method: a data set that comes a few bytes at a time, for longer than stall_seconds in all.
#[test]
fn a_peer_that_drips_is_served_and_holds_up_nobody() {
    let server = with_limits("stall_seconds = 3");
    let image = Image::new(1, 1, 1_500);
    std::thread::scope(|scope| {
        let dripping = scope.spawn(|| {
            let mut client = server.associate(ALL);
            client
                .begin_store(STORE, CT_IMAGE_STORAGE, &image.sop)
                .expect("command");
            let pdu = common::wire::pdv(STORE, false, true, &image.data_set);
            for bytes in pdu.chunks(pdu.len().div_ceil(40)) {
                client.stream().write_all(bytes).expect("a drop");
                std::thread::sleep(Duration::from_millis(100));
            }
            client.store_response().expect("an answer").0
        });
        for number in 0..5 {
            assert_others_are_served(&server, number);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(dripping.join().expect("the dripping one"), 0);
    });
    assert_found(&server, &[image]);
}

/// Method: a byte now and then, so that there never is a silence of stall_seconds.
#[test]
fn a_peer_that_drips_for_ever_is_aborted() {
    let mut server = with_limits("stall_seconds = 1");
    let image = Image::new(1, 1, 20_000);
    let mut client = server.associate(ALL);
    begin(&mut client, &image, 10_000);
    let pdu = common::wire::pdv(STORE, false, true, &image.data_set[10_000..]);
    let start = Instant::now();
    for byte in &pdu {
        if client.stream().write_all(&[*byte]).is_err() {
            break;
        }
        assert!(start.elapsed() < SOON, "still listened to");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_until_nothing_is_incoming(&server.volume("A"));
    assert_others_are_served(&server, 1);
    server.assert_alive();
}

/// Method: a C-GET of 20 MB whose answers are never read, on a server with one place.
#[test]
fn a_peer_that_does_not_read_gives_its_place_back() {
    let server = with_limits("stall_seconds = 1\nassociations = 1");
    let mut client = associate_soon(&server);
    let image = Image::new(1, 1, 20_000_000);
    assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
    client.release().expect("release");

    let mut deaf = associate_soon(&server);
    let identifier = by_uids("STUDY", &image.study, None, None);
    deaf.send_query(GET, C_GET_RQ, None, &identifier)
        .expect("C-GET");
    let mut client = associate_soon(&server);
    assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
    drop(deaf);
}

/// Method: as many associations as there are places, in all and for one address; the next is told "local limit
/// exceeded" (PS3.8 table 9-21), and one that comes when a place is free is served.
#[test]
fn one_association_too_many_is_rejected_and_a_later_one_is_served() {
    for limits in ["associations = 3", "associations_per_address = 3"] {
        let mut server = with_limits(limits);
        let mut open: Vec<Client> = (0..3).map(|_| associate_soon(&server)).collect();
        for _ in 0..5 {
            let refused = server.try_associate(ALL).map(|_| ());
            assert!(
                matches!(
                    refused,
                    Err(WireError::Rejected {
                        result: 2,
                        source_: 3,
                        reason: 2
                    })
                ),
                "{limits}: {refused:?}"
            );
        }
        for client in &mut open {
            assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
        }
        open.pop()
            .expect("one of three")
            .release()
            .expect("release");
        let mut later = associate_soon(&server);
        assert_eq!(
            Image::new(1, 1, 1_000).send(&mut later).expect("C-STORE").0,
            0
        );
        // Vanishing gives the place back as well.
        drop(open);
        drop(later);
        let _again: Vec<Client> = (0..3).map(|_| associate_soon(&server)).collect();
        server.assert_alive();
    }
}

/// Method: 1,000 connections that say nothing, then a real association; VmRSS before and after.
#[test]
fn a_thousand_silent_connections_cost_little_and_one_more_is_served() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < 4_000) {
        limit.current = limit
            .maximum
            .map_or(Some(4_000), |most| Some(most.min(4_000)));
        setrlimit(Resource::Nofile, limit).expect("raise the limit of open files");
    }
    if getrlimit(Resource::Nofile)
        .current
        .is_some_and(|current| current < 2_500)
    {
        eprintln!("skipped: too few open files are allowed here");
        return;
    }
    let mut server = with_limits("associations = 2000\nassociations_per_address = 2000");
    assert_others_are_served(&server, 1);
    let before = memory(&server, "VmRSS:");
    let silent: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect(server.address()).expect("connect"))
        .collect();
    // The last of them has been accepted when one behind it is answered.
    assert_others_are_served(&server, 2);
    let after = memory(&server, "VmRSS:");
    let grown = after.saturating_sub(before);
    eprintln!("1,000 silent connections: {} KiB", grown / 1024);
    assert!(grown < 64 << 20, "{grown} bytes");
    server.assert_alive();
    drop(silent);
    assert_others_are_served(&server, 3);
}
