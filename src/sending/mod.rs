//! Instances to a peer by C-STORE: what C-MOVE, C-GET, forwarding and sending by hand have in common.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what a peer is, what became of each instance |
//! | `line` | an association that stays open for more |
//! | `contexts` | which presentation contexts are offered, and which of them carries an instance |
//! | `outgoing` | the bytes that go out: as stored, or changed on the way |
//! | `rewriting` | another Patient ID on the way out |
//! | `converting` | another encoding of the same values |
//! | `worker` | decoding, in a process of its own |
//! | `thumbnail` | a small picture of a series, for the administrator's page |

mod contexts;
mod converting;
mod line;
mod outgoing;
mod rewriting;
pub mod thumbnail;
pub mod worker;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::archive::{Archive, Fetched, Selected};
use crate::config::PeerEntry;
use crate::dicom::AeTitle;
use crate::metrics;
use crate::net::{Association, NetError, Timeouts};
use crate::scu::{self, DataSet, StoreRequest};

pub use line::Line;
pub use outgoing::{Changed, Rewrite};

/// Where instances go, and what is said there.
pub struct To<'a> {
    pub archive: &'a Archive,
    /// Ours.
    pub calling: &'a AeTitle,
    pub peer: &'a PeerEntry,
    /// Used in place of the peer's host where that is `caller`.
    pub caller: Option<SocketAddr>,
    /// (0000,0700).
    pub priority: u16,
    /// Who asked for it by C-MOVE, and the message id of that request.
    pub originator: Option<(AeTitle, u16)>,
    /// What is changed on the way; what is stored stays as it is.
    pub rewrite: Option<&'a dyn Rewrite>,
    /// Whether nobody wants it any more; asked while an instance that takes long is on its way, which ends with that.
    pub cancelled: Option<&'a dyn Fn() -> bool>,
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The peer has it. 0000H, or a warning with its comment.
    Stored { status: u16, comment: String },
    /// The peer answered a failure.
    Refused { status: u16, comment: String },
    /// The peer takes neither this SOP class nor, of it, a transfer syntax that we can give it.
    NotTaken(String),
    /// We cannot give it: no readable copy, or it cannot be changed as it should be.
    NotOurs(String),
    /// The association broke before the answer, or there was none.
    Broken(String),
}

impl Sent {
    pub fn is_stored(&self) -> bool {
        matches!(self, Sent::Stored { .. })
    }

    pub fn is_warning(&self) -> bool {
        matches!(self, Sent::Stored { status, .. } if *status != 0)
    }
}

/// Tells what became of an instance, with the bytes of its data set that went out.
pub type Told<'t> = dyn FnMut(&Selected, Sent, u64) -> ControlFlow<()> + 't;

impl To<'_> {
    /// For people: host and port, of a caller its address.
    pub fn address(&self) -> String {
        match self.caller {
            Some(caller) if self.peer.is_caller() => {
                SocketAddr::new(caller.ip(), self.peer.port).to_string()
            }
            _ => format!("{}:{}", self.peer.host, self.peer.port),
        }
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, NetError> {
        if self.peer.is_caller() {
            let caller = self.caller.ok_or_else(|| NetError::Connect {
                address: self.address(),
                source: io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    "it is sent to only where it calls from, when it asks (C-MOVE)",
                ),
            })?;
            return Ok(vec![SocketAddr::new(caller.ip(), self.peer.port)]);
        }
        Ok((self.peer.host.as_str(), self.peer.port)
            .to_socket_addrs()?
            .collect())
    }
}

/// Between two looks at whether an instance on its way is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Associations that break one after the other without an answer to anything: then the peer is given up.
const BREAKS_MAX: usize = 3;

/// Sends all of them over one association at a time, in their order, until `told` breaks; it is told of every one, also
/// when the peer cannot be reached.
///
/// When an association breaks, what is left gets a new one: a bad instance must not take the study with it. A peer that
/// never answers must not be waited for once for each instance, either.
pub fn send_all(to: &To, instances: &[Selected], told: &mut Told) -> ControlFlow<()> {
    send_over(to, instances, None, told)
}

/// As [`send_all`], over the association of `line` where that is open and carries them; the last one stays open there.
pub fn send_over(
    to: &To,
    instances: &[Selected],
    mut line: Option<&mut Line>,
    told: &mut Told,
) -> ControlFlow<()> {
    for batch in contexts::batches(instances) {
        let mut offered = contexts::offered(batch, to.peer.uncompressed);
        let kept = line.as_mut().and_then(|line| line.take_for(to, &offered));
        let mut is_kept = kept.is_some();
        let association = match kept {
            Some((association, all)) => {
                offered = all;
                Ok(association)
            }
            None => connect(to, batch),
        };
        let mut association = match association {
            Ok(association) => Some(association),
            Err(error) => {
                tracing::warn!(destination = %to.peer.ae_title, %error, "a peer was not reached");
                for instance in batch {
                    told(instance, Sent::Broken(error.to_string()), 0)?;
                }
                continue;
            }
        };
        let mut reason = String::new();
        let mut breaks = 0;
        let mut ahead = Ahead::default();
        let mut flow = ControlFlow::Continue(());
        for (at, instance) in batch.iter().enumerate() {
            let mut sent = match &mut association {
                None => Ok((Sent::Broken(reason.clone()), 0)),
                Some(open) => send_one(to, open, instance, &batch[at + 1..], &mut ahead),
            };
            // It was over before: that is nobody's failure.
            if std::mem::take(&mut is_kept)
                && sent.is_err()
                && let Ok(open) = connect(to, batch)
            {
                offered = contexts::offered(batch, to.peer.uncompressed);
                let open = association.insert(open);
                sent = send_one(to, open, instance, &batch[at + 1..], &mut ahead);
            }
            let (sent, bytes) = sent.unwrap_or_else(|error| {
                tracing::warn!(destination = %to.peer.ae_title, %error, "sending broke off");
                reason = error.to_string();
                if let Some(mut broken) = association.take() {
                    broken.abort();
                }
                breaks += 1;
                let is_wanted = to.cancelled.is_none_or(|cancelled| !cancelled());
                if breaks < BREAKS_MAX && is_wanted {
                    association = connect(to, batch).ok();
                    offered = contexts::offered(batch, to.peer.uncompressed);
                }
                (Sent::Broken(reason.clone()), 0)
            });
            if matches!(sent, Sent::Stored { .. } | Sent::Refused { .. }) {
                breaks = 0;
            }
            flow = told(instance, sent, bytes);
            if flow.is_break() {
                break;
            }
        }
        if let Some(mut association) = association {
            match &mut line {
                Some(line) => line.keep(to, association, offered),
                None => {
                    if let Err(error) = association.release() {
                        tracing::debug!(destination = %to.peer.ae_title, %error, "released without an answer");
                    }
                }
            }
        }
        flow?;
    }
    ControlFlow::Continue(())
}

/// What is got ready while the peer files an instance.
#[derive(Default)]
pub struct Ahead<'a> {
    /// The next one, read and checked: a third less time for a CT series.
    next: Option<Fetched<'a>>,
    /// Of so many behind that one, and of it, the disk has been told.
    told_count: usize,
}

/// So many the disk reads by itself meanwhile: one alone is there later than the peer's answer.
const TOLD_COUNT: usize = 4;

fn connect(to: &To, batch: &[Selected]) -> Result<Association, NetError> {
    scu::associate(
        to.peer,
        &to.addresses()?,
        to.calling,
        contexts::offered(batch, to.peer.uncompressed),
        Timeouts::default(),
        &[],
    )
}

/// Sends one instance over an association that is there, and gets those behind it ready. The error is the association's:
/// it can carry nothing more.
pub fn send_one<'a>(
    to: &To<'a>,
    association: &mut Association,
    instance: &Selected,
    behind: &[Selected],
    ahead: &mut Ahead<'a>,
) -> Result<(Sent, u64), NetError> {
    ahead.told_count = ahead.told_count.saturating_sub(1);
    for one in behind.iter().take(TOLD_COUNT).skip(ahead.told_count) {
        to.archive.fetch_soon(one);
        ahead.told_count += 1;
    }
    let Some((context_id, form)) = contexts::context_for(association, instance) else {
        let reason = format!(
            "the peer does not take SOP class {} in transfer syntax {}, nor in one that it can be given in",
            instance.sop_class_uid, instance.transfer_syntax
        );
        tracing::warn!(sop_instance_uid = instance.sop_instance_uid, reason);
        return Ok((Sent::NotTaken(reason), 0));
    };
    let read_ahead = ahead.next.take().filter(|fetched| fetched.is(instance));
    let outgoing = match read_ahead {
        Some(fetched) if outgoing::is_as_stored(to, form) => {
            Ok(outgoing::Outgoing::AsStored(Box::new(fetched)))
        }
        _ => outgoing::open(to, instance, form),
    };
    let mut outgoing = match outgoing {
        Ok(outgoing) => outgoing,
        Err(reason) => {
            tracing::error!(
                sop_instance_uid = instance.sop_instance_uid,
                reason,
                "an instance cannot be sent"
            );
            return Ok((Sent::NotOurs(reason), 0));
        }
    };
    let request = StoreRequest {
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        priority: to.priority,
        move_originator: to.originator.clone(),
        message_id: association.next_message_id(),
    };
    // Else it would be read twice.
    let next_as_stored = behind.first().filter(|next| {
        let context = contexts::context_for(association, next);
        context.is_some_and(|(_, form)| outgoing::is_as_stored(to, form))
    });
    let length = outgoing.length();
    let mut meanwhile =
        || ahead.next = next_as_stored.and_then(|next| to.archive.fetch_ahead(next));
    let mut looked = Instant::now();
    let outcome = if let Some(bytes) = outgoing.whole() {
        let whole = DataSet::Whole(bytes);
        scu::store(association, context_id, &request, whole, &mut meanwhile)?
    } else {
        let pieces = DataSet::Pieces {
            len: length,
            read: &mut |buffer| {
                if let Some(cancelled) = to.cancelled
                    && looked.elapsed() >= LOOK_EVERY
                {
                    looked = Instant::now();
                    if cancelled() {
                        return Err(io::Error::other("it was cancelled"));
                    }
                }
                outgoing.read(buffer)
            },
        };
        scu::store(association, context_id, &request, pieces, &mut meanwhile)?
    };
    let stored = outcome.is_stored();
    metrics::sent(to.peer.ae_title.as_str(), stored, length);
    let (status, comment) = (outcome.status, outcome.comment);
    if stored {
        return Ok((Sent::Stored { status, comment }, length));
    }
    tracing::warn!(
        sop_instance_uid = instance.sop_instance_uid,
        status = format!("{status:04X}H"),
        comment,
        "the peer refused an instance"
    );
    Ok((Sent::Refused { status, comment }, length))
}
