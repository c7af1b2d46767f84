//! The errors of this layer.

use super::pdu::{AbortReason, Reject};
use super::tls::TlsError;
use std::io;
use std::time::Duration;

/// What can go wrong between us and a peer.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("association rejected by the peer: {0}")]
    Rejected(Reject),
    /// We refused the request and have told the peer.
    #[error("association refused: {0}")]
    Refused(Reject),
    #[error("connection closed by the peer without a release")]
    Closed,
    #[error("association aborted by the peer (source {source_code}, reason {reason_code})")]
    Aborted { source_code: u8, reason_code: u8 },
    #[error("nothing useful received or taken by the peer for {} s while {during}", .after.as_secs())]
    Timeout {
        during: &'static str,
        after: Duration,
    },
    /// The peer broke the protocol; an A-ABORT has been sent.
    #[error("protocol violated by the peer: {what}")]
    Protocol {
        what: &'static str,
        reason: AbortReason,
    },
    /// More than [`Association::set_command_bytes_max`](super::Association::set_command_bytes_max) allows; an A-ABORT has
    /// been sent.
    #[error("command set longer than {most} bytes")]
    CommandTooLong { most: usize },
    /// The association was ended through its [`AssociationHandle`](super::AssociationHandle).
    #[error("association ended by this server, which is stopping")]
    Stopped,
    /// What was to be sent could not be read; the message is incomplete and the caller aborts.
    #[error("data to be sent could not be read: {0}")]
    Source(io::Error),
    #[error("presentation context {0} was not accepted")]
    NoContext(u8),
    #[error("{0} presentation contexts; an association has at most 128")]
    TooManyContexts(usize),
    #[error("{0}")]
    Tls(Box<TlsError>),
    #[error("network error: {0}")]
    Io(#[from] io::Error),
}

impl NetError {
    pub(super) fn protocol(what: &'static str, reason: AbortReason) -> NetError {
        NetError::Protocol { what, reason }
    }

    /// Errors which mean that the other side went away get the one name for that.
    pub(super) fn from_io(error: io::Error) -> NetError {
        if let Some(error) = TlsError::within(&error) {
            return error.into();
        }
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
                NetError::Closed
            }
            _ => NetError::Io(error),
        }
    }
}

impl From<TlsError> for NetError {
    fn from(error: TlsError) -> NetError {
        NetError::Tls(Box::new(error))
    }
}
