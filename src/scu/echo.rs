//! C-ECHO as SCU (PS3.4 A.4, PS3.7 9.1.5).

use crate::dicom::sop;
use crate::net::{Association, CommandSet, NetError, dimse};

/// Asks the peer whether it is there; its status, 0000H if it is.
pub fn echo(association: &mut Association) -> Result<u16, NetError> {
    let context_id = association
        .context_for(sop::VERIFICATION, None)
        .map(|context| context.id)
        .ok_or(NetError::NoContext(0))?;
    let message_id = association.next_message_id();
    let mut command = CommandSet::new(dimse::C_ECHO_RQ);
    command
        .set_affected_sop_class_uid(sop::VERIFICATION)
        .set_message_id(message_id);
    association.send(context_id, &command, None)?;
    let (_, response) = association.next_response(message_id)?;
    super::status_of(association, &response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Received;
    use crate::net::loopback::pair;

    #[test]
    fn an_echo_yields_the_peers_status() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || {
            for status in [0, 0x0210] {
                let Ok(Received::Command {
                    context_id,
                    command,
                }) = acceptor.next_command()
                else {
                    panic!("no request");
                };
                let response = CommandSet::response_to(&command, status);
                acceptor.send(context_id, &response, None).unwrap();
            }
            // An answer to a request that was never made.
            acceptor.next_command().unwrap();
            let mut response = CommandSet::new(dimse::C_ECHO_RSP);
            response.set_responded_id(999).set_status(0);
            acceptor.send(1, &response, None).unwrap();
            acceptor.next_command().map(drop)
        });
        assert_eq!(echo(&mut requestor).unwrap(), 0);
        assert_eq!(echo(&mut requestor).unwrap(), 0x0210);
        assert!(matches!(
            echo(&mut requestor),
            Err(NetError::Protocol { .. })
        ));
        server.join().unwrap().unwrap();
    }
}
