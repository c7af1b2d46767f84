//! What the newest lines of a ledger say is on its volume, asked of the ledger itself: at the start, when the index may not
//! know it yet.

use std::collections::HashMap;

use crate::volume::{LedgerError, Volume, layout, ledger_extent};

use super::Line;
use super::entry::{gone_of, listed_of};

/// Segments that are read: some 128 MiB, which is more than comes between two moments at which names become durable.
const SEGMENTS: usize = 2;

/// Files by SOP Instance UID.
#[derive(Default)]
pub struct Listed {
    files: HashMap<String, Vec<File>>,
}

struct File {
    size: u64,
    crc32: u32,
    /// Empty for the one that its series' folder and its UID give.
    path: String,
}

impl Listed {
    pub fn read(volume: &Volume<Line>) -> Result<Listed, LedgerError> {
        let mut listed = Listed::default();
        let folder = volume.ledger_folder(volume.id());
        ledger_extent::read_newest(volume.disk(), &folder, SEGMENTS, &mut |line| {
            listed.note(line);
        })?;
        Ok(listed)
    }

    fn note(&mut self, json: &str) {
        if let Some((mark, path)) = listed_of(json) {
            let (size, crc32) = (mark.size, mark.file_crc32);
            let files = self.files.entry(mark.sop_instance_uid).or_default();
            files.push(File { size, crc32, path });
        } else if let Some((sop, path)) = gone_of(json)
            && let Some(files) = self.files.get_mut(&sop)
        {
            let is_usual = path.rsplit('/').next() == Some(&layout::file_name(&sop))
                && layout::path_in_tree(&path) == path;
            let path = if is_usual { "" } else { &path };
            files.retain(|file| file.path != path);
        }
    }

    /// Whether a file with that content is part of the volume.
    pub fn has(&self, sop_instance_uid: &str, size: u64, file_crc32: u32) -> bool {
        let files = self.files.get(sop_instance_uid);
        let is_it = |file: &File| (file.size, file.crc32) == (size, file_crc32);
        files.is_some_and(|files| files.iter().any(is_it))
    }
}
