//! `kura stats`: how much is in the archive.

use std::ops::ControlFlow;

use clap::ValueEnum;

use super::output;
use super::remove::with_version;
use super::{End, Failure};
use crate::archive::{StatsBy, StatsRow};
use crate::config::Config;
use crate::control::{Request, Response};

#[derive(clap::Args)]
pub struct Stats {
    /// A row for each modality, month (of the study date), station (Station Name) or volume
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Comma-separated values (RFC 4180) in UTF-8
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum By {
    Modality,
    Month,
    Station,
    Volume,
}

impl By {
    fn asked(self) -> StatsBy {
        match self {
            By::Modality => StatsBy::Modality,
            By::Month => StatsBy::Month,
            By::Station => StatsBy::Station,
            By::Volume => StatsBy::Volume,
        }
    }

    fn name(self) -> &'static str {
        match self {
            By::Modality => "modality",
            By::Month => "month",
            By::Station => "station",
            By::Volume => "volume",
        }
    }
}

pub fn run(verb: &Stats, config: &Config, json: bool) -> Result<End, Failure> {
    let request = Request::Stats(verb.by.map_or(StatsBy::All, By::asked));
    let mut bar: Option<output::Bar> = None;
    let mut last = None;
    super::ask_each(config, request, &mut |response| {
        match response {
            Response::Progress { done, total } => {
                let bar = bar.get_or_insert_with(|| output::Bar::new(total));
                bar.at(done, &format!("{done} of {total} studies"));
            }
            response => last = Some(response),
        }
        ControlFlow::Continue(())
    })?;
    if let Some(bar) = &bar {
        bar.end();
    }
    let stats = match last {
        Some(Response::Stats(stats)) => stats,
        Some(Response::Failed { reason }) => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    match (json, verb.csv) {
        (true, _) => {
            let mut value = with_version(serde_json::to_value(&stats)?);
            value["by"] = verb.by.map(By::name).into();
            output::json(&value);
        }
        (_, true) => output::bytes_as_they_are(&csv(&stats, verb.by)),
        _ => output::line(&screen(&stats, verb.by)),
    }
    match stats.rebuilding_percent {
        Some(percent) => {
            eprintln!(
                "warning: the index is being rebuilt, {percent} % done; this is what it knows so far"
            );
            Ok(End::Degraded)
        }
        None => Ok(End::Ok),
    }
}

fn screen(stats: &crate::archive::Stats, by: Option<By>) -> String {
    let all = &stats.all;
    let mut text = format!(
        "{} instances in {} series of {} studies of {} patients, {}\n",
        all.instances,
        all.series.unwrap_or_default(),
        all.studies,
        all.patients,
        output::bytes(all.bytes)
    );
    let Some(by) = by else {
        return text;
    };
    let heading = by.name().to_uppercase();
    let mut header = vec![&*heading, "PATIENTS", "STUDIES"];
    // An instance is on several volumes; a series is on parts of them.
    if by != By::Volume {
        header.push("SERIES");
    }
    header.extend(["INSTANCES", "BYTES"]);
    let rows: Vec<Vec<String>> = stats
        .groups
        .iter()
        .map(|group| {
            let name = match group.name.is_empty() {
                true => "(none)".to_owned(),
                false => output::plain(&group.name),
            };
            let mut row = vec![name, group.patients.to_string(), group.studies.to_string()];
            row.extend(group.series.map(|count| count.to_string()));
            row.extend([group.instances.to_string(), output::bytes(group.bytes)]);
            row
        })
        .collect();
    text.push_str(&output::table(&header, &rows));
    text
}

fn csv(stats: &crate::archive::Stats, by: Option<By>) -> String {
    let name = by.map_or("all", By::name);
    let header = [name, "patients", "studies", "series", "instances", "bytes"];
    let mut text = output::csv(&header.map(str::to_owned));
    let rows = match by {
        Some(_) => &stats.groups[..],
        None => std::slice::from_ref(&stats.all),
    };
    for row in rows {
        text.push_str(&output::csv(&cells(row)));
    }
    text
}

fn cells(row: &StatsRow) -> [String; 6] {
    [
        row.name.clone(),
        row.patients.to_string(),
        row.studies.to_string(),
        row.series.map_or_else(String::new, |c| c.to_string()),
        row.instances.to_string(),
        row.bytes.to_string(),
    ]
}
