//! A hospital on one server: modalities that store, workstations that ask and fetch, an archive that everything goes on to,
//! two archive volumes and a mirror on file systems of their own, and the state on one too. All of it goes on while a
//! test breaks something.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::build::{by_uids, ident};
use super::disks::Pluggable;
use super::images::{self, ALL, FIND, GET, Image};
use super::server::free_port;
use super::wire::{IMPLICIT_LITTLE, Received, STUDY_ROOT_MOVE};
use super::{Client, Proxy, Random, Server, Settings, Sink, elements, forwarding};

/// How long anything that comes back by itself may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// The context of C-MOVE, beside [`ALL`].
const MOVE: u8 = 9;

/// What the disks of a hospital are.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Ext4,
    Xfs,
    /// Archive volumes and the mirror can fail what is written.
    Thin,
}

/// A file system, and where it is plugged in.
pub struct Disk {
    pub name: &'static str,
    pub at: PathBuf,
    pub plug: Pluggable,
}

/// An image that a modality tried to store; its bytes follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    pub study: u32,
    pub number: u32,
    pub pixel_bytes: usize,
}

impl Sent {
    pub fn image(&self) -> Image {
        Image::new(self.study, self.number, self.pixel_bytes)
    }

    pub fn sop(&self) -> String {
        format!("2.25.7{}.{}", self.study, self.number)
    }

    pub fn study_uid(&self) -> String {
        format!("2.25.9{}", self.study)
    }
}

/// What somebody does again and again with a study; the sink is that of C-MOVE, one at a time.
type Work = fn(&Seen, SocketAddr, u32, &Sink, &Mutex<()>);

/// How modalities send.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Of an image, from and to.
    pub pixel_bytes: (u64, u64),
    /// Between two images, milliseconds, from and to.
    pub pause_ms: (u64, u64),
    /// Of a thousand images, so many are sent once more that were acknowledged before.
    pub again: u64,
}

/// What everybody saw.
#[derive(Default)]
pub struct Seen {
    /// Answered 0000H.
    pub acknowledged: Mutex<Vec<Sent>>,
    /// Begun to be sent, by SOP Instance UID.
    pub tried: Mutex<HashMap<String, Sent>>,
    /// SOP Instance and Study UIDs that a test changes: nobody judges them.
    pub others: Mutex<HashSet<String>>,
    /// Answers other than 0000H, and how often.
    pub refused: Mutex<BTreeMap<String, u64>>,
    /// What may never be seen.
    pub wrong: Mutex<Vec<String>>,
    pub moves: AtomicU64,
    pub queries: AtomicU64,
    pub fetched: AtomicU64,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Seen {
    pub fn acknowledged_count(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    fn of_study(&self, study: u32) -> Vec<Sent> {
        let mut all = lock(&self.acknowledged).clone();
        all.retain(|sent| sent.study == study);
        all
    }

    fn wrong(&self, what: String) {
        let mut wrong = lock(&self.wrong);
        if wrong.len() < 20 {
            wrong.push(what);
        }
    }

    /// Bytes that came back are those that were sent.
    fn compare(&self, received: &[Received], by: &str) {
        for one in received {
            if lock(&self.others).contains(&one.sop_instance) {
                continue;
            }
            let Some(sent) = lock(&self.tried).get(&one.sop_instance).copied() else {
                self.wrong(format!("{by}: {} was never sent", one.sop_instance));
                continue;
            };
            if one.data_set != sent.image().data_set {
                self.wrong(format!("{by}: {} with other bytes", one.sop_instance));
            }
        }
    }

    /// A complete answer has each image that was acknowledged before it was asked for, and none twice.
    fn judge(&self, before: &[Sent], answered: &[String], by: &str) {
        let once: HashSet<&String> = answered.iter().collect();
        if once.len() != answered.len() {
            self.wrong(format!("{by}: an image twice in {answered:?}"));
        }
        for sent in before {
            if !once.contains(&sent.sop()) {
                self.wrong(format!(
                    "{by}: {} was acknowledged, and is not there",
                    sent.sop()
                ));
            }
        }
        for sop in once {
            if !lock(&self.tried).contains_key(sop) {
                self.wrong(format!("{by}: {sop} was never sent"));
            }
        }
    }
}

/// SOP Instance UIDs of a study, if the answer is complete.
fn find_study(address: SocketAddr, study: &str) -> Option<Vec<String>> {
    let mut client = Client::associate(address, "DESK", "KURA", ALL).ok()?;
    let found = client
        .c_find(FIND, &by_uids("IMAGE", study, None, Some("")))
        .ok()?;
    let _ = client.release();
    let sops = found.answers().into_iter();
    let sops = sops.filter_map(|answer| elements::find(&answer, 0x0008, 0x0018));
    (found.status == 0).then(|| sops.collect())
}

/// Everything of a study, and whether that was all.
fn get_study(address: SocketAddr, study: &str) -> Option<(Vec<Received>, bool)> {
    let mut client = Client::associate(address, "DESK", "KURA", ALL).ok()?;
    let got = client
        .c_get(GET, &by_uids("STUDY", study, None, None))
        .ok()?;
    let _ = client.release();
    Some((got.received, got.moved.status == 0))
}

/// All five at once: modalities store, others ask, fetch and have sent; copies and forwarding go on by themselves.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a thread of the load");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The order of the fields is the order of the end.
pub struct Hospital {
    pub server: Server,
    pub disks: Vec<Disk>,
    pub seen: Arc<Seen>,
    pub admin: SocketAddr,
    /// What C-MOVE sends to.
    workstation: Arc<Sink>,
    /// One C-MOVE at a time: what arrives there is that one's.
    moving: Arc<Mutex<()>>,
    /// What everything is forwarded to, and the network before it.
    next: Sink,
    pub far: Proxy,
    /// The network before the server.
    pub near: Proxy,
    /// How often each image arrived at the next archive; and since the fault, each study.
    arrived: HashMap<String, u64>,
    since_fault: HashMap<String, u64>,
    /// What the outbox had recorded some time before the fault: of each study.
    recorded: HashMap<String, u64>,
    again: u64,
    pace: Pace,
    round: u32,
    _folder: TempDir,
}

pub struct Plan {
    pub kind: Kind,
    pub bytes: u64,
    pub journal: bool,
    /// Put before the tables.
    pub extra: String,
    pub environment: Vec<(String, String)>,
    pub pace: Pace,
}

impl Plan {
    pub fn new(random: &mut Random) -> Plan {
        Plan {
            kind: Kind::Ext4,
            bytes: 160 << 20,
            journal: random.next() & 64 == 0,
            extra: String::new(),
            environment: Vec::new(),
            pace: Pace {
                pixel_bytes: (100, 30_000),
                pause_ms: (10, 50),
                again: 50,
            },
        }
    }
}

impl Hospital {
    /// `None`, and a printed reason, where this user may not mount.
    pub fn open(plan: Plan) -> Option<Hospital> {
        let folder = TempDir::new().expect("temporary folder");
        let root = folder.path().join("kura");
        let mut disks = Vec::new();
        for (name, path) in [
            ("state", "state"),
            ("A", "volume-a"),
            ("B", "volume-b"),
            ("M", "volume-m"),
        ] {
            let at = root.join(path);
            let plug = match plan.kind {
                Kind::Thin if name != "state" => Pluggable::thin(&at, plan.bytes)?,
                Kind::Ext4 | Kind::Thin => Pluggable::ext4(&at, plan.bytes)?,
                Kind::Xfs => Pluggable::xfs(&at, 320 << 20)?,
            };
            disks.push(Disk { name, at, plug });
        }
        let (workstation, next) = (Arc::new(Sink::start()), Sink::start());
        let far = Proxy::before(next.port());
        let admin = free_port();
        let mode = if plan.journal { "journal" } else { "direct" };
        let mut settings = forwarding::settings(&[("NEXT", far.port())]);
        settings.extra = format!(
            "{}\n{}\n[placement]\nreserve = \"1 MiB\"\norder = \"most-free\"\n\
             [mirror]\nwhen = \"immediate\"\nallow_same_device = true\npause_seconds = 0\n\
             [intake]\nmode = \"{mode}\"\nsize_bytes = 8388608\n",
            plan.extra, settings.extra
        );
        settings.environment = plan.environment;
        // What is copied is read again after a second, not after a minute.
        let checks = ("KURA_CHECK_SECONDS".into(), "1".into());
        settings.environment.push(checks);
        settings.arguments = vec!["--admin-port".into(), admin.to_string()];
        let settings = settings
            .volume("B", "volume-b", "archive")
            .volume("M", "volume-m", "mirror")
            .peer("WS", workstation.port());
        let server = Server::in_folder(settings, &root);
        server.wait_until_indexed();
        let near = Proxy::before(server.port());
        // kura.toml and new labels are not what the first power cut takes.
        rustix::fs::sync();
        Some(Hospital {
            server,
            disks,
            seen: Arc::default(),
            admin: SocketAddr::from(([127, 0, 0, 1], admin)),
            workstation,
            moving: Arc::default(),
            next,
            far,
            near,
            arrived: HashMap::new(),
            since_fault: HashMap::new(),
            recorded: HashMap::new(),
            again: 0,
            pace: plan.pace,
            round: 0,
            _folder: folder,
        })
    }

    pub fn disk(&mut self, name: &str) -> &mut Disk {
        let mut disks = self.disks.iter_mut();
        disks.find(|disk| disk.name == name).expect("a disk")
    }

    /// Two to four modalities, and one of each of the others.
    pub fn load(&mut self, random: &mut Random) -> Load {
        self.round += 1;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let address = SocketAddr::from(([127, 0, 0, 1], self.near.port()));
        let modalities = random.between(2, 5) as u32;
        for modality in 0..modalities {
            let (seen, stop) = (self.seen.clone(), stop.clone());
            let first = self.round * 100 + modality * 10;
            let (pace, mut random) = (self.pace, Random::new(random.next()));
            threads.push(std::thread::spawn(move || {
                store(&seen, &stop, address, first, pace, &mut random);
            }));
        }
        let works: [Work; 3] = [
            |seen, address, study, _, _| {
                let before = seen.of_study(study);
                if let Some(found) = find_study(address, &uid(study)) {
                    seen.judge(&before, &found, "C-FIND");
                    seen.queries.fetch_add(1, Ordering::Relaxed);
                }
            },
            |seen, address, study, _, _| {
                let before = seen.of_study(study);
                let Some((got, is_all)) = get_study(address, &uid(study)) else {
                    return;
                };
                seen.compare(&got, "C-GET");
                if is_all {
                    let sops: Vec<String> = got.into_iter().map(|one| one.sop_instance).collect();
                    seen.judge(&before, &sops, "C-GET");
                    let count = sops.len() as u64;
                    seen.fetched.fetch_add(count, Ordering::Relaxed);
                }
            },
            |seen, address, study, sink, moving| {
                let _one = lock(moving);
                let contexts: &[(u8, &str, &[&str])] =
                    &[(MOVE, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])];
                // What an earlier one still has sent, whose connection broke, tells itself by its title.
                let title = format!("DESK-{}", seen.moves.fetch_add(1, Ordering::Relaxed));
                let Ok(mut client) = Client::associate(address, &title, "KURA", contexts) else {
                    return;
                };
                let before = seen.of_study(study);
                let study = by_uids("STUDY", &uid(study), None, None);
                let moved = client.c_move(MOVE, "WS", &study);
                let mut came = sink.take();
                seen.compare(&came, "C-MOVE");
                came.retain(|one| one.originator.as_ref().is_some_and(|by| by.0 == title));
                if moved.is_ok_and(|moved| moved.status == 0) {
                    let sops: Vec<String> = came.into_iter().map(|one| one.sop_instance).collect();
                    seen.judge(&before, &sops, "C-MOVE");
                    let count = sops.len() as u64;
                    seen.fetched.fetch_add(count, Ordering::Relaxed);
                }
                let _ = client.release();
            },
        ];
        for work in works {
            let (seen, stop) = (self.seen.clone(), stop.clone());
            let (sink, moving) = (self.workstation.clone(), self.moving.clone());
            let mut random = Random::new(random.next());
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(random.between(20, 120)));
                    let some = {
                        let all = lock(&seen.acknowledged);
                        let count = all.len() as u64;
                        (count > 0).then(|| all[random.between(0, count) as usize])
                    };
                    if let Some(some) = some {
                        work(&seen, address, some.study, &sink, &moving);
                    }
                }
            }));
        }
        Load { stop, threads }
    }

    /// Waits until so many more are acknowledged: the server stores.
    pub fn stores(&self, more: usize) {
        let before = self.seen.acknowledged_count();
        self.until("images are stored", || {
            self.seen.acknowledged_count() >= before + more
        });
    }

    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Notes what is recorded as sent; the fault may come a second later, when that is on the disk.
    pub fn note_recorded(&mut self) {
        let (items, _) = forwarding::list(&self.server);
        let items = items.into_iter();
        self.recorded = items
            .map(|item| (item.study_instance_uid, item.sent_count))
            .collect();
    }

    /// From now on no study is sent more instances than were not recorded then; `again`: nor more than so many more, which
    /// were answered over connections that broke.
    pub fn the_fault_comes(&mut self, again: u64) {
        self.drain();
        self.since_fault.clear();
        self.again = again;
    }

    fn drain(&mut self) {
        let came = self.next.take();
        self.seen.compare(&came, "forwarding");
        for one in came {
            let sent = lock(&self.seen.tried).get(&one.sop_instance).copied();
            if let Some(sent) = sent {
                *self.since_fault.entry(sent.study_uid()).or_default() += 1;
            }
            *self.arrived.entry(one.sop_instance).or_default() += 1;
        }
    }

    /// Waits until `kura status` says this state and a sentence with all of these in it; and `/healthz` the same state.
    pub fn is_told(&self, state: &str, words: &[&str]) -> String {
        let begun = Instant::now();
        let mut last;
        loop {
            let outcome = self.server.kura(&["status", "--json"]);
            let status: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
            let actions = status["actions"].as_array().cloned().unwrap_or_default();
            let mut said = actions.iter().filter_map(Value::as_str);
            let said = match words {
                [] => Some(""),
                words => said.find(|said| words.iter().all(|word| said.contains(word))),
            };
            if let (true, Some(said)) = (status["state"] == state, said)
                && self.health().is_some_and(|(_, health)| health == state)
            {
                return said.to_owned();
            }
            last = format!("{}{}", outcome.text(), status["state"]);
            let health = self.health();
            assert!(
                begun.elapsed() < PATIENCE,
                "not {state} with {words:?}: {last}, /healthz {health:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether it stores, and the state.
    pub fn health(&self) -> Option<(bool, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).ok()?;
        let host = self.admin;
        write!(
            stream,
            "GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let body = &text[text.find('{')?..=text.rfind('}')?];
        let body: Value = serde_json::from_str(body).ok()?;
        let state = body["state"].as_str()?.to_owned();
        let stores = body["storing"].as_bool()?;
        assert_eq!(text.starts_with("HTTP/1.1 200"), stores, "{text}");
        Some((stores, state))
    }

    /// Everything that was promised. Returns how long it took until an image was stored, from `healed` on.
    pub fn assert_well(&mut self, healed: Instant, random: &mut Random) -> Duration {
        let load = self.load(random);
        self.stores(1);
        let back = healed.elapsed();
        load.end();
        self.server.assert_alive();
        self.server.wait_until_indexed();
        self.is_told("ok", &[]);
        assert_eq!(self.health().map(|(stores, _)| stores), Some(true));
        self.assert_all_there();
        self.assert_copied();
        self.assert_forwarded();
        for name in ["volume-a", "volume-b", "volume-m"] {
            images::wait_until_nothing_is_incoming(&self.server.folder().join(name));
        }
        let log = self.server.log_text();
        assert!(!log.contains("panicked"), "a panic");
        back
    }

    /// Found, once, and byte for byte as it was sent; nothing else.
    pub fn assert_all_there(&self) {
        let studies: BTreeSet<u32> = lock(&self.seen.acknowledged)
            .iter()
            .map(|sent| sent.study)
            .collect();
        for study in studies {
            let before = self.seen.of_study(study);
            let address = self.server.address();
            let found = find_study(address, &uid(study)).expect("a complete C-FIND");
            self.seen.judge(&before, &found, "C-FIND at last");
            let (got, is_all) = get_study(address, &uid(study)).expect("a C-GET");
            assert!(is_all, "C-GET of study {study} failed in part");
            self.seen.compare(&got, "C-GET at last");
            let sops: Vec<String> = got.into_iter().map(|one| one.sop_instance).collect();
            self.seen.judge(&before, &sops, "C-GET at last");
        }
        let wrong = lock(&self.seen.wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Each image is on the mirror too, the same bytes, and once on each side.
    fn assert_copied(&self) {
        let begun = Instant::now();
        let wanted: BTreeSet<String> = lock(&self.seen.acknowledged)
            .iter()
            .map(Sent::sop)
            .collect();
        loop {
            let status = super::copies::status(&self.server);
            let trouble = match status["state"] == "done" {
                true => self.not_copied(&wanted),
                false => Some(format!("{status}")),
            };
            let Some(trouble) = trouble else { return };
            assert!(begun.elapsed() < PATIENCE, "{trouble}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What is wrong with the files, in words.
    fn not_copied(&self, wanted: &BTreeSet<String>) -> Option<String> {
        let files = |names: &[&str]| {
            let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
            for name in names {
                for path in images::tree(&self.server.folder().join(name)) {
                    let sop = path.file_stem().unwrap_or_default();
                    files
                        .entry(sop.to_string_lossy().into_owned())
                        .or_default()
                        .push(path);
                }
            }
            files
        };
        let (archive, mirror) = (files(&["volume-a", "volume-b"]), files(&["volume-m"]));
        for sop in wanted {
            match (archive.get(sop), mirror.get(sop)) {
                (Some(one), Some(other)) => {
                    let all: Vec<Option<Vec<u8>>> = one
                        .iter()
                        .chain(other)
                        .map(|path| std::fs::read(path).ok())
                        .collect();
                    if all.windows(2).any(|two| two[0] != two[1]) {
                        return Some(format!("{sop}: copies differ"));
                    }
                }
                (one, other) => return Some(format!("{sop}: {one:?} and {other:?}")),
            }
        }
        None
    }

    /// Each study is complete at the next archive, and nothing came again that was recorded before the fault.
    fn assert_forwarded(&mut self) {
        let begun = Instant::now();
        let acknowledged = lock(&self.seen.acknowledged).clone();
        let totals = loop {
            self.drain();
            let (items, _) = forwarding::list(&self.server);
            let others = lock(&self.seen.others).clone();
            let sent = |item: &kura::forward::Item| {
                item.state == kura::forward::State::Sent
                    || others.contains(&item.study_instance_uid)
            };
            let missing: Vec<String> = acknowledged
                .iter()
                .map(Sent::sop)
                .filter(|sop| !self.arrived.contains_key(sop))
                .collect();
            if missing.is_empty() && items.iter().all(sent) {
                break items;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{} not forwarded, {:?} first: {items:?}",
                missing.len(),
                missing.first()
            );
            std::thread::sleep(Duration::from_millis(100));
        };
        for item in totals {
            let study = &item.study_instance_uid;
            let since = self.since_fault.get(study).copied().unwrap_or(0);
            let left = item.total_count - self.recorded.get(study).copied().unwrap_or(0);
            assert!(
                since <= left + self.again,
                "{study}: {since} instances went after the fault, of which {left} were left"
            );
        }
    }

    /// The end of a hospital: the index made anew from the ledgers knows the same, and the disks hold what their ledgers say.
    pub fn close(mut self) {
        let outcome = self.server.kura(&["index", "rebuild"]);
        assert!(outcome.success(), "{}", outcome.text());
        self.server.wait_until_indexed();
        self.assert_all_there();
        for name in ["A", "B", "M"] {
            let checked = self.server.kura(&["volume", "check", name, "--checksums"]);
            assert!(checked.success(), "{name}: {}", checked.text());
        }
        assert!(self.server.terminate().success());
        assert!(!self.server.log_text().contains("panicked"), "a panic");
    }
}

fn uid(study: u32) -> String {
    format!("2.25.9{study}")
}

/// A modality: a new association now and then; what was not answered is sent again, as consoles do.
fn store(
    seen: &Seen,
    stop: &AtomicBool,
    address: SocketAddr,
    first: u32,
    pace: Pace,
    random: &mut Random,
) {
    let mut number = 0;
    let mut mine: Vec<Sent> = Vec::new();
    let mut again: Option<Sent> = None;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::associate(address, "MODALITY", "KURA", ALL) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        for _ in 0..random.between(1, 30) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let known = random.between(0, mine.len() as u64 + 1) as usize;
            let known = mine.get(known).copied();
            let known = known.filter(|_| random.between(0, 1_000) < pace.again);
            let sent = again.take().or(known).unwrap_or_else(|| {
                number += 1;
                let (least, most) = pace.pixel_bytes;
                Sent {
                    study: first + random.between(0, 2) as u32,
                    number,
                    pixel_bytes: random.between(least, most) as usize & !1,
                }
            });
            lock(&seen.tried).insert(sent.sop(), sent);
            match sent.image().send(&mut client) {
                Ok((0, _)) if known == Some(sent) => {}
                Ok((0, _)) => {
                    mine.push(sent);
                    lock(&seen.acknowledged).push(sent);
                }
                Ok((status, comment)) => {
                    let said = format!("{status:04X} {}", comment.unwrap_or_default());
                    *lock(&seen.refused).entry(said).or_default() += 1;
                    // Sent again, so that it does not stay half known.
                    again = Some(sent).filter(|_| known.is_none());
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(_) => {
                    again = Some(sent).filter(|_| known.is_none());
                    break;
                }
            }
            let (least, most) = pace.pause_ms;
            std::thread::sleep(Duration::from_millis(random.between(least, most)));
        }
        let _ = client.release();
    }
}
