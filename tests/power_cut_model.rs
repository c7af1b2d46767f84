//! A power cut at every disk call in turn, on a model of a disk that forgets what was not flushed.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::cut::{
    Call, Instance, Keeps, Model, Recorder, fetch, instances, store, wait_until_whole, work,
};
use kura::archive::{Archive, MirrorVerb, Mode, WorkVerb};
use kura::config::Config;
use kura::dicom::{Wanted, scan, tags};
use kura::volume::io::Disk;

fn config(folder: &Path, volume: &Path) -> Config {
    let text = format!(
        "state = {:?}\n[intake]\nmode = \"direct\"\n\
         [[volume]]\nname = \"A\"\npath = {volume:?}\nrole = \"archive\"\n",
        folder.join("state")
    );
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("kura.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file)).unwrap()
}

/// Method: record every mutating call while instances are stored; for each call, build what a disk would hold had the
/// power gone just before it, in four degrees of forgetting; open that, and fetch each instance acknowledged by then.
/// Then send all of them again, as a modality would.
#[test]
fn acknowledged_instances_survive_a_power_cut_at_every_disk_call() {
    // Thousands of flushes on a real disk take minutes; what is kept of them is decided by the model anyway.
    let place = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let recorder = Arc::new(Recorder::default());
    let root = place.path().join("volume");
    std::fs::create_dir(&root).unwrap();
    let instances = instances();
    let mut acknowledged_at = Vec::new();
    {
        let disk = Disk::observed(recorder.clone());
        let archive = Archive::open_on(
            &config(&place.path().join("first"), &root),
            Mode::Create,
            &disk,
        )
        .unwrap();
        for instance in &instances {
            store(&archive, instance);
            acknowledged_at.push(recorder.count());
        }
    }
    let calls = recorder.calls();
    assert!(
        calls.len() > instances.len() * 8,
        "only {} calls were seen",
        calls.len()
    );

    let mut model = Model::default();
    let mut cuts = 0;
    for cut in 0..=calls.len() {
        for keeps in [
            Keeps::Nothing,
            Keeps::Names,
            Keeps::NamesAndHalf,
            Keeps::Everything,
        ] {
            let here = place.path().join(format!("cut{cut}"));
            let volume = here.join("volume");
            model.remains(keeps, &root, &volume);
            let archive =
                Archive::open(&config(&here, &volume), Mode::Create).unwrap_or_else(|error| {
                    panic!("cut before call {cut}, keeping {keeps:?}: {error}")
                });
            for (instance, at) in instances.iter().zip(&acknowledged_at) {
                let uid = &instance.announced.sop_instance_uid;
                let found = fetch(&archive, uid);
                // Acknowledged: must be there. Not acknowledged: may be, and then whole.
                if *at <= cut || found.is_some() {
                    let said = format!(
                        "cut before call {cut} ({:?}), keeping {keeps:?}: {uid}",
                        calls.get(cut)
                    );
                    assert!(
                        found.as_ref() == Some(&instance.data_set),
                        "{said} is {:?} bytes",
                        found.map(|f| f.len())
                    );
                }
            }
            for instance in &instances {
                store(&archive, instance);
                assert!(
                    fetch(&archive, &instance.announced.sop_instance_uid).as_ref()
                        == Some(&instance.data_set)
                );
            }
            assert_eq!(
                archive.status().index.conflicts_count,
                0,
                "cut before call {cut}, keeping {keeps:?}"
            );
            drop(archive);
            std::fs::remove_dir_all(&here).unwrap();
            cuts += 1;
        }
        if let Some(call) = calls.get(cut) {
            model.call(call);
        }
    }
    println!("{cuts} power cuts at {} disk calls", calls.len());
}

/// Method: as above, with Patient IDs that are coerced: what is there after a cut says the new one, and the originals sent
/// again are no conflicts.
#[test]
fn coerced_instances_survive_a_power_cut_at_every_disk_call() {
    let place = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let coercing = |folder: &Path, volume: &Path| {
        let config = config(folder, volume);
        let file = config.file.as_deref().unwrap();
        let mut text = std::fs::read_to_string(file).unwrap();
        text += "[[coerce]]\ncalling = \"*\"\nprefix = \"H1-\"\n";
        std::fs::write(file, text).unwrap();
        Config::load(Some(file)).unwrap()
    };
    let recorder = Arc::new(Recorder::default());
    let root = place.path().join("volume");
    std::fs::create_dir(&root).unwrap();
    let instances = &instances()[..3];
    let mut acknowledged_at = Vec::new();
    {
        let disk = Disk::observed(recorder.clone());
        let config = coercing(&place.path().join("first"), &root);
        let archive = Archive::open_on(&config, Mode::Create, &disk).unwrap();
        for instance in instances {
            store(&archive, instance);
            acknowledged_at.push(recorder.count());
        }
    }
    let calls = recorder.calls();
    let is_coerced = |instance: &Instance, found: &[u8]| {
        let syntax = &instance.announced.transfer_syntax;
        let found = scan(found, syntax, Wanted::Indexed).unwrap();
        let id = found.text(tags::PATIENT_ID);
        id.is_some_and(|id| id.starts_with("H1-") && !id.starts_with("H1-H1-"))
    };
    let mut model = Model::default();
    for cut in 0..=calls.len() {
        for keeps in [
            Keeps::Nothing,
            Keeps::Names,
            Keeps::NamesAndHalf,
            Keeps::Everything,
        ] {
            let here = place.path().join(format!("cut{cut}"));
            let volume = here.join("volume");
            model.remains(keeps, &root, &volume);
            let archive = Archive::open(&coercing(&here, &volume), Mode::Create).unwrap();
            let said = format!("cut before call {cut}, keeping {keeps:?}");
            for (instance, at) in instances.iter().zip(&acknowledged_at) {
                let found = fetch(&archive, &instance.announced.sop_instance_uid);
                assert!(*at > cut || found.is_some(), "{said}: one is lost");
                assert!(found.is_none_or(|f| is_coerced(instance, &f)), "{said}");
            }
            for instance in instances {
                store(&archive, instance);
                let found = fetch(&archive, &instance.announced.sop_instance_uid);
                assert!(found.is_some_and(|f| is_coerced(instance, &f)), "{said}");
            }
            assert_eq!(archive.status().index.conflicts_count, 0, "{said}");
            drop(archive);
            std::fs::remove_dir_all(&here).unwrap();
        }
        if let Some(call) = calls.get(cut) {
            model.call(call);
        }
    }
}

/// Volumes A and M below `root`, each a disk of its own as far as the archive can tell.
fn config_with_mirror(folder: &Path, root: &Path, when: &str) -> Config {
    let text = format!(
        "state = {:?}\n[intake]\nmode = \"direct\"\n\
         [mirror]\nallow_same_device = true\nwhen = {when:?}\nwindow = \"03:00-03:01\"\n\
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

/// Stores the instances on A and M below `root`; returns the calls, and after how many each was answered.
fn recorded(place: &Path, when: &str, instances: &[Instance]) -> (Vec<Call>, Vec<usize>) {
    let recorder = Arc::new(Recorder::default());
    let root = place.join("root");
    for name in ["A", "M"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let disk = Disk::observed(recorder.clone());
    let config = config_with_mirror(&place.join("first"), &root, when);
    let archive = Archive::open_on(&config, Mode::Create, &disk).unwrap();
    let mut answered = Vec::new();
    for instance in instances {
        store(&archive, instance);
        answered.push(recorder.count());
    }
    mirror(&archive);
    drop(archive);
    let calls = recorder.calls();
    (calls, answered)
}

/// Method: as above with a mirror volume and `before-ack`; after each cut one of the two disks is gone for good as well.
#[test]
fn what_was_answered_with_two_copies_survives_a_power_cut_and_a_dead_disk() {
    let place = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let instances = &instances()[..3];
    let (calls, answered) = recorded(place.path(), "before-ack", instances);
    let root = place.path().join("root");
    let mut model = Model::with_folders(&root, &["A", "M"]);
    for cut in 0..=calls.len() {
        let acknowledged = answered.iter().filter(|at| **at <= cut).count();
        for keeps in [Keeps::Nothing, Keeps::Names, Keeps::NamesAndHalf] {
            for dead in ["A", "M"] {
                if acknowledged == 0 {
                    continue;
                }
                let here = place.path().join(format!("cut{cut}"));
                let volumes = here.join("volumes");
                model.remains(keeps, &root, &volumes);
                std::fs::remove_dir_all(volumes.join(dead)).unwrap();
                std::fs::create_dir(volumes.join(dead)).unwrap();
                let config = config_with_mirror(&here, &volumes, "before-ack");
                let archive = Archive::open(&config, Mode::Create).unwrap_or_else(|error| {
                    panic!("cut before call {cut}, keeping {keeps:?}, {dead} dead: {error}")
                });
                for instance in &instances[..acknowledged] {
                    let uid = &instance.announced.sop_instance_uid;
                    assert!(
                        fetch(&archive, uid).as_ref() == Some(&instance.data_set),
                        "cut before call {cut} ({:?}), keeping {keeps:?}, {dead} dead: {uid}",
                        calls.get(cut)
                    );
                }
                drop(archive);
                std::fs::remove_dir_all(&here).unwrap();
            }
        }
        if let Some(call) = calls.get(cut) {
            model.call(call);
        }
    }
}

/// One volume A below `root`, through a journal on itself or in `root/J`.
fn config_with_journal(folder: &Path, root: &Path, is_elsewhere: bool) -> Config {
    let journal = match is_elsewhere {
        true => format!("journal = {:?}\n", root.join("J")),
        false => String::new(),
    };
    let text = format!(
        "state = {:?}\n[intake]\nmode = \"journal\"\nsize_bytes = 1048576\n\
         [[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n{journal}",
        folder.join("state"),
        root.join("A"),
    );
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("kura.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file)).unwrap()
}

/// Builds what the disks hold had the power gone before each of `calls` from `begin` on, opens that, and sees that each
/// instance answered by then is there, whole, once; also when all were sent again and everything was carried over.
fn cut_with_journal(
    place: &Path,
    model: &mut Model,
    (calls, begin): (&[Call], usize),
    (instances, answered_at): (&[Instance], &[usize]),
    is_elsewhere: bool,
) {
    let root = place.join("root");
    for cut in 0..=calls.len() {
        for keeps in [
            Keeps::Nothing,
            Keeps::Names,
            Keeps::NamesAndBlocks,
            Keeps::Everything,
        ] {
            if cut < begin {
                continue;
            }
            let here = place.join(format!("cut{cut}"));
            let volumes = here.join("volumes");
            model.remains(keeps, &root, &volumes);
            let said = format!(
                "journal elsewhere: {is_elsewhere}, cut before call {cut} ({:?}), keeping {keeps:?}",
                calls
                    .get(cut)
                    .map(|call| format!("{call:?}").chars().take(120).collect::<String>())
            );
            let config = config_with_journal(&here, &volumes, is_elsewhere);
            let archive = Archive::open(&config, Mode::Create)
                .unwrap_or_else(|error| panic!("{said}: {error}"));
            let is_whole = |instance: &Instance| {
                let found = fetch(&archive, &instance.announced.sop_instance_uid);
                found.map(|found| found == instance.data_set)
            };
            for (instance, at) in instances.iter().zip(answered_at) {
                let uid = &instance.announced.sop_instance_uid;
                match is_whole(instance) {
                    None => assert!(*at > cut, "{said}: {uid} is lost"),
                    Some(is_whole) => assert!(is_whole, "{said}: {uid} is another"),
                }
            }
            for instance in instances {
                store(&archive, instance);
            }
            archive.leave_in_order();
            for instance in instances {
                assert_eq!(is_whole(instance), Some(true), "{said}");
                let view = archive.view().unwrap();
                let uid = &instance.announced.sop_instance_uid;
                let entry = view.snapshot.by_sop(uid).unwrap().expect("known");
                assert_eq!(entry.record.copies.len(), 1, "{said}: {uid}");
            }
            assert_eq!(archive.status().index.conflicts_count, 0, "{said}");
            drop(archive);
            let files = images(&volumes.join("A"));
            assert_eq!(files.len(), instances.len(), "{said}: {:?}", files.keys());
            std::fs::remove_dir_all(&here).unwrap();
        }
        if let Some(call) = calls.get(cut) {
            model.call(call);
        }
    }
}

/// Method: as with the direct way, from the making of the journal over appending and carrying over to the end; then while
/// what is left in a journal is carried over at a start.
#[test]
fn what_goes_through_a_journal_survives_a_power_cut_at_every_disk_call() {
    for is_elsewhere in [false, true] {
        let place = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let place = place.path();
        let root = place.join("root");
        for name in ["A", "J"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let instances = &instances()[..4];
        let recorder = Arc::new(Recorder::default());
        let mut answered_at = Vec::new();
        let (config, before_last);
        {
            config = config_with_journal(&place.join("first"), &root, is_elsewhere);
            let disk = Disk::observed(recorder.clone());
            let archive = Archive::open_on(&config, Mode::Create, &disk).unwrap();
            for (n, instance) in instances.iter().enumerate() {
                store(&archive, instance);
                answered_at.push(recorder.count());
                if n == 1 {
                    archive.leave_in_order();
                }
            }
            before_last = recorder.count();
            archive.leave_in_order();
        }
        let calls = recorder.calls();
        let mut model = Model::with_folders(&root, &["A", "J"]);
        let all = (calls.as_slice(), 0);
        cut_with_journal(
            place,
            &mut model,
            all,
            (instances, &answered_at),
            is_elsewhere,
        );

        // The power went with two in the journal; it goes again while they are carried over.
        let mut model = Model::with_folders(&root, &["A", "J"]);
        calls[..before_last]
            .iter()
            .for_each(|call| model.call(call));
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::remove_dir_all(place.join("first")).unwrap();
        model.remains(Keeps::Names, &root, &root);
        let recorder = Arc::new(Recorder::default());
        let disk = Disk::observed(recorder.clone());
        let mut model = Model::default();
        model.has(&root);
        let config = config_with_journal(&place.join("second"), &root, is_elsewhere);
        drop(Archive::open_on(&config, Mode::Create, &disk).unwrap());
        assert_eq!(images(&root.join("A")).len(), instances.len());
        let calls = recorder.calls();
        let all = (calls.as_slice(), 0);
        cut_with_journal(place, &mut model, all, (instances, &[0; 4]), is_elsewhere);
    }
}

/// Every file of images or of instances on their way, by relative path.
fn images(volume: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_image = |entry: &walkdir::DirEntry| {
        let extension = entry.path().extension().map(|e| e.to_string_lossy());
        extension.is_some_and(|extension| extension == "dcm" || extension == "part")
    };
    walkdir::WalkDir::new(volume)
        .into_iter()
        .filter_map(Result::ok)
        .filter(is_image)
        .map(|entry| {
            let path = entry.path().strip_prefix(volume).unwrap().to_path_buf();
            (path, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Method: the power goes before every call of a nightly run. What is listed on the mirror then is whole, nothing of the
/// archive is harmed, and the run goes on to the same end.
#[test]
fn a_mirror_run_survives_a_power_cut_at_every_disk_call() {
    let place = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let instances = &instances()[..4];
    let (calls, answered) = recorded(place.path(), "nightly", instances);
    let root = place.path().join("root");
    let begin = *answered.last().unwrap();
    let mut model = Model::with_folders(&root, &["A", "M"]);
    for (cut, call) in calls.iter().enumerate() {
        for keeps in [Keeps::Nothing, Keeps::Names, Keeps::NamesAndHalf] {
            if cut < begin {
                continue;
            }
            let here = place.path().join(format!("cut{cut}"));
            let volumes = here.join("volumes");
            model.remains(keeps, &root, &volumes);
            let said = format!("cut before call {cut} ({call:?}), keeping {keeps:?}");
            let config = config_with_mirror(&here, &volumes, "nightly");
            let archive = Archive::open(&config, Mode::Create)
                .unwrap_or_else(|error| panic!("{said}: {error}"));
            for instance in instances {
                let uid = &instance.announced.sop_instance_uid;
                let view = archive.view().unwrap();
                let entry = view.snapshot.by_sop(uid).unwrap().expect("known");
                for copy in &entry.record.copies {
                    let volume = match copy.path.is_empty() {
                        true => panic!("{said}: no path"),
                        false => ["A", "M"].map(|name| volumes.join(name).join(&copy.path)),
                    };
                    let is_whole = |path: &PathBuf| {
                        std::fs::read(path).is_ok_and(|bytes| {
                            bytes.len() as u64 == copy.size_bytes
                                && crc32fast::hash(&bytes) == copy.file_crc32
                        })
                    };
                    let count = volume.iter().filter(|path| is_whole(path)).count();
                    assert!(count >= entry.record.copies.len(), "{said}: {uid}");
                }
            }
            mirror(&archive);
            let status = archive.mirror_status(true).unwrap();
            assert_eq!((status.todo_count, status.failed_count), (0, 0), "{said}");
            assert_eq!(archive.status().index.conflicts_count, 0, "{said}");
            drop(archive);
            // No torn file is left anywhere, and no name twice.
            let (a, m) = (images(&volumes.join("A")), images(&volumes.join("M")));
            assert_eq!(a.len(), instances.len(), "{said}");
            assert!(a == m, "{said}: {:?} {:?}", a.keys(), m.keys());
            std::fs::remove_dir_all(&here).unwrap();
        }
        model.call(call);
    }
}

/// Volumes A, M and N below `root`, and a rule that takes everything from A.
fn config_with_retention(folder: &Path, root: &Path) -> Config {
    let config = config_with_mirror(folder, root, "nightly");
    let file = config.file.unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let more = format!(
        "[[volume]]\nname = \"N\"\npath = {:?}\nrole = \"mirror\"\n\
         [[retention.rule]]\nvolume = \"A\"\nolder_than_days = 0\n",
        root.join("N"),
    );
    std::fs::write(&file, text + &more).unwrap();
    Config::load(Some(&file)).unwrap()
}

/// Method: the power goes before every call of a run in which images leave volume A. Every listed copy is whole then, and
/// another run brings it to the same end, with no file left that nobody lists.
#[test]
fn a_retention_run_survives_a_power_cut_at_every_disk_call() {
    let place = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let instances = &instances()[..2];
    let recorder = Arc::new(Recorder::default());
    let root = place.path().join("root");
    for name in ["A", "M", "N"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let leave = WorkVerb::Retention { dry_run: false };
    let begin = {
        let disk = Disk::observed(recorder.clone());
        let config = config_with_retention(&place.path().join("first"), &root);
        let archive = Arc::new(Archive::open_on(&config, Mode::Create, &disk).unwrap());
        for instance in instances {
            store(&archive, instance);
        }
        mirror(&archive);
        let begin = recorder.count();
        work(&archive, leave.clone());
        assert_eq!(images(&root.join("A")).len(), 0);
        begin
    };
    let calls = recorder.calls();
    let mut model = Model::with_folders(&root, &["A", "M", "N"]);
    let mut cuts = 0;
    for (cut, call) in calls.iter().enumerate() {
        for keeps in [Keeps::Nothing, Keeps::Names, Keeps::Everything] {
            if cut < begin {
                continue;
            }
            cuts += 1;
            let here = place.path().join(format!("cut{cut}"));
            let volumes = here.join("volumes");
            model.remains(keeps, &root, &volumes);
            let said = format!("cut before call {cut} ({call:?}), keeping {keeps:?}");
            let config = config_with_retention(&here, &volumes);
            let archive = Archive::open(&config, Mode::Create)
                .unwrap_or_else(|error| panic!("{said}: {error}"));
            let archive = Arc::new(archive);
            wait_until_whole(&archive);
            let names = ["A", "M", "N"].map(|name| volumes.join(name));
            for instance in instances {
                let uid = &instance.announced.sop_instance_uid;
                assert!(
                    fetch(&archive, uid).as_ref() == Some(&instance.data_set),
                    "{said}: {uid}"
                );
                let view = archive.view().unwrap();
                let entry = view.snapshot.by_sop(uid).unwrap().expect("known");
                assert!(entry.record.copies.len() >= 2, "{said}: {uid}");
                for copy in &entry.record.copies {
                    let is_whole = |volume: &PathBuf| {
                        std::fs::read(volume.join(&copy.path)).is_ok_and(|bytes| {
                            bytes.len() as u64 == copy.size_bytes
                                && crc32fast::hash(&bytes) == copy.file_crc32
                        })
                    };
                    let count = names.iter().filter(|volume| is_whole(volume)).count();
                    assert!(count >= entry.record.copies.len(), "{said}: {uid}");
                }
            }
            work(&archive, leave.clone());
            assert_eq!(archive.status().index.conflicts_count, 0, "{said}");
            for instance in instances {
                let uid = &instance.announced.sop_instance_uid;
                assert!(fetch(&archive, uid).as_ref() == Some(&instance.data_set));
            }
            drop(archive);
            let [a, m, n] = names.map(|volume| images(&volume));
            assert_eq!(a.len(), 0, "{said}: {:?}", a.keys());
            assert_eq!(m.len(), instances.len(), "{said}");
            assert!(m == n, "{said}: {:?} {:?}", m.keys(), n.keys());
            std::fs::remove_dir_all(&here).unwrap();
        }
        model.call(call);
    }
    println!("{cuts} power cuts at {} disk calls", calls.len() - begin);
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        match path.is_dir() {
            true => copy_tree(&path, &to.join(name)),
            false if path.is_file() => drop(std::fs::copy(&path, to.join(name)).unwrap()),
            false => {}
        }
    }
}

/// Method: a ledger is damaged in the middle, or has lost its end; its copy is beside the state. Every call of the start that
/// heals it is recorded; for each, what a disk would hold had the power gone just before it is opened again with that copy.
#[test]
fn a_ledger_is_healed_whenever_the_power_goes_while_it_is_being_healed() {
    let harms: [fn(&mut Vec<u8>); 2] = [
        |text| {
            let middle = text.len() / 2;
            text[middle..middle + 300].fill(0);
        },
        |text| text.truncate(text.len() / 3),
    ];
    for harm in harms {
        let place = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let root = place.path().join("volume");
        std::fs::create_dir(&root).unwrap();
        let instances = instances();
        let first = place.path().join("first");
        {
            let archive = Archive::open(&config(&first, &root), Mode::Create).unwrap();
            for instance in &instances {
                store(&archive, instance);
            }
        }
        std::fs::remove_dir_all(first.join("state/index")).unwrap();
        let kept = place.path().join("kept");
        copy_tree(&first.join("state"), &kept);
        let volume_id = std::fs::read_dir(kept.join("ledgers")).unwrap().next();
        let volume_id = volume_id.unwrap().unwrap().file_name();
        let segment = |volume: &Path| {
            let folder = volume.join("ledgers").join(&volume_id);
            folder.join("00000001.jsonl")
        };
        let whole = std::fs::read(segment(&root)).unwrap();
        let mut text = whole.clone();
        harm(&mut text);
        std::fs::write(segment(&root), text).unwrap();

        let mut model = Model::default();
        model.has(&root);
        let recorder = Arc::new(Recorder::default());
        let disk = Disk::observed(recorder.clone());
        drop(Archive::open_on(&config(&first, &root), Mode::Create, &disk).unwrap());
        assert_eq!(std::fs::read(segment(&root)).unwrap(), whole);
        let calls = recorder.calls();
        for cut in 0..=calls.len() {
            for keeps in [
                Keeps::Nothing,
                Keeps::Names,
                Keeps::NamesAndHalf,
                Keeps::Everything,
            ] {
                let here = place.path().join(format!("cut{cut}"));
                let volume = here.join("volume");
                model.remains(keeps, &root, &volume);
                copy_tree(&kept, &here.join("state"));
                let archive = Archive::open(&config(&here, &volume), Mode::Create).unwrap();
                let said = format!(
                    "cut before call {cut} ({:?}), keeping {keeps:?}",
                    calls.get(cut)
                );
                for instance in &instances {
                    let found = fetch(&archive, &instance.announced.sop_instance_uid);
                    assert!(found.as_ref() == Some(&instance.data_set), "{said}");
                }
                assert!(std::fs::read(segment(&volume)).unwrap() == whole, "{said}");
                drop(archive);
                std::fs::remove_dir_all(&here).unwrap();
            }
            if let Some(call) = calls.get(cut) {
                model.call(call);
            }
        }
    }
}
