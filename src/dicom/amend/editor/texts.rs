//! New text in the declared character set, or all text in UTF-8.

use dicom_core::{Tag, VR};

use super::{AmendError, CHARSET, Change, Charset, Editor, Encoded, Original, TEXT_LENGTH_MAX};
use crate::dicom::charset::is_affected;
use crate::dicom::elements::has_long_length;
use crate::dicom::header::Header;
use crate::dicom::{CharacterSet, TextEncoder, tags, vr_of};

/// ISO_IR 192 is UTF-8. Source: PS3.3 Table C.12-5.
const UTF_8: &str = "ISO_IR 192";

impl Editor {
    /// The character set is known, and with it the bytes of everything new. `declared`: its element.
    pub(super) fn decide(
        &mut self,
        declared: Option<(Header, Vec<u8>, Vec<u8>)>,
    ) -> Result<(), AmendError> {
        let value = declared.as_ref().map_or(&[][..], |(_, _, value)| value);
        let name = String::from_utf8_lossy(value);
        let name = name.trim_end_matches(['\0', ' ']).to_owned();
        let (mut new, recode) = match self.encoded(&name) {
            Ok(new) => (new, false),
            Err(AmendError::NotEncodable { .. }) if self.amendment.allow_utf8 => {
                (self.encoded(UTF_8)?, true)
            }
            Err(error) => return Err(error),
        };
        self.planned = std::mem::take(&mut new.planned);
        self.charset = Some(Charset {
            reader: CharacterSet::new(&name),
            declared: name,
            recode,
            new,
        });
        match declared {
            Some((_, raw, value)) if !recode => {
                self.held.put(&raw)?;
                self.held.put(&value)
            }
            None if !recode => Ok(()),
            declared => {
                self.changed = true;
                self.remember(match declared {
                    Some((header, raw, value)) => Original::present(&header, &raw, value),
                    None => Original::absent(CHARSET, VR::CS),
                });
                self.enter(CHARSET.group());
                self.put_element(CHARSET, VR::CS, UTF_8.as_bytes())
            }
        }
    }

    /// Everything new under a character set.
    fn encoded(&self, charset: &str) -> Result<Encoded, AmendError> {
        let encoder = TextEncoder::new(charset);
        let encode = |tag, vr, text: &str| {
            let lacking = || AmendError::NotEncodable {
                tag,
                text: text.to_owned(),
                charset: charset.to_owned(),
            };
            let bytes = encoder.encode(text, vr).ok_or_else(lacking)?;
            if bytes.len() > length_max(vr) {
                let length = bytes.len();
                return Err(AmendError::TooLong { tag, length });
            }
            Ok(bytes)
        };
        let mut planned = Vec::new();
        for (tag, change) in &self.changes {
            let new = match change {
                Change::Text(vr, text) => Some((*vr, encode(*tag, *vr, text)?)),
                Change::Absent => None,
            };
            planned.push((*tag, new));
        }
        let amendment = &self.amendment;
        let system = encode(tags::MODIFYING_SYSTEM, VR::LO, &amendment.modifying_system)?;
        let source = encode(
            tags::SOURCE_OF_PREVIOUS_VALUES,
            VR::LO,
            &amendment.previous_source,
        )?;
        Ok(Encoded {
            planned,
            system,
            source,
        })
    }

    /// Whether an old value is the new one already, but for padding and the character set.
    pub(super) fn says(&self, header: &Header, old: &[u8], new: &[u8]) -> bool {
        let end = old
            .iter()
            .rposition(|byte| !matches!(byte, 0 | b' '))
            .map_or(0, |last| last + 1);
        let old = &old[..end];
        match &self.charset {
            Some(charset) if charset.recode => {
                charset.reader.decode(old, text_vr(header)).as_bytes() == new
            }
            _ => old == new,
        }
    }

    /// Text that is kept, in UTF-8.
    pub(super) fn recode(
        &mut self,
        header: &Header,
        raw: &[u8],
        value: &[u8],
    ) -> Result<(), AmendError> {
        let (tag, vr) = (header.tag, text_vr(header));
        let plain = value.iter().all(|&byte| byte < 0x80 && byte != 0x1B);
        let Some(charset) = self.charset.as_ref().filter(|_| !plain && is_affected(vr)) else {
            self.held.put(raw)?;
            return self.held.put(value);
        };
        let Some(text) = charset.reader.decode_surely(value, vr) else {
            return Err(self.not_decodable(tag));
        };
        let mut bytes = text.into_bytes();
        if bytes.len() % 2 == 1 && bytes.pop_if(|byte| *byte == b' ').is_none() {
            bytes.push(b' ');
        }
        let long = raw.len() == 12 || !header.form.explicit;
        let most = if long { TEXT_LENGTH_MAX } else { 0xFFFE };
        if bytes.len() > most {
            let length = bytes.len();
            return Err(AmendError::TooLong { tag, length });
        }
        // Both conversions are exact by the check above.
        let length = bytes.len() as u32;
        let mut raw = raw.to_vec();
        let field = if long { 4 } else { 2 };
        raw.truncate(raw.len() - field);
        if header.form.big {
            raw.extend_from_slice(&length.to_be_bytes()[4 - field..]);
        } else {
            raw.extend_from_slice(&length.to_le_bytes()[..field]);
        }
        self.held.group_changed();
        self.held.put(&raw)?;
        self.held.put(&bytes)
    }

    pub(super) fn not_decodable(&self, tag: Tag) -> AmendError {
        let declared = self
            .charset
            .as_ref()
            .map(|charset| charset.declared.clone());
        AmendError::NotDecodable {
            tag,
            charset: declared.unwrap_or_default(),
        }
    }
}

/// The VR by which the text of an element is read: the dictionary's where a writer did not know it.
pub(in crate::dicom::amend) fn text_vr(header: &Header) -> VR {
    match header.vr {
        VR::UN => vr_of(header.tag),
        vr => vr,
    }
}

/// Most bytes of a value that the header of its VR can say.
fn length_max(vr: VR) -> usize {
    if has_long_length(vr) {
        TEXT_LENGTH_MAX
    } else {
        0xFFFE
    }
}
