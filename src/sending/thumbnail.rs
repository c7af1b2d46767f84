//! A small picture of what is stored, decoded in a worker.

use crate::archive::{Archive, Selected};

use super::worker;

pub use worker::THUMBNAIL_WORKERS_MAX as AT_ONCE_MAX;

/// A PNG of at most `edge` pixels in width and height. Takes seconds at most, but for a disk that does not answer; the
/// error is a sentence.
pub fn picture(archive: &Archive, instance: &Selected, edge: u16) -> Result<Vec<u8>, String> {
    // Before a large one is read, and read through, for nothing.
    if instance.length > worker::THUMBNAIL_DATA_SET_BYTES_MAX {
        return Err(worker::TOO_LARGE_FOR_A_THUMBNAIL.to_owned());
    }
    let mut fetched = archive.fetch(instance).map_err(|error| error.to_string())?;
    let (syntax, length) = (&instance.transfer_syntax, fetched.length);
    worker::picture(syntax, edge, length, &mut |buffer| fetched.read(buffer))
}
