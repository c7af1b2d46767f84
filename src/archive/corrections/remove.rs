//! A study that must go: to the trash, from which it comes back until its files are deleted.

use std::collections::{BTreeMap, BTreeSet};

use dicom_dictionary_std::tags;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dicom::Tag;
use crate::index::{CorrectionFacts, Did, Snapshot, Values, Verdict};

use super::super::Archive;
use super::super::places::key;
use super::CorrectionError;
use super::picked::{Cause, Chosen, Content, Picked, each_chosen};
use super::picked::{instances_count, studies_of};
use super::protect::Protection;
use super::trash::{Thrown, TrashItem};

/// `kura remove`, `kura trash`, `kura protect`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RemovalVerb {
    /// What would go.
    Show {
        chosen: Chosen,
    },
    Remove {
        chosen: Chosen,
        cause: Cause,
    },
    Trash,
    Restore {
        thrown: Thrown,
        cause: Cause,
        /// Also when some of it is gone for good.
        partly: bool,
    },
    Empty {
        thrown: Thrown,
        cause: Cause,
    },
    Protect {
        study_instance_uid: String,
        cause: Cause,
    },
    Unprotect {
        study_instance_uid: String,
        cause: Cause,
    },
    Protected,
}

/// What such a verb answers.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RemovalSaid {
    Removal(Box<Removal>),
    Trash(Vec<TrashItem>),
    Protected(Vec<Protection>),
    /// Done; what it means, in a sentence.
    Done {
        said: String,
        /// Of the corrections.
        numbers: Vec<u64>,
    },
}

/// What goes, or went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Removal {
    /// Of the correction; none when it is only shown.
    pub number: Option<u64>,
    pub level: String,
    pub uid: String,
    pub study_instance_uids: Vec<String>,
    pub patient_id: String,
    pub patient_name: String,
    pub study_date: String,
    pub study_description: String,
    pub modalities: Vec<String>,
    pub series_count: u64,
    pub instances_count: u64,
    /// Variants and conflicts that are kept beside them, and go too.
    pub others_count: u64,
    pub files_count: u64,
    /// Of the files.
    pub bytes: u64,
    pub volumes: Vec<RemovedOn>,
    /// When its files are deleted, local time, `YYYY-MM-DD`; empty: they stay.
    pub until: String,
    /// Studies that get images by it: other contents are kept there under the same UIDs.
    pub appears_in: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RemovedOn {
    pub name: String,
    pub is_here: bool,
    pub files_count: u64,
    pub bytes: u64,
}

/// Adds up what goes.
#[derive(Default)]
struct Tally {
    picked: Vec<Picked>,
    series: BTreeSet<(String, String)>,
    modalities: BTreeSet<String>,
    /// By volume id: files, bytes.
    volumes: BTreeMap<String, (u64, u64)>,
    appears_in: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, content: &Content<'_>, stays: impl Fn(&str, &str) -> bool) {
        self.picked.push(Picked::of(content));
        if content.other.is_none() {
            let place = (content.study().to_owned(), content.series().to_owned());
            self.series.insert(place);
            for other in &content.entry.record.others {
                if stays(&other.study_instance_uid, &other.series_instance_uid) {
                    self.appears_in.insert(other.study_instance_uid.clone());
                }
            }
        }
        for copy in content.copies() {
            let (files, bytes) = self.volumes.entry(copy.volume_id.clone()).or_default();
            *files += 1;
            *bytes += copy.size_bytes;
        }
    }
}

impl Archive {
    pub fn removal_verb(&self, verb: RemovalVerb) -> Result<RemovalSaid, CorrectionError> {
        let done = match verb {
            RemovalVerb::Show { chosen } => {
                Ok(RemovalSaid::Removal(Box::new(self.what_would_go(&chosen)?)))
            }
            RemovalVerb::Remove { chosen, cause } => {
                let removal = self.remove_chosen(&chosen, &cause)?;
                Ok(RemovalSaid::Removal(Box::new(removal)))
            }
            RemovalVerb::Trash => Ok(RemovalSaid::Trash(self.trash()?)),
            RemovalVerb::Restore {
                thrown,
                cause,
                partly,
            } => self.restore_thrown(&thrown, &cause, partly),
            RemovalVerb::Empty { thrown, cause } => self.empty_thrown(&thrown, &cause),
            RemovalVerb::Protect {
                study_instance_uid,
                cause,
            } => self.protect(&study_instance_uid, &cause),
            RemovalVerb::Unprotect {
                study_instance_uid,
                cause,
            } => self.unprotect(&study_instance_uid, &cause),
            RemovalVerb::Protected => Ok(RemovalSaid::Protected(self.protections()?)),
        };
        done.inspect_err(|error| self.noticed_by_correction(error))
    }

    fn what_would_go(&self, chosen: &Chosen) -> Result<Removal, CorrectionError> {
        let view = self.complete_view()?;
        let tally = tally(&view.snapshot, chosen)?;
        self.refuse_protected_in(&view.snapshot, &studies_of(&tally.picked))?;
        self.removal_of(&view.snapshot, chosen, tally)
    }

    /// All of it in one switch: on return nothing of it is answered or counted.
    fn remove_chosen(&self, chosen: &Chosen, cause: &Cause) -> Result<Removal, CorrectionError> {
        cause.check()?;
        let _turn = self.corrections.turn()?;
        let held = self.hold_picked(&mut |snapshot| Ok(tally(snapshot, chosen)?.picked))?;
        let studies = studies_of(&held.picked);
        self.refuse_protected_in(&held.view.snapshot, &studies)?;
        let tally = tally(&held.view.snapshot, chosen)?;
        let mut removal = self.removal_of(&held.view.snapshot, chosen, tally)?;
        let facts = CorrectionFacts {
            at: super::super::now(),
            did: Did::Removed,
            who: cause.who.clone(),
            why: cause.why.clone(),
            way: cause.way.clone(),
            level: chosen.level().to_owned(),
            of: vec![chosen.uid().to_owned()],
            studies,
            instances_count: removal.instances_count,
            before: recognised_by(&held.view.snapshot, &removal.study_instance_uids)?,
            after: Values::new(),
        };
        removal.number = Some(self.put_in_effect(&held, Verdict::Removed, &facts)?);
        Ok(removal)
    }

    fn removal_of(
        &self,
        snapshot: &Snapshot,
        chosen: &Chosen,
        tally: Tally,
    ) -> Result<Removal, CorrectionError> {
        if tally.picked.is_empty() {
            return Err(CorrectionError::Refused(format!(
                "no {chosen} is known; nothing was changed. Is it in the trash already? kura trash list; else look it up: kura find"
            )));
        }
        let studies = studies_of(&tally.picked);
        let values = recognised_by(snapshot, &studies)?;
        let text = |tag: Tag| values.get(&key(tag)).cloned().unwrap_or_default();
        let answered = tally.picked.iter().filter(|one| one.answered).count() as u64;
        let mut modalities = tally.modalities;
        for (study, series) in &tally.series {
            let record = snapshot.series(study, series)?;
            modalities.extend(
                record.and_then(|record| record.facts.values.get(&key(tags::MODALITY)).cloned()),
            );
        }
        let volumes: Vec<RemovedOn> = tally
            .volumes
            .iter()
            .map(|(id, (files_count, bytes))| {
                let member = self.shelf.by_id(id);
                RemovedOn {
                    name: member
                        .as_ref()
                        .map_or_else(|| id.clone(), |member| member.name.clone()),
                    is_here: member.is_some_and(|member| member.here().is_some()),
                    files_count: *files_count,
                    bytes: *bytes,
                }
            })
            .collect();
        Ok(Removal {
            number: None,
            level: chosen.level().to_owned(),
            uid: chosen.uid().to_owned(),
            study_instance_uids: studies,
            patient_id: text(tags::PATIENT_ID),
            patient_name: text(tags::PATIENT_NAME),
            study_date: text(tags::STUDY_DATE),
            study_description: text(tags::STUDY_DESCRIPTION),
            modalities: modalities.into_iter().collect(),
            series_count: tally.series.len() as u64,
            instances_count: instances_count(&tally.picked),
            others_count: tally.picked.len() as u64 - answered,
            files_count: volumes.iter().map(|volume| volume.files_count).sum(),
            bytes: volumes.iter().map(|volume| volume.bytes).sum(),
            volumes,
            until: self.gone_on(&super::super::now()),
            appears_in: tally.appears_in.into_iter().collect(),
        })
    }

    /// The day on which files are deleted that went to the trash at that time (RFC 3339), local time, `YYYY-MM-DD`; empty
    /// where they are kept for ever, as they are when the time cannot be read.
    pub(super) fn gone_on(&self, at: &str) -> String {
        let days = u32::try_from(self.corrections_config.now().trash_days).unwrap_or(u32::MAX);
        let kept = self.days().day().saturating_mul(days);
        let at: Option<Timestamp> = at.parse().ok();
        let on = at
            .filter(|_| days > 0)
            .and_then(|at| at.checked_add(kept).ok());
        on.map_or_else(String::new, |on| {
            let on = on.to_zoned(jiff::tz::TimeZone::system());
            on.strftime("%Y-%m-%d").to_string()
        })
    }
}

fn tally(snapshot: &Snapshot, chosen: &Chosen) -> Result<Tally, CorrectionError> {
    let mut tally = Tally::default();
    let series_of = match chosen {
        Chosen::Series(uid) => snapshot
            .series_by_uid(uid)?
            .map(|record| (record.facts.study_instance_uid, uid.clone())),
        _ => None,
    };
    let stays = |study: &str, series: &str| match (chosen, &series_of) {
        (Chosen::Study(uid), _) => study != uid,
        (_, Some((of, uid))) => study != of || series != uid,
        _ => false,
    };
    each_chosen(snapshot, chosen, &mut |content| tally.add(&content, stays))?;
    Ok(tally)
}

/// Values by which a person recognises what went; those of the first study.
pub(super) fn recognised_by(
    snapshot: &Snapshot,
    studies: &[String],
) -> Result<Values, CorrectionError> {
    let Some(uid) = studies.first() else {
        return Ok(Values::new());
    };
    let values = snapshot
        .study(uid)?
        .map(|record| record.facts.values)
        .unwrap_or_default();
    let wanted = [
        tags::PATIENT_ID,
        tags::ISSUER_OF_PATIENT_ID,
        tags::PATIENT_NAME,
        tags::PATIENT_BIRTH_DATE,
        tags::STUDY_DATE,
        tags::STUDY_DESCRIPTION,
        tags::ACCESSION_NUMBER,
    ];
    let known = |tag: &Tag| Some((key(*tag), values.get(&key(*tag))?.clone()));
    Ok(wanted.iter().filter_map(known).collect())
}
