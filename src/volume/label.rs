//! The label: which folder is which volume, and making a folder one.

use std::path::Path;

use super::io::Disk;
use super::layout::{self, Label, Role};
use super::{Spec, VolumeError};

/// Longest label file that is read, in bytes.
const LABEL_BYTES_MAX: u64 = 64 * 1024;

/// What a folder says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelState {
    /// There is no such folder.
    Missing,
    /// Nothing is in it but what operating systems put there: a new disk, or a
    /// mount point with nothing mounted.
    Empty,
    Label(Label),
    /// Not empty, and no label.
    Foreign,
}

/// Looks at the folder now. An error when it cannot be read, when its label is
/// damaged, or when a newer Kura made it.
pub fn label_of(path: &Path) -> Result<LabelState, VolumeError> {
    read_label(&Disk::default(), path)
}

pub(super) fn read_label(disk: &Disk, root: &Path) -> Result<LabelState, VolumeError> {
    let file = root.join(layout::LABEL_FILE);
    let bytes = match disk.read_small(&file, LABEL_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            return match error.kind() {
                std::io::ErrorKind::NotFound => without_label(disk, root),
                std::io::ErrorKind::NotADirectory => Ok(LabelState::Foreign),
                std::io::ErrorKind::InvalidData => Err(VolumeError::LabelDamaged {
                    path: file,
                    reason: error.to_string(),
                }),
                _ => Err(VolumeError::io(&file)(error)),
            };
        }
    };
    let damaged = |reason: serde_json::Error| VolumeError::LabelDamaged {
        path: file.clone(),
        reason: reason.to_string(),
    };
    // The version first: a newer label may have other members.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version.format != layout::FORMAT {
        return Err(VolumeError::OtherFormat {
            path: file,
            found: version.format,
            known: layout::FORMAT,
        });
    }
    let label: Label = serde_json::from_slice(&bytes).map_err(damaged)?;
    // The id becomes the name of a folder.
    let id = &label.volume_id;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        return Err(VolumeError::LabelDamaged {
            path: file,
            reason: "the volume id has other characters than letters, digits and hyphens".into(),
        });
    }
    Ok(LabelState::Label(label))
}

fn without_label(disk: &Disk, root: &Path) -> Result<LabelState, VolumeError> {
    // One more than all that is ignored: enough to know.
    let ignored = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|name| {
            layout::IGNORED_NAMES.contains(&name) || name == layout::LABEL_TEMPORARY_FILE
        })
    };
    match disk.list(root, layout::IGNORED_NAMES.len() + 2) {
        Ok(names) if names.iter().all(|name| ignored(name)) => Ok(LabelState::Empty),
        Ok(_) => Ok(LabelState::Foreign),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => Ok(LabelState::Missing),
            std::io::ErrorKind::NotADirectory => Ok(LabelState::Foreign),
            _ => Err(VolumeError::io(root)(error)),
        },
    }
}

/// Makes an empty or missing folder a volume; the label is durable on return.
///
/// Stopped half-way it leaves a folder that is still empty in the sense of
/// [`LabelState::Empty`], so it can be run again.
pub fn initialize(disk: &Disk, spec: &Spec, archive_id: &str) -> Result<Label, VolumeError> {
    let root = spec.path.as_path();
    match read_label(disk, root)? {
        LabelState::Missing => disk
            .create_dir_durable(root)
            .map_err(VolumeError::io(root))?,
        LabelState::Empty => {
            // It may be of an earlier run that was killed before its flush. Who
            // may not read the parent did not make it: then it is not ours to do.
            if let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty()) {
                let flushed = disk.sync_dir(parent);
                if let Err(error) = flushed
                    && error.kind() != std::io::ErrorKind::PermissionDenied
                {
                    return Err(VolumeError::flush(parent)(error));
                }
            }
        }
        LabelState::Label(label) => {
            return Err(VolumeError::AlreadyLabelled {
                path: root.to_owned(),
                name: label.name,
                volume_id: label.volume_id,
            });
        }
        LabelState::Foreign => {
            return Err(VolumeError::Foreign {
                name: spec.name.clone(),
                path: root.to_owned(),
            });
        }
    }
    let label = new(spec, archive_id);
    write(disk, root, &label)?;
    Ok(label)
}

/// A label of no other volume.
pub(super) fn new(spec: &Spec, archive_id: &str) -> Label {
    let now = jiff::Timestamp::now().as_second();
    Label {
        format: layout::FORMAT,
        archive_id: archive_id.to_owned(),
        volume_id: uuid::Uuid::new_v4().to_string(),
        name: spec.name.clone(),
        role: spec.role,
        created: jiff::Timestamp::from_second(now)
            .map_or_else(|_| String::new(), |t| t.to_string()),
        adopted: false,
    }
}

/// The whole new label or the whole old one; durable on return.
pub(super) fn write(disk: &Disk, root: &Path, label: &Label) -> Result<(), VolumeError> {
    let text = serde_json::to_string_pretty(label).map_err(|error| VolumeError::LabelDamaged {
        path: root.join(layout::LABEL_FILE),
        reason: error.to_string(),
    })? + "\n";
    write_label(disk, root, text.as_bytes()).map_err(VolumeError::io(root))
}

fn write_label(disk: &Disk, root: &Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = root.join(layout::LABEL_TEMPORARY_FILE);
    let file = disk.open_or_create(&temporary)?;
    file.set_len(0)?;
    file.write_at(0, text)?;
    // Content before name: a power cut must not leave an empty label.
    file.sync_data()?;
    disk.rename(&temporary, &root.join(layout::LABEL_FILE))?;
    // From here on the folder is a volume, also after a power cut.
    disk.sync_dir(root)
}

/// The label of `spec`'s folder if it is that volume of that archive.
pub(super) fn expect_label(
    disk: &Disk,
    spec: &Spec,
    archive_id: &str,
) -> Result<Label, VolumeError> {
    let (name, path) = (spec.name.clone(), spec.path.clone());
    let label = match read_label(disk, &spec.path)? {
        LabelState::Missing => return Err(VolumeError::Missing { name, path }),
        LabelState::Empty => return Err(VolumeError::Empty { name, path }),
        LabelState::Foreign => return Err(VolumeError::Foreign { name, path }),
        LabelState::Label(label) => label,
    };
    if label.archive_id != archive_id {
        return Err(VolumeError::OtherArchive {
            name,
            path,
            found: label.archive_id,
            expected: archive_id.to_owned(),
        });
    }
    if label.name != spec.name {
        return Err(VolumeError::OtherVolume {
            name,
            path,
            found: label.name,
        });
    }
    if label.role != spec.role {
        return Err(VolumeError::OtherRole {
            name,
            path,
            found: label.role,
            expected: spec.role,
        });
    }
    Ok(label)
}

impl Spec {
    /// A volume as the configuration names it.
    pub fn new(name: &str, path: &Path, role: Role) -> Spec {
        Spec {
            name: name.to_owned(),
            path: path.to_owned(),
            role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_what_it_is() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("a");
        assert_eq!(label_of(&root).unwrap(), LabelState::Missing);
        std::fs::create_dir(&root).unwrap();
        assert_eq!(label_of(&root).unwrap(), LabelState::Empty);
        for name in layout::IGNORED_NAMES {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join(layout::LABEL_TEMPORARY_FILE), b"{").unwrap();
        assert_eq!(label_of(&root).unwrap(), LabelState::Empty);
        std::fs::write(root.join("x"), b"").unwrap();
        assert_eq!(label_of(&root).unwrap(), LabelState::Foreign);
        assert_eq!(label_of(&root.join("x")).unwrap(), LabelState::Foreign);
    }

    #[test]
    fn an_initialized_folder_has_the_label_that_was_returned() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("deep/er");
        let spec = Spec::new("A", &root, Role::Archive);
        let label = initialize(&Disk::default(), &spec, "archive").unwrap();
        assert_eq!(label_of(&root).unwrap(), LabelState::Label(label.clone()));
        assert!(label.created.ends_with('Z'), "{}", label.created);
        let again = initialize(&Disk::default(), &spec, "archive");
        assert!(matches!(again, Err(VolumeError::AlreadyLabelled { .. })));
        assert_eq!(label_of(&root).unwrap(), LabelState::Label(label));
    }

    #[test]
    fn a_folder_with_files_in_it_is_never_initialized() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("photo.jpg"), b"").unwrap();
        let spec = Spec::new("A", base.path(), Role::Archive);
        let refused = initialize(&Disk::default(), &spec, "archive");
        assert!(matches!(refused, Err(VolumeError::Foreign { .. })));
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_or_newer_label_is_an_error_and_not_an_empty_folder() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join(layout::LABEL_FILE);
        for bad in [
            "",
            "{}",
            "{\"format\":1}",
            "\0\0\0",
            r#"{"format":1,"archive_id":"a","volume_id":"../x","name":"A","role":"archive","created":""}"#,
        ] {
            std::fs::write(&file, bad).unwrap();
            let state = label_of(base.path());
            assert!(
                matches!(state, Err(VolumeError::LabelDamaged { .. })),
                "{bad}: {state:?}"
            );
        }
        std::fs::write(&file, r#"{"format":2,"else":1}"#).unwrap();
        let state = label_of(base.path());
        assert!(matches!(
            state,
            Err(VolumeError::OtherFormat { found: 2, .. })
        ));
        std::fs::write(&file, vec![b' '; 100_000]).unwrap();
        assert!(label_of(base.path()).is_err());
    }

    #[test]
    fn a_folder_is_only_opened_as_the_volume_its_label_names() {
        let base = tempfile::tempdir().unwrap();
        let spec = Spec::new("A", base.path(), Role::Archive);
        let disk = Disk::default();
        let empty = expect_label(&disk, &spec, "one");
        assert!(matches!(empty, Err(VolumeError::Empty { .. })));
        initialize(&disk, &spec, "one").unwrap();
        let other = expect_label(&disk, &spec, "two");
        assert!(matches!(other, Err(VolumeError::OtherArchive { .. })));
        let named = Spec::new("B", base.path(), Role::Archive);
        let other = expect_label(&disk, &named, "one");
        assert!(matches!(other, Err(VolumeError::OtherVolume { .. })));
        let mirror = Spec::new("A", base.path(), Role::Mirror);
        let other = expect_label(&disk, &mirror, "one");
        assert!(matches!(other, Err(VolumeError::OtherRole { .. })));
        assert!(expect_label(&disk, &spec, "one").is_ok());
    }
}
