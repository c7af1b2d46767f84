//! Which images go to which peers: the rules, one more, one less.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::super::peers::set_up;
use super::{Filter, HERE, page};
use crate::config::{Coerce, ForwardPriority, ForwardRule, ForwardWhen};
use crate::forward::setup::{SetupVerb, Shown};
use crate::job::Window;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, cell, column};

pub async fn add(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("rule", fields);
    let done = match of_form(&typed) {
        Ok(rule) => {
            let rule = Box::new(rule);
            set_up(&site, &caller, SetupVerb::AddRule { rule }).await
        }
        Err(reason) => Err(reason),
    };
    match done {
        Ok(said) => forms::done(&site, HERE, said),
        Err(reason) => {
            let typed = typed.refused(reason);
            page(&site, &caller, &Filter::default(), &typed).await
        }
    }
}

/// The error is a sentence.
fn of_form(typed: &Typed) -> Result<ForwardRule, String> {
    let rewrite = Coerce {
        strip_zeros: typed.ticked("strip_zeros"),
        map: typed.given("map").map(Into::into),
        pad: typed.number("pad")?.unwrap_or_default(),
        prefix: typed.text("prefix").to_owned(),
        suffix: typed.text("suffix").to_owned(),
        issuer: typed.given("issuer"),
        ..Coerce::default()
    };
    let mut rule = ForwardRule::new(typed.text("name").to_owned(), typed.all("to"));
    rule.calling = typed.given("calling");
    rule.modality = typed.given("modality");
    rule.sop_class = typed.given("sop_class");
    rule.station = typed.given("station");
    rule.institution = typed.given("institution");
    rule.description = typed.given("description");
    rule.patient_id = typed.given("patient_id");
    rule.study_date = typed.given("study_date");
    rule.quiet_seconds = typed.number("quiet_seconds")?.unwrap_or(rule.quiet_seconds);
    if let Some(window) = typed.given("window") {
        rule.window = window
            .parse::<Window>()
            .map_err(|error| error.to_string())?;
    }
    if typed.text("when") == "instance" {
        rule.when = ForwardWhen::Instance;
    }
    rule.priority = match typed.text("priority") {
        "high" => ForwardPriority::High,
        "low" => ForwardPriority::Low,
        _ => ForwardPriority::Medium,
    };
    rule.rewrite = (rewrite != Coerce::default()).then_some(rewrite);
    Ok(rule)
}

pub async fn remove(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("remove", fields);
    if !typed.is_sure() {
        let say = |text| caller.language.say(text);
        let title = caller.language.fill("Remove rule {}", &[&name]);
        let what = html! { p { (say("What comes from now on does not go by this rule. What waits by it already waits until a person decides.")) } };
        let again = forms::address(&["forwarding", "rule", &name, "remove"]);
        let body = html! {
            h1 { (title) }
            (forms::between(&caller, &typed, &again, what, say("Remove it"), HERE))
        };
        return forms::page(&caller, HERE, &title, &typed, body);
    }
    match set_up(&site, &caller, SetupVerb::RemoveRule { name }).await {
        Ok(said) => forms::done(&site, HERE, said),
        Err(reason) => forms::not_done(&site, HERE, reason),
    }
}

/// The rules, and the form for one more.
pub fn part(caller: &Caller, shown: &Shown, typed: &Typed) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let columns = [
        column(say("Rule")),
        column(say("To")),
        column(say("When")),
        column(say("Priority")),
        column(say("Patient ID there")),
        column(say("Takes")),
        column(say("Remove")),
    ];
    let rows: Vec<Vec<Markup>> = shown.rules.iter().map(|rule| row(caller, rule)).collect();
    html! {
        section {
            h2 { (say("Rules")) }
            p {
                @match &shown.default {
                    Some(peer) => (language.fill("What no rule takes goes to {}.", &[peer])),
                    None => (say("What no rule takes stays here.")),
                }
            }
            @if rows.is_empty() {
                (parts::empty(say("There is no rule yet.")))
            } @else {
                (parts::table(say("Rules"), &columns, &rows))
            }
        }
        section {
            h2 #add { (say("Add a rule")) }
            @if shown.peers.is_empty() {
                p { (say("A rule needs a peer first.")) " " a href="/peers" { (say("Peers")) } }
            } @else {
                (add_form(caller, shown, typed))
            }
        }
    }
}

fn add_form(caller: &Caller, shown: &Shown, typed: &Typed) -> Markup {
    let say = |text| caller.language.say(text);
    let form = Form::new(caller, typed, "rule");
    let when = [
        ("study", say("when nothing came for its study for a while")),
        ("instance", say("each image at once")),
    ];
    let priority = [
        ("medium", say("medium")),
        ("high", say("high")),
        ("low", say("low")),
    ];
    let peers: Vec<&str> = shown.peers.iter().map(|peer| &*peer.ae_title).collect();
    html! {
        p { (say("What fits everything that is given goes to all of the chosen peers. * is any run of characters, ? is one.")) }
        (form.refusal())
        form method="post" action="/forwarding/rules" {
            div.fields {
                (form.needed("name", say("Name (letters, digits, - and _)"), ""))
                (form.ticks("to", say("To"), &peers))
                (form.text("modality", say("Modality, such as CT"), ""))
                (form.text("calling", say("Calling AE title"), ""))
                (form.text("station", say("Station name"), ""))
                (form.text("institution", say("Institution name"), ""))
                (form.text("description", say("Description of the study or series"), ""))
                (form.text("patient_id", say("Patient ID"), ""))
                (form.text("study_date", say("Study dates, YYYYMMDD-YYYYMMDD"), ""))
                (form.text("sop_class", say("SOP Class UID"), ""))
                (form.choice("when", say("When"), &when, "study"))
                (form.number("quiet_seconds", say("Seconds of that while (empty: 60)"), ""))
                (form.text("window", say("Only in these hours, such as 21:00-06:00"), ""))
                (form.choice("priority", say("Priority"), &priority, "medium"))
            }
            details {
                summary { (say("Another patient ID there")) }
                div.fields {
                    (form.tick("strip_zeros", say("Without zeros at its beginning"), false))
                    (form.text("map", say("By the lines old,new of this file on the server"), ""))
                    (form.number("pad", say("With zeros in front, so many characters"), ""))
                    (form.text("prefix", say("With this in front"), ""))
                    (form.text("suffix", say("With this behind"), ""))
                    (form.text("issuer", say("Issuer of patient ID there"), ""))
                }
            }
            (parts::buttons(html! { button type="submit" { (say("Add")) } }))
        }
    }
}

fn row(caller: &Caller, rule: &ForwardRule) -> Vec<Markup> {
    let language = caller.language;
    let say = |text| language.say(text);
    let mut when = match rule.when {
        ForwardWhen::Study => {
            let quiet = parts::duration(language, rule.quiet_seconds);
            language.fill("{} after the last image", &[&quiet])
        }
        ForwardWhen::Instance => say("each image at once").to_owned(),
    };
    if rule.window != Window::ALWAYS {
        when.push_str(&format!(", {}", rule.window));
    }
    let priority = match rule.priority {
        ForwardPriority::High => say("high"),
        ForwardPriority::Medium => say("medium"),
        ForwardPriority::Low => say("low"),
    };
    let remove = forms::address(&["forwarding", "rule", &rule.name, "remove"]);
    let rewrite = rule.rewrite.as_ref();
    vec![
        cell(&rule.name),
        cell(&rule.to.join(", ")),
        cell(&when),
        cell(priority),
        cell(&rewrite.map_or(say("as it is").to_owned(), |rewrite| steps(caller, rewrite))),
        cell(&language.sentence(&rule.to_string())),
        parts::post_button(&remove, &language.fill("Remove {}", &[&rule.name]), &[]),
    ]
}

/// What becomes of a Patient ID, in the order of the steps.
fn steps(caller: &Caller, rewrite: &Coerce) -> String {
    let language = caller.language;
    let mut steps = Vec::new();
    if rewrite.strip_zeros {
        steps.push(language.say("no zeros in front").to_owned());
    }
    if let Some(map) = &rewrite.map {
        steps.push(language.fill("by {}", &[&map.display().to_string()]));
    }
    if rewrite.pad > 0 {
        steps.push(language.fill("{} characters", &[&rewrite.pad.to_string()]));
    }
    if !rewrite.prefix.is_empty() || !rewrite.suffix.is_empty() {
        steps.push(format!("{}…{}", rewrite.prefix, rewrite.suffix));
    }
    if let Some(issuer) = &rewrite.issuer {
        steps.push(language.fill("of {}", &[issuer]));
    }
    steps.join(", ")
}
