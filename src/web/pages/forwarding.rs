//! `/forwarding`: what goes by itself to where it is read: the rules, and what waits, is sent, failed.

mod rules;
mod study;

use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{Markup, html};
use serde::Deserialize;

use super::forms::{self, Fields, Typed};
use super::peers::{forward, setup};
use crate::control;
use crate::forward::setup::Shown;
use crate::forward::{self as forwarding, ForwardSaid, ForwardVerb, Item, PeerStatus, meaning};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column};

const HERE: &str = "/forwarding";
const LOOK_SECONDS: u32 = 3;
/// Rows of the table; how many more there are is said.
const ROWS_MAX: usize = 100;

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/forwarding", get(show))
        .route("/forwarding/now", get(now))
        .route("/forwarding/retry", post(retry))
        .route("/forwarding/acknowledge", post(acknowledge))
        .route("/forwarding/rules", post(rules::add))
        .route("/forwarding/rule/{name}/remove", post(rules::remove))
        .route("/forwarding/study/{uid}", get(study::show))
        .route("/forwarding/study/{uid}/now", get(study::now))
        .route("/forwarding/study/{uid}/{action}", post(study::act))
}

/// What of the outbox is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Filter {
    /// AE title; empty: all.
    peer: String,
    /// `waiting`, `sending`, `failed`, `sent`, `all`; empty: what is not sent.
    state: String,
}

impl Filter {
    fn verb(&self) -> ForwardVerb {
        let state = match self.state.as_str() {
            "waiting" => Some(forwarding::State::Waiting),
            "sending" => Some(forwarding::State::Sending),
            "failed" => Some(forwarding::State::Failed),
            "sent" => Some(forwarding::State::Sent),
            _ => None,
        };
        ForwardVerb::List {
            peer: Some(self.peer.clone()).filter(|peer| !peer.is_empty()),
            all: self.state == "all",
            state,
        }
    }

    fn address(&self, of: &str) -> String {
        let query = forms::query(&[("peer", &self.peer), ("state", &self.state)]);
        format!("{of}{query}")
    }
}

async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Response {
    page(&site, &caller, &filter, &Typed::default()).await
}

async fn now(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Response {
    forms::fragment(outbox(&site, &caller, &filter).await, false)
}

/// Everything that waits or failed, or that of one peer.
async fn retry(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("retry", fields);
    let peer = typed.given("peer");
    let query = forms::query(&[("peer", peer.as_deref().unwrap_or_default())]);
    let back = format!("{HERE}{query}");
    let verb = ForwardVerb::Retry { study: None, peer };
    said(&site, &caller, verb, &back).await
}

async fn acknowledge(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    said(&site, &caller, ForwardVerb::Acknowledge, HERE).await
}

/// What waits for a person to say that it was seen to.
async fn notes(site: &Site, caller: &Caller) -> Markup {
    let answer = site.status.get(site).await;
    let Some(control::Response::Status { status, .. }) = answer.as_deref() else {
        return html! {};
    };
    let wants_a_word = |action: &&String| action.ends_with("kura forward acknowledge");
    let notes: Vec<&String> = status.actions.iter().filter(wants_a_word).collect();
    html! {
        @for note in &notes {
            (parts::notice(Tone::Warning, html! { (caller.language.sentence(note)) }))
        }
        @if !notes.is_empty() {
            (parts::buttons(html! {
                (parts::post_button("/forwarding/acknowledge", caller.language.say("I have seen to it"), &[]))
            }))
        }
    }
}

/// Does it, and goes back with the sentence.
async fn said(site: &Site, caller: &Caller, verb: ForwardVerb, back: &str) -> Response {
    match forward(site, caller, verb).await {
        Ok(ForwardSaid::Done(said)) => forms::done(site, back, said),
        Ok(ForwardSaid::Items { .. }) => forms::not_done(site, back, forms::something_else()),
        Err(reason) => forms::not_done(site, back, reason),
    }
}

async fn page(site: &Site, caller: &Caller, filter: &Filter, typed: &Typed) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Forwarding");
    let shown = setup(site, caller).await;
    let body = html! {
        h1 { (title) }
        (notes(site, caller).await)
        section {
            h2 { (say("Outbox")) }
            @if let Ok(shown) = &shown { (filter_form(caller, filter, shown)) }
            (parts::moving("outbox", &filter.address("/forwarding/now"), LOOK_SECONDS, outbox(site, caller, filter).await))
            (parts::buttons(html! {
                (parts::post_button("/forwarding/retry", say("Try now what failed or waits"), &[("peer", &filter.peer)]))
            }))
        }
        @match &shown {
            Ok(shown) => (rules::part(caller, shown, typed)),
            Err(reason) => (forms::refusal(caller, reason)),
        }
    };
    forms::page(caller, HERE, title, typed, body)
}

fn filter_form(caller: &Caller, filter: &Filter, shown: &Shown) -> Markup {
    let say = |text| caller.language.say(text);
    let mut peers = vec![("", say("all"))];
    peers.extend(
        shown
            .peers
            .iter()
            .map(|peer| (&*peer.ae_title, &*peer.ae_title)),
    );
    let states = [
        ("", say("what is not sent yet")),
        ("waiting", say("waiting")),
        ("sending", say("being sent")),
        ("failed", say("failed")),
        ("sent", say("sent")),
        ("all", say("all")),
    ];
    html! {
        form method="get" action=(HERE) {
            div.fields {
                (parts::choice("peer", say("Peer"), &peers, &filter.peer))
                (parts::choice("state", say("State"), &states, &filter.state))
            }
            (parts::buttons(html! { button.second type="submit" { (say("Show")) } }))
        }
    }
}

async fn outbox(site: &Site, caller: &Caller, filter: &Filter) -> Markup {
    match forward(site, caller, filter.verb()).await {
        Ok(ForwardSaid::Items {
            items,
            total_count,
            peers,
        }) => table(caller, &items, total_count, &peers),
        Ok(ForwardSaid::Done(_)) => forms::refusal(caller, &forms::something_else()),
        Err(reason) => forms::refusal(caller, &reason),
    }
}

/// The answer, what to do, the table.
fn table(caller: &Caller, items: &[Item], total_count: u64, peers: &[PeerStatus]) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let sum = |of: fn(&PeerStatus) -> u64| peers.iter().map(of).sum::<u64>();
    let (waiting, sending, failed) = (
        sum(|peer| peer.waiting_count),
        sum(|peer| peer.sending_count),
        sum(|peer| peer.failed_count),
    );
    let answer = match (waiting + sending, failed) {
        (0, 0) => say("Nothing waits.").to_owned(),
        _ => language.fill(
            "{} studies wait, {} are being sent, {} failed.",
            &[
                &parts::count(waiting),
                &parts::count(sending),
                &parts::count(failed),
            ],
        ),
    };
    let columns = [
        column(say("Study")),
        column(say("Peer")),
        column(say("State")),
        column(say("Patient ID")),
        column(say("Study date")),
        column(say("Sent")),
        column(say("Next try")),
        column(say("Why")),
    ];
    let rows: Vec<Vec<Markup>> = items
        .iter()
        .take(ROWS_MAX)
        .map(|item| row(caller, item))
        .collect();
    let more = total_count.saturating_sub(rows.len() as u64);
    let in_trouble = |peer: &&PeerStatus| peer.paused || peer.unreachable.is_some();
    html! {
        p.answer { (answer) }
        @for peer in peers.iter().filter(in_trouble) {
            (parts::notice(Tone::Warning, html! {
                a href=(forms::address(&["peer", &peer.peer])) { (peer.peer) } ": "
                (super::peers::state(caller, Some(peer)))
            }))
        }
        @if rows.is_empty() {
            (parts::empty(say("There is nothing to show.")))
        } @else {
            (parts::table(say("Outbox"), &columns, &rows))
        }
        @if more > 0 {
            p { (language.fill("And {} more: choose a peer or a state.", &[&parts::count(more)])) }
        }
    }
}

fn row(caller: &Caller, item: &Item) -> Vec<Markup> {
    let uid = &item.study_instance_uid;
    let study = forms::address(&["forwarding", "study", uid]);
    let mut cells = vec![
        html! { a.uid href=(study) id=(format!("item-{}-{uid}", item.peer.replace(' ', "_"))) { (uid) } },
        cell(&item.peer),
        state(caller, item.state),
        cell(&item.patient_id),
        cell(&parts::day(&item.study_date)),
    ];
    cells.extend(how_far(caller, item));
    cells
}

/// Sent, next try, why.
fn how_far(caller: &Caller, item: &Item) -> [Markup; 3] {
    [
        sent(caller, item),
        item.next_try
            .as_deref()
            .map_or_else(|| cell("-"), parts::moment),
        cell(&why(caller, item)),
    ]
}

fn state(caller: &Caller, state: forwarding::State) -> Markup {
    let say = |text| caller.language.say(text);
    let (tone, word) = match state {
        forwarding::State::Waiting => (Tone::Plain, say("waiting")),
        forwarding::State::Sending => (Tone::Plain, say("being sent")),
        forwarding::State::Sent => (Tone::Good, say("sent")),
        forwarding::State::Failed => (Tone::Bad, say("failed")),
    };
    parts::badge(tone, word)
}

fn sent(caller: &Caller, item: &Item) -> Markup {
    let language = caller.language;
    let (sent, total) = (
        parts::count(item.sent_count),
        parts::count(item.total_count),
    );
    let mut text = language.fill("{} of {}", &[&sent, &total]);
    if let Some(delivered) = item.delivered_count {
        let delivered = parts::count(delivered);
        text.push_str(&language.fill(", it holds {}", &[&delivered]));
    }
    match item.state {
        forwarding::State::Sending => {
            let label = language.fill("Images sent to {}", &[&item.peer]);
            parts::progress(&label, item.sent_count, Some(item.total_count), &text)
        }
        _ => cell(&text),
    }
}

/// The last status and the reason in words.
fn why(caller: &Caller, item: &Item) -> String {
    let language = caller.language;
    let status = item.status.filter(|status| *status != 0);
    let status = status.map(|status| format!("{status:04X}H {}", language.say(meaning(status))));
    let reason = Some(language.sentence(&item.reason)).filter(|reason| !reason.is_empty());
    let parts: Vec<String> = status.into_iter().chain(reason).collect();
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(": "),
    }
}
