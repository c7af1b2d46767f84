//! Studies that nobody changes or removes until the protection is lifted: a correction that rules on nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::index::{CorrectionFacts, CorrectionRecord, Did, IndexError, Snapshot, Values};

use super::super::Archive;
use super::super::places::key;
use super::CorrectionError;
use super::picked::Cause;
use super::remove::{RemovalSaid, recognised_by};

/// A study that is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Protection {
    /// Of the correction.
    pub number: u64,
    pub study_instance_uid: String,
    pub patient_id: String,
    pub patient_name: String,
    pub study_date: String,
    /// 0: it is not here any more, or not yet.
    pub instances_count: u64,
    pub at: String,
    pub who: String,
    pub why: String,
}

/// Those in effect, by Study Instance UID.
pub(in super::super) fn protected_studies(
    snapshot: &Snapshot,
) -> Result<BTreeMap<String, CorrectionRecord>, IndexError> {
    let mut found = BTreeMap::new();
    snapshot.corrections(&mut |record| {
        if record.facts.did == Did::Protected
            && record.in_effect
            && let Some(study) = record.facts.of.first()
        {
            found.insert(study.clone(), record);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

impl Archive {
    pub(in super::super) fn is_protected(
        &self,
        study_instance_uid: &str,
    ) -> Result<bool, IndexError> {
        let view = self.view()?;
        Ok(protected_studies(&view.snapshot)?.contains_key(study_instance_uid))
    }

    /// An error that says who protected one of the studies, and how to lift it. To be asked under the turn of the correction.
    pub(super) fn refuse_protected_in(
        &self,
        snapshot: &Snapshot,
        studies: &[String],
    ) -> Result<(), CorrectionError> {
        let protected = protected_studies(snapshot)?;
        let Some((study, record)) = studies
            .iter()
            .find_map(|study| Some((study, protected.get(study)?)))
        else {
            return Ok(());
        };
        let facts = &record.facts;
        Err(CorrectionError::Refused(format!(
            "study {study} is protected by {} since {} ({}); nothing was changed. To lift that: kura protect --study {study} --off --reason TEXT",
            facts.who, facts.at, facts.why
        )))
    }

    pub(super) fn protections(&self) -> Result<Vec<Protection>, CorrectionError> {
        let view = self.complete_view()?;
        let mut found = Vec::new();
        for (study_instance_uid, record) in protected_studies(&view.snapshot)? {
            let study = view.snapshot.study(&study_instance_uid)?;
            let values = study.as_ref().map(|study| &study.facts.values);
            let text = |tag| {
                let now = values.and_then(|values| values.get(&key(tag)));
                let then = record.facts.before.get(&key(tag));
                now.or(then).cloned().unwrap_or_default()
            };
            found.push(Protection {
                number: record.number,
                patient_id: text(tags::PATIENT_ID),
                patient_name: text(tags::PATIENT_NAME),
                study_date: text(tags::STUDY_DATE),
                instances_count: study.map_or(0, |study| study.instances_count),
                at: record.facts.at,
                who: record.facts.who,
                why: record.facts.why,
                study_instance_uid,
            });
        }
        Ok(found)
    }

    pub(super) fn protect(
        &self,
        study_instance_uid: &str,
        cause: &Cause,
    ) -> Result<RemovalSaid, CorrectionError> {
        cause.check()?;
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        if let Some(record) = protected_studies(&view.snapshot)?.get(study_instance_uid) {
            return Err(CorrectionError::Refused(format!(
                "study {study_instance_uid} is protected already, by {} since {} ({}); nothing was changed",
                record.facts.who, record.facts.at, record.facts.why
            )));
        }
        let known = view.snapshot.study(study_instance_uid)?;
        let Some(known) = known.filter(|study| study.instances_count > 0) else {
            return Err(CorrectionError::Refused(format!(
                "no study {study_instance_uid} is known; nothing was changed. Look it up: kura find"
            )));
        };
        let number = self.keeper.next_sequence();
        let studies = vec![study_instance_uid.to_owned()];
        let facts = CorrectionFacts {
            at: super::super::now(),
            did: Did::Protected,
            who: cause.who.clone(),
            why: cause.why.clone(),
            way: cause.way.clone(),
            level: "STUDY".to_owned(),
            of: studies.clone(),
            before: recognised_by(&view.snapshot, &studies)?,
            studies,
            instances_count: known.instances_count,
            after: Values::new(),
        };
        self.put_down(number, true, &facts, &[], &[])?;
        Ok(RemovalSaid::Done {
            said: format!(
                "study {study_instance_uid} is protected: it is not removed, amended or rejected until kura protect --study {study_instance_uid} --off"
            ),
            numbers: vec![number],
        })
    }

    pub(super) fn unprotect(
        &self,
        study_instance_uid: &str,
        cause: &Cause,
    ) -> Result<RemovalSaid, CorrectionError> {
        cause.check()?;
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        let protected = protected_studies(&view.snapshot)?;
        let Some(record) = protected.get(study_instance_uid) else {
            return Err(CorrectionError::Refused(format!(
                "study {study_instance_uid} is not protected; nothing was changed. Those that are: kura protect list"
            )));
        };
        self.put_out_of_effect(record, cause)?;
        Ok(RemovalSaid::Done {
            said: format!("study {study_instance_uid} is not protected any more"),
            numbers: vec![record.number],
        })
    }

    /// Puts a correction out of effect; the line says who did it, and of what.
    pub(super) fn put_out_of_effect(
        &self,
        record: &CorrectionRecord,
        cause: &Cause,
    ) -> Result<(), CorrectionError> {
        self.say_again(record, false, cause)
    }

    /// One more line of a correction.
    pub(super) fn say_again(
        &self,
        record: &CorrectionRecord,
        in_effect: bool,
        cause: &Cause,
    ) -> Result<(), CorrectionError> {
        let facts = CorrectionFacts {
            at: super::super::now(),
            who: cause.who.clone(),
            why: cause.why.clone(),
            way: cause.way.clone(),
            ..record.facts.clone()
        };
        self.put_down(record.number, in_effect, &facts, &[], &record.volume_ids)?;
        tracing::info!(
            number = record.number,
            in_effect,
            way = cause.way,
            "a correction was changed"
        );
        Ok(())
    }
}
