//! How fast a disk is at what instances wait for, measured with files of our own that are removed.

use std::path::Path;
use std::time::{Duration, Instant};

use super::io::Disk;
use super::{Volume, VolumeError, layout};

/// A time is the second best of so many: a disk that sleeps, or that others keep busy for a moment, is not slow.
const FLUSHES: usize = 20;
/// A slow disk shows itself in fewer.
const FLUSHES_MIN: usize = 5;
const ENOUGH: Duration = Duration::from_millis(250);
const BLOCK: [u8; 4096] = [0; 4096];

impl<T: Send + 'static> Volume<T> {
    /// How long a flush of a few bytes at the end of a file takes. On the direct way an instance waits for at least three
    /// like it, each of which makes a file system write down lengths or names too.
    pub fn flush_time(&self) -> Result<Duration, VolumeError> {
        let mut incoming = self.begin()?;
        let time = second_best(|| {
            incoming.write(&BLOCK)?;
            let begun = Instant::now();
            incoming.flush()?;
            Ok::<_, VolumeError>(begun.elapsed())
        })?;
        incoming.finish();
        Ok(time)
    }

    /// Writes at most so many bytes for at most about that time, past the page cache where that goes, and flushes them.
    pub fn write_speed(&self, most_bytes: u64, most_time: Duration) -> Result<Speed, VolumeError> {
        let mut incoming = self.begin_as(layout::RECEIVED_ENDING, true)?;
        let piece = noise(1 << 20);
        let begun = Instant::now();
        while incoming.len() < most_bytes && begun.elapsed() < most_time {
            incoming.write(&piece)?;
        }
        incoming.flush()?;
        let speed = Speed {
            bytes: incoming.len(),
            time: begun.elapsed(),
        };
        incoming.finish();
        Ok(speed)
    }
}

/// Bytes that no file system makes smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// What a disk took, and in what time, the flush at the end included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    pub bytes: u64,
    pub time: Duration,
}

impl Speed {
    pub fn bytes_per_second(&self) -> u64 {
        let micros = self.time.as_micros().max(1);
        let rate = u128::from(self.bytes) * 1_000_000 / micros;
        u64::try_from(rate).unwrap_or(u64::MAX)
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
        second_best(|| {
            file.write_at(0, &BLOCK)?;
            let begun = Instant::now();
            file.sync_data()?;
            Ok(begun.elapsed())
        })
    };
    let measured = measure();
    disk.remove(&path)?;
    measured
}

fn second_best<E>(mut one: impl FnMut() -> Result<Duration, E>) -> Result<Duration, E> {
    let begun = Instant::now();
    let mut times = Vec::with_capacity(FLUSHES);
    while times.len() < FLUSHES_MIN || (times.len() < FLUSHES && begun.elapsed() < ENOUGH) {
        times.push(one()?);
    }
    times.sort_unstable();
    Ok(times[1])
}
