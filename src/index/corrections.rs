//! What corrections say, and what they hide.

use std::ops::ControlFlow;

use super::{CorrectionRecord, Hidden, IndexError, SeriesFacts, Snapshot, StudyFacts};

impl Snapshot {
    /// What is kept under a SOP Instance UID and hidden, and what corrections say of it; None if there is neither.
    pub fn hidden(&self, _sop_instance_uid: &str) -> Result<Option<Hidden>, IndexError> {
        Ok(None)
    }

    /// Every SOP Instance UID of which corrections say something, in the order of keys, from the one after `after` on.
    pub fn all_hidden(
        &self,
        _after: Option<&str>,
        _f: &mut dyn FnMut(String, Hidden) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        Ok(())
    }

    pub fn correction(&self, _number: u64) -> Result<Option<CorrectionRecord>, IndexError> {
        Ok(None)
    }

    /// Every correction, the newest first.
    pub fn corrections(
        &self,
        _f: &mut dyn FnMut(CorrectionRecord) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        Ok(())
    }

    /// SOP Instance UIDs of the contents that a correction made or ruled on, in the order of keys, from the one after
    /// `after` on.
    pub fn instances_of_correction(
        &self,
        _number: u64,
        _after: Option<&str>,
        _f: &mut dyn FnMut(String) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        Ok(())
    }

    /// What the lines of one correction say of a study; with 0 what those of no correction say. What
    /// [`Snapshot::study`] tells is what all of them say together.
    pub fn study_facts(
        &self,
        study_instance_uid: &str,
        _by: u64,
    ) -> Result<Option<StudyFacts>, IndexError> {
        Ok(self.study(study_instance_uid)?.map(|record| record.facts))
    }

    /// As [`Snapshot::study_facts`].
    pub fn series_facts(
        &self,
        study_instance_uid: &str,
        series_instance_uid: &str,
        _by: u64,
    ) -> Result<Option<SeriesFacts>, IndexError> {
        let record = self.series(study_instance_uid, series_instance_uid)?;
        Ok(record.map(|record| record.facts))
    }
}
