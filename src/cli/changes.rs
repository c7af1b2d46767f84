//! `kura changes`: who changed what, when and why.

use super::amend::rows;
use super::find::keyword;
use super::output;
use super::{End, Failure};
use crate::archive::{ChangesVerb, Correction};
use crate::config::Config;
use crate::control::{Request, Response};
use crate::index::Values;

#[derive(clap::Args)]
pub struct Changes {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// All changes, the newest first
    List {
        /// Only those of this study
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// Only those made or taken back since this day, UTC
        #[arg(long, value_name = "YYYY-MM-DD")]
        since: Option<String>,
        /// Shown at most
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        most: usize,
    },
    /// One change, before and after
    Show { number: u64 },
}

pub fn run(verb: Changes, config: &Config, json: bool) -> Result<End, Failure> {
    match verb.action {
        Action::List { study, since, most } => {
            let since = since.map(|text| day(&text)).transpose()?;
            let changes = ask(config, ChangesVerb::List { study, since, most })?;
            match json {
                true => {
                    let all: Vec<_> = changes.iter().map(as_json).collect();
                    output::json(&serde_json::json!({ "version": 1, "changes": all }));
                }
                false => output::line(&list(&changes)),
            }
        }
        Action::Show { number } => {
            let changes = ask(config, ChangesVerb::Show { number })?;
            let change = changes.first().ok_or("the server answered nothing")?;
            match json {
                true => output::json(&with_version(change)),
                false => output::line(&screen(change)),
            }
        }
    }
    Ok(End::Ok)
}

fn ask(config: &Config, verb: ChangesVerb) -> Result<Vec<Correction>, Failure> {
    match super::ask(config, Request::Changes(verb))?.0 {
        Response::Changes(changes) => Ok(changes),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn day(text: &str) -> Result<String, Failure> {
    let day: jiff::civil::Date = text
        .parse()
        .map_err(|_| format!("{text} is not a day, such as 2026-11-21"))?;
    Ok(day.to_string())
}

fn list(changes: &[Correction]) -> String {
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            let state = match change.in_effect {
                true => "in effect",
                false => "taken back",
            };
            let cells = [
                change.at.get(..19).unwrap_or(&change.at),
                &change.did,
                state,
                &change.level,
                change.of.first().map_or("", String::as_str),
                &change.who,
                &change.why,
            ];
            let mut row = vec![change.number.to_string()];
            row.extend(cells.map(output::plain));
            row.insert(5, change.instances_count.to_string());
            row
        })
        .collect();
    let header = [
        "NUMBER",
        "AT (UTC)",
        "WHAT",
        "STATE",
        "LEVEL",
        "INSTANCES",
        "OF",
        "WHO",
        "WHY",
    ];
    format!(
        "{} changes\n{}",
        changes.len(),
        output::table(&header, &rows)
    )
}

pub fn screen(change: &Correction) -> String {
    let plain = output::plain;
    let state = match (change.in_effect, &change.last) {
        (true, None) => "in effect".to_owned(),
        (true, Some(last)) => format!(
            "in effect again since {}, by {}: {}",
            plain(&last.at),
            plain(&last.who),
            plain(&last.why)
        ),
        (false, None) => "not in effect".to_owned(),
        (false, Some(last)) => format!(
            "taken back {}, by {}: {}",
            plain(&last.at),
            plain(&last.who),
            plain(&last.why)
        ),
    };
    let mut text = format!(
        "change   {}: {}, {}\nmade     {}, by {} ({}): {}\nof       {} {}\nstudies  {}\ncounts   {} instances\nkept on  {}\n",
        change.number,
        plain(&change.did),
        state,
        plain(&change.at),
        plain(&change.who),
        plain(&change.way),
        plain(&change.why),
        plain(&change.level),
        plain(&change.of.join(", ")),
        plain(&change.studies.join(", ")),
        change.instances_count,
        plain(&change.volumes.join(", ")),
    );
    if !(change.before.is_empty() && change.after.is_empty()) {
        text += &output::table(
            &["", "BEFORE", "AFTER"],
            &rows(&change.before, &change.after),
        );
    }
    text
}

/// By keyword; an empty text is no value.
pub fn values_json(values: &Values) -> serde_json::Value {
    values
        .iter()
        .map(|(tag, text)| (keyword(*tag), serde_json::Value::from(text.clone())))
        .collect()
}

pub fn as_json(change: &Correction) -> serde_json::Value {
    let mut value = serde_json::to_value(change).unwrap_or_default();
    value["before"] = values_json(&change.before);
    value["after"] = values_json(&change.after);
    value
}

pub fn with_version(change: &Correction) -> serde_json::Value {
    let mut value = as_json(change);
    value["version"] = 1.into();
    value
}
