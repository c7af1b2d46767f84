//! The segments that nobody writes to any more, read once while their volume is open: rot in them is healed as it is at
//! the opening. The last segment was read then.

use super::super::Volume;
use super::super::layout;
use super::super::ledger::{LedgerError, Position};
use super::{Copies, heal_upto, whole_lines};

/// What reading a piece of a ledger showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A segment that is whole.
    Whole,
    /// A segment that is not: to be healed.
    Damaged,
    /// There is no other.
    Nothing,
}

impl<T: Send + 'static> Volume<T> {
    /// Whether the ledger has segments that were not read since the volume was opened.
    pub fn has_unread_ledger(&self) -> bool {
        self.unread().is_some() && !self.ledger.failed()
    }

    /// Reads the next segment that is not written to any more.
    pub fn read_ledger_on(&self) -> Result<Read, LedgerError> {
        let Some(from) = *self.unread() else {
            return Ok(Read::Nothing);
        };
        let segment = from.segment + 1;
        if segment >= self.ledger.position().segment {
            *self.unread() = None;
            return Ok(Read::Nothing);
        }
        let _call = self.shared.calls.begin();
        let path = self.ledger_folder(self.id());
        let path = path.join(layout::segment_file(segment));
        let file = match self.disk().open_read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Read::Damaged),
            file => file.map_err(LedgerError::io(&path))?,
        };
        let len = file.len().map_err(LedgerError::io(&path))?;
        let end = whole_lines(file, self.id(), segment, from.chain, &mut |_| {})
            .map_err(LedgerError::io(&path))?;
        if end.offset < len || len == 0 {
            return Ok(Read::Damaged);
        }
        *self.unread() = Some(end);
        Ok(Read::Whole)
    }

    /// Heals the segments that are not written to any more from the best of the copies; durable on return. What it did is in
    /// [`Volume::healing`]. Nothing is read again until the volume is opened the next time.
    pub fn heal_while_open(&self, copies: &Copies) {
        *self.unread() = None;
        let Some(last) = self.ledger.position().segment.checked_sub(1) else {
            return;
        };
        let _call = self.shared.calls.begin();
        let folder = self.ledger_folder(self.id());
        let notes = match heal_upto(self.disk(), &folder, copies, last) {
            Ok(healing) => healing.notes,
            Err(error) => vec![format!("its ledger could not be healed: {error}")],
        };
        for note in &notes {
            tracing::warn!(volume = self.name(), "{note}");
        }
        self.lock_healing().notes.extend(notes);
    }

    fn unread(&self) -> std::sync::MutexGuard<'_, Option<Position>> {
        self.unread
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
