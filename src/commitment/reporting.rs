//! Reports over an association of ours, to the peer that has the requestor's AE title, until it takes them.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::PeerEntry;
use crate::dicom::{sop, ts};
use crate::net::{Association, NetError, RoleSelection, Timeouts};
use crate::scu;

use super::{Commitment, Receiver, Trouble, VERDICT_FOR};

/// Peers that are told at the same moment.
const REPORTERS_MAX: usize = 8;
/// Reports over one association.
const REPORTS_MAX: usize = 1_000;
/// After the first failure; doubles with every one.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Until it is tried again after so many failures.
pub fn pause(failures: u32) -> Duration {
    let pause = AGAIN_AFTER * 2u32.pow(failures.saturating_sub(1).min(10));
    pause.min(AGAIN_AFTER_MAX)
}

/// Whose end the table hears of in any case.
struct Reporting<'a> {
    commitment: &'a Commitment,
    receiver: Receiver,
    failed: Option<Failed>,
}

/// Why a requestor could not be told.
struct Failed {
    reason: String,
    /// It does not pass by itself.
    stays: bool,
}

impl From<String> for Failed {
    fn from(reason: String) -> Failed {
        Failed {
            reason,
            stays: false,
        }
    }
}

impl Drop for Reporting<'_> {
    fn drop(&mut self) {
        let mut table = self.commitment.table();
        table.reporting.remove(&self.receiver);
        match self.failed.take() {
            None => drop(table.troubles.remove(&self.receiver)),
            Some(Failed { reason, stays }) => {
                let before = table.troubles.get(&self.receiver);
                let tries = before.map_or(0, |trouble| trouble.tries) + 1;
                let since = before.map(|trouble| trouble.since);
                tracing::warn!(
                    peer = self.receiver.0,
                    reason,
                    "a requestor of storage commitment could not be told; it is tried again"
                );
                let trouble = Trouble {
                    tries,
                    again: Instant::now() + pause(tries),
                    since: since.unwrap_or_else(Timestamp::now),
                    reason,
                    stays,
                };
                table.troubles.insert(self.receiver.clone(), trouble);
            }
        }
        drop(table);
        self.commitment.changed.notify_all();
    }
}

impl Commitment {
    /// Begins to tell those that can be told now; whether there were any.
    pub(super) fn report_due(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        let due: Vec<Receiver> = {
            let mut table = self.table();
            let room = REPORTERS_MAX.saturating_sub(table.reporting.len());
            let is_due = |receiver: &&Receiver| {
                let trouble = table.troubles.get(*receiver);
                !table.reporting.contains(*receiver)
                    && trouble.is_none_or(|trouble| trouble.again <= now)
            };
            let due: Vec<Receiver> = table.to_tell.keys().filter(is_due).cloned().collect();
            let due: Vec<Receiver> = due.into_iter().take(room).collect();
            table.reporting.extend(due.iter().cloned());
            due
        };
        let any = !due.is_empty();
        for receiver in due {
            let commitment = self.clone();
            let of = receiver.clone();
            let thread = std::thread::Builder::new().name("commitment report".to_owned());
            let thread = thread.spawn(move || {
                let mut reporting = Reporting {
                    commitment: &commitment,
                    receiver: of,
                    failed: Some("it broke off".to_owned().into()),
                };
                reporting.failed = commitment.report_to(&reporting.receiver).err();
            });
            if let Err(error) = thread {
                drop(Reporting {
                    commitment: self,
                    receiver,
                    failed: Some(error.to_string().into()),
                });
            }
        }
        any
    }

    fn first_for(&self, receiver: &Receiver) -> Option<u64> {
        let table = self.table();
        table.to_tell.get(receiver)?.first().copied()
    }

    fn report_to(&self, receiver: &Receiver) -> Result<(), Failed> {
        let Some(number) = self.first_for(receiver) else {
            return Ok(());
        };
        let caller = {
            let table = self.table();
            table.requests.get(&number).map(|request| request.address)
        };
        let ae_title = &receiver.0;
        let peer = self.config.peer(ae_title);
        let peer = peer.ok_or_else(|| Failed {
            reason: format!("{ae_title} is not a [[peer]]: where it listens is not known; add it"),
            stays: true,
        })?;
        let caller = caller.map(|address| SocketAddr::new(address, peer.port));
        let addresses = addresses(&peer, caller).map_err(|error| error.to_string())?;
        let (mut association, context_id) = self.connect(&peer, &addresses)?;
        for _ in 0..REPORTS_MAX {
            let Some(number) = self.first_for(receiver).filter(|_| !self.is_stopping()) else {
                break;
            };
            if self.is_stale(number) {
                self.judge_again(number);
                continue;
            }
            let Some(report) = self.begin_telling(number)? else {
                continue;
            };
            let status = scu::report_commitment(&mut association, context_id, &report.references);
            match status {
                Ok(status) if scu::is_taken(status) => self.told(&report),
                Ok(status) => self.refused(number, status),
                Err(error) => {
                    self.not_told(number);
                    return Err(error.to_string().into());
                }
            }
        }
        // Everything was told by now.
        drop(association.release());
        Ok(())
    }

    fn is_stale(&self, number: u64) -> bool {
        let table = self.table();
        match table.requests.get(&number).map(|request| &request.stage) {
            Some(super::Stage::Judged(verdict)) => verdict.at.elapsed() > VERDICT_FOR,
            _ => false,
        }
    }

    /// An association with a context for it. We are its SCP; a peer that does not know of roles takes the proposal
    /// without.
    fn connect(
        &self,
        peer: &PeerEntry,
        addresses: &[SocketAddr],
    ) -> Result<(Association, u8), String> {
        let ours = RoleSelection {
            sop_class_uid: sop::STORAGE_COMMITMENT_PUSH.to_owned(),
            scu: false,
            scp: true,
        };
        let mut last = None;
        for roles in [&[ours][..], &[]] {
            match request(&self.config.ae_title, peer, addresses, roles) {
                Ok(association) => {
                    let context = association.contexts().first().map(|context| context.id);
                    match context {
                        Some(id) => return Ok((association, id)),
                        None => {
                            last = Some("it does not take storage commitment".to_owned());
                            let mut association = association;
                            drop(association.release());
                        }
                    }
                }
                Err(error @ NetError::Connect { .. }) => return Err(error.to_string()),
                Err(error) => last = Some(error.to_string()),
            }
        }
        Err(last.unwrap_or_default())
    }
}

pub fn request(
    calling: &crate::dicom::AeTitle,
    peer: &PeerEntry,
    addresses: &[SocketAddr],
    roles: &[RoleSelection],
) -> Result<Association, NetError> {
    let syntaxes = [ts::EXPLICIT_VR_LITTLE_ENDIAN, ts::IMPLICIT_VR_LITTLE_ENDIAN];
    let context = (
        sop::STORAGE_COMMITMENT_PUSH.to_owned(),
        syntaxes.map(str::to_owned).to_vec(),
    );
    scu::associate(
        peer,
        addresses,
        calling,
        vec![context],
        Timeouts::default(),
        roles,
    )
}

/// `caller`: where it calls from, with the port where it listens.
pub fn addresses(peer: &PeerEntry, caller: Option<SocketAddr>) -> std::io::Result<Vec<SocketAddr>> {
    if peer.is_caller()
        && let Some(caller) = caller
    {
        return Ok(vec![SocketAddr::new(caller.ip(), peer.port)]);
    }
    Ok((peer.host.as_str(), peer.port).to_socket_addrs()?.collect())
}
