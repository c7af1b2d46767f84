//! Attribute matching of PS3.4 C.2.2.2, value against key.
//!
//! Wider than the standard where a person would be surprised otherwise: texts are compared [`fold`](super::key::fold)ed,
//! a name matches if any of its component groups does, reduced precision in dates and times covers what it leaves open,
//! numbers are compared as numbers, and a list in any key means any of them. Narrower in one thing: what has no value
//! matches no key but the universal one (PS3.4 C.2.2.1.2 would have it match every one).

use std::collections::BTreeSet;

use dicom_core::VR;

use super::engine::Table;
use super::pattern::Pattern;
use super::query::{Key, Options};
use super::times::{self, Moments};
pub(super) use super::times::{date, time};
use super::{fuzzy, key};
use crate::dicom::{Tag, items, vr_of};

/// Sequences within sequences that a key is followed into; what is deeper is not tested.
const DEPTH_MAX: usize = 4;

/// A key that is not universal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// Any of the patterns matches any of the values; `bool`: the value is one text, not split at `\`.
    Text(Vec<Pattern>, bool),
    Name(Vec<Pattern>),
    /// As a name, or word by word: the words of each component group of the key.
    FuzzyName(Vec<Pattern>, Vec<Vec<Pattern>>),
    Uid(BTreeSet<String>),
    /// Inclusive ranges of `YYYYMMDD` as numbers.
    Date(Vec<(u32, u32)>),
    /// Inclusive ranges of `HHMMSSFFFFFF` as numbers; one whose end is before its begin goes over midnight.
    Time(Vec<(u64, u64)>),
    Moment(Vec<Moments>),
    Number(Vec<f64>),
    /// Some item of the sequence fulfils all.
    Items(Vec<(u32, Test)>),
}

impl Test {
    /// None for universal matching. The VR is that of the standard, that of the key where the standard has none.
    pub fn of(asked: &Key, options: Options) -> Option<Test> {
        Test::at_depth(asked, options, 0)
    }

    fn at_depth(asked: &Key, options: Options, depth: usize) -> Option<Test> {
        let vr = match vr_of(Tag((asked.tag >> 16) as u16, asked.tag as u16)) {
            VR::UN => asked.vr,
            known => known,
        };
        if vr != VR::SQ {
            return Test::new(vr, &asked.value, options.fuzzy_names);
        }
        if depth == DEPTH_MAX {
            return None;
        }
        let tests = asked.items.iter();
        let tests: Vec<(u32, Test)> = tests
            .filter_map(|key| Some((key.tag, Test::at_depth(key, options, depth + 1)?)))
            .collect();
        (!tests.is_empty()).then_some(Test::Items(tests))
    }

    /// None for universal matching: empty, or nothing but `*`.
    pub fn new(vr: VR, value: &str, fuzzy_names: bool) -> Option<Test> {
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
        let each = parts.iter().map(String::as_str);
        Some(match vr {
            VR::UI => Test::Uid(parts.into_iter().collect()),
            VR::PN => return name(&parts, fuzzy_names),
            VR::DA => Test::Date(each.filter_map(times::dates).collect()),
            VR::TM => Test::Time(each.filter_map(times::times).collect()),
            VR::DT => Test::Moment(each.filter_map(times::moments).collect()),
            VR::IS
            | VR::DS
            | VR::US
            | VR::SS
            | VR::UL
            | VR::SL
            | VR::FL
            | VR::FD
            | VR::UV
            | VR::SV => match each.map(number).collect() {
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
            Test::Text(patterns, true) => matches_any(patterns, &key::fold(value)),
            Test::Text(patterns, false) => {
                values.any(|value| matches_any(patterns, &key::fold(value)))
            }
            Test::Name(patterns) => value
                .split(['\\', '='])
                .any(|group| matches_group(patterns, &fold_name(group))),
            Test::FuzzyName(patterns, words) => values.any(|name| {
                name.split('=')
                    .any(|group| matches_group(patterns, &fold_name(group)))
                    || begins_words(words, name)
            }),
            Test::Uid(uids) => values.any(|value| uids.contains(value.trim_matches([' ', '\0']))),
            Test::Date(ranges) => values
                .filter_map(date)
                .any(|date| ranges.iter().any(|(from, to)| *from <= date && date <= *to)),
            Test::Time(ranges) => values
                .filter_map(time)
                .any(|time| ranges.iter().any(|range| is_within(*range, time))),
            Test::Moment(ranges) => values.any(|value| times::moment_is_in(ranges, value)),
            Test::Number(numbers) => {
                values.any(|value| number(value).is_some_and(|value| numbers.contains(&value)))
            }
            Test::Items(tests) => items::from_text(value).iter().any(|item| {
                let text = |tag: &u32| item.get(tag).map(String::as_str);
                tests.iter().all(|(tag, test)| test.matches(text(tag)))
            }),
        }
    }

    /// Any of several values, such as the modalities of a study.
    pub fn matches_any<'a>(&self, values: impl IntoIterator<Item = &'a String>) -> bool {
        values.into_iter().any(|value| self.matches(Some(value)))
    }

    /// By which tables of values a study is found that matches, each with what its entries are tested for: one of them
    /// has an entry of it. `table`: where the values are kept as they are.
    pub fn ways(&self, table: Table) -> Vec<(Table, Test)> {
        let Test::FuzzyName(patterns, words) = self else {
            return vec![(table, self.clone())];
        };
        let mut ways = vec![(table, Test::Name(patterns.clone()))];
        // All words of a group are in a name: the one is looked up that leaves the fewest.
        let telling = |word: &&Pattern| (word.beginning().0.len(), word.letters());
        let words = words
            .iter()
            .filter_map(|words| words.iter().max_by_key(telling));
        let words: Vec<Pattern> = words.cloned().collect();
        if !words.is_empty() {
            ways.push((Table::NameWord, Test::Text(words, true)));
        }
        ways
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
                text = text.trim_end_matches('^');
            }
            (!text.is_empty()).then(|| (text.to_owned(), whole))
        });
        beginnings.collect()
    }

    /// What the key of every value that [`Test::may_match_kept`] has in it.
    pub fn pieces(&self) -> Pieces {
        let all = match self {
            Test::Text(patterns, _) | Test::Name(patterns) => {
                let longest = |pattern: &Pattern| {
                    let piece = pattern.longest_piece();
                    (!piece.is_empty()).then(|| piece.as_bytes().to_vec())
                };
                patterns.iter().map(longest).collect()
            }
            _ => None,
        };
        Pieces(all)
    }

    /// Can what a table of values keeps of a value, or of one component group of a name, be of a match? The record
    /// decides. None: such a test is not of text.
    pub fn may_match_kept(&self, folded: &str) -> Option<bool> {
        Some(match self {
            _ if key::may_be_cut(folded) => true,
            Test::Text(patterns, _) => matches_any(patterns, folded),
            Test::Name(patterns) => matches_group(patterns, folded),
            _ => return None,
        })
    }
}

/// For each pattern a piece of text that every match has in it; None: nothing can be said.
pub(super) struct Pieces(Option<Vec<Vec<u8>>>);

impl Pieces {
    /// Of a key of a table of values: it begins with the value, of which a long one is cut.
    pub fn may_be_in(&self, key: &[u8]) -> bool {
        let Some(pieces) = &self.0 else {
            return true;
        };
        key.len() >= key::CUT_BYTES_MIN || pieces.iter().any(|piece| is_in(piece, key))
    }
}

/// Not empty.
fn is_in(piece: &[u8], mut bytes: &[u8]) -> bool {
    while let Some(at) = bytes.iter().position(|byte| *byte == piece[0]) {
        if bytes[at..].starts_with(piece) {
            return true;
        }
        bytes = &bytes[at + 1..];
    }
    false
}

/// A key of names. A component group of wildcards alone says nothing beside one that says something.
fn name(parts: &[String], fuzzy_names: bool) -> Option<Test> {
    let mut patterns = Vec::new();
    let mut words = Vec::new();
    for part in parts {
        let before = patterns.len();
        let groups = part.split('=');
        for group in groups.filter(|group| !components(group).is_empty()) {
            let pattern = Pattern::new(&components(group));
            if pattern.is_universal() {
                continue;
            }
            patterns.push(pattern);
            let asked = fuzzy::asked(group);
            if !asked.is_empty() {
                words.push(asked);
            }
        }
        if patterns.len() == before && part.contains('*') {
            return None;
        }
    }
    match (patterns.is_empty(), fuzzy_names) {
        (true, _) => None,
        (false, false) => Some(Test::Name(patterns)),
        (false, true) => Some(Test::FuzzyName(patterns, words)),
    }
}

fn matches_any(patterns: &[Pattern], folded: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(folded))
}

fn matches_group(patterns: &[Pattern], folded: &str) -> bool {
    !folded.is_empty() && patterns.iter().any(|pattern| pattern.matches_name(folded))
}

/// Does every word of some component group of the key begin a word of the name, in any group?
fn begins_words(asked: &[Vec<Pattern>], name: &str) -> bool {
    let has: Vec<String> = name.split('=').flat_map(fuzzy::words).collect();
    let begins = |word: &Pattern| has.iter().any(|one| word.matches(one));
    asked.iter().any(|words| words.iter().all(begins))
}

/// A time range whose end is before its begin goes over midnight.
fn is_within((from, to): (u64, u64), time: u64) -> bool {
    if from <= to {
        from <= time && time <= to
    } else {
        from <= time || time <= to
    }
}

/// An IS or DS, or a binary number as it is kept; not what else Rust takes for a number.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().all(plain).then(|| text.parse().ok())?
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Method: values and patterns of few letters, so that many match; what matches must not be passed over.
        #[test]
        fn every_value_that_may_match_has_one_of_the_pieces(
            values in prop::collection::vec("[ab^é山 ]{0,6}", 1..8),
            asked in "[abé山]{0,2}[*?^]{0,2}[ab^]{0,3}[*?]{0,1}",
        ) {
            for vr in [VR::PN, VR::LO] {
                let Some(test) = Test::new(vr, &asked, false) else { continue };
                for value in &values {
                    let folded = match vr {
                        VR::PN => fold_name(value),
                        _ => key::fold(value),
                    };
                    let kept = key::value_key(&folded, "1.2.3");
                    let may_match = test.may_match_kept(&folded) == Some(true);
                    prop_assert!(!may_match || test.pieces().may_be_in(&kept), "{} {}", asked, value);
                }
            }
        }
    }

    #[test]
    fn most_values_are_passed_over_by_a_piece_of_the_pattern() {
        let test = Test::new(VR::PN, "*AMAD*", false).unwrap();
        let may_be_in = |name: &str| test.pieces().may_be_in(&key::value_key(name, "1.2.3"));
        assert!(may_be_in("yamada^tarou") && !may_be_in("suzuki^hanako"));
        // A cut value may go on with it.
        assert!(may_be_in(&"x".repeat(300)));
        let test = Test::new(VR::PN, "smith^^", false).unwrap();
        assert!(test.pieces().may_be_in(b"smith\0"));
    }

    fn matches(vr: VR, key: &str, value: &str) -> bool {
        Test::new(vr, key, false).is_none_or(|test| test.matches(Some(value)))
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
            (VR::PN, "Smith*=*", "Doe^Jane", false),
            (VR::PN, "Smith*=*=*", "Smith^John", true),
            (VR::PN, "*=*=", "Doe^Jane", true),
            (VR::PN, "Gross*", "Gro\u{DF}^Anna", true),
            (VR::PN, "ΟΔΥΣΣΕΥΣ", "Οδυσσεύς", true),
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
            (VR::DA, "20260201-20260101", "20260115", false),
            (VR::DA, "-20260101", "00000000", false),
            (VR::DT, "20260101-20260131", "20260131235959", true),
            (VR::DT, "20260101", "20260102", false),
            (VR::DT, "*", "", true),
            // Numbers
            (VR::IS, "7", "007", true),
            (VR::IS, "+7", "7 ", true),
            (VR::DS, "1.50", "1.5", true),
            (VR::IS, "7", "8", false),
            (VR::IS, "1*", "12", true),
            (VR::IS, "inf", "inf", true),
            (VR::DS, "1e2", "100", true),
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
            assert_eq!(
                Test::new(vr, key, false).unwrap().beginnings(),
                expected,
                "{key}"
            );
        }
    }

    /// Method: names that a person would take for an answer to the words, and some that not.
    #[test]
    fn fuzzy_names_match_word_by_word() {
        for (key, value, expected) in [
            ("john smith", "SMITH^John", true),
            ("Smith^John", "Smith^John", true),
            ("jo sm", "SMITH^John", true),
            ("john smithe", "SMITH^John", false),
            ("mith", "SMITH^John", false),
            ("*mith", "SMITH^John", true),
            ("Smith, Mary", "SMITH^Mary Ann", true),
            ("mary\\jane", "Doe^Jane", true),
            ("ヤマダ", "Yamada^Tarou=山田^太郎=やまだ^たろう", true),
            ("やまだ", "ﾔﾏﾀﾞ^ﾀﾛｳ", true),
            ("ﾔﾏﾀﾞ", "Yamada==ヤマダ^タロウ", true),
            ("やまた", "ヤマダ^タロウ", false),
            ("yamada 太郎", "Yamada^Tarou=山田^太郎", true),
            ("山田太郎", "Yamada^Tarou=山田^太郎", true),
            ("太郎", "Yamada^Tarou=山田^太郎", true),
            ("Yamada^Tarou=山田^花子", "Yamada^Tarou=山田^太郎", true),
            ("Jurgen", "M\u{FC}ller^J\u{FC}rgen", true),
            ("Mueller", "M\u{FC}ller^J\u{FC}rgen", false),
            ("OHara", "O'Hara^Scarlett", true),
            ("S*^J*", "Smith^John", true),
            ("Smith John", "Smith^Jane\\Doe^John", false),
        ] {
            let test = Test::new(VR::PN, key, true).unwrap();
            assert_eq!(test.matches(Some(value)), expected, "{key} {value}");
            if expected {
                let groups = || value.split(['\\', '=']);
                let mut found = test.ways(Table::Name).into_iter().map(|(table, test)| {
                    let mut kept: Vec<String> = match table {
                        Table::Name => groups().map(fold_name).collect(),
                        _ => groups().flat_map(fuzzy::words).collect(),
                    };
                    kept.retain(|kept| !kept.is_empty());
                    kept.iter().any(|kept| {
                        let begins = test.beginnings().is_none_or(|all| {
                            all.iter().any(|(text, _)| kept.starts_with(text.as_str()))
                        });
                        begins && test.may_match_kept(kept).unwrap()
                    })
                });
                assert!(
                    found.any(|may| may),
                    "{key} {value}: not among the candidates"
                );
            }
        }
        assert_eq!(
            Test::new(VR::PN, "*^*=*", true),
            Test::new(VR::PN, "*^*", true)
        );
        assert_eq!(Test::new(VR::PN, "*", true), None);
    }

    #[test]
    fn a_sequence_matches_when_one_item_fulfils_all() {
        let asked = |pairs: &[(u32, VR, &str)]| {
            let mut key = Key::new(0x0040_0275, VR::SQ, "");
            key.items = pairs
                .iter()
                .map(|(tag, vr, value)| Key::new(*tag, *vr, *value))
                .collect();
            Test::of(&key, Options::default())
        };
        let kept = r#"[{"00400009":"S1","00401001":"R1"},{"00400009":"S2","00401001":"R2","00080050":"A7"}]"#;
        let matches = |pairs: &[(u32, VR, &str)]| asked(pairs).unwrap().matches(Some(kept));
        let (step, procedure) = ((0x0040_0009, VR::SH), (0x0040_1001, VR::SH));
        assert!(matches(&[
            (step.0, step.1, "s2"),
            (procedure.0, procedure.1, "R?")
        ]));
        assert!(!matches(&[
            (step.0, step.1, "S1"),
            (procedure.0, procedure.1, "R2")
        ]));
        assert!(matches(&[
            (step.0, step.1, ""),
            (0x0008_0050, VR::SH, "A*")
        ]));
        assert!(!matches(&[(0x0008_0050, VR::SH, "B*")]));
        assert_eq!(asked(&[]), None);
        assert_eq!(
            asked(&[(step.0, step.1, ""), (procedure.0, procedure.1, "*")]),
            None
        );
        let test = asked(&[(step.0, step.1, "S1")]).unwrap();
        assert!(!test.matches(None) && !test.matches(Some("not items")));
    }
}
