//! A server that collects audit messages: RFC 5424 over UDP, over TCP with counted octets, or over TLS. Its own reading of
//! these standards, not the library's.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::tools;

/// How long what is sent may take before a test calls it lost.
const LIMIT: Duration = Duration::from_secs(90);

/// A message, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub priority: u8,
    pub at: String,
    pub host: String,
    pub program: String,
    pub process: String,
    pub id: String,
    /// The XML.
    pub text: String,
}

/// RFC 5424 6: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD BOM MSG`, without structured data.
pub fn parse(bytes: &[u8]) -> Result<Message, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let wrong = |what: &str| format!("{what}: {text:?}");
    let rest = text.strip_prefix('<').ok_or_else(|| wrong("no priority"))?;
    let (priority, rest) = rest.split_once('>').ok_or_else(|| wrong("no priority"))?;
    let priority: u8 = priority.parse().map_err(|_| wrong("no priority"))?;
    let fields: Vec<&str> = rest.splitn(8, ' ').collect();
    let [version, at, host, program, process, id, data, message] = fields[..] else {
        return Err(wrong("not eight fields"));
    };
    if priority > 191 || version != "1" || data != "-" {
        return Err(wrong("not of this version"));
    }
    let printable = |field: &&str| !field.is_empty() && field.chars().all(|c| c.is_ascii_graphic());
    if ![at, host, program, process, id].iter().all(printable) {
        return Err(wrong("a field of the head"));
    }
    if host.len() > 255 || program.len() > 48 || process.len() > 128 || id.len() > 32 {
        return Err(wrong("a long field"));
    }
    let message = message
        .strip_prefix('\u{feff}')
        .ok_or_else(|| wrong("no BOM"))?;
    Ok(Message {
        priority,
        at: at.to_owned(),
        host: host.to_owned(),
        program: program.to_owned(),
        process: process.to_owned(),
        id: id.to_owned(),
        text: message.to_owned(),
    })
}

impl Message {
    /// Code of the EventID.
    pub fn event(&self) -> &str {
        let at = self.text.split("<EventID csd-code=\"").nth(1);
        at.and_then(|rest| rest.split('"').next())
            .unwrap_or_default()
    }

    pub fn has(&self, part: &str) -> bool {
        self.text.contains(part)
    }
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    faults: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

impl Shared {
    fn take(&self, bytes: &[u8]) {
        match parse(bytes) {
            Ok(message) => self.messages.lock().unwrap().push(message),
            Err(fault) => self.faults.lock().unwrap().push(fault),
        }
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Stops, and closes what is open, when it is dropped.
pub struct Collector {
    pub port: u16,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How a collector is reached.
pub enum Way<'a> {
    Udp,
    Tcp,
    /// Certificate and key, PEM.
    Tls(&'a str, &'a str),
}

impl Collector {
    pub fn start(way: &Way, port: u16) -> Collector {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = match way {
            Way::Udp => {
                let socket = UdpSocket::bind(("127.0.0.1", port)).expect("a port for datagrams");
                socket
                    .set_read_timeout(Some(Duration::from_millis(50)))
                    .unwrap();
                std::thread::spawn(move || datagrams(&socket, &of_thread))
            }
            Way::Tcp => {
                let listener = listen(port);
                std::thread::spawn(move || streams(&listener, None, &of_thread))
            }
            Way::Tls(certificate, key) => {
                let (listener, tls) = (listen(port), Some(tls(certificate, key)));
                std::thread::spawn(move || streams(&listener, tls, &of_thread))
            }
        };
        Collector {
            port,
            shared,
            threads: vec![thread],
        }
    }

    pub fn messages(&self) -> Vec<Message> {
        let faults = self.shared.faults.lock().unwrap();
        assert!(
            faults.is_empty(),
            "not as the standards want it: {faults:?}"
        );
        self.shared.messages.lock().unwrap().clone()
    }

    /// Waits for a message that is so.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Message) -> bool) -> Message {
        let begun = Instant::now();
        loop {
            let messages = self.messages();
            if let Some(found) = messages.iter().find(|message| is_so(message)) {
                return found.clone();
            }
            assert!(
                begun.elapsed() < LIMIT,
                "no {what} among {} messages: {:#?}",
                messages.len(),
                messages.iter().map(|m| &m.text).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => {
                listener.set_nonblocking(true).unwrap();
                return listener;
            }
            Err(error) => assert!(begun.elapsed() < LIMIT, "port {port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut datagram = vec![0; 65_536];
    while !shared.stopped() {
        if let Ok(length) = socket.recv(&mut datagram) {
            shared.take(&datagram[..length]);
        }
    }
}

fn streams(listener: &TcpListener, tls: Option<Arc<rustls::ServerConfig>>, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while !shared.stopped() {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let (tls, shared) = (tls.clone(), shared.clone());
        threads.push(std::thread::spawn(move || {
            stream.set_nonblocking(false).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            match tls {
                None => frames(stream, &shared),
                Some(tls) => {
                    let session = rustls::ServerConnection::new(tls).unwrap();
                    frames(rustls::StreamOwned::new(session, stream), &shared);
                }
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// RFC 6587 3.4.1, RFC 5425 4.3: `LENGTH SP MESSAGE`, one after the other.
fn frames(mut stream: impl Read, shared: &Shared) {
    let (mut bytes, mut block) = (Vec::new(), vec![0; 16 << 10]);
    while !shared.stopped() {
        match stream.read(&mut block) {
            Ok(0) => return,
            Ok(count) => bytes.extend_from_slice(&block[..count]),
            Err(error) if is_silence(&error) => {}
            Err(_) => return,
        }
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&bytes[..space]).unwrap_or_default();
            let Ok(length) = length.parse::<usize>() else {
                let fault = format!("no length: {:?}", String::from_utf8_lossy(&bytes));
                shared.faults.lock().unwrap().push(fault);
                return;
            };
            let end = space + 1 + length;
            if bytes.len() < end {
                break;
            }
            shared.take(&bytes[space + 1..end]);
            bytes.drain(..end);
        }
    }
}

fn is_silence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn tls(certificate: &str, key: &str) -> Arc<rustls::ServerConfig> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let chain: Result<Vec<_>, _> = chain.collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let made = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key);
    Arc::new(made.expect("a configuration of TLS"))
}

/// Certificate of 127.0.0.1 that signs itself, and its key, PEM.
pub fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// Holds each against the schema of PS3.15 A.5.1, by another program; skips where that is absent.
pub fn assert_valid<'a>(messages: impl Iterator<Item = &'a str>) {
    let Some(xmllint) = tools::tool("xmllint") else {
        return;
    };
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/audit_message.rng");
    let folder = tempfile::TempDir::new().unwrap();
    let mut paths = Vec::new();
    for (number, message) in messages.enumerate() {
        let path = folder.path().join(format!("{number}.xml"));
        std::fs::write(&path, message).unwrap();
        paths.push(path);
    }
    for some in paths.chunks(500) {
        let mut command = Command::new(&xmllint);
        command
            .args(["--nonet", "--noout", "--relaxng"])
            .arg(&schema)
            .args(some);
        let outcome = tools::run(&mut command);
        assert!(outcome.success(), "{}", outcome.text());
    }
}
