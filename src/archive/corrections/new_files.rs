//! Where the files of a correction go, and how they go again when it does not come to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::index::{Change, Gone};
use crate::volume::layout::Role;
use crate::volume::placement::{self, Candidate, Order};
use crate::volume::{Volume, VolumeState};

use super::super::{Archive, Line, entry};
use super::CorrectionError;
use super::plan::refused;

/// What a file becomes longer by being amended, at most about, in bytes: room is asked for with it.
pub(super) const GROWTH_BYTES: u64 = 16 << 10;

/// A file that a line of this correction speaks of.
pub(super) struct MadeFile {
    pub(super) sop_instance_uid: String,
    pub(super) volume_id: String,
    pub(super) path: String,
    /// What lies at the path is another file.
    pub(super) is_other: bool,
}

/// A volume that takes new files, and how much.
struct Taker {
    volume: Arc<Volume<Line>>,
    free_bytes: u64,
    total_bytes: u64,
}

impl Archive {
    /// Whether new contents need a second file: there is a mirror volume that is in use.
    fn needs_mirror(&self) -> bool {
        let members = self.shelf.all();
        let mut mirrors = members.iter().filter(|m| m.role == Role::Mirror);
        mirrors.any(|member| !member.retired && !self.is_given_up(&member.volume_id))
    }

    /// Volumes of a role that can be written now, in the order of the shelf; and why the others cannot.
    fn takers(&self, role: Role, refused: &BTreeMap<String, String>) -> (Vec<Taker>, Vec<String>) {
        let (mut takers, mut reasons) = (Vec::new(), Vec::new());
        for member in self.shelf.all() {
            if member.role != role || member.retired || self.is_given_up(&member.volume_id) {
                continue;
            }
            let name = &member.name;
            let Some(volume) = member.here().filter(|volume| !volume.is_adopted()) else {
                reasons.push(format!("volume {name} is away"));
                continue;
            };
            if let Some(reason) = refused.get(volume.id()) {
                reasons.push(reason.clone());
            } else if volume.state() != VolumeState::Ok || !volume.answers() {
                reasons.push(format!("volume {name} is not written"));
            } else if let Ok(space) = volume.space() {
                takers.push(Taker {
                    volume: volume.clone(),
                    free_bytes: space.free_bytes,
                    total_bytes: space.total_bytes,
                });
            } else {
                reasons.push(format!("volume {name} does not say how full it is"));
            }
        }
        (takers, reasons)
    }

    /// The volumes for the next files of a correction: an archive volume, `near` ones rather than others, and a mirror
    /// volume, on another disk where there is one.
    pub(super) fn new_places(
        &self,
        bytes: u64,
        near: &[String],
        refused: &BTreeMap<String, String>,
    ) -> Result<Vec<Arc<Volume<Line>>>, CorrectionError> {
        let choose = |role: Role, fits: &dyn Fn(&Taker) -> bool, order: Order| {
            let (takers, mut reasons) = self.takers(role, refused);
            let candidate = |(index, taker): (usize, &Taker)| Candidate {
                index,
                free_bytes: taker.free_bytes,
                total_bytes: taker.total_bytes,
                writable: true,
                reserve: &self.reserve,
            };
            let all = takers.iter().enumerate();
            let fitting: Vec<_> = all
                .clone()
                .filter(|(_, t)| fits(t))
                .map(candidate)
                .collect();
            let all: Vec<_> = all.map(candidate).collect();
            let prefer = takers
                .iter()
                .position(|t| near.iter().any(|id| id == t.volume.id()));
            let chosen = placement::choose(&fitting, order, bytes, prefer)
                .or_else(|| placement::choose(&all, order, bytes, prefer));
            let full = |taker: &Taker| format!("volume {} is full", taker.volume.name());
            match chosen {
                Some(index) => Ok(takers[index].volume.clone()),
                None => {
                    reasons.extend(takers.iter().map(full));
                    Err(no_place(role, &reasons.join("; ")))
                }
            }
        };
        let first = choose(Role::Archive, &|_| true, self.order)?;
        if !self.needs_mirror() {
            return Ok(vec![first]);
        }
        let judge = self.judge();
        let of_first = [first.id().to_owned()];
        let apart = |taker: &Taker| judge.is_apart_from(taker.volume.id(), &of_first);
        let second = choose(Role::Mirror, &apart, Order::MostFree)?;
        Ok(vec![first, second])
    }

    /// Whether the volumes have room for so much, together.
    pub(super) fn check_room(&self, bytes: u64, count: u64) -> Result<(), CorrectionError> {
        let need = bytes + count * GROWTH_BYTES;
        let mut roles = vec![Role::Archive];
        roles.extend(self.needs_mirror().then_some(Role::Mirror));
        for role in roles {
            let (takers, mut reasons) = self.takers(role, &BTreeMap::new());
            let room = |taker: &Taker| {
                let reserve = self.reserve.bytes(taker.total_bytes);
                taker.free_bytes.saturating_sub(reserve)
            };
            let room: u64 = takers.iter().map(room).sum();
            if takers.is_empty() || room < need {
                let left =
                    |taker: &Taker| format!("volume {} has no room for it", taker.volume.name());
                reasons.extend(takers.iter().map(left));
                return Err(no_place(role, &reasons.join("; ")));
            }
        }
        Ok(())
    }

    /// Removes files of a correction that does not come to be, then says so in their ledgers. What cannot be done now is
    /// done later, since no correction in effect has made them.
    pub(super) fn unmake(&self, files: &[MadeFile]) {
        let mut by_volume: BTreeMap<&str, Vec<&MadeFile>> = BTreeMap::new();
        for file in files {
            by_volume.entry(&file.volume_id).or_default().push(file);
        }
        for (volume_id, files) in by_volume {
            let Some(volume) = self.shelf.here(volume_id) else {
                continue;
            };
            if let Err(reason) = self.unmake_on(&volume, &files) {
                tracing::warn!(
                    volume = volume.name(),
                    reason,
                    "files of an amendment that was not made are left for now"
                );
            }
        }
    }

    fn unmake_on(&self, volume: &Volume<Line>, files: &[&MadeFile]) -> Result<(), String> {
        for file in files.iter().filter(|file| !file.is_other) {
            let _call = volume.call();
            match volume.remove_file(&file.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", file.path));
                }
                _ => {}
            }
        }
        // A file that a power cut brings back would have no line any more.
        let _call = volume.call();
        volume
            .sync_file_system()
            .map_err(|error| error.to_string())?;
        let now = super::super::now();
        let lines = files.iter().map(|file| {
            let gone = Gone {
                sequence: self.keeper.next_sequence(),
                sop_instance_uid: file.sop_instance_uid.clone(),
                volume_id: volume.id().to_owned(),
                path: file.path.clone(),
            };
            let line = entry::gone_line(&gone, &now, "not made");
            (Vec::new(), line, Arc::new(Change::Gone(gone)))
        });
        let said = volume.ledger().append_all(lines.collect());
        said.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn no_place(role: Role, reasons: &str) -> CorrectionError {
    let reasons = match reasons.is_empty() {
        true => "there is none",
        false => reasons,
    };
    refused(format!(
        "no {role} volume takes the new files: {reasons}; nothing was changed; kura volume list shows the disks"
    ))
}
