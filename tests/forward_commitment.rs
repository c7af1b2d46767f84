//! Promise: a peer is asked whether it keeps what it got by forwarding, without holding up what goes out, and what it says
//! is seen; a question that is open survives a kill.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use common::forwarding::{PATIENCE, item, settings, until, wait_for, wait_for_peer};
use common::images::{Image, images, send_all};
use common::server::free_port;
use common::tools::peer_script;
use common::{Server, Settings, Sink};
use kura::forward::State;

/// Everything goes to that peer, which is asked whether it keeps it.
fn asking(title: &str, port: u16) -> Settings {
    let mut settings = settings(&[]);
    let rule = settings
        .extra
        .replace("to = []", &format!("to = [{title:?}]"));
    settings.extra = format!(
        "{rule}[[peer]]\nae_title = {title:?}\nhost = \"127.0.0.1\"\nport = {port}\ncommitment = true\n"
    );
    settings
}

/// `commitment.py keep`: reports over an association of its own, and does not keep UIDs that end in 3.
struct Keeper(Child, BufReader<ChildStdout>);

impl Keeper {
    /// `None` where there is no pynetdicom.
    fn start(server: &Server, listen: u16, when: Option<&Path>) -> Option<Keeper> {
        let mut script = peer_script("commitment.py")?;
        script.arg("keep");
        script.args(["--port", &server.port().to_string()]);
        script.args(["--listen", &listen.to_string()]);
        if let Some(when) = when {
            script.arg("--when").arg(when);
        }
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().expect("python");
        let said = BufReader::new(child.stdout.take().expect("output"));
        let mut keeper = Keeper(child, said);
        assert_eq!(keeper.line(), "listening");
        Some(keeper)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Method: the peer is another Kura, which reports over the association that asked. One more image comes later.
#[test]
fn a_study_that_was_sent_is_committed_by_another_kura_and_so_is_what_comes_later() {
    let other = Server::start();
    other.wait_until_indexed();
    let server = Server::with(asking("OTHER", other.port()));
    let images = images(2, 5);
    send_all(&server, &images);
    for study in 0..2 {
        let study = Image::new(study, 0, 0).study;
        let done = wait_for(&server, "OTHER", &study, |item| {
            item.committed_count == Some(5)
        });
        assert_eq!((done.state, done.not_committed.as_str()), (State::Sent, ""));
    }
    let late = Image::new(0, 99, 1_000);
    send_all(&server, std::slice::from_ref(&late));
    wait_for(&server, "OTHER", &late.study, |item| {
        item.committed_count == Some(6)
    });
    let shown = server.kura(&["forward", "show", &late.study]);
    assert!(shown.success(), "{}", shown.text());
    assert!(shown.stdout.contains("committed 6/6"), "{}", shown.text());
    assert_eq!(server.kura(&["status"]).code, Some(0));
}

/// Method: pynetdicom does not keep one of four, and says so with 0110H over an association of its own.
#[test]
fn what_the_peer_does_not_keep_is_named_and_asked_again_alone() {
    let port = free_port();
    let server = Server::with(asking("KEEPER", port));
    let Some(mut keeper) = Keeper::start(&server, port, None) else {
        return;
    };
    let images = images(1, 4);
    send_all(&server, &images);
    assert_eq!(keeper.line(), "told 0000 of 4");
    let bad = images.iter().find(|image| image.sop.ends_with('3'));
    let done = wait_for(&server, "KEEPER", &images[0].study, |item| {
        !item.not_committed.is_empty()
    });
    assert_eq!((done.state, done.committed_count), (State::Sent, Some(3)));
    let wanted = format!("{}: 0110H processing failure", bad.expect("one").sop);
    assert!(done.not_committed.contains(&wanted), "{done:?}");
    assert_eq!(keeper.line(), "told 0000 of 1");
}

/// Method: the peer reports only when a file is there; the server is killed after it asked and started again.
#[test]
fn a_report_finds_its_question_after_a_kill() {
    let (port, folder) = (free_port(), tempfile::TempDir::new().unwrap());
    let when = folder.path().join("now");
    let mut server = Server::with(asking("KEEPER", port));
    let Some(mut keeper) = Keeper::start(&server, port, Some(&when)) else {
        return;
    };
    let image = Image::new(1, 1, 1_000);
    send_all(&server, std::slice::from_ref(&image));
    assert_eq!(keeper.line(), "asked");
    server.kill();
    server.restart();
    std::fs::write(&when, "").unwrap();
    assert_eq!(keeper.line(), "told 0000 of 1");
    wait_for(&server, "KEEPER", &image.study, |item| {
        item.committed_count == Some(1)
    });
}

/// Method: a peer that takes images only, and no storage commitment.
#[test]
fn a_peer_that_cannot_be_asked_gets_its_images_all_the_same_and_that_is_said() {
    let folder = tempfile::TempDir::new().unwrap();
    let port = free_port();
    let Some(mut script) = peer_script("receiver.py") else {
        return;
    };
    let log = folder.path().join("received");
    script
        .args(["--port", &port.to_string(), "--log"])
        .arg(&log);
    let child = script.stdin(Stdio::null()).spawn().expect("receiver.py");
    struct Receiver(Child);
    impl Drop for Receiver {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let _receiver = Receiver(child);
    let server = Server::with(asking("PLAIN", port));
    send_all(&server, &images(1, 2));
    let peer = wait_for_peer(&server, "PLAIN", |peer| peer.not_asked.is_some());
    let reason = peer.not_asked.unwrap_or_default();
    assert!(
        reason.contains("does not take storage commitment"),
        "{reason}"
    );
    let late = images(3, 2);
    send_all(&server, &late);
    for study in 0..3 {
        let study = Image::new(study, 0, 0).study;
        wait_for(&server, "PLAIN", &study, |item| item.state == State::Sent);
    }
    let status = server.kura(&["status"]);
    assert!(
        status.stdout.contains("not asked whether it keeps them"),
        "{}",
        status.text()
    );
}

/// Method: the same peer without and with the key, by command while the server runs.
#[test]
fn only_who_is_to_be_asked_is_asked() {
    let other = Server::start();
    other.wait_until_indexed();
    let server = Server::with(settings(&[("OTHER", other.port())]));
    let images = images(2, 1);
    send_all(&server, &images[..1]);
    wait_for(&server, "OTHER", &images[0].study, |item| {
        item.state == State::Sent && item.delivered_count.is_some()
    });
    let address = format!("OTHER@127.0.0.1:{}", other.port());
    let added = server.kura(&["peer", "add", &address, "--commitment"]);
    assert!(added.success(), "{}", added.text());
    send_all(&server, &images[1..]);
    wait_for(&server, "OTHER", &images[1].study, |item| {
        item.committed_count == Some(1)
    });
    let before = item(&server, "OTHER", &images[0].study).expect("the first");
    assert_eq!(before.committed_count, None);
    let listed = server.kura_json(&["peer", "list"]);
    assert_eq!(listed["peers"][0]["commitment"], true);
}

/// Method: a map that is not there at the start; it comes later.
#[test]
fn a_rule_whose_map_cannot_be_read_is_held_and_the_server_runs() {
    let sink = Sink::start();
    let mut settings = settings(&[("SINK", sink.port())]);
    settings.extra = settings.extra.replace(
        "quiet_seconds = 1\n",
        "quiet_seconds = 1\nrewrite = { map = \"ids.csv\" }\n",
    );
    let server = Server::with(settings);
    let image = Image::new(1, 1, 1_000);
    send_all(&server, std::slice::from_ref(&image));
    wait_for_peer(&server, "SINK", |peer| peer.waiting_count == 1);
    let waiting = item(&server, "SINK", &image.study).expect("noted");
    assert!(
        waiting.reason.contains("nothing goes by rule all now"),
        "{waiting:?}"
    );
    let status = server.kura(&["status"]);
    assert_eq!(status.code, Some(1), "{}", status.text());
    let wanted = "action  nothing goes by rule all, what it takes waits";
    assert!(status.stdout.contains(wanted), "{}", status.text());
    assert!(status.stdout.contains("ids.csv"), "{}", status.text());
    for arguments in [
        &["forward", "retry"][..],
        &["send", &image.study, "--to", "SINK"],
    ] {
        let outcome = server.kura(arguments);
        assert!(outcome.success(), "{}", outcome.text());
    }
    let failing = wait_for(&server, "SINK", &image.study, |item| {
        item.reason.contains("ids.csv")
    });
    assert_eq!((failing.sent_count, sink.count()), (0, 0), "{failing:?}");
    std::fs::write(server.folder().join("ids.csv"), "TEST-1,R-7\n").unwrap();
    let retried = server.kura(&["forward", "retry"]);
    assert!(retried.success(), "{}", retried.text());
    sink.wait_for(1, PATIENCE);
    let text = String::from_utf8_lossy(&sink.take()[0].data_set).into_owned();
    assert!(text.contains("R-7") && !text.contains("TEST-1"));
    until("all is well", || server.kura(&["status"]).code == Some(0));
}

/// Method: the only rule of a study that waits goes, which gives the study up; it is marked as sent.
#[test]
fn what_failed_for_good_degrades_the_status_until_a_person_has_decided() {
    let sink = Sink::start();
    let server = Server::with(settings(&[("SINK", sink.port())]));
    let image = Image::new(1, 1, 1_000);
    let paused = server.kura(&["forward", "pause", "SINK"]);
    assert!(paused.success(), "{}", paused.text());
    send_all(&server, std::slice::from_ref(&image));
    wait_for_peer(&server, "SINK", |peer| peer.waiting_count == 1);
    for arguments in [["remove-rule", "all"], ["resume", "SINK"]] {
        let outcome = server.kura(&[&["forward"], &arguments[..]].concat());
        assert!(outcome.success(), "{}", outcome.text());
    }
    wait_for_peer(&server, "SINK", |peer| peer.given_up_count == 1);
    let status = server.kura(&["status"]);
    assert_eq!(status.code, Some(1), "{}", status.text());
    let wanted = "action  one study was not sent to SINK and not tried any more";
    assert!(status.stdout.contains(wanted), "{}", status.text());
    assert!(
        status
            .stdout
            .contains("kura forward mark-sent STUDY --peer SINK")
    );
    let marked = server.kura(&["forward", "mark-sent", &image.study]);
    assert!(marked.success(), "{}", marked.text());
    assert_eq!(server.kura(&["status"]).code, Some(0));
}
