//! The journals that volumes have or had: what is in them is carried over when a volume is opened, and what cannot be is
//! said, and tried again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::volume::journal::{ASIDE_PREFIX, FILE, JournalError};
use crate::volume::journal_places::Place;
use crate::volume::{Volume, VolumeError};

use super::replaying::Late;
use super::{Archive, Line};

/// Before a journal is tried again; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// For another who reads the journals of the same volume.
const PATIENCE: Duration = Duration::from_secs(60);
/// Journals set aside that are named.
const ASIDE_NAMED_MAX: usize = 100;

/// Journals of which something is to be said.
#[derive(Default)]
pub struct Troubles(Mutex<Vec<Trouble>>);

#[derive(Debug, Clone)]
struct Trouble {
    volume_id: String,
    /// The journal's folder; of [`What::Aside`] and [`What::Forgotten`], the file.
    path: PathBuf,
    what: What,
    next: Instant,
    pause: Duration,
}

#[derive(Debug, Clone)]
enum What {
    /// What it holds could not be carried over.
    Stuck { reason: String },
    /// It is not there, and was not empty.
    Missing,
    /// Another volume's, or not one at all.
    NotOurs { reason: String },
    /// Set aside because of damage, and still there.
    Aside,
    /// Where journals were cannot be read.
    Forgotten { reason: String },
}

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, Vec<Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, volume_id: &str, path: &Path, what: What) {
        let mut list = self.lock();
        let now = Instant::now();
        match list.iter_mut().find(|trouble| trouble.is(volume_id, path)) {
            Some(trouble) => {
                trouble.what = what;
                trouble.pause = (trouble.pause * 2).min(PAUSE_MAX);
                trouble.next = now + trouble.pause;
            }
            None => list.push(Trouble {
                volume_id: volume_id.to_owned(),
                path: path.to_owned(),
                what,
                next: now + PAUSE_MIN,
                pause: PAUSE_MIN,
            }),
        }
    }

    pub(super) fn remove(&self, volume_id: &str, path: &Path) {
        self.lock().retain(|trouble| !trouble.is(volume_id, path));
    }

    /// Those to be tried again now.
    fn due(&self) -> Vec<Trouble> {
        let now = Instant::now();
        let is_due = |trouble: &&Trouble| {
            trouble.next <= now && matches!(trouble.what, What::Stuck { .. } | What::Missing)
        };
        self.lock().iter().filter(is_due).cloned().collect()
    }
}

impl Trouble {
    fn is(&self, volume_id: &str, path: &Path) -> bool {
        self.volume_id == volume_id && self.path == path
    }
}

impl Archive {
    /// Carries over what the journals of a volume hold, also of those that it had under another configuration. False: in
    /// `wanted` there is something that must not be touched.
    pub(super) fn settle_journals(&self, volume: &Arc<Volume<Line>>, wanted: &Path) -> bool {
        let on_volume = volume.intake_folder();
        let mut is_usable = true;
        let mut places = match volume.journal_places() {
            Ok(places) => places,
            Err(error) => {
                let what = What::Forgotten {
                    reason: error.to_string(),
                };
                let path = volume.journal_places_path();
                self.carrying.troubles.put(volume.id(), &path, what);
                // It is not replaced by another that knows less.
                is_usable = wanted == on_volume;
                Vec::new()
            }
        };
        let before = places.clone();
        let mut folders = vec![wanted.to_owned()];
        let others = places.iter().map(|place| place.folder.clone());
        for folder in std::iter::once(on_volume).chain(others) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        for folder in folders {
            let mut unknown = Place {
                folder: folder.clone(),
                settled: true,
                missed: false,
            };
            let place = places.iter_mut().find(|place| place.folder == folder);
            let place = place.unwrap_or(&mut unknown);
            let late = Late {
                whole_ledger: place.missed,
                may_spread: false,
            };
            let done = self.empty_journal(volume, &folder, late);
            let is_good = self.note_outcome(volume.id(), place, done);
            is_usable &= is_good || folder != wanted;
            self.note_aside(volume.id(), &folder);
        }
        places.retain(|place| !place.settled || place.folder == wanted);
        if places != before {
            self.write_places(volume, &places);
        }
        is_usable
    }

    /// What reading a journal came to: is it, or would it be, empty and of this volume?
    fn note_outcome(
        &self,
        volume_id: &str,
        place: &mut Place,
        outcome: Result<bool, JournalError>,
    ) -> bool {
        let what = match outcome {
            Ok(false) if !place.settled => What::Missing,
            Ok(_) => {
                self.carrying.troubles.remove(volume_id, &place.folder);
                (place.settled, place.missed) = (true, false);
                return true;
            }
            Err(JournalError::NotOurs { reason, .. }) => What::NotOurs { reason },
            Err(error) => What::Stuck {
                reason: error.to_string(),
            },
        };
        place.missed = !place.settled;
        tracing::error!(journal = %place.folder.display(), ?what, "an intake journal could not be emptied");
        self.carrying.troubles.put(volume_id, &place.folder, what);
        false
    }

    /// Journals that were set aside because of damage, as long as they are there.
    pub(super) fn note_aside(&self, volume_id: &str, folder: &Path) {
        let names = self.disk.list(folder, ASIDE_NAMED_MAX);
        for name in names.unwrap_or_default() {
            if name.to_string_lossy().starts_with(ASIDE_PREFIX) {
                let path = folder.join(name);
                self.carrying.troubles.put(volume_id, &path, What::Aside);
            }
        }
    }

    /// Before a journal on another disk takes anything: what it holds is to be found without the configuration.
    pub(super) fn remember_journal(
        &self,
        volume: &Volume<Line>,
        folder: &Path,
    ) -> Result<(), VolumeError> {
        if folder.starts_with(volume.root()) {
            return Ok(());
        }
        let mut places = volume.journal_places()?;
        places.retain(|place| place.folder != folder);
        places.push(Place {
            folder: folder.to_owned(),
            settled: false,
            missed: false,
        });
        volume.write_journal_places(&places)
    }

    /// Nothing comes any more, and the journal is empty.
    pub(super) fn note_settled(&self, volume: &Volume<Line>) {
        let Some(intake) = volume.intake() else {
            return;
        };
        let path = intake.journal().path();
        if path.starts_with(volume.root()) {
            return;
        }
        let mut places = volume.journal_places().unwrap_or_default();
        let mut changed = false;
        for place in &mut places {
            if path.parent() == Some(&place.folder) && !place.settled {
                place.settled = true;
                changed = true;
            }
        }
        if changed {
            self.write_places(volume, &places);
        }
    }

    fn write_places(&self, volume: &Volume<Line>, places: &[Place]) {
        if let Err(error) = volume.write_journal_places(places) {
            // It says more then than there is.
            tracing::warn!(volume = volume.name(), %error, "where journals are was not brought up to date");
        }
    }

    pub(super) fn journal_is_stuck(&self, volume_id: &str, folder: &Path, reason: String) {
        let what = What::Stuck { reason };
        self.carrying.troubles.put(volume_id, folder, what);
    }

    /// Tries again what could not be carried over, on the volume or on others, when it is time to.
    pub(super) fn retry_journals(self: &Arc<Archive>) {
        for trouble in self.carrying.troubles.due() {
            let archive = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("old journal".to_owned());
            // One a volume, because a disk may never answer.
            let Some(claim) = self.carrying.claim(&claim_name(&trouble.volume_id)) else {
                continue;
            };
            let spawned = thread.spawn(move || {
                let _claim = claim;
                if let Some(archive) = archive.upgrade() {
                    archive.retry(&trouble);
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "no thread for an intake journal");
            }
        }
    }

    /// The same at once, at the start, when all volumes are open.
    pub(super) fn retry_journals_now(&self) {
        let list = self.carrying.troubles.lock().clone();
        for trouble in list {
            if let What::Stuck { .. } = trouble.what {
                self.retry(&trouble);
            }
        }
    }

    fn retry(&self, trouble: &Trouble) {
        let Some(member) = self.shelf.by_id(&trouble.volume_id) else {
            return self
                .carrying
                .troubles
                .remove(&trouble.volume_id, &trouble.path);
        };
        let Some(volume) = member.here() else {
            // What waits beside a volume that is away is for the others, if it is known where: from the configuration.
            if let What::Stuck { .. } = trouble.what {
                self.spread_journal_of_absent(&member, &trouble.path);
            }
            return;
        };
        let is_there = self.disk.entry(&trouble.path.join(FILE));
        if matches!(trouble.what, What::Missing) && !matches!(is_there, Ok(Some(_))) {
            return;
        }
        let late = Late {
            whole_ledger: true,
            may_spread: true,
        };
        let done = self.empty_journal(volume, &trouble.path, late);
        let mut places = volume.journal_places().unwrap_or_default();
        let before = places.clone();
        let mut unknown = Place {
            folder: trouble.path.clone(),
            settled: true,
            missed: false,
        };
        let place = places.iter_mut().find(|place| place.folder == trouble.path);
        let is_good = self.note_outcome(volume.id(), place.unwrap_or(&mut unknown), done);
        self.note_aside(volume.id(), &trouble.path);
        let wanted = self.intake_folder(volume);
        places.retain(|place| !place.settled || place.folder == wanted);
        if places != before {
            self.write_places(volume, &places);
        }
        if is_good && trouble.path == wanted && volume.intake().is_none() {
            self.begin_intake(volume, &wanted);
        }
    }

    /// The right to read the journals of a volume that nobody uses now.
    pub(super) fn claim_journals(&self, volume_id: &str) -> Option<super::carrying::Claim> {
        let begun = Instant::now();
        loop {
            let claim = self.carrying.claim(&claim_name(volume_id));
            if claim.is_some() || begun.elapsed() > PATIENCE {
                return claim;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is wrong with journals and what to do, a sentence each.
    pub(super) fn journal_actions(&self, actions: &mut Vec<String>) {
        let list = self.carrying.troubles.lock().clone();
        for trouble in list {
            let Some(member) = self.shelf.by_id(&trouble.volume_id) else {
                continue;
            };
            let (name, path) = (&member.name, trouble.path.display());
            actions.push(match &trouble.what {
                What::Stuck { reason } => format!(
                    "instances wait in the intake journal in {path}, of volume {name}, and are not found until they can be written ({reason}): see to room, or to the disk; it is tried again by itself"
                ),
                What::Missing => format!(
                    "the intake journal of volume {name} in {path} is not there, and instances were in it when it was last used: plug in and mount its disk, it is read by itself then; or, if it is lost for good, remove {} and start Kura again",
                    member.here().map_or_else(String::new, |volume| volume.journal_places_path().display().to_string())
                ),
                What::NotOurs { reason } => format!(
                    "{path} holds an intake journal that is not that of volume {name} ({reason}); nothing of it was read and it was left as it is: look whose it is, move it away, and start Kura again"
                ),
                What::Aside => {
                    if matches!(self.disk.entry(&trouble.path), Ok(None)) {
                        self.carrying.troubles.remove(&trouble.volume_id, &trouble.path);
                        continue;
                    }
                    format!(
                        "records of an intake journal of volume {name} were damaged, and instances that were answered may be lost: send again from the modalities what came before that start, then remove {path}"
                    )
                }
                What::Forgotten { reason } => format!(
                    "volume {name} cannot tell where its intake journals were ({reason}): remove {path} and start Kura again; what waits in a journal on another disk is read when that is configured"
                ),
            });
        }
    }
}

fn claim_name(volume_id: &str) -> String {
    format!("journals of {volume_id}")
}
