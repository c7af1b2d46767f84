//! One content of an instance: what all of its copies have in common, and the copies.

use std::sync::Arc;

use crate::index::{
    Copy, Hidden, HiddenContent, IndexError, InstanceEntry, InstanceFacts, InstanceRecord, Origin,
    SeriesFacts, Snapshot, Stored, StudyFacts, Values,
};

/// The content that is answered, or another that is kept under the same SOP Instance UID.
#[derive(Debug, Clone)]
pub struct Content {
    pub sop_instance_uid: String,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    pub sequence: u64,
    pub sop_class_uid: String,
    pub transfer_syntax: String,
    pub values: Values,
    pub received: String,
    pub source_ae_title: String,
    pub origin: Origin,
    /// Good and bad ones.
    pub copies: Vec<Copy>,
}

impl Content {
    /// Whether both are the same data set, wherever they lie.
    pub fn is(&self, other: &Content) -> bool {
        let identity = |content: &Content| {
            let copy = content.copies.first();
            copy.map(|copy| (copy.crc32, copy.data_bytes()))
        };
        self.transfer_syntax == other.transfer_syntax && identity(self) == identity(other)
    }

    pub fn good_copies(&self) -> impl Iterator<Item = &Copy> {
        self.copies.iter().filter(|copy| !copy.bad)
    }

    /// Volumes that have a good copy.
    pub fn volume_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.good_copies().map(|c| c.volume_id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// What the line of another copy says. Sequence, time of receipt and sender are those of what it is a copy of: which
    /// content is answered must not change by copying one.
    pub fn copied_as(
        &self,
        study: Arc<StudyFacts>,
        series: Arc<SeriesFacts>,
        copy: Copy,
    ) -> Stored {
        Stored {
            study,
            series,
            instance: InstanceFacts {
                sequence: self.sequence,
                sop_instance_uid: self.sop_instance_uid.clone(),
                sop_class_uid: self.sop_class_uid.clone(),
                transfer_syntax: self.transfer_syntax.clone(),
                values: self.values.clone(),
                received: self.received.clone(),
                source_ae_title: self.source_ae_title.clone(),
                origin: self.origin.clone(),
                copy,
            },
        }
    }

    /// The facts of its study and series, if the index knows them.
    pub fn facts(&self, snapshot: &Snapshot) -> Result<Option<Facts>, IndexError> {
        let (study, series) = (&self.study_instance_uid, &self.series_instance_uid);
        let by = self.origin.by;
        let facts = snapshot.study_facts(study, by)?;
        let facts = facts.zip(snapshot.series_facts(study, series, by)?);
        Ok(facts.map(|(study, series)| (Arc::new(study), Arc::new(series))))
    }
}

/// Of a study and one of its series.
pub type Facts = (Arc<StudyFacts>, Arc<SeriesFacts>);

/// The answered content and the others.
pub fn contents(entry: &InstanceEntry) -> Vec<Content> {
    let record: &InstanceRecord = &entry.record;
    let answered = Content {
        sop_instance_uid: entry.sop_instance_uid.clone(),
        study_instance_uid: entry.study_instance_uid.clone(),
        series_instance_uid: entry.series_instance_uid.clone(),
        sequence: record.sequence,
        sop_class_uid: record.sop_class_uid.clone(),
        transfer_syntax: record.transfer_syntax.clone(),
        values: record.values.clone(),
        received: record.received.clone(),
        source_ae_title: record.source_ae_title.clone(),
        origin: record.origin.clone(),
        copies: record.copies.clone(),
    };
    let others = record.others.iter().map(|other| Content {
        sop_instance_uid: entry.sop_instance_uid.clone(),
        study_instance_uid: other.study_instance_uid.clone(),
        series_instance_uid: other.series_instance_uid.clone(),
        sequence: other.sequence,
        sop_class_uid: other.sop_class_uid.clone(),
        transfer_syntax: other.transfer_syntax.clone(),
        values: other.values.clone(),
        received: other.received.clone(),
        source_ae_title: other.source_ae_title.clone(),
        origin: other.origin.clone(),
        copies: other.copies.clone(),
    });
    std::iter::once(answered).chain(others).collect()
}

/// What is kept of an instance and hidden.
pub fn hidden_contents(sop_instance_uid: &str, hidden: &Hidden) -> Vec<Content> {
    let contents = hidden.contents.iter();
    let contents = contents.map(|content| hidden_content(sop_instance_uid, content));
    contents.collect()
}

/// One that a correction hides.
pub fn hidden_content(sop_instance_uid: &str, hidden: &HiddenContent) -> Content {
    let hidden = hidden.clone();
    Content {
        sop_instance_uid: sop_instance_uid.to_owned(),
        study_instance_uid: hidden.study_instance_uid,
        series_instance_uid: hidden.series_instance_uid,
        sequence: hidden.sequence,
        sop_class_uid: hidden.sop_class_uid,
        transfer_syntax: hidden.transfer_syntax,
        values: hidden.values,
        received: hidden.received,
        source_ae_title: hidden.source_ae_title,
        origin: hidden.origin,
        copies: hidden.copies,
    }
}
