//! A modality that asks for storage commitment, made of bytes (PS3.4 Annex J): its requests, and a listener that takes
//! reports.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::build::{CT_IMAGE_STORAGE, Tag, put};
use super::elements::{self, Syntax};
use super::wire::{self, Client, IMPLICIT_LITTLE, Message, WireError};

pub const PUSH: &str = "1.2.840.10008.1.20.1";
pub const PUSH_INSTANCE: &str = "1.2.840.10008.1.20.1.1";

const N_EVENT_REPORT_RQ: u16 = 0x0100;
const N_ACTION_RQ: u16 = 0x0130;

/// No report within this time fails a test.
pub const LIMIT: Duration = Duration::from_secs(90);

const IMPLICIT: Syntax = Syntax::IMPLICIT_LITTLE;

/// SOP class and instance of a CT image.
pub fn ct(sop: &str) -> (String, String) {
    (CT_IMAGE_STORAGE.to_owned(), sop.to_owned())
}

/// Action information; no transaction, no sequence where they are `None`.
pub fn information(transaction: Option<&str>, instances: Option<&[(String, String)]>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(uid) = transaction {
        let tag = Tag(0x0008, 0x1195);
        put(&mut out, IMPLICIT, tag, "UI", uid.as_bytes());
    }
    if let Some(instances) = instances {
        let mut items = Vec::new();
        for (class, instance) in instances {
            let mut item = Vec::new();
            for (element, uid) in [(0x1150, class), (0x1155, instance)] {
                let tag = Tag(0x0008, element);
                put(&mut item, IMPLICIT, tag, "UI", uid.as_bytes());
            }
            put(&mut items, IMPLICIT, Tag(0xFFFE, 0xE000), "", &item);
        }
        put(&mut out, IMPLICIT, Tag(0x0008, 0x1199), "SQ", &items);
    }
    out
}

/// Sends an N-ACTION-RQ; its message id.
pub fn send_request(
    client: &mut Client,
    id: u8,
    instance: &str,
    action: u16,
    data: &[u8],
) -> Result<u16, WireError> {
    let message_id = client.next_message_id();
    let mut body = Vec::new();
    wire::element(&mut body, 0x0003, "UI", PUSH.as_bytes());
    wire::element_u16(&mut body, 0x0100, N_ACTION_RQ);
    wire::element_u16(&mut body, 0x0110, message_id);
    wire::element_u16(&mut body, 0x0800, 1);
    wire::element(&mut body, 0x1001, "UI", instance.as_bytes());
    wire::element_u16(&mut body, 0x1008, action);
    client.send(id, &wire::with_group_length(&body), Some(data))?;
    Ok(message_id)
}

/// As [`send_request`]; status and comment of the answer.
pub fn request(
    client: &mut Client,
    id: u8,
    instance: &str,
    action: u16,
    data: &[u8],
) -> (u16, String) {
    let message_id = send_request(client, id, instance, action, data).expect("N-ACTION-RQ");
    let answer = client.receive().expect("N-ACTION-RSP");
    assert_eq!(answer.number(0x0100), Some(0x8130));
    assert_eq!(answer.number(0x0120), Some(message_id));
    (answer.status(), answer.comment().unwrap_or_default())
}

/// A request that must be taken.
pub fn ask(client: &mut Client, id: u8, transaction: &str, instances: &[(String, String)]) {
    let data = information(Some(transaction), Some(instances));
    let (status, comment) = request(client, id, PUSH_INSTANCE, 1, &data);
    assert_eq!(status, 0, "{comment}");
}

/// What a report says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub calling: String,
    pub event: u16,
    pub transaction: String,
    pub retrieve_from: String,
    /// SOP Instance UIDs, sorted.
    pub committed: Vec<String>,
    /// SOP Instance UID and reason, sorted.
    pub failed: Vec<(String, u16)>,
    /// The requestor of the association proposed to be SCP, and not SCU.
    pub as_scp: bool,
}

impl Report {
    fn of(message: &Message) -> Report {
        let mut report = Report {
            event: message.number(0x1002).expect("an event type"),
            ..Report::default()
        };
        assert_eq!(message.text(0x0002).as_deref(), Some(PUSH));
        assert_eq!(message.text(0x1000).as_deref(), Some(PUSH_INSTANCE));
        let data = message.data_set.as_deref().expect("a data set");
        for (tag, value) in flat(data) {
            let text = || elements::text(value);
            match tag {
                Tag(0x0008, 0x1195) => report.transaction = text(),
                Tag(0x0008, 0x0054) => report.retrieve_from = text(),
                Tag(0x0008, 0x1199) => {
                    for (_, item) in flat(value) {
                        let inner = flat(item);
                        let found = inner.iter().find(|(tag, _)| *tag == Tag(0x0008, 0x1155));
                        report
                            .committed
                            .push(elements::text(found.expect("a UID").1));
                    }
                }
                Tag(0x0008, 0x1198) => {
                    for (_, item) in flat(value) {
                        let inner = flat(item);
                        let of = |element| {
                            let tag = Tag(0x0008, element);
                            inner.iter().find(|(found, _)| *found == tag).expect("it").1
                        };
                        let reason = of(0x1197);
                        let reason = u16::from_le_bytes([reason[0], reason[1]]);
                        report.failed.push((elements::text(of(0x1155)), reason));
                    }
                }
                other => panic!("{other:?} in a report"),
            }
        }
        report.committed.sort();
        report.failed.sort();
        report
    }
}

/// Elements of implicit VR little endian with defined lengths, sequences and items as they are.
fn flat(mut bytes: &[u8]) -> Vec<(Tag, &[u8])> {
    let mut out = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let [g0, g1, e0, e1, l0, l1, l2, l3] = *header;
        let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let (value, rest) = rest.split_at(length);
        out.push((tag, value));
        bytes = rest;
    }
    out
}

/// The report that comes on this association, answered 0000H.
pub fn report_on(client: &mut Client) -> Report {
    let message = client.receive().expect("N-EVENT-REPORT-RQ");
    assert_eq!(message.number(0x0100), Some(N_EVENT_REPORT_RQ));
    let answer = answer_to(&message, 0);
    client
        .send(message.context_id, &answer, None)
        .expect("N-EVENT-REPORT-RSP");
    Report::of(&message)
}

fn answer_to(message: &Message, status: u16) -> Vec<u8> {
    let mut body = Vec::new();
    wire::element(&mut body, 0x0002, "UI", PUSH.as_bytes());
    wire::element_u16(&mut body, 0x0100, 0x8100);
    let id = message.number(0x0110).unwrap_or(0);
    wire::element_u16(&mut body, 0x0120, id);
    wire::element_u16(&mut body, 0x0800, 0x0101);
    wire::element_u16(&mut body, 0x0900, status);
    wire::element(&mut body, 0x1000, "UI", PUSH_INSTANCE.as_bytes());
    wire::element_u16(&mut body, 0x1002, message.number(0x1002).unwrap_or(0));
    wire::with_group_length(&body)
}

#[derive(Default)]
struct Shared {
    reports: Mutex<Vec<Report>>,
    /// Answered to every report.
    status: AtomicU16,
    /// Roles are answered.
    roles: AtomicBool,
    associations: AtomicU16,
    closed: AtomicBool,
}

/// Takes reports until dropped.
pub struct Desk {
    port: u16,
    shared: Arc<Shared>,
}

impl Desk {
    /// `roles`: it answers role selection, as the standard wants it, or does not know of it.
    pub fn start(port: u16, roles: bool) -> Desk {
        let begun = Instant::now();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => break listener,
                Err(error) => assert!(begun.elapsed() < LIMIT, "port {port}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let shared = Arc::new(Shared::default());
        shared.roles.store(roles, Ordering::Relaxed);
        let listening = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if listening.closed.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&listening);
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Desk { port, shared }
    }

    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    pub fn associations(&self) -> u16 {
        self.shared.associations.load(Ordering::Relaxed)
    }

    /// Waits until so many reports came; all of them.
    pub fn wait_for(&self, count: usize) -> Vec<Report> {
        let begun = Instant::now();
        loop {
            let reports = self.shared.reports.lock().expect("reports").clone();
            if reports.len() >= count {
                return reports;
            }
            let so_far = reports.len();
            assert!(begun.elapsed() < LIMIT, "{so_far} of {count} reports");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<(), WireError> {
    let (kind, body) = wire::read_pdu(&mut stream)?;
    if kind != 0x01 || body.len() < 68 {
        return Err(WireError::Protocol("no A-ASSOCIATE-RQ".into()));
    }
    shared.associations.fetch_add(1, Ordering::Relaxed);
    let calling = elements::text(&body[20..36]);
    let mut answer = body[..68].to_vec();
    wire::item(&mut answer, 0x10, b"1.2.840.10008.3.1.1.1");
    let (mut as_scp, mut roles) = (false, Vec::new());
    for (kind, item) in wire::items(&body[68..])? {
        match kind {
            0x20 => {
                let mut context = vec![item[0], 0, 0, 0];
                wire::item(&mut context, 0x40, IMPLICIT_LITTLE.as_bytes());
                wire::item(&mut answer, 0x21, &context);
            }
            0x50 => {
                for (kind, value) in wire::items(item)? {
                    if kind == 0x54 {
                        as_scp |= value.ends_with(&[0, 1]);
                        roles.push(value.to_vec());
                    }
                }
            }
            _ => {}
        }
    }
    let mut user = Vec::new();
    wire::item(&mut user, 0x51, &16_384u32.to_be_bytes());
    wire::item(&mut user, 0x52, b"2.25.3118421");
    if shared.roles.load(Ordering::Relaxed) {
        for role in roles {
            wire::item(&mut user, 0x54, &role);
        }
    }
    wire::item(&mut answer, 0x50, &user);
    let mut pdu = vec![2, 0];
    pdu.extend((answer.len() as u32).to_be_bytes());
    pdu.extend(answer);
    stream.write_all(&pdu)?;
    let (mut half, mut command) = (Vec::new(), None::<Message>);
    loop {
        let (kind, body) = wire::read_pdu(&mut stream)?;
        match kind {
            0x04 => {}
            0x05 => {
                stream.write_all(&[6, 0, 0, 0, 0, 4, 0, 0, 0, 0])?;
                return Ok(());
            }
            _ => return Ok(()),
        }
        for (context_id, flags, piece) in wire::pdvs(&body)? {
            half.extend(piece);
            if flags & 2 == 0 {
                continue;
            }
            let bytes = std::mem::take(&mut half);
            if flags & 1 == 1 {
                command = Some(Message {
                    context_id,
                    command: elements::elements(&bytes),
                    data_set: None,
                });
                continue;
            }
            let Some(mut message) = command.take() else {
                return Err(WireError::Protocol("a data set without a command".into()));
            };
            message.data_set = Some(bytes);
            let mut report = Report::of(&message);
            (report.calling, report.as_scp) = (calling.clone(), as_scp);
            shared.reports.lock().expect("reports").push(report);
            let status = shared.status.load(Ordering::Relaxed);
            let answer = answer_to(&message, status);
            stream.write_all(&wire::pdv(context_id, true, true, &answer))?;
        }
    }
}
