//! C-MOVE and C-GET as SCP (PS3.4 C.4.2, C.4.3): one C-STORE sub-operation for each instance selected.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;

use crate::archive::{Selected, Selection};
use crate::config::PeerEntry;
use crate::dicom::{AeTitle, Level, elements, sop, ts};
use crate::net::dimse::{self, CommandSet};
use crate::net::{Association, NetError, Timeouts};
use crate::scu::{self, StoreRequest};

use super::identifier::{self, Identifier};
use super::status::{self, Status};
use super::{Counts, Services};

/// Pending responses come this often at most; workstations show them as progress.
const PENDING_EVERY: Duration = Duration::from_millis(200);

/// The four counters of every response, and the instances that failed (PS3.4 C.4.2.1.6 to 9).
struct Progress {
    total: usize,
    completed: usize,
    failed: usize,
    warning: usize,
    failed_uids: Vec<String>,
    last_pending: Option<Instant>,
}

impl Progress {
    fn new(total: usize) -> Progress {
        Progress {
            total,
            completed: 0,
            failed: 0,
            warning: 0,
            failed_uids: Vec::new(),
            last_pending: None,
        }
    }

    fn remaining(&self) -> usize {
        self.total - self.completed - self.failed - self.warning
    }

    fn count(&mut self, sop_instance_uid: &str, result: SubOperation) {
        match result {
            SubOperation::Stored => self.completed += 1,
            SubOperation::Warning => self.warning += 1,
            SubOperation::Failed => {
                self.failed += 1;
                self.failed_uids.push(sop_instance_uid.to_owned());
            }
        }
    }

    fn response(&self, command: &CommandSet, code: u16) -> CommandSet {
        // The counters are US: a retrieve of more than 65,535 instances shows the most that fits.
        let us = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let mut response = CommandSet::response_to(command, code);
        // PS3.4 C.4.2.1.6: Remaining is in pending and cancelled responses only.
        if matches!(code, status::PENDING | status::CANCEL) {
            response.set_remaining(us(self.remaining()));
        }
        response.set_completed(us(self.completed));
        response.set_failed(us(self.failed));
        response.set_warning(us(self.warning));
        response
    }

    fn pending_is_due(&mut self) -> bool {
        let due = self
            .last_pending
            .is_none_or(|last| last.elapsed() >= PENDING_EVERY);
        if due {
            self.last_pending = Some(Instant::now());
        }
        due
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubOperation {
    Stored,
    Warning,
    Failed,
}

/// Receives the identifier and selects; the inner error has been answered already.
fn selected(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    models: [&str; 3],
) -> Result<Option<Vec<Selected>>, NetError> {
    let Some(context) = association.context(context_id).cloned() else {
        super::drain(association)?;
        return Ok(None);
    };
    if !models.contains(&context.abstract_syntax.as_str()) {
        super::drain(association)?;
        let status = Status::new(
            status::SOP_CLASS_NOT_SUPPORTED,
            "not a presentation context of this service",
        );
        super::refuse(association, context_id, command, &status)?;
        return Ok(None);
    }
    let selection = match identifier::receive(association, &context.transfer_syntax)? {
        Ok(identifier) => {
            match super::find::level_is_outside(&context.abstract_syntax, identifier.level) {
                Some(status) => Err(status),
                None => selection(&identifier),
            }
        }
        Err(status) => Err(status),
    };
    let selected = selection.and_then(|selection| {
        services
            .archive
            .select(&selection)
            .map_err(|error| Status::from(&error))
    });
    match selected {
        Ok(selected) => Ok(Some(selected)),
        Err(status) => {
            super::refuse(association, context_id, command, &status)?;
            Ok(None)
        }
    }
}

/// The unique keys of the level; the levels above may be absent, as workstations leave them out (relational).
fn selection(identifier: &Identifier) -> Result<Selection, Status> {
    let tag = match identifier.level {
        Level::Patient => tags::PATIENT_ID,
        Level::Study => tags::STUDY_INSTANCE_UID,
        Level::Series => tags::SERIES_INSTANCE_UID,
        Level::Instance => tags::SOP_INSTANCE_UID,
    };
    let mut uids = identifier.uids(tag);
    uids.dedup();
    let level = identifier.level;
    if !uids.is_empty() {
        return Ok(match level {
            Level::Patient => Selection::Patients(uids),
            Level::Study => Selection::Studies(uids),
            Level::Series => Selection::Series(uids),
            Level::Instance => Selection::Instances(uids),
        });
    }
    // An empty unique key below a given study means all of it; with nothing given it would mean the whole archive.
    let studies = identifier.uids(tags::STUDY_INSTANCE_UID);
    let series = identifier.uids(tags::SERIES_INSTANCE_UID);
    match level {
        Level::Instance if !series.is_empty() => Ok(Selection::Series(series)),
        Level::Instance | Level::Series if !studies.is_empty() => Ok(Selection::Studies(studies)),
        _ => Err(Status::new(
            status::DATA_SET_MISMATCH,
            format!("no unique key {tag} at level {level}"),
        )),
    }
}

pub fn answer_get(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    counts: &mut Counts,
) -> Result<(), NetError> {
    let models = [
        sop::PATIENT_ROOT_GET,
        sop::STUDY_ROOT_GET,
        sop::PATIENT_STUDY_ONLY_GET,
    ];
    let Some(selected) = selected(services, association, context_id, command, models)? else {
        return Ok(());
    };
    let message_id = command.message_id().unwrap_or_default();
    let mut progress = Progress::new(selected.len());
    let mut cancelled = false;
    for (at, instance) in selected.iter().enumerate() {
        if association.pending_cancel(message_id)? {
            cancelled = true;
            break;
        }
        soon(services, selected.get(at + 1));
        let result = send_one(services, association, instance, None, counts)?;
        progress.count(&instance.sop_instance_uid, result);
        if progress.remaining() > 0 && progress.pending_is_due() {
            association.send(
                context_id,
                &progress.response(command, status::PENDING),
                None,
            )?;
        }
    }
    finish(association, context_id, command, &progress, cancelled, "")
}

pub fn answer_move(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    counts: &mut Counts,
) -> Result<(), NetError> {
    let models = [
        sop::PATIENT_ROOT_MOVE,
        sop::STUDY_ROOT_MOVE,
        sop::PATIENT_STUDY_ONLY_MOVE,
    ];
    let destination = command.move_destination().unwrap_or_default();
    let Some(peer) = services.config.peer(&destination) else {
        super::drain(association)?;
        let comment = format!(
            "move destination {} is not a configured peer",
            destination.trim()
        );
        return super::refuse(
            association,
            context_id,
            command,
            &Status::new(status::MOVE_DESTINATION_UNKNOWN, comment),
        );
    };
    let Some(selected) = selected(services, association, context_id, command, models)? else {
        return Ok(());
    };
    let mut progress = Progress::new(selected.len());
    let mut cancelled = false;
    let mut comment = String::new();
    for batch in batches(&selected) {
        let mut sending = match connect(services, peer, batch) {
            Ok(sending) => sending,
            Err(error) => {
                comment = format!("{}: {error}", peer.ae_title);
                tracing::warn!(destination = %peer.ae_title, %error, "a move destination was not reached");
                for instance in batch {
                    progress.count(&instance.sop_instance_uid, SubOperation::Failed);
                }
                continue;
            }
        };
        let originator = originator(association, command);
        let message_id = command.message_id().unwrap_or_default();
        for (at, instance) in batch.iter().enumerate() {
            // A requestor that is gone is one that cancelled: nobody would hear the rest.
            if association.pending_cancel(message_id)? {
                cancelled = true;
                break;
            }
            soon(services, batch.get(at + 1));
            let result = match &mut sending {
                Some(to) => match send_one(services, to, instance, originator.clone(), counts) {
                    Ok(result) => result,
                    Err(error) => {
                        comment = format!("{}: {error}", peer.ae_title);
                        tracing::warn!(destination = %peer.ae_title, %error, "sending broke off");
                        if let Some(mut broken) = sending.take() {
                            broken.abort();
                        }
                        // One new association for what is left: a bad instance must not take the study with it.
                        sending = connect(services, peer, batch).ok().flatten();
                        SubOperation::Failed
                    }
                },
                None => SubOperation::Failed,
            };
            progress.count(&instance.sop_instance_uid, result);
            if progress.remaining() > 0 && progress.pending_is_due() {
                association.send(
                    context_id,
                    &progress.response(command, status::PENDING),
                    None,
                )?;
            }
        }
        if let Some(mut sending) = sending
            && let Err(error) = sending.release()
        {
            tracing::debug!(destination = %peer.ae_title, %error, "released without an answer");
        }
        if cancelled {
            break;
        }
    }
    finish(
        association,
        context_id,
        command,
        &progress,
        cancelled,
        &comment,
    )
}

fn originator(association: &Association, command: &CommandSet) -> Option<(AeTitle, u16)> {
    let title = association.peer().calling.parse().ok()?;
    Some((title, command.message_id().unwrap_or_default()))
}

fn finish(
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    progress: &Progress,
    cancelled: bool,
    comment: &str,
) -> Result<(), NetError> {
    let code = match progress {
        _ if cancelled => status::CANCEL,
        Progress {
            failed: 0,
            warning: 0,
            ..
        } => status::SUCCESS,
        Progress { failed, total, .. } if failed == total => status::SUB_OPERATIONS_FAILED,
        _ => status::WARNING_SUB_OPERATIONS,
    };
    let mut response = progress.response(command, code);
    if !comment.is_empty() {
        response.set_error_comment(comment);
    }
    if progress.failed_uids.is_empty() {
        return association.send(context_id, &response, None);
    }
    let explicit = association
        .context(context_id)
        .is_some_and(|context| context.transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN);
    let mut uids = progress.failed_uids.join("\\");
    if explicit && uids.len() > usize::from(u16::MAX) - 1 {
        // An explicit UI ends at 64 KiB; what is named is named whole.
        uids.truncate(usize::from(u16::MAX) - 1);
        uids.truncate(uids.rfind('\\').unwrap_or(0));
    }
    let mut data = Vec::new();
    elements::put(
        &mut data,
        explicit,
        tags::FAILED_SOP_INSTANCE_UID_LIST,
        dicom_core::VR::UI,
        uids.as_bytes(),
    );
    association.send(context_id, &response, Some(&data))
}

/// The disk reads the next instance while this one is sent and answered: a third less time for a CT series.
fn soon(services: &Services, next: Option<&Selected>) {
    if let Some(next) = next {
        services.archive.fetch_soon(next);
    }
}

/// Sends one instance over `association`. The outer error is the association's: it can carry nothing more.
fn send_one(
    services: &Services,
    association: &mut Association,
    instance: &Selected,
    move_originator: Option<(AeTitle, u16)>,
    counts: &mut Counts,
) -> Result<SubOperation, NetError> {
    let archive = &services.archive;
    let context = association.context_for(&instance.sop_class_uid, Some(&instance.transfer_syntax));
    let Some(context_id) = context.map(|context| context.id) else {
        tracing::warn!(
            sop_instance_uid = instance.sop_instance_uid,
            transfer_syntax = instance.transfer_syntax,
            "the peer does not take this SOP class in this transfer syntax"
        );
        return Ok(SubOperation::Failed);
    };
    let mut fetched = match archive.fetch(instance) {
        Ok(fetched) => fetched,
        Err(error) => {
            tracing::error!(%error, "an instance cannot be sent");
            return Ok(SubOperation::Failed);
        }
    };
    let request = StoreRequest {
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        priority: dimse::PRIORITY_MEDIUM,
        move_originator,
        message_id: association.next_message_id(),
    };
    let length = fetched.length;
    let outcome = scu::store(association, context_id, &request, length, &mut |buffer| {
        fetched.read(buffer)
    })?;
    counts.instances += 1;
    counts.bytes += length;
    if outcome.is_warning() {
        return Ok(SubOperation::Warning);
    }
    if !outcome.is_stored() {
        tracing::warn!(
            sop_instance_uid = instance.sop_instance_uid,
            status = format!("{:04X}H", outcome.status),
            comment = outcome.comment,
            "the peer refused an instance"
        );
        return Ok(SubOperation::Failed);
    }
    Ok(SubOperation::Stored)
}

/// Presentation contexts of one association (odd ids of a byte, PS3.8 7.1.1.13).
const CONTEXTS_MAX: usize = 128;

/// Cuts the instances into runs that one association has contexts for; nearly always one.
fn batches(selected: &[Selected]) -> Vec<&[Selected]> {
    let mut batches = Vec::new();
    let mut begin = 0;
    let mut pairs = BTreeSet::new();
    for (at, instance) in selected.iter().enumerate() {
        pairs.insert((&instance.sop_class_uid, &instance.transfer_syntax));
        if pairs.len() > CONTEXTS_MAX {
            batches.push(&selected[begin..at]);
            begin = at;
            pairs = BTreeSet::from([(&instance.sop_class_uid, &instance.transfer_syntax)]);
        }
    }
    if begin < selected.len() {
        batches.push(&selected[begin..]);
    }
    batches
}

/// One association for a batch; one context for each SOP class and stored transfer syntax, so that the peer's choice
/// within a context cannot hide one from us.
fn connect(
    services: &Services,
    peer: &PeerEntry,
    batch: &[Selected],
) -> Result<Option<Association>, NetError> {
    let pairs: BTreeSet<_> = batch
        .iter()
        .map(|instance| {
            (
                instance.sop_class_uid.clone(),
                instance.transfer_syntax.clone(),
            )
        })
        .collect();
    let contexts = pairs
        .into_iter()
        .map(|(class, syntax)| (class, vec![syntax]))
        .collect();
    let addresses: Vec<_> = (peer.host.as_str(), peer.port).to_socket_addrs()?.collect();
    let calling = &services.config.ae_title;
    Association::request(
        addresses.as_slice(),
        calling,
        &peer.ae_title,
        contexts,
        Timeouts::default(),
        &[],
    )
    .map(Some)
}
