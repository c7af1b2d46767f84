//! Whether what is asked is true: every instance is read again, on a thread for each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};

use crate::archive::Assured;

use super::{Commitment, Stage, Verdict, reason};

/// Requests that are judged at the same moment.
const JUDGES_MAX: usize = 2;
/// Who has read nothing for so long waits for a disk that may never answer, and does not count.
const STUCK_AFTER: Duration = Duration::from_secs(15);
/// Threads at most, those included.
const THREADS_MAX: usize = 16;
/// Between two looks at a request that waits for something; doubles with every look.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);
const LOOK_AGAIN_AFTER_MAX: Duration = Duration::from_secs(15);
/// What went wrong on our side is tried again so much later.
const TROUBLE_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// With nothing to do.
const ROUND: Duration = Duration::from_millis(500);
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// What is known of a request that waits.
#[derive(Default)]
pub struct Sofar {
    /// By place in the request; empty before the first look.
    assured: Vec<bool>,
    looks: u32,
}

/// Whose end the table hears of in any case.
struct Judging<'a> {
    commitment: &'a Commitment,
    number: u64,
}

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        let mut table = self.commitment.table();
        table.judging.remove(&self.number);
        if let Some(request) = table.requests.get_mut(&self.number)
            && matches!(request.stage, Stage::Judging)
        {
            let at = Instant::now() + TROUBLE_AGAIN_AFTER;
            request.stage = Stage::Waiting(at, Sofar::default());
            table.to_judge.insert((at, self.number));
        }
        drop(table);
        self.commitment.changed.notify_all();
    }
}

impl Commitment {
    /// Hands out what is to be done, until the end.
    pub(super) fn go_round(self: Arc<Self>) {
        let mut expired = Instant::now();
        while !self.is_stopping() {
            let mut did = false;
            while let Some((number, sofar)) = self.next_to_judge() {
                did = true;
                let commitment = self.clone();
                let thread = std::thread::Builder::new().name("commitment judge".to_owned());
                let thread = thread.spawn(move || commitment.judge(number, sofar));
                if let Err(error) = thread {
                    tracing::error!(%error, "no thread to judge a request of storage commitment");
                    drop(Judging {
                        commitment: &self,
                        number,
                    });
                }
            }
            did |= self.report_due();
            if expired.elapsed() > EXPIRE_EVERY {
                expired = Instant::now();
                self.expire();
            }
            if !did {
                let table = self.table();
                drop(self.changed.wait_timeout(table, ROUND));
            }
        }
    }

    fn next_to_judge(&self) -> Option<(u64, Sofar)> {
        let mut table = self.table();
        let moving = |since: &&Instant| since.elapsed() < STUCK_AFTER;
        if table.judging.len() >= THREADS_MAX
            || table.judging.values().filter(moving).count() >= JUDGES_MAX
        {
            return None;
        }
        let &(at, number) = table.to_judge.first()?;
        let now = Instant::now();
        if at > now {
            return None;
        }
        table.to_judge.remove(&(at, number));
        let request = table.requests.get_mut(&number)?;
        let Stage::Waiting(_, sofar) = std::mem::replace(&mut request.stage, Stage::Judging) else {
            return None;
        };
        table.judging.insert(number, now);
        Some((number, sofar))
    }

    fn judge(&self, number: u64, mut sofar: Sofar) {
        let judging = Judging {
            commitment: self,
            number,
        };
        let kept = match self.folder.one(number) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "a request of storage commitment cannot be read back; it is tried again");
                return;
            }
        };
        let go_on = || {
            if let Some(since) = self.table().judging.get_mut(&number) {
                *since = Instant::now();
            }
            !self.is_stopping()
        };
        sofar.assured.resize(kept.instances_count(), false);
        let copies = self.times.now().copies;
        let (mut failed, mut waiting) = (BTreeMap::new(), Vec::new());
        let mut why = String::new();
        for (at, reference) in kept.instances().enumerate() {
            if sofar.assured[at] {
                continue;
            }
            if !go_on() {
                return;
            }
            let sop = &reference.sop_instance_uid;
            let assured = self
                .archive
                .assure(sop, &reference.sop_class_uid, copies, &go_on);
            let (code, words) = match assured {
                Assured::Yes => {
                    sofar.assured[at] = true;
                    continue;
                }
                Assured::NotHere => (reason::NO_SUCH_OBJECT_INSTANCE, "it is not here".to_owned()),
                Assured::OtherClass => (
                    reason::CLASS_INSTANCE_CONFLICT,
                    "it has another SOP class".to_owned(),
                ),
                Assured::No(words) => (reason::PROCESSING_FAILURE, words),
                Assured::NotYet(words) => {
                    waiting.push(at as u32);
                    (reason::PROCESSING_FAILURE, words)
                }
            };
            if why.is_empty() {
                why = format!("{sop}: {words}");
            }
            failed.insert(at as u32, code);
        }
        if self.is_stopping() {
            return;
        }
        let mut table = self.table();
        let Some(request) = table.requests.get_mut(&number) else {
            return;
        };
        let now = Instant::now();
        let minutes = self.times.now().wait_minutes as i64;
        if !waiting.is_empty() && Timestamp::now() < request.at + minutes.minutes() {
            let pause = LOOK_AGAIN_AFTER * 2u32.pow(sofar.looks.min(10));
            let at = now + pause.min(LOOK_AGAIN_AFTER_MAX);
            sofar.looks += 1;
            request.stage = Stage::Waiting(at, sofar);
            table.to_judge.insert((at, number));
        } else {
            let receiver = self.receiver(&request.ae_title, request.address);
            let at = now;
            request.stage = Stage::Judged(Arc::new(Verdict { failed, why, at }));
            table.put_in(number, receiver);
        }
        drop(table);
        drop(judging);
    }

    /// What was judged long ago is judged again before it is told.
    pub(super) fn judge_again(&self, number: u64) {
        let mut table = self.table();
        table.take_out(number, None);
        let now = Instant::now();
        if let Some(request) = table.requests.get_mut(&number) {
            request.stage = Stage::Waiting(now, Sofar::default());
            table.to_judge.insert((now, number));
        }
        drop(table);
        self.changed.notify_all();
    }

    /// Gives up requestors that could not be told for too long.
    fn expire(&self) {
        let hours = self.times.now().keep_days as i64 * 24;
        let until = Timestamp::now() - hours.hours();
        let expired = {
            let mut table = self.table();
            let old = table.requests.iter().filter(|(_, request)| {
                let waits = matches!(request.stage, Stage::Judged(_));
                waits && request.association.is_none() && request.at < until
            });
            let old: Vec<u64> = old.map(|(number, _)| *number).collect();
            let removed = old.into_iter();
            removed
                .filter_map(|number| Some((number, table.remove(number)?)))
                .collect::<Vec<_>>()
        };
        for (number, request) in expired {
            tracing::error!(
                peer = request.ae_title,
                transaction_uid = request.transaction_uid,
                instances_count = request.instances_count,
                "a requestor of storage commitment could not be told and is given up"
            );
            if let Err(error) = self.folder.forget(number) {
                tracing::warn!(%error, "a request of storage commitment that was given up is still kept");
            }
        }
    }
}
