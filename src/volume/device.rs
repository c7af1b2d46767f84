//! On which physical disks a folder is, as the operating system's device tree says.
//!
//! Two copies are two only where no disk holds both. Device numbers alone do not say that: partitions, logical volumes
//! and files mounted as disks have numbers of their own.

mod facts;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Disk;

pub use facts::{FileSystem, PhysicalDisk, file_system_of, physical_disk};

/// A disk in a file on a disk in a file …: nobody means more.
const DEPTH_MAX: u32 = 8;
/// Disks below one device.
const MEMBERS_MAX: usize = 256;
/// Of `/proc/self/mountinfo`; hosts of many containers have thousands of lines.
const MOUNTS_BYTES_MAX: u64 = 8 << 20;
/// Of a file in `/sys`, in bytes; the longest holds a path.
const SYSFS_BYTES_MAX: u64 = 64 << 10;

/// The physical disks that hold a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disks {
    /// As the system names them at this moment (`sda`); a network server is `server NAME`, what is not kept beyond a
    /// restart is `memory`. For comparing now, not for keeping.
    pub names: BTreeSet<String>,
    /// False where there may be others.
    pub known: bool,
}

/// Whether two folders have a physical disk in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    No,
    Yes,
    Unknown,
}

/// Whether one dead disk may take both.
pub fn share(a: &Disks, b: &Disks) -> Shared {
    if !a.names.is_disjoint(&b.names) {
        Shared::Yes
    } else if a.known && b.known {
        Shared::No
    } else {
        Shared::Unknown
    }
}

/// The disks below the file system with the number `device` (`st_dev`), on which `path` is.
pub fn disks_of(disk: &Disk, device: u64, path: &Path) -> Disks {
    let look = |path: &Path| look(disk, path);
    disks_in(disk, Path::new("/"), &look, device, path)
}

/// A path without symbolic links, and its numbers.
#[derive(Debug, Clone)]
struct Place {
    real: PathBuf,
    /// Of the file system it is on.
    device: u64,
    /// Of the device it stands for, where it is a device node.
    node: u64,
}

fn look(disk: &Disk, path: &Path) -> io::Result<Place> {
    let real = disk.real_path(path)?;
    let entry = disk.entry(&real)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(Place {
        real,
        device: entry.identity.0,
        node: entry.node,
    })
}

/// `root`: where `sys` and `proc` are; `look` answers for every other path.
fn disks_in(
    disk: &Disk,
    root: &Path,
    look: &dyn Fn(&Path) -> io::Result<Place>,
    device: u64,
    path: &Path,
) -> Disks {
    let mut tree = Tree {
        disk,
        root,
        look,
        seen: BTreeSet::new(),
        disks: Disks {
            names: BTreeSet::new(),
            known: true,
        },
    };
    tree.device(device, path, DEPTH_MAX);
    if tree.disks.names.is_empty() {
        // A disk in a file on itself.
        tree.disks.known = false;
    }
    tree.disks
}

struct Tree<'a> {
    disk: &'a Disk,
    root: &'a Path,
    look: &'a dyn Fn(&Path) -> io::Result<Place>,
    /// Block devices that were resolved, so that each is only once.
    seen: BTreeSet<PathBuf>,
    disks: Disks,
}

impl Tree<'_> {
    fn device(&mut self, device: u64, path: &Path, depth: u32) {
        let (major, minor) = numbers_of(device);
        let resolved = match major {
            _ if depth == 0 => None,
            // No block device: the mount says what is behind it.
            0 => self.mount(device, path, depth),
            _ => self.block_number(device, depth),
        };
        if resolved.is_none() {
            // Two folders on it share it all the same.
            self.unknown(format!("device {major}:{minor}"));
        }
    }

    fn is(&mut self, name: impl Into<String>) -> Option<()> {
        self.disks.names.insert(name.into());
        Some(())
    }

    fn unknown(&mut self, name: String) {
        self.disks.names.insert(name);
        self.disks.known = false;
    }

    fn block_number(&mut self, device: u64, depth: u32) -> Option<()> {
        let folder = self.block_folder(device)?;
        self.block(&folder, depth)
    }

    fn block_folder(&self, device: u64) -> Option<PathBuf> {
        let (major, minor) = numbers_of(device);
        let link = format!("sys/dev/block/{major}:{minor}");
        self.disk.real_path(&self.root.join(link)).ok()
    }

    /// `folder`: of a block device in `/sys/devices`. `None`: it cannot be said what is below it.
    fn block(&mut self, folder: &Path, depth: u32) -> Option<()> {
        let is_partition = matches!(self.disk.entry(&folder.join("partition")), Ok(Some(_)));
        let folder = match is_partition {
            true => folder.parent()?,
            false => folder,
        };
        if !self.seen.insert(folder.to_owned()) {
            return Some(());
        }
        let name = folder.file_name()?.to_str()?;
        if self.below(folder, depth).is_none() {
            self.unknown(name.to_owned());
        }
        Some(())
    }

    /// What a whole block device is made of.
    fn below(&mut self, folder: &Path, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        // Of the device mapper (logical volumes, encryption) and of software RAID.
        let members = folder.join("slaves");
        if self.members(&members, depth)? > 0 {
            return Some(());
        }
        let backing = folder.join("loop/backing_file");
        if let Ok(text) = self.disk.read_small(&backing, SYSFS_BYTES_MAX) {
            let path = text.strip_suffix(b"\n").unwrap_or(&text);
            let path = Path::new(OsStr::from_bytes(path));
            // Removed since, or out of sight in this container.
            let place = (self.look)(path).ok()?;
            self.device(place.device, path, depth);
            return Some(());
        }
        let name = folder.file_name()?.to_str()?;
        let parent = folder.parent()?;
        if parent.ends_with("virtual/block") {
            // Network block devices and others that do not say what they are.
            let memory = name.starts_with("zram") || name.starts_with("ram");
            return memory.then(|| self.is("memory"))?;
        }
        // Namespaces of one NVMe disk look like disks; the disk is the controller above them.
        let controller = parent.file_name().and_then(OsStr::to_str);
        match controller.filter(|above| above.starts_with("nvme") && name.starts_with("nvme")) {
            Some(controller) => self.is(controller),
            None => self.is(name),
        }
    }

    /// Resolves each link in a folder of links to block devices; how many there are.
    fn members(&mut self, folder: &Path, depth: u32) -> Option<usize> {
        let names = match self.disk.list(folder, MEMBERS_MAX + 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
            names => names.ok()?,
        };
        if names.len() > MEMBERS_MAX {
            return None;
        }
        for name in &names {
            let real = self.disk.real_path(&folder.join(name)).ok()?;
            self.block(&real, depth)?;
        }
        Some(names.len())
    }

    fn mount(&mut self, device: u64, path: &Path, depth: u32) -> Option<()> {
        let real = (self.look)(path).ok()?.real;
        let mounts = self.root.join("proc/self/mountinfo");
        let mounts = self.disk.read_small(&mounts, MOUNTS_BYTES_MAX).ok()?;
        let mount = Mount::of(&mounts, device, &real)?;
        match mount.kind.as_slice() {
            b"tmpfs" | b"ramfs" | b"devtmpfs" | b"hugetlbfs" => self.is("memory"),
            b"nfs" | b"nfs4" | b"cifs" | b"smb3" => self.server(&mount),
            b"overlay" => {
                // What is written goes to the upper folder; a copy is never only in a lower one.
                let upper = unescaped(mount.option(b"upperdir=")?);
                let upper = Path::new(OsStr::from_bytes(&upper));
                let place = (self.look)(upper).ok()?;
                self.device(place.device, upper, depth - 1);
                Some(())
            }
            b"zfs" => {
                let source = String::from_utf8_lossy(&mount.source);
                let pool = source.split('/').next()?;
                self.unknown(format!("zfs {pool}"));
                Some(())
            }
            kind => {
                let source = Path::new(OsStr::from_bytes(&mount.source));
                let node = (self.look)(source).ok()?.node;
                if !source.starts_with("/dev") || numbers_of(node).0 == 0 {
                    return None;
                }
                match kind {
                    b"btrfs" => self.btrfs(node, depth),
                    _ => self.block_number(node, depth),
                }
            }
        }
    }

    /// All devices of the btrfs that has this one; the mount names only one.
    fn btrfs(&mut self, node: u64, depth: u32) -> Option<()> {
        let folder = self.block_folder(node)?;
        let own = folder.file_name()?;
        let all = self.root.join("sys/fs/btrfs");
        for id in self.disk.list(&all, MEMBERS_MAX).unwrap_or_default() {
            let devices = all.join(id).join("devices");
            let names = self.disk.list(&devices, MEMBERS_MAX).unwrap_or_default();
            if names.iter().any(|name| name == own) {
                self.members(&devices, depth)?;
                return Some(());
            }
        }
        // It may have others.
        self.disks.known = false;
        self.block(&folder, depth)
    }

    /// The server of a network share, by each name that the mount has for it.
    fn server(&mut self, mount: &Mount) -> Option<()> {
        let source = String::from_utf8_lossy(&mount.source).to_lowercase();
        let name = match source.strip_prefix("//") {
            Some(share) => share.split('/').next()?,
            None => source.split_once(":/")?.0,
        };
        let address = mount.option(b"addr=").map(String::from_utf8_lossy);
        let names = [Some(name), address.as_deref()];
        for name in names.into_iter().flatten() {
            let name = name.trim_matches(['[', ']']);
            let address: Option<IpAddr> = name.parse().ok();
            if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
                // This machine, and so perhaps one of its disks.
                self.disks.known = false;
            }
            self.is(format!("server {name}"));
        }
        Some(())
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    device: (u32, u32),
    at: PathBuf,
    /// Of this mount: `rw,noatime`.
    flags: Vec<u8>,
    kind: Vec<u8>,
    source: Vec<u8>,
    options: Vec<u8>,
}

impl Mount {
    /// The mount that `real`, without symbolic links, is on. `device` is its `st_dev`.
    fn of(mounts: &[u8], device: u64, real: &Path) -> Option<Mount> {
        let lines = mounts.split(|byte| *byte == b'\n');
        let above: Vec<Mount> = lines
            .filter_map(Mount::parse)
            .filter(|mount| real.starts_with(&mount.at))
            .collect();
        let nearest = |fits: &dyn Fn(&Mount) -> bool| {
            let fitting = above.iter().enumerate().filter(|(_, mount)| fits(mount));
            // The last of those at one place hides the others.
            fitting.max_by_key(|(_, mount)| mount.at.components().count())
        };
        let number = numbers_of(device);
        // Subvolumes of a btrfs, and files in an overlay, have numbers of which the list of mounts knows nothing.
        let own_numbers = |mount: &Mount| [b"btrfs".as_slice(), b"overlay"].contains(&&*mount.kind);
        let (at, _) = nearest(&|mount| mount.device == number)
            .or_else(|| nearest(&|_| true).filter(|(_, mount)| own_numbers(mount)))?;
        above.into_iter().nth(at)
    }

    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (major, minor) = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        let at = unescaped(fields.nth(1)?);
        let flags = fields.next()?.to_owned();
        // A number of optional fields ends with a dash.
        fields.find(|field| *field == b"-")?;
        Some(Mount {
            device,
            at: PathBuf::from(OsStr::from_bytes(&at)),
            flags,
            kind: fields.next()?.to_owned(),
            source: unescaped(fields.next()?),
            options: fields.next().unwrap_or_default().to_owned(),
        })
    }

    fn option(&self, key: &[u8]) -> Option<&[u8]> {
        let mut options = self.options.split(|byte| *byte == b',');
        options.find_map(|option| option.strip_prefix(key))
    }
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// Major and minor number.
fn numbers_of(device: u64) -> (u32, u32) {
    // Other systems have other widths.
    #[allow(clippy::unnecessary_cast)]
    let device = device as rustix::fs::Dev;
    (rustix::fs::major(device), rustix::fs::minor(device))
}

#[cfg(test)]
mod tests;
