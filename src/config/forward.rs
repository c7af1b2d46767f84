//! `[forward]`, `[commitment]`, `[transfers]`: what goes to which peers by itself, what is promised, what is noted.

use serde::{Deserialize, Serialize};

use super::long_work::{at_most, check_pattern, pattern_fits};
use super::receiving::Coerce;
use super::{PeerEntry, volume_name_is_plain};
use crate::job::Window;

/// `[forward]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forward {
    /// Gets what no rule takes: the AE title of a peer.
    pub default: Option<String>,
    /// Until what failed is tried again; doubles with every failure, up to `retry_max_seconds`.
    pub retry_seconds: u64,
    pub retry_max_seconds: u64,
    /// What failed for so long is not tried any more by itself; 0: it is tried for ever.
    pub give_up_days: u64,
    /// Until a peer that did not answer is asked again whether it is there (C-ECHO).
    pub probe_seconds: u64,
    /// So long it is known what was sent.
    pub keep_days: u64,
    /// Every rule that fits counts.
    #[serde(rename = "rule")]
    pub rules: Vec<ForwardRule>,
}

impl Default for Forward {
    fn default() -> Forward {
        Forward {
            default: None,
            retry_seconds: 10 * 60,
            retry_max_seconds: 60 * 60,
            give_up_days: 0,
            probe_seconds: 10 * 60,
            keep_days: 90,
            rules: Vec::new(),
        }
    }
}

/// `[[forward.rule]]`: an instance fits when everything fits that is given. Patterns: `*` is any run of characters, `?` one;
/// case does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardRule {
    /// By which it is shown and changed.
    pub name: String,
    /// AE titles of peers.
    pub to: Vec<String>,
    /// Pattern of the calling AE title that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calling: Option<String>,
    /// Pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// Pattern of the SOP Class UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_class: Option<String>,
    /// Pattern of Station Name (0008,1010).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub station: Option<String>,
    /// Pattern of Institution Name (0008,0080).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub institution: Option<String>,
    /// Pattern of Study Description (0008,1030), or of Series Description (0008,103E).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Pattern of Patient ID (0010,0020), as it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_id: Option<String>,
    /// Study dates, `YYYYMMDD-YYYYMMDD`, also open on one side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study_date: Option<String>,
    #[serde(default)]
    pub when: ForwardWhen,
    /// For [`ForwardWhen::Study`]: so long nothing came for the study.
    #[serde(default = "quiet_seconds")]
    pub quiet_seconds: u64,
    /// Only then.
    #[serde(default = "always")]
    pub window: Window,
    #[serde(default)]
    pub priority: ForwardPriority,
    /// The Patient ID is another there; what is stored stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Coerce>,
}

/// Where nothing is configured.
pub const QUIET_SECONDS: u64 = 60;

fn quiet_seconds() -> u64 {
    QUIET_SECONDS
}

fn always() -> Window {
    Window::ALWAYS
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardWhen {
    /// When its study was quiet for a while.
    #[default]
    Study,
    /// Each as it comes.
    Instance,
}

/// (0000,0700), and who goes first to a peer.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardPriority {
    High,
    #[default]
    Medium,
    Low,
}

/// `[commitment]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commitment {
    /// Verified copies that "committed" stands for: 1 or 2.
    pub copies: u64,
    /// So long is waited for the second; what has none by then is reported as failed.
    pub wait_minutes: u64,
    /// Days for which a requestor that cannot be reached is told again.
    pub keep_days: u64,
}

impl Default for Commitment {
    fn default() -> Commitment {
        Commitment {
            copies: 1,
            wait_minutes: 30,
            keep_days: 7,
        }
    }
}

/// `[transfers]`: the journal of what came and went.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transfers {
    pub keep_days: u64,
}

impl Default for Transfers {
    fn default() -> Transfers {
        Transfers { keep_days: 400 }
    }
}

/// The part of what `kura init` writes that is about storage commitment.
pub(super) const COMMITMENT_TEMPLATE: &str = r#"
[commitment]
# Good copies that a modality is told of when it asks whether its images are kept: 1, or 2 on two disks. Each is read
# again before it is told. What it asks for gets its second copy at once in any case.
copies = 1
# Minutes that are waited for what may come: the second copy, a disk that is away.
wait_minutes = 30
# Days for which a modality that cannot be reached is told again. It needs a [[peer]] of its AE title for that.
keep_days = 7
"#;

/// The part of what `kura init` writes that is about the journal of transfers.
pub(super) const TRANSFERS_TEMPLATE: &str = r#"
[transfers]
# Days for which kura journal knows what came and went.
keep_days = 400
"#;

/// Ten years.
const DAYS_MAX: u64 = 3_653;
/// A week.
const SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// Each is tried on each instance that comes.
const RULES_MAX: usize = 256;
/// Of one rule.
const PEERS_MAX: usize = 256;

impl Forward {
    /// The error is a sentence.
    pub(super) fn check(&self, peers: &[PeerEntry]) -> Result<(), String> {
        let known = |title: &str| peers.iter().any(|peer| peer.is(title));
        if let Some(title) = self.default.as_deref().filter(|title| !known(title)) {
            return Err(format!("[forward] default {title} is not a [[peer]]"));
        }
        let is_caller = |title: &str| {
            let is = |peer: &PeerEntry| peer.ae_title.as_str().eq_ignore_ascii_case(title.trim());
            peers.iter().any(|peer| is(peer) && peer.is_caller())
        };
        let to = self.rules.iter().flat_map(|rule| &rule.to);
        if let Some(title) = to.chain(&self.default).find(|title| is_caller(title)) {
            return Err(format!(
                "[forward]: {title} has host \"caller\"; where it is is known only when it asks"
            ));
        }
        at_most("[forward] keep_days", self.keep_days, DAYS_MAX)?;
        at_most("[forward] give_up_days", self.give_up_days, DAYS_MAX)?;
        let (first, most) = (self.retry_seconds, self.retry_max_seconds);
        for (key, seconds) in [
            ("retry_seconds", first),
            ("retry_max_seconds", most),
            ("probe_seconds", self.probe_seconds),
        ] {
            if !(1..=SECONDS_MAX).contains(&seconds) {
                return Err(format!(
                    "[forward] {key} is {seconds}; 1 to {SECONDS_MAX} are possible"
                ));
            }
        }
        if most < first {
            return Err(format!(
                "[forward] retry_max_seconds is {most}, less than retry_seconds, {first}"
            ));
        }
        if self.rules.len() > RULES_MAX {
            return Err(format!("there are more than {RULES_MAX} [[forward.rule]]"));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let of = format!("[[forward.rule]] {}", rule.name);
            if let Some(title) = rule.to.iter().find(|title| !known(title)) {
                return Err(format!("{of}: {title} is not a [[peer]]"));
            }
            rule.check().map_err(|reason| format!("{of}: {reason}"))?;
            let same = |other: &ForwardRule| other.name.eq_ignore_ascii_case(&rule.name);
            if self.rules[..at].iter().any(same) {
                return Err(format!("two [[forward.rule]] are named {}", rule.name));
            }
        }
        Ok(())
    }
}

/// What a rule is held against; empty where an instance does not say it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    pub calling: &'a str,
    pub modality: &'a str,
    pub sop_class: &'a str,
    pub station: &'a str,
    pub institution: &'a str,
    pub study_description: &'a str,
    pub series_description: &'a str,
    pub patient_id: &'a str,
    /// `YYYYMMDD`
    pub study_date: &'a str,
}

impl ForwardRule {
    /// One that takes everything.
    pub fn new(name: String, to: Vec<String>) -> ForwardRule {
        ForwardRule {
            name,
            to,
            calling: None,
            modality: None,
            sop_class: None,
            station: None,
            institution: None,
            description: None,
            patient_id: None,
            study_date: None,
            when: ForwardWhen::default(),
            quiet_seconds: QUIET_SECONDS,
            window: Window::ALWAYS,
            priority: ForwardPriority::default(),
            rewrite: None,
        }
    }

    /// What is patterns of it, by their keys.
    pub fn patterns(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("calling", self.calling.as_deref()),
            ("modality", self.modality.as_deref()),
            ("sop_class", self.sop_class.as_deref()),
            ("station", self.station.as_deref()),
            ("institution", self.institution.as_deref()),
            ("description", self.description.as_deref()),
            ("patient_id", self.patient_id.as_deref()),
        ]
    }

    /// Spaces around values do not count.
    pub fn takes(&self, given: &Given) -> bool {
        let fits = |pattern: &Option<String>, texts: &[&str]| {
            let folded = |text: &str| text.trim().to_lowercase();
            pattern.as_deref().is_none_or(|pattern| {
                let pattern = folded(pattern);
                let fits = |text: &&str| pattern_fits(&pattern, &folded(text));
                texts.iter().any(fits)
            })
        };
        let descriptions = [given.study_description, given.series_description];
        fits(&self.calling, &[given.calling])
            && fits(&self.modality, &[given.modality])
            && fits(&self.sop_class, &[given.sop_class])
            && fits(&self.station, &[given.station])
            && fits(&self.institution, &[given.institution])
            && fits(&self.description, &descriptions)
            && fits(&self.patient_id, &[given.patient_id])
            && self.takes_date(given.study_date.trim())
    }

    /// A study without a date fits no range.
    fn takes_date(&self, date: &str) -> bool {
        let Some(text) = &self.study_date else {
            return true;
        };
        // Eight digits each: they compare as text.
        dates(text).is_ok_and(|(from, to)| {
            is_day(date) && from.is_none_or(|from| from <= date) && to.is_none_or(|to| date <= to)
        })
    }

    /// The error is a sentence.
    fn check(&self) -> Result<(), String> {
        if !volume_name_is_plain(&self.name) {
            return Err("a name is 1 to 32 letters, digits, - or _".to_owned());
        }
        if self.to.is_empty() || self.to.len() > PEERS_MAX {
            return Err(format!("to names 1 to {PEERS_MAX} peers"));
        }
        for (at, title) in self.to.iter().enumerate() {
            let same = |other: &String| other.trim().eq_ignore_ascii_case(title.trim());
            if self.to[..at].iter().any(same) {
                return Err(format!("to names {title} twice"));
            }
        }
        for (key, pattern) in self.patterns() {
            check_pattern(key, pattern)?;
        }
        if let Some(text) = &self.study_date {
            dates(text).map_err(|reason| format!("study_date {text:?}: {reason}"))?;
        }
        at_most("quiet_seconds", self.quiet_seconds, SECONDS_MAX)?;
        let rewrite = self.rewrite.as_ref().map_or(Ok(()), Coerce::check_rewrite);
        rewrite.map_err(|reason| format!("rewrite: {reason}"))
    }
}

/// First and last day of `YYYYMMDD-YYYYMMDD`, `YYYYMMDD-`, `-YYYYMMDD` or `YYYYMMDD`.
fn dates(text: &str) -> Result<(Option<&str>, Option<&str>), String> {
    let text = text.trim();
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let end = |day: &str| !day.is_empty();
    let (from, to) = (Some(from).filter(|d| end(d)), Some(to).filter(|d| end(d)));
    for day in [from, to].into_iter().flatten() {
        if !is_day(day) {
            return Err(format!("{day:?} is not a day YYYYMMDD, such as 20260115"));
        }
    }
    match (from, to) {
        (None, None) => Err("it has no end; give YYYYMMDD-YYYYMMDD, open on one side".to_owned()),
        (Some(from), Some(to)) if from > to => Err("it ends before it begins".to_owned()),
        ends => Ok(ends),
    }
}

fn is_day(text: &str) -> bool {
    text.len() == 8
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && jiff::civil::Date::strptime("%Y%m%d", text).is_ok()
}

/// The conditions in words.
impl std::fmt::Display for ForwardRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        for (key, pattern) in self.patterns() {
            if let Some(pattern) = pattern {
                parts.push(format!("{} {pattern}", key.replace('_', " ")));
            }
        }
        if let Some(dates) = &self.study_date {
            parts.push(format!("study date {dates}"));
        }
        match parts.is_empty() {
            true => f.write_str("everything"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}

impl Commitment {
    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=2).contains(&self.copies) {
            return Err(format!(
                "[commitment] copies is {}; 1 or 2 are possible",
                self.copies
            ));
        }
        at_most("[commitment] wait_minutes", self.wait_minutes, 24 * 60)?;
        at_most("[commitment] keep_days", self.keep_days, DAYS_MAX)
    }
}

impl Transfers {
    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        at_most("[transfers] keep_days", self.keep_days, DAYS_MAX)
    }
}

/// The part of what `kura init` writes that is about what goes out by itself.
pub(super) const TEMPLATE: &str = r#"
[forward]
# What goes by itself to which [[peer]]. kura forward add-rule and kura peer add write these tables too, without a restart.
# AE title of the peer that gets what no rule takes; without it that stays here.
# default = "HOROS"
# Seconds until what failed is tried again; doubled with every failure, up to retry_max_seconds.
retry_seconds = 600
retry_max_seconds = 3600
# Days after which what failed is not tried any more by itself; 0: it is tried for ever.
give_up_days = 0
# Seconds until a peer that did not answer is asked again whether it is there (C-ECHO).
probe_seconds = 600
# Days for which it is known what was sent.
keep_days = 90

# Every rule that fits counts; all keys of a rule must fit. Patterns: * is any run of characters, ? is one, case does not
# count. calling: the sender's AE title; description: of the study, or of the series; study_date: YYYYMMDD-YYYYMMDD, also
# open on one side. when: "study" (nothing came for it for quiet_seconds) or "instance" (each as it comes). window: only
# then. rewrite: the Patient ID there, in the steps of [[coerce]]; what its map does not name is not sent.
# [[forward.rule]]
# name = "ct-to-horos"
# to = ["HOROS"]
# calling = "CT*"
# modality = "CT"
# sop_class = "1.2.840.10008.5.1.4.1.1.2*"
# station = "*"
# institution = "*"
# description = "*"
# patient_id = "*"
# study_date = "20260101-"
# when = "study"
# quiet_seconds = 60
# window = "00:00-24:00"
# priority = "medium"
# rewrite = { strip_zeros = true, pad = 10, prefix = "H", issuer = "HOSPITAL" }
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PEER: &str = "[[peer]]\nae_title = \"HOROS\"\nhost = \"h\"\nport = 104\n";

    /// Method: the comment signs of the examples are taken away.
    #[test]
    fn the_example_in_the_template_is_configuration() {
        let mut text = String::new();
        let mut example = false;
        for line in TEMPLATE.lines() {
            example |= line.starts_with("# [[");
            let line = line
                .strip_prefix("# ")
                .filter(|_| example || line.starts_with("# default"));
            text.push_str(line.unwrap_or_default());
            text.push('\n');
        }
        let text = text.replacen("default", "[forward]\ndefault", 1);
        let forward = Config::of_text(&format!("{text}{PEER}")).unwrap().forward;
        assert_eq!(forward.rules.len(), 1);
        assert_eq!(forward.default.as_deref(), Some("HOROS"));
        assert!(forward.rules[0].rewrite.is_some());
    }

    #[test]
    fn impossible_rules_are_refused_with_what_is_wrong() {
        let rule = |keys: &str| format!("[[forward.rule]]\nname = \"r\"\n{keys}\n");
        let to = "to = [\"HOROS\"]";
        let long = "x".repeat(65);
        for (text, reason) in [
            (rule("to = []"), "r: to names 1 to 256 peers"),
            (rule("to = [\"MAC\"]"), "r: MAC is not a [[peer]]"),
            (
                rule("to = [\"HOROS\", \"horos \"]"),
                "r: to names horos  twice",
            ),
            (
                rule(&format!("{to}\nmodality = \"\"")),
                "modality \"\": 1 to 64",
            ),
            (rule(&format!("{to}\nstation = \"{long}\"")), "station"),
            (
                rule(&format!("{to}\nquiet_seconds = 604801")),
                "quiet_seconds is 604801",
            ),
            (rule(&format!("{to}\nstudy_date = \"-\"")), "it has no end"),
            (
                rule(&format!("{to}\nstudy_date = \"20261301-\"")),
                "not a day",
            ),
            (
                rule(&format!("{to}\nstudy_date = \"20260102-20260101\"")),
                "ends before",
            ),
            (rule(&format!("{to}\nmodalty = \"CT\"")), "modalty"),
            (
                rule(&format!("{to}\nrewrite = {{ pad = 65 }}")),
                "rewrite: pad is 65",
            ),
            (
                rule(&format!("{to}\nrewrite = {{ }}")),
                "rewrite: it changes nothing",
            ),
            (
                rule(&format!(
                    "{to}\nrewrite = {{ attribute = \"accession-number\", pad = 3 }}"
                )),
                "only the Patient ID",
            ),
            (rule(to) + &rule(to), "two [[forward.rule]] are named r"),
            (
                format!("[[forward.rule]]\nname = \"a b\"\n{to}\n"),
                "a name is 1 to 32 letters",
            ),
            (
                "[forward]\ndefault = \"MAC\"\n".to_owned(),
                "default MAC is not",
            ),
            (
                "[forward]\nretry_seconds = 0\n".to_owned(),
                "retry_seconds is 0",
            ),
            (
                "[forward]\nretry_seconds = 7200\n".to_owned(),
                "retry_max_seconds is 3600",
            ),
        ] {
            let error = Config::of_text(&format!("{text}{PEER}")).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
