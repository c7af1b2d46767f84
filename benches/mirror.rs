//! How fast second copies are made, beside `cp -a` and `sync` of the same tree.
//!
//! `cargo bench --bench mirror -- [--files N] [--bytes N]`. Both sides end with everything on stable storage; ours also
//! checks every byte it reads against the ledger, and writes ledger and index. As root the page cache is dropped before
//! each cold round.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kura::archive::{Announced, Archive, MirrorVerb, Mode};
use kura::config::Config;

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
    let archive = open(place, "first", &[]);
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

fn open(place: &Path, state: &str, mirrors: &[&str]) -> Arc<Archive> {
    let mut text = format!(
        "state = {:?}\n[mirror]\nallow_same_device = true\n[[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n",
        place.join(state),
        place.join("A")
    );
    for name in mirrors {
        text += &format!(
            "[[volume]]\nname = {name:?}\npath = {:?}\nrole = \"mirror\"\n",
            place.join(name)
        );
    }
    let file = place.join("kura.toml");
    fs::write(&file, text).expect("configuration");
    let config = Config::load(Some(&file)).expect("configuration");
    Arc::new(Archive::open(&config, Mode::Create).expect("archive"))
}

/// Stores over sixteen threads, which share flushes.
fn fill(archive: &Archive, files: usize, bytes: usize) {
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || {
                for number in (thread..files).step_by(16) {
                    store(archive, number, bytes);
                }
            });
        }
    });
}

fn store(archive: &Archive, number: usize, bytes: usize) {
    let study = format!("2.25.1{}", number / 250);
    let sop = format!("{study}.1.{number}");
    let mut data_set = Vec::new();
    let mut put = |tag: [u8; 4], vr: &str, value: &str| {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        data_set.extend_from_slice(&tag);
        data_set.extend_from_slice(vr.as_bytes());
        data_set.extend_from_slice(&(value.len() as u16).to_le_bytes());
        data_set.extend_from_slice(&value);
    };
    put([8, 0, 0x16, 0], "UI", CT);
    put([8, 0, 0x18, 0], "UI", &sop);
    put([8, 0, 0x20, 0], "DA", "20260115");
    put([8, 0, 0x60, 0], "CS", "CT");
    put([0x10, 0, 0x20, 0], "LO", "4711");
    put([0x20, 0, 0x0d, 0], "UI", &study);
    put([0x20, 0, 0x0e, 0], "UI", &format!("{study}.1"));
    data_set.extend_from_slice(&[0xe0, 0x7f, 0x10, 0, b'O', b'W', 0, 0]);
    data_set.extend_from_slice(&(bytes as u32 & !1).to_le_bytes());
    data_set.resize(data_set.len() + (bytes & !1), number as u8);
    let announced = Announced {
        sop_class_uid: CT.to_owned(),
        sop_instance_uid: sop,
        transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
        calling_ae_title: "BENCH".to_owned(),
        prefer: None,
    };
    let mut receiving = archive.begin(announced).expect("begin");
    receiving.write(&data_set).expect("write");
    receiving.finish().expect("finish").answered();
}

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// A run to a mirror volume that is new; it and what knows of it are removed afterwards.
fn mirror(place: &Path, files: usize) -> Duration {
    drop(fs::remove_dir_all(place.join("state")));
    drop(fs::remove_file(place.join("A/ledgers/archive.json")));
    fs::create_dir(place.join("M")).expect("folder");
    let archive = open(place, "state", &["M"]);
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

fn drop_caches() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
