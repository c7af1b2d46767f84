//! From the fields of the form to a query and back to rows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;
use serde::Deserialize;

use crate::control::{self, Find, FindKey, Request, Response};
use crate::dicom::Tag;
use crate::index::Values;
use crate::web::Site;
use crate::web::access::Caller;

/// Rows that are shown.
const SHOWN_MAX: u64 = 100;
/// Nobody looks longer at a page that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest value that is looked for, in characters: that of LO (PS3.5 6.2), which has the longest of these.
const LENGTH_MAX: usize = 64;

/// The form, as it was filled in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Search {
    pub patient_id: String,
    pub name: String,
    /// `YYYY-MM-DD` from a browser's calendar; also `YYYYMMDD`.
    pub from: String,
    pub to: String,
    pub modality: String,
    pub accession: String,
    pub description: String,
}

#[derive(Default)]
pub struct Found {
    pub studies: Vec<Values>,
    pub more: bool,
    /// What stands in the way of a complete answer.
    pub note: Option<String>,
    /// Nothing was looked for: what is wrong with the form, or the index.
    pub wrong: Option<String>,
}

impl Search {
    fn fields(&self) -> [&str; 7] {
        [
            &self.patient_id,
            &self.name,
            &self.from,
            &self.to,
            &self.modality,
            &self.accession,
            &self.description,
        ]
    }

    pub fn is_empty(&self) -> bool {
        self.fields().iter().all(|field| field.trim().is_empty())
    }

    /// The error is a sentence.
    fn find(&self) -> Result<Find, String> {
        let too_long = |field: &&str| field.chars().count() > LENGTH_MAX;
        if self.fields().iter().any(too_long) {
            return Err(format!(
                "more than {LENGTH_MAX} characters stand in a field; no value is that long"
            ));
        }
        let modality = self.modality.trim().to_uppercase();
        let asked = [
            (tags::PATIENT_ID, beginning(&self.patient_id)),
            (tags::PATIENT_NAME, self.name.trim().to_owned()),
            (tags::STUDY_DATE, dates(&self.from, &self.to)?),
            (tags::MODALITIES_IN_STUDY, modality),
            (tags::ACCESSION_NUMBER, beginning(&self.accession)),
            (tags::STUDY_DESCRIPTION, part(&self.description)),
        ];
        let only_shown = [
            tags::STUDY_TIME,
            tags::STUDY_INSTANCE_UID,
            tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
        ];
        let only_shown = only_shown.map(|tag| (tag, String::new()));
        Ok(Find {
            level: "STUDY".to_owned(),
            keys: asked.into_iter().chain(only_shown).map(key).collect(),
            fuzzy_names: true,
            most: SHOWN_MAX,
        })
    }
}

fn key((tag, value): (Tag, String)) -> FindKey {
    FindKey {
        tag: u32::from(tag.0) << 16 | u32::from(tag.1),
        value,
        items: Vec::new(),
    }
}

/// What begins with it, unless wildcards say otherwise.
fn beginning(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text if text.contains(['*', '?']) => text.to_owned(),
        text => format!("{text}*"),
    }
}

/// What it is a part of, unless wildcards say otherwise.
fn part(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text if text.contains(['*', '?']) => text.to_owned(),
        text => format!("*{text}*"),
    }
}

/// A range (PS3.4 C.2.2.2.5), open where nothing is said; the error is a sentence.
fn dates(from: &str, to: &str) -> Result<String, String> {
    let date = |text: &str| {
        let digits: String = text
            .trim()
            .chars()
            .filter(|c| !"-/.".contains(*c))
            .collect();
        let parsed = jiff::civil::Date::strptime("%Y%m%d", &digits);
        match digits.len() {
            0 => Ok(digits),
            8 if parsed.is_ok() => Ok(digits),
            _ => Err(format!(
                "{} is not a date; expected YYYY-MM-DD",
                text.trim()
            )),
        }
    };
    Ok(match (date(from)?, date(to)?) {
        (from, to) if from.is_empty() && to.is_empty() => String::new(),
        (from, to) => format!("{from}-{to}"),
    })
}

/// Ends the search when nobody waits for its answer: the next letter was typed.
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub async fn find(site: &Site, caller: &Caller, search: &Search) -> Found {
    let request = match search.find() {
        Ok(find) => Request::Find(find),
        Err(wrong) => {
            return Found {
                wrong: Some(wrong),
                ..Found::default()
            };
        }
    };
    let gone = Arc::new(AtomicBool::new(false));
    let _waits = Waits(gone.clone());
    let (desk, who) = (site.desk.clone(), caller.who.clone());
    let deadline = Instant::now() + PATIENCE;
    let work = move || {
        let mut found = Found::default();
        control::answer_each(&desk, &who, request, &mut |response| {
            take(&mut found, response);
            if gone.load(Ordering::Relaxed) || Instant::now() >= deadline {
                found.note.get_or_insert_with(|| TOO_LONG.to_owned());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        newest_first(&mut found.studies);
        found
    };
    site.blocking(work).await.unwrap_or_else(|wrong| Found {
        wrong: Some(wrong),
        ..Found::default()
    })
}

const TOO_LONG: &str =
    "the search was ended after 10 seconds; there may be more: say more of what you look for";

fn take(found: &mut Found, response: Response) {
    match response {
        Response::Matches(studies) => found.studies.extend(studies),
        Response::Found(end) => {
            found.more = end.more;
            found.note = (!end.complete).then_some(end.note);
        }
        Response::Failed { reason } => found.wrong = Some(reason),
        _ => {}
    }
}

fn newest_first(studies: &mut [Values]) {
    let when = |study: &Values| {
        let value = |tag| super::text(study, tag).to_owned();
        (value(tags::STUDY_DATE), value(tags::STUDY_TIME))
    };
    studies.sort_by_cached_key(|study| std::cmp::Reverse(when(study)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_beginning_or_a_part_unless_wildcards_say_otherwise() {
        assert_eq!(beginning(" 47 "), "47*");
        assert_eq!(beginning("4?7"), "4?7");
        assert_eq!(part("knee"), "*knee*");
        assert_eq!(part(" "), "");
    }

    #[test]
    fn dates_are_a_range_and_nonsense_is_refused() {
        assert_eq!(dates("", "").unwrap(), "");
        assert_eq!(dates("2026-01-02", "").unwrap(), "20260102-");
        assert_eq!(dates("", "2026/01/02").unwrap(), "-20260102");
        assert_eq!(dates("20260102", "20260103").unwrap(), "20260102-20260103");
        for nonsense in ["2026", "2026-13-01", "yesterday", "2026-01-0ä"] {
            assert!(dates(nonsense, "").is_err(), "{nonsense}");
        }
    }
}
