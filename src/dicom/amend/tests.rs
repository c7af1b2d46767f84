//! Tests of amending; beside it for their length.

use dicom_core::VR;

use proptest::prelude::*;

use super::*;
use crate::dicom::differences::{Outline, differences};
use crate::dicom::elements::put;
use crate::dicom::{Attributes, Wanted, scan, ts};

const LE: &str = ts::EXPLICIT_VR_LITTLE_ENDIAN;
const IMPLICIT: &str = ts::IMPLICIT_VR_LITTLE_ENDIAN;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ORIGINALS: Tag = tags::ORIGINAL_ATTRIBUTES_SEQUENCE;

fn amendment(changes: &[(Tag, Value)]) -> Amendment {
    Amendment {
        changes: changes.to_vec(),
        modified_at: "20260102030405".into(),
        modifying_system: "KURA".into(),
        previous_source: "CT1".into(),
        reason: Reason::Correct,
        allow_utf8: false,
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn element(explicit: bool, tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, explicit, tag, vr, value);
    out
}

fn le(tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    element(true, tag, vr, value)
}

/// The new item, explicit VR little endian, around the old elements.
fn item(old: &[u8]) -> Vec<u8> {
    let content = [
        le(
            tags::MODIFIED_ATTRIBUTES_SEQUENCE,
            VR::SQ,
            &le(ITEM, VR::UN, old),
        ),
        le(
            tags::ATTRIBUTE_MODIFICATION_DATE_TIME,
            VR::DT,
            b"20260102030405",
        ),
        le(tags::MODIFYING_SYSTEM, VR::LO, b"KURA"),
        le(tags::SOURCE_OF_PREVIOUS_VALUES, VR::LO, b"CT1"),
        le(
            tags::REASON_FOR_THE_ATTRIBUTE_MODIFICATION,
            VR::CS,
            b"CORRECT",
        ),
    ];
    le(ITEM, VR::UN, &content.concat())
}

fn read(bytes: &[u8], transfer_syntax: &str) -> Attributes {
    scan(bytes, transfer_syntax, Wanted::All).expect("well formed")
}

/// Method: an ID, a name taken out and a description that was not there, byte for byte.
#[test]
fn changes_stand_in_their_places_and_the_old_values_in_an_item() {
    let head = le(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3");
    let rows = le(tags::ROWS, VR::US, &[1, 0]);
    let pixels = le(tags::PIXEL_DATA, VR::OW, &[7, 7]);
    let (name, id) = (
        le(tags::PATIENT_NAME, VR::PN, b"A^B"),
        le(tags::PATIENT_ID, VR::LO, b"OLD\0"),
    );
    let before = [
        head.clone(),
        name.clone(),
        id.clone(),
        rows.clone(),
        pixels.clone(),
    ];
    let old = [le(tags::STUDY_DESCRIPTION, VR::LO, b""), name, id];
    let after = [
        head,
        le(tags::STUDY_DESCRIPTION, VR::LO, b"CT"),
        le(tags::PATIENT_ID, VR::LO, b"NEW 1"),
        rows,
        le(ORIGINALS, VR::SQ, &item(&old.concat())),
        pixels,
    ];
    let changes = amendment(&[
        (tags::PATIENT_ID, text("NEW 1")),
        (tags::PATIENT_NAME, Value::Absent),
        (tags::STUDY_DESCRIPTION, text("CT")),
        (tags::PATIENT_SEX, Value::Absent),
    ]);
    assert_eq!(amend(&before.concat(), LE, &changes), Ok(after.concat()));
}

/// Method: values that are there already, but for their padding; nothing at all; absent ones taken out.
#[test]
fn where_nothing_becomes_another_not_a_byte_changes() {
    let before = [
        le(tags::PATIENT_ID, VR::LO, b"ID\0\0"),
        le(tags::PATIENT_SEX, VR::CS, b""),
        le(tags::PIXEL_DATA, VR::OW, &[7, 7]),
        vec![0; 11],
    ]
    .concat();
    for changes in [
        vec![],
        vec![
            (tags::PATIENT_ID, text("ID")),
            (tags::PATIENT_SEX, Value::Empty),
            (tags::PATIENT_NAME, Value::Absent),
        ],
    ] {
        assert_eq!(amend(&before, LE, &amendment(&changes)), Ok(before.clone()));
    }
}

#[test]
fn the_end_of_a_data_set_is_a_place_too() {
    let changes = amendment(&[(tags::PATIENT_ID, text("ID"))]);
    let added = [
        le(tags::PATIENT_ID, VR::LO, b"ID"),
        le(ORIGINALS, VR::SQ, &item(&le(tags::PATIENT_ID, VR::LO, b""))),
    ]
    .concat();
    assert_eq!(amend(b"", LE, &changes), Ok(added.clone()));
    let zeros = [0; 13];
    assert_eq!(
        amend(&zeros, LE, &changes),
        Ok([added.as_slice(), &zeros].concat())
    );
    let implicit = amend(b"", IMPLICIT, &changes).unwrap();
    assert_eq!(implicit[..10], *b"\x10\0\x20\0\x02\0\0\0ID");
    assert_eq!(
        read(&implicit, IMPLICIT).raw(tags::PATIENT_ID),
        Some(&b"ID"[..])
    );
    let big = amend(b"", ts::EXPLICIT_VR_BIG_ENDIAN, &changes).unwrap();
    assert_eq!(big[..10], *b"\0\x10\0\x20LO\0\x02ID");
    assert!(read(&big, ts::EXPLICIT_VR_BIG_ENDIAN).contains(ORIGINALS));
}

/// Method: the sequence that is there has a length, a delimiter, an item without its delimiter, no item, or VR UN.
#[test]
fn a_second_amendment_appends_an_item_and_keeps_the_first_byte_for_byte() {
    let first = item(&le(tags::PATIENT_NAME, VR::PN, b"X^Y "));
    let undefined = |content: &[u8]| {
        let mut out = le(ORIGINALS, VR::SQ, content);
        out[8..12].copy_from_slice(&[0xFF; 4]);
        out
    };
    let end = le(Tag(0xFFFE, 0xE0DD), VR::UN, b"");
    let item_end = le(Tag(0xFFFE, 0xE00D), VR::UN, b"");
    let mut open_item = first.clone();
    open_item[4..8].copy_from_slice(&[0xFF; 4]);
    let new = item(&le(tags::PATIENT_ID, VR::LO, b"OLD"));
    let pixels = le(tags::PIXEL_DATA, VR::OW, &[7, 7]);
    let join = |parts: &[&[u8]]| parts.concat();
    for (before, after) in [
        (
            le(ORIGINALS, VR::SQ, &first),
            le(ORIGINALS, VR::SQ, &join(&[&first, &new])),
        ),
        (le(ORIGINALS, VR::SQ, b""), le(ORIGINALS, VR::SQ, &new)),
        (
            join(&[&undefined(&first), &end]),
            join(&[&undefined(&first), &new, &end]),
        ),
        (
            join(&[&undefined(&open_item), &item_end, &end]),
            join(&[&undefined(&open_item), &item_end, &new, &end]),
        ),
        (
            join(&[&undefined(&open_item), &end]),
            join(&[&undefined(&open_item), &item_end, &new, &end]),
        ),
    ] {
        for tail in [&pixels[..], b""] {
            let id = le(tags::PATIENT_ID, VR::LO, b"OLD");
            let new_id = le(tags::PATIENT_ID, VR::LO, b"NEW");
            assert_eq!(
                amend(
                    &join(&[&id, &before, tail]),
                    LE,
                    &amendment(&[(tags::PATIENT_ID, text("NEW"))])
                ),
                Ok(join(&[&new_id, &after, tail]))
            );
        }
    }
    // VR UN: items in implicit VR.
    let implicit = element(false, ITEM, VR::UN, b"");
    let id = le(tags::PATIENT_ID, VR::LO, b"OLD");
    let before = [id, le(ORIGINALS, VR::UN, &implicit), pixels].concat();
    let after = amend(&before, LE, &amendment(&[(tags::PATIENT_ID, text("NEW"))])).unwrap();
    let raw = read(&after, LE).raw(ORIGINALS).unwrap().to_vec();
    assert_eq!(raw[..8], implicit[..]);
    assert_eq!(raw[8..12], [0xFE, 0xFF, 0, 0xE0]);
    assert_eq!(raw[16..20], [0, 4, 0x50, 5]);
    let whole = element(false, ORIGINALS, VR::SQ, &raw);
    assert!(scan(&whole, IMPLICIT, Wanted::All).is_ok());
}

/// Method: groups 0008, 0010, 0028 and 0400 with a length before them, those of 0028 and 0018 wrong.
#[test]
fn group_lengths_are_right_where_something_changed_and_as_they_were_elsewhere() {
    let group = |group: u16, length: u32| le(Tag(group, 0), VR::UL, &length.to_le_bytes());
    let uid = le(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3");
    let id = |id: &[u8]| le(tags::PATIENT_ID, VR::LO, id);
    let rows = le(tags::ROWS, VR::US, &[1, 0]);
    let reason = le(Tag(0x0400, 0x0600), VR::LO, b"behind");
    let label = |label: &[u8]| le(tags::RT_PLAN_LABEL, VR::SH, label);
    let before = [
        group(8, uid.len() as u32),
        uid.clone(),
        group(0x10, 12),
        id(b"OLD"),
        group(0x28, 99),
        rows.clone(),
        group(0x400, reason.len() as u32),
        reason.clone(),
    ]
    .concat();
    let check = |changes: &[(Tag, Value)], rest: &[u8], old: &[u8], new_rest: &[u8]| {
        let originals = le(ORIGINALS, VR::SQ, &item(old));
        let after = [
            group(8, uid.len() as u32),
            uid.clone(),
            group(0x10, 16),
            id(b"NEWER ID"),
            group(0x28, 99),
            rows.clone(),
            group(0x400, (reason.len() + originals.len()) as u32),
            originals,
            reason.clone(),
            new_rest.to_vec(),
        ];
        let before = [&before, rest].concat();
        assert_eq!(amend(&before, LE, &amendment(changes)), Ok(after.concat()));
    };
    let new_id = (tags::PATIENT_ID, text("NEWER ID"));
    check(std::slice::from_ref(&new_id), b"", &id(b"OLD"), b"");
    // What changes behind the Original Attributes Sequence is in it too.
    let plan = [group(0x300A, 99), label(b"A")].concat();
    let new_plan = [group(0x300A, 12), label(b"BCD")].concat();
    check(
        &[new_id, (tags::RT_PLAN_LABEL, text("BCD"))],
        &plan,
        &[id(b"OLD"), label(b"A")].concat(),
        &new_plan,
    );
}

#[test]
fn new_text_is_in_the_declared_set_or_refused() {
    let before = [
        le(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"\\ISO 2022 IR 87"),
        le(tags::PATIENT_NAME, VR::PN, b"A^B"),
    ]
    .concat();
    let after = amend(
        &before,
        LE,
        &amendment(&[(tags::PATIENT_NAME, text("Yamada=山田"))]),
    )
    .unwrap();
    let raw = b"Yamada=\x1B$B;3ED\x1B(B ";
    assert_eq!(read(&after, LE).raw(tags::PATIENT_NAME), Some(&raw[..]));
    assert_eq!(
        amend(&before, LE, &amendment(&[(tags::PATIENT_NAME, text("홍"))])),
        Err(AmendError::NotEncodable {
            tag: tags::PATIENT_NAME,
            text: "홍".into(),
            charset: "\\ISO 2022 IR 87".into()
        })
    );
    let none = le(tags::PATIENT_NAME, VR::PN, b"A^B");
    let amended = amend(&none, LE, &amendment(&[(tags::PATIENT_NAME, text("é"))]));
    assert!(matches!(amended, Err(AmendError::NotEncodable { .. })));
}

/// Method: Latin-1 text at top level, in a sequence with lengths, in an item with a set of its own, in private
/// elements; then a Korean name. The old values keep bytes and set.
#[test]
fn where_it_is_allowed_every_text_becomes_utf_8() {
    let charset = |term: &[u8]| le(tags::SPECIFIC_CHARACTER_SET, VR::CS, term);
    let code = |text: &[u8]| le(tags::CODE_MEANING, VR::LO, text);
    let sequence = |inner: &[u8]| {
        let other = [charset(b"ISO_IR 144"), code(b"\xBB")].concat();
        let items = [le(ITEM, VR::UN, inner), le(ITEM, VR::UN, &other)];
        le(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, &items.concat())
    };
    let nested = |text: &[u8]| {
        sequence(&le(
            tags::ANATOMIC_REGION_SEQUENCE,
            VR::SQ,
            &le(ITEM, VR::UN, &code(text)),
        ))
    };
    let private = |text: &[u8]| {
        [
            le(Tag(9, 0x10), VR::LO, b"ACME"),
            le(Tag(9, 0x1001), VR::LO, text),
            le(Tag(9, 0x1002), VR::UN, b"\xE9\xE9"),
        ]
        .concat()
    };
    let name = le(tags::PATIENT_NAME, VR::PN, b"J\xE9");
    let before = [
        charset(b"ISO_IR 100"),
        le(tags::STUDY_DESCRIPTION, VR::LO, b"T\xEAte "),
        nested(b"\xE9\xE8 "),
        private(b"\xFC"),
        name.clone(),
        le(tags::IMAGE_COMMENTS, VR::LT, b"\xE0 la"),
        le(tags::PIXEL_DATA, VR::OW, &[0xE9, 0xE9]),
    ]
    .concat();
    let old = [charset(b"ISO_IR 100"), name].concat();
    let after = [
        charset(b"ISO_IR 192"),
        le(tags::STUDY_DESCRIPTION, VR::LO, "Tête".as_bytes()),
        nested("éè  ".as_bytes()),
        private("ü".as_bytes()),
        le(tags::PATIENT_NAME, VR::PN, "홍".as_bytes()),
        le(tags::IMAGE_COMMENTS, VR::LT, "à la".as_bytes()),
        le(ORIGINALS, VR::SQ, &item(&old)),
        le(tags::PIXEL_DATA, VR::OW, &[0xE9, 0xE9]),
    ]
    .concat();
    let after = String::from_utf8_lossy(&after).into_owned();
    let mut allowed = amendment(&[(tags::PATIENT_NAME, text("홍"))]);
    allowed.allow_utf8 = true;
    let got = amend(&before, LE, &allowed).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), after);
    // Again: what is in UTF-8 stays, old values with their own set too.
    let mut again = allowed.clone();
    again.changes = vec![(tags::PATIENT_NAME, text("山"))];
    let twice = amend(&got, LE, &again).unwrap();
    let kept = item(&old);
    assert!(twice.windows(kept.len()).any(|window| window == kept));

    let unsure = [
        le(tags::STUDY_DESCRIPTION, VR::LO, b"T\xEAte"),
        le(tags::PATIENT_NAME, VR::PN, b"A"),
    ]
    .concat();
    assert_eq!(
        amend(&unsure, LE, &allowed),
        Err(AmendError::NotDecodable {
            tag: tags::STUDY_DESCRIPTION,
            charset: String::new()
        })
    );
}

/// Method: items in a value of VR UN, in implicit VR: with ASCII only, with text of another set, with half a header.
#[test]
fn a_sequence_of_unknown_vr_stays_as_it_is_or_stops_the_change_to_utf_8() {
    let implicit = |tag, vr, value: &[u8]| element(false, tag, vr, value);
    let items = |text: &[u8]| implicit(ITEM, VR::UN, &implicit(tags::CODE_MEANING, VR::LO, text));
    let mut allowed = amendment(&[(tags::PATIENT_NAME, text("홍"))]);
    allowed.allow_utf8 = true;
    for (value, good) in [
        (items(b"ab"), true),
        (items(b""), true),
        (items(b"\xE9"), false),
        (items(b"ab")[..12].to_vec(), false),
    ] {
        let sequence = le(tags::PROCEDURE_CODE_SEQUENCE, VR::UN, &value);
        let charset = le(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100");
        match amend(&[charset, sequence.clone()].concat(), LE, &allowed) {
            Ok(after) => {
                assert!(good);
                let kept = after
                    .windows(sequence.len())
                    .any(|window| window == sequence);
                assert!(kept);
            }
            Err(error) => {
                assert!(
                    !good && matches!(error, AmendError::NotDecodable { .. }),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn the_issuer_is_kept_beside_an_old_patient_id() {
    let issuer = le(tags::ISSUER_OF_PATIENT_ID, VR::LO, b"HOSP");
    let id = le(tags::PATIENT_ID, VR::LO, b"OLD");
    let before = [id.clone(), issuer.clone()].concat();
    let after = [
        le(tags::PATIENT_ID, VR::LO, b"NEW"),
        issuer.clone(),
        le(ORIGINALS, VR::SQ, &item(&[id, issuer].concat())),
    ];
    let new = (tags::PATIENT_ID, text("NEW"));
    let same = (tags::ISSUER_OF_PATIENT_ID, text("HOSP"));
    for changes in [vec![new.clone()], vec![new, same]] {
        let amended = amend(&before, LE, &amendment(&changes));
        assert_eq!(amended, Ok(after.concat()));
    }
}

#[test]
fn what_is_ambiguous_is_refused() {
    let id = le(tags::PATIENT_ID, VR::LO, b"OLD");
    let uid = le(tags::STUDY_INSTANCE_UID, VR::UI, b"1.2");
    let charset = le(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100");
    let originals = le(ORIGINALS, VR::SQ, b"");
    let changes = amendment(&[(tags::PATIENT_ID, text("NEW"))]);
    for (before, tag) in [
        ([&id[..], &id].concat(), tags::PATIENT_ID),
        ([&uid[..], &id].concat(), tags::PATIENT_ID),
        ([&id[..], &charset].concat(), tags::SPECIFIC_CHARACTER_SET),
        ([&id[..], &originals, &originals].concat(), ORIGINALS),
    ] {
        assert_eq!(
            amend(&before, LE, &changes),
            Err(AmendError::OutOfOrder { tag })
        );
        assert_eq!(amend(&before, LE, &amendment(&[])), Ok(before));
    }
    let odd = le(tags::PATIENT_ID, VR::SQ, b"");
    assert_eq!(
        amend(&odd, LE, &changes),
        Err(AmendError::NotAsExpected {
            tag: tags::PATIENT_ID
        })
    );
}

/// Method: a table of attributes and values, with what the table of PS3.5 6.2 says to them.
#[test]
fn new_values_are_checked_before_anything() {
    let long = |count| "x".repeat(count);
    let rows: Vec<(Tag, Value, bool)> = vec![
        (tags::PATIENT_ID, text(&long(64)), true),
        (tags::PATIENT_ID, text(&long(65)), false),
        (tags::PATIENT_ID, text(&"山".repeat(64)), true),
        (tags::PATIENT_ID, text("A\\B"), false),
        (tags::PATIENT_ID, text("A\nB"), false),
        (tags::PATIENT_ID, text("A\u{1B}B"), false),
        (
            tags::PATIENT_ID,
            Value::Several(vec!["A".into(), "B".into()]),
            false,
        ),
        (tags::PATIENT_ID, Value::Absent, true),
        (tags::PATIENT_NAME, text("A^B^C^D^E=山=や"), true),
        (tags::PATIENT_NAME, text("A^B^C^D^E^F"), false),
        (tags::PATIENT_NAME, text("A=B=C=D"), false),
        (
            tags::PATIENT_NAME,
            text(&format!("{}={}", long(64), long(64))),
            true,
        ),
        (tags::PATIENT_NAME, text(&long(65)), false),
        (tags::PATIENT_BIRTH_DATE, text("20240229"), true),
        (tags::PATIENT_BIRTH_DATE, text("20230229"), false),
        (tags::PATIENT_BIRTH_DATE, text("2024.02.29"), false),
        (tags::PATIENT_BIRTH_DATE, Value::Empty, true),
        (tags::STUDY_TIME, text("235960.123456"), true),
        (tags::STUDY_TIME, text("2400"), false),
        (tags::STUDY_TIME, text("12.5"), false),
        (tags::PATIENT_SEX, text("F"), true),
        (tags::PATIENT_SEX, text("f"), false),
        (tags::PATIENT_AGE, text("045Y"), true),
        (tags::PATIENT_AGE, text("45Y"), false),
        (tags::ACCESSION_NUMBER, text(&long(17)), false),
        (tags::SERIES_NUMBER, text("-12"), true),
        (tags::SERIES_NUMBER, text("99999999999"), false),
        (tags::PATIENT_WEIGHT, text("7.5e1"), true),
        (tags::PATIENT_WEIGHT, text("inf"), false),
        (tags::STUDY_INSTANCE_UID, text("1.2.0.3"), true),
        (tags::STUDY_INSTANCE_UID, text("1.02"), false),
        (tags::STUDY_INSTANCE_UID, text("1.2.a"), false),
        (tags::SOP_INSTANCE_UID, Value::Empty, false),
        (tags::SERIES_INSTANCE_UID, Value::Absent, false),
        (tags::PATIENT_COMMENTS, text("two\r\nlines \\ each"), true),
        (
            tags::IMAGE_TYPE,
            Value::Several(vec!["DERIVED".into(), "PRIMARY".into()]),
            true,
        ),
        (tags::ROWS, text("512"), false),
        (tags::PIXEL_DATA, Value::Absent, false),
        (ORIGINALS, Value::Absent, false),
        (tags::SPECIFIC_CHARACTER_SET, text("ISO_IR 100"), false),
        (Tag(0x0009, 0x0010), text("ACME"), false),
        (Tag(0x0010, 0xFFF1), text("A"), false),
        (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, text("1.2"), false),
    ];
    for (tag, value, good) in rows {
        let result = Rewriter::new(LE, &amendment(&[(tag, value.clone())]));
        assert_eq!(result.is_ok(), good, "{tag} {value:?}");
    }
    for when in ["", "2026-01-02", "202613"] {
        let mut bad = amendment(&[(tags::PATIENT_ID, text("A"))]);
        bad.modified_at = when.into();
        assert!(Rewriter::new(LE, &bad).is_err(), "{when}");
    }
    for when in ["2026", "202612", "20261231235959.999999+0930"] {
        let mut good = amendment(&[(tags::PATIENT_ID, text("A"))]);
        good.modified_at = when.into();
        assert!(Rewriter::new(LE, &good).is_ok(), "{when}");
    }
    let twice = amendment(&[(tags::PATIENT_ID, text("A")), (tags::PATIENT_ID, text("B"))]);
    assert!(Rewriter::new(LE, &twice).is_err());
    let error = Rewriter::new(LE, &amendment(&[(tags::PATIENT_SEX, text("f"))]))
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "PatientSex (0010,0040) cannot become \"f\": CS is written in capitals, digits, spaces and underscores"
    );
}

#[test]
fn the_file_meta_information_follows_the_instance_uid() {
    let meta = FileMeta {
        sop_instance_uid: "1.2".into(),
        ..FileMeta::default()
    };
    let after = meta_after(&meta, &amendment(&[(tags::SOP_INSTANCE_UID, text("1.3"))]));
    assert_eq!(after.sop_instance_uid, "1.3");
    let same = meta_after(
        &meta,
        &amendment(&[(tags::STUDY_INSTANCE_UID, text("1.3"))]),
    );
    assert_eq!(same, meta);
}

/// Method: 100 MB of pixel data in pieces; what the rewriter keeps back after each is counted.
#[test]
fn pixel_data_go_through_without_being_held() {
    let mut head = le(tags::PATIENT_ID, VR::LO, b"OLD");
    let mut pixels = le(tags::PIXEL_DATA, VR::OW, b"");
    pixels[8..12].copy_from_slice(&100_000_000u32.to_le_bytes());
    head.extend_from_slice(&pixels);
    let changes = amendment(&[(tags::PATIENT_ID, text("NEW"))]);
    let mut rewriter = Rewriter::new(LE, &changes).unwrap();
    let mut out = Vec::new();
    rewriter.feed(&head, &mut out).unwrap();
    let piece = vec![1; 100_000];
    for _ in 0..1000 {
        out.clear();
        rewriter.feed(&piece, &mut out).unwrap();
        assert_eq!(out.len(), piece.len());
    }
    out.clear();
    rewriter.finish(&mut out).unwrap();
    assert_eq!(out, b"");
}

/// Method: a group length that comes twice in its group, and a sequence at the end of what can wait.
#[test]
fn nothing_that_waits_is_forgotten() {
    let length = le(Tag(0x10, 0), VR::UL, &[1, 0, 0, 0]);
    let id = |id: &[u8]| le(tags::PATIENT_ID, VR::LO, id);
    let before = [length.clone(), length.clone(), id(b"OLD")].concat();
    let changes = amendment(&[(tags::PATIENT_ID, text("NEW"))]);
    let after = amend(&before, LE, &changes).unwrap();
    let first = le(Tag(0x10, 0), VR::UL, &[24, 0, 0, 0]);
    assert!(after.starts_with(&[first, length.clone(), id(b"NEW")].concat()));
    let mut recoding = amendment(&[(tags::PATIENT_NAME, text("홍"))]);
    recoding.allow_utf8 = true;
    for short in 0..24 {
        let big = le(
            Tag(0x0018, 0x1000),
            VR::UT,
            &vec![b'x'; 16 * 1024 * 1024 - 2 * short],
        );
        let length = le(Tag(0x18, 0), VR::UL, &[1, 0, 0, 0]);
        let sequence = le(Tag(0x0018, 0x9346), VR::SQ, &le(ITEM, VR::UN, &[]));
        let before = [length, big.clone(), sequence.clone()].concat();
        match amend(&before, LE, &recoding) {
            Ok(after) => assert!(after.windows(20).rev().any(|w| w == sequence)),
            Err(error) => assert!(matches!(error, AmendError::TooLarge { .. }), "{error}"),
        }
    }
}

/// Method: a changed group of 17 MiB with a group length: the length is left out, the rest is right.
#[test]
fn a_group_too_large_to_wait_for_loses_its_group_length() {
    let big = le(Tag(0x0010, 0x4001), VR::UT, &vec![b'x'; 17 * 1024 * 1024]);
    let length = le(Tag(0x10, 0), VR::UL, &[0; 4]);
    let id = |id: &[u8]| le(tags::PATIENT_ID, VR::LO, id);
    let before = [length, id(b"OLD"), big.clone()].concat();
    let changes = amendment(&[(tags::PATIENT_ID, text("NEW"))]);
    let after = amend(&before, LE, &changes).unwrap();
    let originals = le(ORIGINALS, VR::SQ, &item(&id(b"OLD")));
    assert!(after == [id(b"NEW"), big, originals].concat());
}

/// A data set with what amending has to do with: group lengths, both kinds of sequences, text, pixel data.
fn example(explicit: bool) -> Vec<u8> {
    let put = |tag, vr, value: &[u8]| element(explicit, tag, vr, value);
    let undefined = |tag, content: &[u8]| {
        let mut out = put(tag, VR::SQ, b"");
        let at = out.len() - 4;
        out[at..].copy_from_slice(&[0xFF; 4]);
        out.extend_from_slice(content);
        out.extend(put(Tag(0xFFFE, 0xE0DD), VR::UN, b""));
        out
    };
    let code = put(tags::CODE_MEANING, VR::LO, b"\xE9t\xE9");
    [
        put(Tag(8, 0), VR::UL, &[60, 0, 0, 0]),
        put(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
        put(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3"),
        put(
            tags::PROCEDURE_CODE_SEQUENCE,
            VR::SQ,
            &put(ITEM, VR::UN, &code),
        ),
        put(Tag(16, 0), VR::UL, &[20, 0, 0, 0]),
        put(tags::PATIENT_NAME, VR::PN, b"J\xE9"),
        put(tags::PATIENT_ID, VR::LO, b"OLD"),
        put(tags::ISSUER_OF_PATIENT_ID, VR::LO, b"HOSP"),
        undefined(tags::REQUEST_ATTRIBUTES_SEQUENCE, &put(ITEM, VR::UN, &code)),
        put(Tag(0x400, 0), VR::UL, &[20, 0, 0, 0]),
        undefined(ORIGINALS, &put(ITEM, VR::UN, &code)),
        put(tags::RT_PLAN_LABEL, VR::SH, b"A"),
        put(tags::PIXEL_DATA, VR::OW, &[7; 200]),
    ]
    .concat()
}

fn changes(which: u8, allow_utf8: bool) -> Amendment {
    let all = [
        (tags::PATIENT_ID, text("NEW ID")),
        (tags::PATIENT_NAME, text("山田")),
        (tags::ISSUER_OF_PATIENT_ID, Value::Absent),
        (tags::STUDY_DESCRIPTION, text("d")),
        (tags::RT_PLAN_LABEL, text("label")),
        (tags::SOP_INSTANCE_UID, text("1.2.4")),
        (tags::PATIENT_SEX, Value::Empty),
        (tags::ACCESSION_NUMBER, text("1")),
    ];
    let chosen = all.into_iter().enumerate();
    let chosen = chosen.filter(|(at, _)| which >> at & 1 == 1);
    let mut amendment = amendment(&chosen.map(|(_, one)| one).collect::<Vec<_>>());
    amendment.allow_utf8 = allow_utf8;
    amendment
}

fn in_pieces(
    bytes: &[u8],
    transfer_syntax: &str,
    amendment: &Amendment,
    size: usize,
) -> Result<Vec<u8>, AmendError> {
    let mut rewriter = Rewriter::new(transfer_syntax, amendment)?;
    let mut out = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        rewriter.feed(piece, &mut out)?;
    }
    rewriter.finish(&mut out)?;
    Ok(out)
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut deflater = Deflater::new();
    deflater.feed(bytes, &mut out);
    deflater.finish(&mut out);
    out
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut take = |bytes: &[u8]| -> Result<(), ScanError> {
        out.extend_from_slice(bytes);
        Ok(())
    };
    Inflater::new().feed(bytes, &mut take).unwrap();
    out
}

/// Method: an example with group lengths and an Original Attributes Sequence, in pieces of every size; how much longer it
/// becomes is known before its pixel data and is so at the end.
#[test]
fn unrecorded_only_the_changed_elements_become_others() {
    let changes = vec![
        (tags::PATIENT_ID, text("A LONGER ID")),
        (tags::ISSUER_OF_PATIENT_ID, text("H")),
    ];
    for (explicit, syntax) in [(true, LE), (false, IMPLICIT)] {
        let before = example(explicit);
        let mut outcomes = Vec::new();
        for size in 1..before.len() {
            let mut rewriter = Rewriter::unrecorded(syntax, changes.clone()).unwrap();
            let (mut out, mut known) = (Vec::new(), None);
            for (at, piece) in before.chunks(size).enumerate() {
                rewriter.feed(piece, &mut out).unwrap();
                match (known, rewriter.growth()) {
                    (None, Some(growth)) => known = Some((growth, at * size)),
                    (known, growth) => assert_eq!(known.map(|(growth, _)| growth), growth),
                }
            }
            rewriter.finish(&mut out).unwrap();
            let (growth, at) = known.expect("known before the end");
            assert_eq!(before.len() as i64 + growth, out.len() as i64);
            assert!(
                at + 200 < before.len() || size > 100,
                "{at} of {}",
                before.len()
            );
            outcomes.push(out);
        }
        outcomes.dedup();
        assert_eq!(outcomes.len(), 1);
        let (old, new) = (read(&before, syntax), read(&outcomes[0], syntax));
        assert_eq!(new.text(tags::PATIENT_ID).unwrap(), "A LONGER ID");
        assert_eq!(new.text(tags::ISSUER_OF_PATIENT_ID).unwrap(), "H");
        for (tag, _, value) in old.iter() {
            if !changes.iter().any(|(changed, _)| *changed == tag) && tag != Tag(16, 0) {
                assert_eq!(new.raw(tag), Some(value), "{tag}");
            }
        }
        assert!(outcomes[0].ends_with(&before[before.len() - 260..]));
    }
    let lacking = vec![(tags::PATIENT_ID, text("山田"))];
    let mut rewriter = Rewriter::unrecorded(LE, lacking).unwrap();
    let error = rewriter.feed(&example(true), &mut Vec::new()).unwrap_err();
    assert!(!error.without_values().contains('山'), "{error}");
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_bytes(
        which in any::<u8>(),
        allow in any::<bool>(),
        explicit in any::<bool>(),
        size in 1_usize..300,
    ) {
        let transfer_syntax = if explicit { LE } else { IMPLICIT };
        let (before, changes) = (example(explicit), changes(which, allow));
        let whole = amend(&before, transfer_syntax, &changes);
        prop_assert_eq!(in_pieces(&before, transfer_syntax, &changes, size), whole.clone());
        match whole {
            Ok(after) => {
                let (old, new) = (read(&before, transfer_syntax), read(&after, transfer_syntax));
                for (tag, _, value) in old.iter() {
                    let changed = changes.changes.iter().any(|(one, _)| *one == tag);
                    let text = changes.allow_utf8 && which & 2 != 0;
                    if !changed && !text {
                        prop_assert_eq!(new.raw(tag), Some(value));
                    }
                }
                if which == 0 {
                    prop_assert_eq!(after, before);
                }
            }
            Err(error) => {
                let refused = matches!(error, AmendError::NotEncodable { .. });
                prop_assert!(refused && which & 2 != 0 && !allow);
            }
        }
    }

    #[test]
    fn a_deflated_data_set_changes_as_an_inflated_one(which in any::<u8>(), size in 1_usize..300) {
        let (before, changes) = (example(true), changes(which, true));
        let syntax = ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
        let after = in_pieces(&deflated(&before), syntax, &changes, size).unwrap();
        prop_assert_eq!(after.len() % 2, 0);
        prop_assert_eq!(inflated(&after), amend(&before, LE, &changes).unwrap());
        if which == 0 {
            prop_assert_eq!(after, deflated(&before));
        }
    }

    /// Method: bytes of a good data set overwritten, cut and repeated; what comes out, if anything, is well formed.
    #[test]
    fn damaged_data_sets_are_amended_whole_or_not_at_all(
        which in any::<u8>(),
        explicit in any::<bool>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = example(explicit);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        for syntax in [LE, IMPLICIT, ts::EXPLICIT_VR_BIG_ENDIAN, ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
            let result = amend(&bytes, syntax, &changes(which, true));
            if let Ok(after) = result {
                prop_assert!(scan(&after, syntax, Wanted::All).is_ok());
                prop_assert!(after.len() < bytes.len() * 2 + 4096);
                // What every file may lose or gain, whatever is wrong with it.
                let changes = changes(which, true);
                let expected = |tag: Tag| {
                    tag.element() == 0
                        || [ORIGINALS, tags::SPECIFIC_CHARACTER_SET].contains(&tag)
                        || changes.changes.iter().any(|(one, _)| *one == tag)
                };
                let outline = |bytes: &[u8]| Outline::of(bytes, syntax).unwrap();
                let found = differences(&outline(&bytes), &outline(&after));
                let wrong = found.iter().find(|one| !expected(one.tag));
                prop_assert!(wrong.is_none() || which & 2 != 0, "{wrong:?}");
                for one in found.iter().filter(|one| !expected(one.tag)) {
                    prop_assert!(one.before.is_some() && one.after.is_some(), "{one:?}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_amended_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512), which in any::<u8>()) {
        for syntax in [LE, IMPLICIT, ts::EXPLICIT_VR_BIG_ENDIAN, ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
            let _ = amend(&bytes, syntax, &changes(which, true));
        }
    }
}
