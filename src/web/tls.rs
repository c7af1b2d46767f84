//! Certificate and key of the page.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::volume::io::Disk;

const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS 1.2 and 1.3, HTTP/1.1. The error is a sentence.
pub fn configuration(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let read = |path: &Path| {
        let bytes = Disk::default().read_small(path, FILE_BYTES_MAX);
        bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
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
