//! The administrator's page and the JSON API: one HTTP server inside the program, nothing to install beside it.
//!
//! Both ask [`control`] what the command line asks, and show what it answers: a page decides nothing.
//! Everything that came from a modality or a person (a patient's name above all) goes into a page through `maud`, which
//! escapes it.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | start, stop, the routes; one place where requests wait for disks |
//! | `access` | who may: tokens, what a browser may be tricked into, sizes, headers |
//! | `sign_in`, `sessions` | people with a password; who guesses one waits |
//! | `connections`, `tls` | how many, how long silent; certificate and key |
//! | `api`, `openapi`, `problem` | the JSON API, its description, and what it says when something is wrong |
//! | `layout` | the frame of every page |
//! | `parts` | what pages are made of: notices, tables, bars, forms |
//! | `said` | what a form did, told on the page after it |
//! | `lately` | answers that take long, as they were a moment ago |
//! | `metrics` | `/metrics` for Prometheus, `/healthz` |
//! | `words` | English and Japanese |
//! | `pages` | one file per page |
//! | `assets` | style, script, htmx |
//! | `thumbnails` | small pictures of series |

mod access;
mod api;
mod assets;
mod connections;
mod lately;
mod layout;
mod metrics;
mod openapi;
mod pages;
mod parts;
mod problem;
mod said;
mod sessions;
mod sign_in;
mod thumbnails;
mod tls;
mod words;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;

use crate::archive::MirrorVerb;
use access::Access;
use connections::Places;

use crate::accounts::Accounts;
use crate::audit::Who;
use crate::config::NoticeLanguage;
use crate::control::{self, Desk, Request, Response};

/// Requests that are answered at the same moment: each has a thread, and may wait for a disk.
const AT_ONCE_MAX: usize = 16;
/// Long answers that are written at the same moment.
const STREAMS_MAX: usize = 8;
/// So long a browser may take for the head of a request, and be silent between two.
const HEAD_PATIENCE: Duration = Duration::from_secs(20);
/// Longest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
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
    streams: Arc<Semaphore>,
    access: Arc<Access>,
    scraped: Arc<metrics::Scraped>,
    thumbnails: Arc<thumbnails::Thumbnails>,
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

/// A sentence of the status in the language of a notice.
pub fn sentence(english: &str, language: NoticeLanguage) -> String {
    match language {
        NoticeLanguage::English => english.to_owned(),
        NoticeLanguage::Japanese => words::Language::Japanese.sentence(english),
    }
}

/// The running page.
pub struct Web {
    handle: axum_server::Handle<SocketAddr>,
    pub address: SocketAddr,
}

impl Web {
    /// Binds and serves on `runtime` until [`Web::stop`]. The error is a sentence.
    pub fn start(runtime: &tokio::runtime::Handle, desk: Arc<Desk>) -> Result<Web, String> {
        let admin = desk.config.admin.clone();
        let tls = match (&admin.certificate, &admin.key) {
            (Some(certificate), Some(key)) => Some(tls::configuration(certificate, key)?),
            _ => None,
        };
        if !admin.bind.is_loopback() {
            let accounts = Accounts::read(&desk.config.state)?;
            if accounts.users.is_empty() && accounts.tokens.is_empty() {
                return Err(format!(
                    "[admin] bind = \"{}\" opens it to the network, and nobody has a password; set one: kura admin password",
                    admin.bind
                ));
            }
            if tls.is_none() {
                return Err(format!(
                    "[admin] bind = \"{}\" opens it to the network, and there is no certificate; make one: kura admin certificate",
                    admin.bind
                ));
            }
        }
        let wanted = SocketAddr::new(admin.bind, admin.port);
        let failed = |error: std::io::Error| {
            format!("{wanted} cannot be opened: {error}; choose another [admin] port")
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let handle = axum_server::Handle::new();
        let renewing = desk.clone();
        let site = Site {
            access: Arc::new(Access::new(&desk.config)),
            desk,
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            sayings: said::Sayings::default(),
            status: lately::Lately::new(Request::Status),
            mirror: lately::Lately::new(Request::Mirror(MirrorVerb::Status { all: false })),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            scraped: Arc::default(),
            thumbnails: Arc::default(),
        };
        let service = routes(site).into_make_service_with_connect_info::<SocketAddr>();
        let _entered = runtime.enter();
        let server = axum_server::from_tcp(listener).map_err(failed)?;
        let mut server = server.http1_only().handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(HEAD_BYTES_MAX);
        let way = if tls.is_some() { "https" } else { "http" };
        let places = Places::default();
        let tls = tls.map(RustlsConfig::from_config);
        if let (Some(tls), Some(certificate), Some(key)) = (&tls, admin.certificate, admin.key) {
            let renew = tls::renew(tls.clone(), certificate, key);
            let mut page = renewing.page.lock().unwrap_or_else(PoisonError::into_inner);
            *page = Some(renew);
        }
        runtime.spawn(async move {
            let served = match tls {
                Some(tls) => {
                    let tls = RustlsAcceptor::new(tls);
                    server.acceptor(tls.acceptor(places)).serve(service).await
                }
                None => server.acceptor(places).serve(service).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "the administrator's page ended");
            }
        });
        tracing::info!(%address, "the administrator's page is at {way}://{address}/");
        Ok(Web { handle, address })
    }

    pub fn stop(&self) {
        self.handle.graceful_shutdown(Some(STOP_PATIENCE));
    }
}

fn routes(site: Site) -> Router {
    use axum::middleware::{from_fn, from_fn_with_state};
    Router::new()
        .merge(assets::routes())
        .merge(sign_in::routes())
        .merge(metrics::routes())
        .merge(metrics::health_routes())
        .merge(pages::routes().layer(from_fn_with_state(site.clone(), layout::around)))
        .merge(layout::routes())
        .merge(thumbnails::routes())
        .nest("/api/v1", api::routes())
        .layer(from_fn_with_state(site.clone(), access::guard))
        .layer(from_fn(access::headers))
        .with_state(site)
}
