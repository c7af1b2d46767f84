//! An index that is made to be compared, and thrown away: what would be known if there were only some of the disks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::index::{Change, Engine, Index, Snapshot};
use crate::volume::io::{Disk, Kind};
use crate::volume::ledger::{self, LedgerError, Position};

use super::entry::Reader;
use super::keeper::{FromIndex, Source};
use super::work::{Job, Stop};

/// In the state folder; there while a drill is under way.
const FOLDER: &str = "drill";
/// Changes applied in one batch; some 40 MB.
const BATCH_COUNT: usize = 16_384;
/// Batches after which the engine may use the pages again that they replaced.
const CHECKPOINT_BATCHES: usize = 16;
/// Room that must be left in the state folder besides, bytes.
const SPARE_BYTES: u64 = 256 << 20;

pub struct Scratch {
    index: Index,
    folder: PathBuf,
}

/// How much of a ledger could be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    pub reached: Position,
    pub bad_lines: u64,
}

impl Extent {
    /// Whether everything up to there was read.
    pub fn is_whole(&self, upto: Position) -> bool {
        self.reached == upto && self.bad_lines == 0
    }
}

impl Scratch {
    /// An empty one, if the state folder has room for a second index.
    pub fn new(state: &Path) -> Result<Scratch, Stop> {
        remove(state)
            .map_err(|error| Stop::Failed(format!("{}: {error}", state.join(FOLDER).display())))?;
        let disk = Disk::default();
        let need = size_of(&disk, &state.join("index")) + SPARE_BYTES;
        if let Ok(space) = disk.space(state)
            && space.free_bytes < need
        {
            return Err(Stop::Failed(format!(
                "the state folder {} has {} bytes free where a second index may take {need}; nothing was tried",
                state.display(),
                space.free_bytes
            )));
        }
        let folder = state.join(FOLDER);
        let index = Index::open(&folder, Engine::Redb)?;
        Ok(Scratch { index, folder })
    }

    pub fn snapshot(&self) -> Result<Snapshot, Stop> {
        Ok(self.index.snapshot()?)
    }

    /// Takes in the lines of a ledger after `from`, up to `upto`.
    pub fn read(
        &self,
        source: &Source,
        from: Position,
        upto: Position,
        job: &Job,
    ) -> Result<Extent, Stop> {
        let mut reader = Reader::new(&source.volume_id);
        let known = FromIndex(&self.index);
        let mut batch: Vec<Change> = Vec::new();
        let mut segment = from.segment;
        let mut batches = 0;
        let mut failed = None;
        let extent = lines(source, from, upto, &mut |json, after| {
            if after.segment != segment {
                segment = after.segment;
                reader.forget();
            }
            // What cannot be used is missed when the two are compared.
            if let Ok(Some(change)) = reader.line(json, &known) {
                batch.push(change);
            }
            if batch.len() < BATCH_COUNT {
                return ControlFlow::Continue(());
            }
            batches += 1;
            match self.apply(&mut batch, batches % CHECKPOINT_BATCHES == 0, job) {
                Ok(()) => ControlFlow::Continue(()),
                Err(stop) => {
                    failed = Some(stop);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(stop) = failed {
            return Err(stop);
        }
        self.apply(&mut batch, true, job)?;
        // A ledger that cannot be read says nothing: what it should say is missed.
        Ok(extent.unwrap_or_default())
    }

    fn apply(&self, batch: &mut Vec<Change>, durable: bool, job: &Job) -> Result<(), Stop> {
        job.go_on()?;
        job.did(batch.len() as u64);
        self.index.apply(&std::mem::take(batch), &[])?;
        if durable {
            self.index.checkpoint()?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.index.close();
        if let Err(error) = remove_below(&Disk::default(), &self.folder, 0) {
            tracing::warn!(folder = %self.folder.display(), %error, "what a drill needed was not removed");
        }
    }
}

/// How much of a ledger can be read, without taking anything in.
pub fn extent(source: &Source, upto: Position, job: &Job) -> Result<Extent, Stop> {
    let mut count = 0_u64;
    let read = lines(source, Position::default(), upto, &mut |_, _| {
        count += 1;
        match count.is_multiple_of(65_536) && job.go_on().is_err() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    job.go_on()?;
    Ok(read.unwrap_or_default())
}

fn lines(
    source: &Source,
    from: Position,
    upto: Position,
    f: &mut dyn FnMut(&str, Position) -> ControlFlow<()>,
) -> Result<Extent, LedgerError> {
    let end = (upto.segment, upto.offset);
    let mut reached = from;
    let report = ledger::read(&source.disk, &source.folder, from, &mut |json, after| {
        if (after.segment, after.offset) > end {
            return ControlFlow::Break(());
        }
        reached = after;
        f(json, after)?;
        match (after.segment, after.offset) == end {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(Extent {
        reached,
        bad_lines: report.bad_lines,
    })
}

/// What a process that was killed left of it.
pub fn remove(state: &Path) -> std::io::Result<()> {
    remove_below(&Disk::default(), &state.join(FOLDER), 0)
}

fn remove_below(disk: &Disk, folder: &Path, depth: u32) -> std::io::Result<()> {
    /// An engine's folder has no more.
    const DEPTH_MAX: u32 = 8;
    let below = match disk.folder(folder) {
        Ok(below) => below,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for (name, kind) in below {
        let path = folder.join(name);
        match kind {
            Kind::Folder if depth < DEPTH_MAX => remove_below(disk, &path, depth + 1)?,
            _ => disk.remove(&path)?,
        }
    }
    disk.remove_dir(folder)
}

/// Of the files in a folder, bytes; those it cannot ask count as nothing.
fn size_of(disk: &Disk, folder: &Path) -> u64 {
    let below = disk.folder(folder).unwrap_or_default().into_iter();
    below
        .map(|(name, kind)| match kind {
            Kind::File => disk
                .entry(&folder.join(name))
                .ok()
                .flatten()
                .map_or(0, |entry| entry.len),
            // The one that was set aside does not count; sled has its files one below.
            Kind::Folder if name != "aside" => size_of(disk, &folder.join(name)),
            _ => 0,
        })
        .sum()
}
