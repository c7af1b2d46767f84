//! The built program as a server process of a test.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::build::Tag;
use super::wire::{Client, WireError};
use super::{build, tools, wire};

/// How long a start may take before a test calls it hung.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a finished program left: its exit code (`None` after a signal) and texts.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Both texts, for messages.
    pub fn text(&self) -> String {
        format!("exit {:?}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on.
///
/// Below the range that systems take outgoing ports from, so that a server can
/// be stopped and started on its port while other tests connect.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 300) as u16 * 40;
    for _ in 0..4_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (base - 20_000 + step) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// What goes into `kura.toml`.
pub struct Settings {
    pub ae_title: String,
    pub port: u16,
    /// Name, path relative to the server's folder, role (`archive` or `mirror`).
    pub volumes: Vec<(String, String, String)>,
    /// AE title, port on 127.0.0.1.
    pub peers: Vec<(String, u16)>,
    /// Folder of the journals of archive volumes, if not on the volumes themselves.
    pub journal: Option<PathBuf>,
    /// Lines put before the tables.
    pub extra: String,
    /// Environment variables of the process.
    pub environment: Vec<(String, String)>,
    /// Arguments after `serve`.
    pub arguments: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            ae_title: "KURA".into(),
            port: free_port(),
            volumes: vec![("A".into(), "volume-a".into(), "archive".into())],
            peers: Vec::new(),
            journal: None,
            extra: String::new(),
            environment: Vec::new(),
            arguments: Vec::new(),
        }
    }
}

impl Settings {
    pub fn peer(mut self, ae_title: &str, port: u16) -> Settings {
        self.peers.push((ae_title.into(), port));
        self
    }

    pub fn volume(mut self, name: &str, path: &str, role: &str) -> Settings {
        self.volumes.push((name.into(), path.into(), role.into()));
        self
    }

    fn toml(&self, folder: &Path) -> String {
        let mut text = format!(
            "ae_title = \"{}\"\nbind = \"127.0.0.1\"\nport = {}\nstate = \"{}\"\n{}\n",
            self.ae_title,
            self.port,
            folder.join("state").display(),
            self.extra
        );
        // Not by what the disk of this machine is like. With `KURA_TEST_INTAKE` all of a test another way; a test that says
        // `[intake]` itself is left alone.
        if !text.contains("[intake]") {
            let mode = std::env::var("KURA_TEST_INTAKE");
            let mode = mode.unwrap_or_else(|_| "direct".to_owned());
            text += &format!("\n[intake]\nmode = \"{mode}\"\nsize_bytes = 33554432\n");
        }
        for (name, path, role) in &self.volumes {
            text += &format!(
                "\n[[volume]]\nname = \"{name}\"\npath = \"{}\"\nrole = \"{role}\"\n",
                folder.join(path).display()
            );
            if let Some(journal) = self.journal.as_ref().filter(|_| role == "archive") {
                text += &format!("journal = \"{}\"\n", journal.display());
            }
        }
        for (ae_title, port) in &self.peers {
            text += &format!(
                "\n[[peer]]\nae_title = \"{ae_title}\"\nhost = \"127.0.0.1\"\nport = {port}\n"
            );
        }
        text
    }
}

/// A running (or stopped) server with its folder; killed on drop.
pub struct Server {
    folder: PathBuf,
    log: PathBuf,
    settings: Settings,
    child: Option<Child>,
    // Last, so that the process is gone before its folder is.
    _scratch: TempDir,
}

impl Server {
    /// One archive volume, AE title KURA, a free port.
    pub fn start() -> Server {
        Server::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Server {
        let scratch = TempDir::new().expect("temporary folder");
        let folder = scratch.path().join("kura");
        fs::create_dir(&folder).expect("folder of the server");
        Server::prepare(settings, scratch, folder).started()
    }

    /// Everything of the server lies in `folder`, except its log.
    pub fn in_folder(settings: Settings, folder: &Path) -> Server {
        let scratch = TempDir::new().expect("temporary folder");
        Server::prepare(settings, scratch, folder.to_path_buf()).started()
    }

    /// On the `kura.toml` that lies in `folder` already and names this port.
    pub fn as_configured(folder: &Path, port: u16) -> Server {
        let scratch = TempDir::new().expect("temporary folder");
        let settings = Settings {
            port,
            volumes: Vec::new(),
            ..Settings::default()
        };
        let server = Server {
            log: scratch.path().join("server.log"),
            folder: folder.to_path_buf(),
            settings,
            child: None,
            _scratch: scratch,
        };
        server.started()
    }

    fn prepare(settings: Settings, scratch: TempDir, folder: PathBuf) -> Server {
        for (_, path, _) in &settings.volumes {
            fs::create_dir_all(folder.join(path)).expect("folder of a volume");
        }
        let server = Server {
            log: scratch.path().join("server.log"),
            folder,
            settings,
            child: None,
            _scratch: scratch,
        };
        server.write_settings();
        server
    }

    fn started(mut self) -> Server {
        self.restart();
        self
    }

    fn write_settings(&self) {
        fs::write(self.config(), self.settings.toml(&self.folder)).expect("write kura.toml");
    }

    /// Changes `kura.toml`; the next start reads it.
    pub fn configure(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.write_settings();
    }

    /// Starts the process on the same folder and waits until its port accepts.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("log of the server");
        let errors = log.try_clone().expect("log of the server");
        let mut command = self.command(&["serve"]);
        command.args(&self.settings.arguments);
        // Tests of the page say so; no other wants a port for it.
        let mut arguments = self.settings.arguments.iter();
        if !arguments.any(|argument| argument == "--admin-port") {
            command.args(["--admin-port", "off"]);
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let log_before = fs::metadata(&self.log).map_or(0, |log| log.len() as usize);
        self.child = Some(command.spawn().expect("start kura serve"));
        let start = Instant::now();
        // Not the first who takes a connection: for a moment that may be what is left of looking for a free port, in a
        // process that was just begotten beside this one.
        let is_listening = || {
            let log = fs::read(&self.log).unwrap_or_default();
            let log =
                String::from_utf8_lossy(log.get(log_before..).unwrap_or_default()).into_owned();
            log.contains("kura is listening") || start.elapsed() > Duration::from_secs(5)
        };
        while !is_listening() || TcpStream::connect(self.address()).is_err() {
            let ended = self.child.as_mut().and_then(|child| {
                child
                    .try_wait()
                    .expect("wait for the server")
                    .map(|status| status.to_string())
            });
            if let Some(status) = ended {
                self.child = None;
                panic!("kura serve ended at once ({status}):\n{}", self.log_text());
            }
            assert!(
                start.elapsed() < START_LIMIT,
                "kura serve does not accept after {START_LIMIT:?}:\n{}",
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kura` with this server's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kura"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .current_dir(&self.folder)
            .env("NO_COLOR", "1");
        for (name, value) in &self.settings.environment {
            command.env(name, value);
        }
        command
    }

    /// Runs `kura <verb> …` to its end.
    pub fn kura(&self, arguments: &[&str]) -> Outcome {
        tools::run(&mut self.command(arguments))
    }

    /// Runs `kura <verb> … --json` and reads the one object it prints.
    pub fn kura_json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let outcome = self.kura(&all);
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("kura {all:?}: {error}\n{}", outcome.text()))
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.settings.port))
    }

    pub fn port(&self) -> u16 {
        self.settings.port
    }

    pub fn ae_title(&self) -> &str {
        &self.settings.ae_title
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("kura.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Root folder of a volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        let (_, path, _) = self
            .settings
            .volumes
            .iter()
            .find(|(volume, _, _)| volume == name)
            .unwrap_or_else(|| panic!("no volume {name} in kura.toml"));
        self.folder.join(path)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Process ids of its decoders.
    pub fn workers(&self) -> Vec<i32> {
        let server = self.pid().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(1));
            if parent == Some(server.as_str()) && !stat.contains(") Z ") {
                found.push(pid);
            }
        }
        found
    }

    /// Everything the process has printed since the first start.
    pub fn log_text(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Fails when the process has ended by itself.
    pub fn assert_alive(&mut self) {
        let child = self.child.as_mut().expect("the server runs");
        if let Some(status) = child.try_wait().expect("wait for the server") {
            self.child = None;
            panic!("the server ended ({status}):\n{}", self.log_text());
        }
    }

    /// Whether the process has ended by itself; it can be started again then.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("the server runs");
        let ended = child.try_wait().expect("wait for the server").is_some();
        if ended {
            self.child = None;
        }
        ended
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("signal the server");
    }

    /// kill -9, as a crash of the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("wait for the killed server");
        }
    }

    /// SIGTERM; returns the exit status, fails when it takes longer than `limit`.
    pub fn terminate_within(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("the server runs");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait for the server") {
                return status;
            }
            if start.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                panic!("no end {limit:?} after SIGTERM:\n{}", self.log_text());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As [`Server::terminate_within`] with 30 s.
    pub fn terminate(&mut self) -> ExitStatus {
        self.terminate_within(Duration::from_secs(30))
    }

    /// An association to this server from TESTER.
    pub fn associate(&self, contexts: &[(u8, &str, &[&str])]) -> Client {
        self.try_associate(contexts)
            .unwrap_or_else(|error| panic!("association: {error}\n{}", self.log_text()))
    }

    /// As [`Server::associate`], with the smallest receive buffer there is: what is not read waits at the server.
    pub fn associate_narrow(&self, contexts: &[(u8, &str, &[&str])]) -> Client {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("its buffer");
        socket.connect(&self.address().into()).expect("connection");
        let request = super::wire::associate_rq("TESTER", self.ae_title(), contexts, 16_384, &[]);
        Client::begin(socket.into(), &request, contexts).expect("association")
    }

    pub fn try_associate(&self, contexts: &[(u8, &str, &[&str])]) -> Result<Client, WireError> {
        Client::associate(self.address(), "TESTER", self.ae_title(), contexts)
    }

    /// Waits until queries end with 0000H: while the index is being rebuilt they end with A700H.
    pub fn wait_until_indexed(&self) {
        let nobody = build::ident(&[
            (Tag(0x0008, 0x0052), "CS", "STUDY"),
            (Tag(0x0020, 0x000D), "UI", "2.25.1"),
        ]);
        let start = Instant::now();
        loop {
            let find: &[(u8, &str, &[&str])] =
                &[(1, wire::STUDY_ROOT_FIND, &[wire::IMPLICIT_LITTLE])];
            let mut client = match self.try_associate(find) {
                Ok(client) => client,
                // Somebody else who looked for a free port had this one for a moment.
                Err(_) if start.elapsed() < START_LIMIT => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Err(error) => panic!("association: {error}\n{}", self.log_text()),
            };
            let found = client.c_find(1, &nobody).expect("query");
            let _ = client.release();
            if found.status == 0 {
                return;
            }
            assert!(
                start.elapsed() < START_LIMIT,
                "queries still end with {:04X}H {:?}",
                found.status,
                found.comment
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            if super::long() {
                let whole = Path::new(env!("CARGO_TARGET_TMPDIR"));
                let whole = whole.join(format!("failed-{}.log", self.port()));
                eprintln!("--- the server's log is {}", whole.display());
                let _ = std::fs::write(whole, &text);
            }
            eprintln!("--- last lines of the server's log");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Creates a file with what a test wants in it; its folders too.
pub fn put_file(path: &Path, bytes: &[u8]) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("folders of a file");
    }
    File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .expect("write a file");
}
