//! Promise: a query is never a flood and never holds up anybody: it streams, it stops when it is not wanted any more.

mod common;

use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, ident};
use common::images::{ALL, FIND, Image, STORE, found, send_all};
use common::wire::C_FIND_RQ;
use common::{Server, Settings, elements};

const LEVEL: Tag = Tag(0x0008, 0x0052);
const NAME: Tag = Tag(0x0010, 0x0010);
const STUDY: Tag = Tag(0x0020, 0x000D);

/// How long a test waits for an end that should be a matter of a second.
const PATIENCE: Duration = Duration::from_secs(60);

fn with(extra: &str) -> Server {
    Server::with(Settings {
        extra: extra.to_owned(),
        ..Settings::default()
    })
}

fn store(server: &Server, studies: u32, name: &str) {
    let mut client = server.associate(ALL);
    for number in 0..studies {
        let study = format!("2.25.{number}");
        let series = format!("{study}.1");
        let sop = format!("{study}.1.1");
        let ct = Ct {
            patient_name: name,
            ..Ct::new(&study, &series, &sop)
        };
        let (status, comment) = client
            .c_store(STORE, CT_IMAGE_STORAGE, &sop, &ct.encode())
            .expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("release");
}

/// Threads of the server that serve an association.
fn association_threads(server: &Server) -> usize {
    let tasks = format!("/proc/{}/task", server.pid());
    let tasks = std::fs::read_dir(tasks).expect("threads of the server");
    tasks
        .flatten()
        .filter(|task| {
            let name = std::fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("association"))
        })
        .count()
}

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "{what} not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Studies enough that [`expensive`] takes minutes.
const STUDIES: u32 = 400;

/// Texts of a study of which the index has no table.
const TEXTS: [Tag; 8] = [
    Tag(0x0008, 0x1030),
    Tag(0x0008, 0x1080),
    Tag(0x0010, 0x2160),
    Tag(0x0010, 0x2180),
    Tag(0x0032, 0x1030),
    Tag(0x0032, 0x1033),
    Tag(0x0032, 0x1060),
    Tag(0x0038, 0x0300),
];

/// A query that compares much and finds nothing: many patterns that nearly match a long text, again and again, and in all
/// texts but the last one that does.
fn expensive() -> Vec<u8> {
    let nearly = vec![format!("*{}b", "a".repeat(400)); 150].join("\\");
    let at_last = format!("{nearly}\\a*");
    let mut keys = vec![(LEVEL, "CS", "STUDY"), (STUDY, "UI", "")];
    keys.extend(TEXTS.map(|tag| (tag, "LO", at_last.as_str())));
    keys.pop();
    keys.push((TEXTS[7], "LO", &nearly));
    ident(&keys)
}

/// A server with studies whose texts are long.
fn with_long_texts() -> Server {
    let server = Server::start();
    let mut client = server.associate(ALL);
    let text = "a".repeat(1_000);
    for number in 0..STUDIES {
        let sop = format!("2.25.{number}.1.1");
        let (study, series) = (format!("2.25.{number}"), format!("2.25.{number}.1"));
        let mut elements = vec![
            (Tag(0x0008, 0x0016), "UI", CT_IMAGE_STORAGE),
            (Tag(0x0008, 0x0018), "UI", &sop),
            (STUDY, "UI", &study),
            (Tag(0x0020, 0x000E), "UI", &series),
        ];
        elements.extend(TEXTS.map(|tag| (tag, "LO", text.as_str())));
        let data_set = ident(&elements);
        let (status, comment) = client
            .c_store(STORE, CT_IMAGE_STORAGE, &sop, &data_set)
            .expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("release");
    wait_until("the sender's end", || association_threads(&server) == 0);
    server
}

/// Method: a query that would look for minutes without finding anything, cancelled at once; then the next query.
#[test]
fn a_query_that_finds_nothing_can_be_cancelled() {
    let server = with_long_texts();
    let mut client = server.associate(ALL);
    let message_id = client
        .send_query(FIND, C_FIND_RQ, None, &expensive())
        .expect("C-FIND");
    client.c_cancel(FIND, message_id).expect("C-CANCEL");
    let found = client.find_responses(FIND).expect("the final response");
    assert_eq!((found.status, found.identifiers.len()), (0xFE00, 0));
    let all = ident(&[(LEVEL, "CS", "STUDY"), (STUDY, "UI", "")]);
    let found = client.c_find(FIND, &all).expect("C-FIND");
    assert_eq!(
        (found.status, found.identifiers.len()),
        (0, STUDIES as usize)
    );
    client.release().expect("release");
}

/// Method: the same query, and an abort, a closed connection and a release in the middle; the thread that worked is gone
/// long before it could have been through.
#[test]
fn a_query_ends_with_its_association() {
    let server = with_long_texts();
    for how in ["abort", "close", "release"] {
        let mut client = server.associate(ALL);
        client
            .send_query(FIND, C_FIND_RQ, None, &expensive())
            .expect("C-FIND");
        wait_until("a thread", || association_threads(&server) == 1);
        match how {
            "abort" => client.abort().expect("abort"),
            "close" => drop(client),
            _ => {
                std::io::Write::write_all(client.stream(), &[5, 0, 0, 0, 0, 4, 0, 0, 0, 0])
                    .expect("release");
                let found = client.find_responses(FIND).expect("the final response");
                assert_eq!(found.status, 0xFE00, "{how}");
            }
        }
        wait_until(how, || association_threads(&server) == 0);
    }
    assert_eq!(server.log_text().matches("association closed").count(), 4);
}

/// An identifier at IMAGE level with so many private keys that one answer is as large as some hundred.
fn flood() -> Vec<u8> {
    let mut keys = vec![(LEVEL, "CS", "IMAGE"), (Tag(0x0008, 0x0018), "UI", "")];
    for group in 0..8 {
        keys.extend((0..4_000).map(|at| (Tag(0x0009 + group * 2, 0x1000 + at), "UN", "")));
    }
    ident(&keys)
}

/// Method: far more answers than systems buffer, and nobody reads them.
#[test]
fn a_peer_that_does_not_read_its_answers_is_given_up() {
    let server = with("[limits]\nstall_seconds = 1\n");
    store(&server, 60, "TEST^FLOOD");
    wait_until("the sender's end", || association_threads(&server) == 0);
    let mut client = server.associate_narrow(ALL);
    client
        .send_query(FIND, C_FIND_RQ, None, &flood())
        .expect("C-FIND");
    wait_until("an end", || server.log_text().contains("while sending"));
    wait_until("the thread's end", || association_threads(&server) == 0);
    drop(client);
}

/// Method: as above, but with time to spare: while that query stands, others store and are found, and then it is read to
/// its end and shows what there was when it began.
#[test]
fn a_query_in_the_middle_holds_up_nobody_and_shows_one_moment() {
    let server = Server::start();
    store(&server, 60, "TEST^FLOOD");
    let mut slow = server.associate_narrow(ALL);
    slow.send_query(FIND, C_FIND_RQ, None, &flood())
        .expect("C-FIND");
    let first = slow.receive().expect("the first answer");
    assert_eq!(first.status(), 0xFF00);
    let image = Image::new(7, 1, 1_000);
    send_all(&server, std::slice::from_ref(&image));
    let sops = found(&server, &image.study);
    assert_eq!(sops, std::slice::from_ref(&image.sop));
    let rest = slow.find_responses(FIND).expect("the rest");
    assert_eq!((rest.status, rest.identifiers.len()), (0, 59));
    slow.release().expect("release");
}

/// Method: two senders store as fast as they can; meanwhile somebody counts, and every count is complete and none is less
/// than the one before.
#[test]
fn queries_are_answered_while_images_come() {
    let server = Server::start();
    let images = |study| (0..150).map(move |number| Image::new(study, number, 1_000));
    std::thread::scope(|scope| {
        let senders = [1, 2].map(|study| {
            let server = &server;
            scope.spawn(move || send_all(server, &images(study).collect::<Vec<_>>()))
        });
        let mut client = server.associate(ALL);
        let mut last = 0;
        let mut count_while_storing = 0;
        loop {
            let over = senders
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished);
            let keys = ident(&[
                (LEVEL, "CS", "STUDY"),
                (STUDY, "UI", "2.25.91\\2.25.92"),
                (Tag(0x0020, 0x1208), "IS", ""),
            ]);
            let found = client.c_find(FIND, &keys).expect("C-FIND");
            assert_eq!(found.status, 0, "{:?}", found.comment);
            let counts = found.answers().into_iter().map(|answer| {
                let count = elements::find(&answer, 0x0020, 0x1208).expect("a count");
                count.parse::<usize>().expect("a number")
            });
            let now = counts.sum();
            assert!(now >= last, "{now} after {last}");
            last = now;
            if over {
                break;
            }
            count_while_storing += 1;
        }
        assert_eq!(last, 300);
        assert!(count_while_storing > 0);
        client.release().expect("release");
    });
}

/// Method: a cap of three; four match, three match.
#[test]
fn a_cap_on_matches_is_said() {
    let server = with("[query]\nmatches_max = 3\n");
    store(&server, 4, "TEST^CAP");
    let mut client = server.associate(ALL);
    let all = ident(&[
        (LEVEL, "CS", "STUDY"),
        (NAME, "PN", "TEST*"),
        (STUDY, "UI", ""),
    ]);
    let found = client.c_find(FIND, &all).expect("C-FIND");
    assert_eq!((found.status, found.identifiers.len()), (0xA700, 3));
    let comment = found.comment.expect("a comment");
    assert!(comment.contains("more than 3 matches"), "{comment}");
    let some = ident(&[
        (LEVEL, "CS", "STUDY"),
        (STUDY, "UI", "2.25.1\\2.25.2\\2.25.3"),
    ]);
    let found = client.c_find(FIND, &some).expect("C-FIND");
    assert_eq!((found.status, found.identifiers.len()), (0, 3));
    client.release().expect("release");
}
