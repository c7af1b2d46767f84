//! `/jobs`

use axum::response::Html;
use axum::routing::get;
use axum::{Extension, Router};
use maud::html;

use crate::web::Site;
use crate::web::access::Caller;
use crate::web::layout;

pub fn routes() -> Router<Site> {
    Router::new().route("/jobs", get(show))
}

async fn show(Extension(caller): Extension<Caller>) -> Html<String> {
    let title = caller.language.say("Jobs");
    layout::page(&caller, "/jobs", title, html! { h1 { (title) } })
}
