//! Everything that can break, broken while a hospital works: what was answered 0000H is there afterwards, and `kura status`
//! told the truth meanwhile.
//!
//! Each test is a fault, injected at a random moment (`KURA_SEED` repeats one) while modalities store, others query, fetch
//! and have sent, copies are made and everything is forwarded. A short run breaks each once. A long one (`KURA_LONG=1`)
//! `KURA_ROUNDS` times, and writes `target/fault-campaign.md`; a hospital lives for some rounds, so that earlier images
//! meet later faults.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::disks::{self, Frozen};
use common::hospital::{Hospital, Kind, Load, Plan, lock};
use common::{Cut, Random, damage, images, long, lossy};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde::{Deserialize, Serialize};

/// Rounds of a hospital before a new one is opened.
const LIFE: u32 = 5;

/// What a fault is, for the table.
struct Fault {
    name: &'static str,
    /// What is done to it.
    what: &'static str,
    /// Who brings it back.
    back: &'static str,
    /// Images may be refused meanwhile.
    refuses: bool,
    /// Of a long run, unless `KURA_ROUNDS` says another number.
    rounds: u32,
}

/// What a fault left behind.
struct Broken {
    /// When nothing was in the way any more.
    healed: Instant,
    /// What `kura status` said meanwhile.
    said: String,
}

impl Broken {
    fn healed_now(said: impl Into<String>) -> Broken {
        Broken {
            healed: Instant::now(),
            said: said.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    what: String,
    back: String,
    rounds: u32,
    /// Of which one failed, and the seed.
    failed: Option<u64>,
    acknowledged: u64,
    refused: u64,
    fetched: u64,
    queries: u64,
    /// Until an image was stored again, in milliseconds, of each round.
    back_ms: Vec<u64>,
    said: String,
}

/// Written when the campaign ends, also by a panic.
struct Report {
    name: &'static str,
    row: Row,
    seed: u64,
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.row.failed = Some(self.seed);
        }
        let table = write_row(self.name, &self.row);
        eprintln!("{}", table.unwrap_or_default());
    }
}

/// Keeps a row and writes the table of all that are known; the line of this one.
fn write_row(name: &str, row: &Row) -> Option<String> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let which = if long() {
        "fault-campaign"
    } else {
        "fault-campaign-short"
    };
    let folder = target.join(which);
    fs::create_dir_all(&folder).ok()?;
    let text = serde_json::to_string_pretty(row).ok()?;
    fs::write(folder.join(format!("{name}.json")), text).ok()?;
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for entry in fs::read_dir(&folder).ok()?.flatten() {
        let name = entry.path().file_stem()?.to_string_lossy().into_owned();
        let row = fs::read(entry.path()).ok()?;
        if let Ok(row) = serde_json::from_slice(&row) {
            rows.insert(name, row);
        }
    }
    let mut table = "| fault | what is done | rounds | acknowledged | lost, torn, twice | answers checked meanwhile | \
                     stores again after, s: median, worst | brought back by | `kura status` meanwhile |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut mine = None;
    for (known, row) in &rows {
        let mut back = row.back_ms.clone();
        back.sort_unstable();
        let seconds = |at: usize| back.get(at).map_or(0.0, |ms| *ms as f64 / 1000.0);
        let bad = match row.failed {
            None => "0".to_owned(),
            Some(seed) => format!("**failed** (KURA_SEED={seed})"),
        };
        let line = format!(
            "| {} | {} | {} | {} | {bad} | {} queries, {} images | {:.1}, {:.1} | {} | {} |\n",
            known.replace('_', " "),
            row.what,
            row.rounds,
            row.acknowledged,
            row.queries,
            row.fetched,
            seconds(back.len() / 2),
            seconds(back.len().saturating_sub(1)),
            row.back,
            row.said,
        );
        if known == name {
            mine = Some(line.trim_end().to_owned());
        }
        table += &line;
    }
    fs::write(target.join(format!("{which}.md")), table).ok()?;
    mine
}

fn rounds(of_long: u32) -> u32 {
    let wanted = std::env::var("KURA_ROUNDS").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    match long() {
        true => wanted.unwrap_or(of_long),
        false => wanted.unwrap_or(1),
    }
}

/// Breaks it in each round. `plan`: of each hospital. `break_it` returns when what it did is undone; it may end the load.
fn campaign(
    fault: Fault,
    plan: impl Fn(&mut Random) -> Plan,
    mut break_it: impl FnMut(&mut Hospital, &mut Random, &mut Option<Load>) -> Broken,
) {
    // Of the first life; each gives that of the next, so that a failure is repeated by the seed of its life.
    let mut seed = Random::from_environment(fault.name).seed();
    let rounds = rounds(fault.rounds);
    let mut report: Option<Report> = None;
    let mut done = 0;
    while done < rounds {
        let mut random = Random::new(seed);
        let Some(mut hospital) = Hospital::open(plan(&mut random)) else {
            return;
        };
        let report = report.get_or_insert_with(|| Report {
            name: fault.name,
            row: Row {
                what: fault.what.into(),
                back: fault.back.into(),
                rounds: 0,
                failed: None,
                acknowledged: 0,
                refused: 0,
                fetched: 0,
                queries: 0,
                back_ms: Vec::new(),
                said: String::new(),
            },
            seed,
        });
        report.seed = seed;
        for _ in 0..LIFE.min(rounds - done) {
            let mut load = Some(hospital.load(&mut random));
            hospital.stores(10);
            hospital.note_recorded();
            std::thread::sleep(Duration::from_millis(random.between(1_000, 2_500)));
            hospital.the_fault_comes(0);
            lock(&hospital.seen.refused).clear();
            let before = hospital.seen.acknowledged_count();
            let broken = break_it(&mut hospital, &mut random, &mut load);
            let meanwhile = hospital.seen.acknowledged_count() - before;
            // What hangs on a connection that is gone ends by itself.
            let load = load.take();
            let refused = std::mem::take(&mut *lock(&hospital.seen.refused));
            let ended = std::thread::spawn(move || load.map(Load::end));
            let back = hospital.assert_well(broken.healed, &mut random);
            ended.join().expect("the end of the load");
            hospital.assert_all_there();
            done += 1;
            let row = &mut report.row;
            row.rounds = done;
            row.back_ms.push(back.as_millis() as u64);
            // Without the folder of this run.
            let root = hospital.server.folder().display().to_string();
            row.said = broken.said.replace(&root, "…");
            eprintln!(
                "{} round {done}: {before} acknowledged before, {meanwhile} meanwhile; stored again after {back:?}; refused {refused:?}",
                fault.name
            );
            row.refused += refused.values().sum::<u64>();
            // While one disk is well, nobody is sent away.
            assert!(fault.refuses || refused.is_empty(), "{refused:?}");
        }
        seed = random.next() | 1;
        let row = &mut report.row;
        let seen = hospital.seen.clone();
        hospital.close();
        row.acknowledged += seen.acknowledged_count() as u64;
        row.queries += seen.queries.load(std::sync::atomic::Ordering::Relaxed);
        row.fetched += seen.fetched.load(std::sync::atomic::Ordering::Relaxed);
    }
}

fn quietly(random: &mut Random, load: &mut Option<Load>) {
    // A folder that nobody synced is carried by the syncs of those who store after it.
    if random.between(0, 3) == 0
        && let Some(load) = load.take()
    {
        load.end();
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn power_cut(hospital: &mut Hospital, random: &mut Random, load: &mut Option<Load>) -> Broken {
    quietly(random, load);
    hospital.server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(50));
    hospital.the_fault_comes(0);
    for disk in &hospital.disks {
        // Proof that the cut cuts: this was written and never synced.
        fs::write(disk.at.join("unsynced"), b"forget me").expect("write");
        disk.plug.cut().expect("shutdown");
    }
    hospital.server.kill();
    for disk in &mut hospital.disks {
        assert!(disk.plug.unmount(), "cannot unmount");
        assert!(disk.plug.plug_in(&disk.at), "cannot mount again");
        let kept = fs::read(disk.at.join("unsynced"));
        let kept = kept.is_ok_and(|bytes| bytes == b"forget me");
        assert!(!kept, "the power cut forgot nothing: it proves nothing");
    }
    let healed = Instant::now();
    hospital.server.restart();
    Broken {
        healed,
        said: "the server is away".into(),
    }
}

const POWER: &str = "all four file systems are shut down without their logs; in a third of the rounds 0.2 s after the load ended";

#[test]
fn power_cut_ext4() {
    let fault = Fault {
        name: "power_cut_ext4",
        what: POWER,
        back: "the next start",
        refuses: false,
        rounds: 100,
    };
    campaign(fault, Plan::new, power_cut);
}

#[test]
fn power_cut_xfs() {
    let fault = Fault {
        name: "power_cut_xfs",
        what: POWER,
        back: "the next start",
        refuses: false,
        rounds: 100,
    };
    let plan = |random: &mut Random| Plan {
        kind: Kind::Xfs,
        ..Plan::new(random)
    };
    campaign(fault, plan, power_cut);
}

#[test]
fn kill_9() {
    let fault = Fault {
        name: "kill_9",
        what: "the process is killed",
        back: "the next start (systemd: by itself)",
        refuses: false,
        rounds: 100,
    };
    campaign(fault, Plan::new, |hospital, random, load| {
        quietly(random, load);
        hospital.server.kill();
        // What was sent when it was killed has arrived by then.
        std::thread::sleep(Duration::from_millis(100));
        hospital.the_fault_comes(0);
        let healed = Instant::now();
        hospital.server.restart();
        Broken {
            healed,
            said: "the server is away".into(),
        }
    });
}

#[test]
fn stopped_and_continued() {
    let fault = Fault {
        name: "stopped_and_continued",
        what: "SIGSTOP for 32 to 50 s, longer than a message may stall, then SIGCONT",
        back: "itself",
        refuses: false,
        rounds: 10,
    };
    let plan = |random: &mut Random| {
        let mut plan = Plan::new(random);
        if !long() {
            plan.extra = "[limits]\nstall_seconds = 2\n".into();
        }
        plan
    };
    campaign(fault, plan, |hospital, random, _| {
        hospital.the_fault_comes(8);
        hospital.server.signal(Signal::STOP);
        let seconds = if long() { random.between(32, 50) } else { 4 };
        std::thread::sleep(Duration::from_secs(seconds));
        hospital.server.signal(Signal::CONT);
        Broken::healed_now("nothing: it stands still")
    });
}

/// Fills a disk to the last block, without writing.
struct Ballast(PathBuf);

impl Ballast {
    fn on(disk: &Path) -> Ballast {
        let path = disk.join("ballast");
        disks::fill(&path);
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn archive_full() {
    let fault = Fault {
        name: "archive_full",
        what: "not a block is free on either archive volume",
        back: "itself, when there is room",
        refuses: true,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, _, _| {
        let full = ["A", "B"].map(|name| Ballast::on(&hospital.disk(name).at));
        let said = hospital.is_told("degraded", &["nothing can be stored", "kura volume add"]);
        hospital.until("/healthz says that nothing is stored", || {
            hospital.health().is_some_and(|(stores, _)| !stores)
        });
        drop(full);
        Broken::healed_now(said)
    });
}

#[test]
fn mirror_full() {
    let fault = Fault {
        name: "mirror_full",
        what: "not a block is free on the mirror volume",
        back: "itself, when there is room",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, _, _| {
        let full = Ballast::on(&hospital.disk("M").at);
        hospital.stores(10);
        let said = hospital.is_told("degraded", &["mirror volume M has no room"]);
        drop(full);
        Broken::healed_now(said)
    });
}

#[test]
fn state_full() {
    let fault = Fault {
        name: "state_full",
        what: "not a block is free where the index and the outbox are",
        back: "itself, when there is room",
        refuses: true,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, _, _| {
        let full = Ballast::on(&hospital.disk("state").at);
        let said = hospital.is_told("degraded", &["the disk of the state folder"]);
        drop(full);
        Broken::healed_now(said)
    });
}

#[test]
fn no_inodes() {
    let fault = Fault {
        name: "no_inodes",
        what: "not an inode is free on either archive volume",
        back: "itself, when there are some",
        refuses: true,
        rounds: 10,
    };
    let plan = |random: &mut Random| Plan {
        bytes: 48 << 20,
        ..Plan::new(random)
    };
    campaign(fault, plan, |hospital, _, _| {
        let folders = ["A", "B"].map(|name| hospital.disk(name).at.join("ballast"));
        for folder in &folders {
            fs::create_dir(folder).expect("ballast");
            let full = (0..).find(|n: &u32| fs::write(folder.join(n.to_string()), b"").is_err());
            assert!(full.is_some());
        }
        let said = hospital.is_told("degraded", &["nothing can be stored"]);
        for folder in &folders {
            fs::remove_dir_all(folder).expect("remove ballast");
        }
        Broken::healed_now(said)
    });
}

/// What `kura status` says is to be done with a volume whose disk failed, done.
fn as_told(hospital: &mut Hospital, name: &str, said: &str) -> Instant {
    let kura = |hospital: &Hospital, verb: &str| {
        assert!(
            said.contains(&format!("kura volume {verb} {name}")),
            "{said}"
        );
        let outcome = hospital.server.kura(&["volume", verb, name]);
        assert!(outcome.success(), "{verb}: {}", outcome.text());
    };
    kura(hospital, "eject");
    let disk = hospital.disk(name);
    assert!(disk.plug.unmount(), "cannot unmount");
    assert!(disk.plug.plug_in(&disk.at), "cannot mount again");
    let healed = Instant::now();
    kura(hospital, "return");
    healed
}

fn one_of<'a>(random: &mut Random, names: &[&'a str]) -> &'a str {
    names[random.between(0, names.len() as u64) as usize]
}

#[test]
fn a_disk_dies() {
    let fault = Fault {
        name: "a_disk_dies",
        what: "an archive volume or the mirror fails every call (EIO) under load; then ejected, mounted and returned, as told",
        back: "a person; the other volumes store meanwhile",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        let name = one_of(random, &["A", "B", "M"]);
        hospital.disk(name).plug.cut().expect("shutdown");
        hospital.stores(10);
        let said = hospital.is_told("degraded", &[&format!("volume {name} is not written")]);
        let healed = as_told(hospital, name, &said);
        Broken { healed, said }
    });
}

#[test]
fn writes_fail() {
    let fault = Fault {
        name: "writes_fail",
        what: "an archive volume's disk fails (EIO) what is written to new places, as a thin disk or a worn one does; then it is \
               ejected, mounted and returned, as told",
        back: "a person; the other volumes store meanwhile",
        refuses: false,
        rounds: 10,
    };
    let plan = |random: &mut Random| Plan {
        kind: Kind::Thin,
        bytes: 96 << 20,
        ..Plan::new(random)
    };
    campaign(fault, plan, |hospital, random, _| {
        let name = one_of(random, &["A", "B"]);
        hospital.disk(name).plug.fail_writes(true);
        hospital.stores(10);
        let said = hospital.is_told("degraded", &[&format!("volume {name} is not written")]);
        hospital.stores(10);
        hospital.disk(name).plug.fail_writes(false);
        let healed = as_told(hospital, name, &said);
        Broken { healed, said }
    });
}

#[test]
fn read_only() {
    let fault = Fault {
        name: "read_only",
        what: "the kernel makes an archive volume or the mirror read-only under load; then ejected, mounted and returned, as told",
        back: "a person; the other volumes store meanwhile",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        let name = one_of(random, &["A", "B", "M"]);
        let at = hospital.disk(name).at.clone();
        let mut mount = Command::new("mount");
        let aborted = mount.args(["-o", "remount,abort"]).arg(&at).output();
        assert!(
            aborted.is_ok_and(|aborted| aborted.status.success()),
            "remount"
        );
        hospital.stores(10);
        let said = hospital.is_told("degraded", &[&format!("volume {name} is not written")]);
        let healed = as_told(hospital, name, &said);
        Broken { healed, said }
    });
}

#[test]
fn unplugged() {
    let fault = Fault {
        name: "unplugged",
        what: "an archive volume or the mirror is unmounted lazily under load: its folder is there and empty",
        back: "itself, when it is plugged in",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        let name = one_of(random, &["A", "B", "M"]);
        let disk = hospital.disk(name);
        disk.plug.pull_out();
        let at = disk.at.clone();
        hospital.stores(10);
        let said = hospital.is_told("degraded", &[&format!("volume {name} is away")]);
        hospital.stores(10);
        let below: Vec<_> = fs::read_dir(&at).expect("the mount point").collect();
        assert!(below.is_empty(), "written below the mount point: {below:?}");
        assert!(hospital.disk(name).plug.plug_in(&at), "cannot mount again");
        Broken::healed_now(said)
    });
}

#[test]
fn a_disk_hangs() {
    let fault = Fault {
        name: "a_disk_hangs",
        what: "every call that writes to an archive volume waits",
        back: "itself, when it answers; the other volumes store meanwhile",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        let name = one_of(random, &["A", "B"]);
        let Some(mut frozen) = Frozen::new(hospital.disk(name).at.clone()) else {
            panic!("a mounted file system can be frozen");
        };
        let words = [&*format!("volume {name} is not written"), "does not answer"];
        let said = hospital.is_told("degraded", &words);
        hospital.stores(5);
        frozen.thaw();
        Broken::healed_now(said)
    });
}

/// Limits a resource of the running server.
fn limit(hospital: &Hospital, what: Resource, to: Rlimit) {
    let pid = i32::try_from(hospital.server.pid()).expect("a process id");
    prlimit(Pid::from_raw(pid), what, to).expect("prlimit");
}

#[test]
fn no_file_descriptors() {
    let fault = Fault {
        name: "no_file_descriptors",
        what: "the process may open nothing more, for some seconds",
        back: "itself",
        refuses: true,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        let open = format!("/proc/{}/fd", hospital.server.pid());
        let open = fs::read_dir(open).expect("/proc").count() as u64;
        let all = rustix::process::getrlimit(Resource::Nofile);
        let few = Rlimit {
            current: Some(open.saturating_sub(random.between(0, 6))),
            ..all
        };
        hospital.the_fault_comes(8);
        limit(hospital, Resource::Nofile, few);
        std::thread::sleep(Duration::from_millis(random.between(3_000, 8_000)));
        limit(hospital, Resource::Nofile, all);
        Broken::healed_now("nobody can ask")
    });
}

#[test]
fn no_memory() {
    let fault = Fault {
        name: "no_memory",
        what: "the process gets no more address space (as under ulimit -v)",
        back: "itself, or the next start (systemd: by itself)",
        refuses: true,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        let status = format!("/proc/{}/status", hospital.server.pid());
        let status = fs::read_to_string(status).expect("/proc");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let size = size.and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let little = Rlimit {
            current: Some((size.expect("VmSize") << 10) + random.between(0, 4 << 20)),
            maximum: None,
        };
        hospital.the_fault_comes(8);
        limit(hospital, Resource::As, little);
        std::thread::sleep(Duration::from_millis(random.between(2_000, 5_000)));
        if hospital.server.has_ended() {
            let healed = Instant::now();
            hospital.server.restart();
            return Broken {
                healed,
                said: "the process ended, or answers what it can".into(),
            };
        }
        let all = Rlimit {
            current: None,
            maximum: None,
        };
        limit(hospital, Resource::As, all);
        Broken::healed_now("the process ended, or answers what it can")
    });
}

/// Where systems keep it: below the folder of their architecture, or without one.
fn faketime() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .map(|e| e.path())
        .collect();
    folders.push("/usr/lib".into());
    let mut files = folders
        .iter()
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.exists())
}

#[test]
fn the_clock_jumps() {
    let Some(library) = faketime() else {
        return common::tools::skip("libfaketime is not installed (run: make tools)");
    };
    let fault = Fault {
        name: "the_clock_jumps",
        what: "the clock is set days ahead, days back, and right again",
        back: "itself",
        refuses: false,
        rounds: 10,
    };
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let file = folder.path().join("clock");
    let set = |offset: &str| fs::write(&file, offset).expect("set the clock");
    set("+0");
    let plan = |random: &mut Random| {
        set("+0");
        let environment = [
            ("LD_PRELOAD", library.to_str().expect("a path")),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().expect("a path")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Plan {
            environment: environment
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            ..Plan::new(random)
        }
    };
    campaign(fault, plan, |hospital, random, _| {
        for _ in 0..2 {
            let sign = one_of(random, &["+", "-"]);
            set(&format!("{sign}{}d", random.between(1, 40)));
            hospital.stores(10);
        }
        set("+0");
        hospital.stores(10);
        Broken::healed_now("ok")
    });
}

#[test]
fn partition() {
    let fault = Fault {
        name: "partition",
        what: "the network between the server and everybody falls silent; later, connections that there were are gone",
        back: "itself",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        hospital.the_fault_comes(8);
        hospital.near.hold();
        hospital.far.hold();
        let most = if long() { 40_000 } else { 3_000 };
        std::thread::sleep(Duration::from_millis(random.between(1_000, most)));
        hospital.near.heal();
        hospital.far.heal();
        Broken::healed_now("ok: modalities and peers are silent, not the archive")
    });
}

/// Method: in a network namespace of its own; for some seconds of each round every packet is lost.
#[test]
fn packets_are_lost() {
    if !long() {
        eprintln!("skipped: a long test (KURA_LONG=1)");
        return;
    }
    if !lossy::is_inside() {
        return lossy::run("packets_are_lost");
    }
    if !lossy::begin(3) {
        return;
    }
    let fault = Fault {
        name: "packets_are_lost",
        what: "3 % of all packets are lost all the time, and for 2 to 8 s every one",
        back: "itself",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        hospital.the_fault_comes(8);
        lossy::lose(100);
        std::thread::sleep(Duration::from_millis(random.between(2_000, 8_000)));
        lossy::lose(3);
        Broken::healed_now("ok")
    });
}

#[test]
fn connections_break() {
    let fault = Fault {
        name: "connections_break",
        what: "connections break at random places, both ways",
        back: "itself",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        hospital.the_fault_comes(10);
        let before = hospital.near.cut_count();
        for network in [&hospital.near, &hospital.far] {
            let cuts: Vec<Cut> = (0..10)
                .map(|_| match random.between(0, 2) {
                    0 => Cut::Sent(random.between(1, 60_000) as usize),
                    _ => Cut::Answered(random.between(1, 1_500) as usize),
                })
                .collect();
            network.cut(&cuts);
        }
        // One that is over before its place comes does not break.
        hospital.until("connections break", || {
            hospital.near.cut_count() >= before + 3
        });
        Broken::healed_now("ok")
    });
}

#[test]
fn bits_flip() {
    let fault = Fault {
        name: "bits_flip",
        what: "a bit of three files that have a second copy flips on a disk; then everything is read again",
        back: "itself: the copies are made again from the good ones",
        refuses: false,
        rounds: 10,
    };
    campaign(fault, Plan::new, |hospital, random, _| {
        hospital.until("copies are there", || {
            images::tree(&hospital.server.volume("M")).len() > 5
        });
        let mut mirrored = images::tree(&hospital.server.volume("M"));
        for _ in 0..3 {
            let at = random.between(0, mirrored.len() as u64) as usize;
            let copy = mirrored.swap_remove(at);
            let relative = copy.strip_prefix(hospital.server.volume("M"));
            let relative = relative.expect("below the mirror").to_owned();
            let originals = ["A", "B"].map(|name| hospital.server.volume(name).join(&relative));
            let original = originals.into_iter().find(|path| path.exists());
            let victim = original.filter(|_| random.between(0, 2) == 0);
            damage::DAMAGES[0].1(&victim.unwrap_or(copy));
        }
        // 1: it found what was not found before it came there.
        let outcome = hospital.server.kura(&["scrub", "run"]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.text());
        Broken::healed_now("what was found bad, until it is healed")
    });
}
