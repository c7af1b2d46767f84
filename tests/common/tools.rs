//! Other programs that tests drive. Absent ones make a test skip, except
//! where `CI=true` says that everything must have been installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::server::Outcome;

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Prints why a test does not run; a failure where `CI=true`.
pub fn skip(why: &str) {
    assert!(!in_ci(), "CI=true, and {why}");
    eprintln!("skipped: {why}");
}

/// The program of this name on `PATH`; `None` (and a printed reason) when absent.
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    });
    if found.is_none() {
        skip(&format!("{name} is not installed (run: make tools)"));
    }
    found
}

/// The interpreter of the virtual environment that `make tools` sets up.
pub fn python() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    if path.exists() {
        return Some(path);
    }
    skip("target/venv has no python (run: make tools)");
    None
}

/// A script of `tests/peers`, ready for its arguments; `None` (and a printed reason) without Python.
pub fn peer_script(name: &str) -> Option<Command> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let mut command = Command::new(python()?);
    // The source folder stays as it is.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(folder.join(name));
    Some(command)
}

/// Runs a program to its end, at most `limit`; past that it is killed and the test fails.
pub fn run_within(command: &mut Command, limit: Duration) -> Outcome {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    // Both pipes are read while the program runs: a full pipe would stop it.
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "{shown}: still running after {limit:?}\n{}\n{}",
                stdout.join().unwrap_or_default(),
                stderr.join().unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Outcome {
        code: status.code(),
        stdout: stdout.join().expect("reader of stdout"),
        stderr: stderr.join().expect("reader of stderr"),
    }
}

fn reader<R: std::io::Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// As [`run_within`] with two minutes.
pub fn run(command: &mut Command) -> Outcome {
    run_within(command, Duration::from_secs(120))
}
