//! Reads an instance that lies in a file already: what it is, and the checksums of its bytes.

use std::io;

use dicom_dictionary_std::tags;

use crate::dicom::scan::{ScanError, Scanner, Wanted};
use crate::dicom::{Attributes, FileMeta, Level, MetaError, Tag, read_start};
use crate::index::Values;
use crate::volume::io::DiskFile;

/// Everything that a ledger line says of a file.
pub struct AtRest {
    pub heading: Heading,
    /// Of patient and study.
    pub study_values: Values,
    pub series_values: Values,
    pub instance_values: Values,
    pub size_bytes: u64,
    pub crc32: u32,
    pub file_crc32: u32,
}

/// What the beginning of a file says.
pub struct Heading {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub study_uid: String,
    pub series_uid: String,
    pub transfer_syntax: String,
    /// AE title of the sender, where the file names one.
    pub source_ae_title: String,
    pub data_offset: u64,
}

/// Why a file is no instance that can be listed.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("not DICOM: {0}")]
    NotDicom(MetaError),
    #[error("a DICOMDIR, which lists other files")]
    Directory,
    #[error("DICOM, but {name} is missing")]
    Missing { name: &'static str },
    #[error("DICOM, but damaged: {0}")]
    Damaged(#[from] ScanError),
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Media Storage Directory Storage, PS3.4 B.5.
const DIRECTORY_CLASS: &str = "1.2.840.10008.1.3.10";

/// How much of a file is read for its file meta information: mostly the first is enough, in bytes.
const STARTS: [usize; 3] = [4 << 10, 64 << 10, 1280 << 10];
/// Read first where the beginning of a data set is wanted, in bytes.
const FIRST_BYTES: usize = 16 << 10;
/// Read at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The file meta information, where the data set begins, and the first bytes of the file.
fn start(file: &DiskFile, size: u64) -> Result<(FileMeta, u64, Vec<u8>), Unfit> {
    let mut bytes = Vec::new();
    for most in STARTS {
        let had = bytes.len();
        let want = usize::try_from(size).unwrap_or(most).min(most);
        bytes.resize(want, 0);
        file.read_exact_at(&mut bytes[had..], had as u64)?;
        let is_all = bytes.len() as u64 == size;
        match read_start(&mut bytes.as_slice()) {
            // The group may seem to end where these bytes end.
            Ok((_, offset)) if offset + 8 > bytes.len() as u64 && !is_all => {}
            Ok((meta, offset)) => return Ok((meta, offset, bytes)),
            Err(MetaError::Truncated { .. }) if !is_all => {}
            Err(error) => return Err(Unfit::NotDicom(error)),
        }
    }
    Err(Unfit::NotDicom(MetaError::NotPart10))
}

fn heading(meta: FileMeta, data_offset: u64, found: &Attributes) -> Result<Heading, Unfit> {
    let uid = |tag: Tag, name| found.uid(tag).ok_or(Unfit::Missing { name });
    let class = found.uid(tags::SOP_CLASS_UID);
    let class = class.unwrap_or(meta.sop_class_uid);
    if class == DIRECTORY_CLASS {
        return Err(Unfit::Directory);
    }
    if class.is_empty() {
        return Err(Unfit::Missing {
            name: "SOP Class UID",
        });
    }
    Ok(Heading {
        sop_class_uid: class,
        sop_instance_uid: uid(tags::SOP_INSTANCE_UID, "SOP Instance UID")?,
        study_uid: uid(tags::STUDY_INSTANCE_UID, "Study Instance UID")?,
        series_uid: uid(tags::SERIES_INSTANCE_UID, "Series Instance UID")?,
        transfer_syntax: meta.transfer_syntax,
        source_ae_title: meta.source_ae_title,
        data_offset,
    })
}

/// Reads no more than it takes to know the UIDs: 4 KiB of most files. `size`: that of the file.
pub fn read_heading(file: &DiskFile, size: u64) -> Result<Heading, Unfit> {
    let (meta, data_offset, bytes) = start(file, size)?;
    if meta.sop_class_uid == DIRECTORY_CLASS {
        return Err(Unfit::Directory);
    }
    let mut scanner = Scanner::new(&meta.transfer_syntax, Wanted::Indexed);
    let mut fed = scanner.feed(&bytes[data_offset as usize..]);
    let mut at = bytes.len() as u64;
    let mut piece = Vec::new();
    while at < size && fed.is_ok() {
        // The last of the four in the order of tags.
        if scanner.so_far().uid(tags::SERIES_INSTANCE_UID).is_some() {
            break;
        }
        piece.resize(PIECE_BYTES.min((size - at) as usize), 0);
        file.read_exact_at(&mut piece, at)?;
        at += piece.len() as u64;
        fed = scanner.feed(&piece);
    }
    match heading(meta, data_offset, scanner.so_far()) {
        Err(Unfit::Missing { .. }) if fed.is_err() => Err(fed.expect_err("asked").into()),
        other => other,
    }
}

/// Reads as much of a data set as it takes to know an attribute and those before it. `go_on` is asked between two pieces.
pub fn read_beginning(
    file: &DiskFile,
    (data_offset, size): (u64, u64),
    transfer_syntax: &str,
    upto: Tag,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<Attributes, Unfit> {
    let mut scanner = Scanner::new(transfer_syntax, Wanted::Indexed);
    let mut at = data_offset;
    // Mostly the first is enough.
    let mut length = FIRST_BYTES;
    let mut piece = Vec::new();
    while at < size && !scanner.is_beyond(upto) {
        piece.resize(length.min((size - at) as usize), 0);
        file.read_exact_at(&mut piece, at)?;
        scanner.feed(&piece)?;
        at += piece.len() as u64;
        if !go_on(piece.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped").into());
        }
        length = PIECE_BYTES;
    }
    Ok(scanner.stop())
}

/// Reads every byte. `go_on` is asked between two pieces.
pub fn read_whole(file: &DiskFile, go_on: &dyn Fn(u64) -> bool) -> Result<AtRest, Unfit> {
    let size = file.len()?;
    let (meta, data_offset, bytes) = start(file, size)?;
    if meta.sop_class_uid == DIRECTORY_CLASS {
        return Err(Unfit::Directory);
    }
    let (head, first) = bytes.split_at(data_offset as usize);
    let mut scanner = Scanner::new(&meta.transfer_syntax, Wanted::Indexed);
    let mut data_crc = crc32fast::Hasher::new();
    let mut file_crc = crc32fast::Hasher::new();
    file_crc.update(head);
    data_crc.update(first);
    scanner.feed(first)?;
    let mut at = bytes.len() as u64;
    let mut piece = Vec::new();
    while at < size {
        piece.resize(PIECE_BYTES.min((size - at) as usize), 0);
        file.read_exact_at(&mut piece, at)?;
        data_crc.update(&piece);
        scanner.feed(&piece)?;
        at += piece.len() as u64;
        if !go_on(piece.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped").into());
        }
    }
    if file.len()? != size {
        return Err(io::Error::other("it changes while it is read").into());
    }
    file_crc.combine(&data_crc);
    let attributes = scanner.finish()?;
    let mut study_values = attributes.values(Level::Patient);
    study_values.append(&mut attributes.values(Level::Study));
    Ok(AtRest {
        heading: heading(meta, data_offset, &attributes)?,
        study_values,
        series_values: attributes.values(Level::Series),
        instance_values: attributes.values(Level::Instance),
        size_bytes: size,
        crc32: data_crc.finalize(),
        file_crc32: file_crc.finalize(),
    })
}

/// CRC-32 of the data set that begins at `data_offset`, and of the whole file.
pub fn checksums(
    file: &DiskFile,
    data_offset: u64,
    go_on: &dyn Fn(u64) -> bool,
) -> io::Result<(u32, u32)> {
    let size = file.len()?;
    let mut file_crc = crc32fast::Hasher::new();
    let mut data_crc = crc32fast::Hasher::new();
    let mut piece = Vec::new();
    let mut at = 0;
    while at < size {
        let end = if at < data_offset { data_offset } else { size };
        piece.resize(PIECE_BYTES.min((end - at) as usize), 0);
        file.read_exact_at(&mut piece, at)?;
        match at < data_offset {
            true => file_crc.update(&piece),
            false => data_crc.update(&piece),
        }
        at += piece.len() as u64;
        if !go_on(piece.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
    }
    file_crc.combine(&data_crc);
    Ok((data_crc.finalize(), file_crc.finalize()))
}
