//! Tests of the scan; beside it for its length.

use std::io::Write;

use super::*;
use crate::dicom::elements::{has_long_length, put};
use crate::dicom::header::{ITEM, ITEM_END, SEQUENCE_END, UNDEFINED};
use crate::dicom::{Level, ts};

const LE: &str = ts::EXPLICIT_VR_LITTLE_ENDIAN;

/// An element of explicit VR little endian with its length as given, true or not.
fn element(tag: Tag, vr: &[u8; 2], length: u32, value: &[u8]) -> Vec<u8> {
    let mut out = [tag.group().to_le_bytes(), tag.element().to_le_bytes(), *vr].concat();
    if VR::from_binary(*vr).is_none_or(has_long_length) {
        out.extend([0, 0]);
        out.extend(length.to_le_bytes());
    } else {
        out.extend(&length.to_le_bytes()[..2]);
    }
    out.extend_from_slice(value);
    out
}

/// An element, item or delimiter with no VR.
fn bare(tag: Tag, length: u32, value: &[u8]) -> Vec<u8> {
    [
        &tag.group().to_le_bytes()[..],
        &tag.element().to_le_bytes(),
        &length.to_le_bytes(),
        value,
    ]
    .concat()
}

fn text(tag: Tag, vr: VR, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, true, tag, vr, value.as_bytes());
    out
}

/// A sequence of one item of undefined lengths around `content`.
fn nested(content: &[u8]) -> Vec<u8> {
    [
        &element(tags::REFERENCED_STUDY_SEQUENCE, b"SQ", UNDEFINED, b"")[..],
        &bare(ITEM, UNDEFINED, b""),
        content,
        &bare(ITEM_END, 0, b""),
        &bare(SEQUENCE_END, 0, b""),
    ]
    .concat()
}

fn patient() -> Vec<u8> {
    text(tags::PATIENT_ID, VR::LO, "P1")
}

/// Scans in pieces; what was kept, or what was wrong, printed.
fn in_pieces(bytes: &[u8], transfer_syntax: &str, size: usize) -> String {
    let mut scanner = Scanner::new(transfer_syntax, Wanted::All);
    for piece in bytes.chunks(size) {
        if let Err(error) = scanner.feed(piece) {
            assert_eq!(
                scanner.feed(b"\0").as_ref(),
                Err(&error),
                "an error is not forgotten"
            );
            return error.to_string();
        }
    }
    match scanner.finish() {
        Ok(attributes) => format!(
            "{:?} {:?}",
            attributes.tags().collect::<Vec<_>>(),
            attributes.iter().collect::<Vec<_>>()
        ),
        Err(error) => error.to_string(),
    }
}

/// The patient ID behind some bytes: proof that the scan got past them.
fn patient_behind(bytes: &[u8]) -> Option<String> {
    let whole = [bytes, &patient()].concat();
    scan(&whole, LE, Wanted::Indexed)
        .unwrap_or_else(|error| panic!("{error}"))
        .text(tags::PATIENT_ID)
}

fn error_of(bytes: &[u8]) -> ScanError {
    scan(bytes, LE, Wanted::All).expect_err("this data set is wrong")
}

#[test]
fn values_are_read_in_every_encoding() {
    let mut implicit = Vec::new();
    let mut explicit = Vec::new();
    for (out, is_explicit) in [(&mut implicit, false), (&mut explicit, true)] {
        put(
            out,
            is_explicit,
            tags::SPECIFIC_CHARACTER_SET,
            VR::CS,
            b"ISO_IR 100",
        );
        put(out, is_explicit, tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3");
        put(
            out,
            is_explicit,
            tags::PATIENT_NAME,
            VR::PN,
            b"J\xE9r\xF4me ",
        );
        put(out, is_explicit, tags::PATIENT_ID, VR::LO, b"");
        put(out, is_explicit, tags::ROWS, VR::US, &512u16.to_le_bytes());
    }
    let big = b"\0\x08\0\x05CS\0\x0AISO_IR 100\0\x08\0\x18UI\0\x061.2.3\0\0\x10\0\x10PN\0\x08J\xE9r\xF4me  \0\x10\0\x20LO\0\0\0\x28\0\x10US\0\x02\x02\0";
    let mut deflater =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflater.write_all(&explicit).unwrap();
    let deflated = deflater.finish().unwrap();
    for (bytes, syntax) in [
        (&implicit[..], ts::IMPLICIT_VR_LITTLE_ENDIAN),
        (&explicit, LE),
        (&explicit, "1.2.3.4"),
        (big, ts::EXPLICIT_VR_BIG_ENDIAN),
        (&deflated, ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        (&implicit, LE),                            // not what was said
        (&explicit, ts::IMPLICIT_VR_LITTLE_ENDIAN), // not what was said
        (big, LE),                                  // not what was said
    ] {
        let found = scan(bytes, syntax, Wanted::Indexed)
            .unwrap_or_else(|error| panic!("{syntax}: {error}"));
        assert_eq!(
            found.text(tags::PATIENT_NAME).as_deref(),
            Some("Jérôme"),
            "{syntax}"
        );
        assert_eq!(
            found.uid(tags::SOP_INSTANCE_UID).as_deref(),
            Some("1.2.3"),
            "{syntax}"
        );
        assert_eq!(found.text(tags::ROWS).as_deref(), Some("512"), "{syntax}");
        assert_eq!(found.text(tags::PATIENT_ID), None);
        assert!(found.contains(tags::PATIENT_ID) && !found.contains(tags::PATIENT_SEX));
        let instance = found.values(Level::Instance);
        assert_eq!(instance.get(&0x0028_0010).map(String::as_str), Some("512"));
        assert_eq!(found.values(Level::Patient).len(), 1);
    }
}

#[test]
fn values_are_trimmed_one_by_one_and_numbers_are_decimal() {
    let bytes = [
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL \\ PRIMARY"),
        element(Tag(0x0018, 0x9219), b"SS", 4, &[0xFF, 0xFF, 2, 0]),
        element(Tag(0x0028, 0x0009), b"AT", 4, &[0x18, 0, 0x63, 0x10]),
        element(Tag(0x0018, 0x9087), b"FD", 8, &1.5f64.to_le_bytes()),
        text(tags::PATIENT_COMMENTS, VR::LT, "  a\\ b "),
    ]
    .concat();
    let found = scan(&bytes, LE, Wanted::All).unwrap();
    assert_eq!(
        found.text(tags::IMAGE_TYPE).as_deref(),
        Some("ORIGINAL\\PRIMARY")
    );
    assert_eq!(found.text(Tag(0x0018, 0x9219)).as_deref(), Some("-1\\2"));
    assert_eq!(found.text(Tag(0x0028, 0x0009)).as_deref(), Some("00181063"));
    assert_eq!(found.text(Tag(0x0018, 0x9087)).as_deref(), Some("1.5"));
    assert_eq!(
        found.text(tags::PATIENT_COMMENTS).as_deref(),
        Some("  a\\ b")
    );
}

#[test]
fn sequences_items_and_fragments_of_every_kind_are_passed() {
    let inner = text(tags::PATIENT_ID, VR::LO, "WRONG");
    let item = bare(ITEM, inner.len() as u32, &inner);
    let end = bare(SEQUENCE_END, 0, b"");
    let implicit_item = [
        bare(ITEM, UNDEFINED, b""),
        bare(tags::PATIENT_ID, 6, b"WRONG "),
        bare(tags::REFERENCED_STUDY_SEQUENCE, 8, &bare(ITEM, 0, b"")),
        bare(ITEM_END, 0, b""),
    ]
    .concat();
    let sequence = tags::REFERENCED_STUDY_SEQUENCE;
    let rows: [(&str, Vec<u8>); 12] = [
        ("undefined, nested", nested(&nested(&inner))),
        (
            "defined",
            element(sequence, b"SQ", item.len() as u32, &item),
        ),
        ("empty", element(sequence, b"SQ", 0, b"")),
        (
            "defined, with a superfluous delimiter",
            element(
                sequence,
                b"SQ",
                item.len() as u32 + 8,
                &[&item[..], &end].concat(),
            ),
        ),
        (
            "undefined, item defined",
            [&element(sequence, b"SQ", UNDEFINED, b"")[..], &item, &end].concat(),
        ),
        (
            "item's delimiter forgotten",
            [
                &element(sequence, b"SQ", UNDEFINED, b"")[..],
                &bare(ITEM, UNDEFINED, &inner),
                &end,
            ]
            .concat(),
        ),
        (
            "UN of undefined length (CP-246)",
            [
                &element(Tag(0x2001, 0x105F), b"UN", UNDEFINED, b"")[..],
                &implicit_item,
                &end,
            ]
            .concat(),
        ),
        (
            "UN of undefined length, explicit inside",
            [
                &element(Tag(0x2001, 0x105F), b"UN", UNDEFINED, b"")[..],
                &item,
                &end,
            ]
            .concat(),
        ),
        (
            "implicit inside an explicit sequence",
            [
                &element(sequence, b"SQ", UNDEFINED, b"")[..],
                &implicit_item,
                &end,
            ]
            .concat(),
        ),
        (
            "encapsulated",
            [
                &element(tags::PIXEL_DATA, b"OB", UNDEFINED, b"")[..],
                &bare(ITEM, 0, b""),
                &bare(ITEM, 5, b"\xFE\xFF\xDD\xE0\0"),
                &end,
            ]
            .concat(),
        ),
        (
            "VR newer than we",
            element(Tag(0x0009, 0x1001), b"ZZ", 4, b"\0\0\0\0"),
        ),
        (
            "group length, odd length, stray delimiter",
            [
                element(Tag(0x0008, 0), b"UL", 4, b"\0\0\0\0"),
                element(tags::MODALITY, b"CS", 3, b"CTX"),
                end.clone(),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in rows {
        assert_eq!(patient_behind(&bytes).as_deref(), Some("P1"), "{what}");
    }
    // The same without VR.
    let implicit = [
        bare(sequence, UNDEFINED, b""),
        implicit_item.clone(),
        end.clone(),
        bare(Tag(0x0009, 0x1001), UNDEFINED, b""),
        implicit_item,
        end,
        bare(tags::PATIENT_ID, 2, b"P1"),
    ]
    .concat();
    let found = scan(&implicit, ts::IMPLICIT_VR_LITTLE_ENDIAN, Wanted::All).unwrap();
    assert_eq!(found.text(tags::PATIENT_ID).as_deref(), Some("P1"));
    assert!(found.contains(sequence) && found.raw(sequence).is_none());
}

#[test]
fn the_first_of_two_values_counts_and_order_does_not_matter() {
    let bytes = [
        patient(),
        text(tags::MODALITY, VR::CS, "CT"),
        text(tags::PATIENT_ID, VR::LO, "P2"),
    ]
    .concat();
    let found = scan(&bytes, LE, Wanted::Indexed).unwrap();
    assert_eq!(found.text(tags::PATIENT_ID).as_deref(), Some("P1"));
    assert_eq!(found.text(tags::MODALITY).as_deref(), Some("CT"));
}

#[test]
fn zeros_after_the_end_are_padding_and_other_bytes_are_not() {
    for count in [1, 7, 8, 9, 5000] {
        assert!(
            scan(&[patient(), vec![0; count]].concat(), LE, Wanted::All).is_ok(),
            "{count}"
        );
    }
    let junk = [patient(), vec![0; 20], vec![1]].concat();
    assert!(matches!(error_of(&junk), ScanError::AfterEnd { .. }));
    assert!(scan(b"", LE, Wanted::All).is_ok());
    let mut deflater =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflater.write_all(&patient()).unwrap();
    let deflated = deflater.finish().unwrap();
    for (behind, fine) in [
        (&b"\0"[..], true),
        (b"\xE6\xF0\x99\xF3\xC8\xF3\0\0\0", true),
        (b"123456789", false),
    ] {
        let bytes = [&deflated[..], behind].concat();
        let result = scan(&bytes, ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Wanted::All);
        assert_eq!(result.is_ok(), fine, "{behind:?}");
    }
    assert!(scan(b"", ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Wanted::All).is_ok());
}

#[test]
fn sequences_nested_a_hundred_thousand_deep_are_an_error_and_sixty_four_are_none() {
    let mut open = Vec::new();
    for _ in 0..100_000 {
        open.extend(element(
            tags::REFERENCED_STUDY_SEQUENCE,
            b"SQ",
            UNDEFINED,
            b"",
        ));
        open.extend(bare(ITEM, UNDEFINED, b""));
    }
    assert!(matches!(error_of(&open), ScanError::TooDeep { .. }));
    let mut deepest = Vec::new();
    for _ in 0..DEPTH_MAX {
        deepest = nested(&deepest);
    }
    assert_eq!(patient_behind(&deepest).as_deref(), Some("P1"));
    assert!(matches!(
        error_of(&nested(&deepest)),
        ScanError::TooDeep { .. }
    ));
}

#[test]
fn lengths_that_lie_are_an_error() {
    let inner = patient();
    let short_item = bare(ITEM, inner.len() as u32 - 2, &inner);
    let long_item = bare(ITEM, 1000, &inner);
    let sequence = tags::REFERENCED_STUDY_SEQUENCE;
    for item in [&short_item, &long_item] {
        let bytes = element(sequence, b"SQ", item.len() as u32, item);
        assert!(
            matches!(error_of(&bytes), ScanError::TooLong { .. }),
            "{item:?}"
        );
    }
    let cut = bare(ITEM, 4, &inner);
    assert!(matches!(
        error_of(&element(sequence, b"SQ", cut.len() as u32, &cut)),
        ScanError::HeaderCut { .. }
    ));
    let undefined_inside = [
        element(sequence, b"SQ", 40, b""),
        bare(ITEM, UNDEFINED, b""),
        element(sequence, b"SQ", 100, b""),
    ]
    .concat();
    assert!(matches!(
        error_of(&undefined_inside),
        ScanError::TooLong { .. }
    ));
    assert!(matches!(
        error_of(&element(tags::PIXEL_DATA, b"OW", 0xFFFF_FFFE, b"1234")),
        ScanError::Truncated { .. }
    ));
    assert!(matches!(
        error_of(&element(tags::PATIENT_COMMENTS, b"UT", UNDEFINED, b"")),
        ScanError::BadUndefinedLength { .. }
    ));
    assert!(matches!(
        error_of(&element(sequence, b"SQ", UNDEFINED, &inner)),
        ScanError::Unexpected { .. }
    ));
    assert!(matches!(
        error_of(&[inner.clone(), bare(ITEM, 0, b"")].concat()),
        ScanError::Unexpected { .. }
    ));
    let fragment = [
        element(tags::PIXEL_DATA, b"OB", UNDEFINED, b""),
        bare(ITEM, UNDEFINED, b""),
    ]
    .concat();
    assert!(matches!(error_of(&fragment), ScanError::Unexpected { .. }));
    assert!(matches!(
        error_of(&[inner, element(tags::PATIENT_SEX, b"\x01\x02", 0, b"")].concat()),
        ScanError::BadVr { .. }
    ));
}

/// Method: cut a data set at every byte; only between top-level elements may the end stand.
#[test]
fn a_data_set_cut_in_the_middle_is_an_error() {
    let parts = [
        patient(),
        nested(&nested(&patient())),
        [
            &element(tags::PIXEL_DATA, b"OB", UNDEFINED, b"")[..],
            &bare(ITEM, 2, b"ab"),
            &bare(SEQUENCE_END, 0, b""),
        ]
        .concat(),
    ];
    let whole = parts.concat();
    let ends: Vec<usize> = (0..=parts.len())
        .map(|count| parts[..count].concat().len())
        .collect();
    for end in 0..=whole.len() {
        let result = scan(&whole[..end], LE, Wanted::All);
        assert_eq!(
            result.is_ok(),
            ends.contains(&end),
            "{end}: {:?}",
            result.err()
        );
    }
    let mut deflater =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflater.write_all(&whole).unwrap();
    let deflated = deflater.finish().unwrap();
    for end in 1..deflated.len() {
        assert!(
            scan(
                &deflated[..end],
                ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
                Wanted::All
            )
            .is_err(),
            "{end}"
        );
    }
    assert!(
        scan(
            b"\xFF\xFF\xFF",
            ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            Wanted::All
        )
        .is_err()
    );
}

#[test]
fn too_many_elements_are_an_error() {
    let block = patient().repeat(10_000);
    let mut scanner = Scanner::new(LE, Wanted::Indexed);
    let error = (0..=500).find_map(|_| scanner.feed(&block).err());
    assert!(
        matches!(error, Some(ScanError::TooManyElements { .. })),
        "{error:?}"
    );
}

#[test]
fn what_is_kept_is_bounded() {
    let long = element(tags::PATIENT_COMMENTS, b"UT", 65_537, &vec![b'x'; 65_537]);
    let found = scan(&[long, patient()].concat(), LE, Wanted::All).unwrap();
    assert!(found.contains(tags::PATIENT_COMMENTS) && found.raw(tags::PATIENT_COMMENTS).is_none());
    assert_eq!(found.text(tags::PATIENT_ID).as_deref(), Some("P1"));

    let mut many = Vec::new();
    for at in 0..40u16 {
        many.extend(element(
            Tag(0x0009, 0x1000 + at),
            b"UN",
            60_000,
            &vec![0; 60_000],
        ));
    }
    for at in 0..u16::MAX {
        for group in [0x0011, 0x0013] {
            many.extend(element(Tag(group, at), b"LO", 0, b""));
        }
    }
    let found = scan(&many, LE, Wanted::All).unwrap();
    let kept: usize = found.iter().map(|(_, _, value)| value.len()).sum();
    assert!(kept <= 1024 * 1024 && found.tags().count() <= 65_536);

    let wide = "あ".repeat(1000);
    let bytes = [
        text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        text(tags::PATIENT_COMMENTS, VR::LT, &wide),
    ]
    .concat();
    let values = scan(&bytes, LE, Wanted::Indexed)
        .unwrap()
        .values(Level::Patient);
    assert_eq!(values.get(&0x0010_4000).map(String::len), Some(1023));
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_the_same_answer_in_any_pieces(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        at in 0usize..400,
        size in 1usize..20,
    ) {
        let mut whole = [nested(&patient()), patient(), nested(b"")].concat();
        let at = at % whole.len();
        whole.splice(at..at, bytes);
        for syntax in [LE, ts::IMPLICIT_VR_LITTLE_ENDIAN, ts::EXPLICIT_VR_BIG_ENDIAN, ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
            // The offset told after padding, and what is told of a damaged deflated stream, may differ with the pieces.
            let kind = |text: String| match text.strip_prefix('[') {
                Some(kept) => kept.to_owned(),
                None if syntax == ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => "error".to_owned(),
                None => text.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_owned(),
            };
            proptest::prop_assert_eq!(kind(in_pieces(&whole, syntax, size)), kind(in_pieces(&whole, syntax, usize::MAX)));
        }
    }
}
