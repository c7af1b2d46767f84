//! Holds the tree of a volume against its ledger, as the index knows it, while the archive goes on receiving.
//!
//! First every listed file is looked at, then the tree is walked for files that are not listed. Between the two only
//! eight bytes a file are kept. What looks wrong is looked at again when nobody is storing that instance.

use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::index::{Copy, InstanceEntry, Snapshot};
use crate::volume::io::Kind;

use super::Archive;
use super::at_rest::{self, AtRest, Heading, Unfit};
use super::in_place::Unlisted;
use super::work::{Depth, Job, Stop, VolumeReport};

/// Threads that read files: a disk can order what it is asked for, and a second processor helps with headers.
const THREADS_COUNT: usize = 4;
/// Listed files taken from the index at a time, to the end of their study.
const CHUNK_COUNT: usize = 4_096;
/// Unlisted files handled at a time; they share a flush.
const BATCH_COUNT: usize = 256;

/// What is done with a file without a line.
#[derive(Clone, Copy)]
pub enum Repair {
    No,
    /// It gets its line; the word is the sender in it, where the file names none.
    Yes(&'static str),
}

/// A listed file and what the ledger says of it.
struct Expected {
    copy: Copy,
    study: String,
    series: String,
    sop: String,
}

/// A kind of finding, and the reason.
type Verdict = (&'static str, String);

impl Archive {
    /// Looks at every listed file of a volume. Returns the hashes of their paths, sorted.
    pub(super) fn survey_listed(
        &self,
        volume_id: &str,
        depth: Depth,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<Vec<u64>, Stop> {
        let mut hashes = Vec::new();
        let mut after: Option<String> = None;
        loop {
            job.go_on()?;
            let mut chunk = Vec::new();
            let more = {
                let snapshot = self.whole_index(job)?;
                let taken = take_chunk(&snapshot, volume_id, after.as_deref(), &mut chunk);
                taken.inspect_err(|error| self.index_failed(error))?
            };
            hashes.extend(
                chunk
                    .iter()
                    .map(|one: &Chunked| hash(&one.expected.copy.path)),
            );
            self.examine_all(volume_id, &chunk, depth, job, report)?;
            match chunk.pop() {
                Some(last) if more => after = Some(last.study_of_entry()),
                _ => break,
            }
        }
        let snapshot = self.whole_index(job)?;
        let hidden = hidden_paths(&snapshot, volume_id, &|| job.go_on().is_ok());
        let hidden = hidden.inspect_err(|error| self.index_failed(error))?;
        job.go_on()?;
        report.hidden = hidden.len() as u64;
        hashes.extend(hidden);
        hashes.sort_unstable();
        Ok(hashes)
    }

    /// The index, once it knows every line.
    pub(super) fn whole_index(&self, job: &Job) -> Result<Snapshot, Stop> {
        loop {
            let view = self.view()?;
            if view.rebuilding_percent.is_none() {
                return Ok(view.snapshot);
            }
            drop(view);
            job.go_on()?;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn examine_all(
        &self,
        volume_id: &str,
        chunk: &[Chunked],
        depth: Depth,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let suspects = Mutex::new(Vec::new());
        in_threads(chunk.len(), |at| {
            job.go_on()?;
            if let Err(verdict) = self.examine(volume_id, &chunk[at].expected, depth, job)? {
                suspects
                    .lock()
                    .expect("no panic while held")
                    .push((at, verdict));
            }
            job.did(1);
            Ok(())
        })?;
        let mut suspects = suspects.into_inner().expect("no panic while held");
        suspects.sort_by_key(|(at, _)| *at);
        report.files += chunk.len() as u64;
        report.ok += (chunk.len() - suspects.len()) as u64;
        for (at, (kind, reason)) in suspects {
            let expected = &chunk[at].expected;
            // Moved away meanwhile, perhaps.
            match self.is_listed(volume_id, &expected.copy.path, &expected.sop)? {
                true => report.find(kind, &expected.copy.path, reason),
                false => report.files -= 1,
            }
        }
        Ok(())
    }

    fn examine(
        &self,
        volume_id: &str,
        expected: &Expected,
        depth: Depth,
        job: &Job,
    ) -> Result<Result<(), Verdict>, Stop> {
        // Asked for each file, so that the volume can be ejected in the middle.
        let volume = self.shelf.here(volume_id).ok_or_else(away)?;
        let copy = &expected.copy;
        let missing = || ("missing", "there is no such file".to_owned());
        let wrong = |reason: String| Ok(Err(("wrong", reason)));
        let size = |size: u64| format!("{size} bytes where the ledger says {}", copy.size_bytes);
        if depth == Depth::Names {
            return match volume.entry(&copy.path) {
                Ok(None) => Ok(Err(missing())),
                Ok(Some(entry)) if !entry.is_file => wrong("it is not a file".to_owned()),
                Ok(Some(entry)) if entry.len != copy.size_bytes => wrong(size(entry.len)),
                Ok(Some(_)) => Ok(Ok(())),
                Err(error) => wrong(format!("cannot be looked at: {error}")),
            };
        }
        let file = match volume.open_file(&copy.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(missing()));
            }
            Err(error) => return wrong(format!("cannot be opened: {error}")),
        };
        match file.len() {
            Ok(len) if len != copy.size_bytes => return wrong(size(len)),
            Ok(_) => {}
            Err(error) => return wrong(format!("cannot be looked at: {error}")),
        }
        match at_rest::read_heading(&file, copy.size_bytes) {
            Ok(found) => {
                for (name, found, said) in [
                    ("SOP Instance UID", &found.sop_instance_uid, &expected.sop),
                    ("Study Instance UID", &found.study_uid, &expected.study),
                    ("Series Instance UID", &found.series_uid, &expected.series),
                ] {
                    if found != said {
                        return wrong(format!("{name} {found} where the ledger says {said}"));
                    }
                }
                if found.data_offset != copy.data_offset {
                    return wrong(format!(
                        "its data set begins at byte {} where the ledger says {}",
                        found.data_offset, copy.data_offset
                    ));
                }
            }
            Err(reason) => return wrong(reason.to_string()),
        }
        if depth == Depth::Checksums {
            let go_on = |bytes| job.read(bytes);
            match at_rest::checksums(&file, copy.data_offset, &go_on) {
                Ok(found) if found == (copy.crc32, copy.file_crc32) => {}
                Ok((data, _)) if data != copy.crc32 => {
                    return wrong(format!(
                        "checksum of the data set {data:08x} where the ledger says {:08x}",
                        copy.crc32
                    ));
                }
                Ok((_, file)) => {
                    return wrong(format!(
                        "checksum of the file {file:08x} where the ledger says {:08x}; the data set is good",
                        copy.file_crc32
                    ));
                }
                Err(error) => {
                    job.go_on()?;
                    return wrong(format!("cannot be read: {error}"));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Walks the tree of a volume for files that are not listed.
    pub(super) fn survey_tree(
        &self,
        volume_id: &str,
        listed: &[u64],
        repair: Repair,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let mut unlisted = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            job.go_on()?;
            let volume = self.shelf.here(volume_id).ok_or_else(away)?;
            let mut names = match volume.folder(&folder) {
                Ok(names) => names,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    report.find(
                        "extra",
                        &folder,
                        format!("a folder that cannot be read: {error}"),
                    );
                    continue;
                }
            };
            names.retain(|(name, _)| !volume.is_own(&folder, name));
            drop(volume);
            names.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
            let mut below = Vec::new();
            for (name, kind) in names.into_iter().rev() {
                let path = match name.to_str() {
                    Some(name) if folder.is_empty() => name.to_owned(),
                    Some(name) => format!("{folder}/{name}"),
                    None => {
                        let shown = format!("{folder}/{}", name.to_string_lossy());
                        report.find("extra", &shown, "its name is not UTF-8".to_owned());
                        continue;
                    }
                };
                match kind {
                    Kind::Folder => below.push(path),
                    Kind::Other => {
                        report.find(
                            "extra",
                            &path,
                            "a link or the like, not followed".to_owned(),
                        );
                    }
                    Kind::File => {
                        job.did(1);
                        if listed.binary_search(&hash(&path)).is_err() {
                            unlisted.push(path);
                        }
                        if unlisted.len() >= BATCH_COUNT {
                            let batch = std::mem::take(&mut unlisted);
                            self.settle_unlisted(volume_id, batch, repair, job, report)?;
                        }
                    }
                }
            }
            folders.extend(below.into_iter().rev());
        }
        self.settle_unlisted(volume_id, unlisted, repair, job, report)
    }

    fn settle_unlisted(
        &self,
        volume_id: &str,
        paths: Vec<String>,
        repair: Repair,
        job: &Job,
        report: &mut VolumeReport,
    ) -> Result<(), Stop> {
        let read = Mutex::new(Vec::new());
        in_threads(paths.len(), |at| {
            job.go_on()?;
            let volume = self.shelf.here(volume_id).ok_or_else(away)?;
            let found = volume
                .open_file(&paths[at])
                .map_err(Unfit::from)
                .and_then(|file| match repair {
                    Repair::No => at_rest::read_heading(&file, file.len()?).map(Read::Heading),
                    Repair::Yes(_) => at_rest::read_whole(&file, &|bytes| job.read(bytes))
                        .map(|whole| Read::Whole(Box::new(whole))),
                });
            let mut read = read.lock().expect("no panic while held");
            read.push((at, found));
            Ok(())
        })?;
        let mut read = read.into_inner().expect("no panic while held");
        read.sort_by_key(|(at, _)| *at);
        let mut found = Vec::new();
        for (at, outcome) in read {
            let path = &paths[at];
            match outcome {
                // Taken back meanwhile, by an instance that went elsewhere.
                Err(Unfit::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(reason) => {
                    job.go_on()?;
                    report.find("extra", path, reason.to_string());
                }
                Ok(Read::Whole(file)) => found.push(Unlisted {
                    path: path.clone(),
                    received: None,
                    file: *file,
                }),
                Ok(Read::Heading(heading)) => {
                    if !self.is_listed(volume_id, path, &heading.sop_instance_uid)? {
                        let reason =
                            format!("instance {}, without a line", heading.sop_instance_uid);
                        report.find("extra", path, reason);
                    }
                }
            }
        }
        let Repair::Yes(from) = repair else {
            return Ok(());
        };
        if found.is_empty() {
            return Ok(());
        }
        drop(self.whole_index(job)?);
        let listed = self
            .list_in_place(volume_id, found, from)
            .map_err(|error| Stop::Failed(error.to_string()))?;
        report.count(&listed);
        Ok(())
    }
}

enum Read {
    Heading(Heading),
    Whole(Box<AtRest>),
}

/// An expected file with the study it was found under.
struct Chunked {
    expected: Expected,
    /// None: that of the file.
    entry_study: Option<String>,
}

impl Chunked {
    fn study_of_entry(self) -> String {
        self.entry_study.unwrap_or(self.expected.study)
    }
}

/// Listed files of whole studies, until there are enough; whether there are more.
fn take_chunk(
    snapshot: &Snapshot,
    volume_id: &str,
    after: Option<&str>,
    chunk: &mut Vec<Chunked>,
) -> Result<bool, crate::index::IndexError> {
    let mut study = String::new();
    let mut more = false;
    snapshot.on_volume(volume_id, after, &mut |entry| {
        if chunk.len() >= CHUNK_COUNT && entry.study_instance_uid != study {
            more = true;
            return ControlFlow::Break(());
        }
        study.clone_from(&entry.study_instance_uid);
        expected_of(volume_id, entry, chunk);
        ControlFlow::Continue(())
    })?;
    Ok(more)
}

fn expected_of(volume_id: &str, entry: InstanceEntry, into: &mut Vec<Chunked>) {
    let InstanceEntry {
        study_instance_uid,
        series_instance_uid,
        sop_instance_uid,
        record,
    } = entry;
    for other in record.others {
        for copy in other.copies {
            if copy.volume_id == volume_id {
                into.push(Chunked {
                    expected: Expected {
                        copy,
                        study: other.study_instance_uid.clone(),
                        series: other.series_instance_uid.clone(),
                        sop: sop_instance_uid.clone(),
                    },
                    entry_study: Some(study_instance_uid.clone()),
                });
            }
        }
    }
    for copy in record.copies {
        if copy.volume_id == volume_id {
            into.push(Chunked {
                expected: Expected {
                    copy,
                    study: study_instance_uid.clone(),
                    series: series_instance_uid.clone(),
                    sop: sop_instance_uid.clone(),
                },
                entry_study: None,
            });
        }
    }
}

fn away() -> Stop {
    Stop::Failed("the volume went away".to_owned())
}

/// Hashes of the paths of files on a volume that corrections hide: nobody looks at them, and they are not foreign.
pub(super) fn hidden_paths(
    snapshot: &Snapshot,
    volume_id: &str,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<u64>, crate::index::IndexError> {
    let mut hashes = Vec::new();
    snapshot.hidden_on(volume_id, None, &mut |_, hidden| {
        let copies = hidden.contents.iter().flat_map(|content| &content.copies);
        let here = copies.filter(|copy| copy.volume_id == volume_id);
        hashes.extend(here.map(|copy| hash(&copy.path)));
        match go_on() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(hashes)
}

pub(super) fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_bytes());
    hasher.finish()
}

/// Does `f` for every number below `count`, in a few threads; the first error ends all.
pub(super) fn in_threads(
    count: usize,
    f: impl Fn(usize) -> Result<(), Stop> + Sync,
) -> Result<(), Stop> {
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok(());
            }
            if let Err(stop) = f(at) {
                next.store(count, Ordering::Relaxed);
                return Err(stop);
            }
        }
    };
    if count < 2 {
        return work();
    }
    std::thread::scope(|scope| {
        // One that cannot be begun is done without.
        let threads: Vec<_> = (1..THREADS_COUNT.min(count))
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let own = work();
        // The scope waits for all of them, also after an error.
        let others = threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        own.and(others)
    })
}
