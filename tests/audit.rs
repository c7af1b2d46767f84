//! Every change that somebody asks for leaves a line, whichever way it was asked; and a line that is changed afterwards is
//! found out.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::http::{self, ask, server};
use common::{Server, Settings};
use serde_json::{Value, json};

/// What somebody asked to be changed; the server's start and its like are not.
fn changes(server: &Server) -> Vec<Value> {
    let shown = server.kura_json(&["audit", "list", "--most", "0", "--kind", "change"]);
    shown["lines"].as_array().unwrap().clone()
}

fn file(server: &Server) -> PathBuf {
    let folder = fs::read_dir(server.state().join("audit")).unwrap();
    let mut files = folder.map(|entry| entry.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .expect("a month")
}

fn verify(server: &Server) -> (Option<i32>, Value) {
    let outcome = server.kura(&["audit", "verify", "--json"]);
    (outcome.code, serde_json::from_str(&outcome.stdout).unwrap())
}

fn add(name: &str) -> Value {
    json!({ "do": "add-peer", "peer": format!("{name}@10.0.0.66:104"), "associations": null, "fuzzy_names": null })
}

/// Method: the same change over the API, by the command line while a server runs, and without one; one that is refused;
/// and much that only looks.
#[test]
fn every_change_leaves_a_line_and_looking_leaves_none() {
    let (mut server, address) = server(Settings::default());
    assert_eq!(ask(address, "setup", &[], &add("OVERHTTP")).status, 200);
    assert!(
        server
            .kura(&["peer", "add", "BYSOCKET@10.0.0.66:104"])
            .success()
    );
    // What is refused was asked for, too.
    let answer = ask(
        address,
        "setup",
        &[],
        &json!({ "do": "remove-peer", "ae_title": "NOBODY" }),
    );
    assert_eq!(answer.status, 422, "{}", answer.text());
    for looked in [
        vec!["status"],
        vec!["peer", "list"],
        vec!["forward", "list"],
        vec!["changes", "list"],
        vec!["trash", "list"],
        vec!["conflicts", "show"],
        vec!["mirror"],
        vec!["stats"],
    ] {
        server.kura(&looked);
    }
    http::get(address, "/");
    server.terminate();
    assert!(
        server
            .kura(&["peer", "add", "NOSERVER@10.0.0.66:104"])
            .success()
    );
    server.kura(&["forward", "pause", "OVERHTTP"]);
    let all = changes(&server);
    // The newest first.
    let whats: Vec<&str> = all
        .iter()
        .map(|change| change["what"].as_str().unwrap())
        .collect();
    assert_eq!(whats.len(), 5, "{whats:#?}");
    for (what, word) in whats
        .iter()
        .zip(["pause", "NOSERVER", "NOBODY", "BYSOCKET", "OVERHTTP"])
    {
        assert!(what.contains(word), "{whats:#?}");
    }
    let own = format!("user {}", rustix::process::getuid().as_raw());
    assert_eq!(all[4]["from"], "127.0.0.1");
    assert_eq!(
        (&all[3]["from"], &all[3]["who"]),
        (&json!("command line"), &json!(own))
    );
    assert_eq!(all[1]["who"], json!(own));
    assert_ne!(all[2]["outcome"], "done");
    assert_eq!(verify(&server).0, Some(0));
    let some = server.kura_json(&["audit", "list", "bysocket"]);
    assert_eq!(some["lines"].as_array().unwrap().len(), 1);
}

/// Method: many at once, by both ways; each has its line, and all of them one after the other.
#[test]
fn lines_that_are_written_at_the_same_moment_follow_each_other() {
    let (server, address) = server(Settings::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..5 {
                    let verb = add(&format!("P{thread}{number}"));
                    assert_eq!(ask(address, "setup", &[], &verb).status, 200);
                }
            });
        }
        for number in 0..3 {
            let server = &server;
            scope.spawn(move || {
                let name = format!("T{number}");
                assert!(server.kura(&["admin", "token", "add", &name]).success());
            });
        }
    });
    let made = server.kura_json(&["audit", "list", "--most", "0", "--kind", "account"]);
    assert_eq!(changes(&server).len(), 20);
    assert_eq!(made["lines"].as_array().unwrap().len(), 3, "{made}");
    let (code, verified) = verify(&server);
    assert_eq!((code, &verified["faults"]), (Some(0), &json!([])));
}

/// Method: lines changed, taken out, put in, exchanged, made anew; the end cut off within a line as a crash leaves it.
#[test]
fn what_was_tampered_with_is_found() {
    let mut server = Server::start();
    server.terminate();
    // Of changes alone: without a server, nothing else is noted.
    fs::remove_dir_all(server.state().join("audit")).unwrap();
    for name in ["ONE", "TWO", "THREE", "FOUR"] {
        assert!(
            server
                .kura(&["peer", "add", &format!("{name}@10.0.0.66:104")])
                .success()
        );
    }
    let path = file(&server);
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let (code, verified) = verify(&server);
    assert_eq!((code, lines.len()), (Some(0), 4));
    let last = verified["last_digest"].as_str().unwrap().to_owned();
    assert!(lines[3].contains(&last));
    let other = lines[1].replace("TWO", "TWU");
    let exchanged = [lines[0], lines[2], lines[1], lines[3]].join("\n");
    for (what, text) in [
        ("a word", [lines[0], &other, lines[2], lines[3]].join("\n")),
        (
            "the last",
            [
                lines[0],
                lines[1],
                lines[2],
                &lines[3].replace("FOUR", "FOUL"),
            ]
            .join("\n"),
        ),
        ("one out", [lines[0], lines[2], lines[3]].join("\n")),
        (
            "one twice",
            [lines[0], lines[1], lines[1], lines[2], lines[3]].join("\n"),
        ),
        ("exchanged", exchanged),
        ("one emptied", [lines[0], "", lines[2], lines[3]].join("\n")),
    ] {
        fs::write(&path, format!("{text}\n")).unwrap();
        let (code, verified) = verify(&server);
        assert_eq!(code, Some(1), "{what}: {verified}");
        let screen = server.kura(&["audit", "verify"]).stdout;
        assert!(
            screen.contains("not as they were written"),
            "{what}: {screen}"
        );
    }
    // A power cut in the middle of a line is told, and is not a fault; the next line stands alone.
    let cut = &good[..good.len() - 40];
    fs::write(&path, cut).unwrap();
    let (code, verified) = verify(&server);
    assert_eq!(
        (code, verified["notes"].as_array().unwrap().len()),
        (Some(0), 1),
        "{verified}"
    );
    assert_ne!(
        verified["last_digest"],
        json!(last),
        "what is missing at the end is seen by it"
    );
    assert!(
        server
            .kura(&["peer", "add", "FIVE@10.0.0.66:104"])
            .success()
    );
    let (code, verified) = verify(&server);
    assert_eq!(
        (code, &verified["lines_count"]),
        (Some(0), &json!(5)),
        "{verified}"
    );
    assert!(
        changes(&server)[0]["what"]
            .as_str()
            .unwrap()
            .contains("FIVE")
    );
    // Rubbish, and much of it.
    fs::write(&path, vec![0xff; 3 << 20]).unwrap();
    assert!(server.kura(&["audit", "verify"]).code.is_some());
    assert!(server.kura(&["audit", "list"]).success());
}

/// Method: a month that is over, its file written as the program writes; the next month follows it.
#[test]
fn a_month_follows_the_month_before() {
    let mut server = Server::start();
    assert!(server.kura(&["peer", "add", "ONE@10.0.0.66:104"]).success());
    let path = file(&server);
    let old = path.with_file_name("2001-02.jsonl");
    fs::rename(&path, &old).unwrap();
    assert!(server.kura(&["peer", "add", "TWO@10.0.0.66:104"]).success());
    assert!(path.exists());
    assert_eq!(verify(&server).0, Some(0));
    assert_eq!(changes(&server).len(), 2);
    let kept = fs::read(&old).unwrap();
    fs::remove_file(&old).unwrap();
    let (code, verified) = verify(&server);
    // It may have been put away; it is told.
    assert_eq!(
        (code, verified["notes"].as_array().unwrap().len()),
        (Some(0), 1),
        "{verified}"
    );
    fs::write(&old, kept).unwrap();
    assert_eq!(verify(&server).0, Some(0));
    server.terminate();
}

/// Method: the folder cannot be written; what is asked for is done, and the log says that the line is missing.
#[test]
fn a_change_is_made_and_said_in_the_log_where_no_line_can_be_written() {
    let (server, address) = server(Settings::default());
    let folder = server.state().join("audit");
    let begun = Instant::now();
    // The server itself may just be writing there.
    while fs::write(&folder, b"a file stands in the way").is_err() {
        drop(fs::rename(&folder, folder.with_extension("aside")));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(ask(address, "setup", &[], &add("ONE")).status, 200);
    let begun = Instant::now();
    while !server.log_text().contains("cannot be written to the audit") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            server.log_text()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
