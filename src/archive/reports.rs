//! Reports that are kept: what became of a dead disk, instance by instance where something is lost.
//!
//! `<state>/reports/replace-NAME-<UTC time>.txt` for people and `.json` for programs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::index::{IndexError, SeriesSpread, Snapshot, Values};
use crate::volume::io::{Disk, DiskFile};

use super::Archive;
use super::content::Content;
use super::due::date_of;
use super::places::key;
use super::restoring::{Counts, Group, Left};
use super::safety::Judge;
use super::shelf::Member;

pub const FOLDER: &str = "reports";
/// Listed at most, the newest.
const LISTED_MAX: usize = 1_000;
/// Longest report that is shown; a longer one is to be read where it lies. Bytes.
const SHOWN_BYTES_MAX: u64 = 32 << 20;
/// Written at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// `kura report …`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReportVerb {
    List,
    /// The one of that name, or the newest.
    Show {
        name: Option<String>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportName {
    pub name: String,
    /// Of the text, bytes.
    pub bytes: u64,
}

/// A report as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Shown {
    pub name: String,
    pub text: String,
    pub json: serde_json::Value,
}

/// A replaced disk of which all is restored that can be.
pub(super) struct Ended<'a> {
    pub group: &'a Group,
    pub counts: &'a Counts,
}

/// An instance that is lost, or of which no good copy could be read.
#[derive(Serialize, schemars::JsonSchema)]
struct Item<'a> {
    state: &'a str,
    why: String,
    patient_name: String,
    patient_id: String,
    study_date: String,
    study_description: String,
    modality: String,
    series_number: String,
    series_description: String,
    study_instance_uid: &'a str,
    series_instance_uid: &'a str,
    sop_instance_uid: &'a str,
    /// Last known place.
    volume: String,
    path: String,
}

/// A part of a report that is written from outside of the archive.
pub enum Piece<'a> {
    Text(&'a str),
    Json(&'a str),
}

/// Takes the parts of a report in their order.
pub type Write<'w> = dyn FnMut(Piece) -> std::io::Result<()> + 'w;

impl Archive {
    /// Keeps a report that `pieces` gives, under a name that ends in `-<UTC time>`.
    pub fn keep_report(
        &self,
        name: &str,
        pieces: &mut dyn FnMut(&mut Write) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let disk = Disk::default();
        let folder = self.state.join(FOLDER);
        disk.create_dir_durable(&folder)?;
        let mut text = Growing::new(&disk, &folder, &format!("{name}.txt"))?;
        let mut json = Growing::new(&disk, &folder, &format!("{name}.json"))?;
        pieces(&mut |piece| match piece {
            Piece::Text(piece) => text.write(piece.as_bytes()),
            Piece::Json(piece) => json.write(piece.as_bytes()),
        })?;
        // The text last: it is what is listed.
        json.finish()?;
        text.finish()
    }

    /// Writes both files; the name of the report.
    pub(super) fn write_report(
        &self,
        snapshot: &Snapshot,
        ended: &Ended,
        judge: &Judge,
    ) -> Result<std::io::Result<String>, IndexError> {
        let olds: Vec<String> = ended
            .group
            .olds
            .iter()
            .map(|old| old.volume_id.clone())
            .collect();
        let (mut lost_count, mut suspect_count) = (0_u64, 0_u64);
        self.each_left(snapshot, &olds, judge, &mut |_, _, left| {
            match left {
                Left::Lost => lost_count += 1,
                Left::Todo => suspect_count += 1,
            }
            ControlFlow::Continue(())
        })?;
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let name = format!("replace-{}-{time}", ended.group.name);
        let counts = Sums {
            lost_count,
            suspect_count,
        };
        let mut failed = None;
        let written = self.write_items(snapshot, ended, judge, &olds, &name, &counts, &mut failed);
        Ok(match (written, failed) {
            (Err(Failed::Index(error)), _) => return Err(error),
            (Err(Failed::Disk(error)), _) | (_, Some(error)) => Err(error),
            (Ok(()), None) => Ok(name),
        })
    }

    #[allow(clippy::too_many_arguments)] // one caller, and each is something else
    fn write_items(
        &self,
        snapshot: &Snapshot,
        ended: &Ended,
        judge: &Judge,
        olds: &[String],
        name: &str,
        sums: &Sums,
        failed: &mut Option<std::io::Error>,
    ) -> Result<(), Failed> {
        let disk = Disk::default();
        let folder = self.state.join(FOLDER);
        disk.create_dir_durable(&folder)?;
        let mut text = Growing::new(&disk, &folder, &format!("{name}.txt"))?;
        let mut json = Growing::new(&disk, &folder, &format!("{name}.json"))?;
        let head = self.head(ended, sums);
        text.write(head_text(&head).as_bytes())?;
        let mut object = serde_json::to_string(&head).map_err(std::io::Error::other)?;
        object.pop();
        json.write(object.as_bytes())?;
        json.write(b",\"instances\":[")?;
        let mut facts = BTreeMap::new();
        let mut series_before = String::new();
        let mut first = true;
        self.each_left(snapshot, olds, judge, &mut |series, content, left| {
            let mut write = || -> std::io::Result<()> {
                let item = self.item(snapshot, series, content, left, olds, &mut facts);
                if content.series_instance_uid != series_before {
                    series_before.clone_from(&content.series_instance_uid);
                    text.write(item.heading().as_bytes())?;
                }
                text.write(item.line().as_bytes())?;
                if !std::mem::take(&mut first) {
                    json.write(b",")?;
                }
                json.write(&serde_json::to_vec(&item).map_err(std::io::Error::other)?)
            };
            match write() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    *failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if failed.is_some() {
            return Ok(());
        }
        json.write(b"]}\n")?;
        // The text last: it is what is listed.
        json.finish()?;
        Ok(text.finish()?)
    }

    fn head(&self, ended: &Ended, sums: &Sums) -> Head {
        let (group, counts) = (ended.group, ended.counts);
        let at = |old: &super::state::Known| old.replaced.as_ref().map(|r| r.at.clone());
        let new = self.shelf.by_id(&group.by);
        Head {
            version: 1,
            report: "replace".to_owned(),
            begun: group.olds.iter().filter_map(at).min().unwrap_or_default(),
            ended: super::now(),
            volume: group.name.clone(),
            volume_id: group.by.clone(),
            role: new
                .as_ref()
                .map(|new| new.role.to_string())
                .unwrap_or_default(),
            path: new
                .map(|new| new.path.display().to_string())
                .unwrap_or_default(),
            old_disks: group
                .olds
                .iter()
                .map(|old| OldDisk {
                    name: old.name.clone(),
                    volume_id: old.volume_id.clone(),
                    path: old.path.display().to_string(),
                })
                .collect(),
            listed_count: counts.total.count,
            listed_bytes: counts.total.bytes,
            restored_count: counts.restored.count,
            restored_bytes: counts.restored.bytes,
            elsewhere_count: counts.elsewhere.count,
            elsewhere_bytes: counts.elsewhere.bytes,
            lost_count: sums.lost_count,
            suspect_count: sums.suspect_count,
        }
    }

    fn item<'a>(
        &self,
        snapshot: &Snapshot,
        series: &SeriesSpread,
        content: &'a Content,
        left: Left,
        olds: &[String],
        facts: &mut BTreeMap<String, (Values, Values)>,
    ) -> Item<'a> {
        if !facts.contains_key(&content.series_instance_uid) {
            // Those of one series are needed at a time.
            facts.clear();
            let found = content.facts(snapshot).ok().flatten();
            let values = found.map(|(study, series)| (study.values.clone(), series.values.clone()));
            facts.insert(
                content.series_instance_uid.clone(),
                values.unwrap_or_default(),
            );
        }
        let empty = (Values::new(), Values::new());
        let (study, of_series) = facts.get(&content.series_instance_uid).unwrap_or(&empty);
        let text = |values: &Values, tag| {
            values
                .get(&key(tag))
                .map(|value| value.trim().to_owned())
                .unwrap_or_default()
        };
        let name_of = |id: &str| {
            self.shelf
                .by_id(id)
                .map_or_else(|| id.to_owned(), |m| m.name.clone())
        };
        let is_old = |id: &String| olds.contains(id);
        let others = || {
            content
                .copies
                .iter()
                .filter(|copy| !is_old(&copy.volume_id))
        };
        let other_names = || {
            let mut names: Vec<String> = others().map(|copy| name_of(&copy.volume_id)).collect();
            names.dedup();
            names.join(", ")
        };
        let on_old = content.copies.iter().find(|copy| is_old(&copy.volume_id));
        let (state, why, place) = match left {
            Left::Lost if others().next().is_some() => (
                "lost",
                format!("its copy on volume {} is bad", other_names()),
                on_old,
            ),
            Left::Lost => (
                "lost",
                "its only copy was on the dead disk".to_owned(),
                on_old,
            ),
            Left::Todo => (
                "suspect",
                format!(
                    "its copy on volume {} cannot be read, or has another checksum",
                    other_names()
                ),
                others().next(),
            ),
        };
        let date = text(study, tags::STUDY_DATE);
        Item {
            state,
            why,
            patient_name: text(study, tags::PATIENT_NAME),
            patient_id: text(study, tags::PATIENT_ID),
            study_date: if date.is_empty() {
                date_of(&series.folder)
            } else {
                date
            },
            study_description: text(study, tags::STUDY_DESCRIPTION),
            modality: text(of_series, tags::MODALITY),
            series_number: text(of_series, tags::SERIES_NUMBER),
            series_description: text(of_series, tags::SERIES_DESCRIPTION),
            study_instance_uid: &content.study_instance_uid,
            series_instance_uid: &content.series_instance_uid,
            sop_instance_uid: &content.sop_instance_uid,
            volume: place
                .map(|copy| name_of(&copy.volume_id))
                .unwrap_or_default(),
            path: place.map(|copy| copy.path.clone()).unwrap_or_default(),
        }
    }

    /// Name of the newest report on a volume.
    pub(super) fn newest_report(&self, volume: &str) -> Option<String> {
        let prefix = format!("replace-{volume}-");
        let reports = self.reports();
        let of_it = reports.into_iter().filter(|report| {
            // Another volume's name may begin like this one's.
            let time = report.name.strip_prefix(&prefix);
            time.is_some_and(|time| !time.contains('-'))
        });
        of_it.map(|report| report.name).next()
    }

    /// Whether a report says that the volume stands in the place of another.
    pub(super) fn was_reported(&self, member: &Member) -> bool {
        let newest = self.newest_report(&member.name);
        let shown = newest.and_then(|name| self.show_report(Some(name)).ok());
        shown.is_some_and(|shown| shown.json["volume_id"] == *member.volume_id)
    }

    /// The newest first.
    pub fn reports(&self) -> Vec<ReportName> {
        let (disk, folder) = (Disk::default(), self.state.join(FOLDER));
        let names = disk.list(&folder, usize::MAX).unwrap_or_default();
        let mut reports: Vec<ReportName> = names
            .into_iter()
            .filter_map(|file| {
                let name = file.to_str()?.strip_suffix(".txt")?.to_owned();
                let entry = disk.entry(&folder.join(&file)).ok()??;
                let bytes = entry.len;
                Some(ReportName { name, bytes })
            })
            .collect();
        let time = |report: &ReportName| report.name.rsplit('-').next().map(str::to_owned);
        reports.sort_by_key(|report| std::cmp::Reverse((time(report), report.name.clone())));
        reports.truncate(LISTED_MAX);
        reports
    }

    /// A report of that name, or the newest.
    pub fn show_report(&self, name: Option<String>) -> Result<Shown, String> {
        let reports = self.reports();
        let found = match &name {
            Some(name) => reports.into_iter().find(|report| report.name == *name),
            None => reports.into_iter().next(),
        };
        let Some(found) = found else {
            return Err(match name {
                Some(name) => format!("there is no report {name}; kura report list shows all"),
                None => "there is no report yet".to_owned(),
            });
        };
        let read = |end: &str| {
            let file = self
                .state
                .join(FOLDER)
                .join(format!("{}.{end}", found.name));
            let bytes = Disk::default().read_small(&file, SHOWN_BYTES_MAX);
            bytes.map_err(|error| format!("{}: {error}; read it where it lies", file.display()))
        };
        Ok(Shown {
            text: String::from_utf8_lossy(&read("txt")?).into_owned(),
            json: serde_json::from_slice(&read("json")?).map_err(|error| error.to_string())?,
            name: found.name,
        })
    }
}

struct Sums {
    lost_count: u64,
    suspect_count: u64,
}

#[derive(Serialize)]
struct Head {
    version: u32,
    report: String,
    begun: String,
    ended: String,
    volume: String,
    volume_id: String,
    role: String,
    path: String,
    old_disks: Vec<OldDisk>,
    listed_count: u64,
    listed_bytes: u64,
    restored_count: u64,
    restored_bytes: u64,
    elsewhere_count: u64,
    elsewhere_bytes: u64,
    lost_count: u64,
    suspect_count: u64,
}

#[derive(Serialize)]
struct OldDisk {
    name: String,
    volume_id: String,
    path: String,
}

fn head_text(head: &Head) -> String {
    let mut text = match head.lost_count + head.suspect_count {
        0 => format!("Volume {} was replaced; nothing is lost.\n\n", head.volume),
        _ => format!(
            "Volume {} was replaced; {} instances are lost, {} could not be read.\n\n",
            head.volume, head.lost_count, head.suspect_count
        ),
    };
    text += &format!("begun      {}\nended      {}\n", head.begun, head.ended);
    for old in &head.old_disks {
        text += &format!(
            "old disk   {} ({}), last at {}\n",
            old.name, old.volume_id, old.path
        );
    }
    text += &format!(
        "new disk   {} ({}) at {}\n",
        head.volume, head.volume_id, head.path
    );
    let rows = [
        (
            "listed",
            head.listed_count,
            head.listed_bytes,
            "on the old disk",
        ),
        (
            "restored",
            head.restored_count,
            head.restored_bytes,
            "on the new disk",
        ),
        (
            "elsewhere",
            head.elsewhere_count,
            head.elsewhere_bytes,
            "on other volumes",
        ),
    ];
    for (what, count, bytes, where_) in rows {
        text += &format!("{what:10} {count} instances, {bytes} bytes, {where_}\n");
    }
    text += &format!(
        "lost       {} instances have no good copy\n",
        head.lost_count
    );
    text += &format!(
        "suspect    {} instances have a copy that could not be read\n",
        head.suspect_count
    );
    if head.lost_count + head.suspect_count > 0 {
        text += "\nSend these again from the modality. Of the old disk, if it can still be read: kura send FOLDER --to THIS_SERVER\n";
    }
    text
}

impl Item<'_> {
    /// Of the series.
    fn heading(&self) -> String {
        let or = |text: &str| match text {
            "" => "-".to_owned(),
            text => plain(text),
        };
        format!(
            "\npatient {}, {}; study {} {}; {} series {} {}\n",
            or(&self.patient_id),
            or(&self.patient_name),
            or(&self.study_date),
            or(&self.study_description),
            or(&self.modality),
            or(&self.series_number),
            or(&self.series_description),
        )
    }

    fn line(&self) -> String {
        format!(
            "  {:7} {}  {}; last on volume {} at {}\n",
            self.state,
            plain(self.sop_instance_uid),
            self.why,
            self.volume,
            plain(&self.path)
        )
    }
}

/// A value from outside must not end a line, or steer a terminal.
fn plain(text: &str) -> String {
    let replaced = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(replaced).collect()
}

enum Failed {
    Index(IndexError),
    Disk(std::io::Error),
}

impl From<IndexError> for Failed {
    fn from(error: IndexError) -> Failed {
        Failed::Index(error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        Failed::Disk(error)
    }
}

/// A file that gets its name when it is whole and durable.
struct Growing<'a> {
    disk: &'a Disk,
    file: DiskFile,
    folder: &'a Path,
    temporary: std::path::PathBuf,
    name: std::path::PathBuf,
    offset: u64,
    piece: Vec<u8>,
}

impl<'a> Growing<'a> {
    fn new(disk: &'a Disk, folder: &'a Path, name: &str) -> std::io::Result<Growing<'a>> {
        let temporary = folder.join(format!("{name}.new"));
        let file = disk.open_or_create(&temporary)?;
        file.set_len(0)?;
        Ok(Growing {
            disk,
            file,
            folder,
            temporary,
            name: folder.join(name),
            offset: 0,
            piece: Vec::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.piece.extend_from_slice(bytes);
        match self.piece.len() >= PIECE_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_at(self.offset, &self.piece)?;
        self.offset += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.flush()?;
        self.file.sync_data()?;
        self.disk.rename(&self.temporary, &self.name)?;
        self.disk.sync_dir(self.folder)
    }
}
