//! Other people's programs against the server: DCMTK and pynetdicom.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::server::free_port;
use common::tools::{peer_script, run, tool};
use common::{Part10, Server, Settings, elements, files};

/// Files of `testdata/` in uncompressed little endian, as every DCMTK tool can send them.
fn plain_files() -> Vec<PathBuf> {
    files::good_below(&files::testdata())
        .into_iter()
        .filter(|good| {
            matches!(
                good.file.transfer_syntax.as_str(),
                "1.2.840.10008.1.2" | "1.2.840.10008.1.2.1"
            )
        })
        // Letters in a UID, or a class of nobody's: the sender itself refuses.
        .filter(|good| !good.file.name().ends_with("/letters-in-uid.dcm"))
        .filter(|good| !good.file.name().ends_with("/private-class.dcm"))
        .map(|good| good.file.path)
        .collect()
}

fn node(server: &Server, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-aet", "TESTER", "-aec", "KURA", "127.0.0.1"])
        .arg(server.port().to_string());
    command
}

fn petct() -> (Vec<PathBuf>, String) {
    let folder = files::testdata();
    let paths: Vec<_> = ["ct-1", "ct-2", "pt-1", "pt-2"]
        .iter()
        .map(|name| folder.join(format!("petct-{name}.dcm")))
        .collect();
    let study = files::load("petct-ct-1.dcm").uids().expect("UIDs").study;
    (paths, study)
}

fn filled(server: &Server) -> Option<String> {
    let storescu = tool("storescu")?;
    let (paths, study) = petct();
    let outcome = run(node(server, &storescu).args(paths));
    assert!(outcome.success(), "storescu: {}", outcome.text());
    Some(study)
}

/// Top-level elements of a file without those that describe only its writing.
fn content(path: &Path) -> Vec<(common::build::Tag, Vec<u8>)> {
    let file = Part10::read(path).unwrap_or_else(|reason| panic!("{reason}"));
    let all = elements::read(&file.data_set, &file.transfer_syntax).expect("well formed");
    all.into_iter()
        // Group lengths and padding come and go with the writer.
        .filter(|(tag, _)| tag.1 != 0 && tag.0 != 0xFFFC)
        .collect()
}

/// Every file of the PET and CT study is in the folder with its content.
fn assert_petct_in(folder: &Path) {
    let (paths, _) = petct();
    let arrived = files::below(folder);
    assert_eq!(arrived.len(), paths.len(), "{arrived:?}");
    for path in paths {
        let wanted = content(&path);
        assert!(
            arrived.iter().any(|file| content(file) == wanted),
            "{} did not come",
            path.display()
        );
    }
}

#[test]
fn echoscu_is_answered() {
    let Some(echoscu) = tool("echoscu") else {
        return;
    };
    let server = Server::start();
    let outcome = run(&mut node(&server, &echoscu));
    assert!(outcome.success(), "{}", outcome.text());
    // A wrong called AE title is how many consoles are set up.
    let outcome = run(Command::new(&echoscu)
        .args(["-aec", "somebody", "127.0.0.1"])
        .arg(server.port().to_string()));
    assert!(outcome.success(), "{}", outcome.text());
    // 128 presentation contexts.
    let outcome = run(node(&server, &echoscu).args(["--propose-pc", "128"]));
    assert!(outcome.success(), "{}", outcome.text());
}

#[test]
fn storescu_stores_every_plain_file() {
    let Some(storescu) = tool("storescu") else {
        return;
    };
    let server = Server::start();
    let paths = plain_files();
    assert!(paths.len() > 30, "{}", paths.len());
    for path in &paths {
        let outcome = run(node(&server, &storescu).arg("-v").arg(path));
        assert!(outcome.success(), "{}", outcome.text());
        assert!(
            outcome.text().contains("Success"),
            "{}: {}",
            path.display(),
            outcome.text()
        );
    }
}

#[test]
fn dcmsend_stores_every_plain_file_on_one_association() {
    let Some(dcmsend) = tool("dcmsend") else {
        return;
    };
    let server = Server::start();
    let paths = plain_files();
    let outcome = run(node(&server, &dcmsend).arg("-v").args(&paths));
    assert!(outcome.success(), "{}", outcome.text());
    let text = outcome.text();
    let sent = format!("with status SUCCESS  : {}", paths.len());
    assert!(text.contains(&sent), "{text}");
}

/// Method: one key each, as text of findscu's answers.
#[test]
fn findscu_is_answered_at_every_level() {
    let Some(findscu) = tool("findscu") else {
        return;
    };
    let server = Server::start();
    let Some(study) = filled(&server) else {
        return;
    };
    let find = |model: &str, keys: &[&str]| {
        let mut command = node(&server, &findscu);
        command.arg(model);
        for key in keys {
            command.args(["-k", key]);
        }
        let outcome = run(&mut command);
        assert!(outcome.success(), "{}", outcome.text());
        outcome.text()
    };
    let uid = format!("StudyInstanceUID={study}");
    let text = find(
        "-P",
        &[
            "QueryRetrieveLevel=PATIENT",
            "PatientName=EXAMPLE*",
            "PatientID",
        ],
    );
    assert!(text.contains("Example^Erika"), "{text}");
    let text = find(
        "-S",
        &[
            "QueryRetrieveLevel=STUDY",
            &uid,
            "StudyDate=20260101-20260131",
            "ModalitiesInStudy",
            "NumberOfStudyRelatedInstances",
        ],
    );
    assert_eq!(answers(&text), 1, "{text}");
    assert!(text.contains(&study), "{text}");
    let line = text
        .lines()
        .find(|line| line.contains("NumberOfStudyRelatedInstances"));
    assert!(line.is_some_and(|line| line.contains("[4")), "{text}");
    let text = find(
        "-S",
        &[
            "QueryRetrieveLevel=SERIES",
            &uid,
            "Modality=PT",
            "SeriesInstanceUID",
        ],
    );
    assert_eq!(answers(&text), 1, "{text}");
    let text = find(
        "-S",
        &[
            "QueryRetrieveLevel=IMAGE",
            &uid,
            "SeriesInstanceUID",
            "SOPInstanceUID",
        ],
    );
    assert_eq!(answers(&text), 4, "{text}");
    let text = find("-S", &["QueryRetrieveLevel=STUDY", "PatientName=Nobody*"]);
    assert_eq!(answers(&text), 0, "{text}");
}

/// How many pending responses findscu printed.
fn answers(text: &str) -> usize {
    text.matches("Find Response:").count()
}

/// A storescp of DCMTK on a free port; killed on drop.
struct Storescp(Child, u16);

impl Storescp {
    fn start(program: &Path, folder: &Path) -> Storescp {
        let port = free_port();
        let child = Command::new(program)
            .args(["-aet", "STORESCP", "-od"])
            .arg(folder)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start storescp");
        let scp = Storescp(child, port);
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(90), "storescp");
            std::thread::sleep(Duration::from_millis(10));
        }
        scp
    }
}

impl Drop for Storescp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Method: movescu asks, storescp receives.
#[test]
fn movescu_moves_a_study_to_storescp() {
    let (Some(movescu), Some(storescp)) = (tool("movescu"), tool("storescp")) else {
        return;
    };
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let scp = Storescp::start(&storescp, folder.path());
    let server = Server::with(Settings::default().peer("STORESCP", scp.1));
    let Some(study) = filled(&server) else {
        return;
    };
    let uid = format!("StudyInstanceUID={study}");
    let outcome = run(node(&server, &movescu)
        .args([
            "-S",
            "-aem",
            "STORESCP",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
        ])
        .arg(&uid));
    assert!(outcome.success(), "{}", outcome.text());
    assert_petct_in(folder.path());
    let outcome = run(node(&server, &movescu)
        .args([
            "-v",
            "-S",
            "-aem",
            "NOWHERE",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
        ])
        .arg(&uid));
    let text = outcome.text();
    assert!(text.contains("MoveDestinationUnknown"), "{text}");
}

/// Method: getscu, which proposes roles for its storage contexts.
#[test]
fn getscu_gets_a_study() {
    let Some(getscu) = tool("getscu") else {
        return;
    };
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let server = Server::start();
    let Some(study) = filled(&server) else {
        return;
    };
    let outcome = run(node(&server, &getscu)
        .args(["-S", "-od"])
        .arg(folder.path())
        .args(["-k", "QueryRetrieveLevel=STUDY", "-k"])
        .arg(format!("StudyInstanceUID={study}")));
    assert!(outcome.success(), "{}", outcome.text());
    assert_petct_in(folder.path());
}

/// Method: pynetdicom stores `testdata/`, asks at every level and compares with what pydicom reads from the files.
#[test]
fn pynetdicom_finds_what_pydicom_reads() {
    let Some(mut script) = peer_script("find.py") else {
        return;
    };
    let server = Server::start();
    let goods = files::good_below(&files::testdata());
    let outcome = run(script
        .args(["--called", "KURA", "--port"])
        .arg(server.port().to_string())
        .args(goods.iter().map(|good| &good.file.path)));
    assert!(outcome.success(), "{}", outcome.text());
    let seen: serde_json::Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
    assert_eq!(seen["differences"], serde_json::json!([]), "{seen:#}");
    assert_eq!(seen["stored"], goods.len(), "{seen:#}");
    assert_eq!(seen["compared"], goods.len(), "{seen:#}");
}
