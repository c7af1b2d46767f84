//! A DICOM client made of bytes (PS3.8 Annex, PS3.7 9): it sends data sets
//! verbatim, keeps answers verbatim, and can misbehave where a test wants it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use thiserror::Error;

use super::build::{Tag, put};
use super::elements::{self, Syntax};

pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
pub const PATIENT_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.1.1";
pub const PATIENT_ROOT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.1.2";
pub const PATIENT_ROOT_GET: &str = "1.2.840.10008.5.1.4.1.2.1.3";
pub const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
pub const STUDY_ROOT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
pub const STUDY_ROOT_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";

const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
const IMPLEMENTATION: &str = "2.25.311842160177163158364219206498702465001";

pub const C_STORE_RQ: u16 = 0x0001;
pub const C_GET_RQ: u16 = 0x0010;
pub const C_FIND_RQ: u16 = 0x0020;
pub const C_MOVE_RQ: u16 = 0x0021;
pub const C_ECHO_RQ: u16 = 0x0030;
pub const C_CANCEL_RQ: u16 = 0x0FFF;

/// No answer within this time fails a test.
const READ_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
pub enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("association rejected: result {result}, source {source_}, reason {reason}")]
    Rejected { result: u8, source_: u8, reason: u8 },
    #[error("association aborted: source {source_}, reason {reason}")]
    Aborted { source_: u8, reason: u8 },
    #[error("the peer asked to release")]
    Released,
    #[error("{0}")]
    Protocol(String),
}

type Result<T> = std::result::Result<T, WireError>;

fn protocol<T>(what: impl Into<String>) -> Result<T> {
    Err(WireError::Protocol(what.into()))
}

/// A presentation context as the acceptor answered it.
#[derive(Clone, Debug)]
pub struct Answered {
    pub id: u8,
    pub abstract_syntax: String,
    /// 0 = accepted (PS3.8 Table 9-18).
    pub result: u8,
    pub transfer_syntax: String,
}

/// One DIMSE message: command elements and data set bytes.
#[derive(Debug)]
pub struct Message {
    pub context_id: u8,
    pub command: Vec<(Tag, Vec<u8>)>,
    pub data_set: Option<Vec<u8>>,
}

impl Message {
    pub fn number(&self, element: u16) -> Option<u16> {
        let value = elements::raw(&self.command, 0, element)?;
        Some(u16::from_le_bytes(value.get(..2)?.try_into().ok()?))
    }

    pub fn text(&self, element: u16) -> Option<String> {
        elements::find(&self.command, 0, element)
    }

    pub fn status(&self) -> u16 {
        self.number(0x0900).expect("a status in a response")
    }

    /// Error Comment (0000,0902).
    pub fn comment(&self) -> Option<String> {
        self.text(0x0902)
    }

    /// Remaining, completed, failed, warning sub-operations.
    pub fn counters(&self) -> [Option<u16>; 4] {
        [0x1020, 0x1021, 0x1022, 0x1023].map(|element| self.number(element))
    }

    /// Failed SOP Instance UID List (0008,0058) of a final response.
    fn failed_list(&self, syntax: &str) -> Vec<String> {
        self.data_set
            .as_ref()
            .and_then(|bytes| elements::read(bytes, syntax))
            .and_then(|values| elements::find(&values, 0x0008, 0x0058))
            .map(|list| list.split('\\').map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

#[derive(Debug)]
pub struct Found {
    /// Identifiers of the pending responses, verbatim.
    pub identifiers: Vec<Vec<u8>>,
    /// Transfer syntax of the context, in which they are written.
    pub transfer_syntax: String,
    pub status: u16,
    pub comment: Option<String>,
}

impl Found {
    /// Each answer's top-level elements.
    pub fn answers(&self) -> Vec<Vec<(Tag, Vec<u8>)>> {
        self.identifiers
            .iter()
            .map(|bytes| {
                elements::read(bytes, &self.transfer_syntax).expect("a well-formed identifier")
            })
            .collect()
    }
}

#[derive(Debug)]
pub struct Moved {
    /// Remaining, completed, failed, warning of each pending response.
    pub pending: Vec<[Option<u16>; 4]>,
    pub status: u16,
    pub comment: Option<String>,
    pub counters: [Option<u16>; 4],
    pub failed: Vec<String>,
}

/// An instance as it came over the wire.
#[derive(Clone, Debug)]
pub struct Received {
    pub sop_class: String,
    pub sop_instance: String,
    pub transfer_syntax: String,
    pub data_set: Vec<u8>,
    /// Move Originator AE Title and Message ID, when sent.
    pub originator: Option<(String, u16)>,
}

#[derive(Debug)]
pub struct Got {
    pub received: Vec<Received>,
    pub moved: Moved,
}

pub struct Client {
    stream: TcpStream,
    contexts: Vec<Answered>,
    /// Longest P-DATA variable field the peer takes, in bytes; 0 = no limit.
    peer_pdu_max: u32,
    /// Longest P-DATA variable field we send, in bytes.
    pub pdu_size: usize,
    /// The acceptor's SOP Class Extended Negotiation: SOP class, application information.
    pub extended: Vec<(String, Vec<u8>)>,
    message_id: u16,
    /// PDVs of the last P-DATA PDU not yet given out: context, flags, bytes.
    waiting: std::collections::VecDeque<(u8, u8, Vec<u8>)>,
}

impl Client {
    pub fn associate(
        address: SocketAddr,
        calling: &str,
        called: &str,
        contexts: &[(u8, &str, &[&str])],
    ) -> Result<Client> {
        Client::associate_with(address, calling, called, contexts, 16_384, &[])
    }

    /// As [`Client::associate`], announcing a maximum PDU and proposing roles
    /// (SOP class, SCU, SCP: PS3.7 D.3.3.4).
    pub fn associate_with(
        address: SocketAddr,
        calling: &str,
        called: &str,
        contexts: &[(u8, &str, &[&str])],
        pdu_max: u32,
        roles: &[(&str, bool, bool)],
    ) -> Result<Client> {
        let request = associate_rq(calling, called, contexts, pdu_max, roles);
        Client::begin(TcpStream::connect(address)?, &request, contexts)
    }

    /// As [`Client::associate`], proposing SOP Class Extended Negotiation (PS3.7 D.3.3.5).
    pub fn associate_extended(
        address: SocketAddr,
        calling: &str,
        called: &str,
        contexts: &[(u8, &str, &[&str])],
        extended: &[(&str, &[u8])],
    ) -> Result<Client> {
        let mut items = Vec::new();
        for (sop_class, information) in extended {
            let mut value = (sop_class.len() as u16).to_be_bytes().to_vec();
            value.extend(sop_class.as_bytes());
            value.extend(*information);
            item(&mut items, 0x56, &value);
        }
        let request = with_user_items(associate_rq(calling, called, contexts, 16_384, &[]), &items);
        Client::begin(TcpStream::connect(address)?, &request, contexts)
    }

    /// Sends an A-ASSOCIATE-RQ with these contexts on a connection, and reads the answer.
    pub fn begin(
        mut stream: TcpStream,
        request: &[u8],
        contexts: &[(u8, &str, &[&str])],
    ) -> Result<Client> {
        stream.set_read_timeout(Some(READ_LIMIT))?;
        stream.set_nodelay(true)?;
        stream.write_all(request)?;
        let (kind, body) = read_pdu(&mut stream)?;
        match kind {
            0x02 => {}
            0x03 => {
                return Err(WireError::Rejected {
                    result: body[1],
                    source_: body[2],
                    reason: body[3],
                });
            }
            0x07 => {
                return Err(WireError::Aborted {
                    source_: body[2],
                    reason: body[3],
                });
            }
            other => return protocol(format!("PDU type {other:02X}H answers A-ASSOCIATE-RQ")),
        }
        let mut client = Client {
            stream,
            contexts: Vec::new(),
            peer_pdu_max: 0,
            pdu_size: 16_384,
            extended: Vec::new(),
            message_id: 0,
            waiting: Default::default(),
        };
        for (kind, item) in items(body.get(68..).unwrap_or_default())? {
            match kind {
                0x21 => {
                    let id = *item.first().unwrap_or(&0);
                    let transfer_syntax = items(item.get(4..).unwrap_or_default())?
                        .into_iter()
                        .find(|(kind, _)| *kind == 0x40)
                        .map(|(_, uid)| elements::text(uid))
                        .unwrap_or_default();
                    let abstract_syntax = contexts
                        .iter()
                        .find(|(proposed, _, _)| *proposed == id)
                        .map(|(_, uid, _)| (*uid).to_owned())
                        .unwrap_or_default();
                    client.contexts.push(Answered {
                        id,
                        abstract_syntax,
                        result: *item.get(2).unwrap_or(&0xFF),
                        transfer_syntax,
                    });
                }
                0x50 => {
                    for (kind, value) in items(item)? {
                        if let (0x51, Ok(four)) = (kind, <[u8; 4]>::try_from(value)) {
                            client.peer_pdu_max = u32::from_be_bytes(four);
                        }
                        if let (0x56, [high, low, rest @ ..]) = (kind, value) {
                            let length = usize::from(u16::from_be_bytes([*high, *low]));
                            let (uid, information) = rest.split_at(length);
                            let uid = elements::text(uid);
                            client.extended.push((uid, information.to_vec()));
                        }
                    }
                }
                _ => {}
            }
        }
        if client.peer_pdu_max != 0 {
            client.pdu_size = client.pdu_size.min(client.peer_pdu_max as usize);
        }
        Ok(client)
    }

    pub fn contexts(&self) -> &[Answered] {
        &self.contexts
    }

    /// The transfer syntax accepted for a context; `None` when it was refused.
    pub fn accepted(&self, id: u8) -> Option<&str> {
        self.contexts
            .iter()
            .find(|context| context.id == id && context.result == 0)
            .map(|context| context.transfer_syntax.as_str())
    }

    pub fn peer_pdu_max(&self) -> u32 {
        self.peer_pdu_max
    }

    /// The socket, for tests that break the protocol.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn abstract_syntax(&self, id: u8) -> String {
        self.contexts
            .iter()
            .find(|context| context.id == id)
            .map(|context| context.abstract_syntax.clone())
            .unwrap_or_default()
    }

    pub fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }

    /// Sends one message in PDUs of `pdu_size`, one PDV each.
    pub fn send(&mut self, id: u8, command: &[u8], data_set: Option<&[u8]>) -> Result<()> {
        self.send_fragment(id, true, command, true)?;
        if let Some(bytes) = data_set {
            self.send_fragment(id, false, bytes, true)?;
        }
        Ok(())
    }

    /// Sends bytes of a command or data set; `last` closes it.
    pub fn send_fragment(&mut self, id: u8, command: bool, bytes: &[u8], last: bool) -> Result<()> {
        let room = self.pdu_size.max(8) - 6;
        let mut pieces = bytes.chunks(room).peekable();
        if bytes.is_empty() {
            self.stream.write_all(&pdv(id, command, last, &[]))?;
        }
        while let Some(piece) = pieces.next() {
            let flag = last && pieces.peek().is_none();
            self.stream.write_all(&pdv(id, command, flag, piece))?;
        }
        Ok(())
    }

    /// The next message; sub-operations of a C-GET arrive here too.
    pub fn receive(&mut self) -> Result<Message> {
        let (context_id, command) = self.receive_half(true)?;
        let command = elements::elements(&command);
        let mut message = Message {
            context_id,
            command,
            data_set: None,
        };
        if message.number(0x0800) != Some(0x0101) {
            message.data_set = Some(self.receive_half(false)?.1);
        }
        Ok(message)
    }

    fn receive_half(&mut self, command: bool) -> Result<(u8, Vec<u8>)> {
        let mut bytes = Vec::new();
        let id = self.receive_pieces(command, &mut |piece| bytes.extend(piece))?;
        Ok((id, bytes))
    }

    /// A command or data set in the pieces in which it comes; returns its context.
    fn receive_pieces(&mut self, command: bool, give: &mut dyn FnMut(&[u8])) -> Result<u8> {
        loop {
            while let Some((id, flags, piece)) = self.waiting.pop_front() {
                if (flags & 1 == 1) != command {
                    return protocol("command and data set fragments are mixed");
                }
                give(&piece);
                if flags & 2 == 2 {
                    return Ok(id);
                }
            }
            let (kind, body) = read_pdu(&mut self.stream)?;
            match kind {
                0x04 => self.waiting.extend(pdvs(&body)?),
                0x05 => return Err(WireError::Released),
                0x07 => {
                    return Err(WireError::Aborted {
                        source_: body[2],
                        reason: body[3],
                    });
                }
                other => return protocol(format!("PDU type {other:02X}H instead of P-DATA-TF")),
            }
        }
    }

    pub fn c_echo(&mut self, id: u8) -> Result<u16> {
        let message_id = self.next_message_id();
        let sop_class = self.abstract_syntax(id);
        let command = request(C_ECHO_RQ, &sop_class, message_id, false, &[]);
        self.send(id, &command, None)?;
        Ok(self.receive()?.status())
    }

    pub fn c_store(
        &mut self,
        id: u8,
        sop_class: &str,
        sop_instance: &str,
        data_set: &[u8],
    ) -> Result<(u16, Option<String>)> {
        self.begin_store(id, sop_class, sop_instance)?;
        self.send_fragment(id, false, data_set, true)?;
        self.store_response()
    }

    /// The answer to a C-STORE whose last fragment has been sent.
    pub fn store_response(&mut self) -> Result<(u16, Option<String>)> {
        let response = self.receive()?;
        if response.number(0x0100) != Some(0x8001) {
            return protocol("not a C-STORE response");
        }
        Ok((response.status(), response.comment()))
    }

    /// Sends the command of a C-STORE only; the data set is the test's to send.
    pub fn begin_store(&mut self, id: u8, sop_class: &str, sop_instance: &str) -> Result<()> {
        let message_id = self.next_message_id();
        let mut extra = Vec::new();
        element_u16(&mut extra, 0x0700, 0);
        element(&mut extra, 0x1000, "UI", sop_instance.as_bytes());
        let command = request(C_STORE_RQ, sop_class, message_id, true, &extra);
        self.send_fragment(id, true, &command, true)
    }

    /// Sends a C-FIND, C-MOVE (with destination) or C-GET request; returns its message ID.
    pub fn send_query(
        &mut self,
        id: u8,
        field: u16,
        destination: Option<&str>,
        identifier: &[u8],
    ) -> Result<u16> {
        let message_id = self.next_message_id();
        let mut extra = Vec::new();
        if let Some(destination) = destination {
            element(&mut extra, 0x0600, "AE", destination.as_bytes());
        }
        element_u16(&mut extra, 0x0700, 0);
        let sop_class = self.abstract_syntax(id);
        let command = request(field, &sop_class, message_id, true, &extra);
        self.send(id, &command, Some(identifier))?;
        Ok(message_id)
    }

    pub fn c_cancel(&mut self, id: u8, message_id: u16) -> Result<()> {
        let mut body = Vec::new();
        element_u16(&mut body, 0x0100, C_CANCEL_RQ);
        element_u16(&mut body, 0x0120, message_id);
        element_u16(&mut body, 0x0800, 0x0101);
        let command = with_group_length(&body);
        self.send(id, &command, None)
    }

    pub fn c_find(&mut self, id: u8, identifier: &[u8]) -> Result<Found> {
        self.send_query(id, C_FIND_RQ, None, identifier)?;
        self.find_responses(id)
    }

    /// Reads the responses to a C-FIND up to the final one.
    pub fn find_responses(&mut self, id: u8) -> Result<Found> {
        let mut found = Found {
            identifiers: Vec::new(),
            transfer_syntax: self.accepted(id).unwrap_or_default().to_owned(),
            status: 0,
            comment: None,
        };
        loop {
            let response = self.receive()?;
            match (response.status(), response.data_set) {
                (0xFF00 | 0xFF01, Some(identifier)) => found.identifiers.push(identifier),
                (0xFF00 | 0xFF01, None) => return protocol("a pending answer without identifier"),
                (status, _) => {
                    found.status = status;
                    found.comment = elements::find(&response.command, 0, 0x0902);
                    return Ok(found);
                }
            }
        }
    }

    pub fn c_move(&mut self, id: u8, destination: &str, identifier: &[u8]) -> Result<Moved> {
        self.send_query(id, C_MOVE_RQ, Some(destination), identifier)?;
        Ok(self.retrieve_responses(id)?.moved)
    }

    pub fn c_get(&mut self, id: u8, identifier: &[u8]) -> Result<Got> {
        self.send_query(id, C_GET_RQ, None, identifier)?;
        self.retrieve_responses(id)
    }

    /// A C-GET of an instance too large for memory: its data set is given out as it comes. Returns the final status.
    pub fn c_get_in_pieces(
        &mut self,
        id: u8,
        identifier: &[u8],
        give: &mut dyn FnMut(&[u8]),
    ) -> Result<u16> {
        self.send_query(id, C_GET_RQ, None, identifier)?;
        loop {
            let (context_id, command) = self.receive_half(true)?;
            let message = Message {
                context_id,
                command: elements::elements(&command),
                data_set: None,
            };
            if message.number(0x0100) != Some(C_STORE_RQ) {
                match message.status() {
                    0xFF00 | 0xFF01 => continue,
                    status => return Ok(status),
                }
            }
            self.receive_pieces(false, give)?;
            self.send(context_id, &store_rsp(&message, 0), None)?;
        }
    }

    /// Reads the responses to a C-MOVE or C-GET, answering sub-operations 0000H.
    pub fn retrieve_responses(&mut self, id: u8) -> Result<Got> {
        let mut received = Vec::new();
        let mut pending = Vec::new();
        loop {
            let message = self.receive()?;
            if message.number(0x0100) == Some(C_STORE_RQ) {
                let context_id = message.context_id;
                let syntax = self.accepted(context_id).unwrap_or_default().to_owned();
                let response = store_rsp(&message, 0);
                received.push(received_of(message, syntax));
                self.send(context_id, &response, None)?;
                continue;
            }
            let status = message.status();
            if matches!(status, 0xFF00 | 0xFF01) {
                pending.push(message.counters());
                continue;
            }
            let syntax = self.accepted(id).unwrap_or_default();
            let moved = Moved {
                pending,
                status,
                comment: message.comment(),
                counters: message.counters(),
                failed: message.failed_list(syntax),
            };
            return Ok(Got { received, moved });
        }
    }

    pub fn release(mut self) -> Result<()> {
        self.stream.write_all(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0])?;
        let (kind, _) = read_pdu(&mut self.stream)?;
        if kind != 0x06 {
            return protocol(format!("PDU type {kind:02X}H answers A-RELEASE-RQ"));
        }
        Ok(())
    }

    pub fn abort(mut self) -> Result<()> {
        self.stream.write_all(&[7, 0, 0, 0, 0, 4, 0, 0, 0, 0])?;
        self.stream.shutdown(Shutdown::Both)?;
        Ok(())
    }
}

pub(super) fn received_of(message: Message, transfer_syntax: String) -> Received {
    Received {
        sop_class: message.text(0x0002).unwrap_or_default(),
        sop_instance: message.text(0x1000).unwrap_or_default(),
        originator: message.text(0x1030).zip(message.number(0x1031)),
        transfer_syntax,
        data_set: message.data_set.unwrap_or_default(),
    }
}

/// The command of a C-STORE response.
pub(super) fn store_rsp(request: &Message, status: u16) -> Vec<u8> {
    let mut body = Vec::new();
    let sop_class = request.text(0x0002).unwrap_or_default();
    let sop_instance = request.text(0x1000).unwrap_or_default();
    element(&mut body, 0x0002, "UI", sop_class.as_bytes());
    element_u16(&mut body, 0x0100, 0x8001);
    element_u16(&mut body, 0x0120, request.number(0x0110).unwrap_or(0));
    element_u16(&mut body, 0x0800, 0x0101);
    element_u16(&mut body, 0x0900, status);
    element(&mut body, 0x1000, "UI", sop_instance.as_bytes());
    with_group_length(&body)
}

pub(super) fn element(out: &mut Vec<u8>, element: u16, vr: &str, value: &[u8]) {
    put(out, Syntax::IMPLICIT_LITTLE, Tag(0, element), vr, value);
}

pub(super) fn element_u16(out: &mut Vec<u8>, number: u16, value: u16) {
    element(out, number, "US", &value.to_le_bytes());
}

pub(super) fn with_group_length(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, 0x0000, "UL", &(body.len() as u32).to_le_bytes());
    out.extend(body);
    out
}

/// A request's command set; `extra` holds its elements past (0000,0110) below
/// and above (0000,0800), which is put in its place.
fn request(field: u16, sop_class: &str, message_id: u16, data: bool, extra: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    element(&mut body, 0x0002, "UI", sop_class.as_bytes());
    element_u16(&mut body, 0x0100, field);
    element_u16(&mut body, 0x0110, message_id);
    let kind = if data { 0x0001 } else { 0x0101 };
    let mut kind_written = false;
    for (tag, value) in elements::elements(extra) {
        if tag.1 > 0x0800 && !kind_written {
            element_u16(&mut body, 0x0800, kind);
            kind_written = true;
        }
        element(&mut body, tag.1, "UN", &value);
    }
    if !kind_written {
        element_u16(&mut body, 0x0800, kind);
    }
    with_group_length(&body)
}

/// A P-DATA-TF PDU with one PDV.
pub fn pdv(id: u8, command: bool, last: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![4, 0];
    out.extend((bytes.len() as u32 + 6).to_be_bytes());
    out.extend((bytes.len() as u32 + 2).to_be_bytes());
    out.push(id);
    out.push(u8::from(command) | u8::from(last) << 1);
    out.extend(bytes);
    out
}

pub(super) fn read_pdu(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
    if length > 64 << 20 {
        return protocol(format!("a PDU of {length} bytes"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    if matches!(head[0], 0x03 | 0x07) && length < 4 {
        return protocol("a PDU that is too short");
    }
    Ok((head[0], body))
}

/// The PDVs of a P-DATA-TF body: context, flags, bytes.
pub(super) fn pdvs(mut body: &[u8]) -> Result<Vec<(u8, u8, Vec<u8>)>> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let Some((four, rest)) = body.split_first_chunk::<4>() else {
            return protocol("a PDV header is cut");
        };
        let length = u32::from_be_bytes(*four) as usize;
        if length < 2 || length > rest.len() {
            return protocol(format!("a PDV of {length} bytes in {} bytes", rest.len()));
        }
        out.push((rest[0], rest[1], rest[2..length].to_vec()));
        body = &rest[length..];
    }
    Ok(out)
}

/// Items of an A-ASSOCIATE body: type, value.
pub(super) fn items(mut body: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    let mut out = Vec::new();
    while let [kind, _, high, low, rest @ ..] = body {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, rest)) = rest.split_at_checked(length) else {
            return protocol("an item is longer than its PDU");
        };
        out.push((*kind, value));
        body = rest;
    }
    Ok(out)
}

pub fn item(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend([kind, 0]);
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

/// An A-ASSOCIATE-RQ PDU.
pub fn associate_rq(
    calling: &str,
    called: &str,
    contexts: &[(u8, &str, &[&str])],
    pdu_max: u32,
    roles: &[(&str, bool, bool)],
) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(format!("{called:<16}").bytes().take(16));
    body.extend(format!("{calling:<16}").bytes().take(16));
    body.extend([0; 32]);
    item(&mut body, 0x10, APPLICATION_CONTEXT.as_bytes());
    for (id, abstract_syntax, transfer_syntaxes) in contexts {
        let mut context = vec![*id, 0, 0, 0];
        item(&mut context, 0x30, abstract_syntax.as_bytes());
        for transfer_syntax in *transfer_syntaxes {
            item(&mut context, 0x40, transfer_syntax.as_bytes());
        }
        item(&mut body, 0x20, &context);
    }
    let mut user = Vec::new();
    item(&mut user, 0x51, &pdu_max.to_be_bytes());
    item(&mut user, 0x52, IMPLEMENTATION.as_bytes());
    for (sop_class, scu, scp) in roles {
        let mut role = (sop_class.len() as u16).to_be_bytes().to_vec();
        role.extend(sop_class.as_bytes());
        role.extend([u8::from(*scu), u8::from(*scp)]);
        item(&mut user, 0x54, &role);
    }
    item(&mut user, 0x55, b"KURA_TEST");
    item(&mut body, 0x50, &user);
    let mut out = vec![1, 0];
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

/// An A-ASSOCIATE-RQ of [`associate_rq`] with more items at the end of its user information.
pub fn with_user_items(mut request: Vec<u8>, items: &[u8]) -> Vec<u8> {
    // User information is the last item: its length, then that of the PDU.
    let mut at = 6 + 68;
    while request[at] != 0x50 {
        at += 4 + usize::from(u16::from_be_bytes([request[at + 2], request[at + 3]]));
    }
    request.extend(items);
    let user = (request.len() - at - 4) as u16;
    request[at + 2..at + 4].copy_from_slice(&user.to_be_bytes());
    let pdu = (request.len() - 6) as u32;
    request[2..6].copy_from_slice(&pdu.to_be_bytes());
    request
}
