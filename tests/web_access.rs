//! Who gets into the administrator's page and the API, and what a browser cannot be tricked into.

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::build::Ct;
use common::http::{self, SAME_ORIGIN, address_of, ask, get, send, server};
use common::images::{Image, send_all};
use common::{Server, Settings, tools};
use serde_json::json;

const PASSWORD: &str = "a long password it is";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// `kura admin password`, the password on standard input.
fn set_password(server: &Server, user: &str, password: &str, more: &[&str]) {
    let mut arguments = vec!["admin", "password", "--user", user];
    arguments.extend_from_slice(more);
    let mut child = server
        .command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start kura admin");
    let mut input = child.stdin.take().expect("its standard input");
    writeln!(input, "{password}").expect("the password");
    drop(input);
    let output = child.wait_with_output().expect("kura admin");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains(password), "{said}");
}

/// Users and tokens are read again within a second.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not yet: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn token(server: &Server, name: &str, more: &[&str]) -> String {
    let mut arguments = vec!["admin", "token", "add", name];
    arguments.extend_from_slice(more);
    let made = server.kura_json(&arguments);
    format!("Bearer {}", made["token"].as_str().expect("a token"))
}

/// Method: requests as browsers send them for a page of another server, to a page, to the API, with the cookie of a person
/// who has signed in and without; then the same from a page of ours, and from a program.
#[test]
fn another_page_cannot_make_the_browser_change_anything() {
    let (server, address) = server(Settings::default());
    let add = json!({ "do": "add-peer", "peer": "EVIL@10.0.0.66:104", "associations": null, "fuzzy_names": null });
    let own = format!("http://{address}");
    let strangers: &[&[(&str, &str)]] = &[
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
        ],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Origin", "http://127.0.0.1:1")],
    ];
    for headers in strangers {
        let answer = ask(address, "setup", headers, &add);
        assert_eq!(answer.status, 403, "{headers:?} {}", answer.text());
        let mut form = headers.to_vec();
        form.push(FORM);
        let answer = send(
            address,
            "POST",
            "/peers/add",
            &form,
            b"peer=EVIL%4010.0.0.66:104",
        );
        assert_eq!(answer.status, 403, "{headers:?} {}", answer.text());
    }
    // A form can send text that looks like JSON, and old browsers do not say from where.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let kind = [("Content-Type", kind)];
        let body = add.to_string();
        let answer = send(address, "POST", "/api/v1/setup", &kind, body.as_bytes());
        assert_eq!(answer.status, 415, "{kind:?}");
    }
    let answer = send(
        address,
        "POST",
        "/peers/add",
        &[FORM],
        b"peer=EVIL%4010.0.0.66:104",
    );
    assert_eq!(answer.status, 403);
    // Nor read: a program of another page may not even ask.
    let answer = send(
        address,
        "GET",
        "/api/v1/status",
        &[("Sec-Fetch-Site", "cross-site")],
        b"",
    );
    assert_eq!(answer.status, 403);
    let preflight = [
        ("Origin", "http://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let answer = send(address, "OPTIONS", "/api/v1/setup", &preflight, b"");
    assert!(answer.header("access-control-allow-origin").is_none());
    assert!(!(200..300).contains(&answer.status), "{}", answer.status);
    let peers = server.kura_json(&["peer", "list"]);
    assert_eq!(peers["peers"], json!([]));
    // A link is followed.
    let link = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    assert_eq!(send(address, "GET", "/", &link, b"").status, 200);
    for headers in [&[SAME_ORIGIN][..], &[("Origin", &own)], &[]] {
        let answer = ask(address, "setup", headers, &json!({ "do": "show" }));
        assert_eq!(answer.status, 200, "{headers:?} {}", answer.text());
    }
}

/// Method: the names that a page elsewhere could give our address.
#[test]
fn a_name_that_is_not_ours_is_not_answered() {
    let settings = Settings {
        extra: String::new(),
        ..Settings::default()
    };
    let mut server = Server::with(http::with_page(settings));
    server.terminate();
    let config = server.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text + "\n[admin]\nnames = [\"pacs.hospital.example\"]\n",
    )
    .unwrap();
    server.restart();
    let address = address_of(&server);
    let port = address.port();
    for (host, status) in [
        (format!("evil.example:{port}"), 421),
        ("localhost.evil.example".to_owned(), 421),
        ("127.0.0.1.evil.example".to_owned(), 421),
        (String::new(), 421),
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("LOCALHOST".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
        ("Pacs.Hospital.Example".to_owned(), 200),
    ] {
        for path in ["/api/v1/status", "/"] {
            let answer = send(address, "GET", path, &[("Host", &host)], b"");
            assert_eq!(answer.status, status, "{host:?} {path}");
        }
    }
}

/// Method: every kind of page and answer, the headers that keep a browser from running, framing, keeping or passing on.
#[test]
fn every_answer_says_what_a_browser_must_not_do_with_it() {
    let (_server, address) = server(Settings::default());
    for path in [
        "/",
        "/studies",
        "/volumes",
        "/sign-in",
        "/nothing",
        "/api/v1/status",
        "/api/v1/nothing",
        "/assets/kura.css",
    ] {
        let answer = get(address, path);
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'self'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(
            answer.header("referrer-policy"),
            Some("same-origin"),
            "{path}"
        );
        let kept = answer.header("cache-control").unwrap_or_default();
        assert!(
            path.starts_with("/assets/") || kept == "no-store",
            "{path}: {kept}"
        );
        // Nothing that the policy would have to allow.
        let text = answer.text();
        for word in [
            " onclick=",
            " onload=",
            "javascript:",
            "<script>",
            " style=",
        ] {
            assert!(!text.contains(word), "{path}: {word}");
        }
    }
}

/// Method: addresses that lead out of a folder, written in all the ways there are.
#[test]
fn no_address_leads_to_a_file_that_is_not_part_of_the_page() {
    let (server, address) = server(Settings::default());
    token(&server, "a", &[]);
    let ways = [
        "/assets/../../state/admin/accounts.json",
        "/assets/..%2f..%2fstate%2fadmin%2faccounts.json",
        "/assets/%2e%2e/%2e%2e/kura.toml",
        "/assets/..%5c..%5ckura.toml",
        "/assets//etc/passwd",
        "/assets/%00",
        "/assets/kura.css%00.txt",
        "/api/v1/../../etc/passwd",
        "/studies/..%2f..%2f..%2fetc%2fpasswd",
        "/studies/..%2f..%2f/thumbnail",
        "//etc/passwd",
        "/reports/..%2f..%2fadmin%2faccounts.json",
    ];
    for path in ways {
        let answer = get(address, path);
        let text = answer.text();
        assert!(answer.status < 500, "{path}: {} {text}", answer.status);
        for secret in ["root:", "digest", "ae_title ="] {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
    for name in [
        "../admin/accounts.json",
        "/etc/passwd",
        "..",
        "a/../../admin/accounts",
        "",
    ] {
        let body = json!({ "do": "show", "name": name });
        let answer = ask(address, "report", &[], &body);
        assert_eq!(answer.status, 422, "{name:?} {}", answer.text());
        assert!(!answer.text().contains("digest"));
    }
}

/// Method: images whose patient's name, ID and descriptions are script, shown on the pages that show patients.
#[test]
fn a_patients_name_is_text_whatever_is_in_it() {
    let (server, address) = server(Settings::default());
    let attack = "<script>alert(1)</script>";
    let name = "\"><img src=x onerror=alert(2)>^A";
    let (study, series, sop) = ("2.25.7001", "2.25.7001.1", "2.25.7001.1.1");
    let ct = Ct {
        patient_id: attack,
        patient_name: name,
        ..Ct::new(study, series, sop)
    };
    let image = Image {
        study: study.to_owned(),
        sop: sop.to_owned(),
        data_set: ct.encode(),
    };
    send_all(&server, &[image]);
    server.wait_until_indexed();
    let mut shown = 0;
    for path in [
        "/",
        "/studies",
        "/studies?name=img",
        "/studies?patient=%3Cscript%3E",
        "/studies/2.25.7001",
        "/studies?q=%22%3E%3Cscript%3Ealert(3)%3C/script%3E",
        "/journal",
        "/journal?text=%22%3E%3Cscript%3Ealert(3)%3C/script%3E",
        "/conflicts",
        "/forwarding",
        "/sign-in?to=%22%3E%3Cscript%3Ealert(3)%3C/script%3E",
        "/%3Cscript%3Ealert(3)%3C/script%3E",
    ] {
        let answer = get(address, path);
        let text = answer.text();
        assert!(answer.status < 500, "{path}: {text}");
        for bad in ["<script>alert", "<img src=x"] {
            assert!(!text.contains(bad), "{path}: {bad}: {text}");
        }
        shown += usize::from(text.contains("&lt;script&gt;alert(1)"));
    }
    eprintln!("pages that showed the name: {shown}");
    let found = ask(
        address,
        "find",
        &[],
        &json!({ "level": "STUDY", "keys": [{ "tag": 0x0010_0020, "value": "" }], "fuzzy_names": false, "most": 0 }),
    );
    assert!(found.text().contains(attack), "{}", found.text());
    assert_eq!(found.header("content-type"), Some("application/x-ndjson"));
}

/// Method: a password is set while the server runs, signed in with, changed, taken away; guessed.
#[test]
fn with_a_password_nobody_gets_in_without_and_signing_out_is_signing_out() {
    let (server, address) = server(Settings::default());
    assert_eq!(get(address, "/api/v1/status").status, 200);
    set_password(&server, "suzuki", PASSWORD, &[]);
    until("a password is needed", || {
        get(address, "/api/v1/status").status == 401
    });
    let answer = get(address, "/volumes?a=b");
    assert_eq!(answer.status, 303);
    assert_eq!(
        answer.header("location"),
        Some("/sign-in?to=/volumes%3Fa%3Db")
    );
    let answer = send(address, "GET", "/", &[("HX-Request", "true")], b"");
    assert_eq!(
        (answer.status, answer.header("hx-redirect")),
        (401, Some("/sign-in"))
    );
    assert_eq!(get(address, "/sign-in").status, 200);
    assert_eq!(get(address, "/assets/kura.css").status, 200);
    // From elsewhere not even with the right password: that would be somebody else's session.
    let stranger = [FORM, ("Sec-Fetch-Site", "cross-site")];
    let body = b"name=suzuki&password=a+long+password+it+is";
    assert_eq!(
        send(address, "POST", "/sign-in", &stranger, body).status,
        403
    );
    assert_eq!(
        http::sign_in(address, "suzuki", "a long password it was").status,
        403
    );
    assert_eq!(http::sign_in(address, "nobody", PASSWORD).status, 403);
    let answer = http::sign_in(address, "suzuki", PASSWORD);
    assert_eq!(answer.status, 303, "{}", answer.text());
    let set = answer.header("set-cookie").unwrap().to_owned();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict"),
        "{set}"
    );
    let cookie = answer.cookie();
    let with =
        |cookie: &str| send(address, "GET", "/api/v1/status", &[("Cookie", cookie)], b"").status;
    assert_eq!(with(&cookie), 200);
    assert_eq!(with("kura_session=0123456789abcdef"), 401);
    assert_eq!(with("kura_session="), 401);
    // A page has a way out.
    let page = send(address, "GET", "/", &[("Cookie", &cookie)], b"").text();
    assert!(page.contains("/sign-out"), "{page}");
    let out = [("Cookie", &*cookie), SAME_ORIGIN];
    assert_eq!(send(address, "POST", "/sign-out", &out, b"").status, 303);
    assert_eq!(with(&cookie), 401);
    // Another password, and who signed in with the old one is out.
    let cookie = http::sign_in(address, "suzuki", PASSWORD).cookie();
    assert_eq!(with(&cookie), 200);
    set_password(&server, "suzuki", "another long password", &[]);
    until("the old password is over", || with(&cookie) == 401);
    assert_eq!(http::sign_in(address, "suzuki", PASSWORD).status, 403);
    let mut waits = None;
    for _ in 0..8 {
        let answer = http::sign_in(address, "suzuki", "guessed once more");
        if answer.status == 429 {
            waits = answer
                .header("retry-after")
                .and_then(|text| text.parse().ok());
            break;
        }
        assert_eq!(answer.status, 403);
    }
    let waits: u64 = waits.expect("who guesses has to wait");
    assert!((1..=60).contains(&waits));
    // It waits with the right one, too: what it says tells a guesser nothing.
    assert_eq!(
        http::sign_in(address, "suzuki", "another long password").status,
        429
    );
    assert!(server.kura(&["admin", "remove", "suzuki"]).success());
    until("nobody has a password", || {
        get(address, "/api/v1/status").status == 200
    });
    let log = server.log_text();
    for secret in [
        PASSWORD,
        "another long password",
        &cookie["kura_session=".len()..],
    ] {
        assert!(!log.contains(secret), "in the log");
    }
}

/// Method: a token for everything and one to look, used, listed, removed.
#[test]
fn tokens_are_taken_until_they_are_removed_and_looking_changes_nothing() {
    let (server, address) = server(Settings::default());
    set_password(&server, "admin", PASSWORD, &[]);
    set_password(&server, "looker", PASSWORD, &["--read-only"]);
    let all = token(&server, "backup", &[]);
    let look = token(&server, "monitor", &["--read-only"]);
    let status = |token: &str| {
        let headers = [("Authorization", token)];
        send(address, "GET", "/api/v1/status", &headers, b"").status
    };
    until("tokens are known", || status(&look) == 200);
    assert_eq!(status(&all), 200);
    for wrong in [
        "Bearer kura_0",
        "Bearer ",
        "Bearer",
        "Basic YWRtaW46YWRtaW4=",
        &all["Bearer ".len()..],
    ] {
        assert_eq!(status(wrong), 401, "{wrong}");
    }
    let pause = json!({ "do": "pause" });
    let show = json!({ "do": "status", "all": false });
    let as_token =
        |token: &str, body| ask(address, "mirror", &[("Authorization", token)], body).status;
    assert_eq!(as_token(&look, &show), 200);
    assert_eq!(as_token(&look, &pause), 403);
    let cookie = http::sign_in(address, "looker", PASSWORD).cookie();
    let headers = [("Cookie", &*cookie), SAME_ORIGIN];
    assert_eq!(ask(address, "mirror", &headers, &pause).status, 403);
    let form = [("Cookie", &*cookie), SAME_ORIGIN, FORM];
    for path in ["/peers", "/peers/add", "/volumes/A/eject", "/jobs/mirror"] {
        assert_eq!(
            send(address, "POST", path, &form, b"a=b").status,
            403,
            "{path}"
        );
    }
    let changes = server.kura_json(&["audit", "list", "mirror"]);
    assert_eq!(changes["lines"], json!([]));
    let answer = ask(address, "mirror", &[("Authorization", &all)], &pause);
    // Without a mirror volume there is nothing to pause; but it was asked.
    assert!(matches!(answer.status, 200 | 422), "{}", answer.text());
    let changes = server.kura_json(&["audit", "list", "token backup"]);
    assert_eq!(changes["lines"][0]["who"], "token backup", "{changes}");
    // Nothing secret is shown, or kept.
    let shown = server.kura(&["admin", "list", "--json"]).stdout;
    let kept = std::fs::read_to_string(server.state().join("admin/accounts.json")).unwrap();
    for text in [&shown, &kept, &server.log_text()] {
        for secret in [&all["Bearer ".len()..], &look["Bearer ".len()..], PASSWORD] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(
        !shown.contains("argon2") && !shown.contains("digest"),
        "{shown}"
    );
    assert!(
        server
            .kura(&["admin", "token", "remove", "backup"])
            .success()
    );
    until("it is removed", || status(&all) == 401);
    assert_eq!(status(&look), 200);
}

/// Method: the page is opened to the network with nothing, with a password, with a certificate too; then asked over TLS by
/// a client that trusts that certificate, and by one that does not.
#[test]
fn the_network_gets_a_page_only_with_a_password_and_a_certificate() {
    let mut server = Server::with(http::with_page(Settings::default()));
    server.terminate();
    let config = server.config();
    let before = std::fs::read_to_string(&config).unwrap();
    let open = format!("{before}\n[admin]\nbind = \"0.0.0.0\"\n");
    std::fs::write(&config, &open).unwrap();
    let refused = |server: &mut Server, word: &str| {
        server.restart();
        until(word, || server.log_text().contains(word));
        server.terminate();
    };
    refused(&mut server, "kura admin password");
    set_password(&server, "admin", PASSWORD, &[]);
    refused(&mut server, "kura admin certificate");
    let made = server.kura_json(&["admin", "certificate", "pacs.hospital.example"]);
    let (certificate, key) = (&made["certificate"], &made["key"]);
    std::fs::write(
        &config,
        format!("{open}certificate = {certificate}\nkey = {key}\n"),
    )
    .unwrap();
    assert!(
        !server.kura(&["admin", "certificate"]).success(),
        "it was there already"
    );
    server.restart();
    let port = address_of(&server).port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // Plain HTTP says nothing.
    let mut plain = TcpStream::connect(address).unwrap();
    plain
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut bytes);
    assert!(!bytes.starts_with(b"HTTP/"), "{bytes:?}");
    let certificate = certificate.as_str().unwrap();
    let over_tls = |trusted: Option<&str>, path: &str, more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "60"]);
        if let Some(trusted) = trusted {
            command.args(["--cacert", trusted]);
        }
        command
            .args(more)
            .arg(format!("https://localhost:{port}{path}"));
        tools::run(&mut command)
    };
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: no curl here to speak TLS");
        return;
    }
    assert!(
        !over_tls(None, "/healthz", &[]).success(),
        "nobody has signed it"
    );
    let answer = over_tls(Some(certificate), "/api/v1/status", &[]);
    assert!(answer.stdout.contains(" 401 "), "{}", answer.text());
    let form = format!("name=admin&password={}", PASSWORD.replace(' ', "+"));
    let headers = ["-H", "Sec-Fetch-Site: same-origin", "--data", &form];
    let answer = over_tls(Some(certificate), "/sign-in", &headers);
    assert!(answer.stdout.contains(" 303 "), "{}", answer.text());
    assert!(answer.stdout.contains("; Secure"), "{}", answer.text());
    assert!(!over_tls(Some(certificate), "/", &["--tls-max", "1.1"]).success());
    assert!(over_tls(Some(certificate), "/sign-in", &["--tls-max", "1.2"]).success());
}

/// Method: a thousand connections that say nothing, some in the middle of a head or of a body, and images meanwhile.
#[test]
fn a_thousand_silent_connections_do_not_disturb_storing() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("more open files");
    let (server, address) = server(Settings::default());
    let mut silent = Vec::new();
    for number in 0..1_000 {
        // More than there may be are closed by the server; that is well.
        let Ok(mut stream) = TcpStream::connect(address) else {
            continue;
        };
        let _ = match number % 4 {
            0 => stream.write_all(b"GET / HT"),
            1 => stream.write_all(b"POST /api/v1/find HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"),
            _ => Ok(()),
        };
        silent.push(stream);
    }
    let images: Vec<Image> = (0..20)
        .map(|number| {
            let sop = format!("2.25.8001.1.{number}");
            let ct = Ct {
                number,
                ..Ct::new("2.25.8001", "2.25.8001.1", &sop)
            };
            Image {
                study: "2.25.8001".to_owned(),
                data_set: ct.encode(),
                sop,
            }
        })
        .collect();
    send_all(&server, &images);
    assert!(server.kura(&["status"]).stdout.contains("VOLUME"));
    // They are given up by and by, and the page is there again, with them still open on their side.
    let there = || {
        let Ok(mut stream) = TcpStream::connect(address) else {
            return false;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = stream.write_all(
            b"GET /assets/kura.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        let mut head = [0; 15];
        std::io::Read::read_exact(&mut stream, &mut head).is_ok() && head.ends_with(b"200 OK")
    };
    until("the page is there again", there);
    drop(silent);
    assert!(!server.log_text().contains("panicked"));
}

/// Method: heads and bodies that are longer than anything of ours.
#[test]
fn what_is_too_long_is_refused() {
    let (_server, address) = server(Settings::default());
    let long = "a".repeat(100_000);
    let answer = send(address, "GET", "/", &[("X-Long", &long)], b"");
    assert_eq!(answer.status, 431);
    let many: Vec<(String, &str)> = (0..500).map(|n| (format!("X-{n}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, *value)).collect();
    assert_eq!(send(address, "GET", "/", &many, b"").status, 431);
    // Without the body: it is refused before it comes.
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /api/v1/setup HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 5242880\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(http::read(&mut stream).status, 413);
    let deep = "[".repeat(100_000);
    assert_eq!(
        send(address, "POST", "/api/v1/setup", &[JSON], deep.as_bytes()).status,
        400
    );
}
