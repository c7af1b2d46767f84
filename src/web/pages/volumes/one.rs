//! `/volume/NAME`: one volume, and what can be done with it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, address, status};
use crate::archive::{VolumeStatus, VolumeVerb, Way};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell};

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    page(&site, &caller, &name, &Typed::default()).await
}

/// What one button does. Emptying has a page in between: it reads and writes for hours.
pub async fn act(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path((name, action)): Path<(String, String)>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("do", fields);
    let say = |text| caller.language.say(text);
    let own = address(&name);
    let verb = match action.as_str() {
        "retire" => VolumeVerb::Retire { name, undo: false },
        "unretire" => VolumeVerb::Retire { name, undo: true },
        "eject" => VolumeVerb::Eject { name },
        "return" => VolumeVerb::Return { name },
        "stop-drain" => VolumeVerb::Drain { name, stop: true },
        "drain" if typed.is_sure() => VolumeVerb::Drain { name, stop: false },
        "drain" => {
            let title = caller.language.fill("Empty volume {}", &[&name]);
            let what = html! { p { (say("Everything on it is moved to the other volumes, each copy checked before the old one goes. It receives no new images any more. This takes hours, and can be stopped.")) } };
            let again = forms::address(&["volume", &name, "do", "drain"]);
            let body = html! {
                h1 { (title) }
                (forms::between(&caller, &typed, &again, what, say("Empty it"), &own))
            };
            return forms::page(&caller, HERE, &title, &typed, body);
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match site.ask(&caller.who, Request::Volume(verb)).await {
        control::Response::Said(said) => forms::done(&site, &own, said),
        control::Response::Failed { reason } => forms::not_done(&site, &own, reason),
        _ => forms::not_done(&site, &own, forms::something_else()),
    }
}

pub async fn rename(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("rename", fields);
    let new_name = typed.text("new_name").to_owned();
    let after = address(&new_name);
    let verb = VolumeVerb::Rename {
        name: name.clone(),
        new_name,
    };
    ask(&site, &caller, &name, typed, verb, &after).await
}

pub async fn relocate(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("relocate", fields);
    let verb = VolumeVerb::Relocate {
        name: name.clone(),
        path: typed.text("path").into(),
    };
    ask(&site, &caller, &name, typed, verb, &address(&name)).await
}

/// A refusal is shown at the form.
async fn ask(
    site: &Site,
    caller: &Caller,
    name: &str,
    typed: Typed,
    verb: VolumeVerb,
    after: &str,
) -> Response {
    match site.ask(&caller.who, Request::Volume(verb)).await {
        control::Response::Said(said) => forms::done(site, after, said),
        control::Response::Failed { reason } => {
            page(site, caller, name, &typed.refused(reason)).await
        }
        _ => page(site, caller, name, &typed.refused(forms::something_else())).await,
    }
}

/// First the page in between; then without writing anything off. What is refused then can be asked for once more, with a tick.
pub async fn forget(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("forget", fields);
    if !typed.is_sure() {
        return forget_page(&caller, &name, &typed);
    }
    let verb = VolumeVerb::Forget {
        name: name.clone(),
        yes: typed.ticked("write_off"),
    };
    match site.ask(&caller.who, Request::Volume(verb)).await {
        control::Response::Said(said) => forms::done(&site, HERE, said),
        control::Response::Failed { reason } => forget_page(&caller, &name, &typed.refused(reason)),
        _ => forget_page(&caller, &name, &typed.refused(forms::something_else())),
    }
}

fn forget_page(caller: &Caller, name: &str, typed: &Typed) -> Response {
    let say = |text| caller.language.say(text);
    let title = caller.language.fill("Forget volume {}", &[name]);
    let form = Form::new(caller, typed, "forget");
    let body = html! {
        h1 { (title) }
        (form.refusal())
        (parts::notice(Tone::Warning, html! {
            p { (say("It is taken out of the archive, for a disk that will not come back. Images that have other copies stay; nothing on the disk itself is changed.")) }
            p { (say("Where images are nowhere else, it is refused until you tick the box; they are written off then.")) }
        }))
        form method="post" action=(forms::address(&["volume", name, "forget"])) {
            (forms::sure())
            (form.tick("write_off", say("Write off what is nowhere else"), false))
            (parts::buttons(html! {
                button.danger type="submit" { (say("Forget it")) }
                a.button href=(address(name)) { (say("Back, without changing anything")) }
            }))
        }
    };
    forms::page(caller, HERE, &title, typed, body)
}

async fn page(site: &Site, caller: &Caller, name: &str, typed: &Typed) -> Response {
    let title = caller.language.fill("Volume {}", &[name]);
    let status = match status(site, caller).await {
        Ok(status) => status,
        Err(reason) => return forms::nothing(caller, HERE, &title, &reason),
    };
    let Some(volume) = status.volumes.iter().find(|volume| volume.name == name) else {
        let reason = format!("there is no volume {name}");
        return forms::nothing(caller, HERE, &title, &reason);
    };
    let checked = status.checked.volumes.iter();
    let mut checked = checked.filter(|checked| checked.volume_id == volume.volume_id);
    let language = caller.language;
    let say = |text| language.say(text);
    let count = |count: Option<u64>| cell(&count.map_or("-".to_owned(), parts::count));
    let bytes = |bytes: Option<u64>| cell(&bytes.map_or("-".to_owned(), parts::bytes));
    let checked = checked.next();
    let facts = [
        (say("State"), parts::state_badge(language, &volume.state)),
        (say("Role"), cell(&language.sentence(&volume.role))),
        (say("Folder"), cell(&volume.path)),
        (say("Room"), super::room(caller, volume)),
        (say("Stays free"), bytes(volume.reserve_bytes)),
        (say("Images"), count(volume.instances_count)),
        (say("Of these"), bytes(volume.instances_bytes)),
        (say("Studies"), count(volume.studies_count)),
        (say("Study dates"), cell(&super::dates(volume))),
        (say("Bad copies"), count(checked.map(super::bad_count))),
        (say("All read again"), super::read(caller, checked)),
    ];
    let body = html! {
        h1 { (title) }
        @if !volume.reason.is_empty() && volume.reason != volume.state {
            (parts::notice(Tone::of_state(&volume.state), html! { (language.sentence(&volume.reason)) }))
        }
        section {
            (parts::facts(&facts))
            @if let Some(text) = intake(caller, volume) { p { (text) } }
            @for note in &volume.notes { p { (language.sentence(note)) } }
        }
        section {
            h2 { (say("What can be done")) }
            (actions(caller, volume))
        }
        (forms_of(caller, volume, typed))
        p { a href=(HERE) { (say("All volumes")) } }
    };
    forms::page(caller, HERE, &title, typed, body)
}

/// Which way images come in, and what waits.
fn intake(caller: &Caller, volume: &VolumeStatus) -> Option<String> {
    let language = caller.language;
    let way_in = volume.intake.as_ref()?;
    let reason = language.sentence(&way_in.reason);
    let mut text = match way_in.way {
        Way::Direct => language.fill("Images come in directly: {}.", &[&reason]),
        Way::Journal => language.fill("Images come in through a journal: {}.", &[&reason]),
    };
    if let Some(journal) = &volume.intake_journal {
        let count = parts::count(journal.waiting_count);
        let bytes = parts::bytes(journal.waiting_bytes);
        text.push(' ');
        text.push_str(&language.fill(
            "{} wait for their files ({}) in {}.",
            &[&count, &bytes, &journal.path],
        ));
        if journal.is_elsewhere {
            text.push(' ');
            text.push_str(
                language.say("It lies on another disk: what waits is lost if that disk is."),
            );
        }
    }
    Some(text)
}

fn actions(caller: &Caller, volume: &VolumeStatus) -> Markup {
    let say = |text| caller.language.say(text);
    let button = |action: &str, label: &str, means: &str| {
        let to = forms::address(&["volume", &volume.name, "do", action]);
        html! {
            (parts::buttons(html! { (parts::post_button(&to, label, &[])) span { (means) } }))
        }
    };
    let state = volume.state.as_str();
    let is_here = !matches!(state, "away" | "ejected" | "replaced");
    html! {
        @if state == "retired" {
            (button("unretire", say("Let it receive again"), say("New images may come to it.")))
        }
        @if matches!(state, "ok" | "failed") {
            (button("retire", say("Retire"), say("No new images on it; what is there is served.")))
        }
        @if state == "draining" {
            (button("stop-drain", say("Stop emptying"), say("The rest stays where it is.")))
        }
        @if matches!(state, "ok" | "retired" | "failed") {
            (button("drain", say("Empty"), say("Everything on it goes to the other volumes.")))
        }
        @if is_here {
            (button("eject", say("Eject"), say("Finishes what is in flight and closes it: it may be unplugged then.")))
        }
        @if matches!(state, "away" | "ejected" | "failed") {
            (button("return", say("Return"), say("It is plugged in and mounted again: take it back.")))
        }
        @if matches!(state, "away" | "ejected" | "replaced") {
            (parts::buttons(html! {
                (parts::post_button(&forms::address(&["volume", &volume.name, "forget"]), say("Forget"), &[]))
                span { (say("Its disk will not come back: take it out of the archive.")) }
            }))
        }
        @if state == "replaced" {
            p { (say("Its disk was given up; another one stands in its place and is being filled.")) }
        }
        p {
            a href=(forms::address(&["volume", &volume.name, "replace"])) { (say("How far a replacement of its disk is")) }
        }
    }
}

fn forms_of(caller: &Caller, volume: &VolumeStatus, typed: &Typed) -> Markup {
    let say = |text| caller.language.say(text);
    let to = |action: &str| forms::address(&["volume", &volume.name, action]);
    let (rename, relocate, replace) = (
        Form::new(caller, typed, "rename"),
        Form::new(caller, typed, "relocate"),
        Form::new(caller, typed, "replace"),
    );
    let submit = |label: &str| parts::buttons(html! { button type="submit" { (label) } });
    html! {
        @if volume.state != "replaced" {
            div.side-by-side {
                section {
                    h2 { (say("Its disk is dead: put a new one in its place")) }
                    p { (say("The new disk is filled from the other copies. What will happen is shown first.")) }
                    (replace.refusal())
                    form method="post" action=(to("replace")) {
                        div.fields { (replace.needed("path", say("Empty folder where the new disk is mounted"), "")) }
                        (submit(say("Show what it would do")))
                    }
                }
                section {
                    h2 { (say("Its disk is mounted elsewhere now")) }
                    (relocate.refusal())
                    form method="post" action=(to("relocate")) {
                        div.fields { (relocate.needed("path", say("Folder on the server"), &volume.path)) }
                        (submit(say("Relocate")))
                    }
                }
                section {
                    h2 { (say("Another name")) }
                    (rename.refusal())
                    form method="post" action=(to("rename")) {
                        div.fields { (rename.needed("new_name", say("Name (letters, digits, - and _)"), &volume.name)) }
                        (submit(say("Rename")))
                    }
                }
            }
        }
    }
}

/// With the reason why a replacement was refused.
pub async fn refused(site: &Site, caller: &Caller, name: &str, typed: Typed) -> Response {
    page(site, caller, name, &typed).await
}
