//! An association with a configured peer: plain, or over TLS where its entry says so.

use std::net::SocketAddr;

use crate::config::{self, PeerEntry, PeerTls};
use crate::dicom::AeTitle;
use crate::net::tls::{Identity, Roots};
use crate::net::{Association, NetError, RoleSelection, Timeouts, TlsError, TlsRequestor};

/// As [`Association::request`]. The files that `[tls]` names are read each time: a new certificate counts at once.
pub fn associate(
    peer: &PeerEntry,
    addresses: &[SocketAddr],
    calling: &AeTitle,
    contexts: Vec<(String, Vec<String>)>,
    timeouts: Timeouts,
    roles: &[RoleSelection],
) -> Result<Association, NetError> {
    let secure = peer.tls.as_ref().map(requestor).transpose();
    let secure = secure.map_err(TlsError::ours)?;
    let host = (!peer.is_caller()).then_some(peer.host.as_str());
    let secure = secure.as_ref().map(|secure| (secure, host));
    let called = &peer.ae_title;
    let association = Association::request_over(
        secure, addresses, calling, called, contexts, timeouts, roles,
    );
    association.map_err(|error| match error {
        NetError::Tls(mut error) => {
            let host = match peer.host.contains(':') {
                true => format!("[{}]", peer.host),
                false => peer.host.clone(),
            };
            let typed = format!("{called}@{host}:{}", peer.port);
            error.next = error.next.replace("AE@HOST:PORT", &typed);
            NetError::Tls(error)
        }
        error => error,
    })
}

/// The error is a sentence.
fn requestor(tls: &PeerTls) -> Result<TlsRequestor, String> {
    let files = &tls.files;
    let roots = match &files.peers_ca {
        None => None,
        Some(path) => {
            let roots = Roots::of(&config::read_pem(path)?);
            Some(roots.map_err(|error| format!("{}: {error}", path.display()))?)
        }
    };
    let identity = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
        _ => None,
    };
    TlsRequestor::new(tls.name.clone(), tls.fingerprint.clone(), roots, identity)
}

/// Certificate and key of these files. The error is a sentence.
pub fn identity(certificate: &std::path::Path, key: &std::path::Path) -> Result<Identity, String> {
    let of = |error| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("{certificate} and {key} cannot be used: {error}")
    };
    Identity::of(&config::read_pem(certificate)?, &config::read_pem(key)?).map_err(of)
}
