//! File meta information: what stands before the data set in a DICOM file (PS3.10 7.1).

use std::io::{self, Read};

use dicom_core::{Tag, VR};

use super::uid::{self, Encoding};
use super::{elements, tags};

/// Preamble and "DICM". Source: PS3.10 7.1.
const PREFIX_LENGTH: usize = 132;

/// Most that group 0002 may take, in bytes. The standard sets no bound; real ones are below 1 KiB.
const GROUP_LENGTH_MAX: u64 = 1024 * 1024;

/// The parts of the file meta information that mean something to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileMeta {
    /// Empty when the file does not say.
    pub sop_class_uid: String,
    /// Empty when the file does not say.
    pub sop_instance_uid: String,
    pub transfer_syntax: String,
    /// The AE title that sent the instance to us; may be empty.
    pub source_ae_title: String,
}

/// Why no file meta information could be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error("not a DICOM file: no \"DICM\" after 128 bytes")]
    NotPart10,
    #[error("the file ends at byte {offset}, within its file meta information")]
    Truncated { offset: u64 },
    #[error(
        "file meta element {tag} at byte {offset} says it is {length} bytes long; at most {GROUP_LENGTH_MAX} are read"
    )]
    TooLong { offset: u64, tag: Tag, length: u64 },
    #[error("the file meta information names no transfer syntax")]
    NoTransferSyntax,
    #[error("the file could not be read: {0}")]
    Io(#[from] io::Error),
}

impl FileMeta {
    /// Preamble of 128 zeros, "DICM" and group 0002 in explicit VR little endian. What follows is the data set.
    pub fn encode(&self) -> Vec<u8> {
        let mut group = Vec::with_capacity(512);
        let mut put = |tag, vr, value: &[u8]| elements::put(&mut group, true, tag, vr, value);
        put(tags::FILE_META_INFORMATION_VERSION, VR::OB, &[0, 1]);
        put(
            tags::MEDIA_STORAGE_SOP_CLASS_UID,
            VR::UI,
            self.sop_class_uid.as_bytes(),
        );
        put(
            tags::MEDIA_STORAGE_SOP_INSTANCE_UID,
            VR::UI,
            self.sop_instance_uid.as_bytes(),
        );
        put(
            tags::TRANSFER_SYNTAX_UID,
            VR::UI,
            self.transfer_syntax.as_bytes(),
        );
        put(
            tags::IMPLEMENTATION_CLASS_UID,
            VR::UI,
            uid::IMPLEMENTATION_CLASS_UID.as_bytes(),
        );
        put(
            tags::IMPLEMENTATION_VERSION_NAME,
            VR::SH,
            uid::IMPLEMENTATION_VERSION_NAME.as_bytes(),
        );
        if !self.source_ae_title.is_empty() {
            put(
                tags::SOURCE_APPLICATION_ENTITY_TITLE,
                VR::AE,
                self.source_ae_title.as_bytes(),
            );
        }
        let mut out = vec![0; PREFIX_LENGTH - 4];
        out.extend_from_slice(b"DICM");
        // Seven short texts: far below 4 GiB.
        let length = u32::try_from(group.len()).unwrap_or(u32::MAX);
        elements::put(
            &mut out,
            true,
            tags::FILE_META_INFORMATION_GROUP_LENGTH,
            VR::UL,
            &length.to_le_bytes(),
        );
        out.extend_from_slice(&group);
        out
    }
}

/// Reads the file meta information, and finds where the data set begins, in bytes from the start.
///
/// The reader is left a few bytes behind that place; seek. A wrong or missing group length is tolerated: the group
/// ends where its elements end. Source: PS3.10 7.1.
pub fn read_meta(reader: &mut impl Read) -> Result<(FileMeta, u64), MetaError> {
    let mut prefix = [0; PREFIX_LENGTH];
    if fill(reader, &mut prefix)? < PREFIX_LENGTH || &prefix[PREFIX_LENGTH - 4..] != b"DICM" {
        return Err(MetaError::NotPart10);
    }
    let (meta, offset, _) = read_group(reader, PREFIX_LENGTH as u64)?;
    if meta.transfer_syntax.is_empty() {
        return Err(MetaError::NoTransferSyntax);
    }
    Ok((meta, offset))
}

/// As [`read_meta`], also for a file without preamble that begins with group 0002 or 0008, as older programs wrote it.
///
/// Where no transfer syntax is named, the first element of the data set tells it; a data set is taken for one that
/// begins with an element of group 0008 only.
pub fn read_start(reader: &mut impl Read) -> Result<(FileMeta, u64), MetaError> {
    let mut prefix = [0; PREFIX_LENGTH];
    let got = fill(reader, &mut prefix)?;
    let has_preamble = got == PREFIX_LENGTH && &prefix[PREFIX_LENGTH - 4..] == b"DICM";
    let (mut meta, offset, next) = if has_preamble {
        read_group(reader, PREFIX_LENGTH as u64)?
    } else if got >= 8 && [[2, 0], [8, 0], [0, 8]].contains(&[prefix[0], prefix[1]]) {
        read_group(&mut prefix[..got].chain(reader), 0)?
    } else {
        return Err(MetaError::NotPart10);
    };
    if meta.transfer_syntax.is_empty() {
        let told = told_by_first_element(next);
        meta.transfer_syntax = told
            .ok_or(match offset {
                0 => MetaError::NotPart10,
                _ => MetaError::NoTransferSyntax,
            })?
            .to_owned();
    }
    Ok((meta, offset))
}

/// Longest first element of a data set without file meta information that is believed, in bytes.
const FIRST_LENGTH_MAX: u32 = 64 * 1024;

/// The transfer syntax of an uncompressed data set that begins with this header.
fn told_by_first_element(header: [u8; 8]) -> Option<&'static str> {
    let [g0, g1, e0, e1, v0, v1, l0, l1] = header;
    let has_vr = VR::from_binary([v0, v1]).is_some();
    match [g0, g1] {
        [8, 0] if has_vr => Some(uid::ts::EXPLICIT_VR_LITTLE_ENDIAN),
        [0, 8] if has_vr => Some(uid::ts::EXPLICIT_VR_BIG_ENDIAN),
        [8, 0] => {
            let known = super::vr_of(Tag(0x0008, u16::from_le_bytes([e0, e1]))) != VR::UN;
            let length = u32::from_le_bytes([v0, v1, l0, l1]);
            let plausible = length <= FIRST_LENGTH_MAX && length.is_multiple_of(2);
            (known && plausible).then_some(uid::ts::IMPLICIT_VR_LITTLE_ENDIAN)
        }
        _ => None,
    }
}

/// Reads group 0002 from `start` on: its values, where it ends, and the eight bytes (or fewer, then zeros) behind it.
fn read_group(reader: &mut impl Read, start: u64) -> Result<(FileMeta, u64, [u8; 8]), MetaError> {
    let mut meta = FileMeta::default();
    let mut offset = start;
    let mut said_end = None;
    let next = loop {
        let mut header = [0; 8];
        let got = fill(reader, &mut header)?;
        let tag = Tag(
            u16::from_le_bytes([header[0], header[1]]),
            u16::from_le_bytes([header[2], header[3]]),
        );
        let vr = VR::from_binary([header[4], header[5]]);
        // A deflated data set can begin with any bytes, these too; there the group length is all there is.
        let deflated = uid::encoding_of(&meta.transfer_syntax) == Encoding::DeflatedLittle;
        let at_said_end = said_end == Some(offset) && (deflated || vr.is_none());
        if got < 2 || tag.group() != 0x0002 || at_said_end {
            break header;
        }
        if got < header.len() {
            return Err(MetaError::Truncated {
                offset: offset + got as u64,
            });
        }
        let (header_length, length) = match vr {
            Some(vr) if elements::has_long_length(vr) => {
                let mut long = [0; 4];
                if fill(reader, &mut long)? < long.len() {
                    return Err(MetaError::Truncated { offset });
                }
                (12, u32::from_le_bytes(long))
            }
            Some(_) => (8, u32::from(u16::from_le_bytes([header[6], header[7]]))),
            // Some write this group in implicit VR, as the data set behind it.
            None => (
                8,
                u32::from_le_bytes([header[4], header[5], header[6], header[7]]),
            ),
        };
        let length = u64::from(length);
        if offset - start + header_length + length > GROUP_LENGTH_MAX {
            return Err(MetaError::TooLong {
                offset,
                tag,
                length,
            });
        }
        // Bounded by the check above.
        let mut value = vec![0; length as usize];
        let got = fill(reader, &mut value)?;
        if got < value.len() {
            return Err(MetaError::Truncated {
                offset: offset + header_length + got as u64,
            });
        }
        offset += header_length + length;
        match tag {
            tags::FILE_META_INFORMATION_GROUP_LENGTH => {
                if let Ok(said) = <[u8; 4]>::try_from(value.as_slice()) {
                    said_end = Some(offset + u64::from(u32::from_le_bytes(said)));
                }
            }
            tags::MEDIA_STORAGE_SOP_CLASS_UID => meta.sop_class_uid = uid::trim_uid(&value),
            tags::MEDIA_STORAGE_SOP_INSTANCE_UID => meta.sop_instance_uid = uid::trim_uid(&value),
            tags::TRANSFER_SYNTAX_UID => meta.transfer_syntax = uid::trim_uid(&value),
            tags::SOURCE_APPLICATION_ENTITY_TITLE => meta.source_ae_title = uid::trim_uid(&value),
            _ => {}
        }
    };
    Ok((meta, offset, next))
}

/// Reads until the buffer is full or the file ends; how much was read.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::ts;

    fn example() -> FileMeta {
        FileMeta {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
            sop_instance_uid: "1.2.3".into(),
            transfer_syntax: ts::EXPLICIT_VR_LITTLE_ENDIAN.into(),
            source_ae_title: "CT1".into(),
        }
    }

    #[test]
    fn what_is_written_reads_back_and_the_data_set_begins_behind_it() {
        for source_ae_title in ["CT1", ""] {
            let meta = FileMeta {
                source_ae_title: source_ae_title.into(),
                ..example()
            };
            for data_set in [&b""[..], b"\x08\0\x05\0CS\0\0", b"\x08"] {
                let mut file = meta.encode();
                let length = file.len() as u64;
                file.extend_from_slice(data_set);
                assert_eq!(
                    read_meta(&mut file.as_slice()).unwrap(),
                    (meta.clone(), length)
                );
            }
        }
    }

    #[test]
    fn a_wrong_or_missing_group_length_does_no_harm() {
        let right = example().encode();
        let mut wrong = right.clone();
        wrong[PREFIX_LENGTH + 8..PREFIX_LENGTH + 12].copy_from_slice(&10u32.to_le_bytes());
        assert_eq!(
            read_meta(&mut wrong.as_slice()).unwrap(),
            (example(), right.len() as u64)
        );
        let mut missing = right.clone();
        missing.drain(PREFIX_LENGTH..PREFIX_LENGTH + 12);
        assert_eq!(
            read_meta(&mut missing.as_slice()).unwrap(),
            (example(), right.len() as u64 - 12)
        );
    }

    #[test]
    fn a_deflated_data_set_that_looks_like_group_2_is_left_alone() {
        let meta = FileMeta {
            transfer_syntax: ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.into(),
            ..example()
        };
        let mut file = meta.encode();
        let length = file.len() as u64;
        file.extend_from_slice(b"\x02\0\x01\0UI\x02\0XX");
        assert_eq!(read_meta(&mut file.as_slice()).unwrap(), (meta, length));
    }

    /// Method: data sets that begin with group 0008, alone and behind a group 0002 that says nothing of the syntax.
    #[test]
    fn a_data_set_without_preamble_tells_its_own_transfer_syntax() {
        for (first, syntax) in [
            (
                &b"\x08\0\x05\0CS\x0a\0ISO_IR 100"[..],
                ts::EXPLICIT_VR_LITTLE_ENDIAN,
            ),
            (
                &b"\0\x08\0\x05CS\0\x0aISO_IR 100"[..],
                ts::EXPLICIT_VR_BIG_ENDIAN,
            ),
            (
                &b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100"[..],
                ts::IMPLICIT_VR_LITTLE_ENDIAN,
            ),
            (
                &b"\x08\0\0\0\x04\0\0\0\x10\0\0\0"[..],
                ts::IMPLICIT_VR_LITTLE_ENDIAN,
            ),
        ] {
            let (meta, offset) = read_start(&mut &first[..]).unwrap();
            assert_eq!((meta.transfer_syntax.as_str(), offset), (syntax, 0));
            let mut group = Vec::new();
            elements::put(
                &mut group,
                true,
                tags::MEDIA_STORAGE_SOP_INSTANCE_UID,
                VR::UI,
                b"1.2.3",
            );
            let start = group.len() as u64;
            group.extend_from_slice(first);
            let (meta, offset) = read_start(&mut group.as_slice()).unwrap();
            assert_eq!((meta.transfer_syntax.as_str(), offset), (syntax, start));
            assert_eq!(meta.sop_instance_uid, "1.2.3");
        }
        let whole = example().encode();
        let (meta, offset) = read_start(&mut whole.as_slice()).unwrap();
        assert_eq!((meta, offset), (example(), whole.len() as u64));
        let (meta, offset) = read_start(&mut &whole[PREFIX_LENGTH..]).unwrap();
        assert_eq!(meta, example());
        assert_eq!(offset, (whole.len() - PREFIX_LENGTH) as u64);
        for not in [
            &b""[..],
            b"\x08\0",
            b"\x08\0\x05\0\xff\xff\xff\x7f....",
            b"\x08\0\xf1\xff\x0a\0\0\0....",
            b"PK\x03\x04........",
        ] {
            assert!(read_start(&mut &not[..]).is_err(), "{not:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        assert!(matches!(
            read_meta(&mut &b"DICM"[..]),
            Err(MetaError::NotPart10)
        ));
        assert!(matches!(
            read_meta(&mut &[0; 200][..]),
            Err(MetaError::NotPart10)
        ));
        let whole = example().encode();
        let mut prefix_only = whole[..PREFIX_LENGTH].to_vec();
        assert!(matches!(
            read_meta(&mut prefix_only.as_slice()),
            Err(MetaError::NoTransferSyntax)
        ));
        elements::put(&mut prefix_only, true, Tag(0x0002, 0x0102), VR::OB, &[]);
        let at = prefix_only.len() - 4;
        prefix_only[at..].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
        assert!(matches!(
            read_meta(&mut prefix_only.as_slice()),
            Err(MetaError::TooLong {
                length: 0x7FFF_FFFF,
                ..
            })
        ));
        for end in PREFIX_LENGTH..whole.len() {
            // Between two elements the group may simply be over; never is anything read that is not there.
            if let Ok((_, offset)) = read_meta(&mut &whole[..end]) {
                assert!(offset <= end as u64);
            }
        }
    }
}
