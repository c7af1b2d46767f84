//! Files that pages load, part of the program: nothing is fetched from anywhere else.

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Site;

const FILES: &[(&str, &str, &str)] = &[
    (
        "htmx.min.js",
        "text/javascript; charset=utf-8",
        include_str!("assets/htmx.min.js"),
    ),
    (
        "kura.css",
        "text/css; charset=utf-8",
        include_str!("assets/kura.css"),
    ),
    (
        "kura.js",
        "text/javascript; charset=utf-8",
        include_str!("assets/kura.js"),
    ),
    ("kura.svg", "image/svg+xml", include_str!("assets/kura.svg")),
];

pub fn routes() -> Router<Site> {
    Router::new().route("/assets/{name}", get(file))
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => ([(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
