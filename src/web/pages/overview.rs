//! `/`: whether everything is well, and what to do if not.
//!
//! Nothing here is per study: what the archive counts over all series is shown as it was a moment ago.

pub(super) mod going_on;
mod lately;

use axum::extract::{Query, State};
use axum::response::{Html, Response};
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};

use crate::archive::{Status, VolumeStatus};
use crate::control;
use crate::forward::PeerStatus;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::layout;
use crate::web::parts::{self, Tone, Was, Watched, cell, column, number};
use crate::web::words::Language;

const ANSWER: Watched = Watched {
    id: "answer",
    address: "/overview/answer",
    every_seconds: 5,
};
const JOBS: Watched = Watched {
    id: "jobs",
    address: "/overview/jobs",
    every_seconds: 2,
};
const TRAFFIC: Watched = Watched {
    id: "traffic",
    address: "/overview/traffic",
    every_seconds: 5,
};
const DISKS: Watched = Watched {
    id: "disks",
    address: "/overview/disks",
    every_seconds: 10,
};

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/", get(show))
        .route("/overview/answer", get(answer_again))
        .route("/overview/jobs", get(jobs_again))
        .route("/overview/traffic", get(traffic_again))
        .route("/overview/disks", get(disks_again))
}

async fn show(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Html<String> {
    let language = caller.language;
    let title = language.say("Overview");
    let (answer, jobs, traffic, disks) = tokio::join!(
        answer(&site, language),
        going_on::part(&site, &caller),
        lately::part(&site, &caller),
        disks(&site, language),
    );
    let body = html! {
        h1 { (title) }
        div aria-live="polite" { (ANSWER.show(&answer)) }
        (JOBS.show(&jobs))
        (DISKS.show(&disks))
        (TRAFFIC.show(&traffic))
    };
    layout::page(&caller, "/", title, body)
}

async fn answer_again(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(was): Query<Was>,
) -> Response {
    ANSWER.again(&was, &answer(&site, caller.language).await)
}

async fn jobs_again(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(was): Query<Was>,
) -> Response {
    JOBS.again(&was, &going_on::part(&site, &caller).await)
}

async fn traffic_again(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(was): Query<Was>,
) -> Response {
    TRAFFIC.again(&was, &lately::part(&site, &caller).await)
}

async fn disks_again(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(was): Query<Was>,
) -> Response {
    DISKS.again(&was, &disks(&site, caller.language).await)
}

/// Where the status is not known yet; it is soon.
fn not_yet(language: Language) -> Markup {
    html! { section { p.empty { (language.say("The disks and the index are being looked at …")) } } }
}

fn failed(language: Language, reason: &str) -> Markup {
    parts::notice(Tone::Bad, cell(&language.sentence(reason)))
}

/// Ok, degraded or lost, and what to do.
async fn answer(site: &Site, language: Language) -> Markup {
    let status = site.status.get(site).await;
    let status = match status.as_deref() {
        Some(control::Response::Status { status, .. }) => status,
        Some(control::Response::Failed { reason }) => return failed(language, reason),
        _ => return not_yet(language),
    };
    let words = match status.state.as_str() {
        "ok" => language.say("Everything is well."),
        "lost" => language.say("Images are lost: a person is needed now."),
        _ => language.say("A person is needed. Every image can still be read."),
    };
    let is_away = status.copies.away_count > 0;
    let words = match is_away && status.state == "degraded" {
        true => {
            language.say("A person is needed. Some images cannot be read until a volume is back.")
        }
        false => words,
    };
    let index = &status.index;
    let held = language.fill(
        "{} images in {} studies, {}",
        &[
            &parts::count(index.instances_count),
            &parts::count(index.studies_count),
            &parts::bytes(index.instances_bytes),
        ],
    );
    html! {
        (parts::notice(Tone::of_state(&status.state), html! {
            p.answer { (parts::state_word(language, &status.state)) ": " (words) }
            @if !status.actions.is_empty() {
                ul { @for action in &status.actions { li { (language.sentence(action)) } } }
            }
        }))
        section aria-labelledby="held" {
            h2 #held { (language.say("What is here")) }
            p { (held) }
            (counts(language, status))
        }
    }
}

fn counts(language: Language, status: &Status) -> Markup {
    let copies = &status.copies;
    let has_mirror = status.volumes.iter().any(|volume| volume.role == "mirror");
    let mut facts: Vec<(&str, Markup)> = Vec::new();
    if copies.known {
        facts.push((
            language.say("Two good copies on two disks"),
            cell(&parts::count(copies.two_count)),
        ));
        let rows: [(&str, u64, Tone); 4] = [
            (
                language.say("Two copies, but on one disk"),
                copies.one_disk_count,
                Tone::Warning,
            ),
            (
                language.say("One copy"),
                copies.one_count,
                if has_mirror {
                    Tone::Warning
                } else {
                    Tone::Plain
                },
            ),
            (
                language.say("Only on volumes that are away"),
                copies.away_count,
                Tone::Warning,
            ),
            (language.say("No good copy"), copies.lost_count, Tone::Bad),
        ];
        for (name, count, tone) in rows {
            if count > 0 {
                facts.push((name, parts::badge(tone, &parts::count(count))));
            }
        }
        if let Some(last) = &copies.last_mirror {
            facts.push((language.say("Last copied"), parts::moment(last)));
        }
    }
    let checked = &status.checked;
    facts.push((
        language.say("Everything read again by"),
        match &checked.last_scrub_ended {
            Some(ended) => html! {
                (parts::moment(ended)) " ("
                (language.fill("{} bad", &[&parts::count(checked.last_scrub_bad_count)])) ")"
            },
            None => cell(language.say("not yet")),
        },
    ));
    let index = &status.index;
    let conflicts = index.conflicts_count;
    let quarantine = status.quarantine.len() as u64;
    for (name, count) in [
        (language.say("Conflicts"), conflicts),
        (language.say("In quarantine"), quarantine),
    ] {
        let value = match count {
            0 => cell("0"),
            count => html! { a href="/conflicts" { (parts::count(count)) } },
        };
        facts.push((name, value));
    }
    html! {
        (parts::facts(&facts))
        @if copies.known && !has_mirror {
            p.empty { (language.say("There is no mirror volume: every image has one copy.")) " "
                a href="/volumes" { (language.say("Add a volume")) } }
        }
    }
}

/// The volumes and how full they are.
async fn disks(site: &Site, language: Language) -> Markup {
    let status = site.status.get(site).await;
    let Some(control::Response::Status { status, .. }) = status.as_deref() else {
        return html! {};
    };
    let capacity = &status.capacity;
    let rate = capacity.bytes_per_day_7.max(capacity.bytes_per_day_30);
    let room = language.fill("Room for {} more", &[&parts::bytes(capacity.room_bytes)]);
    let room = match (&capacity.full_on, rate) {
        (Some(day), Some(rate)) => language.fill(
            "{}; full about {} at {} a day",
            &[&room, day, &parts::bytes(rate)],
        ),
        _ => room,
    };
    let columns = [
        column(language.say("Volume")),
        column(language.say("Role")),
        column(language.say("State")),
        column(language.say("Used")),
        number(language.say("Images")),
    ];
    let rows: Vec<Vec<Markup>> = status.volumes.iter().map(|v| volume(language, v)).collect();
    html! {
        section aria-labelledby="volumes" {
            h2 #volumes { (language.say("Volumes")) }
            p { (room) }
            (parts::table(language.say("Volumes"), &columns, &rows))
        }
    }
}

fn volume(language: Language, volume: &VolumeStatus) -> Vec<Markup> {
    let used = match (volume.used_bytes, volume.free_bytes) {
        (Some(used), Some(free)) => {
            let whole = used.saturating_add(free);
            let label = language.fill("How full volume {} is", &[&volume.name]);
            let text = language.fill(
                "{} of {}, {} free",
                &[
                    &parts::bytes(used),
                    &parts::bytes(whole),
                    &parts::bytes(free),
                ],
            );
            parts::meter(&label, used, whole, &text)
        }
        _ => cell("–"),
    };
    vec![
        html! { a href="/volumes" { (volume.name) } },
        cell(&parts::state_word(language, &volume.role)),
        html! {
            (parts::state_badge(language, &volume.state))
            @if !volume.reason.is_empty() { " " small { (language.sentence(&volume.reason)) } }
        },
        used,
        cell(&volume.instances_count.map_or("–".to_owned(), parts::count)),
    ]
}

/// How a peer's queue stands, in words.
fn queue_state(language: Language, peer: &PeerStatus) -> Markup {
    match (&peer.unreachable, peer.paused) {
        (_, true) => parts::state_badge(language, "paused"),
        (Some((reason, since)), _) => html! {
            (parts::badge(Tone::Warning, language.say("not reached"))) " "
            small { (parts::moment(since)) ": " (language.sentence(reason)) }
        },
        (None, false) if peer.failed_count > 0 => {
            parts::badge(Tone::Bad, language.say("some failed"))
        }
        (None, false) if peer.is_late() => {
            parts::badge(Tone::Warning, language.say("waits for more than a day"))
        }
        (None, false) if peer.sending_count > 0 => {
            parts::badge(Tone::Good, language.say("being sent"))
        }
        (None, false) => parts::badge(Tone::Good, language.say("in order")),
    }
}
