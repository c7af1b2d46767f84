//! How far each volume was read again: in memory, and in `checked.json` beside its ledger.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::job::Pace;
use crate::volume::io::Disk;
use crate::volume::{Position, Volume, VolumeState, layout};

use super::checked::End;
use super::scrub::{LastRound, Round};
use super::{Archive, Line, state};

/// Longest `checked.json`: a hundred paths and some numbers are far below.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// In the state folder: the files of volumes that cannot be written.
const FOLDER: &str = "checked";

/// What outlives the process, in `checked.json` beside the ledger of the volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Every copy that a line up to here says was made was read again.
    #[serde(default)]
    pub verified: Position,
    /// The round that is under way.
    #[serde(default)]
    pub scrub: Option<Round>,
    #[serde(default)]
    pub last_round: Option<LastRound>,
}

impl Kept {
    /// Of two the greater knows more.
    fn progress(&self) -> (u64, Option<(u64, Position)>, Position) {
        let last = self.last_round.as_ref().map_or(0, |last| last.number);
        let round = self
            .scrub
            .as_ref()
            .map(|round| (round.number, round.position));
        (last, round, self.verified)
    }
}

/// What is known of reading a volume again.
pub struct VolumeCheck {
    pub kept: Kept,
    pub saved: Instant,
    /// `kept` is not what is on the disk.
    pub changed: bool,
    /// Lines up to there are old enough at that moment.
    pub mark: Option<(Position, Instant)>,
    /// Up to there the lines that wait to be verified were counted.
    pub counted: Position,
    pub waiting_count: u64,
    pub pace: Pace,
    /// Size of all files on the volume, and when that was asked.
    pub total: Option<(u64, Instant)>,
    /// For how long the round before is over, where the clock cannot be trusted.
    pub idle_since: Instant,
}

impl VolumeCheck {
    /// Every copy up to there was read again, in whatever way.
    pub fn verified_upto(&mut self, upto: Position) {
        let order = |position: Position| (position.segment, position.offset);
        if order(upto) > order(self.kept.verified) {
            self.kept.verified = upto;
            self.mark = None;
            // Counted anew from there.
            (self.counted, self.waiting_count) = (upto, 0);
        }
    }
}

impl Archive {
    /// A volume that is here, with what is known of it loaded.
    pub(super) fn known(&self, volume_id: &str) -> Result<Arc<Volume<Line>>, End> {
        let volume = self.shelf.here(volume_id).ok_or(End::Stopped)?;
        if self.checks.volumes().contains_key(volume_id) {
            return Ok(volume);
        }
        let places = self.places_of(&volume);
        let read = |(disk, path): &(Disk, PathBuf)| {
            let bytes = disk.read_small(path, FILE_BYTES_MAX).ok()?;
            serde_json::from_slice::<Kept>(&bytes).ok()
        };
        let kept = {
            let _call = volume.call();
            places.iter().filter_map(read).max_by_key(Kept::progress)
        };
        let kept = kept.unwrap_or_default();
        let check = VolumeCheck {
            saved: Instant::now(),
            changed: false,
            mark: None,
            counted: kept.verified,
            waiting_count: 0,
            pace: Pace::new(0),
            total: None,
            idle_since: Instant::now(),
            kept,
        };
        let mut volumes = self.checks.volumes();
        volumes.entry(volume_id.to_owned()).or_insert(check);
        drop(volumes);
        Ok(volume)
    }

    /// Where its state is, or would be if it cannot be written.
    fn places_of(&self, volume: &Volume<Line>) -> [(Disk, PathBuf); 2] {
        let own = volume.ledger_folder(volume.id()).join(layout::CHECKED_FILE);
        let beside = self
            .state
            .join(FOLDER)
            .join(format!("{}.json", volume.id()));
        [(volume.disk().clone(), own), (Disk::default(), beside)]
    }

    /// Writes down how far a volume was read, if that was not done for so long.
    pub(super) fn save_check(&self, volume_id: &str, at_most_every: Duration) {
        let kept = {
            let mut volumes = self.checks.volumes();
            let Some(check) = volumes.get_mut(volume_id) else {
                return;
            };
            if !check.changed || check.saved.elapsed() < at_most_every {
                return;
            }
            (check.changed, check.saved) = (false, Instant::now());
            check.kept.clone()
        };
        let Some(volume) = self.shelf.here(volume_id) else {
            return;
        };
        let bytes = serde_json::to_vec_pretty(&kept).expect("strings and numbers always serialize");
        let [(disk, own), (beside_disk, beside)] = self.places_of(&volume);
        let written = !matches!(volume.state(), VolumeState::Failed(_)) && {
            let _call = volume.call();
            state::replace(&disk, &own, &bytes).is_ok()
        };
        if !written {
            let folder = self.state.join(FOLDER);
            let written = beside_disk
                .create_dir_durable(&folder)
                .and_then(|()| state::replace(&beside_disk, &beside, &bytes));
            if let Err(error) = written {
                tracing::warn!(volume = volume.name(), %error, "how far a volume was read again is not written down");
            }
        }
    }
}
