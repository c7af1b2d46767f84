//! Storage commitment (PS3.4 J): a request as SCU, and a report as SCP, over an association of either side.

use crate::dicom::references::STORAGE_COMMITMENT_PUSH_INSTANCE;
use crate::dicom::{References, sop, ts};
use crate::net::{Association, CommandSet, NetError, dimse};

/// PS3.4 J.3.2: request storage commitment.
pub const ACTION_REQUEST: u16 = 1;
/// PS3.4 J.3.3: request successful; request complete, failures exist.
pub const EVENT_SUCCESSFUL: u16 = 1;
pub const EVENT_FAILURES: u16 = 2;

/// Asks for the commitment of instances; the status of the answer, 0000H where the peer will report.
pub fn request_commitment(
    association: &mut Association,
    context_id: u8,
    references: &References,
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
    let (_, response) = association.next_response(message_id)?;
    super::status_of(association, &response)
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
