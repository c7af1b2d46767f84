//! Attribute matching of PS3.4 C.2.2.2, value against key.
//!
//! Wider than the standard where a person would be surprised otherwise: texts are compared [`fold`](super::key::fold)ed,
//! a name matches if any of its component groups does, reduced precision in dates and times covers what it leaves open,
//! and a list in any key means any of them.

use std::collections::BTreeSet;

use dicom_core::VR;

use super::key;

/// Longest pattern that can match, in characters: values are kept up to 1024 bytes.
const PATTERN_CHARS_MAX: usize = 1_024;

/// A key that is not universal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// Any of the patterns matches any of the values; `bool`: the value is one text, not split at `\`.
    Text(Vec<Pattern>, bool),
    Name(Vec<Pattern>),
    Uid(BTreeSet<String>),
    /// Inclusive ranges of `YYYYMMDD` as numbers.
    Date(Vec<(u32, u32)>),
    /// Inclusive ranges of `HHMMSSFFFFFF` as numbers; one whose end is before its begin goes over midnight.
    Time(Vec<(u64, u64)>),
    Number(Vec<f64>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Char(char),
    One,
    Many,
}

impl Test {
    /// None for universal matching: empty, or nothing but `*`.
    pub fn new(vr: VR, value: &str) -> Option<Test> {
        let whole = matches!(vr, VR::LT | VR::ST | VR::UT | VR::UR);
        let parts: Vec<&str> = if whole {
            vec![value]
        } else {
            value.split('\\').collect()
        };
        let trim = |part: &str| {
            part.trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned()
        };
        let parts: Vec<String> = parts
            .into_iter()
            .map(trim)
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() || parts.iter().any(|part| part.chars().all(|c| c == '*')) {
            return None;
        }
        let patterns = || parts.iter().map(|part| Pattern::new(part)).collect();
        Some(match vr {
            VR::UI => Test::Uid(parts.into_iter().collect()),
            VR::PN => {
                let groups = parts.iter().flat_map(|part| part.split('='));
                let groups = groups.map(components).filter(|group| !group.is_empty());
                let patterns: Vec<Pattern> = groups.map(|group| Pattern::new(&group)).collect();
                if patterns.is_empty() || patterns.iter().any(Pattern::is_universal) {
                    return None;
                }
                Test::Name(patterns)
            }
            VR::DA => Test::Date(
                parts
                    .iter()
                    .filter_map(|part| range(part, date_span, 0, u32::MAX))
                    .collect(),
            ),
            VR::TM => Test::Time(
                parts
                    .iter()
                    .filter_map(|part| range(part, time_span, 0, u64::MAX))
                    .collect(),
            ),
            VR::IS
            | VR::DS
            | VR::US
            | VR::SS
            | VR::UL
            | VR::SL
            | VR::FL
            | VR::FD
            | VR::UV
            | VR::SV => match parts.iter().map(|part| part.parse().ok()).collect() {
                Some(numbers) => Test::Number(numbers),
                None => Test::Text(patterns(), false),
            },
            _ => Test::Text(patterns(), whole),
        })
    }

    /// An absent or empty value matches no key but the universal one.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return false;
        };
        let mut values = value.split('\\');
        match self {
            Test::Text(patterns, true) => {
                let folded = key::fold(value);
                patterns.iter().any(|pattern| pattern.matches(&folded))
            }
            Test::Text(patterns, false) => values.any(|value| {
                let folded = key::fold(value);
                patterns.iter().any(|pattern| pattern.matches(&folded))
            }),
            Test::Name(patterns) => value.split(['\\', '=']).any(|group| {
                let folded = fold_name(group);
                !folded.is_empty() && patterns.iter().any(|pattern| pattern.matches_name(&folded))
            }),
            Test::Uid(uids) => values.any(|value| uids.contains(value.trim_matches([' ', '\0']))),
            Test::Date(ranges) => values.filter_map(date).any(|date| in_ranges(ranges, date)),
            Test::Time(ranges) => values.filter_map(time).any(|time| in_ranges(ranges, time)),
            Test::Number(numbers) => values.any(|value| {
                value
                    .trim()
                    .parse::<f64>()
                    .is_ok_and(|value| numbers.contains(&value))
            }),
        }
    }

    /// Any of several values, such as the modalities of a study.
    pub fn matches_any<'a>(&self, values: impl IntoIterator<Item = &'a String>) -> bool {
        values.into_iter().any(|value| self.matches(Some(value)))
    }

    /// The beginnings that a matching value has one of, and whether each is the whole value; None when a pattern
    /// begins with a wildcard, or for tests that are not of text.
    pub fn beginnings(&self) -> Option<Vec<(String, bool)>> {
        let (patterns, name) = match self {
            Test::Text(patterns, _) => (patterns, false),
            Test::Name(patterns) => (patterns, true),
            _ => return None,
        };
        let beginnings = patterns.iter().map(|pattern| {
            let (mut text, whole) = pattern.beginning();
            if name && !whole {
                // `smith^*` also matches the value `smith`.
                text.truncate(text.trim_end_matches('^').len());
            }
            (!text.is_empty()).then_some((text, whole))
        });
        beginnings.collect()
    }
}

fn in_ranges<T: PartialOrd>(ranges: &[(T, T)], value: T) -> bool {
    ranges.iter().any(|(from, to)| {
        if from <= to {
            *from <= value && value <= *to
        } else {
            *from <= value || value <= *to
        }
    })
}

/// `a`, `a-b`, `a-` or `-b`; each part of reduced precision covers all that it leaves open.
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

/// A stored date as the number `YYYYMMDD`; the first of several.
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
        Some((from, to)) if from == to => Some(from),
        _ => None,
    }
}

/// A stored time as the number `HHMMSSFFFFFF`; the first of several.
pub(super) fn time(text: &str) -> Option<u64> {
    let first = text.split('\\').next().unwrap_or_default();
    time_span(first.trim_matches([' ', '\0'])).map(|(from, _)| from)
}

/// A component group with the padding of its components and empty components at its end taken off.
fn components(group: &str) -> String {
    let trimmed: Vec<&str> = group.split('^').map(str::trim).collect();
    let mut joined = trimmed.join("^");
    joined.truncate(joined.trim_end_matches('^').len());
    joined
}

/// One component group of a name in the form in which names are compared.
pub(super) fn fold_name(group: &str) -> String {
    key::fold(&components(group))
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        let mut tokens = Vec::new();
        let mut literal = String::new();
        let flush = |literal: &mut String, tokens: &mut Vec<Token>| {
            // Folded after the wildcards are found: a full-width '＊' in a name is a letter, not a wildcard.
            tokens.extend(key::fold_untrimmed(literal).chars().map(Token::Char));
            literal.clear();
        };
        for c in text.chars() {
            match c {
                '*' | '?' => {
                    flush(&mut literal, &mut tokens);
                    match c {
                        '?' => tokens.push(Token::One),
                        _ if tokens.last() == Some(&Token::Many) => {}
                        _ => tokens.push(Token::Many),
                    }
                }
                _ => literal.push(c),
            }
        }
        flush(&mut literal, &mut tokens);
        Pattern { tokens }
    }

    fn is_universal(&self) -> bool {
        self.tokens == [Token::Many]
    }

    fn beginning(&self) -> (String, bool) {
        let literal = self.tokens.iter().map_while(|token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        });
        let text: String = literal.collect();
        let whole = text.chars().count() == self.tokens.len();
        (text, whole)
    }

    /// As [`Pattern::matches`]; components missing at the end of the name count as empty ones.
    fn matches_name(&self, folded: &str) -> bool {
        if self.matches(folded) {
            return true;
        }
        let carets = |count: usize| count.min(4);
        let wanted = carets(
            self.tokens
                .iter()
                .filter(|token| **token == Token::Char('^'))
                .count(),
        );
        let has = carets(folded.matches('^').count());
        (1..=wanted.saturating_sub(has))
            .any(|more| self.matches(&format!("{folded}{}", "^".repeat(more))))
    }

    /// Time at most pattern × value, whatever is in them.
    fn matches(&self, folded: &str) -> bool {
        if self.tokens.len() > PATTERN_CHARS_MAX {
            return false;
        }
        let text: Vec<char> = folded.chars().collect();
        let (mut at, mut token) = (0, 0);
        // Where to go on when the text after the last `*` does not fit: one more character for the star.
        let mut retry = None;
        while at < text.len() {
            match self.tokens.get(token) {
                Some(Token::Many) => {
                    retry = Some((at, token + 1));
                    token += 1;
                    continue;
                }
                Some(Token::One) => {}
                Some(Token::Char(c)) if *c == text[at] => {}
                _ => {
                    let Some((star_at, after)) = retry else {
                        return false;
                    };
                    retry = Some((star_at + 1, after));
                    (at, token) = (star_at + 1, after);
                    continue;
                }
            }
            at += 1;
            token += 1;
        }
        self.tokens[token..]
            .iter()
            .all(|token| *token == Token::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(vr: VR, key: &str, value: &str) -> bool {
        Test::new(vr, key).is_none_or(|test| test.matches(Some(value)))
    }

    /// Method: one row per case of PS3.4 C.2.2.2, key, value, expected.
    #[test]
    fn values_match_keys_as_the_standard_and_people_expect() {
        let rows: &[(VR, &str, &str, bool)] = &[
            // Single value
            (VR::LO, "4711", "4711", true),
            (VR::LO, "4711", "04711", false),
            (VR::LO, "4711 ", "4711", true),
            (VR::LO, "abc", "ABC", true),
            (VR::CS, "CT", "CT", true),
            (VR::LO, "x", "", false),
            (VR::LO, "thorax", "ABDOMEN\\THORAX", true),
            (VR::LT, "a\\b", "a\\b", true),
            (VR::LT, "a", "a\\b", false),
            // Universal
            (VR::LO, "", "anything", true),
            (VR::LO, "*", "", true),
            (VR::LO, "***", "", true),
            (VR::UI, "*", "1.2", true),
            (VR::DA, "*", "", true),
            (VR::PN, "*=*", "", true),
            // Wild card
            (VR::LO, "A*", "abc", true),
            (VR::LO, "A*", "bac", false),
            (VR::LO, "*C", "abc", true),
            (VR::LO, "*b*", "abc", true),
            (VR::LO, "a?c", "abc", true),
            (VR::LO, "a?c", "ac", false),
            (VR::LO, "a*c*e", "abcde", true),
            (VR::LO, "a*c*e", "abcd", false),
            (VR::LO, "*aab", "aaaaab", true),
            (VR::LO, "A*", "", false),
            (VR::LO, "\u{FF0A}", "x", false),
            // Names
            (VR::PN, "SMITH*", "Smith^John", true),
            (VR::PN, "smith^john", "SMITH^JOHN^^^", true),
            (VR::PN, "SMITH^JOHN^^", "Smith^John", true),
            (VR::PN, "Smith^*", "Smith", true),
            (VR::PN, "Smith", "Smith^John", false),
            (VR::PN, "Muller*", "M\u{FC}ller^J\u{F6}rg", true),
            (
                VR::PN,
                "山田*",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
                true,
            ),
            (
                VR::PN,
                "YAMADA^TAROU",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
                true,
            ),
            (VR::PN, "Yamada^Tarou=山田^太郎", "Yamada^Tarou", true),
            (VR::PN, "ﾔﾏﾀﾞ*", "ヤマダ^タロウ", true),
            (
                VR::PN,
                "やまだ*",
                "Yamada^Tarou=山田^太郎=やまた^たろう",
                false,
            ),
            (VR::PN, "Smith ^John", "SMITH^ JOHN", true),
            // List of UID
            (VR::UI, "1.2\\1.3", "1.3", true),
            (VR::UI, "1.2\\1.3", "1.30", false),
            (VR::UI, "1.3\0", "1.3", true),
            // Range
            (VR::DA, "20260101-20260131", "20260131", true),
            (VR::DA, "20260101-20260131", "20260201", false),
            (VR::DA, "20260115-20260115", "20260115", true),
            (VR::DA, "-20260101", "20251231", true),
            (VR::DA, "-20260101", "20260102", false),
            (VR::DA, "20260101-", "20260101", true),
            (VR::DA, "20260101-", "20251231", false),
            (VR::DA, "20260101 - 20260131", "20260115", true),
            (VR::DA, "20260115", "2026.01.15", true),
            (VR::DA, "202601", "20260115", true),
            (VR::DA, "202601*", "20260115", true),
            (VR::DA, "20260101-", "", false),
            (VR::DA, "nonsense", "20260101", false),
            (VR::DA, "-", "20260101", false),
            (VR::TM, "10", "105959.999", true),
            (VR::TM, "1030", "103000", true),
            (VR::TM, "103000", "103000.5", true),
            (VR::TM, "000000.000-120000.000", "115959", true),
            (VR::TM, "000000.000-120000.000", "130000", false),
            (VR::TM, "-12", "125959", true),
            (VR::TM, "2300-0100", "003000", true),
            (VR::TM, "2300-0100", "120000", false),
            (VR::TM, "10:30:00", "103000", true),
            // Numbers
            (VR::IS, "7", "007", true),
            (VR::IS, "+7", "7 ", true),
            (VR::DS, "1.50", "1.5", true),
            (VR::IS, "7", "8", false),
            (VR::IS, "1*", "12", true),
            // Several values: any of them
            (VR::CS, "CT\\MR", "MR", true),
            (VR::CS, "CT\\MR", "US", false),
            (VR::CS, "CT\\M*", "MR", true),
        ];
        for (vr, key, value, expected) in rows {
            assert_eq!(
                matches(*vr, key, value),
                *expected,
                "{vr:?} key {key:?} value {value:?}"
            );
        }
    }

    #[test]
    fn beginnings_never_leave_out_a_value_that_matches() {
        for (vr, key, expected) in [
            (VR::LO, "AB*", Some(vec![("ab".to_owned(), false)])),
            (VR::LO, "AB", Some(vec![("ab".to_owned(), true)])),
            (VR::LO, "*AB", None),
            (VR::PN, "Smith^*", Some(vec![("smith".to_owned(), false)])),
            (VR::PN, "^*", None),
            (VR::LO, "a\\?b", None),
        ] {
            assert_eq!(Test::new(vr, key).unwrap().beginnings(), expected, "{key}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_pattern_times_value() {
        let test = Test::new(VR::LO, &"*a".repeat(500)).unwrap();
        assert!(!test.matches(Some(&format!("{}b", "a".repeat(1000)))));
        let test = Test::new(VR::LO, &"*a".repeat(100_000)).unwrap();
        assert!(!test.matches(Some("aaa")));
    }
}
