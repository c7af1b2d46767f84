//! The accepting side of negotiation (PS3.8 7.1, 9.3): ours, for a storage server takes any
//! storage class and any transfer syntax, also those that no registry knows.

use super::NetError;
use super::association::{Association, Context, Peer, Timeouts, usable_pdu_length};
use super::extended;
use super::gate::{Caller, Denied, Gate, Granted};
use super::pdu::{
    self, ABORT, APPLICATION_CONTEXT, ASSOCIATE_AC, ASSOCIATE_LENGTH_MAX, ASSOCIATE_RQ,
    AbortReason, Associate, ContextItem, ExtendedNegotiation, Header, PDU_HEADER_LENGTH,
    PDU_LENGTH_MAX, Reject, RoleSelection,
};
use super::tls::{Facts, TlsAcceptor, TlsError};
use super::wire::{Tls, Wire};
use crate::dicom::{
    AeTitle, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Service, Services,
    UID_LENGTH_MAX, is_lossless_compressed, is_storage_class, sop, ts,
};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Accepting fails with the same facts as any other use of the network.
pub type AcceptError = NetError;

/// Whom we let in.
#[derive(Debug, Clone)]
pub struct AcceptPolicy {
    pub ae_title: AeTitle,
    /// Modalities are often configured with the wrong called AE title.
    pub accept_any_called: bool,
    /// Maximum Length Received that we announce, in bytes; [`PDU_LENGTH_MAX`] is good.
    pub pdu_length_max: u32,
    /// Says which of those that get so far are let in, and to what.
    pub gate: Arc<dyn Gate>,
}

/// What a requestor said until there was an association, or none: for the words about it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// At most the six of a PDU header; fewer when no more came.
    pub first_bytes: Vec<u8>,
    /// It came to the port for TLS.
    pub over_tls: bool,
    pub calling: String,
    pub called: String,
    pub implementation_version_name: String,
    /// Presentation contexts that were not accepted, the first few.
    pub refused: Vec<RefusedContext>,
    /// All of them.
    pub refused_count: usize,
    /// Why it was not let in.
    pub denied: Option<Denied>,
    /// What it may do.
    pub granted: Option<Granted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedContext {
    pub abstract_syntax: String,
    /// The first few that were offered.
    pub transfer_syntaxes: Vec<String>,
    /// The abstract syntax is none of ours; else none of the transfer syntaxes is.
    pub is_unknown: bool,
    /// It is one of ours, and not for this requestor.
    pub is_forbidden: bool,
}

/// What is remembered of contexts that were not accepted: it is held as long as the association.
const REFUSED_MAX: usize = 8;
const REFUSED_SYNTAXES_MAX: usize = 4;

impl Asked {
    fn says(&mut self, request: &Associate) {
        self.calling = pdu::text(&request.calling);
        self.called = pdu::text(&request.called);
        self.implementation_version_name = request.implementation_version_name.clone();
    }

    fn answered(&mut self, request: &Associate, answer: &Associate) {
        let pairs = request.contexts.iter().zip(&answer.contexts);
        for (offered, answered) in pairs.filter(|(_, answered)| answered.result != ACCEPTANCE) {
            self.refused_count += 1;
            if self.refused.len() == REFUSED_MAX {
                continue;
            }
            let syntaxes = offered.transfer_syntaxes.iter();
            let short = |uid: &String| uid.chars().take(UID_LENGTH_MAX).collect::<String>();
            self.refused.push(RefusedContext {
                abstract_syntax: short(&offered.abstract_syntax),
                transfer_syntaxes: syntaxes.take(REFUSED_SYNTAXES_MAX).map(short).collect(),
                is_unknown: answered.result == ABSTRACT_SYNTAX_NOT_SUPPORTED,
                is_forbidden: answered.result == USER_REJECTION,
            });
        }
    }
}

// Result of a presentation context. Source: PS3.8 table 9-18.
const ACCEPTANCE: u8 = 0;
const USER_REJECTION: u8 = 1;
const NO_REASON: u8 = 2;
const ABSTRACT_SYNTAX_NOT_SUPPORTED: u8 = 3;
const TRANSFER_SYNTAXES_NOT_SUPPORTED: u8 = 4;

/// Negotiates, and yields a blocking association; the answer has been sent.
///
/// The caller sets the deadline for all of it. `has_room` is asked once there is a request;
/// without room it is refused with "local limit exceeded", which tells the peer to come back.
/// With any error the peer has had its A-ABORT or A-ASSOCIATE-RJ, as far as it listens. `asked`
/// gets what it said, also when the deadline ends this.
pub async fn accept(
    mut stream: TcpStream,
    policy: &AcceptPolicy,
    has_room: impl FnOnce() -> bool,
    asked: &mut Asked,
) -> Result<Association, AcceptError> {
    let address = stream.peer_addr()?;
    stream.set_nodelay(true)?;
    let agreed = negotiate(
        &mut stream,
        policy,
        has_room,
        asked,
        address,
        Facts::default(),
    );
    agreed.await?.association(Wire::plain(blocking(stream)?))
}

/// The same over TLS: the handshake first.
pub async fn accept_over_tls(
    mut stream: TcpStream,
    tls: &TlsAcceptor,
    policy: &AcceptPolicy,
    has_room: impl FnOnce() -> bool,
    asked: &mut Asked,
) -> Result<Association, AcceptError> {
    let address = stream.peer_addr()?;
    stream.set_nodelay(true)?;
    asked.over_tls = true;
    let mut first = [0; PDU_HEADER_LENGTH];
    let count = stream.peek(&mut first).await.map_err(NetError::from_io)?;
    asked.first_bytes = first[..count].to_vec();
    match first[0] {
        _ if count == 0 => return Err(NetError::Closed),
        // It can be told in its own words.
        ASSOCIATE_RQ => {
            last_words(&mut stream, &pdu::abort(2, AbortReason::NotSpecified)).await;
            return Err(TlsError::plain_requestor().into());
        }
        _ => {}
    }
    let shaking = tokio_rustls::TlsAcceptor::from(tls.config.clone()).accept(stream);
    let mut stream = match shaking.into_fallible().await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            // The alert has been sent.
            last_words(&mut stream, &[]).await;
            let inner = error.get_ref();
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            return Err(match tls {
                Some(tls) => TlsError::accepting(tls).into(),
                None if error.kind() == std::io::ErrorKind::UnexpectedEof => NetError::Closed,
                None => NetError::from_io(error),
            });
        }
    };
    asked.first_bytes.clear();
    let facts = Facts::of(stream.get_ref().1);
    let agreed = negotiate(&mut stream, policy, has_room, asked, address, facts).await?;
    let (stream, connection) = stream.into_inner();
    let tls = Tls::new(rustls::Connection::Server(connection))?;
    agreed.association(Wire::tls(blocking(stream)?, tls))
}

fn blocking(stream: TcpStream) -> Result<std::net::TcpStream, NetError> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// What requestor and we have agreed on.
struct Agreed {
    peer: Peer,
    contexts: Vec<Context>,
    announced: u32,
}

impl Agreed {
    fn association(self, wire: Wire) -> Result<Association, NetError> {
        let timeouts = Timeouts::default();
        Association::new(
            wire,
            self.peer,
            self.contexts,
            false,
            self.announced,
            timeouts,
        )
    }
}

async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    policy: &AcceptPolicy,
    has_room: impl FnOnce() -> bool,
    asked: &mut Asked,
    address: SocketAddr,
    facts: Facts,
) -> Result<Agreed, AcceptError> {
    let request = match read_request(stream, &mut asked.first_bytes).await {
        Ok(request) => request,
        Err(error) => {
            if let NetError::Protocol { reason, .. } = &error {
                last_words(stream, &pdu::abort(2, *reason)).await;
            }
            return Err(error);
        }
    };
    asked.says(&request);
    if let Err(reject) = judge(&request, policy, !has_room()) {
        last_words(stream, &reject.encode()).await;
        return Err(NetError::Refused(reject));
    }
    let announced = match policy.pdu_length_max {
        0 => PDU_LENGTH_MAX,
        some => some,
    };
    let caller = Caller {
        calling: &asked.calling,
        called: &asked.called,
        address: address.ip(),
        certificate: facts.certificate.as_ref(),
        identity: request.identity.as_ref(),
    };
    let judged = policy.gate.judge(caller).await;
    let granted = match judged {
        Ok(granted) => granted,
        Err(denied) => {
            let reject = denied.reject;
            asked.denied = Some(denied);
            last_words(stream, &reject.encode()).await;
            return Err(NetError::Refused(reject));
        }
    };
    let (answer, contexts) = answer(&request, announced, &granted);
    asked.answered(&request, &answer);
    stream
        .write_all(&answer.encode(ASSOCIATE_AC))
        .await
        .map_err(NetError::from_io)?;
    // Over TLS it may still be here.
    stream.flush().await.map_err(NetError::from_io)?;
    let peer = Peer {
        user: granted.user.clone(),
        ..peer_of(&request, address).over(facts)
    };
    asked.granted = Some(granted);
    Ok(Agreed {
        peer,
        contexts,
        announced,
    })
}

async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    first_bytes: &mut Vec<u8>,
) -> Result<Associate, NetError> {
    let mut raw = [0u8; PDU_HEADER_LENGTH];
    while first_bytes.len() < raw.len() {
        let at = first_bytes.len();
        match stream.read(&mut raw[at..]).await {
            Ok(0) => return Err(NetError::Closed),
            Ok(count) => first_bytes.extend_from_slice(&raw[at..at + count]),
            Err(error) => return Err(NetError::from_io(error)),
        }
    }
    let header = Header::parse(&raw);
    // It has gone: nobody hears an abort (PS3.8 table 9-10, Sta2: AA-2).
    if header.pdu_type == ABORT {
        return Err(NetError::Closed);
    }
    if header.pdu_type != ASSOCIATE_RQ {
        return Err(NetError::protocol(
            "first bytes are not an A-ASSOCIATE-RQ",
            AbortReason::misplaced(header.pdu_type),
        ));
    }
    if header.length > ASSOCIATE_LENGTH_MAX {
        return Err(NetError::protocol(
            "A-ASSOCIATE-RQ longer than 1 MiB",
            AbortReason::InvalidParameter,
        ));
    }
    // Grows with what really comes: a claimed length alone costs nothing.
    let mut body = Vec::new();
    let read = (&mut *stream)
        .take(u64::from(header.length))
        .read_to_end(&mut body)
        .await
        .map_err(NetError::from_io)?;
    if read < header.length as usize {
        return Err(NetError::Closed);
    }
    Associate::decode(&body).map_err(|what| NetError::protocol(what, AbortReason::InvalidParameter))
}

/// So long the peer has to close the connection after an abort or a rejection; the ARTIM timer of PS3.8 9.1.5.
const CLOSING: Duration = Duration::from_secs(1);
/// What is read of it meanwhile, bytes.
const REST_BYTES_MAX: usize = 256 << 10;

/// Sends an abort or a rejection and our end of stream behind it, and waits a moment for the peer to close: unread bytes
/// would turn our close into a reset, which can overtake the answer. Source: PS3.8 9.2, state 13. The deadline of the caller
/// covers a peer that does not read.
async fn last_words<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.shutdown().await;
        let rest = async {
            let (mut rest, mut left) = ([0u8; 4096], REST_BYTES_MAX);
            while let Ok(count) = stream.read(&mut rest).await
                && count > 0
                && left > count
            {
                left -= count;
            }
        };
        let _ = tokio::time::timeout(CLOSING, rest).await;
    }
}

/// Whether there is to be an association at all.
fn judge(request: &Associate, policy: &AcceptPolicy, reject_busy: bool) -> Result<(), Reject> {
    // Only bit 0 is tested, whatever later versions set. Source: PS3.8 9.3.2.
    if request.protocol_version & 1 == 0 {
        return Err(Reject::PROTOCOL_VERSION);
    }
    if request.application_context != APPLICATION_CONTEXT {
        return Err(Reject::APPLICATION_CONTEXT);
    }
    if !policy.accept_any_called
        && !pdu::text(&request.called).eq_ignore_ascii_case(policy.ae_title.as_str())
    {
        return Err(Reject::CALLED_AE_TITLE);
    }
    if reject_busy {
        return Err(Reject::LOCAL_LIMIT);
    }
    Ok(())
}

fn peer_of(request: &Associate, address: SocketAddr) -> Peer {
    Peer {
        calling: pdu::text(&request.calling),
        called: pdu::text(&request.called),
        address,
        implementation_class_uid: request.implementation_class_uid.clone(),
        implementation_version_name: request.implementation_version_name.clone(),
        pdu_length_max: usable_pdu_length(request.pdu_length_max),
        user: None,
        tls: None,
        certificate: None,
    }
}

/// The A-ASSOCIATE-AC, and the contexts accepted in it.
fn answer(request: &Associate, announced: u32, granted: &Granted) -> (Associate, Vec<Context>) {
    let wants_get = request
        .contexts
        .iter()
        .any(|item| is_get(&item.abstract_syntax));
    let roles: Vec<RoleSelection> = request
        .roles
        .iter()
        .filter_map(|proposed| {
            let storage = is_storage_class(&proposed.sop_class_uid);
            let both = storage || proposed.sop_class_uid == sop::STORAGE_COMMITMENT_PUSH;
            (both || is_service(&proposed.sop_class_uid)).then(|| RoleSelection {
                sop_class_uid: proposed.sop_class_uid.clone(),
                scu: proposed.scu,
                // Only storage and storage commitment are something that we, too, ask of others.
                scp: proposed.scp && both,
            })
        })
        .collect();
    let mut agreed: Vec<ExtendedNegotiation> = Vec::new();
    for proposed in &request.extended {
        let uid = &proposed.sop_class_uid;
        // The first of several for one class counts: what is answered stays short.
        if agreed.iter().all(|other| other.sop_class_uid != *uid)
            && let Some(information) = extended::answer(uid, &proposed.information)
        {
            agreed.push(ExtendedNegotiation {
                sop_class_uid: uid.clone(),
                information,
            });
        }
    }
    // Of who was found to be who it says. Source: PS3.7 D.3.3.7.2.
    let wants_word = granted.user.is_some()
        && (request.identity.as_ref()).is_some_and(|one| one.positive_response_requested);
    let mut seen = HashSet::new();
    let mut contexts = Vec::new();
    let mut results = Vec::with_capacity(request.contexts.len());
    for item in &request.contexts {
        let chosen = if item.id % 2 == 0 || !seen.insert(item.id) {
            Err(NO_REASON)
        } else if is_forbidden(&item.abstract_syntax, granted.services, wants_get) {
            Err(USER_REJECTION)
        } else {
            choose(item, wants_get)
        };
        let (result, syntax) = match chosen {
            Ok(syntax) => (ACCEPTANCE, syntax.to_owned()),
            // Not significant, but some requestors insist on one being there (PS3.8 9.3.3.2).
            Err(result) => {
                let first = item.transfer_syntaxes.first().map(String::as_str);
                (
                    result,
                    first.unwrap_or(ts::IMPLICIT_VR_LITTLE_ENDIAN).to_owned(),
                )
            }
        };
        if result == ACCEPTANCE {
            contexts.push(Context {
                id: item.id,
                abstract_syntax: item.abstract_syntax.clone(),
                transfer_syntax: syntax.clone(),
                peer_is_scp: roles
                    .iter()
                    .any(|role| role.scp && role.sop_class_uid == item.abstract_syntax),
                extended: agreed
                    .iter()
                    .find(|extended| extended.sop_class_uid == item.abstract_syntax)
                    .map(|extended| extended.information.clone())
                    .unwrap_or_default(),
            });
        }
        results.push(ContextItem {
            id: item.id,
            result,
            abstract_syntax: String::new(),
            transfer_syntaxes: vec![syntax],
        });
    }
    let answer = Associate {
        protocol_version: 1,
        called: request.called,
        calling: request.calling,
        application_context: APPLICATION_CONTEXT.to_owned(),
        contexts: results,
        pdu_length_max: announced,
        implementation_class_uid: IMPLEMENTATION_CLASS_UID.to_owned(),
        implementation_version_name: IMPLEMENTATION_VERSION_NAME.to_owned(),
        roles,
        extended: agreed,
        identity: None,
        identity_response: wants_word.then(Vec::new),
    };
    (answer, contexts)
}

/// A service of ours that this requestor may not use. Beside C-GET, storage contexts carry what it gets.
fn is_forbidden(abstract_syntax: &str, services: Services, wants_get: bool) -> bool {
    match Service::of(abstract_syntax) {
        Some(Service::Store) if wants_get && services.has(Service::Get) => false,
        Some(service) => !services.has(service),
        None => false,
    }
}

/// The transfer syntax for a proposed context, or why there is none.
fn choose(item: &ContextItem, wants_get: bool) -> Result<&str, u8> {
    let offered = |wanted: &str| {
        item.transfer_syntaxes
            .iter()
            .map(String::as_str)
            .find(|syntax| *syntax == wanted)
    };
    let explicit = offered(ts::EXPLICIT_VR_LITTLE_ENDIAN);
    let implicit = offered(ts::IMPLICIT_VR_LITTLE_ENDIAN);
    let first = item
        .transfer_syntaxes
        .iter()
        .map(String::as_str)
        .find(|syntax| !syntax.is_empty());
    let chosen = if is_service(&item.abstract_syntax) {
        // Horos offers JPEG on query contexts, too; identifiers are never compressed.
        explicit.or(implicit)
    } else if !is_storage_class(&item.abstract_syntax) {
        return Err(ABSTRACT_SYNTAX_NOT_SUPPORTED);
    } else if wants_get {
        // We are going to send on it, and can make these of whatever is stored.
        explicit.or(implicit).or(first)
    } else {
        item.transfer_syntaxes
            .iter()
            .map(String::as_str)
            .find(|syntax| is_lossless_compressed(syntax))
            .or(explicit)
            .or(first)
    };
    chosen.ok_or(TRANSFER_SYNTAXES_NOT_SUPPORTED)
}

fn is_get(abstract_syntax: &str) -> bool {
    matches!(
        abstract_syntax,
        sop::PATIENT_ROOT_GET | sop::STUDY_ROOT_GET | sop::PATIENT_STUDY_ONLY_GET
    )
}

/// Services whose data sets, if any, are identifiers, or name instances.
fn is_service(abstract_syntax: &str) -> bool {
    is_get(abstract_syntax)
        || matches!(
            abstract_syntax,
            sop::VERIFICATION
                | sop::PATIENT_ROOT_FIND
                | sop::PATIENT_ROOT_MOVE
                | sop::STUDY_ROOT_FIND
                | sop::STUDY_ROOT_MOVE
                | sop::PATIENT_STUDY_ONLY_FIND
                | sop::PATIENT_STUDY_ONLY_MOVE
                | sop::STORAGE_COMMITMENT_PUSH
        )
}

#[cfg(test)]
mod tests {
    use super::super::loopback::{CT, Only, dcmtk, policy, read_pdu, serve, title};
    use super::super::pdu::{ASSOCIATE_RJ, ae_title_field};
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};

    const J2K: &str = ts::JPEG_2000_LOSSLESS;
    const BASELINE: &str = ts::JPEG_BASELINE;
    const EXPLICIT: &str = ts::EXPLICIT_VR_LITTLE_ENDIAN;
    const IMPLICIT: &str = ts::IMPLICIT_VR_LITTLE_ENDIAN;
    const BIG: &str = ts::EXPLICIT_VR_BIG_ENDIAN;

    fn item(id: u8, class: &str, syntaxes: &[&str]) -> ContextItem {
        ContextItem {
            id,
            result: 0,
            abstract_syntax: class.to_owned(),
            transfer_syntaxes: syntaxes.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    fn request(contexts: Vec<ContextItem>) -> Associate {
        Associate {
            protocol_version: 1,
            called: ae_title_field("kura"),
            calling: ae_title_field("CT 1"),
            application_context: APPLICATION_CONTEXT.to_owned(),
            contexts,
            ..Associate::default()
        }
    }

    fn everything() -> Granted {
        Granted {
            services: Services::ALL,
            by: String::new(),
            user: None,
        }
    }

    fn results(contexts: Vec<ContextItem>) -> Vec<(u8, String)> {
        let (answer, _) = answer(&request(contexts), PDU_LENGTH_MAX, &everything());
        answer
            .contexts
            .into_iter()
            .map(|mut item| (item.result, item.transfer_syntaxes.remove(0)))
            .collect()
    }

    /// Abstract syntax, transfer syntaxes offered, the one taken.
    #[test]
    fn the_transfer_syntax_suits_the_service() {
        let cases: &[(&str, &[&str], Result<&str, u8>)] = &[
            (sop::VERIFICATION, &[IMPLICIT], Ok(IMPLICIT)),
            (
                sop::STUDY_ROOT_FIND,
                &[J2K, IMPLICIT, EXPLICIT],
                Ok(EXPLICIT),
            ),
            (sop::STUDY_ROOT_MOVE, &[J2K, BIG], Err(4)),
            (CT, &[IMPLICIT, EXPLICIT, J2K], Ok(J2K)),
            (CT, &[IMPLICIT, EXPLICIT], Ok(EXPLICIT)),
            (CT, &[BASELINE, IMPLICIT], Ok(BASELINE)),
            (CT, &["1.2.840.113619.5.2"], Ok("1.2.840.113619.5.2")),
            (CT, &[], Err(4)),
            ("1.2.840.10008.5.1.4.31", &[EXPLICIT], Err(3)),
            ("", &[EXPLICIT], Err(3)),
        ];
        for (class, offered, expected) in cases {
            assert_eq!(
                choose(&item(1, class, offered), false),
                *expected,
                "{class} {offered:?}"
            );
        }
    }

    #[test]
    fn storage_contexts_beside_c_get_take_what_we_can_always_send() {
        let found = results(vec![
            item(1, CT, &[J2K, IMPLICIT, EXPLICIT]),
            item(3, CT, &[J2K, IMPLICIT]),
            item(5, CT, &[J2K]),
            item(7, sop::STUDY_ROOT_GET, &[EXPLICIT]),
        ]);
        let taken: Vec<&str> = found.iter().map(|(_, syntax)| syntax.as_str()).collect();
        assert_eq!(taken, [EXPLICIT, IMPLICIT, J2K, EXPLICIT]);
    }

    #[test]
    fn even_and_repeated_ids_are_refused_one_by_one() {
        let found = results(vec![
            item(0, CT, &[EXPLICIT]),
            item(1, CT, &[EXPLICIT]),
            item(2, CT, &[EXPLICIT]),
            item(1, sop::VERIFICATION, &[EXPLICIT]),
            item(255, CT, &[EXPLICIT]),
        ]);
        let results: Vec<u8> = found.iter().map(|(result, _)| *result).collect();
        assert_eq!(results, [2, 0, 2, 2, 0]);
    }

    /// What may be done, what is wanted in which classes, and the result of each.
    #[test]
    fn contexts_of_services_that_are_not_allowed_are_rejected_by_the_user() {
        use Service::{Commitment, Echo, Find, Get, Move, Store};
        let classes = [
            sop::VERIFICATION,
            CT,
            sop::STUDY_ROOT_FIND,
            sop::STUDY_ROOT_MOVE,
            sop::STORAGE_COMMITMENT_PUSH,
            "1.2.840.10008.5.1.4.31",
            sop::STUDY_ROOT_GET,
        ];
        let cases: [(&[Service], bool, &[u8]); 5] = [
            (&[Echo], false, &[0, 1, 1, 1, 1, 3]),
            (&[Store, Commitment], false, &[1, 0, 1, 1, 0, 3]),
            (&[Find, Move], true, &[1, 1, 0, 0, 1, 3, 1]),
            // The storage context is for what it gets.
            (&[Get], true, &[1, 0, 1, 1, 1, 3, 0]),
            (&[Get], false, &[1, 1, 1, 1, 1, 3]),
        ];
        for (allowed, wants_get, expected) in cases {
            let wanted = &classes[..if wants_get { 7 } else { 6 }];
            let items = (1u8..).step_by(2).zip(wanted);
            let request = request(
                items
                    .map(|(id, class)| item(id, class, &[EXPLICIT]))
                    .collect(),
            );
            let granted = Granted {
                services: allowed.iter().copied().collect(),
                ..everything()
            };
            let (answer, contexts) = answer(&request, PDU_LENGTH_MAX, &granted);
            let results: Vec<u8> = answer.contexts.iter().map(|item| item.result).collect();
            assert_eq!(results, expected, "{allowed:?}");
            assert_eq!(
                contexts.len(),
                results.iter().filter(|one| **one == 0).count()
            );
            let mut asked = Asked::default();
            asked.answered(&request, &answer);
            let forbidden = asked.refused.iter().filter(|one| one.is_forbidden).count();
            assert_eq!(forbidden, results.iter().filter(|one| **one == 1).count());
        }
    }

    /// Whether a positive response was asked for, whose password was right, and whether there is one.
    #[test]
    fn an_identity_is_confirmed_where_that_was_asked_and_it_was_verified() {
        for (asked, user, expected) in [
            (true, Some("sato"), Some(Vec::new())),
            (false, Some("sato"), None),
            (true, None, None),
        ] {
            let mut request = request(vec![item(1, CT, &[EXPLICIT])]);
            request.identity = Some(pdu::UserIdentity {
                kind: 2,
                positive_response_requested: asked,
                ..Default::default()
            });
            let granted = Granted {
                user: user.map(str::to_owned),
                ..everything()
            };
            let (answer, _) = answer(&request, PDU_LENGTH_MAX, &granted);
            assert_eq!(answer.identity_response, expected);
        }
    }

    #[test]
    fn a_proposed_scp_role_is_accepted_for_storage_and_its_commitment_only() {
        let mut request = request(vec![item(1, CT, &[EXPLICIT])]);
        let commitment = sop::STORAGE_COMMITMENT_PUSH;
        for class in [CT, sop::STUDY_ROOT_GET, commitment, "1.2.3.4.5"] {
            request.roles.push(RoleSelection {
                sop_class_uid: class.to_owned(),
                scu: true,
                scp: true,
            });
        }
        let (answer, contexts) = answer(&request, PDU_LENGTH_MAX, &everything());
        assert!(contexts[0].peer_is_scp);
        let roles: Vec<bool> = answer.roles.iter().map(|role| role.scp).collect();
        assert!(roles.starts_with(&[true, false, true]), "{roles:?}");
    }

    #[test]
    fn extended_negotiation_is_answered_once_for_each_class() {
        let mut request = request(vec![
            item(1, sop::STUDY_ROOT_FIND, &[EXPLICIT]),
            item(3, CT, &[EXPLICIT]),
            item(5, sop::STUDY_ROOT_FIND, &[IMPLICIT]),
        ]);
        let classes = [CT, sop::STUDY_ROOT_FIND, sop::STUDY_ROOT_FIND, "1.2.3"];
        for (class, fuzzy) in classes.into_iter().zip([1, 1, 0, 1]) {
            request.extended.push(ExtendedNegotiation {
                sop_class_uid: class.to_owned(),
                information: vec![0, 0, fuzzy],
            });
        }
        let (answer, contexts) = answer(&request, PDU_LENGTH_MAX, &everything());
        let expected = ExtendedNegotiation {
            sop_class_uid: sop::STUDY_ROOT_FIND.to_owned(),
            information: vec![1, 0, 1],
        };
        assert_eq!(answer.extended, [expected]);
        let of_contexts: Vec<&[u8]> = contexts.iter().map(|c| c.extended.as_slice()).collect();
        assert_eq!(of_contexts, [&[1, 0, 1][..], &[], &[1, 0, 1]]);
    }

    /// What is odd in the request, and what the peer is told.
    #[test]
    fn an_association_is_rejected_for_the_right_reason() {
        let good = request(vec![item(1, CT, &[EXPLICIT])]);
        let strict = AcceptPolicy {
            accept_any_called: false,
            ..policy()
        };
        assert_eq!(
            judge(&good, &strict, false),
            Ok(()),
            "AE titles ignore case"
        );
        let version_3 = Associate {
            protocol_version: 3,
            ..good.clone()
        };
        assert_eq!(judge(&version_3, &strict, false), Ok(()));
        let version_2 = Associate {
            protocol_version: 2,
            ..good.clone()
        };
        let no_context = Associate {
            application_context: String::new(),
            ..good.clone()
        };
        let other_title = Associate {
            called: ae_title_field("OTHER"),
            ..good.clone()
        };
        let cases = [
            (version_2, false, Reject::PROTOCOL_VERSION),
            (no_context, false, Reject::APPLICATION_CONTEXT),
            (other_title, false, Reject::CALLED_AE_TITLE),
            (good, true, Reject::LOCAL_LIMIT),
        ];
        for (request, busy, expected) in cases {
            let (address, server) = serve(strict.clone(), busy, |result| result.map(drop));
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(&request.encode(ASSOCIATE_RQ)).unwrap();
            let (kind, body) = read_pdu(&mut stream);
            assert_eq!(kind, ASSOCIATE_RJ);
            assert_eq!(Reject::decode(&body), Some(expected));
            let result = server.join().unwrap();
            assert!(matches!(result, Err(NetError::Refused(reject)) if reject == expected));
        }
    }

    #[test]
    fn a_request_with_128_contexts_is_answered_with_128() {
        let wanted: Vec<(String, Vec<String>)> = (0..128)
            .map(|_| {
                (
                    CT.to_owned(),
                    vec![EXPLICIT.to_owned(), IMPLICIT.to_owned()],
                )
            })
            .collect();
        let (address, server) = serve(policy(), false, |result| result.unwrap());
        let ask = |contexts| {
            let (calling, called) = (title("A"), title("B"));
            Association::request(
                address,
                &calling,
                &called,
                contexts,
                Timeouts::default(),
                &[],
            )
        };
        let too_many = [&wanted[..], &wanted[..1]].concat();
        assert!(matches!(ask(too_many), Err(NetError::TooManyContexts(129))));
        let requestor = ask(wanted).unwrap();
        let acceptor = server.join().unwrap();
        assert_eq!(requestor.contexts().len(), 128);
        assert_eq!(acceptor.contexts().len(), 128);
        assert_eq!(requestor.context(255).unwrap().transfer_syntax, EXPLICIT);
        assert!(requestor.context(1).unwrap().peer_is_scp);
        assert!(!acceptor.context(1).unwrap().peer_is_scp);
        assert_eq!(acceptor.peer().calling, "A");
        assert_eq!(
            requestor.peer().implementation_version_name,
            IMPLEMENTATION_VERSION_NAME
        );
    }

    /// Method: a gate that lets in to C-ECHO alone, and one that lets in nobody; what each peer sees, and what is known here.
    #[test]
    fn the_gate_is_asked_who_may_do_what() {
        struct Nobody;
        impl Gate for Nobody {
            fn judge<'a>(&'a self, caller: Caller<'a>) -> super::super::gate::Judging<'a> {
                assert_eq!((caller.calling, caller.called), ("A", "B"));
                assert!(caller.address.is_loopback());
                let denied = Denied {
                    reject: Reject::CALLING_AE_TITLE,
                    reason: "unknown-caller",
                    end: String::new(),
                    next: String::new(),
                };
                Box::pin(async { Err(denied) })
            }
        }
        let wanted = || super::super::loopback::usual_contexts();
        let ask = |address| {
            let (calling, called) = (title("A"), title("B"));
            let timeouts = Timeouts::default();
            Association::request(address, &calling, &called, wanted(), timeouts, &[])
        };
        let gated = |gate: Arc<dyn Gate>| AcceptPolicy { gate, ..policy() };
        let nobody = gated(Arc::new(Nobody));
        let (address, server) = serve(nobody, false, |result| result.map(drop));
        let rejected = ask(address).map(drop);
        assert!(
            matches!(rejected, Err(NetError::Rejected(Reject::CALLING_AE_TITLE))),
            "{rejected:?}"
        );
        assert!(matches!(server.join().unwrap(), Err(NetError::Refused(_))));
        let echo: Services = [Service::Echo].into_iter().collect();
        let some = gated(Arc::new(Only(echo)));
        let (address, server) = serve(some, false, |result| result.unwrap());
        let requestor = ask(address).unwrap();
        let ids = |one: &Association| one.contexts().iter().map(|c| c.id).collect::<Vec<u8>>();
        assert_eq!(ids(&requestor), [1]);
        assert_eq!(ids(&server.join().unwrap()), [1]);
    }

    /// First bytes on the connection, and the reason in the abort.
    #[test]
    fn strangers_are_sent_away() {
        let long = [1, 0, 0x7f, 0, 0, 0];
        let http: &[u8] = b"GET / HTTP/1.1\r\nHost: kura\r\n\r\n";
        let cases: [(&[u8], u8); 4] = [
            (http, 1),
            (&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0], 2),
            (&long, 6),
            (&[1, 0, 0, 0, 0, 4, 0, 1, 0, 0], 6),
        ];
        for (bytes, reason) in cases {
            let (address, server) = serve(policy(), false, |result| result.map(drop));
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
            let (kind, body) = read_pdu(&mut stream);
            assert_eq!((kind, body[2], body[3]), (ABORT, 2, reason));
            assert!(matches!(
                server.join().unwrap(),
                Err(NetError::Protocol { .. })
            ));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn garbage_instead_of_a_request_never_panics(
            noise in proptest::collection::vec(any::<u8>(), 0..200), framed in any::<bool>(),
        ) {
            let (address, server) = serve(policy(), false, |result| result.map(drop));
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            if framed {
                stream.write_all(&[1, 0, 0, 0, 0, noise.len() as u8]).unwrap();
            }
            stream.write_all(&noise).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
            prop_assert!(server.join().unwrap().is_err());
        }
    }

    #[test]
    fn dcmtk_echoscu_is_answered() {
        use super::super::{CommandSet, Received};
        let Some(mut echoscu) = dcmtk("echoscu") else {
            return;
        };
        let (address, server) = serve(policy(), false, |result| {
            let mut association = result.unwrap();
            let mut count = 0;
            while let Received::Command {
                context_id,
                command,
            } = association.next_command().unwrap()
            {
                let response = CommandSet::response_to(&command, 0);
                association.send(context_id, &response, None).unwrap();
                count += 1;
            }
            association.release_reply();
            (count, association.peer().clone())
        });
        let port = address.port().to_string();
        let output = echoscu
            .args([
                "--repeat",
                "3",
                "-pts",
                "5",
                "-ppc",
                "128",
                "127.0.0.1",
                &port,
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let (count, peer) = server.join().unwrap();
        assert_eq!(count, 3);
        assert_eq!(peer.calling, "ECHOSCU");
        assert!(peer.implementation_version_name.starts_with("OFFIS"));
    }
}
