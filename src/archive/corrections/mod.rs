//! Changes of what is answered: a study of the wrong patient, one that must go, a conflict settled.
//!
//! Nothing is ever rewritten. A correction has a number. Before it counts, its new contents are stored `by` it, and rulings
//! with its number say which contents it withdraws; then one ledger line puts all of it in effect, from one commit of the
//! index to the next, and another may take it back. The same lines are in the ledgers of two volumes.

mod record;
mod tidy;
mod tidy_delete;
mod tidy_move;
mod tidy_notes;
mod tidy_plan;
mod tidy_status;
#[cfg(test)]
mod tidy_tests;

use std::sync::Mutex;

use crate::index::IndexError;
use crate::volume::VolumeError;

pub use tidy_plan::TRASH_EMPTIED;
pub use tidy_status::KeptStatus;

/// One correction is made at a time: each is decided by what is answered before it.
#[derive(Default)]
pub struct Corrections {
    making: Mutex<()>,
    tidy: tidy::Tidy,
}

impl Corrections {
    /// Whether contents are being made by that correction, which will be in effect or leave nothing behind.
    pub fn is_under_way(&self, _number: u64) -> bool {
        false
    }
}

/// Why a correction was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum CorrectionError {
    /// What is asked makes no sense for what is there; the sentence says what to do.
    #[error("{0}")]
    Refused(String),
    #[error("no volume can take the lines of a correction: {0}; nothing was changed")]
    NoVolume(String),
    #[error("nothing was changed: {0}")]
    Volume(#[from] VolumeError),
    #[error("nothing was changed: {0}")]
    Index(#[from] IndexError),
}
