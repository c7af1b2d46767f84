//! What this process takes of the machine. Linux says it under `/proc`; elsewhere nothing is known.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::volume::io::Disk;

/// More are not counted.
const FILES_MAX: usize = 100_000;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProcessFacts {
    pub resident_bytes: Option<u64>,
    pub open_files_count: Option<u64>,
    /// `None`: any number.
    pub open_files_max: Option<u64>,
    /// Of processor time, since it was started.
    pub cpu_seconds: Option<f64>,
}

pub fn process_facts() -> ProcessFacts {
    let disk = Disk::default();
    let read = |name: &str| {
        let bytes = disk.read_small(&Path::new("/proc/self").join(name), 64 << 10);
        bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok())
    };
    // In pages: the second of statm.
    let pages: Option<u64> = read("statm")
        .and_then(|text| text.split(' ').nth(1).map(str::to_owned))
        .and_then(|pages| pages.parse().ok());
    let page_bytes = rustix::param::page_size() as u64;
    let files = disk.list(Path::new("/proc/self/fd"), FILES_MAX);
    let usage = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    ProcessFacts {
        resident_bytes: pages.map(|pages| pages * page_bytes),
        open_files_count: files.ok().map(|files| files.len() as u64),
        open_files_max: usage.current,
        cpu_seconds: read("stat").and_then(|text| cpu_seconds(&text)),
    }
}

/// User and system time, the 14th and 15th of `stat`; the second is a name in parentheses that may have spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_ascii_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<u64>().ok();
    let ticks = next()? + next()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        let seconds = 200.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat), Some(seconds));
        assert_eq!(cpu_seconds("nonsense"), None);
    }
}
