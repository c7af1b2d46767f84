//! Tests of what a scan keeps of sequences.

use std::io::Write;

use super::*;
use crate::dicom::header::{ITEM, ITEM_END, SEQUENCE_END, UNDEFINED};
use crate::dicom::{Level, items};

const LE: &str = ts::EXPLICIT_VR_LITTLE_ENDIAN;
const REQUEST: Tag = tags::REQUEST_ATTRIBUTES_SEQUENCE;

/// How a data set is written.
#[derive(Clone, Copy)]
struct Writing {
    explicit: bool,
    big: bool,
    /// Sequences and items have delimiters in place of lengths.
    undefined: bool,
}

impl Writing {
    fn element(self, tag: Tag, vr: VR, length: u32, value: &[u8]) -> Vec<u8> {
        let u16 = |number: u16| match self.big {
            true => number.to_be_bytes(),
            false => number.to_le_bytes(),
        };
        let u32 = |number: u32| match self.big {
            true => number.to_be_bytes(),
            false => number.to_le_bytes(),
        };
        let mut out = [u16(tag.group()), u16(tag.element())].concat();
        if self.explicit && tag.group() != 0xFFFE {
            out.extend(vr.to_bytes());
            if matches!(vr, VR::SQ | VR::UN) {
                out.extend([0, 0]);
                out.extend(u32(length));
            } else {
                out.extend(u16(length as u16));
            }
        } else {
            out.extend(u32(length));
        }
        out.extend_from_slice(value);
        out
    }

    fn text(self, tag: Tag, vr: VR, text: &[u8]) -> Vec<u8> {
        let mut value = text.to_vec();
        value.resize(text.len().next_multiple_of(2), b' ');
        self.element(tag, vr, value.len() as u32, &value)
    }

    fn around(self, tag: Tag, end: Tag, content: &[u8]) -> Vec<u8> {
        match self.undefined {
            true => [
                self.element(tag, VR::SQ, UNDEFINED, content),
                self.element(end, VR::SQ, 0, b""),
            ]
            .concat(),
            false => self.element(tag, VR::SQ, content.len() as u32, content),
        }
    }

    fn item(self, elements: &[Vec<u8>]) -> Vec<u8> {
        self.around(ITEM, ITEM_END, &elements.concat())
    }

    fn sequence(self, tag: Tag, items: &[Vec<u8>]) -> Vec<u8> {
        self.around(tag, SEQUENCE_END, &items.concat())
    }

    /// Two requests, one with a character set of its own and a sequence in it, and an empty item between them.
    fn requests(self) -> Vec<u8> {
        let codes = self.sequence(
            tags::REQUESTED_PROCEDURE_CODE_SEQUENCE,
            &[self.item(&[
                self.text(tags::ACCESSION_NUMBER, VR::SH, b"deeper"),
                self.text(tags::CODE_VALUE, VR::SH, b"C1"),
            ])],
        );
        let first = self.item(&[
            self.text(tags::ACCESSION_NUMBER, VR::SH, b"A1"),
            codes,
            self.text(
                tags::REQUESTED_PROCEDURE_DESCRIPTION,
                VR::LO,
                b"Sch\xE4del \"1\"",
            ),
            self.text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, b""),
            self.text(tags::REQUESTED_PROCEDURE_ID, VR::SH, b"R1"),
            self.text(
                tags::REASON_FOR_THE_REQUESTED_PROCEDURE,
                VR::LO,
                b"not kept",
            ),
        ]);
        let second = self.item(&[
            self.text(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192"),
            self.text(
                tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION,
                VR::LO,
                "頭部".as_bytes(),
            ),
        ]);
        self.sequence(REQUEST, &[first, self.item(&[]), second])
    }

    fn data_set(self) -> Vec<u8> {
        [
            self.text(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
            self.text(tags::MODALITY, VR::CS, b"CT"),
            self.requests(),
            self.text(Tag(0x4008, 0x0212), VR::CS, b"behind"),
        ]
        .concat()
    }
}

const IMPLICIT: Writing = Writing {
    explicit: false,
    big: false,
    undefined: true,
};

fn assert_both_requests(found: &Attributes, what: &str) {
    let series = found.values(Level::Series);
    let kept = items::from_text(series.get(&0x0040_0275).map_or("", String::as_str));
    let item = |values: &[(u32, &str)]| -> items::Item {
        values
            .iter()
            .map(|(tag, text)| (*tag, (*text).to_owned()))
            .collect()
    };
    let expected = [
        item(&[
            (0x0008_0050, "A1"),
            (0x0032_1060, "Schädel \"1\""),
            (0x0040_1001, "R1"),
        ]),
        item(&[(0x0040_0007, "頭部")]),
    ];
    assert_eq!(kept, expected, "{what}");
    assert_eq!(found.text(tags::MODALITY).as_deref(), Some("CT"), "{what}");
    let study = found.values(Level::Study);
    assert_eq!(study.get(&0x4008_0212).map(String::as_str), Some("behind"));
    assert_eq!(found.text(REQUEST), None, "a sequence is no text");
}

/// Method: implicit and explicit VR, both byte orders, with lengths and with delimiters, deflated, and as a value of VR UN
/// as a program writes it that does not know the sequence; in pieces of every size up to 40 bytes.
#[test]
fn the_listed_keys_of_items_are_kept_in_every_encoding() {
    let mut cases = Vec::new();
    for undefined in [true, false] {
        for (explicit, big, syntax) in [
            (false, false, ts::IMPLICIT_VR_LITTLE_ENDIAN),
            (true, false, LE),
            (true, true, ts::EXPLICIT_VR_BIG_ENDIAN),
        ] {
            let writing = Writing {
                explicit,
                big,
                undefined,
            };
            cases.push((writing.data_set(), syntax, format!("{syntax} {undefined}")));
        }
    }
    let mut deflater =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflater.write_all(&cases[1].0).unwrap();
    let deflated = ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
    cases.push((deflater.finish().unwrap(), deflated, "deflated".to_owned()));

    let explicit = Writing {
        explicit: true,
        ..IMPLICIT
    };
    for undefined in [true, false] {
        let inner = Writing {
            undefined,
            ..IMPLICIT
        };
        // The sequence's own header is not part of the value.
        let whole = inner.requests();
        let value = &whole[8..];
        let length = if undefined {
            UNDEFINED
        } else {
            value.len() as u32
        };
        let mut of_length = value.to_vec();
        of_length.truncate(value.len() - if undefined { 8 } else { 0 });
        for (value, length, what) in [
            (value, length, "UN, as it was written"),
            (&of_length, of_length.len() as u32, "UN, a value"),
        ] {
            let bytes = [
                explicit.text(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
                explicit.text(tags::MODALITY, VR::CS, b"CT"),
                explicit.element(REQUEST, VR::UN, length, value),
                explicit.text(Tag(0x4008, 0x0212), VR::CS, b"behind"),
            ];
            cases.push((bytes.concat(), LE, format!("{what} {undefined}")));
        }
    }
    for (bytes, syntax, what) in &cases {
        for size in (1..40).chain([usize::MAX]) {
            let mut scanner = Scanner::new(syntax, Wanted::Indexed);
            for piece in bytes.chunks(size) {
                scanner
                    .feed(piece)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            let found = scanner
                .finish()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_both_requests(&found, what);
        }
    }
}

#[test]
fn an_identifier_tells_every_key_of_its_items() {
    for explicit in [true, false] {
        let writing = Writing {
            explicit,
            ..IMPLICIT
        };
        let syntax = match explicit {
            true => LE,
            false => ts::IMPLICIT_VR_LITTLE_ENDIAN,
        };
        let found = scan(&writing.data_set(), syntax, Wanted::All).unwrap();
        let items = found.items(REQUEST);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            items[0],
            [
                (tags::ACCESSION_NUMBER, VR::SH, text("A1")),
                (
                    tags::REQUESTED_PROCEDURE_DESCRIPTION,
                    VR::LO,
                    text("Schädel \"1\"")
                ),
                (tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, VR::SQ, text("")),
                (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, text("")),
                (tags::REQUESTED_PROCEDURE_ID, VR::SH, text("R1")),
                (
                    tags::REASON_FOR_THE_REQUESTED_PROCEDURE,
                    VR::LO,
                    text("not kept")
                ),
            ]
        );
        assert_eq!(items[1], []);
        assert_eq!(items.len(), 3);
        assert!(found.items(tags::MODALITY).is_empty());
    }
}

/// Method: the sequence comes twice, has 1,000 items, items of 1,000 elements, values of 60 KB, and texts that JSON writes
/// six times as long.
#[test]
fn what_is_kept_of_sequences_is_bounded() {
    let writing = Writing {
        explicit: true,
        ..IMPLICIT
    };
    let step = |text: &[u8]| writing.text(tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION, VR::LO, text);
    let values = |items: &[Vec<u8>]| {
        let twice = [
            writing.sequence(REQUEST, items),
            writing.sequence(REQUEST, &[writing.item(&[step(b"second")])]),
        ];
        let found = scan(&twice.concat(), LE, Wanted::Indexed).unwrap();
        let all = scan(&twice.concat(), LE, Wanted::All).unwrap();
        assert!(all.items(REQUEST).len() <= 16);
        let values = found.values(Level::Series);
        let text = values.get(&0x0040_0275).cloned().unwrap_or_default();
        assert!(!text.contains("second") && text.len() <= 8192, "{text}");
        items::from_text(&text)
    };
    assert_eq!(values(&vec![writing.item(&[step(b"x")]); 1000]).len(), 16);
    let wide = vec![writing.item(&vec![step(b"x"); 1000]); 16];
    assert_eq!(values(&wide).len(), 16);
    let controls = values(&vec![writing.item(&[step(&[1; 60_000])]); 20]);
    assert!(!controls.is_empty());
    assert!(
        controls
            .iter()
            .all(|item| item[&0x0040_0007].len() <= 1024 / 6)
    );
    let quotes = values(&vec![writing.item(&[step(&[b'"'; 3000])]); 20]);
    assert!(!quotes.is_empty() && quotes[0][&0x0040_0007].len() <= 512);

    // So many elements that there is no room for all of them.
    let mut many = Vec::new();
    for at in 0..65_535u16 {
        many.extend(writing.text(Tag(0x0011, at), VR::LO, b""));
    }
    let item = writing.item(&[many]);
    let bytes = writing.sequence(REQUEST, &vec![item; 4]);
    let found = scan(&bytes, LE, Wanted::All).unwrap();
    let kept: usize = found.items(REQUEST).iter().map(Vec::len).sum();
    assert!(kept <= 65_536, "{kept}");
}
