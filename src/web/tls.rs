//! Certificate and key of the page.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::control::Renew;
use crate::net::certificate::fingerprint;
use crate::volume::io::Disk;

const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = Disk::default().read_small(path, FILE_BYTES_MAX);
    bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Has the page show what is in the files by then, to whoever connects afterwards.
pub fn renew(page: RustlsConfig, certificate: PathBuf, key: PathBuf) -> Renew {
    let mark = |path: &Path| read(path).map(|bytes| fingerprint(&bytes));
    let known = Mutex::new(mark(&certificate).unwrap_or_default());
    Box::new(move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = mark(&certificate)?;
        if *known == now {
            return Ok(None);
        }
        page.reload_from_config(configuration(&certificate, &key)?);
        *known = now;
        Ok(Some("admin: another certificate".to_owned()))
    })
}

/// TLS 1.2 and 1.3, HTTP/1.1. The error is a sentence.
pub fn configuration(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate_pem).collect();
    let chain = chain.map_err(|error| format!("{}: {error}", certificate.display()))?;
    if chain.is_empty() {
        let path = certificate.display();
        return Err(format!("{path} has no certificate in it (PEM)"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|error| format!("{}: no private key (PEM): {error}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut made = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("{certificate} and {key} cannot be used: {error}")
        })?;
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(made))
}
