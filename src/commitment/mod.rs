//! Storage commitment (PS3.4 J): what we were asked to keep, and when that is true.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the requests that are not answered yet, and in which state each is |
//! | `kept` | the same on disk |
//! | `judging` | whether what is asked is true, by reading it now |
//! | `reporting` | the answer over a new association, until it was taken |
//! | `asking` | the other way: what we sent, asked of the peer |
//!
//! A request is durable before it is answered with success, and forgotten when its report was taken. What is true is found
//! out anew after every start, so nothing of it is kept.

mod asking;
mod judging;
mod kept;
mod reporting;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::config::{Config, Live};
use crate::dicom::{Reference, References};
use crate::transfers::{Direction, Transfer, Transfers};

pub use asking::{Answer, Asking, PATIENCE};

use kept::{Folder, Kept};

/// Failure Reasons (0008,1197). Source: PS3.3 C.14.
pub mod reason {
    pub const PROCESSING_FAILURE: u16 = 0x0110;
    pub const NO_SUCH_OBJECT_INSTANCE: u16 = 0x0112;
    pub const CLASS_INSTANCE_CONFLICT: u16 = 0x0119;
}

/// Requests that are not answered yet; one more is refused.
const REQUESTS_MAX: usize = 100_000;
/// Instances that these name; some 250 MB on disk.
const INSTANCES_MAX: u64 = 2_000_000;
/// Of these, requests by who is no peer, and can only be told over the association that asked.
const STRANGERS_MAX: usize = 1_000;
/// Who could not be told for so long is an administrator's business.
const LATE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// A verdict older than this is not told: it is judged again.
const VERDICT_FOR: Duration = Duration::from_secs(600);

/// Requests that are not answered yet, and who answers them.
pub struct Commitment {
    archive: Arc<Archive>,
    transfers: Arc<Transfers>,
    config: Config,
    times: Live<crate::config::Commitment>,
    folder: Folder,
    table: Mutex<Table>,
    /// Something is to be done.
    changed: Condvar,
    stopping: AtomicBool,
    /// Our own requests.
    asked: asking::Asked,
    others: OnceLock<Box<TakeReport>>,
}

type TakeReport = dyn Fn(&References) -> bool + Send + Sync;

#[derive(Default)]
struct Table {
    requests: BTreeMap<u64, Request>,
    by_name: HashMap<Name, u64>,
    instances_count: u64,
    next_number: u64,
    /// When they are judged.
    to_judge: BTreeSet<(Instant, u64)>,
    /// Judged ones that wait for an association of ours, by whom they are told.
    to_tell: HashMap<Receiver, BTreeSet<u64>>,
    /// Judged ones whose association is still open.
    to_tell_there: HashMap<u64, BTreeSet<u64>>,
    /// Who is being judged, and when something of it was last read: a disk may never answer.
    judging: HashMap<u64, Instant>,
    reporting: HashSet<Receiver>,
    /// Where telling failed.
    troubles: HashMap<Receiver, Trouble>,
    /// A sentence each.
    notes: Vec<String>,
}

/// Calling AE title in capitals, and Transaction UID.
type Name = (String, String);

/// Calling AE title in capitals, and the address where that decides whom we call.
type Receiver = (String, Option<IpAddr>);

struct Request {
    ae_title: String,
    address: IpAddr,
    transaction_uid: String,
    at: Timestamp,
    instances_count: u64,
    digest: u32,
    /// By who was no peer then.
    stranger: bool,
    /// On which it came, as long as that is open.
    association: Option<u64>,
    /// Times that the requestor refused the report.
    refused: u32,
    stage: Stage,
}

enum Stage {
    /// To be judged at that moment.
    Waiting(Instant, judging::Sofar),
    Judging,
    Judged(Arc<Verdict>),
    Telling(Arc<Verdict>),
}

/// What is told of a request.
pub struct Verdict {
    /// Places in the request, each with the reason.
    failed: BTreeMap<u32, u16>,
    /// Of the first failed one, in words.
    why: String,
    at: Instant,
}

/// A peer that could not be told.
struct Trouble {
    tries: u32,
    again: Instant,
    since: Timestamp,
    reason: String,
    /// It does not pass by itself.
    stays: bool,
}

/// Why a request is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another request of that requestor has this Transaction UID, and is not answered yet.
    DuplicateTransaction,
    TooMany,
    /// It cannot be written down; a sentence.
    NotKept(String),
}

/// A request as it came.
pub struct Asker<'a> {
    pub ae_title: &'a str,
    pub address: IpAddr,
    /// The association's number.
    pub association: u64,
}

/// What is to be told to a requestor.
pub struct Report {
    pub number: u64,
    pub references: References,
}

/// What waits, for the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CommitmentStatus {
    /// Requests that are not answered yet.
    pub waiting_count: u64,
    pub instances_count: u64,
    /// When the oldest came, RFC 3339.
    pub oldest: Option<String>,
    pub untold: Vec<Untold>,
    /// What is wrong with the state, a sentence each.
    pub notes: Vec<String>,
}

/// A requestor that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Untold {
    pub ae_title: String,
    /// RFC 3339
    pub since: String,
    pub reason: String,
    /// For a day, or it does not pass by itself.
    pub is_late: bool,
}

impl CommitmentStatus {
    /// What is wrong and what to do, a sentence each.
    pub fn actions(&self) -> Vec<String> {
        let late = self.untold.iter().filter(|untold| untold.is_late);
        let late = late.map(|untold| {
            format!(
                "storage commitment is not reported to {} since {}: {}",
                untold.ae_title, untold.since, untold.reason
            )
        });
        late.chain(self.notes.iter().cloned()).collect()
    }
}

impl Commitment {
    /// Opens what is kept of requests; nothing is answered before [`Commitment::start`].
    pub fn open(
        archive: &Arc<Archive>,
        config: &Config,
        transfers: &Arc<Transfers>,
    ) -> Result<Arc<Commitment>, String> {
        let folder = Folder::new(&config.state);
        let mut table = Table::default();
        // What cannot be read must not keep the server from receiving.
        match folder.read(REQUESTS_MAX) {
            Ok(found) => {
                table.notes = found.notes;
                for (number, kept) in found.requests {
                    let stranger = config.peer(&kept.ae_title).is_none();
                    table.put(number, &kept, None, stranger);
                }
            }
            Err(error) => table.notes.push(format!(
                "requests of storage commitment that waited cannot be read: {error}"
            )),
        }
        for note in &table.notes {
            tracing::warn!("{note}");
        }
        Ok(Arc::new(Commitment {
            archive: archive.clone(),
            transfers: transfers.clone(),
            config: config.clone(),
            times: Live::new(config.commitment.clone()),
            folder,
            table: Mutex::new(table),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            asked: asking::Asked::default(),
            others: OnceLock::new(),
        }))
    }

    /// From now on these copies and times.
    pub fn set(&self, times: crate::config::Commitment) {
        self.times.set(times);
        self.changed.notify_all();
    }

    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let commitment = self.clone();
        let thread = std::thread::Builder::new().name("commitment".to_owned());
        thread.spawn(move || commitment.go_round()).map(drop)
    }

    /// What is being told goes on to its end or fails; who is not told by then is told after the next start.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            let table = self.table();
            if table.judging.is_empty() && table.reporting.is_empty() {
                return;
            }
            drop(table);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request; durable on return. The same request made again is the same request.
    pub fn take(&self, asker: &Asker, references: &References) -> Result<(), Refused> {
        let uid = &references.transaction_uid;
        let kept = Kept::new(asker.ae_title, asker.address, uid, &references.instances);
        let name = (asker.ae_title.to_ascii_uppercase(), uid.clone());
        let stranger = self.config.peer(asker.ae_title).is_none();
        let number = {
            let mut table = self.table();
            if let Some(&number) = table.by_name.get(&name) {
                let known = table.requests.get(&number);
                let same = known.is_some_and(|known| known.digest == kept.digest());
                if !same {
                    return Err(Refused::DuplicateTransaction);
                }
                table.came_again(number, asker.association);
                drop(table);
                self.changed.notify_all();
                return Ok(());
            }
            let count = kept.instances_count() as u64;
            let strangers = || table.requests.values().filter(|one| one.stranger).count();
            if table.requests.len() >= REQUESTS_MAX
                || table.instances_count + count > INSTANCES_MAX
                || (stranger && strangers() >= STRANGERS_MAX)
            {
                return Err(Refused::TooMany);
            }
            table.next_number += 1;
            table.next_number
        };
        if let Err(error) = self.folder.keep(number, &kept) {
            return Err(Refused::NotKept(format!(
                "the request cannot be kept: {error}"
            )));
        }
        let mut table = self.table();
        // Whoever calls can be called.
        let receiver = self.receiver(asker.ae_title, asker.address);
        table.troubles.remove(&receiver);
        table.put(number, &kept, Some(asker.association), stranger);
        drop(table);
        self.changed.notify_all();
        Ok(())
    }

    fn receiver(&self, ae_title: &str, address: IpAddr) -> Receiver {
        let peer = self.config.peer(ae_title);
        let by_address = peer.is_some_and(|peer| peer.is_caller());
        (ae_title.to_ascii_uppercase(), by_address.then_some(address))
    }

    /// Whether requests of this association are not answered yet.
    pub fn waits_on(&self, association: u64) -> bool {
        let table = self.table();
        // The newest are at the end; an association has seldom more than a few.
        let mut requests = table.requests.values().rev();
        requests.any(|request| request.association == Some(association))
    }

    /// The next report for the requestor at the other end of this association.
    pub fn next_on(&self, association: u64) -> Option<Report> {
        let number = *self.table().to_tell_there.get(&association)?.first()?;
        match self.begin_telling(number) {
            Ok(report) => report,
            Err(reason) => {
                tracing::error!(reason, "storage commitment is not reported for now");
                // It is tried again, over another association.
                self.left(association);
                None
            }
        }
    }

    /// The association is over: what is left is told over another.
    pub fn left(&self, association: u64) {
        let mut table = self.table();
        let of = |request: &Request| request.association == Some(association);
        let requests = table.requests.iter().filter(|(_, request)| of(request));
        let numbers: Vec<u64> = requests.map(|(number, _)| *number).collect();
        for number in &numbers {
            let receiver = table.requests.get(number);
            let receiver = receiver.map(|one| self.receiver(&one.ae_title, one.address));
            if let Some(receiver) = receiver {
                table.leave_association(*number, receiver);
            }
        }
        table.to_tell_there.remove(&association);
        drop(table);
        if !numbers.is_empty() {
            self.changed.notify_all();
        }
    }

    /// Takes a judged request to tell it; `None`: somebody else did. The error is a sentence.
    fn begin_telling(&self, number: u64) -> Result<Option<Report>, String> {
        let verdict = {
            let mut table = self.table();
            let Some(request) = table.requests.get_mut(&number) else {
                return Ok(None);
            };
            let Stage::Judged(verdict) = &request.stage else {
                return Ok(None);
            };
            let verdict = verdict.clone();
            request.stage = Stage::Telling(verdict.clone());
            let association = request.association;
            table.take_out(number, association);
            verdict
        };
        let kept = match self.folder.one(number) {
            Ok(kept) => kept,
            Err(error) => {
                self.not_told(number);
                return Err(format!("its request cannot be read back: {error}"));
            }
        };
        let mut references = References {
            transaction_uid: kept.transaction_uid.clone(),
            retrieve_ae_title: self.config.ae_title.as_str().to_owned(),
            ..References::default()
        };
        for (at, reference) in kept.instances().enumerate() {
            match verdict.failed.get(&(at as u32)) {
                Some(reason) => references.failed.push((reference, *reason)),
                None => references.instances.push(reference),
            }
        }
        Ok(Some(Report { number, references }))
    }

    /// The requestor took the report.
    pub fn told(&self, report: &Report) {
        let request = self.table().remove(report.number);
        if let Err(error) = self.folder.forget(report.number) {
            tracing::warn!(%error, "a request of storage commitment that was answered is still kept");
        }
        let Some(request) = request else { return };
        let verdict = match &request.stage {
            Stage::Telling(verdict) | Stage::Judged(verdict) => verdict.clone(),
            _ => return,
        };
        let why = verdict.why.clone();
        self.note(&request, &report.references, why);
    }

    /// The requestor answered that it does not want the report: it gets another, later.
    pub fn refused(&self, number: u64, status: u16) {
        let mut table = self.table();
        let Some(request) = table.requests.get_mut(&number) else {
            return;
        };
        tracing::warn!(
            peer = request.ae_title,
            transaction_uid = request.transaction_uid,
            status = format!("{status:04X}H"),
            "a report of storage commitment was refused; it is made again"
        );
        request.refused += 1;
        let at = Instant::now() + reporting::pause(request.refused);
        request.stage = Stage::Waiting(at, judging::Sofar::default());
        table.to_judge.insert((at, number));
    }

    /// The report was not taken, for a reason that has nothing to do with it.
    pub fn not_told(&self, number: u64) {
        let mut table = self.table();
        let Some(request) = table.requests.get_mut(&number) else {
            return;
        };
        if let Stage::Telling(verdict) = &request.stage {
            request.stage = Stage::Judged(verdict.clone());
            let receiver = self.receiver(&request.ae_title, request.address);
            table.put_in(number, receiver);
        }
    }

    fn note(&self, request: &Request, references: &References, why: String) {
        let failed_count = references.failed.len() as u64;
        let first = references.instances.first();
        let first = first.or(references.failed.first().map(|(reference, _)| reference));
        let study = first.and_then(|one: &Reference| self.archive.study_of(&one.sop_instance_uid));
        tracing::info!(
            peer = request.ae_title,
            transaction_uid = request.transaction_uid,
            committed_count = references.instances.len(),
            failed_count,
            why,
            "storage commitment was reported"
        );
        self.transfers.note(Transfer {
            at: crate::archive::now(),
            direction: Direction::Committed,
            peer: request.ae_title.clone(),
            address: request.address.to_string(),
            study_instance_uid: study.unwrap_or_default(),
            instances_count: references.instances.len() as u64,
            failed_count,
            bytes: 0,
            seconds: (Timestamp::now() - request.at)
                .total(jiff::Unit::Second)
                .unwrap_or_default(),
            status: references.failed.first().map_or(0, |(_, reason)| *reason),
            reason: why,
            asked_by: None,
        });
    }

    pub fn status(&self) -> CommitmentStatus {
        let table = self.table();
        let oldest = table.requests.values().map(|request| request.at).min();
        let now = Timestamp::now();
        let troubles = table.troubles.iter();
        let mut untold: Vec<Untold> = troubles
            .map(|((ae_title, _), trouble)| Untold {
                ae_title: ae_title.clone(),
                since: trouble.since.to_string(),
                reason: trouble.reason.clone(),
                is_late: trouble.stays
                    || now.duration_since(trouble.since)
                        > LATE_AFTER.try_into().unwrap_or_default(),
            })
            .collect();
        untold.sort_by(|a, b| a.ae_title.cmp(&b.ae_title));
        untold.truncate(UNTOLD_SHOWN);
        CommitmentStatus {
            waiting_count: table.requests.len() as u64,
            instances_count: table.instances_count,
            oldest: oldest.map(|at| at.to_string()),
            untold,
            notes: table.notes.clone(),
        }
    }
}

/// More than a hospital has requestors.
const UNTOLD_SHOWN: usize = 100;

impl Table {
    /// A request that is to be judged at once.
    fn put(&mut self, number: u64, kept: &Kept, association: Option<u64>, stranger: bool) {
        let now = Instant::now();
        let request = Request {
            ae_title: kept.ae_title.clone(),
            address: kept.address,
            transaction_uid: kept.transaction_uid.clone(),
            at: kept.at.parse().unwrap_or_else(|_| Timestamp::now()),
            instances_count: kept.instances_count() as u64,
            digest: kept.digest(),
            stranger,
            association,
            refused: 0,
            stage: Stage::Waiting(now, judging::Sofar::default()),
        };
        self.instances_count += request.instances_count;
        self.next_number = self.next_number.max(number);
        self.by_name.insert(name_of(&request), number);
        self.to_judge.insert((now, number));
        self.requests.insert(number, request);
    }

    fn remove(&mut self, number: u64) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        self.instances_count -= request.instances_count;
        self.by_name.remove(&name_of(&request));
        if let Stage::Waiting(at, _) = &request.stage {
            self.to_judge.remove(&(*at, number));
        }
        self.take_out(number, request.association);
        Some(request)
    }

    /// From where it waits to be told.
    fn take_out(&mut self, number: u64, association: Option<u64>) {
        if let Some(there) = association.and_then(|id| self.to_tell_there.get_mut(&id)) {
            there.remove(&number);
        }
        self.to_tell.retain(|_, numbers| {
            numbers.remove(&number);
            !numbers.is_empty()
        });
    }

    /// To where it waits to be told. Precondition: it is judged.
    fn put_in(&mut self, number: u64, receiver: Receiver) {
        let association = self.requests.get(&number).and_then(|one| one.association);
        match association {
            Some(id) => self.to_tell_there.entry(id).or_default().insert(number),
            None => self.to_tell.entry(receiver).or_default().insert(number),
        };
    }

    fn leave_association(&mut self, number: u64, receiver: Receiver) {
        let Some(request) = self.requests.get_mut(&number) else {
            return;
        };
        request.association = None;
        if let Stage::Telling(verdict) = &request.stage {
            request.stage = Stage::Judged(verdict.clone());
        }
        if matches!(request.stage, Stage::Judged(_)) {
            self.put_in(number, receiver);
        }
    }

    /// The requestor asks once more, perhaps over another association.
    fn came_again(&mut self, number: u64, association: u64) {
        let Some(request) = self.requests.get_mut(&number) else {
            return;
        };
        let before = request.association.replace(association);
        match &request.stage {
            Stage::Judged(_) => {
                self.take_out(number, before);
                self.to_tell_there
                    .entry(association)
                    .or_default()
                    .insert(number);
            }
            // It is on its way by another association already.
            Stage::Telling(_) => request.association = before,
            Stage::Waiting(..) | Stage::Judging => {}
        }
    }
}

fn name_of(request: &Request) -> Name {
    (
        request.ae_title.to_ascii_uppercase(),
        request.transaction_uid.clone(),
    )
}
