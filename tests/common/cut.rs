//! A model of a disk that forgets what was not flushed, and instances to store on it.
//!
//! This part of what tests share drives the library: power is cut at calls that only the library's disk shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kura::archive::{Announced, Archive, Selected, WorkStatus, WorkVerb};
use kura::volume::io::{Observer, Op};

/// One mutating call, as the disk saw it.
#[derive(Debug, Clone)]
pub enum Call {
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
pub struct Recorder {
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
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

/// A disk writes so many bytes whole or not at all.
const BLOCK: usize = 4096;

/// What a disk keeps of calls that were not flushed. Real file systems lie anywhere between these.
#[derive(Debug, Clone, Copy)]
pub enum Keeps {
    /// Nothing that was not flushed: neither names nor bytes.
    Nothing,
    /// Every name, but only flushed bytes.
    Names,
    /// Every name, and half of the bytes after the last flush.
    NamesAndHalf,
    /// Every name, and every second block of what was written after the last flush.
    NamesAndBlocks,
    Everything,
}

/// A file system with two memories: what is visible, and what is on the medium.
#[derive(Default)]
pub struct Model {
    /// Files by number: visible and durable content.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names by path; `None` is a folder.
    visible: BTreeMap<PathBuf, Option<usize>>,
    durable: BTreeMap<PathBuf, Option<usize>>,
    /// Since the last flush of one of their folders. A file system with a log writes both sides of a rename at once.
    renames: Vec<(PathBuf, PathBuf)>,
}

impl Model {
    /// These folders were there before the first call.
    pub fn with_folders(root: &Path, names: &[&str]) -> Model {
        let mut model = Model::default();
        for name in names {
            model.call(&Call::CreateDir(root.join(name)));
        }
        model.call(&Call::SyncFileSystem(root.to_path_buf()));
        model
    }

    fn file(&mut self, path: &Path) -> &mut (Vec<u8>, Vec<u8>) {
        let number = self.visible[path].expect("a file");
        &mut self.files[number]
    }

    pub fn call(&mut self, call: &Call) {
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
                let (done, rest) = std::mem::take(&mut self.renames)
                    .into_iter()
                    .partition(|(from, to)| [from, to].map(|p| p.parent()).contains(&Some(folder)));
                self.renames = rest;
                for (from, to) in done {
                    if let Some(node) = self.durable.remove(&from) {
                        self.durable.insert(to, node);
                    }
                }
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
                    self.renames.push((from.clone(), to.clone()));
                }
            }
            // A folder goes only when it is empty.
            Call::Remove(path) => {
                if !self
                    .visible
                    .keys()
                    .any(|other| other.parent() == Some(path))
                {
                    self.visible.remove(path);
                }
            }
        }
    }

    /// Writes what is left after a power cut into `target`, which stands for `root`.
    pub fn remains(&self, keeps: Keeps, root: &Path, target: &Path) {
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
                            Keeps::NamesAndBlocks => {
                                let mut content = durable.clone();
                                content.resize(visible.len(), 0);
                                let blocks = content.chunks_mut(BLOCK).zip(visible.chunks(BLOCK));
                                for (to, from) in blocks.step_by(2) {
                                    to.copy_from_slice(from);
                                }
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

impl Model {
    /// All that is in a folder by now is on the medium.
    pub fn has(&mut self, folder: &Path) {
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

pub struct Instance {
    pub announced: Announced,
    pub data_set: Vec<u8>,
}

pub fn instances() -> Vec<Instance> {
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

pub fn store(archive: &Archive, instance: &Instance) {
    let mut receiving = archive.begin(instance.announced.clone()).unwrap();
    for piece in instance.data_set.chunks(1_000) {
        receiving.write(piece).unwrap();
    }
    receiving.finish().unwrap().answered();
}

pub fn fetch(archive: &Archive, sop_instance_uid: &str) -> Option<Vec<u8>> {
    let view = archive.view().unwrap();
    let entry = view.snapshot.by_sop(sop_instance_uid).unwrap()?;
    let mut fetched = archive.fetch(&Selected::of(entry).unwrap()).unwrap();
    let mut bytes = vec![0; fetched.length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += fetched.read(&mut bytes[filled..]).unwrap();
    }
    Some(bytes)
}

/// Waits until the index knows every line.
pub fn wait_until_whole(archive: &Archive) {
    let begun = std::time::Instant::now();
    while archive.view().unwrap().rebuilding_percent.is_some() {
        assert!(begun.elapsed().as_secs() < 60, "the index is not read in");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Long work to its end, which must be a good one.
pub fn work(archive: &Arc<Archive>, verb: WorkVerb) -> WorkStatus {
    wait_until_whole(archive);
    archive.work_verb(verb).unwrap();
    let begun = std::time::Instant::now();
    loop {
        let status = archive.work_verb(WorkVerb::Look).unwrap().expect("work");
        if !status.running {
            assert_eq!(status.error, None);
            return status;
        }
        assert!(begun.elapsed().as_secs() < 60, "{status:?}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
