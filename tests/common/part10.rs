//! Part-10 files, split into file meta and data set without touching either.

use std::path::{Path, PathBuf};

use super::elements::{self, Syntax};

/// A DICOM file (PS3.10 7): file meta values and the bytes of its data set.
#[derive(Clone, Debug)]
pub struct Part10 {
    pub path: PathBuf,
    /// (0002,0002) and (0002,0003); the data set may say otherwise.
    pub media_sop_class_uid: String,
    pub media_sop_instance_uid: String,
    pub transfer_syntax: String,
    /// Offset of the data set in the file, in bytes.
    pub offset: usize,
    /// The data set, verbatim (deflated where the transfer syntax says so).
    pub data_set: Vec<u8>,
}

impl Part10 {
    /// Reads a file; `Err` says why it is none.
    pub fn read(path: &Path) -> Result<Part10, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut file =
            Part10::parse(&bytes).map_err(|reason| format!("{}: {reason}", path.display()))?;
        file.path = path.to_path_buf();
        Ok(file)
    }

    pub fn parse(bytes: &[u8]) -> Result<Part10, String> {
        if bytes.get(128..132) != Some(b"DICM".as_slice()) {
            return Err("no DICM after the preamble".into());
        }
        let mut file = Part10 {
            path: PathBuf::new(),
            media_sop_class_uid: String::new(),
            media_sop_instance_uid: String::new(),
            transfer_syntax: String::new(),
            offset: 132,
            data_set: Vec::new(),
        };
        // The group length is not believed: the meta ends where group 0002 ends.
        while bytes.get(file.offset..file.offset + 2) == Some([2, 0].as_slice()) {
            let header = elements::header(bytes, file.offset, Syntax::EXPLICIT_LITTLE)
                .ok_or("the file meta ends in an element header")?;
            let value = bytes
                .get(header.value..header.value + header.length as usize)
                .ok_or("the file meta ends in a value")?;
            let uid = elements::text(value);
            match header.tag.1 {
                0x0002 => file.media_sop_class_uid = uid,
                0x0003 => file.media_sop_instance_uid = uid,
                0x0010 => file.transfer_syntax = uid,
                _ => {}
            }
            file.offset = header.value + header.length as usize;
        }
        if file.transfer_syntax.is_empty() {
            return Err("no transfer syntax in the file meta".into());
        }
        file.data_set = bytes[file.offset..].to_vec();
        Ok(file)
    }

    /// The file's name, for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Top-level text of the data set, trimmed; `None` when absent, empty or unreadable.
    pub fn text(&self, group: u16, element: u16) -> Option<String> {
        let values = elements::read(&self.data_set, &self.transfer_syntax)?;
        elements::find(&values, group, element)
    }

    /// The UIDs by which an archive files an instance; `None` when one is missing.
    pub fn uids(&self) -> Option<Uids> {
        let values = elements::read(&self.data_set, &self.transfer_syntax)?;
        Some(Uids {
            sop_class: elements::find(&values, 0x0008, 0x0016)?,
            sop_instance: elements::find(&values, 0x0008, 0x0018)?,
            study: elements::find(&values, 0x0020, 0x000D)?,
            series: elements::find(&values, 0x0020, 0x000E)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uids {
    pub sop_class: String,
    pub sop_instance: String,
    pub study: String,
    pub series: String,
}
