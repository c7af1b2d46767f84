//! Where, on other disks, the journals of a volume are or have been: `intake/elsewhere.json` on the volume itself, so that
//! what one of them holds is not forgotten with the configuration.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::io::Disk;
use super::{Volume, VolumeError, layout};

const FILE: &str = "elsewhere.json";
const TEMPORARY_FILE: &str = "elsewhere.json.new";
const FILE_BYTES_MAX: u64 = 1 << 16;

/// The folder of one journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub folder: PathBuf,
    /// It was empty when it was last used: it does not matter whether it is still there.
    pub settled: bool,
    /// It could not be read at a start while it held something: how old that is, nobody knows.
    #[serde(default)]
    pub missed: bool,
}

#[derive(Serialize, Deserialize)]
struct Places {
    version: u32,
    journals: Vec<Place>,
}

impl<T: Send + 'static> Volume<T> {
    /// Of journals that are not on the volume itself.
    pub fn journal_places(&self) -> Result<Vec<Place>, VolumeError> {
        let path = self.journal_places_path();
        let text = match self.shared.disk.read_small(&path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(VolumeError::io(&path)(error)),
        };
        match serde_json::from_slice::<Places>(&text) {
            Ok(places) => Ok(places.journals),
            Err(error) => Err(VolumeError::io(&path)(error.into())),
        }
    }

    /// The whole new list or the whole old one; durable on return.
    pub fn write_journal_places(&self, places: &[Place]) -> Result<(), VolumeError> {
        let path = self.journal_places_path();
        let places = Places {
            version: 1,
            journals: places.to_vec(),
        };
        let text = serde_json::to_string_pretty(&places)
            .map_err(|error| VolumeError::io(&path)(error.into()))?
            + "\n";
        let _call = self.shared.calls.begin();
        write(&self.shared.disk, &path, text.as_bytes()).map_err(VolumeError::io(&path))
    }

    pub fn journal_places_path(&self) -> PathBuf {
        self.shared.root.join(layout::INTAKE_FOLDER).join(FILE)
    }
}

fn write(disk: &Disk, path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    disk.create_dir_durable(folder)?;
    let temporary = folder.join(TEMPORARY_FILE);
    let file = disk.open_or_create(&temporary)?;
    file.set_len(0)?;
    file.write_at(0, text)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(folder)
}
