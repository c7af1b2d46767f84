//! Amendments that settle a conflict: each is shown first, made in the background, and can be taken back.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use dicom_dictionary_std::tags;
use maud::{Markup, html};

use super::super::forms::{self, Fields, Form, Typed};
use super::{HERE, before_and_after};
use crate::archive::{Amend, AmendPlan, AmendSaid, AmendStatus, AmendVerb, MixedStudy, TwoPeople};
use crate::control::{self, Request};
use crate::dicom::Level;
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell};

const LOOK_SECONDS: u32 = 2;
const AMENDING: &str = "/conflicts/amending";
/// Plans on a page: each reads images.
const PLANS_MAX: usize = 10;
/// Elements of the sample that are shown.
const DIFFERENCES_MAX: usize = 40;

async fn ask(site: &Site, caller: &Caller, verb: AmendVerb) -> Result<AmendSaid, String> {
    match site.ask(&caller.who, Request::Amend(verb)).await {
        control::Response::Amend(said) => Ok(said),
        control::Response::Failed { reason } => Err(reason),
        _ => Err(forms::something_else()),
    }
}

/// The study of somebody whose Patient ID is wrong.
pub fn wrong_id(caller: &Caller, typed: &Typed, people: &TwoPeople) -> Markup {
    let say = |text| caller.language.say(text);
    let form = Form::new(caller, typed, "plan");
    let studies: Vec<(&str, String)> = people
        .people
        .iter()
        .flat_map(|one| {
            one.study_instance_uids
                .iter()
                .map(|uid| (&**uid, format!("{}: {uid}", one.name)))
        })
        .collect();
    let studies: Vec<(&str, &str)> = studies.iter().map(|(uid, text)| (*uid, &**text)).collect();
    html! {
        section {
            h2 { (say("One patient ID is wrong")) }
            form method="post" action="/conflicts/plan" {
                input type="hidden" name="level" value="study";
                div.fields {
                    (form.choice("of", say("Study"), &studies, ""))
                    (form.needed("patient_id", say("The right patient ID"), ""))
                    (form.needed("reason", say("Why (kept with the change)"), ""))
                }
                (parts::buttons(html! { button type="submit" { (say("Show what it would do")) } }))
            }
        }
    }
}

/// Images of another patient go to another study.
pub fn split(caller: &Caller, typed: &Typed, study: &MixedStudy) -> Markup {
    let say = |text| caller.language.say(text);
    let form = Form::new(caller, typed, "plan");
    html! {
        @for one in &study.others {
            section {
                h2 { (caller.language.fill("Those of {} are another study's", &[&format!("{} {}", one.patient_id, one.patient_name)])) }
                form method="post" action="/conflicts/plan" {
                    input type="hidden" name="level" value="image";
                    @for uid in &one.sop_instance_uids { input type="hidden" name="of" value=(uid); }
                    div.fields {
                        (form.needed("to_study", say("Study Instance UID of that study"), ""))
                        (form.needed("reason", say("Why (kept with the change)"), ""))
                    }
                    (parts::buttons(html! { button type="submit" { (say("Show what it would do")) } }))
                }
            }
        }
    }
}

/// What an amendment that was typed would do.
pub async fn plan(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("plan", fields);
    let id = tags::PATIENT_ID;
    let key = (u32::from(id.group()) << 16) | u32::from(id.element());
    let values = typed.given("patient_id").map(|text| (key, text));
    let ask = Amend {
        level: match typed.text("level") {
            "image" => Level::Instance,
            _ => Level::Study,
        },
        of: typed.all("of"),
        values: values.into_iter().collect(),
        to_study: typed.given("to_study"),
        to_patient_of_study: None,
        new_uids: false,
        utf8: false,
        now: false,
        merge_patients: false,
        who: caller.who.name.clone(),
        why: typed.text("reason").to_owned(),
    };
    plans(&site, &caller, &[ask]).await
}

/// What each would do, with a button that does it.
pub async fn plans(site: &Site, caller: &Caller, asks: &[Amend]) -> Response {
    let language = caller.language;
    let say = |text| language.say(text);
    let title = say("What would be amended");
    let mut planned = Vec::new();
    for one in asks.iter().take(PLANS_MAX) {
        // Looking waits for nobody; whether a sender may still be at it is asked when it is made.
        let look = Amend {
            now: true,
            ..one.clone()
        };
        let verb = AmendVerb::Plan { ask: look };
        planned.push((one, ask(site, caller, verb).await));
    }
    let more = asks.len().saturating_sub(planned.len());
    let body = html! {
        h1 { (title) }
        @if asks.len() > 1 {
            p { (say("Each is decided by itself. When one is done, come back to the conflict for the next.")) }
        }
        @for (ask, plan) in &planned {
            section {
                @match plan {
                    Ok(AmendSaid::Plan(plan)) => {
                        (screen(caller, plan))
                        form method="post" action="/conflicts/amend" {
                            input type="hidden" name="ask" value=(serde_json::to_string(ask).unwrap_or_default());
                            p {
                                label {
                                    input type="checkbox" name="now" value="yes";
                                    " " (say("Also when an image came less than a minute ago"))
                                }
                            }
                            (parts::buttons(html! {
                                button type="submit" { (say("Amend")) }
                                a.button href=(HERE) { (say("Back, without changing anything")) }
                            }))
                        }
                    }
                    Ok(_) => (forms::refusal(caller, &forms::something_else())),
                    Err(reason) => (forms::refusal(caller, reason)),
                }
            }
        }
        @if more > 0 { p { (language.fill("And {} more.", &[&more.to_string()])) } }
        p { a href=(HERE) { (say("All conflicts")) } }
    };
    let refused = planned.iter().find_map(|(_, plan)| plan.as_ref().err());
    let typed = match refused {
        Some(reason) => Typed::default().refused(reason),
        None => Typed::default(),
    };
    forms::page(caller, HERE, title, &typed, body)
}

fn screen(caller: &Caller, plan: &AmendPlan) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let what = language.fill(
        "{} images of {} series, {}",
        &[
            &parts::count(plan.instances_count),
            &parts::count(plan.series_count),
            &parts::bytes(plan.bytes),
        ],
    );
    let mut facts = vec![
        (
            say("Study"),
            html! { span.uid { (plan.study_instance_uid) } },
        ),
        (say("Chosen"), cell(&what)),
    ];
    if plan.to_study_instance_uid != plan.study_instance_uid {
        let how = match plan.joins {
            true => say("which has other images"),
            false => say("a new one"),
        };
        facts.push((
            say("To study"),
            html! { span.uid { (plan.to_study_instance_uid) } " (" (how) ")" },
        ));
    }
    let side = |text: &Option<String>| text.clone().unwrap_or_else(|| say("absent").to_owned());
    html! {
        (parts::facts(&facts))
        (before_and_after(caller, &plan.before, &plan.after))
        @if let Some(sample) = &plan.sample {
            details {
                summary { (language.fill("Elements that differ in image {}", &[&sample.sop_instance_uid])) }
                ul {
                    @for one in sample.differences.iter().take(DIFFERENCES_MAX) {
                        li { (one.tag) " " (one.keyword) ": " (side(&one.before)) " → " (side(&one.after)) }
                    }
                }
            }
        }
    }
}

pub async fn make(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    axum::Form(fields): axum::Form<Fields>,
) -> Response {
    let typed = Typed::new("amend", fields);
    let Ok(asked) = serde_json::from_str::<Amend>(typed.text("ask")) else {
        return forms::not_done(
            &site,
            HERE,
            "the amendment is not understood; nothing was changed",
        );
    };
    // Who wants it is who sends it.
    let verb = AmendVerb::Make {
        ask: Amend {
            who: caller.who.name.clone(),
            now: asked.now || typed.ticked("now"),
            ..asked
        },
    };
    match ask(&site, &caller, verb).await {
        Ok(_) => forms::done(&site, AMENDING, caller.language.say("It has begun.")),
        Err(reason) => forms::not_done(&site, HERE, reason),
    }
}

pub async fn show(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let title = caller.language.say("Amendment");
    let (inside, _) = look(&site, &caller).await;
    let body = html! {
        h1 { (title) }
        section aria-label=(title) { (parts::moving("amending", "/conflicts/amending/now", LOOK_SECONDS, inside)) }
        p { a href=(HERE) { (caller.language.say("All conflicts")) } }
    };
    forms::page(&caller, HERE, title, &Typed::default(), body)
}

pub async fn now(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Response {
    let (body, over) = look(&site, &caller).await;
    forms::fragment(body, over)
}

async fn look(site: &Site, caller: &Caller) -> (Markup, bool) {
    match ask(site, caller, AmendVerb::Look).await {
        Ok(AmendSaid::Status(status)) => (status_part(caller, &status), !status.running),
        Ok(_) => (forms::refusal(caller, &forms::something_else()), true),
        Err(reason) => (forms::refusal(caller, &reason), true),
    }
}

fn status_part(caller: &Caller, status: &AmendStatus) -> Markup {
    let language = caller.language;
    let say = |text| language.say(text);
    let text = language.fill(
        "{} of {} images",
        &[
            &parts::count(status.done_count.min(status.total_count)),
            &parts::count(status.total_count),
        ],
    );
    html! {
        @if status.running {
            p.answer role="status" { (language.sentence(&status.step)) }
            p { (parts::progress(say("Amendment"), status.done_count, Some(status.total_count), &text)) }
        } @else if let Some(error) = &status.error {
            (forms::refusal(caller, error))
        } @else if let Some(made) = &status.made {
            @let number = made.number.to_string();
            (parts::notice(Tone::Good, html! {
                (language.fill("Done: {} images.", &[&parts::count(made.instances_count)])) " "
                a href=(forms::address(&["conflicts", "change", &number])) { (language.fill("Change {}", &[&number])) }
            }))
        } @else {
            (parts::empty(say("Nothing was amended since the start.")))
        }
    }
}
