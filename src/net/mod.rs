//! The wire: PDUs (PS3.8), associations, DIMSE messages (PS3.7). Knows no service.
//!
//! Negotiation is asynchronous, so that a thousand silent connections cost nothing; what it
//! yields is a blocking [`Association`] for one thread, with one fixed buffer.

pub mod accept;
pub mod association;
pub mod dimse;
mod error;
pub mod extended;
mod handle;
#[cfg(test)]
pub(crate) mod loopback;
pub mod pdu;
mod receive;
mod request;
mod send;

pub use accept::{AcceptError, AcceptPolicy, Asked, RefusedContext, accept};
pub use association::{Association, Context, Peer, Received, Timeouts};
pub use dimse::CommandSet;
pub use error::NetError;
pub use handle::AssociationHandle;
pub use pdu::RoleSelection;
