//! What a server holds: threads, open files, memory, names in `incoming/`. Taken before the harm and looked at after it.

use std::time::{Duration, Instant};

use super::build::by_uids;
use super::images::{ALL, ECHO, FIND, GET, Image, incoming};
use super::{Client, Server, WireError};

/// What has been given back by then was given back.
const LIMIT: Duration = Duration::from_secs(90);

/// A line of `/proc/<pid>/status`, in bytes.
pub fn memory(server: &Server, field: &str) -> u64 {
    let path = format!("/proc/{}/status", server.pid());
    let text = std::fs::read_to_string(path).expect("/proc");
    let line = text
        .lines()
        .find(|line| line.starts_with(field))
        .expect("a line of /proc/<pid>/status");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number of kB");
    kib * 1024
}

fn count(server: &Server, folder: &str) -> usize {
    let path = format!("/proc/{}/{folder}", server.pid());
    std::fs::read_dir(path).expect("/proc").count()
}

pub fn threads(server: &Server) -> usize {
    count(server, "task")
}

pub fn files(server: &Server) -> usize {
    count(server, "fd")
}

/// Files beside those of one association: what the archive itself opens and closes.
const FILES_MORE: usize = 4;
/// Threads that come and go by themselves: looking at volumes, carrying over.
const THREADS_MORE: usize = 3;

/// What the server held when nobody was connected and everything had been done once.
pub struct Before {
    threads: usize,
    files: usize,
    memory: u64,
}

impl Before {
    pub fn of(server: &Server) -> Before {
        for number in 0..3 {
            assert_others_are_served(server, 900_000 + number);
        }
        std::thread::sleep(Duration::from_millis(300));
        Before {
            threads: threads(server),
            files: files(server),
            memory: memory(server, "VmRSS:"),
        }
    }

    /// No association, file or name in `incoming/` is left over.
    pub fn assert_nothing_left(&self, server: &Server, after: &str) {
        let start = Instant::now();
        loop {
            let held = (threads(server), files(server));
            let names = incoming(&server.volume("A"));
            let most = (self.threads + THREADS_MORE, self.files + FILES_MORE);
            if held.0 <= most.0 && held.1 <= most.1 && names.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < LIMIT,
                "left over after {after}: {held:?} threads and files where {most:?} are usual, in incoming/ {names:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Says how much it grew, in bytes.
    pub fn grown(&self, server: &Server) -> u64 {
        memory(server, "VmRSS:").saturating_sub(self.memory)
    }
}

/// An association as soon as there is a place: one that has just ended may still be counted.
pub fn associate_soon(server: &Server) -> Client {
    let start = Instant::now();
    loop {
        match server.try_associate(ALL) {
            Ok(client) => return client,
            Err(WireError::Rejected { .. } | WireError::Io(_)) if start.elapsed() < LIMIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}\n{}", server.log_text()),
        }
    }
}

/// Echo, store, find and fetch by somebody who does nothing wrong.
pub fn assert_others_are_served(server: &Server, number: u32) {
    let image = Image::new(1_000_000 + number, number, 5_000);
    let mut client = associate_soon(server);
    assert_eq!(client.c_echo(ECHO).expect("C-ECHO"), 0);
    assert_eq!(image.send(&mut client).expect("C-STORE").0, 0);
    let identifier = by_uids("IMAGE", &image.study, None, Some(&image.sop));
    let found = client.c_find(FIND, &identifier).expect("C-FIND");
    assert_eq!((found.status, found.identifiers.len()), (0, 1));
    let got = client.c_get(GET, &by_uids("STUDY", &image.study, None, None));
    let got = got.expect("C-GET");
    assert_eq!((got.moved.status, got.received.len()), (0, 1));
    assert!(got.received[0].data_set == image.data_set);
    client.release().expect("release");
}

/// Tests of many connections hold both ends. False, with a word, where so many files are not allowed.
pub fn may_open(files: u64) -> bool {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let is_enough = getrlimit(Resource::Nofile)
        .current
        .is_none_or(|current| current >= files);
    if !is_enough {
        eprintln!("skipped: fewer than {files} open files are allowed here");
    }
    is_enough
}
