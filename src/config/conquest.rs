//! What a Conquest server's `dicom.ini` and `acrnema.map` say that has a meaning here.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{Config, FOLDER_DEFAULT, RoleName, VOLUME_DEFAULT, VolumeEntry, edit};
use crate::dicom::AeTitle;

/// Of each of the two files, bytes; a long list of peers is some thousand lines.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Of one kind; Conquest itself knows ten.
const DEVICES_MAX: usize = 32;
const PEERS_MAX: usize = 1_000;

/// What was taken, and what was not.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    pub files: Vec<PathBuf>,
    pub ae_title: Option<String>,
    pub port: Option<u16>,
    pub volumes: Vec<TakenVolume>,
    pub peers: Vec<TakenPeer>,
    /// A sentence each.
    pub left: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct TakenVolume {
    pub name: String,
    pub role: &'static str,
    /// Where Conquest keeps its files. Ours go elsewhere: its folder is not empty, and stays its own.
    pub was: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakenPeer {
    pub ae_title: String,
    pub host: String,
    pub port: u16,
}

/// Reads what is in the folder of a Conquest server. The error is a sentence.
pub fn read(folder: &Path) -> Result<Taken, String> {
    let mut taken = Taken::default();
    if let Some(text) = text_of(folder, &["dicom.ini", "DICOM.INI", "Dicom.ini"], &mut taken)? {
        take_settings(&text, &mut taken);
    }
    let names = ["acrnema.map", "ACRNEMA.MAP", "Acrnema.map"];
    if let Some(text) = text_of(folder, &names, &mut taken)? {
        take_peers(&text, &mut taken);
    }
    match taken.files.is_empty() {
        true => Err(format!(
            "{} has neither dicom.ini nor acrnema.map",
            folder.display()
        )),
        false => Ok(taken),
    }
}

fn text_of(folder: &Path, names: &[&str], taken: &mut Taken) -> Result<Option<String>, String> {
    for name in names {
        let path = folder.join(name);
        let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = match super::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(cannot(error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        if read.map_err(cannot)? as u64 > FILE_BYTES_MAX {
            return Err(format!("{}: longer than 4 MiB", path.display()));
        }
        taken.files.push(path);
        // Comments may be in any character set; what is taken is ASCII.
        return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(None)
}

/// Lines `key = value`, the case of keys does not count.
fn take_settings(text: &str, taken: &mut Taken) {
    let settings: Vec<(String, &str)> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';', '[', '/']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim()))
        .collect();
    let find = |key: &str| {
        let found = settings.iter().find(|(known, _)| known == key);
        found
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    };
    if let Some(title) = find("myacrnema") {
        match title.parse::<AeTitle>() {
            Ok(title) => taken.ae_title = Some(title.to_string()),
            Err(error) => taken.left.push(format!("MyACRNema {title}: {error}")),
        }
    }
    if let Some(port) = find("tcpport") {
        match port.parse() {
            Ok(port) if port > 0 => taken.port = Some(port),
            _ => taken.left.push(format!("TCPPort {port}: not a port")),
        }
    }
    for (kind, name, role) in [
        ("magdevice", "MAG", "archive"),
        ("mirrordevice", "MIRROR", "mirror"),
    ] {
        let count = find(&format!("{kind}s")).and_then(|count| count.parse().ok());
        for number in 0..count.unwrap_or(DEVICES_MAX).min(DEVICES_MAX) {
            if let Some(was) = find(&format!("{kind}{number}")) {
                taken.volumes.push(TakenVolume {
                    name: format!("{name}{number}"),
                    role,
                    was: was.to_owned(),
                });
            }
        }
    }
    // What is done with images as they come, and who else is asked: rules here, written by a person.
    for (key, value) in &settings {
        let means = match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "exportconverter" => "what is sent on by itself is a [[forward.rule]]",
            "importconverter" => "values that are to be others are a [[coerce]]",
            "virtualserverfor" => "images of another archive come with kura pull",
            _ => continue,
        };
        if !value.is_empty() && key.ends_with(|c: char| c.is_ascii_digit()) {
            taken.left.push(format!("{key} = {value}: {means}"));
        }
    }
}

/// Columns by blanks: AE title, address, port, compression. Comments as in C, or from `#` to the end of the line.
fn take_peers(text: &str, taken: &mut Taken) {
    for line in without_comments(text).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut columns = line.split_whitespace();
        let (Some(title), Some(address), Some(port)) =
            (columns.next(), columns.next(), columns.next())
        else {
            if !line.is_empty() {
                taken.left.push(format!("{line}: not a line of a peer"));
            }
            continue;
        };
        if title.eq_ignore_ascii_case("none") {
            continue;
        }
        let ours = taken.ae_title.as_deref();
        if ours.is_some_and(|ours| ours.eq_ignore_ascii_case(title)) {
            continue;
        }
        let known = |peer: &TakenPeer| peer.ae_title.eq_ignore_ascii_case(title);
        let left = if title.contains(['*', '?']) {
            "every workstation needs a [[peer]] of its own".to_owned()
        } else if taken.peers.iter().any(known) {
            "named twice, the first counts".to_owned()
        } else if taken.peers.len() >= PEERS_MAX {
            format!("more than {PEERS_MAX} peers")
        } else {
            match (title.parse::<AeTitle>(), port.parse::<u16>()) {
                (Err(error), _) => error.to_string(),
                (_, Err(_) | Ok(0)) => format!("{port} is not a port"),
                (Ok(title), Ok(port)) => {
                    taken.peers.push(TakenPeer {
                        ae_title: title.to_string(),
                        // An address that changes: it is where the request comes from.
                        host: match address {
                            "*" => "caller".to_owned(),
                            address => address.to_owned(),
                        },
                        port,
                    });
                    continue;
                }
            }
        };
        taken.left.push(format!("{line}: {left}"));
    }
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        match after.split_once("*/") {
            Some((_, behind)) => rest = behind,
            None => return out,
        }
    }
    out + rest
}

/// Writes the commented configuration with what was taken; refuses to replace a file that is there.
pub fn write(path: &Path, taken: &Taken) -> std::io::Result<()> {
    let text = filled(&super::template(), taken).map_err(std::io::Error::other)?;
    let base = path.parent().unwrap_or(Path::new("."));
    Config::parse(&text, base).map_err(std::io::Error::other)?;
    super::write_new(path, &text)
}

fn filled(template: &str, taken: &Taken) -> Result<String, String> {
    let mut text = template.to_owned();
    let mut old_name = Some(VOLUME_DEFAULT);
    for volume in &taken.volumes {
        let path = PathBuf::from(FOLDER_DEFAULT).join(&volume.name);
        let role = match volume.role {
            "mirror" => RoleName::Mirror,
            _ => RoleName::Archive,
        };
        let entry = VolumeEntry::new(volume.name.clone(), path, role);
        text = edit::with_volume(&text, old_name.take(), &entry)?;
    }
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    let mut set = |key: &str, new: Item| {
        // The value alone, so that its comment stays.
        if let Some(item) = document.get_mut(key) {
            *item = new;
        }
    };
    if let Some(title) = &taken.ae_title {
        set("ae_title", value(title));
    }
    if let Some(port) = taken.port {
        set("port", value(i64::from(port)));
    }
    if !taken.peers.is_empty() {
        let mut peers = ArrayOfTables::new();
        for peer in &taken.peers {
            let mut table = Table::new();
            table.insert("ae_title", value(&peer.ae_title));
            table.insert("host", value(&peer.host));
            table.insert("port", value(i64::from(peer.port)));
            peers.push(table);
        }
        document.insert("peer", Item::ArrayOfTables(peers));
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INI: &str = "# This file configures the server\r\n[sscscp]\r\nMicroPACS = sscscp\r\n\
        MyACRNema = CONQUESTSRV1\r\nTCPPort  = 5678\r\nMAGDevices = 2\r\nMAGDevice0 = d:\\data\\\r\n\
        MAGDevice1 = /disk2/data/\r\nMAGDevice2 = e:\\old\\\r\nMIRRORDevices = 1\r\n\
        MIRRORDevice0 = f:\\mirror\\\r\nExportConverters = 1\r\nExportConverter0 = forward to MAC01\r\n";

    const MAP: &str = "/* **** the map\r\n * AE address port\r\n */\r\n\
        CONQUESTSRV1\t127.0.0.1\t5678\tun\r\nMAC01  192.168.1.20  11112  un # neurosurgery\r\n\
        MAC02 * 11112 un\r\nV* * 1234 un\r\nnone none 9999 un\r\nmac01 10.0.0.1 104 un\r\nXRAY 10.0.0.2 x un\r\n";

    #[test]
    fn what_has_a_meaning_is_taken_and_the_rest_is_said() {
        let mut taken = Taken::default();
        take_settings(INI, &mut taken);
        take_peers(MAP, &mut taken);
        assert_eq!(taken.ae_title.as_deref(), Some("CONQUESTSRV1"));
        assert_eq!(taken.port, Some(5678));
        let volumes: Vec<_> = taken
            .volumes
            .iter()
            .map(|volume| (volume.name.as_str(), volume.role, volume.was.as_str()))
            .collect();
        assert_eq!(
            volumes,
            [
                ("MAG0", "archive", "d:\\data\\"),
                ("MAG1", "archive", "/disk2/data/"),
                ("MIRROR0", "mirror", "f:\\mirror\\")
            ]
        );
        let peers: Vec<_> = taken
            .peers
            .iter()
            .map(|peer| (peer.ae_title.as_str(), peer.host.as_str(), peer.port))
            .collect();
        assert_eq!(
            peers,
            [("MAC01", "192.168.1.20", 11112), ("MAC02", "caller", 11112)]
        );
        assert_eq!(taken.left.len(), 4, "{:?}", taken.left);
    }

    #[test]
    fn what_is_written_is_a_configuration_with_all_its_comments() {
        let mut taken = Taken::default();
        take_settings(INI, &mut taken);
        take_peers(MAP, &mut taken);
        let text = filled(&super::super::template(), &taken).unwrap();
        let config = Config::parse(&text, Path::new("/srv")).unwrap();
        assert_eq!(config.ae_title.as_str(), "CONQUESTSRV1");
        assert_eq!((config.port, config.volumes.len()), (5678, 3));
        assert_eq!(config.peers.all().len(), 2);
        for line in super::super::template().lines() {
            assert!(!line.starts_with('#') || text.contains(line), "{line}");
        }
    }

    #[test]
    fn nothing_of_a_broken_file_stops_the_rest() {
        for text in [
            "/* never ends",
            "=\n==\n",
            "A\n",
            "\u{0}\u{1} 2 3",
            "A 1 99999 un",
        ] {
            let mut taken = Taken::default();
            take_settings(text, &mut taken);
            take_peers(text, &mut taken);
            assert!(taken.peers.is_empty() && taken.volumes.is_empty(), "{text}");
        }
    }
}
