//! Ranges of Study Dates, and how they are halved. Pure.

use jiff::ToSpan;
use jiff::civil::{Date, date};

/// Before and after these no image was made; an end here is left open when it is asked for.
const FIRST: Date = date(1800, 1, 1);
const LAST: Date = date(2199, 12, 31);

/// Both days included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Days {
    pub from: Date,
    pub to: Date,
}

impl Days {
    pub const ALL: Days = Days {
        from: FIRST,
        to: LAST,
    };

    /// From the value of a key (PS3.4 C.2.2.2.5): empty, a day, or a range. None: a list, or anything else.
    pub fn read(value: &str) -> Option<Days> {
        let day = |text: &str| {
            let text = text.trim();
            let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| Date::strptime("%Y%m%d", text).ok())
                .flatten()
        };
        let value = value.trim();
        let (from, to) = match value.split_once('-') {
            None if value.is_empty() => return Some(Days::ALL),
            None => (day(value)?, day(value)?),
            Some((from, to)) => (
                match from.trim() {
                    "" => FIRST,
                    from => day(from)?,
                },
                match to.trim() {
                    "" => LAST,
                    to => day(to)?,
                },
            ),
        };
        (from <= to).then_some(Days { from, to })
    }

    /// The value of a key.
    pub fn value(&self) -> String {
        let text = |day: Date| day.strftime("%Y%m%d").to_string();
        match (self.from <= FIRST, self.to >= LAST) {
            (true, true) => String::new(),
            (true, false) => format!("-{}", text(self.to)),
            (false, true) => format!("{}-", text(self.from)),
            (false, false) => format!("{}-{}", text(self.from), text(self.to)),
        }
    }

    /// The older and the newer half; None: it is one day.
    pub fn halves(&self) -> Option<(Days, Days)> {
        let days = (self.to - self.from).get_days();
        if days < 1 {
            return None;
        }
        let middle = self.from.checked_add((days / 2).days()).ok()?;
        let after = middle.tomorrow().ok()?;
        let older = Days {
            from: self.from,
            to: middle,
        };
        let newer = Days {
            from: after,
            to: self.to,
        };
        Some((older, newer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_says_is_read_and_written() {
        for (value, written) in [
            ("", ""),
            ("-", ""),
            ("20260131", "20260131-20260131"),
            ("20260101-20260131", "20260101-20260131"),
            ("20260101-", "20260101-"),
            ("-20260131", "-20260131"),
        ] {
            assert_eq!(Days::read(value).unwrap().value(), written, "{value}");
        }
        for value in [
            "20260101\\20260102",
            "2026",
            "20261301",
            "20260102-20260101",
            "x-y",
        ] {
            assert_eq!(Days::read(value), None, "{value}");
        }
    }

    #[test]
    fn halves_are_every_day_once_down_to_one_day() {
        let mut ranges = vec![Days::read("20231230-20240302").unwrap()];
        let mut days = Vec::new();
        while let Some(range) = ranges.pop() {
            match range.halves() {
                Some((older, newer)) => ranges.extend([newer, older]),
                None => days.push(range.value()),
            }
        }
        assert_eq!(days.len(), 64);
        assert!(days.is_sorted());
        assert!(Days::ALL.halves().is_some());
    }
}
