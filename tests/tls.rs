//! Promise: what is spoken over TLS is what is spoken without, to whom both sides trust, and to nobody else.
//!
//! Certificates are made here, by CAs of the test. Other people's programs (DCMTK, pynetdicom, openssl) and this program's
//! own verbs are the other side.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::images::{self, Image};
use common::receivers::Program;
use common::server::free_port;
use common::tools::{peer_script, run, tool};
use common::{Server, Settings, files};
use kura::dicom::{AeTitle, sop, ts};
use kura::net::tls::{Identity, Roots};
use kura::net::{Association, CommandSet, NetError, Timeouts, TlsFault, TlsRequestor, dimse};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A CA and what it has signed, as PEM files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificate and key.
struct Signed {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For `name`; `until`: the year in which it is over.
    fn signs(&self, name: &str, until: i32) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind: &str| {
            let name = name.replace('.', "-");
            self.folder.path().join(format!("{name}-{until}.{kind}"))
        };
        let signed = Signed {
            certificate: path("pem"),
            key: path("key"),
        };
        fs::write(&signed.certificate, certificate.pem()).unwrap();
        fs::write(&signed.key, key.serialize_pem()).unwrap();
        signed
    }
}

/// A server with a port for TLS, and what it was given.
struct Secured {
    server: Server,
    port: u16,
    authority: Authority,
}

fn tls_lines(port: u16, ours: &Signed, more: &str) -> String {
    format!(
        "[tls]\nport = {port}\nbind = \"127.0.0.1\"\ncertificate = \"{}\"\nkey = \"{}\"\n{more}\n",
        ours.certificate.display(),
        ours.key.display()
    )
}

impl Secured {
    fn start() -> Secured {
        Secured::with("", Settings::default())
    }

    /// `more`: lines of `[tls]`, in which `@CA@` is the authority's file.
    fn with(more: &str, settings: Settings) -> Secured {
        let authority = Authority::new("Hospital CA");
        let ours = authority.signs("127.0.0.1", 2099);
        let port = free_port();
        let more = more.replace("@CA@", &authority.file().display().to_string());
        let extra = format!("{}\n{}", settings.extra, tls_lines(port, &ours, &more));
        let server = Server::with(Settings { extra, ..settings });
        Secured {
            server,
            port,
            authority,
        }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// An association over TLS of this program's own network layer.
    fn associate(&self, identity: Option<&Signed>) -> Result<Association, NetError> {
        let tls = requestor(Some(&self.authority), identity);
        associate(self.address(), &tls)
    }

    /// What the server says of the last association of that kind.
    fn failed(&self, reason: &str) -> Value {
        let mut found = Value::Null;
        until(reason, || {
            let said = self.server.kura_json(&["doctor"]);
            let text = said.to_string();
            found = said;
            text.contains(reason)
        });
        found
    }
}

fn requestor(authority: Option<&Authority>, identity: Option<&Signed>) -> TlsRequestor {
    let roots = authority.map(|authority| Roots::of(&fs::read(authority.file()).unwrap()).unwrap());
    let identity = identity.map(|signed| {
        let (certificate, key) = (fs::read(&signed.certificate), fs::read(&signed.key));
        Identity::of(&certificate.unwrap(), &key.unwrap()).unwrap()
    });
    TlsRequestor::new(None, None, roots, identity).unwrap()
}

fn associate(address: SocketAddr, tls: &TlsRequestor) -> Result<Association, NetError> {
    let title = |text: &str| text.parse::<AeTitle>().unwrap();
    let contexts = [sop::VERIFICATION, sop::STUDY_ROOT_FIND, CT].map(|class| {
        (
            class.to_owned(),
            vec![ts::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
        )
    });
    Association::request_over(
        Some((tls, Some("127.0.0.1"))),
        address,
        &title("TESTER"),
        &title("KURA"),
        contexts.to_vec(),
        Timeouts::default(),
        &[],
    )
}

fn store(association: &mut Association, image: &Image) -> u16 {
    let message_id = association.next_message_id();
    let mut command = CommandSet::new(dimse::C_STORE_RQ);
    command
        .set_message_id(message_id)
        .set_affected_sop_class_uid(CT)
        .set_affected_sop_instance_uid(&image.sop);
    association
        .send(5, &command, Some(&image.data_set))
        .unwrap();
    let (_, answer) = association.next_response(message_id).unwrap();
    answer.status().unwrap()
}

/// A DCMTK program of the node TESTER, over TLS.
fn dcmtk(secured: &Secured, program: &Path, who: Option<&Signed>) -> Command {
    let mut command = Command::new(program);
    match who {
        Some(signed) => {
            command
                .arg("+tls")
                .arg(&signed.key)
                .arg(&signed.certificate);
        }
        None => drop(command.arg("+tla")),
    }
    command
        .arg("+cf")
        .arg(secured.authority.file())
        .args(["-aet", "TESTER", "-aec", "KURA", "127.0.0.1"])
        .arg(secured.port.to_string());
    command
}

fn has_tls(program: &Path) -> bool {
    let help = run(Command::new(program).arg("--help"));
    help.text().contains("+tls")
}

/// Method: DCMTK verifies the server's certificate, stores, and finds; the log names the version.
#[test]
fn dcmtk_echoes_stores_and_finds() {
    let programs = (tool("echoscu"), tool("storescu"), tool("findscu"));
    let (Some(echoscu), Some(storescu), Some(findscu)) = programs else {
        return;
    };
    if !has_tls(&echoscu) {
        return common::tools::skip("DCMTK is built without OpenSSL");
    }
    let secured = Secured::start();
    let outcome = run(&mut dcmtk(&secured, &echoscu, None));
    assert!(outcome.success(), "{}", outcome.text());
    let folder = files::testdata();
    let paths = ["petct-ct-1.dcm", "petct-ct-2.dcm"].map(|name| folder.join(name));
    let outcome = run(dcmtk(&secured, &storescu, None).args(&paths));
    assert!(outcome.success(), "{}", outcome.text());
    let keys = [
        "-S",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "PatientName=EXAMPLE*",
    ];
    let outcome = run(dcmtk(&secured, &findscu, None).args(keys));
    assert!(outcome.success(), "{}", outcome.text());
    assert_eq!(
        outcome.text().matches("Find Response:").count(),
        1,
        "{}",
        outcome.text()
    );
    let log = secured.server.log_text();
    assert!(
        log.contains("tls=\"TLS 1.3\"") || log.contains("tls=\"TLS 1.2\""),
        "{log}"
    );
    assert!(!log.contains("PRIVATE"), "{log}");
    // The port without TLS is there as before.
    images::send_all(&secured.server, &images::images(1, 2));
}

/// Method: pynetdicom with Python's ssl stores, finds and gets.
#[test]
fn pynetdicom_stores_and_finds() {
    let Some(mut script) = peer_script("tls.py") else {
        return;
    };
    let secured = Secured::start();
    let outcome = run(script
        .arg(secured.port.to_string())
        .arg(secured.authority.file())
        .arg(files::testdata().join("petct-ct-1.dcm")));
    assert!(outcome.success(), "{}", outcome.text());
    assert!(outcome.text().contains("found 1"), "{}", outcome.text());
}

/// Method: two certificates of one CA, and none; the rule knows one of them by its name. Who is refused is in the audit.
#[test]
fn a_rule_lets_in_by_the_name_of_a_certificate() {
    let rules = "[[access.rule]]\ncertificate = \"ct1.hospital\"\nallow = [\"echo\", \"store\"]\n\
                 [[access.rule]]\nrefuse = true\n";
    let settings = Settings {
        extra: rules.to_owned(),
        ..Settings::default()
    };
    let secured = Secured::with("client_ca = \"@CA@\"", settings);
    let known = secured.authority.signs("ct1.hospital", 2099);
    let other = secured.authority.signs("ct2.hospital", 2099);
    for who in [None, Some(&other)] {
        let refused = secured.associate(who).map(drop);
        assert!(matches!(refused, Err(NetError::Rejected(_))), "{refused:?}");
    }
    let mut association = secured.associate(Some(&known)).unwrap();
    assert_eq!(store(&mut association, &Image::new(1, 1, 1000)), 0);
    let ids: Vec<u8> = association.contexts().iter().map(|c| c.id).collect();
    assert_eq!(ids, [1, 5], "no find");
    association.release().unwrap();
    let audited = ["audit", "list", "--kind", "refused"];
    until("the refusals are in the audit", || {
        let said = secured.server.kura_json(&audited);
        said["lines"].to_string().contains("TESTER")
    });
}

/// Method: openssl asks for one version at a time.
#[test]
fn old_versions_of_tls_are_refused() {
    let Some(openssl) = tool("openssl") else {
        return;
    };
    let secured = Secured::start();
    let is_taken = |option: &str, suites: &str| {
        // Else its own rules forbid the old ones before anything is sent.
        let suites = format!("{suites}:@SECLEVEL=0");
        let outcome = run(Command::new(&openssl)
            .args(["s_client", "-connect"])
            .arg(secured.address().to_string())
            .args(["-cipher", &suites, option]));
        outcome.text().contains("Server certificate")
    };
    assert!(!is_taken("-tls1", "DEFAULT"));
    assert!(!is_taken("-tls1_1", "DEFAULT"));
    let said = secured.failed("no version of TLS that is still safe");
    assert!(said.to_string().contains("up to date"), "{said}");
    assert!(is_taken("-tls1_2", "DEFAULT"));
    assert!(is_taken("-tls1_3", "DEFAULT"));
    // Without ephemeral keys.
    assert!(!is_taken("-tls1_2", "AES256-SHA"));
    secured.failed("no cipher suite that is still safe");
}

/// Method: without one, with another CA's, with the right one; the right one's name is in the log.
#[test]
fn who_has_no_certificate_of_the_hospital_is_not_served_where_one_is_wanted() {
    let more = "client_ca = \"@CA@\"\nrequire_client_certificate = true";
    let secured = Secured::with(more, Settings::default());
    let another = Authority::new("Another CA");
    let stranger = another.signs("ct1.hospital", 2099);
    let known = secured.authority.signs("ct1.hospital", 2099);
    for (who, words) in [
        (None, "it showed no certificate"),
        (Some(&stranger), "nobody whom [tls] client_ca names"),
    ] {
        let error = match secured.associate(who) {
            Err(error) => error,
            Ok(mut association) => association.next_command().map(drop).unwrap_err(),
        };
        assert!(matches!(error, NetError::Tls(_)), "{error}");
        secured.failed(words);
    }
    let mut association = secured.associate(Some(&known)).unwrap();
    assert_eq!(store(&mut association, &Image::new(1, 1, 1000)), 0);
    association.release().unwrap();
    assert!(
        secured.server.log_text().contains("ct1.hospital"),
        "{}",
        secured.server.log_text()
    );
    let Some(echoscu) = tool("echoscu").filter(|program| has_tls(program)) else {
        return;
    };
    let outcome = run(&mut dcmtk(&secured, &echoscu, Some(&known)));
    assert!(outcome.success(), "{}", outcome.text());
    let outcome = run(&mut dcmtk(&secured, &echoscu, None));
    assert!(!outcome.success(), "{}", outcome.text());
}

/// Method: 100 MB go and come back on disk; then a C-FIND with ten thousand answers is cancelled after the first.
#[test]
fn a_big_instance_and_a_cancelled_query_go_over_tls() {
    let secured = Secured::start();
    let big = Image::new(7, 1, 100 << 20);
    let mut association = secured.associate(None).unwrap();
    assert!(association.peer().tls.is_some());
    assert_eq!(store(&mut association, &big), 0);
    for number in 2..200 {
        assert_eq!(store(&mut association, &Image::new(7, number, 100)), 0);
    }
    let kept = files::below(&secured.server.folder().join("volume-a"));
    let is_big = |path: &&PathBuf| fs::metadata(path).is_ok_and(|known| known.len() > 100 << 20);
    let path = kept.iter().find(is_big).expect("the big one on the volume");
    assert!(fs::read(path).unwrap().ends_with(&big.data_set));

    let message_id = association.next_message_id();
    let mut command = CommandSet::new(dimse::C_FIND_RQ);
    command
        .set_message_id(message_id)
        .set_affected_sop_class_uid(sop::STUDY_ROOT_FIND);
    let identifier = common::build::by_uids("IMAGE", &big.study, None, Some(""));
    association.send(3, &command, Some(&identifier)).unwrap();
    let mut cancel = CommandSet::new(dimse::C_CANCEL_RQ);
    cancel.set_responded_id(message_id);
    association.send(3, &cancel, None).unwrap();
    let last = loop {
        let (_, answer) = association.next_response(message_id).unwrap();
        match answer.status().unwrap() {
            0xFF00 | 0xFF01 => while association.data_fragment().unwrap().is_some() {},
            status => break status,
        }
    };
    assert!(matches!(last, 0xFE00 | 0), "{last:04X}");
    association.release().unwrap();
}

/// Method: the connection is cut below TLS in the middle of an instance, and a peer is killed with half a record sent.
#[test]
fn what_was_cut_in_the_middle_is_not_stored() {
    let secured = Secured::start();
    let image = Image::new(3, 1, 8 << 20);
    let mut association = secured.associate(None).unwrap();
    let handle = association.handle();
    let cutter = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        handle.shutdown_now();
    });
    let message_id = association.next_message_id();
    let mut command = CommandSet::new(dimse::C_STORE_RQ);
    command
        .set_message_id(message_id)
        .set_affected_sop_class_uid(CT)
        .set_affected_sop_instance_uid(&image.sop);
    let data = image.data_set.clone();
    let mut at = 0;
    let sent = association.send_stream(5, &command, data.len() as u64, &mut |into| {
        // Long enough for the cut.
        std::thread::sleep(Duration::from_millis(20));
        let count = into.len().min(data.len() - at).min(64 << 10);
        into[..count].copy_from_slice(&data[at..at + count]);
        at += count;
        Ok(count)
    });
    cutter.join().unwrap();
    assert!(sent.is_err());
    drop(association);
    let volume = secured.server.folder().join("volume-a");
    images::wait_until_nothing_is_incoming(&volume);
    assert_eq!(images::found(&secured.server, &image.study), [""; 0]);
    // The same again, whole.
    let mut association = secured.associate(None).unwrap();
    assert_eq!(store(&mut association, &image), 0);
    // A record that announces more than comes.
    association.release().unwrap();
    let secured_address = secured.address();
    let mut half = TcpStream::connect(secured_address).unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).unwrap();
    drop(half);
    assert_eq!(images::found(&secured.server, &image.study).len(), 1);
}

/// Method: connections that say nothing, or half a handshake, are open while somebody is served.
#[test]
fn a_slow_handshake_holds_up_nobody() {
    let secured = Secured::start();
    let slow: Vec<TcpStream> = (0..60)
        .map(|number| {
            let mut stream = TcpStream::connect(secured.address()).unwrap();
            if number % 2 == 0 {
                stream.write_all(&[0x16, 3, 1, 2, 0]).unwrap();
            }
            stream
        })
        .collect();
    let mut association = secured.associate(None).unwrap();
    assert_eq!(store(&mut association, &Image::new(1, 1, 1000)), 0);
    association.release().unwrap();
    drop(slow);
}

/// Method: a plain requestor at the port for TLS, and a TLS requestor at the plain port; both are told, and the server says
/// what to change.
#[test]
fn plain_and_tls_are_told_apart_on_both_sides() {
    let secured = Secured::start();
    let mut plain = TcpStream::connect(secured.address()).unwrap();
    plain.write_all(&[1, 0, 0, 0, 0, 4, 0, 1, 0, 0]).unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&7), "an A-ABORT: {answer:?}");
    secured.failed("it began without TLS");
    let Err(error) = associate(secured.server.address(), &requestor(None, None)) else {
        panic!("TLS on the plain port");
    };
    let NetError::Tls(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.fault, TlsFault::Plain, "{error}");
    let said = secured.failed("it began with TLS").to_string();
    assert!(said.contains(&secured.port.to_string()), "{said}");
    // Our own verbs, the wrong way.
    let typed = format!("KURA@127.0.0.1:{}", secured.port);
    let outcome = secured.server.kura(&["echo", &typed]);
    assert!(!outcome.success());
    assert!(
        outcome.text().contains("aborted") || outcome.text().contains("TLS"),
        "{}",
        outcome.text()
    );
}

/// Each wrong certificate of a peer is named with what to do; the pinned one is taken.
#[test]
fn a_peer_whose_certificate_is_wrong_is_not_sent_to() {
    let hospital = Authority::new("Hospital CA");
    let stranger = Authority::new("Another CA");
    let client = Server::with(Settings {
        extra: format!("[tls]\npeers_ca = \"{}\"\n", hospital.file().display()),
        ..Settings::default()
    });
    for (signed, words) in [
        (hospital.signs("127.0.0.1", 2099), "ok"),
        (
            hospital.signs("10.9.8.7", 2099),
            "is for 10.9.8.7, not for 127.0.0.1",
        ),
        (
            hospital.signs("127.0.0.1", 2020),
            "is over since 2020-01-01",
        ),
        (stranger.signs("127.0.0.1", 2099), "--tls-fingerprint"),
    ] {
        let port = free_port();
        let other = Server::with(Settings {
            ae_title: "OTHER".into(),
            extra: tls_lines(port, &signed, ""),
            ..Settings::default()
        });
        let typed = format!("OTHER@127.0.0.1:{port}");
        let added = client.kura(&["peer", "add", &typed, "--tls"]);
        assert!(added.success(), "{}", added.text());
        let outcome = client.kura(&["echo", "OTHER"]);
        assert_eq!(
            outcome.success(),
            words == "ok",
            "{words}: {}",
            outcome.text()
        );
        assert!(
            outcome.text().contains(words),
            "{words}: {}",
            outcome.text()
        );
        let doctor = client.kura_json(&["doctor", "OTHER"]).to_string();
        match words {
            "ok" => assert!(doctor.contains("TLS 1.3"), "{doctor}"),
            words => assert!(doctor.contains(words), "{doctor}"),
        }
        if words == "--tls-fingerprint" {
            let text = outcome.text();
            let mark = text.split("--tls-fingerprint ").nth(1).unwrap();
            let mark = mark.split_whitespace().next().unwrap();
            let pinned = client.kura(&["peer", "add", &typed, "--tls-fingerprint", mark]);
            assert!(pinned.success(), "{}", pinned.text());
            let outcome = client.kura(&["echo", "OTHER"]);
            assert!(outcome.success(), "{}", outcome.text());
            let wrong = "00".repeat(32);
            client.kura(&["peer", "add", &typed, "--tls-fingerprint", &wrong]);
            let outcome = client.kura(&["echo", "OTHER"]);
            assert!(
                outcome
                    .text()
                    .contains("another certificate than the one pinned"),
                "{}",
                outcome.text()
            );
        }
        drop(other);
    }
}

/// Method: two servers, each the other's peer over TLS with certificates on both sides: sent, moved, forwarded.
#[test]
fn two_servers_send_move_and_forward_over_tls() {
    let authority = Authority::new("Hospital CA");
    let ours = authority.signs("127.0.0.1", 2099);
    let (first, second) = (free_port(), free_port());
    let ca = authority.file().display().to_string();
    let more =
        format!("client_ca = \"{ca}\"\nrequire_client_certificate = true\npeers_ca = \"{ca}\"\n");
    let start = |title: &str, own: u16, other: &str, port: u16, more_lines: &str| {
        Server::with(Settings {
            ae_title: title.into(),
            extra: format!(
                "{}\n[[peer]]\nae_title = \"{other}\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = true\n{more_lines}",
                tls_lines(own, &ours, &more)
            ),
            ..Settings::default()
        })
    };
    let rule = "[[forward.rule]]\nname = \"all\"\nto = [\"TWO\"]\nquiet_seconds = 1\n";
    let one = start("ONE", first, "TWO", second, rule);
    let two = start("TWO", second, "ONE", first, "");
    for (server, peer) in [(&one, "TWO"), (&two, "ONE")] {
        let outcome = server.kura(&["echo", peer]);
        assert!(outcome.success(), "{}", outcome.text());
    }
    // What comes to ONE goes on to TWO by itself.
    let forwarded = images::images(1, 3);
    images::send_all(&one, &forwarded);
    until("forwarded", || {
        images::found(&two, &forwarded[0].study).len() == 3
    });
    // `kura send` of files.
    let file = files::testdata().join("petct-ct-1.dcm");
    let outcome = two.kura(&["send", &file.display().to_string(), "--to", "ONE"]);
    assert!(outcome.success(), "{}", outcome.text());
    // C-MOVE: TWO has a study that ONE asks for (kura pull).
    let image = Image::new(42, 1, 300_000);
    images::send_all(&two, std::slice::from_ref(&image));
    let outcome = one.kura(&[
        "pull",
        "--from",
        "TWO",
        &format!("StudyInstanceUID={}", image.study),
    ]);
    assert!(outcome.success(), "{}", outcome.text());
    until("pulled", || images::found(&one, &image.study).len() == 1);
    let log = two.log_text();
    assert!(log.contains("tls=\"TLS 1.3\""), "{log}");
}

/// A storescp of DCMTK that wants a certificate gets a study by C-MOVE of a plain workstation.
#[test]
fn a_study_is_moved_to_a_workstation_of_dcmtk_over_tls() {
    let (Some(storescp), Some(movescu)) = (tool("storescp"), tool("movescu")) else {
        return;
    };
    if !has_tls(&storescp) {
        return common::tools::skip("DCMTK is built without OpenSSL");
    }
    let port = free_port();
    let theirs = Authority::new("Workstations CA");
    let signed = theirs.signs("127.0.0.1", 2099);
    let ca = theirs.file().display().to_string();
    let secured = Secured::with(
        &format!(
            "peers_ca = \"{ca}\"\n[[peer]]\nae_title = \"STATION\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = true"
        ),
        Settings::default(),
    );
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(storescp);
    command
        .arg("+tls")
        .args([&signed.key, &signed.certificate])
        .arg("+cf")
        .arg(secured.authority.file())
        .args(["-aet", "STATION", "-od"])
        .arg(folder.path())
        .arg(port.to_string());
    let _station = Program::start(&mut command, port);
    let image = Image::new(5, 1, 1 << 20);
    images::send_all(&secured.server, std::slice::from_ref(&image));
    let outcome = run(Command::new(movescu)
        .args([
            "-S",
            "-aet",
            "TESTER",
            "-aec",
            "KURA",
            "-aem",
            "STATION",
            "127.0.0.1",
        ])
        .arg(secured.server.port().to_string())
        .args(["-k", "QueryRetrieveLevel=STUDY", "-k"])
        .arg(format!("StudyInstanceUID={}", image.study)));
    assert!(outcome.success(), "{}", outcome.text());
    assert_eq!(
        files::below(folder.path()).len(),
        1,
        "{}",
        secured.server.log_text()
    );
}

/// Method: the files are replaced by those of another CA, by nonsense, and by a wrong pair, with `kura reload` each time.
#[test]
fn a_new_certificate_counts_after_a_reload_and_a_wrong_one_changes_nothing() {
    let secured = Secured::start();
    let other = Authority::new("Another CA");
    let new = other.signs("127.0.0.1", 2098);
    let (certificate, key) = (
        secured.authority.folder.path().join("127-0-0-1-2099.pem"),
        secured.authority.folder.path().join("127-0-0-1-2099.key"),
    );
    let before = secured.associate(None).unwrap();
    let (good, good_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    for (wrong, wrong_key) in [
        (b"nonsense".to_vec(), good_key.clone()),
        (good.clone(), fs::read(&new.key).unwrap()),
        (
            good.clone(),
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec(),
        ),
    ] {
        fs::write(&certificate, wrong).unwrap();
        fs::write(&key, wrong_key).unwrap();
        let outcome = secured.server.kura(&["reload"]);
        assert!(!outcome.success(), "{}", outcome.text());
        assert!(outcome.text().contains("[tls]"), "{}", outcome.text());
        assert!(
            outcome.text().contains("nothing was changed"),
            "{}",
            outcome.text()
        );
        assert!(secured.associate(None).is_ok());
    }
    fs::copy(&new.certificate, &certificate).unwrap();
    fs::copy(&new.key, &key).unwrap();
    let said = secured.server.kura_json(&["reload"]).to_string();
    assert!(
        said.contains("another certificate") && said.contains("2098"),
        "{said}"
    );
    assert!(secured.associate(None).is_err());
    let tls = requestor(Some(&other), None);
    associate(secured.address(), &tls)
        .unwrap()
        .release()
        .unwrap();
    // Who was connected stays.
    let mut before = before;
    assert_eq!(store(&mut before, &Image::new(1, 1, 1000)), 0);
    before.release().unwrap();
}

/// Method: the certificate that is in use is replaced by one that is over.
#[test]
fn the_status_tells_of_a_certificate_that_is_over() {
    let secured = Secured::start();
    let actions = || secured.server.kura_json(&["status"])["actions"].to_string();
    assert!(!actions().contains("[tls]"), "{}", actions());
    let over = secured.authority.signs("127.0.0.1", 2024);
    let folder = secured.authority.folder.path();
    fs::copy(&over.certificate, folder.join("127-0-0-1-2099.pem")).unwrap();
    fs::copy(&over.key, folder.join("127-0-0-1-2099.key")).unwrap();
    assert!(secured.server.kura(&["reload"]).success());
    let said = actions();
    assert!(
        said.contains("the certificate of [tls] is over since 2024-01-01"),
        "{said}"
    );
}

/// Method: a start on files that cannot be used.
#[test]
fn a_start_with_a_wrong_certificate_is_refused_in_a_sentence() {
    let mut secured = Secured::start();
    secured.server.terminate();
    let certificate = secured.authority.folder.path().join("127-0-0-1-2099.pem");
    fs::remove_file(&certificate).unwrap();
    let outcome = secured.server.kura(&["serve"]);
    assert!(!outcome.success());
    let text = outcome.text();
    assert!(
        text.contains("[tls] cannot read") && text.contains("nothing was started"),
        "{text}"
    );
}

/// Method: what the verb writes is what the server then shows, and a peer pins it.
#[test]
fn a_certificate_made_by_the_verb_is_pinned_by_its_fingerprint() {
    let port = free_port();
    let mut server = Server::start();
    let made = server.kura_json(&["admin", "certificate", "--dicom", "pacs.hospital"]);
    let file = |key: &str| PathBuf::from(made[key].as_str().unwrap());
    let signed = Signed {
        certificate: file("certificate"),
        key: file("key"),
    };
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&signed.key).unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
    let lines = tls_lines(port, &signed, "");
    server.terminate();
    server.configure(|settings| settings.extra = lines);
    server.restart();
    let mark = made["fingerprint"].as_str().unwrap();
    let typed = format!("KURA@127.0.0.1:{port}");
    let added = server.kura(&["peer", "add", &typed, "--tls-fingerprint", mark]);
    assert!(added.success(), "{}", added.text());
    let outcome = server.kura(&["echo", "KURA"]);
    assert!(outcome.success(), "{}", outcome.text());
}

/// Method: openssl looks at the page before and after; the file's own words are in what it prints.
#[test]
fn the_page_reads_its_certificate_again_by_a_reload() {
    let Some(openssl) = tool("openssl") else {
        return;
    };
    let authority = Authority::new("Hospital CA");
    let (old, new) = (
        authority.signs("127.0.0.1", 2099),
        authority.signs("127.0.0.1", 2098),
    );
    let (certificate, key) = (old.certificate.display(), old.key.display());
    let extra = format!("[admin]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let (server, address) = common::http::server(Settings {
        extra,
        ..Settings::default()
    });
    let shown = || {
        let outcome = run(Command::new(&openssl)
            .args(["s_client", "-connect"])
            .arg(address.to_string()));
        outcome.stdout
    };
    let line_of = |signed: &Signed| {
        let text = fs::read_to_string(&signed.certificate).unwrap();
        text.lines().nth(5).unwrap().trim().to_owned()
    };
    let (before, after) = (line_of(&old), line_of(&new));
    assert!(shown().contains(&before));
    fs::write(&old.certificate, "nonsense").unwrap();
    let said = server.kura_json(&["reload"]).to_string();
    assert!(said.contains("goes on with the certificate"), "{said}");
    assert!(shown().contains(&before));
    fs::copy(&new.certificate, &old.certificate).unwrap();
    fs::copy(&new.key, &old.key).unwrap();
    let said = server.kura_json(&["reload"]).to_string();
    assert!(said.contains("admin: another certificate"), "{said}");
    assert!(shown().contains(&after));
}
