//! What the port for TLS answers with, and whether the files that `[tls]` names can be used.

use crate::config::{self, Config};
use crate::net::TlsAcceptor;
use crate::net::tls::Roots;
use crate::scu;

/// A certificate that is over so soon is spoken of.
const DAYS_WARNED: i64 = 30;

/// `None`: no port for TLS is configured. Every file that is named is looked at. The error is a sentence.
pub fn ready(config: &Config) -> Result<Option<TlsAcceptor>, String> {
    let tls = &config.tls;
    let roots = |path: &Option<std::path::PathBuf>| {
        let read = path.as_ref().map(|path| {
            let roots = Roots::of(&config::read_pem(path)?);
            roots.map_err(|error| format!("{}: {error}", path.display()))
        });
        read.transpose().map_err(|error| format!("[tls] {error}"))
    };
    roots(&tls.peers_ca)?;
    let clients = roots(&tls.client_ca)?;
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(None);
    };
    let failed = |error: String| format!("[tls] {error}");
    let identity = scu::identity(certificate, key).map_err(failed)?;
    let required = tls.require_client_certificate;
    let made = TlsAcceptor::new(identity, clients, required).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("[tls] {certificate} and {key} cannot be used: {error}")
    })?;
    if config::is_open_to_others(key) {
        tracing::warn!(
            "[tls] key: others of this machine may read {}; chmod 600",
            key.display()
        );
    }
    Ok(tls.port.map(|_| made))
}

/// What a person is to do soon, so that modalities still come in over TLS then.
pub fn actions(acceptor: Option<&TlsAcceptor>) -> Option<String> {
    let certificate = &acceptor?.certificate;
    let left = certificate.not_after? - jiff::Timestamp::now().as_second();
    let day = certificate.until().unwrap_or_default();
    match left {
        ..=0 => Some(format!(
            "the certificate of [tls] is over since {day}, who looks at it does not come in any more; put another in its place, then: kura reload"
        )),
        _ if left < DAYS_WARNED * 24 * 3600 => Some(format!(
            "the certificate of [tls] is over on {day}; put another in its place before, then: kura reload"
        )),
        _ => None,
    }
}

/// What another reading of the files changes, in a line.
pub fn changed(was: Option<&TlsAcceptor>, is: Option<&TlsAcceptor>) -> Option<String> {
    let (was, is) = (&was?.certificate, &is?.certificate);
    (was.fingerprint != is.fingerprint).then(|| {
        let until = is.until().unwrap_or_default();
        format!("tls: another certificate, for {}, until {until}", is.who())
    })
}
