//! The audit trail: who stored, asked for, read, moved and deleted what; and its messages at another server.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::build::{self, Tag};
use common::http::{self, ask};
use common::images::{ALL, FIND, GET, Image, images, send_all};
use common::server::free_port;
use common::syslog::{self, Collector, Message, Way, assert_valid};
use common::tools::{self, tool};
use common::wire::{self, Client};
use common::{Server, Settings, Sink};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);

fn lines(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["audit", "list", "--most", "0"];
    all.extend(arguments);
    server.kura_json(&all)["lines"].as_array().unwrap().clone()
}

fn kind(server: &Server, kind: &str) -> Vec<Value> {
    lines(server, &["--kind", kind])
}

/// Waits until there are so many lines of a kind.
fn wait_for(server: &Server, wanted: &str, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let found = kind(server, wanted);
        if found.len() >= count {
            return found;
        }
        assert!(
            begun.elapsed() < LIMIT,
            "{} of {count} lines {wanted}: {found:#?}\n{}",
            found.len(),
            server.log_text()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn verify(server: &Server, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut all = vec!["audit", "verify", "--json"];
    all.extend(arguments);
    let outcome = server.kura(&all);
    let verified = serde_json::from_str(&outcome.stdout);
    (
        outcome.code,
        verified.unwrap_or_else(|_| panic!("{}", outcome.text())),
    )
}

fn by_name(name: &str) -> Vec<u8> {
    build::ident(&[
        (Tag(0x0008, 0x0052), "CS", "STUDY"),
        (Tag(0x0010, 0x0010), "PN", name),
        (Tag(0x0010, 0x0020), "LO", ""),
        (Tag(0x0020, 0x000D), "UI", ""),
    ])
}

const MOVE: u8 = 99;

/// The usual day: two studies come, are asked for, sent to a workstation and fetched; one is looked at on the page, a
/// search is made there, somebody mistypes a password, a change is made; an association is refused.
fn a_day(server: &Server, page: SocketAddr) -> Vec<Image> {
    let images = images(2, 3);
    send_all(server, &images);
    let study = images[0].study.as_str();
    let mut contexts = ALL.to_vec();
    contexts.push((MOVE, wire::STUDY_ROOT_MOVE, &[wire::IMPLICIT_LITTLE]));
    let mut client = server.associate(&contexts);
    for _ in 0..3 {
        assert_eq!(client.c_find(FIND, &by_name("SECRET*")).unwrap().status, 0);
    }
    let wanted = build::by_uids("STUDY", study, None, None);
    assert_eq!(client.c_move(MOVE, "MAC1", &wanted).unwrap().status, 0);
    let nowhere = client.c_move(MOVE, "NOWHERE", &wanted).unwrap();
    assert_eq!(nowhere.status, 0xA801);
    assert_eq!(client.c_get(GET, &wanted).unwrap().moved.status, 0);
    client.release().unwrap();
    assert!(Client::associate(server.address(), "STRANGER", "OTHER", ALL).is_err());
    assert_eq!(http::get(page, &format!("/studies/{study}")).status, 200);
    let series = format!("/thumbnails/{study}.1");
    assert_eq!(http::get(page, &series).status, 200);
    assert_eq!(http::get(page, "/studies/found?name=SECRET").status, 200);
    let token = [("Authorization", "Bearer kura_0000")];
    assert_eq!(
        http::send(page, "GET", "/api/v1/status", &token, b"").status,
        401
    );
    let change = json!({ "do": "add-peer", "peer": "NEW@10.0.0.66:104", "associations": null, "fuzzy_names": null });
    assert_eq!(ask(page, "setup", &[], &change).status, 200);
    images
}

fn settings(sink: &Sink, extra: &str) -> Settings {
    let mut settings = http::with_page(Settings::default().peer("MAC1", sink.port()));
    settings.extra = "accept_any_called = false\n".to_owned();
    // Tables follow the keys.
    settings.environment.clear();
    settings.extra.push_str(extra);
    settings
}

/// Method: a day without anybody who collects; each thing that was done has its line, and names who, from where and what.
#[test]
fn everything_that_is_done_has_its_line() {
    let sink = Sink::start();
    let mut server = Server::with(settings(&sink, ""));
    let page = http::address_of(&server);
    let images = a_day(&server, page);
    let study = images[0].study.as_str();
    let stored = wait_for(&server, "stored", 2);
    assert_eq!(stored.len(), 2, "a line for each study: {stored:#?}");
    for line in &stored {
        assert_eq!(
            (&line["who"], &line["from"]),
            (&json!("TESTER"), &json!("127.0.0.1"))
        );
        assert_eq!(line["event"]["instances_count"], 3);
        assert_eq!(
            line["event"]["patients"].as_array().unwrap().len(),
            1,
            "{line}"
        );
    }
    let patient = stored[0]["event"]["patients"][0].as_str().unwrap();
    let moved = wait_for(&server, "moved", 1);
    assert_eq!(moved[0]["who"], "TESTER");
    assert_eq!(moved[0]["event"]["peer"], "MAC1");
    assert_eq!(moved[0]["event"]["studies"], json!([study]));
    assert_eq!(
        wait_for(&server, "got", 1)[0]["event"]["instances_count"],
        3
    );
    let queried = wait_for(&server, "queried", 2);
    let find = queried.iter().find(|line| line["who"] == "TESTER").unwrap();
    assert_eq!(find["event"]["times"], 3, "{find}");
    assert!(find["what"].as_str().unwrap().contains("PatientName"));
    assert!(!json!(queried).to_string().contains("SECRET"));
    let looked = wait_for(&server, "looked", 1);
    assert_eq!(
        looked.len(),
        1,
        "page and pictures are one line: {looked:#?}"
    );
    assert_eq!(looked[0]["who"], "this machine");
    assert_eq!(looked[0]["event"]["studies"], json!([study]));
    let refused = wait_for(&server, "refused", 2);
    assert!(
        refused.iter().any(|line| line["who"] == "STRANGER"),
        "{refused:#?}"
    );
    assert!(
        refused.iter().any(|line| line["who"] == "TESTER"),
        "{refused:#?}"
    );
    wait_for(&server, "sign-in-failed", 1);
    wait_for(&server, "started", 1);
    assert_eq!(kind(&server, "change").len(), 1);
    // By study, by patient, by who, by words.
    assert_eq!(
        lines(&server, &["--study", study, "--kind", "stored"]).len(),
        1
    );
    assert!(lines(&server, &["--patient", patient]).len() >= 2);
    assert_eq!(lines(&server, &["--who", "mac1"]).len(), 1);
    assert!(lines(&server, &["stranger"]).len() == 1);
    assert_eq!(lines(&server, &["--until", "2001-01-01"]).len(), 0);
    assert!(!lines(&server, &["--since", "2001-01-01"]).is_empty());
    wait_for(&server, "audit-read", 1);
    let screen = server.kura(&["audit", "list", "--kind", "moved"]);
    assert!(
        screen.stdout.contains("MAC1") && screen.stdout.contains(study),
        "{}",
        screen.text()
    );
    // The page shows the same, in both languages.
    for (language, words) in [("en", "sent for a C-MOVE"), ("ja", "C-MOVEで送信")] {
        let headers = [("Accept-Language", language)];
        let path = "/journal/changes?kind=moved";
        let shown = http::send(page, "GET", path, &headers, b"").text();
        assert!(shown.contains(words) && shown.contains("MAC1"), "{shown}");
    }
    server.terminate();
    assert_eq!(kind(&server, "stopped").len(), 1);
    let (code, verified) = verify(&server, &[]);
    assert_eq!(
        (code, &verified["notes"]),
        (Some(0), &json!([])),
        "{verified}"
    );
    // As messages in a file.
    let file = server.folder().join("messages.xml");
    let path = file.to_str().unwrap();
    let done = server.kura(&["audit", "export", "--to", path, "--since", "2001-01-01"]);
    assert!(done.success(), "{}", done.text());
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.lines().count() > 10 && text.contains("110104"),
        "{text}"
    );
    assert_valid(text.lines());
    assert!(
        !server.kura(&["audit", "export", "--to", path]).success(),
        "never over another file"
    );
}

/// Method: what is looked for is kept where the configuration says so.
#[test]
fn values_of_queries_are_kept_where_that_is_wanted() {
    let settings = Settings {
        extra: "[audit]\nquery_values = true\n".to_owned(),
        ..Settings::default()
    };
    let server = Server::with(settings);
    let mut client = server.associate(ALL);
    client.c_find(FIND, &by_name("SECRET*")).unwrap();
    client.release().unwrap();
    let queried = wait_for(&server, "queried", 1);
    assert!(
        queried[0]["what"]
            .as_str()
            .unwrap()
            .contains("PatientName=SECRET*")
    );
}

fn is(event: &'static str, part: &str) -> impl Fn(&Message) -> bool {
    let part = part.to_owned();
    move |message| message.event() == event && message.has(&part)
}

/// Method: a day, over each of the three ways; then each message is held against the schema of the standard.
#[test]
fn messages_reach_a_server_over_udp_tcp_and_tls() {
    let (certificate, key) = syslog::certificate();
    for (scheme, way) in [
        ("udp", Way::Udp),
        ("tcp", Way::Tcp),
        ("tls", Way::Tls(&certificate, &key)),
    ] {
        let collector = Collector::start(&way, free_port());
        let sink = Sink::start();
        let ca = tempfile::NamedTempFile::new().unwrap();
        fs::write(ca.path(), &certificate).unwrap();
        let extra = format!(
            "[audit]\nsyslog = \"{scheme}://127.0.0.1:{}\"\nsyslog_ca = {:?}\nsource_id = \"archive.test\"\nsite_id = \"1.2.3\"\n",
            collector.port,
            ca.path()
        );
        let mut server = Server::with(settings(&sink, &extra));
        let page = http::address_of(&server);
        let images = a_day(&server, page);
        let study = images[0].study.as_str();
        collector.wait_for("start of the export", is("110113", "110134"));
        collector.wait_for("start", is("110100", "110120"));
        let stored = collector.wait_for("C-STORE", |message| {
            is("110104", study)(message) && message.has("EventActionCode=\"C\"")
        });
        assert!(
            stored.has("AETITLES=TESTER") && stored.has("AETITLES=KURA"),
            "{stored:?}"
        );
        assert!(stored.has("NumberOfInstances=\"3\""), "{stored:?}");
        assert!(stored.has("AuditSourceID=\"archive.test\""), "{stored:?}");
        assert_eq!((stored.priority, stored.id.as_str()), (85, "DICOM+RFC3881"));
        collector.wait_for("C-MOVE", is("110104", "AETITLES=MAC1"));
        collector.wait_for("C-FIND", is("110112", wire::STUDY_ROOT_FIND));
        collector.wait_for("page", is("110103", study));
        let refused = collector.wait_for("refused association", is("110113", "STRANGER"));
        assert_eq!(refused.priority, 84);
        collector.wait_for("token", is("110114", "110122"));
        collector.wait_for("change", is("110113", "110131"));
        let begun = Instant::now();
        loop {
            let export = server.kura_json(&["status"])["audit"]["export"].clone();
            if export["connected"] == true && export["backlog_bytes"] == 0 {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{scheme}: {export}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let metrics = http::get(page, "/metrics").text();
        assert!(metrics.contains("kura_audit_export_up 1"), "{metrics}");
        server.terminate();
        collector.wait_for("stop", is("110100", "110121"));
        let messages = collector.messages();
        assert_valid(messages.iter().map(|message| message.text.as_str()));
    }
}

fn studies_in(messages: &[Message], images: &[Image]) -> usize {
    let mut studies: Vec<&str> = images.iter().map(|image| image.study.as_str()).collect();
    studies.dedup();
    let has = |study: &&str| {
        let id = format!("ParticipantObjectID=\"{study}\"");
        messages.iter().any(|message| is("110104", &id)(message))
    };
    studies.iter().filter(|study| has(study)).count()
}

/// Method: nobody listens at first; then somebody does, goes away in between, and comes back on the same port. The server
/// is restarted, too. Every study arrives; what had settled does not come again.
#[test]
fn after_an_outage_messages_go_on_from_where_they_were() {
    let port = free_port();
    let settings = Settings {
        extra: format!("[audit]\nsyslog = \"tcp://127.0.0.1:{port}\"\n"),
        ..Settings::default()
    };
    let mut server = Server::with(settings);
    let all = images(30, 1);
    send_all(&server, &all[..10]);
    let begun = Instant::now();
    loop {
        let export = server.kura_json(&["status"])["audit"]["export"].clone();
        if export["failing_since"].is_string() && export["backlog_bytes"].as_u64() > Some(2_000) {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{export}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let wait = |collector: &Collector, images: &[Image]| {
        let begun = Instant::now();
        while studies_in(&collector.messages(), images) < images.len() {
            assert!(begun.elapsed() < LIMIT, "{:#?}", collector.messages());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let collector = Collector::start(&Way::Tcp, port);
    wait(&collector, &all[..10]);
    // Until it counts as sent.
    let begun = Instant::now();
    while server.kura_json(&["status"])["audit"]["export"]["backlog_bytes"] != 0 {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(collector);
    send_all(&server, &all[10..20]);
    server.terminate();
    server.restart();
    send_all(&server, &all[20..]);
    let collector = Collector::start(&Way::Tcp, port);
    wait(&collector, &all[10..]);
    let messages = collector.messages();
    assert_eq!(
        studies_in(&messages, &all[..10]),
        0,
        "sent twice: {messages:#?}"
    );
    // The whole of what was sent counts, also over an orderly end.
    server.terminate();
    drop(collector);
    let collector = Collector::start(&Way::Tcp, port);
    server.restart();
    collector.wait_for("start", is("110100", "110120"));
    let again = collector.messages();
    assert_eq!(studies_in(&again, &all), 0, "sent twice: {again:#?}");
}

/// Method: kill -9 while studies come, several times; the chain is whole each time, and goes on.
#[test]
fn a_crash_leaves_the_chain_whole() {
    let mut server = Server::start();
    let all = images(40, 1);
    for (round, some) in all.chunks(10).enumerate() {
        send_all(&server, some);
        // Some lines are written, and some are not.
        std::thread::sleep(Duration::from_millis(150 * round as u64));
        server.kill();
        let (code, verified) = verify(&server, &[]);
        assert_eq!(
            (code, &verified["faults"]),
            (Some(0), &json!([])),
            "{verified}"
        );
        server.restart();
    }
    let last = Image::new(99, 1, 1_000);
    send_all(&server, std::slice::from_ref(&last));
    let begun = Instant::now();
    while lines(&server, &["--study", &last.study, "--kind", "stored"]).is_empty() {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(100));
    }
    let (code, verified) = verify(&server, &[]);
    assert_eq!(
        (code, &verified["faults"]),
        (Some(0), &json!([])),
        "{verified}"
    );
}

fn month(server: &Server) -> PathBuf {
    let folder = fs::read_dir(server.state().join("audit")).unwrap();
    let mut files = folder.map(|entry| entry.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .expect("a month")
}

/// Method: a number in a line of a transfer changed; the end cut off, which only a digest that was written down tells.
#[test]
fn a_forged_transfer_and_a_missing_end_are_found() {
    let mut server = Server::start();
    send_all(&server, &images(3, 2));
    wait_for(&server, "stored", 3);
    server.terminate();
    let path = month(&server);
    let good = fs::read_to_string(&path).unwrap();
    let (code, verified) = verify(&server, &[]);
    let last = verified["last_digest"].as_str().unwrap().to_owned();
    assert_eq!(code, Some(0));
    let (code, verified) = verify(&server, &["--digest", &last]);
    assert_eq!((code, &verified["digest_found"]), (Some(0), &json!(true)));
    assert_eq!(verify(&server, &["--digest", &"0".repeat(64)]).0, Some(1));
    assert!(
        !server
            .kura(&["audit", "verify", "--digest", "abc"])
            .success()
    );
    let forged = good.replacen("\"instances_count\":2", "\"instances_count\":1", 1);
    assert_ne!(forged, good);
    fs::write(&path, forged).unwrap();
    assert_eq!(verify(&server, &[]).0, Some(1));
    let lines: Vec<&str> = good.lines().collect();
    fs::write(&path, format!("{}\n", lines[..lines.len() - 1].join("\n"))).unwrap();
    assert_eq!(verify(&server, &[]).0, Some(0));
    let (code, verified) = verify(&server, &["--digest", &last]);
    assert_eq!(
        (code, &verified["digest_found"]),
        (Some(1), &json!(false)),
        "{verified}"
    );
}

/// Method: a file of long ago, written by the program itself; the rule removes it, the audit says so, and a digest from
/// its end is still known.
#[test]
fn old_lines_go_by_rule_and_the_audit_says_so() {
    let mut server = Server::start();
    server.terminate();
    let (_, verified) = verify(&server, &[]);
    let last = verified["last_digest"].as_str().unwrap().to_owned();
    let path = month(&server);
    let old = path.with_file_name("2001-02.jsonl");
    fs::rename(&path, &old).unwrap();
    server.restart();
    wait_for(&server, "started", 2);
    assert!(old.exists(), "for ever, where nothing else is said");
    server.terminate();
    server.configure(|settings| settings.extra = "[audit]\nkeep_days = 31\n".to_owned());
    server.restart();
    let cut = wait_for(&server, "audit-cut", 1);
    assert_eq!(
        (&cut[0]["who"], &cut[0]["event"]["digest"]),
        (&json!("kura"), &json!(last))
    );
    let begun = Instant::now();
    while old.exists() {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, verified) = verify(&server, &["--digest", &last]);
    assert_eq!(
        (code, &verified["digest_found"]),
        (Some(0), &json!(true)),
        "{verified}"
    );
    let note = verified["notes"][0].as_str().unwrap();
    assert!(note.contains("cut off by rule"), "{verified}");
}

/// Method: something stands in the way of the audit; images come all the same, status and log say it, and when it is gone
/// the lines are written after all.
#[test]
fn an_audit_that_cannot_be_written_keeps_nobody_from_sending() {
    let mut server = Server::start();
    server.terminate();
    let folder = server.state().join("audit");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"in the way").unwrap();
    server.restart();
    let all = images(3, 2);
    send_all(&server, &all);
    common::images::assert_found(&server, &all);
    let begun = Instant::now();
    loop {
        let status = server.kura_json(&["status"]);
        let said = status["actions"].to_string();
        if status["audit"]["failure"] != "" && said.contains("the audit cannot be written") {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(server.log_text().contains("the audit cannot be written"));
    fs::remove_file(&folder).unwrap();
    wait_for(&server, "stored", 3);
    assert_eq!(verify(&server, &[]).0, Some(0));
}

/// Method: the same day with programs that others wrote (DCMTK).
#[test]
fn what_other_programs_do_is_noted() {
    let all = ["storescu", "findscu", "movescu", "getscu"].map(tool);
    let [Some(storescu), Some(findscu), Some(movescu), Some(getscu)] = all else {
        return;
    };
    let sink = Sink::start();
    let server = Server::with(Settings::default().peer("MAC1", sink.port()));
    let port = server.port().to_string();
    let node = |name: &str| {
        let parts = ["-aet", name, "-aec", "KURA", "127.0.0.1", &port];
        parts.map(str::to_owned).to_vec()
    };
    let sample = common::files::below(&common::files::testdata());
    let mut sample = sample
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "dcm"));
    let sample = sample.next().expect("a file in testdata");
    let folder = tempfile::TempDir::new().unwrap();
    let run = |program: &PathBuf, name: &str, more: &[&str]| {
        let mut command = Command::new(program);
        command
            .current_dir(folder.path())
            .args(node(name))
            .args(more);
        let outcome = tools::run(&mut command);
        assert!(outcome.success(), "{command:?}: {}", outcome.text());
    };
    run(&storescu, "DCMTK1", &["-R", sample.to_str().unwrap()]);
    let stored = wait_for(&server, "stored", 1);
    assert_eq!(stored[0]["who"], "DCMTK1");
    let study = stored[0]["event"]["studies"][0].as_str().unwrap();
    let key = format!("StudyInstanceUID={study}");
    let keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", &key];
    run(&findscu, "DCMTK2", &keys);
    let queried = wait_for(&server, "queried", 1);
    assert_eq!(
        (&queried[0]["who"], &queried[0]["event"]["studies"]),
        (&json!("DCMTK2"), &json!([study]))
    );
    run(&movescu, "DCMTK3", &[&keys[..], &["-aem", "MAC1"]].concat());
    assert_eq!(wait_for(&server, "moved", 1)[0]["who"], "DCMTK3");
    run(&getscu, "DCMTK4", &keys);
    assert_eq!(wait_for(&server, "got", 1)[0]["who"], "DCMTK4");
}

/// Method: removed, and the trash emptied: who did that, and that the server then deleted the files.
#[test]
fn a_deletion_is_noted_twice_when_it_is_asked_for_and_when_it_happens() {
    let server = Server::start();
    let all = images(1, 2);
    send_all(&server, &all);
    let study = all[0].study.as_str();
    let why = ["--reason", "by mistake", "--yes"];
    let removed = server.kura(&[&["remove", "--study", study], &why[..]].concat());
    assert!(removed.success(), "{}", removed.text());
    let lines = wait_for(&server, "removed", 1);
    assert_eq!(lines[0]["event"]["studies"], json!([study]));
    let emptied = server.kura(&[&["trash", "empty", "--all"], &why[..]].concat());
    assert!(emptied.success(), "{}", emptied.text());
    let deleted = wait_for(&server, "deleted", 1);
    assert_eq!(
        (&deleted[0]["who"], &deleted[0]["from"]),
        (&json!("kura"), &json!("this server"))
    );
    assert_eq!(deleted[0]["event"]["studies"], json!([study]));
    assert_eq!(deleted[0]["event"]["instances_count"], 2);
}

/// Method: a server whose certificate somebody else signed. It gets nothing; the status says why.
#[test]
fn a_server_that_is_another_gets_no_messages() {
    let (certificate, key) = syslog::certificate();
    let (other, _) = syslog::certificate();
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), &other).unwrap();
    let collector = Collector::start(&Way::Tls(&certificate, &key), free_port());
    let settings = Settings {
        extra: format!(
            "[audit]\nsyslog = \"tls://127.0.0.1:{}\"\nsyslog_ca = {:?}\n",
            collector.port,
            ca.path()
        ),
        ..Settings::default()
    };
    let server = Server::with(settings);
    let begun = Instant::now();
    loop {
        let export = server.kura_json(&["status"])["audit"]["export"].clone();
        let failure = export["failure"].as_str().unwrap_or_default();
        if failure.contains("no TLS") && failure.contains("certificate") {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{export}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(collector.messages(), []);
}
