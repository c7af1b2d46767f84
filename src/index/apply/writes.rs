//! What a batch has come to, as writes of all tables.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::contents::{FirstRecord, Unit};
use super::super::effect::number_key;
use super::super::engine::{Table, Write, seal};
use super::super::merge::{Kept, KeptSeries, KeptStudy, count};
use super::super::query::{ACCESSION_NUMBER, PATIENT_ID, PATIENT_NAME, STUDY_DATE};
use super::super::received::{Days, Received};
use super::super::snapshot::totals;
use super::super::volumes::{self, KeptVolumeStudy};
use super::super::{
    IndexError, InstanceEntry, OtherKind, TOTALS_KEY, Totals, Values, damaged, fuzzy, key, matching,
};
use super::{Batch, Instance, Worked};

impl Batch<'_> {
    pub(super) fn writes(mut self) -> Result<Vec<Write>, IndexError> {
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
                        let study = &stored.study.study_instance_uid;
                        for (table, key) in patient_keys(study, place, &packed, &instance.values) {
                            put(&mut writes, table, key, Vec::new());
                        }
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
    let keys = |entry: Option<&InstanceEntry>, place: &Option<Vec<u8>>| match (entry, place) {
        (Some(entry), Some(place)) => {
            let study = &entry.study_instance_uid;
            patient_keys(study, place, &packed, &entry.record.values)
        }
        _ => BTreeSet::new(),
    };
    let (left, came) = (keys(before, &old_place), keys(now, &new_place));
    for (table, key) in left.difference(&came) {
        delete(writes, *table, key.clone());
    }
    for (table, key) in came.difference(&left) {
        put(writes, *table, key.clone(), Vec::new());
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

/// The keys by which such an instance is found; none of any other.
fn patient_keys(
    study: &str,
    place: &[u8],
    packed: &[u8],
    values: &Values,
) -> BTreeSet<(Table, Vec<u8>)> {
    let mut keys = BTreeSet::new();
    if !names_patient(values) {
        return keys;
    }
    keys.insert((Table::AnotherPatient, [place, packed].concat()));
    for (table, tag) in [
        (Table::PatientId, PATIENT_ID),
        (Table::Name, PATIENT_NAME),
        (Table::NameWord, PATIENT_NAME),
    ] {
        for folded in folded_parts(table, values.get(&tag)) {
            let key = [&*key::value_key(&folded, study), packed].concat();
            keys.insert((table, key));
        }
    }
    keys
}

pub(super) fn delete(writes: &mut Vec<Write>, table: Table, key: Vec<u8>) {
    writes.push(Write {
        table,
        key,
        value: None,
    });
}

pub(super) fn put(writes: &mut Vec<Write>, table: Table, key: Vec<u8>, content: Vec<u8>) {
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
    for (table, tag) in [
        (Table::PatientId, PATIENT_ID),
        (Table::Name, PATIENT_NAME),
        (Table::NameWord, PATIENT_NAME),
        (Table::Accession, ACCESSION_NUMBER),
    ] {
        for folded in folded_parts(table, values.get(&tag)) {
            keys.insert((table, key::value_key(&folded, uid)));
        }
    }
    let mut date = date_key(values);
    key::pack_into(&mut date, uid);
    keys.insert((Table::Date, date));
    keys
}

/// What a table of values has of a value: each of several, of a name each component group, or each word.
fn folded_parts(table: Table, text: Option<&String>) -> impl Iterator<Item = String> {
    let separators: &[char] = match table {
        Table::Name | Table::NameWord => &['\\', '='],
        _ => &['\\'],
    };
    let parts = text.map_or("", String::as_str).split(separators);
    let folded = parts.flat_map(move |part| match table {
        Table::Name => vec![matching::fold_name(part)],
        Table::NameWord => fuzzy::words(part),
        _ => vec![key::fold(part)],
    });
    folded.filter(|folded| !folded.is_empty())
}

/// Study Date as eight digits; zeros when there is none that can be read.
fn date_key(values: &Values) -> Vec<u8> {
    let date = values
        .get(&STUDY_DATE)
        .and_then(|text| matching::date(text));
    format!("{:08}", date.unwrap_or(0)).into_bytes()
}
