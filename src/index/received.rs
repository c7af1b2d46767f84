//! How much came on each day: what tells when the disks will be full.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::IndexError;
use super::engine::{Direction, Reader, Table};
use super::snapshot::{Snapshot, decode, get};

/// What was received on a day (UTC) and is answered now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub instances_count: u64,
    /// Of the files, each instance once.
    pub bytes: u64,
}

/// What a batch changes, by day.
#[derive(Default)]
pub(super) struct Days {
    by_day: HashMap<String, (i64, i64)>,
}

impl Days {
    /// `received`: RFC 3339; a text that is none is not counted.
    pub fn add(&mut self, received: &str, bytes: u64, difference: i64) {
        let day: String = received
            .bytes()
            .take(10)
            .filter(u8::is_ascii_digit)
            .map(char::from)
            .collect();
        if day.len() == 8 {
            let changed = self.by_day.entry(day).or_default();
            changed.0 += difference;
            changed.1 += difference * i64::try_from(bytes).unwrap_or(0);
        }
    }

    /// The days that are not as before, as they are now.
    pub fn changed(self, reader: &dyn Reader) -> Result<Vec<(String, Received)>, IndexError> {
        let mut changed = Vec::new();
        for (day, (instances, bytes)) in self.by_day {
            if (instances, bytes) == (0, 0) {
                continue;
            }
            let mut received: Received = match get(reader, Table::Received, day.as_bytes())? {
                Some(content) => decode(Table::Received, &content)?,
                None => Received::default(),
            };
            received.instances_count = received.instances_count.saturating_add_signed(instances);
            received.bytes = received.bytes.saturating_add_signed(bytes);
            changed.push((day, received));
        }
        Ok(changed)
    }
}

impl Snapshot {
    /// Sum over the days `from` to `to`, both included, as `YYYYMMDD`.
    pub fn received(&self, from: &str, to: &str) -> Result<Received, IndexError> {
        let mut sum = Received::default();
        let mut after = to.as_bytes().to_vec();
        after.push(0);
        self.each(
            Table::Received,
            (from.as_bytes().to_vec(), after),
            Direction::Forward,
            &mut |_, content| {
                let day: Received = decode(Table::Received, content)?;
                sum.instances_count += day.instances_count;
                sum.bytes += day.bytes;
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(sum)
    }
}
