//! The administrator's page and the JSON API: one HTTP server inside the program, nothing to install beside it.
//!
//! Both ask [`control`](crate::control) what the command line asks, and show what it answers: a page decides nothing.
//! Everything that came from a modality or a person (a patient's name above all) goes into a page through `maud`, which
//! escapes it.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | start, stop, the routes; one place where requests wait for disks |
//! | `access` | who may: sign-in, tokens, what a browser may be tricked into |
//! | `api` | the JSON API and its description |
//! | `layout` | the frame of every page |
//! | `parts` | what pages are made of: notices, tables, bars, forms |
//! | `said` | what a form did, told on the page after it |
//! | `lately` | answers that take long, as they were a moment ago |
//! | `words` | English and Japanese |
//! | `pages` | one file per page |
//! | `assets` | style, script, htmx |

mod access;
mod api;
mod assets;
mod lately;
mod layout;
mod pages;
mod parts;
mod said;
mod words;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Semaphore;

use crate::archive::MirrorVerb;
use crate::audit::Who;
use crate::control::{self, Desk, Request, Response};

/// Requests that are answered at the same moment: each has a thread, and may wait for a disk.
const AT_ONCE_MAX: usize = 16;
/// So long what is being answered at the end gets.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What every handler has.
#[derive(Clone)]
pub struct Site {
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
    sayings: said::Sayings,
    status: lately::Lately,
    mirror: lately::Lately,
}

impl Site {
    /// The answer to a request, got on a thread that may block.
    pub(in crate::web) async fn ask(&self, who: &Who, request: Request) -> Response {
        let (desk, who) = (self.desk.clone(), who.clone());
        let answer = self.blocking(move || control::answer(&desk, &who, request));
        answer
            .await
            .unwrap_or_else(|reason| Response::Failed { reason })
    }

    /// Runs what may wait for a disk or a peer; the error is a sentence.
    pub(in crate::web) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = self.places.clone().acquire_owned().await;
        let work = move || {
            let _place = place;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| "this ended by a fault in this program; please report it".to_owned())
    }
}

/// The running page.
pub struct Web {
    handle: axum_server::Handle<SocketAddr>,
    pub address: SocketAddr,
}

impl Web {
    /// Binds and serves on `runtime` until [`Web::stop`].
    pub fn start(runtime: &tokio::runtime::Handle, desk: Arc<Desk>) -> std::io::Result<Web> {
        let admin = &desk.config.admin;
        let listener = TcpListener::bind((admin.bind, admin.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let handle = axum_server::Handle::new();
        let site = Site {
            desk,
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            sayings: said::Sayings::default(),
            status: lately::Lately::new(Request::Status),
            mirror: lately::Lately::new(Request::Mirror(MirrorVerb::Status { all: false })),
        };
        let service = routes(site).into_make_service_with_connect_info::<SocketAddr>();
        let _entered = runtime.enter();
        let server = axum_server::from_tcp(listener)?.handle(handle.clone());
        runtime.spawn(async move {
            if let Err(error) = server.serve(service).await {
                tracing::error!(%error, "the administrator's page ended");
            }
        });
        tracing::info!(%address, "the administrator's page is at http://{address}/");
        Ok(Web { handle, address })
    }

    pub fn stop(&self) {
        self.handle.graceful_shutdown(Some(STOP_PATIENCE));
    }
}

fn routes(site: Site) -> Router {
    let inside = Router::new()
        .merge(pages::routes().layer(axum::middleware::from_fn_with_state(
            site.clone(),
            layout::around,
        )))
        .merge(layout::routes())
        .nest("/api/v1", api::routes())
        .layer(axum::middleware::from_fn_with_state(
            site.clone(),
            access::guard,
        ));
    Router::new()
        .merge(assets::routes())
        .merge(inside)
        .with_state(site)
}
