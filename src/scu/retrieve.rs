//! C-MOVE and C-GET as SCU (PS3.4 C.4.2 and C.4.3, PS3.7 9.1.3 and 9.1.4).

use std::ops::ControlFlow;

use crate::dicom::AeTitle;
use crate::net::pdu::AbortReason;
use crate::net::{Association, CommandSet, NetError, Received, dimse};

/// The counters of a response; a peer may leave out each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubOperations {
    pub remaining: Option<u16>,
    pub completed: Option<u16>,
    pub failed: Option<u16>,
    pub warning: Option<u16>,
}

impl SubOperations {
    fn of(response: &CommandSet) -> SubOperations {
        SubOperations {
            remaining: response.remaining(),
            completed: response.completed(),
            failed: response.failed(),
            warning: response.warning(),
        }
    }

    /// Instances that were sent, whatever became of them.
    pub fn done(&self) -> u64 {
        let each = [self.completed, self.failed, self.warning];
        each.into_iter().flatten().map(u64::from).sum()
    }
}

/// How a retrieve ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrieveOutcome {
    /// 0000H: everything was sent; B000H: not everything; FE00H: after a cancel.
    pub status: u16,
    pub counts: SubOperations,
    /// (0000,0902), empty where there is none.
    pub comment: String,
}

/// Receives the instance of a C-STORE request that stands on the association, and answers it.
pub type Store<'s> = dyn FnMut(&mut Association, u8, &CommandSet) -> Result<(), NetError> + 's;

/// Asks the peer to send what the identifier names to another node, by the AE title under which the peer knows it.
///
/// `told` gets the counters of each pending response, which many peers give seldom or never; when it breaks, the request
/// is cancelled, and the end is waited for.
pub fn move_to(
    association: &mut Association,
    context_id: u8,
    destination: &AeTitle,
    identifier: &[u8],
    told: &mut dyn FnMut(&SubOperations) -> ControlFlow<()>,
) -> Result<RetrieveOutcome, NetError> {
    let mut command = CommandSet::new(dimse::C_MOVE_RQ);
    command.set_move_destination(destination.as_str());
    retrieve(association, context_id, command, identifier, None, told)
}

/// Asks the peer to send what the identifier names over this association.
pub fn get(
    association: &mut Association,
    context_id: u8,
    identifier: &[u8],
    store: &mut Store,
    told: &mut dyn FnMut(&SubOperations) -> ControlFlow<()>,
) -> Result<RetrieveOutcome, NetError> {
    let command = CommandSet::new(dimse::C_GET_RQ);
    retrieve(
        association,
        context_id,
        command,
        identifier,
        Some(store),
        told,
    )
}

fn retrieve(
    association: &mut Association,
    context_id: u8,
    mut command: CommandSet,
    identifier: &[u8],
    mut store: Option<&mut Store>,
    told: &mut dyn FnMut(&SubOperations) -> ControlFlow<()>,
) -> Result<RetrieveOutcome, NetError> {
    let sop_class_uid = association
        .context(context_id)
        .map(|context| context.abstract_syntax.clone())
        .ok_or(NetError::NoContext(context_id))?;
    let message_id = association.next_message_id();
    let request = command.command_field().unwrap_or_default();
    command
        .set_affected_sop_class_uid(&sop_class_uid)
        .set_message_id(message_id)
        .set_priority(dimse::PRIORITY_MEDIUM);
    association.send(context_id, &command, Some(identifier))?;
    let mut wanted = true;
    loop {
        let (at, response) = match association.next_command()? {
            Received::Command {
                context_id,
                command,
            } => (context_id, command),
            Received::Release => {
                association.release_reply();
                return Err(NetError::Closed);
            }
            Received::Abort => return Err(NetError::Closed),
        };
        if let Some(store) = &mut store
            && response.command_field() == Some(dimse::C_STORE_RQ)
        {
            store(association, at, &response)?;
        } else if response.command_field() == Some(request | dimse::RESPONSE)
            && response.responded_id() == Some(message_id)
        {
            let status = super::status_of(association, &response)?;
            if status & 0xFF00 != 0xFF00 {
                return Ok(RetrieveOutcome {
                    status,
                    counts: SubOperations::of(&response),
                    comment: response.error_comment().unwrap_or_default(),
                });
            }
        } else {
            return Err(association.violated(
                "another message where a response was due",
                AbortReason::NotSpecified,
            ));
        }
        // After an instance, too: a peer may give no pending responses.
        if wanted && told(&SubOperations::of(&response)).is_break() {
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
    use crate::net::loopback::{pair, title};

    fn request_of(acceptor: &mut Association) -> (u8, CommandSet) {
        let Ok(Received::Command {
            context_id,
            command,
        }) = acceptor.next_command()
        else {
            panic!("no request");
        };
        while acceptor.data_fragment().unwrap().is_some() {}
        (context_id, command)
    }

    #[test]
    fn a_move_counts_and_ends_with_the_peers_words() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || {
            let (context_id, command) = request_of(&mut acceptor);
            assert_eq!(command.move_destination().unwrap(), "HERE");
            for done in [0, 1] {
                let mut pending = CommandSet::response_to(&command, 0xFF00);
                pending.set_completed(done).set_remaining(2 - done);
                acceptor.send(context_id, &pending, None).unwrap();
            }
            let mut last = CommandSet::response_to(&command, 0xB000);
            last.set_completed(1).set_failed(1);
            last.set_error_comment("one is gone");
            acceptor.send(context_id, &last, None).unwrap();
        });
        let mut seen = Vec::new();
        let outcome = move_to(&mut requestor, 3, &title("HERE"), b"", &mut |counts| {
            seen.push(counts.done());
            ControlFlow::Continue(())
        })
        .unwrap();
        server.join().unwrap();
        assert_eq!(seen, [0, 1]);
        assert_eq!((outcome.status, outcome.counts.done()), (0xB000, 2));
        assert_eq!(outcome.comment, "one is gone");
    }

    #[test]
    fn a_move_is_cancelled_and_its_end_waited_for() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || {
            let (context_id, command) = request_of(&mut acceptor);
            let pending = CommandSet::response_to(&command, 0xFF00);
            acceptor.send(context_id, &pending, None).unwrap();
            let (_, cancel) = request_of(&mut acceptor);
            assert_eq!(cancel.command_field(), Some(dimse::C_CANCEL_RQ));
            assert_eq!(cancel.responded_id(), command.message_id());
            let last = CommandSet::response_to(&command, 0xFE00);
            acceptor.send(context_id, &last, None).unwrap();
        });
        let outcome = move_to(&mut requestor, 3, &title("HERE"), b"", &mut |_| {
            ControlFlow::Break(())
        });
        assert_eq!(outcome.unwrap().status, 0xFE00);
        server.join().unwrap();
    }
}
