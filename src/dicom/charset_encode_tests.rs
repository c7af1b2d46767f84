//! Tests of writing text; beside it for their length.

use super::*;

fn name(charset: &str, text: &str) -> Option<Vec<u8>> {
    TextEncoder::new(charset).encode(text, VR::PN)
}

/// Method: the examples of PS3.5 Annexes H (Japanese), I (Korean), J and K (Chinese), byte for byte.
#[test]
fn the_examples_of_the_standard_are_written_as_printed() {
    let rows: [(&str, &[u8], &str); 7] = [
        (
            "\\ISO 2022 IR 87", // H.3.1
            b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            "ISO 2022 IR 13\\ISO 2022 IR 87", // H.3.2
            b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J=\x1B$B$d$^$@\x1B(J^\x1B$B$?$m$&\x1B(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        ),
        (
            "\\ISO 2022 IR 149", // I.2
            b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (
            "ISO_IR 192", // J.1
            b"Wang^XiaoDong=\xE7\x8E\x8B^\xE5\xB0\x8F\xE6\x9D\xB1=",
            "Wang^XiaoDong=王^小東=",
        ),
        ("GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB=", "Wang^XiaoDong=王^小东="), // J.3
        (
            "\\ISO 2022 IR 58", // K.2
            b"Zhang^XiaoDong=\x1B$)A\xD5\xC5^\x1B$)A\xD0\xA1\xB6\xAB=",
            "Zhang^XiaoDong=张^小东=",
        ),
        ("ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159", b"\x1B$(D0!\x1B(B^\x1B$B;3\x1B(B", "丂^山"),
    ];
    for (charset, bytes, text) in rows {
        assert_eq!(name(charset, text).as_deref(), Some(bytes), "{charset}");
    }
}

#[test]
fn single_byte_sets_are_written_without_escapes_where_they_come_first() {
    let rows: [(&str, &[u8], &str); 11] = [
        ("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
        ("ISO_IR 101", b"Wa\xB3\xEAsa", "Wałęsa"),
        ("ISO_IR 109", b"\xA6u", "Ĥu"),
        ("ISO_IR 110", b"\xA2", "ĸ"),
        ("ISO_IR 144", b"\xBB\xEE\xDAce\xDC", "Люкceм"),
        ("ISO_IR 127", b"\xE2\xC8\xC7\xE6\xEA^\xE4", "قباني^ل"),
        ("ISO_IR 126", b"\xC4\xE9\xEF", "Διο"),
        ("ISO_IR 138", b"\xF9\xF8\xE5\xEF^\xE3", "שרון^ד"),
        ("ISO_IR 148", b"\xC7avu\xFEo\xF0lu", "Çavuşoğlu"),
        ("ISO_IR 13", b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 166", b"\xCA\xC1\xAA\xD2\xC2", "สมชาย"),
    ];
    for (charset, bytes, text) in rows {
        assert_eq!(name(charset, text).as_deref(), Some(bytes), "{charset}");
    }
    assert_eq!(
        name("ISO 2022 IR 100\\ISO 2022 IR 144", "Jé^Люк é").as_deref(),
        Some(&b"J\xE9^\x1B-L\xBB\xEE\xDA \x1B-A\xE9"[..])
    );
}

#[test]
fn what_a_set_lacks_is_not_written() {
    for (charset, text) in [
        ("", "é"),
        ("ISO_IR 6", "é"),
        ("no such set", "é"),
        ("ISO_IR 100", "山"),
        ("ISO_IR 100", "€"), // Windows only
        ("ISO_IR 144", "é"),
        ("ISO_IR 13", "山"),        // Shift JIS, but the set is JIS X 0201
        ("\\ISO 2022 IR 87", "髙"), // IBM's addition
        ("\\ISO 2022 IR 87", "①"),  // NEC's
        ("\\ISO 2022 IR 87", "홍"),
        ("\\ISO 2022 IR 149", "똠"), // Windows' addition
        ("\\ISO 2022 IR 58", "東"),  // GBK only
        ("GBK", "홍"),
        ("GBK", "€"),
        ("GBK", "䶮"), // GB 18030 only
        ("GB18030", "\u{E000}"),
        ("ISO_IR 192", "a\x1B"),
    ] {
        assert_eq!(name(charset, text), None, "{text:?} in {charset:?}");
    }
    let latin1 = TextEncoder::new("ISO_IR 100");
    assert_eq!(latin1.encode("é", VR::CS), None, "CS is never extended");
    assert_eq!(latin1.encode("A~B", VR::LO).as_deref(), Some(&b"A~B"[..]));
    assert_eq!(name("GB18030", "홍山é").map(|bytes| bytes.len()), Some(8));
}

/// Method: half-width katakana beside kanji, Korean over several lines, delimiters inside two-byte characters.
#[test]
fn sets_are_designated_again_where_a_delimiter_ended_them() {
    let korean = TextEncoder::new("ISO 2022 IR 6\\ISO 2022 IR 149");
    assert_eq!(
        korean.encode("길\r\n동 동", VR::LT).as_deref(),
        Some(&b"\x1B$)C\xB1\xE6\r\n\x1B$)C\xB5\xBF \xB5\xBF"[..])
    );
    assert_eq!(
        TextEncoder::new("\\ISO 2022 IR 87")
            .encode("構\\構", VR::LO)
            .as_deref(),
        Some(&b"\x1B$B9=\x1B(B\\\x1B$B9=\x1B(B"[..])
    );
    assert_eq!(
        name("\\ISO 2022 IR 87\\ISO 2022 IR 13", "山ﾔ^ﾔ").as_deref(),
        Some(&b"\x1B$B;3\x1B)I\xD4\x1B(B^\x1B)I\xD4"[..])
    );
}

proptest::proptest! {
    #[test]
    fn what_is_written_reads_back(
        text in "[A-Za-z^= éÄłПдΩשقﾔﾏ山田太郎やまだ홍길동洪吉张小东東丂\\\\]{0,24}",
        charset in "(|ISO 2022 IR (6|13|100|101|144|126|127|138|87|149|58))(\\\\ISO 2022 IR (87|159|149|58|13|100|144))*|GBK|GB18030|ISO_IR (192|100|13|144)",
    ) {
        for vr in [VR::PN, VR::LO, VR::LT] {
            if let Some(bytes) = TextEncoder::new(&charset).encode(&text, vr) {
                proptest::prop_assert_eq!(CharacterSet::new(&charset).decode(&bytes, vr), text.clone());
            }
        }
    }
}
