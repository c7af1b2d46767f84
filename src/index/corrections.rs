//! What corrections say, and what they hide.

use std::ops::ControlFlow;

use super::effect::{KeptCorrection, number_key, number_of};
use super::engine::{Direction, Table};
use super::snapshot::{self, Snapshot, decode, get};
use super::{CorrectionRecord, Hidden, IndexError, SeriesFacts, StudyFacts, damaged, key};

impl Snapshot {
    /// What is kept under a SOP Instance UID and hidden, and what corrections say of it; None if there is neither.
    pub fn hidden(&self, sop_instance_uid: &str) -> Result<Option<Hidden>, IndexError> {
        snapshot::hidden(&*self.reader, sop_instance_uid)
    }

    /// Every SOP Instance UID of which corrections say something, in the order of keys, from the one after `after` on,
    /// whether or not that is still there.
    pub fn all_hidden(
        &self,
        after: Option<&str>,
        f: &mut dyn FnMut(String, Hidden) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let from = after.map_or_else(Vec::new, |sop| key::successor(&key::pack(&[sop])));
        self.each(
            Table::Hidden,
            (from, Vec::new()),
            Direction::Forward,
            &mut |key, content| {
                let (sop, _) = key::unpack(key).ok_or_else(|| damaged(Table::Hidden))?;
                Ok(f(sop, decode(Table::Hidden, content)?))
            },
        )
    }

    /// Every SOP Instance UID with a hidden copy on the volume, as [`Snapshot::all_hidden`]; copies that count are not
    /// looked for. Reads the record of every one of which corrections say something.
    pub fn hidden_on(
        &self,
        volume_id: &str,
        after: Option<&str>,
        f: &mut dyn FnMut(String, Hidden) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.all_hidden(after, &mut |sop, hidden| {
            let mut copies = hidden.contents.iter().flat_map(|content| &content.copies);
            match copies.any(|copy| copy.volume_id == volume_id) {
                true => f(sop, hidden),
                false => ControlFlow::Continue(()),
            }
        })
    }

    /// None for a number of which no line was read; it is not in effect then.
    pub fn correction(&self, number: u64) -> Result<Option<CorrectionRecord>, IndexError> {
        match get(&*self.reader, Table::Correction, &number_key(number))? {
            Some(content) => {
                let kept: KeptCorrection = decode(Table::Correction, &content)?;
                Ok(Some(kept.into_record(number)))
            }
            None => Ok(None),
        }
    }

    /// Every correction, the newest first.
    pub fn corrections(
        &self,
        f: &mut dyn FnMut(CorrectionRecord) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.each(
            Table::Correction,
            (Vec::new(), Vec::new()),
            Direction::Backward,
            &mut |key, content| {
                let kept: KeptCorrection = decode(Table::Correction, content)?;
                Ok(f(kept.into_record(number_of(key)?)))
            },
        )
    }

    /// SOP Instance UIDs of the contents that a correction made or ruled on, in the order of keys, from the one after
    /// `after` on. One of which it only made contents is not told any more when all of their files are gone.
    pub fn instances_of_correction(
        &self,
        number: u64,
        after: Option<&str>,
        f: &mut dyn FnMut(String) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let (mut from, to) = key::prefix_range(number_key(number));
        if let Some(sop) = after {
            key::pack_into(&mut from, sop);
            from = key::successor(&from);
        }
        self.each(
            Table::CorrectionInstance,
            (from, to),
            Direction::Forward,
            &mut |key, _| {
                let sop = key.get(8..).and_then(key::unpack);
                let (sop, _) = sop.ok_or_else(|| damaged(Table::CorrectionInstance))?;
                Ok(f(sop))
            },
        )
    }

    /// What the lines of one correction say of a study, in effect or not; with 0 what those of no correction say. What
    /// [`Snapshot::study`] tells is what all of them say together. An empty text of a correction means that there is no
    /// such value any more.
    pub fn study_facts(
        &self,
        study_instance_uid: &str,
        by: u64,
    ) -> Result<Option<StudyFacts>, IndexError> {
        let kept = self.kept_study(study_instance_uid)?;
        Ok(kept.and_then(|kept| kept.into_layer(study_instance_uid, by)))
    }

    /// As [`Snapshot::study_facts`].
    pub fn series_facts(
        &self,
        study_instance_uid: &str,
        series_instance_uid: &str,
        by: u64,
    ) -> Result<Option<SeriesFacts>, IndexError> {
        let kept = self.kept_series(study_instance_uid, series_instance_uid)?;
        Ok(kept.and_then(|kept| kept.into_layer(study_instance_uid, series_instance_uid, by)))
    }
}
