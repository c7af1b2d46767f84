//! Settling a conflict: another content is answered, one is discarded, or it is well as it is. Each can be taken back.

use crate::dicom::Level;
use crate::index::{
    CorrectionFacts, CorrectionRecord, Did, InstanceEntry, Snapshot, Values, Verdict,
};

use super::super::Archive;
use super::CorrectionError;
use super::asked::Amend;
use super::conflicts::{ConflictsSaid, Meant, MixedStudy, TwoPeople, seen_deviating, seen_person};
use super::picked::{Cause, Picked, contents_of};
use super::remove::recognised_by;

fn refused<T>(text: String) -> Result<T, CorrectionError> {
    Err(CorrectionError::Refused(text))
}

impl Archive {
    pub(super) fn prefer(
        &self,
        id: &str,
        content: Option<u32>,
        study: Option<&str>,
        cause: &Cause,
    ) -> Result<ConflictsSaid, CorrectionError> {
        cause.check()?;
        let meant = self.meant(&self.complete_view()?.snapshot, id)?;
        match (meant, content, study) {
            (Meant::Duplicate(entry), Some(content), _) => {
                let rule = (Did::Preferred, Verdict::Preferred);
                let number = self.rule_on(&entry, content, rule, cause)?;
                Ok(ConflictsSaid::Done {
                    said: format!(
                        "content {content} of instance {} is answered; the others are kept. To take it back: kura conflicts undo {number}",
                        entry.sop_instance_uid
                    ),
                    number,
                })
            }
            (Meant::Duplicate(_), None, _) => refused(format!(
                "which content? Nothing was changed. See them: kura conflicts show {id}; then add: --content K"
            )),
            (Meant::Patient(people), _, Some(study)) => amendments(&people, study, cause),
            (Meant::Patient(_), _, None) => refused(format!(
                "which person is right? Nothing was changed. See them: kura conflicts show {id}; then name one of the studies with: --study UID"
            )),
            (Meant::Study(study), ..) => Ok(moves(&study, cause)),
            (Meant::Series(_), ..) => refused(format!(
                "which of them are in the wrong study? Nothing was changed. See them: kura conflicts show {id}; then: kura amend --instance UID --to-study UID --reason TEXT"
            )),
        }
    }

    pub(super) fn discard(
        &self,
        id: &str,
        content: Option<u32>,
        cause: &Cause,
    ) -> Result<ConflictsSaid, CorrectionError> {
        cause.check()?;
        let meant = self.meant(&self.complete_view()?.snapshot, id)?;
        let (level, of, studies) = match meant {
            Meant::Duplicate(entry) => {
                let Some(content) = content else {
                    return refused(format!(
                        "which content? Nothing was changed. See them: kura conflicts show {id}; then add: --content K"
                    ));
                };
                let rule = (Did::Discarded, Verdict::Withdrawn);
                let number = self.rule_on(&entry, content, rule, cause)?;
                return Ok(ConflictsSaid::Done {
                    said: format!(
                        "content {content} of instance {} is discarded. To take it back: kura conflicts undo {number}",
                        entry.sop_instance_uid
                    ),
                    number,
                });
            }
            Meant::Patient(people) => {
                let studies = people.people.iter();
                let studies = studies.flat_map(|one| one.study_instance_uids.iter().cloned());
                let seen = people.people.iter().map(seen_person);
                let of = std::iter::once(people.of()).chain(seen);
                ("PATIENT", of.collect::<Vec<_>>(), studies.collect())
            }
            Meant::Study(study) => {
                let seen = study.others.iter().map(seen_deviating);
                let of = std::iter::once(study.study_instance_uid.clone()).chain(seen);
                ("STUDY", of.collect(), vec![study.study_instance_uid])
            }
            Meant::Series(series) => {
                let studies = series.seen();
                let uid = std::iter::once(series.series_instance_uid);
                let of = uid.chain(studies.iter().cloned());
                ("SERIES", of.collect(), studies)
            }
        };
        let number = self.dismiss(level, of, studies, cause)?;
        Ok(ConflictsSaid::Done {
            said: format!(
                "{id} is well as it is, and shows again when another person, or study, appears there. To take it back: kura conflicts undo {number}"
            ),
            number,
        })
    }

    /// One ruling on one of the contents of an instance.
    fn rule_on(
        &self,
        entry: &InstanceEntry,
        content: u32,
        (did, verdict): (Did, Verdict),
        cause: &Cause,
    ) -> Result<u64, CorrectionError> {
        let sop = &entry.sop_instance_uid;
        let _turn = self.corrections.turn()?;
        let held = self.hold_picked(&mut |snapshot| {
            let Some(entry) = snapshot.by_sop(sop)? else {
                return Ok(Vec::new());
            };
            let contents = contents_of(&entry);
            if did == Did::Discarded && contents.len() < 2 {
                return refused(format!(
                    "it is the only content of instance {sop}; nothing was changed. To remove it: kura remove --instance {sop} --reason TEXT"
                ));
            }
            let at = content.checked_sub(1).and_then(|at| usize::try_from(at).ok());
            Ok(at
                .and_then(|at| contents.get(at))
                .map(Picked::of)
                .into_iter()
                .collect())
        })?;
        let snapshot = &held.view.snapshot;
        let Some(picked) = held.picked.first() else {
            return refused(format!(
                "instance {sop} has no content {content}; nothing was changed. See them: kura conflicts show {sop}"
            ));
        };
        // What is answered may go over to another study.
        let mut studies = vec![entry.study_instance_uid.clone()];
        if picked.study_instance_uid != entry.study_instance_uid {
            studies.push(picked.study_instance_uid.clone());
        }
        self.refuse_protected_in(snapshot, &studies)?;
        let facts = CorrectionFacts {
            at: super::super::now(),
            did,
            who: cause.who.clone(),
            why: cause.why.clone(),
            way: cause.way.clone(),
            level: "IMAGE".to_owned(),
            of: vec![sop.clone()],
            before: recognised_by(snapshot, &studies)?,
            studies,
            instances_count: 1,
            after: Values::new(),
        };
        self.put_in_effect(&held, verdict, &facts)
    }

    fn dismiss(
        &self,
        level: &str,
        of: Vec<String>,
        studies: Vec<String>,
        cause: &Cause,
    ) -> Result<u64, CorrectionError> {
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        let number = self.keeper.next_sequence();
        let facts = CorrectionFacts {
            at: super::super::now(),
            did: Did::Dismissed,
            who: cause.who.clone(),
            why: cause.why.clone(),
            way: cause.way.clone(),
            level: level.to_owned(),
            of,
            before: recognised_by(&view.snapshot, &studies)?,
            studies,
            instances_count: 0,
            after: Values::new(),
        };
        self.put_down(number, true, &facts, &[], &[])?;
        Ok(number)
    }

    pub(super) fn undo_settlement(
        &self,
        number: u64,
        cause: &Cause,
    ) -> Result<ConflictsSaid, CorrectionError> {
        cause.check()?;
        let _turn = self.corrections.turn()?;
        let view = self.complete_view()?;
        let Some(record) = view.snapshot.correction(number)? else {
            return refused(format!(
                "there is no change {number}; nothing was changed. All there are: kura changes list"
            ));
        };
        refuse_undoing(self, &view.snapshot, &record)?;
        self.refuse_protected_in(&view.snapshot, &record.facts.studies)?;
        drop(view);
        self.put_out_of_effect(&record, cause)?;
        Ok(ConflictsSaid::Done {
            said: format!("change {number} is taken back"),
            number,
        })
    }
}

fn refuse_undoing(
    archive: &Archive,
    snapshot: &Snapshot,
    record: &CorrectionRecord,
) -> Result<(), CorrectionError> {
    let number = record.number;
    let elsewhere = match record.facts.did {
        Did::Preferred | Did::Discarded | Did::Dismissed | Did::Rejected => None,
        Did::Removed => Some(format!("kura trash restore {number}")),
        Did::Amended => Some(format!("kura amend --undo --number {number}")),
        Did::Protected => {
            let study = record.facts.of.first().cloned().unwrap_or_default();
            Some(format!("kura protect --study {study} --off --reason TEXT"))
        }
    };
    if let Some(command) = elsewhere {
        return refused(format!(
            "change {number} settled no conflict; nothing was changed. To take it back: {command}"
        ));
    }
    if !record.in_effect {
        return refused(format!(
            "change {number} was taken back already; nothing was changed"
        ));
    }
    if !matches!(record.facts.did, Did::Discarded | Did::Rejected) {
        return Ok(());
    }
    let kept = archive.kept_of(snapshot, number)?;
    if let Some(later) = kept.later {
        return refused(format!(
            "change {later} was made later to the same images; nothing was changed. See it: kura changes show {later}; take it back first"
        ));
    }
    if kept.gone > 0 {
        return refused(format!(
            "the files of {} contents of change {number} are deleted; nothing was changed, and it cannot be taken back any more",
            kept.gone
        ));
    }
    Ok(())
}

/// Every study of the other people becomes one of the person of that study.
fn amendments(
    people: &TwoPeople,
    study: &str,
    cause: &Cause,
) -> Result<ConflictsSaid, CorrectionError> {
    let has = |uids: &[String]| uids.iter().any(|uid| uid == study);
    if !people
        .people
        .iter()
        .any(|one| has(&one.study_instance_uids))
    {
        return refused(format!(
            "study {study} is none of patient ID {}; nothing was changed. See them: kura conflicts show {}",
            people.patient_id, people.id
        ));
    }
    let others = people
        .people
        .iter()
        .filter(|one| !has(&one.study_instance_uids));
    let mut said = (Vec::new(), Vec::new());
    for uid in others.flat_map(|one| &one.study_instance_uids) {
        let arguments = ["--study", uid, "--to-patient-of-study", study];
        // There may be a third person under that ID.
        let arguments = arguments.into_iter().chain(["--merge-patients"]);
        said.0.push(arguments.map(str::to_owned).collect());
        said.1.push(Amend {
            to_patient_of_study: Some(study.to_owned()),
            merge_patients: true,
            ..ask(Level::Study, vec![uid.clone()], cause)
        });
    }
    let (amendments, asks) = said;
    Ok(ConflictsSaid::Amend { amendments, asks })
}

/// Nothing is changed yet.
fn ask(level: Level, of: Vec<String>, cause: &Cause) -> Amend {
    Amend {
        level,
        of,
        values: Vec::new(),
        to_study: None,
        to_patient_of_study: None,
        new_uids: false,
        utf8: false,
        now: false,
        merge_patients: false,
        who: cause.who.clone(),
        why: cause.why.clone(),
    }
}

/// Every instance that says another patient takes that of its study.
fn moves(study: &MixedStudy, cause: &Cause) -> ConflictsSaid {
    let uids = study.others.iter().flat_map(|one| &one.sop_instance_uids);
    let ask = Amend {
        to_study: Some(study.study_instance_uid.clone()),
        ..ask(Level::Instance, uids.clone().cloned().collect(), cause)
    };
    let instances = uids.flat_map(|uid| ["--instance", uid]);
    let to_study = ["--to-study", &study.study_instance_uid];
    let arguments = instances.chain(to_study).map(str::to_owned).collect();
    ConflictsSaid::Amend {
        amendments: vec![arguments],
        asks: vec![ask],
    }
}
