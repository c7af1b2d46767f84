//! The promise: durable, indexed, then "yes".
//!
//! An [`Archive`] is the volumes, the index beside them and the rules between the two. It knows nothing of associations;
//! it hands out instances being received, instances opened for reading, and matches of a query.
//!
//! | for | files |
//! |---|---|
//! | receiving, answering, handing back | `ingest`, `coerce`, `resent`, `placing`, `places`, `locks`, `way_in`, `carrying`, `replaying`, `journals`, `before_ack`, `find`, `fetch`, `picture` |
//! | the index in step with the ledgers | `keeper`, `touched`, `entry`, `listed`, `content`, `filling` |
//! | what came, told once | `arrived` |
//! | the disks on the shelf | `shelf`, `open`, `state`, `watch`, `verbs`, `drain`, `shipping`, `beside`, `healing`, `from_disks`, `reload` |
//! | second copies | `safety`, `due`, `mirror`, `mirror_status`, `copying`, `copies_status` |
//! | reading again what is there | `checked`, `checked_file`, `checked_status`, `scrub`, `reread`, `suspects`, `bad_copies`, `assured` |
//! | changing what is answered | `corrections/` |
//! | images leave the volumes that received them | `retention/` |
//! | a dead disk | `replace`, `replace_status`, `restoring`, `forget`, `reports` |
//! | long work by command | `work`, `equalize`, `survey`, `in_place`, `adopt`, `take_over`, `theirs`, `at_rest`, `drill`, `drill_report`, `scratch` |
//! | what is said of all | `status`, `stats`, `capacity`, `study_copies`, `doctor`, `process` |

mod adopt;
mod arrived;
mod assured;
mod at_rest;
mod bad_copies;
mod before_ack;
mod beside;
mod capacity;
mod carrying;
mod checked;
mod checked_file;
mod checked_status;
mod coerce;
mod content;
mod copies_status;
mod copying;
mod corrections;
mod doctor;
mod drain;
mod drill;
mod drill_report;
mod due;
pub mod entry;
mod equalize;
mod fetch;
mod filling;
mod find;
mod forget;
mod from_disks;
mod healing;
mod in_place;
mod ingest;
mod journals;
mod keeper;
mod listed;
mod locks;
mod mirror;
mod mirror_status;
mod open;
mod picture;
mod places;
mod placing;
mod process;
mod reload;
mod replace;
mod replace_status;
mod replaying;
mod reports;
mod reread;
mod resent;
mod restoring;
mod retention;
mod safety;
mod scratch;
mod scrub;
mod shelf;
mod shipping;
mod state;
mod stats;
mod status;
mod study_copies;
mod survey;
mod suspects;
mod take_over;
mod theirs;
mod told;
mod touched;
mod verbs;
mod watch;
mod way_in;
mod work;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Live;
use crate::dicom::scan::Bounds;
use crate::index::{Change, IndexError};
use crate::volume::io::{Disk, DiskFile};
use crate::volume::placement::{Order, Reserve};
use crate::volume::{Incoming, Volume};

pub use arrived::{Arrival, Coming, Marks, Taken};
pub use assured::Assured;
pub use beside::Content as BesideContent;
pub use capacity::Capacity;
pub use checked_status::{CheckedStatus, VolumeChecked};
pub use copies_status::{CopiesStatus, LastKnown, LostInstance};
pub use corrections::{
    Amend, AmendPlan, AmendSaid, AmendStatus, AmendVerb, Cause, Change as Correction, ChangesVerb,
    Chosen, Conflicts, ConflictsSaid, ConflictsVerb, CorrectionError, Differs, Duplicate,
    ElementDifference, KeptContent, KeptStatus, MixedStudy, Protection, Removal, RemovalSaid,
    RemovalVerb, RemovedOn, SeriesPart, SplitSeries, Thrown, TrashItem, TwoPeople, Undo,
};
pub use doctor::{Finding as DoctorFinding, Grade, before_opening};
pub use drill_report::DrillReport;
pub use due::Asked;
pub use fetch::{Fetched, Unreadable};
pub use filling::FillStatus;
pub use find::{FindError, Selected, Selection};
pub use from_disks::{AwayVolume, FoundVolume, FromDisks, Listed, from_disks};
pub use ingest::{Announced, IngestError, Kept, Outcome, Receiving};
pub use keeper::View;
pub use mirror_status::{LastRun as MirrorRun, MirrorStatus, MirrorVerb};
pub use open::{Mode, OpenError};
pub use picture::Pictured;
pub use process::{ProcessFacts, process_facts};
pub use replace_status::{CopiedFrom, ReplaceStatus};
pub use reports::{Piece, ReportName, ReportVerb, Shown, Write as WriteReport};
pub use restoring::Counted;
pub use retention::{KeptInstance, RetentionReport, RetentionStatus, RuleReport};
pub use scrub::LastRound;
pub use state::{
    FILE as IDENTITY_FILE, Identity, identity_of, lock as lock_state, read as read_identity,
};
pub use stats::{Stats, StatsBy, StatsRow};
pub use status::{Status, VolumeStatus, can_store};
pub use study_copies::{CopiesOn, SeriesCopies, StudyCopies};
pub use told::Gone;
pub use verbs::{VerbError, VolumeSaid, VolumeVerb};
pub use watch::Watch;
pub use way_in::{Way, WayIn};
pub use work::{Depth, Finding, VolumeReport, WorkStatus, WorkVerb};

use keeper::Keeper;
use locks::UidLocks;
use places::Places;
use shelf::Shelf;

/// What goes with a ledger line, to the index once the line is flushed.
type Line = Arc<Change>;

pub struct Archive {
    shelf: Shelf,
    /// What of the shelf outlives this process; held while the shelf is changed.
    identity: Mutex<Identity>,
    arrivals: arrived::Arrivals,
    keeper: Arc<Keeper>,
    keeper_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Ids of volumes that somebody is opening at this moment.
    opening: Mutex<HashSet<String>>,
    shipper: shipping::Shipper,
    beside: beside::Beside,
    places: Places,
    locks: UidLocks,
    work: work::Work,
    mode: Mode,
    disk: Disk,
    state: PathBuf,
    /// Where volumes are written down for the next start.
    config_file: Option<PathBuf>,
    reserve: Reserve,
    order: Order,
    quarantine_bytes: Live<u64>,
    /// Of data sets that are received.
    bounds: Live<Bounds>,
    drains: drain::Drains,
    mirror: mirror::Mirror,
    mirror_config: Live<crate::config::Mirror>,
    restoring: restoring::Restoring,
    scrub_config: Live<crate::config::Scrub>,
    rejection_config: Live<crate::config::Rejection>,
    suspects: suspects::Suspects,
    buffers: fetch::Buffers,
    checks: Arc<checked::Checks>,
    corrections: corrections::Corrections,
    corrections_config: Live<crate::config::Corrections>,
    duplicates: Live<crate::config::Duplicates>,
    coercion: coerce::Coercion,
    retention: retention::Retention,
    told: told::Told,
    intake_config: crate::config::Intake,
    carrying: carrying::Carrying,
    filling: filling::Filling,
    /// Volumes that are being looked at.
    looking: Mutex<HashSet<String>>,
    /// Long work ends soon.
    stopping: AtomicBool,
    /// Says that this process owns the state folder; released when the archive is closed.
    _lock: DiskFile,
}

impl Archive {
    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quarantine(&self, volume: &Volume<Line>, incoming: Incoming, report: &str) {
        match volume.quarantine(incoming, report, *self.quarantine_bytes.now()) {
            Ok(name) => tracing::warn!(
                volume = volume.name(),
                name,
                "an instance was put in quarantine"
            ),
            Err(error) => tracing::warn!(%error, "a refused instance was not kept"),
        }
    }

    /// Reads every ledger again into a new index, in the background.
    pub fn rebuild_index(&self) {
        self.keeper.rebuild();
    }

    pub fn view(&self) -> Result<View, IndexError> {
        self.keeper.view()
    }

    /// Brings up to date what the next start would miss, should a disk be gone by then: to be called when nothing is stored
    /// any more, as somebody who hangs on to the archive may keep it from being closed.
    pub fn leave_in_order(&self) {
        // A verb that only looks leaves the disks as they are.
        if self.mode == Mode::Create {
            for member in self.shelf.all() {
                if let Some(volume) = member.here() {
                    match self.empty_intake(volume) {
                        Ok(()) => self.note_settled(volume),
                        Err(error) => {
                            tracing::error!(volume = member.name, %error, "instances stay in the intake journal until the next start");
                        }
                    }
                }
            }
            self.ship();
        }
        // The next start goes on above all numbers, also if the volume that has the highest is gone by then.
        let floor = self.identity().sequence_floor;
        if self.keeper.sequence() > floor
            && let Err(error) = self.save_identity()
        {
            tracing::warn!(%error, "archive.json was not brought up to date");
        }
    }

    /// A record did not pass its checksum, say: the index is replaced.
    pub fn index_failed(&self, error: &IndexError) {
        self.keeper.failed(error);
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.leave_in_order();
        self.keeper.stop();
        if let Some(thread) = self
            .keeper_thread
            .lock()
            .ok()
            .and_then(|mut thread| thread.take())
        {
            // A panic there was reported by its own message; the ledgers are whole whatever the index is.
            drop(thread.join());
        }
    }
}

/// Now, UTC, RFC 3339 with milliseconds.
pub fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

/// The day of receipt in local time, `YYYYMMDD`: what the staff call today.
fn today() -> String {
    jiff::Zoned::now().strftime("%Y%m%d").to_string()
}
