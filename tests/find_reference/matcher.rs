//! Which entities an identifier matches, plainly: every instance is held against every key. Written from the text of PS3.4
//! C.2.2.2 and shares nothing with what it checks.
//!
//! | clause | function |
//! |---|---|
//! | C.2.2.2.1 Single Value Matching | [`text`], [`name`], [`number`], [`span`] of one value |
//! | C.2.2.2.2 List of UID Matching | [`uid`] |
//! | C.2.2.2.3 Universal Matching | [`is_universal`] |
//! | C.2.2.2.4 Wild Card Matching | [`wild`] |
//! | C.2.2.2.5 Range Matching | [`range`], [`combined`] |
//! | C.2.2.2.6 Sequence Matching | [`sequence`] |
//! | C.2.2.3 several values in the entity | [`value_matches`]: any of them |
//!
//! Kura goes beyond the text in what [`Beyond`] lists, each switched by itself, and nothing else. Where it stays behind it
//! says [`narrower`].

use std::collections::BTreeMap;

use dicom_core::VR;
use kura::index::{Key, Options};
use unicode_normalization::UnicodeNormalization;

pub type Values = BTreeMap<u32, String>;

/// Where Kura matches more than the text asks for.
#[derive(Debug, Clone, Copy)]
pub struct Beyond {
    /// Case, width and accents make no difference in texts and names; ß is ss.
    pub folded: bool,
    /// Component groups of names are matched each by itself, any of the key with any of the value; padding of components
    /// and empty components at the end do not count.
    pub component_groups: bool,
    /// A date or time of reduced precision in a key covers all that it leaves open.
    pub reduced: bool,
    /// Several values in a key that is not of UIDs: any of them.
    pub lists: bool,
    /// Numbers are compared as numbers (the text leaves it open since CP-2305).
    pub numbers: bool,
    /// A time range whose end is before its begin goes over midnight.
    pub midnight: bool,
    /// A date and its time, both open upwards, are one range also when that was not negotiated.
    pub since: bool,
    /// Where a date and its time are one range, what has no time may be of any moment of its day.
    pub untimed: bool,
    /// Dates with dots, hyphens or slashes, times with colons, keys of them that end in `*`.
    pub notations: bool,
    /// Wildcards also in keys of numbers.
    pub wild_numbers: bool,
}

impl Beyond {
    pub const NOTHING: Beyond = Beyond {
        folded: false,
        component_groups: false,
        reduced: false,
        lists: false,
        numbers: false,
        midnight: false,
        since: false,
        untimed: false,
        notations: false,
        wild_numbers: false,
    };
    pub const KURA: Beyond = Beyond {
        folded: true,
        component_groups: true,
        reduced: true,
        lists: true,
        numbers: true,
        midnight: true,
        since: true,
        untimed: true,
        notations: true,
        wild_numbers: true,
    };

    /// All but one, each with its name.
    pub fn each_left_out() -> Vec<(&'static str, Beyond)> {
        let kura = Beyond::KURA;
        vec![
            (
                "folded",
                Beyond {
                    folded: false,
                    ..kura
                },
            ),
            (
                "component groups",
                Beyond {
                    component_groups: false,
                    ..kura
                },
            ),
            (
                "reduced precision",
                Beyond {
                    reduced: false,
                    ..kura
                },
            ),
            (
                "lists",
                Beyond {
                    lists: false,
                    ..kura
                },
            ),
            (
                "numbers",
                Beyond {
                    numbers: false,
                    ..kura
                },
            ),
            (
                "over midnight",
                Beyond {
                    midnight: false,
                    ..kura
                },
            ),
            (
                "since",
                Beyond {
                    since: false,
                    ..kura
                },
            ),
            (
                "untimed",
                Beyond {
                    untimed: false,
                    ..kura
                },
            ),
            (
                "notations",
                Beyond {
                    notations: false,
                    ..kura
                },
            ),
            (
                "wild numbers",
                Beyond {
                    wild_numbers: false,
                    ..kura
                },
            ),
        ]
    }
}

/// Where Kura may match less than the text asks for, although the rest says so. A wildcard does not reach over the `=`
/// between two component groups of a name. It stands for characters of the folded text, in which ß is two and a half-width
/// letter with its voicing mark one.
///
/// One thing neither does: what has no value for a required key would match every value of it (C.2.2.1.2), a nameless study
/// whoever is asked for.
pub fn narrower(vr: VR, value: &str) -> bool {
    let letters = |text: &str| text.chars().count();
    (vr == VR::PN && value.contains('='))
        || letters(&folded(value, &Beyond::KURA)) != letters(trim(value))
}

/// C.2.2.2.3.
pub fn is_universal(vr: VR, key: &Key, beyond: &Beyond) -> bool {
    if vr == VR::SQ {
        let sub = |key: &Key| is_universal(vr_of(key), key, beyond);
        return key.items.iter().all(sub);
    }
    let text = trim(&key.value);
    let stars = |text: &str| !text.is_empty() && text.chars().all(|c| c == '*');
    if text.is_empty() || stars(text) {
        return true;
    }
    if !beyond.lists || is_one_text(vr) {
        return false;
    }
    let parts: Vec<&str> = text
        .split('\\')
        .map(trim)
        .filter(|part| !part.is_empty())
        .collect();
    if vr == VR::PN && beyond.component_groups {
        let says = |part: &str| {
            part.split('=')
                .map(group)
                .any(|group| !group.is_empty() && !stars(&group))
        };
        let asks_all = |part: &&str| !says(part) && part.contains('*');
        return parts.iter().any(asks_all) || !parts.iter().any(|part| says(part));
    }
    parts.is_empty() || parts.iter().any(|part| stars(part))
}

/// As the data dictionary says, or the key.
pub fn vr_of(key: &Key) -> VR {
    let tag = dicom_core::Tag((key.tag >> 16) as u16, key.tag as u16);
    match kura::dicom::vr_of(tag) {
        VR::UN => key.vr,
        vr => vr,
    }
}

/// A key that is not universal against what an entity has; nothing, or an empty text, matches none.
pub fn value_matches(key: &Key, value: Option<&str>, options: Options, beyond: &Beyond) -> bool {
    let vr = vr_of(key);
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return false;
    };
    if vr == VR::SQ {
        return sequence(key, value, options, beyond);
    }
    let asked = trim(&key.value);
    if is_one_text(vr) {
        return text(asked, value, beyond);
    }
    if vr == VR::UI {
        return value.split('\\').any(|value| uid(asked, value));
    }
    let asked: Vec<&str> = if beyond.lists {
        asked
            .split('\\')
            .map(trim)
            .filter(|part| !part.is_empty())
            .collect()
    } else {
        vec![asked]
    };
    let as_numbers = beyond.numbers && asked.iter().all(|asked| number(asked).is_some());
    value.split('\\').any(|value| {
        asked.iter().any(|asked| match vr {
            VR::PN => name(asked, value, beyond) || (options.fuzzy_names && fuzzy(asked, value)),
            VR::DA => date(value, beyond).is_some_and(|value| {
                range(asked, beyond, day_span)
                    .is_some_and(|(from, to)| from <= value && value <= to)
            }),
            VR::TM => moment(value, beyond).is_some_and(|value| {
                range(asked, beyond, time_span).is_some_and(|(from, to)| {
                    (from <= value && value <= to)
                        || (beyond.midnight && from > to && (from <= value || value <= to))
                })
            }),
            VR::IS | VR::DS | VR::US if as_numbers => {
                number(value).is_some_and(|value| Some(value) == number(asked))
            }
            VR::IS | VR::DS | VR::US if !beyond.wild_numbers => {
                folded(asked, beyond) == folded(value, beyond)
            }
            _ => text(asked, value, beyond),
        })
    })
}

/// In these a backslash is a letter (PS3.5 6.2).
fn is_one_text(vr: VR) -> bool {
    matches!(vr, VR::LT | VR::ST | VR::UT | VR::UR)
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

fn folded(text: &str, beyond: &Beyond) -> String {
    if !beyond.folded {
        return trim(text).to_owned();
    }
    let mut out = String::new();
    for c in text.nfkd() {
        match c {
            '\u{300}'..='\u{36F}' => {}
            c if c.is_control() => {}
            'ς' => out.push('σ'),
            'ß' | '\u{1E9E}' => out.push_str("ss"),
            c => out.extend(c.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c })),
        }
    }
    let out: String = out.nfkc().collect();
    trim(&out).to_owned()
}

#[derive(Clone, PartialEq)]
enum Piece {
    Letter(char),
    Any,
    All,
}

fn pieces(asked: &str, beyond: &Beyond) -> Vec<Piece> {
    let mut all = Vec::new();
    let mut rest = asked;
    loop {
        let end = rest.find(['*', '?']).unwrap_or(rest.len());
        let literal = &rest[..end];
        let literal: String = match beyond.folded {
            // Spaces at its ends are inside of the key.
            true => {
                let marked = folded(&format!("<{literal}>"), beyond);
                marked[1..marked.len() - 1].to_owned()
            }
            false => literal.to_owned(),
        };
        all.extend(literal.chars().map(Piece::Letter));
        match rest[end..].chars().next() {
            Some('*') => all.push(Piece::All),
            Some(_) => all.push(Piece::Any),
            None => return all,
        }
        rest = &rest[end + 1..];
    }
}

/// C.2.2.2.4, and without wildcards C.2.2.2.1: by a table of which beginnings match.
fn wild(asked: &[Piece], value: &str) -> bool {
    let value: Vec<char> = value.chars().collect();
    let mut row = vec![false; value.len() + 1];
    row[0] = true;
    for piece in asked {
        let mut next = vec![false; value.len() + 1];
        for at in 0..=value.len() {
            next[at] = match piece {
                Piece::All => row[at] || (at > 0 && next[at - 1]),
                Piece::Any => at > 0 && row[at - 1],
                Piece::Letter(letter) => at > 0 && row[at - 1] && value[at - 1] == *letter,
            };
        }
        row = next;
    }
    row[value.len()]
}

fn text(asked: &str, value: &str, beyond: &Beyond) -> bool {
    wild(&pieces(asked, beyond), &folded(value, beyond))
}

/// A component group: its components without padding, empty ones at the end left out.
fn group(text: &str) -> String {
    let components: Vec<&str> = text.split('^').map(str::trim).collect();
    components.join("^").trim_end_matches('^').to_owned()
}

/// C.2.2.2.1 leaves open how names are matched; the text's own way is letter by letter.
fn name(asked: &str, value: &str, beyond: &Beyond) -> bool {
    if !beyond.component_groups {
        // Padding of components is never a part of them (PS3.5 6.2).
        let unpadded = |name: &str| name.split('=').map(group).collect::<Vec<_>>().join("=");
        return text(&unpadded(asked), &unpadded(value), beyond);
    }
    let stars = |text: &str| text.chars().all(|c| c == '*');
    asked
        .split('=')
        .map(group)
        .filter(|asked| !stars(asked))
        .any(|asked| {
            let carets = asked.matches('^').count().min(4);
            let asked = pieces(&asked, beyond);
            value.split('=').map(group).any(|value| {
                let value = folded(&value, beyond);
                let missing = carets.saturating_sub(value.matches('^').count());
                let empty = |count: usize| format!("{value}{}", "^".repeat(count));
                !value.is_empty() && (0..=missing).any(|count| wild(&asked, &empty(count)))
            })
        })
}

/// Fuzzy semantic matching, as Kura's documents say it.
fn fuzzy(asked: &str, value: &str) -> bool {
    let fold = |text: &str| -> String {
        let text = folded(text, &Beyond::KURA);
        let kana = |c: char| match u32::from(c) {
            code @ (0x30A1..=0x30F6 | 0x30FD | 0x30FE) => char::from_u32(code - 0x60).unwrap(),
            _ => c,
        };
        text.chars()
            .map(kana)
            .filter(|c| !"'`‘’".contains(*c))
            .collect()
    };
    let parts = |text: &str| -> Vec<String> {
        let between = |c: char| {
            c.is_whitespace()
                || (c.is_ascii_punctuation() && c != '*' && c != '?')
                || "・·、。".contains(c)
        };
        text.split(between)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut has = Vec::new();
    for group in value.split('=').map(fold) {
        has.extend(parts(&group));
        has.extend(group.split('^').map(|component| parts(component).concat()));
        has.push(parts(&group).concat());
    }
    asked.split('=').any(|asked| {
        let words = parts(&fold(&asked.replace(['＊', '？'], " ")));
        let words: Vec<String> = words
            .into_iter()
            .filter(|word| word.chars().any(|c| c != '*'))
            .collect();
        let begins = |word: &String| {
            let asked = pieces(&format!("{word}*"), &Beyond::KURA);
            has.iter().any(|has| !has.is_empty() && wild(&asked, has))
        };
        !words.is_empty() && words.iter().all(begins)
    })
}

/// C.2.2.2.2.
fn uid(asked: &str, value: &str) -> bool {
    asked
        .split('\\')
        .any(|asked| trim(asked) == trim(value) && !trim(asked).is_empty())
}

fn number(text: &str) -> Option<f64> {
    let text = trim(text);
    let digits = text
        .chars()
        .all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    digits.then(|| text.parse().ok()).flatten()
}

/// First and last of what a value stands for, as a number of so many digits.
fn span(digits: &str, length: usize, beyond: &Beyond, last: char) -> (u64, u64) {
    let filled = |with: char| -> u64 {
        let rest: String = std::iter::repeat_n(with, length - digits.len()).collect();
        format!("{digits}{rest}").parse().unwrap()
    };
    (filled('0'), filled(if beyond.reduced { last } else { '0' }))
}

fn day_span(text: &str, beyond: &Beyond) -> Option<(u64, u64)> {
    let text = match beyond.notations {
        true => text.trim_end_matches('*').replace('.', ""),
        false => text.to_owned(),
    };
    let lengths: &[usize] = if beyond.reduced { &[4, 6, 8] } else { &[8] };
    let digits = text.chars().all(|c| c.is_ascii_digit());
    (digits && lengths.contains(&text.len())).then(|| span(&text, 8, beyond, '9'))
}

fn time_span(text: &str, beyond: &Beyond) -> Option<(u64, u64)> {
    let text = match beyond.notations {
        true => text.trim_end_matches('*').replace(':', ""),
        false => text.to_owned(),
    };
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if whole.len() == 6 => (whole, fraction),
        Some((_, fraction)) if !fraction.is_empty() => return None,
        Some((whole, _)) => (whole, ""),
        None => (&text[..], ""),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if ![2, 4, 6].contains(&whole.len()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: String = fraction.chars().take(6).collect();
    Some(span(&format!("{whole}{fraction}"), 12, beyond, '9'))
}

/// C.2.2.2.5: `a`, `a-b`, `a-` and `-b`, both ends included.
fn range(
    asked: &str,
    beyond: &Beyond,
    span: fn(&str, &Beyond) -> Option<(u64, u64)>,
) -> Option<(u64, u64)> {
    match asked
        .split_once('-')
        .map(|(from, to)| (trim(from), trim(to)))
    {
        None => span(asked, beyond),
        Some(("", "")) => None,
        Some((from, "")) => Some((span(from, beyond)?.0, u64::MAX)),
        Some(("", to)) => Some((0, span(to, beyond)?.1)),
        Some((from, to)) => Some((span(from, beyond)?.0, span(to, beyond)?.1)),
    }
}

/// A stored date.
pub fn date(text: &str, beyond: &Beyond) -> Option<u64> {
    let text = trim(text);
    let text = match beyond.notations {
        true => text.replace(['.', '-', '/'], ""),
        false => text.to_owned(),
    };
    let eight = text.len() == 8 && text.chars().all(|c| c.is_ascii_digit());
    eight
        .then(|| text.parse().unwrap())
        .filter(|date| *date > 0)
}

/// A stored time: of reduced precision its first moment.
pub fn moment(text: &str, beyond: &Beyond) -> Option<u64> {
    time_span(trim(text), beyond).map(|(first, _)| first)
}

/// `a-b` 3, `a-` 2, `-b` 1, no range 0.
fn form(asked: &str) -> u8 {
    match asked
        .split_once('-')
        .map(|(from, to)| (!trim(from).is_empty(), !trim(to).is_empty()))
    {
        _ if asked.contains('\\') => 0,
        None => 0,
        Some((from, to)) => u8::from(from) * 2 + u8::from(to),
    }
}

/// C.2.2.2.5, combined date-time matching: None when the two keys are matched each by itself.
pub fn combined(
    (date_key, time_key): (&Key, &Key),
    values: &Values,
    options: Options,
    beyond: &Beyond,
) -> Option<bool> {
    let (asked_date, asked_time) = (trim(&date_key.value), trim(&time_key.value));
    let both = form(asked_date);
    let together = options.combined_date_time || (beyond.since && both == 2);
    if both == 0 || both != form(asked_time) || !together {
        return None;
    }
    let dates = range(asked_date, beyond, day_span)?;
    let times = range(asked_time, beyond, time_span)?;
    let all = |key: &Key| -> Vec<&str> {
        let text = values.get(&key.tag);
        text.map_or(Vec::new(), |text| text.split('\\').collect())
    };
    let mut days = all(date_key);
    if date_key.tag == super::archive::STUDY_DATE {
        days.truncate(1);
    }
    let days = days.into_iter().filter_map(|text| date(text, beyond));
    let moments = all(time_key).into_iter();
    let moments: Vec<u64> = moments.filter_map(|text| moment(text, beyond)).collect();
    let (from, to) = ((dates.0, times.0), (dates.1, times.1));
    let mut fits = days.map(|day| match moments.is_empty() {
        true => beyond.untimed && (day, u64::MAX) >= from && (day, 0) <= to,
        false => {
            let mut moments = moments.iter().map(|time| (day, *time));
            moments.any(|moment| from <= moment && moment <= to)
        }
    });
    Some(fits.any(|fits| fits))
}

/// C.2.2.2.6: one item of the entity's fulfils all keys of the item asked.
fn sequence(key: &Key, value: &str, options: Options, beyond: &Beyond) -> bool {
    let Ok(items) = serde_json::from_str::<Vec<BTreeMap<String, String>>>(value) else {
        return false;
    };
    items.iter().any(|item| {
        key.items.iter().all(|sub| {
            is_universal(vr_of(sub), sub, beyond)
                || value_matches(
                    sub,
                    item.get(&format!("{:08X}", sub.tag)).map(String::as_str),
                    options,
                    beyond,
                )
        })
    })
}

/// One component group in the form in which names are compared.
pub fn name_group(text: &str) -> String {
    folded(&group(text), &Beyond::KURA)
}
