//! What we answer, as the standard's status codes. Nothing else turns an error into a number.

use crate::archive::{FindError, IngestError};

/// A DIMSE status and the words for (0000,0902) Error Comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub comment: String,
}

pub const SUCCESS: u16 = 0x0000;
/// PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4: matching or sub-operations terminated by a C-CANCEL.
pub const CANCEL: u16 = 0xFE00;
pub const PENDING: u16 = 0xFF00;
/// PS3.4 C.4.2.1.5: sub-operations complete, one or more failed.
pub const WARNING_SUB_OPERATIONS: u16 = 0xB000;
/// PS3.4 B.2.3 and C.4.1.1.4: out of resources.
pub const OUT_OF_RESOURCES: u16 = 0xA700;
/// PS3.4 C.4.2.1.5: out of resources, unable to perform sub-operations.
pub const SUB_OPERATIONS_FAILED: u16 = 0xA702;
/// PS3.4 C.4.2.1.5: move destination unknown.
pub const MOVE_DESTINATION_UNKNOWN: u16 = 0xA801;
/// PS3.4 B.2.3 and C.4.1.1.4: data set or identifier does not match SOP class.
pub const DATA_SET_MISMATCH: u16 = 0xA900;
/// PS3.4 B.2.3 and C.4.1.1.4: cannot understand, unable to process.
pub const CANNOT_UNDERSTAND: u16 = 0xC000;
/// The same, for a required UID that is missing.
pub const MISSING_UID: u16 = 0xC001;
/// PS3.7 C.5.16: processing failure.
pub const PROCESSING_FAILURE: u16 = 0x0110;
/// PS3.7 C.5.17: no such SOP instance.
pub const NO_SUCH_INSTANCE: u16 = 0x0112;
/// PS3.7 C.5.6: invalid argument value.
pub const INVALID_ARGUMENT: u16 = 0x0115;
/// PS3.7 C.5.10: SOP class not supported.
pub const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
/// PS3.7 C.5: refused, not authorized.
pub const NOT_AUTHORIZED: u16 = 0x0124;
/// PS3.7 C.5.12: no such action.
pub const NO_SUCH_ACTION: u16 = 0x0123;
/// PS3.3 C.14: the transaction is in use.
pub const DUPLICATE_TRANSACTION: u16 = 0x0131;
/// PS3.7 C.5.14: unrecognized operation.
pub const UNRECOGNIZED_OPERATION: u16 = 0x0211;

/// PS3.7 C.5.25: resource limitation.
pub const RESOURCE_LIMITATION: u16 = 0x0213;

impl Status {
    pub fn new(code: u16, comment: impl Into<String>) -> Status {
        Status {
            code,
            comment: comment.into(),
        }
    }
}

impl From<&IngestError> for Status {
    fn from(error: &IngestError) -> Status {
        let code = match error {
            IngestError::NoVolume(_)
            | IngestError::NotRecovered(_)
            | IngestError::Busy
            | IngestError::NoMemory
            | IngestError::NoSecondCopy(_)
            | IngestError::NotHeeded(_)
            | IngestError::NotAnswered(_)
            | IngestError::Volume(_)
            | IngestError::Index(_) => OUT_OF_RESOURCES,
            IngestError::Missing { .. } => MISSING_UID,
            IngestError::Mismatch { .. } => DATA_SET_MISMATCH,
            IngestError::DataSet(_) => CANNOT_UNDERSTAND,
        };
        Status::new(code, error.to_string())
    }
}

impl From<&FindError> for Status {
    fn from(error: &FindError) -> Status {
        match error {
            FindError::Index(_) | FindError::TooMany | FindError::Rebuilding { .. } => {
                Status::new(OUT_OF_RESOURCES, error.to_string())
            }
        }
    }
}
