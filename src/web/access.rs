//! Who may ask: found out once for each request, before any page or the API sees it.
//!
//! In this order: is the request for this server (a page elsewhere may give our address another name), does it come from a
//! page of ours (a browser may be tricked into sending it), who sends it, may they change something, is it small and quick
//! enough. Where nobody has a password the page listens to this machine only, and whoever works on it may do everything.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::sessions::Sessions;
use super::words::Language;
use super::{Site, layout, said, sign_in};
use crate::accounts::{Accounts, Guessers};
use crate::audit::{self, Event, Who};
use crate::config::Config;

/// Longest body of a request, bytes: a request for storage commitment of some ten thousand instances.
const BODY_BYTES_MAX: usize = 4 << 20;
/// So long a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Users and tokens are read again after this long.
const ACCOUNTS_AGE_MAX: Duration = Duration::from_secs(1);

/// Who asks, and in which language: an extension of every request that gets through.
#[derive(Debug, Clone)]
pub struct Caller {
    pub who: Who,
    pub language: Language,
    /// With a password, so that there is something to sign out of.
    pub signed_in: bool,
}

/// What is known of users, sessions and names of this server.
pub struct Access {
    state: PathBuf,
    /// Lower case, without port.
    names: Vec<String>,
    /// The page is open to the network: nobody gets in without password or token.
    is_open: bool,
    pub has_tls: bool,
    accounts: Mutex<Option<(Instant, Arc<Accounts>)>>,
    sessions: Mutex<Sessions>,
    guessers: Mutex<Guessers>,
    /// Argon2 takes 19 MiB and some hundredths of a second: one at a time.
    pub hashing: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Access {
    pub fn new(config: &Config) -> Access {
        let admin = &config.admin;
        let is_open = !admin.bind.is_loopback();
        let mut names = vec!["localhost".to_owned()];
        names.extend(admin.names.iter().map(|name| name.to_ascii_lowercase()));
        if is_open {
            let own = rustix::system::uname();
            names.push(own.nodename().to_string_lossy().to_ascii_lowercase());
        }
        Access {
            state: config.state.clone(),
            names,
            is_open,
            has_tls: admin.certificate.is_some(),
            accounts: Mutex::default(),
            sessions: Mutex::default(),
            guessers: Mutex::default(),
            hashing: Semaphore::new(1),
        }
    }

    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }

    pub fn guessers(&self) -> MutexGuard<'_, Guessers> {
        lock(&self.guessers)
    }

    fn kept_accounts(&self) -> Option<Arc<Accounts>> {
        let kept = lock(&self.accounts);
        let (read, accounts) = kept.as_ref()?;
        (read.elapsed() < ACCOUNTS_AGE_MAX).then(|| accounts.clone())
    }

    /// Without a wait for a disk where they were read a moment ago.
    pub async fn accounts(site: &Site) -> Result<Arc<Accounts>, String> {
        if let Some(accounts) = site.access.kept_accounts() {
            return Ok(accounts);
        }
        let state = site.access.state.clone();
        let accounts = site.blocking(move || Accounts::read(&state)).await??;
        let accounts = Arc::new(accounts);
        *lock(&site.access.accounts) = Some((Instant::now(), accounts.clone()));
        Ok(accounts)
    }

    /// A browser on this machine may be sent to any name whose owner says that it is this machine. An address is nobody's.
    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.');
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.to_ascii_lowercase();
        address.parse::<IpAddr>().is_ok() || self.names.contains(&name)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What kind of request it is, as far as access is concerned.
struct Kind {
    is_api: bool,
    is_unsafe: bool,
    /// For everybody: the page to sign in, what it looks like, and whether the server is there.
    is_for_all: bool,
    is_metrics: bool,
}

impl Kind {
    fn of(request: &Request) -> Kind {
        let path = request.uri().path();
        Kind {
            is_api: path.starts_with("/api/"),
            is_unsafe: !matches!(*request.method(), Method::GET | Method::HEAD),
            is_for_all: matches!(path, "/healthz" | sign_in::PATH | layout::LANGUAGE_PATH)
                || path.starts_with("/assets/"),
            is_metrics: path == "/metrics",
        }
    }
}

pub async fn guard(
    State(site): State<Site>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let kind = Kind::of(&request);
    let language = Language::of_headers(request.headers());
    let refused = |problem: Problem| match kind.is_api {
        true => problem.into_response(),
        false => sign_in::refusal(language, &problem),
    };
    if let Err(problem) = check_way(&site.access, &kind, &request) {
        return refused(problem);
    }
    let caller = match caller(&site, &kind, address.ip(), request.headers(), language).await {
        Ok(Some(caller)) => caller,
        Ok(None) if kind.is_api || kind.is_metrics => {
            note_stranger(&site, address.ip(), request.headers());
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "who asks is not known");
            let next = "send a token in the header Authorization: Bearer …; kura admin token add makes one";
            return problem.next(next).into_response();
        }
        Ok(None) => return to_sign_in(&request),
        Err(problem) => return refused(problem),
    };
    // The API looks at what is asked: much that only looks comes by POST there.
    if kind.is_unsafe && !kind.is_api && !kind.is_for_all && caller.who.read_only {
        let path = request.uri().path();
        if !matches!(path, sign_in::OUT_PATH | "/language") {
            let problem = Problem::new(
                StatusCode::FORBIDDEN,
                "you may look and change nothing; nothing was changed",
            );
            return refused(problem.next("ask somebody who may change this"));
        }
    }
    request = match with_body(request, kind.is_unsafe).await {
        Ok(request) => request,
        Err(problem) => return refused(problem),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Somebody gave a token that is none of ours.
fn note_stranger(site: &Site, from: IpAddr, headers: &HeaderMap) {
    if !headers.contains_key(header::AUTHORIZATION) {
        return;
    }
    let who = Who {
        name: "unknown token".to_owned(),
        from: from.to_canonical().to_string(),
        read_only: true,
    };
    let event = Event {
        failed: true,
        ..Event::new(audit::Kind::SignInFailed)
    };
    let audit = &site.desk.audit;
    audit.gather(&who, "a token for the API", "not known", event);
}

/// That the request is meant for us, and not another page's idea.
fn check_way(access: &Access, kind: &Kind, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let host = host
        .or_else(|| text(headers, &header::HOST))
        .unwrap_or_default();
    if !kind.is_for_all && !access.is_ours(host) {
        let problem = Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this server does not know the name that it was asked by; nothing was done",
        );
        return Err(problem.next("use its address, or write the name into [admin] names"));
    }
    let strange = || {
        let problem = Problem::new(
            StatusCode::FORBIDDEN,
            "the request comes from a page of another server; nothing was done",
        );
        Err(problem.next("open the administrator's page itself, and do it there"))
    };
    // Fetch Metadata: every browser of today says where a request comes from, and no page can change that.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_navigation = headers
        .get("sec-fetch-mode")
        .is_some_and(|mode| mode == "navigate");
    match site {
        Some(b"same-origin" | b"none") => {}
        // A link to a page is followed; the page shows itself to nobody but the reader.
        Some(_) if is_navigation && !kind.is_unsafe && !kind.is_api => {}
        Some(_) if kind.is_for_all && !kind.is_unsafe => {}
        Some(_) => return strange(),
        None if kind.is_unsafe => match text(headers, &header::ORIGIN) {
            Some(origin) => {
                let of = origin.split_once("://").map(|(_, of)| of);
                if of.is_none_or(|of| !of.eq_ignore_ascii_case(host)) {
                    return strange();
                }
            }
            // Not a browser. A form in an old one says nothing either; JSON it cannot send elsewhere without being asked.
            None if kind.is_api => {}
            None => return strange(),
        },
        None => {}
    }
    if kind.is_api && request.method() == Method::POST {
        let of_json = text(headers, &header::CONTENT_TYPE).is_some_and(|of| {
            let of = of.split(';').next().unwrap_or_default().trim();
            of.eq_ignore_ascii_case("application/json")
        });
        if !of_json {
            let problem = Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body of a request is JSON; nothing was done",
            );
            return Err(problem.next("send it with the header Content-Type: application/json"));
        }
    }
    Ok(())
}

/// `None`: nobody that we know.
async fn caller(
    site: &Site,
    kind: &Kind,
    address: IpAddr,
    headers: &HeaderMap,
    language: Language,
) -> Result<Option<Caller>, Problem> {
    let known = |name: &str, read_only: bool, signed_in: bool| {
        Some(Caller {
            who: Who {
                name: name.to_owned(),
                from: address.to_canonical().to_string(),
                read_only,
            },
            language,
            signed_in,
        })
    };
    if kind.is_for_all {
        return Ok(known("nobody", true, false));
    }
    let accounts = Access::accounts(site).await.map_err(|reason| {
        tracing::error!(%reason, "nobody is let into the administrator's page");
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "users and tokens cannot be read; nobody is let in",
        );
        problem.next("the log of the server says why")
    })?;
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let given = given.to_str().unwrap_or_default();
        let secret = given
            .split_once(' ')
            .map(|(way, secret)| (way, secret.trim()));
        let token = secret
            .filter(|(way, _)| way.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, secret)| accounts.token(secret));
        return Ok(token.and_then(|token| {
            let name = format!("token {}", token.name);
            known(&name, token.read_only, false)
        }));
    }
    if let Some(secret) = said::cookie(headers, sign_in::COOKIE) {
        let sessions = site.access.sessions();
        let user = sessions.user(&secret);
        let user = user.and_then(|then| {
            let now = accounts.user(&then.name);
            now.filter(|now| now.is_still(then))
        });
        if let Some(user) = user {
            return Ok(known(&user.name, user.read_only, true));
        }
    }
    if kind.is_metrics && address.to_canonical().is_loopback() {
        return Ok(known("this machine", true, false));
    }
    match site.access.is_open || !accounts.users.is_empty() {
        true => Ok(None),
        false => Ok(known("this machine", false, false)),
    }
}

fn to_sign_in(request: &Request) -> Response {
    // What moves by itself cannot show a form: the whole page goes there.
    if request.headers().contains_key("hx-request") {
        let way = [("hx-redirect", sign_in::PATH)];
        return (StatusCode::UNAUTHORIZED, way).into_response();
    }
    let to = match *request.method() {
        Method::GET => request.uri().path_and_query().map_or("/", |to| to.as_str()),
        _ => "/",
    };
    Redirect::to(&sign_in::address(to)).into_response()
}

/// With the whole body in it: who sends it slowly waits alone, holding no thread and no disk. Nothing that only reads has
/// one.
async fn with_body(request: Request, has_one: bool) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if !has_one {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let too_long = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body broke off, or is longer than 4 MiB; nothing was done",
        )
    };
    // What says that it is too long is not waited for.
    let length = text(&parts.headers, &header::CONTENT_LENGTH).unwrap_or_default();
    if length
        .parse::<usize>()
        .is_ok_and(|length| length > BODY_BYTES_MAX)
    {
        return Err(too_long());
    }
    let whole = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let Ok(whole) = tokio::time::timeout(BODY_PATIENCE, whole).await else {
        let problem = Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come within 30 s; nothing was done",
        );
        return Err(problem);
    };
    let whole = whole.map_err(|_| too_long())?;
    Ok(Request::from_parts(parts, Body::from(whole)))
}

/// What browsers are told with every answer.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";
    for (name, value) in [
        ("content-security-policy", policy),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        // Nothing to other servers. Not no-referrer: with that, browsers hide from our own forms' targets where they come from.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Patients are on every page but those that say otherwise themselves (style, script).
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
