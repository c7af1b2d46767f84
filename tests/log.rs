//! What the log says, and what it must not.

mod common;

use common::images::{ALL, images};
use common::{Server, Settings};

/// In the name of every patient of `common::images`.
const PATIENT: &str = "SYNTHETIC";

fn log_of_two_images(arguments: &[&str]) -> String {
    let mut server = Server::with(Settings {
        arguments: arguments.iter().map(|text| text.to_string()).collect(),
        ..Settings::default()
    });
    let mut client = server.associate(ALL);
    for image in images(1, 2) {
        assert_eq!(image.send(&mut client).unwrap().0, 0);
    }
    client.release().unwrap();
    server.terminate();
    server.log_text()
}

fn lines_with<'a>(log: &'a str, text: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(text)).collect()
}

#[test]
fn an_association_is_two_lines_and_no_patient() {
    let log = log_of_two_images(&[]);
    assert_eq!(lines_with(&log, "association opened").len(), 1, "{log}");
    let closed = lines_with(&log, "association closed");
    assert_eq!(closed.len(), 1, "{log}");
    assert!(closed[0].contains("instances_count=2"), "{log}");
    assert!(lines_with(&log, "C-STORE-RQ").is_empty(), "{log}");
    assert!(lines_with(&log, PATIENT).is_empty(), "{log}");
}

#[test]
fn trace_association_shows_every_message() {
    let log = log_of_two_images(&["--trace-association"]);
    assert_eq!(lines_with(&log, "C-STORE-RQ").len(), 2, "{log}");
    assert_eq!(lines_with(&log, "C-STORE-RSP").len(), 2, "{log}");
    assert!(lines_with(&log, PATIENT).is_empty(), "{log}");
}
