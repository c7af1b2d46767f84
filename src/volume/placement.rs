//! Which volume gets the next instance: free-space numbers in, a choice out.

use std::fmt;
use std::str::FromStr;

/// Space a volume keeps free, so that its ledger can always grow and the file
/// system does not slow down at its last blocks.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reserve {
    Bytes(u64),
    /// Of the file system's total size; 0 up to, not including, 100.
    Percent(f64),
}

/// Why a text is not a reserve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "reserve {text:?} is not a size such as \"10 GB\" or \"8 MiB\", nor a share such as \"2 %\""
)]
pub struct ReserveError {
    pub text: String,
}

impl Reserve {
    /// The reserve of a file system of this size, in bytes.
    pub fn bytes(&self, total_bytes: u64) -> u64 {
        match *self {
            Reserve::Bytes(bytes) => bytes,
            // Rounds up: a reserve is never less than what was asked for.
            Reserve::Percent(share) => (total_bytes as f64 * share / 100.0).ceil() as u64,
        }
    }
}

impl FromStr for Reserve {
    type Err = ReserveError;

    fn from_str(text: &str) -> Result<Reserve, ReserveError> {
        let error = || ReserveError {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let unit_at = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| error())?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "%" if number < 100.0 => return Ok(Reserve::Percent(number)),
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(error()),
        };
        let bytes = (number * factor as f64).ceil();
        if !bytes.is_finite() || bytes > 1e18 {
            return Err(error());
        }
        Ok(Reserve::Bytes(bytes as u64))
    }
}

impl TryFrom<String> for Reserve {
    type Error = ReserveError;

    fn try_from(text: String) -> Result<Reserve, ReserveError> {
        text.parse()
    }
}

impl From<Reserve> for String {
    fn from(reserve: Reserve) -> String {
        reserve.to_string()
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reserve::Bytes(bytes) => write!(f, "{bytes} B"),
            Reserve::Percent(share) => write!(f, "{share} %"),
        }
    }
}

/// In which order volumes are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The first with room, in the order of the configuration: a full disk can
    /// be put on a shelf.
    #[default]
    InOrder,
    /// The one with the most room beyond its reserve.
    MostFree,
}

/// A volume as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The caller's number for it; returned when it is chosen.
    pub index: usize,
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// False for a volume that failed, is read-only or is not there.
    pub writable: bool,
    pub reserve: &'a Reserve,
}

impl Candidate<'_> {
    /// Bytes that may still be written; `None` when that is less than `need_bytes`.
    fn room(&self, need_bytes: u64) -> Option<u64> {
        if !self.writable {
            return None;
        }
        let reserve = self.reserve.bytes(self.total_bytes);
        let room = self.free_bytes.checked_sub(reserve)?;
        (room >= need_bytes && room > 0).then_some(room)
    }
}

/// The volume for something of `need_bytes` (0 when not known yet), or `None`
/// when no volume has room beyond its reserve.
///
/// `prefer` is the volume that has the rest of the series: it is taken while it
/// has room, whatever the order.
pub fn choose(
    candidates: &[Candidate],
    order: Order,
    need_bytes: u64,
    prefer: Option<usize>,
) -> Option<usize> {
    let mut best: Option<(usize, u64)> = None;
    for candidate in candidates {
        let Some(room) = candidate.room(need_bytes) else {
            continue;
        };
        if prefer == Some(candidate.index) {
            return Some(candidate.index);
        }
        // Strictly more: of equals the first in the configuration wins.
        let better = match (order, best) {
            (_, None) => true,
            (Order::InOrder, Some(_)) => false,
            (Order::MostFree, Some((_, most))) => room > most,
        };
        if better {
            best = Some((candidate.index, room));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Reserve = Reserve::Bytes(0);

    fn candidate(index: usize, free_bytes: u64, reserve: &Reserve) -> Candidate<'_> {
        Candidate {
            index,
            free_bytes,
            total_bytes: 1_000,
            writable: true,
            reserve,
        }
    }

    #[test]
    fn a_reserve_reads_sizes_and_shares_and_nothing_else() {
        let table = [
            ("8 MiB", Reserve::Bytes(8 << 20)),
            ("10 GB", Reserve::Bytes(10_000_000_000)),
            ("1.5 tb", Reserve::Bytes(1_500_000_000_000)),
            ("0", Reserve::Bytes(0)),
            ("2 %", Reserve::Percent(2.0)),
            ("0.5%", Reserve::Percent(0.5)),
        ];
        for (text, reserve) in table {
            assert_eq!(text.parse(), Ok(reserve), "{text}");
            assert_eq!(reserve.to_string().parse(), Ok(reserve), "{text}");
        }
        for bad in [
            "",
            "GB",
            "-1 GB",
            "100 %",
            "1e3",
            "NaN",
            "inf",
            "5 XB",
            "1 000 MB",
            "1.2.3 GB",
            "99999999 TB",
        ] {
            assert!(bad.parse::<Reserve>().is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_are_filled_in_order() {
        let all = [candidate(0, 10, &NONE), candidate(1, 900, &NONE)];
        assert_eq!(choose(&all, Order::InOrder, 10, None), Some(0));
        assert_eq!(choose(&all, Order::InOrder, 11, None), Some(1));
        assert_eq!(choose(&all, Order::InOrder, 901, None), None);
    }

    #[test]
    fn most_free_counts_the_room_beyond_the_reserve() {
        let half = Reserve::Percent(50.0);
        let all = [
            candidate(0, 300, &NONE),
            candidate(1, 700, &half),
            candidate(2, 300, &NONE),
        ];
        assert_eq!(choose(&all, Order::MostFree, 0, None), Some(0));
    }

    #[test]
    fn a_preferred_volume_wins_only_while_it_has_room() {
        let all = [candidate(0, 100, &NONE), candidate(1, 50, &NONE)];
        assert_eq!(choose(&all, Order::InOrder, 50, Some(1)), Some(1));
        assert_eq!(choose(&all, Order::InOrder, 51, Some(1)), Some(0));
    }

    #[test]
    fn a_volume_that_cannot_be_written_or_is_at_its_reserve_is_never_chosen() {
        let reserve = Reserve::Bytes(100);
        let mut failed = candidate(0, 900, &NONE);
        failed.writable = false;
        let all = [
            failed,
            candidate(1, 100, &reserve),
            candidate(2, 99, &reserve),
        ];
        assert_eq!(choose(&all, Order::InOrder, 0, Some(0)), None);
        assert_eq!(choose(&[], Order::MostFree, 0, None), None);
    }
}
