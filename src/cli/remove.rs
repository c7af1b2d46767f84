//! `kura remove`: a study, series or instance to the trash.

use std::io::{BufRead, IsTerminal, Write};

use super::output;
use super::{End, Failure};
use crate::archive::{Cause, Chosen, Removal, RemovalSaid, RemovalVerb};
use crate::config::Config;
use crate::control::{Request, Response};

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    /// Series Instance UID
    #[arg(long, value_name = "UID")]
    series: Option<String>,
    /// SOP Instance UID
    #[arg(long, value_name = "UID")]
    instance: Option<String>,
}

impl Which {
    fn chosen(&self) -> Result<Chosen, Failure> {
        match (&self.study, &self.series, &self.instance) {
            (Some(uid), ..) => Ok(Chosen::Study(uid.clone())),
            (_, Some(uid), _) => Ok(Chosen::Series(uid.clone())),
            (.., Some(uid)) => Ok(Chosen::Instance(uid.clone())),
            _ => Err("which one? --study UID, --series UID or --instance UID".into()),
        }
    }
}

/// Who and why, as every change asks for it.
#[derive(clap::Args)]
pub struct Why {
    /// Why: it is kept with the change
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who wants it [default: the user of this command]
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
}

impl Why {
    /// `by_default`: where a reason may be left out.
    pub fn cause(&self, by_default: Option<&str>) -> Result<Cause, Failure> {
        let why = match (&self.reason, by_default) {
            (Some(text), _) => text.trim().to_owned(),
            (None, Some(text)) => text.to_owned(),
            (None, None) => {
                return Err(
                    "a change needs a reason; nothing was changed. Add: --reason TEXT".into(),
                );
            }
        };
        let user = || {
            let names = ["SUDO_USER", "USER", "LOGNAME"];
            let mut known = names.iter().filter_map(|name| std::env::var(name).ok());
            known.find(|name| !name.is_empty())
        };
        let who = self.who.clone().or_else(user);
        // Under cron or a service manager there may be no name.
        let who = who.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()));
        Ok(Cause::command_line(who, why))
    }
}

#[derive(clap::Args)]
pub struct Remove {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    why: Why,
    /// Show what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub fn run(verb: &Remove, config: &Config, json: bool) -> Result<End, Failure> {
    let chosen = verb.which.chosen()?;
    if verb.dry_run || !verb.yes {
        let shown = removal(ask(
            config,
            RemovalVerb::Show {
                chosen: chosen.clone(),
            },
        )?)?;
        if verb.dry_run {
            show(&shown, json);
            return Ok(End::Ok);
        }
        verb.why.cause(None)?;
        if !json {
            output::line(&screen(&shown));
        }
        confirm("remove it")?;
    }
    let cause = verb.why.cause(None)?;
    let removed = removal(ask(config, RemovalVerb::Remove { chosen, cause })?)?;
    show(&removed, json);
    Ok(End::Ok)
}

/// Asks on a terminal; elsewhere nobody can answer.
pub fn confirm(what: &str) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(
            "nobody is there to be asked; nothing was changed. To do it without asking: --yes"
                .into(),
        );
    }
    eprint!("{what}? Type yes: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    match answer.trim().eq_ignore_ascii_case("yes") {
        true => Ok(()),
        false => Err("not confirmed; nothing was changed".into()),
    }
}

pub fn ask(config: &Config, verb: RemovalVerb) -> Result<RemovalSaid, Failure> {
    match super::ask(config, Request::Removal(verb))?.0 {
        Response::Removal(said) => Ok(*said),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn removal(said: RemovalSaid) -> Result<Removal, Failure> {
    match said {
        RemovalSaid::Removal(removal) => Ok(*removal),
        _ => Err("the server answered something else".into()),
    }
}

/// `value` is an object; scripts look at the version first.
pub fn with_version(value: serde_json::Value) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    object.insert("version".to_owned(), 1.into());
    if let serde_json::Value::Object(members) = value {
        object.extend(members);
    }
    serde_json::Value::Object(object)
}

fn show(removal: &Removal, json: bool) {
    match json {
        true => output::json(&with_version(
            serde_json::to_value(removal).unwrap_or_default(),
        )),
        false => output::line(&screen(removal)),
    }
}

fn screen(removal: &Removal) -> String {
    let level = match &*removal.level {
        "SERIES" => "series",
        "IMAGE" => "instance",
        _ => "study",
    };
    let mut text = match removal.number {
        Some(number) => format!("removed {level} {}, change {number}\n", removal.uid),
        None => format!("remove  {level} {}\n", removal.uid),
    };
    let described = [
        &removal.patient_id,
        &removal.patient_name,
        &removal.study_date,
        &removal.modalities.join(","),
        &removal.study_description,
    ];
    let described: Vec<String> = described
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| output::plain(text))
        .collect();
    text.push_str(&format!("of      {}\n", described.join("  ")));
    text.push_str(&format!(
        "what    {} instances in {} series, {} in {} files\n",
        removal.instances_count,
        removal.series_count,
        output::bytes(removal.bytes),
        removal.files_count
    ));
    if removal.others_count > 0 {
        text.push_str(&format!(
            "also    {} variants and conflicts kept beside them\n",
            removal.others_count
        ));
    }
    for study in &removal.appears_in {
        text.push_str(&format!(
            "note    study {study} has other images under the same UIDs: they are answered then\n"
        ));
    }
    let until = match removal.until.is_empty() {
        true => "for ever ([corrections] trash_days = 0)".to_owned(),
        false => removal.until.clone(),
    };
    text.push_str(&match removal.number {
        Some(number) => format!("until   {until}; until then: kura trash restore {number}\n"),
        None => format!("until   {until} it stays in the trash, and can be restored\n"),
    });
    let rows: Vec<Vec<String>> = removal
        .volumes
        .iter()
        .map(|volume| {
            vec![
                volume.name.clone(),
                if volume.is_here { "here" } else { "away" }.to_owned(),
                volume.files_count.to_string(),
                output::bytes(volume.bytes),
            ]
        })
        .collect();
    text.push_str(&output::table(&["VOLUME", "STATE", "FILES", "SIZE"], &rows));
    text
}
