//! The frame of every page: title, navigation, the state of the archive, what the last form did.

use axum::Router;
use axum::extract::{Form, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};

use super::access::Caller;
use super::parts::{self, Tone};
use super::said::{self, Said};
use super::words::{self, Language};
use super::{Site, sign_in};
use crate::control;

/// Address and English name of each page, in the order of the navigation.
pub const PAGES: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/studies", "Studies"),
    ("/volumes", "Volumes"),
    ("/peers", "Peers"),
    ("/forwarding", "Forwarding"),
    ("/jobs", "Jobs"),
    ("/journal", "Journal"),
    ("/conflicts", "Conflicts and quarantine"),
];

/// Changes nothing but what the reader's own browser is told.
pub const LANGUAGE_PATH: &str = "/language";

/// A chosen language is remembered for a year, seconds.
const LANGUAGE_AGE_MAX: u32 = 31_536_000;

/// What the frame of a page shows beside the page; [`around`] finds it out before the page is made.
#[derive(Default)]
struct Around {
    /// `ok`, `degraded`, `lost`, or `unknown`; empty: not asked for.
    state: String,
    said: Option<Said>,
    /// Where the reader is, to come back to.
    address: String,
}

tokio::task_local! {
    static AROUND: Around;
}

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/state", get(state))
        .route(LANGUAGE_PATH, post(choose_language))
}

/// Middleware of pages.
pub async fn around(State(site): State<Site>, request: Request, next: Next) -> Response {
    // What htmx asks for is a part of a page that has its frame.
    if request.method() != Method::GET || request.headers().contains_key("hx-request") {
        return next.run(request).await;
    }
    let number = said::cookie(request.headers(), said::COOKIE);
    let said = number.as_ref().and_then(|number| site.sayings.take(number));
    let around = Around {
        state: state_now(&site).await.to_owned(),
        said,
        address: request.uri().to_string(),
    };
    let mut response = AROUND.scope(around, next.run(request)).await;
    if number.is_some() {
        let gone = format!("{}=; Path=/; Max-Age=0", said::COOKIE);
        if let Ok(gone) = gone.parse() {
            response.headers_mut().append(header::SET_COOKIE, gone);
        }
    }
    response
}

/// `here`: the address of the page in [`PAGES`]. The body has the one `h1`.
pub fn page(caller: &Caller, here: &str, title: &str, body: Markup) -> Html<String> {
    let framed = AROUND.try_with(|around| frame(caller, around, here, title, &body));
    let framed = framed.unwrap_or_else(|_| frame(caller, &Around::default(), here, title, &body));
    Html(framed.into_string())
}

fn frame(caller: &Caller, around: &Around, here: &str, title: &str, body: &Markup) -> Markup {
    let language = caller.language;
    html! {
        (DOCTYPE)
        html lang=(language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=r#"{"allowEval":false,"includeIndicatorStyles":false,"selfRequestsOnly":true,"historyCacheSize":0,"refreshOnHistoryMiss":true}"#;
                title { (title) " · Kura" }
                link rel="icon" href="/assets/kura.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/kura.css";
                script src="/assets/htmx.min.js" defer {}
                script src="/assets/kura.js" defer {}
            }
            body {
                a.skip href="#main" { (language.say("To the content")) }
                header {
                    div.top {
                        a.brand href="/" { "Kura" }
                        @if !around.state.is_empty() {
                            div #state aria-live="polite" { (state_part(language, &around.state)) }
                        }
                        (language_form(language, &around.address))
                        @if caller.signed_in {
                            form method="post" action=(sign_in::OUT_PATH) {
                                button.plain type="submit" { (language.say("Sign out")) " (" (caller.who.name) ")" }
                            }
                        }
                    }
                    nav aria-label=(language.say("Pages")) {
                        @for (address, name) in PAGES {
                            a href=(address) aria-current=[(*address == here).then_some("page")] { (language.say(name)) }
                        }
                    }
                }
                main #main tabindex="-1" {
                    div #silent role="alert" hidden {
                        (parts::notice(Tone::Bad, html! { (language.say("The server does not answer; what is shown is from before.")) }))
                    }
                    @if let Some(said) = &around.said {
                        div role="status" {
                            (parts::notice(if said.is_good { Tone::Good } else { Tone::Bad }, html! { (language.sentence(&said.text)) }))
                        }
                    }
                    (body)
                }
            }
        }
    }
}

/// The state in a word and a colour, a link to what to do about it; asks for itself again.
fn state_part(language: Language, state: &str) -> Markup {
    let tone = Tone::of_state(state);
    html! {
        a.state.(tone.class()) href="/" hx-get={ "/state?was=" (state) } hx-trigger="every 10s" hx-target="#state" {
            (parts::state_word(language, state))
        }
    }
}

#[derive(serde::Deserialize)]
struct Was {
    #[serde(default)]
    was: String,
}

/// Nothing where the state is what it was: what did not change must not be read out again.
async fn state(
    State(site): State<Site>,
    axum::Extension(caller): axum::Extension<Caller>,
    Query(was): Query<Was>,
) -> Response {
    match state_now(&site).await {
        same if same == was.was => StatusCode::NO_CONTENT.into_response(),
        state => Html(state_part(caller.language, state).into_string()).into_response(),
    }
}

async fn state_now(site: &Site) -> &'static str {
    let status = site.status.get(site).await;
    match status.as_deref() {
        Some(control::Response::Status { status, .. }) => match status.state.as_str() {
            "ok" => "ok",
            "lost" => "lost",
            _ => "degraded",
        },
        _ => "unknown",
    }
}

fn language_form(now: Language, address: &str) -> Markup {
    let other = match now {
        Language::English => ("ja", "日本語"),
        Language::Japanese => ("en", "English"),
    };
    html! {
        form.language method="post" action=(LANGUAGE_PATH) {
            input type="hidden" name="back" value=(address);
            button.plain type="submit" name="language" value=(other.0) lang=(other.0) { (other.1) }
        }
    }
}

#[derive(serde::Deserialize)]
struct Choice {
    language: String,
    #[serde(default)]
    back: String,
}

async fn choose_language(Form(choice): Form<Choice>) -> Response {
    let Some(language) = Language::of_tag(&choice.language) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let cookie = format!(
        "{}={}; Path=/; Max-Age={LANGUAGE_AGE_MAX}; HttpOnly; SameSite=Lax",
        words::COOKIE,
        language.tag()
    );
    let headers = [
        (header::LOCATION, of_this_site(&choice.back)),
        (header::SET_COOKIE, &cookie),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The address, if it is a path of this site and nothing that a browser may take for another host.
fn of_this_site(address: &str) -> &str {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-~?&=%+*".contains(&b);
    let is_path = address.starts_with('/') && !address.starts_with("//");
    match is_path && address.bytes().all(harmless) && address.len() <= 2_000 {
        true => address,
        false => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_to_no_other_site() {
        assert_eq!(of_this_site("/studies?name=A%5EB*"), "/studies?name=A%5EB*");
        for other in [
            "",
            "//evil.example/",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nSet-Cookie: b=c",
            "/\t/evil.example",
        ] {
            assert_eq!(of_this_site(other), "/", "{other:?}");
        }
    }
}
