//! Does a peer keep what it confirmed? Storage commitment (PS3.4 J) after a study was sent whole, where
//! `[[peer]] commitment` says so.
//!
//! A question is durable before it goes out, so a report finds it also after a restart. It comes over the association that
//! asked or over one of the peer's, whenever the peer has looked: nobody waits for it, and what is sent goes on.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use crate::config::{ForwardWhen, PeerEntry};
use crate::dicom::{Reference, References, sop};
use crate::net::Association;
use crate::scu::{self, Heard};

use super::clerk::stands_for;
use super::kept::{Kept, KeptCommitment, Key};
use super::queue::Queue;
use super::ranges::Ranges;
use super::rules::Route;
use super::{Forwarder, now_ms, receipt};

/// Instances of one question; what is left of a study is asked after the answer.
const INSTANCES_MAX: u64 = 10_000;
/// Questions to one peer that are open at the same moment.
const OPEN_MAX: usize = 1_000;
/// So long the association stays open after the last question; some peers report only when it is released.
const THERE_FOR: Duration = Duration::from_secs(20);
/// For the answer to a question; its report comes later.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at whether there is another question.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A question without a report is asked again after it, milliseconds: a peer may make its second copy first.
const REPORT_WITHIN_MS: i64 = 60 * 60 * 1_000;
/// From the first question on, milliseconds; then a person decides.
const ASK_FOR_MS: i64 = 24 * 60 * 60 * 1_000;
/// Until an index that is being made anew is looked at again, milliseconds.
const UNREADABLE_MS: i64 = 30_000;
/// Failure Reason of what a report does not name at all: processing failure (PS3.3 C.14.1.1).
const NOT_NAMED: u16 = 0x0110;

impl Kept {
    /// Of what the peer confirmed it is to be asked from now on whether it keeps it.
    pub fn begin_commitment(&mut self, now: i64) {
        let commitment = self.commitment.get_or_insert_default();
        commitment.since = 0;
        commitment.tries = 0;
        commitment.ended = false;
        if commitment.question.is_none() {
            commitment.due = now;
        }
    }

    /// When the peer is to be asked, or not waited for any longer. `None`: not.
    pub fn commitment_due(&self, peer: &PeerEntry, route: Option<&Route>) -> Option<i64> {
        let commitment = self.commitment.as_ref()?;
        let all = commitment.committed.count() >= self.confirmed.count();
        if !peer.commitment || self.is_open() || all || commitment.ended {
            return None;
        }
        // Each instance goes as it comes; its study is asked about when it is quiet.
        let quiet = match route {
            Some(route) if route.when == ForwardWhen::Instance => route.quiet,
            _ => Duration::ZERO,
        };
        let quiet = i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX);
        Some(commitment.due.max(self.noted.saturating_add(quiet)))
    }

    /// The peer was asked long enough, and does not keep all of it.
    pub fn is_not_committed(&self) -> bool {
        let ended = self.commitment.as_ref().filter(|one| one.ended);
        ended.is_some_and(|one| !one.reason.is_empty())
    }
}

/// A peer that could not be asked.
pub struct Pause {
    until: Instant,
    pub reason: String,
}

impl Forwarder {
    pub(super) fn questions(&self) -> MutexGuard<'_, HashMap<String, Key>> {
        self.questions
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether the peer has something to be asked now.
    pub(super) fn has_question(&self, queue: &Queue, now: i64) -> bool {
        let paused = queue.commitment_pause.as_ref();
        queue.has_commitment(now) && paused.is_none_or(|pause| pause.until <= Instant::now())
    }

    /// Asks a peer whatever is due, over one association; ends when nothing was for a while.
    pub(super) fn ask_what_is_kept(&self, title: &str) {
        let Ok(peer) = self.peer(title) else { return };
        let mut association: Option<(Association, u8)> = None;
        let mut asked = Instant::now();
        let take = &mut |report: References| self.take_report(&report);
        while !self.is_stopping() {
            if let Some((key, references)) = self.next_question(title) {
                let put = match association.take() {
                    Some(open) => Ok(open),
                    None => self.open_for_questions(&peer),
                };
                let put = put.and_then(|(mut open, context_id)| {
                    let status = scu::request_commitment(&mut open, context_id, &references, take)
                        .map_err(|error| error.to_string())?;
                    association = Some((open, context_id));
                    match scu::is_taken(status) {
                        true => Ok(()),
                        false => Err(format!("it answered {status:04X}H to the request")),
                    }
                });
                asked = Instant::now();
                if put.is_ok()
                    && let Some(queue) = self.queues().get_mut(title)
                {
                    queue.commitment_pause = None;
                }
                if let Err(reason) = put {
                    self.cannot_be_asked(&key, &references.transaction_uid, &reason);
                    break;
                }
                continue;
            }
            let Some((open, _)) = &mut association else {
                return;
            };
            let nothing_open = !self.questions().values().any(|key| *key.peer == *title);
            if nothing_open || asked.elapsed() > THERE_FOR {
                break;
            }
            match scu::hear_report(open, LOOK_EVERY, take) {
                Ok(Heard::Over) | Err(_) => association = None,
                Ok(_) => {}
            }
        }
        if let Some((mut open, _)) = association {
            drop(open.release());
        }
    }

    fn open_for_questions(&self, peer: &PeerEntry) -> Result<(Association, u8), String> {
        let service = sop::STORAGE_COMMITMENT_PUSH;
        let open = receipt::open(&self.calling, peer, service, ANSWER_WITHIN);
        let mut open = open.map_err(|error| error.to_string())?;
        let context = open.context_for(sop::STORAGE_COMMITMENT_PUSH, None);
        match context.map(|context| context.id) {
            Some(id) => Ok((open, id)),
            None => {
                drop(open.release());
                Err("it does not take storage commitment".to_owned())
            }
        }
    }

    /// Takes the next study that is due, and writes its question down. Durable on return.
    fn next_question(&self, title: &str) -> Option<(Key, References)> {
        loop {
            let now = now_ms();
            if self.open_questions(title) >= OPEN_MAX {
                return None;
            }
            let study = self.queues().get_mut(title)?.next_commitment(now)?;
            let key = Key {
                peer: title.into(),
                study,
            };
            match self.make_question(&key, now) {
                Ok(Some(references)) => return Some((key, references)),
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!(peer = title, study = &*key.study, reason, "not asked yet");
                    let later = self.outbox.change(&key, |kept| {
                        if let Some(commitment) = &mut kept.commitment {
                            commitment.due = now + UNREADABLE_MS;
                        }
                    });
                    if later.is_err() {
                        return None;
                    }
                }
            }
            self.place_again(&key);
        }
    }

    fn open_questions(&self, title: &str) -> usize {
        let questions = self.questions();
        questions.values().filter(|key| *key.peer == *title).count()
    }

    /// `None`: there is nothing to ask about it now.
    fn make_question(&self, key: &Key, now: i64) -> Result<Option<References>, String> {
        let Some(kept) = self.outbox.item(key)? else {
            return Ok(None);
        };
        let Some(commitment) = kept.commitment.clone().filter(|_| !kept.is_open()) else {
            return Ok(None);
        };
        if let Some((uid, _)) = &commitment.question {
            let reason = format!("no report within {} min", REPORT_WITHIN_MS / 60_000);
            self.has_no_answer(key, uid, &reason);
            return Ok(None);
        }
        let left = kept.confirmed.without(&[&commitment.committed]);
        let view = self.archive.view().map_err(|error| error.to_string())?;
        let mut references = References {
            transaction_uid: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
            ..References::default()
        };
        let mut numbers = Ranges::default();
        let mut failed = None;
        let walked = view.snapshot.instances(&key.study, None, &mut |entry| {
            match stands_for(&view.snapshot, &entry, &left) {
                Ok(Some(number)) => {
                    numbers.insert(number);
                    references.instances.push(Reference {
                        sop_class_uid: entry.record.sop_class_uid.clone(),
                        sop_instance_uid: entry.sop_instance_uid.clone(),
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            match numbers.count() < INSTANCES_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if let Some(error) = walked.err().or(failed) {
            self.archive.index_failed(&error);
            return Err(error.to_string());
        }
        if references.instances.is_empty() {
            if view.rebuilding_percent.is_some() {
                return Err("the index is being made anew".to_owned());
            }
            // What was sent is not in the study any more: nobody asks for it.
            self.outbox.change(key, |kept| {
                if let Some(commitment) = &mut kept.commitment {
                    (commitment.ended, commitment.reason) = (true, String::new());
                }
            })?;
            return Ok(None);
        }
        let uid = references.transaction_uid.clone();
        let written = self.outbox.change(key, |kept| {
            let commitment = kept.commitment.get_or_insert_default();
            if commitment.since == 0 {
                commitment.since = now;
            }
            commitment.question = Some((uid.clone(), numbers));
            commitment.due = now + REPORT_WITHIN_MS;
        });
        written?;
        self.questions().insert(uid, key.clone());
        self.place_again(key);
        self.outbox.commit()?;
        Ok(Some(references))
    }

    /// Nor are its other studies for a while.
    fn cannot_be_asked(&self, key: &Key, transaction_uid: &str, reason: &str) {
        self.has_no_answer(key, transaction_uid, reason);
        if let Some(queue) = self.queues().get_mut(&*key.peer) {
            queue.commitment_pause = Some(Pause {
                until: Instant::now() + Duration::from_secs(self.config.now().retry_seconds),
                reason: reason.to_owned(),
            });
        }
    }

    /// It is asked again later, as long as that makes sense.
    fn has_no_answer(&self, key: &Key, transaction_uid: &str, reason: &str) {
        tracing::warn!(
            peer = &*key.peer,
            study = &*key.study,
            reason,
            "a peer does not say whether it keeps a study"
        );
        self.questions().remove(transaction_uid);
        let now = now_ms();
        let written = self.outbox.change(key, |kept| {
            let commitment = kept.commitment.get_or_insert_default();
            let is_it = |(uid, _): &mut (String, Ranges)| uid == transaction_uid;
            if commitment.question.take_if(is_it).is_some() {
                reason.clone_into(&mut commitment.reason);
                self.ask_again(commitment, now);
            }
        });
        if let Err(reason) = written {
            tracing::error!(reason, "a record of the outbox cannot be read");
        }
        self.place_again(key);
    }

    /// When, or that it is enough.
    fn ask_again(&self, commitment: &mut KeptCommitment, now: i64) {
        let config = self.config.now();
        let (first, longest) = (config.retry_seconds, config.retry_max_seconds);
        let doubled = first.saturating_mul(1 << commitment.tries.min(20));
        let pause = doubled.min(longest.max(first)) as i64 * 1_000;
        commitment.tries = commitment.tries.saturating_add(1);
        commitment.due = now + pause;
        commitment.ended = now + pause > commitment.since + ASK_FOR_MS;
    }

    /// A peer reports, over whichever association; false: that is no question of ours. Durable on return.
    pub fn take_report(&self, report: &References) -> bool {
        let uid = &report.transaction_uid;
        let Some(key) = self.questions().get(uid).cloned() else {
            return false;
        };
        match self.note_report(&key, report) {
            Ok(()) => {
                self.questions().remove(uid);
                if let Some(queue) = self.queues().get_mut(&*key.peer) {
                    queue.commitment_pause = None;
                }
                self.place_again(&key);
                self.archive.wake_for_arrivals();
                true
            }
            Err(reason) => {
                tracing::error!(peer = &*key.peer, reason, "a report is not taken");
                false
            }
        }
    }

    /// Only what was asked counts, and only what the report names as committed is.
    fn note_report(&self, key: &Key, report: &References) -> Result<(), String> {
        let kept = self.outbox.item(key)?.unwrap_or_default();
        let question = kept.commitment.and_then(|commitment| commitment.question);
        let Some((_, numbers)) = question.filter(|(uid, _)| *uid == report.transaction_uid) else {
            return Err("its question is not known any more".to_owned());
        };
        let refused: HashMap<&str, u16> = report
            .failed
            .iter()
            .map(|(one, reason)| (one.sop_instance_uid.as_str(), *reason))
            .collect();
        let committed: HashSet<&str> = report
            .instances
            .iter()
            .map(|one| one.sop_instance_uid.as_str())
            .filter(|sop| !refused.contains_key(sop))
            .collect();
        let view = self.archive.view().map_err(|error| error.to_string())?;
        let mut good = Ranges::default();
        let mut not: Option<(u64, String, u16)> = None;
        let mut failed = None;
        let walked = view
            .snapshot
            .instances(&key.study, None, &mut |entry| match stands_for(
                &view.snapshot,
                &entry,
                &numbers,
            ) {
                Ok(Some(number)) => {
                    let sop = entry.sop_instance_uid.as_str();
                    if committed.contains(sop) {
                        good.insert(number);
                    } else {
                        let reason = refused.get(sop).copied().unwrap_or(NOT_NAMED);
                        not.get_or_insert_with(|| (0, sop.to_owned(), reason)).0 += 1;
                    }
                    ControlFlow::Continue(())
                }
                Ok(None) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            });
        if let Some(error) = walked.err().or(failed) {
            self.archive.index_failed(&error);
            return Err(error.to_string());
        }
        tracing::info!(
            peer = &*key.peer,
            study = &*key.study,
            committed_count = good.count(),
            failed_count = not.as_ref().map_or(0, |(count, ..)| *count),
            "a peer says what it keeps"
        );
        let now = now_ms();
        self.outbox.change(key, |kept| {
            let confirmed = kept.confirmed.clone();
            let commitment = kept.commitment.get_or_insert_default();
            commitment.question = None;
            for number in good.iter().filter(|number| confirmed.contains(*number)) {
                commitment.committed.insert(number);
            }
            match not {
                None => {
                    commitment.reason.clear();
                    commitment.due = now;
                }
                Some((count, sop, reason)) => {
                    let words = scu::failure_reason(reason);
                    commitment.reason =
                        format!("{count} refused, of these {sop}: {reason:04X}H {words}");
                    self.ask_again(commitment, now);
                }
            }
        })?;
        self.outbox.commit()
    }

    fn place_again(&self, key: &Key) {
        match self.outbox.item(key) {
            Ok(Some(kept)) => self.place(key, &kept, now_ms()),
            Ok(None) => {}
            Err(reason) => tracing::error!(reason, "a record of the outbox cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ForwardPriority;
    use crate::job::Window;

    fn peer(commitment: bool) -> PeerEntry {
        let mut peer: PeerEntry = "HOROS@h:104".parse().expect("a peer");
        peer.commitment = commitment;
        peer
    }

    /// Two instances, both confirmed, the last noted at 1,000.
    fn sent() -> Kept {
        let mut kept = Kept {
            noted: 1_000,
            ..Kept::default()
        };
        for number in [5, 6] {
            kept.wanted.insert(number);
            kept.confirmed.insert(number);
        }
        kept
    }

    fn route(when: ForwardWhen) -> Route {
        Route {
            rule: "r".to_owned(),
            peer: "HOROS".parse().expect("a title"),
            when,
            quiet: Duration::from_secs(60),
            window: Window::ALWAYS,
            priority: ForwardPriority::Medium,
        }
    }

    #[test]
    fn a_peer_is_asked_of_what_was_sent_whole_and_is_not_committed_yet() {
        let peer = &peer(true);
        let study = route(ForwardWhen::Study);
        let mut kept = sent();
        // Sent before it was to be asked.
        assert_eq!(kept.commitment_due(peer, Some(&study)), None);
        kept.begin_commitment(2_000);
        assert_eq!(kept.commitment_due(peer, Some(&study)), Some(2_000));
        assert_eq!(kept.commitment_due(peer, None), Some(2_000));
        let instance = route(ForwardWhen::Instance);
        assert_eq!(kept.commitment_due(peer, Some(&instance)), Some(61_000));
        assert_eq!(kept.commitment_due(&self::peer(false), Some(&study)), None);
        kept.wanted.insert(7);
        assert_eq!(kept.commitment_due(peer, Some(&study)), None, "more goes");
        kept.confirmed.insert(7);
        let commitment = kept.commitment.as_mut().expect("begun");
        commitment.committed = kept.confirmed.clone();
        assert_eq!(kept.commitment_due(peer, Some(&study)), None, "all is kept");
        assert!(kept.is_done());
    }

    #[test]
    fn who_was_asked_long_enough_is_asked_again_by_hand_alone() {
        let mut kept = sent();
        kept.begin_commitment(2_000);
        assert!(!kept.is_done() && !kept.is_not_committed());
        let commitment = kept.commitment.as_mut().expect("begun");
        (commitment.ended, commitment.reason) = (true, "1 refused".to_owned());
        assert_eq!(kept.commitment_due(&peer(true), None), None);
        assert!(kept.is_not_committed() && !kept.is_done());
        kept.begin_commitment(3_000);
        assert_eq!(kept.commitment_due(&peer(true), None), Some(3_000));
        assert!(!kept.is_not_committed());
    }
}
