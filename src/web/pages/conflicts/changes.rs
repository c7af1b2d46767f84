//! `/conflicts/changes`: who changed what of the studies, when and why; one of them, and taking it back.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, ask, before_and_after, cause};
use crate::archive::{
    AmendVerb, ChangesVerb, ConflictsSaid, ConflictsVerb, Correction, RemovalVerb, Thrown, Undo,
};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

/// The newest; a study or a day leads to older ones.
const LISTED_MAX: usize = 200;
const LIST: &str = "/conflicts/changes";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    study: String,
    /// `YYYY-MM-DD`
    since: String,
}

async fn changes(
    site: &Site,
    caller: &Caller,
    verb: ChangesVerb,
) -> Result<Vec<Correction>, String> {
    match site.ask(&caller.who, Request::Changes(verb)).await {
        control::Response::Changes(changes) => Ok(changes),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

fn did<'a>(caller: &'a Caller, did: &'a str) -> &'a str {
    let say = |text| caller.language.say(text);
    match did {
        "amended" => say("amended"),
        "removed" => say("removed"),
        "preferred" => say("preferred"),
        "discarded" => say("discarded"),
        "rejected" => say("rejected by a note"),
        "dismissed" => say("well as it is"),
        "protected" => say("protected"),
        other => other,
    }
}

fn state(caller: &Caller, in_effect: bool) -> Markup {
    match in_effect {
        true => parts::badge(Tone::Good, caller.language.say("in effect")),
        false => parts::badge(Tone::Plain, caller.language.say("taken back")),
    }
}

pub async fn list(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Changes");
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let verb = ChangesVerb::List {
        study: given(&asked.study),
        since: given(&asked.since),
        most: LISTED_MAX,
    };
    let found = changes(&site, &caller, verb).await;
    let columns = [
        number(say("Number")),
        column(say("When")),
        column(say("What")),
        column(say("State")),
        number(say("Images")),
        column(say("Of")),
        column(say("Who")),
        column(say("Why")),
    ];
    let body = html! {
        h1 { (title) }
        section {
            form method="get" action=(LIST) role="search" {
                div.fields {
                    (parts::text_field("study", say("Study Instance UID"), &asked.study, ""))
                    div.field {
                        label for="field-since" { (say("Since")) }
                        input type="date" id="field-since" name="since" value=(asked.since);
                    }
                }
                (parts::buttons(html! { button type="submit" { (say("Show")) } }))
            }
        }
        section {
            @match &found {
                Ok(found) if found.is_empty() => (parts::empty(say("Nothing was changed."))),
                Ok(found) => {
                    @let rows: Vec<Vec<Markup>> = found.iter().map(|change| row(&caller, change)).collect();
                    (parts::table(title, &columns, &rows))
                    @if rows.len() == LISTED_MAX { p { (say("There may be older ones: choose a study.")) } }
                }
                Err(reason) => (forms::refusal(&caller, reason)),
            }
        }
        p { a href=(HERE) { (say("Conflicts and quarantine")) } }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

fn row(caller: &Caller, change: &Correction) -> Vec<Markup> {
    let number = change.number.to_string();
    vec![
        html! { a href=(forms::address(&["conflicts", "change", &number])) { (number) } },
        parts::moment(&change.at),
        cell(did(caller, &change.did)),
        state(caller, change.in_effect),
        cell(&parts::count(change.instances_count)),
        html! { span.uid { (change.of.first().map_or("", String::as_str)) } },
        cell(&change.who),
        cell(&change.why),
    ]
}

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<u64>,
) -> Response {
    page(&site, &caller, number, &Typed::default()).await
}

async fn one(site: &Site, caller: &Caller, number: u64) -> Result<Correction, String> {
    let found = changes(site, caller, ChangesVerb::Show { number }).await?;
    found.into_iter().next().ok_or_else(forms::something_else)
}

async fn page(site: &Site, caller: &Caller, number: u64, typed: &Typed) -> Response {
    let language = caller.language;
    let say = |text| language.say(text);
    let text = number.to_string();
    let title = language.fill("Change {}", &[&text]);
    let change = match one(site, caller, number).await {
        Ok(change) => change,
        Err(reason) => return forms::nothing(caller, LIST, &title, &reason),
    };
    let mut facts = vec![
        (say("What"), cell(did(caller, &change.did))),
        (say("State"), state(caller, change.in_effect)),
        (say("When"), parts::moment(&change.at)),
        (
            say("Who"),
            html! { (change.who) " (" (language.sentence(&change.way)) ")" },
        ),
        (say("Why"), cell(&change.why)),
        (say("Images"), cell(&parts::count(change.instances_count))),
        (say("Of"), html! { span.uid { (change.of.join(", ")) } }),
        (
            say("Studies"),
            html! { @for uid in &change.studies {
                a.uid href=(forms::address(&["studies", uid])) { (uid) } " "
            } },
        ),
        (say("Kept on"), cell(&change.volumes.join(", "))),
    ];
    if let Some(last) = &change.last {
        facts.push((
            say("Last said"),
            html! { (parts::moment(&last.at)) " " (last.who) ": " (last.why) },
        ));
    }
    let form = Form::new(caller, typed, "undo");
    let undo = forms::address(&["conflicts", "change", &text, "undo"]);
    let body = html! {
        h1 { (title) }
        section {
            (parts::facts(&facts))
            (before_and_after(caller, &change.before, &change.after))
        }
        @if change.in_effect {
            section {
                h2 { (say("Take it back")) }
                (form.refusal())
                form method="post" action=(undo) {
                    div.fields { (form.text("reason", say("Why (kept with the change)"), "")) }
                    (parts::buttons(html! { button type="submit" { (say("Take it back")) } }))
                }
            }
        }
        p { a href=(LIST) { (say("Changes")) } }
    };
    forms::page(caller, HERE, &title, typed, body)
}

/// By what was done: each kind is taken back by its own verb.
pub async fn undo(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<u64>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("undo", fields);
    let text = number.to_string();
    let title = caller.language.fill("Take change {} back", &[&text]);
    let change = match one(&site, &caller, number).await {
        Ok(change) => change,
        Err(reason) => return forms::nothing(&caller, LIST, &title, &reason),
    };
    let own = forms::address(&["conflicts", "change", &text]);
    if !typed.is_sure() {
        let say = |text| caller.language.say(text);
        let what = html! {
            p { (did(&caller, &change.did)) ", " (parts::moment(&change.at)) ", " (change.who) ": " (change.why) }
            p { (say("What it changed is as before again, and what it had put in its place is hidden.")) }
        };
        let again = forms::address(&["conflicts", "change", &text, "undo"]);
        let body = html! {
            h1 { (title) }
            (forms::between(&caller, &typed, &again, what, say("Take it back"), &own))
        };
        return forms::page(&caller, HERE, &title, &typed, body);
    }
    match take_back(&site, &caller, &change, &typed).await {
        Ok(said) => forms::done(&site, &own, said),
        Err(reason) => page(&site, &caller, number, &typed.refused(reason)).await,
    }
}

async fn take_back(
    site: &Site,
    caller: &Caller,
    change: &Correction,
    typed: &Typed,
) -> Result<String, String> {
    let number = change.number;
    let cause = cause(caller, typed, "taken back");
    let done = || {
        let number = number.to_string();
        caller.language.fill("Change {} is taken back.", &[&number])
    };
    let request = match change.did.as_str() {
        "amended" => Request::Amend(AmendVerb::Undo {
            ask: Undo {
                number: Some(number),
                study: None,
                who: cause.who,
                why: cause.why,
            },
        }),
        "removed" => Request::Removal(RemovalVerb::Restore {
            thrown: Thrown::Number(number),
            cause,
            partly: false,
        }),
        "protected" => Request::Removal(RemovalVerb::Unprotect {
            study_instance_uid: change.of.first().cloned().unwrap_or_default(),
            cause,
        }),
        _ => {
            return match ask(site, caller, ConflictsVerb::Undo { number, cause }).await? {
                ConflictsSaid::Done { said, .. } => Ok(said),
                _ => Err(forms::something_else()),
            };
        }
    };
    match site.ask(&caller.who, request).await {
        control::Response::Failed { reason } => Err(reason),
        _ => Ok(done()),
    }
}
