//! What monitoring reads: `/metrics`, `/healthz`, and what is remembered of associations that failed.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, by_uids};
use common::disks::Frozen;
use common::images::{ALL, FIND, GET, Image, send_all};
use common::shelf::{self, Shelf, wait_for};
use common::wire::{self, Client, IMPLICIT_LITTLE, STUDY_ROOT_MOVE};
use common::{Server, Settings, Sink};
use kura::control::{self, Request, Response};
use kura::metrics::Ended;

fn with_page(mut settings: Settings) -> Settings {
    settings.arguments = vec!["--admin-port".into(), "0".into()];
    settings
}

/// Status code and body of a GET to the page of the server's last start.
fn get(server: &Server, path: &str) -> (u16, String) {
    let log = server.log_text();
    let said = "the administrator's page is at http://";
    let at = log.rsplit(said).next().expect("address of the page");
    let address = at.split('/').next().expect("address").to_owned();
    let mut stream = TcpStream::connect(&address).expect("the page");
    let limit = Some(Duration::from_secs(90));
    stream.set_read_timeout(limit).expect("time limit");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let code = head.split(' ').nth(1).expect("code").parse().expect("code");
    (code, body.to_owned())
}

/// Every sample by name and labels as they are written, after its form was looked at. OpenMetrics 1.0, strictly for what
/// is used of it.
fn read(text: &str) -> BTreeMap<String, f64> {
    let (body, end) = text.rsplit_once("# EOF").expect("# EOF");
    assert_eq!(end, "\n", "nothing follows the end");
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = HashSet::new();
    let mut units: BTreeMap<String, String> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (kind, name) = (words.next().unwrap(), words.next().expect("name"));
            let says = words.next().unwrap_or_default();
            match kind {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&says), "{line}");
                    let before = types.insert(name.to_owned(), says.to_owned());
                    assert_eq!(before, None, "{name} is there twice");
                }
                "HELP" => assert!(helped.insert(name.to_owned()) && !says.is_empty(), "{line}"),
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{says}")), "{line}");
                    units.insert(name.to_owned(), says.to_owned());
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').expect(line);
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let name = key.split('{').next().unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(plain), "{line}");
        let family = types.keys().rfind(|family| match types[*family].as_str() {
            "counter" => name == format!("{family}_total"),
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name == format!("{family}{end}")),
            _ => name == *family,
        });
        let family = family.unwrap_or_else(|| panic!("no TYPE for {line}"));
        assert!(helped.contains(family), "no HELP for {line}");
        if let Some((_, labels)) = key.split_once('{') {
            let labels = labels.strip_suffix('}').expect(line);
            for label in labels.split("\",") {
                let (label, value) = label.split_once("=\"").expect(line);
                assert!(label.chars().all(plain), "{line}");
                assert!(!value.trim_end_matches('"').contains('"'), "{line}");
            }
        }
        assert!(
            samples.insert(key.to_owned(), value).is_none(),
            "{key} is there twice"
        );
    }
    for (family, kind) in &types {
        if kind == "histogram" {
            let buckets = samples.iter().filter(|(key, _)| {
                key.starts_with(&format!("{family}_bucket{{")) && key.contains("le=\"+Inf\"")
            });
            for (key, value) in buckets {
                let count = key
                    .replace("_bucket{", "_count{")
                    .replace("{le=\"+Inf\"}", "")
                    .replace("le=\"+Inf\",", "");
                assert_eq!(samples.get(&count), Some(value), "{count}");
            }
        }
    }
    samples
}

fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let (code, text) = get(server, "/metrics");
    assert_eq!(code, 200, "{text}");
    read(&text)
}

/// The same until it is so: what is asked of the archive may be a few seconds old.
fn metrics_when(
    server: &Server,
    is: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> BTreeMap<String, f64> {
    let begun = Instant::now();
    loop {
        let found = metrics(server);
        if is(&found) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{found:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn failures(server: &Server) -> Vec<Ended> {
    match control::ask(&server.state(), &Request::Failures) {
        Ok(Some(Response::Failures(failures))) => failures,
        other => panic!("{other:?}"),
    }
}

fn failure(server: &Server, reason: &str) -> Ended {
    let begun = Instant::now();
    loop {
        let all = failures(server);
        if let Some(found) = all.iter().find(|failure| failure.reason == reason) {
            assert!(found.failed && !found.end.is_empty() && !found.next.is_empty());
            return found.clone();
        }
        let patience = Duration::from_secs(90);
        assert!(begun.elapsed() < patience, "no {reason} in {all:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Method: three instances, one of them again, one moved to a peer and one got; then the samples are held against that.
#[test]
fn what_came_and_went_is_counted_in_a_form_that_prometheus_reads() {
    let sink = Sink::start();
    let settings = Settings::default().peer("SINK", sink.port());
    let server = Server::with(with_page(settings));
    let images: Vec<Image> = (0..3).map(|n| Image::new(1, n, 1_000)).collect();
    send_all(&server, &images);
    send_all(&server, &images[..1]);
    let mut client = server.associate(ALL);
    let all = by_uids("STUDY", &images[0].study, None, None);
    assert_eq!(client.c_find(FIND, &all).expect("C-FIND").status, 0);
    assert_eq!(client.c_get(GET, &all).expect("C-GET").received.len(), 3);
    client.release().expect("release");
    let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    client.c_move(1, "SINK", &all).expect("C-MOVE");
    client.release().expect("release");
    let found = metrics_when(&server, |found| {
        found["kura_index_instances"] == 3.0 && found["kura_associations_open"] == 0.0
    });
    for (name, value) in [
        ("kura_received_instances_total{outcome=\"stored\"}", 3.0),
        ("kura_received_instances_total{outcome=\"duplicate\"}", 1.0),
        ("kura_received_instances_total{outcome=\"refused\"}", 0.0),
        ("kura_store_duration_seconds_count", 4.0),
        ("kura_find_duration_seconds_count", 1.0),
        (
            "kura_suboperation_duration_seconds_count{service=\"move\"}",
            3.0,
        ),
        (
            "kura_suboperation_duration_seconds_count{service=\"get\"}",
            3.0,
        ),
        (
            "kura_sent_instances_total{peer=\"SINK\",outcome=\"stored\"}",
            3.0,
        ),
        ("kura_state{state=\"lost\"}", 0.0),
        ("kura_storing", 1.0),
        (
            "kura_volume_state{volume=\"A\",role=\"archive\",state=\"ok\"}",
            1.0,
        ),
        ("kura_index_studies", 1.0),
        ("kura_copies_instances{copies=\"none\"}", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name} in {found:#?}");
    }
    for positive in [
        "kura_received_bytes_total{outcome=\"stored\"}",
        "kura_flush_duration_seconds_count{what=\"file\"}",
        "kura_flush_duration_seconds_count{what=\"folder\"}",
        "kura_volume_free_bytes{volume=\"A\",role=\"archive\"}",
        "kura_last_stored_timestamp_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        let value = found.get(positive).copied().unwrap_or_default();
        assert!(value > 0.0, "{positive} in {found:#?}");
    }
    let (code, body) = get(&server, "/healthz");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((code, &body["storing"]), (200, &true.into()), "{body}");
    assert!(["ok", "degraded"].contains(&body["state"].as_str().expect("state")));
}

/// Method: every name in the files that an administrator copies, held against what a server with a queue and a journal
/// says.
#[test]
fn every_metric_that_the_rules_and_the_dashboard_name_exists() {
    let sink = Sink::start();
    let mut settings = Settings::default()
        .volume("M", "mirror", "mirror")
        .peer("SINK", sink.port());
    settings.extra = "[intake]\nmode = \"journal\"\nsize_bytes = 33554432\n".to_owned();
    let server = Server::with(with_page(settings));
    let image = Image::new(1, 0, 1_000);
    send_all(&server, std::slice::from_ref(&image));
    let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let all = by_uids("STUDY", &image.study, None, None);
    client.c_move(1, "SINK", &all).expect("C-MOVE");
    client.release().expect("release");
    // What was never read again has no age.
    assert!(server.kura(&["scrub", "run"]).success());
    metrics_when(&server, |found| {
        let is_read = |key: &String| key.starts_with("kura_volume_longest_unread_seconds");
        found.keys().any(is_read)
    });
    let (_, text) = get(&server, "/metrics");
    // By their names alone: a gauge of something that never happened has no sample yet.
    let families = text.lines().filter_map(|line| {
        let name = line.strip_prefix("# TYPE ")?.split(' ').next()?;
        Some(name.to_owned())
    });
    let families: BTreeSet<String> = families.collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let mut count = 0;
    for file in ["prometheus/kura-alerts.yml", "grafana/kura.json"] {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        if file.ends_with("json") {
            let _: serde_json::Value = serde_json::from_str(&text).expect(file);
        }
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let is_name = |word: &&str| word.starts_with("kura_") || word.starts_with("process_");
        for name in words.filter(is_name) {
            let ends = ["", "_total", "_bucket", "_sum", "_count"];
            let known = ends.iter().any(|end| {
                let family = name.strip_suffix(end);
                family.is_some_and(|family| families.contains(family))
            });
            // Without a run of the mirror nothing is said of it.
            let later = name.starts_with("kura_mirror_last_");
            assert!(known || later, "{file} names {name}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// Method: the only volume is taken away under the running server, and comes back.
#[test]
fn healthz_answers_503_while_nothing_can_be_stored() {
    let server = Server::with(with_page(Settings::default()));
    let until = |wanted: u16| {
        let begun = Instant::now();
        loop {
            let (code, body) = get(&server, "/healthz");
            if code == wanted {
                return body;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{code} {body}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    until(200);
    let aside = server.folder().join("aside");
    std::fs::rename(server.volume("A"), &aside).expect("rename");
    let body = until(503);
    assert!(body.contains("\"storing\":false"), "{body}");
    assert!(!body.contains("volume"), "nobody has signed in: {body}");
    std::fs::rename(&aside, server.volume("A")).expect("rename");
    until(200);
}

/// Method: one of two disks is frozen while a sender stores on it.
#[test]
fn a_disk_that_hangs_does_not_keep_a_scrape_from_its_answer() {
    let settings = with_page(shelf::settings(2, "64 kB"));
    let Some(shelf) = Shelf::ext4(settings, 64 << 20) else {
        return;
    };
    let server = &shelf.server;
    send_all(server, &[Image::new(1, 0, 1_000)]);
    metrics(server);
    let Some(mut frozen) = Frozen::new(server.volume("A")) else {
        eprintln!("skipped: a file system cannot be frozen here");
        return;
    };
    let mut client = server.associate(ALL);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| Image::new(2, 0, 1_000).send(&mut client));
        for _ in 0..5 {
            let found = metrics(server);
            assert!(found.contains_key("kura_storing"), "{found:#?}");
        }
        wait_for(server, "A", "failed");
        let failed = "kura_volume_state{volume=\"A\",role=\"archive\",state=\"failed\"}";
        metrics_when(server, |found| found.get(failed) == Some(&1.0));
        assert_eq!(get(server, "/healthz").0, 200, "volume B takes what comes");
        frozen.thaw();
        stuck.join().expect("sender").expect("C-STORE");
    });
}

/// Method: what other systems do wrong, one after the other; then a restart.
#[test]
fn what_failed_is_remembered_with_what_to_change_also_over_a_restart() {
    let mut settings = with_page(Settings::default());
    settings.extra = "accept_any_called = false\n[limits]\nassociations_per_address = 3\n".into();
    let mut server = Server::with(settings);
    let contexts: &[(u8, &str, &[&str])] = &[(1, wire::VERIFICATION, &[IMPLICIT_LITTLE])];
    let address = server.address();

    let refused = Client::associate(address, "CT1", "WRONG", contexts);
    assert!(refused.is_err());
    let found = failure(&server, "called-ae-title");
    assert_eq!(
        (found.calling.as_str(), found.called.as_str()),
        ("CT1", "WRONG")
    );
    assert!(found.end.contains("calls WRONG"), "{}", found.end);
    assert!(found.next.contains("to KURA"), "{}", found.next);

    let worklist: &[(u8, &str, &[&str])] = &[(1, "1.2.840.10008.5.1.4.31", &[IMPLICIT_LITTLE])];
    let client = Client::associate(address, "MR1", "KURA", worklist).expect("association");
    client.release().expect("release");
    let found = failure(&server, "no-context");
    assert!(found.end.contains("Modality Worklist"), "{}", found.end);

    let compressed: &[(u8, &str, &[&str])] = &[(1, STUDY_ROOT_MOVE, &["1.2.840.10008.1.2.4.90"])];
    let client = Client::associate(address, "WS1", "KURA", compressed).expect("association");
    client.release().expect("release");
    let begun = Instant::now();
    while !failures(&server)
        .iter()
        .any(|one| one.calling == "WS1" && one.end.contains("MOVE in JPEG 2000 Lossless"))
    {
        let all = failures(&server);
        assert!(begun.elapsed() < Duration::from_secs(90), "{all:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }

    for (bytes, reason) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "tls"),
        (b"GET / HTTP/1.1\r\n\r\n", "http"),
        (b"something else altogether", "not-dicom"),
    ] {
        let mut stream = TcpStream::connect(address).expect("connection");
        stream.write_all(bytes).expect("write");
        // It has been sent away.
        let _ = stream.read_to_end(&mut Vec::new());
        assert_eq!(failure(&server, reason).times, 1);
    }

    let mut client = server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
    let one = by_uids("STUDY", "2.25.1", None, None);
    client.c_move(1, "NOBODY", &one).expect("C-MOVE");
    client.release().expect("release");
    let found = failure(&server, "unknown-destination");
    assert!(found.end.contains("\"NOBODY\""), "{}", found.end);

    let ct: &[(u8, &str, &[&str])] = &[(1, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])];
    let mut client = server.associate(ct);
    let stored = client.c_store(1, CT_IMAGE_STORAGE, "2.25.7", b"not a data set");
    assert_ne!(stored.expect("answer").0, 0);
    client.release().expect("release");
    let found = failure(&server, "refused-instance");
    assert!(found.next.contains("quarantine"), "{}", found.next);

    let mut client = server.associate(ct);
    client
        .begin_store(1, CT_IMAGE_STORAGE, "2.25.8")
        .expect("command");
    drop(client);
    assert!(failure(&server, "gone").end.contains("in the middle"));

    let open: Vec<Client> = (0..3).map(|_| server.associate(contexts)).collect();
    assert!(server.try_associate(contexts).is_err());
    failure(&server, "busy");
    drop(open);

    // Somebody who looks whether the port is open is no failure.
    drop(TcpStream::connect(address).expect("connection"));
    let checked = "kura_associations_total{reason=\"port-check\"}";
    let found = metrics_when(&server, |found| found.get(checked).is_some());
    assert_eq!(found["kura_associations_total{reason=\"tls\"}"], 1.0);

    let before = failures(&server);
    assert!(server.terminate().success());
    server.restart();
    let after = failures(&server);
    assert_eq!(after.len(), before.len());
    assert_eq!(after.last(), before.last());
}
