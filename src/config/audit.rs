//! `[audit]`: how long the audit trail is kept, and where its messages go.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Days; 0: for ever.
    pub keep_days: u64,
    /// What queries look for is noted, too: names and numbers of patients. Otherwise only which attributes, and UIDs.
    pub query_values: bool,
    /// Where messages go: `udp://`, `tcp://` or `tls://`, host and port. Absent: nowhere.
    pub syslog: Option<Target>,
    /// PEM: who signs the certificate of that server.
    pub syslog_ca: Option<PathBuf>,
    /// PEM: what we show to that server.
    pub syslog_certificate: Option<PathBuf>,
    pub syslog_key: Option<PathBuf>,
    /// AuditSourceID; absent: the name of this machine.
    pub source_id: Option<String>,
    /// AuditEnterpriseSiteID.
    pub site_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RFC 5426.
    Udp,
    /// RFC 6587 3.4.1.
    Tcp,
    /// RFC 5425.
    Tls,
}

/// A server that takes messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    pub transport: Transport,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

/// Shorter and a month could go while somebody still works with it.
const KEEP_DAYS_MIN: u64 = 31;
/// A hundred years.
const KEEP_DAYS_MAX: u64 = 36_525;
const ID_LENGTH_MAX: usize = 128;

impl Audit {
    pub(super) fn check(&mut self, base: &Path) -> Result<(), String> {
        let wrong = |reason: &str| Err(format!("[audit] {reason}"));
        if self.keep_days != 0 && !(KEEP_DAYS_MIN..=KEEP_DAYS_MAX).contains(&self.keep_days) {
            return wrong(&format!(
                "keep_days = {}: 0 for ever, or {KEEP_DAYS_MIN} to {KEEP_DAYS_MAX}",
                self.keep_days
            ));
        }
        for file in [
            &mut self.syslog_ca,
            &mut self.syslog_certificate,
            &mut self.syslog_key,
        ] {
            *file = file.take().map(|path| base.join(path));
        }
        let transport = self.syslog.as_ref().map(|target| target.transport);
        if transport == Some(Transport::Tls) && self.syslog_ca.is_none() {
            return wrong(
                "syslog = \"tls://…\" needs syslog_ca: who signs that server's certificate (PEM)",
            );
        }
        if self.syslog_certificate.is_some() != self.syslog_key.is_some() {
            return wrong("syslog_certificate and syslog_key go together");
        }
        for id in [&self.source_id, &self.site_id].into_iter().flatten() {
            if id.trim().is_empty() || id.len() > ID_LENGTH_MAX || id.chars().any(char::is_control)
            {
                return wrong(&format!("{id:?} is no name: 1 to {ID_LENGTH_MAX} bytes"));
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Target, String> {
        text.parse()
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let wrong = || {
            format!("{text:?} is no such server: udp://, tcp:// or tls://, and HOST or HOST:PORT")
        };
        let (transport, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (transport, port) = match transport {
            "udp" => (Transport::Udp, 514),
            "tcp" => (Transport::Tcp, 601),
            "tls" => (Transport::Tls, 6514),
            _ => return Err(wrong()),
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                match behind.strip_prefix(':') {
                    Some(port) => (host, port.parse().map_err(|_| wrong())?),
                    None if behind.is_empty() => (host, port),
                    None => return Err(wrong()),
                }
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
                None => (rest, port),
            },
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(is_plain) {
            return Err(wrong());
        }
        Ok(Target {
            transport,
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let way = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        };
        match self.host.contains(':') {
            true => write!(f, "{way}://[{}]:{}", self.host, self.port),
            false => write!(f, "{way}://{}:{}", self.host, self.port),
        }
    }
}

pub(super) const TEMPLATE: &str = r#"
[audit]
# Who stored, asked for, read, sent, changed and deleted what: kura audit list. Days for which that is kept; 0: for ever.
# The law of the country says for how long it must be.
keep_days = 0
# Whether what queries look for is kept, too: names and numbers of patients. Otherwise which attributes they ask by.
query_values = false
# A server that collects audit messages (PS3.15 A.5): "udp://HOST:514", "tcp://HOST:601" or "tls://HOST:6514".
# syslog = "tls://audit.example.jp:6514"
# PEM files: who signs that server's certificate; certificate and key that we show to it.
# syslog_ca = "audit-ca.pem"
# syslog_certificate = "kura.crt"
# syslog_key = "kura.key"
# How messages name this archive (AuditSourceID), and its site (AuditEnterpriseSiteID); otherwise this machine's name.
# source_id = "kura.example.jp"
# site_id = "1.2.3.4"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("udp://10.0.0.1", "udp://10.0.0.1:514"),
            ("tcp://audit.example.jp:1514", "tcp://audit.example.jp:1514"),
            ("tls://audit/", "tls://audit:6514"),
            ("tls://[::1]:7", "tls://[::1]:7"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        for text in [
            "",
            "audit",
            "http://audit",
            "udp://",
            "udp://a b",
            "tcp://a:0",
            "tcp://a:70000",
            "tls://[::1",
            "tls://a/b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_not_work_is_refused() {
        let read = |text: &str| {
            let audit: Audit = toml::from_str(text).map_err(|error| error.to_string())?;
            let mut audit = audit;
            audit.check(Path::new("/srv")).map(|()| audit)
        };
        for wrong in [
            "keep_days = 1",
            "keep_days = 100000",
            "syslog = \"tls://audit\"",
            "syslog_key = \"a\"",
            "source_id = \" \"",
            "syslog = \"file:///etc/passwd\"",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let read = read("syslog = \"tls://audit\"\nsyslog_ca = \"ca.pem\"").unwrap();
        assert_eq!(read.syslog_ca.unwrap(), Path::new("/srv/ca.pem"));
        assert_eq!(Audit::default().keep_days, 0);
    }
}
