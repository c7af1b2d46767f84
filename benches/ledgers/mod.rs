//! Made-up ledgers, and what a process of a measurement used; shared by the benches that measure without images.

// Each bench uses a part.
#![allow(dead_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kura::index::Values;
use tempfile::TempDir;

/// Unit of the times in `/proc/PID/stat`, per second: USER_HZ, 100 wherever Linux runs today.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy, ValueEnum)]
pub enum EngineArgument {
    Redb,
    Sled,
}

impl EngineArgument {
    pub fn name(self) -> &'static str {
        match self {
            EngineArgument::Redb => "redb",
            EngineArgument::Sled => "sled",
        }
    }
}

/// The folder of a run: the one to be kept, else one that goes with the first of the two.
pub fn folder_of(keep: Option<&Path>) -> (Option<TempDir>, PathBuf) {
    if let Some(keep) = keep {
        return (None, keep.to_owned());
    }
    let folder = std::env::var_os("KURA_BENCH_DIR")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    fs::create_dir_all(&folder).expect("the folder of the measurement");
    let scratch = TempDir::new_in(&folder).expect("a folder of the run");
    let path = scratch.path().to_owned();
    (Some(scratch), path)
}

/// Mixes numbers; odd, and otherwise of no meaning (FNV-1a for 128 bits).
const LOTS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;

/// The numbers, mixed: the same ones give the same lot.
pub fn lot(numbers: &[u64]) -> u128 {
    let mut lot = 0_u128;
    for number in numbers {
        lot = (lot ^ u128::from(*number)).wrapping_mul(LOTS);
        lot ^= lot >> 64;
    }
    lot.wrapping_mul(LOTS)
}

/// UID of the study whose number comes first, of its series, or of an instance. Three makers count up below their own
/// roots; the fourth draws lots, so that its instances are spread all over the index.
pub fn uid(numbers: &[u64]) -> String {
    let root = match numbers[0] % 4 {
        0 => "1.2.840.113619.2.278.3.2831868938",
        1 => "1.2.392.200036.9116.2.6.1.48.1215544",
        2 => "1.3.12.2.1107.5.1.4.64606.3000001",
        _ => return format!("2.25.{}", lot(numbers)),
    };
    numbers
        .iter()
        .fold(root.to_owned(), |uid, number| format!("{uid}.{number}"))
}

pub fn values(pairs: &[(u32, &str)]) -> Values {
    let owned = |(tag, value): &(u32, &str)| (*tag, (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// The id on the label of a volume.
pub fn volume_id(root: &Path) -> String {
    let label = fs::read(root.join(kura::volume::layout::LABEL_FILE)).expect("a label");
    let label: serde_json::Value = serde_json::from_slice(&label).expect("a label");
    label["volume_id"].as_str().expect("a volume id").to_owned()
}

/// Puts the ledgers below `folder` on the disk and takes them out of memory, so that they are read from the disk; their
/// length in bytes.
pub fn drop_from_memory(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.expect("the folder of the ledgers");
        if entry.path().extension().is_some_and(|e| e == "jsonl") {
            let file = File::open(entry.path()).expect("a segment");
            file.sync_all().expect("a segment on the disk");
            // Only advice.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            bytes += file.metadata().expect("its length").len();
        }
    }
    bytes
}

/// Bytes of all files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

/// CPU time of a process (a number, or `self`), user and system, seconds: it depends on what else the machine does much
/// less than a rate.
pub fn cpu_seconds(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in brackets, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// The most memory a process (a number, or `self`) ever had, in bytes.
pub fn peak_memory(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
