//! `kura trash …`: what was removed, and until when it comes back.

use super::output;
use super::remove::{Why, ask, confirm, with_version};
use super::{End, Failure};
use crate::archive::{RemovalSaid, RemovalVerb, Thrown, TrashItem};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Trash {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// What was removed and is still kept
    List,
    /// Answer it again, as it was
    Restore {
        /// Number of the removal, as kura trash list shows it
        #[arg(required_unless_present = "study")]
        number: Option<u64>,
        /// All that was removed of this study
        #[arg(long, value_name = "UID", conflicts_with = "number")]
        study: Option<String>,
        /// Also when some of it is gone for good
        #[arg(long)]
        partly: bool,
        #[command(flatten)]
        why: Why,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Delete the files now; that cannot be taken back
    Empty {
        /// Number of the removal, as kura trash list shows it
        #[arg(required_unless_present_any = ["study", "all"])]
        number: Option<u64>,
        /// All that was removed of this study
        #[arg(long, value_name = "UID", conflicts_with = "number")]
        study: Option<String>,
        /// Everything in the trash
        #[arg(long, conflicts_with_all = ["number", "study"])]
        all: bool,
        #[command(flatten)]
        why: Why,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

fn thrown(number: Option<u64>, study: Option<String>) -> Thrown {
    match (number, study) {
        (Some(number), _) => Thrown::Number(number),
        (None, Some(study)) => Thrown::Study(study),
        (None, None) => Thrown::All,
    }
}

pub fn run(verb: Trash, config: &Config, json: bool) -> Result<End, Failure> {
    match verb.action {
        Action::List => {
            let items = list(config)?;
            match json {
                true => {
                    output::json(&serde_json::json!({ "version": 1, "items": items }));
                }
                false => output::line(&screen(&items)),
            }
            Ok(End::Ok)
        }
        Action::Restore {
            number,
            study,
            partly,
            why,
            yes,
        } => {
            let thrown = thrown(number, study);
            let cause = why.cause(Some("taken back"))?;
            if !yes {
                show_meant(config, &thrown, json)?;
                confirm("restore it")?;
            }
            let verb = RemovalVerb::Restore {
                thrown,
                cause,
                partly,
            };
            done(ask(config, verb)?, json)
        }
        Action::Empty {
            number,
            study,
            all: _,
            why,
            yes,
        } => {
            let thrown = thrown(number, study);
            let cause = why.cause(Some("emptied by hand"))?;
            if !yes {
                show_meant(config, &thrown, json)?;
                confirm("delete the files for good; that cannot be taken back")?;
            }
            done(ask(config, RemovalVerb::Empty { thrown, cause })?, json)
        }
    }
}

fn list(config: &Config) -> Result<Vec<TrashItem>, Failure> {
    match ask(config, RemovalVerb::Trash)? {
        RemovalSaid::Trash(items) => Ok(items),
        _ => Err("the server answered something else".into()),
    }
}

fn show_meant(config: &Config, thrown: &Thrown, json: bool) -> Result<(), Failure> {
    let mut items = list(config)?;
    items.retain(|item| match thrown {
        Thrown::Number(number) => item.number == *number,
        Thrown::Study(study) => item.study_instance_uids.contains(study),
        Thrown::All => true,
    });
    if !json {
        output::line(&screen(&items));
    }
    Ok(())
}

/// A sentence, or the same as an object.
pub fn done(said: RemovalSaid, json: bool) -> Result<End, Failure> {
    let RemovalSaid::Done { .. } = &said else {
        return Err("the server answered something else".into());
    };
    if let RemovalSaid::Done { said, numbers } = said {
        match json {
            true => output::json(&with_version(
                serde_json::json!({ "done": said, "numbers": numbers }),
            )),
            false => output::line(&said),
        }
    }
    Ok(End::Ok)
}

fn screen(items: &[TrashItem]) -> String {
    let bytes: u64 = items.iter().map(|item| item.bytes).sum();
    let instances: u64 = items.iter().map(|item| item.kept_count).sum();
    if items.is_empty() {
        return "the trash is empty\n".to_owned();
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                item.number.to_string(),
                item.level.to_lowercase(),
                output::plain(&item.patient_id),
                output::plain(&item.patient_name),
                output::plain(&item.study_date),
                item.kept_count.to_string(),
                output::bytes(item.bytes),
                item.at
                    .chars()
                    .take(16)
                    .collect::<String>()
                    .replace('T', " "),
                output::plain(&item.who),
                match (item.emptied, item.gone_on.is_empty()) {
                    (true, _) => "now".to_owned(),
                    (_, true) => "never".to_owned(),
                    _ => item.gone_on.clone(),
                },
                output::plain(&item.why),
            ]
        })
        .collect();
    let header = [
        "NUMBER",
        "LEVEL",
        "PATIENT ID",
        "NAME",
        "DATE",
        "INSTANCES",
        "SIZE",
        "REMOVED (UTC)",
        "BY",
        "GONE ON",
        "WHY",
    ];
    format!(
        "{instances} instances in the trash, {}\nback: kura trash restore NUMBER\n{}",
        output::bytes(bytes),
        output::table(&header, &rows)
    )
}
