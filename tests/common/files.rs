//! The files that tests send: `testdata/` and, where present, a folder of samples.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::part10::{Part10, Uids};

pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// A file of `testdata/` (or `bad/…`) that must be there and be Part-10.
pub fn load(name: &str) -> Part10 {
    Part10::read(&testdata().join(name)).unwrap_or_else(|reason| panic!("{reason}"))
}

/// `KURA_DICOM_SAMPLES`, else `../shared/dicom-samples` beside the source; `None` when absent.
pub fn samples() -> Option<PathBuf> {
    let folder = std::env::var_os("KURA_DICOM_SAMPLES")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/dicom-samples"));
    folder.is_dir().then_some(folder)
}

/// Every file below a folder in name order, without those in a folder `bad`.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_entry(|entry| !(entry.file_type().is_dir() && entry.file_name() == "bad"))
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect();
    files.sort();
    files
}

/// A file that an archive must take: well formed, with every UID.
#[derive(Clone, Debug)]
pub struct Good {
    pub file: Part10,
    pub uids: Uids,
}

/// The good DICOM files below a folder, one per SOP Instance UID.
pub fn good_below(folder: &Path) -> Vec<Good> {
    let mut seen = HashSet::new();
    below(folder)
        .iter()
        .filter_map(|path| {
            let file = Part10::read(path).ok()?;
            let uids = file.uids()?;
            // A DICOMDIR is a directory of a medium, not an instance of a patient.
            let storable = uids.sop_class != "1.2.840.10008.1.3.10";
            (storable && seen.insert(uids.sop_instance.clone())).then_some(Good { file, uids })
        })
        .collect()
}
