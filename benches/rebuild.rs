//! How fast a lost index comes back from the ledgers.
//!
//! **The numbers it defends**: on two cores at least **40,000 instances a second**, so that 5,000,000 are back in about two
//! minutes, with less than **1 GiB** of memory. Nothing here fails because of a number: they are printed, a person reads.
//!
//! Ledgers of two volumes are written by the real [`Ledger`], in memory where `/dev/shm` is there (nobody waits for a disk
//! while they are made), copied to the folder to be measured and dropped from memory. A process of its own then opens the
//! archive with no index and waits until it is complete.
//!
//! `cargo bench --bench rebuild` makes 200,000 instances, `-- --instances 5000000` what a hospital has after some years.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use tempfile::TempDir;

use kura::archive::{Archive, Mode, entry};
use kura::config::{Config, RoleName, VolumeEntry};
use kura::index::{Copy, InstanceFacts, SeriesFacts, Stored, StudyFacts};
use kura::volume::io::Disk;
use kura::volume::{Ledger, layout};

mod ledgers;

use ledgers::{
    EngineArgument, bytes_below, cpu_seconds, drop_from_memory, folder_of, peak_memory, uid,
    values, volume_id,
};

const VOLUMES: u64 = 2;

/// Threads that append, and so lines that share a group of the ledger.
const WRITERS: u64 = 8;

/// A lost index that is not back after this long is a failure of the measurement.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Instances per second with which a lost index comes back.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench rebuild --")]
struct Arguments {
    /// How many instances the ledgers hold
    #[arg(long, default_value_t = 200_000)]
    instances: u64,
    #[arg(long, value_enum, default_value_t = EngineArgument::Redb)]
    engine: EngineArgument,
    /// Make the ledgers in this folder, leave them there, and use them again the next time
    #[arg(long)]
    keep: Option<PathBuf>,
    /// One JSON object on stdout, no table
    #[arg(long)]
    json: bool,
    /// What the process that is measured is given
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
        eprintln!("rebuild measures nothing unless run by: cargo bench --bench rebuild");
        return ExitCode::SUCCESS;
    }
    if let Some(folder) = &arguments.measure {
        println!("{}", measure(folder, arguments.engine));
        return ExitCode::SUCCESS;
    }
    let (_scratch, folder) = folder_of(arguments.keep.as_deref());
    if !folder.join("kura.toml").exists() {
        fs::create_dir_all(&folder).expect("the folder of the ledgers");
        make_ledgers(&folder, arguments.instances, arguments.engine);
    }
    let ledger_bytes = drop_from_memory(&folder);
    let _ = fs::remove_dir_all(folder.join("state"));

    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--bench", "--engine", arguments.engine.name(), "--measure"])
        .arg(&folder)
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("the process that is measured");
    assert!(
        output.status.success(),
        "the process that is measured failed"
    );
    let mut row: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("what it measured");
    if arguments.keep.is_none() {
        let came_back = row["instances"].as_u64();
        assert_eq!(
            came_back,
            Some(arguments.instances),
            "instances that came back"
        );
    }
    row["version"] = 1.into();
    row["bench"] = "rebuild".into();
    row["engine"] = arguments.engine.name().into();
    row["ledger_bytes"] = ledger_bytes.into();
    if arguments.json {
        println!("{row}");
    } else {
        table(&row);
    }
    ExitCode::SUCCESS
}

fn table(row: &serde_json::Value) {
    let number = |name: &str| row[name].as_f64().unwrap_or_default();
    let instances = number("instances").max(1.0);
    println!(
        "{:<6}  {:>9}  {:>7}  {:>11}  {:>8}  {:>8}  {:>16}  {:>17}  {:>6}",
        "ENGINE",
        "INSTANCES",
        "SECONDS",
        "INSTANCES/S",
        "CPU S",
        "PEAK MIB",
        "INDEX B/INSTANCE",
        "LEDGER B/INSTANCE",
        "LEFT S"
    );
    println!(
        "{:<6}  {:>9}  {:>7.1}  {:>11.0}  {:>8.1}  {:>8.0}  {:>16.0}  {:>17.0}  {:>6.2}",
        row["engine"].as_str().unwrap_or_default(),
        instances,
        number("seconds"),
        number("instances_per_second"),
        number("cpu_seconds"),
        number("peak_memory_bytes") / f64::from(1 << 20),
        number("index_bytes") / instances,
        number("ledger_bytes") / instances,
        number("left_seconds"),
    );
}

fn config(folder: &Path, engine: EngineArgument) -> Config {
    let mut text = format!(
        "state = \"state\"\nengine = \"{}\"\n[intake]\nmode = \"direct\"\n",
        engine.name()
    );
    for n in 0..VOLUMES {
        text +=
            &format!("[[volume]]\nname = \"V{n}\"\npath = \"volume-{n}\"\nrole = \"archive\"\n");
    }
    let file = folder.join("kura.toml");
    fs::write(&file, text).expect("the configuration");
    Config::load(Some(&file)).expect("a configuration")
}

/// Opens the archive in `folder`, which has no index, and says when it is complete.
fn measure(folder: &Path, engine: EngineArgument) -> serde_json::Value {
    let config = config(folder, engine);
    let begun = Instant::now();
    let archive = Archive::open(&config, Mode::Existing).expect("an archive with these ledgers");
    let view = loop {
        let view = archive.view().expect("the index");
        if view.rebuilding_percent.is_none() {
            break view;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the index does not get complete"
        );
        drop(view);
        thread::sleep(Duration::from_millis(10));
    };
    let seconds = begun.elapsed().as_secs_f64();
    let totals = view.snapshot.totals().expect("the totals");
    drop(view);
    drop(archive);
    let index_bytes = bytes_below(&config.state.join("index"));
    let seconds_until_closed = begun.elapsed().as_secs_f64();
    let (left_count, left_seconds, status_seconds) = what_is_left(folder, engine);
    serde_json::json!({
        "left_to_mirror": left_count,
        "left_seconds": left_seconds,
        "status_seconds": status_seconds,
        "instances": totals.instances,
        "studies": totals.studies,
        "series": totals.series,
        "seconds": seconds,
        "seconds_until_closed": seconds_until_closed,
        "instances_per_second": totals.instances as f64 / seconds,
        "cpu_seconds": cpu_seconds("self"),
        "peak_memory_bytes": peak_memory("self"),
        "index_bytes": index_bytes,
    })
}

/// With a mirror volume that is new: how many instances have no second copy, how long it takes to find that out, and how
/// long the whole status takes.
fn what_is_left(folder: &Path, engine: EngineArgument) -> (u64, f64, f64) {
    let mut config = config(folder, engine);
    let mirror = folder.join("mirror");
    fs::create_dir_all(&mirror).expect("a folder for the mirror");
    config.volumes.push(VolumeEntry::new(
        "M".to_owned(),
        mirror.clone(),
        RoleName::Mirror,
    ));
    config.mirror.allow_same_device = true;
    let archive = Archive::open(&config, Mode::Create).expect("the archive with a mirror");
    while archive
        .view()
        .expect("the index")
        .rebuilding_percent
        .is_some()
    {
        thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    let left = archive.mirror_status(false).expect("what is left");
    let left_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let counted = archive.status().copies.one_count;
    let status_seconds = begun.elapsed().as_secs_f64();
    assert_eq!(counted, left.todo_count);
    drop(archive);
    fs::remove_dir_all(mirror).expect("the mirror removed");
    (left.todo_count, left_seconds, status_seconds)
}

/// Labels the volumes and gives each its share of the instances.
fn make_ledgers(folder: &Path, instances: u64, engine: EngineArgument) {
    let config = config(folder, engine);
    drop(Archive::open(&config, Mode::Create).expect("a new archive"));
    let memory = Path::new("/dev/shm");
    for (n, volume) in (0..).zip(&config.volumes) {
        let ledgers = volume.path.join(layout::LEDGERS_FOLDER);
        let id = volume_id(&volume.path);
        let share = instances * (n + 1) / VOLUMES - instances * n / VOLUMES;
        let first_study = 10_000_000 * (n + 1);
        if !memory.is_dir() {
            make_ledger(&ledgers.join(&id), &id, first_study, share);
            continue;
        }
        let made = TempDir::new_in(memory).expect("a folder in memory");
        make_ledger(&made.path().join(&id), &id, first_study, share);
        for segment in fs::read_dir(made.path().join(&id)).expect("a ledger") {
            let segment = segment.expect("a segment");
            let target = ledgers.join(&id).join(segment.file_name());
            fs::copy(segment.path(), target).expect("a segment on the disk");
        }
    }
}

/// Writers take one series after the other, as associations do: lines of several series lie mixed in the ledger.
fn make_ledger(folder: &Path, volume_id: &str, first_study: u64, instances: u64) {
    let ledger: Ledger<()> =
        Ledger::open(&Disk::default(), folder, Box::new(|_| {})).expect("a ledger");
    let plan = Mutex::new(Plan {
        study: first_study,
        series: 0,
        made: 0,
        instances,
    });
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                loop {
                    let next = plan.lock().expect("no panic while held").next();
                    let Some(series) = next else { break };
                    series.write(&ledger, volume_id);
                }
            });
        }
    });
}

/// Hands out series: two to four a study, 40 to 200 instances each, 200 to 500 in most studies.
struct Plan {
    study: u64,
    series: u64,
    made: u64,
    instances: u64,
}

impl Iterator for Plan {
    type Item = OneSeries;

    fn next(&mut self) -> Option<OneSeries> {
        if self.series == 2 + self.study % 3 {
            self.study += 1;
            self.series = 0;
        }
        self.series += 1;
        let usual = 40 + (self.study * 7 + self.series * 53) % 161;
        let count = usual.min(self.instances - self.made);
        let series = OneSeries {
            study: self.study,
            series: self.series,
            sequence: self.study * 10_000 + self.series * 1_000,
            count,
        };
        self.made += count;
        (count > 0).then_some(series)
    }
}

struct OneSeries {
    study: u64,
    series: u64,
    /// Of its first instance.
    sequence: u64,
    count: u64,
}

impl OneSeries {
    fn write(&self, ledger: &Ledger<()>, volume_id: &str) {
        let (study, series) = (Arc::new(self.study()), Arc::new(self.series()));
        for number in 1..=self.count {
            let stored = Stored {
                study: study.clone(),
                series: series.clone(),
                instance: self.instance(number, &series.folder, volume_id),
            };
            let (once, line) = entry::lines(&stored, volume_id, None);
            let appended = ledger.append(&once, line, ());
            appended.expect("a line in the ledger");
        }
    }

    fn study_uid(&self) -> String {
        uid(&[self.study])
    }

    fn date(&self) -> String {
        let (year, month, day) = (
            2016 + self.study % 10,
            1 + self.study % 12,
            1 + self.study % 28,
        );
        format!("{year}{month:02}{day:02}")
    }

    fn study(&self) -> StudyFacts {
        let n = self.study;
        let name = match n % 3 {
            0 => format!("YAMADA^TAROU{n}=山田^太郎{n}=ヤマダ^タロウ{n}"),
            1 => format!("SATOU^HANAKO{n}=佐藤^花子=さとう^はなこ"),
            _ => format!("DOE^JOHN{n}"),
        };
        StudyFacts {
            study_instance_uid: self.study_uid(),
            date_folder: self.date(),
            values: values(&[
                (0x0010_0010, &name),
                // Some come again.
                (0x0010_0020, &format!("{:08}", n * 7 % 1_000_003)),
                (0x0010_0030, "19550403"),
                (0x0010_0040, "M"),
                (0x0020_000D, &self.study_uid()),
                (0x0008_0020, &self.date()),
                (0x0008_0030, &format!("{:02}3015.000", n % 24)),
                (0x0008_0050, &format!("A{n:09}")),
                (0x0020_0010, &format!("{}", n % 100_000)),
                (0x0008_1030, "胸部CT 単純+造影"),
                (0x0008_0090, "内科^一郎"),
                (0x0010_1010, "070Y"),
            ]),
        }
    }

    fn modality(&self) -> &'static str {
        if self.study.is_multiple_of(4) {
            "MR"
        } else {
            "CT"
        }
    }

    fn series(&self) -> SeriesFacts {
        let uid = uid(&[self.study, self.series]);
        SeriesFacts {
            study_instance_uid: self.study_uid(),
            folder: layout::series_folder(
                &self.date(),
                self.modality(),
                &format!("{:08}", self.study * 7 % 1_000_003),
                &self.study_uid(),
                &uid,
            ),
            values: values(&[
                (0x0020_000E, &uid),
                (0x0008_0060, self.modality()),
                (0x0020_0011, &self.series.to_string()),
                (0x0008_103E, "Thorax 1.0 mm"),
                (0x0008_0021, &self.date()),
                (0x0008_0031, "103020.000"),
                (0x0008_0080, "市民病院"),
                (0x0008_1010, "CT01"),
                (0x0008_0070, "TOSHIBA"),
                (0x0008_1090, "Aquilion ONE"),
                (0x0018_0015, "CHEST"),
                (0x0018_5100, "HFS"),
            ]),
            series_instance_uid: uid,
        }
    }

    fn instance(&self, number: u64, folder: &str, volume_id: &str) -> InstanceFacts {
        let uid = uid(&[self.study, self.series, number]);
        // What is different in each line and cannot be guessed.
        let crc32 = crc32fast::hash(uid.as_bytes());
        let time = format!(
            "{:02}{:02}{:02}.{:03}",
            9,
            number % 60,
            crc32 % 60,
            crc32 % 1000
        );
        InstanceFacts {
            sequence: self.sequence + number,
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
            transfer_syntax: "1.2.840.10008.1.2.1".into(),
            values: values(&[
                (0x0020_0013, &number.to_string()),
                (0x0008_0033, &time),
                (0x0008_0008, "ORIGINAL\\PRIMARY\\AXIAL"),
                (0x0028_0010, "512"),
                (0x0028_0011, "512"),
            ]),
            received: format!("2026-01-15T01:02:03.{:03}Z", crc32 % 1000),
            source_ae_title: "CT01".into(),
            origin: Default::default(),
            copy: Copy {
                volume_id: volume_id.to_owned(),
                path: format!("{folder}/{}", layout::file_name(&uid)),
                data_offset: 392,
                size_bytes: 525_000 + u64::from(crc32 % 4096),
                crc32,
                file_crc32: !crc32,
                bad: false,
            },
            sop_instance_uid: uid,
        }
    }
}
