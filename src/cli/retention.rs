//! `kura retention …`: what leaves the volumes that received it, by rule.

use super::output;
use super::{End, Failure};
use crate::archive::{RetentionReport, RetentionStatus, WorkVerb};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Retention {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// The rules, what would leave by each now, and what stays because copies are missing; changes nothing
    Show,
    /// Do it now, whatever the hour; Ctrl-C ends the waiting, kura equalize --cancel the work
    Run {
        /// Remove; without it only what would leave is said
        #[arg(long)]
        yes: bool,
    },
}

/// Kept instances on the screen; JSON has more.
const LISTED_MAX: usize = 10;

pub fn run(verb: Retention, config: &Config, json: bool) -> Result<End, Failure> {
    let (dry_run, asked) = match verb.verb {
        Verb::Show => (true, false),
        Verb::Run { yes } => (!yes, true),
    };
    let status = super::equalize::wait(config, WorkVerb::Retention { dry_run })?;
    let Some(report) = status.retention else {
        let reason = status.error.unwrap_or("there is no report".to_owned());
        return Err(reason.into());
    };
    match json {
        true => output::json(&serde_json::to_value(&report)?),
        false => output::line(&screen(&report, config, asked)),
    }
    match status.error {
        Some(error) => Err(error.into()),
        None => Ok(End::Ok),
    }
}

/// The line of `kura status`.
pub fn line(status: &RetentionStatus) -> String {
    let rules = match status.rules_count {
        1 => "1 rule".to_owned(),
        count => format!("{count} rules"),
    };
    let mut text = format!("{rules}, {}", status.window);
    if status.running {
        text.push_str("; images are leaving now");
    }
    if let Some(ended) = &status.last_ended {
        text.push_str(&format!(
            "; last {ended}: {} instances left, {}",
            status.last_gone_count,
            output::bytes(status.last_gone_bytes)
        ));
        if status.last_kept_count > 0 {
            text.push_str(&format!(", {} stay for now", status.last_kept_count));
        }
    }
    text
}

fn screen(report: &RetentionReport, config: &Config, asked: bool) -> String {
    if report.rules.is_empty() {
        return "retain  nothing ever leaves: there is no [[retention.rule]] in kura.toml\n"
            .to_owned();
    }
    let (gone_count, gone_bytes) = report.sum(|rule| (rule.gone_count, rule.gone_bytes));
    let (kept_count, kept_bytes) = report.sum(|rule| (rule.kept_count, rule.kept_bytes));
    let (copied_count, copied_bytes) = report.sum(|rule| (rule.copied_count, rule.copied_bytes));
    let (gone, copied) = match report.dry_run {
        true => ("would leave", "of these get a copy elsewhere before"),
        false => ("left", "second copies were made elsewhere for that"),
    };
    let mut text = format!(
        "retain  {gone_count} instances {gone}, {}\n",
        output::bytes(gone_bytes)
    );
    if copied_count > 0 {
        text.push_str(&format!(
            "copies  {copied_count} {copied}, {}\n",
            output::bytes(copied_bytes)
        ));
    }
    if kept_count > 0 {
        text.push_str(&format!(
            "stay    {kept_count} instances, {}\n",
            output::bytes(kept_bytes)
        ));
    }
    text.push_str(&match (report.dry_run, asked) {
        (true, true) => {
            "action  nothing was removed; to do it: kura retention run --yes\n".to_owned()
        }
        (true, false) => format!(
            "when    {}, while the server runs; now: kura retention run --yes\n",
            config.retention.window
        ),
        (false, _) if report.name.is_empty() => String::new(),
        (false, _) => format!("report  kura report show {}\n", report.name),
    });
    for note in &report.notes {
        text.push_str(&format!("note    {}\n", output::plain(note)));
    }
    let rows: Vec<Vec<String>> = report
        .rules
        .iter()
        .map(|rule| {
            vec![
                rule.number.to_string(),
                rule.volumes.join(", "),
                rule.due_count.to_string(),
                output::bytes(rule.due_bytes),
                rule.oldest
                    .as_deref()
                    .map_or("-", |at| at.get(..10).unwrap_or(at))
                    .to_owned(),
                rule.gone_count.to_string(),
                rule.kept_count.to_string(),
                output::plain(&rule.rule),
            ]
        })
        .collect();
    let gone = if report.dry_run { "WOULD GO" } else { "GONE" };
    text.push_str(&output::table(
        &[
            "RULE", "VOLUMES", "FIT", "BYTES", "OLDEST", gone, "STAY", "TAKES",
        ],
        &rows,
    ));
    for (reason, count) in &report.reasons {
        text.push_str(&format!("\n{count} stay: {}", output::plain(reason)));
    }
    if !report.reasons.is_empty() {
        text.push('\n');
    }
    for kept in report.kept.iter().take(LISTED_MAX) {
        text.push_str(&format!(
            "  volume {} {}: {}\n",
            kept.volume,
            output::plain(&kept.sop_instance_uid),
            output::plain(&kept.why)
        ));
    }
    text
}
