//! What a correction takes out or prefers: contents, picked from the index and picked again right before the switch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::index::{
    ContentId, Copy, CorrectionFacts, InstanceEntry, Other, OtherKind, Ruling, Snapshot, Values,
    Verdict,
};

use super::super::locks::UidLock;
use super::super::{Archive, View};
use super::{CorrectionError, Corrections};

/// One study, series or instance, by its UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Chosen {
    Study(String),
    Series(String),
    Instance(String),
}

impl Chosen {
    /// As it stands in a correction line (PS3.4 C.6.1.1).
    pub(super) fn level(&self) -> &'static str {
        match self {
            Chosen::Study(_) => "STUDY",
            Chosen::Series(_) => "SERIES",
            Chosen::Instance(_) => "IMAGE",
        }
    }

    pub(super) fn uid(&self) -> &str {
        match self {
            Chosen::Study(uid) | Chosen::Series(uid) | Chosen::Instance(uid) => uid,
        }
    }
}

/// As in sentences: `study 1.2.3`.
impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self {
            Chosen::Study(_) => "study",
            Chosen::Series(_) => "series",
            Chosen::Instance(_) => "instance",
        };
        write!(f, "{level} {}", self.uid())
    }
}

/// One of the contents that are kept under a SOP Instance UID and count.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) entry: &'a InstanceEntry,
    /// None: the one that is answered.
    pub(super) other: Option<&'a Other>,
}

impl<'a> Content<'a> {
    pub(super) fn study(&self) -> &'a str {
        self.other
            .map_or(&self.entry.study_instance_uid, |o| &o.study_instance_uid)
    }

    pub(super) fn series(&self) -> &'a str {
        self.other
            .map_or(&self.entry.series_instance_uid, |o| &o.series_instance_uid)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.other
            .map_or(self.entry.record.sequence, |other| other.sequence)
    }

    pub(super) fn transfer_syntax(&self) -> &'a str {
        let record = &self.entry.record;
        self.other
            .map_or(&record.transfer_syntax, |o| &o.transfer_syntax)
    }

    /// Never empty.
    pub(super) fn copies(&self) -> &'a [Copy] {
        self.other
            .map_or(&self.entry.record.copies, |other| &other.copies)
    }

    pub(super) fn values(&self) -> &'a Values {
        self.other
            .map_or(&self.entry.record.values, |other| &other.values)
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.other
            .is_some_and(|other| other.kind == OtherKind::Conflict)
    }

    pub(super) fn id(&self) -> ContentId {
        id_of(self.transfer_syntax(), self.copies())
    }
}

/// All copies of a content are alike.
pub(super) fn id_of(transfer_syntax: &str, copies: &[Copy]) -> ContentId {
    let (data_bytes, crc32) = copies
        .first()
        .map_or((0, 0), |copy| (copy.data_bytes(), copy.crc32));
    ContentId {
        transfer_syntax: transfer_syntax.to_owned(),
        data_bytes,
        crc32,
    }
}

/// What counts under a SOP Instance UID, in the order in which it came.
pub(super) fn contents_of(entry: &InstanceEntry) -> Vec<Content<'_>> {
    let others = entry.record.others.iter().map(Some);
    let mut contents: Vec<Content> = std::iter::once(None)
        .chain(others)
        .map(|other| Content { entry, other })
        .collect();
    contents.sort_by_key(Content::sequence);
    contents
}

/// A content that a correction is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) sop_instance_uid: String,
    pub(super) content: ContentId,
    pub(super) study_instance_uid: String,
    pub(super) answered: bool,
}

impl Picked {
    pub(super) fn of(content: &Content<'_>) -> Picked {
        Picked {
            sop_instance_uid: content.entry.sop_instance_uid.clone(),
            content: content.id(),
            study_instance_uid: content.study().to_owned(),
            answered: content.other.is_none(),
        }
    }
}

/// Contents that one correction may be about: each is a line in one group of two ledgers, held in memory until it is
/// written (some 1 KB each).
pub(super) const PICKED_MAX: usize = 200_000;

/// Every content that counts and belongs to what was chosen: answered ones, and others kept beside answered ones of this
/// or another study. Of an instance all that is kept under its UID.
pub(super) fn each_chosen(
    snapshot: &Snapshot,
    chosen: &Chosen,
    f: &mut dyn FnMut(Content<'_>),
) -> Result<(), CorrectionError> {
    let mut count = 0;
    let mut take = |content: Content<'_>| {
        count += 1;
        if count <= PICKED_MAX {
            f(content);
        }
        match count <= PICKED_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let (study, series) = match chosen {
        Chosen::Instance(uid) => {
            if let Some(entry) = snapshot.by_sop(uid)? {
                for content in contents_of(&entry) {
                    let _ = take(content);
                }
            }
            return Ok(());
        }
        Chosen::Study(uid) => (uid.clone(), None),
        Chosen::Series(uid) => match snapshot.series_by_uid(uid)? {
            Some(record) => (record.facts.study_instance_uid, Some(uid.as_str())),
            None => return Ok(()),
        },
    };
    let belongs = |content: &Content<'_>| {
        content.study() == study && series.is_none_or(|series| content.series() == series)
    };
    let mut each = |entry: &InstanceEntry| {
        for content in contents_of(entry).into_iter().filter(belongs) {
            take(content)?;
        }
        ControlFlow::Continue(())
    };
    snapshot.instances(&study, series, &mut |entry| each(&entry))?;
    // Those that are not answered, under a UID that is answered from elsewhere.
    snapshot.with_others(&mut |entry| {
        let elsewhere = entry.study_instance_uid != study
            || series.is_some_and(|series| entry.series_instance_uid != series);
        match elsewhere {
            true => each(&entry),
            false => ControlFlow::Continue(()),
        }
    })?;
    if count > PICKED_MAX {
        return Err(CorrectionError::Refused(format!(
            "{chosen} has more than {PICKED_MAX} instances; nothing was changed. Take its series one at a time (--series UID)"
        )));
    }
    Ok(())
}

/// Who wants a change, why, and by which way it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cause {
    pub who: String,
    pub why: String,
    pub way: String,
}

/// Longest reason, and longest name of a person, in characters: they stand in every ledger that says the correction.
const CAUSE_LENGTH_MAX: usize = 1_000;

impl Cause {
    pub fn command_line(who: String, why: String) -> Cause {
        Cause {
            who,
            why,
            way: "command line".to_owned(),
        }
    }

    pub(super) fn check(&self) -> Result<(), CorrectionError> {
        let refused = |text: String| Err(CorrectionError::Refused(text));
        if self.why.trim().is_empty() {
            return refused(
                "a change needs a reason; nothing was changed. Add: --reason TEXT".to_owned(),
            );
        }
        let too_long = |text: &str| text.chars().count() > CAUSE_LENGTH_MAX;
        if too_long(&self.why) || too_long(&self.who) {
            return refused(format!(
                "a reason or a name of more than {CAUSE_LENGTH_MAX} characters; nothing was changed. Make it shorter"
            ));
        }
        Ok(())
    }
}

/// How long one correction waits for another. A large amendment takes longer, and says how far it is.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for those that just store the same instances.
const LOCKS_PATIENCE: Duration = Duration::from_secs(20);
/// So often the instances may have become more while their locks were taken.
const PASSES_MAX: usize = 8;

impl Corrections {
    /// For the time of one correction.
    pub(super) fn turn(&self) -> Result<MutexGuard<'_, ()>, CorrectionError> {
        let deadline = Instant::now() + TURN_PATIENCE;
        loop {
            match self.making.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CorrectionError::Refused(
                        "another change is being made; nothing was changed. Try again when it is done: kura changes list"
                            .to_owned(),
                    ));
                }
            }
        }
    }
}

/// What is picked, with the locks of its UIDs: nothing is stored under them meanwhile.
pub(super) struct Held<'a> {
    pub(super) picked: Vec<Picked>,
    pub(super) view: View,
    _locks: Vec<UidLock<'a>>,
}

impl Archive {
    /// Picks under the locks of all UIDs, so that what came until now is in it.
    pub(super) fn hold_picked(
        &self,
        pick: &mut dyn FnMut(&Snapshot) -> Result<Vec<Picked>, CorrectionError>,
    ) -> Result<Held<'_>, CorrectionError> {
        let mut locks: BTreeMap<String, UidLock<'_>> = BTreeMap::new();
        let deadline = Instant::now() + LOCKS_PATIENCE;
        for _ in 0..PASSES_MAX {
            let view = self.complete_view()?;
            let picked =
                pick(&view.snapshot).inspect_err(|error| self.noticed_by_correction(error))?;
            let missing: BTreeSet<&String> = picked
                .iter()
                .map(|picked| &picked.sop_instance_uid)
                .filter(|uid| !locks.contains_key(*uid))
                .collect();
            if missing.is_empty() {
                return Ok(Held {
                    picked,
                    view,
                    _locks: locks.into_values().collect(),
                });
            }
            // A snapshot that is kept while others write makes the engine keep old pages.
            drop(view);
            // In the order of the UIDs, and not for ever: others hold several, too.
            for uid in missing {
                let left = deadline.saturating_duration_since(Instant::now());
                let lock = self.locks.lock_within(uid, left).ok_or_else(|| {
                    CorrectionError::Refused(format!(
                        "instance {uid} is just being stored or copied; nothing was changed. Try again"
                    ))
                })?;
                locks.insert(uid.clone(), lock);
            }
        }
        Err(CorrectionError::Refused(
            "images are still coming; nothing was changed. Try again when the sender is done"
                .to_owned(),
        ))
    }

    /// An index that failed is made anew.
    pub(super) fn noticed_by_correction(&self, error: &CorrectionError) {
        if let CorrectionError::Index(error) = error {
            self.index_failed(error);
        }
    }

    /// Rules on what is held, and puts the correction in effect. Its number.
    pub(super) fn put_in_effect(
        &self,
        held: &Held<'_>,
        verdict: Verdict,
        facts: &CorrectionFacts,
    ) -> Result<u64, CorrectionError> {
        let number = self.keeper.next_sequence();
        let rulings: Vec<Ruling> = held
            .picked
            .iter()
            .map(|picked| Ruling {
                sequence: self.keeper.next_sequence(),
                by: number,
                sop_instance_uid: picked.sop_instance_uid.clone(),
                content: picked.content.clone(),
                verdict,
            })
            .collect();
        let near = self.volumes_near(&held.view.snapshot, &facts.studies)?;
        self.put_down(number, true, facts, &rulings, &near)?;
        tracing::info!(
            number,
            did = ?facts.did,
            instances_count = facts.instances_count,
            "a correction is in effect"
        );
        Ok(number)
    }

    /// Volumes that hold files of these studies: a disk that is given away takes with it what was said of them.
    fn volumes_near(
        &self,
        snapshot: &Snapshot,
        studies: &[String],
    ) -> Result<Vec<String>, CorrectionError> {
        let mut count = BTreeMap::<String, usize>::new();
        for study in studies {
            // A few tell where a study lies.
            let mut left = 16;
            snapshot.instances(study, None, &mut |entry| {
                for copy in entry.record.copies {
                    *count.entry(copy.volume_id).or_default() += 1;
                }
                left -= 1;
                match left {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
        }
        let mut near: Vec<(String, usize)> = count.into_iter().collect();
        near.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(near.into_iter().map(|(id, _)| id).collect())
    }
}

/// The studies of what is picked, each once, in order.
pub(super) fn studies_of(picked: &[Picked]) -> Vec<String> {
    let studies: BTreeSet<&String> = picked.iter().map(|one| &one.study_instance_uid).collect();
    studies.into_iter().cloned().collect()
}

/// SOP Instance UIDs, each counted once.
pub(super) fn instances_count(picked: &[Picked]) -> u64 {
    let uids: BTreeSet<&String> = picked.iter().map(|one| &one.sop_instance_uid).collect();
    uids.len() as u64
}
