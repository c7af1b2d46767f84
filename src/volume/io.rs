//! Every call that reaches a disk: open, write, flush, name, remove.
//!
//! Nothing here decides anything. What must be flushed when is decided by the
//! callers, each with a comment that says why.
//!
//! A [`Disk`] made by [`Disk::rooted`] keeps the root folder open and resolves
//! every path below it from that handle. When somebody detaches the file system
//! under a running server (`umount -l`), what is written afterwards still goes
//! to the disk that was checked, and never into the empty mount point.
//!
//! Tests give a disk an [`Observer`]. It sees each mutating call before it
//! happens, and may record it (power-cut replay) or let it fail.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::metrics::{self, Flushed};

/// Whether new instance files bypass the page cache (`O_DIRECT`) where the file
/// system takes it.
///
/// Off, everything goes through the page cache; nothing else changes.
pub const DIRECT_IO: bool = true;

/// Alignment of address, offset and length of a direct write, in bytes.
///
/// 4096 satisfies disks with 512-byte and with 4096-byte sectors.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// Rights of new files and folders: the owner writes, the group reads. They
/// hold patients' names and images, so others see nothing.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);
/// So long a folder waits to be opened for its flush while the process may open no more files.
const FILES_PATIENCE: Duration = Duration::from_secs(20);
const FILES_AGAIN: Duration = Duration::from_millis(20);

/// One call that changes a disk, as an [`Observer`] sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    CreateDir(&'a Path),
    CreateFile(&'a Path),
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    SetLen {
        path: &'a Path,
        len: u64,
    },
    SyncFile(&'a Path),
    SyncDir(&'a Path),
    /// Everything on the file system of that folder.
    SyncFileSystem(&'a Path),
    Link {
        from: &'a Path,
        to: &'a Path,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Remove(&'a Path),
}

/// Sees every mutating call before it happens. An error is returned to the
/// caller in place of the call.
pub trait Observer: Send + Sync {
    fn before(&self, op: &Op) -> io::Result<()>;

    /// As [`Observer::before`], for the bytes of a file that are about to be read.
    fn before_read(&self, _path: &Path, _offset: u64, _count: usize) -> io::Result<()> {
        Ok(())
    }
}

/// Access to the file systems of this machine; cheap to clone.
#[derive(Clone, Default)]
pub struct Disk {
    observer: Option<Arc<dyn Observer>>,
    root: Option<Arc<Root>>,
}

struct Root {
    path: PathBuf,
    folder: OwnedFd,
}

/// Free and total size of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process may still write; 0 where it can begin no file.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// What a name stands for; symbolic links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub is_file: bool,
    pub is_dir: bool,
    pub len: u64,
    /// Number of names (hard links).
    pub links: u64,
    /// Device and inode number: equal for two names of the same file.
    pub identity: (u64, u64),
    /// Number of the device that a device node stands for.
    pub node: u64,
}

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// A link, a socket and the like.
    Other,
}

/// The rest of a path that is `root` or lies below it. Every call to a disk asks, so names are compared as they are
/// written, and taken apart only where that does not tell.
fn below<'a>(path: &'a Path, root: &Path) -> Option<&'a Path> {
    let (bytes, begin) = (path.as_os_str().as_bytes(), root.as_os_str().as_bytes());
    match bytes.strip_prefix(begin) {
        Some([b'/', rest @ ..]) if !rest.is_empty() && rest[0] != b'/' => {
            Some(Path::new(OsStr::from_bytes(rest)))
        }
        _ => path.strip_prefix(root).ok(),
    }
}

impl Disk {
    /// A disk whose mutating calls are shown to `observer` first.
    pub fn observed(observer: Arc<dyn Observer>) -> Disk {
        Disk {
            observer: Some(observer),
            root: None,
        }
    }

    /// The same disk with everything below `path` resolved from a handle of
    /// that folder, opened now.
    pub fn rooted(&self, path: &Path) -> io::Result<Disk> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        Ok(Disk {
            observer: self.observer.clone(),
            root: Some(Arc::new(Root {
                path: path.to_owned(),
                folder,
            })),
        })
    }

    /// Whether the root's path still leads to the folder that was opened.
    /// False after `umount -l`, or when another disk was mounted over it.
    pub fn is_attached(&self) -> io::Result<bool> {
        let Some(root) = &self.root else {
            return Ok(true);
        };
        let opened = rustix::fs::fstat(&root.folder)?;
        match rustix::fs::stat(&root.path) {
            Ok(now) => Ok((now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn before(&self, op: Op) -> io::Result<()> {
        match &self.observer {
            Some(observer) => observer.before(&op),
            None => Ok(()),
        }
    }

    fn before_read(&self, path: &Path, offset: u64, count: usize) -> io::Result<()> {
        match &self.observer {
            Some(observer) => observer.before_read(path, offset, count),
            None => Ok(()),
        }
    }

    fn at<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        if let Some(root) = &self.root
            && let Some(rest) = below(path, &root.path)
        {
            let rest = if rest.as_os_str().is_empty() {
                Path::new(".")
            } else {
                rest
            };
            return (root.folder.as_fd(), rest);
        }
        (rustix::fs::CWD, path)
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<DiskFile> {
        let (folder, name) = self.at(path);
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(folder, name, flags, FILE_MODE)?;
        Ok(DiskFile {
            file: File::from(fd),
            path: path.to_owned(),
            disk: self.clone(),
        })
    }

    /// Creates a file for reading and writing; fails if the name exists.
    pub fn create_new(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(Op::CreateFile(path))?;
        self.open(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens a file for reading and writing, creating it when missing.
    pub fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        match self.open_write(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.before(Op::CreateFile(path))?;
                self.open(path, OFlags::RDWR | OFlags::CREATE)
            }
            other => other,
        }
    }

    /// Opens an existing file for reading and writing.
    pub fn open_write(&self, path: &Path) -> io::Result<DiskFile> {
        self.open(path, OFlags::RDWR)
    }

    /// Opens an existing regular file for reading. Never waits at a FIFO.
    pub fn open_read(&self, path: &Path) -> io::Result<DiskFile> {
        let opened = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        opened.regular()
    }

    /// Opens `relative` below the folder `base` for reading.
    ///
    /// Goes folder by folder and refuses symbolic links, so that a line in a
    /// ledger, or a link somebody put on a disk, never leads out of the volume.
    pub fn open_below(&self, base: &Path, relative: &str) -> io::Result<DiskFile> {
        check_relative(relative)?;
        let (start, name) = self.at(base);
        if name == Path::new(".")
            && let Some(opened) = open_beneath(start, relative)
        {
            let opened = DiskFile {
                file: File::from(opened?),
                path: base.join(relative),
                disk: self.clone(),
            };
            return opened.regular();
        }
        let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = rustix::fs::openat(start, name, folder_flags, Mode::empty())?;
        let (parents, last) = relative.rsplit_once('/').unwrap_or(("", relative));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let flags = folder_flags | OFlags::NOFOLLOW;
            folder = rustix::fs::openat(&folder, part, flags, Mode::empty())?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&folder, last, flags, Mode::empty())?;
        let opened = DiskFile {
            file: File::from(fd),
            path: base.join(relative),
            disk: self.clone(),
        };
        opened.regular()
    }

    /// Creates one folder; true when it was not there before.
    pub fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.before(Op::CreateDir(path))?;
        let (folder, name) = self.at(path);
        match rustix::fs::mkdirat(folder, name, FOLDER_MODE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a folder and its missing parents, each durable on return.
    pub fn create_dir_durable(&self, path: &Path) -> io::Result<()> {
        if self.entry(path)?.is_some_and(|entry| entry.is_dir) {
            return Ok(());
        }
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
        if parent != Path::new(".") {
            self.create_dir_durable(parent)?;
        }
        self.create_dir(path)?;
        // A folder is an entry in its parent: without this flush the folder,
        // with all that is in it, is gone after a power cut.
        self.sync_dir(parent)
    }

    /// Waits until the names in a folder are on stable storage.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.before(Op::SyncDir(path))?;
        let (folder, name) = self.at(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let begun = Instant::now();
        let fd = loop {
            match rustix::fs::openat(folder, name, flags, Mode::empty()) {
                // Nothing is wrong with the disk, and no flush was begun: it waits until a file is closed somewhere.
                Err(Errno::MFILE | Errno::NFILE) if begun.elapsed() < FILES_PATIENCE => {
                    std::thread::sleep(FILES_AGAIN);
                }
                opened => break opened?,
            }
        };
        timed(Flushed::Folder, || File::from(fd).sync_all())
    }

    /// Gives a file a second name; fails with `AlreadyExists` when it is taken.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Op::Link { from, to })?;
        let ((old, from), (new, to)) = (self.at(from), self.at(to));
        Ok(rustix::fs::linkat(old, from, new, to, AtFlags::empty())?)
    }

    /// Renames, replacing what has the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Op::Rename { from, to })?;
        let ((old, from), (new, to)) = (self.at(from), self.at(to));
        Ok(rustix::fs::renameat(old, from, new, to)?)
    }

    /// Renames; fails with `AlreadyExists` when the new name is taken, and with
    /// `InvalidInput` or `Unsupported` where the file system cannot promise it.
    pub fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Op::Rename { from, to })?;
        let ((old, from), (new, to)) = (self.at(from), self.at(to));
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(old, from, new, to, flags)?)
    }

    /// Removes a file's name.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(Op::Remove(path))?;
        let (folder, name) = self.at(path);
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.before(Op::Remove(path))?;
        let (folder, name) = self.at(path);
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
    }

    /// What the name stands for; `None` when there is nothing.
    pub fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let (folder, name) = self.at(path);
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // These members have other widths on other machines.
            #[allow(clippy::unnecessary_cast)]
            Ok(stat) => {
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                Ok(Some(Entry {
                    is_file: kind.is_file(),
                    is_dir: kind.is_dir(),
                    len: u64::try_from(stat.st_size).unwrap_or(0),
                    links: stat.st_nlink as u64,
                    identity: (stat.st_dev as u64, stat.st_ino as u64),
                    node: stat.st_rdev as u64,
                }))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in a folder, in no order, at most `limit`; links are followed
    /// for the folder itself.
    pub fn list(&self, path: &Path, limit: usize) -> io::Result<Vec<OsString>> {
        let (folder, name) = self.at(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == limit {
                break;
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        Ok(names)
    }

    /// What is in a folder, in no order: each name with what it stands for, symbolic links not followed.
    pub fn folder(&self, path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
        let (folder, name) = self.at(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        let mut found = Vec::new();
        let mut folder = rustix::fs::Dir::read_from(&fd)?;
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = entry.file_name();
            if [b".".as_slice(), b".."].contains(&name.to_bytes()) {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say it here.
                rustix::fs::FileType::Unknown => {
                    let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    rustix::fs::FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            let kind = match kind {
                rustix::fs::FileType::RegularFile => Kind::File,
                rustix::fs::FileType::Directory => Kind::Folder,
                _ => Kind::Other,
            };
            found.push((OsStr::from_bytes(name.to_bytes()).to_owned(), kind));
        }
        Ok(found)
    }

    /// The path without symbolic links; there must be something.
    pub fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    /// Whether this process may make files in a folder, or where it is not there yet, in the nearest one above it.
    pub fn may_write_at(&self, path: &Path) -> bool {
        use rustix::fs::Access;
        let (folder, name) = self.at(path);
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::accessat(folder, name, wanted, AtFlags::EACCESS) {
            Ok(()) => true,
            Err(Errno::NOENT) => path.parent().is_some_and(|parent| {
                let parent = match parent.as_os_str().is_empty() {
                    true => Path::new("."),
                    false => parent,
                };
                self.may_write_at(parent)
            }),
            Err(_) => false,
        }
    }

    /// Waits until everything that was written to the file system of `path`, by whomever, is on stable storage.
    pub fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.before(Op::SyncFileSystem(path))?;
        // The handle of the root is older than anything written to it, so it is told of every write that failed since;
        // one opened now may not be.
        #[cfg(target_os = "linux")]
        if let Some(root) = self.root.as_ref().filter(|root| root.path == path) {
            return Ok(rustix::fs::syncfs(&root.folder)?);
        }
        let (folder, name) = self.at(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&fd)?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    /// A whole small file; an error when it is longer than `limit` bytes.
    pub fn read_small(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = self.open_read(path)?;
        Read::take(&mut file, limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let text = format!("longer than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(bytes)
    }

    /// Whether what is written counts as used at once. ext4 and xfs reserve blocks for what they allocate later, and count
    /// them (tried out: 64 MiB written and not flushed, and `f_bavail` is lower by 64 MiB); btrfs does not before it has
    /// written them. Of any other but a file system in memory it is not known.
    pub fn counts_at_once(&self, path: &Path) -> bool {
        #[cfg(target_os = "linux")]
        {
            // Linux `magic.h`: EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC.
            const KNOWN: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
            let (folder, name) = self.at(path);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(folder, name, flags, Mode::empty());
            let kind = opened.and_then(|fd| rustix::fs::fstatfs(&fd));
            kind.is_ok_and(|kind| KNOWN.contains(&(kind.f_type as u64)))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = path;
            false
        }
    }

    /// Free and total bytes of the file system of `path`, asked now.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        let (folder, name) = self.at(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        let numbers = rustix::fs::fstatvfs(&fd)?;
        // Without an inode no file can be begun, however many bytes are free. Where there are none to run out of: 0 of 0.
        let no_inode = numbers.f_files > 0 && numbers.f_favail == 0;
        let free_blocks = if no_inode { 0 } else { numbers.f_bavail };
        Ok(Space {
            free_bytes: free_blocks.saturating_mul(numbers.f_frsize),
            total_bytes: numbers.f_blocks.saturating_mul(numbers.f_frsize),
        })
    }
}

/// Opens in one call what [`Disk::open_below`] opens folder by folder; `None` where the system cannot.
fn open_beneath(folder: BorrowedFd, relative: &str) -> Option<io::Result<OwnedFd>> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(folder, relative, flags, Mode::empty(), resolve) {
            // Not known to this kernel, forbidden in this container, or a folder is being moved.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => None,
            other => Some(other.map_err(io::Error::from)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (folder, relative);
        None
    }
}

/// Refuses a relative path that is empty, absolute, not in its shortest form,
/// or leads upwards.
pub fn check_relative(relative: &str) -> io::Result<()> {
    let plain = !relative.is_empty()
        && !relative.contains('\0')
        && relative
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && Path::new(relative)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if plain {
        Ok(())
    } else {
        let text = format!("{relative:?} is not a path inside a volume");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

/// An open file that knows its path, so that every change to it can be observed.
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

/// What a disk gives up at once, in bytes: a page, which is also a sector of today's disks.
const UNREADABLE_BYTES: u64 = 4096;

/// Whether an error of reading is about the place on the disk.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

impl DiskFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn regular(self) -> io::Result<DiskFile> {
        if self.file.metadata()?.is_file() {
            Ok(self)
        } else {
            let text = "not a regular file";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }

    /// Writes all of `bytes` at `offset`. After an error any part may be there.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = &self.path;
        self.disk.before(Op::Write {
            path,
            offset,
            bytes,
        })?;
        self.file.write_all_at(bytes, offset)
    }

    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.before_read(&self.path, offset, buffer.len())?;
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// As [`DiskFile::read_at`], with zeros for what the disk cannot read; such a block costs one of `blocks_left`, and
    /// without any it is an error.
    pub fn read_around(
        &self,
        offset: u64,
        buffer: &mut [u8],
        blocks_left: &mut u32,
    ) -> io::Result<usize> {
        match self.read_at(offset, buffer) {
            Err(error) if is_unreadable(&error) => {}
            other => return other,
        }
        let block_end = (offset / UNREADABLE_BYTES + 1) * UNREADABLE_BYTES;
        let left = block_end.min(self.len()?).saturating_sub(offset);
        let count = buffer.len().min(left as usize);
        match self.read_at(offset, &mut buffer[..count]) {
            Err(error) if is_unreadable(&error) && *blocks_left > 0 => {
                *blocks_left -= 1;
                buffer[..count].fill(0);
                Ok(count)
            }
            other => other,
        }
    }

    /// Fills `buffer` from `offset`; an error when the file ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.before_read(&self.path, offset, buffer.len())?;
        self.file.read_exact_at(buffer, offset)
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let path = &self.path;
        self.disk.before(Op::SetLen { path, len })?;
        self.file.set_len(len)
    }

    /// Waits until content and length are on stable storage.
    ///
    /// After an error the kernel may have forgotten the unwritten pages: trying
    /// again proves nothing, and the file must not be trusted.
    pub fn sync_data(&self) -> io::Result<()> {
        self.disk.before(Op::SyncFile(&self.path))?;
        timed(Flushed::File, || self.file.sync_data())
    }

    /// Rights, as the owner's, the group's and others' bits.
    pub fn mode(&self) -> io::Result<u32> {
        Ok(self.file.metadata()?.mode() & 0o777)
    }

    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?)
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)] // asks the disk, may fail; is_empty would hide that
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Device and inode number, as in [`Entry::identity`].
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Only the user of this process reads and writes it from now on (0600): it holds secrets.
    pub fn set_private(&self) -> io::Result<()> {
        rustix::fs::fchmod(&self.file, Mode::RUSR | Mode::WUSR)?;
        Ok(())
    }

    /// Takes the lock of this open file; false when another open file has it.
    /// It is released when the file is closed, also by a crash.
    pub fn try_lock(&self) -> io::Result<bool> {
        let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&self.file, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for direct I/O, or ends it; returns whether writes are direct now.
    /// A file system that cannot (tmpfs, many network shares) says so here.
    #[cfg(target_os = "linux")]
    pub fn set_direct(&self, direct: bool) -> bool {
        let Ok(flags) = rustix::fs::fcntl_getfl(&self.file) else {
            return false;
        };
        let mut wanted = flags;
        wanted.set(OFlags::DIRECT, direct);
        match rustix::fs::fcntl_setfl(&self.file, wanted) {
            Ok(()) => direct,
            Err(_) => flags.contains(OFlags::DIRECT),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub fn set_direct(&self, _direct: bool) -> bool {
        false
    }

    /// Drops clean pages from memory, so that the next reads come from the
    /// disk. After a failed flush (of an earlier process, too) memory may show
    /// bytes the disk never got.
    pub fn forget_cached(&self) {
        // Only advice: where it is not taken, reads are as good as without it.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Lets the disk begin to read the first `len` bytes into memory; does not wait for them.
    pub fn will_need(&self, len: u64) {
        // Only advice, as above.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(
            &self.file,
            0,
            std::num::NonZeroU64::new(len),
            rustix::fs::Advice::WillNeed,
        );
        #[cfg(not(target_os = "linux"))]
        let _ = len;
    }
}

/// A flush that fails is over soon, and says nothing about the disk's speed.
fn timed(what: Flushed, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let begun = Instant::now();
    flush()?;
    metrics::flushed(what, begun.elapsed());
    Ok(())
}

impl Read for DiskFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl std::fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DiskFile").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_volume_is_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\0b",
        ] {
            assert!(check_relative(bad).is_err(), "{bad:?}");
        }
        assert!(check_relative("20260115/CT/p-1/2/3.dcm").is_ok());
    }

    #[test]
    fn a_symbolic_link_is_never_followed_out_of_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"x").unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::fs::write(folder.path().join("real/file"), b"y").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
        let secret = outside.path().join("secret");
        std::os::unix::fs::symlink(secret, folder.path().join("real/link")).unwrap();
        let disk = Disk::default().rooted(folder.path()).unwrap();
        assert!(disk.open_below(folder.path(), "out/secret").is_err());
        assert!(disk.open_below(folder.path(), "real/link").is_err());
        assert!(disk.open_below(folder.path(), "real").is_err());
        let mut text = String::new();
        let mut file = disk.open_below(folder.path(), "real/file").unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "y");
    }

    /// Method: the folder is moved away and an empty one put in its place, as a
    /// lazy unmount does.
    #[test]
    fn a_rooted_disk_never_writes_into_what_took_the_place_of_its_folder() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("volume");
        std::fs::create_dir(&root).unwrap();
        let disk = Disk::default().rooted(&root).unwrap();
        assert!(disk.is_attached().unwrap());
        std::fs::rename(&root, base.path().join("detached")).unwrap();
        assert!(!disk.is_attached().unwrap());
        std::fs::create_dir(&root).unwrap();
        assert!(!disk.is_attached().unwrap());
        disk.create_new(&root.join("file")).unwrap();
        assert!(base.path().join("detached/file").exists());
        assert!(!root.join("file").exists());
    }

    #[test]
    fn a_second_link_or_exclusive_rename_onto_a_taken_name_fails() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        disk.create_new(&a).unwrap();
        disk.link(&a, &b).unwrap();
        let kind = disk.link(&a, &b).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
        let c = folder.path().join("c");
        disk.create_new(&c).unwrap();
        let kind = disk.rename_noreplace(&c, &b).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
        assert_eq!(disk.entry(&a).unwrap().unwrap().links, 2);
    }
}
