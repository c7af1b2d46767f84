//! The other way: a peer is asked to keep what it got from us. Its report comes over the association that asked, or over
//! one of its own to our AE title.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::PeerEntry;
use crate::dicom::{AeTitle, Reference, References};
use crate::scu::{self, Heard};

use super::reporting::{addresses, request};
use super::{Commitment, reason};

/// Questions that are open at the same moment.
const ASKED_MAX: usize = 1_000;
/// So long the association stays open for the report; some peers send it only after the release.
const THERE_FOR: Duration = Duration::from_secs(20);
/// For a report that a person waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether the report came the other way.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whom to ask.
pub struct Asking<'a> {
    /// Ours.
    pub calling: &'a AeTitle,
    pub peer: &'a PeerEntry,
    /// Used in place of the peer's host where that is `caller`.
    pub caller: Option<SocketAddr>,
    /// For the report, from when it was asked.
    pub patience: Duration,
}

/// What the peer says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Answer {
    pub committed_count: u64,
    /// SOP Instance UID and Failure Reason; also what the report does not name at all, as 0110H.
    pub failed: Vec<(String, u16)>,
}

/// Our questions that are open, by Transaction UID.
#[derive(Default)]
pub struct Asked {
    open: Mutex<HashMap<String, Option<References>>>,
    came: Condvar,
}

impl Asked {
    fn take(&self, references: References) -> bool {
        let mut open = self.open();
        let Some(place) = open.get_mut(&references.transaction_uid) else {
            return false;
        };
        *place = Some(references);
        drop(open);
        self.came.notify_all();
        true
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Option<References>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the question when it is dropped.
struct Question<'a> {
    asked: &'a Asked,
    transaction_uid: &'a str,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.asked.open().remove(self.transaction_uid);
    }
}

impl Commitment {
    /// As [`Commitment::ask`], of a peer by its AE title, or as `AE@HOST:PORT`.
    pub fn ask_of(&self, to: &str, instances: &[Reference]) -> Result<Answer, String> {
        let known = self.config.peer(to);
        let peer = known.or_else(|| to.parse().ok());
        let peer = peer.ok_or_else(|| format!("{to} is not a configured peer"))?;
        let asking = Asking {
            calling: &self.config.ae_title,
            peer: &peer,
            caller: None,
            patience: PATIENCE,
        };
        self.ask(&asking, instances)
    }

    /// Asks a peer, and waits for its report, wherever it comes. The error is a sentence.
    pub fn ask(&self, asking: &Asking, instances: &[Reference]) -> Result<Answer, String> {
        ask(asking, instances, &self.asked)
    }

    /// A report came for a question of ours; false where there is none of that name.
    pub fn reported(&self, references: References) -> bool {
        if let Some(others) = self.others.get()
            && others(&references)
        {
            return true;
        }
        self.asked.take(references)
    }

    /// Who else asks, and takes what is reported to that; false: it was not theirs. Once.
    pub fn also_asks(&self, take: impl Fn(&References) -> bool + Send + Sync + 'static) {
        drop(self.others.set(Box::new(take)));
    }
}

impl Answer {
    /// Asks where no server runs: only a report over the same association can come.
    pub fn of(asking: &Asking, instances: &[Reference]) -> Result<Answer, String> {
        ask(asking, instances, &Asked::default())
    }

    /// Only what was asked counts, and only what the report names as committed is.
    fn from_report(instances: &[Reference], report: &References) -> Answer {
        let committed: HashSet<&str> = report
            .instances
            .iter()
            .map(|one| one.sop_instance_uid.as_str())
            .collect();
        let failed: HashMap<&str, u16> = report
            .failed
            .iter()
            .map(|(one, reason)| (one.sop_instance_uid.as_str(), *reason))
            .collect();
        let mut answer = Answer::default();
        for one in instances {
            let sop = one.sop_instance_uid.as_str();
            match failed.get(sop) {
                Some(reason) => answer.failed.push((sop.to_owned(), *reason)),
                None if committed.contains(sop) => answer.committed_count += 1,
                None => {
                    let reason = reason::PROCESSING_FAILURE;
                    answer.failed.push((sop.to_owned(), reason));
                }
            }
        }
        answer
    }
}

fn ask(asking: &Asking, instances: &[Reference], asked: &Asked) -> Result<Answer, String> {
    let title = &asking.peer.ae_title;
    let references = References {
        transaction_uid: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
        instances: instances.to_vec(),
        ..References::default()
    };
    {
        let mut open = asked.open();
        if open.len() >= ASKED_MAX {
            return Err("too many questions of storage commitment are open".to_owned());
        }
        open.insert(references.transaction_uid.clone(), None);
    }
    let _question = Question {
        asked,
        transaction_uid: &references.transaction_uid,
    };
    let addresses = addresses(asking.peer, asking.caller).map_err(|error| error.to_string())?;
    let association = request(asking.calling, asking.peer, &addresses, &[]);
    let mut association = association.map_err(|error| error.to_string())?;
    let context = association.contexts().first().map(|context| context.id);
    let Some(context_id) = context else {
        drop(association.release());
        return Err(format!("{title} does not take storage commitment"));
    };
    let take = &mut |report| asked.take(report);
    let status = scu::request_commitment(&mut association, context_id, &references, take);
    let status = status.map_err(|error| error.to_string())?;
    if !scu::is_taken(status) {
        drop(association.release());
        return Err(format!(
            "{title} does not take the request: status {status:04X}H"
        ));
    }
    let begun = Instant::now();
    let mut there = Some(association);
    loop {
        if let Some(report) = asked.open().get_mut(&references.transaction_uid)
            && let Some(report) = report.take()
        {
            if let Some(mut association) = there {
                drop(association.release());
            }
            return Ok(Answer::from_report(instances, &report));
        }
        if begun.elapsed() > asking.patience {
            return Err(format!(
                "{title} did not report within {} s",
                asking.patience.as_secs()
            ));
        }
        match &mut there {
            Some(association) if begun.elapsed() < THERE_FOR => {
                match scu::hear_report(association, LOOK_EVERY, take) {
                    Ok(Heard::Over) | Err(_) => there = None,
                    Ok(_) => {}
                }
            }
            Some(association) => {
                drop(association.release());
                there = None;
            }
            None => {
                let open = asked.open();
                drop(asked.came.wait_timeout(open, LOOK_EVERY));
            }
        }
    }
}
