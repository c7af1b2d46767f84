//! One study at a time to one peer.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::archive::{Archive, Selected};
use crate::config::{ForwardPriority, ForwardWhen, PeerEntry};
use crate::net::dimse::{PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_MEDIUM};
use crate::sending::{self, Line, Sent, To};
use crate::transfers::{Direction, Transfer};

use super::clerk::{Above, facts_of, stands_for};
use super::kept::{Kept, Key};
use super::ranges::Ranges;
use super::rules::Rules;
use super::{Forwarder, local_now, now_ms, receipt};

/// Instances of a study that are sent in one go; what is left follows at once.
const RUN_COUNT: usize = 20_000;
/// A peer that refuses so many one after the other is asked again later: its disk is full, say.
const REFUSED_MAX: u32 = 3;
/// So many broken associations one after the other: it is not one bad instance.
const BROKEN_MAX: u32 = 2;
/// So long an association stays open for the next instance, where each goes as it comes.
const OPEN_FOR: Duration = Duration::from_secs(5);
/// Until what cannot be read now (the index is being made anew) is looked at again, milliseconds.
const UNREADABLE_MS: i64 = 30_000;
/// SOP Class not supported (PS3.7 C.5.7).
const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;

/// What is to be sent now.
struct Chosen {
    instances: Vec<Selected>,
    numbers: Vec<u64>,
    /// By which rule's changes; all the same here.
    rule: Option<String>,
}

/// How a run went.
#[derive(Default)]
struct Run {
    stored: u64,
    failed: u64,
    not_taken: u64,
    bytes: u64,
    /// The last failure's.
    status: Option<u16>,
    reason: String,
    not_taken_reason: String,
    /// The last of them broke off.
    broken: u32,
    refused: u32,
    stopped: bool,
}

impl Forwarder {
    /// Sends to a peer until nothing is due, then asks it what it holds of that.
    pub(super) fn send_what_is_due(&self, title: &str) {
        let mut line = Line::default();
        while !self.is_stopping() && self.outbox.trouble().is_none() {
            let Ok(peer) = self.peer(title) else { return };
            let next = self
                .queues()
                .get_mut(title)
                .and_then(|queue| queue.next(now_ms(), local_now()));
            let Some(study) = next else {
                if line.is_open() {
                    if !self.more_comes(title) {
                        line.release();
                    }
                    continue;
                }
                let asked = self
                    .queues()
                    .get_mut(title)
                    .and_then(|queue| queue.next_receipt(Instant::now()));
                let Some((study, tries)) = asked else { return };
                let key = Key {
                    peer: title.into(),
                    study,
                };
                self.ask_what_is_there(&peer, &key, tries);
                continue;
            };
            let key = Key {
                peer: title.into(),
                study,
            };
            let sent = self.send_study(&peer, &key, &mut line);
            if let Some(queue) = self.queues().get_mut(title) {
                queue.active.remove(&*key.study);
            }
            if let Err(reason) = sent {
                tracing::error!(
                    peer = title,
                    study = &*key.study,
                    reason,
                    "a study was not sent"
                );
                self.later(&key, &reason);
            }
            match self.outbox.item(&key) {
                Ok(Some(kept)) => self.place(&key, &kept, now_ms()),
                Ok(None) => {}
                Err(reason) => tracing::error!(reason, "a record of the outbox cannot be read"),
            }
        }
    }

    /// Waits a moment for something that is due.
    fn more_comes(&self, title: &str) -> bool {
        let until = Instant::now() + OPEN_FOR;
        let mut queues = self.queues();
        while let Some(queue) = queues.get_mut(title) {
            let left = until.saturating_duration_since(Instant::now());
            if queue.has_due(now_ms(), local_now()) {
                return true;
            }
            let is_closed = queue.paused || queue.unreachable.is_some();
            if left.is_zero() || is_closed || self.is_stopping() {
                return false;
            }
            queue.idle += 1;
            let waited = self.due.wait_timeout(queues, left);
            queues = waited.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(queue) = queues.get_mut(title) {
                queue.idle = queue.idle.saturating_sub(1);
            }
        }
        false
    }

    /// Not by the peer's fault: again in a moment.
    fn later(&self, key: &Key, reason: &str) {
        let changed = self.outbox.change(key, |kept| {
            kept.reason = reason.to_owned();
            kept.next_try = Some(now_ms() + UNREADABLE_MS);
        });
        if let Err(reason) = changed {
            tracing::error!(reason, "a record of the outbox cannot be read");
        }
    }

    fn send_study(&self, peer: &PeerEntry, key: &Key, line: &mut Line) -> Result<(), String> {
        let Some(kept) = self.outbox.item(key)? else {
            return Ok(());
        };
        // One set of rules from the choice to the last byte: what is rewritten by a rule never goes without it.
        let rules = self.rules();
        let by_rule = !kept.by_hand && !kept.rule.is_empty();
        if by_rule && rules.route(&kept.rule, &peer.ae_title).is_none() {
            return self.has_no_rule(key, &kept.rule);
        }
        let groups = self.choose(peer, key, &kept, &rules)?;
        let mut run = Run::default();
        let begun = Instant::now();
        let route = rules.route(&kept.rule, &peer.ae_title);
        let stays_open = route.is_some_and(|route| route.when == ForwardWhen::Instance);
        if !stays_open {
            line.release();
        }
        for chosen in &groups {
            let line = stays_open.then_some(&mut *line);
            self.send_some(peer, key, &kept, (chosen, &rules, line), &mut run)?;
            if run.stopped || run.is_over() {
                break;
            }
        }
        // Whether it is the peer or the study: who answers an echo is there.
        let gone = match run.broken > 0 && !run.stopped {
            true => receipt::echo(&self.calling, peer).err(),
            false => None,
        };
        let ended = self.end(peer, key, &run, gone.is_some())?;
        if let Some(reason) = &gone {
            self.mark_unreachable(&key.peer, reason);
        }
        if run.stored + run.failed + run.not_taken > 0 {
            self.note_transfer(peer, key, &run, begun.elapsed());
        }
        // Not in a moment, with the clerk's: a study that was sent is sent.
        self.outbox.commit()?;
        if ended.done.is_some()
            && run.stored > 0
            && gone.is_none()
            && let Some(queue) = self.queues().get_mut(&*key.peer)
        {
            queue.ask_later(key.study.clone(), Instant::now(), 0);
        }
        Ok(())
    }

    /// The rule that it waited for is gone, and with it, perhaps, the Patient ID that it was to have there: a person says
    /// what becomes of it.
    fn has_no_rule(&self, key: &Key, rule: &str) -> Result<(), String> {
        let (study, peer) = (&key.study, &key.peer);
        self.outbox.change(key, |kept| {
            kept.given_up = true;
            kept.next_try = None;
            kept.reason = format!(
                "rule {rule} does not send to this peer any more; to send it all the same: kura send {study} --to {peer}, else: kura forward mark-sent {study} --peer {peer}"
            );
        })
    }

    /// What of the study is still to be sent, as it is answered now. What is answered no more is not sent any more.
    fn choose(
        &self,
        peer: &PeerEntry,
        key: &Key,
        kept: &Kept,
        rules: &Rules,
    ) -> Result<Vec<Chosen>, String> {
        let open = kept.open();
        let by_rule = !kept.by_hand && !kept.rule.is_empty();
        let view = self.archive.view().map_err(|error| error.to_string())?;
        let snapshot = &view.snapshot;
        let mut groups: HashMap<Option<String>, Chosen> = HashMap::new();
        let mut found = Ranges::default();
        let (mut failed, mut whole, mut count) = (None, true, 0);
        let mut held: Option<String> = None;
        let mut above = Above::default();
        let walked = snapshot.instances(&key.study, None, &mut |entry| {
            let number = match stands_for(snapshot, &entry, &open) {
                Ok(number) => number,
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            };
            let Some(number) = number else {
                return ControlFlow::Continue(());
            };
            let rule = match above.of(snapshot, &entry) {
                Ok(Some((study, series))) => {
                    let routes = rules.for_instance(&facts_of(&entry, study, series));
                    let route = routes.into_iter().find(|route| route.peer == peer.ae_title);
                    let rule = route.map(|route| route.rule);
                    // It no longer takes the instance, but is what this waits by.
                    rule.or_else(|| by_rule.then(|| kept.rule.clone()))
                }
                Ok(None) => by_rule.then(|| kept.rule.clone()),
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            };
            if let Some(reason) = rule.as_deref().and_then(|rule| rules.why_held(rule)) {
                held = Some(reason.to_owned());
                return ControlFlow::Break(());
            }
            let rule = rule.filter(|rule| rules.rewrite(rule).is_some());
            found.insert(number);
            if let Some(selected) = Selected::of(entry) {
                let chosen = groups.entry(rule.clone()).or_insert_with(|| Chosen {
                    instances: Vec::new(),
                    numbers: Vec::new(),
                    rule,
                });
                chosen.instances.push(selected);
                chosen.numbers.push(number);
                count += 1;
            }
            whole = count < RUN_COUNT;
            match whole {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if let Some(error) = walked.err().or(failed) {
            self.archive.index_failed(&error);
            return Err(format!("{error}; it is sent when the index is there again"));
        }
        if let Some(reason) = held {
            return Err(format!(
                "{reason}; mend that file, then: kura forward retry"
            ));
        }
        let gone = open.without(&[&found]);
        if whole && !gone.is_empty() {
            if let Some(percent) = view.rebuilding_percent {
                return Err(format!(
                    "the index is being rebuilt, {percent} % done; it is sent then"
                ));
            }
            tracing::info!(
                peer = &*key.peer,
                study = &*key.study,
                instances_count = gone.count(),
                "instances that were to be sent are not in the study any more"
            );
            self.outbox.change(key, |kept| {
                gone.iter().for_each(|number| kept.wanted.remove(number));
            })?;
        }
        Ok(groups.into_values().collect())
    }

    fn send_some(
        &self,
        peer: &PeerEntry,
        key: &Key,
        kept: &Kept,
        (chosen, rules, line): (&Chosen, &Rules, Option<&mut Line>),
        run: &mut Run,
    ) -> Result<(), String> {
        let route = rules.route(&kept.rule, &peer.ae_title);
        let archive: &Archive = &self.archive;
        let to = To {
            archive,
            calling: &self.calling,
            peer,
            caller: None,
            priority: match route.map(|route| route.priority) {
                Some(ForwardPriority::High) => PRIORITY_HIGH,
                Some(ForwardPriority::Low) => PRIORITY_LOW,
                _ => PRIORITY_MEDIUM,
            },
            originator: None,
            rewrite: chosen.rule.as_deref().and_then(|rule| rules.rewrite(rule)),
            cancelled: None,
        };
        let mut numbers = chosen.numbers.iter();
        let mut unwritten = None;
        let _ = sending::send_over(&to, &chosen.instances, line, &mut |_, sent, bytes| {
            let Some(&number) = numbers.next() else {
                return ControlFlow::Break(());
            };
            let written = self.outbox.change(key, |kept| {
                run.count(&sent, bytes);
                match &sent {
                    Sent::Stored { .. } => kept.is_confirmed(number),
                    sent if is_not_taken(sent) => kept.is_not_taken(number),
                    _ => true,
                }
            });
            match written {
                Ok(still_wanted) => run.stopped = self.is_stopping() || !still_wanted,
                Err(reason) => {
                    unwritten = Some(reason);
                    return ControlFlow::Break(());
                }
            }
            match run.stopped || run.is_over() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        unwritten.map_or(Ok(()), Err)
    }

    /// Writes down how it ended.
    fn end(&self, peer: &PeerEntry, key: &Key, run: &Run, gone: bool) -> Result<Kept, String> {
        let now = now_ms();
        let config = self.config.now();
        let (first, longest) = (config.retry_seconds, config.retry_max_seconds);
        let give_up = i64::try_from(config.give_up_days).unwrap_or(0) * 24 * 3_600 * 1_000;
        self.outbox.change(key, |kept| {
            if run.failed > 0 && kept.is_open() {
                kept.reason.clone_from(&run.reason);
                kept.status = run.status;
            }
            if !kept.is_open() {
                kept.done = Some(now);
                kept.failures = 0;
                kept.next_try = None;
                kept.given_up = false;
                kept.at_once = false;
                kept.status = None;
                let (confirmed, not_taken) = (kept.confirmed.count(), kept.not_taken.count());
                if not_taken == 0 {
                    kept.reason.clear();
                } else {
                    if !run.not_taken_reason.is_empty() {
                        kept.reason = format!(
                            "sent {confirmed}, {not_taken} not taken by the peer: {}",
                            run.not_taken_reason
                        );
                    }
                    kept.status = Some(SOP_CLASS_NOT_SUPPORTED);
                    // Nothing of it is there: that is no warning.
                    kept.given_up = confirmed == 0;
                    if confirmed == 0 {
                        kept.done = None;
                    }
                }
                if peer.commitment && confirmed > 0 {
                    kept.begin_commitment(now);
                }
            } else if gone || run.stopped {
                // It waits with the peer's others; nothing is wrong with it.
            } else if run.failed > 0 {
                // Something went through: the peer works.
                kept.failures = match run.stored {
                    0 => kept.failures.saturating_add(1),
                    _ => 1,
                };
                let doubled = first.saturating_mul(1 << (kept.failures - 1).min(20));
                let wait = doubled.min(longest.max(first));
                kept.next_try = Some(now + wait as i64 * 1_000);
                if give_up > 0 && now - kept.since > give_up {
                    kept.given_up = true;
                    kept.next_try = None;
                }
            } else {
                kept.next_try = None;
            }
            kept.clone()
        })
    }

    fn note_transfer(&self, peer: &PeerEntry, key: &Key, run: &Run, took: Duration) {
        let failed = run.failed + run.not_taken;
        let status = match (run.failed, run.not_taken) {
            (0, 0) => 0,
            (0, _) => SOP_CLASS_NOT_SUPPORTED,
            // Nothing was answered: "unable to process" (PS3.4 Table B.2-1).
            _ => run.status.unwrap_or(0xC000),
        };
        self.transfers.note(Transfer {
            at: crate::archive::now(),
            direction: Direction::Forwarded,
            peer: key.peer.to_string(),
            address: format!("{}:{}", peer.host, peer.port),
            study_instance_uid: key.study.to_string(),
            instances_count: run.stored,
            failed_count: failed,
            bytes: run.bytes,
            seconds: took.as_secs_f64(),
            status,
            reason: match run.failed {
                0 => run.not_taken_reason.clone(),
                _ => run.reason.clone(),
            },
            asked_by: None,
        });
    }
}

fn is_not_taken(sent: &Sent) -> bool {
    match sent {
        Sent::NotTaken(_) => true,
        Sent::Refused { status, .. } => *status == SOP_CLASS_NOT_SUPPORTED,
        _ => false,
    }
}

impl Run {
    fn count(&mut self, sent: &Sent, bytes: u64) {
        self.bytes += bytes;
        let (mut broken, mut refused) = (0, 0);
        match sent {
            Sent::Stored { .. } => self.stored += 1,
            Sent::NotTaken(reason) => {
                self.not_taken += 1;
                self.not_taken_reason.clone_from(reason);
            }
            Sent::Refused { status, comment } => {
                let comment = match comment.is_empty() {
                    true => String::new(),
                    false => format!(" ({comment})"),
                };
                let reason = format!("the peer answered {status:04X}H{comment}");
                if is_not_taken(sent) {
                    self.not_taken += 1;
                    self.not_taken_reason = reason;
                } else {
                    self.failed += 1;
                    (self.status, self.reason) = (Some(*status), reason);
                    refused = self.refused + 1;
                }
            }
            Sent::NotOurs(reason) => {
                self.failed += 1;
                (self.status, self.reason) = (None, reason.clone());
            }
            Sent::Broken(reason) => {
                self.failed += 1;
                (self.status, self.reason) = (None, reason.clone());
                broken = self.broken + 1;
            }
        }
        (self.broken, self.refused) = (broken, refused);
    }

    /// It makes no sense to go on now.
    fn is_over(&self) -> bool {
        self.broken >= BROKEN_MAX || self.refused >= REFUSED_MAX
    }
}
