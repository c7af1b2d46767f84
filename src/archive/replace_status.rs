//! What is said of a disk that was given up: the plan, how far it is, and what `kura status` says.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::job::ProgressStatus;
use crate::volume::layout::Role;

use super::restoring::{Counted, Counts, READING_IN, other};
use super::shelf::{Member, Standing};
use super::{Archive, VerbError};

/// Of `kura volume replace`: what a new disk would get, gets or got.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplaceStatus {
    /// Version of this object's shape.
    pub version: u32,
    /// `planned`, `running`, `blocked`, `paused`, `unknown` (the index is being read in) or `done`.
    pub state: String,
    /// In words, where the state alone does not say it.
    pub reason: String,
    pub name: String,
    pub role: String,
    pub path: String,
    /// Under which name the old disks stay known.
    pub old_names: Vec<String>,
    /// On the old disks.
    pub total: Counted,
    /// Of these: have a good copy on the new disk.
    pub restored: Counted,
    /// Have the copies that they need on other volumes.
    pub elsewhere: Counted,
    pub todo: Counted,
    /// Have no good copy any more.
    pub lost: Counted,
    /// Where those to do are copied from.
    pub sources: Vec<CopiedFrom>,
    /// Free on the new disk; only of a plan.
    pub room_bytes: Option<u64>,
    pub progress: Option<ProgressStatus>,
    pub warnings: Vec<String>,
    /// `kura report show` shows it.
    pub report: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CopiedFrom {
    pub volume: String,
    pub is_here: bool,
    pub count: u64,
    pub bytes: u64,
}

impl Archive {
    /// What `kura volume replace` would do.
    pub(super) fn plan(
        &self,
        member: &Member,
        path: PathBuf,
        room_bytes: u64,
        warnings: Vec<String>,
    ) -> Result<ReplaceStatus, VerbError> {
        let judge = self.judge().without(&member.volume_id);
        let counts = self
            .count(std::slice::from_ref(&member.volume_id), "", &judge)
            .map_err(|error| other(&member.name, error.to_string()))?
            .ok_or_else(|| other(&member.name, READING_IN.to_owned()))?;
        let reason = match &member.standing {
            Standing::Away { reason, .. } => format!("it is away: {reason}"),
            Standing::Here(_) => "it is here, but not written".to_owned(),
        };
        let mut status = self.status_of(&member.name, member.role, path, &counts);
        status.state = "planned".to_owned();
        (status.reason, status.warnings) = (reason, warnings);
        if counts.lost.count > 0 && member.here().is_some_and(|volume| volume.answers()) {
            // Copies on it do not count once it is given up.
            status.warnings.push(format!(
                "the old disk still answers: afterwards kura send {} --to THIS_SERVER stores what is only there and can be read",
                member.path.display()
            ));
        }
        status.room_bytes = Some(room_bytes);
        Ok(status)
    }

    pub(super) fn status_of(
        &self,
        name: &str,
        role: Role,
        path: PathBuf,
        counts: &Counts,
    ) -> ReplaceStatus {
        let sources = counts.sources.iter().map(|(id, from)| {
            let member = self.shelf.by_id(id);
            CopiedFrom {
                is_here: member.as_ref().is_some_and(|m| m.here().is_some()),
                volume: member.map_or_else(|| id.clone(), |member| member.name.clone()),
                count: from.count,
                bytes: from.bytes,
            }
        });
        ReplaceStatus {
            version: 1,
            state: String::new(),
            reason: String::new(),
            name: name.to_owned(),
            role: role.to_string(),
            path: path.display().to_string(),
            old_names: Vec::new(),
            total: counts.total,
            restored: counts.restored,
            elsewhere: counts.elsewhere,
            todo: counts.todo,
            lost: counts.lost,
            sources: sources.collect(),
            room_bytes: None,
            progress: None,
            warnings: Vec::new(),
            report: None,
        }
    }

    /// How far a replaced disk is restored.
    pub fn replace_status(&self, name: &str) -> Result<ReplaceStatus, VerbError> {
        let member = self.member(name)?;
        let group = self.groups().into_iter();
        let group = group.into_iter().find(|group| group.by == member.volume_id);
        let counts = match &group {
            None => Some(Counts::default()),
            Some(group) => self
                .counted(group)
                .map_err(|error| other(name, error.to_string()))?,
        };
        let is_whole = counts.is_some();
        let counts = counts.unwrap_or_default();
        let mut status = self.status_of(name, member.role, member.path.clone(), &counts);
        let Some(group) = group.filter(|group| !group.is_reported()) else {
            let Some(report) = self.newest_report(name) else {
                return Err(other(name, "its disk was not replaced".to_owned()));
            };
            status.state = "done".to_owned();
            status.report = Some(report);
            return Ok(status);
        };
        status.old_names = group.olds.iter().map(|old| old.name.clone()).collect();
        let (mut stuck, judge) = (None, self.judge());
        if let Some(seen) = self.restoring.seen().get(&group.by) {
            status.progress = Some(seen.progress.status(Instant::now()));
            stuck.clone_from(&seen.stuck);
        }
        let waits = counts.todo.count > 0 && counts.todo == counts.waiting;
        let (state, reason) = if !is_whole {
            ("unknown", READING_IN.to_owned())
        } else if self.mirror.paused.load(Ordering::Relaxed) {
            ("paused", "kura mirror resume goes on".to_owned())
        } else if counts.todo.count == 0 {
            ("running", String::new())
        } else if waits {
            ("blocked", waiting(&counts.waiting, &status.sources))
        } else if let Some(reason) = self.copying_is_blocked(&judge) {
            ("blocked", reason)
        } else if let Some(reason) = stuck {
            ("blocked", reason)
        } else {
            ("running", String::new())
        };
        (status.state, status.reason) = (state.to_owned(), reason);
        Ok(status)
    }

    /// Restores what was on a dead disk where no server runs; `tell` is asked a few times a second.
    pub fn restore(
        &self,
        name: &str,
        tell: &mut dyn FnMut(&ReplaceStatus),
    ) -> Result<ReplaceStatus, VerbError> {
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                while !self.stopping.load(Ordering::Relaxed) {
                    self.look_after_replaced();
                    match self.mirror_next() {
                        Ok(true) => {}
                        Ok(false) => self.rest(Duration::from_millis(200)),
                        Err(error) => self.index_failed(&error),
                    }
                }
            });
            let done = loop {
                match self.replace_status(name) {
                    Ok(status) if matches!(&*status.state, "running" | "unknown") => tell(&status),
                    // That the old volumes are forgotten belongs to it.
                    Ok(status) if status.state == "done" && self.is_being_forgotten() => {
                        tell(&status);
                    }
                    other => break other,
                }
                std::thread::sleep(Duration::from_millis(200));
            };
            self.stopping.store(true, Ordering::Relaxed);
            drop(working.join());
            done
        })
    }

    /// What `kura status` says of replaced disks: to do, and whether something is lost.
    pub(super) fn replaced_actions(&self, actions: &mut Vec<String>) -> bool {
        let mut is_lost = false;
        for group in self.groups() {
            let Ok(Some(counts)) = self.counted(&group) else {
                continue;
            };
            let (name, todo) = (&group.name, counts.todo.count);
            if !group.is_reported() {
                let done = counts.total.count - todo;
                actions.push(format!(
                    "volume {name} is being restored, {done} of {} instances; it goes on while the server runs",
                    counts.total.count
                ));
            } else if todo > 0 {
                actions.push(format!(
                    "{todo} instances that were on the old disk of volume {name} could not be copied: kura report show names them"
                ));
            }
            let olds = |end: &str| {
                let verbs = group.olds.iter();
                let verbs = verbs.map(|old| format!("kura volume forget {}{end}", old.name));
                verbs.collect::<Vec<_>>().join(", ")
            };
            if group.is_reported() && counts.total.count < group.listed_count() {
                actions.push(format!(
                    "{} instances that were on the old disk of volume {name} are not in any copy of its ledger: see to those that kura report show names, then: {}",
                    group.listed_count() - counts.total.count,
                    olds("")
                ));
            }
            if counts.lost.count > 0 {
                is_lost = true;
                actions.push(format!(
                    "{} instances were lost with the old disk of volume {name}: kura report show names them; send them again from the modality, or write them off: {}",
                    counts.lost.count,
                    olds(" --yes")
                ));
            }
        }
        is_lost
    }
}

pub(super) fn waiting(waiting: &Counted, sources: &[CopiedFrom]) -> String {
    let away = sources.iter().filter(|source| !source.is_here);
    let names: BTreeSet<&str> = away.map(|source| source.volume.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    format!(
        "the other copy of {} instances is on a volume that is away: {}",
        waiting.count,
        names.join(", ")
    )
}
