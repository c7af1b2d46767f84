//! A line of the audit as an audit message of the standard: XML by the schema of PS3.15 A.5.1, filled in as the tables of
//! A.5.3 want it for each event.
//!
//! Everything in it may come from a stranger. [`Element`] writes every value as an attribute or a text, escaped, and
//! without the characters that XML 1.0 cannot hold; nothing else puts text together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::chain::Entry;
use super::event::{Event, Kind};

/// Who reports: this archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub ae_title: String,
    /// AuditSourceID.
    pub id: String,
    /// AuditEnterpriseSiteID; empty: none.
    pub site: String,
    /// Name of this machine.
    pub host: String,
    /// Where the audit lies.
    pub folder: String,
}

impl Default for Source {
    fn default() -> Source {
        Source::new("KURA", None, None, "")
    }
}

impl Source {
    pub fn new(ae_title: &str, id: Option<&str>, site: Option<&str>, folder: &str) -> Source {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Source {
            ae_title: ae_title.to_owned(),
            id: id.unwrap_or(&host).to_owned(),
            site: site.unwrap_or_default().to_owned(),
            host,
            folder: folder.to_owned(),
        }
    }
}

/// Code, and what it means, of coding scheme DCM (PS3.16 D).
type Code = (&'static str, &'static str);

mod event_id {
    use super::Code;
    pub const APPLICATION_ACTIVITY: Code = ("110100", "Application Activity");
    pub const AUDIT_LOG_USED: Code = ("110101", "Audit Log Used");
    pub const INSTANCES_ACCESSED: Code = ("110103", "DICOM Instances Accessed");
    pub const INSTANCES_TRANSFERRED: Code = ("110104", "DICOM Instances Transferred");
    pub const STUDY_DELETED: Code = ("110105", "DICOM Study Deleted");
    pub const QUERY: Code = ("110112", "Query");
    pub const SECURITY_ALERT: Code = ("110113", "Security Alert");
    pub const USER_AUTHENTICATION: Code = ("110114", "User Authentication");
}

mod event_type {
    use super::Code;
    pub const START: Code = ("110120", "Application Start");
    pub const STOP: Code = ("110121", "Application Stop");
    pub const LOGIN: Code = ("110122", "Login");
    pub const LOGOUT: Code = ("110123", "Logout");
    pub const NODE_AUTHENTICATION: Code = ("110126", "Node Authentication");
    pub const SOFTWARE_CONFIGURATION: Code = ("110131", "Software Configuration");
    pub const AUDIT_STOPPED: Code = ("110133", "Audit Recording Stopped");
    pub const AUDIT_STARTED: Code = ("110134", "Audit Recording Started");
    pub const OBJECT_ATTRIBUTES: Code = ("110135", "Object Security Attributes Changed");
    pub const USER_ATTRIBUTES: Code = ("110137", "User Security Attributes Changed");
}

const APPLICATION: Code = ("110150", "Application");
const LAUNCHER: Code = ("110151", "Application Launcher");
const DESTINATION: Code = ("110152", "Destination Role ID");
const SOURCE: Code = ("110153", "Source Role ID");
const STUDY_UID: Code = ("110180", "Study Instance UID");
const SOP_CLASS_UID: Code = ("110181", "SOP Class UID");
/// Of RFC 3881, by which the schema's other codes of objects go.
const PATIENT_NUMBER: Code = ("2", "Patient Number");
const USER_NUMBER: Code = ("11", "User Identifier");
const URI: Code = ("12", "URI");

const DCM: &str = "DCM";
const RFC_3881: &str = "RFC-3881";
/// Of identifiers of queries.
const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// What the event is: its ID, its type, and the action code.
fn meaning(event: &Event) -> Option<(Code, Option<Code>, &'static str)> {
    use event_id::*;
    use event_type::*;
    Some(match event.kind {
        Kind::Stored | Kind::Pulled => (INSTANCES_TRANSFERRED, None, "C"),
        Kind::Moved | Kind::Got | Kind::Forwarded => (INSTANCES_TRANSFERRED, None, "R"),
        Kind::Committed | Kind::Looked => (INSTANCES_ACCESSED, None, "R"),
        // The tables want a study there.
        Kind::Amended if !event.studies.is_empty() => (INSTANCES_ACCESSED, None, "U"),
        Kind::Removed if !event.studies.is_empty() => (INSTANCES_ACCESSED, None, "D"),
        Kind::Deleted => (STUDY_DELETED, None, "D"),
        Kind::Queried => (QUERY, None, "E"),
        Kind::Change | Kind::Amended | Kind::Removed => {
            (SECURITY_ALERT, Some(SOFTWARE_CONFIGURATION), "E")
        }
        Kind::Account => (SECURITY_ALERT, Some(USER_ATTRIBUTES), "E"),
        Kind::Refused => (SECURITY_ALERT, Some(NODE_AUTHENTICATION), "E"),
        Kind::AuditExport if event.failed => (SECURITY_ALERT, Some(AUDIT_STOPPED), "E"),
        Kind::AuditExport => (SECURITY_ALERT, Some(AUDIT_STARTED), "E"),
        Kind::AuditLost => (SECURITY_ALERT, Some(AUDIT_STOPPED), "E"),
        Kind::AuditCut => (SECURITY_ALERT, Some(OBJECT_ATTRIBUTES), "E"),
        Kind::SignedIn | Kind::SignInFailed => (USER_AUTHENTICATION, Some(LOGIN), "E"),
        Kind::SignedOut => (USER_AUTHENTICATION, Some(LOGOUT), "E"),
        Kind::Started => (APPLICATION_ACTIVITY, Some(START), "E"),
        Kind::Stopped => (APPLICATION_ACTIVITY, Some(STOP), "E"),
        Kind::AuditRead => (AUDIT_LOG_USED, None, "R"),
        // The instances are where they were for everybody: other copies stay.
        Kind::Left => return None,
    })
}

/// The message of a line, without XML declaration, on one line; `None`: there is none for what it says.
pub(super) fn of(entry: &Entry, source: &Source) -> Option<String> {
    let known = entry.event.clone();
    let event = known.unwrap_or_else(|| Event::new(Kind::Change));
    let (id, kind, action) = meaning(&event)?;
    let mut message = Element::new("AuditMessage");
    message.add(identification(entry, &event, id, kind, action));
    for participant in participants(entry, &event, source) {
        message.add(participant);
    }
    let mut reported = Element::new("AuditSourceIdentification");
    if !source.site.is_empty() {
        reported.set("AuditEnterpriseSiteID", &source.site);
    }
    reported.set("AuditSourceID", &source.id);
    // An application server.
    reported.add(Element::new("AuditSourceTypeCode").with("csd-code", "4"));
    message.add(reported);
    for object in objects(entry, &event, source) {
        message.add(object);
    }
    Some(message.text())
}

/// Whether an event went wrong: it is a warning then.
pub(super) fn is_failure(entry: &Entry) -> bool {
    let event = entry.event.as_ref();
    event.is_some_and(|event| {
        event.failed
            || event.failed_count > 0
            || matches!(
                event.kind,
                Kind::Refused | Kind::SignInFailed | Kind::AuditLost
            )
    })
}

fn identification(
    entry: &Entry,
    event: &Event,
    id: Code,
    kind: Option<Code>,
    action: &str,
) -> Element {
    // Minor failure, or the audit itself.
    let outcome = match (event.kind, is_failure(entry)) {
        (Kind::AuditLost, _) => "8",
        (Kind::AuditExport, _) | (_, false) => "0",
        _ => "4",
    };
    let mut element = Element::new("EventIdentification")
        .with("EventActionCode", action)
        .with("EventDateTime", &entry.at)
        .with("EventOutcomeIndicator", outcome);
    element.add(coded("EventID", id, DCM));
    if let Some(kind) = kind {
        element.add(coded("EventTypeCode", kind, DCM));
    }
    let mut said = match event.kind {
        Kind::Change | Kind::Account | Kind::Amended | Kind::Removed => entry.outcome.clone(),
        _ => format!("{}: {}", entry.what, entry.outcome),
    };
    if event.times > 1 {
        said.push_str(&format!(" ({} times)", event.times));
    }
    element.add(Element::new("EventOutcomeDescription").containing(&said));
    element
}

fn coded(name: &'static str, (code, meaning): Code, scheme: &str) -> Element {
    Element::new(name)
        .with("csd-code", code)
        .with("codeSystemName", scheme)
        .with("displayName", meaning)
        .with("originalText", meaning)
}

/// Somebody who took part.
struct Participant<'a> {
    id: &'a str,
    ae_title: bool,
    /// Address, or name of a machine; empty: not known.
    at: &'a str,
    is_requestor: bool,
    role: Option<Code>,
    /// As whom it signed in, and by which certificate it was known.
    named: &'a str,
    certificate: &'a str,
}

impl<'a> Participant<'a> {
    fn new(id: &'a str, at: &'a str, is_requestor: bool, role: Option<Code>) -> Participant<'a> {
        Participant {
            id,
            ae_title: false,
            at,
            is_requestor,
            role,
            named: "",
            certificate: "",
        }
    }

    /// Another AE: then the standard wants its title as alternative.
    fn node(self) -> Participant<'a> {
        Participant {
            ae_title: true,
            ..self
        }
    }

    fn element(&self) -> Element {
        let mut element = Element::new("ActiveParticipant");
        // Never empty: who calls without a title is nobody in particular.
        element.set(
            "UserID",
            if self.id.is_empty() {
                "unknown"
            } else {
                self.id
            },
        );
        match (self.ae_title, self.certificate) {
            (true, _) => element.set("AlternativeUserID", &format!("AETITLES={}", self.id)),
            (false, "") => {}
            (false, certificate) => element.set("AlternativeUserID", certificate),
        }
        match (self.named, self.certificate) {
            ("", "") => {}
            ("", certificate) => element.set("UserName", certificate),
            (named, _) => element.set("UserName", named),
        }
        element.set(
            "UserIsRequestor",
            if self.is_requestor { "true" } else { "false" },
        );
        let (at, kind) = network(self.at);
        if !at.is_empty() {
            element.set("NetworkAccessPointID", at);
            element.set("NetworkAccessPointTypeCode", kind);
        }
        if let Some(role) = self.role {
            element.add(coded("RoleIDCode", role, DCM));
        }
        element
    }
}

/// An address without its port, and whether it is a number (2) or a name (1).
fn network(text: &str) -> (&str, &'static str) {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return (text, "2");
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(_) => (host, "2"),
        // Not `command line`.
        Err(_) if host.contains(' ') => ("", ""),
        Err(_) => (host, "1"),
    }
}

fn participants(entry: &Entry, event: &Event, source: &Source) -> Vec<Element> {
    let us = |is_requestor, role| {
        Participant::new(&source.ae_title, &source.host, is_requestor, role).node()
    };
    let who = |role| Participant {
        named: &event.user,
        certificate: &event.certificate,
        ..Participant::new(&entry.who, &entry.from, true, role)
    };
    let other = |role| Participant::new(&event.peer, &event.peer_address, false, role).node();
    let from = Some(SOURCE);
    let to = Some(DESTINATION);
    let all = match event.kind {
        Kind::Stored => vec![who(from).node(), us(false, to)],
        Kind::Moved => vec![us(false, from), other(to), who(None).node()],
        Kind::Got => vec![us(false, from), who(to).node()],
        Kind::Forwarded => vec![us(true, from), other(to)],
        Kind::Pulled => vec![other(from), us(true, to)],
        // From the page or the command line it has no model.
        Kind::Queried if event.model.is_empty() => vec![who(from), us(false, to)],
        Kind::Queried => vec![who(from).node(), us(false, to)],
        Kind::Committed => vec![who(None).node(), us(false, None)],
        Kind::Refused => vec![who(None).node(), us(false, None)],
        Kind::Started | Kind::Stopped => vec![us(false, Some(APPLICATION)), who(Some(LAUNCHER))],
        Kind::Deleted | Kind::AuditCut | Kind::AuditLost if entry.who == "kura" => {
            vec![us(true, None)]
        }
        _ => vec![who(None), us(false, None)],
    };
    all.iter().map(Participant::element).collect()
}

/// One that the event is about: type and role of RFC 3881.
fn object(id: &str, kind: &str, role: &str, coding: (Code, &str)) -> Element {
    let mut element = Element::new("ParticipantObjectIdentification")
        .with("ParticipantObjectID", id)
        .with("ParticipantObjectTypeCode", kind)
        .with("ParticipantObjectTypeCodeRole", role);
    element.add(coded("ParticipantObjectIDTypeCode", coding.0, coding.1));
    element
}

fn named(mut element: Element, name: &str) -> Element {
    element.add(Element::new("ParticipantObjectName").containing(name));
    element
}

fn detail(kind: &str, value: &str) -> Element {
    Element::new("ParticipantObjectDetail")
        .with("type", kind)
        .with("value", &BASE64.encode(value))
}

fn objects(entry: &Entry, event: &Event, source: &Source) -> Vec<Element> {
    let mut objects = Vec::new();
    match event.kind {
        Kind::Queried => {
            let model = match event.model.as_str() {
                "" => crate::dicom::sop::STUDY_ROOT_FIND,
                model => model,
            };
            let mut query = object(model, "2", "3", (SOP_CLASS_UID, DCM));
            query.add(Element::new("ParticipantObjectQuery").containing(&event.query));
            query.add(detail("TransferSyntax", IMPLICIT_VR_LITTLE_ENDIAN));
            objects.push(query);
        }
        Kind::AuditRead | Kind::AuditCut | Kind::AuditLost | Kind::AuditExport => {
            let uri = format!("file://{}", source.folder);
            let log = object(&uri, "2", "13", (URI, RFC_3881));
            objects.push(named(log, "Security Audit Log"));
        }
        Kind::Change | Kind::Account => {
            let changed = object(&source.id, "2", "13", (URI, RFC_3881));
            let mut changed = named(changed, "Kura");
            // Of the alert: what it is about (A.5.3.11).
            changed.add(detail("Alert Description", &entry.what));
            objects.push(changed);
        }
        Kind::Refused => {
            let refused = object(&entry.who, "2", "13", (USER_NUMBER, RFC_3881));
            let mut refused = named(refused, &entry.who);
            refused.add(detail("Alert Description", &entry.outcome));
            objects.push(refused);
        }
        _ => {}
    }
    for study in &event.studies {
        let object = object(study, "2", "3", (STUDY_UID, DCM));
        let mut object = named(object, study);
        let mut description = Element::new("ParticipantObjectDescription");
        if event.instances_count + event.failed_count > 0 {
            let count = event.instances_count.to_string();
            description.add(Element::new("SOPClass").with("NumberOfInstances", &count));
            if event.failed_count > 0 {
                object.add(detail("FailedInstances", &event.failed_count.to_string()));
            }
        }
        let mut contains = Element::new("ParticipantObjectContainsStudy");
        contains.add(Element::new("StudyIDs").with("UID", study));
        description.add(contains);
        object.add(description);
        objects.push(object);
    }
    for patient in &event.patients {
        let object = object(patient, "1", "1", (PATIENT_NUMBER, RFC_3881));
        // The schema wants a name; that of the patient is not known here, and nobody's business.
        objects.push(named(object, ""));
    }
    objects
}

/// An element of XML.
struct Element {
    name: &'static str,
    attributes: String,
    content: String,
}

impl Element {
    fn new(name: &'static str) -> Element {
        Element {
            name,
            attributes: String::new(),
            content: String::new(),
        }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.attributes.push(' ');
        self.attributes.push_str(name);
        self.attributes.push_str("=\"");
        escape(value, &mut self.attributes);
        self.attributes.push('"');
    }

    fn with(mut self, name: &'static str, value: &str) -> Element {
        self.set(name, value);
        self
    }

    fn add(&mut self, element: Element) {
        self.content.push_str(&element.text());
    }

    fn containing(mut self, text: &str) -> Element {
        escape(text, &mut self.content);
        self
    }

    fn text(self) -> String {
        let Element {
            name,
            attributes,
            content,
        } = self;
        match content.is_empty() {
            true => format!("<{name}{attributes}/>"),
            false => format!("<{name}{attributes}>{content}</{name}>"),
        }
    }
}

/// For attributes and texts. Line ends are escaped too: a parser would make spaces of them, and a message is one line.
/// What XML 1.0 has no way to write (2.2) becomes U+FFFD.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            // Allowed, and better not seen raw by who prints a line of a log.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry {
            at: "2026-11-22T08:20:00Z".to_owned(),
            who: "CT1".to_owned(),
            from: "10.0.0.7".to_owned(),
            what: "3 instances of a study".to_owned(),
            outcome: "done".to_owned(),
            event: Some(Event {
                studies: vec!["1.2.3".to_owned()],
                patients: vec!["4711".to_owned()],
                instances_count: 3,
                ..Event::new(kind)
            }),
            previous: String::new(),
        }
    }

    /// Method: values that would end an attribute, an element or the message in every place that a stranger fills.
    #[test]
    fn what_a_stranger_says_stays_a_value() {
        let evil = "\"'><AuditMessage x='&lt;\0\u{1b}\n]]>-->\u{ffff}";
        let mut entry = entry(Kind::Moved);
        for text in [
            &mut entry.who,
            &mut entry.from,
            &mut entry.what,
            &mut entry.outcome,
        ] {
            *text = evil.to_owned();
        }
        let event = entry.event.as_mut().unwrap();
        for text in [
            &mut event.user,
            &mut event.certificate,
            &mut event.peer,
            &mut event.peer_address,
        ] {
            *text = evil.to_owned();
        }
        event.studies = vec![evil.to_owned()];
        event.patients = vec![evil.to_owned()];
        for kind in Kind::ALL {
            entry.event.as_mut().unwrap().kind = kind;
            let Some(text) = of(&entry, &Source::new(evil, Some(evil), Some(evil), evil)) else {
                assert_eq!(kind, Kind::Left);
                continue;
            };
            assert_eq!(text.matches("<AuditMessage").count(), 1, "{text}");
            assert_eq!(text.matches("</AuditMessage>").count(), 1, "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    /// What the tables of A.5.3 want, for some.
    #[test]
    fn each_event_has_its_code_and_its_participants() {
        for (kind, code, action, participants) in [
            (Kind::Stored, "110104", "C", 2),
            (Kind::Moved, "110104", "R", 3),
            (Kind::Got, "110104", "R", 2),
            (Kind::Queried, "110112", "E", 2),
            (Kind::Looked, "110103", "R", 2),
            (Kind::Deleted, "110105", "D", 2),
            (Kind::Refused, "110113", "E", 2),
            (Kind::SignedIn, "110114", "E", 2),
            (Kind::Started, "110100", "E", 2),
            (Kind::AuditRead, "110101", "R", 2),
        ] {
            let text = of(&entry(kind), &Source::default()).unwrap();
            assert!(
                text.contains(&format!("<EventID csd-code=\"{code}\"")),
                "{text}"
            );
            assert!(
                text.contains(&format!("EventActionCode=\"{action}\"")),
                "{text}"
            );
            assert_eq!(
                text.matches("<ActiveParticipant ").count(),
                participants,
                "{text}"
            );
            assert!(text.contains("ParticipantObjectID=\"1.2.3\""), "{text}");
            assert!(text.contains("ParticipantObjectID=\"4711\""), "{text}");
        }
        let mut failed = entry(Kind::Moved);
        failed.event.as_mut().unwrap().failed_count = 1;
        let text = of(&failed, &Source::default()).unwrap();
        assert!(text.contains("EventOutcomeIndicator=\"4\""), "{text}");
    }

    #[test]
    fn an_address_is_known_from_a_name() {
        for (text, expected) in [
            ("10.0.0.7", ("10.0.0.7", "2")),
            ("10.0.0.7:104", ("10.0.0.7", "2")),
            ("::1", ("::1", "2")),
            ("[::1]:104", ("::1", "2")),
            ("pacs:104", ("pacs", "1")),
            ("command line", ("", "")),
            ("", ("", "1")),
        ] {
            assert_eq!(network(text), expected, "{text}");
        }
    }
}
