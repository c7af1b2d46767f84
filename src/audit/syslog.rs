//! The way to a server that takes audit messages: RFC 5424 messages over UDP (RFC 5426), TCP with counted octets (RFC 6587
//! 3.4.1) or TLS (RFC 5425).
//!
//! None of them answers. What was written counts as sent when the connection still stood a while after it (`export`).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::message::Source;
use crate::config::{self, SyslogTarget, SyslogTransport};
use crate::volume::io::Disk;

/// Until a connection is there, and for each write.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long it is waited at the end that the server has taken all.
const END_PATIENCE: Duration = Duration::from_secs(2);
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest datagram, bytes: what UDP over IPv4 can carry (RFC 5426 3.2).
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Facility 10, security and authorization (PS3.15 A.6), severity notice or warning (RFC 5424 6.2.1).
const NOTICE: u8 = 10 * 8 + 5;
const WARNING: u8 = 10 * 8 + 4;
const MESSAGE_ID: &str = "DICOM+RFC3881";
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// RFC 5424 6.
const HOST_LENGTH_MAX: usize = 255;

/// The message with its head. `at`: RFC 3339.
pub(super) fn framed(message: &str, at: &str, is_failure: bool, source: &Source) -> String {
    let priority = if is_failure { WARNING } else { NOTICE };
    let host: String = source.host.chars().filter(char::is_ascii_graphic).collect();
    let host = match host.get(..HOST_LENGTH_MAX.min(host.len())) {
        None | Some("") => "-",
        Some(host) => host,
    };
    let process = std::process::id();
    format!("<{priority}>1 {at} {host} kura {process} {MESSAGE_ID} - {BYTE_ORDER_MARK}{message}")
}

pub(super) enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// The error is a sentence.
    pub fn open(target: &SyslogTarget, config: &config::Audit) -> Result<Connection, String> {
        let failed = |error: io::Error| format!("{target}: {error}");
        let addresses = (target.host.as_str(), target.port).to_socket_addrs();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses.map_err(failed)? {
            let opened = match target.transport {
                SyslogTransport::Udp => {
                    let any = if address.is_ipv4() {
                        "0.0.0.0:0"
                    } else {
                        "[::]:0"
                    };
                    UdpSocket::bind(any).and_then(|socket| {
                        socket.connect(address)?;
                        Ok(Connection::Udp(socket))
                    })
                }
                _ => TcpStream::connect_timeout(&address, PATIENCE).map(Connection::Tcp),
            };
            match opened {
                Ok(Connection::Tcp(stream)) => return with_stream(stream, target, config),
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    pub fn send(&mut self, message: &str) -> io::Result<()> {
        let octets = message.len();
        match self {
            Connection::Udp(_) if octets > DATAGRAM_BYTES_MAX => {
                tracing::warn!(
                    octets,
                    "an audit message is too long for a datagram and was not sent"
                );
                Ok(())
            }
            Connection::Udp(socket) => socket.send(message.as_bytes()).map(drop),
            Connection::Tcp(stream) => stream.write_all(format!("{octets} {message}").as_bytes()),
            Connection::Tls(stream) => stream.write_all(format!("{octets} {message}").as_bytes()),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Udp(_) => Ok(()),
            Connection::Tcp(stream) => stream.flush(),
            Connection::Tls(stream) => stream.flush(),
        }
    }

    /// An error where the other side has gone. What it says is not looked at: it has nothing to say.
    pub fn look(&mut self) -> io::Result<()> {
        let stream = match self {
            Connection::Udp(socket) => {
                return socket.take_error()?.map_or(Ok(()), Err);
            }
            Connection::Tcp(stream) => &*stream,
            Connection::Tls(stream) => &stream.sock,
        };
        stream.set_nonblocking(true)?;
        let read = self.read();
        let stream = match self {
            Connection::Udp(_) => return Ok(()),
            Connection::Tcp(stream) => &*stream,
            Connection::Tls(stream) => &stream.sock,
        };
        stream.set_nonblocking(false)?;
        match read {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server closed the connection",
            )),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut block = [0; 1024];
        match self {
            Connection::Udp(_) => Ok(1),
            Connection::Tcp(stream) => stream.read(&mut block),
            Connection::Tls(stream) => stream.read(&mut block),
        }
    }

    /// Says that nothing more comes; whether the server has then closed in good order, which it does after the last.
    pub fn end(mut self) -> bool {
        let shut = match &mut self {
            Connection::Udp(_) => return true,
            Connection::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Connection::Tls(stream) => {
                stream.conn.send_close_notify();
                stream
                    .flush()
                    .and_then(|()| stream.sock.shutdown(std::net::Shutdown::Write))
            }
        };
        let stream = match &self {
            Connection::Udp(_) => return true,
            Connection::Tcp(stream) => stream,
            Connection::Tls(stream) => &stream.sock,
        };
        if shut.is_err() || stream.set_read_timeout(Some(END_PATIENCE)).is_err() {
            return false;
        }
        matches!(self.read(), Ok(0))
    }
}

fn with_stream(
    stream: TcpStream,
    target: &SyslogTarget,
    config: &config::Audit,
) -> Result<Connection, String> {
    let failed = |error: io::Error| format!("{target}: {error}");
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    if target.transport != SyslogTransport::Tls {
        return Ok(Connection::Tcp(stream));
    }
    let name =
        ServerName::try_from(target.host.clone()).map_err(|error| format!("{target}: {error}"))?;
    let client = ClientConnection::new(Arc::new(client(config)?), name)
        .map_err(|error| format!("{target}: {error}"))?;
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        let shaken = stream.conn.complete_io(&mut stream.sock);
        shaken.map_err(|error| format!("{target}: no TLS: {error}"))?;
    }
    Ok(Connection::Tls(Box::new(stream)))
}

/// TLS 1.2 and 1.3, as RFC 9325 wants it.
fn client(config: &config::Audit) -> Result<ClientConfig, String> {
    let read = |path: &std::path::Path| {
        let bytes = Disk::default().read_small(path, FILE_BYTES_MAX);
        bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    let path = config
        .syslog_ca
        .as_deref()
        .ok_or("[audit] syslog_ca is missing")?;
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let certificate = certificate.map_err(|error| format!("{}: {error}", path.display()))?;
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("{} has no certificate in it (PEM)", path.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&config.syslog_certificate, &config.syslog_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|error| format!("{}: {error}", certificate.display()))?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| format!("{}: no private key (PEM): {error}", key.display()))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("{certificate} and {key} cannot be used: {error}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_the_seven_fields_of_the_standard() {
        let source = Source {
            host: "a b\u{e9}\nc".to_owned(),
            ..Source::default()
        };
        let text = framed("<a/>", "2026-11-22T08:20:00Z", false, &source);
        let process = std::process::id();
        assert_eq!(
            text,
            format!("<85>1 2026-11-22T08:20:00Z abc kura {process} DICOM+RFC3881 - \u{feff}<a/>")
        );
        let nameless = Source {
            host: "\u{e9}".to_owned(),
            ..Source::default()
        };
        let text = framed("", "T", true, &nameless);
        assert!(text.starts_with("<84>1 T - kura "), "{text}");
    }
}
