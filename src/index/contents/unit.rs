//! The contents under one SOP Instance UID taken together: statements in, what counts and what is hidden out.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::record::{Facts, Told, kind_of};
use super::super::{
    Bad, Copy, Filled, Gone, Hidden, HiddenContent, IndexError, InstanceEntry, InstanceRecord,
    Origin, Other, Ruling, Stored,
};
use super::{Content, InEffect, Said, Standing, Written, add_found};

/// All that is known of one SOP Instance UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Unit {
    /// What counts; None: nothing does.
    pub entry: Option<Box<InstanceEntry>>,
    /// None: corrections say nothing of it.
    pub hidden: Option<Box<Hidden>>,
}

impl Unit {
    /// After the first statement, which is by no correction.
    pub fn first(stored: &Stored) -> Unit {
        let content = Content::of(stored);
        let said = content.copies.first().map(|(_, said)| said.clone());
        let written = said.map(|said| content.split(&said));
        let sop = &stored.instance.sop_instance_uid;
        Unit {
            entry: written.map(|written| Box::new(entry_of(sop, written, Vec::new()))),
            hidden: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entry.is_none() && self.hidden.is_none()
    }

    /// After one more statement.
    pub fn with(self, stored: &Stored, in_effect: &mut InEffect) -> Result<Unit, IndexError> {
        let (mut contents, rulings) = self.into_contents();
        let new = Content::of(stored);
        let file = &stored.instance.copy;
        for copy in contents.iter_mut().flat_map(Content::files) {
            if (&copy.volume_id, &copy.path) == (&file.volume_id, &file.path) {
                copy.bad = false;
            }
        }
        match contents
            .iter_mut()
            .find(|kept| kept.identity() == new.identity())
        {
            Some(kept) => kept.join(new),
            None => contents.push(new),
        }
        let sop = &stored.instance.sop_instance_uid;
        from_contents(sop, contents, rulings, in_effect)
    }

    /// Without the copy that is gone.
    pub fn without(self, gone: &Gone, in_effect: &mut InEffect) -> Result<Unit, IndexError> {
        let (mut contents, rulings) = self.into_contents();
        for content in &mut contents {
            content
                .copies
                .retain(|(copy, _)| (&copy.volume_id, &copy.path) != (&gone.volume_id, &gone.path));
        }
        contents.retain(|content| !content.copies.is_empty());
        from_contents(&gone.sop_instance_uid, contents, rulings, in_effect)
    }

    /// With the copy that is bad marked as such.
    pub fn with_bad(mut self, bad: &Bad) -> Unit {
        for copy in self.copies_mut() {
            if (&copy.volume_id, &copy.path) == (&bad.volume_id, &bad.path) {
                copy.bad = true;
            }
        }
        self
    }

    /// Whether a file is known at that path.
    pub fn has(&self, volume_id: &str, path: &str) -> bool {
        let there = |copy: &Copy| copy.volume_id == volume_id && copy.path == path;
        let counting = self.entry.iter().any(|entry| {
            let others = entry.record.others.iter().flat_map(|other| &other.copies);
            entry.record.copies.iter().chain(others).any(there)
        });
        counting
            || self.hidden.iter().any(|hidden| {
                let contents = hidden.contents.iter();
                contents.flat_map(|content| &content.copies).any(there)
            })
    }

    /// With values that were found in one of the files later.
    pub fn filled(self, filled: &Filled, in_effect: &mut InEffect) -> Result<Unit, IndexError> {
        let (mut contents, rulings) = self.into_contents();
        for (copy, said) in contents.iter_mut().flat_map(|content| &mut content.copies) {
            if (&copy.volume_id, &copy.path) == (&filled.volume_id, &filled.path) {
                add_found(&mut Rc::make_mut(said).facts.values, &filled.values);
            }
        }
        from_contents(&filled.sop_instance_uid, contents, rulings, in_effect)
    }

    /// After one more ruling; several ledgers say the same one.
    pub fn with_ruling(
        self,
        ruling: &Ruling,
        in_effect: &mut InEffect,
    ) -> Result<Unit, IndexError> {
        let (contents, mut rulings) = self.into_contents();
        if let Err(at) = rulings.binary_search(ruling) {
            rulings.insert(at, ruling.clone());
        }
        from_contents(&ruling.sop_instance_uid, contents, rulings, in_effect)
    }

    /// After a correction came in effect, or out of it.
    pub fn decided(self, sop: &str, in_effect: &mut InEffect) -> Result<Unit, IndexError> {
        let (contents, rulings) = self.into_contents();
        from_contents(sop, contents, rulings, in_effect)
    }

    /// The corrections that made a content or rule on one.
    pub fn corrections(&self) -> BTreeSet<u64> {
        fn add(numbers: &mut BTreeSet<u64>, origin: &Origin, told: &[Told]) {
            let told = told.iter().map(|told| told.facts.origin.by);
            let all = std::iter::once(origin.by).chain(told);
            numbers.extend(all.filter(|by| *by != 0));
        }
        let mut numbers = BTreeSet::new();
        if let Some(InstanceEntry { record, .. }) = self.entry.as_deref() {
            add(&mut numbers, &record.origin, &record.told);
            for other in &record.others {
                add(&mut numbers, &other.origin, &other.told);
            }
        }
        if let Some(hidden) = self.hidden.as_deref() {
            for content in &hidden.contents {
                add(&mut numbers, &content.origin, &content.told);
            }
            numbers.extend(hidden.rulings.iter().map(|ruling| ruling.by));
        }
        numbers
    }

    fn copies_mut(&mut self) -> impl Iterator<Item = &mut Copy> {
        let hidden = self.hidden.iter_mut();
        let hidden = hidden.flat_map(|hidden| &mut hidden.contents);
        let hidden = hidden.flat_map(|content| &mut content.copies);
        let counting = self.entry.iter_mut().flat_map(|entry| {
            let record = &mut entry.record;
            let others = record.others.iter_mut().flat_map(|other| &mut other.copies);
            record.copies.iter_mut().chain(others)
        });
        counting.chain(hidden)
    }

    fn into_contents(self) -> (Vec<Content>, Vec<Ruling>) {
        let mut contents = Vec::new();
        if let Some(entry) = self.entry {
            let record = entry.record;
            contents.push(Content::from(Written {
                facts: Facts {
                    sequence: record.sequence,
                    received: record.received,
                    source_ae_title: record.source_ae_title,
                    origin: record.origin,
                    study_instance_uid: entry.study_instance_uid,
                    series_instance_uid: entry.series_instance_uid,
                    sop_class_uid: record.sop_class_uid,
                    values: record.values,
                },
                transfer_syntax: record.transfer_syntax,
                copies: record.copies,
                told: record.told,
            }));
            contents.extend(record.others.into_iter().map(|other| {
                Content::from(Written {
                    facts: Facts {
                        sequence: other.sequence,
                        received: other.received,
                        source_ae_title: other.source_ae_title,
                        origin: other.origin,
                        study_instance_uid: other.study_instance_uid,
                        series_instance_uid: other.series_instance_uid,
                        sop_class_uid: other.sop_class_uid,
                        values: other.values,
                    },
                    transfer_syntax: other.transfer_syntax,
                    copies: other.copies,
                    told: other.told,
                })
            }));
        }
        let hidden = self.hidden.map(|hidden| *hidden).unwrap_or_default();
        contents.extend(hidden.contents.into_iter().map(|content| {
            Content::from(Written {
                facts: Facts {
                    sequence: content.sequence,
                    received: content.received,
                    source_ae_title: content.source_ae_title,
                    origin: content.origin,
                    study_instance_uid: content.study_instance_uid,
                    series_instance_uid: content.series_instance_uid,
                    sop_class_uid: content.sop_class_uid,
                    values: content.values,
                },
                transfer_syntax: content.transfer_syntax,
                copies: content.copies,
                told: content.told,
            })
        }));
        (contents, hidden.rulings)
    }
}

/// Decides which contents count, and which of these is answered: the highest rank, of several the lowest sequence. The
/// kind of each other follows from it.
fn from_contents(
    sop_instance_uid: &str,
    contents: Vec<Content>,
    rulings: Vec<Ruling>,
    in_effect: &mut InEffect,
) -> Result<Unit, IndexError> {
    let mut counting = Vec::with_capacity(contents.len());
    let mut hidden = Vec::new();
    for content in contents {
        let (standing, said) = content.standing(&rulings, in_effect)?;
        // None of a content without copies, which no rule here makes.
        let Some(said) = said else { continue };
        match standing {
            Standing::Counts { rank } => counting.push((rank, said, content)),
            Standing::Hidden(hid) => hidden.push((hid, said, content)),
        }
    }
    let order = |said: &Said, content: &Content| {
        let (size, crc, syntax) = content.identity();
        (said.facts.sequence, size, crc, syntax.to_owned())
    };
    if counting.len() > 1 {
        counting.sort_by_cached_key(|(_, said, content)| order(said, content));
        // Of several with the highest rank the first.
        let answered = (0..counting.len()).min_by_key(|at| (Reverse(counting[*at].0), *at));
        let answered = counting.remove(answered.unwrap_or(0));
        counting.insert(0, answered);
    }
    if hidden.len() > 1 {
        hidden.sort_by_cached_key(|(_, said, content)| order(said, content));
    }
    let mut counting = counting
        .into_iter()
        .map(|(_, said, content)| content.split(&said));
    let entry = counting.next().map(|answered| {
        let others = counting.collect();
        Box::new(entry_of(sop_instance_uid, answered, others))
    });
    let contents = hidden.into_iter().map(|(hid, said, content)| {
        let written = content.split(&said);
        HiddenContent {
            hid,
            study_instance_uid: written.facts.study_instance_uid,
            series_instance_uid: written.facts.series_instance_uid,
            sequence: written.facts.sequence,
            sop_class_uid: written.facts.sop_class_uid,
            transfer_syntax: written.transfer_syntax,
            values: written.facts.values,
            received: written.facts.received,
            source_ae_title: written.facts.source_ae_title,
            origin: written.facts.origin,
            copies: written.copies,
            told: written.told,
        }
    });
    let hidden = Hidden {
        contents: contents.collect(),
        rulings,
    };
    Ok(Unit {
        entry,
        hidden: (hidden != Hidden::default()).then(|| Box::new(hidden)),
    })
}

fn entry_of(sop_instance_uid: &str, answered: Written, others: Vec<Written>) -> InstanceEntry {
    let facts = answered.facts;
    let others = others
        .into_iter()
        .map(|other| Other {
            kind: kind_of(
                (
                    &facts.study_instance_uid,
                    &facts.series_instance_uid,
                    &answered.transfer_syntax,
                    &facts.values,
                ),
                (
                    &other.facts.study_instance_uid,
                    &other.facts.series_instance_uid,
                    &other.transfer_syntax,
                    &other.facts.values,
                ),
            ),
            study_instance_uid: other.facts.study_instance_uid,
            series_instance_uid: other.facts.series_instance_uid,
            sequence: other.facts.sequence,
            sop_class_uid: other.facts.sop_class_uid,
            transfer_syntax: other.transfer_syntax,
            values: other.facts.values,
            received: other.facts.received,
            source_ae_title: other.facts.source_ae_title,
            origin: other.facts.origin,
            copies: other.copies,
            told: other.told,
        })
        .collect();
    InstanceEntry {
        study_instance_uid: facts.study_instance_uid,
        series_instance_uid: facts.series_instance_uid,
        sop_instance_uid: sop_instance_uid.to_owned(),
        record: InstanceRecord {
            sequence: facts.sequence,
            sop_class_uid: facts.sop_class_uid,
            transfer_syntax: answered.transfer_syntax,
            values: facts.values,
            received: facts.received,
            source_ae_title: facts.source_ae_title,
            origin: facts.origin,
            copies: answered.copies,
            others,
            told: answered.told,
        },
    }
}
