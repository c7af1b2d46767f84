//! Start and stop order: bind, open the archive, listen; at the end stop listening, let what is in flight finish, close.

mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use crate::archive::{Archive, Mode, OpenError, Watch};
use crate::audit::{Event, Kind, Who};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::memory;
use crate::net::{self, AcceptPolicy, Asked, Association, NetError, Timeouts, pdu};
use crate::scp::allowed::{Door, Keeper};
use crate::scp::limited::Exceeded;
use crate::scp::{self, Services};
use crate::transfers::lately::Lately;
use crate::web::{self, Web};

use places::{Place, Places};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}; nothing was started")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is kept in the state folder beside the index.
    #[error("{0}; nothing was started")]
    Keeping(String),
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

/// Stack of an association's thread, bytes. Nothing on it recurses.
const STACK_BYTES: usize = 1 << 20;

/// Serves until SIGTERM or SIGINT; then ends what is in flight within the configured time.
pub fn serve(config: Config, trace: bool) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    // The port first: a second server on the same machine must be refused before it touches a disk.
    let address = SocketAddr::new(config.bind, config.port);
    let listener = runtime
        .block_on(bind(address))
        .map_err(|source| ServeError::Bind { address, source })?;
    places::raise_files(&config.limits);
    memory::set_limit(config.limits.memory_bytes);
    let tls = control::tls::ready(&config).map_err(ServeError::Keeping)?;
    let secure = config.tls.port.map(|port| {
        let address = SocketAddr::new(config.tls.bind, port);
        let listener = runtime.block_on(bind(address));
        listener.map_err(|source| ServeError::Bind { address, source })
    });
    let secure = secure.transpose()?;
    let archive = Arc::new(Archive::open(&config, Mode::Create)?);
    let watch = Watch::start(&archive).map_err(ServeError::Start)?;
    let mut desk = control::Desk::of(archive.clone(), &config).map_err(ServeError::Keeping)?;
    desk.serves = true;
    desk.tls.set(tls);
    let desk = Arc::new(desk);
    let transfers = desk.transfers.clone();
    let commitment = desk.commitment.clone();
    let (forward, pulls) = (desk.forward.clone(), desk.pulls.clone());
    let control =
        control::Listener::start(&config.state, desk.clone()).map_err(ServeError::Start)?;
    let shared = Arc::new(Shared {
        desk: desk.clone(),
        places: Arc::default(),
        keeper: Arc::new(Keeper::new(&config.state)),
        trace,
    });
    let audit = desk.audit.clone();
    audit.start().map_err(ServeError::Start)?;
    forward.start().map_err(ServeError::Start)?;
    commitment.start().map_err(ServeError::Start)?;
    pulls.start();
    let lately = Lately::start(&config.state, desk.metrics.clone());
    let watched = control::Watched::new(Arc::downgrade(&desk), web::sentence);
    let notices = desk.notices.clone();
    notices
        .start(Box::new(watched))
        .map_err(ServeError::Start)?;
    let web = show_page(&runtime, desk.clone());
    tracing::info!(%address, ae_title = %config.ae_title, "kura is listening");
    let listens = format!(
        "kura {} was started, at {address}",
        env!("CARGO_PKG_VERSION")
    );
    audit.tell(&Who::here(), &listens, "done", Event::new(Kind::Started));
    if let Some(port) = config.tls.port {
        let address = SocketAddr::new(config.tls.bind, port);
        tracing::info!(%address, "kura is listening for DICOM over TLS");
    }
    runtime
        .block_on(listen(listener, secure, &shared))
        .map_err(ServeError::Start)?;
    tracing::info!("stopping: no new associations; what is in flight is finished");
    if let Some(web) = &web {
        web.stop();
    }
    drop(web);
    notices.stop();
    control.stop();
    pulls.stop();
    forward.stop();
    commitment.stop();
    archive.stop_work();
    let patience = Duration::from_secs(desk.live.now().limits.stop_seconds);
    shared.places.end_associations(patience);
    transfers.stop();
    audit.tell(
        &Who::here(),
        "kura was stopped",
        "done",
        Event::new(Kind::Stopped),
    );
    audit.stop();
    lately.stop();
    drop(watch);
    runtime.shutdown_timeout(Duration::from_secs(1));
    archive.leave_in_order();
    tracing::info!("stopped");
    Ok(())
}

/// Images come first: without the page everything else runs.
fn show_page(runtime: &tokio::runtime::Runtime, desk: Arc<control::Desk>) -> Option<Web> {
    if !desk.config.admin.enabled {
        return None;
    }
    let web = Web::start(runtime.handle(), desk);
    web.inspect_err(|reason| {
        tracing::error!("there is no administrator's page: {reason}");
    })
    .ok()
}

async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()
    } else {
        tokio::net::TcpSocket::new_v6()
    }?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

struct Shared {
    desk: Arc<control::Desk>,
    places: Arc<Places>,
    keeper: Arc<Keeper>,
    trace: bool,
}

/// On the port for TLS, if there is one.
async fn next(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn listen(
    listener: TcpListener,
    secure: Option<TcpListener>,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted.map(|accepted| (accepted, false)),
            accepted = next(secure.as_ref()) => accepted.map(|accepted| (accepted, true)),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                reload(&shared.desk);
                continue;
            }
        };
        match accepted {
            Ok(((stream, peer), over_tls)) => {
                tokio::spawn(open(stream, over_tls, peer, shared.clone()));
            }
            Err(error) => {
                // Out of file descriptors, say: the connection waits in the backlog; do not spin.
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The file may be on a disk that does not answer: not on this thread.
fn reload(desk: &Arc<control::Desk>) {
    let desk = desk.clone();
    tokio::task::spawn_blocking(move || {
        let who = Who {
            name: "SIGHUP".to_owned(),
            ..Who::here()
        };
        if let Response::Failed { reason } = control::answer(&desk, &who, Request::Reload) {
            tracing::error!("{reason}");
        }
    });
}

async fn open(stream: TcpStream, over_tls: bool, peer: SocketAddr, shared: Arc<Shared>) {
    let config = shared.desk.live.now();
    let limits = &config.limits;
    let (mut place, gives_way) = shared.places.connected(peer.ip(), limits);
    let policy = AcceptPolicy {
        ae_title: config.ae_title.clone(),
        accept_any_called: config.accept_any_called,
        pdu_length_max: pdu::PDU_LENGTH_MAX,
        gate: Arc::new(Door {
            keeper: shared.keeper.clone(),
            config: config.clone(),
        }),
    };
    let (mut asked, begun) = (Asked::default(), Instant::now());
    let mut exceeded = None;
    let has_room = || {
        exceeded = place.become_association(limits).err();
        exceeded.is_none()
    };
    let tls = shared.desk.tls.now();
    let accepted = async {
        match &*tls {
            Some(tls) if over_tls => {
                net::accept_over_tls(stream, tls, &policy, has_room, &mut asked).await
            }
            _ => net::accept(stream, &policy, has_room, &mut asked).await,
        }
    };
    let patience = Duration::from_secs(limits.negotiation_seconds);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(patience, accepted) => accepted,
        Ok(exceeded) = gives_way => {
            let what = format_args!("a connection from {} that said nothing yet was closed for another", peer.ip());
            exceeded.tell(&shared.desk.metrics, what);
            return;
        }
    };
    let metrics = &shared.desk.metrics;
    let error = match accepted {
        Ok(Ok(association)) => return give_thread(association, asked, peer, place, shared),
        Ok(Err(error)) => {
            match exceeded {
                Some(exceeded) => {
                    let what = format_args!(
                        "an association of {} from {} was rejected",
                        asked.calling,
                        peer.ip()
                    );
                    exceeded.tell(metrics, what);
                }
                None => {
                    let why = asked.denied.as_ref().map(|denied| denied.end.as_str());
                    tracing::info!(association_id = place.id, %peer, calling = asked.calling, %error, why, "no association");
                }
            }
            Some(error)
        }
        Err(_) => {
            let silent = Exceeded::new("negotiation_seconds", limits.negotiation_seconds);
            let what = format_args!(
                "a connection from {} on which nothing was negotiated was closed",
                peer.ip()
            );
            silent.tell(metrics, what);
            None
        }
    };
    let (error, elapsed) = (error.as_ref(), begun.elapsed());
    let refused = match error {
        Some(NetError::Refused(reject)) => {
            let what = format!("an association to {} refused", asked.called);
            Some((what, reject.to_string()))
        }
        Some(NetError::Tls(error)) => Some((
            "a connection over TLS refused".to_owned(),
            error.to_string(),
        )),
        _ => None,
    };
    if let Some((what, why)) = refused {
        let address = peer.ip().to_canonical().to_string();
        let who = Who::peer(&asked.calling, &address);
        let event = Event::new(Kind::Refused);
        shared.desk.audit.gather(&who, &what, &why, event);
    }
    scp::ended::never_came(
        metrics,
        &config,
        (place.id, peer.ip()),
        &asked,
        error,
        exceeded,
        elapsed,
    );
}

fn give_thread(
    association: Association,
    asked: Asked,
    peer: SocketAddr,
    place: Place,
    shared: Arc<Shared>,
) {
    // Files block, so an association runs on a thread of its own.
    let name = format!("association {}", place.id);
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(move || run(association, &asked, &place, &shared));
    if let Err(error) = thread {
        tracing::error!(%peer, %error, "no thread for an association");
    }
}

fn run(mut association: Association, asked: &Asked, place: &Place, shared: &Shared) {
    let services = shared.services();
    let limits = &services.config.limits;
    let timeouts = Timeouts {
        idle: Duration::from_secs(limits.idle_seconds),
        stall: Duration::from_secs(limits.stall_seconds),
        ..Timeouts::default()
    };
    if association.set_timeouts(timeouts).is_err() {
        return;
    }
    association.set_command_bytes_max(limits.command_bytes);
    association.trace(shared.trace);
    if !shared.places.register(place.id, association.handle()) {
        association.abort();
        return;
    }
    // A panic ends one association, never the server; what it had not answered is sent again.
    let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scp::serve(&services, association, asked, place.id)
    }));
    if served.is_err() {
        tracing::error!(
            association_id = place.id,
            "an association ended by a fault in this program; please report it"
        );
    }
}

impl Shared {
    /// With the configuration as it is now: an association goes on as it began.
    fn services(&self) -> Services {
        let desk = &self.desk;
        Services {
            archive: desk.archive.clone(),
            config: desk.live.now(),
            transfers: desk.transfers.clone(),
            commitment: desk.commitment.clone(),
            metrics: desk.metrics.clone(),
            audit: desk.audit.clone(),
        }
    }
}
