//! `kura journal`: what came and went, as an operator asks for it.

mod common;

use common::images::{ALL, images, send_all};
use common::{Server, Settings};
use serde_json::Value;

fn lines(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["journal"];
    all.extend(arguments);
    let answer = server.kura_json(&all);
    assert_eq!(answer["version"], 1);
    answer["transfers"].as_array().unwrap().clone()
}

#[test]
fn a_study_that_came_is_one_line_at_the_end_of_its_association() {
    let mut server = Server::start();
    let images = images(2, 3);
    send_all(&server, &images);
    let noted = lines(&server, &["--direction", "stored"]);
    assert_eq!(noted.len(), 2, "{noted:?}");
    for line in &noted {
        assert_eq!(line["peer"], "TESTER");
        assert_eq!(line["address"], "127.0.0.1");
        assert_eq!(
            (&line["instances_count"], &line["status"]),
            (&3.into(), &0.into())
        );
    }
    let study = images[0].study.as_str();
    assert_eq!(lines(&server, &["--study", study]).len(), 1);
    assert_eq!(
        lines(&server, &["--peer", "tester", "--since", "1h"]).len(),
        2
    );
    assert!(lines(&server, &["--failed"]).is_empty());
    let screen = server.kura(&["journal", study, "--limit", "1"]);
    assert!(screen.success(), "{}", screen.text());
    assert!(screen.stdout.contains("stored"), "{}", screen.text());
    assert_eq!(screen.stdout.lines().count(), 2, "{}", screen.text());
    // The same from the files, when nobody runs.
    server.terminate();
    assert_eq!(lines(&server, &["--direction", "stored"]), noted);
}

/// Method: a data set without UIDs is refused, on an association that stays open: its line comes all the same.
#[test]
fn what_was_refused_is_counted_with_its_status_and_words() {
    let server = Server::start();
    let mut client = server.associate(ALL);
    let image = &images(1, 1)[0];
    assert_eq!(image.send(&mut client).unwrap().0, 0);
    let mut broken = image.clone();
    broken.sop = "2.25.1".to_owned();
    assert_eq!(broken.send(&mut client).unwrap().0, 0xA900);
    client.release().unwrap();
    let noted = lines(&server, &["--failed"]);
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(noted[0]["instances_count"], 1);
    assert_eq!(noted[0]["failed_count"], 1);
    assert_eq!(noted[0]["status"], 0xA900);
    let reason = noted[0]["reason"].as_str().unwrap();
    assert!(reason.contains("not the command's"), "{reason}");
}

/// Method: `journal` in the state folder is a file, so that nothing can be written there.
#[test]
fn a_journal_that_cannot_be_written_keeps_nobody_from_sending() {
    let mut server = Server::with(Settings::default());
    server.terminate();
    std::fs::write(server.state().join("journal"), "in the way").unwrap();
    server.restart();
    let images = images(2, 2);
    send_all(&server, &images);
    common::images::assert_found(&server, &images);
    server.terminate();
    let log = server.log_text();
    let said = log
        .matches("journal of transfers cannot be written")
        .count();
    assert_eq!(said, 1, "{log}");
}
