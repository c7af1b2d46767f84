//! Promise: what an administrator does at the command line can be done on the page, and means the same; what is refused is
//! said at its form, which keeps what was typed; what hides or moves data says so on a page in between.

mod common;

use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, Ct};
use common::copies::{kura, wait_until_mirrored, with_mirror};
use common::images::{self, Image, STORE, assert_come_back, send_all};
use common::shelf::volume;
use common::web::{self, Page};
use common::wire::IMPLICIT_LITTLE;
use common::{Client, Server, Settings, Sink};
use serde_json::Value;

/// How long anything that comes by itself may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A person at the page of a server.
struct Desk<'a> {
    server: &'a Server,
}

impl Desk<'_> {
    fn get(&self, address: &str) -> Page {
        web::get(self.server, address, &[("Accept-Language", "en")])
    }

    /// A page that must be there.
    fn page(&self, address: &str) -> String {
        let answer = self.get(address);
        assert_eq!(answer.status, 200, "{address}: {}", answer.text);
        answer.text
    }

    fn send(&self, address: &str, fields: &[(&str, &str)]) -> Page {
        let english = [("Accept-Language", "en")];
        web::post(self.server, address, &english, &form(fields))
    }

    /// The page after a form that leads to another, with what was said.
    fn after(&self, answer: &Page) -> String {
        let cookie = answer.cookie("kura-said").expect("a saying");
        let location = answer.header("location").expect("another page");
        let headers = [("Accept-Language", "en"), ("Cookie", cookie.as_str())];
        let after = web::get(self.server, location, &headers);
        assert_eq!(after.status, 200, "{location}: {}", after.text);
        after.text
    }

    /// A form that must be taken; the page that comes after it, with what was said.
    fn does(&self, address: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.send(address, fields);
        assert_eq!(answer.status, 303, "{address} {fields:?}: {}", answer.text);
        let after = self.after(&answer);
        let refused = "<div role=\"status\"><div class=\"notice bad\">";
        assert!(!after.contains(refused), "{address} {fields:?}: {after}");
        after
    }

    /// A form that must be refused, on the page of the form.
    fn refuses(&self, address: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.send(address, fields);
        assert_eq!(answer.status, 422, "{address} {fields:?}: {}", answer.text);
        assert!(answer.text.contains("role=\"alert\""), "{}", answer.text);
        answer.text
    }

    /// A form with a page in between: nothing is done by the first, all by the second.
    fn is_asked_first(&self, address: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.send(address, fields);
        assert_eq!(answer.status, 200, "{address} {fields:?}: {}", answer.text);
        let sure = "name=\"sure\" value=\"yes\"";
        assert!(answer.text.contains(sure), "{}", answer.text);
        for (_, value) in fields {
            let kept = format!("value=\"{value}\"");
            assert!(answer.text.contains(&kept), "{kept}: {}", answer.text);
        }
        answer.text
    }

    fn wait_for(&self, address: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let answer = self.get(address);
            if is_so(&answer.text) {
                return answer.text;
            }
            assert!(begun.elapsed() < PATIENCE, "{address}: {}", answer.text);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Of a part that is asked for until it is over (htmx: 286).
    fn wait_until_over(&self, address: &str) -> String {
        let begun = Instant::now();
        loop {
            let answer = self.get(address);
            if answer.status == 286 {
                return answer.text;
            }
            assert_eq!(answer.status, 200, "{address}: {}", answer.text);
            assert!(begun.elapsed() < PATIENCE, "{address}: {}", answer.text);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        bytes.collect()
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// With the page on a port of its own.
fn start(settings: Settings) -> Server {
    let server = web::with_page(settings);
    server.wait_until_indexed();
    server
}

fn new_folder(server: &Server, name: &str) -> String {
    let path = server.folder().join(name);
    std::fs::create_dir(&path).expect("folder");
    path.display().to_string()
}

/// Method: a folder that is not there, then one that is; a name that is an attack on the page; the state by the command line.
#[test]
fn a_volume_is_added_retired_and_renamed_on_the_page() {
    let server = start(Settings::default());
    let desk = Desk { server: &server };
    let evil = "\"><script>alert(1)</script>";
    let refused = desk.refuses(
        "/volumes",
        &[
            ("name", "B"),
            ("path", "/nowhere/at all"),
            ("role", "mirror"),
        ],
    );
    assert!(refused.contains("there is no such folder"), "{refused}");
    assert!(refused.contains("value=\"/nowhere/at all\""), "{refused}");
    assert!(refused.contains("value=\"mirror\" selected"), "{refused}");
    let refused = desk.refuses("/volumes", &[("name", evil), ("path", evil)]);
    assert!(!refused.contains("<script>alert"), "{refused}");
    let path = new_folder(&server, "volume-b");
    let page = desk.does(
        "/volumes",
        &[("name", "B"), ("path", &path), ("role", "mirror")],
    );
    assert!(page.contains("volume B is at"), "{page}");
    assert_eq!(volume(&server, "B")["role"], "mirror");
    assert!(page.contains("href=\"/volume/B\""), "{page}");
    let page = desk.does("/volume/A/do/retire", &[]);
    assert!(page.contains("takes no new instances"), "{page}");
    assert_eq!(volume(&server, "A")["state"], "retired");
    desk.does("/volume/A/do/unretire", &[]);
    assert_eq!(volume(&server, "A")["state"], "ok");
    let refused = desk.refuses("/volume/B/rename", &[("new_name", "A")]);
    assert!(refused.contains("there is a volume A already"), "{refused}");
    let page = desk.does("/volume/B/rename", &[("new_name", "MIRROR")]);
    assert!(page.contains("<h1>Volume MIRROR</h1>"), "{page}");
    desk.is_asked_first("/volume/A/do/drain", &[]);
    assert_eq!(volume(&server, "A")["state"], "ok");
    desk.does("/volume/MIRROR/do/eject", &[]);
    assert_eq!(volume(&server, "MIRROR")["state"], "ejected");
    desk.does("/volume/MIRROR/do/return", &[]);
    assert_eq!(volume(&server, "MIRROR")["state"], "ok");
    assert_eq!(desk.get("/volume/NOBODY").status, 404);
    assert_eq!(desk.send("/volume/A/do/explode", &[]).status, 404);
}

/// Method: a mirrored archive whose archive volume becomes an empty mount point; the plan changes nothing, the second form
/// begins, the moving part ends with the report; every image comes back.
#[test]
fn a_dead_disk_is_replaced_on_the_page() {
    let server = start(with_mirror("when = \"immediate\""));
    let desk = Desk { server: &server };
    let images = images::images(2, 20);
    send_all(&server, &images);
    wait_until_mirrored(&server);
    let refused = desk.refuses("/volume/A/replace", &[("path", "/nowhere")]);
    assert!(refused.contains("value=\"/nowhere\""), "{refused}");
    std::fs::rename(server.volume("A"), server.folder().join("old-a")).expect("pulled out");
    std::fs::create_dir(server.volume("A")).expect("mount point");
    let begun = Instant::now();
    while volume(&server, "A")["state"] != "away" {
        assert!(begun.elapsed() < PATIENCE, "{}", volume(&server, "A"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let page = desk.page("/volumes");
    assert!(page.contains("away"), "{page}");
    let path = new_folder(&server, "new");
    let plan = desk.is_asked_first("/volume/A/replace", &[("path", &path)]);
    assert!(plan.contains("40 images, "), "{plan}");
    assert_eq!(volume(&server, "A")["state"], "away");
    let page = desk.does("/volume/A/replace", &[("path", &path), ("sure", "yes")]);
    assert!(page.contains("hx-get=\"/volume/A/replace/now\""), "{page}");
    let over = desk.wait_until_over("/volume/A/replace/now");
    assert!(over.contains("nothing is lost"), "{over}");
    assert_come_back(&server, &images);
    let jobs = desk.page("/jobs");
    assert!(jobs.contains("/jobs/report/"), "{jobs}");
}

fn item(server: &Server, study: &str) -> Value {
    server.kura_json(&["forward", "show", study])["items"][0].clone()
}

fn wait_for_state(server: &Server, study: &str, state: &str) -> Value {
    let begun = Instant::now();
    loop {
        let item = item(server, study);
        if item["state"] == state {
            return item;
        }
        assert!(begun.elapsed() < PATIENCE, "{state}: {item}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Method: a peer that was refused, added, changed, paused while an image waits for it, resumed, and refused by it; the rule
/// that sends to it by the page too.
#[test]
fn a_peer_is_set_up_paused_and_sent_to_on_the_page() {
    let server = start(Settings {
        extra: "[forward]\nretry_seconds = 600\nretry_max_seconds = 600\nprobe_seconds = 1\n"
            .to_owned(),
        ..Settings::default()
    });
    let desk = Desk { server: &server };
    let sink = Sink::start();
    let port = sink.port().to_string();
    let refused = desk.refuses(
        "/peers",
        &[
            ("ae_title", "SINK"),
            ("host", "127.0.0.1"),
            ("port", "many"),
        ],
    );
    assert!(refused.contains("many is not a port"), "{refused}");
    assert!(refused.contains("value=\"SINK\""), "{refused}");
    let add = [
        ("ae_title", "SINK"),
        ("host", "127.0.0.1"),
        ("port", &port),
        ("uncompressed", "yes"),
    ];
    let page = desk.does("/peers", &add);
    assert!(page.contains("<h1>Peer SINK</h1>"), "{page}");
    let toml = std::fs::read_to_string(server.config()).expect("kura.toml");
    assert!(toml.contains("uncompressed = true"), "{toml}");
    desk.does(
        "/peer/SINK/change",
        &[
            ("host", "127.0.0.1"),
            ("port", &port),
            ("associations", "3"),
        ],
    );
    let toml = std::fs::read_to_string(server.config()).expect("kura.toml");
    assert!(
        toml.contains("uncompressed = false") && toml.contains("associations = 3"),
        "{toml}"
    );
    let tested = desk.send("/peer/SINK/test", &[]);
    assert_eq!(tested.status, 200, "{}", tested.text);
    assert!(
        tested.text.contains("<h1>Test of peer SINK</h1>"),
        "{}",
        tested.text
    );

    let refused = desk.refuses(
        "/forwarding/rules",
        &[("name", "ct"), ("to", "SINK"), ("window", "always")],
    );
    assert!(refused.contains("a window is HH:MM-HH:MM"), "{refused}");
    assert!(refused.contains("value=\"SINK\" checked"), "{refused}");
    let rule = [
        ("name", "ct"),
        ("to", "SINK"),
        ("modality", "CT"),
        ("when", "instance"),
    ];
    let page = desk.does("/forwarding/rules", &rule);
    assert!(page.contains("/forwarding/rule/ct/remove"), "{page}");
    assert_eq!(
        server.kura_json(&["forward", "rules"])["rules"][0]["modality"],
        "CT"
    );

    let page = desk.does("/peer/SINK/do/pause", &[]);
    assert!(page.contains("paused"), "{page}");
    let images = images::images(2, 1);
    send_all(&server, &images[..1]);
    let study = &images[0].study;
    desk.wait_for("/forwarding/now?state=waiting&peer=SINK", |part| {
        part.contains(study)
    });
    assert_eq!(sink.count(), 0);
    desk.does("/peer/SINK/do/resume", &[]);
    sink.wait_for(1, PATIENCE);
    wait_for_state(&server, study, "sent");
    let part = desk.wait_for("/forwarding/now?state=sent", |part| part.contains(study));
    assert!(part.contains("1 of 1"), "{part}");
    assert!(!desk.page("/forwarding/now?state=failed").contains(study));

    // A700H: the table says it in words, the study's page tries again.
    sink.answer(0xA700);
    send_all(&server, &images[1..]);
    let study = &images[1].study;
    wait_for_state(&server, study, "failed");
    let part = desk.page("/forwarding/now?state=failed");
    assert!(part.contains("A700H out of resources"), "{part}");
    sink.answer(0);
    let own = format!("/forwarding/study/{study}");
    desk.does(&format!("{own}/retry"), &[("peer", "SINK")]);
    wait_for_state(&server, study, "sent");
    let before = sink.count();
    desk.is_asked_first(&format!("{own}/unmark"), &[("peer", "SINK")]);
    desk.does(
        &format!("{own}/unmark"),
        &[("peer", "SINK"), ("sure", "yes")],
    );
    sink.wait_for(before + 1, PATIENCE);

    // What is used stays; then both go.
    desk.is_asked_first("/peer/SINK/remove", &[]);
    let refused = desk.send("/peer/SINK/remove", &[("sure", "yes")]);
    let after = desk.after(&refused);
    assert!(after.contains("rule ct sends to SINK"), "{after}");
    desk.does("/forwarding/rule/ct/remove", &[("sure", "yes")]);
    desk.does("/peer/SINK/remove", &[("sure", "yes")]);
    assert!(desk.page("/peers").contains("There is no peer yet"));
}

/// Method: copies wait for an hour that is not now; begun by hand on the page; its moving part ends with nothing left. A drill
/// ends with its answer, and the journal has what came.
#[test]
fn a_mirror_job_is_begun_on_the_page_and_moves() {
    let server = start(with_mirror("window = \"03:00-03:01\""));
    let desk = Desk { server: &server };
    let images = images::images(2, 30);
    send_all(&server, &images);
    desk.wait_for("/jobs/copies", |part| part.contains("60 images, "));
    desk.does("/jobs/mirror/pause", &[]);
    let refused = desk.refuses(
        "/jobs/mirror/run",
        &[("date", "2026-01-15"), ("modality", "CT")],
    );
    assert!(refused.contains("copying is paused"), "{refused}");
    assert!(refused.contains("value=\"2026-01-15\""), "{refused}");
    desk.does("/jobs/mirror/resume", &[]);
    let page = desk.does("/jobs/mirror/run", &[("date", ""), ("modality", "")]);
    assert!(page.contains("hx-get=\"/jobs/now\""), "{page}");
    wait_until_mirrored(&server);
    desk.wait_for("/jobs/copies", |part| part.contains("<dd>60</dd>"));

    desk.does("/jobs/work/drill", &[("sample", "5")]);
    let over = desk.wait_until_over("/jobs/work/now");
    assert!(over.contains("proven") || over.contains("partly"), "{over}");
    let refused = desk.refuses("/jobs/work/drill", &[("sample", "0")]);
    assert!(refused.contains("1 to 10000"), "{refused}");
    desk.does("/jobs/work/scrub", &[]);
    let over = desk.wait_until_over("/jobs/work/now");
    assert!(over.contains("<td class=\"number\">60</td>"), "{over}");
    let refused = desk.refuses("/jobs/pull", &[("from", "NOBODY"), ("patient_id", "")]);
    assert!(refused.contains("say which studies"), "{refused}");

    let study = &images[0].study;
    let page = desk.wait_for("/journal?direction=stored", |page| page.contains(study));
    assert!(page.contains("0000H"), "{page}");
    assert!(!desk.page("/journal?direction=forwarded").contains(study));
    assert!(!desk.page("/journal?to=2020-01-01").contains(study));
    assert!(desk.page("/journal?from=soon").contains("is no day"));
}

/// Another data set under the same UIDs.
fn other(image: &Image) -> Image {
    let series = format!("{}.1", image.study);
    let ct = Ct {
        number: 77,
        pixel_bytes: 900,
        ..Ct::new(&image.study, &series, &image.sop)
    };
    Image {
        data_set: ct.encode(),
        ..image.clone()
    }
}

/// Method: as in tests/conflicts.rs, by the page: shown, chosen after the page in between, seen by the command line, and taken
/// back; then a study is removed by the command line and comes back from the page's trash.
#[test]
fn a_conflict_is_settled_on_the_page_and_taken_back() {
    let server = start(Settings::default());
    let desk = Desk { server: &server };
    let all = images::images(1, 2);
    send_all(&server, &all);
    let contexts: &[(u8, &str, &[&str])] = &[(STORE, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE])];
    let mut client = Client::associate(server.address(), "CT2", "KURA", contexts).expect("CT2");
    let (status, comment) = other(&all[0]).send(&mut client).expect("C-STORE");
    assert_eq!(status, 0, "{comment:?}");
    client.release().expect("release");
    let shown = server.kura_json(&["conflicts", "show"]);
    let id = shown["duplicates"][0]["id"].as_str().expect("id");
    let page = desk.page("/conflicts");
    assert!(page.contains(&format!("/conflicts/one/{id}")), "{page}");
    let own = format!("/conflicts/one/{id}");
    let page = desk.page(&own);
    assert!(
        page.contains("CT2") && page.contains("InstanceNumber=77"),
        "{page}"
    );
    let prefer = format!("{own}/prefer");
    let refused = desk.refuses(&prefer, &[("content", "2"), ("reason", " ")]);
    assert!(refused.contains("a change needs a reason"), "{refused}");
    let asked = [("content", "2"), ("reason", "looked at it")];
    desk.is_asked_first(&prefer, &asked);
    assert_eq!(
        server.kura_json(&["conflicts", "show"])["duplicates_count"],
        1
    );
    let sure = [asked[0], asked[1], ("sure", "yes")];
    let page = desk.does(&prefer, &sure);
    assert!(page.contains("Nothing needs a decision"), "{page}");
    let shown = server.kura_json(&["conflicts", "show", "--all"]);
    assert_eq!(
        shown["duplicates"][0]["contents"][1]["answered"], true,
        "{shown}"
    );
    let number = shown["duplicates"][0]["settled_by"]
        .as_u64()
        .expect("number");
    let own = format!("/conflicts/change/{number}");
    assert!(desk.page("/conflicts/changes").contains(&own));
    let page = desk.page(&own);
    assert!(
        page.contains("looked at it") && page.contains("preferred"),
        "{page}"
    );
    let undo = format!("{own}/undo");
    desk.is_asked_first(&undo, &[("reason", "the other one")]);
    let page = desk.does(&undo, &[("reason", "the other one"), ("sure", "yes")]);
    assert!(page.contains("taken back"), "{page}");
    assert_eq!(
        server.kura_json(&["conflicts", "show"])["duplicates_count"],
        1
    );

    kura(
        &server,
        &[
            "remove",
            "--study",
            &all[0].study,
            "--reason",
            "test",
            "--yes",
        ],
    );
    let trash = server.kura_json(&["trash", "list"]);
    let number = trash["items"][0]["number"].as_u64().expect("number");
    let own = format!("/conflicts/trash/{number}");
    assert!(desk.page("/conflicts/trash").contains(&own));
    desk.is_asked_first(&format!("{own}/empty"), &[("reason", "")]);
    desk.does(&format!("{own}/restore"), &[("reason", "was right")]);
    assert_come_back(&server, &all);
}

/// Method: two people under one Patient ID; the page shows what amending would do, and makes it.
#[test]
fn two_people_under_one_id_become_one_on_the_page() {
    let server = start(Settings::default());
    let desk = Desk { server: &server };
    let all = images::images(2, 1);
    send_all(&server, &all);
    // Both studies say TEST-1.
    kura(
        &server,
        &[
            "amend",
            "--study",
            &all[0].study,
            "--name",
            "SOMEBODY^ELSE",
            "--merge-patients",
            "--reason",
            "test",
            "--now",
            "--yes",
        ],
    );
    let shown = server.kura_json(&["conflicts", "show"]);
    let Some(id) = shown["patients"][0]["id"].as_str() else {
        panic!("{shown}");
    };
    let own = format!("/conflicts/one/{id}");
    assert!(desk.page(&own).contains("SOMEBODY^ELSE"));
    let fields = [("study", all[1].study.as_str()), ("reason", "one person")];
    let plan = desk.send(&format!("{own}/prefer"), &fields);
    assert_eq!(plan.status, 200, "{}", plan.text);
    let ask = plan
        .text
        .split_once("name=\"ask\" value=\"")
        .expect("an ask")
        .1;
    let ask = ask
        .split_once('"')
        .expect("its end")
        .0
        .replace("&quot;", "\"");
    assert!(ask.contains(&all[0].study), "{ask}");
    assert_eq!(
        server.kura_json(&["conflicts", "show"])["patients_count"],
        1
    );
    // The modality may be sending still, as far as the server knows.
    desk.does("/conflicts/amend", &[("ask", &ask), ("now", "yes")]);
    let over = desk.wait_until_over("/conflicts/amending/now");
    assert!(over.contains("Done: 1 images."), "{over}");
    assert_eq!(
        server.kura_json(&["conflicts", "show"])["patients_count"],
        0
    );
}
