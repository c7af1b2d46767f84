//! Who is next: in memory, from what the outbox keeps. No file, no socket and no clock is touched here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jiff::civil::DateTime;

use crate::config::ForwardPriority;
use crate::job::Window;

use super::commitment::Pause;

/// What goes by one rule to one peer.
struct Lane {
    window: Window,
    priority: ForwardPriority,
    /// Nothing goes by it now.
    held: bool,
    /// By when it is due (milliseconds since 1970), then study.
    due: BTreeSet<(i64, Arc<str>)>,
}

/// What waits for one peer.
pub struct Queue {
    /// By name of the rule; empty: by hand or by default.
    lanes: BTreeMap<Arc<str>, Lane>,
    /// Where each study that waits is.
    places: HashMap<Arc<str>, (Arc<str>, i64)>,
    /// Being sent.
    pub active: HashSet<Arc<str>>,
    /// Threads that are at work for it.
    pub workers: usize,
    /// Of these, who hold an association open and wait for more.
    pub idle: usize,
    pub paused: bool,
    pub unreachable: Option<Unreachable>,
    /// Things piled up; the newest go first until that is worked off.
    backlog: bool,
    /// Failed last time, whether they are tried again by themselves or not.
    pub failed: HashSet<Arc<str>>,
    /// Of these, what is not tried any more by itself.
    pub given_up: HashSet<Arc<str>>,
    /// What was sent and the peer does not keep, as far as it was asked.
    pub not_committed: HashSet<Arc<str>>,
    /// Studies of which the peer is to be asked whether it keeps them, by when.
    commitments: BTreeSet<(i64, Arc<str>)>,
    commitment_due: HashMap<Arc<str>, i64>,
    /// A thread asks that.
    pub asking: bool,
    pub commitment_pause: Option<Pause>,
    /// Since when what waits waits, by study.
    since: BTreeSet<(i64, Arc<str>)>,
    since_of: HashMap<Arc<str>, i64>,
    pub receipt: Receipt,
    /// Studies of which the peer is to be asked what it holds of them, when nothing is to be sent: from when on, and how
    /// often it was asked.
    pub receipts: VecDeque<(Instant, Arc<str>, u32)>,
}

/// More are not asked for.
const RECEIPTS_MAX: usize = 1_000;

/// Whether a peer says what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Receipt {
    #[default]
    Unknown,
    Answers,
    DoesNot,
}

pub struct Unreachable {
    pub reason: String,
    /// RFC 3339.
    pub since: String,
    pub next_probe: Instant,
    pub probing: bool,
}

/// How what goes by a rule is to be queued.
pub struct Placing<'a> {
    pub rule: &'a str,
    pub window: Window,
    pub priority: ForwardPriority,
    /// Until the rule is placed anew.
    pub held: bool,
}

impl Queue {
    pub fn new() -> Queue {
        Queue {
            lanes: BTreeMap::new(),
            places: HashMap::new(),
            active: HashSet::new(),
            workers: 0,
            idle: 0,
            paused: false,
            unreachable: None,
            backlog: false,
            failed: HashSet::new(),
            given_up: HashSet::new(),
            not_committed: HashSet::new(),
            commitments: BTreeSet::new(),
            commitment_due: HashMap::new(),
            asking: false,
            commitment_pause: None,
            since: BTreeSet::new(),
            since_of: HashMap::new(),
            receipt: Receipt::Unknown,
            receipts: VecDeque::new(),
        }
    }

    /// Puts a study in its place, or in another.
    pub fn put(&mut self, study: &str, placing: &Placing, due: i64, since: i64) {
        self.take_out(study);
        let study: Arc<str> = study.into();
        let rule = match self.lanes.get_key_value(placing.rule) {
            Some((rule, _)) => rule.clone(),
            None => placing.rule.into(),
        };
        let lane = self.lanes.entry(rule.clone()).or_insert_with(|| Lane {
            window: placing.window,
            priority: placing.priority,
            held: placing.held,
            due: BTreeSet::new(),
        });
        // The rule of that name may be another by now.
        (lane.window, lane.priority) = (placing.window, placing.priority);
        lane.held = placing.held;
        lane.due.insert((due, study.clone()));
        self.places.insert(study.clone(), (rule, due));
        self.since.insert((since, study.clone()));
        self.since_of.insert(study, since);
    }

    /// It waits no more.
    pub fn take_out(&mut self, study: &str) {
        if let Some((study, (rule, due))) = self.places.remove_entry(study) {
            if let Some(lane) = self.lanes.get_mut(&rule) {
                lane.due.remove(&(due, study.clone()));
            }
            if let Some(since) = self.since_of.remove(&study) {
                self.since.remove(&(since, study));
            }
        }
    }

    /// The peer is to be asked then whether it keeps a study; `None`: not.
    pub fn put_commitment(&mut self, study: &str, due: Option<i64>) {
        if let Some((study, due)) = self.commitment_due.remove_entry(study) {
            self.commitments.remove(&(due, study));
        }
        if let Some(due) = due {
            let study: Arc<str> = study.into();
            self.commitments.insert((due, study.clone()));
            self.commitment_due.insert(study, due);
        }
    }

    pub fn has_commitment(&self, now: i64) -> bool {
        let asks = !self.paused && self.unreachable.is_none();
        asks && self.commitments.first().is_some_and(|(due, _)| *due <= now)
    }

    /// Takes out the study that has been due longest.
    pub fn next_commitment(&mut self, now: i64) -> Option<Arc<str>> {
        if !self.has_commitment(now) {
            return None;
        }
        let (_, study) = self.commitments.pop_first()?;
        self.commitment_due.remove(&study);
        Some(study)
    }

    /// Without what failed.
    pub fn waiting_count(&self) -> usize {
        let studies = self.places.keys();
        studies
            .filter(|study| !self.failed.contains(*study))
            .count()
    }

    /// Milliseconds since 1970.
    pub fn oldest(&self) -> Option<i64> {
        self.since.first().map(|(since, _)| *since)
    }

    pub fn piled_up(&mut self) {
        self.backlog = true;
    }

    pub fn is_at_work(&self) -> bool {
        self.workers > 0 || self.asking
    }

    /// Takes the next study out, which is active from now on. The lane with the higher priority goes first; in it what
    /// has been due longest, or what became due last where things had piled up: who is just waiting for images must not
    /// wait for those of a whole night.
    pub fn next(&mut self, now: i64, local: DateTime) -> Option<Arc<str>> {
        let study = self.first_due(now, local)?;
        self.take_out(&study);
        self.active.insert(study.clone());
        Some(study)
    }

    pub fn has_due(&mut self, now: i64, local: DateTime) -> bool {
        self.first_due(now, local).is_some()
    }

    fn first_due(&mut self, now: i64, local: DateTime) -> Option<Arc<str>> {
        if self.paused || self.unreachable.is_some() {
            return None;
        }
        let end: Arc<str> = "~".into();
        let mut best: Option<(ForwardPriority, i64, Arc<str>)> = None;
        for lane in self.lanes.values() {
            if lane.held || !lane.window.contains(local) {
                continue;
            }
            let mut due = lane.due.range(..=(now, end.clone()));
            let found = match self.backlog {
                true => due.next_back(),
                false => due.next(),
            };
            let Some((due, study)) = found else { continue };
            let order = if self.backlog { -due } else { *due };
            if best
                .as_ref()
                .is_none_or(|(priority, other, _)| (lane.priority, order) < (*priority, *other))
            {
                best = Some((lane.priority, order, study.clone()));
            }
        }
        if best.is_none() {
            self.backlog = false;
        }
        best.map(|(_, _, study)| study)
    }

    /// The peer is to be asked what it holds of a study, the oldest question going where they are too many.
    pub fn ask_later(&mut self, study: Arc<str>, when: Instant, tries: u32) {
        let is_asked =
            |(_, known, tried): &(Instant, Arc<str>, u32)| *known == study && *tried == tries;
        if self.receipt != Receipt::DoesNot && !self.receipts.iter().any(is_asked) {
            self.receipts.push_back((when, study, tries));
            if self.receipts.len() > RECEIPTS_MAX {
                self.receipts.pop_front();
            }
        }
    }

    /// The next question, and how often it was asked.
    pub fn next_receipt(&mut self, now: Instant) -> Option<(Arc<str>, u32)> {
        if self.paused || self.unreachable.is_some() {
            return None;
        }
        let at = self.receipts.iter().position(|(due, _, _)| *due <= now)?;
        let (_, study, tries) = self.receipts.remove(at)?;
        Some((study, tries))
    }

    pub fn has_receipt(&self, now: Instant) -> bool {
        let asks = !self.paused && self.unreachable.is_none();
        asks && self.receipts.iter().any(|(due, _, _)| *due <= now)
    }

    /// When the next becomes due, if windows are open then.
    pub fn next_due(&self) -> Option<i64> {
        let first = |lane: &Lane| lane.due.first().map(|(due, _)| *due);
        let commitment = self.commitments.first().map(|(due, _)| *due);
        self.lanes
            .values()
            .filter_map(first)
            .chain(commitment)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> DateTime {
        jiff::civil::date(2026, 3, 1).at(12, 0, 0, 0)
    }

    const ALWAYS: Placing = Placing {
        rule: "a",
        window: Window::ALWAYS,
        priority: ForwardPriority::Medium,
        held: false,
    };

    fn order(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next(1_000, noon()))
            .map(|study| study.to_string())
            .collect()
    }

    fn filled() -> Queue {
        let mut queue = Queue::new();
        queue.put("1.1", &ALWAYS, 10, 10);
        queue.put("1.3", &ALWAYS, 30, 30);
        queue.put("1.2", &ALWAYS, 20, 20);
        queue.put("1.4", &ALWAYS, 2_000, 40);
        let night = Placing {
            rule: "night",
            window: "22:00-06:00".parse().unwrap(),
            ..ALWAYS
        };
        queue.put("1.5", &night, 5, 5);
        let urgent = Placing {
            rule: "urgent",
            priority: ForwardPriority::High,
            ..ALWAYS
        };
        queue.put("1.6", &urgent, 40, 40);
        queue
    }

    #[test]
    fn the_oldest_goes_first_and_the_newest_after_things_piled_up() {
        assert_eq!(order(&mut filled()), ["1.6", "1.1", "1.2", "1.3"]);
        let mut queue = filled();
        queue.piled_up();
        assert_eq!(order(&mut queue), ["1.6", "1.3", "1.2", "1.1"]);
        // Worked off: as ever.
        queue.put("2.1", &ALWAYS, 10, 10);
        queue.put("2.2", &ALWAYS, 20, 20);
        assert_eq!(order(&mut queue), ["2.1", "2.2"]);
        assert_eq!(queue.waiting_count(), 2);
        assert_eq!(queue.oldest(), Some(5));
    }

    #[test]
    fn nothing_goes_by_a_rule_that_is_held_until_it_is_placed_anew() {
        let mut queue = filled();
        let held = Placing {
            held: true,
            ..ALWAYS
        };
        queue.put("1.7", &held, 1, 1);
        assert_eq!(order(&mut queue), ["1.6"]);
        queue.put("1.7", &ALWAYS, 1, 1);
        assert_eq!(order(&mut queue), ["1.7", "1.1", "1.2", "1.3"]);
    }

    #[test]
    fn what_is_asked_is_asked_in_order_and_not_of_who_is_paused() {
        let mut queue = Queue::new();
        for (study, due) in [("1.1", 30), ("1.2", 20), ("1.3", 2_000), ("1.4", 10)] {
            queue.put_commitment(study, Some(due));
        }
        queue.put_commitment("1.4", None);
        queue.put_commitment("1.1", Some(5));
        queue.paused = true;
        assert_eq!(queue.next_commitment(1_000), None);
        queue.paused = false;
        assert_eq!(queue.next_due(), Some(5));
        let next = || queue.next_commitment(1_000).map(|study| study.to_string());
        let asked: Vec<String> = std::iter::from_fn(next).collect();
        assert_eq!(asked, ["1.1", "1.2"]);
    }

    #[test]
    fn nothing_goes_to_who_is_paused_or_cannot_be_reached() {
        let mut queue = filled();
        queue.paused = true;
        assert_eq!(queue.next(1_000, noon()), None);
        queue.paused = false;
        queue.unreachable = Some(Unreachable {
            reason: String::new(),
            since: String::new(),
            next_probe: Instant::now(),
            probing: false,
        });
        assert!(!queue.has_due(1_000, noon()));
        assert_eq!(queue.waiting_count(), 6);
    }
}
