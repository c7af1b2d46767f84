//! Tests of the character sets; beside them for their length.

use super::*;

fn name(charset: &str, bytes: &[u8]) -> String {
    CharacterSet::new(charset).decode(bytes, VR::PN)
}

/// Method: the examples of PS3.5 Annexes H (Japanese), I (Korean), J and K (Chinese), byte for byte.
#[test]
fn the_examples_of_the_standard_come_out_as_printed() {
    let rows: [(&str, &[u8], &str); 8] = [
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
        ("GBK", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB=", "Wang^XiaoDong=王^小东="),
        (
            "\\ISO 2022 IR 58", // K.2
            b"Zhang^XiaoDong=\x1B$)A\xD5\xC5^\x1B$)A\xD0\xA1\xB6\xAB=",
            "Zhang^XiaoDong=张^小东=",
        ),
        ("ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159", b"\x1B$(D0!\x1B(B^\x1B$B;3\x1B(B", "丂^山"),
    ];
    for (charset, bytes, text) in rows {
        assert_eq!(name(charset, bytes), text, "{charset}");
    }
}

#[test]
fn single_byte_sets_have_their_own_right_half() {
    let rows: [(&str, &[u8], &str); 12] = [
        ("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
        ("ISO_IR 101", b"Wa\xB3\xEAsa", "Wałęsa"),
        ("ISO_IR 109", b"\xA6u", "Ĥu"),
        ("ISO_IR 110", b"\xA2", "ĸ"),
        ("ISO_IR 144", b"\xBB\xEE\xDAce\xDC\xD1yp\xD3", "Люкceмбypг"),
        (
            "ISO_IR 127",
            b"\xE2\xC8\xC7\xE6\xEA^\xE4\xE6\xD2\xC7\xD1",
            "قباني^لنزار",
        ),
        (
            "ISO_IR 126",
            b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2",
            "Διονυσιος",
        ),
        (
            "ISO_IR 138",
            b"\xF9\xF8\xE5\xEF^\xE3\xE1\xE5\xF8\xE4",
            "שרון^דבורה",
        ),
        ("ISO_IR 148", b"\xC7avu\xFEo\xF0lu", "Çavuşoğlu"),
        ("ISO_IR 13", b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 166", b"\xCA\xC1\xAA\xD2\xC2", "สมชาย"),
        ("ISO_IR 203", b"\xA4 \xBDuvre", "€ œuvre"),
    ];
    for (charset, bytes, text) in rows {
        assert_eq!(name(charset, bytes), text, "{charset}");
    }
    assert_eq!(
        name(
            "ISO 2022 IR 100\\ISO 2022 IR 144",
            b"J\xE9r\xF4me^\x1B-L\xBB\xEE\xDA"
        ),
        "Jérôme^Люк"
    );
}

#[test]
fn a_backslash_byte_inside_a_character_is_no_delimiter() {
    // 表 is 95H 5CH in Shift JIS; 昞 is 95H 5CH in GBK; 構 is 39H 3DH ("9=") in JIS X 0208.
    assert_eq!(
        CharacterSet::new("ISO_IR 13").decode(b"\x95\x5C\\A", VR::LO),
        "表\\A"
    );
    assert_eq!(
        CharacterSet::new("GBK").decode(b"\x95\x5C\\A", VR::LO),
        "昞\\A"
    );
    assert_eq!(
        CharacterSet::new("GB18030").decode(b"\x95\x5C\\A", VR::LO),
        "昞\\A"
    );
    assert_eq!(name("\\ISO 2022 IR 87", b"\x1B$B9=\x1B(B=A"), "構=A");
    let bytes = b"\x1B$B\x5C\x21\x21\x5C\x1B(B\\B";
    let text = CharacterSet::new("\\ISO 2022 IR 87").decode(bytes, VR::LO);
    assert_eq!(text.matches('\\').count(), 1, "{text}");
}

/// Method: Korean bytes after each delimiter, with no escape sequence of their own; only where the set was
/// brought back to value 1 do they come out as Cyrillic.
#[test]
fn delimiters_and_control_characters_bring_back_the_first_set() {
    let set = CharacterSet::new("ISO 2022 IR 144\\ISO 2022 IR 149");
    for (between, vr, resets) in [
        ("^", VR::PN, true),
        ("=", VR::PN, true),
        ("\\", VR::PN, true),
        ("\\", VR::LO, true),
        ("\r\n", VR::LT, true),
        ("\x0C", VR::LT, true),
        ("\t", VR::LT, true),
        ("^", VR::LO, false),
        ("\\", VR::LT, false),
        (" ", VR::PN, false),
    ] {
        let bytes = [b"\x1B$)C\xC8\xAB", between.as_bytes(), b"\xB1\xE6"].concat();
        let after = if resets { "Бц" } else { "길" };
        assert_eq!(
            set.decode(&bytes, vr),
            format!("홍{between}{after}"),
            "{between:?} in {vr:?}"
        );
    }
}

#[test]
fn without_a_declaration_utf_8_is_recognized_and_the_rest_is_latin_1() {
    assert_eq!(name("", "Jérôme".as_bytes()), "Jérôme");
    assert_eq!(name("ISO_IR 6", b"J\xE9r\xF4me"), "Jérôme");
    assert_eq!(name("", b"\x1B$B;3ED\x1B(B"), "山田");
    assert_eq!(
        name("\\ISO 2022 IR 149", b"\xC8\xAB"),
        "홍",
        "escape sequence forgotten"
    );
    assert_eq!(name("no such set", b"J\xE9"), "Jé");
    assert_eq!(
        CharacterSet::new("ISO_IR 144").decode(b"\xE9", VR::CS),
        "é",
        "CS is never extended"
    );
}

#[test]
fn misspelt_terms_are_understood() {
    for term in [
        "ISO-IR 100",
        "ISO_IR_100",
        "iso ir 100",
        "ISO_IR 100 ",
        "ISO 2022 IR 100",
        "ISO8859-1",
    ] {
        assert_eq!(
            CharacterSet::new(term).decode("é".as_bytes(), VR::LO),
            "Ã©",
            "{term}"
        );
    }
    assert_eq!(
        CharacterSet::new("UTF-8").decode("é".as_bytes(), VR::LO),
        "é"
    );
}

#[test]
fn broken_bytes_leave_a_mark_and_lose_no_neighbour() {
    assert_eq!(name("ISO_IR 192", b"A\xE7\x8E"), "A\u{FFFD}");
    assert_eq!(name("\\ISO 2022 IR 87", b"A\x1B$B;\x1B(BB"), "A\u{FFFD}B");
    assert_eq!(name("\\ISO 2022 IR 87", b"A\x1B"), "A\u{FFFD}");
    assert_eq!(name("\\ISO 2022 IR 87", b"A\x1B%GB"), "A\u{FFFD}%GB");
    assert_eq!(name("ISO_IR 13", b"A\x95"), "A\u{FFFD}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_decode_to_something(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        charset in "(|ISO 2022 IR (6|13|100|87|149|58))(\\\\ISO 2022 IR (87|159|149|58|13))?|GBK|ISO_IR 192",
    ) {
        let _ = CharacterSet::new(&charset).decode(&bytes, VR::PN);
    }
}
