//! How fast `kura scrub run` reads every byte again, beside `cat` of the same files in the same round.
//!
//! `cargo bench --bench scrub -- [--mb N]`. The number it defends: from a cold disk at least 80 % of `cat`. Before each turn
//! the files are dropped from memory, those alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kura::archive::{Archive, WorkVerb};

mod filled;

/// A CT image of 512 × 512 × 16 bit, bytes.
const INSTANCE_BYTES: usize = 512 * 512 * 2;
const ROUNDS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mb: usize = arguments
        .iter()
        .position(|argument| argument == "--mb")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(2_000);
    let files = (mb * 1_000_000 / INSTANCE_BYTES).max(1);
    let home = std::env::var("KURA_BENCH_DIR").unwrap_or_else(|_| "target/tmp".to_owned());
    fs::create_dir_all(&home).expect("folder");
    let place = tempfile::tempdir_in(home).expect("temporary folder");
    let place = place.path().canonicalize().expect("path");
    let archive = filled::open(&place, "state", &[("volume", "archive")]);
    filled::fill(&archive, files, INSTANCE_BYTES);
    println!("{files} files of {INSTANCE_BYTES} bytes; MB/s, and the ratio within a round");
    for round in 0..ROUNDS {
        let tree = place.join("volume");
        forget(&tree);
        // In turns: the disk may be busy with others.
        let (ours, theirs) = match round % 2 {
            0 => {
                let ours = scrub(&archive, files);
                forget(&tree);
                (ours, cat(&tree))
            }
            _ => {
                let theirs = cat(&tree);
                forget(&tree);
                (scrub(&archive, files), theirs)
            }
        };
        let rate = |time: Duration| (files * INSTANCE_BYTES) as f64 / 1e6 / time.as_secs_f64();
        println!(
            "round {round}: kura {:.0}, cat {:.0}, ratio {:.2}",
            rate(ours),
            rate(theirs),
            theirs.as_secs_f64() / ours.as_secs_f64()
        );
    }
}

fn scrub(archive: &Arc<Archive>, files: usize) -> Duration {
    let begun = Instant::now();
    let work = WorkVerb::Scrub {
        volumes: Vec::new(),
    };
    archive.work_verb(work).expect("begun");
    loop {
        let status = archive.work_verb(WorkVerb::Look).expect("status");
        let status = status.expect("begun above");
        if !status.running {
            let report = &status.volumes[0];
            assert_eq!((report.files, report.ok), (files as u64, files as u64));
            return Duration::from_secs_f64(status.seconds);
        }
        assert!(begun.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cat(tree: &Path) -> Duration {
    let begun = Instant::now();
    let status = Command::new("sh")
        .arg("-c")
        .arg("find . -type f -name '*.dcm' | xargs cat > /dev/null")
        .current_dir(tree)
        .stdout(Stdio::null())
        .status()
        .expect("sh");
    assert!(status.success());
    begun.elapsed()
}

/// Drops the files of a tree from memory.
fn forget(tree: &Path) {
    for entry in walkdir::WalkDir::new(tree) {
        let entry = entry.expect("entry");
        if entry.file_type().is_file() {
            let file = fs::File::open(entry.path()).expect("open");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
        }
    }
}
