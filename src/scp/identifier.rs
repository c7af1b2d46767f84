//! Identifiers of C-FIND, C-MOVE and C-GET: hostile bytes in, keys out (PS3.4 C.4). The other direction is
//! [`answer`](super::answer).

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::config::Limits;
use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{Attributes, Level, Tag, attributes};
use crate::index::Key;
use crate::memory::{self, Share};
use crate::net::{Association, NetError};

use super::Services;
use super::limited::{self, Exceeded};
use super::status::{self, Status};

pub struct Identifier {
    pub level: Level,
    pub attributes: Attributes,
    /// For a long list of values, as long as the request lasts.
    _memory: Vec<Share>,
}

/// Identifiers have less, but for lists of a thousand UIDs, bytes. Memory for more is taken in steps of so much.
const KEPT_BYTES_USUAL: usize = 64 << 10;

/// A long one is held as it came, as text, and as what is compared and answered.
const TIMES_HELD: usize = 8;

/// Whether there is memory for an identifier of which so much is kept.
fn has_memory(taken: &mut Vec<Share>, kept_bytes: usize) -> bool {
    while kept_bytes > KEPT_BYTES_USUAL * (1 + taken.len()) {
        match memory::take(TIMES_HELD * KEPT_BYTES_USUAL) {
            Some(share) => taken.push(share),
            None => return false,
        }
    }
    true
}

/// Receives the identifier of the message at hand. The inner error is what the peer is to be told.
pub fn receive(
    services: &Services,
    association: &mut Association,
    transfer_syntax: &str,
) -> Result<Result<Identifier, Status>, NetError> {
    let mut reader = Reader::new(transfer_syntax, &services.config.limits);
    while let Some(fragment) = association.data_fragment()? {
        reader.feed(fragment);
    }
    if let Some(exceeded) = &reader.exceeded {
        let calling = &association.peer().calling;
        let what = format_args!("an identifier of {calling} was refused");
        exceeded.tell(&services.metrics, what);
    }
    Ok(reader.finish())
}

/// Reads an identifier that comes in pieces.
///
/// A scan keeps all elements of the largest that is allowed, whatever they are; the largest real ones hold lists of a
/// thousand UIDs.
pub struct Reader<'a> {
    limits: &'a Limits,
    /// None when something was wrong.
    scanner: Option<Scanner>,
    length: usize,
    memory: Vec<Share>,
    exceeded: Option<Exceeded>,
    wrong: Option<Status>,
}

impl Reader<'_> {
    pub fn new<'a>(transfer_syntax: &str, limits: &'a Limits) -> Reader<'a> {
        let scanner = Scanner::new(transfer_syntax, Wanted::All).within(limits.bounds());
        Reader {
            limits,
            scanner: Some(scanner),
            length: 0,
            memory: Vec::new(),
            exceeded: None,
            wrong: None,
        }
    }

    pub fn feed(&mut self, fragment: &[u8]) {
        self.length += fragment.len();
        let Some(scanner) = &mut self.scanner else {
            return;
        };
        let not_understood = |comment| Status::new(status::CANNOT_UNDERSTAND, comment);
        let most = self.limits.identifier_bytes;
        if self.length > most {
            self.exceeded = Some(Exceeded::new("identifier_bytes", most as u64));
            let comment = format!("the identifier is larger than {} KiB", most >> 10);
            self.wrong = Some(not_understood(comment));
        } else if let Err(error) = scanner.feed(fragment) {
            self.exceeded = limited::of_scan(&error);
            self.wrong = Some(not_understood(error.to_string()));
        } else if !has_memory(&mut self.memory, scanner.kept_bytes()) {
            let most = self.limits.memory_bytes;
            self.exceeded = Some(Exceeded::new("memory_bytes", most as u64));
            let comment = "too much memory is in use at the moment; ask again";
            self.wrong = Some(Status::new(status::OUT_OF_RESOURCES, comment));
        }
        if self.wrong.is_some() {
            self.scanner = None;
        }
    }

    /// The error is what the peer is to be told.
    pub fn finish(self) -> Result<Identifier, Status> {
        match self.scanner.map(Scanner::finish) {
            Some(Ok(attributes)) => read(attributes, self.memory),
            Some(Err(error)) => Err(Status::new(status::CANNOT_UNDERSTAND, error.to_string())),
            None => Err(self
                .wrong
                .unwrap_or_else(|| Status::new(status::CANNOT_UNDERSTAND, ""))),
        }
    }
}

fn read(attributes: Attributes, memory: Vec<Share>) -> Result<Identifier, Status> {
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
        Ok(level) => Ok(Identifier {
            level,
            attributes,
            _memory: memory,
        }),
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
