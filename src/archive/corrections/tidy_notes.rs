//! Notes to people that lie beside files that a correction moved, and in the folder of the tree that it emptied: who did
//! that, when, why, what became of them, and how it is taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};

use crate::index::{Copy, CorrectionRecord, Did, IndexError, Snapshot, Values};

use super::super::Archive;
use super::tidy::{Pass, study_folder_of};
use super::tidy_plan::{End, Fate, Place, last_line};

/// Corrections of which one note tells.
const SECTIONS_MAX: usize = 16;
/// Between two of them, and before the first.
const SEPARATOR: &str = "\n----------------------------------------\n";
/// Longest value that is shown, in characters.
const VALUE_LENGTH_MAX: usize = 200;
const TITLE: &str = "The images of this folder were corrected or removed. What Kura moved lies below superseded/ or trash/ on this disk.\n";

/// Volume id and folder of the tree.
type Folder = (String, String);

/// Folders that a pass came across.
#[derive(Default)]
pub struct Notes {
    seen: BTreeSet<Folder>,
    /// Where files lie that are hidden by the correction, and what is told of them.
    told: BTreeMap<(Folder, Place), ToldOf>,
}

#[derive(Clone)]
struct ToldOf {
    end: End,
    /// Where what is answered instead lies.
    became: Option<String>,
}

impl Notes {
    pub fn see(&mut self, copy: &Copy, fate: &Fate, became: Option<&Copy>) {
        let Some(folder) = study_folder_of(&copy.path) else {
            return;
        };
        let folder = (copy.volume_id.clone(), folder.to_owned());
        self.seen.insert(folder.clone());
        let Some(place) = fate.place.filter(|_| fate.by != 0) else {
            return;
        };
        let told = self.told.entry((folder, place)).or_insert(ToldOf {
            end: fate.end,
            became: None,
        });
        if told.became.is_none() {
            let became = became.and_then(|copy| study_folder_of(&copy.path));
            told.became = became.map(str::to_owned);
        }
    }

    /// A file was deleted.
    pub fn left(&mut self, copy: &Copy) {
        if let Some(folder) = study_folder_of(&copy.path) {
            let folder = (copy.volume_id.clone(), folder.to_owned());
            self.seen.insert(folder);
        }
    }
}

impl Archive {
    /// Writes the notes that are missing or say something else, and removes those of folders where nothing is left.
    pub(super) fn settle_notes(&self, pass: &mut Pass) -> Result<(), IndexError> {
        let notes = std::mem::take(&mut pass.notes);
        if notes.seen.is_empty() {
            return Ok(());
        }
        let snapshot = self.view()?.snapshot;
        let record = snapshot.correction(pass.number)?;
        for (folder, seen) in notes.seen.iter().map(|seen| (&seen.1, seen)) {
            let Some(volume) = self.can_tidy(&seen.0) else {
                continue;
            };
            let mut says = None;
            for place in [Place::Superseded, Place::Trash] {
                let there = place.path(folder);
                if volume.is_emptied(&there) {
                    volume.remove_note(&there);
                    continue;
                }
                let before = volume.note(&there);
                let told = notes.told.get(&(seen.clone(), place));
                let section = told.zip(record.as_ref());
                let section = section.map(|(told, record)| section_of(record, told));
                let text = note(section, before.as_deref(), &snapshot)?;
                if before.as_ref() != Some(&text)
                    && let Err(error) = volume.write_note(&there, &text)
                {
                    tracing::warn!(volume = volume.name(), %error, "a note was not written");
                }
                says = Some(text);
            }
            // A folder that has images speaks for itself.
            match says.filter(|_| volume.is_emptied(folder)) {
                Some(text) if volume.note(folder).as_ref() == Some(&text) => {}
                Some(text) => {
                    if let Err(error) = volume.write_note(folder, &text) {
                        tracing::warn!(volume = volume.name(), %error, "a note was not written");
                    }
                }
                None => volume.remove_note(folder),
            }
        }
        Ok(())
    }
}

/// The section of a correction, and those of others that are as they were.
fn note(
    section: Option<String>,
    before: Option<&str>,
    snapshot: &Snapshot,
) -> Result<String, IndexError> {
    let mut sections: Vec<String> = section.into_iter().collect();
    let first = sections.first().map(|section| heading(section).to_owned());
    let old = before.map(|text| text.split(SEPARATOR).skip(1));
    for section in old.into_iter().flatten() {
        let heading = heading(section);
        let number = heading.split([' ', ':']).nth(1);
        let number = number.and_then(|digits| digits.parse::<u64>().ok());
        let is_same = |first: &String| number_of(first) == number_of(heading);
        if sections.len() == SECTIONS_MAX || first.as_ref().is_some_and(is_same) {
            continue;
        }
        // One that was taken back, or put in effect again, says something else by now.
        if let Some(number) = number
            && let Some(record) = snapshot.correction(number)?
            && heading == heading_of(&record)
        {
            sections.push(section.to_owned());
        }
    }
    let mut text = TITLE.to_owned();
    for section in sections {
        text.push_str(SEPARATOR);
        text.push_str(&section);
    }
    Ok(text)
}

fn heading(section: &str) -> &str {
    section.lines().next().unwrap_or_default()
}

fn number_of(heading: &str) -> Option<&str> {
    heading.split([' ', ':']).nth(1)
}

fn heading_of(record: &CorrectionRecord) -> String {
    let did = match (record.facts.did, record.in_effect) {
        (Did::Amended, true) => "amended",
        (Did::Amended, false) => "an amendment, taken back",
        (Did::Removed, true) => "removed",
        (Did::Discarded, true) => "not kept, of two that had one UID",
        _ => "taken back",
    };
    format!("Correction {}: {did}", record.number)
}

fn section_of(record: &CorrectionRecord, told: &ToldOf) -> String {
    let facts = &record.facts;
    let mut text = heading_of(record) + "\n";
    let mut say = |name: &str, what: &str| {
        if !what.is_empty() {
            let _ = writeln!(text, "{name:<9}{what}");
        }
    };
    say("when", &facts.at);
    say("who", &plain(&facts.who));
    say("why", &plain(&facts.why));
    say("by", &plain(&facts.way));
    say("study", &facts.studies.join(", "));
    say("before", &values(&facts.before));
    say("after", &values(&facts.after));
    if let Some(became) = &told.became {
        say("now at", became);
    }
    let number = record.number;
    let back = match (facts.did, record.in_effect) {
        (Did::Amended, true) => format!("kura amend --undo --number {number} --reason TEXT"),
        (Did::Removed, true) => format!("kura trash restore {number}"),
        (Did::Discarded, true) => format!("kura conflicts undo {number}"),
        _ => String::new(),
    };
    let last = last_line(record);
    if !record.in_effect {
        say("undone", &last.at);
        say("undone by", &plain(&last.who));
    }
    say("undo", &back);
    match told.end {
        End::At(at) => {
            let day = at.strftime("%Y-%m-%d").to_string();
            say("deleted", &format!("{day} UTC, or later"));
        }
        End::Now => say("deleted", "soon"),
        End::Never => say("deleted", "never"),
    }
    text
}

/// Attributes by their keywords of PS3.6.
fn values(values: &Values) -> String {
    let named = values.iter().map(|(tag, value)| {
        let tag = dicom_core::Tag((tag >> 16) as u16, *tag as u16);
        let entry = dicom_dictionary_std::StandardDataDictionary.by_tag(tag);
        let name = entry.map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned());
        format!("{name} {}", plain(value))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// In one line, and not longer than a person reads.
fn plain(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(VALUE_LENGTH_MAX).collect()
}
