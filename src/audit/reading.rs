//! The lines of the audit, read again: to show them, and to see whether they are as they were written.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{self, Entry, Line};
use super::event::Kind;
use super::message::{self, Source};
use super::{END, FOLDER, LINE_BYTES_MAX, NAMES_MAX};
use crate::volume::backwards::{Backwards, Line as Text};
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
    /// Whether the digest that was asked for is that of a line, or of the last that was cut off by rule; absent: none was
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_found: Option<bool>,
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

/// Which lines; everything must fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Each is somewhere in the line; case does not count.
    pub words: Vec<String>,
    /// A user, a token, an AE title, an address, on either side; case does not count.
    pub who: Option<String>,
    /// Study Instance UID.
    pub study: Option<String>,
    /// Patient ID.
    pub patient: Option<String>,
    /// Of these kinds; empty: of all.
    pub kinds: Vec<Kind>,
    /// RFC 3339, this moment included.
    pub since: Option<String>,
    /// RFC 3339, this moment excluded.
    pub until: Option<String>,
    /// Lines that are wanted at most; 0: all.
    pub most: u64,
}

/// How a search ended, after all it gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ListEnd {
    /// There are more than were wanted.
    pub more: bool,
    /// Lines that were passed over because they cannot be read; `kura audit verify` says more.
    pub damaged_count: u64,
}

struct Filter<'a> {
    wanted: &'a Wanted,
    /// Folded.
    words: Vec<String>,
    since: Option<String>,
    until: Option<String>,
}

impl Filter<'_> {
    fn new(wanted: &Wanted) -> io::Result<Filter<'_>> {
        // Lines say seconds: a moment within one is after its line.
        let moment = |text: &Option<String>, up: i64| match text {
            None => Ok(None),
            Some(text) => match text.parse::<jiff::Timestamp>() {
                Ok(moment) => {
                    let up = if moment.subsec_nanosecond() > 0 {
                        up
                    } else {
                        0
                    };
                    let moment = moment + jiff::SignedDuration::from_secs(up);
                    Ok(Some(super::second(moment)))
                }
                Err(_) => Err(io::Error::other(format!(
                    "{text:?} is no moment; such as 2026-01-31T08:00:00Z"
                ))),
            },
        };
        Ok(Filter {
            wanted,
            words: wanted
                .words
                .iter()
                .map(|word| word.to_lowercase())
                .collect(),
            since: moment(&wanted.since, 1)?,
            until: moment(&wanted.until, 1)?,
        })
    }

    /// A line never stands in the file of a month before its own.
    fn may_have(&self, month: &str) -> bool {
        let since = self.since.as_deref().and_then(|since| since.get(..7));
        since.is_none_or(|since| month.trim_end_matches(END) >= since)
    }

    fn takes(&self, entry: &Entry) -> bool {
        let wanted = self.wanted;
        let (at, event) = (&entry.at, entry.event.as_ref());
        self.since.as_ref().is_none_or(|since| at >= since)
            && self.until.as_ref().is_none_or(|until| at < until)
            && (wanted.kinds.is_empty() || wanted.kinds.contains(&entry.kind()))
            && wanted.who.as_ref().is_none_or(|who| is_by(entry, who))
            && wanted.study.as_ref().is_none_or(|study| {
                // Requests name what they are about in their own way.
                event.is_some_and(|event| event.studies.contains(study))
                    || entry.what.contains(&format!("\"{study}\""))
            })
            && wanted.patient.as_ref().is_none_or(|patient| {
                event.is_some_and(|event| event.patients.contains(patient))
                    || entry.what.contains(&format!("\"{patient}\""))
            })
            && self.has_words(entry)
    }

    fn has_words(&self, entry: &Entry) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let kind = entry.kind().as_str();
        let mut parts = vec![&*entry.who, &entry.from, &entry.what, &entry.outcome, kind];
        if let Some(event) = &entry.event {
            parts.extend([
                &*event.user,
                &event.certificate,
                &event.peer,
                &event.peer_address,
            ]);
            let lists = event.studies.iter().chain(&event.patients);
            parts.extend(lists.map(String::as_str));
        }
        let all = parts.join("\n").to_lowercase();
        self.words.iter().all(|word| all.contains(word))
    }
}

fn is_by(entry: &Entry, who: &str) -> bool {
    let mut names = vec![&entry.who, &entry.from];
    if let Some(event) = &entry.event {
        names.extend([&event.user, &event.peer, &event.peer_address]);
    }
    // An address of the other end may have its port behind it.
    let fits = |name: &&String| {
        let without_port = name.rsplit_once(':').map_or("", |(host, _)| host);
        name.eq_ignore_ascii_case(who) || without_port.eq_ignore_ascii_case(who)
    };
    names.iter().any(fits)
}

/// Gives each line that is wanted, the newest first, until `give` breaks.
pub fn list(
    state: &Path,
    wanted: &Wanted,
    give: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> io::Result<ListEnd> {
    let (disk, folder) = (Disk::default(), state.join(FOLDER));
    let filter = Filter::new(wanted)?;
    let mut end = ListEnd::default();
    let mut count = 0;
    for month in months(&disk, &folder)?.iter().rev() {
        if !filter.may_have(month) {
            break;
        }
        let path = folder.join(month);
        let mut lines = Backwards::open(&disk, &path, LINE_BYTES_MAX as usize)?;
        while let Some(line) = lines.line_before()? {
            // What is not whole anymore is shown as far as it can be read; verify says what is wrong.
            let entry = match &line {
                Text::Text(line) if line.is_empty() => continue,
                Text::Text(line) => serde_json::from_slice::<Entry>(line).ok(),
                Text::TooLong => None,
            };
            let Some(entry) = entry else {
                end.damaged_count += 1;
                continue;
            };
            if !filter.takes(&entry) {
                continue;
            }
            if wanted.most > 0 && count == wanted.most {
                end.more = true;
                return Ok(end);
            }
            count += 1;
            if give(entry).is_break() {
                return Ok(end);
            }
        }
    }
    Ok(end)
}

/// Gives the audit message of each line that is wanted, the oldest first; how many there were.
pub fn messages(
    state: &Path,
    wanted: &Wanted,
    source: &Source,
    give: &mut dyn FnMut(&str) -> io::Result<()>,
) -> io::Result<u64> {
    let (disk, folder) = (Disk::default(), state.join(FOLDER));
    let filter = Filter::new(wanted)?;
    let (mut count, mut failed) = (0, None);
    for month in months(&disk, &folder)? {
        if !filter.may_have(&month) {
            continue;
        }
        let file = disk.open_read(&folder.join(&month))?;
        each_line(&file, &mut |_, line| {
            let entry = serde_json::from_str::<Entry>(line).ok();
            let entry = entry.filter(|entry| failed.is_none() && filter.takes(entry));
            if let Some(message) = entry.and_then(|entry| message::of(&entry, source)) {
                count += 1;
                failed = give(&message).err();
            }
        })?;
    }
    failed.map_or(Ok(count), Err)
}

/// Reads every line. `digest`: one that was written down earlier.
pub fn verify(state: &Path, digest: Option<&str>) -> io::Result<Verified> {
    let (disk, folder) = (Disk::default(), state.join(FOLDER));
    let digest = digest.map(str::to_ascii_lowercase);
    if let Some(given) = &digest
        && !chain::is_digest(given)
    {
        return Err(io::Error::other(format!(
            "{given:?} is no digest: it has 64 hexadecimal digits"
        )));
    }
    let mut looking = Looking {
        found: digest.as_ref().map(|_| false),
        digest: digest.unwrap_or_default(),
        ..Looking::default()
    };
    for month in months(&disk, &folder)? {
        let file = disk.open_read(&folder.join(&month))?;
        each_line(&file, &mut |number, line| {
            looking.look_at(&month, number, line)
        })?;
    }
    Ok(looking.end())
}

/// Goes through all lines.
#[derive(Default)]
struct Looking {
    verified: Verified,
    /// Of the line before; none before the first.
    last: Option<String>,
    /// What stands in the first line as the digest before it, and where that line is.
    before_all: Option<(String, String)>,
    /// By digest of the last line that went: what the audit says of cutting off its beginning.
    cuts: HashMap<String, String>,
    digest: String,
    found: Option<bool>,
}

impl Looking {
    fn look_at(&mut self, month: &str, number: u64, line: &str) {
        self.verified.lines_count += 1;
        let place = format!("{month}, line {number}");
        match chain::read(line) {
            Line::Good(entry, digest) => {
                self.follow(&place, &entry);
                self.find(&digest);
                self.last = Some(digest);
            }
            Line::Changed(digest) => {
                self.verified.fault(format!(
                    "{place}: it was changed after it was written: its digest does not fit"
                ));
                self.last = Some(digest);
            }
            Line::Broken => self.verified.note(format!(
                "{place}: not a whole line; a crash may have cut it off"
            )),
        }
    }

    fn find(&mut self, digest: &str) {
        if *digest == self.digest {
            self.found = Some(true);
        }
    }

    fn follow(&mut self, place: &str, entry: &Entry) {
        match &self.last {
            Some(last) if *last != entry.previous => self.verified.fault(format!(
                "{place}: it does not follow what stands before it: lines were taken out, changed or put in there"
            )),
            None => self.before_all = Some((entry.previous.clone(), place.to_owned())),
            _ => {}
        }
        let event = entry.event.as_ref();
        if let Some(event) = event.filter(|event| event.kind == Kind::AuditCut) {
            self.find(&event.digest);
            let said = format!("{}: {}", entry.at, entry.what);
            self.cuts.insert(event.digest.clone(), said);
        }
        if self.verified.first.is_empty() {
            self.verified.first.clone_from(&entry.at);
        }
        self.verified.last.clone_from(&entry.at);
    }

    fn end(mut self) -> Verified {
        if let Some((before, place)) = self.before_all.take()
            && before != chain::NOTHING
        {
            let said = match self.cuts.get(&before) {
                Some(cut) => format!("the beginning was cut off by rule; {cut}"),
                None => format!(
                    "{place}: the first line that is here is not the first of all; what came before is not here, and no line says that it was removed by rule"
                ),
            };
            self.verified.note(said);
        }
        if self.found == Some(false) {
            self.verified.fault(format!(
                "no line has the digest {}: lines were cut off at the end, or all of them were made anew",
                self.digest
            ));
        }
        self.verified.digest_found = self.found;
        self.verified.last_digest = self.last.unwrap_or_default();
        self.verified
    }
}

impl Verified {
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
