//! Identifiers of C-FIND, C-MOVE and C-GET: hostile bytes in, keys out; answers in, bytes out (PS3.4 C.4).

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{Attributes, Level, Tag, attributes, charset, elements, ts};
use crate::index::{Key, Values};
use crate::net::{Association, NetError};

use super::status::{self, Status};

/// An identifier larger than this is refused, bytes. The largest real ones hold lists of a few thousand UIDs.
const IDENTIFIER_BYTES_MAX: usize = 4 << 20;

pub struct Identifier {
    pub level: Level,
    pub attributes: Attributes,
}

/// Receives the identifier of the message at hand. The inner error is what the peer is to be told.
pub fn receive(
    association: &mut Association,
    transfer_syntax: &str,
) -> Result<Result<Identifier, Status>, NetError> {
    let mut scanner = Some(Scanner::new(transfer_syntax, Wanted::All));
    let mut length = 0;
    let mut wrong = None;
    while let Some(fragment) = association.data_fragment()? {
        length += fragment.len();
        let Some(feeding) = &mut scanner else {
            continue;
        };
        if length > IDENTIFIER_BYTES_MAX {
            wrong = Some("the identifier is larger than 4 MiB".to_owned());
            scanner = None;
        } else if let Err(error) = feeding.feed(fragment) {
            wrong = Some(error.to_string());
            scanner = None;
        }
    }
    let attributes = match scanner.map(Scanner::finish) {
        Some(Ok(attributes)) => attributes,
        Some(Err(error)) => {
            return Ok(Err(Status::new(
                status::CANNOT_UNDERSTAND,
                error.to_string(),
            )));
        }
        None => {
            return Ok(Err(Status::new(
                status::CANNOT_UNDERSTAND,
                wrong.unwrap_or_default(),
            )));
        }
    };
    let text = attributes
        .text(tags::QUERY_RETRIEVE_LEVEL)
        .unwrap_or_default();
    Ok(match text.trim().to_ascii_uppercase().parse() {
        Ok(level) => Ok(Identifier { level, attributes }),
        Err(_) => Err(Status::new(
            status::DATA_SET_MISMATCH,
            format!(
                "Query/Retrieve Level (0008,0052) is {text:?}, not PATIENT, STUDY, SERIES or IMAGE"
            ),
        )),
    })
}

impl Identifier {
    /// What is asked for: every attribute of the identifier but those that say how to ask.
    pub fn keys(&self) -> Vec<Key> {
        self.attributes
            .iter()
            .filter(|(tag, _, _)| !is_about_the_query(*tag))
            .map(|(tag, vr, _)| {
                let vr = match attributes::vr_of(tag) {
                    VR::UN => vr,
                    known => known,
                };
                Key::new(key(tag), vr, self.attributes.text(tag).unwrap_or_default())
            })
            .collect()
    }

    /// The UIDs of a list key; a lone empty value is none.
    pub fn uids(&self, tag: Tag) -> Vec<String> {
        let text = self.attributes.text(tag).unwrap_or_default();
        text.split('\\')
            .map(str::trim)
            .filter(|uid| !uid.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// Group lengths, the character set, the level and what older consoles put into groups below 8: never keys.
fn is_about_the_query(tag: Tag) -> bool {
    tag.group() < 0x0008
        || tag.element() == 0
        || tag == tags::SPECIFIC_CHARACTER_SET
        || tag == tags::QUERY_RETRIEVE_LEVEL
        || tag == tags::TIMEZONE_OFFSET_FROM_UTC
        || tag == tags::RETRIEVE_AE_TITLE
        || tag == tags::INSTANCE_AVAILABILITY
}

pub fn key(tag: Tag) -> u32 {
    (u32::from(tag.group()) << 16) | u32::from(tag.element())
}

/// Encodes one match: every key that was asked, with its value or empty, in the order of tags; and always the character
/// set really used, the level, who has it and whether it is on line (PS3.4 C.4.1.1.3.2).
pub fn answer(
    level: Level,
    keys: &[Key],
    values: &Values,
    ae_title: &str,
    transfer_syntax: &str,
) -> Vec<u8> {
    let explicit = transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN;
    let texts: Vec<&str> = keys
        .iter()
        .filter_map(|key| values.get(&key.tag))
        .map(String::as_str)
        .collect();
    let character_set = charset::encode(&texts);
    let level = level.to_string();
    let availability = values
        .get(&key(tags::INSTANCE_AVAILABILITY))
        .map_or("ONLINE", String::as_str);
    let mut rows: Vec<(Tag, VR, &str)> = vec![
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, character_set),
        (tags::QUERY_RETRIEVE_LEVEL, VR::CS, &level),
        (tags::RETRIEVE_AE_TITLE, VR::AE, ae_title),
        (tags::INSTANCE_AVAILABILITY, VR::CS, availability),
    ];
    for key in keys {
        let tag = Tag((key.tag >> 16) as u16, key.tag as u16);
        rows.push((tag, key.vr, values.get(&key.tag).map_or("", String::as_str)));
    }
    rows.sort_by_key(|(tag, _, _)| *tag);
    rows.dedup_by_key(|(tag, _, _)| *tag);
    let mut out = Vec::new();
    for (tag, vr, value) in rows {
        let bytes = match vr {
            VR::SQ => Vec::new(),
            VR::US | VR::SS => numbers(value, |number: i32| (number as u16).to_le_bytes()),
            VR::UL | VR::SL => numbers(value, |number: i64| (number as u32).to_le_bytes()),
            _ => charset::encode_with(character_set, value),
        };
        elements::put(&mut out, explicit, tag, vr, &bytes);
    }
    out
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
