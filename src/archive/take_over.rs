//! Adopts a volume of another archive by its ledger: what that says of each file is said again under our numbers, and no
//! file is read.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use crate::index::{Change, Stored, Values};
use crate::volume::layout;
use crate::volume::ledger::{self, Position};

use super::Archive;
use super::at_rest::{AtRest, Heading};
use super::entry::Reader;
use super::in_place::Unlisted;
use super::survey::hash;
use super::theirs::Nothing;
use super::work::{Job, Stop, VolumeReport};

/// Lines written with one flush.
const BATCH_COUNT: usize = 1_024;

impl Archive {
    /// Lists what the ledger at `root` says, if that is a volume of another archive. Lines that are here already are
    /// passed over.
    pub(super) fn take_over(
        &self,
        root: &Path,
        volume_id: &str,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let failed = |error: &dyn std::fmt::Display| Stop::Failed(error.to_string());
        let disk = match self.shelf.here(volume_id) {
            Some(volume) => volume.disk().clone(),
            None => return Err(Stop::Failed("the volume went away".to_owned())),
        };
        let Some((label, theirs)) = self.theirs_at(&disk, root, job)? else {
            return Ok(());
        };
        let folder = root.join(layout::LEDGERS_FOLDER).join(&label.volume_id);
        job.step(format!("volume {}: its ledger", report.volume), 0);
        // By the hash of the path, the last line that takes it back.
        let mut gone: HashMap<u64, u64> = HashMap::new();
        let mut at = 0_u64;
        let mut segment = 0;
        let mut reader = Reader::new(volume_id);
        let first = ledger::read(&disk, &folder, Position::default(), &mut |json, _| {
            at += 1;
            // Other lines are read below.
            if json.contains("\"gone\":")
                && let Ok(Some(Change::Gone(line))) = reader.line(json, &Nothing)
            {
                gone.insert(hash(&line.path), at);
            }
            match job.go_on() {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        first.map_err(|error| failed(&error))?;
        job.go_on()?;
        job.step(format!("volume {}: its ledger", report.volume), at);
        reader.forget();
        at = 0;
        let mut batch = Vec::new();
        let (mut unusable, mut hidden_count) = (0, 0);
        let mut stop = Ok(());
        let second = ledger::read(&disk, &folder, Position::default(), &mut |json, after| {
            at += 1;
            job.did(1);
            if after.segment != segment {
                segment = after.segment;
                reader.forget();
            }
            match reader.line(json, &Nothing) {
                Ok(Some(Change::Stored(stored))) => {
                    let path = hash(&stored.instance.copy.path);
                    match gone.get(&path).is_none_or(|gone| *gone < at) {
                        true if theirs.hides(&stored) => hidden_count += 1,
                        true => batch.push(unlisted(stored)),
                        false => {}
                    }
                }
                // A file that it knows as bad too: under its right checksum, which whoever reads it compares.
                Ok(_) => {}
                Err(_) => unusable += 1,
            }
            if batch.len() >= BATCH_COUNT {
                stop = self.list_batch(volume_id, std::mem::take(&mut batch), job, report);
            }
            match stop {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        stop?;
        unusable += second.map_err(|error| failed(&error))?.bad_lines;
        self.list_batch(volume_id, batch, job, report)?;
        report.notes.push(format!(
            "it is volume {} of another archive: what its ledger says was taken over, its files were not read",
            label.name
        ));
        if hidden_count > 0 {
            report.notes.push(format!(
                "{hidden_count} files that were amended or removed there were not taken over"
            ));
        }
        if unusable > 0 {
            report.notes.push(format!(
                "{unusable} lines of that ledger are damaged; files of theirs are found in the tree and read"
            ));
        }
        Ok(())
    }

    fn list_batch(
        &self,
        volume_id: &str,
        batch: Vec<Unlisted>,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        job.go_on()?;
        drop(self.whole_index(job)?);
        let listed = self
            .list_in_place(volume_id, batch, "")
            .map_err(|error| Stop::Failed(error.to_string()))?;
        report.count(&listed);
        Ok(())
    }
}

fn unlisted(stored: Stored) -> Unlisted {
    let Stored {
        study,
        series,
        instance,
    } = stored;
    // An empty text of a correction says that there is no such value any more.
    let filled = |values: &Values| {
        let filled = values.iter().filter(|(_, value)| !value.is_empty());
        filled.map(|(tag, value)| (*tag, value.clone())).collect()
    };
    Unlisted {
        path: instance.copy.path,
        received: Some(instance.received),
        file: AtRest {
            heading: Heading {
                sop_class_uid: instance.sop_class_uid,
                sop_instance_uid: instance.sop_instance_uid,
                study_uid: study.study_instance_uid.clone(),
                series_uid: series.series_instance_uid.clone(),
                transfer_syntax: instance.transfer_syntax,
                source_ae_title: instance.source_ae_title,
                data_offset: instance.copy.data_offset,
            },
            study_values: filled(&study.values),
            series_values: filled(&series.values),
            instance_values: instance.values,
            size_bytes: instance.copy.size_bytes,
            crc32: instance.copy.crc32,
            file_crc32: instance.copy.file_crc32,
        },
    }
}
