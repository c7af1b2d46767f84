//! `kura pull`: studies from another archive to here.

use std::time::Duration;

use super::find::asked;
use super::output::{self, Bar};
use super::{End, Failure};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::job::Window;
use crate::pull::{PullStatus, PullVerb};

const EXAMPLES: &str = "\
Examples:
  kura pull --from CONQUEST PatientID=4711
  kura pull --from CONQUEST StudyInstanceUID=1.2.392.200036.9116.2
  kura pull --from CONQUEST StudyDate=20200101-20201231 --window 19:00-07:00
  kura pull --from OLDPACS@192.168.1.5:5678 --all --pause-seconds 2
  kura pull --resume

The server does the work: Ctrl-C ends only the watching. What is here already is not sent again. A pull that a crash or
a restart of the server interrupts goes on by itself. At the end a report compares both sides: kura report show.
Exit codes: 0 everything is here; 1 something is missing; 3 it could not be done.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Pull {
    /// The other archive: AE title of a configured peer, or AE@HOST:PORT
    #[arg(long, value_name = "PEER", required_unless_present = "resume")]
    from: Option<String>,
    /// Which studies, KEYWORD=VALUE, as kura find takes them
    #[arg(value_name = "KEY=VALUE", required_unless_present_any = ["all", "resume"])]
    keys: Vec<String>,
    /// Everything that it has
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Over the same association (C-GET), where the other archive cannot be told who we are
    #[arg(long)]
    get: bool,
    /// Pause between two studies
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pause_seconds: u64,
    /// Studies are begun only in this part of the day: 19:00-07:00
    #[arg(long, value_name = "HH:MM-HH:MM")]
    window: Option<Window>,
    /// Go on with the last one, and try again what failed
    #[arg(long, conflicts_with_all = ["from", "keys", "all", "get", "pause_seconds", "window"])]
    resume: bool,
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// How far it is, or how the last one ended
    Status,
    /// End it; what came stays, and --resume goes on
    Cancel,
}

pub fn run(verb: Pull, config: &Config, json: bool) -> Result<End, Failure> {
    let request = match verb.action {
        Some(Action::Status) => PullVerb::Look,
        Some(Action::Cancel) => PullVerb::Cancel,
        None if verb.resume => PullVerb::Resume,
        None => PullVerb::Start {
            from: verb.from.unwrap_or_default(),
            keys: keys(&verb.keys)?,
            get: verb.get,
            pause_seconds: verb.pause_seconds,
            window: verb.window,
        },
    };
    let waits = !verb.no_wait && verb.action.is_none();
    let mut status = match request {
        PullVerb::Look => status_of(super::ask(config, Request::Pull(request))?.0)?,
        request => asked_of_server(config, request)?,
    };
    if waits {
        status = watch(config, status)?;
    }
    let failed = status.error.clone().filter(|_| waits);
    if json && failed.is_none() {
        let mut value = serde_json::to_value(&status)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("version".to_owned(), 1.into());
        }
        output::json(&value);
    } else if !json {
        output::line(&screen(&status));
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(match status.studies_incomplete {
        0 => End::Ok,
        _ => End::Degraded,
    })
}

fn keys(texts: &[String]) -> Result<Vec<(u32, String)>, Failure> {
    let mut keys: Vec<(u32, String)> = Vec::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text} has no value; expected KEYWORD=VALUE"))?;
        let attribute = asked::Attribute::read(name)?;
        if attribute.within.is_some() {
            return Err(format!("{name} is in a sequence; no archive is searched by that").into());
        }
        if keys.iter().any(|(tag, _)| *tag == attribute.tag) {
            return Err(format!("{name} is given twice").into());
        }
        keys.push((attribute.tag, asked::with_dates(attribute.tag, value)));
    }
    Ok(keys)
}

fn status_of(response: Response) -> Result<PullStatus, Failure> {
    match response {
        Response::Pull(status) => Ok(*status),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn asked_of_server(config: &Config, verb: PullVerb) -> Result<PullStatus, Failure> {
    let answer = control::ask(&config.state, &Request::Pull(verb))?;
    status_of(
        answer.ok_or(
            "no server is running that would receive the images; start it with: kura serve",
        )?,
    )
}

fn watch(config: &Config, mut status: PullStatus) -> Result<PullStatus, Failure> {
    let before = status.instances_done;
    let mut bar = Bar::new(1);
    let mut total = 0;
    while status.running {
        let left = status.instances_total.saturating_sub(before);
        if left != total {
            total = left;
            bar = Bar::new(total);
        }
        let mut note = match status.studies_total {
            0 => output::plain(&status.step),
            studies => format!(
                "{}: {} of {studies} studies, {} of {} instances",
                output::plain(&status.step),
                status.studies_complete + status.studies_incomplete,
                status.instances_done,
                status.instances_total,
            ),
        };
        if status.bytes_per_second > 0 {
            note += &format!(", {}/s", output::bytes(status.bytes_per_second));
        }
        bar.at(status.instances_done.saturating_sub(before), &note);
        std::thread::sleep(Duration::from_millis(200));
        status = asked_of_server(config, PullVerb::Look).map_err(|error| {
            format!("{error}; a pull that was interrupted goes on when the server starts")
        })?;
    }
    bar.end();
    Ok(status)
}

fn screen(status: &PullStatus) -> String {
    if status.name.is_empty() {
        return "nothing was pulled yet".to_owned();
    }
    let mut text = match (status.running, &status.error, status.studies_incomplete) {
        (true, _, _) => format!("state    {}\n", output::plain(&status.step)),
        (false, Some(error), _) => format!("state    stopped: {}\n", output::plain(error)),
        (false, None, 0) => format!("state    {}\n", output::plain(&status.step)),
        (false, None, count) => {
            format!(
                "state    {count} studies are not complete\naction   kura report show, then: kura pull --resume\n"
            )
        }
    };
    text += &format!(
        "from     {}, since {}\nstudies  {} of {} complete, {} of them before; {} not complete\n",
        output::plain(&status.from),
        status.begun,
        status.studies_complete,
        status.studies_total,
        status.studies_here_before,
        status.studies_incomplete,
    );
    text += &format!(
        "images   {} of {}, {} missing; {} came\n",
        status.instances_done,
        status.instances_total,
        status.instances_missing,
        output::bytes(status.bytes)
    );
    if let Some(seconds) = status.eta_seconds.filter(|_| status.running) {
        text += &format!(
            "left     {} at {}/s\n",
            output::seconds(seconds),
            output::bytes(status.bytes_per_second)
        );
    }
    if let Some(report) = &status.report {
        text += &format!("report   {}\n", output::plain(report));
    }
    for note in &status.notes {
        text += &format!("note     {}\n", output::plain(note));
    }
    text
}
