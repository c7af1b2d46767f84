//! What the command line asks of a running server: one JSON object in, one out, over a local socket in the state folder.
//! What may be long is answered in several, one a line.
//!
//! The socket's folder permissions are its protection: who may write the state folder may ask.

pub mod audited;
mod doctor;
mod find;
mod gauges;
mod journal;
mod notices;
mod reload;
pub mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::archive::{
    AmendSaid, AmendVerb, Archive, ChangesVerb, CheckedStatus, ConflictsSaid, ConflictsVerb,
    CopiesStatus, Correction, DoctorFinding, MirrorStatus, MirrorVerb, RemovalSaid, RemovalVerb,
    ReplaceStatus, ReportName, ReportVerb, Shown, Stats, StatsBy, Status, StudyCopies, VolumeSaid,
    VolumeVerb, WorkStatus, WorkVerb,
};
use crate::audit::{self, Audit, AuditStatus, Entry, Who};
use crate::commitment::{Answer, Commitment, CommitmentStatus};
use crate::config::{Config, Live};
use crate::dicom::Reference;
use crate::forward::setup::{Setup, SetupSaid, SetupVerb};
use crate::forward::{ForwardSaid, ForwardVerb, Forwarder, PeerStatus};
use crate::index::Values;
use crate::metrics::{Ended, Hour, Metrics};
use crate::net::TlsAcceptor;
use crate::notices::{Notices, NoticesStatus};
use crate::probe::ProbeReport;
use crate::pull::{PullStatus, PullVerb, Pulls};
use crate::transfers::{self, Transfer, Transfers};

pub use find::{Find, FindEnd, FindKey};
pub use gauges::Gauges;
pub use notices::{NoticesVerb, Translate, Watched};
pub use reload::Reloaded;

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    Status,
    Find(Find),
    /// Where the copies of a study lie.
    Study {
        study_instance_uid: String,
    },
    Stats(StatsBy),
    IndexRebuild,
    /// Images are looked at for extra keys now; the status says how far that is.
    IndexFill,
    Volume(VolumeVerb),
    Work(WorkVerb),
    Mirror(MirrorVerb),
    /// How far the replaced disk of the volume of that name is restored.
    Restoring {
        name: String,
    },
    Report(ReportVerb),
    /// What reading the copies again found.
    Checked,
    Amend(AmendVerb),
    Changes(ChangesVerb),
    /// To the trash and back; protection from it.
    Removal(RemovalVerb),
    Conflicts(ConflictsVerb),
    /// What of the machine stands in the way; the disks are measured.
    Doctor,
    Forward(ForwardVerb),
    /// Peers and rules.
    Setup(SetupVerb),
    Pull(PullVerb),
    /// Lines of the journal of transfers, the newest first.
    Journal(transfers::Wanted),
    /// Lines of the audit, the newest first.
    Audit(audit::Wanted),
    /// What came and went lately.
    Seen,
    /// Associations that failed, also when many others came since.
    Failures,
    /// What is true at this moment, for monitoring.
    Gauges,
    /// What a configured peer can do is tried out.
    Probe {
        peer: String,
    },
    /// The same; an image of nobody is sent to it, and asked back.
    ProbeByImage {
        peer: String,
    },
    /// The configuration file is read again.
    Reload,
    /// Who is told, and whether it arrives.
    Notices(NoticesVerb),
    /// The outbox, which is open here, as a file for a backup.
    CopyOutbox,
    /// A peer is asked to keep instances, and waited for.
    Commit {
        to: String,
        instances: Vec<Reference>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    Status {
        status: Box<Status>,
        /// To which something goes by itself.
        peers: Vec<PeerStatus>,
        /// Requests of storage commitment that are not answered yet.
        commitment: CommitmentStatus,
        /// Writing and sending of the audit.
        #[serde(default)]
        audit: Box<AuditStatus>,
    },
    /// Some of a find's; more come.
    Matches(Vec<Values>),
    Found(FindEnd),
    /// None: there is no such study.
    Study(Option<Box<StudyCopies>>),
    /// Of long counting: so many of so many studies were looked at.
    Progress {
        done: u64,
        total: u64,
    },
    Stats(Box<Stats>),
    Done,
    /// Of long work: how far it is.
    Work(Option<Box<WorkStatus>>),
    Mirror(Box<MirrorStatus>),
    Replace(Box<ReplaceStatus>),
    Reports(Vec<ReportName>),
    Report(Box<Shown>),
    Checked {
        checked: Box<CheckedStatus>,
        copies: Box<CopiesStatus>,
    },
    Amend(AmendSaid),
    Changes(Vec<Correction>),
    Removal(Box<RemovalSaid>),
    Conflicts(Box<ConflictsSaid>),
    Doctor(Vec<DoctorFinding>),
    Forward(Box<ForwardSaid>),
    Setup(Box<SetupSaid>),
    Pull(Box<PullStatus>),
    /// Some of the journal's lines; more come.
    Transfers(Vec<Transfer>),
    Journal(transfers::SearchEnd),
    /// Some of the audit's lines; more come.
    Audited(Vec<Entry>),
    Audit(audit::ListEnd),
    Commit(Answer),
    Seen {
        /// The newest first.
        associations: Vec<Ended>,
        /// The newest first; hours in which nothing came are left out.
        hours: Vec<Hour>,
    },
    /// The newest first, each kind once.
    Failures(Vec<Ended>),
    Gauges(Box<Gauges>),
    Probe(Box<ProbeReport>),
    Reloaded(Box<Reloaded>),
    Notices(Box<NoticesStatus>),
    OutboxCopy(Option<std::path::PathBuf>),
    /// Done; what it means, in a sentence.
    Said(String),
    Failed {
        reason: String,
    },
}

impl Request {
    /// Something is another way afterwards, or long work was begun: it is noted who asked for it, and who may only look may
    /// not ask for it.
    pub fn is_a_change(&self) -> bool {
        match self {
            Request::Status
            | Request::Find(_)
            | Request::Study { .. }
            | Request::Stats(_)
            | Request::Restoring { .. }
            | Request::Report(_)
            | Request::Checked
            | Request::Changes(_)
            | Request::Doctor
            | Request::Journal(_)
            | Request::Audit(_)
            | Request::Seen
            | Request::Failures
            | Request::CopyOutbox
            | Request::Notices(_)
            | Request::Gauges
            | Request::Probe { .. } => false,
            Request::Volume(verb) => !matches!(verb, VolumeVerb::Replace { dry_run: true, .. }),
            Request::Work(verb) => {
                !matches!(verb, WorkVerb::Look | WorkVerb::Retention { dry_run: true })
            }
            Request::Mirror(verb) => !matches!(verb, MirrorVerb::Status { .. }),
            Request::Amend(verb) => !matches!(
                verb,
                AmendVerb::Plan { .. } | AmendVerb::Look | AmendVerb::PlanUndo { .. }
            ),
            Request::Removal(verb) => !matches!(
                verb,
                RemovalVerb::Show { .. } | RemovalVerb::Trash | RemovalVerb::Protected
            ),
            Request::Conflicts(verb) => {
                !matches!(verb, ConflictsVerb::Show { .. } | ConflictsVerb::One { .. })
            }
            Request::Forward(verb) => {
                !matches!(verb, ForwardVerb::List { .. } | ForwardVerb::Show { .. })
            }
            Request::Setup(verb) => !matches!(verb, SetupVerb::Show),
            Request::Pull(verb) => !matches!(verb, PullVerb::Look),
            _ => true,
        }
    }

    /// [`answer_each`] answers it.
    pub fn is_in_pieces(&self) -> bool {
        matches!(
            self,
            Request::Find(_) | Request::Stats(_) | Request::Journal(_) | Request::Audit(_)
        )
    }
}

impl Response {
    /// In a few words, for the audit.
    pub fn outcome(&self) -> &str {
        match self {
            Response::Failed { reason } => reason,
            Response::Said(said) => said,
            _ => "done",
        }
    }

    /// More come.
    pub fn is_a_piece(&self) -> bool {
        matches!(
            self,
            Response::Matches(_)
                | Response::Transfers(_)
                | Response::Audited(_)
                | Response::Progress { .. }
        )
    }
}

const SOCKET: &str = "kura.sock";
/// A request or a response longer than this is not ours, bytes.
const LENGTH_MAX: u64 = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// So long the server waits for who reads the matches of a find (a person, perhaps, page by page), and keeps the index as
/// it was at its beginning.
const READER_PATIENCE: Duration = Duration::from_secs(60);
/// Of long counting it is told so often how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// What is answered in pieces gives a sign of life every second; a disk may be slow.
const SIGN_PATIENCE: Duration = Duration::from_secs(300);

/// What a request can be about: everything of the server but its associations.
pub struct Desk {
    pub archive: Arc<Archive>,
    pub transfers: Arc<Transfers>,
    pub forward: Arc<Forwarder>,
    pub setup: Setup,
    pub pulls: Arc<Pulls>,
    pub commitment: Arc<Commitment>,
    pub metrics: Arc<Metrics>,
    pub audit: Arc<Audit>,
    pub notices: Arc<Notices>,
    /// As the server was started with; what may be another since is in `live`.
    pub config: Config,
    /// False: a verb's own, while no server runs.
    pub serves: bool,
    pub live: Arc<Live<Config>>,
    /// Of the port for it; read again with the configuration.
    pub tls: Live<Option<TlsAcceptor>>,
    /// What has the administrator's page read its certificate again; none: it has none.
    pub page: Mutex<Option<Renew>>,
    reloading: Mutex<()>,
}

/// A line where something is another now. The error is a sentence.
pub type Renew = Box<dyn Fn() -> Result<Option<String>, String> + Send + Sync>;

impl Desk {
    /// The error is a sentence.
    pub fn of(archive: Arc<Archive>, config: &Config) -> Result<Desk, String> {
        let keep_days = config.transfers.keep_days;
        let transfers = Arc::new(Transfers::open(&config.state, keep_days));
        let audit = audited::open(&archive, config);
        let told = audit.clone();
        transfers.tell(move |transfer| audited::transferred(&told, transfer));
        let forward = Forwarder::open(&archive, config, &transfers)?;
        let commitment = Commitment::open(&archive, config, &transfers)?;
        let asks = Arc::downgrade(&forward);
        commitment.also_asks(move |report| {
            let forward = asks.upgrade();
            forward.is_some_and(|forward| forward.take_report(report))
        });
        Ok(Desk {
            setup: Setup::of(config, Some(forward.clone())),
            forward,
            pulls: Pulls::open(&archive, config, &transfers)?,
            commitment,
            transfers,
            metrics: Arc::new(transfers::lately::read(&config.state)),
            audit,
            notices: Arc::new(Notices::open(config)),
            config: config.clone(),
            live: Arc::new(Live::new(config.clone())),
            tls: Live::default(),
            page: Mutex::default(),
            reloading: Mutex::default(),
            archive,
            serves: false,
        })
    }
}

pub struct Listener {
    stop: Arc<AtomicBool>,
    path: std::path::PathBuf,
}

impl Listener {
    pub fn start(state: &Path, desk: Arc<Desk>) -> std::io::Result<Listener> {
        let folder = open_folder(state)?;
        // The state folder is locked by this process, so a socket that is there is a dead server's.
        remove_socket(state)?;
        let listener = UnixListener::bind(short(&folder))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    // A verb may take long; the next one must not wait for it.
                    let desk = desk.clone();
                    let asked = std::thread::Builder::new().name("verb".to_owned());
                    let asked = asked.spawn(move || {
                        if let Err(error) = serve(&desk, &stream) {
                            tracing::debug!(%error, "a request of the command line broke off");
                        }
                    });
                    if let Err(error) = asked {
                        tracing::error!(%error, "no thread for a request of the command line");
                    }
                }
            })?;
        Ok(Listener {
            stop,
            path: state.to_owned(),
        })
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which drops its archive.
        if let Ok(folder) = open_folder(&self.path) {
            drop(UnixStream::connect(short(&folder)));
        }
        drop(remove_socket(&self.path));
    }
}

fn remove_socket(state: &Path) -> std::io::Result<()> {
    match rustix::fs::unlink(state.join(SOCKET)) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_folder(state: &Path) -> std::io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(
        state,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A socket's path ends at 107 bytes; through the open folder any state folder fits.
fn short(folder: &std::os::fd::OwnedFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()).into()
}

fn serve(desk: &Desk, stream: &UnixStream) -> std::io::Result<()> {
    let who = Who::of_user(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw());
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(stream.take(LENGTH_MAX)).read_line(&mut line)?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) if request.is_in_pieces() => {
            stream.set_write_timeout(Some(READER_PATIENCE))?;
            let mut written = Ok(());
            answer_each(desk, &who, request, &mut |response| {
                written = write(stream, &response);
                match written {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            return written;
        }
        Ok(request) => answer(desk, &who, request),
        Err(error) => Response::Failed {
            reason: format!("not a request of this version: {error}"),
        },
    };
    write(stream, &response)
}

fn write(mut stream: &UnixStream, response: &Response) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(response)?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// The one meaning of each request, whether it comes over the socket or from a verb that opened the archive itself.
pub fn answer(desk: &Desk, who: &Who, request: Request) -> Response {
    if !request.is_a_change() {
        let asked = request.clone();
        let response = act(desk, request);
        audited::look(desk, who, &asked, &response);
        return response;
    }
    if who.read_only {
        return Response::Failed {
            reason: format!(
                "{} may look and change nothing; somebody who may change this has to ask",
                who.name
            ),
        };
    }
    let what = serde_json::to_string(&request).unwrap_or_default();
    let asked = request.clone();
    let response = act(desk, request);
    let event = audited::change(&asked, &response);
    desk.audit.note(who, &what, response.outcome(), event);
    response
}

fn act(desk: &Desk, request: Request) -> Response {
    let archive = &desk.archive;
    match request {
        Request::Status => Response::Status {
            status: {
                let mut status = status(desk);
                // Every image is as safe as before; but nobody would be told if it were not.
                add(&mut status, desk.notices.actions());
                Box::new(status)
            },
            peers: desk.forward.status(),
            commitment: desk.commitment.status(),
            audit: Box::new(desk.audit.status()),
        },
        Request::Study { study_instance_uid } => match archive.study_copies(&study_instance_uid) {
            Ok(study) => Response::Study(study.map(Box::new)),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::IndexRebuild => {
            archive.rebuild_index();
            Response::Done
        }
        Request::IndexFill => {
            archive.fill_keys_now();
            Response::Done
        }
        Request::Volume(verb) => match archive.volume_verb(verb) {
            Ok(VolumeSaid::Done(said)) => Response::Said(said),
            Ok(VolumeSaid::Replace(status)) => Response::Replace(status),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::Work(verb) => match archive.work_verb(verb) {
            Ok(status) => Response::Work(status.map(Box::new)),
            Err(reason) => Response::Failed { reason },
        },
        Request::Mirror(verb) => match archive.mirror_verb(verb) {
            Ok(status) => Response::Mirror(Box::new(status)),
            Err(reason) => Response::Failed { reason },
        },
        Request::Restoring { name } => match archive.replace_status(&name) {
            Ok(status) => Response::Replace(Box::new(status)),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::Report(ReportVerb::List) => Response::Reports(archive.reports()),
        Request::Report(ReportVerb::Show { name }) => match archive.show_report(name) {
            Ok(shown) => Response::Report(Box::new(shown)),
            Err(reason) => Response::Failed { reason },
        },
        Request::Checked => Response::Checked {
            checked: Box::new(archive.checked_status()),
            copies: Box::new(archive.copies()),
        },
        Request::Amend(verb) => match archive.amend_verb(verb) {
            Ok(said) => Response::Amend(said),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::Changes(verb) => match archive.changes_verb(&verb) {
            Ok(changes) => Response::Changes(changes),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::Removal(verb) => match archive.removal_verb(verb) {
            Ok(said) => Response::Removal(Box::new(said)),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::Conflicts(verb) => match archive.conflicts_verb(verb) {
            Ok(said) => Response::Conflicts(Box::new(said)),
            Err(error) => Response::Failed {
                reason: error.to_string(),
            },
        },
        Request::Doctor => Response::Doctor(doctor::look_over(desk)),
        Request::Forward(verb) => match forward(desk, verb) {
            Ok(said) => Response::Forward(Box::new(said)),
            Err(reason) => Response::Failed { reason },
        },
        Request::Setup(verb) => set_up(&desk.setup, verb),
        Request::Pull(verb) => match desk.pulls.verb(verb) {
            Ok(status) => Response::Pull(Box::new(status)),
            Err(reason) => Response::Failed { reason },
        },
        Request::Seen => Response::Seen {
            associations: desk.metrics.associations(),
            hours: desk.metrics.hours(),
        },
        Request::Failures => Response::Failures(desk.metrics.failed()),
        Request::Gauges => Response::Gauges(Box::new(gauges::gauges(desk))),
        Request::Probe { peer } => probe(desk, &peer, false),
        Request::ProbeByImage { peer } => probe(desk, &peer, true),
        Request::Notices(verb) => Response::Notices(Box::new(notices::verb(desk, verb))),
        Request::CopyOutbox => match desk.forward.copy_for_a_backup() {
            Ok(path) => Response::OutboxCopy(path),
            Err(reason) => Response::Failed { reason },
        },
        Request::Reload => match reload::reload(desk) {
            Ok(reloaded) => Response::Reloaded(Box::new(reloaded)),
            Err(reason) => Response::Failed { reason },
        },
        Request::Commit { to, instances } => match desk.commitment.ask_of(&to, &instances) {
            Ok(answer) => Response::Commit(answer),
            Err(reason) => Response::Failed { reason },
        },
        Request::Find(_) | Request::Stats(_) | Request::Journal(_) | Request::Audit(_) => {
            Response::Failed {
                reason: "this is answered in pieces".to_owned(),
            }
        }
    }
}

fn add(status: &mut Status, actions: Vec<String>) {
    if !actions.is_empty() && status.state == "ok" {
        status.state = "degraded".to_owned();
    }
    status.actions.extend(actions);
}

/// The archive's, and what else wants a person; not that nobody can be told of it.
fn status(desk: &Desk) -> Status {
    let mut status = desk.archive.status();
    let peers = desk.forward.status();
    let commitment = desk.commitment.status();
    // Every image is as safe as before; but somebody waits for these.
    let late = peers.iter().filter(|peer| peer.is_late());
    let late = late.map(|peer| {
        let title = &peer.peer;
        format!(
            "what should go to {title} has waited for more than a day; see: kura forward list --peer {title}"
        )
    });
    // And a modality keeps what it could delete.
    let about_peers = late.chain(desk.forward.notes());
    let audit = desk.audit.status().actions();
    let actions = about_peers.chain(commitment.actions()).chain(audit);
    let mut actions: Vec<String> = actions.collect();
    actions.extend(tls::actions((*desk.tls.now()).as_ref()));
    add(&mut status, actions);
    status
}

fn probe(desk: &Desk, peer: &str, send_image: bool) -> Response {
    match doctor::probe(desk, peer, send_image) {
        Ok(report) => Response::Probe(Box::new(report)),
        Err(reason) => Response::Failed { reason },
    }
}

fn forward(desk: &Desk, verb: ForwardVerb) -> Result<ForwardSaid, String> {
    if matches!(verb, ForwardVerb::Retry { .. }) {
        desk.setup.read_maps_again()?;
    }
    desk.forward.verb(verb)
}

/// For [`Request::Setup`], which needs no archive.
pub fn set_up(setup: &Setup, verb: SetupVerb) -> Response {
    match setup.verb(verb) {
        Ok(said) => Response::Setup(Box::new(said)),
        Err(reason) => Response::Failed { reason },
    }
}

/// As [`answer`], for requests that are answered in pieces too: `give` gets those, and the end, until it breaks.
pub fn answer_each(
    desk: &Desk,
    who: &Who,
    request: Request,
    give: &mut dyn FnMut(Response) -> ControlFlow<()>,
) {
    let archive = &desk.archive;
    match request {
        Request::Find(request) => {
            audited::searched(desk, who, &request);
            find::find(archive, &request, give);
        }
        Request::Stats(by) => {
            let mut told = Instant::now();
            let counted = archive.stats(by, &mut |done, total| {
                if told.elapsed() < PROGRESS_EVERY {
                    return ControlFlow::Continue(());
                }
                told = Instant::now();
                give(Response::Progress { done, total })
            });
            let response = match counted {
                Ok(stats) => Response::Stats(Box::new(stats)),
                Err(error) => Response::Failed {
                    reason: error.to_string(),
                },
            };
            let _ = give(response);
        }
        Request::Journal(wanted) => journal::search(&desk.transfers, &wanted, give),
        Request::Audit(wanted) => audited::list(desk, who, &wanted, give),
        request => {
            let _ = give(answer(desk, who, request));
        }
    }
}

/// Asks the server that runs on this state folder. `Ok(None)`: none does.
pub fn ask(state: &Path, request: &Request) -> std::io::Result<Option<Response>> {
    let Some(stream) = connect(state, request)? else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LENGTH_MAX)).read_line(&mut line)?;
    Ok(Some(serde_json::from_str(&line)?))
}

/// As [`ask`], for what is answered in pieces: `give` gets them, and the end. False: no server runs.
pub fn ask_each(
    state: &Path,
    request: &Request,
    give: &mut dyn FnMut(Response) -> ControlFlow<()>,
) -> std::io::Result<bool> {
    let Some(stream) = connect(state, request)? else {
        return Ok(false);
    };
    stream.set_read_timeout(Some(SIGN_PATIENCE))?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let length = lines.by_ref().take(LENGTH_MAX).read_line(&mut line)?;
        if length == 0 {
            let gone = "the server ended the answer before its end; was it not read for a minute?";
            return Err(std::io::Error::other(gone));
        }
        let response = serde_json::from_str(&line)?;
        let last = !Response::is_a_piece(&response);
        if give(response).is_break() || last {
            return Ok(true);
        }
    }
}

/// `None`: no server runs.
fn connect(state: &Path, request: &Request) -> std::io::Result<Option<UnixStream>> {
    let Ok(folder) = open_folder(state) else {
        return Ok(None);
    };
    let Ok(mut stream) = UnixStream::connect(short(&folder)) else {
        return Ok(None);
    };
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    Ok(Some(stream))
}
