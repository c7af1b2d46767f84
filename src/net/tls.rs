//! TLS below associations: who we are, whom we trust, and what went wrong, in words.
//!
//! The BCP 195 RFC 8996, 9325 profile (PS3.15 B.12, as strict as the retired B.10): TLS 1.2 and 1.3, with ephemeral keys and
//! authenticated encryption, and nothing else; that is all that rustls with ring has. No session is taken up again: each association proves anew who it is.

use super::certificate::{Certificate, fingerprint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, InvalidMessage, PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::NetError;
use super::wire::{Tls, Wire};

/// Versions and suites of the one profile there is.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What kept TLS from coming about, or broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The other side speaks without TLS.
    Plain,
    /// No version or suite that both have.
    NothingInCommon,
    /// It has none, and one is wanted.
    NoCertificate,
    /// Its certificate is not trusted, not for that name, over, or another than was pinned.
    Certificate,
    /// It says no to our certificate.
    Refused,
    /// Our own files.
    Ours,
    Broken,
}

/// A sentence, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {found}; {next}")]
pub struct TlsError {
    pub fault: TlsFault,
    pub found: String,
    pub next: String,
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl TlsError {
    pub fn new(fault: TlsFault, found: impl Into<String>, next: impl Into<String>) -> TlsError {
        TlsError {
            fault,
            found: found.into(),
            next: next.into(),
        }
    }

    /// Where a use of the network failed because of TLS.
    pub(super) fn within(error: &io::Error) -> Option<TlsError> {
        let inner = error.get_ref()?;
        let ours = inner.downcast_ref::<TlsError>().cloned();
        ours.or_else(|| inner.downcast_ref::<Error>().map(TlsError::later))
    }

    /// Of files that were to be used; `error` names them.
    pub fn ours(error: impl Into<String>) -> TlsError {
        TlsError::new(
            TlsFault::Ours,
            error,
            "put the files that [tls] names in order, then: kura reload",
        )
    }

    /// The other side speaks without TLS on our port for it.
    pub(super) fn plain_requestor() -> TlsError {
        TlsError::new(
            TlsFault::Plain,
            "it began without TLS; this port speaks DICOM over TLS only",
            "switch TLS (\"secure DICOM\") on for this archive in the other system, or give it the port without TLS",
        )
    }

    fn plain_acceptor() -> TlsError {
        TlsError::new(
            TlsFault::Plain,
            "the peer answers without TLS",
            "is that its port for TLS (often 2762)? where it has none: kura peer add AE@HOST:PORT --tls false",
        )
    }

    /// The peer answered a plain request with a TLS alert.
    pub(super) fn wanted_by_acceptor() -> TlsError {
        TlsError::new(
            TlsFault::Plain,
            "the peer speaks TLS on that port, and we did not",
            "kura peer add AE@HOST:PORT --tls, or give its port without TLS",
        )
    }

    /// After the handshake.
    pub(super) fn later(error: &Error) -> TlsError {
        match error {
            Error::AlertReceived(alert) => refused_by(*alert, "the peer"),
            error => TlsError::new(
                TlsFault::Broken,
                format!("the connection cannot be understood any more ({error})"),
                "look at the network between the two, and at the log of the other system",
            ),
        }
    }

    /// A handshake that we answered.
    pub(super) fn accepting(error: &Error) -> TlsError {
        match error {
            Error::PeerIncompatible(why) => nothing_in_common(why, "the other system"),
            Error::NoCertificatesPresented => TlsError::new(
                TlsFault::NoCertificate,
                "it showed no certificate, and [tls] require_client_certificate wants one",
                "give the other system a certificate that a CA of [tls] client_ca has signed",
            ),
            Error::InvalidCertificate(why) => {
                let (found, next) = certificate_words(why, "client_ca");
                TlsError::new(TlsFault::Certificate, found, next)
            }
            Error::AlertReceived(alert) => refused_by(*alert, "the other system"),
            Error::InvalidMessage(_) => TlsError::new(
                TlsFault::Broken,
                format!("what it sent is not TLS ({error})"),
                "find out what runs at that address",
            ),
            error => TlsError::new(
                TlsFault::Broken,
                format!("the handshake failed ({error})"),
                "the log of the other system may say more",
            ),
        }
    }
}

fn nothing_in_common(why: &PeerIncompatible, who: &str) -> TlsError {
    let found = match why {
        // What versions before 1.2 never send.
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "it has no version of TLS that is still safe (1.2 or 1.3)".to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired => {
            "it has no cipher suite that is still safe (ECDHE with AES-GCM or ChaCha20)".to_owned()
        }
        why => format!("it and this server have nothing in common ({why:?})"),
    };
    TlsError::new(
        TlsFault::NothingInCommon,
        found,
        format!("bring {who} up to date, or switch the BCP 195 profile on there"),
    )
}

/// What a peer says of our certificate, or of what we offer.
fn refused_by(alert: AlertDescription, who: &str) -> TlsError {
    use AlertDescription as A;
    match alert {
        A::UnknownCA
        | A::BadCertificate
        | A::CertificateUnknown
        | A::UnsupportedCertificate
        | A::CertificateExpired
        | A::CertificateRevoked
        | A::AccessDenied => TlsError::new(
            TlsFault::Refused,
            format!("{who} does not trust the certificate of this server ({alert:?})"),
            "give the other system the CA that signed [tls] certificate, or that certificate itself; is it for the name by which this server is called, and not over?",
        ),
        A::CertificateRequired => TlsError::new(
            TlsFault::NoCertificate,
            format!("{who} wants a certificate from us"),
            "[tls] certificate and key are what we show; the other system must trust it",
        ),
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => TlsError::new(
            TlsFault::NothingInCommon,
            format!("{who} says that there is nothing in common ({alert:?})"),
            "both need TLS 1.2 or 1.3 with ECDHE and AES-GCM; or it wants a certificate from us: [tls] certificate and key",
        ),
        alert => TlsError::new(
            TlsFault::Broken,
            format!("{who} broke TLS off ({alert:?})"),
            "the log of the other system may say more",
        ),
    }
}

/// Of a certificate that is not taken; `roots`: the key of `[tls]` that says who may sign.
fn certificate_words(why: &CertificateError, roots: &str) -> (String, String) {
    use CertificateError as C;
    let day = |time: &UnixTime| {
        let second = jiff::Timestamp::from_second(i64::try_from(time.as_secs()).unwrap_or(0));
        second.unwrap_or_default().strftime("%Y-%m-%d").to_string()
    };
    let renew = "renew it in the other system; is the clock of both right?".to_owned();
    match why {
        C::ExpiredContext { not_after, .. } => (
            format!("its certificate is over since {}", day(not_after)),
            renew,
        ),
        C::Expired => ("its certificate is over".to_owned(), renew),
        C::NotValidYetContext { not_before, .. } => (
            format!("its certificate counts from {} on only", day(not_before)),
            "is the clock of both right?".to_owned(),
        ),
        C::NotValidYet => (
            "its certificate does not count yet".to_owned(),
            "is the clock of both right?".to_owned(),
        ),
        C::UnknownIssuer => (
            format!("nobody whom [tls] {roots} names has signed its certificate"),
            format!(
                "put the certificate of the CA that signed it into the file that [tls] {roots} names, then: kura reload"
            ),
        ),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => (
            format!("its certificate is for another use ({why})"),
            "it needs one for servers and clients of TLS (extended key usage)".to_owned(),
        ),
        why => (
            format!("its certificate is not taken ({why})"),
            "it needs one of version 3 for its name, signed by a CA that is known here".to_owned(),
        ),
    }
}

/// Our certificate, its chain and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// PEM. The error does not say which files, and never what is in the key.
    pub fn of(certificate: &[u8], key: &[u8]) -> Result<Identity, String> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| "there is no private key without a password in it (PEM)".to_owned())?;
        Ok(Identity { chain, key })
    }

    pub fn certificate(&self) -> Certificate {
        // There is at least one.
        Certificate::of(self.chain.first().map_or(&[], |first| first))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("there is no certificate in it (PEM)".to_owned()),
        Err(error) => Err(format!("it cannot be read as PEM ({error})")),
    }
}

/// Who may sign certificates of others.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// PEM; every certificate in it must be readable, so that none is missing silently.
    pub fn of(pem: &[u8]) -> Result<Roots, String> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(pem)? {
            let who = Certificate::of(&certificate).who();
            let added = store.add(certificate);
            added.map_err(|error| format!("the certificate of {who} in it: {error}"))?;
        }
        Ok(Roots(Arc::new(store)))
    }
}

/// What the port for TLS answers with.
#[derive(Clone)]
pub struct TlsAcceptor {
    pub(super) config: Arc<ServerConfig>,
    /// Ours.
    pub certificate: Certificate,
}

impl TlsAcceptor {
    /// `clients`: who may have signed the certificates of those who call; none: they are not asked for one. `required`: who
    /// has none is refused.
    pub fn new(
        identity: Identity,
        clients: Option<Roots>,
        required: bool,
    ) -> Result<TlsAcceptor, String> {
        let certificate = identity.certificate();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(Roots(roots)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = match required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| error.to_string())?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(identity.chain, identity.key)
            .map_err(|error| error.to_string())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor {
            config: Arc::new(config),
            certificate,
        })
    }
}

/// How a peer is called over TLS, and how we know that it is that peer.
pub struct TlsRequestor {
    config: Arc<ClientConfig>,
    name: Option<String>,
    trust: Arc<Trust>,
    shows_certificate: bool,
}

/// Verifies the certificate of a peer, and keeps it for the words about it.
#[derive(Debug)]
struct Trust {
    pinned: Option<String>,
    roots: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Certificate>>,
}

impl TlsRequestor {
    /// `name`: that the certificate must have; none: the host or address that is called. `pinned`: SHA-256 of the one
    /// certificate that is taken, whatever its name and dates. `identity`: shown when it is asked for.
    pub fn new(
        name: Option<String>,
        pinned: Option<String>,
        roots: Option<Roots>,
        identity: Option<Identity>,
    ) -> Result<TlsRequestor, String> {
        let provider = provider();
        let roots = match roots {
            Some(Roots(roots)) if pinned.is_none() => {
                let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                Some(built.build().map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        let trust = Arc::new(Trust {
            pinned,
            roots,
            provider: provider.clone(),
            seen: Mutex::default(),
        });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(trust.clone());
        let shows_certificate = identity.is_some();
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain, identity.key)
                .map_err(|error| error.to_string())?,
        };
        config.resumption = Resumption::disabled();
        Ok(TlsRequestor {
            config: Arc::new(config),
            name,
            trust,
            shows_certificate,
        })
    }

    /// The handshake, until `deadline`. `host`: the name by which the peer is called, if it has one.
    pub(super) fn shake(
        &self,
        socket: TcpStream,
        host: Option<&str>,
        deadline: Instant,
        after: Duration,
    ) -> Result<(Wire, Facts), NetError> {
        let address = socket.peer_addr().map_err(NetError::from_io)?;
        let wanted = self.name.as_deref().or(host);
        let by_address = || ServerName::from(address.ip());
        let name = match wanted.map(|name| ServerName::try_from(name.to_owned())) {
            Some(Ok(name)) => name,
            // Not a name at all; that which is pinned needs none.
            Some(Err(_)) if self.trust.pinned.is_some() => by_address(),
            Some(Err(_)) => {
                return Err(TlsError::new(
                    TlsFault::Certificate,
                    format!("{} is not a name that a certificate can have", wanted.unwrap_or_default()),
                    "set tls_name at its [[peer]] to the name that its certificate has, or pin it: tls_fingerprint",
                )
                .into());
            }
            None => by_address(),
        };
        let connection = ClientConnection::new(self.config.clone(), name.clone());
        let mut connection = connection.map_err(|error| self.failed(&error, &name, false))?;
        let late = || NetError::Timeout {
            during: "beginning TLS",
            after,
        };
        let mut first = true;
        let mut came = [0; 8192];
        while connection.is_handshaking() || connection.wants_write() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            let io_failed = |error: io::Error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
                _ => NetError::from_io(error),
            };
            if connection.wants_write() {
                socket.set_write_timeout(Some(left))?;
                match connection.write_tls(&mut &socket) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(io_failed(error)),
                    Ok(_) => {}
                }
                continue;
            }
            socket.set_read_timeout(Some(left))?;
            let count = match (&socket).read(&mut came) {
                Ok(0) => return Err(self.closed(first).into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(self.closed(first).into());
                }
                Err(error) => return Err(io_failed(error)),
            };
            // An alert or a handshake; anything else is not TLS.
            if first && !matches!(came[0], 0x15 | 0x16) {
                return Err(TlsError::plain_acceptor().into());
            }
            let mut rest = &came[..count];
            while !rest.is_empty() {
                let read = connection.read_tls(&mut rest).map_err(NetError::from_io)?;
                if let Err(error) = connection.process_new_packets() {
                    // The alert that says why.
                    while connection.wants_write() && connection.write_tls(&mut &socket).is_ok() {}
                    return Err(self.failed(&error, &name, first).into());
                }
                if read == 0 {
                    break;
                }
            }
            first = false;
        }
        let facts = Facts::of(&connection);
        let tls = Tls::new(rustls::Connection::Client(connection))?;
        Ok((Wire::tls(socket, tls), facts))
    }

    /// It went away in the middle of the handshake; `first`: without having said anything.
    fn closed(&self, first: bool) -> TlsError {
        match first {
            true => TlsError::new(
                TlsFault::Plain,
                "the peer closes the connection when TLS begins",
                "is that its port for TLS (often 2762)? where it has none: kura peer add AE@HOST:PORT --tls false",
            ),
            false => TlsError::new(
                TlsFault::Broken,
                "the peer went away in the middle of the TLS handshake",
                "the log of the other system may say why",
            ),
        }
    }

    fn failed(&self, error: &Error, name: &ServerName, first: bool) -> TlsError {
        let seen = self.trust.seen.lock();
        let seen = seen.unwrap_or_else(PoisonError::into_inner).clone();
        let mark = seen.as_ref().map_or("", |seen| seen.fingerprint.as_str());
        let pin = format!(
            "kura peer add AE@HOST:PORT --tls-fingerprint {mark} (only when the other system shows the same)"
        );
        let of_certificate =
            |found: String, next: String| TlsError::new(TlsFault::Certificate, found, next);
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) if first => {
                TlsError::plain_acceptor()
            }
            Error::PeerIncompatible(why) => nothing_in_common(why, "the peer"),
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                of_certificate(
                    format!(
                        "the peer shows another certificate than the one pinned: fingerprint {mark}"
                    ),
                    format!("was it renewed there? then: {pin}"),
                )
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let who = seen.as_ref().map_or_else(String::new, Certificate::who);
                of_certificate(
                    format!(
                        "nobody whom [tls] peers_ca names has signed the certificate of the peer (for {who}, fingerprint {mark})"
                    ),
                    format!("put its CA into that file, or pin the certificate: {pin}"),
                )
            }
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => {
                let who = seen.as_ref().map_or_else(String::new, Certificate::who);
                of_certificate(
                    format!(
                        "the certificate of the peer is for {who}, not for {}",
                        name.to_str()
                    ),
                    format!(
                        "if that is the right system: kura peer add AE@HOST:PORT --tls-name with one of these names; or {pin}"
                    ),
                )
            }
            Error::InvalidCertificate(CertificateError::Other(_)) => of_certificate(
                format!("the certificate of the peer is not taken ({error}); fingerprint {mark}"),
                format!("pin it: {pin}"),
            ),
            Error::InvalidCertificate(why) => {
                let (found, next) = certificate_words(why, "peers_ca");
                of_certificate(found.replacen("its", "the peer's", 1), next)
            }
            Error::AlertReceived(
                AlertDescription::HandshakeFailure | AlertDescription::BadCertificate,
            ) if !self.shows_certificate => TlsError::new(
                TlsFault::NoCertificate,
                "the peer refuses; most that do so want a certificate from us",
                "[tls] certificate and key are what we show; the other system must trust it",
            ),
            Error::AlertReceived(alert) => refused_by(*alert, "the peer"),
            error => TlsError::new(
                TlsFault::Broken,
                format!("the handshake with the peer failed ({error})"),
                "the log of the other system may say more",
            ),
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer,
        intermediates: &[CertificateDer],
        server_name: &ServerName,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(Certificate::of(end_entity));
        match (&self.pinned, &self.roots) {
            (Some(pinned), _) if *pinned == fingerprint(end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            (Some(_), _) => Err(CertificateError::ApplicationVerificationFailure.into()),
            (None, Some(roots)) => {
                roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            (None, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// What was negotiated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `TLS 1.3`, say; `None` without TLS.
    pub version: Option<&'static str>,
    /// Of the peer, verified.
    pub certificate: Option<Certificate>,
}

impl Facts {
    pub(super) fn of(connection: &rustls::CommonState) -> Facts {
        let chain = connection.peer_certificates();
        let first = chain.and_then(|chain| chain.first());
        Facts {
            version: Some(match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            }),
            certificate: first.map(|der| Certificate::of(der)),
        }
    }
}
