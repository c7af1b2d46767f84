//! Work on disks that is begun by hand, one piece at a time: how far it is, and what it found.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, LOOK_SECONDS, page};
use crate::archive::{Depth, RetentionReport, VolumeReport, WorkStatus, WorkVerb};
use crate::control::{self, Request};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};
use crate::web::words::Language;

const WORK: &str = "/jobs/work";
/// Files of each volume that a drill reads where nothing is said.
const SAMPLE: u32 = 20;
/// Findings of a volume that are shown; all are counted.
const FINDINGS_MAX: usize = 100;
/// Missing contents of each side of a drill that are shown.
const MISSING_MOST: usize = 10;

pub async fn begin(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(what): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let say = |text| caller.language.say(text);
    let form = match what.as_str() {
        "scrub" => "scrub",
        "equalize" => "equalize",
        "drill" => "drill",
        "adopt" => "adopt",
        _ => "work",
    };
    let typed = Typed::new(form, fields);
    let verb = match what.as_str() {
        "scrub" => Ok(WorkVerb::Scrub {
            volumes: typed.all("volume"),
        }),
        "equalize" => Ok(WorkVerb::Equalize {
            volumes: typed.all("volume"),
            depth: match typed.text("depth") {
                "headers" => Depth::Headers,
                "checksums" => Depth::Checksums,
                _ => Depth::Names,
            },
            repair: typed.ticked("repair"),
        }),
        "drill" => typed.number("sample").map(|sample| WorkVerb::Drill {
            sample: sample.unwrap_or(SAMPLE),
            seed: None,
        }),
        "adopt" => Ok(WorkVerb::Adopt {
            path: typed.text("path").into(),
            name: typed.given("name"),
            copy: typed.ticked("copy"),
        }),
        "would-leave" => Ok(WorkVerb::Retention { dry_run: true }),
        "leave" if typed.is_sure() => Ok(WorkVerb::Retention { dry_run: false }),
        "leave" => {
            let title = say("Let it leave now");
            let what = html! { p { (say("What fits the rules is removed from the volumes that received it, whatever the hour. Each image is kept in two good copies elsewhere, which are read again before it goes. To see it first: show what would leave.")) } };
            let body = html! {
                h1 { (title) }
                (forms::between(&caller, &typed, "/jobs/work/leave", what, title, HERE))
            };
            return forms::page(&caller, HERE, title, &typed, body);
        }
        "cancel" => Ok(WorkVerb::Cancel),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let done = match verb {
        Ok(verb) => ask(&site, &caller, verb).await,
        Err(reason) => Err(reason),
    };
    match done {
        Ok(_) if what == "cancel" => forms::done(&site, WORK, say("It stops.")),
        Ok(_) => forms::done(&site, WORK, say("It has begun.")),
        Err(reason) if form == "work" => forms::not_done(&site, HERE, reason),
        Err(reason) => page(&site, &caller, &typed.refused(reason)).await,
    }
}

async fn ask(site: &Site, caller: &Caller, verb: WorkVerb) -> Result<Option<WorkStatus>, String> {
    match site.ask(&caller.who, Request::Work(verb)).await {
        control::Response::Work(status) => Ok(status.map(|status| *status)),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

pub async fn show(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let title = caller.language.say("Work on the disks");
    let (inside, _) = screen(&site, &caller).await;
    let body = html! {
        h1 { (title) }
        section aria-label=(title) { (parts::moving("work", "/jobs/work/now", LOOK_SECONDS, inside)) }
        p { a href=(HERE) { (caller.language.say("Jobs")) } }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

pub async fn now(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let (body, over) = screen(&site, &caller).await;
    forms::fragment(body, over)
}

/// How far it is or what it found, and whether it is over.
async fn screen(site: &Site, caller: &Caller) -> (Markup, bool) {
    let language = caller.language;
    let say = |text| language.say(text);
    let status = match ask(site, caller, WorkVerb::Look).await {
        Ok(Some(status)) => status,
        Ok(None) => return (parts::empty(say("No work was done since the start.")), true),
        Err(reason) => return (forms::refusal(caller, &reason), true),
    };
    let over = !status.running;
    let body = html! {
        h2 { (name(language, &status)) }
        p.answer role="status" {
            @if status.running { (say("Under way")) ": " (language.sentence(&status.step)) }
            @else { (say("It is over.")) }
        }
        @if status.running {
            (bar(caller, &status))
            (parts::buttons(html! { (parts::post_button("/jobs/work/cancel", say("Stop it"), &[])) }))
        }
        @if let Some(error) = &status.error {
            (parts::notice(Tone::Warning, html! { (language.sentence(error)) }))
        }
        @if let Some(drill) = &status.drill {
            pre tabindex="0" { (drill.text(MISSING_MOST)) }
        }
        @if let Some(report) = &status.retention { (retention(caller, report)) }
        @if !status.volumes.is_empty() { (found(caller, &status.volumes)) }
    };
    (body, over)
}

/// What a piece of work is, by how it was asked for.
pub fn name(language: Language, status: &WorkStatus) -> &'static str {
    match serde_json::from_str(&status.what) {
        Ok(WorkVerb::Equalize { .. }) => language.say("Make index, ledgers and disks agree"),
        Ok(WorkVerb::Adopt { .. }) => language.say("Adopt a folder of DICOM files"),
        Ok(WorkVerb::Drill { .. }) => language.say("Drill: would everything come back?"),
        Ok(WorkVerb::Scrub { .. }) => language.say("Every file read again"),
        Ok(WorkVerb::Retention { .. }) => language.say("What leaves by rule"),
        _ => language.say("Work on the disks"),
    }
}

fn bar(caller: &Caller, status: &WorkStatus) -> Markup {
    let language = caller.language;
    let total = status.total_count.max(status.done_count);
    let text = language.fill(
        "{} of {} files, {}",
        &[
            &parts::count(status.done_count),
            &parts::count(total),
            &parts::bytes(status.done_bytes),
        ],
    );
    let label = name(language, status);
    let whole = (status.total_count > 0).then_some(total);
    html! { p { (parts::progress(label, status.done_count, whole, &text)) } }
}

fn found(caller: &Caller, volumes: &[VolumeReport]) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let columns = [
        column(say("Volume")),
        number(say("Files")),
        number(say("As they should be")),
        number(say("Missing")),
        number(say("Wrong")),
        number(say("Lost")),
        number(say("Without a line")),
        number(say("Added")),
    ];
    let row = |report: &VolumeReport| {
        let counts = [
            report.files,
            report.ok,
            report.missing,
            report.wrong,
            report.lost,
            report.extra,
            report.added,
        ];
        let mut row = vec![cell(&report.volume)];
        row.extend(counts.map(|count| cell(&parts::count(count))));
        row
    };
    let rows: Vec<Vec<Markup>> = volumes.iter().map(row).collect();
    html! {
        (parts::table(say("What was found"), &columns, &rows))
        @for report in volumes {
            @for note in &report.notes { p { (report.volume) ": " (language.sentence(note)) } }
            @if !report.findings.is_empty() {
                ul {
                    @for finding in report.findings.iter().take(FINDINGS_MAX) {
                        li { (report.volume) ": " (language.sentence(&finding.kind)) " " (finding.path) ": " (language.sentence(&finding.reason)) }
                    }
                }
            }
            @let rest = (report.missing + report.wrong + report.extra).saturating_sub(FINDINGS_MAX as u64);
            @if rest > 0 { p { (report.volume) ": " (language.fill("And {} more.", &[&parts::count(rest)])) } }
        }
    }
}

fn retention(caller: &Caller, report: &RetentionReport) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let columns = [
        column(say("Rule")),
        column(say("Volumes")),
        number(say("Fit")),
        number(if report.dry_run {
            say("Would leave")
        } else {
            say("Left the volumes")
        }),
        number(say("Stay")),
        column(say("Takes")),
    ];
    let rows: Vec<Vec<Markup>> = report
        .rules
        .iter()
        .map(|rule| {
            let fit = format!(
                "{} ({})",
                parts::count(rule.due_count),
                parts::bytes(rule.due_bytes)
            );
            let gone = format!(
                "{} ({})",
                parts::count(rule.gone_count),
                parts::bytes(rule.gone_bytes)
            );
            vec![
                cell(&rule.number.to_string()),
                cell(&rule.volumes.join(", ")),
                cell(&fit),
                cell(&gone),
                cell(&parts::count(rule.kept_count)),
                cell(&language.sentence(&rule.rule)),
            ]
        })
        .collect();
    html! {
        @if report.dry_run { p { (say("Nothing was removed: this is what would leave.")) } }
        (parts::table(say("What leaves by rule"), &columns, &rows))
        @for note in &report.notes { p { (language.sentence(note)) } }
        @for (reason, count) in &report.reasons {
            p { (language.fill("{} stay: {}", &[&parts::count(*count), &language.sentence(reason)])) }
        }
    }
}

pub fn scrub_form(caller: &Caller, typed: &Typed, volumes: &[&str]) -> Markup {
    let say = |text| caller.language.say(text);
    let form = Form::new(caller, typed, "scrub");
    html! {
        (form.refusal())
        form method="post" action="/jobs/work/scrub" {
            div.fields { (form.ticks("volume", say("Volumes (none: all that are here)"), volumes)) }
            (parts::buttons(html! { button type="submit" { (say("Read everything again now")) } }))
        }
    }
}

/// What can be begun by hand.
pub fn forms(caller: &Caller, typed: &Typed, volumes: &[&str]) -> Markup {
    let say = |text| caller.language.say(text);
    let (equalize, drill, adopt) = (
        Form::new(caller, typed, "equalize"),
        Form::new(caller, typed, "drill"),
        Form::new(caller, typed, "adopt"),
    );
    let depths = [
        ("names", say("names and sizes")),
        ("headers", say("also the beginning of each file")),
        ("checksums", say("every byte")),
    ];
    let submit = |label: &str| parts::buttons(html! { button type="submit" { (label) } });
    html! {
        h3 { (say("Make index, ledgers and disks agree")) }
        (equalize.refusal())
        form method="post" action="/jobs/work/equalize" {
            div.fields {
                (equalize.ticks("volume", say("Volumes (none: all that are here)"), volumes))
                (equalize.choice("depth", say("What is looked at"), &depths, "names"))
                (equalize.tick("repair", say("Give files without a line their line (else they are only named)"), false))
            }
            (submit(say("Begin")))
        }
        h3 { (say("Drill: would everything come back?")) }
        (drill.refusal())
        form method="post" action="/jobs/work/drill" {
            div.fields { (drill.number("sample", say("Files of each volume that are read"), &SAMPLE.to_string())) }
            (submit(say("Begin")))
        }
        h3 { (say("Adopt a folder of DICOM files")) }
        (adopt.refusal())
        form method="post" action="/jobs/work/adopt" {
            div.fields {
                (adopt.needed("path", say("Folder on the server"), ""))
                (adopt.text("name", say("Name of the volume (empty: that of the folder)"), ""))
                (adopt.tick("copy", say("Store its images anew instead of serving them where they are"), false))
            }
            (submit(say("Begin")))
        }
    }
}
