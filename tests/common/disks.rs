//! File systems of a known size that come and go: mounted for a test, unmounted on drop, also after a panic.
//!
//! Each is made with `None`, and a printed reason, where this user may not mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::tools;

fn succeeds(program: &str, arguments: &[&str], paths: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).args(paths);
    tools::tool(program).is_some() && tools::run(&mut command).success()
}

fn unmount(at: &Path) {
    if !succeeds("umount", &[], &[at]) {
        succeeds("umount", &["-l"], &[at]);
    }
}

/// A file of all that is free on its disk, to the last block; nothing is written for it.
pub fn fill(path: &Path) {
    let file = fs::File::create(path).expect("ballast");
    let mut offset = 0;
    for step in [8 << 20, 1 << 20, 64 << 10, 4 << 10] {
        let flags = rustix::fs::FallocateFlags::empty();
        while rustix::fs::fallocate(&file, flags, offset, step).is_ok() {
            offset += step;
        }
    }
}

/// A small file system in memory.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn new(at: &Path, options: &str) -> Option<Tmpfs> {
        fs::create_dir_all(at).expect("mount point");
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        if !succeeds("mount", &arguments, &[at]) {
            eprintln!("skipped: a tmpfs cannot be mounted here (needs root)");
            return None;
        }
        Some(Tmpfs(at.to_path_buf()))
    }

    pub fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        succeeds("mount", &["-o", &options], &[&self.0])
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// A disk that is plugged in at one mount point or another, or not at all; it keeps what is on it.
pub struct Pluggable {
    at: Option<PathBuf>,
    content: Content,
    // Last, so that nothing is mounted in it any more.
    _scratch: TempDir,
}

enum Content {
    /// A tmpfs that is mounted aside all the time; plugged in is a second mount of it.
    Memory(Tmpfs),
    /// A file system in a file.
    Image(PathBuf),
    /// The same in a file in memory.
    Thin(Tmpfs, PathBuf),
}

impl Pluggable {
    /// In memory, plugged in at `at`.
    pub fn in_memory(at: &Path, options: &str) -> Option<Pluggable> {
        let scratch = TempDir::new().expect("temporary folder");
        let memory = Tmpfs::new(&scratch.path().join("content"), options)?;
        Pluggable::plugged_in(at, Content::Memory(memory), scratch)
    }

    /// A sparse file with an ext4 in it, plugged in at `at`.
    pub fn ext4(at: &Path, bytes: u64) -> Option<Pluggable> {
        Pluggable::image(at, bytes, "ext4", &["-q", "-F", "-m", "0"])
    }

    /// As [`Pluggable::ext4`] with an xfs, of 300 MiB at least.
    pub fn xfs(at: &Path, bytes: u64) -> Option<Pluggable> {
        Pluggable::image(at, bytes, "xfs", &["-q", "-f"])
    }

    /// As [`Pluggable::ext4`] with a btrfs, of 110 MiB at least.
    pub fn btrfs(at: &Path, bytes: u64) -> Option<Pluggable> {
        Pluggable::image(at, bytes, "btrfs", &["-q", "-f"])
    }

    /// As [`Pluggable::ext4`] in a file in memory, so that [`Pluggable::fail_writes`] works.
    pub fn thin(at: &Path, bytes: u64) -> Option<Pluggable> {
        let scratch = TempDir::new().expect("temporary folder");
        let memory = Tmpfs::new(&scratch.path().join("content"), &format!("size={bytes}"))?;
        let image = memory.path().join("disk.img");
        let file = fs::File::create(&image).expect("image");
        file.set_len(bytes).expect("image");
        if !succeeds("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&image]) {
            eprintln!("skipped: no ext4 can be made on this machine (no mkfs.ext4)");
            return None;
        }
        Pluggable::plugged_in(at, Content::Thin(memory, image), scratch)
    }

    /// From now on the disk fails (EIO) what is written where nothing was written before; until told otherwise.
    pub fn fail_writes(&self, on: bool) {
        let Content::Thin(memory, _) = &self.content else {
            panic!("not a thin disk");
        };
        let ballast = memory.path().join("ballast");
        if !on {
            return fs::remove_file(ballast).expect("remove the ballast");
        }
        fill(&ballast);
    }

    fn image(at: &Path, bytes: u64, kind: &str, arguments: &[&str]) -> Option<Pluggable> {
        let scratch = TempDir::new().expect("temporary folder");
        let image = scratch.path().join("disk.img");
        let file = fs::File::create(&image).expect("image");
        file.set_len(bytes).expect("image");
        if !succeeds(&format!("mkfs.{kind}"), arguments, &[&image]) {
            eprintln!("skipped: no {kind} can be made on this machine (no mkfs.{kind})");
            return None;
        }
        Pluggable::plugged_in(at, Content::Image(image), scratch)
    }

    fn plugged_in(at: &Path, content: Content, scratch: TempDir) -> Option<Pluggable> {
        let mut made = Pluggable {
            at: None,
            content,
            _scratch: scratch,
        };
        fs::create_dir_all(at).expect("mount point");
        if !made.plug_in(at) {
            eprintln!("skipped: a disk cannot be mounted here (needs root)");
            return None;
        }
        Some(made)
    }

    pub fn plug_in(&mut self, at: &Path) -> bool {
        assert_eq!(self.at, None, "it is plugged in");
        let done = match &self.content {
            Content::Memory(tmpfs) => succeeds("mount", &["--bind"], &[tmpfs.path(), at]),
            Content::Image(image) | Content::Thin(_, image) => {
                succeeds("mount", &["-o", "loop"], &[image, at])
            }
        };
        if done {
            self.at = Some(at.to_path_buf());
        }
        done
    }

    /// `umount`, which is refused while anything on the disk is open; tried for some seconds, as a killed process may
    /// hold it a moment longer.
    pub fn unmount(&mut self) -> bool {
        let at = self.at.as_deref().expect("it is not plugged in");
        let done = (0..50).any(|attempt| {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(100));
            }
            succeeds("umount", &[], &[at])
        });
        if done {
            self.at = None;
        }
        done
    }

    /// `umount` once, without patience.
    pub fn unmount_now(&mut self) -> bool {
        let at = self.at.as_deref().expect("it is not plugged in");
        let done = succeeds("umount", &[], &[at]);
        if done {
            self.at = None;
        }
        done
    }

    /// `umount -l`, as a cable that is pulled: the mount point is empty at once, who has files open keeps them.
    pub fn pull_out(&mut self) {
        let at = self.at.take().expect("it is not plugged in");
        assert!(succeeds("umount", &["-l"], &[&at]), "umount -l");
    }

    /// Stops an ext4 or xfs at once, without its log: every call fails from now on, and what was not synced is gone.
    pub fn cut(&self) -> std::io::Result<()> {
        /// `_IOR('X', 125, __u32)`, Linux `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`; 2 = do not flush the log.
        const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587D;
        const NO_LOG_FLUSH: u32 = 2;
        let folder = fs::File::open(self.at.as_deref().expect("it is not plugged in"))?;
        // SAFETY: the call reads one u32, which is what Setter passes.
        unsafe {
            let call = rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH);
            rustix::ioctl::ioctl(&folder, call)?;
        }
        Ok(())
    }
}

impl Drop for Pluggable {
    fn drop(&mut self) {
        if let Some(at) = &self.at {
            unmount(at);
        }
    }
}

/// A frozen file system: every write waits until it is thawed, at the latest when this is dropped.
pub struct Frozen(Option<PathBuf>);

impl Frozen {
    pub fn new(path: PathBuf) -> Option<Frozen> {
        let frozen = Command::new("fsfreeze").arg("-f").arg(&path).status();
        frozen
            .is_ok_and(|status| status.success())
            .then_some(Frozen(Some(path)))
    }

    pub fn thaw(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = Command::new("fsfreeze").arg("-u").arg(path).status();
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}
