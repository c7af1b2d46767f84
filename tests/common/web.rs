//! The administrator's page as a browser without scripts asks for it: plain HTTP/1.1 over TCP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Server, Settings};

const LIMIT: Duration = Duration::from_secs(90);

/// A server whose page is on a free port.
pub fn with_page(mut settings: Settings) -> Server {
    let arguments = ["--admin-port", "0"].map(str::to_owned);
    settings.arguments.extend(arguments);
    Server::with(settings)
}

/// Where the page of the server is; its log says so.
pub fn address(server: &Server) -> SocketAddr {
    let start = Instant::now();
    loop {
        let log = server.log_text();
        let said = log.rsplit_once("administrator's page is at http");
        let address = said.and_then(|(_, rest)| {
            let (_, rest) = rest.split_once("://")?;
            rest.split('/').next()?.parse().ok()
        });
        if let Some(address) = address {
            return address;
        }
        assert!(start.elapsed() < LIMIT, "the page is nowhere:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An answer.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Name and value of a cookie that is set.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let set = self.headers.iter().filter(|(key, _)| key == "set-cookie");
        let mut pairs = set.filter_map(|(_, value)| value.split(';').next());
        let pair = pairs.find(|pair| pair.split('=').next() == Some(name));
        pair.map(str::to_owned)
    }

    /// Without the tags: what is read.
    pub fn words(&self) -> String {
        let mut words = String::new();
        let mut inside = false;
        for letter in self.text.chars() {
            match letter {
                '<' => inside = true,
                '>' => {
                    inside = false;
                    words.push(' ');
                }
                letter if !inside => words.push(letter),
                _ => {}
            }
        }
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// `headers`: beside Host and Connection.
pub fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Page {
    ask(server, "GET", path, headers, None)
}

/// As a form of the page itself is sent; `fields` are `name=value`, encoded.
pub fn post(server: &Server, path: &str, headers: &[(&str, &str)], fields: &str) -> Page {
    let origin = format!("http://{}", address(server));
    let form = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Origin", origin.as_str()),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let headers: Vec<(&str, &str)> = form.into_iter().chain(headers.iter().copied()).collect();
    ask(server, "POST", path, &headers, Some(fields))
}

pub fn ask(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Page {
    let address = address(server);
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body.unwrap_or_default();
    let mut stream = TcpStream::connect(address).expect("the page's port");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = head.unwrap_or_else(|| panic!("no answer to {method} {path}"));
    let (head, body) = (&answer[..head], &answer[head + 4..]);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked {
        unchunked(body)
    } else {
        body.to_vec()
    };
    Page {
        status: status.expect("a status line"),
        headers,
        text: String::from_utf8(body).expect("UTF-8"),
    }
}

/// RFC 9112 7.1.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = body.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&body[..line]);
        let size = usize::from_str_radix(size.trim(), 16).expect("size of a chunk");
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
    whole
}

/// Asks until the page is as it should be.
pub fn wait_for(server: &Server, path: &str, is_there: impl Fn(&Page) -> bool) -> Page {
    let start = Instant::now();
    loop {
        let page = get(server, path, &[]);
        if is_there(&page) {
            return page;
        }
        assert!(
            start.elapsed() < LIMIT,
            "{path} is not what it should be: {} {}",
            page.status,
            page.words()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
