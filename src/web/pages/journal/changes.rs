//! `/journal/changes`: the audit: who did what, from where, and what became of it.

use std::ops::ControlFlow;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::forms::{self, Typed};
use super::{CHANGES, HERE, begin, tabs};
use crate::audit::{Entry, Event, Kind, ListEnd, Wanted};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column};

/// Lines on a page; words or days lead to others.
const LISTED_MAX: u64 = 200;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Words that are all in the line.
    words: String,
    who: String,
    study: String,
    patient: String,
    kind: String,
    /// Days, `YYYY-MM-DD`, both included.
    from: String,
    to: String,
}

impl Asked {
    /// The error is a sentence.
    fn wanted(&self) -> Result<Wanted, String> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Wanted {
            words: self.words.split_whitespace().map(str::to_owned).collect(),
            who: given(&self.who),
            study: given(&self.study),
            patient: given(&self.patient),
            kinds: match self.kind.as_str() {
                "" => Vec::new(),
                CHANGED => Kind::ALL.into_iter().filter(|k| k.is_a_change()).collect(),
                kind => vec![kind.parse()?],
            },
            since: given(&self.from).map(|day| begin(&day, 0)).transpose()?,
            until: given(&self.to).map(|day| begin(&day, 1)).transpose()?,
            most: LISTED_MAX,
        })
    }
}

/// Everything that people asked to be changed.
const CHANGED: &str = "changes";

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let say = |text| caller.language.say(text);
    let title = say("Who did what");
    let found = match asked.wanted() {
        Ok(wanted) => list(&site, &caller, wanted).await,
        Err(reason) => Err(reason),
    };
    let mut kinds = vec![("", say("all")), (CHANGED, say("what people changed"))];
    kinds.extend(Kind::ALL.map(|kind| (kind.as_str(), say(name(kind)))));
    let body = html! {
        h1 { (title) }
        (tabs(&caller, CHANGES))
        section {
            form method="get" action=(CHANGES) role="search" {
                div.fields {
                    (super::date("from", say("From day"), &asked.from))
                    (super::date("to", say("To day"), &asked.to))
                    (parts::choice("kind", say("What"), &kinds, &asked.kind))
                    (parts::text_field("who", say("Who"), &asked.who, say("A user, a token, an AE title or an address")))
                    (parts::text_field("patient", say("Patient ID"), &asked.patient, ""))
                    (parts::text_field("study", say("Study Instance UID"), &asked.study, ""))
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
                Ok((found, end)) => (table(&caller, found, end)),
                Err(reason) => (forms::refusal(&caller, reason)),
            }
        }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

async fn list(
    site: &Site,
    caller: &Caller,
    wanted: Wanted,
) -> Result<(Vec<Entry>, ListEnd), String> {
    let (desk, who) = (site.desk.clone(), caller.who.clone());
    let listed = site.blocking(move || {
        let mut found = Vec::new();
        let mut end = Err(forms::something_else());
        control::answer_each(&desk, &who, Request::Audit(wanted), &mut |response| {
            match response {
                control::Response::Audited(some) => found.extend(some),
                control::Response::Audit(last) => end = Ok(last),
                control::Response::Failed { reason } => end = Err(reason),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        end.map(|end| (found, end))
    });
    listed.await?
}

/// In English.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Change => "changed a setting, or began work",
        Kind::Account => "users, tokens, certificates",
        Kind::Amended => "corrected",
        Kind::Removed => "to the trash",
        Kind::Deleted => "deleted for good",
        Kind::Left => "left a volume by rule",
        Kind::Stored => "received",
        Kind::Moved => "sent for a C-MOVE",
        Kind::Got => "sent for a C-GET",
        Kind::Forwarded => "forwarded",
        Kind::Pulled => "fetched from another archive",
        Kind::Committed => "storage commitment",
        Kind::Queried => "searched",
        Kind::Looked => "looked at a study",
        Kind::SignedIn => "signed in",
        Kind::SignedOut => "signed out",
        Kind::SignInFailed => "could not sign in",
        Kind::Refused => "was refused",
        Kind::Started => "the server was started",
        Kind::Stopped => "the server was stopped",
        Kind::AuditRead => "read the audit",
        Kind::AuditExport => "where audit messages go",
        Kind::AuditCut => "old lines were removed",
        Kind::AuditLost => "events are missing",
    }
}

fn table(caller: &Caller, found: &[Entry], end: &ListEnd) -> Markup {
    let say = |text| caller.language.say(text);
    if found.is_empty() {
        return parts::empty(say("Nothing was noted."));
    }
    let columns = [
        column(say("When")),
        column(say("Who")),
        column(say("From where")),
        column(say("What")),
        column(say("About")),
        column(say("What became of it")),
    ];
    let row = |entry: &Entry| {
        vec![
            parts::moment(&entry.at),
            cell(&entry.who),
            cell(&caller.language.sentence(&entry.from)),
            cell(say(name(entry.kind()))),
            about(caller, entry),
            cell(&caller.language.sentence(&entry.outcome)),
        ]
    };
    let rows: Vec<Vec<Markup>> = found.iter().map(row).collect();
    html! {
        (parts::table(say("Who did what"), &columns, &rows))
        @if end.more { p { (say("There are older ones: choose days, words or what.")) } }
        @if end.damaged_count > 0 {
            (parts::notice(Tone::Warning, html! {
                (caller.language.fill("{} lines cannot be read and were passed over.", &[&parts::count(end.damaged_count)]))
            }))
        }
    }
}

/// What a transfer was about is in the columns of its event; of the rest the words say it.
fn about(caller: &Caller, entry: &Entry) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let nothing = Event::default();
    let event = entry.event.as_ref().unwrap_or(&nothing);
    let is_transfer = matches!(
        event.kind,
        Kind::Stored | Kind::Moved | Kind::Got | Kind::Forwarded | Kind::Pulled | Kind::Looked
    );
    html! {
        @if !is_transfer { code { (entry.what) } " " }
        @if !event.peer.is_empty() { (event.peer) " " small { (event.peer_address) } " " }
        @if event.instances_count > 0 { (language.fill("{} images", &[&parts::count(event.instances_count)])) " " }
        @if event.times > 1 { (language.fill("{} times", &[&parts::count(event.times)])) " " }
        @for id in &event.patients { (say("Patient ID")) " " (id) " " }
        @for uid in &event.studies { a.uid href=(forms::address(&["studies", uid])) { (uid) } " " }
        @if !event.user.is_empty() { small { (event.user) } " " }
        @if !event.certificate.is_empty() { small { (event.certificate) } }
    }
}
