//! The journal: every correction that was made, from the lines of the ledgers.

use std::ops::ControlFlow;

use crate::index::CorrectionRecord;

use super::super::Archive;
use super::CorrectionError;
use super::asked::{Change, ChangesVerb, LastSaid};

impl Archive {
    /// The corrections asked for, the newest first.
    pub fn changes_verb(&self, verb: &ChangesVerb) -> Result<Vec<Change>, CorrectionError> {
        let view = self.complete_view()?;
        match verb {
            ChangesVerb::Show { number } => {
                let record = view.snapshot.correction(*number)?;
                let record = record.ok_or_else(|| no_such_change(*number))?;
                Ok(vec![self.change(record)])
            }
            ChangesVerb::List { study, since, most } => {
                let mut found = Vec::new();
                view.snapshot.corrections(&mut |record| {
                    let of_study = study
                        .as_ref()
                        .is_none_or(|uid| record.facts.studies.contains(uid));
                    let lately = since.as_deref().is_none_or(|since| {
                        let latest = record.last.as_ref().unwrap_or(&record.facts);
                        latest.at.as_str() >= since
                    });
                    if of_study && lately {
                        found.push(self.change(record));
                    }
                    match found.len() < *most {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
                Ok(found)
            }
        }
    }

    pub(super) fn change(&self, record: CorrectionRecord) -> Change {
        let did = serde_json::to_value(record.facts.did).ok();
        let did = did.and_then(|did| did.as_str().map(str::to_owned));
        let name = |id: &String| {
            let member = self.shelf.by_id(id);
            member.map_or_else(|| id.clone(), |member| member.name.clone())
        };
        let facts = record.facts;
        Change {
            number: record.number,
            in_effect: record.in_effect,
            at: facts.at,
            did: did.unwrap_or_default(),
            who: facts.who,
            why: facts.why,
            way: facts.way,
            level: facts.level,
            of: facts.of,
            studies: facts.studies,
            instances_count: facts.instances_count,
            before: facts.before,
            after: facts.after,
            last: record.last.map(|last| LastSaid {
                at: last.at,
                who: last.who,
                why: last.why,
                way: last.way,
            }),
            volumes: record.volume_ids.iter().map(name).collect(),
        }
    }
}

pub(super) fn no_such_change(number: u64) -> CorrectionError {
    CorrectionError::Refused(format!(
        "there is no change {number}; nothing was changed; kura changes list shows all"
    ))
}
