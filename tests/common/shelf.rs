//! A server with several disks, and senders that go on while the disks come and go.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::disks::Pluggable;
use super::images::{ALL, Image};
use super::{Client, Server, Settings};

/// How long a disk may take to be noticed before a test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// The order of the fields is the order of the end.
pub struct Shelf {
    pub server: Server,
    /// In the order of the volumes; those that are plain folders are not among them.
    pub disks: Vec<Pluggable>,
    pub folder: TempDir,
}

/// Volumes `A`, `B`, … in `volume-a`, …, with this reserve.
pub fn settings(count: u8, reserve: &str) -> Settings {
    let mut settings = Settings {
        // `extra` stands before the tables, so this one closes the top level.
        extra: format!("[placement]\nreserve = \"{reserve}\"\n"),
        ..Settings::default()
    };
    for letter in (b'a'..b'a' + count).skip(1).map(char::from) {
        let name = letter.to_ascii_uppercase().to_string();
        settings = settings.volume(&name, &format!("volume-{letter}"), "archive");
    }
    settings
}

impl Shelf {
    /// The first volumes lie on disks in memory with these mount options, the others are plain folders.
    pub fn in_memory(settings: Settings, options: &[&str]) -> Option<Shelf> {
        let kinds = options.iter().copied();
        Shelf::start(settings, options.len(), |number, at| {
            Pluggable::in_memory(at, kinds.clone().nth(number)?)
        })
    }

    /// The first volume lies on an ext4, the others are plain folders.
    pub fn ext4(settings: Settings, bytes: u64) -> Option<Shelf> {
        Shelf::start(settings, 1, |_, at| Pluggable::ext4(at, bytes))
    }

    fn start(
        settings: Settings,
        count: usize,
        make: impl Fn(usize, &Path) -> Option<Pluggable>,
    ) -> Option<Shelf> {
        let folder = TempDir::new().expect("temporary folder");
        let disks = settings.volumes[..count]
            .iter()
            .enumerate()
            .map(|(number, (_, path, _))| make(number, &folder.path().join(path)))
            .collect::<Option<Vec<_>>>()?;
        let server = Server::in_folder(settings, folder.path());
        // The port is open a moment before the volumes are.
        server.wait_until_indexed();
        Some(Shelf {
            server,
            disks,
            folder,
        })
    }
}

/// What `kura volume list --json` says of a volume.
pub fn volume(server: &Server, name: &str) -> Value {
    let list = server.kura_json(&["volume", "list"]);
    let volumes = list["volumes"].as_array().expect("volumes").clone();
    let found = volumes.into_iter().find(|volume| volume["name"] == name);
    found.unwrap_or_else(|| panic!("no volume {name} in {list}"))
}

/// Waits until a volume has this state; returns what is said of it then.
pub fn wait_for(server: &Server, name: &str, state: &str) -> Value {
    wait_until(server, name, |volume| volume["state"] == state)
}

pub fn wait_until(server: &Server, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let volume = volume(server, name);
        if is_so(&volume) {
            return volume;
        }
        assert!(begun.elapsed() < LIMIT, "still {volume}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `kura volume …`, which must do what it is told; what it said.
pub fn does(server: &Server, arguments: &[&str]) -> String {
    let mut all = vec!["volume"];
    all.extend(arguments);
    let outcome = server.kura(&all);
    assert_eq!(outcome.code, Some(0), "{all:?}: {}", outcome.text());
    outcome.stdout.trim_end().to_owned()
}

/// `kura volume …`, which must refuse; the sentence after `error: `.
pub fn refuses(server: &Server, arguments: &[&str]) -> String {
    let mut all = vec!["volume"];
    all.extend(arguments);
    let outcome = server.kura(&all);
    assert_eq!(outcome.code, Some(3), "{all:?}: {}", outcome.text());
    assert_eq!(outcome.stdout, "", "{all:?}");
    let said = outcome.stderr.strip_prefix("error: ");
    said.unwrap_or_else(|| panic!("{}", outcome.text()))
        .trim_end()
        .to_owned()
}

/// Four senders, each with a study of its own, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    stored: Arc<Mutex<Vec<Image>>>,
    refused: Arc<Mutex<Vec<String>>>,
    senders: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Studies `study` and the three after it.
    pub fn start(server: &Server, study: u32, pixel_bytes: usize) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            count: Arc::default(),
            stored: Arc::default(),
            refused: Arc::default(),
            senders: Vec::new(),
        };
        for study in study..study + 4 {
            let (address, called) = (server.address(), server.ae_title().to_owned());
            let (stop, count) = (load.stop.clone(), load.count.clone());
            let (stored, refused) = (load.stored.clone(), load.refused.clone());
            load.senders.push(std::thread::spawn(move || {
                let mut client =
                    Client::associate(address, "TESTER", &called, ALL).expect("association");
                for number in 0..2_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let image = Image::new(study, number, pixel_bytes);
                    match image.send(&mut client).expect("C-STORE") {
                        (0, _) => {
                            stored.lock().expect("no panic").push(image);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        other => refused
                            .lock()
                            .expect("no panic")
                            .push(format!("{other:04X?}")),
                    }
                }
                client.release().expect("release");
            }));
        }
        load
    }

    /// Waits until so many more were answered 0000H.
    pub fn go_on_for(&self, more: usize) {
        let until = self.count.load(Ordering::Relaxed) + more;
        let begun = Instant::now();
        while self.count.load(Ordering::Relaxed) < until {
            assert!(begun.elapsed() < LIMIT, "the senders do not get on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What was answered 0000H; nothing may have been answered otherwise.
    pub fn end(mut self) -> Vec<Image> {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().expect("a sender");
        }
        let refused = self.refused.lock().expect("no panic");
        assert!(refused.is_empty(), "refused: {refused:?}");
        self.stored.lock().expect("no panic").clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
