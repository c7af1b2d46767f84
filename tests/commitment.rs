//! Storage commitment: "committed" is said of what is here and was read again, to whoever asked, sooner or later.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::commitment::{
    Desk, LIMIT, PUSH, PUSH_INSTANCE, ask, ct, information, report_on, request, send_request,
};
use common::copies::{image_paths, with_mirror};
use common::damage::{DAMAGES, path_of};
use common::images::{self, Image, STORE, send_all};
use common::server::free_port;
use common::wire::IMPLICIT_LITTLE;
use common::{Client, Server, Settings};

const COMMIT: u8 = 9;

/// For storing, and for asking.
const CONTEXTS: &[(u8, &str, &[&str])] = &[
    (STORE, common::build::CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
    (COMMIT, PUSH, &[IMPLICIT_LITTLE]),
];

fn uids(images: &[Image]) -> Vec<(String, String)> {
    images.iter().map(|image| ct(&image.sop)).collect()
}

fn sops(images: &[Image]) -> Vec<String> {
    let mut sops: Vec<String> = images.iter().map(|image| image.sop.clone()).collect();
    sops.sort();
    sops
}

fn modality(server: &Server) -> Client {
    server.associate(CONTEXTS)
}

fn with_images(settings: Settings, images: &[Image]) -> Server {
    let server = Server::with(settings);
    server.wait_until_indexed();
    send_all(&server, images);
    server
}

fn waiting(server: &Server) -> u64 {
    let status = server.kura_json(&["status"]);
    status["commitment"]["waiting_count"].as_u64().unwrap_or(0)
}

fn wait_until_answered(server: &Server) {
    let begun = Instant::now();
    while waiting(server) > 0 {
        assert!(begun.elapsed() < LIMIT, "{}", server.log_text());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Method: the association stays open, with and without role selection; the report comes on it, and the association goes
/// on serving.
#[test]
fn what_is_here_is_committed_on_the_association_that_asked() {
    let images = images::images(1, 20);
    let server = with_images(Settings::default(), &images);
    for roles in [&[][..], &[(PUSH, true, false)], &[(PUSH, true, true)]] {
        let transaction = format!("2.25.1{}", roles.len());
        let mut client = Client::associate_with(
            server.address(),
            "TESTER",
            server.ae_title(),
            CONTEXTS,
            16_384,
            roles,
        )
        .expect("association");
        ask(&mut client, COMMIT, &transaction, &uids(&images));
        let report = report_on(&mut client);
        assert_eq!(report.event, 1, "{report:?}");
        assert_eq!(report.transaction, transaction);
        assert_eq!(report.retrieve_from, "KURA");
        assert_eq!(report.committed, sops(&images));
        assert_eq!(report.failed, []);
        let (status, _) = images[0].send(&mut client).expect("C-STORE");
        assert_eq!(status, 0);
        client.release().expect("release");
    }
    wait_until_answered(&server);
    let left = fs::read_dir(server.state().join("commitment")).expect("folder");
    assert_eq!(left.count(), 0, "requests that were answered are kept");
}

/// Method: one that never came, one under another class, one that was removed, one whose only file is damaged.
#[test]
fn what_is_not_true_is_reported_with_its_reason() {
    let images: Vec<Image> = (0..6).map(|n| Image::new(n, 1, 20_000)).collect();
    let server = with_images(Settings::default(), &images);
    let removed = server.kura(&[
        "remove",
        "--study",
        &images[2].study,
        "--yes",
        "--reason",
        "test",
    ]);
    assert!(removed.success(), "{}", removed.text());
    DAMAGES[0].1(&path_of(&server.volume("A"), &images[3]));
    DAMAGES[5].1(&path_of(&server.volume("A"), &images[4]));
    let mut named = uids(&images);
    named[1].0 = "1.2.840.10008.5.1.4.1.1.4".to_owned();
    named.push(ct("2.25.404"));
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.2", &named);
    let report = report_on(&mut client);
    assert_eq!(report.event, 2);
    let mut failed = vec![
        (images[1].sop.clone(), 0x0119),
        (images[2].sop.clone(), 0x0112),
        (images[3].sop.clone(), 0x0110),
        (images[4].sop.clone(), 0x0110),
        ("2.25.404".to_owned(), 0x0112),
    ];
    failed.sort();
    assert_eq!(report.failed, failed);
    let mut committed = vec![images[0].sop.clone(), images[5].sop.clone()];
    committed.sort();
    assert_eq!(report.committed, committed);
}

/// Method: the file on the archive volume is damaged after it was mirrored.
#[test]
fn the_other_copy_stands_in_for_a_damaged_one() {
    let images = [Image::new(1, 1, 20_000)];
    let server = with_images(with_mirror("when = \"immediate\""), &images);
    common::copies::wait_until_mirrored(&server);
    DAMAGES[0].1(&path_of(&server.volume("A"), &images[0]));
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.3", &uids(&images));
    assert_eq!(report_on(&mut client).failed, []);
}

/// Method: the mirror's hour never comes; the other study has no second copy afterwards.
#[test]
fn two_copies_are_made_at_once_and_waited_for() {
    let images = images::images(2, 10);
    let (named, others) = images.split_at(10);
    let mut settings = with_mirror("window = \"03:00-03:01\"");
    settings.extra.push_str("[commitment]\ncopies = 2\n");
    let server = with_images(settings, &images);
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.4", &uids(named));
    let report = report_on(&mut client);
    assert_eq!(report.failed, []);
    assert_eq!(report.committed, sops(named));
    let mirrored = image_paths(&server.volume("M"));
    assert_eq!(mirrored.len(), named.len(), "{mirrored:?}");
    assert!(mirrored.iter().all(|path| !path.contains(&others[0].sop)));
}

/// Method: the default is one copy; the mirror's hour never comes.
#[test]
fn what_was_committed_gets_its_second_copy_at_once() {
    let images = images::images(1, 10);
    let server = with_images(with_mirror("window = \"03:00-03:01\""), &images);
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.5", &uids(&images));
    assert_eq!(report_on(&mut client).failed, []);
    let begun = Instant::now();
    while image_paths(&server.volume("M")).len() < images.len() {
        assert!(begun.elapsed() < LIMIT, "no second copies");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Method: no mirror volume, and nothing is waited for.
#[test]
fn without_a_second_copy_two_copies_are_not_committed() {
    let images = images::images(1, 3);
    let server = with_images(
        Settings {
            extra: "[commitment]\ncopies = 2\nwait_minutes = 0\n".to_owned(),
            ..Settings::default()
        },
        &images,
    );
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.6", &uids(&images));
    let report = report_on(&mut client);
    assert_eq!((report.event, report.committed.len()), (2, 0), "{report:?}");
    assert!(report.failed.iter().all(|(_, reason)| *reason == 0x0110));
    assert_eq!(report.failed.len(), 3);
}

/// Method: the requestor releases at once; it listens as a peer that answers role selection, and as one that does not
/// know of it.
#[test]
fn a_requestor_that_left_is_told_over_another_association() {
    let images = images::images(1, 5);
    for roles in [true, false] {
        let port = free_port();
        let server = with_images(Settings::default().peer("TESTER", port), &images);
        let desk = Desk::start(port, roles);
        let mut client = modality(&server);
        ask(&mut client, COMMIT, "2.25.7", &uids(&images));
        client.release().expect("release");
        let reports = desk.wait_for(1);
        assert_eq!(reports[0].committed, sops(&images), "{reports:?}");
        assert_eq!(reports[0].calling, "KURA");
        assert!(reports[0].as_scp, "no role was proposed");
        wait_until_answered(&server);
        assert_eq!(desk.wait_for(1).len(), 1, "told twice");
    }
}

/// Method: as before, where the configuration does not say where the requestor is.
#[test]
fn a_requestor_whose_address_changes_is_told_where_it_called_from() {
    let images = images::images(1, 3);
    let port = free_port();
    let settings = Settings {
        extra: format!("[[peer]]\nae_title = \"TESTER\"\nhost = \"caller\"\nport = {port}\n"),
        ..Settings::default()
    };
    let server = with_images(settings, &images);
    let desk = Desk::start(port, true);
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.71", &uids(&images));
    client.release().expect("release");
    assert_eq!(desk.wait_for(1)[0].committed, sops(&images));
    wait_until_answered(&server);
}

/// Method: the only copy is on a volume that is taken out, and nothing is waited for; then it is put back.
#[test]
fn what_is_on_a_disk_that_is_away_is_not_committed_until_it_is_back() {
    let images = images::images(1, 3);
    let mut settings = Settings::default().volume("B", "volume-b", "archive");
    settings.extra = "[commitment]\nwait_minutes = 0\n".to_owned();
    let server = with_images(settings, &images);
    assert_eq!(image_paths(&server.volume("A")).len(), 3);
    let does = |arguments: &[&str]| {
        let outcome = server.kura(arguments);
        assert!(outcome.success(), "{}", outcome.text());
    };
    does(&["volume", "eject", "A"]);
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.81", &uids(&images));
    let report = report_on(&mut client);
    assert_eq!((report.event, report.committed.len()), (2, 0), "{report:?}");
    let reasons: Vec<u16> = report.failed.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [0x0110; 3], "it may be back: {report:?}");
    does(&["volume", "return", "A"]);
    ask(&mut client, COMMIT, "2.25.82", &uids(&images));
    assert_eq!(report_on(&mut client).committed, sops(&images));
}

/// Method: asked right behind the images, over the association that brought them, while their files do not exist yet.
#[test]
fn what_is_still_in_an_intake_journal_is_committed() {
    let settings = Settings {
        extra: "[intake]\nmode = \"journal\"\nsize_bytes = 33554432\n".to_owned(),
        ..Settings::default()
    };
    let server = Server::with(settings);
    server.wait_until_indexed();
    let (mut sent, mut in_journal) = (0, 0);
    for round in 0..20 {
        let images: Vec<Image> = (0..5).map(|n| Image::new(round, n, 20_000)).collect();
        let mut client = modality(&server);
        for image in &images {
            assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
        }
        sent += images.len();
        in_journal += sent.saturating_sub(image_paths(&server.volume("A")).len());
        ask(
            &mut client,
            COMMIT,
            &format!("2.25.9{round}"),
            &uids(&images),
        );
        let report = report_on(&mut client);
        assert_eq!(report.committed, sops(&images), "{report:?}");
        client.release().expect("release");
    }
    assert!(
        in_journal > 0,
        "all had their files before they were asked for"
    );
}

/// Method: nobody listens when it asks, and the server is killed before the report and started again; then somebody does.
/// The first answer is that the report is not wanted.
#[test]
fn a_request_that_was_taken_is_answered_after_a_crash_and_until_the_requestor_takes_it() {
    let images = images::images(1, 5);
    let port = free_port();
    let mut server = with_images(Settings::default().peer("TESTER", port), &images);
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.8", &uids(&images));
    server.kill();
    drop(client);
    server.restart();
    assert_eq!(waiting(&server), 1);
    let status = server.kura(&["status"]);
    assert!(
        status.stdout.contains("\ncommit  1 request"),
        "{}",
        status.text()
    );
    let desk = Desk::start(port, true);
    desk.answer(0x0110);
    desk.wait_for(1);
    desk.answer(0);
    let reports = desk.wait_for(2);
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[1].committed, sops(&images));
    wait_until_answered(&server);
    // What was told is told once, also after a start.
    server.kill();
    server.restart();
    assert_eq!(waiting(&server), 0);
    assert_eq!(desk.wait_for(2).len(), 2);
}

/// Method: its title is no peer's; the screen says what to do.
#[test]
fn who_cannot_be_called_is_named() {
    let images = images::images(1, 1);
    let server = with_images(Settings::default(), &images);
    let mut client = modality(&server);
    ask(&mut client, COMMIT, "2.25.9", &uids(&images));
    client.release().expect("release");
    let begun = Instant::now();
    loop {
        let status = server.kura(&["status"]);
        if status.stdout.contains("TESTER is not a [[peer]]") {
            assert_eq!(status.code, Some(1), "{}", status.text());
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{}", status.text());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Method: a request for each image, all over one association that is released at the end; with a desk, all are told.
#[test]
fn a_request_for_every_image_is_answered_for_every_image() {
    let images = images::images(1, 1_000);
    let port = free_port();
    let server = with_images(Settings::default().peer("TESTER", port), &images);
    let desk = Desk::start(port, true);
    let mut client = modality(&server);
    for (number, image) in images.iter().enumerate() {
        let transaction = format!("2.25.10.{number}");
        ask(&mut client, COMMIT, &transaction, &[ct(&image.sop)]);
    }
    client.release().expect("release");
    let reports = desk.wait_for(images.len());
    let mut committed: Vec<String> = reports
        .iter()
        .flat_map(|one| one.committed.clone())
        .collect();
    committed.sort();
    assert_eq!(committed, sops(&images));
    assert!(desk.associations() < 100, "{}", desk.associations());
    wait_until_answered(&server);
}

/// Method: while one request waits, the same comes again, and another with its Transaction UID.
#[test]
fn a_request_made_again_is_the_same_request() {
    let images = images::images(1, 2);
    let server = with_images(Settings::default(), &images);
    let mut client = modality(&server);
    let same = information(Some("2.25.11"), Some(&uids(&images)));
    let other = information(Some("2.25.11"), Some(&uids(&images[1..])));
    let statuses: Vec<u16> = [&same, &same, &other]
        .into_iter()
        .map(|data| request(&mut client, COMMIT, PUSH_INSTANCE, 1, data).0)
        .collect();
    assert_eq!(statuses, [0, 0, 0x0131]);
    assert_eq!(report_on(&mut client).committed, sops(&images));
    wait_until_answered(&server);
    assert_eq!(request(&mut client, COMMIT, PUSH_INSTANCE, 1, &other).0, 0);
    assert_eq!(report_on(&mut client).committed.len(), 1);
}

/// What is wrong with the request, and the status of its answer. The association serves on after each.
#[test]
fn requests_that_cannot_be_are_refused_and_bounded() {
    let images = images::images(1, 1);
    let mut server = with_images(Settings::default(), &images);
    let good = uids(&images);
    let nobody = [(String::new(), images[0].sop.clone())];
    let many: Vec<(String, String)> = (0..1_000_000).map(|n| ct(&format!("2.25.{n}"))).collect();
    let cut = {
        let mut whole = information(Some("2.25.12"), Some(&good));
        whole.truncate(whole.len() - 5);
        whole
    };
    let fine = information(Some("2.25.12"), Some(&good));
    let cases: &[(&str, &str, u16, Vec<u8>, u16)] = &[
        ("action", PUSH_INSTANCE, 2, fine.clone(), 0x0123),
        ("instance", "1.2.3", 1, fine.clone(), 0x0112),
        (
            "no transaction",
            PUSH_INSTANCE,
            1,
            information(None, Some(&good)),
            0x0115,
        ),
        (
            "empty transaction",
            PUSH_INSTANCE,
            1,
            information(Some(""), Some(&good)),
            0x0115,
        ),
        (
            "no sequence",
            PUSH_INSTANCE,
            1,
            information(Some("2.25.12"), None),
            0x0115,
        ),
        (
            "empty sequence",
            PUSH_INSTANCE,
            1,
            information(Some("2.25.12"), Some(&[])),
            0x0115,
        ),
        (
            "no class",
            PUSH_INSTANCE,
            1,
            information(Some("2.25.12"), Some(&nobody)),
            0x0115,
        ),
        (
            "a million",
            PUSH_INSTANCE,
            1,
            information(Some("2.25.12"), Some(&many)),
            0x0115,
        ),
        ("cut", PUSH_INSTANCE, 1, cut, 0x0115),
        ("empty", PUSH_INSTANCE, 1, Vec::new(), 0x0115),
    ];
    let mut client = modality(&server);
    for (what, instance, action, data, expected) in cases {
        let (status, comment) = request(&mut client, COMMIT, instance, *action, data);
        assert_eq!(status, *expected, "{what}: {comment}");
        assert!(!comment.is_empty(), "{what}");
    }
    // On a context of another service.
    send_request(&mut client, STORE, PUSH_INSTANCE, 1, &fine).expect("sent");
    assert_eq!(client.receive().expect("answer").status(), 0x0122);
    assert_eq!(waiting(&server), 0);
    ask(&mut client, COMMIT, "2.25.12", &good);
    assert_eq!(report_on(&mut client).failed, []);
    server.assert_alive();
}
