//! The wire: PDUs (PS3.8), associations, DIMSE messages (PS3.7). Knows no service.
//!
//! Negotiation is asynchronous, so that a thousand silent connections cost nothing; what it
//! yields is a blocking [`Association`] for one thread, with one fixed buffer.

pub mod accept;
pub mod association;
pub mod certificate;
pub mod dimse;
mod error;
pub mod extended;
pub mod gate;
mod handle;
#[cfg(test)]
pub(crate) mod loopback;
pub mod pdu;
mod receive;
mod request;
mod send;
pub mod tls;
mod wire;

pub use accept::{AcceptError, AcceptPolicy, Asked, RefusedContext, accept, accept_over_tls};
pub use association::{Association, Context, Peer, Received, Timeouts};
pub use certificate::Certificate;
pub use dimse::CommandSet;
pub use error::NetError;
pub use gate::{Caller, Denied, Gate, Granted};
pub use handle::AssociationHandle;
pub use pdu::RoleSelection;
pub use tls::{TlsAcceptor, TlsError, TlsFault, TlsRequestor};
