//! What goes out, and what must wait because a length before it is not known yet.

use super::AmendError;

/// Most that waits, in bytes. Groups and sequences that are rewritten are far smaller; pixel data never wait.
const HELD_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// A group whose group length was met (PS3.5 7.2). Places are in the held bytes.
struct Group {
    element_at: usize,
    value_at: usize,
    /// None while the group goes on.
    end: Option<usize>,
    changed: bool,
    big: bool,
}

/// A length of 32 bits that counts from `start` on.
struct Length {
    at: usize,
    start: usize,
    big: bool,
}

/// Where bytes that are made later come in.
struct Late {
    at: usize,
    length: Option<Length>,
}

/// Output in order: bytes that are ready, then bytes held.
#[derive(Default)]
pub(super) struct Held {
    ready: Vec<u8>,
    held: Vec<u8>,
    groups: Vec<Group>,
    /// What is open in the top-level sequence that is held, itself first. None: of undefined length.
    open: Vec<Option<Length>>,
    late: Option<Late>,
}

impl Held {
    /// Exchanges what is ready with `out`: once to go on behind its bytes, once to hand them over.
    pub(super) fn swap(&mut self, out: &mut Vec<u8>) {
        std::mem::swap(&mut self.ready, out);
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), AmendError> {
        if !self.is_holding() {
            self.ready.extend_from_slice(bytes);
            return Ok(());
        }
        self.make_room(bytes.len())?;
        if self.is_holding() {
            self.held.extend_from_slice(bytes);
        } else {
            self.ready.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn make_room(&mut self, length: usize) -> Result<(), AmendError> {
        if self.held.len() + length > HELD_LENGTH_MAX && !self.forget_group_length() {
            return Err(AmendError::TooLarge {
                held_bytes: HELD_LENGTH_MAX,
            });
        }
        Ok(())
    }

    /// Whether anything waits.
    pub(super) fn is_holding(&self) -> bool {
        !self.groups.is_empty() || !self.open.is_empty() || self.late.is_some()
    }

    /// A group larger than can wait loses its group length, which no reader needs (PS3.5 7.2). Only where nothing else
    /// waits.
    fn forget_group_length(&mut self) -> bool {
        let [group] = self.groups.as_slice() else {
            return false;
        };
        if !self.open.is_empty() || self.late.is_some() {
            return false;
        }
        self.held.drain(group.element_at..group.value_at + 4);
        self.groups.clear();
        self.ready.append(&mut self.held);
        true
    }

    /// A group length element without its value, which comes next.
    pub(super) fn open_group(&mut self, header: &[u8], big: bool) {
        let element_at = self.held.len();
        self.held.extend_from_slice(header);
        self.groups.push(Group {
            element_at,
            value_at: self.held.len(),
            end: None,
            changed: false,
            big,
        });
    }

    /// Whether the group that goes on has had its group length.
    pub(super) fn in_group(&self) -> bool {
        self.groups.last().is_some_and(|group| group.end.is_none())
    }

    /// The group that goes on is no longer what its length says.
    pub(super) fn group_changed(&mut self) {
        if let Some(group) = self.groups.last_mut().filter(|group| group.end.is_none()) {
            group.changed = true;
        }
    }

    pub(super) fn close_group(&mut self) {
        let end = self.held.len();
        if let Some(group) = self.groups.last_mut() {
            group.end.get_or_insert(end);
        }
        self.release();
    }

    /// The header of a sequence or item whose content may change, and whether it says a length.
    pub(super) fn open(
        &mut self,
        header: &[u8],
        defined: bool,
        big: bool,
    ) -> Result<(), AmendError> {
        self.make_room(header.len())?;
        self.held.extend_from_slice(header);
        let start = self.held.len();
        // Wherever a sequence or item has its length: at the end of its header, in 32 bits.
        let at = start - 4;
        self.open.push(defined.then_some(Length { at, start, big }));
        Ok(())
    }

    /// The innermost of what was opened ends here.
    pub(super) fn close(&mut self) {
        if let Some(Some(length)) = self.open.pop() {
            self.patch(&length, self.held.len());
        }
        self.release();
    }

    /// Whether something opened is still open.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Bytes to be made later come here. `close`: they are the last of what was opened, which ends.
    pub(super) fn late(&mut self, close: bool) {
        let length = if close {
            self.open.pop().flatten()
        } else {
            None
        };
        let at = self.held.len();
        self.late = Some(Late { at, length });
    }

    /// The bytes that come where [`Self::late`] was called; may be none.
    pub(super) fn put_late(&mut self, bytes: &[u8]) {
        let Some(late) = self.late.take() else {
            return;
        };
        if !bytes.is_empty() {
            self.held.splice(late.at..late.at, bytes.iter().copied());
            for group in &mut self.groups {
                if group.element_at >= late.at {
                    group.element_at += bytes.len();
                    group.value_at += bytes.len();
                    group.end = group.end.map(|end| end + bytes.len());
                } else if group.end.is_none_or(|end| end >= late.at) {
                    group.changed = true;
                    group.end = group.end.map(|end| end + bytes.len());
                }
            }
            for length in self.open.iter_mut().flatten() {
                length.at += bytes.len();
                length.start += bytes.len();
            }
        }
        if let Some(length) = &late.length {
            self.patch(length, late.at + bytes.len());
        }
        self.release();
    }

    fn patch(&mut self, length: &Length, end: usize) {
        self.patch_u32(length.at, end - length.start, length.big);
    }

    /// Held bytes are far fewer than 32 bits count.
    fn patch_u32(&mut self, at: usize, length: usize, big: bool) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let bytes = if big {
            length.to_be_bytes()
        } else {
            length.to_le_bytes()
        };
        self.held[at..at + 4].copy_from_slice(&bytes);
    }

    /// Lets go what no longer waits for anything.
    fn release(&mut self) {
        let waiting = self.groups.iter().any(|group| group.end.is_none());
        if waiting || self.late.is_some() || !self.open.is_empty() {
            return;
        }
        for group in std::mem::take(&mut self.groups) {
            // A wrong length in a group that nobody touched stays wrong.
            if let Some(end) = group.end.filter(|_| group.changed) {
                self.patch_u32(group.value_at, end - (group.value_at + 4), group.big);
            }
        }
        self.ready.append(&mut self.held);
    }
}
