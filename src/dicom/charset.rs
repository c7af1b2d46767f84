//! Text from the bytes of a value, under the character set that the data set declares (PS3.5 6.1, PS3.3 C.12.1.1.2).
//!
//! Three kinds of sets: none declared (guessed), sets that stand alone (UTF-8, GB18030, GBK), and ISO 2022 with its
//! two slots: G0 for bytes below 80H, G1 for those above, refilled by escape sequences. The tables themselves are
//! `encoding_rs`'s. Nothing here fails: what cannot be decoded becomes U+FFFD, so that a study with one bad name is
//! still found by its other keys.

use dicom_core::VR;
use encoding_rs as tables;
use encoding_rs::Encoding as Table;

const ESC: u8 = 0x1B;

/// A set that can stand in G0 or G1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// ISO-IR 6 and, since 5CH stays a delimiter and 7EH is not used in names, ISO-IR 14.
    Ascii,
    /// JIS X 0201 half-width katakana. Bytes that only make sense as Shift JIS are taken for it: Windows writes so.
    Kana,
    /// A right half of 96 characters.
    Single(&'static Table),
    JisX0208,
    JisX0212,
    KsX1001,
    Gb2312,
}

/// How a data set's text is written.
#[derive(Debug, Clone)]
enum Kind {
    /// A set without code extensions, decoded as a whole.
    Whole(&'static Table),
    /// ISO 2022. `declared` is what bytes above 7FH may mean when nothing was put in G1.
    Extended {
        g1: Option<Set>,
        declared: Option<Set>,
    },
}

/// The character set of a data set.
#[derive(Debug, Clone)]
pub struct CharacterSet(Kind);

impl Default for CharacterSet {
    /// Nothing declared.
    fn default() -> Self {
        CharacterSet(Kind::Extended {
            g1: None,
            declared: None,
        })
    }
}

impl CharacterSet {
    /// From the value of (0008,0005), all its values. Usual misspellings are understood; unknown names are taken as
    /// not declared.
    pub fn new(specific_character_set: &str) -> Self {
        let mut first = None;
        let mut declared = None;
        for (at, name) in specific_character_set.split('\\').take(16).enumerate() {
            match named(name) {
                // These cannot be combined with others (PS3.3 C.12.1.1.2); where it is done, they are what is meant.
                Some(Named::Whole(table)) => return CharacterSet(Kind::Whole(table)),
                Some(Named::Set(set)) => {
                    if at == 0 {
                        first = Some(set);
                    }
                    if set != Set::Ascii && declared.is_none() {
                        declared = Some(set);
                    }
                }
                None => {}
            }
        }
        // G0 sets cannot be active from the start; those of value 1 wait for their escape sequence.
        let g1 = first.filter(|set| !matches!(set, Set::Ascii | Set::JisX0208 | Set::JisX0212));
        CharacterSet(Kind::Extended { g1, declared })
    }

    /// The text of one value field, delimiters (`\`, and `^` `=` in names) included, padding too.
    ///
    /// A 5CH that is the second half of a character does not come out as a backslash. Only VRs that the declared set
    /// applies to use it (PS3.5 6.1.2.3); others are read as if nothing were declared.
    pub fn decode(&self, bytes: &[u8], vr: VR) -> String {
        if bytes.iter().all(|&byte| byte < 0x80 && byte != ESC) {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        match &self.0 {
            _ if !is_affected(vr) => guess(bytes, None),
            Kind::Whole(table) => table.decode_without_bom_handling(bytes).0.into_owned(),
            Kind::Extended { g1: None, declared } if !bytes.contains(&ESC) => {
                guess(bytes, *declared)
            }
            Kind::Extended { g1, declared } => Decoder::new(*g1, *declared, vr).run(bytes),
        }
    }
}

impl CharacterSet {
    /// As [`Self::decode`], but None where a character is lost, or where nothing says which one is meant.
    pub(super) fn decode_surely(&self, bytes: &[u8], vr: VR) -> Option<String> {
        let told = match &self.0 {
            Kind::Extended { declared: None, .. } => {
                bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() && !bytes.contains(&ESC)
            }
            _ => true,
        };
        let text = told.then(|| self.decode(bytes, vr))?;
        (!text.contains(char::REPLACEMENT_CHARACTER)).then_some(text)
    }
}

/// VRs whose text is in the declared set. UN is, as what it hides most often is text. Source: PS3.5 6.1.2.3.
pub(super) fn is_affected(vr: VR) -> bool {
    matches!(
        vr,
        VR::SH | VR::LO | VR::ST | VR::PN | VR::LT | VR::UC | VR::UT | VR::UN
    )
}

/// Bytes above 7FH that no set was declared or designated for: UTF-8 if they are, else a declared set that was never
/// designated, else Latin-1.
///
/// Two bytes of a Korean or Chinese set can be UTF-8 by chance, but then of a Latin or Cyrillic letter: where such a
/// set is declared, only characters that it could have meant make a text UTF-8.
fn guess(bytes: &[u8], declared: Option<Set>) -> String {
    let wide = matches!(declared, Some(Set::KsX1001 | Set::Gb2312));
    if let Ok(text) = std::str::from_utf8(bytes)
        && (!wide || text.chars().all(|c| c.is_ascii() || c >= '\u{800}'))
    {
        return text.to_owned();
    }
    let table = match declared {
        Some(Set::Single(table)) => table,
        Some(Set::Kana | Set::JisX0208 | Set::JisX0212) => tables::SHIFT_JIS,
        Some(Set::KsX1001) => tables::EUC_KR,
        Some(Set::Gb2312) => tables::GBK,
        Some(Set::Ascii) | None => tables::WINDOWS_1252,
    };
    table.decode_without_bom_handling(bytes).0.into_owned()
}

pub(super) enum Named {
    Whole(&'static Table),
    Set(Set),
}

/// The set of a defined term, with or without code extensions. Source: PS3.3 Tables C.12-2 to C.12-5.
pub(super) fn named(term: &str) -> Option<Named> {
    let term: String = term
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .take(32)
        .collect();
    let single = |table| Some(Named::Set(Set::Single(table)));
    let number = term
        .strip_prefix("ISO2022IR")
        .or_else(|| term.strip_prefix("ISOIR"))
        .unwrap_or(&term);
    match number {
        "6" | "14" => Some(Named::Set(Set::Ascii)),
        // windows-1252 is Latin-1 with letters where Latin-1 has control codes, as Windows writers use it.
        "100" | "ISO88591" | "LATIN1" => single(tables::WINDOWS_1252),
        "101" | "ISO88592" => single(tables::ISO_8859_2),
        "109" | "ISO88593" => single(tables::ISO_8859_3),
        "110" | "ISO88594" => single(tables::ISO_8859_4),
        "144" | "ISO88595" => single(tables::ISO_8859_5),
        "127" | "ISO88596" => single(tables::ISO_8859_6),
        "126" | "ISO88597" => single(tables::ISO_8859_7),
        "138" | "ISO88598" => single(tables::ISO_8859_8),
        "148" | "ISO88599" => single(tables::WINDOWS_1254),
        "166" | "ISO885911" | "TIS620" => single(tables::WINDOWS_874),
        "203" | "ISO885915" => single(tables::ISO_8859_15),
        "13" | "SHIFTJIS" | "SJIS" => Some(Named::Set(Set::Kana)),
        "87" => Some(Named::Set(Set::JisX0208)),
        "159" => Some(Named::Set(Set::JisX0212)),
        "149" | "EUCKR" => Some(Named::Set(Set::KsX1001)),
        "58" => Some(Named::Set(Set::Gb2312)),
        "192" | "UTF8" => Some(Named::Whole(tables::UTF_8)),
        "GB18030" => Some(Named::Whole(tables::GB18030)),
        "GBK" | "GB2312" => Some(Named::Whole(tables::GBK)),
        _ => None,
    }
}

/// Where an escape sequence puts a set.
enum Slot {
    G0(Set),
    G1(Set),
}

/// The escape sequence at the start of `bytes` (after ESC) and its length. Source: PS3.3 Tables C.12-3 and C.12-4.
fn designation(bytes: &[u8]) -> Option<(Slot, usize)> {
    let single = |table| Some((Slot::G1(Set::Single(table)), 2));
    match bytes {
        [b'(', b'B' | b'J', ..] => Some((Slot::G0(Set::Ascii), 2)),
        // Katakana in G0: not in the standard, but written.
        [b'(', b'I', ..] => Some((Slot::G0(Set::Kana), 2)),
        [b')', b'I', ..] => Some((Slot::G1(Set::Kana), 2)),
        [b'-', b'A', ..] => single(tables::WINDOWS_1252),
        [b'-', b'B', ..] => single(tables::ISO_8859_2),
        [b'-', b'C', ..] => single(tables::ISO_8859_3),
        [b'-', b'D', ..] => single(tables::ISO_8859_4),
        [b'-', b'L', ..] => single(tables::ISO_8859_5),
        [b'-', b'G', ..] => single(tables::ISO_8859_6),
        [b'-', b'F', ..] => single(tables::ISO_8859_7),
        [b'-', b'H', ..] => single(tables::ISO_8859_8),
        [b'-', b'M', ..] => single(tables::WINDOWS_1254),
        [b'-', b'T', ..] => single(tables::WINDOWS_874),
        [b'-', b'b', ..] => single(tables::ISO_8859_15),
        // "ESC $ @" is the edition of JIS X 0208 before 1983.
        [b'$', b'B' | b'@', ..] => Some((Slot::G0(Set::JisX0208), 2)),
        [b'$', b'(', b'D', ..] => Some((Slot::G0(Set::JisX0212), 3)),
        [b'$', b')', b'C', ..] => Some((Slot::G1(Set::KsX1001), 3)),
        [b'$', b')', b'A', ..] => Some((Slot::G1(Set::Gb2312), 3)),
        _ => None,
    }
}

/// One walk over a value field with code extensions.
struct Decoder {
    initial_g1: Option<Set>,
    declared: Option<Set>,
    vr: VR,
    g0: Set,
    g1: Option<Set>,
    text: String,
}

impl Decoder {
    fn new(g1: Option<Set>, declared: Option<Set>, vr: VR) -> Self {
        Decoder {
            initial_g1: g1,
            declared,
            vr,
            g0: Set::Ascii,
            g1,
            text: String::new(),
        }
    }

    fn run(mut self, bytes: &[u8]) -> String {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let used = match byte {
                ESC => self.escape(&rest[1..]),
                0x21..=0x7E if self.g0 != Set::Ascii => self.left(rest),
                0x00..=0x7F => self.ascii(byte),
                _ => self.right(rest),
            };
            rest = &rest[used..];
        }
        self.text
    }

    /// Follows an escape sequence; an unknown one leaves a mark in the text.
    fn escape(&mut self, after: &[u8]) -> usize {
        match designation(after) {
            Some((Slot::G0(set), length)) => {
                self.g0 = set;
                1 + length
            }
            Some((Slot::G1(set), length)) => {
                self.g1 = Some(set);
                1 + length
            }
            None => {
                self.text.push(char::REPLACEMENT_CHARACTER);
                1
            }
        }
    }

    /// Delimiters and control characters bring back the set of value 1. Source: PS3.5 6.1.2.5.3.
    fn ascii(&mut self, byte: u8) -> usize {
        let resets = match byte {
            b'\\' => !matches!(self.vr, VR::ST | VR::LT | VR::UT),
            b'^' | b'=' => self.vr == VR::PN,
            _ => byte < 0x20,
        };
        if resets {
            self.g0 = Set::Ascii;
            self.g1 = self.initial_g1;
        }
        self.text.push(char::from(byte));
        1
    }

    /// A run of G0 characters of two bytes each (or katakana), in which 5CH, 5EH and 3DH are no delimiters.
    fn left(&mut self, rest: &[u8]) -> usize {
        let graphic = |byte: &u8| (0x21..=0x7E).contains(byte);
        let run = rest
            .iter()
            .position(|byte| !graphic(byte))
            .unwrap_or(rest.len());
        if self.g0 == Set::Kana {
            self.text
                .extend(rest[..run].iter().map(|&byte| katakana(byte | 0x80)));
            return run;
        }
        let pairs = run - run % 2;
        let mut euc = Vec::with_capacity(run * 3 / 2);
        for pair in rest[..pairs].chunks_exact(2) {
            if self.g0 == Set::JisX0212 {
                euc.push(0x8F);
            }
            euc.extend([pair[0] | 0x80, pair[1] | 0x80]);
        }
        self.text
            .push_str(&tables::EUC_JP.decode_without_bom_handling(&euc).0);
        if pairs < run {
            // Half a character before a control character, an escape or the end.
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        run
    }

    /// A run of bytes above 7FH, which belong to G1.
    fn right(&mut self, rest: &[u8]) -> usize {
        let run = rest
            .iter()
            .position(|&byte| byte < 0x80)
            .unwrap_or(rest.len());
        let table = match self.g1 {
            Some(Set::Kana) => return self.kana(rest),
            Some(Set::Single(table)) => table,
            Some(Set::KsX1001) => tables::EUC_KR,
            Some(Set::Gb2312) => tables::GBK,
            Some(Set::Ascii | Set::JisX0208 | Set::JisX0212) | None => {
                self.text.push_str(&guess(&rest[..run], self.declared));
                return run;
            }
        };
        self.text
            .push_str(&table.decode_without_bom_handling(&rest[..run]).0);
        run
    }

    /// One character of JIS X 0201, or of Shift JIS.
    fn kana(&mut self, rest: &[u8]) -> usize {
        match rest {
            [byte @ 0xA1..=0xDF, ..] => {
                self.text.push(katakana(*byte));
                1
            }
            [0x81..=0x9F | 0xE0..=0xFC, 0x40..=0x7E | 0x80..=0xFC, ..] => {
                self.text
                    .push_str(&tables::SHIFT_JIS.decode_without_bom_handling(&rest[..2]).0);
                2
            }
            _ => {
                self.text.push(char::REPLACEMENT_CHARACTER);
                1
            }
        }
    }
}

/// A1H to DFH of JIS X 0201 are U+FF61 to U+FF9F in the same order.
fn katakana(byte: u8) -> char {
    match byte {
        0xA1..=0xDF => {
            char::from_u32(0xFF61 + u32::from(byte - 0xA1)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
#[path = "charset_tests.rs"]
mod tests;
