//! Which corrections are in effect, while a batch is taken in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::engine::{Direction, Reader, Table};
use super::snapshot::{decode, each, get, is_empty};
use super::{Correction, CorrectionFacts, CorrectionRecord, IndexError, damaged};

/// Eight bytes, so that the order of keys is that of numbers.
pub(super) fn number_key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// One line of a correction, which several ledgers may say. Of two lines with one sequence, which nobody writes, the
/// greater is the later: so it does not matter which is read first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Line {
    sequence: u64,
    in_effect: bool,
    facts: CorrectionFacts,
}

/// A line, and the volumes whose ledgers say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    line: Line,
    volume_ids: BTreeSet<String>,
}

/// A correction as it is written: lines between the first and the last are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptCorrection {
    first: Said,
    /// None if that is the first.
    last: Option<Said>,
}

impl KeptCorrection {
    fn new(said: Said) -> KeptCorrection {
        KeptCorrection {
            first: said,
            last: None,
        }
    }

    fn newest(&self) -> &Said {
        self.last.as_ref().unwrap_or(&self.first)
    }

    fn in_effect(&self) -> bool {
        self.newest().line.in_effect
    }

    fn take_in(&mut self, said: Said) {
        if said.line == self.first.line {
            self.first.volume_ids.extend(said.volume_ids);
        } else if said.line < self.first.line {
            let first = std::mem::replace(&mut self.first, said);
            self.last.get_or_insert(first);
        } else {
            match &mut self.last {
                Some(last) if said.line == last.line => last.volume_ids.extend(said.volume_ids),
                Some(last) if said.line < last.line => {}
                last => *last = Some(said),
            }
        }
    }

    fn is_said_by(&self, volume_id: &str) -> bool {
        let mut said = std::iter::once(&self.first).chain(&self.last);
        said.any(|said| said.volume_ids.contains(volume_id))
    }

    /// A volume's ledger is read no more.
    fn forget(&mut self, volume_id: &str) {
        self.first.volume_ids.remove(volume_id);
        if let Some(last) = &mut self.last {
            last.volume_ids.remove(volume_id);
        }
    }

    pub fn into_record(self, number: u64) -> CorrectionRecord {
        let newest = self.newest();
        let both = self.first.volume_ids.intersection(&newest.volume_ids);
        CorrectionRecord {
            number,
            in_effect: newest.line.in_effect,
            sequence: newest.line.sequence,
            first_sequence: self.first.line.sequence,
            volume_ids: both.cloned().collect(),
            facts: self.first.line.facts,
            last: self.last.map(|last| last.line.facts),
        }
    }
}

/// A correction before the batch, and now.
struct Worked {
    before: Option<KeptCorrection>,
    now: Option<KeptCorrection>,
}

/// What is known of corrections: as it will be after the batch. An index without any is not asked.
pub(super) struct Effects<'a> {
    reader: &'a dyn Reader,
    /// The table was empty before the batch.
    none: bool,
    worked: HashMap<u64, Worked>,
}

impl<'a> Effects<'a> {
    pub fn new(reader: &'a dyn Reader) -> Result<Effects<'a>, IndexError> {
        Ok(Effects {
            reader,
            none: is_empty(reader, Table::Correction)?,
            worked: HashMap::new(),
        })
    }

    fn at(&mut self, number: u64) -> Result<&mut Worked, IndexError> {
        if !self.worked.contains_key(&number) {
            let kept = match self.none {
                true => None,
                false => get(self.reader, Table::Correction, &number_key(number))?,
            };
            let before: Option<KeptCorrection> = match kept {
                Some(content) => Some(decode(Table::Correction, &content)?),
                None => None,
            };
            let now = before.clone();
            self.worked.insert(number, Worked { before, now });
        }
        Ok(self.worked.get_mut(&number).expect("just put in"))
    }

    /// One that no line speaks of is not: the line may be read later. 0 is none, and always counts.
    pub fn is_in_effect(&mut self, number: u64) -> Result<bool, IndexError> {
        if number == 0 {
            return Ok(true);
        }
        let worked = self.at(number)?;
        Ok(worked.now.as_ref().is_some_and(KeptCorrection::in_effect))
    }

    pub fn take_in(&mut self, correction: &Correction) -> Result<(), IndexError> {
        let said = Said {
            line: Line {
                sequence: correction.sequence,
                in_effect: correction.in_effect,
                facts: correction.facts.clone(),
            },
            volume_ids: BTreeSet::from([correction.volume_id.clone()]),
        };
        let worked = self.at(correction.number)?;
        match &mut worked.now {
            Some(kept) => kept.take_in(said),
            None => worked.now = Some(KeptCorrection::new(said)),
        }
        Ok(())
    }

    /// A volume's ledger is read no more. What it said stays said.
    pub fn forget(&mut self, volume_id: &str) -> Result<(), IndexError> {
        let mut numbers = Vec::new();
        let all = (Vec::new(), Vec::new());
        each(
            self.reader,
            Table::Correction,
            all,
            Direction::Forward,
            &mut |key, content| {
                let kept: KeptCorrection = decode(Table::Correction, content)?;
                if kept.is_said_by(volume_id) {
                    numbers.push(number_of(key)?);
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        for number in numbers {
            if let Some(kept) = &mut self.at(number)?.now {
                kept.forget(volume_id);
            }
        }
        Ok(())
    }

    /// Those that came in effect or out of it, with whether they are now.
    pub fn changed(&self) -> BTreeMap<u64, bool> {
        let is = |kept: &Option<KeptCorrection>| {
            let kept = kept.as_ref();
            kept.is_some_and(KeptCorrection::in_effect)
        };
        let changed = self.worked.iter();
        changed
            .filter(|(_, worked)| is(&worked.before) != is(&worked.now))
            .map(|(number, worked)| (*number, is(&worked.now)))
            .collect()
    }

    /// Records to be written.
    pub fn written(&self) -> impl Iterator<Item = (u64, &KeptCorrection)> {
        let worked = self.worked.iter();
        let changed = worked.filter(|(_, worked)| worked.before != worked.now);
        changed.filter_map(|(number, worked)| Some((*number, worked.now.as_ref()?)))
    }
}

/// The number at the beginning of a key.
pub(super) fn number_of(key: &[u8]) -> Result<u64, IndexError> {
    let number = key
        .first_chunk()
        .ok_or_else(|| damaged(Table::Correction))?;
    Ok(u64::from_be_bytes(*number))
}
