//! Sets of archive-wide numbers. Those of one study mostly follow each other, so runs are kept, not numbers.

use serde::{Deserialize, Serialize};

/// Sorted runs, first and last number, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// False: it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        if self.0.get(at).is_some_and(|(first, _)| *first <= number) {
            return false;
        }
        let after = at > 0 && self.0[at - 1].1 + 1 == number;
        let before = self
            .0
            .get(at)
            .is_some_and(|(first, _)| number.checked_add(1) == Some(*first));
        match (after, before) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = number,
            (false, true) => self.0[at].0 = number,
            (false, false) => self.0.insert(at, (number, number)),
        }
        true
    }

    pub fn remove(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, last)| *last < number);
        let Some(&(first, last)) = self.0.get(at).filter(|(first, _)| *first <= number) else {
            return;
        };
        let mut left = Vec::new();
        if first < number {
            left.push((first, number - 1));
        }
        if number < last {
            left.push((number + 1, last));
        }
        self.0.splice(at..=at, left);
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// What is here and in none of the others.
    pub fn without(&self, others: &[&Ranges]) -> Ranges {
        let mut left = Ranges::default();
        for number in self.iter() {
            if !others.iter().any(|other| other.contains(number)) {
                // Ascending: at the end each time.
                left.insert(number);
            }
        }
        left
    }
}

/// Written as distances, which are small: a byte or two each.
impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Vec<(u64, u64)> {
        let mut reached = 0;
        let distances = ranges.0.into_iter().map(|(first, last)| {
            let distance = first - reached;
            reached = last;
            (distance, last - first)
        });
        distances.collect()
    }
}

impl From<Vec<(u64, u64)>> for Ranges {
    fn from(distances: Vec<(u64, u64)>) -> Ranges {
        let mut ranges = Vec::with_capacity(distances.len());
        let mut reached = 0_u64;
        for (distance, length) in distances {
            let first = reached.saturating_add(distance);
            reached = first.saturating_add(length);
            ranges.push((first, reached));
        }
        Ranges(ranges)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Method: the same numbers go into and out of a plain set.
    #[test]
    fn numbers_put_in_and_taken_out_in_any_order_are_those_of_a_plain_set() {
        let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
        let mut random = 7_u64;
        for _ in 0..5_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let number = (random >> 33) % 300;
            if (random >> 60).is_multiple_of(3) {
                ranges.remove(number);
                plain.remove(&number);
            } else {
                assert_eq!(ranges.insert(number), plain.insert(number));
            }
            assert_eq!(ranges.contains(number), plain.contains(&number));
        }
        assert!(ranges.iter().eq(plain.iter().copied()));
        assert_eq!(ranges.count(), plain.len() as u64);
        let bytes = postcard::to_allocvec(&ranges).unwrap();
        assert_eq!(postcard::from_bytes::<Ranges>(&bytes).unwrap(), ranges);
    }

    #[test]
    fn five_thousand_images_in_a_row_take_a_few_bytes() {
        let mut ranges = Ranges::default();
        (1_000_000..1_005_000).for_each(|number| assert!(ranges.insert(number)));
        assert!(postcard::to_allocvec(&ranges).unwrap().len() < 10);
        let mut odd = Ranges::default();
        assert!((0..5_000).all(|number| odd.insert(number * 2)));
        assert_eq!(ranges.without(&[&ranges]), Ranges::default());
    }
}
