//! Promise: whenever the power goes while a correction is made, taken back, or its files are moved and deleted, what is
//! answered afterwards is all old or all new, byte for byte; and the same command brings it to its end.
//!
//! Method, where no other is said: every mutating call is recorded on a model of two disks; for each call, what they would hold had the power
//! gone just before it is opened again, in three degrees of forgetting.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use common::cut::{Instance, Keeps, Model, Recorder, fetch, instances, store, wait_until_whole};
use kura::archive::{
    Amend, AmendSaid, AmendVerb, Archive, Cause, Chosen, MirrorVerb, Mode, RemovalVerb, Thrown,
    Undo,
};
use kura::config::Config;
use kura::dicom::{Level, Wanted, scan, tags};
use kura::volume::io::{Disk, Observer, Op};

const PATIENT_ID: u32 = 0x0010_0020;
const NEW_PATIENT_ID: &str = "AMENDED-4711";
const LIMIT: Duration = Duration::from_secs(60);

/// A moment passes for a day, so that what is kept for one is deleted at once.
fn let_days_pass() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: nothing of this process reads the environment but through std, whose lock this takes too.
        unsafe { std::env::set_var("KURA_CORRECTIONS_DAY_SECONDS", "0") };
    });
}

/// Volumes A and M below `root`. `keep_days`: 0 is for ever.
fn config(folder: &Path, root: &Path, keep_days: u64) -> Config {
    let text = format!(
        "state = {:?}\n[mirror]\nallow_same_device = true\nwhen = \"nightly\"\nwindow = \"03:00-03:01\"\n\
         [corrections]\nkeep_days = {keep_days}\ntrash_days = 0\n[intake]\nmode = \"direct\"\n\
         [[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n\
         [[volume]]\nname = \"M\"\npath = {:?}\nrole = \"mirror\"\n",
        folder.join("state"),
        root.join("A"),
        root.join("M"),
    );
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("kura.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file)).unwrap()
}

fn mirror(archive: &Archive) {
    let all = MirrorVerb::Run {
        date: None,
        modality: None,
    };
    archive.mirror_verb(all).unwrap();
    archive.mirror_asked().unwrap();
}

fn study_of(instance: &Instance) -> String {
    let found = scan(
        &instance.data_set,
        &instance.announced.transfer_syntax,
        Wanted::Indexed,
    );
    found.unwrap().uid(tags::STUDY_INSTANCE_UID).unwrap()
}

fn amend(archive: &Arc<Archive>, study: &str) {
    let ask = Amend {
        level: Level::Study,
        of: vec![study.to_owned()],
        values: vec![(PATIENT_ID, NEW_PATIENT_ID.to_owned())],
        to_study: None,
        to_patient_of_study: None,
        new_uids: false,
        utf8: false,
        now: true,
        merge_patients: false,
        who: "tester".to_owned(),
        why: "wrong patient".to_owned(),
    };
    archive.amend_verb(AmendVerb::Make { ask }).unwrap();
    let begun = Instant::now();
    loop {
        let AmendSaid::Status(status) = archive.amend_verb(AmendVerb::Look).unwrap() else {
            panic!("no status");
        };
        if !status.running {
            assert_eq!(status.error, None);
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{status:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn undo(archive: &Arc<Archive>, study: &str) {
    let ask = Undo {
        number: None,
        study: Some(study.to_owned()),
        who: "tester".to_owned(),
        why: "it was right".to_owned(),
    };
    archive.amend_verb(AmendVerb::Undo { ask }).unwrap();
}

fn cause() -> Cause {
    Cause {
        who: "tester".to_owned(),
        why: "asked for".to_owned(),
        way: "command line".to_owned(),
    }
}

fn remove(archive: &Arc<Archive>, study: &str) {
    let chosen = Chosen::Study(study.to_owned());
    let verb = RemovalVerb::Remove {
        chosen,
        cause: cause(),
    };
    archive.removal_verb(verb).unwrap();
}

fn restore(archive: &Arc<Archive>, study: &str) {
    let verb = RemovalVerb::Restore {
        thrown: Thrown::Study(study.to_owned()),
        cause: cause(),
        partly: false,
    };
    archive.removal_verb(verb).unwrap();
}

fn empty(archive: &Arc<Archive>, study: &str) {
    let verb = RemovalVerb::Empty {
        thrown: Thrown::Study(study.to_owned()),
        cause: cause(),
    };
    // Emptied already, perhaps.
    let _ = archive.removal_verb(verb);
}

/// Files are moved, and what is due then is deleted.
fn tidy(archive: &Arc<Archive>, _study: &str) {
    for _ in 0..3 {
        archive.tidy_all();
    }
}

/// What is answered: by SOP Instance UID the Patient ID in the data set and that of its study.
type Answered = BTreeMap<String, (String, String)>;

/// Reads everything that is answered; its bytes are what was stored, or differ from it in what was amended.
fn answered(archive: &Arc<Archive>, instances: &[Instance], said: &str) -> Answered {
    wait_until_whole(archive);
    let snapshot = archive.view().unwrap().snapshot;
    let mut entries = Vec::new();
    snapshot
        .all_instances(&mut |entry| {
            entries.push((entry.sop_instance_uid, entry.study_instance_uid));
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut all = Answered::new();
    for (sop, study) in entries {
        let is_it = |instance: &&Instance| instance.announced.sop_instance_uid == sop;
        let instance = instances.iter().find(is_it).expect("one that was stored");
        let bytes = fetch(archive, &sop).expect("it is answered");
        let found = scan(&bytes, &instance.announced.transfer_syntax, Wanted::All);
        let patient = found.unwrap().text(tags::PATIENT_ID).unwrap_or_default();
        let end = |bytes: &[u8]| bytes[bytes.len() - 4_000..].to_vec();
        match patient == NEW_PATIENT_ID {
            true => assert!(end(&bytes) == end(&instance.data_set), "{said}: {sop}"),
            false => assert!(bytes == instance.data_set, "{said}: {sop}"),
        }
        let study = snapshot.study(&study).unwrap().expect("its study");
        let of_study = study.facts.values.get(&PATIENT_ID).cloned();
        all.insert(sop, (patient, of_study.unwrap_or_default()));
    }
    let totals = snapshot.totals().unwrap();
    assert_eq!(totals.instances, all.len() as u64, "{said}");
    assert_eq!((totals.conflicts, totals.variants), (0, 0), "{said}");
    all
}

/// How many image files lie in the tree, in `superseded/`, in `trash/` and in `incoming/` of a volume.
fn places(volume: &Path) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for entry in walkdir::WalkDir::new(volume).into_iter().flatten() {
        let path: PathBuf = entry.path().strip_prefix(volume).unwrap().to_path_buf();
        let is_image = path.extension().is_some_and(|extension| extension == "dcm");
        let first = path.iter().next().map(|name| name.to_string_lossy());
        if let Some(first) = first.filter(|first| is_image || first == "incoming") {
            let place = match &*first {
                "superseded" | "trash" => first.into_owned(),
                "incoming" if entry.file_type().is_file() => first.into_owned(),
                "incoming" => continue,
                _ => "tree".to_owned(),
            };
            *places.entry(place).or_default() += 1;
        }
    }
    places
}

type Act = fn(&Arc<Archive>, &str);

struct Scene {
    /// Done before the power may go.
    before: &'static [Act],
    /// Done again after the cut, where it has not come to its end.
    act: Act,
    /// Files are kept for ever if 0, else until they are tidied.
    keep_days: u64,
}

impl Scene {
    fn play(&self) {
        let_days_pass();
        let place = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let instances = &instances()[..2];
        let study = &study_of(&instances[0]);
        let recorder = Arc::new(Recorder::default());
        let root = place.path().join("root");
        for name in ["A", "M"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let disk = Disk::observed(recorder.clone());
        let first = config(&place.path().join("first"), &root, self.keep_days);
        let archive = Arc::new(Archive::open_on(&first, Mode::Create, &disk).unwrap());
        for instance in instances {
            store(&archive, instance);
        }
        mirror(&archive);
        for act in self.before {
            act(&archive, study);
        }
        let begun = recorder.count();
        let old = answered(&archive, instances, "before");
        (self.act)(&archive, study);
        let acknowledged = recorder.count();
        let new = answered(&archive, instances, "after");
        tidy(&archive, study);
        let ended = recorder.count();
        drop(archive);
        let at_the_end = ["A", "M"].map(|name| places(&root.join(name)));

        let calls = recorder.calls();
        let mut model = Model::with_folders(&root, &["A", "M"]);
        let mut cuts = 0;
        for cut in 0..=ended {
            for keeps in [Keeps::Nothing, Keeps::NamesAndHalf, Keeps::Everything] {
                // What is forgotten is what does harm; the others are looked at now and then.
                let is_rare = !matches!(keeps, Keeps::Nothing) && !common::long();
                if cut < begun || (is_rare && cut % 4 != 0) {
                    continue;
                }
                cuts += 1;
                let said = format!(
                    "cut before call {cut} of {begun} to {acknowledged} to {ended} ({:?}), keeping {keeps:?}",
                    calls.get(cut)
                );
                let here = place.path().join(format!("cut{cut}"));
                let volumes = here.join("volumes");
                model.remains(keeps, &root, &volumes);
                let config = config(&here, &volumes, self.keep_days);
                let open = || {
                    let archive = Archive::open(&config, Mode::Create);
                    Arc::new(archive.unwrap_or_else(|error| panic!("{said}: {error}")))
                };
                let archive = open();
                let found = answered(&archive, instances, &said);
                assert!(found == old || found == new, "{said}: {found:?}");
                if cut >= acknowledged {
                    assert_eq!(found, new, "{said}");
                }
                // As the server would, before somebody comes and says it again.
                tidy(&archive, study);
                assert_eq!(answered(&archive, instances, &said), found, "{said}");
                // What is answered does not always tell whether it was done.
                if found != new || (old == new && cut < acknowledged) {
                    (self.act)(&archive, study);
                    assert_eq!(answered(&archive, instances, &said), new, "{said}");
                }
                tidy(&archive, study);
                mirror(&archive);
                drop(archive);
                // Also for one who reads the ledgers from their beginning.
                std::fs::remove_dir_all(here.join("state").join("index")).unwrap();
                let archive = open();
                assert_eq!(answered(&archive, instances, &said), new, "{said}");
                tidy(&archive, study);
                drop(archive);
                let found = ["A", "M"].map(|name| places(&volumes.join(name)));
                assert_eq!(found, at_the_end, "{said}");
                std::fs::remove_dir_all(&here).unwrap();
            }
            if let Some(call) = calls.get(cut) {
                model.call(call);
            }
        }
        println!("{cuts} power cuts at {} disk calls", ended - begun);
    }
}

#[test]
fn an_amendment_is_whole_or_not_at_all() {
    Scene {
        before: &[],
        act: amend,
        keep_days: 0,
    }
    .play();
}

#[test]
fn an_amendment_is_taken_back_whole_or_not_at_all() {
    Scene {
        before: &[amend, tidy],
        act: undo,
        keep_days: 0,
    }
    .play();
}

#[test]
fn a_removal_is_whole_or_not_at_all() {
    Scene {
        before: &[],
        act: remove,
        keep_days: 0,
    }
    .play();
}

#[test]
fn what_was_removed_comes_back_whole_or_not_at_all() {
    Scene {
        before: &[remove, tidy],
        act: restore,
        keep_days: 0,
    }
    .play();
}

#[test]
fn what_is_deleted_from_the_trash_is_gone_and_nothing_else() {
    Scene {
        before: &[remove, tidy],
        act: empty,
        keep_days: 0,
    }
    .play();
}

#[test]
fn what_was_replaced_is_deleted_and_what_stands_in_its_place_is_not() {
    Scene {
        before: &[amend],
        act: tidy,
        keep_days: 1,
    }
    .play();
}

/// Lets the line of a correction fail in these ledgers, from the moment on that it is armed.
struct Unsaid {
    ledgers: Vec<PathBuf>,
    /// The line is written and its flush fails; else its write does.
    written: bool,
    armed: AtomicBool,
    unflushed: Mutex<Vec<PathBuf>>,
    failed: AtomicBool,
}

impl Observer for Unsaid {
    fn before(&self, op: &Op) -> std::io::Result<()> {
        const EIO: i32 = 5;
        let failed = || {
            self.failed.store(true, Ordering::SeqCst);
            Err(std::io::Error::from_raw_os_error(EIO))
        };
        let mut unflushed = self.unflushed.lock().unwrap();
        match op {
            Op::Write { path, bytes, .. } if self.armed.load(Ordering::SeqCst) => {
                let is_it = String::from_utf8_lossy(bytes).contains("\"correction\":")
                    && self.ledgers.iter().any(|ledger| path.starts_with(ledger));
                match (is_it, self.written) {
                    (true, true) => unflushed.push(path.to_path_buf()),
                    (true, false) => return failed(),
                    _ => {}
                }
                Ok(())
            }
            Op::SyncFile(path) if unflushed.iter().any(|one| one == path) => failed(),
            _ => Ok(()),
        }
    }
}

/// An archive with two instances on both volumes, on which `before` was done; then the line of what comes next fails in the
/// ledgers of `failing`.
struct Broken {
    place: tempfile::TempDir,
    config: Config,
    instances: Vec<Instance>,
    study: String,
    archive: Option<Arc<Archive>>,
    unsaid: Arc<Unsaid>,
    old: Answered,
}

impl Broken {
    fn new(before: &[Act], failing: &[&str], written: bool) -> Broken {
        let_days_pass();
        let place = tempfile::tempdir().unwrap();
        for name in ["A", "M"] {
            std::fs::create_dir_all(place.path().join(name)).unwrap();
        }
        let unsaid = Arc::new(Unsaid {
            ledgers: failing
                .iter()
                .map(|name| place.path().join(name).join("ledgers"))
                .collect(),
            written,
            armed: AtomicBool::new(false),
            unflushed: Mutex::default(),
            failed: AtomicBool::new(false),
        });
        let config = config(&place.path().join("kura"), place.path(), 0);
        let disk = Disk::observed(unsaid.clone());
        let archive = Arc::new(Archive::open_on(&config, Mode::Create, &disk).unwrap());
        let mut instances = instances();
        instances.truncate(2);
        for instance in &instances {
            store(&archive, instance);
        }
        mirror(&archive);
        let study = study_of(&instances[0]);
        for act in before {
            act(&archive, &study);
        }
        let old = answered(&archive, &instances, "before");
        unsaid.armed.store(true, Ordering::SeqCst);
        Broken {
            place,
            config,
            instances,
            study,
            archive: Some(archive),
            unsaid,
            old,
        }
    }

    fn archive(&self) -> &Arc<Archive> {
        self.archive.as_ref().unwrap()
    }

    fn answered(&self, said: &str) -> Answered {
        answered(self.archive(), &self.instances, said)
    }

    /// Another start, with disks that are well.
    fn restart(&mut self, without_index: bool) {
        self.archive = None;
        if without_index {
            std::fs::remove_dir_all(self.place.path().join("kura/state/index")).unwrap();
        }
        let archive = Archive::open(&self.config, Mode::Create).unwrap();
        self.archive = Some(Arc::new(archive));
    }
}

/// Method: in one of the two ledgers the line cannot be written, or is written and its flush fails.
#[test]
fn what_one_of_two_ledgers_could_not_say_is_the_same_after_a_restart() {
    let acts: [(&[Act], Act); 4] = [
        (&[], amend),
        (&[amend, tidy], undo),
        (&[], remove),
        (&[remove, tidy], restore),
    ];
    for (number, (before, act)) in acts.into_iter().enumerate() {
        for (failing, written) in [("A", true), ("A", false), ("M", true), ("M", false)] {
            let said = format!("act {number}, {failing}, written: {written}");
            let mut broken = Broken::new(before, &[failing], written);
            act(broken.archive(), &broken.study);
            assert!(broken.unsaid.failed.load(Ordering::SeqCst), "{said}");
            let new = broken.answered(&said);
            assert_ne!(new, broken.old, "{said}");
            for without_index in [false, true] {
                broken.restart(without_index);
                assert_eq!(broken.answered(&said), new, "{said}");
            }
            // Said again where it is missing.
            tidy(broken.archive(), &broken.study);
            let snapshot = broken.archive().view().unwrap().snapshot;
            let mut count = 0;
            snapshot
                .corrections(&mut |record| {
                    assert_eq!(record.volume_ids.len(), 2, "{said}: {record:?}");
                    count += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(count, 1, "{said}");
        }
    }
}

/// Method: the same in both ledgers at once.
#[test]
fn what_no_ledger_could_say_is_said_to_be_unknown_and_is_whole_or_not_at_all() {
    for written in [true, false] {
        let mut broken = Broken::new(&[], &["A", "M"], written);
        let verb = RemovalVerb::Remove {
            chosen: Chosen::Study(broken.study.clone()),
            cause: cause(),
        };
        let error = broken.archive().removal_verb(verb).unwrap_err().to_string();
        assert!(!error.contains("nothing was changed"), "{error}");
        assert!(
            error.ends_with("is in effect is known when the volume is opened again; kura changes list shows it then"),
            "{error}"
        );
        assert_eq!(broken.answered(&error), broken.old);
        broken.restart(false);
        let now = broken.answered(&error);
        assert_eq!(
            now,
            if written {
                Answered::new()
            } else {
                broken.old.clone()
            }
        );
        broken.restart(true);
        assert_eq!(broken.answered(&error), now);
    }
}
