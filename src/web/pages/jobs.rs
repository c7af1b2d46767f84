//! `/jobs`: what runs, what ran last and with which result, what runs when; begun, paused and ended by hand.

mod pull;
mod reports;
pub(super) mod work;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{Markup, html};

use super::forms::{self, Fields, Form, Typed};
use super::overview::going_on;
use crate::archive::{
    CheckedStatus, FillStatus, MirrorStatus, MirrorVerb, RetentionStatus, Status, VolumeChecked,
};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

const HERE: &str = "/jobs";
const LOOK_SECONDS: u32 = 2;
const TABLES_SECONDS: u32 = 5;
/// Rows of the table of second copies; how many more there are is said.
const ROWS_MAX: usize = 20;

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/jobs", get(show))
        .route("/jobs/now", get(now))
        .route("/jobs/copies", get(copies_now))
        .route("/jobs/mirror/{action}", post(mirror))
        .route("/jobs/index/{action}", post(index))
        .route("/jobs/work", get(work::show))
        .route("/jobs/work/now", get(work::now))
        .route("/jobs/work/{what}", post(work::begin))
        .route("/jobs/pull", post(pull::start))
        .route("/jobs/pull/{action}", post(pull::act))
        .route("/jobs/reports", get(reports::list))
        .route("/jobs/report/{name}", get(reports::show))
}

async fn show(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    page(&site, &caller, &Typed::default()).await
}

async fn now(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    forms::fragment(going_on::part(&site, &caller).await, false)
}

async fn copies_now(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    forms::fragment(copies(&site, &caller).await, false)
}

async fn mirror(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(action): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("mirror", fields);
    let say = |text| caller.language.say(text);
    let (verb, said) = match action.as_str() {
        "pause" => (
            MirrorVerb::Pause,
            say("Nothing is copied until it is resumed."),
        ),
        "resume" => (MirrorVerb::Resume, say("Copying goes on.")),
        "run" => {
            // A browser gives a date with dashes.
            let date = typed.given("date").map(|date| date.replace('-', ""));
            let modality = typed.given("modality");
            (
                MirrorVerb::Run { date, modality },
                say("Second copies are being made."),
            )
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let answer = site.ask(&caller.who, Request::Mirror(verb)).await;
    site.mirror.is_stale();
    match answer {
        control::Response::Failed { reason } => page(&site, &caller, &typed.refused(reason)).await,
        _ => forms::done(&site, HERE, said),
    }
}

/// Making the index anew has a page in between: until it is done, answers are not complete.
async fn index(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(action): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("index", fields);
    let say = |text| caller.language.say(text);
    let (request, said) = match action.as_str() {
        "fill" => (
            Request::IndexFill,
            say("Older images are being read for the extra keys."),
        ),
        "rebuild" if typed.is_sure() => {
            (Request::IndexRebuild, say("The index is being made anew."))
        }
        "rebuild" => {
            let title = say("Make the index anew");
            let what = html! { p { (say("The index is thrown away and read again from the volumes. No image is touched and receiving goes on, but until it is done queries find only a part.")) } };
            let body = html! {
                h1 { (title) }
                (forms::between(&caller, &typed, "/jobs/index/rebuild", what, title, HERE))
            };
            return forms::page(&caller, HERE, title, &typed, body);
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match site.ask(&caller.who, request).await {
        control::Response::Failed { reason } => forms::not_done(&site, HERE, reason),
        _ => forms::done(&site, HERE, said),
    }
}

async fn page(site: &Site, caller: &Caller, typed: &Typed) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Jobs");
    let answer = site.status.get(site).await;
    let status = match answer.as_deref() {
        Some(control::Response::Status { status, .. }) => Some(status),
        _ => None,
    };
    let names: Vec<&str> = status.map_or_else(Vec::new, |status| {
        let volumes = status.volumes.iter();
        volumes.map(|volume| volume.name.as_str()).collect()
    });
    let body = html! {
        h1 { (title) }
        (parts::moving("jobs-now", "/jobs/now", LOOK_SECONDS, going_on::part(site, caller).await))
        section {
            h2 { (say("Second copies")) }
            (parts::moving("copies", "/jobs/copies", TABLES_SECONDS, copies(site, caller).await))
            (mirror_forms(caller, typed))
        }
        section {
            h2 { (say("Every file read again")) }
            @if let Some(status) = status { (scrub(site, caller, &status.checked)) }
            (work::scrub_form(caller, typed, &names))
        }
        section {
            h2 { (say("Other work")) }
            p { a href="/jobs/work" { (say("What is under way, or the result of the last")) } }
            (work::forms(caller, typed, &names))
            @if let Some(status) = status { (by_itself(caller, status)) }
        }
        section {
            h2 { (say("Studies from another archive")) }
            (pull::part(site, caller, typed).await)
        }
        section {
            h2 { (say("Reports")) }
            (reports::newest(site, caller).await)
        }
    };
    forms::page(caller, HERE, title, typed, body)
}

async fn copies(site: &Site, caller: &Caller) -> Markup {
    let answer = site.mirror.get(site).await;
    match answer.as_deref() {
        Some(control::Response::Mirror(status)) => mirror_screen(caller, status),
        Some(control::Response::Failed { reason }) => forms::refusal(caller, reason),
        _ => html! { p { (caller.language.say("What is left is being counted.")) } },
    }
}

fn mirror_screen(caller: &Caller, status: &MirrorStatus) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let when = match (&*status.when, &status.window_opens) {
        ("nightly", Some(opens)) => {
            language.fill("every day {}, next {}", &[&status.window, opens])
        }
        ("nightly", None) => language.fill("every day {}, which is now", &[&status.window]),
        ("after-study", _) => say("when a study has come").to_owned(),
        ("immediate", _) => say("at once").to_owned(),
        ("before-ack", _) => say("before the sender is answered").to_owned(),
        (other, _) => other.to_owned(),
    };
    let left = language.fill(
        "{} images, {}",
        &[
            &parts::count(status.todo_count),
            &parts::bytes(status.todo_bytes),
        ],
    );
    let mut facts = vec![
        (
            say("State"),
            html! {
                (parts::state_badge(language, &status.state)) " " (language.sentence(&status.reason))
            },
        ),
        (say("When"), cell(&when)),
        (say("Left"), cell(&left)),
        (
            say("Have their second copy"),
            cell(&parts::count(status.done_count)),
        ),
    ];
    if let Some(last) = &status.last_run {
        let copied = language.fill(
            "{} images, {}; {} failed",
            &[
                &parts::count(last.copied_count),
                &parts::bytes(last.copied_bytes),
                &parts::count(last.failed_count),
            ],
        );
        facts.push((
            say("Last time"),
            html! { (parts::moment(&last.ended)) ": " (copied) },
        ));
    }
    if status.left_out_count > 0 {
        let count = parts::count(status.left_out_count);
        facts.push((say("Outside the dates that are mirrored"), cell(&count)));
    }
    let columns = [
        column(say("Exam date")),
        column(say("Modality")),
        number(say("Left")),
        number(say("Done")),
        number(say("Failed")),
        number(say("Size")),
    ];
    let rows: Vec<Vec<Markup>> = status
        .jobs
        .iter()
        .take(ROWS_MAX)
        .map(|job| {
            vec![
                cell(&parts::day(&job.date)),
                cell(&job.modality),
                cell(&parts::count(job.todo_count)),
                cell(&parts::count(job.done_count)),
                cell(&parts::count(job.failed_count)),
                cell(&parts::bytes(job.todo_bytes)),
            ]
        })
        .collect();
    let more = status.jobs.len().saturating_sub(rows.len());
    html! {
        (parts::facts(&facts))
        @if status.lost_count > 0 {
            (parts::notice(Tone::Bad, html! {
                (language.fill("{} images have no good copy.", &[&parts::count(status.lost_count)]))
                " " a href="/" { (say("Overview")) }
            }))
        }
        @if !rows.is_empty() {
            (parts::table(say("What needs a second copy"), &columns, &rows))
        }
        @if more > 0 { p { (language.fill("And {} more.", &[&more.to_string()])) } }
        @if !status.failures.is_empty() {
            p { (say("These could not be copied:")) }
            ul {
                @for failure in &status.failures {
                    li { (parts::day(&failure.date)) " " (failure.modality) " " span.uid { (failure.sop_instance_uid) } ": " (language.sentence(&failure.reason)) }
                }
            }
        }
    }
}

fn mirror_forms(caller: &Caller, typed: &Typed) -> Markup {
    let say = |text| caller.language.say(text);
    let form = Form::new(caller, typed, "mirror");
    html! {
        (form.refusal())
        form method="post" action="/jobs/mirror/run" {
            div.fields {
                (form.date("date", say("Exam date (empty: all)"), ""))
                (form.text("modality", say("Modality (empty: all)"), ""))
            }
            (parts::buttons(html! { button type="submit" { (say("Copy now")) } }))
        }
        (parts::buttons(html! {
            (parts::post_button("/jobs/mirror/pause", say("Pause copying"), &[]))
            (parts::post_button("/jobs/mirror/resume", say("Resume copying"), &[]))
        }))
    }
}

fn scrub(site: &Site, caller: &Caller, checked: &CheckedStatus) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let config = &site.desk.config.scrub;
    let pace = match config.days {
        0 => say("Never by itself.").to_owned(),
        days => language.fill(
            "Every file within {} days, {}.",
            &[&days.to_string(), &config.window.to_string()],
        ),
    };
    let columns = [
        column(say("Volume")),
        column(say("State")),
        column(say("This round")),
        column(say("Last round")),
        number(say("Files")),
        number(say("Bad")),
        number(say("Longest unread")),
        number(say("New copies not read yet")),
    ];
    let rows: Vec<Vec<Markup>> = checked
        .volumes
        .iter()
        .map(|volume| scrub_row(caller, volume))
        .collect();
    let open = checked.bad.events.iter().rev();
    let open: Vec<_> = open
        .filter(|event| event.healed.is_none())
        .take(ROWS_MAX)
        .collect();
    html! {
        p { (pace) }
        @for name in &checked.bad.failing {
            (parts::notice(Tone::Bad, html! {
                a href=(forms::address(&["volume", name])) { (language.fill("The disk of volume {} fails: put a new one in its place", &[name])) }
            }))
        }
        @if checked.bad.bad_count > 0 {
            (parts::notice(Tone::Warning, html! {
                (language.fill("{} bad copies are not healed yet.", &[&parts::count(checked.bad.bad_count)]))
                ul {
                    @for event in open {
                        li { (parts::moment(&event.at)) " " (event.volume) " " (event.path) ": " (language.sentence(&event.why)) }
                    }
                }
            }))
        }
        (parts::table(say("Every file read again"), &columns, &rows))
    }
}

fn scrub_row(caller: &Caller, volume: &VolumeChecked) -> Vec<Markup> {
    let language = caller.language;
    let last = volume.last_round.as_ref();
    let days = volume.oldest_unread_days;
    let days = days.map(|days| language.fill("{} days", &[&days.to_string()]));
    vec![
        cell(&volume.name),
        parts::state_badge(language, &volume.state),
        match volume.percent {
            Some(percent) => {
                let label = language.fill("Volume {} is read again", &[&volume.name]);
                let text = format!("{percent} %");
                parts::progress(&label, percent.into(), Some(100), &text)
            }
            None => cell("-"),
        },
        last.map_or_else(|| cell("-"), |last| parts::moment(&last.ended)),
        cell(&last.map_or("-".to_owned(), |last| parts::count(last.files))),
        cell(&last.map_or("-".to_owned(), |last| parts::count(last.bad))),
        cell(&days.unwrap_or("-".to_owned())),
        cell(&parts::count(volume.not_verified_count)),
    ]
}

/// Images that leave by rule, extra keys, the index.
fn by_itself(caller: &Caller, status: &Status) -> Markup {
    let say = |text| caller.language.say(text);
    html! {
        h3 { (say("What leaves by rule")) }
        p { (retention(caller, status.retention.as_ref())) }
        @if status.retention.is_some() {
            (parts::buttons(html! {
                (parts::post_button("/jobs/work/would-leave", say("Show what would leave"), &[]))
                (parts::post_button("/jobs/work/leave", say("Let it leave now"), &[]))
            }))
        }
        h3 { (say("Index")) }
        @if let Some(keys) = &status.extra_keys {
            p { (filling(caller, keys)) }
        }
        (parts::buttons(html! {
            @if status.extra_keys.is_some() {
                (parts::post_button("/jobs/index/fill", say("Read older images for the extra keys now"), &[]))
            }
            (parts::post_button("/jobs/index/rebuild", say("Make the index anew"), &[]))
        }))
    }
}

fn retention(caller: &Caller, status: Option<&RetentionStatus>) -> Markup {
    let language = caller.language;
    let Some(status) = status else {
        return html! { (language.say("Nothing ever leaves: there is no rule for it in kura.toml.")) };
    };
    let rules = status.rules_count.to_string();
    html! {
        (language.fill("{} rules, {}.", &[&rules, &status.window]))
        @if let Some(ended) = &status.last_ended {
            " " (language.say("Last time")) " " (parts::moment(ended)) ": "
            (language.fill("{} images left, {}; {} stay for now.", &[
                &parts::count(status.last_gone_count),
                &parts::bytes(status.last_gone_bytes),
                &parts::count(status.last_kept_count),
            ]))
        }
    }
}

fn filling(caller: &Caller, status: &FillStatus) -> String {
    let language = caller.language;
    let keys = status.keys_count.to_string();
    match status.state.as_str() {
        "filled" => language.fill("{} extra keys, filled for all images.", &[&keys]),
        "filling" => language.fill(
            "{} extra keys: {} of {} studies are done.",
            &[
                &keys,
                &parts::count(status.studies_done_count),
                &parts::count(status.studies_count),
            ],
        ),
        _ => language.fill(
            "{} extra keys, not filled for older images yet: this waits for its hours.",
            &[&keys],
        ),
    }
}
