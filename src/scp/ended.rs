//! How an association ended, or why there was none, in words: what happened, and what the other side or a person should
//! change.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::dicom::names::{sop_class_name, transfer_syntax_name};
use crate::metrics::{Ended, Metrics};
use crate::net::{Asked, NetError, RefusedContext, TlsFault, pdu};

use super::limited::Exceeded;

/// Why an association failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// One of the names in `docs/metrics.md`.
    pub reason: &'static str,
    pub end: String,
    pub next: String,
}

impl Why {
    pub fn new(reason: &'static str, end: impl Into<String>, next: impl Into<String>) -> Why {
        Why {
            reason,
            end: end.into(),
            next: next.into(),
        }
    }
}

/// What went wrong with single requests of an association that went on: the first, and how many.
#[derive(Debug, Default)]
pub struct Troubles {
    first: Option<Why>,
    count: u64,
}

impl Troubles {
    pub fn note(&mut self, why: impl FnOnce() -> Why) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(why());
        }
    }

    fn why(&self) -> Option<Why> {
        let mut why = self.first.clone()?;
        if self.count > 1 {
            why.end = format!("{}; {} requests failed in all", why.end, self.count);
        }
        Some(why)
    }
}

/// A connection on which nothing was negotiated. `error`: none, as the deadline was over. Who only looks whether the port
/// is open is counted, not remembered.
pub fn never_came(
    metrics: &Metrics,
    config: &Config,
    (association_id, address): (u64, IpAddr),
    asked: &Asked,
    error: Option<&NetError>,
    exceeded: Option<Exceeded>,
    elapsed: Duration,
) {
    let Some(why) = why_not(config, asked, error, exceeded) else {
        metrics.counters.port_checked();
        return;
    };
    metrics.association_ended(Ended {
        association_id,
        address: address.to_string(),
        calling: asked.calling.clone(),
        called: asked.called.clone(),
        implementation: asked.implementation_version_name.clone(),
        begun: jiff::Timestamp::now().to_string(),
        seconds: elapsed.as_secs_f64(),
        end: why.end,
        failed: true,
        reason: why.reason.to_owned(),
        next: why.next,
        ..Ended::default()
    });
}

fn why_not(
    config: &Config,
    asked: &Asked,
    error: Option<&NetError>,
    exceeded: Option<Exceeded>,
) -> Option<Why> {
    let first = asked.first_bytes.as_slice();
    let ours = &config.ae_title;
    if let Some(denied) = &asked.denied {
        let (end, next) = (denied.end.as_str(), denied.next.as_str());
        return Some(Why::new(denied.reason, end, next));
    }
    Some(match error {
        Some(NetError::Refused(reject)) => match *reject {
            pdu::Reject::CALLED_AE_TITLE => Why::new(
                "called-ae-title",
                format!(
                    "refused: it calls {}, and this server is {ours}",
                    shown(&asked.called)
                ),
                format!(
                    "set the AE title of this archive to {ours} in the other system, or here: [access] called = \"any\""
                ),
            ),
            pdu::Reject::LOCAL_LIMIT if exceeded.is_some_and(|limit| limit.key == "open_files") => {
                Why::new(
                    "busy",
                    "refused for now: too few files may be open here for another association",
                    "kura doctor says how many may be open, and how to allow more",
                )
            }
            pdu::Reject::LOCAL_LIMIT => Why::new(
                "busy",
                format!(
                    "refused for now: {} associations are open at most, {} from one address",
                    config.limits.associations, config.limits.associations_per_address
                ),
                "most systems try again by themselves; if it goes on, see which associations it leaves open, or raise [limits]",
            ),
            other => Why::new(
                "protocol-version",
                format!("refused: {other}"),
                "it does not speak DICOM as everybody does (PS3.8): ask its manufacturer",
            ),
        },
        Some(NetError::Tls(error)) => Why::new(
            tls_reason(error.fault),
            error.found.clone(),
            error.next.clone(),
        ),
        _ if is_tls(first) && !asked.over_tls => Why::new(
            "tls",
            "it began with TLS; this port speaks DICOM without it",
            match config.tls.port {
                Some(port) => format!("give the other system port {port} for this archive"),
                None => "switch TLS (\"secure DICOM\") off for this archive in the other system, or have a port for it here: [tls] port".to_owned(),
            },
        ),
        Some(NetError::Protocol { .. }) if is_http(first) => Why::new(
            "http",
            "it sent a web request to the DICOM port",
            format!(
                "the administrator's page has another port ({}); a monitoring program asks /healthz there",
                config.admin.port
            ),
        ),
        Some(NetError::Protocol { what, .. }) => match first.first() {
            Some(1) => Why::new(
                "protocol",
                format!("its request for an association cannot be read: {what}"),
                "ask its manufacturer",
            ),
            _ => Why::new(
                "not-dicom",
                "what it sent is not DICOM",
                "find out what runs at that address, and take this port out of its settings",
            ),
        },
        None if first.is_empty() => Why::new(
            "silent",
            format!(
                "it connected and said nothing for {} s",
                config.limits.negotiation_seconds
            ),
            "is it a DICOM system? its log may say what it waits for",
        ),
        None if is_tls(first) => Why::new(
            "silent",
            "its TLS handshake did not come to an end within 30 s",
            "look at the network between the two, and at the log of the other system",
        ),
        None => Why::new(
            "silent",
            format!(
                "its request for an association did not come to an end within {} s",
                config.limits.negotiation_seconds
            ),
            "look at the network between the two",
        ),
        Some(_) if first.is_empty() => return None,
        Some(error) => Why::new(
            "gone",
            format!("it went away before there was an association: {error}"),
            "look at the network between the two, and at the log of the other system",
        ),
    })
}

/// What is to be said of an association that came about. `messages_count`: that came over it.
pub fn of(
    result: &Result<&'static str, NetError>,
    asked: &Asked,
    troubles: &Troubles,
    messages_count: u64,
) -> Result<String, Why> {
    let error = match result {
        Ok(end) => {
            if let Some(why) = troubles.why() {
                return Err(Why {
                    end: format!("{end}; {}", why.end),
                    ..why
                });
            }
            // A context it wanted was not accepted, and without it there was nothing to say.
            if messages_count == 0 && asked.refused_count > 0 {
                return Err(not_accepted(asked));
            }
            return Ok((*end).to_owned());
        }
        Err(error) => error,
    };
    let resent = "what was not answered is not stored; see whether the other system sent it again";
    Err(match error {
        NetError::Stopped => return Ok(error.to_string()),
        NetError::Closed => Why::new(
            "gone",
            "it went away in the middle: the connection was closed without a release",
            format!(
                "look at the network between the two, and at the log of the other system; {resent}"
            ),
        ),
        NetError::Aborted { .. } => Why::new(
            "aborted",
            format!("it broke off in the middle: {error}"),
            format!("its own log says why; {resent}"),
        ),
        NetError::Timeout { during, after } => Why::new(
            "silent",
            format!(
                "given up: it neither sent nor took anything for {} s while {during}",
                after.as_secs()
            ),
            format!("was it switched off, or the network cut? {resent}"),
        ),
        NetError::Protocol { what, .. } => Why::new(
            "protocol",
            format!("given up: it broke the protocol ({what})"),
            "ask its manufacturer; kura serve --trace-association writes down what it says",
        ),
        NetError::CommandTooLong { most } => Why::new(
            "protocol",
            format!("given up: it sent a command of more than {most} bytes"),
            "ask its manufacturer; kura serve --trace-association writes down what it says",
        ),
        NetError::Tls(error) => Why::new(
            tls_reason(error.fault),
            format!("broken: {}", error.found),
            format!("{}; {resent}", error.next),
        ),
        error => Why::new("network", format!("broken: {error}"), resent),
    })
}

fn tls_reason(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::Plain => "tls-missing",
        TlsFault::NothingInCommon => "tls-version",
        TlsFault::NoCertificate | TlsFault::Certificate => "tls-certificate",
        TlsFault::Refused => "tls-refused",
        TlsFault::Ours | TlsFault::Broken => "tls-broken",
    }
}

fn not_accepted(asked: &Asked) -> Why {
    let contexts: Vec<String> = asked.refused.iter().map(context).collect();
    let mut listed = contexts.join("; ");
    if asked.refused_count > asked.refused.len() {
        listed.push_str("; and more");
    }
    if asked.refused.iter().any(|context| context.is_forbidden) {
        let by = asked
            .granted
            .as_ref()
            .map_or("nothing", |granted| &granted.by);
        return Why::new(
            "not-allowed",
            format!("nothing that it wanted is allowed to it by {by}: {listed}"),
            "if it may, add that to allow of the rule in kura.toml, or an [[access.rule]] before it, then: kura reload",
        );
    }
    let is_about_syntaxes = asked.refused.iter().all(|context| !context.is_unknown);
    let next = match is_about_syntaxes {
        true => "let it offer Explicit or Implicit VR Little Endian for that",
        false => {
            "this server stores, finds and hands out images; what else it wants (a worklist, MPPS, printing) is another server's"
        }
    };
    Why::new(
        "no-context",
        format!("nothing that it wanted is offered here: {listed}"),
        next,
    )
}

fn context(refused: &RefusedContext) -> String {
    let class = sop_class_name(&refused.abstract_syntax);
    if refused.is_unknown || refused.is_forbidden {
        return class;
    }
    let syntaxes = refused.transfer_syntaxes.iter();
    let syntaxes: Vec<String> = syntaxes.map(|uid| transfer_syntax_name(uid)).collect();
    format!("{class} in {}", syntaxes.join(", "))
}

/// A TLS record of a handshake (RFC 8446 5.1).
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [0x16, 3, 0..=4, ..])
}

fn is_http(first: &[u8]) -> bool {
    let methods: [&[u8]; 5] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTION"];
    methods.iter().any(|method| first.starts_with(method))
}

/// An AE title of a stranger.
fn shown(title: &str) -> String {
    match title {
        "" => "no AE title".to_owned(),
        plain if plain.chars().all(|c| c.is_ascii_graphic() || c == ' ') => plain.to_owned(),
        odd => format!("{odd:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::TlsError;
    use crate::net::pdu::AbortReason;

    fn asked(first: &[u8]) -> Asked {
        Asked {
            first_bytes: first.to_vec(),
            called: "OTHER".to_owned(),
            ..Asked::default()
        }
    }

    /// On the port for TLS, what it is that went wrong has its own name, and its own words.
    #[test]
    fn failures_of_tls_are_told_apart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = Config::load(Some(file.path())).unwrap();
        let mut came = asked(&[0x16, 3, 1, 2, 0, 1]);
        came.over_tls = true;
        let reason =
            |error: Option<&NetError>| why_not(&config, &came, error, None).unwrap().reason;
        for (fault, name) in [
            (TlsFault::Plain, "tls-missing"),
            (TlsFault::NothingInCommon, "tls-version"),
            (TlsFault::NoCertificate, "tls-certificate"),
            (TlsFault::Refused, "tls-refused"),
        ] {
            let error = TlsError::new(fault, "found", "next").into();
            assert_eq!(reason(Some(&error)), name);
        }
        assert_eq!(reason(None), "silent");
    }

    /// What came, how it ended, and the name that has.
    #[test]
    fn each_failure_has_its_name_and_says_what_to_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = Config::load(Some(file.path())).unwrap();
        let odd = || NetError::Protocol {
            what: "first bytes are not an A-ASSOCIATE-RQ",
            reason: AbortReason::NotSpecified,
        };
        let refused = |reject| Some(NetError::Refused(reject));
        for (first, error, reason) in [
            (
                &[1, 0][..],
                refused(pdu::Reject::CALLED_AE_TITLE),
                "called-ae-title",
            ),
            (&[1, 0], refused(pdu::Reject::LOCAL_LIMIT), "busy"),
            (&[0x16, 3, 1, 2, 0, 1], Some(odd()), "tls"),
            (&[0x16, 3, 1], None, "tls"),
            (b"GET / ", Some(odd()), "http"),
            (b"hello!", Some(odd()), "not-dicom"),
            (b"", None, "silent"),
            (&[1, 0, 0], None, "silent"),
            (&[1, 0, 0], Some(NetError::Closed), "gone"),
        ] {
            let why = why_not(&config, &asked(first), error.as_ref(), None).unwrap();
            assert_eq!(why.reason, reason, "{first:?} {error:?}");
            assert!(!why.end.is_empty() && !why.next.is_empty());
        }
        assert_eq!(
            why_not(&config, &asked(b""), Some(&NetError::Closed), None),
            None
        );
    }
}
