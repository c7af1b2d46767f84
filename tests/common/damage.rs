//! Files that go bad on a disk, and what the server says of them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Server;
use super::images::{self, Image};

/// How long a bad copy may take to be found or healed before a test fails.
const LIMIT: Duration = Duration::from_secs(60);

pub type Damage = fn(&Path);

/// Kinds of damage, each with its name.
pub const DAMAGES: [(&str, Damage); 7] = [
    ("a flipped bit", |path| {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("open");
        let mut byte = [0];
        let at = file.metadata().expect("length").len() - 100;
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 4], at).expect("write");
    }),
    ("cut off", |path| {
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        let length = file.metadata().expect("length").len();
        file.set_len(length / 2).expect("cut");
    }),
    ("grown", |path| {
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        let length = file.metadata().expect("length").len();
        file.set_len(length + 10).expect("grow");
    }),
    ("empty", |path| fs::write(path, b"").expect("write")),
    ("garbage", |path| {
        let length = fs::metadata(path).expect("length").len();
        fs::write(path, vec![0x5a; length as usize]).expect("write");
    }),
    ("missing", |path| fs::remove_file(path).expect("remove")),
    ("a folder", |path| {
        fs::remove_file(path).expect("remove");
        fs::create_dir(path).expect("folder");
    }),
];

/// What reading the copies again found.
pub fn status(server: &Server) -> serde_json::Value {
    let status = server.kura_json(&["status"]);
    let mut checked = status["checked"].clone();
    for name in ["lost", "lost_count"] {
        checked[name] = status["copies"][name].clone();
    }
    checked
}

pub fn wait_until(
    server: &Server,
    what: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let now = status(server);
        if is_so(&now) {
            return now;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: {now:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where a volume has an image.
pub fn path_of(volume: &Path, image: &Image) -> PathBuf {
    let name = format!("{}.dcm", image.sop);
    let found = images::tree(volume)
        .into_iter()
        .find(|path| path.ends_with(&name));
    found.unwrap_or_else(|| panic!("{name} is not there"))
}
