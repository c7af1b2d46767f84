//! Promise: peers and rules by command are in effect at once, and after a restart, in a file that keeps its comments; what is
//! sent by rule and by hand is seen, held back, let go and decided by the verbs, and the screens say what to do.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, Ct, by_uids};
use common::images::{self, Image};
use common::server::free_port;
use common::wire::{IMPLICIT_LITTLE, STUDY_ROOT_MOVE};
use common::{Server, Settings, Sink, elements};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

/// Quick tries, no peer and no rule.
fn server() -> Server {
    Server::with(Settings {
        extra: "# ours\n[forward] # quick\nretry_seconds = 1\nretry_max_seconds = 2\nprobe_seconds = 1\n"
            .to_owned(),
        ..Settings::default()
    })
}

/// A verb that must succeed; what it prints.
fn does(server: &Server, arguments: &[&str]) -> String {
    let outcome = server.kura(arguments);
    assert!(outcome.success(), "{arguments:?}: {}", outcome.text());
    outcome.stdout
}

/// A verb that must not; what it says.
fn refuses(server: &Server, arguments: &[&str]) -> String {
    let outcome = server.kura(arguments);
    assert_eq!(outcome.code, Some(3), "{arguments:?}: {}", outcome.text());
    outcome.stderr
}

fn add_sink(server: &Server, sink: &Sink) {
    let address = format!("SINK@127.0.0.1:{}", sink.port());
    does(server, &["peer", "add", &address, "--associations", "3"]);
}

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The one item of a study.
fn item(server: &Server, study: &str) -> Value {
    server.kura_json(&["forward", "show", study])["items"][0].clone()
}

fn wait_for_state(server: &Server, study: &str, state: &str) -> Value {
    until(&format!("{study} is {state}"), || {
        item(server, study)["state"] == state
    });
    item(server, study)
}

fn patient_ids(sink: &Sink) -> Vec<String> {
    let received = sink.take().into_iter();
    let id = |data_set: &[u8]| {
        let values = elements::elements(data_set);
        elements::find(&values, 0x0010, 0x0020).unwrap_or_default()
    };
    received.map(|received| id(&received.data_set)).collect()
}

/// Method: a server without any; peer and rule by command while it runs; an image goes by the rule and another by C-MOVE,
/// before and after a restart. The rule is taken away and another comes: what came in between goes by neither.
#[test]
fn peers_and_rules_are_in_effect_at_once_and_after_a_restart() {
    let mut server = server();
    let sink = Sink::start();
    add_sink(&server, &sink);
    let rule = [
        "forward",
        "add-rule",
        "all",
        "--to",
        "sink",
        "--calling",
        "TEST*",
        "--quiet-seconds",
        "1",
    ];
    does(&server, &rule);
    let text = fs::read_to_string(server.config()).unwrap();
    assert!(text.contains("# ours\n[forward] # quick"), "{text}");
    let peers = server.kura_json(&["peer", "list"]);
    assert_eq!(peers["peers"][0]["ae_title"], "SINK", "{peers}");
    assert_eq!(peers["peers"][0]["associations"], 3, "{peers}");
    assert_eq!(peers["peers"][0]["rules"][0], "all", "{peers}");
    let rules = does(&server, &["forward", "rules"]);
    assert!(
        rules.contains("calling TEST*") && rules.contains("1 s after"),
        "{rules}"
    );
    for number in [1, 2] {
        let image = Image::new(number, 1, 1_000);
        images::send_all(&server, std::slice::from_ref(&image));
        sink.wait_for(1, PATIENCE);
        assert_eq!(sink.take()[0].sop_instance, image.sop);
        let contexts: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])];
        let mut client = server.associate(contexts);
        let by_study = by_uids("STUDY", &image.study, None, None);
        let moved = client.c_move(1, "SINK", &by_study).expect("C-MOVE");
        assert_eq!(moved.status, 0);
        client.release().unwrap();
        sink.wait_for(1, PATIENCE);
        sink.take();
        server.terminate();
        server.restart();
    }
    assert!(refuses(&server, &["peer", "remove", "SINK"]).contains("remove-rule all"));
    does(&server, &["forward", "remove-rule", "ALL"]);
    images::send_all(&server, &[Image::new(3, 1, 1_000)]);
    does(&server, &rule);
    let last = Image::new(4, 1, 1_000);
    images::send_all(&server, std::slice::from_ref(&last));
    sink.wait_for(1, PATIENCE);
    let sops: Vec<String> = sink.take().into_iter().map(|r| r.sop_instance).collect();
    assert_eq!(sops, [last.sop]);
    does(&server, &["forward", "remove-rule", "all"]);
    does(&server, &["peer", "remove", "sink "]);
    assert!(does(&server, &["peer", "list"]).contains("kura peer add"));
}

/// Method: verbs that make no configuration; the file stays as it was, byte for byte, with and without a server.
#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    let mut server = server();
    does(&server, &["peer", "add", "MAC@mac.local:11112"]);
    let before = fs::read(server.config()).unwrap();
    for running in [true, false] {
        for (arguments, reason) in [
            (
                &["forward", "add-rule", "r", "--to", "NOBODY"][..],
                "NOBODY is not a [[peer]]",
            ),
            (
                &["forward", "add-rule", "a b", "--to", "MAC"],
                "letters, digits",
            ),
            (
                &[
                    "forward",
                    "add-rule",
                    "r",
                    "--to",
                    "MAC",
                    "--study-date",
                    "2026",
                ],
                "not a day",
            ),
            (
                &["forward", "add-rule", "r", "--to", "MAC", "--map", "no.csv"],
                "no.csv",
            ),
            (
                &["forward", "add-rule", "r", "--to", "MAC", "--pad", "65"],
                "at most 64",
            ),
            (&["forward", "remove-rule", "r"], "there is no rule r"),
            (&["peer", "add", "MAC2:104"], "expected AE@HOST:PORT"),
            (
                &["peer", "add", "MAC2@h:104", "--associations", "17"],
                "1 to 16",
            ),
            (&["peer", "remove", "MAC2"], "there is no peer MAC2"),
        ] {
            let said = refuses(&server, arguments);
            assert!(said.contains(reason), "{arguments:?}: {said}");
        }
        assert!(fs::read(server.config()).unwrap() == before, "{running}");
        if running {
            server.terminate();
        }
    }
    let said = does(&server, &["peer", "add", "MAC@mac.local:4242"]);
    assert!(said.contains("the next start reads it"), "{said}");
    let nowhere = tempfile::tempdir().unwrap();
    let mut alone = std::process::Command::new(env!("CARGO_BIN_EXE_kura"));
    let outcome = common::tools::run(
        alone
            .args(["peer", "add", "MAC@mac.local:4242"])
            .current_dir(nowhere.path()),
    );
    assert!(outcome.stderr.contains("kura init"), "{}", outcome.text());
}

/// Method: a study of two images; held back by a pause, sent, sent again, marked; each state as the verbs and screens have it.
#[test]
fn a_study_by_hand_is_held_back_sent_and_sent_again() {
    let server = server();
    let sink = Sink::start();
    add_sink(&server, &sink);
    let study = images::images(1, 2);
    images::send_all(&server, &study);
    let uid = study[0].study.as_str();
    assert!(refuses(&server, &["forward", "show", uid]).contains("kura send"));
    does(&server, &["forward", "pause", "SINK"]);
    does(&server, &["send", uid, "--to", "SINK"]);
    assert_eq!(wait_for_state(&server, uid, "waiting")["total_count"], 2);
    let status = server.kura(&["status"]);
    assert_eq!(status.code, Some(0), "{}", status.text());
    let line = "forward SINK paused: 1 waiting";
    assert!(status.stdout.contains(line), "{}", status.text());
    assert_eq!(server.kura_json(&["status"])["forward"][0]["paused"], true);
    does(&server, &["forward", "resume", "SINK"]);
    let sent = wait_for_state(&server, uid, "sent");
    assert_eq!(
        (&sent["sent_count"], &sent["total_count"]),
        (&2.into(), &2.into())
    );
    assert_eq!(sink.take().len(), 2);
    let screen = does(&server, &["forward", "show", uid]);
    assert!(
        screen.starts_with("forward sent to 1 of 1 peers"),
        "{screen}"
    );
    assert!(screen.contains("2 of 2"), "{screen}");
    until("what it holds was asked too", || {
        does(&server, &["forward", "list"]).starts_with("forward nothing waits")
    });
    assert!(does(&server, &["forward", "list", "--all"]).contains(uid));
    does(&server, &["forward", "unmark", uid]);
    sink.wait_for(2, PATIENCE);
    for (arguments, reason) in [
        (
            &["send", "2.25.404", "--to", "SINK"][..],
            "there is no study 2.25.404",
        ),
        (&["send", uid, "--to", "NOBODY"], "kura peer add NOBODY"),
        (
            &["send", uid, "--to", "SINK@127.0.0.1:1"],
            "kura peer add SINK@127.0.0.1:1",
        ),
        (
            &["send", uid, "kura.toml", "--to", "SINK"],
            "not both at once",
        ),
    ] {
        let said = refuses(&server, arguments);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

/// Method: a receiver that is full, then has room; one that is not there.
#[test]
fn what_failed_says_why_and_goes_when_the_reason_is_gone() {
    let server = server();
    let sink = Sink::start();
    add_sink(&server, &sink);
    does(
        &server,
        &["peer", "add", &format!("AWAY@127.0.0.1:{}", free_port())],
    );
    let image = Image::new(1, 1, 1_000);
    images::send_all(&server, std::slice::from_ref(&image));
    sink.answer(0xA700);
    does(&server, &["send", &image.study, "--to", "SINK"]);
    assert_eq!(
        wait_for_state(&server, &image.study, "failed")["status"],
        0xA700
    );
    let list = server.kura(&["forward", "list"]);
    assert_eq!(list.code, Some(1), "{}", list.text());
    assert!(
        list.stdout.contains("A700H out of resources"),
        "{}",
        list.text()
    );
    sink.answer(0);
    does(&server, &["forward", "retry", &image.study]);
    wait_for_state(&server, &image.study, "sent");
    does(&server, &["send", &image.study, "--to", "AWAY"]);
    until("status says who is not reached", || {
        let status = server.kura(&["status"]).stdout;
        status.contains("forward AWAY not reached since") && status.contains("kura doctor AWAY")
    });
    // A night without that workstation is no reason to wake anybody.
    assert_eq!(server.kura(&["status"]).code, Some(0));
}

/// Method: two patients, of whom the map names one; a line is added. Then a rule is taken away while its study waits.
#[test]
fn another_patient_id_goes_out_or_nothing() {
    let server = server();
    let sink = Sink::start();
    add_sink(&server, &sink);
    let map = server.folder().join("ids.csv");
    fs::write(&map, "4711,A 1\n").unwrap();
    does(
        &server,
        &[
            "forward",
            "add-rule",
            "research",
            "--to",
            "SINK",
            "--quiet-seconds",
            "1",
            "--map",
            "ids.csv",
            "--prefix",
            "R-",
        ],
    );
    let store = |number: u32, patient_id: &str| {
        let (study, sop) = (
            format!("2.25.6161.{number}"),
            format!("2.25.6161.{number}.1.1"),
        );
        let data_set = Ct {
            patient_id,
            ..Ct::new(&study, &format!("{study}.1"), &sop)
        }
        .encode();
        let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])]);
        let stored = client.c_store(1, CT_IMAGE_STORAGE, &sop, &data_set);
        assert_eq!(stored.expect("C-STORE").0, 0);
        client.release().unwrap();
        study
    };
    let (known, unknown) = (store(1, "4711"), store(2, "9"));
    wait_for_state(&server, &known, "sent");
    assert_eq!(patient_ids(&sink), ["R-A 1"]);
    let failed = wait_for_state(&server, &unknown, "failed");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("map of rule research"), "{reason}");
    fs::write(&map, "4711,A 1\n9,A 2\n").unwrap();
    does(&server, &["forward", "retry"]);
    wait_for_state(&server, &unknown, "sent");
    assert_eq!(patient_ids(&sink), ["R-A 2"]);
    does(&server, &["forward", "pause", "SINK"]);
    let waits = store(3, "4711");
    until("it is noted", || {
        server.kura(&["forward", "show", &waits]).success()
    });
    does(&server, &["forward", "remove-rule", "research"]);
    does(&server, &["forward", "resume", "SINK"]);
    let failed = wait_for_state(&server, &waits, "failed");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("rule research does not send"), "{reason}");
    assert_eq!(sink.count(), 0, "as it is stored it is another's");
    does(&server, &["send", &waits, "--to", "SINK"]);
    wait_for_state(&server, &waits, "sent");
    assert_eq!(patient_ids(&sink), ["4711"]);
}
