//! The requesting side of negotiation (PS3.8 7.1).

use super::NetError;
use super::association::usable_pdu_length;
use super::association::{Association, Context, Peer, Timeouts, quick_ack};
use super::pdu::{
    self, ABORT, APPLICATION_CONTEXT, ASSOCIATE_AC, ASSOCIATE_LENGTH_MAX, ASSOCIATE_RJ,
    ASSOCIATE_RQ, AbortReason, Associate, ContextItem, Header, PDU_HEADER_LENGTH, PDU_LENGTH_MAX,
    Reject, RoleSelection,
};
use super::tls::{Facts, TlsError, TlsRequestor};
use super::wire::Wire;
use crate::dicom::{AeTitle, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use std::io::{self, IoSlice};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Most presentation contexts of an association: the odd numbers of a byte. PS3.8 7.1.1.13.
pub const CONTEXTS_MAX: usize = 128;

impl Association {
    /// Opens an association and negotiates; blocks.
    ///
    /// `address` may be a name and a port; each of its addresses is tried. `contexts` are pairs
    /// of an abstract syntax and the transfer syntaxes offered for it; they get the ids
    /// 1, 3, 5… in their order. An association without any accepted context is not an error
    /// here: look at [`Association::contexts`].
    pub fn request(
        address: impl ToSocketAddrs + std::fmt::Debug,
        calling: &AeTitle,
        called: &AeTitle,
        contexts: Vec<(String, Vec<String>)>,
        timeouts: Timeouts,
        roles: &[RoleSelection],
    ) -> Result<Association, NetError> {
        Association::request_over(None, address, calling, called, contexts, timeouts, roles)
    }

    /// The same, over TLS where `secure` says how, and by which name the peer is called.
    pub fn request_over(
        secure: Option<(&TlsRequestor, Option<&str>)>,
        address: impl ToSocketAddrs + std::fmt::Debug,
        calling: &AeTitle,
        called: &AeTitle,
        contexts: Vec<(String, Vec<String>)>,
        timeouts: Timeouts,
        roles: &[RoleSelection],
    ) -> Result<Association, NetError> {
        if contexts.len() > CONTEXTS_MAX {
            return Err(NetError::TooManyContexts(contexts.len()));
        }
        let proposal = Associate {
            protocol_version: 1,
            called: pdu::ae_title_field(called.as_str()),
            calling: pdu::ae_title_field(calling.as_str()),
            application_context: APPLICATION_CONTEXT.to_owned(),
            contexts: contexts
                .into_iter()
                .zip((1u8..=255).step_by(2))
                .map(|((abstract_syntax, transfer_syntaxes), id)| ContextItem {
                    id,
                    result: 0,
                    abstract_syntax,
                    transfer_syntaxes,
                })
                .collect(),
            pdu_length_max: PDU_LENGTH_MAX,
            implementation_class_uid: IMPLEMENTATION_CLASS_UID.to_owned(),
            implementation_version_name: IMPLEMENTATION_VERSION_NAME.to_owned(),
            roles: roles.to_vec(),
            ..Associate::default()
        };
        let stream = connect(address, timeouts.connect)?;
        stream.set_nodelay(true)?;
        let address = stream.peer_addr().map_err(NetError::from_io)?;
        let deadline = Instant::now() + timeouts.negotiation;
        let (stream, facts) = match secure {
            None => (Wire::plain(stream), Facts::default()),
            Some((tls, host)) => tls.shake(stream, host, deadline, timeouts.negotiation)?,
        };
        stream
            .socket()
            .set_write_timeout(Some(timeouts.negotiation))?;
        let request = proposal.encode(ASSOCIATE_RQ);
        stream
            .write_all(&mut [IoSlice::new(&request)], timeouts.negotiation)
            .map_err(NetError::from_io)?;
        let answer = match read_answer(&stream, deadline, timeouts.negotiation) {
            Ok(answer) => answer,
            Err(error) => {
                if let NetError::Protocol { reason, .. } = &error {
                    stream.write_at_once(&pdu::abort(2, *reason));
                }
                return Err(error);
            }
        };
        let peer = Peer {
            calling: calling.as_str().to_owned(),
            called: called.as_str().to_owned(),
            address,
            implementation_class_uid: answer.implementation_class_uid.clone(),
            implementation_version_name: answer.implementation_version_name.clone(),
            pdu_length_max: usable_pdu_length(answer.pdu_length_max),
            user: None,
            tls: None,
            certificate: None,
        }
        .over(facts);
        let contexts = accepted(&proposal, &answer);
        Association::new(stream, peer, contexts, true, PDU_LENGTH_MAX, timeouts)
    }
}

fn connect(
    address: impl ToSocketAddrs + std::fmt::Debug,
    timeout: Duration,
) -> Result<TcpStream, NetError> {
    let failed = |address: String, source| NetError::Connect { address, source };
    let mut last = None;
    let candidates = address
        .to_socket_addrs()
        .map_err(|source| failed(format!("{address:?}"), source))?;
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, timeout) {
            Ok(stream) => return Ok(stream),
            Err(source) => last = Some(failed(candidate.to_string(), source)),
        }
    }
    Err(last.unwrap_or_else(|| failed(format!("{address:?}"), io::ErrorKind::NotFound.into())))
}

/// The A-ASSOCIATE-AC; a rejection or an abort is an error.
fn read_answer(stream: &Wire, deadline: Instant, timeout: Duration) -> Result<Associate, NetError> {
    let mut raw = [0u8; PDU_HEADER_LENGTH];
    read_until(stream, &mut raw, deadline, timeout)?;
    let header = Header::parse(&raw);
    let invalid = |what| NetError::protocol(what, AbortReason::InvalidParameter);
    match header.pdu_type {
        ASSOCIATE_AC | ASSOCIATE_RJ | ABORT => {}
        // A TLS record: an alert, or a handshake of its own.
        0x15 | 0x16 if raw[1] == 3 => return Err(TlsError::wanted_by_acceptor().into()),
        other => {
            return Err(NetError::protocol(
                "answer to A-ASSOCIATE-RQ is none",
                AbortReason::misplaced(other),
            ));
        }
    }
    if header.length > ASSOCIATE_LENGTH_MAX {
        return Err(invalid("answer to A-ASSOCIATE-RQ longer than 1 MiB"));
    }
    let mut body = vec![0; header.length as usize];
    read_until(stream, &mut body, deadline, timeout)?;
    match header.pdu_type {
        ASSOCIATE_AC => Associate::decode(&body).map_err(invalid),
        ASSOCIATE_RJ => Err(Reject::decode(&body)
            .map_or(invalid("A-ASSOCIATE-RJ is too short"), NetError::Rejected)),
        _ => Err(NetError::Aborted {
            source_code: body.get(2).copied().unwrap_or(0),
            reason_code: body.get(3).copied().unwrap_or(0),
        }),
    }
}

fn read_until(
    stream: &Wire,
    mut into: &mut [u8],
    deadline: Instant,
    after: Duration,
) -> Result<(), NetError> {
    let late = || NetError::Timeout {
        during: "negotiating",
        after,
    };
    while !into.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        stream.socket().set_read_timeout(Some(left))?;
        match stream.read(into) {
            Ok(0) => return Err(NetError::Closed),
            Ok(count) => {
                quick_ack(stream.socket());
                into = &mut into[count..];
            }
            Err(error) => match error.kind() {
                // Looked at again above: over TLS a part of a record may have come.
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => {}
                _ => return Err(NetError::from_io(error)),
            },
        }
    }
    Ok(())
}

/// What was both proposed and accepted. A result for an id that we did not propose, or with a
/// transfer syntax that we did not offer, does not count.
fn accepted(proposal: &Associate, answer: &Associate) -> Vec<Context> {
    let mut contexts: Vec<Context> = Vec::new();
    for result in answer.contexts.iter().filter(|item| item.result == 0) {
        let proposed = proposal.contexts.iter().find(|item| item.id == result.id);
        let (Some(proposed), Some(syntax)) = (proposed, result.transfer_syntaxes.first()) else {
            continue;
        };
        if !proposed.transfer_syntaxes.contains(syntax)
            || contexts.iter().any(|context| context.id == result.id)
        {
            continue;
        }
        // Without role selection the acceptor is the SCP. Source: PS3.7 D.3.3.4.
        let role = answer
            .roles
            .iter()
            .find(|role| role.sop_class_uid == proposed.abstract_syntax);
        contexts.push(Context {
            id: result.id,
            abstract_syntax: proposed.abstract_syntax.clone(),
            transfer_syntax: syntax.clone(),
            peer_is_scp: role.is_none_or(|role| role.scu),
            extended: Vec::new(),
        });
    }
    contexts
}

#[cfg(test)]
mod tests {
    use super::super::loopback::{title, usual_contexts};
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn ask(answer: &'static [u8], timeouts: Timeouts) -> Result<(), NetError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        });
        let (calling, called) = (title("A"), title("B"));
        let result =
            Association::request(address, &calling, &called, usual_contexts(), timeouts, &[]);
        let result = result.map(drop);
        server.join().unwrap();
        result
    }

    #[test]
    fn every_answer_but_an_acceptance_is_a_fact_in_the_error() {
        let quick = Timeouts {
            negotiation: Duration::from_millis(100),
            ..Timeouts::default()
        };
        let error = ask(&[3, 0, 0, 0, 0, 4, 0, 1, 1, 7], quick).unwrap_err();
        assert_eq!(
            error.to_string(),
            "association rejected by the peer: called AE title not recognized"
        );
        let error = ask(&[7, 0, 0, 0, 0, 4, 0, 0, 2, 6], quick).unwrap_err();
        assert!(matches!(error, NetError::Aborted { reason_code: 6, .. }));
        let error = ask(b"220 mail server ready\r\n", quick).unwrap_err();
        assert!(matches!(error, NetError::Protocol { .. }), "{error}");
        let error = ask(&[2, 0, 0xff, 0xff, 0xff, 0xff], quick).unwrap_err();
        assert!(matches!(error, NetError::Protocol { .. }), "{error}");
        let error = ask(&[2, 0, 0, 0], quick).unwrap_err();
        assert!(matches!(error, NetError::Timeout { .. }), "{error}");
    }

    #[test]
    fn nobody_listening_is_said_with_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (a, b) = (title("A"), title("B"));
        let Err(error) = Association::request(address, &a, &b, vec![], Timeouts::default(), &[])
        else {
            panic!("somebody listened");
        };
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn what_was_not_offered_is_not_accepted() {
        let item = |id, syntax: &str| ContextItem {
            id,
            result: 0,
            abstract_syntax: "1.2".to_owned(),
            transfer_syntaxes: vec![syntax.to_owned()],
        };
        let proposal = Associate {
            contexts: vec![item(1, "1.5"), item(3, "1.5")],
            ..Associate::default()
        };
        let answer = Associate {
            contexts: vec![
                item(1, "1.6"),
                item(3, "1.5"),
                item(3, "1.5"),
                item(5, "1.5"),
            ],
            ..Associate::default()
        };
        let contexts = accepted(&proposal, &answer);
        let ids: Vec<u8> = contexts.iter().map(|context| context.id).collect();
        assert_eq!(ids, [3]);
    }
}
