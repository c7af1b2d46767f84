//! How fast a disk is at what instances wait for, measured with files of our own that are removed.

use std::path::Path;
use std::time::{Duration, Instant};

use super::io::Disk;
use super::{Volume, VolumeError};

/// A time is the second best of so many: a disk that sleeps, or is busy for a moment, is not slow.
const FLUSHES: usize = 5;
const BLOCK: [u8; 4096] = [0; 4096];

impl<T: Send + 'static> Volume<T> {
    /// How long a flush of a few bytes at the end of a file takes. On the direct way an instance waits for at least three
    /// like it, each of which makes a file system write down lengths or names too.
    pub fn flush_time(&self) -> Result<Duration, VolumeError> {
        let mut incoming = self.begin()?;
        let mut times = Vec::with_capacity(FLUSHES);
        for _ in 0..FLUSHES {
            incoming.write(&BLOCK)?;
            let begun = Instant::now();
            incoming.flush()?;
            times.push(begun.elapsed());
        }
        incoming.finish();
        Ok(second_best(times))
    }
}

/// How long a flush of a block that is written again takes in `folder`, which must be there: as that of a journal, which
/// never changes its length. `name`: of the file; one that is there is ours, from a process that was killed.
pub fn rewrite_time(disk: &Disk, folder: &Path, name: &str) -> std::io::Result<Duration> {
    let path = folder.join(name);
    let file = disk.open_or_create(&path)?;
    let measure = || -> std::io::Result<Duration> {
        file.write_at(0, &BLOCK)?;
        file.sync_data()?;
        let mut times = Vec::with_capacity(FLUSHES);
        for _ in 0..FLUSHES {
            file.write_at(0, &BLOCK)?;
            let begun = Instant::now();
            file.sync_data()?;
            times.push(begun.elapsed());
        }
        Ok(second_best(times))
    };
    let measured = measure();
    disk.remove(&path)?;
    measured
}

fn second_best(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[1]
}
