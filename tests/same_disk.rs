//! Two volumes on one physical disk are not taken for two disks.

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::disks::{Pluggable, Tmpfs};
use kura::volume::Disk;
use kura::volume::device::{Disks, Shared, disks_of, share};

fn disks(path: &Path) -> Disks {
    let device = std::fs::metadata(path).unwrap().dev();
    disks_of(&Disk::default(), device, path)
}

/// Method: two real ext4 in files of one folder, mounted; and a tmpfs beside them.
#[test]
fn two_disk_images_in_one_folder_share_its_disk_and_a_tmpfs_is_memory() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let Some(_a) = Pluggable::ext4(&at("a"), 8 << 20) else {
        return;
    };
    let Some(_b) = Pluggable::ext4(&at("b"), 8 << 20) else {
        return;
    };
    let Some(_memory) = Tmpfs::new(&at("memory"), "size=1m") else {
        return;
    };
    let (a, b, own) = (disks(&at("a")), disks(&at("b")), disks(base.path()));
    assert_eq!(share(&a, &b), Shared::Yes, "{a:?} {b:?}");
    // The images are in the folder for temporary files, as `base` is.
    assert_eq!((&a, &b), (&own, &own));
    let memory = disks(&at("memory"));
    assert!(
        memory.known && memory.names.contains("memory"),
        "{memory:?}"
    );
    if own.known && own != memory {
        assert_eq!(share(&a, &memory), Shared::No, "{a:?}");
    }
}
