//! Promise: the administrator's page works in a real browser: every page, in English and Japanese, wide and narrow, by
//! keyboard, without errors and without barriers.
//!
//! `tests/browser/walk.py` is the person at the browser. What it saw lies in `target/screenshots`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::build::CT_IMAGE_STORAGE;
use common::copies::with_mirror;
use common::pictures::Drawn;
use common::server::free_port;
use common::tools::{python, run_within, skip, tool};
use common::wire::EXPLICIT_LITTLE;
use common::{Server, web};
use serde_json::json;

const STUDIES: u32 = 12;
const IMAGES: u32 = 5;
/// Bytes a second that are copied: slow enough to be watched.
const COPY_PACE: u32 = 60_000;

const PATIENTS: [(&str, &str); 4] = [
    ("7310-0021", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("7310-0022", "Sato^Hanako=佐藤^花子=さとう^はなこ"),
    ("7310-0040", "Müller^Jörg"),
    ("7310-0041", "Okafor^Chidi"),
];

/// A storescp of DCMTK; killed on drop.
struct Storescp(Child);

impl Storescp {
    fn start(folder: &Path, port: u16) -> Option<Storescp> {
        let child = Command::new(tool("storescp")?)
            .args(["-aet", "VIEWER", "-od"])
            .arg(folder)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start storescp");
        let scp = Storescp(child);
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(90), "storescp");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(scp)
    }
}

impl Drop for Storescp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(server: &Server, images: &[Drawn]) {
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[EXPLICIT_LITTLE])]);
    for image in images {
        let stored = client.c_store(1, CT_IMAGE_STORAGE, image.sop, &image.encode());
        assert_eq!(stored.expect("C-STORE").0, 0, "{}", image.sop);
    }
    client.release().expect("release");
}

fn fill(server: &Server) {
    for number in 0..STUDIES {
        let (study, series) = (format!("2.25.80{number}"), format!("2.25.81{number}"));
        let date = format!("202601{:02}", 10 + number);
        let accession = format!("A{number:05}");
        let (patient_id, patient_name) = PATIENTS[number as usize % PATIENTS.len()];
        let sops: Vec<String> = (0..IMAGES)
            .map(|image| format!("2.25.82{number}.{image}"))
            .collect();
        let mut images = Vec::new();
        for (image, sop) in (1..).zip(&sops) {
            let mut drawn = Drawn::new(&study, &series, sop);
            drawn.number = image;
            (drawn.patient_id, drawn.patient_name) = (patient_id, patient_name);
            (drawn.study_date, drawn.accession) = (&date, &accession);
            drawn.description = ["Chest", "胸部CT", "Abdomen"][number as usize % 3];
            drawn.modality = ["CT", "MR"][number as usize % 2];
            (drawn.rows, drawn.columns) = (96, 96);
            images.push(drawn);
        }
        send(server, &images);
    }
    let mut attack = Drawn::new("2.25.830", "2.25.831", "2.25.832");
    attack.patient_id = "XSS-1";
    attack.patient_name = "<img src=x onerror=window.attacked=1>";
    attack.description = "<script>window.attacked=2</script>";
    attack.accession = "\"><b onerror=1>";
    send(server, &[attack]);
    // The same UID with another image.
    let mut twice = Drawn::new("2.25.840", "2.25.841", "2.25.842");
    twice.patient_id = "TWICE-1";
    let mut other = Drawn::new("2.25.840", "2.25.841", "2.25.842");
    (other.patient_id, other.rows) = ("TWICE-1", 50);
    send(server, &[twice, other]);
}

/// The browser, its driver, and axe-core; `None` (and a printed reason) where one is missing.
fn browser() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let (browser, driver) = (tool("chromium")?, tool("chromedriver")?);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let axe = source.join("target/axe/node_modules/axe-core/axe.min.js");
    if !axe.is_file() {
        skip("axe-core is not in target/axe (run: make tools)");
        return None;
    }
    Some((browser, driver, axe))
}

/// Method: see `walk.py`. The server has an archive volume and a mirror whose copying waits; a storescp is there to become
/// a peer, and an empty folder to become a disk.
#[test]
fn a_person_finds_their_way_in_a_real_browser() {
    let (Some(python), Some((browser, driver, axe))) = (python(), browser()) else {
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let mirror = format!("when = \"immediate\"\nbytes_per_second = {COPY_PACE}");
    let server = web::with_page(with_mirror(&mirror));
    server.wait_until_indexed();
    let paused = server.kura(&["mirror", "pause"]);
    assert!(paused.success(), "{}", paused.text());
    fill(&server);

    let came = scratch.path().join("came");
    let new_disk = server.folder().join("new-disk");
    for folder in [&came, &new_disk] {
        std::fs::create_dir(folder).expect("create a folder");
    }
    let port = free_port();
    let storescp = Storescp::start(&came, port);
    let peer = storescp
        .is_some()
        .then(|| json!({ "ae_title": "VIEWER", "port": port, "folder": came }));
    let told = json!({
        "page": format!("http://{}", web::address(&server)),
        "browser": browser,
        "driver": driver,
        "axe": axe,
        "profile": scratch.path().join("profile"),
        "screenshots": source.join("target/screenshots"),
        "kura": [env!("CARGO_BIN_EXE_kura")],
        "config": server.config(),
        "study": { "uid": "2.25.803", "accession": "A00003", "images": IMAGES },
        "attack": { "uid": "2.25.830", "patient_id": "XSS-1" },
        "conflict": "TWICE-1",
        "peer": peer,
        "disk": {
            "name": "A",
            "path": server.volume("A"),
            "aside": server.folder().join("old-disk"),
            "new": new_disk,
        },
    });
    let settings = scratch.path().join("told.json");
    std::fs::write(&settings, told.to_string()).expect("write");
    let mut walk = Command::new(python);
    walk.env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SE_AVOID_STATS", "true")
        .env("HOME", scratch.path())
        .arg(source.join("tests/browser/walk.py"))
        .arg(&settings);
    let outcome = run_within(&mut walk, Duration::from_secs(30 * 60));
    assert!(outcome.success(), "{}", outcome.text());
    let last = outcome.stdout.lines().last().unwrap_or_default();
    let said: serde_json::Value = serde_json::from_str(last).expect("JSON");
    println!("{said:#}");
    let wrong = said["wrong"].as_array().expect("a list");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(said["walked"].as_array().expect("a list").len() > 40);
}
