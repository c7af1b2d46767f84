//! Trees of images that other programs wrote are served where they lie: every shape, without a byte of them changed.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::files::{self, Good};
use common::images::{self, Image, assert_come_back, assert_found};
use common::server::put_file;
use common::tools::{self, peer_script, run};
use common::{Server, build, elements};
use tempfile::TempDir;

/// Every file of a tree with its bytes, without what Kura puts beside them.
fn content(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| {
            let own = ["kura-volume.json", "kura.lock", "ledgers"];
            !own.iter().any(|name| path.starts_with(root.join(name)))
        })
        .map(|path| {
            let bytes = fs::read(&path).expect("a file of the tree");
            (path, bytes)
        })
        .collect()
}

fn group_two(sop_class: &str, sop: &str, syntax: &str) -> Vec<u8> {
    let explicit = elements::Syntax::EXPLICIT_LITTLE;
    let mut group = Vec::new();
    for (element, value) in [(0x0002, sop_class), (0x0003, sop), (0x0010, syntax)] {
        let tag = build::Tag(0x0002, element);
        build::put(&mut group, explicit, tag, "UI", value.as_bytes());
    }
    let length = (group.len() as u32).to_le_bytes();
    let mut whole = Vec::new();
    build::put(&mut whole, explicit, build::Tag(2, 0), "UL", &length);
    whole.extend(group);
    whole
}

fn part10(image: &Image) -> Vec<u8> {
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    let (class, syntax) = (build::CT_IMAGE_STORAGE, "1.2.840.10008.1.2");
    file.extend(group_two(class, &image.sop, syntax));
    file.extend(&image.data_set);
    file
}

fn put_all(root: &Path, images: &[Image]) {
    for (at, image) in images.iter().enumerate() {
        put_file(&root.join(format!("s{}/{at}", image.study)), &part10(image));
    }
}

fn adopt(server: &Server, root: &Path, more: &[&str]) -> serde_json::Value {
    let mut arguments = vec!["adopt", root.to_str().expect("UTF-8")];
    arguments.extend(more);
    let adopted = server.kura_json(&arguments);
    assert_eq!(adopted["error"], serde_json::Value::Null, "{adopted}");
    adopted["volumes"][0].clone()
}

fn number(report: &serde_json::Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{report}"))
}

fn state_of(server: &Server, volume: &str) -> String {
    let status = server.kura_json(&["volume", "list"]);
    let volumes = status["volumes"].as_array().expect("volumes");
    let of = volumes.iter().find(|one| one["name"] == volume);
    let of = of.unwrap_or_else(|| panic!("no volume {volume}: {status}"));
    of["state"].as_str().expect("state").to_owned()
}

fn wait_for_state(server: &Server, volume: &str, state: &str) {
    let start = Instant::now();
    while state_of(server, volume) != state {
        assert!(start.elapsed() < Duration::from_secs(90), "not {state}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Is what C-FIND answers what pydicom reads? Skipped without Python.
fn assert_answers(server: &Server, goods: &[Good]) {
    let Some(mut script) = peer_script("find.py") else {
        return;
    };
    let outcome = run(script
        .args(["--stored", "--called", "KURA", "--port"])
        .arg(server.port().to_string())
        .args(goods.iter().map(|good| &good.file.path)));
    assert!(outcome.success(), "{}", outcome.text());
    let seen: serde_json::Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
    assert_eq!(seen["differences"], serde_json::json!([]), "{seen:#}");
    assert_eq!(seen["compared"], goods.len(), "{seen:#}");
}

/// The whole file as it is, as it was without preamble, and as a bare data set.
fn forms(good: &Good) -> [Option<Vec<u8>>; 3] {
    let whole = fs::read(&good.file.path).expect("a file of testdata");
    let plain = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];
    let begins_with_8 = good.file.data_set.starts_with(&[8, 0]);
    let bare = plain.contains(&good.file.transfer_syntax.as_str()) && begins_with_8;
    let without_preamble = whole[132..].to_vec();
    [
        Some(whole),
        Some(without_preamble),
        bare.then(|| good.file.data_set.clone()),
    ]
}

/// Where each shape puts its `at`-th file.
type Shape = (&'static str, fn(usize, &Good) -> String);

const SHAPES: &[Shape] = &[
    // Conquest's `data`, with folders of its own that are not ours.
    ("conquest", |at, good| {
        let uids = &good.uids;
        format!("{:08}/{}_0001_{at:06}_1289f2ab.dcm", at / 3, uids.series)
    }),
    // The gateway's day / modality and number - patient, and with an underscore.
    ("gateway", |at, _| match at % 2 {
        0 => format!(
            "20120115/CR{:04}-90012763/CR70428275_001_001_{at:03}_0205102.dcm",
            2345 + at
        ),
        _ => format!("20100820/CR{:04}_123456/SC{at:04}.dcm", 1234 + at),
    }),
    ("cd", |at, _| format!("DICOM/PAT{:05}/IM{at:06}", at / 4)),
    // Spaces, other scripts, nothing that our own rule would write, and longer.
    ("any", |at, _| {
        format!(
            "検査 データ/{}/ä.b c/{at} :*?.DCM.bak",
            "Müller, Hans ".repeat(18)
        )
    }),
];

/// Method: the files of `testdata/` are spread over trees of every shape, as Part-10 files, without preamble and as bare
/// data sets, with other files between them. Each tree is adopted; C-FIND is compared with what pydicom reads.
#[test]
fn trees_of_every_shape_are_served_where_they_lie() {
    let mut server = Server::start();
    server.wait_until_indexed();
    let goods = files::good_below(&files::testdata());
    let disk = TempDir::new().expect("folder");
    let mut before = BTreeMap::new();
    for (turn, (name, place)) in SHAPES.iter().enumerate() {
        let root = disk.path().join(name);
        let mut count = 0;
        for (at, good) in goods.iter().enumerate().filter(|(at, _)| at % 4 == turn) {
            let mut forms = forms(good);
            let form = forms[at % 3].take().or(forms[0].take());
            put_file(&root.join(place(at, good)), &form.expect("a form"));
            count += 1;
        }
        let directory = group_two("1.2.840.10008.1.3.10", "2.25.1", "1.2.840.10008.1.2.1");
        let mut dicomdir = vec![0; 128];
        dicomdir.extend(b"DICM");
        dicomdir.extend(directory);
        put_file(&root.join("DICOMDIR"), &dicomdir);
        put_file(&root.join("dgate.log"), b"text");
        put_file(&root.join("incoming/waiting.txt"), b"of another program");
        put_file(&root.join("quarantine/one.json"), b"{}");
        put_file(&root.join(".DS_Store"), b"of the Mac");
        let no_uids = build::ident(&[(build::Tag(8, 5), "CS", "ISO_IR 100")]);
        put_file(&root.join("no-uids.dcm"), &no_uids);
        put_file(&root.join(OsStr::from_bytes(b"not-\xff-utf8.dcm")), b"x");
        before.insert(name, content(&root));

        let report = adopt(&server, &root, &[]);
        assert_eq!(number(&report, "added"), count, "{name}: {report:#}");
        assert_eq!(report["volume"], *name);
        let skipped: Vec<_> = report["findings"].as_array().expect("findings").clone();
        assert_eq!(skipped.len(), 6, "{name}: {report:#}");
        assert!(
            skipped.iter().all(|one| one["kind"] == "skipped"),
            "{report:#}"
        );
        let reason = |path: &str| {
            let one = skipped.iter().find(|one| one["path"] == path);
            let one = one.unwrap_or_else(|| panic!("{path}: {report:#}"));
            one["reason"].as_str().expect("a reason").to_owned()
        };
        assert!(reason("DICOMDIR").contains("DICOMDIR"));
        assert!(reason("dgate.log").contains("not DICOM"));
        assert!(reason("no-uids.dcm").contains("is missing"));
        assert_eq!(state_of(&server, name), "adopted");
        // Again: nothing is read, nothing is new.
        let again = adopt(&server, &root, &[]);
        assert_eq!(number(&again, "added"), 0, "{again}");
        assert_eq!(number(&again, "ok"), count, "{again}");
    }
    let look = |server: &Server| {
        assert_answers(server, &goods);
        let status = server.kura_json(&["status"]);
        assert_eq!(status["index"]["instances_count"], goods.len(), "{status}");
        for (name, _) in SHAPES {
            let check = server.kura_json(&["volume", "check", name, "--checksums"]);
            let report = &check["volumes"][0];
            assert_eq!(
                number(report, "missing") + number(report, "wrong"),
                0,
                "{check}"
            );
        }
    };
    look(&server);
    // New images do not go there.
    let image = Image::new(1, 1, 1000);
    images::send_all(&server, std::slice::from_ref(&image));
    assert_eq!(images::tree(&server.volume("A")).len(), 1);
    let undo = server.kura(&["volume", "retire", "cd", "--undo"]);
    assert_eq!(undo.code, Some(3), "{}", undo.text());
    let ingone = server.kura(&["volume", "eject", "cd"]);
    assert!(ingone.success(), "{}", ingone.text());
    let back = server.kura(&["volume", "return", "cd"]);
    assert!(back.success(), "{}", back.text());

    // After a restart, and after the state folder is lost.
    for lost in [false, true] {
        assert!(server.terminate().success());
        if lost {
            fs::remove_dir_all(server.state()).expect("delete the state");
        }
        server.restart();
        server.wait_until_indexed();
        for (name, _) in SHAPES {
            assert_eq!(state_of(&server, name), "adopted", "{lost}");
        }
    }
    let status = server.kura_json(&["status"]);
    assert_eq!(
        status["index"]["instances_count"],
        goods.len() + 1,
        "{status}"
    );
    for (name, before) in before {
        assert!(content(&disk.path().join(name)) == before, "{name} changed");
    }
}

/// Method: made-up images with and without a server; what C-GET brings is the data set of the file.
#[test]
fn adopted_images_come_back_byte_for_byte() {
    let mut server = Server::start();
    server.wait_until_indexed();
    let images = images::images(3, 5);
    let disk = TempDir::new().expect("folder");
    let root = disk.path().join("old");
    put_all(&root, &images[..8]);
    let report = adopt(&server, &root, &["--name", "OLD"]);
    assert_eq!(number(&report, "added"), 8, "{report}");
    // More arrive in the tree; only these are read.
    put_all(&root.join("later"), &images[8..]);
    let report = adopt(&server, &root, &[]);
    assert_eq!((number(&report, "ok"), number(&report, "added")), (8, 7));
    assert_found(&server, &images);
    assert_come_back(&server, &images);
    let inside = server.kura(&["adopt", root.join("later").to_str().expect("UTF-8")]);
    assert_eq!(inside.code, Some(3), "{}", inside.text());
    // A copy with the label in it is not taken for the volume.
    let copy = disk.path().join("copy");
    let copied = run(Command::new("cp").arg("-r").arg(&root).arg(&copy));
    assert!(copied.success(), "{}", copied.text());
    let twin = server.kura(&["adopt", copy.to_str().expect("UTF-8")]);
    assert_eq!(twin.code, Some(3), "{}", twin.text());
    assert!(
        twin.stderr.contains("copy of volume OLD"),
        "{}",
        twin.text()
    );
    assert!(server.terminate().success());

    let second = disk.path().join("second");
    let others: Vec<_> = (0..4).map(|at| Image::new(7, at, 2_000)).collect();
    put_all(&second, &others);
    let report = adopt(&server, &second, &[]);
    assert_eq!(number(&report, "added"), 4, "{report}");
    server.restart();
    assert_found(&server, &others);
    assert_come_back(&server, &images);
    assert_come_back(&server, &others);
}

#[test]
fn copies_go_the_ordinary_way_into_the_archive() {
    let server = Server::start();
    server.wait_until_indexed();
    let images = images::images(2, 5);
    let disk = TempDir::new().expect("folder");
    put_all(disk.path(), &images);
    put_file(&disk.path().join("readme.txt"), b"text");
    let before = content(disk.path());
    let report = adopt(&server, disk.path(), &["--copy"]);
    let counts =
        |report: &serde_json::Value| ["added", "copies", "extra"].map(|name| number(report, name));
    assert_eq!(counts(&report), [10, 0, 1], "{report}");
    let again = adopt(&server, disk.path(), &["--copy"]);
    assert_eq!(counts(&again), [0, 10, 1], "{again}");
    assert!(content(disk.path()) == before);
    assert_eq!(images::tree(&server.volume("A")).len(), 10);
    assert!(server.kura_json(&["status"])["quarantine"] == serde_json::json!([]));
    disk.close().expect("remove the originals");
    assert_come_back(&server, &images);
}

/// A file system in a file; unmounted on drop.
struct Medium {
    image: PathBuf,
    at: PathBuf,
}

impl Medium {
    /// `None`, and a printed reason, where this user may not mount.
    fn new(folder: &Path, fill: impl FnOnce(&Path)) -> Option<Medium> {
        let medium = Medium {
            image: folder.join("medium.img"),
            at: folder.join("medium"),
        };
        fs::create_dir(&medium.at).expect("mount point");
        fs::File::create(&medium.image)
            .and_then(|file| file.set_len(16 << 20))
            .expect("image");
        tools::tool("mkfs.ext4")?;
        let made = run(Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&medium.image));
        assert!(made.success(), "{}", made.text());
        if !medium.mount("loop") {
            eprintln!("skipped: a loop device cannot be mounted here (needs root)");
            return None;
        }
        fill(&medium.at);
        medium.unmount();
        medium.mount("loop,ro").then_some(medium)
    }

    fn mount(&self, options: &str) -> bool {
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", options]);
        run(command.arg(&self.image).arg(&self.at)).success()
    }

    fn unmount(&self) {
        let done = run(Command::new("umount").arg(&self.at));
        assert!(done.success(), "{}", done.text());
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.at));
    }
}

/// Method: an ext4 image mounted read-only. Unmounted it is away, another medium in its place is not taken for it, and
/// mounted again it is back; also over a restart.
#[test]
fn a_medium_that_cannot_be_written_is_served_and_returns_by_itself() {
    let folder = TempDir::new().expect("folder");
    let images = images::images(2, 6);
    let Some(medium) = Medium::new(folder.path(), |at| put_all(at, &images)) else {
        return;
    };
    let mut server = Server::start();
    server.wait_until_indexed();
    let report = adopt(&server, &medium.at, &["--name", "CD"]);
    assert_eq!(number(&report, "added"), 12, "{report}");
    assert_come_back(&server, &images);
    assert_eq!(server.kura_json(&["status"])["state"], "ok");

    let ejected = server.kura(&["volume", "eject", "CD"]);
    assert!(ejected.success(), "{}", ejected.text());
    medium.unmount();
    wait_for_state(&server, "CD", "away");
    // Known while it is away.
    assert_found(&server, &images);
    // Another medium with files of the same names and sizes.
    let others: Vec<_> = images
        .iter()
        .map(|image| {
            let other = |uid: &str| uid.replace("2.25.", "2.26.");
            let (study, sop) = (other(&image.study), other(&image.sop));
            let series = format!("{study}.1");
            let data_set = build::synthetic_ct(&study, &series, &sop, 1, 1_000, false);
            Image {
                study: image.study.clone(),
                sop,
                data_set,
            }
        })
        .collect();
    put_all(&medium.at, &others);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(state_of(&server, "CD"), "away");
    assert!(medium.mount("loop,ro"));
    wait_for_state(&server, "CD", "adopted");
    assert_come_back(&server, &images);

    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    assert_eq!(state_of(&server, "CD"), "adopted");
    assert_come_back(&server, &images);
    // Without the medium the server starts all the same.
    assert!(server.terminate().success());
    medium.unmount();
    server.restart();
    server.wait_until_indexed();
    assert_eq!(state_of(&server, "CD"), "away");
    assert!(medium.mount("loop,ro"));
    wait_for_state(&server, "CD", "adopted");
    assert_come_back(&server, &images);
}

/// Method: the volume of one archive is adopted by another, of which nothing is on that disk afterwards.
#[test]
fn a_disk_of_another_archive_is_served_and_stays_that_archives() {
    let mut first = Server::start();
    let images = images::images(2, 6);
    images::send_all(&first, &images);
    let old = first.volume("A");
    images::wait_until_nothing_is_incoming(&old);
    assert!(first.terminate().success());
    let before = content(&old);
    let label = fs::read(old.join("kura-volume.json")).expect("label");
    let broken = &images::tree(&old)[3];
    let good = fs::read(broken).expect("image");
    let mut bad = good.clone();
    *bad.last_mut().expect("a byte") ^= 1;
    fs::write(broken, &bad).expect("break");

    let second = Server::start();
    second.wait_until_indexed();
    let report = adopt(&second, &old, &["--name", "OLD"]);
    assert_eq!(number(&report, "added"), 12, "{report}");
    assert_eq!(number(&report, "served"), 12, "{report}");
    // Its ledger was believed, not its files.
    let check = second.kura_json(&["volume", "check", "OLD", "--checksums"]);
    assert_eq!(number(&check["volumes"][0], "wrong"), 1, "{check}");
    fs::write(broken, &good).expect("mend");
    assert_come_back(&second, &images);
    let again = adopt(&second, &old, &[]);
    assert_eq!((number(&again, "added"), number(&again, "ok")), (0, 12));
    let ejected = second.kura(&["volume", "eject", "OLD"]);
    assert!(ejected.success(), "{}", ejected.text());
    assert!(content(&old) == before);
    assert!(fs::read(old.join("kura-volume.json")).expect("label") == label);
    first.restart();
    assert_come_back(&first, &images);
}

/// Files of many devices and programs, where they are present: each is served or skipped with its reason.
#[test]
fn files_of_other_programs_are_served_or_skipped_with_a_reason() {
    let Some(samples) = files::samples() else {
        eprintln!("skipped: no folder of samples");
        return;
    };
    let disk = TempDir::new().expect("folder");
    let root = disk.path().join("samples");
    let mut count = 0;
    for path in files::below(&samples) {
        let to = root.join(path.strip_prefix(&samples).expect("below"));
        put_file(&to, &fs::read(&path).expect("sample"));
        count += 1;
    }
    let server = Server::start();
    server.wait_until_indexed();
    let report = adopt(&server, &root, &[]);
    let skipped = number(&report, "extra");
    assert_eq!(number(&report, "added") + skipped, count, "{report:#}");
    let goods = files::good_below(&samples);
    assert!(number(&report, "added") >= goods.len() as u64, "{report:#}");
    let check = server.kura_json(&["volume", "check", "samples", "--checksums"]);
    let report = &check["volumes"][0];
    assert_eq!(
        number(report, "missing") + number(report, "wrong"),
        0,
        "{check:#}"
    );
    assert_eq!(number(report, "extra"), skipped, "{check:#}");
}

/// An adopted tree may be taken away by its owner, so it does not answer for what is sent.
#[test]
fn what_is_sent_is_stored_although_an_adopted_tree_has_it() {
    let server = Server::start();
    server.wait_until_indexed();
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::copy(
        common::files::testdata().join("cr.dcm"),
        folder.path().join("1.dcm"),
    )
    .expect("copy");
    let path = folder.path().to_str().expect("path");
    let outcome = server.kura(&["adopt", path, "--name", "old"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text());
    let file = common::files::load("cr.dcm");
    let file_path = file.path.to_str().expect("path");
    let to = format!("KURA@127.0.0.1:{}", server.port());
    for _ in 0..2 {
        let outcome = server.kura(&["send", file_path, "--to", &to]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text());
        let list = server.kura_json(&["volume", "list"]);
        for volume in list["volumes"].as_array().expect("volumes") {
            assert_eq!(volume["instances_count"], 1, "{list}");
        }
        assert_eq!(server.kura_json(&["status"])["index"]["instances_count"], 1);
    }
}
