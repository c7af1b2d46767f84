//! Who may do what: real callers from real addresses, each service allowed and refused, users with passwords, and what is
//! said about it on both sides.

mod common;

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, by_uids};
use common::images::{Image, send_all};
use common::server::{Outcome, free_port};
use common::wire::{
    self, Client, EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_GET,
    STUDY_ROOT_MOVE, VERIFICATION, WireError,
};
use common::{Server, Settings, Sink, files, tools};
use kura::control::{self, Request, Response};
use kura::metrics::Ended;
use tempfile::TempDir;

const COMMITMENT: &str = "1.2.840.10008.1.20.1";
const PASSWORD: &str = "a long password";

/// A context of each service, and its number.
const CONTEXTS: [(u8, &str, &[&str]); 6] = [
    (1, VERIFICATION, &[IMPLICIT_LITTLE]),
    (3, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
    (5, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE]),
    (7, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE]),
    (9, STUDY_ROOT_GET, &[IMPLICIT_LITTLE]),
    (11, COMMITMENT, &[IMPLICIT_LITTLE]),
];

fn server(extra: &str) -> Server {
    Server::with(Settings {
        extra: extra.to_owned(),
        ..Settings::default()
    })
}

/// Reads them as `kura doctor` does, until there is one of that name and AE title.
fn failure(server: &Server, reason: &str, calling: &str) -> Ended {
    let begun = Instant::now();
    loop {
        let all = match control::ask(&server.state(), &Request::Failures) {
            Ok(Some(Response::Failures(failures))) => failures,
            other => panic!("{other:?}"),
        };
        let mut of_it = all.iter();
        if let Some(found) = of_it.find(|one| one.reason == reason && one.calling == calling) {
            assert!(!found.end.is_empty() && !found.next.is_empty(), "{found:?}");
            return found.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{all:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn rejected<T>(result: Result<T, WireError>) -> Option<(u8, u8, u8)> {
    match result {
        Err(WireError::Rejected {
            result,
            source_,
            reason,
        }) => Some((result, source_, reason)),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

/// A user identity item (PS3.7 table D.3-14).
fn identity(kind: u8, positive: bool, name: &str, password: &str) -> Vec<u8> {
    let mut value = vec![kind, u8::from(positive)];
    for text in [name, password] {
        value.extend((text.len() as u16).to_be_bytes());
        value.extend(text.as_bytes());
    }
    let mut item = vec![0x58, 0];
    item.extend((value.len() as u16).to_be_bytes());
    item.extend(value);
    item
}

fn associate_as(server: &Server, calling: &str, identity: &[u8]) -> Result<Client, WireError> {
    let request = wire::associate_rq(calling, server.ae_title(), &CONTEXTS, 16_384, &[]);
    let request = match identity {
        [] => request,
        item => wire::with_user_items(request, item),
    };
    let stream = TcpStream::connect(server.address()).expect("connection");
    Client::begin(stream, &request, &CONTEXTS)
}

fn add_user(server: &Server, name: &str, password: &str) {
    let mut command = server.command(&["access", "user", "add", name]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("kura");
    let mut input = child.stdin.take().expect("standard input");
    writeln!(input, "{password}").expect("password");
    drop(input);
    let output = child.wait_with_output().expect("kura");
    assert!(output.status.success(), "{output:?}");
}

/// Method: a rule for each service and one for all but that; contexts of a service that is not allowed are rejected by the
/// user, the others are served.
#[test]
fn each_service_is_allowed_or_refused_by_itself() {
    let services = ["echo", "store", "find", "move", "get", "commitment"];
    let mut extra = String::new();
    for (at, service) in services.iter().enumerate() {
        let but: Vec<&str> = services.into_iter().filter(|one| one != service).collect();
        extra += &format!(
            "[[access.rule]]\ncalling = \"ONLY{at}\"\nallow = [\"{service}\"]\n\
             [[access.rule]]\ncalling = \"BUT{at}\"\nallow = {but:?}\n"
        );
    }
    let server = server(&extra);
    let image = Image::new(1, 1, 2_000);
    send_all(&server, std::slice::from_ref(&image));
    for at in 0..services.len() {
        for (title, only) in [(format!("ONLY{at}"), true), (format!("BUT{at}"), false)] {
            let mut client = associate_as(&server, &title, &[]).expect("association");
            for (number, context) in client.contexts().iter().enumerate() {
                // With C-GET allowed, storage contexts carry what it gets.
                let carries = number == 1 && (only == (at == 4));
                let expected = (number == at) == only || carries;
                let result = if expected { 0 } else { 1 };
                assert_eq!(context.result, result, "{title} {}", services[number]);
            }
            if client.accepted(1).is_some() {
                assert_eq!(client.c_echo(1).unwrap(), 0);
            }
            if client.accepted(5).is_some() {
                let found = client.c_find(5, &by_uids("STUDY", &image.study, None, None));
                let found = found.unwrap();
                assert_eq!((found.status, found.identifiers.len()), (0, 1), "{title}");
            }
            if client.accepted(9).is_some() {
                let got = client.c_get(9, &by_uids("STUDY", &image.study, None, None));
                let got = got.unwrap();
                assert_eq!((got.moved.status, got.received.len()), (0, 1), "{title}");
            }
            client.release().unwrap();
        }
    }
}

/// Method: commands of services that are not allowed, on a context that was accepted for another purpose. Each is refused
/// with 0124H, the association goes on; the log and the last associations say it once, naming the rule.
#[test]
fn a_command_that_is_not_allowed_is_refused_and_the_association_goes_on() {
    let server = server(
        "[[access.rule]]\nname = \"reading room\"\ncalling = \"READER\"\nallow = [\"echo\", \"get\"]\n",
    );
    let image = Image::new(1, 1, 2_000);
    send_all(&server, std::slice::from_ref(&image));
    let mut client = associate_as(&server, "READER", &[]).expect("association");
    for number in 0..3 {
        let (status, comment) = client
            .c_store(3, CT_IMAGE_STORAGE, &format!("2.25.77{number}"), &[0; 64])
            .unwrap();
        assert_eq!(status, 0x0124);
        assert_eq!(
            comment.as_deref(),
            Some("store is not allowed to this caller here")
        );
    }
    let study = by_uids("STUDY", &image.study, None, None);
    assert_eq!(client.c_find(1, &study).unwrap().status, 0x0124);
    assert_eq!(client.c_move(1, "READER", &study).unwrap().status, 0x0124);
    assert_eq!(client.c_echo(1).unwrap(), 0);
    let got = client.c_get(9, &study).unwrap();
    assert_eq!((got.moved.status, got.received.len()), (0, 1));
    client.release().unwrap();
    let found = failure(&server, "not-allowed", "READER");
    let by = "[[access.rule]] number 1 (reading room)";
    assert!(found.end.contains(by), "{found:?}");
    assert!(found.end.contains("5 requests failed"), "{found:?}");
    let log = server.log_text();
    for service in ["store", "find", "move"] {
        let line = format!("it wanted {service}, which {by} does not allow it");
        assert_eq!(log.matches(&line).count(), 1, "{line}\n{log}");
    }
    // What is much alike is gathered for a while.
    let begun = std::time::Instant::now();
    loop {
        let said = server.kura_json(&["audit", "list", "--kind", "refused"]);
        let lines = said["lines"].as_array().expect("lines").iter();
        let what: Vec<&str> = lines.filter_map(|line| line["what"].as_str()).collect();
        if ["store refused", "find refused", "move refused"]
            .iter()
            .all(|wanted| what.contains(wanted))
        {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{said}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// Method: a C-MOVE to a peer, and to a title that is none, by who may move and who may not.
#[test]
fn a_move_goes_to_configured_peers_alone_and_for_whom_it_is_allowed() {
    let sink = Sink::start();
    let settings = Settings {
        extra: "[[access.rule]]\ncalling = \"MOVER\"\nallow = [\"move\"]\n\
                [[access.rule]]\ncalling = \"FINDER\"\nallow = [\"find\", \"echo\"]\n"
            .to_owned(),
        ..Settings::default()
    };
    let server = Server::with(settings.peer("SINK", sink.port()));
    let image = Image::new(1, 1, 2_000);
    send_all(&server, std::slice::from_ref(&image));
    let study = by_uids("STUDY", &image.study, None, None);
    let mut client = associate_as(&server, "MOVER", &[]).expect("association");
    assert_eq!(
        client.c_move(7, "ELSEWHERE", &study).unwrap().status,
        0xA801
    );
    assert_eq!(client.c_move(7, "SINK", &study).unwrap().status, 0);
    client.release().unwrap();
    assert_eq!(sink.count(), 1);
    let mut client = associate_as(&server, "FINDER", &[]).expect("association");
    assert_eq!(client.c_move(5, "SINK", &study).unwrap().status, 0x0124);
    assert_eq!(
        client.c_move(5, "ELSEWHERE", &study).unwrap().status,
        0x0124
    );
    client.release().unwrap();
    assert_eq!(sink.count(), 1);
}

/// Method: a rule that refuses, reloaded into one that allows; each caller sees the rejection of PS3.8, and the server
/// names the rule.
#[test]
fn a_rule_refuses_until_a_reload_says_otherwise() {
    let mut server = server("[[access.rule]]\ncalling = \"OLD*\"\nrefuse = true\n");
    let reject = Some((1, 1, 3));
    assert_eq!(rejected(associate_as(&server, "OLDPACS", &[])), reject);
    assert_eq!(rejected(associate_as(&server, "NEWPACS", &[])), None);
    let found = failure(&server, "access-rule", "OLDPACS");
    assert!(found.end.contains("[[access.rule]] number 1"), "{found:?}");
    server.configure(|settings| {
        settings.extra = "[access]\nunknown = \"refuse\"\n[[access.rule]]\ncalling = \"OLD*\"\nallow = [\"echo\"]\n".to_owned();
    });
    let said = server.kura(&["reload"]);
    for line in [
        "changed  access.rule: number 1 is another",
        "changed  access.unknown: \"refuse\" (was the default)",
    ] {
        assert!(said.stdout.contains(line), "{}", said.text());
    }
    let mut client = associate_as(&server, "OLDPACS", &[]).expect("association");
    assert_eq!(client.c_echo(1).unwrap(), 0);
    client.release().unwrap();
    assert_eq!(rejected(associate_as(&server, "NEWPACS", &[])), reject);
    let found = failure(&server, "unknown-caller", "NEWPACS");
    assert!(found.next.contains("add [[access.rule]]"), "{found:?}");
    let doctor = server.kura(&["doctor"]);
    assert!(doctor.stdout.contains("NEWPACS"), "{}", doctor.text());
}

/// Method: name and password in the item of PS3.7, right and wrong, before and after there are users; guesses until the
/// address has to wait.
#[test]
fn users_are_checked_and_who_guesses_waits() {
    let server = server("[[access.rule]]\nuser = \"sato\"\nallow = [\"echo\", \"find\"]\n");
    add_user(&server, "sato", PASSWORD);
    let right = identity(2, true, "sato", PASSWORD);
    let accepted = |item: &[u8]| {
        let client = associate_as(&server, "WS", item).expect("association");
        let results: Vec<u8> = client.contexts().iter().map(|one| one.result).collect();
        client.release().unwrap();
        results
    };
    assert_eq!(accepted(&right), [0, 1, 0, 1, 1, 1]);
    // A name alone is nobody's, and the rule is not for it.
    assert_eq!(accepted(&identity(1, false, "sato", "")), [0; 6]);
    assert_eq!(accepted(&[]), [0; 6]);
    let reject = Some((1, 2, 1));
    for item in [
        identity(1, true, "sato", ""),
        identity(3, true, "ticket", ""),
        identity(2, false, "sato", "another password"),
        identity(2, false, "sato", ""),
        identity(2, true, "nobody", PASSWORD),
        identity(2, true, "SATO", PASSWORD),
    ] {
        assert_eq!(
            rejected(associate_as(&server, "WS", &item)),
            reject,
            "{item:?}"
        );
    }
    let found = failure(&server, "user", "WS");
    assert!(found.end.contains("do not fit"), "{found:?}");
    // Each wait is longer than the one before: on a slow machine, too, one of them is met.
    let waits = "too many wrong passwords came from its address";
    for _ in 0..10 {
        let wrong = identity(2, true, "sato", "another password");
        assert_eq!(rejected(associate_as(&server, "WS", &wrong)), reject);
        if server.log_text().contains(waits) {
            break;
        }
    }
    let log = server.log_text();
    assert!(log.contains(waits), "{log}");
    // Who came with the right one a moment ago still does.
    assert_eq!(accepted(&right), [0, 1, 0, 1, 1, 1]);
    assert!(
        log.contains("user=\"sato\"") || log.contains("user=sato"),
        "{log}"
    );
    assert!(
        !log.contains(PASSWORD) && !log.contains("another password"),
        "{log}"
    );
    let listed = server.kura_json(&["access", "user", "list"]);
    assert_eq!(listed["users"][0]["name"], "sato");
    assert!(!listed.to_string().contains("argon2"), "{listed}");
    let audited = server.kura(&["audit", "list"]);
    assert!(
        audited
            .stdout
            .contains("password of sato for the DICOM port"),
        "{}",
        audited.text()
    );
    // Nobody gets into the page by it, and the page asks for nothing more than before.
    let admin = server.kura_json(&["admin", "list"]);
    assert_eq!(admin["users"].as_array().map(Vec::len), Some(0), "{admin}");
    assert_eq!(
        server.kura(&["access", "user", "remove", "sato"]).code,
        Some(0)
    );
    let begun = Instant::now();
    while rejected(associate_as(&server, "WS", &right)).is_none() {
        // Where there are no users left there is a rule that asks for one.
        assert!(begun.elapsed() < Duration::from_secs(90));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Method: items that lie about their lengths, two of them, and one of the longest possible, on the wire.
#[test]
fn hostile_identities_end_their_own_association_and_nothing_else() {
    let mut server = server("[access]\nrequire_user = true\n");
    add_user(&server, "sato", PASSWORD);
    let good = identity(2, true, "sato", PASSWORD);
    let long = "x".repeat(30_000);
    let mut beyond = good.clone();
    beyond[6..8].copy_from_slice(&[0xff, 0xff]);
    for item in [
        beyond,
        [good.clone(), good.clone()].concat(),
        vec![0x58, 0, 0, 1, 2],
    ] {
        let ended = associate_as(&server, "WS", &item);
        assert!(
            matches!(ended, Err(WireError::Aborted { .. })),
            "{:?}",
            ended.err()
        );
    }
    let reject = Some((1, 2, 1));
    let item = identity(2, true, &long, &long);
    assert_eq!(rejected(associate_as(&server, "WS", &item)), reject);
    assert_eq!(rejected(associate_as(&server, "WS", &[])), reject);
    let many: Vec<_> = (0..24)
        .map(|_| {
            std::thread::spawn({
                let (address, title) = (server.address(), server.ae_title().to_owned());
                move || {
                    let item = identity(2, true, "nobody", "guessed at random");
                    let request = wire::associate_rq("WS", &title, &CONTEXTS, 16_384, &[]);
                    let request = wire::with_user_items(request, &item);
                    let stream = TcpStream::connect(address).expect("connection");
                    rejected(Client::begin(stream, &request, &CONTEXTS))
                }
            })
        })
        .collect();
    for one in many {
        assert_eq!(one.join().unwrap(), reject);
    }
    server.assert_alive();
}

fn storescu(server: &Server, arguments: &[&str], file: &Path) -> Option<Outcome> {
    let program = tools::tool("storescu")?;
    let mut command = Command::new(program);
    command.args(arguments).args(["-aec", "KURA", "127.0.0.1"]);
    command.arg(server.port().to_string()).arg(file);
    Some(tools::run(&mut command))
}

/// Method: DCMTK's storescu and pynetdicom with right and wrong passwords, asking for a positive response.
#[test]
fn other_programs_prove_who_they_are() {
    let server = server("[access]\nrequire_user = true\n");
    add_user(&server, "sato", PASSWORD);
    let file = files::testdata().join("ct-explicit-le.dcm");
    for (arguments, stores) in [
        (&["-usr", "sato", "-pwd", PASSWORD, "-rsp"][..], true),
        (&["-usr", "sato", "-pwd", PASSWORD], true),
        (&["-usr", "sato", "-pwd", "another password"], false),
        (&["-usr", "sato", "-rsp"], false),
        (&[], false),
    ] {
        let Some(outcome) = storescu(&server, arguments, &file) else {
            break;
        };
        assert_eq!(
            outcome.success(),
            stores,
            "{arguments:?} {}",
            outcome.text()
        );
    }
    let Some(mut script) = tools::peer_script("user_identity.py") else {
        return;
    };
    script.args([&server.port().to_string(), "sato", PASSWORD]);
    let said = tools::run(&mut script);
    assert!(said.success(), "{}", said.text());
    assert_eq!(
        said.stdout.lines().collect::<Vec<_>>(),
        [
            "right: accepted, response 0 bytes",
            "right without response: accepted, none",
            "wrong: rejected 1 2 1",
            "name alone: rejected 1 2 1",
            "none: rejected 1 2 1",
        ],
        "{}",
        said.text()
    );
}

/// Method: the verb asked about callers, in words and as JSON, beside a server and without one.
#[test]
fn check_says_which_rule_fits_before_anybody_calls() {
    let mut server = server(
        "[[access.rule]]\nname = \"CTs\"\ncalling = \"CT*\"\naddress = \"10.1.0.0/16\"\nallow = [\"echo\", \"store\"]\n\
         [[access.rule]]\nuser = \"sato\"\nallow = [\"find\"]\n",
    );
    add_user(&server, "sato", PASSWORD);
    for running in [true, false] {
        if !running {
            assert!(server.terminate().success());
        }
        let check = |arguments: &[&str]| {
            let all = [&["access", "check", "--calling"], arguments].concat();
            server.kura_json(&all)
        };
        let ct = check(&["CT1", "--address", "10.1.2.3"]);
        assert_eq!(
            (&ct["version"], &ct["accepted"], &ct["rule"]),
            (&1.into(), &true.into(), &1.into())
        );
        assert_eq!(ct["allowed"], serde_json::json!(["echo", "store"]));
        assert_eq!(ct["by"], "[[access.rule]] number 1 (CTs)");
        let far = check(&["CT1", "--address", "203.0.113.9"]);
        assert_eq!(
            (&far["accepted"], &far["rule"]),
            (&false.into(), &serde_json::Value::Null)
        );
        let user = check(&["X", "--address", "203.0.113.9", "--user", "sato"]);
        assert_eq!(user["allowed"], serde_json::json!(["find"]));
        let nobody = check(&["X", "--address", "203.0.113.9", "--user", "tanaka"]);
        assert_eq!(nobody["accepted"], false, "{nobody}");
        let mapped = check(&["X", "--address", "::ffff:192.168.0.9"]);
        assert_eq!(mapped["accepted"], true, "{mapped}");
        let said = server.kura(&[
            "access",
            "check",
            "--calling",
            "CT1",
            "--address",
            "10.1.2.3",
        ]);
        assert!(
            said.stdout
                .starts_with("may echo, store\nby      [[access.rule]] number 1"),
            "{}",
            said.text()
        );
        let said = server.kura(&[
            "access",
            "check",
            "--calling",
            "CT1",
            "--address",
            "8.8.8.8",
        ]);
        assert!(
            said.stdout.starts_with("refused: ") && said.stdout.contains("action"),
            "{}",
            said.text()
        );
        let listed = server.kura(&["access", "list"]);
        assert!(listed.stdout.contains("10.1.0.0/16"), "{}", listed.text());
    }
}

/// The outer network namespace, told to the test that runs in one of its own.
const OUTSIDE: &str = "KURA_TEST_OUTSIDE";

fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/net").expect("a network namespace");
    link.display().to_string()
}

fn does(program: &str, arguments: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments.split(' '));
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Method: this test once more in a network namespace of its own, whose loopback has private and public addresses of
/// both kinds; callers from each, to a server that listens on all of them. IPv4 callers come to it in IPv6 clothes.
#[test]
fn the_internet_gets_nothing_unless_a_rule_or_a_peer_says_so() {
    if std::env::var_os(OUTSIDE).is_some() {
        return calls_from_many_addresses();
    }
    if !does("unshare", "--net true") || !does("unshare", "--net ip link set lo up") {
        eprintln!("skipped: no network namespace can be made here (unshare, iproute2, root)");
        return;
    }
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.arg("--net").arg(this);
    let name = "the_internet_gets_nothing_unless_a_rule_or_a_peer_says_so";
    command.args(["--exact", name, "--nocapture"]);
    command.env(OUTSIDE, namespace());
    let inside = tools::run_within(&mut command, Duration::from_secs(300));
    eprintln!("{}", inside.stderr);
    assert!(inside.success(), "{}", inside.text());
}

fn call_from(address: &str, port: u16, calling: &str) -> Option<(u8, u8, u8)> {
    let from: IpAddr = address.parse().unwrap();
    let domain = socket2::Domain::for_address(SocketAddr::new(from, 0));
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    // The same address on both sides: each is one of this machine here.
    socket.connect(&SocketAddr::new(from, port).into()).unwrap();
    let contexts: &[(u8, &str, &[&str])] = &[(1, VERIFICATION, &[EXPLICIT_LITTLE])];
    let request = wire::associate_rq(calling, "KURA", contexts, 16_384, &[]);
    let client = Client::begin(socket.into(), &request, contexts);
    if let Ok(mut client) = client {
        assert_eq!(client.c_echo(1).unwrap(), 0);
        client.release().unwrap();
        return None;
    }
    rejected(client)
}

fn calls_from_many_addresses() {
    assert_ne!(std::env::var(OUTSIDE), Ok(namespace()), "not everybody's");
    assert!(does("ip", "link set lo up"), "a loopback");
    let private = [
        "10.7.0.1",
        "172.31.0.9",
        "192.168.7.7",
        "169.254.3.3",
        "fd00:7::1",
    ];
    let public = [
        "203.0.113.5",
        "100.64.0.9",
        "11.0.0.1",
        "2001:db8::5",
        "fec0::9",
    ];
    let mut has_v6 = true;
    for address in private.into_iter().chain(public) {
        let bits = if address.contains(':') { 128 } else { 32 };
        let added = does("ip", &format!("addr add {address}/{bits} dev lo nodad"))
            || does("ip", &format!("addr add {address}/{bits} dev lo"));
        has_v6 &= added || bits == 32;
        assert!(added || bits == 128, "{address}");
    }
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let bind = if has_v6 { "::" } else { "0.0.0.0" };
    let configure = |access: &str| {
        let text = format!(
            "bind = \"{bind}\"\nport = {port}\nstate = \"state\"\n{access}\n\
             [[peer]]\nae_title = \"FARPEER\"\nhost = \"203.0.113.5\"\nport = 104\n\
             [[peer]]\nae_title = \"ROAMER\"\nhost = \"caller\"\nport = 104\n\
             [[volume]]\nname = \"A\"\npath = \"a\"\nrole = \"archive\"\n[intake]\nmode = \"direct\"\n"
        );
        fs::write(folder.path().join("kura.toml"), text).unwrap();
    };
    configure("");
    let server = Server::as_configured(folder.path(), port);
    let usable = |address: &str| has_v6 || !address.contains(':');
    let reject = Some((1, 1, 3));
    for address in private.iter().filter(|one| usable(one)) {
        assert_eq!(call_from(address, port, "ANY"), None, "{address}");
    }
    assert_eq!(call_from("127.0.0.1", port, "ANY"), None);
    for address in public.iter().filter(|one| usable(one)) {
        assert_eq!(call_from(address, port, "ANY"), reject, "{address}");
        // A title that anybody can send opens nothing from there.
        assert_eq!(call_from(address, port, "ROAMER"), reject, "{address}");
    }
    assert_eq!(call_from("203.0.113.5", port, "FARPEER"), None);
    assert_eq!(call_from("11.0.0.1", port, "FARPEER"), reject);
    let found = failure(&server, "unknown-caller", "ANY");
    assert!(found.end.contains("unknown = \"private\""), "{found:?}");
    let seen = |address: &str| server.log_text().contains(&format!("so from {address} "));
    assert!(
        seen("203.0.113.5") && seen("11.0.0.1"),
        "{}",
        server.log_text()
    );

    configure(
        "[access]\nunknown = \"refuse\"\n\
         [[access.rule]]\naddress = [\"11.0.0.0/8\", \"2001:db8::/32\"]\nallow = [\"echo\"]\n",
    );
    assert_eq!(server.kura(&["reload"]).code, Some(0));
    assert_eq!(call_from("11.0.0.1", port, "ANY"), None);
    if has_v6 {
        assert_eq!(call_from("2001:db8::5", port, "ANY"), None);
    }
    for address in ["10.7.0.1", "127.0.0.1", "100.64.0.9"] {
        assert_eq!(call_from(address, port, "ANY"), reject, "{address}");
    }
    assert_eq!(call_from("10.7.0.1", port, "ROAMER"), None);
    assert_eq!(call_from("203.0.113.5", port, "FARPEER"), None);
}
