//! Identifiers of C-FIND, C-MOVE and C-GET: hostile bytes in, keys out (PS3.4 C.4). The other direction is
//! [`answer`](super::answer).

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{Attributes, Level, Tag, attributes};
use crate::index::Key;
use crate::net::{Association, NetError};

use super::status::{self, Status};

/// An identifier larger than this is refused, bytes. A scan keeps all elements of one of this size, whatever they are;
/// the largest real ones hold lists of a thousand UIDs.
const IDENTIFIER_BYTES_MAX: usize = 512 << 10;

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
            wrong = Some("the identifier is larger than 512 KiB".to_owned());
            scanner = None;
        } else if let Err(error) = feeding.feed(fragment) {
            wrong = Some(error.to_string());
            scanner = None;
        }
    }
    Ok(match scanner.map(Scanner::finish) {
        Some(Ok(attributes)) => read(attributes),
        Some(Err(error)) => Err(Status::new(status::CANNOT_UNDERSTAND, error.to_string())),
        None => {
            let wrong = wrong.unwrap_or_default();
            Err(Status::new(status::CANNOT_UNDERSTAND, wrong))
        }
    })
}

fn read(attributes: Attributes) -> Result<Identifier, Status> {
    // A value that was too long to be kept would otherwise count as universal: everything instead of a list.
    let lost = attributes.tags().find(|(tag, vr)| {
        *vr != VR::SQ && !is_about_the_query(*tag) && attributes.raw(*tag).is_none()
    });
    if let Some((tag, _)) = lost {
        let comment = format!("the value of {tag} is longer than 64 KiB; ask in parts");
        return Err(Status::new(status::CANNOT_UNDERSTAND, comment));
    }
    let text = attributes.text(tags::QUERY_RETRIEVE_LEVEL);
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        let comment = "the identifier has no Query/Retrieve Level (0008,0052)";
        return Err(Status::new(status::DATA_SET_MISMATCH, comment));
    };
    match text.parse() {
        Ok(level) => Ok(Identifier { level, attributes }),
        Err(_) => {
            let shown: String = text.chars().take(10).collect();
            let comment = format!("level {shown:?} is not PATIENT, STUDY, SERIES or IMAGE");
            Err(Status::new(status::DATA_SET_MISMATCH, comment))
        }
    }
}

impl Identifier {
    /// What is asked for: every attribute of the identifier but those that say how to ask.
    pub fn keys(&self) -> Vec<Key> {
        let asked = self.attributes.tags();
        asked
            .filter(|(tag, _)| !is_about_the_query(*tag))
            .map(|(tag, vr)| {
                let vr = known_vr(tag, vr);
                let text = self.attributes.text(tag).filter(|_| vr != VR::SQ);
                let mut asked = Key::new(key(tag), vr, text.unwrap_or_default());
                // There is to be one item (PS3.4 C.2.2.2.6); of several the first counts.
                let item = self.attributes.items(tag).into_iter().next();
                asked.items = item.into_iter().flatten().map(inner_key).collect();
                asked
            })
            .collect()
    }

    /// In which character set the requestor writes; empty where it does not say.
    pub fn character_set(&self) -> String {
        self.attributes
            .text(tags::SPECIFIC_CHARACTER_SET)
            .unwrap_or_default()
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

fn inner_key((tag, vr, text): (Tag, VR, String)) -> Key {
    Key::new(key(tag), known_vr(tag, vr), text)
}

/// As the dictionary has it, whatever the requestor wrote; of an attribute that it does not know as it was written.
fn known_vr(tag: Tag, written: VR) -> VR {
    match attributes::vr_of(tag) {
        VR::UN => written,
        known => known,
    }
}

pub fn key(tag: Tag) -> u32 {
    (u32::from(tag.group()) << 16) | u32::from(tag.element())
}

pub fn tag(key: u32) -> Tag {
    Tag((key >> 16) as u16, key as u16)
}
