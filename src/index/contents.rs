//! Everything that is kept under one SOP Instance UID, and which of it counts: [`super::merge`] says by which rules.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

use super::merge::OnVolume;
use super::record::{Facts, Told, tag_of};
use super::{
    ContentId, Copy, Gone, Hid, Hidden, IndexError, InstanceEntry, InstanceFacts, Origin, Other,
    OtherKind, Ruling, Stored, Values, Verdict,
};
use crate::dicom::attributes::is_standard;
pub(super) use unit::Unit;

mod unit;

/// Tells whether a correction is in effect; 0, which is none, always is.
pub(super) type InEffect<'a> = dyn FnMut(u64) -> Result<bool, IndexError> + 'a;

/// [`InstanceRecord`] of an instance's first statement, written without copying it. Same fields in the same order.
#[derive(Serialize)]
pub(super) struct FirstRecord<'a> {
    sequence: u64,
    sop_class_uid: &'a str,
    transfer_syntax: &'a str,
    values: &'a Values,
    received: &'a str,
    source_ae_title: &'a str,
    origin: &'a Origin,
    copies: &'a [Copy],
    others: &'a [Other],
    told: &'a [Told],
}

impl<'a> FirstRecord<'a> {
    pub fn of(instance: &'a InstanceFacts) -> Self {
        FirstRecord {
            sequence: instance.sequence,
            sop_class_uid: &instance.sop_class_uid,
            transfer_syntax: &instance.transfer_syntax,
            values: &instance.values,
            received: &instance.received,
            source_ae_title: &instance.source_ae_title,
            origin: &instance.origin,
            copies: std::slice::from_ref(&instance.copy),
            others: &[],
            told: &[],
        }
    }
}

/// What statements `by` one correction, or by none, say of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    /// The lowest.
    facts: Facts,
    /// Highest sequence of these statements.
    highest: u64,
    /// Highest sequence of those that are `newest`; 0: none is.
    newest: u64,
}

impl Said {
    fn of(facts: Facts) -> Said {
        Said {
            highest: facts.sequence,
            newest: match facts.origin.newest {
                true => facts.sequence,
                false => 0,
            },
            facts,
        }
    }

    fn by(&self) -> u64 {
        self.facts.origin.by
    }

    /// As a single statement says it.
    fn is_plain(&self) -> bool {
        let newest = if self.facts.origin.newest {
            self.facts.sequence
        } else {
            0
        };
        (self.highest, self.newest) == (self.facts.sequence, newest)
    }

    fn join(&mut self, other: &Said) {
        let mut facts = other.facts.clone();
        if facts < self.facts {
            std::mem::swap(&mut facts, &mut self.facts);
        }
        add_found(&mut self.facts.values, &facts.values);
        self.highest = self.highest.max(other.highest);
        self.newest = self.newest.max(other.newest);
    }
}

/// One content under a SOP Instance UID while what is kept is worked on; the answered one is not special here.
#[derive(Debug, Clone)]
struct Content {
    transfer_syntax: String,
    /// Never empty; by volume id, path, then `by`: a file that was stored by several corrections is here several times.
    copies: Vec<(Copy, Rc<Said>)>,
}

/// What becomes of a content.
enum Standing {
    Counts { rank: u64 },
    Hidden(Hid),
}

impl Content {
    /// (size, CRC-32, transfer syntax) of the data set. 0 for a content without copies, which no rule here makes.
    fn identity(&self) -> (u64, u32, &str) {
        let (size, crc) = self
            .copies
            .first()
            .map_or((0, 0), |(copy, _)| (copy.data_bytes(), copy.crc32));
        (size, crc, &self.transfer_syntax)
    }

    fn is(&self, content: &ContentId) -> bool {
        self.identity() == (content.data_bytes, content.crc32, &content.transfer_syntax)
    }

    fn of(stored: &Stored) -> Content {
        let instance = &stored.instance;
        let facts = Facts {
            sequence: instance.sequence,
            received: instance.received.clone(),
            source_ae_title: instance.source_ae_title.clone(),
            origin: instance.origin.clone(),
            study_instance_uid: stored.study.study_instance_uid.clone(),
            series_instance_uid: stored.series.series_instance_uid.clone(),
            sop_class_uid: instance.sop_class_uid.clone(),
            values: instance.values.clone(),
        };
        Content {
            transfer_syntax: instance.transfer_syntax.clone(),
            copies: vec![(instance.copy.clone(), Rc::new(Said::of(facts)))],
        }
    }

    fn files(&mut self) -> impl Iterator<Item = &mut Copy> {
        self.copies.iter_mut().map(|(copy, _)| copy)
    }

    /// Takes in another statement about the same content.
    fn join(&mut self, other: Content) {
        for (copy, said) in other.copies {
            let place = |(kept, by): &(Copy, Rc<Said>)| {
                (&kept.volume_id, &kept.path, by.by()).cmp(&(
                    &copy.volume_id,
                    &copy.path,
                    said.by(),
                ))
            };
            match self.copies.binary_search_by(place) {
                Ok(at) => {
                    let (kept, told) = &mut self.copies[at];
                    if copy < *kept {
                        *kept = copy;
                    }
                    if said != *told {
                        Rc::make_mut(told).join(&said);
                    }
                }
                Err(at) => self.copies.insert(at, (copy, said)),
            }
        }
    }

    /// Does it count, and what is told of it: the lowest of the statements that count, or of all when none does.
    fn standing(
        &self,
        rulings: &[Ruling],
        in_effect: &mut InEffect,
    ) -> Result<(Standing, Option<Rc<Said>>), IndexError> {
        let mut lowest: Option<&Rc<Said>> = None;
        let (mut rank, mut highest) = (0, 0);
        for (_, said) in &self.copies {
            if !in_effect(said.by())? {
                continue;
            }
            rank = rank.max(said.by()).max(said.newest);
            highest = highest.max(said.highest);
            lowest = Some(lower(lowest, said));
        }
        let Some(lowest) = lowest else {
            let all = self.copies.iter().map(|(_, said)| said);
            let by = all.clone().map(|said| said.by()).max().unwrap_or(0);
            let lowest = all.fold(None, |lowest, said| Some(lower(lowest, said)));
            return Ok((Standing::Hidden(Hid::Unmade { by }), lowest.cloned()));
        };
        let mut withdrawn = None;
        for ruling in rulings.iter().filter(|ruling| self.is(&ruling.content)) {
            if !in_effect(ruling.by)? {
                continue;
            }
            match ruling.verdict {
                Verdict::Preferred => rank = rank.max(ruling.by),
                Verdict::Removed if highest > ruling.sequence => {}
                Verdict::Withdrawn | Verdict::Removed => {
                    withdrawn = withdrawn.max(Some(ruling.by));
                }
            }
        }
        let standing = match withdrawn {
            Some(by) => Standing::Hidden(Hid::Withdrawn { by }),
            None => Standing::Counts { rank },
        };
        Ok((standing, Some(lowest.clone())))
    }

    /// As it is written, `lowest` being what is told of it.
    fn split(self, lowest: &Rc<Said>) -> Written {
        let plain = lowest.is_plain() && self.copies.iter().all(|(_, said)| said == lowest);
        let mut copies: Vec<Copy> = Vec::with_capacity(self.copies.len());
        let mut told: Vec<(Rc<Said>, Vec<u32>)> = Vec::new();
        let mut facts = lowest.facts.clone();
        for (copy, said) in self.copies {
            if !plain {
                add_found(&mut facts.values, &said.facts.values);
            }
            match copies.last_mut() {
                Some(last) if (&last.volume_id, &last.path) == (&copy.volume_id, &copy.path) => {
                    if copy < *last {
                        *last = copy;
                    }
                }
                _ => copies.push(copy),
            }
            if plain {
                continue;
            }
            let place = copies.len() as u32 - 1;
            match told.iter_mut().find(|(kept, _)| *kept == said) {
                Some((_, places)) => places.push(place),
                None => told.push((said, vec![place])),
            }
        }
        let told = told.into_iter().map(|(said, copies)| Told {
            facts: said.facts.clone(),
            highest: said.highest,
            newest: said.newest,
            copies,
        });
        Written {
            facts,
            transfer_syntax: self.transfer_syntax,
            copies,
            told: told.collect(),
        }
    }
}

/// What was found in the same bytes for extra keys, whenever it was looked for them. An empty text counts only where there
/// is no other.
fn add_found(values: &mut Values, found: &Values) {
    for (tag, text) in found.iter().filter(|(tag, _)| !is_standard(tag_of(**tag))) {
        let kept = values.entry(*tag).or_default();
        if kept.is_empty() {
            kept.clone_from(text);
        }
    }
}

fn lower<'a>(lowest: Option<&'a Rc<Said>>, said: &'a Rc<Said>) -> &'a Rc<Said> {
    match lowest {
        Some(lowest) if Rc::ptr_eq(lowest, said) || lowest.facts <= said.facts => lowest,
        _ => said,
    }
}

/// A content as its record holds it.
struct Written {
    facts: Facts,
    transfer_syntax: String,
    copies: Vec<Copy>,
    told: Vec<Told>,
}

impl From<Written> for Content {
    fn from(written: Written) -> Content {
        let copies = if written.told.is_empty() {
            let said = Rc::new(Said::of(written.facts));
            let copies = written.copies.into_iter();
            copies.map(|copy| (copy, said.clone())).collect()
        } else {
            let mut copies: Vec<(Copy, Rc<Said>)> = Vec::new();
            for told in written.told {
                let said = Rc::new(Said {
                    facts: told.facts,
                    highest: told.highest,
                    newest: told.newest,
                });
                for place in told.copies {
                    let copy = written.copies.get(place as usize);
                    copies.extend(copy.map(|copy| (copy.clone(), said.clone())));
                }
            }
            copies.sort_by(|(a, x), (b, y)| {
                (&a.volume_id, &a.path, x.by()).cmp(&(&b.volume_id, &b.path, y.by()))
            });
            copies
        };
        Content {
            transfer_syntax: written.transfer_syntax,
            copies,
        }
    }
}

/// That these files are gone. No line says so, so there is no number.
fn all_gone<'a>(
    sop_instance_uid: &'a str,
    volume_id: &'a str,
    copies: impl Iterator<Item = &'a Copy>,
) -> impl Iterator<Item = Gone> {
    copies
        .filter(move |copy| copy.volume_id == volume_id)
        .map(move |copy| Gone {
            sequence: 0,
            sop_instance_uid: sop_instance_uid.to_owned(),
            volume_id: copy.volume_id.clone(),
            path: copy.path.clone(),
        })
}

impl Hidden {
    /// That every hidden file on the volume is gone.
    pub(super) fn gone_from<'a>(
        &'a self,
        sop_instance_uid: &'a str,
        volume_id: &'a str,
    ) -> impl Iterator<Item = Gone> {
        let copies = self.contents.iter().flat_map(|content| &content.copies);
        all_gone(sop_instance_uid, volume_id, copies)
    }
}

impl InstanceEntry {
    /// That every file on the volume is gone.
    pub(super) fn gone_from<'a>(&'a self, volume_id: &'a str) -> impl Iterator<Item = Gone> {
        let record = &self.record;
        let others = record.others.iter().flat_map(|other| &other.copies);
        let copies = record.copies.iter().chain(others);
        all_gone(&self.sop_instance_uid, volume_id, copies)
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.record.copies.first().map_or(0, Copy::data_bytes)
    }

    /// What this instance adds to its study on each volume.
    pub(super) fn on_volumes(&self) -> BTreeMap<&str, OnVolume> {
        let record = &self.record;
        let mut volumes: BTreeMap<&str, OnVolume> = BTreeMap::new();
        for copy in &record.copies {
            let there = volumes.entry(&copy.volume_id).or_default();
            there.answered = 1;
            there.bytes += copy.size_bytes;
        }
        for copy in record.others.iter().flat_map(|other| &other.copies) {
            volumes.entry(&copy.volume_id).or_default().bytes += copy.size_bytes;
        }
        for there in volumes.values_mut() {
            there.instances = 1;
        }
        volumes
    }

    pub(super) fn others_count(&self, kind: OtherKind) -> u64 {
        self.record
            .others
            .iter()
            .filter(|other| other.kind == kind)
            .count() as u64
    }
}
