//! `kura scrub …`: every file is read again; what was found, and all of it now.

use super::output;
use super::{End, Failure};
use crate::archive::{
    CheckedStatus, CopiesStatus, VolumeChecked, VolumeReport, WorkStatus, WorkVerb,
};
use crate::config::Config;
use crate::control::{Request, Response};

#[derive(clap::Args)]
pub struct Scrub {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// What was read again, when, and what was found
    Status,
    /// Read every file again, now and as fast as the disks go; Ctrl-C ends the waiting, kura equalize --cancel the work
    Run {
        /// Names of volumes; none: all that are here
        volumes: Vec<String>,
    },
}

struct Asked {
    checked: Box<CheckedStatus>,
    copies: Box<CopiesStatus>,
}

/// Events and names on the screen; JSON has more.
const LISTED_MAX: usize = 20;

pub fn run(verb: Scrub, config: &Config, json: bool) -> Result<End, Failure> {
    match verb.verb {
        Verb::Status => status(config, json),
        Verb::Run { volumes } => {
            let work = WorkVerb::Scrub { volumes };
            let done = super::equalize::wait(config, work)?;
            // What was known as bad before is not found again.
            let now = ask(config)?;
            ended(done, &now, json)
        }
    }
}

fn ask(config: &Config) -> Result<Asked, Failure> {
    let (response, _) = super::ask(config, Request::Checked)?;
    match response {
        Response::Checked { checked, copies } => Ok(Asked { checked, copies }),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn end(asked: &Asked) -> End {
    let status = &asked.checked;
    if asked.copies.lost_count > 0 {
        End::Lost
    } else if status.bad.bad_count > 0 || !status.bad.failing.is_empty() {
        End::Degraded
    } else {
        End::Ok
    }
}

fn status(config: &Config, json: bool) -> Result<End, Failure> {
    let status = ask(config)?;
    if json {
        let mut value = serde_json::to_value(&status.checked)?;
        value["version"] = 1.into();
        value["lost_count"] = status.copies.lost_count.into();
        output::json(&value);
    } else {
        output::line(&screen(&status, config.scrub.days));
    }
    Ok(end(&status))
}

/// The answer of `kura status` and `kura scrub status` in a line.
pub fn line(status: &CheckedStatus) -> String {
    let mut text = match &status.last_scrub_ended {
        Some(ended) => format!("{}, {} bad", minute(ended), status.last_scrub_bad_count),
        None => "not everything was read again yet".to_owned(),
    };
    if let Some(days) = status.oldest_unread_days {
        text.push_str(&format!("; longest unread {days} days"));
    }
    if status.not_verified_count > 0 {
        let count = status.not_verified_count;
        text.push_str(&format!("; {count} new copies not verified yet"));
    }
    if status.bad.bad_count > 0 {
        text.push_str(&format!(
            "; {} bad copies are not healed yet",
            status.bad.bad_count
        ));
    }
    text
}

fn screen(asked: &Asked, days: u64) -> String {
    let status = &asked.checked;
    let mut text = format!("scrub   {}\n", line(status));
    match days {
        0 => text.push_str("pace    never by itself ([scrub] days = 0)\n"),
        days => text.push_str(&format!("pace    every file within {days} days\n")),
    }
    for name in &status.bad.failing {
        text.push_str(&format!(
            "action  the disk of volume {name} fails: kura volume replace {name} NEWPATH\n"
        ));
    }
    if asked.copies.lost_count > 0 {
        text.push_str(&format!(
            "action  {} instances are lost: send them again from where they came; kura status names them\n",
            asked.copies.lost_count
        ));
    }
    let rows: Vec<Vec<String>> = status.volumes.iter().map(row).collect();
    text.push_str(&output::table(
        &[
            "VOLUME",
            "STATE",
            "ROUND",
            "DONE",
            "LAST ROUND",
            "FILES",
            "BAD",
            "UNREAD",
            "NOT VERIFIED",
            "FOREIGN",
        ],
        &rows,
    ));
    let events = &status.bad.events;
    if !events.is_empty() {
        let (found, healed) = (status.bad.found_count, status.bad.healed_count);
        text.push_str(&format!(
            "\nsince the start {found} bad copies, {healed} healed:\n"
        ));
    }
    for event in events.iter().rev().take(LISTED_MAX) {
        let healed = match &event.healed {
            Some(at) => format!("healed {}", minute(at)),
            None => "not healed yet".to_owned(),
        };
        text.push_str(&format!(
            "  {} {} {}: {}; {healed}\n",
            minute(&event.at),
            event.volume,
            output::plain(&event.path),
            output::plain(&event.why)
        ));
    }
    for volume in &status.volumes {
        let foreign = volume.last_round.iter().flat_map(|last| &last.foreign);
        for path in foreign.take(LISTED_MAX) {
            let path = output::plain(path);
            text.push_str(&format!(
                "volume {}: {path} has no line in the ledger\n",
                volume.name
            ));
        }
    }
    text
}

fn row(volume: &VolumeChecked) -> Vec<String> {
    let last = volume.last_round.as_ref();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let of_last =
        |of: fn(&crate::archive::LastRound) -> u64| or_dash(last.map(|last| of(last).to_string()));
    vec![
        volume.name.clone(),
        volume.state.clone(),
        volume.round.to_string(),
        or_dash(volume.percent.map(|percent| format!("{percent} %"))),
        or_dash(last.map(|last| minute(&last.ended))),
        of_last(|last| last.files),
        of_last(|last| last.bad),
        or_dash(volume.oldest_unread_days.map(|days| format!("{days} days"))),
        volume.not_verified_count.to_string(),
        of_last(|last| last.foreign_count),
    ]
}

/// `2026-11-15 02:10 UTC`
fn minute(time: &str) -> String {
    match time.get(..16) {
        Some(text) => format!("{} UTC", text.replace('T', " ")),
        None => output::plain(time),
    }
}

fn ended(status: WorkStatus, now: &Asked, json: bool) -> Result<End, Failure> {
    if json {
        super::equalize::print_json(&status)?;
    } else {
        output::line(&report(&status.volumes));
    }
    if let Some(error) = status.error {
        return Err(error.into());
    }
    let sum = |of: fn(&VolumeReport) -> u64| status.volumes.iter().map(of).sum::<u64>();
    Ok(match end(now) {
        _ if sum(|report| report.lost) > 0 => End::Lost,
        End::Ok if sum(|report| report.missing + report.wrong) > 0 => End::Degraded,
        end => end,
    })
}

fn report(volumes: &[VolumeReport]) -> String {
    let row = |report: &VolumeReport| {
        let counts = [
            report.files,
            report.ok,
            report.missing,
            report.wrong,
            report.lost,
        ];
        let mut row = vec![report.volume.clone()];
        row.extend(counts.map(|count| count.to_string()));
        row.push(report.extra.to_string());
        row
    };
    let rows: Vec<Vec<String>> = volumes.iter().map(row).collect();
    let header = [
        "VOLUME", "FILES", "OK", "MISSING", "WRONG", "LOST", "FOREIGN",
    ];
    let mut text = output::table(&header, &rows);
    for report in volumes {
        for finding in &report.findings {
            text.push_str(&format!(
                "{}: {}: {}\n",
                report.volume,
                output::plain(&finding.path),
                output::plain(&finding.reason)
            ));
        }
    }
    if volumes
        .iter()
        .any(|report| report.missing + report.wrong > report.lost)
    {
        text.push_str(
            "what has a good copy is healed from it while the server runs: kura scrub status\n",
        );
    }
    text
}
