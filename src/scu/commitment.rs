//! Storage commitment (PS3.4 J): a request as SCU, and a report as SCP, over an association of either side.

use std::time::Duration;

use crate::dicom::references::STORAGE_COMMITMENT_PUSH_INSTANCE;
use crate::dicom::{References, ReferencesReader, sop, ts};
use crate::net::{Association, CommandSet, NetError, Received, dimse};

/// PS3.4 J.3.2: request storage commitment.
pub const ACTION_REQUEST: u16 = 1;
/// PS3.4 J.3.3: request successful; request complete, failures exist.
pub const EVENT_SUCCESSFUL: u16 = 1;
pub const EVENT_FAILURES: u16 = 2;

/// Invalid argument value (PS3.7 C.5.4): a report to no question of ours.
const INVALID_ARGUMENT: u16 = 0x0115;

/// What is done with a report that comes over the association; false: it is to no question of ours.
pub type TakeReport<'t> = dyn FnMut(References) -> bool + 't;

/// What came over an association on which something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// The answer to a request of ours: its message id, and the status.
    Answer(Option<u16>, u16),
    /// A report; it is answered.
    Report,
    /// The peer ended the association.
    Over,
}

/// Asks for the commitment of instances; the status of the answer, 0000H where the peer will report. A report to an earlier
/// request may come before that.
pub fn request_commitment(
    association: &mut Association,
    context_id: u8,
    references: &References,
    take: &mut TakeReport,
) -> Result<u16, NetError> {
    let message_id = association.next_message_id();
    let mut command = CommandSet::new(dimse::N_ACTION_RQ);
    command
        .set_requested_sop_class_uid(sop::STORAGE_COMMITMENT_PUSH)
        .set_message_id(message_id)
        .set_requested_sop_instance_uid(STORAGE_COMMITMENT_PUSH_INSTANCE)
        .set_action_type_id(ACTION_REQUEST);
    let data = references.encode(is_explicit(association, context_id));
    association.send(context_id, &command, Some(&data))?;
    loop {
        match receive(association, take)? {
            Heard::Answer(id, status) if id == Some(message_id) => return Ok(status),
            Heard::Over => return Err(NetError::Closed),
            Heard::Answer(..) | Heard::Report | Heard::Nothing => {}
        }
    }
}

/// Takes a report that comes here within that time.
pub fn hear_report(
    association: &mut Association,
    within: Duration,
    take: &mut TakeReport,
) -> Result<Heard, NetError> {
    match association.comes_within(within)? {
        true => receive(association, take),
        false => Ok(Heard::Nothing),
    }
}

/// The next message, waiting at most the response time.
fn receive(association: &mut Association, take: &mut TakeReport) -> Result<Heard, NetError> {
    let (context_id, command) = match association.next_command()? {
        Received::Command {
            context_id,
            command,
        } => (context_id, command),
        Received::Release => {
            association.release_reply();
            return Ok(Heard::Over);
        }
        Received::Abort => return Ok(Heard::Over),
    };
    if command.is_response() {
        let status = super::status_of(association, &command)?;
        return Ok(Heard::Answer(command.responded_id(), status));
    }
    let syntax = association.context(context_id);
    let syntax = syntax.map(|context| context.transfer_syntax.clone());
    let mut reader = ReferencesReader::new(&syntax.unwrap_or_default());
    let mut good = command.command_field() == Some(dimse::N_EVENT_REPORT_RQ);
    while let Some(bytes) = association.data_fragment()? {
        good = good && reader.feed(bytes).is_ok();
    }
    let report = reader.finish().ok().filter(|_| good);
    let status = match report.is_some_and(take) {
        true => 0,
        false => INVALID_ARGUMENT,
    };
    association.send(context_id, &CommandSet::response_to(&command, status), None)?;
    Ok(Heard::Report)
}

/// A Failure Reason (0008,1197) in words. Source: PS3.3 C.14.1.1.
pub fn failure_reason(reason: u16) -> &'static str {
    match reason {
        0x0110 => "processing failure",
        0x0112 => "it is not there",
        0x0119 => "another SOP class is there",
        0x0122 => "its SOP class is not supported there",
        0x0131 => "the transaction is in use",
        0x0213 => "resource limitation",
        _ => "for a reason of its own",
    }
}

/// Success or a warning. Source: PS3.7 C.
pub fn is_taken(status: u16) -> bool {
    matches!(status, 0x0000 | 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF)
}

/// Reports, and waits for the answer; its status.
pub fn report_commitment(
    association: &mut Association,
    context_id: u8,
    references: &References,
) -> Result<u16, NetError> {
    let message_id = send_report(association, context_id, references)?;
    let (_, response) = association.next_response(message_id)?;
    super::status_of(association, &response)
}

/// Sends a report; the id of the message that is to be answered.
pub fn send_report(
    association: &mut Association,
    context_id: u8,
    references: &References,
) -> Result<u16, NetError> {
    let message_id = association.next_message_id();
    let event = match references.failed.is_empty() {
        true => EVENT_SUCCESSFUL,
        false => EVENT_FAILURES,
    };
    let mut command = CommandSet::new(dimse::N_EVENT_REPORT_RQ);
    command
        .set_affected_sop_class_uid(sop::STORAGE_COMMITMENT_PUSH)
        .set_message_id(message_id)
        .set_affected_sop_instance_uid(STORAGE_COMMITMENT_PUSH_INSTANCE)
        .set_event_type_id(event);
    let data = references.encode(is_explicit(association, context_id));
    association.send(context_id, &command, Some(&data))?;
    Ok(message_id)
}

fn is_explicit(association: &Association, context_id: u8) -> bool {
    let context = association.context(context_id);
    context.is_some_and(|context| context.transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN)
}
