//! What goes wrong on a volume, with the facts as fields.

use std::path::{Path, PathBuf};

use super::layout::Role;
use super::ledger::LedgerError;

/// What a volume could not do, and why.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume {name}: there is no folder {}; nothing was written", path.display())]
    Missing { name: String, path: PathBuf },
    #[error("volume {name}: {} is empty, it has no label (is the disk mounted?); nothing was written", path.display())]
    Empty { name: String, path: PathBuf },
    #[error("volume {name}: {} has other files in it and no label; nothing was written", path.display())]
    Foreign { name: String, path: PathBuf },
    #[error("{} is volume {name} ({volume_id}) already; nothing was written", path.display())]
    AlreadyLabelled {
        path: PathBuf,
        name: String,
        volume_id: String,
    },
    #[error("label {} cannot be understood ({reason}); nothing was written", path.display())]
    LabelDamaged { path: PathBuf, reason: String },
    #[error("label {} has format {found}, this version knows format {known}; nothing was written", path.display())]
    OtherFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("volume {name}: {} belongs to archive {found}, expected {expected}; nothing was written", path.display())]
    OtherArchive {
        name: String,
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("volume {name}: {} is labelled as volume {found}; nothing was written", path.display())]
    OtherVolume {
        name: String,
        path: PathBuf,
        found: String,
    },
    #[error("volume {name}: {} is labelled as {found}, configured as {expected}; nothing was written", path.display())]
    OtherRole {
        name: String,
        path: PathBuf,
        found: Role,
        expected: Role,
    },
    #[error("volume {name}: {} is in use by {owner}; it was not opened", path.display())]
    Locked {
        name: String,
        path: PathBuf,
        owner: String,
    },
    #[error("volume {name}: {} no longer leads to the disk that was opened; nothing was written", path.display())]
    Detached { name: String, path: PathBuf },
    #[error("{} can neither link files nor rename them without replacing others; the volume is not used", path.display())]
    CannotPublish { path: PathBuf },
    #[error("{}: no space left; it was not written whole", path.display())]
    Full {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: the file system is read-only; nothing was written", path.display())]
    ReadOnly {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: flush failed ({source}); the volume is not written until it was checked and opened again", path.display())]
    FlushFailed {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("volume {name} is out of use for writing: {reason}")]
    Failed { name: String, reason: String },
    #[error("{} may hold {limit_bytes} bytes and has no room; the bytes were dropped", path.display())]
    QuarantineFull { path: PathBuf, limit_bytes: u64 },
    #[error(
        "{path}: this name and every alternative to it are taken by other content; it was not stored"
    )]
    NameTaken { path: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl VolumeError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> VolumeError {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                VolumeError::Full { path, source }
            }
            std::io::ErrorKind::ReadOnlyFilesystem => VolumeError::ReadOnly { path, source },
            _ => VolumeError::Io { path, source },
        }
    }

    /// An error of a flush. Some file systems find only then that there is no
    /// space; the file is lost, other files of the volume are not.
    pub(super) fn flush(path: &Path) -> impl FnOnce(std::io::Error) -> VolumeError {
        let path = path.to_owned();
        move |source| match VolumeError::io(&path)(source) {
            VolumeError::Io { path, source } | VolumeError::ReadOnly { path, source } => {
                VolumeError::FlushFailed { path, source }
            }
            other => other,
        }
    }

    /// Whether the volume must not be written any more: the kernel has forgotten what it could not write.
    pub fn is_flush_failure(&self) -> bool {
        matches!(
            self,
            VolumeError::FlushFailed { .. } | VolumeError::Ledger(LedgerError::Failed { .. })
        )
    }

    /// Whether a ledger line may have reached the disk all the same.
    pub fn is_ledger_unknown(&self) -> bool {
        matches!(self, VolumeError::Ledger(error) if !matches!(error, LedgerError::Full { .. }))
    }

    /// Whether this process lacked something (open files, memory), which says nothing of the disk.
    pub fn is_of_the_process(&self) -> bool {
        use rustix::io::Errno;
        let VolumeError::Io { source, .. } = self else {
            return false;
        };
        let errno = source.raw_os_error().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
    }

    /// Whether it is only a matter of space.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            VolumeError::Full { .. } | VolumeError::Ledger(LedgerError::Full { .. })
        )
    }
}
