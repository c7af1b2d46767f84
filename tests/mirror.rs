//! Second copies: made in their hour, of everything, once, and the same byte for byte.

mod common;

use std::time::{Duration, Instant};

use common::copies::{
    assert_same_images, image_paths, kura, status, wait_until_mirrored, with_mirror,
};
use common::images::{self, ALL, Image, assert_come_back, send_all};
use common::{Server, Settings};

/// No hour of the day.
const NEVER: &str = "window = \"03:00-03:01\"";

#[test]
fn every_instance_gets_the_same_copy_at_the_same_path() {
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    let images = images::images(3, 30);
    send_all(&server, &images);
    // A conflict: another data set under a UID that is taken.
    let mut other = Image::new(0, 0, 2_000);
    other.sop.clone_from(&images[0].sop);
    let mut client = server.associate(ALL);
    assert_eq!(other.send(&mut client).expect("C-STORE").0, 0);
    client.release().expect("release");
    let done = wait_until_mirrored(&server);
    assert_eq!(done["done_count"], 91, "{done}");
    assert_eq!(done["jobs"].as_array().map(Vec::len), Some(1), "{done}");
    assert_same_images(&server.volume("A"), &server.volume("M"));
    assert!(images::incoming(&server.volume("M")).is_empty());
    // Known again from the ledgers, also from those of one side alone.
    for gone in ["M", "A"] {
        assert!(server.terminate().success());
        std::fs::remove_dir_all(server.state()).expect("no state");
        let away = server.folder().join("away");
        std::fs::rename(server.volume(gone), &away).expect("unplugged");
        std::fs::create_dir(server.volume(gone)).expect("mount point");
        server.restart();
        server.wait_until_indexed();
        assert_come_back(&server, &images);
        assert!(server.terminate().success());
        std::fs::remove_dir_all(server.volume(gone)).expect("mount point");
        std::fs::rename(&away, server.volume(gone)).expect("plugged in");
        server.restart();
        server.wait_until_indexed();
    }
    assert_eq!(status(&server)["done_count"], 91);
}

#[test]
fn outside_its_hour_nothing_is_copied_but_by_hand() {
    let server = Server::with(with_mirror(NEVER));
    server.wait_until_indexed();
    send_all(&server, &images::images(2, 10));
    std::thread::sleep(Duration::from_secs(3));
    assert!(image_paths(&server.volume("M")).is_empty());
    let waiting = status(&server);
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    assert_eq!(waiting["todo_count"], 20, "{waiting}");
    let screen = kura(&server, &["mirror", "status"]);
    let opens = waiting["window_opens"].as_str().expect("an hour");
    assert_eq!(
        screen.replace(opens, "YYYY-MM-DD HH:MM"),
        "state   waiting\n\
         when    nightly 03:00-03:01, opens YYYY-MM-DD HH:MM\n\
         left    20 instances, 26.56 kB; 0 have their second copy\n\
         DATE      MODALITY  TO DO  DONE  FAILED  LEFT\n\
         20260115  CT        20     0     0       26.56 kB\n"
    );
    // Not this one.
    kura(&server, &["mirror", "run", "--modality", "MR"]);
    assert!(image_paths(&server.volume("M")).is_empty());
    kura(&server, &["mirror", "pause"]);
    let refused = server.kura(&["mirror", "run"]);
    assert_eq!(refused.code, Some(3), "{}", refused.text());
    assert!(refused.text().contains("kura mirror resume"));
    kura(&server, &["mirror", "resume"]);
    let date = waiting["jobs"][0]["date"]
        .as_str()
        .expect("date")
        .to_owned();
    kura(
        &server,
        &["mirror", "run", "--date", &date, "--modality", "ct"],
    );
    assert_same_images(&server.volume("A"), &server.volume("M"));
    let done = status(&server);
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(done["last_run"]["copied_count"], 20, "{done}");
}

#[test]
fn copying_by_hand_needs_no_server() {
    let mut server = Server::with(with_mirror(NEVER));
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 10));
    assert!(server.terminate().success());
    kura(&server, &["mirror", "run"]);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

#[test]
fn the_switch_that_stops_all_copying_outlives_a_restart() {
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    kura(&server, &["mirror", "pause"]);
    send_all(&server, &images::images(1, 5));
    std::thread::sleep(Duration::from_secs(2));
    assert!(server.terminate().success());
    server.restart();
    server.wait_until_indexed();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(status(&server)["state"], "paused");
    assert!(image_paths(&server.volume("M")).is_empty());
    kura(&server, &["mirror", "resume"]);
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}

/// Method: killed again and again while it copies; the ledger of the mirror has each instance once at the end.
#[test]
fn mirroring_goes_on_after_kill_9_and_copies_nothing_twice() {
    let rounds = if common::long() { 30 } else { 4 };
    let mut random = common::Random::from_environment("mirror and kill -9");
    let mut server = Server::with(with_mirror("when = \"immediate\""));
    server.wait_until_indexed();
    kura(&server, &["mirror", "pause"]);
    let images: Vec<Image> = (0..6)
        .flat_map(|study| (0..150).map(move |number| Image::new(study, number, 30_000)))
        .collect();
    send_all(&server, &images);
    kura(&server, &["mirror", "resume"]);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.between(50, 900)));
        server.kill();
        server.restart();
        server.wait_until_indexed();
    }
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
    assert!(server.terminate().success());
    let mut lines = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(server.volume("M").join("ledgers")).expect("ledgers") {
        let folder = entry.expect("entry").path();
        let label = std::fs::read_to_string(server.volume("M").join("kura-volume.json"));
        let own = folder
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        if !folder.is_dir() || !label.expect("label").contains(&own) {
            continue;
        }
        for segment in std::fs::read_dir(folder).expect("segments") {
            let text = std::fs::read(segment.expect("entry").path()).expect("read");
            for line in String::from_utf8_lossy(&text).lines() {
                if let Some((_, rest)) = line.split_once("\"stored\":\"") {
                    let sop = rest.split('"').next().expect("uid").to_owned();
                    *lines.entry(sop).or_insert(0) += 1;
                }
            }
        }
    }
    assert_eq!(lines.len(), images.len());
    assert!(lines.values().all(|count| *count == 1), "copied twice");
}

#[test]
fn a_rule_says_when_by_sender_modality_and_patient() {
    let rule = format!(
        "when = \"immediate\"\n{NEVER}\n[[mirror.rule]]\nmodality = \"CT\"\ncalling_ae_title = \"nobody\"\nwhen = \"after-study\"\n[[mirror.rule]]\nmodality = \"CT\"\nwhen = \"nightly\""
    );
    let server = Server::with(with_mirror(&rule));
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 5));
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        image_paths(&server.volume("M")).is_empty(),
        "CT waits for the night"
    );
}

#[test]
fn study_dates_outside_the_period_of_their_modality_are_left_out_and_it_is_said() {
    let period = "[[mirror.period]]\nmodality = \"CT\"\nto = \"20251231\"";
    let server = Server::with(with_mirror(&format!("when = \"immediate\"\n{period}")));
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 5));
    let done = wait_until_mirrored(&server);
    assert_eq!(done["left_out_count"], 5, "{done}");
    std::thread::sleep(Duration::from_secs(2));
    assert!(image_paths(&server.volume("M")).is_empty());
    let screen = kura(&server, &["mirror", "status"]);
    assert!(screen.contains("outside 5 instances are outside the study dates"));
}

#[test]
fn after_study_means_when_the_study_was_quiet() {
    let server = Server::with(with_mirror(
        "when = \"after-study\"\nwindow = \"03:00-03:01\"",
    ));
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 5));
    std::thread::sleep(Duration::from_secs(3));
    assert!(image_paths(&server.volume("M")).is_empty(), "ten minutes");
    let soon = Server::with(with_mirror("when = \"after-study\"\nquiet_minutes = 0"));
    soon.wait_until_indexed();
    send_all(&soon, &images::images(1, 5));
    wait_until_mirrored(&soon);
    assert_same_images(&soon.volume("A"), &soon.volume("M"));
}

/// Method: the whole screen, with what belongs to the machine masked.
#[test]
fn status_says_how_many_good_copies_there_are() {
    let server = Server::with(with_mirror(NEVER));
    server.wait_until_indexed();
    send_all(&server, &images::images(2, 10));
    kura(&server, &["mirror", "run"]);
    kura(&server, &["scrub", "run"]);
    send_all(&server, &images::images(3, 10)[20..]);
    let screen = kura(&server, &["status"]);
    let mut lines: Vec<String> = screen.lines().map(str::to_owned).collect();
    for line in &mut lines {
        for word in line.clone().split_whitespace() {
            let is_time = word.len() > 20 && word.ends_with('Z');
            if is_time {
                *line = line.replace(word, "TIME");
            }
        }
    }
    assert_eq!(
        lines[..3],
        [
            "state   ok: 30 instances in 3 studies, 39.84 kB",
            "copies  20 have two good copies, 10 one; the oldest of these came TIME",
            "mirror  last copied TIME",
        ]
    );
    assert!(lines[3].starts_with("scrub   20"), "{screen}");
    assert!(
        lines[3].contains(" UTC, 0 bad; longest unread 0 days"),
        "{screen}"
    );
    // Without the mirror's disk the same instances have one.
    kura(&server, &["volume", "eject", "M"]);
    let copies = &server.kura_json(&["status"])["copies"];
    assert_eq!(
        (&copies["two_count"], &copies["one_count"]),
        (&0.into(), &30.into())
    );
}

#[test]
fn without_a_mirror_volume_it_says_so() {
    let server = Server::with(Settings::default());
    server.wait_until_indexed();
    send_all(&server, &images::images(1, 5));
    let off = server.kura(&["mirror", "status"]);
    assert_eq!(off.code, Some(1), "{}", off.text());
    assert!(
        off.text()
            .contains("kura volume add NAME PATH --role mirror")
    );
    assert!(off.text().contains("0 have their second copy"));
    // Added while the server runs, it is filled.
    let at = server.folder().join("m");
    std::fs::create_dir(&at).expect("folder");
    let at_text = at.display().to_string();
    kura(
        &server,
        &["volume", "add", "M", &at_text, "--role", "mirror"],
    );
    kura(&server, &["mirror", "run"]);
    let start = Instant::now();
    while image_paths(&at).len() < 5 {
        assert!(start.elapsed() < Duration::from_secs(90));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_same_images(&server.volume("A"), &at);
}

#[test]
fn before_ack_the_answer_waits_for_the_second_copy() {
    let mut server = Server::with(with_mirror("when = \"before-ack\""));
    server.wait_until_indexed();
    let images = images::images(2, 10);
    let mut client = server.associate(ALL);
    let large = Image::new(5, 0, 20 << 20);
    for image in images.iter().chain([&large]) {
        assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
        let name = format!("{}.dcm", image.sop);
        let on = |volume: &str| {
            let paths = image_paths(&server.volume(volume));
            paths.iter().filter(|path| path.ends_with(&name)).count()
        };
        assert_eq!((on("A"), on("M")), (1, 1), "{name}");
    }
    assert_same_images(&server.volume("A"), &server.volume("M"));
    // Without its mirror it says so, and the sender comes again.
    let away = server.folder().join("away");
    kura(&server, &["volume", "eject", "M"]);
    std::fs::rename(server.volume("M"), &away).expect("unplugged");
    let late = Image::new(6, 0, 1_000);
    let (status, comment) = late.send(&mut client).expect("C-STORE");
    assert_eq!(status, 0xA700, "{comment:?}");
    // What has its second copy there already is a success.
    assert_eq!(images[0].send(&mut client).expect("C-STORE").0, 0);
    std::fs::rename(&away, server.volume("M")).expect("plugged in");
    let start = Instant::now();
    while late.send(&mut client).expect("C-STORE").0 != 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "still refused");
        std::thread::sleep(Duration::from_millis(200));
        drop(server.kura(&["volume", "return", "M"]));
    }
    assert_same_images(&server.volume("A"), &server.volume("M"));
    client.release().expect("release");
    assert!(server.terminate().success());
}

#[test]
fn before_ack_degraded_answers_with_one_copy_and_makes_the_second_later() {
    let server = Server::with(with_mirror("when = \"before-ack\"\ndegrade = true"));
    server.wait_until_indexed();
    kura(&server, &["volume", "eject", "M"]);
    send_all(&server, &images::images(1, 5));
    assert!(image_paths(&server.volume("M")).is_empty());
    kura(&server, &["volume", "return", "M"]);
    wait_until_mirrored(&server);
    assert_same_images(&server.volume("A"), &server.volume("M"));
}
