use super::*;

/// A `/sys` and a `/proc` in a folder.
struct Machine {
    root: tempfile::TempDir,
    places: Vec<(PathBuf, u64, u64)>,
    mounts: String,
}

fn number(text: &str) -> u64 {
    let (major, minor) = text.split_once(':').unwrap();
    rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap())
}

impl Machine {
    fn new() -> Machine {
        Machine {
            root: tempfile::tempdir().unwrap(),
            places: Vec::new(),
            mounts: String::new(),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(self.root.path().join("sys/devices").join(to), path).unwrap();
    }

    /// A block device with its folder below `sys/devices`.
    fn block(&self, numbers: &str, folder: &str) {
        self.write(&format!("sys/devices/{folder}/dev"), numbers);
        self.link(&format!("sys/dev/block/{numbers}"), folder);
    }

    fn partition(&self, numbers: &str, folder: &str) {
        self.block(numbers, folder);
        self.write(&format!("sys/devices/{folder}/partition"), "1\n");
    }

    /// A device made of others.
    fn made_of(&self, numbers: &str, name: &str, members: &[&str]) {
        let folder = format!("virtual/block/{name}");
        self.block(numbers, &folder);
        for member in members {
            let last = member.rsplit('/').next().unwrap();
            self.link(&format!("sys/devices/{folder}/slaves/{last}"), member);
        }
    }

    fn in_file(&self, numbers: &str, name: &str, file: &str) {
        self.block(numbers, &format!("virtual/block/{name}"));
        let text = format!("{file}\n");
        self.write(
            &format!("sys/devices/virtual/block/{name}/loop/backing_file"),
            &text,
        );
    }

    /// A path: the number of its file system and, for a device node, its own.
    fn place(&mut self, path: &str, device: &str, node: &str) {
        self.places
            .push((path.into(), number(device), number(node)));
    }

    fn mount(&mut self, device: &str, at: &str, kind: &str, source: &str, options: &str) {
        let id = self.mounts.lines().count() + 20;
        let line =
            format!("{id} 1 {device} / {at} rw,relatime shared:1 - {kind} {source} {options}\n");
        self.mounts.push_str(&line);
    }

    fn disks(&self, device: &str, path: &str) -> Disks {
        self.write("proc/self/mountinfo", &self.mounts);
        let look = |path: &Path| {
            let place = self.places.iter().find(|(known, _, _)| known == path);
            let (real, device, node) = place.cloned().ok_or(io::ErrorKind::NotFound)?;
            Ok(Place { real, device, node })
        };
        disks_in(
            &Disk::default(),
            self.root.path(),
            &look,
            number(device),
            Path::new(path),
        )
    }

    fn assert(&self, device: &str, path: &str, names: &[&str], known: bool) {
        let names = names.iter().map(|name| name.to_string()).collect();
        assert_eq!(
            self.disks(device, path),
            Disks { names, known },
            "{device} {path}"
        );
    }
}

/// Two disks with partitions, sda and sdb, and an NVMe disk with two namespaces.
fn machine() -> Machine {
    let machine = Machine::new();
    for (letter, minor) in [("a", 0), ("b", 16)] {
        let folder = format!("pci0/ata1/block/sd{letter}");
        machine.block(&format!("8:{minor}"), &folder);
        for part in 1..3 {
            let numbers = format!("8:{}", minor + part);
            machine.partition(&numbers, &format!("{folder}/sd{letter}{part}"));
        }
    }
    machine.block("259:0", "pci0/nvme/nvme0/nvme0n1");
    machine.partition("259:1", "pci0/nvme/nvme0/nvme0n1/nvme0n1p1");
    machine.block("259:2", "pci0/nvme/nvme0/nvme0n2");
    machine
}

#[test]
fn partitions_and_namespaces_are_on_their_disk() {
    let machine = machine();
    machine.assert("8:0", "/a", &["sda"], true);
    machine.assert("8:2", "/a", &["sda"], true);
    machine.assert("8:17", "/a", &["sdb"], true);
    machine.assert("259:1", "/a", &["nvme0"], true);
    machine.assert("259:2", "/a", &["nvme0"], true);
    machine.assert("8:99", "/a", &["device 8:99"], false);
}

#[test]
fn logical_volumes_encryption_and_raid_are_on_the_disks_below_them() {
    let (a1, b1) = ("pci0/ata1/block/sda/sda1", "pci0/ata1/block/sdb/sdb1");
    let machine = machine();
    machine.made_of("253:0", "dm-0", &[a1, b1]);
    machine.made_of("253:1", "dm-1", &[a1]);
    machine.made_of("253:2", "dm-2", &["virtual/block/dm-1"]);
    machine.made_of("9:0", "md0", &[a1, b1]);
    machine.partition("259:8", "virtual/block/md0/md0p1");
    machine.made_of("253:3", "dm-3", &[]);
    machine.block("43:0", "virtual/block/nbd0");
    machine.block("252:0", "virtual/block/zram0");
    machine.assert("253:0", "/a", &["sda", "sdb"], true);
    machine.assert("253:2", "/a", &["sda"], true);
    machine.assert("259:8", "/a", &["sda", "sdb"], true);
    machine.assert("253:3", "/a", &["dm-3"], false);
    machine.assert("43:0", "/a", &["nbd0"], false);
    machine.assert("252:0", "/a", &["memory"], true);
}

#[test]
fn a_file_mounted_as_a_disk_is_on_the_disk_of_the_file() {
    let mut machine = machine();
    machine.in_file("7:0", "loop0", "/images/one disk.img");
    machine.partition("259:9", "virtual/block/loop0/loop0p1");
    machine.in_file("7:1", "loop1", "/images/removed.img (deleted)");
    machine.in_file("7:2", "loop2", "/inner/disk.img");
    machine.in_file("7:3", "loop3", "/shm/disk.img");
    machine.place("/images/one disk.img", "8:1", "0:0");
    machine.place("/inner/disk.img", "259:9", "0:0");
    machine.place("/shm/disk.img", "0:30", "0:0");
    machine.mount("0:30", "/shm", "tmpfs", "tmpfs", "rw");
    machine.assert("7:0", "/a", &["sda"], true);
    machine.assert("259:9", "/a", &["sda"], true);
    machine.assert("7:1", "/a", &["loop1"], false);
    machine.assert("7:2", "/a", &["sda"], true);
    machine.assert("7:3", "/a", &["memory"], true);
}

#[test]
fn disks_in_files_in_disks_in_files_end_somewhere() {
    let mut machine = machine();
    for n in 0..20 {
        let file = format!("/{}/disk.img", n + 1);
        machine.in_file(&format!("7:{n}"), &format!("loop{n}"), &file);
        machine.place(&file, &format!("7:{}", n + 1), "0:0");
    }
    assert!(!machine.disks("7:0", "/a").known);
    // A disk that is in itself.
    machine.in_file("7:50", "loop50", "/own/disk.img");
    machine.place("/own/disk.img", "7:50", "0:0");
    machine.assert("7:50", "/a", &[], false);
}

#[test]
fn a_btrfs_is_on_all_its_disks_whichever_the_mount_names() {
    let mut machine = machine();
    machine.place("/dev/mapper/one", "0:6", "8:1");
    machine.place("/dev/sdb2", "0:6", "8:18");
    machine.mount("8:2", "/", "ext4", "/dev/sda2", "rw");
    machine.mount("0:40", "/pool", "btrfs", "/dev/mapper/one", "rw,subvol=/");
    machine.mount("0:41", "/single", "btrfs", "/dev/sdb2", "rw,subvol=/");
    machine.link("sys/fs/btrfs/0f3c/devices/sda1", "pci0/ata1/block/sda/sda1");
    machine.link("sys/fs/btrfs/0f3c/devices/sdb1", "pci0/ata1/block/sdb/sdb1");
    machine.write("sys/fs/btrfs/features/raid1c34", "0\n");
    for path in ["/pool/a", "/single/a"] {
        machine.place(path, "0:44", "0:0");
    }
    // 0:44 is a subvolume, which the list of mounts does not have.
    machine.assert("0:44", "/pool/a", &["sda", "sdb"], true);
    machine.assert("0:40", "/pool/a", &["sda", "sdb"], true);
    // The system does not say whether it has others.
    machine.assert("0:44", "/single/a", &["sdb"], false);
}

#[test]
fn what_is_behind_a_mount_without_a_block_device_is_said_by_the_mount() {
    let mut machine = machine();
    let mounts = [
        ("0:30", "/memory", "tmpfs", "tmpfs", "rw,size=4k"),
        (
            "0:31",
            "/nfs",
            "nfs4",
            "NAS:/export/a:/b",
            "rw,addr=10.0.0.5,clientaddr=10.0.0.9",
        ),
        ("0:32", "/cifs", "cifs", "//10.0.0.5/share", "rw"),
        ("0:33", "/six", "nfs", "[fe80::1]:/export", "rw"),
        (
            "0:34",
            "/self",
            "nfs",
            "localhost:/export",
            "rw,addr=127.0.0.1",
        ),
        (
            "0:35",
            "/over",
            "overlay",
            "overlay",
            r"rw,lowerdir=/l,upperdir=/up\040per\0541,workdir=/w",
        ),
        (
            "0:36",
            "/image",
            "overlay",
            "overlay",
            "rw,upperdir=/not/seen/here,workdir=/w",
        ),
        ("0:37", "/zfs", "zfs", "tank/images", "rw"),
        ("0:38", "/fuse", "fuse.other", "other", "rw"),
        ("0:39", r"/with\040space", "tmpfs", "tmpfs", "rw"),
    ];
    for (device, at, kind, source, options) in mounts {
        machine.mount(device, at, kind, source, options);
    }
    machine.place("/up per,1", "8:17", "0:0");
    for (device, path, names, known) in [
        ("0:30", "/memory/a", &["memory"][..], true),
        ("0:31", "/nfs/a", &["server 10.0.0.5", "server nas"], true),
        ("0:32", "/cifs/a", &["server 10.0.0.5"], true),
        ("0:33", "/six/a", &["server fe80::1"], true),
        (
            "0:34",
            "/self/a",
            &["server 127.0.0.1", "server localhost"],
            false,
        ),
        ("0:35", "/over/a", &["sdb"], true),
        ("0:36", "/image/a", &["device 0:36"], false),
        ("0:37", "/zfs/a", &["zfs tank"], false),
        ("0:38", "/fuse/a", &["device 0:38"], false),
        ("0:39", "/with space/a", &["memory"], true),
        // Mounted by nobody we see.
        ("0:77", "/elsewhere/a", &["device 0:77"], false),
    ] {
        machine.place(path, device, "0:0");
        machine.assert(device, path, names, known);
    }
}

#[test]
fn of_mounts_over_each_other_the_one_with_the_number_counts() {
    let mut machine = machine();
    machine.mount("0:31", "/mnt/a", "nfs", "old:/export", "rw");
    machine.mount("0:30", "/mnt", "tmpfs", "tmpfs", "rw");
    machine.mount("0:32", "/mnt", "nfs", "new:/export", "rw");
    machine.place("/mnt/a", "0:32", "0:0");
    machine.assert("0:32", "/mnt/a", &["server new"], true);
    // Neither: the folder was detached, and its path leads elsewhere now.
    machine.assert("0:50", "/mnt/a", &["device 0:50"], false);
}

#[test]
fn only_two_known_sets_without_a_common_disk_share_nothing() {
    let disks = |names: &[&str], known| Disks {
        names: names.iter().map(|name| name.to_string()).collect(),
        known,
    };
    for (a, b, shared) in [
        (disks(&["sda"], true), disks(&["sdb"], true), Shared::No),
        (
            disks(&["sda", "sdb"], true),
            disks(&["sdb"], true),
            Shared::Yes,
        ),
        (
            disks(&["sda", "x"], false),
            disks(&["sda"], true),
            Shared::Yes,
        ),
        (disks(&["x"], false), disks(&["sda"], true), Shared::Unknown),
        (disks(&["x"], false), disks(&["y"], false), Shared::Unknown),
    ] {
        assert_eq!(share(&a, &b), shared, "{a:?} {b:?}");
        assert_eq!(share(&b, &a), shared, "{a:?} {b:?}");
    }
}

#[test]
fn a_machine_without_a_device_tree_knows_nothing() {
    Machine::new().assert("8:1", "/a", &["device 8:1"], false);
    Machine::new().assert("0:1", "/a", &["device 0:1"], false);
}
