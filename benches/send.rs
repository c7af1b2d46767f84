//! How fast images go out, to a receiver that throws them away.
//!
//! **The number it defends**: with one association and answers at once, C-MOVE and forwarding carry at least as many images
//! per second as DCMTK's `storescu` in the same run, at a fraction of its CPU time; with answers that come 40 ms late,
//! associations beside each other carry each their own. Nothing here fails because of a time; `benches/README.md` says how
//! to read it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;

#[path = "../tests/common/mod.rs"]
mod common;

use common::build::{self, CT_IMAGE_STORAGE, by_uids};
use common::forwarding::{does, list};
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_MOVE};
use common::{Server, Settings, Sink, tools};
use kura::forward::{ForwardVerb, State};

/// Pixel data of an image, bytes: 512 × 512 of 16 bits.
const PIXEL_BYTES: usize = 512 * 1024;

/// Unit of the times in `/proc/PID/stat`, per second: USER_HZ, 100 wherever Linux runs today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What takes longer is a fault.
const PATIENCE: Duration = Duration::from_secs(600);

/// Images per second to a receiver that throws them away.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench send --")]
struct Arguments {
    /// Images in all
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    images: u32,
    /// Milliseconds that each answer comes late
    #[arg(long, value_delimiter = ',', default_values_t = [0, 40])]
    late: Vec<u64>,
    /// Associations at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4], value_parser = clap::value_parser!(u32).range(1..=4))]
    associations: Vec<u32>,
    /// One JSON object per row on stdout, no table
    #[arg(long)]
    json: bool,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Studies that the images are in: as many as are sent at a time, at most.
const STUDIES: u32 = 4;

fn study(number: u32) -> String {
    format!("2.25.90.{number}")
}

fn main() {
    let arguments = Arguments::parse();
    let sink = Sink::start();
    let mut settings = Settings::default().peer("SINK", sink.port());
    for associations in &arguments.associations {
        // One receiver under a name for each number of associations.
        settings.extra += &format!(
            "[[peer]]\nae_title = \"{}\"\nhost = \"127.0.0.1\"\nport = {}\nassociations = {associations}\n",
            forwarded_to(*associations),
            sink.port()
        );
    }
    let server = Server::with(settings);
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let in_study = arguments.images / STUDIES;
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[EXPLICIT_LITTLE])]);
    for number in 0..in_study * STUDIES {
        let study = study(number % STUDIES);
        let sop = format!("2.25.92.{number}");
        let series = format!("{study}.1");
        let image = build::synthetic_ct(&study, &series, &sop, number, PIXEL_BYTES, true);
        let stored = client.c_store(1, CT_IMAGE_STORAGE, &sop, &image);
        assert_eq!(stored.expect("C-STORE").0, 0);
    }
    server.wait_until_indexed();
    if !arguments.json {
        println!(
            "{:<10} {:>12} {:>8} {:>10} {:>11} {:>11}",
            "WAY", "ASSOCIATIONS", "LATE MS", "IMAGES/S", "USER S/1000", "SYS S/1000"
        );
    }
    let row = |way: &str, associations: u32, late: u64, images: u32, seconds: f64, cpu: Cpu| {
        let rate = f64::from(images) / seconds;
        let of_1000 = |seconds: f64| seconds / f64::from(images) * 1000.0;
        let (user, system) = (of_1000(cpu.user), of_1000(cpu.system));
        match arguments.json {
            true => println!(
                "{{\"version\":1,\"way\":\"{way}\",\"associations\":{associations},\"late_ms\":{late},\
                 \"images_per_second\":{rate:.1},\"user_seconds_per_1000\":{user:.3},\
                 \"system_seconds_per_1000\":{system:.3}}}"
            ),
            false => println!(
                "{way:<10} {associations:>12} {late:>8} {rate:>10.0} {user:>11.3} {system:>11.3}"
            ),
        }
    };
    for &late in &arguments.late {
        sink.discard(Duration::from_millis(late));
        for &associations in &arguments.associations {
            let (begun, before) = (Instant::now(), process_cpu(server.pid()));
            std::thread::scope(|scope| {
                for worker in 0..associations {
                    let server = &server;
                    scope.spawn(move || {
                        let mut mover =
                            server.associate(&[(1, STUDY_ROOT_MOVE, &[IMPLICIT_LITTLE])]);
                        for number in (worker..STUDIES).step_by(associations as usize) {
                            let identifier = by_uids("STUDY", &study(number), None, None);
                            let moved = mover.c_move(1, "SINK", &identifier).expect("C-MOVE");
                            assert_eq!(moved.status, 0, "{moved:?}");
                        }
                    });
                }
            });
            let cpu = process_cpu(server.pid()).since(before);
            let seconds = begun.elapsed().as_secs_f64();
            let images = in_study * STUDIES;
            row("c-move", associations, late, images, seconds, cpu);
            let (begun, before) = (Instant::now(), process_cpu(server.pid()));
            let seconds = forwarded(&server, &sink, associations, images, begun);
            let cpu = process_cpu(server.pid()).since(before);
            row("forwarding", associations, late, images, seconds, cpu);
        }
        if let Some(storescu) = tools::tool("storescu") {
            let count = (in_study * STUDIES).min(200);
            let (seconds, cpu) = storescu_sends(&storescu, folder.path(), sink.port(), count);
            row("storescu", 1, late, count, seconds, cpu);
        }
    }
}

fn forwarded_to(associations: u32) -> String {
    format!("SINK{associations}")
}

/// All studies by hand through the outbox; seconds until the last image was taken. Returns when the outbox says so, too.
fn forwarded(server: &Server, sink: &Sink, associations: u32, images: u32, begun: Instant) -> f64 {
    let (peer, before) = (forwarded_to(associations), sink.discarded());
    let studies = (0..STUDIES).map(study).collect();
    let send = ForwardVerb::Send {
        studies,
        peer: peer.clone(),
    };
    does(server, send);
    while sink.discarded() < before + u64::from(images) {
        assert!(begun.elapsed() < PATIENCE, "not all is forwarded");
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let is_sent = |server: &Server| {
        let (items, _) = list(server);
        let mut to_it = items.iter().filter(|item| item.peer == peer);
        to_it.all(|item| item.state == State::Sent)
    };
    while !is_sent(server) {
        assert!(begun.elapsed() < PATIENCE, "not all is said to be sent");
        std::thread::sleep(Duration::from_millis(20));
    }
    seconds
}

/// Seconds, and CPU seconds with those of the process's start.
fn storescu_sends(storescu: &Path, folder: &Path, port: u16, count: u32) -> (f64, Cpu) {
    let file = folder.join("image.dcm");
    let image = build::synthetic_ct("2.25.95", "2.25.96", "2.25.97", 1, PIXEL_BYTES, true);
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM\x02\0\0\0UL\x04\0");
    let mut meta = Vec::new();
    for (element, uid) in [
        (2u8, CT_IMAGE_STORAGE),
        (3, "2.25.97"),
        (0x10, EXPLICIT_LITTLE),
    ] {
        let mut value = uid.as_bytes().to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        meta.extend([2, 0, element, 0, b'U', b'I', value.len() as u8, 0]);
        meta.extend(value);
    }
    bytes.extend((meta.len() as u32).to_le_bytes());
    bytes.extend(meta);
    bytes.extend(image);
    std::fs::write(&file, bytes).expect("write an image");
    let (begun, before) = (Instant::now(), children_cpu());
    let status = Command::new(storescu)
        .env("TCP_NODELAY", "1")
        .args([
            "--repeat",
            &count.to_string(),
            "127.0.0.1",
            &port.to_string(),
        ])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("storescu");
    assert!(status.success(), "{status}");
    let seconds = begun.elapsed().as_secs_f64();
    (seconds, children_cpu().since(before))
}

/// Seconds.
#[derive(Clone, Copy)]
struct Cpu {
    user: f64,
    system: f64,
}

impl Cpu {
    fn since(self, before: Cpu) -> Cpu {
        Cpu {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }
}

/// Columns 14 and 15.
fn process_cpu(pid: u32) -> Cpu {
    cpu(&format!("/proc/{pid}/stat"), 11)
}

/// Those of children that have ended, columns 16 and 17.
fn children_cpu() -> Cpu {
    cpu("/proc/self/stat", 13)
}

fn cpu(path: &str, column: usize) -> Cpu {
    let stat = std::fs::read_to_string(path).expect("/proc");
    let rest = stat.rsplit(") ").next().expect("a stat line");
    let mut ticks = rest.split(' ').skip(column);
    let mut seconds = || {
        let text = ticks.next().unwrap_or_default();
        text.parse::<f64>().unwrap_or(0.0) / TICKS_PER_SECOND
    };
    Cpu {
        user: seconds(),
        system: seconds(),
    }
}
