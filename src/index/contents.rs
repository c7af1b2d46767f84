//! Everything that is kept under one SOP Instance UID, and which of it counts: [`super::merge`] says by which rules.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;

use super::merge::OnVolume;
use super::record::{Facts, Told, kind_of};
use super::{
    Bad, ContentId, Copy, Gone, Hid, Hidden, HiddenContent, IndexError, InstanceEntry,
    InstanceFacts, InstanceRecord, Origin, Other, OtherKind, Ruling, Stored, Values, Verdict,
};

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
        if other.facts < self.facts {
            self.facts.clone_from(&other.facts);
        }
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
        for (copy, said) in self.copies {
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
            facts: lowest.facts.clone(),
            transfer_syntax: self.transfer_syntax,
            copies,
            told: told.collect(),
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

/// All that is known of one SOP Instance UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
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
            numbers.insert(origin.by);
            numbers.extend(told.iter().map(|told| told.facts.origin.by));
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
        numbers.remove(&0);
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
