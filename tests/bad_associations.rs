//! What PS3.8 and PS3.7 do not allow, as tables: requests, PDUs in every state, messages, data sets that lie. After every
//! case others are served, and no thread, file, memory or name in `incoming/` is left over.
//!
//! Nonsense at random, stalling and vanishing are in `hostile_peers.rs`, broken instances in `bad_input.rs`.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, by_uids, synthetic_ct};
use common::images::{ALL, ECHO, FIND, GET, Image, STORE};
use common::leftovers::{Before, assert_others_are_served};
use common::wire::{
    C_FIND_RQ, C_GET_RQ, IMPLICIT_LITTLE, VERIFICATION, associate_rq, item, pdv, with_user_items,
};
use common::{Server, Settings};

/// What should happen soon has happened by then.
const SOON: Duration = Duration::from_secs(90);

const RQ: u8 = 1;
const AC: u8 = 2;
const RJ: u8 = 3;
const DATA: u8 = 4;
const RELEASE_RQ: u8 = 5;
const RELEASE_RP: u8 = 6;
const ABORT: u8 = 7;

fn server() -> Server {
    Server::with(Settings {
        extra: "[limits]\nstall_seconds = 1\nnegotiation_seconds = 5\n".to_owned(),
        ..Settings::default()
    })
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

/// The PDUs that come until the server ends the connection.
fn until_the_end(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    let mut bytes = Vec::new();
    let mut piece = [0; 16_384];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the server does not end the connection: {error}"),
        }
    }
    let mut pdus = Vec::new();
    let mut rest = bytes.as_slice();
    while let [kind, _, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (body, after) = after.split_at(length.min(after.len()));
        pdus.push((*kind, body.to_vec()));
        rest = after;
    }
    pdus
}

/// How a connection may end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Without a word.
    Closed,
    /// A-ABORT of the service provider, with one of these reasons (PS3.8 9.3.8).
    Abort(&'static [u8]),
    /// A PDU of this type, then the end.
    Answer(u8),
}

fn assert_end(case: &str, pdus: &[(u8, Vec<u8>)], end: End) {
    let is_right = match end {
        End::Closed => pdus.is_empty(),
        End::Abort(reasons) => matches!(pdus, [(ABORT, body)]
            if body.len() == 4 && body[2] == 2 && reasons.contains(&body[3])),
        End::Answer(kind) => pdus.len() == 1 && pdus[0].0 == kind,
    };
    assert!(is_right, "{case}: {pdus:?} where {end:?} is due");
}

/// Everything that a request can say, each item once.
fn full_request() -> Vec<u8> {
    let mut more = Vec::new();
    // Asynchronous operations, extended negotiation, user identity (PS3.7 D.3.3.3, 5, 7).
    item(&mut more, 0x53, &[0, 1, 0, 1]);
    let mut extended = vec![0, 17];
    extended.extend(VERIFICATION.as_bytes());
    extended.extend([1, 1, 1]);
    item(&mut more, 0x56, &extended);
    item(&mut more, 0x58, &[1, 0, 0, 3, b'a', b'b', b'c', 0, 0]);
    let roles = [(CT_IMAGE_STORAGE, true, true)];
    let request = associate_rq("TESTER", "KURA", ALL, 16_384, &roles);
    with_user_items(request, &more)
}

/// Where the items and sub-items of a request begin: offset of the header, nesting.
fn items_of(request: &[u8]) -> Vec<(usize, usize)> {
    fn walk(bytes: &[u8], from: usize, to: usize, depth: usize, found: &mut Vec<(usize, usize)>) {
        let mut at = from;
        while at + 4 <= to {
            found.push((at, depth));
            let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
            let inner = match bytes[at] {
                0x20 => Some(at + 8),
                0x50 => Some(at + 4),
                _ => None,
            };
            if let Some(inner) = inner {
                walk(bytes, inner, at + 4 + length, depth + 1, found);
            }
            at += 4 + length;
        }
    }
    let mut found = Vec::new();
    walk(request, 6 + 68, request.len(), 0, &mut found);
    found
}

/// Method: every item and sub-item of a request that has them all, its length set to 0, one less, one more and the most.
/// Each is answered: accepted where it can be read all the same (then an echo works), rejected, or aborted.
#[test]
fn an_item_of_any_length_is_answered_at_every_nesting() {
    let mut server = server();
    let before = Before::of(&server);
    let good = full_request();
    let items = items_of(&good);
    assert!(items.iter().any(|(_, depth)| *depth == 1) && items.len() > 20);
    let mut number = 0;
    let mut accepted = 0;
    for (at, depth) in items {
        let right = u16::from_be_bytes([good[at + 2], good[at + 3]]);
        for length in [0, right.wrapping_sub(1), right + 1, u16::MAX] {
            let mut request = good.clone();
            request[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
            let case = format!("item {:02X}H at {at}, depth {depth}, {length}", good[at]);
            let mut stream = TcpStream::connect(server.address()).expect("connect");
            stream.set_read_timeout(Some(SOON)).expect("timeout");
            stream.write_all(&request).expect("a request");
            let mut kind = [0; 1];
            stream.read_exact(&mut kind).unwrap_or_else(|error| {
                panic!("{case}: no answer ({error})");
            });
            assert!(matches!(kind[0], AC | RJ | ABORT), "{case}: {kind:?}");
            if length == u16::MAX {
                assert_ne!(kind[0], AC, "{case}");
            }
            accepted += u32::from(kind[0] == AC);
            drop(stream);
            number += 1;
            assert_others_are_served(&server, number);
            before.assert_nothing_left(&server, &case);
        }
    }
    eprintln!("{number} requests, {accepted} of them could be read");
    server.assert_alive();
}

/// Method: a request cut at many places, and the connection half closed behind it.
#[test]
fn a_request_cut_anywhere_ends_with_its_connection() {
    let mut server = server();
    let before = Before::of(&server);
    let good = full_request();
    let step = if common::long() { 1 } else { 23 };
    for cut in (0..good.len()).step_by(step) {
        let mut stream = TcpStream::connect(server.address()).expect("connect");
        stream.write_all(&good[..cut]).expect("a part");
        stream.shutdown(Shutdown::Write).expect("shutdown");
        assert_end(
            &format!("cut at {cut}"),
            &until_the_end(&mut stream),
            End::Closed,
        );
    }
    assert_others_are_served(&server, 1);
    before.assert_nothing_left(&server, "requests that were cut");
    server.assert_alive();
}

/// Contexts of a request, and the result of each (PS3.8 table 9-18) or the whole answer.
#[test]
fn contexts_that_may_not_be_are_answered_one_by_one() {
    let mut server = server();
    let before = Before::of(&server);
    let context = |id: u8| (id, VERIFICATION, &[IMPLICIT_LITTLE] as &[&str]);
    let odd = |count: usize| (0..count).map(|at| (2 * at + 1) as u8);
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("none", vec![], vec![]),
        ("one", vec![1], vec![0]),
        ("even and zero", vec![0, 1, 2, 254], vec![2, 0, 2, 2]),
        ("twice the same", vec![1, 3, 1], vec![0, 0, 2]),
        ("128", odd(128).collect(), vec![0; 128]),
        (
            "129",
            odd(128).chain([1]).collect(),
            (0..128).map(|_| 0).chain([2]).collect(),
        ),
    ];
    for (number, (name, ids, results)) in cases.into_iter().enumerate() {
        let contexts: Vec<_> = ids.iter().copied().map(context).collect();
        let client = server.try_associate(&contexts);
        let mut client = client.unwrap_or_else(|error| panic!("{name}: {error}"));
        let answered: Vec<u8> = client.contexts().iter().map(|one| one.result).collect();
        assert_eq!(answered, results, "{name}");
        if results.contains(&0) {
            assert_eq!(client.c_echo(1).expect("C-ECHO"), 0, "{name}");
        }
        // On a context that was not accepted nothing may be said.
        let stream = client.stream();
        stream
            .write_all(&pdv(99, true, true, &echo()))
            .expect("a command");
        if !ids.contains(&99) {
            assert_end(name, &until_the_end(stream), End::Abort(&[6]));
        }
        drop(client);
        assert_others_are_served(&server, number as u32);
        before.assert_nothing_left(&server, name);
    }
    server.assert_alive();
}

fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(number.to_le_bytes());
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value);
    out
}

fn command(elements: &[Vec<u8>]) -> Vec<u8> {
    let body = elements.concat();
    let mut out = element(0, &(body.len() as u32).to_le_bytes());
    out.extend(body);
    out
}

/// C-ECHO-RQ.
fn echo() -> Vec<u8> {
    command(&[
        element(0x0002, b"1.2.840.10008.1.1\0"),
        element(0x0100, &0x30u16.to_le_bytes()),
        element(0x0110, &7u16.to_le_bytes()),
        element(0x0800, &0x0101u16.to_le_bytes()),
    ])
}

/// C-STORE-RQ; `data`: (0000,0800).
fn store(sop: &str, data: u16) -> Vec<u8> {
    let mut sop = sop.as_bytes().to_vec();
    sop.resize(sop.len().next_multiple_of(2), 0);
    let mut class = CT_IMAGE_STORAGE.as_bytes().to_vec();
    class.resize(class.len().next_multiple_of(2), 0);
    command(&[
        element(0x0002, &class),
        element(0x0100, &1u16.to_le_bytes()),
        element(0x0110, &7u16.to_le_bytes()),
        element(0x0700, &0u16.to_le_bytes()),
        element(0x0800, &data.to_le_bytes()),
        element(0x1000, &sop),
    ])
}

/// A state of PS3.8 table 9-10 as an acceptor has them. Sta3 and Sta8 pass at once, as we answer at once; Sta4, 5, 7 and 9
/// to 12 are those of who asks for an association or its release, which an acceptor here never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sta2: connected, no request yet.
    Waiting,
    /// Sta6.
    Established,
    /// Sta6, after a command whose data set is due.
    InMessage,
    /// Sta8: the event comes right behind the A-RELEASE-RQ.
    ReleaseAsked,
    /// Sta13: released.
    Released,
}

/// Method: each PDU, an unknown one and the end of the connection, in each state. The columns are the states; in Sta13
/// whatever comes is not read any more (AA-6, AA-7).
#[test]
fn every_pdu_in_every_state_is_answered_as_table_9_10_says() {
    use State::{Established, InMessage, ReleaseAsked, Released, Waiting};
    const RELEASED: End = End::Answer(RELEASE_RP);
    const CLOSED: End = End::Closed;
    const UNEXPECTED: End = End::Abort(&[2, 5]);
    const UNKNOWN: End = End::Abort(&[1]);
    let states = [Waiting, Established, InMessage, ReleaseAsked, Released];
    let request = associate_rq("TESTER", "KURA", ALL, 16_384, &[]);
    let mut accept = request.clone();
    accept[0] = AC;
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, [End; 5])> = vec![
        ("A-ASSOCIATE-AC", accept, [UNEXPECTED, UNEXPECTED, UNEXPECTED, RELEASED, CLOSED]),
        ("A-ASSOCIATE-RJ", pdu(RJ, &[0, 1, 1, 1]), [UNEXPECTED, UNEXPECTED, UNEXPECTED, RELEASED, CLOSED]),
        // In Sta2 it is what is due; the association is then left by the end of the connection.
        ("A-ASSOCIATE-RQ", request, [End::Answer(AC), UNEXPECTED, UNEXPECTED, RELEASED, CLOSED]),
        // The rest of the message never comes: it stalls, or it is a command where data is due.
        ("P-DATA-TF", pdv(ECHO, true, false, &echo()), [UNEXPECTED, End::Abort(&[0]), UNEXPECTED, RELEASED, CLOSED]),
        ("A-RELEASE-RQ", pdu(RELEASE_RQ, &[0; 4]), [UNEXPECTED, RELEASED, UNEXPECTED, RELEASED, CLOSED]),
        ("A-RELEASE-RP", pdu(RELEASE_RP, &[0; 4]), [UNEXPECTED, UNEXPECTED, UNEXPECTED, RELEASED, CLOSED]),
        ("A-ABORT", pdu(ABORT, &[0; 4]), [CLOSED, CLOSED, CLOSED, RELEASED, CLOSED]),
        ("unknown", pdu(0x55, &[0; 4]), [UNKNOWN, UNKNOWN, UNKNOWN, RELEASED, CLOSED]),
        ("unknown, type 0", pdu(0, &[0; 4]), [UNKNOWN, UNKNOWN, UNKNOWN, RELEASED, CLOSED]),
        ("end of the connection", Vec::new(), [CLOSED, CLOSED, CLOSED, RELEASED, CLOSED]),
    ];
    let mut server = server();
    let before = Before::of(&server);
    let mut number = 0;
    for (event, bytes, ends) in &table {
        for (state, end) in states.iter().zip(ends) {
            let case = format!("{event} in {state:?}");
            let mut associated;
            let mut connected;
            let mut sent = bytes.clone();
            let stream = match state {
                Waiting => {
                    connected = TcpStream::connect(server.address()).expect("connect");
                    &mut connected
                }
                _ => {
                    associated = server.associate(ALL);
                    associated.stream()
                }
            };
            match state {
                InMessage => {
                    let announced = pdv(STORE, true, true, &store("2.25.1", 0));
                    stream.write_all(&announced).expect("a command");
                }
                ReleaseAsked => sent.splice(..0, pdu(RELEASE_RQ, &[0; 4])).for_each(drop),
                Released => {
                    let release = pdu(RELEASE_RQ, &[0; 4]);
                    stream.write_all(&release).expect("a release");
                    let mut reply = [0; 10];
                    stream.read_exact(&mut reply).expect("its answer");
                    assert_eq!(reply[0], RELEASE_RP);
                }
                Waiting | Established => {}
            }
            // A server that has ended it takes nothing any more.
            let _ = stream.write_all(&sent);
            let is_accepted = *state == Waiting && bytes.first() == Some(&RQ);
            if bytes.is_empty() || is_accepted {
                let _ = stream.shutdown(Shutdown::Write);
            }
            assert_end(&case, &until_the_end(stream), *end);
            number += 1;
            assert_others_are_served(&server, number);
            before.assert_nothing_left(&server, &case);
        }
    }
    server.assert_alive();
}

/// Lengths of PDUs that lie, in a request and on an association.
#[test]
fn a_pdu_of_an_impossible_length_ends_its_connection_at_once() {
    let mut server = server();
    let before = Before::of(&server);
    let mut number = 0;
    for (kind, lengths) in [
        (RQ, &[0u32, 1, 67, 1 << 24, u32::MAX][..]),
        (DATA, &[0, 1, 5, 1 << 24, u32::MAX]),
        (RELEASE_RQ, &[1 << 24, u32::MAX]),
        (ABORT, &[1 << 24, u32::MAX]),
        (0x99, &[0, u32::MAX]),
    ] {
        for length in lengths {
            for is_associated in [false, true] {
                let case = format!("type {kind:02X}H, {length} bytes, {is_associated}");
                let mut bytes = vec![kind, 0];
                bytes.extend(length.to_be_bytes());
                bytes.extend(vec![0; (*length).min(100) as usize]);
                let mut stream = match is_associated {
                    true => server
                        .associate(ALL)
                        .stream()
                        .try_clone()
                        .expect("a socket"),
                    false => TcpStream::connect(server.address()).expect("connect"),
                };
                let _ = stream.write_all(&bytes);
                let pdus = until_the_end(&mut stream);
                let is_abort = matches!(&pdus[..], [(ABORT, body)] if body[2] == 2);
                let may_be_silent = kind == ABORT && !is_associated;
                assert!(
                    is_abort || (may_be_silent && pdus.is_empty()),
                    "{case}: {pdus:?}"
                );
                number += 1;
                assert_others_are_served(&server, number);
                before.assert_nothing_left(&server, &case);
            }
        }
    }
    server.assert_alive();
}

/// Messages in pieces that do not fit together: what comes, and how it ends.
#[test]
fn messages_that_do_not_fit_together_end_their_association() {
    let mut server = server();
    let before = Before::of(&server);
    let data = Image::new(5, 1, 2_000).data_set;
    let sop = "2.25.75.1";
    let announced = pdv(STORE, true, true, &store(sop, 0));
    let both = |first: &[u8], second: &[u8]| [first, second].concat();
    let half = echo().len() / 2;
    let two_in_one = {
        // One PDU with a piece of a command and a piece of a data set.
        let mut body = Vec::new();
        for (id, flags, bytes) in [(STORE, 1u8, &store(sop, 0)[..20]), (STORE, 0, &data[..20])] {
            body.extend((bytes.len() as u32 + 2).to_be_bytes());
            body.extend([id, flags]);
            body.extend(bytes);
        }
        pdu(DATA, &body)
    };
    let mut no_field = echo();
    no_field[12 + 8 + 18 + 3] = 9;
    let long = vec![0; 16_000];
    let mut endless = Vec::new();
    for _ in 0..5 {
        endless.extend(pdv(ECHO, true, false, &long));
    }
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, End)> = vec![
        ("a command, and its data set never comes", announced.clone(), End::Abort(&[0])),
        ("data without a command", pdv(STORE, false, true, &data), End::Abort(&[5])),
        ("a command where data is due", both(&announced, &pdv(ECHO, true, true, &echo())), End::Abort(&[5])),
        ("data on another context", both(&announced, &pdv(FIND, false, true, &data)), End::Abort(&[5])),
        ("data on another context in the middle", [&announced[..], &pdv(STORE, false, false, &data[..100]), &pdv(FIND, false, true, &data[100..])].concat(), End::Abort(&[5])),
        ("a command in pieces of two contexts", both(&pdv(ECHO, true, false, &echo()[..half]), &pdv(FIND, true, true, &echo()[half..])), End::Abort(&[5])),
        ("data in the middle of a command", both(&pdv(STORE, true, false, &store(sop, 0)[..20]), &pdv(STORE, false, false, &data[..20])), End::Abort(&[5])),
        ("both in one PDU", two_in_one, End::Abort(&[5])),
        ("a PDV of length 0", pdu(DATA, &[0, 0, 0, 0]), End::Abort(&[6])),
        ("a PDV of length 1", pdu(DATA, &[0, 0, 0, 1, ECHO, 3]), End::Abort(&[6])),
        ("a PDV of 4 GiB", pdu(DATA, &[0xFF, 0xFF, 0xFF, 0xFF, ECHO, 3]), End::Abort(&[6])),
        ("a PDV longer than its PDU by one", pdu(DATA, &[0, 0, 0, 5, ECHO, 3, 0, 0]), End::Abort(&[6])),
        ("a second PDV that is cut", both(&[DATA, 0, 0, 0, 0, 9, 0, 0, 0, 2, ECHO, 1], &[0, 0, 0]), End::Abort(&[6])),
        ("a command longer than is allowed", endless, End::Abort(&[6])),
        ("an empty command", pdv(ECHO, true, true, &[]), End::Abort(&[6, 0, 5])),
        ("a command that is none", pdv(ECHO, true, true, &[0xFF; 64]), End::Abort(&[6])),
        ("a command whose element is longer than it", pdv(ECHO, true, true, &[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]), End::Abort(&[6])),
    ];
    for (number, (case, bytes, end)) in table.iter().enumerate() {
        let mut client = server.associate(ALL);
        let _ = client.stream().write_all(bytes);
        assert_end(case, &until_the_end(client.stream()), *end);
        drop(client);
        assert_others_are_served(&server, number as u32);
        before.assert_nothing_left(&server, case);
    }
    server.assert_alive();
}

/// Method: an echo whose command is split in two PDVs at each byte; then one, and a store, a byte at a time.
#[test]
fn commands_may_be_split_at_every_byte_and_come_a_byte_at_a_time() {
    let mut server = server();
    let before = Before::of(&server);
    let echo = echo();
    let mut client = server.associate(ALL);
    for cut in 0..=echo.len() {
        let stream = client.stream();
        let first = pdv(ECHO, true, false, &echo[..cut]);
        stream.write_all(&first).expect("one part");
        let second = pdv(ECHO, true, true, &echo[cut..]);
        stream.write_all(&second).expect("the other");
        let answer = client.receive().expect("an answer");
        assert_eq!(answer.status(), 0, "cut at {cut}");
    }
    let image = Image::new(5, 2, 500);
    let mut bytes = pdv(ECHO, true, true, &echo);
    for piece in store(&image.sop, 0).chunks(1) {
        bytes.extend(pdv(STORE, true, false, piece));
    }
    bytes.extend(pdv(STORE, true, true, &[]));
    for piece in image.data_set.chunks(3) {
        bytes.extend(pdv(STORE, false, false, piece));
    }
    bytes.extend(pdv(STORE, false, true, &[]));
    client.stream().set_nodelay(true).expect("no delay");
    for byte in &bytes {
        client.stream().write_all(&[*byte]).expect("a byte");
    }
    assert_eq!(client.receive().expect("C-ECHO").status(), 0);
    assert_eq!(client.store_response().expect("C-STORE").0, 0);
    client.release().expect("release");
    assert_others_are_served(&server, 1);
    before.assert_nothing_left(&server, "a byte at a time");
    server.assert_alive();
}

/// Method: echoes, queries and a retrieve whose answers nobody reads; the sender goes on as long as it can.
#[test]
fn who_never_reads_our_answers_is_given_up_and_memory_stays_flat() {
    let mut server = server();
    let large = Image::new(8, 1, 24_000_000);
    let mut client = server.associate(ALL);
    assert_eq!(large.send(&mut client).expect("C-STORE").0, 0);
    client.release().expect("release");
    let before = Before::of(&server);
    let study = by_uids("STUDY", &large.study, None, None);
    for (number, what) in ["echo", "find", "get"].into_iter().enumerate() {
        let mut deaf = server.associate_narrow(ALL);
        deaf.stream()
            .set_write_timeout(Some(SOON))
            .expect("timeout");
        let start = Instant::now();
        if what == "get" {
            deaf.send_query(GET, C_GET_RQ, None, &study).expect("C-GET");
        }
        loop {
            let went = match what {
                "echo" => deaf
                    .stream()
                    .write_all(&pdv(ECHO, true, true, &echo()))
                    .is_ok(),
                "find" => deaf.send_query(FIND, C_FIND_RQ, None, &study).is_ok(),
                // One byte too many behind the request, until nobody is there.
                _ => {
                    std::thread::sleep(Duration::from_millis(100));
                    deaf.stream().write_all(&[DATA]).is_ok()
                }
            };
            if !went {
                break;
            }
            assert!(start.elapsed() < SOON, "{what}: still listened to");
        }
        assert_others_are_served(&server, number as u32);
        before.assert_nothing_left(&server, what);
    }
    let grown = before.grown(&server);
    eprintln!("grown by {} KiB", grown / 1024);
    assert!(grown < 24 << 20, "{grown} bytes");
    server.assert_alive();
}

const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

fn deflate(bytes: impl Read) -> Vec<u8> {
    let mut bytes = bytes;
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut bytes, &mut out).expect("in memory");
    out.finish().expect("in memory")
}

/// Data sets that say what is not so: each is refused as that, and the association goes on.
#[test]
fn a_data_set_that_lies_is_refused_and_costs_no_memory() {
    let mut server = server();
    let before = Before::of(&server);
    let implicit: &[(u8, &str, &[&str])] = &[
        (1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
        (3, CT_IMAGE_STORAGE, &[DEFLATED]),
        (5, VERIFICATION, &[IMPLICIT_LITTLE]),
    ];
    let sop = "2.25.331";
    let good = synthetic_ct("2.25.330", "2.25.330.1", sop, 1, 1_000, false);
    let with = |tail: &[u8]| {
        let mut bytes = good[..good.len() - 1_008].to_vec();
        bytes.extend(tail);
        bytes
    };
    let undefined = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes.extend([0x40, 0x00, 0x75, 0x02, 0xFF, 0xFF, 0xFF, 0xFF]);
            bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
        }
        bytes
    };
    let explicit = synthetic_ct("2.25.330", "2.25.330.1", sop, 1, 1_000, true);
    let squeezed = deflate(&explicit[..]);
    // A private element of 300 MB of zeros, in 300 KB.
    let mut bomb = explicit[..explicit.len() - 1_012].to_vec();
    bomb.extend([0x09, 0x70, 0x10, 0x10]);
    bomb.extend(b"UN\0\0\x00\x00\x00\x20");
    let bomb = deflate(bomb.chain(std::io::repeat(0).take(300_000_000)));
    assert!(bomb.len() < 1_000_000);
    #[rustfmt::skip]
    let table: Vec<(&str, u8, Vec<u8>)> = vec![
        ("an element of 4 GiB", 1, with(&[0xE0, 0x7F, 0x10, 0, 0xFE, 0xFF, 0xFF, 0xFF, 1, 2])),
        ("a sequence of 4 GiB", 1, with(&[0x40, 0, 0x75, 2, 0xFE, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0, 0xE0, 0, 0, 0, 0])),
        ("an item of 4 GiB in a sequence of 16", 1, with(&[0x40, 0, 0x75, 2, 8, 0, 0, 0, 0xFE, 0xFF, 0, 0xE0, 0xFE, 0xFF, 0xFF, 0xFF])),
        ("an element longer than its item", 1, with(&[0x40, 0, 0x75, 2, 16, 0, 0, 0, 0xFE, 0xFF, 0, 0xE0, 8, 0, 0, 0, 8, 0, 0x50, 0, 0xFF, 0, 0, 0])),
        ("nested 10,000 times", 1, with(&undefined(10_000))),
        ("65 times, one more than is allowed", 1, with(&undefined(65))),
        ("no data set at all", 1, Vec::new()),
        ("nothing but a header cut in two", 1, vec![8, 0, 0x16]),
        ("deflated, cut", 3, squeezed[..squeezed.len() / 2].to_vec()),
        ("deflated, other bytes", 3, squeezed.iter().map(|byte| byte ^ 0x55).collect()),
        ("deflated, a bomb", 3, bomb),
    ];
    for (number, (case, context_id, bytes)) in table.iter().enumerate() {
        let mut client = server.associate(implicit);
        client.pdu_size = 16_384;
        let stored = client.c_store(*context_id, CT_IMAGE_STORAGE, sop, bytes);
        let (status, comment) = stored.unwrap_or_else(|error| panic!("{case}: {error}"));
        let is_refused = status & 0xF000 == 0xC000 || status & 0xFF00 == 0xA900;
        assert!(is_refused, "{case}: {status:04X}H {comment:?}");
        assert_eq!(client.c_echo(5).expect("C-ECHO"), 0, "{case}");
        client.release().expect("release");
        // The same as an identifier.
        if *context_id == 1 {
            let mut client = server.associate(ALL);
            let found = client.c_find(FIND, bytes);
            let status = found
                .unwrap_or_else(|error| panic!("{case}: {error}"))
                .status;
            let is_refused = status & 0xF000 == 0xC000 || status & 0xFF00 == 0xA900;
            assert!(is_refused, "{case}, as an identifier: {status:04X}H");
            client.release().expect("release");
        }
        assert_others_are_served(&server, number as u32);
        before.assert_nothing_left(&server, case);
    }
    let grown = before.grown(&server);
    eprintln!("grown by {} KiB", grown / 1024);
    assert!(grown < 24 << 20, "{grown} bytes");
    let log = server.log_text();
    assert!(log.contains("limits.sequence_depth = 64"), "{log}");
    server.assert_alive();
}
