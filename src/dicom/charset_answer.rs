//! Which Specific Character Set an answer is written in: the requester's own where it has every character, else UTF-8.

use dicom_core::VR;
use encoding_rs as tables;

use super::charset::{Named, Set, is_affected, named};
use super::charset_encode::{TextEncoder, is_wide};

/// What answers may be written in where the requester declared nothing: Latin-1 is what programs assume then.
const UNDECLARED: &str = "ISO_IR 100";
const UTF_8: &str = "ISO_IR 192";

/// The character sets that come into question for the answers to one request, the preferred one first.
#[derive(Debug, Clone)]
pub struct Answering {
    preferred: AnswerSet,
    utf_8: AnswerSet,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct AnswerSet {
    term: String,
    encoder: TextEncoder,
}

impl Answering {
    /// `declared`: all values of (0008,0005) in the request; empty where it is absent.
    pub fn new(declared: &str) -> Answering {
        let term = defined_terms(declared).unwrap_or_else(|| UNDECLARED.to_owned());
        Answering {
            preferred: AnswerSet::new(term),
            utf_8: AnswerSet::new(UTF_8.to_owned()),
        }
    }

    /// The set for an answer with these texts.
    pub fn choose(&self, texts: &[(&str, VR)]) -> &AnswerSet {
        let fits = |(text, vr): &(&str, VR)| self.preferred.written(text, *vr).is_some();
        if texts.iter().all(fits) {
            &self.preferred
        } else {
            &self.utf_8
        }
    }
}

impl AnswerSet {
    fn new(term: String) -> AnswerSet {
        let encoder = TextEncoder::new(&term);
        AnswerSet { term, encoder }
    }

    /// The value of (0008,0005), all its values.
    pub fn term(&self) -> &str {
        &self.term
    }

    /// The bytes of a text of an answer for which this set was chosen. A control character that would begin an escape
    /// sequence becomes `?`.
    pub fn encode(&self, text: &str, vr: VR) -> Vec<u8> {
        self.written(text, vr)
            .or_else(|| self.written(&text.replace('\x1B', "?"), vr))
            .unwrap_or_else(|| text.replace(|c: char| !c.is_ascii(), "?").into_bytes())
    }

    /// Characters that a device put where only ASCII may stand are written as in any other text: read, rather than lost.
    fn written(&self, text: &str, vr: VR) -> Option<Vec<u8>> {
        let vr = if is_affected(vr) && vr != VR::UN {
            vr
        } else {
            VR::LO
        };
        self.encoder.encode(text, vr)
    }
}

/// What was declared in the standard's own spelling (PS3.3 C.12.1.1.2): misspelt and unknown terms would be repeated
/// otherwise. None where nothing beyond ASCII was declared.
fn defined_terms(declared: &str) -> Option<String> {
    let terms: Vec<Option<Named>> = declared.split('\\').take(16).map(named).collect();
    let whole = terms.iter().flatten().find_map(|term| match term {
        Named::Whole(table) => Some(*table),
        Named::Set(_) => None,
    });
    if let Some(table) = whole {
        return Some(if table == tables::UTF_8 {
            UTF_8.to_owned()
        } else {
            table.name().to_ascii_uppercase()
        });
    }
    let first = match terms.first() {
        Some(Some(Named::Set(set))) if !is_wide(*set) => Some(*set),
        _ => None,
    };
    let mut others: Vec<Set> = Vec::new();
    for term in terms.iter().flatten() {
        if let Named::Set(set) = term
            && *set != Set::Ascii
            && Some(*set) != first
            && !others.contains(set)
        {
            others.push(*set);
        }
    }
    if others.is_empty() {
        let alone = first.filter(|set| *set != Set::Ascii)?;
        return Some(format!("ISO_IR {}", number(alone)?));
    }
    let mut text = match first {
        Some(set) => format!("ISO 2022 IR {}", number(set)?),
        None => String::new(),
    };
    for set in others {
        text += &format!("\\ISO 2022 IR {}", number(set)?);
    }
    Some(text)
}

/// Registration numbers. Source: PS3.3 Tables C.12-2 to C.12-4.
fn number(set: Set) -> Option<&'static str> {
    let single = [
        (tables::WINDOWS_1252, "100"),
        (tables::ISO_8859_2, "101"),
        (tables::ISO_8859_3, "109"),
        (tables::ISO_8859_4, "110"),
        (tables::ISO_8859_5, "144"),
        (tables::ISO_8859_6, "127"),
        (tables::ISO_8859_7, "126"),
        (tables::ISO_8859_8, "138"),
        (tables::WINDOWS_1254, "148"),
        (tables::WINDOWS_874, "166"),
        (tables::ISO_8859_15, "203"),
    ];
    match set {
        Set::Ascii => Some("6"),
        Set::Kana => Some("13"),
        Set::Single(table) => single
            .iter()
            .find(|(known, _)| *known == table)
            .map(|(_, number)| *number),
        Set::JisX0208 => Some("87"),
        Set::JisX0212 => Some("159"),
        Set::KsX1001 => Some("149"),
        Set::Gb2312 => Some("58"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was declared, and under what it is answered where that has every character.
    #[test]
    fn a_declared_set_is_repeated_in_the_standards_spelling() {
        let rows = [
            ("", "ISO_IR 100"),
            ("ISO_IR 6", "ISO_IR 100"),
            ("what", "ISO_IR 100"),
            ("ISO_IR 192", "ISO_IR 192"),
            ("utf-8", "ISO_IR 192"),
            ("ISO IR 144", "ISO_IR 144"),
            ("ISO 2022 IR 166", "ISO_IR 166"),
            ("ISO_IR 13", "ISO_IR 13"),
            ("GBK", "GBK"),
            ("gb18030", "GB18030"),
            ("\\ISO 2022 IR 87", "\\ISO 2022 IR 87"),
            ("ISO 2022 IR 149", "\\ISO 2022 IR 149"),
            (
                "ISO 2022 IR 6\\ISO 2022 IR 58",
                "ISO 2022 IR 6\\ISO 2022 IR 58",
            ),
            (
                "ISO_IR 13\\ISO_IR 87\\what\\ISO_IR 87\\ISO 2022 IR 159",
                "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
            ),
            (
                "ISO 2022 IR 100\\ISO_IR 144",
                "ISO 2022 IR 100\\ISO 2022 IR 144",
            ),
            ("ISO 2022 IR 87\\ISO_IR 192", "ISO_IR 192"),
        ];
        for (declared, expected) in rows {
            assert_eq!(
                Answering::new(declared).choose(&[]).term(),
                expected,
                "{declared}"
            );
        }
    }

    /// Method: a name in the requester's set where it fits, in UTF-8 where it does not.
    #[test]
    fn what_the_requesters_set_lacks_is_answered_in_utf_8() {
        let name = "Yamada^Tarou=山田^太郎=やまだ^たろう";
        let rows: [(&str, &str, &str, &[u8]); 5] = [
            ("ISO_IR 100", "Jérôme", "ISO_IR 100", b"J\xE9r\xF4me"),
            ("ISO_IR 100", "山", "ISO_IR 192", "山".as_bytes()),
            (
                "\\ISO 2022 IR 87",
                "山",
                "\\ISO 2022 IR 87",
                b"\x1B$B;3\x1B(B",
            ),
            ("\\ISO 2022 IR 87", "홍", "ISO_IR 192", "홍".as_bytes()),
            ("ISO_IR 192", "A\x1BB", "ISO_IR 192", b"A?B"),
        ];
        for (declared, text, term, bytes) in rows {
            let answering = Answering::new(declared);
            let chosen = answering.choose(&[("CT", VR::CS), (text, VR::PN)]);
            assert_eq!(chosen.term(), term, "{text} in {declared}");
            assert_eq!(chosen.encode(text, VR::PN), bytes, "{text} in {declared}");
        }
        let chosen = Answering::new("ISO_IR 13\\ISO_IR 87");
        let chosen = chosen.choose(&[(name, VR::PN)]);
        assert_eq!(chosen.term(), "ISO 2022 IR 13\\ISO 2022 IR 87");
        assert_eq!(chosen.encode("é", VR::CS), b"?", "chosen for other texts");
    }

    proptest::proptest! {
        #[test]
        fn what_is_answered_reads_back(
            text in "[^\u{80}-\u{9F}\u{1B}]{0,32}|[A-Z^=éПΩשﾔ山홍东]{0,8}",
            declared in "(|ISO 2022 IR (6|13|100|144|87|149|58))(\\\\ISO 2022 IR (87|159|149|58|13))?|GBK|ISO_IR (192|126|13)",
        ) {
            let answering = Answering::new(&declared);
            for vr in [VR::LT, VR::PN, VR::LO] {
                let chosen = answering.choose(&[(&text, vr)]);
                let read = super::super::CharacterSet::new(chosen.term());
                proptest::prop_assert_eq!(read.decode(&chosen.encode(&text, vr), vr), text.clone());
            }
        }
    }
}
