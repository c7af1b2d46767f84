//! `[access]`: which callers may do what on the DICOM port.
//!
//! The first rule that fits a caller decides; who fits none is known as a peer, or is a stranger, for whom `unknown` decides.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

use super::PeerEntry;
use super::receiving::{check_pattern, title_fits};
use crate::dicom::{Service, Services};

/// `[access]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    pub unknown: Unknown,
    /// Moved to [`super::Config::accept_any_called`] when it is read.
    pub(super) called: Option<Called>,
    /// Nobody gets in without a user name and password that are known here.
    pub require_user: bool,
    /// The first that fits counts.
    #[serde(rename = "rule")]
    pub rules: Vec<AccessRule>,
}

/// What becomes of callers that no rule fits and that are no peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// Those from addresses that [`is_private`] may do everything, the others nothing.
    #[default]
    Private,
    /// They may do everything.
    Accept,
    /// They may do nothing.
    Refuse,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unknown::Private => "private",
            Unknown::Accept => "accept",
            Unknown::Refuse => "refuse",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Called {
    Any,
    Ours,
}

/// `[[access.rule]]`. Everything that it names must fit; of a list, one of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessRule {
    /// For the log and for people.
    pub name: String,
    /// A pattern of the calling AE title.
    pub calling: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub address: Option<Vec<Network>>,
    #[serde(deserialize_with = "one_or_many")]
    pub certificate: Option<Vec<CertificateName>>,
    /// Names of users whose password was right; `*` is any of them.
    #[serde(deserialize_with = "one_or_many")]
    pub user: Option<Vec<UserName>>,
    pub allow: Vec<Service>,
    pub refuse: bool,
}

/// What is known of a caller.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    pub calling: &'a str,
    /// Any form: an IPv4 address in IPv6 clothes is that IPv4 address.
    pub address: IpAddr,
    /// SHA-256 of its certificate, hexadecimal, lower case.
    pub fingerprint: Option<&'a str>,
    /// Of its certificate, such as `CN=ct1, O=Hospital`.
    pub subject: &'a str,
    /// Subject alternative names of its certificate.
    pub names: &'a [String],
    /// Whose password was right.
    pub user: Option<&'a str>,
}

/// What a caller may do, and what in the configuration says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// None: it is not let in.
    pub services: Services,
    pub by: By,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Counted from 1.
    Rule {
        number: usize,
        name: String,
    },
    /// Its AE title.
    Peer(String),
    Unknown(Unknown),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Rule { number, name } if name.is_empty() => {
                write!(f, "[[access.rule]] number {number}")
            }
            By::Rule { number, name } => write!(f, "[[access.rule]] number {number} ({name})"),
            By::Peer(title) => write!(f, "[[peer]] {title}"),
            By::Unknown(unknown) => write!(f, "[access] unknown = \"{unknown}\""),
        }
    }
}

impl Access {
    /// `peer`: the AE title of the peer that it is, where there is one ([`PeerEntry::is_at`]).
    pub fn decide(&self, who: &Who, peer: Option<&str>) -> Decision {
        let mut rules = self.rules.iter().enumerate();
        if let Some((at, rule)) = rules.find(|(_, rule)| rule.fits(who)) {
            return Decision {
                services: rule.allow.iter().copied().collect(),
                by: By::Rule {
                    number: at + 1,
                    name: rule.name.clone(),
                },
            };
        }
        if let Some(title) = peer {
            return Decision {
                services: Services::ALL,
                by: By::Peer(title.to_owned()),
            };
        }
        Decision {
            services: match self.lets_in_strangers(who.address) {
                true => Services::ALL,
                false => Services::NONE,
            },
            by: By::Unknown(self.unknown),
        }
    }

    /// Whether who fits no rule comes in from there, peer or not.
    pub fn lets_in_strangers(&self, address: IpAddr) -> bool {
        match self.unknown {
            Unknown::Private => is_private(address),
            Unknown::Accept => true,
            Unknown::Refuse => false,
        }
    }

    /// Whether it makes a difference who somebody is.
    pub fn asks_for_users(&self) -> bool {
        self.require_user || self.rules.iter().any(|rule| rule.user.is_some())
    }

    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        for (i, rule) in self.rules.iter().enumerate() {
            rule.check()
                .map_err(|reason| format!("[[access.rule]] number {}: {reason}", i + 1))?;
        }
        Ok(())
    }

    /// Whether an association with another called AE title is served. `older`: what `accept_any_called` says.
    pub(super) fn any_called(&self, older: Option<bool>) -> Result<bool, String> {
        let own = self.called.map(|called| called == Called::Any);
        match (own, older) {
            (Some(own), Some(older)) if own != older => Err(
                "[access] called and accept_any_called say different things; take accept_any_called out"
                    .to_owned(),
            ),
            (own, older) => Ok(own.or(older).unwrap_or(true)),
        }
    }
}

impl AccessRule {
    fn fits(&self, who: &Who) -> bool {
        let of_calling = self.calling.as_ref();
        let of_address = self.address.as_ref();
        let of_certificate = self.certificate.as_ref();
        let of_user = self.user.as_ref();
        of_calling.is_none_or(|pattern| title_fits(pattern, who.calling))
            && of_address.is_none_or(|all| all.iter().any(|one| one.has(who.address)))
            && of_certificate.is_none_or(|all| all.iter().any(|one| one.is_of(who)))
            && of_user.is_none_or(|all| all.iter().any(|one| one.is(who.user)))
    }

    fn check(&self) -> Result<(), String> {
        if let Some(calling) = &self.calling {
            check_pattern(calling)?;
        }
        if self.name.chars().any(char::is_control) || self.name.chars().count() > NAME_LENGTH_MAX {
            return Err(format!(
                "name is longer than {NAME_LENGTH_MAX} characters, or not plain text"
            ));
        }
        let lists = [
            ("address", self.address.as_ref().map(Vec::len)),
            ("certificate", self.certificate.as_ref().map(Vec::len)),
            ("user", self.user.as_ref().map(Vec::len)),
        ];
        if let Some((key, _)) = lists.iter().find(|(_, count)| *count == Some(0)) {
            return Err(format!("{key} is an empty list, which fits nobody"));
        }
        match (self.refuse, self.allow.is_empty()) {
            (true, false) => Err("it says both allow and refuse = true".to_owned()),
            (false, true) => Err(
                "it says neither what it allows (allow = [\"store\"], of echo, store, find, move, get, commitment) nor refuse = true"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// Of a rule's name, in characters.
const NAME_LENGTH_MAX: usize = 64;

/// Addresses that no router of the internet forwards to or from, and those of this machine: IPv4 loopback 127.0.0.0/8,
/// link-local 169.254.0.0/16 (RFC 3927), private 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918); IPv6 loopback ::1,
/// link-local fe80::/10, unique local fc00::/7 (RFC 4193).
///
/// Not 100.64.0.0/10 (RFC 6598): behind it are the other customers of a provider.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    }
}

/// Where a peer is, compared with where a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Here,
    Elsewhere,
    /// Its host is a name: that is to be looked up.
    Named,
}

impl PeerEntry {
    /// Whether it calls from this address. One whose address changes is known by its AE title alone, and that is worth
    /// nothing from the internet.
    pub fn is_at(&self, address: IpAddr) -> At {
        let at = |is: bool| if is { At::Here } else { At::Elsewhere };
        if self.is_caller() {
            return at(is_private(address));
        }
        match self.host.parse::<IpAddr>() {
            Ok(own) => at(own.to_canonical() == address.to_canonical()),
            Err(_) => At::Named,
        }
    }
}

/// An address, or all that begin as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Bits that count.
    prefix: u32,
}

impl Network {
    pub fn has(self, address: IpAddr) -> bool {
        fn same<const BITS: u32>(a: u128, b: u128, prefix: u32) -> bool {
            prefix == 0 || (a ^ b) >> (BITS - prefix) == 0
        }
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same::<32>(a.to_bits().into(), b.to_bits().into(), self.prefix)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same::<128>(a.to_bits(), b.to_bits(), self.prefix),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || {
            format!("{text:?} is no address, such as 192.168.1.20, 192.168.1.0/24 or fd00:1::/64")
        };
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let written: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if written.is_ipv4() { 32 } else { 128 };
        let mut prefix = match prefix {
            // Not `+24` and not `024`, which others read as another number.
            Some(text) if text.starts_with(['+', '0']) && text != "0" => return Err(wrong()),
            Some(text) => text.parse().map_err(|_| wrong())?,
            None => bits,
        };
        if prefix > bits {
            return Err(wrong());
        }
        let mut address = written;
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8: callers are compared without these clothes.
        if let (IpAddr::V6(_), canonical @ IpAddr::V4(_)) = (written, written.to_canonical())
            && prefix >= 96
        {
            (address, prefix) = (canonical, prefix - 96);
        }
        let network = Network { address, prefix };
        let first = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        match first == address {
            true => Ok(network),
            false => Err(format!(
                "{text:?} has more bits than its prefix; is {first}/{prefix} meant?"
            )),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix == bits {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

/// By which a certificate is known: its fingerprint, or a name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// SHA-256, hexadecimal, lower case.
    Fingerprint(String),
    /// The whole subject, or a subject alternative name; case does not count.
    Name(String),
}

impl CertificateName {
    fn is_of(&self, who: &Who) -> bool {
        match self {
            CertificateName::Fingerprint(own) => who.fingerprint == Some(own),
            // Without a certificate that was verified there are no names.
            CertificateName::Name(own) => {
                let mut names = who.names.iter();
                who.fingerprint.is_some()
                    && (who.subject.eq_ignore_ascii_case(own)
                        || names.any(|name| name.eq_ignore_ascii_case(own)))
            }
        }
    }
}

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(text: &str) -> Result<CertificateName, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("certificate is empty".to_owned());
        }
        let lower = text.to_ascii_lowercase();
        let (said, digits) = match lower.strip_prefix("sha256:") {
            Some(digits) => (true, digits.replace(':', "")),
            None => (false, lower.replace(':', "")),
        };
        let is_digest = digits.len() == 64 && digits.bytes().all(|c| c.is_ascii_hexdigit());
        match (is_digest, said) {
            (true, _) => Ok(CertificateName::Fingerprint(digits)),
            (false, true) => Err(format!("{text:?} is no SHA-256 fingerprint: 64 digits")),
            (false, false) => Ok(CertificateName::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateName::Fingerprint(digits) => write!(f, "sha256:{digits}"),
            CertificateName::Name(name) => f.write_str(name),
        }
    }
}

/// A user; case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    fn is(&self, user: Option<&str>) -> bool {
        user.is_some_and(|user| self.0 == "*" || self.0 == user)
    }
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<UserName, String> {
        match text.is_empty() {
            true => Err("user is empty; \"*\" is every user".to_owned()),
            false => Ok(UserName(text.to_owned())),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err = String>,
{
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    let read = texts.iter().map(|text| text.parse());
    let read: Result<Vec<T>, String> = read.collect();
    read.map(Some).map_err(serde::de::Error::custom)
}

/// The part of what `kura init` writes that is about access.
pub(super) const TEMPLATE: &str = r#"
[access]
# Callers that no rule below fits and that are no [[peer]]: "private" lets in those from this machine and from private
# addresses (127.0.0.0/8, 169.254.0.0/16, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, ::1, fe80::/10, fc00::/7), and
# nobody else; "accept" lets in everybody; "refuse" nobody.
unknown = "private"
# "any" serves a caller that calls us by another AE title, "ours" refuses it.
called = "any"
# Nobody gets in without a user name and password (kura access user add).
require_user = false

# Who may do what; the first that fits counts, and everything that it names must fit. An AE title alone is no proof:
# anybody can send any. kura access check says which rule fits a caller.
# [[access.rule]]
# name = "CT room"
# calling = "CT*"
# address = ["192.168.1.0/24", "10.1.2.3"]
# A client certificate (needs TLS): its SHA-256 fingerprint, its whole subject, or one of its alternative names.
# certificate = "sha256:…"
# Whose password was right; "*" is any user.
# user = "ct"
# Of echo, store, find, move, get, commitment; or refuse = true.
# allow = ["echo", "store", "commitment"]
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn access(text: &str) -> Result<Access, String> {
        Config::of_text(text).map(|config| config.access)
    }

    fn who<'a>(calling: &'a str, address: &str) -> Who<'a> {
        Who {
            calling,
            address: address.parse().unwrap(),
            fingerprint: None,
            subject: "CN=ct1, O=Hospital",
            names: &[],
            user: None,
        }
    }

    /// First and last address of each range, and those beside it.
    #[test]
    fn private_addresses_are_those_of_the_handbook_and_no_other() {
        for (private, beside) in [
            (
                ["127.0.0.1", "127.255.255.255"],
                ["126.255.255.255", "128.0.0.0"],
            ),
            (
                ["169.254.0.0", "169.254.255.255"],
                ["169.253.255.255", "169.255.0.0"],
            ),
            (
                ["10.0.0.0", "10.255.255.255"],
                ["9.255.255.255", "11.0.0.0"],
            ),
            (
                ["172.16.0.0", "172.31.255.255"],
                ["172.15.255.255", "172.32.0.0"],
            ),
            (
                ["192.168.0.0", "192.168.255.255"],
                ["192.167.255.255", "192.169.0.0"],
            ),
            (["::1", "::1"], ["::", "::2"]),
            (["fe80::", "febf:ffff::"], ["fe7f:ffff::", "fec0::"]),
            (["fc00::", "fdff:ffff::"], ["fbff:ffff::", "fe00::"]),
            // IPv4 in IPv6 clothes.
            (
                ["::ffff:10.1.2.3", "::ffff:192.168.0.1"],
                ["::ffff:8.8.8.8", "::10.1.2.3"],
            ),
        ] {
            for address in private {
                assert!(is_private(address.parse().unwrap()), "{address}");
            }
            for address in beside {
                assert!(!is_private(address.parse().unwrap()), "{address}");
            }
        }
        for address in [
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "64:ff9b::a00:1",
            "2001:db8::1",
        ] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    /// `unknown`, the address, whether it is a peer's, and whether it is let in.
    #[test]
    fn strangers_are_let_in_as_configured_and_peers_always() {
        for (unknown, address, peer, lets_in) in [
            ("private", "192.168.1.9", None, true),
            ("private", "::ffff:192.168.1.9", None, true),
            ("private", "203.0.113.9", None, false),
            ("private", "::ffff:203.0.113.9", None, false),
            ("private", "203.0.113.9", Some("MAC"), true),
            ("accept", "203.0.113.9", None, true),
            ("refuse", "127.0.0.1", None, false),
            ("refuse", "203.0.113.9", Some("MAC"), true),
        ] {
            let access = access(&format!("[access]\nunknown = \"{unknown}\"\n")).unwrap();
            let decision = access.decide(&who("X", address), peer);
            let services = if lets_in {
                Services::ALL
            } else {
                Services::NONE
            };
            assert_eq!(decision.services, services, "{unknown} {address} {peer:?}");
        }
        assert_eq!(Access::default().unknown, Unknown::Private);
    }

    /// Host of the peer, where it calls from, and whether it is that peer.
    #[test]
    fn a_peer_is_known_by_its_address_too() {
        for (host, address, at) in [
            ("192.168.1.20", "192.168.1.20", At::Here),
            ("192.168.1.20", "::ffff:192.168.1.20", At::Here),
            ("192.168.1.20", "192.168.1.21", At::Elsewhere),
            ("fd00::5", "fd00::5", At::Here),
            ("mac.hospital.example", "192.168.1.20", At::Named),
            // A title that anybody can send is enough nearby, and nothing from afar.
            ("caller", "192.168.1.20", At::Here),
            ("caller", "203.0.113.9", At::Elsewhere),
        ] {
            let peer = PeerEntry::new("MAC".parse().unwrap(), host, 104);
            assert_eq!(peer.is_at(address.parse().unwrap()), at, "{host} {address}");
        }
    }

    /// Method: one configuration with a rule of each kind; callers, the rule that is to fit, and what they may do.
    #[test]
    fn the_first_rule_that_fits_in_everything_decides() {
        let digest = "ab".repeat(32);
        let text = format!(
            "[[access.rule]]\ncalling = \"BAD*\"\nrefuse = true\n\
             [[access.rule]]\nname = \"CTs\"\ncalling = \"ct?\"\naddress = [\"10.1.0.0/16\", \"203.0.113.7\"]\nallow = [\"echo\", \"store\"]\n\
             [[access.rule]]\ncertificate = \"SHA256:{}\"\nallow = [\"get\"]\n\
             [[access.rule]]\ncertificate = [\"cn=CT1, O=Hospital\", \"Viewer.Example\"]\nallow = [\"find\"]\n\
             [[access.rule]]\nuser = [\"sato\", \"suzuki\"]\nallow = [\"move\"]\n\
             [[access.rule]]\nuser = \"*\"\naddress = \"2001:db8::/32\"\nallow = [\"commitment\"]\n",
            digest.to_uppercase()
        );
        let access = access(&text).unwrap();
        let names = ["viewer.example".to_owned()];
        let of_certificate = |fingerprint| Who {
            fingerprint,
            names: &names,
            ..who("X", "203.0.113.9")
        };
        let of_user = |user, address| Who {
            user: Some(user),
            ..who("X", address)
        };
        let cases = [
            (who(" bad1 ", "127.0.0.1"), 1, "nothing"),
            (who("CT1", "10.1.2.3"), 2, "echo, store"),
            (who("CT1", "::ffff:203.0.113.7"), 2, "echo, store"),
            (who("CT1", "203.0.113.8"), 0, "nothing"),
            (
                who("CT12", "10.1.2.3"),
                0,
                "echo, store, find, move, get, commitment",
            ),
            (of_certificate(Some(&digest)), 3, "get"),
            (of_certificate(Some("00")), 4, "find"),
            (
                Who {
                    names: &[],
                    ..of_certificate(Some("00"))
                },
                4,
                "find",
            ),
            // Names without a certificate are nobody's.
            (of_certificate(None), 0, "nothing"),
            (of_user("sato", "203.0.113.9"), 5, "move"),
            (of_user("Sato", "203.0.113.9"), 0, "nothing"),
            (of_user("tanaka", "2001:db8::9"), 6, "commitment"),
            (who("X", "2001:db8::9"), 0, "nothing"),
        ];
        for (who, number, services) in cases {
            let decision = access.decide(&who, None);
            assert_eq!(decision.services.to_string(), services, "{who:?}");
            match decision.by {
                By::Rule { number: found, .. } => assert_eq!(found, number, "{who:?}"),
                by => assert_eq!((number, by), (0, By::Unknown(Unknown::Private)), "{who:?}"),
            }
        }
        let decision = access.decide(&who("CT1", "10.1.2.3"), Some("CT1"));
        assert_eq!(decision.by.to_string(), "[[access.rule]] number 2 (CTs)");
        assert!(access.asks_for_users() && !Access::default().asks_for_users());
    }

    /// What is written, and an address that is in it and one that is not; or a part of the error.
    #[test]
    fn networks_are_read_strictly() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "fe80::1", "10.0.0.1"),
            ("fd00:1::/64", "fd00:1::9", "fd00:1:0:1::9"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.has(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.has(outside.parse().unwrap()), "{text} {outside}");
        }
        for (text, reason) in [
            ("10.0.0.1/8", "is 10.0.0.0/8 meant?"),
            ("fd00::1/64", "is fd00::/64 meant?"),
            ("10.0.0.0/33", "no address"),
            ("10.0.0.0/08", "no address"),
            ("10.0.0.0/", "no address"),
            ("10.0.0", "no address"),
            ("ct.example", "no address"),
            ("", "no address"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn impossible_rules_are_refused_with_their_number() {
        for (rule, reason) in [
            ("calling = \"CT\"", "number 2: it says neither"),
            (
                "allow = [\"store\"]\nrefuse = true",
                "number 2: it says both",
            ),
            ("allow = [\"stroe\"]", "stroe"),
            ("address = \"10.0.0.1/8\"\nrefuse = true", "10.0.0.0/8"),
            ("address = []\nrefuse = true", "empty list"),
            ("address = 5\nrefuse = true", "a list of texts"),
            ("calling = \" \"\nrefuse = true", "calling is empty"),
            ("certificate = \"sha256:abc\"\nrefuse = true", "64 digits"),
            ("user = \"\"\nrefuse = true", "user is empty"),
            ("host = \"10.0.0.1\"\nrefuse = true", "host"),
        ] {
            let text = format!("[[access.rule]]\nrefuse = true\n[[access.rule]]\n{rule}\n");
            let error = access(&text).unwrap_err();
            assert!(error.contains(reason), "{rule}: {error}");
        }
    }

    #[test]
    fn the_older_key_for_called_titles_still_counts() {
        for (text, any) in [
            ("", true),
            ("accept_any_called = false\n", false),
            ("[access]\ncalled = \"ours\"\n", false),
            ("[access]\ncalled = \"any\"\n", true),
            (
                "accept_any_called = false\n[access]\ncalled = \"ours\"\n",
                false,
            ),
        ] {
            let config = Config::of_text(text).unwrap();
            assert_eq!(config.accept_any_called, any, "{text}");
        }
        let both = "accept_any_called = true\n[access]\ncalled = \"ours\"\n";
        let error = Config::of_text(both).unwrap_err();
        assert!(error.contains("different things"), "{error}");
    }
}
