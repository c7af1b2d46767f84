//! `kura audit`: who asked for which change, and whether the lines are as they were written.

use super::output;
use super::{End, Failure};
use crate::audit::{self, Change, Verified};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// All changes, the newest first
    List {
        /// Words that are all in the line: of a name, an address, a verb, a UID
        text: Vec<String>,
        /// Only those since this day, UTC
        #[arg(long, value_name = "YYYY-MM-DD")]
        since: Option<jiff::civil::Date>,
        /// Shown at most; 0: all
        #[arg(long, default_value_t = 100, value_name = "N")]
        most: usize,
    },
    /// Reads every line again: was one changed, taken out or put in?
    Verify,
}

pub fn run(verb: Audit, config: &Config, json: bool) -> Result<End, Failure> {
    match verb.action {
        Action::List { text, since, most } => {
            let words: Vec<String> = text.iter().map(|word| word.to_lowercase()).collect();
            let since = since.map(|day| day.to_string()).unwrap_or_default();
            let most = if most == 0 { usize::MAX } else { most };
            let changes = audit::list(&config.state, most, &mut |change| {
                let parts = [&*change.who, &change.from, &change.what, &change.outcome];
                let all = parts.join("\n").to_lowercase();
                change.at >= since && words.iter().all(|word| all.contains(word))
            })?;
            match json {
                true => output::json(&serde_json::json!({ "version": 1, "changes": changes })),
                false => output::line(&list(&changes)),
            }
            Ok(End::Ok)
        }
        Action::Verify => {
            let verified = audit::verify(&config.state)?;
            match json {
                true => output::json(&super::remove::with_version(serde_json::to_value(
                    &verified,
                )?)),
                false => output::line(&screen(&verified)),
            }
            Ok(match verified.faults_count {
                0 => End::Ok,
                _ => End::Degraded,
            })
        }
    }
}

fn list(changes: &[Change]) -> String {
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            let cells = [
                change.at.get(..19).unwrap_or(&change.at),
                &change.who,
                &change.from,
                &change.what,
                &change.outcome,
            ];
            cells.map(output::plain).to_vec()
        })
        .collect();
    let header = ["AT (UTC)", "WHO", "FROM", "WHAT", "OUTCOME"];
    format!(
        "{} changes\n{}",
        changes.len(),
        output::table(&header, &rows)
    )
}

fn screen(verified: &Verified) -> String {
    let mut text = match (verified.faults_count, verified.lines_count) {
        (0, 0) => "nothing was noted yet\n".to_owned(),
        (0, lines) => format!(
            "{lines} lines, all as they were written\nfrom    {} to {}\n",
            verified.first, verified.last
        ),
        (faults, lines) => format!(
            "{faults} of {lines} lines are not as they were written\naction  the log of the server has the digest of each line, and a backup the lines themselves\n"
        ),
    };
    for fault in &verified.faults {
        text.push_str(&format!("fault   {}\n", output::plain(fault)));
    }
    for note in &verified.notes {
        text.push_str(&format!("note    {}\n", output::plain(note)));
    }
    if !verified.last_digest.is_empty() {
        text.push_str(&format!(
            "last    {}\n        written down elsewhere, it tells later whether lines were cut off at the end\n",
            verified.last_digest
        ));
    }
    text
}
