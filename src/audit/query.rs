//! What the audit says of a query: by which attributes it asks, and of what they ask for only what names no patient, unless
//! the configuration says otherwise.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};

use crate::dicom::{Tag, VR, elements, tags, vr_of};

/// Keys that a line names; a query has a dozen.
const KEYS_MAX: usize = 64;
/// Longest value that is repeated, characters.
const VALUE_LENGTH_MAX: usize = 64;

pub struct Query {
    /// For people.
    pub words: String,
    /// As a data set, Implicit VR Little Endian, in base64.
    pub identifier: String,
    /// Study Instance UIDs that it names.
    pub studies: Vec<String>,
}

/// `keys`: what is asked for, and what it must be; an empty value is only asked for.
pub fn query(level: &str, keys: &[(Tag, &str)], with_values: bool) -> Query {
    let mut sorted: Vec<(Tag, &str)> = keys.iter().take(KEYS_MAX).copied().collect();
    sorted.push((tags::QUERY_RETRIEVE_LEVEL, level));
    sorted.sort_by_key(|(tag, _)| *tag);
    sorted.dedup_by_key(|(tag, _)| *tag);
    let (mut named, mut data, mut studies) = (Vec::new(), Vec::new(), Vec::new());
    for (tag, value) in sorted {
        let vr = vr_of(tag);
        let is_level = tag == tags::QUERY_RETRIEVE_LEVEL;
        let is_shown = with_values || is_level || vr == VR::UI;
        let value: String = value.chars().take(VALUE_LENGTH_MAX).collect();
        if tag == tags::STUDY_INSTANCE_UID {
            let uids = value.split('\\').map(str::trim);
            let uids = uids.filter(|uid| !uid.is_empty() && !uid.contains(['*', '?']));
            studies.extend(uids.map(str::to_owned));
        }
        if !value.is_empty() && !is_level {
            named.push(match is_shown {
                true => format!("{}={value}", name(tag)),
                false => name(tag),
            });
        }
        let value = if is_shown { value.as_str() } else { "" };
        elements::put(&mut data, false, tag, vr, value.as_bytes());
    }
    let level: String = level.chars().take(VALUE_LENGTH_MAX).collect();
    let words = match named.is_empty() {
        true => format!("a query at {level} level for everything"),
        false => format!("a query at {level} level by {}", named.join(", ")),
    };
    Query {
        words,
        identifier: BASE64.encode(data),
        studies,
    }
}

/// As the standard calls it, else its number.
fn name(tag: Tag) -> String {
    let known = dicom_dictionary_std::StandardDataDictionary.by_tag(tag);
    known.map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_patient_is_said_only_where_it_may_be() {
        let keys = [
            (tags::PATIENT_NAME, "YAMADA*"),
            (tags::PATIENT_ID, ""),
            (tags::STUDY_INSTANCE_UID, "1.2.3"),
        ];
        let plain = query("STUDY", &keys, false);
        assert_eq!(
            plain.words,
            "a query at STUDY level by PatientName, StudyInstanceUID=1.2.3"
        );
        assert_eq!(plain.studies, ["1.2.3"]);
        let data = BASE64.decode(&plain.identifier).unwrap();
        assert!(!data.windows(6).any(|part| part == b"YAMADA"));
        // (0008,0052), of six bytes.
        assert_eq!(data[..14], *b"\x08\0\x52\0\x06\0\0\0STUDY ");
        let whole = query("STUDY", &keys, true);
        assert!(whole.words.contains("PatientName=YAMADA*"));
        let data = BASE64.decode(&whole.identifier).unwrap();
        assert!(data.windows(6).any(|part| part == b"YAMADA"));
    }
}
