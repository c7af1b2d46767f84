//! The bytes that go out: as stored, or changed on the way.

use std::io;

use crate::archive::{Fetched, Selected};
use crate::dicom::Tag;

use super::To;
use super::rewriting::{self, Rewritten};

/// A value that goes out in place of the one that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub tag: Tag,
    /// Unicode; written in the character set of the data set.
    pub value: String,
}

/// What is changed in a data set on its way out.
pub trait Rewrite: Send + Sync {
    /// By the Patient ID that is stored; empty: it goes out as it is.
    fn changes(&self, patient_id: &str) -> Result<Vec<Changed>, String>;
}

pub enum Outgoing<'a> {
    AsStored(Fetched<'a>),
    Rewritten(Rewritten<'a>),
}

/// The error is a sentence.
pub fn open<'a>(to: &To<'a>, instance: &Selected) -> Result<Outgoing<'a>, String> {
    match to.rewrite {
        Some(rewrite) => {
            let open = || open_unchanged(to, instance);
            let rewritten = rewriting::rewritten(rewrite, &instance.transfer_syntax, &open);
            rewritten.map(Outgoing::Rewritten)
        }
        None => open_unchanged(to, instance),
    }
}

fn open_unchanged<'a>(to: &To<'a>, instance: &Selected) -> Result<Outgoing<'a>, String> {
    let fetched = to.archive.fetch(instance);
    fetched
        .map(Outgoing::AsStored)
        .map_err(|error| error.to_string())
}

impl Outgoing<'_> {
    /// Of the data set, bytes.
    pub fn length(&self) -> u64 {
        match self {
            Outgoing::AsStored(fetched) => fetched.length,
            Outgoing::Rewritten(rewritten) => rewritten.length,
        }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Outgoing::AsStored(fetched) => fetched.read(buffer),
            Outgoing::Rewritten(rewritten) => rewritten.read(buffer),
        }
    }
}
