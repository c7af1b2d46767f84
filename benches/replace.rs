//! Filling a new disk in the place of a dead one: how fast, and what senders and askers notice of it.
//!
//! **The numbers it defends**: alone, at least 0.8 of `cp -a` and `sync` of the same tree. Beside four storing
//! associations, these keep more than half of their undisturbed rate, and the slowest of a hundred C-FINDs takes less than
//! twice as long. Nothing here fails because of a number: they are printed, a person reads.
//!
//! `cargo bench --bench replace -- [--files N] [--seconds N]`, below `KURA_BENCH_DIR` (default `target/tmp`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[path = "../tests/common/mod.rs"]
mod common;

use common::build;
use common::copies::{image_paths, wait_until_mirrored, with_mirror};
use common::images::{ALL, Image};
use common::wire::{IMPLICIT_LITTLE, STUDY_ROOT_FIND};
use common::{Client, Server};

const IMAGE_BYTES: usize = 524_288;
const SENDERS: u32 = 4;
const FIND: u8 = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` runs benches too.
        return;
    }
    let number = |name: &str, default: u32| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok())
            .unwrap_or(default)
    };
    let (files, seconds) = (number("--files", 4_000), number("--seconds", 8));
    let below = std::env::var("KURA_BENCH_DIR").unwrap_or("target/tmp".to_owned());
    fs::create_dir_all(&below).expect("folder");
    let place = tempfile::tempdir_in(below).expect("temporary folder");
    alone(&place.path().join("alone"), files / 2);
    beside(&place.path().join("beside"), files, seconds);
}

/// A server whose volume A, with so many images, is dead; M has them all, B receives.
fn with_a_dead_disk(at: &Path, files: u32) -> Server {
    fs::create_dir_all(at).expect("folder");
    let settings = with_mirror("when = \"nightly\"\nwindow = \"03:00-03:01\"");
    let server = Server::in_folder(settings.volume("B", "volume-b", "archive"), at);
    server.wait_until_indexed();
    std::thread::scope(|scope| {
        for sender in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let images = (sender..files).step_by(8);
                let images: Vec<u32> = images.collect();
                let mut client = server.associate(ALL);
                for number in images {
                    let image = Image::new(number / 250, number, IMAGE_BYTES);
                    assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
                }
                client.release().expect("release");
            });
        }
    });
    assert_eq!(server.kura(&["mirror", "run"]).code, Some(0));
    wait_until_mirrored(&server);
    assert_eq!(server.kura(&["volume", "eject", "A"]).code, Some(0));
    fs::remove_dir_all(server.volume("A")).expect("the disk is dead");
    server
}

fn alone(at: &Path, files: u32) {
    let server = with_a_dead_disk(at, files);
    let mirror = server.volume("M");
    let tree = mirror.join("20260115");
    let copied = at.join("copied");
    fs::create_dir(&copied).expect("folder");
    drop_caches();
    let begun = Instant::now();
    for (program, arguments) in [
        ("cp", vec![Path::new("-a"), &tree, &copied]),
        ("sync", vec![Path::new("-f"), &copied]),
    ] {
        assert!(
            Command::new(program)
                .args(arguments)
                .status()
                .expect(program)
                .success()
        );
    }
    let theirs = begun.elapsed();
    fs::remove_dir_all(&copied).expect("removed");
    let new = at.join("new");
    fs::create_dir(&new).expect("folder");
    drop_caches();
    let begun = Instant::now();
    let outcome = server.kura(&["volume", "replace", "A", &new.display().to_string()]);
    let ours = begun.elapsed();
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    assert_eq!(image_paths(&new).len(), files as usize);
    println!(
        "alone, cold: {files} instances of 0.5 MB: replace {:.0}/s, cp -a and sync {:.0}/s, ratio {:.2}",
        f64::from(files) / ours.as_secs_f64(),
        f64::from(files) / theirs.as_secs_f64(),
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

fn beside(at: &Path, files: u32, seconds: u32) {
    let server = with_a_dead_disk(at, files);
    let time = Duration::from_secs(seconds.into());
    let quiet = load(&server, time, 1_000_000);
    let new = at.join("new");
    fs::create_dir(&new).expect("folder");
    let path = new.display().to_string();
    drop_caches();
    let outcome = server.kura(&["volume", "replace", "A", &path, "--no-wait"]);
    assert_ne!(outcome.code, Some(3), "{}", outcome.text());
    let busy = load(&server, time, 2_000_000);
    let copied = image_paths(&new).len();
    println!(
        "{SENDERS} senders: {:.0} images/s undisturbed, {:.0} beside a replace, ratio {:.2}; C-FIND p99 {:.1} ms and {:.1} ms, ratio {:.2}; {copied} of {files} restored meanwhile",
        quiet.rate,
        busy.rate,
        busy.rate / quiet.rate,
        quiet.p99_ms,
        busy.p99_ms,
        busy.p99_ms / quiet.p99_ms
    );
    if copied == files as usize {
        println!("the replace ended before the senders did: take more --files");
    }
}

struct Load {
    rate: f64,
    p99_ms: f64,
}

/// Four senders and one who asks for a study, for so long.
fn load(server: &Server, time: Duration, first: u32) -> Load {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let next = AtomicU32::new(first);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut client = server.associate(ALL);
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let image = Image::new(number / 250, number, IMAGE_BYTES);
                    assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                client.release().expect("release");
            });
        }
        let mut client: Client = server.associate(&[(FIND, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
        let identifier = build::by_uids("IMAGE", "2.25.90", Some("2.25.90.1"), None);
        let begun = Instant::now();
        while begun.elapsed() < time {
            let asked = Instant::now();
            client.c_find(FIND, &identifier).expect("C-FIND");
            times.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        client.release().expect("release");
    });
    times.sort_unstable();
    let p99 = times[(times.len() * 99 / 100).min(times.len() - 1)];
    Load {
        rate: sent.load(Ordering::Relaxed) as f64 / time.as_secs_f64(),
        p99_ms: p99.as_secs_f64() * 1e3,
    }
}

fn drop_caches() {
    rustix::fs::sync();
    drop(fs::write("/proc/sys/vm/drop_caches", "3"));
}
