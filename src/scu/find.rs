//! C-FIND as SCU (PS3.4 C.4.1, PS3.7 9.1.2).

use crate::net::pdu::AbortReason;
use crate::net::{Association, CommandSet, NetError, dimse};
use std::ops::ControlFlow;

/// Longest identifier of an answer that we keep, in bytes.
const IDENTIFIER_LENGTH_MAX: usize = 1 << 20;

/// Queries with an identifier encoded in the transfer syntax of the context; its abstract
/// syntax says which model is meant.
///
/// `answer` gets each pending answer's identifier. When it breaks, the query is cancelled and
/// what still comes is read away. Returns the final status, FE00H after a cancel.
pub fn find(
    association: &mut Association,
    context_id: u8,
    identifier: &[u8],
    answer: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<u16, NetError> {
    let sop_class_uid = association
        .context(context_id)
        .map(|context| context.abstract_syntax.clone())
        .ok_or(NetError::NoContext(context_id))?;
    let message_id = association.next_message_id();
    let mut command = CommandSet::new(dimse::C_FIND_RQ);
    command
        .set_affected_sop_class_uid(&sop_class_uid)
        .set_message_id(message_id)
        .set_priority(dimse::PRIORITY_MEDIUM);
    association.send(context_id, &command, Some(identifier))?;
    let mut wanted = true;
    loop {
        let (_, response) = association.next_response(message_id)?;
        let mut identifier = Vec::new();
        while let Some(fragment) = association.data_fragment()? {
            if identifier.len() + fragment.len() > IDENTIFIER_LENGTH_MAX {
                return Err(
                    association.violated("identifier longer than 1 MiB", AbortReason::NotSpecified)
                );
            }
            identifier.extend_from_slice(fragment);
        }
        let status = super::status_of(association, &response)?;
        // FF01H: pending, too, but some optional keys were not supported (PS3.4 table C.4-1).
        if !matches!(status, 0xFF00 | 0xFF01) {
            return Ok(status);
        }
        if wanted && answer(&identifier).is_break() {
            wanted = false;
            let mut cancel = CommandSet::new(dimse::C_CANCEL_RQ);
            cancel.set_responded_id(message_id);
            association.send(context_id, &cancel, None)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Received;
    use crate::net::loopback::{dcmtk, pair, policy, serve};

    /// Answers one query with up to `count` identifiers, then says how many went out.
    fn answer_one(association: &mut Association, count: u32) -> u32 {
        let Ok(Received::Command {
            context_id,
            command,
        }) = association.next_command()
        else {
            panic!("no query");
        };
        while association.data_fragment().unwrap().is_some() {}
        let id = command.message_id().unwrap();
        let mut sent = 0;
        let mut status = 0;
        while sent < count {
            if association.pending_cancel(id).unwrap() {
                status = 0xFE00;
                break;
            }
            // (0008,0052) CS "STUDY ", explicit; readable for any peer.
            let identifier = b"\x08\x00\x52\x00CS\x06\x00STUDY ";
            let pending = CommandSet::response_to(&command, 0xFF00);
            association
                .send(context_id, &pending, Some(identifier))
                .unwrap();
            sent += 1;
        }
        let last = CommandSet::response_to(&command, status);
        association.send(context_id, &last, None).unwrap();
        sent
    }

    #[test]
    fn all_answers_of_a_query_come() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || answer_one(&mut acceptor, 1000));
        let mut count = 0;
        let status = find(&mut requestor, 3, b"", &mut |identifier| {
            assert_eq!(identifier.len(), 14);
            count += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((status.unwrap(), count), (0, 1000));
        assert_eq!(server.join().unwrap(), 1000);
    }

    #[test]
    fn a_query_is_cancelled_when_enough_has_come() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || answer_one(&mut acceptor, u32::MAX));
        let mut count = 0;
        let status = find(&mut requestor, 3, b"", &mut |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!((status.unwrap(), count), (0xFE00, 1));
        assert!(server.join().unwrap() > 0);
    }

    #[test]
    fn dcmtk_findscu_cancels_and_is_answered() {
        let Some(mut findscu) = dcmtk("findscu") else {
            return;
        };
        let (address, server) = serve(policy(), false, |result| {
            let mut association = result.unwrap();
            let sent = answer_one(&mut association, 100_000);
            assert!(matches!(association.next_command(), Ok(Received::Release)));
            association.release_reply();
            sent
        });
        let port = address.port().to_string();
        let output = findscu
            .args(["-S", "--cancel", "3", "-k", "QueryRetrieveLevel=STUDY"])
            .args(["127.0.0.1", &port])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let sent = server.join().unwrap();
        assert!((3..100_000).contains(&sent), "{sent}");
    }
}
