//! C-MOVE and C-GET as SCP (PS3.4 C.4.2, C.4.3): one C-STORE sub-operation for each instance selected.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;

use crate::archive::{Selected, Selection};
use crate::config::PeerEntry;
use crate::dicom::{AeTitle, Level, elements, sop, ts};
use crate::net::dimse::{self, CommandSet};
use crate::net::{Association, NetError};
use crate::sending::{self, Sent, To};
use crate::transfers::Direction;

use super::ended::Why;
use super::identifier::{self, Identifier};
use super::limited::Request;
use super::status::{self, Status};
use super::transferred::{self, Transferred};
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
    /// Why the first of them did.
    reason: String,
    /// The index is being read in, and has come so far: there may be more instances than were selected.
    so_far: Option<u8>,
    last_pending: Option<Instant>,
}

impl Progress {
    fn new(total: usize, so_far: Option<u8>) -> Progress {
        Progress {
            total,
            so_far,
            completed: 0,
            failed: 0,
            warning: 0,
            failed_uids: Vec::new(),
            reason: String::new(),
            last_pending: None,
        }
    }

    fn remaining(&self) -> usize {
        self.total - self.completed - self.failed - self.warning
    }

    fn count(&mut self, sop_instance_uid: &str, sent: &Sent) {
        if sent.is_warning() {
            self.warning += 1;
        } else if sent.is_stored() {
            self.completed += 1;
        } else {
            self.failed += 1;
            self.failed_uids.push(sop_instance_uid.to_owned());
            if self.reason.is_empty() {
                self.reason = transferred::reason(sent).unwrap_or_default();
            }
        }
    }

    /// What is left failed, for one reason: the peer is told which, and can ask for them again.
    fn give_up(&mut self, left: &[Selected], reason: String) {
        self.failed += left.len();
        let uids = left.iter().map(|one| one.sop_instance_uid.clone());
        self.failed_uids.extend(uids);
        if self.reason.is_empty() {
            self.reason = reason;
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

/// What is to be sent; and how far the index is read in, where there may be more than that.
type SoFar = (Vec<Selected>, Option<u8>);

/// Receives the identifier and selects; the inner error has been answered already.
fn selected(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    models: [&str; 3],
) -> Result<Option<SoFar>, NetError> {
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
    let selection = match identifier::receive(services, association, &context.transfer_syntax)? {
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
            .select_so_far(&selection)
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
    let request = Request::begin(&services.config.limits);
    let Some((selected, so_far)) = selected(services, association, context_id, command, models)?
    else {
        return Ok(());
    };
    let message_id = command.message_id().unwrap_or_default();
    let is_too_long = || request.is_too_long();
    let mut progress = Progress::new(selected.len(), so_far);
    let mut cancelled = false;
    let here = services.config.peer(&association.peer().calling);
    let here = here.unwrap_or_else(|| PeerEntry::new(services.config.ae_title.clone(), "", 0));
    let to = To {
        archive: &services.archive,
        calling: &services.config.ae_title,
        peer: &here,
        caller: None,
        priority: dimse::PRIORITY_MEDIUM,
        originator: None,
        rewrite: None,
        // A message that has begun cannot be ended but with its association.
        cancelled: Some(&is_too_long),
    };
    let address = association.peer().address.to_string();
    let calling = association.peer().calling.clone();
    let mut line = Transferred::new(
        services,
        Direction::Got,
        &calling,
        address,
        counts.requestor.clone(),
    );
    let mut ahead = sending::Ahead::default();
    for (at, instance) in selected.iter().enumerate() {
        if association.pending_cancel(message_id)? {
            cancelled = true;
            break;
        }
        if request.is_too_long() {
            let reason = request.ended(services, association, "C-GET");
            progress.give_up(&selected[at..], reason);
            break;
        }
        let sent = sending::send_one(&to, association, instance, &selected[at + 1..], &mut ahead);
        if let Err(error) = &sent {
            if request.is_too_long() {
                let _ = request.ended(services, association, "C-GET");
            }
            line.count(instance, &Sent::Broken(error.to_string()), 0);
        }
        let (sent, bytes) = sent?;
        counts.sent(&sent, bytes);
        line.count(instance, &sent, bytes);
        progress.count(&instance.sop_instance_uid, &sent);
        if progress.remaining() > 0 && progress.pending_is_due() {
            association.send(
                context_id,
                &progress.response(command, status::PENDING),
                None,
            )?;
        }
    }
    drop(line);
    finish(association, context_id, command, &progress, cancelled)
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
        let title = destination.trim();
        let comment = format!("move destination {title} is not a configured peer");
        super::audit_refusal(services, counts, "C-MOVE", &comment);
        counts.troubles.note(|| {
            Why::new(
                "unknown-destination",
                format!("it asked to have images sent to {title:?}, which is no peer of this server"),
                "make it one, with its address and port: kura peer add AE@HOST:PORT; or correct the destination in the other system",
            )
        });
        return super::refuse(
            association,
            context_id,
            command,
            &Status::new(status::MOVE_DESTINATION_UNKNOWN, comment),
        );
    };
    let request = Request::begin(&services.config.limits);
    let Some((selected, so_far)) = selected(services, association, context_id, command, models)?
    else {
        return Ok(());
    };
    let mut progress = Progress::new(selected.len(), so_far);
    let mut cancelled = false;
    let mut failed = None;
    let mut told_count = 0;
    let message_id = command.message_id().unwrap_or_default();
    let caller = Some(association.peer().address);
    let originator = originator(association, command);
    // Looked at between two instances, and within one.
    let requestor = RefCell::new(&mut *association);
    let is_cancelled = || {
        let pending = requestor.borrow_mut().pending_cancel(message_id);
        pending.unwrap_or(true)
    };
    let is_over = || request.is_too_long() || is_cancelled();
    let to = To {
        archive: &services.archive,
        calling: &services.config.ae_title,
        peer: &peer,
        caller,
        priority: dimse::PRIORITY_MEDIUM,
        originator,
        rewrite: None,
        cancelled: Some(&is_over),
    };
    let mut line = Transferred::new(
        services,
        Direction::Moved,
        peer.ae_title.as_str(),
        to.address(),
        counts.requestor.clone(),
    );
    let mut told = |instance: &Selected, sent: Sent, bytes: u64| {
        // What was cut off by the cancel itself did not fail: it remains.
        if matches!(sent, Sent::Broken(_)) && is_cancelled() {
            cancelled = true;
            return ControlFlow::Break(());
        }
        let mut association = requestor.borrow_mut();
        told_count += 1;
        counts.sent(&sent, bytes);
        line.count(instance, &sent, bytes);
        progress.count(&instance.sop_instance_uid, &sent);
        let pending = match progress.remaining() > 0 && progress.pending_is_due() {
            true => association.send(
                context_id,
                &progress.response(command, status::PENDING),
                None,
            ),
            false => Ok(()),
        };
        // A requestor that is gone is one that cancelled: nobody would hear the rest.
        match pending.and_then(|()| association.pending_cancel(message_id)) {
            Ok(false) if request.is_too_long() => ControlFlow::Break(()),
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => {
                cancelled = progress.remaining() > 0;
                ControlFlow::Break(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    // That it broke is known already, and why.
    let _ = sending::send_all(&to, &selected, &mut told);
    drop(line);
    let left = &selected[told_count..];
    if failed.is_none() && !cancelled && !left.is_empty() {
        let reason = request.ended(services, association, "C-MOVE");
        progress.give_up(left, reason);
    }
    if !progress.reason.is_empty() {
        progress.reason = format!("{}: {}", peer.ae_title, progress.reason);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    finish(association, context_id, command, &progress, cancelled)
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
) -> Result<(), NetError> {
    let code = match progress {
        _ if cancelled => status::CANCEL,
        Progress {
            failed: 0,
            warning: 0,
            so_far: None,
            ..
        } => status::SUCCESS,
        Progress { failed, total, .. } if failed == total => status::SUB_OPERATIONS_FAILED,
        _ => status::WARNING_SUB_OPERATIONS,
    };
    let mut response = progress.response(command, code);
    if !progress.reason.is_empty() {
        response.set_error_comment(&progress.reason);
    } else if let Some(percent) = progress.so_far {
        let comment = format!("the index is being rebuilt, {percent} % done: there may be more");
        response.set_error_comment(&comment);
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
