//! Looks after the shelf while the server runs: who went, who came back, and copies of the ledgers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::volume::layout::Label;
use crate::volume::{LabelState, Spec, Volume, VolumeState};

use super::shelf::{Member, Standing};
use super::shipping::own_source;
use super::{Archive, Line};

/// Between two looks at the disks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two rounds of copying ledgers; a copy is at most this and one round behind.
const SHIP_EVERY: Duration = Duration::from_secs(20);
/// A disk that takes longer for one look does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
        let works: [(&str, Duration, Work); 3] = [
            ("disks", LOOK_EVERY, |archive| archive.look_at_disks()),
            ("ledgers", SHIP_EVERY, |archive| archive.ship()),
            ("drain", LOOK_EVERY, |archive| archive.drain_all()),
        ];
        for (name, every, work) in works {
            let (stop, archive) = (stop.clone(), archive.clone());
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    while !stopped_within(&stop, every) {
                        work(&archive);
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
        let looks: Vec<_> = self
            .shelf
            .all()
            .into_iter()
            .map(|member| {
                let (archive, done) = (self.clone(), Arc::new(AtomicBool::new(false)));
                let (theirs, looked_at) = (done.clone(), member.clone());
                let thread = std::thread::Builder::new()
                    .name("look".to_owned())
                    .spawn(move || {
                        archive.look_at(&looked_at);
                        theirs.store(true, Ordering::Release);
                    });
                (member, done, thread)
            })
            .collect();
        let deadline = Instant::now() + ANSWER_WITHIN;
        for (member, done, thread) in looks {
            let Ok(thread) = thread else { continue };
            while !done.load(Ordering::Acquire) && !thread.is_finished() {
                if Instant::now() > deadline {
                    if let Some(volume) = member.here() {
                        volume.mark_failed("it does not answer");
                    }
                    tracing::error!(volume = member.name, "a disk does not answer for 10 s");
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn look_at(&self, member: &Member) {
        match &member.standing {
            Standing::Here(volume) => match volume.disk().is_attached() {
                Ok(true) => {
                    if let VolumeState::Suspended(_) = volume.state()
                        && volume.probe().is_ok()
                    {
                        tracing::info!(volume = member.name, "a volume is written again");
                    }
                }
                Ok(false) => self.went(member, "its disk was unmounted"),
                Err(error) => {
                    tracing::warn!(volume = member.name, %error, "cannot look at a volume")
                }
            },
            Standing::Away { ejected: false, .. } => {
                if label_at(member).is_some() {
                    self.take_back(member);
                }
            }
            // It was pulled out: from now on it comes back by itself.
            Standing::Away { ejected: true, .. } => {
                if label_at(member).is_none() {
                    let _identity = self.identity();
                    if self
                        .shelf
                        .by_id(&member.volume_id)
                        .is_some_and(|now| now.is_ejected())
                    {
                        self.shelf.put(member.standing(Standing::Away {
                            reason: "ejected, and unplugged".to_owned(),
                            ejected: false,
                        }));
                    }
                }
            }
        }
    }

    /// A volume is no longer where it was. What is being written to it fails and goes elsewhere.
    fn went(&self, member: &Member, reason: &str) {
        let _identity = self.identity();
        if let Some(volume) = member.here() {
            volume.mark_failed(reason);
        }
        tracing::error!(volume = member.name, reason, "a volume is away");
        self.shelf.put(member.standing(Standing::Away {
            reason: reason.to_owned(),
            ejected: false,
        }));
        if let Some(copy) = self.best_copy(&member.volume_id) {
            self.keeper.set_source(copy);
        }
    }

    /// Opens a volume that was away, if it is the one that is missed; its ledger is read from where the index left off.
    pub(super) fn take_back(&self, member: &Member) {
        let spec = Spec {
            name: member.name.clone(),
            path: member.path.clone(),
            role: member.role,
        };
        let volume = match self.open_volume(&spec, &member.volume_id) {
            Ok(volume) => Arc::new(volume),
            Err(error) => {
                tracing::debug!(volume = member.name, %error, "a volume cannot be taken back yet");
                return self.note_reason(member, &error.to_string());
            }
        };
        self.keeper.join(own_source(&volume));
        if volume.state() == VolumeState::Ok
            && let Err(error) = self.carry_on_leftovers(&volume)
        {
            return self.note_reason(member, &error.to_string());
        }
        let _identity = self.identity();
        self.shelf.put(member.standing(Standing::Here(volume)));
        tracing::info!(volume = member.name, "a volume is back");
    }

    fn note_reason(&self, member: &Member, reason: &str) {
        let ejected = member.is_ejected();
        self.shelf.put(member.standing(Standing::Away {
            reason: reason.to_owned(),
            ejected,
        }));
    }
}

/// The label at a member's path, if it is this volume's.
pub(super) fn label_at(member: &Member) -> Option<Label> {
    match Volume::<Line>::label_of(&member.path) {
        Ok(LabelState::Label(label)) if label.volume_id == member.volume_id => Some(label),
        _ => None,
    }
}
