//! What is typed after `kura find`: keys, and the columns to be shown.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;

use super::{Failure, keyword};
use crate::control::FindKey;
use crate::dicom::{Tag, VR, items, vr_of};
use crate::index::Values;

/// An attribute, or one in the items of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    pub tag: u32,
    pub within: Option<u32>,
}

impl Attribute {
    pub const fn of(tag: Tag) -> Attribute {
        Attribute {
            tag: (tag.0 as u32) << 16 | tag.1 as u32,
            within: None,
        }
    }

    /// `KEYWORD`, `(gggg,eeee)`, `ggggeeee` or `SEQUENCE.KEY`.
    pub fn read(text: &str) -> Result<Attribute, Failure> {
        let Some((sequence, inner)) = text.split_once('.') else {
            let tag = tag(text)?;
            return Ok(Attribute { tag, within: None });
        };
        let within = tag(sequence)?;
        if vr(within) != VR::SQ {
            return Err(format!("{sequence} is not a sequence").into());
        }
        Ok(Attribute {
            tag: tag(inner)?,
            within: Some(within),
        })
    }

    pub fn name(self) -> String {
        match self.within {
            Some(sequence) => format!("{}.{}", keyword(sequence), keyword(self.tag)),
            None => keyword(self.tag),
        }
    }

    /// Its value in a match; of an attribute in several items all of them.
    pub fn value(self, values: &Values) -> String {
        let text = |tag| values.get(&tag).map_or("", String::as_str);
        match self.within {
            None => text(self.tag).to_owned(),
            Some(sequence) => {
                let items = items::from_text(text(sequence)).into_iter();
                let texts: Vec<String> = items.filter_map(|mut i| i.remove(&self.tag)).collect();
                texts.join("\\")
            }
        }
    }

    /// Among the keys, once; with a value where one is given.
    pub fn add(self, keys: &mut Vec<FindKey>, value: &str) {
        match self.within {
            None => add(keys, self.tag, value),
            Some(sequence) => {
                add(keys, sequence, "");
                if let Some(key) = keys.iter_mut().find(|key| key.tag == sequence) {
                    add(&mut key.items, self.tag, value);
                }
            }
        }
    }
}

fn add(keys: &mut Vec<FindKey>, tag: u32, value: &str) {
    match keys.iter_mut().find(|key| key.tag == tag) {
        Some(key) if key.value.is_empty() => value.clone_into(&mut key.value),
        Some(key) if value.is_empty() || key.value == value => {}
        // Both must match.
        _ => keys.push(FindKey {
            tag,
            value: value.to_owned(),
            items: Vec::new(),
        }),
    }
}

pub fn vr(tag: u32) -> VR {
    vr_of(Tag((tag >> 16) as u16, tag as u16))
}

fn tag(text: &str) -> Result<u32, Failure> {
    let bare = text
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(text)
        .replace(',', "");
    if bare.len() == 8 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(u32::from_str_radix(&bare, 16)?);
    }
    let entry = StandardDataDictionary.by_name(text);
    let entry = entry.ok_or_else(|| {
        format!(
            "{text} is neither a DICOM keyword, such as PatientID, nor a tag, such as (0010,0020)"
        )
    })?;
    Ok(Attribute::of(entry.tag()).tag)
}

/// Names with commas between them, of which tags have one inside.
pub fn list(text: &str) -> Result<Vec<Attribute>, Failure> {
    let mut names = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            ',' if depth == 0 => names.push(String::new()),
            _ => {
                depth += i32::from(c == '(') - i32::from(c == ')');
                names.last_mut().expect("one at least").push(c);
            }
        }
    }
    let names = names.iter().map(|name| name.trim());
    names
        .filter(|name| !name.is_empty())
        .map(Attribute::read)
        .collect()
}

/// `today` and `yesterday` in a date, also at the ends of a range.
pub fn with_dates(tag: u32, value: &str) -> String {
    if vr(tag) != VR::DA {
        return value.to_owned();
    }
    let today = jiff::Zoned::now().date();
    let text = |date: jiff::civil::Date| date.strftime("%Y%m%d").to_string();
    let ends = value.split('-').map(|end| match end {
        "today" => text(today),
        "yesterday" => today.yesterday().map_or_else(|_| end.to_owned(), text),
        end => end.to_owned(),
    });
    ends.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_keywords_tags_and_places_in_sequences() {
        let read = |text: &str| Attribute::read(text).unwrap().name();
        for text in [
            "PatientID",
            "(0010,0020)",
            "0010,0020",
            "00100020",
            "(0010,0020",
        ] {
            match text {
                "(0010,0020" => assert!(Attribute::read(text).is_err()),
                text => assert_eq!(read(text), "PatientID"),
            }
        }
        let inner = "RequestAttributesSequence.ScheduledProcedureStepID";
        assert_eq!(read(inner), inner);
        assert_eq!(read("(0040,0275).(0040,0009)"), inner);
        for text in ["PatientsID", "PatientID.StudyID", "", "."] {
            assert!(Attribute::read(text).is_err(), "{text}");
        }
        let names = list("PatientID,(0008,0020), RequestAttributesSequence.(0040,0009),").unwrap();
        let names: Vec<_> = names.into_iter().map(Attribute::name).collect();
        assert_eq!(names, ["PatientID", "StudyDate", inner]);
    }

    #[test]
    fn two_values_of_one_key_must_both_match_and_keys_of_a_sequence_are_of_one_item() {
        let mut keys = Vec::new();
        for (name, value) in [
            ("PatientName", "A*"),
            ("PatientName", ""),
            ("PatientName", "*B"),
            ("RequestAttributesSequence.ScheduledProcedureStepID", "S"),
            ("RequestAttributesSequence.RequestedProcedureID", "R"),
        ] {
            Attribute::read(name).unwrap().add(&mut keys, value);
        }
        let told: Vec<_> = keys.iter().map(|k| (&*k.value, k.items.len())).collect();
        assert_eq!(told, [("A*", 0), ("*B", 0), ("", 2)]);
    }

    #[test]
    fn today_is_a_date_in_keys_of_dates_only() {
        let today = jiff::Zoned::now().date().strftime("%Y%m%d").to_string();
        assert_eq!(
            with_dates(0x0008_0020, "20260101-today"),
            format!("20260101-{today}")
        );
        assert_eq!(with_dates(0x0008_0020, "-20260101"), "-20260101");
        assert_eq!(with_dates(0x0010_0010, "today"), "today");
    }
}
