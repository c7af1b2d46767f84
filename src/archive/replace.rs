//! A disk that was given up, and the one in its place.
//!
//! The new disk gets a label with the name and role of the old one and an id of its own; the old volume stays known as
//! `NAME-old` and does not count any more. What has lost a copy by that is copied again like everything that needs a copy,
//! so all of it goes on after any interruption.
//!
//! Stopped half-way, the same command goes on:
//!
//! | after | next |
//! |---|---|
//! | the label of the new disk | its disk has a label of this archive that nobody knows, and no image: it is taken |
//! | `archive.json` | the disk is the one that stands in for the old: path and configuration are brought up to date |
//! | the configuration | nothing is left to do but to copy |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::config::{self, VolumeEntry};
use crate::volume::device::{Disks, Shared, disks_of, share};
use crate::volume::io::Disk;
use crate::volume::layout::{self, Label};
use crate::volume::{LabelState, Spec, Volume, VolumeError, VolumeState, ledger_extent};

use super::open::{GIVEN_UP, known_of};
use super::replace_status::ReplaceStatus;
use super::shelf::{Member, Standing};
use super::shipping::own_source;
use super::state::{Known, Replaced};
use super::verbs::{absolute, is_adopted, role_name};
use super::{Archive, Line, VerbError};

/// A disk that is given up is waited for so long in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest name of a volume.
const NAME_LENGTH_MAX: usize = 32;

/// A folder that may become the volume.
struct NewDisk {
    /// From a run that was killed.
    label: Option<Label>,
    room_bytes: u64,
    warnings: Vec<String>,
}

impl Archive {
    pub(super) fn is_replaced(&self, volume_id: &str) -> bool {
        self.replaced_by(volume_id).is_some()
    }

    /// Id of the volume that stands in the place of one whose disk was given up.
    pub(super) fn replaced_by(&self, volume_id: &str) -> Option<String> {
        let identity = self.identity();
        let known = identity.by_id(volume_id)?;
        known.replaced.as_ref().map(|replaced| replaced.by.clone())
    }

    /// Replaced or being forgotten: its disk is not opened, and copies on it do not count.
    pub(super) fn is_given_up(&self, volume_id: &str) -> bool {
        let identity = self.identity();
        identity.by_id(volume_id).is_some_and(Known::is_given_up)
    }

    pub(super) fn is_forgetting(&self, volume_id: &str) -> bool {
        let identity = self.identity();
        identity
            .by_id(volume_id)
            .is_some_and(|known| known.forgetting)
    }

    /// Puts a new disk in the place of one that is dead, or says what that would do.
    pub(super) fn replace_volume(
        self: &Arc<Self>,
        name: &str,
        path: PathBuf,
        dry_run: bool,
    ) -> Result<ReplaceStatus, VerbError> {
        let path = absolute(path)?;
        let member = self.member(name)?;
        // Not that of its opening: that may hang in a dead disk.
        let Some(_claim) = self.claim(&format!("replace {name}"), Duration::ZERO) else {
            return Err(refuse(name, "it is being replaced at this moment"));
        };
        if let Some(by) = self.replaced_by(&member.volume_id) {
            let by = self.shelf.by_id(&by).map_or(by, |by| by.name.clone());
            return Err(refuse(name, &format!("volume {by} stands in its place")));
        }
        if is_adopted(&member) {
            return Err(refuse(
                name,
                "it was adopted, and its images are its owner's: kura adopt takes them in again from another disk",
            ));
        }
        if self.goes_on(&member, &path) {
            return match dry_run {
                true => self.replace_status(name),
                false => self.go_on_replacing(member, path),
            };
        }
        let label = match label_within(&path) {
            Some(label) => label?,
            None => return Err(refuse_path(&path, "it does not answer")),
        };
        // What is wrong with the command as a whole, before what is wrong with the disks.
        if let LabelState::Label(label) = &label
            && label.volume_id == member.volume_id
        {
            if self.was_reported(&member) {
                return self.replace_status(name);
            }
            let reason = format!("that is volume {name} itself: kura volume return {name}");
            return Err(refuse_path(&path, &reason));
        }
        if is_well(&member) {
            return Err(refuse(
                name,
                &format!(
                    "it is here and well: kura volume drain {name} empties it, kura volume eject {name} takes it out"
                ),
            ));
        }
        let new = self.look_at_new(&member, &path, label)?;
        if dry_run {
            return self.plan(&member, path, new.room_bytes, new.warnings);
        }
        let warnings = new.warnings.clone();
        self.exchange_disks(member, path, new)?;
        let status = self.replace_status(name)?;
        Ok(ReplaceStatus { warnings, ..status })
    }

    /// Whether the disk at `path` stands in for one that is dead, and that is not over.
    fn goes_on(&self, member: &Member, path: &Path) -> bool {
        let label = label_within(path);
        let is_it = matches!(&label, Some(Ok(LabelState::Label(label))) if label.volume_id == member.volume_id);
        is_it && self.stands_in(&member.volume_id)
    }

    fn go_on_replacing(
        &self,
        member: Arc<Member>,
        path: PathBuf,
    ) -> Result<ReplaceStatus, VerbError> {
        let name = member.name.clone();
        let is_there = member.path == path && member.here().is_some();
        let role = member.role;
        drop(member);
        match is_there {
            true => self.write_path_down(&name, &path, role)?,
            false => drop(self.relocate(&name, path)?),
        }
        self.replace_status(&name)
    }

    fn write_path_down(
        &self,
        name: &str,
        path: &Path,
        role: layout::Role,
    ) -> Result<(), VerbError> {
        let entry = VolumeEntry::new(name.to_owned(), path.to_owned(), role_name(role));
        self.write_down(|file| config::edit::put_volume(file, None, &entry))
    }

    /// Is the folder a disk that may stand in for the volume?
    fn look_at_new(
        &self,
        member: &Member,
        path: &Path,
        label: LabelState,
    ) -> Result<NewDisk, VerbError> {
        let refuse = |reason: &str| Err(refuse_path(path, reason));
        let label = match label {
            LabelState::Missing => {
                return refuse("there is no such folder (is the disk mounted?)");
            }
            LabelState::Foreign => {
                return refuse("it holds files but no label; a new disk must be empty");
            }
            LabelState::Empty => None,
            LabelState::Label(label) => Some(self.known_label(member, path, label)?),
        };
        let state = Some(("the state folder".to_owned(), self.state.clone()));
        let volumes = self.shelf.all().into_iter().filter_map(|other| {
            let is_other = other.volume_id != member.volume_id && other.here().is_some();
            is_other.then(|| (format!("volume {}", other.name), other.path.clone()))
        });
        let folders: Vec<(String, PathBuf)> = volumes.chain(state).collect();
        for (what, folder) in &folders {
            if path.starts_with(folder) || folder.starts_with(path) {
                return refuse(&format!("it and {what} lie in one another"));
            }
        }
        let disk = Disk::default();
        let mut warnings = Vec::new();
        let own = disks_at(&disk, path);
        let mut others = vec![("the state folder".to_owned(), disks_at(&disk, &self.state))];
        for other in self.shelf.all() {
            if other.role != member.role
                && let Some(volume) = other.here().filter(|volume| volume.answers())
            {
                others.push((format!("volume {}", other.name), volume.disks().ok()));
            }
        }
        for (what, theirs) in others {
            let shared = match (&own, &theirs) {
                (Some(own), Some(theirs)) => share(own, theirs),
                _ => Shared::Unknown,
            };
            match shared {
                _ if self.mirror_config.now().allow_same_device => {}
                Shared::No => {}
                Shared::Yes => {
                    return refuse(&format!(
                        "it is on the same physical disk as {what}: is the new disk mounted? ([mirror] allow_same_device = true allows it)"
                    ));
                }
                Shared::Unknown => warnings.push(format!(
                    "it is not known whether {} is on another physical disk than {what}",
                    path.display()
                )),
            }
        }
        let space = disk.space(path).map_err(|source| VolumeError::Io {
            path: path.to_owned(),
            source,
        })?;
        let totals = self
            .view()
            .and_then(|view| view.snapshot.volume_totals(&member.volume_id));
        if let Ok(totals) = totals
            && totals.bytes > space.free_bytes
        {
            warnings.push(format!(
                "{} bytes are free there, and {} bytes are listed on volume {}: the rest goes to other volumes",
                space.free_bytes, totals.bytes, member.name
            ));
        }
        Ok(NewDisk {
            label,
            room_bytes: space.free_bytes,
            warnings,
        })
    }

    /// A label that is there already: only one that an earlier run of this command left.
    fn known_label(&self, member: &Member, path: &Path, label: Label) -> Result<Label, VerbError> {
        let (archive_id, known) = {
            let identity = self.identity();
            let known = identity.by_id(&label.volume_id).cloned();
            (identity.archive_id.clone(), known)
        };
        let refuse = |reason: String| Err(refuse_path(path, &reason));
        if label.archive_id != archive_id {
            return refuse("it is a volume of another archive".to_owned());
        }
        match known {
            Some(known) if known.is_given_up() => {
                return refuse(format!(
                    "it is the disk that was given up, volume {}",
                    known.name
                ));
            }
            Some(known) => return refuse(format!("it is volume {} of this archive", known.name)),
            None => {}
        }
        if label.name != member.name || label.role != member.role || !is_blank(path, &label) {
            return refuse(format!(
                "it has a label of this archive, as volume {}; a new disk must be empty",
                label.name
            ));
        }
        Ok(label)
    }

    /// From the label of the new disk to the configuration.
    fn exchange_disks(
        self: &Arc<Self>,
        member: Arc<Member>,
        path: PathBuf,
        new: NewDisk,
    ) -> Result<(), VerbError> {
        let (name, old_id, role) = (member.name.clone(), member.volume_id.clone(), member.role);
        let spec = Spec {
            name: name.clone(),
            path: path.clone(),
            role,
        };
        let archive_id = self.identity().archive_id.clone();
        let label = match new.label {
            Some(label) => label,
            None => Volume::<Line>::initialize(&self.disk, &spec, &archive_id)?,
        };
        let volume = Arc::new(self.open_volume(&spec, &label.volume_id)?);
        if let VolumeState::Failed(reason) | VolumeState::Suspended(reason) = volume.state() {
            return Err(refuse_path(&path, &reason));
        }
        volume.probe()?;
        drop(member);
        self.give_up(&old_id);
        self.keeper.join(own_source(&volume));
        self.carry_on_leftovers(&volume)?;
        self.take_the_place(&old_id, &name, &volume)?;
        tracing::warn!(volume = name, path = %path.display(), "a new disk stands in the place of a dead one");
        self.choose_copies();
        self.ship_identity();
        self.mirror.told().blocked.clear();
        self.write_path_down(&name, &path, role)
    }

    /// In memory and in `archive.json`, at one moment.
    fn take_the_place(
        &self,
        old_id: &str,
        name: &str,
        volume: &Arc<Volume<Line>>,
    ) -> Result<(), VerbError> {
        let mut identity = self.identity();
        let Some(old) = self.shelf.by_id(old_id) else {
            return Err(VerbError::Unknown(name.to_owned()));
        };
        let taken =
            |name: &str| self.shelf.by_name(name).is_some() || identity.by_name(name).is_some();
        let old = Member {
            name: name_of_old(name, taken),
            retired: true,
            standing: Standing::Away {
                reason: GIVEN_UP.to_owned(),
                ejected: true,
            },
            ..(*old).clone()
        };
        let new = Member {
            volume_id: volume.id().to_owned(),
            name: name.to_owned(),
            path: volume.root().to_owned(),
            role: volume.role(),
            retired: false,
            home: None,
            standing: Standing::Here(volume.clone()),
        };
        let replaced = Replaced {
            by: new.volume_id.clone(),
            at: super::now(),
            reported: false,
            listed_count: 0,
        };
        let before = identity.clone();
        identity.replace(
            Known {
                replaced: Some(replaced),
                ..known_of(&old)
            },
            known_of(&new),
        );
        if let Err(source) = identity.save(&Disk::default(), &self.state) {
            *identity = before;
            drop(identity);
            self.keeper.forget_source(volume.id());
            let path = self.state.join(super::state::FILE);
            return Err(super::OpenError::State { path, source }.into());
        }
        self.shelf.exchange(old, new);
        Ok(())
    }

    /// Takes a disk out of use that may never answer again: nobody begins anything on it, who is at it has a moment, and
    /// the last lines of its ledger are copied if they can be read.
    fn give_up(self: &Arc<Self>, volume_id: &str) {
        let Some(member) = self.shelf.by_id(volume_id) else {
            return;
        };
        let Some(volume) = member.here().cloned() else {
            return;
        };
        volume.mark_failed(GIVEN_UP);
        let away = member.standing(Standing::Away {
            reason: GIVEN_UP.to_owned(),
            ejected: true,
        });
        drop(member);
        if let Err(error) = self.put(away) {
            tracing::warn!(%error, "that a volume is away could not be written down");
        }
        let begun = Instant::now();
        while (!volume.is_idle() || Arc::strong_count(&volume) > 1) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let archive = self.clone();
        let shipped = within(PATIENCE, move || archive.ship_one(&volume));
        if shipped.is_none() {
            tracing::warn!(
                "the ledger of the old disk could not be read to its end; a copy is used"
            );
        }
        self.choose_copies();
    }

    /// Whether an instance that was just made durable is on a disk that still counts. One that hung while it was given up
    /// may have taken the last lines after that.
    pub(super) fn still_counts(&self, volume: &Volume<Line>) -> Result<(), VolumeError> {
        // By then it may even be forgotten.
        let counts = || {
            let identity = self.identity();
            let known = identity.by_id(volume.id());
            known.is_some_and(|known| !known.is_given_up())
        };
        match volume.state() {
            VolumeState::Failed(reason) if !counts() => Err(VolumeError::Failed {
                name: volume.name().to_owned(),
                reason,
            }),
            _ => Ok(()),
        }
    }
}

fn refuse(name: &str, reason: &str) -> VerbError {
    VerbError::Other {
        name: name.to_owned(),
        reason: format!("{reason}; nothing was changed"),
    }
}

fn refuse_path(path: &Path, reason: &str) -> VerbError {
    VerbError::Path {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// `NAME-old`, `NAME-old-2`, …
fn name_of_old(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut number = 1;
    loop {
        let end = match number {
            1 => "-old".to_owned(),
            _ => format!("-old-{number}"),
        };
        // A name is of ASCII characters.
        let kept = name.len().min(NAME_LENGTH_MAX - end.len());
        let old = format!("{}{end}", &name[..kept]);
        if !taken(&old) {
            return old;
        }
        number += 1;
    }
}

/// Takes what is written to it, at this moment.
fn is_well(member: &Member) -> bool {
    let Some(volume) = member.here().cloned() else {
        return false;
    };
    if !volume.answers() || volume.state() != VolumeState::Ok {
        return false;
    }
    let probed = within(PATIENCE, move || match volume.probe() {
        Ok(()) => true,
        Err(error) => error.is_full(),
    });
    probed == Some(true)
}

/// Nothing was stored on it: no image, and no line of one.
fn is_blank(path: &Path, label: &Label) -> bool {
    let disk = Disk::default();
    let own = |name: &std::ffi::OsStr| {
        let name = name.to_str().unwrap_or_default();
        layout::OWN_NAMES.contains(&name) || layout::IGNORED_NAMES.contains(&name)
    };
    let most = layout::OWN_NAMES.len() + layout::IGNORED_NAMES.len() + 1;
    let names = disk.list(path, most);
    let mut lines = 0;
    let folder = path.join(layout::LEDGERS_FOLDER).join(&label.volume_id);
    let read = match disk.entry(&folder) {
        Ok(None) => Ok(()),
        _ => ledger_extent::read_last_segment(&disk, &folder, &mut |_| lines += 1),
    };
    names.is_ok_and(|names| names.iter().all(|name| own(name))) && read.is_ok() && lines == 0
}

fn disks_at(disk: &Disk, path: &Path) -> Option<Disks> {
    let entry = disk.entry(path).ok().flatten()?;
    Some(disks_of(disk, entry.identity.0, path))
}

fn label_within(path: &Path) -> Option<Result<LabelState, VolumeError>> {
    let path = path.to_owned();
    within(PATIENCE, move || Volume::<Line>::label_of(&path))
}

/// What a call to a disk gives, if it returns in that time; else its thread is left behind.
fn within<T: Send + 'static>(
    time: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = channel();
    let thread = std::thread::Builder::new().name("call".to_owned());
    thread
        .spawn(move || {
            // Nobody listens any more where it took too long.
            let _ = tell.send(call());
        })
        .ok()?;
    told.recv_timeout(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_old_disk_is_free_and_not_too_long() {
        let taken = ["A-old", "A-old-2"];
        assert_eq!(name_of_old("B", |_| false), "B-old");
        assert_eq!(name_of_old("A", |name| taken.contains(&name)), "A-old-3");
        let long = "x".repeat(32);
        assert_eq!(
            name_of_old(&long, |_| false),
            format!("{}-old", "x".repeat(28))
        );
    }
}
