//! How fast images come in and are durable, against what the same machine can do at the same moment.
//!
//! **The number it defends**: durable, at 4 associations, Kura stores at least **0.3** of the images per second that
//! plain files are written with (create, write, `fdatasync`, close; no network, no names to make durable, no ledger, no
//! index). Read it in the column `/FILES` of the row `kura` at 4 associations. Images per second depend on the disk and on
//! who else uses it, so only a ratio within one run says anything; nothing here fails because of a time.
//! `benches/README.md` says how to read the rest.
//!
//! Several ways in, one right after the other and again in each repetition, so that a disk that is slow for a minute is
//! slow for all of them:
//!
//! - `kura`: the built server on an empty volume; N associations send, each the next image when the last was answered.
//!   `direct` and `journal` are the same with one way of being durable or the other, `kura` chooses by itself.
//! - `raw TCP`: the same bytes over N connections to a sink that throws them away and gives an answer of the same size.
//!   This is also what the sender itself can do: far above `kura`, the sender is not what is measured.
//! - `plain files`: the same images written by N threads.
//!
//! On a disk whose flush takes 10 ms, as a hard disk's does, **70** images per second with one association through the
//! journal and **400** with sixteen, and **1.1** and **0.3** flushes for an acknowledged image, those of carrying over apart.
//!
//! `cargo bench --bench ingest` takes under two minutes, `-- --quick` under twenty seconds.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use socket2::SockRef;
use tempfile::TempDir;

#[path = "../tests/common/mod.rs"]
mod common;
mod modality;

use common::build::{CT_IMAGE_STORAGE, Tag, put};
use common::elements::Syntax;
use common::{Client, Server, Settings, wire};
use modality::{CONTEXT_ID, Image, Link, Modality, OFFER, Place, process_cpu, write_all};

/// What one run may put on the disk, in images: 2.1 GB. A very fast disk ends a run before its time is over. With
/// `--seconds` a run has all the room that there is but this.
const IMAGES_MAX: usize = 4_000;

const IMAGES_PER_SERIES: usize = 100;
const SERIES_PER_STUDY: usize = 5;

/// `f_type` of a file system in memory (`statfs(2)`).
const TMPFS_MAGIC: i128 = 0x0102_1994;

/// Images per second, durable, beside what the machine can do.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench ingest --")]
struct Arguments {
    /// One repetition of one second each: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// One JSON object per row on stdout, no table
    #[arg(long)]
    json: bool,
    /// Repetitions; medians are printed [default: 3, or 1 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: Option<u16>,
    /// Seconds that each run takes [default: 3, or 1 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Which ways are measured
    #[arg(long, value_delimiter = ',', default_values = ["kura", "tcp", "files"])]
    ways: Vec<Way>,
    /// How many associations at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16], value_parser = clap::value_parser!(u16).range(1..=64))]
    associations: Vec<u16>,
    /// Rows of an image of 512 columns of 16 bits; 128 is as large as an MR image of 256 × 256
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..=8_192))]
    rows: u16,
    /// Size of the intake journal in MiB: while it has room, images are only written once
    #[arg(long, default_value_t = 512)]
    journal_mib: u64,
    /// Print the rate and the memory of the server every so many seconds
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Way {
    Kura,
    Direct,
    Journal,
    #[value(name = "tcp")]
    RawTcp,
    #[value(name = "files")]
    PlainFiles,
}

impl Way {
    fn is_server(self) -> bool {
        matches!(self, Way::Kura | Way::Direct | Way::Journal)
    }

    fn name(self) -> &'static str {
        match self {
            Way::Kura => "kura",
            Way::Direct => "direct",
            Way::Journal => "journal",
            Way::RawTcp => "raw TCP",
            Way::PlainFiles => "plain files",
        }
    }
}

/// One run of one way.
struct Run {
    associations: usize,
    way: Way,
    images: usize,
    seconds: f64,
    /// CPU time of the server process, seconds.
    server_cpu: Option<f64>,
    /// CPU time of the threads that send or write, seconds; `None` where the kernel does not count it.
    sender_cpu: Option<f64>,
    /// Flushes that answers waited for, and all others; `None` where the kernel does not count them.
    flushes: Option<(u64, u64)>,
    /// Most memory that the server process had, bytes.
    server_peak: Option<u64>,
}

impl Run {
    fn rate(&self) -> f64 {
        self.images as f64 / self.seconds
    }

    fn per_thousand(&self, seconds: Option<f64>) -> Option<f64> {
        Some(seconds? * 1000.0 / self.images as f64)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benches too.
        eprintln!("ingest measures nothing unless run by: cargo bench --bench ingest");
        return ExitCode::SUCCESS;
    }
    let folder = std::env::var_os("KURA_BENCH_DIR")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    fs::create_dir_all(&folder).expect("the folder of the measurement");
    let system = rustix::fs::statfs(&folder).expect("the file system of the folder");
    if i128::from(system.f_type) == TMPFS_MAGIC {
        eprintln!(
            "error: {} is in memory, where nothing becomes durable; name a folder on a disk in KURA_BENCH_DIR",
            folder.display()
        );
        return ExitCode::from(2);
    }
    let default = if arguments.quick { 1 } else { 3 };
    let span = Duration::from_secs(arguments.seconds.unwrap_or(default));
    let default = if arguments.quick { 1 } else { 3 };
    let repetitions = usize::from(arguments.repetitions.unwrap_or(default));

    let run_id = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let modality = Modality::new(arguments.rows, run_id);
    let images_max = match arguments.seconds {
        None => IMAGES_MAX,
        // Beside the journal, and with a part for the index.
        Some(_) => {
            let free = system.f_bavail as u64 * system.f_bsize as u64;
            let free = free.saturating_sub((arguments.journal_mib << 20) + (1 << 30));
            (free / 11 * 10 / modality.pixel_bytes as u64) as usize
        }
    };
    let bench = Bench {
        folder,
        images_max,
        journal_bytes: arguments.journal_mib << 20,
        every: arguments.every.map(Duration::from_secs),
        span,
        modality,
    };
    // One row per repetition; the order of the ways turns, so that none always comes after the same one.
    let mut runs: Vec<Vec<Run>> = Vec::new();
    for repetition in 0..repetitions {
        let mut row = Vec::new();
        for associations in arguments.associations.iter().map(|n| usize::from(*n)) {
            for step in 0..arguments.ways.len() {
                let way = arguments.ways[(repetition + step) % arguments.ways.len()];
                let run = bench.run(way, associations);
                eprintln!(
                    "repetition {} of {repetitions}: {associations:>2} × {:<11} {:>7.1} images/s",
                    repetition + 1,
                    way.name(),
                    run.rate()
                );
                row.push(run);
            }
        }
        runs.push(row);
    }
    let report = Report {
        image_bytes: bench.image(0, 0).bytes(),
        span,
        runs: &runs,
        associations: &arguments.associations,
        ways: &arguments.ways,
    };
    if arguments.json {
        report.json();
    } else {
        report.table();
    }
    ExitCode::SUCCESS
}

struct Bench {
    folder: PathBuf,
    images_max: usize,
    journal_bytes: u64,
    every: Option<Duration>,
    span: Duration,
    modality: Modality,
}

impl Bench {
    /// The images of a sender, one after the other.
    fn image(&self, sender: usize, index: usize) -> Image<'_> {
        let series = index / IMAGES_PER_SERIES;
        let place = Place {
            study: sender * 10_000 + series / SERIES_PER_STUDY,
            series: series + 1,
            number: index % IMAGES_PER_SERIES + 1,
        };
        Image::new(&self.modality, place)
    }

    fn run(&self, way: Way, associations: usize) -> Run {
        let scratch = TempDir::new_in(&self.folder).expect("a folder of the run");
        // What the run before left in memory, and the blocks it gave back, are its business.
        let root = File::open(scratch.path()).expect("the folder of the run");
        rustix::fs::syncfs(&root).expect("flush the file system");
        match way {
            Way::Kura | Way::Direct | Way::Journal => self.kura(way, associations, scratch.path()),
            Way::RawTcp => self.raw_tcp(associations),
            Way::PlainFiles => self.plain_files(associations, scratch.path()),
        }
    }

    fn kura(&self, way: Way, associations: usize, folder: &Path) -> Run {
        let mode = match way {
            Way::Direct => "direct",
            Way::Journal => "journal",
            _ => "auto",
        };
        let settings = Settings {
            extra: format!(
                "[intake]\nmode = \"{mode}\"\nsize_bytes = {}\n",
                self.journal_bytes
            ),
            ..Settings::default()
        };
        let mut server = Server::in_folder(settings, folder);
        let mut clients: Vec<Client> = (0..associations)
            .map(|_| server.associate(&OFFER))
            .collect();
        let links = clients.iter_mut().map(Link::of).collect();
        let before = process_cpu(server.pid());
        let journal_before = journal_flushes(&server);
        let disk_before = disk_flushes(folder);
        let watch = self.every.map(|every| Watch::start(server.pid(), every));
        let mut run = self.drive(way, links, Link::store);
        drop(watch);
        let disk = disk_flushes(folder).zip(disk_before);
        let disk = disk.map(|(after, before)| after - before);
        let journal = journal_flushes(&server).zip(journal_before);
        let journal = journal.map(|(after, before)| after - before);
        run.flushes = disk.map(|disk| match journal {
            Some(journal) => (journal, disk.saturating_sub(journal)),
            None => (disk, 0),
        });
        // The answer to the release comes when all work of the association is done.
        for client in clients {
            client.release().expect("release");
        }
        run.server_cpu = Some(process_cpu(server.pid()) - before);
        run.server_peak = memory(server.pid(), "VmHWM:");
        // What waits in a journal gets its file now at the latest.
        server.terminate();
        let stored = stored_files(&server.volume("A"), self.modality.pixel_bytes);
        assert_eq!(stored, run.images, "images on the volume");
        run
    }

    fn raw_tcp(&self, associations: usize) -> Run {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the sink");
        let address = listener.local_addr().expect("the port of the sink");
        let mut links = Vec::new();
        let mut sinks = Vec::new();
        for _ in 0..associations {
            let stream = TcpStream::connect(address).expect("the sink");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let limit = Some(Duration::from_secs(60));
            stream.set_read_timeout(limit).expect("a time limit");
            links.push(Link::new(stream, 131_072));
            let (stream, _) = listener.accept().expect("a connection to the sink");
            let image_bytes = self.image(0, 0).wire_bytes(131_072);
            sinks.push(thread::spawn(move || sink(stream, image_bytes)));
        }
        let run = self.drive(Way::RawTcp, links, Link::store);
        for sink in sinks {
            sink.join().expect("the sink").expect("the sink's socket");
        }
        run
    }

    fn plain_files(&self, writers: usize, folder: &Path) -> Run {
        let folders = (0..writers)
            .map(|writer| {
                let folder = folder.join(format!("writer-{writer}"));
                fs::create_dir(&folder).expect("folder of a writer");
                folder
            })
            .collect();
        self.drive(Way::PlainFiles, folders, |folder: &mut PathBuf, image| {
            let mut file = File::create_new(folder.join(format!("{}.dcm", image.sop)))?;
            let mut parts = [IoSlice::new(&image.header), IoSlice::new(image.pixels)];
            write_all(&mut file, &mut parts)?;
            file.sync_data()
        })
    }

    /// One thread for each of `workers`; each does one image after the other until the time is over.
    fn drive<W: Send>(
        &self,
        way: Way,
        workers: Vec<W>,
        one: impl Fn(&mut W, &Image) -> io::Result<()> + Sync,
    ) -> Run {
        let count = workers.len();
        let (start_line, one) = (Barrier::new(count), &one);
        let bytes = self.image(0, 0).bytes();
        // No disk, so a third of the time is enough, and nothing fills up.
        let (span, most) = match way {
            Way::RawTcp => (self.span / 3, usize::MAX),
            _ => (self.span, self.images_max / count),
        };
        let work = |number: usize, mut worker: W| {
            start_line.wait();
            let (start, cpu) = (Instant::now(), thread_cpu());
            let mut images = 0;
            while start.elapsed() < span && images < most {
                let image = self.image(number, images);
                assert_eq!(image.bytes(), bytes, "length of image {images}");
                if let Err(error) = one(&mut worker, &image) {
                    panic!("{} image {images}: {error}", way.name());
                }
                images += 1;
                DONE.fetch_add(1, Ordering::Relaxed);
            }
            let end = Instant::now();
            let cpu = cpu.zip(thread_cpu()).map(|(before, after)| after - before);
            (start, end, images, cpu)
        };
        let done: Vec<_> = thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = workers
                .into_iter()
                .enumerate()
                .map(|(number, worker)| scope.spawn(move || work(number, worker)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a sending thread"))
                .collect()
        });
        let start = done.iter().map(|(start, ..)| *start).min();
        let end = done.iter().map(|(_, end, ..)| *end).max();
        let elapsed = start.zip(end).map(|(start, end)| end - start);
        Run {
            associations: count,
            way,
            images: done.iter().map(|(_, _, images, _)| images).sum(),
            seconds: elapsed.expect("at least one worker").as_secs_f64(),
            server_cpu: None,
            flushes: None,
            server_peak: None,
            sender_cpu: done.iter().map(|(.., cpu)| *cpu).sum(),
        }
    }
}

/// Images that were answered, of all runs.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Says on stderr how it goes, until it is dropped.
struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    fn start(pid: u32, every: Duration) -> Watch {
        let (stop, stopped) = channel::<()>();
        let thread = thread::spawn(move || {
            let begun = Instant::now();
            let (mut last, mut since) = (DONE.load(Ordering::Relaxed), begun);
            let mut rates: Vec<f64> = Vec::new();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let now = DONE.load(Ordering::Relaxed);
                let rate = (now - last) as f64 / since.elapsed().as_secs_f64();
                (last, since) = (now, Instant::now());
                rates.push(rate);
                let megabytes = memory(pid, "VmRSS:").unwrap_or_default() as f64 / 1e6;
                eprintln!(
                    "{:>5} s  {rate:>7.1} images/s  server {megabytes:>6.1} MB",
                    begun.elapsed().as_secs()
                );
            }
            if let Some(median) = median(&rates) {
                let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
                let most = rates.iter().copied().fold(0.0, f64::max);
                eprintln!(
                    "each {} s: {median:.1} images/s, {:+.0} % to {:+.0} %",
                    every.as_secs(),
                    (least / median - 1.0) * 100.0,
                    (most / median - 1.0) * 100.0
                );
            }
        });
        Watch {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("who watches");
        }
    }
}

/// Flushes of the journals of a server so far; `None` where there is none.
fn journal_flushes(server: &Server) -> Option<u64> {
    let status = server.kura(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("the status");
    let volumes = status["volumes"].as_array().expect("volumes");
    let flushes = volumes
        .iter()
        .map(|v| v["intake_journal"]["flushes"].as_u64());
    flushes.sum()
}

/// Flushes of the disk of a folder so far: field 16 of `/sys/dev/block/MAJOR:MINOR/stat`.
fn disk_flushes(folder: &Path) -> Option<u64> {
    let device = rustix::fs::stat(folder).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    text.split_whitespace().nth(15)?.parse().ok()
}

/// A line of `/proc/PID/status`, bytes.
fn memory(pid: u32, line: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let found = text.lines().find_map(|text| text.strip_prefix(line))?;
    let kilobytes: u64 = found.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Throws away what comes; after each image an answer as a C-STORE's.
fn sink(mut stream: TcpStream, image_bytes: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut body = Vec::new();
    let mut element = |element, value: &[u8]| {
        let syntax = Syntax::IMPLICIT_LITTLE;
        put(&mut body, syntax, Tag(0, element), "UI", value);
    };
    element(0x0002, CT_IMAGE_STORAGE.as_bytes());
    element(0x0100, &0x8001u16.to_le_bytes());
    element(0x0120, &1u16.to_le_bytes());
    element(0x0800, &0x0101u16.to_le_bytes());
    element(0x0900, &0u16.to_le_bytes());
    element(0x1000, &[b'1'; 36]);
    let answer = wire::pdv(CONTEXT_ID, true, true, &body);
    let mut buffer = vec![0; 256 * 1024];
    let mut left = image_bytes;
    loop {
        SockRef::from(&stream).set_tcp_quickack(true)?;
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            // The sender waits for the answer, so no read goes past an image.
            count => left -= count,
        }
        if left == 0 {
            stream.write_all(&answer)?;
            left = image_bytes;
        }
    }
}

/// CPU time of the calling thread, seconds. A tick is too coarse for sixteen of them.
fn thread_cpu() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds as f64 / 1e9)
}

/// Files of the size of an image below the date folders of a volume.
fn stored_files(volume: &Path, pixel_bytes: usize) -> usize {
    let is_date = |name: &std::ffi::OsStr| name.to_string_lossy().parse::<u32>().is_ok();
    walkdir::WalkDir::new(volume)
        .into_iter()
        .filter_entry(|entry| entry.depth() != 1 || is_date(entry.file_name()))
        .map(|entry| entry.expect("a folder of the volume"))
        .filter(|entry| {
            let length = entry.metadata().expect("a file of the volume").len();
            entry.file_type().is_file() && length > pixel_bytes as u64
        })
        .count()
}

struct Report<'a> {
    image_bytes: usize,
    span: Duration,
    runs: &'a [Vec<Run>],
    associations: &'a [u16],
    ways: &'a [Way],
}

/// One line of the table: medians over the repetitions.
struct Row {
    associations: usize,
    way: Way,
    rates: Vec<f64>,
    /// How long the runs really took.
    seconds: Vec<f64>,
    server_cpu: Option<f64>,
    sender_cpu: Option<f64>,
    /// Kura's images per second over the other's, repetition by repetition.
    over_files: Vec<f64>,
    over_tcp: Vec<f64>,
    over_direct: Vec<f64>,
    over_journal: Vec<f64>,
    /// For an image: those that answers waited for, and the others.
    flushes: Option<(f64, f64)>,
    server_peak: Option<u64>,
}

impl Report<'_> {
    fn rows(&self) -> impl Iterator<Item = Row> {
        self.associations.iter().flat_map(move |associations| {
            let ways = self.ways.iter();
            ways.map(move |way| self.row(usize::from(*associations), *way))
        })
    }

    fn row(&self, associations: usize, way: Way) -> Row {
        let of = |way: Way| -> Vec<&Run> {
            let this = |run: &&Run| run.associations == associations && run.way == way;
            let each = self.runs.iter();
            each.filter_map(|row| row.iter().find(this)).collect()
        };
        let over = |other: Way| -> Vec<f64> {
            if !way.is_server() || way == other {
                return Vec::new();
            }
            of(way)
                .iter()
                .zip(of(other))
                .map(|(own, other)| own.rate() / other.rate())
                .collect()
        };
        let cpu = |of_run: fn(&Run) -> Option<f64>| {
            let values: Option<Vec<f64>> = of(way)
                .iter()
                .map(|run| run.per_thousand(of_run(run)))
                .collect();
            median(&values?)
        };
        Row {
            associations,
            way,
            rates: of(way).iter().map(|run| run.rate()).collect(),
            seconds: of(way).iter().map(|run| run.seconds).collect(),
            server_cpu: cpu(|run| run.server_cpu),
            sender_cpu: cpu(|run| run.sender_cpu),
            over_files: over(Way::PlainFiles),
            over_tcp: over(Way::RawTcp),
            over_direct: over(Way::Direct),
            over_journal: over(Way::Journal),
            flushes: self.flushes(&of(way)),
            server_peak: of(way).iter().filter_map(|run| run.server_peak).max(),
        }
    }

    fn flushes(&self, runs: &[&Run]) -> Option<(f64, f64)> {
        let all: Option<Vec<(f64, f64)>> = runs
            .iter()
            .map(|run| {
                let (answering, others) = run.flushes?;
                let of_one = |flushes: u64| flushes as f64 / run.images as f64;
                Some((of_one(answering), of_one(others)))
            })
            .collect();
        let (answering, others): (Vec<f64>, Vec<f64>) = all?.into_iter().unzip();
        Some((median(&answering)?, median(&others)?))
    }

    fn table(&self) {
        println!(
            "CT images of {} bytes; {} s each (raw TCP a third); medians (least–most) of repetitions: {}",
            self.image_bytes,
            self.span.as_secs(),
            self.runs.len(),
        );
        println!(
            "{:>5}  {:<11}  {:>9}  {:>8}  {:>14}  {:>18}  {:>18}  {:<19}  {:<19}  {:<19}  /JOURNAL",
            "ASSOC",
            "WAY",
            "IMAGES/S",
            "MB/S",
            "FLUSHES/IMAGE",
            "SERVER CPU S/1000",
            "SENDER CPU S/1000",
            "/FILES",
            "/TCP",
            "/DIRECT"
        );
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for row in self.rows() {
            let rate = median(&row.rates).unwrap_or_default();
            // Those that answers waited for, and the others.
            let flushes = match row.flushes {
                Some((answering, others)) => format!("{answering:.2} + {others:.2}"),
                None => "-".to_owned(),
            };
            let line = format!(
                "{:>5}  {:<11}  {rate:>9.1}  {:>8.1}  {flushes:>14}  {:>18}  {:>18}  {:<19}  {:<19}  {:<19}  {}",
                row.associations,
                row.way.name(),
                rate * self.image_bytes as f64 / 1e6,
                number(row.server_cpu),
                number(row.sender_cpu),
                ratio(&row.over_files),
                ratio(&row.over_tcp),
                ratio(&row.over_direct),
                ratio(&row.over_journal),
            );
            println!("{}", line.trim_end());
        }
    }

    fn json(&self) {
        for row in self.rows() {
            let rate = median(&row.rates).unwrap_or_default();
            let line = serde_json::json!({
                "version": 1,
                "bench": "ingest",
                "way": row.way.name(),
                "associations": row.associations,
                "image_bytes": self.image_bytes,
                "seconds_each": row.seconds,
                "images_per_second": rate,
                "bytes_per_second": rate * self.image_bytes as f64,
                "images_per_second_each": row.rates,
                "server_cpu_seconds_per_1000": row.server_cpu,
                "sender_cpu_seconds_per_1000": row.sender_cpu,
                "over_plain_files": median(&row.over_files),
                "over_plain_files_each": row.over_files,
                "over_raw_tcp": median(&row.over_tcp),
                "over_raw_tcp_each": row.over_tcp,
                "over_direct": median(&row.over_direct),
                "over_direct_each": row.over_direct,
                "over_journal": median(&row.over_journal),
                "over_journal_each": row.over_journal,
                "answering_flushes_per_image": row.flushes.map(|(answering, _)| answering),
                "other_flushes_per_image": row.flushes.map(|(_, others)| others),
                "server_peak_bytes": row.server_peak,
            });
            println!("{line}");
        }
    }
}

/// `None` of nothing; of an even count the mean of the middle two.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn ratio(values: &[f64]) -> String {
    let Some(median) = median(values) else {
        return String::new();
    };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    if values.len() == 1 {
        format!("{median:.3}")
    } else {
        format!("{median:.3} ({least:.3}–{most:.3})")
    }
}
