//! `kura equalize`, `kura volume check`: what index, ledgers and disks say of each other; and waiting for long work.

use std::time::Duration;

use super::output::{self, Bar};
use super::{End, Failure};
use crate::archive::{Depth, VolumeReport, WorkStatus, WorkVerb};
use crate::audit::Who;
use crate::config::Config;
use crate::control::{self, Request, Response};

#[derive(clap::Args)]
pub struct Equalize {
    /// Names of volumes; none: all that are here
    volumes: Vec<String>,
    #[command(flatten)]
    depth: Depths,
    /// Stop the work that is under way in the server; run it again to go on
    #[arg(long, conflicts_with_all = ["volumes", "deep", "checksums"])]
    cancel: bool,
}

#[derive(clap::Args)]
pub struct Depths {
    /// Also read the beginning of each file and compare its UIDs
    #[arg(long)]
    deep: bool,
    /// Also read every byte and compare both checksums (and all that --deep does)
    #[arg(long)]
    checksums: bool,
}

impl Depths {
    fn depth(&self) -> Depth {
        match (self.checksums, self.deep) {
            (true, _) => Depth::Checksums,
            (_, true) => Depth::Headers,
            _ => Depth::Names,
        }
    }
}

pub fn run(verb: &Equalize, config: &Config, json: bool) -> Result<End, Failure> {
    if verb.cancel {
        return cancel(config, json);
    }
    let work = WorkVerb::Equalize {
        volumes: verb.volumes.clone(),
        depth: verb.depth.depth(),
        repair: true,
    };
    end(wait(config, work)?, json)
}

pub fn check(
    volumes: Vec<String>,
    depth: &Depths,
    config: &Config,
    json: bool,
) -> Result<End, Failure> {
    let work = WorkVerb::Equalize {
        volumes,
        depth: depth.depth(),
        repair: false,
    };
    end(wait(config, work)?, json)
}

fn cancel(config: &Config, json: bool) -> Result<End, Failure> {
    let said = match control::ask(&config.state, &Request::Work(WorkVerb::Cancel))? {
        Some(Response::Work(Some(status))) if status.running => "it stops",
        Some(Response::Work(_)) => "nothing is under way",
        Some(Response::Failed { reason }) => return Err(reason.into()),
        Some(_) => return Err("the server answered something else".into()),
        None => "no server is running",
    };
    match json {
        true => output::json(&serde_json::json!({ "version": 1, "done": said })),
        false => output::line(said),
    }
    Ok(End::Ok)
}

/// Has the work done, by the running server or here, and waits for its end with progress. Ctrl-C ends the waiting; a
/// server goes on.
pub fn wait(config: &Config, work: WorkVerb) -> Result<WorkStatus, Failure> {
    let look = |response: Response| match response {
        Response::Work(Some(status)) => Ok(*status),
        Response::Failed { reason } => Err(Failure::from(reason)),
        _ => Err("the server answered something else".into()),
    };
    if let Some(response) = control::ask(&config.state, &Request::Work(work.clone()))? {
        look(response)?;
        return progress(|| {
            let asked = control::ask(&config.state, &Request::Work(WorkVerb::Look))?;
            look(asked.ok_or("the server stopped; run the same command again to go on")?)
        });
    }
    let desk = super::open(config)?;
    look(control::answer(&desk, &Who::here(), Request::Work(work)))?;
    progress(|| {
        look(control::answer(
            &desk,
            &Who::here(),
            Request::Work(WorkVerb::Look),
        ))
    })
}

fn progress(
    mut status: impl FnMut() -> Result<WorkStatus, Failure>,
) -> Result<WorkStatus, Failure> {
    let mut bar = Bar::new(1);
    let mut step = String::new();
    let mut begun = std::time::Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let now = status()?;
        if !now.running {
            bar.end();
            return Ok(now);
        }
        if now.step != step {
            step.clone_from(&now.step);
            bar = Bar::new(now.total_count);
            begun = std::time::Instant::now();
        }
        let seconds = begun.elapsed().as_secs_f64().max(0.1);
        let rate = now.done_count as f64 / seconds;
        let bytes = (now.done_bytes as f64 / seconds) as u64;
        let mut note = format!(
            "{}: {} of {} files, {rate:.0}/s",
            output::plain(&step),
            now.done_count,
            now.total_count.max(now.done_count)
        );
        if bytes > 0 {
            note.push_str(&format!(", {}/s", output::bytes(bytes)));
        }
        bar.at(now.done_count.min(now.total_count.max(1)), &note);
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The whole status, as one object.
pub fn print_json(status: &WorkStatus) -> Result<(), Failure> {
    let mut value = serde_json::to_value(status)?;
    value["version"] = 1.into();
    // How it was asked for, between the parts of this program.
    if let Some(object) = value.as_object_mut() {
        object.remove("what");
    }
    output::json(&value);
    Ok(())
}

fn end(status: WorkStatus, json: bool) -> Result<End, Failure> {
    if json {
        print_json(&status)?;
    } else {
        output::line(&screen(&status.volumes));
    }
    if let Some(error) = status.error {
        return Err(error.into());
    }
    let well = |report: &VolumeReport| report.missing + report.wrong + report.extra == 0;
    Ok(match status.volumes.iter().all(well) {
        true => End::Ok,
        false => End::Degraded,
    })
}

fn screen(volumes: &[VolumeReport]) -> String {
    let rows: Vec<Vec<String>> = volumes
        .iter()
        .map(|report| {
            let mut row = vec![report.volume.clone()];
            row.extend(
                [
                    report.files,
                    report.ok,
                    report.missing,
                    report.wrong,
                    report.extra,
                    report.added,
                ]
                .map(|count| count.to_string()),
            );
            row
        })
        .collect();
    let mut text = output::table(
        &[
            "VOLUME", "FILES", "OK", "MISSING", "WRONG", "EXTRA", "ADDED",
        ],
        &rows,
    );
    for report in volumes {
        for note in &report.notes {
            text.push_str(&format!("{}: {}\n", report.volume, output::plain(note)));
        }
        for finding in &report.findings {
            text.push_str(&format!(
                "{}: {} {}: {}\n",
                report.volume,
                finding.kind,
                output::plain(&finding.path),
                output::plain(&finding.reason)
            ));
        }
        let all = report.missing + report.wrong + report.extra;
        let rest = all.saturating_sub(report.findings.len() as u64);
        if rest > 0 {
            text.push_str(&format!("{}: and {rest} more\n", report.volume));
        }
    }
    text
}
