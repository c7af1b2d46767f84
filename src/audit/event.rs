//! What an event of the audit says beside who, from where, what and what became of it.

use serde::{Deserialize, Serialize};

/// Studies that one line names; more are counted.
pub(super) const STUDIES_MAX: usize = 16;
/// Longest text of a stranger that a line repeats, characters.
const TEXT_MAX: usize = 128;

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something was asked for that changes how the archive works; also every line that says no kind.
    #[default]
    Change,
    /// Users, passwords, tokens, certificates.
    Account,
    /// A patient, study or instance was corrected, or protected.
    Amended,
    /// To the trash.
    Removed,
    /// Files were deleted for good.
    Deleted,
    /// Copies left a volume by rule; others stay.
    Left,
    /// Instances came by C-STORE.
    Stored,
    /// Sent for a C-MOVE.
    Moved,
    /// Sent for a C-GET.
    Got,
    /// Sent by rule, or by hand.
    Forwarded,
    /// Fetched from another archive.
    Pulled,
    /// A request of storage commitment was answered.
    Committed,
    /// C-FIND, or a search of the page, the API or the command line.
    Queried,
    /// A study was looked at on the page, by the API or the command line.
    Looked,
    SignedIn,
    SignedOut,
    SignInFailed,
    /// No association, or a request that was not allowed.
    Refused,
    Started,
    Stopped,
    /// Somebody read the audit.
    AuditRead,
    /// Messages go to another server from now on, or no more.
    AuditExport,
    /// The oldest lines were removed by rule.
    AuditCut,
    /// Events could not be noted.
    AuditLost,
}

impl Kind {
    pub const ALL: [Kind; 24] = [
        Kind::Change,
        Kind::Account,
        Kind::Amended,
        Kind::Removed,
        Kind::Deleted,
        Kind::Left,
        Kind::Stored,
        Kind::Moved,
        Kind::Got,
        Kind::Forwarded,
        Kind::Pulled,
        Kind::Committed,
        Kind::Queried,
        Kind::Looked,
        Kind::SignedIn,
        Kind::SignedOut,
        Kind::SignInFailed,
        Kind::Refused,
        Kind::Started,
        Kind::Stopped,
        Kind::AuditRead,
        Kind::AuditExport,
        Kind::AuditCut,
        Kind::AuditLost,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Change => "change",
            Kind::Account => "account",
            Kind::Amended => "amended",
            Kind::Removed => "removed",
            Kind::Deleted => "deleted",
            Kind::Left => "left",
            Kind::Stored => "stored",
            Kind::Moved => "moved",
            Kind::Got => "got",
            Kind::Forwarded => "forwarded",
            Kind::Pulled => "pulled",
            Kind::Committed => "committed",
            Kind::Queried => "queried",
            Kind::Looked => "looked",
            Kind::SignedIn => "signed-in",
            Kind::SignedOut => "signed-out",
            Kind::SignInFailed => "sign-in-failed",
            Kind::Refused => "refused",
            Kind::Started => "started",
            Kind::Stopped => "stopped",
            Kind::AuditRead => "audit-read",
            Kind::AuditExport => "audit-export",
            Kind::AuditCut => "audit-cut",
            Kind::AuditLost => "audit-lost",
        }
    }

    /// A person or a program asked for it by page, API or command line, and something is another way since.
    pub fn is_a_change(self) -> bool {
        matches!(
            self,
            Kind::Change | Kind::Account | Kind::Amended | Kind::Removed
        )
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let mut all = Kind::ALL.into_iter();
        all.find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("no kind; there are {}", known.join(", "))
        })
    }
}

/// Empty and zero members are not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Event {
    pub kind: Kind,
    /// Something of it did not succeed.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// As whom the other side signed in, where that is not `who` (PS3.7 D.3.3.7).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// By which it was known: subject and fingerprint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// AE title and address of the other end, where that is not `who`: where it went, or came from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_address: String,
    /// Study Instance UIDs, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub studies: Vec<String>,
    /// Patient IDs of these studies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub instances_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_count: u64,
    /// Of the data sets.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// How often within some seconds; 0 and 1: once.
    #[serde(skip_serializing_if = "is_zero")]
    pub times: u64,
    /// Of a query: SOP class of its information model, and its identifier, Implicit VR Little Endian in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Of lines that were cut off: digest of the last of them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Event {
    pub fn new(kind: Kind) -> Event {
        Event {
            kind,
            ..Event::default()
        }
    }

    pub fn of_study(kind: Kind, study_instance_uid: &str) -> Event {
        let mut event = Event::new(kind);
        if !study_instance_uid.is_empty() {
            event.studies.push(study_instance_uid.to_owned());
        }
        event
    }

    /// Whatever came from outside, short enough for a line.
    pub(super) fn cut(&mut self) {
        self.studies.truncate(STUDIES_MAX);
        self.patients.truncate(STUDIES_MAX);
        let lists = self.studies.iter_mut().chain(&mut self.patients);
        let texts = [
            &mut self.user,
            &mut self.certificate,
            &mut self.peer,
            &mut self.peer_address,
            &mut self.model,
        ];
        for text in texts.into_iter().chain(lists) {
            if let Some((at, _)) = text.char_indices().nth(TEXT_MAX) {
                text.truncate(at);
            }
        }
        if self.query.len() > super::TEXT_BYTES_MAX {
            self.query.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            let text = serde_json::to_value(kind).unwrap();
            assert_eq!(text, kind.as_str());
        }
        assert!("nothing".parse::<Kind>().is_err());
    }

    #[test]
    fn an_empty_event_is_short_and_a_stranger_does_not_make_a_long_line() {
        let text = serde_json::to_string(&Event::new(Kind::Started)).unwrap();
        assert_eq!(text, r#"{"kind":"started"}"#);
        let long = "ß".repeat(100_000);
        let mut event = Event {
            peer: long.clone(),
            studies: vec![long.clone(); 1_000],
            query: long,
            ..Event::default()
        };
        event.cut();
        assert!(serde_json::to_string(&event).unwrap().len() < 32 << 10);
    }
}
