//! How fast `kura equalize --deep` reads the headers of a tree, beside `find | xargs head` on the same tree.
//!
//! `cargo bench --bench survey -- [--files N]`. As root the page cache is dropped before each cold round; elsewhere only
//! warm rounds are measured.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kura::archive::{Announced, Archive, Depth, Mode, WorkVerb};
use kura::config::Config;

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
    let archive = Arc::new(archive(place.path()));
    fill(&archive, files);
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

fn archive(place: &Path) -> Archive {
    let text = format!(
        "state = {:?}\n[[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n",
        place.join("state"),
        place.join("volume")
    );
    let file = place.join("kura.toml");
    fs::write(&file, text).expect("configuration");
    let config = Config::load(Some(&file)).expect("configuration");
    Archive::open(&config, Mode::Create).expect("archive")
}

/// Stores over sixteen threads, which share flushes.
fn fill(archive: &Archive, files: usize) {
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || {
                for number in (thread..files).step_by(16) {
                    store(archive, number);
                }
            });
        }
    });
}

fn store(archive: &Archive, number: usize) {
    let study = format!("2.25.1{}", number / 250);
    let sop = format!("{study}.1.{number}");
    let mut data = Vec::new();
    let mut put = |group: u16, element: u16, vr: &[u8; 2], value: &str| {
        let padded = value.len().next_multiple_of(2);
        data.extend(group.to_le_bytes());
        data.extend(element.to_le_bytes());
        data.extend(vr);
        data.extend((padded as u16).to_le_bytes());
        data.extend(value.as_bytes());
        data.resize(data.len() + padded - value.len(), 0);
    };
    let class = "1.2.840.10008.5.1.4.1.1.2";
    put(0x0008, 0x0016, b"UI", class);
    put(0x0008, 0x0018, b"UI", &sop);
    put(0x0008, 0x0020, b"DA", "20260115");
    put(0x0008, 0x0060, b"CS", "CT");
    put(0x0010, 0x0010, b"PN", "Yamada^Tarou");
    put(0x0010, 0x0020, b"LO", &format!("{}", number / 250));
    put(0x0020, 0x000D, b"UI", &study);
    put(0x0020, 0x000E, b"UI", &format!("{study}.1"));
    data.extend(0x7FE0_u16.to_le_bytes());
    data.extend(0x0010_u16.to_le_bytes());
    data.extend(b"OW\0\0");
    data.extend((INSTANCE_BYTES as u32).to_le_bytes());
    data.resize(data.len() + INSTANCE_BYTES, 7);
    let mut receiving = archive
        .begin(Announced {
            sop_class_uid: class.to_owned(),
            sop_instance_uid: sop,
            transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
            calling_ae_title: "BENCH".to_owned(),
            prefer: None,
        })
        .expect("begin");
    receiving.write(&data).expect("write");
    receiving.finish().expect("stored").answered();
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

/// False where that is not allowed.
fn drop_caches() -> bool {
    Command::new("sync").status().is_ok() && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
