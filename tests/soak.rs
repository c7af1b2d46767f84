//! An hour of everything at once: what the process takes of the machine stays the same, and everything is there at the end.
//!
//! Modalities store real sizes on associations that come and go and send again what is there; others query, fetch and have
//! sent; copies are made and read again, studies forwarded, amended and removed; pages and the API are asked, bad
//! associations come, the configuration is read again. One minute in a short run, `KURA_SOAK_MINUTES` (60) in a long one.
//! Figures are printed and written to `target/soak.md`.

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::hospital::{Hospital, Pace, Plan, lock};
use common::images::{self, ALL, Image};
use common::{Client, Random, corrections, http, long};

/// What new images may take in all; the mirror takes as much once more.
const BUDGET_BYTES: u64 = 900 << 20;
/// Of a long run, or of a minute.
const IMAGE_BYTES: (u64, u64) = (128 << 10, 512 << 10);
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// What the second half of a run may add, by a straight line through its samples.
const MORE_BYTES_MAX: f64 = (24 << 20) as f64;
const MORE_FILES_MAX: f64 = 16.0;
const MORE_THREADS_MAX: f64 = 16.0;

/// Name, what of a sample, its unit, and the bound.
type Value = (&'static str, fn(&Sample) -> f64, f64, f64);

struct Sample {
    seconds: f64,
    resident_bytes: f64,
    files: f64,
    threads: f64,
}

fn sample(pid: u32, begun: Instant) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(Sample {
        seconds: begun.elapsed().as_secs_f64(),
        resident_bytes: number("VmRSS:")? * 1024.0,
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64,
        threads: number("Threads:")?,
    })
}

/// How much a straight line through these (least squares) rises from the first to the last.
fn rise(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|one| one.seconds), mean(&value));
    let over = samples
        .iter()
        .map(|one| (one.seconds - x) * (value(one) - y));
    let under = samples.iter().map(|one| (one.seconds - x).powi(2));
    let slope = over.sum::<f64>() / under.sum::<f64>().max(f64::MIN_POSITIVE);
    let length = samples.last().map_or(0.0, |last| last.seconds) - samples[0].seconds;
    slope * length
}

/// Associations as they should not be: cut off in the middle, silent, refused, garbage.
fn bad_associations(hospital: &Hospital, random: &mut Random) {
    let address = hospital.server.address();
    if let Ok(mut client) = Client::associate(address, "BROKEN", "KURA", ALL) {
        let image = Image::new(990_000, 1, 50_000);
        let _ = client.begin_store(images::STORE, common::build::CT_IMAGE_STORAGE, &image.sop);
        let half = &image.data_set[..random.between(1, 40_000) as usize];
        let _ = client.send_fragment(images::STORE, false, half, false);
    }
    if let Ok(client) = Client::associate(address, "BROKEN", "KURA", ALL) {
        let _ = client.abort();
    }
    let _ = Client::associate(address, "BROKEN", "ELSEWHERE", ALL);
    if let Ok(mut stream) = TcpStream::connect(address) {
        let garbage: Vec<u8> = (0..200).map(|_| random.next() as u8).collect();
        let _ = stream.write_all(&garbage);
    }
    drop(TcpStream::connect(address));
}

/// A study of its own: stored, amended, and removed.
fn a_study_changes(hospital: &Hospital, number: u32) {
    let images: Vec<Image> = (0..3)
        .map(|n| Image::new(900_000 + number, n, 20_000))
        .collect();
    {
        let mut others = lock(&hospital.seen.others);
        others.insert(images[0].study.clone());
        others.extend(images.iter().map(|image| image.sop.clone()));
    }
    images::send_all(&hospital.server, &images);
    corrections::amended(&hospital.server, &images[0], "RIGHT-1");
    corrections::removed(&hospital.server, &images[0]);
}

fn pages(hospital: &Hospital) {
    for path in [
        "/",
        "/studies",
        "/volumes",
        "/forwarding",
        "/journal",
        "/metrics",
        "/healthz",
    ] {
        let answer = http::get(hospital.admin, path);
        assert!(answer.status < 500, "{path}: {}", answer.status);
    }
    let answer = http::ask(hospital.admin, "status", &[], &serde_json::json!({}));
    assert!(answer.status < 500, "{}", answer.text());
}

/// Method: samples of /proc every two seconds; the second half of the run is looked at, by a straight line through it.
#[test]
fn what_the_process_takes_stays_the_same() {
    let minutes = std::env::var("KURA_SOAK_MINUTES").ok();
    let minutes = minutes.and_then(|text| text.parse::<f64>().ok());
    let minutes = minutes.unwrap_or(if long() { 60.0 } else { 1.0 });
    let length = Duration::from_secs_f64(minutes * 60.0);
    let mut random = Random::from_environment("soak");
    // Three modalities send four images a second between them; so many of them may be new.
    let sent = length.as_secs_f64() * 8.0;
    let new = BUDGET_BYTES as f64 / ((IMAGE_BYTES.0 + IMAGE_BYTES.1) / 2) as f64;
    let plan = Plan {
        bytes: 4 << 30,
        pace: Pace {
            pixel_bytes: IMAGE_BYTES,
            pause_ms: (200, 400),
            again: (1_000.0 * (1.0 - new / sent).clamp(0.1, 0.98)) as u64,
        },
        ..Plan::new(&mut random)
    };
    let Some(mut hospital) = Hospital::open(plan) else {
        return;
    };
    let begun = Instant::now();
    let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let sampling = {
        let (samples, stop) = (samples.clone(), stop.clone());
        let pid = hospital.server.pid();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                lock(&samples).extend(sample(pid, begun));
                std::thread::sleep(SAMPLE_EVERY);
            }
        })
    };
    let mut rounds = 0;
    while begun.elapsed() < length {
        let load = hospital.load(&mut random);
        let until = begun.elapsed() + Duration::from_secs(20).min(length / 3);
        while begun.elapsed() < until.min(length) {
            bad_associations(&hospital, &mut random);
            pages(&hospital);
            std::thread::sleep(Duration::from_secs(1));
        }
        a_study_changes(&hospital, rounds);
        for verb in [&["reload"][..], &["mirror", "status"], &["scrub", "status"]] {
            let outcome = hospital.server.kura(verb);
            assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.text());
        }
        if rounds % 5 == 4 {
            let outcome = hospital.server.kura(&["scrub", "run"]);
            assert!(outcome.success(), "{}", outcome.text());
        }
        load.end();
        hospital.server.assert_alive();
        rounds += 1;
    }
    stop.store(true, Ordering::Relaxed);
    sampling.join().expect("the samples");
    let samples = std::mem::take(&mut *lock(&samples));
    let refused = lock(&hospital.seen.refused).clone();
    assert!(refused.is_empty(), "{refused:?}");
    let half = &samples[samples.len() / 2..];
    let mib = f64::from(1 << 20);
    let values: [Value; 3] = [
        (
            "resident memory, MiB",
            |one| one.resident_bytes,
            mib,
            MORE_BYTES_MAX,
        ),
        ("open files", |one| one.files, 1.0, MORE_FILES_MAX),
        ("threads", |one| one.threads, 1.0, MORE_THREADS_MAX),
    ];
    let seen = hospital.seen.clone();
    let mut table = format!(
        "{minutes} minutes, {} images acknowledged, {} queries, {} images fetched, {} C-MOVEs, {} samples\n\n\
         | | at the first sample | at half time | at the end | most | the second half adds (line) | bound |\n\
         |---|---|---|---|---|---|---|\n",
        seen.acknowledged_count(),
        seen.queries.load(Ordering::Relaxed),
        seen.fetched.load(Ordering::Relaxed),
        seen.moves.load(Ordering::Relaxed),
        samples.len(),
    );
    let mut too_much = Vec::new();
    for (name, value, unit, bound) in values {
        let adds = rise(half, value);
        let at = |one: &Sample| value(one) / unit;
        let most = samples.iter().map(at).fold(0.0, f64::max);
        table += &format!(
            "| {name} | {:.0} | {:.0} | {:.0} | {most:.0} | {:.1} | {:.0} |\n",
            at(&samples[0]),
            at(&half[0]),
            at(&samples[samples.len() - 1]),
            adds / unit,
            bound / unit,
        );
        if adds > bound {
            too_much.push(name);
        }
    }
    eprintln!("{table}");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak.md");
    let _ = fs::write(target, &table);
    hospital.assert_well(Instant::now(), &mut random);
    hospital.close();
    assert!(too_much.is_empty(), "{too_much:?} grow:\n{table}");
}
