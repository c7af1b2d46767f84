//! What the administrator's page says, asked for as a browser without scripts does.

mod common;

use std::time::Duration;

use common::build::{CT_IMAGE_STORAGE, Ct, Tag, put};
use common::elements::Syntax;
use common::images::{ALL, STORE, images, send_all};
use common::web::{self, Page};
use common::{Server, Settings, Sink};

const LIMIT: Duration = Duration::from_secs(90);
const JAPANESE: (&str, &str) = ("Accept-Language", "ja,en;q=0.5");

/// Stores an image whose texts are UTF-8.
fn store(server: &Server, ct: &Ct) {
    let syntax = Syntax::IMPLICIT_LITTLE;
    let mut data_set = Vec::new();
    let character_set = Tag(0x0008, 0x0005);
    put(&mut data_set, syntax, character_set, "CS", b"ISO_IR 192");
    data_set.extend(ct.encode());
    let mut client = server.associate(ALL);
    let stored = client.c_store(STORE, CT_IMAGE_STORAGE, ct.sop, &data_set);
    assert_eq!(stored.unwrap().0, 0);
    client.release().unwrap();
}

fn yamada<'a>() -> Ct<'a> {
    Ct {
        patient_id: "4711",
        patient_name: "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ..Ct::new("2.25.81", "2.25.81.1", "2.25.81.1.1")
    }
}

/// The address in the attribute `hx-get` of the part with that id.
fn asks_again(page: &Page, id: &str) -> String {
    let (_, part) = page.text.split_once(&format!("id=\"{id}\"")).unwrap();
    let (_, address) = part.split_once("hx-get=\"").unwrap();
    address.split_once('"').unwrap().0.replace("&amp;", "&")
}

const PAGES: &[&str] = &[
    "/",
    "/studies",
    "/volumes",
    "/peers",
    "/forwarding",
    "/jobs",
    "/journal",
    "/conflicts",
];

#[test]
fn what_a_modality_writes_is_text_on_every_page() {
    let server = web::with_page(Settings::default());
    let evil = Ct {
        patient_id: "'\"><img src=x>",
        patient_name: "<script>alert(1)</script>^\" onload=\"alert(2)=<b>名</b>",
        ..Ct::new("2.25.66", "2.25.66.1", "2.25.66.1.1")
    };
    store(&server, &evil);
    let study = ["/studies/2.25.66", "/studies/2.25.66/transfers"];
    let typed = "/studies?name=%22%3E%3Cscript%3Ealert(3)%3C/script%3E";
    for path in PAGES.iter().chain(&study).chain([&typed]) {
        for language in ["en", "ja"] {
            let page = web::get(&server, path, &[("Accept-Language", language)]);
            assert_eq!(page.status, 200, "{path}");
            for raw in ["<script>", "<img src=x", "<b>", "\" onload=\""] {
                assert!(!page.text.contains(raw), "{path}: {raw}\n{}", page.text);
            }
        }
    }
    let found = web::get(&server, "/studies?patient_id='", &[]);
    assert!(
        found.text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
        "{}",
        found.text
    );
}

/// What a strict policy of content would refuse: scripts and styles of its own, and anything of another site.
#[test]
fn a_page_has_no_script_or_style_inside_and_loads_nothing_from_elsewhere() {
    let server = web::with_page(Settings::default());
    store(&server, &yamada());
    for path in PAGES.iter().chain(&["/studies/2.25.81"]) {
        let page = web::get(&server, path, &[]);
        assert_eq!(page.status, 200, "{path}");
        for refused in [" style=", "<style", "<script>", " onclick=", " hx-on", "//"] {
            let text = page.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(refused), "{path}: {refused}\n{}", page.text);
        }
        assert_eq!(page.text.matches("<h1").count(), 1, "{path}");
    }
    for file in ["htmx.min.js", "kura.js", "kura.css", "kura.svg"] {
        let file = web::get(&server, &format!("/assets/{file}"), &[]);
        assert_eq!(file.status, 200);
        assert!(!file.text.is_empty());
    }
}

#[test]
fn a_patient_is_found_by_any_part_of_the_name_and_shown_as_the_reader_writes() {
    let server = web::with_page(Settings::default());
    store(&server, &yamada());
    send_all(&server, &images(1, 1));
    // 山田, やまだ たろう
    let kanji = "name=%E5%B1%B1%E7%94%B0";
    let kana = "name=%E3%82%84%E3%81%BE%E3%81%A0+%E3%81%9F%E3%82%8D%E3%81%86";
    for query in [
        kanji,
        kana,
        "name=tarou+yamada",
        "name=yam",
        "patient_id=47",
        "patient_id=4?11",
        "name=yamada&from=2026-01-15&to=2026-01-15&modality=ct&accession=ACC&description=THETIC",
    ] {
        let page = web::get(&server, &format!("/studies?{query}"), &[JAPANESE]);
        assert!(page.text.contains("<html lang=\"ja\">"), "{query}");
        let words = page.words();
        assert!(words.contains("山田 太郎 Yamada Tarou"), "{query}: {words}");
        assert!(
            words.contains("患者ID") && words.contains(" 1 件 "),
            "{query}: {words}"
        );
        // What htmx puts into the page is the same.
        let part = web::get(&server, &format!("/studies/found?{query}"), &[]);
        assert!(part.words().contains("Yamada Tarou 山田 太郎"), "{query}");
        let address = format!("/studies?{query}");
        assert_eq!(part.header("hx-replace-url"), Some(address.as_str()));
    }
    let none = web::get(&server, "/studies?name=suzuki", &[]);
    assert!(none.words().contains("No study fits."));
    let other_day = web::get(&server, "/studies?name=yamada&from=2026-01-16", &[]);
    assert!(other_day.words().contains("No study fits."));
    let wrong = web::get(&server, "/studies?from=soon", &[]);
    assert!(
        wrong.words().contains("soon is not a date"),
        "{}",
        wrong.words()
    );
}

#[test]
fn a_search_that_finds_too_much_says_so() {
    let server = web::with_page(Settings::default());
    send_all(&server, &images(101, 1));
    let page = web::get(&server, "/studies?modality=CT", &[]);
    assert!(
        page.words().contains("and there are more"),
        "{}",
        page.words()
    );
    assert_eq!(page.text.matches("href=\"/studies/2.25.9").count(), 100);
}

#[test]
fn the_overview_says_how_things_are_and_what_to_do() {
    let settings = Settings::default().volume("B", "volume-b", "mirror");
    let server = web::with_page(settings);
    send_all(&server, &images(2, 3));
    let page = web::wait_for(&server, "/", |page| {
        page.words().contains("6 images in 2 studies")
    });
    let words = page.words();
    assert!(words.contains("The last 24 hours 6 images came"), "{words}");
    assert!(page.text.contains("<svg") && page.text.contains("<meter"));
    let conflicts = words.contains("Conflicts 0 In quarantine 0");
    assert!(conflicts, "{words}");
    // A disk is unplugged.
    std::fs::rename(server.volume("B"), server.folder().join("elsewhere")).unwrap();
    let page = web::wait_for(&server, "/", |page| {
        page.words().contains("volume B is away (its disk ")
    });
    assert!(page.words().contains("degraded: A person is needed."));
    let page = web::get(&server, "/", &[JAPANESE]);
    let words = page.words();
    assert!(words.contains("要対応: 対応が必要です。"), "{words}");
    assert!(words.contains("ボリューム B が見つかりません("), "{words}");
    // On every other page too.
    let page = web::get(&server, "/journal", &[]);
    assert!(
        page.text.contains("class=\"state warning\""),
        "{}",
        page.text
    );
}

/// Method: each part is asked for with what the page says of it; with anything else it is given.
#[test]
fn parts_that_did_not_change_are_not_sent_again() {
    let server = web::with_page(Settings::default());
    web::wait_for(&server, "/", |page| page.words().contains("0 images in 0"));
    let page = web::get(&server, "/", &[]);
    for id in ["answer", "jobs", "traffic", "disks"] {
        let address = asks_again(&page, id);
        // Something may have moved just then.
        let same = web::wait_for(&server, &address, |part| part.status == 204);
        assert!(same.text.is_empty());
        let path = address.split('?').next().unwrap();
        let other = web::get(&server, &format!("{path}?was=x"), &[]);
        assert_eq!(other.status, 200, "{path}");
        assert!(other.text.contains(&format!("id=\"{id}\"")), "{path}");
    }
    assert_eq!(web::get(&server, "/state?was=ok", &[]).status, 204);
    let other = web::get(&server, "/state?was=lost", &[]);
    assert!(other.words().contains("ok"), "{}", other.text);
}

#[test]
fn a_study_says_where_its_copies_lie() {
    let mut settings = Settings::default().volume("B", "volume-b", "mirror");
    settings.extra = "[mirror]\nallow_same_device = true\nwhen = \"immediate\"\n".into();
    let server = web::with_page(settings);
    store(&server, &yamada());
    let copied = server.kura(&["mirror", "run"]);
    assert!(
        copied.code.is_some_and(|code| code < 2),
        "{}",
        copied.text()
    );
    let page = web::wait_for(&server, "/studies/2.25.81", |page| {
        page.words().contains("volume-b/20260115/CT")
    });
    let words = page.words();
    assert!(words.contains("volume-a/20260115/CT"), "{words}");
    assert!(words.contains("1 images in 1 series"), "{words}");
    assert!(words.contains("Series 1, CT 1 two "), "{words}");
    assert!(words.contains("kura amend --study 2.25.81"), "{words}");
    assert!(page.text.contains("src=\"/thumbnails/2.25.81.1\""));
    // Everything is read again now.
    let read = server.kura(&["scrub", "run"]);
    assert!(read.code.is_some_and(|code| code < 2), "{}", read.text());
    let page = web::wait_for(&server, "/studies/2.25.81", |page| {
        !page.words().contains("not in a round yet")
    });
    assert!(page.text.contains("<time"), "{}", page.text);
    let lines = web::wait_for(&server, "/studies/2.25.81/transfers", |page| {
        page.words().contains("stored")
    });
    assert!(lines.words().contains("127.0.0.1"), "{}", lines.words());
}

#[test]
fn what_is_no_uid_or_not_here_is_said_in_words() {
    let server = web::with_page(Settings::default());
    for path in [
        "/studies/1.2.3",
        "/studies/..%2F..%2Fetc%2Fpasswd",
        "/studies/1.2.3%00",
        "/studies/%3Cscript%3E",
    ] {
        let page = web::get(&server, path, &[]);
        assert_eq!(page.status, 404, "{path}");
        assert!(!page.text.contains("<script>") && !page.text.contains("root:"));
    }
}

#[test]
fn a_study_is_sent_and_that_is_said_once() {
    let sink = Sink::start();
    let server = web::with_page(Settings::default().peer("VIEWER", sink.port()));
    store(&server, &yamada());
    let page = web::get(&server, "/studies/2.25.81", &[]);
    assert!(
        page.text.contains("<option value=\"VIEWER\""),
        "{}",
        page.text
    );
    let sent = web::post(&server, "/studies/2.25.81/send", &[], "peer=VIEWER");
    assert_eq!(sent.status, 303, "{}", sent.text);
    assert_eq!(sent.header("location"), Some("/studies/2.25.81"));
    let cookie = sent.cookie("kura-said").expect("a cookie");
    let told = web::get(&server, "/studies/2.25.81", &[("Cookie", &cookie)]);
    let said = "One study (1 instances) will be sent to VIEWER";
    assert!(told.words().contains(said), "{}", told.words());
    let again = web::get(&server, "/studies/2.25.81", &[("Cookie", &cookie)]);
    assert!(!again.words().contains(said));
    sink.wait_for(1, LIMIT);
    let refused = web::post(&server, "/studies/2.25.81/send", &[], "peer=NOBODY");
    let cookie = refused.cookie("kura-said").expect("a cookie");
    let told = web::get(&server, "/studies/2.25.81", &[("Cookie", &cookie)]);
    assert!(told.words().contains("NOBODY"), "{}", told.words());
    web::wait_for(&server, "/studies/2.25.81", |page| {
        page.words().contains("VIEWER sent 1 of 1")
    });
}

#[test]
fn the_language_is_chosen_by_hand_and_leads_to_no_other_site() {
    let server = web::with_page(Settings::default());
    let chosen = web::post(&server, "/language", &[], "language=ja&back=%2Fvolumes");
    assert_eq!(chosen.status, 303);
    assert_eq!(chosen.header("location"), Some("/volumes"));
    let cookie = chosen.cookie("kura-language").expect("a cookie");
    let page = web::get(
        &server,
        "/volumes",
        &[("Cookie", &cookie), ("Accept-Language", "en")],
    );
    assert!(page.text.contains("<html lang=\"ja\">"));
    for elsewhere in [
        "%2F%2Fevil.example",
        "https%3A%2F%2Fevil.example",
        "%2F%5Cevil",
    ] {
        let fields = format!("language=en&back={elsewhere}");
        let chosen = web::post(&server, "/language", &[], &fields);
        assert_eq!(chosen.header("location"), Some("/"), "{elsewhere}");
    }
    let odd = web::post(&server, "/language", &[], "language=xx&back=%2F");
    assert_eq!(odd.status, 400);
}
