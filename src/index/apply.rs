//! Takes a batch of ledger statements into the index: records are folded in memory and each is written once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::contents::Unit;
use super::effect::{Effects, number_key};
use super::engine::{Direction, Reader, Store, Table};
use super::key;
use super::merge::{Kept, KeptSeries, KeptStudy, OnVolume, Said, count};
use super::snapshot::{
    decode, each, get, hidden, highest_sequence, instance_entry, is_empty, position_key,
};
use super::spread::{self, Tally};
use super::{
    Bad, Change, Filled, Gone, IndexError, InstanceEntry, Ruling, SEQUENCE_KEY, Stored, damaged,
};
use writes::{delete, put};

mod writes;

/// `without_position`: a volume of which nothing was read, as it is from now on. Returns the series in which copies changed.
pub(super) fn batch(
    store: &dyn Store,
    changes: &[Change],
    positions: &[(String, Vec<u8>)],
    without_position: Option<&str>,
) -> Result<Vec<(String, String)>, IndexError> {
    let reader = store.reader()?;
    let mut batch = Batch {
        reader: &*reader,
        studies: Vec::new(),
        study_places: HashMap::new(),
        series: Vec::new(),
        series_places: HashMap::new(),
        instances: HashMap::with_capacity(changes.len()),
        last: None,
        effects: Effects::new(&*reader)?,
        nothing_hidden: is_empty(&*reader, Table::Hidden)?,
    };
    // Corrections first: the rest of the batch, in whatever order, is then decided by what is in effect after it.
    for change in changes {
        if let Change::Correction(correction) = change {
            batch.effects.take_in(correction)?;
        }
    }
    if let Some(volume_id) = without_position {
        batch.effects.forget(volume_id)?;
    }
    batch.decide_again()?;
    for change in changes {
        match change {
            Change::Stored(stored) => batch.stored(stored)?,
            Change::Gone(gone) => batch.gone(gone)?,
            Change::Bad(bad) => batch.bad(bad)?,
            Change::Ruling(ruling) => batch.ruling(ruling)?,
            Change::Filled(filled) => batch.filled(filled)?,
            Change::Correction(_) => {}
        }
    }
    let touched = batch.touched();
    let mut writes = batch.writes()?;
    for (volume_id, position) in positions {
        put(
            &mut writes,
            Table::Meta,
            position_key(volume_id),
            position.clone(),
        );
    }
    if let Some(volume_id) = without_position {
        delete(&mut writes, Table::Meta, position_key(volume_id));
    }
    let highest = changes.iter().map(Change::sequence).max().unwrap_or(0);
    if highest > highest_sequence(&*reader)? {
        let value = highest.to_le_bytes().to_vec();
        put(&mut writes, Table::Meta, SEQUENCE_KEY.to_vec(), value);
    }
    drop(reader);
    if !writes.is_empty() {
        store.commit(writes)?;
    }
    Ok(touched)
}

struct Batch<'a> {
    reader: &'a dyn Reader,
    studies: Vec<Worked<KeptStudy>>,
    study_places: HashMap<Vec<u8>, usize>,
    series: Vec<Worked<KeptSeries>>,
    series_places: HashMap<Vec<u8>, usize>,
    instances: HashMap<Cow<'a, str>, Instance<'a>>,
    last: Option<Last>,
    effects: Effects<'a>,
    /// The table was empty before the batch.
    nothing_hidden: bool,
}

/// A study or series that the batch touches.
struct Worked<T> {
    uid: String,
    key: Vec<u8>,
    /// For a series: the place of its study.
    study: usize,
    before: Option<T>,
    now: T,
    changed: bool,
}

/// The place of the last statement; the next one is mostly of the same series, with the very same facts.
struct Last {
    study_facts: usize,
    series_facts: usize,
    /// Lowest sequence these facts were merged with.
    sequence: u64,
    by: u64,
    series: usize,
}

enum Instance<'a> {
    /// Its first statement: written as it is.
    First { stored: &'a Stored, series: usize },
    /// Before the batch, and now.
    Known { before: Unit, now: Unit },
}

/// What an answered instance adds to the counts.
struct Counted {
    study: String,
    series: String,
    sop_class: String,
    bytes: u64,
    volumes: BTreeMap<String, OnVolume>,
    spread: BTreeMap<Vec<String>, Tally>,
}

impl Counted {
    fn same_but_volumes(&self, other: &Counted) -> bool {
        (&self.study, &self.series) == (&other.study, &other.series)
            && (&self.sop_class, self.bytes) == (&other.sop_class, other.bytes)
    }

    fn of(entry: &InstanceEntry) -> Counted {
        Counted {
            study: entry.study_instance_uid.clone(),
            series: entry.series_instance_uid.clone(),
            sop_class: entry.record.sop_class_uid.clone(),
            bytes: entry.data_bytes(),
            volumes: entry
                .on_volumes()
                .into_iter()
                .map(|(volume_id, there)| (volume_id.to_owned(), there))
                .collect(),
            spread: spread::of(entry),
        }
    }
}

/// Where the first facts come from when there is no record yet, and whether they count; without it a record must exist.
type First<'a> = Option<(&'a Stored, bool)>;

fn of_study(stored: &Stored) -> Said<'_> {
    Said {
        sequence: stored.instance.sequence,
        by: stored.instance.origin.by,
        folder: &stored.study.date_folder,
        values: &stored.study.values,
    }
}

fn of_series(stored: &Stored) -> Said<'_> {
    Said {
        sequence: stored.instance.sequence,
        by: stored.instance.origin.by,
        folder: &stored.series.folder,
        values: &stored.series.values,
    }
}

impl<'a> Batch<'a> {
    fn stored(&mut self, stored: &'a Stored) -> Result<(), IndexError> {
        let series = self.merge(stored)?;
        let instance = &stored.instance;
        let sop = instance.sop_instance_uid.as_str();
        let (before, held) = self.held(sop)?;
        if before.is_empty() && held.is_empty() && instance.origin.by == 0 {
            self.add(
                series,
                &instance.sop_class_uid,
                instance.copy.data_bytes(),
                1,
            );
            let there = OnVolume {
                instances: 1,
                answered: 1,
                bytes: instance.copy.size_bytes,
            };
            self.add_on_volume(series, &instance.copy.volume_id, there, 1);
            let tally = Tally::of(&instance.copy);
            self.add_spread(
                series,
                std::slice::from_ref(&instance.copy.volume_id),
                tally,
                1,
            );
            self.instances
                .insert(Cow::Borrowed(sop), Instance::First { stored, series });
            return Ok(());
        }
        let old = held.entry.as_deref().map(Counted::of);
        let effects = &mut self.effects;
        let now = held.with(stored, &mut |by| effects.is_in_effect(by))?;
        self.known(Cow::Borrowed(sop), before, old, now)
    }

    fn gone(&mut self, gone: &'a Gone) -> Result<(), IndexError> {
        let sop = gone.sop_instance_uid.as_str();
        let (before, held) = self.held(sop)?;
        let old = held.entry.as_deref().map(Counted::of);
        let effects = &mut self.effects;
        let now = held.without(gone, &mut |by| effects.is_in_effect(by))?;
        self.known(Cow::Borrowed(sop), before, old, now)
    }

    fn bad(&mut self, bad: &'a Bad) -> Result<(), IndexError> {
        let sop = bad.sop_instance_uid.as_str();
        let (before, held) = self.held(sop)?;
        let old = held.entry.as_deref().map(Counted::of);
        self.known(Cow::Borrowed(sop), before, old, held.with_bad(bad))
    }

    fn filled(&mut self, filled: &'a Filled) -> Result<(), IndexError> {
        let sop = filled.sop_instance_uid.as_str();
        let (before, held) = self.held(sop)?;
        if !held.has(&filled.volume_id, &filled.path) {
            self.instances
                .insert(Cow::Borrowed(sop), Instance::Known { before, now: held });
            return Ok(());
        }
        let old = held.entry.as_deref().map(Counted::of);
        let effects = &mut self.effects;
        let now = held.filled(filled, &mut |by| effects.is_in_effect(by))?;
        self.known(Cow::Borrowed(sop), before, old, now)?;
        let place = [&*filled.study_instance_uid, &filled.series_instance_uid];
        let key = key::pack(&place);
        // A line that names another series than the one that the file was stored with means nothing for it.
        if !self.series_places.contains_key(&key)
            && get(self.reader, Table::Series, &key)?.is_none()
        {
            return Ok(());
        }
        let at = self.series_at(place[0], place[1], None)?;
        let Filled { by, sequence, .. } = *filled;
        let worked = &mut self.series[at];
        worked.changed |= worked.now.fill(by, sequence, &filled.series);
        let worked = &mut self.studies[worked.study];
        worked.changed |= worked.now.fill(by, sequence, &filled.study);
        Ok(())
    }

    fn ruling(&mut self, ruling: &'a Ruling) -> Result<(), IndexError> {
        let sop = ruling.sop_instance_uid.as_str();
        let (before, held) = self.held(sop)?;
        let old = held.entry.as_deref().map(Counted::of);
        let effects = &mut self.effects;
        let now = held.with_ruling(ruling, &mut |by| effects.is_in_effect(by))?;
        self.known(Cow::Borrowed(sop), before, old, now)
    }

    /// What corrections made, or said, that came in effect or out of it. Held in memory together: it is one commit.
    fn decide_again(&mut self) -> Result<(), IndexError> {
        let changed = self.effects.changed();
        for (number, in_effect) in changed {
            for (study, series) in self.series_of_correction(number)? {
                let at = self.series_at(&study, &series, None)?;
                let worked = &mut self.series[at];
                worked.changed |= worked.now.decide(number, in_effect);
                let worked = &mut self.studies[worked.study];
                worked.changed |= worked.now.decide(number, in_effect);
            }
            for sop in self.instances_of_correction(number)? {
                let (before, held) = self.held(&sop)?;
                let old = held.entry.as_deref().map(Counted::of);
                let effects = &mut self.effects;
                let now = held.decided(&sop, &mut |by| effects.is_in_effect(by))?;
                self.known(Cow::Owned(sop), before, old, now)?;
            }
        }
        Ok(())
    }

    fn series_of_correction(&self, number: u64) -> Result<Vec<(String, String)>, IndexError> {
        let table = Table::CorrectionSeries;
        let mut found = Vec::new();
        let range = key::prefix_range(number_key(number));
        let visit = &mut |key: &[u8], _: &[u8]| {
            let unpacked = key::unpack(&key[8..]).and_then(|(study, rest)| {
                let (series, _) = key::unpack(rest)?;
                Some((study, series))
            });
            found.push(unpacked.ok_or_else(|| damaged(table))?);
            Ok(ControlFlow::Continue(()))
        };
        each(self.reader, table, range, Direction::Forward, visit)?;
        Ok(found)
    }

    fn instances_of_correction(&self, number: u64) -> Result<Vec<String>, IndexError> {
        let table = Table::CorrectionInstance;
        let mut found = Vec::new();
        let range = key::prefix_range(number_key(number));
        let visit = &mut |key: &[u8], _: &[u8]| {
            let (sop, _) = key::unpack(&key[8..]).ok_or_else(|| damaged(table))?;
            found.push(sop);
            Ok(ControlFlow::Continue(()))
        };
        each(self.reader, table, range, Direction::Forward, visit)?;
        Ok(found)
    }

    /// Takes out what is known of an instance: before the batch, and now.
    fn held(&mut self, sop: &str) -> Result<(Unit, Unit), IndexError> {
        Ok(match self.instances.remove(sop) {
            Some(Instance::First { stored, .. }) => (Unit::default(), Unit::first(stored)),
            Some(Instance::Known { before, now }) => (before, now),
            None => {
                let hidden = match self.nothing_hidden {
                    true => None,
                    false => hidden(self.reader, sop)?,
                };
                let unit = Unit {
                    entry: instance_entry(self.reader, sop)?.map(Box::new),
                    hidden: hidden.map(Box::new),
                };
                (unit.clone(), unit)
            }
        })
    }

    /// Puts in what is known of an instance now; `old`: what it added to the counts until now.
    fn known(
        &mut self,
        sop: Cow<'a, str>,
        before: Unit,
        old: Option<Counted>,
        now: Unit,
    ) -> Result<(), IndexError> {
        let new = now.entry.as_deref().map(Counted::of);
        if let (Some(old), Some(new)) = (&old, &new)
            && old.same_but_volumes(new)
        {
            // A copy came or went: mostly all that happens to an instance that is known.
            if (&old.volumes, &old.spread) != (&new.volumes, &new.spread) {
                let at = self.series_at(&new.study, &new.series, None)?;
                for (counted, difference) in [(old, -1), (new, 1)] {
                    self.add_places(at, counted, difference);
                }
            }
        } else {
            for (counted, difference) in [(old, -1), (new, 1)] {
                let Some(counted) = counted else { continue };
                // Both were merged once, so that their records exist.
                let at = self.series_at(&counted.study, &counted.series, None)?;
                self.add(at, &counted.sop_class, counted.bytes, difference);
                self.add_places(at, &counted, difference);
            }
        }
        self.instances.insert(sop, Instance::Known { before, now });
        Ok(())
    }

    /// Merges the facts of a statement into its study and series; the place of the series.
    fn merge(&mut self, stored: &Stored) -> Result<usize, IndexError> {
        let sequence = stored.instance.sequence;
        let by = stored.instance.origin.by;
        let study_facts = Arc::as_ptr(&stored.study) as usize;
        let series_facts = Arc::as_ptr(&stored.series) as usize;
        if let Some(last) = &self.last
            && (last.study_facts, last.series_facts) == (study_facts, series_facts)
            && last.by == by
            && last.sequence <= sequence
        {
            return Ok(last.series);
        }
        let in_effect = self.effects.is_in_effect(by)?;
        let series = self.series_at(
            &stored.study.study_instance_uid,
            &stored.series.series_instance_uid,
            Some((stored, in_effect)),
        )?;
        let worked = &mut self.series[series];
        worked.changed |= worked.now.take_in(of_series(stored), in_effect);
        let worked = &mut self.studies[worked.study];
        worked.changed |= worked.now.take_in(of_study(stored), in_effect);
        self.last = Some(Last {
            study_facts,
            series_facts,
            sequence,
            by,
            series,
        });
        Ok(series)
    }

    fn study_at(&mut self, uid: &str, first: First) -> Result<usize, IndexError> {
        let key = key::pack(&[uid]);
        if let Some(at) = self.study_places.get(&key) {
            return Ok(*at);
        }
        let before: Option<KeptStudy> = match get(self.reader, Table::Study, &key)? {
            Some(bytes) => Some(decode(Table::Study, &bytes)?),
            None => None,
        };
        let now = match (&before, first) {
            (Some(kept), _) => kept.clone(),
            (None, Some((stored, in_effect))) => KeptStudy::begin(of_study(stored), in_effect),
            (None, None) => return Err(damaged(Table::Study)),
        };
        self.study_places.insert(key.clone(), self.studies.len());
        let changed = before.is_none();
        self.studies.push(Worked {
            uid: uid.to_owned(),
            key,
            study: 0,
            before,
            now,
            changed,
        });
        Ok(self.studies.len() - 1)
    }

    fn series_at(
        &mut self,
        study_uid: &str,
        series_uid: &str,
        first: First,
    ) -> Result<usize, IndexError> {
        let key = key::pack(&[study_uid, series_uid]);
        if let Some(at) = self.series_places.get(&key) {
            return Ok(*at);
        }
        let study = self.study_at(study_uid, first)?;
        let before: Option<KeptSeries> = match get(self.reader, Table::Series, &key)? {
            Some(bytes) => Some(decode(Table::Series, &bytes)?),
            None => None,
        };
        let now = match (&before, first) {
            (Some(kept), _) => kept.clone(),
            (None, Some((stored, in_effect))) => KeptSeries::begin(of_series(stored), in_effect),
            (None, None) => return Err(damaged(Table::Series)),
        };
        self.series_places.insert(key.clone(), self.series.len());
        let changed = before.is_none();
        self.series.push(Worked {
            uid: series_uid.to_owned(),
            key,
            study,
            before,
            now,
            changed,
        });
        Ok(self.series.len() - 1)
    }

    /// Counts one answered instance in or out.
    fn add(&mut self, series: usize, sop_class: &str, bytes: u64, difference: i64) {
        let series = &mut self.series[series];
        let study = &mut self.studies[series.study];
        series.changed = true;
        study.changed = true;
        series.now.instances_count = series.now.instances_count.saturating_add_signed(difference);
        count(&mut series.now.sop_classes, sop_class, difference);
        study.now.instances_count = study.now.instances_count.saturating_add_signed(difference);
        count(&mut study.now.sop_classes, sop_class, difference);
        study.now.bytes = match difference {
            ..0 => study.now.bytes.saturating_sub(bytes),
            _ => study.now.bytes.saturating_add(bytes),
        };
    }

    /// Counts what an instance has on a volume in or out of the study of its series.
    fn add_on_volume(&mut self, series: usize, volume_id: &str, there: OnVolume, difference: i64) {
        let study = &mut self.studies[self.series[series].study];
        study.changed = true;
        let volumes = &mut study.now.volumes;
        if let Some(kept) = volumes.get_mut(volume_id) {
            if difference > 0 {
                kept.add(there);
            } else {
                kept.take(there);
            }
            if kept.instances == 0 {
                volumes.remove(volume_id);
            }
        } else if difference > 0 {
            volumes.insert(volume_id.to_owned(), there);
        }
    }

    /// Counts where the files of an instance are in or out.
    fn add_places(&mut self, series: usize, counted: &Counted, difference: i64) {
        for (volume_id, there) in &counted.volumes {
            self.add_on_volume(series, volume_id, *there, difference);
        }
        for (volume_ids, tally) in &counted.spread {
            self.add_spread(series, volume_ids, *tally, difference);
        }
    }

    /// Counts contents with good copies on just these volumes in or out of a series.
    fn add_spread(&mut self, series: usize, volume_ids: &[String], tally: Tally, difference: i64) {
        let series = &mut self.series[series];
        series.changed = true;
        let spread = &mut series.now.spread;
        if let Some(kept) = spread.get_mut(volume_ids) {
            if difference > 0 {
                kept.add(tally);
            } else {
                kept.take(tally);
            }
            if kept.contents == 0 {
                spread.remove(volume_ids);
            }
        } else if difference > 0 {
            spread.insert(volume_ids.to_vec(), tally);
        }
    }

    /// The series in which a copy came, went or turned out bad; perhaps others. Each once.
    fn touched(&self) -> Vec<(String, String)> {
        let touched = self.series.iter().filter(|series| series.changed);
        touched
            .map(|series| (self.studies[series.study].uid.clone(), series.uid.clone()))
            .collect()
    }
}
