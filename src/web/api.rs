//! The JSON API: what the command line asks over its socket, asked over HTTP. A path for each [`Request`], by its name
//! there; the body is the rest of the object.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::{any, get};
use axum::{Extension, Router};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::Site;
use super::access::Caller;
use super::openapi;
use super::problem::Problem;
use crate::control::{self, Request, Response};

/// Pieces of a long answer that wait for the reader.
const PIECES_WAITING_MAX: usize = 4;
/// So long a reader may take nothing; the index is kept as it was at the beginning of a search until then.
const READER_PATIENCE: Duration = Duration::from_secs(60);
const NDJSON: &str = "application/x-ndjson";

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/openapi.json", get(description).fallback(no_method))
        .route("/{verb}", any(verb))
        .fallback(no_path)
        // The body was read before, and its length looked at there.
        .layer(DefaultBodyLimit::disable())
}

async fn description() -> Answer {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, openapi::text()).into_response()
}

async fn no_method() -> Problem {
    wrong_method("GET, HEAD")
}

async fn no_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such path")
        .next("GET /api/v1/openapi.json describes all that there are")
}

fn wrong_method(allow: &'static str) -> Problem {
    let problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this path takes {allow}; nothing was done"),
    );
    Problem {
        allow: Some(allow),
        ..problem
    }
}

async fn verb(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    method: Method,
    body: Bytes,
) -> Answer {
    let Ok(Path(name)) = name else {
        return no_path().await.into_response();
    };
    match ask(site, caller, &name, &method, &body).await {
        Ok(answer) => answer,
        Err(problem) => problem.into_response(),
    }
}

async fn ask(
    site: Site,
    caller: Caller,
    name: &str,
    method: &Method,
    body: &[u8],
) -> Result<Answer, Problem> {
    let Some(way) = openapi::way(name) else {
        return Err(no_path().await);
    };
    match (way, method) {
        (openapi::Way::Get, &Method::GET | &Method::HEAD) => {}
        (openapi::Way::Post, &Method::POST) => {}
        (openapi::Way::Get, _) => return Err(wrong_method("GET, HEAD")),
        (openapi::Way::Post, _) => return Err(wrong_method("POST")),
    }
    let body = if way == openapi::Way::Get { b"" } else { body };
    let request = read(name, body)?;
    if caller.who.read_only && request.is_a_change() {
        let detail = format!(
            "{} may look and change nothing; nothing was changed",
            caller.who.name
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if request.is_in_pieces() {
        return in_pieces(site, caller, request).await;
    }
    let (desk, who) = (site.desk.clone(), caller.who);
    let response = site.blocking(move || control::answer(&desk, &who, request));
    match response.await {
        Ok(Response::Failed { reason }) => Err(not_done(reason)),
        Ok(response) => {
            let text = serde_json::to_vec(&response).map_err(|error| fault(error.to_string()))?;
            let kind = [(header::CONTENT_TYPE, "application/json")];
            Ok((kind, text).into_response())
        }
        Err(reason) => Err(fault(reason)),
    }
}

/// The body is an object without the verb, or nothing at all.
fn read(name: &str, body: &[u8]) -> Result<Request, Problem> {
    let wrong = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, detail)
            .next("GET /api/v1/openapi.json describes what is expected")
    };
    let given: Value = match body.is_empty() {
        true => Value::Object(Map::new()),
        false => serde_json::from_slice(body)
            .map_err(|error| wrong(format!("the body is not JSON: {error}; nothing was done")))?,
    };
    let Value::Object(mut object) = given else {
        return Err(wrong(
            "the body is not a JSON object; nothing was done".to_owned(),
        ));
    };
    if object.contains_key("verb") {
        return Err(wrong(
            "the path says the verb, the body must not; nothing was done".to_owned(),
        ));
    }
    if name == "stats" {
        by_what(&mut object);
    }
    let given_count = object.len();
    object.insert("verb".to_owned(), name.into());
    let request: Request = serde_json::from_value(Value::Object(object))
        .map_err(|error| wrong(format!("this is not asked so: {error}; nothing was done")))?;
    if given_count > 0 && openapi::takes_nothing(&request) {
        return Err(wrong(
            "nothing is expected in the body; nothing was done".to_owned(),
        ));
    }
    Ok(request)
}

/// `{"by":"month"}` as the socket has it, `{"month":null}`.
fn by_what(object: &mut Map<String, Value>) {
    if object.is_empty() {
        object.insert("all".to_owned(), Value::Null);
    } else if object.len() == 1
        && let Some(Value::String(by)) = object.get("by").cloned()
    {
        object.clear();
        object.insert(by, Value::Null);
    }
}

/// It was understood, and cannot be done as things are.
fn not_done(reason: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason)
}

fn fault(reason: String) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, reason)
        .next("the log of the server says more; please report it")
}

/// A line of JSON for each piece; the last is the end.
async fn in_pieces(site: Site, caller: Caller, request: Request) -> Result<Answer, Problem> {
    let Ok(place) = site.streams.clone().try_acquire_owned() else {
        let problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "as many long answers as there may be are being read already; nothing was done",
        );
        return Err(problem.next("try again when one of them has ended"));
    };
    let (give, mut pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let (desk, runtime) = (site.desk.clone(), tokio::runtime::Handle::current());
    // Not on one of the places of what is answered at once: a reader may take its time.
    tokio::task::spawn_blocking(move || {
        let _place = place;
        control::answer_each(&desk, &caller.who, request, &mut |response| {
            let give = give.send(response);
            let given = runtime.block_on(tokio::time::timeout(READER_PATIENCE, give));
            match given {
                Ok(Ok(())) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        });
    });
    let first = match pieces.recv().await {
        Some(Response::Failed { reason }) => return Err(not_done(reason)),
        Some(first) => first,
        None => return Err(fault("the answer broke off".to_owned())),
    };
    let lines = Lines {
        first: Some(first),
        pieces,
        ended: false,
    };
    let kind = [(header::CONTENT_TYPE, NDJSON)];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// The body of such an answer. One that ends before its end is broken off, so that nobody takes it for whole.
struct Lines {
    first: Option<Response>,
    pieces: mpsc::Receiver<Response>,
    ended: bool,
}

impl futures_core::Stream for Lines {
    type Item = std::io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => match self.pieces.poll_recv(context) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        let Some(response) = next else {
            self.ended = true;
            return Poll::Ready(Some(Err(std::io::Error::other("it broke off"))));
        };
        self.ended = !response.is_a_piece();
        let line = serde_json::to_vec(&response).map(|mut line| {
            line.push(b'\n');
            line
        });
        Poll::Ready(Some(line.map_err(std::io::Error::other)))
    }
}
