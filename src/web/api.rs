//! The JSON API: what the command line asks over its socket, asked over HTTP.

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};

use super::Site;
use super::access::Caller;
use crate::control::{Request, Response};

pub fn routes() -> Router<Site> {
    Router::new().route("/status", get(status))
}

async fn status(State(site): State<Site>, Extension(caller): Extension<Caller>) -> Json<Response> {
    Json(site.ask(&caller.who, Request::Status).await)
}
