//! C-ECHO (PS3.7 9.1.5): the verification service.

use crate::net::dimse::CommandSet;
use crate::net::{Association, NetError};

use super::status::SUCCESS;

pub fn answer(
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
) -> Result<(), NetError> {
    super::drain(association)?;
    association.send(context_id, &CommandSet::response_to(command, SUCCESS), None)
}
