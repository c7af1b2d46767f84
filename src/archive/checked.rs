//! Reads copies again: what is suspected, what was copied lately, and in turn everything.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Archive;
use super::lost::Lost;
use super::suspects::BadStatus;

/// What is known of the copies by reading them again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckedStatus {
    /// Copies that were made and not read again yet.
    pub not_verified_count: u64,
    /// When everything that is here had been read again last, RFC 3339; `None`: not once.
    pub last_scrub_ended: Option<String>,
    /// Days since the file that was read longest ago may have been read.
    pub oldest_unread_days: Option<u64>,
    /// Files without a ledger line, as the last rounds found them.
    pub foreign_count: u64,
    /// Contents without any good copy.
    pub lost_count: u64,
    /// The first hundred of them.
    pub lost: Vec<Lost>,
    #[serde(flatten)]
    pub bad: BadStatus,
    pub volumes: Vec<VolumeChecked>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VolumeChecked {
    pub name: String,
    pub volume_id: String,
}

impl CheckedStatus {
    /// What is wrong and what to do, a sentence each.
    pub(super) fn say_actions(&self, actions: &mut Vec<String>) {
        if self.lost_count > 0 {
            actions.push(format!(
                "{} instances are lost, no copy of them is good: send them again from where they came; kura scrub status names them",
                self.lost_count
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

#[derive(Default)]
pub struct Checks {
    /// Volumes that are being read at this moment, each by a thread of its own: a disk may never answer.
    at_work: Mutex<HashSet<String>>,
}

impl Checks {
    fn at_work(&self) -> MutexGuard<'_, HashSet<String>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Begins to read again on every volume where there is something to read.
    pub(super) fn check_volumes(self: &Arc<Archive>) {
        self.look_for_healed();
        for member in self.shelf.all() {
            let id = member.volume_id.clone();
            if member.here().is_none() || !self.has_something_to_check(&id) {
                continue;
            }
            if !self.checks.at_work().insert(id.clone()) {
                continue;
            }
            let archive = self.clone();
            let thread = std::thread::Builder::new().name("check".to_owned());
            let thread = thread.spawn({
                let id = id.clone();
                move || {
                    archive.check_volume(&id);
                    archive.checks.at_work().remove(&id);
                }
            });
            if let Err(error) = thread {
                tracing::error!(%error, "no thread to read a disk again");
                self.checks.at_work().remove(&id);
            }
        }
    }

    fn has_something_to_check(&self, volume_id: &str) -> bool {
        self.suspects.has_some(volume_id)
    }

    fn check_volume(&self, volume_id: &str) {
        self.judge_suspects(volume_id);
    }

    pub(super) fn checked_status(&self) -> CheckedStatus {
        let (lost_count, lost) = self.lost().unwrap_or_else(|error| {
            self.index_failed(&error);
            Default::default()
        });
        CheckedStatus {
            lost_count,
            lost,
            bad: self.bad_status(),
            ..CheckedStatus::default()
        }
    }
}
