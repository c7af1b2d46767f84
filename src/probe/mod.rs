//! What a peer can do, tried out: asked for by `kura doctor PEER` and by the administrator's page.
//!
//! Nothing of a patient is sent or asked for: questions are about a study that nobody has, and only when that is asked for
//! an image of nobody is sent, and asked back.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what is tried, in which order |
//! | `line` | an association, questions over it |
//! | `image` | the image of nobody |
//! | `words` | what went wrong, and where to change what |

mod image;
mod line;
mod words;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Selection};
use crate::config::{Config, PeerEntry};
use crate::dicom::names::{known_transfer_syntaxes, sop_class_name, transfer_syntax_name};
use crate::dicom::sop;
use crate::metrics::Ended;
use crate::net::{Association, NetError};

use image::TestImage;
use line::{Line, in_plain};
use words::Said;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tried {
    /// `echo`, `find`, `move` …
    pub what: String,
    /// `ok`, `warning`, `failed` or `skipped`.
    pub outcome: String,
    /// A sentence.
    pub found: String,
    /// What to change, and where; empty where nothing is to be done.
    pub next: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeReport {
    /// Its AE title.
    pub peer: String,
    pub tried: Vec<Tried>,
}

/// What is to be tried, and with what.
pub struct Trial<'a> {
    pub config: &'a Config,
    pub peer: &'a PeerEntry,
    /// Of the running server; none: what is sent back cannot be received.
    pub archive: Option<&'a Arc<Archive>>,
    /// Associations that the server had lately, and of them those that failed; the newest first.
    pub lately: Vec<Ended>,
    pub failed: Vec<Ended>,
    /// Send an image of nobody, and ask it back.
    pub send_image: bool,
    deadline: Instant,
}

/// For everything.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME_PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// An archive may take a while until it answers for what it just took, and to send it.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Kinds of images that a hospital has.
const KINDS: [&str; 20] = [
    "1.2.840.10008.5.1.4.1.1.2",        // CT
    "1.2.840.10008.5.1.4.1.1.2.1",      // Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",        // MR
    "1.2.840.10008.5.1.4.1.1.4.1",      // Enhanced MR
    "1.2.840.10008.5.1.4.1.1.1",        // CR
    "1.2.840.10008.5.1.4.1.1.1.1",      // DX
    "1.2.840.10008.5.1.4.1.1.1.2",      // MG
    "1.2.840.10008.5.1.4.1.1.13.1.3",   // breast tomosynthesis
    "1.2.840.10008.5.1.4.1.1.6.1",      // US
    "1.2.840.10008.5.1.4.1.1.3.1",      // US multi-frame
    "1.2.840.10008.5.1.4.1.1.12.1",     // XA
    "1.2.840.10008.5.1.4.1.1.12.2",     // RF
    "1.2.840.10008.5.1.4.1.1.20",       // NM
    "1.2.840.10008.5.1.4.1.1.128",      // PET
    "1.2.840.10008.5.1.4.1.1.77.1.1.1", // video endoscopy
    image::SOP_CLASS,
    "1.2.840.10008.5.1.4.1.1.104.1", // PDF
    "1.2.840.10008.5.1.4.1.1.11.1",  // presentation state
    "1.2.840.10008.5.1.4.1.1.88.22", // enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.59", // key objects
];

/// Specific Character Sets in which a name is asked for, what they are called, and the name.
const CHARACTER_SETS: [(&str, &str, &str); 4] = [
    ("ISO_IR 192", "UTF-8", "倉^試験*"),
    (
        "\\ISO 2022 IR 87",
        "Japanese (ISO 2022 IR 87)",
        "Kura^Test=倉^試験*",
    ),
    ("ISO_IR 100", "Latin 1", "Müller*"),
    ("", "ASCII", "KURA^TEST*"),
];

impl<'a> Trial<'a> {
    pub fn new(config: &'a Config, peer: &'a PeerEntry) -> Trial<'a> {
        Trial {
            config,
            peer,
            archive: None,
            lately: Vec::new(),
            failed: Vec::new(),
            send_image: false,
            deadline: Instant::now() + PATIENCE,
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Tries everything; takes a minute at most, and a few seconds more for what is under way then.
    pub fn run(mut self) -> ProbeReport {
        self.deadline = Instant::now() + PATIENCE;
        let mut report = Report::default();
        let mut addresses = Vec::new();
        if self.peer.is_caller() {
            report.skipped(
                "name",
                "its address is not configured: it is sent to where it calls from, and cannot be called by itself",
            );
        } else {
            addresses = self.resolve(&mut report);
        }
        if !addresses.is_empty() && self.connect(&mut report, &addresses) {
            self.ask(&mut report, &addresses);
        }
        self.calls_of_it(&mut report, &addresses);
        ProbeReport {
            peer: self.peer.ae_title.as_str().to_owned(),
            tried: report.tried,
        }
    }

    /// On a thread of its own: a name server that is away holds up whoever asks for half a minute.
    fn resolve(&self, report: &mut Report) -> Vec<SocketAddr> {
        let (host, port) = (self.peer.host.clone(), self.peer.port);
        let (found, answer) = mpsc::channel();
        let asked = host.clone();
        let thread = std::thread::Builder::new().name("name".to_owned());
        let spawned = thread.spawn(move || {
            let addresses = (asked.as_str(), port).to_socket_addrs();
            let _ = found.send(addresses.map(|all| all.take(ADDRESSES_MAX).collect()));
        });
        let next = "is the name right? enter it at your name server or in /etc/hosts, or configure the address itself";
        if let Err(error) = spawned {
            report.failed(
                "name",
                format!("{host} could not be looked up: {error}"),
                next,
            );
            return Vec::new();
        }
        match answer.recv_timeout(NAME_PATIENCE) {
            Ok(Ok(addresses)) => {
                let addresses: Vec<SocketAddr> = addresses;
                // An address is its own name.
                if host.parse::<std::net::IpAddr>().is_err() {
                    let all: Vec<_> = addresses.iter().map(|a| a.ip().to_string()).collect();
                    report.ok("name", format!("{host} is {}", all.join(", ")));
                }
                addresses
            }
            Ok(Err(error)) => {
                report.failed("name", format!("{host} has no address: {error}"), next);
                Vec::new()
            }
            Err(_) => {
                report.failed("name", format!("nobody says where {host} is"), next);
                Vec::new()
            }
        }
    }

    fn connect(&self, report: &mut Report, addresses: &[SocketAddr]) -> bool {
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(address, CONNECT_PATIENCE) {
                Ok(_) => {
                    report.ok("connection", format!("{address} takes connections"));
                    return true;
                }
                Err(error) => last = Some(error),
            }
        }
        if let Some(error) = last {
            let said = words::no_connection(&error);
            let at = format!("{}:{}: {}", self.peer.host, self.peer.port, said.found);
            report.failed("connection", at, &said.next);
        }
        false
    }

    fn ask(&self, report: &mut Report, addresses: &[SocketAddr]) {
        if !self.echo(report, addresses) {
            return;
        }
        let takes_images = self.storage(report, addresses);
        let answers = self.questions(report, addresses);
        if !self.send_image {
            report.skipped(
                "test image",
                "no image was sent; kura doctor PEER --send-test-image sends one of nobody, and asks it back",
            );
        } else if takes_images {
            self.image(report, addresses, &answers);
        } else {
            report.skipped(
                "test image",
                "it does not take the kind that the test image is",
            );
        }
        report.skipped(
            "clock",
            "DICOM has no question for the time; compare its clock with this machine's by eye, as dates of studies are its",
        );
    }

    /// The association, and C-ECHO over it.
    fn echo(&self, report: &mut Report, addresses: &[SocketAddr]) -> bool {
        let (peer, config) = (self.peer, self.config);
        let begun = Instant::now();
        let contexts = vec![in_plain(sop::VERIFICATION)];
        let mut line = match Line::open(self, addresses, contexts) {
            Ok(line) => line,
            Err(error) => {
                let said = words::no_association(&error, peer, config);
                report.failed("association", said.found, &said.next);
                return false;
            }
        };
        let who = line.association.peer();
        let name = match who.implementation_version_name.as_str() {
            "" => String::new(),
            name => format!(", {}", plain(name)),
        };
        report.ok(
            "association",
            format!(
                "it takes {} calling {}{name}",
                config.ae_title, peer.ae_title
            ),
        );
        if let Some(tls) = who.tls {
            let shown = who.certificate.as_ref().map(|certificate| {
                let (who, until) = (certificate.who(), certificate.until());
                let until = until.map_or(String::new(), |until| format!(", until {until}"));
                format!("; its certificate is for {}{until}", plain(&who))
            });
            report.ok("tls", format!("{tls}{}", shown.unwrap_or_default()));
        }
        if line.context(sop::VERIFICATION).is_none() {
            report.warning("echo", "it does not offer verification (C-ECHO)", "");
            line.close();
            return true;
        }
        match crate::scu::echo(&mut line.association) {
            Ok(0) => {
                let ms = begun.elapsed().as_millis();
                report.ok("echo", format!("it answers C-ECHO, in {ms} ms"));
                line.close();
                true
            }
            Ok(status) => {
                let status = words::status(status);
                report.warning("echo", format!("it answers C-ECHO with {status}"), "");
                line.close();
                true
            }
            Err(error) => {
                report.broke("echo", &error);
                false
            }
        }
    }

    /// Which kinds of images it takes, in which encodings, by what it accepts; whether the test image is among them.
    fn storage(&self, report: &mut Report, addresses: &[SocketAddr]) -> bool {
        let mut contexts: Vec<_> = KINDS.map(in_plain).to_vec();
        // CT and Secondary Capture: what takes neither takes few.
        let tried = [KINDS[0], image::SOP_CLASS];
        for class in tried {
            contexts.extend(
                known_transfer_syntaxes().map(|syntax| (class.to_owned(), vec![syntax.to_owned()])),
            );
        }
        let line = match Line::open(self, addresses, contexts) {
            Ok(line) => line,
            Err(error) => {
                let said = words::no_association(&error, self.peer, self.config);
                report.warning(
                    "storage",
                    format!("offered images, it gives no association: {}", said.found),
                    &said.next,
                );
                return false;
            }
        };
        let taken = |class: &&&str| line.association.context_for(class, None).is_some();
        let refused: Vec<String> = KINDS
            .iter()
            .filter(|class| !taken(class))
            .map(|class| sop_class_name(class).replace(" Storage", ""))
            .collect();
        let takes = |association: &Association, syntax: &str| {
            let mut classes = tried.iter();
            classes.any(|class| association.context_for(class, Some(syntax)).is_some())
        };
        let syntaxes: Vec<String> = known_transfer_syntaxes()
            .filter(|syntax| takes(&line.association, syntax))
            .map(transfer_syntax_name)
            .collect();
        let all = KINDS.len();
        match refused.len() {
            0 => report.ok(
                "storage",
                format!("it takes all {all} kinds of images that were offered"),
            ),
            none if none == all => report.warning(
                "storage",
                "it takes no images (C-STORE): nothing can be sent to it",
                "if images are to go there: is storing allowed for us there?",
            ),
            some => report.ok(
                "storage",
                format!(
                    "it takes {} of {all} kinds of images; not: {}",
                    all - some,
                    refused.join(", ")
                ),
            ),
        }
        if !syntaxes.is_empty() {
            let is_plain = |name: &String| name.ends_with("Endian");
            let how = match syntaxes.iter().all(is_plain) {
                true => "; what is compressed is sent to it uncompressed",
                false => "",
            };
            report.ok("transfer syntaxes", format!("{}{how}", syntaxes.join(", ")));
        }
        let takes_test = line.context(image::SOP_CLASS).is_some();
        line.close();
        takes_test
    }

    /// Queries, and requests to send something here.
    fn questions(&self, report: &mut Report, addresses: &[SocketAddr]) -> Answers {
        let mut answers = Answers::default();
        let classes = [
            sop::STUDY_ROOT_FIND,
            sop::PATIENT_ROOT_FIND,
            sop::STUDY_ROOT_MOVE,
            sop::PATIENT_ROOT_MOVE,
            sop::STUDY_ROOT_GET,
        ];
        let contexts = classes.map(in_plain).to_vec();
        let mut line = match Line::open(self, addresses, contexts) {
            Ok(line) => line,
            Err(error) => {
                let said = words::no_association(&error, self.peer, self.config);
                let found = format!("asked for queries, it gives no association: {}", said.found);
                report.warning("find", found, &said.next);
                return answers;
            }
        };
        let finds = [
            (sop::STUDY_ROOT_FIND, "Study Root"),
            (sop::PATIENT_ROOT_FIND, "Patient Root"),
        ];
        let offered: Vec<_> = finds
            .into_iter()
            .filter(|(class, _)| line.context(class).is_some())
            .collect();
        let Some((class, _)) = offered.first().copied() else {
            report.skipped(
                "find",
                "it does not answer queries (C-FIND): it is no archive, or does not let us ask",
            );
            line.close();
            return answers;
        };
        let nobody = image::new_uid();
        let models: Vec<&str> = offered.iter().map(|(_, name)| *name).collect();
        let keys = [(tags::STUDY_INSTANCE_UID, nobody.as_str())];
        match line.find(class, &keys, "") {
            Ok((0, None)) => {
                let models = models.join(" and ");
                report.ok("find", format!("it answers queries ({models})"));
                answers.find = Some(class);
            }
            Ok((_, Some(_))) => {
                report.warning(
                    "find",
                    "asked for a study that nobody has, it answers another one: it does not look at what is asked",
                    "its manufacturer should know; searches in it find too much",
                );
                answers.find = Some(class);
            }
            Ok((status, None)) => {
                let status = words::status(status);
                report.failed(
                    "find",
                    format!("it offers queries, and answers one with {status}"),
                    "its own log says why; are we allowed to ask there?",
                );
            }
            Err(error) => {
                report.broke("find", &error);
                return answers;
            }
        }
        if answers.find.is_some() && !character_sets(report, &mut line, class, &nobody) {
            return answers;
        }
        self.moves(report, &mut line, &nobody, &mut answers);
        line.close();
        answers
    }

    /// A request for what nobody has says whether it knows where to send.
    fn moves(&self, report: &mut Report, line: &mut Line, nobody: &str, answers: &mut Answers) {
        let moves = [sop::STUDY_ROOT_MOVE, sop::PATIENT_ROOT_MOVE];
        let gets = line.context(sop::STUDY_ROOT_GET).is_some();
        let Some(class) = moves
            .into_iter()
            .find(|class| line.context(class).is_some())
        else {
            match gets {
                true => report.ok(
                    "move",
                    "it sends images only over the same association: kura pull --get",
                ),
                false => {
                    report.skipped("move", "it does not send images on request (C-MOVE, C-GET)")
                }
            }
            return;
        };
        let ours = &self.config.ae_title;
        let also = if gets { "; C-GET, too" } else { "" };
        match line.move_here(self, class, nobody) {
            Ok(outcome) if outcome.status == 0xA801 => {
                let next = format!(
                    "if images are to come from there: enter this server there, {} (in Conquest in acrnema.map, in Orthanc under DicomModalities, in dcmqrscp in the HostTable)",
                    words::us(self.config)
                );
                report.warning(
                    "move",
                    format!("it would not send images here: it knows no destination {ours}{also}"),
                    &next,
                );
            }
            Ok(outcome) => {
                // What nobody has cannot be sent, and archives say that in different ways.
                answers.moves = Some(class);
                let how = match outcome.status {
                    0 => String::new(),
                    status => format!(" (asked for what nobody has: {})", words::status(status)),
                };
                report.ok(
                    "move",
                    format!("it takes requests to send to {ours}{how}{also}"),
                );
            }
            Err(error) => report.broke("move", &error),
        }
    }

    fn image(&self, report: &mut Report, addresses: &[SocketAddr], answers: &Answers) {
        let image = TestImage::new();
        let mut line = match Line::open(self, addresses, vec![in_plain(image::SOP_CLASS)]) {
            Ok(line) => line,
            Err(error) => return report.broke("test image", &error),
        };
        match line.store(image::SOP_CLASS, &image) {
            Ok(outcome) if outcome.is_stored() => {
                let id = image::PATIENT_ID;
                report.ok(
                    "test image",
                    format!("it took one; delete it there when you have seen it (Patient ID {id})"),
                );
            }
            Ok(outcome) => {
                let (status, comment) = (words::status(outcome.status), plain(&outcome.comment));
                let found = format!("it refuses the test image with {status} {comment}");
                let next = "its own log says why; is it full, or does it take only known patients?";
                return report.failed("test image", found.trim(), next);
            }
            Err(error) => return report.broke("test image", &error),
        }
        line.close();
        let Some(find) = answers.find else {
            return;
        };
        let contexts = [Some(find), answers.moves];
        let contexts = contexts.into_iter().flatten().map(in_plain).collect();
        let mut line = match Line::open(self, addresses, contexts) {
            Ok(line) => line,
            Err(error) => return report.broke("test image", &error),
        };
        if self.finds_it(report, &mut line, find, &image)
            && let Some(class) = answers.moves
        {
            self.comes_back(report, &mut line, class, &image);
        }
        line.close();
    }

    /// Whether it answers for what it took, with the name as it was sent.
    fn finds_it(
        &self,
        report: &mut Report,
        line: &mut Line,
        class: &str,
        image: &TestImage,
    ) -> bool {
        let keys = [
            (tags::PATIENT_NAME, ""),
            (tags::STUDY_INSTANCE_UID, image.study_instance_uid.as_str()),
        ];
        let begun = Instant::now();
        let found = loop {
            match line.find(class, &keys, "ISO_IR 192") {
                Ok((_, Some(found))) => break found,
                Ok(_) if begun.elapsed() < ARRIVAL_PATIENCE && !self.left().is_zero() => {
                    std::thread::sleep(ASK_EVERY);
                }
                Ok(_) => {
                    let found = "it took the test image, and does not find it";
                    let next =
                        "does it file what comes under other UIDs, or only for known patients?";
                    report.warning("test image", found, next);
                    return false;
                }
                Err(error) => {
                    report.broke("test image", &error);
                    return false;
                }
            }
        };
        let set = found.text(tags::SPECIFIC_CHARACTER_SET);
        let set = match set.as_deref().map(str::trim) {
            None | Some("") => "none named".to_owned(),
            Some(set) => plain(set),
        };
        let name = found.text(tags::PATIENT_NAME).unwrap_or_default();
        match name.trim_end_matches(['=', '^', ' ']) == image::PATIENT_NAME {
            true => report.ok("names", format!("Japanese names come back as they were sent ({set})")),
            false => report.warning(
                "names",
                format!("a Japanese name comes back as {} ({set})", plain(&name)),
                "names that it answers may be wrong; what it sends as images keeps them: look at its character set settings",
            ),
        }
        true
    }

    fn comes_back(&self, report: &mut Report, line: &mut Line, class: &str, image: &TestImage) {
        let Some(archive) = self.archive else {
            report.skipped(
                "move back",
                "no server runs here that could receive it: kura serve",
            );
            return;
        };
        let outcome = match line.move_here(self, class, &image.study_instance_uid) {
            Ok(outcome) => outcome,
            Err(error) => return report.broke("move back", &error),
        };
        let wanted = Selection::Instances(vec![image.sop_instance_uid.clone()]);
        let is_here = || archive.select(&wanted).is_ok_and(|found| !found.is_empty());
        let begun = Instant::now();
        while !is_here() && outcome.status == 0 && begun.elapsed() < ARRIVAL_PATIENCE {
            std::thread::sleep(ASK_EVERY);
        }
        let study = &image.study_instance_uid;
        match is_here() {
            true => report.ok(
                "move back",
                format!("the test image came back; it is here now, and goes with: kura remove --study {study}"),
            ),
            false => {
                let status = words::status(outcome.status);
                let comment = plain(&outcome.comment);
                let found = match outcome.status {
                    0 => "it says that it sent the test image back, and it did not come".to_owned(),
                    _ => format!("it does not send the test image back: {status} {comment}"),
                };
                let next = format!(
                    "has it the right address of us? {}; what reached us and failed is below, if anything",
                    words::us(self.config)
                );
                report.failed("move back", found.trim(), &next);
            }
        }
    }

    /// The other direction: what it did when it called.
    fn calls_of_it(&self, report: &mut Report, addresses: &[SocketAddr]) {
        // An address of this machine may be anybody's.
        let is_its_address = |address: &str| {
            let theirs = addresses.iter().map(SocketAddr::ip);
            let mut theirs = theirs.filter(|ip| !ip.is_loopback());
            theirs.any(|ip| ip.to_string() == address)
        };
        let is_it = |one: &&Ended| self.peer.is(&one.calling) || is_its_address(&one.address);
        let failed = self.failed.iter().find(is_it);
        let last = self.lately.iter().find(is_it);
        if let Some(failed) = failed {
            let since = match last {
                Some(last) if !last.failed && last.begun > failed.begun => {
                    "; the last one since then went well"
                }
                _ => "",
            };
            let times = match failed.times {
                0 | 1 => String::new(),
                times => format!(" ({times} times)"),
            };
            let (begun, end) = (&failed.begun, plain(&failed.end));
            let begun = begun.get(..16).unwrap_or(begun).replace('T', " ");
            let found =
                format!("an association from it failed at {begun} UTC{times}: {end}{since}");
            match since {
                "" => report.warning("its calls", found, &failed.next),
                _ => report.ok("its calls", found),
            }
            return;
        }
        match last {
            Some(last) => report.ok(
                "its calls",
                format!("it last called at {}, and that went well", last.begun),
            ),
            None => report.skipped("its calls", "it has not called this server lately"),
        }
    }
}

/// What it answers.
#[derive(Default)]
struct Answers {
    find: Option<&'static str>,
    moves: Option<&'static str>,
}

/// Asks for names that nobody has; false: it broke off.
fn character_sets(report: &mut Report, line: &mut Line, class: &str, nobody: &str) -> bool {
    let (mut takes, mut refuses) = (Vec::new(), Vec::new());
    for (set, name, pattern) in CHARACTER_SETS {
        let keys = [
            (tags::PATIENT_NAME, pattern),
            (tags::STUDY_INSTANCE_UID, nobody),
        ];
        match line.find(class, &keys, set) {
            Ok((0, _) | (_, Some(_))) => takes.push(name),
            Ok((status, None)) => refuses.push(format!("{name} ({})", words::status(status))),
            Err(error) => {
                let Said { found, .. } = words::broke(&error);
                let found = format!("asked for a name in {name}: {found}");
                report.warning(
                    "characters",
                    found,
                    "ask it for names in Latin letters only",
                );
                return false;
            }
        }
    }
    let takes = takes.join(", ");
    match refuses.is_empty() {
        true => report.ok("characters", format!("it takes names in {takes}")),
        false => report.warning(
            "characters",
            format!(
                "it takes names in {takes}; it refuses {}",
                refuses.join(", ")
            ),
            "ask it for names in what it takes, or by Patient ID",
        ),
    }
    true
}

#[derive(Default)]
struct Report {
    tried: Vec<Tried>,
}

impl Report {
    fn add(&mut self, what: &str, outcome: &str, found: impl Into<String>, next: &str) {
        self.tried.push(Tried {
            what: what.to_owned(),
            outcome: outcome.to_owned(),
            found: found.into(),
            next: next.to_owned(),
        });
    }

    fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, "ok", found, "");
    }

    fn warning(&mut self, what: &str, found: impl Into<String>, next: &str) {
        self.add(what, "warning", found, next);
    }

    fn failed(&mut self, what: &str, found: impl Into<String>, next: &str) {
        self.add(what, "failed", found, next);
    }

    fn skipped(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, "skipped", found, "");
    }

    fn broke(&mut self, what: &str, error: &NetError) {
        let Said { found, next } = words::broke(error);
        self.failed(what, found, &next);
    }
}

/// Words of a stranger, for a screen.
fn plain(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(200).collect()
}
