//! `/peers`: DICOM nodes that something may be sent to: added, changed, tried out, paused, removed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{Markup, html};

use super::forms::{self, Fields, Form, Typed};
use crate::config::CALLER;
use crate::control::{self, Request};
use crate::forward::setup::{SetupSaid, SetupVerb, Shown, ShownPeer};
use crate::forward::{self, ForwardSaid, ForwardVerb, PeerStatus};
use crate::probe::ProbeReport;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

const HERE: &str = "/peers";
const LOOK_SECONDS: u32 = 5;

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/peers", get(show).post(add))
        .route("/peers/now", get(now))
        .route("/peer/{title}", get(one))
        .route("/peer/{title}/change", post(change))
        .route("/peer/{title}/remove", post(remove))
        .route("/peer/{title}/test", post(test))
        .route("/peer/{title}/do/{action}", post(act))
}

/// Peers and rules that are in effect.
pub(super) async fn setup(site: &Site, caller: &Caller) -> Result<Shown, String> {
    match ask(site, caller, SetupVerb::Show).await? {
        SetupSaid::Shown(shown) => Ok(shown),
        SetupSaid::Done(_) => Err(forms::something_else()),
    }
}

/// Changes them; the sentence that says what that means.
pub(super) async fn set_up(
    site: &Site,
    caller: &Caller,
    verb: SetupVerb,
) -> Result<String, String> {
    match ask(site, caller, verb).await? {
        SetupSaid::Done(said) => Ok(said),
        SetupSaid::Shown(_) => Err(forms::something_else()),
    }
}

async fn ask(site: &Site, caller: &Caller, verb: SetupVerb) -> Result<SetupSaid, String> {
    match site.ask(&caller.who, Request::Setup(verb)).await {
        control::Response::Setup(said) => Ok(*said),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

/// What is asked about forwarding.
pub(super) async fn forward(
    site: &Site,
    caller: &Caller,
    verb: ForwardVerb,
) -> Result<ForwardSaid, String> {
    match site.ask(&caller.who, Request::Forward(verb)).await {
        control::Response::Forward(said) => Ok(*said),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

/// How each peer stands.
async fn standing(site: &Site, caller: &Caller) -> Result<Vec<PeerStatus>, String> {
    let verb = ForwardVerb::List {
        peer: None,
        all: false,
        state: Some(forward::State::Sending),
    };
    match forward(site, caller, verb).await? {
        ForwardSaid::Items { peers, .. } => Ok(peers),
        ForwardSaid::Done(_) => Err(forms::something_else()),
    }
}

async fn show(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    page(&site, &caller, &Typed::default()).await
}

async fn now(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    forms::fragment(all(&site, &caller).await, false)
}

async fn add(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("add", fields);
    let tick = |name: &str| typed.ticked(name).then_some(true);
    let verb = of_form(&typed, typed.text("ae_title"), tick);
    let done = match verb {
        Ok(verb) => set_up(&site, &caller, verb).await,
        Err(reason) => Err(reason),
    };
    match done {
        Ok(said) => forms::done(&site, &address(typed.text("ae_title")), said),
        Err(reason) => page(&site, &caller, &typed.refused(reason)).await,
    }
}

async fn change(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(title): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("change", fields);
    let verb = of_form(&typed, &title, |name| Some(typed.ticked(name)));
    let done = match verb {
        Ok(verb) => set_up(&site, &caller, verb).await,
        Err(reason) => Err(reason),
    };
    match done {
        Ok(said) => forms::done(&site, &address(&title), said),
        Err(reason) => one_page(&site, &caller, &title, &typed.refused(reason)).await,
    }
}

/// The error is a sentence.
fn of_form(
    typed: &Typed,
    ae_title: &str,
    tick: impl Fn(&str) -> Option<bool>,
) -> Result<SetupVerb, String> {
    if ae_title.contains('@') {
        return Err(format!(
            "{ae_title}: an AE title with @ can only be written into kura.toml by hand; nothing was changed"
        ));
    }
    let host = match typed.text("host") {
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Ok(SetupVerb::AddPeer {
        peer: format!("{ae_title}@{host}:{}", typed.text("port")),
        associations: typed.number("associations")?,
        fuzzy_names: tick("fuzzy_names"),
        uncompressed: tick("uncompressed"),
        commitment: tick("commitment"),
        tls: tick("tls"),
        tls_name: None,
        tls_fingerprint: None,
    })
}

async fn remove(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(title): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("remove", fields);
    if !typed.is_sure() {
        let say = |text| caller.language.say(text);
        let head = caller.language.fill("Remove peer {}", &[&title]);
        let what = html! { p { (say("Nothing can be sent to it any more. What waits for it stays in the outbox and goes when a peer of that AE title is added again.")) } };
        let again = forms::address(&["peer", &title, "remove"]);
        let body = html! {
            h1 { (head) }
            (forms::between(&caller, &typed, &again, what, say("Remove it"), &address(&title)))
        };
        return forms::page(&caller, HERE, &head, &typed, body);
    }
    let verb = SetupVerb::RemovePeer {
        ae_title: title.clone(),
    };
    match set_up(&site, &caller, verb).await {
        Ok(said) => forms::done(&site, HERE, said),
        Err(reason) => forms::not_done(&site, &address(&title), reason),
    }
}

async fn act(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path((title, action)): Path<(String, String)>,
) -> Response {
    let own = address(&title);
    let verb = match action.as_str() {
        "pause" => ForwardVerb::Pause { peer: title },
        "resume" => ForwardVerb::Resume { peer: title },
        "retry" => ForwardVerb::Retry {
            study: None,
            peer: Some(title),
        },
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match forward(&site, &caller, verb).await {
        Ok(ForwardSaid::Done(said)) => forms::done(&site, &own, said),
        Ok(ForwardSaid::Items { .. }) => forms::not_done(&site, &own, forms::something_else()),
        Err(reason) => forms::not_done(&site, &own, reason),
    }
}

/// Tries everything out; the answer comes when all was tried.
async fn test(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(title): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("test", fields);
    let peer = title.clone();
    let (request, hidden): (_, &[(&str, &str)]) = match typed.ticked("image") {
        true => (Request::ProbeByImage { peer }, &[("image", "yes")]),
        false => (Request::Probe { peer }, &[]),
    };
    let head = caller.language.fill("Test of peer {}", &[&title]);
    let report = match site.ask(&caller.who, request).await {
        control::Response::Probe(report) => report,
        control::Response::Failed { reason } => {
            return forms::nothing(&caller, HERE, &head, &reason);
        }
        _ => return forms::nothing(&caller, HERE, &head, &forms::something_else()),
    };
    let say = |text| caller.language.say(text);
    let body = html! {
        h1 { (head) }
        (tested(&caller, &report))
        (parts::buttons(html! {
            (parts::post_button(&forms::address(&["peer", &title, "test"]), say("Test again"), hidden))
            a.button href=(address(&title)) { (say("Back")) }
        }))
    };
    forms::page(&caller, HERE, &head, &Typed::default(), body)
}

/// The answer, then each thing that was tried, with what to do.
fn tested(caller: &Caller, report: &ProbeReport) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let count = |outcome: &str| {
        let all = report.tried.iter();
        all.filter(|tried| tried.outcome == outcome).count()
    };
    let (failed, warned) = (count("failed"), count("warning"));
    let (tone, answer) = match (failed, warned, report.tried.is_empty()) {
        (_, _, true) => (Tone::Plain, say("Nothing was tried.").to_owned()),
        (0, 0, _) => (
            Tone::Good,
            say("Everything that was tried works.").to_owned(),
        ),
        (0, _, _) => (
            Tone::Warning,
            language.fill(
                "It works; {} things should be looked at.",
                &[&warned.to_string()],
            ),
        ),
        _ => (
            Tone::Bad,
            language.fill(
                "{} of {} things that were tried do not work.",
                &[&failed.to_string(), &report.tried.len().to_string()],
            ),
        ),
    };
    let columns = [
        column(say("What")),
        column(say("Outcome")),
        column(say("What was found")),
        column(say("What to do")),
    ];
    let rows: Vec<Vec<Markup>> = report
        .tried
        .iter()
        .map(|tried| {
            let (tone, word) = match tried.outcome.as_str() {
                "ok" => (Tone::Good, say("works")),
                "warning" => (Tone::Warning, say("look at it")),
                "failed" => (Tone::Bad, say("does not work")),
                "skipped" => (Tone::Plain, say("not tried")),
                other => (Tone::Plain, other),
            };
            vec![
                cell(&language.sentence(&tried.what)),
                parts::badge(tone, word),
                cell(&language.sentence(&tried.found)),
                cell(&language.sentence(&tried.next)),
            ]
        })
        .collect();
    html! {
        (parts::notice(tone, html! { (answer) }))
        section { (parts::table(say("What was tried"), &columns, &rows)) }
    }
}

async fn page(site: &Site, caller: &Caller, typed: &Typed) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Peers");
    let form = Form::new(caller, typed, "add");
    let body = html! {
        h1 { (title) }
        section aria-label=(say("All peers")) {
            (parts::moving("peers", "/peers/now", LOOK_SECONDS, all(site, caller).await))
        }
        section {
            h2 #add { (say("Add a peer")) }
            (form.refusal())
            form method="post" action=(HERE) {
                div.fields {
                    (form.needed("ae_title", say("AE title"), ""))
                    (fields(&form, caller, None))
                }
                (parts::buttons(html! { button type="submit" { (say("Add")) } }))
            }
        }
    };
    forms::page(caller, HERE, title, typed, body)
}

/// What can be said of a peer beside its AE title.
fn fields(form: &Form, caller: &Caller, now: Option<&ShownPeer>) -> Markup {
    let say = |text| caller.language.say(text);
    let text = |of: fn(&ShownPeer) -> String| now.map(of).unwrap_or_default();
    let tick = |of: fn(&ShownPeer) -> bool| now.is_some_and(of);
    html! {
        (form.needed("host", say("Address, or \"caller\" for where it calls from"), &text(|peer| peer.host.clone())))
        (form.needed("port", say("Port"), &text(|peer| peer.port.to_string())))
        (form.number("associations", say("Associations at the same moment (empty: 2)"), &text(|peer| peer.associations.to_string())))
        (form.tick("fuzzy_names", say("Its queries find names whatever the order of their parts"), tick(|peer| peer.fuzzy_names)))
        (form.tick("uncompressed", say("Compressed images go to it uncompressed"), tick(|peer| peer.uncompressed)))
        (form.tick("commitment", say("It is asked afterwards whether it keeps what it got (storage commitment)"), tick(|peer| peer.commitment)))
        (form.tick("tls", say("It is called over TLS"), tick(|peer| peer.tls)))
    }
}

async fn all(site: &Site, caller: &Caller) -> Markup {
    let say = |text| caller.language.say(text);
    let (shown, standing) = (setup(site, caller).await, standing(site, caller).await);
    let (shown, standing) = match (shown, standing) {
        (Ok(shown), Ok(standing)) => (shown, standing),
        (Err(reason), _) | (_, Err(reason)) => return forms::refusal(caller, &reason),
    };
    if shown.peers.is_empty() {
        return parts::empty(say(
            "There is no peer yet: nothing can be sent. Add one below.",
        ));
    }
    let columns = [
        column(say("Peer")),
        column(say("Address")),
        column(say("State")),
        number(say("Waiting")),
        number(say("Being sent")),
        number(say("Failed")),
        column(say("The oldest waits for")),
        column(say("Gets by itself")),
    ];
    let rows: Vec<Vec<Markup>> = shown
        .peers
        .iter()
        .map(|peer| {
            let is_it = |status: &&PeerStatus| status.peer == peer.ae_title;
            row(caller, &shown, peer, standing.iter().find(is_it))
        })
        .collect();
    html! {
        p.answer { (answer(caller, &standing)) }
        (parts::table(say("All peers"), &columns, &rows))
    }
}

fn answer(caller: &Caller, standing: &[PeerStatus]) -> String {
    let language = caller.language;
    let silent = standing.iter().filter(|peer| peer.unreachable.is_some());
    let (silent, failed): (usize, u64) = (
        silent.count(),
        standing.iter().map(|peer| peer.failed_count).sum(),
    );
    match (silent, failed) {
        (0, 0) => language
            .say("No trouble is known with any peer.")
            .to_owned(),
        (0, failed) => language.fill("{} studies could not be sent.", &[&parts::count(failed)]),
        (silent, _) => language.fill("{} peers cannot be reached.", &[&silent.to_string()]),
    }
}

fn row(
    caller: &Caller,
    shown: &Shown,
    peer: &ShownPeer,
    status: Option<&PeerStatus>,
) -> Vec<Markup> {
    let language = caller.language;
    let count = |of: fn(&PeerStatus) -> u64| cell(&parts::count(status.map_or(0, of)));
    let oldest = status.and_then(|status| status.oldest_seconds);
    vec![
        html! { a href=(address(&peer.ae_title)) { (peer.ae_title) } },
        cell(&where_it_is(caller, peer)),
        state(caller, status),
        count(|status| status.waiting_count),
        count(|status| status.sending_count),
        count(|status| status.failed_count),
        cell(&oldest.map_or("-".to_owned(), |age| parts::duration(language, age))),
        cell(&gets(caller, shown, peer)),
    ]
}

fn where_it_is(caller: &Caller, peer: &ShownPeer) -> String {
    let port = peer.port.to_string();
    if peer.host.eq_ignore_ascii_case(CALLER) {
        return caller
            .language
            .fill("where it calls from, port {}", &[&port]);
    }
    match peer.host.contains(':') {
        true => format!("[{}]:{port}", peer.host),
        false => format!("{}:{port}", peer.host),
    }
}

/// Which rules send to it.
fn gets(caller: &Caller, shown: &Shown, peer: &ShownPeer) -> String {
    let mut gets = peer.rules.clone();
    let default = shown.default.as_deref().unwrap_or_default();
    if default.trim().eq_ignore_ascii_case(&peer.ae_title) {
        gets.push(caller.language.say("what no rule takes").to_owned());
    }
    match gets.is_empty() {
        true => caller.language.say("nothing").to_owned(),
        false => gets.join(", "),
    }
}

pub(super) fn state(caller: &Caller, status: Option<&PeerStatus>) -> Markup {
    let language = caller.language;
    let Some(status) = status else {
        return parts::badge(Tone::Plain, language.say("nothing was sent yet"));
    };
    html! {
        @if status.paused {
            (parts::badge(Tone::Warning, language.say("paused"))) " "
        }
        @match &status.unreachable {
            Some((reason, since)) => {
                (parts::badge(Tone::Warning, language.say("not reached"))) " "
                (language.say("since")) " " (parts::moment(since)) ": " (language.sentence(reason))
            }
            None if !status.paused => (parts::badge(Tone::Good, language.say("no trouble known"))),
            None => {}
        }
    }
}

async fn one(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(title): Path<String>,
) -> Response {
    one_page(&site, &caller, &title, &Typed::default()).await
}

async fn one_page(site: &Site, caller: &Caller, title: &str, typed: &Typed) -> Response {
    let language = caller.language;
    let say = |text| language.say(text);
    let head = language.fill("Peer {}", &[title]);
    let (shown, standing) = match (setup(site, caller).await, standing(site, caller).await) {
        (Ok(shown), Ok(standing)) => (shown, standing),
        (Err(reason), _) | (_, Err(reason)) => {
            return forms::nothing(caller, HERE, &head, &reason);
        }
    };
    let is_it = |peer: &&ShownPeer| peer.ae_title.eq_ignore_ascii_case(title.trim());
    let Some(peer) = shown.peers.iter().find(is_it) else {
        let reason = format!("there is no peer {title}");
        return forms::nothing(caller, HERE, &head, &reason);
    };
    let status = standing.iter().find(|one| one.peer == peer.ae_title);
    let form = Form::new(caller, typed, "change");
    let to = |action: &[&str]| {
        let parts: Vec<&str> = ["peer", title]
            .iter()
            .copied()
            .chain(action.iter().copied())
            .collect();
        forms::address(&parts)
    };
    let count = |of: fn(&PeerStatus) -> u64| cell(&parts::count(status.map_or(0, of)));
    let facts = [
        (say("State"), state(caller, status)),
        (say("Address"), cell(&where_it_is(caller, peer))),
        (say("Waiting"), count(|status| status.waiting_count)),
        (say("Being sent"), count(|status| status.sending_count)),
        (say("Failed"), count(|status| status.failed_count)),
        (say("Gets by itself"), cell(&gets(caller, &shown, peer))),
    ];
    let is_paused = status.is_some_and(|status| status.paused);
    let queue = format!("/forwarding{}", forms::query(&[("peer", &peer.ae_title)]));
    let body = html! {
        h1 { (head) }
        section {
            (parts::facts(&facts))
            p { a href=(queue) { (say("What waits for it")) } }
            (parts::buttons(html! {
                @if is_paused {
                    (parts::post_button(&to(&["do", "resume"]), say("Go on sending to it"), &[]))
                } @else {
                    (parts::post_button(&to(&["do", "pause"]), say("Pause: send nothing to it by itself"), &[]))
                }
                (parts::post_button(&to(&["do", "retry"]), say("Try now what failed or waits"), &[]))
            }))
        }
        section {
            h2 { (say("Test")) }
            p { (say("It is asked what it can do, in both directions. With an image: one of nobody is sent to it and asked back. It may take a minute.")) }
            (parts::buttons(html! {
                (parts::post_button(&to(&["test"]), say("Test it"), &[]))
                (parts::post_button(&to(&["test"]), say("Test it with an image"), &[("image", "yes")]))
            }))
        }
        section {
            h2 { (say("Change")) }
            (form.refusal())
            form method="post" action=(to(&["change"])) {
                div.fields { (fields(&form, caller, Some(peer))) }
                (parts::buttons(html! { button type="submit" { (say("Change")) } }))
            }
        }
        section {
            h2 { (say("Remove")) }
            (parts::buttons(html! { (parts::post_button(&to(&["remove"]), say("Remove this peer"), &[])) }))
        }
        p { a href=(HERE) { (say("All peers")) } }
    };
    forms::page(caller, HERE, &head, typed, body)
}

fn address(title: &str) -> String {
    forms::address(&["peer", title])
}
