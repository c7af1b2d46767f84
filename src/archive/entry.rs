//! The lines of the ledger: JSON text from facts, and facts from JSON text.
//!
//! Three kinds of line carry one stored instance. `study` and `series` lines hold what all their instances share and are
//! written once a segment; the `stored` line names both. A `gone` line takes one file back, a `bad` line says that it is not
//! what it should be, an `attributes` line adds what was found in it later. A `correction` line puts the `ruled` lines with its number, and what was stored `by` it, in or out of
//! effect. `storage-layout.md` shows each with all of its fields. Lines and fields of later versions are passed over.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::arrived::Arrival;
use crate::index::{
    Bad, Change, ContentId, Copy, Correction, CorrectionFacts, Filled, Gone, InstanceFacts, Origin,
    Ruling, SeriesFacts, Stored, StudyFacts, Values, Verdict,
};
use crate::volume::layout;

#[derive(Serialize, Deserialize)]
struct StudyLine {
    study: String,
    /// For the lines of that correction only.
    #[serde(default, skip_serializing_if = "is_zero")]
    by: u64,
    date: String,
    #[serde(with = "hex_keys")]
    values: Values,
}

#[derive(Serialize, Deserialize)]
struct SeriesLine {
    series: String,
    of: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    by: u64,
    folder: String,
    #[serde(with = "hex_keys")]
    values: Values,
}

#[derive(Serialize, Deserialize)]
struct StoredLine {
    seq: u64,
    at: String,
    /// When this copy was made of another; `at` is when the instance was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copied: Option<String>,
    stored: String,
    of: [String; 2],
    class: String,
    syntax: String,
    /// Only when it is not the name that the SOP Instance UID gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Offset of the data set in the file, bytes.
    head: u64,
    size: u64,
    crc32: String,
    file_crc32: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    from: String,
    /// The correction that made it.
    #[serde(default, skip_serializing_if = "is_zero")]
    by: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    newest: bool,
    /// Length and CRC-32 of the data set as it was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<(u64, String)>,
    #[serde(with = "hex_keys")]
    values: Values,
}

#[derive(Serialize, Deserialize)]
struct GoneLine {
    seq: u64,
    #[serde(default)]
    at: String,
    gone: String,
    path: String,
    #[serde(default)]
    why: String,
}

#[derive(Serialize, Deserialize)]
struct BadLine {
    seq: u64,
    #[serde(default)]
    at: String,
    bad: String,
    path: String,
    #[serde(default)]
    why: String,
}

#[derive(Serialize, Deserialize)]
struct RuledLine {
    seq: u64,
    #[serde(default)]
    at: String,
    ruled: String,
    by: u64,
    verdict: Verdict,
    syntax: String,
    /// Of the data set, bytes.
    length: u64,
    crc32: String,
}

#[derive(Serialize, Deserialize)]
struct CorrectionLine {
    seq: u64,
    correction: u64,
    in_effect: bool,
    #[serde(flatten)]
    facts: CorrectionLineFacts,
}

#[derive(Serialize, Deserialize)]
struct CorrectionLineFacts {
    at: String,
    did: crate::index::Did,
    #[serde(default)]
    who: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    way: String,
    #[serde(default)]
    level: String,
    #[serde(default)]
    of: Vec<String>,
    #[serde(default)]
    studies: Vec<String>,
    #[serde(default)]
    instances: u64,
    #[serde(default, with = "hex_keys")]
    before: Values,
    #[serde(default, with = "hex_keys")]
    after: Values,
}

/// What was found in a file when it was looked at for keys that were configured later.
#[derive(Serialize, Deserialize)]
struct AttributesLine {
    seq: u64,
    #[serde(default)]
    at: String,
    /// SOP Instance UID.
    attributes: String,
    path: String,
    of: [String; 2],
    #[serde(default, skip_serializing_if = "is_zero")]
    by: u64,
    #[serde(default, skip_serializing_if = "Values::is_empty", with = "hex_keys")]
    study: Values,
    #[serde(default, skip_serializing_if = "Values::is_empty", with = "hex_keys")]
    series: Values,
    #[serde(default, skip_serializing_if = "Values::is_empty", with = "hex_keys")]
    values: Values,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn crc_of(hex: &str) -> Result<u32, String> {
    u32::from_str_radix(hex, 16).map_err(|error| format!("crc32 {hex:?}: {error}"))
}

/// Attribute tags as eight hexadecimal digits, as the standard's tables print them.
mod hex_keys {
    use super::Values;
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &Values, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            values
                .iter()
                .map(|(tag, value)| (format!("{tag:08X}"), value)),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        deserializer.deserialize_map(HexKeys)
    }

    struct HexKeys;

    impl<'de> Visitor<'de> for HexKeys {
        type Value = Values;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("values by tag")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
            let mut values = Values::new();
            while let Some(tag) = map.next_key::<std::borrow::Cow<str>>()? {
                let tag = u32::from_str_radix(&tag, 16).map_err(A::Error::custom)?;
                values.insert(tag, map.next_value()?);
            }
            Ok(values)
        }
    }
}

/// The lines of one stored instance: those to be written once a segment (with their keys), and its own.
///
/// `copied`: for a copy of a file on another volume, when it was made, RFC 3339. It keeps the sequence, the time of
/// receipt and the sender of that file: what is answered is then the same when the other file goes.
pub fn lines(
    stored: &Stored,
    volume_id: &str,
    copied: Option<&str>,
) -> (Vec<(u64, String)>, String) {
    debug_assert_eq!(stored.instance.copy.volume_id, volume_id);
    let study = &stored.study;
    let series = &stored.series;
    let instance = &stored.instance;
    let once = [
        text(&StudyLine {
            study: study.study_instance_uid.clone(),
            by: instance.origin.by,
            date: study.date_folder.clone(),
            values: study.values.clone(),
        }),
        text(&SeriesLine {
            series: series.series_instance_uid.clone(),
            of: series.study_instance_uid.clone(),
            by: instance.origin.by,
            folder: series.folder.clone(),
            values: series.values.clone(),
        }),
    ];
    let once = once.into_iter().map(|line| (key(&line), line)).collect();
    let usual = format!(
        "{}/{}",
        series.folder,
        layout::file_name(&instance.sop_instance_uid)
    );
    let line = text(&StoredLine {
        seq: instance.sequence,
        at: instance.received.clone(),
        copied: copied.map(str::to_owned),
        stored: instance.sop_instance_uid.clone(),
        of: [
            study.study_instance_uid.clone(),
            series.series_instance_uid.clone(),
        ],
        class: instance.sop_class_uid.clone(),
        syntax: instance.transfer_syntax.clone(),
        file: (instance.copy.path != usual).then(|| instance.copy.path.clone()),
        head: instance.copy.data_offset,
        size: instance.copy.size_bytes,
        crc32: format!("{:08x}", instance.copy.crc32),
        file_crc32: format!("{:08x}", instance.copy.file_crc32),
        from: instance.source_ae_title.clone(),
        by: instance.origin.by,
        newest: instance.origin.newest,
        was: (instance.origin.was).map(|(length, crc32)| (length, format!("{crc32:08x}"))),
        values: instance.values.clone(),
    });
    (once, line)
}

/// The line that takes a file back. `at`: now, RFC 3339; `why`: one word for people (`moved`).
pub fn gone_line(gone: &Gone, at: &str, why: &str) -> String {
    text(&GoneLine {
        seq: gone.sequence,
        at: at.to_owned(),
        gone: gone.sop_instance_uid.clone(),
        path: gone.path.clone(),
        why: why.to_owned(),
    })
}

/// The line that says that a file is not what its `stored` line says. `at`: now, RFC 3339; `why`: words for people.
pub fn bad_line(bad: &Bad, at: &str, why: &str) -> String {
    text(&BadLine {
        seq: bad.sequence,
        at: at.to_owned(),
        bad: bad.sop_instance_uid.clone(),
        path: bad.path.clone(),
        why: why.to_owned(),
    })
}

/// The line of a ruling. `at`: now, RFC 3339.
pub fn ruling_line(ruling: &Ruling, at: &str) -> String {
    text(&RuledLine {
        seq: ruling.sequence,
        at: at.to_owned(),
        ruled: ruling.sop_instance_uid.clone(),
        by: ruling.by,
        verdict: ruling.verdict,
        syntax: ruling.content.transfer_syntax.clone(),
        length: ruling.content.data_bytes,
        crc32: format!("{:08x}", ruling.content.crc32),
    })
}

/// The line that puts a correction in or out of effect.
pub fn correction_line(correction: &Correction) -> String {
    let facts = correction.facts.clone();
    text(&CorrectionLine {
        seq: correction.sequence,
        correction: correction.number,
        in_effect: correction.in_effect,
        facts: CorrectionLineFacts {
            at: facts.at,
            did: facts.did,
            who: facts.who,
            why: facts.why,
            way: facts.way,
            level: facts.level,
            of: facts.of,
            studies: facts.studies,
            instances: facts.instances_count,
            before: facts.before,
            after: facts.after,
        },
    })
}

/// The line of values that were found later. `at`: now, RFC 3339.
pub fn attributes_line(filled: &Filled, at: &str) -> String {
    text(&AttributesLine {
        seq: filled.sequence,
        at: at.to_owned(),
        attributes: filled.sop_instance_uid.clone(),
        path: filled.path.clone(),
        of: [
            filled.study_instance_uid.clone(),
            filled.series_instance_uid.clone(),
        ],
        by: filled.by,
        study: filled.study.clone(),
        series: filled.series.clone(),
        values: filled.values.clone(),
    })
}

/// What a `stored` line says of its file, for who looks its path up in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMark {
    pub sop_instance_uid: String,
    pub size: u64,
    pub file_crc32: u32,
    /// It was copied from another volume.
    pub is_copy: bool,
}

/// `None` for every other line.
pub fn stored_of(json: &str) -> Option<StoredMark> {
    #[derive(Deserialize)]
    struct Mark {
        #[serde(default)]
        copied: Option<serde::de::IgnoredAny>,
        stored: String,
        size: u64,
        file_crc32: String,
    }
    if !json.starts_with("{\"seq\":") {
        return None;
    }
    let line: Mark = serde_json::from_str(json).ok()?;
    Some(StoredMark {
        sop_instance_uid: line.stored,
        size: line.size,
        file_crc32: u32::from_str_radix(&line.file_crc32, 16).ok()?,
        is_copy: line.copied.is_some(),
    })
}

/// What a `stored` line says that is no copy of another file, and that no correction made.
pub fn received_of(json: &str) -> Option<Arrival> {
    #[derive(Deserialize)]
    struct Mark {
        seq: u64,
        #[serde(default)]
        copied: Option<serde::de::IgnoredAny>,
        stored: String,
        head: u64,
        size: u64,
        crc32: String,
        #[serde(default)]
        by: u64,
    }
    if !json.starts_with("{\"seq\":") {
        return None;
    }
    let line: Mark = serde_json::from_str(json).ok()?;
    let crc32 = u32::from_str_radix(&line.crc32, 16).ok()?;
    (line.copied.is_none() && line.by == 0).then_some(Arrival {
        sequence: line.seq,
        sop_instance_uid: line.stored,
        data_bytes: line.size.saturating_sub(line.head),
        crc32,
    })
}

/// As [`stored_of`], with the path that the line gives; empty where it is the one that folder and UID give.
pub fn listed_of(json: &str) -> Option<(StoredMark, String)> {
    #[derive(Deserialize)]
    struct Path {
        #[serde(default)]
        file: String,
    }
    let mark = stored_of(json)?;
    let line: Path = serde_json::from_str(json).ok()?;
    Some((mark, line.file))
}

/// SOP Instance UID and path of a `gone` line.
pub fn gone_of(json: &str) -> Option<(String, String)> {
    let line: GoneLine = serde_json::from_str(json).ok()?;
    Some((line.gone, line.path))
}

/// As [`gone_of`], of lines that give this reason.
pub fn gone_because(json: &str, why: &str) -> Option<(String, String)> {
    let line: GoneLine = serde_json::from_str(json).ok()?;
    (line.why == why).then_some((line.gone, line.path))
}

/// Names a line while the process lives; two lines with one key would cost a line that a reader misses, so 64 bits.
fn key(line: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

fn text<T: Serialize>(line: &T) -> String {
    serde_json::to_string(line).expect("strings and numbers always serialize")
}

/// Turns the lines of one ledger back into changes, in order.
pub struct Reader {
    volume_id: String,
    /// By the correction whose lines they are for, too.
    studies: HashMap<(String, u64), Arc<StudyFacts>>,
    series: HashMap<([String; 2], u64), Arc<SeriesFacts>>,
}

/// Facts that an earlier line holds, for a reader that began after it.
pub trait Known {
    fn study(&self, study_instance_uid: &str, by: u64) -> Option<StudyFacts>;
    fn series(&self, study: &str, series_instance_uid: &str, by: u64) -> Option<SeriesFacts>;
}

impl Reader {
    pub fn new(volume_id: &str) -> Self {
        Reader {
            volume_id: volume_id.to_owned(),
            studies: HashMap::new(),
            series: HashMap::new(),
        }
    }

    /// To be called where a segment begins: it says again what its lines need, so no more than a segment's studies and
    /// series are kept.
    pub fn forget(&mut self) {
        self.studies.clear();
        self.series.clear();
    }

    /// `Ok(None)`: a line that changes nothing by itself, or of a kind that this version does not know. `Err`: what is
    /// wrong with the line.
    pub fn line(&mut self, json: &str, known: &dyn Known) -> Result<Option<Change>, String> {
        if json.starts_with("{\"seq\":") {
            return match serde_json::from_str(json) {
                Ok(line) => Ok(Some(Change::Stored(self.stored(line, known)?))),
                Err(error) => self.not_stored(json, &error.to_string()),
            };
        }
        if json.starts_with("{\"study\":") {
            let line: StudyLine = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let facts = StudyFacts {
                study_instance_uid: line.study.clone(),
                date_folder: line.date,
                values: line.values,
            };
            self.studies.insert((line.study, line.by), Arc::new(facts));
        } else if json.starts_with("{\"series\":") {
            let line: SeriesLine = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let facts = SeriesFacts {
                series_instance_uid: line.series.clone(),
                study_instance_uid: line.of.clone(),
                folder: line.folder,
                values: line.values,
            };
            let key = ([line.of, line.series], line.by);
            self.series.insert(key, Arc::new(facts));
        }
        Ok(None)
    }

    /// A line with a number that is no `stored` line, by the member that says its kind.
    fn not_stored(&self, json: &str, error: &str) -> Result<Option<Change>, String> {
        #[derive(Deserialize)]
        struct Kind {
            stored: Option<serde::de::IgnoredAny>,
            gone: Option<serde::de::IgnoredAny>,
            bad: Option<serde::de::IgnoredAny>,
            ruled: Option<serde::de::IgnoredAny>,
            correction: Option<serde::de::IgnoredAny>,
            attributes: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if kind.ruled.is_some() {
            return ruling_of(json).map(|ruling| Some(Change::Ruling(ruling)));
        }
        if kind.attributes.is_some() && kind.stored.is_none() {
            let line: AttributesLine =
                serde_json::from_str(json).map_err(|error| error.to_string())?;
            let [study_instance_uid, series_instance_uid] = line.of;
            return Ok(Some(Change::Filled(Box::new(Filled {
                sequence: line.seq,
                sop_instance_uid: line.attributes,
                volume_id: self.volume_id.clone(),
                path: line.path,
                study_instance_uid,
                series_instance_uid,
                by: line.by,
                study: line.study,
                series: line.series,
                values: line.values,
            }))));
        }
        if kind.correction.is_some() {
            let correction = correction_of(json, &self.volume_id)?;
            return Ok(Some(Change::Correction(Box::new(correction))));
        }
        match (kind.stored, kind.gone, kind.bad) {
            (Some(_), ..) => Err(error.to_owned()),
            (None, Some(_), _) => {
                let line: GoneLine =
                    serde_json::from_str(json).map_err(|error| error.to_string())?;
                Ok(Some(Change::Gone(Gone {
                    sequence: line.seq,
                    sop_instance_uid: line.gone,
                    volume_id: self.volume_id.clone(),
                    path: line.path,
                })))
            }
            (None, None, Some(_)) => {
                let line: BadLine =
                    serde_json::from_str(json).map_err(|error| error.to_string())?;
                Ok(Some(Change::Bad(Bad {
                    sequence: line.seq,
                    sop_instance_uid: line.bad,
                    volume_id: self.volume_id.clone(),
                    path: line.path,
                })))
            }
            (None, None, None) => Ok(None),
        }
    }

    fn stored(&mut self, line: StoredLine, known: &dyn Known) -> Result<Stored, String> {
        let [study_uid, series_uid] = &line.of;
        let study_key = (study_uid.clone(), line.by);
        if !self.studies.contains_key(&study_key) {
            let facts = known
                .study(study_uid, line.by)
                .ok_or_else(|| format!("study {study_uid} has no line before it"))?;
            self.studies.insert(study_key.clone(), Arc::new(facts));
        }
        let series_key = (line.of.clone(), line.by);
        if !self.series.contains_key(&series_key) {
            let facts = known
                .series(study_uid, series_uid, line.by)
                .ok_or_else(|| format!("series {series_uid} has no line before it"))?;
            self.series.insert(series_key.clone(), Arc::new(facts));
        }
        let study = self.studies[&study_key].clone();
        let series = self.series[&series_key].clone();
        let was = match line.was {
            Some((length, hex)) => Some((length, crc_of(&hex)?)),
            None => None,
        };
        let path = match line.file {
            Some(path) => path,
            None => format!("{}/{}", series.folder, layout::file_name(&line.stored)),
        };
        if line.head > line.size {
            return Err(format!("head {} beyond size {}", line.head, line.size));
        }
        Ok(Stored {
            study,
            series,
            instance: InstanceFacts {
                sequence: line.seq,
                sop_instance_uid: line.stored,
                sop_class_uid: line.class,
                transfer_syntax: line.syntax,
                values: line.values,
                received: line.at,
                source_ae_title: line.from,
                origin: Origin {
                    by: line.by,
                    newest: line.newest,
                    was,
                },
                copy: Copy {
                    volume_id: self.volume_id.clone(),
                    path,
                    data_offset: line.head,
                    size_bytes: line.size,
                    crc32: crc_of(&line.crc32)?,
                    file_crc32: crc_of(&line.file_crc32)?,
                    bad: false,
                },
            },
        })
    }
}

fn ruling_of(json: &str) -> Result<Ruling, String> {
    let line: RuledLine = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(Ruling {
        sequence: line.seq,
        by: line.by,
        sop_instance_uid: line.ruled,
        content: ContentId {
            transfer_syntax: line.syntax,
            data_bytes: line.length,
            crc32: crc_of(&line.crc32)?,
        },
        verdict: line.verdict,
    })
}

fn correction_of(json: &str, volume_id: &str) -> Result<Correction, String> {
    let line: CorrectionLine = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let facts = line.facts;
    Ok(Correction {
        sequence: line.seq,
        number: line.correction,
        in_effect: line.in_effect,
        facts: CorrectionFacts {
            at: facts.at,
            did: facts.did,
            who: facts.who,
            why: facts.why,
            way: facts.way,
            level: facts.level,
            of: facts.of,
            studies: facts.studies,
            instances_count: facts.instances,
            before: facts.before,
            after: facts.after,
        },
        volume_id: volume_id.to_owned(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    struct Nothing;
    impl Known for Nothing {
        fn study(&self, _: &str, _: u64) -> Option<StudyFacts> {
            None
        }
        fn series(&self, _: &str, _: &str, _: u64) -> Option<SeriesFacts> {
            None
        }
    }

    pub fn stored() -> Stored {
        let values =
            |pairs: &[(u32, &str)]| pairs.iter().map(|(tag, v)| (*tag, v.to_string())).collect();
        Stored {
            study: Arc::new(StudyFacts {
                study_instance_uid: "1.2".into(),
                date_folder: "20260115".into(),
                values: values(&[(0x0010_0010, "Yamada^Tarou=山田^太郎")]),
            }),
            series: Arc::new(SeriesFacts {
                series_instance_uid: "1.2.3".into(),
                study_instance_uid: "1.2".into(),
                folder: "20260115/CT/1-1.2/1.2.3".into(),
                values: values(&[(0x0008_0060, "CT")]),
            }),
            instance: InstanceFacts {
                sequence: 7,
                sop_instance_uid: "1.2.3.4".into(),
                sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
                transfer_syntax: "1.2.840.10008.1.2.1".into(),
                values: values(&[(0x0020_0013, "1")]),
                received: "2026-01-15T01:02:03Z".into(),
                source_ae_title: "CT1".into(),
                origin: Origin::default(),
                copy: Copy {
                    volume_id: "v".into(),
                    path: "20260115/CT/1-1.2/1.2.3/1.2.3.4.dcm".into(),
                    data_offset: 300,
                    size_bytes: 900,
                    crc32: 1,
                    file_crc32: 0xffff_fffe,
                    bad: false,
                },
            },
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let stored = stored();
        let (once, line) = lines(&stored, "v", None);
        let mut reader = Reader::new("v");
        for (_, line) in &once {
            assert!(reader.line(line, &Nothing).unwrap().is_none());
        }
        let back = reader.line(&line, &Nothing).unwrap();
        assert_eq!(back, Some(Change::Stored(stored)));
        let gone = Gone {
            sequence: 8,
            sop_instance_uid: "1.2.3.4".into(),
            volume_id: "v".into(),
            path: "20260115/CT/山田-1.2/1.2.3/1.2.3.4.dcm".into(),
        };
        let line = gone_line(&gone, "2026-02-01T00:00:00.000Z", "moved");
        assert_eq!(
            line,
            r#"{"seq":8,"at":"2026-02-01T00:00:00.000Z","gone":"1.2.3.4","path":"20260115/CT/山田-1.2/1.2.3/1.2.3.4.dcm","why":"moved"}"#
        );
        let back = reader.line(&line, &Nothing).unwrap();
        assert_eq!(back, Some(Change::Gone(gone.clone())));
        let bad = Bad {
            sequence: 9,
            sop_instance_uid: gone.sop_instance_uid,
            volume_id: gone.volume_id,
            path: gone.path,
        };
        let line = bad_line(
            &bad,
            "2026-02-01T00:00:00.000Z",
            "it has \"another\" checksum",
        );
        assert_eq!(
            line,
            r#"{"seq":9,"at":"2026-02-01T00:00:00.000Z","bad":"1.2.3.4","path":"20260115/CT/山田-1.2/1.2.3/1.2.3.4.dcm","why":"it has \"another\" checksum"}"#
        );
        let back = reader.line(&line, &Nothing).unwrap();
        assert_eq!(back, Some(Change::Bad(bad)));
    }

    #[test]
    fn corrections_and_what_they_made_are_read_back() {
        let mut stored = stored();
        stored.instance.origin = Origin {
            by: 6,
            newest: true,
            was: Some((592, 0xff)),
        };
        let (once, line) = lines(&stored, "v", None);
        assert!(
            line.contains(r#""by":6,"newest":true,"was":[592,"000000ff"]"#),
            "{line}"
        );
        let mut reader = Reader::new("v");
        for (_, line) in &once {
            assert!(line.contains(r#""by":6"#), "{line}");
            assert_eq!(reader.line(line, &Nothing), Ok(None));
        }
        assert_eq!(
            reader.line(&line, &Nothing),
            Ok(Some(Change::Stored(stored.clone())))
        );
        // What is said for a correction is not said for others.
        stored.instance.origin = Origin::default();
        let (_, plain) = lines(&stored, "v", None);
        assert!(reader.line(&plain, &Nothing).is_err());

        let ruling = Ruling {
            sequence: 8,
            by: 6,
            sop_instance_uid: "1.2.3.4".into(),
            content: ContentId {
                transfer_syntax: "1.2.840.10008.1.2.1".into(),
                data_bytes: 600,
                crc32: 1,
            },
            verdict: Verdict::Withdrawn,
        };
        let line = ruling_line(&ruling, "2026-02-01T00:00:00.000Z");
        assert_eq!(
            line,
            r#"{"seq":8,"at":"2026-02-01T00:00:00.000Z","ruled":"1.2.3.4","by":6,"verdict":"withdrawn","syntax":"1.2.840.10008.1.2.1","length":600,"crc32":"00000001"}"#
        );
        assert_eq!(
            reader.line(&line, &Nothing),
            Ok(Some(Change::Ruling(ruling)))
        );

        let values = |text: &str| Values::from([(0x0010_0020, text.to_owned())]);
        let correction = Correction {
            sequence: 9,
            number: 6,
            in_effect: true,
            facts: CorrectionFacts {
                at: "2026-02-01T00:00:00.000Z".into(),
                did: crate::index::Did::Amended,
                who: "yamada".into(),
                why: "wrong patient chosen at the console".into(),
                way: "command line".into(),
                level: "STUDY".into(),
                of: vec!["1.2".into()],
                studies: vec!["1.2".into()],
                instances_count: 1,
                before: values("4711"),
                after: values("4712"),
            },
            volume_id: "v".into(),
        };
        let line = correction_line(&correction);
        assert_eq!(
            line,
            r#"{"seq":9,"correction":6,"in_effect":true,"at":"2026-02-01T00:00:00.000Z","did":"amended","who":"yamada","why":"wrong patient chosen at the console","way":"command line","level":"STUDY","of":["1.2"],"studies":["1.2"],"instances":1,"before":{"00100020":"4711"},"after":{"00100020":"4712"}}"#
        );
        let read = reader.line(&line, &Nothing);
        assert_eq!(read, Ok(Some(Change::Correction(Box::new(correction)))));
    }

    #[test]
    fn values_found_later_come_back_as_they_were() {
        let mut filled = Filled {
            sequence: 9,
            sop_instance_uid: "1.2.3.4".into(),
            volume_id: "v".into(),
            path: "20260115/CT/1-1.2/1.2.3/1.2.3.4.dcm".into(),
            study_instance_uid: "1.2".into(),
            series_instance_uid: "1.2.3".into(),
            by: 0,
            study: Values::from([(0x0010_2000, String::new())]),
            series: Values::new(),
            values: Values::from([(0x0018_0050, "5.0".into())]),
        };
        let line = attributes_line(&filled, "2026-02-01T00:00:00.000Z");
        assert_eq!(
            line,
            r#"{"seq":9,"at":"2026-02-01T00:00:00.000Z","attributes":"1.2.3.4","path":"20260115/CT/1-1.2/1.2.3/1.2.3.4.dcm","of":["1.2","1.2.3"],"study":{"00102000":""},"values":{"00180050":"5.0"}}"#
        );
        let back = |filled: &Filled| Ok(Some(Change::Filled(Box::new(filled.clone()))));
        let mut reader = Reader::new("v");
        assert_eq!(reader.line(&line, &Nothing), back(&filled));
        filled.by = 6;
        filled.series = Values::from([(0x0018_1020, "V1".into())]);
        let line = attributes_line(&filled, "2026-02-01T00:00:00.000Z");
        assert_eq!(reader.line(&line, &Nothing), back(&filled));
        assert!(
            reader
                .line(r#"{"seq":9,"attributes":"1.2"}"#, &Nothing)
                .is_err()
        );
    }

    /// Method: every kind of line with a field more, as a later version may write it.
    #[test]
    fn fields_and_lines_of_later_versions_are_passed_over() {
        let stored = stored();
        let (once, line) = lines(&stored, "v", Some("2027-01-01T00:00:00.000Z"));
        assert!(
            line.contains(
                r#","at":"2026-01-15T01:02:03Z","copied":"2027-01-01T00:00:00.000Z","stored":"#
            ),
            "{line}"
        );
        let more = |line: &str| {
            let end = line.len() - 1;
            format!("{},\"later\":{{\"a\":[1]}}}}", &line[..end])
        };
        let mut reader = Reader::new("v");
        for (_, line) in &once {
            assert_eq!(reader.line(&more(line), &Nothing), Ok(None));
        }
        let back = reader.line(&more(&line), &Nothing).unwrap();
        assert_eq!(back, Some(Change::Stored(stored)));
        let gone = r#"{"seq":8,"gone":"1.2.3.4","path":"a.dcm"}"#;
        for line in [gone.to_owned(), more(gone)] {
            let back = reader.line(&line, &Nothing).unwrap();
            assert!(matches!(back, Some(Change::Gone(gone)) if gone.path == "a.dcm"));
        }
        let bad = r#"{"seq":8,"bad":"1.2.3.4","path":"a.dcm"}"#;
        for line in [bad.to_owned(), more(bad)] {
            let back = reader.line(&line, &Nothing).unwrap();
            assert!(matches!(back, Some(Change::Bad(bad)) if bad.path == "a.dcm"));
        }
        for unknown in [
            r#"{"seq":9,"at":"2026-02-01T00:00:00.000Z","amended":"1.2.3.4","values":{}}"#,
            r#"{"patient":"4711","values":{}}"#,
            r#"{"studying":1}"#,
        ] {
            assert_eq!(reader.line(unknown, &Nothing), Ok(None), "{unknown}");
        }
    }

    /// Method: lines of a known kind that lack something are damage, not lines of a later version.
    #[test]
    fn a_known_line_that_lacks_a_field_is_an_error() {
        for line in [
            r#"{"seq":8,"at":"","gone":"1.2.3.4"}"#,
            r#"{"seq":8,"gone":7,"path":"a.dcm"}"#,
            r#"{"seq":8,"at":"","bad":"1.2.3.4"}"#,
            r#"{"seq":7,"at":"","stored":"1.2.3.4","of":["1.2","1.2.3"]}"#,
            r#"{"seq":7,"at":""#,
        ] {
            assert!(Reader::new("v").line(line, &Nothing).is_err(), "{line}");
        }
    }

    /// Method: 30,000 studies come between the lines of a series and its second instance, as in a segment of plain X-rays.
    #[test]
    fn what_a_segment_said_once_is_known_to_its_end() {
        let mut stored = stored();
        let mut reader = Reader::new("v");
        let read = |reader: &mut Reader, lines: &[String]| {
            let results = lines.iter().map(|line| reader.line(line, &Nothing));
            results.last().expect("a line").map(|found| found.is_some())
        };
        let (once, line) = lines(&stored, "v", None);
        let mut first: Vec<String> = once.into_iter().map(|(_, line)| line).collect();
        first.push(line.clone());
        assert_eq!(read(&mut reader, &first), Ok(true));
        for n in 0..30_000 {
            let study = Arc::make_mut(&mut stored.study);
            study.study_instance_uid = format!("1.3.{n}");
            let series = Arc::make_mut(&mut stored.series);
            series.study_instance_uid = format!("1.3.{n}");
            let once = lines(&stored, "v", None).0;
            let once: Vec<String> = once.into_iter().map(|(_, line)| line).collect();
            assert_eq!(read(&mut reader, &once), Ok(false));
        }
        assert_eq!(read(&mut reader, std::slice::from_ref(&line)), Ok(true));
        reader.forget();
        assert!(read(&mut reader, &[line]).is_err());
    }

    #[test]
    fn a_line_whose_series_is_unknown_is_an_error_and_not_a_guess() {
        let (_, line) = lines(&stored(), "v", None);
        assert!(Reader::new("v").line(&line, &Nothing).is_err());
    }
}
