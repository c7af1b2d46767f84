//! Kura beside other archives: the same images, the same sender, one run.
//!
//! **What it defends**: durable, Kura is first in every column among the archives that keep an index, and ahead of the
//! programs that only store, in rate and in processor time. No other one here makes durable what it answered, so this
//! is said by hand: Kura answers after its flushes, the others do what they do as they come.
//!
//! `make bench-peers` installs what is measured against and runs it in a network of its own (some of them listen on all
//! addresses). In each repetition every server stores the same images on an empty folder, with 1, 4 and 16
//! associations; what it holds then is asked for and moved. `plain files` is the machine's own limit: the same bytes
//! created, written and `fdatasync`ed by as many threads. `benches/README.md` says how to read the table.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "../tests/common/mod.rs"]
mod common;
mod modality;

use common::build::{Tag, ident};
use common::receivers::orthanc;
use common::server::free_port;
use common::wire::{IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_MOVE};
use common::{Client, Server, Settings, tools};
use modality::{
    Image, Link, Modality, OFFER, Place, name, patient_id, process_and_children_cpu, study_date,
};

/// Images of the one large series.
const SERIES_COUNT: usize = 1_000;
/// Smaller studies: a series of small images each.
const STUDIES_COUNT: usize = 60;
const IN_STUDY_COUNT: usize = 10;
/// Questions of one kind, and how long at most they are asked.
const QUESTIONS_COUNT: usize = 200;
const QUESTIONS_LIMIT: Duration = Duration::from_secs(15);
/// How long one of the others may take until it listens, or answers.
const START_LIMIT: Duration = Duration::from_secs(60);

const SINK: &str = "BENCHSINK";
const CALLING: &str = "BENCH";

/// Kura beside other archives.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench peers --")]
struct Arguments {
    /// Repetitions; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// How many associations at a time; questions and moves come after the last
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 4], value_parser = clap::value_parser!(u16).range(1..=64))]
    associations: Vec<u16>,
    /// Which are measured [default: all that are installed]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// One JSON object on stdout, no table
    #[arg(long)]
    json: bool,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        eprintln!("peers measures nothing unless run by: make bench-peers");
        return ExitCode::SUCCESS;
    }
    let folder = std::env::var_os("KURA_BENCH_DIR")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let wanted = |name: &str| {
        arguments.peers.is_empty() || arguments.peers.iter().any(|wanted| wanted == name)
    };
    let installed = Which::ALL.iter().filter(|which| wanted(which.name()));
    let installed: Vec<(Which, PathBuf)> = installed
        .filter_map(|which| Some((*which, which.program()?)))
        .collect();
    let load = Load::new();
    let mut report = Vec::new();
    for repetition in 1..=arguments.repetitions {
        let mut rows = Vec::new();
        for associations in arguments
            .associations
            .iter()
            .map(|count| usize::from(*count))
        {
            let row = load.plain_files(&folder, associations);
            eprintln!("repetition {repetition}: plain files: {row}");
            rows.push(row);
        }
        for (which, program) in &installed {
            for (at, associations) in arguments.associations.iter().enumerate() {
                let is_last = at + 1 == arguments.associations.len();
                let row = load.measure(
                    *which,
                    program,
                    &folder,
                    usize::from(*associations),
                    is_last,
                );
                eprintln!("repetition {repetition}: {}: {row}", which.name());
                rows.push(row);
            }
        }
        report.push(rows);
    }
    DONE.lock().unwrap_or_else(PoisonError::into_inner).clear();
    match arguments.json {
        true => println!("{}", json!({ "version": 1, "repetitions": report })),
        false => table(&report, &arguments.associations),
    }
    ExitCode::SUCCESS
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Kura,
    Orthanc,
    Dcmqrscp,
    Pynetdicom,
    Storescp,
    DicomRs,
}

impl Which {
    const ALL: [Which; 6] = [
        Which::Kura,
        Which::Orthanc,
        Which::Dcmqrscp,
        Which::Pynetdicom,
        Which::Storescp,
        Which::DicomRs,
    ];

    fn name(self) -> &'static str {
        match self {
            Which::Kura => "kura",
            Which::Orthanc => "orthanc",
            Which::Dcmqrscp => "dcmqrscp",
            Which::Pynetdicom => "pynetdicom",
            Which::Storescp => "storescp",
            Which::DicomRs => "dicom-storescp",
        }
    }

    /// `None` (and a printed reason) where it is not installed.
    fn program(self) -> Option<PathBuf> {
        match self {
            Which::Kura => Some(env!("CARGO_BIN_EXE_kura").into()),
            Which::Orthanc => orthanc(),
            Which::Dcmqrscp => tools::tool("dcmqrscp"),
            Which::Storescp => tools::tool("storescp"),
            Which::Pynetdicom => tools::python(),
            Which::DicomRs => {
                let file =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/dicom-storescp");
                let found = file.is_file().then_some(file);
                if found.is_none() {
                    tools::skip("dicom-storescp is not installed; make bench-peers does that");
                }
                found
            }
        }
    }

    /// Keeps an index: it is asked and told to move.
    fn is_archive(self) -> bool {
        !matches!(self, Which::Storescp | Which::DicomRs)
    }

    fn ae_title(self) -> &'static str {
        match self {
            Which::Kura => "KURA",
            _ => "BENCHSRV",
        }
    }
}

/// A server that runs; ended on drop.
enum Running {
    Kura(Box<Server>),
    Other { child: Child, port: u16 },
}

impl Running {
    fn start(which: Which, program: &Path, folder: &Path, sink: u16) -> Running {
        if which == Which::Kura {
            let settings = Settings {
                // As it is for somebody who says nothing about it.
                extra: "[intake]\nmode = \"auto\"\n".to_owned(),
                ..Settings::default()
            };
            return Running::Kura(Box::new(Server::in_folder(
                settings.peer(SINK, sink),
                folder,
            )));
        }
        let (port, title) = (free_port(), which.ae_title());
        let store = folder.join("store");
        fs::create_dir(&store).expect("folder of a peer");
        let put = |name: &str, text: String| {
            let file = folder.join(name);
            fs::write(&file, text).expect("configuration of a peer");
            file
        };
        let mut command = Command::new(program);
        match which {
            Which::Kura => unreachable!("started above"),
            Which::Orthanc => {
                let config = json!({
                    "Name": "bench", "StorageDirectory": store, "IndexDirectory": store, "Plugins": [],
                    "HttpServerEnabled": false, "DicomAet": title, "DicomPort": port,
                    "MaximumPduLength": 131_072, "DicomThreadsCount": 16,
                    "DicomAlwaysAllowFind": true, "DicomAlwaysAllowMove": true,
                    "DicomModalities": { "sink": [SINK, "127.0.0.1", sink] },
                });
                command.arg(put("orthanc.json", config.to_string()));
            }
            Which::Dcmqrscp => {
                let text = format!(
                    "NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 64\n\
                     HostTable BEGIN\nsink = ({SINK}, localhost, {sink})\nHostTable END\n\
                     VendorTable BEGIN\nVendorTable END\n\
                     AETable BEGIN\n{title} {} RW (1000, 100000mb) ANY\nAETable END\n",
                    store.display()
                );
                command.args(["--fork", "-dhl", "-c"]);
                command.arg(put("dcmqrscp.cfg", text)).arg(port.to_string());
            }
            Which::Storescp => {
                command.args([
                    "--fork", "-dhl", "-pdu", "131072", "+B", "-aet", title, "-od",
                ]);
                command.arg(&store).arg(port.to_string());
            }
            Which::DicomRs => {
                command.args(["--uncompressed-only", "--non-blocking"]);
                command
                    .args(["--max-pdu-length", "131072", "-o"])
                    .arg(&store);
                command.args(["-p", &port.to_string()]);
            }
            Which::Pynetdicom => {
                let text = format!(
                    "[DEFAULT]\nae_title: {title}\nport: {port}\nmax_pdu: 131072\nacse_timeout: 30\n\
                     dimse_timeout: 30\nnetwork_timeout: 30\nbind_address: 127.0.0.1\n\
                     instance_location: {}\ndatabase_location: {}\nlog_identifier: False\n\
                     [{SINK}]\naddress: 127.0.0.1\nport: {sink}\n",
                    store.display(),
                    folder.join("index.sqlite").display()
                );
                command.args(["-m", "pynetdicom", "qrscp", "-q", "-c"]);
                command.arg(put("qrscp.ini", text));
            }
        }
        // DCMTK leaves Nagle's algorithm on without it, and each answer then waits 40 ms.
        command.env("TCP_NODELAY", "1").current_dir(folder);
        let child = listening(&mut command, port);
        Running::Other { child, port }
    }

    fn pid(&self) -> u32 {
        match self {
            Running::Kura(server) => server.pid(),
            Running::Other { child, .. } => child.id(),
        }
    }

    fn associate(
        &self,
        which: Which,
        offer: &[(u8, &str, &[&str])],
    ) -> Result<Client, common::WireError> {
        let port = match self {
            Running::Kura(server) => server.port(),
            Running::Other { port, .. } => *port,
        };
        let address = ([127, 0, 0, 1], port).into();
        Client::associate_with(address, CALLING, which.ae_title(), offer, 131_072, &[])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Other { child, .. } = self {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    for pid in family(child.id()).into_iter().rev() {
        if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    drop(child.wait());
}

fn listening(command: &mut Command, port: u16) -> Child {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let since = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let has_ended = child.try_wait().expect("wait for a child").is_some();
        assert!(
            !has_ended && since.elapsed() < START_LIMIT,
            "{command:?} does not listen"
        );
        thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The process and all it started, itself first.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            found.extend(children.collect::<Vec<u32>>());
        }
        at += 1;
    }
    found
}

/// Of all its processes, and of those of them that have ended, seconds.
fn cpu(pid: u32) -> f64 {
    let times = family(pid).into_iter().filter_map(process_and_children_cpu);
    times.sum()
}

/// Most memory that a server's processes had together, bytes: what they share counts once.
struct Peak {
    bytes: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peak {
    fn watch(pid: u32) -> Peak {
        let (bytes, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (kept, stopped) = (bytes.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = family(pid).into_iter().map(proportional_bytes).sum();
                kept.fetch_max(now, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(200));
            }
        });
        Peak {
            bytes,
            stop,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(thread::JoinHandle::join));
        self.bytes.load(Ordering::Relaxed)
    }
}

/// PSS (proc(5)).
fn proportional_bytes(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// What is sent, and asked for afterwards.
struct Load {
    large: Modality,
    small: Modality,
    /// Small or large, and where it belongs.
    places: Vec<(bool, Place)>,
}

impl Load {
    fn new() -> Load {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let run_id = now.map_or(0, |since| since.as_millis());
        let numbered = |study, count| {
            (1..=count).map(move |number| Place {
                study,
                series: 1,
                number,
            })
        };
        let large = numbered(0, SERIES_COUNT).map(|place| (false, place));
        let small = (1..=STUDIES_COUNT).flat_map(|study| numbered(study, IN_STUDY_COUNT));
        Load {
            large: Modality::new(512, run_id),
            small: Modality::new(128, run_id),
            places: large.chain(small.map(|place| (true, place))).collect(),
        }
    }

    fn image(&self, at: usize) -> Option<Image<'_>> {
        let (is_small, place) = *self.places.get(at)?;
        Some(Image::new(
            if is_small { &self.small } else { &self.large },
            place,
        ))
    }

    fn bytes(&self) -> usize {
        let pixels = |is_small| {
            if is_small {
                self.small.pixel_bytes
            } else {
                self.large.pixel_bytes
            }
        };
        self.places
            .iter()
            .map(|(is_small, _)| pixels(*is_small))
            .sum()
    }

    /// Each worker does the next image that nobody has done; seconds, and images that failed.
    fn drive<W: Send>(
        &self,
        workers: Vec<W>,
        one: impl Fn(&mut W, &Image) -> io::Result<()> + Sync,
    ) -> (f64, usize) {
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let line = Barrier::new(workers.len() + 1);
        let began = thread::scope(|scope| {
            for mut worker in workers {
                let (next, failed, line, one) = (&next, &failed, &line, &one);
                scope.spawn(move || {
                    line.wait();
                    while let Some(image) = self.image(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = one(&mut worker, &image) {
                            failed.fetch_add(1, Ordering::Relaxed);
                            if error.kind() != io::ErrorKind::Other {
                                return;
                            }
                        }
                    }
                });
            }
            line.wait();
            Instant::now()
        });
        let unsent = self
            .places
            .len()
            .saturating_sub(next.load(Ordering::Relaxed));
        (
            began.elapsed().as_secs_f64(),
            failed.load(Ordering::Relaxed) + unsent,
        )
    }

    fn plain_files(&self, folder: &Path, writers: usize) -> Value {
        let scratch = scratch(folder);
        let folders = (0..writers).map(|writer| {
            let folder = scratch.path().join(writer.to_string());
            fs::create_dir(&folder).expect("folder of a writer");
            folder
        });
        let (seconds, failed) = self.drive(folders.collect(), |folder: &mut PathBuf, image| {
            let mut file = File::create_new(folder.join(format!("{}.dcm", image.sop)))?;
            let mut parts = [IoSlice::new(&image.header), IoSlice::new(image.pixels)];
            modality::write_all(&mut file, &mut parts)?;
            file.sync_data()
        });
        let stored = self.places.len() - failed;
        json!({ "peer": "plain files", "associations": writers, "failed": failed,
            "images_per_second": stored as f64 / seconds })
    }

    fn measure(
        &self,
        which: Which,
        program: &Path,
        folder: &Path,
        associations: usize,
        ask: bool,
    ) -> Value {
        let scratch = scratch(folder);
        let sink = NullSink::start();
        let server = Running::start(which, program, scratch.path(), sink.port);
        let peak = Peak::watch(server.pid());
        let clients: Result<Vec<Client>, _> = (0..associations)
            .map(|_| server.associate(which, &OFFER))
            .collect();
        let mut clients = match clients {
            Ok(clients) => clients,
            // It takes fewer at a time.
            Err(error) => {
                return json!({ "peer": which.name(), "associations": associations, "error": error.to_string() });
            }
        };
        let links: Vec<Link> = clients.iter_mut().map(Link::of).collect();
        let before = cpu(server.pid());
        let (seconds, failed) = self.drive(links, Link::store);
        let used = cpu(server.pid()) - before;
        let stored = self.places.len() - failed;
        for client in clients {
            drop(client.release());
        }
        let mut row = json!({ "peer": which.name(), "associations": associations, "failed": failed,
            "images_per_second": stored as f64 / seconds,
            "megabytes_per_second": self.bytes() as f64 / 1e6 / seconds,
            "cpu_seconds_per_1000": used * 1000.0 / stored.max(1) as f64 });
        if ask && which.is_archive() {
            row["find"] = self.find(which, &server);
            if sink.child.is_some() {
                row["move"] = self.moved(which, &server);
            }
        }
        row["peak_mib"] = json!(peak.end() as f64 / f64::from(1 << 20));
        row
    }

    /// Of each kind of question the middle and the slowest hundredth, milliseconds, and how many were answered wrong.
    fn find(&self, which: Which, server: &Running) -> Value {
        let study = |number: usize| 1 + number * 7 % STUDIES_COUNT;
        let of_study = |tag: Tag, vr: &str, value: &str| {
            let mut keys: Vec<(Tag, &str, &str)> = [
                (Tag(0x0008, 0x0020), "DA"),
                (Tag(0x0008, 0x0030), "TM"),
                (Tag(0x0008, 0x0050), "SH"),
                (Tag(0x0008, 0x0052), "CS"),
                (Tag(0x0010, 0x0010), "PN"),
                (Tag(0x0010, 0x0020), "LO"),
                (Tag(0x0020, 0x000D), "UI"),
                (Tag(0x0020, 0x0010), "SH"),
            ]
            .into_iter()
            .map(|(tag, vr)| (tag, vr, ""))
            .collect();
            for key in &mut keys {
                match key.0 {
                    found if found == tag => *key = (tag, vr, value),
                    Tag(0x0008, 0x0052) => key.2 = "STUDY",
                    _ => {}
                }
            }
            ident(&keys)
        };
        let kinds: [(&str, usize, Identifier); 4] = [
            ("patient_id", 1, &|n| {
                of_study(Tag(0x0010, 0x0020), "LO", &patient_id(study(n)))
            }),
            ("name", 1, &|n| {
                let name = name(study(n));
                let beginning = name.split('^').next().unwrap_or_default();
                of_study(Tag(0x0010, 0x0010), "PN", &format!("{beginning}*"))
            }),
            ("dates", 7, &|n| {
                let first = 1 + n % (STUDIES_COUNT - 7);
                // Within a month, which has 28 days here.
                let first = first - (first % 28).saturating_sub(21);
                let range = format!("{}-{}", study_date(first), study_date(first + 6));
                of_study(Tag(0x0008, 0x0020), "DA", &range)
            }),
            ("series", SERIES_COUNT, &|_| {
                ident(&[
                    (Tag(0x0008, 0x0018), "UI", ""),
                    (Tag(0x0008, 0x0052), "CS", "IMAGE"),
                    (Tag(0x0020, 0x000D), "UI", &self.large.study_uid(0)),
                    (Tag(0x0020, 0x000E), "UI", &self.large.series_uid(0, 1)),
                    (Tag(0x0020, 0x0013), "IS", ""),
                ])
            }),
        ];
        let mut found = json!({});
        for (kind, count, identifier) in kinds {
            let mut client = server
                .associate(which, &[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])])
                .unwrap_or_else(|error| panic!("{}: {error}", which.name()));
            let begun = Instant::now();
            let (mut times, mut wrong) = (Vec::new(), 0);
            while times.len() < QUESTIONS_COUNT && begun.elapsed() < QUESTIONS_LIMIT {
                let identifier = identifier(times.len());
                let asked = Instant::now();
                let answers = client.c_find(1, &identifier);
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
                let right = answers
                    .as_ref()
                    .is_ok_and(|found| found.identifiers.len() == count);
                wrong += usize::from(!right);
                if answers.is_err() {
                    break;
                }
            }
            times.sort_by(f64::total_cmp);
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
            found[kind] = json!({ "p50_ms": at(0.5), "p99_ms": at(0.99), "wrong": wrong });
        }
        found
    }

    /// The large series to a receiver that throws it away.
    fn moved(&self, which: Which, server: &Running) -> Value {
        let mut client = server
            .associate(which, &[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])])
            .unwrap_or_else(|error| panic!("{}: {error}", which.name()));
        let identifier = ident(&[
            (Tag(0x0008, 0x0052), "CS", "SERIES"),
            (Tag(0x0020, 0x000D), "UI", &self.large.study_uid(0)),
            (Tag(0x0020, 0x000E), "UI", &self.large.series_uid(0, 1)),
        ]);
        let (before, begun) = (cpu(server.pid()), Instant::now());
        let moved = client.c_move(1, SINK, &identifier);
        let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu(server.pid()) - before);
        let completed = match moved {
            Ok(moved) => usize::from(moved.counters[1].unwrap_or(0)),
            Err(error) => return json!({ "failed": error.to_string() }),
        };
        json!({ "completed": completed, "images_per_second": completed as f64 / seconds,
            "cpu_seconds_per_1000": used * 1000.0 / completed.max(1) as f64 })
    }
}

/// Makes the identifier of a question, given its number.
type Identifier<'a> = &'a dyn Fn(usize) -> Vec<u8>;

/// A folder on the disk to be measured; what was written before does not count.
fn scratch(folder: &Path) -> Scratch {
    fs::create_dir_all(folder).expect("the folder of the measurement");
    let scratch = TempDir::new_in(folder).expect("a folder of the run");
    let root = File::open(scratch.path()).expect("the folder of the run");
    rustix::fs::syncfs(&root).expect("flush the file system");
    Scratch(Some(scratch))
}

/// Is emptied at its end, and deleted at that of the run: an ext4 without a journal looks at every file that was deleted
/// minutes ago when one is created, so that whoever is measured next would pay for who was before.
struct Scratch(Option<TempDir>);

static DONE: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());

impl Scratch {
    fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fn cut(folder: &Path) -> io::Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                match entry.file_type()? {
                    found if found.is_dir() => cut(&entry.path())?,
                    found if found.is_file() => {
                        File::options().write(true).open(entry.path())?.set_len(0)?;
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        let Some(folder) = self.0.take() else { return };
        if let Err(error) = cut(folder.path()) {
            eprintln!("{}: {error}", folder.path().display());
        }
        let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
        done.push(folder);
    }
}

/// DCMTK's storescp, which throws away what it gets; none where it is not installed.
struct NullSink {
    child: Option<Child>,
    port: u16,
}

impl NullSink {
    fn start() -> NullSink {
        let port = free_port();
        let child = tools::tool("storescp").map(|program| {
            let mut command = Command::new(program);
            command.args(["--fork", "-dhl", "-pdu", "131072", "--ignore", "-aet", SINK]);
            command.arg(port.to_string()).env("TCP_NODELAY", "1");
            listening(&mut command, port)
        });
        NullSink { child, port }
    }
}

impl Drop for NullSink {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// A Markdown table of the medians.
fn table(report: &[Vec<Value>], associations: &[u16]) {
    let mut associations = associations.to_vec();
    associations.sort_unstable();
    let mut names: Vec<&str> = Vec::new();
    for row in report.iter().flatten() {
        let name = row["peer"].as_str().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Plain files last: the limit of the machine.
    names.rotate_left(1);
    let middle = |name: &str, count: Option<u16>, pointer: &str| {
        let rows = report.iter().flatten().filter(|row| row["peer"] == name);
        let rows = rows.filter(|row| count.is_none_or(|count| row["associations"] == count));
        let mut values: Vec<f64> = rows
            .filter_map(|row| row.pointer(pointer)?.as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let mut columns: Vec<(String, Option<u16>, &str, usize)> = Vec::new();
    for count in &associations {
        columns.push((
            format!("images/s, {count} assoc."),
            Some(*count),
            "/images_per_second",
            0,
        ));
    }
    for count in &associations {
        columns.push((
            format!("CPU s/1000, {count}"),
            Some(*count),
            "/cpu_seconds_per_1000",
            2,
        ));
    }
    let last = associations.last().copied();
    columns.extend([
        (
            format!("peak MiB, {}", last.unwrap_or(0)),
            last,
            "/peak_mib",
            0,
        ),
        (
            "find ID p50 ms".to_owned(),
            None,
            "/find/patient_id/p50_ms",
            2,
        ),
        ("p99".to_owned(), None, "/find/patient_id/p99_ms", 2),
        ("find name* p50".to_owned(), None, "/find/name/p50_ms", 2),
        ("find dates p50".to_owned(), None, "/find/dates/p50_ms", 2),
        (
            "find 1,000 images p50".to_owned(),
            None,
            "/find/series/p50_ms",
            1,
        ),
        (
            "move images/s".to_owned(),
            None,
            "/move/images_per_second",
            0,
        ),
        (
            "move CPU s/1000".to_owned(),
            None,
            "/move/cpu_seconds_per_1000",
            2,
        ),
        ("failed".to_owned(), None, "/failed", 0),
    ]);
    let titles: Vec<&str> = columns.iter().map(|(title, ..)| title.as_str()).collect();
    println!(
        "| | {} |\n|---|{}",
        titles.join(" | "),
        "--:|".repeat(columns.len())
    );
    for name in names {
        let cells =
            columns.iter().map(
                |(_, count, pointer, digits)| match middle(name, *count, pointer) {
                    Some(value) => format!("{value:.digits$}"),
                    None => String::new(),
                },
            );
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
