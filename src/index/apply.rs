//! Takes a batch of ledger statements into the index: records are folded in memory and each is written once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;

use super::contents::{FirstRecord, Unit};
use super::effect::{Effects, number_key};
use super::engine::{Direction, Reader, Store, Table, Write, seal};
use super::key;
use super::merge::{Kept, KeptSeries, KeptStudy, OnVolume, Said, count};
use super::query::{ACCESSION_NUMBER, PATIENT_ID, PATIENT_NAME, STUDY_DATE};
use super::received::{Days, Received};
use super::snapshot::{
    decode, each, get, hidden, highest_sequence, instance_entry, is_empty, position_key, totals,
};
use super::spread::{self, Tally};
use super::volumes::{self, KeptVolumeStudy};
use super::{
    Bad, Change, Gone, IndexError, InstanceEntry, OtherKind, Ruling, SEQUENCE_KEY, Stored,
    TOTALS_KEY, Totals, Values, damaged,
};

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
        let visit = &mut |key: &[u8], _| {
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
        let visit = &mut |key: &[u8], _| {
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

    fn writes(mut self) -> Result<Vec<Write>, IndexError> {
        let mut writes = Vec::with_capacity(
            self.instances.len() * 2 + self.series.len() * 2 + self.studies.len() * 6,
        );
        let before = totals(self.reader)?;
        let mut totals = before;
        for series in self.series.iter().filter(|series| series.changed) {
            let study = &mut self.studies[series.study];
            let (old, new) = (series.before.as_ref(), &series.now);
            let had = old.is_some_and(|old| old.instances_count > 0);
            let has = new.instances_count > 0;
            let difference = i64::from(has) - i64::from(had);
            study.now.series_count = study.now.series_count.saturating_add_signed(difference);
            totals.series = totals.series.saturating_add_signed(difference);
            let (left, came) = (old.and_then(KeptSeries::modality), new.modality());
            if left != came {
                study.changed = true;
                if let Some(modality) = left {
                    count(&mut study.now.modalities, modality, -1);
                }
                if let Some(modality) = came {
                    count(&mut study.now.modalities, modality, 1);
                }
            }
            if old.is_none() {
                let mut key = key::pack(&[&series.uid]);
                key.extend_from_slice(&study.key);
                put(&mut writes, Table::SeriesUid, key, Vec::new());
            }
            let said: BTreeSet<u64> = old.into_iter().flat_map(Kept::corrections).collect();
            for number in new.corrections().filter(|number| !said.contains(number)) {
                let key = [number_key(number), series.key.clone()].concat();
                put(&mut writes, Table::CorrectionSeries, key, Vec::new());
            }
            if old != Some(new) {
                put_record(&mut writes, Table::Series, series.key.clone(), new)?;
            }
        }
        for study in self.studies.iter().filter(|study| study.changed) {
            let (old, new) = (study.before.as_ref(), &study.now);
            let had = old.is_some_and(|old| old.instances_count > 0);
            totals.studies = totals
                .studies
                .saturating_add_signed(i64::from(new.instances_count > 0) - i64::from(had));
            totals.instances = (totals.instances + new.instances_count)
                .saturating_sub(old.map_or(0, |old| old.instances_count));
            totals.bytes =
                (totals.bytes + new.bytes).saturating_sub(old.map_or(0, |old| old.bytes));
            let same = old.is_some_and(|old| {
                old.merged.values == new.merged.values
                    && (old.instances_count > 0) == (new.instances_count > 0)
            });
            if !same {
                let left = old
                    .map(|old| value_keys(&study.uid, old))
                    .unwrap_or_default();
                let came = value_keys(&study.uid, new);
                for (table, key) in left.difference(&came) {
                    delete(&mut writes, *table, key.clone());
                }
                for (table, key) in came.difference(&left) {
                    put(&mut writes, *table, key.clone(), Vec::new());
                }
            }
            volume_writes(&mut writes, study)?;
            put_record(&mut writes, Table::Study, study.key.clone(), new)?;
        }
        let mut days = Days::default();
        for (sop, instance) in &self.instances {
            match instance {
                Instance::First { stored, series } => {
                    let instance = &stored.instance;
                    days.add(&instance.received, instance.copy.size_bytes, 1);
                    let place = &self.series[*series].key;
                    let packed = key::pack(&[sop]);
                    let key = [place.as_slice(), &packed].concat();
                    put_record(
                        &mut writes,
                        Table::Instance,
                        key,
                        &FirstRecord::of(&stored.instance),
                    )?;
                    if names_patient(&instance.values) {
                        put(&mut writes, Table::Other, packed.clone(), Vec::new());
                    }
                    put(&mut writes, Table::Sop, packed, place.clone());
                }
                Instance::Known { before, now } if before != now => {
                    for (unit, difference) in [(before, -1), (now, 1)] {
                        if let Some(InstanceEntry { record, .. }) = unit.entry.as_deref() {
                            let bytes = record.copies.first().map_or(0, |copy| copy.size_bytes);
                            days.add(&record.received, bytes, difference);
                        }
                    }
                    known_writes(
                        &mut writes,
                        sop,
                        (before.entry.as_deref(), now.entry.as_deref()),
                        &mut totals,
                    )?;
                    hidden_writes(&mut writes, sop, before, now)?;
                }
                Instance::Known { .. } => {}
            }
        }
        for (day, received) in days.changed(self.reader)? {
            match received {
                Received {
                    instances_count: 0, ..
                } => {
                    delete(&mut writes, Table::Received, day.into_bytes());
                }
                _ => put_record(&mut writes, Table::Received, day.into_bytes(), &received)?,
            }
        }
        for (number, kept) in self.effects.written() {
            put_record(&mut writes, Table::Correction, number_key(number), kept)?;
        }
        // An index in which nothing is left is as one in which nothing ever was.
        if totals == Totals::default() && before != totals {
            delete(&mut writes, Table::Meta, TOTALS_KEY.to_vec());
        } else if totals != before {
            put_record(&mut writes, Table::Meta, TOTALS_KEY.to_vec(), &totals)?;
        }
        Ok(writes)
    }
}

/// What the table of volumes says of a study: the same as its record.
fn volume_writes(writes: &mut Vec<Write>, study: &Worked<KeptStudy>) -> Result<(), IndexError> {
    let (old, new) = (study.before.as_ref(), &study.now);
    let folder = &new.merged.folder;
    let same_folder = old.is_some_and(|old| old.merged.folder == *folder);
    for (volume_id, there) in &new.volumes {
        if same_folder && old.is_some_and(|old| old.volumes.get(volume_id) == Some(there)) {
            continue;
        }
        let key = volumes::key_of(volume_id, &study.key);
        let kept = KeptVolumeStudy {
            there: *there,
            date_folder: folder.clone(),
        };
        put_record(writes, Table::VolumeStudy, key, &kept)?;
    }
    let left = old.into_iter().flat_map(|old| old.volumes.keys());
    for volume_id in left.filter(|volume_id| !new.volumes.contains_key(*volume_id)) {
        let key = volumes::key_of(volume_id, &study.key);
        delete(writes, Table::VolumeStudy, key);
    }
    Ok(())
}

/// Writes of an instance with more than one statement, or none.
fn known_writes(
    writes: &mut Vec<Write>,
    sop: &str,
    (before, now): (Option<&InstanceEntry>, Option<&InstanceEntry>),
    totals: &mut Totals,
) -> Result<(), IndexError> {
    let place =
        |entry: &InstanceEntry| key::pack(&[&entry.study_instance_uid, &entry.series_instance_uid]);
    let packed = key::pack(&[sop]);
    let (old_place, new_place) = (before.map(place), now.map(place));
    let others =
        |entry: Option<&InstanceEntry>, kind| entry.map_or(0, |entry| entry.others_count(kind));
    totals.variants = (totals.variants + others(now, OtherKind::Variant))
        .saturating_sub(others(before, OtherKind::Variant));
    totals.conflicts = (totals.conflicts + others(now, OtherKind::Conflict))
        .saturating_sub(others(before, OtherKind::Conflict));
    if old_place != new_place
        && let Some(old_place) = &old_place
    {
        let key = [old_place.as_slice(), &packed].concat();
        delete(writes, Table::Instance, key);
    }
    if let (Some(now), Some(new_place)) = (now, &new_place) {
        let key = [new_place.as_slice(), &packed].concat();
        put_record(writes, Table::Instance, key, &now.record)?;
    }
    let has_others = |entry: Option<&InstanceEntry>| {
        entry.is_some_and(|InstanceEntry { record, .. }| {
            !record.others.is_empty() || names_patient(&record.values)
        })
    };
    match (has_others(before), has_others(now)) {
        (false, true) => put(writes, Table::Other, packed.clone(), Vec::new()),
        (true, false) => delete(writes, Table::Other, packed.clone()),
        _ => {}
    }
    match new_place {
        new_place if new_place == old_place => {}
        Some(new_place) => put(writes, Table::Sop, packed, new_place),
        None => delete(writes, Table::Sop, packed),
    }
    Ok(())
}

/// Writes of what corrections say of an instance.
fn hidden_writes(
    writes: &mut Vec<Write>,
    sop: &str,
    before: &Unit,
    now: &Unit,
) -> Result<(), IndexError> {
    let packed = key::pack(&[sop]);
    let (left, came) = (before.corrections(), now.corrections());
    let key = |number: &u64| [number_key(*number), packed.clone()].concat();
    for number in left.difference(&came) {
        delete(writes, Table::CorrectionInstance, key(number));
    }
    for number in came.difference(&left) {
        put(writes, Table::CorrectionInstance, key(number), Vec::new());
    }
    match &now.hidden {
        hidden if *hidden == before.hidden => {}
        Some(hidden) => put_record(writes, Table::Hidden, packed, hidden)?,
        None => delete(writes, Table::Hidden, packed),
    }
    Ok(())
}

/// An instance says who its patient is only where that is not what its study says.
fn names_patient(values: &Values) -> bool {
    values.contains_key(&PATIENT_ID) || values.contains_key(&PATIENT_NAME)
}

fn delete(writes: &mut Vec<Write>, table: Table, key: Vec<u8>) {
    writes.push(Write {
        table,
        key,
        value: None,
    });
}

fn put(writes: &mut Vec<Write>, table: Table, key: Vec<u8>, content: Vec<u8>) {
    let value = Some(seal(table, &key, content));
    writes.push(Write { table, key, value });
}

fn put_record(
    writes: &mut Vec<Write>,
    table: Table,
    key: Vec<u8>,
    record: &impl Serialize,
) -> Result<(), IndexError> {
    // Room for most records, else each grows in many steps.
    let content =
        postcard::to_extend(record, Vec::with_capacity(512)).map_err(|_| damaged(table))?;
    put(writes, table, key, content);
    Ok(())
}

/// The keys by which a study is found; none while it has no answered instance.
fn value_keys(uid: &str, study: &KeptStudy) -> BTreeSet<(Table, Vec<u8>)> {
    let mut keys = BTreeSet::new();
    if study.instances_count == 0 {
        return keys;
    }
    let values = &study.merged.values;
    for (table, tag, separators) in [
        (Table::PatientId, PATIENT_ID, &['\\'][..]),
        (Table::Name, PATIENT_NAME, &['\\', '=']),
        (Table::Accession, ACCESSION_NUMBER, &['\\']),
    ] {
        for part in values
            .get(&tag)
            .map_or("", String::as_str)
            .split(separators)
        {
            let folded = match table {
                Table::Name => super::matching::fold_name(part),
                _ => key::fold(part),
            };
            if !folded.is_empty() {
                keys.insert((table, key::value_key(&folded, uid)));
            }
        }
    }
    let mut date = date_key(values);
    key::pack_into(&mut date, uid);
    keys.insert((Table::Date, date));
    keys
}

/// Study Date as eight digits; zeros when there is none that can be read.
fn date_key(values: &Values) -> Vec<u8> {
    let date = values
        .get(&STUDY_DATE)
        .and_then(|text| super::matching::date(text));
    format!("{:08}", date.unwrap_or(0)).into_bytes()
}
