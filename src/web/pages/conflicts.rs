//! `/conflicts`: what needs a person's decision, what was refused, what was changed and removed.

mod amend;
mod changes;
mod one;
mod trash;

use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use maud::{Markup, html};
use serde::Deserialize;

use super::forms::{self, Typed};
use crate::archive::{Cause, Conflicts, ConflictsSaid, ConflictsVerb, Status};
use crate::control::{self, Request};
use crate::dicom::Tag;
use crate::index::Values;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

const HERE: &str = "/conflicts";
/// Rows of each kind; how many more there are is said.
const ROWS_MAX: usize = 50;

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/conflicts", get(show))
        .route("/conflicts/one/{id}", get(one::show))
        .route("/conflicts/one/{id}/{action}", post(one::settle))
        .route("/conflicts/plan", post(amend::plan))
        .route("/conflicts/amend", post(amend::make))
        .route("/conflicts/amending", get(amend::show))
        .route("/conflicts/amending/now", get(amend::now))
        .route("/conflicts/changes", get(changes::list))
        .route("/conflicts/change/{number}", get(changes::show))
        .route("/conflicts/change/{number}/undo", post(changes::undo))
        .route("/conflicts/trash", get(trash::list))
        .route("/conflicts/trash/{number}", get(trash::show))
        .route("/conflicts/trash/{number}/{action}", post(trash::act))
}

async fn ask(site: &Site, caller: &Caller, verb: ConflictsVerb) -> Result<ConflictsSaid, String> {
    match site.ask(&caller.who, Request::Conflicts(verb)).await {
        control::Response::Conflicts(said) => Ok(*said),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

/// Who wants a change, and why, as it is kept with it. `otherwise`: where no reason was given.
fn cause(caller: &Caller, typed: &Typed, otherwise: &str) -> Cause {
    let why = typed.text("reason");
    Cause {
        who: caller.who.name.clone(),
        why: if why.is_empty() { otherwise } else { why }.to_owned(),
        way: "page".to_owned(),
    }
}

/// The name of an attribute (PS3.6).
fn keyword(tag: u32) -> String {
    let tag = Tag((tag >> 16) as u16, tag as u16);
    let entry = StandardDataDictionary.by_tag(tag);
    entry.map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned())
}

/// What was, and what is, side by side.
fn before_and_after(caller: &Caller, before: &Values, after: &Values) -> Markup {
    let say = |text| caller.language.say(text);
    let mut tags: Vec<&u32> = before.keys().chain(after.keys()).collect();
    tags.sort_unstable();
    tags.dedup();
    let text = |values: &Values, tag: &u32| {
        let text = values.get(tag).map_or("", String::as_str);
        cell(if text.is_empty() { "-" } else { text })
    };
    let rows: Vec<Vec<Markup>> = tags
        .into_iter()
        .map(|tag| vec![cell(&keyword(*tag)), text(before, tag), text(after, tag)])
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    let columns = [
        column(say("Attribute")),
        column(say("Before")),
        column(say("After")),
    ];
    parts::table(say("Before and after"), &columns, &rows)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// Also what is settled.
    all: Option<String>,
}

async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let language = caller.language;
    let say = |text| language.say(text);
    let title = say("Conflicts and quarantine");
    let all = asked.all.is_some();
    let found = match ask(&site, &caller, ConflictsVerb::Show { all }).await {
        Ok(ConflictsSaid::List(found)) => Ok(found),
        Ok(_) => Err(forms::something_else()),
        Err(reason) => Err(reason),
    };
    let answer = site.status.get(&site).await;
    let status = match answer.as_deref() {
        Some(control::Response::Status { status, .. }) => Some(status),
        _ => None,
    };
    let body = html! {
        h1 { (title) }
        @match &found {
            Ok(found) => (conflicts(&caller, found, all)),
            Err(reason) => (forms::refusal(&caller, reason)),
        }
        @if let Some(status) = status { (quarantine(&caller, status)) }
        section {
            h2 { (say("What was changed and removed")) }
            @if let Some(status) = status { (kept(&caller, status)) }
            (parts::buttons(html! {
                a.button href="/conflicts/changes" { (say("Changes")) }
                a.button href="/conflicts/trash" { (say("Trash")) }
            }))
        }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

fn conflicts(caller: &Caller, found: &Conflicts, all: bool) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let open =
        found.duplicates_count + found.patients_count + found.studies_count + found.series_count;
    html! {
        @if open == 0 {
            p.answer { (say("Nothing needs a decision.")) }
        } @else {
            (parts::notice(Tone::Warning, html! {
                (language.fill("{} things need a decision; until then the first that came is answered, and everything is kept.", &[&parts::count(open)]))
            }))
        }
        (part(caller, say("Several data sets under one UID"), duplicates(caller, found), found.duplicates_count))
        (part(caller, say("Several people under one patient ID"), people(caller, found), found.patients_count))
        (part(caller, say("Several patients in one study"), studies(caller, found), found.studies_count))
        (part(caller, say("One series in several studies"), series(caller, found), found.series_count))
        section {
            @if found.variants_count > 0 {
                p { (language.fill("{} images are kept in several transfer syntaxes: no conflict.", &[&parts::count(found.variants_count)])) }
            }
            p {
                (language.fill("{} are settled.", &[&parts::count(found.settled_count)])) " "
                @if all { a href=(HERE) { (say("Show only what is open")) } }
                @else { a href="/conflicts?all=yes" { (say("Show also what is settled")) } }
            }
        }
    }
}

/// The table of one kind; nothing where there are none.
fn part(
    caller: &Caller,
    title: &str,
    (columns, rows): (Vec<parts::Column>, Vec<Vec<Markup>>),
    count: u64,
) -> Markup {
    let more = count.saturating_sub(rows.len() as u64);
    html! {
        @if !rows.is_empty() {
            section {
                h2 { (title) }
                (parts::table(title, &columns, &rows))
                @if more > 0 { p { (caller.language.fill("And {} more.", &[&parts::count(more)])) } }
            }
        }
    }
}

/// The page of one; whether it is settled stands beside it.
fn link(caller: &Caller, id: &str, settled_by: Option<u64>) -> Markup {
    html! {
        a href=(forms::address(&["conflicts", "one", id])) { (id) }
        @if let Some(number) = settled_by {
            " " small { (caller.language.fill("settled by change {}", &[&number.to_string()])) }
        }
    }
}

fn duplicates<'a>(
    caller: &'a Caller,
    found: &Conflicts,
) -> (Vec<parts::Column<'a>>, Vec<Vec<Markup>>) {
    let say = |text| caller.language.say(text);
    let columns = vec![
        column(say("Conflict")),
        column(say("SOP Instance UID")),
        number(say("Data sets")),
        column(say("Patient ID")),
        column(say("Patient name")),
        column(say("From")),
        column(say("Last received")),
    ];
    let row = |duplicate: &crate::archive::Duplicate| {
        let (first, last) = (duplicate.contents.first(), duplicate.contents.last());
        let from: Vec<&str> = duplicate
            .contents
            .iter()
            .map(|content| content.source_ae_title.as_str())
            .collect();
        vec![
            link(caller, &duplicate.id, duplicate.settled_by),
            html! { span.uid { (duplicate.sop_instance_uid) } },
            cell(&parts::count(duplicate.contents.len() as u64)),
            cell(first.map_or("", |content| &content.patient_id)),
            cell(first.map_or("", |content| &content.patient_name)),
            cell(&from.join(", ")),
            last.map_or_else(|| cell("-"), |content| parts::moment(&content.received)),
        ]
    };
    let rows = found.duplicates.iter().take(ROWS_MAX).map(row).collect();
    (columns, rows)
}

fn people<'a>(caller: &'a Caller, found: &Conflicts) -> (Vec<parts::Column<'a>>, Vec<Vec<Markup>>) {
    let say = |text| caller.language.say(text);
    let columns = vec![
        column(say("Conflict")),
        column(say("Patient ID")),
        column(say("People")),
    ];
    let row = |people: &crate::archive::TwoPeople| {
        let id = match people.issuer.is_empty() {
            true => people.patient_id.clone(),
            false => format!("{} ({})", people.patient_id, people.issuer),
        };
        vec![
            link(caller, &people.id, people.settled_by),
            cell(&id),
            html! { ul { @for one in &people.people { li { (one.name) " " (parts::day(&one.birth_date)) } } } },
        ]
    };
    let rows = found.patients.iter().take(ROWS_MAX).map(row).collect();
    (columns, rows)
}

fn studies<'a>(
    caller: &'a Caller,
    found: &Conflicts,
) -> (Vec<parts::Column<'a>>, Vec<Vec<Markup>>) {
    let say = |text| caller.language.say(text);
    let columns = vec![
        column(say("Conflict")),
        column(say("Study")),
        column(say("Its patient")),
        column(say("Others in it")),
    ];
    let row = |study: &crate::archive::MixedStudy| {
        let uid = &study.study_instance_uid;
        vec![
            link(caller, &study.id, study.settled_by),
            html! { a.uid href=(forms::address(&["studies", uid])) { (uid) } },
            html! { (study.patient_id) " " (study.patient_name) },
            html! { ul { @for one in &study.others {
                li { (one.patient_id) " " (one.patient_name) ": " (caller.language.fill("{} images", &[&parts::count(one.instances_count)])) }
            } } },
        ]
    };
    let rows = found.studies.iter().take(ROWS_MAX).map(row).collect();
    (columns, rows)
}

fn series<'a>(caller: &'a Caller, found: &Conflicts) -> (Vec<parts::Column<'a>>, Vec<Vec<Markup>>) {
    let say = |text| caller.language.say(text);
    let columns = vec![
        column(say("Conflict")),
        column(say("Series")),
        column(say("Studies")),
    ];
    let row = |series: &crate::archive::SplitSeries| {
        vec![
            link(caller, &series.id, series.settled_by),
            html! { span.uid { (series.series_instance_uid) } },
            html! { ul { @for part in &series.parts {
                li { a.uid href=(forms::address(&["studies", &part.study_instance_uid])) { (part.study_instance_uid) } " " (part.patient_id) " " (part.patient_name) }
            } } },
        ]
    };
    let rows = found.series.iter().take(ROWS_MAX).map(row).collect();
    (columns, rows)
}

/// What was refused and is kept for a person to look at: the newest first.
fn quarantine(caller: &Caller, status: &Status) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let columns = [
        column(say("Received")),
        column(say("From")),
        column(say("Why")),
        column(say("SOP Instance UID")),
        number(say("Size")),
        column(say("Volume")),
    ];
    let rows: Vec<Vec<Markup>> = status
        .quarantine
        .iter()
        .rev()
        .take(ROWS_MAX)
        .map(|report| {
            let field = |name: &str| report[name].as_str().unwrap_or_default();
            let bytes = report["bytes"].as_u64();
            vec![
                parts::moment(field("at")),
                cell(field("calling_ae_title")),
                cell(&language.sentence(field("reason"))),
                html! { span.uid { (field("sop_instance_uid")) } },
                cell(&bytes.map_or("-".to_owned(), parts::bytes)),
                cell(field("volume")),
            ]
        })
        .collect();
    let more = status.quarantine.len().saturating_sub(rows.len());
    html! {
        section {
            h2 #quarantine { (say("Quarantine")) }
            @if rows.is_empty() {
                (parts::empty(say("Nothing was refused.")))
            } @else {
                p { (language.fill("{} images were refused: their sender was told so. What came is kept in the folder quarantine of the volume.", &[&parts::count(status.quarantine.len() as u64)])) }
                (parts::table(say("Quarantine"), &columns, &rows))
                @if more > 0 { p { (language.fill("And {} more.", &[&more.to_string()])) } }
            }
        }
    }
}

/// Files of what was changed or removed.
fn kept(caller: &Caller, status: &Status) -> Markup {
    let language = caller.language;
    let kept = &status.kept;
    let line = |count: u64, bytes: u64| {
        language.fill(
            "{} files, {}",
            &[&parts::count(count), &parts::bytes(bytes)],
        )
    };
    let facts = [
        (
            language.say("Replaced by changes"),
            cell(&line(kept.superseded_files_count, kept.superseded_bytes)),
        ),
        (
            language.say("In the trash"),
            cell(&line(kept.trash_files_count, kept.trash_bytes)),
        ),
        (
            language.say("The next are deleted"),
            kept.next_deletion
                .as_deref()
                .map_or_else(|| cell("-"), parts::moment),
        ),
    ];
    html! {
        @if !kept.is_empty() { (parts::facts(&facts)) }
        @for wait in &kept.waits { p { (language.sentence(wait)) } }
    }
}
