//! What the system says of a file system and of the disks below it, for a person to judge.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Disk, MEMBERS_MAX, MOUNTS_BYTES_MAX, Mount, SYSFS_BYTES_MAX};

/// The file system of a folder, as it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// `ext4`, `nfs4`.
    pub kind: String,
    /// Nothing can be written.
    pub is_read_only: bool,
    /// Each reading of a file writes down when it was.
    pub notes_each_reading: bool,
}

/// A physical disk, by what its queue says; `None`: it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PhysicalDisk {
    pub is_rotational: Option<bool>,
    /// It answers a write before it is on the medium: only a flush is sure.
    pub has_write_back_cache: Option<bool>,
}

/// The file system with the number `device` (`st_dev`), on which `path` is. `None` where the list of mounts does not say.
pub fn file_system_of(disk: &Disk, device: u64, path: &Path) -> Option<FileSystem> {
    let real = disk.real_path(path).ok()?;
    file_system_in(disk, Path::new("/"), device, &real)
}

/// A disk by its name in [`super::Disks`].
pub fn physical_disk(disk: &Disk, name: &str) -> PhysicalDisk {
    physical_disk_in(disk, Path::new("/"), name)
}

/// `root`: where `proc` is; `real`: without symbolic links.
fn file_system_in(disk: &Disk, root: &Path, device: u64, real: &Path) -> Option<FileSystem> {
    let mounts = root.join("proc/self/mountinfo");
    let mounts = disk.read_small(&mounts, MOUNTS_BYTES_MAX).ok()?;
    let mount = Mount::of(&mounts, device, real)?;
    let has = |list: &[u8], wanted: &[u8]| list.split(|b| *b == b',').any(|flag| flag == wanted);
    // Of the mount, or of the file system after an error.
    let is_read_only = has(&mount.flags, b"ro") || has(&mount.options, b"ro");
    let spares = |flag: &[u8]| has(&mount.flags, flag) || has(&mount.options, flag);
    Some(FileSystem {
        kind: String::from_utf8_lossy(&mount.kind).into_owned(),
        is_read_only,
        notes_each_reading: !(is_read_only || spares(b"noatime") || spares(b"relatime")),
    })
}

/// `root`: where `sys` is.
fn physical_disk_in(disk: &Disk, root: &Path, name: &str) -> PhysicalDisk {
    let all = root.join("sys/block");
    let mut folder = all.join(name);
    if name.starts_with("nvme") {
        // The name is that of the controller; its first namespace speaks for it.
        let namespace = format!("{name}n");
        let names = disk.list(&all, MEMBERS_MAX).unwrap_or_default();
        let first = names.into_iter().find(|other| {
            let other: &OsStr = other;
            other.as_bytes().starts_with(namespace.as_bytes())
        });
        folder = all.join(first.unwrap_or_default());
    }
    let says = |file: &str| {
        let text = disk.read_small(&folder.join("queue").join(file), SYSFS_BYTES_MAX);
        Some(String::from_utf8_lossy(&text.ok()?).trim().to_owned())
    };
    PhysicalDisk {
        is_rotational: says("rotational").map(|text| text == "1"),
        has_write_back_cache: says("write_cache").map(|text| text == "write back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method: a `proc` and a `sys` in a folder.
    #[test]
    fn file_systems_and_disks_are_as_the_system_says() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "proc/self/mountinfo",
            "20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
             21 1 8:17 / /mnt/a rw,noatime shared:1 - xfs /dev/sdb1 rw,attr2\n\
             22 1 8:33 / /mnt/b rw - ext4 /dev/sdc1 ro,errors=remount-ro\n\
             23 1 8:49 / /mnt/c rw,nosuid - ext3 /dev/sdd1 rw\n",
        );
        let disk = Disk::default();
        let at = |minor: u32, path: &str| {
            let device = rustix::fs::makedev(8, minor);
            #[allow(clippy::unnecessary_cast)]
            let found = file_system_in(&disk, root.path(), device as u64, Path::new(path));
            let found = found.unwrap();
            (found.kind, found.is_read_only, found.notes_each_reading)
        };
        let expected = |kind: &str, ro, each| (kind.to_owned(), ro, each);
        assert_eq!(at(1, "/srv"), expected("ext4", false, false));
        assert_eq!(at(17, "/mnt/a/x"), expected("xfs", false, false));
        assert_eq!(at(33, "/mnt/b"), expected("ext4", true, false));
        assert_eq!(at(49, "/mnt/c"), expected("ext3", false, true));

        write("sys/block/sda/queue/rotational", "1\n");
        write("sys/block/sda/queue/write_cache", "write back\n");
        write("sys/block/nvme1n1/queue/rotational", "0\n");
        write("sys/block/nvme1n1/queue/write_cache", "write through\n");
        let of = |name: &str| {
            let found = physical_disk_in(&disk, root.path(), name);
            (found.is_rotational, found.has_write_back_cache)
        };
        assert_eq!(of("sda"), (Some(true), Some(true)));
        assert_eq!(of("nvme1"), (Some(false), Some(false)));
        assert_eq!(of("nvme2"), (None, None));
        assert_eq!(of("server nas"), (None, None));
    }
}
