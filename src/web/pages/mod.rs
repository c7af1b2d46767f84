//! The pages: one file each, with its routes.

mod conflicts;
mod forms;
mod forwarding;
mod jobs;
mod journal;
mod overview;
mod peers;
mod studies;
mod volumes;

use axum::Router;

use super::Site;

pub fn routes() -> Router<Site> {
    Router::new()
        .merge(overview::routes())
        .merge(studies::routes())
        .merge(volumes::routes())
        .merge(peers::routes())
        .merge(forwarding::routes())
        .merge(jobs::routes())
        .merge(journal::routes())
        .merge(conflicts::routes())
}
