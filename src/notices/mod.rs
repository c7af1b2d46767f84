//! Notices: somebody is told when the state changes, and every day what came and what is to be done.
//!
//! One thread looks every half minute. What it says has no patient's data in it: counts, volumes, peers. A way that fails
//! is tried again with the next notice; that it failed is in the log, in `kura status` and in `kura notices`.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the thread, what is kept over a restart |
//! | `due` | what is told when: settled, not too often |
//! | `text` | the words, English and Japanese |
//! | `ways` | program, mail, webhook: each bounded in time |

mod due;
mod text;
mod ways;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{self, Config, Live, NoticeLanguage};
use crate::volume::io::Disk;

use due::Due;

const FILE: &str = "notices.json";
const VERSION: u32 = 1;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Between two looks at the state.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same while a change settles.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// What is told of the archive. No field may hold a patient's data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub ae_title: String,
    /// `ok`, `degraded` or `lost`.
    pub state: String,
    /// What is wrong and what to do, a sentence each.
    pub actions: Vec<String>,
    pub instances_count: u64,
    pub studies_count: u64,
    pub bytes: u64,
    /// Good copies: two, one, none that can be read now.
    pub copies: Option<(u64, u64, u64)>,
    pub last_mirror: Option<String>,
    pub last_scrub: Option<String>,
    pub bad_count: u64,
    pub room_bytes: u64,
    /// `YYYY-MM-DD`
    pub full_on: Option<String>,
    /// Peer, studies that wait, studies that failed.
    pub queues: Vec<(String, u64, u64)>,
}

/// What came within a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Came {
    pub studies_count: u64,
    pub instances_count: u64,
    pub bytes: u64,
    pub refused_count: u64,
}

/// Where what is told comes from.
pub trait Source: Send {
    /// `None`: it cannot be said now.
    fn look(&self) -> Option<Seen>;
    /// Within the last 24 hours.
    fn came(&self) -> Came;
    /// A sentence of the server in that language, where it is known in it.
    fn translated(&self, sentence: &str, language: NoticeLanguage) -> String;
}

/// A notice, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub kind: Kind,
    pub state: String,
    pub subject: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    State,
    Daily,
    Test,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::State => "state",
            Kind::Daily => "daily",
            Kind::Test => "test",
        }
    }
}

/// How a way stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WayStatus {
    /// `command`, `mail` or `webhook`.
    pub way: String,
    /// When it was used last, RFC 3339; absent: not yet.
    pub at: Option<String>,
    /// Why it failed then; empty: it did not.
    pub failure: String,
}

/// `kura notices`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NoticesStatus {
    pub ways: Vec<WayStatus>,
    /// The state that was told last; empty: none yet.
    pub told: String,
    /// Local time of the daily summary.
    pub daily: Option<String>,
}

/// Kept over a restart, so that nothing is told twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    version: u32,
    #[serde(flatten)]
    due: Due,
    ways: Vec<WayStatus>,
}

pub struct Notices {
    config: Live<config::Notices>,
    ae_title: String,
    path: PathBuf,
    kept: Mutex<Kept>,
    /// One notice at a time.
    sending: Mutex<()>,
    stopping: Mutex<bool>,
    woken: Condvar,
    began: AtomicBool,
}

impl Notices {
    /// Nothing is told before [`Notices::start`].
    pub fn open(config: &Config) -> Notices {
        let path = config.state.join(FILE);
        Notices {
            config: Live::new(config.notices.clone()),
            ae_title: config.ae_title.as_str().to_owned(),
            kept: Mutex::new(read(&path)),
            path,
            sending: Mutex::default(),
            stopping: Mutex::default(),
            woken: Condvar::new(),
            began: AtomicBool::new(false),
        }
    }

    pub fn set(&self, config: config::Notices) {
        self.config.set(config);
        self.woken.notify_all();
    }

    pub fn start(self: &Arc<Self>, source: Box<dyn Source>) -> std::io::Result<()> {
        self.began.store(true, Ordering::Relaxed);
        let notices = self.clone();
        let thread = std::thread::Builder::new().name("notices".to_owned());
        thread.spawn(move || notices.go_round(&*source)).map(drop)
    }

    /// What is being sent is not waited for: it has a bound of its own.
    pub fn stop(&self) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_all();
    }

    fn go_round(&self, source: &dyn Source) {
        loop {
            let config = self.config.now();
            let mut pause = LOOK_EVERY;
            if config.is_on()
                && let Some(seen) = source.look()
            {
                let now = jiff::Zoned::now();
                let before = self.kept().due.clone();
                let (change, daily) = {
                    let due = &mut self.kept().due;
                    let change = due.change(&seen.state, &config, now.timestamp().as_second());
                    let daily = due.daily(&config, now.date(), now.time());
                    if due.is_settling() {
                        pause = LOOK_SOON;
                    }
                    (change, daily)
                };
                if let Some(was) = change {
                    self.send(&text::state(&seen, &was, &config, source), &config);
                }
                if daily {
                    let notice = text::daily(&seen, &source.came(), &config, source);
                    self.send(&notice, &config);
                }
                if self.kept().due != before {
                    self.save();
                }
            }
            let stopping = self.stopping.lock();
            let stopping = stopping.unwrap_or_else(PoisonError::into_inner);
            if *stopping {
                return;
            }
            let waited = self.woken.wait_timeout(stopping, pause);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
        }
    }

    /// `kura notices test`: over every way, now.
    pub fn test(&self) -> NoticesStatus {
        let config = self.config.now();
        self.send(&text::test(&self.ae_title, &config), &config);
        self.save();
        self.status()
    }

    pub fn status(&self) -> NoticesStatus {
        let config = self.config.now();
        let kept = self.kept();
        let of = |way: &str| {
            let known = kept.ways.iter().find(|known| known.way == way).cloned();
            known.unwrap_or(WayStatus {
                way: way.to_owned(),
                at: None,
                failure: String::new(),
            })
        };
        NoticesStatus {
            ways: ways::configured(&config).into_iter().map(of).collect(),
            told: kept.due.told.clone(),
            daily: config.daily.clone().filter(|_| config.is_on()),
        }
    }

    /// What is wrong and what to do, a sentence each.
    pub fn actions(&self) -> Vec<String> {
        let ways = self.status().ways.into_iter();
        let failed = ways.filter(|way| !way.failure.is_empty());
        let say = |way: WayStatus| {
            format!(
                "notices by {} do not arrive: {}; when it is put right: kura notices test",
                way.way, way.failure
            )
        };
        failed.map(say).collect()
    }

    fn send(&self, notice: &Notice, config: &config::Notices) {
        let _one = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        for way in ways::configured(config) {
            let failure = match ways::send(way, notice, config) {
                Ok(()) => {
                    tracing::info!(way, kind = notice.kind.as_str(), "a notice was sent");
                    String::new()
                }
                Err(reason) => {
                    tracing::error!(way, reason, "a notice could not be sent");
                    reason
                }
            };
            let status = WayStatus {
                way: way.to_owned(),
                at: Some(now()),
                failure,
            };
            let ways = &mut self.kept().ways;
            ways.retain(|known| known.way != way);
            ways.push(status);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not kept, a change may be told twice; that is all.
    fn save(&self) {
        let mut kept = self.kept().clone();
        kept.version = VERSION;
        let bytes = serde_json::to_vec_pretty(&kept).expect("texts and numbers always serialize");
        if let Err(error) = write(&self.path, &bytes) {
            tracing::warn!(%error, path = %self.path.display(), "what was told is not kept");
        }
    }
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn read(path: &Path) -> Kept {
    let bytes = Disk::default().read_small(path, FILE_BYTES_MAX);
    let kept = bytes.map(|bytes| serde_json::from_slice::<Kept>(&bytes));
    match kept {
        Ok(Ok(kept)) if kept.version == VERSION => kept,
        _ => Kept::default(),
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let disk = Disk::default();
    let new = path.with_extension("new");
    let file = disk.open_or_create(&new)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&new, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
