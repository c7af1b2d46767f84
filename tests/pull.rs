//! `kura pull`: an archive moves here, study by study, whatever breaks on the way.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::build::{Ct, Tag, put};
use common::elements::Syntax;
use common::images::{Image, assert_come_back, assert_found, send_all};
use common::receivers::{self, Program};
use common::server::{free_port, put_file};
use common::{Server, Settings, tools};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(90);

/// `count` studies on days that follow each other, each of two series with `per_series` images.
fn studies(count: u32, per_series: u32) -> Vec<Image> {
    let mut images = Vec::new();
    for number in 0..count {
        let study = format!("2.25.31{number:04}");
        let date = format!(
            "{}{:02}{:02}",
            2020 + number / 336,
            number / 28 % 12 + 1,
            number % 28 + 1
        );
        let patient = format!("PULL-{}", number / 2);
        for series in 1..=2 {
            for image in 1..=per_series {
                let sop = format!("{study}.{series}.{image}");
                let series = format!("{study}.{series}");
                let data_set = Ct {
                    number: image,
                    patient_id: &patient,
                    study_date: &date,
                    ..Ct::new(&study, &series, &sop)
                }
                .encode();
                images.push(Image {
                    study: study.clone(),
                    sop,
                    data_set,
                });
            }
        }
    }
    images
}

fn of(images: &[Image], numbers: std::ops::Range<u32>) -> Vec<Image> {
    let wanted: Vec<String> = numbers.map(|n| format!("2.25.31{n:04}")).collect();
    let is = |image: &&Image| wanted.contains(&image.study);
    images.iter().filter(is).cloned().collect()
}

/// Two servers that know each other: where the images are, and where they are to go.
fn pair(source: Settings, here: Settings) -> (Server, Server) {
    let (their_port, our_port) = (source.port, here.port);
    let source = Settings {
        ae_title: "SOURCE".to_owned(),
        ..source
    };
    (
        Server::with(source.peer("KURA", our_port)),
        Server::with(here.peer("SOURCE", their_port)),
    )
}

fn count(status: &Value, member: &str) -> u64 {
    status[member]
        .as_u64()
        .unwrap_or_else(|| panic!("{member}: {status}"))
}

/// Until the pull under way is over.
fn wait(server: &Server) -> Value {
    let since = Instant::now();
    loop {
        let status = server.kura_json(&["pull", "status"]);
        if status["running"] == false {
            return status;
        }
        assert!(since.elapsed() < LIMIT, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_patient_a_study_and_a_range_of_dates_come_as_they_are() {
    let (source, here) = pair(Settings::default(), Settings::default());
    let images = studies(8, 2);
    send_all(&source, &images);
    for (keys, numbers, total) in [
        ("PatientID=PULL-0", 0..2, 2),
        ("StudyInstanceUID=2.25.310003", 3..4, 1),
        ("StudyDate=20200105-20200106", 4..6, 2),
    ] {
        let done = here.kura_json(&["pull", "--from", "SOURCE", keys]);
        assert_eq!(count(&done, "studies_complete"), total, "{keys}: {done}");
        assert_eq!(count(&done, "studies_incomplete"), 0, "{keys}: {done}");
        assert_come_back(&here, &of(&images, numbers));
    }
    // The others did not come.
    let found = here.kura_json(&["find", "StudyInstanceUID"]);
    assert_eq!(found["matches"].as_array().unwrap().len(), 5, "{found}");
    let journal = here.kura_json(&["journal", "--direction", "pulled"]);
    let lines = journal["transfers"].as_array().unwrap();
    assert_eq!(lines.len(), 5, "{journal}");
    assert_eq!(lines[0]["peer"], "SOURCE");
    assert_eq!(count(&lines[0], "instances_count"), 4);
    let report = here.kura(&["report", "show"]);
    assert!(
        report
            .stdout
            .contains("All 2 studies that SOURCE has are here"),
        "{}",
        report.text()
    );
}

#[test]
fn what_is_here_already_is_not_sent_again() {
    let (source, here) = pair(Settings::default(), Settings::default());
    let images = studies(4, 2);
    send_all(&source, &images);
    // One study is whole here, of another one series.
    send_all(&here, &of(&images, 0..1));
    let half: Vec<Image> = of(&images, 1..2).into_iter().take(2).collect();
    send_all(&here, &half);
    let done = here.kura_json(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(count(&done, "studies_complete"), 4, "{done}");
    assert_eq!(count(&done, "studies_here_before"), 1, "{done}");
    assert_come_back(&here, &images);
    let journal = here.kura_json(&["journal", "--direction", "stored", "--peer", "SOURCE"]);
    let lines = journal["transfers"].as_array().unwrap();
    let came: u64 = lines
        .iter()
        .map(|line| count(line, "instances_count"))
        .sum();
    assert_eq!(came, 2 + 4 + 4, "{journal}");
    let again = here.kura_json(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(count(&again, "studies_here_before"), 4, "{again}");
    assert_eq!(count(&again, "bytes"), 0, "{again}");
}

#[test]
fn a_peer_that_does_not_know_us_is_told_apart_and_c_get_does_without() {
    let source = Server::with(Settings {
        ae_title: "SOURCE".to_owned(),
        ..Settings::default()
    });
    let here = Server::with(Settings::default().peer("SOURCE", source.port()));
    let images = studies(3, 2);
    send_all(&source, &images);
    let refused = here.kura(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(refused.code, Some(3), "{}", refused.text());
    for words in [
        "does not know the destination KURA",
        &format!("port {}", here.port()),
        "--get",
    ] {
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.text()
        );
    }
    let done = here.kura_json(&["pull", "--from", "SOURCE", "--all", "--get"]);
    assert_eq!(count(&done, "studies_complete"), 3, "{done}");
    assert_come_back(&here, &images);
}

#[test]
fn a_peer_that_is_not_there_is_said_at_once() {
    let port = free_port();
    let here = Server::with(Settings::default().peer("SOURCE", port));
    let refused = here.kura(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(refused.code, Some(3), "{}", refused.text());
    let words = format!("SOURCE cannot be reached: cannot connect to 127.0.0.1:{port}");
    assert!(refused.stderr.contains(&words), "{}", refused.text());
    let unknown = here.kura(&["pull", "--from", "NOBODY", "--all"]);
    assert!(
        unknown.stderr.contains("is not a configured peer"),
        "{}",
        unknown.text()
    );
}

/// Method: the files of two instances are gone on the source's only volume, so that it fails to send them.
#[test]
fn instances_that_the_peer_fails_to_send_are_named_and_come_later() {
    let (source, here) = pair(Settings::default(), Settings::default());
    let images = studies(3, 3);
    send_all(&source, &images);
    let lost = ["2.25.310001.1.2", "2.25.310001.2.3"];
    let files = common::files::below(&source.volume("A"));
    let hidden: Vec<_> = files
        .into_iter()
        .filter(|path| lost.iter().any(|sop| path.ends_with(format!("{sop}.dcm"))))
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            (path, bytes)
        })
        .collect();
    assert_eq!(hidden.len(), 2);
    let done = here.kura(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(done.code, Some(1), "{}", done.text());
    let report = here.kura_json(&["report", "show"]);
    assert_eq!(count(&report, "missing_count"), 2, "{report}");
    assert_eq!(count(&report, "complete_count"), 2, "{report}");
    let incomplete = report["incomplete"].as_array().unwrap();
    assert_eq!(incomplete.len(), 1, "{report}");
    assert_eq!(
        incomplete[0]["missing"],
        serde_json::json!(lost),
        "{report}"
    );
    let failed = here.kura_json(&["journal", "--direction", "pulled", "--failed"]);
    assert!(
        !failed["transfers"].as_array().unwrap().is_empty(),
        "{failed}"
    );
    // Sent again to the source, they are there; the pull goes on with what is missing.
    let again: Vec<Image> = images
        .iter()
        .filter(|image| lost.contains(&image.sop.as_str()))
        .cloned()
        .collect();
    for (path, bytes) in hidden {
        put_file(&path, &bytes);
    }
    send_all(&source, &again);
    let done = here.kura_json(&["pull", "--resume"]);
    assert_eq!(count(&done, "studies_complete"), 3, "{done}");
    assert_eq!(count(&done, "instances_missing"), 0, "{done}");
    assert_come_back(&here, &images);
}

/// Method: a server that is to answer five matches at most, so that each range of dates with more ends with A700H.
#[test]
fn an_archive_that_answers_few_studies_at_a_time_is_asked_by_dates() {
    let source = Settings {
        extra: "[query]\nmatches_max = 5".to_owned(),
        ..Settings::default()
    };
    let (source, here) = pair(source, Settings::default());
    let images = studies(40, 1);
    send_all(&source, &images);
    let done = here.kura_json(&["pull", "--from", "SOURCE", "StudyDate=20200101-"]);
    assert_eq!(count(&done, "studies_total"), 40, "{done}");
    assert_eq!(count(&done, "studies_complete"), 40, "{done}");
    assert_found(&here, &images);
    let done = here.kura_json(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(count(&done, "studies_here_before"), 40, "{done}");
    assert!(
        done["notes"][0]
            .as_str()
            .unwrap()
            .contains("without a Study Date"),
        "{done}"
    );
}

/// Method: kill -9, and SIGTERM, when some of the studies are there; the server that starts again goes on by itself.
#[test]
fn a_pull_goes_on_after_kill_9_and_after_a_stop() {
    let (source, mut here) = pair(Settings::default(), Settings::default());
    let images = studies(30, 2);
    send_all(&source, &images);
    let begun = here.kura_json(&["pull", "--from", "SOURCE", "--all", "--no-wait"]);
    assert_eq!(begun["running"], true, "{begun}");
    for (least, hard) in [(3, true), (8, false), (14, true)] {
        let since = Instant::now();
        while count(&here.kura_json(&["pull", "status"]), "studies_complete") < least {
            assert!(since.elapsed() < LIMIT);
            std::thread::sleep(Duration::from_millis(5));
        }
        match hard {
            true => here.kill(),
            false => drop(here.terminate()),
        }
        here.restart();
    }
    let done = wait(&here);
    assert_eq!(done["error"], Value::Null, "{done}");
    assert_eq!(count(&done, "studies_complete"), 30, "{done}");
    assert_eq!(count(&done, "studies_incomplete"), 0, "{done}");
    assert_come_back(&here, &images);
    assert_eq!(here.kura(&["pull", "--resume"]).code, Some(0));
}

/// Method: the source is killed when some of the studies are there, and comes back when the pull waits for it.
#[test]
fn a_peer_that_goes_away_in_the_middle_is_waited_for() {
    let (mut source, here) = pair(Settings::default(), Settings::default());
    let images = studies(20, 2);
    send_all(&source, &images);
    here.kura_json(&["pull", "--from", "SOURCE", "--all", "--no-wait"]);
    let until = |is: &dyn Fn(&Value) -> bool| {
        let since = Instant::now();
        loop {
            let status = here.kura_json(&["pull", "status"]);
            if is(&status) {
                return;
            }
            assert!(since.elapsed() < LIMIT, "{status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(&|status| count(status, "studies_complete") >= 3);
    source.kill();
    until(&|status| {
        status["step"]
            .as_str()
            .unwrap()
            .contains("cannot be reached")
    });
    source.restart();
    let done = wait(&here);
    assert_eq!(count(&done, "studies_complete"), 20, "{done}");
    assert_come_back(&here, &images);
}

#[test]
fn nothing_that_fits_is_an_answer() {
    let (_source, here) = pair(Settings::default(), Settings::default());
    let done = here.kura(&["pull", "--from", "SOURCE", "PatientID=NOBODY"]);
    assert!(done.success(), "{}", done.text());
    let report = here.kura(&["report", "show"]);
    assert!(
        report.stdout.contains("no study that fits"),
        "{}",
        report.text()
    );
    assert_eq!(here.kura(&["pull", "--from", "SOURCE"]).code, Some(2));
}

/// Method: the source sends to another port than ours, where somebody else takes it all.
#[test]
fn images_that_are_sent_elsewhere_are_said_to_be() {
    let sink = common::Sink::start();
    let source = Server::with(
        Settings {
            ae_title: "SOURCE".to_owned(),
            ..Settings::default()
        }
        .peer("KURA", sink.port()),
    );
    let here = Server::with(Settings::default().peer("SOURCE", source.port()));
    send_all(&source, &studies(1, 2));
    let done = here.kura(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(done.code, Some(1), "{}", done.text());
    let report = here.kura(&["report", "show"]);
    assert!(
        report
            .stdout
            .contains("none came here: it has another address"),
        "{}",
        report.text()
    );
}

/// Method: the pull waits between studies, is cancelled, and goes on by command; a restart alone leaves it.
#[test]
fn a_cancelled_pull_stays_ended_until_it_is_resumed() {
    let (source, mut here) = pair(Settings::default(), Settings::default());
    let images = studies(3, 1);
    send_all(&source, &images);
    let arguments = [
        "pull",
        "--from",
        "SOURCE",
        "--all",
        "--no-wait",
        "--pause-seconds",
        "600",
    ];
    here.kura_json(&arguments);
    let since = Instant::now();
    while count(&here.kura_json(&["pull", "status"]), "studies_complete") < 1 {
        assert!(since.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    here.kura_json(&["pull", "cancel"]);
    let ended = wait(&here);
    assert_eq!(count(&ended, "studies_complete"), 1, "{ended}");
    here.terminate();
    here.restart();
    let still = here.kura_json(&["pull", "status"]);
    assert_eq!(still["running"], false, "{still}");
    assert!(
        still["error"].as_str().unwrap().contains("cancelled"),
        "{still}"
    );
    let other = here.kura_json(&["pull", "--from", "SOURCE", "--all"]);
    assert_eq!(count(&other, "studies_complete"), 3, "{other}");
    assert_eq!(count(&other, "studies_here_before"), 1, "{other}");
}

/// Method: a window that opens in two hours of the server's local time; the server is started again with a clock two hours
/// ahead, by its time zone.
#[test]
fn outside_its_window_a_pull_waits_and_in_it_goes_on_by_itself() {
    let zone = |zone: &str| vec![("TZ".to_owned(), zone.to_owned())];
    let here = Settings {
        environment: zone("UTC0"),
        ..Settings::default()
    };
    let (source, mut here) = pair(Settings::default(), here);
    let images = studies(2, 1);
    send_all(&source, &images);
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let hour = seconds.unwrap().as_secs() / 3_600 % 24;
    let window = format!("{:02}:00-{:02}:00", (hour + 2) % 24, (hour + 4) % 24);
    let arguments = [
        "pull",
        "--from",
        "SOURCE",
        "--all",
        "--no-wait",
        "--window",
        &window,
    ];
    here.kura_json(&arguments);
    let since = Instant::now();
    loop {
        let status = here.kura_json(&["pull", "status"]);
        if status.to_string().contains("waits for") {
            break;
        }
        assert!(since.elapsed() < LIMIT, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let found = here.kura_json(&["find", "StudyInstanceUID"]);
    assert_eq!(found["matches"].as_array().unwrap().len(), 0, "{found}");
    here.terminate();
    here.configure(|settings| settings.environment = zone("AHEAD-2"));
    here.restart();
    let done = wait(&here);
    assert_eq!(count(&done, "studies_complete"), 2, "{done}");
    assert_come_back(&here, &images);
}

/// A file around a data set in Implicit VR Little Endian.
fn part10(image: &Image) -> Vec<u8> {
    let mut meta = Vec::new();
    for (element, uid) in [
        (0x0002, common::build::CT_IMAGE_STORAGE),
        (0x0003, &image.sop),
        (0x0010, common::wire::IMPLICIT_LITTLE),
    ] {
        let tag = Tag(0x0002, element);
        put(
            &mut meta,
            Syntax::EXPLICIT_LITTLE,
            tag,
            "UI",
            uid.as_bytes(),
        );
    }
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    let length = u32::try_from(meta.len()).unwrap().to_le_bytes();
    put(
        &mut file,
        Syntax::EXPLICIT_LITTLE,
        Tag(0x0002, 0),
        "UL",
        &length,
    );
    file.extend(meta);
    file.extend(&image.data_set);
    file
}

/// Through `kura send`, as the images lie in files.
fn send_files(here: &Server, images: &[Image], folder: &Path, to: &str) {
    for image in images {
        put_file(&folder.join(format!("{}.dcm", image.sop)), &part10(image));
    }
    let sent = here.kura(&["send", folder.to_str().unwrap(), "--to", to]);
    assert!(sent.success(), "{}", sent.text());
}

#[test]
fn dcmqrscp_gives_up_its_studies() {
    let Some(dcmqrscp) = tools::tool("dcmqrscp") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let here = Server::start();
    let port = free_port();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let config = format!(
        "NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n\
         HostTable BEGIN\nkura = (KURA, localhost, {})\nHostTable END\n\
         VendorTable BEGIN\nVendorTable END\n\
         AETable BEGIN\nQRSCP {} RW (200, 1024mb) ANY\nAETable END\n",
        here.port(),
        store.display()
    );
    let file = folder.path().join("qr.cfg");
    put_file(&file, config.as_bytes());
    let mut command = Command::new(dcmqrscp);
    let _program = Program::start(command.arg("-c").arg(&file).arg(port.to_string()), port);
    let images = studies(5, 2);
    let to = format!("QRSCP@127.0.0.1:{port}");
    send_files(&here, &images, &folder.path().join("files"), &to);
    let done = here.kura_json(&["pull", "--from", &to, "StudyDate=20200101-20200103"]);
    assert_eq!(count(&done, "studies_complete"), 3, "{done}");
    // It sends another transfer syntax than it got.
    assert_found(&here, &of(&images, 0..3));
    let done = here.kura_json(&["pull", "--from", &to, "--all", "--get"]);
    assert_eq!(count(&done, "studies_complete"), 5, "{done}");
    assert_eq!(count(&done, "studies_here_before"), 3, "{done}");
    assert_found(&here, &images);
}

/// Method: Orthanc ends its answers after 25 studies without a word; all 60 come.
#[test]
fn an_archive_that_ends_its_answers_silently_is_found_out() {
    let Some(orthanc) = receivers::orthanc() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let here = Server::start();
    let port = free_port();
    let more = serde_json::json!({
        "LimitFindResults": 25,
        "DicomModalities": { "kura": ["KURA", "127.0.0.1", here.port()] },
    });
    let _program = receivers::start_orthanc(&orthanc, folder.path(), port, more);
    let images = studies(60, 1);
    let to = format!("ORTHANC@127.0.0.1:{port}");
    send_files(&here, &images, &folder.path().join("files"), &to);
    let done = here.kura_json(&["pull", "--from", &to, "--all"]);
    assert_eq!(count(&done, "studies_total"), 60, "{done}");
    assert_eq!(count(&done, "studies_complete"), 60, "{done}");
    assert_found(&here, &images);
}
