use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::archive::Mode;
use crate::config::Config;
use crate::volume::io::{Disk, Observer, Op};

fn ms(time: f64) -> Duration {
    Duration::from_secs_f64(time / 1_000.0)
}

/// A volume that was measured, with room for a journal on it.
fn flush(time: f64) -> Facts {
    Facts {
        mode: IntakeMode::Auto,
        flush: Ok(ms(time)),
        journal_flush: None,
        has_journal: false,
        no_room: None,
        retired: false,
    }
}

fn said(facts: &Facts) -> String {
    let way_in = decide(facts);
    format!("{:?}: {}", way_in.way, way_in.reason).to_lowercase()
}

#[test]
fn a_slow_flush_goes_through_a_journal() {
    let there = |time| Facts {
        has_journal: true,
        ..flush(time)
    };
    let elsewhere = |time, journal: Result<f64, &str>| Facts {
        journal_flush: Some(journal.map(ms).map_err(str::to_owned)),
        ..flush(time)
    };
    let full = Facts {
        no_room: Some("the disk is full".to_owned()),
        ..flush(11.2)
    };
    let unknown = Facts {
        flush: Err("no room".to_owned()),
        ..flush(0.0)
    };
    let retired = Facts {
        retired: true,
        ..flush(11.2)
    };
    let mode = |mode| Facts {
        mode,
        ..flush(11.2)
    };
    for (facts, expected) in [
        (flush(0.04), "direct: a flush takes 0.04 ms"),
        (flush(0.3), "direct: a flush takes 0.30 ms"),
        (flush(11.2), "journal: a flush takes 11.2 ms"),
        // Not made and removed in turn.
        (flush(0.25), "direct: a flush takes 0.25 ms"),
        (there(0.25), "journal: a flush takes 0.25 ms"),
        (there(0.19), "direct: a flush takes 0.19 ms"),
        (elsewhere(11.2, Ok(0.1)), "journal: a flush takes 11.2 ms"),
        (elsewhere(11.2, Ok(12.0)), "journal: a flush takes 11.2 ms"),
        (
            elsewhere(11.2, Ok(40.0)),
            "direct: a flush takes 11.2 ms, one of the journal's disk 40.0 ms",
        ),
        (
            elsewhere(11.2, Err("it is read-only")),
            "direct: a flush takes 11.2 ms, but there is no journal: it is read-only",
        ),
        (
            full.clone(),
            "direct: a flush takes 11.2 ms, but there is no journal: the disk is full",
        ),
        (
            Facts {
                mode: IntakeMode::Journal,
                ..full
            },
            "direct: configured, but there is no journal: the disk is full",
        ),
        (
            unknown.clone(),
            "direct: how long a flush takes is not known (no room)",
        ),
        (
            Facts {
                has_journal: true,
                ..unknown
            },
            "journal: how long a flush takes is not known (no room)",
        ),
        (retired, "direct: it is retired"),
        (mode(IntakeMode::Direct), "direct: configured"),
        (mode(IntakeMode::Journal), "journal: configured"),
    ] {
        assert_eq!(said(&facts), expected, "{facts:?}");
    }
    let way_in = decide(&elsewhere(11.2, Ok(0.1)));
    assert_eq!(way_in.flush_us, Some(11_200));
    assert_eq!(way_in.journal_flush_us, Some(100));
}

#[test]
fn a_journal_takes_a_sixteenth_of_its_disk_and_nothing_of_the_reserve() {
    let space = |total_bytes, free_bytes| Space {
        free_bytes,
        total_bytes,
    };
    let size = |space, reserve| size_on_volume(512 << 20, space, reserve);
    assert_eq!(size(space(1 << 40, 1 << 30), 0), Ok(512 << 20));
    assert_eq!(size(space(1 << 30, 1 << 30), 0), Ok(64 << 20));
    assert!(size(space(1 << 30, 64 << 20), 1).is_err());
    assert!(size(space(1 << 23, 1 << 23), 0).is_err());
}

/// A disk whose flushes take so long, if they are to.
#[derive(Default)]
struct Slow(AtomicBool);

impl Observer for Slow {
    fn before(&self, op: &Op) -> std::io::Result<()> {
        if self.0.load(Ordering::Relaxed) && matches!(op, Op::SyncFile(_)) {
            std::thread::sleep(Duration::from_millis(8));
        }
        Ok(())
    }
}

/// Method: nothing configured but the size; the volume in memory, once with each flush held up. What its status says, and
/// the files that are there.
#[test]
fn a_disk_that_is_slow_gets_a_journal_and_one_that_is_not_loses_it() {
    let place = match tempfile::tempdir_in("/dev/shm") {
        Ok(place) => place,
        Err(error) => {
            eprintln!("skipped: no folder in memory here ({error})");
            return;
        }
    };
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("a")).unwrap();
    let text = format!(
        "state = {:?}\n[intake]\nsize_bytes = 1048576\n\
         [[volume]]\nname = \"A\"\npath = {:?}\nrole = \"archive\"\n",
        at("state"),
        at("a"),
    );
    std::fs::write(at("kura.toml"), text).unwrap();
    let config = Config::load(Some(&at("kura.toml"))).unwrap();
    let slow = Arc::new(Slow::default());
    let open = |is_slow: bool| {
        slow.0.store(is_slow, Ordering::Relaxed);
        let disk = Disk::observed(slow.clone());
        let archive = Archive::open_on(&config, Mode::Create, &disk).unwrap();
        let status = archive.status().volumes.remove(0);
        let way_in = status.intake.unwrap();
        let flush = Duration::from_micros(way_in.flush_us.unwrap());
        (way_in.way, flush, status.intake_journal.is_some())
    };
    let file = at("a").join("intake").join(FILE);
    let (way, flush, has_journal) = open(true);
    assert_eq!((way, has_journal), (Way::Journal, true));
    assert!(flush >= Duration::from_millis(8), "{flush:?}");
    assert!(file.exists());
    let (way, flush, has_journal) = open(false);
    assert!(flush <= NOT_SLOW_FLUSH, "a disk in memory needs {flush:?}");
    assert_eq!((way, has_journal), (Way::Direct, false));
    assert!(!at("a").join("intake").exists());
}
