//! The values in a record without the rest of it, and without a copy: a walk over many records tests them first, and decodes
//! the whole of those alone that match.

use serde::Deserialize;

use super::engine::Table;
use super::merge::UNHEARD;
use super::spread::Tally;
use super::{IndexError, Values, damaged};

/// Where a test of values takes them from.
pub(super) trait Texts {
    fn text(&self, tag: u32) -> Option<&str>;
}

impl Texts for Values {
    fn text(&self, tag: u32) -> Option<&str> {
        self.get(&tag).map(String::as_str)
    }
}

/// Whether a record is wanted, by its values.
pub(super) type Passes<'a> = &'a dyn Fn(&dyn Texts) -> bool;

/// [`Values`] as they are written: by tag.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Glance<'a> {
    #[serde(borrow)]
    values: Vec<(u32, &'a str)>,
}

impl Texts for Glance<'_> {
    fn text(&self, tag: u32) -> Option<&str> {
        let at = self.values.binary_search_by_key(&tag, |(tag, _)| *tag);
        at.ok().map(|at| self.values[at].1)
    }
}

/// As [`Merged`](super::merge::Merged) begins.
#[derive(Deserialize)]
struct MergedBeginning<'a> {
    sequence: u64,
    _folder: &'a str,
    #[serde(borrow)]
    values: Glance<'a>,
}

/// As [`KeptSeries`](super::merge::KeptSeries) begins.
#[derive(Deserialize)]
struct SeriesBeginning<'a> {
    #[serde(borrow)]
    _spread: Vec<(Vec<&'a str>, Tally)>,
    merged: MergedBeginning<'a>,
    _later: Vec<(u32, u64)>,
    instances_count: u64,
}

/// As [`InstanceRecord`](super::InstanceRecord) begins.
#[derive(Deserialize)]
struct InstanceBeginning<'a> {
    _sequence: u64,
    _sop_class_uid: &'a str,
    _transfer_syntax: &'a str,
    #[serde(borrow)]
    values: Glance<'a>,
}

fn beginning<'a, T: Deserialize<'a>>(table: Table, content: &'a [u8]) -> Result<T, IndexError> {
    let taken = postcard::take_from_bytes(content);
    taken.map(|(begins, _)| begins).map_err(|_| damaged(table))
}

pub(super) fn of_study(content: &[u8]) -> Result<Glance<'_>, IndexError> {
    let merged: MergedBeginning = beginning(Table::Study, content)?;
    Ok(merged.values)
}

/// With the number of answered instances; None where only corrections speak of it that are not in effect.
pub(super) fn of_series(content: &[u8]) -> Result<Option<(Glance<'_>, u64)>, IndexError> {
    let series: SeriesBeginning = beginning(Table::Series, content)?;
    let is_heard = series.merged.sequence != UNHEARD;
    Ok(is_heard.then_some((series.merged.values, series.instances_count)))
}

pub(super) fn of_instance(content: &[u8]) -> Result<Glance<'_>, IndexError> {
    let instance: InstanceBeginning = beginning(Table::Instance, content)?;
    Ok(instance.values)
}
