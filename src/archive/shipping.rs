//! Copies of every ledger on the other volumes and beside the state, so that a volume that is away or dead is not
//! forgotten: its instances stay known by what the copies say, also after the index was rebuilt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::volume::io::Disk;
use crate::volume::ledger::{LedgerError, Position};
use crate::volume::shipping::{CopyState, Shipped, ship, ship_after};
use crate::volume::{Volume, VolumeState, layout, ledger_extent, recent};

use super::keeper::Source;
use super::shelf::Standing;
use super::{Archive, Line, state};

/// How far each copy is, of those that this process has made.
#[derive(Default)]
pub struct Shipper {
    /// Each with a lock of its own: a source that hangs holds up nobody else.
    copies: Mutex<Copies>,
}

/// By volume id and folder.
type Copies = HashMap<(String, PathBuf), Arc<Mutex<Copy>>>;

impl Shipper {
    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Copy {
    position: Option<Position>,
    /// It was told; once is enough while it lasts.
    failed: bool,
}

impl Archive {
    /// Brings every copy up to date. What cannot be written now is tried again the next time.
    pub fn ship(&self) {
        for member in self.shelf.all() {
            if let Standing::Here(volume) = &member.standing
                && volume.answers()
            {
                self.ship_one(volume);
            }
        }
        self.ship_identity();
    }

    /// Brings the copies of one ledger up to date.
    pub(super) fn ship_one(&self, source: &Volume<Line>) {
        let beside = self.state.join(layout::LEDGERS_FOLDER).join(source.id());
        if let Some(upto) = self.ship_to(source, &Disk::default(), &beside) {
            source.ledger().forget_recent(upto);
        }
        for member in self.shelf.all() {
            if let Some(target) = member.here()
                && target.id() != source.id()
                && !target.is_adopted()
                && target.state() == VolumeState::Ok
                && target.answers()
            {
                self.ship_to(source, target.disk(), &target.ledger_folder(source.id()));
            }
        }
    }

    /// Where the copy ends now, if it could be brought up to date.
    fn ship_to(&self, source: &Volume<Line>, target: &Disk, folder: &Path) -> Option<Position> {
        let key = (source.id().to_owned(), folder.to_owned());
        let copy = self.shipper.copies().entry(key).or_default().clone();
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        let own = source.ledger_folder(source.id());
        let upto = source.ledger().position();
        if upto == Position::default() {
            return None;
        }
        let last = copy.position;
        // A disk that does not answer is not asked.
        let shipped = match last {
            _ if !source.answers() => Err(LedgerError::Failed {
                path: own.clone(),
                reason: "its disk does not answer".to_owned(),
            }),
            Some(last) => ship_after(last, source.disk(), &own, target, folder, upto),
            None => ship(source.disk(), &own, target, folder, upto),
        };
        // What the disk does not give back any more is still in memory.
        let from_memory = || {
            let groups = source.ledger().recent(last.unwrap_or_default())?;
            recent::append(target, folder, last.unwrap_or_default(), &groups).ok()
        };
        let shipped = shipped.or_else(|error| match from_memory() {
            Some(position) => Ok(Shipped {
                position,
                bytes: 0,
                state: CopyState::InStep,
            }),
            None => Err(error),
        });
        match shipped {
            Ok(Shipped {
                position, state, ..
            }) => {
                (copy.position, copy.failed) = (Some(position), false);
                match state {
                    CopyState::InStep => {}
                    CopyState::SourceBehind => tracing::error!(
                        volume = source.name(),
                        copy = %folder.display(),
                        "the ledger is behind its copy: was the disk restored from an older one?"
                    ),
                    CopyState::SetAside(aside) => tracing::warn!(
                        volume = source.name(),
                        aside = %aside.display(),
                        "a copy of the ledger was of another one and is set aside"
                    ),
                }
                Some(position)
            }
            Err(error) => {
                copy.position = None;
                if !std::mem::replace(&mut copy.failed, true) {
                    tracing::warn!(volume = source.name(), copy = %folder.display(), %error,
                        "a ledger could not be copied; it is tried again");
                }
                None
            }
        }
    }

    pub(super) fn ship_identity(&self) {
        let identity = self.identity().clone();
        for member in self.shelf.all() {
            let Some(volume) = member
                .here()
                .filter(|v| v.state() == VolumeState::Ok && v.answers() && !v.is_adopted())
            else {
                continue;
            };
            let key = (
                format!("archive {}", identity.revision),
                volume.root().to_owned(),
            );
            let mut copies = self.shipper.copies();
            if copies.contains_key(&key) {
                continue;
            }
            let folder = volume.root().join(layout::LEDGERS_FOLDER);
            let is_there = state::read(&folder.join(state::FILE))
                .is_ok_and(|copy| copy.says_the_same_as(&identity));
            let saved = match is_there {
                true => Ok(()),
                false => identity.save(volume.disk(), &folder),
            };
            match saved {
                Ok(()) => drop(copies.insert(key, Arc::default())),
                Err(error) => {
                    tracing::debug!(volume = volume.name(), %error, "archive.json not copied");
                }
            }
        }
    }

    /// From where the ledger of each volume is read: itself, or its best copy while it is away.
    pub(super) fn sources(&self) -> Vec<Source> {
        let members = self.shelf.all();
        members
            .iter()
            .filter_map(|member| match &member.standing {
                Standing::Here(volume) => Some(own_source(volume)),
                Standing::Away { .. } if self.is_forgetting(&member.volume_id) => None,
                Standing::Away { .. } => self.best_copy(&member.volume_id),
            })
            .collect()
    }

    /// From where the ledgers of volumes that are away are read from now on: no longer from a disk that has gone itself.
    pub(super) fn choose_copies(&self) {
        for member in self.shelf.all() {
            if member.here().is_none() && !self.is_forgetting(&member.volume_id) {
                match self.best_copy(&member.volume_id) {
                    Some(copy) => self.keeper.set_source(copy),
                    None => self.keeper.forget_source(&member.volume_id),
                }
            }
        }
    }

    /// The copy that knows most of a volume's ledger.
    pub(super) fn best_copy(&self, volume_id: &str) -> Option<Source> {
        let beside = Source {
            volume_id: volume_id.to_owned(),
            folder: self.state.join(layout::LEDGERS_FOLDER).join(volume_id),
            disk: Disk::default(),
        };
        let members = self.shelf.all();
        let others = members.iter().filter_map(|member| {
            let volume = member.here()?;
            Some(Source {
                volume_id: volume_id.to_owned(),
                folder: volume.ledger_folder(volume_id),
                disk: volume.disk().clone(),
            })
        });
        // Of equals the one beside the state: it keeps no other disk from being unplugged.
        others
            .chain(std::iter::once(beside))
            .map(|copy| {
                let bytes =
                    ledger_extent::bytes_after(&copy.disk, &copy.folder, Position::default());
                (bytes, copy)
            })
            .filter(|(bytes, _)| *bytes > 0)
            .max_by_key(|(bytes, _)| *bytes)
            .map(|(_, copy)| copy)
    }
}

pub fn own_source(volume: &Arc<Volume<Line>>) -> Source {
    if let Some(copy) = volume.healing().read_instead {
        return Source {
            volume_id: volume.id().to_owned(),
            folder: copy.folder,
            disk: copy.disk,
        };
    }
    Source {
        volume_id: volume.id().to_owned(),
        folder: volume.ledger_folder(volume.id()),
        disk: volume.disk().clone(),
    }
}
