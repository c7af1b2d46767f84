//! Opening an archive: look at everything, refuse before the first byte is written, then open what is here.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::{Config, EngineName, Live, OrderName, RoleName, VolumeEntry};
use crate::dicom::extra_keys::keep_also;
use crate::index::{Engine, IndexError, engine};
use crate::volume::io::Disk;
use crate::volume::layout::{Label, Role};
use crate::volume::ledger_heal::{Copies, LedgerCopy};
use crate::volume::placement::{Order, Reserve};
use crate::volume::{LabelState, Spec, Volume, VolumeError, adopted};

use super::coerce::Coercion;
use super::filling::Filling;
use super::keeper::Keeper;
use super::mirror::Mirror;
use super::retention::{self, Retention};
use super::shelf::{Member, Shelf, Standing, what_is_there};
use super::state::{self, Identity, Known};
use super::{Archive, Line, scratch};

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
    #[error("{0}; nothing was started")]
    Coercion(String),
    #[error("[placement] reserve = {text:?}: {reason}; nothing was started")]
    Reserve { text: String, reason: String },
    #[error("[[retention.rule]] when_free_below: {0}; nothing was started")]
    FreeBelow(crate::volume::placement::ReserveError),
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
        "{} and {} have the same label ({volume_id}): one is a copy of the other; nothing was started. Take one out of the configuration",
        first.display(), second.display()
    )]
    Twins {
        volume_id: String,
        first: PathBuf,
        second: PathBuf,
    },
    #[error("this process keeps other extra keys already; nothing was opened")]
    ExtraKeys,
    #[error("volume {name} at {path} has no label yet: run kura serve once")]
    NotInitialized { name: String, path: PathBuf },
}

/// Why a volume is away that the archive has had.
pub(super) const NOT_CONFIGURED: &str = "not in the configuration";
/// Why a volume is away whose disk was replaced.
pub(super) const GIVEN_UP: &str = "its disk was given up";

/// A verb that only looks, where no server runs, has the state folder open for less than this: a server that is started
/// at that moment waits for it.
const LOOKING: Duration = Duration::from_secs(5);

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
    ///
    /// A volume that was here once and is not now does not keep the others from being served: it is away, and is taken
    /// back when it returns.
    pub fn open_on(config: &Config, mode: Mode, disk: &Disk) -> Result<Archive, OpenError> {
        if !keep_also(&config.index.extra_keys) {
            return Err(OpenError::ExtraKeys);
        }
        let patience = match mode {
            Mode::Create => LOOKING,
            Mode::Existing => Duration::ZERO,
        };
        // Before anything is looked at, so that it stays as it is found. A new state folder is made later: what is refused
        // leaves nothing behind.
        let lock = match state::has_lock(&config.state) {
            true => Some(state::lock(&config.state, patience)?),
            false => None,
        };
        let config = &with_known_volumes(config)?;
        let reserve: Reserve =
            config
                .placement
                .reserve
                .parse()
                .map_err(|reason| OpenError::Reserve {
                    text: config.placement.reserve.clone(),
                    reason: format!("{reason}"),
                })?;
        let coercion = match mode {
            Mode::Create => Coercion::open(&config.coerce, config.ae_title.as_str()),
            // Nothing is received.
            Mode::Existing => Ok(Coercion::default()),
        };
        let coercion = coercion.map_err(OpenError::Coercion)?;
        let retention = retention::Rules::new(&config.retention).map_err(OpenError::FreeBelow)?;
        // Everything that can be refused is looked at before the first byte is written anywhere.
        let labels = config
            .volumes
            .iter()
            .map(|entry| Volume::<Line>::label_of(&entry.path))
            .collect::<Vec<_>>();
        let labelled: Vec<(PathBuf, Label)> = config
            .volumes
            .iter()
            .zip(&labels)
            .filter_map(|(entry, label)| match label {
                Ok(LabelState::Label(label)) => Some((entry.path.clone(), label.clone())),
                _ => None,
            })
            .collect();
        let identity = Identity::load(&config.state, &labelled)?;
        let labels = with_homes(config, labels, &identity);
        let plans = plans(config, labels, &identity, mode)?;
        let lock = match lock {
            Some(lock) => lock,
            None => state::lock(&config.state, patience)?,
        };
        if let Err(error) = scratch::remove(&config.state) {
            tracing::warn!(%error, "what an earlier drill needed was not removed");
        }
        engine::set_cache_bytes(config.index.cache_bytes);
        let engine = match config.engine {
            EngineName::Redb => Engine::Redb,
            EngineName::Sled => Engine::Sled,
        };
        let archive = Archive {
            shelf: Shelf::default(),
            identity: Mutex::new(identity),
            arrivals: Default::default(),
            keeper: Keeper::open(config.state.join("index"), engine)?,
            keeper_thread: Mutex::new(None),
            opening: Mutex::default(),
            shipper: Default::default(),
            beside: Default::default(),
            places: Default::default(),
            locks: Default::default(),
            work: Default::default(),
            mode,
            disk: disk.clone(),
            state: config.state.clone(),
            config_file: config.file.clone(),
            reserve,
            order: match config.placement.order {
                OrderName::InOrder => Order::InOrder,
                OrderName::MostFree => Order::MostFree,
            },
            quarantine_bytes: Live::new(config.limits.quarantine_bytes),
            bounds: Live::new(config.limits.bounds()),
            drains: Default::default(),
            mirror: Mirror::new(config.mirror.bytes_per_second),
            mirror_config: Live::new(config.mirror.clone()),
            restoring: Default::default(),
            scrub_config: Live::new(config.scrub.clone()),
            rejection_config: Live::new(config.rejection.clone()),
            suspects: Default::default(),
            buffers: Default::default(),
            checks: Default::default(),
            corrections_config: Live::new(config.corrections.clone()),
            told: super::told::Told::default(),
            corrections: super::corrections::Corrections::new(&config.ae_title),
            duplicates: Live::new(config.duplicates.clone()),
            coercion,
            retention: Retention::new(retention),
            intake_config: config.intake.clone(),
            filling: Filling::new(config.index.fill_window),
            carrying: Default::default(),
            looking: Default::default(),
            stopping: Default::default(),
            _lock: lock,
        };
        let floor = archive.identity().sequence_floor;
        archive.keeper.raise_sequence(floor);
        // They hold copies of each other's ledgers, also before they are taken in.
        let roots: Vec<PathBuf> = config
            .volumes
            .iter()
            .zip(&plans)
            .filter(|(_, plan)| matches!(plan, Plan::Open(_)))
            .map(|(entry, _)| entry.path.clone())
            .collect();
        for (entry, plan) in config.volumes.iter().zip(plans) {
            archive.take_in(entry, plan, &roots)?;
        }
        archive.list_the_others();
        let paused = archive.kept_mirror().paused;
        archive.mirror.paused.store(paused, Ordering::Relaxed);
        archive.save_identity()?;
        // Now, and not only in the next round: an empty mount point must be known for what it is, also when the state
        // folder is lost with this process.
        archive.ship_identity();
        let thread = archive.keeper.start(archive.sources());
        *archive
            .keeper_thread
            .lock()
            .expect("nobody else has it yet") = Some(thread);
        for member in archive.shelf.all() {
            if let Some(volume) = member.here() {
                archive.carry_on_leftovers(volume)?;
            }
        }
        archive.carry_journals_of_absent();
        archive.retry_journals_now();
        Ok(archive)
    }

    /// Opens a configured volume, or notes why it is away.
    fn take_in(&self, entry: &VolumeEntry, plan: Plan, roots: &[PathBuf]) -> Result<(), OpenError> {
        let spec = spec_of(entry);
        let (volume_id, away) = match plan {
            Plan::Open(id) => (id, None),
            Plan::Label => {
                let archive_id = self.identity().archive_id.clone();
                let label = Volume::<Line>::initialize(&self.disk, &spec, &archive_id)?;
                (label.volume_id, None)
            }
            Plan::Away(id, reason) => (id, Some(reason)),
        };
        let known = self.identity().by_id(&volume_id).cloned();
        let away = match &known {
            Some(known) if known.ejected => Some("ejected".to_owned()),
            _ => away,
        };
        let standing = match away {
            Some(reason) => Standing::Away {
                reason,
                ejected: known.as_ref().is_some_and(|known| known.ejected),
            },
            None => match self.open_volume_from(
                &spec,
                &volume_id,
                known.as_ref().and_then(|known| known.home.as_deref()),
                self.copies_at(&volume_id, roots.iter().filter(|root| **root != spec.path)),
            ) {
                Ok(volume) => Standing::Here(Arc::new(volume)),
                // One that worked before: a disk that died must not stop the others.
                Err(error @ VolumeError::Io { .. }) if known.is_some() => Standing::Away {
                    reason: error.to_string(),
                    ejected: false,
                },
                Err(error) => return Err(error.into()),
            },
        };
        if let Standing::Away { reason, .. } = &standing {
            tracing::error!(volume = entry.name, reason, "a volume is away");
        }
        let home = known.as_ref().and_then(|known| known.home.clone());
        let mut retired = known.is_some_and(|known| known.retired);
        if let Standing::Here(volume) = &standing {
            retired |= volume.is_adopted();
        }
        let member = Member {
            volume_id,
            name: spec.name,
            path: spec.path,
            role: spec.role,
            retired,
            home,
            standing,
        };
        self.identity().note_standing(known_of(&member));
        self.shelf.put(member);
        Ok(())
    }

    /// Volumes that were here once and are not in the configuration any more.
    fn list_the_others(&self) {
        for known in self.identity().volumes.clone() {
            if self.shelf.by_id(&known.volume_id).is_none() {
                self.shelf.put(Member {
                    volume_id: known.volume_id,
                    name: known.name,
                    path: known.path,
                    role: known.role,
                    retired: known.retired,
                    home: known.home,
                    standing: Standing::Away {
                        reason: NOT_CONFIGURED.to_owned(),
                        ejected: known.ejected,
                    },
                });
            }
        }
    }

    pub(super) fn open_volume(
        &self,
        spec: &Spec,
        volume_id: &str,
    ) -> Result<Volume<Line>, VolumeError> {
        let home = self
            .identity()
            .by_id(volume_id)
            .and_then(|k| k.home.clone());
        self.open_volume_at(spec, volume_id, home.as_deref())
    }

    pub(super) fn open_volume_at(
        &self,
        spec: &Spec,
        volume_id: &str,
        home: Option<&Path>,
    ) -> Result<Volume<Line>, VolumeError> {
        self.open_volume_from(spec, volume_id, home, self.copies_here(volume_id))
    }

    fn open_volume_from(
        &self,
        spec: &Spec,
        volume_id: &str,
        home: Option<&Path>,
        list: Vec<LedgerCopy>,
    ) -> Result<Volume<Line>, VolumeError> {
        let copies = Copies {
            list,
            before_insert: &|| self.keeper.read_again(volume_id),
        };
        let keeper = self.keeper.clone();
        let id = volume_id.to_owned();
        let after_flush = Box::new(move |group| keeper.apply(&id, group));
        let archive_id = self.identity().archive_id.clone();
        let volume =
            Volume::open_at_home(&self.disk, spec, home, &archive_id, &copies, after_flush)?;
        if volume.id() == volume_id {
            return Ok(volume);
        }
        // The disk was changed between the look and the opening.
        Err(VolumeError::OtherVolume {
            name: spec.name.clone(),
            path: spec.path.clone(),
            found: volume.label().name.clone(),
        })
    }

    pub(super) fn carry_on_leftovers(&self, volume: &Arc<Volume<Line>>) -> Result<(), VolumeError> {
        // First: what is left of an instance that is in the journal means nothing by itself.
        self.open_intake(volume)?;
        let carried = self.resume(volume)?;
        if carried > 0 {
            tracing::info!(
                volume = volume.name(),
                instances_count = carried,
                "unfinished instances carried to their end"
            );
        }
        Ok(())
    }

    pub(super) fn save_identity(&self) -> Result<(), OpenError> {
        let mut identity = self.identity();
        identity.sequence_floor = identity.sequence_floor.max(self.keeper.sequence());
        identity
            .save(&Disk::default(), &self.state)
            .map_err(|source| OpenError::State {
                path: self.state.join(state::FILE),
                source,
            })
    }
}

/// Without a configuration file the volumes are the ones that the archive has had, or the one by default.
fn with_known_volumes(config: &Config) -> Result<Config, OpenError> {
    let mut config = config.clone();
    if config.file.is_none() {
        let known = Identity::load(&config.state, &[])?.volumes;
        // A disk that was given up is not opened again.
        let mut used = known
            .into_iter()
            .filter(|known| !known.is_given_up())
            .peekable();
        if used.peek().is_some() {
            config.volumes = used.map(entry_of).collect();
        }
    }
    Ok(config)
}

fn entry_of(known: Known) -> VolumeEntry {
    let role = match known.role {
        Role::Archive => RoleName::Archive,
        Role::Mirror => RoleName::Mirror,
    };
    VolumeEntry::new(known.name, known.path, role)
}

/// What of a member outlives the process.
pub(super) fn known_of(member: &Member) -> Known {
    Known {
        volume_id: member.volume_id.clone(),
        name: member.name.clone(),
        path: member.path.clone(),
        role: member.role,
        retired: member.retired,
        ejected: member.is_ejected(),
        home: member.home.clone(),
        draining: false,
        replaced: None,
        forgetting: false,
    }
}

fn spec_of(entry: &VolumeEntry) -> Spec {
    Spec {
        name: entry.name.clone(),
        path: entry.path.clone(),
        role: match entry.role {
            RoleName::Archive => Role::Archive,
            RoleName::Mirror => Role::Mirror,
        },
    }
}

/// A volume whose label is not in its root has the one from its home, if its medium is here.
fn with_homes(
    config: &Config,
    labels: Vec<Result<LabelState, VolumeError>>,
    identity: &Identity,
) -> Vec<Result<LabelState, VolumeError>> {
    let home = |entry: &VolumeEntry| identity.by_name(&entry.name)?.home.clone();
    config
        .volumes
        .iter()
        .zip(labels)
        .map(|(entry, label)| match home(entry) {
            Some(home) => adopted::label_of(&entry.path, &home),
            None => label,
        })
        .collect()
}

/// What is to be done with a configured volume; by its volume id where it has one.
enum Plan {
    Open(String),
    Label,
    Away(String, String),
}

/// Is every volume what the configuration and the archive say it is?
fn plans(
    config: &Config,
    labels: Vec<Result<LabelState, VolumeError>>,
    identity: &Identity,
    mode: Mode,
) -> Result<Vec<Plan>, OpenError> {
    let mut plans: Vec<Plan> = Vec::new();
    for (at, (entry, label)) in config.volumes.iter().zip(labels).enumerate() {
        let (name, path) = (entry.name.clone(), entry.path.clone());
        let known = identity.by_name(&entry.name).map(|k| k.volume_id.clone());
        if let Some(given_up) = identity.by_name(&entry.name).filter(|k| k.is_given_up()) {
            let id = given_up.volume_id.clone();
            plans.push(Plan::Away(id, GIVEN_UP.to_owned()));
            continue;
        }
        plans.push(match (label, known) {
            (Ok(LabelState::Foreign), None) => return Err(OpenError::Foreign { name, path }),
            (Ok(LabelState::Label(label)), _) if label.archive_id != identity.archive_id => {
                let (found, expected) = (label.archive_id, identity.archive_id.clone());
                return Err(OpenError::OtherArchive {
                    name,
                    path,
                    found,
                    expected,
                });
            }
            (Ok(LabelState::Label(label)), known) => {
                let twin = plans
                    .iter()
                    .position(|plan| matches!(plan, Plan::Open(id) if *id == label.volume_id));
                if let Some(twin) = twin {
                    return Err(OpenError::Twins {
                        volume_id: label.volume_id,
                        first: config.volumes[twin].path.clone(),
                        second: config.volumes[at].path.clone(),
                    });
                }
                match known {
                    Some(id) if id != label.volume_id => {
                        Plan::Away(id, what_is_there(&path, &LabelState::Label(label)))
                    }
                    _ => Plan::Open(label.volume_id),
                }
            }
            // A volume that was here once: its disk is not mounted. Labelling the empty mount point would put the next
            // images on the system's disk.
            (Ok(state), Some(id)) => Plan::Away(id, what_is_there(&path, &state)),
            (Err(error @ VolumeError::Io { .. }), Some(id)) => Plan::Away(id, error.to_string()),
            (Err(error), _) => return Err(error.into()),
            (Ok(LabelState::Missing | LabelState::Empty), None) if mode == Mode::Existing => {
                return Err(OpenError::NotInitialized { name, path });
            }
            (Ok(LabelState::Missing | LabelState::Empty), None) => Plan::Label,
        });
    }
    Ok(plans)
}
