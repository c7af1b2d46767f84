//! Requests that are not answered yet, one file each in `commitment/` of the state folder.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dicom::Reference;
use crate::volume::io::Disk;

/// Longest file: so many instances as a request may name.
const FILE_BYTES_MAX: u64 = 64 << 20;
const VERSION: u32 = 1;

/// A request as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// When it came, RFC 3339.
    pub at: String,
    /// Of the requestor, as it called.
    pub ae_title: String,
    pub address: IpAddr,
    pub transaction_uid: String,
    /// SOP class and instance.
    instances: Vec<(String, String)>,
}

impl Kept {
    pub fn new(
        ae_title: &str,
        address: IpAddr,
        transaction_uid: &str,
        instances: &[Reference],
    ) -> Kept {
        let pair = |one: &Reference| (one.sop_class_uid.clone(), one.sop_instance_uid.clone());
        Kept {
            version: VERSION,
            at: crate::archive::now(),
            ae_title: ae_title.to_owned(),
            address,
            transaction_uid: transaction_uid.to_owned(),
            instances: instances.iter().map(pair).collect(),
        }
    }

    pub fn instances(&self) -> impl Iterator<Item = Reference> + '_ {
        let instances = self.instances.iter();
        instances.map(|(class, instance)| Reference {
            sop_class_uid: class.clone(),
            sop_instance_uid: instance.clone(),
        })
    }

    pub fn instances_count(&self) -> usize {
        self.instances.len()
    }

    /// Tells another request of the same name from the same request made again.
    pub fn digest(&self) -> u32 {
        let mut digest = crc32fast::Hasher::new();
        for (class, instance) in &self.instances {
            digest.update(class.as_bytes());
            digest.update(b"\n");
            digest.update(instance.as_bytes());
            digest.update(b"\n");
        }
        digest.finalize()
    }
}

/// The folder.
pub struct Folder {
    disk: Disk,
    path: PathBuf,
}

/// What is in it.
pub struct Found {
    /// By number.
    pub requests: Vec<(u64, Kept)>,
    /// Files that cannot be read as requests, a sentence each; they stay as they are.
    pub notes: Vec<String>,
}

impl Folder {
    pub fn new(state: &Path) -> Folder {
        Folder {
            disk: Disk::default(),
            path: state.join("commitment"),
        }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:012}.json"))
    }

    /// At most so many, the oldest.
    pub fn read(&self, most: usize) -> std::io::Result<Found> {
        let mut found = Found {
            requests: Vec::new(),
            notes: Vec::new(),
        };
        let names = match self.disk.folder(&self.path) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        let number = |name: &std::ffi::OsStr| -> Option<u64> {
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(|(name, _)| number(name)).collect();
        numbers.sort_unstable();
        for number in numbers.into_iter().take(most) {
            let path = self.file(number);
            let bytes = self.disk.read_small(&path, FILE_BYTES_MAX);
            let kept = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
                serde_json::from_slice::<Kept>(&bytes).map_err(|error| error.to_string())
            });
            match kept {
                Ok(kept) if kept.version == VERSION => found.requests.push((number, kept)),
                Ok(kept) => found.notes.push(format!(
                    "{} is of version {}; this program reads {VERSION}, and leaves it",
                    path.display(),
                    kept.version
                )),
                Err(error) => found.notes.push(format!(
                    "{} cannot be read as a request of storage commitment: {error}; it is left as it is",
                    path.display()
                )),
            }
        }
        Ok(found)
    }

    pub fn one(&self, number: u64) -> std::io::Result<Kept> {
        let bytes = self.disk.read_small(&self.file(number), FILE_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::other)
    }

    /// Durable on return.
    pub fn keep(&self, number: u64, kept: &Kept) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(kept).map_err(std::io::Error::other)?;
        self.disk.create_dir_durable(&self.path)?;
        let path = self.file(number);
        let new = path.with_extension("new");
        let written = (|| {
            let file = self.disk.open_or_create(&new)?;
            file.set_len(0)?;
            file.write_at(0, &bytes)?;
            file.sync_data()?;
            self.disk.rename(&new, &path)?;
            self.disk.sync_dir(&self.path)
        })();
        if written.is_err() {
            drop(self.disk.remove(&new));
            drop(self.disk.remove(&path));
        }
        written
    }

    /// Not flushed: after a power cut it may be told a second time, which says the same.
    pub fn forget(&self, number: u64) -> std::io::Result<()> {
        self.disk.remove(&self.file(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_and_left_and_the_rest_is_read() {
        let state = tempfile::TempDir::new().unwrap();
        let folder = Folder::new(state.path());
        assert!(folder.read(10).unwrap().requests.is_empty());
        let instance = Reference {
            sop_class_uid: "1.2".to_owned(),
            sop_instance_uid: "1.2.3".to_owned(),
        };
        let kept = Kept::new("CT1", [10, 0, 0, 1].into(), "2.25.1", &[instance]);
        for number in [7, 9, 12] {
            folder.keep(number, &kept).unwrap();
        }
        let garbage = folder.file(8);
        std::fs::write(&garbage, b"{\"version\": 1, \"at\": \"20").unwrap();
        let newer = Kept {
            version: 2,
            ..kept.clone()
        };
        folder.keep(10, &newer).unwrap();
        std::fs::write(folder.file(11).with_extension("new"), b"{").unwrap();
        folder.forget(12).unwrap();
        let found = folder.read(10).unwrap();
        assert_eq!(found.requests, [(7, kept.clone()), (9, kept)]);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        assert!(garbage.exists() && folder.file(10).exists());
    }
}
