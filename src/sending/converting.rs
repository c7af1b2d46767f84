//! A data set in another encoding while it is sent: read once to know how long it will be, and once more to be sent.

use std::io;

use crate::archive::{Archive, Fetched, Selected};
use crate::dicom::convert::Converter;
use crate::memory::{self, Share};

/// Read at a time, bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// What is converted up to this length is held, and read once only, bytes.
const HELD_BYTES_MAX: u64 = 4 << 20;

pub struct Converting<'a> {
    pub length: u64,
    source: Option<(Fetched<'a>, Converter)>,
    /// Converted, and given out up to `at`.
    made: Vec<u8>,
    at: usize,
    piece: Vec<u8>,
    /// For what is held.
    memory: Option<Share>,
}

impl<'a> Converting<'a> {
    /// The error is a sentence.
    pub fn of(
        archive: &'a Archive,
        instance: &Selected,
        explicit: bool,
    ) -> Result<Converting<'a>, String> {
        let mut first = Converting::begin(archive, instance, explicit)?;
        // What comes of it may be a little longer, and a text grows by doubling.
        let memory = memory::take(2 * instance.length.min(HELD_BYTES_MAX) as usize);
        if instance.length <= HELD_BYTES_MAX && memory.is_some() {
            first.memory = memory;
            first.fill(u64::MAX).map_err(|error| error.to_string())?;
            first.length = first.made.len() as u64;
            return Ok(first);
        }
        let mut length = 0;
        loop {
            first.fill(1).map_err(|error| error.to_string())?;
            if first.made.is_empty() {
                break;
            }
            length += first.made.len() as u64;
            first.made.clear();
        }
        let mut second = Converting::begin(archive, instance, explicit)?;
        second.length = length;
        Ok(second)
    }

    fn begin(
        archive: &'a Archive,
        instance: &Selected,
        explicit: bool,
    ) -> Result<Converting<'a>, String> {
        let fetched = archive.fetch(instance).map_err(|error| error.to_string())?;
        let converter = Converter::new(&instance.transfer_syntax, explicit);
        Ok(Converting {
            length: 0,
            source: Some((fetched, converter)),
            made: Vec::new(),
            at: 0,
            piece: vec![0; PIECE_BYTES],
            memory: None,
        })
    }

    /// Converts on until so many bytes are there, or the end.
    fn fill(&mut self, bytes: u64) -> io::Result<()> {
        while (self.made.len() as u64) < bytes
            && let Some((mut fetched, mut converter)) = self.source.take()
        {
            let count = fetched.read(&mut self.piece)?;
            if count == 0 {
                converter.finish(&mut self.made).map_err(io::Error::other)?;
                break;
            }
            let piece = &self.piece[..count];
            converter
                .feed(piece, &mut self.made)
                .map_err(io::Error::other)?;
            self.source = Some((fetched, converter));
        }
        Ok(())
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.made.len() {
            self.made.clear();
            self.at = 0;
            self.fill(1)?;
        }
        let rest = &self.made[self.at..];
        let count = buffer.len().min(rest.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
