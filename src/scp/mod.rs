//! The services we answer: one association from its first message to its end.

mod answer;
mod commitment;
mod echo;
pub mod ended;
mod find;
mod identifier;
mod retrieve;
pub mod status;
mod store;
mod transferred;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::archive::Archive;
use crate::commitment::Commitment;
use crate::config::Config;
use crate::metrics::{Ended, Metrics};
use crate::net::dimse::{self, CommandSet};
use crate::net::{Asked, Association, NetError, Received};
use crate::sending::Sent;
use crate::transfers::Transfers;

use ended::Troubles;
use status::Status;

/// What serving an association needs: shared by all of them.
pub struct Services {
    pub archive: Arc<Archive>,
    /// As it was when the association began.
    pub config: Arc<Config>,
    pub transfers: Arc<Transfers>,
    pub commitment: Arc<Commitment>,
    pub metrics: Arc<Metrics>,
}

/// What went over one association; the line in the log at its end.
#[derive(Default)]
pub(crate) struct Counts {
    pub association_id: u64,
    pub instances: u64,
    pub bytes: u64,
    /// Where the last instance was stored.
    pub volume_id: Option<String>,
    /// Studies of which instances came that name another patient, as far as the log has named them.
    pub another_patient: HashSet<String>,
    pub messages: u64,
    pub troubles: Troubles,
}

/// Counts as open until it is dropped, however that comes.
struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics) -> Open<'a> {
        metrics.counters.associations_open.inc();
        Open(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.associations_open.dec();
    }
}

impl Counts {
    /// Of an instance that we sent; one that never went out does not count.
    fn sent(&mut self, sent: &Sent, bytes: u64) {
        if matches!(sent, Sent::Stored { .. } | Sent::Refused { .. }) {
            self.instances += 1;
            self.bytes += bytes;
        }
    }
}

/// Answers until the peer releases, aborts or goes away. `id` is the association's number in the log; `asked`: what the
/// peer wanted when it came.
pub fn serve(services: &Services, mut association: Association, asked: &Asked, id: u64) {
    let begun = Instant::now();
    let _open = Open::new(&services.metrics);
    let peer = association.peer();
    tracing::info!(association_id = id, peer = %peer.address, calling = peer.calling, called = peer.called,
        implementation = peer.implementation_version_name, "association opened");
    let opened = jiff::Timestamp::now();
    let mut counts = Counts {
        association_id: id,
        ..Counts::default()
    };
    let result = messages(services, &mut association, &mut counts, id);
    if result.is_err() {
        association.abort();
    }
    let said = ended::of(&result, asked, &counts.troubles, counts.messages);
    let end = match &result {
        Ok(end) => (*end).to_owned(),
        Err(error) => format!("aborted: {error}"),
    };
    services.transfers.ended(id);
    let peer = association.peer();
    tracing::info!(association_id = id, peer = %peer.address, calling = peer.calling, called = peer.called,
        instances_count = counts.instances, bytes = counts.bytes, ms = begun.elapsed().as_millis() as u64, end,
        "association closed");
    services.metrics.association_ended(Ended {
        association_id: id,
        address: peer.address.ip().to_string(),
        calling: peer.calling.clone(),
        called: peer.called.clone(),
        implementation: peer.implementation_version_name.clone(),
        begun: opened.to_string(),
        seconds: begun.elapsed().as_secs_f64(),
        instances_count: counts.instances,
        bytes: counts.bytes,
        failed: said.is_err(),
        reason: said
            .as_ref()
            .map_or_else(|why| why.reason, |_| "")
            .to_owned(),
        next: said
            .as_ref()
            .map_or_else(|why| why.next.as_str(), |_| "")
            .to_owned(),
        end: said.unwrap_or_else(|why| why.end),
        times: 0,
    });
}

fn messages(
    services: &Services,
    association: &mut Association,
    counts: &mut Counts,
    id: u64,
) -> Result<&'static str, NetError> {
    let mut reports = commitment::Reports::new(services, id);
    loop {
        reports.tell(association)?;
        let (context_id, command) = match association.next_command()? {
            Received::Command {
                context_id,
                command,
            } => (context_id, command),
            Received::Release => {
                association.release_reply();
                return Ok("released");
            }
            Received::Abort => return Ok("aborted by the peer"),
        };
        counts.messages += 1;
        match command.command_field().unwrap_or_default() {
            dimse::C_STORE_RQ => {
                store::answer(services, association, context_id, &command, counts)?
            }
            dimse::C_ECHO_RQ => echo::answer(association, context_id, &command)?,
            dimse::C_FIND_RQ => {
                let begun = Instant::now();
                find::answer(services, association, context_id, &command)?;
                services.metrics.counters.found(begun.elapsed());
            }
            dimse::C_MOVE_RQ => {
                retrieve::answer_move(services, association, context_id, &command, counts)?
            }
            dimse::C_GET_RQ => {
                retrieve::answer_get(services, association, context_id, &command, counts)?
            }
            dimse::N_ACTION_RQ => reports.answer_request(association, context_id, &command)?,
            dimse::N_EVENT_REPORT_RQ => reports.answer_report(association, context_id, &command)?,
            dimse::N_EVENT_REPORT_RSP => reports.take_answer(&command),
            // A cancel that crossed our final response: there is nothing left to cancel.
            dimse::C_CANCEL_RQ => {}
            _ => {
                drain(association)?;
                refuse(
                    association,
                    context_id,
                    &command,
                    &Status::new(
                        status::UNRECOGNIZED_OPERATION,
                        "not a service of this server",
                    ),
                )?;
            }
        }
    }
}

/// Reads and drops the rest of the message's data set.
fn drain(association: &mut Association) -> Result<(), NetError> {
    while association.data_fragment()?.is_some() {}
    Ok(())
}

fn refuse(
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    status: &Status,
) -> Result<(), NetError> {
    let mut response = CommandSet::response_to(command, status.code);
    response.set_error_comment(&status.comment);
    association.send(context_id, &response, None)
}
