//! Who may ask: found out once for each request, before any page or the API sees it.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Site;
use super::words::Language;
use crate::audit::Who;

/// Who asks, and in which language: an extension of every request that gets through.
#[derive(Debug, Clone)]
pub struct Caller {
    pub who: Who,
    pub language: Language,
}

pub async fn guard(
    State(_site): State<Site>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let language = Language::of_headers(request.headers());
    request.extensions_mut().insert(Caller {
        who: Who {
            name: "the page".to_owned(),
            from: address.ip().to_string(),
        },
        language,
    });
    next.run(request).await
}
