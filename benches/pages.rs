//! How long the administrator's page takes in a large archive.
//!
//! **The number it defends**, at 1,000,000 studies: the first screen, and every search of the study list that a person
//! types, is answered in less than **1 s**. Nothing here fails because of a number: they are printed, a person reads.
//!
//! The ledger of a made-up hospital (`hospital/`) with one image in a study is written with the real code; there are no
//! images. The built server makes its index from it, then each page is asked for over HTTP, one request after the other, to
//! the last byte.
//!
//! `cargo bench --bench pages`, `-- --studies 100000` for a smaller one. A million studies need 6 GB of disk.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use kura::archive::{Archive, Mode};
use kura::config::Config;
use kura::volume::io::Disk;
use kura::volume::{Ledger, layout};

#[path = "../tests/common/mod.rs"]
mod common;
mod hospital;
mod ledgers;

use common::build::{Tag, ident};
use common::{Random, Server, Settings, web, wire};
use hospital::{GROUP, Hospital};
use ledgers::{folder_of, peak_memory, volume_id};

const VOLUME: &str = "volume-a";
/// An index that is not complete after this long is a failure of the measurement.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Of each page.
const REQUESTS: usize = 50;

/// How long the administrator's page takes in a large archive.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench pages --")]
struct Arguments {
    #[arg(long, default_value_t = 1_000_000)]
    studies: u64,
    /// Make ledger and index in this folder, leave them there, and use them again the next time
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a page is called, and its address for a study by its number.
type Page = (&'static str, fn(&Hospital, u64) -> String);

const PAGES: [Page; 8] = [
    ("first screen", |_, _| "/".to_owned()),
    ("newest studies", |_, _| "/studies".to_owned()),
    ("search: patient ID", |hospital, study| {
        format!("/studies/found?patient_id={}", hospital.patient_id(study))
    }),
    ("search: name", |hospital, study| {
        let name = hospital.name(study);
        let family = name.split(['^', '=']).next().unwrap_or_default();
        format!("/studies/found?name={family}")
    }),
    ("search: first letter", |_, _| {
        "/studies/found?name=s".to_owned()
    }),
    ("search: one day", |hospital, study| {
        let day = hospital.day(study);
        format!("/studies/found?from={day}&to={day}")
    }),
    ("search: in description", |_, _| {
        "/studies/found?description=nowhere".to_owned()
    }),
    ("one study", |_, study| {
        format!("/studies/{}", Hospital::study_uid(study))
    }),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benches too.
        eprintln!("pages measures nothing unless run by: cargo bench --bench pages");
        return ExitCode::SUCCESS;
    }
    let hospital = Hospital {
        studies: arguments.studies,
    };
    let (_scratch, folder) = folder_of(arguments.keep.as_deref());
    if !folder.join("made").exists() {
        make(&hospital, &folder);
        fs::write(folder.join("made"), arguments.studies.to_string()).expect("a note");
    }
    let begun = Instant::now();
    let settings = Settings {
        volumes: vec![("A".into(), VOLUME.into(), "archive".into())],
        extra: "[scrub]\ndays = 0\n[intake]\nmode = \"direct\"\n".to_owned(),
        arguments: ["--admin-port", "0"].map(str::to_owned).to_vec(),
        ..Settings::default()
    };
    let server = Server::in_folder(settings, &folder);
    wait_until_indexed(&server);
    eprintln!("index: {:.1} s", begun.elapsed().as_secs_f64());
    println!(
        "{:<24} {:>10} {:>10} {:>10}",
        "page", "first ms", "p50 ms", "most ms"
    );
    for (name, address) in PAGES {
        let mut random = Random::new(4711);
        let mut times: Vec<f64> = (0..REQUESTS)
            .map(|_| {
                let address = address(&hospital, random.between(0, hospital.studies));
                let begun = Instant::now();
                let page = web::get(&server, &address, &[]);
                assert_eq!(page.status, 200, "{address}");
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        let first = times[0];
        times.sort_by(f64::total_cmp);
        let (middle, most) = (times[REQUESTS / 2], times[REQUESTS - 1]);
        println!("{name:<24} {first:>10.1} {middle:>10.1} {most:>10.1}");
    }
    let memory = peak_memory(&server.pid().to_string()).unwrap_or_default();
    println!("most memory of the server: {} MB", memory / 1_000_000);
    ExitCode::SUCCESS
}

/// One image of each study.
fn make(hospital: &Hospital, folder: &std::path::Path) {
    let volume = folder.join(VOLUME);
    fs::create_dir_all(&volume).expect("the folder of the volume");
    let file = folder.join("kura.toml");
    let text = format!(
        "state = {:?}\n[[volume]]\nname = \"A\"\npath = {volume:?}\nrole = \"archive\"\n",
        folder.join("state"),
    );
    fs::write(&file, text).expect("the configuration");
    let config = Config::load(Some(&file)).expect("a configuration");
    drop(Archive::open(&config, Mode::Create).expect("a new archive"));
    let id = volume_id(&volume);
    let ledgers = volume.join(layout::LEDGERS_FOLDER).join(&id);
    let ledger: Ledger<()> =
        Ledger::open(&Disk::default(), &ledgers, Box::new(|_| {})).expect("a ledger");
    for first in (0..hospital.studies).step_by(GROUP as usize) {
        let group = first..(first + GROUP).min(hospital.studies);
        let lines = group.flat_map(|study| hospital.lines(study, &id).into_iter().take(1));
        ledger
            .append_all(lines.collect())
            .expect("lines in the ledger");
    }
}

fn wait_until_indexed(server: &Server) {
    let nobody = ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0020, 0x000D), "UI", "2.25.1"),
    ]);
    let begun = Instant::now();
    let contexts: &[(u8, &str, &[&str])] = &[(1, wire::STUDY_ROOT_FIND, &[wire::IMPLICIT_LITTLE])];
    let mut client = server.associate(contexts);
    while client.c_find(1, &nobody).expect("a query").status != 0 {
        assert!(begun.elapsed() < PATIENCE, "the index is not complete");
        std::thread::sleep(Duration::from_millis(200));
    }
    client.release().expect("release");
}
