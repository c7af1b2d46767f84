//! Promise: what is written in a character set, other programs read as the same characters.

mod common;

use std::fmt::Write;

use common::tools::{peer_script, run};
use kura::dicom::{TextEncoder, VR};

/// Where pydicom's tables and ours take one code for two characters that look alike: the code is the same, and the only
/// one that the set has for either.
const ALIKE: [(&str, &str); 4] = [
    ("\\ISO 2022 IR 87", "∥－～￠￡￢"),
    ("\\ISO 2022 IR 159", "～"),
    // Also a Hangul filler, which has no shape.
    ("\\ISO 2022 IR 149", "ㅤ"),
    ("\\ISO 2022 IR 58", "·—"),
];

/// Characters that pydicom's tables, of older editions of a set, do not have where ours have them.
const OLDER: [(&str, &str); 3] = [
    ("ISO_IR 166", "\u{A0}"),
    ("ISO_IR 203", "ŒœŠšŸŽž€"),
    ("GB18030", "ḿ龴龵龶龷龸龹龺龻︐︑︒︓︔︕︖︗︘︙"),
];

/// Method: every character of the Basic Multilingual Plane that a set has, alone, read back by pydicom.
#[test]
fn every_character_of_every_set_is_read_by_pydicom() {
    let charsets = [
        "ISO_IR 100",
        "ISO_IR 101",
        "ISO_IR 109",
        "ISO_IR 110",
        "ISO_IR 144",
        "ISO_IR 127",
        "ISO_IR 126",
        "ISO_IR 138",
        "ISO_IR 148",
        "ISO_IR 13",
        "ISO_IR 166",
        "ISO_IR 203",
        "ISO_IR 192",
        "GB18030",
        "GBK",
        "\\ISO 2022 IR 87",
        "\\ISO 2022 IR 159",
        "\\ISO 2022 IR 149",
        "\\ISO 2022 IR 58",
        "ISO 2022 IR 6\\ISO 2022 IR 13",
        "ISO 2022 IR 6\\ISO 2022 IR 144",
    ];
    let mut list = String::new();
    for charset in charsets {
        let encoder = TextEncoder::new(charset);
        let mut count = 0;
        for one in (0x80..0x1_0000).filter_map(char::from_u32) {
            let Some(bytes) = encoder.encode(&one.to_string(), VR::LO) else {
                continue;
            };
            count += 1;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(list, "{charset}|{}|{hex}", u32::from(one)).expect("a text grows");
        }
        assert!(count > 45, "{charset} has only {count} characters");
    }
    let Some(mut script) = peer_script("decoded.py") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("list");
    std::fs::write(&path, list).expect("write into the temporary folder");
    let outcome = run(script.arg(&path).env("PYTHONIOENCODING", "utf-8"));
    assert!(outcome.success(), "{}", outcome.text());
    let known = |line: &str| {
        let mut parts = line.split('|');
        let (charset, code) = (parts.next(), parts.next());
        let one = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        ALIKE.iter().chain(&OLDER).any(|(set, characters)| {
            charset == Some(*set) && one.is_some_and(|one| characters.contains(one))
        })
    };
    let (said, differing): (Vec<_>, Vec<_>) = outcome
        .stdout
        .lines()
        .partition(|line| line.starts_with("compared"));
    let wrong: Vec<_> = differing.into_iter().filter(|line| !known(line)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("pydicom {}", said.concat());
}
