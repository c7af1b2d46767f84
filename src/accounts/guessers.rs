//! Addresses that guess passwords, at the page or on the DICOM port. All of it is in memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that are remembered.
const GUESSERS_MAX: usize = 1_000;
/// Wrong passwords in a row that cost nothing: people mistype.
const FREE_TRIES: u32 = 3;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// After this long an address begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(3_600);

struct Guesser {
    wrong_count: u32,
    last: Instant,
}

impl Guesser {
    fn wait(&self) -> Duration {
        let over = self.wrong_count.saturating_sub(FREE_TRIES);
        match over {
            0 => Duration::ZERO,
            1..=6 => Duration::from_secs(1 << over).min(WAIT_MAX),
            _ => WAIT_MAX,
        }
    }
}

/// Addresses with wrong passwords: each has to wait longer.
#[derive(Default)]
pub struct Guessers {
    known: HashMap<IpAddr, Guesser>,
}

impl Guessers {
    /// Until it may try again.
    pub fn wait(&self, address: IpAddr) -> Duration {
        let known = self.known.get(&network(address));
        known.map_or(Duration::ZERO, |guesser| {
            guesser.wait().saturating_sub(guesser.last.elapsed())
        })
    }

    pub fn wrong(&mut self, address: IpAddr) {
        let address = network(address);
        self.known
            .retain(|_, guesser| guesser.last.elapsed() < FORGIVEN_AFTER);
        if self.known.len() >= GUESSERS_MAX && !self.known.contains_key(&address) {
            // Who guessed least is let go: a flood of new addresses does not free those that guess in earnest.
            let least = self.known.iter().min_by_key(|(_, g)| g.wrong_count);
            if let Some(least) = least.map(|(address, _)| *address) {
                self.known.remove(&least);
            }
        }
        let guesser = self.known.entry(address).or_insert(Guesser {
            wrong_count: 0,
            last: Instant::now(),
        });
        guesser.wrong_count = guesser.wrong_count.saturating_add(1);
        guesser.last = Instant::now();
    }

    pub fn right(&mut self, address: IpAddr) {
        self.known.remove(&network(address));
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => {
            IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes())
        }
        address => address.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_longer_and_longer_and_nobody_else_does() {
        let mut guessers = Guessers::default();
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut last = Duration::ZERO;
        for number in 1..=12 {
            guessers.wrong(bad);
            let wait = guessers.wait(bad);
            assert!(wait <= WAIT_MAX && (number <= FREE_TRIES) == wait.is_zero());
            assert!(wait + Duration::from_secs(1) > last);
            last = wait;
        }
        assert!(guessers.wait(good).is_zero());
        for number in 0..2 * GUESSERS_MAX as u32 {
            guessers.wrong(IpAddr::from(number.to_be_bytes()));
        }
        assert!(guessers.known.len() <= GUESSERS_MAX && !guessers.wait(bad).is_zero());
        guessers.right(bad);
        assert!(guessers.wait(bad).is_zero());
    }
}
