//! `/journal`: what came and went, searched as `kura journal` does; a page at a time, the newest first. Beside it the
//! audit.

mod changes;

use std::ops::ControlFlow;

use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde::Deserialize;

use super::forms::{self, Typed};
use crate::control::{self, Request};
use crate::transfers::{Direction, SearchEnd, Transfer, Wanted};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

const HERE: &str = "/journal";
const CHANGES: &str = "/journal/changes";
/// Lines on a page.
const PAGE_COUNT: usize = 100;

pub fn routes() -> Router<Site> {
    Router::new()
        .route(HERE, get(show))
        .route(CHANGES, get(changes::show))
}

/// What is looked for; empty texts are not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// Words that are all in the line.
    words: String,
    peer: String,
    study: String,
    direction: String,
    failed: Option<String>,
    /// Days, `YYYY-MM-DD`, both included.
    from: String,
    to: String,
    /// Older than this moment (RFC 3339): of the link to the next page.
    before: String,
}

impl Asked {
    /// The error is a sentence.
    fn wanted(&self) -> Result<Wanted, String> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let from = given(&self.from).map(|day| begin(&day, 0)).transpose()?;
        let to = given(&self.to).map(|day| begin(&day, 1)).transpose()?;
        let all = [
            Direction::Stored,
            Direction::Moved,
            Direction::Got,
            Direction::Forwarded,
            Direction::Pulled,
            Direction::Committed,
        ];
        let mut all = all.into_iter();
        Ok(Wanted {
            words: self.words.split_whitespace().map(str::to_owned).collect(),
            peer: given(&self.peer),
            study: given(&self.study),
            direction: all.find(|one| one.as_str() == self.direction),
            failed: self.failed.is_some(),
            since: from,
            until: given(&self.before).or(to),
            most: PAGE_COUNT as u64 + 1,
        })
    }

    /// The same, older than that.
    fn older(&self, before: &str) -> String {
        let failed = if self.failed.is_some() { "yes" } else { "" };
        let query = forms::query(&[
            ("words", &self.words),
            ("peer", &self.peer),
            ("study", &self.study),
            ("direction", &self.direction),
            ("failed", failed),
            ("from", &self.from),
            ("to", &self.to),
            ("before", before),
        ]);
        format!("{HERE}{query}")
    }
}

/// When a day begins here, or one so many days later.
fn begin(day: &str, later: i64) -> Result<String, String> {
    let wrong = |_| format!("{day:?} is no day; such as 2026-01-31");
    let date: Date = day.parse().map_err(wrong)?;
    let date = date.checked_add(jiff::Span::new().days(later));
    let begin = date.and_then(|date| date.to_zoned(TimeZone::system()));
    begin
        .map(|begin| begin.timestamp().to_string())
        .map_err(wrong)
}

async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let title = caller.language.say("Journal");
    let found = match asked.wanted() {
        Ok(wanted) => search(&site, &caller, wanted).await,
        Err(reason) => Err(reason),
    };
    let body = html! {
        h1 { (title) }
        (tabs(&caller, HERE))
        section { (search_form(&caller, &asked)) }
        section {
            @match &found {
                Ok((transfers, end)) => (lines(&caller, &asked, transfers, end)),
                Err(reason) => (forms::refusal(&caller, reason)),
            }
        }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

async fn search(
    site: &Site,
    caller: &Caller,
    wanted: Wanted,
) -> Result<(Vec<Transfer>, SearchEnd), String> {
    let (desk, who) = (site.desk.clone(), caller.who.clone());
    let searched = site.blocking(move || {
        let mut found = Vec::new();
        let mut end = Err(forms::something_else());
        let request = Request::Journal(wanted);
        control::answer_each(&desk, &who, request, &mut |response| {
            match response {
                control::Response::Transfers(some) => found.extend(some),
                control::Response::Journal(last) => end = Ok(last),
                control::Response::Failed { reason } => end = Err(reason),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        end.map(|end| (found, end))
    });
    searched.await?
}

fn directions(caller: &Caller) -> [(&'static str, &'static str); 7] {
    let say = |text| caller.language.say(text);
    [
        ("", say("all")),
        ("stored", say("received")),
        ("moved", say("sent for a C-MOVE")),
        ("got", say("sent for a C-GET")),
        ("forwarded", say("forwarded")),
        ("pulled", say("fetched from another archive")),
        ("committed", say("storage commitment")),
    ]
}

/// The two journals. `here`: which is shown.
fn tabs(caller: &Caller, here: &str) -> Markup {
    let say = |text| caller.language.say(text);
    let both = [
        (HERE, say("What came and went")),
        (CHANGES, say("Who did what")),
    ];
    html! {
        nav aria-label=(say("Journals")) {
            @for (address, name) in both {
                a href=(address) aria-current=[(address == here).then_some("page")] { (name) }
            }
        }
    }
}

/// A day to choose.
fn date(name: &str, label: &str, value: &str) -> Markup {
    let id = format!("field-{name}");
    html! {
        div.field {
            label for=(id) { (label) }
            input type="date" id=(id) name=(name) value=(value);
        }
    }
}

fn search_form(caller: &Caller, asked: &Asked) -> Markup {
    let say = |text| caller.language.say(text);
    html! {
        form method="get" action=(HERE) role="search" {
            div.fields {
                (date("from", say("From day"), &asked.from))
                (date("to", say("To day"), &asked.to))
                (parts::text_field("peer", say("AE title or address"), &asked.peer, ""))
                (parts::choice("direction", say("What"), &directions(caller), &asked.direction))
                (parts::text_field("study", say("Study Instance UID"), &asked.study, ""))
                (parts::text_field("words", say("Words in the line"), &asked.words, say("Of a UID, an AE title, an address, a status such as A700H, a reason")))
                div.field {
                    label for="field-failed" {
                        input type="checkbox" id="field-failed" name="failed" value="yes" checked[asked.failed.is_some()];
                        " " (say("Only where something failed"))
                    }
                }
            }
            (parts::buttons(html! {
                button type="submit" { (say("Search")) }
                a.button href=(HERE) { (say("The newest")) }
            }))
        }
    }
}

fn lines(caller: &Caller, asked: &Asked, transfers: &[Transfer], end: &SearchEnd) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let columns = [
        column(say("Ended")),
        column(say("What")),
        column(say("Peer")),
        number(say("Images")),
        number(say("Size")),
        number(say("Seconds")),
        column(say("Status")),
        column(say("Study")),
        column(say("Why")),
    ];
    let (shown, before) = cut(transfers);
    let directions = directions(caller);
    let rows: Vec<Vec<Markup>> = shown
        .iter()
        .map(|transfer| row(caller, transfer, &directions))
        .collect();
    html! {
        @if rows.is_empty() {
            (parts::empty(say("Nothing was noted.")))
        } @else {
            (parts::table(say("Journal"), &columns, &rows))
        }
        @if let Some(before) = before {
            (parts::buttons(html! { a.button rel="next" href=(asked.older(before)) { (say("Older")) } }))
        }
        @if end.damaged_count > 0 {
            (parts::notice(Tone::Warning, html! {
                (language.fill("{} lines cannot be read and were passed over.", &[&parts::count(end.damaged_count)]))
            }))
        }
    }
}

/// What fits a page, and the moment before which the next begins. Lines of the same moment stay together: none is passed
/// over between two pages, where they are not more than a page.
fn cut(transfers: &[Transfer]) -> (&[Transfer], Option<&str>) {
    if transfers.len() <= PAGE_COUNT {
        return (transfers, None);
    }
    let next = &transfers[PAGE_COUNT].at;
    let whole = transfers[..PAGE_COUNT]
        .iter()
        .rposition(|one| one.at != *next);
    let shown = &transfers[..whole.map_or(PAGE_COUNT, |at| at + 1)];
    (shown, shown.last().map(|last| last.at.as_str()))
}

fn row(
    caller: &Caller,
    transfer: &Transfer,
    directions: &[(&'static str, &'static str)],
) -> Vec<Markup> {
    let language = caller.language;
    let name = transfer.direction.as_str();
    let name = directions.iter().find(|(known, _)| *known == name);
    let total = transfer.instances_count + transfer.failed_count;
    let images = match transfer.failed_count {
        0 => parts::count(total),
        _ => language.fill(
            "{} of {}",
            &[
                &parts::count(transfer.instances_count),
                &parts::count(total),
            ],
        ),
    };
    let status = format!("{:04X}H", transfer.status);
    let tone = match (transfer.status, transfer.failed_count) {
        (0, 0) => Tone::Good,
        (_, 0) => Tone::Warning,
        _ => Tone::Bad,
    };
    let uid = &transfer.study_instance_uid;
    vec![
        parts::moment(&transfer.at),
        cell(name.map_or(transfer.direction.as_str(), |(_, name)| name)),
        html! { (transfer.peer) @if !transfer.address.is_empty() { " " small { (transfer.address) } } },
        cell(&images),
        cell(&parts::bytes(transfer.bytes)),
        cell(&format!("{:.1}", transfer.seconds)),
        parts::badge(tone, &status),
        html! { @if !uid.is_empty() { a.uid href=(forms::address(&["studies", uid])) { (uid) } } },
        cell(&language.sentence(&transfer.reason)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(moment: &str) -> Transfer {
        Transfer {
            at: moment.to_owned(),
            direction: Direction::Stored,
            peer: String::new(),
            address: String::new(),
            study_instance_uid: String::new(),
            instances_count: 1,
            failed_count: 0,
            bytes: 0,
            seconds: 0.0,
            status: 0,
            reason: String::new(),
            asked_by: None,
        }
    }

    #[test]
    fn lines_of_one_moment_are_not_torn_apart_by_a_page() {
        let mut all: Vec<Transfer> = (0..PAGE_COUNT - 1)
            .map(|n| at(&format!("9{n:03}")))
            .collect();
        all.extend([at("8"), at("8")]);
        let (shown, before) = cut(&all);
        assert_eq!(shown.len(), PAGE_COUNT - 1);
        assert_eq!(before, Some("9098"));
        let (shown, before) = cut(&all[..PAGE_COUNT]);
        assert_eq!((shown.len(), before), (PAGE_COUNT, None));
        // More of one moment than a page: better some of them than the same page for ever.
        let same: Vec<Transfer> = (0..=PAGE_COUNT).map(|_| at("8")).collect();
        assert_eq!(cut(&same), (&same[..PAGE_COUNT], Some("8")));
    }

    #[test]
    fn a_day_is_its_beginning_and_its_end_here() {
        assert!(begin("2026-01-31", 0).unwrap() < begin("2026-01-31", 1).unwrap());
        for text in ["", "31.1.2026", "2026-13-01"] {
            assert!(begin(text, 0).is_err(), "{text}");
        }
    }
}
