//! A power cut at every disk call in turn, on a model of a disk that forgets what was not flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kura::archive::{Announced, Archive, MirrorVerb, Mode};
use kura::config::Config;
use kura::volume::io::{Disk, Observer, Op};

/// One mutating call, as the disk saw it.
#[derive(Debug, Clone)]
enum Call {
    CreateDir(PathBuf),
    CreateFile(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    SyncFile(PathBuf),
    SyncDir(PathBuf),
    SyncFileSystem(PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<Call>>,
}

impl Observer for Recorder {
    fn before(&self, op: &Op) -> std::io::Result<()> {
        let call = match op {
            Op::CreateDir(path) => Call::CreateDir(path.to_path_buf()),
            Op::CreateFile(path) => Call::CreateFile(path.to_path_buf()),
            Op::Write {
                path,
                offset,
                bytes,
            } => Call::Write(path.to_path_buf(), *offset, bytes.to_vec()),
            Op::SetLen { path, len } => Call::SetLen(path.to_path_buf(), *len),
            Op::SyncFile(path) => Call::SyncFile(path.to_path_buf()),
            Op::SyncDir(path) => Call::SyncDir(path.to_path_buf()),
            Op::SyncFileSystem(path) => Call::SyncFileSystem(path.to_path_buf()),
            Op::Link { from, to } => Call::Link(from.to_path_buf(), to.to_path_buf()),
            Op::Rename { from, to } => Call::Rename(from.to_path_buf(), to.to_path_buf()),
            Op::Remove(path) => Call::Remove(path.to_path_buf()),
        };
        self.calls.lock().unwrap().push(call);
        Ok(())
    }
}

/// What a disk keeps of calls that were not flushed. Real file systems lie anywhere between these.
#[derive(Debug, Clone, Copy)]
enum Keeps {
    /// Nothing that was not flushed: neither names nor bytes.
    Nothing,
    /// Every name, but only flushed bytes.
    Names,
    /// Every name, and half of the bytes after the last flush.
    NamesAndHalf,
    Everything,
}

/// A file system with two memories: what is visible, and what is on the medium.
#[derive(Default)]
struct Model {
    /// Files by number: visible and durable content.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names by path; `None` is a folder.
    visible: BTreeMap<PathBuf, Option<usize>>,
    durable: BTreeMap<PathBuf, Option<usize>>,
}

impl Model {
    /// Folders A and M were there before the first call.
    fn with_folders(root: &Path) -> Model {
        let mut model = Model::default();
        for name in ["A", "M"] {
            model.call(&Call::CreateDir(root.join(name)));
        }
        model.call(&Call::SyncFileSystem(root.to_path_buf()));
        model
    }

    fn file(&mut self, path: &Path) -> &mut (Vec<u8>, Vec<u8>) {
        let number = self.visible[path].expect("a file");
        &mut self.files[number]
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::CreateDir(path) => {
                self.visible.entry(path.clone()).or_insert(None);
            }
            Call::CreateFile(path) => {
                self.files.push(Default::default());
                let number = self.files.len() - 1;
                self.visible.entry(path.clone()).or_insert(Some(number));
            }
            Call::Write(path, offset, bytes) => {
                let content = &mut self.file(path).0;
                let end = *offset as usize + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset as usize..end].copy_from_slice(bytes);
            }
            Call::SetLen(path, len) => self.file(path).0.resize(*len as usize, 0),
            Call::SyncFile(path) => {
                let file = self.file(path);
                file.1 = file.0.clone();
            }
            Call::SyncDir(folder) => {
                let below = |path: &Path| path.parent() == Some(folder);
                self.durable.retain(|path, _| !below(path));
                let names: Vec<_> = self
                    .visible
                    .iter()
                    .filter(|(path, _)| below(path))
                    .map(|(path, node)| (path.clone(), *node))
                    .collect();
                self.durable.extend(names);
            }
            Call::SyncFileSystem(root) => {
                self.durable.retain(|path, _| !path.starts_with(root));
                let below = self
                    .visible
                    .iter()
                    .filter(|(path, _)| path.starts_with(root));
                for (path, node) in below {
                    self.durable.insert(path.clone(), *node);
                    if let Some(number) = node {
                        let file = &mut self.files[*number];
                        file.1 = file.0.clone();
                    }
                }
            }
            Call::Link(from, to) => {
                let number = self.visible[from];
                // A link onto a name that is taken fails and changes nothing.
                self.visible.entry(to.clone()).or_insert(number);
            }
            Call::Rename(from, to) => {
                if let Some(node) = self.visible.remove(from) {
                    self.visible.insert(to.clone(), node);
                }
            }
            Call::Remove(path) => {
                self.visible.remove(path);
            }
        }
    }

    /// Writes what is left after a power cut into `target`, which stands for `root`.
    fn remains(&self, keeps: Keeps, root: &Path, target: &Path) {
        let names = match keeps {
            Keeps::Nothing => &self.durable,
            _ => &self.visible,
        };
        let mut linked: BTreeMap<usize, PathBuf> = BTreeMap::new();
        let mut there = BTreeSet::from([root.to_path_buf()]);
        std::fs::create_dir_all(target).unwrap();
        for (path, node) in names {
            let Ok(relative) = path.strip_prefix(root) else {
                continue;
            };
            if relative.as_os_str().is_empty() {
                continue;
            }
            // A name in a folder that is not there itself is not there either.
            if !there.contains(path.parent().unwrap()) {
                continue;
            }
            let path_there = target.join(relative);
            match node {
                None => {
                    std::fs::create_dir_all(&path_there).unwrap();
                    there.insert(path.clone());
                }
                Some(number) => match linked.get(number) {
                    Some(first) => std::fs::hard_link(first, &path_there).unwrap(),
                    None => {
                        let (visible, durable) = &self.files[*number];
                        let content = match keeps {
                            Keeps::Nothing | Keeps::Names => durable.clone(),
                            Keeps::Everything => visible.clone(),
                            Keeps::NamesAndHalf => {
                                let grown = visible.len().saturating_sub(durable.len()) / 2;
                                let mut content = durable.clone();
                                content.extend_from_slice(
                                    &visible[durable.len().min(visible.len())..][..grown],
                                );
                                content
                            }
                        };
                        std::fs::write(&path_there, content).unwrap();
                        linked.insert(*number, path_there);
                    }
                },
            }
        }
    }
}

fn config(folder: &Path, volume: &Path) -> Config {
    let text = format!(
        "state = {:?}\n[[volume]]\nname = \"A\"\npath = {volume:?}\nrole = \"archive\"\n",
        folder.join("state")
    );
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("kura.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file)).unwrap()
}

struct Instance {
    announced: Announced,
    data_set: Vec<u8>,
}

fn instances() -> Vec<Instance> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    [
        "petct-ct-1.dcm",
        "petct-ct-2.dcm",
        "petct-pt-1.dcm",
        "name-ja-87.dcm",
        "no-study-date.dcm",
    ]
    .iter()
    .map(|name| {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let (meta, offset) = kura::dicom::read_meta(&mut bytes.as_slice()).unwrap();
        let announced = Announced {
            sop_class_uid: meta.sop_class_uid,
            sop_instance_uid: meta.sop_instance_uid,
            transfer_syntax: meta.transfer_syntax,
            calling_ae_title: "TESTER".to_owned(),
            prefer: None,
        };
        Instance {
            announced,
            data_set: bytes[offset as usize..].to_vec(),
        }
    })
    .collect()
}

fn store(archive: &Archive, instance: &Instance) {
    let mut receiving = archive.begin(instance.announced.clone()).unwrap();
    for piece in instance.data_set.chunks(1_000) {
        receiving.write(piece).unwrap();
    }
    receiving.finish().unwrap().answered();
}

fn fetch(archive: &Archive, sop_instance_uid: &str) -> Option<Vec<u8>> {
    let entry = archive
        .view()
        .unwrap()
        .snapshot
        .by_sop(sop_instance_uid)
        .unwrap()?;
    let mut fetched = archive.fetch(sop_instance_uid, &entry.record).unwrap();
    let mut bytes = vec![0; fetched.length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += fetched.read(&mut bytes[filled..]).unwrap();
    }
    Some(bytes)
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
            acknowledged_at.push(recorder.calls.lock().unwrap().len());
        }
    }
    let calls = recorder.calls.lock().unwrap().clone();
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

/// Volumes A and M below `root`, each a disk of its own as far as the archive can tell.
fn config_with_mirror(folder: &Path, root: &Path, when: &str) -> Config {
    let text = format!(
        "state = {:?}\n[mirror]\nallow_same_device = true\nwhen = {when:?}\nwindow = \"03:00-03:01\"\n\
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
        answered.push(recorder.calls.lock().unwrap().len());
    }
    mirror(&archive);
    drop(archive);
    let calls = recorder.calls.lock().unwrap().clone();
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
    let mut model = Model::with_folders(&root);
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
    let mut model = Model::with_folders(&root);
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

impl Model {
    /// All that is in a folder by now is on the medium.
    fn has(&mut self, folder: &Path) {
        self.durable.insert(folder.to_path_buf(), None);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.has(&path);
                continue;
            }
            let content = std::fs::read(&path).unwrap();
            self.files.push((content.clone(), content));
            self.durable.insert(path, Some(self.files.len() - 1));
        }
        self.visible = self.durable.clone();
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
        let calls = recorder.calls.lock().unwrap().clone();
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
