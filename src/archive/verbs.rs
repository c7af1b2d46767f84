//! What an administrator does with volumes; each takes effect at once and is still true after a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::{self, RoleName, VolumeEntry};
use crate::volume::layout::Role;
use crate::volume::{LabelState, Spec, Volume, VolumeError};

use super::open::known_of;
use super::replace_status::ReplaceStatus;
use super::shelf::{Member, Standing};
use super::shipping::own_source;
use super::state::Known;
use super::watch::label_at;
use super::{Archive, Line, OpenError};

/// `kura volume …`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VolumeVerb {
    Add {
        name: String,
        path: PathBuf,
        role: Role,
    },
    /// No new instances any more, or again.
    Retire {
        name: String,
        undo: bool,
    },
    /// May be unplugged.
    Eject {
        name: String,
    },
    /// Is plugged in again.
    Return {
        name: String,
    },
    /// Everything on it goes to the others; or stop that.
    Drain {
        name: String,
        stop: bool,
    },
    Rename {
        name: String,
        new_name: String,
    },
    /// Is at another path now.
    Relocate {
        name: String,
        path: PathBuf,
    },
    /// Its disk is dead: another one in its place.
    Replace {
        name: String,
        path: PathBuf,
        /// Only say what that would do.
        dry_run: bool,
    },
    /// It will not come back.
    Forget {
        name: String,
        /// Also what is nowhere else.
        yes: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("there is no volume {0}; kura volume list shows all")]
    Unknown(String),
    #[error("there is a volume {0} already; nothing was changed")]
    NameTaken(String),
    #[error("volume name {0:?}: 1 to 32 letters, digits, - or _; nothing was changed")]
    BadName(String),
    #[error("{}: {reason}; nothing was changed", path.display())]
    Path { path: PathBuf, reason: String },
    #[error("volume {name} is still in use after {seconds} s; try again when senders are quiet")]
    InUse { name: String, seconds: u64 },
    #[error("volume {name}: {reason}")]
    Other { name: String, reason: String },
    /// Done, but the next start would not know.
    #[error("done, but {} could not be written ({reason}): change it there by hand", path.display())]
    NotWritten { path: PathBuf, reason: String },
}

/// What a verb answers.
pub enum VolumeSaid {
    /// Done; what it means, in a sentence.
    Done(String),
    Replace(Box<ReplaceStatus>),
}

/// How long eject waits for what is in flight.
const SETTLE: Duration = Duration::from_secs(30);

impl Archive {
    /// Does it; the answer is a sentence for the administrator.
    pub fn volume_verb(self: &Arc<Self>, verb: VolumeVerb) -> Result<VolumeSaid, VerbError> {
        let said = match verb {
            VolumeVerb::Replace {
                name,
                path,
                dry_run,
            } => {
                let status = self.replace_volume(&name, path, dry_run)?;
                return Ok(VolumeSaid::Replace(Box::new(status)));
            }
            VolumeVerb::Add { name, path, role } => self.add_volume(name, path, role),
            VolumeVerb::Retire { name, undo } => self.retire(&name, undo),
            VolumeVerb::Eject { name } => self.eject(&name),
            VolumeVerb::Return { name } => self.bring_back(&name),
            VolumeVerb::Drain { name, stop } => self.begin_drain(&name, stop),
            VolumeVerb::Rename { name, new_name } => self.rename(&name, new_name),
            VolumeVerb::Relocate { name, path } => self.relocate(&name, path),
            VolumeVerb::Forget { name, yes } => self.forget_volume(&name, yes),
        };
        said.map(VolumeSaid::Done)
    }

    pub(super) fn member(&self, name: &str) -> Result<Arc<Member>, VerbError> {
        self.shelf
            .by_name(name)
            .ok_or_else(|| VerbError::Unknown(name.to_owned()))
    }

    fn is_still_used(&self, member: &Member) -> Result<(), VerbError> {
        match self.is_given_up(&member.volume_id) {
            false => Ok(()),
            true => Err(VerbError::Other {
                name: member.name.clone(),
                reason: "its disk was given up and is not opened again; kura send stores what can still be read of it".to_owned(),
            }),
        }
    }

    /// Puts it on the shelf and writes it down.
    pub(super) fn put(&self, member: Member) -> Result<(), VerbError> {
        {
            let mut identity = self.identity();
            identity.note_standing(known_of(&member));
            self.shelf.put(member);
        }
        self.save_identity()?;
        self.ship_identity();
        Ok(())
    }

    fn add_volume(&self, name: String, path: PathBuf, role: Role) -> Result<String, VerbError> {
        if !config::volume_name_is_plain(&name) {
            return Err(VerbError::BadName(name));
        }
        let path = absolute(path)?;
        let archive_id = self.identity().archive_id.clone();
        let refuse = |reason: &str| VerbError::Path {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let spec = Spec {
            name: name.clone(),
            path: path.clone(),
            role,
        };
        let known = match Volume::<Line>::label_of(&path)? {
            LabelState::Missing => {
                return Err(refuse("there is no such folder (is the disk mounted?)"));
            }
            LabelState::Foreign => {
                return Err(refuse(
                    "it holds files but no label; kura adopt serves what is there",
                ));
            }
            LabelState::Label(label) if label.archive_id != archive_id => {
                return Err(refuse("it is a volume of another archive"));
            }
            LabelState::Label(label) => Some(label),
            LabelState::Empty => None,
        };
        let taken = self.shelf.by_name(&name);
        let volume_id = match known {
            Some(label) if self.is_given_up(&label.volume_id) => {
                return Err(refuse(
                    "it is a disk that was given up; kura send stores what can still be read of it",
                ));
            }
            Some(label) if label.name != name => {
                return Err(refuse(&format!(
                    "it is volume {}; add it under that name, or rename it afterwards",
                    label.name
                )));
            }
            Some(label) => {
                if taken.is_some_and(|other| {
                    other.volume_id != label.volume_id || other.here().is_some()
                }) {
                    return Err(VerbError::NameTaken(name));
                }
                label.volume_id
            }
            None if taken.is_some() => return Err(VerbError::NameTaken(name)),
            None => Volume::<Line>::initialize(&self.disk, &spec, &archive_id)?.volume_id,
        };
        let volume = Arc::new(self.open_volume(&spec, &volume_id)?);
        self.keeper.join(own_source(&volume));
        self.carry_on_leftovers(&volume)?;
        self.put(Member {
            volume_id,
            name: name.clone(),
            path: path.clone(),
            role,
            retired: false,
            home: None,
            standing: Standing::Here(volume),
        })?;
        let role_name = match role {
            Role::Archive => RoleName::Archive,
            Role::Mirror => RoleName::Mirror,
        };
        let entry = VolumeEntry::new(name.clone(), path.clone(), role_name);
        self.write_down(|file| config::edit::put_volume(file, None, &entry))?;
        Ok(format!("volume {name} is at {} now", path.display()))
    }

    fn retire(&self, name: &str, undo: bool) -> Result<String, VerbError> {
        let member = self.member(name)?;
        if undo && is_adopted(&member) {
            return Err(VerbError::Other {
                name: name.to_owned(),
                reason: "it was adopted, and stays as it is".to_owned(),
            });
        }
        self.put(Member {
            retired: !undo,
            ..(*member).clone()
        })?;
        if let Some(volume) = member.here().filter(|_| !undo)
            && let Err(error) = self.empty_intake(volume)
        {
            tracing::error!(volume = name, %error, "instances stay in the intake journal for now");
        }
        Ok(match undo {
            false => format!("volume {name} takes no new instances; what is on it is served"),
            true => format!("volume {name} takes instances again"),
        })
    }

    fn begin_drain(&self, name: &str, stop: bool) -> Result<String, VerbError> {
        let member = self.member(name)?;
        if !stop && is_adopted(&member) {
            return Err(VerbError::Other {
                name: name.to_owned(),
                reason: "it was adopted, and nothing is removed from it".to_owned(),
            });
        }
        if !stop {
            let refuse = |reason: &str| VerbError::Other {
                name: name.to_owned(),
                reason: reason.to_owned(),
            };
            let other = self.shelf.all().into_iter().any(|other| {
                other.volume_id != member.volume_id
                    && other.role == member.role
                    && !other.retired
                    && other.here().is_some()
            });
            if member.here().is_none() {
                return Err(refuse("it is away"));
            }
            if !other {
                return Err(refuse(&format!(
                    "no other {} volume can take what is on it; kura volume add makes one",
                    member.role
                )));
            }
            self.put(Member {
                retired: true,
                ..(*member).clone()
            })?;
        }
        self.try_drain_now(&member.volume_id);
        self.set_draining(&member.volume_id, !stop)?;
        Ok(match stop {
            false => format!(
                "volume {name} is being emptied onto the others while the server runs; kura volume list says how much is left"
            ),
            true => format!("volume {name} is not emptied any further; it stays retired"),
        })
    }

    pub(super) fn set_draining(&self, volume_id: &str, draining: bool) -> Result<(), OpenError> {
        {
            let mut identity = self.identity();
            if let Some(known) = identity.by_id(volume_id).cloned() {
                identity.note(Known { draining, ..known });
            }
        }
        self.save_identity()
    }

    fn eject(&self, name: &str) -> Result<String, VerbError> {
        let member = self.member(name)?;
        let Some(volume) = member.here().cloned() else {
            return Err(VerbError::Other {
                name: name.to_owned(),
                reason: "it is away already".to_owned(),
            });
        };
        drop(member);
        self.close(name, volume, "ejected")?;
        Ok(format!("volume {name} may be unplugged"))
    }

    /// Takes a volume out: no new work, the work at hand to its end, its ledger copied, everything closed.
    fn close(&self, name: &str, volume: Arc<Volume<Line>>, reason: &str) -> Result<(), VerbError> {
        let member = self.member(name)?;
        self.put(member.standing(Standing::Away {
            reason: reason.to_owned(),
            ejected: true,
        }))?;
        drop(member);
        // From here on its ledger is read from a copy; the last lines follow when nothing is written any more.
        self.ship_one(&volume);
        self.choose_copies();
        let begun = Instant::now();
        while !volume.is_idle() || Arc::strong_count(&volume) > 1 {
            if begun.elapsed() > SETTLE {
                let member = self.member(name)?;
                self.keeper.set_source(own_source(&volume));
                self.put(member.standing(Standing::Here(volume)))?;
                return Err(VerbError::InUse {
                    name: name.to_owned(),
                    seconds: SETTLE.as_secs(),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing comes any more: what waits in its journal gets its files, here or on another volume.
        match self.empty_intake(&volume) {
            Ok(()) => self.note_settled(&volume),
            Err(error) => {
                tracing::error!(volume = name, %error, "instances stay in the intake journal");
            }
        }
        self.ship_one(&volume);
        Ok(())
    }

    fn bring_back(&self, name: &str) -> Result<String, VerbError> {
        let mut member = self.member(name)?;
        self.is_still_used(&member)?;
        if let Some(volume) = member.here().cloned() {
            // One that failed: only a new look at it, with everything closed, can say that it is well.
            let path = member.path.clone();
            drop(member);
            self.close(name, volume, "being looked at")?;
            member = self.member(name)?;
            tracing::info!(volume = name, path = %path.display(), "a volume is looked at again");
        }
        self.put(member.standing(Standing::Away {
            reason: "being opened".to_owned(),
            ejected: false,
        }))?;
        self.take_back(&member.volume_id, SETTLE);
        let now = self.member(name)?;
        match &now.standing {
            Standing::Here(_) => Ok(format!("volume {name} is back")),
            Standing::Away { reason, .. } => Err(VerbError::Other {
                name: name.to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    fn rename(&self, name: &str, new_name: String) -> Result<String, VerbError> {
        if !config::volume_name_is_plain(&new_name) {
            return Err(VerbError::BadName(new_name));
        }
        if self.shelf.by_name(&new_name).is_some() {
            return Err(VerbError::NameTaken(new_name));
        }
        let member = self.member(name)?;
        let Some(volume) = member.here() else {
            return Err(VerbError::Other {
                name: name.to_owned(),
                reason: "it is away; its label can only be changed when it is here".to_owned(),
            });
        };
        volume.write_label_name(&new_name)?;
        self.put(Member {
            name: new_name.clone(),
            ..(*member).clone()
        })?;
        let role = role_name(member.role);
        let entry = VolumeEntry::new(new_name.clone(), member.path.clone(), role);
        self.write_down(|file| config::edit::put_volume(file, Some(name), &entry))?;
        Ok(format!("volume {name} is named {new_name} now"))
    }

    pub(super) fn relocate(&self, name: &str, path: PathBuf) -> Result<String, VerbError> {
        let path = absolute(path)?;
        let member = self.member(name)?;
        self.is_still_used(&member)?;
        let moved = Member {
            path: path.clone(),
            ..(*member).clone()
        };
        if label_at(&moved).is_none() {
            return Err(VerbError::Path {
                path,
                reason: format!("it is not volume {name}"),
            });
        }
        if let Some(volume) = member.here().cloned() {
            drop((member, moved));
            self.close(name, volume, "being moved")?;
        }
        let member = self.member(name)?;
        self.put(Member {
            path: path.clone(),
            standing: Standing::Away {
                reason: "being opened".to_owned(),
                ejected: false,
            },
            ..(*member).clone()
        })?;
        self.take_back(&member.volume_id, SETTLE);
        let entry = VolumeEntry::new(name.to_owned(), path.clone(), role_name(member.role));
        self.write_down(|file| config::edit::put_volume(file, Some(name), &entry))?;
        match &self.member(name)?.standing {
            Standing::Here(_) => Ok(format!("volume {name} is at {} now", path.display())),
            Standing::Away { reason, .. } => Err(VerbError::Other {
                name: name.to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    /// Changes the configuration file, if there is one.
    pub(super) fn write_down(
        &self,
        change: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), VerbError> {
        // Without a file the volumes are those in archive.json.
        let Some(file) = &self.config_file else {
            return Ok(());
        };
        change(file).map_err(|reason| VerbError::NotWritten {
            path: file.clone(),
            reason,
        })
    }
}

pub(super) fn is_adopted(member: &Member) -> bool {
    member.home.is_some() || member.here().is_some_and(|volume| volume.is_adopted())
}

pub(super) fn role_name(role: Role) -> RoleName {
    match role {
        Role::Archive => RoleName::Archive,
        Role::Mirror => RoleName::Mirror,
    }
}

pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, VerbError> {
    std::path::absolute(&path).map_err(|error| VerbError::Path {
        path,
        reason: error.to_string(),
    })
}
