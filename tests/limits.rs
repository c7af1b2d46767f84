//! `[limits]`: what is too much is answered properly, named in the log and counted, and costs nobody else anything; memory
//! and files have their bounds in the worst mix, too.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, Tag, by_uids, ident};
use common::images::{ALL, ECHO, FIND, GET, Image, STORE, send_all};
use common::leftovers::{
    Before, assert_others_are_served, associate_soon, files, may_open, memory, threads,
};
use common::wire::{
    C_FIND_RQ, C_GET_RQ, IMPLICIT_LITTLE, STUDY_ROOT_MOVE, VERIFICATION, associate_rq, pdv,
};
use common::{Client, Server, Settings, Sink, WireError};

const SOON: Duration = Duration::from_secs(90);

fn with_limits(limits: &str) -> Server {
    Server::with(Settings {
        extra: format!("[limits]\n{limits}\n"),
        ..Settings::default()
    })
}

fn wait_for_log(server: &Server, text: &str) {
    let start = Instant::now();
    while !server.log_text().contains(text) {
        assert!(start.elapsed() < SOON, "no {text:?} in the log");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Method: an identifier, a command and a data set just above what is allowed, then ones that are not.
#[test]
fn what_is_too_large_is_refused_and_its_limit_is_named() {
    let mut server = with_limits(
        "identifier_bytes = 4096\ncommand_bytes = 1024\nsequence_depth = 4\nelements = 1000\nstall_seconds = 5",
    );
    let mut client = server.associate(ALL);
    let list = vec!["2.25.1"; 1_000].join("\\");
    let found = client.c_find(FIND, &by_uids("STUDY", &list, None, None));
    let found = found.expect("C-FIND");
    assert_eq!(found.status, 0xC000);
    let comment = found.comment.expect("a comment");
    assert!(comment.contains("larger than 4 KiB"), "{comment}");
    wait_for_log(&server, "limits.identifier_bytes = 4096");

    let mut image = Image::new(1, 1, 100);
    for _ in 0..5 {
        let open = [0x40, 0x00, 0x75, 0x02, 0xFF, 0xFF, 0xFF, 0xFF];
        image.data_set.extend(open);
        image
            .data_set
            .extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    let (status, _) = image.send(&mut client).expect("C-STORE");
    assert_eq!(status, 0xC000);
    wait_for_log(&server, "limits.sequence_depth = 4");

    let mut image = Image::new(1, 2, 100);
    for at in 0..1_000u16 {
        image.data_set.extend([0xE1, 0x7F]);
        image.data_set.extend((0x1000 + at).to_le_bytes());
        image.data_set.extend([0; 4]);
    }
    let (status, _) = image.send(&mut client).expect("C-STORE");
    assert_eq!(status, 0xC000);
    wait_for_log(&server, "limits.elements = 1000");

    let stream = client.stream();
    stream
        .write_all(&pdv(ECHO, true, true, &[0; 1_026]))
        .expect("a command");
    assert!(matches!(
        client.receive(),
        Err(WireError::Aborted { source_: 2, .. })
    ));
    wait_for_log(&server, "limits.command_bytes = 1024");
    assert_others_are_served(&server, 1);
    server.assert_alive();
}

/// Method: a C-MOVE of ten instances to a peer that takes a second for each, and two seconds for the request: what is left
/// is failed, and named. A C-GET that nobody reads ends with its association.
#[test]
fn a_request_that_takes_too_long_ends_with_a_true_status() {
    let sink = Sink::start();
    sink.slow(1_000);
    let mut server = Server::with(
        Settings {
            extra: "[limits]\nrequest_seconds = 2\n".to_owned(),
            ..Settings::default()
        }
        .peer("SINK", sink.port()),
    );
    let images: Vec<Image> = (0..10).map(|at| Image::new(1, at, 1_000)).collect();
    send_all(&server, &images);
    let contexts: &[(u8, &str, &[&str])] = &[
        (1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE]),
        (3, VERIFICATION, &[IMPLICIT_LITTLE]),
    ];
    let mut client = server.associate(contexts);
    let study = by_uids("STUDY", &images[0].study, None, None);
    let moved = client.c_move(1, "SINK", &study).expect("C-MOVE");
    assert!(matches!(moved.status, 0xB000 | 0xA702), "{moved:?}");
    let [_, completed, failed, _] = moved.counters.map(|count| count.unwrap_or(0));
    assert_eq!(completed + failed, 10, "{moved:?}");
    assert_eq!(moved.failed.len(), usize::from(failed));
    assert!(failed > 0, "{moved:?}");
    let comment = moved.comment.expect("a comment");
    assert!(comment.contains("longer than 2 s"), "{comment}");
    wait_for_log(&server, "limits.request_seconds = 2");
    assert_eq!(client.c_echo(3).expect("C-ECHO"), 0);
    server.assert_alive();
}

/// Method: places for four connections, and a flood of silent ones that comes back as soon as one is closed; meanwhile a
/// modality stores. Then a silent one alone is closed when its time is over.
#[test]
fn a_flood_of_silent_connections_keeps_no_modality_out() {
    let mut server = with_limits("connections = 16\nnegotiation_seconds = 2");
    let before = Before::of(&server);
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut open = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(stream) = TcpStream::connect(server.address()) {
                    open.push_back(stream);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if open.len() > 200 {
                    open.pop_front();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        while count.load(Ordering::Relaxed) < 50 {
            std::thread::sleep(Duration::from_millis(10));
        }
        for number in 0..20 {
            assert_others_are_served(&server, number);
        }
        over.store(true, Ordering::Relaxed);
        flood.join().expect("the flood");
    });
    wait_for_log(&server, "limits.connections = 16");
    let mut silent = TcpStream::connect(server.address()).expect("connect");
    silent.set_read_timeout(Some(SOON)).expect("timeout");
    let ended = silent.read(&mut [0; 16]).map_err(|error| error.kind());
    let is_closed = matches!(ended, Ok(0) | Err(std::io::ErrorKind::ConnectionReset));
    assert!(is_closed, "{ended:?}");
    wait_for_log(&server, "limits.negotiation_seconds = 2");
    // A flood has a few lines, not one for each.
    let lines = server.log_text().matches("limits.connections").count();
    let least = count.load(Ordering::Relaxed) as usize / 10;
    assert!(lines <= least.max(5), "{lines} lines");
    before.assert_nothing_left(&server, "a flood");
    server.assert_alive();
}

/// Method: 120 open files in all; silent connections, then associations, until no more are taken. Those that are there
/// store, and one that is refused is told so.
#[test]
fn storing_does_not_run_out_of_files_however_many_connect() {
    let mut server = with_limits("open_files = 120\nnegotiation_seconds = 5");
    let before = Before::of(&server);
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(server.address()).expect("connect"))
        .collect();
    let mut open = Vec::new();
    let refused = loop {
        match server.try_associate(ALL) {
            Ok(client) => open.push(client),
            Err(error) => break error,
        }
        assert!(open.len() < 120, "no end");
    };
    let is_for_now = matches!(
        refused,
        WireError::Rejected {
            result: 2,
            source_: 3,
            reason: 2
        }
    );
    assert!(is_for_now, "{refused}");
    assert!(open.len() >= 10, "{}", open.len());
    wait_for_log(&server, "limits.open_files = 120");
    for (number, client) in open.iter_mut().enumerate() {
        let image = Image::new(2, number as u32, 1_000);
        assert_eq!(image.send(client).expect("C-STORE").0, 0);
    }
    assert!(files(&server) <= 120, "{}", files(&server));
    drop(open);
    drop(silent);
    assert_others_are_served(&server, 1);
    before.assert_nothing_left(&server, "many files");
    server.assert_alive();
}

/// Method: 1,000 connections that say nothing and 1,000 associations that do nothing, while a modality stores; what each
/// costs is printed.
#[test]
fn a_thousand_idle_connections_and_associations_cost_little() {
    if !may_open(5_000) {
        return;
    }
    let mut server = with_limits(
        "connections = 2000\nconnections_per_address = 2000\nassociations = 2000\nassociations_per_address = 2000\nnegotiation_seconds = 600",
    );
    let before = Before::of(&server);
    let silent: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect(server.address()).expect("connect"))
        .collect();
    assert_others_are_served(&server, 1);
    let silent_bytes = before.grown(&server);
    let idle: Vec<Client> = (0..1_000).map(|_| associate_soon(&server)).collect();
    for number in 2..12 {
        assert_others_are_served(&server, number);
    }
    let both_bytes = before.grown(&server);
    eprintln!(
        "1,000 silent connections: {} KiB, 1,000 idle associations: {} KiB; {} threads, {} files",
        silent_bytes >> 10,
        both_bytes.saturating_sub(silent_bytes) >> 10,
        threads(&server),
        files(&server)
    );
    assert!(silent_bytes < 24 << 20, "{silent_bytes} bytes");
    assert!(both_bytes < 128 << 20, "{both_bytes} bytes");
    drop((silent, idle));
    assert_others_are_served(&server, 20);
    before.assert_nothing_left(&server, "a thousand of each");
    server.assert_alive();
}

/// Method: associations one after the other, each with an echo and every tenth with a store; memory, files and threads at
/// half of the way and at its end.
#[test]
fn thousands_of_associations_leave_nothing_behind() {
    let mut server = with_limits("");
    let before = Before::of(&server);
    let count = if common::long() { 10_000 } else { 1_000 };
    let mut half = 0;
    for number in 0..count {
        let mut client = associate_soon(&server);
        assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
        if number % 10 == 0 {
            let image = Image::new(3, number, 20_000);
            assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
        }
        match number % 3 {
            0 => client.release().expect("release"),
            1 => client.abort().expect("abort"),
            _ => drop(client),
        }
        if number == count / 2 {
            half = memory(&server, "VmRSS:");
        }
    }
    before.assert_nothing_left(&server, "many associations");
    let grown = memory(&server, "VmRSS:").saturating_sub(half);
    eprintln!(
        "{count} associations: grown by {} KiB in the second half",
        grown >> 10
    );
    assert!(grown < 16 << 20, "{grown} bytes");
    server.assert_alive();
}

/// Takes as little as a system can be told to buffer.
fn narrow(server: &Server) -> Option<Client> {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("its buffer");
    socket.connect(&server.address().into()).ok()?;
    let request = associate_rq("WORST", "KURA", ALL, 16_384, &[]);
    Client::begin(TcpStream::from(socket), &request, ALL).ok()
}

/// An identifier at IMAGE level with thousands of keys, so that each answer is as large.
fn wide() -> Vec<u8> {
    let mut keys = vec![
        (Tag(0x0008, 0x0052), "CS", "IMAGE"),
        (Tag(0x0008, 0x0018), "UI", ""),
    ];
    for group in 0..4 {
        keys.extend((0..4_000).map(|at| (Tag(0x0009 + group * 2, 0x1000 + at), "UN", "")));
    }
    ident(&keys)
}

/// Method: 256 associations at once: large instances on their way, huge answers that nobody reads, retrieves that nobody
/// reads, a byte at a time, idle ones, half-open ones; connects all the while, and somebody who works. The most that the
/// server ever had in memory is printed.
#[test]
fn the_worst_mix_stays_below_256_mib() {
    if !may_open(3_000) {
        return;
    }
    let (large_bytes, seconds) = match common::long() {
        true => (256_000_000, 120),
        false => (64_000_000, 15),
    };
    let sink = Sink::start();
    sink.discard(Duration::ZERO);
    let mut server = Server::with(
        Settings {
            extra: "[limits]\nassociations_per_address = 256\nstall_seconds = 600\n".to_owned(),
            ..Settings::default()
        }
        .peer("SINK", sink.port()),
    );
    // What is fetched and asked for.
    let there: Vec<Image> = (0..24).map(|at| Image::new(9, at, 3_500_000)).collect();
    send_all(&server, &there);
    let study = by_uids("STUDY", &there[0].study, None, None);
    let start_bytes = memory(&server, "VmRSS:");
    let over = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (server_ref, over) = (&server, &over);
    std::thread::scope(|scope| {
        let study = &study;
        // Large instances: each sends as fast as it is taken, never to its end.
        for number in 0..16 {
            scope.spawn(move || {
                let mut client = associate_soon(server_ref);
                let sop = format!("2.25.8{number}");
                let head = Image::new(50, number, 1_000).data_set;
                let begun = client.begin_store(STORE, CT_IMAGE_STORAGE, &sop);
                begun.expect("a command");
                let head = &head[..head.len() - 1_008];
                let _ = client.send_fragment(STORE, false, head, false);
                let mut element = vec![0xE0, 0x7F, 0x10, 0x00];
                element.extend((large_bytes as u32).to_le_bytes());
                let _ = client.send_fragment(STORE, false, &element, false);
                let piece = vec![7; 16_000];
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    if sent + piece.len() >= large_bytes {
                        std::thread::sleep(Duration::from_millis(50));
                        continue;
                    }
                    if client.send_fragment(STORE, false, &piece, false).is_err() {
                        break;
                    }
                    sent += piece.len();
                }
            });
        }
        // Small ones that stall in the middle with 5 MB each.
        let stalled = scope.spawn(move || {
            let mut open = Vec::new();
            for number in 0..60 {
                let mut client = associate_soon(server_ref);
                let image = Image::new(60, number, 5_000_000);
                let begun = client.begin_store(STORE, CT_IMAGE_STORAGE, &image.sop);
                begun.expect("a command");
                let most = &image.data_set[..4_900_000];
                client
                    .send_fragment(STORE, false, most, false)
                    .expect("most of it");
                open.push(client);
            }
            open
        });
        // Answers that nobody reads.
        let mut deaf = Vec::new();
        for number in 0..80 {
            let Some(mut client) = narrow(server_ref) else {
                continue;
            };
            let sent = match number % 2 {
                0 => client.send_query(FIND, C_FIND_RQ, None, &wide()),
                _ => client.send_query(GET, C_GET_RQ, None, study),
            };
            sent.expect("a request");
            deaf.push(client);
        }
        let stalled = stalled.join().expect("those that stall");
        // A byte at a time, and idle ones.
        let mut slow: Vec<Client> = (0..40).map(|_| associate_soon(server_ref)).collect();
        let idle: Vec<Client> = (0..40).map(|_| associate_soon(server_ref)).collect();
        // Connects all the while; and half-open requests.
        scope.spawn(move || {
            let request = associate_rq("HALF", "KURA", ALL, 16_384, &[]);
            let mut open = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(mut stream) = TcpStream::connect(server_ref.address()) {
                    let _ = stream.write_all(&request[..request.len() / 2]);
                    open.push_back(stream);
                }
                if open.len() > 500 {
                    open.pop_front();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // Whole studies to a peer, again and again.
        for _ in 0..2 {
            scope.spawn(move || {
                let contexts: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])];
                while !over.load(Ordering::Relaxed) {
                    if let Ok(mut client) = server_ref.try_associate(contexts) {
                        let moved = client.c_move(1, "SINK", study).expect("C-MOVE");
                        assert_eq!(moved.status, 0, "{moved:?}");
                    }
                }
            });
        }
        let byte = pdv(ECHO, true, true, &[0; 1_000]);
        let mut number = 0;
        while Instant::now() < end || number < 3 {
            for (at, client) in slow.iter_mut().enumerate() {
                let _ = client.stream().write_all(&byte[at..=at]);
            }
            assert_others_are_served(server_ref, 5_000 + number);
            number += 1;
        }
        let held = threads(server_ref);
        eprintln!(
            "{held} threads, {} files, VmSize {} MiB, {number} rounds of somebody who works",
            files(server_ref),
            memory(server_ref, "VmSize:") >> 20
        );
        over.store(true, Ordering::Relaxed);
        drop((deaf, stalled, slow, idle));
    });
    let peak = memory(&server, "VmHWM:");
    eprintln!(
        "worst mix: at most {} MiB in memory, {} MiB before it",
        peak >> 20,
        start_bytes >> 20
    );
    assert!(peak < 256 << 20, "{peak} bytes");
    assert_others_are_served(&server, 9_999);
    server.assert_alive();
}
