//! Names on a volume; the twin of `storage-layout.md`. No I/O.
//!
//! # The path of an instance
//!
//! ```text
//! <study date>/<modality>/<patient>-<study>/<series>/<SOP Instance UID>.dcm
//! 20260115/CT/4711-1.2.3/1.2.3.4/1.2.3.4.5.dcm
//! ```
//!
//! A path is made once, when the study or series is first seen, and written in
//! the ledger, which is authoritative. Nothing recomputes it.
//!
//! Each part comes from a value of the data set ("raw") by these steps:
//!
//! 1. Unicode normalization form C. Letters of any script stay readable.
//! 2. Escapes `%XX`, one for each byte of the character's UTF-8, in upper case:
//!    for `/ \ : * ? " < > |`, for control and invisible characters, for `%`
//!    and `~` (our own marks), for a space or dot at either end, and for a
//!    combining mark with no letter before it.
//! 3. A name Windows keeps for devices (`CON`, `NUL`, `COM1`, …, also with an
//!    extension) has its first character escaped.
//! 4. A part longer than its limit is cut and ends in `~` and eight characters
//!    `a`–`z`, `2`–`7`: base32 of the first 40 bits of FNV-1a-64 over the raw
//!    bytes. UID parts keep their end (the start is the vendor's root), others
//!    keep their beginning. An escape is never cut in the middle.
//! 5. A UID with anything but digits and dots also gets that ending: such UIDs
//!    can differ in upper and lower case only, and NTFS and exFAT would take
//!    them for one.
//!
//! As `%` and `~` of a raw value are always escaped, no raw value looks like an
//! escaped or shortened one. Limits in bytes: modality 16, patient 40, study 30,
//! series 30, SOP Instance UID 64, the whole path 200.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The label of a volume, in its root.
pub const LABEL_FILE: &str = "kura-volume.json";
/// The label while it is being written; without meaning after a crash.
pub const LABEL_TEMPORARY_FILE: &str = "kura-volume.json.new";
/// Locked by the process that uses the volume; its text names that process.
pub const LOCK_FILE: &str = "kura.lock";
/// Instances that are being received or not yet finished.
pub const INCOMING_FOLDER: &str = "incoming";
/// Ends the name of an instance in [`INCOMING_FOLDER`].
pub const RECEIVED_ENDING: &str = ".part";
/// Ends the name there of an instance that a correction makes: its ledger line is written before it gets its place in the
/// tree, so nothing of it is to be carried to an end.
pub const MADE_ENDING: &str = ".made";
/// One folder for each volume whose ledger is here: its own, and copies.
pub const LEDGERS_FOLDER: &str = "ledgers";
/// What could not be stored as an instance, kept for a person to look at.
pub const QUARANTINE_FOLDER: &str = "quarantine";
/// The intake journal, if it is on the volume itself.
pub const INTAKE_FOLDER: &str = "intake";
/// Files that were not what the ledger says, at the paths they had.
pub const SUSPECT_FOLDER: &str = "suspect";
/// Files of contents that a correction replaced, at the paths they had.
pub const SUPERSEDED_FOLDER: &str = "superseded";
/// Files of contents that were removed, at the paths they had.
pub const TRASH_FOLDER: &str = "trash";
/// Beside files that a correction moved, and where they were: who did that, why, and how it is taken back.
pub const NOTE_FILE: &str = "READ-ME-KURA.txt";
/// The same while it is being written.
pub const NOTE_TEMPORARY_FILE: &str = "READ-ME-KURA.txt.new";
/// In the folder of a volume's own ledger: how far its files were read again.
pub const CHECKED_FILE: &str = "checked.json";

/// In the home of an adopted volume beside the state: what its medium is recognised by.
pub const WITNESS_FILE: &str = "medium.json";
/// In the state folder: homes of adopted volumes, a folder each.
pub const ADOPTED_FOLDER: &str = "adopted";

/// Version of the label and of everything else in this module.
pub const FORMAT: u32 = 1;

/// Names that operating systems put in the root of an empty disk.
pub const IGNORED_NAMES: [&str; 6] = [
    "lost+found",
    ".DS_Store",
    "System Volume Information",
    ".Trashes",
    ".fseventsd",
    ".Spotlight-V100",
];

/// Longest relative path of an instance, in bytes.
pub const PATH_BYTES_MAX: usize = 200;
const MODALITY_BYTES_MAX: usize = 16;
const PATIENT_BYTES_MAX: usize = 40;
const STUDY_BYTES_MAX: usize = 30;
const SERIES_BYTES_MAX: usize = 30;
const SOP_BYTES_MAX: usize = 64;

/// Who a volume is: the content of [`LABEL_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Label {
    /// Version of the layout, [`FORMAT`].
    pub format: u32,
    /// The same on all volumes of one archive.
    pub archive_id: String,
    /// Never used again for another volume.
    pub volume_id: String,
    /// The operator's word for it, such as `A`.
    pub name: String,
    pub role: Role,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// The images in it were there before: no instance is ever written to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopted: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What a volume is for.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Receives instances.
    Archive,
    /// Holds second copies.
    Mirror,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Archive => "archive",
            Role::Mirror => "mirror",
        })
    }
}

/// Whether a name in the root of a volume is not of the image tree.
pub fn is_own(name: &str) -> bool {
    OWN_NAMES.contains(&name)
}

/// Whether a file is a note to people, which may lie in any folder.
pub fn is_note(name: &str) -> bool {
    [NOTE_FILE, NOTE_TEMPORARY_FILE].contains(&name)
}

/// Whether a folder of ours holds images of which corrections speak, each at the path it had.
pub fn holds_images(name: &str) -> bool {
    [SUPERSEDED_FOLDER, TRASH_FOLDER].contains(&name)
}

/// The path that a file in `superseded/` or `trash/` had, and has again when it is taken back; else the path.
pub fn path_in_tree(relative: &str) -> &str {
    match relative.split_once('/') {
        Some((top, path)) if holds_images(top) => path,
        _ => relative,
    }
}

/// Names in the root of a volume that are not of the image tree.
pub const OWN_NAMES: [&str; 10] = [
    LABEL_FILE,
    LABEL_TEMPORARY_FILE,
    LOCK_FILE,
    LEDGERS_FOLDER,
    INCOMING_FOLDER,
    INTAKE_FOLDER,
    QUARANTINE_FOLDER,
    SUSPECT_FOLDER,
    SUPERSEDED_FOLDER,
    TRASH_FOLDER,
];

/// The same for an adopted volume, which may have other folders of these names.
pub const ADOPTED_NAMES: [&str; 4] = [LABEL_FILE, LABEL_TEMPORARY_FILE, LOCK_FILE, LEDGERS_FOLDER];

/// Name of a ledger segment; segments count from 1.
pub fn segment_file(segment: u32) -> String {
    format!("{segment:08}.jsonl")
}

/// The number in the name of a ledger segment; `None` for any other name.
pub fn segment_of_file(name: &str) -> Option<u32> {
    let segment: u32 = name.strip_suffix(".jsonl")?.parse().ok()?;
    (segment > 0 && segment_file(segment) == name).then_some(segment)
}

/// A segment while it is put together again; without meaning after a crash.
pub fn segment_in_repair(segment: u32) -> String {
    format!("{segment:08}.healing")
}

/// The name that a damaged segment keeps when another takes its place; `n` from 1.
pub fn damaged_segment(segment: u32, n: u32) -> String {
    format!("damaged-{segment:08}-{n}.bytes")
}

/// The name that the folder of a ledger's copy gets when the copy turns out to be of another ledger; `n` from 1.
pub fn ledger_aside(folder: &Path, n: u32) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(format!(".aside-{n}"));
    PathBuf::from(name)
}

/// The folder of a series, relative to the root of a volume.
///
/// `date` is `YYYYMMDD`; anything that is not eight digits becomes `00000000`.
/// An empty modality or patient becomes `unknown`.
pub fn series_folder(
    date: &str,
    modality: &str,
    patient_id: &str,
    study_uid: &str,
    series_uid: &str,
) -> String {
    let date = if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) {
        date
    } else {
        "00000000"
    };
    let modality = text_part(modality, MODALITY_BYTES_MAX);
    let patient = text_part(patient_id, PATIENT_BYTES_MAX);
    let study = uid_part(study_uid, STUDY_BYTES_MAX);
    let series = uid_part(series_uid, SERIES_BYTES_MAX);
    format!("{date}/{modality}/{patient}-{study}/{series}")
}

/// File name of an instance.
pub fn file_name(sop_instance_uid: &str) -> String {
    format!("{}.dcm", uid_part(sop_instance_uid, SOP_BYTES_MAX))
}

/// File name of an instance when [`file_name`] is taken by other content:
/// `<uid>~<crc32 in hex>.dcm`, and from the second try on (`n` ≥ 1)
/// `<uid>~<crc32>-<n>.dcm`. Never longer than [`file_name`] can be.
pub fn alternative_file_name(sop_instance_uid: &str, crc32: u32, n: u32) -> String {
    let mut ending = format!("~{crc32:08x}");
    if n > 0 {
        let _ = write!(ending, "-{n}");
    }
    let uid = uid_part(sop_instance_uid, SOP_BYTES_MAX - ending.len());
    format!("{uid}{ending}.dcm")
}

/// A readable part that need not be unique; keeps its beginning when cut.
fn text_part(raw: &str, limit: usize) -> String {
    if raw.trim_matches([' ', '\0']).is_empty() {
        return "unknown".to_owned();
    }
    let units = escape(raw);
    if length(&units) <= limit {
        return units.concat();
    }
    let mut part = String::new();
    for unit in &units {
        if part.len() + unit.len() + MARK_BYTES > limit {
            break;
        }
        part.push_str(unit);
    }
    part + &mark(raw)
}

/// A part that is as unique as the UID, also ignoring case; keeps its end when
/// cut.
fn uid_part(raw: &str, limit: usize) -> String {
    let plain = !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain && raw.len() <= limit && !raw.starts_with('.') && !raw.ends_with('.') {
        // Nearly all: there is nothing to escape. This is done for every line when an index is rebuilt.
        return raw.to_owned();
    }
    let units = escape(raw);
    if plain && length(&units) <= limit {
        return units.concat();
    }
    let mut room = limit - MARK_BYTES;
    let mut start = units.len();
    while start > 0 && units[start - 1].len() <= room {
        start -= 1;
        room -= units[start].len();
    }
    // What was in the middle is at the front now, where a dot, a space, and a
    // combining mark are not wanted.
    // Nor may it begin as the name of a device does.
    while units.get(start).is_some_and(|unit| {
        unit == "." || unit == " " || unit.chars().next().is_some_and(is_combining_mark)
    }) || is_device_name(&units[start..].concat().chars().collect::<Vec<char>>())
    {
        start += 1;
    }
    units[start..].concat() + &mark(raw)
}

fn length(units: &[String]) -> usize {
    units.iter().map(String::len).sum()
}

/// Steps 1 to 3 of the path rule; each unit is one character or its escape.
fn escape(raw: &str) -> Vec<String> {
    // No value that belongs in a path is longer; more would only cost time.
    const CHARACTERS_MAX: usize = 4096;
    let characters: Vec<char> = raw.chars().take(CHARACTERS_MAX).nfc().collect();
    let device = is_device_name(&characters);
    let last = characters.len().saturating_sub(1);
    let mut after_escape = true;
    let mut units = Vec::with_capacity(characters.len());
    for (at, &character) in characters.iter().enumerate() {
        let at_end = at == 0 || at == last;
        let must = is_forbidden(character)
            || (at_end && matches!(character, ' ' | '.'))
            || (at == 0 && device)
            // It would join the last letter of the escape before it.
            || (after_escape && is_combining_mark(character));
        after_escape = must;
        units.push(if must {
            escaped(character)
        } else {
            character.to_string()
        });
    }
    units
}

fn escaped(character: char) -> String {
    let mut text = String::new();
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(text, "%{byte:02X}");
    }
    text
}

fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%' | '~'
        )
        // Invisible: a person could not tell two such names apart, or would see
        // them in another order than they are.
        || matches!(
            character,
            '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E0FFF}'
        )
        // Characters Unicode will never assign, refused by some file systems.
        || matches!(character, '\u{FDD0}'..='\u{FDEF}')
        || (character as u32) & 0xFFFE == 0xFFFE
}

/// Names of devices on Windows, in any case, with or without an extension.
fn is_device_name(characters: &[char]) -> bool {
    let base: String = characters.iter().take_while(|c| **c != '.').collect();
    let base = base.trim_end_matches(' ').to_ascii_uppercase();
    if matches!(
        base.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) {
        return true;
    }
    let number = base.strip_prefix("COM").or(base.strip_prefix("LPT"));
    let mut number = number.unwrap_or_default().chars();
    matches!(
        (number.next(), number.next()),
        (Some('0'..='9' | '¹' | '²' | '³'), None)
    )
}

/// `~` and eight characters.
const MARK_BYTES: usize = 9;

fn mark(raw: &str) -> String {
    const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in raw.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut text = String::from("~");
    for step in 0..8 {
        let five_bits = (hash >> (59 - 5 * step)) & 31;
        text.push(BASE32[five_bits as usize] as char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_values_stay_as_they_are() {
        assert_eq!(
            series_folder("20260115", "CT", "4711", "1.2.3", "1.2.3.4"),
            "20260115/CT/4711-1.2.3/1.2.3.4"
        );
        assert_eq!(file_name("1.2.3.4.5"), "1.2.3.4.5.dcm");
        let uid = "1.2.840.113619.2.55.3.604688119.971.1268000000.123.12345678.1234";
        assert_eq!(uid.len(), 64);
        assert_eq!(file_name(uid), format!("{uid}.dcm"));
    }

    #[test]
    fn the_path_rule_gives_these_names_for_ever() {
        let table = [
            ("山田^太郎", "山田^太郎"),
            ("Mu\u{308}ller", "Müller"),
            ("", "unknown"),
            ("  ", "unknown"),
            ("a/b\\c", "a%2Fb%5Cc"),
            ("50%", "50%25"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            (" x.", "%20x%2E"),
            ("a b.c", "a b.c"),
            ("CON", "%43ON"),
            ("nul.txt", "%6Eul.txt"),
            ("COM1", "%43OM1"),
            ("COM10", "COM10"),
            ("a~b", "a%7Eb"),
            ("x\u{202E}y", "x%E2%80%AEy"),
            ("?\u{307}", "%3F%CC%87"),
            ("line\nbreak", "line%0Abreak"),
        ];
        for (raw, part) in table {
            assert_eq!(text_part(raw, PATIENT_BYTES_MAX), part, "{raw:?}");
        }
    }

    #[test]
    fn long_parts_are_cut_at_the_right_side_and_marked() {
        let patient = text_part(&"ä".repeat(40), PATIENT_BYTES_MAX);
        assert_eq!(patient, format!("{}~hi3vgkph", "ä".repeat(15)));
        let study = uid_part("1.2.840.113619.2.55.3.604688119.971", STUDY_BYTES_MAX);
        assert_eq!(study, "2.55.3.604688119.971~d2sbpqsp");
        let cut_escape = text_part(&format!("{}/{}", "a".repeat(29), "b".repeat(40)), 40);
        assert!(cut_escape.starts_with(&format!("{}~", "a".repeat(29))));
        let device = format!("{}nul.123456789.1234567", "1".repeat(30));
        let series = uid_part(&device, SERIES_BYTES_MAX);
        assert!(series.starts_with("ul.123456789.1234567~"), "{series}");
        assert_eq!(file_name(""), "~zpzjzzee.dcm");
    }

    #[test]
    fn uids_that_differ_in_case_only_get_different_names() {
        let (upper, lower) = (file_name("1.2.A"), file_name("1.2.a"));
        assert!(upper.starts_with("1.2.A~") && lower.starts_with("1.2.a~"));
        assert_ne!(upper.to_lowercase(), lower.to_lowercase());
    }

    #[test]
    fn an_alternative_name_differs_with_content_and_try() {
        assert_eq!(alternative_file_name("1.2", 0xABCD, 0), "1.2~0000abcd.dcm");
        assert_eq!(alternative_file_name("1.2", 1, 2), "1.2~00000001-2.dcm");
        let uid = "1".repeat(64);
        assert!(alternative_file_name(&uid, u32::MAX, u32::MAX).len() <= 68);
    }

    #[test]
    fn only_exact_segment_names_are_segments() {
        assert_eq!(segment_of_file("00000001.jsonl"), Some(1));
        assert_eq!(
            segment_of_file(&segment_file(123_456_789)),
            Some(123_456_789)
        );
        for bad in [
            "1.jsonl",
            "00000000.jsonl",
            "+0000001.jsonl",
            "00000001.json",
            "torn-1-2.bytes",
            "99999999999.jsonl",
        ] {
            assert_eq!(segment_of_file(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_label_keeps_its_words() {
        let label = Label {
            format: FORMAT,
            archive_id: "a".into(),
            volume_id: "v".into(),
            name: "A".into(),
            role: Role::Mirror,
            created: "2026-01-15T00:00:00Z".into(),
            adopted: false,
        };
        let text = serde_json::to_string(&label).unwrap();
        assert!(text.contains(r#""role":"mirror""#), "{text}");
        assert_eq!(serde_json::from_str::<Label>(&text).unwrap(), label);
    }

    fn assert_legal(path: &str) {
        assert!(path.len() <= PATH_BYTES_MAX, "{} bytes: {path}", path.len());
        assert_eq!(path, path.nfc().collect::<String>(), "NFC");
        for component in path.split('/') {
            assert!(!component.is_empty() && component.len() <= 120, "{path:?}");
            assert!(!component.starts_with([' ', '.']), "{component:?}");
            assert!(!component.ends_with([' ', '.']), "{component:?}");
            assert!(!component.contains(['\\', ':', '*', '?', '"', '<', '>', '|']));
            assert!(!component.chars().any(char::is_control), "{component:?}");
            let characters: Vec<char> = component.chars().collect();
            assert!(!is_device_name(&characters), "{component:?}");
            for (at, _) in component.match_indices('%') {
                let hex = component.get(at + 1..at + 3).expect("a whole escape");
                assert!(hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')));
            }
        }
    }

    /// Any text, and texts full of what is special here.
    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[0-9.]{0,80}",
            "[0-9.aA%~/ ]{0,80}",
            "(CON|nul|COM1|lpt9)[. ]?[a-z~%]{0,4}",
            "[ .%~\u{300}-\u{308}A-F?é\u{202E}\u{FEFF}]{0,60}",
        ]
    }

    proptest! {
        #[test]
        fn any_values_give_a_legal_path(
            date in hostile(), modality in hostile(), patient in hostile(),
            study in hostile(), series in hostile(), sop in hostile(), crc: u32, n: u32,
        ) {
            let folder = series_folder(&date, &modality, &patient, &study, &series);
            assert_eq!(folder.split('/').count(), 4);
            let again = series_folder(&date, &modality, &patient, &study, &series);
            assert_eq!(&folder, &again);
            assert_legal(&format!("{folder}/{}", file_name(&sop)));
            assert_legal(&format!("{folder}/{}", alternative_file_name(&sop, crc, n)));
        }

        #[test]
        fn a_conforming_uid_is_the_name_as_it_is(uid in "[0-9]([0-9.]{0,62}[0-9])?") {
            assert_eq!(file_name(&uid), format!("{uid}.dcm"));
            assert_eq!(escape(&uid).concat(), uid);
        }

        #[test]
        fn distinct_uids_have_distinct_names_ignoring_case(a in hostile(), b in hostile()) {
            prop_assume!(a != b);
            let lower = |uid: &str| file_name(uid).to_lowercase();
            assert_ne!(lower(&a), lower(&b));
            let folder = |uid: &str| series_folder("20260115", "CT", "p", "1", uid).to_lowercase();
            assert_ne!(folder(&a), folder(&b));
        }

        #[test]
        fn a_uid_and_its_other_case_have_distinct_names(uid in "[0-9.a-fA-F]{1,70}") {
            let other = uid.to_uppercase();
            prop_assume!(uid != other);
            assert_ne!(file_name(&uid).to_lowercase(), file_name(&other).to_lowercase());
        }
    }
}
