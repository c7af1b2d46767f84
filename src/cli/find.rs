//! `kura find`: search the archive from the shell.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::output;
use super::{End, Failure};
use crate::config::Config;
use crate::control::{Request, Response};
use crate::dicom::Tag;

#[derive(clap::Args)]
pub struct Find {
    /// What to search by: KEYWORD=VALUE, such as PatientID=1234, PatientName=YAMADA*, StudyDate=20260101-20260131
    keys: Vec<String>,
    /// patient, study, series or image
    #[arg(long, default_value = "study")]
    level: String,
    /// Matches shown at most
    #[arg(long, default_value_t = 1_000)]
    most: usize,
}

pub fn run(verb: &Find, config: &Config, json: bool) -> Result<End, Failure> {
    let mut keys: Vec<(u32, String)> = Vec::new();
    for text in &verb.keys {
        let (keyword, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text}: expected KEYWORD=VALUE"))?;
        let entry = StandardDataDictionary.by_name(keyword).ok_or_else(|| {
            format!("{keyword} is not a DICOM keyword, such as PatientID or StudyDate")
        })?;
        keys.push((key(entry.tag()), value.to_owned()));
    }
    let columns: &[(&str, Tag)] = match verb.level.to_ascii_lowercase().as_str() {
        "patient" => &[
            ("PATIENT ID", tags::PATIENT_ID),
            ("NAME", tags::PATIENT_NAME),
            ("STUDIES", tags::NUMBER_OF_PATIENT_RELATED_STUDIES),
        ],
        "study" => &[
            ("DATE", tags::STUDY_DATE),
            ("PATIENT ID", tags::PATIENT_ID),
            ("NAME", tags::PATIENT_NAME),
            ("MODALITIES", tags::MODALITIES_IN_STUDY),
            ("INSTANCES", tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
            ("STUDY INSTANCE UID", tags::STUDY_INSTANCE_UID),
        ],
        "series" => &[
            ("MODALITY", tags::MODALITY),
            ("NUMBER", tags::SERIES_NUMBER),
            ("DESCRIPTION", tags::SERIES_DESCRIPTION),
            ("INSTANCES", tags::NUMBER_OF_SERIES_RELATED_INSTANCES),
            ("SERIES INSTANCE UID", tags::SERIES_INSTANCE_UID),
        ],
        _ => &[
            ("NUMBER", tags::INSTANCE_NUMBER),
            ("SOP INSTANCE UID", tags::SOP_INSTANCE_UID),
        ],
    };
    for (_, tag) in columns {
        if !keys.iter().any(|(known, _)| *known == key(*tag)) {
            keys.push((key(*tag), String::new()));
        }
    }
    let request = Request::Find {
        level: verb.level.to_ascii_uppercase(),
        keys,
        most: verb.most,
    };
    let (matches, complete, note) = match super::ask(config, request)?.0 {
        Response::Found {
            matches,
            complete,
            note,
        } => (matches, complete, note),
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    if json {
        let rows: Vec<serde_json::Value> = matches
            .iter()
            .map(|values| {
                values
                    .iter()
                    .map(|(tag, value)| (keyword(*tag), serde_json::Value::from(value.clone())))
                    .collect()
            })
            .collect();
        output::json(
            &serde_json::json!({ "version": 1, "complete": complete, "note": note, "matches": rows }),
        );
    } else {
        let header: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let cell = |values: &crate::index::Values, tag| {
            output::plain(values.get(&key(tag)).map_or("", String::as_str))
        };
        let rows: Vec<Vec<String>> = matches
            .iter()
            .map(|values| columns.iter().map(|(_, tag)| cell(values, *tag)).collect())
            .collect();
        output::line(&format!(
            "{} found\n{}",
            matches.len(),
            output::table(&header, &rows)
        ));
        if !complete {
            eprintln!("warning: {note}");
        }
    }
    Ok(if complete { End::Ok } else { End::Degraded })
}

fn key(tag: Tag) -> u32 {
    (u32::from(tag.group()) << 16) | u32::from(tag.element())
}

pub fn keyword(tag: u32) -> String {
    let tag = Tag((tag >> 16) as u16, tag as u16);
    StandardDataDictionary
        .by_tag(tag)
        .map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned())
}
