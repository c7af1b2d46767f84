//! How long a query takes in a large archive, asked as a workstation asks.
//!
//! **The numbers it defends**, at 20,000,000 instances while a modality stores 20 images a second: exact keys (patient id,
//! accession number, UIDs) are answered in less than **5 ms** in 99 of 100 cases, the list of a day in less than
//! **50 ms**; a leading wildcard takes less than **1 s** for a million studies; and an index of 5,000,000 instances is open
//! again **2 s** after a crash. Nothing here fails because of a number: they are printed, a person reads.
//!
//! The ledger of a made-up hospital (`hospital/`) is written with the real code; there are no images. A process of its own
//! makes the index from it, then the built server answers C-FIND, one query after the other on one association, each to
//! its last answer: idle, beside one association that stores 20 images a second, and beside four that store as fast as
//! they are answered. Then it is killed and started again. In the end this process asks the index itself: what of an idle
//! server's time is the engine's, and what that of the network.
//!
//! `-- --json > 1m.json`, the same for other sizes, and `-- --plot docs/figures/queries.svg 1m.json …` make the drawing of
//! the README.
//!
//! `cargo bench --bench find` takes 1,000,000 instances, `-- --instances 20000000` needs 25 GB of disk.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;

use kura::archive::{Archive, Mode};
use kura::config::Config;
use kura::dicom::{Level, VR};
use kura::index::{Key, Query, Snapshot, Step};
use kura::volume::io::Disk;
use kura::volume::{Ledger, layout};

#[path = "../tests/common/mod.rs"]
mod common;
mod hospital;
mod ledgers;
mod plot;

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, ident};
use common::{Random, Server, Settings, wire};
use hospital::{GROUP, Hospital};
use ledgers::{
    EngineArgument, bytes_below, cpu_seconds, drop_from_memory, folder_of, peak_memory, volume_id,
};

const VOLUME: &str = "volume-a";

/// An index that is not complete after this long is a failure of the measurement.
const PATIENCE: Duration = Duration::from_secs(3600 * 3);

/// Queries of one kind under one load, if they do not take too long; at least so many in any case.
const QUERIES: usize = 200;
const QUERIES_MIN: usize = 20;

/// From one query to the next beside a load, so that they meet more than one of its commits and flushes.
const PAUSE: Duration = Duration::from_millis(10);

/// Pixels of the images that are stored meanwhile, bytes. Small: it is commits and flushes that a query could wait for, and
/// there is a disk to be filled.
const PIXEL_BYTES: usize = 32 << 10;

const FIND: u8 = 1;
const STORE: u8 = 3;

/// How long queries take in a large archive.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench find --")]
struct Arguments {
    /// How many instances the archive has, about
    #[arg(long, default_value_t = 1_000_000)]
    instances: u64,
    #[arg(long, value_enum, default_value_t = EngineArgument::Redb)]
    engine: EngineArgument,
    /// Make ledger and index in this folder, leave them there, and use them again the next time
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Only queries with this in their name
    #[arg(long, default_value = "")]
    query: String,
    /// Only the idle server
    #[arg(long)]
    idle: bool,
    /// Seconds that the queries of one kind may take under one load
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// One JSON object on stdout, no table
    #[arg(long)]
    json: bool,
    /// Draw the reports of runs with --json into this file, and measure nothing
    #[arg(long, value_name = "SVG", num_args = 1, requires = "reports")]
    plot: Option<PathBuf>,
    /// For --plot
    #[arg(value_name = "REPORT")]
    reports: Vec<PathBuf>,
    /// What the process that makes the index is given
    #[arg(long, hide = true)]
    measure: Option<PathBuf>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benches too.
        eprintln!("find measures nothing unless run by: cargo bench --bench find");
        return ExitCode::SUCCESS;
    }
    if let Some(folder) = &arguments.measure {
        println!("{}", make_index(folder));
        return ExitCode::SUCCESS;
    }
    if let Some(drawing) = &arguments.plot {
        let read = |path: &PathBuf| {
            let text = fs::read(path).expect("a report");
            serde_json::from_slice(&text).expect("a report of a run with --json")
        };
        let reports: Vec<serde_json::Value> = arguments.reports.iter().map(read).collect();
        fs::write(drawing, plot::svg(&reports, Load::OneModality.name())).expect("the drawing");
        return ExitCode::SUCCESS;
    }
    let (scratch, folder) = folder_of(arguments.keep.as_deref());
    if let Some(scratch) = &scratch {
        remove_when_interrupted(scratch.path());
    }
    let report = measure(&arguments, &folder);
    if arguments.json {
        println!("{report}");
    } else {
        table(&report);
    }
    ExitCode::SUCCESS
}

/// Ctrl-C ends this process without its destructors; the server ends by the same signal.
fn remove_when_interrupted(folder: &Path) {
    let folder = folder.to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // What is still being written there makes it fail.
            for _ in 0..20 {
                if fs::remove_dir_all(&folder).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(250));
            }
            std::process::exit(130);
        }
    });
}

fn measure(arguments: &Arguments, folder: &Path) -> serde_json::Value {
    let hospital = Hospital::new(arguments.instances);
    let volume = folder.join(VOLUME);
    let mut report = serde_json::json!({});
    if !folder.join("made").exists() {
        fs::create_dir_all(&volume).expect("the folder of the volume");
        let begun = Instant::now();
        let config = configuration(folder, arguments.engine);
        drop(Archive::open(&config, Mode::Create).expect("a new archive"));
        make_ledger(&hospital, &volume);
        eprintln!("ledger: {:.1} s", begun.elapsed().as_secs_f64());
        // From now on it is used again.
        fs::write(folder.join("made"), arguments.instances.to_string()).expect("a note");
    }
    let made = fs::read_to_string(folder.join("made")).expect("the note");
    assert_eq!(made, arguments.instances.to_string(), "instances kept");
    configuration(folder, arguments.engine);
    let index_note = folder.join(format!("index-{}.json", arguments.engine.name()));
    if !index_note.exists() {
        report["ledger_bytes"] = drop_from_memory(&volume).into();
        let _ = fs::remove_dir_all(folder.join("state/index"));
        let built = in_a_process_of_its_own(folder);
        for (name, value) in built.as_object().expect("an object") {
            report[name] = value.clone();
        }
        link_sealed_segments(folder);
        for engine in ["redb", "sled"] {
            let _ = fs::remove_file(folder.join(format!("index-{engine}.json")));
        }
        fs::write(&index_note, report.to_string()).expect("a note");
    }
    let note = fs::read(&index_note).expect("what was built");
    report = serde_json::from_slice(&note).expect("what was built");
    report["version"] = 1.into();
    report["bench"] = "find".into();
    report["engine"] = arguments.engine.name().into();

    let settings = Settings {
        volumes: vec![("A".into(), VOLUME.into(), "archive".into())],
        extra: settings(arguments.engine),
        ..Settings::default()
    };
    let mut server = Server::in_folder(settings, folder);
    server.wait_until_indexed();
    settle(&server);
    let mut queries = Vec::new();
    let loads: &[Load] = match arguments.idle {
        true => &[Load::Idle],
        false => &[Load::Idle, Load::OneModality, Load::FullSpeed],
    };
    let kinds: Vec<&Kind> = KINDS
        .iter()
        .filter(|kind| kind.name.contains(&arguments.query))
        .collect();
    for load in loads {
        let stop = AtomicBool::new(false);
        let stored = AtomicU64::new(0);
        let begun = Instant::now();
        thread::scope(|scope| {
            for sender in 0..load.senders() {
                let (server, stop, stored) = (&server, &stop, &stored);
                scope.spawn(move || store(server, *load, sender, stop, stored));
            }
            for kind in &kinds {
                let pause = if load.senders() == 0 {
                    Duration::ZERO
                } else {
                    PAUSE
                };
                let mut row = ask(&server, &hospital, kind, arguments.seconds, pause);
                row["load"] = load.name().into();
                eprintln!(
                    "{:<8} {:<24} p50 {:>8.2} ms, p99 {:>8.2} ms",
                    load.name(),
                    kind.name,
                    row["p50_ms"].as_f64().unwrap_or_default(),
                    row["p99_ms"].as_f64().unwrap_or_default()
                );
                queries.push(row);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let rate = stored.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        report[format!("stored_per_second_{}", load.name())] = rate.into();
    }
    report["queries"] = queries.into();
    report["server_peak_memory_bytes"] = peak_memory(&server.pid().to_string()).into();

    // Killed a moment after images came in.
    let (stop, stored) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for sender in 0..Load::FullSpeed.senders() {
            let (server, stop, stored) = (&server, &stop, &stored);
            scope.spawn(move || store(server, Load::FullSpeed, sender, stop, stored));
        }
        thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    server.kill();
    report["open_after_kill"] = reopen(&mut server);
    settle(&server);
    server.terminate();
    report["open_after_stop"] = reopen(&mut server);
    server.terminate();
    let config = configuration(folder, arguments.engine);
    without_network(&config, &hospital, arguments.seconds, &mut report);
    let _ = fs::remove_dir_all(volume.join(STUDY_DATE));
    report
}

/// Adds to the rows of the idle server how long the index itself takes for the same queries.
fn without_network(
    config: &Config,
    hospital: &Hospital,
    seconds: u64,
    report: &mut serde_json::Value,
) {
    let archive = Archive::open(config, Mode::Existing).expect("the archive");
    let begun = Instant::now();
    while archive
        .view()
        .expect("the index")
        .rebuilding_percent
        .is_some()
    {
        assert!(begun.elapsed() < PATIENCE, "the index is not complete");
        thread::sleep(Duration::from_millis(20));
    }
    let rows = report["queries"].as_array_mut().expect("rows");
    for row in rows.iter_mut().filter(|row| row["load"] == "idle") {
        let kind = KINDS.iter().find(|kind| row["query"] == kind.name);
        let kind = kind.expect("a kind of query");
        let mut random = Random::new(4711);
        let mut times = Vec::new();
        let all_begun = Instant::now();
        while times.len() < QUERIES
            && (times.len() < QUERIES_MIN || all_begun.elapsed() < Duration::from_secs(seconds))
        {
            let study = random.between(0, hospital.studies);
            let query = query(kind.level, (kind.keys)(hospital, study));
            let begun = Instant::now();
            let view = archive.view().expect("the index");
            let count = count(&view.snapshot, &query);
            times.push(begun.elapsed());
            let expected = kind.answers.unwrap_or(count);
            assert_eq!(count, expected, "answers to {} {study}", kind.name);
        }
        times.sort();
        row["engine_p50_ms"] = at(&times, 0.5).into();
        row["engine_p99_ms"] = at(&times, 0.99).into();
        eprintln!(
            "{:<8} {:<24} p50 {:>8.2} ms, p99 {:>8.2} ms",
            "engine",
            kind.name,
            at(&times, 0.5),
            at(&times, 0.99)
        );
    }
}

/// As an identifier with the same keys is read.
fn query(level: &str, asked: Vec<Asked>) -> Query {
    let level = match level {
        "STUDY" => Level::Study,
        "SERIES" => Level::Series,
        _ => Level::Instance,
    };
    let keys = asked.into_iter().map(|(Tag(group, element), vr, value)| {
        let vr = match vr {
            "DA" => VR::DA,
            "PN" => VR::PN,
            "UI" => VR::UI,
            "CS" => VR::CS,
            "SH" => VR::SH,
            _ => VR::LO,
        };
        Key::new(u32::from(group) << 16 | u32::from(element), vr, value)
    });
    Query::new(level, keys.collect())
}

fn count(snapshot: &Snapshot, query: &Query) -> usize {
    let mut count = 0;
    let step = &mut |step| {
        count += usize::from(matches!(step, Step::Found(_)));
        ControlFlow::Continue(())
    };
    snapshot.search(query, step).expect("matches");
    count
}

/// From the start of the process to its first answer, and to the first that says it is complete; seconds.
fn reopen(server: &mut Server) -> serde_json::Value {
    let begun = Instant::now();
    server.restart();
    let mut client = server.associate(CONTEXTS);
    let nobody = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0020, 0x000D), "UI", "2.25.1"),
    ]);
    let mut first = None;
    loop {
        let found = client.c_find(FIND, &nobody).expect("a query");
        first = first.or(Some(begun.elapsed().as_secs_f64()));
        if found.status == 0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "still {:?}", found.comment);
        thread::sleep(Duration::from_millis(5));
    }
    let complete = begun.elapsed().as_secs_f64();
    client.release().expect("release");
    serde_json::json!({ "first_answer_seconds": first, "complete_seconds": complete })
}

/// Lines put before the tables of `kura.toml`. Nothing reads the images, which are not there.
fn settings(engine: EngineArgument) -> String {
    format!(
        "engine = \"{}\"\n[scrub]\ndays = 0\n[intake]\nmode = \"direct\"\n",
        engine.name()
    )
}

fn configuration(folder: &Path, engine: EngineArgument) -> Config {
    let text = format!(
        "state = {:?}\n{}[[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n",
        folder.join("state"),
        settings(engine),
        folder.join(VOLUME)
    );
    let file = folder.join("kura.toml");
    fs::write(&file, text).expect("the configuration");
    Config::load(Some(&file)).expect("a configuration")
}

fn make_ledger(hospital: &Hospital, volume: &Path) {
    let id = volume_id(volume);
    let folder = volume.join(layout::LEDGERS_FOLDER).join(&id);
    let ledger: Ledger<()> =
        Ledger::open(&Disk::default(), &folder, Box::new(|_| {})).expect("a ledger");
    let next = Mutex::new((0..hospital.studies).step_by(GROUP as usize));
    let writers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                loop {
                    let Some(first) = next.lock().expect("no panic while held").next() else {
                        break;
                    };
                    let group = first..(first + GROUP).min(hospital.studies);
                    let lines = group.flat_map(|study| hospital.lines(study, &id)).collect();
                    ledger.append_all(lines).expect("lines in the ledger");
                }
            });
        }
    });
}

/// A server copies its ledger to the state folder. What is whole of it never changes, and need not be there twice.
fn link_sealed_segments(folder: &Path) {
    let volume = folder.join(VOLUME);
    let id = volume_id(&volume);
    let ledger = volume.join(layout::LEDGERS_FOLDER).join(&id);
    let copy = folder.join("state").join(layout::LEDGERS_FOLDER).join(&id);
    fs::create_dir_all(&copy).expect("the folder of the copy");
    let names = fs::read_dir(&ledger).expect("the ledger");
    let mut names: Vec<_> = names
        .map(|entry| entry.expect("a segment").file_name())
        .filter(|name| name.to_string_lossy().ends_with(".jsonl"))
        .collect();
    names.sort();
    names.pop();
    for name in names {
        let _ = fs::hard_link(ledger.join(&name), copy.join(&name));
    }
}

fn in_a_process_of_its_own(folder: &Path) -> serde_json::Value {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--bench", "--measure"])
        .arg(folder)
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("the process that makes the index");
    assert!(output.status.success(), "no index was made");
    serde_json::from_slice(&output.stdout).expect("what it measured")
}

fn make_index(folder: &Path) -> serde_json::Value {
    let config = Config::load(Some(&folder.join("kura.toml"))).expect("a configuration");
    let begun = Instant::now();
    let archive = Archive::open(&config, Mode::Existing).expect("the archive");
    let mut told = 0;
    let view = loop {
        let view = archive.view().expect("the index");
        let Some(percent) = view.rebuilding_percent else {
            break view;
        };
        if percent / 10 > told {
            told = percent / 10;
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!("index: {percent} % after {seconds:.0} s");
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the index does not get complete"
        );
        drop(view);
        thread::sleep(Duration::from_millis(20));
    };
    let seconds = begun.elapsed().as_secs_f64();
    let totals = view.snapshot.totals().expect("the totals");
    drop(view);
    drop(archive);
    serde_json::json!({
        "instances": totals.instances,
        "series": totals.series,
        "studies": totals.studies,
        "build_seconds": seconds,
        "build_instances_per_second": totals.instances as f64 / seconds,
        "build_cpu_seconds": cpu_seconds("self"),
        "build_peak_memory_bytes": peak_memory("self"),
        "index_bytes": bytes_below(&config.state.join("index")),
    })
}

/// Waits until the server does nothing by itself.
fn settle(server: &Server) {
    let pid = server.pid().to_string();
    let used = || cpu_seconds(&pid).expect("the server's process");
    let begun = Instant::now();
    let mut before = used();
    while begun.elapsed() < Duration::from_secs(600) {
        thread::sleep(Duration::from_secs(2));
        let after = used();
        if after - before < 0.1 {
            return;
        }
        before = after;
    }
    eprintln!("warning: the server has work of its own; what follows is measured beside it");
}

const CONTEXTS: &[(u8, &str, &[&str])] = &[
    (FIND, wire::STUDY_ROOT_FIND, &[wire::IMPLICIT_LITTLE]),
    (STORE, CT_IMAGE_STORAGE, &[wire::IMPLICIT_LITTLE]),
];

#[derive(Clone, Copy)]
enum Load {
    Idle,
    OneModality,
    FullSpeed,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Load::Idle => "idle",
            Load::OneModality => "20/s",
            Load::FullSpeed => "4 full",
        }
    }

    fn senders(self) -> u64 {
        match self {
            Load::Idle => 0,
            Load::OneModality => 1,
            Load::FullSpeed => 4,
        }
    }

    /// From one image to the next.
    fn pause(self) -> Duration {
        match self {
            Load::OneModality => Duration::from_millis(50),
            Load::Idle | Load::FullSpeed => Duration::ZERO,
        }
    }
}

const STUDY_DATE: &str = "20260115";
const IMAGES_PER_STUDY: u64 = 300;

fn store(server: &Server, load: Load, sender: u64, stop: &AtomicBool, stored: &AtomicU64) {
    let run = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let mut client = server.associate(CONTEXTS);
    client.pdu_size = client.peer_pdu_max() as usize;
    let mut due = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let study = format!("2.25.9{run}{sender}{:06}", number / IMAGES_PER_STUDY);
        let (series, sop) = (format!("{study}.1"), format!("{study}.1.{number}"));
        let patient_id = format!("LOAD-{sender}-{}", number / IMAGES_PER_STUDY);
        let image = Ct {
            pixel_bytes: PIXEL_BYTES,
            patient_id: &patient_id,
            study_date: STUDY_DATE,
            ..Ct::new(&study, &series, &sop)
        };
        let (status, comment) = client
            .c_store(STORE, CT_IMAGE_STORAGE, &sop, &image.encode())
            .expect("C-STORE");
        assert_eq!(status, 0, "C-STORE: {comment:?}");
        stored.fetch_add(1, Ordering::Relaxed);
        due += load.pause();
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    client.release().expect("release");
}

/// Attribute, VR, and what it must match.
type Asked = (Tag, &'static str, String);

/// A kind of query; the study that one of them is about is drawn by lot.
struct Kind {
    name: &'static str,
    level: &'static str,
    keys: fn(&Hospital, u64) -> Vec<Asked>,
    /// Where every query of this kind has so many answers.
    answers: Option<usize>,
}

const STUDY_KEYS: [(Tag, &str); 11] = [
    (Tag(0x0008, 0x0020), "DA"),
    (Tag(0x0008, 0x0030), "TM"),
    (Tag(0x0008, 0x0050), "SH"),
    (Tag(0x0008, 0x0061), "CS"),
    (Tag(0x0008, 0x1030), "LO"),
    (Tag(0x0010, 0x0010), "PN"),
    (Tag(0x0010, 0x0020), "LO"),
    (Tag(0x0010, 0x0030), "DA"),
    (Tag(0x0010, 0x0040), "CS"),
    (Tag(0x0020, 0x000D), "UI"),
    (Tag(0x0020, 0x1208), "IS"),
];
const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);

const KINDS: [Kind; 11] = [
    Kind {
        name: "patient id",
        level: "STUDY",
        keys: |hospital, n| vec![(Tag(0x0010, 0x0020), "LO", hospital.patient_id(n))],
        answers: None,
    },
    Kind {
        name: "accession number",
        level: "STUDY",
        keys: |_, n| vec![(Tag(0x0008, 0x0050), "SH", Hospital::accession(n))],
        answers: Some(1),
    },
    Kind {
        name: "study uid",
        level: "STUDY",
        keys: |_, n| vec![(STUDY_UID, "UI", Hospital::study_uid(n))],
        answers: Some(1),
    },
    Kind {
        name: "one day",
        level: "STUDY",
        keys: |hospital, n| vec![(Tag(0x0008, 0x0020), "DA", hospital.day(n))],
        answers: None,
    },
    Kind {
        name: "one day, modality",
        level: "STUDY",
        keys: |hospital, n| {
            let modality = Hospital::modality(n).to_owned();
            vec![
                (Tag(0x0008, 0x0020), "DA", hospital.day(n)),
                (Tag(0x0008, 0x0061), "CS", modality),
            ]
        },
        answers: None,
    },
    Kind {
        name: "one week",
        level: "STUDY",
        keys: |hospital, n| vec![(Tag(0x0008, 0x0020), "DA", hospital.week(n))],
        answers: None,
    },
    Kind {
        name: "name ABC*",
        level: "STUDY",
        keys: |hospital, n| {
            let name = hospital.name(n);
            // Where there is one, every other time the second group, written in kanji.
            let (from, count) = match name.find('=') {
                Some(at) if n.is_multiple_of(2) => (at + 1, 2),
                _ => (0, 3),
            };
            let beginning: String = name[from..].chars().take(count).collect();
            vec![(PATIENT_NAME, "PN", format!("{beginning}*"))]
        },
        answers: None,
    },
    Kind {
        name: "name ABC*A*",
        level: "STUDY",
        keys: |hospital, n| {
            let beginning: String = hospital.name(n).chars().take(3).collect();
            vec![(PATIENT_NAME, "PN", format!("{beginning}*A*"))]
        },
        answers: None,
    },
    Kind {
        name: "name *BCDE*",
        level: "STUDY",
        keys: |hospital, n| {
            let inner: String = hospital.name(n).chars().skip(1).take(4).collect();
            vec![(PATIENT_NAME, "PN", format!("*{inner}*"))]
        },
        answers: None,
    },
    Kind {
        name: "series of a study",
        level: "SERIES",
        keys: |_, n| {
            let study = Hospital::large_before(n);
            vec![(STUDY_UID, "UI", Hospital::study_uid(study))]
        },
        answers: Some(3),
    },
    Kind {
        name: "1000 of a series",
        level: "IMAGE",
        keys: |_, n| {
            let study = Hospital::long_before(n);
            vec![
                (STUDY_UID, "UI", Hospital::study_uid(study)),
                (SERIES_UID, "UI", Hospital::series_uid(study, 1)),
            ]
        },
        answers: Some(1_000),
    },
];

/// One query after the other on one association.
fn ask(
    server: &Server,
    hospital: &Hospital,
    kind: &Kind,
    seconds: u64,
    pause: Duration,
) -> serde_json::Value {
    let mut client = server.associate(CONTEXTS);
    let mut random = Random::new(4711);
    let (mut lasts, mut firsts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    let all_begun = Instant::now();
    while lasts.len() < QUERIES
        && (lasts.len() < QUERIES_MIN || all_begun.elapsed() < Duration::from_secs(seconds))
    {
        let study = random.between(0, hospital.studies);
        let identifier = identifier(kind.level, (kind.keys)(hospital, study));
        let begun = Instant::now();
        client
            .send_query(FIND, wire::C_FIND_RQ, None, &identifier)
            .expect("C-FIND");
        let (mut count, mut first) = (0, None);
        let status = loop {
            let response = client.receive().expect("an answer");
            first = first.or(Some(begun.elapsed()));
            match response.status() {
                0xFF00 | 0xFF01 => count += 1,
                status => break status,
            }
        };
        lasts.push(begun.elapsed());
        thread::sleep(pause);
        firsts.extend(first);
        counts.push(count);
        assert_eq!(status, 0, "{}", kind.name);
        let expected = kind.answers.unwrap_or(count);
        assert_eq!(count, expected, "answers to {} {study}", kind.name);
    }
    client.release().expect("release");
    for times in [&mut lasts, &mut firsts] {
        times.sort();
    }
    counts.sort_unstable();
    serde_json::json!({
        "query": kind.name,
        "count": lasts.len(),
        "answers_median": counts[counts.len() / 2],
        "answers_most": counts[counts.len() - 1],
        "first_p50_ms": at(&firsts, 0.5),
        "first_p99_ms": at(&firsts, 0.99),
        "p50_ms": at(&lasts, 0.5),
        "p99_ms": at(&lasts, 0.99),
        "max_ms": at(&lasts, 1.0),
    })
}

/// Milliseconds; `times` are sorted.
fn at(times: &[Duration], part: f64) -> f64 {
    let last = (times.len() - 1) as f64;
    times[(last * part).round() as usize].as_secs_f64() * 1e3
}

fn identifier(level: &'static str, asked: Vec<Asked>) -> Vec<u8> {
    let mut keys = vec![
        (Tag(0x0008, 0x0005), "CS", "ISO_IR 192"),
        (Tag(0x0008, 0x0052), "CS", level),
    ];
    keys.extend(asked.iter().map(|(tag, vr, value)| (*tag, *vr, &**value)));
    let returned: &[(Tag, &str)] = match level {
        "STUDY" => &STUDY_KEYS,
        "SERIES" => &[
            (Tag(0x0008, 0x0060), "CS"),
            (Tag(0x0008, 0x103E), "LO"),
            (SERIES_UID, "UI"),
            (Tag(0x0020, 0x0011), "IS"),
            (Tag(0x0020, 0x1209), "IS"),
        ],
        _ => &[
            (Tag(0x0008, 0x0016), "UI"),
            (Tag(0x0008, 0x0018), "UI"),
            (Tag(0x0020, 0x0013), "IS"),
        ],
    };
    for (tag, vr) in returned {
        if !keys.iter().any(|(asked, ..)| asked == tag) {
            keys.push((*tag, *vr, ""));
        }
    }
    ident(&keys)
}

fn table(report: &serde_json::Value) {
    let number = |name: &str| report[name].as_f64().unwrap_or_default();
    let instances = number("instances").max(1.0);
    let mib = |name: &str| number(name) / f64::from(1 << 20);
    println!(
        "{}: {instances} instances, {} series, {} studies",
        report["engine"].as_str().unwrap_or_default(),
        number("series"),
        number("studies")
    );
    println!(
        "index made: {:.0} instances/s, {:.1} s, CPU {:.1} s, peak {:.0} MiB; {:.0} bytes an instance, ledger {:.0}",
        number("build_instances_per_second"),
        number("build_seconds"),
        number("build_cpu_seconds"),
        mib("build_peak_memory_bytes"),
        number("index_bytes") / instances,
        number("ledger_bytes") / instances,
    );
    let open = |name: &str, what: &str| report[name][what].as_f64().unwrap_or_default();
    println!(
        "open again, first answer and complete: after kill -9 {:.2} s, {:.2} s; after a stop {:.2} s, {:.2} s",
        open("open_after_kill", "first_answer_seconds"),
        open("open_after_kill", "complete_seconds"),
        open("open_after_stop", "first_answer_seconds"),
        open("open_after_stop", "complete_seconds"),
    );
    println!(
        "server: peak {:.0} MiB; stored {:.1} and {:.1} images/s",
        mib("server_peak_memory_bytes"),
        number("stored_per_second_20/s"),
        number("stored_per_second_4 full"),
    );
    println!(
        "{:<6}  {:<20}  {:>5}  {:>7}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>10}  {:>10}",
        "LOAD",
        "QUERY",
        "COUNT",
        "ANSWERS",
        "MOST",
        "FIRST P50",
        "FIRST P99",
        "P50 MS",
        "P99 MS",
        "MAX MS",
        "ENGINE P50",
        "ENGINE P99"
    );
    for row in report["queries"].as_array().into_iter().flatten() {
        let number = |name: &str| row[name].as_f64().unwrap_or_default();
        let engine = |name: &str| {
            let figure = row[name].as_f64();
            figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
        };
        println!(
            "{:<6}  {:<20}  {:>5}  {:>7}  {:>7}  {:>9.2}  {:>9.2}  {:>9.2}  {:>9.2}  {:>9.2}  {:>10}  {:>10}",
            row["load"].as_str().unwrap_or_default(),
            row["query"].as_str().unwrap_or_default(),
            number("count"),
            number("answers_median"),
            number("answers_most"),
            number("first_p50_ms"),
            number("first_p99_ms"),
            number("p50_ms"),
            number("p99_ms"),
            number("max_ms"),
            engine("engine_p50_ms"),
            engine("engine_p99_ms"),
        );
    }
}
