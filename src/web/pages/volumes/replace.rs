//! `/volume/NAME/replace`: a new disk in the place of a dead one. First what it would do, then how far it is, then the report.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::super::forms::{self, Fields, Typed};
use super::{HERE, address, one};
use crate::archive::{Counted, ReplaceStatus, ReportVerb, VolumeVerb};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone};

/// How often the page looks how far it is.
const LOOK_SECONDS: u32 = 2;

pub async fn begin(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("replace", fields);
    let dry_run = !typed.is_sure();
    let request = Request::Volume(VolumeVerb::Replace {
        name: name.clone(),
        path: typed.text("path").into(),
        dry_run,
    });
    let own = forms::address(&["volume", &name, "replace"]);
    let status = match site.ask(&caller.who, request).await {
        control::Response::Replace(status) => status,
        control::Response::Failed { reason } => {
            return one::refused(&site, &caller, &name, typed.refused(reason)).await;
        }
        _ => {
            let typed = typed.refused(forms::something_else());
            return one::refused(&site, &caller, &name, typed).await;
        }
    };
    let say = |text| caller.language.say(text);
    if !dry_run {
        let said = say("The new disk is being filled; this page shows how far it is.");
        return forms::done(&site, &own, said);
    }
    let title = title(&caller, &name);
    let what = screen(&caller, &status);
    let begin = say("Put the new disk in its place");
    let body = html! {
        h1 { (title) }
        p { (say("Nothing was changed yet. This is what it would do:")) }
        (forms::between(&caller, &typed, &own, what, begin, &address(&name)))
    };
    forms::page(&caller, HERE, &title, &typed, body)
}

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    let title = title(&caller, &name);
    let (body, _) = progress(&site, &caller, &name).await;
    let now = forms::address(&["volume", &name, "replace", "now"]);
    let body = html! {
        h1 { (title) }
        section aria-label=(title) { (parts::moving("replacing", &now, LOOK_SECONDS, body)) }
        p { a href=(address(&name)) { (caller.language.fill("Volume {}", &[&name])) } }
    };
    forms::page(&caller, HERE, &title, &Typed::default(), body)
}

pub async fn now(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    let (body, over) = progress(&site, &caller, &name).await;
    forms::fragment(body, over)
}

fn title(caller: &Caller, name: &str) -> String {
    caller.language.fill("A new disk for volume {}", &[name])
}

/// How far it is, with the report at the end; and whether that is the end.
async fn progress(site: &Site, caller: &Caller, name: &str) -> (Markup, bool) {
    let request = Request::Restoring {
        name: name.to_owned(),
    };
    let status = match site.ask(&caller.who, request).await {
        control::Response::Replace(status) => status,
        control::Response::Failed { reason } => return (forms::refusal(caller, &reason), true),
        _ => return (forms::refusal(caller, &forms::something_else()), true),
    };
    let is_done = status.state == "done";
    let report = match status.report.clone().filter(|_| is_done) {
        Some(name) => report(site, caller, name).await,
        None => None,
    };
    let body = html! {
        (screen(caller, &status))
        @if let Some(report) = report { (report) }
    };
    (body, is_done)
}

async fn report(site: &Site, caller: &Caller, name: String) -> Option<Markup> {
    let verb = ReportVerb::Show {
        name: Some(name.clone()),
    };
    match site.ask(&caller.who, Request::Report(verb)).await {
        control::Response::Report(shown) => Some(html! {
            h2 { (caller.language.say("Report")) }
            pre tabindex="0" { (shown.text) }
            p { a href=(forms::address(&["jobs", "report", &name])) { (name) } }
        }),
        _ => None,
    }
}

fn screen(caller: &Caller, status: &ReplaceStatus) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let counted = |counted: Counted| {
        let (count, bytes) = (parts::count(counted.count), parts::bytes(counted.bytes));
        html! { (language.fill("{} images, {}", &[&count, &bytes])) }
    };
    let mut facts = vec![
        (say("New disk"), html! { (status.path) }),
        (say("On the old disk"), counted(status.total)),
    ];
    if let Some(room) = status.room_bytes {
        facts.push((say("Free on the new disk"), html! { (parts::bytes(room)) }));
    }
    if status.state != "planned" {
        facts.push((say("On the new disk already"), counted(status.restored)));
    }
    facts.push((say("To copy"), counted(status.todo)));
    facts.push((
        say("Have what they need elsewhere"),
        counted(status.elsewhere),
    ));
    facts.push((say("Have no other good copy"), counted(status.lost)));
    if !status.old_names.is_empty() {
        facts.push((
            say("The old disk stays known as"),
            html! { (status.old_names.join(", ")) },
        ));
    }
    let is_planned = status.state == "planned";
    html! {
        @if !is_planned {
            p.answer role="status" {
                (parts::state_badge(language, &status.state)) " "
                @if !status.reason.is_empty() { (language.sentence(&status.reason)) }
            }
            (bar(caller, status))
        } @else if !status.reason.is_empty() {
            p { (language.sentence(&status.reason)) }
        }
        (parts::facts(&facts))
        @if !status.sources.is_empty() {
            ul {
                @for from in &status.sources {
                    @let (count, bytes) = (parts::count(from.count), parts::bytes(from.bytes));
                    li {
                        (language.fill("{} images, {}, from volume {}", &[&count, &bytes, &from.volume]))
                        @if !from.is_here { " " (say("(which is away)")) }
                    }
                }
            }
        }
        @if status.lost.count > 0 {
            (parts::notice(Tone::Bad, html! { (say("What has no other good copy is lost with the old disk: send it again from where it came.")) }))
        }
        @for warning in &status.warnings {
            (parts::notice(Tone::Warning, html! { (language.sentence(warning)) }))
        }
        @if status.state == "blocked" {
            p { (say("It goes on by itself when that changes.")) }
        }
    }
}

fn bar(caller: &Caller, status: &ReplaceStatus) -> Markup {
    let language = caller.language;
    let total = status.total.count;
    let done = total.saturating_sub(status.todo.count);
    let mut text = language.fill(
        "{} of {} images",
        &[&parts::count(done), &parts::count(total)],
    );
    if let Some(progress) = &status.progress {
        text.push_str(&format!(", {}/s", parts::bytes(progress.bytes_per_second)));
        if let Some(seconds) = progress.eta_seconds {
            let left = parts::duration(language, seconds);
            text.push_str(&language.fill(", {} left", &[&left]));
        }
    }
    let label = language.fill("A new disk for volume {}", &[&status.name]);
    html! { p { (parts::progress(&label, done, Some(total), &text)) } }
}
