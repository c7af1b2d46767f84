//! Looking for lines of the journal: the newest first, a block of a file at a time.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::writing::{FOLDER, day_of, file_name, local_day};
use super::{Direction, Transfer, severity};
use crate::volume::backwards::{Backwards, Line};
use crate::volume::io::Disk;

/// A longer line is not ours, bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
const NAMES_MAX: usize = 100_000;

/// Which lines; everything must fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Each is somewhere in the line; case does not count.
    pub words: Vec<String>,
    /// AE title or address; case does not count.
    pub peer: Option<String>,
    pub study: Option<String>,
    pub direction: Option<Direction>,
    /// Only where something failed.
    pub failed: bool,
    /// RFC 3339, this moment included.
    pub since: Option<String>,
    /// RFC 3339, this moment excluded.
    pub until: Option<String>,
    /// Lines that are wanted at most; 0: all.
    pub most: u64,
}

/// How a search ended, after all it gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SearchEnd {
    /// There are more than were wanted.
    pub more: bool,
    /// Lines, or whole files, that were passed over because they cannot be read.
    pub damaged_count: u64,
}

/// In a state folder, whether or not a server runs on it. Gives each line, the newest first, until `give` breaks.
pub fn search(
    state: &Path,
    wanted: &Wanted,
    give: &mut dyn FnMut(Transfer) -> ControlFlow<()>,
) -> Result<SearchEnd, String> {
    search_in(&state.join(FOLDER), wanted, give)
}

pub(super) fn search_in(
    folder: &Path,
    wanted: &Wanted,
    give: &mut dyn FnMut(Transfer) -> ControlFlow<()>,
) -> Result<SearchEnd, String> {
    let disk = Disk::default();
    let filter = Filter::new(wanted)?;
    let mut end = SearchEnd::default();
    let mut days: Vec<Date> = match disk.list(folder, NAMES_MAX) {
        Ok(names) => names.iter().filter_map(|n| day_of(n.to_str()?)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(end),
        Err(error) => return Err(format!("{}: {error}", folder.display())),
    };
    days.retain(|day| filter.may_be_on(*day));
    days.sort_by_key(|day| std::cmp::Reverse(*day));
    let mut count = 0;
    for day in days {
        let Ok(mut lines) = Backwards::open(&disk, &folder.join(file_name(day)), LINE_BYTES_MAX)
        else {
            end.damaged_count += 1;
            continue;
        };
        loop {
            let line = match lines.line_before() {
                Ok(None) => break,
                Ok(Some(Line::Text(line))) => line,
                Ok(Some(Line::TooLong)) => {
                    end.damaged_count += 1;
                    continue;
                }
                Err(_) => {
                    end.damaged_count += 1;
                    break;
                }
            };
            if line.is_empty() {
                continue;
            }
            let Ok(transfer) = serde_json::from_slice::<Transfer>(&line) else {
                end.damaged_count += 1;
                continue;
            };
            if !filter.takes(&transfer) {
                continue;
            }
            if wanted.most > 0 && count == wanted.most {
                end.more = true;
                return Ok(end);
            }
            count += 1;
            if give(transfer).is_break() {
                return Ok(end);
            }
        }
    }
    Ok(end)
}

struct Filter<'a> {
    wanted: &'a Wanted,
    /// Folded.
    words: Vec<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter<'_> {
    fn new(wanted: &Wanted) -> Result<Filter<'_>, String> {
        let moment = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                let moment = text.parse::<Timestamp>();
                moment
                    .map(Some)
                    .map_err(|_| format!("{text:?} is no moment; such as 2026-01-31T08:00:00Z"))
            }
        };
        Ok(Filter {
            wanted,
            words: wanted.words.iter().map(|w| w.to_lowercase()).collect(),
            since: moment(&wanted.since)?,
            until: moment(&wanted.until)?,
        })
    }

    /// The time zone may have been another one when a file was written.
    fn may_be_on(&self, day: Date) -> bool {
        let near = |moment: &Timestamp| local_day(&moment.to_string());
        let after = |since: &Timestamp| day >= near(since).yesterday().unwrap_or(Date::MIN);
        let before = |until: &Timestamp| day <= near(until).tomorrow().unwrap_or(Date::MAX);
        self.since.as_ref().is_none_or(after) && self.until.as_ref().is_none_or(before)
    }

    fn takes(&self, transfer: &Transfer) -> bool {
        let wanted = self.wanted;
        let fits = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| match wanted {
            Some(text) => is(text),
            None => true,
        };
        let peer = |text: &str| {
            transfer.peer.eq_ignore_ascii_case(text) || transfer.address.eq_ignore_ascii_case(text)
        };
        fits(&wanted.peer, &peer)
            && fits(&wanted.study, &|text| transfer.study_instance_uid == text)
            && wanted.direction.is_none_or(|one| one == transfer.direction)
            && (!wanted.failed || transfer.failed_count > 0 || severity(transfer.status) == 2)
            && self.is_in_time(transfer)
            && self.has_words(transfer)
    }

    fn is_in_time(&self, transfer: &Transfer) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Ok(at) = transfer.at.parse::<Timestamp>() else {
            return false;
        };
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    fn has_words(&self, transfer: &Transfer) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let text = format!(
            "{} {} {} {} {} {:04x}h {}",
            transfer.at,
            transfer.direction.as_str(),
            transfer.peer,
            transfer.address,
            transfer.study_instance_uid,
            transfer.status,
            transfer.reason
        )
        .to_lowercase();
        self.words.iter().all(|word| text.contains(word))
    }
}
