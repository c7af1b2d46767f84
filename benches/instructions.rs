//! How many instructions an image costs from the first byte of its C-STORE-RQ to its answer.
//!
//! **The number it defends**: `benches/instructions.toml`, for each way in and two sizes; more than 10 % above is a
//! failure. Instructions say nothing of disks or of waiting, but they are the same on a machine that others use, so a
//! change that makes every image dearer shows at once.
//!
//! Method: the built server under `valgrind --tool=callgrind`, which counts only inside of [`COUNTED`], the thread of the
//! one association; 200 images of fixed content, each sent when the last was answered. What other threads do (second
//! copies, checkpoints, carrying over) is not counted. Where valgrind is missing nothing is measured, and it is said.
//!
//! `cargo bench --bench instructions`; `-- --write` puts what was measured into the file; `-- --keep` keeps the files for
//! `callgrind_annotate`, of which `docs/performance.md` speaks.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

#[path = "../tests/common/mod.rs"]
mod common;

use common::build::{CT_IMAGE_STORAGE, synthetic_ct};
use common::server::free_port;
use common::wire::{Client, EXPLICIT_LITTLE};

/// The function inside of which is counted, as callgrind writes it.
const COUNTED: &str = "kura::scp::serve*";

const IMAGES: u32 = 200;

/// Above the budget by so much is a failure, per cent.
const ABOVE_MAX: u64 = 10;

/// Everything takes fifty times as long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Ways of being durable, and sizes of the pixel data in KiB.
const RUNS: [(&str, usize); 4] = [
    ("direct", 16),
    ("direct", 512),
    ("journal", 16),
    ("journal", 512),
];

/// Instructions of an image, against what they may be.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench instructions --")]
struct Arguments {
    /// Put what is measured into benches/instructions.toml, in place of what is there for this machine
    #[arg(long)]
    write: bool,
    /// Keep what callgrind wrote, in target/tmp
    #[arg(long)]
    keep: bool,
    /// The server to measure [default: the one built beside this]
    #[arg(long)]
    server: Option<PathBuf>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Budgets {
    #[serde(default)]
    budget: Vec<Budget>,
}

#[derive(Serialize, Deserialize)]
struct Budget {
    target: String,
    rustc: String,
    /// Instructions of an image, by way and KiB.
    images: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind (Debian: valgrind)");
        return ExitCode::SUCCESS;
    }
    let (target, rustc) = compiler();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut budgets: Budgets = toml::from_str(&text).expect("benches/instructions.toml");
    let known = budgets.budget.iter().find(|one| one.target == target);
    let comparable = known.filter(|one| one.rustc == rustc);
    if let (Some(known), None) = (known, comparable) {
        println!(
            "the budget is that of rustc {}, this is {rustc}: it is shown, and not insisted on",
            known.rustc
        );
    }
    println!("{:<14} {:>12} {:>12}", "WAY", "INSTRUCTIONS", "BUDGET");
    let mut measured = BTreeMap::new();
    let mut above = Vec::new();
    for (way, kib) in RUNS {
        let name = format!("{way}-{kib}");
        let count = instructions(&arguments, way, kib, &name) / u64::from(IMAGES);
        let budget = known.and_then(|known| known.images.get(&name)).copied();
        let shown = budget.map_or("-".to_owned(), |budget| budget.to_string());
        println!("{name:<14} {count:>12} {shown:>12}");
        if comparable.is_some() && budget.is_some_and(|most| count > most + most * ABOVE_MAX / 100)
        {
            above.push(name.clone());
        }
        measured.insert(name, count);
    }
    if arguments.write {
        budgets.budget.retain(|one| one.target != target);
        budgets.budget.push(Budget {
            target,
            rustc,
            images: measured,
        });
        let head = "# Instructions of a stored image; see instructions.rs. Written by: cargo bench --bench instructions -- --write\n\n";
        let text = toml::to_string(&budgets).expect("numbers and names");
        fs::write(&file, head.to_owned() + &text).expect("benches/instructions.toml");
    } else if !above.is_empty() {
        println!(
            "more than {ABOVE_MAX} % above the budget: {}; docs/performance.md says how to look where they go",
            above.join(", ")
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Target and version of the compiler, as it says them.
fn compiler() -> (String, String) {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").output().expect("rustc");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let of = |key: &str| {
        let mut lines = said.lines();
        lines
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default()
            .to_owned()
    };
    (of("host: "), of("release: "))
}

fn instructions(arguments: &Arguments, way: &str, kib: usize, name: &str) -> u64 {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    fs::create_dir(folder.join("a")).expect("a folder");
    let port = free_port();
    let config = folder.join("kura.toml");
    let text = format!(
        "ae_title = \"KURA\"\nbind = \"127.0.0.1\"\nport = {port}\nstate = \"{0}/state\"\n\n\
         [intake]\nmode = \"{way}\"\nsize_bytes = 268435456\n\n\
         [[volume]]\nname = \"A\"\npath = \"{0}/a\"\nrole = \"archive\"\n",
        folder.display()
    );
    fs::write(&config, text).expect("kura.toml");
    let counts = match arguments.keep {
        true => Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{name}")),
        false => folder.join("callgrind"),
    };
    let server = arguments.server.clone();
    let server = server.unwrap_or_else(|| env!("CARGO_BIN_EXE_kura").into());
    let mut child = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--dump-instr=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(server)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .args(["--admin-port", "off"])
        .stdin(Stdio::null())
        .stdout(fs::File::create(folder.join("log")).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("valgrind");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the server does not start");
        let ended = child.try_wait().expect("valgrind");
        assert!(ended.is_none(), "the server ended: {ended:?}");
        thread::sleep(Duration::from_millis(50));
    }
    store(address, kib << 10);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("the server runs");
    let begun = Instant::now();
    while child.try_wait().expect("valgrind").is_none() {
        assert!(begun.elapsed() < PATIENCE, "the server does not end");
        thread::sleep(Duration::from_millis(50));
    }
    let said = fs::read_to_string(&counts).expect("what callgrind counted");
    let totals = said.lines().find_map(|line| line.strip_prefix("totals: "));
    let totals = totals.and_then(|totals| totals.trim().parse().ok());
    totals.expect("a total")
}

/// Two series of a study, one association.
fn store(address: SocketAddr, pixel_bytes: usize) {
    let contexts: &[(u8, &str, &[&str])] = &[(1, CT_IMAGE_STORAGE, &[EXPLICIT_LITTLE])];
    let mut client = Client::associate(address, "CT1", "KURA", contexts).expect("an association");
    for number in 1..=IMAGES {
        let series = format!("2.25.7.{}", number % 2);
        let sop = format!("{series}.{number}");
        let bytes = synthetic_ct("2.25.7", &series, &sop, number, pixel_bytes, true);
        let (status, comment) = client
            .c_store(1, CT_IMAGE_STORAGE, &sop, &bytes)
            .expect("an answer");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("the end");
}
