//! `kura volume replace`: a new disk in the place of a dead one, waited for to the end.

use std::path::PathBuf;
use std::time::Duration;

use super::output::{self, Bar};
use super::{End, Failure};
use crate::archive::{Counted, ReplaceStatus, ReportVerb, VolumeVerb};
use crate::audit::Who;
use crate::config::Config;
use crate::control::{self, Request, Response};

#[derive(clap::Args)]
pub struct Replace {
    /// The volume whose disk is dead
    name: String,
    /// The new disk: an empty folder
    path: PathBuf,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
}

const LOOK_EVERY: Duration = Duration::from_millis(300);

pub fn run(verb: Replace, config: &Config, json: bool) -> Result<End, Failure> {
    let request = Request::Volume(VolumeVerb::Replace {
        name: verb.name.clone(),
        path: std::path::absolute(&verb.path)?,
        dry_run: verb.dry_run,
    });
    let waits = !verb.dry_run && !verb.no_wait;
    let Some(response) = control::ask(&config.state, &request)? else {
        let desk = super::open(config)?;
        let archive = &desk.archive;
        let first = look(control::answer(&desk, &Who::here(), request))?;
        if !waits {
            show(&first, json);
            return Ok(End::Ok);
        }
        begun(&first, json);
        let mut waiting = Waiting::new(&first);
        let last = archive.restore(&verb.name, &mut |status| waiting.at(status))?;
        waiting.bar.end();
        return end(&last, json, |request| {
            Ok(control::answer(&desk, &Who::here(), request))
        });
    };
    let first = look(response)?;
    if !waits {
        show(&first, json);
        return Ok(End::Ok);
    }
    begun(&first, json);
    let mut waiting = Waiting::new(&first);
    let gone = "the server stopped; run the same command again to go on";
    let ask = |request| -> Result<Response, Failure> {
        Ok(control::ask(&config.state, &request)?.ok_or(gone)?)
    };
    loop {
        let name = verb.name.clone();
        let status = look(ask(Request::Restoring { name })?)?;
        if !matches!(&*status.state, "running" | "unknown") {
            waiting.bar.end();
            return end(&status, json, ask);
        }
        waiting.at(&status);
        std::thread::sleep(LOOK_EVERY);
    }
}

fn look(response: Response) -> Result<ReplaceStatus, Failure> {
    match response {
        Response::Replace(status) => Ok(*status),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

/// On standard error: the result is what comes at the end.
fn begun(status: &ReplaceStatus, json: bool) {
    if !json {
        eprint!("{}", screen(status));
        eprintln!("Ctrl-C ends the waiting, not the work; the same command goes on waiting");
    }
}

struct Waiting {
    bar: Bar,
}

impl Waiting {
    fn new(first: &ReplaceStatus) -> Waiting {
        Waiting {
            bar: Bar::new(first.total.count),
        }
    }

    fn at(&mut self, status: &ReplaceStatus) {
        let done = status.total.count - status.todo.count;
        self.bar.at(done, &note(status));
    }
}

fn note(status: &ReplaceStatus) -> String {
    let total = status.total;
    let done = total.count - status.todo.count;
    let mut text = format!(
        "{done} of {} instances, {} of {}",
        total.count,
        output::bytes(total.bytes - status.todo.bytes),
        output::bytes(total.bytes)
    );
    if let Some(progress) = &status.progress {
        text += &format!(", {}/s", output::bytes(progress.bytes_per_second));
        if let Some(seconds) = progress.eta_seconds {
            text += &format!(", {} left", output::seconds(seconds));
        }
    }
    text
}

/// What there is to say when nothing goes on by itself any more.
fn end(
    status: &ReplaceStatus,
    json: bool,
    ask: impl Fn(Request) -> Result<Response, Failure>,
) -> Result<End, Failure> {
    let Some(name) = status.report.clone().filter(|_| status.state == "done") else {
        return Ok(show(status, json));
    };
    let request = Request::Report(ReportVerb::Show { name: Some(name) });
    let shown = match ask(request)? {
        Response::Report(shown) => shown,
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    match json {
        true => output::json(&shown.json),
        false => output::line(&shown.text),
    }
    let count = |field: &str| shown.json[field].as_u64().unwrap_or_default();
    Ok(match (count("lost_count"), count("suspect_count")) {
        (0, 0) => End::Ok,
        (0, _) => End::Degraded,
        _ => End::Lost,
    })
}

fn show(status: &ReplaceStatus, json: bool) -> End {
    match json {
        true => output::json(&serde_json::to_value(status).unwrap_or_default()),
        false => output::line(&screen(status)),
    }
    match status.state.as_str() {
        "blocked" | "paused" => End::Degraded,
        _ => End::Ok,
    }
}

fn screen(status: &ReplaceStatus) -> String {
    let mut text = format!("state      {}", status.state);
    if !status.reason.is_empty() {
        text += &format!(": {}", output::plain(&status.reason));
    }
    text += &format!(
        "\nvolume     {} ({}), new disk at {}",
        status.name, status.role, status.path
    );
    if let Some(room) = status.room_bytes {
        text += &format!(", {} free", output::bytes(room));
    }
    text.push('\n');
    if !status.old_names.is_empty() {
        text += &format!(
            "old disk   stays known as {}\n",
            status.old_names.join(", ")
        );
    }
    let line = |what: &str, counted: Counted, means: &str| {
        let bytes = output::bytes(counted.bytes);
        format!("{what:10} {} instances, {bytes}{means}\n", counted.count)
    };
    text += &line("listed", status.total, " on the old disk");
    if status.state != "planned" {
        text += &line("restored", status.restored, " on the new disk");
    }
    text += &line("to copy", status.todo, "");
    for from in &status.sources {
        let counted = Counted {
            count: from.count,
            bytes: from.bytes,
        };
        let away = if from.is_here { "" } else { ", which is away" };
        text += &line("", counted, &format!(" from volume {}{away}", from.volume));
    }
    text += &line(
        "elsewhere",
        status.elsewhere,
        " have what they need on other volumes",
    );
    text += &line("lost", status.lost, " have no other good copy");
    for warning in &status.warnings {
        text += &format!("warning    {}\n", output::plain(warning));
    }
    match status.state.as_str() {
        "planned" => text += "nothing was changed; without --dry-run it begins\n",
        "blocked" => {
            text += "it goes on by itself when that changes; the same command waits again\n"
        }
        _ => {}
    }
    text
}
