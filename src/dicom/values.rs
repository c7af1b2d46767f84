//! The top-level values that a scan keeps of one data set, and what they say.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use super::attributes::{INDEXED, Level, vr_of};
use super::charset::CharacterSet;
use super::extra_keys::extra_keys;
use super::items::{self, ITEMS_MAX};
use super::tags;
use super::uid::trim_uid;

/// Longest single value kept, in bytes. Longer ones are passed over.
const VALUE_LENGTH_MAX: u64 = 64 * 1024;

/// Most that is kept of one data set, in bytes, each element counted with `ENTRY_COST`.
pub const KEPT_LENGTH_MAX: usize = 1024 * 1024;

/// What an element takes in memory besides its value, about.
const ENTRY_BYTES: usize = 64;

/// What an element counts besides its value, so that empty ones are bounded too.
const ENTRY_COST: usize = 16;

/// Longest text that the index gets of one attribute, in bytes as JSON writes them: so a line of the ledger has room for
/// every attribute there is, whatever characters they are of.
const INDEXED_LENGTH_MAX: usize = 1024;

/// Longest text of a sequence, in bytes; items beyond are left out.
const ITEMS_LENGTH_MAX: usize = 8 * 1024;

/// Top-level values of a data set as they were sent, with what is needed to read them.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    entries: BTreeMap<Tag, Entry>,
    /// The first level of the sequences whose items were wanted.
    sequences: BTreeMap<Tag, Vec<BTreeMap<Tag, Inner>>>,
    /// Items, and elements in them.
    inner_count: usize,
    bytes: Vec<u8>,
    big_endian: bool,
    charset: CharacterSet,
}

/// An element of an item.
#[derive(Debug, Clone)]
struct Inner {
    entry: Entry,
    big_endian: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    vr: VR,
    /// Place in `bytes`; None for a sequence, and for a value too long to be kept.
    value: Option<(usize, usize)>,
}

impl Attributes {
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES * (self.entries.len() + self.inner_count)
    }

    /// The value field as sent, padding included. None when absent, a sequence, or too long to be kept.
    pub fn raw(&self, tag: Tag) -> Option<&[u8]> {
        self.slice(self.entries.get(&tag)?)
    }

    /// Whether the attribute is there: true also when it is empty, a sequence, or too long to be kept.
    pub fn contains(&self, tag: Tag) -> bool {
        self.entries.contains_key(&tag)
    }

    /// The value as text: decoded with the data set's character set, numbers in decimal, several values joined by
    /// `\`, padding trimmed off each. None when absent, empty or not text.
    pub fn text(&self, tag: Tag) -> Option<String> {
        let entry = self.entries.get(&tag)?;
        let raw = self.slice(entry)?;
        if entry.vr == VR::UN && vr_of(tag) == VR::SQ {
            return None;
        }
        let text = decoded(&self.charset, self.big_endian, entry.vr, raw);
        Some(text).filter(|text| !text.is_empty())
    }

    /// A UID without its padding. None when absent or empty.
    pub fn uid(&self, tag: Tag) -> Option<String> {
        Some(trim_uid(self.raw(tag)?)).filter(|uid| !uid.is_empty())
    }

    /// The kept values, in the order of their tags.
    pub fn iter(&self) -> impl Iterator<Item = (Tag, VR, &[u8])> {
        self.entries
            .iter()
            .filter_map(|(tag, entry)| Some((*tag, entry.vr, self.slice(entry)?)))
    }

    /// Every attribute that is there, in the order of tags: empty ones, sequences and over-long values too.
    pub fn tags(&self) -> impl Iterator<Item = (Tag, VR)> {
        self.entries.iter().map(|(tag, entry)| (*tag, entry.vr))
    }

    /// The first items of a sequence, each as what stands in it, in the order of tags; its character set is not among
    /// that. The text is empty for what is empty, is a sequence itself, or is too long to be kept. Nothing for a
    /// sequence without items, and for anything else.
    pub fn items(&self, tag: Tag) -> Vec<Vec<(Tag, VR, String)>> {
        let items = self.sequences.get(&tag).into_iter().flatten();
        items
            .map(|item| {
                let charset = self.charset_of(item);
                item.iter()
                    .filter(|(tag, _)| **tag != tags::SPECIFIC_CHARACTER_SET)
                    .map(|(tag, inner)| {
                        let raw = self.slice(&inner.entry).unwrap_or_default();
                        let vr = inner.entry.vr;
                        (*tag, vr, decoded(&charset, inner.big_endian, vr, raw))
                    })
                    .collect()
            })
            .collect()
    }

    /// An item may have a character set of its own (PS3.5 7.5.3).
    fn charset_of(&self, item: &BTreeMap<Tag, Inner>) -> CharacterSet {
        let declared = item.get(&tags::SPECIFIC_CHARACTER_SET);
        match declared.and_then(|inner| self.slice(&inner.entry)) {
            Some(raw) => CharacterSet::new(&String::from_utf8_lossy(raw)),
            None => self.charset.clone(),
        }
    }

    /// The items of a sequence as the index keeps them; empty when they say nothing.
    fn items_text(&self, tag: Tag) -> String {
        let mut kept = Vec::new();
        let mut text = String::new();
        for item in self.items(tag) {
            let values = item.into_iter().filter(|(_, _, text)| !text.is_empty());
            let item: items::Item = values
                .map(|(tag, _, text)| (number(tag), cut(text)))
                .collect();
            if item.is_empty() {
                continue;
            }
            kept.push(item);
            let longer = items::to_text(&kept);
            if longer.len() > ITEMS_LENGTH_MAX {
                break;
            }
            text = longer;
        }
        text
    }

    /// The character set which the data set declares.
    pub fn charset(&self) -> &CharacterSet {
        &self.charset
    }

    /// What the index keeps at one level: non-empty values, each cut at 1024 bytes between two characters; of sequences
    /// the text of [`items`]. Extra keys are there with an empty text too: looked for, and not found. The key is
    /// group × 65536 + element.
    pub fn values(&self, level: Level) -> BTreeMap<u32, String> {
        let of_level = INDEXED.iter().filter(|(of, _)| *of == level);
        of_level
            .filter_map(|(_, tag)| {
                let text = match self.sequences.contains_key(tag) {
                    true => Some(self.items_text(*tag)).filter(|text| !text.is_empty())?,
                    false => cut(self.text(*tag)?),
                };
                Some((number(*tag), text))
            })
            .chain(self.extra_values(level))
            .collect()
    }

    fn extra_values(&self, level: Level) -> impl Iterator<Item = (u32, String)> {
        let keys = extra_keys().iter().filter(move |key| key.level == level);
        keys.map(|key| {
            let text = self.text(key.tag).map(cut);
            (number(key.tag), text.unwrap_or_default())
        })
    }

    fn slice(&self, entry: &Entry) -> Option<&[u8]> {
        let (start, end) = entry.value?;
        self.bytes.get(start..end)
    }

    /// Notes an element; true when its value is wanted: then exactly `length` bytes follow through [`Self::push`].
    /// The first of several elements of one tag counts.
    pub(super) fn note(&mut self, tag: Tag, vr: VR, length: Option<u64>) -> bool {
        if self.entries.contains_key(&tag) {
            return false;
        }
        let Some(entry) = self.room_for(tag, vr, length) else {
            return false;
        };
        let wanted = entry.value.is_some();
        self.entries.insert(tag, entry);
        wanted
    }

    fn spent(&self) -> usize {
        self.bytes.len() + (self.entries.len() + self.inner_count) * ENTRY_COST
    }

    /// None where there is no room for another element.
    fn room_for(&self, tag: Tag, vr: VR, length: Option<u64>) -> Option<Entry> {
        let spent = self.spent();
        if spent + ENTRY_COST > KEPT_LENGTH_MAX {
            return None;
        }
        // The bound makes the conversion exact.
        let length = length
            .filter(|length| *length <= VALUE_LENGTH_MAX)
            .map(|length| length as usize);
        let fits = length.filter(|length| spent + ENTRY_COST + length <= KEPT_LENGTH_MAX);
        let value = fits.map(|length| (self.bytes.len(), self.bytes.len() + length));
        let known = vr_of(tag);
        let vr = if vr == VR::UN && length.is_some() && known != VR::SQ {
            known
        } else {
            vr
        };
        Some(Entry { vr, value })
    }

    /// Notes an item of a sequence that was noted; false when there is no room for it.
    pub(super) fn note_item(&mut self, sequence: Tag) -> bool {
        let has_room = self.spent() + ENTRY_COST <= KEPT_LENGTH_MAX;
        let items = self.sequences.entry(sequence).or_default();
        if items.len() >= ITEMS_MAX || !has_room {
            return false;
        }
        items.push(BTreeMap::new());
        self.inner_count += 1;
        true
    }

    /// As [`Self::note`], for an element of the item noted last.
    pub(super) fn note_inner(
        &mut self,
        sequence: Tag,
        (tag, vr): (Tag, VR),
        length: Option<u64>,
        big_endian: bool,
    ) -> bool {
        let Some(entry) = self.room_for(tag, vr, length) else {
            return false;
        };
        let Some(item) = self.sequences.get_mut(&sequence).and_then(|s| s.last_mut()) else {
            return false;
        };
        if item.contains_key(&tag) {
            return false;
        }
        let wanted = entry.value.is_some();
        item.insert(tag, Inner { entry, big_endian });
        self.inner_count += 1;
        wanted
    }

    /// Takes over the items of a sequence that were noted elsewhere.
    pub(super) fn adopt_items(&mut self, sequence: Tag, from: &Attributes) {
        for item in from.sequences.get(&sequence).into_iter().flatten() {
            if !self.note_item(sequence) {
                break;
            }
            for (tag, inner) in item {
                let raw = from.slice(&inner.entry);
                let length = raw.map(|raw| raw.len() as u64);
                let what = (*tag, inner.entry.vr);
                if self.note_inner(sequence, what, length, inner.big_endian) {
                    self.push(raw.unwrap_or_default());
                }
            }
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Called once when the scan is through, or over.
    pub(super) fn complete(mut self, big_endian: bool) -> Attributes {
        self.big_endian = big_endian;
        if let Some(raw) = self.raw(tags::SPECIFIC_CHARACTER_SET) {
            self.charset = CharacterSet::new(&String::from_utf8_lossy(raw));
        }
        self
    }
}

fn number(tag: Tag) -> u32 {
    u32::from(tag.group()) << 16 | u32::from(tag.element())
}

/// As much of a text as the index takes.
fn cut(mut text: String) -> String {
    let mut length = 0;
    let end = text.char_indices().find(|(_, one)| {
        length += match one {
            '"' | '\\' => 2,
            one if one.is_ascii_control() => 6,
            one => one.len_utf8(),
        };
        length > INDEXED_LENGTH_MAX
    });
    if let Some((end, _)) = end {
        text.truncate(end);
    }
    text
}

/// A value as text; empty where it is no text or number.
pub(super) fn decoded(charset: &CharacterSet, big: bool, vr: VR, raw: &[u8]) -> String {
    macro_rules! numbers {
        ($number:ty) => {
            joined(raw, |bytes| {
                let number = if big {
                    <$number>::from_be_bytes(bytes)
                } else {
                    <$number>::from_le_bytes(bytes)
                };
                number.to_string()
            })
        };
    }
    match vr {
        VR::US => numbers!(u16),
        VR::SS => numbers!(i16),
        VR::UL => numbers!(u32),
        VR::SL => numbers!(i32),
        VR::UV => numbers!(u64),
        VR::SV => numbers!(i64),
        VR::FL => numbers!(f32),
        VR::FD => numbers!(f64),
        VR::AT => joined(raw, |[a, b, c, d]: [u8; 4]| {
            if big {
                format!("{a:02X}{b:02X}{c:02X}{d:02X}")
            } else {
                format!("{b:02X}{a:02X}{d:02X}{c:02X}")
            }
        }),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ => String::new(),
        // In these a backslash is a character, and leading spaces count (PS3.5 6.2).
        VR::ST | VR::LT | VR::UT | VR::UR => charset
            .decode(raw, vr)
            .trim_end_matches([' ', '\0'])
            .to_owned(),
        VR::UI => each_trimmed(&trim_uid(raw)),
        _ => each_trimmed(&charset.decode(raw, vr)),
    }
}

/// Values joined by backslashes, each without its padding.
fn each_trimmed(text: &str) -> String {
    let trimmed = |one: &str| -> String { one.trim_matches([' ', '\0']).to_owned() };
    // Mostly there is one.
    if !text.as_bytes().contains(&b'\\') {
        return trimmed(text);
    }
    let values: Vec<_> = text.split('\\').map(trimmed).collect();
    values.join("\\")
}

/// Numbers of a fixed size, joined by backslashes; a rest that is no whole number is left out.
fn joined<const N: usize>(raw: &[u8], print: impl Fn([u8; N]) -> String) -> String {
    let (numbers, _) = raw.as_chunks::<N>();
    numbers
        .iter()
        .map(|number| print(*number))
        .collect::<Vec<_>>()
        .join("\\")
}
