//! Takes a volume out of the archive that will not come back: first out of the index, then out of `archive.json`.
//!
//! That it is being forgotten is durable before its first instance goes: a restart in the midst goes on, and does not read
//! its ledger again.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config;
use crate::index::IndexError;

use super::mirror::whole;
use super::restoring::{Left, READING_IN, other};
use super::state::Known;
use super::{Archive, VerbError};

/// Instances taken out of the index at a time.
const FORGET_COUNT: usize = 4_096;
/// How long the command waits for that; the server goes on with it.
const FORGET_PATIENCE: Duration = Duration::from_secs(60);

impl Archive {
    /// `kura volume forget`: takes a volume out of the archive that will not come back.
    pub(super) fn forget_volume(&self, name: &str, yes: bool) -> Result<String, VerbError> {
        let member = self.member(name)?;
        let refuse = |reason: String| Err(other(name, format!("{reason}; nothing was changed")));
        if member.here().is_some() {
            return refuse(format!(
                "it is here: kura volume drain {name} empties it, kura volume eject {name} takes it out"
            ));
        }
        let olds = [member.volume_id.clone()];
        let judge = self.judge().without(&member.volume_id);
        let failed = |error: IndexError| other(name, error.to_string());
        let Some(snapshot) = whole(self).map_err(failed)? else {
            return refuse(READING_IN.to_owned());
        };
        if !self.shelf.all().iter().any(|other| other.here().is_some()) {
            return refuse("no other volume is here".to_owned());
        }
        let (mut lost_count, mut todo_count) = (0_u64, 0_u64);
        let counted = self.each_left(&snapshot, &olds, &judge, &mut |_, _, left| {
            match left {
                Left::Lost => lost_count += 1,
                Left::Todo => todo_count += 1,
            }
            ControlFlow::Continue(())
        });
        counted.map_err(failed)?;
        drop(snapshot);
        if lost_count > 0 && !yes {
            return refuse(format!(
                "{lost_count} instances on it are nowhere else: send them again from the modality, or kura volume forget {name} --yes writes them off"
            ));
        }
        let replaced = self.is_replaced(&member.volume_id);
        if replaced && todo_count > 0 && !yes {
            return refuse(format!(
                "{todo_count} instances that were on it are still to be copied; --yes forgets it all the same"
            ));
        }
        if !replaced {
            // First: an unknown volume in the configuration would be made anew, on whatever is at its path.
            self.write_down(|file| config::edit::take_volume(file, name))?;
        }
        self.begin_forgetting(&member.volume_id)?;
        drop(member);
        self.forget_all(Some(FORGET_PATIENCE)).map_err(failed)?;
        let written_off = match lost_count {
            0 => String::new(),
            _ => format!("; {lost_count} instances are written off"),
        };
        tracing::warn!(
            volume = name,
            written_off_count = lost_count,
            "a volume is forgotten"
        );
        Ok(match self.shelf.by_name(name) {
            None => format!("volume {name} is forgotten{written_off}"),
            Some(_) => {
                format!("volume {name} is being forgotten, while the server runs{written_off}")
            }
        })
    }

    /// Durable on return: from now on its ledger is not read, also after a restart.
    pub(super) fn begin_forgetting(&self, volume_id: &str) -> Result<(), VerbError> {
        {
            let mut identity = self.identity();
            let Some(known) = identity.by_id(volume_id).cloned() else {
                return Ok(());
            };
            if self.shelf.here(volume_id).is_some() {
                return Err(other(
                    &known.name,
                    "it came back; nothing was changed".to_owned(),
                ));
            }
            identity.note(Known {
                forgetting: true,
                ..known
            });
        }
        self.save_identity()?;
        // While its lines are known; it does not stand for them any more.
        if let Err(error) = self.restate_corrections() {
            tracing::warn!(%error, "a correction is not said again; it is tried before the volume is forgotten");
        }
        self.keeper.forget_source(volume_id);
        Ok(())
    }

    /// Takes volumes out of the index that are to be forgotten, and then out of the archive.
    pub(super) fn forget_all(&self, patience: Option<Duration>) -> Result<(), IndexError> {
        let begun = Instant::now();
        let known = self.identity().volumes.clone();
        for known in known.into_iter().filter(|known| known.forgetting) {
            // After the next start nobody would know of them.
            if let Err(error) = self.restate_corrections() {
                tracing::warn!(volume = known.name, %error, "a volume is not forgotten: its corrections are in no other ledger");
                return Ok(());
            }
            while self.keeper.forget_some(&known.volume_id, FORGET_COUNT)? {
                let over = patience.is_some_and(|patience| begun.elapsed() > patience);
                // Only a complete index can forget.
                let is_whole = whole(self)?.is_some();
                if over || !is_whole || self.stopping.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            self.identity().forget(&known.volume_id);
            self.shelf.remove(&known.volume_id);
            match self.save_identity() {
                Ok(()) => tracing::info!(volume = known.name, "an old volume is forgotten"),
                Err(error) => {
                    tracing::warn!(volume = known.name, %error, "the next start forgets it again");
                }
            }
            self.ship_identity();
        }
        Ok(())
    }

    pub(super) fn is_being_forgotten(&self) -> bool {
        self.identity().volumes.iter().any(|known| known.forgetting)
    }
}
