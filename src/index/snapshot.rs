//! Reading the index: single records, lists, counts.

use std::ops::ControlFlow;

use serde::de::DeserializeOwned;

use super::engine::{Direction, Reader, Table, unseal};
use super::glance::{self, Passes};
use super::merge::{KeptSeries, KeptStudy};
use super::mixed::AnyMixed;
use super::{
    Hidden, IndexError, InstanceEntry, InstanceRecord, SEQUENCE_KEY, SeriesRecord, StudyRecord,
    TOTALS_KEY, Totals, damaged, key,
};

/// First and largest number of entries taken from the engine at once.
const CHUNK_MIN: usize = 16;
const CHUNK_MAX: usize = 512;

/// The index as it was at one moment. Cheap to make; to be dropped soon, since the engine keeps old pages for it.
pub struct Snapshot {
    pub(super) reader: Box<dyn Reader>,
    pub(super) any_mixed: AnyMixed,
}

pub(super) fn get(
    reader: &dyn Reader,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, IndexError> {
    match reader.get(table, key)? {
        Some(sealed) => Ok(Some(unseal(table, key, sealed)?)),
        None => Ok(None),
    }
}

pub(super) fn decode<T: DeserializeOwned>(table: Table, content: &[u8]) -> Result<T, IndexError> {
    postcard::from_bytes(content).map_err(|_| damaged(table))
}

pub(super) fn position_key(volume_id: &str) -> Vec<u8> {
    [b"position/", volume_id.as_bytes()].concat()
}

pub(super) fn totals(reader: &dyn Reader) -> Result<Totals, IndexError> {
    match get(reader, Table::Meta, TOTALS_KEY)? {
        Some(content) => decode(Table::Meta, &content),
        None => Ok(Totals::default()),
    }
}

/// 0 where none was noted.
pub(super) fn highest_sequence(reader: &dyn Reader) -> Result<u64, IndexError> {
    match get(reader, Table::Meta, SEQUENCE_KEY)? {
        Some(content) => content
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| damaged(Table::Meta)),
        None => Ok(0),
    }
}

pub(super) fn is_empty(reader: &dyn Reader, table: Table) -> Result<bool, IndexError> {
    let first = reader.range(table, &[], &[], Direction::Forward, 1)?;
    Ok(first.is_empty())
}

/// What corrections say under a SOP Instance UID.
pub(super) fn hidden(reader: &dyn Reader, sop: &str) -> Result<Option<Hidden>, IndexError> {
    match get(reader, Table::Hidden, &key::pack(&[sop]))? {
        Some(content) => decode(Table::Hidden, &content).map(Some),
        None => Ok(None),
    }
}

/// The entry of a SOP Instance UID, through the sop table.
pub(super) fn instance_entry(
    reader: &dyn Reader,
    sop: &str,
) -> Result<Option<InstanceEntry>, IndexError> {
    let packed = key::pack(&[sop]);
    let Some(place) = get(reader, Table::Sop, &packed)? else {
        return Ok(None);
    };
    let full = [place.as_slice(), &packed].concat();
    // Both are written in one commit: one without the other is damage.
    let content = get(reader, Table::Instance, &full)?.ok_or_else(|| damaged(Table::Instance))?;
    entry_of(&full, &content).map(Some)
}

/// The entry of an instance record, its UIDs taken from the key.
fn entry_of(full: &[u8], content: &[u8]) -> Result<InstanceEntry, IndexError> {
    let split = || {
        let (study_instance_uid, rest) = key::unpack(full)?;
        let (series_instance_uid, rest) = key::unpack(rest)?;
        let (sop_instance_uid, rest) = key::unpack(rest)?;
        rest.is_empty()
            .then_some((study_instance_uid, series_instance_uid, sop_instance_uid))
    };
    let (study_instance_uid, series_instance_uid, sop_instance_uid) =
        split().ok_or_else(|| damaged(Table::Instance))?;
    let record: InstanceRecord = decode(Table::Instance, content)?;
    Ok(InstanceEntry {
        study_instance_uid,
        series_instance_uid,
        sop_instance_uid,
        record,
    })
}

/// What a visitor of entries says: go on or stop, or what is wrong.
pub(super) type Visited = Result<ControlFlow<()>, IndexError>;

/// All entries of `[from, to)` (empty `to`: to the end), checked, until the visitor stops.
pub(super) fn each(
    reader: &dyn Reader,
    table: Table,
    (mut from, mut to): (Vec<u8>, Vec<u8>),
    direction: Direction,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Visited,
) -> Result<(), IndexError> {
    let mut chunk = CHUNK_MIN;
    loop {
        let entries = reader.range(table, &from, &to, direction, chunk)?;
        let last = entries.len() < chunk;
        if let Some((key, _)) = entries.len().checked_sub(1).and_then(|at| entries.get(at)) {
            match direction {
                Direction::Forward => {
                    from.clear();
                    from.extend_from_slice(key);
                    from.push(0);
                }
                Direction::Backward => key.clone_into(&mut to),
            }
        }
        let mut at = 0;
        while let Some((key, content)) = entries.unsealed(at)? {
            if visit(key, content)?.is_break() {
                return Ok(());
            }
            at += 1;
        }
        // An empty `to` would mean "to the end" and begin again.
        if last || (direction == Direction::Backward && to.is_empty()) {
            return Ok(());
        }
        chunk = (chunk * 2).min(CHUNK_MAX);
    }
}

impl Snapshot {
    /// Highest sequence number of all that was ever applied, also of what is gone by now.
    pub fn highest_sequence(&self) -> Result<u64, IndexError> {
        highest_sequence(&*self.reader)
    }

    /// What that reader shows, whatever it reads from.
    pub fn new(reader: Box<dyn Reader>) -> Snapshot {
        Snapshot {
            reader,
            any_mixed: AnyMixed::new(),
        }
    }

    /// As the function of that name.
    pub(super) fn each(
        &self,
        table: Table,
        range: (Vec<u8>, Vec<u8>),
        direction: Direction,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visited,
    ) -> Result<(), IndexError> {
        each(&*self.reader, table, range, direction, visit)
    }

    /// How far the ledger of a volume was read, as given to `apply`.
    pub fn position(&self, volume_id: &str) -> Result<Option<Vec<u8>>, IndexError> {
        get(&*self.reader, Table::Meta, &position_key(volume_id))
    }

    pub fn by_sop(&self, sop_instance_uid: &str) -> Result<Option<InstanceEntry>, IndexError> {
        instance_entry(&*self.reader, sop_instance_uid)
    }

    /// Also a study that has no answered instance (`instances_count` 0); not one that only corrections speak of that are
    /// not in effect.
    pub fn study(&self, study_instance_uid: &str) -> Result<Option<StudyRecord>, IndexError> {
        let kept = self.kept_study(study_instance_uid)?;
        Ok(kept.and_then(|kept| kept.into_record(study_instance_uid)))
    }

    /// As [`Snapshot::study`], if its values pass; of the others nothing more is decoded.
    pub(super) fn study_if(
        &self,
        study_instance_uid: &str,
        passes: Option<Passes>,
    ) -> Result<Option<StudyRecord>, IndexError> {
        let key = key::pack(&[study_instance_uid]);
        let Some(content) = get(&*self.reader, Table::Study, &key)? else {
            return Ok(None);
        };
        if let Some(passes) = passes
            && !passes(&glance::of_study(&content)?)
        {
            return Ok(None);
        }
        let kept: KeptStudy = decode(Table::Study, &content)?;
        Ok(kept.into_record(study_instance_uid))
    }

    /// The UIDs of up to `most` studies behind that one, of all that were ever heard of, in the order of the table.
    pub fn studies_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<String>, IndexError> {
        let from = after.map_or_else(Vec::new, |uid| key::prefix_range(key::pack(&[uid])).1);
        let mut found = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            let (uid, _) = key::unpack(key).ok_or_else(|| damaged(Table::Study))?;
            found.push(uid);
            Ok(match found.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        };
        self.each(Table::Study, (from, Vec::new()), Direction::Forward, visit)?;
        Ok(found)
    }

    pub(super) fn kept_study(&self, study: &str) -> Result<Option<KeptStudy>, IndexError> {
        match get(&*self.reader, Table::Study, &key::pack(&[study]))? {
            Some(content) => decode(Table::Study, &content).map(Some),
            None => Ok(None),
        }
    }

    /// As [`Snapshot::study`]: also one that has no answered instance.
    pub fn series(
        &self,
        study_instance_uid: &str,
        series_instance_uid: &str,
    ) -> Result<Option<SeriesRecord>, IndexError> {
        let kept = self.kept_series(study_instance_uid, series_instance_uid)?;
        Ok(kept.and_then(|kept| kept.into_record(study_instance_uid, series_instance_uid)))
    }

    pub(super) fn kept_series(
        &self,
        study: &str,
        series: &str,
    ) -> Result<Option<KeptSeries>, IndexError> {
        match get(&*self.reader, Table::Series, &key::pack(&[study, series]))? {
            Some(content) => decode(Table::Series, &content).map(Some),
            None => Ok(None),
        }
    }

    /// A series by its UID alone. Where several studies claim it: one with answered instances, the first stored.
    pub fn series_by_uid(
        &self,
        series_instance_uid: &str,
    ) -> Result<Option<SeriesRecord>, IndexError> {
        let mut all = self.all_series_by_uid(series_instance_uid)?;
        all.sort_by_key(|series| (series.instances_count == 0, series.sequence));
        Ok(all.into_iter().next())
    }

    /// The series of that UID in every study that claims it.
    pub(super) fn all_series_by_uid(
        &self,
        series_instance_uid: &str,
    ) -> Result<Vec<SeriesRecord>, IndexError> {
        let prefix = key::pack(&[series_instance_uid]);
        let length = prefix.len();
        let mut studies = Vec::new();
        self.each(
            Table::SeriesUid,
            key::prefix_range(prefix),
            Direction::Forward,
            &mut |key, _| {
                let (study, _) =
                    key::unpack(&key[length..]).ok_or_else(|| damaged(Table::SeriesUid))?;
                studies.push(study);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let mut all = Vec::new();
        for study in studies {
            let kept = self.kept_series(&study, series_instance_uid)?;
            let kept = kept.ok_or_else(|| damaged(Table::Series))?;
            all.extend(kept.into_record(&study, series_instance_uid));
        }
        Ok(all)
    }

    /// Every series of a study, in the order of their UIDs; as many as the study says, as in [`Snapshot::instances`].
    pub fn series_of(
        &self,
        study_instance_uid: &str,
        f: &mut dyn FnMut(SeriesRecord) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.series_within(study_instance_uid, None, None, f)
    }

    /// As [`Snapshot::series_of`], of those whose values pass; where the study's record was read already, `expected` is what
    /// it says.
    pub(super) fn series_within(
        &self,
        study_instance_uid: &str,
        expected: Option<u64>,
        passes: Option<Passes>,
        f: &mut dyn FnMut(SeriesRecord) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let prefix = key::pack(&[study_instance_uid]);
        let length = prefix.len();
        let (mut count, mut whole) = (0, true);
        self.each(
            Table::Series,
            key::prefix_range(prefix),
            Direction::Forward,
            &mut |key, content| {
                if let Some(passes) = passes {
                    let Some((values, instances_count)) = glance::of_series(content)? else {
                        return Ok(ControlFlow::Continue(()));
                    };
                    if !passes(&values) {
                        count += u64::from(instances_count > 0);
                        return Ok(ControlFlow::Continue(()));
                    }
                }
                let (series, _) =
                    key::unpack(&key[length..]).ok_or_else(|| damaged(Table::Series))?;
                let kept: KeptSeries = decode(Table::Series, content)?;
                let Some(record) = kept.into_record(study_instance_uid, &series) else {
                    return Ok(ControlFlow::Continue(()));
                };
                count += u64::from(record.instances_count > 0);
                let flow = f(record);
                whole = flow.is_continue();
                Ok(flow)
            },
        )?;
        let expected = match expected {
            _ if !whole => count,
            Some(expected) => expected,
            None => self
                .study(study_instance_uid)?
                .map_or(0, |record| record.series_count),
        };
        if count != expected {
            return Err(damaged(Table::Series));
        }
        Ok(())
    }

    /// The answered instances of a study, or of one of its series, in the order of their UIDs.
    ///
    /// Walked to the end it is an error if there are not as many as the record above says: a checksum tells a damaged
    /// record, but a damaged page of the engine may just be without some.
    pub fn instances(
        &self,
        study_instance_uid: &str,
        series_instance_uid: Option<&str>,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.instances_within(study_instance_uid, series_instance_uid, None, None, f)
    }

    /// As [`Snapshot::instances`], of those whose values pass; where the record above was read already, `expected` is what
    /// it says.
    pub(super) fn instances_within(
        &self,
        study_instance_uid: &str,
        series_instance_uid: Option<&str>,
        expected: Option<u64>,
        passes: Option<Passes>,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let mut prefix = key::pack(&[study_instance_uid]);
        if let Some(series) = series_instance_uid {
            key::pack_into(&mut prefix, series);
        }
        let (mut count, mut whole) = (0, true);
        self.each(
            Table::Instance,
            key::prefix_range(prefix),
            Direction::Forward,
            &mut |key, content| {
                count += 1;
                if let Some(passes) = passes
                    && !passes(&glance::of_instance(content)?)
                {
                    return Ok(ControlFlow::Continue(()));
                }
                let flow = f(entry_of(key, content)?);
                whole = flow.is_continue();
                Ok(flow)
            },
        )?;
        let expected = match (expected, series_instance_uid) {
            _ if !whole => count,
            (Some(expected), _) => expected,
            (None, Some(series)) => self
                .series(study_instance_uid, series)?
                .map_or(0, |record| record.instances_count),
            (None, None) => self
                .study(study_instance_uid)?
                .map_or(0, |record| record.instances_count),
        };
        if count != expected {
            return Err(damaged(Table::Instance));
        }
        Ok(())
    }

    /// Every answered instance of the archive, study by study.
    pub fn all_instances(
        &self,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.each(
            Table::Instance,
            (Vec::new(), Vec::new()),
            Direction::Forward,
            &mut |key, content| Ok(f(entry_of(key, content)?)),
        )
    }

    /// Instances under whose UID other contents are kept, variants and conflicts; and those whose own values say a
    /// patient (Patient ID or Patient's Name at instance level), which is not that of their study.
    pub fn with_others(
        &self,
        f: &mut dyn FnMut(InstanceEntry) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.each(
            Table::Other,
            (Vec::new(), Vec::new()),
            Direction::Forward,
            &mut |key, _| {
                let (sop, _) = key::unpack(key).ok_or_else(|| damaged(Table::Other))?;
                let entry = self.by_sop(&sop)?.ok_or_else(|| damaged(Table::Sop))?;
                Ok(f(entry))
            },
        )
    }

    pub fn totals(&self) -> Result<Totals, IndexError> {
        totals(&*self.reader)
    }
}
