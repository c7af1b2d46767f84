//! The keeper between real ledgers and a real index.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::entry::{self, tests::stored};
use super::*;
use crate::index::{
    Bad, ContentId, Correction, CorrectionFacts, Did, Gone, Hid, Ruling, Stored, Values, Verdict,
};
use crate::volume::io::Disk;
use crate::volume::ledger::Ledger;

/// The ledgers of two volumes, and an index.
struct Kept {
    folder: tempfile::TempDir,
    keeper: Arc<Keeper>,
    thread: Option<std::thread::JoinHandle<()>>,
    ledgers: Vec<Ledger<Line>>,
}

fn source(folder: &Path, volume_id: &str) -> Source {
    Source {
        volume_id: volume_id.to_owned(),
        folder: folder.join(volume_id),
        disk: Disk::default(),
    }
}

/// A keeper of the ledgers in a folder, live; its thread ends with [`Keeper::stop`].
fn started(
    folder: &Path,
    index: &str,
    volume_ids: &[&str],
) -> (Arc<Keeper>, std::thread::JoinHandle<()>) {
    let keeper = Keeper::open(folder.join(index), Engine::Redb).unwrap();
    let sources = volume_ids.iter().map(|id| source(folder, id)).collect();
    let thread = keeper.start(sources);
    wait_until_live(&keeper);
    (keeper, thread)
}

fn wait_until_live(keeper: &Keeper) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !keeper.is_live() {
        assert!(Instant::now() < deadline, "the index does not go live");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Kept {
    fn new() -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, thread) = started(folder.path(), "index", &["A", "M"]);
        let ledgers = ["A", "M"].map(|id| {
            let keeper = keeper.clone();
            let after_flush = Box::new(move |group| keeper.apply(id, group));
            Ledger::open(&Disk::default(), &folder.path().join(id), after_flush).unwrap()
        });
        Kept {
            folder,
            keeper,
            thread: Some(thread),
            ledgers: ledgers.into(),
        }
    }

    fn ledger(&self, volume_id: &str) -> &Ledger<Line> {
        &self.ledgers[usize::from(volume_id == "M")]
    }

    fn store(&self, stored: &Stored) {
        let volume_id = &stored.instance.copy.volume_id;
        let (once, line) = entry::lines(stored, volume_id, None);
        let change = Arc::new(Change::Stored(stored.clone()));
        self.ledger(volume_id).append(&once, line, change).unwrap();
    }

    fn bad(&self, stored: &Stored) {
        let bad = Bad {
            sequence: self.keeper.next_sequence(),
            sop_instance_uid: stored.instance.sop_instance_uid.clone(),
            volume_id: stored.instance.copy.volume_id.clone(),
            path: stored.instance.copy.path.clone(),
        };
        let line = entry::bad_line(&bad, &super::super::now(), "it is missing");
        let ledger = self.ledger(&bad.volume_id);
        ledger
            .append(&[], line, Arc::new(Change::Bad(bad.clone())))
            .unwrap();
    }

    fn gone(&self, stored: &Stored) {
        let gone = Gone {
            sequence: self.keeper.next_sequence(),
            sop_instance_uid: stored.instance.sop_instance_uid.clone(),
            volume_id: stored.instance.copy.volume_id.clone(),
            path: stored.instance.copy.path.clone(),
        };
        let line = entry::gone_line(&gone, &super::super::now(), "moved");
        let ledger = self.ledger(&gone.volume_id);
        ledger
            .append(&[], line, Arc::new(Change::Gone(gone.clone())))
            .unwrap();
    }
}

/// Says that a correction withdrew a content, and that it is in effect or not.
fn correct(ledger: &Ledger<Line>, keeper: &Keeper, volume_id: &str, old: &Stored, is: bool) {
    let ruling = Ruling {
        sequence: 51,
        by: 50,
        sop_instance_uid: old.instance.sop_instance_uid.clone(),
        content: ContentId {
            transfer_syntax: old.instance.transfer_syntax.clone(),
            data_bytes: old.instance.copy.data_bytes(),
            crc32: old.instance.copy.crc32,
        },
        verdict: Verdict::Withdrawn,
    };
    let correction = Correction {
        sequence: keeper.next_sequence() + 60,
        number: 50,
        in_effect: is,
        facts: CorrectionFacts {
            at: super::super::now(),
            did: Did::Amended,
            who: "admin".to_owned(),
            why: "wrong patient".to_owned(),
            way: "command line".to_owned(),
            level: "STUDY".to_owned(),
            of: vec!["1.2".to_owned()],
            studies: vec!["1.2".to_owned()],
            instances_count: 1,
            before: Values::new(),
            after: Values::new(),
        },
        volume_id: volume_id.to_owned(),
    };
    let lines = [
        (
            entry::ruling_line(&ruling, &super::super::now()),
            Change::Ruling(ruling),
        ),
        (
            entry::correction_line(&correction),
            Change::Correction(Box::new(correction)),
        ),
    ];
    let lines = lines.map(|(line, change)| (Vec::new(), line, Arc::new(change)));
    ledger.append_all(lines.into()).unwrap();
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn of(sop: &str, volume_id: &str) -> Stored {
    let mut stored = stored();
    stored.instance.sop_instance_uid = sop.to_owned();
    stored.instance.copy.path = format!("{}/{sop}.dcm", stored.series.folder);
    stored.instance.copy.volume_id = volume_id.to_owned();
    stored
}

/// The volumes with good copies → contents, of the one series.
fn spread(keeper: &Keeper) -> Vec<(String, u64)> {
    let snapshot = keeper.view().unwrap().snapshot;
    let found = snapshot.spread_of("1.2", "1.2.3").unwrap().unwrap();
    let spread = found.spread.into_iter();
    spread
        .map(|one| (one.volume_ids.join(" "), one.contents_count))
        .collect()
}

fn row(volume_ids: &str, contents: u64) -> (String, u64) {
    (volume_ids.to_owned(), contents)
}

/// Method: lines are written while the keeper is live; after them another keeper reads the same ledgers from the
/// beginning into an index of its own.
#[test]
fn a_bad_line_is_the_same_live_and_read_again() {
    let kept = Kept::new();
    for stored in [of("1.4", "A"), of("1.5", "A"), of("1.6", "A")] {
        kept.store(&stored);
    }
    kept.store(&of("1.4", "M"));
    kept.bad(&of("1.4", "A"));
    kept.bad(&of("1.5", "A"));
    kept.bad(&of("1.6", "A"));
    kept.store(&of("1.6", "A"));
    let expected = [row("", 1), row("A", 1), row("M", 1)];
    assert_eq!(spread(&kept.keeper), expected);
    let (again, thread) = started(kept.folder.path(), "again", &["A", "M"]);
    assert_eq!(spread(&again), expected);
    again.stop();
    thread.join().unwrap();
}

#[test]
fn series_are_noted_as_touched_until_they_are_taken() {
    let kept = Kept::new();
    let here = BTreeSet::from([("1.2".to_owned(), "1.2.3".to_owned())]);
    let (here, none) = (Touched::Some(here), Touched::Some(BTreeSet::new()));
    assert_eq!(kept.keeper.take_touched(), Touched::All);
    assert_eq!(kept.keeper.take_touched(), none);
    kept.store(&of("1.4", "A"));
    kept.store(&of("1.4", "M"));
    assert_eq!(kept.keeper.take_touched(), here);
    kept.bad(&of("1.4", "A"));
    assert_eq!(kept.keeper.take_touched(), here);
    kept.gone(&of("1.4", "A"));
    assert_eq!(kept.keeper.take_touched(), here);
    assert_eq!(kept.keeper.take_touched(), none);
    kept.keeper.rebuild();
    wait_until_live(&kept.keeper);
    assert_eq!(kept.keeper.take_touched(), Touched::All);
    assert_eq!(spread(&kept.keeper), [row("M", 1)]);
}

/// Method: a volume is forgotten in two calls, with a restart that does not know it in between; then it comes back.
#[test]
fn a_forgotten_volume_stays_forgotten_until_its_ledger_is_read_again() {
    let mut kept = Kept::new();
    for sop in ["1.4", "1.5"] {
        kept.store(&of(sop, "A"));
        kept.store(&of(sop, "M"));
    }
    kept.keeper.take_touched();
    assert!(kept.keeper.forget_some("M", 1).unwrap());
    assert_eq!(spread(&kept.keeper), [row("A", 1), row("A M", 1)]);
    assert_eq!(kept.keeper.take_touched(), Touched::All);
    kept.keeper.stop();
    kept.thread.take().unwrap().join().unwrap();
    kept.ledgers.clear();
    let folder = kept.folder.path().to_owned();
    kept.keeper = Keeper::open(folder.join("unused"), Engine::Redb).unwrap();

    let (keeper, thread) = started(&folder, "index", &["A"]);
    assert_eq!(spread(&keeper), [row("A", 1), row("A M", 1)]);
    while keeper.forget_some("M", 1).unwrap() {}
    assert_eq!(spread(&keeper), [row("A", 2)]);
    keeper.join(source(&folder, "M"));
    assert_eq!(spread(&keeper), [row("A M", 2)]);
    keeper.stop();
    thread.join().unwrap();
}

/// Method: of three instances two get another content by a correction; the line of the second is written while no keeper
/// reads along, so that the next one begins behind what was said of the study. The rest is said in the other ledger. Then
/// the ledgers are read from the beginning, in both orders.
#[test]
fn a_correction_is_the_same_live_after_a_restart_and_read_again() {
    let by_correction = |sop: &str, sequence: u64| {
        let mut new = of(sop, "A");
        let study = Arc::make_mut(&mut new.study);
        study.values.insert(0x0010_0010, "Suzuki^Hanako".to_owned());
        study.values.insert(0x0008_0050, String::new());
        let series = Arc::make_mut(&mut new.series);
        series.folder = "20260115/CT/2-1.2/1.2.3".to_owned();
        new.instance.copy.path = format!("{}/{sop}.dcm", series.folder);
        new.instance.copy.crc32 = sequence as u32;
        new.instance.sequence = sequence;
        new.instance.origin.by = 50;
        new
    };
    let says = |keeper: &Keeper| {
        let snapshot = keeper.view().unwrap().snapshot;
        let study = snapshot.study("1.2").unwrap().unwrap();
        let entries = ["1.4", "1.5", "1.6"].map(|sop| snapshot.by_sop(sop).unwrap());
        let hidden = ["1.4", "1.5", "1.6"].map(|sop| {
            let hidden = snapshot.hidden(sop).unwrap().unwrap_or_default();
            hidden.contents.into_iter().map(|one| one.hid).next()
        });
        let name = study.facts.values[&0x0010_0010].clone();
        let paths = entries.map(|entry| entry.map(|entry| entry.record.copies[0].path.clone()));
        (name, paths, hidden)
    };
    let paths = |folders: [u8; 3]| {
        let sops = ["1.4", "1.5", "1.6"].into_iter();
        let paths = sops.zip(folders);
        let path = |(sop, n)| Some(format!("20260115/CT/{n}-1.2/1.2.3/{sop}.dcm"));
        paths.map(path).collect::<Vec<_>>()
    };
    let mut kept = Kept::new();
    for (sequence, sop) in (1..).zip(["1.4", "1.5", "1.6"]) {
        let mut old = of(sop, "A");
        old.instance.sequence = sequence;
        kept.store(&old);
    }
    kept.store(&by_correction("1.4", 52));
    let (name, found, hidden) = says(&kept.keeper);
    assert_eq!(name, "Yamada^Tarou=山田^太郎");
    assert_eq!(found.to_vec(), paths([1, 1, 1]));
    assert_eq!(hidden, [Some(Hid::Unmade { by: 50 }), None, None]);

    kept.keeper.stop();
    kept.thread.take().unwrap().join().unwrap();
    let folder = kept.folder.path().to_owned();
    let stopped = kept.keeper.clone();
    kept.keeper = Keeper::open(folder.join("unused"), Engine::Redb).unwrap();
    stopped.rebuild();
    let (_, line) = entry::lines(&by_correction("1.5", 53), "A", None);
    let change = Arc::new(Change::Stored(by_correction("1.5", 53)));
    kept.ledger("A").append(&[], line, change).unwrap();
    for sop in ["1.4", "1.5"] {
        correct(kept.ledger("M"), &stopped, "M", &of(sop, "A"), true);
    }
    drop(stopped);
    kept.ledgers.clear();
    let withdrawn = Some(Hid::Withdrawn { by: 50 });
    let expected = (
        "Suzuki^Hanako".to_owned(),
        paths([2, 2, 1]),
        [withdrawn, withdrawn, None],
    );
    for (index, order) in [
        ("index", ["A", "M"]),
        ("again", ["A", "M"]),
        ("other", ["M", "A"]),
    ] {
        let (keeper, thread) = started(&folder, index, &order);
        let (name, found, hidden) = says(&keeper);
        assert_eq!((name, found.to_vec(), hidden), expected, "{index}");
        assert_eq!(keeper.bad_lines(), 0);
        keeper.stop();
        thread.join().unwrap();
    }
    let aside = folder.join("index/aside");
    assert!(!aside.exists(), "it went on from where it was");
}
