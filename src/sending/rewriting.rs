//! A data set whose Patient ID is another on its way out; what is stored stays as it is.
//!
//! What must be read before the first byte can go out (how long the whole is, stands at no other place) is the beginning,
//! up to what changes; the rest goes by in pieces. A deflated data set tells its new length only at its end: a large one is
//! read twice.

use std::io;

use crate::dicom::amend::{AmendError, Rewriter, Value};
use crate::dicom::{Encoding, Scanner, Wanted, encoding_of, tags};

use super::outgoing::{Outgoing, Rewrite};

/// Data sets up to this size are changed in memory, bytes.
const IN_MEMORY_BYTES_MAX: u64 = 4 << 20;
/// Most that stands in front of the Patient ID, bytes; a list of references is far smaller.
const HEAD_BYTES_MAX: usize = 16 << 20;
/// Read at a time, bytes.
const PIECE_BYTES: usize = 64 << 10;

/// A data set that goes out changed.
pub struct Rewritten<'a> {
    /// Of the data set as it goes out, bytes.
    pub length: u64,
    /// Made, and so many bytes of it are given out.
    ready: Vec<u8>,
    given: usize,
    rest: Rest<'a>,
}

/// What comes behind what is ready.
enum Rest<'a> {
    Nothing,
    AsItIs(Box<Outgoing<'a>>),
    Through {
        from: Box<Outgoing<'a>>,
        /// Bytes of it that have not come yet.
        left: u64,
        rewriter: Box<Rewriter>,
        /// Bytes that are made by now.
        made: u64,
    },
}

/// `open` gives the data set from its beginning, whenever it is called. The error is a sentence.
pub fn rewritten<'a>(
    rewrite: &dyn Rewrite,
    transfer_syntax: &str,
    open: &dyn Fn() -> Result<Outgoing<'a>, String>,
) -> Result<Rewritten<'a>, String> {
    let mut from = open()?;
    let length = from.length();
    let all = length <= IN_MEMORY_BYTES_MAX;
    let mut scanner = Scanner::new(transfer_syntax, Wanted::Indexed);
    let mut head = Vec::new();
    while (head.len() as u64) < length && (all || !scanner.is_beyond(tags::ISSUER_OF_PATIENT_ID)) {
        if head.len() > HEAD_BYTES_MAX {
            return Err(format!(
                "its Patient ID is not within the first {HEAD_BYTES_MAX} bytes and cannot be rewritten"
            ));
        }
        let at = head.len();
        take_piece(&mut from, &mut head).map_err(|error| error.to_string())?;
        scanner
            .feed(&head[at..])
            .map_err(|error| cannot(&error.into()))?;
    }
    let patient_id = scanner.stop().text(tags::PATIENT_ID).unwrap_or_default();
    let changes: Vec<_> = rewrite
        .changes(&patient_id)?
        .into_iter()
        .map(|changed| (changed.tag, Value::Text(changed.value)))
        .collect();
    if changes.is_empty() {
        return Ok(Rewritten {
            length,
            ready: head,
            given: 0,
            rest: Rest::AsItIs(Box::new(from)),
        });
    }
    let new_rewriter = || {
        let rewriter = Rewriter::unrecorded(transfer_syntax, changes.clone());
        rewriter.map_err(|error| cannot(&error))
    };
    let mut rewriter = new_rewriter()?;
    let mut ready = Vec::new();
    if all {
        let made = rewriter.feed(&head, &mut ready);
        made.and_then(|()| rewriter.finish(&mut ready))
            .map_err(|error| cannot(&error))?;
        return Ok(Rewritten {
            length: ready.len() as u64,
            ready,
            given: 0,
            rest: Rest::Nothing,
        });
    }
    if encoding_of(transfer_syntax) == Encoding::DeflatedLittle {
        let mut counted = Rewritten::through(open()?, rewriter, u64::MAX);
        let mut piece = vec![0; PIECE_BYTES];
        let mut count = 0;
        loop {
            match counted
                .read(&mut piece)
                .map_err(|error| error.to_string())?
            {
                0 => break,
                more => count += more as u64,
            }
        }
        return Ok(Rewritten::through(open()?, new_rewriter()?, count));
    }
    let mut left = length - head.len() as u64;
    rewriter
        .feed(&head, &mut ready)
        .map_err(|error| cannot(&error))?;
    while rewriter.growth().is_none() && left > 0 {
        head.clear();
        take_piece(&mut from, &mut head).map_err(|error| error.to_string())?;
        left -= head.len() as u64;
        rewriter
            .feed(&head, &mut ready)
            .map_err(|error| cannot(&error))?;
        if ready.len() > 2 * HEAD_BYTES_MAX {
            break;
        }
    }
    let Some(length) = rewriter
        .growth()
        .and_then(|growth| length.checked_add_signed(growth))
    else {
        return Err("where its Patient ID ends is not certain; it cannot be rewritten".to_owned());
    };
    Ok(Rewritten {
        length,
        given: 0,
        rest: Rest::Through {
            from: Box::new(from),
            left,
            made: ready.len() as u64,
            rewriter: Box::new(rewriter),
        },
        ready,
    })
}

/// Appends the next bytes; there must be some.
fn take_piece(from: &mut Outgoing, to: &mut Vec<u8>) -> io::Result<()> {
    let at = to.len();
    to.resize(at + PIECE_BYTES, 0);
    let count = from.read(&mut to[at..])?;
    to.truncate(at + count);
    match count {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn cannot(error: &AmendError) -> String {
    format!(
        "its Patient ID cannot be rewritten: {}",
        error.without_values()
    )
}

impl<'a> Rewritten<'a> {
    fn through(from: Outgoing<'a>, rewriter: Rewriter, length: u64) -> Rewritten<'a> {
        Rewritten {
            length,
            ready: Vec::new(),
            given: 0,
            rest: Rest::Through {
                left: from.length(),
                from: Box::new(from),
                rewriter: Box::new(rewriter),
                made: 0,
            },
        }
    }

    /// Fills a part of `buffer`; returns the bytes filled, 0 at the end. The last bytes are given only when all of it was
    /// as long as was said.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = &self.ready[self.given..];
            if !ready.is_empty() {
                let count = ready.len().min(buffer.len());
                buffer[..count].copy_from_slice(&ready[..count]);
                self.given += count;
                return Ok(count);
            }
            self.ready.clear();
            self.given = 0;
            match &mut self.rest {
                Rest::Nothing => return Ok(0),
                Rest::AsItIs(from) => return from.read(buffer),
                Rest::Through { .. } => self.go_on()?,
            }
        }
    }

    /// Makes more ready.
    fn go_on(&mut self) -> io::Result<()> {
        let rest = std::mem::replace(&mut self.rest, Rest::Nothing);
        let Rest::Through {
            mut from,
            mut left,
            mut rewriter,
            mut made,
        } = rest
        else {
            return Ok(());
        };
        let wrong = |error: AmendError| io::Error::other(cannot(&error));
        if left > 0 {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            take_piece(&mut from, &mut piece)?;
            left -= piece.len() as u64;
            rewriter.feed(&piece, &mut self.ready).map_err(wrong)?;
        }
        if left > 0 {
            made += self.ready.len() as u64;
            self.rest = Rest::Through {
                from,
                left,
                rewriter,
                made,
            };
            return Ok(());
        }
        rewriter.finish(&mut self.ready).map_err(wrong)?;
        made += self.ready.len() as u64;
        match made == self.length || self.length == u64::MAX {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "rewritten it has {made} bytes, not the {} that were announced",
                self.length
            ))),
        }
    }
}
