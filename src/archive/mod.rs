//! The promise: durable, indexed, then "yes".
//!
//! An [`Archive`] is the volumes, the index beside them and the rules between the two. It knows nothing of associations;
//! it hands out instances being received, instances opened for reading, and matches of a query.

pub mod entry;
mod fetch;
mod find;
mod ingest;
mod keeper;
mod locks;
mod places;
mod state;
mod status;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::config::{Config, EngineName, OrderName, RoleName};
use crate::index::{Change, Engine, IndexError};
use crate::volume::io::{Disk, DiskFile};
use crate::volume::layout::Role;
use crate::volume::placement::{self, Candidate, Order, Reserve};
use crate::volume::{Incoming, LabelState, Spec, Volume, VolumeError, VolumeState};

pub use fetch::{Fetched, Unreadable};
pub use find::{FindError, Selected, Selection};
pub use ingest::{Announced, IngestError, Kept, Outcome, Receiving};
pub use keeper::View;
pub use status::{Status, VolumeStatus};

use keeper::{Keeper, Source};
use locks::UidLocks;
use places::Places;
use state::Identity;

/// What goes with a ledger line, to the index once the line is flushed.
type Line = Arc<Change>;

pub struct Archive {
    volumes: Vec<Volume<Line>>,
    keeper: Arc<Keeper>,
    keeper_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    places: Places,
    locks: UidLocks,
    reserve: Reserve,
    order: Order,
    quarantine_bytes: u64,
    /// Says that this process owns the state folder; released when the archive is closed.
    _lock: DiskFile,
}

/// Why an archive did not open. Each is one sentence: object, fact, what did not happen.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("{path}: {source}; nothing was started")]
    State {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("another kura has the state folder {path} open; nothing was started")]
    StateInUse { path: PathBuf },
    #[error("[placement] reserve = {text:?}: {reason}; nothing was started")]
    Reserve { text: String, reason: String },
    #[error(
        "volume {name} at {path} holds files but no label (kura-volume.json); it was not touched. \
         Give Kura an empty folder, or take the files out"
    )]
    Foreign { name: String, path: PathBuf },
    #[error(
        "volume {name} at {path} belongs to archive {found}, this is archive {expected}; nothing was written"
    )]
    OtherArchive {
        name: String,
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error(
        "volume {name} at {path} is not the disk it was (label {found}, expected {expected}); nothing was written"
    )]
    OtherVolume {
        name: String,
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error(
        "volume {name} at {path} is not there; nothing was started. Mount the disk, or correct its path"
    )]
    Missing { name: String, path: PathBuf },
    #[error("volume {name} at {path} has no label yet: run kura serve once")]
    NotInitialized { name: String, path: PathBuf },
}

/// May opening label an empty volume folder and create what is missing?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `kura serve`.
    Create,
    /// Verbs that only look.
    Existing,
}

impl Archive {
    pub fn open(config: &Config, mode: Mode) -> Result<Archive, OpenError> {
        Archive::open_on(config, mode, &Disk::default())
    }

    /// As [`Archive::open`], with every change of a volume going through `disk` (tests inject faults there).
    pub fn open_on(config: &Config, mode: Mode, disk: &Disk) -> Result<Archive, OpenError> {
        let reserve: Reserve =
            config
                .placement
                .reserve
                .parse()
                .map_err(|reason| OpenError::Reserve {
                    text: config.placement.reserve.clone(),
                    reason: format!("{reason}"),
                })?;
        // Everything that can be refused is looked at before the first byte is written anywhere.
        let labels = look_at_labels(config)?;
        let found: Vec<_> = labels
            .iter()
            .map(|state| match state {
                LabelState::Label(label) => Some(label.clone()),
                _ => None,
            })
            .collect();
        let mut identity = Identity::load(&config.state, &found)?;
        check_labels(config, &labels, &identity, mode)?;
        let lock = state::lock(&config.state)?;
        let engine = match config.engine {
            EngineName::Redb => Engine::Redb,
            EngineName::Sled => Engine::Sled,
        };
        let keeper = Keeper::open(config.state.join("index"), engine)?;
        let mut volumes = Vec::new();
        for (entry, label) in config.volumes.iter().zip(found) {
            let role = match entry.role {
                RoleName::Archive => Role::Archive,
                RoleName::Mirror => Role::Mirror,
            };
            let spec = Spec {
                name: entry.name.clone(),
                path: entry.path.clone(),
                role,
            };
            let label = match label {
                Some(label) => label,
                None => Volume::<Line>::initialize(disk, &spec, &identity.archive_id)?,
            };
            let live = keeper.clone();
            let volume_id = label.volume_id.clone();
            let after_flush = Box::new(move |group| live.apply(&volume_id, group));
            identity
                .volumes
                .insert(entry.name.clone(), label.volume_id.clone());
            volumes.push(Volume::open(
                disk,
                &spec,
                &identity.archive_id,
                after_flush,
            )?);
        }
        identity.save(&config.state)?;
        let sources: Vec<Source> = volumes
            .iter()
            .map(|volume| Source {
                volume_id: volume.id().to_owned(),
                folder: volume.ledger_folder(volume.id()),
                disk: volume.disk().clone(),
            })
            .collect();
        let sequence = keeper::last_sequence(&sources);
        let thread = keeper.start(sources, sequence);
        let archive = Archive {
            volumes,
            keeper,
            keeper_thread: Mutex::new(Some(thread)),
            places: Places::default(),
            locks: UidLocks::default(),
            reserve,
            order: match config.placement.order {
                OrderName::InOrder => Order::InOrder,
                OrderName::MostFree => Order::MostFree,
            },
            quarantine_bytes: config.limits.quarantine_bytes,
            _lock: lock,
        };
        for volume in 0..archive.volumes.len() {
            if archive.volumes[volume].role() == Role::Archive {
                let carried = archive.resume(volume)?;
                if carried > 0 {
                    let name = archive.volumes[volume].name();
                    tracing::info!(
                        volume = name,
                        instances_count = carried,
                        "unfinished instances carried to their end"
                    );
                }
            }
        }
        Ok(archive)
    }

    fn volume(&self, volume_id: &str) -> Option<&Volume<Line>> {
        self.volumes.iter().find(|volume| volume.id() == volume_id)
    }

    /// The volume that the next instance goes to, by what is free now.
    fn choose_volume(&self) -> Result<usize, IngestError> {
        let mut reasons = Vec::new();
        let mut candidates = Vec::new();
        for (index, volume) in self.volumes.iter().enumerate() {
            if volume.role() != Role::Archive {
                continue;
            }
            match (volume.state(), volume.space()) {
                (VolumeState::Failed(reason), _) => {
                    reasons.push(format!("volume {}: {reason}", volume.name()))
                }
                (VolumeState::Ok, Err(error)) => {
                    reasons.push(format!("volume {}: {error}", volume.name()))
                }
                (VolumeState::Ok, Ok(space)) => {
                    reasons.push(format!("volume {} full", volume.name()));
                    candidates.push(Candidate {
                        index,
                        free_bytes: space.free_bytes,
                        total_bytes: space.total_bytes,
                        writable: true,
                        reserve: &self.reserve,
                    });
                }
            }
        }
        placement::choose(&candidates, self.order, 0, None)
            .ok_or_else(|| IngestError::NoVolume(reasons.join("; ")))
    }

    /// A full disk is judged afresh with the next instance; a flush or a ledger that failed is not (the kernel has
    /// forgotten what it could not write, so a later success would prove nothing).
    fn volume_failed(&self, volume: usize, error: &VolumeError) {
        let volume = &self.volumes[volume];
        if error.is_flush_failure() {
            volume.mark_failed(&error.to_string());
        }
        tracing::error!(volume = volume.name(), %error, "a volume did not take an instance");
    }

    fn quarantine(&self, volume: usize, incoming: Incoming, report: &str) {
        match self.volumes[volume].quarantine(incoming, report, self.quarantine_bytes) {
            Ok(name) => tracing::warn!(
                volume = self.volumes[volume].name(),
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

    /// A record did not pass its checksum, say: the index is replaced.
    pub fn index_failed(&self, error: &IndexError) {
        self.keeper.failed(error);
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
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

fn look_at_labels(config: &Config) -> Result<Vec<LabelState>, OpenError> {
    config
        .volumes
        .iter()
        .map(|entry| Ok(Volume::<Line>::label_of(&entry.path)?))
        .collect()
}

/// Is every volume what the configuration and the archive say it is?
fn check_labels(
    config: &Config,
    labels: &[LabelState],
    identity: &Identity,
    mode: Mode,
) -> Result<(), OpenError> {
    for (entry, label) in config.volumes.iter().zip(labels) {
        let (name, path) = (entry.name.clone(), entry.path.clone());
        let known = identity.volumes.get(&entry.name);
        match label {
            LabelState::Foreign => return Err(OpenError::Foreign { name, path }),
            LabelState::Label(label) if label.archive_id != identity.archive_id => {
                let (found, expected) = (label.archive_id.clone(), identity.archive_id.clone());
                return Err(OpenError::OtherArchive {
                    name,
                    path,
                    found,
                    expected,
                });
            }
            LabelState::Label(label) if known.is_some_and(|id| *id != label.volume_id) => {
                let (found, expected) =
                    (label.volume_id.clone(), known.cloned().unwrap_or_default());
                return Err(OpenError::OtherVolume {
                    name,
                    path,
                    found,
                    expected,
                });
            }
            LabelState::Label(_) => {}
            // A volume that was here once: its disk is not mounted. Labelling the empty mount point would put the next
            // images on the system's disk.
            LabelState::Missing | LabelState::Empty if known.is_some() => {
                return Err(OpenError::Missing { name, path });
            }
            LabelState::Missing | LabelState::Empty if mode == Mode::Existing => {
                return Err(OpenError::NotInitialized { name, path });
            }
            LabelState::Missing | LabelState::Empty => {}
        }
    }
    Ok(())
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
