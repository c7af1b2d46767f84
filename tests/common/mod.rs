//! What the integration tests share: a server to drive, a DICOM peer of its
//! own, and small data sets. Nothing here but `cut` uses Kura's library, so that
//! a mistake there is not repeated here.

// Each test program uses a part of this; the rest would be reported as unused.
#![allow(dead_code, unused_imports)]

pub mod build;
pub mod commitment;
pub mod copies;
pub mod corrections;
pub mod cut;
pub mod damage;
pub mod dciodvfy;
pub mod disks;
pub mod elements;
pub mod files;
pub mod forwarding;
pub mod hospital;
pub mod http;
pub mod images;
pub mod leftovers;
pub mod lossy;
pub mod part10;
pub mod pictures;
pub mod proxy;
pub mod receivers;
pub mod server;
pub mod shelf;
pub mod sink;
pub mod syslog;
pub mod tools;
pub mod web;
pub mod wire;

pub use part10::Part10;
pub use proxy::{Cut, Proxy};
pub use receivers::Receiver;
pub use server::{Outcome, Server, Settings};
pub use sink::Sink;
pub use wire::{Client, WireError};

/// True when the long campaigns were asked for (`make test-long`).
pub fn long() -> bool {
    std::env::var_os("KURA_LONG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// A small random generator (xorshift64*), so that a run is repeated by its seed.
pub struct Random(u64);

impl Random {
    /// Takes `KURA_SEED` when set, else the clock, and prints what it took.
    pub fn from_environment(what: &str) -> Random {
        let seed = std::env::var("KURA_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| {
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(1, |since| since.as_nanos() as u64)
            });
        eprintln!("{what}: KURA_SEED={seed}");
        Random::new(seed)
    }

    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// What [`Random::new`] makes the same from.
    pub fn seed(&self) -> u64 {
        self.0
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `low..high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }
}
