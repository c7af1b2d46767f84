//! Images go by themselves to where they are read: rules, the outbox, and who empties it.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what is asked and answered; start, stop, status |
//! | `rules` | which instances go to which peers |
//! | `clerk` | what came is noted; who is next; threads for peers; probes |
//! | `outbox`, `kept`, `ranges` | what goes to whom, durable |
//! | `copies` | the same on the volumes, for when it is lost |
//! | `queue` | the order of it |
//! | `sender`, `receipt` | one study to one peer, and what the peer then says that it holds |
//! | `commitment` | whether the peer keeps it, where it is to be asked that |
//! | `verbs` | by hand |
//! | `meaning` | statuses in words |

mod clerk;
mod commitment;
mod copies;
mod kept;
mod meaning;
mod outbox;
mod queue;
mod ranges;
mod receipt;
mod rewrite;
pub mod rules;
mod sender;
pub mod setup;
mod verbs;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::config::{self, Config, ForwardPriority, ForwardWhen, Live, PeerEntry, Peers};
use crate::dicom::AeTitle;
use crate::job::Window;
use crate::transfers::Transfers;

use copies::Copy;
use kept::{Kept, Key};
pub use meaning::meaning;
use outbox::Outbox;
use queue::{Placing, Queue, Unreachable};
use rules::Rules;

/// `kura forward …`, and `kura send STUDY…`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ForwardVerb {
    /// What waits, is being sent, failed; also what is done when `all`.
    List {
        peer: Option<String>,
        all: bool,
        /// Only those that stand so.
        #[serde(default)]
        state: Option<State>,
    },
    /// One study, to every peer.
    Show {
        study: String,
    },
    /// What failed, or waits for its next try, now.
    Retry {
        study: Option<String>,
        peer: Option<String>,
    },
    /// As if everything had been sent; the next instances go again.
    MarkSent {
        study: String,
        peer: Option<String>,
    },
    /// As if nothing had been sent.
    Unmark {
        study: String,
        peer: Option<String>,
    },
    Pause {
        peer: String,
    },
    Resume {
        peer: String,
    },
    /// A person knows what is said of the outbox.
    Acknowledge,
    /// These studies to that peer, whatever the rules say.
    Send {
        studies: Vec<String>,
        peer: String,
    },
}

/// How a study stands with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Waiting,
    Sending,
    Sent,
    Failed,
}

/// A study and a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Item {
    pub peer: String,
    pub study_instance_uid: String,
    pub patient_id: String,
    /// `YYYYMMDD`
    pub study_date: String,
    pub state: State,
    /// That the peer has confirmed.
    pub sent_count: u64,
    /// That it is to have.
    pub total_count: u64,
    /// The last status that the peer answered, if it answered one.
    pub status: Option<u16>,
    /// In words; empty where all is well.
    pub reason: String,
    /// RFC 3339; absent: as soon as it is its turn, or never.
    pub next_try: Option<String>,
    /// Instances that the peer says it holds, by C-FIND, where it answers that.
    pub delivered_count: Option<u64>,
    /// That the peer says it keeps (storage commitment), where it is asked that.
    pub committed_count: Option<u64>,
    /// Why it does not keep all of it, in words; empty where it does, or has not said yet.
    pub not_committed: String,
}

/// How a peer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PeerStatus {
    pub peer: String,
    pub waiting_count: u64,
    pub failed_count: u64,
    /// Of these, studies that are not tried any more by themselves.
    pub given_up_count: u64,
    /// Studies that it does not keep, as far as it was asked (storage commitment).
    pub not_committed_count: u64,
    /// Why it could not be asked that, the last time.
    pub not_asked: Option<String>,
    /// Studies, and of them instances, that are being sent at this moment.
    pub sending_count: u64,
    pub paused: bool,
    /// Why it cannot be reached, and since when (RFC 3339); absent: it can.
    pub unreachable: Option<(String, String)>,
    /// Age of the oldest that waits, seconds.
    pub oldest_seconds: Option<u64>,
}

/// From then on a person should look: a workstation may be off for a night.
const LATE_SECONDS: u64 = 24 * 3600;

impl PeerStatus {
    /// Whether a person should look at this peer: what it should have had for a day is still here. One that a person paused
    /// is as it should be.
    pub fn is_late(&self) -> bool {
        !self.paused && self.oldest_seconds.is_some_and(|age| age >= LATE_SECONDS)
    }

    /// What failed for good and what to do, a sentence each.
    pub fn actions(&self) -> Vec<String> {
        let (peer, mut actions) = (&self.peer, Vec::new());
        if self.given_up_count > 0 {
            actions.push(format!(
                "{} not sent to {peer} and not tried any more (kura forward list --peer {peer}); when the reason is gone: kura forward retry --peer {peer}, not wanted there: kura forward mark-sent STUDY --peer {peer}",
                studies(self.given_up_count)
            ));
        }
        if self.not_committed_count > 0 {
            actions.push(format!(
                "{} sent to {peer}, which does not say that it keeps all of it (kura forward list --peer {peer} --all); to ask again: kura forward retry --peer {peer}, to send all of it again: kura forward unmark STUDY --peer {peer}",
                studies(self.not_committed_count)
            ));
        }
        actions
    }
}

fn studies(count: u64) -> String {
    match count {
        1 => "one study was".to_owned(),
        count => format!("{count} studies were"),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardSaid {
    Items {
        items: Vec<Item>,
        /// Not all of them: so many there are.
        total_count: u64,
        peers: Vec<PeerStatus>,
    },
    /// Done; what it means, in a sentence.
    Done(String),
}

/// Sends what the rules say, and what is sent by hand.
///
/// A clerk (`clerk`) notes what came in the outbox, says who is next, and begins threads for peers that have something
/// to get; each thread (`sender`) sends one study at a time and ends when there is none. Peers share nothing but that.
pub struct Forwarder {
    archive: Arc<Archive>,
    /// Ours.
    calling: AeTitle,
    config: Live<config::Forward>,
    peers: Peers,
    rules: RwLock<Arc<Rules>>,
    transfers: Arc<Transfers>,
    outbox: Outbox,
    /// By AE title as it is configured.
    queues: Mutex<BTreeMap<String, Queue>>,
    /// Questions of storage commitment that are open, by Transaction UID.
    questions: Mutex<HashMap<String, Key>>,
    /// A thread has ended.
    ended: Condvar,
    /// Something is due for a peer of which a thread waits.
    due: Condvar,
    /// The queues hold what the outbox does.
    loaded: AtomicBool,
    /// There was no rule for a while: what came before now is not considered.
    begins_anew: AtomicBool,
    /// [`Forwarder::start`] was called.
    started: AtomicBool,
    stopping: AtomicBool,
    /// At the end: nobody waits any more for the threads that are left.
    abandoned: AtomicBool,
    clerk: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// So long an end waits for the instances at hand; a peer may never answer.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// The lane of what was asked for by hand: no rule has that name.
const BY_HAND: &str = "\u{1}by hand";

impl Forwarder {
    /// Opens the outbox; nothing is sent before [`Forwarder::start`]. An outbox that cannot be used is no error: the
    /// server starts, and [`Forwarder::notes`] says so.
    pub fn open(
        archive: &Arc<Archive>,
        config: &Config,
        transfers: &Arc<Transfers>,
    ) -> Result<Arc<Forwarder>, String> {
        let queues = config.peers.all().into_iter();
        let queues = queues.map(|peer| (peer.ae_title.as_str().to_owned(), Queue::new()));
        let disks = archive.clone();
        let forwarder = Forwarder {
            archive: archive.clone(),
            calling: config.ae_title.clone(),
            config: Live::new(config.forward.clone()),
            peers: config.peers.clone(),
            rules: RwLock::new(Arc::new(Rules::of(config)?)),
            transfers: transfers.clone(),
            outbox: Outbox::open(&config.state, Box::new(move || Copy::newest(&disks))),
            queues: Mutex::new(queues.collect()),
            questions: Mutex::default(),
            ended: Condvar::new(),
            due: Condvar::new(),
            loaded: AtomicBool::new(false),
            begins_anew: AtomicBool::new(false),
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            clerk: Mutex::default(),
        };
        if forwarder.outbox.trouble().is_none() {
            forwarder.load();
        }
        Ok(Arc::new(forwarder))
    }

    /// A copy of the outbox that nobody writes; see `outbox`.
    pub fn copy_for_a_backup(&self) -> Result<Option<std::path::PathBuf>, String> {
        self.outbox.copy()
    }

    /// From now on these times; see [`Forwarder::set_rules`] for the rules.
    pub(super) fn set_config(&self, config: config::Forward) {
        self.config.set(config);
    }

    /// From now on these, and the peers that are configured now. What waits goes by the rule of its name, if there is one
    /// still; what came before goes by no new rule.
    pub fn set_rules(self: &Arc<Self>, rules: Rules) -> std::io::Result<()> {
        let some = !rules.is_empty();
        if self.rules().is_empty() {
            // What came while there was none is nobody's.
            drop(self.archive.take_arrivals());
            self.begins_anew.store(true, Ordering::Relaxed);
        }
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        if some {
            self.archive.listen_for_arrivals();
        }
        let peers = self.peers.all();
        let mut queues = self.queues();
        queues.retain(|title, queue| {
            queue.is_at_work() || peers.iter().any(|peer| peer.ae_title.as_str() == title)
        });
        for peer in &peers {
            let title = peer.ae_title.as_str().to_owned();
            queues.entry(title).or_insert_with(Queue::new);
        }
        drop(queues);
        if self.loaded.load(Ordering::Relaxed) {
            self.load();
        }
        self.archive.wake_for_arrivals();
        match self.started.load(Ordering::Relaxed) {
            true => self.begin_clerk(),
            false => Ok(()),
        }
    }

    /// Reads maps that could not be read: a disk may have come since.
    fn read_held_maps(&self) {
        let before = self.rules();
        let Some(read) = before.read_again() else {
            return;
        };
        {
            let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            // A command was quicker.
            if !Arc::ptr_eq(&rules, &before) {
                return;
            }
            *rules = Arc::new(read);
        }
        self.load();
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        self.started.store(true, Ordering::Relaxed);
        if self.outbox.take_copy() {
            self.load();
        }
        if !self.rules().is_empty() {
            self.archive.listen_for_arrivals();
        }
        self.begin_clerk()
    }

    /// Where there are peers, and it is not at work yet.
    fn begin_clerk(self: &Arc<Self>) -> std::io::Result<()> {
        let mut clerk = self.clerk.lock().unwrap_or_else(PoisonError::into_inner);
        if clerk.is_some() || self.is_stopping() || self.peers.all().is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let thread = std::thread::Builder::new().name("forward".to_owned());
        *clerk = Some(thread.spawn(move || this.keep_books())?);
        Ok(())
    }

    /// Ends what is being sent, after the instance at hand.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.due.notify_all();
        self.archive.wake_for_arrivals();
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut queues = self.queues();
        while queues.values().any(Queue::is_at_work) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("a peer does not answer; what it was being sent goes again later");
                break;
            }
            let waited = self.ended.wait_timeout(queues, left);
            queues = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queues);
        self.abandoned.store(true, Ordering::Relaxed);
        let clerk = self
            .clerk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(clerk) = clerk {
            drop(clerk.join());
        }
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        let now = now_ms();
        let queues = self.queues();
        let status = queues.iter().map(|(peer, queue)| PeerStatus {
            peer: peer.clone(),
            waiting_count: queue.waiting_count() as u64,
            failed_count: queue.failed.len() as u64,
            given_up_count: queue.given_up.len() as u64,
            not_committed_count: queue.not_committed.len() as u64,
            not_asked: queue
                .commitment_pause
                .as_ref()
                .map(|one| one.reason.clone()),
            sending_count: queue.active.len() as u64,
            paused: queue.paused,
            unreachable: queue
                .unreachable
                .as_ref()
                .map(|unreachable| (unreachable.reason.clone(), unreachable.since.clone())),
            oldest_seconds: queue.oldest().map(|oldest| {
                let age = now.saturating_sub(oldest) / 1_000;
                u64::try_from(age).unwrap_or(0)
            }),
        });
        status.collect()
    }

    /// What a person should know or do, a sentence each; empty: all is well.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.outbox.trouble().into_iter().collect();
        let notice = self.outbox.notice();
        notes.extend(notice.map(|said| format!("{said}. Done: kura forward acknowledge")));
        notes.extend(self.rules().held().map(|(rule, reason)| {
            format!(
                "nothing goes by rule {rule}, what it takes waits; {reason}; mend that file, then: kura forward retry"
            )
        }));
        notes.extend(self.status().iter().flat_map(PeerStatus::actions));
        notes
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The configured peer of that name; the error is a sentence.
    fn peer(&self, text: &str) -> Result<PeerEntry, String> {
        let wanted = text.trim();
        self.peers.get(wanted).ok_or_else(|| {
            format!("{wanted} is not a configured peer; add it: kura peer add {wanted}@HOST:PORT")
        })
    }

    /// Fills the queues from the outbox.
    fn load(&self) {
        let now = now_ms();
        let read = self.outbox.each(&mut |key, kept| {
            self.place(&key, &kept, now);
            let question = kept.commitment.and_then(|commitment| commitment.question);
            if let Some((transaction_uid, _)) = question {
                self.questions().insert(transaction_uid, key);
            }
            true
        });
        if let Err(reason) = read {
            tracing::error!(reason, "the outbox cannot be read");
            return;
        }
        let mut queues = self.queues();
        for (peer, queue) in queues.iter_mut() {
            match self.outbox.peer(peer) {
                Ok(kept) => {
                    queue.paused = kept.paused;
                    if let Some((reason, since)) = kept.unreachable {
                        queue.unreachable = Some(Unreachable {
                            reason,
                            since,
                            next_probe: Instant::now(),
                            probing: false,
                        });
                    }
                }
                Err(reason) => tracing::error!(peer, reason, "how a peer stands cannot be read"),
            }
        }
        self.loaded.store(true, Ordering::Relaxed);
    }

    /// Puts every study where it belongs by the clock as it is now.
    fn place_all(&self) {
        let now = now_ms();
        let read = self.outbox.each(&mut |key, kept| {
            self.place(&key, &kept, now);
            true
        });
        if let Err(reason) = read {
            tracing::error!(reason, "the outbox cannot be read");
        }
    }

    /// Puts a study where it belongs by what the outbox says of it.
    fn place(&self, key: &Key, kept: &Kept, now: i64) {
        let Some(peer) = self.peers.get(&key.peer) else {
            return;
        };
        let rules = self.rules();
        let held = rules.why_held(&kept.rule).is_some();
        let is_asked_for = kept.by_hand || (kept.at_once && !held);
        let route = match is_asked_for {
            true => None,
            false => rules.route(&kept.rule, &peer.ae_title),
        };
        let placing = match &route {
            Some(route) => Placing {
                rule: &route.rule,
                window: route.window,
                priority: route.priority,
                held,
            },
            None => Placing {
                rule: BY_HAND,
                window: Window::ALWAYS,
                priority: match is_asked_for {
                    true => ForwardPriority::High,
                    false => ForwardPriority::Medium,
                },
                held: false,
            },
        };
        let quiet = match &route {
            Some(route) if route.when == ForwardWhen::Study => route.quiet,
            // By hand; or its rule is gone, which is said at once.
            Some(_) | None => Duration::ZERO,
        };
        let quiet = i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back must not make anything wait for days.
        let longest = now.saturating_add(self.config.now().retry_max_seconds as i64 * 1_000);
        let next_try = kept.next_try.unwrap_or(0).min(longest);
        let due = kept.noted.min(now).saturating_add(quiet).max(next_try);
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(&*key.peer) else {
            return;
        };
        let open = kept.is_open();
        match kept.given_up || (open && kept.failures > 0) {
            true => drop(queue.failed.insert(key.study.clone())),
            false => drop(queue.failed.remove(&*key.study)),
        }
        match kept.given_up {
            true => drop(queue.given_up.insert(key.study.clone())),
            false => drop(queue.given_up.remove(&*key.study)),
        }
        match kept.is_not_committed() {
            true => drop(queue.not_committed.insert(key.study.clone())),
            false => drop(queue.not_committed.remove(&*key.study)),
        }
        let due_to_ask = kept.commitment_due(&peer, route.as_ref());
        queue.put_commitment(&key.study, due_to_ask);
        // What is being sent is placed when that has ended.
        if queue.active.contains(&*key.study) {
            return;
        }
        match open && !kept.given_up {
            true => queue.put(&key.study, &placing, due, kept.since),
            false => queue.take_out(&key.study),
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn local_now() -> jiff::civil::DateTime {
    jiff::Zoned::now().datetime()
}

/// RFC 3339.
fn text_of(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
