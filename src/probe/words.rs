//! What a failure of the network or a status means, and where to change what.

use crate::config::{Config, PeerEntry};
use crate::net::NetError;

/// A sentence, and the next step.
pub struct Said {
    pub found: String,
    pub next: String,
}

fn said(found: impl Into<String>, next: impl Into<String>) -> Said {
    Said {
        found: found.into(),
        next: next.into(),
    }
}

/// How this server is to be entered in another system.
pub fn us(config: &Config) -> String {
    let (title, port) = (&config.ae_title, config.port);
    format!("AE title {title}, the address of this machine, port {port}")
}

/// An association that did not come about.
pub fn no_association(error: &NetError, peer: &PeerEntry, config: &Config) -> Said {
    let (theirs, ours) = (&peer.ae_title, &config.ae_title);
    let enter = format!("enter this server there: {}", us(config));
    match error {
        NetError::Rejected(reject) => match (reject.source, reject.reason) {
            (1, 3) => said(
                format!("it does not know us: it refuses the calling AE title {ours}"),
                enter,
            ),
            (1, 7) => said(
                format!("it is not called {theirs}: it refuses that called AE title"),
                format!(
                    "look up its own AE title (upper and lower case may count), then: kura peer add THAT@{}:{}",
                    peer.host, peer.port
                ),
            ),
            (3, _) => said(
                format!("it is too busy at the moment ({reject})"),
                "try again; if that stays so, more associations are open to it than it allows",
            ),
            (1, 2) | (2, 2) => said(
                format!("it does not speak the same DICOM ({reject})"),
                "ask its manufacturer",
            ),
            _ => said(
                format!(
                    "it refuses the association ({reject}); most do so to whom they do not know"
                ),
                format!("{enter}; its log may say more"),
            ),
        },
        NetError::Aborted { .. } => said(
            format!("it breaks the association off at once ({error})"),
            format!("some do so to whom they do not know: {enter}; its log may say more"),
        ),
        NetError::Closed => said(
            "it takes the connection and closes it without a word",
            format!("some do so to addresses that they do not know: {enter}; or it expects TLS"),
        ),
        NetError::Timeout { .. } => said(
            "it takes the connection and says nothing",
            "is that a DICOM port? or does it expect TLS, or hang?",
        ),
        NetError::Protocol { .. } => said(
            "what answers there does not speak DICOM",
            "is that the right port?",
        ),
        NetError::Tls(error) => said(error.found.clone(), error.next.clone()),
        NetError::Connect { source, .. } => no_connection(source),
        error => said(error.to_string(), "its own log may say more"),
    }
}

pub fn no_connection(error: &std::io::Error) -> Said {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused => said(
            format!("the machine is there, and nothing listens on that port ({error})"),
            "nothing listens there: is the program started, and is that its port?",
        ),
        TimedOut | HostUnreachable => said(
            format!("there is no answer ({error})"),
            "is the machine on, its address right, and the port open in its firewall?",
        ),
        NetworkUnreachable => said(
            format!("this machine knows no way there ({error})"),
            "is the network plugged in, and the address right?",
        ),
        _ => said(
            error.to_string(),
            "is the address right, the machine on, and the port open in its firewall?",
        ),
    }
}

/// An association that broke while something was asked.
pub fn broke(error: &NetError) -> Said {
    match error {
        NetError::Stopped => said(
            "it did not come to an end in time",
            "its own log may say why",
        ),
        NetError::Timeout { .. } => said("it does not answer", "its own log may say why"),
        error => said(format!("it broke off: {error}"), "its own log may say why"),
    }
}

/// A status that is no success. Source: PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5; PS3.7 C.5.
pub fn status(status: u16) -> String {
    let means = match status {
        0x0110 => "processing failure",
        0x0117 => "invalid instance",
        0x0122 => "SOP class not supported",
        0x0124 => "not authorized",
        0x0211 => "unrecognized operation",
        0x0212 => "mistyped argument",
        0xA700..=0xA7FF => "out of resources",
        0xA801 => "move destination unknown",
        0xA900..=0xA9FF => "it does not fit the SOP class",
        0xB000..=0xBFFF => "a warning",
        0xC000..=0xCFFF => "unable to process",
        0xFE00 => "cancelled",
        _ => "no meaning that the standard gives",
    };
    format!("{status:04X}H, {means}")
}
