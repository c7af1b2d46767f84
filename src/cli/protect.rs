//! `kura protect`: studies that nobody removes or changes.

use super::output;
use super::remove::{Why, ask};
use super::{End, Failure};
use crate::archive::{Protection, RemovalSaid, RemovalVerb};
use crate::config::Config;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Protect {
    #[command(subcommand)]
    action: Option<Action>,
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    /// Lift the protection
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    why: Why,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Studies that are protected
    List,
}

pub fn run(verb: Protect, config: &Config, json: bool) -> Result<End, Failure> {
    if let Some(Action::List) = verb.action {
        let RemovalSaid::Protected(studies) = ask(config, RemovalVerb::Protected)? else {
            return Err("the server answered something else".into());
        };
        match json {
            true => output::json(&serde_json::json!({ "version": 1, "studies": studies })),
            false => output::line(&screen(&studies)),
        }
        return Ok(End::Ok);
    }
    let study = verb.study.clone();
    let study_instance_uid = study.ok_or("which study? Add: --study UID")?;
    let cause = verb.why.cause(None)?;
    let verb = match verb.off {
        false => RemovalVerb::Protect {
            study_instance_uid,
            cause,
        },
        true => RemovalVerb::Unprotect {
            study_instance_uid,
            cause,
        },
    };
    super::trash::done(ask(config, verb)?, json)
}

fn screen(studies: &[Protection]) -> String {
    let rows: Vec<Vec<String>> = studies
        .iter()
        .map(|study| {
            vec![
                output::plain(&study.patient_id),
                output::plain(&study.patient_name),
                output::plain(&study.study_date),
                study.instances_count.to_string(),
                study
                    .at
                    .chars()
                    .take(16)
                    .collect::<String>()
                    .replace('T', " "),
                output::plain(&study.who),
                study.study_instance_uid.clone(),
                output::plain(&study.why),
            ]
        })
        .collect();
    let header = [
        "PATIENT ID",
        "NAME",
        "DATE",
        "INSTANCES",
        "SINCE (UTC)",
        "BY",
        "STUDY INSTANCE UID",
        "WHY",
    ];
    match rows.is_empty() {
        true => "no study is protected\n".to_owned(),
        false => format!(
            "{} protected\n{}",
            studies.len(),
            output::table(&header, &rows)
        ),
    }
}
