//! `kura forward rules`, `add-rule` and `remove-rule`.

use std::path::PathBuf;

use super::output;
use super::{End, Failure, peer};
use crate::config::{Coerce, Config, ForwardPriority, ForwardRule, ForwardWhen};
use crate::forward::setup::{SetupVerb, Shown};
use crate::job::Window;

/// What fits everything that is given goes to all of these peers
#[derive(clap::Args)]
pub struct AddRule {
    /// By which it is shown and removed: letters, digits, - and _
    name: String,
    /// AE titles of peers; may be given several times
    #[arg(long, required = true, value_name = "PEER", num_args = 1.., value_delimiter = ',')]
    to: Vec<String>,
    /// The calling AE title that it came from (* is any run of characters, ? is one; also below)
    #[arg(long, value_name = "PATTERN")]
    calling: Option<String>,
    #[arg(long, value_name = "PATTERN")]
    modality: Option<String>,
    /// SOP Class UID
    #[arg(long, value_name = "PATTERN")]
    sop_class: Option<String>,
    /// Station Name
    #[arg(long, value_name = "PATTERN")]
    station: Option<String>,
    /// Institution Name
    #[arg(long, value_name = "PATTERN")]
    institution: Option<String>,
    /// Description of the study or of the series
    #[arg(long, value_name = "PATTERN")]
    description: Option<String>,
    /// Patient ID, as it is stored
    #[arg(long, value_name = "PATTERN")]
    patient_id: Option<String>,
    /// YYYYMMDD-YYYYMMDD, also open on one side
    #[arg(long, value_name = "DATES", allow_hyphen_values = true)]
    study_date: Option<String>,
    /// Each instance at once, not when its study was quiet for a while
    #[arg(long)]
    at_once: bool,
    /// So long nothing came for the study
    #[arg(long, value_name = "SECONDS", conflicts_with = "at_once")]
    quiet_seconds: Option<u64>,
    /// Only then, such as 21:00-06:00
    #[arg(long, value_name = "HH:MM-HH:MM")]
    window: Option<Window>,
    /// Who goes first: high, medium or low
    #[arg(long, value_enum)]
    priority: Option<PriorityName>,
    /// Patient ID there: without zeros at its beginning
    #[arg(long)]
    strip_zeros: bool,
    /// Patient ID there: by the lines old,new of this file; what it does not name is not sent
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Patient ID there: with zeros in front, so many characters
    #[arg(long, value_name = "COUNT")]
    pad: Option<usize>,
    /// Patient ID there: with this in front
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Patient ID there: with this behind
    #[arg(long, value_name = "TEXT")]
    suffix: Option<String>,
    /// Issuer of Patient ID there
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PriorityName {
    High,
    Medium,
    Low,
}

pub fn add(verb: AddRule, config: &Config, json: bool) -> Result<End, Failure> {
    let mut rewrite = Coerce {
        strip_zeros: verb.strip_zeros,
        pad: verb.pad.unwrap_or_default(),
        prefix: verb.prefix.unwrap_or_default(),
        suffix: verb.suffix.unwrap_or_default(),
        issuer: verb.issuer,
        ..Coerce::default()
    };
    if let Some(map) = verb.map {
        // From here, not from where the configuration is.
        rewrite.map = Some(std::path::absolute(map)?);
    }
    let mut rule = ForwardRule::new(verb.name, verb.to);
    rule.calling = verb.calling;
    rule.modality = verb.modality;
    rule.sop_class = verb.sop_class;
    rule.station = verb.station;
    rule.institution = verb.institution;
    rule.description = verb.description;
    rule.patient_id = verb.patient_id;
    rule.study_date = verb.study_date;
    rule.quiet_seconds = verb.quiet_seconds.unwrap_or(rule.quiet_seconds);
    rule.window = verb.window.unwrap_or(rule.window);
    if verb.at_once {
        rule.when = ForwardWhen::Instance;
    }
    rule.priority = match verb.priority {
        Some(PriorityName::High) => ForwardPriority::High,
        Some(PriorityName::Low) => ForwardPriority::Low,
        Some(PriorityName::Medium) | None => ForwardPriority::Medium,
    };
    rule.rewrite = (rewrite != Coerce::default()).then_some(rewrite);
    let rule = Box::new(rule);
    peer::done(config, SetupVerb::AddRule { rule }, json)
}

pub fn list(config: &Config, json: bool) -> Result<End, Failure> {
    let shown = peer::shown(config)?;
    match json {
        true => output::json(
            &serde_json::json!({ "version": 1, "rules": shown.rules, "default": shown.default }),
        ),
        false => output::line(&screen(&shown)),
    }
    Ok(End::Ok)
}

fn screen(shown: &Shown) -> String {
    let default = match &shown.default {
        Some(peer) => format!("what no rule takes goes to {}", output::plain(peer)),
        None => "what no rule takes stays here".to_owned(),
    };
    if shown.rules.is_empty() {
        return format!(
            "no rules; {default}\naction  kura forward add-rule NAME --to PEER --modality CT\n"
        );
    }
    let header = ["RULE", "TO", "WHEN", "PRIORITY", "PATIENT ID", "TAKES"];
    let rows: Vec<_> = shown.rules.iter().map(row).collect();
    format!(
        "{} rules; {default}\n{}",
        rows.len(),
        output::table(&header, &rows)
    )
}

fn row(rule: &ForwardRule) -> Vec<String> {
    let mut when = match rule.when {
        ForwardWhen::Study => format!(
            "{} after its last image",
            output::seconds(rule.quiet_seconds)
        ),
        ForwardWhen::Instance => "each at once".to_owned(),
    };
    if rule.window != Window::ALWAYS {
        when.push_str(&format!(", {}", rule.window));
    }
    let priority = match rule.priority {
        ForwardPriority::High => "high",
        ForwardPriority::Medium => "medium",
        ForwardPriority::Low => "low",
    };
    vec![
        rule.name.clone(),
        rule.to.join(", "),
        when,
        priority.to_owned(),
        rule.rewrite.as_ref().map_or("as it is".to_owned(), steps),
        output::plain(&rule.to_string()),
    ]
}

/// What becomes of a Patient ID, in the order of the steps.
fn steps(rewrite: &Coerce) -> String {
    let mut steps = Vec::new();
    if rewrite.strip_zeros {
        steps.push("no zeros in front".to_owned());
    }
    if let Some(map) = &rewrite.map {
        steps.push(format!("by {}", map.display()));
    }
    if rewrite.pad > 0 {
        steps.push(format!("{} characters", rewrite.pad));
    }
    if !rewrite.prefix.is_empty() || !rewrite.suffix.is_empty() {
        steps.push(format!("{}…{}", rewrite.prefix, rewrite.suffix));
    }
    if let Some(issuer) = &rewrite.issuer {
        steps.push(format!("of {issuer}"));
    }
    output::plain(&steps.join(", "))
}
