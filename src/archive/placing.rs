//! Which volume an instance goes to, and how it goes on elsewhere when that one fails in the middle.

use std::sync::Arc;

use crate::volume::layout::Role;
use crate::volume::placement::{self, Candidate, Order};
use crate::volume::{Incoming, LedgerError, Volume, VolumeError, VolumeState};

use super::shelf::Member;
use super::{Archive, IngestError, Line};

/// Volumes that did not take an instance, each with its reason.
#[derive(Default)]
pub struct Refusals {
    volumes: Vec<(String, String)>,
}

impl Refusals {
    pub fn add(&mut self, volume: &Volume<Line>, error: &VolumeError) {
        self.volumes.push((
            volume.id().to_owned(),
            format!("volume {}: {error}", volume.name()),
        ));
    }
}

impl std::fmt::Display for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reasons: Vec<&str> = self.volumes.iter().map(|(_, reason)| &**reason).collect();
        f.write_str(&reasons.join("; "))
    }
}

impl Archive {
    /// A volume for the next instance, by what is free now, with a file begun on it.
    ///
    /// `prefer`: the volume of the instance before on this association, which is mostly of the same study.
    pub(super) fn begin_somewhere(
        &self,
        refused: &mut Refusals,
        prefer: Option<&str>,
    ) -> Result<(Arc<Volume<Line>>, Incoming), IngestError> {
        loop {
            let volume = self.choose_volume(refused, prefer)?;
            match volume.begin() {
                Ok(incoming) => return Ok((volume, incoming)),
                Err(error) => self.refused_by(&volume, &error, refused),
            }
        }
    }

    fn choose_volume(
        &self,
        refused: &Refusals,
        prefer: Option<&str>,
    ) -> Result<Arc<Volume<Line>>, IngestError> {
        let members = self.shelf.all();
        let has_room = |candidate: &Candidate| {
            placement::choose(std::slice::from_ref(candidate), self.order, 0, None).is_some()
        };
        // The usual case asks one disk.
        if let Some(index) = prefer.and_then(|id| members.iter().position(|m| m.volume_id == id))
            && let Ok((volume, VolumeState::Ok)) = self.takes(&members[index], refused)
            && let Ok(candidate) = self.candidate(index, volume)
            && has_room(&candidate)
        {
            return Ok(volume.clone());
        }
        let (mut candidates, mut second_choice) = (Vec::new(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            let Ok((volume, state)) = self.takes(member, refused) else {
                continue;
            };
            let Ok(candidate) = self.candidate(index, volume) else {
                continue;
            };
            if state == VolumeState::Ok {
                candidates.push(candidate);
                if self.order == Order::InOrder && has_room(&candidate) {
                    break;
                }
            } else {
                second_choice.push(candidate);
            }
        }
        placement::choose(&candidates, self.order, 0, None)
            // Better tried again than refused.
            .or_else(|| placement::choose(&second_choice, self.order, 0, None))
            .and_then(|index| members[index].here().cloned())
            .ok_or_else(|| {
                let archive = members.iter().filter(|member| member.role == Role::Archive);
                let reasons = archive.map(|member| match self.takes(member, refused) {
                    Err(reason) => reason,
                    Ok((volume, _)) => match volume.space() {
                        Err(error) => format!("volume {}: {error}", member.name),
                        Ok(_) => format!("volume {} full", member.name),
                    },
                });
                IngestError::NoVolume(reasons.collect::<Vec<_>>().join("; "))
            })
    }

    fn candidate(&self, index: usize, volume: &Volume<Line>) -> std::io::Result<Candidate<'_>> {
        let space = volume.space()?;
        Ok(Candidate {
            index,
            // What was answered has its room before anything else is taken.
            free_bytes: space.free_bytes.saturating_sub(volume.uncounted_bytes()),
            total_bytes: space.total_bytes,
            writable: true,
            reserve: &self.reserve,
        })
    }

    /// The volume, if it takes instances at all; how full it is does not matter here. Else why not.
    fn takes<'a>(
        &self,
        member: &'a Member,
        refused: &Refusals,
    ) -> Result<(&'a Arc<Volume<Line>>, VolumeState), String> {
        let name = &member.name;
        let Some(volume) = member.here() else {
            return Err(format!("volume {name} is away"));
        };
        if let Some((_, reason)) = refused.volumes.iter().find(|(id, _)| id == volume.id()) {
            return Err(reason.clone());
        }
        match volume.state() {
            VolumeState::Failed(reason) => Err(format!("volume {name}: {reason}")),
            _ if member.role != Role::Archive => Err(format!("volume {name} is a mirror")),
            _ if member.retired || volume.is_adopted() => Err(format!("volume {name} is retired")),
            _ if !volume.answers() => Err(format!("volume {name} does not answer")),
            state => Ok((volume, state)),
        }
    }

    /// A full disk is judged afresh with the next instance, and so is one for which this process lacked open files. After any
    /// other failure the volume is passed over at once: for good when a flush failed (the kernel has forgotten what it could
    /// not write, so a later success would prove nothing), else until a probe succeeds.
    pub(super) fn refused_by(
        &self,
        volume: &Volume<Line>,
        error: &VolumeError,
        refused: &mut Refusals,
    ) {
        if error.is_flush_failure() {
            volume.mark_failed(&error.to_string());
        } else if !error.is_full() && !error.is_of_the_process() {
            volume.suspend(&error.to_string());
        }
        tracing::error!(volume = volume.name(), %error, "a volume did not take an instance");
        refused.add(volume, error);
    }

    /// Puts what `from` has taken on another volume; the sender notices nothing. `crc32` is that of these bytes.
    ///
    /// The newest 8 MiB come from memory. What is older is read back from the disk that failed, and only the right bytes
    /// go on.
    pub(super) fn move_on(
        &self,
        from: &mut Incoming,
        crc32: u32,
        refused: &mut Refusals,
    ) -> Result<(Arc<Volume<Line>>, Incoming), IngestError> {
        let mut piece = vec![0; PIECE_BYTES];
        'volumes: loop {
            let (volume, mut to) = self.begin_somewhere(refused, None)?;
            let mut crc = crc32fast::Hasher::new();
            let mut done = 0;
            while done < from.len() {
                let count = from
                    .read_at(done, &mut piece)
                    .map_err(|error| IngestError::NotRecovered(error.to_string()))?;
                if count == 0 {
                    return Err(IngestError::NotRecovered("it ends too early".to_owned()));
                }
                crc.update(&piece[..count]);
                if let Err(error) = to.write(&piece[..count]) {
                    self.refused_by(&volume, &error, refused);
                    continue 'volumes;
                }
                done += count as u64;
            }
            if crc.finalize() != crc32 {
                return Err(IngestError::NotRecovered(
                    "the disk gave other bytes back".to_owned(),
                ));
            }
            tracing::info!(
                volume = volume.name(),
                bytes = done,
                "an instance goes on on another volume"
            );
            return Ok((volume, to));
        }
    }
}

/// Whether an instance that was refused with this may be tried on another volume.
pub fn is_the_volumes(error: &VolumeError) -> bool {
    !matches!(
        error,
        VolumeError::NameTaken { .. } | VolumeError::Ledger(LedgerError::BadLine { .. })
    )
}

/// Read back and written at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;
