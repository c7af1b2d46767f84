//! `/studies`: search, by the same engine that answers C-FIND.

mod search;
mod study;

use axum::extract::{Query, RawQuery, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use dicom_dictionary_std::tags;
use maud::{Markup, html};

use crate::dicom::{self, Tag};
use crate::index::Values;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::layout;
use crate::web::parts::{self, Tone, cell, column, number};
use crate::web::words::Language;

use search::{Found, Search};

/// The address bar follows the search, so that it can be kept and sent.
const REPLACE_URL: HeaderName = HeaderName::from_static("hx-replace-url");

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/studies", get(show))
        .route("/studies/found", get(found))
        .route("/studies/{uid}", get(study::show))
        .route("/studies/{uid}/transfers", get(study::transfers))
        .route("/studies/{uid}/send", post(study::send))
}

async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Query(search): Query<Search>,
) -> Html<String> {
    let language = caller.language;
    let title = language.say("Studies");
    let found = search::find(&site, &caller, &search).await;
    let body = html! {
        h1 { (title) }
        (form(language, &search))
        div #found { (results(language, &search, &found)) }
    };
    layout::page(&caller, "/studies", title, body)
}

/// The results alone, while somebody is typing.
async fn found(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    Query(search): Query<Search>,
) -> Response {
    let found = search::find(&site, &caller, &search).await;
    let part = Html(results(caller.language, &search, &found).into_string());
    let address = format!("/studies?{}", query.unwrap_or_default());
    match HeaderValue::from_str(&address) {
        Ok(address) => ([(REPLACE_URL, address)], part).into_response(),
        Err(_) => part.into_response(),
    }
}

fn form(language: Language, search: &Search) -> Markup {
    let say = |english| language.say(english);
    let field = |name, label, value: &str, hint| parts::text_field(name, label, value, hint);
    html! {
        section aria-label=(say("Search")) {
            form role="search" method="get" action="/studies" hx-get="/studies/found" hx-target="#found"
                hx-trigger="input delay:400ms, submit" hx-sync="this:replace" {
                div.fields {
                    (field("patient_id", say("Patient ID"), &search.patient_id, say("or its beginning")))
                    (field("name", say("Patient's name"), &search.name, say("beginnings of words, in any order")))
                    (parts::date_field("from", say("Study date from"), &search.from))
                    (parts::date_field("to", say("to"), &search.to))
                    (field("modality", say("Modality"), &search.modality, say("such as CT")))
                    (field("accession", say("Accession number"), &search.accession, say("or its beginning")))
                    (field("description", say("Study description"), &search.description, say("or a part of it")))
                }
                (parts::buttons(html! {
                    button type="submit" { (say("Search")) }
                    a.button href="/studies" { (say("All, the newest first")) }
                    small { (say("* is any run of characters, ? is one.")) }
                }))
            }
        }
    }
}

fn results(language: Language, search: &Search, found: &Found) -> Markup {
    if let Some(wrong) = &found.wrong {
        return parts::notice(Tone::Warning, cell(&language.sentence(wrong)));
    }
    let count = found.studies.len() as u64;
    let (is_cut, shown) = (found.more, parts::count(count));
    let said = match (count, is_cut) {
        (0, false) => language.say("No study fits.").to_owned(),
        (1, false) => language.say("1 study").to_owned(),
        (_, false) => language.fill("{} studies", &[&shown]),
        (_, true) if search.is_empty() => language.fill("The newest {} studies", &[&shown]),
        (_, true) => language.fill(
            "{} studies are shown, and there are more: say more of what you look for.",
            &[&shown],
        ),
    };
    html! {
        p role="status" { (said) }
        @if let Some(note) = &found.note {
            (parts::notice(Tone::Warning, cell(&language.sentence(note))))
        }
        @if count > 0 { section aria-label=(language.say("Studies")) { (table(language, &found.studies)) } }
    }
}

fn table(language: Language, studies: &[Values]) -> Markup {
    let columns = [
        column(language.say("Date")),
        column(language.say("Patient ID")),
        column(language.say("Name")),
        column(language.say("Modalities")),
        column(language.say("Study description")),
        column(language.say("Accession number")),
        number(language.say("Images")),
    ];
    let rows = studies.iter().map(|study| {
        let date = parts::day(text(study, tags::STUDY_DATE));
        let uid = text(study, tags::STUDY_INSTANCE_UID);
        let date = if date.is_empty() { "–" } else { &date };
        // One that is none is no address; it is found by the command line.
        let link = match dicom::is_conforming(uid) {
            true => html! { a href={ "/studies/" (uid) } { (date) } },
            false => parts::outside(date),
        };
        let modalities = text(study, tags::MODALITIES_IN_STUDY).replace('\\', ", ");
        vec![
            link,
            parts::outside(text(study, tags::PATIENT_ID)),
            parts::person(language, text(study, tags::PATIENT_NAME)),
            parts::outside(&modalities),
            parts::outside(text(study, tags::STUDY_DESCRIPTION)),
            parts::outside(text(study, tags::ACCESSION_NUMBER)),
            cell(text(study, tags::NUMBER_OF_STUDY_RELATED_INSTANCES)),
        ]
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    parts::table(language.say("Studies"), &columns, &rows)
}

/// A value of a study or series; empty where there is none.
fn text(values: &Values, tag: Tag) -> &str {
    let key = u32::from(tag.0) << 16 | u32::from(tag.1);
    values.get(&key).map_or("", |text| text.trim())
}
