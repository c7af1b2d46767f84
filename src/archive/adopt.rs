//! Adopt: a tree of images that Kura did not write becomes a volume where it lies, or its images are stored anew.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, RoleName, VolumeEntry};
use crate::volume::io::{Disk, Kind};
use crate::volume::layout::{self, Role};
use crate::volume::{LabelState, Spec, Volume, adopted};

use super::at_rest;
use super::ingest::{Announced, IngestError, Outcome};
use super::shelf::{Member, Standing};
use super::shipping::own_source;
use super::survey::{Repair, hash};
use super::work::{Depth, Job, Stop, VolumeReport};
use super::{Archive, Line};

/// What the lines name as sender, where the file names none.
pub(super) const FROM: &str = "ADOPT";
/// Read and stored at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;

impl Archive {
    /// Serves the tree at `path` where it lies. Stopped and run again it goes on: files with a line are not read again.
    pub(super) fn adopt(&self, path: &Path, name: Option<String>, job: &Job) -> Result<(), Stop> {
        let failed = |error: &dyn std::fmt::Display| Stop::Failed(error.to_string());
        let path = real(path)?;
        job.step(format!("{}: its label", path.display()), 0);
        let (volume_id, name) = match self.adopted_at(&path)? {
            Some(known) => known,
            None => self.take_in_adopted(&path, name).map_err(|e| failed(&e))?,
        };
        let mut report = VolumeReport {
            volume: name.clone(),
            ..VolumeReport::default()
        };
        let done = self
            .take_over(&path, &volume_id, job, &mut report)
            .and_then(|()| {
                let (depth, repair) = (Depth::Names, Repair::Yes(FROM));
                self.equalize_one(&volume_id, &name, depth, repair, job, &mut report)
            });
        skipped(&mut report);
        self.ship();
        job.report(report);
        done
    }

    /// The volume that this tree is already, if it is an adopted one; an error when it is part of another one.
    fn adopted_at(&self, path: &Path) -> Result<Option<(String, String)>, Stop> {
        let refuse = |reason: String| Err(Stop::Failed(reason));
        for member in self.shelf.all() {
            let theirs = real(&member.path).unwrap_or_else(|_| member.path.clone());
            let name = &member.name;
            if theirs == path {
                return match member.here() {
                    Some(volume) if volume.is_adopted() => {
                        Ok(Some((member.volume_id.clone(), name.clone())))
                    }
                    Some(_) => refuse(format!("{} is volume {name}", path.display())),
                    None if member.home.is_some() => refuse(format!(
                        "{} is the place of volume {name}, which is away",
                        path.display()
                    )),
                    None => refuse(format!(
                        "{} is the place of volume {name}, which is away: kura volume return {name}",
                        path.display()
                    )),
                };
            }
            if theirs.starts_with(path) || path.starts_with(&theirs) {
                return refuse(format!(
                    "{} and volume {name} ({}) are one inside the other; nothing was changed",
                    path.display(),
                    theirs.display()
                ));
            }
        }
        let state = real(&self.state).unwrap_or_else(|_| self.state.clone());
        match state.starts_with(path) {
            true => refuse(format!(
                "the state folder {} is in it; nothing was changed",
                state.display()
            )),
            false => Ok(None),
        }
    }

    /// Makes the tree a volume, still without lines. The error is a sentence.
    fn take_in_adopted(
        &self,
        path: &Path,
        name: Option<String>,
    ) -> Result<(String, String), String> {
        let archive_id = self.identity().archive_id.clone();
        let refuse = |reason: &str| format!("{}: {reason}; nothing was changed", path.display());
        let known = match Volume::<Line>::label_of(path).map_err(|error| error.to_string())? {
            LabelState::Missing => return Err(refuse("there is no such folder")),
            LabelState::Empty => return Err(refuse("there is nothing in it")),
            LabelState::Label(label) if label.archive_id == archive_id => Some(label),
            LabelState::Label(_) | LabelState::Foreign => None,
        };
        if let Some(label) = &known
            && !label.adopted
        {
            return Err(refuse(&format!(
                "it is volume {0} of this archive: kura volume add {0} {1}",
                label.name,
                path.display()
            )));
        }
        if let Some(label) = &known
            && let Some(other) = self.shelf.by_id(&label.volume_id)
        {
            return Err(refuse(&match other.here() {
                Some(_) => format!(
                    "it is a copy of volume {}, with its label: take {}, {} and {}/ out of the copy",
                    other.name,
                    layout::LABEL_FILE,
                    layout::LOCK_FILE,
                    layout::LEDGERS_FOLDER
                ),
                None => format!(
                    "it is volume {0}: kura volume relocate {0} {1}",
                    other.name,
                    path.display()
                ),
            }));
        }
        let name = match (&known, name) {
            (Some(label), _) => label.name.clone(),
            (None, Some(name)) if !config::volume_name_is_plain(&name) => {
                return Err(refuse(&format!(
                    "volume name {name:?}: 1 to 32 letters, digits, - or _"
                )));
            }
            (None, Some(name)) if self.shelf.by_name(&name).is_some() => {
                return Err(refuse(&format!("there is a volume {name} already")));
            }
            (None, Some(name)) => name,
            (None, None) => self.name_for(path),
        };
        let spec = Spec::new(&name, path, Role::Archive);
        let (label, home) = match known {
            Some(label) => (label, None),
            None => {
                let beside = self.state.join(layout::ADOPTED_FOLDER);
                adopted::adopt(&self.disk, &spec, &beside, &archive_id)
                    .map_err(|error| error.to_string())?
            }
        };
        let volume_id = label.volume_id;
        let volume = self
            .open_volume_at(&spec, &volume_id, home.as_deref())
            .map(Arc::new)
            .map_err(|error| error.to_string())?;
        self.keeper.join(own_source(&volume));
        self.put(Member {
            volume_id: volume_id.clone(),
            name: name.clone(),
            path: path.to_owned(),
            role: Role::Archive,
            retired: true,
            home,
            standing: Standing::Here(volume),
        })
        .map_err(|error| error.to_string())?;
        let entry = VolumeEntry::new(name.clone(), path.to_owned(), RoleName::Archive);
        self.write_down(|file| config::edit::put_volume(file, None, &entry))
            .map_err(|error| error.to_string())?;
        Ok((volume_id, name))
    }

    /// From the name of the folder; another one than those that are there.
    fn name_for(&self, path: &Path) -> String {
        let folder = path.file_name().unwrap_or_default().to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let mut name: String = folder.chars().filter(|c| plain(*c)).take(24).collect();
        if name.is_empty() {
            name = "adopted".to_owned();
        }
        let mut numbered = name.clone();
        let mut number = 1;
        while self.shelf.by_name(&numbered).is_some() {
            number += 1;
            numbered = format!("{name}-{number}");
        }
        numbered
    }

    /// Stores every image below `path` as if it had been sent. Run again, what is here already is found to be so.
    pub(super) fn adopt_copies(&self, path: &Path, job: &Job) -> Result<(), Stop> {
        let path = real(path)?;
        for member in self.shelf.all().iter().filter(|m| m.here().is_some()) {
            let theirs = real(&member.path).unwrap_or_else(|_| member.path.clone());
            if theirs.starts_with(&path) || path.starts_with(&theirs) {
                return Err(Stop::Failed(format!(
                    "{} is, holds or is in volume {}, whose images are served; nothing was stored",
                    path.display(),
                    member.name
                )));
            }
        }
        let mut report = VolumeReport {
            volume: path.display().to_string(),
            ..VolumeReport::default()
        };
        job.step(format!("{}: counting", path.display()), 0);
        let hidden: HashSet<u64> = self
            .hidden_by_theirs(&Disk::default(), &path, job)?
            .into_iter()
            .collect();
        let mut count = 0;
        each_file(&path, job, &mut VolumeReport::default(), &mut |_, _, _| {
            count += 1;
            Ok(())
        })?;
        job.step(path.display().to_string(), count);
        let mut prefer = None;
        let done = each_file(&path, job, &mut report, &mut |file, shown, report| {
            match hidden.contains(&hash(shown)) {
                // Amended or removed there.
                true => Ok(()),
                false => self.copy_in(file, shown, &mut prefer, job, report),
            }
        });
        skipped(&mut report);
        job.report(report);
        done
    }

    fn copy_in(
        &self,
        path: &Path,
        shown: &str,
        prefer: &mut Option<String>,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        job.go_on()?;
        report.files += 1;
        job.did(1);
        let opened = Disk::default().open_read(path);
        // Read through before anything is stored: what is damaged stays where it is.
        let read = opened.map_err(at_rest::Unfit::from).and_then(|file| {
            let whole = at_rest::read_whole(&file, &|bytes| job.read(bytes))?;
            Ok((file, whole))
        });
        let (file, whole) = match read {
            Ok(read) => read,
            Err(reason) => {
                job.go_on()?;
                report.find("extra", shown, reason.to_string());
                return Ok(());
            }
        };
        let announced = Announced {
            sop_class_uid: whole.heading.sop_class_uid,
            sop_instance_uid: whole.heading.sop_instance_uid,
            transfer_syntax: whole.heading.transfer_syntax,
            calling_ae_title: FROM.to_owned(),
            prefer: prefer.take(),
        };
        let stored = self.begin(announced).and_then(|mut receiving| {
            let mut piece = vec![0; PIECE_BYTES];
            let mut at = whole.heading.data_offset;
            while at < whole.size_bytes {
                let count = PIECE_BYTES.min((whole.size_bytes - at) as usize);
                if let Err(error) = file.read_exact_at(&mut piece[..count], at) {
                    return Ok(Err(error));
                }
                receiving.write(&piece[..count])?;
                at += count as u64;
            }
            receiving.finish().map(Ok)
        });
        match stored {
            Ok(Ok(kept)) => {
                match kept.outcome {
                    Outcome::Duplicate => report.copies += 1,
                    Outcome::Stored => report.added += 1,
                    Outcome::Variant | Outcome::Conflict | Outcome::Newest => {
                        report.added += 1;
                        report.others += 1;
                    }
                }
                report.ok += 1;
                *prefer = Some(kept.volume_id.clone());
                kept.answered();
            }
            Ok(Err(error)) => report.find("extra", shown, format!("cannot be read: {error}")),
            Err(error @ (IngestError::DataSet(_) | IngestError::Missing { .. })) => {
                report.find("extra", shown, error.to_string());
            }
            Err(error) => return Err(Stop::Failed(format!("{shown}: {error}"))),
        }
        Ok(())
    }
}

/// In a tree that others made, a file that is no image is nothing to be repaired.
fn skipped(report: &mut VolumeReport) {
    for finding in &mut report.findings {
        if finding.kind == "extra" {
            finding.kind = "skipped".to_owned();
        }
    }
}

fn real(path: &Path) -> Result<PathBuf, Stop> {
    Disk::default()
        .real_path(path)
        .map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))
}

/// Gives `f` every regular file below a folder in the order of names, with its relative path; what cannot be given is
/// noted.
fn each_file(
    root: &Path,
    job: &Job,
    report: &mut VolumeReport,
    f: &mut dyn FnMut(&Path, &str, &mut VolumeReport) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let disk = Disk::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        job.go_on()?;
        let shown = |path: &Path| {
            let below = path.strip_prefix(root).unwrap_or(path);
            below.to_string_lossy().into_owned()
        };
        let mut names = match disk.folder(&folder) {
            Ok(names) => names,
            Err(error) => {
                let reason = format!("a folder that cannot be read: {error}");
                report.find("extra", &shown(&folder), reason);
                continue;
            }
        };
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut below = Vec::new();
        for (name, kind) in names {
            let path = folder.join(&name);
            match kind {
                _ if name.to_str().is_some_and(|name| {
                    layout::IGNORED_NAMES.contains(&name) || layout::is_note(name)
                }) => {}
                Kind::Folder => below.push(path),
                Kind::File => f(&path, &shown(&path), report)?,
                Kind::Other => {
                    let reason = "a link or the like, not followed".to_owned();
                    report.find("extra", &shown(&path), reason);
                }
            }
        }
        folders.extend(below.into_iter().rev());
    }
    Ok(())
}
