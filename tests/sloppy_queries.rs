//! Promise: queries as programs really write them are answered as they are meant, or refused in words.

mod common;

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, put};
use common::elements::{self, Syntax};
use common::images::{ALL, STORE};
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, PATIENT_ROOT_FIND, STUDY_ROOT_FIND};
use common::{Client, Server, Settings};

const LEVEL: Tag = Tag(0x0008, 0x0052);
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const DATE: Tag = Tag(0x0008, 0x0020);
const TIME: Tag = Tag(0x0008, 0x0030);
const MODALITY: Tag = Tag(0x0008, 0x0060);
const NAME: Tag = Tag(0x0010, 0x0010);
const ID: Tag = Tag(0x0010, 0x0020);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const SOP: Tag = Tag(0x0008, 0x0018);

/// Two studies: ONE has two images and one image in two series, TWO has one image. All are CT.
const ONE: &str = "2.25.100";
const TWO: &str = "2.25.200";

fn filled(settings: Settings) -> Server {
    let server = Server::with(settings);
    let mut client = Client::associate(server.address(), "ct 1", "kura", ALL).expect("association");
    for (study, series, sop, date) in [
        (ONE, "2.25.100.1", "2.25.100.1.1", "20260115"),
        (ONE, "2.25.100.1", "2.25.100.1.2", "20260115"),
        (ONE, "2.25.100.2", "2.25.100.2.1", "20260115"),
        (TWO, "2.25.200.1", "2.25.200.1.1", "20251231"),
    ] {
        let id = format!("ID-{study}");
        let ct = Ct {
            patient_id: &id,
            study_date: date,
            ..Ct::new(study, series, sop)
        };
        let (status, comment) = client
            .c_store(STORE, CT_IMAGE_STORAGE, sop, &ct.encode())
            .expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("release");
    server
}

/// Elements in the order given, without padding to even length.
fn verbatim(elements: &[(Tag, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, value) in elements {
        out.extend(tag.0.to_le_bytes());
        out.extend(tag.1.to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend(*value);
    }
    out
}

/// Each key of the identifier that is neither about the query nor below group 8.
fn asked(identifier: &[u8]) -> Vec<Tag> {
    let elements = elements::elements(identifier);
    let tags = elements.into_iter().map(|(tag, _)| tag);
    tags.filter(|tag| tag.0 >= 8 && tag.1 != 0).collect()
}

/// What is odd, the level's value and the other elements, and how many match.
#[test]
fn every_habit_is_answered_as_it_is_meant() {
    type Row<'a> = (&'a str, &'a [u8], &'a [(Tag, &'a [u8])], usize);
    let rows: &[Row] = &[
        ("nothing but the level", b"STUDY ", &[], 2),
        (
            "every key blank",
            b"STUDY ",
            &[(NAME, b""), (ID, b""), (STUDY, b"")],
            2,
        ),
        (
            "a star in each key",
            b"STUDY ",
            &[(DATE, b"* "), (NAME, b"* "), (ID, b"**"), (STUDY, b"* ")],
            2,
        ),
        (
            "images by the study alone",
            b"IMAGE ",
            &[(SOP, b""), (STUDY, ONE.as_bytes()), (SERIES, b"")],
            3,
        ),
        (
            "images by the series alone",
            b"IMAGE ",
            &[(SOP, b""), (SERIES, b"2.25.100.1")],
            2,
        ),
        (
            "an image by itself",
            b"IMAGE ",
            &[(SOP, b"2.25.100.1.2"), (STUDY, b""), (SERIES, b"")],
            1,
        ),
        ("all images there are", b"IMAGE ", &[(SOP, b"")], 4),
        (
            "images by the patient",
            b"IMAGE ",
            &[(SOP, b""), (ID, b"ID-2.25.200 ")],
            1,
        ),
        (
            "series by the study alone",
            b"SERIES",
            &[(STUDY, ONE.as_bytes()), (SERIES, b"")],
            2,
        ),
        (
            "series by the patient",
            b"SERIES",
            &[(ID, b"ID-2.25.100 "), (SERIES, b"")],
            2,
        ),
        ("series without anything", b"SERIES", &[(SERIES, b"")], 3),
        (
            "study of a series",
            b"STUDY ",
            &[(STUDY, b""), (SERIES, b"2.25.200.1")],
            1,
        ),
        (
            "study of an image",
            b"STUDY ",
            &[(SOP, b"2.25.100.2.1"), (STUDY, b"")],
            1,
        ),
        (
            "modality of a study",
            b"STUDY ",
            &[(MODALITY, b"CT"), (STUDY, b"")],
            2,
        ),
        (
            "modalities of a study",
            b"STUDY ",
            &[(MODALITY, b"MR\\US "), (STUDY, b"")],
            0,
        ),
        (
            "group lengths, and wrong ones",
            b"STUDY ",
            &[
                (Tag(0x0008, 0), &[9, 9, 9, 9]),
                (Tag(0x0010, 0), &[0; 4]),
                (ID, b""),
            ],
            2,
        ),
        (
            "a file meta in front",
            b"STUDY ",
            &[
                (Tag(0x0002, 0x0010), b"1.2.840.10008.1.2\0"),
                (Tag(0x0002, 0x0016), b"HOROS "),
                (ID, b""),
            ],
            2,
        ),
        (
            "groups below 8",
            b"STUDY ",
            &[
                (Tag(0x0001, 0x0010), b"ODD "),
                (Tag(0x0004, 0x1220), b""),
                (Tag(0x0005, 1), b"\0\0"),
                (ID, b""),
            ],
            2,
        ),
        (
            "private keys",
            b"STUDY ",
            &[
                (Tag(0x0009, 0x0010), b"ACME 1.0"),
                (Tag(0x0009, 0x1001), b"shift 3 "),
                (Tag(0x0021, 0x1001), b""),
                (ID, b""),
            ],
            2,
        ),
        (
            "keys of no dictionary",
            b"STUDY ",
            &[(Tag(0x0008, 0xFFF0), b"what"), (Tag(0x4444, 0x0001), b"")],
            2,
        ),
        (
            "keys of other services",
            b"STUDY ",
            &[
                (Tag(0x0040, 0x0100), b""),
                (Tag(0x0040, 0xA043), b""),
                (Tag(0x0040, 0xA730), b""),
            ],
            2,
        ),
        (
            "pixels and large things",
            b"IMAGE ",
            &[
                (SOP, b"2.25.100.1.2"),
                (Tag(0x0028, 0x0010), b""),
                (Tag(0x7FE0, 0x0010), b""),
            ],
            1,
        ),
        (
            "counts with a value",
            b"STUDY ",
            &[(STUDY, b""), (Tag(0x0020, 0x1208), b"7 ")],
            2,
        ),
        (
            "the same key twice",
            b"STUDY ",
            &[(ID, b"ID-2.25.100 "), (ID, b"ID-2.25.200 ")],
            1,
        ),
        (
            "who may retrieve it, asked as a key",
            b"STUDY ",
            &[
                (Tag(0x0008, 0x0054), b"HOROS "),
                (Tag(0x0008, 0x0056), b"NEARLINE"),
            ],
            2,
        ),
        (
            "no character set in it",
            b"STUDY ",
            &[(CHARACTER_SET, b""), (NAME, b"TEST^*")],
            2,
        ),
        (
            "an unknown character set",
            b"STUDY ",
            &[(CHARACTER_SET, b"ISO_IR_99 "), (NAME, b"test* ")],
            2,
        ),
        (
            "a UID with a space",
            b"STUDY ",
            &[(STUDY, b"2.25.100  ")],
            1,
        ),
        (
            "a UID with two NULs",
            b"STUDY ",
            &[(STUDY, b"2.25.100\0\0")],
            1,
        ),
        (
            "a UID of odd length",
            b"STUDY ",
            &[(STUDY, b"2.25.100.1")],
            0,
        ),
        ("an odd length", b"STUDY ", &[(ID, b"ID-2.25.100")], 1),
        (
            "a list that ends in nothing",
            b"STUDY ",
            &[(STUDY, b"2.25.100\\")],
            1,
        ),
        (
            "a list of the same",
            b"STUDY ",
            &[(STUDY, b"2.25.100\\2.25.100\\2.25.1 ")],
            1,
        ),
        (
            "a name with NULs",
            b"STUDY ",
            &[(NAME, b"TEST^SYNTHETIC\0\0")],
            2,
        ),
        (
            "a name with spaces in front",
            b"STUDY ",
            &[(NAME, b"  test^synthetic")],
            2,
        ),
        (
            "a name with all its carets",
            b"STUDY ",
            &[(NAME, b"TEST^SYNTHETIC^^^ ")],
            2,
        ),
        ("an ID in spaces", b"STUDY ", &[(ID, b"  ID-2.25.200 ")], 1),
        (
            "an ID in small letters",
            b"STUDY ",
            &[(ID, b"id-2.25.200 ")],
            1,
        ),
        (
            "one day twice",
            b"STUDY ",
            &[(DATE, b"20260115-20260115 ")],
            1,
        ),
        ("a date with dots", b"STUDY ", &[(DATE, b"2026.01.15")], 1),
        ("a month", b"STUDY ", &[(DATE, b"202601")], 1),
        (
            "a range in spaces",
            b"STUDY ",
            &[(DATE, b" 20251201 - 20251231 ")],
            1,
        ),
        ("an open range", b"STUDY ", &[(DATE, b"20260101-")], 1),
        ("a time with colons", b"STUDY ", &[(TIME, b"10:15:00")], 2),
        ("the level in small letters", b"study ", &[(ID, b"")], 2),
        ("the level as a word", b"Study", &[(ID, b"")], 2),
        ("the level after a space", b" STUDY", &[(ID, b"")], 2),
        ("the level with NULs", b"SERIES\0\0", &[(SERIES, b"")], 3),
        (
            "the level under its other name",
            b"INSTANCE",
            &[(SOP, b"")],
            4,
        ),
    ];
    let server = filled(Settings::default());
    let mut client = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
    for (what, level, others, expected) in rows {
        for level_is_last in [false, true] {
            let mut all = others.to_vec();
            match level_is_last {
                true => all.push((LEVEL, level)),
                false => {
                    all.push((LEVEL, level));
                    all.sort_by_key(|(tag, _)| *tag);
                }
            }
            let identifier = verbatim(&all);
            let found = client.c_find(1, &identifier).expect("C-FIND");
            assert_eq!(found.status, 0, "{what}: {:?}", found.comment);
            let answers = found.answers();
            assert_eq!(answers.len(), *expected, "{what}");
            for answer in answers {
                let tags: Vec<Tag> = answer.iter().map(|(tag, _)| *tag).collect();
                assert!(tags.is_sorted_by(|a, b| a < b), "{what}: {tags:04X?}");
                assert!(tags.contains(&CHARACTER_SET), "{what}");
                assert!(
                    tags.iter().all(|tag| tag.0 >= 8 && tag.1 != 0),
                    "{what}: {tags:04X?}"
                );
                for tag in asked(&identifier) {
                    assert!(tags.contains(&tag), "{what}: {tag:04X?} is not answered");
                }
                let unknown = |tag: &Tag| tag.0 % 2 == 1 || tag.0 == 0x4444 || tag.1 == 0xFFF0;
                let mut values = answer.iter().filter(|(tag, _)| unknown(tag));
                assert!(values.all(|(_, value)| value.is_empty()), "{what}");
            }
        }
    }
    client.release().expect("release");
}

/// What is wrong, the identifier, and a word of the comment.
#[test]
fn what_has_no_meaning_is_refused_in_words_and_the_association_goes_on() {
    let long_list = ["2.25.12345678901234567890"; 4_000].join("\\");
    let many = vec![(Tag(0x0009, 0x1001), &b"private "[..]); 50_000];
    let rows: &[(&str, Vec<u8>, u16, &str)] = &[
        (
            "nothing at all",
            Vec::new(),
            0xA900,
            "no Query/Retrieve Level (0008,0052)",
        ),
        (
            "no level",
            verbatim(&[(ID, b"")]),
            0xA900,
            "no Query/Retrieve Level (0008,0052)",
        ),
        (
            "an empty level",
            verbatim(&[(LEVEL, b"  "), (ID, b"")]),
            0xA900,
            "no Query/Retrieve Level",
        ),
        (
            "no such level",
            verbatim(&[(LEVEL, b"EXAM"), (ID, b"")]),
            0xA900,
            "\"EXAM\" is not PATIENT, STUDY, SERIES or IMAGE",
        ),
        (
            "a level that goes on",
            verbatim(&[(LEVEL, &[b'A'; 5_000]), (ID, b"")]),
            0xA900,
            "is not PATIENT, STUDY, SERIES or IMAGE",
        ),
        (
            "a level of the other model",
            verbatim(&[(LEVEL, b"PATIENT "), (ID, b"")]),
            0xA900,
            "no PATIENT level",
        ),
        (
            "half an element",
            verbatim(&[(LEVEL, b"STUDY ")])[..10].to_vec(),
            0xC000,
            "ends at byte 10",
        ),
        (
            "a length beyond the end",
            [
                &verbatim(&[(LEVEL, b"STUDY ")])[..],
                b"\x10\0\x20\0\xFF\0\0\0",
            ]
            .concat(),
            0xC000,
            "ends at byte",
        ),
        (
            "a list that is too long",
            verbatim(&[(LEVEL, b"STUDY "), (STUDY, long_list.as_bytes())]),
            0xC000,
            "longer than 64 KiB",
        ),
        (
            "an identifier that is too long",
            verbatim(&many),
            0xC000,
            "larger than 512 KiB",
        ),
    ];
    let server = filled(Settings::default());
    let mut client = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
    for (what, identifier, status, word) in rows {
        let found = client.c_find(1, identifier).expect("C-FIND");
        let comment = found.comment.unwrap_or_default();
        assert_eq!(found.status, *status, "{what}: {comment}");
        assert!(comment.contains(word), "{what}: {comment}");
        assert!(found.identifiers.is_empty(), "{what}");
        let found = client
            .c_find(1, &verbatim(&[(LEVEL, b"STUDY ")]))
            .expect("C-FIND");
        assert_eq!(
            (found.status, found.identifiers.len()),
            (0, 2),
            "after {what}"
        );
    }
    client.release().expect("release");
}

/// Method: explicit VR, each key under a VR that is not its own, sequences with and without a length.
#[test]
fn a_wrong_vr_is_read_as_the_right_one() {
    let server = filled(Settings::default());
    let mut client = server.associate(&[(1, PATIENT_ROOT_FIND, &[EXPLICIT_LITTLE])]);
    let explicit = |elements: &[(Tag, &str, &[u8])]| {
        let mut out = Vec::new();
        for (tag, vr, value) in elements {
            put(&mut out, Syntax::EXPLICIT_LITTLE, *tag, vr, value);
        }
        out
    };
    // A sequence of undefined length with an empty item.
    let open =
        b"\x40\0\x75\x02SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
    let identifier = explicit(&[
        (LEVEL, "LO", b"STUDY"),
        (DATE, "LO", b"20260115"),
        (NAME, "UN", b"TEST*"),
        (ID, "SH", b"ID-*"),
        (STUDY, "LO", b"2.25.100"),
        (Tag(0x0040, 0x0260), "UN", b""),
    ]);
    for identifier in [identifier.clone(), [&identifier[..], open].concat()] {
        let found = client.c_find(1, &identifier).expect("C-FIND");
        assert_eq!(found.status, 0, "{:?}", found.comment);
        assert_eq!(found.identifiers.len(), 1);
        for (tag, vr) in [
            (DATE, "DA"),
            (NAME, "PN"),
            (ID, "LO"),
            (STUDY, "UI"),
            (Tag(0x0040, 0x0260), "SQ"),
        ] {
            let mut head = Vec::new();
            head.extend(tag.0.to_le_bytes());
            head.extend(tag.1.to_le_bytes());
            head.extend(vr.as_bytes());
            let answer = &found.identifiers[0];
            assert!(
                answer.windows(6).any(|six| six == head),
                "{tag:04X?} is answered as {vr}"
            );
        }
    }
    client.release().expect("release");
}

#[test]
fn ae_titles_in_small_letters_or_spaces_are_known() {
    let server = filled(Settings {
        extra: "accept_any_called = false".to_owned(),
        ..Settings::default()
    });
    for called in ["kura", "Kura", " KURA"] {
        let find: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])];
        let mut client = Client::associate(server.address(), "horos mac", called, find)
            .unwrap_or_else(|error| panic!("{called:?}: {error}"));
        let found = client
            .c_find(1, &verbatim(&[(LEVEL, b"STUDY ")]))
            .expect("C-FIND");
        assert_eq!(
            (found.status, found.identifiers.len()),
            (0, 2),
            "{called:?}"
        );
        client.release().expect("release");
    }
}
