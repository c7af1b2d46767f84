//! What the archive is like at this moment: it looks at the disks, not at memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::index::{Copy, InstanceEntry, OtherKind, Totals};
use crate::volume::{Volume, VolumeState};

use super::capacity::Capacity;
use super::checked_status::CheckedStatus;
use super::copies_status::CopiesStatus;
use super::corrections::KeptStatus;
use super::filling::FillStatus;
use super::retention::RetentionStatus;
use super::shelf::{Member, Standing};
use super::way_in::WayIn;
use super::{Archive, Line};

/// Answer of `kura status`. Bytes and counts; the screen turns them into GB.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// Version of this object's shape.
    pub version: u32,
    /// `ok`, `degraded` or `lost`.
    pub state: String,
    /// What is wrong and what to do, a sentence each.
    pub actions: Vec<String>,
    pub index: IndexStatus,
    pub copies: CopiesStatus,
    pub volumes: Vec<VolumeStatus>,
    pub capacity: Capacity,
    /// What reading the copies again found.
    #[serde(default)]
    pub checked: CheckedStatus,
    /// Files that corrections replaced or removed.
    #[serde(default)]
    pub kept: KeptStatus,
    /// Absent without rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// Refused instances kept for the administrator: the report of each.
    pub quarantine: Vec<serde_json::Value>,
    /// SOP Instance UIDs under which different data sets came; the first is answered.
    pub conflicts: Vec<serde_json::Value>,
    /// How far images are looked at for extra keys; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_keys: Option<FillStatus>,
    /// Instances that `[[coerce]]` could not change and that are stored as they came, since the start.
    #[serde(default)]
    pub not_coerced_count: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IndexStatus {
    /// `live` or `rebuilding`.
    pub state: String,
    pub rebuilding_percent: Option<u8>,
    pub studies_count: u64,
    pub series_count: u64,
    pub instances_count: u64,
    pub instances_bytes: u64,
    pub variants_count: u64,
    pub conflicts_count: u64,
    /// Ledger lines that were damaged and skipped since the start.
    pub ledger_bad_lines_count: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumeStatus {
    pub name: String,
    pub volume_id: String,
    /// `archive` or `mirror`.
    pub role: String,
    pub path: String,
    /// `ok`, `retired`, `draining`, `adopted`, `failed` (it is served, not written), `away`, `ejected` or
    /// `replaced` (its disk was given up).
    pub state: String,
    /// Why it is failed or away.
    pub reason: String,
    pub used_bytes: Option<u64>,
    pub free_bytes: Option<u64>,
    /// Device number of its file system: two volumes with the same share their room.
    pub device: Option<u64>,
    /// Bytes that stay free.
    pub reserve_bytes: Option<u64>,
    /// Of instances on it, also while it is away. `None` when the index cannot be asked.
    pub instances_count: Option<u64>,
    pub instances_bytes: Option<u64>,
    pub studies_count: Option<u64>,
    /// Study dates, `YYYYMMDD`.
    pub oldest_date: Option<String>,
    pub newest_date: Option<String>,
    /// What was done to it, or could not be, when it was opened; a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Which way instances come in, and why; of an archive volume that a running server has open.
    #[serde(default)]
    pub intake: Option<WayIn>,
    /// Of an archive volume that is here and whose instances go through a journal.
    #[serde(default)]
    pub intake_journal: Option<IntakeStatus>,
}

/// The intake journal of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IntakeStatus {
    pub path: String,
    /// It lies on another disk, without which what waits in it is lost.
    pub is_elsewhere: bool,
    /// Instances that have no file and no ledger line yet.
    pub waiting_count: u64,
    pub waiting_bytes: u64,
    /// For how long the oldest has been waiting.
    pub oldest_seconds: u64,
    /// It failed: instances go the direct way.
    pub is_closed: bool,
    /// Flushes of its file since it was opened: what answers waited for.
    pub flushes: u64,
}

/// Conflicts and quarantine reports listed at most; the counts are complete.
const LISTED_COUNT_MAX: usize = 1_000;

impl Archive {
    pub fn status(&self) -> Status {
        let mut actions = Vec::new();
        let mut volumes = Vec::new();
        let mut quarantine = Vec::new();
        for member in self.shelf.all() {
            if let Some(volume) = askable(&member) {
                for report in volume.quarantined() {
                    if quarantine.len() < LISTED_COUNT_MAX {
                        let mut report: serde_json::Value =
                            serde_json::from_str(&report).unwrap_or_default();
                        report["volume"] = member.name.clone().into();
                        quarantine.push(report);
                    }
                }
            }
            let status = self.volume_status(&member);
            let name = &member.name;
            let reason = &status.reason;
            match status.state.as_str() {
                "failed" => actions.push(match member.here().map(|volume| volume.state()) {
                    Some(VolumeState::Failed(_)) => format!(
                        "volume {name} is not written ({reason}): kura volume eject {name}, look at the disk, mount it again, then: kura volume return {name}"
                    ),
                    _ => format!(
                        "volume {name} is not written ({reason}): look at the disk, its cable and its mount; it is written again by itself when it takes a probe; to mount it anew: kura volume eject {name} before, kura volume return {name} after"
                    ),
                }),
                "replaced" => {}
                "away" => actions.push(format!(
                    "volume {name} is away ({reason}): plug it in and mount it at {}, or: kura volume relocate {name} NEWPATH",
                    member.path.display()
                )),
                _ => {}
            }
            if let Some(intake) = &status.intake_journal {
                if intake.is_closed {
                    actions.push(format!(
                        "the intake journal of volume {name} takes nothing more ({}); instances are stored without it, slower: look at its disk, then start Kura again",
                        intake.path
                    ));
                }
                if intake.oldest_seconds >= super::carrying::OVERDUE.as_secs() {
                    actions.push(format!(
                        "{} instances wait in the intake journal {} and can be written to no volume: see to room, or to the disk of volume {name}",
                        intake.waiting_count, intake.path
                    ));
                }
            }
            volumes.push(status);
        }
        room_actions(&volumes, &mut actions);
        self.journal_actions(&mut actions);
        let (index, conflicts) = self.index_status(&mut actions);
        let judge = self.judge();
        let copies = self.copies_status(&judge);
        let checked = self.checked_status();
        checked.say_actions(&mut actions);
        self.rejection_actions(&mut actions);
        let lost_with_disk = self.replaced_actions(&mut actions);
        let about_copies = self.copies_actions(&judge, &copies, lost_with_disk);
        actions.splice(0..0, about_copies);
        let is_lost = lost_with_disk || copies.lost_count > 0;
        let state = match (is_lost, actions.is_empty()) {
            (true, _) => "lost",
            (false, true) => "ok",
            (false, false) => "degraded",
        };
        let capacity = self.capacity(&volumes);
        Status {
            version: 1,
            capacity,
            checked,
            retention: self.retention_status(),
            state: state.to_owned(),
            actions,
            index,
            copies,
            kept: self.kept_status(),
            volumes,
            quarantine,
            conflicts,
            extra_keys: self.fill_status(),
            not_coerced_count: self.coercion.failed_count(),
        }
    }

    fn volume_status(&self, member: &Member) -> VolumeStatus {
        let space = askable(member).map(|volume| volume.space());
        let (state, reason) = match &member.standing {
            Standing::Away { .. } if self.is_given_up(&member.volume_id) => {
                let by = self.replaced_by(&member.volume_id);
                let by = by.and_then(|by| self.shelf.by_id(&by));
                let reason = by.map_or("it is being forgotten".to_owned(), |by| {
                    format!(
                        "its disk was given up; volume {} stands in its place",
                        by.name
                    )
                });
                ("replaced", reason)
            }
            Standing::Away { reason, ejected } => {
                (if *ejected { "ejected" } else { "away" }, reason.clone())
            }
            Standing::Here(volume) => match (volume.state(), &space) {
                (VolumeState::Failed(reason) | VolumeState::Suspended(reason), _) => {
                    ("failed", reason)
                }
                _ if !volume.answers() => ("failed", "it does not answer".to_owned()),
                (_, Some(Err(error))) => ("failed", error.to_string()),
                _ if self.is_draining(&member.volume_id) => {
                    let reason = match self.not_drained_count(&member.volume_id) {
                        0 => String::new(),
                        count => format!("{count} instances cannot be moved; the log says why"),
                    };
                    ("draining", reason)
                }
                _ if volume.is_adopted() => ("adopted", String::new()),
                _ if member.retired => ("retired", String::new()),
                _ => ("ok", String::new()),
            },
        };
        let space = space.and_then(Result::ok);
        let totals = self
            .view()
            .and_then(|view| view.snapshot.volume_totals(&member.volume_id))
            .ok();
        VolumeStatus {
            name: member.name.clone(),
            volume_id: member.volume_id.clone(),
            role: member.role.to_string(),
            path: member.path.display().to_string(),
            state: state.to_owned(),
            reason,
            used_bytes: space.map(|space| space.total_bytes.saturating_sub(space.free_bytes)),
            free_bytes: space.map(|space| space.free_bytes),
            device: askable(member).and_then(|volume| volume.device().ok()),
            reserve_bytes: space.map(|space| self.reserve.bytes(space.total_bytes)),
            instances_count: totals.as_ref().map(|totals| totals.instances_count),
            instances_bytes: totals.as_ref().map(|totals| totals.bytes),
            studies_count: totals.as_ref().map(|totals| totals.studies_count),
            oldest_date: totals
                .as_ref()
                .and_then(|totals| totals.oldest_date.clone()),
            newest_date: totals.and_then(|totals| totals.newest_date),
            notes: member
                .here()
                .map(|volume| volume.healing().notes)
                .unwrap_or_default(),
            intake: member.here().and_then(|volume| self.way_in(volume)),
            intake_journal: member.here().and_then(|volume| self.intake_status(volume)),
        }
    }

    fn index_status(&self, actions: &mut Vec<String>) -> (IndexStatus, Vec<serde_json::Value>) {
        let mut totals = Totals::default();
        let mut conflicts = Vec::new();
        let mut rebuilding_percent = Some(0);
        if let Ok(view) = self.view() {
            rebuilding_percent = view.rebuilding_percent;
            let read = view.snapshot.totals().and_then(|read| {
                totals = read;
                view.snapshot.with_others(&mut |entry| {
                    if entry
                        .record
                        .others
                        .iter()
                        .any(|other| other.kind == OtherKind::Conflict)
                    {
                        conflicts.push(conflict(&entry));
                    }
                    if conflicts.len() < LISTED_COUNT_MAX {
                        std::ops::ControlFlow::Continue(())
                    } else {
                        std::ops::ControlFlow::Break(())
                    }
                })
            });
            if let Err(error) = read {
                self.index_failed(&error);
                rebuilding_percent = Some(0);
            }
        }
        if let Some(trouble) = self.keeper.trouble() {
            actions.push(format!(
                "the index cannot be written ({trouble}), and queries end with A700H: see to room on the disk of the state folder {}, and to the disk; receiving goes on, and it is tried again by itself",
                self.state.display()
            ));
        } else if let Some(percent) = rebuilding_percent {
            actions.push(format!(
                "the index is being rebuilt, {percent} % done: nothing to do, receiving goes on"
            ));
        }
        let bad_lines = self.keeper.bad_lines();
        if bad_lines > 0 {
            actions.push(format!(
                "{bad_lines} ledger lines are damaged: check the disk they are on"
            ));
        }
        let index = IndexStatus {
            state: if rebuilding_percent.is_some() {
                "rebuilding"
            } else {
                "live"
            }
            .to_owned(),
            rebuilding_percent,
            studies_count: totals.studies,
            series_count: totals.series,
            instances_count: totals.instances,
            instances_bytes: totals.bytes,
            variants_count: totals.variants,
            conflicts_count: totals.conflicts,
            ledger_bad_lines_count: bad_lines,
        };
        (index, conflicts)
    }
}

/// What is said where nothing can be stored, or copied, for want of room: nothing else is wrong then.
fn room_actions(volumes: &[VolumeStatus], actions: &mut Vec<String>) {
    if !can_store(volumes) {
        let nowhere = "nothing can be stored: no archive volume is there, is written and has room: make room or put a disk right, or: kura volume add NAME PATH";
        actions.insert(0, nowhere.to_owned());
    }
    let mut mirrors = volumes
        .iter()
        .filter(|volume| volume.role == "mirror" && volume.state == "ok")
        .peekable();
    if let Some(full) = mirrors.peek().map(|volume| volume.name.clone())
        && !mirrors.any(VolumeStatus::has_room)
    {
        actions.push(format!(
            "mirror volume {full} has no room, so that nothing gets a second copy: make room on it, or: kura volume add NAME PATH --role mirror"
        ));
    }
}

/// Whether an instance that comes now would find room on an archive volume that is written.
pub fn can_store(volumes: &[VolumeStatus]) -> bool {
    volumes
        .iter()
        .any(|volume| volume.role == "archive" && volume.state == "ok" && volume.has_room())
}

impl VolumeStatus {
    /// Bytes are free beyond those that stay free.
    fn has_room(&self) -> bool {
        self.free_bytes > self.reserve_bytes
    }
}

/// The volume, unless it failed or hangs: a disk that does not answer must not keep the status from being told.
fn askable(member: &Member) -> Option<&Arc<Volume<Line>>> {
    let failed = |volume: &Volume<Line>| matches!(volume.state(), VolumeState::Failed(_));
    member
        .here()
        .filter(|volume| !failed(volume) && volume.answers())
}

/// A conflict as the administrator reads it: where each data set lies and when it came.
fn conflict(entry: &InstanceEntry) -> serde_json::Value {
    let paths = |copies: &[Copy]| {
        copies
            .iter()
            .map(|copy| copy.path.clone())
            .collect::<Vec<_>>()
    };
    let record = &entry.record;
    let others: Vec<_> = record
        .others
        .iter()
        .filter(|other| other.kind == OtherKind::Conflict)
        .map(|other| {
            serde_json::json!({ "study_instance_uid": other.study_instance_uid, "received": other.received,
                "source_ae_title": other.source_ae_title, "paths": paths(&other.copies) })
        })
        .collect();
    serde_json::json!({
        "sop_instance_uid": entry.sop_instance_uid,
        "study_instance_uid": entry.study_instance_uid,
        "received": record.received,
        "source_ae_title": record.source_ae_title,
        "paths": paths(&record.copies),
        "others": others,
    })
}
