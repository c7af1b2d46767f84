//! `kura doctor PEER`: what is wrong between two systems is named, with where to change it.

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::server::{free_port, put_file};
use common::wire::{Client, IMPLICIT_LITTLE, VERIFICATION};
use common::{Server, Settings, Sink, tools};
use serde_json::Value;
use tempfile::TempDir;

/// A peer program; ended on drop.
struct Peer(Child);

impl Peer {
    fn start(command: &mut Command, port: u16) -> Peer {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let peer = Peer(command.spawn().expect("start a peer"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{command:?} does not listen"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The answer, and what was tried, as `(what, outcome, sentence, next)`.
struct Said {
    code: Option<i32>,
    tried: Vec<[String; 4]>,
}

fn doctor(server: &Server, arguments: &[&str]) -> Said {
    let mut all = vec!["doctor", "--json"];
    all.extend_from_slice(arguments);
    let outcome = server.kura(&all);
    let value: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", outcome.text()));
    assert_eq!(value["version"], 1);
    let tried = value["tried"].as_array().expect("tried").iter().map(|one| {
        ["what", "outcome", "found", "next"].map(|key| one[key].as_str().expect(key).to_owned())
    });
    let tried: Vec<_> = tried.collect();
    let failed = tried.iter().filter(|tried| tried[1] == "failed").count();
    assert_eq!(value["problems_count"], failed);
    assert_eq!(outcome.code, Some(i32::from(failed > 0)));
    Said {
        code: outcome.code,
        tried,
    }
}

impl Said {
    /// The one line about it has this outcome, and these words in its sentence or its next step.
    fn has(&self, what: &str, outcome: &str, words: &[&str]) -> &Said {
        let of_it = self.tried.iter().filter(|tried| tried[0] == what);
        let found = of_it.clone().any(|tried| {
            tried[1] == outcome
                && words
                    .iter()
                    .all(|w| tried[2].contains(w) || tried[3].contains(w))
        });
        assert!(found, "{what} {outcome} {words:?} in {:#?}", self.tried);
        self
    }

    fn has_no(&self, what: &str) -> &Said {
        assert!(
            self.tried.iter().all(|tried| tried[0] != what),
            "{:#?}",
            self.tried
        );
        self
    }
}

/// Method: a port that nobody listens on, a name that nobody has, a program that says nothing, one that hangs up, one
/// that speaks something else.
#[test]
fn a_node_that_cannot_be_reached_is_told_from_one_that_does_not_speak_dicom() {
    let server = Server::with(Settings::default().peer("DEAD", free_port()));
    doctor(&server, &["DEAD"])
        .has("connection", "failed", &["nothing listens"])
        .has_no("echo");
    let unknown = doctor(&server, &["X@no-such-host.invalid:104"]);
    unknown.has("name", "failed", &["no-such-host.invalid", "name server"]);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    let silent = format!("SILENT@127.0.0.1:{port}");
    let thread = std::thread::spawn(move || {
        // To look whether it is there, and then the association.
        let streams: Vec<_> = listener.incoming().take(2).collect();
        for stream in streams.into_iter().flatten() {
            let _ = { stream }.read_to_end(&mut Vec::new());
        }
    });
    doctor(&server, &[&silent]).has("association", "failed", &["says nothing", "DICOM port"]);
    thread.join().expect("the silent node");

    for (answer, words) in [
        (&b""[..], "closes it"),
        (b"SSH-2.0-OpenSSH_9\r\n", "right port"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        let answer = answer.to_vec();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.expect("connection");
                // All of the request first, so that the end is no reset.
                let limit = Some(Duration::from_millis(300));
                stream.set_read_timeout(limit).expect("time limit");
                let _ = stream.read_to_end(&mut Vec::new());
                let _ = std::io::Write::write_all(&mut stream, &answer);
            }
        });
        let node = format!("ODD@127.0.0.1:{port}");
        doctor(&server, &[&node]).has("association", "failed", &[words]);
        thread.join().expect("the odd node");
    }
}

/// Method: pynetdicom, told to refuse one thing or another.
#[test]
fn what_a_node_refuses_is_named_with_where_to_change_it() {
    let server = Server::start();
    for (arguments, expected) in [
        (
            &["--calling", "SOMEBODY"][..],
            &[(
                "association",
                "failed",
                &["calling AE title KURA", "enter this server there"][..],
            )][..],
        ),
        (
            &["--called"],
            &[(
                "association",
                "failed",
                &["not called WRONG", "kura peer add"],
            )],
        ),
        (
            &["--implicit"],
            &[
                ("echo", "ok", &[]),
                ("storage", "ok", &["all 20 kinds"]),
                (
                    "transfer syntaxes",
                    "ok",
                    &["Implicit VR Little Endian; what is compressed"],
                ),
                ("find", "skipped", &["does not answer queries"]),
                ("test image", "skipped", &["--send-test-image"]),
                ("clock", "skipped", &[]),
                ("its calls", "skipped", &["not called"]),
            ],
        ),
        (
            &["--no-store", "--find", "A700"],
            &[
                ("storage", "warning", &["takes no images"]),
                ("find", "failed", &["A700H, out of resources"]),
            ],
        ),
        (
            &["--find", "0000", "--sets", "ISO_IR 100", "--move", "A801"],
            &[
                ("find", "ok", &["Study Root"]),
                (
                    "characters",
                    "warning",
                    &["takes names in Latin 1", "refuses UTF-8"],
                ),
                ("move", "warning", &["no destination KURA", "port"]),
            ],
        ),
    ] {
        let port = free_port();
        let Some(mut script) = tools::peer_script("picky.py") else {
            return;
        };
        let _peer = Peer::start(
            script.arg("--port").arg(port.to_string()).args(arguments),
            port,
        );
        let title = if arguments.contains(&"--called") {
            "WRONG"
        } else {
            "PICKY"
        };
        let said = doctor(&server, &[&format!("{title}@127.0.0.1:{port}")]);
        for (what, outcome, words) in expected {
            said.has(what, outcome, words);
        }
    }
}

/// Method: a peer that refuses images gets the test image; then one that takes everything, and dcmqrscp, from which it
/// comes back.
#[test]
fn an_image_of_nobody_goes_there_and_comes_back() {
    let sink = Sink::start();
    let sent = ["--send-test-image"];
    let mut server = Server::with(Settings::default().peer("SINK", sink.port()));
    sink.answer(0xA700);
    doctor(&server, &["SINK", sent[0]]).has("test image", "failed", &["A700H"]);
    sink.answer(0);
    doctor(&server, &["SINK", sent[0]]).has("test image", "ok", &["KURA-TEST"]);
    assert_eq!(sink.take().len(), 2);
    doctor(&server, &["SINK"]).has("test image", "skipped", &[]);
    assert_eq!(
        sink.take().len(),
        0,
        "nothing was sent without being asked for"
    );

    let Some(dcmqrscp) = tools::tool("dcmqrscp") else {
        return;
    };
    let folder = TempDir::new().expect("temporary folder");
    let port = free_port();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).expect("folder");
    let config = format!(
        "NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n\
         HostTable BEGIN\nkura = (KURA, localhost, {})\nHostTable END\n\
         VendorTable BEGIN\nVendorTable END\n\
         AETable BEGIN\nQRSCP {} RW (200, 1024mb) ANY\nAETable END\n",
        server.port(),
        store.display()
    );
    let file = folder.path().join("qr.cfg");
    put_file(&file, config.as_bytes());
    let mut command = Command::new(dcmqrscp);
    let _peer = Peer::start(command.arg("-c").arg(&file).arg(port.to_string()), port);
    server.terminate();
    server.configure(|settings| settings.peers.push(("QRSCP".to_owned(), port)));
    server.restart();
    let said = doctor(&server, &["QRSCP", sent[0]]);
    said.has("find", "ok", &["Study Root"])
        .has("move", "ok", &["send to KURA"])
        .has("test image", "ok", &[])
        .has("names", "ok", &["as they were sent"])
        .has("move back", "ok", &["kura remove --study"]);
    assert_eq!(said.code, Some(0));
    let found = server.kura_json(&["find", "PatientID=KURA-TEST"]);
    assert!(found.to_string().contains("KURA^TEST"), "{found}");
}

/// Method: a peer whose own call was refused lately is tried out, by its AE title and by an address that is not in the
/// configuration.
#[test]
fn what_a_node_did_wrong_when_it_called_is_said() {
    let sink = Sink::start();
    let mut settings = Settings::default().peer("CT1", sink.port());
    settings.extra = "accept_any_called = false".to_owned();
    let server = Server::with(settings);
    let contexts: &[(u8, &str, &[&str])] = &[(1, VERIFICATION, &[IMPLICIT_LITTLE])];
    assert!(Client::associate(server.address(), "CT1", "OLD_PACS", contexts).is_err());
    let at = format!("CT1@127.0.0.1:{}", sink.port());
    for peer in ["CT1", &at] {
        let begun = Instant::now();
        loop {
            let said = doctor(&server, &[peer]);
            if said
                .tried
                .iter()
                .any(|tried| tried[0] == "its calls" && tried[1] == "warning")
            {
                said.has("its calls", "warning", &["calls OLD_PACS", "to KURA"]);
                break;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{:#?}",
                said.tried
            );
        }
    }
    let outcome = server.kura(&["doctor"]);
    let says = "note     senders: CT1 at 127.0.0.1 failed at ";
    assert!(outcome.stdout.contains(says), "{}", outcome.text());
    assert!(
        outcome.stdout.contains("it calls OLD_PACS"),
        "{}",
        outcome.text()
    );
}
