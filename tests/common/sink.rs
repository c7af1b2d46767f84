//! A storage SCP on a thread: takes every context with its first transfer
//! syntax and keeps what arrives, verbatim.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::elements;
use super::server::free_port;
use super::wire::{self, Message, Received, WireError};

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// Abstract syntax and transfer syntaxes of each context ever proposed.
    proposed: Mutex<Vec<(String, Vec<String>)>>,
    /// Answered to every C-STORE.
    status: AtomicU16,
    /// While set, C-STORE requests are taken and not answered.
    stalled: AtomicBool,
    /// Nothing is kept, and each answer comes so many milliseconds late.
    discards: Mutex<Option<Duration>>,
    discarded: AtomicU64,
    /// Pause before each PDU of a message, milliseconds.
    slow: AtomicU16,
    /// Transfer syntaxes taken; empty = every one.
    only: Mutex<Vec<String>>,
    closed: AtomicBool,
}

/// Listens until dropped.
pub struct Sink {
    port: u16,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Sink {
    pub fn start() -> Sink {
        let (port, listener) = (0..100)
            .find_map(|_| {
                let port = free_port();
                Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?))
            })
            .expect("a port for the sink");
        let shared = Arc::new(Shared::default());
        let listening = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if listening.closed.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&listening);
                std::thread::spawn(move || {
                    // A peer that aborts or goes away ends its association; nothing to do.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Sink { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything that came since the last call.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut lock(&self.shared.received))
    }

    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// Abstract syntax and transfer syntaxes of the contexts proposed since the last call.
    pub fn take_proposed(&self) -> Vec<(String, Vec<String>)> {
        std::mem::take(&mut lock(&self.shared.proposed))
    }

    /// Status of every following answer.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Refuses contexts that offer none of these transfer syntaxes.
    pub fn accept_only(&self, transfer_syntaxes: &[&str]) {
        *lock(&self.shared.only) = transfer_syntaxes.iter().map(|uid| (*uid).into()).collect();
    }

    /// Holds back answers until called with `false`.
    pub fn stall(&self, on: bool) {
        self.shared.stalled.store(on, Ordering::Relaxed);
    }

    /// Reads so slowly from now on: a pause before each PDU of at most 16 KiB.
    pub fn slow(&self, pause_ms: u16) {
        self.shared.slow.store(pause_ms, Ordering::Relaxed);
    }

    /// Keeps nothing from now on, and answers so late.
    pub fn discard(&self, late: Duration) {
        *lock(&self.shared.discards) = Some(late);
    }

    /// Instances that came and were not kept.
    pub fn discarded(&self) -> u64 {
        self.shared.discarded.load(Ordering::Relaxed)
    }

    /// Waits until at least `count` instances are here; fails after `limit`.
    pub fn wait_for(&self, count: usize, limit: Duration) {
        let start = Instant::now();
        while self.count() < count {
            assert!(
                start.elapsed() < limit,
                "{} of {count} instances after {limit:?}",
                self.count()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.stalled.store(false, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<(), WireError> {
    stream.set_nodelay(true)?;
    let (kind, body) = wire::read_pdu(&mut stream)?;
    if kind != 0x01 || body.len() < 68 {
        return Err(WireError::Protocol("no A-ASSOCIATE-RQ".into()));
    }
    let mut answer = body[..68].to_vec();
    wire::item(&mut answer, 0x10, b"1.2.840.10008.3.1.1.1");
    let mut syntaxes = std::collections::HashMap::new();
    for (kind, item) in wire::items(&body[68..])? {
        if kind != 0x20 {
            continue;
        }
        let id = *item.first().unwrap_or(&0);
        let subitems = wire::items(item.get(4..).unwrap_or_default())?;
        let uids = |wanted| {
            subitems
                .iter()
                .filter(move |(kind, _)| *kind == wanted)
                .map(|(_, uid)| elements::text(uid))
        };
        let offered: Vec<String> = uids(0x40).collect();
        let abstract_syntax = uids(0x30).next().unwrap_or_default();
        let only = lock(&shared.only).clone();
        let chosen = offered
            .iter()
            .find(|uid| only.is_empty() || only.contains(uid))
            .cloned();
        lock(&shared.proposed).push((abstract_syntax, offered));
        // 4 = transfer syntaxes not supported (PS3.8 Table 9-18).
        let mut context = vec![id, 0, if chosen.is_some() { 0 } else { 4 }, 0];
        let named = chosen
            .clone()
            .unwrap_or_else(|| wire::IMPLICIT_LITTLE.into());
        wire::item(&mut context, 0x40, named.as_bytes());
        wire::item(&mut answer, 0x21, &context);
        if let Some(chosen) = chosen {
            syntaxes.insert(id, chosen);
        }
    }
    let mut user = Vec::new();
    wire::item(&mut user, 0x51, &16_384u32.to_be_bytes());
    wire::item(
        &mut user,
        0x52,
        b"2.25.311842160177163158364219206498702465002",
    );
    wire::item(&mut answer, 0x50, &user);
    let mut pdu = vec![2, 0];
    pdu.extend((answer.len() as u32).to_be_bytes());
    pdu.extend(answer);
    stream.write_all(&pdu)?;

    let mut half = Vec::new();
    let mut command: Option<Message> = None;
    loop {
        let pause = shared.slow.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(pause.into()));
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
            let mut message = match command.take() {
                Some(message) if flags & 1 == 0 => Message {
                    data_set: Some(bytes),
                    ..message
                },
                _ => Message {
                    context_id,
                    command: elements::elements(&bytes),
                    data_set: None,
                },
            };
            if message.data_set.is_none() && message.number(0x0800) != Some(0x0101) {
                command = Some(message);
                continue;
            }
            let response = match message.number(0x0100) {
                Some(wire::C_STORE_RQ) => {
                    let status = shared.status.load(Ordering::Relaxed);
                    let response = wire::store_rsp(&message, status);
                    let syntax = syntaxes.get(&context_id).cloned().unwrap_or_default();
                    message.context_id = context_id;
                    let discards = *lock(&shared.discards);
                    match discards {
                        Some(late) => {
                            std::thread::sleep(late);
                            shared.discarded.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {
                            lock(&shared.received).push(wire::received_of(message, syntax));
                        }
                    }
                    while shared.stalled.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    response
                }
                _ => echo_rsp(&message),
            };
            stream.write_all(&wire::pdv(context_id, true, true, &response))?;
        }
    }
}

fn echo_rsp(request: &Message) -> Vec<u8> {
    let mut body = Vec::new();
    wire::element(&mut body, 0x0002, "UI", wire::VERIFICATION.as_bytes());
    wire::element_u16(&mut body, 0x0100, 0x8030);
    wire::element_u16(&mut body, 0x0120, request.number(0x0110).unwrap_or(0));
    wire::element_u16(&mut body, 0x0800, 0x0101);
    wire::element_u16(&mut body, 0x0900, 0);
    wire::with_group_length(&body)
}
