//! What was found out about a volume, and what it means.

use std::time::Duration;

use crate::volume::device::{FileSystem, PhysicalDisk};
use crate::volume::layout::Role;
use crate::volume::measure::Speed;

use super::Finding;
use crate::archive::way_in::{Way, WayIn, milliseconds};

/// On the direct way a slower one is felt.
const SLOW_FLUSH: Duration = Duration::from_millis(3);
/// Nothing that turns does a flush faster: a turn takes 4 to 11 ms.
const TOO_FAST: Duration = Duration::from_micros(50);
/// A slower disk holds up a single modality.
const SLOW_BYTES_PER_SECOND: u64 = 20_000_000;

pub struct VolumeFacts {
    pub role: Role,
    pub is_adopted: bool,
    /// Or being emptied: it receives nothing.
    pub is_retired: bool,
    pub free_bytes: Option<u64>,
    pub reserve_bytes: u64,
    pub file_system: Option<FileSystem>,
    pub disks: Vec<DiskFacts>,
    /// Names of volumes with a physical disk in common.
    pub shares_with: Vec<String>,
    /// Measured just now; `None`: it is not written.
    pub flush: Option<Result<Duration, String>>,
    pub way_in: Option<WayIn>,
    /// `None`: it is not written, or has too little room for a trial.
    pub speed: Option<Result<Speed, String>>,
}

pub struct DiskFacts {
    pub name: String,
    pub says: PhysicalDisk,
}

impl VolumeFacts {
    pub fn findings(&self, about: &str) -> Vec<Finding> {
        let mut findings = vec![self.place(about)];
        findings.extend(self.mount(about));
        if !self.shares_with.is_empty() {
            let others = self.shares_with.join(", ");
            findings.push(Finding::note(
                about,
                format!("it is on the same disk as {others}: what takes one takes all"),
                "put each on a disk of its own; a second copy on the same disk does not count",
            ));
        }
        findings.extend(self.room(about));
        findings.extend(self.flushing(about));
        findings.extend(self.way(about));
        findings.extend(self.speed(about));
        findings
    }

    /// File system and disks.
    fn place(&self, about: &str) -> Finding {
        let names: Vec<&str> = self.disks.iter().map(|disk| disk.name.as_str()).collect();
        let on = match names.is_empty() {
            true => "a disk that cannot be told".to_owned(),
            false => names.join(", "),
        };
        let Some(file_system) = &self.file_system else {
            return Finding::ok(about, format!("on {on}"));
        };
        let kind = &file_system.kind;
        let says = |more: &str| format!("{kind} on {on}{more}");
        match kind.as_str() {
            "tmpfs" | "ramfs" => Finding::problem(
                about,
                format!(
                    "it is in memory ({kind}): what is stored there is gone when the machine stops"
                ),
                "put it on a disk",
            ),
            "overlay" => Finding::note(
                about,
                says(": mostly the inside of a container, and gone with it"),
                "mount a folder or a disk of the machine there",
            ),
            "nfs" | "nfs4" | "cifs" | "smb3" | "9p" => Finding::note(
                about,
                says(": an image is as safe as that server's answer to a flush"),
                "have it export with sync, and keep second copies on another machine or disk",
            ),
            "vfat" | "msdos" | "exfat" => Finding::note(
                about,
                says(": it has no journal of its own, and no owners of files"),
                "ext4 or xfs is better for an archive",
            ),
            fuse if fuse.starts_with("fuse") => Finding::note(
                about,
                says(": a program stands between; an image is as safe as its answer to a flush"),
                "",
            ),
            _ => Finding::ok(about, says("")),
        }
    }

    fn mount(&self, about: &str) -> Option<Finding> {
        let file_system = self.file_system.as_ref()?;
        if file_system.is_read_only {
            return match self.is_adopted {
                true => Some(Finding::ok(about, "mounted read-only, as it is only read")),
                false => Some(Finding::problem(
                    about,
                    "it is mounted read-only: nothing can be stored there",
                    "the system does so after errors: look at its log and at the disk, then mount it again",
                )),
            };
        }
        file_system.notes_each_reading.then(|| {
            Finding::note(
                about,
                "each reading of a file is also written down",
                "mount it with noatime",
            )
        })
    }

    fn room(&self, about: &str) -> Option<Finding> {
        let free = self.free_bytes?;
        if self.is_adopted || self.is_retired {
            return None;
        }
        let is_full = free <= self.reserve_bytes;
        let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
        let (free, reserve) = (gigabytes(free), gigabytes(self.reserve_bytes));
        if !is_full {
            let says = format!("{free} free, of which {reserve} stay free");
            return Some(Finding::ok(about, says));
        }
        let next = match self.role {
            Role::Archive => {
                "new images go to the next volume; add a disk: kura volume add NAME PATH"
            }
            Role::Mirror => "add a mirror disk: kura volume add NAME PATH --role mirror",
        };
        let says = format!("it is full: {free} free, of which {reserve} stay free");
        Some(Finding::note(about, says, next))
    }

    fn flushing(&self, about: &str) -> Option<Finding> {
        let flush = match self.flush.as_ref()? {
            Ok(flush) => *flush,
            Err(why) => {
                return Some(Finding::problem(
                    about,
                    format!("nothing can be written durably: {why}"),
                    "look at the disk and at who may write there",
                ));
            }
        };
        let rotational = |disk: &&DiskFacts| disk.says.is_rotational == Some(true);
        let takes = format!("a flush takes {}", milliseconds(flush));
        if let Some(disk) = self.disks.iter().find(rotational)
            && flush < TOO_FAST
        {
            return Some(Finding::note(
                about,
                format!("{takes}, which a disk that turns ({}) cannot do", disk.name),
                "without a battery behind it, the disk, its controller or the host of this virtual machine answers too early: images may be lost at a power cut; switch that cache off",
            ));
        }
        let caches = self.disks.iter().filter_map(|disk| {
            let name = &disk.name;
            Some(match disk.says.has_write_back_cache? {
                true => format!("{name} caches writes until a flush"),
                false => format!("{name} caches no writes"),
            })
        });
        let parts: Vec<String> = std::iter::once(takes).chain(caches).collect();
        Some(Finding::ok(about, parts.join("; ")))
    }

    fn way(&self, about: &str) -> Option<Finding> {
        let way_in = self.way_in.as_ref()?;
        let reason = &way_in.reason;
        let says = match way_in.way {
            Way::Direct => format!("intake direct: {reason}"),
            Way::Journal => format!("intake journal: {reason}"),
        };
        if way_in.lacks_journal {
            let next = "see to that, and start Kura again; until then each image waits for three flushes or more";
            return Some(Finding::note(about, says, next));
        }
        let bound = match way_in.flush_us {
            Some(_) => SLOW_FLUSH * 2,
            None => SLOW_FLUSH,
        };
        let is_slow = matches!(self.flush, Some(Ok(flush)) if flush > bound);
        if way_in.way == Way::Journal || !is_slow || self.is_retired {
            return Some(Finding::ok(about, says));
        }
        let next = match way_in.flush_us {
            // It was fast when the volume was opened, and may only be busy now.
            Some(_) => "if that stays so, start Kura again: it measures anew",
            None => "[intake] mode = \"auto\"",
        };
        let says = format!("{says}; now one takes longer, and each image waits for three or more");
        Some(Finding::note(about, says, next))
    }

    fn speed(&self, about: &str) -> Option<Finding> {
        let speed = match self.speed.as_ref()? {
            Ok(speed) => speed,
            Err(why) => {
                return Some(Finding::problem(
                    about,
                    format!("a trial file could not be written: {why}"),
                    "look at the disk and the system's log",
                ));
            }
        };
        let per_second = speed.bytes_per_second();
        let says = format!("it takes {} MB/s", per_second / 1_000_000);
        Some(match per_second < SLOW_BYTES_PER_SECOND {
            true => Finding::note(
                about,
                says,
                "too slow for a CT; is it busy, or its cable bad?",
            ),
            false => Finding::ok(about, says),
        })
    }
}

#[cfg(test)]
mod tests;
