//! The bytes that go out: as stored, or changed on the way.

use std::io;

use crate::archive::{Fetched, Selected};
use crate::dicom::{Tag, is_encapsulated};

use super::To;
use super::contexts::Form;
use super::converting::Converting;
use super::rewriting::{self, Rewritten};
use super::worker::{self, Decompressed};

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
    AsStored(Box<Fetched<'a>>),
    Rewritten(Rewritten<'a>),
    Converting(Box<Converting<'a>>),
    Decompressed(Decompressed),
}

/// Whether it goes out byte for byte.
pub fn is_as_stored(to: &To, form: Form) -> bool {
    to.rewrite.is_none() && form == Form::AsStored
}

/// The error is a sentence.
pub fn open<'a>(to: &To<'a>, instance: &Selected, form: Form) -> Result<Outgoing<'a>, String> {
    match to.rewrite {
        Some(rewrite) => {
            let open = || open_unchanged(to, instance, form);
            let syntax = form.transfer_syntax(instance);
            rewriting::rewritten(rewrite, syntax, &open).map(Outgoing::Rewritten)
        }
        None => open_unchanged(to, instance, form),
    }
}

fn open_unchanged<'a>(
    to: &To<'a>,
    instance: &Selected,
    form: Form,
) -> Result<Outgoing<'a>, String> {
    let explicit = match form {
        Form::AsStored => {
            let fetched = to.archive.fetch(instance);
            return fetched
                .map(|fetched| Outgoing::AsStored(Box::new(fetched)))
                .map_err(|error| error.to_string());
        }
        Form::Plain { explicit } => explicit,
    };
    if !is_encapsulated(&instance.transfer_syntax) {
        let converting = Converting::of(to.archive, instance, explicit);
        return converting
            .map(|converting| Outgoing::Converting(Box::new(converting)))
            .map_err(|reason| format!("cannot be converted: {reason}"));
    }
    let mut fetched = to
        .archive
        .fetch(instance)
        .map_err(|error| error.to_string())?;
    let (syntax, length) = (&instance.transfer_syntax, fetched.length);
    worker::decompress(syntax, explicit, length, &mut |buffer| fetched.read(buffer))
        .map(Outgoing::Decompressed)
        .map_err(|reason| format!("cannot be decompressed: {reason}"))
}

impl Outgoing<'_> {
    /// Of the data set, bytes.
    pub fn length(&self) -> u64 {
        match self {
            Outgoing::AsStored(fetched) => fetched.length,
            Outgoing::Rewritten(rewritten) => rewritten.length,
            Outgoing::Converting(converting) => converting.length,
            Outgoing::Decompressed(decompressed) => decompressed.length(),
        }
    }

    /// All of it, where it is in memory as it goes out.
    pub fn whole(&self) -> Option<&[u8]> {
        match self {
            Outgoing::AsStored(fetched) => fetched.whole(),
            _ => None,
        }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Outgoing::AsStored(fetched) => fetched.read(buffer),
            Outgoing::Rewritten(rewritten) => rewritten.read(buffer),
            Outgoing::Converting(converting) => converting.read(buffer),
            Outgoing::Decompressed(decompressed) => decompressed.read(buffer),
        }
    }
}
