//! Changes inputs by lot, for where there is no fuzzer: it does not see which changes lead anywhere new, but needs
//! nothing that the tests do not have.

use std::time::{Duration, Instant};

/// Xorshift* (Vigna 2016).
pub struct Lot(u64);

impl Lot {
    pub fn new(seed: u64) -> Lot {
        Lot(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below that number; 0 for 0.
    fn below(&mut self, number: usize) -> usize {
        match number {
            0 => 0,
            _ => (self.next() >> 16) as usize % number,
        }
    }
}

/// Numbers at which lengths and counts go wrong.
const EDGES: [u32; 12] = [
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
];

fn changed(from: &[u8], other: &[u8], lot: &mut Lot) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..1 + lot.below(6) {
        // Most of what decides stands in front.
        let within = match lot.below(3) {
            0 => bytes.len(),
            1 => bytes.len().min(512),
            _ => bytes.len().min(64),
        };
        let at = lot.below(within);
        let count = 1 + lot.below(16);
        match lot.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << lot.below(8),
            2 if at < bytes.len() => bytes[at] = lot.next() as u8,
            3 | 4 => {
                let edge = EDGES[lot.below(EDGES.len())];
                let number = match lot.below(2) {
                    0 => edge.to_le_bytes(),
                    _ => edge.to_be_bytes(),
                };
                let size = [1, 2, 4][lot.below(3)];
                let number = match lot.below(2) {
                    0 => &number[..size],
                    _ => &number[4 - size..],
                };
                let end = (at + size).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            5 => {
                let end = (at + count * count).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let end = (at + count * count).min(bytes.len());
                let again = bytes[at..end].to_vec();
                let to = lot.below(bytes.len() + 1);
                bytes.splice(to..to, again);
            }
            _ => {
                let from = lot.below(other.len());
                let end = (from + count * count).min(other.len());
                let to = at.min(bytes.len());
                bytes.splice(to..to, other[from..end].iter().copied());
            }
        }
    }
    bytes.truncate(64 << 10);
    bytes
}

/// Changes the seeds until the time or so many inputs are over; `run` gets each. Returns how many there were.
pub fn run(
    seeds: &[Vec<u8>],
    lot: &mut Lot,
    time: Duration,
    most: u64,
    run: &mut dyn FnMut(&[u8]),
) -> u64 {
    let begun = Instant::now();
    let mut count = 0;
    while count < most && begun.elapsed() < time && !seeds.is_empty() {
        let one = &seeds[lot.below(seeds.len())];
        let other = &seeds[lot.below(seeds.len())];
        run(&changed(one, other, lot));
        count += 1;
    }
    count
}
