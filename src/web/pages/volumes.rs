//! `/volumes`: the disks of the archive, and what an administrator does with them.

mod one;
mod replace;

use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{Markup, html};

use super::forms::{self, Fields, Form, Typed};
use crate::archive::{Status, VolumeChecked, VolumeStatus, VolumeVerb};
use crate::control::{self, Request};
use crate::volume::layout::Role;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

const HERE: &str = "/volumes";
/// How often the table looks at the disks.
const LOOK_SECONDS: u32 = 5;

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/volumes", get(show).post(add))
        .route("/volumes/now", get(now))
        .route("/volume/{name}", get(one::show))
        .route("/volume/{name}/rename", post(one::rename))
        .route("/volume/{name}/relocate", post(one::relocate))
        .route("/volume/{name}/forget", post(one::forget))
        .route("/volume/{name}/do/{action}", post(one::act))
        .route(
            "/volume/{name}/replace",
            get(replace::show).post(replace::begin),
        )
        .route("/volume/{name}/replace/now", get(replace::now))
}

/// The disks as they are now.
async fn status(site: &Site, caller: &Caller) -> Result<Box<Status>, String> {
    match site.ask(&caller.who, Request::Status).await {
        control::Response::Status { status, .. } => Ok(status),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

async fn show(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    page(&site, &caller, &Typed::default()).await
}

async fn now(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let answer = site.status.get(&site).await;
    let body = match answer.as_deref() {
        Some(control::Response::Status { status, .. }) => all(&caller, status),
        Some(control::Response::Failed { reason }) => forms::refusal(&caller, reason),
        _ => html! { p { (caller.language.say("The disks are being looked at.")) } },
    };
    forms::fragment(body, false)
}

async fn add(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("add", fields);
    let verb = VolumeVerb::Add {
        name: typed.text("name").to_owned(),
        path: typed.text("path").into(),
        role: match typed.text("role") {
            "mirror" => Role::Mirror,
            _ => Role::Archive,
        },
    };
    if typed.text("path").is_empty() {
        let reason = "a volume needs the folder where its disk is mounted; nothing was changed";
        return page(&site, &caller, &typed.refused(reason)).await;
    }
    match site.ask(&caller.who, Request::Volume(verb)).await {
        control::Response::Said(said) => forms::done(&site, HERE, said),
        control::Response::Failed { reason } => page(&site, &caller, &typed.refused(reason)).await,
        _ => page(&site, &caller, &typed.refused(forms::something_else())).await,
    }
}

async fn page(site: &Site, caller: &Caller, typed: &Typed) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Volumes");
    let status = status(site, caller).await;
    let table = match &status {
        Ok(status) => all(caller, status),
        Err(reason) => forms::refusal(caller, reason),
    };
    let form = Form::new(caller, typed, "add");
    let roles = [
        ("archive", say("receives images")),
        ("mirror", say("holds second copies")),
    ];
    let body = html! {
        h1 { (title) }
        section aria-label=(say("All volumes")) {
            (parts::moving("volumes", "/volumes/now", LOOK_SECONDS, table))
        }
        section {
            h2 #add { (say("Add a volume")) }
            p { (say("An empty folder where a disk is mounted, or a volume of this archive.")) }
            (form.refusal())
            form method="post" action=(HERE) {
                div.fields {
                    (form.needed("name", say("Name (letters, digits, - and _)"), ""))
                    (form.needed("path", say("Folder on the server"), ""))
                    (form.choice("role", say("What for"), &roles, "archive"))
                }
                (parts::buttons(html! { button type="submit" { (say("Add")) } }))
            }
        }
    };
    forms::page(caller, HERE, title, typed, body)
}

/// The answer, then the table.
fn all(caller: &Caller, status: &Status) -> Markup {
    let say = |text| caller.language.say(text);
    let columns = [
        column(say("Volume")),
        column(say("Role")),
        column(say("State")),
        column(say("Room")),
        number(say("Images")),
        column(say("Study dates")),
        number(say("Bad copies")),
        column(say("All read again")),
    ];
    let rows: Vec<Vec<Markup>> = status
        .volumes
        .iter()
        .map(|volume| row(caller, volume, &status.checked.volumes))
        .collect();
    html! {
        (answer(caller, &status.volumes))
        p { (outlook(caller, status)) }
        (parts::table(say("All volumes"), &columns, &rows))
    }
}

fn answer(caller: &Caller, volumes: &[VolumeStatus]) -> Markup {
    let language = caller.language;
    let is_wrong = |volume: &&VolumeStatus| matches!(volume.state.as_str(), "failed" | "away");
    let wrong: Vec<&VolumeStatus> = volumes.iter().filter(is_wrong).collect();
    html! {
        @if wrong.is_empty() {
            p.answer { (language.say("All volumes are as they should be.")) }
        }
        @for volume in wrong {
            (parts::notice(Tone::of_state(&volume.state), html! {
                a href=(address(&volume.name)) { (language.fill("Volume {}", &[&volume.name])) } ": "
                (parts::state_word(language, &volume.state))
                @if !volume.reason.is_empty() && volume.reason != volume.state { " (" (language.sentence(&volume.reason)) ")" }
            }))
        }
    }
}

/// Room, rate and the day on which it ends, in a sentence.
fn outlook(caller: &Caller, status: &Status) -> String {
    let language = caller.language;
    let capacity = &status.capacity;
    let room = parts::bytes(capacity.room_bytes);
    let rate = capacity
        .bytes_per_day_7
        .into_iter()
        .chain(capacity.bytes_per_day_30)
        .max();
    let rate = rate.map_or("-".to_owned(), parts::bytes);
    match &capacity.full_on {
        Some(day) => language.fill(
            "Room for {}; a day brings {}: full on {} at that rate.",
            &[&room, &rate, day],
        ),
        None => language.fill(
            "Room for {}; it is not full within a hundred years at the rate of today.",
            &[&room],
        ),
    }
}

fn row(caller: &Caller, volume: &VolumeStatus, checked: &[VolumeChecked]) -> Vec<Markup> {
    let language = caller.language;
    let checked = checked
        .iter()
        .find(|checked| checked.volume_id == volume.volume_id);
    let count = |count: Option<u64>| count.map_or("-".to_owned(), parts::count);
    vec![
        html! { a href=(address(&volume.name)) id=(format!("volume-{}", volume.name)) { (volume.name) } },
        cell(&language.sentence(&volume.role)),
        parts::state_badge(language, &volume.state),
        room(caller, volume),
        cell(&count(volume.instances_count)),
        cell(&dates(volume)),
        cell(&count(checked.map(bad_count))),
        read(caller, checked),
    ]
}

fn room(caller: &Caller, volume: &VolumeStatus) -> Markup {
    let language = caller.language;
    let (Some(used), Some(free)) = (volume.used_bytes, volume.free_bytes) else {
        return cell("-");
    };
    let (used_text, free_text) = (parts::bytes(used), parts::bytes(free));
    let text = language.fill("{} used, {} free", &[&used_text, &free_text]);
    let label = language.fill("How full volume {} is", &[&volume.name]);
    parts::meter(&label, used, used + free, &text)
}

fn dates(volume: &VolumeStatus) -> String {
    match (&volume.oldest_date, &volume.newest_date) {
        (Some(oldest), Some(newest)) => {
            format!("{} – {}", parts::day(oldest), parts::day(newest))
        }
        _ => "-".to_owned(),
    }
}

/// In the round under way and the one before.
fn bad_count(checked: &VolumeChecked) -> u64 {
    let before = checked.last_round.as_ref().map_or(0, |last| last.bad);
    checked.bad_count.max(before)
}

/// When everything on it was last read again.
fn read(caller: &Caller, checked: Option<&VolumeChecked>) -> Markup {
    let language = caller.language;
    let Some(checked) = checked else {
        return cell("-");
    };
    html! {
        @match &checked.last_round {
            Some(last) => (parts::moment(&last.ended)),
            None => (language.say("not yet")),
        }
        @if let Some(percent) = checked.percent {
            " " small { (language.fill("now {} %", &[&percent.to_string()])) }
        }
    }
}

/// Of the page of one volume.
fn address(name: &str) -> String {
    forms::address(&["volume", name])
}
