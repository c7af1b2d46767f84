use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::volume::io::{Observer, Op};

/// Counts flushes of files, and lets writes fail while the disk is full.
#[derive(Default)]
struct Watched {
    flushes: AtomicU64,
    is_full: AtomicBool,
}

impl Observer for Watched {
    fn before(&self, op: &Op) -> std::io::Result<()> {
        match op {
            Op::SyncFile(_) => drop(self.flushes.fetch_add(1, Ordering::Relaxed)),
            Op::Write { .. } if self.is_full.load(Ordering::Relaxed) => {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            _ => {}
        }
        Ok(())
    }
}

fn on(watched: Arc<Watched>, state: &Path) -> Audit {
    let files = Files::new(Disk::observed(watched), state, 0);
    let export = Export::new(files.clone(), config::Audit::default(), Source::default());
    Audit {
        waiting: Arc::default(),
        export: Arc::new(export),
        files,
    }
}

fn all(state: &Path, wanted: &Wanted) -> Vec<Entry> {
    let mut found = Vec::new();
    let end = list(state, wanted, &mut |entry| {
        found.push(entry);
        ControlFlow::Continue(())
    });
    assert_eq!(end.unwrap().damaged_count, 0);
    found
}

/// Without a deadline of its own: the machine may be busy.
fn end(audit: &Audit) {
    while audit.status().waiting_count > 0 {
        audit.settle();
    }
    audit.stop();
}

fn stored(audit: &Audit, number: usize) {
    let event = Event {
        instances_count: 3,
        ..Event::of_study(Kind::Stored, &format!("1.2.{number}"))
    };
    audit.tell(&Who::peer("CT1", "10.0.0.7"), "stored", "done", event);
}

/// Method: ten thousand studies at once. Each has its line, with its patient; the flushes are a fraction of them.
#[test]
fn ten_thousand_studies_are_ten_thousand_lines_and_few_flushes() {
    let state = tempfile::tempdir().unwrap();
    let watched = Arc::new(Watched::default());
    let audit = on(watched.clone(), state.path());
    audit.knows(|study| Some(format!("P{study}")));
    for number in 0..10_000 {
        stored(&audit, number);
    }
    end(&audit);
    let found = all(state.path(), &Wanted::default());
    let studies: BTreeSet<&str> = found
        .iter()
        .filter_map(|entry| Some(entry.event.as_ref()?.studies.first()?.as_str()))
        .collect();
    assert_eq!((found.len(), studies.len()), (10_000, 10_000));
    let patients = &found[0].event.as_ref().unwrap().patients;
    assert_eq!(patients[0], "P1.2.9999", "the newest first");
    assert_eq!(verify(state.path(), None).unwrap().faults_count, 0);
    let flushes = watched.flushes.load(Ordering::Relaxed);
    assert!(flushes <= 200, "{flushes}");
    assert_eq!(audit.status().lost_count, 0);
}

/// Method: the disk is full while more comes than may wait; when it has room again the audit says how many are missing.
#[test]
fn what_is_lost_is_counted_and_the_audit_says_so() {
    let state = tempfile::tempdir().unwrap();
    let watched = Arc::new(Watched::default());
    watched.is_full.store(true, Ordering::Relaxed);
    let audit = on(watched.clone(), state.path());
    let more = 30_000;
    for number in 0..more {
        stored(&audit, number);
    }
    let lost = audit.status().lost_count;
    assert!(lost > 0 && lost < more as u64, "{lost}");
    while audit.status().failure.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(audit.status().actions()[0].contains("the audit cannot be written"));
    watched.is_full.store(false, Ordering::Relaxed);
    while !audit.status().failure.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    end(&audit);
    let lost = audit.status().lost_count;
    let wanted = Wanted {
        kinds: vec![Kind::AuditLost],
        ..Wanted::default()
    };
    let said: u64 = all(state.path(), &wanted)
        .iter()
        .map(|entry| {
            entry
                .what
                .split(' ')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum();
    assert_eq!(said, lost);
    let found = all(state.path(), &Wanted::default());
    let written = found.iter().filter(|entry| entry.kind() == Kind::Stored);
    assert_eq!(written.count() as u64 + lost, more as u64);
    assert_eq!(verify(state.path(), None).unwrap().faults_count, 0);
}

/// Method: a monitor that asks the same a thousand times, and a stranger who asks a thousand things.
#[test]
fn what_comes_often_is_gathered_and_a_flood_is_bounded() {
    let state = tempfile::tempdir().unwrap();
    let audit = on(Arc::default(), state.path());
    let monitor = Who::peer("MONITOR", "10.0.0.7");
    for _ in 0..1_000 {
        audit.gather(&monitor, "a query", "1 answer", Event::new(Kind::Queried));
    }
    let stranger = Who::peer("STRANGER", "10.0.0.8");
    for number in 0..1_000 {
        let what = format!("query {number}");
        audit.gather(&stranger, &what, "nothing", Event::new(Kind::Queried));
    }
    end(&audit);
    let found = all(state.path(), &Wanted::default());
    let is_loss = |entry: &&Entry| entry.kind() == Kind::AuditLost;
    assert!(found.iter().filter(|entry| !is_loss(entry)).count() <= 500);
    // One at once, one at the end.
    assert!(found.iter().filter(is_loss).count() <= 2);
    let first = found.iter().find(|entry| entry.who == "MONITOR").unwrap();
    assert_eq!(first.event.as_ref().unwrap().times, 1_000);
    assert!(audit.status().lost_count >= 499);
}

/// Method: lines as an earlier version wrote them, and new ones behind them.
#[test]
fn lines_of_earlier_versions_stay_valid() {
    let state = tempfile::tempdir().unwrap();
    let audit = on(Arc::default(), state.path());
    let mut old = entry(
        &Who::here(),
        "{\"verb\":\"setup\"}",
        "done",
        Event::default(),
    );
    old.event = None;
    audit.files.append(vec![old.clone(), old]).unwrap();
    stored(&audit, 1);
    audit.note(
        &Who::here(),
        "password of suzuki",
        "done",
        Event::new(Kind::Account),
    );
    end(&audit);
    let verified = verify(state.path(), None).unwrap();
    assert_eq!(verified.faults, [""; 0]);
    assert_eq!(verified.notes, [""; 0]);
    let kinds: Vec<Kind> = all(state.path(), &Wanted::default())
        .iter()
        .map(Entry::kind)
        .collect();
    assert_eq!(kinds.len(), 4);
    assert_eq!(kinds[2..], [Kind::Change, Kind::Change]);
}

/// Method: a clock that was set back to an earlier month.
#[test]
fn a_clock_that_goes_back_does_not_break_the_chain() {
    let state = tempfile::tempdir().unwrap();
    let audit = on(Arc::default(), state.path());
    for at in [
        "2026-03-31T23:59:59Z",
        "2026-04-01T00:00:00Z",
        "2026-03-31T23:00:00Z",
        "2026-04-01T00:00:01Z",
    ] {
        let mut line = entry(&Who::here(), "a", "done", Event::default());
        line.at = at.to_owned();
        audit.files.append(vec![line]).unwrap();
    }
    let verified = verify(state.path(), None).unwrap();
    assert_eq!((verified.faults_count, verified.lines_count), (0, 4));
    let wanted = Wanted {
        until: Some("2026-04-01T00:00:00Z".to_owned()),
        ..Wanted::default()
    };
    assert_eq!(all(state.path(), &wanted).len(), 2);
}
