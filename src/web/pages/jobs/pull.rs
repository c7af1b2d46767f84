//! Studies of another archive, sent here.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dicom_dictionary_std::tags;
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, page};
use crate::control::{self, Request};
use crate::dicom::Tag;
use crate::pull::{PullStatus, PullVerb};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell};

pub async fn start(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("pull", fields);
    let done = match of_form(&typed) {
        Ok(verb) => ask(&site, &caller, verb).await,
        Err(reason) => Err(reason),
    };
    let said = caller.language.say("Studies are being fetched.");
    match done {
        Ok(_) => forms::done(&site, HERE, said),
        Err(reason) => page(&site, &caller, &typed.refused(reason)).await,
    }
}

pub async fn act(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(action): Path<String>,
) -> Response {
    let say = |text| caller.language.say(text);
    let (verb, said) = match action.as_str() {
        "resume" => (
            PullVerb::Resume,
            say("It goes on, and tries again what failed."),
        ),
        "cancel" => (PullVerb::Cancel, say("It stops; what came stays.")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match ask(&site, &caller, verb).await {
        Ok(_) => forms::done(&site, HERE, said),
        Err(reason) => forms::not_done(&site, HERE, reason),
    }
}

/// The error is a sentence.
fn of_form(typed: &Typed) -> Result<PullVerb, String> {
    let key = |tag: Tag| (u32::from(tag.group()) << 16) | u32::from(tag.element());
    let dates = [typed.text("from_date"), typed.text("to_date")].map(|date| date.replace('-', ""));
    let dates = match &dates {
        [from, to] if from.is_empty() && to.is_empty() => None,
        [from, to] => Some(format!("{from}-{to}")),
    };
    let keys: Vec<(u32, String)> = [
        (tags::PATIENT_ID, typed.given("patient_id")),
        (tags::PATIENT_NAME, typed.given("patient_name")),
        (tags::STUDY_DATE, dates),
        (tags::MODALITIES_IN_STUDY, typed.given("modality")),
        (tags::ACCESSION_NUMBER, typed.given("accession")),
        (tags::STUDY_INSTANCE_UID, typed.given("study")),
    ]
    .into_iter()
    .filter_map(|(tag, value)| Some((key(tag), value?)))
    .collect();
    if keys.is_empty() && !typed.ticked("everything") {
        return Err(
            "say which studies, or tick that everything is wanted; nothing was begun".to_owned(),
        );
    }
    let window = typed.given("window").map(|text| text.parse());
    let window = window.transpose();
    Ok(PullVerb::Start {
        from: typed.text("from").to_owned(),
        keys,
        get: typed.ticked("get"),
        pause_seconds: typed.number("pause_seconds")?.unwrap_or_default(),
        window: window.map_err(|error: crate::job::WindowError| error.to_string())?,
    })
}

async fn ask(site: &Site, caller: &Caller, verb: PullVerb) -> Result<PullStatus, String> {
    match site.ask(&caller.who, Request::Pull(verb)).await {
        control::Response::Pull(status) => Ok(*status),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

/// The last one, and the form for another.
pub async fn part(site: &Site, caller: &Caller, typed: &Typed) -> Markup {
    let say = |text| caller.language.say(text);
    let status = ask(site, caller, PullVerb::Look).await;
    let peers = super::super::peers::setup(site, caller).await;
    let peers = peers.map_or_else(|_| Vec::new(), |shown| shown.peers);
    let peers: Vec<(&str, &str)> = peers
        .iter()
        .map(|peer| (&*peer.ae_title, &*peer.ae_title))
        .collect();
    let form = Form::new(caller, typed, "pull");
    html! {
        @match &status {
            Ok(status) if status.name.is_empty() => (parts::empty(say("Nothing was fetched yet."))),
            Ok(status) => (screen(caller, status)),
            Err(reason) => (forms::refusal(caller, reason)),
        }
        (form.refusal())
        @if peers.is_empty() {
            p { (say("It needs a peer first.")) " " a href="/peers" { (say("Peers")) } }
        } @else {
            form method="post" action="/jobs/pull" {
                div.fields {
                    (form.choice("from", say("From which peer"), &peers, ""))
                    (form.text("patient_id", say("Patient ID"), ""))
                    (form.text("patient_name", say("Patient name"), ""))
                    (form.date("from_date", say("Study date, from"), ""))
                    (form.date("to_date", say("Study date, to"), ""))
                    (form.text("modality", say("Modality"), ""))
                    (form.text("accession", say("Accession number"), ""))
                    (form.text("study", say("Study Instance UID"), ""))
                    (form.tick("everything", say("Everything that it has"), false))
                    (form.number("pause_seconds", say("Seconds between two studies"), ""))
                    (form.text("window", say("Only in these hours, such as 21:00-06:00"), ""))
                    (form.tick("get", say("Over the same association (C-GET)"), false))
                }
                (parts::buttons(html! { button type="submit" { (say("Fetch")) } }))
            }
        }
    }
}

fn screen(caller: &Caller, status: &PullStatus) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let of = |done: u64, total: u64| {
        language.fill("{} of {}", &[&parts::count(done), &parts::count(total)])
    };
    let studies = language.fill(
        "{} complete, {} of them before; {} not complete",
        &[
            &of(status.studies_complete, status.studies_total),
            &parts::count(status.studies_here_before),
            &parts::count(status.studies_incomplete),
        ],
    );
    let images = language.fill(
        "{}, {} missing; {} came",
        &[
            &of(status.instances_done, status.instances_total),
            &parts::count(status.instances_missing),
            &parts::bytes(status.bytes),
        ],
    );
    let mut facts = vec![
        (say("From which peer"), cell(&status.from)),
        (say("Begun"), parts::moment(&status.begun)),
        (say("Studies"), cell(&studies)),
        (say("Images"), cell(&images)),
    ];
    if let Some(report) = &status.report {
        let address = forms::address(&["jobs", "report", report]);
        facts.push((say("Report"), html! { a href=(address) { (report) } }));
    }
    html! {
        @if status.running {
            p.answer { (language.sentence(&status.step)) }
        } @else if let Some(error) = &status.error {
            (parts::notice(Tone::Warning, html! { (language.sentence(error)) }))
        } @else if status.studies_incomplete > 0 {
            (parts::notice(Tone::Warning, html! { (language.fill("{} studies are not complete: see the report, then go on.", &[&parts::count(status.studies_incomplete)])) }))
        } @else {
            p.answer { (language.sentence(&status.step)) }
        }
        (parts::facts(&facts))
        @for note in &status.notes { p { (language.sentence(note)) } }
        (parts::buttons(html! {
            @if status.running {
                (parts::post_button("/jobs/pull/cancel", say("Stop it"), &[]))
            } @else {
                (parts::post_button("/jobs/pull/resume", say("Go on, and try again what failed"), &[]))
            }
        }))
    }
}
