//! `[duplicates]` and `[[coerce]]`: what becomes of an instance that comes again, and of values that are to be others here.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::long_work::{PATTERN_LENGTH_MAX, pattern_fits};

/// `[duplicates]`: another data set under a SOP Instance UID that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// For senders that no rule fits.
    pub policy: DuplicatePolicy,
    /// The first that fits counts.
    #[serde(rename = "rule")]
    pub rules: Vec<DuplicateRule>,
}

/// Which of several data sets under one SOP Instance UID is answered. All of them are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicatePolicy {
    /// That which came first.
    #[default]
    First,
    /// That which came last, if it is of the sender of the one that is answered.
    Newest,
}

/// `[[duplicates.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuplicateRule {
    /// A pattern of the calling AE title.
    pub calling: String,
    pub policy: DuplicatePolicy,
}

/// `[[coerce]]`: one attribute of what a sender sends, changed before it is stored.
///
/// The steps go in the order of the fields. A value that is absent or empty stays so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coerce {
    /// A pattern of the calling AE title.
    #[serde(default)]
    pub calling: String,
    #[serde(default)]
    pub attribute: CoercedAttribute,
    /// Zeros at the beginning go; of a value of nothing but zeros one stays.
    #[serde(default)]
    pub strip_zeros: bool,
    /// A file of lines `old,new`.
    pub map: Option<PathBuf>,
    /// Zeros are put in front until the value has so many characters; 0: none.
    #[serde(default)]
    pub pad: usize,
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub suffix: String,
    /// Issuer of Patient ID (0010,0021) to be set beside the Patient ID.
    pub issuer: Option<String>,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CoercedAttribute {
    /// (0010,0020), LO.
    #[default]
    PatientId,
    /// (0008,0050), SH.
    AccessionNumber,
}

impl CoercedAttribute {
    /// Of its VR, in characters (PS3.5 Table 6.2-1).
    fn length_max(self) -> usize {
        match self {
            CoercedAttribute::PatientId => ISSUER_LENGTH_MAX,
            CoercedAttribute::AccessionNumber => 16,
        }
    }
}

/// VR LO, in characters.
const ISSUER_LENGTH_MAX: usize = 64;
/// Lines of a map; a hospital's patients fit several times.
const MAP_LINES_MAX: usize = 1_000_000;
/// Of a line of a map, in bytes: two values of 64 characters, and room for spaces.
const LINE_BYTES_MAX: u64 = 1024;

impl Duplicates {
    /// Spaces around AE titles do not count, nor does their case.
    pub fn policy_for(&self, calling_ae_title: &str) -> DuplicatePolicy {
        let fits = |rule: &&DuplicateRule| title_fits(&rule.calling, calling_ae_title);
        let rule = self.rules.iter().find(fits);
        rule.map_or(self.policy, |rule| rule.policy)
    }

    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        for (i, rule) in self.rules.iter().enumerate() {
            check_pattern(&rule.calling)
                .map_err(|reason| format!("[[duplicates.rule]] number {}: {reason}", i + 1))?;
        }
        Ok(())
    }
}

impl Coerce {
    /// Spaces around AE titles do not count, nor does their case.
    pub fn fits(&self, calling_ae_title: &str) -> bool {
        title_fits(&self.calling, calling_ae_title)
    }

    /// The steps in their order, and whether the map names the value.
    pub fn new_value(&self, old: &str, map: &HashMap<String, String>) -> (String, bool) {
        let mut value = old;
        if self.strip_zeros {
            let rest = value.trim_start_matches('0');
            value = match rest.is_empty() {
                true => &value[value.len().saturating_sub(1)..],
                false => rest,
            };
        }
        let mapped = map.get(value);
        let value = mapped.map_or(value, String::as_str);
        let missing = self.pad.saturating_sub(value.chars().count());
        let (prefix, suffix) = (&self.prefix, &self.suffix);
        let new = format!("{prefix}{}{value}{suffix}", "0".repeat(missing));
        (new, mapped.is_some())
    }

    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        check_pattern(&self.calling)?;
        self.check_steps()
    }

    /// As what a rule of forwarding rewrites.
    pub(super) fn check_rewrite(&self) -> Result<(), String> {
        if !self.calling.is_empty() {
            return Err("calling belongs to the rule, not to what it rewrites".to_owned());
        }
        if self.attribute != CoercedAttribute::PatientId {
            return Err("only the Patient ID can be another there".to_owned());
        }
        self.check_steps()
    }

    fn check_steps(&self) -> Result<(), String> {
        let most = self.attribute.length_max();
        if self.pad > most {
            return Err(format!(
                "pad is {}; the attribute has at most {most} characters",
                self.pad
            ));
        }
        let texts = [
            ("prefix", self.prefix.as_str()),
            ("suffix", self.suffix.as_str()),
            ("issuer", self.issuer.as_deref().unwrap_or_default()),
        ];
        for (key, text) in texts {
            if text.chars().any(|c| c.is_control() || c == '\\') {
                return Err(format!(
                    "{key} {text:?}: control characters and backslashes cannot be part of a value"
                ));
            }
            if text.chars().count() > ISSUER_LENGTH_MAX {
                return Err(format!(
                    "{key} is longer than {ISSUER_LENGTH_MAX} characters"
                ));
            }
        }
        if let Some(issuer) = &self.issuer {
            if self.attribute != CoercedAttribute::PatientId {
                return Err("issuer belongs to attribute = \"patient-id\"".to_owned());
            }
            if issuer.trim().is_empty() {
                return Err("issuer is empty".to_owned());
            }
        }
        let values = self.strip_zeros || self.map.is_some() || self.pad > 0;
        if !values && self.issuer.is_none() && self.prefix.is_empty() && self.suffix.is_empty() {
            return Err(
                "it changes nothing; give strip_zeros, map, pad, prefix, suffix or issuer"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Reads the file of `map`: old value → new value; nothing where there is none. The error is a sentence.
    pub fn read_map(&self) -> Result<HashMap<String, String>, String> {
        let Some(path) = &self.map else {
            return Ok(HashMap::new());
        };
        let file = super::open(path).map_err(|error| cannot_read(path, &error))?;
        read_lines(BufReader::new(file), path)
    }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> String {
    format!("map {}: {error}", path.display())
}

/// Spaces and one pair of quotation marks around a value do not count; empty lines and those that begin with `#` are
/// passed over.
fn read_lines(mut reader: impl BufRead, path: &Path) -> Result<HashMap<String, String>, String> {
    let mut map = HashMap::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let mut limited = (&mut reader).take(LINE_BYTES_MAX + 1);
        let count = limited.read_until(b'\n', &mut bytes);
        let wrong = |reason: &str| {
            format!(
                "map {} line {number}: {reason}; expected old,new",
                path.display()
            )
        };
        match count.map_err(|error| cannot_read(path, &error))? {
            0 => break,
            count if count as u64 > LINE_BYTES_MAX => return Err(wrong("it is too long")),
            _ if number > MAP_LINES_MAX => {
                return Err(wrong("the file has more than 1000000 lines"));
            }
            _ => {}
        }
        let line = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8"))?;
        // Spreadsheets put a byte order mark in front.
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (old, new) = line
            .split_once(',')
            .ok_or_else(|| wrong("it has no comma"))?;
        let (old, new) = (unquoted(old), unquoted(new));
        if new.contains(',') {
            return Err(wrong("it has two commas"));
        }
        if old.is_empty() || new.is_empty() {
            return Err(wrong("a value is empty"));
        }
        if new.contains('\\') || new.chars().any(char::is_control) {
            return Err(wrong("the new value cannot be one of the attribute"));
        }
        let before = map.insert(old.to_owned(), new.to_owned());
        if before.is_some_and(|before| before != new) {
            return Err(wrong(&format!("{old} has another new value before")));
        }
    }
    Ok(map)
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.unwrap_or(text).trim()
}

pub(super) fn title_fits(pattern: &str, calling_ae_title: &str) -> bool {
    pattern_fits(
        &pattern.trim().to_ascii_uppercase(),
        &calling_ae_title.trim().to_ascii_uppercase(),
    )
}

pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    match pattern.trim().chars().count() {
        0 => Err("calling is empty; \"*\" is every sender".to_owned()),
        count if count > PATTERN_LENGTH_MAX => Err(format!(
            "calling is longer than {PATTERN_LENGTH_MAX} characters"
        )),
        _ => Ok(()),
    }
}

/// The part of what `kura init` writes that is about receiving.
pub(super) const TEMPLATE: &str = r#"
[duplicates]
# Another data set under a SOP Instance UID that is known: "first" answers the one that came first, "newest" the one
# that came last, if it is of the same sender. Both are kept.
policy = "first"

# Exceptions by calling AE title (* is any run of characters, ? is one); the first that fits counts.
# [[duplicates.rule]]
# calling = "CT1*"
# policy = "newest"

# Change an attribute of what a sender sends before it is stored. What stood there is written down in the instance.
# In this order: strip_zeros (zeros at the beginning go), map (a file of lines old,new), pad (zeros in front, up to so
# many characters), prefix, suffix. issuer sets Issuer of Patient ID. attribute: "patient-id" or "accession-number".
# [[coerce]]
# calling = "CONSOLE1"
# attribute = "patient-id"
# strip_zeros = true
# map = "patients.csv"
# pad = 8
# prefix = "H1-"
# suffix = ""
# issuer = "HOSP1"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn coerce_of(text: &str) -> Result<Coerce, String> {
        let text = format!("[[coerce]]\n{text}");
        let config = Config::parse(&text, Path::new("/srv"))?;
        Ok(config.coerce.into_iter().next().expect("one rule"))
    }

    #[test]
    fn the_first_rule_that_fits_says_which_data_set_is_answered() {
        let text = "[duplicates]\npolicy = \"newest\"\n\
            [[duplicates.rule]]\ncalling = \"ct1*\"\npolicy = \"first\"\n\
            [[duplicates.rule]]\ncalling = \"CT*\"\npolicy = \"newest\"\n";
        let duplicates = Config::parse(text, Path::new("/srv")).unwrap().duplicates;
        for (calling, policy) in [
            ("CT1A ", DuplicatePolicy::First),
            ("CT2", DuplicatePolicy::Newest),
            ("MR", DuplicatePolicy::Newest),
        ] {
            assert_eq!(duplicates.policy_for(calling), policy, "{calling}");
        }
        let config = Config::parse("", Path::new("/srv")).unwrap();
        assert_eq!(config.duplicates.policy_for("CT2"), DuplicatePolicy::First);
    }

    #[test]
    fn a_map_lies_beside_the_configuration() {
        let rule = coerce_of("calling = \"A\"\nmap = \"map.csv\"\n").unwrap();
        assert_eq!(rule.map.as_deref(), Some(Path::new("/srv/map.csv")));
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused() {
        for (text, reason) in [
            ("calling = \"A\"\n", "changes nothing"),
            ("calling = \" \"\nprefix = \"H\"\n", "calling is empty"),
            ("calling = \"A\"\npad = 65\n", "at most 64"),
            (
                "calling = \"A\"\nattribute = \"accession-number\"\npad = 17\n",
                "at most 16",
            ),
            ("calling = \"A\"\nprefix = \"a\\\\b\"\n", "backslashes"),
            (
                "calling = \"A\"\nattribute = \"accession-number\"\nissuer = \"H\"\n",
                "patient-id",
            ),
            ("calling = \"A\"\nzeros = 1\n", "zeros"),
        ] {
            let error = coerce_of(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_wrong_line_of_a_map_is_named() {
        let read = |text: &[u8]| read_lines(text, Path::new("m.csv"));
        let map = read("\u{feff}# ids\r\n 1 , \"A 1\"\r\n\r\n2,B\r\n2,B".as_bytes()).unwrap();
        assert_eq!(map.len(), 2);
        assert_eq!(map["1"], "A 1");
        for (text, reason) in [
            ("1,A\n2\n", "line 2: it has no comma"),
            ("1,A\n,B\n", "line 2: a value is empty"),
            ("1,A,B\n", "line 1: it has two commas"),
            ("1,A\n1,B\n", "line 2: 1 has another"),
            ("1,A\\B\n", "line 1: the new value"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = read(b"1,A\n\xff\n").unwrap_err();
        assert!(error.contains("line 2: it is not UTF-8"), "{error}");
        let error = read(&[b'x'; 4096]).unwrap_err();
        assert!(error.contains("line 1: it is too long"), "{error}");
    }
}
