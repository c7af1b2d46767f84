//! Reports: what became of dead disks and of pulls, and what left by rule.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::super::forms::{self, Typed};
use super::HERE;
use crate::archive::{ReportName, ReportVerb};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, cell, column, number};

/// On the page of jobs.
const NEWEST: usize = 10;
/// On their own page; one is a few lines.
const LISTED_MAX: usize = 1_000;

async fn names(site: &Site, caller: &Caller) -> Result<Vec<ReportName>, String> {
    match site
        .ask(&caller.who, Request::Report(ReportVerb::List))
        .await
    {
        control::Response::Reports(reports) => Ok(reports),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

pub async fn newest(site: &Site, caller: &Caller) -> Markup {
    let say = |text| caller.language.say(text);
    match names(site, caller).await {
        Ok(names) => html! {
            (table(caller, &names, NEWEST))
            @if names.len() > NEWEST { p { a href="/jobs/reports" { (say("All reports")) } } }
        },
        Err(reason) => forms::refusal(caller, &reason),
    }
}

fn table(caller: &Caller, names: &[ReportName], most: usize) -> Markup {
    let say = |text| caller.language.say(text);
    if names.is_empty() {
        return parts::empty(say("There is no report yet."));
    }
    let row = |report: &ReportName| {
        let address = forms::address(&["jobs", "report", &report.name]);
        vec![
            html! { a href=(address) { (report.name) } },
            cell(&parts::bytes(report.bytes)),
        ]
    };
    let rows: Vec<Vec<Markup>> = names.iter().take(most).map(row).collect();
    let columns = [column(say("Report")), number(say("Size"))];
    parts::table(say("Reports"), &columns, &rows)
}

pub async fn list(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let title = caller.language.say("Reports");
    let body = match names(&site, &caller).await {
        Ok(names) => html! { h1 { (title) } section { (table(&caller, &names, LISTED_MAX)) } },
        Err(reason) => return forms::nothing(&caller, HERE, title, &reason),
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    let verb = ReportVerb::Show {
        name: Some(name.clone()),
    };
    let title = caller.language.fill("Report {}", &[&name]);
    let shown = match site.ask(&caller.who, Request::Report(verb)).await {
        control::Response::Report(shown) => shown,
        control::Response::Failed { reason } => {
            return forms::nothing(&caller, HERE, &title, &reason);
        }
        _ => return forms::nothing(&caller, HERE, &title, &forms::something_else()),
    };
    let body = html! {
        h1 { (title) }
        section { pre tabindex="0" { (shown.text) } }
        p { a href=(HERE) { (caller.language.say("Jobs")) } }
    };
    forms::page(&caller, HERE, &title, &Typed::default(), body)
}
