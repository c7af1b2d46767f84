//! Looks after the shelf while the server runs: who went, who came back, and copies of the ledgers.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::volume::layout::Label;
use crate::volume::{ANSWER_WITHIN, LabelState, Spec, Volume, VolumeError, VolumeState, adopted};

use super::open::{NOT_CONFIGURED, known_of};
use super::shelf::{Member, Standing, what_is_there};
use super::shipping::own_source;
use super::{Archive, Line};

/// Between two looks at the disks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two rounds of copying ledgers; a copy is at most this and one round behind.
const SHIP_EVERY: Duration = Duration::from_secs(20);

/// Between two looks for what needs a second copy.
const MIRROR_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at whether a correction was made, which is told by a flag.
const TIDY_EVERY: Duration = Duration::from_millis(500);

/// Between two looks for files that are to be read again.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Between two looks at whether images are to be read for new keys.
const FILL_EVERY: Duration = Duration::from_millis(500);

/// Reasons that say more than what is, or is not, at the path of a volume.
const UNMOUNTED: &str = "its disk was unmounted";
const UNPLUGGED: &str = "ejected, and unplugged";

/// The watching threads; they end when this is dropped.
pub struct Watch {
    archive: Arc<Archive>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Watch {
    pub fn start(archive: &Arc<Archive>) -> std::io::Result<Watch> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let mut threads = Vec::new();
        type Work = fn(&Arc<Archive>);
        let works: [(&str, Duration, Work); 10] = [
            ("disks", LOOK_EVERY, |archive| archive.look_at_disks()),
            ("ledgers", SHIP_EVERY, |archive| archive.ship()),
            ("healing", LOOK_EVERY, |archive| archive.read_ledgers()),
            ("drain", LOOK_EVERY, |archive| archive.drain_all()),
            ("mirror", MIRROR_EVERY, |archive| archive.mirror_all()),
            ("tidy", TIDY_EVERY, |archive| archive.tidy_all()),
            ("journals", LOOK_EVERY, |archive| archive.carry_over_all()),
            ("checks", CHECK_EVERY, |archive| archive.check_volumes()),
            ("retention", LOOK_EVERY, |archive| archive.retention_round()),
            ("keys", FILL_EVERY, |archive| archive.fill_keys()),
        ];
        for (name, every, work) in works {
            let (stop, archive) = (stop.clone(), archive.clone());
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    // At once: before the first new line, a ledger that is behind its copies is seen to be.
                    loop {
                        let done = catch_unwind(AssertUnwindSafe(|| work(&archive)));
                        if done.is_err() {
                            tracing::error!(
                                work = name,
                                "it ended by a fault in this program, and is begun again; please report it"
                            );
                        }
                        if stopped_within(&stop, every) {
                            return;
                        }
                    }
                })?;
            threads.push(thread);
        }
        Ok(Watch {
            archive: archive.clone(),
            stop,
            threads,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.archive.stopping.store(true, Ordering::Relaxed);
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        let deadline = Instant::now() + ANSWER_WITHIN + LOOK_EVERY;
        for thread in self.threads.drain(..) {
            // One that waits for a dead disk is left behind; the process ends without it.
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.archive.end_checks(deadline);
    }
}

fn stopped_within(stop: &(Mutex<bool>, Condvar), time: Duration) -> bool {
    let guard = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    if *guard {
        return true;
    }
    let (guard, _) = stop
        .1
        .wait_timeout_while(guard, time, |stop| !*stop)
        .unwrap_or_else(PoisonError::into_inner);
    *guard
}

impl Archive {
    /// One look at every volume: each on a thread of its own, because a disk may never answer.
    pub fn look_at_disks(self: &Arc<Archive>) {
        for member in self.shelf.all() {
            // The last look has not returned: there is nothing to be learned from another.
            if !self.looking().insert(member.volume_id.clone()) {
                tracing::error!(volume = member.name, "a disk does not answer");
                continue;
            }
            let archive = self.clone();
            let id = member.volume_id.clone();
            let look = std::thread::Builder::new().name("look".to_owned());
            let look = look.spawn(move || {
                archive.look_at(&member);
                archive.looking().remove(&member.volume_id);
            });
            if let Err(error) = look {
                tracing::error!(%error, "no thread to look at a disk");
                self.looking().remove(&id);
            }
        }
    }

    fn looking(&self) -> MutexGuard<'_, HashSet<String>> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, member: &Member) {
        if self.is_given_up(&member.volume_id) {
            return;
        }
        match &member.standing {
            Standing::Here(volume) => match attached(volume) {
                Ok(true) => {
                    if let VolumeState::Suspended(_) = volume.state()
                        && volume.probe().is_ok()
                    {
                        tracing::info!(volume = member.name, "a volume is written again");
                    }
                }
                Ok(false) => self.went(member, volume, UNMOUNTED),
                Err(error) => {
                    tracing::warn!(volume = member.name, %error, "cannot look at a volume")
                }
            },
            Standing::Away {
                ejected: false,
                reason,
            } => match label_state(member) {
                Ok(LabelState::Label(label)) if label.volume_id == member.volume_id => {
                    self.take_back(&member.volume_id, Duration::ZERO);
                }
                Ok(LabelState::Missing | LabelState::Empty)
                    if [UNMOUNTED, UNPLUGGED, NOT_CONFIGURED].contains(&reason.as_str()) => {}
                Ok(other) => self.note_reason(member, what_is_there(&member.path, &other)),
                Err(error) => self.note_reason(member, error.to_string()),
            },
            // It was pulled out: from now on it comes back by itself.
            Standing::Away { ejected: true, .. } => {
                if label_at(member).is_none() {
                    self.stand(member, Member::is_ejected, || Standing::Away {
                        reason: UNPLUGGED.to_owned(),
                        ejected: false,
                    });
                }
            }
        }
    }

    /// A volume is no longer where it was. What is being written to it fails and goes elsewhere.
    fn went(&self, member: &Member, volume: &Arc<Volume<Line>>, reason: &str) {
        volume.mark_failed(reason);
        tracing::error!(volume = member.name, reason, "a volume is away");
        let is_it = |now: &Member| now.here().is_some_and(|here| Arc::ptr_eq(here, volume));
        self.stand(member, is_it, || Standing::Away {
            reason: reason.to_owned(),
            ejected: false,
        });
        // What waits in its journal, if that can be read: there where it still can be written, else elsewhere.
        if let Err(error) = self.empty_intake(volume) {
            tracing::error!(volume = member.name, %error, "instances stay in the intake journal of a volume that is away");
        }
        // Its last lines, from the disk if it can still be read, else from memory.
        self.ship_one(volume);
        self.choose_copies();
    }

    /// Opens a volume that was away, if it is the one that is missed; its ledger is read from where the index left off.
    /// Waits so long for another who is at it.
    pub(super) fn take_back(&self, volume_id: &str, patience: Duration) {
        let Some(_claim) = self.claim(volume_id, patience) else {
            return;
        };
        let Some(member) = self.shelf.by_id(volume_id) else {
            return;
        };
        if member.here().is_some() || self.is_given_up(volume_id) {
            return;
        }
        let spec = Spec {
            name: member.name.clone(),
            path: member.path.clone(),
            role: member.role,
        };
        let volume = match self.open_volume(&spec, volume_id) {
            Ok(volume) => Arc::new(volume),
            Err(error) => {
                tracing::debug!(volume = member.name, %error, "a volume cannot be taken back yet");
                return self.note_reason(&member, error.to_string());
            }
        };
        self.keeper.join(own_source(&volume));
        if volume.state() == VolumeState::Ok
            && let Err(error) = self.carry_on_leftovers(&volume)
        {
            drop(volume);
            self.choose_copies();
            return self.note_reason(&member, error.to_string());
        }
        let is_away = |now: &Member| now.here().is_none();
        self.stand(&member, is_away, || Standing::Here(volume.clone()));
        // Once more: until now it counted as away, and its ledger as one to be read from a copy.
        self.keeper.set_source(own_source(&volume));
        tracing::info!(volume = member.name, "a volume is back");
    }

    /// The right to open a volume: two at once would find it locked by each other.
    pub(super) fn claim(&self, volume_id: &str, patience: Duration) -> Option<Claim<'_>> {
        let begun = Instant::now();
        loop {
            let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            if opening.insert(volume_id.to_owned()) {
                return Some(Claim {
                    opening: &self.opening,
                    volume_id: volume_id.to_owned(),
                });
            }
            drop(opening);
            if begun.elapsed() >= patience {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes where a volume stands, with all else as it is by now, if `still` holds; also for the next start.
    fn stand(
        &self,
        member: &Member,
        still: impl FnOnce(&Member) -> bool,
        standing: impl FnOnce() -> Standing,
    ) {
        let changed = {
            let mut identity = self.identity();
            let Some(now) = self.shelf.by_id(&member.volume_id).filter(|now| still(now)) else {
                return;
            };
            // A disk that was given up while it was being opened stays away.
            if identity
                .by_id(&member.volume_id)
                .is_some_and(|known| known.is_given_up())
            {
                return;
            }
            let then = now.standing(standing());
            let changed = identity.note_standing(known_of(&then));
            self.shelf.put(then);
            changed
        };
        if changed && let Err(error) = self.save_identity() {
            tracing::warn!(volume = member.name, %error, "the next start will not know how a volume stands");
        }
    }

    fn note_reason(&self, member: &Member, new: String) {
        let _identity = self.identity();
        if let Some(now) = self.shelf.by_id(&member.volume_id)
            && let Standing::Away { reason, ejected } = &now.standing
            && *reason != new
        {
            let ejected = *ejected;
            self.shelf.put(now.standing(Standing::Away {
                reason: new,
                ejected,
            }));
        }
    }
}

/// Given back when dropped.
pub(super) struct Claim<'a> {
    opening: &'a Mutex<HashSet<String>>,
    volume_id: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        opening.remove(&self.volume_id);
    }
}

fn attached(volume: &Volume<Line>) -> std::io::Result<bool> {
    let _call = volume.call();
    volume.disk().is_attached()
}

/// What is at a member's path; its label may be kept elsewhere.
fn label_state(member: &Member) -> Result<LabelState, VolumeError> {
    match &member.home {
        Some(home) => adopted::label_of(&member.path, home),
        None => Volume::<Line>::label_of(&member.path),
    }
}

/// The label at a member's path, if it is this volume's.
pub(super) fn label_at(member: &Member) -> Option<Label> {
    match label_state(member) {
        Ok(LabelState::Label(label)) if label.volume_id == member.volume_id => Some(label),
        _ => None,
    }
}
