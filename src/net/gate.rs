//! Who is let in, and to which services: asked once for each request for an association, answered by who knows the rules.

use super::Certificate;
use super::pdu::{Reject, UserIdentity};
use crate::dicom::service::Services;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// What is known of a requestor before it is let in.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// As in the A-ASSOCIATE-RQ: anybody can say any.
    pub calling: &'a str,
    pub called: &'a str,
    pub address: IpAddr,
    /// Of the client certificate that was verified.
    pub certificate: Option<&'a Certificate>,
    pub identity: Option<&'a UserIdentity>,
}

/// What somebody who is let in may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub services: Services,
    /// What in the configuration says so, for the log.
    pub by: String,
    /// Whose password was right.
    pub user: Option<String>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What the requestor is told.
    pub reject: Reject,
    /// For people here: one of the names in `docs/metrics.md`, what happened, and what to change.
    pub reason: &'static str,
    pub end: String,
    pub next: String,
}

pub type Judging<'a> = Pin<Box<dyn Future<Output = Result<Granted, Denied>> + Send + 'a>>;

pub trait Gate: Send + Sync {
    fn judge<'a>(&'a self, caller: Caller<'a>) -> Judging<'a>;
}

impl fmt::Debug for dyn Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
