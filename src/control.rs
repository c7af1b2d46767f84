//! What the command line asks of a running server: one JSON object in, one out, over a local socket in the state folder.
//!
//! The socket's folder permissions are its protection: who may write the state folder may ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::archive::{
    AmendSaid, AmendVerb, Archive, ChangesVerb, CheckedStatus, ConflictsSaid, ConflictsVerb,
    CopiesStatus, Correction, DoctorFinding, MirrorStatus, MirrorVerb, RemovalSaid, RemovalVerb,
    ReplaceStatus, ReportName, ReportVerb, Shown, Status, VolumeSaid, VolumeVerb, WorkStatus,
    WorkVerb,
};
use crate::dicom::Level;
use crate::index::{Key, Query, Values};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    Status,
    /// Matches at a level; `keys` are attribute tags (group << 16 | element) and what they must match.
    Find {
        level: String,
        keys: Vec<(u32, String)>,
        most: usize,
    },
    IndexRebuild,
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
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    Status(Box<Status>),
    Found {
        matches: Vec<Values>,
        complete: bool,
        note: String,
    },
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
    /// Done; what it means, in a sentence.
    Said(String),
    Failed {
        reason: String,
    },
}

const SOCKET: &str = "kura.sock";
/// A request or a response longer than this is not ours, bytes.
const LENGTH_MAX: u64 = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Listener {
    stop: Arc<AtomicBool>,
    path: std::path::PathBuf,
}

impl Listener {
    pub fn start(state: &Path, archive: Arc<Archive>) -> std::io::Result<Listener> {
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
                    let archive = archive.clone();
                    let asked = std::thread::Builder::new().name("verb".to_owned());
                    let asked = asked.spawn(move || {
                        if let Err(error) = serve(&archive, &stream) {
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

fn serve(archive: &Arc<Archive>, stream: &UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(stream.take(LENGTH_MAX)).read_line(&mut line)?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => answer(archive, request),
        Err(error) => Response::Failed {
            reason: format!("not a request of this version: {error}"),
        },
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    let mut stream = stream;
    stream.write_all(&text)
}

/// The one meaning of each request, whether it comes over the socket or from a verb that opened the archive itself.
pub fn answer(archive: &Arc<Archive>, request: Request) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(archive.status())),
        Request::IndexRebuild => {
            archive.rebuild_index();
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
        Request::Doctor => Response::Doctor(archive.look_over()),
        Request::Find { level, keys, most } => {
            let Ok(level) = level.parse::<Level>() else {
                return Response::Failed {
                    reason: format!("{level:?} is not a level"),
                };
            };
            let keys = keys
                .into_iter()
                .map(|(tag, value)| {
                    let vr = crate::dicom::attributes::vr_of(crate::dicom::Tag(
                        (tag >> 16) as u16,
                        tag as u16,
                    ));
                    Key::new(tag, vr, value)
                })
                .collect();
            let mut matches = Vec::new();
            let result = archive.find(&Query::new(level, keys), &mut |found| {
                if matches.len() == most {
                    return std::ops::ControlFlow::Break(());
                }
                matches.push(found.values);
                std::ops::ControlFlow::Continue(())
            });
            match result {
                Ok(()) => Response::Found {
                    matches,
                    complete: true,
                    note: String::new(),
                },
                Err(error) => Response::Found {
                    matches,
                    complete: false,
                    note: error.to_string(),
                },
            }
        }
    }
}

/// Asks the server that runs on this state folder. `Ok(None)`: none does.
pub fn ask(state: &Path, request: &Request) -> std::io::Result<Option<Response>> {
    let Ok(folder) = open_folder(state) else {
        return Ok(None);
    };
    let Ok(mut stream) = UnixStream::connect(short(&folder)) else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream.take(LENGTH_MAX)).read_line(&mut line)?;
    Ok(Some(serde_json::from_str(&line)?))
}
