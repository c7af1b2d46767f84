//! What of this machine keeps the archive from its promises, or holds it up, in plain words.
//!
//! A running server is asked, as it knows what it measured and has the volumes open; otherwise a verb opens the archive, and
//! where even that fails looks at the folders ([`before_opening`]). What is measured is bounded in bytes and time, and each
//! volume is looked at by a thread of its own, because a disk may never answer.

mod clock;
mod facts;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::volume::device::{Shared, share};
use crate::volume::io::Disk;
use crate::volume::layout::Role;
use crate::volume::measure::Speed;
use crate::volume::{LabelState, Volume, VolumeState, device};

use super::shelf::{Member, Standing};
use super::status::VolumeStatus;
use super::{Archive, Line, OpenError};
use facts::{DiskFacts, VolumeFacts};

/// For all that is asked of one volume.
const PATIENCE: Duration = Duration::from_secs(30);
/// Written to each volume, and removed.
const TRIAL_BYTES: u64 = 64 << 20;
/// A slower disk is told by less.
const TRIAL_TIME: Duration = Duration::from_secs(5);
/// Open at the same moment: 256 associations with a connection and a file or two each, and the archive's own.
const FILES_WANTED: u64 = 1_024;
/// Full within so many days is worth a word.
const DAYS_NOTED: i64 = 60;
const DAYS_PRESSING: i64 = 7;

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Ok,
    /// It works; it could be better, or is to be known.
    Note,
    /// It does not work, or a promise is not kept.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    pub grade: Grade,
    /// `volume A`, `machine`.
    pub about: String,
    pub says: String,
    /// What to do; empty where nothing is.
    pub next: String,
}

impl Finding {
    pub fn ok(about: &str, says: impl Into<String>) -> Finding {
        Finding::new(Grade::Ok, about, says, "")
    }

    pub fn note(about: &str, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding::new(Grade::Note, about, says, next)
    }

    pub fn problem(about: &str, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding::new(Grade::Problem, about, says, next)
    }

    fn new(grade: Grade, about: &str, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding {
            grade,
            about: about.to_owned(),
            says: says.into(),
            next: next.into(),
        }
    }
}

impl Archive {
    /// Looks at the machine and at every volume.
    pub fn look_over(self: &Arc<Archive>) -> Vec<Finding> {
        let status = self.status();
        let mut findings = Vec::new();
        for action in &status.actions {
            findings.push(Finding::problem("archive", action, ""));
        }
        if status.actions.is_empty() {
            findings.push(Finding::ok("archive", "kura status has nothing to do"));
        }
        findings.push(filling(&status.capacity));
        findings.extend(machine());
        findings.push(Finding::ok(
            "state",
            format!("{} is ours and can be written", self.state.display()),
        ));
        let looks: Vec<_> = self
            .shelf
            .all()
            .into_iter()
            .zip(status.volumes)
            .map(|(member, status)| {
                let about = format!("volume {}", member.name);
                (about, self.look_in_peace(member, status))
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        for (about, look) in looks {
            let left = deadline.saturating_duration_since(Instant::now());
            match look.recv_timeout(left) {
                Ok(found) => findings.extend(found),
                Err(_) => findings.push(Finding::problem(
                    &about,
                    format!("it did not answer within {} s", PATIENCE.as_secs()),
                    "look at the disk, its cable and the system's log",
                )),
            }
        }
        findings
    }

    /// On a thread of its own, which ends when the disk answers.
    fn look_in_peace(
        self: &Arc<Archive>,
        member: Arc<Member>,
        status: VolumeStatus,
    ) -> mpsc::Receiver<Vec<Finding>> {
        let (found, look) = mpsc::channel();
        let archive = self.clone();
        let thread = std::thread::Builder::new().name("doctor".to_owned());
        let spawned = thread.spawn(move || {
            // Nobody may wait any more.
            drop(found.send(archive.look_over_volume(&member, &status)));
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to look at a volume");
        }
        look
    }

    fn look_over_volume(&self, member: &Arc<Member>, status: &VolumeStatus) -> Vec<Finding> {
        let about = format!("volume {}", member.name);
        let volume = match &member.standing {
            // What is to be done about one that is away is among the actions.
            Standing::Away { ejected, .. } => {
                return match ejected {
                    true => vec![Finding::ok(&about, "it was ejected")],
                    false => Vec::new(),
                };
            }
            Standing::Here(volume) => volume,
        };
        if !volume.answers() || volume.state() != VolumeState::Ok {
            return Vec::new();
        }
        self.measured(volume, status).findings(&about)
    }

    fn measured(&self, volume: &Arc<Volume<Line>>, status: &VolumeStatus) -> VolumeFacts {
        let disks = volume.disks().unwrap_or_default();
        let shares_with = self.shelf.all().into_iter().filter(|other| {
            let theirs = other.here().filter(|other| other.answers());
            let theirs = theirs.and_then(|other| other.disks().ok());
            let is_other = other.volume_id != volume.id();
            is_other && theirs.is_some_and(|theirs| share(&disks, &theirs) == Shared::Yes)
        });
        let shares_with = shares_with.map(|other| other.name.clone()).collect();
        let file_system = volume
            .device()
            .ok()
            .and_then(|number| device::file_system_of(volume.disk(), number, volume.root()));
        let is_written = !volume.is_adopted();
        let flush = is_written.then(|| volume.flush_time().map_err(|error| error.to_string()));
        let way_in = match self.way_in(volume) {
            None if volume.role() == Role::Archive && is_written => {
                // As the next start would have it.
                Some(self.choose_way(volume, &self.intake_folder(volume)).0)
            }
            known => known,
        };
        let reserve = status.reserve_bytes.unwrap_or(0);
        let free = status.free_bytes.unwrap_or(0);
        let has_room = free >= reserve.saturating_add(TRIAL_BYTES);
        let speed: Option<Result<Speed, String>> = (is_written && has_room).then(|| {
            let speed = volume.write_speed(TRIAL_BYTES, TRIAL_TIME);
            speed.map_err(|error| error.to_string())
        });
        VolumeFacts {
            role: volume.role(),
            is_adopted: volume.is_adopted(),
            is_retired: status.state != "ok",
            free_bytes: status.free_bytes,
            reserve_bytes: reserve,
            file_system,
            disks: disks
                .names
                .iter()
                .map(|name| DiskFacts {
                    name: name.clone(),
                    says: device::physical_disk(volume.disk(), name),
                })
                .collect(),
            shares_with,
            flush,
            way_in,
            speed,
        }
    }
}

/// What can be looked at of an archive that does not open. `why`: it does not.
pub fn before_opening(config: &Config, why: &OpenError) -> Vec<Finding> {
    let disk = Disk::default();
    let mut findings = vec![match why {
        OpenError::NotInitialized { .. } => {
            Finding::note("archive", "it was never started", "kura serve")
        }
        other => Finding::problem("archive", other.to_string(), ""),
    }];
    findings.extend(machine());
    let state = &config.state;
    findings.push(match disk.may_write_at(state) {
        true => Finding::ok("state", format!("{} can be written", state.display())),
        false => not_writable("state", state),
    });
    for entry in &config.volumes {
        let about = format!("volume {}", entry.name);
        let path = entry.path.display();
        let finding = match Volume::<Line>::label_of(&entry.path) {
            _ if !disk.may_write_at(&entry.path) => not_writable(&about, &entry.path),
            Ok(LabelState::Missing | LabelState::Empty) => Finding::note(
                &about,
                format!("there is nothing at {path} yet"),
                "kura serve makes it a volume, if no disk is to be mounted there first",
            ),
            Ok(LabelState::Label(_)) => Finding::ok(&about, format!("it is at {path}")),
            Ok(LabelState::Foreign) => Finding::problem(
                &about,
                format!("there are other files at {path}, and no label"),
                "name an empty folder, or take the files out",
            ),
            Err(error) => Finding::problem(&about, error.to_string(), ""),
        };
        findings.push(finding);
    }
    findings
}

fn not_writable(about: &str, path: &std::path::Path) -> Finding {
    let user = rustix::process::geteuid().as_raw();
    Finding::problem(
        about,
        format!("user {user} may not write {}", path.display()),
        format!("run Kura as the user whose folder it is, or: chown -R {user} the folder"),
    )
}

fn filling(capacity: &super::Capacity) -> Finding {
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let full_on: Option<jiff::civil::Date> =
        capacity.full_on.as_ref().and_then(|day| day.parse().ok());
    let Some(full_on) = full_on else {
        return Finding::ok("room", "nothing comes that would fill it");
    };
    let days = full_on
        .since(today)
        .map_or(0, |span| span.get_days().into());
    let says = format!("at the rate of the last days all volumes are full on {full_on}");
    let next = "add a disk: kura volume add NAME PATH";
    if days <= DAYS_PRESSING {
        Finding::problem("room", says, next)
    } else if days <= DAYS_NOTED {
        Finding::note("room", says, next)
    } else {
        Finding::ok("room", says)
    }
}

/// The clock, and how much may be open at the same moment.
fn machine() -> Vec<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = match limit {
        Some(limit) if limit < FILES_WANTED => Finding::note(
            "files",
            format!("{limit} may be open at the same moment; many senders at once need more"),
            format!("LimitNOFILE={FILES_WANTED} in its service, or ulimit -n {FILES_WANTED}"),
        ),
        Some(limit) => Finding::ok("files", format!("{limit} may be open at the same moment")),
        None => Finding::ok("files", "any number may be open at the same moment"),
    };
    vec![clock::clock(), files]
}
