//! `[tls]`: DICOM over TLS, in and out; and what of it a `[[peer]]` has.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Most bytes of a file of certificates.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Hexadecimal digits of a SHA-256.
const FINGERPRINT_LENGTH: usize = 64;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// TCP port for DICOM over TLS; none: there is none. 2762 is the registered one.
    pub port: Option<u16>,
    pub bind: IpAddr,
    /// As [`TlsFiles`] has them.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub peers_ca: Option<PathBuf>,
    /// PEM: the CAs that sign the certificates of those who call. None: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Who has no certificate of `client_ca` is refused. Default false.
    pub require_client_certificate: bool,
    pub profile: TlsProfile,
}

/// Files that are used whoever calls whom. Relative to the folder of `kura.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: our certificate and the chain above it; shown to who calls, and to peers that ask for one.
    pub certificate: Option<PathBuf>,
    /// PEM: its key, without a password.
    pub key: Option<PathBuf>,
    /// PEM: the CAs that sign the certificates of our peers.
    pub peers_ca: Option<PathBuf>,
}

/// Versions and suites. Source: PS3.15 B.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsProfile {
    /// RFC 8996 and 9325: TLS 1.2 and 1.3 with ephemeral keys and authenticated encryption. There is no other.
    Bcp195,
}

/// How a peer is called over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerTls {
    /// That its certificate must have; none: its `host`.
    pub name: Option<String>,
    /// SHA-256 of the one certificate that is taken, in lower-case hexadecimal digits.
    pub fingerprint: Option<String>,
    /// As `[tls]` names them.
    pub files: TlsFiles,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            port: None,
            bind: IpAddr::from([0, 0, 0, 0]),
            certificate: None,
            key: None,
            peers_ca: None,
            client_ca: None,
            require_client_certificate: false,
            profile: TlsProfile::Bcp195,
        }
    }
}

impl Tls {
    /// `port`: the one without TLS.
    pub(super) fn check(&self, port: u16) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("[tls] certificate and key go together".to_owned());
        }
        if self.port.is_some() && self.certificate.is_none() {
            return Err(
                "[tls] port wants a certificate and a key; make them: kura admin certificate --dicom"
                    .to_owned(),
            );
        }
        if self.port == Some(port) {
            return Err(format!(
                "[tls] port is {port}, as is the port without TLS; 2762 is usual"
            ));
        }
        if self.require_client_certificate && self.client_ca.is_none() {
            return Err(
                "[tls] require_client_certificate wants client_ca: who may sign them".to_owned(),
            );
        }
        Ok(())
    }

    pub(super) fn from(mut self, base: &Path) -> Tls {
        for path in [
            &mut self.certificate,
            &mut self.key,
            &mut self.peers_ca,
            &mut self.client_ca,
        ] {
            *path = path.take().map(|path| base.join(path));
        }
        self
    }

    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            peers_ca: self.peers_ca.clone(),
        }
    }

    /// With what of it can be another while the server runs.
    pub(super) fn with_changes(&self, read: &Tls) -> Tls {
        Tls {
            port: self.port,
            bind: self.bind,
            ..read.clone()
        }
    }
}

/// A file that `[tls]` names. The error is a sentence.
pub fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = super::open(path).and_then(|file| {
        let taken = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        match taken as u64 > FILE_BYTES_MAX {
            true => Err(std::io::Error::other("it is longer than 4 MiB")),
            false => Ok(()),
        }
    });
    match read {
        Ok(()) => Ok(bytes),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// As programs show it, with colons or without, in upper or lower case. The error is a sentence.
pub(super) fn fingerprint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    let digits = text.chars().filter(|c| !matches!(c, ':' | ' ' | '-'));
    let digits: String = digits.map(|c| c.to_ascii_lowercase()).collect();
    let is_whole =
        digits.len() == FINGERPRINT_LENGTH && digits.chars().all(|c| c.is_ascii_hexdigit());
    match is_whole {
        true => Ok(digits),
        false => Err(format!(
            "tls_fingerprint {text:?} is no SHA-256 fingerprint: 64 hexadecimal digits, with or without colons"
        )),
    }
}

pub(super) const TEMPLATE: &str = r#"
[tls]
# DICOM over TLS on a port of its own, beside the one without; 2762 is the registered one. docs/tls.md says how.
# port = 2762
bind = "0.0.0.0"
# PEM files. kura admin certificate --dicom makes both; read again by kura reload.
# certificate = "dicom.crt"
# key = "dicom.key"
# Who signs the certificates of those who call; without it nobody is asked for one.
# client_ca = "clients-ca.crt"
require_client_certificate = false
# Who signs the certificates of peers with tls = true.
# peers_ca = "peers-ca.crt"
# TLS 1.2 and 1.3 with safe suites only (BCP 195: RFC 8996, 9325). There is no other.
profile = "bcp195"
"#;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (text, named) in [
            ("[tls]\nport = 2762\n", "kura admin certificate"),
            ("[tls]\ncertificate = \"c\"\n", "go together"),
            ("[tls]\nrequire_client_certificate = true\n", "client_ca"),
            (
                "[tls]\nport = 11112\ncertificate = \"c\"\nkey = \"k\"\n",
                "2762",
            ),
            ("[tls]\nprofile = \"aes\"\n", "bcp195"),
            ("[tls]\nsertificate = \"c\"\n", "sertificate"),
            (
                "[[peer]]\nae_title = \"A\"\nhost = \"a\"\nport = 1\ntls = true\ntls_fingerprint = \"ab\"\n",
                "64 hexadecimal",
            ),
        ] {
            let error = Config::of_text(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_peer_has_what_it_is_called_with() {
        let mark = "AB:".repeat(31) + "ab";
        let config = Config::of_text(&format!(
            "[tls]\npeers_ca = \"ca.pem\"\n[[peer]]\nae_title = \"A\"\nhost = \"a\"\nport = 1\ntls = true\ntls_fingerprint = \"{mark}\"\n[[peer]]\nae_title = \"B\"\nhost = \"b\"\nport = 1\n"
        ))
        .unwrap();
        let tls = config.peer("A").unwrap().tls.unwrap();
        assert_eq!(tls.fingerprint, Some("ab".repeat(32)));
        assert_eq!(tls.files.peers_ca, Some(PathBuf::from("/srv/ca.pem")));
        assert_eq!(config.peer("B").unwrap().tls, None);
    }
}
