//! What a pull has to do and has done, so that it goes on after a crash: `<state>/pull/NAME.jsonl`, lines of JSON, each
//! flushed before the next study is begun.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::job::Window;
use crate::volume::io::{Disk, DiskFile};

pub(super) const FOLDER: &str = "pull";
const END: &str = ".jsonl";
/// Pulls that are kept when a new one begins.
const KEPT_MAX: usize = 20;
const NAMES_MAX: usize = 10_000;
/// Longest line that is ours, bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Also of its file and its report: `pull-PEER-<UTC time>`.
    pub name: String,
    /// As it was given: the AE title of a peer, or `AE@HOST:PORT`.
    pub from: String,
    /// By `group << 16 | element`.
    pub keys: Vec<(u32, String)>,
    /// By C-GET instead of C-MOVE.
    #[serde(default)]
    pub get: bool,
    /// Between two studies.
    #[serde(default)]
    pub pause_seconds: u64,
    #[serde(default)]
    pub window: Option<Window>,
    /// RFC 3339.
    pub begun: String,
}

impl Task {
    /// Whether it is the same wish, whenever it was said.
    pub fn is_like(&self, other: &Task) -> bool {
        (&self.from, &self.keys, self.get) == (&other.from, &other.keys, other.get)
    }
}

/// A study that the other archive has. Half a million of them are held in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Study {
    pub uid: Box<str>,
    /// `YYYYMMDD`, zeros where there is none.
    pub date: u32,
    /// As the other archive said it, if it did.
    pub instances: Option<u32>,
    pub missing: u32,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Complete,
    /// Tried as often as it is tried.
    Incomplete,
}

impl Study {
    pub fn new(uid: String, date: &str, instances: Option<u32>) -> Study {
        Study {
            uid: uid.into_boxed_str(),
            date: date.parse().unwrap_or(0),
            instances,
            missing: 0,
            state: State::Waiting,
        }
    }
}

/// How it went with one study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Among the studies found.
    pub number: usize,
    /// It was here already.
    #[serde(default)]
    pub was_here: bool,
    pub their_count: u64,
    pub our_count: u64,
    pub missing_count: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Only the numbers were compared.
    #[serde(default)]
    pub by_count: bool,
    /// That came, of their data sets.
    #[serde(default)]
    pub bytes: u64,
    /// In words; empty where nothing failed.
    #[serde(default)]
    pub reason: String,
}

impl Done {
    pub fn is_complete(&self) -> bool {
        self.missing_count == 0 && self.reason.is_empty()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
enum Line {
    Task(Task),
    /// The search begins, perhaps anew.
    Search,
    Study {
        uid: String,
        date: u32,
        instances: Option<u32>,
    },
    /// The search is over.
    Found {
        notes: Vec<String>,
    },
    Done(Done),
    /// It is not to go on by itself.
    Stopped {
        why: String,
        cancelled: bool,
    },
    Resumed,
    Ended {
        report: String,
    },
}

/// A task with all that its file says.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub task: Task,
    /// The search is over.
    pub found: bool,
    pub studies: Vec<Study>,
    pub notes: Vec<String>,
    /// Why it does not go on by itself; whether somebody wanted that.
    pub stopped: Option<(String, bool)>,
    /// Name of the report; it may be empty.
    pub ended: Option<String>,
    pub sums: Sums,
}

/// Over the studies that were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub was_here_count: u64,
    pub bytes: u64,
}

/// The file, open for more lines.
pub(super) struct File {
    file: DiskFile,
    offset: u64,
}

fn path(state: &Path, name: &str) -> PathBuf {
    state.join(FOLDER).join(format!("{name}{END}"))
}

/// Names of the pulls that are known, the newest last.
fn names(disk: &Disk, state: &Path) -> Vec<String> {
    let names = disk
        .list(&state.join(FOLDER), NAMES_MAX)
        .unwrap_or_default();
    let mut names: Vec<String> = names
        .iter()
        .filter_map(|name| Some(name.to_str()?.strip_suffix(END)?.to_owned()))
        .collect();
    names.sort_by_key(|name| name.rsplit('-').next().map(str::to_owned));
    names
}

/// The newest pull.
pub(super) fn newest(disk: &Disk, state: &Path) -> Option<Known> {
    let mut names = names(disk, state);
    while let Some(name) = names.pop() {
        match read(disk, state, &name) {
            Ok(known) => return Some(known),
            Err(error) => tracing::warn!(name, %error, "the state of a pull cannot be read"),
        }
    }
    None
}

fn read(disk: &Disk, state: &Path, name: &str) -> io::Result<Known> {
    let mut known: Option<Known> = None;
    each_line(disk, state, name, &mut |line| {
        if let Line::Task(task) = &line {
            known = Some(Known::new(task.clone()));
        }
        if let Some(known) = &mut known {
            known.take(line);
        }
        Ok(())
    })?;
    known.ok_or_else(|| io::Error::other("it names no task"))
}

fn each_line(
    disk: &Disk,
    state: &Path,
    name: &str,
    give: &mut dyn FnMut(Line) -> io::Result<()>,
) -> io::Result<()> {
    let mut lines = BufReader::with_capacity(1 << 16, disk.open_read(&path(state, name))?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64;
        if lines.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // A line that a crash cut off says nothing; what it would have said is done again.
        if let Ok(line) = serde_json::from_slice(&line) {
            give(line)?;
        }
    }
}

/// Gives how it went with each study, the last time that it was tried.
pub(super) fn each_done(
    disk: &Disk,
    state: &Path,
    known: &Known,
    give: &mut dyn FnMut(&Study, &Done) -> io::Result<()>,
) -> io::Result<()> {
    // Lines of earlier tries come first: which is the last one is counted before.
    let mut tries = vec![0_u8; known.studies.len()];
    let name = &known.task.name;
    each_line(disk, state, name, &mut |line| {
        match line {
            Line::Search => tries.fill(0),
            Line::Done(done) => {
                if let Some(tries) = tries.get_mut(done.number) {
                    *tries = tries.saturating_add(1);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    each_line(disk, state, name, &mut |line| {
        if let Line::Done(done) = line
            && let (Some(tries), Some(study)) =
                (tries.get_mut(done.number), known.studies.get(done.number))
        {
            *tries = tries.saturating_sub(1);
            if *tries == 0 {
                give(study, &done)?;
            }
        }
        Ok(())
    })
}

impl Known {
    pub fn new(task: Task) -> Known {
        Known {
            task,
            found: false,
            studies: Vec::new(),
            notes: Vec::new(),
            stopped: None,
            ended: None,
            sums: Sums::default(),
        }
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Task(_) => {}
            Line::Search => {
                self.studies.clear();
                (self.found, self.sums) = (false, Sums::default());
            }
            Line::Study {
                uid,
                date,
                instances,
            } => {
                // As many as a search finds; more are not ours.
                if self.studies.len() < super::search::STUDIES_MAX {
                    self.studies.push(Study {
                        uid: uid.into_boxed_str(),
                        date,
                        instances,
                        missing: 0,
                        state: State::Waiting,
                    });
                }
            }
            Line::Found { notes } => (self.found, self.notes) = (true, notes),
            Line::Done(done) => self.done(&done),
            Line::Stopped { why, cancelled } => self.stopped = Some((why, cancelled)),
            Line::Resumed => (self.stopped, self.ended) = (None, None),
            Line::Ended { report } => self.ended = Some(report),
        }
    }

    pub fn done(&mut self, done: &Done) {
        let Some(study) = self.studies.get_mut(done.number) else {
            return;
        };
        study.state = match done.is_complete() {
            true => State::Complete,
            false => State::Incomplete,
        };
        if done.their_count > 0 {
            study.instances = u32::try_from(done.their_count).ok();
        }
        study.missing = u32::try_from(done.missing_count).unwrap_or(u32::MAX);
        self.sums.was_here_count += u64::from(done.was_here);
        self.sums.bytes += done.bytes;
    }

    pub fn count(&self, state: State) -> u64 {
        self.studies.iter().filter(|s| s.state == state).count() as u64
    }
}

impl File {
    /// Begins a file, and removes those of old pulls.
    pub fn create(disk: &Disk, state: &Path, task: &Task) -> io::Result<File> {
        let folder = state.join(FOLDER);
        disk.create_dir_durable(&folder)?;
        let mut old = names(disk, state);
        old.truncate(old.len().saturating_sub(KEPT_MAX - 1));
        for name in old {
            disk.remove(&path(state, &name))?;
        }
        let mut file = File {
            file: disk.create_new(&path(state, &task.name))?,
            offset: 0,
        };
        file.append(&[Line::Task(task.clone())])?;
        disk.sync_dir(&folder)?;
        Ok(file)
    }

    pub fn open(disk: &Disk, state: &Path, name: &str) -> io::Result<File> {
        let file = disk.open_write(&path(state, name))?;
        let mut offset = file.len()?;
        let mut last = [b'\n'];
        if offset > 0 {
            file.read_exact_at(&mut last, offset - 1)?;
        }
        if last != [b'\n'] {
            // A line that was cut off stays alone.
            file.write_at(offset, b"\n")?;
            offset += 1;
        }
        Ok(File { file, offset })
    }

    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut piece = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut piece, line).map_err(io::Error::other)?;
            piece.push(b'\n');
        }
        self.put(&piece)?;
        self.file.sync_data()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub fn found(&mut self, studies: &[Study], notes: &[String]) -> io::Result<()> {
        self.append(&[Line::Search])?;
        let mut piece = Vec::new();
        for study in studies {
            let line = Line::Study {
                uid: study.uid.to_string(),
                date: study.date,
                instances: study.instances,
            };
            serde_json::to_writer(&mut piece, &line).map_err(io::Error::other)?;
            piece.push(b'\n');
            if piece.len() >= PIECE_BYTES {
                self.put(&std::mem::take(&mut piece))?;
            }
        }
        self.put(&piece)?;
        // The studies before the line that says that they are all.
        self.file.sync_data()?;
        let notes = notes.to_vec();
        self.append(&[Line::Found { notes }])
    }

    pub fn done(&mut self, done: &Done) -> io::Result<()> {
        self.append(&[Line::Done(done.clone())])
    }

    pub fn stopped(&mut self, why: &str, cancelled: bool) -> io::Result<()> {
        let why = why.to_owned();
        self.append(&[Line::Stopped { why, cancelled }])
    }

    pub fn resumed(&mut self) -> io::Result<()> {
        self.append(&[Line::Resumed])
    }

    pub fn ended(&mut self, report: &str) -> io::Result<()> {
        let report = report.to_owned();
        self.append(&[Line::Ended { report }])
    }
}
