//! Whether a new value may be written at all, before any byte is (PS3.5 Table 6.2-1).

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use super::{AmendError, Value};
use crate::dicom::{is_conforming, tags, vr_of};

/// Longest new value, in bytes of UTF-8, all values of the attribute together.
const TEXT_LENGTH_MAX: usize = 256 * 1024;

/// Longest part of a value that an error repeats, in characters.
const SHOWN_MAX: usize = 80;

/// What becomes of one attribute, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Several values joined by backslashes; empty for an empty element.
    Text(VR, String),
    Absent,
}

/// The name of an attribute in PS3.6 as one word, for messages.
pub(super) fn keyword(tag: Tag) -> &'static str {
    StandardDataDictionary
        .by_tag(tag)
        .map_or("unknown attribute", |entry| entry.alias())
}

pub(super) fn check(tag: Tag, value: &Value) -> Result<Change, AmendError> {
    let vr = text_vr(tag)?;
    let texts: Vec<&str> = match value {
        Value::Text(text) if text.is_empty() => Vec::new(),
        Value::Text(text) => vec![text],
        Value::Several(texts) => texts.iter().map(String::as_str).collect(),
        Value::Empty | Value::Absent => Vec::new(),
    };
    let bad = |value: &str, rule: &str| AmendError::BadValue {
        tag,
        name: keyword(tag),
        value: value.chars().take(SHOWN_MAX).collect(),
        rule: rule.to_owned(),
    };
    let joined = texts.join("\\");
    if joined.len() > TEXT_LENGTH_MAX {
        return Err(bad(&joined, "the value is longer than 256 KiB"));
    }
    if texts.len() > 1 && (is_single(tag) || !is_multiple(vr)) {
        return Err(bad(&joined, "this attribute has one value"));
    }
    if is_type_1(tag) && joined.is_empty() {
        return Err(bad("", "an instance without it cannot be stored"));
    }
    for text in texts {
        check_one(vr, text).map_err(|rule| bad(text, &rule))?;
    }
    Ok(match value {
        Value::Absent => Change::Absent,
        _ => Change::Text(vr, joined),
    })
}

/// The VR of an attribute that can be amended: a text of the dictionary, at top level, before the pixel data.
fn text_vr(tag: Tag) -> Result<VR, AmendError> {
    let vr = vr_of(tag);
    let is_text = matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    );
    let in_place = (0x0008..0x7FE0).contains(&tag.group()) && tag.group().is_multiple_of(2);
    // The character set follows from the texts.
    if is_text && in_place && tag != tags::SPECIFIC_CHARACTER_SET {
        return Ok(vr);
    }
    Err(AmendError::NotAmendable {
        tag,
        name: keyword(tag),
    })
}

/// Without these an instance is nobody's (PS3.4 B.2.3): never empty.
fn is_type_1(tag: Tag) -> bool {
    matches!(
        tag,
        tags::SOP_CLASS_UID
            | tags::SOP_INSTANCE_UID
            | tags::STUDY_INSTANCE_UID
            | tags::SERIES_INSTANCE_UID
    )
}

/// The dictionary at hand has no value multiplicities. Of the attributes that are corrected daily, those of
/// multiplicity 1 (PS3.6).
fn is_single(tag: Tag) -> bool {
    is_type_1(tag)
        || matches!(
            tag,
            tags::PATIENT_ID
                | tags::ISSUER_OF_PATIENT_ID
                | tags::PATIENT_NAME
                | tags::PATIENT_BIRTH_DATE
                | tags::PATIENT_BIRTH_TIME
                | tags::PATIENT_SEX
                | tags::PATIENT_AGE
                | tags::ACCESSION_NUMBER
                | tags::STUDY_ID
                | tags::STUDY_DATE
                | tags::STUDY_TIME
                | tags::STUDY_DESCRIPTION
                | tags::SERIES_DESCRIPTION
                | tags::SERIES_NUMBER
                | tags::INSTANCE_NUMBER
                | tags::MODALITY
                | tags::REFERRING_PHYSICIAN_NAME
                | tags::INSTITUTION_NAME
        )
}

/// Whether a backslash separates values. Source: PS3.5 6.4.
fn is_multiple(vr: VR) -> bool {
    !matches!(vr, VR::ST | VR::LT | VR::UT | VR::UR)
}

fn check_one(vr: VR, text: &str) -> Result<(), String> {
    let (count, limit) = (text.chars().count(), length_max(vr));
    if vr != VR::PN && count > limit {
        return Err(format!("{vr} has at most {limit} characters, not {count}"));
    }
    let lines = matches!(vr, VR::ST | VR::LT | VR::UT);
    let control = |one: char| one.is_control() && !(lines && "\t\n\x0C\r".contains(one));
    if text.chars().any(control) {
        return Err("control characters are not allowed".to_owned());
    }
    if text.contains('\\') && !lines {
        return Err("a backslash separates values and cannot be part of one".to_owned());
    }
    if text.is_empty() {
        return Ok(());
    }
    let ascii = |allowed: fn(u8) -> bool| text.bytes().all(allowed);
    let (ok, rule) = match vr {
        VR::CS => (
            ascii(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ' || b == b'_'),
            "CS is written in capitals, digits, spaces and underscores",
        ),
        VR::AE => (
            ascii(|b| b.is_ascii()) && !text.trim().is_empty(),
            "AE is ASCII and not all spaces",
        ),
        VR::AS => (
            matches!(text.as_bytes(), [a, b, c, b'D' | b'W' | b'M' | b'Y']
                if [a, b, c].iter().all(|digit| digit.is_ascii_digit())),
            "an age is three digits and D, W, M or Y",
        ),
        VR::DA => (is_date(text), "a date is YYYYMMDD, and one of the calendar"),
        VR::TM => (is_time(text), "a time is HH, HHMM, HHMMSS or HHMMSS.FFFFFF"),
        VR::DT => (
            is_date_time(text),
            "a date and time is YYYYMMDDHHMMSS.FFFFFF&ZZXX, cut anywhere after the year",
        ),
        VR::IS => (
            !text.starts_with(' ') && text.parse::<i32>().is_ok(),
            "IS is a whole number of 32 bits",
        ),
        VR::DS => (
            ascii(|b| b.is_ascii_digit() || b"+-eE.".contains(&b)) && text.parse::<f64>().is_ok(),
            "DS is a decimal number",
        ),
        VR::UI => (
            is_conforming(text)
                && text
                    .split('.')
                    .all(|part| part.len() == 1 || !part.starts_with('0')),
            "a UID is 1 to 64 digits and single dots, no component with a leading zero",
        ),
        VR::UR => (
            ascii(|b| b.is_ascii_graphic()),
            "a URI is printable ASCII without spaces",
        ),
        VR::PN => return check_name(text),
        _ => (true, ""),
    };
    ok.then_some(()).ok_or_else(|| rule.to_owned())
}

/// In characters; of a name, one component group. Source: PS3.5 Table 6.2-1.
fn length_max(vr: VR) -> usize {
    match vr {
        VR::AS => 4,
        VR::DA => 8,
        VR::IS => 12,
        VR::TM => 14,
        VR::AE | VR::CS | VR::DS | VR::SH => 16,
        VR::DT => 26,
        VR::LO | VR::PN | VR::UI => 64,
        VR::ST => 1024,
        VR::LT => 10_240,
        _ => TEXT_LENGTH_MAX,
    }
}

/// Source: PS3.5 6.2.1.
fn check_name(text: &str) -> Result<(), String> {
    let groups: Vec<_> = text.split('=').collect();
    if groups.len() > 3 {
        return Err("a name has at most three component groups".to_owned());
    }
    for group in groups {
        let (count, limit) = (group.chars().count(), length_max(VR::PN));
        if count > limit {
            return Err(format!(
                "a component group of a name has at most {limit} characters, not {count}"
            ));
        }
        if group.split('^').count() > 5 {
            return Err("a component group of a name has at most five components".to_owned());
        }
    }
    Ok(())
}

/// So many digits at the start as a number, and the rest.
fn digits(text: &str, count: usize) -> Option<(i16, &str)> {
    let (head, rest) = text.split_at_checked(count)?;
    let all = head.bytes().all(|byte| byte.is_ascii_digit());
    Some((all.then(|| head.parse().ok())??, rest))
}

fn is_date(text: &str) -> bool {
    let parts = || {
        let (year, rest) = digits(text, 4)?;
        let (month, rest) = digits(rest, 2)?;
        let (day, rest) = digits(rest, 2)?;
        let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
        (rest.is_empty() && jiff::civil::Date::new(year, month, day).is_ok()).then_some(())
    };
    parts().is_some()
}

fn is_time(text: &str) -> bool {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let good_fraction = fraction.is_none_or(|fraction| {
        clock.len() == 6
            && (1..=6).contains(&fraction.len())
            && fraction.bytes().all(|byte| byte.is_ascii_digit())
    });
    // 60 for a leap second.
    let limits = [23, 59, 60];
    let mut rest = clock;
    for limit in limits {
        if rest.is_empty() {
            break;
        }
        match digits(rest, 2) {
            Some((number, behind)) if number <= limit => rest = behind,
            _ => return false,
        }
    }
    rest.is_empty() && !clock.is_empty() && good_fraction
}

fn is_date_time(text: &str) -> bool {
    let zone_at = text.find(['+', '-']);
    let (local, zone) = text.split_at(zone_at.unwrap_or(text.len()));
    let good_zone = zone.is_empty()
        || digits(&zone[1..], 2).is_some_and(|(hours, rest)| {
            hours <= 14
                && digits(rest, 2).is_some_and(|(minutes, rest)| minutes <= 59 && rest.is_empty())
        });
    let good_local = match local.len() {
        4 => digits(local, 4).is_some(),
        6 => is_date(&format!("{local}01")),
        8 => is_date(local),
        _ => local
            .split_at_checked(8)
            .is_some_and(|(date, time)| is_date(date) && is_time(time)),
    };
    good_zone && good_local
}
