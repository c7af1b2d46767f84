//! `kura.toml`: the file in, checked values out.
//!
//! Every key has a default, so an absent file is a complete configuration (the *embedded default*: one volume under
//! `./kura-data`). An unknown key or a value out of range is an error that names its line; nothing is guessed.

mod access;
mod admin;
mod audit;
mod changes;
pub mod conquest;
mod corrections;
pub mod edit;
mod edit_forward;
mod forward;
mod index;
mod intake;
mod limits;
mod live;
mod long_work;
mod notices;
mod peers;
mod query;
mod receiving;
mod rejection;
mod retention;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::dicom::AeTitle;

use index::IndexFile;
use intake::IntakeFile;

pub use access::{Access, AccessRule, At, By, Decision, Unknown, Who, is_private};
pub use admin::Admin;
pub use audit::{Audit, Target as SyslogTarget, Transport as SyslogTransport};
pub use changes::{Changes, Written};
pub use corrections::Corrections;
pub use forward::{
    Commitment, Forward, ForwardPriority, ForwardRule, ForwardWhen, Given,
    QUIET_SECONDS as FORWARD_QUIET_SECONDS, Transfers,
};
pub use index::IndexConfig;
pub use intake::{Intake, IntakeMode, SIZE_BYTES_MIN as JOURNAL_BYTES_MIN};
pub use limits::Limits;
pub use live::Live;
pub use long_work::{Mirror, MirrorPeriod, MirrorRule, MirrorWhen, Scrub};
pub use notices::{NoticeLanguage, Notices};
pub use peers::Peers;
pub use query::Queries;
pub use receiving::{Coerce, CoercedAttribute, DuplicatePolicy, DuplicateRule, Duplicates};
pub use rejection::{OnRejection, Rejection};
pub use retention::{Retention, RetentionRule};
pub use tls::{PeerTls, Tls, TlsFiles, TlsProfile, read_pem};

/// What the server and every verb work with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the values came from; `None` for the embedded default.
    pub file: Option<PathBuf>,
    pub ae_title: AeTitle,
    pub bind: IpAddr,
    /// TCP port of the DICOM listener.
    pub port: u16,
    /// Folder of the index and small state; created when missing.
    pub state: PathBuf,
    /// Which engine keeps the index: `redb` or `sled`.
    pub engine: EngineName,
    /// Serve associations whose called AE title is not ours (modalities are often set up wrong). Default true.
    pub accept_any_called: bool,
    /// Who may do what on the DICOM port.
    pub access: Access,
    pub volumes: Vec<VolumeEntry>,
    pub peers: Peers,
    pub placement: Placement,
    pub limits: Limits,
    pub query: Queries,
    pub mirror: Mirror,
    pub scrub: Scrub,
    pub corrections: Corrections,
    pub rejection: Rejection,
    pub duplicates: Duplicates,
    /// Of the rules for one attribute the first that fits a sender counts.
    pub coerce: Vec<Coerce>,
    pub retention: Retention,
    pub intake: Intake,
    pub index: IndexConfig,
    pub forward: Forward,
    pub commitment: Commitment,
    pub transfers: Transfers,
    pub admin: Admin,
    pub notices: Notices,
    pub audit: Audit,
    pub tls: Tls,
    /// Peers of the command line: they are in no file.
    pub given: Vec<PeerEntry>,
    /// What the file says, as it was read: to tell what another reading changes.
    pub written: Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    Redb,
    Sled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Receives.
    Archive,
    /// Holds second copies.
    Mirror,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeEntry {
    pub name: String,
    pub path: PathBuf,
    pub role: RoleName,
    /// Moved to [`Config::intake`] when it is read.
    #[serde(default)]
    intake: Option<IntakeMode>,
    #[serde(default)]
    journal: Option<PathBuf>,
}

impl VolumeEntry {
    pub fn new(name: String, path: PathBuf, role: RoleName) -> VolumeEntry {
        VolumeEntry {
            name,
            path,
            role,
            intake: None,
            journal: None,
        }
    }
}

/// A DICOM node we may send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEntry {
    pub ae_title: AeTitle,
    pub host: String,
    pub port: u16,
    /// What it asks as calling AE title finds person names whatever the order of their components. Default false.
    pub fuzzy_names: bool,
    /// Associations to it at the same moment, for what goes to it by itself. Default 2.
    pub associations: usize,
    /// Compressed images go to it uncompressed where we can do that, also if it would take them as they are. Default false.
    pub uncompressed: bool,
    /// It is asked whether it keeps what it got by forwarding (storage commitment). Default false.
    pub commitment: bool,
    /// It is called over TLS, and how. Default: without.
    pub tls: Option<PeerTls>,
}

/// Where nothing is configured.
const PEER_ASSOCIATIONS: usize = 2;
/// A workstation takes some twenty.
const PEER_ASSOCIATIONS_MAX: usize = 16;

/// `host` of a peer whose address changes: it is where its request comes from.
pub const CALLER: &str = "caller";

impl PeerEntry {
    /// Whether it is sent to where it calls from.
    pub fn is_caller(&self) -> bool {
        self.host.eq_ignore_ascii_case(CALLER)
    }

    pub fn new(ae_title: AeTitle, host: &str, port: u16) -> PeerEntry {
        PeerEntry {
            ae_title,
            host: host.to_owned(),
            port,
            fuzzy_names: false,
            associations: PEER_ASSOCIATIONS,
            uncompressed: false,
            commitment: false,
            tls: None,
        }
    }

    /// Spaces and case do not count.
    pub fn is(&self, ae_title: &str) -> bool {
        let own = self.ae_title.as_str();
        own.eq_ignore_ascii_case(ae_title.trim())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Room that every volume keeps free: `"8 MiB"`, `"10 GB"` or `"2 %"`.
    pub reserve: String,
    pub order: OrderName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderName {
    /// Fill the volumes one after the other.
    InOrder,
    /// The volume with the most free bytes.
    MostFree,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}; nothing was started")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {reason}; nothing was started")]
    Parse { path: PathBuf, reason: String },
    #[error("--peer {text}: expected AE@HOST:PORT, such as HOROS@192.168.1.20:11112 ({reason})")]
    Peer { text: String, reason: String },
}

// The file as written; everything optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ae_title: Option<String>,
    bind: Option<IpAddr>,
    port: Option<u16>,
    state: Option<PathBuf>,
    engine: Option<EngineName>,
    accept_any_called: Option<bool>,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    volume: Vec<VolumeEntry>,
    #[serde(default)]
    peer: Vec<PeerFile>,
    placement: Option<PlacementFile>,
    limits: Option<Limits>,
    #[serde(default)]
    query: Queries,
    #[serde(default)]
    mirror: Mirror,
    #[serde(default)]
    scrub: Scrub,
    #[serde(default)]
    corrections: Corrections,
    #[serde(default)]
    rejection: Rejection,
    #[serde(default)]
    duplicates: Duplicates,
    #[serde(default)]
    coerce: Vec<Coerce>,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    intake: IntakeFile,
    #[serde(default)]
    index: IndexFile,
    #[serde(default)]
    forward: Forward,
    #[serde(default)]
    commitment: Commitment,
    #[serde(default)]
    transfers: Transfers,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    notices: Notices,
    #[serde(default)]
    audit: Audit,
    #[serde(default)]
    tls: Tls,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerFile {
    ae_title: String,
    host: String,
    port: u16,
    #[serde(default)]
    fuzzy_names: bool,
    associations: Option<usize>,
    #[serde(default)]
    uncompressed: bool,
    #[serde(default)]
    commitment: bool,
    #[serde(default)]
    tls: bool,
    tls_name: Option<String>,
    tls_fingerprint: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlacementFile {
    reserve: Option<String>,
    order: Option<OrderName>,
}

/// Room kept free where nothing is configured: enough for the ledger, the folders and the largest ordinary instance.
const RESERVE_DEFAULT: &str = "64 MiB";
const PORT_DEFAULT: u16 = 11112;
const FOLDER_DEFAULT: &str = "kura-data";
const VOLUME_DEFAULT: &str = "A";

impl Config {
    /// Loads `path`; without one, `./kura.toml` where present, else the embedded default.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        match path {
            Some(path) => Config::read(path),
            None if Path::new("kura.toml").exists() => Config::read(Path::new("kura.toml")),
            None => {
                let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
                Config::parse("", &here).map_err(|reason| ConfigError::Parse { path: here, reason })
            }
        }
    }

    fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().unwrap_or(Path::new("/"));
        let mut config = Config::parse(&text, base).map_err(|reason| ConfigError::Parse {
            path: path.to_owned(),
            reason,
        })?;
        config.file = Some(absolute);
        Ok(config)
    }

    /// `base`: the folder that relative paths in the text start from.
    fn parse(text: &str, base: &Path) -> Result<Config, String> {
        let file: File =
            toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        let title = |text: &str| {
            AeTitle::from_str(text).map_err(|error| format!("ae_title {text:?}: {error}"))
        };
        let mut volumes = file.volume;
        if volumes.is_empty() {
            let path = PathBuf::from(FOLDER_DEFAULT).join(VOLUME_DEFAULT);
            let name = VOLUME_DEFAULT.to_owned();
            volumes.push(VolumeEntry::new(name, path, RoleName::Archive));
        }
        for volume in &mut volumes {
            volume.path = base.join(&volume.path);
        }
        check_volumes(&volumes)?;
        let index = file.index.checked()?;
        let intake = Intake::of(&file.intake, &mut volumes, base)?;
        let limits = file.limits.unwrap_or_default();
        limits.check()?;
        file.access.check()?;
        let accept_any_called = file.access.any_called(file.accept_any_called)?;
        let mut access = file.access;
        access.called = None;
        file.query.check()?;
        file.mirror.check()?;
        file.scrub.check()?;
        file.corrections.check()?;
        file.duplicates.check()?;
        let mut coerce = file.coerce;
        for (i, rule) in coerce.iter_mut().enumerate() {
            rule.check()
                .map_err(|reason| format!("[[coerce]] number {}: {reason}", i + 1))?;
            rule.map = rule.map.take().map(|map| base.join(map));
        }
        file.retention.check()?;
        file.commitment.check()?;
        file.transfers.check()?;
        file.notices.check()?;
        let mut audit = file.audit;
        audit.check(base)?;
        let mut admin = file.admin;
        admin.check()?;
        for file in [&mut admin.certificate, &mut admin.key] {
            *file = file.take().map(|path| base.join(path));
        }
        let port = file.port.unwrap_or(PORT_DEFAULT);
        file.tls.check(port)?;
        let tls = file.tls.from(base);
        let mut peers: Vec<PeerEntry> = Vec::new();
        for peer in file.peer {
            let ae_title = title(&peer.ae_title)?;
            if peers.iter().any(|other| other.ae_title == ae_title) {
                return Err(format!("two [[peer]] entries have the ae_title {ae_title}"));
            }
            let associations = peer.associations.unwrap_or(PEER_ASSOCIATIONS);
            if !(1..=PEER_ASSOCIATIONS_MAX).contains(&associations) {
                return Err(format!(
                    "[[peer]] {ae_title}: associations is {associations}; 1 to {PEER_ASSOCIATIONS_MAX} are possible"
                ));
            }
            let fingerprint = peer.tls_fingerprint.map(|text| {
                tls::fingerprint(&text).map_err(|reason| format!("[[peer]] {ae_title}: {reason}"))
            });
            peers.push(PeerEntry {
                fuzzy_names: peer.fuzzy_names,
                associations,
                uncompressed: peer.uncompressed,
                commitment: peer.commitment,
                tls: match peer.tls {
                    true => Some(PeerTls {
                        name: peer.tls_name,
                        fingerprint: fingerprint.transpose()?,
                        files: tls.files(),
                    }),
                    false => None,
                },
                ..PeerEntry::new(ae_title, &peer.host, peer.port)
            });
        }
        let mut forward = file.forward;
        forward.check(&peers)?;
        for rewrite in forward
            .rules
            .iter_mut()
            .filter_map(|rule| rule.rewrite.as_mut())
        {
            rewrite.map = rewrite.map.take().map(|map| base.join(map));
        }
        let placement = Placement {
            reserve: file
                .placement
                .as_ref()
                .and_then(|p| p.reserve.clone())
                .unwrap_or(RESERVE_DEFAULT.to_owned()),
            order: file
                .placement
                .as_ref()
                .and_then(|p| p.order)
                .unwrap_or(OrderName::InOrder),
        };
        Ok(Config {
            file: None,
            ae_title: title(file.ae_title.as_deref().unwrap_or("KURA"))?,
            bind: file.bind.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            port,
            state: base.join(
                file.state
                    .unwrap_or_else(|| PathBuf::from(FOLDER_DEFAULT).join("state")),
            ),
            engine: file.engine.unwrap_or(EngineName::Redb),
            accept_any_called,
            access,
            volumes,
            peers: Peers::of(peers),
            placement,
            limits,
            query: file.query,
            mirror: file.mirror,
            scrub: file.scrub,
            corrections: file.corrections,
            rejection: file.rejection,
            duplicates: file.duplicates,
            coerce,
            retention: file.retention,
            intake,
            index,
            forward,
            commitment: file.commitment,
            transfers: file.transfers,
            admin,
            notices: file.notices,
            audit,
            tls,
            given: Vec::new(),
            written: Written::of(text),
        })
    }

    /// The configuration that a file would be with that text. The error is a sentence.
    pub fn of_text_at(text: &str, file: &Path) -> Result<Config, String> {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let mut config = Config::parse(text, absolute.parent().unwrap_or(Path::new("/")))?;
        config.file = Some(absolute);
        Ok(config)
    }

    /// For tests of what is configured.
    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/srv"))
    }

    /// The peer of that AE title; spaces and case do not count, as modalities write them as they like.
    pub fn peer(&self, ae_title: &str) -> Option<PeerEntry> {
        self.peers.get(ae_title)
    }

    /// Adds or replaces a peer given as `AE@HOST:PORT` on the command line.
    pub fn add_peer(&mut self, text: &str) -> Result<(), ConfigError> {
        let peer = PeerEntry::from_str(text).map_err(|reason| ConfigError::Peer {
            text: text.to_owned(),
            reason,
        })?;
        self.given.push(peer.clone());
        let mut peers = self.peers.all();
        put_peer(&mut peers, peer);
        self.peers.set(peers);
        Ok(())
    }

    /// Of another reading of the file, what takes effect while the server runs; the rest stays as it is here. The peers
    /// stay, too: they are shared by every copy, and changed where they are ([`Peers::set`]).
    pub fn with_changes(&self, read: &Config) -> Config {
        Config {
            accept_any_called: read.accept_any_called,
            access: read.access.clone(),
            limits: read.limits.clone(),
            query: read.query.clone(),
            mirror: read.mirror.clone(),
            scrub: read.scrub.clone(),
            corrections: read.corrections.clone(),
            rejection: read.rejection.clone(),
            duplicates: read.duplicates.clone(),
            coerce: read.coerce.clone(),
            retention: read.retention.clone(),
            forward: read.forward.clone(),
            commitment: read.commitment.clone(),
            transfers: read.transfers.clone(),
            notices: read.notices.clone(),
            audit: read.audit.clone(),
            tls: self.tls.with_changes(&read.tls),
            written: self.written.with_changes(&read.written),
            ..self.clone()
        }
    }

    /// The peers of another reading of the file, and those of the command line.
    pub fn peers_with(&self, read: &Config) -> Vec<PeerEntry> {
        let mut peers = read.peers.all();
        for peer in &self.given {
            put_peer(&mut peers, peer.clone());
        }
        peers
    }
}

/// What a peer asks has nothing to do with where it is: of a known one only the address changes.
fn put_peer(peers: &mut Vec<PeerEntry>, peer: PeerEntry) {
    let known = peers
        .iter_mut()
        .find(|other| other.ae_title == peer.ae_title);
    match known {
        Some(known) => (known.host, known.port) = (peer.host, peer.port),
        None => peers.push(peer),
    }
}

impl FromStr for PeerEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (title, address) = text.split_once('@').ok_or("no @")?;
        let (host, port) = address.rsplit_once(':').ok_or("no :PORT")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        let title = AeTitle::from_str(title).map_err(|error| error.to_string())?;
        let port = port.parse().map_err(|_| format!("{port} is not a port"))?;
        Ok(PeerEntry::new(title, host, port))
    }
}

/// A file that the configuration names.
fn open(path: &Path) -> std::io::Result<impl std::io::Read> {
    std::fs::File::open(path)
}

/// Whether others of this machine may read the file.
pub fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|known| known.permissions().mode() & 0o044 != 0)
}

/// Names are typed on command lines and stand in file names.
pub fn volume_name_is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=32).contains(&name.len()) && name.chars().all(plain)
}

fn check_volumes(volumes: &[VolumeEntry]) -> Result<(), String> {
    for (i, volume) in volumes.iter().enumerate() {
        if !volume_name_is_plain(&volume.name) {
            return Err(format!(
                "volume name {:?}: 1 to 32 letters, digits, - or _",
                volume.name
            ));
        }
        for other in &volumes[..i] {
            if other.name == volume.name {
                return Err(format!("two [[volume]] entries are named {}", volume.name));
            }
            if other.path == volume.path {
                return Err(format!(
                    "volumes {} and {} have the same path",
                    other.name, volume.name
                ));
            }
        }
    }
    if !volumes
        .iter()
        .any(|volume| volume.role == RoleName::Archive)
    {
        return Err("no [[volume]] has role = \"archive\"; nothing could be received".to_owned());
    }
    Ok(())
}

/// What `kura init` writes, with the other templates behind it: the defaults, each with its comment.
const TEMPLATE: &str = r#"# Kura: configuration. Every key is optional; the values shown are the defaults.
# Relative paths start from the folder of this file.

# Our AE title: 1 to 16 characters.
ae_title = "KURA"

# Address and TCP port of the DICOM listener.
bind = "0.0.0.0"
port = 11112

# Folder of the index and small state. The index can be deleted at any time; it is rebuilt from the volumes.
state = "kura-data/state"

# Engine of the index: "redb" or "sled".
engine = "redb"

# Where images are kept. An empty folder is labelled at the first start; a folder with other files in it is refused.
# role: "archive" receives, "mirror" holds second copies.
[[volume]]
name = "A"
path = "kura-data/A"
role = "archive"

# Where C-MOVE may send to: one table for each workstation.
# [[peer]]
# ae_title = "HOROS"
# host = "192.168.1.20"
# port = 11112
# Its queries find person names whatever the order of their parts, also if it does not ask for that.
# fuzzy_names = false
# Compressed images go to it uncompressed, also if it says that it takes them as they are.
# uncompressed = false
# It is asked, after a study went there by itself, whether it keeps it (storage commitment); it must know us for that.
# commitment = false
# Associations to it at the same moment, for what goes to it by itself: 1 to 16.
# associations = 2
# It is called over TLS. Its certificate must be signed by a CA of [tls] peers_ca and have this name (by default: host),
# or be the very one with this SHA-256 fingerprint.
# tls = false
# tls_name = "workstation.hospital"
# tls_fingerprint = "..."

[placement]
# Room that each volume keeps free: bytes ("64 MiB", "10 GB") or a share ("2 %").
reserve = "64 MiB"
# "in-order" fills one volume after the other; "most-free" takes the one with the most room.
order = "in-order"

[rejection]
# What a rejection note (a Key Object Selection with one of these titles) does with the instances that it names:
# "ignore", "hide" (not answered any more; kura changes takes it back) or "remove" (to the trash; kura trash restore).
quality = "ignore"
patient_safety = "ignore"
worklist = "ignore"
retention_expired = "ignore"
"#;

/// The whole file, with the defaults.
fn template() -> String {
    [
        TEMPLATE,
        limits::TEMPLATE,
        access::TEMPLATE,
        query::TEMPLATE,
        long_work::TEMPLATE,
        corrections::TEMPLATE,
        intake::TEMPLATE,
        receiving::TEMPLATE,
        retention::TEMPLATE,
        forward::TEMPLATE,
        forward::COMMITMENT_TEMPLATE,
        index::TEMPLATE,
        forward::TRANSFERS_TEMPLATE,
        admin::TEMPLATE,
        notices::TEMPLATE,
        audit::TEMPLATE,
        tls::TEMPLATE,
    ]
    .concat()
}

/// Writes a commented configuration; refuses to replace a file that is there.
pub fn write_template(path: &Path) -> std::io::Result<()> {
    write_new(path, &template())
}

/// The same with these volumes.
pub fn write_template_with(path: &Path, volumes: &[VolumeEntry]) -> std::io::Result<()> {
    let mut text = template();
    // The first takes the place of the one in the template.
    let mut old_name = Some(VOLUME_DEFAULT);
    for volume in volumes {
        text = edit::with_volume(&text, old_name.take(), volume).map_err(std::io::Error::other)?;
    }
    let base = path.parent().unwrap_or(Path::new("."));
    Config::parse(&text, base).map_err(std::io::Error::other)?;
    write_new(path, &text)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
}

/// The state folder that the configuration written at `path` names.
pub fn template_state(path: &Path) -> PathBuf {
    let base = path.parent().unwrap_or(Path::new("."));
    base.join(FOLDER_DEFAULT).join("state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_defaults() {
        let base = Path::new("/srv");
        let written = Config::parse(&template(), base).unwrap();
        let default = Config::parse("", base).unwrap();
        assert_eq!(format!("{written:?}"), format!("{default:?}"));
    }

    #[test]
    fn a_bad_key_is_named_with_its_line() {
        let error = Config::parse("port = 104\nprot = 105\n", Path::new("/srv")).unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("prot"),
            "{error}"
        );
    }

    #[test]
    fn a_peer_on_the_command_line_replaces_the_one_in_the_file() {
        let text =
            "[[peer]]\nae_title = \"MAC\"\nhost = \"10.0.0.1\"\nport = 104\nfuzzy_names = true\n";
        let mut config = Config::parse(text, Path::new("/srv")).unwrap();
        config.add_peer("MAC@[::1]:11113").unwrap();
        let peer = config.peer(" mac ").unwrap();
        assert_eq!((peer.host.as_str(), peer.port), ("::1", 11113));
        assert!(
            peer.fuzzy_names,
            "what it asks has nothing to do with where it is"
        );
        assert!(config.add_peer("MAC:104").is_err());
    }

    #[test]
    fn impossible_volumes_are_refused() {
        for text in [
            "[[volume]]\nname = \"A\"\npath = \"a\"\nrole = \"mirror\"\n",
            "[[volume]]\nname = \"../A\"\npath = \"a\"\nrole = \"archive\"\n",
            "[[volume]]\nname = \"A\"\npath = \"a\"\nrole = \"archive\"\n[[volume]]\nname = \"B\"\npath = \"a\"\nrole = \"archive\"\n",
        ] {
            assert!(Config::parse(text, Path::new("/srv")).is_err(), "{text}");
        }
    }
}
