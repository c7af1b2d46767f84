//! A file read, checked whole, and only then put in place.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::{
    BYTES_MAX, BackupError, CONFIGURATION, CONFIGURATION_BYTES_MAX, FILES_MAX, FORMAT, MANIFEST,
    MANIFEST_BYTES_MAX, Manifest, STATE, hexadecimal,
};
use crate::archive::{IDENTITY_FILE, Identity, identity_of, read_identity};
use crate::config::{Config, edit};
use crate::volume::io::{Disk, check_relative};
use crate::volume::{LabelState, label_of, layout};

const UNDONE: &str = "nothing was changed";
const HALF_DONE: &str = "not everything was put in place. Run the same command again";
const PIECE_BYTES: usize = 256 << 10;
/// Below the state folder, and never another's: they may be newer than the backup, and nothing else has them.
const KEPT_WHERE_THERE: &str = "state/adopted/";

/// What a restore would do.
pub struct Plan {
    pub manifest: Manifest,
    /// Where the configuration goes; absent: there is none in the backup.
    pub config_to: Option<PathBuf>,
    pub state: PathBuf,
    /// Names in the backup of what replaces something else that is there.
    pub replaces: Vec<String>,
    /// Of what is not there yet.
    pub adds: Vec<String>,
    /// Of what stays as it is here, with the reason.
    pub keeps: Vec<(String, String)>,
    file: PathBuf,
    /// Of the configuration in the backup.
    text: Vec<u8>,
}

pub struct Restored {
    /// Where what was replaced lies now; absent: nothing was.
    pub before: Option<PathBuf>,
}

/// Reads the whole backup, and changes nothing. `config_file`: where the configuration is to be, or is.
pub fn plan(file: &Path, config_file: &Path, other_archive: bool) -> Result<Plan, BackupError> {
    let checked = check(file)?;
    let Checked {
        manifest,
        text,
        identity,
    } = checked;
    let in_it = manifest.files.iter().any(|file| file.name == CONFIGURATION);
    let config = match in_it {
        true => {
            let utf8 = String::from_utf8_lossy(&text);
            Config::of_text_at(&utf8, config_file).map_err(|reason| BackupError::Configuration {
                reason,
                kura: manifest.kura.clone(),
            })?
        }
        false => {
            let there = Some(config_file).filter(|file| exists(file));
            Config::load(there).map_err(|error| BackupError::Open(error.to_string()))?
        }
    };
    let state = config.state.clone();
    let there = present_identity(&config)?;
    if let Some((here, present)) = &there
        && present.archive_id != manifest.archive_id
        && !other_archive
    {
        return Err(BackupError::OtherArchive {
            here: here.clone(),
            found: present.archive_id.clone(),
            expected: manifest.archive_id.clone(),
        });
    }
    let mut plan = Plan {
        config_to: in_it.then(|| config_file.to_owned()),
        state,
        replaces: Vec::new(),
        adds: Vec::new(),
        keeps: Vec::new(),
        file: file.to_owned(),
        text,
        manifest,
    };
    for packed in &plan.manifest.files {
        let name = &packed.name;
        let target = plan.target(name);
        let newer = there.as_ref().filter(|(_, present)| {
            let is_it = name.strip_prefix(STATE) == Some(IDENTITY_FILE);
            let same = present.archive_id == plan.manifest.archive_id;
            is_it
                && same
                && identity
                    .as_ref()
                    .is_some_and(|old| old.revision < present.revision)
        });
        if let Some((here, _)) = newer {
            let why = format!("{} knows of later changes of the volumes", here.display());
            plan.keeps.push((name.clone(), why));
        } else if !exists(&target) {
            plan.adds.push(name.clone());
        } else if name.starts_with(KEPT_WHERE_THERE) {
            let why = "what is there may be newer".to_owned();
            plan.keeps.push((name.clone(), why));
        } else if sha256_of(&target).is_ok_and(|hash| hash == packed.sha256) {
            let why = "it is the same".to_owned();
            plan.keeps.push((name.clone(), why));
        } else {
            plan.replaces.push(name.clone());
        }
    }
    Ok(plan)
}

impl Plan {
    fn target(&self, name: &str) -> PathBuf {
        match (name.strip_prefix(STATE), &self.config_to) {
            (Some(relative), _) => self.state.join(relative),
            (None, Some(config)) => config.clone(),
            (None, None) => self.state.join(name),
        }
    }
}

/// Does it. The state folder is locked by the caller; run again after a failure it ends the same.
pub fn restore(plan: &Plan) -> Result<Restored, BackupError> {
    let disk = Disk::default();
    let failed = |path: &Path, undone: &'static str| {
        let path = path.to_owned();
        move |source| BackupError::Io {
            path,
            source,
            undone,
        }
    };
    let coming = plan.state.join(super::COMING);
    let wanted = |name: &str| {
        let named = |names: &[String]| names.iter().any(|other| other == name);
        named(&plan.replaces) || named(&plan.adds)
    };
    // Everything lies beside, durable, before the first name changes.
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    each(&plan.file, &mut |name, mode, reader| {
        if name == MANIFEST || name == CONFIGURATION || !wanted(name) {
            return Ok(());
        }
        let path = coming.join(format!("{:08}", files.len()));
        let copied = (|| {
            disk.create_dir_durable(&coming)?;
            let file = disk.open_or_create(&path)?;
            file.set_len(0)?;
            file.set_mode(mode & 0o770)?;
            let (mut at, mut piece) = (0, vec![0; PIECE_BYTES]);
            loop {
                let count = reader.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                file.write_at(at, &piece[..count])?;
                at += count as u64;
            }
            file.sync_data()
        })();
        copied.map_err(failed(&path, UNDONE))?;
        files.push((name.to_owned(), path));
        Ok(())
    })?;
    let at = crate::archive::now().replace([':', '.'], "-");
    let before = plan.state.join(super::BEFORE).join(at);
    let aside = |name: &str, target: &Path| -> io::Result<()> {
        if disk.entry(target)?.is_none() {
            return Ok(());
        }
        let kept = before.join(name.strip_prefix(STATE).unwrap_or(name));
        disk.create_dir_durable(kept.parent().unwrap_or(&before))?;
        disk.rename(target, &kept)?;
        disk.sync_dir(kept.parent().unwrap_or(&before))
    };
    for (name, path) in &files {
        let target = plan.target(name);
        let placed = (|| {
            let folder = target.parent().unwrap_or(&plan.state).to_owned();
            disk.create_dir_durable(&folder)?;
            aside(name, &target)?;
            disk.rename(path, &target)?;
            disk.sync_dir(&folder)
        })();
        placed.map_err(failed(&target, HALF_DONE))?;
    }
    // Last: with the old one the next start is the one that there would have been.
    if let Some(config) = &plan.config_to
        && wanted(CONFIGURATION)
    {
        let placed = (|| {
            if let Ok(old) = disk.read_small(config, CONFIGURATION_BYTES_MAX) {
                disk.create_dir_durable(&before)?;
                let kept = disk.open_or_create(&before.join(CONFIGURATION))?;
                kept.write_at(0, &old)?;
                kept.sync_data()?;
            }
            edit::put(config, &plan.text)
        })();
        placed.map_err(failed(config, HALF_DONE))?;
    }
    drop(disk.remove_dir(&coming));
    Ok(Restored {
        before: exists(&before).then_some(before),
    })
}

struct Checked {
    manifest: Manifest,
    text: Vec<u8>,
    identity: Option<Identity>,
}

/// Every byte is held against the manifest.
fn check(file: &Path) -> Result<Checked, BackupError> {
    let damaged = |reason: String| BackupError::Damaged {
        path: file.to_owned(),
        reason,
    };
    let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let (mut end, mut text, mut identity) = (None, Vec::new(), Vec::new());
    let mut total = 0;
    each(file, &mut |name, _, reader| {
        if end.is_some() {
            return Err(damaged(format!("{name} lies behind its end")));
        }
        let keep = match name {
            MANIFEST => Some(MANIFEST_BYTES_MAX),
            CONFIGURATION => Some(CONFIGURATION_BYTES_MAX),
            _ if name.strip_prefix(STATE) == Some(IDENTITY_FILE) => Some(CONFIGURATION_BYTES_MAX),
            _ => None,
        };
        let (mut hash, mut count, mut kept) = (Sha256::new(), 0, Vec::new());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = reader.read(&mut piece);
            let length = read.map_err(|error| damaged(format!("{name}: {error}")))?;
            if length == 0 {
                break;
            }
            hash.update(&piece[..length]);
            count += length as u64;
            total += length as u64;
            if total > BYTES_MAX || keep.is_some_and(|most| count > most) {
                return Err(damaged(format!(
                    "{name} is longer than anything Kura writes"
                )));
            }
            if keep.is_some() {
                kept.extend_from_slice(&piece[..length]);
            }
        }
        if name == MANIFEST {
            end = Some(kept);
            return Ok(());
        }
        if seen.len() == FILES_MAX {
            return Err(damaged("it has more files than Kura writes".to_owned()));
        }
        match name {
            CONFIGURATION => text = kept,
            _ if keep.is_some() => identity = kept,
            _ => {}
        }
        let sum = hexadecimal(&hash.finalize());
        match seen.insert(name.to_owned(), (count, sum)) {
            None => Ok(()),
            Some(_) => Err(damaged(format!("{name} is in it twice"))),
        }
    })?;
    let end = end.ok_or_else(|| damaged("its end is missing".to_owned()))?;
    // The format first: a newer manifest may have other members.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
        #[serde(default)]
        kura: String,
    }
    let version: Version = serde_json::from_slice(&end)
        .map_err(|error| damaged(format!("its list of files cannot be read: {error}")))?;
    if version.format > FORMAT {
        return Err(BackupError::Newer {
            path: file.to_owned(),
            kura: version.kura,
            found: version.format,
        });
    }
    let manifest: Manifest = serde_json::from_slice(&end)
        .map_err(|error| damaged(format!("its list of files cannot be read: {error}")))?;
    for packed in &manifest.files {
        match seen.remove(&packed.name) {
            None => return Err(damaged(format!("{} is missing", packed.name))),
            Some((bytes, sum)) if bytes != packed.bytes || sum != packed.sha256 => {
                return Err(damaged(format!("{} is not what was written", packed.name)));
            }
            Some(_) => {}
        }
    }
    if let Some(name) = seen.keys().next() {
        return Err(damaged(format!("{name} is not in its list of files")));
    }
    let identity =
        match identity.is_empty() {
            true => None,
            false => Some(identity_of(&identity).map_err(|error| {
                BackupError::Open(format!("archive.json of the backup: {error}"))
            })?),
        };
    Ok(Checked {
        manifest,
        text,
        identity,
    })
}

/// What is done with a file of a backup: its name, its rights, its bytes.
type Look<'a> = dyn FnMut(&str, u32, &mut dyn Read) -> Result<(), BackupError> + 'a;

/// Gives every file to `look`: its name, its rights, its bytes.
fn each(file: &Path, look: &mut Look) -> Result<(), BackupError> {
    let damaged = |reason: String| BackupError::Damaged {
        path: file.to_owned(),
        reason,
    };
    let opened = Disk::default().open_read(file);
    let opened = opened.map_err(|source| BackupError::Io {
        path: file.to_owned(),
        source,
        undone: UNDONE,
    })?;
    let mut tar = tar::Archive::new(GzDecoder::new(io::BufReader::new(opened)));
    let entries = tar.entries().map_err(|error| damaged(error.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(error.to_string()))?;
        let name = String::from_utf8(entry.path_bytes().into_owned());
        let name = name.map_err(|_| damaged("a name in it is no text".to_owned()))?;
        let is_ours = name == MANIFEST || name == CONFIGURATION || name.starts_with(STATE);
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        if !is_file || !is_ours || check_relative(&name).is_err() {
            return Err(damaged(format!("{name:?} is nothing that Kura writes")));
        }
        let mode = entry.header().mode().unwrap_or(0o640);
        look(&name, mode, &mut entry)?;
    }
    Ok(())
}

/// Of the state folder, else of the volumes that the configuration names; with where it lies.
fn present_identity(config: &Config) -> Result<Option<(PathBuf, Identity)>, BackupError> {
    let path = config.state.join(IDENTITY_FILE);
    let mut newest = match read_identity(&path) {
        Ok(identity) => Some((path, identity)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(BackupError::Open(format!("{}: {error}", path.display()))),
    };
    for entry in &config.volumes {
        let Ok(LabelState::Label(label)) = label_of(&entry.path) else {
            continue;
        };
        let path = entry.path.join(layout::LEDGERS_FOLDER).join(IDENTITY_FILE);
        let copy = read_identity(&path).ok();
        let copy = copy.unwrap_or_else(|| Identity::of(label.archive_id));
        if newest
            .as_ref()
            .is_none_or(|(_, other)| other.revision < copy.revision)
        {
            newest = Some((path, copy));
        }
    }
    Ok(newest)
}

fn exists(path: &Path) -> bool {
    matches!(Disk::default().entry(path), Ok(Some(_)))
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = Disk::default().open_read(path)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            count => hash.update(&piece[..count]),
        }
    }
}
