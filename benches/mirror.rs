//! How fast second copies are made, beside `cp -a` and `sync` of the same tree.
//!
//! `cargo bench --bench mirror -- [--files N] [--bytes N]`. Both sides end with everything on stable storage; ours also
//! checks every byte it reads against the ledger, and writes ledger and index. As root the page cache is dropped before
//! each cold round.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kura::archive::MirrorVerb;

mod filled;

use filled::{drop_caches, fill, open};

const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok())
            .unwrap_or(default)
    };
    let (files, bytes) = (number("--files", 2_000), number("--bytes", 526_000));
    let below = std::env::var("KURA_BENCH_DIR").unwrap_or("target/tmp".to_owned());
    fs::create_dir_all(&below).expect("folder");
    let place = tempfile::tempdir_in(below).expect("temporary folder");
    let place = place.path();
    fs::create_dir(place.join("A")).expect("folder");
    let archive = open(place, "first", &[("A", "archive")]);
    fill(&archive, files, bytes);
    drop(archive);
    println!("{files} instances of {bytes} bytes; instances/s, and the ratio within a round");
    for round in 0..ROUNDS {
        for cold in [true, false] {
            if cold && !drop_caches() {
                continue;
            }
            // Neither is always the first.
            let mut times = [Duration::ZERO; 2];
            for side in [round % 2, 1 - round % 2] {
                if cold {
                    drop_caches();
                }
                times[side] = match side {
                    0 => mirror(place, files),
                    _ => copy(place),
                };
            }
            let rate = |time: Duration| files as f64 / time.as_secs_f64();
            println!(
                "round {round} {}: kura {:.0}/s ({:.0} MB/s), cp -a and sync {:.0}/s, ratio {:.2}",
                if cold { "cold" } else { "warm" },
                rate(times[0]),
                rate(times[0]) * bytes as f64 / 1e6,
                rate(times[1]),
                times[1].as_secs_f64() / times[0].as_secs_f64()
            );
        }
    }
}

/// A run to a mirror volume that is new; it and what knows of it are removed afterwards.
fn mirror(place: &Path, files: usize) -> Duration {
    drop(fs::remove_dir_all(place.join("state")));
    drop(fs::remove_file(place.join("A/ledgers/archive.json")));
    fs::create_dir(place.join("M")).expect("folder");
    let archive = open(place, "state", &[("A", "archive"), ("M", "mirror")]);
    let all = MirrorVerb::Run {
        date: None,
        modality: None,
    };
    let begun = Instant::now();
    archive.mirror_verb(all).expect("asked");
    archive.mirror_asked().expect("mirrored");
    let time = begun.elapsed();
    let status = archive.mirror_status(true).expect("status");
    assert_eq!((status.todo_count, status.done_count), (0, files as u64));
    drop(archive);
    for entry in fs::read_dir(place.join("A/ledgers")).expect("ledgers") {
        let path = entry.expect("entry").path();
        let label = fs::read_to_string(place.join("A/kura-volume.json")).expect("label");
        let name = path
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !label.contains(&name) {
            fs::remove_dir_all(path).expect("removed");
        }
    }
    fs::remove_dir_all(place.join("M")).expect("removed");
    time
}

fn copy(place: &Path) -> Duration {
    let target = place.join("copy");
    fs::create_dir(&target).expect("folder");
    let begun = Instant::now();
    let run = |program: &str, arguments: &[&Path]| {
        let done = Command::new(program).args(arguments).status();
        assert!(done.expect(program).success());
    };
    run("cp", &[Path::new("-a"), &place.join("A/20260115"), &target]);
    run("sync", &[Path::new("-f"), &target]);
    let time = begun.elapsed();
    fs::remove_dir_all(&target).expect("removed");
    time
}
