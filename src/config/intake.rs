//! `intake` of the volumes, and `[intake]`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::VolumeEntry;

/// How instances become durable on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntakeMode {
    /// By the time that the disk needs for a flush.
    Auto,
    /// Through a journal: one flush for everyone who waits, the file follows.
    Journal,
    /// File, name and ledger line, each with a flush.
    Direct,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IntakeFile {
    mode: IntakeMode,
    size_bytes: u64,
}

const MODE_DEFAULT: IntakeMode = IntakeMode::Auto;
/// Of a new journal, unless it is configured.
const SIZE_BYTES_DEFAULT: u64 = 512 << 20;
/// Also of one that is made smaller because its disk is.
pub const SIZE_BYTES_MIN: u64 = 1 << 20;
const SIZE_BYTES_MAX: u64 = 64 << 30;

impl Default for IntakeFile {
    fn default() -> IntakeFile {
        IntakeFile {
            mode: MODE_DEFAULT,
            size_bytes: SIZE_BYTES_DEFAULT,
        }
    }
}

/// The part of what `kura init` writes that is about this.
pub(super) const TEMPLATE: &str = r#"
[intake]
# How instances become durable on an archive volume. "direct": file, name and ledger line, each with its own flush.
# "journal": one flush for everyone who waits, and the file follows within seconds; right for hard disks. "auto": by
# the time that the disk needs for a flush, measured at the start (kura volume list says it). A [[volume]] may say
# intake = "..." for itself, and journal = "/ssd/kura": the folder on another disk in which its journal lies.
mode = "auto"
# Bytes of a new journal: 1 MiB to 64 GiB, on the volume itself a sixteenth of its disk at most. It is written once in
# full when it is made, and keeps its size.
size_bytes = 536870912
"#;

/// What is said of each volume; of the others, the default.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Of a journal that is made anew; one that is there keeps its size.
    pub size_bytes: u64,
    /// Of volumes that say none.
    mode: IntakeMode,
    volumes: HashMap<String, (IntakeMode, Option<PathBuf>)>,
}

impl Intake {
    pub(super) fn of(
        file: &IntakeFile,
        volumes: &mut [VolumeEntry],
        base: &Path,
    ) -> Result<Intake, String> {
        if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&file.size_bytes) {
            return Err(format!(
                "[intake] size_bytes = {}: from {SIZE_BYTES_MIN} (1 MiB) to {SIZE_BYTES_MAX} (64 GiB)",
                file.size_bytes
            ));
        }
        let mut said = HashMap::new();
        for volume in volumes {
            let folder = volume.journal.take().map(|path| base.join(path));
            if folder.is_some() && volume.intake == Some(IntakeMode::Direct) {
                return Err(format!(
                    "volume {}: it has a journal and intake = \"direct\"; say one of them",
                    volume.name
                ));
            }
            let mode = volume.intake.take().unwrap_or(match folder {
                Some(_) => IntakeMode::Journal,
                None => file.mode,
            });
            said.insert(volume.name.clone(), (mode, folder));
        }
        Ok(Intake {
            size_bytes: file.size_bytes,
            mode: file.mode,
            volumes: said,
        })
    }

    pub fn mode(&self, volume: &str) -> IntakeMode {
        let said = self.volumes.get(volume);
        said.map_or(self.mode, |(mode, _)| *mode)
    }

    /// The folder in which the journals of volumes lie; None: on the volume itself.
    pub fn folder(&self, volume: &str) -> Option<&Path> {
        self.volumes.get(volume)?.1.as_deref()
    }
}
