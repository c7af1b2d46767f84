//! One match as the identifier of a pending C-FIND response (PS3.4 C.4.1.1.3.2).

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::dicom::{Answering, Tag, attributes, elements, items};
use crate::index::{Key, Query, Values};

use super::identifier::{key, tag};

/// What all answers to one query have in common.
pub struct Answers<'a> {
    pub query: &'a Query,
    pub ae_title: &'a str,
    /// Explicit, else implicit VR little endian.
    pub explicit: bool,
    pub character_sets: Answering,
}

/// An element of an answer; of a sequence its items.
enum Content {
    Text(String),
    Items(Vec<Vec<Element>>),
}

struct Element {
    tag: Tag,
    vr: VR,
    content: Content,
}

impl Answers<'_> {
    /// Every key that was asked, with its value or empty, in the order of tags; and always the character set really used,
    /// the level, who has it and whether it is on line.
    pub fn encode(&self, values: &Values) -> Vec<u8> {
        let availability = values.get(&key(tags::INSTANCE_AVAILABILITY));
        let own = [
            (
                tags::QUERY_RETRIEVE_LEVEL,
                VR::CS,
                self.query.level.as_str(),
            ),
            (tags::RETRIEVE_AE_TITLE, VR::AE, self.ae_title),
            (
                tags::INSTANCE_AVAILABILITY,
                VR::CS,
                availability.map_or("ONLINE", String::as_str),
            ),
        ];
        let own = own.map(|(tag, vr, text)| Element {
            tag,
            vr,
            content: Content::Text(text.to_owned()),
        });
        let mut elements = Vec::from(own);
        let asked = self.query.keys.iter();
        elements.extend(asked.map(|asked| element(asked, values.get(&asked.tag))));
        elements.sort_by_key(|element| element.tag);
        elements.dedup_by_key(|element| element.tag);
        let mut texts = Vec::new();
        each_text(&elements, &mut texts);
        let character_set = self.character_sets.choose(&texts);
        elements.insert(
            elements.partition_point(|element| element.tag < tags::SPECIFIC_CHARACTER_SET),
            Element {
                tag: tags::SPECIFIC_CHARACTER_SET,
                vr: VR::CS,
                content: Content::Text(character_set.term().to_owned()),
            },
        );
        let mut out = Vec::new();
        put_all(&mut out, self.explicit, &elements, &|text, vr| {
            character_set.encode(text, vr)
        });
        out
    }
}

fn element(asked: &Key, value: Option<&String>) -> Element {
    let text = value.map_or("", String::as_str);
    let content = match asked.vr {
        VR::SQ => Content::Items(
            items::from_text(text)
                .iter()
                .map(|item| item_elements(&asked.items, item))
                .collect(),
        ),
        _ => Content::Text(text.to_owned()),
    };
    Element {
        tag: tag(asked.tag),
        vr: asked.vr,
        content,
    }
}

/// The sub keys that were asked; where none was, all that is kept.
fn item_elements(asked: &[Key], kept: &items::Item) -> Vec<Element> {
    let text = |tag: u32| kept.get(&tag).cloned().unwrap_or_default();
    let mut elements: Vec<Element> = if asked.is_empty() {
        kept.iter()
            .map(|(key, text)| Element {
                tag: tag(*key),
                vr: attributes::vr_of(tag(*key)),
                content: Content::Text(text.clone()),
            })
            .collect()
    } else {
        asked
            .iter()
            .map(|asked| Element {
                tag: tag(asked.tag),
                vr: asked.vr,
                content: match asked.vr {
                    // Of a sequence in a sequence nothing is kept.
                    VR::SQ => Content::Items(Vec::new()),
                    _ => Content::Text(text(asked.tag)),
                },
            })
            .collect()
    };
    elements.sort_by_key(|element| element.tag);
    elements.dedup_by_key(|element| element.tag);
    elements
}

fn each_text<'a>(elements: &'a [Element], texts: &mut Vec<(&'a str, VR)>) {
    for element in elements {
        match &element.content {
            Content::Text(text) => texts.push((text, element.vr)),
            Content::Items(items) => items.iter().for_each(|item| each_text(item, texts)),
        }
    }
}

fn put_all(
    out: &mut Vec<u8>,
    explicit: bool,
    elements: &[Element],
    encode: &dyn Fn(&str, VR) -> Vec<u8>,
) {
    for element in elements {
        let bytes = match &element.content {
            Content::Text(text) => value(text, element.vr, encode),
            Content::Items(items) => {
                let mut bytes = Vec::new();
                for item in items {
                    let mut content = Vec::new();
                    put_all(&mut content, explicit, item, encode);
                    elements::put(&mut bytes, explicit, ITEM, VR::UN, &content);
                }
                bytes
            }
        };
        elements::put(out, explicit, element.tag, element.vr, &bytes);
    }
}

/// PS3.5 7.5.
const ITEM: Tag = Tag(0xFFFE, 0xE000);

fn value(text: &str, vr: VR, encode: &dyn Fn(&str, VR) -> Vec<u8>) -> Vec<u8> {
    match vr {
        VR::US => numbers(text, u16::to_le_bytes),
        VR::SS => numbers(text, i16::to_le_bytes),
        VR::UL => numbers(text, u32::to_le_bytes),
        VR::SL => numbers(text, i32::to_le_bytes),
        VR::UV => numbers(text, u64::to_le_bytes),
        VR::SV => numbers(text, i64::to_le_bytes),
        VR::FL => numbers(text, f32::to_le_bytes),
        VR::FD => numbers(text, f64::to_le_bytes),
        VR::AT => text
            .split('\\')
            .filter_map(|tag| u32::from_str_radix(tag, 16).ok())
            .flat_map(|tag| {
                let [a, b, c, d] = tag.to_be_bytes();
                [b, a, d, c]
            })
            .collect(),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ => Vec::new(),
        _ => encode(text, vr),
    }
}

fn numbers<N: std::str::FromStr, const LEN: usize>(
    text: &str,
    bytes: impl Fn(N) -> [u8; LEN],
) -> Vec<u8> {
    text.split('\\')
        .filter_map(|number| number.trim().parse().ok())
        .flat_map(bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{Level, Wanted, scan, ts};

    const STEPS: u32 = 0x0040_0275;

    fn encoded(keys: Vec<Key>, values: &[(u32, &str)], explicit: bool) -> Vec<u8> {
        let values = values.iter().map(|(tag, text)| (*tag, (*text).to_owned()));
        let answers = Answers {
            query: &Query::new(Level::Study, keys),
            ae_title: "KURA",
            explicit,
            character_sets: Answering::new("ISO_IR 100"),
        };
        answers.encode(&values.collect())
    }

    /// Method: one text in each VR of numbers, read back by the scanner.
    #[test]
    fn numbers_are_written_in_binary() {
        let rows = [
            (0x0028_0010, VR::US, "512"),
            (0x0028_0106, VR::SS, "-1\\2"),
            (0x0028_1101, VR::UL, "4294967295"),
            (0x0018_6020, VR::SL, "-70000"),
            (0x0018_605A, VR::FL, "1.5"),
            (0x0018_602C, VR::FD, "-0.1"),
            (0x0028_0009, VR::AT, "00181063"),
        ];
        let keys = rows.map(|(tag, vr, _)| Key::new(tag, vr, ""));
        let values = rows.map(|(tag, _, text)| (tag, text));
        let bytes = encoded(keys.to_vec(), &values, true);
        let read = scan(&bytes, ts::EXPLICIT_VR_LITTLE_ENDIAN, Wanted::All).unwrap();
        for (key, _, text) in rows {
            assert_eq!(read.text(tag(key)).as_deref(), Some(text));
        }
    }

    /// What is asked in the item, what is kept, what is written; all in implicit VR.
    #[test]
    fn a_sequence_has_an_item_for_each_that_is_kept() {
        let mut asked = Key::new(STEPS, VR::SQ, "");
        let kept = r#"[{"00400009":"S1","00401001":"R1"},{"00401001":"R2"}]"#;
        let sequence = |asked: &Key, kept: &str, explicit| {
            let bytes = encoded(vec![asked.clone()], &[(STEPS, kept)], explicit);
            let start = bytes
                .windows(4)
                .position(|four| four == b"\x40\0\x75\x02")
                .expect("the sequence is answered");
            bytes[start + 4..].to_vec()
        };
        assert_eq!(sequence(&asked, "", false), [0; 4]);
        assert_eq!(sequence(&asked, "", true), b"SQ\0\0\0\0\0\0");
        let all = b"\x2E\0\0\0\
            \xFE\xFF\0\xE0\x14\0\0\0\x40\0\x09\0\x02\0\0\0S1\x40\0\x01\x10\x02\0\0\0R1\
            \xFE\xFF\0\xE0\x0A\0\0\0\x40\0\x01\x10\x02\0\0\0R2";
        assert_eq!(sequence(&asked, kept, false), all);
        asked.items = vec![
            Key::new(0x0040_0009, VR::SH, "S*"),
            Key::new(0x0008_1110, VR::SQ, ""),
        ];
        let some = b"SQ\0\0\x36\0\0\0\
            \xFE\xFF\0\xE0\x16\0\0\0\x08\0\x10\x11SQ\0\0\0\0\0\0\x40\0\x09\0SH\x02\0S1\
            \xFE\xFF\0\xE0\x14\0\0\0\x08\0\x10\x11SQ\0\0\0\0\0\0\x40\0\x09\0SH\0\0";
        let written = sequence(&asked, kept, true);
        assert_eq!(written[8..], some[8..]);
    }

    #[test]
    fn the_character_set_fits_what_is_in_items_too() {
        let asked = Key::new(STEPS, VR::SQ, "");
        for (text, term) in [("Jérôme", "ISO_IR 100"), ("山田", "ISO_IR 192")] {
            let kept = format!(r#"[{{"00321033":"{text}"}}]"#);
            let bytes = encoded(vec![asked.clone()], &[(STEPS, &kept)], false);
            let read = scan(&bytes, ts::IMPLICIT_VR_LITTLE_ENDIAN, Wanted::All).unwrap();
            let said = read.text(tags::SPECIFIC_CHARACTER_SET);
            assert_eq!(said.as_deref(), Some(term));
        }
    }
}
