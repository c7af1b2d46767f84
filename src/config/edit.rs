//! Changes of `kura.toml` by command: comments and everything else stay as they are.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

pub use super::edit_forward::{PeerChange, with_peer, with_rule, without_peer, without_rule};
use super::{Config, RoleName, VolumeEntry};

/// Between reading and writing: two commands must not undo each other.
static CHANGING: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a `[[volume]]`: in the place of the one named `old_name` (or with the new name), else behind the others.
///
/// The file is replaced as a whole or not at all. The error is a sentence.
pub fn put_volume(file: &Path, old_name: Option<&str>, entry: &VolumeEntry) -> Result<(), String> {
    let _guard = one_at_a_time();
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let text = with_volume(&text, old_name, entry)?;
    replace(file, text.as_bytes()).map_err(|error| error.to_string())
}

/// Takes the `[[volume]]` of that name out, if there is one.
pub fn take_volume(file: &Path, name: &str) -> Result<(), String> {
    let _guard = one_at_a_time();
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    match without_volume(&text, name)? {
        Some(text) => replace(file, text.as_bytes()).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Changes the text of the file. It is written only when it is a configuration afterwards with which `then` is content; what
/// `then` makes of that is returned. The error is a sentence.
pub fn change<T>(
    file: &Path,
    edit: impl FnOnce(&str) -> Result<String, String>,
    then: impl FnOnce(&Config) -> Result<T, String>,
) -> Result<T, String> {
    let _guard = one_at_a_time();
    let unread = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(unread)?;
    let text = edit(&text)?;
    let mut config = Config::parse(&text, file.parent().unwrap_or(Path::new("/")))?;
    config.file = Some(file.to_owned());
    let made = then(&config)?;
    replace(file, text.as_bytes())
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(made)
}

/// Writes the whole file, in the place of one that is there.
pub fn put(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let _guard = one_at_a_time();
    if fs::exists(file)? {
        return replace(file, bytes);
    }
    let mut new = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// `None`: there is none.
fn without_volume(text: &str, name: &str) -> Result<Option<String>, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    let volumes = document
        .get_mut("volume")
        .and_then(Item::as_array_of_tables_mut);
    let Some(volumes) = volumes else {
        return Ok(None);
    };
    let before = volumes.len();
    volumes.retain(|table| table.get("name").and_then(Item::as_str) != Some(name));
    Ok((volumes.len() < before).then(|| document.to_string()))
}

pub(super) fn with_volume(
    text: &str,
    old_name: Option<&str>,
    entry: &VolumeEntry,
) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    let path = entry.path.to_str().ok_or("its path is not Unicode")?;
    let item = document
        .entry("volume")
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let volumes = item
        .as_array_of_tables_mut()
        .ok_or("\"volume\" is not written as [[volume]]")?;
    if volumes.is_empty() && entry.name != super::VOLUME_DEFAULT {
        // With none written down there is the one by default, which the first entry would take away.
        let name = super::VOLUME_DEFAULT.to_owned();
        let path = Path::new(super::FOLDER_DEFAULT).join(&name);
        let default = VolumeEntry::new(name, path, RoleName::Archive);
        if old_name != Some(super::VOLUME_DEFAULT) {
            volumes.push(table(&default, default.path.to_str().unwrap_or_default()));
        }
    }
    let name_of = |table: &Table| table.get("name").and_then(Item::as_str).map(str::to_owned);
    let place = volumes.iter().position(|table| {
        let name = name_of(table);
        name.as_deref() == Some(&entry.name) || (name.is_some() && name.as_deref() == old_name)
    });
    match place.and_then(|place| volumes.get_mut(place)) {
        Some(old) => {
            for (key, new) in table(entry, path) {
                // The value alone, so that what stands beside it stays.
                match old.get_mut(&key) {
                    Some(item) if item.as_str() == new.as_str() => {}
                    Some(item) => *item = new,
                    None => drop(old.insert(&key, new)),
                }
            }
        }
        None => volumes.push(table(entry, path)),
    }
    Ok(document.to_string())
}

fn table(entry: &VolumeEntry, path: &str) -> Table {
    let role = match entry.role {
        RoleName::Archive => "archive",
        RoleName::Mirror => "mirror",
    };
    let mut table = Table::new();
    table.insert("name", value(&entry.name));
    table.insert("path", value(path));
    table.insert("role", value(role));
    table
}

/// The whole new content or the whole old one, whenever the power goes; with the rights of the old.
fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Through a link, so that the link stays one.
    let file = &fs::canonicalize(file)?;
    let temporary = file.with_extension("toml.new");
    let mut new = fs::File::create(&temporary)?;
    new.set_permissions(fs::metadata(file)?.permissions())?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&temporary, file)?;
    fs::File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, path: &str) -> VolumeEntry {
        VolumeEntry::new(name.to_owned(), path.into(), RoleName::Archive)
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# ours\nport = 104 # as the CT wants it\n\n[[volume]]\nname = \"A\" # the old disk\npath = \"/a\"\nrole = \"archive\"\n\n[placement]\nreserve = \"1 GB\"\n";
        let text = with_volume(text, None, &entry("B", "/b")).unwrap();
        let text = with_volume(&text, Some("A"), &entry("OLD", "/mnt/a")).unwrap();
        for kept in [
            "# ours",
            "# as the CT wants it",
            "[placement]",
            "name = \"OLD\"",
            "path = \"/mnt/a\"",
            "name = \"B\"",
        ] {
            assert!(text.contains(kept), "{kept} in:\n{text}");
        }
        assert!(!text.contains("\"A\""), "{text}");
    }

    #[test]
    fn the_volume_by_default_stays_when_the_first_is_written_down() {
        let text = with_volume("port = 104\n", None, &entry("B", "/b")).unwrap();
        let config = super::super::Config::parse(&text, Path::new("/srv")).unwrap();
        let paths: Vec<_> = config.volumes.iter().map(|v| v.path.clone()).collect();
        assert_eq!(paths, [Path::new("/srv/kura-data/A"), Path::new("/b")]);
    }

    #[test]
    fn one_volume_is_taken_out_and_the_others_stay() {
        let text = "# ours\n[[volume]]\nname = \"A\"\npath = \"/a\"\n\n# the second\n[[volume]]\nname = \"B\"\npath = \"/b\"\n";
        let left = without_volume(text, "A").unwrap().unwrap();
        assert!(
            left.contains("# the second\n[[volume]]\nname = \"B\""),
            "{left}"
        );
        assert!(!left.contains("\"A\""), "{left}");
        assert_eq!(without_volume(&left, "A").unwrap(), None);
        assert_eq!(without_volume("port = 104\n", "A").unwrap(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kura.toml");
        fs::write(&file, "volume = 3\n").unwrap();
        assert!(put_volume(&file, None, &entry("B", "/b")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "volume = 3\n");
    }
}
