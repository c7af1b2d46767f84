use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::volume::io::{Observer, Op};

fn transfer(at: &str, peer: &str, study: &str) -> Transfer {
    Transfer {
        at: at.to_owned(),
        direction: Direction::Forwarded,
        peer: peer.to_owned(),
        address: "10.0.0.7".to_owned(),
        study_instance_uid: study.to_owned(),
        instances_count: 3,
        failed_count: 0,
        bytes: 3_000,
        seconds: 0.5,
        status: 0,
        reason: String::new(),
        asked_by: None,
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn found(state: &Path, wanted: &Wanted) -> (Vec<Transfer>, SearchEnd) {
    let mut found = Vec::new();
    let end = search(state, wanted, &mut |transfer| {
        found.push(transfer);
        ControlFlow::Continue(())
    });
    (found, end.unwrap())
}

fn studies(state: &Path, wanted: &Wanted) -> Vec<String> {
    let (found, _) = found(state, wanted);
    found.into_iter().map(|t| t.study_instance_uid).collect()
}

fn files(state: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(state.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn lines_come_back_the_newest_first_also_over_midnight() {
    let state = tempfile::tempdir().unwrap();
    let journal = Transfers::open(state.path(), 400);
    let moment = jiff::Timestamp::now();
    for (hours, study) in [(49, "1.1"), (25, "1.2"), (24, "1.3"), (0, "1.4")] {
        let at = moment - jiff::SignedDuration::from_hours(hours);
        journal.note(transfer(&at.to_string(), "MAC1", study));
    }
    journal.stop();
    assert_eq!(
        studies(state.path(), &Wanted::default()),
        ["1.4", "1.3", "1.2", "1.1"]
    );
    assert!(files(state.path()).len() >= 3, "{:?}", files(state.path()));
    let since = (moment - jiff::SignedDuration::from_hours(24)).to_string();
    let until = Some(moment.to_string());
    let of = |since, until| Wanted {
        since,
        until,
        ..Wanted::default()
    };
    assert_eq!(
        studies(state.path(), &of(Some(since.clone()), None)),
        ["1.4", "1.3"]
    );
    assert_eq!(studies(state.path(), &of(Some(since), until)), ["1.3"]);
}

#[test]
fn every_condition_must_hold() {
    let state = tempfile::tempdir().unwrap();
    let journal = Transfers::open(state.path(), 400);
    let at = now();
    journal.note(transfer(&at, "MAC1", "1.1"));
    journal.note(Transfer {
        direction: Direction::Stored,
        failed_count: 2,
        status: 0xA700,
        reason: "Disk full".to_owned(),
        ..transfer(&at, "CT", "1.2")
    });
    journal.stop();
    let base = Wanted::default;
    for (wanted, studies_expected) in [
        (
            Wanted {
                failed: true,
                ..base()
            },
            &["1.2"][..],
        ),
        (
            Wanted {
                peer: Some("mac1".into()),
                ..base()
            },
            &["1.1"],
        ),
        (
            Wanted {
                peer: Some("10.0.0.7".into()),
                ..base()
            },
            &["1.2", "1.1"],
        ),
        (
            Wanted {
                study: Some("1.1".into()),
                failed: true,
                ..base()
            },
            &[],
        ),
        (
            Wanted {
                direction: Some(Direction::Stored),
                ..base()
            },
            &["1.2"],
        ),
        (
            Wanted {
                words: vec!["a700h".into(), "FULL".into()],
                ..base()
            },
            &["1.2"],
        ),
        (
            Wanted {
                words: vec!["nothing".into()],
                ..base()
            },
            &[],
        ),
    ] {
        assert_eq!(
            studies(state.path(), &wanted),
            studies_expected,
            "{wanted:?}"
        );
    }
    let (lines, end) = found(state.path(), &Wanted { most: 1, ..base() });
    assert_eq!((lines.len(), end.more), (1, true));
}

/// Method: the file's last line is cut, as by a power cut, and strange bytes stand in the middle; lines follow.
#[test]
fn damaged_lines_are_passed_over_and_counted() {
    let state = tempfile::tempdir().unwrap();
    let at = now();
    let note = |study: &str| {
        let journal = Transfers::open(state.path(), 400);
        journal.note(transfer(&at, "MAC1", study));
        journal.stop();
    };
    note("1.1");
    note("1.2");
    let path = state.path().join("journal").join(&files(state.path())[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 20);
    std::fs::write(&path, &bytes).unwrap();
    note("1.3");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(vec![b'x'; 300_000]);
    bytes.push(b'\n');
    std::fs::write(&path, &bytes).unwrap();
    note("1.4");
    let (lines, end) = found(state.path(), &Wanted::default());
    let told: Vec<_> = lines.iter().map(|l| &*l.study_instance_uid).collect();
    assert_eq!(told, ["1.4", "1.3", "1.1"]);
    assert_eq!(end.damaged_count, 2);
}

#[test]
fn files_of_days_that_are_over_go_and_other_files_stay() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("journal");
    std::fs::create_dir(&folder).unwrap();
    let today = jiff::Zoned::now().date();
    let day = |days: i64| today.checked_sub(jiff::Span::new().days(days)).unwrap();
    for days in [3, 4] {
        std::fs::write(folder.join(format!("{}.jsonl", day(days))), "").unwrap();
    }
    std::fs::write(folder.join("2001-01-01.txt"), "").unwrap();
    let journal = Transfers::open(state.path(), 3);
    journal.note(transfer(&now(), "MAC1", "1.1"));
    journal.stop();
    let expected = [
        "2001-01-01.txt".to_owned(),
        format!("{}.jsonl", day(3)),
        format!("{today}.jsonl"),
    ];
    assert_eq!(files(state.path()), expected);
}

struct Full(AtomicBool);

impl Observer for Full {
    fn before(&self, op: &Op) -> std::io::Result<()> {
        match op {
            Op::Write { .. } if self.0.load(Ordering::Relaxed) => {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

/// Method: the disk takes nothing for a while; noting returns at once, and lines are written again afterwards.
#[test]
fn a_disk_that_takes_nothing_costs_lines_and_nothing_else() {
    let state = tempfile::tempdir().unwrap();
    let full = Arc::new(Full(AtomicBool::new(true)));
    let disk = Disk::observed(full.clone());
    let journal = Transfers::on(disk, state.path(), 400);
    for _ in 0..3 * WAITING_MAX {
        journal.note(transfer(&now(), "MAC1", "1.1"));
    }
    journal.wait_until_written(Duration::from_secs(60));
    full.0.store(false, Ordering::Relaxed);
    journal.note(transfer(&now(), "MAC1", "1.2"));
    journal.stop();
    assert_eq!(studies(state.path(), &Wanted::default()), ["1.2"]);
}

fn arrived(association_id: u64, study: Option<&str>, status: u16) -> Arrived<'_> {
    static REQUESTOR: LazyLock<Requestor> = LazyLock::new(|| Requestor {
        ae_title: "CT".to_owned(),
        address: "10.0.0.8".to_owned(),
        ..Requestor::default()
    });
    Arrived {
        association_id,
        requestor: &REQUESTOR,
        study_instance_uid: study,
        bytes: 10,
        begun: Instant::now(),
        status,
        reason: match status {
            0 => String::new(),
            status => format!("{status:04X}"),
        },
    }
}

#[test]
fn what_an_association_brings_is_one_line_for_each_study_with_the_worst_status() {
    let state = tempfile::tempdir().unwrap();
    let journal = Transfers::open(state.path(), 400);
    for (study, status) in [
        (Some("1.1"), 0),
        (Some("1.2"), 0),
        (Some("1.1"), 0),
        (None, 0xA700),
        (Some("1.1"), 0),
        (None, 0xC000),
    ] {
        journal.arrived(&arrived(1, study, status));
    }
    journal.arrived(&arrived(2, Some("1.1"), 0));
    journal.ended(1);
    journal.stop();
    let (mut lines, _) = found(state.path(), &Wanted::default());
    lines.sort_by_key(|line| (line.study_instance_uid.clone(), line.instances_count));
    let told: Vec<_> = lines
        .iter()
        .map(|l| (&*l.study_instance_uid, l.instances_count, l.failed_count))
        .collect();
    assert_eq!(told, [("1.1", 1, 0), ("1.1", 3, 2), ("1.2", 1, 0)]);
    assert_eq!((lines[1].status, &*lines[1].reason), (0xA700, "A700"));
    assert_eq!(
        (lines[1].bytes, lines[1].direction),
        (30, Direction::Stored)
    );
}

#[test]
fn a_sender_that_mixes_many_studies_holds_few_of_them_in_memory() {
    let mut arrivals = Arrivals::default();
    let now = Instant::now();
    let over = (0..1_000)
        .filter_map(|number| {
            let study = format!("1.{number}");
            arrivals.add(&arrived(1, Some(&study), 0), now)
        })
        .count();
    assert_eq!(over + arrivals.end(1).len(), 1_000);
    assert!(over > 900);
}

#[test]
fn a_study_of_which_nothing_comes_is_noted_while_its_association_waits() {
    let mut arrivals = Arrivals::default();
    let now = Instant::now();
    arrivals.add(&arrived(1, Some("1.1"), 0), now);
    assert!(arrivals.sweep(now + Duration::from_secs(5)).is_empty());
    assert_eq!(arrivals.sweep(now + Duration::from_secs(30)).len(), 1);
    assert!(arrivals.end(1).is_empty());
}
