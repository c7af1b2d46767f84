//! `/sign-in`, `/sign-out`: the one page for people who are not known yet.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::Site;
use super::access::{Access, Caller};
use super::problem::Problem;
use super::said;
use super::sessions::LIFE;
use super::words::Language;
use crate::accounts::{self, PASSWORD_BYTES_MAX};
use crate::audit::{Event, Kind, Who};

pub const PATH: &str = "/sign-in";
pub const OUT_PATH: &str = "/sign-out";
pub const COOKIE: &str = "kura_session";
/// Of chance, in a cookie.
const SECRET_BYTES: usize = 32;
/// Longest address that is gone to after signing in, bytes.
const TO_LENGTH_MAX: usize = 2_000;

pub fn routes() -> Router<Site> {
    Router::new()
        .route(PATH, get(show).post(sign_in))
        .route(OUT_PATH, post(sign_out))
}

#[derive(Deserialize)]
struct To {
    #[serde(default)]
    to: String,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    to: String,
}

/// Of the page, which then goes to that page of ours.
pub fn address(to: &str) -> String {
    let to = form_urlencoded(to);
    format!("{PATH}?to={to}")
}

fn form_urlencoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A page of ours, never another server's: `//elsewhere` is one in an address, and `/\elsewhere` in a browser.
fn own_page(to: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '\\';
    let is_own = to.starts_with('/') && !to.starts_with("//") && to.chars().all(is_plain);
    match is_own && to.len() <= TO_LENGTH_MAX && !to.starts_with(PATH) {
        true => to,
        false => "/",
    }
}

/// A page without navigation: for who is not known.
fn page(language: Language, status: StatusCode, title: &str, body: Markup) -> Response {
    let text = html! {
        (DOCTYPE)
        html lang=(language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Kura" }
                link rel="stylesheet" href="/assets/kura.css";
            }
            body {
                main id="main" { h1 { (title) } (body) }
            }
        }
    };
    (status, Html(text.into_string())).into_response()
}

/// Why a person does not get what they asked for.
pub fn refusal(language: Language, problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
    let body = html! {
        p { (language.sentence(&problem.detail)) }
        @if let Some(next) = &problem.next { p { (language.sentence(next)) } }
    };
    page(language, status, language.say("Refused"), body)
}

fn form(language: Language, status: StatusCode, to: &str, wrong: Option<&'static str>) -> Response {
    let body = html! {
        @if let Some(wrong) = wrong {
            p role="alert" { (language.say(wrong)) }
        }
        form method="post" action=(PATH) {
            input type="hidden" name="to" value=(to);
            p {
                label for="name" { (language.say("User name")) } br;
                input id="name" name="name" autocomplete="username" autocapitalize="none" required autofocus;
            }
            p {
                label for="password" { (language.say("Password")) } br;
                input id="password" name="password" type="password" autocomplete="current-password" required;
            }
            p { button type="submit" { (language.say("Sign in")) } }
        }
    };
    page(language, status, language.say("Sign in"), body)
}

async fn show(Extension(caller): Extension<Caller>, Query(to): Query<To>) -> Response {
    form(caller.language, StatusCode::OK, own_page(&to.to), None)
}

async fn sign_in(
    State(site): State<Site>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Extension(caller): Extension<Caller>,
    Form(given): Form<Given>,
) -> Response {
    let (language, to) = (caller.language, own_page(&given.to).to_owned());
    let from = address.ip();
    let failed = |reason: String| {
        tracing::error!(%reason, "nobody can sign in");
        let words = "Nobody can sign in at the moment; the log of the server says why.";
        form(language, StatusCode::SERVICE_UNAVAILABLE, &to, Some(words))
    };
    // One at a time, so that many at once are not more tries than one after the other.
    let Ok(_hashing) = site.access.hashing.acquire().await else {
        return failed("the server ends".to_owned());
    };
    let wait = site.access.guessers().wait(from);
    if !wait.is_zero() {
        let words = "Too many wrong passwords came from here; wait a minute and try again.";
        let mut response = form(language, StatusCode::TOO_MANY_REQUESTS, &to, Some(words));
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        return response;
    }
    let accounts = match Access::accounts(&site).await {
        Ok(accounts) => accounts,
        Err(reason) => return failed(reason),
    };
    let (name, password) = (given.name, given.password);
    let who = who(&name, from);
    let is_long = name.len() > PASSWORD_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX;
    let check = move || match is_long {
        true => None,
        false => accounts.check_password(&name, &password).cloned(),
    };
    let user = match site.blocking(check).await {
        Ok(user) => user,
        Err(reason) => return failed(reason),
    };
    let Some(user) = user else {
        site.access.guessers().wrong(from);
        tracing::warn!(%from, "a wrong user name or password for the administrator's page");
        note(
            &site,
            &who,
            Kind::SignInFailed,
            "wrong user name or password",
        );
        let words = "User name and password do not fit.";
        return form(language, StatusCode::FORBIDDEN, &to, Some(words));
    };
    let secret = match accounts::chance(SECRET_BYTES) {
        Ok(secret) => secret,
        Err(reason) => return failed(reason),
    };
    site.access.guessers().right(from);
    tracing::info!(user = user.name, %from, "signed in to the administrator's page");
    note(&site, &who, Kind::SignedIn, "done");
    site.access.sessions().begin(&secret, user);
    let seconds = LIFE.as_secs();
    with_cookie(&site, Redirect::to(&to), &secret, seconds)
}

/// Whoever it says it is. A wrong name may be a password that was typed into the wrong field, so it is not noted.
fn who(name: &str, from: IpAddr) -> Who {
    Who {
        name: name.to_owned(),
        from: from.to_canonical().to_string(),
        read_only: true,
    }
}

fn note(site: &Site, who: &Who, kind: Kind, outcome: &str) {
    let event = Event {
        failed: kind == Kind::SignInFailed,
        ..Event::new(kind)
    };
    let what = "sign-in to the administrator's page";
    match kind {
        // Who guesses comes often.
        Kind::SignInFailed => {
            let nobody = Who {
                name: "unknown user".to_owned(),
                ..who.clone()
            };
            site.desk.audit.gather(&nobody, what, outcome, event);
        }
        _ => site.desk.audit.tell(who, what, outcome, event),
    }
}

async fn sign_out(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    if let Some(secret) = said::cookie(&headers, COOKIE) {
        site.access.sessions().end(&secret);
        if caller.signed_in {
            note(&site, &caller.who, Kind::SignedOut, "done");
        }
    }
    with_cookie(&site, Redirect::to(PATH), "", 0)
}

fn with_cookie(site: &Site, to: Redirect, secret: &str, seconds: u64) -> Response {
    let secure = if site.access.has_tls { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut response = to.into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_nobody_is_sent_to_another_server() {
        for (to, page) in [
            ("/volumes?a=b", "/volumes?a=b"),
            ("//evil.example/", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example/", "/"),
            ("/a\r\nSet-Cookie: b", "/"),
            ("", "/"),
            ("/sign-in?to=/sign-in", "/"),
        ] {
            assert_eq!(own_page(to), page, "{to:?}");
        }
    }
}
