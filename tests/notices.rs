//! Promise: who is to be told is told when the state changes, and every day, in time that is bounded, and never with the
//! data of a patient; a way that fails is seen.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::images::{self, Image};
use common::{Server, Settings};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program that appends what it is given to a file.
fn program(folder: &Path, name: &str, then: &str) -> (PathBuf, PathBuf) {
    let (path, out) = (folder.join(name), folder.join(format!("{name}.out")));
    let script = format!(
        "#!/bin/sh\n(echo \"ARGS $* STATE $KURA_STATE\"; cat; echo END) >> '{}'\n{then}\n",
        out.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (path, out)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Takes POSTs and answers each with that status.
struct Hook {
    port: u16,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    fn start(status: &'static str) -> Hook {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let taken = bodies.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                taken
                    .lock()
                    .unwrap()
                    .push(serde_json::from_slice(&body).unwrap());
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Hook { port, bodies }
    }

    fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap().clone()
    }
}

fn server(notices: &str) -> Server {
    Server::with(Settings {
        extra: format!(
            "[mirror]\nallow_same_device = true\n[notices]\nsettle_seconds = 0\nper_hour = 60\n{notices}"
        ),
        ..Settings::default().volume("B", "volume-b", "mirror")
    })
}

/// Method: an image comes, and the folder of the mirror is moved away: the state is degraded, and program, mail and
/// webhook say so. It comes back, and they say that. Nothing of it names the patient.
#[test]
fn a_change_of_the_state_is_told_by_every_way_and_without_a_patient() {
    let folder = TempDir::new().unwrap();
    let (tell, told) = program(folder.path(), "tell", "");
    let (sendmail, mailed) = program(folder.path(), "sendmail", "");
    let hook = Hook::start("204 No Content");
    let server = server(&format!(
        "command = [\"{}\", \"an argument\"]\nsendmail = \"{}\"\nmail_to = [\"admin@example.jp\", \"b@example.jp\"]\n\
         mail_from = \"kura@example.jp\"\nwebhook = \"http://127.0.0.1:{}/hook\"\n",
        tell.display(),
        sendmail.display(),
        hook.port
    ));
    let image = Image::new(1, 1, 4_096);
    images::send_all(&server, std::slice::from_ref(&image));
    let (there, away) = (server.volume("B"), server.folder().join("away"));
    fs::rename(&there, &away).unwrap();
    until("told by program", || text(&told).contains("STATE degraded"));
    until("told by mail", || text(&mailed).contains("STATE degraded"));
    until("told by webhook", || {
        hook.bodies().iter().any(|body| body["state"] == "degraded")
    });
    assert!(text(&told).contains("ARGS an argument"), "{}", text(&told));
    assert!(text(&told).contains("volume B"), "{}", text(&told));
    let mail = text(&mailed);
    for line in [
        "ARGS -i -t -f kura@example.jp",
        "To: admin@example.jp, b@example.jp",
        "From: Kura <kura@example.jp>",
        "Subject: Kura KURA: degraded (was ok)",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(mail.contains(line), "{line}: {mail}");
    }
    fs::rename(&away, &there).unwrap();
    until("told that all is well", || {
        hook.bodies().iter().any(|body| body["state"] == "ok")
    });
    let everything = format!("{}{}{:?}", text(&told), text(&mailed), hook.bodies());
    for value in [
        image.study.as_str(),
        &image.sop,
        "TEST-1",
        "SYNTHETIC",
        "ACC-1",
    ] {
        assert!(!everything.contains(value), "{value}: {everything}");
    }
}

/// Method: a program that fails, one that never ends beside a webhook that answers 500: the test returns, says which
/// failed and why, and so do the status and its exit code; put right, the next test says that.
#[test]
fn a_way_that_fails_is_seen_and_does_not_hold_up_the_others() {
    let folder = TempDir::new().unwrap();
    let (tell, told) = program(folder.path(), "tell", "sleep 600");
    let hook = Hook::start("500 Internal Server Error");
    let ways = |tell: &Path, port: u16| {
        format!(
            "[notices]\ncommand = [\"{}\"]\nwebhook = \"http://127.0.0.1:{port}/secret-hook\"\n",
            tell.display()
        )
    };
    let mut server = Server::with(Settings {
        extra: ways(&tell, hook.port),
        ..Settings::default()
    });
    let outcome = server.kura(&["notices", "test"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert!(text(&told).contains("This is a test"), "{}", text(&told));
    assert!(
        outcome.stdout.contains("did not end within"),
        "{}",
        outcome.text()
    );
    assert!(outcome.stdout.contains("500"), "{}", outcome.text());
    let status = server.kura(&["status"]);
    assert_eq!(status.code, Some(1), "{}", status.text());
    assert!(
        status.stdout.contains("notices by webhook do not arrive"),
        "{}",
        status.text()
    );
    assert!(!format!("{}{}", status.text(), server.log_text()).contains("secret-hook"));

    let (tell, _) = program(folder.path(), "tell-well", "");
    let well = Hook::start("200 OK");
    server.configure(|settings| settings.extra = ways(&tell, well.port));
    let reloaded = server.kura(&["reload"]);
    assert!(reloaded.success(), "{}", reloaded.text());
    let outcome = server.kura(&["notices", "test"]);
    assert!(outcome.success(), "{}", outcome.text());
    assert!(server.kura(&["status"]).success());
    assert_eq!(well.bodies().len(), 1);
}

/// Method: the daily summary is asked for at a time that was this morning, by a server that told one yesterday: it comes at
/// once, in Japanese, with what came, and once.
#[test]
fn the_summary_of_the_day_says_what_came_and_comes_once() {
    let hook = Hook::start("200 OK");
    let mut server = Server::start();
    let image = Image::new(1, 1, 4_096);
    images::send_all(&server, std::slice::from_ref(&image));
    server.terminate();
    fs::write(
        server.state().join("notices.json"),
        r#"{"version":1,"told":"ok","summed_up":"2026-01-01","ways":[]}"#,
    )
    .unwrap();
    server.configure(|settings| {
        settings.extra = format!(
            "[notices]\nwebhook = \"http://127.0.0.1:{}/\"\ndaily = \"00:00\"\nlanguage = \"ja\"\n",
            hook.port
        );
    });
    let daily = || {
        let bodies = hook.bodies().into_iter();
        bodies
            .filter(|body| body["notice"] == "daily")
            .collect::<Vec<_>>()
    };
    server.restart();
    until("the summary", || !daily().is_empty());
    let said = daily()[0]["text"].as_str().unwrap().to_owned();
    assert!(
        said.contains("日次まとめ") && said.contains("画像 1 枚(1 検査)"),
        "{said}"
    );
    until("it is kept", || {
        !text(&server.state().join("notices.json")).contains("2026-01-01")
    });
    server.terminate();
    server.restart();
    server.kura(&["notices", "test"]);
    assert_eq!(daily().len(), 1);
}
