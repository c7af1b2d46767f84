//! What is told when: a change that lasts, not too often, and once a day.

use jiff::civil::{Date, Time};
use serde::{Deserialize, Serialize};

use crate::config::Notices;

/// What was told, and what settles. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Due {
    /// The state that was told last; empty: none yet.
    pub told: String,
    /// When changes were told, within the last hour.
    told_at: Vec<i64>,
    /// The last day with a summary, `YYYY-MM-DD`; empty: none yet.
    summed_up: String,
    /// Another state, and since when it is.
    #[serde(skip)]
    settling: Option<(String, i64)>,
}

const HOUR: i64 = 3_600;

impl Due {
    /// The state that was told before, when another is to be told now.
    pub fn change(&mut self, state: &str, config: &Notices, now: i64) -> Option<String> {
        // Before anything was told all was well.
        let told = match self.told.as_str() {
            "" => "ok",
            told => told,
        };
        if state == told {
            self.settling = None;
            return None;
        }
        let since = match &self.settling {
            // A clock that was set back must not keep it from being told.
            Some((settling, since)) if settling == state && *since <= now => *since,
            _ => now,
        };
        self.settling = Some((state.to_owned(), since));
        let settle = i64::try_from(config.settle_seconds).unwrap_or(i64::MAX);
        if now - since < settle {
            return None;
        }
        self.told_at.retain(|at| (now - HOUR..=now).contains(at));
        if self.told_at.len() >= config.per_hour {
            return None;
        }
        self.told_at.push(now);
        self.settling = None;
        let was = told.to_owned();
        self.told = state.to_owned();
        Some(was)
    }

    pub fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Whether the summary of today is due. The first is the one of the first morning after it was asked for.
    pub fn daily(&mut self, config: &Notices, today: Date, time: Time) -> bool {
        let Some(at) = config.daily_at() else {
            self.summed_up.clear();
            return false;
        };
        let is_first = self.summed_up.is_empty();
        if time >= at {
            let last = std::mem::replace(&mut self.summed_up, today.to_string());
            return !is_first && last != self.summed_up;
        }
        if is_first && let Ok(yesterday) = today.yesterday() {
            self.summed_up = yesterday.to_string();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Notices {
        Notices {
            settle_seconds: 60,
            per_hour: 2,
            daily: Some("07:30".to_owned()),
            ..Notices::default()
        }
    }

    #[test]
    fn what_does_not_last_is_not_told() {
        let (config, mut due) = (config(), Due::default());
        assert_eq!(due.change("ok", &config, 0), None);
        assert_eq!(due.change("degraded", &config, 10), None);
        assert_eq!(due.change("ok", &config, 40), None);
        assert_eq!(due.change("degraded", &config, 50), None);
        assert_eq!(due.change("degraded", &config, 109), None);
        assert!(due.is_settling());
        assert_eq!(due.change("degraded", &config, 110).as_deref(), Some("ok"));
        assert_eq!(due.change("degraded", &config, 999), None);
    }

    #[test]
    fn no_more_than_so_many_an_hour_and_then_what_is_true() {
        let (config, mut due) = (config(), Due::default());
        let mut tell = |state: &str, at: i64| {
            due.change(state, &config, at);
            due.change(state, &config, at + 60)
        };
        assert!(tell("degraded", 0).is_some());
        assert!(tell("ok", 100).is_some());
        assert_eq!(tell("degraded", 200), None);
        assert_eq!(tell("lost", 300), None);
        assert_eq!(tell("lost", 3_650).as_deref(), Some("ok"));
    }

    #[test]
    fn a_summary_a_day_also_when_the_hour_was_missed() {
        let (config, mut due) = (config(), Due::default());
        let day: Date = "2026-11-22".parse().unwrap();
        let next = day.tomorrow().unwrap();
        let at = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        // Asked for at noon: tomorrow is the first.
        assert!(!due.daily(&config, day, at(12, 0)));
        assert!(!due.daily(&config, next, at(7, 29)));
        assert!(due.daily(&config, next, at(9, 0)));
        assert!(!due.daily(&config, next, at(9, 1)));
        // Asked for before the hour: today is.
        let mut due = Due::default();
        assert!(!due.daily(&config, day, at(6, 0)));
        assert!(due.daily(&config, day, at(7, 30)));
    }
}
