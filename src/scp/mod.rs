//! The services we answer: one association from its first message to its end.

pub mod allowed;
pub mod answer;
mod commitment;
mod echo;
pub mod ended;
mod find;
pub mod identifier;
pub mod limited;
mod retrieve;
pub mod status;
mod store;
mod transferred;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::archive::Archive;
use crate::audit::{Audit, Event, Kind, Who};
use crate::commitment::Commitment;
use crate::config::Config;
use crate::dicom::Service;
use crate::metrics::{Ended, Metrics};
use crate::net::dimse::{self, CommandSet};
use crate::net::{Asked, Association, NetError, Peer, Received};
use crate::sending::Sent;
use crate::transfers::{Requestor, Transfers};

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
    pub audit: Arc<Audit>,
}

/// What went over one association; the line in the log at its end.
#[derive(Default)]
pub(crate) struct Counts {
    pub association_id: u64,
    pub requestor: Requestor,
    pub instances: u64,
    pub bytes: u64,
    /// Where the last instance was stored.
    pub volume_id: Option<String>,
    /// Studies of which instances came that name another patient, as far as the log has named them.
    pub another_patient: HashSet<String>,
    pub messages: u64,
    /// Requests of these were refused.
    pub not_allowed: Vec<Service>,
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
        implementation = peer.implementation_version_name, user = peer.user, tls = peer.tls,
        certificate = peer.certificate.as_ref().map(|shown| shown.who()),
        by = asked.granted.as_ref().map(|granted| granted.by.as_str()), "association opened");
    let opened = jiff::Timestamp::now();
    let mut counts = Counts {
        association_id: id,
        requestor: requestor(peer),
        ..Counts::default()
    };
    let result = messages(services, &mut association, asked, &mut counts, id);
    if result.is_err() {
        association.abort();
    }
    let said = ended::of(&result, asked, &counts.troubles, counts.messages);
    let end = match &result {
        Ok(end) => (*end).to_owned(),
        Err(error) => format!("aborted: {error}"),
    };
    services.transfers.ended(id);
    let limits = &services.config.limits;
    let limit = result.as_ref().err().and_then(|e| limited::of(e, limits));
    if let Some(exceeded) = limit {
        services.metrics.counters.limit_reached(exceeded.key);
    }
    let limit = limit.map(tracing::field::display);
    let peer = association.peer();
    tracing::info!(association_id = id, peer = %peer.address, calling = peer.calling, called = peer.called,
        instances_count = counts.instances, bytes = counts.bytes, ms = begun.elapsed().as_millis() as u64, end,
        limit, "association closed");
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
    asked: &Asked,
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
        if let Some(service) =
            allowed::forbidden(asked, command.command_field().unwrap_or_default())
        {
            not_allowed(services, association, asked, counts, service);
            drain(association)?;
            let status = allowed::not_authorized(service);
            refuse(association, context_id, &command, &status)?;
            continue;
        }
        match command.command_field().unwrap_or_default() {
            dimse::C_STORE_RQ => {
                store::answer(services, association, context_id, &command, counts)?
            }
            dimse::C_ECHO_RQ => echo::answer(association, context_id, &command)?,
            dimse::C_FIND_RQ => {
                let begun = Instant::now();
                find::answer(services, association, context_id, &command, counts)?;
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

/// Each service is a line of the log once: who is refused may go on for thousands of instances.
fn not_allowed(
    services: &Services,
    association: &Association,
    asked: &Asked,
    counts: &mut Counts,
    service: Service,
) {
    let why = allowed::why(asked, service);
    if !counts.not_allowed.contains(&service) {
        counts.not_allowed.push(service);
        let calling = &association.peer().calling;
        let association_id = counts.association_id;
        tracing::warn!(association_id, calling, "refused (0124H): {}", why.end);
        audit_refusal(services, counts, &service.to_string(), &why.end);
    }
    counts.troubles.note(|| why);
}

/// Who is on the other side, for the audit.
fn requestor(peer: &Peer) -> Requestor {
    Requestor {
        ae_title: peer.calling.clone(),
        address: peer.address.ip().to_canonical().to_string(),
        user: peer.user.clone(),
        certificate: peer.certificate.as_ref().map(|shown| shown.who()),
    }
}

fn who(counts: &Counts) -> Who {
    Who::peer(&counts.requestor.ae_title, &counts.requestor.address)
}

/// It may be an attempt to get at images, or to have them sent elsewhere.
fn audit_refusal(services: &Services, counts: &Counts, asked: &str, why: &str) {
    let what = format!("{asked} refused");
    let event = event(counts, Kind::Refused);
    services.audit.gather(&who(counts), &what, why, event);
}

fn event(counts: &Counts, kind: Kind) -> Event {
    let Requestor {
        user, certificate, ..
    } = &counts.requestor;
    Event {
        user: user.clone().unwrap_or_default(),
        certificate: certificate.clone().unwrap_or_default(),
        ..Event::new(kind)
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
