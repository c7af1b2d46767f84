//! Remembers in which series copies came, went or turned out bad since somebody asked.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More than these are not told one by one; some 20 MB.
const SERIES_MAX: usize = 100_000;

/// Where copies came, went or turned out bad.
///
/// A hint for who looks for what needs a second copy: it may name more than that, and it is lost with the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Perhaps every series.
    All,
    /// Study and series, by where the instances are answered from.
    Some(BTreeSet<(String, String)>),
}

pub struct TouchedSeries {
    noted: Mutex<Touched>,
}

impl TouchedSeries {
    /// Begins with `All`: what happened before the process began is not known.
    pub fn new() -> TouchedSeries {
        TouchedSeries {
            noted: Mutex::new(Touched::All),
        }
    }

    /// To be called after what changed there can be seen: whoever takes it and looks then misses nothing.
    pub fn add(&self, series: Vec<(String, String)>) {
        let mut noted = self.lock();
        if let Touched::Some(some) = &mut *noted {
            some.extend(series);
            if some.len() > SERIES_MAX {
                *noted = Touched::All;
            }
        }
    }

    pub fn add_all(&self) {
        *self.lock() = Touched::All;
    }

    pub fn take(&self) -> Touched {
        std::mem::replace(&mut *self.lock(), Touched::Some(BTreeSet::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Touched> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(numbers: std::ops::Range<usize>) -> Vec<(String, String)> {
        numbers
            .map(|number| ("1.1".to_owned(), format!("1.1.{number}")))
            .collect()
    }

    #[test]
    fn what_was_noted_is_told_once_and_more_than_the_bound_as_all() {
        let touched = TouchedSeries::new();
        touched.add(series(0..1));
        assert_eq!(touched.take(), Touched::All);
        assert_eq!(touched.take(), Touched::Some(BTreeSet::new()));
        touched.add(series(0..SERIES_MAX));
        touched.add(series(0..1));
        let all = series(0..SERIES_MAX).into_iter().collect();
        assert_eq!(touched.take(), Touched::Some(all));
        touched.add(series(0..SERIES_MAX + 1));
        touched.add(series(0..1));
        assert_eq!(touched.take(), Touched::All);
    }
}
