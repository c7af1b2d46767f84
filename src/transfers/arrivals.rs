//! Instances that come, put together to one line for each study of an association.
//!
//! A line is noted at the end of the association, when nothing came for the study for a while, and after a minute in any
//! case: who looks at the journal does not wait for the end of a scan.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Direction, Requestor, Transfer, severity};

/// Studies of one association that are open at the same moment: senders mix two or three.
const OPEN_MAX: usize = 16;
/// Longest that a line covers.
const LONGEST: Duration = Duration::from_secs(60);
/// A study of which nothing came for so long is over.
const QUIET: Duration = Duration::from_secs(10);

/// An instance that came, or was refused.
pub struct Arrived<'a> {
    pub association_id: u64,
    pub requestor: &'a Requestor,
    /// Where it is known: of what was refused it often is not. It then counts with the study before.
    pub study_instance_uid: Option<&'a str>,
    /// Of the data set.
    pub bytes: u64,
    pub begun: Instant,
    /// What was answered: the status, and the words for it.
    pub status: u16,
    pub reason: String,
}

struct Open {
    transfer: Transfer,
    begun: Instant,
    last: Instant,
}

#[derive(Default)]
pub(super) struct Arrivals {
    /// By association.
    open: HashMap<u64, Vec<Open>>,
}

impl Arrivals {
    /// A line that is due by that: the association's study of which nothing came for the longest.
    pub fn add(&mut self, arrived: &Arrived, now: Instant) -> Option<Transfer> {
        let open = self.open.entry(arrived.association_id).or_default();
        let found = match arrived.study_instance_uid {
            Some(study) => {
                let same = |open: &Open| open.transfer.study_instance_uid == study;
                open.iter().position(same)
            }
            None => (0..open.len()).max_by_key(|at| open[*at].last),
        };
        let mut over = None;
        let at = found.unwrap_or_else(|| {
            if open.len() >= OPEN_MAX
                && let Some(oldest) = (0..open.len()).min_by_key(|at| open[*at].last)
            {
                over = Some(open.swap_remove(oldest).line(now));
            }
            open.push(Open::new(arrived));
            open.len() - 1
        });
        open[at].count(arrived, now);
        over
    }

    pub fn end(&mut self, association_id: u64) -> Vec<Transfer> {
        let now = Instant::now();
        let open = self.open.remove(&association_id).unwrap_or_default();
        open.into_iter().map(|open| open.line(now)).collect()
    }

    pub fn end_all(&mut self) -> Vec<Transfer> {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.end(id)).collect()
    }

    /// The lines that are due.
    pub fn sweep(&mut self, now: Instant) -> Vec<Transfer> {
        let mut due = Vec::new();
        for open in self.open.values_mut() {
            let mut at = 0;
            while at < open.len() {
                let since = |then: Instant| now.saturating_duration_since(then);
                match since(open[at].begun) >= LONGEST || since(open[at].last) >= QUIET {
                    true => due.push(open.swap_remove(at).line(now)),
                    false => at += 1,
                }
            }
        }
        self.open.retain(|_, open| !open.is_empty());
        due
    }
}

impl Open {
    fn new(arrived: &Arrived) -> Open {
        Open {
            transfer: Transfer {
                at: String::new(),
                direction: Direction::Stored,
                peer: arrived.requestor.ae_title.clone(),
                address: arrived.requestor.address.clone(),
                study_instance_uid: arrived.study_instance_uid.unwrap_or_default().to_owned(),
                instances_count: 0,
                failed_count: 0,
                bytes: 0,
                seconds: 0.0,
                status: 0,
                reason: String::new(),
                asked_by: Some(Box::new(arrived.requestor.clone())),
            },
            begun: arrived.begun,
            last: arrived.begun,
        }
    }

    fn count(&mut self, arrived: &Arrived, now: Instant) {
        self.last = now;
        let transfer = &mut self.transfer;
        match severity(arrived.status) {
            2 => transfer.failed_count += 1,
            _ => {
                transfer.instances_count += 1;
                transfer.bytes += arrived.bytes;
            }
        }
        if severity(arrived.status) > severity(transfer.status) {
            transfer.status = arrived.status;
            transfer.reason.clone_from(&arrived.reason);
        }
    }

    fn line(self, now: Instant) -> Transfer {
        let ago = now.saturating_duration_since(self.last);
        let at = jiff::Timestamp::now() - jiff::SignedDuration::try_from(ago).unwrap_or_default();
        let seconds = self.last.saturating_duration_since(self.begun);
        Transfer {
            at: at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            seconds: (seconds.as_secs_f64() * 1_000.0).round() / 1_000.0,
            ..self.transfer
        }
    }
}
