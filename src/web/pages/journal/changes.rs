//! `/journal/changes`: who asked for which change, from where, and what became of it.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::forms::{self, Typed};
use super::{CHANGES, HERE, begin, tabs};
use crate::audit::{self, Change};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, cell, column};

/// Lines on a page; words or days lead to others.
const LISTED_MAX: usize = 200;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Words that are all in the line.
    words: String,
    /// Days, `YYYY-MM-DD`, both included.
    from: String,
    to: String,
}

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Changes that people made");
    let found = list(&site, asked.clone()).await;
    let body = html! {
        h1 { (title) }
        (tabs(&caller, CHANGES))
        section {
            form method="get" action=(CHANGES) role="search" {
                div.fields {
                    (super::date("from", say("From day"), &asked.from))
                    (super::date("to", say("To day"), &asked.to))
                    (parts::text_field("words", say("Words in the line"), &asked.words, say("Of a name, an address, a verb, a UID")))
                }
                (parts::buttons(html! {
                    button type="submit" { (say("Search")) }
                    a.button href=(CHANGES) { (say("The newest")) }
                }))
            }
        }
        section {
            @match &found {
                Ok(found) => (table(&caller, found)),
                Err(reason) => (forms::refusal(&caller, reason)),
            }
        }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

async fn list(site: &Site, asked: Asked) -> Result<Vec<Change>, String> {
    let given = |day: &str, later| match day.trim() {
        "" => Ok(None),
        day => begin(day, later).map(Some),
    };
    let (since, until) = (given(&asked.from, 0)?, given(&asked.to, 1)?);
    let words = asked.words.to_lowercase();
    let state = site.desk.config.state.clone();
    let listed = site.blocking(move || {
        audit::list(&state, LISTED_MAX, &mut |change| {
            let parts = [&*change.who, &change.from, &change.what, &change.outcome];
            let all = parts.join("\n").to_lowercase();
            // Both are UTC, in the same form to the second.
            since.as_ref().is_none_or(|since| change.at >= *since)
                && until.as_ref().is_none_or(|until| change.at < *until)
                && words.split_whitespace().all(|word| all.contains(word))
        })
    });
    listed
        .await?
        .map_err(|error| format!("the audit cannot be read: {error}"))
}

fn table(caller: &Caller, found: &[Change]) -> Markup {
    let say = |text| caller.language.say(text);
    if found.is_empty() {
        return parts::empty(say("Nothing was noted."));
    }
    let columns = [
        column(say("When")),
        column(say("Who")),
        column(say("From where")),
        column(say("What")),
        column(say("What became of it")),
    ];
    let row = |change: &Change| {
        vec![
            parts::moment(&change.at),
            cell(&change.who),
            cell(&caller.language.sentence(&change.from)),
            html! { code { (change.what) } },
            cell(&caller.language.sentence(&change.outcome)),
        ]
    };
    let rows: Vec<Vec<Markup>> = found.iter().map(row).collect();
    html! {
        (parts::table(say("Changes that people made"), &columns, &rows))
        @if rows.len() == LISTED_MAX { p { (say("There may be older ones: choose days or words.")) } }
    }
}
