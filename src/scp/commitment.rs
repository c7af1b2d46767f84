//! Storage commitment as SCP (PS3.4 J): the request in, its report out over the same association while that is open; and
//! reports of peers to questions of ours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::commitment::{Asker, Commitment, Refused, Report};
use crate::dicom::references::STORAGE_COMMITMENT_PUSH_INSTANCE;
use crate::dicom::{References, ReferencesReader, sop};
use crate::net::dimse::CommandSet;
use crate::net::{Association, NetError};
use crate::scu;

use super::Services;
use super::status::{self, Status};

/// PS3.4 J.3.2: request storage commitment.
const ACTION_REQUEST: u16 = 1;
/// A requestor that wants its report over another association releases this one by then.
const QUIET: Duration = Duration::from_secs(1);
/// One that took a report here takes the next as soon as it has nothing to say.
const QUIET_AGAIN: Duration = Duration::from_millis(50);
/// For the answer to a report.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Waiting for either side begins with the first and doubles up to the second.
const STEP_MIN: Duration = Duration::from_millis(2);
const STEP_MAX: Duration = Duration::from_millis(50);

/// The requests that came over one association, and their reports.
pub struct Reports {
    commitment: Arc<Commitment>,
    association: u64,
    /// On which the last request came; `None`: none is open here.
    context_id: Option<u8>,
    /// Out, and not answered yet: message id, and since when.
    telling: Option<(u16, Report, Instant)>,
    /// The requestor took one here.
    takes: bool,
    idle: Duration,
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Reports {
    pub fn new(services: &Services, association: u64) -> Reports {
        Reports {
            commitment: services.commitment.clone(),
            association,
            context_id: None,
            telling: None,
            takes: false,
            idle: Duration::from_secs(services.config.limits.idle_seconds),
        }
    }

    /// What is open is told over another association.
    fn leave(&mut self) {
        if self.context_id.take().is_some() {
            self.telling = None;
            self.commitment.left(self.association);
        }
    }

    /// Between two messages: tells what can be told, until something comes or nothing is left to tell.
    pub fn tell(&mut self, association: &mut Association) -> Result<(), NetError> {
        let begun = Instant::now();
        let mut step = STEP_MIN;
        while let Some(context_id) = self.context_id {
            if association.comes_within(step)? {
                return Ok(());
            }
            step = (step * 2).min(STEP_MAX);
            let quiet = if self.takes { QUIET_AGAIN } else { QUIET };
            match &self.telling {
                Some((_, _, since)) if since.elapsed() > ANSWER_WITHIN => self.leave(),
                Some(_) => {}
                None if !self.commitment.waits_on(self.association) => self.context_id = None,
                None if begun.elapsed() > self.idle => self.leave(),
                None if begun.elapsed() < quiet => {}
                None => {
                    if let Some(report) = self.commitment.next_on(self.association) {
                        let message_id =
                            scu::send_report(association, context_id, &report.references)?;
                        self.telling = Some((message_id, report, Instant::now()));
                        step = STEP_MIN;
                    }
                }
            }
        }
        Ok(())
    }

    /// N-ACTION-RQ.
    pub fn answer_request(
        &mut self,
        association: &mut Association,
        context_id: u8,
        command: &CommandSet,
    ) -> Result<(), NetError> {
        let taken = match receive(association, context_id)? {
            Ok(references) => self.take(association, command, &references),
            Err(status) => Err(status),
        };
        let status = match taken {
            Ok(()) => {
                self.context_id = Some(context_id);
                Status::new(status::SUCCESS, "")
            }
            Err(status) => {
                tracing::warn!(
                    calling = association.peer().calling,
                    reason = status.comment,
                    "a request of storage commitment was refused"
                );
                status
            }
        };
        let mut response = CommandSet::response_to(command, status.code);
        if let Some(action) = command.action_type_id() {
            response.set_action_type_id(action);
        }
        if !status.comment.is_empty() {
            response.set_error_comment(&status.comment);
        }
        association.send(context_id, &response, None)
    }

    fn take(
        &self,
        association: &Association,
        command: &CommandSet,
        references: &References,
    ) -> Result<(), Status> {
        let instance = command.requested_sop_instance_uid().unwrap_or_default();
        if instance != STORAGE_COMMITMENT_PUSH_INSTANCE {
            let comment = "not the instance of the storage commitment push model";
            return Err(Status::new(status::NO_SUCH_INSTANCE, comment));
        }
        if command.action_type_id() != Some(ACTION_REQUEST) {
            let comment = "the only action is 1, request storage commitment";
            return Err(Status::new(status::NO_SUCH_ACTION, comment));
        }
        let invalid = |comment: &str| Err(Status::new(status::INVALID_ARGUMENT, comment));
        if references.transaction_uid.is_empty() {
            return invalid("Transaction UID (0008,1195) is missing or empty");
        }
        if references.instances.is_empty() {
            return invalid("Referenced SOP Sequence (0008,1199) names nothing");
        }
        let mut instances = references.instances.iter();
        if instances.any(|one| one.sop_instance_uid.is_empty() || one.sop_class_uid.is_empty()) {
            return invalid("an item of (0008,1199) has no SOP class or instance");
        }
        let peer = association.peer();
        let asker = Asker {
            ae_title: &peer.calling,
            address: peer.address.ip(),
            association: self.association,
        };
        self.commitment
            .take(&asker, references)
            .map_err(|refused| match refused {
                Refused::DuplicateTransaction => Status::new(
                    status::DUPLICATE_TRANSACTION,
                    "another request has this Transaction UID",
                ),
                Refused::TooMany => Status::new(
                    status::RESOURCE_LIMITATION,
                    "too many requests wait to be reported",
                ),
                Refused::NotKept(reason) => Status::new(status::PROCESSING_FAILURE, reason),
            })
    }

    /// N-EVENT-REPORT-RSP.
    pub fn take_answer(&mut self, command: &CommandSet) {
        let answered =
            |(id, _, _): &mut (u16, Report, Instant)| command.responded_id() == Some(*id);
        let Some((_, report, _)) = self.telling.take_if(answered) else {
            return;
        };
        match command.status().unwrap_or(status::PROCESSING_FAILURE) {
            0x0000 | 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => {
                self.takes = true;
                self.commitment.told(&report);
            }
            refused => self.commitment.refused(report.number, refused),
        }
    }

    /// N-EVENT-REPORT-RQ: the peer reports to a question of ours.
    pub fn answer_report(
        &mut self,
        association: &mut Association,
        context_id: u8,
        command: &CommandSet,
    ) -> Result<(), NetError> {
        let status = match receive(association, context_id)? {
            Ok(references) => match self.commitment.reported(references) {
                true => Status::new(status::SUCCESS, ""),
                false => Status::new(status::INVALID_ARGUMENT, "not a transaction of ours"),
            },
            Err(status) => status,
        };
        super::refuse(association, context_id, command, &status)
    }
}

/// Reads the data set to its end. The inner error is what the peer is to be told.
fn receive(
    association: &mut Association,
    context_id: u8,
) -> Result<Result<References, Status>, NetError> {
    let context = association.context(context_id);
    let context = context.filter(|one| one.abstract_syntax == sop::STORAGE_COMMITMENT_PUSH);
    let Some(context) = context else {
        super::drain(association)?;
        return Ok(Err(Status::new(
            status::SOP_CLASS_NOT_SUPPORTED,
            "not a storage commitment presentation context",
        )));
    };
    let mut reader = Some(ReferencesReader::new(&context.transfer_syntax));
    let mut wrong = String::new();
    while let Some(fragment) = association.data_fragment()? {
        if let Some(feeding) = &mut reader
            && let Err(error) = feeding.feed(fragment)
        {
            // What it holds goes now; the rest is only read away.
            reader = None;
            wrong = error.to_string();
        }
    }
    let read = match reader {
        Some(reader) => reader.finish().map_err(|error| error.to_string()),
        None => Err(wrong),
    };
    Ok(read.map_err(|reason| Status::new(status::INVALID_ARGUMENT, reason)))
}
