//! The lines of the audit, read again: to show them, and to see whether they are as they were written.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::chain::{self, Change, Line};
use super::{END, FOLDER, LINE_BYTES_MAX, NAMES_MAX};
use crate::volume::io::{Disk, DiskFile};

/// Read at a time, bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// Faults that are told; all are counted.
const TOLD_MAX: usize = 100;

/// What reading all lines again found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub lines_count: u64,
    /// When the first and the last change were made, RFC 3339 UTC; empty where there is none.
    pub first: String,
    pub last: String,
    /// Digest of the last line. Written down elsewhere it tells later whether lines were cut off at the end.
    pub last_digest: String,
    pub faults_count: u64,
    /// A sentence each, the first of them.
    pub faults: Vec<String>,
    /// What is no fault, and should be known.
    pub notes: Vec<String>,
}

/// Names of the files, the oldest first. Nothing else in the folder is ours.
pub(super) fn months(disk: &Disk, folder: &Path) -> io::Result<Vec<String>> {
    let names = match disk.list(folder, NAMES_MAX) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let is_month = |name: &str| {
        let month = name.strip_suffix(END).unwrap_or_default().as_bytes();
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        month.len() == 7 && month[4] == b'-' && digits(&month[..4]) && digits(&month[5..])
    };
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let mut months: Vec<String> = names.filter(|name| is_month(name)).collect();
    months.sort_unstable();
    Ok(months)
}

/// Of the last whole line of all.
pub(super) fn last_digest(
    disk: &Disk,
    folder: &Path,
    months: &[String],
) -> io::Result<Option<String>> {
    for month in months.iter().rev() {
        let file = disk.open_read(&folder.join(month))?;
        let length = file.len()?;
        let begin = length.saturating_sub(2 * LINE_BYTES_MAX);
        let mut bytes = vec![0; (length - begin) as usize];
        file.read_exact_at(&mut bytes, begin)?;
        for line in bytes.split(|byte| *byte == b'\n').rev() {
            let line = std::str::from_utf8(line).unwrap_or_default();
            if let Line::Good(_, digest) = chain::read(line) {
                return Ok(Some(digest));
            }
        }
    }
    Ok(None)
}

/// The newest first, at most so many.
pub fn list(
    state: &Path,
    most: usize,
    wanted: &mut dyn FnMut(&Change) -> bool,
) -> io::Result<Vec<Change>> {
    let (disk, folder) = (Disk::default(), state.join(FOLDER));
    let mut found = Vec::new();
    for month in months(&disk, &folder)?.iter().rev() {
        let mut newest: VecDeque<Change> = VecDeque::new();
        let file = disk.open_read(&folder.join(month))?;
        each_line(&file, &mut |_, line| {
            // What is not whole anymore is shown as far as it can be read; verify says what is wrong.
            let change = serde_json::from_str::<Change>(line).ok();
            newest.extend(change.filter(|change| wanted(change)));
            if newest.len() > most - found.len() {
                newest.pop_front();
            }
        })?;
        found.extend(newest.into_iter().rev());
        if found.len() >= most {
            break;
        }
    }
    Ok(found)
}

/// Reads every line.
pub fn verify(state: &Path) -> io::Result<Verified> {
    let (disk, folder) = (Disk::default(), state.join(FOLDER));
    let mut verified = Verified::default();
    // Of the line before; none before the first.
    let mut last: Option<String> = None;
    for month in months(&disk, &folder)? {
        let file = disk.open_read(&folder.join(&month))?;
        each_line(&file, &mut |number, line| {
            verified.lines_count += 1;
            let place = format!("{month}, line {number}");
            match chain::read(line) {
                Line::Good(change, digest) => {
                    verified.look_at(&place, &change, last.as_deref());
                    last = Some(digest);
                }
                Line::Changed(digest) => {
                    verified.fault(format!(
                        "{place}: it was changed after it was written: its digest does not fit"
                    ));
                    last = Some(digest);
                }
                Line::Broken => verified.note(format!(
                    "{place}: not a whole line; a crash may have cut it off"
                )),
            }
        })?;
    }
    verified.last_digest = last.unwrap_or_default();
    Ok(verified)
}

impl Verified {
    fn look_at(&mut self, place: &str, change: &Change, last: Option<&str>) {
        match last {
            Some(last) if last != change.previous => self.fault(format!(
                "{place}: it does not follow what stands before it: lines were taken out, changed or put in there"
            )),
            None if change.previous != chain::NOTHING => self.note(format!(
                "{place}: the first line that is here is not the first of all; what came before is not here"
            )),
            _ => {}
        }
        if self.first.is_empty() {
            self.first.clone_from(&change.at);
        }
        self.last.clone_from(&change.at);
    }

    fn fault(&mut self, text: String) {
        self.faults_count += 1;
        if self.faults.len() < TOLD_MAX {
            self.faults.push(text);
        }
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < TOLD_MAX {
            self.notes.push(text);
        }
    }
}

/// Gives each line and its number, from 1. One that is longer than any of ours, or not text, is given as an empty one.
fn each_line(file: &DiskFile, give: &mut dyn FnMut(u64, &str)) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut line: Vec<u8> = Vec::new();
    let (mut at, mut number, mut too_long) = (0, 0, false);
    loop {
        let count = file.read_at(at, &mut block)?;
        at += count as u64;
        for part in block[..count].split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            if (line.len() + text.len()) as u64 > LINE_BYTES_MAX {
                too_long = true;
                line.clear();
            }
            if !too_long {
                line.extend_from_slice(text);
            }
            if ends {
                number += 1;
                give(number, std::str::from_utf8(&line).unwrap_or_default());
                line.clear();
                too_long = false;
            }
        }
        if count == 0 {
            break;
        }
    }
    if too_long || !line.is_empty() {
        give(number + 1, std::str::from_utf8(&line).unwrap_or_default());
    }
    Ok(())
}
