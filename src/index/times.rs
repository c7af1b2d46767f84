//! Dates, times and moments as numbers, and the ranges of them that keys ask for (PS3.4 C.2.2.2.5). Of reduced precision a
//! key covers all that it leaves open, a value is its first moment.

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// How a key asks for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A single value, or several.
    None,
    /// `a-b`
    Between,
    /// `a-`
    From,
    /// `-b`
    To,
}

/// The form of a DA or TM key.
pub(super) fn form(key: &str) -> Form {
    if key.contains('\\') {
        return Form::None;
    }
    match key
        .split_once('-')
        .map(|(from, to)| (from.trim(), to.trim()))
    {
        None | Some(("", "")) => Form::None,
        Some((_, "")) => Form::From,
        Some(("", _)) => Form::To,
        Some(_) => Form::Between,
    }
}

pub(super) fn dates(part: &str) -> Option<(u32, u32)> {
    range(part, date_span, 0, u32::MAX)
}

pub(super) fn times(part: &str) -> Option<(u64, u64)> {
    range(part, time_span, 0, u64::MAX)
}

/// `a`, `a-b`, `a-` or `-b`.
fn range<T: Copy>(
    text: &str,
    span: fn(&str) -> Option<(T, T)>,
    lowest: T,
    highest: T,
) -> Option<(T, T)> {
    let Some((from, to)) = text.split_once('-') else {
        return span(text);
    };
    let (from, to) = (from.trim(), to.trim());
    if from.is_empty() && to.is_empty() {
        return None;
    }
    let from = if from.is_empty() {
        lowest
    } else {
        span(from)?.0
    };
    let to = if to.is_empty() { highest } else { span(to)?.1 };
    Some((from, to))
}

/// First and last day of `YYYYMMDD`, `YYYYMM` or `YYYY`, also written with dots (ACR-NEMA) or ending in `*`.
fn date_span(text: &str) -> Option<(u32, u32)> {
    let digits: String = text
        .trim_end_matches('*')
        .chars()
        .filter(|c| *c != '.')
        .collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u32 = digits.parse().ok()?;
    match digits.len() {
        8 => Some((number, number)),
        6 => Some((number * 100, number * 100 + 99)),
        4 => Some((number * 10_000, number * 10_000 + 9_999)),
        _ => None,
    }
}

/// First and last moment of `HH`, `HHMM`, `HHMMSS` or `HHMMSS.F…`, also written with colons or ending in `*`.
fn time_span(text: &str) -> Option<(u64, u64)> {
    let digits: String = text
        .trim_end_matches('*')
        .chars()
        .filter(|c| *c != ':')
        .collect();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let plain = whole
        .bytes()
        .chain(fraction.bytes())
        .all(|byte| byte.is_ascii_digit());
    if !plain || !matches!(whole.len(), 2 | 4 | 6) || (whole.len() < 6 && !fraction.is_empty()) {
        return None;
    }
    let known: String = whole.chars().chain(fraction.chars().take(6)).collect();
    Some((
        format!("{known:0<12}").parse().ok()?,
        format!("{known:9<12}").parse().ok()?,
    ))
}

/// A stored date as the number `YYYYMMDD`; the first of several. Zeros are no date.
pub(super) fn date(text: &str) -> Option<u32> {
    let first = text
        .split('\\')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\0']);
    let digits: String = first
        .chars()
        .filter(|c| !matches!(c, '.' | '-' | '/'))
        .collect();
    match date_span(&digits) {
        Some((from, to)) if from == to && from > 0 => Some(from),
        _ => None,
    }
}

/// A stored time as the number `HHMMSSFFFFFF`; the first of several.
pub(super) fn time(text: &str) -> Option<u64> {
    let first = text.split('\\').next().unwrap_or_default();
    time_span(first.trim_matches([' ', '\0'])).map(|(from, _)| from)
}

/// A date and its time asked for as one (PS3.4 C.2.2.2.5, combined date-time matching).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Combined {
    pub date: u32,
    pub time: u32,
    from: (u32, u64),
    to: (u32, u64),
}

impl Combined {
    /// Of the two keys, tag and value. None unless both ask for a range, in the same form; `all_forms`: also for one that
    /// has an end.
    pub fn new(date: (u32, &str), time: (u32, &str), all_forms: bool) -> Option<Combined> {
        let form_of_both = form(date.1);
        let wanted = form_of_both == Form::From || (all_forms && form_of_both != Form::None);
        if !wanted || form(time.1) != form_of_both {
            return None;
        }
        let (from_date, to_date) = dates(date.1)?;
        let (from_time, to_time) = times(time.1)?;
        Some(Combined {
            date: date.0,
            time: time.0,
            from: (from_date, from_time),
            to: (to_date, to_time),
        })
    }

    /// Any of several dates with any of several times. What has no time, or none that can be read, may be of any moment of
    /// its day: rather shown than missed.
    pub fn matches(&self, dates: Option<&str>, times: Option<&str>) -> bool {
        let times: Vec<u64> = each(times).filter_map(time).collect();
        each(dates).filter_map(date).any(|date| {
            let within = |first, last| (date, last) >= self.from && (date, first) <= self.to;
            match times.is_empty() {
                true => within(0, u64::MAX),
                false => times.iter().any(|time| within(*time, *time)),
            }
        })
    }
}

fn each(values: Option<&str>) -> impl Iterator<Item = &str> {
    values.unwrap_or_default().split('\\')
}

/// A moment and how far its clock is ahead of UTC, if it says so.
type Moment = (DateTime, Option<SignedDuration>);

/// From and to, both included; None: open.
pub(super) type Moments = (Option<Moment>, Option<Moment>);

/// A DT key: `a`, `a-b`, `a-` or `-b`.
pub(super) fn moments(text: &str) -> Option<Moments> {
    let (from, to) = match split_moments(text) {
        None => (text, text),
        Some(("", "")) => return None,
        Some(parts) => parts,
    };
    let end = |text: &str, last: bool| {
        let (first, end, ahead) = moment_span(text)?;
        Some((if last { end } else { first }, ahead))
    };
    let from = match from {
        "" => None,
        from => Some(end(from, false)?),
    };
    let to = match to {
        "" => None,
        to => Some(end(to, true)?),
    };
    Some((from, to))
}

/// A `-` is between two moments unless it begins an offset from UTC: four digits after it, at most 1200, and then nothing
/// or another `-`. No year is that low.
fn split_moments(text: &str) -> Option<(&str, &str)> {
    let parts = |at: usize| (text[..at].trim(), text[at + 1..].trim());
    text.match_indices('-')
        .map(|(at, _)| at)
        .find(|at| {
            let (before, after) = parts(*at);
            let digits = after.split('-').next().unwrap_or_default().trim();
            let is_offset = !before.is_empty()
                && !before.contains('+')
                && digits.len() == 4
                && digits.parse::<u16>().is_ok_and(|offset| offset <= 1_200);
            !is_offset
        })
        .map(parts)
}

/// First and last moment of `YYYY[MM[DD[HH[MM[SS[.F…]]]]]][&ZZXX]`.
fn moment_span(text: &str) -> Option<(DateTime, DateTime, Option<SignedDuration>)> {
    let (text, ahead) = match text.rfind(['+', '-']) {
        Some(at) => {
            let (hours, minutes) = text[at + 1..].split_at_checked(2)?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            let sign = if text[at..].starts_with('-') { -1 } else { 1 };
            let ahead = SignedDuration::from_mins(sign * minutes);
            (&text[..at], Some(ahead))
        }
        None => (text, None),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = whole.bytes().chain(fraction.bytes());
    if !plain.into_iter().all(|byte| byte.is_ascii_digit())
        || !matches!(whole.len(), 4 | 6 | 8 | 10 | 12 | 14)
        || (whole.len() < 14 && !fraction.is_empty())
    {
        return None;
    }
    let part = |at: usize, length: usize, default: i16| match whole.get(at..at + length) {
        Some(digits) => digits.parse::<i16>().ok(),
        None => Some(default),
    };
    let fraction: String = fraction.chars().take(6).collect();
    let first = DateTime::new(
        part(0, 4, 0)?,
        part(4, 2, 1)? as i8,
        part(6, 2, 1)? as i8,
        part(8, 2, 0)? as i8,
        part(10, 2, 0)? as i8,
        // A leap second.
        part(12, 2, 0)?.min(59) as i8,
        format!("{fraction:0<9}").parse().ok()?,
    )
    .ok()?;
    let open = match (whole.len(), fraction.len()) {
        (4, _) => jiff::Span::new().years(1),
        (6, _) => jiff::Span::new().months(1),
        (8, _) => jiff::Span::new().days(1),
        (10, _) => jiff::Span::new().hours(1),
        (12, _) => jiff::Span::new().minutes(1),
        (_, digits) => jiff::Span::new().microseconds(10_i64.pow(6 - digits as u32)),
    };
    let last = first
        .checked_add(open)
        .and_then(|next| next.checked_sub(jiff::Span::new().microseconds(1)))
        .unwrap_or(DateTime::MAX);
    Some((first, last, ahead))
}

/// Is a stored DT in one of the ranges?
pub(super) fn moment_is_in(ranges: &[Moments], value: &str) -> bool {
    let Some((value, _, ahead)) = moment_span(value.trim_matches([' ', '\0'])) else {
        return false;
    };
    // Where one of the two does not say its offset both are taken to be of one clock.
    let order = |bound: &Moment| match (ahead, bound.1) {
        (Some(ahead), Some(bound_ahead)) => {
            let utc = |moment: DateTime, ahead| moment.saturating_sub(ahead);
            utc(value, ahead).cmp(&utc(bound.0, bound_ahead))
        }
        _ => value.cmp(&bound.0),
    };
    ranges.iter().any(|(from, to)| {
        from.as_ref().is_none_or(|from| order(from).is_ge())
            && to.as_ref().is_none_or(|to| order(to).is_le())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hyphen_in_a_moment_is_a_range_or_an_offset() {
        assert_eq!(split_moments("20260101-0500"), None);
        assert_eq!(
            split_moments("20260101-0500-20260102-0500"),
            Some(("20260101-0500", "20260102-0500"))
        );
        assert_eq!(split_moments("2025-2026"), Some(("2025", "2026")));
        assert_eq!(split_moments("20260101-"), Some(("20260101", "")));
        assert_eq!(split_moments("-20260101"), Some(("", "20260101")));
        assert_eq!(
            split_moments("20260101+0100-20260102"),
            Some(("20260101+0100", "20260102"))
        );
    }

    #[test]
    fn moments_are_compared_across_clocks() {
        for (key, value, expected) in [
            ("2026", "20261231235959.999999", true),
            ("202602", "20260301", false),
            ("20260101-20260102", "20260102235959", true),
            ("20260101100000+0900", "20260101010000+0000", true),
            ("20260101100000+0900", "20260101100000+0000", false),
            ("20260101100000+0900", "20260101100000", true),
            ("20260101-0500-", "20260101040000+0000", false),
            ("20260101-0500-", "20260101060000+0000", true),
            ("-20260101", "20260102", false),
            ("20261399", "20261201", false),
            ("-", "20260101", false),
        ] {
            let ranges: Vec<Moments> = moments(key).into_iter().collect();
            assert_eq!(moment_is_in(&ranges, value), expected, "{key} {value}");
        }
    }

    #[test]
    fn a_date_and_a_time_in_one_form_are_one_range() {
        let combined = |date, time, all| Combined::new((1, date), (2, time), all);
        let stay = combined("20060705-20060707", "1000-1800", true).unwrap();
        assert!(stay.matches(Some("20060706"), Some("0300")));
        assert!(!stay.matches(Some("20060705"), Some("0959")));
        assert!(!stay.matches(Some("20060707"), Some("1801")));
        assert!(stay.matches(Some("20060707"), None));
        assert!(!stay.matches(None, Some("1200")));
        assert_eq!(combined("20060705-20060707", "1000-1800", false), None);
        assert_eq!(combined("20060705-20060707", "1000-", true), None);
        assert_eq!(combined("20060705", "1000-1800", true), None);
        assert!(combined("20060705-", "1000-", false).is_some());
    }
}
