//! When the disks will be full: free room over what came lately.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::volume::layout::Role;

use super::Archive;
use super::status::VolumeStatus;

/// What the archive can still take, and how long that lasts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Capacity {
    /// Beyond the reserves, on archive volumes that are written.
    pub room_bytes: u64,
    /// Mean over the last 7 and 30 days (UTC), today among them. `None` while the index is not complete.
    pub bytes_per_day_7: Option<u64>,
    pub bytes_per_day_30: Option<u64>,
    /// Day when there is no room left at the higher of the two rates, `YYYY-MM-DD`; `None` when nothing comes, or when that
    /// is further away than a century.
    pub full_on: Option<String>,
}

impl Archive {
    pub(super) fn capacity(&self, volumes: &[VolumeStatus]) -> Capacity {
        let room_bytes = room(volumes);
        let today = jiff::Timestamp::now()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        let rate = |days: i64| {
            let from = today.checked_sub(jiff::Span::new().days(days - 1)).ok()?;
            let view = self.view().ok()?;
            if view.rebuilding_percent.is_some() {
                return None;
            }
            let day = |date: jiff::civil::Date| date.strftime("%Y%m%d").to_string();
            let sum = view.snapshot.received(&day(from), &day(today)).ok()?;
            Some(sum.bytes / days as u64)
        };
        let (bytes_per_day_7, bytes_per_day_30) = (rate(7), rate(30));
        Capacity {
            room_bytes,
            bytes_per_day_7,
            bytes_per_day_30,
            full_on: full_on(today, room_bytes, bytes_per_day_7.max(bytes_per_day_30)),
        }
    }
}

/// Volumes on one file system share its room.
fn room(volumes: &[VolumeStatus]) -> u64 {
    let mut by_device = BTreeMap::new();
    for volume in volumes {
        let written = volume.role == Role::Archive.to_string() && volume.state == "ok";
        if let (true, Some(free), Some(reserve), Some(device)) = (
            written,
            volume.free_bytes,
            volume.reserve_bytes,
            volume.device,
        ) {
            let room = by_device.entry(device).or_insert(0);
            *room = free.saturating_sub(reserve).max(*room);
        }
    }
    by_device.into_values().sum()
}

fn full_on(today: jiff::civil::Date, room: u64, per_day: Option<u64>) -> Option<String> {
    let days = room.checked_div(per_day?)?;
    let days = i64::try_from(days).ok().filter(|days| *days <= 36_525)?;
    let day = today.checked_add(jiff::Span::new().days(days));
    Some(day.ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_it_is_full_is_room_over_rate() {
        let today = jiff::civil::date(2026, 1, 30);
        let full = |room, rate| full_on(today, room, rate);
        assert_eq!(full(100, Some(50)).as_deref(), Some("2026-02-01"));
        assert_eq!(full(0, Some(50)).as_deref(), Some("2026-01-30"));
        assert_eq!(full(100, Some(0)), None);
        assert_eq!(full(100, None), None);
        assert_eq!(full(u64::MAX, Some(1)), None);
    }
}
