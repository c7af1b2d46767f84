//! Changes of what is answered: a study of the wrong patient, one that must go, a conflict settled.
//!
//! Nothing is ever rewritten. A correction has a number. Before it counts, its new contents are stored `by` it, and rulings
//! with its number say which contents it withdraws; then one ledger line puts all of it in effect, from one commit of the
//! index to the next, and another may take it back. The same lines are in the ledgers of two volumes.

mod amend;
mod asked;
mod changes;
mod conflicts;
mod goal;
mod making;
mod new_files;
mod picked;
mod plan;
mod pouring;
mod protect;
mod record;
mod rejection;
mod remove;
mod selected;
mod settle;
mod split_series;
mod tidy;
mod tidy_delete;
mod tidy_move;
mod tidy_notes;
mod tidy_plan;
mod tidy_status;
#[cfg(test)]
mod tidy_tests;
mod trash;
mod under_way;
mod undo;

use std::sync::Mutex;

use crate::dicom::AeTitle;
use crate::index::IndexError;
use crate::volume::VolumeError;

use super::{Archive, View};

pub(super) use rejection::{Note, may_be_note};

pub use asked::{
    Amend, AmendPlan, AmendSaid, AmendStatus, AmendVerb, Change, ChangesVerb, Differs, Undo,
};
pub use conflicts::{
    Conflicts, ConflictsSaid, ConflictsVerb, Duplicate, ElementDifference, KeptContent, MixedStudy,
    TwoPeople,
};
pub use picked::{Cause, Chosen};
pub use protect::Protection;
pub use remove::{Removal, RemovalSaid, RemovalVerb, RemovedOn};
pub use split_series::{SeriesPart, SplitSeries};
pub(super) use tidy_move::was_removed_since;
pub(super) use tidy_plan::{Place, TRASH_EMPTIED};
pub use tidy_status::KeptStatus;
pub use trash::{Thrown, TrashItem};
use under_way::UnderWay;

/// One correction is made at a time: each is decided by what is answered before it.
pub struct Corrections {
    making: Mutex<()>,
    /// Held through a whole amendment, which may take hours; `making` only while it is put in effect.
    amending: Mutex<()>,
    tidy: tidy::Tidy,
    under_way: UnderWay,
    failed_notes: rejection::FailedNotes,
    /// Who modifies, as amended data sets say it.
    modifying_system: String,
}

impl Corrections {
    pub fn new(ae_title: &AeTitle) -> Corrections {
        Corrections {
            making: Mutex::default(),
            amending: Mutex::default(),
            tidy: Default::default(),
            under_way: UnderWay::default(),
            failed_notes: Default::default(),
            modifying_system: ae_title.as_str().to_owned(),
        }
    }

    /// Whether contents are being made by that correction, which will be in effect or leave nothing behind.
    pub fn is_under_way(&self, number: u64) -> bool {
        self.under_way.is(number)
    }
}

impl Archive {
    /// What is answered now, if that is everything: nothing is decided by a part of it.
    fn complete_view(&self) -> Result<View, CorrectionError> {
        let view = self.view()?;
        match view.rebuilding_percent {
            None => Ok(view),
            Some(percent) => Err(CorrectionError::Refused(format!(
                "the index is being made anew, {percent} % done; nothing was changed; try again when kura status says it is complete"
            ))),
        }
    }
}

/// Why a correction was not made. Nothing has changed then, but for `Unknown`.
#[derive(Debug, thiserror::Error)]
pub enum CorrectionError {
    /// What is asked makes no sense for what is there; the sentence says what to do.
    #[error("{0}")]
    Refused(String),
    #[error("no volume can take the lines of a correction: {0}; nothing was changed")]
    NoVolume(String),
    /// The line that says it may be on a disk, and is certainly on no other.
    #[error(
        "{source}; whether change {number} is in effect is known when the volume is opened again; kura changes list shows it then"
    )]
    Unknown { number: u64, source: VolumeError },
    #[error("nothing was changed: {0}")]
    Volume(#[from] VolumeError),
    #[error("nothing was changed: {0}")]
    Index(#[from] IndexError),
}
