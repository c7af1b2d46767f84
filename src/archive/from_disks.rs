//! What disks say of the archive they are of, before there is any state: for a new machine, where there are only the disks.
//!
//! Nothing is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::volume_name_is_plain;
use crate::index::{Change, SeriesFacts, StudyFacts};
use crate::volume::io::Disk;
use crate::volume::layout::{self, Label, Role};
use crate::volume::ledger::{self, Position};
use crate::volume::{LabelState, VolumeError, label_of, ledger_extent};

use super::entry::{Known, Reader};
use super::state::{self, Identity};

/// A ledger longer than this is not counted: it would take minutes from a slow disk. Bytes; some 600,000 instances.
const COUNTED_BYTES_MAX: u64 = 256 << 20;

/// The disks that were given, and those that are missing.
#[derive(Debug, Serialize)]
pub struct FromDisks {
    pub archive_id: String,
    /// In the order they were given.
    pub volumes: Vec<FoundVolume>,
    /// The archive knew them when the newest list on the disks was written.
    pub away: Vec<AwayVolume>,
}

#[derive(Debug, Serialize)]
pub struct FoundVolume {
    pub name: String,
    pub volume_id: String,
    pub role: Role,
    pub path: PathBuf,
    /// It was taken out on purpose, and stays away until it is told to return.
    pub ejected: bool,
    /// What its ledger lists; `None`: too long to be counted now.
    pub listed: Option<Listed>,
}

#[derive(Debug, Serialize)]
pub struct AwayVolume {
    pub name: String,
    pub volume_id: String,
    pub role: Role,
    /// Where it was.
    pub path: PathBuf,
    pub ejected: bool,
    /// It is in the new configuration, and taken back when its disk is at that path again.
    pub configured: bool,
    /// Its label and ledger were in the state folder that was lost.
    pub adopted: bool,
    /// The given volume with the longest copy of its ledger.
    pub ledger_on: Option<String>,
    /// What that copy lists; `None`: too long to be counted now, or there is none.
    pub listed: Option<Listed>,
}

/// What a ledger lists.
#[derive(Debug, Default, Serialize)]
pub struct Listed {
    pub instances_count: u64,
    /// Of the files.
    pub bytes: u64,
    /// Damaged lines that were skipped.
    pub bad_lines: u64,
}

/// Why disks are not taken together as an archive.
#[derive(Debug, thiserror::Error)]
pub enum FromDisksError {
    #[error("{path} does not exist: is the disk mounted?")]
    Missing { path: PathBuf },
    #[error("{path} is empty: is the disk mounted?")]
    Empty { path: PathBuf },
    #[error("{path} has no label (kura-volume.json): it is no volume")]
    Foreign { path: PathBuf },
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("these are volumes of {} archives, give those of one: {list}", .count)]
    SeveralArchives { count: usize, list: String },
    #[error(
        "{first} and {second} have the same label ({volume_id}): one is a copy of the other; give one of them"
    )]
    Twins {
        volume_id: String,
        first: PathBuf,
        second: PathBuf,
    },
    #[error("{path} is given twice")]
    Twice { path: PathBuf },
    #[error("{first} and {second} are both volume {name}: {hint}")]
    SameName {
        name: String,
        first: PathBuf,
        second: PathBuf,
        hint: String,
    },
    #[error("the label of {path} has the name {name:?}, which no volume can have")]
    BadName { path: PathBuf, name: String },
    #[error(
        "no archive volume is given, and these mirror volumes have no list of the others (ledgers/archive.json): \
         give an archive volume too"
    )]
    NoArchiveVolume,
    #[error("the state folder {state} is of archive {found}, the disks are of {expected}")]
    OtherState {
        state: PathBuf,
        found: String,
        expected: String,
    },
}

/// Looks at the disks in `paths`, which must be volumes of one archive, each once. `state`: the state folder of the new
/// machine, mostly not there yet.
pub fn from_disks(paths: &[PathBuf], state: &Path) -> Result<FromDisks, FromDisksError> {
    let mut labelled: Vec<(PathBuf, Label)> = Vec::new();
    for path in paths {
        let path = path.clone();
        match label_of(&path)? {
            LabelState::Missing => return Err(FromDisksError::Missing { path }),
            LabelState::Empty => return Err(FromDisksError::Empty { path }),
            LabelState::Foreign => return Err(FromDisksError::Foreign { path }),
            LabelState::Label(label) if !volume_name_is_plain(&label.name) => {
                let name = label.name;
                return Err(FromDisksError::BadName { path, name });
            }
            LabelState::Label(label) => labelled.push((path, label)),
        }
    }
    of_one_archive(&labelled)?;
    let archive_id = labelled
        .first()
        .map_or_else(String::new, |(_, label)| label.archive_id.clone());
    if let Ok(found) = state::read(&state.join(state::FILE))
        && found.archive_id != archive_id
    {
        return Err(FromDisksError::OtherState {
            state: state.to_owned(),
            found: found.archive_id,
            expected: archive_id,
        });
    }
    let identity = newest_list(&archive_id, &labelled);
    each_once(&labelled, &identity)?;
    let volumes: Vec<FoundVolume> = labelled
        .iter()
        .map(|(path, label)| FoundVolume {
            name: label.name.clone(),
            volume_id: label.volume_id.clone(),
            role: label.role,
            path: path.clone(),
            ejected: identity
                .by_id(&label.volume_id)
                .is_some_and(|known| known.ejected),
            listed: listed(path, &label.volume_id),
        })
        .collect();
    let away = away(&identity, &volumes);
    let can_receive = |role: Role| role == Role::Archive;
    let archive_volumes = volumes.iter().any(|volume| can_receive(volume.role))
        || away
            .iter()
            .any(|volume| volume.configured && can_receive(volume.role));
    match archive_volumes {
        true => Ok(FromDisks {
            archive_id,
            volumes,
            away,
        }),
        false => Err(FromDisksError::NoArchiveVolume),
    }
}

fn of_one_archive(labelled: &[(PathBuf, Label)]) -> Result<(), FromDisksError> {
    let mut archives: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, label) in labelled {
        let here = format!("{} ({})", path.display(), label.name);
        archives.entry(&label.archive_id).or_default().push(here);
    }
    if archives.len() < 2 {
        return Ok(());
    }
    let list: Vec<String> = archives
        .iter()
        .map(|(archive, paths)| format!("{} of {archive}", paths.join(", ")))
        .collect();
    Err(FromDisksError::SeveralArchives {
        count: archives.len(),
        list: list.join("; "),
    })
}

fn each_once(labelled: &[(PathBuf, Label)], identity: &Identity) -> Result<(), FromDisksError> {
    for (at, (second, label)) in labelled.iter().enumerate() {
        for (first, other) in &labelled[..at] {
            if first == second {
                let path = first.clone();
                return Err(FromDisksError::Twice { path });
            }
            let (first, second) = (first.clone(), second.clone());
            if other.volume_id == label.volume_id {
                let volume_id = label.volume_id.clone();
                return Err(FromDisksError::Twins {
                    volume_id,
                    first,
                    second,
                });
            }
            if other.name == label.name {
                let given_up = |label: &Label| {
                    let known = identity.by_id(&label.volume_id);
                    known.is_some_and(|known| known.replaced.is_some())
                };
                let hint = match (given_up(other), given_up(label)) {
                    (true, false) => format!("{} was replaced, leave it out", first.display()),
                    (false, true) => format!("{} was replaced, leave it out", second.display()),
                    _ => "give one of them".to_owned(),
                };
                return Err(FromDisksError::SameName {
                    name: label.name.clone(),
                    first,
                    second,
                    hint,
                });
            }
        }
    }
    Ok(())
}

/// As the start would find it without a state folder.
fn newest_list(archive_id: &str, labelled: &[(PathBuf, Label)]) -> Identity {
    let copies = labelled.iter().filter_map(|(root, _)| {
        state::read(&root.join(layout::LEDGERS_FOLDER).join(state::FILE)).ok()
    });
    let newest = copies
        .filter(|copy| copy.archive_id == archive_id)
        .max_by_key(|copy| copy.revision);
    newest.unwrap_or_else(|| Identity::of(archive_id.to_owned()))
}

fn away(identity: &Identity, given: &[FoundVolume]) -> Vec<AwayVolume> {
    let mut names: HashSet<String> = given.iter().map(|volume| volume.name.clone()).collect();
    let mut paths: HashSet<PathBuf> = given.iter().map(|volume| volume.path.clone()).collect();
    let missing = identity.volumes.iter().filter(|known| {
        let is_given = given
            .iter()
            .any(|volume| volume.volume_id == known.volume_id);
        !is_given && known.replaced.is_none()
    });
    missing
        .map(|known| {
            let adopted = known.home.is_some();
            let configured = !adopted
                && volume_name_is_plain(&known.name)
                && !names.contains(&known.name)
                && paths.insert(known.path.clone());
            names.insert(known.name.clone());
            let copies = given.iter().map(|volume| {
                let folder = ledger_folder(&volume.path, &known.volume_id);
                let bytes =
                    ledger_extent::bytes_after(&Disk::default(), &folder, Position::default());
                (bytes, volume)
            });
            let longest = copies
                .filter(|(bytes, _)| *bytes > 0)
                .max_by_key(|(bytes, _)| *bytes);
            AwayVolume {
                name: known.name.clone(),
                volume_id: known.volume_id.clone(),
                role: known.role,
                path: known.path.clone(),
                ejected: known.ejected,
                configured,
                adopted,
                ledger_on: longest.map(|(_, volume)| volume.name.clone()),
                listed: longest.and_then(|(_, volume)| listed(&volume.path, &known.volume_id)),
            }
        })
        .collect()
}

fn ledger_folder(root: &Path, volume_id: &str) -> PathBuf {
    root.join(layout::LEDGERS_FOLDER).join(volume_id)
}

/// What a ledger lists, if it is not too long to be read now.
fn listed(root: &Path, volume_id: &str) -> Option<Listed> {
    let (disk, folder) = (Disk::default(), ledger_folder(root, volume_id));
    if ledger_extent::bytes_after(&disk, &folder, Position::default()) > COUNTED_BYTES_MAX {
        return None;
    }
    // By path; the instance and the size of the file.
    let mut files: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut reader = Reader::new(volume_id);
    let mut segment = 0;
    let report = ledger::read(&disk, &folder, Position::default(), &mut |json, after| {
        if after.segment != segment {
            segment = after.segment;
            reader.forget();
        }
        match reader.line(json, &Nothing) {
            Ok(Some(Change::Stored(stored))) => {
                let instance = stored.instance;
                let file = (hash(&instance.sop_instance_uid), instance.copy.size_bytes);
                files.insert(hash(&instance.copy.path), file);
            }
            Ok(Some(Change::Gone(gone))) => drop(files.remove(&hash(&gone.path))),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    let instances: HashSet<u64> = files.values().map(|(sop, _)| *sop).collect();
    Some(Listed {
        instances_count: instances.len() as u64,
        bytes: files.values().map(|(_, bytes)| bytes).sum(),
        bad_lines: report.ok()?.bad_lines,
    })
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Of lines before the first.
struct Nothing;

impl Known for Nothing {
    fn study(&self, _: &str, _: u64) -> Option<StudyFacts> {
        None
    }

    fn series(&self, _: &str, _: &str, _: u64) -> Option<SeriesFacts> {
        None
    }
}
