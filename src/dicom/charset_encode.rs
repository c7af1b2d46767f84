//! Bytes of a text under a Specific Character Set, and only if the set has every character (PS3.5 6.1).
//!
//! The other direction of [`charset`](super::charset). That one understands what careless writers wrote; this one
//! writes only what the standard's sets contain, though the tables of `encoding_rs` are those of Windows and know
//! more: other programs read the strict sets. What is written is read back before it is believed.

use std::collections::HashMap;
use std::sync::OnceLock;

use dicom_core::VR;
use encoding_rs as tables;
use encoding_rs::Encoding as Table;

use super::charset::{CharacterSet, Named, Set, named};

/// Most values of (0008,0005) that are looked at, as in reading.
const TERMS_MAX: usize = 16;

/// Writes text under one Specific Character Set.
#[derive(Debug, Clone)]
pub struct TextEncoder {
    reader: CharacterSet,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Whole(&'static Table),
    /// The sets in the order of their values. `first`: the one that needs no escape sequence.
    Sets {
        sets: Vec<Set>,
        first: Option<Set>,
        extensible: bool,
        latin: &'static [u8],
    },
}

/// One character of a set: one byte, or two of which the high bits are those of G1.
enum Code {
    One(u8),
    Two([u8; 2]),
}

impl TextEncoder {
    /// From the value of (0008,0005), all its values. A set whose name is not known has nothing but ASCII here.
    pub fn new(specific_character_set: &str) -> TextEncoder {
        let reader = CharacterSet::new(specific_character_set);
        let terms: Vec<_> = specific_character_set.split('\\').take(TERMS_MAX).collect();
        let mut sets = Vec::new();
        let mut first = None;
        for (at, term) in terms.iter().enumerate() {
            match named(term) {
                Some(Named::Whole(table)) => {
                    let kind = Kind::Whole(table);
                    return TextEncoder { reader, kind };
                }
                Some(Named::Set(set)) => {
                    if at == 0 && !is_in_g0(set) {
                        first = Some(set);
                    }
                    if set != Set::Ascii && !sets.contains(&set) {
                        sets.push(set);
                    }
                }
                None => {}
            }
        }
        // A multi-byte set cannot be used without its escape sequence, even where it stands alone.
        let extensible = terms.len() > 1 || sets.iter().any(|set| is_wide(*set));
        // Back from a G0 set: to ISO-IR 14 where value 1 brought it (PS3.3 Table C.12-3), else to ISO-IR 6.
        let latin: &[u8] = if first == Some(Set::Kana) {
            b"\x1B(J"
        } else {
            b"\x1B(B"
        };
        let kind = Kind::Sets {
            sets,
            first,
            extensible,
            latin,
        };
        TextEncoder { reader, kind }
    }

    /// The bytes of a value field's text, delimiters included, without padding. None when the set lacks a character.
    ///
    /// VRs that (0008,0005) does not apply to take ASCII only (PS3.5 6.1.2.3).
    pub fn encode(&self, text: &str, vr: VR) -> Option<Vec<u8>> {
        if text.contains('\x1B') {
            // Would be read as the beginning of an escape sequence.
            return None;
        }
        if text.is_ascii() {
            return Some(text.as_bytes().to_vec());
        }
        if !matches!(
            vr,
            VR::SH | VR::LO | VR::ST | VR::PN | VR::LT | VR::UC | VR::UT
        ) {
            return None;
        }
        let bytes = match &self.kind {
            Kind::Whole(table) if *table == tables::UTF_8 => text.as_bytes().to_vec(),
            // What they mean is agreed on by nobody, and differs between editions of these sets.
            _ if text.chars().any(is_private_use) => return None,
            Kind::Whole(table) => {
                let bytes = mapped(table, text)?;
                if *table == tables::GBK && !is_gbk(&bytes) {
                    return None;
                }
                bytes
            }
            Kind::Sets {
                sets,
                first,
                extensible,
                latin,
            } => Writer {
                sets,
                first: *first,
                extensible: *extensible,
                latin,
                vr,
                g0: Set::Ascii,
                g1: *first,
                out: Vec::with_capacity(text.len() + 16),
            }
            .run(text)?,
        };
        (self.reader.decode(&bytes, vr) == text).then_some(bytes)
    }
}

/// The text by one table, None when it lacks a character.
fn mapped(table: &'static Table, text: &str) -> Option<Vec<u8>> {
    let (bytes, _, lacking) = table.encode(text);
    (!lacking).then(|| bytes.into_owned())
}

fn is_private_use(one: char) -> bool {
    ('\u{E000}'..='\u{F8FF}').contains(&one)
}

/// Whether this is GBK alone, without the codes that GB 18030 added to it in two bytes, and without the 80H of Windows.
fn is_gbk(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [first, behind @ ..] = rest {
        rest = match (first, behind) {
            (..0x80, _) => behind,
            (0xA6, [0xD9..=0xDF | 0xEC | 0xED | 0xF3, ..])
            | (0xA8, [0xBC | 0xBF, ..])
            | (0xA9, [0x89..=0x95, ..])
            | (0xFE, [..=0xA0, ..])
            | (0x80, _) => return false,
            (_, [_, behind @ ..]) => behind,
            (_, []) => return false,
        };
    }
    true
}

fn is_in_g0(set: Set) -> bool {
    matches!(set, Set::Ascii | Set::JisX0208 | Set::JisX0212)
}

pub(super) fn is_wide(set: Set) -> bool {
    matches!(
        set,
        Set::JisX0208 | Set::JisX0212 | Set::KsX1001 | Set::Gb2312
    )
}

/// One value field being written with code extensions (PS3.5 6.1.2.5).
struct Writer<'a> {
    sets: &'a [Set],
    first: Option<Set>,
    extensible: bool,
    latin: &'static [u8],
    vr: VR,
    g0: Set,
    g1: Option<Set>,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn run(mut self, text: &str) -> Option<Vec<u8>> {
        for one in text.chars() {
            match u8::try_from(one).ok().filter(u8::is_ascii) {
                Some(byte) => self.ascii(byte),
                None => self.other(one)?,
            }
        }
        self.leave_g0();
        Some(self.out)
    }

    /// ASCII, before which G0 is brought back; delimiters and control characters bring back G1 too (PS3.5 6.1.2.5.3).
    /// 7EH, an overline in ISO-IR 14, is read as a tilde by everybody.
    fn ascii(&mut self, byte: u8) {
        self.leave_g0();
        let resets = match byte {
            b'\\' => !matches!(self.vr, VR::ST | VR::LT | VR::UT),
            b'^' | b'=' => self.vr == VR::PN,
            _ => byte < 0x20,
        };
        if resets {
            self.g1 = self.first;
        }
        self.out.push(byte);
    }

    fn leave_g0(&mut self) {
        if self.g0 != Set::Ascii {
            self.out.extend_from_slice(self.latin);
            self.g0 = Set::Ascii;
        }
    }

    /// A character beyond ASCII: from a set that is active if it has it, else from the first that does.
    fn other(&mut self, one: char) -> Option<()> {
        let active = [Some(self.g0), self.g1];
        let found = active
            .into_iter()
            .flatten()
            .chain(self.sets.iter().copied())
            .find_map(|set| Some((set, code(set, one)?)));
        let (set, code) = found?;
        let is_active = if is_in_g0(set) {
            self.g0 == set
        } else {
            self.g1 == Some(set)
        };
        if !is_active {
            if !self.extensible {
                return None;
            }
            self.out.extend_from_slice(escape(set)?);
            if is_in_g0(set) {
                self.g0 = set;
            } else {
                self.g1 = Some(set);
            }
        }
        match code {
            Code::One(byte) => self.out.push(byte),
            Code::Two(pair) if is_in_g0(set) => self.out.extend(pair.map(|byte| byte & 0x7F)),
            Code::Two(pair) => self.out.extend(pair),
        }
        Some(())
    }
}

/// What puts a set in its slot. Source: PS3.3 Tables C.12-3 and C.12-4.
fn escape(set: Set) -> Option<&'static [u8]> {
    let single: [(&Table, &[u8]); 11] = [
        (tables::WINDOWS_1252, b"\x1B-A"),
        (tables::ISO_8859_2, b"\x1B-B"),
        (tables::ISO_8859_3, b"\x1B-C"),
        (tables::ISO_8859_4, b"\x1B-D"),
        (tables::ISO_8859_5, b"\x1B-L"),
        (tables::ISO_8859_6, b"\x1B-G"),
        (tables::ISO_8859_7, b"\x1B-F"),
        (tables::ISO_8859_8, b"\x1B-H"),
        (tables::WINDOWS_1254, b"\x1B-M"),
        (tables::WINDOWS_874, b"\x1B-T"),
        (tables::ISO_8859_15, b"\x1B-b"),
    ];
    match set {
        Set::Ascii => None,
        Set::Kana => Some(b"\x1B)I"),
        Set::Single(table) => single
            .iter()
            .find(|(known, _)| *known == table)
            .map(|(_, escape)| *escape),
        Set::JisX0208 => Some(b"\x1B$B"),
        Set::JisX0212 => Some(b"\x1B$(D"),
        Set::KsX1001 => Some(b"\x1B$)C"),
        Set::Gb2312 => Some(b"\x1B$)A"),
    }
}

/// The code of a character in a set; None when the set, as its standard defines it, lacks the character.
fn code(set: Set, one: char) -> Option<Code> {
    let mut buffer = [0; 4];
    let pair = |table, rows: fn(u8, u8) -> bool| {
        let bytes = mapped(table, one.encode_utf8(&mut [0; 4]))?;
        let pair = <[u8; 2]>::try_from(bytes.as_slice()).ok()?;
        let [row, cell] = pair.map(|byte| byte.wrapping_sub(0xA0));
        let inside = (1..=94).contains(&row) && (1..=94).contains(&cell) && rows(row, cell);
        inside.then_some(Code::Two(pair))
    };
    match set {
        Set::Ascii => None,
        Set::Kana => {
            let at = u32::from(one).checked_sub(0xFF61)?;
            let at = u8::try_from(at).ok().filter(|at| *at <= 0x3E)?;
            Some(Code::One(0xA1 + at))
        }
        Set::Single(table) => {
            let bytes = mapped(table, one.encode_utf8(&mut buffer))?;
            match bytes.as_slice() {
                // 80H to 9FH are letters in Windows' tables and control characters in ISO's.
                [byte @ 0xA0..=0xFF] => Some(Code::One(*byte)),
                _ => None,
            }
        }
        // Rows 9 to 15 and 85 to 94 are additions of NEC and IBM.
        Set::JisX0208 => pair(tables::EUC_JP, |row, _| matches!(row, 1..=8 | 16..=84)),
        Set::JisX0212 => jis_x_0212(one).map(Code::Two),
        Set::KsX1001 => pair(tables::EUC_KR, |_, _| true),
        // The rest of these rows is GBK's.
        Set::Gb2312 => pair(tables::GBK, |row, cell| match row {
            2 => matches!(cell, 17..=66 | 69..=78 | 81..=92),
            6 => matches!(cell, 1..=24 | 33..=56),
            8 => matches!(cell, 1..=26 | 37..=73),
            _ => matches!(row, 1..=9 | 16..=87),
        }),
    }
}

/// `encoding_rs` reads JIS X 0212 but does not write it: its table, turned round once.
fn jis_x_0212(one: char) -> Option<[u8; 2]> {
    static CODES: OnceLock<HashMap<char, [u8; 2]>> = OnceLock::new();
    let codes = CODES.get_or_init(|| {
        let pairs = (0xA1..=0xFE).flat_map(|row| (0xA1..=0xFE).map(move |cell| [row, cell]));
        let read = |pair: [u8; 2]| {
            let bytes = [0x8F, pair[0], pair[1]];
            let text = tables::EUC_JP.decode_without_bom_handling(&bytes).0;
            let mut chars = text.chars();
            let one = chars.next()?;
            let whole = chars.next().is_none() && one != char::REPLACEMENT_CHARACTER;
            whole.then_some((one, pair))
        };
        pairs.filter_map(read).collect()
    });
    codes.get(&one).copied()
}

#[cfg(test)]
#[path = "charset_encode_tests.rs"]
mod tests;
