//! The lines of a correction: durable on two volumes, in effect from the first on.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::index::{Change, Correction, CorrectionFacts, CorrectionRecord, Ruling, Snapshot};
use crate::volume::layout::Role;
use crate::volume::{Volume, VolumeError, VolumeState};

use super::super::shelf::Member;
use super::super::{Archive, Line, entry};
use super::CorrectionError;

/// Ledgers that say each correction.
const WITNESSES: usize = 2;

impl Archive {
    /// Makes rulings durable, and the line that puts their correction in effect (or out of it, then mostly without
    /// rulings). On return it is what is answered. `near`: volumes that are to hold the lines rather than others, since
    /// they hold the files.
    ///
    /// The rulings go before the line in one group: as long as the line is not there whole they mean nothing. When only the
    /// second volume fails it is done all the same, and said again elsewhere later ([`Archive::restate_corrections`]). A line
    /// whose flush failed may be there at the next start, or not: once another ledger has it, that makes no difference.
    pub(in super::super) fn put_down(
        &self,
        number: u64,
        in_effect: bool,
        facts: &CorrectionFacts,
        rulings: &[Ruling],
        near: &[String],
    ) -> Result<(), CorrectionError> {
        let witnesses = self.witnesses(near, &[]);
        if witnesses.is_empty() {
            return Err(CorrectionError::NoVolume("none can be written".to_owned()));
        }
        let correction = Correction {
            sequence: self.keeper.next_sequence(),
            number,
            in_effect,
            facts: facts.clone(),
            volume_id: String::new(),
        };
        let mut rulings = rulings.to_vec();
        rulings.extend(self.rulings_as_received(&self.keeper.view()?.snapshot, &rulings)?);
        let mut said = 0;
        let (mut refused, mut unknown) = (None, None);
        for volume in &witnesses {
            if said == WITNESSES {
                break;
            }
            match self.say(volume, &rulings, std::slice::from_ref(&correction)) {
                Ok(()) => said += 1,
                Err(error) => {
                    tracing::warn!(volume = volume.name(), %error, "a correction is not in this ledger");
                    match error.is_ledger_unknown() {
                        true => unknown = Some(error),
                        false => refused = Some(error),
                    }
                }
            }
        }
        self.corrections.wake();
        match (said, unknown, refused) {
            (0, Some(source), _) => Err(CorrectionError::Unknown { number, source }),
            (0, None, Some(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Sees to it that each correction is in the ledgers of two volumes that are not given up, of either role where there are
    /// such: the archive volumes alone know it, and the mirror volumes alone. To be called when a volume came, went for
    /// good, or a line could not be written. How many were said again.
    pub(in super::super) fn restate_corrections(&self) -> Result<u64, CorrectionError> {
        let view = self.keeper.view()?;
        if view.rebuilding_percent.is_some() {
            return Ok(0);
        }
        let mut lacking = Vec::new();
        view.snapshot.corrections(&mut |record| {
            let volumes = self.more_witnesses(&record);
            if !volumes.is_empty() {
                lacking.push((record, volumes));
            }
            ControlFlow::Continue(())
        })?;
        let mut count = 0;
        for (record, volumes) in lacking {
            let rulings = rulings_of(&view.snapshot, record.number)?;
            let line = |sequence, in_effect, facts: &CorrectionFacts| Correction {
                sequence,
                number: record.number,
                in_effect,
                facts: facts.clone(),
                volume_id: String::new(),
            };
            let mut lines = Vec::new();
            match &record.last {
                Some(last) => {
                    lines.push(line(record.first_sequence, true, &record.facts));
                    lines.push(line(record.sequence, record.in_effect, last));
                }
                None => lines.push(line(record.sequence, record.in_effect, &record.facts)),
            }
            for volume in &volumes {
                self.say(volume, &rulings, &lines)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Volumes whose ledgers are to say a correction besides those that do.
    fn more_witnesses(&self, record: &CorrectionRecord) -> Vec<Arc<Volume<Line>>> {
        let (standing, roles): (Vec<String>, Vec<Role>) = {
            let identity = self.identity();
            let known = record.volume_ids.iter();
            let known = known.filter_map(|id| identity.by_id(id));
            let stands = known.filter(|known| !known.is_given_up());
            stands
                .map(|known| (known.volume_id.clone(), known.role))
                .unzip()
        };
        let missing = WITNESSES.saturating_sub(standing.len());
        let members = self.shelf.all();
        if missing == 0 && members.iter().all(|member| roles.contains(&member.role)) {
            return Vec::new();
        }
        let others = self.witnesses(&[], &standing);
        let mut chosen: Vec<_> = others.iter().take(missing).cloned().collect();
        let is_new = |role, chosen: &[Arc<Volume<Line>>]| {
            !roles.contains(&role) && chosen.iter().all(|volume| volume.role() != role)
        };
        for volume in &others[chosen.len()..] {
            if is_new(volume.role(), &chosen) {
                chosen.push(volume.clone());
            }
        }
        chosen
    }

    fn say(
        &self,
        volume: &Volume<Line>,
        rulings: &[Ruling],
        corrections: &[Correction],
    ) -> Result<(), VolumeError> {
        let now = super::super::now();
        let mut lines = Vec::new();
        for ruling in rulings {
            let change = Change::Ruling(ruling.clone());
            lines.push((
                Vec::new(),
                entry::ruling_line(ruling, &now),
                Arc::new(change),
            ));
        }
        for correction in corrections {
            let correction = Correction {
                volume_id: volume.id().to_owned(),
                ..correction.clone()
            };
            let line = entry::correction_line(&correction);
            let change = Change::Correction(Box::new(correction));
            lines.push((Vec::new(), line, Line::new(change)));
        }
        let _call = volume.call();
        volume.ledger().append_all(lines)?;
        Ok(())
    }

    /// Volumes whose ledgers can be written, none of `but`. The first is the first of `near` if `but` is empty; then come
    /// those of the other role and on other disks than the first, or than `but`; of these `near` ones first.
    fn witnesses(&self, near: &[String], but: &[String]) -> Vec<Arc<Volume<Line>>> {
        let members = self.shelf.all();
        let here = members.iter().filter_map(|member| member.here().cloned());
        let mut volumes: Vec<Arc<Volume<Line>>> = here
            .filter(|volume| {
                volume.state() == VolumeState::Ok
                    && volume.answers()
                    && !volume.is_adopted()
                    && !but.iter().any(|id| id == volume.id())
            })
            .collect();
        let rank = |volume: &Arc<Volume<Line>>| {
            let place = near.iter().position(|id| id == volume.id());
            place.unwrap_or(usize::MAX)
        };
        volumes.sort_by_key(rank);
        let (others, from) = match (but, volumes.first()) {
            ([], Some(first)) => (1, vec![first.id().to_owned()]),
            _ => (0, but.to_vec()),
        };
        let is_from = |member: &&Arc<Member>| from.contains(&member.volume_id);
        let roles: Vec<Role> = members.iter().filter(is_from).map(|m| m.role).collect();
        let judge = self.judge();
        volumes[others..].sort_by_key(|volume| {
            let apart = judge.is_apart_from(volume.id(), &from);
            (!apart, roles.contains(&volume.role()), rank(volume))
        });
        volumes
    }
}

/// What a correction rules, as its lines said it.
pub(in super::super) fn rulings_of(
    snapshot: &Snapshot,
    number: u64,
) -> Result<Vec<Ruling>, crate::index::IndexError> {
    let mut sops = Vec::new();
    snapshot.instances_of_correction(number, None, &mut |sop| {
        sops.push(sop);
        ControlFlow::Continue(())
    })?;
    let mut rulings = Vec::new();
    for sop in sops {
        if let Some(hidden) = snapshot.hidden(&sop)? {
            rulings.extend(hidden.rulings.into_iter().filter(|r| r.by == number));
        }
    }
    Ok(rulings)
}
