//! Promise: what a requestor negotiates for queries is answered with what is done (PS3.4 C.5, PS3.7 D.3.3.5).

mod common;

use common::build::{Ct, Tag, ident};
use common::images::{ALL, STORE};
use common::tools::{peer_script, run};
use common::wire::{
    IMPLICIT_LITTLE, PATIENT_ROOT_FIND, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE,
    associate_rq, item, with_user_items,
};
use common::{Client, Server, Settings, build, elements};

const FIND: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])];

/// One study of SMITH^JOHN.
fn fill(server: &Server) {
    let mut client = server.associate(ALL);
    let ct = Ct {
        patient_name: "SMITH^JOHN",
        ..Ct::new("2.25.1", "2.25.1.1", "2.25.1.1.1")
    };
    let (status, comment) = client
        .c_store(STORE, build::CT_IMAGE_STORAGE, ct.sop, &ct.encode())
        .expect("C-STORE");
    assert_eq!(status, 0, "{comment:?}");
    client.release().expect("release");
}

/// What is proposed for which classes, and what comes back.
#[test]
fn each_class_is_answered_byte_by_byte_and_others_are_not() {
    let server = Server::start();
    let contexts: &[(u8, &str, &[&str])] = &[
        (1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE]),
        (3, PATIENT_ROOT_FIND, &[IMPLICIT_LITTLE]),
        (5, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE]),
        (7, STUDY_ROOT_GET, &[IMPLICIT_LITTLE]),
    ];
    let client = Client::associate_extended(
        server.address(),
        "TESTER",
        "KURA",
        contexts,
        &[
            (STUDY_ROOT_FIND, &[1, 1, 1, 1]),
            (PATIENT_ROOT_FIND, &[0]),
            (STUDY_ROOT_MOVE, &[1, 1]),
            (STUDY_ROOT_GET, &[]),
            (build::CT_IMAGE_STORAGE, &[2, 0, 3, 0, 1, 0]),
        ],
    )
    .expect("association");
    let answered: Vec<(&str, &[u8])> = client
        .extended
        .iter()
        .map(|(uid, information)| (uid.as_str(), information.as_slice()))
        .collect();
    let expected: [(&str, &[u8]); 4] = [
        (STUDY_ROOT_FIND, &[1, 1, 1, 0]),
        (PATIENT_ROOT_FIND, &[1]),
        (STUDY_ROOT_MOVE, &[1, 0]),
        (STUDY_ROOT_GET, &[]),
    ];
    assert_eq!(answered, expected);
    client.release().expect("release");
}

/// How many studies are found by the name's parts in the other order.
fn by_parts_in_other_order(client: &mut Client) -> usize {
    let identifier = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0010, 0x0010), "PN", "john smith"),
        (Tag(0x0020, 0x000D), "UI", ""),
    ]);
    let found = client.c_find(1, &identifier).expect("C-FIND");
    assert_eq!(found.status, 0, "{:?}", found.comment);
    found.identifiers.len()
}

/// Method: the same query without negotiation, with it, and from a peer that is set up for it.
#[test]
fn fuzzy_names_are_matched_where_they_were_asked_for_or_set_up() {
    let server = Server::with(Settings {
        extra:
            "[[peer]]\nae_title = \"READER\"\nhost = \"127.0.0.1\"\nport = 1\nfuzzy_names = true\n"
                .to_owned(),
        ..Settings::default()
    });
    fill(&server);
    let ask = |calling: &str, extended: &[(&str, &[u8])]| {
        let address = server.address();
        let mut client = Client::associate_extended(address, calling, "KURA", FIND, extended)
            .expect("association");
        let count = by_parts_in_other_order(&mut client);
        client.release().expect("release");
        count
    };
    assert_eq!(ask("TESTER", &[]), 0);
    assert_eq!(ask("TESTER", &[(STUDY_ROOT_FIND, &[1, 0, 0])]), 0);
    assert_eq!(ask("TESTER", &[(PATIENT_ROOT_FIND, &[1, 0, 1])]), 0);
    assert_eq!(ask("TESTER", &[(STUDY_ROOT_FIND, &[1, 0, 1])]), 1);
    assert_eq!(ask("reader", &[]), 1);
}

/// Method: pynetdicom proposes and prints what was accepted.
#[test]
fn pynetdicom_reads_the_answer() {
    let Some(mut script) = peer_script("extended.py") else {
        return;
    };
    let server = Server::start();
    fill(&server);
    let outcome = run(script.args(["--port", &server.port().to_string()]));
    assert!(outcome.success(), "{}", outcome.text());
    let seen: serde_json::Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
    assert_eq!(
        seen,
        serde_json::json!({
            "accepted": {STUDY_ROOT_FIND: "01000100", STUDY_ROOT_MOVE: "01"},
            "found": 1,
        })
    );
}

/// What stands in an extended negotiation item, and whether the association is accepted all the same.
#[test]
fn items_with_impossible_lengths_end_the_association_and_nothing_else() {
    let mut server = Server::start();
    fill(&server);
    let long_uid = [&[0xFF, 0xF0][..], STUDY_ROOT_FIND.as_bytes()].concat();
    let long_information = [
        &(STUDY_ROOT_FIND.len() as u16).to_be_bytes()[..],
        STUDY_ROOT_FIND.as_bytes(),
        &[1; 60_000],
    ]
    .concat();
    let cases: [(&str, &[u8], bool); 6] = [
        ("nothing", &[], true),
        ("half a length", &[0], true),
        ("no UID", &[0, 0], true),
        ("a UID that is not there", &[0, 5], false),
        ("a UID longer than the item", &long_uid, false),
        ("sixty thousand questions", &long_information, true),
    ];
    for (what, value, accepted) in cases {
        let mut items = Vec::new();
        item(&mut items, 0x56, value);
        let request = with_user_items(associate_rq("TESTER", "KURA", FIND, 16_384, &[]), &items);
        let stream = std::net::TcpStream::connect(server.address()).expect("connection");
        let client = Client::begin(stream, &request, FIND);
        assert_eq!(client.is_ok(), accepted, "{what}: {:?}", client.err());
    }
    // Nearly as many items as the user information holds.
    let mut items = Vec::new();
    for number in 0..3_000 {
        let uid = format!("1.2.{number}");
        let mut value = (uid.len() as u16).to_be_bytes().to_vec();
        value.extend(uid.as_bytes());
        item(&mut items, 0x56, &value);
    }
    let request = with_user_items(associate_rq("TESTER", "KURA", FIND, 16_384, &[]), &items);
    let stream = std::net::TcpStream::connect(server.address()).expect("connection");
    let mut client = Client::begin(stream, &request, FIND).expect("association");
    assert!(client.extended.is_empty());
    let all = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0020, 0x000D), "UI", ""),
    ]);
    let found = client.c_find(1, &all).expect("C-FIND");
    let uid = elements::find(&found.answers()[0], 0x0020, 0x000D);
    assert_eq!(uid.as_deref(), Some("2.25.1"));
    client.release().expect("release");
    server.assert_alive();
}
