//! Audit messages to another server. The audit itself is what waits: of each server that messages ever went to it is known
//! up to which byte of which file they arrived (`<state>/audit/sent.json`), and from there they go on.
//!
//! Nobody confirms a message of syslog. What was written counts as sent when the connection still stood two seconds later;
//! a connection that breaks begins again at what does not count yet. So a message may come twice, and none is left out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::chain::{self, Line};
use super::event::{Event, Kind};
use super::message::{self, Source};
use super::syslog::{self, Connection};
use super::writing::Files;
use super::{LINE_BYTES_MAX, now, reading};
use crate::config::{self, Live, SyslogTarget};

const FILE: &str = "sent.json";
const FILE_BYTES_MAX: u64 = 64 << 10;
const VERSION: u32 = 1;
/// Servers that are remembered.
const TARGETS_MAX: usize = 16;
/// What was written counts as sent after this long, if the connection still stands.
const SETTLES_AFTER: Duration = Duration::from_secs(2);
/// How often the position is made durable, and a silent connection looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Read at a time, bytes: more than a line.
const BLOCK_BYTES: u64 = 2 * LINE_BYTES_MAX;
/// Before the next try, by how many failed.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// What fails for longer is an administrator's business.
const PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// So long the end of the process waits for the last messages.
const STOP_PATIENCE: Duration = Duration::from_secs(4);

/// Up to where messages were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Name below `audit/`.
    file: String,
    offset: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    version: u32,
    /// Where messages go; `None`: nowhere.
    active: Option<String>,
    targets: BTreeMap<String, Position>,
}

/// How sending stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExportStatus {
    pub target: String,
    pub connected: bool,
    /// Of the audit, not yet sent.
    pub backlog_bytes: u64,
    /// Messages written since the start.
    pub sent_count: u64,
    /// When the last one was written, RFC 3339; absent: none since the start.
    pub sent_at: Option<String>,
    /// Why it fails, in words; empty: it does not.
    pub failure: String,
    /// Since when, RFC 3339.
    pub failing_since: Option<String>,
}

impl ExportStatus {
    pub(super) fn action(&self) -> Option<String> {
        let since = self.failing_since.as_ref()?;
        let begun: jiff::Timestamp = since.parse().ok()?;
        let is_late = jiff::Timestamp::now().duration_since(begun) > PATIENCE;
        is_late.then(|| {
            format!(
                "audit messages have not reached {} since {since}: {}; they wait in the audit and go out when it takes them",
                self.target, self.failure
            )
        })
    }
}

pub(super) struct Export {
    files: Files,
    ae_title: String,
    config: Live<config::Audit>,
    /// Held while what is kept is read and written.
    keeping: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    begun: bool,
    stopping: bool,
    woken: bool,
    status: ExportStatus,
    /// That counts as sent.
    sent: Option<Position>,
}

impl Export {
    pub fn new(files: Files, config: config::Audit, source: Source) -> Export {
        Export {
            files,
            ae_title: source.ae_title,
            config: Live::new(config),
            keeping: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeping(&self) -> MutexGuard<'_, ()> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the audit is to say, where messages go elsewhere than before, or to nobody any more: they begin after all that
    /// is there now, so that this is the first.
    pub fn turn(&self) -> Option<(String, Event)> {
        let target = self
            .config
            .now()
            .syslog
            .as_ref()
            .map(SyslogTarget::to_string);
        let _keeping = self.keeping();
        let mut kept = self.read();
        if kept.active == target {
            return None;
        }
        let was = std::mem::replace(&mut kept.active, target.clone());
        if let Some(target) = &target
            && !kept.targets.contains_key(target)
        {
            while kept.targets.len() >= TARGETS_MAX {
                kept.targets.pop_first();
            }
            kept.targets.insert(target.clone(), self.end());
        }
        self.write(&kept);
        let event = Event {
            failed: target.is_none(),
            ..Event::new(Kind::AuditExport)
        };
        Some(match (target, was) {
            (Some(target), _) => (format!("audit messages go to {target} from now on"), event),
            (None, was) => {
                let was = was.unwrap_or_default();
                (format!("audit messages do not go to {was} any more"), event)
            }
        })
    }

    pub fn start(self: Arc<Self>) -> io::Result<()> {
        self.state().begun = true;
        let thread = std::thread::Builder::new().name("audit-export".to_owned());
        let of_thread = self.clone();
        let spawned = thread.spawn(move || of_thread.go_on());
        spawned
            .map(drop)
            .inspect_err(|_| self.state().begun = false)
    }

    pub fn set(&self, config: config::Audit) {
        self.config.set(config);
        self.wake();
    }

    /// There may be more.
    pub fn wake(&self) {
        self.state().woken = true;
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut state = self.state();
        state.stopping = true;
        self.changed.notify_all();
        while state.begun {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn status(&self) -> Option<ExportStatus> {
        let target = self.config.now().syslog.as_ref()?.to_string();
        let mut status = self.state().status.clone();
        status.target = target;
        Some(status)
    }

    /// Name of the file that is being sent; `None`: nothing is to be sent.
    pub fn file_at(&self) -> Option<String> {
        let target = self.config.now().syslog.as_ref()?.to_string();
        let sent = self.state().sent.clone();
        let sent = sent.or_else(|| self.read().targets.remove(&target));
        Some(sent.unwrap_or_default().file)
    }

    /// Behind the last line that is there.
    fn end(&self) -> Position {
        let months = reading::months(&self.files.disk, &self.files.folder).unwrap_or_default();
        let Some(file) = months.last() else {
            return Position::default();
        };
        let opened = self.files.disk.open_read(&self.files.folder.join(file));
        Position {
            offset: opened.and_then(|file| file.len()).unwrap_or_default(),
            file: file.clone(),
        }
    }

    fn read(&self) -> Kept {
        let path = self.files.folder.join(FILE);
        let bytes = self.files.disk.read_small(&path, FILE_BYTES_MAX);
        let kept = bytes
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.filter(|kept: &Kept| kept.version == VERSION)
            .unwrap_or_default()
    }

    /// Not kept, messages are sent twice after a restart; that is all.
    fn write(&self, kept: &Kept) {
        let kept = Kept {
            version: VERSION,
            ..kept.clone()
        };
        let (disk, path) = (&self.files.disk, self.files.folder.join(FILE));
        let bytes = serde_json::to_vec(&kept).expect("texts and numbers always serialize");
        let written = (|| {
            disk.create_dir_durable(&self.files.folder)?;
            let new = path.with_extension("new");
            let file = disk.open_or_create(&new)?;
            file.set_len(0)?;
            file.write_at(0, &bytes)?;
            file.sync_data()?;
            disk.rename(&new, &path)?;
            disk.sync_dir(&self.files.folder)
        })();
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "how far audit messages were sent is not kept");
        }
    }

    /// The thread that sends.
    fn go_on(&self) {
        let mut course: Option<Course> = None;
        loop {
            let config = self.config.now();
            let stopping = self.state().stopping;
            let mut pause = LOOK_EVERY;
            match (&config.syslog, &mut course) {
                (None, _) => {
                    course = None;
                    *self.state() = State {
                        begun: true,
                        stopping,
                        ..State::default()
                    };
                }
                (Some(_), Some(course)) if course.config == config => {
                    pause = course.step(self, stopping);
                }
                (Some(target), _) => {
                    course = Some(Course::begin(self, target.clone(), config.clone()));
                    continue;
                }
            }
            if stopping {
                if let Some(course) = course {
                    course.end(self);
                }
                self.state().begun = false;
                self.changed.notify_all();
                return;
            }
            let mut state = self.state();
            // A server that is away is not asked for each new line.
            let is_away = !state.status.failure.is_empty();
            if is_away || !state.woken {
                let waits = |state: &mut State| !state.stopping && (is_away || !state.woken);
                let waited = self.changed.wait_timeout_while(state, pause, waits);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.woken = false;
        }
    }
}

/// The way to one server, as long as the configuration stays.
struct Course {
    target: SyslogTarget,
    config: Arc<config::Audit>,
    source: Source,
    connection: Option<Connection>,
    /// What is read next; what counts as sent; what was written, and when.
    next: Position,
    sent: Position,
    written: VecDeque<(Instant, Position)>,
    /// One after the other.
    failures_count: usize,
    saved: Position,
    saved_at: Instant,
}

impl Course {
    fn begin(export: &Export, target: SyslogTarget, config: Arc<config::Audit>) -> Course {
        let kept = export.read().targets.remove(&target.to_string());
        let sent = kept.unwrap_or_else(|| export.end());
        let folder = export.files.folder.display().to_string();
        let (id, site) = (config.source_id.as_deref(), config.site_id.as_deref());
        let mut state = export.state();
        state.status = ExportStatus::default();
        state.sent = Some(sent.clone());
        drop(state);
        Course {
            source: Source::new(&export.ae_title, id, site, &folder),
            connection: None,
            next: sent.clone(),
            saved: sent.clone(),
            sent,
            written: VecDeque::new(),
            failures_count: 0,
            saved_at: Instant::now(),
            target,
            config,
        }
    }

    /// Sends what there is; when to come again.
    fn step(&mut self, export: &Export, stopping: bool) -> Duration {
        let gone = self.send(export);
        self.settle(export, false);
        let backlog = self.backlog(export);
        let mut state = export.state();
        state.status.backlog_bytes = backlog;
        state.status.connected = self.connection.is_some();
        let Err(reason) = gone else {
            // A datagram is refused after it was sent.
            if !self.written.is_empty() {
                return LOOK_EVERY;
            }
            self.failures_count = 0;
            if !std::mem::take(&mut state.status.failure).is_empty() {
                tracing::info!(target = %self.target, "audit messages are sent again");
            }
            state.status.failing_since = None;
            return LOOK_EVERY;
        };
        if state.status.failure.is_empty() && !stopping {
            tracing::error!(target = %self.target, reason,
                "audit messages cannot be sent; they wait in the audit, and everything else goes on");
        }
        state.status.failing_since.get_or_insert_with(now);
        state.status.failure = reason;
        let pause = PAUSES[self.failures_count.min(PAUSES.len() - 1)];
        self.failures_count += 1;
        pause
    }

    /// The error is why it ended.
    fn send(&mut self, export: &Export) -> Result<(), String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // What does not count yet goes once more.
                self.next = self.sent.clone();
                self.written.clear();
                Connection::open(&self.target, &self.config)?
            }
        };
        let failed = |error: io::Error| error.to_string();
        connection.look().map_err(failed)?;
        let begun = Instant::now();
        loop {
            let (lines, next) = self
                .read(export)
                .map_err(|error| format!("the audit cannot be read: {error}"))?;
            if next == self.next {
                break;
            }
            let mut count = 0;
            for line in &lines {
                count += u64::from(self.send_line(&mut connection, line).map_err(failed)?);
            }
            connection
                .flush()
                .and_then(|()| connection.look())
                .map_err(failed)?;
            self.next = next;
            self.written.push_back((Instant::now(), self.next.clone()));
            let mut state = export.state();
            if count > 0 {
                state.status.sent_count += count;
                state.status.sent_at = Some(now());
            }
            // The position is to be kept in between, and the end must not wait for a long backlog.
            if begun.elapsed() > LOOK_EVERY {
                state.woken = true;
                break;
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Whether there was something to send.
    fn send_line(&self, connection: &mut Connection, line: &str) -> io::Result<bool> {
        let entry = match chain::read(line) {
            Line::Good(entry, _) => entry,
            Line::Changed(_) => {
                tracing::warn!(
                    "a line of the audit was changed after it was written and is not sent; run: kura audit verify"
                );
                return Ok(false);
            }
            Line::Broken => return Ok(false),
        };
        let Some(message) = message::of(&entry, &self.source) else {
            return Ok(false);
        };
        let is_failure = message::is_failure(&entry);
        connection.send(&syslog::framed(
            &message,
            &entry.at,
            is_failure,
            &self.source,
        ))?;
        Ok(true)
    }

    /// Whole lines from where it is, and where it is then.
    fn read(&self, export: &Export) -> io::Result<(Vec<String>, Position)> {
        let Files { disk, folder, .. } = &export.files;
        let mut at = self.next.clone();
        let months = reading::months(disk, folder)?;
        // Of a file that is gone the next one is taken.
        let Some(mut place) = months.iter().position(|month| *month >= at.file) else {
            return Ok((Vec::new(), at));
        };
        loop {
            if months[place] != at.file {
                at = Position {
                    file: months[place].clone(),
                    offset: 0,
                };
            }
            let file = disk.open_read(&folder.join(&at.file))?;
            let length = file.len()?;
            if at.offset > length {
                tracing::warn!(
                    file = at.file,
                    "the audit is shorter than what of it was sent already; what comes from now on is sent"
                );
                at.offset = length;
            }
            let mut block = vec![0; BLOCK_BYTES.min(length - at.offset) as usize];
            file.read_exact_at(&mut block, at.offset)?;
            if let Some(end) = block.iter().rposition(|byte| *byte == b'\n') {
                at.offset += end as u64 + 1;
                let lines = block[..end].split(|byte| *byte == b'\n');
                let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
                return Ok((lines.filter(|line| !line.is_empty()).collect(), at));
            }
            if block.len() as u64 == BLOCK_BYTES {
                // Longer than any line of ours.
                at.offset += BLOCK_BYTES;
                return Ok((Vec::new(), at));
            }
            // The rest is being written, or was cut off by a crash; nothing is added to a file that has a successor.
            place += 1;
            if place == months.len() {
                return Ok((Vec::new(), at));
            }
        }
    }

    /// What was written long enough ago counts as sent.
    fn settle(&mut self, export: &Export, all: bool) {
        if self.connection.is_some() || all {
            while let Some((when, position)) = self.written.front()
                && (all || when.elapsed() >= SETTLES_AFTER)
            {
                self.sent = position.clone();
                self.written.pop_front();
            }
        }
        if self.saved != self.sent && (all || self.saved_at.elapsed() >= LOOK_EVERY) {
            let _keeping = export.keeping();
            let mut kept = export.read();
            kept.targets
                .insert(self.target.to_string(), self.sent.clone());
            export.write(&kept);
            export.state().sent = Some(self.sent.clone());
            self.saved = self.sent.clone();
            self.saved_at = Instant::now();
        }
    }

    fn backlog(&self, export: &Export) -> u64 {
        let Files { disk, folder, .. } = &export.files;
        let months = reading::months(disk, folder).unwrap_or_default();
        let length = |month: &String| {
            let entry = disk.entry(&folder.join(month)).ok().flatten();
            let length = entry.map_or(0, |entry| entry.len);
            match *month == self.sent.file {
                true => length.saturating_sub(self.sent.offset),
                false => length,
            }
        };
        let rest = months.iter().filter(|month| **month >= self.sent.file);
        rest.map(length).sum()
    }

    fn end(mut self, export: &Export) {
        if let Some(connection) = self.connection.take() {
            let all = connection.end();
            self.settle(export, all);
        }
    }
}
