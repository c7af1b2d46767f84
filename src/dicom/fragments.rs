//! Where compressed pixel data lie in a data set (PS3.5 A.4), and which of them belong to which frame.

use std::collections::BTreeSet;
use std::ops::Range;

use dicom_core::Tag;

use super::header::{Form, Header};
use super::scan::ScanError;
use super::tags;
use super::walk::{Closed, Kind, Step, Visit, Walk};

/// The compressed pixel data of a data set; ranges of its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragments {
    /// Basic Offset Table: the first item.
    pub offset_table: Range<usize>,
    pub fragments: Vec<Range<usize>>,
    /// Top-level sequences with compressed pixel data in them: icons.
    pub nested: BTreeSet<Tag>,
    /// Where Pixel Data are that are not compressed.
    pub native: Option<Range<usize>>,
}

impl Fragments {
    /// Of a data set that is in memory; `transfer_syntax` is not a deflated one.
    pub fn of(data_set: &[u8], transfer_syntax: &str) -> Result<Fragments, ScanError> {
        let mut walk = Walk::new(Form::of(transfer_syntax));
        let mut looking = Looking::default();
        walk.feed(data_set, &mut looking)?;
        walk.finish(&mut looking)?;
        Ok(looking.found)
    }

    /// What belongs to each of so many frames, in their order: by the offset table where there is one that makes sense,
    /// else by what a frame begins with. `extended`: the value of Extended Offset Table (7FE0,0001).
    pub fn of_frames(
        &self,
        data_set: &[u8],
        frames_count: usize,
        extended: &[u8],
        begins: &dyn Fn(&[u8]) -> bool,
    ) -> Option<Vec<&[Range<usize>]>> {
        let all = self.fragments.as_slice();
        if frames_count == 1 {
            return Some(vec![all]);
        }
        if all.len() == frames_count {
            return Some(all.chunks(1).collect());
        }
        let table = data_set.get(self.offset_table.clone()).unwrap_or_default();
        let short = table.chunks_exact(4).map(|four| {
            let four = [four[0], four[1], four[2], four[3]];
            u64::from(u32::from_le_bytes(four))
        });
        let long = extended.chunks_exact(8).map(|eight| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(eight);
            u64::from_le_bytes(bytes)
        });
        let offsets: Vec<u64> = match table.is_empty() {
            true => long.collect(),
            false => short.collect(),
        };
        // Offsets count from the first item behind the table, to the header of an item.
        let base = all.first()?.start;
        let place = |offset: &u64| {
            let start = base.checked_add(usize::try_from(*offset).ok()?)?;
            // They follow one another; there may be a million of both.
            all.binary_search_by_key(&start, |range| range.start).ok()
        };
        let by_table: Option<Vec<usize>> = offsets.iter().map(place).collect();
        let starts = match by_table {
            Some(starts) if starts.len() == frames_count => starts,
            _ => {
                let begins = |range: &Range<usize>| begins(&data_set[range.clone()]);
                let places = all.iter().enumerate();
                places
                    .filter(|(_, range)| begins(range))
                    .map(|(place, _)| place)
                    .collect()
            }
        };
        let in_order = starts.windows(2).all(|two| two[0] < two[1]);
        if starts.len() != frames_count || starts.first() != Some(&0) || !in_order {
            return None;
        }
        let ends = starts.iter().skip(1).copied().chain([all.len()]);
        Some(
            starts
                .iter()
                .zip(ends)
                .map(|(&from, to)| &all[from..to])
                .collect(),
        )
    }
}

#[derive(Default)]
struct Looking {
    found: Fragments,
    /// Bytes that were met.
    offset: usize,
    /// The top-level sequence that is open.
    sequence: Option<Tag>,
    /// The data set's own fragments come.
    own: bool,
    has_table: bool,
}

impl Visit for Looking {
    type Error = ScanError;

    fn header(
        &mut self,
        header: &Header,
        raw: &[u8],
        step: Step,
        at_root: bool,
    ) -> Result<(), ScanError> {
        self.offset += raw.len();
        match step {
            Step::Open(Kind::Fragments) => {
                self.own = at_root && header.tag == tags::PIXEL_DATA;
                if !at_root {
                    self.found.nested.extend(self.sequence);
                }
            }
            Step::Open(Kind::Sequence) if at_root => self.sequence = Some(header.tag),
            Step::Open(_) => {}
            Step::Value if self.own => {
                let range = self.offset..self.offset + header.length as usize;
                match self.has_table {
                    false => self.found.offset_table = range,
                    true => self.found.fragments.push(range),
                }
                self.has_table = true;
            }
            Step::Value if at_root && header.tag == tags::PIXEL_DATA => {
                self.found.native = Some(self.offset..self.offset + header.length as usize);
            }
            Step::Value | Step::Delimiter => {}
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        self.offset += bytes.len();
        Ok(())
    }

    fn closed(&mut self, kind: Kind, _: Closed) -> Result<(), ScanError> {
        if kind == Kind::Fragments {
            self.own = false;
        }
        Ok(())
    }

    fn padding(&mut self, zeros: &[u8]) -> Result<(), ScanError> {
        self.offset += zeros.len();
        Ok(())
    }
}
