//! `[retention]`: when images leave the volumes that received them. Without a rule none ever does.

use serde::Deserialize;

use super::RoleName;
use super::long_work::{at_most, check_pattern, pattern_fits};
use crate::job::Window;

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub window: Window,
    /// Read at most, while copies are compared; 0: no cap.
    pub bytes_per_second: u64,
    /// What fits one of them leaves.
    #[serde(rename = "rule")]
    pub rules: Vec<RetentionRule>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            window: NIGHT,
            bytes_per_second: 0,
            rules: Vec::new(),
        }
    }
}

/// After the mirror's window, so that what came today has its copy.
const NIGHT: Window = Window::new(0, 6 * 60).unwrap();

/// `[[retention.rule]]`: an image fits when everything fits that is given. Patterns: `*` is any run of characters, `?`
/// one; case does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionRule {
    /// Pattern of names; absent: every archive volume.
    pub volume: Option<String>,
    /// May be said for clearness: images leave archive volumes only.
    pub role: Option<RoleName>,
    /// Received so long ago.
    pub older_than_days: Option<u64>,
    /// Of a study date so long ago; a study without one never fits.
    pub study_older_than_days: Option<u64>,
    /// Pattern.
    pub modality: Option<String>,
    /// Pattern of the sender's AE title.
    pub calling: Option<String>,
    /// Only while less of the volume is free, and the oldest first: bytes (`"200 GB"`) or a share (`"10 %"`).
    pub when_free_below: Option<String>,
}

/// A century.
const DAYS_MAX: u64 = 36_525;

impl Retention {
    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        for (i, rule) in self.rules.iter().enumerate() {
            let of = format!("[[retention.rule]] number {}", i + 1);
            rule.check().map_err(|reason| format!("{of}: {reason}"))?;
        }
        Ok(())
    }
}

impl RetentionRule {
    pub fn takes_from(&self, volume: &str) -> bool {
        fits(self.volume.as_deref(), volume)
    }

    /// Spaces around values do not count.
    pub fn takes(&self, modality: &str, calling_ae_title: &str) -> bool {
        fits(self.modality.as_deref(), modality) && fits(self.calling.as_deref(), calling_ae_title)
    }

    fn check(&self) -> Result<(), String> {
        let ages = [
            ("older_than_days", self.older_than_days),
            ("study_older_than_days", self.study_older_than_days),
        ];
        for (key, days) in ages {
            at_most(key, days.unwrap_or(0), DAYS_MAX)?;
        }
        if ages.iter().all(|(_, days)| days.is_none()) && self.when_free_below.is_none() {
            return Err(
                "it takes images of any age; give older_than_days, study_older_than_days or when_free_below"
                    .to_owned(),
            );
        }
        if self.role == Some(RoleName::Mirror) {
            return Err("images leave volumes with role = \"archive\" only".to_owned());
        }
        for (key, pattern) in [
            ("volume", &self.volume),
            ("modality", &self.modality),
            ("calling", &self.calling),
        ] {
            check_pattern(key, pattern.as_deref())?;
        }
        Ok(())
    }
}

/// The rule in words, without its volumes.
impl std::fmt::Display for RetentionRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if let Some(days) = self.older_than_days {
            parts.push(format!("received {days} days ago or earlier"));
        }
        if let Some(days) = self.study_older_than_days {
            parts.push(format!("study date {days} days ago or earlier"));
        }
        if let Some(modality) = &self.modality {
            parts.push(format!("modality {modality}"));
        }
        if let Some(calling) = &self.calling {
            parts.push(format!("from {calling}"));
        }
        if let Some(free) = &self.when_free_below {
            parts.push(format!("the oldest, while less than {free} is free"));
        }
        f.write_str(&parts.join("; "))
    }
}

fn fits(pattern: Option<&str>, text: &str) -> bool {
    let folded = |text: &str| text.trim().to_ascii_uppercase();
    pattern.is_none_or(|pattern| pattern_fits(&folded(pattern), &folded(text)))
}

/// The part of what `kura init` writes that is about retention.
pub(super) const TEMPLATE: &str = r#"
[retention]
# When images may leave the volumes that received them: only by a rule, and only where two good copies on two disks
# elsewhere were read again just before. Without a rule nothing is ever removed. kura retention show says what would go.
window = "00:00-06:00"
# Bytes per second at most that copies are read with; 0: as fast as the disks are.
bytes_per_second = 0

# What fits one rule leaves; all keys of a rule must fit. * is any run of characters, ? is one.
# volume: names of archive volumes; older_than_days: since it was received; study_older_than_days: since the study date;
# modality; calling: the sender's AE title; when_free_below: only then, the oldest first ("10 %" or "200 GB").
# [[retention.rule]]
# volume = "A*"
# older_than_days = 400
# modality = "C*"
# calling = "CT?"
# when_free_below = "10 %"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        retention: Retention,
    }

    fn parse(text: &str) -> Result<Retention, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        file.retention.check()?;
        Ok(file.retention)
    }

    /// Method: the comment signs of the example are taken away.
    #[test]
    fn the_example_in_the_template_is_configuration() {
        let mut text = String::new();
        let mut example = false;
        for line in TEMPLATE.lines() {
            example |= line.starts_with("# [[");
            let line = if example && line.len() > 1 {
                &line[2..]
            } else {
                line
            };
            text.push_str(line);
            text.push('\n');
        }
        let rules = parse(&text).unwrap().rules;
        assert_eq!(rules.len(), 1);
        assert!(rules[0].takes_from("a2") && !rules[0].takes_from("B"));
        assert!(rules[0].takes(" ct", "CT1 ") && !rules[0].takes("MR", "CT1"));
        assert!(!rules[0].takes("CT", "CT12"));
    }

    #[test]
    fn by_default_nothing_leaves() {
        assert_eq!(parse("").unwrap().rules, []);
    }

    #[test]
    fn impossible_rules_are_refused_with_what_is_wrong() {
        for (rule, reason) in [
            ("modality = \"CT\"", "of any age"),
            ("older_than_days = 40000", "at most 36525"),
            ("older_than_days = -1", "invalid value"),
            (
                "older_than_days = 1\nrole = \"mirror\"",
                "role = \"archive\" only",
            ),
            ("older_than_days = 1\nvolume = \"\"", "volume"),
            ("older_than_days = 1\ncaling = \"CT\"", "caling"),
        ] {
            let text = format!("[[retention.rule]]\n{rule}\n");
            let error = parse(&text).unwrap_err();
            assert!(error.contains(reason), "{rule}: {error}");
        }
    }
}
