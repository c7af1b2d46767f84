//! Equalize: the index agrees with the ledgers, the ledgers with the disks, and what does not is said. No image is
//! changed.

use std::time::Duration;

use crate::volume::Position;

use super::shelf::Member;
use super::survey::Repair;
use super::work::{Depth, Job, Stop, VolumeReport};
use super::{Archive, keeper};

/// What the lines of files found by it name as sender, where the file names none.
pub(super) const FROM: &str = "EQUALIZE";

impl Archive {
    pub(super) fn equalize(
        &self,
        names: &[String],
        depth: Depth,
        repair: bool,
        job: &Job,
    ) -> Result<(), Stop> {
        let repair = if repair {
            Repair::Yes(FROM)
        } else {
            Repair::No
        };
        for (volume_id, name) in self.members_named(names)? {
            let mut report = VolumeReport {
                volume: name.clone(),
                ..VolumeReport::default()
            };
            let done = self.equalize_one(&volume_id, &name, depth, repair, job, &mut report);
            job.report(report);
            done?;
        }
        Ok(())
    }

    /// Ids and names of the volumes of these names, or of all that are here.
    pub(super) fn members_named(&self, names: &[String]) -> Result<Vec<(String, String)>, Stop> {
        let mut members = Vec::new();
        for name in names {
            let member = self.shelf.by_name(name).ok_or_else(|| {
                Stop::Failed(format!(
                    "there is no volume {name}; kura volume list shows all"
                ))
            })?;
            if member.here().is_none() {
                return Err(Stop::Failed(format!("volume {name} is away")));
            }
            members.push((member.volume_id.clone(), member.name.clone()));
        }
        if names.is_empty() {
            let here = |member: &&std::sync::Arc<Member>| member.here().is_some();
            let all = self.shelf.all();
            let all = all.iter().filter(here);
            members.extend(all.map(|member| (member.volume_id.clone(), member.name.clone())));
        }
        Ok(members)
    }

    /// Also what was found before a stop stands in `report`.
    pub(super) fn equalize_one(
        &self,
        volume_id: &str,
        name: &str,
        depth: Depth,
        repair: Repair,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let repair = match self.is_draining(volume_id) {
            true => {
                let note = "it is being emptied: files without a line stay without one";
                report.notes.push(note.to_owned());
                Repair::No
            }
            false => repair,
        };
        job.step(format!("volume {name}: the index"), 0);
        self.catch_up(volume_id, repair, job, report)?;
        let totals = self.whole_index(job)?.volume_totals(volume_id)?;
        if let (Repair::Yes(_), Some(volume)) = (repair, self.shelf.here(volume_id))
            && let Err(reason) = self.sweep_what_left(&volume)
        {
            report.notes.push(reason);
        }
        job.step(
            format!("volume {name}: listed files"),
            totals.instances_count,
        );
        let mut listed = self.survey_listed(volume_id, depth, job, report)?;
        if let Some(volume) = self.shelf.here(volume_id).filter(|v| v.is_adopted()) {
            let hidden = self.hidden_by_theirs(volume.disk(), volume.root(), job)?;
            listed.extend(hidden);
            listed.sort_unstable();
        }
        if report.hidden > 0 {
            report.notes.push(format!(
                "{} files of what was amended, removed or rejected are kept and were not looked at",
                report.hidden
            ));
        }
        job.step(format!("volume {name}: the tree"), listed.len() as u64);
        let before = report.added;
        let done = self.survey_tree(volume_id, &listed, repair, job, report);
        report.served = report.files + report.added - before;
        done
    }

    /// Is every line of the ledger in the index? If not, all ledgers are read in again.
    fn catch_up(
        &self,
        volume_id: &str,
        repair: Repair,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let Some(volume) = self.shelf.here(volume_id) else {
            return Err(Stop::Failed("the volume went away".to_owned()));
        };
        let written = volume.ledger().position();
        drop(volume);
        let mut looks = 0;
        loop {
            let known = self.whole_index(job)?.position(volume_id)?;
            let known = known
                .and_then(|bytes| keeper::decode(&bytes))
                .unwrap_or_default();
            let place = |position: Position| (position.segment, position.offset);
            if place(known) >= place(written) {
                return Ok(());
            }
            // The leader of a flush may be on its way to the index.
            looks += 1;
            if looks > 20 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let Repair::Yes(_) = repair else {
            report
                .notes
                .push("the index is behind the ledger: run kura index rebuild".to_owned());
            return Ok(());
        };
        report.index_rebuilt = true;
        report
            .notes
            .push("the index was behind the ledger and was read in again".to_owned());
        self.rebuild_index();
        drop(self.whole_index(job)?);
        Ok(())
    }
}
