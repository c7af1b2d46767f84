//! Jobs under way, with bars that move.

use maud::{Markup, html};

use crate::archive::{MirrorStatus, Status, WorkStatus, WorkVerb};
use crate::control::{Request, Response};
use crate::job::ProgressStatus;
use crate::pull::{PullStatus, PullVerb};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell};
use crate::web::words::Language;

/// One that is under way, or stands still for a reason.
struct Job {
    name: String,
    /// How far it is; a bar, or a sentence.
    how_far: Markup,
}

pub async fn part(site: &Site, caller: &Caller) -> Markup {
    let language = caller.language;
    let (status, mirror, work, pull) = tokio::join!(
        site.status.get(site),
        site.mirror.get(site),
        site.ask(&caller.who, Request::Work(WorkVerb::Look)),
        site.ask(&caller.who, Request::Pull(PullVerb::Look)),
    );
    let mut jobs = Vec::new();
    if let Some(Response::Status { status, .. }) = status.as_deref() {
        jobs.extend(rebuilding(language, status));
        jobs.extend(restoring(site, caller, status).await);
    }
    if let Some(Response::Mirror(mirror)) = mirror.as_deref() {
        jobs.extend(mirroring(language, mirror));
    }
    if let Response::Work(Some(work)) = &work {
        jobs.extend(working(language, work));
    }
    if let Response::Pull(pull) = &pull {
        jobs.extend(pulling(language, pull));
    }
    if let Some(Response::Status { status, .. }) = status.as_deref() {
        jobs.extend(reading(language, status));
        jobs.extend(draining(language, status));
        jobs.extend(leaving(language, status));
    }
    html! {
        section aria-labelledby="going-on" {
            h2 #going-on { a href="/jobs" { (language.say("Jobs under way")) } }
            @if jobs.is_empty() {
                (parts::empty(language.say("None.")))
            } @else {
                dl.facts.wide {
                    @for job in &jobs { div { dt { (job.name) } dd { (job.how_far) } } }
                }
            }
        }
    }
}

fn job(name: String, how_far: Markup) -> Job {
    Job { name, how_far }
}

fn rebuilding(language: Language, status: &Status) -> Option<Job> {
    let percent = u64::from(status.index.rebuilding_percent?);
    let name = language.say("The index is being rebuilt");
    let bar = parts::progress(name, percent, Some(100), &format!("{percent} %"));
    Some(job(name.to_owned(), bar))
}

/// Disks in the place of others.
async fn restoring(site: &Site, caller: &Caller, status: &Status) -> Vec<Job> {
    let language = caller.language;
    let mut jobs = Vec::new();
    if !status
        .volumes
        .iter()
        .any(|volume| volume.state == "replaced")
    {
        return jobs;
    }
    let others = status.volumes.iter();
    for volume in others.filter(|volume| volume.state != "replaced") {
        let name = volume.name.clone();
        let asked = site.ask(&caller.who, Request::Restoring { name }).await;
        let Response::Replace(replace) = asked else {
            continue;
        };
        if replace.state == "done" {
            continue;
        }
        let name = language.fill("Volume {} is being restored", &[&volume.name]);
        let (done, total) = (
            replace.total.count.saturating_sub(replace.todo.count),
            replace.total.count,
        );
        let rate = replace.progress.as_ref();
        let text = counted(
            language,
            done,
            total,
            rate.and_then(|rate| rate.eta_seconds),
        );
        let bar = html! {
            (parts::progress(&name, done, Some(total), &text))
            (standing(language, &replace.state, &replace.reason))
        };
        jobs.push(job(name, bar));
    }
    jobs
}

fn mirroring(language: Language, mirror: &MirrorStatus) -> Option<Job> {
    let name = language.say("Second copies");
    let left = || {
        language.fill(
            "{} images left, {}",
            &[
                &parts::count(mirror.todo_count),
                &parts::bytes(mirror.todo_bytes),
            ],
        )
    };
    let how_far = match (mirror.state.as_str(), &mirror.job, &mirror.progress) {
        ("running", Some(now), Some(progress)) => {
            let label = format!("{name} {} {}", parts::day(&now.date), now.modality);
            html! {
                (parts::progress(&label, progress.done_count, Some(progress.total_count), &measured(language, progress)))
                " " small { (parts::day(&now.date)) " " (now.modality) "; " (left()) }
            }
        }
        ("running", ..) => parts::progress(name, 0, None, &left()),
        ("waiting", ..) => html! {
            (left())
            @if let Some(opens) = &mirror.window_opens {
                "; " (language.fill("begins {}", &[opens]))
            }
        },
        ("paused" | "blocked", ..) => html! {
            (left()) " " (standing(language, &mirror.state, &mirror.reason))
        },
        _ => return None,
    };
    Some(job(name.to_owned(), how_far))
}

fn working(language: Language, work: &WorkStatus) -> Option<Job> {
    if !work.running {
        return None;
    }
    let name = super::super::jobs::work::name(language, work).to_owned();
    let total = (work.total_count > 0).then_some(work.total_count);
    let text = counted(language, work.done_count, work.total_count, None);
    let bar = html! {
        (parts::progress(&name, work.done_count, total, &text))
        @if !work.step.is_empty() { " " small { (language.sentence(&work.step)) } }
    };
    Some(job(name, bar))
}

fn pulling(language: Language, pull: &PullStatus) -> Option<Job> {
    if !pull.running {
        return None;
    }
    let name = language.fill("Studies are fetched from {}", &[&pull.from]);
    let done = pull.studies_complete + pull.studies_incomplete;
    let total = (pull.studies_total > 0).then_some(pull.studies_total);
    let text = counted(language, done, pull.studies_total, pull.eta_seconds);
    let bar = html! {
        (parts::progress(&name, done, total, &text))
        @if !pull.step.is_empty() { " " small { (language.sentence(&pull.step)) } }
    };
    Some(job(name, bar))
}

/// Every file read again.
fn reading(language: Language, status: &Status) -> Vec<Job> {
    let volumes = status.checked.volumes.iter();
    let reading = volumes.filter_map(|volume| {
        let percent = u64::from(volume.percent?);
        let name = language.fill("Volume {} is read again", &[&volume.name]);
        let text = language.fill(
            "{} %, {} files, {} bad",
            &[
                &percent.to_string(),
                &parts::count(volume.files),
                &parts::count(volume.bad_count),
            ],
        );
        let bar = parts::progress(&name, percent, Some(100), &text);
        Some(job(name, bar))
    });
    reading.collect()
}

fn draining(language: Language, status: &Status) -> Vec<Job> {
    let volumes = status.volumes.iter();
    let draining = volumes.filter(|volume| volume.state == "draining");
    let jobs = draining.map(|volume| {
        let name = language.fill("Volume {} is being emptied", &[&volume.name]);
        let left = volume.instances_count.unwrap_or_default();
        let text = language.fill("{} images left", &[&parts::count(left)]);
        let bar = html! {
            (parts::progress(&name, 0, None, &text))
            @if !volume.reason.is_empty() { " " small { (language.sentence(&volume.reason)) } }
        };
        job(name, bar)
    });
    jobs.collect()
}

fn leaving(language: Language, status: &Status) -> Option<Job> {
    status.retention.as_ref().filter(|rules| rules.running)?;
    let name = language.say("Images leave by rule");
    Some(job(name.to_owned(), parts::progress(name, 0, None, "")))
}

fn measured(language: Language, progress: &ProgressStatus) -> String {
    let text = counted(
        language,
        progress.done_count,
        progress.total_count,
        progress.eta_seconds,
    );
    let rate = parts::bytes(progress.bytes_per_second);
    language.fill("{}, {} a second", &[&text, &rate])
}

fn counted(language: Language, done: u64, total: u64, eta: Option<u64>) -> String {
    let (done, total) = (parts::count(done), parts::count(total));
    match eta {
        Some(eta) => language.fill(
            "{} of {}, about {} left",
            &[&done, &total, &parts::duration(language, eta)],
        ),
        None => language.fill("{} of {}", &[&done, &total]),
    }
}

/// Why a job stands still; nothing where it runs.
fn standing(language: Language, state: &str, reason: &str) -> Markup {
    match state {
        "running" => cell(""),
        state => html! {
            (parts::badge(Tone::of_state(state), &parts::state_word(language, state)))
            @if !reason.is_empty() { " " small { (language.sentence(reason)) } }
        },
    }
}
