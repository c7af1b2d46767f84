//! `kura mirror …`: second copies, as the table of jobs that the users know.

use std::time::{Duration, Instant};

use super::output::{self, Bar};
use super::{End, Failure};
use crate::archive::{MirrorStatus, MirrorVerb};
use crate::audit::Who;
use crate::config::Config;
use crate::control::{self, Request, Response};

#[derive(clap::Args)]
pub struct Mirror {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Jobs (exam date × modality): to do, done, failed
    Status {
        /// Also the jobs in which nothing is left to do
        #[arg(long)]
        all: bool,
    },
    /// Copy now, whatever the hour: what is left, or one job by hand
    Run {
        /// Exam date, YYYYMMDD
        #[arg(long)]
        date: Option<String>,
        /// Modality, such as CT
        #[arg(long)]
        modality: Option<String>,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Stop all copying until it is resumed
    Pause,
    /// Let copying go on
    Resume,
}

/// Rows of the table on a screen; JSON has all.
const ROWS_MAX: usize = 40;

pub fn run(verb: Mirror, config: &Config, json: bool) -> Result<End, Failure> {
    let (status, all) = match verb.action {
        Action::Status { all } => (ask(config, MirrorVerb::Status { all })?, all),
        Action::Pause => (ask(config, MirrorVerb::Pause)?, false),
        Action::Resume => (ask(config, MirrorVerb::Resume)?, false),
        Action::Run {
            date,
            modality,
            no_wait,
        } => {
            if let Some(date) = &date
                && (date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()))
            {
                return Err(format!("--date {date}: expected YYYYMMDD, such as 20260115").into());
            }
            return by_hand(config, MirrorVerb::Run { date, modality }, no_wait, json);
        }
    };
    show(&status, all, json);
    Ok(end(&status))
}

fn end(status: &MirrorStatus) -> End {
    if status.lost_count > 0 {
        return End::Lost;
    }
    match status.state.as_str() {
        "blocked" | "off" => End::Degraded,
        _ if status.failed_count > 0 => End::Degraded,
        _ => End::Ok,
    }
}

fn look(response: Response) -> Result<MirrorStatus, Failure> {
    match response {
        Response::Mirror(status) => Ok(*status),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn ask(config: &Config, verb: MirrorVerb) -> Result<MirrorStatus, Failure> {
    look(super::ask(config, Request::Mirror(verb))?.0)
}

/// Has a job done, by the running server or here, and waits for its end with progress.
fn by_hand(config: &Config, verb: MirrorVerb, no_wait: bool, json: bool) -> Result<End, Failure> {
    let Some(response) = control::ask(&config.state, &Request::Mirror(verb.clone()))? else {
        let desk = super::open(config)?;
        let archive = &desk.archive;
        look(control::answer(&desk, &Who::here(), Request::Mirror(verb)))?;
        archive.mirror_asked()?;
        let status = archive.mirror_status(false)?;
        return said(&status, json);
    };
    let first = look(response)?;
    let number = first.asked.last().map_or(0, |asked| asked.number);
    if no_wait {
        show(&first, false, json);
        return Ok(End::Ok);
    }
    let mut bar = Bar::new(1);
    let mut job = None;
    let mut took = Duration::ZERO;
    loop {
        // In a large archive the answer is work too.
        std::thread::sleep((took * 10).max(Duration::from_millis(200)));
        let asked_at = Instant::now();
        let request = Request::Mirror(MirrorVerb::Status { all: false });
        let asked = control::ask(&config.state, &request)?;
        let gone = "the server stopped; run the same command again to go on";
        let status = look(asked.ok_or(gone)?)?;
        took = asked_at.elapsed();
        let mine = status.asked.iter().find(|asked| asked.number == number);
        if mine.is_none_or(|asked| asked.done) || status.state == "paused" {
            bar.end();
            return said(&status, json);
        }
        let now = status
            .job
            .as_ref()
            .map(|job| (job.date.clone(), job.modality.clone()));
        if let Some(progress) = &status.progress {
            if now != job {
                job = now;
                bar = Bar::new(progress.total_count);
            }
            bar.at(progress.done_count, &progress_note(&status));
        }
    }
}

fn progress_note(status: &MirrorStatus) -> String {
    let (Some(job), Some(progress)) = (&status.job, &status.progress) else {
        return String::new();
    };
    let eta = match progress.eta_seconds {
        Some(seconds) => format!(", {} left", output::seconds(seconds)),
        None => String::new(),
    };
    format!(
        "{} {}: {} of {} instances, {}/s{eta}",
        output::plain(&job.date),
        output::plain(&job.modality),
        progress.done_count,
        progress.total_count,
        output::bytes(progress.bytes_per_second),
    )
}

/// The end of a job by hand.
fn said(status: &MirrorStatus, json: bool) -> Result<End, Failure> {
    show(status, false, json);
    Ok(end(status))
}

fn show(status: &MirrorStatus, all: bool, json: bool) {
    match json {
        true => output::json(&serde_json::to_value(status).unwrap_or_default()),
        false => output::line(&screen(status, all)),
    }
}

fn screen(status: &MirrorStatus, all: bool) -> String {
    let mut text = format!("state   {}", status.state);
    if !status.reason.is_empty() {
        text.push_str(&format!(": {}", output::plain(&status.reason)));
    }
    text.push('\n');
    let window = match (&*status.when, &status.window_opens) {
        ("nightly", Some(opens)) => format!(" {}, opens {opens}", status.window),
        ("nightly", None) => format!(" {}, open", status.window),
        _ => String::new(),
    };
    text.push_str(&format!("when    {}{window}\n", status.when));
    text.push_str(&format!(
        "left    {} instances, {}; {} have their second copy\n",
        status.todo_count,
        output::bytes(status.todo_bytes),
        status.done_count
    ));
    if status.left_out_count > 0 {
        text.push_str(&format!(
            "outside {} instances are outside the study dates that are mirrored\n",
            status.left_out_count
        ));
    }
    if status.lost_count > 0 {
        text.push_str(&format!(
            "lost    {} instances have no good copy; kura status names them\n",
            status.lost_count
        ));
    }
    if status.progress.is_some() {
        text.push_str(&format!("now     {}\n", progress_note(status)));
    }
    if let Some(last) = &status.last_run {
        text.push_str(&format!(
            "last    {}: {} instances copied, {}, {} failed\n",
            last.ended,
            last.copied_count,
            output::bytes(last.copied_bytes),
            last.failed_count
        ));
    }
    if !status.jobs.is_empty() {
        let shown = if all { usize::MAX } else { ROWS_MAX };
        let rows: Vec<Vec<String>> = status
            .jobs
            .iter()
            .take(shown)
            .map(|job| {
                vec![
                    output::plain(&job.date),
                    output::plain(&job.modality),
                    job.todo_count.to_string(),
                    job.done_count.to_string(),
                    job.failed_count.to_string(),
                    output::bytes(job.todo_bytes),
                ]
            })
            .collect();
        text.push_str(&output::table(
            &["DATE", "MODALITY", "TO DO", "DONE", "FAILED", "LEFT"],
            &rows,
        ));
        if status.jobs.len() > shown {
            let more = status.jobs.len() - shown;
            text.push_str(&format!("and {more} more jobs; --all shows them\n"));
        }
    }
    for failure in &status.failures {
        text.push_str(&format!(
            "failed  {} {} {}: {}\n",
            output::plain(&failure.date),
            output::plain(&failure.modality),
            output::plain(&failure.sop_instance_uid),
            output::plain(&failure.reason)
        ));
    }
    text
}
