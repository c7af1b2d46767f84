//! `/forwarding/study/UID`: one study, to every peer; tried again, marked as sent, sent anew.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::forms::{self, Fields, Typed};
use super::super::peers::forward;
use super::{HERE, LOOK_SECONDS, how_far, said, state};
use crate::forward::{self as forwarding, ForwardSaid, ForwardVerb, Item};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column};

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Where a study goes");
    let items = match items(&site, &caller, &uid).await {
        Ok(items) => items,
        Err(reason) => return forms::nothing(&caller, HERE, title, &reason),
    };
    let now = forms::address(&["forwarding", "study", &uid, "now"]);
    let body = html! {
        h1 { (title) }
        section {
            @if let Some(item) = items.first() {
                (parts::facts(&[
                    (say("Study"), html! { a.uid href=(forms::address(&["studies", &uid])) { (uid) } }),
                    (say("Patient ID"), cell(&item.patient_id)),
                    (say("Study date"), cell(&parts::day(&item.study_date))),
                ]))
            }
            (parts::moving("going", &now, LOOK_SECONDS, table(&caller, &items)))
        }
        section {
            h2 { (say("What can be done")) }
            @for item in &items { (actions(&caller, item)) }
        }
        p { a href=(HERE) { (say("Forwarding")) } }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

pub async fn now(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
) -> Response {
    match items(&site, &caller, &uid).await {
        Ok(items) => forms::fragment(table(&caller, &items), false),
        Err(reason) => forms::fragment(forms::refusal(&caller, &reason), true),
    }
}

async fn items(site: &Site, caller: &Caller, uid: &str) -> Result<Vec<Item>, String> {
    let verb = ForwardVerb::Show {
        study: uid.to_owned(),
    };
    match forward(site, caller, verb).await? {
        ForwardSaid::Items { items, .. } => Ok(items),
        ForwardSaid::Done(_) => Err(forms::something_else()),
    }
}

fn table(caller: &Caller, items: &[Item]) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let done = items.iter();
    let done = done.filter(|item| item.state == forwarding::State::Sent);
    let (done, all) = (done.count().to_string(), items.len().to_string());
    let failed = items
        .iter()
        .any(|item| item.state == forwarding::State::Failed);
    let columns = [
        column(say("Peer")),
        column(say("State")),
        column(say("Sent")),
        column(say("Next try")),
        column(say("Why")),
    ];
    let rows: Vec<Vec<Markup>> = items
        .iter()
        .map(|item| {
            let mut cells = vec![cell(&item.peer), state(caller, item.state)];
            cells.extend(how_far(caller, item));
            cells
        })
        .collect();
    html! {
        p.answer { (language.fill("Sent to {} of {} peers.", &[&done, &all])) }
        @if failed {
            (parts::notice(Tone::Warning, html! {
                (say("When the reason is gone: try it again. Where it is not wanted: mark it as sent."))
            }))
        }
        (parts::table(say("Peers"), &columns, &rows))
    }
}

fn actions(caller: &Caller, item: &Item) -> Markup {
    let language = caller.language;
    let to =
        |action: &str| forms::address(&["forwarding", "study", &item.study_instance_uid, action]);
    let button = |action: &str, label: String| {
        parts::post_button(&to(action), &label, &[("peer", &item.peer)])
    };
    let peer = item.peer.as_str();
    parts::buttons(html! {
        @if item.state != forwarding::State::Sent {
            (button("retry", language.fill("Try again to {}", &[peer])))
            (button("mark-sent", language.fill("Mark as sent to {}", &[peer])))
        }
        (button("unmark", language.fill("Send all of it to {} once more", &[peer])))
    })
}

/// Trying again is harmless; the others have a page in between.
pub async fn act(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path((uid, action)): Path<(String, String)>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("study", fields);
    let say = |text| caller.language.say(text);
    let back = forms::address(&["forwarding", "study", &uid]);
    let (study, peer) = (uid.clone(), typed.given("peer"));
    let (title, what, verb) = match action.as_str() {
        "retry" => {
            let study = Some(study);
            return said(&site, &caller, ForwardVerb::Retry { study, peer }, &back).await;
        }
        "mark-sent" => (
            say("Mark as sent"),
            say(
                "What is here of the study counts as sent, though the peer may not have it. Images that come later are sent.",
            ),
            ForwardVerb::MarkSent { study, peer },
        ),
        "unmark" => (
            say("Send it once more"),
            say(
                "All of the study is sent again, also what the peer has already. Nothing is changed here.",
            ),
            ForwardVerb::Unmark { study, peer },
        ),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if typed.is_sure() {
        return said(&site, &caller, verb, &back).await;
    }
    let again = forms::address(&["forwarding", "study", &uid, &action]);
    let what = html! {
        p { (what) }
        p { (say("Study")) " " span.uid { (uid) } ", " (say("Peer")) " " (typed.text("peer")) }
    };
    let body = html! {
        h1 { (title) }
        (forms::between(&caller, &typed, &again, what, title, &back))
    };
    forms::page(&caller, HERE, title, &typed, body)
}
