//! How fast `kura equalize --deep` reads the headers of a tree, beside `find | xargs head` on the same tree.
//!
//! `cargo bench --bench survey -- [--files N]`. As root the page cache is dropped before each cold round; elsewhere only
//! warm rounds are measured.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kura::archive::{Archive, Depth, WorkVerb};

mod filled;

use filled::drop_caches;

/// Size of an instance, bytes: what is read is its beginning, whatever its size.
const INSTANCE_BYTES: usize = 20_000;
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let files = arguments
        .iter()
        .position(|argument| argument == "--files")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(20_000);
    let place = tempfile::tempdir().expect("temporary folder");
    let archive = filled::open(place.path(), "state", &[("volume", "archive")]);
    filled::fill(&archive, files, INSTANCE_BYTES);
    println!("{files} files of {INSTANCE_BYTES} bytes; files/s, and the ratio within a round");
    for round in 0..ROUNDS {
        for cold in [true, false] {
            if cold && !drop_caches() {
                continue;
            }
            let ours = survey(&archive, files);
            if cold {
                drop_caches();
            }
            let theirs = find_and_head(&place.path().join("volume"));
            let rate = |time: Duration| files as f64 / time.as_secs_f64();
            println!(
                "round {round} {}: kura {:.0}, find | head {:.0}, ratio {:.2}",
                if cold { "cold" } else { "warm" },
                rate(ours),
                rate(theirs),
                theirs.as_secs_f64() / ours.as_secs_f64()
            );
        }
    }
}

fn survey(archive: &Arc<Archive>, files: usize) -> Duration {
    let begun = Instant::now();
    let work = WorkVerb::Equalize {
        volumes: Vec::new(),
        depth: Depth::Headers,
        repair: false,
    };
    archive.work_verb(work).expect("begun");
    loop {
        let status = archive
            .work_verb(WorkVerb::Look)
            .expect("status")
            .expect("begun above");
        if !status.running {
            let report = &status.volumes[0];
            assert_eq!((report.files, report.ok), (files as u64, files as u64));
            return Duration::from_secs_f64(status.seconds);
        }
        assert!(begun.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn find_and_head(tree: &Path) -> Duration {
    let begun = Instant::now();
    let status = Command::new("sh")
        .arg("-c")
        .arg("find . -type f -name '*.dcm' | xargs head -c 4096 > /dev/null")
        .current_dir(tree)
        .stdout(Stdio::null())
        .status()
        .expect("sh");
    assert!(status.success());
    begun.elapsed()
}
