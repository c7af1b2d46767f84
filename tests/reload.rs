//! Promise: a configuration that is read again while the server runs is in effect as a whole or not at all, and what it
//! changed is said.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::images::{self, Image};
use common::wire::{Client, IMPLICIT_LITTLE, VERIFICATION};
use common::{Server, Settings, Sink};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether somebody is served who calls the server by another name.
fn is_served_as(server: &Server, called: &str) -> bool {
    let contexts: &[(u8, &str, &[&str])] = &[(1, VERIFICATION, &[IMPLICIT_LITTLE])];
    match Client::associate(server.address(), "TESTER", called, contexts) {
        Ok(client) => client.release().is_ok(),
        Err(_) => false,
    }
}

/// Other lines at the beginning of `kura.toml`.
fn write(server: &mut Server, extra: &str) {
    server.configure(|settings| settings.extra = extra.to_owned());
}

fn lines(value: &Value) -> Vec<String> {
    let lines = value.as_array().into_iter().flatten();
    lines
        .filter_map(|line| line.as_str())
        .map(str::to_owned)
        .collect()
}

/// Method: who calls another name is served, then, by `kura reload`, not any more, then, by SIGHUP, again. A peer and a
/// rule come by the file: what is stored then goes there.
#[test]
fn what_the_file_says_now_is_in_effect_without_a_restart() {
    let mut server = Server::start();
    assert!(is_served_as(&server, "SOMEBODY"));
    write(
        &mut server,
        "accept_any_called = false\n[limits]\nidle_seconds = 700\n",
    );
    let said = server.kura_json(&["reload"]);
    assert_eq!(
        lines(&said["changed"]),
        [
            "accept_any_called: false (was the default)",
            "limits.idle_seconds: 700 (was the default)"
        ],
        "{said}"
    );
    assert_eq!(lines(&said["wants_restart"]), [""; 0], "{said}");
    assert!(!is_served_as(&server, "SOMEBODY"));
    assert!(is_served_as(&server, "KURA"));
    let said = server.kura(&["reload"]);
    assert!(
        said.stdout.contains("is in effect already"),
        "{}",
        said.text()
    );

    let sink = Sink::start();
    let rule = "[[forward.rule]]\nname = \"all\"\nto = [\"SINK\"]\nquiet_seconds = 0\n";
    server.configure(|settings| {
        settings.extra = rule.to_owned();
        settings.peers.push(("SINK".to_owned(), sink.port()));
    });
    server.signal(Signal::HUP);
    until("served by another name", || {
        is_served_as(&server, "SOMEBODY")
    });
    until("the log says the rule", || {
        server.log_text().contains("forward.rule all: new")
    });
    images::send_all(&server, &[Image::new(1, 1, 4_096)]);
    until("the image came by the new rule", || sink.count() == 1);
}

/// Method: files that are no configuration: a key that is none, a value out of range, a rule to nobody, a map that is not
/// there. Each is refused with its reason, by the verb and in the log, and nothing else of it is in effect.
#[test]
fn a_wrong_configuration_is_refused_whole_and_the_running_one_stays() {
    let mut server = Server::start();
    let off = "accept_any_called = false\n";
    for (wrong, reason) in [
        ("prot = 104\n", "line 6"),
        ("[mirror]\nwindow = \"25:00-26:00\"\n", "25:00"),
        (
            "[[forward.rule]]\nname = \"x\"\nto = [\"NOBODY\"]\n",
            "NOBODY",
        ),
        (
            "[[coerce]]\ncalling = \"CT\"\nmap = \"nothing.csv\"\n",
            "nothing.csv",
        ),
        (
            "[[retention.rule]]\nolder_than_days = 9\nwhen_free_below = \"much\"\n",
            "much",
        ),
    ] {
        write(&mut server, &format!("{off}{wrong}"));
        let refused = server.kura(&["reload"]);
        assert_eq!(refused.code, Some(3), "{wrong}: {}", refused.text());
        assert!(
            refused.stderr.contains(reason) && refused.stderr.contains("nothing was changed"),
            "{wrong}: {}",
            refused.text()
        );
        assert!(is_served_as(&server, "SOMEBODY"), "{wrong}");
    }
    let before = server.log_text().matches("nothing was changed").count();
    server.signal(Signal::HUP);
    until("the log says why", || {
        server.log_text().matches("nothing was changed").count() > before
    });
    assert!(is_served_as(&server, "SOMEBODY"));
    // A start refuses the same file.
    assert_ne!(server.terminate().code(), None);
    let start = server.kura(&["serve", "--admin-port", "off"]);
    assert_eq!(start.code, Some(3), "{}", start.text());
}

/// Method: another port and another volume beside another limit. The limit is in effect; the others are named as waiting
/// for a restart, also by the next reload; what a command wrote into the file meanwhile is no news.
#[test]
fn what_wants_a_restart_is_said_until_there_was_one() {
    let server = Server::with(Settings {
        arguments: vec!["--peer".to_owned(), "GIVEN@127.0.0.1:104".to_owned()],
        ..Settings::default()
    });
    let added = server.kura(&["peer", "add", "MAC@127.0.0.1:11112"]);
    assert!(added.success(), "{}", added.text());
    let text = fs::read_to_string(server.config()).unwrap();
    let port = format!("port = {}", server.port());
    let other = text.replacen(&port, "port = 11119", 1);
    let b = server.folder().join("b");
    let volume = format!(
        "\n[[volume]]\nname = \"B\"\npath = \"{}\"\nrole = \"mirror\"\n",
        b.display()
    );
    fs::write(
        server.config(),
        other + &volume + "\n[query]\nmatches_max = 5\n",
    )
    .unwrap();
    let said = server.kura_json(&["reload"]);
    assert_eq!(
        lines(&said["changed"]),
        ["query.matches_max: 5 (was the default)"],
        "{said}"
    );
    for _ in 0..2 {
        let said = server.kura_json(&["reload"]);
        let wants = lines(&said["wants_restart"]);
        assert_eq!(wants.len(), 2, "{said}");
        assert!(wants[0].starts_with("port: 11119 (was "), "{said}");
        assert_eq!(wants[1], "volume B: new");
    }
    let peers = server.kura(&["peer", "list"]).stdout;
    assert!(peers.contains("GIVEN") && peers.contains("MAC"), "{peers}");
}
