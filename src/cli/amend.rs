//! `kura amend`: the wrong patient, the wrong study; shown first, made after a yes, and taken back.

use std::io::IsTerminal;
use std::time::Duration;

use dicom_dictionary_std::tags;

use super::find::keyword;
use super::output::{self, Bar};
use super::remove::{Why, confirm};
use super::{End, Failure};
use crate::archive::{self, AmendPlan, AmendSaid, AmendStatus, AmendVerb, Correction, Differs};
use crate::audit::Who;
use crate::config::Config;
use crate::control::{self, Desk, Request, Response};
use crate::dicom::{Level, Tag};
use crate::index::Values;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false))]
pub struct Amend {
    /// Study Instance UID of the study to amend
    #[arg(long, value_name = "UID", group = "what")]
    study: Option<String>,
    /// Series Instance UID of a series to move
    #[arg(long, value_name = "UID", group = "what")]
    series: Option<String>,
    /// SOP Instance UID of an instance to move; may be said several times
    #[arg(long, value_name = "UID", group = "what")]
    instance: Vec<String>,
    /// Patient ID; an empty text clears a value
    #[arg(long, value_name = "TEXT")]
    patient_id: Option<String>,
    /// Issuer of Patient ID
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// Patient's Name, such as YAMADA^TARO=山田^太郎
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Patient's Birth Date, YYYYMMDD
    #[arg(long, value_name = "DATE")]
    birth_date: Option<String>,
    /// Patient's Sex: M, F or O
    #[arg(long, value_name = "TEXT")]
    sex: Option<String>,
    /// Accession Number
    #[arg(long, value_name = "TEXT")]
    accession: Option<String>,
    /// Study Description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Move to this study, and take its patient and study values; a new study if there is none of that UID
    #[arg(long, value_name = "UID")]
    to_study: Option<String>,
    /// Take the patient of this study
    #[arg(long, value_name = "UID", conflicts_with = "to_study")]
    to_patient_of_study: Option<String>,
    /// What is amended gets new UIDs
    #[arg(long)]
    new_uids: bool,
    /// Where the character set of an image lacks a character, write it in UTF-8
    #[arg(long)]
    utf8: bool,
    /// Also when an image came less than a minute ago
    #[arg(long)]
    now: bool,
    /// The patient ID may be that of somebody with another name or birth date
    #[arg(long)]
    merge_patients: bool,
    #[command(flatten)]
    why: Why,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Take back the latest amendment of the study, or that of --number
    #[arg(long, conflicts_with_all = ["series", "instance", "patient_id", "issuer", "name", "birth_date", "sex",
        "accession", "description", "to_study", "to_patient_of_study", "new_uids", "utf8", "now", "merge_patients"])]
    undo: bool,
    /// Number of the change to take back
    #[arg(long, value_name = "N", requires = "undo", group = "what")]
    number: Option<u64>,
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Differences of the sample that are shown on the screen.
const DIFFERENCES_MOST: usize = 40;
/// Longest text shown of a value, in characters.
const TEXT_MOST: usize = 60;

pub fn run(verb: Box<Amend>, config: &Config, json: bool) -> Result<End, Failure> {
    // One archive for all that is asked, where no server runs.
    let server = Server::of(config)?;
    match verb.undo {
        true => undo(&verb, &server, json),
        false => amend(&verb, &server, json),
    }
}

/// The running server, or the archive opened here.
enum Server<'a> {
    Running(&'a Config),
    Here(Box<Desk>),
}

impl Server<'_> {
    fn of(config: &Config) -> Result<Server<'_>, Failure> {
        match control::ask(&config.state, &Request::Amend(AmendVerb::Look))? {
            Some(_) => Ok(Server::Running(config)),
            None => Ok(Server::Here(Box::new(super::open(config)?))),
        }
    }

    fn ask(&self, verb: AmendVerb) -> Result<AmendSaid, Failure> {
        let request = Request::Amend(verb);
        let response = match self {
            Server::Running(config) => control::ask(&config.state, &request)?
                .ok_or("the server stopped; kura changes list shows what was done")?,
            Server::Here(desk) => control::answer(desk, &Who::here(), request),
        };
        match response {
            Response::Amend(said) => Ok(said),
            Response::Failed { reason } => Err(reason.into()),
            _ => Err("the server answered something else".into()),
        }
    }
}

fn other_answer() -> Failure {
    "the server answered something else".into()
}

fn amend(verb: &Amend, server: &Server, json: bool) -> Result<End, Failure> {
    let ask = asked(verb)?;
    let plan = match server.ask(AmendVerb::Plan { ask: ask.clone() })? {
        AmendSaid::Plan(plan) => plan,
        _ => return Err(other_answer()),
    };
    let shown = || output::line(&screen(&plan));
    if verb.dry_run {
        match json {
            true => output::json(&plan_json(&plan)),
            false => {
                shown();
                output::line("nothing was changed; without --dry-run it asks, and does it");
            }
        }
        return Ok(End::Ok);
    }
    if !json {
        shown();
    }
    if !verb.yes {
        confirm("amend these instances")?;
    }
    let status = wait(server, ask, json)?;
    if let Some(error) = status.error {
        return Err(error.into());
    }
    let made = status.made.ok_or_else(other_answer)?;
    match json {
        true => output::json(&serde_json::json!({
            "version": 1,
            "change": super::changes::as_json(&made),
            "seconds": status.seconds,
        })),
        false => output::line(&format!(
            "done: change {}, {} instances; to take it back: kura amend --undo --number {}",
            made.number, made.instances_count, made.number
        )),
    }
    Ok(End::Ok)
}

fn undo(verb: &Amend, server: &Server, json: bool) -> Result<End, Failure> {
    let cause = verb.why.cause(Some("taken back"))?;
    let ask = archive::Undo {
        number: verb.number,
        study: verb.study.clone(),
        who: cause.who,
        why: cause.why,
    };
    let verb_of = |said| match said {
        AmendSaid::Undo(change) => Ok(*change),
        _ => Err(other_answer()),
    };
    let change = verb_of(server.ask(AmendVerb::PlanUndo { ask: ask.clone() })?)?;
    if !json {
        output::line(&super::changes::screen(&change));
    }
    if verb.dry_run {
        match json {
            true => output::json(&super::changes::with_version(&change)),
            false => output::line("nothing was changed; without --dry-run it asks, and does it"),
        }
        return Ok(End::Ok);
    }
    if !verb.yes {
        confirm("take this amendment back")?;
    }
    let ask = archive::Undo {
        // The very one that was shown.
        number: Some(change.number),
        ..ask
    };
    let change: Correction = verb_of(server.ask(AmendVerb::Undo { ask })?)?;
    match json {
        true => output::json(&super::changes::with_version(&change)),
        false => output::line(&format!(
            "done: change {} is taken back, {} instances are as they were",
            change.number, change.instances_count
        )),
    }
    Ok(End::Ok)
}

fn asked(verb: &Amend) -> Result<archive::Amend, Failure> {
    let cause = verb.why.cause(None)?;
    let (level, of) = match (&verb.study, &verb.series) {
        (Some(uid), _) => (Level::Study, vec![uid.clone()]),
        (_, Some(uid)) => (Level::Series, vec![uid.clone()]),
        _ => (Level::Instance, verb.instance.clone()),
    };
    let values = [
        (tags::PATIENT_ID, &verb.patient_id),
        (tags::ISSUER_OF_PATIENT_ID, &verb.issuer),
        (tags::PATIENT_NAME, &verb.name),
        (tags::PATIENT_BIRTH_DATE, &verb.birth_date),
        (tags::PATIENT_SEX, &verb.sex),
        (tags::ACCESSION_NUMBER, &verb.accession),
        (tags::STUDY_DESCRIPTION, &verb.description),
    ];
    let given = values
        .iter()
        .filter_map(|(tag, text)| Some((key(*tag), text.as_ref()?.clone())));
    Ok(archive::Amend {
        level,
        of,
        values: given.collect(),
        to_study: verb.to_study.clone(),
        to_patient_of_study: verb.to_patient_of_study.clone(),
        new_uids: verb.new_uids,
        utf8: verb.utf8,
        now: verb.now,
        merge_patients: verb.merge_patients,
        who: cause.who,
        why: cause.why,
    })
}

fn key(tag: Tag) -> u32 {
    (u32::from(tag.group()) << 16) | u32::from(tag.element())
}

/// Ctrl-C ends the waiting; a server goes on.
fn wait(server: &Server, ask: archive::Amend, json: bool) -> Result<AmendStatus, Failure> {
    let status = |said| match said {
        AmendSaid::Status(status) => Ok(*status),
        _ => Err(other_answer()),
    };
    status(server.ask(AmendVerb::Make { ask })?)?;
    if !json && std::io::stderr().is_terminal() {
        eprintln!("Ctrl-C ends the waiting, not the work");
    }
    let mut bar = Bar::new(1);
    let mut step = String::new();
    let mut pause = Duration::from_millis(5);
    loop {
        let now = status(server.ask(AmendVerb::Look)?)?;
        if !now.running {
            bar.end();
            return Ok(now);
        }
        if now.step != step {
            step.clone_from(&now.step);
            bar = Bar::new(now.total_count);
        }
        let done = now.done_count.min(now.total_count);
        let bytes = output::bytes(now.done_bytes);
        let note = format!("{step}: {done} of {}, {bytes} read", now.total_count);
        bar.at(done, &note);
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_EVERY);
    }
}

fn shortened(text: &str) -> String {
    let plain = output::plain(text);
    match plain.chars().count() > TEXT_MOST {
        true => plain.chars().take(TEXT_MOST).chain(['…']).collect(),
        false => plain,
    }
}

/// Values side by side, as the rows of a table.
pub fn rows(before: &Values, after: &Values) -> Vec<Vec<String>> {
    let text = |values: &Values, tag: &u32| {
        let text = values.get(tag).map_or("", String::as_str);
        match text.is_empty() {
            true => "-".to_owned(),
            false => shortened(text),
        }
    };
    let mut all: Vec<&u32> = before.keys().chain(after.keys()).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .map(|tag| vec![keyword(*tag), text(before, tag), text(after, tag)])
        .collect()
}

fn screen(plan: &AmendPlan) -> String {
    let shown = |tag| plan.shown.get(&key(tag)).map_or("", String::as_str);
    let mut text = format!(
        "study    {}\npatient  {} {}\nselected {} instances of {} series, {}",
        output::plain(&plan.study_instance_uid),
        output::plain(shown(tags::PATIENT_ID)),
        output::plain(shown(tags::PATIENT_NAME)),
        plan.instances_count,
        plan.series_count,
        output::bytes(plan.bytes),
    );
    if plan.others_count > 0 {
        text += &format!("; and {} variants and conflicts of them", plan.others_count);
    }
    text.push('\n');
    if plan.to_study_instance_uid != plan.study_instance_uid {
        let how = match plan.joins {
            true => "which has other instances",
            false => "a new one",
        };
        let to = output::plain(&plan.to_study_instance_uid);
        text += &format!("to study {to}, {how}\n");
    }
    text += &output::table(&["", "BEFORE", "AFTER"], &rows(&plan.before, &plan.after));
    if let Some(sample) = &plan.sample {
        let sop = output::plain(&sample.sop_instance_uid);
        text += &format!("elements that differ in instance {sop}:\n");
        for one in sample.differences.iter().take(DIFFERENCES_MOST) {
            text += &format!("  {}\n", differs(one));
        }
        let more = sample.differences.len().saturating_sub(DIFFERENCES_MOST);
        if more > 0 {
            text += &format!("  and {more} more\n");
        }
    }
    text
}

fn differs(one: &Differs) -> String {
    let side = |text: &Option<String>| match text {
        None => "absent".to_owned(),
        Some(text) if text.is_empty() => "empty or not shown".to_owned(),
        Some(text) => format!("{:?}", shortened(text)),
    };
    let (before, after) = (side(&one.before), side(&one.after));
    format!("{} {}: {before} -> {after}", one.tag, one.keyword)
}

fn plan_json(plan: &AmendPlan) -> serde_json::Value {
    let values = super::changes::values_json;
    serde_json::json!({
        "version": 1,
        "level": plan.level,
        "of": plan.of,
        "study_instance_uid": plan.study_instance_uid,
        "to_study_instance_uid": plan.to_study_instance_uid,
        "joins": plan.joins,
        "shown": values(&plan.shown),
        "before": values(&plan.before),
        "after": values(&plan.after),
        "series_count": plan.series_count,
        "instances_count": plan.instances_count,
        "others_count": plan.others_count,
        "bytes": plan.bytes,
        "sample": plan.sample,
    })
}
