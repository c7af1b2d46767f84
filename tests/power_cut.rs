//! What was answered 0000H is there after a crash, and after a power cut: found, and byte for byte.

mod common;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, by_uids, synthetic_ct};
use common::disks::Pluggable;
use common::wire::{IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_GET};
use common::{Client, Random, Server, Settings, elements, files, images};
use rustix::process::Signal;

const SENDERS: u32 = 4;

/// An instance that a sender was told is stored.
#[derive(Clone)]
struct Acknowledged {
    study: String,
    series: String,
    sop: String,
    number: u32,
    pixel_bytes: usize,
}

impl Acknowledged {
    fn data_set(&self) -> Vec<u8> {
        synthetic_ct(
            &self.study,
            &self.series,
            &self.sop,
            self.number,
            self.pixel_bytes,
            false,
        )
    }
}

/// Senders that store as fast as they are answered, until told to stop or the server is gone.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    senders: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, round: u32, random: &mut Random) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let senders = (0..SENDERS)
            .map(|sender| {
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                let mut random = Random::new(random.next());
                std::thread::spawn(move || {
                    let mut number = 0;
                    while !stop.load(Ordering::Relaxed) {
                        // A new association now and then, as consoles do.
                        let contexts: &[(u8, &str, &[&str])] =
                            &[(1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])];
                        let Ok(mut client) = Client::associate(address, "TESTER", "KURA", contexts)
                        else {
                            return;
                        };
                        for _ in 0..random.between(1, 30) {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            number += 1;
                            let one = Acknowledged {
                                study: format!("2.25.7.{round}.{}", random.between(0, 6)),
                                series: String::new(),
                                sop: format!("2.25.9.{round}.{sender}.{number}"),
                                number,
                                pixel_bytes: random.between(100, 150_000) as usize,
                            };
                            let one = Acknowledged {
                                series: format!("{}.{}", one.study, random.between(1, 4)),
                                ..one
                            };
                            let stored =
                                client.c_store(1, CT_IMAGE_STORAGE, &one.sop, &one.data_set());
                            match stored {
                                Ok((0, _)) => {
                                    acknowledged.lock().expect("no panic in a sender").push(one);
                                }
                                // Refused or cut off: nothing was promised.
                                Ok(_) => {}
                                Err(_) => return,
                            }
                        }
                        if client.release().is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        Load {
            stop,
            acknowledged,
            senders,
        }
    }

    fn quiet(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().expect("a sender");
        }
    }

    fn end(mut self) -> Vec<Acknowledged> {
        self.quiet();
        let list = self.acknowledged.lock().expect("no panic in a sender");
        list.clone()
    }
}

/// Every instance is answered by C-FIND and comes by C-GET with its own bytes.
fn assert_all_there(server: &Server, all: &[Acknowledged], round: u32) {
    server.wait_until_indexed();
    let mut studies: HashMap<&str, Vec<&Acknowledged>> = HashMap::new();
    for one in all {
        studies.entry(&one.study).or_default().push(one);
    }
    for (study, instances) in studies {
        let mut finder = server.associate(&[(1, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE])]);
        let found = finder
            .c_find(1, &by_uids("IMAGE", study, Some(""), Some("")))
            .expect("C-FIND");
        assert_eq!(found.status, 0, "{:?}", found.comment);
        let mut known: HashMap<String, String> = HashMap::new();
        for answer in found.answers() {
            let sop = elements::find(&answer, 0x0008, 0x0018).expect("SOPInstanceUID");
            let series = elements::find(&answer, 0x0020, 0x000E).expect("SeriesInstanceUID");
            assert!(known.insert(sop, series).is_none(), "answered twice");
        }
        let mut getter = server.associate(&[
            (1, STUDY_ROOT_GET, &[IMPLICIT_LITTLE]),
            (3, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
        ]);
        let got = getter
            .c_get(1, &by_uids("STUDY", study, None, None))
            .expect("C-GET");
        assert_eq!(got.moved.status, 0, "{:?}", got.moved);
        let bytes: HashMap<_, _> = got
            .received
            .into_iter()
            .map(|one| (one.sop_instance, one.data_set))
            .collect();
        for one in instances {
            assert_eq!(
                known.get(&one.sop),
                Some(&one.series),
                "round {round}: {} was answered 0000H and is not found",
                one.sop
            );
            let got = bytes.get(&one.sop);
            let got = got.unwrap_or_else(|| panic!("round {round}: {} does not come", one.sop));
            assert!(
                *got == one.data_set(),
                "round {round}: {} comes with other bytes",
                one.sop
            );
        }
    }
}

/// Method: kill -9 at a random moment under four senders, start again, look for every acknowledged instance.
#[test]
fn acknowledged_instances_survive_kill_9() {
    let mut random = Random::from_environment("acknowledged_instances_survive_kill_9");
    let mut server = Server::start();
    let mut all = Vec::new();
    let rounds = if common::long() { 30 } else { 3 };
    for round in 0..rounds {
        let load = Load::start(server.address(), round, &mut random);
        std::thread::sleep(Duration::from_millis(random.between(50, 1_500)));
        server.kill();
        let new = load.end();
        eprintln!("round {round}: {} acknowledged", new.len());
        server.restart();
        assert_all_there(&server, &new, round);
        all.extend(new);
    }
    assert!(!all.is_empty(), "no instance was stored in {rounds} rounds");
    assert_all_there(&server, &all, rounds);
    assert!(server.terminate().success());
}

/// Method: as above with a journal, at any moment of carrying over; before every second look the server is killed again
/// while it carries over what it found.
#[test]
fn what_is_in_an_intake_journal_survives_kill_9() {
    let mut random = Random::from_environment("what_is_in_an_intake_journal_survives_kill_9");
    let mut server = Server::with(through_a_journal());
    let mut all = Vec::new();
    let rounds = if common::long() { 40 } else { 4 };
    for round in 0..rounds {
        let load = Load::start(server.address(), round, &mut random);
        std::thread::sleep(Duration::from_millis(random.between(50, 2_500)));
        server.kill();
        let new = load.end();
        for _ in 0..round % 2 * 2 {
            let before = replays(&server).0;
            // The port is open before the volumes are.
            server.restart();
            let patience = Instant::now() + Duration::from_millis(500);
            while replays(&server).0 == before && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(random.between(0, 20)));
            server.kill();
        }
        let (begun, done) = replays(&server);
        eprintln!(
            "round {round}: {} acknowledged, {} replays were cut off by now",
            new.len(),
            begun - done
        );
        server.restart();
        assert_all_there(&server, &new, round);
        assert_nothing_twice_and_nothing_half(&server, &server.volume("A"), round);
        all.extend(new);
    }
    assert!(!all.is_empty(), "no instance was stored in {rounds} rounds");
    assert_all_there(&server, &all, rounds);
    assert!(server.terminate().success());
}

/// How often a journal's records were begun to be carried over at a start, and how often that came to its end.
fn replays(server: &Server) -> (usize, usize) {
    let log = server.log_text();
    let begun = log
        .matches("in the intake journal are carried over")
        .count();
    let done = log.matches("the intake journal is empty").count();
    (begun, done)
}

/// Each instance has one file and one ledger line, and each file is what its line says.
fn assert_nothing_twice_and_nothing_half(server: &Server, volume: &Path, round: u32) {
    let mut named = HashSet::new();
    for folder in std::fs::read_dir(volume.join("ledgers")).expect("ledgers") {
        for segment in files::below(&folder.expect("entry").path()) {
            let text = std::fs::read_to_string(segment).unwrap_or_default();
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                if let Some(sop) = line["stored"].as_str() {
                    assert!(named.insert(sop.to_owned()), "round {round}: {sop} twice");
                }
            }
        }
    }
    assert_eq!(images::tree(volume).len(), named.len(), "round {round}");
    let checked = server.kura(&["volume", "check", "A", "--checksums"]);
    assert!(checked.success(), "round {round}: {}", checked.text());
}

/// Which disks a power cut takes: that of the journal only where it has one of its own.
#[derive(Clone, Copy)]
enum Cut {
    Volume,
    Journal,
    Both,
}

/// Everything of a server on one disk, perhaps its journals on another, and power cuts of these under load.
struct Cuts {
    settings: Settings,
    disk: Pluggable,
    mount: PathBuf,
    journals: Option<(Pluggable, PathBuf)>,
}

impl Cuts {
    /// Method: the file system is shut down without flushing its log while the server stands still; then mount, start,
    /// look. Every third cut comes 0.2 s after the load ended: a folder that nobody synced is carried by the syncs after
    /// it while others store, and only missing on a quiet server. `kinds`: in turn.
    fn run(mut self, what: &str, kinds: &[Cut]) {
        let mut random = Random::from_environment(what);
        let folder: &Path = &self.mount.join("kura");
        std::fs::create_dir(folder).expect("folder of the server");
        let goes_through_a_journal = self.settings.extra.contains("[intake]");
        let mut server = Server::in_folder(self.settings, folder);
        // kura.toml and the new label must not be what the first cut takes.
        rustix::fs::sync();
        let mut all = Vec::new();
        let rounds = if common::long() { 20 } else { 2 }.max(kinds.len() as u32);
        for round in 0..rounds {
            let kind = kinds[round as usize % kinds.len()];
            let mut load = Load::start(server.address(), round, &mut random);
            std::thread::sleep(Duration::from_millis(random.between(100, 1_500)));
            // In a short run the second cut is the quiet one.
            let quiet = round % 3 == if rounds < 3 { 1 } else { 2 };
            if quiet {
                load.quiet();
                std::thread::sleep(Duration::from_millis(200));
            }
            server.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(100));
            let mut disks: Vec<(&mut Pluggable, &Path)> = Vec::new();
            if !matches!(kind, Cut::Journal) {
                disks.push((&mut self.disk, &self.mount));
            }
            if let Some((disk, mount)) = &mut self.journals
                && !matches!(kind, Cut::Volume)
            {
                disks.push((disk, mount));
            }
            for (disk, mount) in &disks {
                // Proof that the cut cuts: this was written and never synced.
                std::fs::write(mount.join("unsynced"), b"forget me").expect("write");
                disk.cut().expect("shutdown");
            }
            server.kill();
            let new = load.end();
            eprintln!("round {round}: {} acknowledged, quiet: {quiet}", new.len());
            for (disk, mount) in disks {
                assert!(disk.unmount(), "cannot unmount");
                assert!(disk.plug_in(mount), "cannot mount again");
                let kept = std::fs::read(mount.join("unsynced"));
                let kept = kept.is_ok_and(|bytes| bytes == b"forget me");
                assert!(!kept, "the power cut forgot nothing: it proves nothing");
            }
            server.restart();
            assert_all_there(&server, &new, round);
            if goes_through_a_journal {
                assert_nothing_twice_and_nothing_half(&server, &server.volume("A"), round);
            }
            all.extend(new);
        }
        assert!(!all.is_empty(), "no instance was stored in {rounds} rounds");
        assert_all_there(&server, &all, rounds);
        if goes_through_a_journal {
            let listed = server.kura_json(&["volume", "list"]);
            assert!(
                listed["volumes"][0]["intake_journal"].is_object(),
                "{listed}"
            );
        }
        server.kill();
        assert!(self.disk.unmount(), "cannot unmount");
    }
}

const DISK_BYTES: u64 = 1 << 30;

fn through_a_journal() -> Settings {
    Settings {
        extra: "[intake]\nmode = \"journal\"\nsize_bytes = 33554432\n".to_owned(),
        ..Settings::default()
    }
}

#[test]
fn acknowledged_instances_survive_a_power_cut() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let mount = scratch.path().join("disk");
    let Some(disk) = Pluggable::ext4(&mount, DISK_BYTES) else {
        return;
    };
    let cuts = Cuts {
        settings: Settings::default(),
        disk,
        mount,
        journals: None,
    };
    cuts.run("acknowledged_instances_survive_a_power_cut", &[Cut::Volume]);
}

#[test]
fn what_is_in_an_intake_journal_survives_a_power_cut_of_an_ext4() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let mount = scratch.path().join("disk");
    let Some(disk) = Pluggable::ext4(&mount, DISK_BYTES) else {
        return;
    };
    let cuts = Cuts {
        settings: through_a_journal(),
        disk,
        mount,
        journals: None,
    };
    cuts.run(
        "what_is_in_an_intake_journal_survives_a_power_cut_of_an_ext4",
        &[Cut::Volume],
    );
}

#[test]
fn what_is_in_an_intake_journal_survives_a_power_cut_of_an_xfs() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let mount = scratch.path().join("disk");
    let Some(disk) = Pluggable::xfs(&mount, DISK_BYTES) else {
        return;
    };
    let cuts = Cuts {
        settings: through_a_journal(),
        disk,
        mount,
        journals: None,
    };
    cuts.run(
        "what_is_in_an_intake_journal_survives_a_power_cut_of_an_xfs",
        &[Cut::Volume],
    );
}

/// Method: the volume on an ext4, its journal on an xfs (an ext4 where none can be made); the power of the one, of the
/// other, and of both is cut in turn.
#[test]
fn an_intake_journal_on_another_disk_survives_a_power_cut_of_either() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let mount = scratch.path().join("disk");
    let Some(disk) = Pluggable::ext4(&mount, DISK_BYTES) else {
        return;
    };
    let at = scratch.path().join("ssd");
    let other = Pluggable::xfs(&at, DISK_BYTES).or_else(|| Pluggable::ext4(&at, DISK_BYTES));
    let Some(other) = other else {
        return;
    };
    let journal = at.join("kura");
    std::fs::create_dir(&journal).expect("folder of the journals");
    let cuts = Cuts {
        settings: Settings {
            journal: Some(journal),
            ..through_a_journal()
        },
        disk,
        mount,
        journals: Some((other, at)),
    };
    cuts.run(
        "an_intake_journal_on_another_disk_survives_a_power_cut_of_either",
        &[Cut::Both, Cut::Volume, Cut::Journal],
    );
}
