//! Test helpers: both ends of an association over the loopback interface.

use super::gate::{Caller, Gate, Granted, Judging};
use super::pdu::{self, APPLICATION_CONTEXT, ASSOCIATE_RQ, Associate, ContextItem};
use super::{AcceptPolicy, Association, NetError, Timeouts, accept};
use crate::dicom::{AeTitle, Services, sop, ts};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

pub fn title(text: &str) -> AeTitle {
    text.parse().unwrap()
}

/// Lets everybody in, to these.
pub struct Only(pub Services);

impl Gate for Only {
    fn judge<'a>(&'a self, _: Caller<'a>) -> Judging<'a> {
        Box::pin(async {
            Ok(Granted {
                services: self.0,
                by: String::new(),
                user: None,
            })
        })
    }
}

pub fn policy() -> AcceptPolicy {
    AcceptPolicy {
        ae_title: title("KURA"),
        accept_any_called: true,
        pdu_length_max: pdu::PDU_LENGTH_MAX,
        gate: Arc::new(Only(Services::ALL)),
    }
}

/// Accepts one association and works on it in a thread of its own.
pub fn serve<T: Send + 'static>(
    policy: AcceptPolicy,
    busy: bool,
    work: impl FnOnce(Result<Association, NetError>) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let association = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            accept(stream, &policy, || !busy, &mut accept::Asked::default()).await
        });
        drop(runtime);
        work(association)
    });
    (address, thread)
}

/// The contexts that most tests use: 1 verification, 3 study root find, 5 CT explicit.
pub fn usual_contexts() -> Vec<(String, Vec<String>)> {
    [sop::VERIFICATION, sop::STUDY_ROOT_FIND, CT]
        .into_iter()
        .map(|class| {
            (
                class.to_owned(),
                vec![ts::EXPLICIT_VR_LITTLE_ENDIAN.to_owned()],
            )
        })
        .collect()
}

/// Both ends: acceptor, requestor.
pub fn pair() -> (Association, Association) {
    let (address, acceptor) = serve(policy(), false, |association| association.unwrap());
    let requestor = Association::request(
        address,
        &title("TEST"),
        &title("KURA"),
        usual_contexts(),
        Timeouts::default(),
        &[],
    )
    .unwrap();
    (acceptor.join().unwrap(), requestor)
}

/// An acceptor, and the bare socket of a requestor that said it takes `pdu_length_max`.
pub fn half(pdu_length_max: u32) -> (Association, TcpStream) {
    let (address, acceptor) = serve(policy(), false, |association| association.unwrap());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let contexts = (1u8..)
        .step_by(2)
        .zip(usual_contexts())
        .map(|(id, (abstract_syntax, transfer_syntaxes))| ContextItem {
            id,
            result: 0,
            abstract_syntax,
            transfer_syntaxes,
        })
        .collect();
    let request = Associate {
        protocol_version: 1,
        application_context: APPLICATION_CONTEXT.to_owned(),
        contexts,
        pdu_length_max,
        ..Associate::default()
    };
    stream.write_all(&request.encode(ASSOCIATE_RQ)).unwrap();
    let (kind, _) = read_pdu(&mut stream);
    assert_eq!(kind, pdu::ASSOCIATE_AC);
    (acceptor.join().unwrap(), stream)
}

/// One PDU from a bare socket: its type and body.
pub fn read_pdu(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 6];
    stream.read_exact(&mut header).unwrap();
    let header = pdu::Header::parse(&header);
    let mut body = vec![0; header.length as usize];
    stream.read_exact(&mut body).unwrap();
    (header.pdu_type, body)
}

/// A P-DATA PDU of these PDVs: context, control, fragment.
pub fn p_data(values: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut out = vec![pdu::P_DATA_TF, 0, 0, 0, 0, 0];
    for (context, control, fragment) in values {
        out.extend_from_slice(&(fragment.len() as u32 + 2).to_be_bytes());
        out.extend_from_slice(&[*context, *control]);
        out.extend_from_slice(fragment);
    }
    let length = out.len() as u32 - 6;
    out[2..6].copy_from_slice(&length.to_be_bytes());
    out
}

/// A program of DCMTK; `None` where it is not installed, and the test is skipped.
pub fn dcmtk(program: &str) -> Option<Command> {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found.then(|| {
        let mut command = Command::new(program);
        // Its sockets wait for acknowledgements otherwise, which is not what is tested.
        command.env("TCP_NODELAY", "1");
        command
    })
}
