//! Storage SCPs that others wrote, as processes of a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tools::{peer_script, tool};
use super::{Part10, files};

/// How long a start may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Another program that listens; killed on drop.
pub struct Program(Child);

impl Program {
    /// Returns when it takes connections.
    pub fn start(command: &mut Command, port: u16) -> Program {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let program = Program(child);
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < LIMIT, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        program
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("wait for a child").is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where a receiver says what it got.
enum Kept {
    /// `receiver.py`: a line for each instance that was answered 0000H.
    Log(PathBuf),
    /// storescp: a file for each instance, as often as it came.
    Folder(PathBuf),
}

pub struct Receiver {
    pub program: Program,
    pub port: u16,
    kept: Kept,
}

impl Receiver {
    /// `receiver.py`; `None` where there is no pynetdicom.
    pub fn pynetdicom(folder: &Path, port: u16, arguments: &[&str]) -> Option<Receiver> {
        let log = folder.join("received");
        let mut command = peer_script("receiver.py")?;
        command
            .args(["--port", &port.to_string(), "--log"])
            .arg(&log);
        let program = Program::start(command.args(arguments), port);
        Some(Receiver {
            program,
            port,
            kept: Kept::Log(log),
        })
    }

    /// `None` where there is no DCMTK. One association at a time; another waits.
    pub fn storescp(folder: &Path, port: u16) -> Option<Receiver> {
        let folder = folder.join("stored");
        std::fs::create_dir(&folder).expect("folder of storescp");
        let mut command = Command::new(tool("storescp")?);
        command.args(["+uf", "-od"]).arg(&folder);
        let program = Program::start(command.arg(port.to_string()), port);
        Some(Receiver {
            program,
            port,
            kept: Kept::Folder(folder),
        })
    }

    /// SOP Instance UIDs, as often as they came.
    pub fn received(&self) -> Vec<String> {
        match &self.kept {
            Kept::Log(log) => {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines = text.lines();
                lines
                    .filter_map(|line| line.split(' ').next().map(str::to_owned))
                    .collect()
            }
            Kept::Folder(folder) => {
                let files = files::below(folder);
                let files = files.iter().filter_map(|file| Part10::read(file).ok());
                files.map(|file| file.media_sop_instance_uid).collect()
            }
        }
    }

    /// Each once.
    pub fn received_uids(&self) -> BTreeSet<String> {
        self.received().into_iter().collect()
    }
}

/// The program; `None` (and a printed reason) when absent. It lies outside of most users' `PATH`.
pub fn orthanc() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let mut files = folders.iter().map(|folder| folder.join("Orthanc"));
    let found = files.find(|file| file.is_file());
    if found.is_none() {
        super::tools::skip("Orthanc is not installed");
    }
    found
}

/// Starts it, without plugins, on that port, with these values of its configuration besides.
pub fn start_orthanc(program: &Path, folder: &Path, port: u16, more: serde_json::Value) -> Program {
    let store = folder.join("store");
    let mut config = serde_json::json!({
        "Name": "test",
        "StorageDirectory": store,
        "IndexDirectory": store,
        "Plugins": [],
        "HttpServerEnabled": false,
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomAlwaysAllowFind": true,
        "DicomAlwaysAllowMove": true,
    });
    let members = config.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    let file = folder.join("orthanc.json");
    super::server::put_file(&file, config.to_string().as_bytes());
    Program::start(Command::new(program).arg(&file), port)
}
