//! Lines at the end of a small file of the state folder: all of them durable, or none there.

use std::io;
use std::path::Path;

use super::io::Disk;

impl Disk {
    /// Appends whole lines; a file that is not there is made, for its owner alone where `is_private` says so. Not for two
    /// at the same time.
    pub fn append_lines(&self, path: &Path, lines: &[u8], is_private: bool) -> io::Result<()> {
        let is_new = self.entry(path)?.is_none();
        let file = self.open_or_create(path)?;
        if is_new && is_private {
            file.set_private()?;
        }
        let length = file.len()?;
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        // What a crash cut off stays alone.
        let before: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
        let written = file
            .write_at(length, &[before, lines].concat())
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // On a full disk a part may be there; the next line would stick to it.
            drop(file.set_len(length));
            return Err(error);
        }
        match path.parent() {
            Some(folder) if is_new => self.sync_dir(folder),
            _ => Ok(()),
        }
    }
}
