//! A browser, or a program, that says exactly what a test wants: HTTP/1.1 over a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Server, Settings};

/// How long an answer may take before a test calls it hung.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| &**value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// `name=value` of the cookie that was set.
    pub fn cookie(&self) -> String {
        let cookie = self.header("set-cookie").expect("a cookie");
        cookie.split(';').next().unwrap_or_default().to_owned()
    }
}

/// A server with a page on a free port.
pub fn server(settings: Settings) -> (Server, SocketAddr) {
    let server = Server::with(with_page(settings));
    let address = address_of(&server);
    (server, address)
}

pub fn with_page(mut settings: Settings) -> Settings {
    settings
        .arguments
        .extend(["--admin-port".into(), "0".into()]);
    settings
}

/// Where the log says that the page is; of the last start.
pub fn address_of(server: &Server) -> SocketAddr {
    let begun = Instant::now();
    loop {
        let log = server.log_text();
        let place = log.rsplit_once("administrator's page is at http");
        let address = place.and_then(|(_, rest)| rest.split_once("://")?.1.split('/').next());
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            return address;
        }
        assert!(begun.elapsed() < LIMIT, "no page:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends it with these headers and no others but Host (where it is not given), Connection and Content-Length.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut bytes = format!("{text}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    let mut stream = TcpStream::connect(address).expect("connect to the page");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // What is refused early may be answered before all of it was read.
    let _ = stream.write_all(&bytes);
    read(&mut stream)
}

/// An answer to its end.
pub fn read(stream: &mut impl Read) -> Answer {
    let mut all = Vec::new();
    let mut block = [0; 16 << 10];
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&block[..count]),
            Err(_) if all.windows(4).any(|end| end == b"\r\n\r\n") => break,
            Err(error) => panic!("no answer: {error}"),
        }
    }
    parse(&all)
}

fn parse(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|end| end == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(all)));
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let is_chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &all[end + 4..];
    Answer {
        status: status.expect("a status"),
        headers,
        body: if is_chunked {
            unchunked(body)
        } else {
            body.to_vec()
        },
    }
}

/// RFC 9112 7.1; as far as it goes.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|end| end == b"\r\n") {
        let length = String::from_utf8_lossy(&body[..end]).into_owned();
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        let begin = end + 2;
        if length == 0 || body.len() < begin + length {
            break;
        }
        whole.extend_from_slice(&body[begin..begin + length]);
        body = &body[(begin + length + 2).min(body.len())..];
    }
    whole
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], b"")
}

/// A verb of the API, with these headers beside that of JSON.
pub fn ask(address: SocketAddr, verb: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let path = format!("/api/v1/{verb}");
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    send(address, "POST", &path, &all, body.to_string().as_bytes())
}

/// What a browser sends from a page of this server.
pub const SAME_ORIGIN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

/// Signs in; the cookie of the session.
pub fn sign_in(address: SocketAddr, name: &str, password: &str) -> Answer {
    let body = format!("name={name}&password={}", password.replace(' ', "+"));
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        SAME_ORIGIN,
    ];
    send(address, "POST", "/sign-in", &headers, body.as_bytes())
}
