//! An intake journal on another disk than its volume, and what is said and done when one is out of reach, somebody else's,
//! or damaged.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::copies::{image_paths, with_mirror};
use common::disks::Tmpfs;
use common::images::{self, ALL, Image, assert_come_back, assert_found, send_all, tree};
use common::{Server, Settings, files};

const LIMIT: Duration = Duration::from_secs(90);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn settings() -> Settings {
    Settings {
        extra: "[intake]\nmode = \"journal\"\nsize_bytes = 4194304\n".to_owned(),
        ..Settings::default()
    }
}

fn actions(server: &Server) -> String {
    let status = server.kura_json(&["status"]);
    status["actions"].to_string()
}

/// A server with its journals in `ssd`, killed with instances in the journal alone.
fn killed(settings: Settings, ssd: &Path) -> (Server, Vec<Image>) {
    fs::create_dir_all(ssd).expect("folder of the journals");
    let mut server = Server::with(Settings {
        journal: Some(ssd.to_owned()),
        ..settings
    });
    server.wait_until_indexed();
    let images = fill(&mut server, 1);
    (server, images)
}

/// Sends instances and kills the server while they are in the journal alone.
fn fill(server: &mut Server, study: u32) -> Vec<Image> {
    let mut all: Vec<Image> = Vec::new();
    for study in study..study + 20 {
        let images: Vec<Image> = (0..6).map(|n| Image::new(study, n, 3_000)).collect();
        let before = tree(&server.volume("A")).len();
        send_all(server, &images);
        server.kill();
        all.extend(images);
        if tree(&server.volume("A")).len() == before {
            return all;
        }
        server.restart();
        server.wait_until_indexed();
    }
    panic!("each time they were carried over at once");
}

/// The only file of that name below a folder.
fn file(folder: &Path, name: &str) -> PathBuf {
    let mut found = files::below(folder);
    found.retain(|path| path.file_name().is_some_and(|it| it == name));
    assert_eq!(found.len(), 1, "{name} below {}", folder.display());
    found.remove(0)
}

fn assert_each_once(server: &Server, all: &[Image]) {
    let volume = server.volume("A");
    wait_until("not carried over", || tree(&volume).len() == all.len());
    images::wait_until_nothing_is_incoming(&volume);
    assert_found(server, all);
    assert_come_back(server, all);
    let checked = server.kura(&["volume", "check", "A", "--checksums"]);
    assert!(checked.success(), "{}", checked.text());
}

/// Method: killed with instances in it; `journal = …` taken out of the configuration, or another folder.
#[test]
fn a_journal_that_is_no_longer_configured_is_emptied_all_the_same() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
    fs::create_dir(&second).expect("folder");
    let (mut server, mut all) = killed(settings(), &first);
    let elsewhere = server.volume("A").join("intake/elsewhere.json");
    let remembered = || fs::read_to_string(&elsewhere).expect("elsewhere.json");
    assert!(remembered().contains("first"), "{}", remembered());
    server.configure(|settings| settings.journal = Some(second.clone()));
    server.restart();
    server.wait_until_indexed();
    assert_each_once(&server, &all);
    assert!(!remembered().contains("first"), "{}", remembered());
    all.extend(fill(&mut server, 30));
    server.configure(|settings| settings.journal = None);
    server.restart();
    server.wait_until_indexed();
    assert_each_once(&server, &all);
    assert!(!remembered().contains("second"), "{}", remembered());
    assert!(
        !actions(&server).contains("journal"),
        "{}",
        actions(&server)
    );
    assert!(server.terminate().success());
}

/// Method: killed with instances in the journal; started without it, with the same configuration and with another; one of
/// the instances is sent again; then the folder is back, under a running server.
#[test]
fn a_journal_out_of_reach_is_said_and_read_when_it_is_back() {
    for still_configured in [true, false] {
        let scratch = tempfile::TempDir::new().expect("temporary folder");
        let (disk, away) = (scratch.path().join("disk"), scratch.path().join("away"));
        let (mut server, mut all) = killed(settings(), &disk.join("kura"));
        fs::rename(&disk, &away).expect("unplugged");
        if !still_configured {
            server.configure(|settings| settings.journal = None);
        }
        for _ in 0..2 {
            server.restart();
            server.wait_until_indexed();
            let status = server.kura(&["status"]);
            assert_eq!(status.code, Some(1), "{}", status.text());
            let said = actions(&server);
            assert!(
                said.contains("is not there") && said.contains("elsewhere.json"),
                "{said}"
            );
            assert!(!disk.exists(), "something was made in its place");
            let new = Image::new(70, all.len() as u32, 2_000);
            send_all(&server, std::slice::from_ref(&new));
            all.push(new);
            assert!(server.terminate().success());
        }
        server.restart();
        server.wait_until_indexed();
        send_all(&server, &all[..1]);
        fs::rename(&away, &disk).expect("plugged in");
        wait_until("still said to be away", || {
            !actions(&server).contains("journal")
        });
        assert_each_once(&server, &all);
        // What comes now goes through it again, if it is configured.
        let list = server.kura_json(&["volume", "list"]);
        let path = list["volumes"][0]["intake_journal"]["path"].to_string();
        assert_eq!(path.contains("disk/kura"), still_configured, "{list}");
        all.extend(fill(&mut server, 100));
        server.restart();
        server.wait_until_indexed();
        assert_each_once(&server, &all);
        assert!(server.terminate().success());
    }
}

/// Method: stopped in the ordinary way, so that the journal is empty; then it is gone for good.
#[test]
fn a_journal_that_was_empty_may_go() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let ssd = scratch.path().join("disk/kura");
    let (mut server, mut all) = killed(settings(), &ssd);
    server.restart();
    server.wait_until_indexed();
    assert!(server.terminate().success());
    fs::remove_dir_all(scratch.path().join("disk")).expect("lost");
    for journal in [Some(ssd), None] {
        server.configure(|settings| settings.journal = journal);
        server.restart();
        server.wait_until_indexed();
        assert!(!actions(&server).contains("is not there"));
        let new = Image::new(70, all.len() as u32, 2_000);
        send_all(&server, std::slice::from_ref(&new));
        all.push(new);
        assert_each_once(&server, &all);
        assert!(server.terminate().success());
    }
}

/// Method: a byte in the middle of a record is turned, between others that are good.
#[test]
fn a_damaged_record_is_said_until_somebody_has_seen_to_it() {
    for journal in [None, Some(())] {
        let scratch = tempfile::TempDir::new().expect("temporary folder");
        let ssd = scratch.path().join("ssd");
        let (mut server, all) = match journal {
            Some(()) => killed(settings(), &ssd),
            None => {
                let mut server = Server::with(settings());
                server.wait_until_indexed();
                let all = fill(&mut server, 1);
                (server, all)
            }
        };
        let folder = match journal {
            Some(()) => ssd,
            None => server.volume("A"),
        };
        let path = file(&folder, "intake.journal");
        let mut bytes = fs::read(&path).expect("journal");
        // The third of the six that came last, which nobody else has any more.
        let wanted = &all[all.len() - 4];
        let needle = &wanted.data_set;
        let at = (0..bytes.len() - needle.len()).find(|at| bytes[*at..].starts_with(needle));
        bytes[at.expect("its data set in the journal") + 200] ^= 1;
        fs::write(&path, bytes).expect("journal");
        let rest: Vec<Image> = all
            .iter()
            .filter(|image| image.sop != wanted.sop)
            .cloned()
            .collect();
        for _ in 0..2 {
            server.restart();
            server.wait_until_indexed();
            assert_each_once(&server, &rest);
            let said = actions(&server);
            assert!(
                said.contains("were damaged") && said.contains("may be lost"),
                "{said}"
            );
            assert_eq!(server.kura(&["status"]).code, Some(1));
            server.kill();
        }
        let log = server.log_text();
        assert!(log.contains("records of the intake journal are damaged"));
        server.restart();
        server.wait_until_indexed();
        send_all(&server, std::slice::from_ref(wanted));
        fs::remove_file(file(&folder, "intake.damaged-1")).expect("seen to");
        let said = actions(&server);
        assert!(!said.contains("damaged"), "{said}");
        assert_each_once(&server, &all);
        assert!(server.terminate().success());
    }
}

/// Method: the journal of another archive's volume in the place of this one's; and one with a damaged header.
#[test]
fn the_journal_of_another_volume_is_left_as_it_is_and_said() {
    let mut other = Server::with(settings());
    other.wait_until_indexed();
    let _theirs = fill(&mut other, 1);
    let foreign = fs::read(file(&other.volume("A"), "intake.journal")).expect("journal");
    let mut damaged = foreign.clone();
    damaged[3] ^= 1;
    for bytes in [foreign, damaged] {
        let mut server = Server::with(settings());
        server.wait_until_indexed();
        let mut all = images::images(1, 3);
        send_all(&server, &all);
        assert!(server.terminate().success());
        let path = file(&server.volume("A"), "intake.journal");
        fs::write(&path, &bytes).expect("journal");
        server.restart();
        server.wait_until_indexed();
        let said = actions(&server);
        assert!(said.contains("is not that of volume A"), "{said}");
        assert!(said.contains("move it away"), "{said}");
        let new = Image::new(9, 1, 2_000);
        send_all(&server, std::slice::from_ref(&new));
        all.push(new);
        assert_each_once(&server, &all);
        assert!(server.terminate().success());
        assert!(fs::read(&path).expect("journal") == bytes, "it was changed");
        assert!(server.log_text().contains("could not be emptied"));
        fs::remove_file(&path).expect("moved away");
        server.restart();
        server.wait_until_indexed();
        assert!(!actions(&server).contains("journal"));
        assert!(server.terminate().success());
    }
}

/// What volume A has of an instance at this moment: a file under its own name.
fn is_named(server: &Server, volume: &str, image: &Image) -> bool {
    let name = format!("{}.dcm", image.sop);
    let paths = image_paths(&server.volume(volume));
    paths.iter().any(|path| path.ends_with(&name))
}

/// Method: `before-ack` with the journal of the archive volume on the mirror's disk; at each answer there are two files.
#[test]
fn before_ack_a_record_on_the_mirrors_disk_is_no_second_copy() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let mut with = with_mirror("when = \"before-ack\"");
    with.extra += "\n[intake]\nmode = \"journal\"\nsize_bytes = 4194304\n";
    with.journal = Some(scratch.path().to_owned());
    let mut server = Server::with(with);
    server.wait_until_indexed();
    let mut client = server.associate(ALL);
    let all = images::images(2, 8);
    for image in &all {
        assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
        let on = ["A", "M"].map(|volume| is_named(&server, volume, image));
        assert_eq!(on, [true, true], "{}", image.sop);
    }
    client.release().expect("release");
    assert_each_once(&server, &all);
    assert!(server.terminate().success());
}

/// Method: the same with the journal in memory, which stands for a third disk: at some answers there is the mirror's file
/// and no other yet, so the record counts.
#[test]
fn before_ack_a_record_on_a_third_disk_and_the_mirrors_copy_are_two() {
    let scratch = tempfile::TempDir::new().expect("temporary folder");
    let Some(third) = Tmpfs::new(&scratch.path().join("third"), "size=8m") else {
        return;
    };
    let mut with = with_mirror("when = \"before-ack\"");
    with.extra += "\n[intake]\nmode = \"journal\"\nsize_bytes = 4194304\n";
    with.journal = Some(third.path().to_owned());
    let mut server = Server::with(with);
    server.wait_until_indexed();
    let disks = kura::volume::device::disks_of(
        &kura::volume::Disk::default(),
        std::os::unix::fs::MetadataExt::dev(&fs::metadata(server.folder()).expect("folder")),
        server.folder(),
    );
    if !disks.known || disks.names.contains("memory") {
        eprintln!("skipped: the disk below the folder for temporary files is not known");
        return;
    }
    let mut client = server.associate(ALL);
    let all = images::images(2, 20);
    let mut in_the_journal_count = 0;
    for image in &all {
        assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
        assert!(is_named(&server, "M", image), "{}", image.sop);
        in_the_journal_count += usize::from(!is_named(&server, "A", image));
    }
    client.release().expect("release");
    assert!(in_the_journal_count > 0, "each waited for its file");
    assert_each_once(&server, &all);
    assert!(server.terminate().success());
}
