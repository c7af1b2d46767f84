//! Which bad copies are known, which of them are healed by now, and what is said of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Weak;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::index::{Copy, IndexError};
use crate::volume::{Volume, VolumeState};

use super::content::contents;
use super::due::Needs;
use super::mirror::whole;
use super::safety::Need;
use super::suspects::Suspect;
use super::{Archive, Line};

/// Bad copies of which it is known that they are not healed yet; the rest is only counted.
pub const OPEN_MAX: usize = 100_000;
/// Of these looked at in one round.
const LOOKED_AT_MAX: usize = 1_000;
/// Instances looked at after a start for bad copies that are not healed yet; about a second.
const INSTANCES_AT_START_MAX: usize = 100_000;
/// Copies passed over for reading because their volume's ledger cannot be written.
pub const PASSED_OVER_MAX: usize = 10_000;
/// Between two looks at them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events that are shown.
pub const EVENTS_MAX: usize = 100;

/// Volume id and path, or study and series.
pub type Place = (String, String);

/// What is remembered of bad copies.
#[derive(Default)]
pub struct Told {
    pub events: VecDeque<Event>,
    pub found_count: u64,
    pub healed_count: u64,
    /// Bad copies that are not healed yet, the longest not looked at first.
    pub open: VecDeque<Open>,
    /// Those that the ledgers told of at the start are among them.
    pub looked_at_start: bool,
    /// When they were looked at last.
    pub looked: Option<Instant>,
    /// Bad copies on volumes whose ledger cannot say so.
    pub passed_over: HashMap<Place, String>,
    /// When files of a volume could not be read or were changed, lately.
    pub unreadable: HashMap<String, VecDeque<Instant>>,
    /// Volume id and SOP Instance UID of what was found changed since the start.
    pub changed: HashSet<Place>,
    /// How often, by volume id, a copy made anew was found changed once more.
    pub relapses: HashMap<String, u32>,
    /// Volumes whose disk fails, as long as they are open.
    pub failing: HashMap<String, Weak<Volume<Line>>>,
}

/// A bad copy that is not healed yet.
pub struct Open {
    pub volume_id: String,
    pub path: String,
    pub sop_instance_uid: String,
}

impl Open {
    fn place(&self) -> Place {
        (self.volume_id.clone(), self.path.clone())
    }
}

/// A bad copy that was found.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// RFC 3339.
    pub at: String,
    pub volume: String,
    pub path: String,
    pub sop_instance_uid: String,
    pub why: String,
    /// Where the file is now, relative to the volume; `None` where there is none, or it could not be moved.
    pub set_aside: Option<String>,
    /// When there was a good copy in its place again, RFC 3339.
    pub healed: Option<String>,
    #[serde(skip)]
    pub volume_id: String,
}

/// What is told of bad copies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BadStatus {
    /// Found since the start, and of these healed.
    pub found_count: u64,
    pub healed_count: u64,
    /// Not healed yet.
    pub bad_count: u64,
    /// Of these on volumes whose ledger cannot be written.
    pub passed_over_count: u64,
    /// Names of volumes whose disk fails.
    pub failing: Vec<String>,
    /// The last hundred.
    pub events: Vec<Event>,
}

impl Archive {
    /// After a start: bad copies that the ledgers tell of and that were not healed yet. Of series with very many instances
    /// that wait for a first second copy not all are found; what they lack is made in its hour then.
    fn find_open(&self) -> Result<(), IndexError> {
        let Some(snapshot) = whole(self)? else {
            return Ok(());
        };
        let judge = self.judge();
        let mut needs = Needs::default();
        // The worst first.
        let mut series = BTreeMap::<Reverse<Need>, Vec<Place>>::new();
        snapshot.spread(&mut |found| {
            let spread = found.spread.iter();
            let worst = spread.map(|s| needs.of(&s.volume_ids, &judge)).max();
            if let Some(need) = worst.filter(|need| *need != Need::Nothing) {
                let place = (found.study_instance_uid, found.series_instance_uid);
                series.entry(Reverse(need)).or_default().push(place);
            }
            ControlFlow::Continue(())
        })?;
        let mut left = INSTANCES_AT_START_MAX;
        let mut open = Vec::new();
        for place in series.into_values().flatten() {
            let before = open.len();
            snapshot.instances(&place.0, Some(&place.1), &mut |entry| {
                for content in contents(&entry) {
                    let bad = content.copies.iter().filter(|copy| copy.bad);
                    open.extend(bad.map(|copy| Open {
                        volume_id: copy.volume_id.clone(),
                        path: copy.path.clone(),
                        sop_instance_uid: entry.sop_instance_uid.clone(),
                    }));
                }
                left -= 1;
                match left {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
            if open.len() > before {
                self.mirror.urgent(place);
            }
            if left == 0 {
                break;
            }
        }
        let mut told = self.suspects.told();
        let known: HashSet<Place> = told.open.iter().map(Open::place).collect();
        open.retain(|one| !known.contains(&one.place()));
        open.truncate(OPEN_MAX.saturating_sub(told.open.len()));
        told.open.extend(open);
        told.looked_at_start = true;
        Ok(())
    }

    /// Sees which bad copies were healed, and which can be written down by now.
    pub(super) fn look_for_healed(&self) {
        {
            let mut told = self.suspects.told();
            if told
                .looked
                .is_some_and(|looked| looked.elapsed() < LOOK_EVERY)
            {
                return;
            }
            told.looked = Some(Instant::now());
        }
        if !self.suspects.told().looked_at_start
            && let Err(error) = self.find_open()
        {
            self.index_failed(&error);
        }
        let mut open = {
            let mut told = self.suspects.told();
            let count = told.open.len().min(LOOKED_AT_MAX);
            told.open.drain(..count).collect::<Vec<_>>()
        };
        let judge = match open.is_empty() {
            true => None,
            false => Some(self.judge()),
        };
        let view = match self.view() {
            Ok(view) if view.rebuilding_percent.is_none() => Some(view),
            _ => None,
        };
        let is_bad_still = |one: &Open| {
            let Some(view) = &view else { return true };
            let Ok(entry) = view.snapshot.by_sop(&one.sop_instance_uid) else {
                return true;
            };
            entry.iter().flat_map(contents).any(|content| {
                let is_it = |copy: &&Copy| copy.volume_id == one.volume_id && copy.path == one.path;
                let listed = content.copies.iter().find(is_it);
                // Where nothing else is wanted it has all its copies.
                let wanted = || {
                    let need = judge
                        .as_ref()
                        .map(|judge| judge.need(&content.volume_ids()));
                    need != Some(Need::Nothing)
                };
                listed.is_some_and(|copy| copy.bad && wanted())
            })
        };
        let healed: Vec<Open> = open.extract_if(.., |one| !is_bad_still(one)).collect();
        let again: Vec<(Place, String)> = {
            let mut told = self.suspects.told();
            told.open.extend(open);
            told.healed_count += healed.len() as u64;
            for one in &healed {
                let event =
                    told.events.iter_mut().rev().find(|event| {
                        (&event.volume_id, &event.path) == (&one.volume_id, &one.path)
                    });
                if let Some(event) = event {
                    event.healed = Some(super::now());
                }
            }
            told.failing.retain(|_, volume| volume.strong_count() > 0);
            let passed_over = told.passed_over.iter();
            passed_over
                .filter(|((volume_id, _), _)| self.is_written(volume_id))
                .map(|(place, sop)| (place.clone(), sop.clone()))
                .collect()
        };
        for one in healed {
            tracing::info!(
                volume = self.name_of(&one.volume_id),
                path = one.path,
                sop_instance_uid = one.sop_instance_uid,
                "a bad copy was healed"
            );
        }
        for ((volume_id, path), sop_instance_uid) in again {
            let suspect = Suspect {
                sop_instance_uid,
                path,
            };
            self.suspects.put(&volume_id, suspect);
        }
    }

    fn is_written(&self, volume_id: &str) -> bool {
        let volume = self.shelf.here(volume_id);
        volume.is_some_and(|volume| !matches!(volume.state(), VolumeState::Failed(_)))
    }

    pub(super) fn bad_status(&self) -> BadStatus {
        let failing = |id: &String| self.shelf.here(id).filter(|v| self.suspects.is_failing(v));
        let ids: Vec<String> = self.suspects.told().failing.keys().cloned().collect();
        let failing = ids.iter().filter_map(failing);
        let failing = failing.map(|volume| volume.name().to_owned()).collect();
        let told = self.suspects.told();
        BadStatus {
            found_count: told.found_count,
            healed_count: told.healed_count,
            bad_count: (told.open.len() + told.passed_over.len()) as u64,
            passed_over_count: told.passed_over.len() as u64,
            failing,
            events: told.events.iter().cloned().collect(),
        }
    }
}
