//! `/conflicts/trash`: what was removed, and until when it comes back.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, cause};
use crate::archive::{RemovalSaid, RemovalVerb, Thrown, TrashItem};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, cell, column, number};

const LIST: &str = "/conflicts/trash";
/// The newest.
const LISTED_MAX: usize = 200;

async fn ask(site: &Site, caller: &Caller, verb: RemovalVerb) -> Result<RemovalSaid, String> {
    match site.ask(&caller.who, Request::Removal(verb)).await {
        control::Response::Removal(said) => Ok(*said),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

async fn items(site: &Site, caller: &Caller) -> Result<Vec<TrashItem>, String> {
    match ask(site, caller, RemovalVerb::Trash).await? {
        RemovalSaid::Trash(items) => Ok(items),
        _ => Err(forms::something_else()),
    }
}

pub async fn list(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let language = caller.language;
    let say = |text| language.say(text);
    let title = say("Trash");
    let items = match items(&site, &caller).await {
        Ok(items) => items,
        Err(reason) => return forms::nothing(&caller, HERE, title, &reason),
    };
    let bytes: u64 = items.iter().map(|item| item.bytes).sum();
    let images: u64 = items.iter().map(|item| item.kept_count).sum();
    let columns = [
        number(say("Number")),
        column(say("Patient ID")),
        column(say("Patient name")),
        column(say("Study date")),
        number(say("Images")),
        number(say("Size")),
        column(say("Removed")),
        column(say("Who")),
        column(say("Gone on")),
        column(say("Why")),
    ];
    let row = |item: &TrashItem| {
        let number = item.number.to_string();
        vec![
            html! { a href=(forms::address(&["conflicts", "trash", &number])) { (number) } },
            cell(&item.patient_id),
            cell(&item.patient_name),
            cell(&parts::day(&item.study_date)),
            cell(&parts::count(item.kept_count)),
            cell(&parts::bytes(item.bytes)),
            parts::moment(&item.at),
            cell(&item.who),
            cell(gone_on(&caller, item)),
            cell(&item.why),
        ]
    };
    let rows: Vec<Vec<Markup>> = items.iter().take(LISTED_MAX).map(row).collect();
    let body = html! {
        h1 { (title) }
        section {
            @if rows.is_empty() {
                (parts::empty(say("The trash is empty.")))
            } @else {
                p.answer { (language.fill("{} images, {}", &[&parts::count(images), &parts::bytes(bytes)])) }
                (parts::table(title, &columns, &rows))
            }
        }
        p { a href=(HERE) { (say("Conflicts and quarantine")) } }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

fn gone_on<'a>(caller: &'a Caller, item: &'a TrashItem) -> &'a str {
    match (item.emptied, item.gone_on.is_empty()) {
        (true, _) => caller.language.say("now"),
        (_, true) => caller.language.say("never"),
        _ => &item.gone_on,
    }
}

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<u64>,
) -> Response {
    page(&site, &caller, number, &Typed::default()).await
}

async fn page(site: &Site, caller: &Caller, number: u64, typed: &Typed) -> Response {
    let language = caller.language;
    let say = |text| language.say(text);
    let text = number.to_string();
    let title = language.fill("Removal {}", &[&text]);
    let items = match items(site, caller).await {
        Ok(items) => items,
        Err(reason) => return forms::nothing(caller, LIST, &title, &reason),
    };
    let Some(item) = items.iter().find(|item| item.number == number) else {
        let reason = format!("removal {number} is not in the trash");
        return forms::nothing(caller, LIST, &title, &reason);
    };
    let facts = [
        (say("Patient ID"), cell(&item.patient_id)),
        (say("Patient name"), cell(&item.patient_name)),
        (say("Study date"), cell(&parts::day(&item.study_date))),
        (say("Images"), cell(&parts::count(item.kept_count))),
        (say("Size"), cell(&parts::bytes(item.bytes))),
        (say("Removed"), parts::moment(&item.at)),
        (say("Who"), cell(&item.who)),
        (say("Why"), cell(&item.why)),
        (say("Gone on"), cell(gone_on(caller, item))),
        (
            say("Studies"),
            html! { span.uid { (item.study_instance_uids.join(", ")) } },
        ),
    ];
    let (restore, empty) = (
        Form::new(caller, typed, "restore"),
        Form::new(caller, typed, "empty"),
    );
    let to = |action: &str| forms::address(&["conflicts", "trash", &text, action]);
    let body = html! {
        h1 { (title) }
        section { (parts::facts(&facts)) }
        div.side-by-side {
            section {
                h2 { (say("Restore")) }
                (restore.refusal())
                form method="post" action=(to("restore")) {
                    div.fields {
                        (restore.text("reason", say("Why (kept with the change)"), ""))
                        (restore.tick("partly", say("Also when some of it is gone for good"), false))
                    }
                    (parts::buttons(html! { button type="submit" { (say("Restore")) } }))
                }
            }
            section {
                h2 { (say("Delete for good")) }
                (empty.refusal())
                form method="post" action=(to("empty")) {
                    div.fields { (empty.text("reason", say("Why (kept with the change)"), "")) }
                    (parts::buttons(html! { button.danger type="submit" { (say("Delete for good")) } }))
                }
            }
        }
        p { a href=(LIST) { (say("Trash")) } }
    };
    forms::page(caller, HERE, &title, typed, body)
}

/// Restoring hides nothing; deleting has a page in between.
pub async fn act(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path((number, action)): Path<(u64, String)>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let say = |text| caller.language.say(text);
    let thrown = Thrown::Number(number);
    let (typed, verb) = match action.as_str() {
        "restore" => {
            let typed = Typed::new("restore", fields);
            let cause = cause(&caller, &typed, "taken back");
            let partly = typed.ticked("partly");
            (
                typed,
                RemovalVerb::Restore {
                    thrown,
                    cause,
                    partly,
                },
            )
        }
        "empty" => {
            let typed = Typed::new("empty", fields);
            let cause = cause(&caller, &typed, "emptied by hand");
            (typed, RemovalVerb::Empty { thrown, cause })
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if matches!(verb, RemovalVerb::Empty { .. }) && !typed.is_sure() {
        let text = number.to_string();
        let title = caller.language.fill("Removal {}", &[&text]);
        let what =
            html! { p { (say("The files are deleted for good. That cannot be taken back.")) } };
        let again = forms::address(&["conflicts", "trash", &text, "empty"]);
        let back = forms::address(&["conflicts", "trash", &text]);
        let body = html! {
            h1 { (title) }
            (forms::between(&caller, &typed, &again, what, say("Delete for good"), &back))
        };
        return forms::page(&caller, HERE, &title, &typed, body);
    }
    match ask(&site, &caller, verb).await {
        Ok(RemovalSaid::Done { said, .. }) => forms::done(&site, LIST, said),
        Ok(_) => forms::not_done(&site, LIST, forms::something_else()),
        Err(reason) => page(&site, &caller, number, &typed.refused(reason)).await,
    }
}
