//! Start and stop order: bind, open the archive, listen; at the end stop listening, let what is in flight finish, close.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use crate::archive::{Archive, Mode, OpenError, Watch};
use crate::audit::Who;
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::net::{self, AcceptPolicy, Asked, Association, AssociationHandle, Timeouts, pdu};
use crate::scp::{self, Services};
use crate::transfers::lately::Lately;
use crate::web::{self, Web};

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

/// Deadline over connection and negotiation: what PS3.8 9.1.5 calls the ARTIM timer.
const NEGOTIATION: Duration = Duration::from_secs(30);

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
    let archive = Arc::new(Archive::open(&config, Mode::Create)?);
    let watch = Watch::start(&archive).map_err(ServeError::Start)?;
    let mut desk = control::Desk::of(archive.clone(), &config).map_err(ServeError::Keeping)?;
    desk.serves = true;
    let desk = Arc::new(desk);
    let transfers = desk.transfers.clone();
    let commitment = desk.commitment.clone();
    let (forward, pulls) = (desk.forward.clone(), desk.pulls.clone());
    let control =
        control::Listener::start(&config.state, desk.clone()).map_err(ServeError::Start)?;
    let shared = Arc::new(Shared {
        desk: desk.clone(),
        associations: Mutex::default(),
        ended: Condvar::new(),
        next_id: AtomicU64::new(1),
        trace,
    });
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
    runtime
        .block_on(listen(listener, &shared))
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
    shared.end_associations(Duration::from_secs(desk.live.now().limits.stop_seconds));
    transfers.stop();
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
    associations: Mutex<Associations>,
    ended: Condvar,
    next_id: AtomicU64,
    trace: bool,
}

#[derive(Default)]
struct Associations {
    by_address: HashMap<IpAddr, usize>,
    count: usize,
    handles: HashMap<u64, AssociationHandle>,
    stopping: bool,
}

/// One place among the associations, from the connection to its end.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut associations = self.shared.associations();
        associations.count -= 1;
        associations.handles.remove(&self.id);
        if let Some(count) = associations.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                associations.by_address.remove(&self.address);
            }
        }
        self.shared.ended.notify_all();
    }
}

async fn listen(listener: TcpListener, shared: &Arc<Shared>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                reload(&shared.desk);
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                let (place, busy) = shared.place(peer.ip());
                tokio::spawn(open(stream, peer, place, busy));
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

async fn open(stream: TcpStream, peer: SocketAddr, place: Place, busy: bool) {
    let config = place.shared.desk.live.now();
    let policy = AcceptPolicy {
        ae_title: config.ae_title.clone(),
        accept_any_called: config.accept_any_called,
        pdu_length_max: pdu::PDU_LENGTH_MAX,
    };
    let (mut asked, begun) = (Asked::default(), Instant::now());
    let accepted = net::accept(stream, &policy, busy, &mut asked);
    let accepted = tokio::time::timeout(NEGOTIATION, accepted).await;
    let error = match accepted {
        Ok(Ok(association)) => return give_thread(association, asked, peer, place),
        Ok(Err(error)) => {
            tracing::info!(association_id = place.id, %peer, %error, "no association");
            Some(error)
        }
        Err(_) => {
            tracing::info!(association_id = place.id, %peer, "no association: nothing negotiated within 30 s");
            None
        }
    };
    let metrics = &place.shared.services().metrics;
    let (error, elapsed) = (error.as_ref(), begun.elapsed());
    scp::ended::never_came(
        metrics,
        &config,
        place.id,
        peer.ip(),
        &asked,
        error,
        elapsed,
    );
}

fn give_thread(association: Association, asked: Asked, peer: SocketAddr, place: Place) {
    // Files block, so an association runs on a thread of its own.
    let name = format!("association {}", place.id);
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(move || run(association, &asked, place));
    if let Err(error) = thread {
        tracing::error!(%peer, %error, "no thread for an association");
    }
}

fn run(mut association: Association, asked: &Asked, place: Place) {
    let services = place.shared.services();
    let limits = &services.config.limits;
    let timeouts = Timeouts {
        idle: Duration::from_secs(limits.idle_seconds),
        stall: Duration::from_secs(limits.stall_seconds),
        ..Timeouts::default()
    };
    if association.set_timeouts(timeouts).is_err() {
        return;
    }
    association.trace(place.shared.trace);
    if !place.shared.register(place.id, association.handle()) {
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
    fn associations(&self) -> std::sync::MutexGuard<'_, Associations> {
        self.associations
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// With the configuration as it is now: an association goes on as it began.
    fn services(&self) -> Services {
        let desk = &self.desk;
        Services {
            archive: desk.archive.clone(),
            config: desk.live.now(),
            transfers: desk.transfers.clone(),
            commitment: desk.commitment.clone(),
            metrics: desk.metrics.clone(),
        }
    }

    /// Counts a connection in, and says whether it is one too many (it is then told so, and counted while that lasts).
    fn place(self: &Arc<Self>, address: IpAddr) -> (Place, bool) {
        let config = self.desk.live.now();
        let limits = &config.limits;
        let mut associations = self.associations();
        let of_address = *associations.by_address.get(&address).unwrap_or(&0);
        let busy = associations.count >= limits.associations
            || of_address >= limits.associations_per_address;
        associations.count += 1;
        *associations.by_address.entry(address).or_default() += 1;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        (
            Place {
                shared: self.clone(),
                address,
                id,
            },
            busy,
        )
    }

    fn register(&self, id: u64, handle: AssociationHandle) -> bool {
        let mut associations = self.associations();
        if !associations.stopping {
            associations.handles.insert(id, handle);
        }
        !associations.stopping
    }

    /// Idle associations end at once, the others after the message at hand; at the deadline, whatever they do.
    fn end_associations(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut associations = self.associations();
        associations.stopping = true;
        for handle in associations.handles.values() {
            handle.shutdown_when_idle();
        }
        while !associations.handles.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    associations_count = associations.handles.len(),
                    "ended in the middle of a message"
                );
                for handle in associations.handles.values() {
                    handle.shutdown_now();
                }
                let _ = self
                    .ended
                    .wait_timeout(associations, Duration::from_secs(2));
                return;
            }
            associations = match self.ended.wait_timeout(associations, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
