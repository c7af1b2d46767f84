//! `kura dump`: the tags of a file, as far as they can be read safely.

use std::path::PathBuf;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;

use super::output;
use super::{End, Failure};
use crate::dicom::part10;
use crate::dicom::scan::{Scanner, Wanted};
use crate::volume::Disk;

#[derive(clap::Args)]
pub struct Dump {
    /// A DICOM file
    file: PathBuf,
}

/// Longest value shown on the screen, characters.
const SHOWN_MAX: usize = 80;

pub fn run(verb: &Dump, json: bool) -> Result<End, Failure> {
    let name = verb.file.display();
    let mut file = Disk::default()
        .open_read(&verb.file)
        .map_err(|error| format!("{name}: {error}"))?;
    let size = file.len()?;
    let (meta, data_offset) =
        part10::read_meta(&mut file).map_err(|error| format!("{name}: {error}"))?;
    let mut scanner = Scanner::new(&meta.transfer_syntax, Wanted::All);
    let mut buffer = vec![0; 256 << 10];
    let mut at = data_offset;
    while at < size {
        let count = buffer.len().min((size - at) as usize);
        file.read_exact_at(&mut buffer[..count], at)?;
        scanner
            .feed(&buffer[..count])
            .map_err(|error| format!("{name}: {error}"))?;
        at += count as u64;
    }
    let attributes = scanner
        .finish()
        .map_err(|error| format!("{name}: {error}"))?;
    let mut rows = Vec::new();
    for (tag, vr, raw) in attributes.iter() {
        let known = StandardDataDictionary.by_tag(tag);
        let keyword = known.map_or_else(String::new, |entry| entry.alias().to_owned());
        let text = attributes.text(tag).unwrap_or_default();
        rows.push((tag, vr.to_string().to_owned(), raw.len(), keyword, text));
    }
    if json {
        let elements: Vec<_> = rows
            .iter()
            .map(|(tag, vr, length, keyword, text)| {
                serde_json::json!({ "tag": format!("{:04X}{:04X}", tag.group(), tag.element()), "vr": vr,
                    "length": length, "keyword": keyword, "value": text })
            })
            .collect();
        output::json(&serde_json::json!({
            "version": 1, "sop_class_uid": meta.sop_class_uid, "sop_instance_uid": meta.sop_instance_uid,
            "transfer_syntax": meta.transfer_syntax, "source_ae_title": meta.source_ae_title,
            "data_set_offset": data_offset, "size_bytes": size, "elements": elements,
        }));
        return Ok(End::Ok);
    }
    let mut screen = format!(
        "transfer syntax  {}\nsource AE title  {}\ndata set         {} at offset {data_offset}\n",
        output::plain(&meta.transfer_syntax),
        output::plain(&meta.source_ae_title),
        output::bytes(size - data_offset)
    );
    for (tag, vr, length, keyword, text) in rows {
        let shown: String = output::plain(&text).chars().take(SHOWN_MAX).collect();
        screen.push_str(&format!("{tag} {vr} {keyword:32} [{shown}] {length}\n"));
    }
    output::line(&screen);
    Ok(End::Ok)
}
