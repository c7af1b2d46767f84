//! The services that we call on other systems (PS3.4): verification, storage, query, retrieve, storage commitment.

mod associate;
mod commitment;
mod echo;
mod find;
mod retrieve;
mod store;

pub use associate::{associate, identity};
pub use commitment::{
    Heard, failure_reason, hear_report, is_taken, report_commitment, request_commitment,
    send_report,
};
pub use echo::echo;
pub use find::find;
pub use retrieve::{RetrieveOutcome, Store, SubOperations, get, move_to};
pub use store::{DataSet, StoreOutcome, StoreRequest, store};

use crate::net::pdu::AbortReason;
use crate::net::{Association, CommandSet, NetError};

/// Every response has a status (PS3.7 C); one without it ends the association.
fn status_of(association: &mut Association, response: &CommandSet) -> Result<u16, NetError> {
    response.status().ok_or_else(|| {
        association.violated("response without a status", AbortReason::InvalidParameter)
    })
}
