//! The newest lines of a ledger, kept in memory until a copy on another disk has them: what a disk takes with it when it
//! dies reaches the copies all the same.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::io::Disk;
use super::layout;
use super::ledger::{LedgerError, Position};

/// More than this is not kept; a copy that is so far behind is read from the disk, or ends there.
const BYTES_MAX: usize = 16 << 20;

/// Lines that were flushed together.
#[derive(Debug, Clone)]
pub struct Group {
    /// After the line before.
    before: Position,
    /// Where its bytes are in the segment of `end`.
    start: u64,
    bytes: Arc<[u8]>,
    end: Position,
}

#[derive(Default)]
pub(super) struct Recent {
    groups: VecDeque<Group>,
    bytes: usize,
}

impl Recent {
    pub fn push(&mut self, before: Position, start: u64, bytes: Vec<u8>, end: Position) {
        self.bytes += bytes.len();
        self.groups.push_back(Group {
            before,
            start,
            bytes: bytes.into(),
            end,
        });
        while self.bytes > BYTES_MAX {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(group) = self.groups.pop_front() {
            self.bytes -= group.bytes.len();
        }
    }

    /// A copy elsewhere has everything up to there.
    pub fn forget(&mut self, upto: Position) {
        let place = |position: Position| (position.segment, position.offset);
        while let Some(group) = self.groups.front()
            && place(group.end) <= place(upto)
        {
            self.pop();
        }
    }

    /// Everything after `position`; `None` when that is not here as a whole.
    pub fn after(&self, position: Position) -> Option<Vec<Group>> {
        let first = self.groups.iter().position(|g| g.before == position)?;
        Some(self.groups.iter().skip(first).cloned().collect())
    }
}

/// Appends lines to a copy that ends at `last`; durable on return, which is where it ends then.
pub fn append(
    target: &Disk,
    folder: &Path,
    last: Position,
    groups: &[Group],
) -> Result<Position, LedgerError> {
    target
        .create_dir_durable(folder)
        .map_err(LedgerError::io(folder))?;
    let mut end = last;
    for group in groups {
        let path = folder.join(layout::segment_file(group.end.segment));
        let is_new = group.start == 0;
        let written = (|| {
            let file = match is_new {
                true => target.create_new(&path)?,
                false => target.open_write(&path)?,
            };
            if file.len()? != group.start {
                return Err(std::io::Error::other("the copy does not end there"));
            }
            file.write_at(group.start, &group.bytes)?;
            file.sync_data()?;
            match is_new {
                true => target.sync_dir(folder),
                false => Ok(()),
            }
        })();
        written.map_err(LedgerError::io(&path))?;
        end = group.end;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::super::Ledger;
    use super::super::shipping::ship;
    use super::*;

    fn add(ledger: &Ledger<()>, count: usize) {
        for number in 0..count {
            let line = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(40));
            ledger.append(&[], line, ()).unwrap();
        }
    }

    /// Method: a copy is made, lines follow over the end of segments, and the ledger's files are gone.
    #[test]
    fn lines_that_no_copy_has_yet_reach_it_from_memory() {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let (own, copy) = (place.path().join("v"), place.path().join("copy/v"));
        let ledger = Ledger::open_with(&disk, &own, Box::new(|_| {}), 500).unwrap();
        add(&ledger, 5);
        let shipped = ship(&disk, &own, &disk, &copy, ledger.position()).unwrap();
        ledger.forget_recent(shipped.position);
        add(&ledger, 30);
        let kept = place.path().join("kept");
        std::fs::rename(&own, &kept).unwrap();
        let groups = ledger.recent(shipped.position).unwrap();
        let end = append(&disk, &copy, shipped.position, &groups).unwrap();
        assert_eq!(end, ledger.position());
        let read = |folder: &Path| {
            let mut files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    (
                        path.file_name().unwrap().to_owned(),
                        std::fs::read(path).unwrap(),
                    )
                })
                .collect();
            files.sort();
            files
        };
        assert!(read(&copy).len() > 2);
        assert!(read(&copy) == read(&kept));
        // Of a copy that does not end there nothing is changed.
        assert!(append(&disk, &copy, shipped.position, &groups).is_err());
        assert!(read(&copy) == read(&kept));
        ledger.forget_recent(end);
        assert!(ledger.recent(shipped.position).is_none());
    }

    #[test]
    fn a_ledger_of_which_no_copy_was_ever_made_is_in_memory_from_its_first_line() {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let (own, copy) = (place.path().join("v"), place.path().join("copy/v"));
        let ledger = Ledger::open(&disk, &own, Box::new(|_| {})).unwrap();
        add(&ledger, 3);
        let groups = ledger.recent(Position::default()).unwrap();
        let end = append(&disk, &copy, Position::default(), &groups).unwrap();
        assert_eq!(end, ledger.position());
        let name = layout::segment_file(1);
        let bytes = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        assert!(bytes(&own) == bytes(&copy));
    }
}
