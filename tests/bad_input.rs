//! Data sets and bytes that nobody should send: each is answered, kept aside, and harms nobody else.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::build::{self, CT_IMAGE_STORAGE, Ct, Tag, by_uids, put};
use common::elements::Syntax;
use common::wire::{
    EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, VERIFICATION, associate_rq,
};
use common::{Client, Server, files};

const STORE: &[(u8, &str, &[&str])] = &[
    (1, CT_IMAGE_STORAGE, &[EXPLICIT_LITTLE]),
    (3, VERIFICATION, &[IMPLICIT_LITTLE]),
];

/// Error, "cannot understand" or "does not match SOP class" (PS3.4 B.2.3): not to be sent again as it is.
fn refused(status: u16) -> bool {
    status & 0xF000 == 0xC000 || status & 0xFF00 == 0xA900
}

fn plain(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// An association opened before the harm is done, and what must still hold after it.
struct Bystander(Client);

impl Bystander {
    fn of(server: &Server) -> Bystander {
        Bystander(server.associate(STORE))
    }

    fn assert_unharmed(mut self, server: &mut Server) {
        assert_eq!(self.0.c_echo(3).expect("echo beside"), 0);
        let bytes = build::synthetic_ct("2.25.71", "2.25.72", "2.25.73", 1, 4_000, true);
        let stored = self.0.c_store(1, CT_IMAGE_STORAGE, "2.25.73", &bytes);
        assert_eq!(stored.expect("store beside").0, 0);
        self.0.release().expect("release");
        server.assert_alive();
    }
}

/// The entries of the quarantine as `kura status --json` lists them.
fn quarantine(server: &Server) -> Vec<String> {
    let status = server.kura_json(&["status"]);
    let entries = status["quarantine"].as_array();
    let entries = entries.unwrap_or_else(|| panic!("no quarantine in {status}"));
    entries.iter().map(ToString::to_string).collect()
}

/// Method: files without a UID; the answer and the quarantine name the attribute.
#[test]
fn an_instance_without_its_uids_is_refused_by_name_and_kept_aside() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    for (name, attribute) in [
        ("no-study-uid", "StudyInstanceUID"),
        ("empty-series-uid", "SeriesInstanceUID"),
        ("no-sop-uid", "SOPInstanceUID"),
    ] {
        let before = quarantine(&server).len();
        let file = files::load(&format!("bad/{name}.dcm"));
        let mut client = server.associate(STORE);
        let (status, comment) = client
            .c_store(
                1,
                CT_IMAGE_STORAGE,
                &file.media_sop_instance_uid,
                &file.data_set,
            )
            .expect("an answer");
        assert_eq!(status & 0xF000, 0xC000, "{name}: {status:04X}H {comment:?}");
        let comment = comment.expect("an error comment");
        assert!(comment.len() <= 64, "LO: {comment}");
        assert!(
            plain(&comment).contains(&plain(attribute)),
            "{name}: {comment}"
        );
        // The association goes on.
        assert_eq!(client.c_echo(3).expect("echo"), 0);
        client.release().expect("release");
        let after = quarantine(&server);
        assert_eq!(after.len(), before + 1, "{name}");
        assert!(
            after
                .iter()
                .any(|entry| plain(entry).contains(&plain(attribute))),
            "{name}: {after:?}"
        );
    }
    bystander.assert_unharmed(&mut server);
}

/// Method: the command names one SOP Instance UID, the data set another.
#[test]
fn a_uid_other_than_the_commands_is_a900() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let bytes = build::synthetic_ct("2.25.81", "2.25.82", "2.25.83", 1, 1_000, true);
    let mut client = server.associate(STORE);
    let (status, _) = client
        .c_store(1, CT_IMAGE_STORAGE, "2.25.84", &bytes)
        .expect("an answer");
    assert_eq!(status, 0xA900);
    assert_eq!(client.c_echo(3).expect("echo"), 0);
    let mut finder = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
    let found = finder
        .c_find(1, &by_uids("STUDY", "2.25.81", None, None))
        .expect("C-FIND");
    assert!(found.identifiers.is_empty());
    bystander.assert_unharmed(&mut server);
}

/// Method: every file of `testdata/bad`, each on its own association.
#[test]
fn a_broken_data_set_is_refused_and_the_server_stays_up() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let folder = files::testdata().join("bad");
    let paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("testdata/bad")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(paths.len() >= 10, "{}", paths.len());
    for path in paths {
        let file = common::Part10::read(&path).expect("Part-10");
        let name = file.name();
        let mut client = server.associate(STORE);
        let stored = client.c_store(
            1,
            CT_IMAGE_STORAGE,
            &file.media_sop_instance_uid,
            &file.data_set,
        );
        let (status, comment) = stored.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(refused(status), "{name}: {status:04X}H {comment:?}");
        assert_eq!(client.c_echo(3).expect("echo"), 0, "{name}");
    }
    bystander.assert_unharmed(&mut server);
}

/// Method: 100,000 sequences in one another (2 MB), of undefined and of zero inner length.
#[test]
fn a_hundred_thousand_nested_sequences_are_refused() {
    const DEPTH: usize = 100_000;
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let undefined = |out: &mut Vec<u8>| {
        out.extend([0x08, 0x00, 0x40, 0x11]);
        out.extend(b"SQ\0\0\xFF\xFF\xFF\xFF");
        out.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    };
    for close in [true, false] {
        let mut bytes = Vec::new();
        for (element, uid) in [(0x0016, CT_IMAGE_STORAGE), (0x0018, "2.25.91")] {
            let tag = Tag(0x0008, element);
            put(
                &mut bytes,
                Syntax::EXPLICIT_LITTLE,
                tag,
                "UI",
                uid.as_bytes(),
            );
        }
        for _ in 0..DEPTH {
            undefined(&mut bytes);
        }
        if close {
            for _ in 0..DEPTH {
                bytes.extend([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0]);
                bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
            }
        }
        let tail = build::synthetic_ct("2.25.92", "2.25.93", "2.25.91", 1, 100, true);
        bytes.extend(tail);
        let mut client = server.associate(STORE);
        let (status, _) = client
            .c_store(1, CT_IMAGE_STORAGE, "2.25.91", &bytes)
            .expect("an answer");
        assert!(refused(status), "{status:04X}H");
    }
    bystander.assert_unharmed(&mut server);
}

/// Method: a good data set cut at each of many places, sent as if it were whole.
#[test]
fn a_data_set_cut_anywhere_is_refused() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let whole = Ct {
        explicit: true,
        pixel_bytes: 64,
        ..Ct::new("2.25.101", "2.25.102", "2.25.103")
    }
    .encode();
    // Cut before the pixel data at an element's end it is a whole (if poor) data set: look only at other places.
    let mut ends = vec![0];
    let mut at = 0;
    while at < whole.len() {
        let header = common::elements::header(&whole, at, Syntax::EXPLICIT_LITTLE);
        let header = header.expect("an element");
        at = header.value + header.length as usize;
        ends.push(at);
    }
    let mut client = server.associate(STORE);
    for cut in (1..whole.len())
        .filter(|cut| !ends.contains(cut))
        .step_by(3)
    {
        let (status, _) = client
            .c_store(1, CT_IMAGE_STORAGE, "2.25.103", &whole[..cut])
            .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert!(refused(status), "cut at {cut}: {status:04X}H");
    }
    let (status, _) = client
        .c_store(1, CT_IMAGE_STORAGE, "2.25.103", &whole)
        .expect("an answer");
    assert_eq!(status, 0);
    bystander.assert_unharmed(&mut server);
}

/// Method: the sender goes away in the middle of a data set, politely and not; nothing of it is found or left behind.
#[test]
fn a_sender_that_goes_away_leaves_nothing() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let bytes = build::synthetic_ct("2.25.111", "2.25.112", "2.25.113", 1, 300_000, true);
    for politely in [true, false] {
        let mut client = server.associate(STORE);
        client
            .begin_store(1, CT_IMAGE_STORAGE, "2.25.113")
            .expect("command");
        client
            .send_fragment(1, false, &bytes[..200_000], false)
            .expect("a part");
        if politely {
            client.abort().expect("abort");
        }
    }
    let incoming = server.volume("A").join("incoming");
    let start = Instant::now();
    while std::fs::read_dir(&incoming).is_ok_and(|mut entries| entries.next().is_some()) {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "leftovers in {}",
            incoming.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut finder = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
    let found = finder
        .c_find(1, &by_uids("STUDY", "2.25.111", None, None))
        .expect("C-FIND");
    assert!(found.identifiers.is_empty());
    bystander.assert_unharmed(&mut server);
}

/// Method: a C-MOVE to an AE title that `kura.toml` does not know.
#[test]
fn an_unknown_move_destination_is_a801_and_named() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let moved = client
        .c_move(1, "NOWHERE", &by_uids("STUDY", "2.25.1", None, None))
        .expect("an answer");
    assert_eq!(moved.status, 0xA801);
    let comment = moved.comment.expect("an error comment");
    assert!(comment.contains("NOWHERE"), "{comment}");
    assert!(comment.len() <= 64, "LO: {comment}");
    bystander.assert_unharmed(&mut server);
}

/// True when the peer ends the connection within some seconds.
fn ends(stream: &mut TcpStream) -> bool {
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("read timeout");
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Method: bytes that are no DICOM, PDUs that lie about their length, PDUs out of turn.
#[test]
fn a_broken_protocol_ends_that_connection_only() {
    let mut server = Server::start();
    let bystander = Bystander::of(&server);
    let good = associate_rq("TESTER", "KURA", STORE, 16_384, &[]);
    let mut cut_item = good.clone();
    cut_item[76..78].copy_from_slice(&[0xFF, 0xFF]);
    for (what, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: kura\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        (
            "a 4 GiB A-ASSOCIATE-RQ",
            vec![1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1],
        ),
        (
            "data before negotiation",
            vec![4, 0, 0, 0, 0, 4, 0, 0, 0, 0],
        ),
        (
            "release before negotiation",
            vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0],
        ),
        ("an item longer than its PDU", cut_item),
    ] {
        let mut stream = TcpStream::connect(server.address()).expect("connect");
        let _ = stream.write_all(&bytes);
        assert!(ends(&mut stream), "{what}");
        server.assert_alive();
    }
    for (what, bytes) in [
        (
            "a 4 GiB P-DATA-TF",
            vec![4, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 8, 1, 0],
        ),
        (
            "a PDV longer than its PDU",
            vec![4, 0, 0, 0, 0, 8, 0, 0, 0xFF, 0, 1, 0, 0, 0],
        ),
        ("a PDV of length 0", vec![4, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
        (
            "a context that is not there",
            common::wire::pdv(99, true, true, &[0; 20]),
        ),
        (
            "data without a command",
            common::wire::pdv(1, false, true, &[0; 20]),
        ),
        (
            "a command that is none",
            common::wire::pdv(1, true, true, &[0xFF; 40]),
        ),
        ("an unknown PDU", vec![0x55, 0, 0, 0, 0, 2, 0, 0]),
    ] {
        let mut client = server.associate(STORE);
        let _ = client.stream().write_all(&bytes);
        assert!(ends(client.stream()), "{what}");
        server.assert_alive();
    }
    bystander.assert_unharmed(&mut server);
}

/// Method: contexts that no archive serves are refused one by one, beside those it does.
#[test]
fn a_context_that_is_not_served_is_refused_alone() {
    let server = Server::start();
    let worklist = "1.2.840.10008.5.1.4.31";
    let client = server.associate(&[
        (1, worklist, &[IMPLICIT_LITTLE]),
        (3, VERIFICATION, &[IMPLICIT_LITTLE]),
        (5, STUDY_ROOT_FIND, &["1.2.840.10008.1.2.4.70"]),
        (7, CT_IMAGE_STORAGE, &["1.2.3.4.5"]),
    ]);
    let results: Vec<_> = [1, 3, 5, 7].map(|id| client.accepted(id).is_some()).into();
    assert_eq!(results, [false, true, false, true]);
    // 3 = abstract syntax not supported, 4 = transfer syntaxes not supported.
    let reason = |id| client.contexts().iter().find(|one| one.id == id);
    assert_eq!(reason(1).map(|one| one.result), Some(3));
    assert_eq!(reason(5).map(|one| one.result), Some(4));
}
