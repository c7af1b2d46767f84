//! What a certificate of TLS says of who has it (RFC 5280). Read, not judged: that is rustls's.

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Most names of a certificate that are kept, and characters of each: it is held as long as the association.
const NAMES_MAX: usize = 32;
const NAME_LENGTH_MAX: usize = 253;
const SUBJECT_LENGTH_MAX: usize = 512;

/// Who is at the other end, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Such as `CN=ct1, O=Hospital`; empty when there is none or it cannot be read.
    pub subject: String,
    /// Subject alternative names: DNS names, addresses, mail addresses and URIs.
    pub names: Vec<String>,
    /// SHA-256 of the whole certificate, 64 hexadecimal digits in lower case.
    pub fingerprint: String,
    /// Seconds since 1970; `None` when it cannot be read.
    pub not_after: Option<i64>,
}

impl Certificate {
    /// `der`: what a peer sent; anything at all before it was verified.
    pub fn of(der: &[u8]) -> Certificate {
        let mut made = Certificate {
            subject: String::new(),
            names: Vec::new(),
            fingerprint: fingerprint(der),
            not_after: None,
        };
        let Ok((_, read)) = X509Certificate::from_der(der) else {
            return made;
        };
        made.subject = plain(&read.subject().to_string(), SUBJECT_LENGTH_MAX);
        made.not_after = Some(read.validity().not_after.timestamp());
        if let Ok(Some(alternative)) = read.subject_alternative_name() {
            let names = alternative.value.general_names.iter().filter_map(name);
            made.names = names
                .take(NAMES_MAX)
                .map(|name| plain(&name, NAME_LENGTH_MAX))
                .collect();
        }
        made
    }

    /// Its last day, `YYYY-MM-DD`.
    pub fn until(&self) -> Option<String> {
        let second = jiff::Timestamp::from_second(self.not_after?).ok()?;
        Some(second.strftime("%Y-%m-%d").to_string())
    }

    /// Whom it is for, in a few words.
    pub fn who(&self) -> String {
        match (self.names.is_empty(), self.subject.is_empty()) {
            (false, _) => self.names.join(", "),
            (true, false) => self.subject.clone(),
            (true, true) => "nobody".to_owned(),
        }
    }
}

/// SHA-256 in hexadecimal digits.
pub fn fingerprint(der: &[u8]) -> String {
    let digest = Sha256::digest(der);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Words of a stranger, for logs and screens.
fn plain(text: &str, length_max: usize) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(length_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn subject_names_and_last_day_are_read() {
        let names = vec!["ct1.hospital".to_owned(), "10.0.0.7".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "CT\n1");
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let certificate = Certificate::of(made.der());
        assert!(
            certificate.subject.contains("CT1"),
            "{}",
            certificate.subject
        );
        assert_eq!(certificate.names, ["ct1.hospital", "10.0.0.7"]);
        assert_eq!(certificate.until().unwrap(), "2031-02-03");
        assert_eq!(certificate.fingerprint.len(), 64);
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let certificate = Certificate::of(&bytes);
            prop_assert_eq!(certificate.fingerprint.len(), 64);
        }
    }
}
