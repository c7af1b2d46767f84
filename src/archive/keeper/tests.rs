//! The keeper between real ledgers and a real index.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::entry::{self, tests::stored};
use super::*;
use crate::index::{Bad, Gone, Stored};
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
