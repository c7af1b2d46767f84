//! By hand: `kura forward …`, and `kura send STUDY…`

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Instant;

use super::kept::{Kept, Key};
use super::ranges::Ranges;
use super::{ForwardSaid, ForwardVerb, Forwarder, Item, State, clerk, now_ms, text_of};

/// Items of a list; how many there are is told.
const LIST_COUNT: usize = 1_000;
/// Studies that one request may name.
const STUDIES_MAX: usize = 10_000;
/// Records that are changed between two flushes.
const CHANGED_COUNT: usize = 1_000;

impl Forwarder {
    /// The error is a sentence.
    pub fn verb(&self, verb: ForwardVerb) -> Result<ForwardSaid, String> {
        match verb {
            ForwardVerb::List { peer, all, state } => self.list(peer.as_deref(), all, state),
            ForwardVerb::Show { study } => self.show(&study),
            ForwardVerb::Retry { study, peer } => self.retry(study.as_deref(), peer.as_deref()),
            ForwardVerb::MarkSent { study, peer } => {
                let done = self.each_of(&study, peer.as_deref(), |kept| {
                    kept.confirmed = kept.wanted.clone();
                    kept.not_taken = Ranges::default();
                    kept.failures = 0;
                    kept.next_try = None;
                    kept.given_up = false;
                    kept.status = None;
                    kept.reason = "marked as sent by hand".to_owned();
                    kept.done = Some(now_ms());
                    // Whoever says so knows; the peer is not asked.
                    kept.commitment = None;
                })?;
                Ok(ForwardSaid::Done(format!(
                    "Study {study} counts as sent to {done}; instances that come from now on are sent."
                )))
            }
            ForwardVerb::Unmark { study, peer } => {
                let done = self.each_of(&study, peer.as_deref(), |kept| {
                    kept.confirmed = Ranges::default();
                    kept.commitment = None;
                    again(kept);
                })?;
                Ok(ForwardSaid::Done(format!(
                    "Study {study} is sent again, all of it, to {done}."
                )))
            }
            ForwardVerb::Pause { peer } => self.pause(&peer, true),
            ForwardVerb::Resume { peer } => self.pause(&peer, false),
            ForwardVerb::Acknowledge => self.acknowledge(),
            ForwardVerb::Send { studies, peer } => self.send(&studies, &peer),
        }
    }

    fn list(
        &self,
        peer: Option<&str>,
        all: bool,
        state: Option<State>,
    ) -> Result<ForwardSaid, String> {
        let only = peer.map(|peer| self.peer(peer)).transpose()?;
        let only = only.as_ref().map(|peer| peer.ae_title.as_str());
        // Taken before: no lock is held while the outbox is read.
        let active: BTreeSet<(String, String)> = self
            .queues()
            .iter()
            .flat_map(|(peer, queue)| {
                let studies = queue.active.iter();
                studies.map(|study| (peer.to_string(), study.to_string()))
            })
            .collect();
        // What fails, then what waits, then what is done; in each the newest first.
        let mut newest: BTreeMap<(u8, i64, String, String), (Key, Kept)> = BTreeMap::new();
        let mut total_count = 0;
        self.outbox.each(&mut |key, kept| {
            let wanted = all || state == Some(State::Sent) || kept.is_open() || kept.given_up;
            if !wanted || only.is_some_and(|peer| peer != &*key.peer) {
                return true;
            }
            let is_active = || active.contains(&(key.peer.to_string(), key.study.to_string()));
            if state.is_some_and(|state| state_of(&kept, is_active()) != state) {
                return true;
            }
            total_count += 1;
            let rank = match () {
                () if kept.failures > 0 || kept.given_up => 0,
                () if kept.is_open() => 1,
                () => 2,
            };
            let place = (
                rank,
                -kept.noted,
                key.peer.to_string(),
                key.study.to_string(),
            );
            newest.insert(place, (key, kept));
            if newest.len() > LIST_COUNT {
                newest.pop_last();
            }
            true
        })?;
        let items = newest.into_values();
        Ok(ForwardSaid::Items {
            items: items.map(|(key, kept)| self.item_of(&key, &kept)).collect(),
            total_count,
            peers: self.status(),
        })
    }

    fn show(&self, study: &str) -> Result<ForwardSaid, String> {
        let items = self.of_study(study, None)?;
        if items.is_empty() {
            return Err(format!(
                "study {study} was never to be sent to any peer; to send it: kura send {study} --to PEER"
            ));
        }
        let items = items.iter();
        let items: Vec<Item> = items.map(|(key, kept)| self.item_of(key, kept)).collect();
        Ok(ForwardSaid::Items {
            total_count: items.len() as u64,
            items,
            peers: self.status(),
        })
    }

    /// What is known of it, by peer.
    fn of_study(&self, study: &str, peer: Option<&str>) -> Result<Vec<(Key, Kept)>, String> {
        let study = study.trim();
        let only = peer.map(|peer| self.peer(peer)).transpose()?;
        let mut found = Vec::new();
        for peer in &self.peers.all() {
            if only
                .as_ref()
                .is_none_or(|only| only.ae_title == peer.ae_title)
            {
                let key = Key::new(peer.ae_title.as_str(), study);
                if let Some(kept) = self.outbox.item(&key)? {
                    found.push((key, kept));
                }
            }
        }
        Ok(found)
    }

    fn item_of(&self, key: &Key, kept: &Kept) -> Item {
        let is_configured = self.peers.get(&key.peer).is_some();
        let (active, unreachable) = match self.queues().get(&*key.peer) {
            Some(queue) => (
                queue.active.contains(&*key.study),
                queue.unreachable.as_ref().map(|u| u.reason.clone()),
            ),
            None => (false, None),
        };
        let open = kept.is_open();
        let state = state_of(kept, active);
        let rules = self.rules();
        let held = rules.why_held(&kept.rule).filter(|_| !kept.by_hand);
        let reason = match unreachable {
            _ if open && held.is_some() => {
                let (rule, reason) = (&kept.rule, held.unwrap_or_default());
                format!("nothing goes by rule {rule} now; {reason}")
            }
            _ if open && !is_configured => "no peer of that name is configured any more".to_owned(),
            Some(reason) if state == State::Waiting => {
                format!("the peer cannot be reached: {reason}")
            }
            _ => kept.reason.clone(),
        };
        let next_try = kept.next_try.filter(|at| open && *at > now_ms());
        Item {
            peer: key.peer.to_string(),
            study_instance_uid: key.study.to_string(),
            patient_id: kept.patient_id.clone(),
            study_date: kept.study_date.clone(),
            state,
            sent_count: kept.confirmed.count(),
            total_count: kept.wanted.count(),
            status: kept.status,
            reason,
            next_try: next_try.map(text_of),
            delivered_count: kept.delivered,
            committed_count: kept.commitment.as_ref().map(|one| one.committed.count()),
            not_committed: kept
                .commitment
                .as_ref()
                .map_or(String::new(), |one| one.reason.clone()),
        }
    }

    fn retry(&self, study: Option<&str>, peer: Option<&str>) -> Result<ForwardSaid, String> {
        let only = peer.map(|peer| self.peer(peer)).transpose()?;
        let mut keys = Vec::new();
        if let Some(study) = study {
            let known = self.of_study(study, peer)?;
            if known.is_empty() {
                return Err(not_known(study, peer));
            }
            keys.extend(
                known
                    .into_iter()
                    .filter(|(_, kept)| is_for_retry(kept))
                    .map(|(key, _)| key),
            );
        } else {
            self.outbox.each(&mut |key, kept| {
                let fits = only
                    .as_ref()
                    .is_none_or(|only| only.ae_title.as_str() == &*key.peer);
                if fits && is_for_retry(&kept) {
                    keys.push(key);
                }
                true
            })?;
        }
        for (count, key) in (1..).zip(&keys) {
            let kept = self.outbox.change(key, |kept| {
                if kept.is_not_committed() {
                    kept.begin_commitment(now_ms());
                }
                if is_to_be_sent(kept) {
                    again(kept);
                }
                kept.clone()
            })?;
            self.place(key, &kept, now_ms());
            if count % CHANGED_COUNT == 0 {
                self.outbox.commit()?;
            }
        }
        self.outbox.commit()?;
        // Who asks has perhaps just switched the peer on.
        for (title, queue) in self.queues().iter_mut() {
            if let Some(unreachable) = &mut queue.unreachable
                && only
                    .as_ref()
                    .is_none_or(|only| only.ae_title.as_str() == title)
            {
                unreachable.next_probe = Instant::now();
            }
            queue.commitment_pause = None;
        }
        self.archive.wake_for_arrivals();
        let mut said = match keys.len() {
            0 => "Nothing waits and nothing failed there.".to_owned(),
            1 => "One study is tried again now.".to_owned(),
            count => format!("{count} studies are tried again now."),
        };
        for (rule, reason) in self.rules().held() {
            said.push_str(&format!(" Nothing goes by rule {rule} still; {reason}."));
        }
        Ok(ForwardSaid::Done(said))
    }

    /// Changes what is known of a study, and says for which peers.
    fn each_of(
        &self,
        study: &str,
        peer: Option<&str>,
        f: impl Fn(&mut Kept),
    ) -> Result<String, String> {
        let known = self.of_study(study, peer)?;
        if known.is_empty() {
            return Err(not_known(study, peer));
        }
        let mut peers = Vec::new();
        for (key, _) in known {
            let kept = self.outbox.change(&key, |kept| {
                f(kept);
                kept.clone()
            })?;
            self.place(&key, &kept, now_ms());
            peers.push(key.peer.to_string());
        }
        self.outbox.commit()?;
        self.archive.wake_for_arrivals();
        Ok(peers.join(", "))
    }

    fn pause(&self, peer: &str, paused: bool) -> Result<ForwardSaid, String> {
        let peer = self.peer(peer)?;
        let title = peer.ae_title.as_str();
        let mut queues = self.queues();
        if let Some(queue) = queues.get_mut(title) {
            queue.paused = paused;
            if !paused {
                queue.piled_up();
            }
            let unreachable = queue.unreachable.as_ref();
            let unreachable = unreachable.map(|u| (u.reason.clone(), u.since.clone()));
            self.keep_peer(title, paused, unreachable);
        }
        drop(queues);
        self.outbox.commit()?;
        self.archive.wake_for_arrivals();
        Ok(ForwardSaid::Done(match paused {
            true => format!(
                "Nothing is sent to {title} by itself until: kura forward resume {title}. What is being sent to it at this moment is sent to its end."
            ),
            false => format!("What waits for {title} is sent."),
        }))
    }

    fn acknowledge(&self) -> Result<ForwardSaid, String> {
        let was = self.outbox.acknowledge();
        self.outbox.commit()?;
        Ok(ForwardSaid::Done(match was {
            true => "What was said of the outbox is acknowledged.".to_owned(),
            false => "Nothing is said of the outbox.".to_owned(),
        }))
    }

    fn send(&self, studies: &[String], peer: &str) -> Result<ForwardSaid, String> {
        let peer = self.peer(peer)?;
        let title = peer.ae_title.as_str();
        if studies.len() > STUDIES_MAX {
            return Err(format!(
                "{} studies; at most {STUDIES_MAX} at a time, nothing was sent",
                studies.len()
            ));
        }
        let view = self.archive.view().map_err(|error| error.to_string())?;
        // All are looked at before the first is sent.
        let mut all = Vec::new();
        for study in studies.iter().map(|study| study.trim()) {
            let record = view.snapshot.study(study);
            let record = record.map_err(|error| error.to_string())?;
            let Some(record) = record.filter(|record| record.instances_count > 0) else {
                return Err(match view.rebuilding_percent {
                    Some(percent) => format!(
                        "study {study} is not known yet: the index is being rebuilt, {percent} % done; nothing was sent"
                    ),
                    None => format!("there is no study {study}; nothing was sent"),
                });
            };
            let mut numbers = Ranges::default();
            let walked = view.snapshot.instances(study, None, &mut |entry| {
                numbers.insert(entry.record.sequence);
                ControlFlow::Continue(())
            });
            walked.map_err(|error| error.to_string())?;
            all.push((study, record, numbers));
        }
        drop(view);
        let (mut instances, now) = (0, now_ms());
        for (count, (study, record, numbers)) in (1..).zip(all) {
            let key = Key::new(title, study);
            instances += numbers.count();
            let kept = self.outbox.change(&key, |kept| {
                for number in numbers.iter() {
                    kept.wanted.insert(number);
                    // Asked for by hand: also what is there already.
                    kept.confirmed.remove(number);
                }
                kept.commitment = None;
                again(kept);
                kept.by_hand = true;
                kept.noted = now;
                kept.since = now;
                kept.patient_id = clerk::value(&record, 0x0010_0020);
                kept.study_date = clerk::value(&record, 0x0008_0020);
                kept.clone()
            })?;
            self.place(&key, &kept, now);
            if count % CHANGED_COUNT == 0 {
                self.outbox.commit()?;
            }
        }
        self.outbox.commit()?;
        self.archive.wake_for_arrivals();
        let what = match studies.len() {
            1 => "One study".to_owned(),
            count => format!("{count} studies"),
        };
        Ok(ForwardSaid::Done(format!(
            "{what} ({instances} instances) will be sent to {title}: kura forward list"
        )))
    }
}

fn state_of(kept: &Kept, active: bool) -> State {
    let open = kept.is_open();
    match () {
        () if active && open => State::Sending,
        () if kept.given_up || (open && kept.failures > 0) => State::Failed,
        () if open => State::Waiting,
        () => State::Sent,
    }
}

fn is_for_retry(kept: &Kept) -> bool {
    is_to_be_sent(kept) || kept.is_not_committed()
}

fn is_to_be_sent(kept: &Kept) -> bool {
    kept.is_open() || kept.given_up || !kept.not_taken.is_empty()
}

/// As if it had never failed; at once.
fn again(kept: &mut Kept) {
    kept.at_once = true;
    kept.not_taken = Ranges::default();
    kept.failures = 0;
    kept.next_try = None;
    kept.given_up = false;
    kept.status = None;
    kept.reason.clear();
    kept.done = None;
    kept.delivered = None;
    kept.since = now_ms();
}

fn not_known(study: &str, peer: Option<&str>) -> String {
    match peer {
        Some(peer) => format!(
            "study {study} was never to be sent to {peer}; to send it: kura send {study} --to {peer}"
        ),
        None => format!(
            "study {study} was never to be sent to any peer; to send it: kura send {study} --to PEER"
        ),
    }
}
