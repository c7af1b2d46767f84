//! `/conflicts/one/ID`: one conflict with what differs, and the forms that settle it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, amend, ask, cause, keyword};
use crate::archive::{
    Conflicts, ConflictsSaid, ConflictsVerb, Duplicate, KeptContent, MixedStudy, SplitSeries,
    TwoPeople,
};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};

/// Elements of a data set that are shown; an image has some hundred.
const DIFFERENCES_MAX: usize = 200;

pub async fn show(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    page(&site, &caller, &id, &Typed::default()).await
}

async fn page(site: &Site, caller: &Caller, id: &str, typed: &Typed) -> Response {
    let title = caller.language.fill("Conflict {}", &[id]);
    let verb = ConflictsVerb::One { id: id.to_owned() };
    let found = match ask(site, caller, verb).await {
        Ok(ConflictsSaid::List(found)) => found,
        Ok(_) => return forms::nothing(caller, HERE, &title, &forms::something_else()),
        Err(reason) => return forms::nothing(caller, HERE, &title, &reason),
    };
    let body = html! {
        h1 { (title) }
        (about(caller, &found))
        (form(caller, id, &found, typed))
        p { a href=(HERE) { (caller.language.say("All conflicts")) } }
    };
    forms::page(caller, HERE, &title, typed, body)
}

fn about(caller: &Caller, found: &Conflicts) -> Markup {
    html! {
        @for duplicate in &found.duplicates { (duplicate_part(caller, duplicate)) }
        @for people in &found.patients { (people_part(caller, people)) }
        @for study in &found.studies { (study_part(caller, study)) }
        @for series in &found.series { (series_part(caller, series)) }
    }
}

fn settled(caller: &Caller, by: Option<u64>) -> Markup {
    html! {
        @if let Some(number) = by {
            @let number = number.to_string();
            (parts::notice(Tone::Good, html! {
                a href=(forms::address(&["conflicts", "change", &number])) { (caller.language.fill("settled by change {}", &[&number])) }
            }))
        }
    }
}

fn duplicate_part(caller: &Caller, duplicate: &Duplicate) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let columns = [
        number("K"),
        column(say("State")),
        column(say("Received")),
        column(say("From")),
        number(say("Bytes")),
        column(say("Patient")),
        column(say("Volumes")),
        column(say("Study")),
        column(say("Differs in")),
    ];
    let row = |content: &KeptContent| {
        let state = match (content.answered, content.variant) {
            (true, _) => parts::badge(Tone::Good, say("answered")),
            (_, true) => parts::badge(Tone::Plain, say("variant")),
            _ => parts::badge(Tone::Plain, say("kept")),
        };
        let differs: Vec<String> = content
            .differs
            .iter()
            .map(|(tag, value)| format!("{}={value}", keyword(*tag)))
            .collect();
        vec![
            cell(&content.number.to_string()),
            state,
            parts::moment(&content.received),
            cell(&content.source_ae_title),
            cell(&parts::count(content.data_bytes)),
            html! { (content.patient_id) " " (content.patient_name) },
            cell(&content.volumes.join(", ")),
            html! { a.uid href=(forms::address(&["studies", &content.study_instance_uid])) { (content.study_instance_uid) } },
            cell(&differs.join(" ")),
        ]
    };
    let rows: Vec<Vec<Markup>> = duplicate.contents.iter().map(row).collect();
    let sides = [
        number("K"),
        column(say("Attribute")),
        column(say("Answered")),
        column(say("This one")),
    ];
    let side = |side: &Option<String>| match side {
        Some(text) => cell(text),
        None => html! { small { (say("absent")) } },
    };
    let differences: Vec<Vec<Markup>> = duplicate
        .differences
        .iter()
        .take(DIFFERENCES_MAX)
        .map(|one| {
            let name = match one.tag {
                0 => say("not compared").to_owned(),
                tag => keyword(tag),
            };
            vec![
                cell(&one.number.to_string()),
                cell(&name),
                side(&one.answered),
                side(&one.other),
            ]
        })
        .collect();
    let more = duplicate
        .differences
        .len()
        .saturating_sub(differences.len());
    html! {
        (settled(caller, duplicate.settled_by))
        section {
            h2 { (say("Several data sets under one UID")) }
            p.uid { (duplicate.sop_instance_uid) }
            (parts::table(say("Several data sets under one UID"), &columns, &rows))
            @if !differences.is_empty() {
                h3 { (say("What differs")) }
                (parts::table(say("What differs"), &sides, &differences))
                @if more > 0 { p { (language.fill("And {} more.", &[&more.to_string()])) } }
            }
        }
    }
}

fn people_part(caller: &Caller, people: &TwoPeople) -> Markup {
    let say = |text| caller.language.say(text);
    let columns = [
        column(say("Patient name")),
        column(say("Birth date")),
        number(say("Studies")),
        column(say("One of them")),
    ];
    let rows: Vec<Vec<Markup>> = people
        .people
        .iter()
        .map(|one| {
            let first = one.study_instance_uids.first().map_or("", String::as_str);
            vec![
                cell(&one.name),
                cell(&parts::day(&one.birth_date)),
                cell(&parts::count(one.study_instance_uids.len() as u64)),
                html! { a.uid href=(forms::address(&["studies", first])) { (first) } },
            ]
        })
        .collect();
    html! {
        (settled(caller, people.settled_by))
        section {
            h2 { (say("Several people under one patient ID")) }
            p { (people.patient_id) " " (people.issuer) }
            (parts::table(say("Several people under one patient ID"), &columns, &rows))
        }
    }
}

fn study_part(caller: &Caller, study: &MixedStudy) -> Markup {
    let say = |text| caller.language.say(text);
    let columns = [
        column(say("Patient ID")),
        column(say("Patient name")),
        number(say("Images")),
        column(say("One of them")),
    ];
    let deviating: u64 = study.others.iter().map(|one| one.instances_count).sum();
    let own = study.instances_count.saturating_sub(deviating);
    let mut rows = vec![vec![
        cell(&study.patient_id),
        cell(&study.patient_name),
        cell(&parts::count(own)),
        cell(say("the study says so")),
    ]];
    rows.extend(study.others.iter().map(|one| {
        let first = one.sop_instance_uids.first().map_or("", String::as_str);
        vec![
            cell(&one.patient_id),
            cell(&one.patient_name),
            cell(&parts::count(one.instances_count)),
            html! { span.uid { (first) } },
        ]
    }));
    let uid = &study.study_instance_uid;
    html! {
        (settled(caller, study.settled_by))
        section {
            h2 { (say("Several patients in one study")) }
            p { a.uid href=(forms::address(&["studies", uid])) { (uid) } }
            (parts::table(say("Several patients in one study"), &columns, &rows))
        }
    }
}

fn series_part(caller: &Caller, series: &SplitSeries) -> Markup {
    let say = |text| caller.language.say(text);
    let columns = [
        column(say("Study")),
        column(say("Patient ID")),
        column(say("Patient name")),
        column(say("Modality")),
        number(say("Images")),
        column(say("One of them")),
    ];
    let rows: Vec<Vec<Markup>> = series
        .parts
        .iter()
        .map(|part| {
            let uid = &part.study_instance_uid;
            vec![
                html! { a.uid href=(forms::address(&["studies", uid])) { (uid) } },
                cell(&part.patient_id),
                cell(&part.patient_name),
                cell(&part.modality),
                cell(&parts::count(part.instances_count)),
                html! { span.uid { (part.sop_instance_uid) } },
            ]
        })
        .collect();
    html! {
        (settled(caller, series.settled_by))
        section {
            h2 { (say("One series in several studies")) }
            p.uid { (series.series_instance_uid) }
            (parts::table(say("One series in several studies"), &columns, &rows))
            p { (say("Where some of them are another study's, at the command line:")) }
            pre { "kura amend --instance UID --to-study UID --reason TEXT" }
        }
    }
}

/// What settles it.
fn form(caller: &Caller, id: &str, found: &Conflicts, typed: &Typed) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let (prefer, discard) = (
        Form::new(caller, typed, "prefer"),
        Form::new(caller, typed, "discard"),
    );
    let to = |action: &str| forms::address(&["conflicts", "one", id, action]);
    let submit = |label: &str| parts::buttons(html! { button type="submit" { (label) } });
    let reason = |form: &Form| form.needed("reason", say("Why (kept with the change)"), "");
    if let Some(duplicate) = found.duplicates.first() {
        let numbers: Vec<String> = duplicate
            .contents
            .iter()
            .map(|content| content.number.to_string())
            .collect();
        let numbers: Vec<(&str, &str)> = numbers.iter().map(|n| (&**n, &**n)).collect();
        return html! {
            div.side-by-side {
                section {
                    h2 { (say("Answer one, keep the others")) }
                    (prefer.refusal())
                    form method="post" action=(to("prefer")) {
                        div.fields { (prefer.choice("content", "K", &numbers, "")) (reason(&prefer)) }
                        (submit(say("Answer this one")))
                    }
                }
                section {
                    h2 { (say("Do not keep one")) }
                    (discard.refusal())
                    form method="post" action=(to("discard")) {
                        div.fields { (discard.choice("content", "K", &numbers, "")) (reason(&discard)) }
                        (submit(say("Discard this one")))
                    }
                }
            }
        };
    }
    let well = html! {
        section {
            h2 { (say("It is well as it is")) }
            p { (say("It shows again when another person, or study, appears there.")) }
            (discard.refusal())
            form method="post" action=(to("discard")) {
                div.fields { (reason(&discard)) }
                (submit(say("It is well as it is")))
            }
        }
    };
    if let Some(people) = found.patients.first() {
        let studies: Vec<(String, String)> = people
            .people
            .iter()
            .filter_map(|one| {
                let uid = one.study_instance_uids.first()?.clone();
                Some((uid, format!("{} {}", one.name, parts::day(&one.birth_date))))
            })
            .collect();
        let choices: Vec<(&str, &str)> = studies.iter().map(|(u, t)| (&**u, &**t)).collect();
        return html! {
            div.side-by-side {
                section {
                    h2 { (say("One is right for all")) }
                    (prefer.refusal())
                    form method="post" action=(to("prefer")) {
                        div.fields { (prefer.choice("study", say("Who is right"), &choices, "")) (reason(&prefer)) }
                        (submit(say("Show what it would do")))
                    }
                }
                (amend::wrong_id(caller, typed, people))
                (well)
            }
        };
    }
    if let Some(study) = found.studies.first() {
        return html! {
            div.side-by-side {
                section {
                    h2 { (say("They are of the study's patient")) }
                    (prefer.refusal())
                    form method="post" action=(to("prefer")) {
                        div.fields { (reason(&prefer)) }
                        (submit(say("Show what it would do")))
                    }
                }
                (amend::split(caller, typed, study))
                (well)
            }
        };
    }
    well
}

/// The page in between, then the settlement; one that amendments make shows their plans instead.
pub async fn settle(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path((id, action)): Path<(String, String)>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let say = |text| caller.language.say(text);
    let name = match action.as_str() {
        "prefer" => "prefer",
        "discard" => "discard",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let typed = Typed::new(name, fields);
    let content = match typed.number("content") {
        Ok(content) => content,
        Err(reason) => return page(&site, &caller, &id, &typed.refused(reason)).await,
    };
    if typed.text("reason").is_empty() {
        let reason = "a change needs a reason; nothing was changed";
        return page(&site, &caller, &id, &typed.refused(reason)).await;
    }
    // What amendments make has its own page in between, with their plans.
    if content.is_some() && !typed.is_sure() {
        let title = caller.language.fill("Conflict {}", &[&id]);
        let number = typed.text("content");
        let what = match name {
            "prefer" => caller.language.fill("Queries and senders get data set {} from now on; the others are kept and hidden. It can be taken back.", &[number]),
            _ => caller.language.fill("Data set {} is hidden and later deleted. It can be taken back until then.", &[number]),
        };
        let label = match name {
            "prefer" => say("Answer this one"),
            _ => say("Discard this one"),
        };
        let (again, back) = (
            forms::address(&["conflicts", "one", &id, &action]),
            forms::address(&["conflicts", "one", &id]),
        );
        let body = html! {
            h1 { (title) }
            (forms::between(&caller, &typed, &again, html! { p { (what) } }, label, &back))
        };
        return forms::page(&caller, HERE, &title, &typed, body);
    }
    let cause = cause(&caller, &typed, "");
    let verb = match name {
        "prefer" => ConflictsVerb::Prefer {
            id: id.clone(),
            content,
            study: typed.given("study"),
            cause,
        },
        _ => ConflictsVerb::Discard {
            id: id.clone(),
            content,
            cause,
        },
    };
    match ask(&site, &caller, verb).await {
        Ok(ConflictsSaid::Done { said, .. }) => forms::done(&site, HERE, said),
        Ok(ConflictsSaid::Amend { asks, .. }) => amend::plans(&site, &caller, &asks).await,
        Ok(ConflictsSaid::List(_)) => {
            let typed = typed.refused(forms::something_else());
            page(&site, &caller, &id, &typed).await
        }
        Err(reason) => page(&site, &caller, &id, &typed.refused(reason)).await,
    }
}
