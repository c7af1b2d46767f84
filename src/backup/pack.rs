//! State into a file.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{BackupError, MANIFEST, Manifest, Packed, hexadecimal};
use crate::archive::{self, read_identity};
use crate::config::Config;
use crate::volume::io::{Disk, DiskFile, Kind};

/// In the state folder, and in no backup: what is made anew from the volumes, or belongs to the process that runs.
const LEFT_OUT: &[&str] = &[
    "index",
    "ledgers",
    "drill",
    "checked",
    "cache",
    "thumbnails",
    super::BEFORE,
    super::COMING,
    "kura.sock",
    "kura.lock",
];
/// Folders below each other; Kura makes two.
const DEPTH_MAX: usize = 8;
const UNDONE: &str = "no backup was made";
/// It holds patients' numbers, and what lets somebody in.
const MODE: u32 = 0o600;

/// `outbox`: a copy of it that nobody writes, where a server has the outbox itself open. `to` must not be there yet.
pub fn write(config: &Config, outbox: Option<&Path>, to: &Path) -> Result<Manifest, BackupError> {
    let disk = Disk::default();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Io {
            path,
            source,
            undone: UNDONE,
        }
    };
    let state = &config.state;
    let identity = match read_identity(&state.join(archive::IDENTITY_FILE)) {
        Ok(identity) => identity,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::NoArchive(state.clone()));
        }
        Err(error) => return Err(failed(state)(error)),
    };
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    if let Some(file) = &config.file {
        files.push((super::CONFIGURATION.to_owned(), file.clone()));
    }
    walk(&disk, state, "", 0, outbox.is_some(), &mut files).map_err(failed(state))?;
    if let Some(outbox) = outbox {
        let name = format!("{}{}", super::STATE, super::OUTBOX);
        files.push((name, outbox.to_owned()));
    }
    files.sort_unstable();
    if disk.entry(to).map_err(failed(to))?.is_some() {
        let there = io::Error::new(io::ErrorKind::AlreadyExists, "it is there already");
        return Err(failed(to)(there));
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let mut manifest = Manifest {
        format: super::FORMAT,
        kura: env!("CARGO_PKG_VERSION").to_owned(),
        made: archive::now(),
        archive_id: identity.archive_id,
        files: Vec::new(),
        left_out: named(config),
    };
    let written = fill(&disk, &part, &files, &mut manifest)
        .and_then(|()| disk.rename_noreplace(&part, to).map_err(failed(to)))
        .and_then(|()| disk.sync_dir(folder_of(to)).map_err(failed(to)));
    if written.is_err() {
        drop(disk.remove(&part));
    }
    written.map(|()| manifest)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Files that the configuration names; they may lie anywhere.
fn named(config: &Config) -> Vec<PathBuf> {
    let coerce = config.coerce.iter().map(|rule| rule.map.clone());
    let rewrite = config.forward.rules.iter();
    let rewrite = rewrite.map(|rule| {
        rule.rewrite
            .as_ref()
            .and_then(|rewrite| rewrite.map.clone())
    });
    let admin = [config.admin.certificate.clone(), config.admin.key.clone()];
    let tls = &config.tls;
    let tls = [&tls.certificate, &tls.key, &tls.client_ca, &tls.peers_ca];
    let secrets = admin.into_iter().chain(tls.map(Clone::clone));
    let mut named: Vec<PathBuf> = coerce.chain(rewrite).chain(secrets).flatten().collect();
    named.sort_unstable();
    named.dedup();
    named
}

fn walk(
    disk: &Disk,
    folder: &Path,
    below: &str,
    depth: usize,
    without_outbox: bool,
    files: &mut Vec<(String, PathBuf)>,
) -> io::Result<()> {
    let entries = match disk.folder(folder) {
        Ok(entries) => entries,
        // A folder may go while it is looked for.
        Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for (name, kind) in entries {
        let Some(name) = name.to_str() else { continue };
        let relative = match below {
            "" => name.to_owned(),
            _ => format!("{below}/{name}"),
        };
        let is_left_out = (depth == 0 && LEFT_OUT.contains(&name))
            || name.ends_with(".new")
            || relative.starts_with("outbox/damaged-")
            || relative.starts_with("outbox/copy")
            || (without_outbox && relative == super::OUTBOX);
        if is_left_out {
            continue;
        }
        match kind {
            Kind::Folder if depth < DEPTH_MAX => {
                let folder = folder.join(name);
                walk(disk, &folder, &relative, depth + 1, without_outbox, files)?;
            }
            Kind::File if files.len() < super::FILES_MAX => {
                files.push((format!("{}{relative}", super::STATE), folder.join(name)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn fill(
    disk: &Disk,
    part: &Path,
    files: &[(String, PathBuf)],
    manifest: &mut Manifest,
) -> Result<(), BackupError> {
    let failed = |path: &Path, source| BackupError::Io {
        path: path.to_owned(),
        source,
        undone: UNDONE,
    };
    let file = disk.open_or_create(part).map_err(|e| failed(part, e))?;
    let begun = file.set_len(0).and_then(|()| file.set_mode(MODE));
    begun.map_err(|error| failed(part, error))?;
    let out = Out { file, at: 0 };
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    for (name, path) in files {
        let mut file = match disk.open_read(path) {
            Ok(file) => file,
            // A request that was answered meanwhile, say.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(path, error)),
        };
        // What is written behind this end while it is read belongs to the next backup.
        let bytes = file.len().map_err(|error| failed(path, error))?;
        let mode = file.mode().map_err(|error| failed(path, error))?;
        let mut reader = Hashed {
            inner: Read::take(&mut file, bytes),
            hash: Sha256::new(),
            count: 0,
        };
        append(&mut tar, name, bytes, mode, &mut reader).map_err(|error| failed(path, error))?;
        if reader.count != bytes {
            let shorter = io::Error::other("it became shorter while it was read; try again");
            return Err(failed(path, shorter));
        }
        manifest.files.push(Packed {
            name: name.clone(),
            bytes,
            sha256: hexadecimal(&reader.hash.finalize()),
        });
    }
    let end = serde_json::to_vec_pretty(manifest).expect("texts and numbers always serialize");
    let ended = append(&mut tar, MANIFEST, end.len() as u64, MODE, &mut &end[..])
        .and_then(|()| tar.into_inner())
        .and_then(|gzip| gzip.finish())
        .and_then(|out| out.file.sync_data());
    ended.map_err(|error| failed(part, error))
}

fn append(
    tar: &mut tar::Builder<GzEncoder<Out>>,
    name: &str,
    bytes: u64,
    mode: u32,
    reader: &mut dyn Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(mode);
    header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0));
    tar.append_data(&mut header, name, reader)
}

struct Out {
    file: DiskFile,
    at: u64,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
    count: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}
