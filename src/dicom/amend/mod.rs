//! A data set with some of its elements changed, and everything else byte for byte as it was.
//!
//! The data set goes through in pieces, as a scan reads it: nothing is held but what the changes need (old values, and
//! groups and sequences whose length is not known before their end), never pixel data. What was changed is written
//! down in the data set itself, in the Original Attributes Sequence (PS3.3 C.12.1.1.9).
//!
//! Digital signatures over the changed elements no longer hold; they are not looked at.

mod check;
mod editor;
mod held;
mod opaque;
mod original;

use dicom_core::Tag;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::header::Form;
use super::inflate::Inflater;
use super::part10::FileMeta;
use super::scan::ScanError;
use super::tags;
use super::uid::{Encoding, encoding_of};
use super::walk::Walk;
use editor::Editor;

/// Most attributes that one amendment changes.
pub const CHANGES_MAX: usize = 256;

/// The new value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One value. Of a name, its component groups with their `=` and `^`.
    Text(String),
    Several(Vec<String>),
    /// The element is there without a value (Type 2).
    Empty,
    /// The element is taken out.
    Absent,
}

/// Reason for the Attribute Modification (0400,0565).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Replaced by the values of another system: a merge, a worklist.
    Coerce,
    /// They were wrong.
    Correct,
}

impl Reason {
    /// The defined term of PS3.3 Table C.12.1.1.9-1.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Coerce => "COERCE",
            Reason::Correct => "CORRECT",
        }
    }
}

/// What is to be changed at the top level of a data set, and what is written down about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amendment {
    pub changes: Vec<(Tag, Value)>,
    /// Attribute Modification DateTime (0400,0562), as VR DT has it.
    pub modified_at: String,
    /// Modifying System (0400,0563).
    pub modifying_system: String,
    /// Source of Previous Values (0400,0564): who provided the old ones; empty when unknown.
    pub previous_source: String,
    pub reason: Reason,
    /// Where the declared character set lacks a character: write the whole data set in UTF-8 instead of an error.
    pub allow_utf8: bool,
}

/// Why a data set was not amended. What was written until then is to be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("{name} {tag} cannot be amended: it is no text attribute of the data dictionary")]
    NotAmendable { tag: Tag, name: &'static str },
    #[error("{name} {tag} cannot become {value:?}: {rule}")]
    BadValue {
        tag: Tag,
        name: &'static str,
        value: String,
        rule: String,
    },
    #[error("{name} {tag} is changed twice in one amendment")]
    ChangedTwice { tag: Tag, name: &'static str },
    #[error("one amendment changes at most {CHANGES_MAX} attributes, not {count}")]
    TooManyChanges { count: usize },
    #[error(
        "{tag} cannot become {text:?}: the character set of the data set, {charset:?}, lacks a character of it"
    )]
    NotEncodable {
        tag: Tag,
        text: String,
        /// The value of (0008,0005); empty when none is declared.
        charset: String,
    },
    #[error(
        "the data set cannot be written in UTF-8: which characters the bytes of {tag} stand for is not certain under the character set {charset:?}"
    )]
    NotDecodable { tag: Tag, charset: String },
    #[error(
        "{tag} stands in the data set twice or out of order; which one is meant is not certain"
    )]
    OutOfOrder { tag: Tag },
    #[error("{tag} is not written in the data set as what it is, and cannot be amended")]
    NotAsExpected { tag: Tag },
    #[error("{tag} would become longer than its value representation can be, {length} bytes")]
    TooLong { tag: Tag, length: usize },
    #[error("more than {held_bytes} bytes would have to be held in memory to amend this data set")]
    TooLarge { held_bytes: usize },
}

impl AmendError {
    /// For the log and for screens that name no patients: without values.
    pub fn without_values(&self) -> String {
        match self {
            AmendError::BadValue { name, rule, .. } => format!("{name}: {rule}"),
            AmendError::NotEncodable { tag, charset, .. } => {
                format!("{tag}: the character set {charset:?} lacks a character of the new value")
            }
            other => other.to_string(),
        }
    }
}

/// Amends one data set while it goes by.
pub struct Rewriter {
    /// Bytes given out, of a data set that is not deflated.
    made: u64,
    inflater: Option<Inflater>,
    deflater: Option<Deflater>,
    walk: Walk,
    editor: Editor,
    failed: Option<AmendError>,
}

impl Rewriter {
    /// Checks the new values before anything.
    pub fn new(transfer_syntax: &str, amendment: &Amendment) -> Result<Rewriter, AmendError> {
        Rewriter::of(transfer_syntax, amendment, true)
    }

    /// For a data set that goes out and not into the archive: nothing is written down in it of what was changed, and new
    /// values must fit its character set.
    pub fn unrecorded(
        transfer_syntax: &str,
        changes: Vec<(Tag, Value)>,
    ) -> Result<Rewriter, AmendError> {
        let amendment = Amendment {
            changes,
            modified_at: String::new(),
            modifying_system: String::new(),
            previous_source: String::new(),
            reason: Reason::Coerce,
            allow_utf8: false,
        };
        Rewriter::of(transfer_syntax, &amendment, false)
    }

    fn of(
        transfer_syntax: &str,
        amendment: &Amendment,
        recorded: bool,
    ) -> Result<Rewriter, AmendError> {
        let form = Form::of(transfer_syntax);
        let editor = Editor::new(form, amendment, recorded)?;
        let deflated = encoding_of(transfer_syntax) == Encoding::DeflatedLittle;
        Ok(Rewriter {
            made: 0,
            inflater: deflated.then(Inflater::new),
            // With nothing to change, deflated bytes go through as they are.
            deflater: (deflated && !editor.is_idle()).then(Deflater::new),
            walk: Walk::new(form),
            editor,
            failed: None,
        })
    }

    /// Takes the next bytes as they are stored, and appends to `out` what can be written already. After an error every
    /// further call returns the same error.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), AmendError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let before = out.len();
        let result = self.step(input, out);
        self.made += (out.len() - before) as u64;
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), AmendError> {
        let Rewriter {
            inflater,
            deflater,
            walk,
            editor,
            ..
        } = self;
        let Some(inflater) = inflater else {
            editor.held.swap(out);
            let result = walk.feed(input, editor);
            editor.held.swap(out);
            return result;
        };
        let mut made = Vec::new();
        inflater.feed(input, &mut |inflated| -> Result<(), AmendError> {
            editor.held.swap(&mut made);
            let result = walk.feed(inflated, editor);
            editor.held.swap(&mut made);
            result?;
            if let Some(deflater) = deflater {
                deflater.feed(&made, out);
            }
            made.clear();
            Ok(())
        })?;
        if deflater.is_none() {
            out.extend_from_slice(input);
        }
        Ok(())
    }

    /// By how many bytes the data set becomes longer, once everything that changes has gone by. None before that, and for a
    /// deflated data set, of which only the end tells.
    pub fn growth(&self) -> Option<i64> {
        let certain = self.inflater.is_none() && self.failed.is_none() && self.editor.is_through();
        // Both are far below 2^63.
        certain.then(|| self.made as i64 - self.walk.gone_by() as i64)
    }

    /// The end of the data set; appends the last bytes. An error when it is not one.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), AmendError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        let mut made = Vec::new();
        self.walk.finish(&mut self.editor)?;
        self.editor.held.swap(&mut made);
        match (self.inflater, self.deflater) {
            (None, _) => out.append(&mut made),
            (Some(_), Some(mut deflater)) => {
                deflater.feed(&made, out);
                deflater.finish(out);
            }
            (Some(_), None) => {}
        }
        Ok(())
    }
}

/// Amends a data set that is in memory.
pub fn amend(
    data_set: &[u8],
    transfer_syntax: &str,
    amendment: &Amendment,
) -> Result<Vec<u8>, AmendError> {
    let mut rewriter = Rewriter::new(transfer_syntax, amendment)?;
    let mut out = Vec::new();
    rewriter.feed(data_set, &mut out)?;
    rewriter.finish(&mut out)?;
    Ok(out)
}

/// The file meta information of the amended file: its UIDs are those of the data set (PS3.10 7.1).
pub fn meta_after(meta: &FileMeta, amendment: &Amendment) -> FileMeta {
    let mut after = meta.clone();
    for (tag, value) in &amendment.changes {
        match (*tag, value) {
            (tags::SOP_INSTANCE_UID, Value::Text(uid)) => after.sop_instance_uid.clone_from(uid),
            (tags::SOP_CLASS_UID, Value::Text(uid)) => after.sop_class_uid.clone_from(uid),
            _ => {}
        }
    }
    after
}

/// Deflates again what was inflated (PS3.5 A.5).
struct Deflater(Compress);

impl Deflater {
    fn new() -> Deflater {
        Deflater(Compress::new(Compression::default(), false))
    }

    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let before = self.0.total_in();
            if self.run(bytes, out, FlushCompress::None).is_none() {
                break;
            }
            // Bounded by the slice's length.
            bytes = &bytes[(self.0.total_in() - before) as usize..];
        }
    }

    /// A NUL makes the length even.
    fn finish(&mut self, out: &mut Vec<u8>) {
        while self.run(&[], out, FlushCompress::Finish) == Some(Status::Ok) {}
        if self.0.total_out() % 2 == 1 {
            out.push(0);
        }
    }

    /// One step, with room for its output. None does not happen: compressing fails by misuse only.
    fn run(&mut self, bytes: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Option<Status> {
        out.reserve(16 * 1024);
        self.0.compress_vec(bytes, out, flush).ok()
    }
}

#[cfg(test)]
mod tests;
