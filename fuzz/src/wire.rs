//! What comes over an association: negotiation, commands, data.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use kura::dicom::{Services, sop, ts};
use kura::net::dimse::{self, CommandSet};
use kura::net::gate::Judging;
use kura::net::pdu::{ASSOCIATE_RQ, Associate, ContextItem, Header, P_DATA_TF, Reject};
use kura::net::{AcceptPolicy, Asked, Caller, Gate, Granted, Received, accept, extended, pdu};
use socket2::{Domain, SockRef, Socket, Type};

use super::input::{Input, pieces};

/// An A-ASSOCIATE that is read, written and read again is the same.
pub fn pdu(data: &[u8]) {
    let _ = Reject::decode(data);
    let Ok(found) = Associate::decode(data) else {
        return;
    };
    for asked in &found.extended {
        if let Some(answer) = extended::answer(&asked.sop_class_uid, &asked.information) {
            assert!(answer.len() <= asked.information.len().max(8));
        }
    }
    let encoded = found.encode(ASSOCIATE_RQ);
    // Several items of one kind become one, and other characters two bytes: no item of ours is that long.
    if encoded.len() > 60_000 || !is_ascii(&found) {
        return;
    }
    let (header, body) = encoded
        .split_first_chunk::<{ pdu::PDU_HEADER_LENGTH }>()
        .expect("a header");
    assert_eq!(Header::parse(header).length as usize, body.len());
    assert_eq!(Associate::decode(body), Ok(found));
}

fn is_ascii(associate: &Associate) -> bool {
    let contexts = associate.contexts.iter();
    let mut texts = vec![
        &associate.application_context,
        &associate.implementation_class_uid,
        &associate.implementation_version_name,
    ];
    texts.extend(associate.roles.iter().map(|role| &role.sop_class_uid));
    texts.extend(associate.extended.iter().map(|one| &one.sop_class_uid));
    for context in contexts {
        texts.push(&context.abstract_syntax);
        texts.extend(&context.transfer_syntaxes);
    }
    texts.iter().all(|text| text.is_ascii())
}

/// A command set that is read, written and read again is the same.
pub fn command_set(data: &[u8]) {
    let Ok(command) = CommandSet::decode(data) else {
        return;
    };
    let _ = (command.to_string(), command.offending_elements());
    let encoded = command.encode();
    if encoded.len() <= dimse::COMMAND_LENGTH_MAX {
        assert_eq!(CommandSet::decode(&encoded).as_ref(), Ok(&command));
    }
    let response = CommandSet::response_to(&command, 0).encode();
    assert!(response.len() > dimse::COMMAND_LENGTH_MAX || CommandSet::decode(&response).is_ok());
}

/// What fits into the buffers of a connection that nobody reads, in bytes.
const SENT_BYTES_MAX: usize = 60_000;

pub fn association_rq() -> Vec<u8> {
    let context = |id, abstract_syntax: &str| ContextItem {
        id,
        result: 0,
        abstract_syntax: abstract_syntax.to_owned(),
        transfer_syntaxes: vec![ts::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
    };
    let request = Associate {
        protocol_version: 1,
        called: pdu::ae_title_field("KURA"),
        calling: pdu::ae_title_field("FUZZ"),
        application_context: pdu::APPLICATION_CONTEXT.to_owned(),
        contexts: vec![
            context(1, "1.2.840.10008.5.1.4.1.1.2"),
            context(3, sop::STUDY_ROOT_FIND),
        ],
        pdu_length_max: 16_384,
        implementation_class_uid: "1.2.3".to_owned(),
        ..Associate::default()
    };
    request.encode(ASSOCIATE_RQ)
}

/// A C-STORE-RQ and its data set, cut into values and PDUs by the bytes of `cuts`.
fn message(cuts: &mut Input, seed: u16, data_set: &[u8]) -> Vec<u8> {
    let mut command = CommandSet::new(dimse::C_STORE_RQ);
    command
        .set_message_id(7)
        .set_affected_sop_class_uid("1.2.840.10008.5.1.4.1.1.2")
        .set_affected_sop_instance_uid("1.2.3")
        .set_data_set_type(dimse::HAS_DATA_SET);
    let mut out = Vec::new();
    let mut body: Vec<u8> = Vec::new();
    for (is_command, bytes) in [(1, command.encode().as_slice()), (0, data_set)] {
        let mut values = pieces(bytes, seed);
        // Also without a byte in the last.
        if cuts.byte() & 1 == 1 || values.is_empty() {
            values.push(&[]);
        }
        let last = values.len() - 1;
        for (at, value) in values.into_iter().enumerate() {
            let control = is_command | (u8::from(at == last) << 1);
            body.extend((value.len() as u32 + 2).to_be_bytes());
            body.extend([1, control]);
            body.extend(value);
            if cuts.byte() & 1 == 0 || body.len() > 8_000 {
                put_pdu(&mut out, &mut body);
            }
        }
    }
    put_pdu(&mut out, &mut body);
    out
}

fn put_pdu(out: &mut Vec<u8>, body: &mut Vec<u8>) {
    if !body.is_empty() {
        out.extend([P_DATA_TF, 0]);
        out.extend((body.len() as u32).to_be_bytes());
        out.append(body);
    }
}

struct Net {
    listener: TcpListener,
    runtime: tokio::runtime::Runtime,
    policy: AcceptPolicy,
}

thread_local! {
    static NET: RefCell<Option<Net>> = const { RefCell::new(None) };
    static TURN: Cell<u32> = const { Cell::new(0) };
}

/// Everybody is let in, to everything.
struct Open;

impl Gate for Open {
    fn judge<'a>(&'a self, _: Caller<'a>) -> Judging<'a> {
        Box::pin(async {
            Ok(Granted {
                services: Services::ALL,
                by: String::new(),
                user: None,
            })
        })
    }
}

fn net() -> Net {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Net {
        listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"),
        runtime: runtime.expect("a runtime"),
        policy: AcceptPolicy {
            ae_title: "KURA".parse().expect("an AE title"),
            accept_any_called: true,
            pdu_length_max: 0,
            gate: Arc::new(Open),
        },
    }
}

/// A connection from an address of its own: each closed one keeps its pair of addresses for a minute.
fn connected(to: SocketAddr) -> TcpStream {
    loop {
        let turn = TURN.get().wrapping_add(1);
        TURN.set(turn);
        let [_, a, b, c] = (turn % 0x00FE_FFFE + 2).to_be_bytes();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from = SocketAddr::from((Ipv4Addr::new(127, a, b, c), 0));
        socket
            .bind(&from.into())
            .expect("an address of this machine");
        match socket.connect(&to.into()) {
            Ok(()) => return socket.into(),
            // The fuzzer's clock.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("a connection: {error}"),
        }
    }
}

/// Bytes on a connection, from the first on or after negotiation: the end comes, and no more data than was sent. A message
/// that is in order arrives as it was sent, however it is cut.
pub fn association(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte() % 3;
    let mut sent = match mode {
        0 => Vec::new(),
        _ => association_rq(),
    };
    let mut expected = None;
    if mode == 2 {
        let seed = input.word();
        let mut cuts = Input::new(input.take(64));
        let data_set = input.take(20_000);
        sent.extend(message(&mut cuts, seed, data_set));
        expected = Some(data_set);
    }
    sent.extend(input.rest());
    sent.truncate(SENT_BYTES_MAX);
    NET.with_borrow_mut(|net| {
        let net = net.get_or_insert_with(|| {
            // What is made once does not count.
            let made = std::thread::spawn(self::net);
            made.join().expect("a listener")
        });
        let address = net.listener.local_addr().expect("an address");
        let mut client = connected(address);
        let (server, _) = net.listener.accept().expect("a connection");
        let _ = SockRef::from(&server).set_linger(Some(std::time::Duration::ZERO));
        client.write_all(&sent).expect("room in the buffers");
        client.shutdown(Shutdown::Write).expect("the end");
        server.set_nonblocking(true).expect("a socket");
        let accepted = net.runtime.block_on(async {
            let server = tokio::net::TcpStream::from_std(server).expect("a socket");
            accept(server, &net.policy, || true, &mut Asked::default()).await
        });
        let Ok(mut association) = accepted else {
            assert_eq!(mode, 0, "a good request is accepted");
            return;
        };
        let mut received = 0;
        let mut first = None;
        let mut has_ended = false;
        // Each message takes bytes.
        for _ in 0..=sent.len() {
            let Ok(Received::Command {
                context_id,
                command,
            }) = association.next_command()
            else {
                has_ended = true;
                break;
            };
            let mut whole = Vec::new();
            let _ = association.pending_cancel(command.message_id().unwrap_or_default());
            while let Ok(Some(fragment)) = association.data_fragment() {
                assert!(!fragment.is_empty(), "a piece of nothing");
                received += fragment.len();
                whole.extend_from_slice(fragment);
            }
            first.get_or_insert(whole);
            let response = CommandSet::response_to(&command, 0);
            let _ = association.send(context_id, &response, None);
        }
        assert!(received <= sent.len());
        if let Some(expected) = expected {
            assert!(first.as_deref() == Some(expected), "other data than sent");
        }
        assert!(has_ended, "more messages than bytes");
    });
}
