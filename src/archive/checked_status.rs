//! What is said of reading copies again: on the screen, in JSON, in the state of the archive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::volume::Volume;

use super::bad_copies::BadStatus;
use super::scrub::LastRound;
use super::shelf::Member;
use super::{Archive, Line};

/// What is known of the copies by reading them again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckedStatus {
    /// Copies that were made and not read again yet.
    pub not_verified_count: u64,
    /// Since when everything that is here has been read again, RFC 3339; `None`: it was not yet.
    pub last_scrub_ended: Option<String>,
    /// Bad copies in those rounds.
    pub last_scrub_bad_count: u64,
    /// Days since the file that was not read for longest may have been read; `None` before the first round is over.
    pub oldest_unread_days: Option<u64>,
    /// Files without a ledger line, as the last rounds found them.
    pub foreign_count: u64,
    #[serde(flatten)]
    pub bad: BadStatus,
    pub volumes: Vec<VolumeChecked>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumeChecked {
    pub name: String,
    pub volume_id: String,
    /// `reading`, `waiting` (everything was read; for the next round, or its hour), `off` or `away`.
    pub state: String,
    /// The round under way, or the last one; 0: none yet.
    pub round: u64,
    /// Of the round under way.
    pub percent: Option<u8>,
    /// Read in the round under way.
    pub files: u64,
    /// Found bad in it.
    pub bad_count: u64,
    pub last_round: Option<LastRound>,
    pub oldest_unread_days: Option<u64>,
    pub not_verified_count: u64,
}

impl CheckedStatus {
    /// What is wrong and what to do, a sentence each.
    pub(super) fn say_actions(&self, actions: &mut Vec<String>) {
        let waiting = self.bad.bad_count - self.bad.passed_over_count;
        if waiting > 0 {
            actions.push(format!(
                "{waiting} bad copies are not healed yet; those of which another copy is good are by themselves: kura scrub status"
            ));
        }
        for name in &self.bad.failing {
            actions.push(format!(
                "the disk of volume {name} fails: replace it: kura volume replace {name} NEWPATH"
            ));
        }
        if self.bad.passed_over_count > 0 {
            actions.push(format!(
                "{} copies are bad on volumes that cannot be written: look at their disks",
                self.bad.passed_over_count
            ));
        }
    }
}

impl Archive {
    pub fn checked_status(&self) -> CheckedStatus {
        let mut status = CheckedStatus {
            bad: self.bad_status(),
            ..CheckedStatus::default()
        };
        let (mut ended, mut all_ended) = (Vec::new(), true);
        for member in self.shelf.all() {
            if self.is_replaced(&member.volume_id) {
                continue;
            }
            let volume = self.volume_checked(&member);
            status.not_verified_count += volume.not_verified_count;
            let unread = volume.oldest_unread_days;
            status.oldest_unread_days = status.oldest_unread_days.max(unread);
            match &volume.last_round {
                Some(last) => {
                    status.foreign_count += last.foreign_count;
                    status.last_scrub_bad_count += last.bad;
                    ended.push(last.ended.clone());
                }
                None => all_ended &= volume.state == "away",
            }
            status.volumes.push(volume);
        }
        status.last_scrub_ended = ended.into_iter().min().filter(|_| all_ended);
        status
    }

    fn volume_checked(&self, member: &Member) -> VolumeChecked {
        let mut found = VolumeChecked {
            name: member.name.clone(),
            volume_id: member.volume_id.clone(),
            state: "away".to_owned(),
            ..VolumeChecked::default()
        };
        let here = member.here().filter(|volume| volume.answers());
        if let Some(volume) = here {
            self.look_at_check(volume, &mut found);
        }
        found
    }

    fn look_at_check(&self, volume: &Volume<Line>, found: &mut VolumeChecked) {
        if self.known(volume.id()).is_err() {
            return;
        }
        // What cannot be counted now is counted the next time.
        found.not_verified_count = self.not_verified_count(volume).unwrap_or(0);
        let view = self.view();
        let totals = view.and_then(|view| view.snapshot.volume_totals(volume.id()));
        let total = totals.map_or(0, |totals| totals.bytes);
        let volumes = self.checks.volumes();
        let Some(check) = volumes.get(volume.id()) else {
            return;
        };
        let last = check.kept.last_round.clone();
        found.state = match (self.scrub_config.now().days, &check.kept.scrub) {
            (_, Some(_)) => "reading",
            (0, None) => "off",
            (_, None) => "waiting",
        }
        .to_owned();
        found.round = last.as_ref().map_or(0, |last| last.number);
        if let Some(round) = &check.kept.scrub {
            found.round = round.number;
            found.files = round.files;
            found.bad_count = round.bad;
            let percent = round.bytes.saturating_mul(100) / total.max(1);
            found.percent = Some(percent.min(99) as u8);
        }
        // Whatever the last round read first was not read since, or only now.
        let begun = last
            .as_ref()
            .and_then(|last| last.begun.parse::<Timestamp>().ok());
        found.oldest_unread_days = begun.map(|begun| {
            let hours = Timestamp::now().duration_since(begun).as_hours();
            u64::try_from(hours / 24).unwrap_or(0)
        });
        found.last_round = last;
    }
}
