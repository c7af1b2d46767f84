//! `[forward]`, `[commitment]`, `[transfers]`: what goes to which peers by itself, what is promised, what is noted.

use serde::Deserialize;

use super::PeerEntry;
use super::long_work::at_most;
use super::receiving::Coerce;
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardRule {
    /// By which it is shown and changed.
    pub name: String,
    /// AE titles of peers.
    pub to: Vec<String>,
    /// Pattern of the calling AE title that it came from.
    pub calling: Option<String>,
    /// Pattern.
    pub modality: Option<String>,
    /// Pattern of the SOP Class UID.
    pub sop_class: Option<String>,
    /// Pattern of Station Name (0008,1010).
    pub station: Option<String>,
    /// Pattern of Institution Name (0008,0080).
    pub institution: Option<String>,
    /// Pattern of Study Description (0008,1030), or of Series Description (0008,103E).
    pub description: Option<String>,
    /// Pattern of Patient ID (0010,0020), as it is stored.
    pub patient_id: Option<String>,
    /// Study dates, `YYYYMMDD-YYYYMMDD`, also open on one side.
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
    #[serde(default)]
    pub rewrite: Option<Coerce>,
}

fn quiet_seconds() -> u64 {
    60
}

fn always() -> Window {
    Window::ALWAYS
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardWhen {
    /// When its study was quiet for a while.
    #[default]
    Study,
    /// Each as it comes.
    Instance,
}

/// (0000,0700), and who goes first to a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
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

/// A week.
const SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// Ten years.
const DAYS_MAX: u64 = 3_653;

impl Forward {
    /// The error is a sentence.
    pub(super) fn check(&self, peers: &[PeerEntry]) -> Result<(), String> {
        let known = |title: &str| {
            let is = |peer: &PeerEntry| peer.ae_title.as_str().eq_ignore_ascii_case(title.trim());
            peers.iter().any(is)
        };
        if let Some(title) = self.default.as_deref().filter(|title| !known(title)) {
            return Err(format!("[forward] default {title} is not a [[peer]]"));
        }
        at_most("[forward] keep_days", self.keep_days, DAYS_MAX)?;
        at_most("[forward] give_up_days", self.give_up_days, DAYS_MAX)?;
        for (key, seconds) in [
            ("retry_seconds", self.retry_seconds),
            ("retry_max_seconds", self.retry_max_seconds),
            ("probe_seconds", self.probe_seconds),
        ] {
            if !(1..=SECONDS_MAX).contains(&seconds) {
                return Err(format!(
                    "[forward] {key} is {seconds}; 1 to {SECONDS_MAX} are possible"
                ));
            }
        }
        for rule in &self.rules {
            let of = format!("[[forward.rule]] {}", rule.name);
            if let Some(title) = rule.to.iter().find(|title| !known(title)) {
                return Err(format!("{of}: {title} is not a [[peer]]"));
            }
        }
        Ok(())
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
