//! Promise: what is kept of a sequence comes back item by item, in either way of writing elements.

mod common;

use common::build::{CT_IMAGE_STORAGE, Tag, put};
use common::elements::{self, Syntax};
use common::images::{ALL, STORE};
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_FIND};
use common::{Client, Server};

const REQUEST: Tag = Tag(0x0040, 0x0275);
const STEP: Tag = Tag(0x0040, 0x0009);
const DESCRIPTION: Tag = Tag(0x0040, 0x0007);
const PROCEDURE: Tag = Tag(0x0040, 0x1001);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);

type Item<'a> = &'a [(Tag, &'a str, &'a [u8])];

fn sequence(syntax: Syntax, items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        let mut content = Vec::new();
        for (tag, vr, value) in *item {
            put(&mut content, syntax, *tag, vr, value);
        }
        out.extend(b"\xFE\xFF\0\xE0");
        out.extend((content.len() as u32).to_le_bytes());
        out.extend(content);
    }
    out
}

/// Series 1 was made for two steps, the first of them described in Japanese; series 2 for one, series 3 for none.
fn filled() -> Server {
    let server = Server::start();
    let mut client = server.associate(ALL);
    let first: Item = &[
        (DESCRIPTION, "LO", b"\x1B$B;3\x1B(B"),
        (STEP, "SH", b"S1"),
        (PROCEDURE, "SH", b"P1"),
    ];
    let second: Item = &[(STEP, "SH", b"S2"), (PROCEDURE, "SH", b"P1")];
    let other: Item = &[(STEP, "SH", b"S3"), (PROCEDURE, "SH", b"P3")];
    for (number, items) in [(1, vec![first, second]), (2, vec![other]), (3, Vec::new())] {
        let sop = format!("2.25.5.{number}.1");
        let series = format!("2.25.5.{number}");
        let mut data_set = Vec::new();
        for (tag, vr, value) in [
            (Tag(0x0008, 0x0005), "CS", &b"\\ISO 2022 IR 87"[..]),
            (Tag(0x0008, 0x0016), "UI", CT_IMAGE_STORAGE.as_bytes()),
            (Tag(0x0008, 0x0018), "UI", sop.as_bytes()),
            (STUDY, "UI", b"2.25.5"),
            (SERIES, "UI", series.as_bytes()),
            (REQUEST, "SQ", &sequence(Syntax::IMPLICIT_LITTLE, &items)),
        ] {
            put(&mut data_set, Syntax::IMPLICIT_LITTLE, tag, vr, value);
        }
        let (status, comment) = client
            .c_store(STORE, CT_IMAGE_STORAGE, &sop, &data_set)
            .expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("release");
    server
}

/// Series and items of each answer; of an item its tags and texts.
type Found = Vec<(String, Vec<Vec<(Tag, String)>>)>;

fn ask(client: &mut Client, id: u8, items: &[Item]) -> Found {
    ask_at("SERIES", client, id, items)
}

fn ask_at(level: &str, client: &mut Client, id: u8, items: &[Item]) -> Found {
    let syntax = Syntax::of(client.accepted(id).expect("the context"));
    let transfer_syntax = client.accepted(id).expect("the context").to_owned();
    let mut identifier = Vec::new();
    for (tag, vr, value) in [
        (Tag(0x0008, 0x0005), "CS", &b"ISO_IR 192"[..]),
        (Tag(0x0008, 0x0052), "CS", level.as_bytes()),
        (STUDY, "UI", b"2.25.5"),
        (SERIES, "UI", b""),
        (REQUEST, "SQ", &sequence(syntax, items)),
    ] {
        put(&mut identifier, syntax, tag, vr, value);
    }
    let found = client.c_find(id, &identifier).expect("C-FIND");
    assert_eq!(found.status, 0, "{:?}", found.comment);
    let mut all: Found = found
        .answers()
        .iter()
        .map(|answer| {
            let uid = elements::find(answer, 0x0020, 0x000E).unwrap_or_default();
            let mut rest = elements::raw(answer, 0x0040, 0x0275).expect("the sequence is answered");
            let mut items = Vec::new();
            while !rest.is_empty() {
                assert_eq!(rest[..4], *b"\xFE\xFF\0\xE0", "{uid}");
                let length = u32::from_le_bytes(rest[4..8].try_into().expect("four bytes"));
                let (item, behind) = rest[8..].split_at(length as usize);
                let values = elements::read(item, &transfer_syntax).expect("a well-formed item");
                items.push(
                    values
                        .into_iter()
                        .map(|(tag, value)| {
                            let text = String::from_utf8(value).expect("UTF-8 was asked for");
                            (tag, text.trim_end().to_owned())
                        })
                        .collect(),
                );
                rest = behind;
            }
            (uid, items)
        })
        .collect();
    all.sort();
    all
}

fn row(series: u8, items: &[&[(Tag, &str)]]) -> (String, Vec<Vec<(Tag, String)>>) {
    let texts = |item: &&[(Tag, &str)]| {
        let values = item.iter();
        values
            .map(|(tag, text)| (*tag, (*text).to_owned()))
            .collect()
    };
    (
        format!("2.25.5.{series}"),
        items.iter().map(texts).collect(),
    )
}

/// Method: the sequence asked whole, and by keys in its item, in explicit and implicit VR.
#[test]
fn every_kept_item_is_answered_with_what_was_asked() {
    let server = filled();
    let mut client = server.associate(&[
        (1, STUDY_ROOT_FIND, &[EXPLICIT_LITTLE]),
        (3, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE]),
    ]);
    for id in [1, 3] {
        let whole = [
            row(
                1,
                &[
                    &[(DESCRIPTION, "山"), (STEP, "S1"), (PROCEDURE, "P1")],
                    &[(STEP, "S2"), (PROCEDURE, "P1")],
                ],
            ),
            row(2, &[&[(STEP, "S3"), (PROCEDURE, "P3")]]),
            row(3, &[]),
        ];
        assert_eq!(ask(&mut client, id, &[]), whole, "no item");
        assert_eq!(ask(&mut client, id, &[&[]]), whole, "an empty item");
        let asked: Item = &[
            (DESCRIPTION, "LO", b""),
            (STEP, "SH", b""),
            (Tag(0x0040, 0x1002), "LO", b""),
        ];
        let some = [
            row(
                1,
                &[
                    &[(DESCRIPTION, "山"), (STEP, "S1"), (Tag(0x0040, 0x1002), "")],
                    &[(DESCRIPTION, ""), (STEP, "S2"), (Tag(0x0040, 0x1002), "")],
                ],
            ),
            row(
                2,
                &[&[(DESCRIPTION, ""), (STEP, "S3"), (Tag(0x0040, 0x1002), "")]],
            ),
            row(3, &[]),
        ];
        assert_eq!(ask(&mut client, id, &[asked]), some, "keys in the item");
    }
    client.release().expect("release");
}

/// Method: the sequence of the series, asked of their study.
#[test]
fn a_study_shows_the_items_of_its_series() {
    let server = filled();
    let mut client = server.associate(&[(1, STUDY_ROOT_FIND, &[EXPLICIT_LITTLE])]);
    let found = ask_at("STUDY", &mut client, 1, &[&[(STEP, "SH", b"")]]);
    assert_eq!(found.len(), 1);
    let mut steps: Vec<&str> = found[0].1.iter().map(|item| item[0].1.as_str()).collect();
    steps.sort_unstable();
    assert_eq!(steps, ["S1", "S2", "S3"]);
    client.release().expect("release");
}

/// Method: one key in the item, then two that only one item has together.
#[test]
fn a_key_in_an_item_selects() {
    let server = filled();
    let mut client = server.associate(&[(1, STUDY_ROOT_FIND, &[EXPLICIT_LITTLE])]);
    let rows: [(Item, &[&str]); 5] = [
        (&[(STEP, "SH", b"S2")], &["2.25.5.1"]),
        (
            &[(STEP, "SH", b"S?"), (PROCEDURE, "SH", b"P3")],
            &["2.25.5.2"],
        ),
        (&[(STEP, "SH", b"S1"), (PROCEDURE, "SH", b"P3")], &[]),
        (&[(DESCRIPTION, "LO", "山*".as_bytes())], &["2.25.5.1"]),
        (&[(STEP, "SH", b"")], &["2.25.5.1", "2.25.5.2", "2.25.5.3"]),
    ];
    for (item, expected) in rows {
        let found = ask(&mut client, 1, &[item]);
        let series: Vec<&str> = found.iter().map(|(uid, _)| uid.as_str()).collect();
        assert_eq!(series, expected, "{item:?}");
    }
    client.release().expect("release");
}
